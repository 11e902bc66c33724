//! The follower: the relay's cursor over all segments of all writers, in normal running and after a crash alike.
//!
//! ```text
//!  past segments, oldest first     [1][4][2] -----+
//!  writer 0:  [7] -> [9] .. durable end           +--> next() --> entries --> relay
//!  writer 1:  [8] .. durable end             -----+                  |
//!                                                                 settled, refers --> recycling --> files thread
//! ```
//!
//! The past comes first, in the order in which its segments were begun; records of different writers that overlapped in
//! time may come in either order, so an outcome may come before the message that it is about. **Until `next` has said
//! None for the first time, deliver nothing:** an outcome may still come.
//!
//! A segment that cannot be opened or read is tried again: no descriptor left and some errors of a disk pass. One of this
//! run is tried about once a second for as long as it takes, and its writer's later segments wait behind it, so that
//! nothing acknowledged is passed over. One of the past is tried a few times, two seconds for all of them together, and
//! then left until the next start with an error in the log: what it says is unknown then, so a message of another segment
//! whose outcome stands in it is delivered once more. No mail at all would be worse. What other segments say of messages
//! that may stand in it is kept as long.
//!
//! Promises: what `next` gives out was durable; a damaged record is reported, copied to `damaged/` and skipped, never
//! silently; a segment is erased only when nothing in it counts (recycling.rs); a spill file is freed only when its
//! message is settled, or, found at the start, when no record names it and the whole past has been read undamaged.

mod past;

pub use past::Past;

use super::QueueId;
use super::disk;
use super::file::{self, ReadFile};
use super::published::Started;
use super::record::{self, Head, KIND_MESSAGE, KIND_SPILLED};
use super::recovery::{Cursor, Limit, Met};
use super::recycling::{Recycling, Segment};
use super::segment::{BLOCK, End};
use super::shared::{Erase, Request, Shared};
use super::spilled::Spilled;
use super::stored::{Readers, Reference, Stored};
use crate::log::{Level, event};
use crate::smtp::envelope::View;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Where a record is. 16 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    pub(super) generation: u64,
    pub(super) segment: u32,
    /// Offset in units of 8 octets.
    offset: u32,
}

impl Location {
    /// Of the record at `at` octets in a generation of a segment.
    pub(super) fn new(segment: u32, generation: u64, at: u64) -> Location {
        debug_assert!(at >= BLOCK && at.is_multiple_of(record::ALIGNMENT as u64));
        Location { generation, segment, offset: (at / record::ALIGNMENT as u64) as u32 }
    }

    /// Was this record written before the other one, by the same writer?
    pub fn is_before(&self, other: Location) -> bool {
        (self.generation, self.offset) < (other.generation, other.offset)
    }

    /// Some place, for tests of what only passes places on.
    #[cfg(test)]
    pub fn sample() -> Location {
        Location::new(1, 1, BLOCK)
    }

    /// Offset in octets.
    pub(super) fn at(&self) -> u64 {
        u64::from(self.offset) * record::ALIGNMENT as u64
    }
}

/// A durable record, in the order of its segment.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Where.
    pub at: Location,
    /// The message's queue id (for records that hold only outcomes: an id of their own).
    pub id: QueueId,
    /// Stored fields: `smtp::envelope::View::parse`.
    pub envelope: &'a [u8],
    /// The record has recipients: it counts as live until `settled`.
    pub is_message: bool,
    /// Content in the record, in octets; that of a spill file is elsewhere.
    pub content_bytes: usize,
}

/// The relay's cursor.
pub struct Follower {
    pub(super) shared: Arc<Shared>,
    past: VecDeque<Past>,
    /// One for the past, then one per writer.
    tracks: Vec<Track>,
    /// Whose turn it is, and how many records it has had.
    turn: usize,
    run: usize,
    pub(super) recycling: Recycling,
    erased: mpsc::Receiver<(u32, u64)>,
    spilled: Spilled,
    caught_up: bool,
    /// Records were lost or not understood: they might name a spill file.
    past_is_whole: bool,
    /// Pauses before another attempt at the past that may still be made.
    past_pauses: u32,
    readers: Readers,
    /// Nothing is written, as the spool is only looked at.
    read_only: bool,
    /// Segments of the past that could not be read to their end.
    unread: Vec<(u32, u64)>,
    /// Segments of the past that say something of messages that were not known then.
    strays: BTreeSet<(u32, u64)>,
}

#[derive(Default)]
struct Track {
    open: Option<Open>,
    /// What the cursor before left.
    memory: Vec<u8>,
}

