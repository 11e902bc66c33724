//! What is sent of a message: the prepended header fields, then the content without its removed ranges. And what the
//! next server must offer so that it can be sent.

use crate::relay::notification;
use crate::smtp::client::Body;
use crate::smtp::envelope::View;
use crate::spool::Content;

/// Leaves removed ranges out of content that comes in pieces.
#[derive(Clone, Debug)]
pub struct Cutter {
    /// Sorted, not overlapping, not empty; offsets in the whole content.
    removed: Vec<(u64, u64)>,
    /// Offset of the next octet.
    offset: u64,
}

impl Cutter {
    /// At the start of content whose `removed` ranges (start, end) are not sent. They may come in any order.
    pub fn new(removed: &[(u64, u64)]) -> Cutter {
        let mut removed: Vec<_> = removed.iter().copied().filter(|(start, end)| start < end).collect();
        removed.sort_unstable();
        removed.dedup_by(|next, last| {
            let joins = next.0 <= last.1;
            if joins {
                last.1 = last.1.max(next.1);
            }
            joins
        });
        Cutter { removed, offset: 0 }
    }

    /// Takes the next kept slice off the front of `piece`; none when `piece` is used up. The pieces follow each other.
    pub fn kept<'a>(&mut self, piece: &mut &'a [u8]) -> Option<&'a [u8]> {
        while !piece.is_empty() {
            let next = self.removed.partition_point(|&(_, end)| end <= self.offset);
            let (start, end) = self.removed.get(next).copied().unwrap_or((u64::MAX, u64::MAX));
            let (until, keep) = if self.offset < start { (start, true) } else { (end, false) };
            let length = usize::try_from(until - self.offset).unwrap_or(usize::MAX).min(piece.len());
            let (slice, rest) = piece.split_at(length);
            *piece = rest;
            self.offset += length as u64;
            if keep {
                return Some(slice);
            }
        }
        None
    }
}

/// Finds where the header ends and whether there is 8-bit data in header and body, in content that comes in pieces.
#[derive(Clone, Debug)]
pub struct Scan {
    in_header: bool,
    line_start: bool,
    header_eight_bit: bool,
    body_eight_bit: bool,
}

impl Default for Scan {
    fn default() -> Scan {
        Scan { in_header: true, line_start: true, header_eight_bit: false, body_eight_bit: false }
    }
}

impl Scan {
    /// Reads the next piece. Returns the length of its part of the header, with the empty line.
    pub fn feed(&mut self, piece: &[u8]) -> usize {
        let mut at = 0;
        while self.in_header && at < piece.len() {
            match piece[at] {
                b'\n' if self.line_start => self.in_header = false,
                b'\n' => self.line_start = true,
                b'\r' => {}
                octet => {
                    self.line_start = false;
                    self.header_eight_bit |= !octet.is_ascii();
                }
            }
            at += 1;
        }
        self.body_eight_bit |= !piece[at..].is_ascii();
        at
    }
}

/// What the next server must offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// 8BITMIME or BINARYMIME.
    pub body: Body,
    /// SMTPUTF8, for the header; addresses are for the client to look at.
    pub smtputf8: bool,
    /// Nobody takes that: lines of more than 998 octets.
    pub long_lines: bool,
}

impl Needs {
    /// `content` if it is in memory; one that is not is never read for this, as it may be large. A client that said
    /// SMTPUTF8 or BODY=8BITMIME to be safe and then sent ASCII needs neither.
    pub fn of(view: &View, content: Option<&[u8]>) -> Needs {
        let (header, anywhere) = match (view.eight_bit, content) {
            (Some(false), _) => (false, false),
            (_, Some(content)) => {
                let mut scan = Scan::default();
                scan.feed(content);
                (scan.header_eight_bit, scan.header_eight_bit || scan.body_eight_bit)
            }
            // Whoever received it has not looked: what BODY says. Where in the content it is, nobody knows.
            (found, None) => (true, found.unwrap_or(view.body > 0)),
        };
        let prepended = !view.prepended.is_ascii();
        let body = match (view.body, anywhere || prepended) {
            // Whatever it holds, line ends in it are its own.
            (2, _) => Body::Binary,
            (_, true) => Body::EightBit,
            (_, false) => Body::SevenBit,
        };
        let smtputf8 = view.smtputf8 && (header || prepended);
        let long_lines = view.long_line.unwrap_or_else(|| content.is_some_and(notification::has_long_line));
        Needs { body, smtputf8, long_lines }
    }
}

