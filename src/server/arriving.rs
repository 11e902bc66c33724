//! Accept loops: every connection is taken, or refused before it costs a task.
//!
//! ```text
//!  accept --> admission: its address, its network? --> places: one free, or a stranger's? --> a session
//!                 \-- 421 4.7.0                              \-- 421 4.3.2
//! ```
//!
//! A refusal is one write that does not wait, and a close; under implicit TLS only the close, because a client there
//! expects no clear text. One line per network and minute says how many there were.
//!
//! **Without descriptors** (EMFILE, ENFILE) accept fails while clients queue up, who would wait for nothing. Each loop keeps
//! some in reserve: it gives one up, accepts with it, says 421 4.3.2, closes, for all that wait, and takes it back. Whoever else
//! needs one, a reader of the spool say, may be faster, and keep it: then there is another.

use super::admission::{Refused, Ticket};
use super::connection;
use super::core::{Core, contained};
use super::is_trusted;
use super::places::Place;
use super::proxy::Peer;
use super::tally::Due;
use crate::clock::now_ms;
use crate::log::{Level, event};
use crate::net::{Stream, after_others};
use crate::policy::TlsMode;
use crate::smtp::reply;
use monoio::io::CancelHandle;
use monoio::net::{TcpListener, TcpStream};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockFlag, accept4, send};
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Pause after accept failed for want of something: at once again would spin.
const STARVED_PAUSE: Duration = Duration::from_millis(50);
/// Connections that are closed with the spare descriptor between two such pauses.
const TURNED_AWAY_MAX: usize = 256;
/// Descriptors that a loop keeps in reserve.
pub(super) const SPARE: usize = 4;
/// Least time between two lines about failing accepts of one listener.
const STARVED_LINE_EVERY: Duration = Duration::from_secs(60);

/// A connection's right to be here, given back when it is dropped.
pub struct Admitted {
    ticket: Ticket,
    pub place: Place,
}

impl Admitted {
    /// A proxy has said who its client is: it counts under its own address from here on, and gives its place up like any
    /// other unless it is `known`.
    pub fn meet(&mut self, peer: &Peer, known: bool) -> Result<(), Refused> {
        if peer.proxy.is_some() && peer.is_known {
            self.ticket.count(peer.ip(), known)?;
        }
        match known {
            true => self.place.authenticated(),
            false => self.place.forgotten(),
        }
        Ok(())
    }

    /// Its client has authenticated.
    pub fn authenticated(&mut self) {
        self.ticket.authenticated();
        self.place.authenticated();
    }
}

/// Accepts on one listener until the core stops.
pub async fn accept_loop(core: Rc<Core>, index: usize, listener: TcpListener, cancel: CancelHandle) {
    let mut starved = Starved::default();
    while !core.stopping.get() {
        match listener.cancelable_accept(cancel.clone()).await {
            Ok((socket, peer)) => {
                arrive(&core, index, socket, peer);
                // Under epoll accept need not wait while others queue up: the sessions that it has begun come first.
                after_others().await;
            }
            Err(_) if core.stopping.get() => {}
            Err(error) if is_of_one_connection(&error) => {}
            // Linux before 5.19 took a listener that does not block at its word, also from a ring: at once again would spin.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => monoio::time::sleep(STARVED_PAUSE).await,
            Err(error) => {
                starved.turn_away(&core, index, &listener, &error);
                monoio::time::sleep(STARVED_PAUSE).await;
            }
        }
    }
}

/// Serves a connection, or refuses it.
fn arrive(core: &Rc<Core>, index: usize, socket: TcpStream, peer: SocketAddr) {
    core.counters.connections.add(1);
    core.counters.listeners[index].connections.add(1);
    let service = &core.services[index];
    // A proxy has many clients behind it, of whom each is counted when it is known.
    let is_proxy = service.proxy_from.contains(peer.ip()) || service.xclient_from.contains(peer.ip());
    let known = !is_proxy && is_trusted(&core.config, service.rules.role, peer.ip());
    let mut ticket = core.admission.enter();
    if let Err(refused) = ticket.count(peer.ip(), known || is_proxy) {
        return refuse(core, index, &socket, peer, refused);
    }
    // The ticket itself counts.
    if core.places.make_room(known, core.admission.is_over()).is_err() {
        return refuse(core, index, &socket, peer, Refused::Full);
    }
    let stream = Stream::tcp(socket, core.shared.clone());
    let place = core.places.take(stream.hook(), known, core.shared.tick());
    let session = connection::serve(core.clone(), index, stream, peer, Admitted { ticket, place });
    monoio::spawn(contained(session, core.counters.clone()));
}

