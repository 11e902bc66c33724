//! What writers, follower and files thread share: spares, how much room there is, and the files thread's inbox.
//!
//! Promise: a spare is nobody else's once it is taken; whether there is room costs two atomic loads.

use super::Options;
use super::disk::{self, File};
use super::figures::{Stock, WriterFigures};
use super::layout::Layout;
use super::published::{Alarm, Published};
use super::segment::{Header, Sealed, State};
use futures_channel::oneshot;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, mpsc};

/// What all parts of an open spool share.
pub struct Shared {
    /// Where the files are.
    pub layout: Layout,
    /// Octets per segment.
    pub segment_bytes: u64,
    /// New mail is refused when the file system has fewer free octets.
    pub reserve_bytes: u64,
    /// What segments and spill files may take together, in octets; none: what the file system has.
    pub bytes_max: Option<u64>,
    /// Seconds after which nothing of a delivered message is to be left; none: no matter.
    pub wipe_after_s: Option<u64>,
    /// The number of this opening.
    pub epoch: u64,
    /// One per core writer, then the relay's.
    pub published: Vec<Published>,
    /// What each of them counts.
    pub figures: Box<[WriterFigures]>,
    /// What is on the disk.
    pub stock: Stock,
    /// Wakes the follower.
    pub alarm: Alarm,
    free_bytes: AtomicU64,
    /// No spare segment is left and none could be made.
    pub(super) starved: AtomicBool,
    spares: Mutex<Vec<Spare>>,
    generations: AtomicU64,
    /// How often the thread's second has passed.
    ticks: AtomicU64,
    /// The follower is to be woken at the next one.
    wants_tick: AtomicBool,
    requests: mpsc::Sender<Request>,
}

/// Spares that only the relay may take: on a full disk it must still be able to record outcomes, or nothing would ever be
/// delivered and no room be made.
pub(super) const RELAY_SPARES: usize = 1;

/// A segment that anybody may take: zero-filled or recycled, its free header durable.
pub struct Spare {
    /// Its number.
    pub number: u32,
    /// Opened with O_DSYNC.
    pub file: File,
    /// When it was erased, in milliseconds since the Unix epoch, if what it held has not been overwritten since.
    pub dirty: Option<u64>,
}

/// A spill file to write into from its start.
pub struct SpillFile {
    /// Its number.
    pub number: u64,
    /// Open for writing.
    pub file: File,
}

/// What the thread is asked to do.
pub enum Request {
    /// A spare was taken: look whether another is to be made.
    Look,
    /// A spare now, or why there is none.
    Spare {
        /// The relay asks: it may have the last one.
        for_relay: bool,
        /// Where to.
        reply: oneshot::Sender<io::Result<Spare>>,
    },
    /// Erase a segment.
    Erase(Erase),
    /// Write a segment's end, which nothing on disk says, into its own header.
    Close(Sealed),
    /// So many octets of this segment will be read soon.
    ReadAhead(u32, u64),
    /// A spill file, or why there is none.
    Spill(oneshot::Sender<io::Result<SpillFile>>),
    /// Nobody needs the spill file any more. `reusable`: no write into it is under way and none has failed.
    SpillBack {
        /// Its number.
        number: u64,
        /// It may be used again.
        reusable: bool,
    },
    /// The last request.
    Stop,
}

/// A segment with nothing in it that counts.
#[derive(Clone, Copy, Debug)]
pub struct Erase {
    /// Its number.
    pub number: u32,
    /// The generation that ends.
    pub generation: u64,
    /// Octets of the file.
    pub size: u64,
    /// The file may be used again.
    pub reusable: bool,
    /// A segment whose end its header says, and which may be there for longer.
    pub seals: Option<Sealed>,
}

