//! Old mail is overwritten with zeros, a piece at a time, when the files thread has nothing better to do.
//!
//! What was delivered stands in its segment until the segment is used again, which may take long where there is little mail.
//! `wipe_after` bounds that, in quarters:
//!
//! | | who | after |
//! |---|---|---|
//! | a segment that is written is changed for another | writer.rs | one quarter |
//! | what still counts in it is moved out | survivors.rs | one more at most |
//! | it is overwritten, unless it has been used again | here | one more |
//!
//! Spill files are overwritten as soon as they are free (pool.rs). A file that is removed is left to the file system.

use super::disk::{self, File};
use super::file;
use super::layout::Layout;
use super::segment::BLOCK;
use super::shared::Spare;
use std::io;

/// Octets written before requests get their turn.
const PIECE: u64 = 1 << 20;

/// A file that is being overwritten.
pub struct Wiping {
    what: What,
    file: File,
    at: u64,
    end: u64,
}

/// Whose it is.
pub enum What {
    /// A spare; its header stays.
    Segment(Spare),
    /// A spill file.
    Spill(u64),
}

impl Wiping {
    /// Begins with a spare of so many octets. Errors: its file cannot be opened; and the spare.
    pub fn segment(layout: &Layout, spare: Spare, size: u64) -> Result<Wiping, (Spare, io::Error)> {
        match file::open_for_zeros(&layout.segment(spare.number)) {
            Ok(file) => Ok(Wiping { what: What::Segment(spare), file, at: BLOCK, end: size }),
            Err(error) => Err((spare, error)),
        }
    }

    /// Begins with a spill file.
    pub fn spill(layout: &Layout, number: u64) -> io::Result<Wiping> {
        let file = file::open_for_zeros(&layout.spill(number))?;
        let end = disk::length(&layout.spill(number))?;
        Ok(Wiping { what: What::Spill(number), file, at: 0, end })
    }

    /// Overwrites one piece; Ok(true): that was all, and it is durable.
    pub fn step(&mut self) -> io::Result<bool> {
        if self.at < self.end {
            let length = PIECE.min(self.end - self.at);
            file::write_zeros(&self.file, self.at, length)?;
            self.at += length;
        }
        if self.at >= self.end {
            self.file.sync_all()?;
        }
        Ok(self.at >= self.end)
    }

    /// When the segment was erased.
    pub fn since(&self) -> Option<u64> {
        match &self.what {
            What::Segment(spare) => spare.dirty,
            What::Spill(_) => None,
        }
    }

    /// Is it a segment?
    pub fn is_segment(&self) -> bool {
        matches!(self.what, What::Segment(_))
    }

    /// Whose it is, again.
    pub fn into_what(self) -> What {
        self.what
    }
}
