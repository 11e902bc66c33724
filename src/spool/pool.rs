//! Files for large contents. Free ones are kept and used again, because writing over written space is three times cheaper
//! than into new (kernel-notes/durable-writes.md).
//!
//! ```text
//!  back --> waits to be wiped --> free --take--> a message's     (with wiping off it is free at once)
//! ```
//!
//! Promises: with wiping on, a file that is handed out holds nothing of anybody else's mail, behind its new content either;
//! free files give way when mail needs their room.

use super::disk::{self, Open};
use super::file;
use super::layout::Layout;
use super::shared::SpillFile;
use crate::log::{Level, event};
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
            // One that cannot be opened would be nobody's, and stay until the next start.
            let opened = disk::open(&self.layout.spill(number), Open::Write).inspect_err(|_| self.remove(number));
            return opened.map(|file| SpillFile { number, file });
        }
        if self.count >= SPILLS_MAX {
            return Err(io::Error::other("too many spill files"));
        }
        let number = self.next;
        let path = self.layout.spill(number);
        // A number whose file was made and could not be made durable is not used again: it would be there already.
        self.next += 1;
        let file = file::create_private(&path)?;
        self.count += 1;
        if let Err(error) = file::sync_directory(&self.layout.spills()) {
            self.remove(number);
            return Err(error);
        }
        Ok(SpillFile { number, file })
    }

    /// Nobody needs it any more. `keep`: it may be used again.
    pub fn give_back(&mut self, number: u64, keep: bool) {
        let path = self.layout.spill(number);
        let small = disk::length(&path).is_ok_and(|length| length <= POOLED_BYTES);
        match keep && small && self.free.len() + self.dirty.len() < POOLED {
            false => self.remove(number),
            true if self.wipes => self.dirty.push(number),
            true => self.free.push(number),
        }
    }

    /// A file to be overwritten, which comes back by [`SpillPool::wiped`].
    pub fn next_dirty(&mut self) -> Option<u64> {
        self.dirty.pop()
    }

    /// How many files there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Files that are to be overwritten.
    pub fn to_wipe(&self) -> usize {
        self.dirty.len()
    }

    /// It holds nothing any more.
    pub fn wiped(&mut self, number: u64) {
        self.free.push(number);
    }

    /// Files that are not free.
    #[cfg(test)]
    pub fn in_use(&self) -> u64 {
        self.count - (self.free.len() + self.dirty.len()) as u64
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
            Err(error) => {
                // It may be gone, and only that not durable.
                let is_gone = disk::length(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
                self.count = self.count.saturating_sub(u64::from(is_gone));
                let line = event(Level::Warning, "spill file cannot be removed");
                line.field("file", path.display()).field("error", error).emit();
            }
        }
    }

    /// Octets of all files, used or free. Reads the directory.
    pub fn bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for path in disk::list(&self.layout.spills())? {
            // One that is removed meanwhile takes nothing.
            bytes += disk::length(&path).unwrap_or(0);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{self, Disk, ROOT, Trouble};
    use super::*;
    use std::path::Path;

    #[test]
    fn a_free_file_that_cannot_be_opened_is_nobodys_and_goes() {
        simulated::install(Disk::new(1));
        let layout = Layout::new(Path::new(ROOT));
        disk::create_directory(&layout.spills()).expect("made");
        let mut pool = SpillPool::new(layout.clone(), 1, 0, false);
        let SpillFile { number, file } = pool.take().expect("a file");
        file.write_all_at(&[7; 100], 0).expect("written");
        pool.give_back(number, true);
        simulated::with(|disk| disk.trouble = Trouble { reads: 1000, ..Trouble::default() });
        assert!(pool.take().is_err());
        simulated::with(|disk| disk.trouble = Trouble::default());
        assert_eq!((pool.count(), pool.in_use()), (0, 0));
        assert!(disk::list(&layout.spills()).expect("listed").is_empty());
        simulated::remove();
    }

    #[test]
    fn a_file_that_is_gone_counts_no_more_though_that_is_not_durable_yet() {
        simulated::install(Disk::new(1));
        let layout = Layout::new(Path::new(ROOT));
        disk::create_directory(&layout.spills()).expect("made");
        let mut pool = SpillPool::new(layout.clone(), 1, 0, false);
        let there = |pool: &SpillPool| (pool.count(), disk::list(&layout.spills()).expect("listed").len() as u64);
        for _ in 0..64 {
            let number = pool.take().expect("a file").number;
            simulated::with(|disk| disk.trouble = Trouble { names: 500, ..Trouble::default() });
            pool.remove(number);
            simulated::with(|disk| disk.trouble = Trouble::default());
            let (count, files) = there(&pool);
            assert_eq!(count, files);
        }
        assert!((1..64).contains(&pool.count()), "neither fails: {}", pool.count());
        simulated::remove();
    }
}
