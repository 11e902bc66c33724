//! Who is late or past its time is to be told of: no more of them at once than notifications are written.
//!
//! After a standstill a million messages may be late in one moment. Each that is handed on here costs memory until it is
//! recorded, and a look at all others that wait for that; in the queue it costs nothing.

use crate::relay::notification::{Action, Verdict};
use crate::relay::queue::{Overdue, Queue, Reason};
use crate::relay::records::{Records, Told};

/// Hands on as many as may wait to be recorded. The others come when some of these are durable.
pub(super) fn look<L: Copy + PartialEq>(queue: &mut Queue<L>, records: &mut Records<L>, now: u64) {
    while records.may_tell() {
        let Some(Overdue { id, at, given_up, recipients }) = queue.overdue(now) else { return };
        let action = if given_up { Action::Expired } else { Action::Delayed };
        let verdict = |(recipient, Reason { reply, server })| {
            let remote = server.map(String::from);
            Verdict { recipient, action, reply, remote }
        };
        records.told(Told { id, at, verdicts: recipients.into_iter().map(verdict).collect() }, false, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::queue::{Arrival, Settings};
    use crate::relay::records::Matter;

    const MESSAGES: u64 = 1000;

    #[test]
    fn of_many_that_are_late_at_once_each_is_told_of_and_few_at_a_time() {
        let settings = Settings { retry_first_ms: 1, retry_max_ms: 1, expire_ms: 9, warn_ms: None, connections_max: 1 };
        let (mut queue, mut records) = (Queue::<u64>::new(settings, [0], 1), Records::default());
        for id in 0..MESSAGES {
            let (at, destinations) = (id, vec![0]);
            queue.add(Arrival { id, at, release_ms: 0, destinations, survivor: false, sender: 0, small: true });
        }
        queue.caught_up();
        // Nobody can be reached, so that none of them waits for its own try.
        for now in [10, 20, 30] {
            assert!(queue.overdue(now).is_none());
            let delivery = queue.start(now).expect("a probe");
            queue.unreachable(&delivery, "no route to host", now);
            queue.disconnected(0);
        }
        let (mut told, mut turns) = (0, 0);
        loop {
            look(&mut queue, &mut records, 100);
            let under_way: Vec<_> = std::iter::from_fn(|| records.next(100)).collect();
            let under_way_count = under_way.len() as u64;
            for matter in under_way {
                let Matter::Told(Told { verdicts, .. }) = &matter else { panic!("nothing was delivered") };
                told += verdicts.len() as u64;
                records.ended(matter, true, 100);
            }
            turns += 1;
            if under_way_count == 0 {
                break;
            }
            let waiting = MESSAGES - told - queue_left(&queue);
            assert!(waiting < 100, "{waiting} wait to be recorded");
        }
        assert!(told == MESSAGES && turns > 1, "{told} in {turns}");
    }

    /// Messages of which nothing has been said: they still stand at their destination.
    fn queue_left(queue: &Queue<u64>) -> u64 {
        queue.waiting(0) as u64
    }
}
