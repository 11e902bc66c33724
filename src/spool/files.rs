//! The files thread: one plain thread that does what would stall a core.
//!
//! ```text
//!  writers  ---- take a spare (a lock, once per segment) ---->  spares <--- zero-fills one ahead per writer
//!           ---- Spare(reply), when there is none ---------->  files    --> a spare, or why not
//!           ---- Spill(reply) / SpillBack ------------------>  thread   --> spill files, pooled
//!  follower ---- Erase(segment) ---------------------------->           --> "erased", once it is durable; a spare again
//!                                                              each second: free space -> an atomic; who waits is woken
//! ```
//!
//! What waits in its inbox is bounded by what exists: a segment is erased once, a spill file comes back once, and each
//! writer and each connection that asks waits for its answer.
//!
//! Promises: a spare handed out is wholly written once, has a durable free header and is nobody else's; "erased" is told
//! only when the free header, or the removal, is durable; a segment's end that stood in an erased header stands in its own.

use super::file;
use super::inventory::Inventory;
use super::layout::Layout;
use super::published::{Alarm, Published};
use super::segment::{BLOCK, Header, Sealed, State};
use crate::clock::now_ms;
use crate::log::{Level, event};
use futures_channel::oneshot;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

/// What all parts of an open spool share.
pub struct Shared {
    /// Where the files are.
    pub layout: Layout,
    /// Octets per segment.
    pub segment_bytes: u64,
    /// New mail is refused when the file system has fewer free octets.
    pub reserve_bytes: u64,
    /// The number of this opening.
    pub epoch: u64,
    /// One per core writer, then the relay's.
    pub published: Vec<Published>,
    /// Wakes the follower.
    pub alarm: Alarm,
    free_bytes: AtomicU64,
    /// No spare segment is left and none could be made.
    starved: AtomicBool,
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
const RELAY_SPARES: usize = 1;

/// A segment that anybody may take: zero-filled or recycled, its free header durable.
pub struct Spare {
    /// Its number.
    pub number: u32,
    /// Opened with O_DSYNC.
    pub file: File,
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
        segment_bytes: u64,
        reserve_bytes: u64,
        epoch: u64,
        writers: usize,
        requests: mpsc::Sender<Request>,
    ) -> Shared {
        Shared {
            layout,
            segment_bytes,
            reserve_bytes,
            epoch,
            published: (0..writers).map(|_| Published::default()).collect(),
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

    fn tick(&self) {
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

    fn pop_spare(&self, for_relay: bool) -> Option<Spare> {
        let mut spares = self.spares();
        if for_relay || spares.len() > RELAY_SPARES { spares.pop() } else { None }
    }

    /// Can a core's writer get a spare again? That there are few for a moment, while another is being
    /// made, is no reason to refuse mail: only a failure to make one is.
    fn look_for_spares(&self) {
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

    /// Is there less room than the pool of free spill files may take? What they take counts as used, so that mail would be
    /// refused for the sake of files without any.
    fn is_cramped(&self) -> bool {
        self.room().is_none_or(|room| room < POOLED_SPILLS as u64 * POOLED_SPILL_BYTES)
    }

    /// Puts a request into the thread's inbox. After the spool was closed nothing is done.
    pub fn ask(&self, request: Request) {
        let _ = self.requests.send(request);
    }

    /// A free header with a generation and a salt of its own.
    pub fn free_header(&self, number: u32) -> Header {
        Header {
            state: State::Free,
            number,
            generation: self.next_generation(),
            salt: random_salt(),
            size: self.segment_bytes,
            created_ms: now_ms(),
        }
    }

    /// Looks how much room the file system has.
    pub fn look_for_room(&self) -> io::Result<()> {
        let free = nix::sys::statvfs::statvfs(self.layout.root())?;
        self.free_bytes.store(free.blocks_available() * free.fragment_size(), Ordering::Relaxed);
        Ok(())
    }

    fn spares(&self) -> MutexGuard<'_, Vec<Spare>> {
        self.spares.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The epoch within a generation.
pub const GENERATION_EPOCH_SHIFT: u32 = 40;

/// How many free spill files are kept for reuse, at most, and how many octets one of them may have.
const POOLED_SPILLS: usize = 64;
const POOLED_SPILL_BYTES: u64 = 32 << 20;
/// Spill files in existence, at most.
const SPILLS_MAX: u64 = 65_536;
const TICK: Duration = Duration::from_secs(1);

/// The thread's own state.
pub struct Files {
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Request>,
    erased: mpsc::Sender<(u32, u64)>,
    inventory: Inventory,
    next_segment: u32,
    next_spill: u64,
    /// Free spill files.
    pool: Vec<u64>,
    spills: u64,
    looked: Instant,
    /// The last attempt to make a spare failed; tried again at the next tick.
    failing: bool,
}

impl Files {
    /// `next_segment` and `next_spill` are above all numbers in use; `spills` files exist.
    pub fn new(
        shared: Arc<Shared>,
        inbox: mpsc::Receiver<Request>,
        erased: mpsc::Sender<(u32, u64)>,
        inventory: Inventory,
        next_segment: u32,
        next_spill: u64,
        spills: u64,
    ) -> Files {
        let (pool, looked, failing) = (Vec::new(), Instant::now(), false);
        Files { shared, inbox, erased, inventory, next_segment, next_spill, pool, spills, looked, failing }
    }

    /// Puts a free segment of an earlier run among the spares.
    pub fn adopt(&mut self, number: u32) -> io::Result<()> {
        let file = file::open_durable(&self.shared.layout.segment(number))?;
        self.shared.spares().push(Spare { number, file });
        Ok(())
    }

    /// Removes a segment that holds nothing.
    pub fn remove(&mut self, number: u32) -> io::Result<()> {
        self.inventory.strike_out(number);
        file::remove_durably(&self.shared.layout.segment(number))
    }

    /// Makes spares until there are so many. With none for the cores the relay delivers all the same, and makes room by
    /// that. Errors: there is not even one for the relay.
    pub fn prepare(&mut self, wanted: usize) -> io::Result<()> {
        while self.shared.spares().len() < wanted {
            let made = self.make_spare();
            match made {
                Ok(spare) => self.shared.spares().push(spare),
                Err(error) if self.shared.spares().len() < RELAY_SPARES => return Err(error),
                Err(error) => {
                    self.note_failure(&error);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Runs until `Request::Stop`.
    pub fn run(mut self) {
        loop {
            match self.inbox.try_recv() {
                Ok(Request::Stop) | Err(mpsc::TryRecvError::Disconnected) => return,
                Ok(request) => self.serve(request),
                Err(mpsc::TryRecvError::Empty) if self.lacks_spares() => self.make_one_ahead(),
                Err(mpsc::TryRecvError::Empty) => match self.inbox.recv_timeout(TICK) {
                    Ok(Request::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
                    Ok(request) => self.serve(request),
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                },
            }
            if self.looked.elapsed() >= TICK {
                self.tick();
            }
        }
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Look | Request::Stop => {}
            Request::Spare { for_relay, reply } => self.give_spare(for_relay, reply),
            Request::Erase(segment) => self.erase(segment),
            Request::Close(sealed) => self.close_found(sealed),
            Request::Spill(reply) => {
                // The asker has gone: the file goes back.
                if let Err(Ok(unwanted)) = reply.send(self.spill_file()) {
                    self.spill_back(unwanted.number, true);
                }
            }
            Request::SpillBack { number, reusable } => self.spill_back(number, reusable),
        }
    }

    fn tick(&mut self) {
        self.looked = Instant::now();
        self.failing = false;
        self.shared.tick();
        if let Err(error) = self.shared.look_for_room() {
            event(Level::Warning, "spool free space unknown").field("error", error).emit();
        }
        if self.shared.is_cramped() {
            std::mem::take(&mut self.pool).into_iter().for_each(|number| self.remove_spill(number));
        }
    }

    fn wanted(&self) -> usize {
        self.shared.published.len()
    }

    fn lacks_spares(&self) -> bool {
        !self.failing && self.shared.spares().len() < self.wanted()
    }

    fn make_one_ahead(&mut self) {
        match self.make_spare() {
            Ok(spare) => {
                self.shared.spares().push(spare);
                self.shared.look_for_spares();
            }
            Err(error) => self.note_failure(&error),
        }
    }

    fn give_spare(&mut self, for_relay: bool, reply: oneshot::Sender<io::Result<Spare>>) {
        let spare = match self.shared.pop_spare(for_relay) {
            Some(spare) => Ok(spare),
            None => self.make_spare(),
        };
        if let Err(error) = &spare {
            self.note_failure(error);
        }
        if let Err(Ok(unwanted)) = reply.send(spare) {
            self.shared.spares().push(unwanted);
        }
    }

    fn note_failure(&mut self, error: &io::Error) {
        let starved = self.shared.spares().len() <= RELAY_SPARES;
        if !self.shared.starved.swap(starved, Ordering::Relaxed) || !starved {
            event(Level::Error, "spool segment cannot be prepared").field("error", error).emit();
        }
        self.failing = true;
    }

    fn make_spare(&mut self) -> io::Result<Spare> {
        let number = self.next_segment;
        let layout = &self.shared.layout;
        let (new, path) = (layout.new_segment(number), layout.segment(number));
        let made = file::create_zeroed(&new, self.shared.segment_bytes)
            .and_then(|file| file::write_durably(&new, &file, 0, &self.shared.free_header(number).to_block()))
            .and_then(|()| file::rename_durably(&new, &path))
            .and_then(|()| file::open_durable(&path));
        match made {
            Ok(file) => {
                self.next_segment += 1;
                self.inventory.enter(number);
                Ok(Spare { number, file })
            }
            Err(error) => {
                // Half a segment must not take the room that is missing.
                let _ = std::fs::remove_file(&new);
                Err(error)
            }
        }
    }

    fn erase(&mut self, segment: Erase) {
        let keep = segment.reusable
            && segment.size == self.shared.segment_bytes
            && self.shared.spares().len() < 2 * self.wanted();
        let path = self.shared.layout.segment(segment.number);
        let closed = segment.seals.map_or(Ok(()), |sealed| self.close(sealed));
        let result = closed.and_then(|()| match keep {
            true => self.recycle(segment.number).map(Some),
            false => self.remove(segment.number).map(|()| None),
        });
        match result {
            Ok(spare) => {
                // Before anybody can take it: its next generation must not be followed before this one's end is told.
                // The follower may have gone already.
                let _ = self.erased.send((segment.number, segment.generation));
                self.shared.spares().extend(spare);
                self.shared.look_for_spares();
                self.shared.alarm.ring();
            }
            Err(error) => event(Level::Error, "spool segment cannot be erased")
                .field("file", path.display())
                .field("error", error)
                .emit(),
        }
    }

    /// If it fails, the next start looks for the end again.
    fn close_found(&self, sealed: Sealed) {
        if let Err(error) = self.close(sealed) {
            let line = event(Level::Warning, "spool segment not closed, the next start looks for its end");
            line.field("segment", sealed.number).field("error", error).emit();
        }
    }

    /// Writes a segment's end into its own header, unless it is erased already. Its writer has left it.
    fn close(&self, sealed: Sealed) -> io::Result<()> {
        let path = self.shared.layout.segment(sealed.number);
        let file = match file::open_durable(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let mut block = vec![0; BLOCK as usize];
        let read = file::ReadFile::open(&path)?.read_at(0, &mut block)?;
        let Ok(mut header) = Header::from_block(&block[..read]) else { return Ok(()) };
        match &mut header.state {
            State::Active { end, .. } if header.generation == sealed.generation => *end = Some(sealed.end),
            _ => return Ok(()),
        }
        file::write_durably(&path, &file, 0, &header.to_block())
    }

    fn recycle(&mut self, number: u32) -> io::Result<Spare> {
        let path = self.shared.layout.segment(number);
        let file = file::open_durable(&path)?;
        file::write_durably(&path, &file, 0, &self.shared.free_header(number).to_block())?;
        Ok(Spare { number, file })
    }

    fn spill_file(&mut self) -> io::Result<SpillFile> {
        if let Some(number) = self.pool.pop() {
            let file = File::options().read(true).write(true).open(self.shared.layout.spill(number))?;
            return Ok(SpillFile { number, file });
        }
        if self.spills >= SPILLS_MAX {
            return Err(io::Error::other("too many spill files"));
        }
        let number = self.next_spill;
        let path = self.shared.layout.spill(number);
        let file = file::create_private(&path)?;
        file::sync_directory(&self.shared.layout.spills())?;
        self.next_spill += 1;
        self.spills += 1;
        Ok(SpillFile { number, file })
    }

    fn spill_back(&mut self, number: u64, reusable: bool) {
        let path = self.shared.layout.spill(number);
        let small = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= POOLED_SPILL_BYTES);
        if reusable && small && self.pool.len() < POOLED_SPILLS && !self.shared.is_cramped() {
            self.pool.push(number);
            return;
        }
        self.remove_spill(number);
    }

    fn remove_spill(&mut self, number: u64) {
        let path = self.shared.layout.spill(number);
        match file::remove_durably(&path) {
            Ok(()) => self.spills = self.spills.saturating_sub(1),
            Err(error) => event(Level::Warning, "spill file cannot be removed")
                .field("file", path.display())
                .field("error", error)
                .emit(),
        }
    }
}

/// Random and not zero, so that zeros are never a record.
pub fn random_salt() -> u64 {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random octets");
    u64::from_le_bytes(bytes).max(1)
}
