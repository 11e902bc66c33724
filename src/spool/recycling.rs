//! Which segments may be erased. Knows no file.
//!
//! A segment is erased when it is *left* (its writer has gone on and the follower has read it to its end), no message in
//! it is *live* (recipients without a final fate), and no outcome in it *refers* to a segment that is not erased yet: an
//! outcome that is forgotten while its message is still readable would deliver the message again after a crash. A
//! segment that could not be read wholly is *kept* until an operator has looked at it.
//!
//! A segment that hardly anything keeps from being erased is *pinned*: what is live in it is written again elsewhere, and the
//! new record refers to the old one's segment, as an outcome does.
//!
//! While the past is being read nothing is erased: an outcome may be read before the message that it is about, and what
//! it refers to is known only then.

use super::recovery::Limit;
use super::segment::Sealed;
use std::collections::{BTreeSet, HashMap};

/// A segment that is known and not erased.
#[derive(Debug)]
pub struct Segment {
    /// Its generation.
    pub generation: u64,
    /// The salt of its generation.
    pub salt: u64,
    /// Octets of the file.
    pub size: u64,
    /// The file may be used again.
    pub reusable: bool,
    /// The segment whose end its header says.
    pub seals: Option<Sealed>,
    live: u64,
    /// That were read in it.
    records: u64,
    /// None: not left.
    left: Option<Left>,
    kept: bool,
    erasing: bool,
    refers: BTreeSet<u32>,
}

impl Segment {
    /// A segment that the follower begins to read.
    pub fn new(generation: u64, salt: u64, size: u64) -> Segment {
        Segment {
            generation,
            salt,
            size,
            reusable: true,
            seals: None,
            live: 0,
            records: 0,
            left: None,
            kept: false,
            erasing: false,
            refers: BTreeSet::new(),
        }
    }

    fn is_dead(&self) -> bool {
        self.left.is_some() && self.live == 0 && !self.kept && !self.erasing && self.refers.is_empty()
    }
}

/// A segment that has been read to its end.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// How far it is to be read.
    limit: Limit,
    /// The second in which it was left, which may be before the first of this run.
    since: i64,
    /// That, or the last one in which it was named as pinned.
    tick: u64,
}

/// A segment from which what is live should be moved.
#[derive(Clone, Copy, Debug)]
pub struct Pinned {
    /// Its generation.
    pub generation: u64,
    /// The salt of its generation.
    pub salt: u64,
    /// How far it is to be read.
    pub limit: Limit,
}

/// Segments by what keeps them from being erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// They are written, or not read to their end.
    pub read: u64,
    /// A part of them could not be read.
    pub damaged: u64,
    /// Mail that is not done.
    pub mail: u64,
    /// Nothing but outcomes of mail whose segment is not erased; or it is being erased.
    pub outcomes: u64,
}

/// All segments that are not erased. Methods that may make one erasable put it into `dead`.
#[derive(Debug, Default)]
pub struct Recycling {
    segments: HashMap<u32, Segment>,
    /// The whole past has been read.
    past_is_known: bool,
    /// To be erased now; each is named once.
    pub dead: Vec<u32>,
}

impl Recycling {
    /// The follower begins to read a segment.
    pub fn open(&mut self, number: u32, segment: Segment) {
        self.segments.insert(number, segment);
    }

    /// The segment, if this generation of it is not erased.
    pub fn get(&self, number: u32, generation: u64) -> Option<&Segment> {
        self.segments.get(&number).filter(|segment| segment.generation == generation)
    }

