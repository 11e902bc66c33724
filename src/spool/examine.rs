//! A spool that nobody uses, looked at: nothing in its directory is changed.
//!
//! It is locked meanwhile, so that no server starts and changes it underneath; what is read is what a server would read at
//! its start. Damaged records are logged and skipped, and stay where they are for the server to set aside.

use super::Options;
use super::follower::Follower;
use super::layout::{Layout, number_in};
use super::open;
use super::segment::State;
use super::shared::Shared;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

/// A spool being looked at; it is locked until this is dropped.
pub struct Examined {
    /// Gives out what is there, and then None.
    pub follower: Follower,
    /// Segments that are not read, as their header is damaged or an earlier start has set them aside.
    pub left_out: Vec<PathBuf>,
    _lock: Flock<File>,
}

/// Why a spool cannot be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotExamined {
    /// An instance uses it.
    InUse,
    /// No such spool, no permission, a newer version's: one line with a remedy.
    Unreadable(String),
}

/// Locks the spool in `directory` and reads what segments there are.
pub fn examine(directory: &Path) -> Result<Examined, NotExamined> {
    let layout = Layout::new(directory);
    let path = layout.lock();
    let unreadable = |error: std::io::Error| {
        let remedy = "is this the spool, and may this user read it?";
        NotExamined::Unreadable(open::describe(&path, error, remedy))
    };
    let file = File::open(&path).map_err(unreadable)?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        Errno::EWOULDBLOCK => NotExamined::InUse,
        error => unreadable(error.into()),
    })?;
    let (mut active, mut left_out) = (Vec::new(), Vec::new());
    for path in open::entries(&layout.segments()).map_err(NotExamined::Unreadable)? {
        if number_in(&path, "bad").is_some() {
            left_out.push(path);
            continue;
        }
        let Some(number) = number_in(&path, "seg").and_then(|number| u32::try_from(number).ok()) else { continue };
        match open::read_header(&path, number).map_err(NotExamined::Unreadable)? {
            Some(header) if header.state == State::Free => {}
            Some(header) => active.push(header),
            None => left_out.push(path),
        }
    }
    active.sort_by_key(|header| header.generation);
    // Nobody takes requests: nothing is erased.
    let (requests, _) = mpsc::channel();
    let directory = directory.to_owned();
    let options =
        Options { directory, segment_bytes: 0, writers: 0, reserve_bytes: 0, bytes_max: None, wipe_after_s: 0 };
    let shared = Arc::new(Shared::new(layout, &options, 0, 0, requests));
    Ok(Examined { follower: Follower::read_only(shared, open::past(&active)), left_out, _lock: lock })
}

#[cfg(test)]
mod tests {
    use super::super::Spool;
    use super::*;

    #[test]
    fn what_is_left_out_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path();
        let options = Options {
            directory: directory.to_owned(),
            segment_bytes: 64 << 10,
            writers: 1,
            reserve_bytes: 0,
            bytes_max: None,
            wipe_after_s: 0,
        };
        drop(Spool::open(options).expect("opens"));
        assert!(examine(directory).expect("a spool").left_out.is_empty());
        let layout = Layout::new(directory);
        std::fs::rename(layout.segment(1), layout.bad_segment(1)).expect("renamed");
        std::fs::write(layout.segment(2), [7; 64 << 10]).expect("written");
        let mut left_out = examine(directory).expect("a spool").left_out;
        left_out.sort();
        assert_eq!(left_out, [layout.bad_segment(1), layout.segment(2)]);
    }
}
