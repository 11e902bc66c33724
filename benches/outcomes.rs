//! Claim: outcomes are recorded and replayed at hundreds of thousands a second and more, far above what a relay delivers: a
//! record holds 256 of them, and a start applies each with one look into the table of messages.
//!
//! `cargo bench --bench outcomes [-- MESSAGES]`; 200,000 if nothing is said. First a spool of so many messages is made, and
//! their outcomes are committed through the relay's writer in records of 1, 16 and 256, one record under way at a time, as
//! the relay does it (relay/records.rs). Then the whole is replayed as the relay does at its start: messages into the queue,
//! then their outcomes. Beside it the least that can be done: the ids in a set, taken out one by one. Least,
//! median and most of five rounds; octets as they stand in the spool.

#[path = "support/spooled.rs"]
mod spooled;

use penstock::net::Driver;
use penstock::relay::queue::{Applied, Arrival, Queue, Settings};
use penstock::relay::sender::Senders;
use penstock::smtp::envelope::View;
use penstock::spool::{Entry, Location, QueueId, Spool, Writer, examine};
use spooled::{active, outcomes, spread};
use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

const ROUNDS: usize = 5;
/// Outcomes in a record: the last is what the relay puts there at most.
const GROUPS: [usize; 3] = [1, 16, 256];
/// So many records of each kind are timed at most.
const RECORDS: usize = 2000;

fn main() {
    let wanted = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let messages = wanted.unwrap_or(if is_measured { 200_000 } else { 2_000 });
    let rounds = if is_measured { ROUNDS } else { 1 };
    let beside = std::env::current_exe().expect("a name");
    let directory = tempfile::tempdir_in(beside.parent().expect("a directory")).expect("a directory");
    appended(&directory.path().join("appended"), messages, rounds);
    replayed(&directory.path().join("replayed"), messages, rounds);
}

fn appended(directory: &Path, messages: usize, rounds: usize) {
    for group in GROUPS {
        let records = (messages / group).min(RECORDS);
        let speeds: Vec<f64> = (0..rounds).map(|_| append(directory, group, records)).collect();
        let bytes = outcomes(&ids(group)).as_bytes().len() + 64;
        show(&format!("appended, {group} a record"), &speeds, bytes.next_multiple_of(4096) as f64 / group as f64);
    }
}

fn ids(count: usize) -> Vec<QueueId> {
    (0..count as u64).map(|number| QueueId(1 << 44 | number)).collect()
}

/// Outcomes per second.
fn append(directory: &Path, group: usize, records: usize) -> f64 {
    let _ = std::fs::remove_dir_all(directory);
    let mut spool = Spool::open(spooled::options(directory)).expect("opens");
    let (seed, follower) = spool.relay_side();
    let seconds = penstock::net::run(Driver::IoUring, None, async move {
        let writer = Writer::start(seed, Driver::IoUring).expect("starts");
        let begun = Instant::now();
        for _ in 0..records {
            let id = writer.begin(0).expect("room");
            writer.commit(id, &outcomes(&ids(group)), b"").await.expect("durable");
        }
        let seconds = begun.elapsed().as_secs_f64();
        assert_eq!(writer.counts().1 as usize, records);
        writer.close().await;
        seconds
    });
    drop(follower);
    spool.close();
    (records * group) as f64 / seconds.expect("a runtime")
}

fn replayed(directory: &Path, messages: usize, rounds: usize) {
    spooled::fill(directory, messages, 64, |_| "ben@example.org".into(), |_| true);
    let mut speeds = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        let [read, replayed] = replay(directory, messages);
        speeds[0].push(read);
        speeds[1].push(replayed);
        speeds[2].push(naive(messages));
    }
    let bytes: Vec<u64> = active(directory).iter().map(|active| active.end).collect();
    let (&outcomes, all) = bytes.split_last().expect("segments");
    show("messages replayed into the queue", &speeds[0], all.iter().sum::<u64>() as f64 / messages as f64);
    show("outcomes replayed", &speeds[1], outcomes as f64 / messages as f64);
    show("naive: ids taken out of a set", &speeds[2], 0.0);
}

/// Messages, and outcomes, per second: what the relay does with each record, but for its route.
fn replay(directory: &Path, messages: usize) -> [f64; 2] {
    let mut examined = examine(directory).expect("nobody else is there");
    let (retry_first_ms, retry_max_ms, expire_ms, warn_ms) = (60_000, 3_600_000, 432_000_000, None);
    let settings = Settings { retry_first_ms, retry_max_ms, expire_ms, warn_ms, connections_max: 8 };
    let mut queue: Queue<Location> = Queue::new(settings, [0], 1);
    let senders = Senders::default();
    let mut next = |queue: &mut Queue<Location>| {
        let Some(Entry { at, id, envelope, .. }) = examined.follower.next() else { return false };
        let view = View::parse(envelope).expect("whole");
        for outcome in &view.outcomes {
            assert!(matches!(queue.outcome(outcome.queue_id, outcome.recipient, at), Applied::Settled(_)));
        }
        if !view.recipients.is_empty() {
            let (id, release_ms, sender) = (id.0, view.arrival_ms, senders.of(&view));
            let (destinations, survivor, small) = (vec![0], false, true);
            queue.add(Arrival { id, at, release_ms, destinations, survivor, sender, small });
        }
        true
    };
    let begun = Instant::now();
    while queue.counts().0 < messages {
        assert!(next(&mut queue));
    }
    let read = messages as f64 / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    while next(&mut queue) {}
    let replayed = messages as f64 / begun.elapsed().as_secs_f64();
    assert_eq!(queue.counts(), (0, 0));
    [read, replayed]
}

/// Ids per second.
fn naive(messages: usize) -> f64 {
    let mut known: HashSet<QueueId> = ids(messages).into_iter().collect();
    let begun = Instant::now();
    ids(messages).iter().for_each(|id| assert!(known.remove(id)));
    messages as f64 / begun.elapsed().as_secs_f64()
}

fn show(what: &str, speeds: &[f64], bytes: f64) {
    let [least, median, most] = spread(speeds);
    let spread = format!("({least:.0}-{most:.0})");
    println!("{what:34} {median:10.0} a second {spread:>22}  {bytes:7.0} octets each");
}
