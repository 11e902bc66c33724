//! The wall clock was set back: pauses last as long as they were meant to.

use super::Queue;
use super::message::Job;

impl<L: Copy + PartialEq> Queue<L> {
    /// The wall clock, which shows `now`, was set back by `by_ms`. A message that its sender has let wait until a certain time
    /// (RFC 4865) waits for that time. One pass over all that is queued, in which nothing changes its place: when a message is
    /// looked at for being late follows from when it came.
    pub fn set_back(&mut self, by_ms: u64, now: u64) {
        let before_ms = now.saturating_add(by_ms);
        let is_held_back = |job: &Job| job.attempts == 0 && job.due_ms > before_ms;
        let all = |(slot, job): (u32, &Job)| (slot, is_held_back(job));
        let jobs: Vec<(u32, bool)> = self.jobs.range(0).map(all).collect();
        let held_back = || jobs.iter().filter(|(_, is_held_back)| *is_held_back).map(|(job, _)| *job);
        // Of the others the order stays. What is under way is among them: it may come back untried.
        held_back().for_each(|job| self.rest(job));
        for &(job, _) in jobs.iter().filter(|(_, is_held_back)| !is_held_back) {
            let due_ms = &mut self.jobs[job].due_ms;
            *due_ms = due_ms.saturating_sub(by_ms);
        }
        held_back().for_each(|job| self.wait(job));
        for destination in 0..self.sites.len() {
            let site = &mut self.sites[destination];
            site.down_until_ms = site.down_until_ms.saturating_sub(by_ms);
            self.shift_in_crowd(destination);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{arrival, fates, queue};
    use super::super::{Arrival, Blame};

    const NOW: u64 = 1_000_000_000;
    const HOUR: u64 = 3_600_000;

    #[test]
    fn a_pause_lasts_as_long_as_it_was_meant_to() {
        let mut queue = queue(1);
        queue.add(arrival(1, NOW, &[0]));
        let first = queue.start(NOW).expect("due");
        let due_ms = queue.tried(&first, fates(&[450]), Blame::Nobody, "mx", NOW).retry_ms.expect("a retry");
        queue.disconnected(0);
        queue.set_back(HOUR, NOW - HOUR);
        assert_eq!(queue.wake_ms(), Some(due_ms - HOUR));
        assert!(queue.start(due_ms - HOUR - 1).is_none());
        assert_eq!(queue.start(due_ms - HOUR).expect("due").id, 1);
    }

    #[test]
    fn what_waits_for_its_turn_waits_no_longer() {
        let mut queue = queue(1);
        (1..=3).for_each(|id| drop(queue.add(arrival(id, NOW, &[0]))));
        let first = queue.start(NOW).expect("due");
        queue.set_back(HOUR, NOW - HOUR);
        queue.tried(&first, fates(&[250]), Blame::Nobody, "mx", NOW - HOUR);
        let others = [(); 2].map(|()| {
            let next = queue.next(0, NOW - HOUR).expect("due as before");
            queue.tried(&next, fates(&[250]), Blame::Nobody, "mx", NOW - HOUR);
            next.id
        });
        assert_eq!(others, [2, 3]);
    }

    #[test]
    fn a_destination_is_asked_again_after_its_pause() {
        let mut queue = queue(1);
        queue.add(arrival(1, NOW, &[0]));
        let first = queue.start(NOW).expect("due");
        let until_ms = queue.unreachable(&first, "refused", NOW);
        queue.disconnected(0);
        queue.set_back(HOUR, NOW - HOUR);
        assert!(queue.start(until_ms - HOUR - 1).is_none());
        assert!(queue.start(until_ms - HOUR).is_some());
    }

    #[test]
    fn what_was_under_way_and_comes_back_untried_keeps_its_place() {
        let mut queue = queue(1);
        queue.add(arrival(1, NOW, &[0]));
        let first = queue.start(NOW).expect("due");
        queue.set_back(HOUR, NOW - HOUR);
        let until_ms = queue.unreachable(&first, "refused", NOW - HOUR);
        queue.disconnected(0);
        assert_eq!(queue.start(until_ms).expect("due").id, 1);
    }

    #[test]
    fn what_its_sender_lets_wait_waits_for_that_time() {
        let mut queue = queue(1);
        queue.add(Arrival { release_ms: NOW + HOUR, ..arrival(1, NOW, &[0]) });
        queue.set_back(HOUR, NOW - HOUR);
        assert!(queue.start(NOW + HOUR - 1).is_none());
        assert!(queue.start(NOW + HOUR).is_some());
    }
}
