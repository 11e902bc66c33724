//! What the header of a message holds, found in one pass over its lines. RFC 5322 section 2.2.
//!
//! A field is known when its last line is: a line that is not folded, or the end of the header. Fields that must not be
//! sent are noted as ranges of the content, for the envelope; the content itself is never rewritten.
//!
//! | field | whose mail | why |
//! |---|---|---|
//! | Return-Path | submitted | the server of final delivery adds it, nobody before (RFC 5321 section 4.4) |
//! | Bcc, Resent-Bcc | submitted | a mail program that forgot it would tell everybody whom it wanted to hide (RFC 5322 section 3.6.3); Postfix drops it too |
//! | Authentication-Results of our name | everybody's | nobody but we may speak in our name (RFC 8601 section 5) |
//!
//! Octets above 127 are taken in a header, with or without SMTPUTF8: devices and scripts send them, every server in use
//! passes them on, and a next hop that cannot be asked for 8BITMIME gets a bounce from us rather than them.

use super::LINE_BYTES_MAX;
use super::mime::behind_blanks;
use memchr::memchr;
use std::ops::Range;

/// Octets of header that are taken; a larger one is refused. No honest message comes near it.
pub const HEADER_BYTES_MAX: usize = 256 * 1024;
/// Fields that are taken; a header with more is refused.
pub const FIELDS_MAX: u32 = 1000;
/// Received fields that are taken. RFC 5321 section 6.3 asks for at least 100.
pub const RECEIVED_MAX: u32 = 100;

/// What a header holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Octets up to and with the empty line that ends it, or all that was looked at.
    pub bytes: usize,
    /// The end of the header was seen, so that all of the above and below is known.
    pub complete: bool,
    /// The content starts with a header field or an empty line; if not, the whole content is body.
    pub present: bool,
    /// A Date field.
    pub date: bool,
    /// A Message-ID field.
    pub message_id: bool,
    /// `TLS-Required: No`: the sender would rather have it arrive in the clear than not at all. RFC 8689 section 3.
    pub tls_optional: bool,
    /// Fields of any name.
    pub fields: u32,
    /// Received fields.
    pub received: u32,
    /// Whole fields that are not sent on when they were submitted here, offsets in the content. Of the first
    /// [`FIELDS_MAX`] fields only.
    pub submitted_away: Vec<Range<usize>>,
    /// Whole fields that are not sent on whoever sent them, likewise.
    pub forged: Vec<Range<usize>>,
}

impl Header {
    /// Looks at the start of a content; lines end with CRLF. At most [`HEADER_BYTES_MAX`] octets and one line are read.
    /// `hostname` is our name.
    pub fn scan(content: &[u8], hostname: &str) -> Header {
        let mut header = Header::default();
        let mut field: Option<(&[u8], usize)> = None;
        while header.bytes <= HEADER_BYTES_MAX && header.bytes < content.len() {
            let rest = &content[header.bytes..];
            let length = memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1);
            let line = &rest[..length];
            let (kind, ended) = (Kind::of(line), line.ends_with(b"\n"));
            match kind {
                Kind::Field(name) => {
                    header.end_field(field.replace((name, header.bytes)), content, hostname);
                }
                Kind::Folded if header.present => {}
                // The rest of this line may still be on its way, and make it a field.
                _ if !ended && line.len() < LINE_BYTES_MAX => break,
                Kind::End => {
                    header.end_field(field.take(), content, hostname);
                    header.complete = true;
                }
                // A first line that is folded continues nothing.
                Kind::Body | Kind::Folded => {
                    header.complete = true;
                    break;
                }
            }
            header.present = true;
            header.bytes += length;
            if header.complete {
                break;
            }
        }
        header.end_field(field, content, hostname);
        header
    }

    /// The lines of a field are behind us: its name and where it starts.
    fn end_field(&mut self, field: Option<(&[u8], usize)>, content: &[u8], hostname: &str) {
        let Some((name, start)) = field else { return };
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        self.fields += 1;
        self.date |= is("Date");
        self.message_id |= is("Message-ID");
        self.received += u32::from(is("Received"));
        let range = start..self.bytes;
        self.tls_optional |=
            is("TLS-Required") && value(&content[range.clone()]).trim_ascii().eq_ignore_ascii_case(b"No");
        if self.fields > FIELDS_MAX {
            return;
        }
        if is("Bcc") || is("Resent-Bcc") || is("Return-Path") {
            self.submitted_away.push(range);
        } else if is("Authentication-Results") && speaks_for(&content[range.clone()], hostname) {
            self.forged.push(range);
        }
    }
}

