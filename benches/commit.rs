//! Claim: what the spool's writer adds to a durable write of the same octets is a few microseconds of processor time a
//! message, and at groups of 64 and more it is as fast as a plain pwrite and fdatasync into a file that was written before.
//!
//! `cargo bench --bench commit [-- WORD]`; with a word only rows that contain it. Messages of 4 KiB with the envelope of an
//! authenticated session, in groups of 1, 8, 64 and 512 that are committed at once and waited for together. Messages per
//! second, median and 99th percentile of a group in microseconds, CPU microseconds per message (all threads of the
//! process, the ring's workers too). Rounds are interleaved, so that a noisy neighbour hits all rows alike; the median round
//! counts, and the least and most messages per second of all rounds stand behind it. What was written is read back.

#[path = "support/spooled.rs"]
mod spooled;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc::O_DSYNC;
use nix::sys::resource::{UsageWho, getrusage};
use penstock::net::Driver;
use penstock::smtp::envelope::Envelope;
use penstock::spool::{CommitError, GroupCommit, QueueId, Spool, Writer, examine};
use spooled::{SEGMENT_BYTES, envelope, spread, wait_for_spares};
use std::fs::File;
use std::future::poll_fn;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

const MESSAGE: usize = 4096;
const GROUPS: [usize; 4] = [1, 8, 64, 512];
const ROUNDS: usize = 5;
/// Kind of a record with recipients: spool/record.rs.
const KIND_MESSAGE: u8 = 1;

/// What one round of a row measured.
#[derive(Default)]
struct Round {
    groups_us: Vec<f64>,
    seconds: f64,
    cpu_us: f64,
    messages: usize,
}

type Row = (&'static str, fn(&Path, usize) -> Round);

const ROWS: [Row; 6] = [
    ("append only, no write", |_, group| append_only(group)),
    ("pwrite + fdatasync, growing file", |at, group| plainly(at, group, false, false)),
    ("pwrite + fdatasync, written before", |at, group| plainly(at, group, true, false)),
    ("pwrite with O_DSYNC, written before", |at, group| plainly(at, group, true, true)),
    ("Writer::commit, IoUring", |at, group| through_the_writer(at, group, Driver::IoUring)),
    ("Writer::commit, Epoll", |at, group| through_the_writer(at, group, Driver::Epoll)),
];

fn main() {
    let filter = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    let rounds = if std::env::args().any(|argument| argument == "--bench") { ROUNDS } else { 1 };
    let beside = std::env::current_exe().expect("a name");
    let directory = tempfile::tempdir_in(beside.parent().expect("a directory")).expect("a directory");
    println!("{:37} {:>5} {:>9} {:>17} {:>8} {:>8} {:>7}", "", "group", "msgs/s", "", "p50 us", "p99 us", "cpu us");
    for group in GROUPS {
        let rows: Vec<Row> = ROWS.into_iter().filter(|(name, _)| name.contains(&filter)).collect();
        let mut measured: Vec<Vec<Round>> = rows.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for ((_, run), measured) in rows.iter().zip(&mut measured) {
                measured.push(run(directory.path(), group));
            }
        }
        rows.iter().zip(measured).for_each(|((name, _), rounds)| report(name, group, &rounds));
        println!();
    }
}

/// No more than fit into one segment, and no more than a median needs.
fn writes_of(group: usize) -> usize {
    ((SEGMENT_BYTES as usize - 8192) / group_bytes(group)).min(400)
}

/// Octets of a group as the spool writes it.
fn group_bytes(group: usize) -> usize {
    let fields = one().as_bytes().len();
    (group * (64 + fields + MESSAGE).next_multiple_of(8)).next_multiple_of(4096)
}

fn one() -> Envelope {
    envelope(7, "ben@example.org")
}

/// Into memory: copies and checksums.
fn append_only(group: usize) -> Round {
    let (envelope, body) = (one(), [b'x'; MESSAGE]);
    timed(group, |_| {
        let mut core = GroupCommit::new(SEGMENT_BYTES as usize);
        for id in 0..group as u64 {
            core.append(KIND_MESSAGE, QueueId(id), envelope.as_bytes(), &body).expect("room");
        }
        assert_eq!(core.finished(), 0);
    })
}

