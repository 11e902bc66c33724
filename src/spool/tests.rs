//! The spool as a whole: real files, a real runtime, both drivers.

use super::file::faults;
use super::segment::{Header, State};
use super::*;
use crate::net::Driver;
use crate::smtp::envelope::{Envelope, Tag, View};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

mod ends;
mod golden;
mod spills;
mod survivors;
mod threads;
mod trouble;
mod wiping;

const SEGMENT: u64 = 128 << 10;

fn options(directory: &Path, writers: usize) -> Options {
    let directory = directory.to_path_buf();
    Options { directory, segment_bytes: SEGMENT, writers, reserve_bytes: 0, bytes_max: None, wipe_after_s: 0 }
}

fn open(directory: &TempDir, writers: usize) -> Spool {
    Spool::open(options(directory.path(), writers)).expect("opens")
}

/// Runs on both drivers, each with a directory of its own.
fn on_both<F: Future<Output = ()>>(test: impl Fn(Driver, TempDir) -> F) {
    let directory = || tempfile::tempdir().expect("a directory");
    let uring = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().enable_timer().build();
    uring.expect("a ring").block_on(test(Driver::IoUring, directory()));
    let epoll = monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().enable_timer().build();
    epoll.expect("epoll").block_on(test(Driver::Epoll, directory()));
}

fn start(seed: WriterSeed, driver: Driver) -> Writer {
    Writer::start(seed, driver).expect("starts")
}

fn envelope(recipient: &str) -> Envelope {
    let mut envelope = Envelope::default();
    envelope.push(Tag::ReversePath, b"anna@example.edu");
    if !recipient.is_empty() {
        envelope.push(Tag::Recipient, recipient.as_bytes());
    }
    envelope
}

async fn commit(writer: &Writer, content: &[u8]) -> Result<QueueId, CommitError> {
    let id = writer.begin(content.len() as u64)?;
    writer.commit(id, &envelope("ben@example.edu"), content).await.map(|()| id)
}

/// All entries there are now: queue id and location.
fn entries(follower: &mut Follower) -> Vec<(QueueId, Location)> {
    let mut all = Vec::new();
    while let Some(entry) = follower.next() {
        View::parse(entry.envelope).expect("an envelope");
        all.push((entry.id, entry.at));
    }
    all
}

fn memory(stored: Stored) -> Vec<u8> {
    match stored.content {
        Content::Memory(content) => content,
        Content::Spilled(mut reader) => {
            let mut content = Vec::new();
            loop {
                let piece = reader.next().expect("undamaged");
                if piece.is_empty() {
                    return content;
                }
                content.extend_from_slice(piece);
            }
        }
    }
}

/// Segment and spill files on disk.
fn files(directory: &TempDir) -> (usize, usize) {
    let count = |name| std::fs::read_dir(directory.path().join(name)).expect("listed").count();
    (count("segments"), count("spill"))
}

#[test]
fn what_was_committed_is_followed_read_and_there_after_a_restart() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 2);
        let writers: Vec<Writer> = spool.core_writers().into_iter().map(|seed| start(seed, driver)).collect();
        let (_, mut follower) = spool.relay_side();
        let mut sent = HashMap::new();
        for number in 0..50usize {
            let content = vec![number as u8; number * 300];
            let id = commit(&writers[number % 2], &content).await.expect("durable");
            assert!(sent.insert(id, content).is_none());
        }
        check_all(&mut follower, &sent);
        assert!(follower.next().is_none());
        drop((writers, follower, spool));

        let mut spool = open(&directory, 1);
        let (_, mut follower) = spool.relay_side();
        check_all(&mut follower, &sent);
    });
}

fn check_all(follower: &mut Follower, sent: &HashMap<QueueId, Vec<u8>>) {
    let all = entries(follower);
    assert_eq!(all.len(), sent.len());
    for (id, at) in all {
        let stored = follower.read(at).expect("readable");
        assert_eq!(stored.id, id);
        assert_eq!(stored.envelope, envelope("ben@example.edu").as_bytes());
        assert_eq!(&memory(stored), &sent[&id]);
    }
}

