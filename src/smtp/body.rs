//! The content scanner: finds the end of the data, takes stuffed dots out and sees odd line endings, in one pass.
//!
//! ```text
//!                     \r\n          \r\n.  (one dot out)      \r\n.\r\n
//!  Text --------------------> LineStart ----> Dot -- \r --> DotCr -- \n --> End
//!   ^  \r                       |   ^          |              |
//!   '-------> Cr -- \n ---------|---'          '-- other      '-- other: a bare CR after the dot that was taken out
//!              '-- other: a bare CR            v                  v
//!  Text -- bare \n --> Newline -- . or other  Text              Text
//!                        (one dot out)  '---> Text
//! ```
//!
//! What lies between is found by [`super::text`] and handed out as slices of the input, not copied.
//!
//! Promises: only CRLF.CRLF ends the data (RFC 5321 section 4.1.1.4), at any split; exactly one dot is taken from a line
//! that starts with one (section 4.5.2), behind a CRLF or, because a client that ends its lines with LF alone stuffs its dots
//! there, behind a bare LF; no bare CR, bare LF or NUL is ever handed out: under
//! [`OddBytes::Normalize`] a bare CR or LF becomes CRLF and NUL is dropped, under [`OddBytes::Reject`] the scanner only
//! remembers that there was one ([`BodyScanner::refused`]).

use super::text::{self, Stop, Text};
pub use super::text::{Findings, LINE_BYTES_MAX, OddBytes};

/// What the scanner hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Content, unstuffed.
    Content(&'a [u8]),
    /// CRLF.CRLF was consumed.
    End,
    /// All input was consumed.
    More,
}

/// Where in a line the scanner is. CR and dots that have been read but not decided upon live here, not in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind CRLF, or at the very start.
    LineStart,
    /// Within a line.
    Text,
    /// Behind a CR within a line; the CR has not been handed out.
    Cr,
    /// Behind a dot at the start of a line; the dot is out.
    Dot,
    /// Behind that dot and a CR.
    DotCr,
    /// Behind a bare LF: a dot is taken out here too, and ends nothing.
    Newline,
}

/// Scans one message's content.
#[derive(Clone, Debug)]
pub struct BodyScanner {
    place: Place,
    odd_bytes: OddBytes,
    text: Text,
}

impl BodyScanner {
    /// A scanner at the start of a message's content.
    pub fn new(odd_bytes: OddBytes) -> BodyScanner {
        BodyScanner { place: Place::LineStart, odd_bytes, text: Text::default() }
    }

    /// What was found so far, in what was handed out.
    pub fn found(&self) -> Findings {
        self.text.found
    }

    /// NULs that came in and were not handed out.
    pub fn dropped(&self) -> u64 {
        self.text.dropped
    }

    /// Is the message to be refused for what it holds?
    pub fn refused(&self) -> bool {
        self.found().odd && self.odd_bytes == OddBytes::Reject
    }

    /// The next piece, and how much of `input` it consumed.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> (usize, Piece<'a>) {
        let mut at = 0;
        while at < input.len() {
            let octet = input[at];
            match self.place {
                Place::LineStart if octet == b'.' => {
                    self.place = Place::Dot;
                    at += 1;
                }
                Place::Newline if octet == b'.' => {
                    self.place = Place::Text;
                    at += 1;
                }
                Place::LineStart | Place::Text | Place::Newline => {
                    let (used, slice, stop) = self.text.next(&input[at..]);
                    self.place = match stop {
                        Stop::LineStart => Place::LineStart,
                        Stop::Within => Place::Text,
                        Stop::Newline => Place::Newline,
                        Stop::Cr => Place::Cr,
                    };
                    at += used;
                    if !slice.is_empty() {
                        return (at, Piece::Content(slice));
                    }
                }
                Place::Dot if octet == b'\r' => {
                    self.place = Place::DotCr;
                    at += 1;
                }
                Place::Dot => self.place = Place::Text,
                Place::DotCr if octet == b'\n' => return (at + 1, Piece::End),
                Place::Cr if octet == b'\n' => {
                    self.place = Place::LineStart;
                    return (at + 1, Piece::Content(self.text.line_end()));
                }
                Place::Cr | Place::DotCr => {
                    self.place = Place::Text;
                    return (at, Piece::Content(self.text.odd_line_end()));
                }
            }
        }
        (at, Piece::More)
    }
}

