//! Notices that the users file changed.
//!
//! The directory is watched, not the file: editors, `penstock user` and configuration management write a new file and
//! rename it over the old one. Events are a wake-up only; whether the file is another one is asked of the file itself.
//!
//! ```text
//!  inotify --event--> wait until it is quiet (100 ms, at most 500) --> reload_if_changed
//!  nothing for 10 s --------------------------------------------------^   file systems without events, symbolic links
//!  cannot watch: 1 s --------------------------------------------------^   directory gone, no inotify instances left
//! ```

use super::users_file::UsersFile;
use crate::log::{self, Level};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
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

struct Watch {
    file: Arc<UsersFile>,
    /// Closed by the watcher to stop us.
    stop: PipeReader,
    /// None while the directory cannot be watched.
    inotify: Option<Inotify>,
}

impl Watcher {
    /// Starts to watch. A directory that cannot be watched is a warning: the file is then looked at every second.
    pub fn start(file: Arc<UsersFile>) -> Result<Watcher, String> {
        let (reader, writer) = std::io::pipe().map_err(|error| format!("cannot make a pipe: {error}"))?;
        // Armed here and not in the thread: what changes after `start` has returned is noticed.
        let inotify = match arm(file.path()) {
            Ok(inotify) => Some(inotify),
            Err(error) => {
                log::event(Level::Warning, "users file not watched, looked at every second")
                    .field("file", file.path().display())
                    .field("error", error)
                    .emit();
                None
            }
        };
        let watch = Watch { file, stop: reader, inotify };
        let thread = thread::Builder::new().name("users-watch".into()).spawn(move || watch.run());
        let thread = thread.map_err(|error| format!("cannot start the thread that watches the users file: {error}"))?;
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

impl Watch {
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
                self.inotify = arm(self.file.path()).ok();
            }
            self.file.reload_if_changed();
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
