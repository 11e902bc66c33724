use super::*;
use crate::smtp::client::Fate;

mod late;

const SECOND: u64 = 1000;
/// When a message of [`queue`] that arrived at 0 is past its time.
pub const EXPIRY: u64 = 7200 * SECOND;

pub fn queue(destinations: usize) -> Queue<u32> {
    let mut queue = catching_up(destinations);
    queue.caught_up();
    queue
}

pub fn catching_up(destinations: usize) -> Queue<u32> {
    let settings = Settings {
        retry_first_ms: 60 * SECOND,
        retry_max_ms: 600 * SECOND,
        expire_ms: EXPIRY,
        connections_max: 2,
        warn_ms: None,
    };
    Queue::new(settings, 0..destinations, 4711)
}

pub fn arrival(id: u64, now: u64, destinations: &[Destination]) -> Arrival<u32> {
    let (survivor, sender, small) = (false, 1, true);
    Arrival { id, at: id as u32, release_ms: now, destinations: destinations.to_vec(), survivor, sender, small }
}

pub fn reply(code: u16) -> Reply {
    Reply { code, text: format!("reply {code}"), ours: false }
}

fn heard(code: u16) -> Reason {
    Reason { reply: reply(code), server: Some("mx".into()) }
}

pub fn fates(codes: &[u16]) -> Vec<Fate> {
    let fate = |&code: &u16| match code / 100 {
        2 => Fate::Delivered(reply(code)),
        5 => Fate::Failed(reply(code)),
        _ => Fate::Deferred(reply(code)),
    };
    codes.iter().map(fate).collect()
}

#[test]
fn a_message_is_delivered_recorded_and_forgotten() {
    let mut queue = queue(1);
    assert_eq!(queue.add(arrival(7, 0, &[0, 0])), Added { early: vec![], settled: false, superseded: None });
    let delivery = queue.start(0).expect("due at once");
    assert_eq!((delivery.id, &delivery.recipients[..]), (7, &[0, 1][..]));
    assert_eq!(queue.start(0), None, "in flight");
    let tried = queue.tried(&delivery, fates(&[250, 550]), Blame::Nobody, "mx", 5);
    assert_eq!(tried.delivered, [(0, reply(250))]);
    assert_eq!(tried.failed, [(1, reply(550))]);
    assert_eq!(queue.next(0, u64::MAX), None, "what is being recorded is not sent again");
    queue.disconnected(0);
    assert_eq!(queue.outcome(7, 0, 99), Applied::Open(7));
    assert_eq!(queue.outcome(7, 0, 99), Applied::Open(7), "twice is once");
    assert_eq!(queue.outcome(7, 1, 99), Applied::Settled(7));
    assert_eq!(queue.outcome(7, 1, 99), Applied::Unknown);
    assert_eq!(queue.counts(), (0, 0));
    assert_eq!(queue.wake_ms(), None);
}

#[test]
fn deferred_recipients_come_back_later_and_later_and_alone() {
    let mut queue = queue(1);
    queue.add(arrival(1, 0, &[0, 0]));
    let mut now = 0;
    let mut pauses = Vec::new();
    let mut delivery = queue.start(now).expect("due");
    let tried = queue.tried(&delivery, fates(&[250, 450]), Blame::Nobody, "mx", now);
    assert_eq!(tried.deferred, [(1, reply(450))]);
    queue.disconnected(0);
    for _ in 0..6 {
        let due = queue.wake_ms().expect("a retry");
        assert_eq!(queue.start(due - 1), None);
        pauses.push(due - now);
        now = due;
        delivery = queue.start(now).expect("due");
        assert_eq!(delivery.recipients, [1]);
        assert_eq!(queue.tried(&delivery, fates(&[450]), Blame::Nobody, "mx", now).retry_ms, queue.wake_ms());
        queue.disconnected(0);
    }
    for (pause, expected) in pauses.iter().zip([60, 120, 240, 480, 600, 600]) {
        let range = expected * SECOND * 3 / 4..=expected * SECOND * 5 / 4;
        assert!(range.contains(pause), "{pause} for {expected}: {pauses:?}");
    }
}

