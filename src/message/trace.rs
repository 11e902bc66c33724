//! What is put before a message: the Received field, and Date and Message-ID where a submitted message lacks them.
//! RFC 5321 section 4.4, RFC 3848, RFC 6409 section 8.
//!
//! ```text
//!  Received: from laptop ([192.0.2.7])
//!          by smtp.example.edu (Penstock) with ESMTPSA id 0123456789BCD
//!          (TLSv1.3 TLS_AES_256_GCM_SHA384)
//!          for <ben@example.org>; Sun, 22 Nov 2026 03:10:10 +0000
//! ```
//!
//! Nothing from the client can end a line, open a comment or start a field: its name and address are printed through a
//! filter. The user's name is not printed; recipients only when there is one, so that nobody learns of a Bcc.

use super::Header;
use super::date::push_date;
use crate::log::is_dangerous;
use std::fmt::Write;
use std::net::IpAddr;

/// How a message came in.
#[derive(Clone, Debug)]
pub struct Arrival<'a> {
    /// The argument of EHLO or HELO.
    pub helo: &'a [u8],
    /// The client's address.
    pub peer: IpAddr,
    /// Our name.
    pub hostname: &'a str,
    /// RFC 3848: `ESMTPSA` and so on.
    pub protocol: &'a str,
    /// The queue id.
    pub queue_id: &'a str,
    /// TLS version and cipher suite.
    pub tls: Option<(&'a str, &'a str)>,
    /// The recipient, if there is only one.
    pub only_recipient: Option<&'a [u8]>,
    /// Milliseconds since the Unix epoch.
    pub epoch_ms: u64,
    /// Add Date and Message-ID where they are missing.
    pub submission: bool,
}

/// Appends the fields to put before a message whose header is `header`, each with its CRLF.
pub fn prepend(arrival: &Arrival, header: &Header, out: &mut String) {
    received(arrival, out);
    if arrival.submission && !header.date {
        out.push_str("Date: ");
        push_date(arrival.epoch_ms, out);
        out.push_str("\r\n");
    }
    if arrival.submission && !header.message_id {
        let Arrival { queue_id, epoch_ms, hostname, .. } = arrival;
        let _ = write!(out, "Message-ID: <{queue_id}.{epoch_ms:x}@{hostname}>\r\n");
    }
    if !header.present {
        // The content has no header; without an empty line its first lines would become part of ours.
        out.push_str("\r\n");
    }
}

fn received(arrival: &Arrival, out: &mut String) {
    out.push_str("Received: from ");
    push_token(arrival.helo, out);
    let _ = match arrival.peer.to_canonical() {
        IpAddr::V4(address) => write!(out, " ([{address}])"),
        IpAddr::V6(address) => write!(out, " ([IPv6:{address}])"),
    };
    let Arrival { hostname, protocol, queue_id, .. } = arrival;
    let _ = write!(out, "\r\n\tby {hostname} (Penstock) with {protocol} id {queue_id}");
    if let Some((version, suite)) = arrival.tls {
        let _ = write!(out, "\r\n\t({version} {suite})");
    }
    if let Some(recipient) = arrival.only_recipient {
        out.push_str("\r\n\tfor <");
        push_address(recipient, out);
        out.push('>');
    }
    out.push_str("; ");
    push_date(arrival.epoch_ms, out);
    out.push_str("\r\n");
}

/// One token from what a client calls itself: anything odd becomes `?`, 255 characters at most.
fn push_token(helo: &[u8], out: &mut String) {
    if helo.is_empty() {
        out.push_str("unknown");
    }
    for octet in helo.iter().take(255) {
        let fine = octet.is_ascii_alphanumeric() || b".-_:[]".contains(octet);
        out.push(if fine { char::from(*octet) } else { '?' });
    }
}

