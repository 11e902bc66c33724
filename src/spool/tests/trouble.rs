//! The spool when the disk, the descriptors or the permissions are not as they should be.

use super::spills::commit_spilled;
use super::*;
use std::os::unix::fs::{FileExt, PermissionsExt};

/// Flips a bit of a segment.
pub fn damage(segment: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(segment).expect("opens");
    let mut octet = [0];
    file.read_exact_at(&mut octet, at).expect("read");
    file.write_all_at(&[octet[0] ^ 1], at).expect("written");
}

/// Everything below `directory`, with its permission bits.
fn modes(directory: &Path) -> Vec<(PathBuf, u32)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).expect("listed") {
        let path = entry.expect("an entry").path();
        let metadata = path.metadata().expect("one");
        all.push((path.clone(), metadata.permissions().mode() & 0o7777));
        if metadata.is_dir() {
            all.extend(modes(&path));
        }
    }
    all
}

#[test]
fn everything_in_the_spool_is_its_owners_alone() {
    on_both(async |driver, directory| {
        let root = directory.path().join("several/levels/spool");
        let reopen = || Spool::open(options(&root, 1)).expect("opens");
        let mut spool = reopen();
        let writer = start(spool.core_writers().remove(0), driver);
        for content in [b"one", b"two"] {
            commit(&writer, content).await.expect("durable");
        }
        writer.spill().await.expect("a file").write(vec![7; 10]).await.0.expect("written");
        drop((writer, spool));
        // A damaged record is copied out.
        let listed = std::fs::read_dir(root.join("segments")).expect("listed");
        listed.for_each(|entry| damage(&entry.expect("an entry").path(), 4096 + 4));
        // As an earlier version may have made it.
        std::fs::set_permissions(root.join("segments"), std::fs::Permissions::from_mode(0o755)).expect("set");
        entries(&mut reopen().relay_side().1);
        let all = modes(directory.path());
        for name in ["lock", "epoch", "damaged", ".seg", ".body", ".bin"] {
            let is_there = all.iter().any(|(path, _)| path.to_str().expect("text").ends_with(name));
            assert!(is_there, "{name}: {all:?}");
        }
        for (path, mode) in all {
            assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        }
    });
}

/// Wakes up as often as it takes until there is a record.
async fn next_in_time(follower: &mut Follower) -> (QueueId, Location) {
    let next = async {
        loop {
            if let Some(entry) = follower.next() {
                return (entry.id, entry.at);
            }
            follower.changed().await;
        }
    };
    // Only so that a wake-up that never comes is a failure and no hang.
    monoio::time::timeout(std::time::Duration::from_secs(20), next).await.expect("it is woken")
}

#[test]
fn a_segment_of_this_run_is_tried_again_until_it_can_be_opened_and_read() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        let (_seed, mut follower) = spool.relay_side();
        let one = commit(&writer, b"one").await.expect("durable");
        let active = active_segment(&directory);
        // It can be opened at the third attempt, and read at the one after that.
        faults::set_unreadable(&active, 3);
        assert!(follower.next().is_none());
        assert!(follower.next().is_none(), "no attempt without a pause");
        assert_eq!(next_in_time(&mut follower).await.0, one);
        // In its midst, too: what follows waits, in its own segment and in the next ones, and then comes in order.
        faults::set_unreadable(&active, 2);
        let mut sent = Vec::new();
        for _ in 0..8 {
            sent.push(commit(&writer, &[b'x'; 30_000]).await.expect("durable"));
        }
        assert!(follower.next().is_none());
        for id in sent {
            assert_eq!(next_in_time(&mut follower).await.0, id);
        }
    });
}

