//! Messages that are late, and those that are past their time.
//!
//! Past its time a message is given up because of a try that has failed, not because of a day in the calendar (RFC 5321 section
//! 4.5.4.1 counts the days in which delivery is tried): what has not been tried since the start, or whose next try is due and
//! was not made, as after a standstill of days, is tried once more first. Only where a destination has failed so often in a
//! row that it is one of those that cannot be reached, a message's own try is not waited for.

use super::message::{Job, Message, State};
use super::site::{backoff, unreached};
use super::{Overdue, Queue, Reason};
use crate::relay::losses::LOSSES_MAX;

/// When a message is overdue and nothing can be said of it now, as nobody has tried it yet: look again after this time.
pub(super) const LOOK_AGAIN_MS: u64 = 30_000;
/// The same while it is being moved to another segment: as long as a write takes, about.
const MOVING_MS: u64 = 1000;
/// The same while the last try of a message past its time is waited for, about: the destination may have gone down meanwhile.
const LAST_TRY_MS: u64 = 300_000;
/// Messages that are looked at in one turn, if nothing is to be said of any: after a standstill it may be a million.
const LOOKED_AT_ONCE: usize = 1024;

impl<L: Copy + PartialEq> Queue<L> {
    /// One message that is late, or past its time; of the latter the recipients in none of the deliveries under way and with no
    /// last try before them, which are to be recorded as failed. None: nothing is to be said, for now or for this turn.
    pub fn overdue(&mut self, now: u64) -> Option<Overdue<L>> {
        for _ in 0..LOOKED_AT_ONCE {
            self.messages.least(self.looks).filter(|&look_ms| look_ms <= now)?;
            let slot = self.looks;
            if self.messages[slot].moving {
                self.look_at(slot, now + MOVING_MS);
                continue;
            }
            let given_up = self.messages[slot].expire_ms <= now;
            let again_ms = if given_up { self.try_last(slot, now) } else { u64::MAX };
            let recipients = if given_up { self.give_up(slot, now) } else { self.late(slot) };
            let message = &mut self.messages[slot];
            message.warned |= !recipients.is_empty();
            let &mut Message { id, at, expire_ms, warned, .. } = message;
            let look_ms = match (given_up, warned) {
                // And when it is back from that try, or from the one under way.
                (true, _) => again_ms,
                (false, true) => expire_ms,
                // Nobody has tried it yet, as after a long standstill of ours.
                (false, false) => (now + LOOK_AGAIN_MS.min(self.settings.retry_first_ms)).min(expire_ms),
            };
            self.look_at(slot, look_ms);
            if !recipients.is_empty() {
                return Some(Overdue { id, at, given_up, recipients });
            }
        }
        None
    }

    /// A message is looked at when it will be late, or past its time.
    pub(super) fn look_anew(&mut self, slot: u32) {
        let Message { expire_ms, warned, .. } = self.messages[slot];
        let counts_from_ms = self.age_from_ms(&self.messages[slot]);
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

    /// Parts of a message past its time that are to be tried once more are due now. When to look again, if there are any.
    fn try_last(&mut self, slot: u32, now: u64) -> u64 {
        let mut jobs = self.jobs_of(slot);
        jobs.retain(|&job| self.has_last_try(job, now));
        for &job in &jobs {
            // Where it waits is in the order of that time.
            if self.jobs[job].due_ms > now {
                self.rest(job);
                self.jobs[job].due_ms = now;
                self.wait(job);
            }
        }
        if jobs.is_empty() {
            return u64::MAX;
        }
        // By chance, or a million of them would be looked at in one moment again.
        let pause_ms = LAST_TRY_MS.min(self.settings.retry_first_ms);
        now + backoff(pause_ms, pause_ms, 1, &mut self.random)
    }

    /// Is this part, whose message is past its time, to be tried first? Not what is under way, nor what has just failed, whose
    /// next try lies ahead.
    pub(super) fn has_last_try(&self, job: u32, now: u64) -> bool {
        let Job { state, destination, due_ms, heard, recipients, .. } = &self.jobs[job];
        let is_hopeless = self.sites[*destination as usize].failures >= LOSSES_MAX;
        let is_owed = heard.is_none() || *due_ms <= now;
        *state != State::Flying && !recipients.is_empty() && is_owed && !is_hopeless
    }

    /// Takes out the recipients that are neither in a delivery under way nor to be tried once more.
    fn give_up(&mut self, slot: u32, now: u64) -> Vec<(u32, Reason)> {
        let mut recipients = Vec::new();
        for job in self.jobs_of(slot) {
            if self.jobs[job].state == State::Flying || self.has_last_try(job, now) {
                continue;
            }
            self.rest(job);
            // It has not been tried, and there is no answer that could be told: its destination's connections all break.
            let unheard = || unreached("4.4.2 its server breaks every connection off");
            for (reason, its) in self.reasons(job) {
                let reason = reason.unwrap_or_else(unheard);
                recipients.extend(its.into_iter().map(|recipient| (recipient, reason.clone())));
            }
            self.jobs[job].recipients.take();
        }
        self.commit(slot, recipients.iter().map(|(recipient, _)| *recipient).collect());
        recipients
    }

    /// The recipients for whom a try has failed, or whose destination cannot be reached; none if the sender knows.
    fn late(&self, slot: u32) -> Vec<(u32, Reason)> {
        let mut recipients = Vec::new();
        for job in self.jobs_of(slot).into_iter().filter(|_| !self.messages[slot].warned) {
            for (reason, its) in self.reasons(job) {
                recipients.extend(its.into_iter().filter_map(|recipient| Some((recipient, reason.clone()?))));
            }
        }
        recipients
    }

    /// The recipients of a job by why they were not delivered to. None: nobody has tried yet.
    pub(super) fn reasons(&self, job: u32) -> Vec<(Option<Reason>, Vec<u32>)> {
        let Job { heard, destination, recipients, .. } = &self.jobs[job];
        match heard {
            _ if recipients.is_empty() => Vec::new(),
            None => vec![(self.sites[*destination as usize].reason(), recipients.as_slice().to_vec())],
            Some(heard) => {
                let groups = heard.groups(recipients.as_slice()).into_iter();
                groups.map(|(reason, its)| (Some(reason.clone()), its)).collect()
            }
        }
    }
}
