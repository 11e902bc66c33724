//! Opening the spool directory: lock, epoch, what is there, what must be prepared.
//!
//! Order: lock; make durable what an earlier run has written; list the segments; raise the epoch durably; say what is missing; prepare a spare per writer; start the files thread. Every error is
//! one line that names the file and says what to do.

use super::disk;
use super::file::{self, ReadFile};
use super::files::Files;
use super::follower::{Follower, Past};
use super::inventory::Inventory;
use super::layout::{Layout, number_in};
use super::pool::SpillPool;
use super::published::Started;
use super::queue_id::{EPOCH_LIMIT, WRITER_LIMIT};
use super::segment::{BLOCK, End, Header, NoHeader, Sealed, State};
use super::shared::{GENERATION_EPOCH_SHIFT, Request, Shared, random_salt};
use super::{Options, Spool, WriterSeed};
use crate::log::{Level, event};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Who looks at a spool that seems to be stopped (examine.rs) has it locked meanwhile: a start waits so often for that.
const LOCK_PAUSES: u32 = 60;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// Pauses before another attempt at headers that cannot be read, for all of them together.
const HEADER_PAUSES: u32 = 10;
const HEADER_PAUSE: Duration = Duration::from_millis(200);
/// The smallest segment that makes sense.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Offsets in units of 8 octets are stored in 32 bits.
const SEGMENT_BYTES_MAX: u64 = 32 << 30;

/// What was found in the segments directory.
#[derive(Debug, Default)]
struct Found {
    free: Vec<Header>,
    active: Vec<Header>,
    /// Of both, and of those that are set aside.
    numbers: BTreeSet<u32>,
    /// Some are set aside, now or by an earlier start.
    has_bad: bool,
    next_number: u32,
}

pub(super) fn open(options: Options) -> Result<Spool, String> {
    check(&options)?;
    let layout = Layout::new(&options.directory);
    make_directories(&layout)?;
    let lock = lock(&layout)?;
    let (mut spool, files) = assemble(options)?;
    spool.lock = Some(lock);
    let thread = std::thread::Builder::new().name("files".to_string()).spawn(move || files.run());
    let no_thread = |error| format!("cannot start the files thread: {error}; raise the limit on threads");
    spool.thread = Some(thread.map_err(no_thread)?);
    Ok(spool)
}

/// All but the lock and the thread.
pub(super) fn assemble(options: Options) -> Result<(Spool, Files), String> {
    let layout = Layout::new(&options.directory);
    // A process that was killed may have left records and headers in the page cache only. Whoever built on them, erased the
    // original of a survivor say, would lose mail if the power went before the kernel wrote them.
    disk::sync_file_system(layout.root())
        .map_err(|error| describe(layout.root(), error, "the disk must be writable"))?;
    let found = list_segments(&layout)?;
    let past = past(&found.active);
    forget_what_failed(&layout, &past)?;
    let (before, epoch) = raise_epoch(&layout, &found)?;
    let missing = say_what_is_missing(&layout, &found, before);
    let inventory = take_stock(&layout, &found, epoch)?;
    // Who puts a segment back finds its name free and its spill files there.
    let next_segment = missing.iter().map(|number| number + 1).fold(found.next_number, u32::max);
    let is_whole = missing.is_empty() && !found.has_bad;
    let spills = list_spills(&layout)?;

    let (requests, inbox) = mpsc::channel();
    let (erased, told) = mpsc::channel();
    let (segment_bytes, writers) = (options.segment_bytes, options.writers + 1);
    let next_spill = spills.last().map_or(1, |last| last + 1);
    let wipe_after = (options.wipe_after_s > 0).then(|| Duration::from_secs(options.wipe_after_s));
    let pool = SpillPool::new(layout.clone(), next_spill, spills.len() as u64, wipe_after.is_some());
    let shared = Arc::new(Shared::new(layout, &options, epoch, writers, requests));
    let mut files = Files::new(shared.clone(), inbox, erased, inventory, next_segment, pool, wipe_after);
    adopt_free(&shared, &mut files, &found.free)?;
    files.prepare(writers).map_err(|error| {
        format!(
            "{}: cannot prepare a segment of {segment_bytes} octets: {error}; make room, or set a smaller segment size",
            shared.layout.segments().display()
        )
    })?;
    files.look_for_room();
    let follower = Follower::new(shared.clone(), past, spills, told, is_whole);
    let seed = |index| WriterSeed { shared: shared.clone(), index };
    let cores = (0..writers - 1).map(seed).collect();
    let relay = Some((seed(writers - 1), follower));
    Ok((Spool { shared, cores, relay, thread: None, lock: None }, files))
}

fn check(options: &Options) -> Result<(), String> {
    let bytes = options.segment_bytes;
    if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) || !bytes.is_multiple_of(BLOCK) {
        return Err(format!(
            "segment size {bytes}: must be a multiple of {BLOCK} octets from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}"
        ));
    }
    if options.writers as u64 + 1 > WRITER_LIMIT {
        return Err(format!("{} writers: at most {} are possible; use fewer cores", options.writers, WRITER_LIMIT - 1));
    }
    Ok(())
}

