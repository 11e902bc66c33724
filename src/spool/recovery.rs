//! Reading one segment, record by record: in normal running and after a crash alike.
//!
//! ```text
//!   | g1: r0 r1 r2 | g2: r0 | g3: r0 XX r2 | g4: r0 |        a bad record with a later group behind it: damaged,
//!                                    ^^                      reported, skipped
//!   | g1: r0 r1 r2 | g2: r0 | g3: r0 XX r2 | old stuff ..    with none: a torn tail, never acknowledged, cut
//!                                    ^^
//! ```
//!
//! A group is written only after the one before is durable, and the sectors of one group may reach the disk in any
//! order. So before the last group everything was durable, and within the last group anything may be missing. Where the
//! end is known (the segment is sealed by its successor's header, or its writer publishes it) everything before it was
//! durable, and a bad record is damage in any case.
//!
//! Promises: what is given out is whole and was written here, in this generation, at this place; each record once, in
//! order; nothing that was durable is passed over silently.

use super::file::ReadFile;
use super::record::{self, Found, Head, Place};
use super::segment::{BLOCK, FIRST_GROUP};
use memchr::memmem;
use std::io;

/// How far a segment may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// In octets.
    pub end: u64,
    /// Everything before `end` was durable once.
    pub durable: bool,
}

/// What the cursor has met.
#[derive(Debug)]
pub enum Met {
    /// A record that starts at this offset. `Cursor::fields` gives its fields.
    Record(u64, Head),
    /// No more up to the limit.
    End,
    /// Records of a group that was never wholly written start here; nothing behind them counts.
    TornTail(u64),
    /// Octets from .. to were durable once and hold no valid record any more; the next call goes on behind them.
    Damaged(u64, u64),
    /// The file cannot be read here.
    Unreadable(u64, io::Error),
}

/// A place in a segment and what is needed to go on from it.
#[derive(Debug)]
pub struct Cursor {
    file: ReadFile,
    salt: u64,
    position: u64,
    /// The record before `position`.
    before: Option<Place>,
    window: Window,
    with_content: bool,
    /// Where what was written ends, once that is found.
    end: Option<u64>,
}

/// A piece of the file in memory.
#[derive(Debug)]
struct Window {
    bytes: Vec<u8>,
    start: u64,
}

/// Octets read at once, at least.
const CHUNK: u64 = 256 << 10;

/// Can a writer have given a record this place? Whoever knows the salt can forge any, and reading must go on behind it.
fn is_possible(place: Place) -> bool {
    place.index <= place.last && place.group < u64::MAX
}

impl Cursor {
    /// At the first record. With `with_content` the content is verified too, not only head and fields. `memory` is what
    /// an earlier cursor left.
    pub fn new(file: ReadFile, salt: u64, with_content: bool, mut memory: Vec<u8>) -> Cursor {
        memory.clear();
        let window = Window { bytes: memory, start: 0 };
        Cursor { file, salt, position: FIRST_GROUP, before: None, window, with_content, end: None }
    }

    /// Its memory, for the next cursor.
    pub fn into_memory(self) -> Vec<u8> {
        self.window.bytes
    }

    /// The next record, or why there is none.
    pub fn next(&mut self, limit: Limit) -> Met {
        if self.position >= limit.end {
            self.end.get_or_insert(self.position);
            return Met::End;
        }
        match self.parse_at(self.position, limit.end, self.with_content) {
            Ok(Found::Record(head)) if self.is_expected(head.place) => self.step_over(head),
            Ok(_) => self.judge(limit).unwrap_or_else(|error| Met::Unreadable(self.position, error)),
            Err(error) => Met::Unreadable(self.position, error),
        }
    }

    /// Where the last whole group ends, in octets, once `next` has said [`Met::End`] or [`Met::TornTail`]. None: it has not,
    /// or a torn group begins with whole records.
    pub fn end(&self) -> Option<u64> {
        self.end.filter(|end| end.is_multiple_of(BLOCK))
    }

    /// The fields of the record that `next` gave last.
    pub fn fields(&self, at: u64, head: &Head) -> &[u8] {
        let start = (at - self.window.start) as usize;
        &self.window.bytes[start..][head.fields_range()]
    }

