//! Messages that are late, and those whose time is over.

use super::super::late::LOOK_AGAIN_MS;
use super::*;

#[test]
fn a_message_past_its_time_fails_with_its_last_reason() {
    let mut queue = queue(1);
    queue.add(arrival(1, 0, &[0]));
    let delivery = queue.start(0).expect("due");
    assert_eq!(queue.overdue(EXPIRY), None, "in flight");
    assert_eq!(queue.tried(&delivery, fates(&[451]), Blame::Nobody, "mx", EXPIRY + 5).retry_ms, None);
    assert_eq!(queue.next(0, EXPIRY + 5), None, "its time is over");
    queue.disconnected(0);
    let expired = queue.overdue(EXPIRY + 5).expect("at once, with the answer just heard");
    assert_eq!(expired, Overdue { id: 1, at: 1, given_up: true, recipients: vec![(0, heard(451))] });
    assert_eq!(queue.start(u64::MAX), None);
    assert_eq!(queue.overdue(u64::MAX / 2), None, "once");
    assert_eq!(queue.outcome(1, 0, 9), Applied::Settled(1));
    assert_eq!(queue.wake_ms(), None);
}

/// A report says of each recipient what the server has said of it (RFC 3464 section 2.3.6), and the operator sees that too.
#[test]
fn each_recipient_has_the_answer_that_was_given_for_it() {
    let late_ms = 3600 * SECOND;
    let mut queue = wary(late_ms);
    queue.add(arrival(1, 0, &[0, 0, 0, 0]));
    let delivery = queue.start(0).expect("due");
    queue.tried(&delivery, fates(&[451, 452, 250, 451]), Blame::Nobody, "mx", 10);
    let expected = vec![(0, heard(451)), (3, heard(451)), (1, heard(452))];
    assert_eq!(queue.overdue(late_ms).expect("late").recipients, expected);
    let parts = queue.standing(1).expect("there").parts;
    let told: Vec<_> = parts.into_iter().map(|part| (part.recipients, part.reason)).collect();
    assert_eq!(told, [(vec![0, 3], Some(heard(451))), (vec![1], Some(heard(452)))]);
    let delivery = queue.start(EXPIRY - 1).expect("due");
    queue.tried(&delivery, fates(&[452, 451, 452]), Blame::Nobody, "mx", EXPIRY - 1);
    let expected = vec![(0, heard(452)), (3, heard(452)), (1, heard(451))];
    assert_eq!(queue.overdue(EXPIRY).expect("its time is over").recipients, expected);
}

// covers: 12.7
/// RFC 5321 section 4.5.4.1: days on which nobody tried are no days of trying. As after a pause, or an outage of ours, of which
/// the second is read at a start, with a next try that lies ahead.
#[test]
fn what_was_not_tried_is_tried_once_when_its_time_is_over_and_then_given_up() {
    for restarted in [false, true] {
        let mut queue = catching_up(2);
        queue.add(arrival(1, 0, &[0, 1]));
        if restarted {
            let deferral = Deferral { recipient: 0, attempts: 4, next_ms: EXPIRY + 500 * SECOND };
            queue.deferred(1, deferral, 5);
        }
        queue.add(arrival(2, 10 * SECOND, &[0]));
        queue.caught_up();
        let now = EXPIRY;
        let begun = |queue: &mut Queue<u32>| std::iter::from_fn(|| queue.start(now)).collect::<Vec<_>>();
        assert!(begun(&mut queue).iter().all(|delivery| delivery.id == 2), "nobody has looked at it yet");
        assert_eq!(queue.overdue(now), None, "it is owed a try");
        let mut flights = begun(&mut queue);
        flights.retain(|delivery| delivery.id == 1);
        assert_eq!(flights.len(), 2, "{restarted}");
        let tried = queue.tried(&flights[0], fates(&[451]), Blame::Nobody, "mx", now);
        assert_eq!((tried.deferred.len(), tried.retry_ms), (1, None));
        let expired = queue.overdue(now).expect("it had its try");
        assert_eq!((expired.id, expired.given_up, expired.recipients.len()), (1, true, 1));
        assert_eq!(expired.recipients[0].1, heard(451));
        let tried = queue.tried(&flights[1], fates(&[250]), Blame::Nobody, "mx", now);
        assert_eq!(tried.delivered.len(), 1, "and some arrive after all");
        assert_eq!(queue.overdue(now), None);
    }
}

