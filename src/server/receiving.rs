//! The message being received: in memory up to a limit, past it in a spill file.
//!
//! The header is looked at in memory: nothing spills before its end is there, or more than the largest legal header.
//! Memory is counted against the core's budget. Over it contents spill early, and what cannot spill is given up: that of
//! strangers at once, that of authenticated and trusted clients at twice the budget.

use super::core::Core;
use super::share::Share;
use crate::message::Header;
use crate::message::header::HEADER_BYTES_MAX;
use crate::smtp::envelope::Envelope;
use crate::spool::{CommitError, QueueId, Spill};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A content whose header has not ended by then is refused at its end, whatever else it holds.
const HEADER_KNOWN_BYTES: usize = HEADER_BYTES_MAX + 1024;
/// Over the budget, contents spill from this many octets on.
const CROWDED_SPILL_BYTES: usize = 64 * 1024;
/// Messages of a core that may be on their way into spill files at once; past it 452 4.3.1. It bounds descriptors.
pub const SPILLING_MAX: usize = 512;
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
    share: Share,
    header: Option<Header>,
    /// The header is looked for again when so much is in memory.
    look_at_bytes: usize,
    spilled: Option<Spill>,
    /// Counted among the core's messages that are spilling.
    is_spilling: bool,
    began: Stamp,
    content_bytes: u64,
}

impl Receiving {
    /// Nothing received yet.
    pub fn new(core: Rc<Core>, id: QueueId) -> Receiving {
        let (memory, share, began) = (core.bodies.take(), core.share(), Stamp::new(core.started, Instant::now()));
        Receiving {
            core,
            id,
            memory,
            share,
            header: None,
            look_at_bytes: 0,
            spilled: None,
            is_spilling: false,
            began,
            content_bytes: 0,
        }
    }

    /// Takes a piece of content.
    pub fn append(&mut self, piece: &[u8]) {
        self.memory.extend_from_slice(piece);
        self.content_bytes += piece.len() as u64;
        self.share.set(self.memory.len());
    }

    /// Time from its beginning until `now`, for the histogram.
    pub fn age(&self, now: Instant) -> Duration {
        self.began.until(Stamp::new(self.core.started, now))
    }

    /// Octets received.
    pub fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    /// Must [`Receiving::spill`] be called before more is appended?
    pub fn must_spill(&mut self) -> bool {
        let limit = match (&self.spilled, self.core.is_over_budget()) {
            (Some(_), _) => SPILL_PIECE_BYTES,
            (None, true) => self.core.spill_bytes.min(CROWDED_SPILL_BYTES),
            (None, false) => self.core.spill_bytes,
        };
        self.memory.len() >= limit && self.knows_header()
    }

    fn knows_header(&mut self) -> bool {
        if self.header.is_none() && self.memory.len() >= self.look_at_bytes {
            let header = Header::scan(&self.memory, &self.core.config.hostname);
            if header.complete || self.memory.len() >= HEADER_KNOWN_BYTES {
                self.header = Some(header);
            }
            self.look_at_bytes = 2 * self.memory.len();
        }
        self.header.is_some()
    }

    /// Moves what is in memory to the spill file.
    pub async fn spill(&mut self) -> Result<(), CommitError> {
        let spill = match &mut self.spilled {
            Some(spill) => spill,
            none => {
                if self.core.spilling.get() >= SPILLING_MAX {
                    return Err(CommitError::NoRoom);
                }
                self.core.spilling.set(self.core.spilling.get() + 1);
                self.is_spilling = true;
                none.insert(self.core.writer.spill().await?)
            }
        };
        let (result, memory) = spill.write(std::mem::take(&mut self.memory)).await;
        self.memory = memory;
        self.memory.clear();
        self.share.set(0);
        result
    }

    /// What the header holds; to be asked once, when all is there.
    pub fn header(&mut self) -> Header {
        self.header.take().unwrap_or_else(|| Header::scan(&self.memory, &self.core.config.hostname))
    }

    /// Makes envelope and content durable.
    pub async fn commit(mut self, envelope: &mut Envelope) -> Result<(), CommitError> {
        if self.spilled.is_some() && !self.memory.is_empty() {
            self.spill().await?;
        }
        if let Some(spill) = self.spilled.take() {
            spill.finish().await?.push_to(envelope);
        }
        self.core.writer.commit(self.id, envelope, &self.memory).await
    }
}

/// A moment in four octets, because each connection has room for one: counted in 32 µs, it is good for ages of 38 hours, and no
/// transaction may take so long.
#[derive(Clone, Copy)]
struct Stamp(u32);

const STAMP_UNIT_US: u64 = 32;

impl Stamp {
    fn new(started: Instant, now: Instant) -> Stamp {
        Stamp(((now - started).as_micros() as u64 / STAMP_UNIT_US) as u32)
    }

    fn until(self, later: Stamp) -> Duration {
        Duration::from_micros(u64::from(later.0.wrapping_sub(self.0)) * STAMP_UNIT_US)
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if self.is_spilling {
            self.core.spilling.set(self.core.spilling.get() - 1);
        }
        let memory = std::mem::take(&mut self.memory);
        if memory.capacity() <= POOLED_BYTES_MAX {
            self.core.bodies.give(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_good_for_longer_than_a_transaction_may_take() {
        let started = Instant::now();
        let stamp = |time: Duration| Stamp::new(started, started + time);
        let (week, day) = (Duration::from_secs(7 * 86_400), Duration::from_secs(86_400));
        assert_eq!(stamp(week).until(stamp(week + day)), day);
        assert_eq!(stamp(week).until(stamp(week + Duration::from_micros(100))), Duration::from_micros(96));
    }
}