pub(super) fn make_directories(layout: &Layout) -> Result<(), String> {
    let own = [layout.segments(), layout.spills()];
    for directory in std::iter::once(layout.root()).chain(own.iter().map(PathBuf::as_path)) {
        let made = file::make_directories(directory).and_then(|()| file::sync_directory(directory));
        made.map_err(|error| describe(directory, error, "the spool needs a directory that it may write"))?;
    }
    // Files that an earlier version left may be readable by all. The root, if it was there, is the operator's choice.
    for directory in &own {
        file::make_private(directory).map_err(|error| describe(directory, error, "the spool must own it"))?;
    }
    file::sync_directory(layout.root()).map_err(|error| describe(layout.root(), error, "cannot be synced"))
}

fn lock(layout: &Layout) -> Result<Flock<File>, String> {
    let path = layout.lock();
    let open = disk::private().create(true).truncate(false).write(true).open(&path);
    let mut file = open.map_err(|error| describe(&path, error, "the spool directory must be writable"))?;
    let mut pauses = LOCK_PAUSES;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((again, Errno::EWOULDBLOCK)) if pauses > 0 => (file, pauses) = (again, pauses - 1),
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(format!(
                    "{}: another running instance uses this spool; stop it, or give this one a directory of its own",
                    layout.root().display()
                ));
            }
            Err((_, error)) => return Err(describe(&path, error.into(), "the file system must support flock")),
        }
        disk::pause(LOCK_PAUSE);
    }
}

fn list_segments(layout: &Layout) -> Result<Found, String> {
    let mut found = Found { next_number: 1, ..Found::default() };
    let mut pauses = HEADER_PAUSES;
    for path in entries(&layout.segments())? {
        if number_in(&path, "new").is_some() {
            disk::remove_file(&path).map_err(|error| describe(&path, error, "remove it by hand"))?;
            continue;
        }
        let is_bad = number_in(&path, "bad").is_some();
        let Some(number) = number_in(&path, "seg").or(number_in(&path, "bad")) else { continue };
        let number = u32::try_from(number).map_err(|_| format!("{}: not a name of a segment", path.display()))?;
        found.next_number = found.next_number.max(number + 1);
        found.numbers.insert(number);
        if is_bad {
            found.has_bad = true;
            continue;
        }
        // After a failed write the page cache may say that a segment is free which is active on the disk. Who believed that
        // would forget the outcomes about its messages, and after a power cut they would be delivered again.
        disk::forget_cached(&path, Some(BLOCK))
            .map_err(|error| describe(&path, error, "the spool must be readable"))?;
        match read_header_patiently(&path, number, &mut pauses)? {
            Some(header) if header.state == State::Free => found.free.push(header),
            Some(header) => {
                report_if_cut(&path, &header);
                found.active.push(header);
            }
            None => {
                set_aside(layout, &path, number)?;
                found.has_bad = true;
            }
        }
    }
    found.active.sort_by_key(|header| header.generation);
    Ok(found)
}

/// A segment's header; none: it is damaged. Errors: the file cannot be opened, or a later version wrote it.
pub(super) fn read_header(path: &Path, number: u32) -> Result<Option<Header>, String> {
    header_in(first_block(path), path, number)
}

/// The same, and once more after a pause while there are pauses left: a segment that is set aside waits for an operator, and
/// some errors of a disk pass.
fn read_header_patiently(path: &Path, number: u32, pauses: &mut u32) -> Result<Option<Header>, String> {
    loop {
        let block = first_block(path);
        if matches!(block, Ok(Ok(_))) || *pauses == 0 {
            return header_in(block, path, number);
        }
        *pauses -= 1;
        disk::pause(HEADER_PAUSE);
    }
}

fn header_in(block: FirstBlock, path: &Path, number: u32) -> Result<Option<Header>, String> {
    let block = block.map_err(|error| describe(path, error, "the spool must be readable"))?;
    // A block that the disk cannot read is a damaged one.
    match Header::from_block(&block.unwrap_or_default()) {
        Ok(header) if header.number == number => Ok(Some(header)),
        Ok(_) | Err(NoHeader::Damaged) => Ok(None),
        Err(NoHeader::Version(version)) => Err(format!(
            "{}: written by a later version (format {version}); start that version, or move the spool away",
            path.display()
        )),
    }
}

/// What can be read of a segment's first block. Errors: of opening, and within of reading.
type FirstBlock = io::Result<io::Result<Vec<u8>>>;

fn first_block(path: &Path) -> FirstBlock {
    let file = ReadFile::open(path)?;
    let mut block = vec![0; BLOCK as usize];
    Ok(file.read_at(0, &mut block).map(|read| block[..read].to_vec()))
}

/// Segments never change their size: what stood behind the end of a shorter one is lost, and somebody should know.
fn report_if_cut(path: &Path, header: &Header) {
    let bytes = disk::length(path).unwrap_or(0);
    if bytes < header.size {
        event(Level::Error, "spool segment was cut off, records behind its end are lost")
            .field("file", path.display())
            .field("bytes", bytes)
            .field("expected", header.size)
            .emit();
    }
}

