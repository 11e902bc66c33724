//! stub
use std::path::PathBuf;
/// Names a message: epoch (20 bits), writer (8 bits), counter (36 bits); printed as 13 letters and digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u64);

/// How a spool is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The spool directory.
    pub directory: PathBuf,
    /// Octets per segment file, a multiple of 4096.
    pub segment_bytes: u64,
    /// Content past this many octets goes to a spill file.
    pub spill_bytes: u64,
    /// How many core writers there are; the relay's writer is one more.
    pub writers: usize,
    /// Refuse new mail when the file system has fewer free octets.
    pub reserve_bytes: u64,
}
