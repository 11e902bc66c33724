//! A disk in memory that crashes, for the simulation of spool and relay. One per thread; everything under [`ROOT`] is on it.
//!
//! ```text
//!  write, create, rename --> seen (the page cache) --sync, O_DSYNC--> durable
//!                                 |                                     |
//!                                 | power cut: of what was written and  |
//!                                 | not synced any sectors are there    v
//!                                 +-----------------------------------> seen, after the restart
//! ```
//!
//! What a power cut does: of each write that was not durable any sectors of 512 octets are there and the others are as
//! before (lost, torn, reordered, stale); of the changes to a directory since its last sync the first few are there, in
//! the order in which they were made. What a killed process leaves: the page cache, in which a write under way may
//! stand up to any page; a power cut may follow later. Which of it happens is told by the seed.
//!
//! Operations are counted, and the power goes at the one that [`Disk::cut_power_at`] names: from then on each fails and
//! changes nothing, so that whoever was in the midst of something gets no further. Trouble ([`Trouble`]) makes single
//! operations fail.

mod calls;
mod dice;
mod executor;
mod machine;
mod names;

pub use calls::{
    create_directory, forget_cached, free_bytes, is_directory, length, list, open, read_to_string, remove_file, rename,
    sync_directory, sync_file_system,
};
pub use dice::Dice;
pub use executor::{is_running, run_one, spawn, start, stop, tasks};
pub use machine::{Machine, Record, Remains, records};

use super::segment::{Header, State};
use names::Names;
use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Where the simulated disk is mounted.
pub const ROOT: &str = "/simulated";
const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// How often operations fail, out of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    /// Writes, with EIO; any sectors may have been written.
    pub writes: u64,
    /// Syncs of files, with EIO; any sectors are durable, and the others will never be.
    pub syncs: u64,
    /// Changes of names and their syncs, with EIO.
    pub names: u64,
    /// Opening and reading, with EMFILE and EIO.
    pub reads: u64,
    /// The disk is full.
    pub full: bool,
}

/// The disk.
pub struct Disk {
    dice: Dice,
    names: Names,
    inodes: Vec<Inode>,
    flights: Vec<Flight>,
    operations: u64,
    cut_at: Option<u64>,
    dead: bool,
    /// What fails.
    pub trouble: Trouble,
    /// A file of which nothing behind the first block can be read.
    pub unreadable: Option<PathBuf>,
    /// Reads and openings that failed.
    pub failed_reads: u64,
    /// Segments whose free header was written.
    pub recycled: u64,
    /// Operations other than the writing of groups that failed: whether a message is there may be undecided then.
    pub undecided: u64,
}

/// A file's content.
#[derive(Clone, Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Ranges written and not synced.
    dirty: Vec<(usize, usize)>,
}

/// A write or sync under way.
struct Flight {
    number: u64,
    inode: usize,
    work: Work,
    waker: Option<Waker>,
    /// None: under way.
    result: Option<io::Result<()>>,
}

enum Work {
    Write { offset: usize, bytes: Vec<u8>, durable: bool, copied: bool },
    Sync,
}

/// An open file of the disk.
#[derive(Clone, Debug)]
pub struct File {
    inode: usize,
    durable: bool,
}

thread_local! {
    static DISK: RefCell<Option<Disk>> = const { RefCell::new(None) };
}

/// Is `path` on the simulated disk?
pub fn has(path: &Path) -> bool {
    path.starts_with(ROOT)
}

/// Puts a disk into this thread.
pub fn install(disk: Disk) {
    DISK.set(Some(disk));
}

/// Takes it out.
pub fn remove() {
    DISK.set(None);
}

/// The disk of this thread.
pub fn with<T>(act: impl FnOnce(&mut Disk) -> T) -> T {
    DISK.with_borrow_mut(|disk| act(disk.as_mut().expect("a disk was installed")))
}

fn error(code: nix::errno::Errno) -> io::Error {
    io::Error::from_raw_os_error(code as i32)
}

fn eio() -> io::Error {
    error(nix::errno::Errno::EIO)
}

