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
use std::path::Path;
use std::sync::{Arc, mpsc};

/// A spool being looked at; it is locked until this is dropped.
pub struct Examined {
    /// Gives out what is there, and then None.
    pub follower: Follower,
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
    let mut active = Vec::new();
    for path in open::entries(&layout.segments()).map_err(NotExamined::Unreadable)? {
        let Some(number) = number_in(&path, "seg").and_then(|number| u32::try_from(number).ok()) else { continue };
        let header = open::read_header(&path, number).map_err(NotExamined::Unreadable)?;
        active.extend(header.filter(|header| header.state != State::Free));
    }
    active.sort_by_key(|header| header.generation);
    // Nobody takes requests: nothing is erased.
    let (requests, _) = mpsc::channel();
    let directory = directory.to_owned();
    let options =
        Options { directory, segment_bytes: 0, writers: 0, reserve_bytes: 0, bytes_max: None, wipe_after_s: 0 };
    let shared = Arc::new(Shared::new(layout, &options, 0, 0, requests));
    Ok(Examined { follower: Follower::read_only(shared, open::past(&active)), _lock: lock })
}
