//! Records that are written again elsewhere: two copies of one message, and one spill file.

use super::*;
use std::collections::BTreeSet;

/// A spilled message at two places, both read; and a way to see whether its file is free.
struct Twice {
    spool: Spool,
    core: Writer,
    follower: Follower,
    original: Location,
    survivor: Location,
}

const TEXT: &[u8] = b"what must not be overwritten";

impl Twice {
    async fn new(driver: Driver, directory: &TempDir) -> Twice {
        let mut spool = open(directory, 1);
        let core = start(spool.core_writers().remove(0), driver);
        let (seed, mut follower) = spool.relay_side();
        let relay = start(seed, driver);
        let mut spill = core.spill().await.expect("a file");
        spill.write(TEXT.to_vec()).await.0.expect("written");
        let mut envelope = envelope("ben@example.edu");
        spill.finish().await.expect("durable").push_to(&mut envelope);
        let id = core.begin(0).expect("room");
        core.commit(id, &envelope, b"").await.expect("durable");
        envelope.push(Tag::Survivor, b"");
        relay.commit_copy(id, &envelope, b"").await.expect("durable");
        let places = entries(&mut follower);
        let [(first, original), (second, survivor)] = places[..] else { panic!("{places:?}") };
        assert_eq!(first, second);
        Twice { spool, core, follower, original, survivor }
    }

    /// Writes other text into as many spill files as there are and one more.
    async fn overwrite_what_is_free(&self) {
        let mut all = Vec::new();
        for _ in 0..3 {
            let mut spill = self.core.spill().await.expect("a file");
            spill.write(vec![b'x'; TEXT.len()]).await.0.expect("written");
            all.push(spill);
        }
    }
}

#[test]
fn the_file_of_a_message_that_was_moved_is_its_until_it_is_done() {
    on_both(async |driver, directory| {
        for old_goes in [true, false] {
            let directory = tempfile::tempdir_in(directory.path()).expect("a directory");
            let mut twice = Twice::new(driver, &directory).await;
            let (old, new) = match old_goes {
                true => (twice.original, twice.survivor),
                false => (twice.survivor, twice.original),
            };
            twice.follower.superseded(old, new);
            twice.overwrite_what_is_free().await;
            assert_eq!(memory(twice.follower.read(new).expect("readable")), TEXT);
            // Then it is free, once.
            twice.follower.settled(new);
            twice.overwrite_what_is_free().await;
            let listed = std::fs::read_dir(directory.path().join("spill")).expect("listed");
            let texts: BTreeSet<Vec<u8>> = listed.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
            assert!(!texts.contains(TEXT));
            drop((twice.core, twice.follower, twice.spool));
        }
    });
}

/// What is done was done at the survivor's place; the original is read afterwards, as a start may find them.
#[test]
fn the_file_of_a_message_that_is_done_is_free_when_its_other_copy_is_read() {
    on_both(async |driver, directory| {
        let mut twice = Twice::new(driver, &directory).await;
        twice.follower.settled(twice.survivor);
        twice.follower.superseded(twice.original, twice.survivor);
        twice.overwrite_what_is_free().await;
        let listed = std::fs::read_dir(directory.path().join("spill")).expect("listed");
        assert!(!listed.into_iter().any(|file| std::fs::read(file.unwrap().path()).unwrap() == TEXT));
    });
}

/// The survivor says what was done before it, so it must be there as long as the original can be read.
#[test]
fn a_survivor_is_kept_until_its_original_is_erased() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 1);
        let core = start(spool.core_writers().remove(0), driver);
        let (seed, mut follower) = spool.relay_side();
        let relay = start(seed, driver);
        let id = commit(&core, b"moved").await.expect("durable");
        relay.commit_copy(id, &envelope("ben@example.edu"), b"moved").await.expect("durable");
        let places: Vec<Location> = entries(&mut follower).iter().map(|(_, at)| *at).collect();
        follower.superseded(places[0], places[1]);
        follower.settled(places[1]);
        // Both segments are left: the relay's first, the core's only afterwards.
        let fill = async |writer: &Writer, follower: &mut Follower| {
            for _ in 0..8 {
                commit(writer, &[b'x'; 30_000]).await.expect("durable");
            }
            entries(follower).iter().for_each(|(_, at)| follower.settled(*at));
        };
        let holds = |word: &[u8]| {
            // Spares are made and removed meanwhile.
            let texts = segment_files(&directory).into_iter().filter_map(|path| std::fs::read(path).ok());
            texts.filter(|text| text.get(12) == Some(&2) && memchr::memmem::find(text, word).is_some()).count()
        };
        fill(&relay, &mut follower).await;
        // Time to do it wrong: segments are erased by another thread.
        for _ in 0..20 {
            entries(&mut follower);
            monoio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(holds(b"moved"), 2, "the original can still be read");
        fill(&core, &mut follower).await;
        for _ in 0..100 {
            entries(&mut follower);
            if holds(b"moved") == 0 {
                return;
            }
            monoio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("neither is erased");
    });
}