impl Disk {
    /// An empty one.
    pub fn new(seed: u64) -> Disk {
        Disk {
            dice: Dice::new(seed ^ 0xd15c),
            names: Names::new(Path::new(ROOT)),
            inodes: Vec::new(),
            flights: Vec::new(),
            operations: 0,
            cut_at: None,
            dead: false,
            trouble: Trouble::default(),
            unreadable: None,
            failed_reads: 0,
            recycled: 0,
            undecided: 0,
        }
    }

    /// The power goes at the operation that is so many after the last one.
    pub fn cut_power_at(&mut self, operations: Option<u64>) {
        self.cut_at = operations.map(|operations| self.operations + operations);
    }

    /// The power is off, or the process is killed.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Nothing more happens.
    pub fn die(&mut self) {
        self.dead = true;
    }

    /// Writes and syncs under way.
    pub fn flights(&self) -> usize {
        self.flights.iter().filter(|flight| flight.result.is_none()).count()
    }

    /// After `die`: the disk as a restart of the machine finds it.
    pub fn after_power_cut(&mut self) {
        for flight in std::mem::take(&mut self.flights) {
            if let (None, Work::Write { offset, bytes, .. }) = (flight.result, flight.work) {
                self.inodes[flight.inode].reach(offset, &bytes, Some(&mut self.dice));
            }
        }
        for inode in &mut self.inodes {
            let dirty = std::mem::take(&mut inode.dirty);
            let seen = std::mem::take(&mut inode.seen);
            for (from, to) in dirty {
                let to = to.min(seen.len());
                if from < to {
                    inode.reach(from, &seen[from..to], Some(&mut self.dice));
                }
            }
            inode.seen = inode.durable.clone();
        }
        self.names.after_power_cut(&mut self.dice);
        self.dead = false;
        self.cut_at = None;
    }

    /// After `die`: the disk as a restart of the process finds it.
    pub fn after_kill(&mut self) {
        for flight in std::mem::take(&mut self.flights) {
            let (None, Work::Write { offset, bytes, durable, copied }) = (flight.result, flight.work) else { continue };
            let inode = &mut self.inodes[flight.inode];
            match self.dice.below(3) {
                0 if durable => {
                    inode.see(offset, &bytes);
                    inode.reach(offset, &bytes, None);
                }
                1 if !copied => {
                    let pages = self.dice.below(bytes.len().div_ceil(PAGE) as u64 + 1) as usize;
                    let there = &bytes[..(pages * PAGE).min(bytes.len())];
                    inode.see(offset, there);
                    inode.dirty.push((offset, offset + there.len()));
                }
                _ if copied => inode.dirty.push((offset, offset + bytes.len())),
                _ => {}
            }
        }
        self.dead = false;
        self.cut_at = None;
    }

    /// Some operation under way comes back.
    pub fn complete_one(&mut self) {
        let under_way: Vec<usize> =
            (0..self.flights.len()).filter(|&index| self.flights[index].result.is_none()).collect();
        if under_way.is_empty() {
            return;
        }
        let index = under_way[self.dice.below(under_way.len() as u64) as usize];
        if self.boundary().is_err() {
            return;
        }
        let Disk { flights, inodes, dice, trouble, undecided, .. } = self;
        let flight = &mut flights[index];
        let inode = &mut inodes[flight.inode];
        let result = match &mut flight.work {
            Work::Sync => inode.sync(dice, trouble.syncs),
            Work::Write { offset, bytes, durable, copied } => {
                let fails = dice.per_mille(trouble.writes);
                if !*copied {
                    inode.see(*offset, bytes);
                }
                match *durable {
                    true => inode.reach(*offset, bytes, fails.then_some(dice)),
                    false => inode.dirty.push((*offset, *offset + bytes.len())),
                }
                *undecided += u64::from(fails && *offset < PAGE);
                if fails { Err(eio()) } else { Ok(()) }
            }
        };
        flight.result = Some(result);
        if let Some(waker) = flight.waker.take() {
            waker.wake();
        }
    }

