//! Claim: a durable write into a file that is already written, opened with O_DSYNC, costs less than one that grows a file or
//! fills an allocated one; and the spool's group commit costs far less than a file per message.
//!
//! `cargo bench --bench durable_write [-- WORD]`; with a word only rows that contain it. Each row is messages of 4 KiB in
//! groups of 1, 8, 64 and 512 per durable write: messages per second, median and 99th percentile of a write in microseconds,
//! CPU microseconds per message (all threads of the process; the kernel's own threads are not counted), and the least and
//! most of the rounds' medians. What was written is read back and compared. Rounds are interleaved, so that a noisy
//! neighbour hits all rows alike; the median round counts.

#[path = "support/spooled.rs"]
mod spooled;

use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use nix::libc::{O_DIRECT, O_DSYNC};
use nix::sys::resource::{UsageWho, getrusage};
use penstock::net::Driver;
use penstock::smtp::envelope::{Envelope, Tag};
use penstock::spool::{Options, Spool, Writer};
use rustix::io::{ReadWriteFlags, pwritev2};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

const MESSAGE: usize = 4096;
const GROUPS: [usize; 4] = [1, 8, 64, 512];
const FILE_BYTES: u64 = 64 << 20;
const ROUNDS: usize = 5;
/// Linux 6.17: allocated and zeroed by the device, not marked unwritten. Not in the nix crate yet.
const FALLOC_FL_WRITE_ZEROES: i32 = 0x80;

/// How the file is before the first write.
#[derive(Clone, Copy, Debug)]
enum Space {
    Growing,
    Fallocated,
    WriteZeroes,
    /// Through the page cache, which still has it.
    Written,
    /// The page cache has none of it: as the spool's segments are, whose zeros are written around it.
    Forgotten,
}

/// How a write is made durable.
#[derive(Clone, Copy, Debug)]
enum How {
    Fdatasync,
    Dsync,
    /// The flag is given with each write, not with the file.
    RwfDsync,
    /// Around the page cache, from an aligned buffer.
    DirectDsync,
    /// The same with the sync as a call of its own.
    DirectFdatasync,
}

/// What one round of a row measured.
#[derive(Clone, Debug, Default)]
struct Round {
    writes_us: Vec<f64>,
    seconds: f64,
    cpu_us: f64,
    messages: usize,
}

fn main() {
    let filter = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    let beside = std::env::current_exe().expect("a name");
    let directory = tempfile::tempdir_in(beside.parent().expect("a directory")).expect("a directory");
    println!("{:42} {:>5} {:>9} {:>9} {:>9} {:>9}  p50 of rounds", "", "group", "msgs/s", "p50 us", "p99 us", "cpu us");
    for group in GROUPS {
        let rows = rows(group).into_iter().filter(|(name, _)| name.contains(&filter)).collect::<Vec<_>>();
        let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); rows.len()];
        for _ in 0..ROUNDS {
            for (row, (_, run)) in rows.iter().enumerate() {
                rounds[row].extend(run(directory.path()));
            }
        }
        for ((name, _), rounds) in rows.iter().zip(rounds) {
            report(name, group, rounds);
        }
        println!();
    }
    if "preparing".contains(&filter) {
        preparing(directory.path());
    }
}

type Row = (String, Box<dyn Fn(&Path) -> Option<Round>>);

fn rows(group: usize) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for space in [Space::Growing, Space::Fallocated, Space::WriteZeroes, Space::Written, Space::Forgotten] {
        let all = [How::Fdatasync, How::Dsync, How::DirectDsync, How::RwfDsync, How::DirectFdatasync];
        let is_ready = matches!(space, Space::Written | Space::Forgotten);
        for how in all.into_iter().take(if is_ready { 5 } else { 3 }) {
            let name = format!("{space:?} {how:?}");
            rows.push((name, Box::new(move |directory| write_groups(directory, space, how, group))));
        }
    }
    rows.push(("naive: a file per message".to_string(), Box::new(move |at| Some(file_per_message(at, group)))));
    for driver in [Driver::IoUring, Driver::Epoll] {
        let name = format!("spool, commits at once, {driver:?}");
        rows.push((name, Box::new(move |directory| Some(through_the_spool(directory, driver, group)))));
    }
    rows
}