#[test]
fn a_busy_writer_does_not_hide_the_others() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 2);
        let writers: Vec<Writer> = spool.core_writers().into_iter().map(|seed| start(seed, driver)).collect();
        let (_seed, mut follower) = spool.relay_side();
        let mut quiet = None;
        for number in 0..300 {
            commit(&writers[0], b"").await.expect("durable");
            if number == 0 {
                quiet = Some(commit(&writers[1], b"").await.expect("durable"));
            }
        }
        let early = entries(&mut follower).into_iter().take(100).any(|(id, _)| Some(id) == quiet);
        assert!(early);
    });
}

#[test]
fn concurrent_commits_share_a_write() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        let mut tasks = Vec::new();
        for _ in 0..64 {
            let writer = writer.clone();
            tasks.push(monoio::spawn(async move { commit(&writer, b"body").await }));
        }
        for task in tasks {
            task.await.expect("durable");
        }
        writer.drain().await;
        let (writes, records) = writer.counts();
        assert_eq!(records, 64);
        assert!(writes < 16, "{writes} writes");
    });
}

#[test]
fn segments_are_recycled_and_disk_use_is_bounded() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        let (_, mut follower) = spool.relay_side();
        for _ in 0..300 {
            commit(&writer, &[b'x'; 20_000]).await.expect("durable");
            for (_, at) in entries(&mut follower) {
                follower.settled(at);
            }
        }
        // 300 * 20 KB are 46 segments.
        drop((writer, follower, spool));
        assert!(files(&directory).0 <= 10, "{:?}", files(&directory));
        let mut spool = open(&directory, 1);
        let (_, mut follower) = spool.relay_side();
        // What is left are those of the last segment: settled, but no outcome says so here.
        assert!(entries(&mut follower).len() <= 6);
    });
}

#[test]
fn a_failed_write_fails_its_group_and_the_next_goes_to_another_segment() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        let (_, mut follower) = spool.relay_side();
        let one = commit(&writer, b"one").await.expect("durable");
        let active = active_segment(&directory);
        faults::set(&active, true);
        assert_eq!(commit(&writer, b"lost").await, Err(CommitError::Disk));
        assert_eq!(commit(&writer, b"one and a half").await.map(|_| ()), Ok(()));
        faults::set(&active, false);
        let two = commit(&writer, b"two").await.expect("durable again");
        let found = entries(&mut follower);
        assert_eq!((found.len(), found[0].0, found[2].0), (3, one, two));
        // A file that has failed is not used again.
        found.iter().for_each(|(_, at)| follower.settled(*at));
        drop((writer, follower, spool));
        assert!(!active.exists());
    });
}

#[test]
fn after_a_failed_write_a_restart_reads_what_was_acknowledged_and_no_more() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        let one = commit(&writer, b"one").await.expect("durable");
        // Everything fails, the next segment's header too: nobody is told yes, and the next attempt works.
        faults::set(directory.path(), true);
        assert_eq!(commit(&writer, b"lost").await, Err(CommitError::Disk));
        commit(&writer, b"lost").await.expect_err("nothing works");
        faults::set(directory.path(), false);
        let two = once_there_is_room(&writer, b"two").await;
        drop((writer, spool));
        let mut spool = open(&directory, 1);
        let ids: Vec<QueueId> = entries(&mut spool.relay_side().1).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [one, two]);
    });
}

#[test]
fn a_spare_whose_header_cannot_be_written_is_removed() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        let spares: HashSet<PathBuf> = segment_files(&directory).into_iter().collect();
        spares.iter().for_each(|spare| faults::set(spare, true));
        assert_eq!(commit(&writer, b"lost").await, Err(CommitError::Disk));
        drop((writer, spool));
        let left: HashSet<PathBuf> = segment_files(&directory).into_iter().collect();
        assert_eq!(spares.difference(&left).count(), 1);
        spares.iter().for_each(|spare| faults::set(spare, false));
    });
}

