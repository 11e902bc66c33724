//! Where a segment ends, when nothing but its last writer or its first reader knows.

use super::trouble::damage;
use super::*;

/// How a writer's run ends, before rot sets in.
enum Ending {
    /// In order.
    Closed,
    /// By a crash; and the next start reads what is there.
    Crashed,
    /// By a crash, and rot sets in before the next start.
    Unread,
}

/// Two groups, an ending, a flipped bit in the last group and another start. Returns what is found and how many ranges are
/// set aside.
async fn rot_after(ending: Ending, driver: Driver, directory: &TempDir) -> (Vec<QueueId>, usize) {
    let mut spool = open(directory, 1);
    let writer = start(spool.core_writers().remove(0), driver);
    for content in [b"one", b"two"] {
        commit(&writer, content).await.expect("durable");
    }
    let segment = active_segment(directory);
    if let Ending::Closed = ending {
        writer.close().await;
    }
    drop((writer, spool));
    if let Ending::Crashed = ending {
        assert_eq!(entries(&mut open(directory, 1).relay_side().1).len(), 2);
    }
    damage(&segment, 8192 + 4);
    let found = entries(&mut open(directory, 1).relay_side().1).iter().map(|(id, _)| *id).collect();
    let set_aside = std::fs::read_dir(directory.path().join("damaged")).map_or(0, Iterator::count);
    (found, set_aside)
}

#[test]
fn rot_in_the_last_group_of_a_run_that_ended_in_order_is_damage() {
    on_both(async |driver, directory| {
        let (found, set_aside) = rot_after(Ending::Closed, driver, &directory).await;
        assert_eq!((found.len(), set_aside), (1, 1));
    });
}

#[test]
fn so_it_is_once_another_start_has_read_it() {
    on_both(async |driver, directory| {
        let (found, set_aside) = rot_after(Ending::Crashed, driver, &directory).await;
        assert_eq!((found.len(), set_aside), (1, 1));
    });
}

/// The control: what nobody has read may never have been acknowledged.
#[test]
fn rot_before_that_cannot_be_told_from_a_torn_tail() {
    on_both(async |driver, directory| {
        let (found, set_aside) = rot_after(Ending::Unread, driver, &directory).await;
        assert_eq!((found.len(), set_aside), (1, 0));
    });
}

#[test]
fn a_writer_goes_on_in_another_segment_after_it_was_closed() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        let (_seed, mut follower) = spool.relay_side();
        let one = commit(&writer, b"one").await.expect("durable");
        writer.close().await;
        writer.close().await;
        let two = commit(&writer, b"two").await.expect("durable");
        let ids: Vec<QueueId> = entries(&mut follower).iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [one, two]);
    });
}

/// A header that cannot be read for a moment is tried again: set aside, its mail would wait for an operator.
#[test]
fn a_header_that_cannot_be_read_for_a_moment_is_read() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        let one = commit(&writer, b"one").await.expect("durable");
        let segment = active_segment(&directory);
        drop((writer, spool));
        faults::set_unreadable(&segment, 3);
        let mut spool = open(&directory, 1);
        let ids: Vec<QueueId> = entries(&mut spool.relay_side().1).iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [one]);
    });
}
