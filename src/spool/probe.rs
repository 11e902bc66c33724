//! Can the spool be written, while nobody writes? A block is written durably to a file that holds nothing, on a thread of
//! its own, because a disk that fails may also just never answer.
//!
//! ```text
//!  ask --mail was written since, none failed--> yes
//!      --else--> the last attempt's result; begins another if none is under way and the last one is a second old
//! ```
//!
//! Promises: asking waits for nothing; at most one attempt is under way; it writes to no file that mail is in.

use super::disk;
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An attempt that takes longer is as good as failed.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);
/// Between two attempts at the least.
const ATTEMPT_EVERY: Duration = Duration::from_secs(1);
/// How long somebody who asks first waits for the answer: long enough for any disk that works.
const FIRST_ANSWER: Duration = Duration::from_millis(500);

/// Tries to write.
pub struct Probe {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// When the attempt under way was begun.
    began: Option<Instant>,
    /// The last one's end and result.
    ended: Option<(Instant, Result<(), String>)>,
    /// What the writers had written when it was asked last.
    written: u64,
}

impl Probe {
    /// Of a file that need not be there.
    pub fn new(path: PathBuf) -> Probe {
        Probe { path, state: Arc::default() }
    }

    /// `written`: records that the writers have made durable; `failing`: the last write of one of them failed. Errors: what
    /// is wrong.
    pub fn ask(&self, written: u64, failing: bool) -> Result<(), String> {
        let mut state = lock(&self.state);
        let news = std::mem::replace(&mut state.written, written) != written;
        if news && !failing {
            return Ok(());
        }
        let rested = state.ended.as_ref().is_none_or(|(at, _)| at.elapsed() >= ATTEMPT_EVERY);
        let begins = state.began.is_none() && rested;
        if begins {
            let (shared, path) = (self.state.clone(), self.path.clone());
            let attempt = move || {
                let result = attempt(&path).map_err(|error| error.to_string());
                let mut state = lock(&shared);
                state.began = None;
                state.ended = Some((Instant::now(), result));
            };
            state.began = Some(Instant::now());
            if let Err(error) = std::thread::Builder::new().name("probe".into()).spawn(attempt) {
                state.began = None;
                return Err(format!("no thread to try it: {error}"));
            }
        }
        drop(state);
        // Of a disk that does not answer nobody waits for the same attempt twice.
        self.answer(if begins { FIRST_ANSWER } else { Duration::ZERO })
    }

    /// The result, or the last one when there is none within `patience`.
    fn answer(&self, patience: Duration) -> Result<(), String> {
        let asked = Instant::now();
        loop {
            let state = lock(&self.state);
            match (state.began, &state.ended) {
                (Some(began), _) if began.elapsed() >= ATTEMPT_LIMIT => {
                    return Err(format!("a write has been under way for {} s", began.elapsed().as_secs()));
                }
                (None, Some((_, result))) => return result.clone(),
                (Some(_), ended) if asked.elapsed() >= patience => {
                    return ended
                        .as_ref()
                        .map_or(Err("the first write is under way".into()), |(_, result)| result.clone());
                }
                _ => drop(state),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn attempt(path: &Path) -> io::Result<()> {
    let mut file = disk::private().write(true).create(true).truncate(false).open(path)?;
    file.write_all(&[0; 512])?;
    file.sync_data()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_spool_is_tried_and_a_busy_one_believed() {
        let directory = tempfile::tempdir().expect("directory");
        let probe = Probe::new(directory.path().join("probe"));
        assert_eq!(probe.ask(7, false), Ok(()), "mail was written");
        assert!(!directory.path().join("probe").exists());
        assert_eq!(probe.ask(7, false), Ok(()));
        assert_eq!(std::fs::metadata(directory.path().join("probe")).expect("written").len(), 512);
    }

    #[test]
    fn a_failure_is_told_until_it_is_over() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("not yet/probe");
        let probe = Probe::new(path.clone());
        assert!(probe.ask(0, true).expect_err("no directory").contains("No such file"));
        std::fs::create_dir(path.parent().expect("a parent")).expect("made");
        // A writer that failed is not believed because it wrote something since.
        assert!(probe.ask(1, true).is_err(), "not tried again at once");
        std::thread::sleep(ATTEMPT_EVERY);
        assert_eq!(probe.ask(2, true), Ok(()));
    }

    #[test]
    fn a_disk_that_does_not_answer_is_told_of() {
        let probe = Probe::new("/nowhere".into());
        let long_ago = Instant::now().checked_sub(ATTEMPT_LIMIT).expect("a clock that runs");
        *lock(&probe.state) = State { began: Some(long_ago), ended: None, written: 0 };
        assert_eq!(probe.ask(0, false), Err("a write has been under way for 10 s".into()));
        let now = Instant::now();
        *lock(&probe.state) = State { began: Some(now), ended: Some((now, Ok(()))), written: 0 };
        assert_eq!(probe.ask(0, false), Ok(()), "one under way says nothing yet");
    }
}
