//! Deliveries: which is begun next, and what is known when it is back.
//!
//! A job is resting, waits for its time (`Site::later`), for its turn (`Site::rings`), or is under way; `Queue::enter` moves
//! it from one to another and is the only one to do so.

use super::heard::Heard;
use super::message::{Job, Message, State};
use super::{Blame, Deferral, Delivery, Destination, Queue, Site, Tried, backoff};
use crate::relay::losses::Broken;
use crate::smtp::client::Fate;

/// Jobs whose time has come that are given their turn at a time: a million that have waited for a start take theirs while
/// the first are under way.
const PROMOTED_AT_ONCE: usize = 1024;
/// Deliveries that a server may begin for its other destinations while one of them has something that is due, and no
/// connection.
const PATIENCE: u64 = 16;

impl<L: Copy + PartialEq> Queue<L> {
    /// The next delivery for which a connection should be opened. Takes a connection of its destination.
    pub fn start(&mut self, now: u64) -> Option<Delivery<L>> {
        (0..self.crowd.first()).for_each(|destination| self.promote(destination, now));
        let ready = |destination: &Destination| self.has_room(*destination) && self.due_ms(*destination, now).is_some();
        let rank = |destination: &Destination| (!self.is_passed_over(*destination), self.due_ms(*destination, now));
        let first = (0..self.crowd.first()).filter(ready).min_by_key(rank);
        let destination = first.or_else(|| self.next_of_crowd(now))?;
        let delivery = self.take(destination, now);
        if let Some(delivery) = &delivery {
            self.sites[destination].connections += 1;
            self.servers[self.sites[destination].server].connections += 1;
            self.crowd.connected(destination, delivery.sender);
        }
        self.touch(destination);
        delivery
    }

    /// The next delivery for a connection to `destination` that is open. None also if another destination at the same server
    /// has waited longer, or has let many others pass, and can get no connection but this one's.
    pub fn next(&mut self, destination: Destination, now: u64) -> Option<Delivery<L>> {
        self.promote(destination, now);
        let server = self.sites[destination].server;
        if self.servers[server].connections >= self.servers[server].connections_max {
            let due_ms = self.chosen(destination).map_or(u64::MAX, |job| self.jobs[job].due_ms);
            let others = (0..self.crowd.first()).filter(|&other| self.sites[other].server == server);
            let waiting: Vec<_> = others.filter(|&other| self.sites[other].connections == 0).collect();
            for other in waiting {
                self.promote(other, now);
                let waits = |other_ms| other_ms < due_ms || self.is_passed_over(other);
                if self.due_ms(other, now).is_some_and(waits) {
                    return None;
                }
            }
        }
        self.take(destination, now)
    }

    /// A connection to `destination` was closed.
    pub fn disconnected(&mut self, destination: Destination) {
        let site = &mut self.sites[destination];
        site.connections = site.connections.checked_sub(1).expect("as many closed as opened");
        self.servers[site.server].connections -= 1;
        self.crowd.disconnected(destination);
        self.touch(destination);
    }

    /// A transaction with `server` ended, or was not even begun; one fate per recipient of `delivery`.
    pub fn tried(&mut self, delivery: &Delivery<L>, fates: Vec<Fate>, blame: Blame, server: &str, now: u64) -> Tried {
        match blame {
            Blame::Nobody => self.sites[delivery.destination].answered(),
            Blame::Destination => self.site_lost(delivery.destination, None, now),
            Blame::Content => self.site_lost(delivery.destination, Some((delivery.id, delivery.sender)), now),
            Blame::Ours => {}
        }
        self.touch(delivery.destination);
        let mut tried = Tried::default();
        let Some(slot) = self.flying(delivery) else { return tried };
        let job = &mut self.jobs[delivery.job];
        job.attempts = job.attempts.saturating_add(1);
        let named = job.recipients.as_slice().first().copied();
        for (&recipient, fate) in delivery.recipients.iter().zip(fates) {
            match fate {
                _ if job.recipients.as_slice().binary_search(&recipient).is_err() => {}
                Fate::Delivered(reply) => tried.delivered.push((recipient, reply)),
                Fate::Failed(reply) => tried.failed.push((recipient, reply)),
                Fate::Deferred(reply) => tried.deferred.push((recipient, reply)),
            }
        }
        let done: Vec<u32> = tried.delivered.iter().chain(&tried.failed).map(|(recipient, _)| *recipient).collect();
        job.recipients.remove_all(&done);
        self.commit(slot, done);
        if let Some(heard) = Heard::new(&tried.deferred, server) {
            let heard = self.sites[delivery.destination].share(heard);
            let job = &mut self.jobs[delivery.job];
            job.heard = Some(heard);
            let (first_ms, max_ms) = (self.settings.retry_first_ms, self.settings.retry_max_ms);
            job.due_ms = now + backoff(first_ms, max_ms, job.attempts.into(), &mut self.random);
            tried.retry_ms = Some(job.due_ms).filter(|&due_ms| due_ms < self.messages[slot].expire_ms);
            let is_kept = |kept: &Deferral| is_kept(kept.attempts, named == Some(kept.recipient));
            tried.keep = tried.retry_ms.and_then(|_| job.deferral()).filter(is_kept);
        }
        self.landed(slot, delivery.job);
        tried
    }

