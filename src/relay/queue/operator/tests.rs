//! Orders: what they change, when they are read, and what they are not in the way of.

use super::super::tests::{EXPIRY, arrival, catching_up, fates, queue, reply};
use super::super::{Added, Blame};
use super::*;

const HOUR: u64 = 3_600_000;

fn act(order: Order, at_ms: u64) -> Act {
    Act { order, queue_id: 7, at_ms }
}

/// Message 7, deferred once at 0.
fn deferred() -> Queue<u32> {
    let mut queue = queue(1);
    queue.add(arrival(7, 0, &[0, 0]));
    let delivery = queue.start(0).expect("due");
    queue.tried(&delivery, fates(&[450, 450]), Blame::Nobody, "mx", 0);
    queue.disconnected(0);
    queue
}

#[test]
fn a_message_on_hold_is_neither_begun_nor_given_up_and_that_time_does_not_count() {
    let mut queue = deferred();
    assert_eq!(queue.order(act(Order::Hold, HOUR), 20), Applied::Open(7));
    assert_eq!(queue.order(act(Order::Hold, HOUR + 5), 21), Applied::Open(7), "twice is once");
    assert_eq!((queue.start(EXPIRY * 9), queue.overdue(EXPIRY * 9), queue.wake_ms()), (None, None, None));
    assert_eq!(queue.standing(7).expect("there").held_ms, Some(HOUR));
    assert_eq!((queue.held_by_operator(), queue.flush(7, EXPIRY)), (1, 0));
    queue.order(act(Order::Release, 10 * HOUR), 22);
    let standing = queue.standing(7).expect("there");
    assert_eq!((standing.expire_ms, standing.held_ms), (EXPIRY + 9 * HOUR, None));
    assert_eq!(queue.overdue(standing.expire_ms - 1), None);
    assert_eq!(queue.start(10 * HOUR).expect("due at once").recipients, [0, 1]);
}

#[test]
fn what_is_under_way_ends_and_then_rests() {
    let mut queue = queue(1);
    queue.add(arrival(7, 0, &[0, 0]));
    let delivery = queue.start(0).expect("due");
    queue.order(act(Order::Hold, 1), 20);
    let tried = queue.tried(&delivery, fates(&[250, 450]), Blame::Nobody, "mx", 2);
    assert_eq!(tried.delivered.len(), 1);
    queue.disconnected(0);
    assert_eq!((queue.start(u64::MAX / 2), queue.wake_ms()), (None, None));
    queue.order(act(Order::Release, 5), 21);
    assert_eq!(queue.start(5).expect("due").recipients, [1]);
}

#[test]
fn requeued_it_is_as_if_it_had_just_arrived() {
    let mut queue = deferred();
    queue.order(act(Order::Hold, 1), 20);
    queue.order(act(Order::Requeue, HOUR), 21);
    let standing = queue.standing(7).expect("there");
    assert_eq!((standing.expire_ms, standing.held_ms, standing.parts[0].attempts), (HOUR + EXPIRY, None, 0));
    assert_eq!(standing.parts[0].reason.as_ref().expect("what was said stays").reply, reply(450));
    let delivery = queue.start(HOUR).expect("due");
    queue.unreachable(&delivery, "no route to host", HOUR);
    queue.disconnected(0);
    queue.order(act(Order::Requeue, HOUR + 1), 22);
    assert!(queue.start(HOUR + 1).is_some(), "whatever pause its destination has");
}

#[test]
fn what_was_deleted_is_gone_when_that_is_read_back_and_not_before() {
    let mut queue = deferred();
    let deleting = queue.begin_delete(7).expect("may be deleted");
    assert_eq!((deleting.recipients().collect::<Vec<_>>(), deleting.flying), (vec![0, 1], 0));
    assert_eq!(queue.begin_delete(7), Err(NotNow::Busy));
    assert_eq!((queue.start(EXPIRY - 1), queue.begin_move(7, 7)), (None, None));
    queue.delete_failed(7, deleting);
    assert!(queue.wake_ms().is_some() && queue.begin_move(7, 7).is_some());
    queue.move_failed(7);
    let deleting = queue.begin_delete(7).expect("again");
    queue.deleted(7);
    assert_eq!(queue.outcome(7, 0, 20), Applied::Open(7));
    assert_eq!(queue.outcome(7, 1, 20), Applied::Settled(7));
    assert_eq!((queue.begin_delete(7), deleting.at), (Err(NotNow::Unknown), 7));
    assert_eq!((queue.counts(), queue.held_by_operator()), ((0, 0), 0));
}

/// Its time ends while the deletion is being written: a message whose time is over and that nobody gives up would stand
/// first at its destination for ever, and no delivery be begun anywhere.
#[test]
fn a_message_past_its_time_is_given_up_after_a_deletion_that_failed() {
    let mut queue = deferred();
    let deleting = queue.begin_delete(7).expect("may be deleted");
    assert_eq!(queue.overdue(EXPIRY), None);
    queue.delete_failed(7, deleting);
    queue.add(arrival(8, EXPIRY, &[0]));
    assert_eq!(queue.overdue(EXPIRY), None, "its next try was due");
    let delivery = queue.start(EXPIRY).expect("the last try");
    queue.tried(&delivery, fates(&[450, 450]), Blame::Nobody, "mx", EXPIRY);
    assert_eq!(queue.overdue(EXPIRY).expect("given up").recipients.len(), 2);
    assert_eq!(queue.start(EXPIRY).expect("due").id, 8);
}

