//! What the queue tells of a destination to whoever watches: how much there is in which state, whether it can be reached, and
//! how old the oldest message is.
//!
//! ```text
//!  job waits or flies: its second + 1     job rests, or is gone: its second - 1     oldest: the first second
//! ```
//!
//! A job counts under the second from which its message's time counts. What waits is in order of when it is due and not of
//! its age, so that the oldest stands anywhere; a count for each second finds it without looking at any message. A change
//! costs one step in a tree of at most as many seconds as messages live, and messages of one second share an entry, which
//! is 8 octets and the tree's slack.
//!
//! Promise: what is on hold has no age, as it waits for an operator and not for a server.

use super::message::State;
use super::{Counts, Destination, Queue};
use std::collections::BTreeMap;

/// A destination as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Transactions.
    pub counts: Counts,
    /// Open, or being opened.
    pub connections: usize,
    /// It is not tried before a pause is over.
    pub unreachable: bool,
    /// From when the time of the oldest message counts that waits or is under way, to the second: milliseconds since the Unix
    /// epoch.
    pub oldest_ms: Option<u64>,
}

/// Jobs by the second from which their time counts.
#[derive(Debug, Default)]
pub struct Ages(BTreeMap<u32, u32>);

impl Ages {
    /// One more that counts from `from_ms`.
    fn add(&mut self, from_ms: u64) {
        *self.0.entry(second(from_ms)).or_default() += 1;
    }

    /// One less.
    fn remove(&mut self, from_ms: u64) {
        let count = self.0.get_mut(&second(from_ms)).expect("it was added");
        *count -= 1;
        if *count == 0 {
            self.0.remove(&second(from_ms));
        }
    }

    /// The first second, in milliseconds.
    fn oldest_ms(&self) -> Option<u64> {
        self.0.first_key_value().map(|(&second, _)| u64::from(second) * 1000)
    }
}

/// Seconds since the Unix epoch, until 2106.
fn second(from_ms: u64) -> u32 {
    u32::try_from(from_ms / 1000).unwrap_or(u32::MAX)
}

/// Has a job in this state an age?
fn ages(state: State) -> bool {
    state != State::Resting
}

impl<L: Copy + PartialEq> Queue<L> {
    /// A destination as it is now. Costs nothing.
    pub fn seen(&self, destination: Destination, now: u64) -> Seen {
        let site = &self.sites[destination];
        let unreachable = site.failures > 0 && site.down_until_ms > now;
        let oldest_ms = site.ages.oldest_ms();
        Seen { counts: self.counts_of(destination), connections: site.connections, unreachable, oldest_ms }
    }

    /// A job goes from one state to another.
    pub(super) fn count(&mut self, job: u32, state: State) {
        let before = std::mem::replace(&mut self.jobs[job].state, state);
        let (from_ms, destination) = (self.counts_from_ms(job), self.jobs[job].destination);
        let site = &mut self.sites[destination as usize];
        site.tally.remove(before);
        site.tally.add(state);
        match (ages(before), ages(state)) {
            (false, true) => site.ages.add(from_ms),
            (true, false) => site.ages.remove(from_ms),
            (false, false) | (true, true) => {}
        }
    }

    /// A job that stands nowhere is taken out; its message is still there.
    pub(super) fn count_out(&mut self, job: u32) -> u32 {
        let from_ms = self.counts_from_ms(job);
        let removed = self.jobs.remove(job);
        let site = &mut self.sites[removed.destination as usize];
        site.tally.remove(removed.state);
        if ages(removed.state) {
            site.ages.remove(from_ms);
        }
        self.touch(removed.destination as usize);
        removed.next
    }

    /// A message's time counts anew, so that it is over at `expire_ms`.
    pub(super) fn count_anew(&mut self, slot: u32, expire_ms: u64) {
        let jobs = self.jobs_of(slot);
        for &job in jobs.iter().filter(|&&job| ages(self.jobs[job].state)) {
            let from_ms = self.counts_from_ms(job);
            self.sites[self.jobs[job].destination as usize].ages.remove(from_ms);
        }
        self.messages[slot].expire_ms = expire_ms;
        for &job in jobs.iter().filter(|&&job| ages(self.jobs[job].state)) {
            let from_ms = self.counts_from_ms(job);
            self.sites[self.jobs[job].destination as usize].ages.add(from_ms);
        }
    }

