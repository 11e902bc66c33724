//! The line scanner: command lines out of whatever pieces a connection brings.
//!
//! ```text
//!  input   |MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDA|          a line that is whole is borrowed, not copied
//!           '------ Whole ----'                 '-> carry     a line that is split is kept here until its CRLF
//! ```
//!
//! Only CRLF ends a line (RFC 5321 section 2.3.8). A bare LF is reported at once, so that a client which sends nothing
//! else gets an answer instead of a time-out; the session ends there, so that no peer can use it to split a line in
//! two. A line over the limit is swallowed up to its CRLF with bounded memory. What is found does not depend on where
//! the input was cut.

use memchr::memchr;
use zeroize::Zeroize;

/// Longest command line in octets with its CRLF. RFC 5321 section 4.5.3.1.4 asks for 512, the extensions add about
/// 1,200; lines of an AUTH exchange may have 12,288 (RFC 4954 section 4).
pub const COMMAND_BYTES_MAX: usize = 4096;
/// Longest line in an AUTH exchange, octets with CRLF. RFC 4954 section 4.
pub const AUTH_BYTES_MAX: usize = 12_288;
/// Octets of one line that are swallowed before the connection is given up.
const ENDLESS_BYTES: usize = 1 << 20;

/// Room that is made for a line that is split, octets: most need no more.
const CARRY_BYTES_MIN: usize = 128;

/// What is kept of a line over the limit, octets: a verb and the space behind it.
pub const HEAD_BYTES: usize = 8;

/// What the scanner found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line without its CRLF.
    Whole(&'a [u8]),
    /// A line over the limit ended; it was swallowed but for its first octets, which tell what it was about.
    TooLong([u8; HEAD_BYTES]),
    /// LF without CR before it.
    BareNewline,
    /// A line that does not end: give up.
    Endless,
}

/// Puts split lines together. Holds no memory between lines.
#[derive(Clone, Debug, Default)]
pub struct LineScanner {
    /// The start of a line whose CRLF has not come; at most the limit.
    carry: Vec<u8>,
    /// Octets of an over-long line that were dropped.
    swallowed: usize,
    /// How that line began.
    head: [u8; HEAD_BYTES],
}

