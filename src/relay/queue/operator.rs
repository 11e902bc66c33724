//! What an operator sees of the queue and orders of it: hold, release, requeue, delete, flush.
//!
//! ```text
//!  begin_act(id) --record durable, read back--> order(..): what it says is done
//!                --refused--> end_act(id): as before
//!  begin_delete(id) --outcomes durable, read back--> outcome(..) for each recipient
//!                   --refused--> delete_failed(..): as before
//! ```
//!
//! Promises: an order changes the state when it is read back, in normal running and after a start alike; between
//! [`Queue::begin_act`] and its end the message is not moved, and while it is moved no order begins, so a survivor's record
//! says all that was ordered before it; a message on hold is neither begun, nor warned of, nor given up, and the time that it
//! was held does not count.

use super::message::{Message, Recipients, State};
use super::{Applied, Queue};
use crate::smtp::envelope::{Act, Order};
use std::collections::{HashMap, HashSet};

/// Orders: few messages have any.
#[derive(Debug)]
pub struct Orders<L> {
    /// Messages on hold: since when, milliseconds since the Unix epoch.
    held: HashMap<u64, u64>,
    /// Messages of which an order is being written.
    busy: HashSet<u64>,
    /// Orders that were read before their message.
    early: HashMap<u64, Vec<(Act, L)>>,
}

/// Why there can be no order about a message now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// It is not in the queue.
    Unknown,
    /// It is being moved, or another order is being written: in a moment.
    Busy,
}

/// Recipients that are being deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleting<L> {
    /// Where the message's record is.
    pub at: L,
    /// By the number of their job.
    parts: Vec<(u32, Vec<u32>)>,
    /// Recipients that are being delivered to in this moment, and so cannot be taken back.
    pub flying: usize,
}

impl<L> Default for Orders<L> {
    fn default() -> Orders<L> {
        Orders { held: HashMap::new(), busy: HashSet::new(), early: HashMap::new() }
    }
}

impl<L> Orders<L> {
    /// Is the message on hold?
    pub fn holds(&self, id: u64) -> bool {
        self.held.contains_key(&id)
    }

    /// Since when it is.
    pub fn held_ms(&self, id: u64) -> Option<u64> {
        self.held.get(&id).copied()
    }

    /// Is an order about it being written?
    pub fn is_busy(&self, id: u64) -> bool {
        self.busy.contains(&id)
    }

    /// The message is settled.
    pub fn forget(&mut self, id: u64) {
        self.held.remove(&id);
        self.busy.remove(&id);
    }

    /// What was read before the message.
    pub fn take_early(&mut self, id: u64) -> Vec<(Act, L)> {
        self.early.remove(&id).unwrap_or_default()
    }

    /// Nothing of the past comes any more.
    pub fn caught_up(&mut self) {
        self.early = HashMap::new();
    }
}

impl<L> Deleting<L> {
    /// All recipients that are being deleted.
    pub fn recipients(&self) -> impl Iterator<Item = u32> {
        self.parts.iter().flat_map(|(_, recipients)| recipients.iter().copied())
    }
}

impl<L: Copy + PartialEq> Queue<L> {
    /// The ids of all messages, each behind the moment from which its time counts, in no order: one look at each, about 10 ms for
    /// a million.
    pub fn ids(&self) -> Vec<(u64, u64)> {
        self.messages.range(0).map(|(_, message)| (self.age_from_ms(message), message.id)).collect()
    }

    /// How many messages are on hold.
    pub fn held_by_operator(&self) -> usize {
        self.orders.held.len()
    }

    /// An order about message `id` is to be written.
    pub fn begin_act(&mut self, id: u64) -> Result<(), NotNow> {
        let slot = self.slot(id).ok_or(NotNow::Unknown)?;
        match self.messages[slot].moving || !self.orders.busy.insert(id) {
            true => Err(NotNow::Busy),
            false => Ok(()),
        }
    }

    /// The spool has refused the order.
    pub fn end_act(&mut self, id: u64) {
        self.orders.busy.remove(&id);
    }

    /// An order was read, in the record at `from`.
    pub fn order(&mut self, act: Act, from: L) -> Applied<L> {
        let Some(slot) = self.slot(act.queue_id) else {
            if self.early.is_some() {
                self.orders.early.entry(act.queue_id).or_default().push((act, from));
            }
            return Applied::Unknown;
        };
        self.orders.busy.remove(&act.queue_id);
        match act.order {
            Order::Hold => self.hold_message(slot, act),
            Order::Release => self.release(slot, act),
            Order::Requeue => self.requeue(slot, act),
        }
        Applied::Open(self.messages[slot].at)
    }