    /// The same disk once more, with nothing under way.
    pub fn copy(&self) -> Disk {
        let Disk { dice, names, inodes, operations, .. } = self;
        let (dice, names, inodes) = (dice.clone(), names.clone(), inodes.clone());
        Disk { dice, names, inodes, operations: *operations, ..Disk::new(0) }
    }

    /// A file's content changes by itself, on the medium too.
    pub fn damage(&mut self, path: &Path, act: impl Fn(&mut Vec<u8>)) {
        let inode = self.names.get(path).expect("such a file");
        act(&mut self.inodes[inode].seen);
        act(&mut self.inodes[inode].durable);
    }

    /// Is this range of a file durable as it is seen?
    pub fn is_durable(&self, path: &Path, from: usize, to: usize) -> bool {
        let Some(inode) = self.names.get(path) else { return false };
        let inode = &self.inodes[inode];
        inode.seen.get(from..to).is_some_and(|seen| inode.durable.get(from..to) == Some(seen))
    }

    /// Names in a directory.
    pub fn list(&self, directory: &Path) -> Vec<PathBuf> {
        self.names.list(directory)
    }

    /// The content of a file, as it is seen.
    pub fn content(&self, path: &Path) -> Option<&[u8]> {
        self.names.get(path).map(|inode| &self.inodes[inode].seen[..])
    }

    /// Is anything but zeros behind `from` in a file, on the disk or as it is seen?
    pub fn holds_behind(&self, path: &Path, from: usize) -> bool {
        let Some(inode) = self.names.get(path) else { return false };
        let Inode { seen, durable, .. } = &self.inodes[inode];
        seen.iter().skip(from).chain(durable.iter().skip(from)).any(|&octet| octet != 0)
    }

    /// One operation more; the power may go at it.
    fn boundary(&mut self) -> io::Result<()> {
        if !self.dead {
            self.operations += 1;
            self.dead = self.cut_at == Some(self.operations);
        }
        if self.dead { Err(eio()) } else { Ok(()) }
    }

    fn name_operation(&mut self) -> io::Result<()> {
        self.boundary()?;
        let fails = self.dice.per_mille(self.trouble.names);
        self.undecided += u64::from(fails);
        if fails { Err(eio()) } else { Ok(()) }
    }

    fn read_operation(&mut self, code: nix::errno::Errno) -> io::Result<()> {
        if self.dead {
            return Err(eio());
        }
        let fails = self.dice.per_mille(self.trouble.reads);
        self.failed_reads += u64::from(fails);
        if fails { Err(error(code)) } else { Ok(()) }
    }

    fn grows(&mut self, inode: usize, to: usize) -> io::Result<()> {
        if self.trouble.full && to > self.inodes[inode].seen.len() {
            self.undecided += 1;
            return Err(error(nix::errno::Errno::ENOSPC));
        }
        Ok(())
    }
}

impl Inode {
    fn see(&mut self, offset: usize, bytes: &[u8]) {
        write_into(&mut self.seen, offset, bytes);
    }

    /// All sectors reach the medium, or with dice some.
    fn reach(&mut self, offset: usize, bytes: &[u8], mut some: Option<&mut Dice>) {
        if some.is_none() {
            return write_into(&mut self.durable, offset, bytes);
        }
        let mut at = 0;
        while at < bytes.len() {
            let next = ((offset + at + SECTOR) / SECTOR * SECTOR - offset).min(bytes.len());
            if some.as_mut().is_none_or(|dice| dice.below(2) == 0) {
                write_into(&mut self.durable, offset + at, &bytes[at..next]);
            }
            at = next;
        }
    }

    /// What was written becomes durable. After a failure nothing is dirty any more, as in Linux: the next sync succeeds.
    fn sync(&mut self, dice: &mut Dice, fails: u64) -> io::Result<()> {
        let fails = dice.per_mille(fails);
        for (from, to) in std::mem::take(&mut self.dirty) {
            let to = to.min(self.seen.len());
            if from < to {
                let bytes = self.seen[from..to].to_vec();
                self.reach(from, &bytes, fails.then_some(&mut *dice));
            }
        }
        if fails { Err(eio()) } else { Ok(()) }
    }
}

