//! What a writer tells the follower: how far it is durable, and in which segment. And how the follower is woken.
//!
//! ```text
//!  writer                                      follower
//!  new segment: chain.push(started) --------->  chain: what comes after the segment it reads, and where that one ends
//!  each group:  end.store(number, offset) ---->  end.load: never reads past it
//!  alarm.ring() ----------------------------->  a wake-up only; a lost or doubled one changes nothing
//! ```
//!
//! Promise: `end` never runs ahead of the disk, and a segment is in `chain` before `end` names it.

use super::segment::{BLOCK, Sealed};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// A segment that a writer has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its number.
    pub number: u32,
    /// Its generation.
    pub generation: u64,
    /// The salt of its generation.
    pub salt: u64,
    /// Octets of the file.
    pub size: u64,
    /// The writer's segment before it, and where that one ends.
    pub sealed: Option<Sealed>,
}

/// One writer's durable end.
#[derive(Debug, Default)]
pub struct Published {
    /// Segment number in the upper half, blocks in the lower; 0 before the first segment (number 0 is never given).
    end: AtomicU64,
    chain: Mutex<VecDeque<Started>>,
}

impl Published {
    /// A new segment holds nothing yet.
    pub fn start(&self, started: Started) {
        self.chain().push_back(started);
        self.advance(started.number, BLOCK);
    }

    /// The segment is durable up to `end`, in octets.
    pub fn advance(&self, number: u32, end: u64) {
        self.end.store((u64::from(number) << 32) | (end / BLOCK), Ordering::Release);
    }

    /// The segment being written and its durable end.
    pub fn end(&self) -> (u32, u64) {
        let packed = self.end.load(Ordering::Acquire);
        ((packed >> 32) as u32, (packed & 0xffff_ffff) * BLOCK)
    }

    /// How far segment `number`, which the follower has gone on to, may be read, in octets, and whether it ends there for
    /// good.
    pub fn limit(&self, number: u32) -> (u64, bool) {
        let (current, end) = self.end();
        if current == number {
            return (end, false);
        }
        match self.following().and_then(|started| started.sealed) {
            Some(sealed) => (sealed.end.at, true),
            // It is in the chain, and `end` is about to name it: nothing in it is durable yet.
            None => (BLOCK, false),
        }
    }

    /// The segment after the one that the follower reads.
    pub fn following(&self) -> Option<Started> {
        self.chain().front().copied()
    }

    /// The follower goes on to it.
    pub fn follow(&self) -> Option<Started> {
        self.chain().pop_front()
    }

    fn chain(&self) -> MutexGuard<'_, VecDeque<Started>> {
        self.chain.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Wakes one task of any thread.
#[derive(Debug, Default)]
pub struct Alarm {
    rung: AtomicBool,
    sleeper: Mutex<Option<Waker>>,
}

impl Alarm {
    /// There may be something to do. The swap is also what orders it behind the `end` that was stored before: a plain
    /// load here could be answered before that store is seen, and the wake-up would be lost.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            let sleeper = self.sleeper.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
            if let Some(waker) = sleeper {
                waker.wake();
            }
        }
    }

    /// Ready if it has rung since it was last ready.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut sleeper = self.sleeper.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if self.rung.swap(false, Ordering::SeqCst) {
            sleeper.take();
            return Poll::Ready(());
        }
        if !sleeper.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *sleeper = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Forgets the sleeper: its runtime may end.
    pub fn forget(&self) {
        self.sleeper.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    }
}

#[cfg(test)]
mod tests {
    use super::super::segment::End;
    use super::*;

    fn started(number: u32, sealed: Option<Sealed>) -> Started {
        Started { number, generation: u64::from(number), salt: 1, size: 1 << 20, sealed }
    }

    #[test]
    fn a_segment_may_be_read_up_to_what_is_durable() {
        let published = Published::default();
        published.start(started(3, None));
        assert_eq!(published.follow().map(|started| started.number), Some(3));
        assert_eq!(published.limit(3), (BLOCK, false));
        published.advance(3, 5 * BLOCK);
        assert_eq!(published.limit(3), (5 * BLOCK, false));
        let end = End { at: 4 * BLOCK, failed: true };
        published.start(started(7, Some(Sealed { number: 3, generation: 3, end })));
        assert_eq!(published.limit(3), (4 * BLOCK, true));
    }

    /// The follower is another thread: it may go on to a segment between the two steps of `start`.
    #[test]
    fn a_segment_that_is_just_being_started_holds_nothing_yet() {
        let published = Published::default();
        published.chain().push_back(started(3, None));
        assert!(published.follow().is_some());
        assert_eq!(published.limit(3), (BLOCK, false));
        published.advance(3, BLOCK);
        assert_eq!(published.limit(3), (BLOCK, false));
    }
}
