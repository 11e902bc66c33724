//! The socket: one thread that accepts, one for each client, a few at a time, each with little time.
//!
//! The socket appears under its name only when it has its permissions: 0660, and where one group may ask, of that group.
//! Where two may it is 0666, because a file has one group; who connects is looked at in any case.
//!
//! Nobody who listens on that name instead can hold up a start, a stop, or whoever asks: [`connect`] waits for no place in a
//! queue that nobody empties.

use super::answer::{self, Answering};
use super::peer::{self, Credentials};
use super::permission::{Groups, Rank};
use super::places::{Place, Places};
use super::request::{REQUEST_BYTES_MAX, Request};
use super::source::Source;
use crate::auth::users::Names;
use crate::config;
use crate::log::{Level, event};
use crate::relay::operator::Line;
use crate::trace::Traces;
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use nix::unistd::{Gid, chown};
use serde_json::{Value, json};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time for a whole request to come.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// Time for a client to make room for more of the answer.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// Between tries to connect where too many wait already.
const CONNECT_PAUSE: Duration = Duration::from_millis(50);
/// Who may ask something.
const WHO: &str = "members of control.helpdesk_group and control.postmaster_group, root and the server's own user";

/// What every client's thread needs.
#[derive(Clone)]
struct Shared {
    line: Line,
    groups: Groups,
    spool: PathBuf,
    traces: Traces,
    names: Names,
    places: Places,
}

