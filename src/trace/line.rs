//! A line of a trace: an event of one message. Tabs part its fields; tabs, line ends and backslashes in a value are written
//! `\xHH`, and so are other controls.
//!
//! ```text
//!  1795345200123 A 0AB12CD34EF56 n=0 u=anna c=192.0.2.1:4711 f=anna@example.edu t=ben@example.org t=cleo@example.org
//!  1795345200456 D 0AB12CD34EF56 0 mail.example.org:25 250 2.0.0 Ok: queued as 1234
//!  ^ milliseconds  ^ queue id    ^ recipients by index
//!                ^ what: EVENTS
//! ```
//!
//! Addresses and users are kept in small letters, so that whoever asks need not know how they were written. The time has 13
//! digits until the year 2286, so the queue id stands at a fixed place.

use crate::smtp::envelope::View;
use crate::spool::QueueId;
use std::fmt::Write;

/// Recipients in one line.
const RECIPIENTS_MAX: usize = 100;
/// Octets of a reply that are kept.
const TEXT_BYTES_MAX: usize = 200;
/// Where the queue id stands.
pub const ID_AT: std::ops::Range<usize> = 16..29;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was accepted, 250.
    Accepted,
    /// The next server took it for these recipients.
    Delivered,
    /// Not now; it is tried again.
    Deferred,
    /// Given up; the sender is told.
    Failed,
    /// Given up; the sender must not be told.
    FailedSilently,
    /// The sender was told that it is late.
    Late,
    /// An operator holds it.
    Held,
    /// An operator lets it go.
    Released,
    /// An operator has it tried anew.
    Requeued,
    /// An operator has deleted it.
    Deleted,
    /// An operator has sent it back.
    SentBack,
}

/// The letter of each event, and its name for programs.
const EVENTS: [(What, u8, &str); 11] = [
    (What::Accepted, b'A', "accepted"),
    (What::Delivered, b'D', "delivered"),
    (What::Deferred, b'L', "deferred"),
    (What::Failed, b'F', "failed"),
    (What::FailedSilently, b'f', "failed_silently"),
    (What::Late, b'W', "late"),
    (What::Held, b'H', "held"),
    (What::Released, b'R', "released"),
    (What::Requeued, b'Q', "requeued"),
    (What::Deleted, b'X', "deleted"),
    (What::SentBack, b'B', "sent_back"),
];

impl What {
    /// For programs.
    pub fn name(self) -> &'static str {
        EVENTS.iter().find(|(what, ..)| *what == self).map_or("", |(.., name)| name)
    }

    fn letter(self) -> u8 {
        EVENTS.iter().find(|(what, ..)| *what == self).map_or(b'?', |(_, letter, _)| *letter)
    }

    fn of(letter: u8) -> Option<What> {
        EVENTS.iter().find(|(_, known, _)| *known == letter).map(|(what, ..)| *what)
    }
}

/// A line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What happened.
    pub what: What,
    /// Queue id.
    pub id: u64,
    /// Of [`What::Accepted`] only.
    pub envelope: Option<Accepted>,
    /// Recipients, by index; none of an operator's act: all of them.
    pub recipients: Vec<u32>,
    /// Who said so: the next server, a Maildir, an operator's name.
    pub who: String,
    /// What was said.
    pub text: String,
}

/// What is known of a message when it is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Index of the first of `recipients`: a message with many has several lines.
    pub first: u32,
    /// The authenticated user.
    pub user: Option<String>,
    /// The client's address and port.
    pub client: String,
    /// The reverse-path; empty for `<>`.
    pub sender: String,
    /// Forward-paths.
    pub recipients: Vec<String>,
}

/// The lines of a message that was accepted, with their ends.
pub fn accepted(id: u64, view: &View) -> String {
    let mut out = String::new();
    for (chunk, recipients) in view.recipients.chunks(RECIPIENTS_MAX).enumerate() {
        head(&mut out, view.arrival_ms, What::Accepted, id);
        let _ = write!(out, "\tn={}", chunk * RECIPIENTS_MAX);
        if let Some(user) = view.user {
            field(&mut out, "u=", user, true);
        }
        field(&mut out, "c=", view.peer, true);
        field(&mut out, "f=", view.reverse_path, true);
        recipients.iter().for_each(|recipient| field(&mut out, "t=", recipient.path, true));
        out.push('\n');
    }
    out
}

/// A line of something that happened to `recipients`, with its end. `who`, `text`: who said what.
pub fn happened(at_ms: u64, what: What, id: u64, recipients: &[u32], who: &str, text: &str) -> String {
    let mut out = String::new();
    head(&mut out, at_ms, what, id);
    out.push('\t');
    for (at, recipient) in recipients.iter().enumerate() {
        let _ = write!(out, "{}{recipient}", if at == 0 { "" } else { "," });
    }
    field(&mut out, "", who.as_bytes(), false);
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    field(&mut out, "", &text.as_bytes()[..end], false);
    out.push('\n');
    out
}

// A String takes everything that is written.
fn head(out: &mut String, at_ms: u64, what: What, id: u64) {
    let _ = write!(out, "{at_ms:013}\t{}\t{}", what.letter() as char, QueueId(id));
}

fn field(out: &mut String, name: &str, value: &[u8], small: bool) {
    out.push('\t');
    out.push_str(name);
    for character in String::from_utf8_lossy(value).chars() {
        match character {
            '\\' => out.push_str("\\x5c"),
            _ if character.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(character));
            }
            _ if small => out.push(character.to_ascii_lowercase()),
            _ => out.push(character),
        }
    }
}

