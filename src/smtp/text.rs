//! The lines of content: up to where they can be handed out as they are, and what is to be known about them, in one pass.
//!
//! ```text
//!  ...lecture notes\r\nfor week one, \r\n..coursework \n at noon.
//!  |--- block ---|--- block ---|--- block ---|
//!      plain          plain      memchr3 to the next CRLF, then blocks again
//! ```
//!
//! Honest text goes by in blocks: each octet is compared with the one before it, all of a block at once and without a
//! branch, which the compiler turns into vector instructions by itself. A block that holds anything to decide about is
//! gone through line by line with `memchr3` for CR, LF and NUL. A line by line search alone takes as long as one that
//! checks nothing but line ends, and half as long again for the octets above 127 (`benches/end_of_data.rs`).
//!
//! [`super::body`] puts the rules for dots on top of it, [`super::chunk`] those for chunks.

pub use crate::message::LINE_BYTES_MAX;
pub use crate::policy::OddBytes;
use memchr::{memchr3, memrchr};

/// What was found in content so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// A bare CR, a bare LF or a NUL came in.
    pub odd: bool,
    /// A line of more than [`LINE_BYTES_MAX`] octets was handed out.
    pub long_line: bool,
    /// An octet above 127 was handed out.
    pub eight_bit: bool,
}

/// Why [`Text::next`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Behind CRLF: a dot comes next, or the input was used up.
    LineStart,
    /// Within a line: an odd octet was met, or the input was used up.
    Within,
    /// Behind a bare LF, for which CRLF was handed out.
    Newline,
    /// A CR was consumed and not handed out; what comes behind it decides.
    Cr,
}

/// Finds what can be handed out, and looks at it.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    pub(super) found: Findings,
    /// NULs that were not handed out.
    pub(super) dropped: u64,
    /// Octets handed out of the line that has not ended.
    line_bytes: usize,
}

impl Text {
    /// From the start of `input`, which is not empty, up to what cannot be handed out as it is. Returns how much was
    /// consumed, what to hand out, which may be nothing, and why it stopped.
    pub(super) fn next<'a>(&mut self, input: &'a [u8]) -> (usize, &'a [u8], Stop) {
        let (mut at, mut blocks_from) = (0, 0);
        while let Some(length) = memchr3(b'\r', b'\n', 0, &input[at..]) {
            let hit = at + length;
            self.part(&input[at..hit]);
            match (input[hit], input.get(hit + 1)) {
                (b'\r', Some(b'\n')) => {
                    self.line_bytes = 0;
                    at = hit + 2;
                    if at >= blocks_from {
                        at = self.blocks(input, at);
                        blocks_from = at + BLOCK_BYTES;
                    }
                    if self.line_bytes == 0 && input.get(at).is_none_or(|&octet| octet == b'.') {
                        return (at, &input[..at], Stop::LineStart);
                    }
                }
                (b'\r', _) => return (hit + 1, &input[..hit], Stop::Cr),
                (b'\n', _) if hit == 0 => return (1, self.odd_line_end(), Stop::Newline),
                (_, _) if hit == 0 => {
                    self.found.odd = true;
                    self.dropped += 1;
                    return (1, b"", Stop::Within);
                }
                // The odd octet is met again at the start of the next call.
                (_, _) => return (hit, &input[..hit], Stop::Within),
            }
        }
        self.part(&input[at..]);
        (input.len(), input, Stop::Within)
    }

    /// From `start`, which is behind a CRLF, past all blocks that hold nothing to decide about. Where the next line by
    /// line search starts.
    fn blocks(&mut self, input: &[u8], start: usize) -> usize {
        let mut at = start;
        let mut bits = 0;
        while let (Some(block), Some(before)) = (input[at..].first_chunk(), input[at - 1..].first_chunk()) {
            let Some(seen) = plain(block, before) else { break };
            bits |= seen;
            at += BLOCK_BYTES;
        }
        if at == start {
            return at;
        }
        self.found.eight_bit |= bits >= 128;
        // What is behind the CR decides.
        at -= usize::from(input[at - 1] == b'\r');
        self.line_bytes = memrchr(b'\n', &input[start - 1..at]).map_or(0, |newline| at - start - newline);
        at
    }

    /// The CRLF that was not within one input.
    pub(super) fn line_end(&mut self) -> &'static [u8] {
        self.line_bytes = 0;
        b"\r\n"
    }

    /// What is handed out for a bare CR or LF.
    pub(super) fn odd_line_end(&mut self) -> &'static [u8] {
        self.found.odd = true;
        self.line_end()
    }

    /// A part of a line, without its CRLF.
    pub(super) fn part(&mut self, part: &[u8]) {
        self.line_bytes += part.len();
        self.found.long_line |= self.line_bytes > LINE_BYTES_MAX;
        self.found.eight_bit |= !part.is_ascii();
    }
}

/// Octets that are looked at together. A block in which no line ends is not plain, so that a long line is always measured
/// line by line. Of 64, 128, 192 and 256 this is the fastest for lines of 60 to 78 octets.
const BLOCK_BYTES: usize = 128;

/// All bits of a block's octets, or none if something in it is to be decided: a CR or LF without the other, a NUL, a dot
/// at the start of a line, or no line end at all. `before` is the block one octet earlier.
fn plain(block: &[u8; BLOCK_BYTES], before: &[u8; BLOCK_BYTES]) -> Option<u8> {
    let (mut bits, mut newlines, mut stops) = (0, false, false);
    for (&octet, &before) in block.iter().zip(before) {
        bits |= octet;
        newlines |= octet == b'\n';
        stops |= (octet == b'\n') != (before == b'\r') || octet == 0 || (before == b'\n' && octet == b'.');
    }
    (newlines && !stops).then_some(bits)
}

/// What is found in content that was handed out, octet by octet, for tests.
pub(super) fn naive(content: &[u8]) -> Findings {
    let mut found = Findings::default();
    let mut line_bytes = 0;
    for (at, &octet) in content.iter().enumerate() {
        found.eight_bit |= octet >= 128;
        match &content[..at] {
            _ if octet == b'\r' && content.get(at + 1) == Some(&b'\n') => {}
            [.., b'\r'] if octet == b'\n' => line_bytes = 0,
            _ => line_bytes += 1,
        }
        found.long_line |= line_bytes > 998;
    }
    found
}
