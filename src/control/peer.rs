//! Who is at the other end of the socket: SO_PEERCRED's user and group, and the groups that the user database gives that user.

use super::permission::{self, Groups, Rank};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::ffi::CString;
use std::os::unix::net::UnixStream;

/// Somebody who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// User name, or the number where there is no name.
    pub name: String,
    /// What this user may do.
    pub rank: Rank,
}

/// What the kernel says of whoever connected, or of whoever listens, when that began.
#[derive(Clone, Copy, Debug)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// The group that the process had.
    pub gid: u32,
    /// Its number.
    pub pid: i32,
}

impl Credentials {
    /// Of the other end. Errors: as text.
    pub fn of(stream: &UnixStream) -> Result<Credentials, String> {
        let known = getsockopt(stream, PeerCredentials).map_err(|error| format!("SO_PEERCRED: {error}"))?;
        Ok(Credentials { uid: known.uid(), gid: known.gid(), pid: known.pid() })
    }

    /// Root, or the user that this process runs as?
    pub fn is_own(self) -> bool {
        permission::is_own(self.uid, nix::unistd::geteuid().as_raw())
    }

    /// The user's name, or the number where there is no name.
    pub fn name(self) -> String {
        let user = User::from_uid(Uid::from_raw(self.uid)).ok().flatten();
        user.map_or_else(|| self.uid.to_string(), |user| user.name)
    }
}

/// The user who connected. It may take as long as the user database does.
pub fn of(Credentials { uid, gid, .. }: Credentials, ranked: Groups) -> Peer {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let name = user.as_ref().map_or_else(|| uid.to_string(), |user| user.name.clone());
    let listed = CString::new(name.clone()).ok().filter(|_| user.is_some());
    let listed = listed.and_then(|name| getgrouplist(&name, Gid::from_raw(gid)).ok()).unwrap_or_default();
    let groups: Vec<u32> = listed.into_iter().map(Gid::as_raw).chain([gid]).collect();
    let rank = permission::rank(uid, &groups, nix::unistd::geteuid().as_raw(), ranked);
    Peer { uid, name, rank }
}

/// The number of a group. Errors: one line with a remedy.
pub fn group(key: &str, name: &str) -> Result<u32, String> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => {
            Err(format!("{key}: there is no group {name}; make it (groupadd --system {name}), or remove the key"))
        }
        Err(error) => Err(format!("{key}: the group {name} cannot be looked up: {error}")),
    }
}
