//! The message that tells a sender what became of a message: a delivery status notification. Pure.
//!
//! ```text
//!  multipart/report; report-type=delivery-status                       RFC 6522
//!    text/plain                          for people                    first, because it is what they see
//!    message/delivery-status             for programs                  RFC 3464
//!    text/rfc822-headers | message/rfc822  what it is about            RFC 3461 section 6.2 (RET)
//! ```
//!
//! | what happened | who is told (RFC 3461 section 4.1) |
//! |---|---|
//! | it failed | NOTIFY=FAILURE, or no NOTIFY |
//! | it is late | NOTIFY=DELAY, or no NOTIFY |
//! | it went to a server that knows nothing of NOTIFY, or into the mailbox | NOTIFY=SUCCESS |
//!
//! Promises: the sender of a notification is `<>`, and none answers one (RFC 5321 section 4.5.5), so that two systems
//! cannot write to each other for ever; NOTIFY is obeyed; nothing that a peer or a sender wrote can add a field or a line
//! to the report, or turn around what stands beside it. With addresses outside ASCII the report has the form of RFC 6533.
//! A notification of a message that required TLS requires it too, and returns no text (RFC 8689 section 5).

use crate::log::is_dangerous;
use crate::message::LINE_BYTES_MAX;
use crate::message::date::push_date;
use crate::smtp::client::{Reply, enhanced_code};
use crate::smtp::envelope::{Envelope, Recipient, Tag, View};
use crate::smtp::parameter::Hold;
use crate::smtp::xtext;
use jiff::Timestamp;
use std::fmt::Write;

mod original;

/// Longest text of one reply in the report, in octets: a header line has at most 998.
const DIAGNOSTIC_BYTES_MAX: usize = 800;

/// What became of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A server refused it for good, or we did.
    Failed,
    /// Given up because its time was over.
    Expired,
    /// Not yet delivered, and tried on.
    Delayed,
    /// Handed to a server that does not offer DSN: nobody will say more of it. RFC 3461 section 5.2.2 (e).
    Relayed,
    /// Final delivery.
    Delivered,
}

impl Action {
    /// The word of RFC 3464 section 2.3.3.
    fn word(self) -> &'static str {
        match self {
            Action::Failed | Action::Expired => "failed",
            Action::Delayed => "delayed",
            Action::Relayed => "relayed",
            Action::Delivered => "delivered",
        }
    }

    /// The word of NOTIFY that asks for it, and whether it is meant without NOTIFY.
    fn notify(self) -> (&'static str, bool) {
        match self {
            Action::Failed | Action::Expired => ("FAILURE", true),
            Action::Delayed => ("DELAY", true),
            Action::Relayed | Action::Delivered => ("SUCCESS", false),
        }
    }

    /// What the notification is called.
    pub fn subject(self) -> &'static str {
        match self {
            Action::Failed | Action::Expired => "Undelivered Mail Returned to Sender",
            Action::Delayed => "Delayed Mail (still being retried)",
            Action::Relayed | Action::Delivered => "Successful Mail Delivery Report",
        }
    }

    fn for_people(self) -> &'static str {
        match self {
            Action::Failed | Action::Expired => {
                "Your message could not be delivered to the recipients below. It is not\r\n\
                 kept here any longer. If you write to your postmaster about it, please\r\n\
                 include this report.\r\n"
            }
            Action::Delayed => {
                "Your message could not yet be delivered to the recipients below. You need\r\n\
                 not send it again: it is kept here and tried again from time to time. You\r\n\
                 will be told if that does not help.\r\n"
            }
            Action::Relayed => {
                "Your message was handed to the next mail server for the recipients below.\r\n\
                 That server sends no reports of success: you may hear no more of it.\r\n"
            }
            Action::Delivered => "Your message was delivered to the recipients below.\r\n",
        }
    }
}

/// What became of one recipient, and who said so.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Index in the envelope.
    pub recipient: u32,
    /// What.
    pub action: Action,
    /// The next server's reply, or our own reason.
    pub reply: Reply,
    /// The server that said so; none if it was we.
    pub remote: Option<String>,
}