    fn counts_from_ms(&self, job: u32) -> u64 {
        self.age_from_ms(&self.messages[self.jobs[job].message])
    }

    /// Those that a scan finds; for tests.
    #[cfg(test)]
    pub(super) fn oldest_by_scan_ms(&self, destination: Destination) -> Option<u64> {
        let here = |(number, job): (u32, &super::Job)| {
            let is_here = job.destination as usize == destination && ages(job.state);
            is_here.then(|| self.counts_from_ms(number) / 1000 * 1000)
        };
        self.jobs.range(0).filter_map(here).min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Blame;
    use super::super::tests::{arrival, fates, queue};
    use super::*;
    use crate::smtp::envelope::{Act, Order};

    #[test]
    fn the_oldest_is_known_however_it_is_due() {
        let mut queue = queue(2);
        let oldest = |queue: &Queue<u32>| queue.seen(0, 0).oldest_ms;
        assert_eq!(oldest(&queue), None, "nothing waits");
        for (id, arrived_ms) in [(1, 5_000), (2, 1_900), (3, 9_000)] {
            queue.add(arrival(id, arrived_ms, &[0]));
        }
        queue.add(arrival(4, 500, &[1]));
        assert_eq!(oldest(&queue), Some(1_000), "to the second");
        assert_eq!(queue.start(10_000).expect("due").id, 4);
        let delivery = queue.start(10_000).expect("due");
        assert_eq!((delivery.id, oldest(&queue)), (2, Some(1_000)), "what is under way is not done");
        queue.tried(&delivery, fates(&[451]), Blame::Nobody, "mx", 10_000);
        assert_eq!(oldest(&queue), Some(1_000), "it is due last, and is the oldest");
        let act = |order, queue_id| Act { order, queue_id, at_ms: 20_000 };
        queue.order(act(Order::Hold, 2), 0);
        assert_eq!(oldest(&queue), Some(5_000), "what is on hold has no age");
        queue.order(act(Order::Requeue, 2), 0);
        queue.order(act(Order::Requeue, 1), 0);
        assert_eq!(oldest(&queue), Some(9_000), "requeued it is new");
        let delivery = queue.next(0, 20_000).expect("the third");
        queue.tried(&delivery, fates(&[250]), Blame::Nobody, "mx", 20_000);
        assert_eq!((delivery.id, oldest(&queue)), (3, Some(20_000)), "what is being recorded is no more");
    }

    #[test]
    fn what_is_under_way_keeps_its_age_until_it_is_done() {
        let mut queue = queue(1);
        queue.add(arrival(1, 5_000, &[0]));
        let delivery = queue.start(10_000).expect("due");
        queue.order(Act { order: Order::Hold, queue_id: 1, at_ms: 20_000 }, 0);
        assert_eq!(queue.seen(0, 0).oldest_ms, Some(5_000), "it was under way before");
        queue.order(Act { order: Order::Release, queue_id: 1, at_ms: 30_000 }, 0);
        assert_eq!(queue.seen(0, 0).oldest_ms, Some(15_000), "the time that it was held does not count");
        queue.tried(&delivery, fates(&[451]), Blame::Nobody, "mx", 40_000);
        assert_eq!(queue.seen(0, 0).oldest_ms, Some(15_000));
        // What became of it is read while it is under way once more.
        let delivery = queue.next(0, 1_000_000).expect("due");
        queue.outcome(1, 0, 9);
        assert_eq!((queue.seen(0, 0).oldest_ms, queue.counts().0), (None, 0));
        queue.tried(&delivery, fates(&[250]), Blame::Nobody, "mx", 1_000_000);
    }

    #[test]
    fn a_destination_is_seen_as_it_is() {
        let mut queue = queue(1);
        (1..=3).for_each(|id| drop(queue.add(arrival(id, 0, &[0]))));
        let delivery = queue.start(1000).expect("due");
        let seen = queue.seen(0, 1000);
        assert_eq!((seen.connections, seen.unreachable, seen.oldest_ms), (1, false, Some(0)));
        assert_eq!(seen.counts, Counts { flying: 1, ready: 2, ..Counts::default() });
        let until_ms = queue.unreachable(&delivery, "no route to host", 1000);
        assert!(queue.seen(0, 1000).unreachable && !queue.seen(0, until_ms).unreachable);
    }
}
