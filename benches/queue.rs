//! Claim: of a million messages each takes less than 200 octets, turns of ten thousand senders included, and no operation
//! costs more than some tens of microseconds on the average, which is far below what a delivery costs. The naive twin of
//! ordered sets, without turns, is ten times faster and larger. One step, the first after a million came in, takes tenths
//! of a second: it orders them.

#[path = "support/naive_queue.rs"]
mod naive;
mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use penstock::relay::queue::{Arrival, Blame, Queue, Settings};
use penstock::smtp::client::{Fate, Reply};
use std::hint::black_box;
use std::time::{Duration, Instant};

const MESSAGES: u64 = 1_000_000;
const SENDERS: u64 = 10_000;
const HOUR_MS: u64 = 3_600_000;

fn arrival(id: u64, release_ms: u64, senders: u64) -> Arrival<[u32; 4]> {
    let (destinations, survivor, small) = (vec![0], false, !id.is_multiple_of(4));
    let sender = (id % senders) as u32;
    Arrival { id: 1 << 44 | id, at: [0, 1, 2, id as u32], release_ms, destinations, survivor, sender, small }
}

fn empty() -> Queue<[u32; 4]> {
    let (retry_first_ms, retry_max_ms, expire_ms, warn_ms) = (60_000, HOUR_MS, 120 * HOUR_MS, Some(4 * HOUR_MS));
    let settings = Settings { retry_first_ms, retry_max_ms, expire_ms, warn_ms, connections_max: 8 };
    let mut queue = Queue::new(settings, [0], 4711);
    queue.caught_up();
    queue
}

/// With a million messages of which none is due before `now`, then all of them.
fn full(senders: u64) -> Queue<[u32; 4]> {
    let mut queue = empty();
    (0..MESSAGES).for_each(|id| drop(queue.add(arrival(id, id, senders))));
    queue
}

/// The same when all of them are due and have their turns, which they get a thousand at a time.
fn ready(senders: u64) -> Queue<[u32; 4]> {
    let mut queue = full(senders);
    give_turns(&mut queue);
    queue
}

/// Returns the longest step.
fn give_turns(queue: &mut Queue<[u32; 4]>) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..MESSAGES / 1000 {
        let begun = Instant::now();
        let delivery = queue.next(0, MESSAGES).expect("due");
        longest = longest.max(begun.elapsed());
        queue.unreachable(&delivery, "down", 0);
    }
    longest
}

fn naive() -> naive::Queue {
    let mut queue = naive::Queue::default();
    (0..MESSAGES).for_each(|id| queue.add(1 << 44 | id, [0, 1, 2, id as u32], id, id + 120 * HOUR_MS));
    queue
}

/// Prints what a million take, and the longest single step: once, as no figure of criterion's is about either.
fn memory() {
    for (what, senders) in [("10,000 senders", SENDERS), ("as many senders", MESSAGES)] {
        let mut kept = None;
        let (mut longest, mut set_back) = (Duration::ZERO, Duration::ZERO);
        let counted = allocation_counter::measure(|| {
            let mut queue = full(senders);
            longest = give_turns(&mut queue);
            let begun = Instant::now();
            queue.set_back(HOUR_MS, MESSAGES);
            set_back = begun.elapsed();
            kept = Some(queue);
        });
        assert_eq!(kept.map(|queue| queue.counts().0), Some(MESSAGES as usize));
        let octets = counted.bytes_current as u64 / MESSAGES;
        println!("a million messages of {what}: {octets} octets each; the longest step took {longest:?}");
        println!("the same, when the clock is set back: {set_back:?}");
        assert!(octets < 200);
    }
    let mut kept = None;
    let counted = allocation_counter::measure(|| kept = Some(naive()));
    assert_eq!(kept.map(|queue| queue.len()), Some(MESSAGES as usize));
    println!("the naive twin: {} octets each", counted.bytes_current as u64 / MESSAGES);
}

fn answer(code: u16) -> Reply {
    Reply { code, text: "4.2.0 try again later".into(), ours: false }
}

fn bench(criterion: &mut Criterion) {
    memory();
    let mut group = criterion.benchmark_group("queue of a million");
    let now = 2 * MESSAGES;

    // One arrives and is settled unsent: a million others are there.
    let mut queue = full(SENDERS);
    let mut id = MESSAGES;
    group.bench_function("add and settle", |b| {
        b.iter(|| {
            id += 1;
            queue.add(arrival(id, now, SENDERS));
            black_box(queue.outcome(1 << 44 | id, 0, [0; 4]))
        });
    });
    assert_eq!(queue.counts().0, MESSAGES as usize);
    let mut twin = naive();
    group.bench_function("add and settle, naive", |b| {
        b.iter(|| {
            id += 1;
            twin.add(1 << 44 | id, [0; 4], now, now + 120 * HOUR_MS);
            twin.settled(1 << 44 | id);
        });
    });

    // One is begun and deferred; time goes on so that another is due.
    let mut queue = ready(SENDERS);
    let mut time = now;
    group.bench_function("next and defer", |b| {
        b.iter(|| {
            time += 1;
            let Some(delivery) = queue.next(0, time) else { return };
            queue.tried(&delivery, vec![Fate::Deferred(answer(450))], Blame::Nobody, "mx", time);
        });
    });
    let mut time = now;
    group.bench_function("next and defer, naive", |b| {
        b.iter(|| {
            time += 1;
            let Some((id, _)) = twin.next(time) else { return };
            twin.deferred(id, time + 60_000 + time.wrapping_mul(0x9e37_79b9) % 10_000);
        });
    });

    // The life of one: it comes, one goes and is recorded.
    let mut queue = ready(SENDERS);
    group.bench_function("add, next, delivered, settled", |b| {
        b.iter(|| {
            id += 1;
            queue.add(arrival(id, now, SENDERS));
            let delivery = queue.next(0, now).expect("due");
            queue.tried(&delivery, vec![Fate::Delivered(answer(250))], Blame::Nobody, "mx", now);
            black_box(queue.outcome(delivery.id, 0, [0; 4]))
        });
    });
    assert_eq!(queue.counts().0, MESSAGES as usize);
    let mut twin = naive();
    group.bench_function("add, next, delivered, settled, naive", |b| {
        b.iter(|| {
            id += 1;
            twin.add(1 << 44 | id, [0; 4], now, now + 120 * HOUR_MS);
            let (next, _) = twin.next(now).expect("due");
            twin.settled(next);
        });
    });
    assert_eq!(twin.len(), MESSAGES as usize);
    group.bench_function("wake_ms", |b| b.iter(|| black_box(queue.wake_ms())));
    group.finish();
}

criterion_group! { name = benches; config = support::settings(); targets = bench }
criterion_main!(benches);