#[test]
fn an_unreachable_destination_is_asked_by_one_connection_and_costs_no_attempt() {
    let mut queue = queue(2);
    for id in 1..=4 {
        queue.add(arrival(id, id, &[0]));
    }
    queue.add(arrival(5, 5, &[1]));
    let first = queue.start(10).expect("one");
    let second = queue.start(10).expect("two");
    assert_eq!(queue.start(10).expect("the other destination").id, 5);
    assert_eq!(queue.start(10), None, "two connections at most");
    let again = queue.unreachable(&first, "refused", 10);
    queue.disconnected(0);
    assert_eq!(queue.unreachable(&second, "refused", 11), again, "they failed together");
    queue.disconnected(0);
    assert_eq!(queue.start(again - 1), None);
    let probe = queue.start(again).expect("a probe");
    assert_eq!(probe.id, 1, "the message kept its place");
    assert_eq!(queue.start(again), None, "one connection until it answers");
    let later = queue.unreachable(&probe, "refused", again);
    queue.disconnected(0);
    assert!(later - again > again - 10, "more rarely");
    let probe = queue.start(later).expect("a probe");
    queue.tried(&probe, fates(&[250]), Blame::Nobody, "mx", later);
    assert_eq!(queue.next(0, later).expect("the connection goes on").id, 2);
    assert_eq!(queue.start(later).expect("and gets company").id, 3);
}

#[test]
fn a_message_that_breaks_connections_does_not_stop_the_others() {
    let mut queue = queue(1);
    queue.add(arrival(1, 0, &[0]));
    queue.add(arrival(2, 1, &[0]));
    let poison = queue.start(5).expect("due");
    assert_eq!(poison.id, 1);
    queue.tried(&poison, fates(&[451]), Blame::Destination, "mx", 5);
    queue.disconnected(0);
    assert_eq!(queue.start(5).expect("the next").id, 2);
    let mut queue = self::queue(1);
    queue.add(arrival(1, 0, &[0; 1]));
    let mut now = 0;
    for _ in 0..3 {
        let delivery = queue.start(now).expect("due");
        queue.tried(&delivery, fates(&[451]), Blame::Destination, "mx", now);
        queue.disconnected(0);
        now = queue.wake_ms().expect("later");
    }
    queue.add(arrival(2, 0, &[0]));
    assert_eq!(queue.start(now - 1), None, "a destination that always breaks rests");
}

/// Three messages of one sender in a row, each of which makes the server cut the connection.
#[test]
fn messages_that_break_connections_do_not_stop_what_comes_after_them() {
    for (blame, is_up) in [(Blame::Content, true), (Blame::Destination, false)] {
        let mut queue = queue(1);
        for id in 1..=3 {
            queue.add(Arrival { sender: 7, ..arrival(id, 0, &[0]) });
            let poison = queue.start(5).expect("due");
            let tried = queue.tried(&poison, fates(&[451]), blame, "mx", 5);
            assert_eq!((poison.id, tried.retry_ms.is_some()), (id, true), "it counts as an attempt of the message");
            queue.disconnected(0);
        }
        queue.add(Arrival { sender: 8, ..arrival(4, 1, &[0]) });
        assert_eq!(queue.start(5).is_some_and(|other| other.id == 4), is_up, "{blame:?}");
    }
}

#[test]
fn a_destination_that_breaks_in_the_content_of_several_senders_rests() {
    let mut queue = queue(1);
    for id in 1..=3 {
        queue.add(Arrival { sender: id as u32, ..arrival(id, 0, &[0]) });
        let delivery = queue.start(5).expect("due");
        queue.tried(&delivery, fates(&[451]), Blame::Content, "mx", 5);
        queue.disconnected(0);
    }
    queue.add(arrival(4, 1, &[0]));
    assert_eq!(queue.start(5), None);
}

#[test]
fn the_longest_due_goes_first_across_retries_and_destinations() {
    let mut queue = queue(2);
    queue.add(arrival(1, 100, &[0]));
    queue.add(arrival(2, 50, &[1]));
    queue.add(arrival(3, 70, &[0]));
    let order: Vec<u64> = std::iter::from_fn(|| queue.start(200)).map(|delivery| delivery.id).collect();
    assert_eq!(order, [2, 3, 1]);
}

#[test]
fn large_messages_are_cut_into_transactions_and_routes() {
    let mut queue = queue(2);
    let destinations: Vec<Destination> = (0..250).map(|index| index % 2).collect();
    queue.add(arrival(1, 0, &destinations));
    let mut seen = Vec::new();
    while let Some(delivery) = queue.start(0) {
        assert!(delivery.recipients.len() <= RECIPIENTS_PER_JOB);
        assert!(delivery.recipients.iter().all(|index| *index as usize % 2 == delivery.destination));
        seen.extend(delivery.recipients);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..250).collect::<Vec<u32>>());
}