fn refuse(core: &Core, index: usize, socket: &TcpStream, peer: SocketAddr, refused: Refused) {
    say(core, index, socket.as_raw_fd(), refused.reply());
    note_refused(core, peer, refused);
}

/// Counts a refused connection, and logs it if no line about its network was written within the last minute.
pub fn note_refused(core: &Core, peer: SocketAddr, refused: Refused) {
    let counter = match refused {
        Refused::Address | Refused::Network => &core.counters.networks_refused,
        Refused::Full => &core.counters.connections_refused,
    };
    counter.add(1);
    if let Some(due) = core.admission.note_refused(peer.ip(), now_ms()) {
        event(Level::Warning, refused.name()).field("client", peer).emit();
        log_refused(due);
    }
}

/// One line about all refused connections of a network.
pub fn log_refused(due: Due) {
    let line = event(Level::Warning, "connections refused");
    let line = match due.network {
        Some(network) => line.field("network", network),
        None => line.field("network", "others"),
    };
    line.field("refused", due.fresh).emit();
}

/// Says it if the client expects clear text. A new socket's buffer is empty, so this fails only if the client has gone.
fn say(core: &Core, index: usize, socket: RawFd, text: &[u8]) {
    if core.services[index].rules.tls != TlsMode::Implicit {
        let _ = send(socket, text, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
    }
}

/// Errors of accept(2) that tell of a connection that ended while it waited, not of us: the next one may be fine at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    use Errno::*;
    let of_one = [
        ECONNABORTED,
        EINTR,
        EPERM,
        EPROTO,
        ENETDOWN,
        ENOPROTOOPT,
        EHOSTDOWN,
        ENONET,
        EHOSTUNREACH,
        EOPNOTSUPP,
        ENETUNREACH,
    ];
    error.raw_os_error().is_some_and(|code| of_one.contains(&Errno::from_raw(code)))
}

/// A listener whose accept fails for want of descriptors or memory.
struct Starved {
    /// The descriptors in reserve; none while even those are gone.
    spare: Vec<File>,
    line_at: Cell<Option<Instant>>,
}

impl Default for Starved {
    fn default() -> Starved {
        let mut starved = Starved { spare: Vec::with_capacity(SPARE), line_at: Cell::new(None) };
        starved.put_aside();
        starved
    }
}

impl Starved {
    /// As many as there shall be, if there are any.
    fn put_aside(&mut self) {
        while self.spare.len() < SPARE
            && let Ok(spare) = File::open("/dev/null")
        {
            self.spare.push(spare);
        }
    }

    /// Tells those that wait to come back later.
    fn turn_away(&mut self, core: &Core, index: usize, listener: &TcpListener, error: &io::Error) {
        drop(self.spare.pop());
        let mut count = 0;
        while count < TURNED_AWAY_MAX {
            // The listener does not block; an error is the end of the queue, or somebody was faster.
            let Ok(socket) = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) else {
                break;
            };
            say(core, index, socket, reply::TOO_MANY_CONNECTIONS);
            // The descriptor is gone in any case.
            let _ = nix::unistd::close(socket);
            count += 1;
        }
        self.put_aside();
        core.counters.accepts_failed.add(count.max(1) as u64);
        if self.line_at.get().is_none_or(|last| last.elapsed() >= STARVED_LINE_EVERY) {
            self.line_at.set(Some(Instant::now()));
            let line = event(Level::Warning, "accept failed").field("error", error);
            line.field("listener", &core.services[index].name).field("turned_away", count).emit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_one_connection_does_not_pause_the_others() {
        let error = |errno: Errno| io::Error::from_raw_os_error(errno as i32);
        for of_one in [Errno::ECONNABORTED, Errno::EPROTO, Errno::EHOSTUNREACH] {
            assert!(is_of_one_connection(&error(of_one)), "{of_one}");
        }
        for of_us in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS, Errno::EAGAIN] {
            assert!(!is_of_one_connection(&error(of_us)), "{of_us}");
        }
    }
}
