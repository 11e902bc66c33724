//! Group commit: which records are written together, and who is told. Knows no file and no clock.
//!
//! ```text
//!  append -> filling  --step--> in flight --written(Ok)--> tickets: durable
//!            (whatever arrives     |
//!             while a write is     +------written(Err)--> segment is over: its successor's header must say so
//!             in flight is the                            --segment(..)--> tickets: Disk
//!             next group)
//! ```
//!
//! There is no timer: idle, a group is one record and waits for nothing; busy, groups grow by themselves.
//!
//! Promises:
//! - One write is in flight at most, so a group is written only after the one before is durable.
//! - A ticket says yes only after the write that held its record has succeeded.
//! - A failed write is final for its segment: nothing is written there again, and the group's tickets fail, but not before
//!   the next segment's header, which seals the failed one at its last durable end, is durable or has failed too.
//! - What waits is bounded; past the bound `append` refuses.

use super::record::{self, Place};
use super::segment::{BLOCK, End, FIRST_GROUP, Sealed};
use super::{CommitError, QueueId};
use std::collections::VecDeque;

/// What the driver must do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing until the next `append`.
    Rest,
    /// Write all of `bytes` durably at `offset`, then call `written` with the same buffer.
    Write {
        /// A multiple of 4096.
        offset: u64,
        /// Whole blocks.
        bytes: Vec<u8>,
    },
    /// Take a spare segment, make its header durable with `sealed` in it, then call `segment`.
    NewSegment {
        /// The segment before, and where it ends.
        sealed: Option<Sealed>,
    },
}

/// A segment whose header is durable and that holds no record yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreshSegment {
    /// Its number.
    pub number: u32,
    /// Its generation.
    pub generation: u64,
    /// The salt of its generation.
    pub salt: u64,
    /// Octets of the file.
    pub size: u64,
}

/// Names the group of an appended record. Give it back by `outcome` (when that is `Some`) or `forget`, once.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket(u64);

impl Ticket {
    /// The number of the group, from 0: groups finish in this order.
    pub fn group(&self) -> u64 {
        self.0
    }
}

/// Decides what is written together. See the file's head.
#[derive(Debug)]
pub struct GroupCommit {
    bytes_max: usize,
    segment: Option<(FreshSegment, Position)>,
    sealed: Option<Sealed>,
    filling: Batch,
    /// An empty buffer to fill while the other is in flight.
    spare: Vec<u8>,
    in_flight: Option<InFlight>,
    failing: Option<u64>,
    /// The next segment is to be begun though this one has room.
    changing: bool,
    /// Groups from `first` on; the last one is being filled.
    groups: VecDeque<Group>,
    first: u64,
    writes: u64,
    records: u64,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    /// Durable end of the segment.
    end: u64,
    /// Number of the last group in it.
    group: u64,
}

#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where the records start in `bytes`.
    starts: Vec<usize>,
}

#[derive(Debug)]
struct InFlight {
    group: u64,
    records: u64,
}

#[derive(Debug, Default)]
struct Group {
    tickets: u32,
    outcome: Option<Result<(), CommitError>>,
}

impl GroupCommit {
    /// `bytes_max`: what may wait at most, in octets; no more than a segment has behind its header.
    pub fn new(bytes_max: usize) -> GroupCommit {
        GroupCommit {
            bytes_max,
            segment: None,
            sealed: None,
            filling: Batch::default(),
            spare: Vec::new(),
            in_flight: None,
            failing: None,
            changing: false,
            groups: VecDeque::from([Group::default()]),
            first: 0,
            writes: 0,
            records: 0,
        }
    }

    /// Adds a record to the group being filled. None: too much waits already, or the record is longer than the bound.
    pub fn append(&mut self, kind: u8, id: QueueId, fields: &[u8], content: &[u8]) -> Option<Ticket> {
        let start = self.filling.bytes.len();
        if start + record::record_bytes(fields.len(), content.len()) > self.bytes_max {
            return None;
        }
        self.filling.starts.push(start);
        record::append(&mut self.filling.bytes, kind, id, fields, content);
        self.filling_group().tickets += 1;
        Some(Ticket(self.filling_number()))
    }

    /// What to do next. Not to be asked between a `Write` and its `written`.
    pub fn step(&mut self) -> Step {
        assert!(self.in_flight.is_none(), "one write at a time");
        if self.filling.starts.is_empty() && self.failing.is_none() && !self.changing {
            return Step::Rest;
        }
        let length = self.filling.bytes.len() as u64;
        match self.segment {
            Some((segment, position))
                if position.end + length.next_multiple_of(BLOCK) <= segment.size && !self.changing =>
            {
                self.start_write(segment, position)
            }
            Some((segment, position)) => {
                self.seal(segment, position, false);
                Step::NewSegment { sealed: self.sealed }
            }
            None => Step::NewSegment { sealed: self.sealed },
        }
    }