/// Octets that will be sent of content of `length` octets, before dots are stuffed: for SIZE=.
pub fn size(view: &View, length: u64) -> u64 {
    let removed: u64 = Cutter::new(&view.removed).removed.iter().map(|(start, end)| end - start).sum();
    (view.prepended.len() as u64 + length).saturating_sub(removed)
}

/// The beginning of what is sent, for a bounce: the header, or all of it if `whole` is wished for and it has no more
/// than `bytes_max` octets. The second value says which it is. Errors: the content cannot be read, as text.
pub fn beginning(view: &View, content: &mut Content, whole: bool, bytes_max: usize) -> Result<(Vec<u8>, bool), String> {
    let mut sent = view.prepended.to_vec();
    let (mut cutter, mut scan) = (Cutter::new(&view.removed), Scan::default());
    let mut header = scan.feed(&sent);
    let mut take = |mut piece: &[u8]| {
        while let Some(kept) = cutter.kept(&mut piece) {
            header += scan.feed(kept);
            let room = (bytes_max + 1).saturating_sub(sent.len());
            sent.extend_from_slice(&kept[..kept.len().min(room)]);
        }
        sent.len() <= bytes_max
    };
    match content {
        Content::Memory(content) => {
            take(content);
        }
        Content::Spilled(reader) => loop {
            let piece = reader.next()?;
            if piece.is_empty() || !take(piece) {
                break;
            }
        },
    }
    if whole && sent.len() <= bytes_max {
        return Ok((sent, true));
    }
    sent.truncate(header.min(bytes_max));
    // The empty line is not the header's; half a line is nobody's.
    let end = memchr::memrchr(b'\n', &sent).map_or(0, |at| at + 1);
    sent.truncate(end);
    while sent.ends_with(b"\r\n\r\n") || sent.ends_with(b"\n\n") {
        let length = if sent.ends_with(b"\r\n") { 2 } else { 1 };
        sent.truncate(sent.len() - length);
    }
    Ok((sent, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_message() {
        let view = View { prepended: b"X: y\r\n", removed: vec![(0, 7)], ..View::default() };
        for (content, wished, bytes_max, expected, whole) in [
            (&b"Bcc: z\nA: b\r\n\r\nbody\r\n"[..], false, 100, &b"X: y\r\nA: b\r\n"[..], false),
            (b"Bcc: z\nA: b\r\n\r\nbody\r\n", true, 100, b"X: y\r\nA: b\r\n\r\nbody\r\n", true),
            (b"Bcc: z\nA: b\r\n\r\nbody\r\n", true, 15, b"X: y\r\nA: b\r\n", false),
            (b"Bcc: z\nA: b\r\nC: d\r\n\r\n", true, 14, b"X: y\r\nA: b\r\n", false),
            (b"Bcc: z\nA: b", false, 100, b"X: y\r\n", false),
            (b"Bcc: z\n", false, 100, b"X: y\r\n", false),
        ] {
            let found = beginning(&view, &mut Content::Memory(content.to_vec()), wished, bytes_max);
            assert_eq!(found, Ok((expected.to_vec(), whole)), "{}", content.escape_ascii());
        }
    }

    fn kept(content: &[u8], removed: &[(u64, u64)], size: usize) -> Vec<u8> {
        let mut cutter = Cutter::new(removed);
        let mut out = Vec::new();
        for mut piece in content.chunks(size) {
            while let Some(slice) = cutter.kept(&mut piece) {
                out.extend_from_slice(slice);
            }
        }
        out
    }

    #[test]
    fn removed_ranges_are_left_out_in_every_split() {
        for (removed, expected) in [
            (&[][..], &b"0123456789"[..]),
            (&[(0, 3)], b"3456789"),
            (&[(7, 10)], b"0123456"),
            (&[(7, 99)], b"0123456"),
            (&[(5, 7), (1, 2)], b"0234789"),
            (&[(1, 4), (2, 6), (6, 7)], b"0789"),
            (&[(3, 3), (5, 4)], b"0123456789"),
            (&[(0, 10)], b""),
        ] {
            for size in 1..=10 {
                assert_eq!(kept(b"0123456789", removed, size), expected, "{removed:?} by {size}");
            }
        }
    }

    #[test]
    fn eight_bit_is_found_where_it_is() {
        for (content, header, body, length) in [
            (&b"A: b\r\n\r\nbody"[..], false, false, 8),
            (b"A: b\r\n\r\nb\xc3\xb6dy", false, true, 8),
            (b"A: \xc3\xb6\r\nB: c\r\n\r\nbody", true, false, 15),
            (b"\r\nb\xc3\xb6dy", false, true, 2),
            (b"A: b\n\n\xff", false, true, 6),
            (b"A: b\r\n", false, false, 6),
        ] {
            for size in 1..=content.len() {
                let mut scan = Scan::default();
                let read: usize = content.chunks(size).map(|piece| scan.feed(piece)).sum();
                let found = (scan.header_eight_bit, scan.body_eight_bit, read);
                assert_eq!(found, (header, body, length), "{} by {size}", content.escape_ascii());
            }
        }
    }

    #[test]
    fn what_the_next_server_must_offer() {
        let needs = |eight_bit, smtputf8| Needs {
            body: if eight_bit { Body::EightBit } else { Body::SevenBit },
            smtputf8,
            long_lines: false,
        };
        let (plain, body, header) = (&b"A: b\r\n\r\nc"[..], &b"A: b\r\n\r\n\xff"[..], &b"A: \xff\r\n\r\nc"[..]);
        for (eight_bit, declared, content, expected) in [
            (None, 1, Some(plain), needs(false, false)),
            (None, 0, Some(body), needs(true, false)),
            (Some(true), 0, Some(body), needs(true, false)),
            (Some(true), 0, Some(header), needs(true, true)),
            (Some(false), 1, Some(plain), needs(false, false)),
            // Not in memory.
            (Some(false), 1, None, needs(false, false)),
            (Some(true), 0, None, needs(true, true)),
            (None, 1, None, needs(true, true)),
            (None, 0, None, needs(false, true)),
        ] {
            let view = View { smtputf8: true, body: declared, eight_bit, ..View::default() };
            assert_eq!(Needs::of(&view, content), expected, "{eight_bit:?} {declared} {content:?}");
            let without = Needs::of(&View { smtputf8: false, ..view }, content);
            assert_eq!(without, Needs { smtputf8: false, ..expected }, "{eight_bit:?} {declared} {content:?}");
        }
        let mut view = View { eight_bit: Some(false), ..View::default() };
        view.prepended = "X: \u{fc}\r\n".as_bytes();
        assert_eq!(Needs::of(&view, None), needs(true, false));
        view.smtputf8 = true;
        assert_eq!(Needs::of(&view, None), needs(true, true));
        let view = View { reverse_path: "gr\u{fc}n@b".as_bytes(), eight_bit: Some(false), ..View::default() };
        assert_eq!(Needs::of(&view, None), needs(false, false));
        for content in [None, Some(plain)] {
            let view = View { body: 2, eight_bit: Some(false), ..View::default() };
            assert_eq!(Needs::of(&view, content).body, Body::Binary);
        }
    }

    #[test]
    fn the_size_counts_what_is_sent() {
        let view = View { prepended: b"X: y\r\n", removed: vec![(2, 5), (4, 6)], ..View::default() };
        assert_eq!(size(&view, 100), 102);
    }
}