/// A mailbox that was parsed holds no ASCII control; what may stand in one and yet ends a line, or makes text look like
/// other text, becomes `?`. What is not valid UTF-8 cannot be a mailbox.
fn push_address(address: &[u8], out: &mut String) {
    let text = std::str::from_utf8(address).unwrap_or("?");
    out.extend(text.chars().map(|character| if is_dangerous(character) { '?' } else { character }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival() -> Arrival<'static> {
        Arrival {
            helo: b"laptop",
            peer: "192.0.2.7".parse().expect("address"),
            hostname: "smtp.example.edu",
            protocol: "ESMTPSA",
            queue_id: "0123456789BCD",
            tls: Some(("TLSv1.3", "TLS_AES_256_GCM_SHA384")),
            only_recipient: Some(b"ben@example.org"),
            epoch_ms: 1_795_317_010_000,
            submission: true,
        }
    }

    fn prepended(arrival: &Arrival, content: &[u8]) -> String {
        let mut out = String::new();
        prepend(arrival, &Header::scan(content, "smtp.example.edu"), &mut out);
        out
    }

    // covers: 6.16
    #[test]
    fn the_picture_above() {
        let text = prepended(&arrival(), b"Date: x\r\nMessage-ID: <y>\r\n\r\n");
        assert_eq!(
            text,
            "Received: from laptop ([192.0.2.7])\r\n\tby smtp.example.edu (Penstock) with ESMTPSA id 0123456789BCD\r\n\
             \t(TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n\tfor <ben@example.org>; Sun, 22 Nov 2026 03:10:10 +0000\r\n"
        );
    }

    // covers: 6.15
    #[test]
    fn missing_fields_are_added_on_submission_only() {
        let text = prepended(&arrival(), b"Subject: x\r\n\r\n");
        assert!(text.contains("\r\nDate: Sun, 22 Nov 2026 03:10:10 +0000\r\n"));
        assert!(text.contains("\r\nMessage-ID: <0123456789BCD.1a2013b8e50@smtp.example.edu>\r\n"), "{text}");
        let stranger = Arrival { submission: false, ..arrival() };
        let text = prepended(&stranger, b"Subject: x\r\n\r\n");
        assert!(!text.contains("Date:") && !text.contains("Message-ID:"));
    }

    #[test]
    fn a_content_without_a_header_gets_an_empty_line() {
        assert!(prepended(&arrival(), b"just text\r\n").ends_with("\r\n\r\n"));
        assert!(!prepended(&arrival(), b"\r\nbody\r\n").ends_with("\r\n\r\n"));
    }

    // covers: 6.16 1.2
    #[test]
    fn nothing_in_an_address_ends_a_line_or_hides() {
        let address = "gr\u{fc}n\u{85}\u{9b}\u{2028}\u{202e}\u{2066}\u{feff}\u{200b}x@example.edu";
        let hostile = Arrival {
            helo: "\u{85}\u{2028}\u{202e}x\u{0}\t".as_bytes(),
            only_recipient: Some(address.as_bytes()),
            ..arrival()
        };
        let text = prepended(&hostile, b"Date: x\r\nMessage-ID: <y>\r\n\r\n");
        assert!(text.starts_with("Received: from ????????x?? ([192.0.2.7])\r\n"), "{text}");
        assert!(text.contains("for <gr\u{fc}n???????x@example.edu>;"), "{text}");
        let broken = Arrival { only_recipient: Some(b"\xff\r\nX: y@z"), ..arrival() };
        assert!(prepended(&broken, b"\r\n").contains("for <?>;"));
    }

    // covers: 6.16
    #[test]
    fn a_client_cannot_write_into_the_header() {
        let hostile = Arrival {
            helo: b"x (by evil)\r\nSubject: y",
            peer: "2001:db8::1".parse().expect("address"),
            only_recipient: None,
            ..arrival()
        };
        let text = prepended(&hostile, b"Date: x\r\nMessage-ID: <y>\r\n\r\n");
        assert!(text.starts_with("Received: from x??by?evil???Subject:?y ([IPv6:2001:db8::1])\r\n"), "{text}");
        assert!(!text.contains("for <"));
    }
}