/// It was suspended with its machine: the next try was due long ago.
#[test]
fn after_a_standstill_a_try_that_was_due_comes_before_the_end() {
    let mut queue = queue(1);
    queue.add(arrival(1, 0, &[0]));
    let delivery = queue.start(0).expect("due");
    queue.tried(&delivery, fates(&[451]), Blame::Nobody, "mx", 0);
    queue.disconnected(0);
    assert_eq!(queue.overdue(EXPIRY * 9), None);
    let delivery = queue.start(EXPIRY * 9).expect("the last try");
    queue.tried(&delivery, fates(&[452]), Blame::Nobody, "mx", EXPIRY * 9);
    assert_eq!(queue.overdue(EXPIRY * 9).expect("given up").recipients, [(0, heard(452))]);
}

/// A million messages for a server that is gone are not tried one by one; but one failure, as before a network is up after
/// a start, is not the end of all.
#[test]
fn where_nobody_can_be_reached_a_message_past_its_time_is_given_up_untried() {
    let mut queue = queue(1);
    (1..=4).for_each(|id| drop(queue.add(arrival(id, 0, &[0]))));
    let mut now = EXPIRY;
    for failures in 1..=3 {
        assert_eq!(queue.overdue(now), None, "{failures}");
        let delivery = queue.start(now).expect("a probe");
        let until_ms = queue.unreachable(&delivery, "no route to host", now);
        queue.disconnected(0);
        now = if failures < 3 { until_ms } else { now };
    }
    // Those that had not their own try are looked at within a while.
    now += 75 * SECOND;
    let given_up: Vec<Overdue<u32>> = std::iter::from_fn(|| queue.overdue(now)).collect();
    assert_eq!(given_up.len(), 4);
    for one in given_up {
        assert_eq!(one.recipients[0].1.reply.text, "4.4.1 no route to host");
    }
}

#[test]
fn what_breaks_every_connection_is_said_of_those_that_were_not_tried() {
    let mut queue = queue(1);
    (1..=4).for_each(|id| drop(queue.add(arrival(id, 0, &[0]))));
    for _ in 0..3 {
        let delivery = queue.start(EXPIRY - 1).expect("due");
        queue.tried(&delivery, fates(&[451]), Blame::Destination, "mx", EXPIRY - 1);
        queue.disconnected(0);
    }
    let given_up: Vec<Overdue<u32>> = std::iter::from_fn(|| queue.overdue(EXPIRY)).collect();
    let texts: Vec<&str> = given_up.iter().map(|one| &one.recipients[0].1.reply.text[..]).collect();
    assert_eq!(texts.len(), 4);
    assert!(texts.contains(&"4.4.2 its server breaks every connection off"), "{texts:?}");
}

#[test]
fn a_million_past_their_time_are_looked_at_some_at_a_time() {
    let mut queue = queue(1);
    (0..3000).for_each(|id| drop(queue.add(arrival(id, 0, &[0]))));
    let turns = std::iter::repeat_with(|| queue.overdue(EXPIRY)).take(3).filter(Option::is_none).count();
    assert_eq!((turns, queue.messages.least(queue.looks) > Some(EXPIRY)), (3, true));
    let mut queue = self::queue(1);
    (0..3000).for_each(|id| drop(queue.add(arrival(id, 0, &[0]))));
    queue.overdue(EXPIRY);
    assert_eq!(queue.wake_ms(), Some(0), "there are more to look at");
    assert!(queue.messages.least(queue.looks) <= Some(EXPIRY));
}

#[test]
fn a_reason_of_our_own_is_no_servers() {
    let mut queue = queue(1);
    queue.add(arrival(1, 0, &[0]));
    let delivery = queue.start(0).expect("due");
    let lost = Reply::ours(451, "4.4.2 the server closed the connection".into());
    queue.tried(&delivery, vec![Fate::Deferred(lost.clone())], Blame::Destination, "mx", EXPIRY - 1);
    let expired = queue.overdue(EXPIRY).expect("expired");
    assert_eq!(expired.recipients, [(0, Reason { reply: lost, server: None })]);
}