    fn hold_message(&mut self, slot: u32, Act { queue_id: id, at_ms, .. }: Act) {
        self.orders.held.entry(id).or_insert(at_ms);
        self.jobs_of(slot).into_iter().for_each(|job| self.rest(job));
        self.look_no_more(slot);
    }

    fn release(&mut self, slot: u32, Act { queue_id: id, at_ms, .. }: Act) {
        let Some(held_ms) = self.orders.held.remove(&id) else { return };
        let expire_ms = self.messages[slot].expire_ms.saturating_add(at_ms.saturating_sub(held_ms));
        self.count_anew(slot, expire_ms);
        for job in self.landed_jobs(slot) {
            let job = &mut self.jobs[job];
            // What a sender has asked to be held back (RFC 4865) waits for its moment.
            if job.attempts > 0 {
                job.due_ms = job.due_ms.min(at_ms);
            }
        }
        self.go_on(slot);
        self.look_anew(slot);
    }

    fn requeue(&mut self, slot: u32, Act { queue_id: id, at_ms, .. }: Act) {
        self.orders.held.remove(&id);
        self.count_anew(slot, at_ms.saturating_add(self.settings.expire_ms));
        for job in self.landed_jobs(slot) {
            self.rest(job);
            let job = &mut self.jobs[job];
            (job.due_ms, job.attempts) = (at_ms, 0);
            // Now is now, as with a flush.
            self.sites[job.destination as usize].down_until_ms = 0;
        }
        self.go_on(slot);
        self.look_anew(slot);
    }

    /// What a survivor's own record has ordered is ordered. That its time counts from later does not mean that it is due later: it
    /// may have been on hold before the moment at which its sender wanted it to be sent.
    pub(super) fn order_survivor(&mut self, slot: u32, acts: Vec<(Act, L)>, release_ms: u64) {
        for (act, from) in acts {
            self.order(act, from);
        }
        for job in self.landed_jobs(slot) {
            if self.jobs[job].due_ms > release_ms {
                self.rest(job);
                self.jobs[job].due_ms = release_ms;
                self.wait(job);
            }
        }
    }

    /// Tries a message now: what was deferred is due, and the pause of its destination is over. Nothing of it outlives a
    /// restart. Returns how many recipients that is.
    pub fn flush(&mut self, id: u64, now: u64) -> usize {
        let Some(slot) = self.slot(id).filter(|_| !self.orders.holds(id)) else { return 0 };
        let mut recipients = 0;
        for slot in self.landed_jobs(slot) {
            let job = &self.jobs[slot];
            if job.attempts > 0 || job.due_ms <= now {
                recipients += job.recipients.as_slice().len();
                self.rest(slot);
                let job = &mut self.jobs[slot];
                job.due_ms = job.due_ms.min(now);
                self.sites[job.destination as usize].down_until_ms = 0;
            }
        }
        self.go_on(slot);
        recipients
    }

    /// Message `id` is to be deleted: nothing more of it is begun.
    pub fn begin_delete(&mut self, id: u64) -> Result<Deleting<L>, NotNow> {
        self.begin_act(id)?;
        let slot = self.slot(id).ok_or(NotNow::Unknown)?;
        let (mut parts, mut flying) = (Vec::new(), 0);
        for job in self.jobs_of(slot) {
            if self.jobs[job].state == State::Flying {
                flying += self.jobs[job].recipients.as_slice().len();
                continue;
            }
            self.rest(job);
            let recipients = self.jobs[job].recipients.take();
            self.commit(slot, recipients.clone());
            parts.push((job, recipients));
        }
        Ok(Deleting { at: self.messages[slot].at, parts, flying })
    }

    /// The spool has taken the outcomes of a deletion: they are read back as all outcomes are.
    pub fn deleted(&mut self, id: u64) {
        self.orders.busy.remove(&id);
    }

