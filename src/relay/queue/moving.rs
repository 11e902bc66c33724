//! Messages on the move: from a segment that few of its records keep from being recycled, into one that is being written.
//!
//! ```text
//!  begin_move(id) --> no delivery is begun --record durable, read back--> add(survivor): the other copy is superseded
//!                                          --refused--> move_failed(id): as before
//! ```
//!
//! Promise: between [`Queue::begin_move`] and its end nothing becomes of the message, so the survivor's record says all that
//! was recorded before it, and whatever is recorded later stands behind it in the relay's own segments. A copy that is read
//! when the message is known, or known to be done, is superseded and not a second message.

use super::{Arrival, Deferral, Message, Queue, State};
use std::collections::HashMap;

/// Messages that were done during the catch-up and of which an older copy may still be read: the place of the survivor.
pub type Gone<L> = HashMap<u64, L>;

/// What a survivor's record must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moving {
    /// Indices of the recipients for which something is left to do, in order. All others are done.
    pub open: Vec<u32>,
    /// The sender knows that it is late.
    pub warned: bool,
    /// What was tried so far, or it would be forgotten with the old segment.
    pub deferred: Vec<Deferral>,
    /// From when its time counts, milliseconds since the Unix epoch: its release, unless an operator has said otherwise.
    pub counts_from_ms: u64,
    /// Since when it is on hold.
    pub held_ms: Option<u64>,
}

/// Of two copies of one message the one that counts, and the one that does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superseded<L> {
    /// The one that stands for both. Its record must be kept as long as the other can be read.
    pub by: L,
    /// The one that is done with.
    pub old: L,
}

impl<L: Copy + PartialEq> Queue<L> {
    /// Is the record at `at` what message `id` is read from, and may it be moved now? Then its deliveries wait until
    /// [`Queue::add`] gets the survivor, or [`Queue::move_failed`].
    pub fn begin_move(&mut self, id: u64, at: L) -> Option<Moving> {
        let slot = self.slot(id).filter(|&slot| self.messages[slot].at == at)?;
        let jobs = self.jobs_of(slot);
        let is_busy =
            self.committing.contains_key(&slot) || jobs.iter().any(|&job| self.jobs[job].state == State::Flying);
        if self.messages[slot].moving || is_busy || self.orders.is_busy(id) {
            return None;
        }
        let recipients = |job: &u32| self.jobs[*job].recipients.as_slice().iter().copied();
        let mut open: Vec<u32> = jobs.iter().flat_map(recipients).collect();
        open.sort_unstable();
        // Without a warning to come a message counts as warned of; that is no news to be written down.
        let warned = self.messages[slot].warned && self.settings.warn_ms.is_some();
        let deferred = jobs.iter().filter_map(|&job| self.jobs[job].deferral()).collect();
        jobs.into_iter().for_each(|job| self.rest(job));
        self.messages[slot].moving = true;
        let (counts_from_ms, held_ms) = self.ordered(&self.messages[slot]);
        Some(Moving { open, warned, deferred, counts_from_ms, held_ms })
    }

    /// The spool has refused the survivor.
    pub fn move_failed(&mut self, id: u64) {
        self.slot(id).into_iter().for_each(|slot| self.moved(slot));
    }

    /// Where message `id` is read from now.
    pub fn place(&self, id: u64) -> Option<L> {
        self.slot(id).map(|slot| self.messages[slot].at)
    }

    /// If the message that arrives is known already, or known to be done: which copy is superseded.
    pub(super) fn supersede(&mut self, arrival: &Arrival<L>) -> Option<Superseded<L>> {
        let Some(slot) = self.slot(arrival.id) else {
            let by = *self.gone.get(&arrival.id)?;
            return Some(Superseded { by, old: arrival.at });
        };
        let message = &mut self.messages[slot];
        if !arrival.survivor {
            return Some(Superseded { by: message.at, old: arrival.at });
        }
        let old = std::mem::replace(&mut message.at, arrival.at);
        message.survivor = true;
        self.moved(slot);
        Some(Superseded { by: arrival.at, old })
    }

    /// During the catch-up an older copy of a survivor that is done may still come.
    pub(super) fn remember(&mut self, message: &Message<L>) {
        if message.survivor && self.early.is_some() {
            self.gone.insert(message.id, message.at);
        }
    }