fn set_aside(layout: &Layout, path: &Path, number: u32) -> Result<(), String> {
    let bad = layout.bad_segment(number);
    event(Level::Error, "spool segment with a damaged header set aside").field("file", bad.display()).emit();
    file::rename_durably(path, &bad).map_err(|error| describe(path, error, "move it away by hand"))
}

/// Free segments of the right size are spares; others give their room back.
fn adopt_free(shared: &Shared, files: &mut Files, free: &[Header]) -> Result<(), String> {
    for header in free {
        let path = shared.layout.segment(header.number);
        let result = match header.size == shared.segment_bytes {
            true => files.adopt(header),
            false => files.remove(header.number),
        };
        result.map_err(|error| describe(&path, error, "the spool must be writable"))?;
    }
    Ok(())
}

/// Reads the epoch, raises it and makes that durable; returns both. What the segments say counts too, in case the file was lost.
/// A new spool begins anywhere in the first half of all epochs: two that follow each other under one name, as after a
/// reinstallation, or stand beside each other, would else give the same queue ids to different messages.
fn raise_epoch(layout: &Layout, found: &Found) -> Result<(u64, u64), String> {
    let path = layout.epoch();
    let stored = match disk::read_to_string(&path) {
        Ok(text) => text.trim().parse::<u64>().map_err(|_| {
            format!(
                "{}: not a number; write one into it that is higher than any before, for example 1000",
                path.display()
            )
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(describe(&path, error, "the spool must be readable")),
    };
    let headers = found.free.iter().chain(&found.active);
    let seen = headers.map(|header| header.generation >> GENERATION_EPOCH_SHIFT).max().unwrap_or(0);
    let epoch = match stored.max(seen) {
        0 => 1 + random_salt() % (EPOCH_LIMIT / 2),
        last => last + 1,
    };
    if epoch >= EPOCH_LIMIT {
        return Err(format!(
            "{}: the openings of this spool are numbered up to {stored}, and there are no queue ids left; empty it and start \
             with a new directory",
            path.display()
        ));
    }
    file::replace_durably(&path, format!("{epoch}\n").as_bytes())
        .map_err(|error| describe(&path, error, "the spool must be writable and not full"))?;
    Ok((stored, epoch))
}

/// Segments that should be there and are not.
fn say_what_is_missing(layout: &Layout, found: &Found, before: u64) -> Vec<u32> {
    let missing = Inventory::missing(&layout.inventory(), before, &found.numbers);
    for &number in &missing {
        let line = event(Level::Error, "spool segment is missing, undelivered messages in it are lost");
        line.field("file", layout.segment(number).display()).field("remedy", "stop and put the file back").emit();
    }
    missing
}

/// Begins the inventory of this opening.
fn take_stock(layout: &Layout, found: &Found, epoch: u64) -> Result<Inventory, String> {
    let inventory = Inventory::new(layout.inventory(), epoch, found.numbers.clone());
    inventory
        .write()
        .map_err(|error| describe(&layout.inventory(), error, "the spool must be writable and not full"))?;
    Ok(inventory)
}

fn list_spills(layout: &Layout) -> Result<BTreeSet<u64>, String> {
    Ok(entries(&layout.spills())?.iter().filter_map(|path| number_in(path, "body")).collect())
}

/// The active segments of earlier runs, oldest first, each with its end if a later header names it, or its own.
pub(super) fn past(active: &[Header]) -> VecDeque<Past> {
    let mut ends = HashMap::new();
    for header in active {
        if let Some(Sealed { number, generation, end }) = seals(header).0 {
            ends.insert((number, generation), end);
        }
    }
    let past = active.iter().map(|header| {
        let Header { number, generation, salt, size, created_ms: begun_ms, .. } = *header;
        let (sealed, own_end) = seals(header);
        let started = Started { number, generation, salt, size, sealed };
        Past { started, end: ends.get(&(number, generation)).copied().or(own_end), begun_ms }
    });
    past.collect()
}

/// After a failed write the page cache may hold what is not on the disk and never will be. Where no header says the end of a
/// segment, it must be read from the disk.
fn forget_what_failed(layout: &Layout, past: &VecDeque<Past>) -> Result<(), String> {
    past.iter().filter(|past| past.end.is_none()).try_for_each(|past| {
        let path = layout.segment(past.started.number);
        disk::forget_cached(&path, None).map_err(|error| describe(&path, error, "the spool must be readable"))
    })
}

fn seals(header: &Header) -> (Option<Sealed>, Option<End>) {
    match header.state {
        State::Active { sealed, end, .. } => (sealed, end),
        State::Free => (None, None),
    }
}

pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, String> {
    disk::list(directory).map_err(|error| describe(directory, error, "the spool must be readable"))
}

pub(super) fn describe(path: &Path, error: std::io::Error, remedy: &str) -> String {
    format!("{}: {error}; {remedy}", path.display())
}

impl Spool {
    pub(super) fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shared.ask(Request::Stop);
            if thread.join().is_err() {
                event(Level::Error, "the files thread has panicked").emit();
            }
        }
    }
}