    /// How many segments there are of each state.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for segment in self.segments.values() {
            let count = match segment {
                Segment { left: None, .. } => &mut tally.read,
                Segment { kept: true, .. } => &mut tally.damaged,
                Segment { live: 1.., .. } => &mut tally.mail,
                _ => &mut tally.outcomes,
            };
            *count += 1;
        }
        tally
    }

    /// The segment, whatever its generation.
    pub fn by_number(&self, number: u32) -> Option<&Segment> {
        self.segments.get(&number)
    }

    /// A record in it was read.
    pub fn record(&mut self, number: u32, is_message: bool) {
        let segment = self.segment(number);
        segment.records += 1;
        segment.live += u64::from(is_message);
    }

    /// A segment that was left, or named here, `after` seconds before `tick` or earlier, and in which a quarter of the
    /// records or less are live, so that moving costs a third of the room that it gains at most; or, where it was left
    /// `at_last` seconds before, any but all, so that nothing of what is done stays.
    pub fn pinned(&mut self, tick: u64, after: u64, at_last: Option<u64>) -> Option<(u32, Pinned)> {
        let is_pinned = |segment: &Segment| {
            let left = segment.left.filter(|left| left.tick.saturating_add(after) <= tick)?;
            let is_late = at_last.is_some_and(|at_last| left.since.saturating_add_unsigned(at_last) <= tick as i64);
            let enough = if is_late { segment.live < segment.records } else { segment.live * 4 <= segment.records };
            (segment.live > 0 && enough && !segment.kept && self.past_is_known).then_some(left)
        };
        let pinned = self.segments.iter().filter_map(|(&number, segment)| Some((is_pinned(segment)?.tick, number)));
        let (_, number) = pinned.min()?;
        let segment = self.segment(number);
        let left = segment.left.as_mut()?;
        left.tick = tick;
        let limit = left.limit;
        Some((number, Pinned { generation: segment.generation, salt: segment.salt, limit }))
    }

    /// A message in it is done.
    pub fn settled(&mut self, number: u32, generation: u64) {
        let segment = self.segments.get_mut(&number).filter(|segment| segment.generation == generation);
        let segment = segment.expect("a segment with a live message is not erased");
        segment.live = segment.live.checked_sub(1).expect("a message is settled once");
        self.consider(number);
    }

    /// An outcome in `from` is about a message in `to`.
    pub fn refers(&mut self, from: (u32, u64), to: (u32, u64)) {
        if from.0 == to.0 || self.get(to.0, to.1).is_none() || self.get(from.0, from.1).is_none() {
            return;
        }
        self.segment(from.0).refers.insert(to.0);
    }

    /// The follower has read it to its end, which is `limit`. `whole`: without damage that nobody has looked at. `age`: for
    /// how many seconds before `tick` nothing was written into it, as far as anybody knows.
    pub fn leave(&mut self, number: u32, whole: bool, limit: Limit, tick: u64, age: u64) {
        let segment = self.segment(number);
        segment.left = Some(Left { limit, since: (tick as i64).saturating_sub_unsigned(age), tick });
        segment.kept |= !whole;
        self.consider(number);
    }

    /// Its file has failed once and is not to be used again.
    pub fn mark_failed(&mut self, number: u32) {
        self.segment(number).reusable = false;
    }

    /// Its next generation's header is durable, or the file is gone.
    pub fn erased(&mut self, number: u32, generation: u64) {
        if self.get(number, generation).is_none() {
            return;
        }
        self.segments.remove(&number);
        let mut freed = Vec::new();
        for (&other, segment) in &mut self.segments {
            if segment.refers.remove(&number) {
                freed.push(other);
            }
        }
        for other in freed {
            self.consider(other);
        }
    }

    /// The whole past has been read, and all that refers to something in it was told.
    pub fn past_is_known(&mut self) {
        self.past_is_known = true;
        let all: BTreeSet<u32> = self.segments.keys().copied().collect();
        all.into_iter().for_each(|number| self.consider(number));
    }

    fn consider(&mut self, number: u32) {
        if !self.past_is_known {
            return;
        }
        let segment = self.segment(number);
        if segment.is_dead() {
            segment.erasing = true;
            self.dead.push(number);
        }
    }

    fn segment(&mut self, number: u32) -> &mut Segment {
        self.segments.get_mut(&number).expect("the segment is open")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Limit = Limit { end: 8192, durable: true };

    fn two() -> Recycling {
        let mut all = Recycling::default();
        all.past_is_known();
        all.open(1, Segment::new(10, 0, 0));
        all.open(2, Segment::new(20, 0, 0));
        all
    }

    #[test]
    fn a_segment_is_dead_when_left_and_settled() {
        let mut all = two();
        all.record(1, true);
        all.record(1, true);
        all.leave(1, true, END, 0, 0);
        all.settled(1, 10);
        assert!(all.dead.is_empty());
        all.settled(1, 10);
        assert_eq!(all.dead, [1]);
        all.leave(2, true, END, 0, 0);
        assert_eq!(all.dead, [1, 2]);
    }

    #[test]
    fn a_segment_that_is_written_is_never_dead() {
        let mut all = two();
        all.record(1, true);
        all.settled(1, 10);
        assert!(all.dead.is_empty());
    }

    #[test]
    fn outcomes_stay_until_what_they_refer_to_is_erased() {
        let mut all = two();
        all.record(1, true);
        all.leave(1, true, END, 0, 0);
        all.refers((2, 20), (1, 10));
        all.leave(2, true, END, 0, 0);
        all.settled(1, 10);
        assert_eq!(all.dead, [1]);
        all.erased(1, 9);
        assert_eq!(all.dead, [1]);
        all.erased(1, 10);
        assert_eq!(all.dead, [1, 2]);
        assert!(all.get(1, 10).is_none());
    }

    #[test]
    fn an_outcome_about_its_own_segment_or_an_erased_one_keeps_nothing() {
        let mut all = two();
        all.refers((2, 20), (2, 20));
        all.refers((2, 20), (1, 9));
        all.leave(2, true, END, 0, 0);
        assert_eq!(all.dead, [2]);
    }

    #[test]
    fn an_outcome_that_is_read_before_its_message_is_kept_with_it() {
        let mut all = Recycling::default();
        all.open(2, Segment::new(20, 0, 0));
        all.leave(2, true, END, 0, 0);
        all.open(1, Segment::new(30, 0, 0));
        all.record(1, true);
        all.record(1, true);
        all.refers((2, 20), (1, 30));
        all.settled(1, 30);
        all.leave(1, true, END, 0, 0);
        all.past_is_known();
        assert!(all.dead.is_empty());
        all.settled(1, 30);
        assert_eq!(all.dead, [1]);
        all.erased(1, 30);
        assert_eq!(all.dead, [1, 2]);
    }

    #[test]
    fn a_segment_that_was_not_read_wholly_is_kept() {
        let mut all = two();
        all.leave(1, false, END, 0, 0);
        assert!(all.dead.is_empty());
    }

    #[test]
    #[should_panic(expected = "settled once")]
    fn settling_twice_is_a_bug() {
        let mut all = two();
        all.record(1, true);
        all.settled(1, 10);
        all.settled(1, 10);
    }

    #[test]
    fn a_segment_that_few_records_keep_is_pinned_and_named_once_in_a_while() {
        let mut all = two();
        (0..8).for_each(|at| all.record(1, at < 3));
        assert!(all.pinned(100, 10, None).is_none(), "it is being read");
        all.leave(1, true, END, 100, 0);
        all.settled(1, 10);
        assert!(all.pinned(109, 10, None).is_none(), "what is left may be done in a moment");
        let (number, pinned) = all.pinned(110, 10, None).expect("pinned");
        assert_eq!((number, pinned.generation, pinned.limit), (1, 10, END));
        assert!(all.pinned(119, 10, None).is_none() && all.pinned(120, 10, None).is_some());
        // A quarter is few, more is not, and nothing is nobody's business.
        all.settled(1, 10);
        all.record(1, true);
        all.record(1, true);
        assert!(all.pinned(200, 10, None).is_none());
        assert!(all.pinned(200, 10, Some(101)).is_none() && all.pinned(200, 10, Some(100)).is_some(), "late enough");
        (0..3).for_each(|_| all.settled(1, 10));
        assert!(all.pinned(300, 10, None).is_none());
        assert_eq!(all.dead, [1]);
    }

    /// A restart is no reason to keep delivered mail for longer.
    #[test]
    fn a_segment_of_the_past_is_as_old_as_it_is() {
        for (age, is_late) in [(0, false), (99, false), (100, true), (u64::MAX, true)] {
            let mut all = two();
            (0..4).for_each(|at| all.record(1, at < 3));
            all.leave(1, true, END, 2, age);
            assert_eq!(all.pinned(12, 10, Some(110)).is_some(), is_late, "{age}");
        }
    }

    #[test]
    fn segments_are_counted_by_what_keeps_them() {
        let mut all = two();
        all.record(1, true);
        all.leave(1, true, END, 0, 0);
        assert_eq!(all.tally(), Tally { read: 1, mail: 1, ..Tally::default() });
        all.refers((2, 20), (1, 10));
        all.leave(2, true, END, 0, 0);
        assert_eq!(all.tally(), Tally { mail: 1, outcomes: 1, ..Tally::default() });
        all.open(3, Segment::new(30, 0, 0));
        all.leave(3, false, END, 0, 0);
        all.settled(1, 10);
        all.erased(1, 10);
        all.erased(2, 20);
        assert_eq!(all.tally(), Tally { damaged: 1, ..Tally::default() });
    }

    #[test]
    fn what_could_not_be_read_is_not_moved_and_nothing_is_before_the_past_is_known() {
        let mut all = two();
        (0..4).for_each(|at| all.record(1, at < 1));
        all.leave(1, false, END, 0, 0);
        assert!(all.pinned(100, 10, None).is_none());
        let mut all = Recycling::default();
        all.open(1, Segment::new(10, 0, 0));
        (0..4).for_each(|at| all.record(1, at < 1));
        all.leave(1, true, END, 0, 0);
        assert!(all.pinned(100, 10, None).is_none());
        all.past_is_known();
        assert!(all.pinned(100, 10, None).is_some());
    }
}
