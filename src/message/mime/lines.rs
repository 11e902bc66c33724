//! Content that comes in pieces, cut into lines; lines end with CRLF and with nothing else.

use memchr::memchr;

/// Lines of up to so many octets come whole. Longer ones may come in parts; nothing may depend on how many.
pub const WHOLE_BYTES_MAX: usize = 4096;

/// A line, or a part of a long one.
#[derive(Debug)]
pub struct Line<'a> {
    /// Without the CRLF.
    pub octets: &'a [u8],
    /// The line starts with it.
    pub starts: bool,
    /// CRLF follows.
    pub ends: bool,
}

impl Line<'_> {
    /// What ends it.
    pub fn end(&self) -> &'static [u8] {
        if self.ends { b"\r\n" } else { b"" }
    }
}

/// Cuts pieces into lines.
#[derive(Debug, Default)]
pub struct Lines {
    carry: Vec<u8>,
    /// The line at the start of `carry` has been handed out in part.
    within: bool,
}

impl Lines {
    /// Hands the lines that end in `piece` to `each`.
    pub fn feed(&mut self, piece: &[u8], mut each: impl FnMut(&Line)) {
        let mut from = self.carry.len();
        self.carry.extend_from_slice(piece);
        let mut start = 0;
        while let Some(length) = memchr(b'\n', &self.carry[from..]) {
            let newline = from + length;
            from = newline + 1;
            if newline > start && self.carry[newline - 1] == b'\r' {
                each(&Line { octets: &self.carry[start..newline - 1], starts: !self.within, ends: true });
                self.within = false;
                start = from;
            }
        }
        if self.carry.len() - start > WHOLE_BYTES_MAX + 1 {
            // A CR at the end may be half of a CRLF.
            let end = self.carry.len() - usize::from(self.carry.ends_with(b"\r"));
            each(&Line { octets: &self.carry[start..end], starts: !self.within, ends: false });
            self.within = true;
            start = end;
        }
        self.carry.drain(..start);
    }

    /// Behind the last piece: a line that nothing ends.
    pub fn end(&mut self, mut each: impl FnMut(&Line)) {
        if !self.carry.is_empty() {
            each(&Line { octets: &self.carry, starts: !self.within, ends: false });
            self.carry.clear();
        }
    }
}