    /// The spool has refused them.
    pub fn delete_failed(&mut self, id: u64, deleting: Deleting<L>) {
        self.end_act(id);
        let Some(slot) = self.slot(id) else { return };
        for (job, recipients) in deleting.parts {
            // A job stays as long as its message, unless it has been under way, and this one has not.
            for &recipient in &recipients {
                self.committed(slot, recipient);
            }
            self.jobs[job].recipients = Recipients::new(recipients);
        }
        self.go_on(slot);
        self.look_in_time(slot);
    }

    /// From when the time of message `id` counts: it was accepted then, or is to be sent then, or was requeued; time on hold does
    /// not count. Milliseconds since the Unix epoch.
    pub fn message_counts_from_ms(&self, id: u64) -> Option<u64> {
        Some(self.age_from_ms(&self.messages[self.slot(id)?]))
    }

    /// The same of a message at hand.
    pub(super) fn age_from_ms(&self, message: &Message<L>) -> u64 {
        message.expire_ms.saturating_sub(self.settings.expire_ms)
    }

    /// What a survivor's record must say of orders: from when the message's time counts, and since when it is on hold.
    pub(super) fn ordered(&self, message: &Message<L>) -> (u64, Option<u64>) {
        (self.age_from_ms(message), self.orders.held_ms(message.id))
    }

    /// Its jobs that are not under way and have recipients.
    fn landed_jobs(&self, slot: u32) -> Vec<u32> {
        let mut jobs = self.jobs_of(slot);
        jobs.retain(|&job| self.jobs[job].state != State::Flying && !self.jobs[job].recipients.is_empty());
        jobs
    }

