//! The chunk scanner: content that comes by BDAT (RFC 3030), with the same promises about odd bytes as for DATA.
//!
//! ```text
//!  BDAT 7     BDAT 5 LAST
//!  a b c \r | \n d \r e \r |      is handed out as  abc  \r\n  d  \r\n  e  \r\n
//!         '---'     '    '-- bare: nothing comes behind it ([`ChunkScanner::end`])
//!      one CRLF      bare: not LF behind it
//! ```
//!
//! A chunk's length is counted by whoever reads the commands: here come its octets, in any pieces. Dots mean nothing.
//!
//! Promises: no bare CR, bare LF or NUL is handed out, wherever the chunks are cut, but for BODY=BINARYMIME, whose content
//! is handed out as it is (section 3); what is handed out and found does not depend on the cuts.

use super::body::{Findings, OddBytes};
use super::text::{self, Stop, Text};
use memchr::memchr3;

/// Scans one message's chunks.
#[derive(Clone, Debug)]
pub struct ChunkScanner {
    /// None: BINARYMIME.
    odd_bytes: Option<OddBytes>,
    /// A CR was the last octet; only BINARYMIME has handed it out.
    carriage_return: bool,
    text: Text,
}

impl ChunkScanner {
    /// At the start of a message's first chunk; BODY is 7BIT or 8BITMIME.
    pub fn new(odd_bytes: OddBytes) -> ChunkScanner {
        ChunkScanner { odd_bytes: Some(odd_bytes), carriage_return: false, text: Text::default() }
    }

    /// The same, BODY is BINARYMIME.
    pub fn binary() -> ChunkScanner {
        ChunkScanner { odd_bytes: None, carriage_return: false, text: Text::default() }
    }

    /// The next slice of content, and how much of `input` it consumed, which may be nothing; none: all was consumed.
    /// `input` may end anywhere within a chunk, and holds nothing but octets of chunks.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> (usize, Option<&'a [u8]>) {
        if self.odd_bytes.is_none() && !input.is_empty() {
            self.look_at_binary(input);
            return (input.len(), Some(input));
        }
        let mut at = 0;
        while at < input.len() {
            if std::mem::take(&mut self.carriage_return) {
                return match input[at] {
                    b'\n' => (at + 1, Some(self.text.line_end())),
                    _ => (at, Some(self.text.odd_line_end())),
                };
            }
            let (used, slice, stop) = self.text.next(&input[at..]);
            self.carriage_return = stop == Stop::Cr;
            at += used;
            if !slice.is_empty() {
                return (at, Some(slice));
            }
        }
        (at, None)
    }

    /// Behind the last chunk: what was still undecided.
    pub fn end(&mut self) -> Option<&'static [u8]> {
        if !std::mem::take(&mut self.carriage_return) {
            return None;
        }
        if self.odd_bytes.is_none() {
            self.binary_part(b"\r");
            self.text.found.odd = true;
            return None;
        }
        Some(self.text.odd_line_end())
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
        self.found().odd && self.odd_bytes == Some(OddBytes::Reject)
    }

    /// Lines end with CRLF here too; a bare CR or LF and NUL are octets of a line.
    fn look_at_binary(&mut self, input: &[u8]) {
        let mut at = 0;
        while let Some(length) = memchr3(b'\r', b'\n', 0, &input[at..]) {
            let hit = at + length;
            self.binary_part(&input[at..hit]);
            self.binary_octet(input[hit]);
            at = hit + 1;
        }
        self.binary_part(&input[at..]);
    }

    fn binary_part(&mut self, part: &[u8]) {
        if part.is_empty() {
            return;
        }
        if std::mem::take(&mut self.carriage_return) {
            self.text.found.odd = true;
            self.text.part(b"\r");
        }
        self.text.part(part);
    }

    fn binary_octet(&mut self, octet: u8) {
        let behind_cr = std::mem::replace(&mut self.carriage_return, octet == b'\r');
        if behind_cr && octet == b'\n' {
            self.text.line_end();
            return;
        }
        if behind_cr {
            self.text.found.odd = true;
            self.text.part(b"\r");
        }
        if octet != b'\r' {
            self.text.found.odd = true;
            self.text.part(&[octet]);
        }
    }
}