/// What the report says about us and about the message.
#[derive(Clone, Debug)]
pub struct Notice<'a> {
    /// Our name.
    pub hostname: &'a str,
    /// Queue id of the bounce itself.
    pub id: &'a str,
    /// Queue id of the message it is about.
    pub about: &'a str,
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// The header of the message as it would have been sent, or all of it if `whole`.
    pub original: &'a [u8],
    /// `original` is the whole message.
    pub whole: bool,
    /// When we give up, if not yet. Milliseconds since the Unix epoch.
    pub retry_until_ms: Option<u64>,
}

/// Is the sender to be told that `action` was taken for this recipient?
pub fn is_wanted(view: &View, recipient: u32, action: Action) -> bool {
    let Some(to) = view.recipients.get(recipient as usize) else { return false };
    !view.reverse_path.is_empty() && asks_for(to, action)
}

/// Those of `verdicts` that the sender is to be told of: none for the null reverse-path, and none where NOTIFY says so.
pub fn reported<'a>(view: &View, verdicts: &'a [Verdict]) -> Vec<&'a Verdict> {
    verdicts.iter().filter(|verdict| is_wanted(view, verdict.recipient, verdict.action)).collect()
}

/// May the text of the message be returned, if its sender asks for it?
pub fn may_return_text(view: &View) -> bool {
    // What is not made of lines, or of lines too long to be sent, cannot stand in a report.
    !view.require_tls && view.body != 2 && view.long_line != Some(true)
}

/// The notification: its envelope and content. `verdicts` are from [`reported`], not empty, and of one kind of action.
pub fn notification(view: &View, verdicts: &[&Verdict], notice: &Notice) -> (Envelope, Vec<u8>) {
    let addresses_ascii = view.reverse_path.is_ascii() && view.recipients.iter().all(|to| to.path.is_ascii());
    let form = Form { view, verdicts, notice, global: !addresses_ascii, boundary: boundary(notice) };
    let content = form.content();
    let mut envelope = Envelope::default();
    envelope.push(Tag::Arrival, &notice.now_ms.to_le_bytes());
    envelope.push(Tag::ReversePath, b"");
    let eight_bit = u8::from(!content.is_ascii());
    envelope.push(Tag::Body, &[eight_bit]);
    envelope.push(Tag::EightBit, &[eight_bit]);
    envelope.push(Tag::LongLine, &[u8::from(has_long_line(&content))]);
    if form.global {
        envelope.push(Tag::SmtpUtf8, b"");
    }
    if view.require_tls {
        envelope.push(Tag::RequireTls, b"");
    }
    envelope.push(Tag::Recipient, view.reverse_path);
    (envelope, content)
}

/// NOTIFY of a recipient; NEVER stands alone. RFC 3461 section 4.1.
fn asks_for(recipient: &Recipient, action: Action) -> bool {
    let (word, without) = action.notify();
    let Some(notify) = recipient.notify else { return without };
    notify.split(|&octet| octet == b',').any(|given| given.eq_ignore_ascii_case(word.as_bytes()))
}

/// Does `content` have a line that may not be sent?
pub fn has_long_line(content: &[u8]) -> bool {
    content.split(|&octet| octet == b'\n').any(|line| line.len() > LINE_BYTES_MAX + usize::from(line.ends_with(b"\r")))
}

/// A line that does not occur in the original, of at most 70 octets (RFC 2046 section 5.1.1): a queue id has 13, and the
/// name, which is for people, may be cut.
fn boundary(notice: &Notice) -> String {
    (0u32..)
        .map(|number| format!("{}.{number}/{:.45}", notice.id, notice.hostname))
        .find(|boundary| memchr::memmem::find(notice.original, boundary.as_bytes()).is_none())
        .expect("the original is finite")
}

/// A report being written.
struct Form<'a> {
    view: &'a View<'a>,
    verdicts: &'a [&'a Verdict],
    notice: &'a Notice<'a>,
    /// RFC 6533: UTF-8 addresses in the report.
    global: bool,
    boundary: String,
}