/// The running socket. Dropping it removes the socket; requests under way end by themselves.
pub struct ControlSocket {
    path: PathBuf,
    listener: UnixListener,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The groups of `[control]`. Errors: one line with a remedy.
pub fn groups(config: &config::Control) -> Result<Groups, String> {
    let number = |key: &str, name: &Option<String>| name.as_deref().map(|name| peer::group(key, name)).transpose();
    Ok(Groups {
        helpdesk: number("control.helpdesk_group", &config.helpdesk_group)?,
        postmaster: number("control.postmaster_group", &config.postmaster_group)?,
    })
}

impl ControlSocket {
    /// Listens on `config.socket`. Errors: one line with a remedy.
    pub fn start(
        config: &config::Control,
        spool: &Path,
        line: Line,
        traces: Traces,
        names: Names,
    ) -> Result<ControlSocket, String> {
        let groups = groups(config)?;
        let path = config.socket.clone();
        let listener = listen(&path, groups).map_err(|error| {
            format!(
                "{}: no control socket: {error}; set control.socket to a path in a directory that this server's user can \
                 write, and nobody else",
                path.display()
            )
        })?;
        let accepting =
            listener.try_clone().map_err(|error| format!("no control socket: {error}; raise LimitNOFILE"))?;
        let shared = Shared { line, groups, spool: spool.to_owned(), traces, names, places: Places::default() };
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let thread =
            std::thread::Builder::new().name("control".into()).spawn(move || accept(&accepting, &shared, &stop));
        let thread = thread.map_err(|error| format!("no control thread: {error}; raise the limit on processes"))?;
        Ok(ControlSocket { path, listener, stopping, thread: Some(thread) })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // That wakes the thread, and nobody else who might listen under that name by now.
        let woken = socket::shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Connects to the socket of a server. One that many wait for is tried again for so long as `patience`. Errors: as connect's;
/// WouldBlock: all that time there was no room among those that wait.
pub fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let (address, until) = (UnixAddr::new(path)?, Instant::now() + patience);
    loop {
        // A socket that blocks would wait for ever.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let one = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        match socket::connect(one.as_raw_fd(), &address) {
            Ok(()) => {
                let stream = UnixStream::from(one);
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(Errno::EAGAIN) if Instant::now() < until => std::thread::sleep(CONNECT_PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Does somebody listen there already? In words.
fn who_listens(path: &Path) -> Option<String> {
    match connect(path, Duration::ZERO) {
        Ok(stream) => {
            let known = Credentials::of(&stream);
            let who = known.map_or_else(|_| "somebody".into(), |who| format!("process {} of {}", who.pid, who.name()));
            Some(format!("{who} listens on it already"))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Some("somebody listens on it already, and takes no connections".into())
        }
        Err(_) => None,
    }
}

/// A socket of that name with its permissions. What an earlier run left is replaced; a socket that somebody listens on is not.
fn listen(path: &Path, groups: Groups) -> io::Result<UnixListener> {
    if let Some(why) = who_listens(path) {
        return Err(io::Error::other(why));
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let _ = std::fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    let (one, mode) = match (groups.helpdesk, groups.postmaster) {
        (Some(helpdesk), Some(postmaster)) if helpdesk != postmaster => (None, 0o666),
        (helpdesk, postmaster) => (helpdesk.or(postmaster), 0o660),
    };
    if let Some(group) = one
        && let Err(error) = chown(&new, None, Some(Gid::from_raw(group)))
    {
        let line =
            event(Level::Warning, "control socket not given to its group; make the server's user a member of it");
        line.field("group", group).field("error", error).emit();
    }
    std::fs::set_permissions(&new, PermissionsExt::from_mode(mode))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

fn accept(listener: &UnixListener, shared: &Shared, stop: &AtomicBool) {
    loop {
        let accepted = listener.accept();
        if stop.load(Ordering::Acquire) {
            return;
        }
        let Ok((stream, _)) = accepted else {
            // No descriptors: the clients that there are will give theirs back.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        let Ok(who) = Credentials::of(&stream) else { continue };
        let known = shared.places.knows(who, Instant::now());
        if known == Some(Rank::Stranger) {
            say_one(stream, &json!({ "error": format!("user {} may not ask; that is for {WHO}", who.uid) }));
            continue;
        }
        let place = shared.places.take(who.is_own());
        let Some(place) = place.and_then(|mut place| known.is_none_or(|rank| place.is_of(rank)).then_some(place))
        else {
            say_one(stream, &too_many());
            continue;
        };
        let mine = shared.clone();
        // Where no thread can be started the connection ends, which says enough.
        let _ = std::thread::Builder::new().name("operator".into()).spawn(move || {
            serve(stream, who, place, mine);
        });
    }
}

/// One line, which fits into any socket's buffer.
fn say_one(mut stream: UnixStream, line: &Value) {
    let _ = stream.set_nonblocking(true);
    let _ = stream.write_all(format!("{line}\n").as_bytes());
}

/// `penstock` itself tries again a few times.
fn too_many() -> Value {
    json!({ "error": "too many ask at once; try again in a moment", "again": true })
}

fn serve(stream: UnixStream, who: Credentials, mut place: Place, shared: Shared) {
    if stream.set_write_timeout(Some(WRITE_LIMIT)).is_err() {
        return;
    }
    let peer = peer::of(who, shared.groups);
    shared.places.learns(who, peer.rank, Instant::now());
    if peer.rank == Rank::Stranger {
        let line = event(Level::Warning, "operator refused").field("uid", peer.uid).field("user", &peer.name);
        line.field("act", "connect").emit();
        return say_one(stream, &json!({ "error": format!("{} may not ask; that is for {WHO}", peer.name) }));
    }
    if !place.is_of(peer.rank) {
        return say_one(stream, &too_many());
    }
    let request = match read_request(&stream, REQUEST_LIMIT) {
        Ok(request) => request,
        Err(why) => return say_one(stream, &json!({ "error": why })),
    };
    let mut writer = BufWriter::with_capacity(64 << 10, &stream);
    let Shared { line, spool, traces, names, .. } = shared;
    let mut answering = Answering { source: Source::Relay(line), spool, traces, names };
    let mut out = |line: &Value| {
        let written = serde_json::to_writer(&mut writer, line).is_ok() && writer.write_all(b"\n").is_ok();
        if !written {
            // What is left in the buffer is not waited for once more.
            let _ = stream.shutdown(Shutdown::Both);
        }
        written
    };
    answer::answer(&mut answering, &peer, &request, &mut out);
    // Dropping it writes what is left; who does not read that has gone.
}

/// One line. Errors: for whoever sent something else.
fn read_request(mut stream: &UnixStream, limit: Duration) -> Result<Request, String> {
    let mut line = Vec::new();
    let mut piece = [0; 4096];
    let until = Instant::now() + limit;
    while !line.contains(&b'\n') {
        let left = until.saturating_duration_since(Instant::now());
        // No time left is an error, as None is no limit.
        match stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut piece)) {
            Ok(0) => break,
            Ok(read) => line.extend_from_slice(&piece[..read]),
            Err(_) => return Err("no request came in time".into()),
        }
        if line.len() > REQUEST_BYTES_MAX {
            return Err(format!("a request has {REQUEST_BYTES_MAX} octets at most; use a filter"));
        }
    }
    let end = memchr::memchr(b'\n', &line).unwrap_or(line.len());
    Request::parse(&line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It has one of few places.
    #[test]
    fn who_says_an_octet_at_a_time_has_no_more_time_than_others() {
        let (server, mut client) = UnixStream::pair().expect("a pair");
        let slow = std::thread::spawn(move || {
            for _ in 0..40 {
                if client.write_all(b" ").is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        assert_eq!(read_request(&server, Duration::from_millis(100)), Err("no request came in time".into()));
        drop(server);
        slow.join().expect("it ended");
    }

    /// As whoever may write the directory could leave it: it listens, and nobody ever accepts.
    #[test]
    fn a_name_on_which_somebody_else_listens_is_refused_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("control");
        let squatter = UnixListener::bind(&path).expect("bound");
        let refused = |who: &str| {
            let error = listen(&path, Groups::default()).expect_err("refused").to_string();
            assert!(error.contains(who), "{error}");
        };
        refused(&format!("process {} of ", std::process::id()));
        // Its queue is full.
        socket::listen(&squatter, socket::Backlog::new(0).expect("legal")).expect("listens");
        let waiting: Vec<_> = std::iter::from_fn(|| connect(&path, Duration::ZERO).ok()).take(9000).collect();
        refused("takes no connections");
        let error = connect(&path, Duration::from_millis(1)).expect_err("no room");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        // Room while we wait.
        let taking = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            // And the one by which it was asked who listens.
            (0..=waiting.len()).for_each(|_| drop(squatter.accept().expect("one that waits")));
            squatter
        });
        assert!(connect(&path, Duration::from_secs(60)).is_ok());
        drop(taking.join().expect("accepted"));
        // What an earlier run has left is replaced.
        assert!(listen(&path, Groups::default()).is_ok());
    }

    /// Whoever put something else in its place cannot keep the server from ending.
    #[test]
    fn it_stops_though_somebody_else_has_its_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let config =
            config::Control { socket: directory.path().join("control"), helpdesk_group: None, postmaster_group: None };
        let (line, _asked) = crate::relay::operator::line();
        let socket =
            ControlSocket::start(&config, directory.path(), line, Traces::off(), Names::of(None)).expect("listens");
        std::fs::remove_file(&config.socket).expect("removed");
        let squatter = UnixListener::bind(&config.socket).expect("bound");
        drop(socket);
        drop(squatter);
    }
}
