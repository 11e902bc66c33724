//! What is known of a message that waits outlives a restart: how often it was tried, and when it is next.

use super::{Fake, House, Message, Mode, driver, message, smarthost, to, wait_until};
use crate::clock::now_ms;
use crate::config::RouteTls;
use crate::smtp::envelope::{Deferred, View};
use crate::spool::{self, Spool};
use tempfile::TempDir;

/// All accounts of attempts in the spool, which nobody uses.
pub(super) fn accounts(directory: &TempDir) -> Vec<Deferred> {
    let options = spool::Options {
        directory: directory.path().join("spool"),
        segment_bytes: 4 << 20,
        writers: 1,
        reserve_bytes: 0,
        bytes_max: None,
        wipe_after_s: 0,
    };
    let mut spool = Spool::open(options).expect("a spool");
    let (_writer, mut follower) = spool.relay_side();
    let mut found = Vec::new();
    while let Some(entry) = follower.next() {
        found.extend(View::parse(entry.envelope).expect("whole").deferred);
    }
    drop(follower);
    spool.close();
    found
}

// covers: 12.7
#[test]
fn how_often_a_message_was_tried_is_written_down() {
    let (server, address) = Fake::tcp(Mode::default());
    let directory = tempfile::tempdir().expect("a directory");
    let target = smarthost(&address, RouteTls::None);
    let house = House::start(&directory, driver(), &target, &[message(&["later@b.example"], "late")]);
    wait_until("the second try", || server.connections() >= 2);
    house.stop();
    let accounts = accounts(&directory);
    assert_eq!(accounts.iter().map(|account| (account.recipient, account.attempts)).collect::<Vec<_>>(), [(0, 2)]);
    // And it is delivered all the same.
    server.set(Mode { later_is_now: true, ..Mode::default() });
    let house = House::start(&directory, driver(), &target, &[]);
    wait_until("the delivery", || to(&server.received(), "later@b.example") == 1);
    house.stop();
}

// covers: 12.7
#[test]
fn a_message_that_waited_before_a_restart_waits_on() {
    let (server, address) = Fake::tcp(Mode { later_is_now: true, ..Mode::default() });
    let directory = tempfile::tempdir().expect("a directory");
    let target = smarthost(&address, RouteTls::None);
    let waits = |to, next_ms| Message { waits: Some((5, next_ms)), ..message(&[to], "waits") };
    let messages = [
        waits("later@b.example", now_ms() + 3_600_000),
        message(&["now@b.example"], "new"),
        waits("past@b.example", 1),
    ];
    let house = House::with(&directory, driver(), &target, &messages, |relay| relay.retry_max_s = 3600);
    wait_until("the others", || server.received().len() == 2);
    house.stop();
    assert_eq!(to(&server.received(), "later@b.example"), 0);
    // An hour is far more than the longest pause of this one: a clock must have been set back.
    let house = House::start(&directory, driver(), &target, &[]);
    wait_until("the delivery", || to(&server.received(), "later@b.example") == 1);
    house.stop();
}