    /// Copies a range of the segment, for setting it aside.
    pub fn copy(&self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (to - from) as usize];
        let read = self.file.read_at(from, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    fn step_over(&mut self, head: Head) -> Met {
        let at = self.position;
        self.position += head.record_bytes() as u64;
        if head.place.index == head.place.last {
            self.position = self.position.next_multiple_of(BLOCK);
        }
        self.before = Some(head.place);
        Met::Record(at, head)
    }

    /// Does a record with this place stand where the next one must be?
    fn is_expected(&self, place: Place) -> bool {
        match self.before {
            Some(before) if before.index < before.last => place == Place { index: before.index + 1, ..before },
            before => {
                let group = before.map_or(0, |before| before.group) + 1;
                place.group == group && place.index == 0 && place.group_start == self.position
            }
        }
    }

    /// The group that the record at `position` belongs to.
    fn expected_group(&self) -> u64 {
        match self.before {
            Some(before) if before.index < before.last => before.group,
            Some(before) => before.group + 1,
            None => 1,
        }
    }

    /// There is no valid record at `position`: is it the end, a torn tail or damage?
    fn judge(&mut self, limit: Limit) -> io::Result<Met> {
        let from = self.position;
        let group = self.expected_group();
        let mut resume: Option<(u64, Place)> = None;
        let mut at = from;
        while let Some((found, place)) = self.find_record(at, limit.end)? {
            if place.group >= group && is_possible(place) {
                let first = *resume.get_or_insert((found, place));
                if limit.durable || place.group > group {
                    return Ok(self.resume_at(from, first));
                }
            }
            at = found + record::ALIGNMENT as u64;
        }
        self.position = limit.end;
        if limit.durable {
            return Ok(Met::Damaged(from, limit.end));
        }
        self.end = Some(from);
        let torn = resume.is_some() || self.holds_our_salt(from)?;
        Ok(if torn { Met::TornTail(from) } else { Met::End })
    }

    fn resume_at(&mut self, from: u64, (at, place): (u64, Place)) -> Met {
        self.position = at;
        // As if the record before had been read, so that this one is expected.
        self.before = Some(match place.index {
            0 => Place { group: place.group - 1, group_start: 0, index: 0, last: 0 },
            index => Place { index: index - 1, ..place },
        });
        Met::Damaged(from, at)
    }

    /// The first valid record at or behind `from`, wherever it stands in its group. Records and salts are aligned, so a
    /// salt is never split between two pieces.
    fn find_record(&mut self, from: u64, end: u64) -> io::Result<Option<(u64, Place)>> {
        let needle = self.salt.to_le_bytes();
        let mut at = from;
        while at + (record::HEAD_BYTES as u64) <= end {
            let piece = self.window_at(at, record::HEAD_BYTES, end)?;
            let searched = piece.len() as u64 / record::ALIGNMENT as u64 * record::ALIGNMENT as u64;
            let Some(hit) = memmem::find(piece, &needle) else {
                if searched == 0 {
                    return Ok(None);
                }
                at += searched;
                continue;
            };
            let salt_at = at + hit as u64;
            at = (salt_at + 1).next_multiple_of(record::ALIGNMENT as u64);
            let Some(start) = salt_at.checked_sub(record::SALT_AT as u64) else { continue };
            if start < from || !start.is_multiple_of(record::ALIGNMENT as u64) {
                continue;
            }
            if let Found::Record(head) = self.parse_at(start, end, true)? {
                let place = head.place;
                if place.group_start <= start && (place.index == 0) == (place.group_start == start) && place.group > 0 {
                    return Ok(Some((start, place)));
                }
            }
        }
        Ok(None)
    }

    fn holds_our_salt(&mut self, at: u64) -> io::Result<bool> {
        let salt = self.salt;
        let piece = self.window_at(at, record::HEAD_BYTES, at + BLOCK)?;
        Ok(piece.len() >= 16 && piece[record::SALT_AT..][..8] == salt.to_le_bytes())
    }

    fn parse_at(&mut self, at: u64, end: u64, with_content: bool) -> io::Result<Found> {
        let salt = self.salt;
        let mut needed = record::HEAD_BYTES;
        loop {
            let bytes = self.window_at(at, needed, end)?;
            let short = bytes.len() < needed;
            match record::parse(bytes, salt, end - at, with_content) {
                Found::Needs(_) if short => return Ok(Found::Nothing),
                Found::Needs(more) => needed = more,
                found => return Ok(found),
            }
        }
    }

    /// At least `needed` octets from `at`, unless the file or the limit ends before; and whatever follows in memory.
    fn window_at(&mut self, at: u64, needed: usize, end: u64) -> io::Result<&[u8]> {
        let window = &mut self.window;
        let have = at >= window.start && at + needed as u64 <= window.start + window.bytes.len() as u64;
        if !have {
            let length = CHUNK.max(needed as u64).min(end.saturating_sub(at));
            window.bytes.resize(length as usize, 0);
            window.start = at;
            match self.file.read_at(at, &mut window.bytes) {
                Ok(read) => window.bytes.truncate(read),
                Err(error) => {
                    window.bytes.clear();
                    return Err(error);
                }
            }
        }
        let from = (at - window.start) as usize;
        let to = window.bytes.len().min(from + end.saturating_sub(at) as usize);
        Ok(&window.bytes[from..to])
    }
}