impl Form<'_> {
    fn content(&self) -> Vec<u8> {
        let mut text = String::new();
        self.header(&mut text);
        self.part("text/plain; charset=utf-8", true, &mut text);
        self.for_people(&mut text);
        let status = if self.global { "message/global-delivery-status" } else { "message/delivery-status" };
        self.part(status, self.global, &mut text);
        self.for_programs(&mut text);
        let original_ascii = self.notice.original.is_ascii();
        let original = match (self.notice.whole, self.global) {
            (true, false) => "message/rfc822",
            (true, true) => "message/global",
            (false, false) => "text/rfc822-headers",
            (false, true) => "message/global-headers",
        };
        self.part(original, !original_ascii, &mut text);
        let mut content = text.into_bytes();
        content.extend_from_slice(self.notice.original);
        if !content.ends_with(b"\r\n") {
            content.extend_from_slice(b"\r\n");
        }
        content.extend_from_slice(format!("\r\n--{}--\r\n", self.boundary).as_bytes());
        content
    }

    fn header(&self, out: &mut String) {
        let Notice { hostname, id, now_ms, .. } = *self.notice;
        out.push_str("Date: ");
        push_date(now_ms, out);
        let _ = write!(
            out,
            "\r\nMessage-ID: <{id}.{now_ms:x}@{hostname}>\r\n\
             From: Mail Delivery System <MAILER-DAEMON@{hostname}>\r\n\
             To: <{}>\r\n\
             Subject: {}\r\n\
             Auto-Submitted: auto-replied\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type={};\r\n\tboundary=\"{}\"\r\n\
             Content-Transfer-Encoding: 8bit\r\n\r\n\
             This is a MIME-encapsulated message.\r\n",
            clean(self.view.reverse_path),
            self.verdicts.first().map_or("", |verdict| verdict.action.subject()),
            if self.global { "global-delivery-status" } else { "delivery-status" },
            self.boundary
        );
    }

    fn part(&self, kind: &str, eight_bit: bool, out: &mut String) {
        let _ = write!(out, "\r\n--{}\r\nContent-Type: {kind}\r\n", self.boundary);
        if eight_bit {
            out.push_str("Content-Transfer-Encoding: 8bit\r\n");
        }
        out.push_str("\r\n");
    }

    fn for_people(&self, out: &mut String) {
        let _ = write!(out, "This is the mail system at {}.\r\n\r\n", self.notice.hostname);
        let action = self.verdicts.first().map(|verdict| verdict.action);
        out.push_str(action.map_or("", Action::for_people));
        self.until(action, "It will be tried until ", ".\r\n", out);
        self.which_message(out);
        for verdict in self.verdicts {
            let _ = write!(out, "\r\n<{}>\r\n", self.address(verdict));
            match verdict.action {
                Action::Expired => out.push_str("    It could not be delivered in time. The last reason was:\r\n"),
                Action::Delayed => out.push_str("    The last reason was:\r\n"),
                Action::Failed if verdict.remote.is_none() => out.push_str("    It could not be sent from here:\r\n"),
                Action::Failed | Action::Relayed | Action::Delivered => {}
            }
            match verdict.remote.as_deref().map(server) {
                Some(("dns", name)) => {
                    let _ = write!(out, "    The mail server {} said:\r\n", one_line(name));
                }
                Some(_) => out.push_str("    The mail store said:\r\n"),
                None => {}
            }
            let _ = write!(out, "    {} {}\r\n", verdict.reply.code, one_line(&verdict.reply.text));
        }
    }

    /// Which message it is about, as its sender knows it.
    fn which_message(&self, out: &mut String) {
        let fields = ["Subject", "Date"].map(|name| (name, original::shown(self.notice.original, name)));
        if fields.iter().any(|(_, value)| value.is_some()) {
            out.push_str("\r\nThe message:\r\n");
        }
        for (name, value) in fields {
            if let Some(value) = value {
                let _ = write!(out, "    {name}: {value}\r\n");
            }
        }
    }

    /// Until when a late message is tried.
    fn until(&self, action: Option<Action>, before: &str, after: &str, out: &mut String) {
        if let (Some(Action::Delayed), Some(until_ms)) = (action, self.notice.retry_until_ms) {
            out.push_str(before);
            push_date(until_ms, out);
            out.push_str(after);
        }
    }

    fn for_programs(&self, out: &mut String) {
        let Notice { hostname, about, .. } = *self.notice;
        let _ = write!(out, "Reporting-MTA: dns; {hostname}\r\nX-Penstock-Queue-ID: {about}\r\n");
        if let Some(envid) = self.view.envid {
            let _ = write!(out, "Original-Envelope-Id: {}\r\n", self.ascii(&from_xtext(envid)));
        }
        out.push_str("Arrival-Date: ");
        push_date(self.view.arrival_ms, out);
        out.push_str("\r\n");
        // RFC 4865 section 5.1.2.
        match self.view.hold {
            Some(Hold::For(seconds)) => {
                let _ = write!(out, "Future-Release-Request: for;{seconds}\r\n");
            }
            Some(Hold::Until(epoch_s)) => {
                let moment = i64::try_from(epoch_s).ok().and_then(|second| Timestamp::from_second(second).ok());
                let _ = write!(out, "Future-Release-Request: until;{}\r\n", moment.unwrap_or_default());
            }
            None => {}
        }
        for verdict in self.verdicts {
            self.recipient(verdict, out);
        }
    }

    fn recipient(&self, verdict: &Verdict, out: &mut String) {
        out.push_str("\r\n");
        if let Some((kind, address)) = self.view.recipients[verdict.recipient as usize].orcpt.and_then(original) {
            let _ = write!(out, "Original-Recipient: {}; {}\r\n", self.ascii(&kind), self.ascii(&address));
        }
        let address = self.address(verdict);
        let kind = if address.is_ascii() { "rfc822" } else { "utf-8" };
        let _ = write!(out, "Final-Recipient: {kind}; {address}\r\nAction: {}\r\n", verdict.action.word());
        let _ = write!(out, "Status: {}\r\n", status(verdict));
        if let Some(remote) = &verdict.remote {
            let (kind, name) = server(remote);
            let _ = write!(out, "Remote-MTA: {kind}; {}\r\n", self.ascii(&one_line(name)));
        }
        let kind = if verdict.remote.is_some() { "smtp" } else { "X-Penstock" };
        let text = self.ascii(&one_line(&verdict.reply.text));
        let _ = write!(out, "Diagnostic-Code: {kind}; {} {text}\r\n", verdict.reply.code);
        self.until(Some(verdict.action), "Will-Retry-Until: ", "\r\n", out);
    }

    fn address(&self, verdict: &Verdict) -> String {
        clean(self.view.recipients[verdict.recipient as usize].path)
    }

    /// Text for the part for programs, which is ASCII but in the form of RFC 6533.
    fn ascii(&self, text: &str) -> String {
        let keep = |character: char| if self.global || character.is_ascii() { character } else { '?' };
        text.chars().map(keep).collect()
    }
}

