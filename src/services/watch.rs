//! Notices that a file changed.
//!
//! The directory is watched, not the file: editors, `penstock user` and configuration management write a new file and
//! rename it over the old one. Events are a wake-up only; whether the file is another one is asked of the file itself, by
//! whoever has it watched ([`super::plain_file::Mark`]).
//!
//! ```text
//!  inotify --event--> wait until it is quiet (100 ms, at most 500) --> look
//!  nothing for 10 s --------------------------------------------------^   file systems without events, symbolic links
//!  cannot watch: 1 s --------------------------------------------------^   directory gone, no inotify instances left
//! ```

use crate::log::{self, Level};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// No event for this long: whoever writes is done.
const QUIET: Duration = Duration::from_millis(100);
/// A directory that is never quiet is looked at after this long all the same.
const QUIET_WAIT_MAX: Duration = Duration::from_millis(500);
/// Without any event the file is looked at this often.
const LOOK: Duration = Duration::from_secs(10);
/// The same, while the directory cannot be watched.
const LOOK_UNWATCHED: Duration = Duration::from_secs(1);

/// The thread that watches. Dropping it ends the thread and waits for that.
pub struct Watcher {
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

/// What a wait ended with.
#[derive(Debug, PartialEq, Eq)]
enum Woken {
    Event,
    TimeOut,
    Stop,
}

struct Watch<L> {
    path: PathBuf,
    look: L,
    /// Closed by the watcher to stop us.
    stop: PipeReader,
    /// None while the directory cannot be watched.
    inotify: Option<Inotify>,
}

impl Watcher {
    /// Starts to watch `path`; `look` is called, on the watcher's thread, whenever it may have changed. `what` names the
    /// file in messages. A directory that cannot be watched is a warning: the file is then looked at every second. Errors:
    /// no pipe or thread to be had.
    pub fn start(what: &'static str, path: PathBuf, look: impl Fn() + Send + 'static) -> Result<Watcher, String> {
        let (reader, writer) = std::io::pipe().map_err(|error| format!("cannot make a pipe: {error}"))?;
        // Armed here and not in the thread: what changes after `start` has returned is noticed.
        let inotify = match arm(&path) {
            Ok(inotify) => Some(inotify),
            Err(error) => {
                log::event(Level::Warning, "file not watched, looked at every second")
                    .field("file", path.display())
                    .field("error", error)
                    .emit();
                None
            }
        };
        let watch = Watch { path, look, stop: reader, inotify };
        let thread = thread::Builder::new().name("watch".into()).spawn(move || watch.run());
        let thread = thread.map_err(|error| format!("cannot start the thread that watches the {what}: {error}"))?;
        Ok(Watcher { stop: Some(writer), thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<L: Fn()> Watch<L> {
    fn run(mut self) {
        loop {
            let look = if self.inotify.is_some() { LOOK } else { LOOK_UNWATCHED };
            match self.wait(look) {
                Woken::Stop => return,
                Woken::TimeOut => {}
                Woken::Event => {
                    self.drain();
                    if self.settle() == Woken::Stop {
                        return;
                    }
                }
            }
            if self.inotify.is_none() {
                self.inotify = arm(&self.path).ok();
            }
            (self.look)();
        }
    }

    /// Waits until no event comes for a while.
    fn settle(&mut self) -> Woken {
        let deadline = Instant::now() + QUIET_WAIT_MAX;
        while Instant::now() < deadline {
            match self.wait(QUIET) {
                Woken::Event => self.drain(),
                woken => return woken,
            }
        }
        Woken::TimeOut
    }

    fn wait(&self, time: Duration) -> Woken {
        let mut waited = vec![PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        waited.extend(self.inotify.as_ref().map(|inotify| PollFd::new(inotify.as_fd(), PollFlags::POLLIN)));
        let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut waited, time) {
            Ok(1..) if waited[0].any() == Some(true) => Woken::Stop,
            Ok(1..) => Woken::Event,
            Ok(_) | Err(_) => Woken::TimeOut,
        }
    }

    /// Takes the events. If the directory itself went away, so did the watch.
    fn drain(&mut self) {
        let gone = AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        let lost = match self.inotify.as_ref().map(Inotify::read_events) {
            Some(Ok(events)) => events.iter().any(|event| event.mask.intersects(gone)),
            Some(Err(Errno::EAGAIN | Errno::EINTR)) | None => false,
            Some(Err(_)) => true,
        };
        if lost {
            self.inotify = None;
        }
    }
}

fn arm(file: &Path) -> Result<Inotify, Errno> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let changes = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF;
    inotify.add_watch(directory, changes | AddWatchFlags::IN_ONLYDIR)?;
    Ok(inotify)
}
