//! The handle that whoever has something to tell holds, the queue behind it, and the thread that writes.

use super::line::{self, What};
use crate::clock::now_ms;
use crate::log::{Level, event};
use crate::smtp::envelope::View;
use nix::sys::statvfs::statvfs;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Lines that wait to be written, octets; past it they are dropped.
const QUEUE_BYTES_MAX: usize = 4 << 20;
/// What comes within this time is one write.
const GATHER: Duration = Duration::from_millis(50);
/// What was accepted so long before the last line of the last run is told again: that may be lost.
const TOLD_AGAIN_MS: u64 = 10_000;
/// With nothing to write the thread looks so often whether a day is over: what is too old goes also where no mail comes.
const LOOK_EVERY: Duration = Duration::from_secs(600);
const DAY_MS: u64 = 86_400_000;

/// How traces are kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Their directory; made if missing.
    pub directory: PathBuf,
    /// Days for which they are kept, the current one included.
    pub retention_days: u64,
    /// With fewer free octets on the file system nothing is written.
    pub reserve_bytes: u64,
}

/// Takes lines. Clones are the same queue; without one, lines go nowhere.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    queue: Option<Arc<Queue>>,
}

#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    /// When the last line of earlier runs was written, milliseconds since the Unix epoch.
    last_ms: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    text: Vec<u8>,
    dropped: u64,
    stopping: bool,
}

/// The thread. Dropping it writes what waits, and ends it.
pub struct TraceWriter {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Traces {
    /// That keep nothing.
    pub fn off() -> Traces {
        Traces::default()
    }

    /// A message was accepted. `is_new`: it was read in normal running; what a start reads was told before, but for the last.
    pub fn accepted(&self, id: u64, view: &View, is_new: bool) {
        let Some(queue) = &self.queue else { return };
        if is_new || view.arrival_ms.saturating_add(TOLD_AGAIN_MS) >= queue.last_ms {
            queue.push(&line::accepted(id, view));
        }
    }