    fn moved(&mut self, slot: u32) {
        if std::mem::take(&mut self.messages[slot].moving) {
            self.jobs_of(slot).into_iter().for_each(|job| self.wait(job));
            self.look_in_time(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{arrival, fates, queue, reply};
    use super::super::{Added, Applied, Blame};
    use super::*;

    fn survivor(id: u64, at: u32, destinations: &[usize]) -> Arrival<u32> {
        Arrival { at, survivor: true, ..arrival(id, 0, destinations) }
    }

    fn superseded(by: u32, old: u32) -> Added<u32> {
        Added { early: Vec::new(), settled: false, superseded: Some(Superseded { by, old }) }
    }

    /// Message 7 at 7, to two recipients of which the first is delivered.
    fn half_done() -> Queue<u32> {
        let mut queue = queue(1);
        queue.add(arrival(7, 0, &[0, 0]));
        let delivery = queue.start(0).expect("due");
        assert_eq!(queue.begin_move(7, 7), None, "under way");
        queue.tried(&delivery, fates(&[250, 450]), Blame::Nobody, "mx", 0);
        queue.disconnected(0);
        assert_eq!(queue.begin_move(7, 7), None, "being recorded");
        assert_eq!(queue.outcome(7, 0, 20), Applied::Open(7));
        queue
    }

    #[test]
    fn while_it_moves_nothing_is_begun_and_then_it_goes_on_from_the_new_place() {
        let mut queue = half_done();
        assert_eq!(queue.begin_move(7, 8), None, "another copy");
        let next_ms = queue.wake_ms().expect("a retry");
        let deferred = vec![Deferral { recipient: 1, attempts: 1, next_ms }];
        assert_eq!(
            queue.begin_move(7, 7),
            Some(Moving { open: vec![1], warned: false, deferred, counts_from_ms: 0, held_ms: None })
        );
        assert!(queue.is_moving(7));
        assert_eq!(queue.begin_move(7, 7), None, "once");
        assert_eq!((queue.start(1 << 40), queue.overdue(1 << 40)), (None, None));
        // What the record says of itself comes first, as with every record.
        assert_eq!(queue.outcome(7, 0, 30), Applied::Open(7));
        assert_eq!(queue.add(survivor(7, 30, &[0, 0])), superseded(30, 7));
        let due = 600_000;
        let delivery = queue.start(due).expect("due");
        assert_eq!((delivery.at, &delivery.recipients[..]), (30, &[1][..]));
        queue.tried(&delivery, fates(&[250]), Blame::Nobody, "mx", due);
        assert_eq!(queue.outcome(7, 1, 31), Applied::Settled(30));
        assert_eq!(queue.counts(), (0, 0));
    }

    #[test]
    fn a_move_that_fails_changes_nothing() {
        let mut queue = half_done();
        let due = queue.wake_ms();
        queue.begin_move(7, 7).expect("may be moved");
        queue.move_failed(7);
        assert_eq!(queue.wake_ms(), due);
        assert_eq!(queue.start(due.expect("a retry")).expect("due").at, 7);
    }

    #[test]
    fn a_message_past_its_time_is_given_up_after_its_move() {
        let mut queue = half_done();
        queue.begin_move(7, 7).expect("may be moved");
        let late = super::super::tests::EXPIRY;
        assert_eq!(queue.overdue(late), None);
        queue.add(survivor(7, 30, &[0, 0]));
        assert_eq!(queue.overdue(late + 60_000), None, "its next try was due");
        let delivery = queue.start(late + 60_000).expect("the last try");
        queue.tried(&delivery, fates(&[450]), Blame::Nobody, "mx", late + 60_000);
        let overdue = queue.overdue(late + 60_000).expect("given up");
        assert_eq!((overdue.at, overdue.given_up, overdue.recipients.len()), (30, true, 1));
        assert_eq!(overdue.recipients[0].1.reply, reply(450));
    }

    /// What a start reads when the survivor, written by the relay, stands before the original in the order of segments.
    #[test]
    fn after_a_crash_both_copies_are_one_message_in_either_order() {
        for original_first in [true, false] {
            let mut queue = super::super::tests::catching_up(1);
            if original_first {
                assert_eq!(queue.add(arrival(7, 0, &[0, 0])).superseded, None);
            }
            queue.outcome(7, 0, 30);
            let added = queue.add(survivor(7, 30, &[0, 0]));
            if original_first {
                assert_eq!(added, superseded(30, 7));
            } else {
                assert_eq!(added, Added { early: vec![30], settled: false, superseded: None });
                assert_eq!(queue.add(arrival(7, 0, &[0, 0])), superseded(30, 7));
            }
            queue.caught_up();
            let delivery = queue.start(0).expect("due");
            assert_eq!((delivery.at, &delivery.recipients[..]), (30, &[1][..]));
            assert_eq!(queue.next(0, 0), None, "once");
        }
    }

    #[test]
    fn after_a_crash_the_original_of_a_survivor_that_is_done_is_no_message() {
        let mut queue = super::super::tests::catching_up(1);
        queue.add(survivor(7, 30, &[0]));
        assert_eq!(queue.outcome(7, 0, 31), Applied::Settled(30));
        assert_eq!(queue.add(arrival(7, 0, &[0])), superseded(30, 7));
        // And of one that was done when it was read.
        queue.outcome(8, 0, 40);
        assert!(queue.add(survivor(8, 41, &[0])).settled);
        assert_eq!(queue.add(arrival(8, 0, &[0])), superseded(41, 8));
        queue.caught_up();
        assert_eq!(queue.counts(), (0, 0));
        assert_eq!(queue.start(u64::MAX), None);
    }
}
