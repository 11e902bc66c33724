//! Which segments there must be: so that one that somebody deleted, or a restore has missed, is noticed.
//!
//! `DIR/inventory` is text: the number of the opening that wrote it, then the number of each segment, a line each. The files
//! thread alone writes it: a segment is entered when it is there, and struck out before its file is removed, so a crash
//! leaves a segment too many and never a false alarm. A version that does not know the file raises the epoch without
//! it; then it says nothing, and is written anew.

use super::disk;
use super::file;
use crate::log::{Level, event};
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

/// The segments that exist, and the file that says so.
#[derive(Debug)]
pub struct Inventory {
    path: PathBuf,
    epoch: u64,
    numbers: BTreeSet<u32>,
}

impl Inventory {
    /// What is there now. Nothing is written before the first change or [`Inventory::write`].
    pub fn new(path: PathBuf, epoch: u64, numbers: BTreeSet<u32>) -> Inventory {
        Inventory { path, epoch, numbers }
    }

    /// Segments that were there when the spool was used last, by opening `epoch`, and are not among `numbers`. An inventory
    /// that cannot be read says nothing.
    pub fn missing(path: &std::path::Path, epoch: u64, numbers: &BTreeSet<u32>) -> Vec<u32> {
        let text = disk::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines();
        if lines.next().and_then(|line| line.parse().ok()) != Some(epoch) {
            return Vec::new();
        }
        let entered = lines.filter_map(|line| line.parse::<u32>().ok());
        entered.filter(|number| !numbers.contains(number)).collect()
    }

    /// How many segments there are.
    pub fn count(&self) -> u64 {
        self.numbers.len() as u64
    }

    /// A segment is there.
    pub fn enter(&mut self, number: u32) {
        self.numbers.insert(number);
        self.write_or_say();
    }

    /// A segment is about to be removed.
    pub fn strike_out(&mut self, number: u32) {
        self.numbers.remove(&number);
        self.write_or_say();
    }

    /// Replaces the file durably.
    pub fn write(&self) -> io::Result<()> {
        let mut text = format!("{}\n", self.epoch);
        for number in &self.numbers {
            text.push_str(&format!("{number}\n"));
        }
        file::replace_durably(&self.path, text.as_bytes())
    }

    /// On a full disk segments are removed all the same. The next change writes what this one could not.
    fn write_or_say(&self) {
        if let Err(error) = self.write() {
            let line = event(Level::Warning, "spool inventory cannot be written");
            line.field("file", self.path.display()).field("error", error).emit();
        }
    }
}