#[test]
fn outcomes_before_their_message_count_during_the_catch_up_only() {
    let mut queue = Queue::new(queue(1).settings, 0..1, 1);
    assert_eq!(queue.outcome(1, 0, 90), Applied::Unknown);
    assert_eq!(queue.outcome(1, 1, 91), Applied::Unknown);
    assert_eq!(queue.outcome(2, 0, 92), Applied::Unknown);
    assert_eq!(queue.outcome(3, 0, 93), Applied::Unknown);
    assert_eq!(queue.add(arrival(1, 0, &[0, 0])), Added { early: vec![90, 91], settled: true, superseded: None });
    assert_eq!(queue.add(arrival(2, 0, &[0, 0])), Added { early: vec![92], settled: false, superseded: None });
    queue.caught_up();
    assert_eq!(queue.add(arrival(3, 0, &[0])), Added { early: vec![], settled: false, superseded: None });
    assert_eq!(queue.start(0).expect("due").recipients, [1]);
    assert_eq!(queue.start(0).expect("due").id, 3);
    assert_eq!(queue.outcome(4, 0, 94), Applied::Unknown);
}

#[test]
fn a_held_release_is_the_due_time_and_expiry_counts_from_it() {
    let mut queue = queue(1);
    queue.add(arrival(1, 500, &[0]));
    assert_eq!(queue.start(499), None);
    assert_eq!(queue.wake_ms(), Some(500));
    let delivery = queue.start(499 + EXPIRY).expect("due");
    queue.tried(&delivery, fates(&[451]), Blame::Nobody, "mx", 499 + EXPIRY);
    assert_eq!(queue.overdue(499 + EXPIRY), None);
    assert!(queue.overdue(500 + EXPIRY).is_some());
}

#[test]
fn a_message_of_several_transactions_has_more_to_come() {
    let mut queue = queue(2);
    queue.add(arrival(1, 0, &[0, 1]));
    let first = queue.start(0).expect("due");
    queue.tried(&first, fates(&[550]), Blame::Nobody, "mx", 0);
    assert!(queue.has_more(1, 0), "the other is due");
    let second = queue.start(0).expect("due");
    assert!(queue.has_more(1, 0), "under way");
    queue.tried(&second, fates(&[450]), Blame::Nobody, "mx", 0);
    assert!(!queue.has_more(1, u64::MAX) && !queue.has_more(2, 0), "its retry is not waited for");
}

/// Random histories against a set of what was recorded: nothing is lost, nothing recorded is sent again, and a message
/// is settled exactly once.
#[test]
fn random_histories_lose_nothing_and_repeat_nothing() {
    for seed in 1..200u64 {
        let mut queue = Queue::new(queue(3).settings, 0..3, seed);
        queue.caught_up();
        let mut random = seed;
        let mut roll = |sides: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) % sides
        };
        let mut now = 0;
        let mut recorded = std::collections::HashSet::new();
        let mut log: Vec<(u64, u32)> = Vec::new();
        let mut settled = 0;
        for id in 0..20 {
            let destinations: Vec<usize> = (0..=roll(4)).map(|_| roll(3) as usize).collect();
            queue.add(arrival(id, now, &destinations));
        }
        for _ in 0..5000 {
            now += roll(20) * SECOND;
            if let Some(delivery) = queue.start(now) {
                for &recipient in &delivery.recipients {
                    assert!(!recorded.contains(&(delivery.id, recipient)), "sent again, seed {seed}");
                }
                if roll(5) == 0 {
                    queue.unreachable(&delivery, "down", now);
                } else {
                    let codes: Vec<u16> =
                        delivery.recipients.iter().map(|_| [250, 450, 550][roll(3) as usize]).collect();
                    let blame =
                        [Blame::Destination, Blame::Content, Blame::Ours, Blame::Nobody][roll(7).min(3) as usize];
                    let tried = queue.tried(&delivery, fates(&codes), blame, "mx", now);
                    let fated = tried.delivered.iter().chain(&tried.failed).map(|(index, _)| (delivery.id, *index));
                    recorded.extend(fated.clone());
                    log.extend(fated);
                }
                queue.disconnected(delivery.destination);
            }
            if let Some(expired) = queue.overdue(now) {
                let fated = expired.recipients.iter().map(|(index, _)| (expired.id, *index));
                recorded.extend(fated.clone());
                log.extend(fated);
            }
            if roll(2) == 0 && !log.is_empty() {
                let (id, recipient) = log.remove(roll(log.len() as u64) as usize);
                settled += u32::from(matches!(queue.outcome(id, recipient, 0), Applied::Settled(_)));
            }
        }
        for (id, recipient) in log.drain(..) {
            settled += u32::from(matches!(queue.outcome(id, recipient, 0), Applied::Settled(_)));
        }
        assert_eq!((settled, queue.counts(), queue.wake_ms()), (20, (0, 0), None), "seed {seed}");
    }
}

