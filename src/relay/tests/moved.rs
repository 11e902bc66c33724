//! A message that keeps a segment of delivered mail on the disk is moved out of it, and is still one message.

use super::{Fake, House, Message, Mode, driver, message, smarthost, wait_until};
use crate::config::RouteTls;
use std::path::PathBuf;
use tempfile::TempDir;

/// Segments that hold records of the core's writer, as their headers say.
fn of_the_core(directory: &TempDir) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(directory.path().join("spool/segments")).expect("listed");
    let is_active = |path: &PathBuf| {
        let header = std::fs::read(path).expect("readable");
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four octets"));
        (number(12), number(20)) == (2, 0)
    };
    listed.map(|entry| entry.expect("an entry").path()).filter(is_active).collect()
}

/// Two messages that must wait, one of them with a recipient who need not, the other large; then so many others that the
/// segment of the two is left.
fn messages() -> Vec<Message> {
    let large = Message { spilled: true, ..message(&["later-two@b.example"], "large") };
    let mut all = vec![message(&["now@b.example", "later-one@b.example"], "stuck"), large];
    all.extend((0..200).map(|at| message(&[&format!("other{at}@b.example")], &"x".repeat(30_000))));
    all
}

#[test]
fn stuck_messages_do_not_keep_a_segment_and_are_delivered_once() {
    for restart in [false, true] {
        let (server, address) = Fake::tcp(Mode::default());
        let directory = tempfile::tempdir().expect("a directory");
        let target = smarthost(&address, RouteTls::None);
        let mut house = House::start(&directory, driver(), &target, &messages());
        wait_until("the first deliveries", || server.received().len() == 201);
        wait_until("one segment, which is being written", || of_the_core(&directory).len() == 1);
        assert!(house.relay.watch().moved.get() >= 2);
        if restart {
            house.stop();
            house = House::start(&directory, driver(), &target, &[]);
        }
        server.set(Mode { later_is_now: true, ..Mode::default() });
        wait_until("the others", || server.received().len() == 203);
        house.stop();
        // Nothing is left of any of them.
        let house = House::start(&directory, driver(), &target, &[message(&["last@b.example"], "last")]);
        wait_until("the last one", || super::to(&server.received(), "last@b.example") == 1);
        house.stop();
        let received = server.received();
        assert_eq!(received.len(), 204);
        for to in ["now@b.example", "later-one@b.example", "later-two@b.example"] {
            assert_eq!(super::to(&received, to), 1, "{to}");
        }
    }
}
