//! Spool and relay together over a disk that crashes: the promises, whatever happens. Seeded, one thread, no I/O.
//!
//! ```text
//!  clients --commit--> Writer per core --+                  +--> a next server: takes, puts off, refuses, breaks off
//!                                        v                  |
//!                         simulated disk, files thread      |        what it took ------+
//!                                        |                  |                           v
//!                                        +--> Follower --> Worker (Queue, Records)    Ledger: what was promised
//! ```
//!
//! It is the code that runs in production, from `Spool::open` to the worker's moves; simulated are the disk
//! (spool/simulated/), the runtime, the clock, clients, next servers and an operator. A run is several lives of a process,
//! each with a number of cores of its own, and ended in good order, by a kill or by a power cut at any operation of the
//! disk; in some runs operations fail as well. The last life is without harm and delivers all that is there.
//!
//! After each start: what was acknowledged and is not done is queued, whole; what was not is whole or absent. At any
//! time: what is delivered is durable, whole, was not refused, is not recorded as done, and neither deleted nor on hold by
//! an order that was answered before the last start. At the end: every acknowledged message was delivered to each
//! recipient, or its sender told, or it was ordered to be deleted; nothing is left on the disk that nobody frees.
//!
//! A failing run prints its seed. `PENSTOCK_SIM_SEED=n` repeats it, with the log; `PENSTOCK_SIM_SEEDS=n` says how many
//! runs there are, and `PENSTOCK_SIM_FIRST=n` from which seed on.

mod client;
mod flips;
mod ledger;
mod operator;
mod process;
mod run;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs if nobody says how many.
const SEEDS: u64 = 2000;
/// Threads that run them.
const THREADS: usize = 2;
/// No more are run after so many have failed.
const FAILURES_MAX: usize = 10;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: a number is needed")))
}

// covers: 6.3 6.9 12.6
#[test]
fn what_is_acknowledged_is_delivered_whatever_happens() {
    if let Some(seed) = number("PENSTOCK_SIM_SEED") {
        println!("{:?}", run::run(seed));
        return;
    }
    let first = number("PENSTOCK_SIM_FIRST").unwrap_or(1);
    let end = first + number("PENSTOCK_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    let work = || {
        crate::log::QUIET.set(true);
        let mut total = run::Tally::default();
        while failed.lock().is_ok_and(|failed| failed.len() < FAILURES_MAX) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                break;
            }
            match std::panic::catch_unwind(|| run::run(seed)) {
                Ok(tally) => total.add(&tally),
                Err(_) => {
                    eprintln!("seed {seed} fails");
                    failed.lock().expect("nobody panics with it").push(seed);
                }
            }
        }
        total
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let totals: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("its panics are caught")).collect()
    });
    let mut total = run::Tally::default();
    totals.iter().for_each(|one| total.add(one));
    println!("seeds {first} .. {}: {total:?}", end - 1);
    let failed = failed.into_inner().expect("nobody panicked with it");
    assert!(failed.is_empty(), "seeds {failed:?} fail; PENSTOCK_SIM_SEED={} repeats one with its log", failed[0]);
    total.is_worth_something();
}

#[test]
fn a_seed_says_the_same_each_time() {
    crate::log::QUIET.set(true);
    for seed in [3, 17, 204] {
        assert_eq!(run::run(seed), run::run(seed), "seed {seed}");
    }
}