/// Three transactions of one message; the time ends while one of them is under way.
#[test]
fn recipients_expire_when_their_own_transaction_has_ended() {
    for unreachable in [false, true] {
        let mut queue = queue(3);
        queue.add(arrival(1, 0, &[0, 1, 2]));
        let flights: Vec<_> = std::iter::from_fn(|| queue.start(0)).collect();
        queue.tried(&flights[0], fates(&[450]), Blame::Nobody, "mx", EXPIRY - 1);
        queue.tried(&flights[1], fates(&[250]), Blame::Nobody, "mx", EXPIRY - 1);
        let expired = queue.overdue(EXPIRY).expect("what is not under way");
        assert_eq!(expired.recipients, [(0, heard(450))]);
        let mut now = EXPIRY + 7;
        let reason = if unreachable {
            let mut until_ms = queue.unreachable(&flights[2], "refused", now);
            for _ in 0..2 {
                now = until_ms;
                queue.disconnected(2);
                assert_eq!(queue.overdue(now), None, "it may be a moment's trouble");
                let again = queue.start(now).expect("once more");
                until_ms = queue.unreachable(&again, "refused", now);
            }
            Reason { reply: Reply::ours(451, "4.4.1 refused".into()), server: None }
        } else {
            queue.tried(&flights[2], fates(&[452]), Blame::Nobody, "mx", now);
            heard(452)
        };
        (0..3).for_each(|destination| queue.disconnected(destination));
        assert_eq!(queue.wake_ms().map(|until| until <= now), Some(true), "at once");
        assert_eq!(queue.overdue(now).expect("the last").recipients, [(2, reason)]);
        assert_eq!((queue.start(u64::MAX), queue.overdue(u64::MAX / 2)), (None, None));
        for recipient in [0, 1] {
            assert_eq!(queue.outcome(1, recipient, 9), Applied::Open(1));
        }
        assert_eq!(queue.outcome(1, 2, 9), Applied::Settled(1));
    }
}

/// Answers of any kind after any time, clocks that jump ahead: of one recipient no two attempts are closer than the
/// shortest pause, none begins after the message's time unless that was looked at, and every message ends.
#[test]
fn attempts_keep_their_distance_and_end_in_time() {
    for seed in 1..300u64 {
        let mut queue = Queue::new(queue(2).settings, 0..2, seed);
        queue.caught_up();
        let mut random = seed;
        let mut roll = |sides: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) % sides
        };
        for id in 0..5 {
            queue.add(arrival(id, id, &[0, 1, 0]));
        }
        let mut ended = std::collections::HashMap::new();
        let mut flying: Vec<Delivery<u32>> = Vec::new();
        let mut given_up = 0;
        let (mut now, mut looked_ms) = (0, 0);
        // As the worker does it: what is overdue first, then what is due; and between the two, open connections go on.
        while now < EXPIRY + 600 * SECOND {
            now += [1, SECOND, 50 * SECOND, 500 * SECOND][roll(4) as usize];
            if roll(3) == 0 {
                looked_ms = now;
                while let Some(overdue) = queue.overdue(now) {
                    given_up += overdue.recipients.len();
                    overdue.recipients.iter().for_each(|(index, _)| {
                        queue.outcome(overdue.id, *index, 0);
                    });
                }
            }
            while let Some(delivery) = queue.start(now) {
                let end_ms = delivery.id + EXPIRY;
                assert!(now < end_ms || looked_ms >= end_ms, "begun after its time, seed {seed}");
                for &recipient in &delivery.recipients {
                    let last = ended.get(&(delivery.id, recipient)).copied();
                    let pause = now - last.unwrap_or(0);
                    assert!(last.is_none() || pause >= 45 * SECOND, "{pause} ms after the last, seed {seed}");
                }
                flying.push(delivery);
            }
            while !flying.is_empty() && roll(2) == 0 {
                let delivery = flying.swap_remove(roll(flying.len() as u64) as usize);
                if roll(4) == 0 {
                    queue.unreachable(&delivery, "down", now);
                } else {
                    let codes = vec![450; delivery.recipients.len()];
                    queue.tried(&delivery, fates(&codes), Blame::Nobody, "mx", now);
                    ended.extend(delivery.recipients.iter().map(|&index| ((delivery.id, index), now)));
                }
                queue.disconnected(delivery.destination);
            }
        }
        for _ in 0..20 {
            for delivery in std::mem::take(&mut flying) {
                let codes = vec![450; delivery.recipients.len()];
                queue.tried(&delivery, fates(&codes), Blame::Nobody, "mx", now);
                queue.disconnected(delivery.destination);
            }
            let overdue = std::iter::from_fn(|| queue.overdue(now));
            given_up += overdue.map(|overdue| overdue.recipients.len()).sum::<usize>();
            flying.extend(std::iter::from_fn(|| queue.start(now)));
            now += 600 * SECOND;
        }
        assert_eq!(given_up, 15, "seed {seed}");
    }
}