/// The same rules, octet by octet, for tests and benches: what is handed out in all, what was found, and how much of
/// `input` was consumed up to the end of the data, if it came.
#[doc(hidden)]
pub fn naive(input: &[u8]) -> (Vec<u8>, Findings, Option<usize>) {
    let (mut content, mut odd, mut end) = (Vec::new(), false, None);
    let mut at = 0;
    let (mut line_start, mut newline) = (true, false);
    while at < input.len() {
        let rest = &input[at..];
        if line_start && rest.starts_with(b".\r\n") {
            end = Some(at + 3);
            break;
        }
        if (line_start || newline) && rest[0] == b'.' {
            at += 1;
            (line_start, newline) = (false, false);
            continue;
        }
        newline = rest[0] == b'\n';
        line_start = false;
        match rest[0] {
            b'\r' if rest.len() == 1 => at += 1,
            b'\r' if rest[1] == b'\n' => {
                content.extend_from_slice(b"\r\n");
                line_start = true;
                at += 2;
            }
            b'\r' | b'\n' => {
                content.extend_from_slice(b"\r\n");
                odd = true;
                at += 1;
            }
            0 => {
                odd = true;
                at += 1;
            }
            octet => {
                content.push(octet);
                at += 1;
            }
        }
    }
    let found = Findings { odd, ..text::naive(&content) };
    (content, found, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(pieces: &[&[u8]]) -> (Vec<u8>, Findings, Option<usize>) {
        let mut scanner = BodyScanner::new(OddBytes::Normalize);
        let (mut content, mut consumed) = (Vec::new(), 0);
        for piece in pieces {
            let mut rest = *piece;
            loop {
                let (used, found) = scanner.next(rest);
                consumed += used;
                rest = &rest[used..];
                match found {
                    Piece::Content(slice) => content.extend_from_slice(slice),
                    Piece::End => return (content, scanner.found(), Some(consumed)),
                    Piece::More => break,
                }
            }
            assert!(rest.is_empty(), "More means that all was consumed");
        }
        (content, scanner.found(), None)
    }

    fn same_in_every_split(input: &[u8]) {
        let expected = naive(input);
        assert_eq!(scan(&[input]), expected, "whole: {}", input.escape_ascii());
        for cut in 0..=input.len() {
            assert_eq!(scan(&[&input[..cut], &input[cut..]]), expected, "{} cut at {cut}", input.escape_ascii());
        }
        let octets: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(scan(&octets), expected, "octet by octet: {}", input.escape_ascii());
    }

    // covers: 6.4 6.5 6.6
    #[test]
    fn the_end_is_crlf_dot_crlf_and_nothing_else() {
        for (input, content, end) in [
            (&b"a\r\n.\r\nQUIT"[..], &b"a\r\n"[..], Some(6)),
            (b".\r\n", b"", Some(3)),
            (b"..\r\n.\r\n", b".\r\n", Some(7)),
            (b"a\n.\nb", b"a\r\n\r\nb", None),
            (b"a\n.\r\nb", b"a\r\n\r\nb", None),
            (b"a\n..\n.b\n\n.\r\n.\r\n", b"a\r\n.\r\nb\r\n\r\n\r\n", Some(15)),
            (b"a\n\0.\nb", b"a\r\n.\r\nb", None),
            (b"a\r\n.\nb", b"a\r\n\r\nb", None),
            (b"a\r.\rb", b"a\r\n.\r\nb", None),
            (b"a\r.\r\nb", b"a\r\n.\r\nb", None),
            (b"a\r\n.\rb\r\n", b"a\r\n\r\nb\r\n", None),
            (b"a\r\n.\0\r\nb", b"a\r\n\r\nb", None),
            (b"a\r\n\0.\r\nb", b"a\r\n.\r\nb", None),
            (b"a\r\n. \r\nb", b"a\r\n \r\nb", None),
            (b"a\r\n.\r\r\n.\r\n", b"a\r\n\r\n\r\n", Some(10)),
        ] {
            let (found, _, consumed) = scan(&[input]);
            assert_eq!(found, content, "{}", input.escape_ascii());
            assert_eq!(consumed, end, "{}", input.escape_ascii());
            same_in_every_split(input);
        }
    }

    #[test]
    fn odd_bytes_are_seen() {
        for (input, odd) in
            [(&b"a\r\n"[..], false), (b"a\nb", true), (b"a\rb", true), (b"a\0b", true), (b"\xff", false)]
        {
            assert_eq!(scan(&[input]).1.odd, odd, "{}", input.escape_ascii());
        }
        let mut scanner = BodyScanner::new(OddBytes::Reject);
        scanner.next(b"a");
        assert!(!scanner.refused());
        scanner.next(b"\n");
        assert!(scanner.refused());
    }

    #[test]
    fn all_short_inputs_over_the_octets_that_matter() {
        let alphabet = [b'\r', b'\n', b'.', b'a', 0];
        for length in 0..=6u32 {
            for mut code in 0..5usize.pow(length) {
                let mut input = vec![b'\r', b'\n'];
                for _ in 0..length {
                    input.push(alphabet[code % 5]);
                    code /= 5;
                }
                let expected = naive(&input);
                assert_eq!(scan(&[&input]), expected, "{}", input.escape_ascii());
                let octets: Vec<&[u8]> = input.chunks(1).collect();
                assert_eq!(scan(&octets), expected, "octet by octet {}", input.escape_ascii());
            }
        }
    }

    /// Lines of mail, now and then with something odd in them: long enough for the scanner to go by blocks.
    fn lines() -> impl Strategy<Value = Vec<u8>> {
        let honest = (0..80usize).prop_map(|length| [&b"x".repeat(length)[..], b"\r\n"].concat());
        const ODD: [&[u8]; 8] = [b".", b".\r\n", b"\n.\r\n", b"\r.\r\n", b"\n", b"\r", b"\0", b"\xe4"];
        let odd = proptest::sample::select(&ODD[..]);
        proptest::collection::vec(prop_oneof![20 => honest, 1 => odd.prop_map(<[u8]>::to_vec)], 0..40)
            .prop_map(|lines| lines.concat())
    }

    // covers: 6.7
    #[test]
    fn long_lines_are_measured_without_their_end_and_their_stuffed_dot() {
        for (start, length, long) in
            [("", 998, false), ("", 999, true), ("..", 997, false), ("..", 998, true), ("a\r\n", 998, false)]
        {
            for (behind, before) in [(0, 0), (300, 0), (0, 300), (300, 300)] {
                let honest = |size: usize| b"0123456\r\n".repeat(size / 9);
                let line = [start.as_bytes(), &b"y".repeat(length), b"\r\n"].concat();
                let input = [honest(before), line, honest(behind), b".\r\n".to_vec()].concat();
                let expected = Findings { long_line: long, ..Findings::default() };
                assert_eq!(naive(&input).1, expected, "{start:?} {length}");
                same_in_every_split(&input);
            }
        }
    }

    proptest! {
        #[test]
        fn fast_and_naive_agree(input in proptest::collection::vec(prop_oneof![
            Just(b'\r'), Just(b'\n'), Just(b'.'), Just(0u8), any::<u8>(), Just(b'x')], 0..200)) {
            same_in_every_split(&input);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn fast_and_naive_agree_on_mail(input in lines()) {
            same_in_every_split(&input);
        }
    }
}