/// Does an Authentication-Results field claim to come from `hostname`? RFC 8601 section 2.2: its value starts with that
/// name, which may be a quoted string, behind comments and white space.
fn speaks_for(field: &[u8], hostname: &str) -> bool {
    let value = behind_blanks(value(field));
    let quoted = value.strip_prefix(b"\"");
    let value = quoted.unwrap_or(value);
    let Some((name, rest)) = value.split_at_checked(hostname.len()) else { return false };
    name.eq_ignore_ascii_case(hostname.as_bytes())
        && match rest {
            [] => true,
            [b'"', ..] => quoted.is_some(),
            [octet, ..] => octet.is_ascii_whitespace() || b";(".contains(octet),
        }
}

/// What stands behind the colon.
fn value(field: &[u8]) -> &[u8] {
    memchr(b':', field).map_or(b"", |colon| &field[colon + 1..])
}

enum Kind<'a> {
    Field(&'a [u8]),
    Folded,
    End,
    Body,
}

impl Kind<'_> {
    /// A line without a colon in its first [`LINE_BYTES_MAX`] octets is no field, whatever is still to come of it.
    fn of(line: &[u8]) -> Kind<'_> {
        match &line[..line.len().min(LINE_BYTES_MAX)] {
            b"\r\n" | b"\n" => Kind::End,
            [b' ' | b'\t', ..] => Kind::Folded,
            line => match line.iter().position(|octet| !matches!(octet, 33..=57 | 59..=126)) {
                Some(colon) if colon > 0 && field_name_ends(&line[colon..]) => Kind::Field(&line[..colon]),
                _ => Kind::Body,
            },
        }
    }
}

