//! What is left of delivered mail, and how large the spool may grow.

use super::*;
use crate::clock::{SIMULATED_MS, now_ms};
use std::time::Duration;

const TEXT: &[u8] = b"nobody may read this for ever";

fn wiping(directory: &TempDir, wipe_after_s: u64) -> Spool {
    Spool::open(Options { wipe_after_s, ..options(directory.path(), 1) }).expect("opens")
}

/// How many files of the spool hold the text.
fn holding(directory: &TempDir) -> usize {
    let below = |name| std::fs::read_dir(directory.path().join(name)).expect("listed");
    // Files come and go meanwhile.
    let texts =
        below("segments").chain(below("spill")).filter_map(|file| std::fs::read(file.expect("one").path()).ok());
    texts.filter(|text| memchr::memmem::find(text, TEXT).is_some()).count()
}

/// A small and a large message are delivered; nothing else comes. Returns how many files still hold their text, once none
/// does or after `patience`.
async fn what_is_left(wipe_after_s: u64, patience: Duration, driver: Driver, directory: &TempDir) -> usize {
    let mut spool = wiping(directory, wipe_after_s);
    let core = start(spool.core_writers().remove(0), driver);
    let (_seed, mut follower) = spool.relay_side();
    commit(&core, TEXT).await.expect("durable");
    let mut spill = core.spill().await.expect("a file");
    spill.write(TEXT.to_vec()).await.0.expect("written");
    let mut envelope = envelope("ben@example.edu");
    spill.finish().await.expect("durable").push_to(&mut envelope);
    core.commit(core.begin(0).expect("room"), &envelope, b"").await.expect("durable");
    assert_eq!(holding(directory), 2);
    entries(&mut follower).iter().for_each(|(_, at)| follower.settled(*at));
    let end = std::time::Instant::now() + patience;
    while holding(directory) > 0 && std::time::Instant::now() < end {
        monoio::time::sleep(Duration::from_millis(100)).await;
        core.change_old_segment();
        entries(&mut follower).iter().for_each(|(_, at)| follower.settled(*at));
    }
    core.drain().await;
    seen_by_who_watches(&spool, wipe_after_s > 0).await;
    holding(directory)
}

/// A segment and a spill file were overwritten, or wait for it for ever.
async fn seen_by_who_watches(spool: &Spool, wipes: bool) {
    let watch = spool.watch();
    let is_shown = |stock: &Stock| match wipes {
        true => stock.wiped.get() >= 2 && stock.to_wipe.get() == 0 && stock.to_wipe_for_s.get() == 0,
        false => stock.wiped.get() == 0 && stock.spills.get() == 1,
    };
    for _ in 0..600 {
        if is_shown(watch.stock()) {
            break;
        }
        monoio::time::sleep(Duration::from_millis(50)).await;
    }
    let stock = watch.stock();
    assert!(is_shown(stock), "{stock:?}");
    assert_eq!((stock.segment_bytes.get() / SEGMENT, stock.spills.get()), (stock.segments.get(), 1), "{stock:?}");
}

#[test]
fn what_is_delivered_is_overwritten_though_no_other_mail_comes() {
    on_both(async |driver, directory| {
        assert_eq!(what_is_left(4, Duration::from_secs(60), driver, &directory).await, 0);
    });
}

/// The control: unless somebody wants that, it stays until its room is used.
#[test]
fn without_that_it_stays() {
    on_both(async |driver, directory| {
        assert_eq!(what_is_left(0, Duration::from_secs(3), driver, &directory).await, 2);
    });
}