/// Three messages, each in a segment of an earlier run, oldest first.
async fn three_past_segments(driver: Driver, directory: &TempDir) -> Vec<(QueueId, PathBuf)> {
    let mut all: Vec<(QueueId, PathBuf)> = Vec::new();
    for content in [b"one", b"two", b"six"] {
        let mut spool = open(directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        let id = commit(&writer, content).await.expect("durable");
        let known = |path: &PathBuf| all.iter().any(|(_, known)| known == path);
        let path = active_segments(directory).into_iter().find(|path| !known(path)).expect("a new one");
        all.push((id, path));
    }
    all
}

#[test]
fn a_segment_of_the_past_is_tried_a_few_times_and_does_not_block_the_start() {
    on_both(async |driver, directory| {
        let past = three_past_segments(driver, &directory).await;
        let mut spool = open(&directory, 1);
        faults::set_unreadable(&past[0].1, 2);
        faults::set_unreadable(&past[1].1, u32::MAX);
        let (seed, mut follower) = spool.relay_side();
        let found = entries(&mut follower);
        let ids: Vec<QueueId> = found.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [past[0].0, past[2].0]);
        // What could not be read is kept, whatever becomes of the rest, and read after the next start.
        found.iter().for_each(|(_, at)| follower.settled(*at));
        drop((seed, follower, spool));
        faults::set_unreadable(&past[1].1, 0);
        let ids: Vec<QueueId> = entries(&mut open(&directory, 1).relay_side().1).iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [past[1].0]);
    });
}

fn header(segment: &Path) -> Header {
    let block = std::fs::read(segment).expect("readable");
    Header::from_block(&block[..4096]).expect("a header")
}

/// A message in a segment that has failed, and whose successor is settled and erased.
async fn outlived_its_successor(driver: Driver, directory: &TempDir) -> (QueueId, PathBuf) {
    let mut spool = open(directory, 1);
    let writer = start(spool.core_writers().remove(0), driver);
    let (_seed, mut follower) = spool.relay_side();
    let one = commit(&writer, b"one").await.expect("durable");
    let first = active_segment(directory);
    faults::set(&first, true);
    assert_eq!(commit(&writer, b"lost").await, Err(CommitError::Disk));
    faults::set(&first, false);
    for _ in 0..12 {
        commit(&writer, &[b'x'; 30_000]).await.expect("durable");
        let found = entries(&mut follower);
        found.iter().filter(|(id, _)| *id != one).for_each(|(_, at)| follower.settled(*at));
    }
    drop((writer, follower, spool));
    let number = layout::number_in(&first, "seg").expect("its number");
    let seals_first = |path: &PathBuf| match header(path).state {
        State::Active { sealed: Some(sealed), .. } => u64::from(sealed.number) == number,
        _ => false,
    };
    assert!(!segment_files(directory).iter().any(seals_first), "the successor is erased");
    (one, first)
}

#[test]
fn a_segment_whose_successor_is_erased_still_has_its_end() {
    on_both(async |driver, directory| {
        let (one, first) = outlived_its_successor(driver, &directory).await;
        // Of the group that was refused some sectors may have reached the disk after all: here all of them have.
        let mut late = Vec::new();
        record::append(&mut late, record::KIND_MESSAGE, QueueId(666), envelope("ben@example.edu").as_bytes(), b"lost");
        record::set_place(
            &mut late,
            header(&first).salt,
            record::Place { group: 2, group_start: 8192, index: 0, last: 0 },
        );
        let file = std::fs::File::options().write(true).open(&first).expect("opens");
        file.write_all_at(&late, 8192).expect("written");
        let mut spool = open(&directory, 1);
        let (seed, mut follower) = spool.relay_side();
        let found = entries(&mut follower);
        let ids: Vec<u64> = found.iter().map(|(id, _)| id.0).collect();
        assert!(ids.contains(&one.0) && !ids.contains(&666), "{ids:?}");
        // And the file that has failed is not used again.
        found.iter().for_each(|(_, at)| follower.settled(*at));
        drop((seed, follower, spool));
        assert!(!first.exists());
    });
}

#[test]
fn rot_in_the_last_group_is_damage_even_when_the_successor_is_erased() {
    on_both(async |driver, directory| {
        let (one, first) = outlived_its_successor(driver, &directory).await;
        damage(&first, 4096 + 4);
        let ids: Vec<QueueId> = entries(&mut open(&directory, 1).relay_side().1).iter().map(|(id, _)| *id).collect();
        assert!(!ids.contains(&one));
        assert_eq!(std::fs::read_dir(directory.path().join("damaged")).expect("reported").count(), 1);
    });
}