/// The same octets with plain calls.
fn plainly(directory: &Path, group: usize, written: bool, dsync: bool) -> Round {
    let path = directory.join("file");
    let _ = std::fs::remove_file(&path);
    let file = File::create_new(&path).expect("made");
    if written {
        let zeros = vec![0; 1 << 20];
        (0..SEGMENT_BYTES >> 20).try_for_each(|piece| file.write_all_at(&zeros, piece << 20)).expect("written");
    }
    file.sync_all().expect("synced");
    // As the spool's segments are, whose zeros are written around the page cache.
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("forgets");
    let flags = if dsync { O_DSYNC } else { 0 };
    let file = File::options().write(true).custom_flags(flags).open(&path).expect("opens");
    let mut bytes = vec![0; group_bytes(group)];
    let round = timed(group, |number| {
        bytes.fill(number as u8 | 1);
        file.write_all_at(&bytes, (number * group_bytes(group)) as u64).expect("written");
        if !dsync {
            file.sync_data().expect("synced");
        }
    });
    let back = std::fs::read(&path).expect("readable");
    let pieces = back.chunks(group_bytes(group)).take(writes_of(group)).enumerate();
    pieces.for_each(|(number, piece)| assert!(piece.iter().all(|&octet| octet == number as u8 | 1)));
    round
}

fn timed(group: usize, mut write: impl FnMut(usize)) -> Round {
    let mut round = Round { messages: group * writes_of(group), ..Round::default() };
    let (start, cpu) = (Instant::now(), cpu_us());
    for number in 0..writes_of(group) {
        let before = Instant::now();
        write(number);
        round.groups_us.push(before.elapsed().as_secs_f64() * 1e6);
    }
    round.seconds = start.elapsed().as_secs_f64();
    round.cpu_us = cpu_us() - cpu;
    round
}

fn through_the_writer(directory: &Path, group: usize, driver: Driver) -> Round {
    let directory = directory.join("spool");
    let _ = std::fs::remove_dir_all(&directory);
    let mut spool = Spool::open(spooled::options(&directory)).expect("opens");
    let seed = spool.core_writers().remove(0);
    let round = penstock::net::run(driver, None, async {
        let writer = Writer::start(seed, driver).expect("starts");
        // The first begins the segment.
        commit_together(&writer, 1).await;
        wait_for_spares(&directory);
        let mut round = Round { messages: group * writes_of(group), ..Round::default() };
        let (start, cpu, before) = (Instant::now(), cpu_us(), writer.counts());
        for _ in 0..writes_of(group) {
            let before = Instant::now();
            commit_together(&writer, group).await;
            round.groups_us.push(before.elapsed().as_secs_f64() * 1e6);
        }
        round.seconds = start.elapsed().as_secs_f64();
        round.cpu_us = cpu_us() - cpu;
        let (writes, records) = writer.counts();
        assert_eq!((writes - before.0) as usize, writes_of(group), "a write a group");
        assert_eq!((records - before.1) as usize, round.messages);
        writer.close().await;
        round
    });
    spool.close();
    let mut examined = examine(&directory).expect("nobody else is there");
    let found = std::iter::from_fn(|| examined.follower.next().map(|entry| entry.content_bytes));
    assert_eq!(found.filter(|&bytes| bytes == MESSAGE).count(), round.as_ref().expect("a runtime").messages + 1);
    round.expect("a runtime")
}

type Committing<'a> = Pin<Box<dyn Future<Output = Result<(), CommitError>> + 'a>>;

/// All are appended before the first is written.
async fn commit_together(writer: &Writer, group: usize) {
    let (envelope, body) = (one(), [b'x'; MESSAGE]);
    let commit = |_| -> Committing {
        let id = writer.begin(0).expect("room");
        Box::pin(writer.commit(id, &envelope, &body))
    };
    let mut waiting: Vec<Committing> = (0..group).map(commit).collect();
    poll_fn(|context| {
        waiting.retain_mut(|one| match one.as_mut().poll(context) {
            Poll::Ready(outcome) => outcome.is_err(),
            Poll::Pending => true,
        });
        if waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn report(name: &str, group: usize, rounds: &[Round]) {
    let each = |of: &dyn Fn(&Round) -> f64| spread(&rounds.iter().map(of).collect::<Vec<_>>());
    let part = |round: &Round, part: f64| {
        let mut times = round.groups_us.clone();
        times.sort_by(f64::total_cmp);
        times[((times.len() - 1) as f64 * part) as usize]
    };
    let [least, median, most] = each(&|round| round.messages as f64 / round.seconds);
    println!(
        "{name:37} {group:5} {median:9.0} {:>17} {:8.0} {:8.0} {:7.1}",
        format!("({least:.0}-{most:.0})"),
        each(&|round| part(round, 0.5))[1],
        each(&|round| part(round, 0.99))[1],
        each(&|round| round.cpu_us / round.messages as f64)[1],
    );
}

/// User and system time of this process so far.
fn cpu_us() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("known");
    let us = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1e6 + time.tv_usec() as f64;
    us(usage.user_time()) + us(usage.system_time())
}