fn write_into(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if content.len() < offset + bytes.len() {
        content.resize(offset + bytes.len(), 0);
    }
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl File {
    /// As pread.
    pub fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        with(|disk| {
            disk.read_operation(nix::errno::Errno::EIO)?;
            let is_unreadable = |path: &PathBuf| disk.names.get(path) == Some(self.inode);
            if offset >= PAGE as u64 && disk.unreadable.as_ref().is_some_and(is_unreadable) {
                disk.failed_reads += 1;
                return Err(eio());
            }
            let there = disk.inodes[self.inode].seen.get(offset as usize..).unwrap_or_default();
            let read = there.len().min(into.len());
            into[..read].copy_from_slice(&there[..read]);
            Ok(read)
        })
    }

    /// Writes at once; durable, if the file was opened so.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        with(|disk| {
            let (from, to) = (offset as usize, offset as usize + bytes.len());
            if disk.dead {
                return Err(eio());
            }
            disk.grows(self.inode, to)?;
            let lost = disk.boundary();
            let fails = lost.is_ok() && disk.dice.per_mille(disk.trouble.writes);
            disk.undecided += u64::from(fails);
            let is_free = |header: Header| header.state == State::Free;
            disk.recycled += u64::from(self.durable && from == 0 && Header::from_block(bytes).is_ok_and(is_free));
            let Disk { inodes, dice, .. } = disk;
            let inode = &mut inodes[self.inode];
            inode.see(from, bytes);
            match self.durable {
                true => inode.reach(from, bytes, (lost.is_err() || fails).then_some(dice)),
                false => inode.dirty.push((from, to)),
            }
            if fails { Err(eio()) } else { lost }
        })
    }

    /// Makes all durable that was written.
    pub fn sync(&self) -> io::Result<()> {
        with(|disk| {
            disk.boundary()?;
            let Disk { inodes, dice, trouble, undecided, .. } = disk;
            let result = inodes[self.inode].sync(dice, trouble.syncs);
            *undecided += u64::from(result.is_err());
            result
        })
    }

    /// The same as `write_all_at`, but it comes back when the disk says so.
    pub fn begin_write(&self, bytes: &[u8], offset: u64) -> Coming {
        with(|disk| {
            let (inode, offset) = (self.inode, offset as usize);
            if let Err(error) = disk.grows(inode, offset + bytes.len()).and_then(|()| disk.boundary()) {
                return Coming::Now(Some(error));
            }
            let copied = disk.dice.below(2) == 0;
            if copied {
                disk.inodes[inode].see(offset, bytes);
            }
            disk.fly(inode, Work::Write { offset, bytes: bytes.to_vec(), durable: self.durable, copied })
        })
    }

    /// The same as `sync`, but it comes back when the disk says so.
    pub fn begin_sync(&self) -> Coming {
        with(|disk| match disk.boundary() {
            Ok(()) => disk.fly(self.inode, Work::Sync),
            Err(error) => Coming::Now(Some(error)),
        })
    }
}

impl Disk {
    fn fly(&mut self, inode: usize, work: Work) -> Coming {
        // Nothing is under way in a dead disk, so numbers of operations are never used twice.
        let number = self.operations;
        self.flights.push(Flight { number, inode, work, waker: None, result: None });
        Coming::Flight(number)
    }
}

/// What a write or sync under way resolves to.
pub enum Coming {
    /// It could not even be begun.
    Now(Option<io::Error>),
    /// By its number.
    Flight(u64),
}

impl Future for Coming {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let number = match &mut *self {
            Coming::Now(error) => return Poll::Ready(Err(error.take().unwrap_or_else(eio))),
            Coming::Flight(number) => *number,
        };
        with(|disk| {
            let Some(index) = disk.flights.iter().position(|flight| flight.number == number) else {
                return Poll::Ready(Err(eio()));
            };
            if let Some(result) = disk.flights[index].result.take() {
                disk.flights.remove(index);
                return Poll::Ready(result);
            }
            disk.flights[index].waker = Some(context.waker().clone());
            Poll::Pending
        })
    }
}