#[test]
fn the_free_segments_of_an_earlier_run_are_overwritten_too() {
    on_both(async |driver, directory| {
        assert_eq!(what_is_left(0, Duration::ZERO, driver, &directory).await, 2);
        // Another run with the same messages settled: their segment is free, and nothing was overwritten.
        let mut spool = wiping(&directory, 0);
        let mut follower = spool.relay_side().1;
        while segment_files(&directory).len() > 2 || holding(&directory) > 1 {
            entries(&mut follower).iter().for_each(|(_, at)| follower.settled(*at));
            monoio::time::sleep(Duration::from_millis(20)).await;
            if active_segments(&directory).is_empty() {
                break;
            }
        }
        drop((follower, spool));
        let mut spool = wiping(&directory, 4);
        let mut follower = spool.relay_side().1;
        for _ in 0..600 {
            if holding(&directory) == 0 {
                break;
            }
            entries(&mut follower);
            monoio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(holding(&directory), 0);
    });
}

#[test]
fn a_spool_grows_to_its_largest_size_and_takes_mail_again_when_some_is_delivered() {
    on_both(async |driver, directory| {
        let bytes_max = Some(6 * SEGMENT);
        let mut spool = Spool::open(Options { bytes_max, ..options(directory.path(), 1) }).expect("opens");
        let core = start(spool.core_writers().remove(0), driver);
        let (seed, mut follower) = spool.relay_side();
        let relay = start(seed, driver);
        let mut taken = Vec::new();
        // Each message takes a quarter of a segment.
        while let Ok(id) = commit(&core, &[b'x'; 30_000]).await {
            taken.push(id);
            assert!(taken.len() < 100, "there is no bound");
        }
        assert!(taken.len() >= 12, "{}", taken.len());
        let bytes: u64 = segment_files(&directory).iter().map(|path| path.metadata().expect("one").len()).sum();
        assert!(bytes <= 6 * SEGMENT, "{bytes}");
        // The relay can still record what becomes of it, and by that makes room.
        commit(&relay, b"an outcome").await.expect("durable");
        let found = entries(&mut follower);
        assert_eq!(found.len(), taken.len() + 1);
        found.iter().for_each(|(_, at)| follower.settled(*at));
        for _ in 0..400 {
            if commit(&core, b"more").await.is_ok() {
                return;
            }
            entries(&mut follower);
            monoio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no mail is taken any more");
    });
}

/// Free segments are kept for the next mail, but not at the price of refusing it.
#[test]
fn a_spool_that_was_full_and_is_empty_takes_mail_for_more_than_a_moment() {
    on_both(async |driver, directory| {
        let bytes_max = Some(6 * SEGMENT);
        let mut spool = Spool::open(Options { bytes_max, ..options(directory.path(), 1) }).expect("opens");
        let core = start(spool.core_writers().remove(0), driver);
        let (seed, mut follower) = spool.relay_side();
        let relay = start(seed, driver);
        let mut taken = 0;
        while commit(&core, &[b'x'; 30_000]).await.is_ok() {
            taken += 1;
            assert!(taken < 100, "there is no bound");
        }
        commit(&relay, b"an outcome").await.expect("durable");
        // All is delivered, and the files thread has looked at that.
        for _ in 0..30 {
            entries(&mut follower).iter().for_each(|(_, at)| follower.settled(*at));
            monoio::time::sleep(Duration::from_millis(100)).await;
        }
        let files = segment_files(&directory).len();
        assert!(core.room() >= Some(SEGMENT), "{:?} octets of room beside {files} files without mail", core.room());
        commit(&core, b"more").await.expect("there is room");
    });
}

#[test]
fn beyond_its_largest_size_the_spool_grows_for_the_relay_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = layout::Layout::new(directory.path());
    std::fs::create_dir(layout.segments()).expect("made");
    let (requests, inbox) = std::sync::mpsc::channel();
    let (erased, _told) = std::sync::mpsc::channel();
    let inventory = inventory::Inventory::new(layout.inventory(), 1, Default::default());
    let wanted = Options { bytes_max: Some(SEGMENT / 2), ..options(directory.path(), 1) };
    let shared = std::sync::Arc::new(shared::Shared::new(layout.clone(), &wanted, 1, 2, requests));
    let pool = pool::SpillPool::new(layout, 1, 0, false);
    let mut thread = files::Files::new(shared.clone(), inbox, erased, inventory, 1, pool, None);
    for for_relay in [false, true] {
        let (reply, mut answer) = futures_channel::oneshot::channel();
        shared.ask(shared::Request::Spare { for_relay, reply });
        assert!(thread.step());
        let answer = answer.try_recv().expect("it is there").expect("answered");
        assert_eq!(answer.is_ok(), for_relay);
    }
}

/// Its segment was begun tomorrow.
#[test]
fn a_clock_that_was_ahead_does_not_put_it_off() {
    on_both(async |driver, directory| {
        let mut spool = wiping(&directory, 4);
        SIMULATED_MS.set(Some(now_ms() + 86_400_000));
        let core = start(spool.core_writers().remove(0), driver);
        let (_seed, mut follower) = spool.relay_side();
        commit(&core, TEXT).await.expect("durable");
        SIMULATED_MS.set(None);
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while holding(&directory) > 0 && std::time::Instant::now() < end {
            core.change_old_segment();
            entries(&mut follower).iter().for_each(|(_, at)| follower.settled(*at));
            monoio::time::sleep(Duration::from_millis(100)).await;
        }
        core.drain().await;
        assert_eq!(holding(&directory), 0);
    });
}