#[test]
fn who_is_being_delivered_to_is_not_taken_back() {
    let mut queue = queue(2);
    queue.add(arrival(7, 0, &[0, 1, 1]));
    let delivery = queue.start(0).expect("due");
    let deleting = queue.begin_delete(7).expect("may be deleted");
    assert_eq!((deleting.recipients().collect::<Vec<_>>(), deleting.flying), (vec![1, 2], 1));
    queue.tried(&delivery, fates(&[450]), Blame::Nobody, "mx", 0);
    assert_eq!(queue.outcome(7, 1, 20), Applied::Open(7));
    assert_eq!(queue.outcome(7, 2, 20), Applied::Open(7));
    queue.deleted(7);
    assert_eq!(queue.begin_delete(7).expect("the rest").recipients().collect::<Vec<_>>(), [0]);
}

#[test]
fn nothing_is_moved_while_an_order_is_written_nor_ordered_while_it_moves() {
    let mut queue = deferred();
    assert_eq!(queue.begin_act(7), Ok(()));
    assert_eq!((queue.begin_act(7), queue.begin_move(7, 7)), (Err(NotNow::Busy), None));
    queue.end_act(7);
    assert!(queue.begin_move(7, 7).is_some());
    assert_eq!(queue.begin_act(7), Err(NotNow::Busy));
    queue.move_failed(7);
    assert_eq!(queue.begin_act(7), Ok(()));
    queue.order(act(Order::Hold, 5), 20);
    let moving = queue.begin_move(7, 7).expect("the order is read back");
    assert_eq!((moving.held_ms, moving.counts_from_ms), (Some(5), 0));
    queue.add(super::super::Arrival { at: 30, survivor: true, ..arrival(7, 0, &[0, 0]) });
    assert_eq!((queue.start(u64::MAX / 2), queue.standing(7).expect("there").at), (None, 30), "still on hold");
}

/// After a crash orders stand before or behind their message.
#[test]
fn orders_are_read_in_either_order() {
    for order_first in [true, false] {
        let mut queue = catching_up(1);
        let orders = [(Order::Requeue, HOUR), (Order::Hold, 2 * HOUR)];
        if !order_first {
            queue.add(arrival(7, 0, &[0]));
        }
        for (order, at_ms) in orders {
            let applied = queue.order(act(order, at_ms), 20);
            assert_eq!(applied, if order_first { Applied::Unknown } else { Applied::Open(7) });
        }
        if order_first {
            assert_eq!(queue.add(arrival(7, 0, &[0])), Added { early: vec![20, 20], settled: false, superseded: None });
        }
        queue.caught_up();
        let standing = queue.standing(7).expect("there");
        assert_eq!((standing.expire_ms, standing.held_ms), (HOUR + EXPIRY, Some(2 * HOUR)));
        assert_eq!(queue.start(u64::MAX / 2), None);
    }
}

/// The release is still in the log when its record has been moved with the hold.
#[test]
fn what_was_released_and_held_again_is_held_when_its_record_was_moved() {
    let mut queue = catching_up(1);
    queue.order(act(Order::Release, HOUR), 10);
    queue.order(act(Order::Hold, 2 * HOUR), 20);
    queue.add(super::super::Arrival { at: 20, survivor: true, ..arrival(7, 0, &[0]) });
    assert_eq!(queue.standing(7).expect("there").held_ms, Some(2 * HOUR));
}

#[test]
fn a_flush_tries_what_was_deferred_and_whom_nobody_could_reach() {
    let mut queue = deferred();
    assert_eq!(queue.start(1), None);
    assert_eq!(queue.flush(7, 1), 2);
    let delivery = queue.start(1).expect("due");
    assert_eq!(queue.flush(7, 1), 0, "under way");
    queue.unreachable(&delivery, "no route to host", 1);
    queue.disconnected(0);
    assert_eq!(queue.start(2), None);
    assert_eq!(queue.flush(7, 2), 2);
    assert!(queue.start(2).is_some());
    // What its sender wants to be held back stays where it is.
    queue.add(arrival(8, HOUR, &[0]));
    assert_eq!((queue.flush(8, 3), queue.flush(9, 3)), (0, 0));
}

#[test]
fn ids_stand_behind_the_moment_from_which_they_count() {
    let mut queue = queue(1);
    for (id, arrived_ms) in [(9, 100), (1, 200), (5, 300)] {
        queue.add(arrival(id, arrived_ms, &[0]));
    }
    queue.order(Act { order: Order::Requeue, queue_id: 9, at_ms: 400 }, 0);
    let mut ids = queue.ids();
    ids.sort_unstable();
    assert_eq!(ids, [(200, 1), (300, 5), (400, 9)]);
}

/// Prints what a look at all ids costs the relay's thread.
#[test]
fn ids_of_many_messages() {
    let mut queue = queue(1);
    for id in 0..100_000 {
        queue.add(arrival(id, 0, &[0]));
    }
    let begun = std::time::Instant::now();
    assert_eq!(queue.ids().len(), 100_000);
    println!("ids of 100,000 messages: {:?}", begun.elapsed());
}
