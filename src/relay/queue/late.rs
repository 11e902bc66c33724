//! Messages that are late, and those that are past their time.

use super::message::{Message, State};
use super::{Overdue, Queue, Reason};
use crate::smtp::client::Reply;

/// When a message is overdue and nothing can be said of it now, as nobody has tried it yet: look again after this time.
pub(super) const LOOK_AGAIN_MS: u64 = 30_000;
/// The same while it is being moved to another segment: as long as a write takes, about.
const MOVING_MS: u64 = 1000;

impl<L: Copy + PartialEq> Queue<L> {
    /// One message that is late, or past its time; of the latter the recipients in none of the deliveries under way, which
    /// are to be recorded as failed.
    pub fn overdue(&mut self, now: u64) -> Option<Overdue<L>> {
        loop {
            self.messages.least(self.looks).filter(|&look_ms| look_ms <= now)?;
            let slot = self.looks;
            if self.messages[slot].moving {
                self.look_at(slot, now + MOVING_MS);
                continue;
            }
            let given_up = self.messages[slot].expire_ms <= now;
            let recipients = if given_up { self.give_up(slot) } else { self.late(slot) };
            let message = &mut self.messages[slot];
            message.warned |= !recipients.is_empty();
            let &mut Message { id, at, expire_ms, warned, .. } = message;
            let look_ms = match (given_up, warned) {
                // What is under way is looked at when it is back.
                (true, _) => u64::MAX,
                (false, true) => expire_ms,
                // Nobody has tried it yet, as after a long standstill of ours.
                (false, false) => (now + LOOK_AGAIN_MS.min(self.settings.retry_first_ms)).min(expire_ms),
            };
            self.look_at(slot, look_ms);
            if !recipients.is_empty() {
                return Some(Overdue { id, at, given_up, recipients });
            }
        }
    }

    /// A message is looked at when it will be late, or past its time.
    pub(super) fn look_anew(&mut self, slot: u32) {
        let Message { expire_ms, warned, .. } = self.messages[slot];
        let counts_from_ms = expire_ms.saturating_sub(self.settings.expire_ms);
        let warn_ms = self.settings.warn_ms.filter(|_| !warned);
        let look_ms = warn_ms.map_or(expire_ms, |warn_ms| counts_from_ms.saturating_add(warn_ms).min(expire_ms));
        self.look_at(slot, look_ms);
    }

    /// Something of it waits again: if its time has ended meanwhile, what was not given up then is given up now.
    pub(super) fn look_in_time(&mut self, slot: u32) {
        let Message { id, look_ms, expire_ms, .. } = self.messages[slot];
        if look_ms > expire_ms && !self.orders.holds(id) {
            self.look_at(slot, expire_ms);
        }
    }

    /// A message is looked at then.
    pub(super) fn look_at(&mut self, slot: u32, look_ms: u64) {
        self.look_no_more(slot);
        let message = &mut self.messages[slot];
        (message.look_ms, message.looked) = (look_ms, true);
        self.messages.push(&mut self.looks, slot);
    }

    /// A message is not looked at.
    pub(super) fn look_no_more(&mut self, slot: u32) {
        if std::mem::take(&mut self.messages[slot].looked) {
            self.messages.pull(&mut self.looks, slot);
        }
    }

    /// Takes out the recipients that are not in a delivery under way.
    fn give_up(&mut self, slot: u32) -> Vec<(u32, Reason)> {
        let untried = match self.messages[slot].recovered {
            true => "4.4.7 its time was over; the last answer is not known any more",
            false => "4.4.7 it was not tried in time",
        };
        let mut recipients = Vec::new();
        for job in self.jobs_of(slot) {
            if self.jobs[job].state == State::Flying {
                continue;
            }
            self.rest(job);
            let reason = self.reason(job).unwrap_or_else(|| {
                let reply = Reply::ours(451, untried.into());
                Reason { reply, server: None }
            });
            let given_up = self.jobs[job].recipients.take();
            recipients.extend(given_up.into_iter().map(|recipient| (recipient, reason.clone())));
        }
        self.commit(slot, recipients.iter().map(|(recipient, _)| *recipient).collect());
        recipients
    }

    /// The recipients for whom a try has failed, or whose destination cannot be reached; none if the sender knows.
    fn late(&self, slot: u32) -> Vec<(u32, Reason)> {
        let mut recipients = Vec::new();
        for job in self.jobs_of(slot).into_iter().filter(|_| !self.messages[slot].warned) {
            if let Some(reason) = self.reason(job) {
                let waiting = self.jobs[job].recipients.as_slice();
                recipients.extend(waiting.iter().map(|&recipient| (recipient, reason.clone())));
            }
        }
        recipients
    }

    /// Why a job was not delivered.
    pub(super) fn reason(&self, job: u32) -> Option<Reason> {
        let job = &self.jobs[job];
        job.reason.as_deref().cloned().or_else(|| self.sites[job.destination as usize].reason())
    }
}
