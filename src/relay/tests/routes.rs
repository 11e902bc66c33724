//! Routes by sender, and to nowhere.

use super::{Fake, House, Mode, driver, message, smarthost, to, wait_until};
use crate::config::{Route, RouteTls, Target};

/// Whose mail it is decides, and what is thrown away is done with: neither comes later.
#[test]
fn the_sender_decides_and_what_is_discarded_is_settled() {
    let (server, address) = Fake::tcp(Mode::default());
    let (other, other_address) = Fake::tcp(Mode::default());
    let directory = tempfile::tempdir().expect("a directory");
    let route = |domains: &[&str], senders: &[&str], target: Target| Route {
        domains: domains.iter().map(|name| name.to_string()).collect(),
        senders: senders.iter().map(|name| name.to_string()).collect(),
        target,
    };
    let target = smarthost(&address, RouteTls::None);
    let recipients = ["one@b.example", "two@gone.example"];
    let house = House::with(&directory, driver(), &target, &[message(&recipients, "first")], |relay| {
        let others = relay.routes.remove(0);
        relay.routes = vec![
            route(&["gone.example"], &["@example.edu"], Target::Discard),
            route(&[], &["ANNA@example.edu"], smarthost(&other_address, RouteTls::None)),
            others,
        ];
    });
    wait_until("the delivery", || to(&other.received(), "one@b.example") == 1);
    house.stop();
    // With one route for all: nothing is left of the first message.
    let house = House::start(&directory, driver(), &target, &[message(&["three@b.example"], "second")]);
    wait_until("the second", || to(&server.received(), "three@b.example") == 1);
    house.stop();
    assert_eq!((server.received().len(), other.received().len()), (1, 1));
}