    /// What rests of it waits again, unless it must not.
    fn go_on(&mut self, slot: u32) {
        self.jobs_of(slot).into_iter().for_each(|job| self.wait(job));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{EXPIRY, arrival, catching_up, fates, queue, reply};
    use super::super::{Added, Blame, Deferral};
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn act(order: Order, at_ms: u64) -> Act {
        Act { order, queue_id: 7, at_ms }
    }

    /// Message 7, deferred once at 0.
    fn deferred() -> Queue<u32> {
        let mut queue = queue(1);
        queue.add(arrival(7, 0, &[0, 0]));
        let delivery = queue.start(0).expect("due");
        queue.tried(&delivery, fates(&[450, 450]), Blame::Nobody, "mx", 0);
        queue.disconnected(0);
        queue
    }

    #[test]
    fn a_message_on_hold_is_neither_begun_nor_given_up_and_that_time_does_not_count() {
        let mut queue = deferred();
        assert_eq!(queue.order(act(Order::Hold, HOUR), 20), Applied::Open(7));
        assert_eq!(queue.order(act(Order::Hold, HOUR + 5), 21), Applied::Open(7), "twice is once");
        assert_eq!((queue.start(EXPIRY * 9), queue.overdue(EXPIRY * 9), queue.wake_ms()), (None, None, None));
        assert_eq!(queue.standing(7).expect("there").held_ms, Some(HOUR));
        assert_eq!((queue.held_by_operator(), queue.flush(7, EXPIRY)), (1, 0));
        queue.order(act(Order::Release, 10 * HOUR), 22);
        let standing = queue.standing(7).expect("there");
        assert_eq!((standing.expire_ms, standing.held_ms), (EXPIRY + 9 * HOUR, None));
        assert_eq!(queue.overdue(standing.expire_ms - 1), None);
        assert_eq!(queue.start(10 * HOUR).expect("due at once").recipients, [0, 1]);
    }

    #[test]
    fn what_is_under_way_ends_and_then_rests() {
        let mut queue = queue(1);
        queue.add(arrival(7, 0, &[0, 0]));
        let delivery = queue.start(0).expect("due");
        queue.order(act(Order::Hold, 1), 20);
        let tried = queue.tried(&delivery, fates(&[250, 450]), Blame::Nobody, "mx", 2);
        assert_eq!(tried.delivered.len(), 1);
        queue.disconnected(0);
        assert_eq!((queue.start(u64::MAX / 2), queue.wake_ms()), (None, None));
        queue.order(act(Order::Release, 5), 21);
        assert_eq!(queue.start(5).expect("due").recipients, [1]);
    }

    #[test]
    fn requeued_it_is_as_if_it_had_just_arrived() {
        let mut queue = deferred();
        queue.order(act(Order::Hold, 1), 20);
        queue.order(act(Order::Requeue, HOUR), 21);
        let standing = queue.standing(7).expect("there");
        assert_eq!((standing.expire_ms, standing.held_ms, standing.parts[0].attempts), (HOUR + EXPIRY, None, 0));
        assert_eq!(standing.parts[0].reason.as_ref().expect("what was said stays").reply, reply(450));
        let delivery = queue.start(HOUR).expect("due");
        queue.unreachable(&delivery, "no route to host", HOUR);
        queue.disconnected(0);
        queue.order(act(Order::Requeue, HOUR + 1), 22);
        assert!(queue.start(HOUR + 1).is_some(), "whatever pause its destination has");
    }

    #[test]
    fn what_was_deleted_is_gone_when_that_is_read_back_and_not_before() {
        let mut queue = deferred();
        let deleting = queue.begin_delete(7).expect("may be deleted");
        assert_eq!((deleting.recipients().collect::<Vec<_>>(), deleting.flying), (vec![0, 1], 0));
        assert_eq!(queue.begin_delete(7), Err(NotNow::Busy));
        assert_eq!((queue.start(EXPIRY - 1), queue.begin_move(7, 7)), (None, None));
        queue.delete_failed(7, deleting);
        assert!(queue.wake_ms().is_some() && queue.begin_move(7, 7).is_some());
        queue.move_failed(7);
        let deleting = queue.begin_delete(7).expect("again");
        queue.deleted(7);
        assert_eq!(queue.outcome(7, 0, 20), Applied::Open(7));
        assert_eq!(queue.outcome(7, 1, 20), Applied::Settled(7));
        assert_eq!((queue.begin_delete(7), deleting.at), (Err(NotNow::Unknown), 7));
        assert_eq!((queue.counts(), queue.held_by_operator()), ((0, 0), 0));
    }

    /// Its time ends while the deletion is being written: a message whose time is over and that nobody gives up would stand
    /// first at its destination for ever, and no delivery be begun anywhere.
    #[test]
    fn a_message_past_its_time_is_given_up_after_a_deletion_that_failed() {
        let mut queue = deferred();
        let deleting = queue.begin_delete(7).expect("may be deleted");
        assert_eq!(queue.overdue(EXPIRY), None);
        queue.delete_failed(7, deleting);
        queue.add(arrival(8, EXPIRY, &[0]));
        assert_eq!(queue.overdue(EXPIRY), None, "its next try was due");
        let delivery = queue.start(EXPIRY).expect("the last try");
        queue.tried(&delivery, fates(&[450, 450]), Blame::Nobody, "mx", EXPIRY);
        assert_eq!(queue.overdue(EXPIRY).expect("given up").recipients.len(), 2);
        assert_eq!(queue.start(EXPIRY).expect("due").id, 8);
    }

    #[test]
    fn who_is_being_delivered_to_is_not_taken_back() {
        let mut queue = queue(2);
        queue.add(arrival(7, 0, &[0, 1, 1]));
        let delivery = queue.start(0).expect("due");
        let deleting = queue.begin_delete(7).expect("may be deleted");
        assert_eq!((deleting.recipients().collect::<Vec<_>>(), deleting.flying), (vec![1, 2], 1));
        queue.tried(&delivery, fates(&[450]), Blame::Nobody, "mx", 0);
        assert_eq!(queue.outcome(7, 1, 20), Applied::Open(7));
        assert_eq!(queue.outcome(7, 2, 20), Applied::Open(7));
        queue.deleted(7);
        assert_eq!(queue.begin_delete(7).expect("the rest").recipients().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn nothing_is_moved_while_an_order_is_written_nor_ordered_while_it_moves() {
        let mut queue = deferred();
        assert_eq!(queue.begin_act(7), Ok(()));
        assert_eq!((queue.begin_act(7), queue.begin_move(7, 7)), (Err(NotNow::Busy), None));
        queue.end_act(7);
        assert!(queue.begin_move(7, 7).is_some());
        assert_eq!(queue.begin_act(7), Err(NotNow::Busy));
        queue.move_failed(7);
        assert_eq!(queue.begin_act(7), Ok(()));
        queue.order(act(Order::Hold, 5), 20);
        let moving = queue.begin_move(7, 7).expect("the order is read back");
        assert_eq!((moving.held_ms, moving.counts_from_ms), (Some(5), 0));
        queue.add(super::super::Arrival { at: 30, survivor: true, ..arrival(7, 0, &[0, 0]) });
        assert_eq!((queue.start(u64::MAX / 2), queue.standing(7).expect("there").at), (None, 30), "still on hold");
    }

    /// After a crash orders stand before or behind their message.
    #[test]
    fn orders_are_read_in_either_order() {
        for order_first in [true, false] {
            let mut queue = catching_up(1);
            let orders = [(Order::Requeue, HOUR), (Order::Hold, 2 * HOUR)];
            if !order_first {
                queue.add(arrival(7, 0, &[0]));
            }
            for (order, at_ms) in orders {
                let applied = queue.order(act(order, at_ms), 20);
                assert_eq!(applied, if order_first { Applied::Unknown } else { Applied::Open(7) });
            }
            if order_first {
                assert_eq!(
                    queue.add(arrival(7, 0, &[0])),
                    Added { early: vec![20, 20], settled: false, superseded: None }
                );
            }
            queue.caught_up();
            let standing = queue.standing(7).expect("there");
            assert_eq!((standing.expire_ms, standing.held_ms), (HOUR + EXPIRY, Some(2 * HOUR)));
            assert_eq!(queue.start(u64::MAX / 2), None);
        }
    }

    /// It was requeued, and tried since; then its record was moved.
    #[test]
    fn what_a_survivor_says_of_tries_was_so_after_its_orders() {
        let mut queue = catching_up(1);
        let deferral = Deferral { recipient: 0, attempts: 5, next_ms: 9 * HOUR };
        queue.deferred(7, deferral, 20);
        queue.order(act(Order::Requeue, HOUR), 20);
        queue.order(act(Order::Hold, 8 * HOUR), 30);
        queue.add(super::super::Arrival { at: 20, survivor: true, ..arrival(7, 0, &[0]) });
        let standing = queue.standing(7).expect("there");
        assert_eq!((standing.parts[0].attempts, standing.parts[0].own_due_ms), (5, 9 * HOUR));
        assert_eq!(
            (standing.expire_ms, standing.held_ms),
            (HOUR + EXPIRY, Some(8 * HOUR)),
            "what was ordered later counts"
        );
    }

    /// It was held for an hour and released, before its record was moved.
    #[test]
    fn what_its_sender_wants_later_is_not_later_because_it_was_held_and_moved() {
        let mut queue = catching_up(1);
        queue.order(act(Order::Requeue, 3 * HOUR), 20);
        queue.add(super::super::Arrival { at: 20, survivor: true, ..arrival(7, 2 * HOUR, &[0]) });
        let standing = queue.standing(7).expect("there");
        assert_eq!((standing.expire_ms, standing.parts[0].own_due_ms), (3 * HOUR + EXPIRY, 2 * HOUR));
    }

    #[test]
    fn a_flush_tries_what_was_deferred_and_whom_nobody_could_reach() {
        let mut queue = deferred();
        assert_eq!(queue.start(1), None);
        assert_eq!(queue.flush(7, 1), 2);
        let delivery = queue.start(1).expect("due");
        assert_eq!(queue.flush(7, 1), 0, "under way");
        queue.unreachable(&delivery, "no route to host", 1);
        queue.disconnected(0);
        assert_eq!(queue.start(2), None);
        assert_eq!(queue.flush(7, 2), 2);
        assert!(queue.start(2).is_some());
        // What its sender wants to be held back stays where it is.
        queue.add(arrival(8, HOUR, &[0]));
        assert_eq!((queue.flush(8, 3), queue.flush(9, 3)), (0, 0));
    }

    #[test]
    fn ids_stand_behind_the_moment_from_which_they_count() {
        let mut queue = queue(1);
        for (id, arrived_ms) in [(9, 100), (1, 200), (5, 300)] {
            queue.add(arrival(id, arrived_ms, &[0]));
        }
        queue.order(Act { order: Order::Requeue, queue_id: 9, at_ms: 400 }, 0);
        let mut ids = queue.ids();
        ids.sort_unstable();
        assert_eq!(ids, [(200, 1), (300, 5), (400, 9)]);
    }

    /// Prints what a look at all ids costs the relay's thread.
    #[test]
    fn ids_of_many_messages() {
        let mut queue = queue(1);
        for id in 0..100_000 {
            queue.add(arrival(id, 0, &[0]));
        }
        let begun = std::time::Instant::now();
        assert_eq!(queue.ids().len(), 100_000);
        println!("ids of 100,000 messages: {:?}", begun.elapsed());
    }
}