#[test]
fn our_own_trouble_says_nothing_of_the_destination() {
    let mut queue = queue(1);
    for id in 1..=3 {
        queue.add(arrival(id, 0, &[0]));
    }
    let (first, second) = (queue.start(0).expect("one"), queue.start(0).expect("two"));
    let again = queue.unreachable(&first, "refused", 0);
    queue.disconnected(0);
    assert_eq!(queue.tried(&second, fates(&[451]), Blame::Ours, "mx", 1).deferred, [(0, reply(451))]);
    queue.disconnected(0);
    assert_eq!(queue.start(again - 1), None, "it is as unreachable as before");
    let probe = queue.start(again).expect("a probe");
    assert_eq!(queue.start(again), None, "one connection until it answers");
    queue.tried(&probe, fates(&[250]), Blame::Nobody, "mx", again);
    let mut now = again;
    for _ in 0..3 {
        let delivery = queue.next(0, EXPIRY - 1).expect("due some time");
        now += 1;
        queue.tried(&delivery, fates(&[451]), Blame::Ours, "mx", now);
    }
    assert!(queue.start(EXPIRY - 1).is_some() && queue.sites[0].failures == 0, "and as reachable");
}

// covers: 12.7
#[test]
fn attempts_are_kept_whenever_they_double() {
    let mut queue = queue(1);
    queue.add(arrival(1, 0, &[0]));
    let mut kept = Vec::new();
    for attempt in 1..=9 {
        let now = queue.wake_ms().expect("a try");
        let delivery = queue.start(now).expect("due");
        let tried = queue.tried(&delivery, fates(&[450]), Blame::Nobody, "mx", now);
        queue.disconnected(0);
        let expected = queue.wake_ms().map(|next_ms| Deferral { recipient: 0, attempts: attempt, next_ms });
        kept.extend(tried.keep);
        assert!(tried.keep.is_none() || tried.keep == expected, "{tried:?}");
    }
    assert_eq!(kept.iter().map(|kept| kept.attempts).collect::<Vec<_>>(), [2, 4, 8]);
    // Of one whose time is over before, nothing is kept: it is not tried again.
    let mut queue = self::queue(1);
    queue.add(arrival(1, 0, &[0]));
    let first = queue.start(0).expect("due");
    queue.tried(&first, fates(&[450]), Blame::Nobody, "mx", 0);
    let last = queue.next(0, EXPIRY - 1).expect("due");
    assert_eq!(queue.tried(&last, fates(&[450]), Blame::Nobody, "mx", EXPIRY - 1).keep, None);
}

#[test]
fn when_the_recipient_who_stands_for_others_is_done_another_is_named() {
    let mut queue = queue(1);
    queue.add(arrival(1, 0, &[0, 0, 0]));
    let mut named = Vec::new();
    for codes in [&[450, 450, 450][..], &[450, 250, 450], &[250, 450], &[450]] {
        let now = queue.wake_ms().expect("a try");
        let delivery = queue.start(now).expect("due");
        named.extend(queue.tried(&delivery, fates(codes), Blame::Nobody, "mx", now).keep);
        queue.disconnected(0);
    }
    let named: Vec<_> = named.iter().map(|kept| (kept.recipient, kept.attempts)).collect();
    assert_eq!(named, [(0, 2), (2, 3), (2, 4)]);
}

