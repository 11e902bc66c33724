//! Reads a server's replies, one line or many, in any pieces.
//!
//! ```text
//!  bytes -> line (<= 4096) -> code, `-` or ` `, text --+-> `-`: one more line of this reply
//!                                                      +-> ` `: the reply
//! ```
//!
//! Promises: memory is bounded whatever the peer sends; a line may be longer than the 512 octets of RFC 5321 section
//! 4.5.3.1.5, because some are; the text of a reply holds no control character, so that it can be logged and stored.

use super::{Reply, enhanced_code};

/// Longest line taken, in octets. RFC 5321 section 4.5.3.1.5 says 512; real servers send more.
const LINE_BYTES_MAX: usize = 4096;
/// Text kept of one reply, in octets; the rest is read and dropped. An EHLO reply fits many times over.
const TEXT_BYTES_MAX: usize = 8192;
/// Lines in one reply; past it the peer is not talking SMTP.
const LINES_MAX: usize = 256;
/// What is shown of a line that is no reply, in octets.
const SHOWN_BYTES_MAX: usize = 120;

/// A reply being read.
#[derive(Debug, Default)]
pub(super) struct Replies {
    line: Vec<u8>,
    code: u16,
    lines: usize,
    text: String,
}

impl Replies {
    /// Consumes a prefix of `input`, at most to the end of one reply. Errors: what was seen instead of a reply,
    /// without control characters and cut.
    pub(super) fn feed(&mut self, input: &[u8]) -> (usize, Option<Result<Reply, String>>) {
        let mut used = 0;
        while used < input.len() {
            let rest = &input[used..];
            let (piece, whole) = match memchr::memchr(b'\n', rest) {
                Some(at) => (&rest[..=at], true),
                None => (rest, false),
            };
            used += piece.len();
            if self.line.len() + piece.len() > LINE_BYTES_MAX {
                let room = SHOWN_BYTES_MAX.saturating_sub(self.line.len()).min(piece.len());
                self.line.extend_from_slice(&piece[..room]);
                return (used, Some(Err(format!("a line of more than {LINE_BYTES_MAX} octets: {}", self.shown()))));
            }
            self.line.extend_from_slice(piece);
            if whole {
                match self.end_line() {
                    Ok(None) => {}
                    Ok(Some(reply)) => return (used, Some(Ok(reply))),
                    Err(garbled) => return (used, Some(Err(garbled))),
                }
            }
        }
        (used, None)
    }

    /// Forgets a reply begun: what came in the clear must not be read as if it had come under TLS.
    pub(super) fn clear(&mut self) {
        self.line.clear();
        self.lines = 0;
        self.text.clear();
    }

    /// Takes the line in `self.line`; the whole reply if it was its last.
    fn end_line(&mut self) -> Result<Option<Reply>, String> {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some((code, more, text)) = parse_line(line) else { return Err(self.shown()) };
        if self.lines > 0 && code != self.code {
            return Err(format!("two codes in one reply: {} and {code}", self.code));
        }
        if self.lines == LINES_MAX {
            return Err(format!("a reply of more than {LINES_MAX} lines"));
        }
        if self.lines > 0 && self.text.len() < TEXT_BYTES_MAX {
            self.text.push('\n');
        }
        append_clean(if self.lines > 0 { without_code(text, &self.text) } else { text }, &mut self.text);
        self.code = code;
        self.lines += 1;
        self.line.clear();
        if more {
            return Ok(None);
        }
        self.lines = 0;
        Ok(Some(Reply { code, text: std::mem::take(&mut self.text), ours: false }))
    }

    fn shown(&self) -> String {
        let mut shown = String::new();
        append_clean(self.line[..self.line.len().min(SHOWN_BYTES_MAX)].trim_ascii_end(), &mut shown);
        shown
    }
}

/// Code, whether more lines follow, and text. RFC 5321 section 4.2: `250-text`, `250 text`, and `250` alone.
fn parse_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (code, rest) = line.split_at_checked(3)?;
    if !(b'2'..=b'5').contains(&code[0]) || !code.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = code.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match rest.split_first() {
        None => Some((code, false, b"")),
        Some((b' ', text)) => Some((code, false, text)),
        Some((b'-', text)) => Some((code, true, text)),
        Some(_) => None,
    }
}

/// A later line of the reply that begins with `first`, without the enhanced code that all of its lines repeat: RFC 2034
/// section 4. People read them as one sentence.
fn without_code<'a>(line: &'a [u8], first: &str) -> &'a [u8] {
    let Some(code) = enhanced_code(first) else { return line };
    match line.strip_prefix(code.as_bytes()).map(|rest| rest.split_first()) {
        Some(None) => b"",
        Some(Some((b' ', rest))) => rest,
        _ => line,
    }
}

