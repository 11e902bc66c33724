//! Files for large contents. Free ones are kept and used again, because writing over written space is three times cheaper
//! than into new (kernel-notes/durable-writes.md).
//!
//! ```text
//!  back --> waits to be wiped --> free --take--> a message's     (with wiping off it is free at once)
//! ```
//!
//! Promises: with wiping on, a file that is handed out holds nothing of anybody else's mail, behind its new content either;
//! free files give way when mail needs their room.

use super::file;
use super::layout::Layout;
use super::shared::SpillFile;
use crate::log::{Level, event};
use std::fs::File;
use std::io;

/// How many free spill files are kept for reuse, at most, and how many octets one of them may have.
const POOLED: usize = 64;
const POOLED_BYTES: u64 = 32 << 20;
/// What the pool takes at the most, in octets: with less room than this there is none.
pub const POOL_BYTES: u64 = POOLED as u64 * POOLED_BYTES;
/// Spill files in existence, at most.
const SPILLS_MAX: u64 = 65_536;

/// All spill files.
pub struct SpillPool {
    layout: Layout,
    wipes: bool,
    free: Vec<u64>,
    /// Free, and hold what is to be overwritten first.
    dirty: Vec<u64>,
    next: u64,
    count: u64,
}

impl SpillPool {
    /// `next` is above all numbers in use; `count` files exist. `wipes`: what was in a file is overwritten before it is used
    /// again.
    pub fn new(layout: Layout, next: u64, count: u64, wipes: bool) -> SpillPool {
        SpillPool { layout, wipes, free: Vec::new(), dirty: Vec::new(), next, count }
    }

    /// A file to write into from its start. Errors: the disk's, or there are too many.
    pub fn take(&mut self) -> io::Result<SpillFile> {
        if let Some(number) = self.free.pop() {
            let file = File::options().read(true).write(true).open(self.layout.spill(number))?;
            return Ok(SpillFile { number, file });
        }
        if self.count >= SPILLS_MAX {
            return Err(io::Error::other("too many spill files"));
        }
        let number = self.next;
        let path = self.layout.spill(number);
        let file = file::create_private(&path)?;
        file::sync_directory(&self.layout.spills())?;
        self.next += 1;
        self.count += 1;
        Ok(SpillFile { number, file })
    }

    /// Nobody needs it any more. `keep`: it may be used again.
    pub fn give_back(&mut self, number: u64, keep: bool) {
        let path = self.layout.spill(number);
        let small = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= POOLED_BYTES);
        match keep && small && self.free.len() + self.dirty.len() < POOLED {
            false => self.remove(number),
            true if self.wipes => self.dirty.push(number),
            true => self.free.push(number),
        }
    }

    /// A file to be overwritten, which comes back by [`SpillPool::wiped`].
    pub fn to_wipe(&mut self) -> Option<u64> {
        self.dirty.pop()
    }

    /// It holds nothing any more.
    pub fn wiped(&mut self, number: u64) {
        self.free.push(number);
    }

    /// Gives all free files back to the file system.
    pub fn empty(&mut self) {
        let all: Vec<u64> = self.free.drain(..).chain(self.dirty.drain(..)).collect();
        all.into_iter().for_each(|number| self.remove(number));
    }

    /// Removes a file.
    pub fn remove(&mut self, number: u64) {
        let path = self.layout.spill(number);
        match file::remove_durably(&path) {
            Ok(()) => self.count = self.count.saturating_sub(1),
            Err(error) => event(Level::Warning, "spill file cannot be removed")
                .field("file", path.display())
                .field("error", error)
                .emit(),
        }
    }

    /// Octets of all files, used or free. Reads the directory.
    pub fn bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for entry in std::fs::read_dir(self.layout.spills())? {
            // One that is removed meanwhile takes nothing.
            bytes += entry?.metadata().map_or(0, |metadata| metadata.len());
        }
        Ok(bytes)
    }
}