/// The segment that a track is in.
struct Open {
    started: Started,
    /// The past only: how far.
    end: Option<End>,
    /// When it was begun, in milliseconds since the Unix epoch; the largest number: in this run.
    begun_ms: u64,
    /// None: its file could not be opened yet.
    cursor: Option<Cursor>,
    whole: bool,
    trouble: Option<Trouble>,
}

/// The last attempt to read failed.
struct Trouble {
    /// `Shared::ticks` then.
    at_tick: u64,
    attempts: u32,
}

/// Records of one writer before the next one's turn: a busy writer must not hide the others.
const RUN: usize = 64;
/// Attempts at one segment of the past.
const PAST_ATTEMPTS: u32 = 4;
/// Pauses between them, for the whole past together: the start is not held up for longer than both together.
const PAST_PAUSES: u32 = 10;
const PAST_PAUSE: Duration = Duration::from_millis(200);

impl Follower {
    /// No segment of the past is missing, set aside, damaged or unreadable: as far as it has been read.
    pub fn past_is_whole(&self) -> bool {
        self.past_is_whole
    }

    /// `past_is_whole`: no segment is missing or set aside.
    pub(super) fn new(
        shared: Arc<Shared>,
        past: VecDeque<Past>,
        found_spills: BTreeSet<u64>,
        erased: mpsc::Receiver<(u32, u64)>,
        past_is_whole: bool,
    ) -> Follower {
        let tracks = (0..=shared.published.len()).map(|_| Track::default()).collect();
        Follower {
            shared,
            past,
            tracks,
            turn: 0,
            run: 0,
            recycling: Recycling::default(),
            erased,
            spilled: Spilled::new(found_spills),
            caught_up: false,
            past_is_whole,
            past_pauses: PAST_PAUSES,
            readers: Readers::default(),
            read_only: false,
            unread: Vec::new(),
            strays: BTreeSet::new(),
        }
    }

    /// Of a spool that is only looked at: nothing is copied out of it.
    pub(super) fn read_only(shared: Arc<Shared>, past: VecDeque<Past>) -> Follower {
        // Nobody erases anything, so nobody tells of it.
        let (_, erased) = mpsc::channel();
        let mut follower = Follower::new(shared, past, BTreeSet::new(), erased, true);
        follower.read_only = true;
        follower
    }