/// Appends `text` without control characters, as UTF-8, within the bound.
fn append_clean(text: &[u8], to: &mut String) {
    for character in String::from_utf8_lossy(text).chars() {
        if to.len() + character.len_utf8() > TEXT_BYTES_MAX {
            return;
        }
        to.push(match character {
            '\t' => ' ',
            character if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') => '?',
            character => character,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All replies in `input`, fed in pieces of `size` octets.
    fn read(input: &[u8], size: usize) -> Vec<Result<Reply, String>> {
        let mut replies = Replies::default();
        let mut read = Vec::new();
        for mut piece in input.chunks(size) {
            while !piece.is_empty() {
                let (used, reply) = replies.feed(piece);
                assert!(used > 0);
                piece = &piece[used..];
                if let Some(reply) = reply {
                    let garbled = reply.is_err();
                    read.push(reply);
                    if garbled {
                        return read;
                    }
                }
            }
        }
        read
    }

    fn ok(code: u16, text: &str) -> Result<Reply, String> {
        Ok(Reply { code, text: text.into(), ours: false })
    }

    #[test]
    fn replies_in_every_split() {
        for (input, expected) in [
            (&b"220 hi\r\n"[..], vec![ok(220, "hi")]),
            (b"220\r\n250 \r\n", vec![ok(220, ""), ok(250, "")]),
            (b"250-a\r\n250-b\r\n250 c\r\n354 go\r\n", vec![ok(250, "a\nb\nc"), ok(354, "go")]),
            (b"250-\r\n250\r\n", vec![ok(250, "\n")]),
            (b"550-5.1.1 no\r\n550-5.1.1 such\r\n550 5.1.1\r\n", vec![ok(550, "5.1.1 no\nsuch\n")]),
            (b"550-5.1.1 no\r\n550-5.1.10 x\r\n550 5.7.1 y\r\n", vec![ok(550, "5.1.1 no\n5.1.10 x\n5.7.1 y")]),
            (b"250-SIZE 9\r\n250-SIZE 9\r\n250 1.2 c\r\n", vec![ok(250, "SIZE 9\nSIZE 9\n1.2 c")]),
            (b"250 bare newline\n", vec![ok(250, "bare newline")]),
            (b"550 a\tb\x1b[2Jc\x00\x7fd\xff\xc2\x85e\r\n", vec![ok(550, "a b?[2Jc??d\u{fffd}?e")]),
            (b"550 gr\xc3\xbc\xc3\x9fe\r\n", vec![ok(550, "grüße")]),
            (b"599 unknown code\r\n", vec![ok(599, "unknown code")]),
            (b"HTTP/1.1 400 Bad\r\n", vec![Err("HTTP/1.1 400 Bad".into())]),
            (b"150 one\r\n", vec![Err("150 one".into())]),
            (b"650 six\r\n", vec![Err("650 six".into())]),
            (b"250_x\r\n", vec![Err("250_x".into())]),
            (b"25\r\n", vec![Err("25".into())]),
            (b"\r\n", vec![Err("".into())]),
            (b"250-a\r\n251 b\r\n", vec![Err("two codes in one reply: 250 and 251".into())]),
        ] {
            for size in [1, 2, 3, 7, input.len()] {
                assert_eq!(read(input, size), expected, "{} by {size}", input.escape_ascii());
            }
        }
    }

    #[test]
    fn long_lines_are_read_up_to_a_bound_and_text_is_bounded() {
        let mut line = b"250 ".to_vec();
        line.resize(LINE_BYTES_MAX - 2, b'x');
        line.extend_from_slice(b"\r\n");
        assert!(read(&line, 1000)[0].is_ok());
        line.insert(4, b'x');
        assert!(read(&line, 1000)[0].is_err());
        let endless = vec![b'2'; 1 << 20];
        assert!(read(&endless, 1000)[0].as_ref().is_err_and(|text| text.len() < 300));

        let many = b"250-0123456789012345678901234567890123456789012345678901234567890\r\n".repeat(LINES_MAX - 1);
        let whole = [&many[..], b"250 end\r\n"].concat();
        let reply = read(&whole, 512).remove(0).expect("a reply");
        assert!(reply.text.len() <= TEXT_BYTES_MAX);
        let endless = [&many[..], &many[..]].concat();
        assert!(read(&endless, 512)[0].is_err());
    }
}