/// The same rules on all chunks together, octet by octet, for tests: what is handed out in all, and what was found.
#[doc(hidden)]
pub fn naive(input: &[u8], binary: bool) -> (Vec<u8>, Findings) {
    let (mut content, mut odd) = (Vec::new(), false);
    for (at, &octet) in input.iter().enumerate() {
        let line_end = match octet {
            b'\r' => input.get(at + 1) == Some(&b'\n'),
            b'\n' => input[..at].ends_with(b"\r"),
            _ => false,
        };
        match octet {
            _ if line_end => content.push(octet),
            b'\r' | b'\n' => {
                odd = true;
                content.extend_from_slice(if binary { std::slice::from_ref(&octet) } else { b"\r\n" });
            }
            0 => {
                odd = true;
                content.extend_from_slice(if binary { b"\0" } else { b"" });
            }
            _ => content.push(octet),
        }
    }
    let found = Findings { odd, ..text::naive(&content) };
    (content, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(chunks: &[&[u8]], mut scanner: ChunkScanner) -> (Vec<u8>, Findings) {
        let mut content = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            loop {
                let (used, slice) = scanner.next(rest);
                rest = &rest[used..];
                match slice {
                    Some(slice) => content.extend_from_slice(slice),
                    None => break,
                }
            }
            assert!(rest.is_empty(), "none means that all was consumed");
        }
        content.extend_from_slice(scanner.end().unwrap_or_default());
        (content, scanner.found())
    }

    fn same_in_every_chunking(input: &[u8]) {
        for (binary, scanner) in [(false, ChunkScanner::new(OddBytes::Normalize)), (true, ChunkScanner::binary())] {
            let expected = naive(input, binary);
            let same = |chunks: &[&[u8]]| {
                assert_eq!(scan(chunks, scanner.clone()), expected, "{chunks:?} binary: {binary}");
            };
            same(&[input]);
            (0..=input.len()).for_each(|cut| same(&[&input[..cut], &input[cut..]]));
            (1..=3).for_each(|size| same(&input.chunks(size).collect::<Vec<_>>()));
        }
    }

    // covers: 6.5 6.5a
    #[test]
    fn odd_bytes_in_chunks() {
        for (input, content, odd) in [
            (&b"a\r\n"[..], &b"a\r\n"[..], false),
            (b".\r\n", b".\r\n", false),
            (b"a\r\n.\r\nb", b"a\r\n.\r\nb", false),
            (b"a\nb", b"a\r\nb", true),
            (b"a\rb", b"a\r\nb", true),
            (b"a\r", b"a\r\n", true),
            (b"a\r\r\n", b"a\r\n\r\n", true),
            (b"a\0b", b"ab", true),
            (b"\r\0\n", b"\r\n\r\n", true),
            (b"a\n.\r\n", b"a\r\n.\r\n", true),
            (b"", b"", false),
        ] {
            let (found, findings) = scan(&[input], ChunkScanner::new(OddBytes::Normalize));
            assert_eq!((&found[..], findings.odd), (content, odd), "{}", input.escape_ascii());
            let (found, findings) = scan(&[input], ChunkScanner::binary());
            assert_eq!((&found[..], findings.odd), (input, odd), "{}", input.escape_ascii());
            same_in_every_chunking(input);
        }
    }

    // covers: 6.5
    #[test]
    fn what_is_odd_is_refused_at_its_end_but_not_for_binary() {
        for (scanner, refused) in
            [(ChunkScanner::new(OddBytes::Reject), true), (ChunkScanner::new(OddBytes::Normalize), false)]
        {
            for input in [&b"a\nb"[..], b"a\r", b"\0", b"a\rb"] {
                let mut scanner = scanner.clone();
                let mut rest = input;
                while let (used, Some(_)) = scanner.next(rest) {
                    rest = &rest[used..];
                }
                scanner.end();
                assert_eq!(scanner.refused(), refused, "{}", input.escape_ascii());
            }
        }
        let mut binary = ChunkScanner::binary();
        binary.next(b"a\nb\0\r");
        binary.end();
        assert!(binary.found().odd && !binary.refused());
    }

    #[test]
    fn all_short_inputs_over_the_octets_that_matter() {
        let alphabet = [b'\r', b'\n', b'.', b'a', 0];
        for length in 0..=5u32 {
            for mut code in 0..5usize.pow(length) {
                let mut input = Vec::new();
                for _ in 0..length {
                    input.push(alphabet[code % 5]);
                    code /= 5;
                }
                same_in_every_chunking(&input);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn fast_and_naive_agree(input in proptest::collection::vec(prop_oneof![
            Just(b'\r'), Just(b'\n'), Just(b'.'), Just(0u8), any::<u8>(), Just(b'x')], 0..100),
            long in 990..1010usize) {
            same_in_every_chunking(&input);
            same_in_every_chunking(&[&input[..], &b"y".repeat(long), &input].concat());
            same_in_every_chunking(&[&input[..], &b"plain text\r\n".repeat(40), &input].concat());
        }
    }
}
