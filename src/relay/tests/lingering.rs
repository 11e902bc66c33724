//! A connection stays open for a moment after a message, for the next one.

use super::waiting::accounts;
use super::{Fake, House, Message, Mode, driver, message, smarthost, wait_until};
use crate::clock::now_ms;
use crate::config::RouteTls;

/// One message at once, and one that is due a second later for the second time. Returns connections and accounts of attempts.
fn a_second_apart(mode: Mode) -> (usize, usize) {
    let (server, address) = Fake::tcp(mode);
    let directory = tempfile::tempdir().expect("a directory");
    let later = Message { waits: Some((1, now_ms() + 1000)), ..message(&["two@b.example"], "second") };
    let messages = [message(&["one@b.example"], "first"), later];
    let house = House::start(&directory, driver(), &smarthost(&address, RouteTls::None), &messages);
    wait_until("both deliveries", || server.received().len() == 2);
    house.stop();
    assert_eq!(server.received().len(), 2);
    let attempts = accounts(&directory);
    (server.connections(), attempts.iter().filter(|account| account.attempts > 1).count())
}

#[test]
fn the_next_message_takes_the_connection_of_the_one_before() {
    assert_eq!(a_second_apart(Mode::default()), (1, 0));
}

/// The message is not tried in vain on what is gone, which would have it wait and count as an attempt.
#[test]
fn a_server_that_leaves_meanwhile_costs_no_attempt() {
    assert_eq!(a_second_apart(Mode { leaves: true, ..Mode::default() }), (2, 0));
}
