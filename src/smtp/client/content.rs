//! The content on its way to a server: dots stuffed, every line ended by CRLF, no NUL.
//!
//! Promises, for content in any pieces: a line that starts with a dot gets one more (RFC 5321 section 4.5.2); a bare
//! CR and a bare LF become CRLF and a NUL is dropped (section 2.3.8), so that no server can take a piece of the content
//! for the end of the content, however it reads line ends; the rest is passed octet for octet. BINARYMIME content, which
//! goes by BDAT only, is not looked at: its length is what was announced, or its last octet is not sent, and so no server
//! takes a piece of a message for the whole.

use memchr::memchr3;

/// How the content goes out.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// After DATA.
    Dotted(Stuffer),
    /// After BDAT: octet for octet. RFC 3030.
    Counted(Counted),
}

impl Outgoing {
    /// Appends `piece` to `out`, but never more than was announced.
    pub(super) fn append(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        match self {
            Outgoing::Dotted(stuffer) => stuffer.append(piece, out),
            Outgoing::Counted(counted) => counted.append(piece, out),
        }
    }

    /// Ends the content. Errors: it is not what was announced, and has no end. Only a fault of ours can be the cause.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        match self {
            Outgoing::Dotted(stuffer) => {
                stuffer.end(out);
                Ok(())
            }
            Outgoing::Counted(counted) => counted.end(out),
        }
    }
}

/// How much of an announced content has come.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Octets still to come.
    left: u64,
    /// The last octet, which is sent when nothing came behind it.
    last: Option<u8>,
    too_much: bool,
}

impl Counted {
    /// At the start of `size` octets, one or more.
    pub(super) fn new(size: u64) -> Counted {
        Counted { left: size, ..Counted::default() }
    }

    fn append(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.too_much |= piece.len() as u64 > self.left;
        if self.too_much {
            return;
        }
        self.left -= piece.len() as u64;
        match piece.split_last() {
            Some((&last, before)) if self.left == 0 => {
                out.extend_from_slice(before);
                self.last = Some(last);
            }
            _ => out.extend_from_slice(piece),
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        if self.too_much {
            return Err("there is more content than was announced");
        }
        if self.left > 0 {
            return Err("there is less content than was announced");
        }
        out.extend(self.last);
        Ok(())
    }
}

/// Where in a line the content is.
#[derive(Debug)]
pub(super) struct Stuffer {
    line_start: bool,
    carriage_return: bool,
}

impl Stuffer {
    /// At the start of the content.
    pub(super) fn new() -> Stuffer {
        Stuffer { line_start: true, carriage_return: false }
    }

    /// Appends `piece` to `out`.
    pub(super) fn append(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        if self.carriage_return && !piece.is_empty() {
            self.end_line(out);
            piece = piece.strip_prefix(b"\n").unwrap_or(piece);
        }
        while !piece.is_empty() {
            let text = memchr3(b'\r', b'\n', 0, piece).unwrap_or(piece.len());
            if self.line_start && text > 0 {
                if piece[0] == b'.' {
                    out.push(b'.');
                }
                self.line_start = false;
            }
            match &piece[text..] {
                [b'\r', b'\n', ..] => {
                    out.extend_from_slice(&piece[..text + 2]);
                    self.line_start = true;
                    piece = &piece[text + 2..];
                    continue;
                }
                rest => out.extend_from_slice(&piece[..piece.len() - rest.len()]),
            }
            match piece[text..] {
                [] => return,
                [b'\r'] => self.carriage_return = true,
                [b'\r' | b'\n', ..] => self.end_line(out),
                _ => {}
            }
            piece = &piece[text + 1..];
        }
    }

    /// Ends the last line if it has no end, then the content: CRLF.CRLF.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        if self.carriage_return || !self.line_start {
            self.end_line(out);
        }
        out.extend_from_slice(b".\r\n");
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        self.line_start = true;
        self.carriage_return = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuffed(pieces: &[&[u8]]) -> Vec<u8> {
        let mut stuffer = Stuffer::new();
        let mut out = Vec::new();
        for piece in pieces {
            stuffer.append(piece, &mut out);
        }
        stuffer.end(&mut out);
        out
    }

    #[test]
    fn the_table_in_every_split() {
        let table: &[(&[u8], &[u8])] = &[
            (b"", b".\r\n"),
            (b"a", b"a\r\n.\r\n"),
            (b"a\r\n", b"a\r\n.\r\n"),
            (b".", b"..\r\n.\r\n"),
            (b".\r\n", b"..\r\n.\r\n"),
            (b"a\r\n.\r\nb\r\n..c\r\nd.\r\n", b"a\r\n..\r\nb\r\n...c\r\nd.\r\n.\r\n"),
            (b"a\nb\n", b"a\r\nb\r\n.\r\n"),
            (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
            (b"a\r.\rb\r", b"a\r\n..\r\nb\r\n.\r\n"),
            (b"a\r\r\nb", b"a\r\n\r\nb\r\n.\r\n"),
            (b"a\n\r\n\rb", b"a\r\n\r\n\r\nb\r\n.\r\n"),
            (b"\r\n\r\n", b"\r\n\r\n.\r\n"),
            (b"a\0b\0\r\n\0.\r\n\0", b"ab\r\n..\r\n.\r\n"),
            (b"a\r\n\xff\xc3\xa4.\r\n", b"a\r\n\xff\xc3\xa4.\r\n.\r\n"),
        ];
        for (content, expected) in table {
            for cut in 0..=content.len() {
                let (left, right) = content.split_at(cut);
                let out = stuffed(&[left, right]);
                assert_eq!(&out, expected, "{} cut at {cut}: {}", content.escape_ascii(), out.escape_ascii());
            }
            let bytes: Vec<&[u8]> = content.chunks(1).collect();
            assert_eq!(&stuffed(&bytes), expected, "{} byte by byte", content.escape_ascii());
        }
    }

    #[test]
    fn every_short_content_ends_once_and_at_its_end() {
        let letters = [b'a', b'.', b'\r', b'\n', 0];
        for number in 0..5usize.pow(6) {
            let content: Vec<u8> = (0..6).map(|place| letters[number / 5usize.pow(place) % 5]).collect();
            let out = stuffed(&[&content[..3], &content[3..]]);
            let whole = [b"\r\n", &out[..]].concat();
            let end = memchr::memmem::find(&whole, b"\r\n.\r\n").expect("an end");
            assert_eq!(end + 5, whole.len(), "{}", content.escape_ascii());
            assert!(!out.contains(&0));
        }
    }
}
