//! What still counts in a segment that hardly anything keeps from being recycled: to be written again elsewhere.
//!
//! One message to a server that is down for days would otherwise pin a segment full of delivered mail for as long. The
//! follower names such a segment; its records are read once more, in pieces of a few hundred KiB, and whoever knows which
//! of them still count moves those. No list of what is live is kept in memory for it.

use super::QueueId;
use super::file::ReadFile;
use super::follower::{Follower, Location};
use super::record::{KIND_MESSAGE, KIND_SPILLED};
use super::recovery::{Cursor, Limit, Met};
use crate::log::{Level, event};

/// The messages of one segment, in order.
pub struct Survivors {
    number: u32,
    generation: u64,
    limit: Limit,
    cursor: Cursor,
}

/// A message's record, which may count or not.
pub struct Candidate {
    /// Where.
    pub at: Location,
    /// Queue id.
    pub id: QueueId,
    /// Stored fields.
    pub envelope: Vec<u8>,
    /// Octets of the content in the record; none if it is in a spill file.
    pub content_bytes: Option<usize>,
}

impl Follower {
    /// A segment that was left more than `after` seconds ago and that a quarter of its records or less keep from being
    /// recycled, or, a quarter of the time after which old mail is to be overwritten ago, any. Each is named once in `after`
    /// seconds.
    pub fn pinned(&mut self, after: u64) -> Option<Survivors> {
        let at_last = self.shared.wipe_after_s.map(|seconds| seconds / 4);
        let (number, pinned) = self.recycling.pinned(self.shared.ticks(), after, at_last)?;
        let path = self.shared.layout.segment(number);
        match ReadFile::open(&path) {
            Ok(file) => Some(Survivors {
                number,
                generation: pinned.generation,
                limit: pinned.limit,
                cursor: Cursor::new(file, pinned.salt, false, Vec::new()),
            }),
            Err(error) => {
                let line = event(Level::Warning, "spool segment cannot be read for moving what is left in it");
                line.field("file", path.display()).field("error", error).emit();
                None
            }
        }
    }
}

impl Survivors {
    /// The segment's number.
    pub fn segment(&self) -> u32 {
        self.number
    }

    /// The next message. What is damaged was set aside when it was read first.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Candidate> {
        loop {
            match self.cursor.next(self.limit) {
                Met::Record(_, head) if head.kind & KIND_MESSAGE == 0 => {}
                Met::Record(at, head) => {
                    let at_location = Location::new(self.number, self.generation, at);
                    let envelope = self.cursor.fields(at, &head).to_vec();
                    let content_bytes = (head.kind & KIND_SPILLED == 0).then_some(head.content_bytes);
                    return Some(Candidate { at: at_location, id: head.id, envelope, content_bytes });
                }
                Met::Damaged(..) | Met::TornTail(_) => {}
                Met::End | Met::Unreadable(..) => return None,
            }
        }
    }
}
