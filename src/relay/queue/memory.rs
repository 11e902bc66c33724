//! How much memory messages take, as they do by the million: `benches/queue.rs` prints the same for that many.

use super::heard::Heard;
use super::tests::{arrival, fates};
use super::*;
use crate::smtp::client::Fate;
use crate::spool::Location;

/// Tables are as full with so many as with a million.
const MESSAGES: u64 = 120_000;

/// The memory that a message for one recipient takes, in octets.
fn measured(what: &str, sender: impl Fn(u64) -> u32, now: u64) -> u64 {
    let mut queue = None;
    let counted = allocation_counter::measure(|| {
        let mut filled = Queue::<[u32; 4]>::new(super::tests::queue(1).settings, [0], 1);
        for id in 0..MESSAGES {
            let Arrival { release_ms, destinations, survivor, small, .. } = arrival(id, id, &[0]);
            let at = [0, 1, 2, id as u32];
            filled.add(Arrival { id: 1 << 44 | id, at, release_ms, destinations, survivor, small, sender: sender(id) });
        }
        filled.caught_up();
        // All of them wait for their turn, if it is time.
        for _ in 0..MESSAGES / 1000 {
            let Some(delivery) = filled.start(now) else { break };
            filled.unreachable(&delivery, "down", 0);
            filled.disconnected(0);
            filled.sites[0].answered();
        }
        queue = Some(filled);
    });
    let octets = counted.bytes_current as u64 / MESSAGES;
    println!("{what}: {octets} octets for each of {MESSAGES} messages, {} at the most", counted.bytes_max / MESSAGES);
    assert_eq!(queue.map(|queue| queue.counts().0), Some(MESSAGES as usize));
    octets
}

#[test]
fn a_message_for_one_recipient_takes_less_than_200_octets() {
    assert_eq!(size_of::<Location>(), size_of::<[u32; 4]>());
    assert!(measured("not due", |_| 7, 0) < 160);
    assert!(measured("due, 10,000 senders", |id| id as u32 % 10_000, MESSAGES) < 160);
    assert!(measured("due, each of another sender", |id| id as u32, MESSAGES) < 200);
}

/// A server may say much, and to each message something else.
#[test]
fn of_a_reason_no_more_is_kept_than_anybody_reads() {
    let mut queue = super::tests::queue(1);
    queue.add(arrival(7, 0, &[0]));
    let delivery = queue.start(0).expect("due");
    let long = Reply { code: 450, text: "4.2.1 ".to_owned() + &"ü".repeat(4000), ours: false };
    let tried = queue.tried(&delivery, vec![Fate::Deferred(long.clone())], Blame::Nobody, "mx", 0);
    assert_eq!(tried.deferred, [(0, long)], "the log has it");
    let kept = queue.standing(7).expect("there").parts.remove(0).reason.expect("a reason").reply.text;
    assert!(kept.starts_with("4.2.1 ü") && kept.len() <= 512 && kept.capacity() <= 512, "{}", kept.len());
}

/// What servers say of many messages alike is kept once.
#[test]
fn the_reason_for_which_messages_wait_is_shared() {
    let mut queue = super::tests::queue(1);
    (0..100).for_each(|id| drop(queue.add(arrival(id, 0, &[0]))));
    while let Some(delivery) = queue.next(0, 0) {
        queue.tried(&delivery, fates(&[450]), Blame::Nobody, "mx", 0);
    }
    let reasons: HashSet<_> =
        queue.jobs.range(0).filter_map(|(_, job)| Some(job.heard.as_deref()? as *const Heard)).collect();
    assert_eq!((reasons.len(), queue.jobs.len()), (1, 100));
}
