//! The socket: one thread that accepts, one for each client, a few at a time, each with little time.
//!
//! The socket appears under its name only when it has its permissions: 0660, and where one group may ask, of that group.
//! Where two may it is 0666, because a file has one group; who connects is looked at in any case.

use super::answer::{self, Answering};
use super::peer;
use super::permission::{Groups, Rank};
use super::request::{REQUEST_BYTES_MAX, Request};
use super::source::Source;
use crate::config;
use crate::log::{Level, event};
use crate::relay::operator::Line;
use crate::trace::Traces;
use nix::unistd::{Gid, chown};
use serde_json::{Value, json};
use std::io::{BufWriter, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Clients at a time; more are told to try again.
const CLIENTS_MAX: usize = 8;
/// Time for a whole request to come.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// Time for a client to make room for more of the answer.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// What every client's thread needs.
#[derive(Clone)]
struct Shared {
    line: Line,
    groups: Groups,
    spool: PathBuf,
    traces: Traces,
    clients: Arc<AtomicUsize>,
}

/// The running socket. Dropping it removes the socket; requests under way end by themselves.
pub struct ControlSocket {
    path: PathBuf,
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
    pub fn start(config: &config::Control, spool: &Path, line: Line, traces: Traces) -> Result<ControlSocket, String> {
        let groups = groups(config)?;
        let path = config.socket.clone();
        let listener = listen(&path, groups).map_err(|error| {
            format!(
                "{}: no control socket: {error}; set control.socket to a path in a directory that can be written",
                path.display()
            )
        })?;
        let shared = Shared { line, groups, spool: spool.to_owned(), traces, clients: Arc::default() };
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let thread =
            std::thread::Builder::new().name("control".into()).spawn(move || accept(&listener, &shared, &stop));
        let thread = thread.map_err(|error| format!("no control thread: {error}; raise the limit on processes"))?;
        Ok(ControlSocket { path, stopping, thread: Some(thread) })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // A connection of our own wakes the thread.
        let woken = UnixStream::connect(&self.path).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A socket of that name with its permissions. What an earlier run left is replaced; a socket that somebody listens on is not.
fn listen(path: &Path, groups: Groups) -> std::io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(std::io::Error::other("somebody listens on it already"));
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
        let Some(place) = Place::take(&shared.clients) else {
            say_one(stream, "too many ask at once; try again in a moment");
            continue;
        };
        let mine = shared.clone();
        // Where no thread can be started the connection ends, which says enough.
        let _ = std::thread::Builder::new().name("operator".into()).spawn(move || {
            let _place = place;
            serve(stream, mine);
        });
    }
}

/// One of the clients that may ask at once; given back when dropped, by a panic too.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(clients: &Arc<AtomicUsize>) -> Option<Place> {
        let place = Place(clients.clone());
        (clients.fetch_add(1, Ordering::AcqRel) < CLIENTS_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A refusal that fits into any socket's buffer.
fn say_one(mut stream: UnixStream, reason: &str) {
    let _ = stream.set_nonblocking(true);
    let _ = stream.write_all(format!("{}\n", json!({ "error": reason })).as_bytes());
}

fn serve(stream: UnixStream, shared: Shared) {
    let peer = match (stream.set_write_timeout(Some(WRITE_LIMIT)), peer::of(&stream, shared.groups)) {
        (Ok(()), Ok(peer)) => peer,
        (Ok(()), Err(why)) => return say_one(stream, &why),
        (Err(_), _) => return,
    };
    if peer.rank == Rank::Stranger {
        let line = event(Level::Warning, "operator refused").field("uid", peer.uid).field("user", &peer.name);
        line.field("act", "connect").emit();
        let who = "members of control.helpdesk_group and control.postmaster_group, root and the server's own user";
        return say_one(stream, &format!("{} may not ask; that is for {who}", peer.name));
    }
    let request = match read_request(&stream, REQUEST_LIMIT) {
        Ok(request) => request,
        Err(why) => return say_one(stream, &why),
    };
    let mut writer = BufWriter::with_capacity(64 << 10, &stream);
    let mut answering = Answering { source: Source::Relay(shared.line), spool: shared.spool, traces: shared.traces };
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

    #[test]
    fn a_place_comes_back_however_its_client_ends() {
        let clients = Arc::default();
        for _ in 0..3 {
            let places: Vec<_> = (0..CLIENTS_MAX).map(|_| Place::take(&clients).expect("there is room")).collect();
            assert!(Place::take(&clients).is_none(), "there are no more");
            let panicked = std::thread::spawn(move || {
                let _places = places;
                std::panic::resume_unwind(Box::new("a bug"));
            });
            assert!(panicked.join().is_err());
        }
    }
}