/// How a value is written in a line: what is searched for.
pub fn written(value: &str) -> String {
    let mut out = String::new();
    field(&mut out, "", value.as_bytes(), true);
    out.split_off(1)
}

/// Reads a line without its end; none if it is no line, as when a crash cut it.
pub fn parse(line: &[u8]) -> Option<Line> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split('\t');
    let at_ms = fields.next()?.parse().ok()?;
    let what = What::of(*fields.next()?.as_bytes().first()?)?;
    let id: QueueId = fields.next()?.parse().ok()?;
    let mut read =
        Line { at_ms, what, id: id.0, envelope: None, recipients: Vec::new(), who: String::new(), text: String::new() };
    if what == What::Accepted {
        let mut accepted = Accepted::default();
        for field in fields {
            match field.split_at_checked(2)? {
                ("n=", value) => accepted.first = value.parse().ok()?,
                ("u=", value) => accepted.user = Some(unescaped(value)),
                ("c=", value) => accepted.client = unescaped(value),
                ("f=", value) => accepted.sender = unescaped(value),
                ("t=", value) => accepted.recipients.push(unescaped(value)),
                // A later version's.
                _ => {}
            }
        }
        read.envelope = Some(accepted);
        return Some(read);
    }
    let recipients = fields.next()?;
    let numbers: Option<Vec<u32>> =
        recipients.split(',').filter(|number| !number.is_empty()).map(|number| number.parse().ok()).collect();
    read.recipients = numbers?;
    read.who = unescaped(fields.next()?);
    read.text = unescaped(fields.next()?);
    Some(read)
}

fn unescaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, escaped)) = rest.split_once("\\x") {
        out.push_str(before);
        let code = escaped.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(code.map_or('?', char::from));
        rest = escaped.get(2..).unwrap_or_default();
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::envelope::Recipient;

    fn view<'a>(recipients: &[&'a [u8]]) -> View<'a> {
        let recipients = recipients.iter().map(|path| Recipient { path, ..Recipient::default() }).collect();
        let (user, peer) = (Some(&b"Anna"[..]), &b"192.0.2.1:4711"[..]);
        View {
            arrival_ms: 1_795_345_200_123,
            user,
            peer,
            reverse_path: b"Anna@example.edu",
            recipients,
            ..View::default()
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = accepted(7, &view(&[b"Ben@example.org", b"\"a\tb\\c\n\"@x"]));
        assert!(text.ends_with("t=ben@example.org\tt=\"a\\x09b\\x5cc\\x0a\"@x\n"), "{text}");
        let read = parse(text.trim_end().as_bytes()).expect("a line");
        let envelope = read.envelope.expect("accepted");
        assert_eq!((read.id, read.what, envelope.user.as_deref()), (7, What::Accepted, Some("anna")));
        assert_eq!(envelope.recipients, ["ben@example.org", "\"a\tb\\c\n\"@x"]);
        assert_eq!(written("\"A\tb\\c\n\"@X"), "\"a\\x09b\\x5cc\\x0a\"@x");
        for (what, ..) in EVENTS.iter().filter(|(what, ..)| *what != What::Accepted) {
            let text = happened(5, *what, 9, &[0, 12], "mx.example.org:25", "250 Ok\t\r\nnext");
            let read = parse(text.strip_suffix('\n').expect("one line").as_bytes()).expect("a line");
            assert_eq!((read.at_ms, read.what, read.id, &read.recipients[..]), (5, *what, 9, &[0, 12][..]));
            assert_eq!((&*read.who, &*read.text), ("mx.example.org:25", "250 Ok\t\r\nnext"));
        }
    }

    #[test]
    fn the_queue_id_stands_where_it_is_looked_for() {
        for text in [accepted(7, &view(&[b"a@b"])), happened(1_795_345_200_123, What::Deferred, 7, &[], "", "")] {
            assert_eq!(text[ID_AT], QueueId(7).to_string());
        }
    }

    #[test]
    fn many_recipients_are_several_lines_that_say_where_they_begin() {
        let paths: Vec<String> = (0..250).map(|number| format!("r{number}@example.org")).collect();
        let paths: Vec<&[u8]> = paths.iter().map(String::as_bytes).collect();
        let text = accepted(7, &view(&paths));
        let firsts: Vec<u32> = text
            .lines()
            .map(|line| parse(line.as_bytes()).expect("a line").envelope.expect("accepted").first)
            .collect();
        assert_eq!(firsts, [0, 100, 200]);
    }

    #[test]
    fn every_cut_is_read_or_no_line_and_long_replies_are_cut() {
        let text = accepted(7, &view(&["b\u{fc}@b".as_bytes()]))
            + &happened(5, What::Failed, 9, &[1], "mx", &"\u{fc}".repeat(500));
        for end in 0..text.len() {
            let _ = parse(&text.as_bytes()[..end]);
        }
        assert!(happened(5, What::Failed, 9, &[1], "mx", &"\u{fc}".repeat(500)).len() < 250);
    }

    /// The figure that stands in the README.
    #[test]
    fn a_message_that_is_delivered_at_once_takes_about_200_octets() {
        let reply = "250 2.0.0 Ok: queued as 4dQxyz1234567890";
        let delivered = happened(1_795_345_200_456, What::Delivered, 7, &[0], "mail.example.edu:25", reply);
        let both = accepted(7, &view(&[b"ben@example.org"])).len() + delivered.len();
        println!("{both} octets");
        assert!((150..220).contains(&both), "{both}");
    }
}