/// The files thread tries again within a second.
async fn once_there_is_room(writer: &Writer, content: &[u8]) -> QueueId {
    loop {
        match commit(writer, content).await {
            Ok(id) => return id,
            Err(CommitError::NoRoom) => monoio::time::sleep(std::time::Duration::from_millis(20)).await,
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn segment_files(directory: &TempDir) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(directory.path().join("segments")).expect("listed");
    listed.map(|entry| entry.expect("an entry").path()).collect()
}

/// A segment with an active header.
fn active_segment(directory: &TempDir) -> PathBuf {
    active_segments(directory).into_iter().next().expect("one is active")
}

fn active_segments(directory: &TempDir) -> Vec<PathBuf> {
    let is_active = |path: &PathBuf| {
        // A spare that is being made is renamed meanwhile, and may be short.
        let block = std::fs::read(path).unwrap_or_default();
        block.get(..4096).is_some_and(|block| Header::from_block(block).is_ok_and(|header| header.state != State::Free))
    };
    segment_files(directory).into_iter().filter(is_active).collect()
}

#[test]
fn outcomes_are_kept_as_long_as_their_message_can_be_read() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        let (seed, mut follower) = spool.relay_side();
        let relay = start(seed, driver);
        commit(&writer, b"done").await.expect("durable");
        commit(&writer, b"stays").await.expect("durable");
        let messages = entries(&mut follower);
        // An outcome of the first one, then enough to fill several segments of the relay.
        relay.commit(relay.begin(0).expect("an id"), &envelope(""), b"").await.expect("durable");
        follower.settled(messages[0].1);
        let outcome = follower.next().expect("the outcome").at;
        follower.refers(outcome, messages[0].1);
        for _ in 0..12 {
            relay.commit(relay.begin(0).expect("an id"), &envelope(""), &[0; 50_000]).await.expect("durable");
            entries(&mut follower);
        }
        assert!(follower.read(outcome).is_ok(), "it refers to a segment with a live message");
        follower.settled(messages[1].1);
        drop((writer, relay, follower, spool));
    });
}

#[test]
fn an_outcome_that_is_read_before_its_message_survives_the_catch_up() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 1);
        let core = start(spool.core_writers().remove(0), driver);
        let relay = start(spool.relay_side().0, driver);
        // The relay's segment is begun first, so it is read first.
        let outcome = relay.begin(0).expect("an id");
        relay.commit(outcome, &envelope(""), b"").await.expect("durable");
        commit(&core, b"done").await.expect("durable");
        commit(&core, b"stays").await.expect("durable");
        drop((core, relay, spool));
        for _ in 0..3 {
            // As the relay does it: the first message is done.
            let mut spool = open(&directory, 1);
            let (_seed, mut follower) = spool.relay_side();
            let (id, at) = follower.next().map(|entry| (entry.id, entry.at)).expect("the outcome");
            assert_eq!(id, outcome);
            let done = follower.next().map(|entry| entry.at).expect("a message");
            follower.refers(at, done);
            follower.settled(done);
            assert_eq!(entries(&mut follower).len(), 1);
        }
    });
}

#[test]
fn a_second_instance_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let spool = open(&directory, 1);
    let error = Spool::open(options(directory.path(), 1)).err().expect("refused");
    assert!(error.contains("another running instance uses this spool"), "{error}");
    spool.close();
    open(&directory, 1).close();
}

#[test]
fn the_epoch_rises_and_survives_even_the_loss_of_its_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let epoch = |spool: Spool| spool.shared.epoch;
    let first = epoch(open(&directory, 1));
    assert_eq!(epoch(open(&directory, 1)), first + 1);
    std::fs::write(directory.path().join("epoch"), "garbage").expect("written");
    let error = Spool::open(options(directory.path(), 1)).err().expect("refused");
    assert!(error.contains("not a number"), "{error}");
    std::fs::write(directory.path().join("epoch"), "1048575\n").expect("written");
    let error = Spool::open(options(directory.path(), 1)).err().expect("refused");
    assert!(error.contains("no queue ids left"), "{error}");
    std::fs::remove_file(directory.path().join("epoch")).expect("removed");
    assert!(epoch(open(&directory, 1)) > first);
}

/// Of twenty new spools two may begin at the same epoch, once in 2,700 runs of this test; three never.
#[test]
fn new_spools_give_other_queue_ids() {
    let first = || open(&tempfile::tempdir().expect("a directory"), 1).shared.epoch;
    let epochs: std::collections::BTreeSet<u64> = (0..20).map(|_| first()).collect();
    assert!(epochs.len() >= 19, "{epochs:?}");
    assert!(epochs.iter().all(|&epoch| (1..=1 << 19).contains(&epoch)), "{epochs:?}");
}

