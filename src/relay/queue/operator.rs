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
mod tests;