    /// The write that `step` asked for has come back.
    pub fn written(&mut self, durable: bool, mut bytes: Vec<u8>) {
        let InFlight { group, records } = self.in_flight.take().expect("a write was in flight");
        let (segment, position) = self.segment.as_mut().expect("a write needs a segment");
        if durable {
            position.end += bytes.len() as u64;
            position.group += 1;
            self.writes += 1;
            self.records += records;
            self.finish(group, Ok(()));
        } else {
            let (segment, position) = (*segment, *position);
            self.seal(segment, position, true);
            self.failing = Some(group);
        }
        bytes.clear();
        self.spare = bytes;
    }

    /// The segment that `step` asked for, or why there is none. Without one everything that waits fails.
    pub fn segment(&mut self, fresh: Result<FreshSegment, CommitError>) {
        self.changing = false;
        if let Some(group) = self.failing.take() {
            self.finish(group, Err(CommitError::Disk));
        }
        match fresh {
            Ok(segment) => {
                self.segment = Some((segment, Position { end: FIRST_GROUP, group: 0 }));
                self.sealed = None;
            }
            Err(error) if !self.filling.starts.is_empty() => {
                let group = self.close_filling();
                self.filling.bytes.clear();
                self.filling.starts.clear();
                self.finish(group, Err(error));
            }
            Err(_) => {}
        }
    }

    /// The next segment is to be begun, if this one holds records. Says whether `step` has something to do by that.
    pub fn change_segment(&mut self) -> bool {
        self.changing = self.segment.is_some_and(|(_, position)| position.end > FIRST_GROUP);
        self.changing
    }

    /// The writer ends: its segment is over where it is durable. Nothing waits and nothing is in flight. Returns the
    /// segment and its end, if there is one; whatever is appended all the same goes into the next.
    pub fn retire(&mut self) -> Option<Sealed> {
        assert!(self.in_flight.is_none() && self.filling.starts.is_empty(), "drained before");
        let (segment, position) = self.segment?;
        self.seal(segment, position, false);
        self.sealed
    }

    /// What became of a ticket's record; None: not known yet. `Some` takes the ticket back.
    pub fn outcome(&mut self, ticket: &Ticket) -> Option<Result<(), CommitError>> {
        let outcome = self.groups[(ticket.0 - self.first) as usize].outcome?;
        self.take_back(ticket);
        Some(outcome)
    }

    /// Nobody waits for this ticket any more.
    pub fn forget(&mut self, ticket: &Ticket) {
        self.take_back(ticket);
    }

    /// Groups whose outcome is known, since the beginning.
    pub fn finished(&self) -> u64 {
        let known = self.groups.iter().take_while(|group| group.outcome.is_some()).count();
        self.first + known as u64
    }

    /// The segment being written and its durable end in octets.
    pub fn durable_end(&self) -> Option<(u32, u64)> {
        self.segment.map(|(segment, position)| (segment.number, position.end))
    }