#[test]
fn unusable_options_and_directories_are_refused_with_a_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    for bytes in [0, 4096, SEGMENT + 1, 64 << 30] {
        let bad = Options { segment_bytes: bytes, ..options(directory.path(), 1) };
        assert!(Spool::open(bad).err().expect("refused").contains("multiple of 4096"));
    }
    assert!(Spool::open(options(directory.path(), 256)).is_err());
    let file = directory.path().join("file");
    std::fs::write(&file, b"").expect("written");
    let error = Spool::open(options(&file, 1)).err().expect("refused");
    assert!(error.contains("directory"), "{error}");
}

#[test]
fn without_room_nothing_begins_but_the_relays_records() {
    on_both(async |driver, directory| {
        let mut spool =
            Spool::open(Options { reserve_bytes: u64::MAX, ..options(directory.path(), 1) }).expect("opens");
        let writer = start(spool.core_writers().remove(0), driver);
        let relay = start(spool.relay_side().0, driver);
        assert_eq!(writer.begin(0), Err(CommitError::NoRoom));
        assert_eq!(writer.spill().await.err(), Some(CommitError::NoRoom));
        let id = relay.begin(0).expect("an id");
        relay.commit(id, &envelope(""), b"").await.expect("durable");
    });
}

#[test]
fn a_record_too_long_for_a_segment_is_refused() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        let too_long = vec![0; writer.record_bytes_max()];
        assert_eq!(commit(&writer, &too_long).await, Err(CommitError::NoRoom));
        let longest = vec![0; writer.record_bytes_max() - 200];
        commit(&writer, &longest).await.expect("durable");
    });
}

/// The file layer that forgets: killing a process that uses it must lose nothing that was acknowledged, and must lose
/// something when the durable step is skipped, or the crash tests prove nothing.
#[cfg(feature = "forgetful-file")]
mod forgetful {
    use super::*;
    use std::process::Command;

    const DIRECTORY: &str = "PENSTOCK_TEST_SPOOL";

    /// Commits, says so by its end, and dies without any clean-up.
    #[test]
    #[ignore = "the child process of the tests below"]
    fn child() {
        let directory = std::env::var_os(DIRECTORY).expect("started by a test below");
        let mut spool = Spool::open(options(Path::new(&directory), 1)).expect("opens");
        let seed = spool.core_writers().remove(0);
        let runtime = monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().enable_timer().build();
        runtime.expect("epoll").block_on(async {
            let writer = start(seed, Driver::Epoll);
            for _ in 0..20 {
                commit(&writer, b"body").await.expect("durable, it says");
            }
            let mut unfinished = writer.spill().await.expect("a file");
            unfinished.write(vec![7; 5000]).await.0.expect("written");
            let mut spill = writer.spill().await.expect("a file");
            spill.write(vec![8; 5000]).await.0.expect("written");
            let mut envelope = envelope("ben@example.edu");
            spill.finish().await.expect("durable, it says").push_to(&mut envelope);
            writer.commit(writer.begin(0).expect("room"), &envelope, b"").await.expect("durable, it says");
            std::process::abort();
        });
    }

    /// Octets of the spill files and what is followed after the child has died.
    fn after_death(mode: &str) -> (Vec<u64>, Vec<Vec<u8>>) {
        let directory = tempfile::tempdir().expect("a directory");
        let child = Command::new(std::env::current_exe().expect("a name"))
            .args(["--exact", "spool::tests::forgetful::child", "--ignored"])
            .env(DIRECTORY, directory.path())
            .env("PENSTOCK_FORGETFUL", mode)
            .output()
            .expect("runs");
        assert!(!child.status.success());
        let spills = std::fs::read_dir(directory.path().join("spill")).expect("listed");
        let mut lengths: Vec<u64> =
            spills.map(|entry| entry.expect("an entry").metadata().expect("one").len()).collect();
        lengths.sort();
        let mut spool = open(&directory, 1);
        let (_, mut follower) = spool.relay_side();
        let all = entries(&mut follower);
        let contents = all.into_iter().map(|(_, at)| memory(follower.read(at).expect("readable"))).collect();
        (lengths, contents)
    }

    #[test]
    fn what_was_acknowledged_survives_and_what_was_not_synced_does_not() {
        let (lengths, contents) = after_death("");
        assert_eq!(contents.len(), 21);
        assert_eq!(contents[20], vec![8; 5000]);
        assert_eq!(lengths, [0, 5000]);
    }

    #[test]
    fn the_mutant_loses_mail() {
        let (lengths, contents) = after_death("skip-durable");
        assert!(contents.is_empty());
        assert_eq!(lengths, [0, 0]);
    }
}
