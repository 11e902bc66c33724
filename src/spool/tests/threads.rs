//! Many threads at once.

use super::*;

/// Cores and relay on threads of their own, small segments, random sizes and settling in any order.
#[test]
fn threads_write_follow_settle_and_recycle_at_once() {
    for driver in [Driver::IoUring, Driver::Epoll] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut spool = open(&directory, 2);
        let cores: Vec<_> = spool.core_writers().into_iter().map(|seed| spawn_core(seed, driver)).collect();
        let (_seed, mut follower) = spool.relay_side();
        let mut seen = HashSet::new();
        let mut live = Vec::new();
        let on_relay = async {
            loop {
                while let Some(entry) = follower.next() {
                    assert!(seen.insert(entry.id), "{} came twice", entry.id);
                    live.push((entry.id, entry.at));
                }
                while live.len() > 20 {
                    let (id, at) = live.swap_remove(id_hash(seen.len() as u64) as usize % live.len());
                    assert_eq!(memory(follower.read(at).expect("readable")), body(id));
                    follower.settled(at);
                }
                if seen.len() == 2 * PER_CORE {
                    return;
                }
                follower.changed().await;
            }
        };
        let runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().enable_timer().build();
        runtime.expect("a ring").block_on(on_relay);
        let sent: HashSet<QueueId> = cores.into_iter().flat_map(|core| core.join().expect("no panic")).collect();
        assert_eq!(seen, sent);
        drop((follower, _seed, spool));
        assert!(segment_files(&directory).len() < 30, "{}", segment_files(&directory).len());

        let mut spool = open(&directory, 1);
        let there: HashMap<QueueId, Location> = entries(&mut spool.relay_side().1).into_iter().collect();
        for (id, at) in live {
            assert_eq!(there.get(&id), Some(&at), "{id} is gone");
        }
    }
}

const PER_CORE: usize = 3000;

fn spawn_core(seed: WriterSeed, driver: Driver) -> std::thread::JoinHandle<Vec<QueueId>> {
    std::thread::spawn(move || {
        let sessions = async move {
            let writer = start(seed, driver);
            let tasks: Vec<_> = (0..10).map(|_| monoio::spawn(session(writer.clone()))).collect();
            let mut sent = Vec::new();
            for task in tasks {
                sent.extend(task.await);
            }
            writer.drain().await;
            sent
        };
        match driver {
            Driver::IoUring => {
                let runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().enable_timer().build();
                runtime.expect("a ring").block_on(sessions)
            }
            Driver::Epoll => {
                let runtime = monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().enable_timer().build();
                runtime.expect("epoll").block_on(sessions)
            }
        }
    })
}

async fn session(writer: Writer) -> Vec<QueueId> {
    let mut sent = Vec::new();
    for _ in 0..PER_CORE / 10 {
        let id = writer.begin(0).expect("room");
        writer.commit(id, &envelope("ben@example.edu"), &body(id)).await.expect("durable");
        sent.push(id);
    }
    sent
}

fn body(id: QueueId) -> Vec<u8> {
    vec![id.0 as u8; (id_hash(id.0) % 6000) as usize]
}

fn id_hash(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}