impl Shared {
    /// `requests` is where the thread will read; it is started later.
    pub fn new(
        layout: Layout,
        options: &Options,
        epoch: u64,
        writers: usize,
        requests: mpsc::Sender<Request>,
    ) -> Shared {
        Shared {
            layout,
            segment_bytes: options.segment_bytes,
            reserve_bytes: options.reserve_bytes,
            bytes_max: options.bytes_max,
            wipe_after_s: Some(options.wipe_after_s).filter(|&seconds| seconds > 0),
            epoch,
            published: (0..writers).map(|_| Published::default()).collect(),
            figures: (0..writers).map(|_| WriterFigures::default()).collect(),
            stock: Stock::default(),
            alarm: Alarm::default(),
            free_bytes: AtomicU64::new(u64::MAX),
            starved: AtomicBool::new(false),
            spares: Mutex::default(),
            // The epoch in front: unique for ever, and later is higher.
            generations: AtomicU64::new((epoch << GENERATION_EPOCH_SHIFT) | 1),
            ticks: AtomicU64::new(0),
            wants_tick: AtomicBool::new(false),
            requests,
        }
    }

    /// Rises about once a second.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::SeqCst)
    }

    /// The alarm is to ring when `ticks` rises next, or the time after that.
    pub fn ring_at_tick(&self) {
        self.wants_tick.store(true, Ordering::SeqCst);
    }

    pub(super) fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::SeqCst);
        if self.wants_tick.swap(false, Ordering::SeqCst) {
            self.alarm.ring();
        }
    }

    /// A generation that was never used.
    pub fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed)
    }

    /// A spare, without waiting. The last one is the relay's.
    pub fn take_spare(&self, for_relay: bool) -> Option<Spare> {
        let spare = self.pop_spare(for_relay);
        self.ask(Request::Look);
        spare
    }

    pub(super) fn pop_spare(&self, for_relay: bool) -> Option<Spare> {
        let mut spares = self.spares();
        if spares.is_empty() || !for_relay && spares.len() <= RELAY_SPARES {
            return None;
        }
        // One that holds no old mail, if there is one: what follows the last record of a segment stays there for long.
        let place = spares.iter().rposition(|spare| spare.dirty.is_none()).unwrap_or(spares.len() - 1);
        Some(spares.remove(place))
    }

    /// Can a core's writer get a spare again? That there are few for a moment, while another is being
    /// made, is no reason to refuse mail: only a failure to make one is.
    pub(super) fn look_for_spares(&self) {
        if self.spares().len() > RELAY_SPARES {
            self.starved.store(false, Ordering::Relaxed);
        }
    }

    /// Can new mail of so many octets be taken?
    pub fn has_room(&self, bytes: u64) -> bool {
        self.room().is_some_and(|room| room >= bytes)
    }

    /// Octets of new mail that can be taken; none: not a message. One or two atomic loads.
    pub fn room(&self) -> Option<u64> {
        if self.starved.load(Ordering::Relaxed) {
            return None;
        }
        self.free_bytes.load(Ordering::Relaxed).checked_sub(self.reserve_bytes)
    }

    /// Free octets of the file system, or that the spool may still take, at the last look.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }

    /// Are there fewer octets of room than these?
    pub(super) fn has_less_than(&self, bytes: u64) -> bool {
        self.room().is_none_or(|room| room < bytes)
    }

    /// Puts a request into the thread's inbox. After the spool was closed nothing is done.
    pub fn ask(&self, request: Request) {
        let _ = self.requests.send(request);
    }

    /// A free header with a generation and a salt of its own. `dirty`: as of a [`Spare`].
    pub fn free_header(&self, number: u32, dirty: Option<u64>) -> Header {
        Header {
            state: State::Free,
            number,
            generation: self.next_generation(),
            salt: random_salt(),
            size: self.segment_bytes,
            created_ms: dirty.unwrap_or(0),
        }
    }

    /// Looks how much room the file system has, and how much of that the spool may take beyond `used`.
    pub(super) fn look_for_room(&self, used: u64) -> io::Result<()> {
        let free_bytes = disk::free_bytes(self.layout.root())?;
        let allowed = self.bytes_max.map_or(u64::MAX, |most| most.saturating_sub(used));
        self.free_bytes.store(allowed.min(free_bytes), Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn spares(&self) -> MutexGuard<'_, Vec<Spare>> {
        self.spares.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The epoch within a generation.
pub const GENERATION_EPOCH_SHIFT: u32 = 40;

/// Random and not zero, so that zeros are never a record.
pub fn random_salt() -> u64 {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random octets");
    u64::from_le_bytes(bytes).max(1)
}