impl LineScanner {
    /// The next line of at most `limit` octets with its CRLF, and how much of `input` was consumed. None: all of
    /// `input` was consumed and the line goes on.
    pub fn next<'a>(&'a mut self, input: &'a [u8], limit: usize) -> (usize, Option<Line<'a>>) {
        let Some(newline) = memchr(b'\n', input) else {
            return (input.len(), self.keep(input, limit));
        };
        let used = newline + 1;
        let before = if newline > 0 { input[newline - 1] } else { self.last() };
        if before != b'\r' {
            self.forget();
            return (used, Some(Line::BareNewline));
        }
        if self.swallowed > 0 || self.carry.len() + used > limit {
            let head = if self.swallowed > 0 { self.head } else { self.head_with(input) };
            self.forget();
            return (used, Some(Line::TooLong(head)));
        }
        if self.carry.is_empty() {
            return (used, Some(Line::Whole(&input[..newline - 1])));
        }
        self.append(&input[..newline]);
        (used, Some(Line::Whole(&self.carry[..self.carry.len() - 1])))
    }

    /// Are these the first octets of a line that goes on in `input`?
    pub fn begins_with(&self, octets: [u8; 2], input: &[u8]) -> bool {
        match (&self.carry[..], input) {
            _ if self.swallowed > 0 => false,
            ([], input) => input.starts_with(&octets),
            ([first], [second, ..]) => [*first, *second] == octets,
            _ => false,
        }
    }

    /// Has a line begun whose CRLF has not come?
    pub fn is_begun(&self) -> bool {
        !self.carry.is_empty()
    }

    /// Forgets a line that was given out or begun; keeps no memory, because most sessions are idle.
    pub fn forget(&mut self) {
        // It may have been a password.
        self.carry.zeroize();
        self.carry = Vec::new();
        self.swallowed = 0;
        self.head = [0; HEAD_BYTES];
    }

    fn keep(&mut self, input: &[u8], limit: usize) -> Option<Line<'static>> {
        if self.swallowed == 0 && self.carry.len() + input.len() <= limit {
            self.append(input);
            return None;
        }
        if self.swallowed == 0 {
            self.head = self.head_with(input);
        }
        // The last octet stays: it may be the CR of the CRLF that ends the line.
        self.swallowed += input.len();
        if let Some(&last) = input.last() {
            self.carry.clear();
            self.carry.push(last);
        }
        (self.swallowed > ENDLESS_BYTES).then_some(Line::Endless)
    }

    /// A buffer that becomes too small is wiped before it is freed: it may hold half a password.
    fn append(&mut self, octets: &[u8]) {
        let needed = self.carry.len() + octets.len();
        if needed > self.carry.capacity() {
            let mut larger = Vec::with_capacity((2 * needed).clamp(CARRY_BYTES_MIN, AUTH_BYTES_MAX.max(needed)));
            larger.extend_from_slice(&self.carry);
            self.carry.zeroize();
            self.carry = larger;
        }
        self.carry.extend_from_slice(octets);
    }

    fn head_with(&self, input: &[u8]) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head.iter_mut().zip(self.carry.iter().chain(input)).for_each(|(place, octet)| *place = *octet);
        head
    }

    fn last(&self) -> u8 {
        self.carry.last().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is found in `pieces`, as owned text.
    fn found(pieces: &[&[u8]], limit: usize) -> Vec<String> {
        let mut scanner = LineScanner::default();
        let mut found = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let (used, line) = scanner.next(rest, limit);
                rest = &rest[used..];
                if let Some(line) = line {
                    found.push(match line {
                        Line::Whole(text) => format!("whole {}", text.escape_ascii()),
                        Line::TooLong(head) => format!("TooLong {}", head.escape_ascii()),
                        other => format!("{other:?}"),
                    });
                    scanner.forget();
                }
            }
        }
        found
    }

    fn in_every_split(input: &[u8], limit: usize) -> Vec<String> {
        let whole = found(&[input], limit);
        for cut in 0..=input.len() {
            assert_eq!(found(&[&input[..cut], &input[cut..]], limit), whole, "cut at {cut}");
        }
        let octets: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(found(&octets, limit), whole, "octet by octet");
        whole
    }

    #[test]
    fn lines_end_with_crlf() {
        let lines = in_every_split(b"EHLO a\r\n\r\nNOOP x\ry\r\nQU", 512);
        assert_eq!(lines, ["whole EHLO a", "whole ", r"whole NOOP x\ry"]);
    }

    #[test]
    fn a_bare_newline_is_reported_and_ends_nothing() {
        assert_eq!(in_every_split(b"NOOP\nQUIT\r\n", 512), ["BareNewline", "whole QUIT"]);
        assert_eq!(in_every_split(b"\nA\r\n", 512), ["BareNewline", "whole A"]);
    }

    #[test]
    fn a_long_line_is_swallowed_in_step() {
        let input = b"0123456789\r\n012345\r\n0123456\r\nA\r\n";
        assert_eq!(in_every_split(input, 8), ["TooLong 01234567", "whole 012345", r"TooLong 0123456\r", "whole A"]);
    }

    #[test]
    fn an_endless_line_is_given_up_with_bounded_memory() {
        let mut scanner = LineScanner::default();
        let block = [b'a'; 4096];
        let mut given = 0;
        loop {
            given += block.len();
            assert!(given < 2 * ENDLESS_BYTES);
            let (used, line) = scanner.next(&block, 512);
            let given_up = line == Some(Line::Endless);
            assert_eq!(used, block.len());
            assert!(scanner.carry.len() <= 512);
            if given_up {
                break;
            }
        }
    }
}
