//! Claim: what a core counts costs nanoseconds, less than a locked addition, and a message's share of it less than half a
//! microsecond, so that nobody needs to turn it off.
//!
//! `count`: one addition; naive is an atomic that every core may write. `histogram`: one value; naive is a histogram behind a
//! lock, as libraries have it. `message`: all that is counted of an accepted message, clock reads included. `page`: what a
//! scrape costs, on a thread of its own, with 32 cores and 4 listeners.
//!
//! Measured on two shared cores with much other work on them, so trust the ratios: a count 0.86 ns (naive 17), a value in a
//! histogram 6.1 ns (naive 39), an accepted message 258 ns, nearly all of it three reads of the clock; 117 µs for a page with
//! one histogram of each of four listeners, summed over 32 cores.

mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use penstock::metrics::histogram::{DISK_US, Histogram};
use penstock::metrics::{Counter, OfListener, Owner, Page, Set, Total};
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Times as a disk gives them, microseconds.
fn times() -> Vec<u64> {
    let mut state = 7u32;
    let time = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        40 + u64::from(state >> 20)
    };
    (0..1024).map(time).collect()
}

fn counts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("count");
    let shared = AtomicU64::new(0);
    group.bench_function("naive", |b| b.iter(|| shared.fetch_add(black_box(1), Ordering::Relaxed)));
    let counter = Counter::default();
    group.bench_function("counter", |b| b.iter(|| counter.add(black_box(1))));
    group.finish();
}

fn histograms(criterion: &mut Criterion) {
    let times = times();
    let (locked, plain) =
        (Mutex::new(hdrhistogram::Histogram::<u64>::new(2).expect("two digits")), Histogram::new(&DISK_US));
    let mut group = criterion.benchmark_group("histogram");
    let mut next = times.iter().cycle();
    group.bench_function("naive", |b| {
        b.iter(|| locked.lock().expect("not poisoned").record(*next.next().expect("endless")));
    });
    group.bench_function("histogram", |b| b.iter(|| plain.count(*next.next().expect("endless"))));
    group.finish();
    // The same answer: how many are at most 1,024 µs.
    let mut total = Total::new(&DISK_US);
    let known = Histogram::new(&DISK_US);
    times.iter().for_each(|time| known.count(*time));
    total.add(&known);
    let below = total.cumulative().find(|(bound, _)| *bound == 0.001_024).expect("a bound").1;
    assert_eq!(below, times.iter().filter(|time| **time <= 1024).count() as u64);
}

/// What the driver of a connection does for an accepted message.
fn count_message(set: &Set, listener: &OfListener) {
    let began = Instant::now();
    let received = Instant::now();
    let reception = received - began;
    set.messages_accepted.add(1);
    set.bytes_accepted.add(4096);
    set.message_bytes.count(4096);
    listener.messages.add(250);
    listener.bytes.add(4096);
    listener.reception.count_time(reception);
    listener.commit_wait.count_time(received.elapsed());
}

fn messages(criterion: &mut Criterion) {
    let set = Set::new(Owner::Core(0), 4);
    let mut group = criterion.benchmark_group("message");
    group.bench_function("counted", |b| b.iter(|| count_message(&set, black_box(&set.listeners[1]))));
    group.finish();
    assert_eq!(set.messages_accepted.get(), set.listeners[1].messages.get(250));
}

fn pages(criterion: &mut Criterion) {
    let sets: Vec<Set> = (0..32).map(|core| Set::new(Owner::Core(core), 4)).collect();
    let page = || {
        let mut page = Page::default();
        let mut family = page.family("penstock_commit_wait_seconds");
        for at in 0..4 {
            let mut total = Total::new(&DISK_US);
            sets.iter().for_each(|set| total.add(&set.listeners[at].commit_wait));
            family.histogram(&[&at], &total);
        }
        page.into_text()
    };
    sets[3].listeners[2].commit_wait.count_time(Duration::from_micros(100));
    assert!(page().contains("penstock_commit_wait_seconds_count{listener=\"2\"} 1\n"));
    let mut group = criterion.benchmark_group("page");
    group.bench_function("histograms of 4 listeners", |b| b.iter(page));
    group.finish();
}

criterion_group! { name = benches; config = support::settings(); targets = counts, histograms, messages, pages }
criterion_main!(benches);
