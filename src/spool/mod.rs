//! Durability: **`250` after end-of-data means on disk.**
//!
//! The one place that waits for the disk is [`Writer::commit`]; the one place that writes that reply is the session, after
//! `commit` has returned Ok. Kill the process or cut the power at any instruction: every message that was answered
//! `250` is there after restart, whole, byte for byte. What was never answered `250` may be there or not, but is never
//! half there. This covers what the kernel and the drive do if they keep theirs: a write to a file opened with O_DSYNC
//! that has returned is on stable storage.
//!
//! ```text
//!  core 0   Writer -> GroupCommit -> segment [header|group|group|..]     writer.rs, group_commit.rs, segment.rs, record.rs
//!  core 1   Writer -> ...                     |  durable end: an atomic  published.rs
//!  relay    Writer -> ...                     v
//!           Follower <------------------- records, in order             follower.rs, recovery.rs
//!             | settled, superseded, refers
//!             v
//!           which segments are dead                                      recycling.rs
//!             |
//!             v
//!  files    erases, zero-fills spares, spill files                       files.rs, spill.rs, file.rs
//!
//!  metrics, readiness: counts, room, can it be written                   figures.rs, probe.rs
//! ```
//!
//! A message is in one of two states on disk: it exists if its record is valid, and it is done if outcomes say so for each
//! recipient. Outcomes are records too, in the relay's own segments. Recovery is the follower reading what is there:
//! the same code as in normal running.
//!
//! The names of the directory are in layout.rs, opening it in open.rs.

#[cfg(test)]
mod crash_tests;
mod disk;
mod examine;
mod figures;
mod file;
mod files;
mod follower;
mod forgetful;
mod group_commit;
mod inventory;
mod layout;
mod open;
mod pool;
mod probe;
mod published;
mod queue_id;
mod record;
mod recovery;
mod recycling;
mod segment;
mod shared;
#[cfg(test)]
pub mod simulated;
mod spill;
mod spilled;
mod stored;
mod survivors;
#[cfg(test)]
mod tests;
mod wiping;
mod writer;

pub use examine::{Examined, NotExamined, examine};
pub use figures::{Stock, Watch, WriterFigures};
pub use follower::{Entry, Follower, Location};
pub use group_commit::GroupCommit;
pub use queue_id::{NotAQueueId, QueueId};
pub use spill::{Spill, SpillReader};
pub use stored::{Content, Reader, Reference, Stored};
pub use survivors::{Candidate, Survivors};
pub use writer::{Writer, WriterSeed};

/// What the fuzz target `record` needs of the inside. Under cargo-fuzz only.
#[cfg(fuzzing)]
pub mod inside {
    pub use super::file::ReadFile;
    pub use super::record::{ALIGNMENT, Found, HEAD_BYTES, Head, Place, append, parse, set_place};
    pub use super::recovery::{Cursor, Limit, Met};
    pub use super::segment::{BLOCK, End, FIRST_GROUP, Header, Sealed, State};
}

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

/// How a spool is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The spool directory; made if missing.
    pub directory: PathBuf,
    /// Octets per segment file, a multiple of 4096, at least 64 KiB.
    pub segment_bytes: u64,
    /// How many core writers there are; the relay's writer is one more.
    pub writers: usize,
    /// Refuse new mail when the file system has fewer free octets.
    pub reserve_bytes: u64,
    /// What segments and spill files may take together, in octets; none: what the file system has.
    pub bytes_max: Option<u64>,
    /// Seconds after which nothing of a delivered message is left in the spool's files; 0: when their room is used again.
    pub wipe_after_s: u64,
}

/// Why a message could not be made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// No room, no spare segment: 452 4.3.1. The record is not on disk.
    NoRoom,
    /// A write or sync failed: 451 4.3.0. The record will not be delivered, unless the log says that it is undecided.
    Disk,
}

/// An open, locked spool.
pub struct Spool {
    shared: Arc<shared::Shared>,
    cores: Vec<WriterSeed>,
    relay: Option<(WriterSeed, Follower)>,
    thread: Option<JoinHandle<()>>,
    /// Held, never read.
    #[allow(dead_code)]
    lock: Option<nix::fcntl::Flock<File>>,
}

impl Spool {
    /// Locks, raises the epoch durably, lists the segments, prepares a segment per writer, starts the files thread.
    /// Errors: one line with a remedy.
    pub fn open(options: Options) -> Result<Spool, String> {
        open::open(options)
    }

    /// One seed per core writer, each to be moved to its core thread. Once.
    pub fn core_writers(&mut self) -> Vec<WriterSeed> {
        std::mem::take(&mut self.cores)
    }

    /// The relay's writer and its cursor over all segments, its own included. Once.
    pub fn relay_side(&mut self) -> (WriterSeed, Follower) {
        self.relay.take().expect("the relay's side is taken once")
    }

    /// What it tells of itself.
    pub fn watch(&self) -> Watch {
        Watch::new(self.shared.clone())
    }

    /// After every writer has drained: stops the files thread when it has done what it was asked for, releases the lock.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.stop();
    }
}