    /// Something happened to recipients of a message: `who` said `text`.
    pub fn happened(&self, what: What, id: u64, recipients: &[u32], who: &str, text: &str) {
        if let Some(queue) = &self.queue {
            queue.push(&line::happened(now_ms(), what, id, recipients, who, text));
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits for the disk: the lock is held for a copy.
    fn push(&self, line: &str) {
        let mut waiting = self.lock();
        if waiting.text.len() + line.len() > QUEUE_BYTES_MAX {
            waiting.dropped += 1;
            return;
        }
        let was_empty = waiting.text.is_empty();
        waiting.text.extend_from_slice(line.as_bytes());
        drop(waiting);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// What waits, into `text`, which may be nothing after `patience`; the number that was dropped; and whether this is the
    /// end.
    fn take(&self, text: &mut Vec<u8>, patience: Duration) -> (u64, bool) {
        let idle = |waiting: &mut Waiting| waiting.text.is_empty() && !waiting.stopping;
        let waited = self.filled.wait_timeout_while(self.lock(), patience, idle);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !waiting.stopping && !waiting.text.is_empty() {
            drop(waiting);
            std::thread::sleep(GATHER);
            waiting = self.lock();
        }
        std::mem::swap(&mut waiting.text, text);
        (std::mem::take(&mut waiting.dropped), waiting.stopping)
    }
}

impl TraceWriter {
    /// Starts the thread; 0 days: nothing is kept, and what is there is removed. Errors: one line with a remedy.
    pub fn start(options: Options) -> Result<(Traces, Option<TraceWriter>), String> {
        let directory = options.directory.display().to_string();
        let fault = |error: io::Error| format!("{directory}: {error}; traces need a directory that can be written");
        if options.retention_days == 0 {
            purge(&options.directory, 0, now_ms());
            return Ok((Traces::off(), None));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&options.directory).map_err(fault)?;
        let queue =
            Arc::new(Queue { waiting: Mutex::default(), filled: Condvar::new(), last_ms: last_ms(&options.directory) });
        let mine = queue.clone();
        let thread = std::thread::Builder::new().name("trace".into()).spawn(move || run(&mine, &options));
        let thread = thread.map_err(|error| format!("no trace thread: {error}; raise the limit on processes"))?;
        Ok((Traces { queue: Some(queue.clone()) }, Some(TraceWriter { queue, thread: Some(thread) })))
    }
}

impl Drop for TraceWriter {
    fn drop(&mut self) {
        self.queue.lock().stopping = true;
        self.queue.filled.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(queue: &Queue, options: &Options) {
    let (mut text, mut day, mut file) = (Vec::new(), String::new(), None);
    let mut troubled = false;
    loop {
        text.clear();
        let (mut dropped, is_last) = queue.take(&mut text, LOOK_EVERY);
        let today = day_of(now_ms());
        if today != day {
            purge(&options.directory, options.retention_days, now_ms());
            (day, file) = (today, None);
        }
        if !text.is_empty() {
            if let Err(error) = append(&mut file, options, &day, &text) {
                dropped += memchr::memchr_iter(b'\n', &text).count() as u64;
                file = None;
                if !std::mem::replace(&mut troubled, true) {
                    let line = event(Level::Warning, "traces cannot be written, mail goes on without");
                    line.field("directory", options.directory.display()).field("error", error).emit();
                }
            } else if std::mem::take(&mut troubled) {
                event(Level::Info, "traces are written again").emit();
            }
        }
        if dropped > 0 {
            event(Level::Warning, "trace lines dropped").field("lines", dropped).emit();
        }
        if is_last {
            return;
        }
    }
}

/// Opens the day's file, if it is not open. One write: a line is whole or, after a crash, cut.
fn append(file: &mut Option<File>, options: &Options, day: &str, text: &[u8]) -> io::Result<()> {
    let space = statvfs(&options.directory)?;
    if space.blocks_available().saturating_mul(space.fragment_size()) < options.reserve_bytes {
        return Err(io::Error::other("there is less free space than spool.reserve_mib"));
    }
    let open = match file {
        Some(open) => open,
        none => {
            let path = options.directory.join(format!("{day}.trace"));
            let mut file = OpenOptions::new().append(true).create(true).read(true).mode(0o600).open(path)?;
            // A line that a crash or a full disk has cut is lost, and would take the next one with it.
            if is_cut(&file)? {
                file.write_all(b"\n")?;
            }
            none.insert(file)
        }
    };
    open.write_all(text)
}

/// Does its last line lack its end?
fn is_cut(file: &File) -> io::Result<bool> {
    let Some(last_at) = file.metadata()?.len().checked_sub(1) else { return Ok(false) };
    let mut last = [0];
    file.read_exact_at(&mut last, last_at)?;
    Ok(last != *b"\n")
}

/// `2026-11-22`, UTC.
fn day_of(epoch_ms: u64) -> String {
    let seconds = i64::try_from(epoch_ms / 1000).unwrap_or(i64::MAX);
    let moment = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string();
    moment.get(..10).unwrap_or_default().to_owned()
}

/// The files of traces, the latest day first.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let is_trace = |path: &PathBuf| {
        path.extension().is_some_and(|ending| ending == "trace")
            && path.file_stem().is_some_and(|stem| stem.len() == 10)
    };
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = entries.filter(is_trace).collect();
    files.sort();
    files.reverse();
    files
}

/// Removes what is too old.
fn purge(directory: &Path, retention_days: u64, now: u64) {
    let kept = retention_days.checked_sub(1).map(|days| day_of(now.saturating_sub(days * DAY_MS)));
    let is_old = |path: &&PathBuf| {
        let day = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        kept.as_deref().is_none_or(|kept| day < kept)
    };
    for path in files(directory).iter().filter(is_old) {
        if let Err(error) = fs::remove_file(path) {
            event(Level::Warning, "old traces not removed").field("file", path.display()).field("error", error).emit();
        }
    }
}

/// When the last line was written, milliseconds since the Unix epoch; 0: never.
fn last_ms(directory: &Path) -> u64 {
    let modified = files(directory).first().and_then(|path| fs::metadata(path).ok()?.modified().ok());
    let since = modified.and_then(|moment| moment.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn options(directory: &Path) -> Options {
        Options { directory: directory.join("traces"), retention_days: 2, reserve_bytes: 0 }
    }

    #[test]
    fn lines_are_in_the_days_file_which_is_private() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = options(directory.path());
        for run in 0..2u32 {
            let (traces, writer) = TraceWriter::start(options.clone()).expect("started");
            traces.happened(What::Delivered, 7, &[run], "mx", "250 Ok");
            drop(writer);
        }
        let files = files(&options.directory);
        let [file] = &files[..] else { panic!("{files:?}") };
        assert_eq!(fs::read_to_string(file).expect("read").lines().count(), 2);
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(file), mode(&options.directory)), (0o600, 0o700));
    }

    #[test]
    fn a_line_that_was_cut_takes_no_other_with_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = options(directory.path());
        for id in [7, 8] {
            let (traces, writer) = TraceWriter::start(options.clone()).expect("started");
            traces.happened(What::Delivered, id, &[0], "mx", "250 Ok");
            drop(writer);
            let file = OpenOptions::new().append(true).open(&files(&options.directory)[0]).expect("opened");
            (&file).write_all(b"1795345200456\tD\t0AB12").expect("written");
        }
        let text = fs::read(&files(&options.directory)[0]).expect("read");
        let read: Vec<u64> = text.split(|&octet| octet == b'\n').filter_map(line::parse).map(|line| line.id).collect();
        assert_eq!(read, [7, 8]);
    }

