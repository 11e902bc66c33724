//! `penstock-loadgen`: load for a mail-submission server, and a server that takes everything.
//!
//! ```text
//!  run:  workload --> worker (smtp::Client, net) --> the server        sink:  a client --> smtp::Session, net --> counts
//!                        '--> report, ledger                                                   '--> ledger
//! ```
//!
//! | file        | what it is                                                      |
//! |-------------|-----------------------------------------------------------------|
//! | `options`   | the command line, checked                                       |
//! | `workload`  | the messages: pure, from a seed                                 |
//! | `worker`    | drives the library's client: threads, connections, time         |
//! | `report`    | counters, failures, percentiles, as text or JSON                |
//! | `ledger`    | one line for each message, to be held against what arrived      |
//! | `sink`      | drives the library's server side, and forgets what came         |
//!
//! No protocol here: both sides speak through [`penstock::smtp`]. Exit status: 0; 1 when nothing was accepted (with
//! `--strict`: when anything failed) or the job cannot be done; 2 for a mistake on the command line.

mod ledger;
mod options;
mod report;
mod sink;
mod worker;
mod workload;

use clap::Parser;
use ledger::Ledger;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::time::TimeVal;
use options::{Io, Options, Run, Side, Sink};
use penstock::clock::now_ms;
use penstock::net::{Driver, probe_io_uring};
use report::Report;
use rustls::pki_types::ServerName;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use worker::Job;
use workload::{Plan, Workload};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Descriptors that are needed besides connections.
const SPARE_DESCRIPTORS: u64 = 64;

fn main() -> ExitCode {
    let ended = match Options::parse().side {
        Side::Run(run) => send(*run),
        Side::Sink(sink) => take(sink),
    };
    ended.unwrap_or_else(|error| {
        complain(&format!("penstock-loadgen: {error}"));
        ExitCode::FAILURE
    })
}

/// Prints `text`. False: it did not get there, because nobody reads (`| head`) or the disk is full.
fn say(text: &str) -> bool {
    std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()).is_ok()
}

/// A line on standard error, where there is nobody left to tell if nobody reads.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// `run`
fn send(run: Run) -> Result<ExitCode, String> {
    run.check()?;
    raise_descriptors(u64::from(run.connections))?;
    let driver = driver(run.io)?;
    let threads = run.threads.unwrap_or_else(processors).min(run.connections);
    let (json, strict) = (run.json, run.strict);
    let seed = run.seed.unwrap_or_else(|| now_ms().wrapping_mul(1 << 20) ^ u64::from(std::process::id()));
    let job = Arc::new(job(run, seed)?);
    on_signal(job.clone())?;
    let begun = (Instant::now(), cpu());
    let seen = worker::run(&job, driver, threads)?;
    let (elapsed, after) = (begun.0.elapsed(), cpu());
    let cpu = (after.0.saturating_sub(begun.1.0), after.1.saturating_sub(begun.1.1));
    let report = Report { seen, elapsed, cpu, seed, driver: name(driver), threads };
    let said = say(&if json { report.json() } else { report.text() });
    Ok(if said && report.is_success(strict) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `sink`
fn take(options: Sink) -> Result<ExitCode, String> {
    let signals = block_signals()?;
    raise_descriptors(SPARE_DESCRIPTORS)?;
    let driver = driver(options.io)?;
    let threads = options.threads.unwrap_or_else(processors);
    let (address, counts) = sink::start(options, driver, threads)?;
    // Whoever does not read it knows the address already.
    say(&format!("listening on {address} ({}, threads {threads})\n", name(driver)));
    signals.wait().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let (user, system) = cpu();
    let own = format!("own CPU {:.2} s user + {:.2} s system", user.as_secs_f64(), system.as_secs_f64());
    Ok(if say(&format!("{counts}; {own}\n")) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn job(run: Run, seed: u64) -> Result<Job, String> {
    let plan = Plan {
        seed,
        size: run.size,
        recipients: run.recipients,
        from: run.from.clone(),
        to: run.to.clone(),
        date_ms: now_ms(),
    };
    // Threads make their own; what is wrong with the plan is said once and before they start.
    Workload::new(plan.clone(), 0)?;
    let (address, server_name) = resolve(&run.address)?;
    Ok(Job {
        address,
        server_name,
        password: run.password()?,
        plan,
        ledger: run.ledger.as_deref().map(Ledger::open).transpose()?,
        budget: AtomicU64::new(run.budget().unwrap_or(u64::MAX)),
        deadline: run.duration.map(|duration| Instant::now() + duration),
        stop: AtomicBool::new(false),
        run,
    })
}

fn resolve(address: &str) -> Result<(SocketAddr, ServerName<'static>), String> {
    let (host, _) = address.rsplit_once(':').ok_or_else(|| format!("--address {address}: expected host:port"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_string()).map_err(|_| format!("--address {address}: no host name"))?;
    let mut found = address.to_socket_addrs().map_err(|error| format!("--address {address}: {error}"))?;
    let first = found.next().ok_or_else(|| format!("--address {address}: the host has no address"))?;
    Ok((first, name))
}

fn driver(io: Io) -> Result<Driver, String> {
    match (io, probe_io_uring()) {
        (Io::Epoll, _) => Ok(Driver::Epoll),
        (_, Ok(())) => Ok(Driver::IoUring),
        (Io::Uring, Err(why)) => Err(format!("io_uring cannot be used here: {why}; try --io epoll")),
        (Io::Auto, Err(why)) => {
            complain(&format!("penstock-loadgen: io_uring cannot be used here: {why}; going on with epoll"));
            Ok(Driver::Epoll)
        }
    }
}

fn name(driver: Driver) -> &'static str {
    match driver {
        Driver::IoUring => "io_uring",
        Driver::Epoll => "epoll",
    }
}

fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1))
}

/// The first signal ends the run in order: messages that are under way get their reply. The second ends it at once.
fn on_signal(job: Arc<Job>) -> Result<(), String> {
    let signals = block_signals()?;
    let main = move || {
        for signal in 0.. {
            if signals.wait().is_err() || signal > 0 {
                std::process::exit(130);
            }
            job.stop.store(true, Ordering::Relaxed);
        }
    };
    let started = std::thread::Builder::new().name("signals".into()).spawn(main);
    started.map(|_| ()).map_err(|error| format!("cannot start a thread: {error}"))
}

/// INT and TERM are waited for from here on; to be called before the first thread starts.
fn block_signals() -> Result<SigSet, String> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals.thread_block().map_err(|error| format!("cannot block signals: {error}"))?;
    Ok(signals)
}

/// As many descriptors as the system allows; refused if that is too few for `connections`.
fn raise_descriptors(connections: u64) -> Result<(), String> {
    let cannot = |error| format!("cannot raise the limit of open files: {error}");
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(cannot)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(cannot)?;
    if most < connections + SPARE_DESCRIPTORS {
        return Err(format!("--connections {connections}: only {most} files may be open here; raise ulimit -n"));
    }
    Ok(())
}

/// Processor time of this process so far: user, system.
fn cpu() -> (Duration, Duration) {
    let time =
        |value: TimeVal| Duration::new(value.tv_sec().unsigned_abs(), value.tv_usec().unsigned_abs() as u32 * 1000);
    getrusage(UsageWho::RUSAGE_SELF)
        .map_or_else(|_| Default::default(), |used| (time(used.user_time()), time(used.system_time())))
}
