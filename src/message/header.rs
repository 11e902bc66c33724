//! What the header of a message holds, found in one pass over its lines. RFC 5322 section 2.2.

use memchr::memchr;

/// Octets of header that are taken; a larger one is refused. No honest message comes near it.
pub const HEADER_BYTES_MAX: usize = 256 * 1024;
/// Received fields that are taken. RFC 5321 section 6.3 asks for at least 100.
pub const RECEIVED_MAX: u32 = 100;

/// What a header holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Received fields.
    pub received: u32,
}

impl Header {
    /// Looks at the start of a content; lines end with CRLF. At most [`HEADER_BYTES_MAX`] octets and one line are read.
    pub fn scan(content: &[u8]) -> Header {
        let mut header = Header::default();
        let mut rest = content;
        while header.bytes <= HEADER_BYTES_MAX && !rest.is_empty() {
            let length = memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1);
            let (line, behind) = rest.split_at(length);
            match Kind::of(line) {
                // The rest of this line may still be on its way.
                _ if line.last() != Some(&b'\n') => return header,
                Kind::End => {
                    header.bytes += length;
                    header.present = true;
                    header.complete = true;
                    return header;
                }
                Kind::Body => {
                    header.complete = true;
                    return header;
                }
                Kind::Field(name) => header.count(name),
                // A first line that is folded continues nothing.
                Kind::Folded if !header.present => {
                    header.complete = true;
                    return header;
                }
                Kind::Folded => {}
            }
            header.present = true;
            header.bytes += length;
            rest = behind;
        }
        header
    }

    fn count(&mut self, name: &[u8]) {
        match name.len() {
            4 => self.date |= name.eq_ignore_ascii_case(b"Date"),
            8 => self.received += u32::from(name.eq_ignore_ascii_case(b"Received")),
            10 => self.message_id |= name.eq_ignore_ascii_case(b"Message-ID"),
            _ => {}
        }
    }
}

enum Kind<'a> {
    Field(&'a [u8]),
    Folded,
    End,
    Body,
}

impl Kind<'_> {
    fn of(line: &[u8]) -> Kind<'_> {
        match line {
            b"\r\n" | b"\n" => Kind::End,
            [b' ' | b'\t', ..] => Kind::Folded,
            _ => match line.iter().position(|octet| !matches!(octet, 33..=57 | 59..=126)) {
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

    #[test]
    fn fields_are_found_up_to_the_empty_line() {
        let content = b"Received: from a\r\n\tby b\r\nDATE: x\r\nMessage-Id : <y>\r\nreceived: c\r\n\r\nDate: body\r\n";
        let header = Header::scan(content);
        assert!(header.date && header.message_id && header.present && header.complete);
        assert_eq!(header.received, 2);
        assert_eq!(&content[header.bytes..], b"Date: body\r\n");
    }

    #[test]
    fn a_content_without_a_header_is_all_body() {
        for content in [&b"just text\r\nDate: x\r\n"[..], b"", b" folded\r\n", b": x\r\n", b"\xff: x\r\n"] {
            let header = Header { complete: false, ..Header::scan(content) };
            assert_eq!(header, Header::default(), "{}", content.escape_ascii());
        }
        let empty = Header::scan(b"\r\nbody");
        assert!(empty.present && !empty.date && empty.bytes == 2);
    }

    #[test]
    fn a_body_line_ends_a_header_that_has_no_empty_line() {
        let header = Header::scan(b"Subject: x\r\nhello there\r\nDate: x\r\n");
        assert!(header.present && !header.date);
        assert_eq!(header.bytes, 12);
    }

    #[test]
    fn a_huge_header_is_not_read_to_its_end() {
        let content = b"A: b\r\n".repeat(HEADER_BYTES_MAX);
        assert!(Header::scan(&content).bytes <= HEADER_BYTES_MAX + 6);
        assert!(Header::scan(&content).bytes > HEADER_BYTES_MAX);
    }

    #[test]
    fn any_cut_is_read() {
        let content = b"Received: from a\r\n\tby b\r\nDate: x\r\n\r\nbody\r\n";
        let header_bytes = Header::scan(content).bytes;
        for end in 0..content.len() {
            assert_eq!(Header::scan(&content[..end]).complete, end >= header_bytes, "cut at {end}");
        }
    }
}