    #[test]
    fn what_is_too_old_goes_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let now = 1_795_345_200_123;
        let names =
            ["2026-11-20.trace", "2026-11-21.trace", "2026-11-22.trace", "2025-01-01.trace", "notes", "x.trace"];
        for name in names {
            fs::write(directory.path().join(name), "x").expect("written");
        }
        let left = || {
            let entries = fs::read_dir(directory.path()).expect("read");
            let mut left: Vec<String> =
                entries.map(|entry| entry.expect("entry").file_name().into_string().expect("text")).collect();
            left.sort();
            left
        };
        assert_eq!(day_of(now), "2026-11-22");
        purge(directory.path(), 2, now);
        assert_eq!(left(), ["2026-11-21.trace", "2026-11-22.trace", "notes", "x.trace"]);
        purge(directory.path(), 0, now);
        assert_eq!(left(), ["notes", "x.trace"]);
    }

    #[test]
    fn a_full_queue_costs_lines_and_no_time() {
        let queue = Queue { waiting: Mutex::default(), filled: Condvar::new(), last_ms: 0 };
        let line = "x".repeat(1 << 20);
        (0..6).for_each(|_| queue.push(&line));
        let mut text = Vec::new();
        assert_eq!((queue.take(&mut text, LOOK_EVERY), text.len()), ((2, false), 4 << 20));
        queue.push("y\n");
        text.clear();
        let taken = (queue.take(&mut text, LOOK_EVERY), &text[..]);
        assert_eq!(taken, ((0, false), &b"y\n"[..]), "there is room again");
        text.clear();
        assert_eq!(
            (queue.take(&mut text, Duration::from_millis(1)), text.len()),
            ((0, false), 0),
            "it is a day later, say"
        );
    }

    #[test]
    fn traces_take_no_room_that_the_spool_needs() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = Options { reserve_bytes: u64::MAX, ..options(directory.path()) };
        let (traces, writer) = TraceWriter::start(options.clone()).expect("started");
        traces.happened(What::Delivered, 7, &[0], "mx", "250 Ok");
        drop(writer);
        assert_eq!(files(&options.directory), Vec::<PathBuf>::new());
    }

    #[test]
    fn after_a_start_only_the_last_messages_are_told_again() {
        let queue = Queue { waiting: Mutex::default(), filled: Condvar::new(), last_ms: 100_000 };
        let traces = Traces { queue: Some(Arc::new(queue)) };
        let count = || {
            let queue = traces.queue.as_ref().expect("there");
            memchr::memchr_iter(b'\n', &queue.lock().text).count()
        };
        for (arrival_ms, is_new, expected) in [(80_000, false, 0), (95_000, false, 1), (80_000, true, 2)] {
            let recipients = vec![crate::smtp::envelope::Recipient::default()];
            traces.accepted(7, &View { arrival_ms, recipients, ..View::default() }, is_new);
            assert_eq!(count(), expected);
        }
    }
}