/// A colon, or white space and a colon (RFC 5322 section 4.5, obsolete syntax that is still seen).
fn field_name_ends(line: &[u8]) -> bool {
    line.iter().find(|octet| !matches!(octet, b' ' | b'\t')) == Some(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(content: &[u8]) -> Header {
        Header::scan(content, "mx.example.edu")
    }

    // covers: 6.10
    #[test]
    fn fields_are_found_up_to_the_empty_line() {
        let content = b"Received: from a\r\n\tby b\r\nDATE: x\r\nMessage-Id : <y>\r\nreceived: c\r\n\r\nDate: body\r\n";
        let header = scan(content);
        assert!(header.date && header.message_id && header.present && header.complete);
        assert_eq!(header.received, 2);
        assert_eq!(&content[header.bytes..], b"Date: body\r\n");
    }

    #[test]
    fn a_content_without_a_header_is_all_body() {
        for content in [&b"just text\r\nDate: x\r\n"[..], b"", b" folded\r\n", b": x\r\n", b"\xff: x\r\n"] {
            let header = Header { complete: false, ..scan(content) };
            assert_eq!(header, Header::default(), "{}", content.escape_ascii());
        }
        let empty = scan(b"\r\nbody");
        assert!(empty.present && !empty.date && empty.bytes == 2);
    }

    #[test]
    fn a_body_line_ends_a_header_that_has_no_empty_line() {
        let header = scan(b"Subject: x\r\nhello there\r\nDate: x\r\n");
        assert!(header.present && !header.date);
        assert_eq!(header.bytes, 12);
    }

    // covers: 6.12
    #[test]
    fn a_huge_header_is_not_read_to_its_end() {
        let content = b"A: b\r\n".repeat(HEADER_BYTES_MAX);
        assert!(scan(&content).bytes <= HEADER_BYTES_MAX + 6);
        assert!(scan(&content).bytes > HEADER_BYTES_MAX);
    }

    #[test]
    fn any_cut_is_read() {
        let content = b"Received: from a\r\n\tby b\r\nDate: x\r\n\r\nbody\r\n";
        let header_bytes = scan(content).bytes;
        for end in 0..content.len() {
            assert_eq!(scan(&content[..end]).complete, end >= header_bytes, "cut at {end}");
        }
    }

    /// What is looked at early, when content spills, may end within a line: what it says must stay true.
    // covers: 6.12
    #[test]
    fn a_line_without_a_colon_for_a_thousand_octets_is_body_whatever_comes_behind() {
        let name = [b'x'; HEADER_BYTES_MAX];
        for (end, what) in [(&b""[..], "cut"), (b": y\r\nDate: z\r\n\r\n", "whole")] {
            let header = scan(&[b"A: b\r\n", &name[..], end].concat());
            assert!(header.complete && !header.date, "{what}");
            assert_eq!((header.bytes, header.fields), (6, 1), "{what}");
        }
        let longest = [&[b'x'; 997][..], b": y\r\n\r\n"].concat();
        assert_eq!(scan(&longest).fields, 1);
        for end in 0..longest.len() {
            assert!(!scan(&longest[..end]).complete, "cut at {end}");
        }
    }

    fn removed(content: &[u8]) -> (Vec<&[u8]>, Vec<&[u8]>) {
        let header = scan(content);
        let texts = |ranges: &[Range<usize>]| ranges.iter().map(|range| &content[range.clone()]).collect();
        (texts(&header.submitted_away), texts(&header.forged))
    }

    // covers: 6.15
    #[test]
    fn what_is_not_sent_on_is_whole_fields() {
        let content = b"Return-Path: <a@b>\r\nSubject: Bcc: x\r\nBCC : ben@example.edu,\r\n\tcleo@example.org\r\n\
                        To: x\r\nResent-Bcc: y\r\n\r\nBcc: body\r\n";
        let (submitted, forged) = removed(content);
        let fields: [&[u8]; 3] =
            [b"Return-Path: <a@b>\r\n", b"BCC : ben@example.edu,\r\n\tcleo@example.org\r\n", b"Resent-Bcc: y\r\n"];
        assert_eq!((submitted, forged), (fields.to_vec(), vec![]));
        // By BDAT a content may end anywhere.
        for end in [&b"Bcc: x"[..], b"A: b\r\nBcc: x", b"Bcc: x\r\n y", b"Bcc: x\r\n"] {
            let content_end = removed(end).0.concat();
            assert!(end.ends_with(&content_end) && content_end.starts_with(b"Bcc"), "{}", end.escape_ascii());
        }
    }

    // covers: 6.15
    #[test]
    fn results_in_our_name_are_forged() {
        for (value, forged) in [
            ("mx.example.edu; spf=pass", true),
            ("MX.Example.EDU 1; none", true),
            ("\r\n\tmx.example.edu;\r\n\tdkim=pass", true),
            ("(a (nested\\) one)) mx.example.edu(x); none", true),
            ("\"mx.example.edu\"; none", true),
            ("mx.example.edu", true),
            ("mx.example.edu.evil.example; none", false),
            ("mx.example.education; none", false),
            ("smx.example.edu; none", false),
            ("mx.example.org; mx.example.edu", false),
            ("(mx.example.edu) other; none", false),
            ("", false),
            ("(", false),
            ("(\\", false),
        ] {
            let content = format!("authentication-results:{value}\r\nSubject: x\r\n\r\n");
            let (submitted, found) = removed(content.as_bytes());
            assert_eq!((submitted.len(), found.len()), (0, usize::from(forged)), "{value}");
        }
    }

    // covers: 12.4
    #[test]
    fn tls_required_no_is_seen() {
        for (field, expected) in [
            ("TLS-Required: No", true),
            ("tls-required:no ", true),
            ("TLS-Required:\r\n\tNO", true),
            ("TLS-Required: Yes", false),
            ("TLS-Required: None", false),
            ("TLS-Required:", false),
            ("X-TLS-Required: No", false),
        ] {
            let content = format!("{field}\r\nSubject: x\r\n\r\nTLS-Required: No\r\n");
            assert_eq!(scan(content.as_bytes()).tls_optional, expected, "{field}");
        }
    }

    // covers: 6.12
    #[test]
    fn fields_are_counted_and_what_is_noted_of_them_is_bounded() {
        let fields = |count: u32| scan(&[&b"Bcc: a\r\n".repeat(count as usize)[..], b"\r\n"].concat());
        assert_eq!(fields(FIELDS_MAX).fields, FIELDS_MAX);
        let many = fields(FIELDS_MAX + 50);
        assert_eq!((many.fields, many.submitted_away.len()), (FIELDS_MAX + 50, FIELDS_MAX as usize));
        assert_eq!(scan(b"A: b\r\n c\r\nD: e\r\n\r\nF: g\r\n").fields, 2);
    }
}