#[test]
fn a_pause_that_lasts_beyond_the_end_is_the_last() {
    let mut queue = queue(1);
    queue.add(arrival(1, 0, &[0]));
    let delivery = queue.start(7190 * SECOND).expect("due");
    assert_eq!(queue.tried(&delivery, fates(&[451]), Blame::Nobody, "mx", 7190 * SECOND).retry_ms, None);
    queue.disconnected(0);
    assert_eq!((queue.start(EXPIRY - 1), queue.overdue(EXPIRY - 1)), (None, None));
    assert!(queue.overdue(EXPIRY).is_some());
}

fn wary(warn_ms: u64) -> Queue<u32> {
    let settings = Settings { warn_ms: Some(warn_ms), ..queue(1).settings };
    Queue::new(settings, 0..1, 4711)
}

// covers: 12.7
#[test]
fn a_sender_is_told_once_that_a_message_is_late() {
    let mut queue = wary(100 * SECOND);
    queue.caught_up();
    queue.add(arrival(1, 5, &[0, 0]));
    let delivery = queue.start(5).expect("due");
    queue.tried(&delivery, fates(&[250, 451]), Blame::Nobody, "mx", 5);
    queue.disconnected(0);
    assert_eq!(queue.overdue(100 * SECOND), None);
    let late = queue.overdue(5 + 100 * SECOND).expect("late");
    assert_eq!(late, Overdue { id: 1, at: 1, given_up: false, recipients: vec![(1, heard(451))] });
    for now in [101, 200, 7000] {
        assert_eq!(queue.overdue(now * SECOND), None, "once");
    }
    assert!(queue.start(7000 * SECOND).is_some(), "still tried");
    assert_eq!(queue.outcome(1, 0, 9), Applied::Open(1));
}

// covers: 12.7
#[test]
fn a_warning_that_was_read_is_not_repeated_and_settles_nothing() {
    for early in [true, false] {
        let mut queue = wary(100 * SECOND);
        if early {
            assert_eq!(queue.warned(1, 77), Applied::Unknown);
            assert_eq!(queue.add(arrival(1, 0, &[0])), Added { early: vec![77], settled: false, superseded: None });
        } else {
            queue.add(arrival(1, 0, &[0]));
            assert_eq!(queue.warned(1, 77), Applied::Open(1));
        }
        queue.caught_up();
        assert_eq!(queue.warned(2, 78), Applied::Unknown);
        let delivery = queue.start(7199 * SECOND).expect("due");
        queue.tried(&delivery, fates(&[451]), Blame::Nobody, "mx", 7199 * SECOND);
        queue.disconnected(0);
        assert_eq!(queue.overdue(7199 * SECOND), None);
        assert!(queue.overdue(7200 * SECOND).is_some_and(|overdue| overdue.given_up));
    }
}

#[test]
fn what_nobody_has_tried_yet_is_not_said_to_be_late() {
    let mut queue = wary(100 * SECOND);
    queue.caught_up();
    queue.add(arrival(1, 0, &[0]));
    // As after a standstill of a day: it is due, and late at the same moment.
    assert_eq!(queue.overdue(3600 * SECOND), None);
    let delivery = queue.start(3600 * SECOND).expect("due");
    queue.unreachable(&delivery, "refused", 3600 * SECOND);
    queue.disconnected(0);
    let late = queue.overdue(3600 * SECOND + LOOK_AGAIN_MS).expect("late");
    assert!(!late.given_up && late.recipients[0].1.reply.text.contains("refused"), "{late:?}");
}

// covers: 3.6
#[test]
fn a_held_message_is_late_and_expires_from_its_release_on() {
    let mut queue = wary(100 * SECOND);
    queue.caught_up();
    queue.add(arrival(1, 1000 * SECOND, &[0]));
    assert_eq!((queue.start(999 * SECOND), queue.wake_ms()), (None, Some(1000 * SECOND)));
    let delivery = queue.start(1000 * SECOND).expect("released");
    queue.tried(&delivery, fates(&[451]), Blame::Nobody, "mx", 1000 * SECOND);
    assert_eq!(queue.overdue(1099 * SECOND), None);
    assert!(queue.overdue(1100 * SECOND).is_some_and(|overdue| !overdue.given_up));
    let delivery = queue.next(0, 8199 * SECOND).expect("again");
    queue.tried(&delivery, fates(&[451]), Blame::Nobody, "mx", 8199 * SECOND);
    assert_eq!(queue.overdue(8199 * SECOND), None);
    assert!(queue.overdue(8200 * SECOND).is_some_and(|overdue| overdue.given_up));
}