    /// Durable writes and records so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.writes, self.records)
    }

    fn start_write(&mut self, segment: FreshSegment, position: Position) -> Step {
        let group = self.close_filling();
        let Batch { bytes, starts } = &mut self.filling;
        let last = (starts.len() - 1) as u32;
        for (index, &start) in starts.iter().enumerate() {
            let place = Place { group: position.group + 1, group_start: position.end, index: index as u32, last };
            record::set_place(&mut bytes[start..], segment.salt, place);
        }
        bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
        self.in_flight = Some(InFlight { group, records: starts.len() as u64 });
        starts.clear();
        let bytes = std::mem::replace(bytes, std::mem::take(&mut self.spare));
        Step::Write { offset: position.end, bytes }
    }

    fn seal(&mut self, segment: FreshSegment, position: Position, failed: bool) {
        let end = End { at: position.end, failed };
        self.sealed = Some(Sealed { number: segment.number, generation: segment.generation, end });
        self.segment = None;
    }

    /// The group being filled takes no more; another begins. Returns its number.
    fn close_filling(&mut self) -> u64 {
        let number = self.filling_number();
        self.groups.push_back(Group::default());
        number
    }

    fn finish(&mut self, group: u64, outcome: Result<(), CommitError>) {
        self.groups[(group - self.first) as usize].outcome = Some(outcome);
        self.drop_done();
    }

    fn take_back(&mut self, ticket: &Ticket) {
        self.groups[(ticket.0 - self.first) as usize].tickets -= 1;
        self.drop_done();
    }

    fn drop_done(&mut self) {
        while self.groups.front().is_some_and(|group| group.tickets == 0 && group.outcome.is_some()) {
            self.groups.pop_front();
            self.first += 1;
        }
    }

    fn filling_number(&self) -> u64 {
        self.first + self.groups.len() as u64 - 1
    }

    fn filling_group(&mut self) -> &mut Group {
        self.groups.back_mut().expect("a group is always being filled")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(number: u32) -> FreshSegment {
        FreshSegment { number, generation: number as u64 + 100, salt: 5, size: 16384 }
    }

    fn append(core: &mut GroupCommit, content: &[u8]) -> Ticket {
        core.append(record::KIND_MESSAGE, QueueId(1), b"fields", content).expect("room")
    }

    fn write(core: &mut GroupCommit) -> (u64, Vec<u8>) {
        match core.step() {
            Step::Write { offset, bytes } => (offset, bytes),
            other => panic!("{other:?}"),
        }
    }

    /// A core whose first segment is ready.
    fn ready() -> GroupCommit {
        let mut core = GroupCommit::new(12288);
        let ticket = append(&mut core, b"first");
        assert_eq!(core.step(), Step::NewSegment { sealed: None });
        core.segment(Ok(fresh(1)));
        let (_, bytes) = write(&mut core);
        core.written(true, bytes);
        assert_eq!(core.outcome(&ticket), Some(Ok(())));
        core
    }

    // covers: 11.4
    #[test]
    fn what_arrives_during_a_write_is_the_next_group() {
        let mut core = ready();
        let one = append(&mut core, b"one");
        let (offset, bytes) = write(&mut core);
        assert_eq!((offset, bytes.len()), (8192, 4096));
        let two = append(&mut core, b"two");
        let three = append(&mut core, b"three");
        assert_eq!(core.outcome(&one), None);
        core.written(true, bytes);
        assert_eq!(core.outcome(&one), Some(Ok(())));
        assert_eq!(core.outcome(&two), None);
        let (offset, bytes) = write(&mut core);
        assert_eq!((offset, bytes.len()), (12288, 4096));
        core.written(true, bytes);
        assert_eq!((core.outcome(&two), core.outcome(&three)), (Some(Ok(())), Some(Ok(()))));
        assert_eq!(core.counts(), (3, 4));
        assert_eq!(core.step(), Step::Rest);
    }

    fn sealed_at_8192(failed: bool) -> Option<Sealed> {
        Some(Sealed { number: 1, generation: 101, end: End { at: 8192, failed } })
    }

    #[test]
    fn a_full_segment_is_sealed_at_its_end() {
        let mut core = ready();
        append(&mut core, &[7; 9000]);
        assert_eq!(core.step(), Step::NewSegment { sealed: sealed_at_8192(false) });
        core.segment(Ok(fresh(2)));
        assert_eq!(write(&mut core).0, 4096);
    }

    #[test]
    fn a_failed_write_is_final_and_told_after_the_next_header() {
        let mut core = ready();
        let lost = append(&mut core, b"lost");
        let (_, bytes) = write(&mut core);
        let later = append(&mut core, b"later");
        core.written(false, bytes);
        assert_eq!(core.outcome(&lost), None);
        let sealed = sealed_at_8192(true);
        assert_eq!(core.step(), Step::NewSegment { sealed });
        core.segment(Ok(fresh(2)));
        assert_eq!(core.outcome(&lost), Some(Err(CommitError::Disk)));
        assert_eq!(core.outcome(&later), None);
        let (offset, bytes) = write(&mut core);
        assert_eq!(offset, 4096);
        core.written(true, bytes);
        assert_eq!(core.outcome(&later), Some(Ok(())));
    }

    #[test]
    fn without_a_next_segment_all_that_waits_fails_and_the_seal_is_not_forgotten() {
        let mut core = ready();
        let lost = append(&mut core, b"lost");
        let (_, bytes) = write(&mut core);
        let later = append(&mut core, b"later");
        core.written(false, bytes);
        assert!(matches!(core.step(), Step::NewSegment { .. }));
        core.segment(Err(CommitError::NoRoom));
        assert_eq!(core.outcome(&lost), Some(Err(CommitError::Disk)));
        assert_eq!(core.outcome(&later), Some(Err(CommitError::NoRoom)));
        assert_eq!(core.step(), Step::Rest);
        append(&mut core, b"again");
        let sealed = sealed_at_8192(true);
        assert_eq!(core.step(), Step::NewSegment { sealed });
    }

    #[test]
    fn a_failure_with_nobody_waiting_behind_it_is_told_too() {
        let mut core = ready();
        let lost = append(&mut core, b"lost");
        let (_, bytes) = write(&mut core);
        core.written(false, bytes);
        assert!(matches!(core.step(), Step::NewSegment { .. }));
        core.segment(Ok(fresh(2)));
        assert_eq!(core.outcome(&lost), Some(Err(CommitError::Disk)));
        assert_eq!(core.step(), Step::Rest);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut core = ready();
        let mut taken = 0;
        while core.append(0, QueueId(1), b"", &[0; 1000]).is_some() {
            taken += 1;
        }
        assert_eq!(taken, 12288 / 1064);
        assert!(core.append(0, QueueId(1), b"", &[0; 20000]).is_none());
    }

    #[test]
    fn forgotten_tickets_leave_nothing_behind() {
        let mut core = ready();
        for _ in 0..3 {
            let one = append(&mut core, b"x");
            let two = append(&mut core, b"y");
            core.forget(&one);
            loop {
                match core.step() {
                    Step::Write { bytes, .. } => core.written(true, bytes),
                    Step::NewSegment { .. } => core.segment(Ok(fresh(9))),
                    Step::Rest => break,
                }
            }
            assert_eq!(core.outcome(&two), Some(Ok(())));
            assert_eq!(core.groups.len(), 1);
        }
    }
}