    /// The next durable record, or none for now. Reads the page cache, synchronously; before the first None it may
    /// sleep, two seconds in all, where the past cannot be read. Damaged records are logged and skipped. A message's record (with recipients) counts as live until `settled`.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Entry<'_>> {
        self.take_erased();
        let (track, at, head) = self.find()?;
        let open = self.tracks[track].open.as_ref().expect("the record was found in it");
        let location = Location::new(open.started.number, open.started.generation, at);
        let envelope = open.cursor.as_ref().expect("it was read").fields(at, &head);
        let is_message = head.kind & KIND_MESSAGE != 0;
        self.recycling.record(location.segment, is_message);
        if is_message && head.kind & KIND_SPILLED != 0 {
            match View::parse(envelope).ok().and_then(|view| view.spilled) {
                Some(reference) => self.spilled.named(location, reference.file, reference.generation),
                None => self.past_is_whole = false,
            }
        }
        Some(Entry { at: location, id: head.id, envelope, is_message, content_bytes: head.content_bytes })
    }

    /// Resolves when there may be more, segments were erased, or one is to be tried again: a wake-up only.
    pub async fn changed(&self) {
        std::future::poll_fn(|context| self.shared.alarm.poll(context)).await;
    }

    /// The stored envelope and content of a record, verified again. The location is of a record that is live, or was
    /// given out by `next` last. Errors: damage or I/O, as text.
    pub fn read(&mut self, at: Location) -> Result<Stored, String> {
        let segment = self.recycling.get(at.segment, at.generation).ok_or("its segment is erased")?;
        self.readers.read(&self.shared.layout, at, segment.salt, segment.size)
    }

    /// What it takes to read a record from another thread; none if its segment is erased.
    pub fn reference(&self, at: Location) -> Option<Reference> {
        let segment = self.recycling.get(at.segment, at.generation)?;
        Some(Reference { at, salt: segment.salt, size: segment.size })
    }

    /// The outcome record `from` must be kept as long as the segment of `to` holds its message. To be told as soon as both
    /// have been given out, before the next call of `next`.
    pub fn refers(&mut self, from: Location, to: Location) {
        self.recycling.refers((from.segment, from.generation), (to.segment, to.generation));
    }

    /// What the record at `from` says, an outcome or a survivor, is about a message that was not read, or not yet. If it
    /// stands in a segment that cannot be read now, the record is needed when that can be read again.
    pub fn is_about_unknown(&mut self, from: Location) {
        if !self.caught_up {
            self.strays.insert((from.segment, from.generation));
        }
    }

    /// The message at `old` is the one at `new`, which was moved, or was read first. Once per copy that is done with.
    pub fn superseded(&mut self, old: Location, new: Location) {
        self.refers(new, old);
        self.spilled.superseded(old, new);
        self.settled(old);
    }

    /// The message at `at` is wholly done and the outcomes that say so are durable. Once per message. Its segment is
    /// erased and recycled when nothing in it is live, and its spill file is freed.
    pub fn settled(&mut self, at: Location) {
        // Of the past: a later record that is not read yet may name the same file with a later generation, so it is freed
        // with those that were found and that nothing names. One that was not found has long been freed, and its number
        // may be that of a message which has just come in.
        if let Some(number) = self.spilled.settled(at).filter(|_| self.caught_up) {
            self.shared.ask(Request::SpillBack { number, reusable: true });
        }
        self.recycling.settled(at.segment, at.generation);
        self.erase_dead();
    }

    /// Shows whoever watches why segments are not free.
    pub fn show(&self) {
        self.shared.stock.kept(self.recycling.tally());
    }

    /// What is known of all segments that are not erased, for whoever looks into a test that fails.
    #[cfg(test)]
    pub fn why_kept(&self) -> String {
        format!("{:#?}", self.recycling)
    }

    fn find(&mut self) -> Option<(usize, u64, Head)> {
        if let Some(found) = self.advance(0) {
            return Some(found);
        }
        self.catch_up();
        let writers = self.tracks.len() - 1;
        for step in 0..writers {
            let track = 1 + (self.turn + step) % writers;
            if let Some(found) = self.advance(track) {
                // Some records of one writer while its pages are at hand, then the next one's turn.
                self.run = if track - 1 == self.turn { self.run + 1 } else { 1 };
                self.turn = if self.run < RUN { track - 1 } else { track % writers };
                self.run %= RUN;
                return Some(found);
            }
        }
        None
    }

    /// The next record of one track, through as many segments as it takes.
    fn advance(&mut self, track: usize) -> Option<(usize, u64, Head)> {
        loop {
            if self.tracks[track].open.is_none() {
                self.begin_next(track)?;
            }
            if self.rests(track) {
                return None;
            }
            let (limit, is_last) = self.limit(track);
            match self.read_on(track, limit) {
                Met::Record(at, head) => return Some((track, at, head)),
                Met::End if is_last => self.leave(track, limit),
                Met::End => return None,
                Met::TornTail(at) => {
                    let open = self.tracks[track].open.as_ref().expect("it is open");
                    event(Level::Warning, "spool torn tail cut: it was never acknowledged")
                        .field("segment", open.started.number)
                        .field("offset", at)
                        .emit();
                }
                Met::Damaged(from, to) => self.set_aside(track, from, to),
                Met::Unreadable(at, error) => self.cannot_read(track, at, error, limit)?,
            }
        }
    }

    /// What the cursor of a track meets, once its file could be opened.
    fn read_on(&mut self, index: usize, limit: Limit) -> Met {
        let track = &mut self.tracks[index];
        let open = track.open.as_mut().expect("it is open");
        let cursor = match &mut open.cursor {
            Some(cursor) => cursor,
            none => match ReadFile::open(&self.shared.layout.segment(open.started.number)) {
                // What was written in this run was verified by its writer; its content is verified when it is read.
                Ok(file) => {
                    let memory = std::mem::take(&mut track.memory);
                    none.insert(Cursor::new(file, open.started.salt, index == 0, memory))
                }
                Err(error) => return Met::Unreadable(0, error),
            },
        };
        let met = cursor.next(limit);
        if !matches!(met, Met::Unreadable(..)) && open.trouble.take().is_some() {
            event(Level::Warning, "spool segment can be read again").field("segment", open.started.number).emit();
        }
        met
    }

    /// The last attempt at a track's segment failed, and the next one is not due.
    fn rests(&self, track: usize) -> bool {
        let trouble = self.tracks[track].open.as_ref().and_then(|open| open.trouble.as_ref());
        let rests = track > 0 && trouble.is_some_and(|trouble| trouble.at_tick == self.shared.ticks());
        if rests {
            self.shared.ring_at_tick();
        }
        rests
    }

    /// Another attempt later, or for the past, now or never. None: nothing more of this track for now.
    fn cannot_read(&mut self, track: usize, at: u64, error: std::io::Error, limit: Limit) -> Option<()> {
        let at_tick = self.shared.ticks();
        let open = self.tracks[track].open.as_mut().expect("it is open");
        let trouble = open.trouble.get_or_insert(Trouble { at_tick, attempts: 0 });
        *trouble = Trouble { at_tick, attempts: trouble.attempts.saturating_add(1) };
        let log = |what, started: &Started| {
            let line = event(Level::Error, what).field("segment", started.number).field("offset", at);
            line.field("error", &error).emit();
        };
        if track > 0 {
            if trouble.attempts == 1 {
                log("spool segment cannot be read; tried again each second", &open.started);
            }
            self.shared.ring_at_tick();
            return None;
        }
        if trouble.attempts < PAST_ATTEMPTS && self.past_pauses > 0 {
            self.past_pauses -= 1;
            disk::pause(PAST_PAUSE);
            return Some(());
        }
        log("spool segment cannot be read; it is kept until the next start", &open.started);
        open.whole = false;
        self.unread.push((open.started.number, open.started.generation));
        self.leave(track, limit);
        Some(())
    }

    /// How far the open segment of a track may be read, and whether it ends there for good.
    fn limit(&self, track: usize) -> (Limit, bool) {
        let open = self.tracks[track].open.as_ref().expect("it is open");
        if track == 0 {
            let end = open.end.map_or(open.started.size, |end| end.at);
            return (Limit { end, durable: open.end.is_some() }, true);
        }
        let (end, is_last) = self.shared.published[track - 1].limit(open.started.number);
        (Limit { end, durable: true }, is_last)
    }

    fn begin_next(&mut self, track: usize) -> Option<()> {
        let Past { started, end, begun_ms } = match track {
            0 => self.next_past()?,
            _ => Past { started: self.shared.published[track - 1].follow()?, end: None, begun_ms: u64::MAX },
        };
        // The number may have been another segment's, whose end was told before this one was begun.
        self.take_erased();
        let mut segment = Segment::new(started.generation, started.salt, started.size);
        segment.seals = started.sealed;
        segment.reusable = !end.is_some_and(|end| end.failed);
        self.recycling.open(started.number, segment);
        self.tracks[track].open = Some(Open { started, end, begun_ms, cursor: None, whole: true, trouble: None });
        Some(())
    }

    fn leave(&mut self, track: usize, limit: Limit) {
        let open = self.tracks[track].open.take().expect("it is open");
        let following = track.checked_sub(1).and_then(|writer| self.shared.published[writer].following());
        if following.and_then(|started| started.sealed).is_some_and(|sealed| sealed.end.failed) {
            self.recycling.mark_failed(open.started.number);
        }
        if track == 0 && open.end.is_none() && open.whole {
            self.close(&open);
        }
        self.past_is_whole &= open.whole;
        self.recycling.leave(open.started.number, open.whole, limit, self.shared.ticks(), self.age(open.begun_ms));
        if let Some(cursor) = open.cursor {
            self.tracks[track].memory = cursor.into_memory();
        }
        self.erase_dead();
    }

    /// Copies a damaged range out, so that its segment can be recycled and an operator can still look.
    fn set_aside(&mut self, track: usize, from: u64, to: u64) {
        self.past_is_whole = false;
        let open = self.tracks[track].open.as_mut().expect("it is open");
        let started = open.started;
        if self.read_only {
            let line = event(Level::Error, "spool records damaged").field("segment", started.number);
            return line.field("from", from).field("to", to).emit();
        }
        let path = self.shared.layout.damaged_range(started.number, started.generation, from);
        let copied = open.cursor.as_ref().expect("it was read").copy(from, to).and_then(|bytes| {
            file::make_directories(&self.shared.layout.damaged())?;
            file::make_private(&self.shared.layout.damaged())?;
            let copy = disk::open(&path, disk::Open::Replace)?;
            copy.write_all_at(&bytes, 0)?;
            copy.sync_all()?;
            file::sync_directory(&self.shared.layout.damaged())
        });
        // Without a copy the segment itself must stay.
        open.whole &= copied.is_ok();
        let line = event(Level::Error, "spool records damaged and set aside")
            .field("segment", started.number)
            .field("from", from)
            .field("to", to);
        match copied {
            Ok(()) => line.field("copy", path.display()).emit(),
            Err(error) => line.field("error", error).emit(),
        }
    }

    fn take_erased(&mut self) {
        while let Ok((number, generation)) = self.erased.try_recv() {
            self.readers.forget(number);
            self.recycling.erased(number, generation);
            self.erase_dead();
        }
    }

    fn erase_dead(&mut self) {
        while let Some(number) = self.recycling.dead.pop() {
            let Some(segment) = self.recycling.by_number(number) else { continue };
            let Segment { generation, size, reusable, seals, .. } = *segment;
            let seals = seals.filter(|sealed| self.recycling.get(sealed.number, sealed.generation).is_some());
            self.shared.ask(Request::Erase(Erase { number, generation, size, reusable, seals }));
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.alarm.forget();
    }
}