/// As many writes as one file holds, but no more than are needed for a median.
fn writes_of(group: usize) -> usize {
    (FILE_BYTES as usize / (group * MESSAGE)).min(400)
}

fn write_groups(directory: &Path, space: Space, how: How, group: usize) -> Option<Round> {
    let path = directory.join("file");
    let _ = std::fs::remove_file(&path);
    prepare(&path, space).ok()?;
    let flags = match how {
        How::Fdatasync | How::RwfDsync => 0,
        How::Dsync => O_DSYNC,
        How::DirectDsync => O_DIRECT | O_DSYNC,
        How::DirectFdatasync => O_DIRECT,
    };
    let file = File::options().read(true).write(true).custom_flags(flags).open(&path).ok()?;
    let length = group * MESSAGE;
    let mut memory = vec![0; length + 4096];
    let aligned = memory.as_ptr().align_offset(4096);
    let buffer = &mut memory[aligned..aligned + length];
    let mut round = Round { messages: group * writes_of(group), ..Round::default() };
    let (start, cpu) = (Instant::now(), cpu_us());
    for write in 0..writes_of(group) {
        buffer.fill(write as u8 | 1);
        let before = Instant::now();
        let at = (write * length) as u64;
        match how {
            How::RwfDsync => {
                let written = pwritev2(&file, &[IoSlice::new(buffer)], at, ReadWriteFlags::DSYNC).ok()?;
                assert_eq!(written, length, "a short write");
            }
            _ => file.write_all_at(buffer, at).ok()?,
        }
        if matches!(how, How::Fdatasync | How::DirectFdatasync) {
            file.sync_data().ok()?;
        }
        round.writes_us.push(before.elapsed().as_secs_f64() * 1e6);
    }
    round.seconds = start.elapsed().as_secs_f64();
    round.cpu_us = cpu_us() - cpu;
    let back = std::fs::read(&path).expect("readable");
    for write in 0..writes_of(group) {
        assert!(back[write * length..][..length].iter().all(|&octet| octet == write as u8 | 1));
    }
    Some(round)
}

fn prepare(path: &Path, space: Space) -> io::Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    let flags = match space {
        Space::Growing => return Ok(file),
        Space::Fallocated | Space::Written | Space::Forgotten => FallocateFlags::empty(),
        Space::WriteZeroes => FallocateFlags::from_bits_retain(FALLOC_FL_WRITE_ZEROES),
    };
    fallocate(file.as_fd(), flags, 0, FILE_BYTES as i64)?;
    if matches!(space, Space::Written | Space::Forgotten) {
        let zeros = vec![0; 1 << 20];
        (0..FILE_BYTES >> 20).try_for_each(|piece| file.write_all_at(&zeros, piece << 20))?;
    }
    file.sync_all()?;
    if matches!(space, Space::Forgotten) {
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(file)
}

/// What a spool of files does at least: create, write, fsync, and fsync of the directory once per group.
fn file_per_message(directory: &Path, group: usize) -> Round {
    let directory = directory.join("files");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir(&directory).expect("made");
    let body = [b'x'; MESSAGE];
    let groups = (256 / group).max(4);
    let mut round = Round { messages: groups * group, ..Round::default() };
    let (start, cpu) = (Instant::now(), cpu_us());
    for number in 0..groups {
        let before = Instant::now();
        for message in 0..group {
            let file = File::create_new(directory.join(format!("{number}-{message}"))).expect("made");
            file.write_all_at(&body, 0).expect("written");
            file.sync_data().expect("synced");
        }
        File::open(&directory).and_then(|directory| directory.sync_all()).expect("synced");
        round.writes_us.push(before.elapsed().as_secs_f64() * 1e6);
    }
    round.seconds = start.elapsed().as_secs_f64();
    round.cpu_us = cpu_us() - cpu;
    assert_eq!(std::fs::read_dir(&directory).expect("listed").count(), round.messages);
    round
}

