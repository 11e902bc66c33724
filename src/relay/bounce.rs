//! The message that tells a sender what could not be delivered: a delivery status notification. Pure.
//!
//! ```text
//!  multipart/report; report-type=delivery-status                       RFC 6522
//!    text/plain                          for people                    first, because it is what they see
//!    message/delivery-status             for programs                  RFC 3464
//!    text/rfc822-headers | message/rfc822  what it is about            RFC 3461 section 6.2 (RET)
//! ```
//!
//! Promises: the sender of a bounce is `<>`, and a bounce never answers one (RFC 5321 section 4.5.5), so that two systems
//! cannot bounce to each other; NOTIFY is obeyed (RFC 3461 section 4.1); nothing that a peer or a sender wrote can
//! add a field or a line to the report. With addresses outside ASCII the report has the form of RFC 6533.

use crate::message::date::push_date;
use crate::smtp::client::Reply;
use crate::smtp::envelope::{Envelope, Recipient, Tag, View};
use crate::smtp::xtext;
use std::fmt::Write;

/// Longest text of one reply in the report, in octets: a header line has at most 998.
const DIAGNOSTIC_BYTES_MAX: usize = 800;

/// One recipient that will not be delivered to.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Index in the envelope.
    pub recipient: u32,
    /// The next server's reply, or our own reason.
    pub reply: Reply,
    /// The server that said so; none if it was we.
    pub remote: Option<String>,
    /// Given up because its time was over.
    pub expired: bool,
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
}

/// Those of `failures` that the sender is to be told of: none for the null reverse-path, and none where NOTIFY says so.
pub fn reported<'a>(view: &View, failures: &'a [Failure]) -> Vec<&'a Failure> {
    if view.reverse_path.is_empty() {
        return Vec::new();
    }
    let wanted = |failure: &&Failure| view.recipients.get(failure.recipient as usize).is_some_and(wants_failures);
    failures.iter().filter(wanted).collect()
}

/// The bounce: its envelope and content. `failures` are from [`reported`] and not empty.
pub fn bounce(view: &View, failures: &[&Failure], notice: &Notice) -> (Envelope, Vec<u8>) {
    let addresses_ascii = view.reverse_path.is_ascii() && view.recipients.iter().all(|to| to.path.is_ascii());
    let form = Form { view, failures, notice, global: !addresses_ascii, boundary: boundary(notice) };
    let content = form.content();
    let mut envelope = Envelope::default();
    envelope.push(Tag::Arrival, &notice.now_ms.to_le_bytes());
    envelope.push(Tag::ReversePath, b"");
    let eight_bit = u8::from(!content.is_ascii());
    envelope.push(Tag::Body, &[eight_bit]);
    envelope.push(Tag::EightBit, &[eight_bit]);
    if form.global {
        envelope.push(Tag::SmtpUtf8, b"");
    }
    envelope.push(Tag::Recipient, view.reverse_path);
    (envelope, content)
}

/// NOTIFY of a recipient: FAILURE is the default, and NEVER stands alone. RFC 3461 section 4.1.
fn wants_failures(recipient: &Recipient) -> bool {
    let Some(notify) = recipient.notify else { return true };
    notify.split(|&octet| octet == b',').any(|word| word.eq_ignore_ascii_case(b"FAILURE"))
}

/// A line that does not occur in the original.
fn boundary(notice: &Notice) -> String {
    (0u32..)
        .map(|number| format!("{}.{number}/{}", notice.id, notice.hostname))
        .find(|boundary| memchr::memmem::find(notice.original, boundary.as_bytes()).is_none())
        .expect("the original is finite")
}

/// A report being written.
struct Form<'a> {
    view: &'a View<'a>,
    failures: &'a [&'a Failure],
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
            "\r\nMessage-ID: <{id}@{hostname}>\r\n\
             From: Mail Delivery System <MAILER-DAEMON@{hostname}>\r\n\
             To: <{}>\r\n\
             Subject: Undelivered Mail Returned to Sender\r\n\
             Auto-Submitted: auto-replied\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type={};\r\n\tboundary=\"{}\"\r\n\
             Content-Transfer-Encoding: 8bit\r\n\r\n\
             This is a MIME-encapsulated message.\r\n",
            clean(self.view.reverse_path),
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
        let _ = write!(
            out,
            "This is the mail system at {}.\r\n\r\n\
             Your message could not be delivered to the recipients below. It is not\r\n\
             kept here any longer. If you write to your postmaster about it, please\r\n\
             include this report.\r\n",
            self.notice.hostname
        );
        for failure in self.failures {
            let _ = write!(out, "\r\n<{}>\r\n", self.address(failure));
            if failure.expired {
                out.push_str("    It could not be delivered in time. The last reason was:\r\n");
            }
            if let Some(remote) = &failure.remote {
                let _ = write!(out, "    {} said:\r\n", one_line(remote));
            }
            let _ = write!(out, "    {} {}\r\n", failure.reply.code, one_line(&failure.reply.text));
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
        for failure in self.failures {
            self.recipient(failure, out);
        }
    }

    fn recipient(&self, failure: &Failure, out: &mut String) {
        out.push_str("\r\n");
        if let Some(orcpt) = self.view.recipients[failure.recipient as usize].orcpt {
            let text = from_xtext(orcpt);
            if let Some((kind, address)) = text.split_once(';') {
                let _ = write!(out, "Original-Recipient: {}; {}\r\n", self.ascii(kind), self.ascii(address));
            }
        }
        let address = self.address(failure);
        let kind = if address.is_ascii() { "rfc822" } else { "utf-8" };
        let _ = write!(out, "Final-Recipient: {kind}; {address}\r\nAction: failed\r\n");
        let _ = write!(out, "Status: {}\r\n", status(failure));
        if let Some(remote) = &failure.remote {
            let _ = write!(out, "Remote-MTA: dns; {}\r\n", self.ascii(&one_line(remote)));
        }
        let kind = if failure.remote.is_some() { "smtp" } else { "X-Penstock" };
        let text = self.ascii(&one_line(&failure.reply.text));
        let _ = write!(out, "Diagnostic-Code: {kind}; {} {text}\r\n", failure.reply.code);
    }

    fn address(&self, failure: &Failure) -> String {
        clean(self.view.recipients[failure.recipient as usize].path)
    }

    /// Text for the part for programs, which is ASCII but in the form of RFC 6533.
    fn ascii(&self, text: &str) -> String {
        let keep = |character: char| if self.global || character.is_ascii() { character } else { '?' };
        text.chars().map(keep).collect()
    }
}

/// The enhanced status code: the reply's own if it has one of its class, else that of its class alone. RFC 3463.
fn status(failure: &Failure) -> String {
    if failure.expired {
        return "4.4.7".into();
    }
    let word = failure.reply.text.split([' ', '\n']).next().unwrap_or("");
    let mut parts = word.split('.');
    let class = (failure.reply.code / 100).to_string();
    let number = |part: Option<&str>| {
        part.is_some_and(|part| (1..=3).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_digit()))
    };
    if parts.next() == Some(&class) && number(parts.next()) && number(parts.next()) && parts.next().is_none() {
        return word.into();
    }
    format!("{class}.0.0")
}

/// On one line, within bounds.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars() {
        if line.len() + character.len_utf8() > DIAGNOSTIC_BYTES_MAX {
            break;
        }
        line.push(if character.is_control() { ' ' } else { character });
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
