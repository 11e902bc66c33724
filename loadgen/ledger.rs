//! The ledger: one line for each message, written at once, so that it outlives whatever happens to this process.
//!
//! ```text
//!  outcome   tag                             octets  SHA-256 of the content      recipients  queue id
//!  accepted  0000000000000007-0000-0000002a  4096    9f86d081884c7d659a2feaa0..  1           01J9ZK3Q8V2WN
//! ```
//!
//! Fields are separated by one tab; lines end with LF. `run` writes what it sent:
//!
//! | outcome    | the server                                         | so the message                     |
//! |------------|----------------------------------------------------|------------------------------------|
//! | `accepted` | answered 250                                       | must arrive, whole                 |
//! | `refused`  | answered 4xx or 5xx to the content                 | may arrive (451: undecided), whole |
//! | `unknown`  | was given content, and the connection broke before a reply | may arrive, whole          |
//!
//! `recipients` is the number for which the outcome holds. A message whose envelope was refused has no line: none of
//! its content left this process. `sink` writes what came, as `received`, with the queue id that it gave.
//!
//! The checksum covers the content from the tag's field to the end. Servers put their fields (Received and others) on
//! top, so it is the same on both sides. A queue id that is not known is `-`.

use crate::workload::TAG_FIELD;
use ring::digest;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 250.
    Accepted,
    /// 4xx or 5xx to the content.
    Refused,
    /// No reply.
    Unknown,
    /// In the sink.
    Received,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Refused => "refused",
            Outcome::Unknown => "unknown",
            Outcome::Received => "received",
        }
    }
}

/// One line.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What became of the message.
    pub outcome: Outcome,
    /// Names the message.
    pub tag: &'a str,
    /// Octets of content.
    pub size: u64,
    /// Of the content from the tag's field on.
    pub checksum: Checksum,
    /// Recipients for which the outcome holds.
    pub recipients: usize,
    /// As the server named the message.
    pub queue_id: Option<&'a str>,
}

/// SHA-256: slow beside a CRC, but every system has a command that checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum([u8; 32]);

impl Checksum {
    /// Of the parts, one after the other.
    pub fn of(parts: &[&[u8]]) -> Checksum {
        let mut context = digest::Context::new(&digest::SHA256);
        parts.iter().for_each(|part| context.update(part));
        let mut octets = [0; 32];
        octets.copy_from_slice(context.finish().as_ref());
        Checksum(octets)
    }
}

/// An open ledger. Threads share it: each line is one write to a file opened for appending.
#[derive(Debug)]
pub struct Ledger {
    file: File,
}

impl Ledger {
    /// Opens or makes the file; lines are appended. Errors: one line with the file's name.
    pub fn open(path: &Path) -> Result<Ledger, String> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.map(|file| Ledger { file }).map_err(|error| format!("cannot write the ledger {}: {error}", path.display()))
    }

    /// Appends a line; when this returns the kernel has it, and the death of this process loses nothing.
    pub fn append(&self, entry: &Entry) -> std::io::Result<()> {
        (&self.file).write_all(line(entry).as_bytes())
    }
}

/// The queue id in a reply's text: the word behind "queued as", where most servers put it.
pub fn queue_id(reply: &str) -> Option<&str> {
    let (_, rest) = reply.split_once("queued as ")?;
    rest.split(|c: char| c.is_whitespace() || c.is_control()).next().filter(|word| !word.is_empty())
}

/// The tag of a received message, and its content from the tag's field to the end. None: it holds no tag.
pub fn tagged(content: &[u8]) -> Option<(&str, &[u8])> {
    let header = memchr::memmem::find(content, b"\r\n\r\n").map_or(content, |end| &content[..end + 2]);
    let mut starts = memchr::memmem::find_iter(header, TAG_FIELD).filter(|&at| at == 0 || header[at - 1] == b'\n');
    let from_tag = &content[starts.next()?..];
    let line = &from_tag[TAG_FIELD.len()..];
    let tag = std::str::from_utf8(&line[..memchr::memchr(b'\r', line)?]).ok()?;
    let is_plain = !tag.is_empty() && tag.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    is_plain.then_some((tag, from_tag))
}

fn line(entry: &Entry) -> String {
    let mut line = format!("{}\t{}\t{}\t", entry.outcome.name(), entry.tag, entry.size);
    for octet in entry.checksum.0 {
        let _ = write!(line, "{octet:02x}");
    }
    let _ = writeln!(line, "\t{}\t{}", entry.recipients, entry.queue_id.unwrap_or("-"));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_as_documented() {
        let checksum = Checksum::of(&[b"a", b"bc"]);
        let entry =
            Entry { outcome: Outcome::Accepted, tag: "7-0-2a", size: 3, checksum, recipients: 2, queue_id: Some("X1") };
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(line(&entry), format!("accepted\t7-0-2a\t3\t{known}\t2\tX1\n"));
        let entry = Entry { outcome: Outcome::Unknown, queue_id: None, ..entry };
        assert!(line(&entry).starts_with("unknown\t") && line(&entry).ends_with("\t-\n"));
    }

    #[test]
    fn queue_ids_are_found_where_servers_put_them() {
        for (reply, id) in [
            ("2.0.0 Ok: queued as 4X1Y2Z", Some("4X1Y2Z")),
            ("2.0.0 Ok: queued as 4X1Y2Z\nsecond line", Some("4X1Y2Z")),
            ("2.0.0 Ok", None),
            ("queued as ", None),
        ] {
            assert_eq!(queue_id(reply), id, "{reply}");
        }
    }

    #[test]
    fn the_tag_is_found_under_a_servers_own_fields_and_nowhere_else() {
        let sent = b"X-Penstock-Ledger: 7-0-1\r\nSubject: x\r\n\r\nbody\r\n";
        let received = [&b"Received: from a\r\n\tby b\r\n"[..], sent].concat();
        assert_eq!(tagged(&received), Some(("7-0-1", &sent[..])));
        assert_eq!(tagged(sent), Some(("7-0-1", &sent[..])));
        for other in [
            &b"Subject: x\r\n\r\nX-Penstock-Ledger: 7-0-1\r\n"[..],
            b"Subject: X-Penstock-Ledger: 7-0-1\r\n\r\n",
            b"X-Penstock-Ledger: \r\n\r\n",
            b"X-Penstock-Ledger: a\tb\r\n\r\n",
            b"",
        ] {
            assert_eq!(tagged(other), None, "{}", other.escape_ascii());
        }
    }

    #[test]
    fn a_ledger_is_appended_to() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ledger");
        let checksum = Checksum::of(&[]);
        let entry = Entry { outcome: Outcome::Refused, tag: "t", size: 0, checksum, recipients: 1, queue_id: None };
        for lines in 1..3 {
            Ledger::open(&path).expect("opened").append(&entry).expect("written");
            assert_eq!(std::fs::read_to_string(&path).expect("text").lines().count(), lines);
        }
        let error = Ledger::open(directory.path()).expect_err("a directory is no file");
        assert!(error.starts_with("cannot write the ledger "), "{error}");
    }
}