// covers: 12.7
#[test]
fn after_a_restart_a_message_waits_on_and_does_not_begin_again_with_short_pauses() {
    let account = |attempts, next_ms| Deferral { recipient: 1, attempts, next_ms };
    for message_first in [true, false] {
        let mut queue = catching_up(2);
        let at = |queue: &mut Queue<u32>| queue.add(arrival(7, 0, &[0, 1, 1]));
        if message_first {
            at(&mut queue);
        }
        for (attempts, next_ms) in [(2, 10 * SECOND), (4, 100 * SECOND), (2, 10 * SECOND)] {
            let expected = if message_first { Applied::Open(7) } else { Applied::Unknown };
            assert_eq!(queue.deferred(7, account(attempts, next_ms), 90), expected);
        }
        if !message_first {
            assert_eq!(at(&mut queue).early, [90, 90, 90], "they are kept as long as the message");
        }
        queue.caught_up();
        // What is said of it from now on comes from here.
        assert_eq!(queue.deferred(7, account(9, 5000 * SECOND), 91), Applied::Open(7));
        assert_eq!(queue.start(0).expect("the other destination").recipients, [0]);
        assert_eq!((queue.start(100 * SECOND - 1), queue.wake_ms()), (None, Some(100 * SECOND)));
        let delivery = queue.start(100 * SECOND).expect("due");
        assert_eq!(delivery.recipients, [1, 2]);
        let retry_ms = queue.tried(&delivery, fates(&[450, 450]), Blame::Nobody, "mx", 100 * SECOND).retry_ms;
        let pause = retry_ms.expect("a retry") - 100 * SECOND;
        assert!(pause >= 450 * SECOND, "the fifth pause is the longest there is: {pause}");
    }
}

/// Three destinations at one server, as messages ask for other TLS, and one elsewhere.
#[test]
fn a_server_has_its_limit_whatever_leads_there() {
    let mut queue = Queue::new(queue(1).settings, [0, 0, 0, 1], 1);
    queue.caught_up();
    for (id, destination) in [(1, 0), (2, 0), (3, 0), (4, 1), (5, 2), (6, 3)] {
        queue.add(arrival(id, id, &[destination]));
    }
    let begun: Vec<u64> = std::iter::from_fn(|| queue.start(10)).map(|delivery| delivery.id).collect();
    assert_eq!(begun, [1, 2, 6], "two there, and the other server");
    assert!(queue.wake_ms().is_some_and(|wake_ms| wake_ms > 10), "nothing to do until one is free");
    assert_eq!(queue.next(0, 10).expect("the oldest").id, 3);
    queue.add(arrival(7, 7, &[0]));
    assert_eq!(queue.next(0, 10), None, "others have waited longer and have no connection");
    queue.disconnected(0);
    assert_eq!(queue.start(10).expect("theirs").id, 4);
    assert_eq!((queue.start(10), queue.next(1, 10)), (None, None));
    queue.disconnected(1);
    assert_eq!(queue.start(10).expect("the last").id, 5);
    queue.disconnected(2);
    assert_eq!(queue.start(10).expect("back").id, 7);
}

/// The limit is reached, and yet one that cannot be reached takes no connection from those that can.
#[test]
fn a_destination_that_is_down_makes_nobody_at_its_server_yield() {
    let mut queue = Queue::new(queue(1).settings, [0, 0], 1);
    queue.caught_up();
    for (id, destination) in [(1, 1), (2, 0), (3, 0), (4, 0)] {
        queue.add(arrival(id, id, &[destination]));
    }
    let first = queue.start(10).expect("the oldest");
    queue.unreachable(&first, "refused", 10);
    queue.disconnected(1);
    assert_eq!([queue.start(10), queue.start(10)].map(|delivery| delivery.expect("one").id), [2, 3]);
    assert_eq!(queue.next(0, 10).expect("it goes on").id, 4);
}

/// A server's limit moves with what it takes, up to the most that it may ever have.
#[test]
fn a_limit_that_moves_stays_below_one_that_stands() {
    let mut queue = Queue::new(queue(1).settings, [0, 1], 1);
    queue.caught_up();
    queue.limit(1, 1);
    for id in 1..=9 {
        queue.add(arrival(id, id, &[usize::from(id > 5)]));
    }
    let open = |queue: &mut Queue<u32>| -> Vec<Destination> {
        std::iter::from_fn(|| queue.start(10)).map(|delivery| delivery.destination).collect()
    };
    assert_eq!(open(&mut queue), [0, 0, 1]);
    (0..2).for_each(|server| queue.set_limit(server, 4));
    assert_eq!(open(&mut queue), [0, 0], "what is one's own to limit stays so");
    queue.set_limit(0, 1);
    queue.disconnected(0);
    assert!(open(&mut queue).is_empty(), "what is open beyond the limit stays, and nothing is added");
}
