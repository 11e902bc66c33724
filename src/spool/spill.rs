//! Spill files: the content of a message that is too large for memory.
//!
//! ```text
//!  spill() -> write, write, ... -> finish: fdatasync -> reference -> into the envelope of a small record -> commit
//!                    |                |
//!                  dropped: back to the pool, or removed if a write is under way or has failed
//! ```
//!
//! The file holds nothing but the content, from its start; what may stand behind it is older. The record alone makes the
//! message exist. It names the file, the length, the checksum and a generation: a file that was used again has had a
//! later generation, and is then no longer that message's.
//!
//! Promise: `finish` returns Ok only when every octet is on disk. Between `finish` and `commit` nothing else may be
//! awaited: nobody owns the file then, and it would stay until the next start.

use super::CommitError;
use super::file::{ReadFile, Through, WriteFile};
use super::shared::{Request, Shared, SpillFile};
use crate::log::{Level, event};
use crate::smtp::envelope::SpillReference;
use std::path::Path;
use std::sync::Arc;

/// A large content being written; dropped without `finish` it goes back to the pool.
pub struct Spill {
    shared: Arc<Shared>,
    file: WriteFile,
    number: u64,
    length: u64,
    checksum: u32,
    state: SpillState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpillState {
    Open,
    /// A write or sync was begun and has not come back: the kernel may still write.
    Busy,
    Failed,
    Finished,
}

impl Spill {
    pub(super) fn new(shared: Arc<Shared>, through: &Through, spare: SpillFile) -> Result<Spill, CommitError> {
        let SpillFile { number, file } = spare;
        match WriteFile::new(through, file, shared.layout.spill(number)) {
            Ok(file) => Ok(Spill { shared, file, number, length: 0, checksum: 0, state: SpillState::Open }),
            Err(error) => {
                shared.ask(Request::SpillBack { number, reusable: true });
                event(Level::Error, "no spill file").field("error", error).emit();
                Err(CommitError::NoRoom)
            }
        }
    }

    /// Writes a piece and gives the buffer back, emptied.
    pub async fn write(&mut self, piece: Vec<u8>) -> (Result<(), CommitError>, Vec<u8>) {
        if self.state != SpillState::Open {
            return (Err(CommitError::Disk), piece);
        }
        if !self.shared.has_room(piece.len() as u64) {
            return (Err(CommitError::NoRoom), piece);
        }
        let length = piece.len() as u64;
        self.checksum = crc32c::crc32c_append(self.checksum, &piece);
        self.state = SpillState::Busy;
        let (result, mut piece) = self.file.write(piece, self.length).await;
        self.length += length;
        piece.clear();
        (self.came_back(result), piece)
    }

    /// Makes the content durable. Returns what to put into the envelope of the record that names it.
    pub async fn finish(mut self) -> Result<SpillReference, CommitError> {
        if self.state != SpillState::Open {
            return Err(CommitError::Disk);
        }
        self.state = SpillState::Busy;
        let result = self.file.sync().await;
        self.came_back(result)?;
        self.state = SpillState::Finished;
        let generation = self.shared.next_generation();
        Ok(SpillReference { file: self.number, length: self.length, generation, checksum: self.checksum })
    }

    fn came_back(&mut self, result: std::io::Result<()>) -> Result<(), CommitError> {
        self.state = if result.is_ok() { SpillState::Open } else { SpillState::Failed };
        result.map_err(|error| {
            event(Level::Error, "spill file write failed").field("file", self.number).field("error", error).emit();
            CommitError::Disk
        })
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        if self.state != SpillState::Finished {
            let reusable = self.state == SpillState::Open;
            self.shared.ask(Request::SpillBack { number: self.number, reusable });
        }
    }
}

/// Reads a spilled content piece by piece and verifies its checksum at the end.
#[derive(Debug)]
pub struct SpillReader {
    file: ReadFile,
    reference: SpillReference,
    at: u64,
    checksum: u32,
    piece: Vec<u8>,
}

/// Octets per piece.
const PIECE: u64 = 64 << 10;

impl SpillReader {
    pub(super) fn open(path: &Path, reference: SpillReference) -> Result<SpillReader, String> {
        let file = ReadFile::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(SpillReader { file, reference, at: 0, checksum: 0, piece: Vec::new() })
    }

    /// From the start again.
    pub fn rewind(&mut self) {
        (self.at, self.checksum) = (0, 0);
    }

    /// The next piece, empty at the end. The last piece is given only if the checksum over all of them holds. Errors:
    /// damage or I/O, as text.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<&[u8], String> {
        let left = self.reference.length - self.at;
        self.piece.resize(left.min(PIECE) as usize, 0);
        let read = self.file.read_at(self.at, &mut self.piece).map_err(|error| error.to_string())?;
        if read < self.piece.len() {
            return Err(format!("spill file {} is shorter than its record says", self.reference.file));
        }
        self.at += read as u64;
        self.checksum = crc32c::crc32c_append(self.checksum, &self.piece);
        if self.at == self.reference.length && self.checksum != self.reference.checksum {
            return Err(format!("spill file {} is damaged or another message's", self.reference.file));
        }
        Ok(&self.piece)
    }
}