/// `group` sessions that each commit one message after another.
fn through_the_spool(directory: &Path, driver: Driver, group: usize) -> Round {
    let directory = directory.join("spool");
    let _ = std::fs::remove_dir_all(&directory);
    let at = directory.clone();
    let (reserve_bytes, bytes_max, wipe_after_s) = (0, None, 0);
    let options = Options { directory, segment_bytes: FILE_BYTES, writers: 1, reserve_bytes, bytes_max, wipe_after_s };
    let mut spool = Spool::open(options).expect("opens");
    let seed = spool.core_writers().remove(0);
    let per_session = writes_of(group).min(8192 / group);
    let (_seed, mut follower) = spool.relay_side();
    let round = penstock::net::run(driver, None, async move {
        let writer = Writer::start(seed, driver).expect("starts");
        commit_one_by_one(&writer, 3).await;
        spooled::wait_for_spares(&at);
        let (start, cpu, before) = (Instant::now(), cpu_us(), writer.counts());
        let sessions: Vec<_> = (0..group)
            .map(|_| {
                let writer = writer.clone();
                monoio::spawn(async move { commit_one_by_one(&writer, per_session).await })
            })
            .collect();
        let mut round = Round { messages: group * per_session, ..Round::default() };
        for session in sessions {
            round.writes_us.extend(session.await);
        }
        round.seconds = start.elapsed().as_secs_f64();
        round.cpu_us = cpu_us() - cpu;
        let (writes, records) = writer.counts();
        assert_eq!((records - before.1) as usize, round.messages);
        assert!(group < 8 || (writes - before.0) * 2 <= records - before.1, "commits share writes");
        writer.drain().await;
        round
    })
    .expect("a runtime");
    let mut followed = 0;
    while follower.next().is_some() {
        followed += 1;
    }
    assert_eq!(followed, round.messages + 3);
    drop((follower, _seed));
    spool.close();
    round
}

async fn commit_one_by_one(writer: &Writer, messages: usize) -> Vec<f64> {
    let mut envelope = Envelope::default();
    envelope.push(Tag::ReversePath, b"anna@example.edu");
    envelope.push(Tag::Recipient, b"ben@example.edu");
    let body = [b'x'; MESSAGE];
    let mut times = Vec::with_capacity(messages);
    for _ in 0..messages {
        let before = Instant::now();
        let id = writer.begin(0).expect("room");
        writer.commit(id, &envelope, &body).await.expect("durable");
        times.push(before.elapsed().as_secs_f64() * 1e6);
    }
    times
}

/// How long it takes to prepare a spare segment.
fn preparing(directory: &Path) {
    println!("preparing 64 MiB, ms");
    for space in [Space::Fallocated, Space::WriteZeroes, Space::Written] {
        let mut times = Vec::new();
        let mut failed = None;
        for _ in 0..ROUNDS {
            let path = directory.join("file");
            let _ = std::fs::remove_file(&path);
            let start = Instant::now();
            match prepare(&path, space) {
                Ok(_) => times.push(start.elapsed().as_secs_f64() * 1e3),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            None => println!("{:42} {:9.1}", format!("{space:?}"), median(&mut times)),
            Some(error) => println!("{:42} not here: {error}", format!("{space:?}")),
        }
    }
}

fn report(name: &str, group: usize, rounds: Vec<Round>) {
    if rounds.is_empty() {
        println!("{name:42} {group:5}  not here");
        return;
    }
    let each = |of: &dyn Fn(&Round) -> f64| median(&mut rounds.iter().map(of).collect::<Vec<_>>());
    let part = |round: &Round, part: f64| {
        let mut times = round.writes_us.clone();
        times.sort_by(f64::total_cmp);
        times[((times.len() - 1) as f64 * part) as usize]
    };
    let mut medians: Vec<f64> = rounds.iter().map(|round| part(round, 0.5)).collect();
    medians.sort_by(f64::total_cmp);
    println!(
        "{name:42} {group:5} {:9.0} {:9.0} {:9.0} {:9.1}  {:.0}-{:.0}",
        each(&|round| round.messages as f64 / round.seconds),
        each(&|round| part(round, 0.5)),
        each(&|round| part(round, 0.99)),
        each(&|round| round.cpu_us / round.messages as f64),
        medians[0],
        medians[medians.len() - 1],
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// User and system time of this process so far.
fn cpu_us() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("known");
    let us = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1e6 + time.tv_usec() as f64;
    us(usage.user_time()) + us(usage.system_time())
}