/// A server as a report names it, with its type of name (RFC 3464 section 2.1.2): without the address and port that the
/// log has.
fn server(remote: &str) -> (&'static str, &str) {
    if remote.starts_with("unix:") {
        return ("X-local", remote);
    }
    let host = remote.rsplit_once(':').map_or(remote, |(host, _)| host);
    match host.find('[') {
        Some(at) if at > 0 => ("dns", &host[..at]),
        _ => ("dns", host),
    }
}

/// ORCPT as type and address. An address of type utf-8 has escapes of its own (RFC 6533 section 3) and stays as it is.
fn original(orcpt: &[u8]) -> Option<(String, String)> {
    let at = memchr::memchr(b';', orcpt)?;
    let (kind, address) = (from_xtext(&orcpt[..at]), &orcpt[at + 1..]);
    let address = if kind.eq_ignore_ascii_case("utf-8") { clean(address) } else { from_xtext(address) };
    Some((kind, address))
}

/// The enhanced status code: the reply's own if it has one of its class, else that of its class alone. RFC 3463.
fn status(verdict: &Verdict) -> String {
    if verdict.action == Action::Expired {
        return "4.4.7".into();
    }
    let class = format!("{}.", verdict.reply.code / 100);
    match enhanced_code(&verdict.reply.text).filter(|code| code.starts_with(&class)) {
        Some(code) => code.into(),
        None => format!("{class}0.0"),
    }
}

/// On one line, within bounds, and read as it stands: what would change how the text around it is shown is spelt out.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars() {
        let before = line.len();
        match character {
            _ if character.is_control() => line.push(' '),
            _ if is_dangerous(character) => {
                let _ = write!(line, "\\u{{{:x}}}", u32::from(character));
            }
            _ => line.push(character),
        }
        if line.len() > DIAGNOSTIC_BYTES_MAX {
            line.truncate(before);
            break;
        }
    }
    line
}

/// An address as text, without anything that could end its line.
fn clean(path: &[u8]) -> String {
    one_line(&String::from_utf8_lossy(path))
}

/// xtext decoded (RFC 3461 section 4); what is no xtext stays as it is.
fn from_xtext(text: &[u8]) -> String {
    clean(&xtext::decode(text))
}

#[cfg(test)]
mod tests;