/// A spill file from the files thread.
fn spill_from(shared: &shared::Shared) -> u64 {
    let (reply, mut answer) = futures_channel::oneshot::channel();
    shared.ask(shared::Request::Spill(reply));
    loop {
        if let Some(file) = answer.try_recv().expect("the thread runs") {
            return file.expect("made").number;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn free_spill_files_are_kept_while_there_is_room_and_given_back_when_mail_needs_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = layout::Layout::new(directory.path());
    std::fs::create_dir(layout.spills()).expect("made");
    let (requests, inbox) = std::sync::mpsc::channel();
    let (erased, _told) = std::sync::mpsc::channel();
    let inventory = inventory::Inventory::new(layout.inventory(), 1, Default::default());
    // There is room for all until the file system is looked at, and none afterwards.
    let wanted = Options { reserve_bytes: u64::MAX >> 1, ..options(directory.path(), 0) };
    let shared = std::sync::Arc::new(shared::Shared::new(layout.clone(), &wanted, 1, 0, requests));
    let pool = pool::SpillPool::new(layout, 1, 0, false);
    let thread = files::Files::new(shared.clone(), inbox, erased, inventory, 1, pool, None);
    let give_back = |number| shared.ask(shared::Request::SpillBack { number, reusable: true });
    let thread = std::thread::spawn(move || thread.run());
    let (kept, used) = (spill_from(&shared), spill_from(&shared));
    give_back(kept);
    assert_eq!(spill_from(&shared), kept, "used again");
    give_back(kept);
    for _ in 0..20_000 {
        if !shared.layout.spill(kept).exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(!shared.layout.spill(kept).exists(), "it takes room that mail needs");
    assert!(shared.layout.spill(used).exists(), "it holds a message");
    give_back(used);
    assert!(spill_from(&shared) > used);
    assert!(!shared.layout.spill(used).exists());
    shared.ask(shared::Request::Stop);
    thread.join().expect("no panic");
}

/// What the next opening would say is missing.
fn missing(directory: &TempDir) -> Vec<u32> {
    let layout = layout::Layout::new(directory.path());
    let epoch = std::fs::read_to_string(layout.epoch()).expect("read").trim().parse().expect("a number");
    let files = segment_files(directory);
    let numbers = files.iter().filter_map(|path| layout::number_in(path, "seg"));
    let numbers = numbers.map(|number| number as u32).collect();
    inventory::Inventory::missing(&layout.inventory(), epoch, &numbers)
}

#[test]
fn a_segment_that_somebody_has_deleted_is_noticed() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        let (_seed, mut follower) = spool.relay_side();
        for _ in 0..12 {
            commit(&writer, &[b'x'; 30_000]).await.expect("durable");
        }
        entries(&mut follower).iter().for_each(|(_, at)| follower.settled(*at));
        drop((writer, follower, spool));
        assert_eq!(missing(&directory), [0; 0], "segments that were made and removed are no alarm");
        let one = active_segment(&directory);
        std::fs::remove_file(&one).expect("removed");
        assert_eq!(missing(&directory).len(), 1);
        // It is said once.
        drop(open(&directory, 1));
        assert_eq!(missing(&directory), [0; 0]);
        // A version that does not know the inventory has removed another: no alarm.
        std::fs::write(directory.path().join("epoch"), "77\n").expect("written");
        segment_files(&directory).iter().for_each(|path| std::fs::remove_file(path).expect("removed"));
        assert_eq!(missing(&directory), [0; 0]);
    });
}

/// Who mends the header, or puts a file back, finds the large messages of that segment whole.
#[test]
fn the_spill_files_of_a_segment_that_is_set_aside_or_missing_are_kept() {
    for is_missing in [false, true] {
        on_both(async |driver, directory| {
            let mut spool = open(&directory, 1);
            let writer = start(spool.core_writers().remove(0), driver);
            commit_spilled(&writer, 1).await;
            let segment = active_segment(&directory);
            drop((writer, spool));
            let whole = std::fs::read(&segment).expect("readable");
            match is_missing {
                true => std::fs::remove_file(&segment).expect("removed"),
                false => std::fs::write(&segment, vec![0; whole.len()]).expect("written"),
            }
            let mut spool = open(&directory, 1);
            let writer = start(spool.core_writers().remove(0), driver);
            let (_seed, mut follower) = spool.relay_side();
            assert!(follower.next().is_none());
            commit_spilled(&writer, 2).await;
            drop((writer, follower, _seed, spool));

            std::fs::write(&segment, whole).expect("written");
            let mut spool = open(&directory, 1);
            let (_seed, mut follower) = spool.relay_side();
            let found = entries(&mut follower);
            let contents: Vec<_> = found.iter().map(|(_, at)| memory(follower.read(*at).expect("readable"))).collect();
            assert_eq!(contents, [vec![1; 1000], vec![2; 1000]]);
        });
    }
}
