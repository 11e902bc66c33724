//! Messages in spill files, and what is done when the spool does not give them whole.

use super::{Fake, House, Message, Mode, context, driver, message, smarthost, wait_until};
use crate::config::RouteTls;
use crate::relay::connection::{Connection, Limits, Tls, Way};
use crate::relay::queue::Blame;
use crate::relay::route::Demand;
use crate::smtp::client::{Fate, Transaction};
use crate::smtp::envelope::View;
use crate::spool::{self, Spool, Stored, Writer};

/// A spilled message as the relay reads it; `damage` is done to its file in between.
async fn spilled(directory: &std::path::Path, damage: bool) -> Stored {
    let (root, segment_bytes) = (directory.into(), 256 << 10);
    let options = spool::Options {
        directory: root,
        segment_bytes,
        writers: 1,
        reserve_bytes: 0,
        bytes_max: None,
        wipe_after_s: 0,
    };
    let mut spool = Spool::open(options).expect("a spool");
    let (seed, (_, mut follower)) = (spool.core_writers().remove(0), spool.relay_side());
    let writer = Writer::start(seed, driver()).expect("a writer");
    let message = Message { spilled: true, ..message(&["one@b.example"], &"x".repeat(200_000)) };
    message.store(&writer).await;
    writer.drain().await;
    let (at, number) = {
        let entry = follower.next().expect("the message");
        (entry.at, View::parse(entry.envelope).expect("whole").spilled.expect("spilled").file)
    };
    if damage {
        std::fs::write(directory.join(format!("spill/{number:08}.body")), b"short").expect("written");
    }
    follower.read(at).expect("a record")
}

fn transaction() -> Transaction {
    Transaction { recipients: vec![b"one@b.example"[..].into()], ..Transaction::default() }
}

#[test]
fn a_damaged_spill_file_is_not_the_destinations_fault() {
    for (damage, close_at, expected) in [
        (false, "", Blame::Nobody),
        (true, "", Blame::Ours),
        (false, "content", Blame::Content),
        (true, "DATA", Blame::Destination),
    ] {
        let (server, address) = Fake::tcp(Mode { close_at, ..Mode::default() });
        let directory = tempfile::tempdir().expect("a directory");
        let attempt = crate::net::run(driver(), None, async {
            let mut stored = spilled(directory.path(), damage).await;
            let context = context(Limits::new(crate::config::RelayTimeouts::default()));
            let target = smarthost(&address, RouteTls::None);
            let way = Way { tls: Tls::of(&target), target, demand: Demand::Usual };
            let mut connection = Connection::open(&way, 0, false, &context).await.expect("a connection");
            let attempt = connection.deliver(transaction(), &mut stored).await;
            connection.close().await;
            context.shared.stop();
            attempt
        })
        .expect("a runtime");
        let case = format!("{damage} {close_at}: {attempt:?}");
        assert_eq!(attempt.blame, expected, "{case}");
        assert_eq!(attempt.usable, expected == Blame::Nobody, "{case}");
        assert_eq!(matches!(attempt.fates[..], [Fate::Delivered(_)]), expected == Blame::Nobody, "{case}");
        assert_eq!(server.received().len(), usize::from(expected == Blame::Nobody), "{case}");
    }
}

/// What is in a spill file is not read before it is sent, but where it might not fit: what the server found when it received
/// it decides. Here it is ASCII in truth, so that whoever looks finds nothing to encode.
#[test]
fn a_server_without_8bitmime_gets_a_spilled_message_that_is_ascii() {
    let (server, address) = Fake::tcp(Mode { seven_bit: true, ..Mode::default() });
    let directory = tempfile::tempdir().expect("a directory");
    let to = |to, eight_bit| Message { spilled: true, body: 1, eight_bit, ..message(&[to], "large") };
    let messages = [to("ascii@b.example", Some(false)), to("eight@b.example", Some(true)), to("old@b.example", None)];
    let house = House::start(&directory, driver(), &smarthost(&address, RouteTls::None), &messages);
    wait_until("three deliveries", || server.received().len() >= 3);
    house.stop();
    let received = server.received();
    for recipient in ["ascii@b.example", "eight@b.example", "old@b.example"] {
        assert_eq!(super::to(&received, recipient), 1, "{recipient}");
    }
    assert!(received.iter().all(|message| message.content == "X-Before: yes\r\nSubject: large\r\n\r\n.dot\r\n"));
}