    /// The destination could not be reached, or did not get as far as taking a transaction. The message keeps its place.
    /// Returns when the destination is tried again.
    pub fn unreachable(&mut self, delivery: &Delivery<L>, trouble: &str, now: u64) -> u64 {
        if let Some(slot) = self.flying(delivery) {
            self.landed(slot, delivery.job);
        }
        let site = &mut self.sites[delivery.destination];
        site.trouble = Some(trouble.into());
        // Connections that were open when it went down fail together: that is one failure.
        if site.down_until_ms <= now {
            site.failures = site.failures.saturating_add(1);
            site.down(&self.settings, now, &mut self.random);
        }
        let until_ms = site.down_until_ms;
        self.touch(delivery.destination);
        until_ms
    }

    /// Are other transactions of message `id` under way, or due and not yet tried?
    pub fn has_more(&self, id: u64, now: u64) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        let is_due = |job: &Job| !job.recipients.is_empty() && job.attempts == 0 && job.due_ms <= now;
        let more = |job: u32| self.jobs[job].state == State::Flying || is_due(&self.jobs[job]);
        self.jobs_of(slot).into_iter().any(more)
    }

    /// When [`Queue::start`] or [`Queue::overdue`] may have something that they have not now.
    pub fn wake_ms(&self) -> Option<u64> {
        let due = (0..self.crowd.first()).filter_map(|destination| self.begins_ms(destination));
        due.chain(self.crowd_wake_ms()).chain(self.messages.least(self.looks)).min()
    }

    /// When something may begin at `destination`, if nothing changes.
    pub(super) fn begins_ms(&self, destination: Destination) -> Option<u64> {
        let site = &self.sites[destination];
        let ready = self.chosen(destination).map(|job| self.jobs[job].due_ms);
        let first_ms = ready.into_iter().chain(self.jobs.least(site.later)).min()?;
        Some(first_ms.max(site.down_until_ms)).filter(|_| self.has_room(destination))
    }

    /// Has [`Queue::next`] something for a connection to `destination`, unless another destination needs that connection more?
    pub fn is_due(&mut self, destination: Destination, now: u64) -> bool {
        self.promote(destination, now);
        self.due_ms(destination, now).is_some()
    }

    /// May a connection to `destination` that has nothing to do stay open for a moment? Not if it could be the one for which
    /// another destination at its server waits.
    pub fn may_linger(&self, destination: Destination) -> bool {
        let site = &self.sites[destination];
        let server = &self.servers[site.server];
        let waits = |(at, other): (usize, &Site)| {
            let waiting = other.tally.count(State::Later) + other.tally.count(State::Ready);
            at != destination && other.server == site.server && waiting > 0
        };
        let has_room = server.connections < server.connections_max;
        let is_enough = server.connections <= server.connections_max;
        let others = &self.sites[..self.crowd.first()];
        site.failures == 0 && is_enough && (has_room || !others.iter().enumerate().any(waits))
    }

    /// May another connection be opened? One at a time to a destination that cannot be reached.
    pub(super) fn has_room(&self, destination: Destination) -> bool {
        let site = &self.sites[destination];
        let server = &self.servers[site.server];
        let limit = if site.failures > 0 { 1 } else { server.connections_max };
        site.connections < limit && server.connections < server.connections_max
    }

    /// Have so many others at its server been served that this one is next?
    fn is_passed_over(&self, destination: Destination) -> bool {
        let site = &self.sites[destination];
        self.servers[site.server].begun - site.served_at >= PATIENCE
    }

    /// The job whose turn it is at a destination.
    pub(super) fn chosen(&self, destination: Destination) -> Option<u32> {
        self.lanes.first(&self.sites[destination].rings)
    }

    /// Since when that is due, if it may be begun now.
    pub(super) fn due_ms(&self, destination: Destination, now: u64) -> Option<u64> {
        let job = self.chosen(destination).filter(|_| self.sites[destination].down_until_ms <= now)?;
        Some(self.jobs[job].due_ms)
    }

    /// Jobs whose time has come wait for their turn.
    pub(super) fn promote(&mut self, destination: Destination, now: u64) {
        for _ in 0..PROMOTED_AT_ONCE {
            let first = self.sites[destination].later;
            if self.jobs.least(first).is_none_or(|due_ms| due_ms > now) {
                return;
            }
            self.enter(first, State::Ready);
        }
    }

    /// None while [`Queue::overdue`] has not been asked about a message whose time is over: it may be one that is not begun any
    /// more.
    fn take(&mut self, destination: Destination, now: u64) -> Option<Delivery<L>> {
        let job = self.chosen(destination)?;
        let Job { message, due_ms, .. } = self.jobs[job];
        let Message { id, at, expire_ms, look_ms, sender, .. } = self.messages[message];
        // The clock may have been set back since it was given its turn.
        if due_ms > now || expire_ms <= now && look_ms <= now {
            return None;
        }
        let site = &mut self.sites[destination];
        self.lanes.take_first(&mut site.rings, &mut self.jobs);
        let server = &mut self.servers[site.server];
        server.begun += 1;
        site.served_at = server.begun;
        self.count(job, State::Flying);
        Some(Delivery { id, at, destination, recipients: self.jobs[job].recipients.as_slice().to_vec(), sender, job })
    }

    /// The message of a delivery that is under way, if it is still known.
    pub(super) fn flying(&self, delivery: &Delivery<L>) -> Option<u32> {
        let slot = self.slot(delivery.id)?;
        let is_its = |job: &&Job| job.message == slot && job.state == State::Flying;
        self.jobs.get(delivery.job).filter(is_its).map(|_| slot)
    }

    /// A job is back from its flight.
    pub(super) fn landed(&mut self, slot: u32, job: u32) {
        self.count(job, State::Resting);
        if self.jobs[job].recipients.is_empty() {
            return self.drop_job(slot, job);
        }
        self.wait(job);
        self.look_in_time(slot);
    }

    /// A job without recipients, which stands nowhere.
    fn drop_job(&mut self, slot: u32, job: u32) {
        let next = self.count_out(job);
        if self.messages[slot].jobs == job {
            self.messages[slot].jobs = next;
            return;
        }
        let mut before = self.messages[slot].jobs;
        while self.jobs[before].next != job {
            before = self.jobs[before].next;
        }
        self.jobs[before].next = next;
    }

    /// The fates of these recipients are known, and to be recorded.
    pub(super) fn commit(&mut self, slot: u32, recipients: Vec<u32>) {
        if !recipients.is_empty() {
            self.committing.entry(slot).or_default().extend(recipients);
        }
    }

    /// A job that rests waits for its time, unless nothing of its message may be begun.
    pub(super) fn wait(&mut self, job: u32) {
        let Job { message, state, .. } = self.jobs[job];
        let Message { id, moving, .. } = self.messages[message];
        let may_wait = !moving && !self.orders.holds(id);
        if state == State::Resting && may_wait && !self.jobs[job].recipients.is_empty() {
            self.enter(job, State::Later);
        }
    }

    /// A job that waits does so no more.
    pub(super) fn rest(&mut self, job: u32) {
        if matches!(self.jobs[job].state, State::Later | State::Ready) {
            self.enter(job, State::Resting);
        }
    }

    /// Out of where it waits, if it does, and into where it shall wait.
    fn enter(&mut self, job: u32, state: State) {
        let Job { message, destination, state: before, .. } = self.jobs[job];
        let site = &mut self.sites[destination as usize];
        match before {
            State::Later => self.jobs.pull(&mut site.later, job),
            State::Ready => self.lanes.pull(&mut site.rings, &mut self.jobs, job),
            State::Resting | State::Flying => {}
        }
        match state {
            State::Later => self.jobs.push(&mut site.later, job),
            State::Ready => {
                if site.tally.count(State::Ready) == 0 {
                    site.served_at = self.servers[site.server].begun;
                }
                let Message { sender, small, .. } = self.messages[message];
                self.lanes.push(&mut site.rings, &mut self.jobs, job, sender, small);
            }
            State::Resting | State::Flying => {}
        }
        self.count(job, state);
        self.touch(destination as usize);
    }

    /// The connection broke within a transaction.
    fn site_lost(&mut self, destination: Destination, broken: Broken, now: u64) {
        let site = &mut self.sites[destination];
        if site.losses.add(broken) {
            site.failures = site.failures.saturating_add(1);
            if site.losses.are_too_many() && site.down_until_ms <= now {
                site.down(&self.settings, now, &mut self.random);
            }
        }
    }
}

/// Whenever the attempts have doubled, or the recipient is done who was named the last time: there are few such records
/// however long a message waits, and none of one that is taken at the second try.
fn is_kept(attempts: u16, is_named: bool) -> bool {
    attempts >= 2 && (attempts.is_power_of_two() || !is_named)
}
