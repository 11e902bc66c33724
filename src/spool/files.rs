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
//! When nothing waits it overwrites old mail (wiping.rs).
//!
//! What waits in its inbox is bounded by what exists: a segment is erased once, a spill file comes back once, and each
//! writer and each connection that asks waits for its answer.
//!
//! Promises: a spare handed out is wholly written once, has a durable free header and is nobody else's; "erased" is told
//! only when the free header, or the removal, is durable; a segment's end that stood in an erased header stands in its own.

use super::disk;
use super::file;
use super::inventory::Inventory;
use super::pool::{POOL_BYTES, SpillPool};
use super::segment::{BLOCK, Header, Sealed, State};
use super::shared::{Erase, RELAY_SPARES, Request, Shared, Spare};
use super::wiping::{What, Wiping};
use crate::clock::now_ms;
use crate::log::{Level, event};
use futures_channel::oneshot;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_secs(1);
/// Seconds between two counts of the spill files' octets.
const COUNT_EVERY: u32 = 10;

/// The thread's own state.
pub struct Files {
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Request>,
    erased: mpsc::Sender<(u32, u64)>,
    inventory: Inventory,
    next_segment: u32,
    pool: SpillPool,
    /// None: old mail stays until its segment is used again.
    wipe_after: Option<Duration>,
    wiping: Option<Wiping>,
    /// Octets of spill files, and in how many seconds they are to be counted again.
    spill_bytes: (u64, u32),
    looked: Instant,
    /// New mail could be taken at the last look.
    takes_mail: bool,
    /// The last attempt to make a spare failed; tried again at the next tick.
    failing: bool,
    /// Segments that could not be erased; tried again at the next tick.
    unerased: Vec<Erase>,
}

impl Files {
    /// `next_segment` is above all numbers in use.
    pub fn new(
        shared: Arc<Shared>,
        inbox: mpsc::Receiver<Request>,
        erased: mpsc::Sender<(u32, u64)>,
        inventory: Inventory,
        next_segment: u32,
        pool: SpillPool,
        wipe_after: Option<Duration>,
    ) -> Files {
        Files {
            shared,
            inbox,
            erased,
            inventory,
            next_segment,
            pool,
            wipe_after,
            wiping: None,
            spill_bytes: (0, 0),
            looked: Instant::now(),
            takes_mail: true,
            failing: false,
            unerased: Vec::new(),
        }
    }

