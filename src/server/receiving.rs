//! The message being received: in memory up to a limit, past it in a spill file.
//!
//! The header is always looked at in memory, because nothing spills before more than the largest legal header is there.
//! Memory is counted against the core's budget; over the budget messages spill as early as they can.

use super::core::Core;
use crate::message::Header;
use crate::message::header::HEADER_BYTES_MAX;
use crate::smtp::envelope::{Envelope, Tag};
use crate::spool::{CommitError, QueueId, Spill};
use std::rc::Rc;

/// Octets that are kept before a message may spill: more than any header.
const SPILL_BYTES_MIN: usize = HEADER_BYTES_MAX + 64 * 1024;
/// Octets that are written to a spill file at once.
const SPILL_PIECE_BYTES: usize = 256 * 1024;
/// A body's memory up to this many octets goes back to the pool with its message, more is freed.
const POOLED_BYTES_MAX: usize = 64 * 1024;

/// One message being received. Dropped, it gives back its memory and its spill file.
pub struct Receiving {
    core: Rc<Core>,
    /// The queue id it will have.
    pub id: QueueId,
    memory: Vec<u8>,
    /// Octets of `memory` that the core's budget knows of.
    counted: usize,
    spilled: Option<(Spill, Header)>,
    content_bytes: u64,
    eight_bit: bool,
}

impl Receiving {
    /// Nothing received yet.
    pub fn new(core: Rc<Core>, id: QueueId) -> Receiving {
        let memory = core.bodies.take();
        Receiving { core, id, memory, counted: 0, spilled: None, content_bytes: 0, eight_bit: false }
    }

    /// Takes a piece of content.
    pub fn append(&mut self, piece: &[u8]) {
        self.memory.extend_from_slice(piece);
        self.eight_bit |= !piece.is_ascii();
        self.content_bytes += piece.len() as u64;
        self.count(self.memory.len());
    }

    /// Octets received.
    pub fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    /// Must [`Receiving::spill`] be called before more is appended?
    pub fn must_spill(&self) -> bool {
        let limit = match (&self.spilled, self.core.is_over_budget()) {
            (Some(_), _) => SPILL_PIECE_BYTES,
            (None, true) => SPILL_BYTES_MIN,
            (None, false) => self.core.spill_bytes.max(SPILL_BYTES_MIN),
        };
        self.memory.len() >= limit
    }

    /// Moves what is in memory to the spill file.
    pub async fn spill(&mut self) -> Result<(), CommitError> {
        if self.spilled.is_none() {
            let header = Header::scan(&self.memory);
            self.spilled = Some((self.core.writer.spill().await?, header));
        }
        let (spill, _) = self.spilled.as_mut().expect("just made");
        let (result, memory) = spill.write(std::mem::take(&mut self.memory)).await;
        self.memory = memory;
        self.memory.clear();
        self.count(0);
        result
    }

    /// What the header holds.
    pub fn header(&self) -> Header {
        match &self.spilled {
            Some((_, header)) => *header,
            None => Header::scan(&self.memory),
        }
    }

    /// Makes envelope and content durable.
    pub async fn commit(mut self, envelope: &mut Envelope) -> Result<(), CommitError> {
        if self.spilled.is_some() && !self.memory.is_empty() {
            self.spill().await?;
        }
        // The relay asks each next hop for 8BITMIME by this, not by reading the content again.
        envelope.push(Tag::EightBit, &[u8::from(self.eight_bit)]);
        if let Some((spill, _)) = self.spilled.take() {
            spill.finish().await?.push_to(envelope);
        }
        self.core.writer.commit(self.id, envelope, &self.memory).await
    }

    fn count(&mut self, bytes: usize) {
        self.core.receiving_bytes.set(self.core.receiving_bytes.get() + bytes - self.counted);
        self.counted = bytes;
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.count(0);
        let memory = std::mem::take(&mut self.memory);
        if memory.capacity() <= POOLED_BYTES_MAX {
            self.core.bodies.give(memory);
        }
    }
}
