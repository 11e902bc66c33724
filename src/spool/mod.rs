//! stub: the shapes that server and relay code against
use crate::smtp::envelope::{Envelope, SpillReference};
use std::path::PathBuf;

/// Names a message: epoch (20 bits), writer (8 bits), counter (36 bits); Display: 13 letters and digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u64);

/// How a spool is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The spool directory; made if missing.
    pub directory: PathBuf,
    /// Octets per segment file, a multiple of 4096.
    pub segment_bytes: u64,
    /// How many core writers there are; the relay's writer is one more.
    pub writers: usize,
    /// Refuse new mail when the file system has fewer free octets.
    pub reserve_bytes: u64,
}

/// An open, locked spool.
pub struct Spool {}
impl Spool {
    /// Locks, raises the epoch durably, lists the segments, starts the files thread, prepares a segment per writer.
    /// Errors: one line with a remedy.
    pub fn open(_options: Options) -> Result<Spool, String> {
        todo!()
    }
    /// One seed per core writer, each to be moved to its core thread. Once.
    pub fn core_writers(&mut self) -> Vec<WriterSeed> {
        todo!()
    }
    /// The relay's writer and its cursor over all segments, its own included. Once.
    pub fn relay_side(&mut self) -> (WriterSeed, Follower) {
        todo!()
    }
    /// After every writer has drained: stops the files thread, releases the lock.
    pub fn close(self) {
        todo!()
    }
}

/// A writer before it is on its thread.
pub struct WriterSeed {}

/// Why a message could not be made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// No room, no spare segment: 452 4.3.1.
    NoRoom,
    /// A write or sync failed: 451 4.3.0.
    Disk,
}

/// A core's (or the relay's) writer; cheap to clone on its thread.
#[derive(Clone)]
pub struct Writer {}
impl Writer {
    /// Starts the commit task on the current monoio runtime.
    pub fn start(_seed: WriterSeed) -> Writer {
        todo!()
    }
    /// A queue id for a message that begins, if there is room for it.
    pub fn begin(&self, _content_bytes: u64) -> Result<QueueId, CommitError> {
        todo!()
    }
    /// Appends a record to the group being filled. Resolves when the record is durable.
    pub async fn commit(&self, _id: QueueId, _envelope: &Envelope, _content: &[u8]) -> Result<(), CommitError> {
        todo!()
    }
    /// A spill file for a large content.
    pub async fn spill(&self) -> Result<Spill, CommitError> {
        todo!()
    }
    /// Waits until all that was appended is durable or failed.
    pub async fn drain(&self) {
        todo!()
    }
    /// Durable writes and records so far.
    pub fn counts(&self) -> (u64, u64) {
        todo!()
    }
}

/// A large content being written; dropped without `finish` it goes back to the pool.
pub struct Spill {}
impl Spill {
    /// Writes a piece and gives the buffer back, emptied.
    pub async fn write(&mut self, _piece: Vec<u8>) -> (Result<(), CommitError>, Vec<u8>) {
        todo!()
    }
    /// Makes the content durable; what to put into the envelope of the record that names it.
    pub async fn finish(self) -> Result<SpillReference, CommitError> {
        todo!()
    }
}

/// Where a record is. 16 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {}

/// A durable record, in the order of its segment.
pub struct Entry<'a> {
    /// Where.
    pub at: Location,
    /// The message's queue id (for records that hold only outcomes: an id of their own).
    pub id: QueueId,
    /// Stored fields: `smtp::envelope::View::parse`.
    pub envelope: &'a [u8],
}

/// The relay's cursor: in normal running and after a crash alike.
pub struct Follower {}
impl Follower {
    /// The next durable record, or none for now. Reads the page cache, synchronously. Damaged records are logged and
    /// skipped. A message's record (with recipients) counts as live until `settled`.
    pub fn next(&mut self) -> Option<Entry<'_>> {
        todo!()
    }
    /// Resolves when there may be more: a wake-up only.
    pub async fn changed(&self) {
        todo!()
    }
    /// The stored envelope and content of a record, verified again; content of spilled messages is read by
    /// `content`. Errors: damage or I/O, as text.
    pub fn read(&mut self, _at: Location) -> Result<Stored, String> {
        todo!()
    }
    /// The outcome record `from` must be kept as long as the segment of `to` holds its message.
    pub fn refers(&mut self, _from: Location, _to: Location) {
        todo!()
    }
    /// The message at `at` is wholly done; its segment is erased and recycled when nothing in it is live.
    pub fn settled(&mut self, _at: Location) {
        todo!()
    }
}

/// A record read back.
pub struct Stored {
    /// Stored fields.
    pub envelope: Vec<u8>,
    /// The content.
    pub content: Content,
}
/// Content to stream: prepended fields are in the envelope, not here.
pub enum Content {
    /// In memory.
    Memory(Vec<u8>),
    /// In a spill file: read piece by piece.
    Spilled(SpillReader),
}
/// Reads a spill file piece by piece, verifying its checksum at the end.
pub struct SpillReader {}
impl SpillReader {
    /// The next piece, empty at the end. Errors: damage or I/O, as text.
    pub fn next(&mut self) -> Result<&[u8], String> {
        todo!()
    }
}