    /// Puts a free segment of an earlier run among the spares.
    pub fn adopt(&mut self, header: &Header) -> io::Result<()> {
        let file = file::open_durable(&self.shared.layout.segment(header.number))?;
        // The clock goes on where the earlier run has left it, or restarts would put off for ever what has waited long.
        let dirty = (header.created_ms > 0).then(|| header.created_ms.min(now_ms()));
        self.shared.spares().push(Spare { number: header.number, file, dirty });
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
            let for_relay = self.shared.spares().len() < RELAY_SPARES;
            let made = self.make_spare(for_relay);
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
        self.show();
        loop {
            match self.inbox.try_recv() {
                Ok(Request::Stop) | Err(mpsc::TryRecvError::Disconnected) => return,
                Ok(request) => self.serve(request),
                Err(mpsc::TryRecvError::Empty) if self.lacks_spares() => self.make_one_ahead(),
                Err(mpsc::TryRecvError::Empty) if self.wipe_a_piece() => {}
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

    /// What `run` does next, if that needs no waiting; false: nothing. For the simulation, which has no threads.
    #[cfg(test)]
    pub fn step(&mut self) -> bool {
        match self.inbox.try_recv() {
            Ok(Request::Stop) | Err(mpsc::TryRecvError::Disconnected) => false,
            Ok(request) => {
                self.serve(request);
                true
            }
            Err(mpsc::TryRecvError::Empty) if self.lacks_spares() => {
                self.make_one_ahead();
                true
            }
            Err(mpsc::TryRecvError::Empty) => self.wipe_a_piece(),
        }
    }

    /// Spill files that are not free.
    #[cfg(test)]
    pub fn spills_in_use(&self) -> u64 {
        self.pool.in_use()
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Look | Request::Stop => {}
            Request::Spare { for_relay, reply } => self.give_spare(for_relay, reply),
            Request::Erase(segment) => self.erase(segment, Level::Error),
            Request::Close(sealed) => self.close_found(sealed),
            // A hint: whoever reads finds out what is wrong.
            Request::ReadAhead(number, bytes) => {
                let _ = disk::read_ahead(&self.shared.layout.segment(number), bytes);
            }
            Request::Spill(reply) => {
                // The asker has gone: the file goes back.
                if let Err(Ok(unwanted)) = reply.send(self.pool.take()) {
                    self.pool.give_back(unwanted.number, true);
                }
            }
            Request::SpillBack { number, reusable } => {
                let keep = reusable && !self.shared.has_less_than(POOL_BYTES);
                self.pool.give_back(number, keep);
            }
        }
    }

    /// A second has passed.
    pub fn tick(&mut self) {
        self.looked = Instant::now();
        self.failing = false;
        for segment in std::mem::take(&mut self.unerased) {
            self.erase(segment, Level::Debug);
        }
        self.shared.tick();
        self.look_for_room();
        // What free spill files take counts as used: mail would be refused for the sake of files without any.
        if self.shared.has_less_than(POOL_BYTES) {
            self.pool.empty();
        }
        self.give_spares_back();
        self.show();
    }

    /// Shows whoever watches what is on the disk.
    fn show(&self) {
        let stock = &self.shared.stock;
        stock.segments.set(self.inventory.count());
        stock.segment_bytes.set(self.inventory.count() * self.shared.segment_bytes);
        stock.spills.set(self.pool.count());
        stock.spill_bytes.set(self.spill_bytes.0);
        let wiping = self.wiping.is_some();
        let spares = self.shared.spares();
        let dirty = || spares.iter().filter_map(|spare| spare.dirty);
        let waiting = dirty().chain(self.wiping.iter().filter_map(Wiping::since));
        stock.spares.set(spares.len() as u64 + self.wiping_segments() as u64);
        stock.to_wipe.set((dirty().count() + self.pool.to_wipe() + usize::from(wiping)) as u64);
        stock.to_wipe_for_s.set(waiting.min().map_or(0, |since| now_ms().saturating_sub(since) / 1000));
    }

    /// Looks how much room there is and what the spool takes of it.
    pub fn look_for_room(&mut self) {
        let (bytes, seconds) = self.spill_bytes;
        let counted =
            if seconds == 0 { self.pool.bytes().map(|bytes| (bytes, COUNT_EVERY)) } else { Ok((bytes, seconds - 1)) };
        let used = |spill_bytes| self.inventory.count() * self.shared.segment_bytes + spill_bytes;
        match counted.and_then(|counted| self.shared.look_for_room(used(counted.0)).map(|()| counted)) {
            Ok(counted) => self.spill_bytes = counted,
            Err(error) => event(Level::Warning, "spool free space unknown").field("error", error).emit(),
        }
        self.say_if_room_ends();
    }

    /// A line in the log when new mail begins to be refused for want of room, and when it is taken again.
    fn say_if_room_ends(&mut self) {
        let takes_mail = self.shared.room().is_some();
        if std::mem::replace(&mut self.takes_mail, takes_mail) == takes_mail {
            return;
        }
        let line = match takes_mail {
            true => event(Level::Info, "spool has room again, new mail is taken"),
            false => event(Level::Error, "spool has no room for new mail, which is refused with 452"),
        };
        let mebibytes = |bytes: u64| bytes >> 20;
        let line = line.field("free_mib", mebibytes(self.shared.free_bytes()));
        line.field("reserve_mib", mebibytes(self.shared.reserve_bytes)).emit();
    }

    fn wanted(&self) -> usize {
        self.shared.published.len()
    }

    /// How many spares are kept. More than are wanted are at hand for a burst, but not where they take the room of new mail.
    fn spares_max(&self) -> usize {
        let is_short = self.shared.has_less_than(self.shared.segment_bytes);
        self.wanted() * if is_short { 1 } else { 2 }
    }

    /// Removes spares that are not wanted, where there is little room.
    fn give_spares_back(&mut self) {
        let surplus = {
            let mut spares = self.shared.spares();
            let kept = self.spares_max().min(spares.len());
            spares.split_off(kept)
        };
        if surplus.is_empty() {
            return;
        }
        surplus.into_iter().for_each(|spare| self.erase_spare(spare.number));
        self.look_for_room();
    }

    /// Removes a spare, which belongs to no generation that anybody follows.
    fn erase_spare(&mut self, number: u32) {
        let size = self.shared.segment_bytes;
        self.erase(Erase { number, generation: 0, size, reusable: false, seals: None }, Level::Error);
    }

    fn lacks_spares(&self) -> bool {
        !self.failing && self.shared.spares().len() + self.wiping_segments() < self.wanted()
    }

    fn make_one_ahead(&mut self) {
        let for_relay = self.shared.spares().len() < RELAY_SPARES;
        match self.make_spare(for_relay) {
            Ok(spare) => {
                self.shared.spares().push(spare);
                self.shared.look_for_spares();
            }
            Err(error) => self.note_failure(&error),
        }
    }

    fn give_spare(&mut self, for_relay: bool, reply: oneshot::Sender<io::Result<Spare>>) {
        let may_have = for_relay || self.shared.spares().len() >= RELAY_SPARES;
        let ready = self.shared.pop_spare(for_relay);
        let ready = ready.or_else(|| if may_have { self.stop_wiping_segment() } else { None });
        let spare = ready.map_or_else(|| self.make_spare(for_relay), Ok);
        if let Err(error) = &spare {
            self.note_failure(error);
        }
        if let Err(Ok(unwanted)) = reply.send(spare) {
            self.shared.spares().push(unwanted);
        }
    }

    fn note_failure(&mut self, error: &io::Error) {
        self.shared.stock.failures.add(1);
        let starved = self.shared.spares().len() <= RELAY_SPARES;
        if !self.shared.starved.swap(starved, Ordering::Relaxed) || !starved {
            event(Level::Error, "spool segment cannot be prepared").field("error", error).emit();
        }
        self.failing = true;
    }

    fn make_spare(&mut self, for_relay: bool) -> io::Result<Spare> {
        self.may_grow(for_relay)?;
        let number = self.next_segment;
        let layout = &self.shared.layout;
        let (new, path) = (layout.new_segment(number), layout.segment(number));
        let made = file::create_zeroed(&new, self.shared.segment_bytes)
            .and_then(|file| file::write_durably(&new, &file, 0, &self.shared.free_header(number, None).to_block()))
            .and_then(|()| file::rename_durably(&new, &path))
            .and_then(|()| file::open_durable(&path));
        match made {
            Ok(file) => {
                self.next_segment += 1;
                self.inventory.enter(number);
                Ok(Spare { number, file, dirty: None })
            }
            Err(error) => {
                // Half a segment must not take the room that is missing. One that cannot be removed is in the way of the next
                // attempt, which so gets another name; the next opening removes it.
                let removed = disk::remove_file(&new);
                self.next_segment += u32::from(removed.is_err_and(|why| why.kind() != io::ErrorKind::NotFound));
                Err(error)
            }
        }
    }

    /// May the spool take another segment? The relay's spare is always made: without it nothing would be delivered.
    fn may_grow(&self, for_relay: bool) -> io::Result<()> {
        let Some(most) = self.shared.bytes_max else { return Ok(()) };
        let used = (self.inventory.count() + 1) * self.shared.segment_bytes + self.spill_bytes.0;
        match used > most && !for_relay {
            true => Err(io::Error::other("the spool has reached its largest size, spool.size_max_mib")),
            false => Ok(()),
        }
    }

    /// Overwrites a piece of old mail whose time has come. False: there is none.
    fn wipe_a_piece(&mut self) -> bool {
        if self.wiping.is_none() {
            self.wiping = self.next_to_wipe();
        }
        let Some(wiping) = &mut self.wiping else { return false };
        let result = wiping.step();
        if matches!(result, Ok(false)) {
            return true;
        }
        let Some(what) = self.wiping.take().map(Wiping::into_what) else { return true };
        let result = result.and_then(|_| match &what {
            What::Segment(spare) => self.mark_clean(spare),
            What::Spill(_) => Ok(()),
        });
        match (what, result) {
            (what, Err(error)) => self.cannot_wipe(what, &error),
            (What::Segment(spare), Ok(())) => self.shared.spares().push(Spare { dirty: None, ..spare }),
            (What::Spill(number), Ok(())) => {
                self.shared.stock.wiped.add(1);
                self.pool.wiped(number);
            }
        }
        true
    }

    /// Says in its header that nothing stands behind it: the next run need not overwrite it once more.
    fn mark_clean(&self, spare: &Spare) -> io::Result<()> {
        let header = self.shared.free_header(spare.number, None);
        file::write_durably(&self.shared.layout.segment(spare.number), &spare.file, 0, &header.to_block())?;
        self.shared.stock.wiped.add(1);
        Ok(())
    }

    /// A file that has failed is not used again.
    fn cannot_wipe(&mut self, what: What, error: &io::Error) {
        event(Level::Warning, "delivered mail cannot be overwritten, its file is removed").field("error", error).emit();
        match what {
            What::Segment(Spare { number, .. }) => self.erase_spare(number),
            What::Spill(number) => self.pool.remove(number),
        }
    }

    fn next_to_wipe(&mut self) -> Option<Wiping> {
        let after = self.wipe_after?;
        if let Some(number) = self.pool.next_dirty() {
            let begun = Wiping::spill(&self.shared.layout, number);
            return begun.inspect_err(|error| self.cannot_wipe(What::Spill(number), error)).ok();
        }
        let now_ms = now_ms();
        let before_ms = now_ms.saturating_sub(after.as_millis() as u64 / 4);
        let is_due = |spare: &Spare| spare.dirty.is_some_and(|since| since <= before_ms);
        let mut spares = self.shared.spares();
        // The clock may have been set back since one was erased.
        spares.iter_mut().for_each(|spare| spare.dirty = spare.dirty.map(|since| since.min(now_ms)));
        let place = spares.iter().position(is_due)?;
        let spare = spares.remove(place);
        drop(spares);
        let begun = Wiping::segment(&self.shared.layout, spare, self.shared.segment_bytes);
        let later = |(spare, error)| {
            event(Level::Warning, "delivered mail cannot be overwritten, tried again later")
                .field("error", error)
                .emit();
            self.shared.spares().push(Spare { dirty: Some(now_ms), ..spare });
        };
        begun.map_err(later).ok()
    }

    fn wiping_segments(&self) -> usize {
        usize::from(self.wiping.as_ref().is_some_and(Wiping::is_segment))
    }

    /// A writer needs it now; it is overwritten by what comes, or later.
    fn stop_wiping_segment(&mut self) -> Option<Spare> {
        match self.wiping.take_if(|wiping| wiping.is_segment())?.into_what() {
            What::Segment(spare) => Some(spare),
            What::Spill(_) => None,
        }
    }

    /// What fails is said on `level`, and tried again with every tick; then the file goes, for it has failed once.
    fn erase(&mut self, segment: Erase, level: Level) {
        let keep = segment.reusable
            && segment.size == self.shared.segment_bytes
            && self.shared.spares().len() < self.spares_max();
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
            Err(error) => {
                let line = event(level, "spool segment cannot be erased; tried again each second");
                line.field("file", path.display()).field("error", error).emit();
                self.unerased.push(Erase { reusable: false, ..segment });
            }
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
        let dirty = Some(now_ms());
        file::write_durably(&path, &file, 0, &self.shared.free_header(number, dirty).to_block())?;
        Ok(Spare { number, file, dirty })
    }
}
