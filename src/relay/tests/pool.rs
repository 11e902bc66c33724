//! Pools of smarthosts: one that is dead costs nothing, and is used again when it is back.

use super::security::{Authority, open_hurried, serving};
use super::{Fake, House, Message, Mode, driver, message, to, wait_until};
use crate::config::{Host, RouteTls, Smarthost, Target};
use crate::relay::connection::Unopened;
use crate::relay::route::Demand;
use std::net::TcpListener;
use std::time::Duration;

/// A pool of two.
fn two(one: &str, other: &str) -> Smarthost {
    let host = |address: &str| Host { address: address.into(), weight: 1 };
    Smarthost { hosts: vec![host(one), host(other)], ..Smarthost::new(one, RouteTls::Opportunistic) }
}

fn many(count: usize) -> Vec<Message> {
    (0..count).map(|number| message(&[&format!("m{number}@b.example")], "one of many")).collect()
}

/// No message is even deferred: a retry would come too late to be seen here.
// covers: 12.6 12.11
#[test]
fn a_dead_host_costs_no_message_anything() {
    for dead in [
        Mode { close_at: "connect", ..Mode::default() },
        Mode { greeting: "421 4.3.2 not now", ..Mode::default() },
        Mode { greeting: "554 5.3.2 not here", ..Mode::default() },
        Mode { close_at: "EHLO", ..Mode::default() },
    ] {
        let greeting = dead.greeting;
        let (dead, dead_address) = Fake::tcp(dead);
        let (alive, address) = Fake::tcp(Mode::default());
        let directory = tempfile::tempdir().expect("a directory");
        let target = Target::Smarthost(two(&dead_address, &address));
        let house = House::with(&directory, driver(), &target, &many(300), |relay| {
            (relay.retry_first_s, relay.retry_max_s) = (3600, 3600);
        });
        wait_until("all", || alive.received().len() == 300);
        house.stop();
        assert!(dead.connections() <= 3, "{greeting}: {}", dead.connections());
        assert!((0..300).all(|number| to(&alive.received(), &format!("m{number}@b.example")) == 1));
    }
}

/// A port at which nobody listens, and a name that there is not.
#[test]
fn a_host_that_is_not_there_costs_nothing_either() {
    for absent in ["127.0.0.1:1", "no-such-host.invalid:25"] {
        let (alive, address) = Fake::tcp(Mode::default());
        let directory = tempfile::tempdir().expect("a directory");
        let target = Target::Smarthost(two(absent, &address));
        let house = House::with(&directory, driver(), &target, &many(20), |relay| {
            (relay.retry_first_s, relay.retry_max_s) = (3600, 3600);
        });
        wait_until("all", || alive.received().len() == 20);
        house.stop();
    }
}

#[test]
fn a_host_that_is_back_is_used_again() {
    let (one, one_address) = Fake::tcp(Mode { close_at: "connect", ..Mode::default() });
    let (other, other_address) = Fake::tcp(Mode::default());
    let directory = tempfile::tempdir().expect("a directory");
    let target = Target::Smarthost(two(&one_address, &other_address));
    // The second recipient is put off until one is back, so that there is always something to be done.
    let house = House::start(&directory, driver(), &target, &[message(&["now@b.example", "later@b.example"], "x")]);
    wait_until("the first recipient", || to(&other.received(), "now@b.example") == 1);
    wait_until("a probe", || one.connections() >= 2);
    one.set(Mode { later_is_now: true, ..Mode::default() });
    wait_until("the second recipient", || to(&one.received(), "later@b.example") == 1);
    house.stop();
    assert_eq!((one.received().len(), other.received().len()), (1, 1));
}

/// When all are down the message waits, and goes by whichever is back first.
#[test]
fn a_pool_that_is_down_is_tried_again() {
    let dead = Mode { close_at: "connect", ..Mode::default() };
    let (one, one_address) = Fake::tcp(dead.clone());
    let (other, other_address) = Fake::tcp(dead);
    let directory = tempfile::tempdir().expect("a directory");
    let target = Target::Smarthost(two(&one_address, &other_address));
    let house = House::start(&directory, driver(), &target, &many(3));
    wait_until("both tried twice", || one.connections() >= 2 && other.connections() >= 2);
    one.set(Mode::default());
    wait_until("all", || one.received().len() == 3);
    house.stop();
    assert!(other.received().is_empty());
}

/// What one host does not have another may: only if none has it the message goes back.
// covers: 12.4
#[test]
fn a_message_that_requires_tls_goes_by_the_host_that_has_it() {
    let ca = Authority::new("ours");
    for (seconds, arrives) in [(serving(ca.server("127.0.0.1", 2099)), true), (Mode::default(), false)] {
        let (_, first) = Fake::tcp(Mode::default());
        let (second, address) = Fake::tcp(seconds);
        let directory = tempfile::tempdir().expect("a directory");
        let messages: Vec<Message> =
            many(8).into_iter().map(|message| Message { require_tls: true, ..message }).collect();
        let target = Target::Smarthost(Smarthost { ca_file: Some(ca.file()), ..two(&first, &address) });
        let house = House::start(&directory, driver(), &target, &messages);
        wait_until("all, or attempts", || match arrives {
            true => second.received().len() == 8,
            false => second.connections() >= 8,
        });
        house.stop();
        assert!(second.received().iter().all(|message| message.tls && arrives));
    }
}

/// One that takes connections and says nothing, as when its process is stopped.
// covers: 11.2
#[test]
fn a_host_that_says_nothing_is_not_waited_for_while_there_is_another() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let target = Target::Smarthost(Smarthost::new(&address, RouteTls::None));
    match open_hurried(target, Demand::Usual, Duration::from_secs(60), true) {
        Err(Unopened::Unreachable(why)) => {
            assert!(why.contains("timed out") && why.contains("before its greeting"), "{why}")
        }
        other => panic!("{other:?}"),
    }
}
