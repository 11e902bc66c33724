//! Listening sockets: one per address and core, bound together with SO_REUSEPORT, so that the kernel spreads
//! connections over the cores and no accept queue is shared.
//!
//! SO_REUSEPORT would also let a second instance of the same user bind the same port and steal half of the connections
//! without a word; hence each address is first bound without it, which fails if anybody listens there.

use crate::config::Listener;
use crate::log::{Level, event};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

/// Connections that the kernel completes before we accept them. The system's own limit may be lower.
const BACKLOG: i32 = 4096;

/// The kernel takes the io_uring instances of a process that was killed apart after its end, and they hold its sockets: who
/// starts it again at once waits so often for its ports.
const PORT_PAUSES: u32 = 60;
const PORT_PAUSE: Duration = Duration::from_millis(50);

/// Binds `listeners` for `cores` cores: a set of sockets per core, in the order of `listeners`. Blocks for up to 3 s while an
/// address is in use. Errors: one line.
pub fn bind_all(listeners: &[Listener], cores: usize) -> Result<Vec<Vec<TcpListener>>, String> {
    let mut pauses = PORT_PAUSES;
    for listener in listeners {
        while let Err(error) = bind(listener.address, false) {
            if error.kind() != io::ErrorKind::AddrInUse || pauses == 0 {
                return Err(explain(listener, &error));
            }
            if pauses == PORT_PAUSES {
                event(Level::Info, "waiting for a port").field("address", listener.address).emit();
            }
            pauses -= 1;
            thread::sleep(PORT_PAUSE);
        }
    }
    let bind_set = |_| {
        let sockets = listeners.iter().map(|listener| {
            let bound = bind(listener.address, true).and_then(|socket| {
                socket.listen(BACKLOG)?;
                Ok(TcpListener::from(socket))
            });
            bound.map_err(|error| explain(listener, &error))
        });
        sockets.collect()
    };
    (0..cores).map(bind_set).collect()
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // An IPv6 listener is one: who wants both families lists both addresses.
        socket.set_only_v6(true)?;
    }
    // Connections of the last run may still be in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn explain(listener: &Listener, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there: stop it or choose another port",
        io::ErrorKind::PermissionDenied => "ports below 1024 need root or CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: check `address`",
        _ => "check `address`",
    };
    format!("cannot listen on {} (listener \"{}\"): {error}; {remedy}", listener.address, listener.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Networks, OddBytes, Role, TlsMode};

    fn listener(address: &str) -> Listener {
        let address = address.parse().expect("address");
        Listener {
            name: "test".into(),
            address,
            role: Role::Smtp,
            tls: TlsMode::Offered,
            mechanisms: None,
            proxy_from: Networks::default(),
            xclient_from: Networks::default(),
            xclient_login: false,
            odd_bytes: OddBytes::Normalize,
            odd_bytes_of_strangers: OddBytes::Reject,
        }
    }

    #[test]
    fn every_core_gets_a_socket_on_the_same_port() {
        let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = probe.local_addr().expect("bound").to_string();
        drop(probe);
        let sets = bind_all(&[listener(&address)], 3).expect("free");
        assert_eq!(sets.len(), 3);
        for set in &sets {
            assert_eq!(set[0].local_addr().expect("bound").to_string(), address);
        }
        let error = bind_all(&[listener(&address)], 1).expect_err("in use, even by sockets that share");
        assert!(error.contains(&address) && error.contains("another program listens there"), "{error}");
    }

    #[test]
    fn a_port_that_becomes_free_in_a_moment_is_waited_for() {
        let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = held.local_addr().expect("bound").to_string();
        let ending = thread::spawn(move || {
            thread::sleep(4 * PORT_PAUSE);
            drop(held);
        });
        assert_eq!(bind_all(&[listener(&address)], 2).expect("free in the end").len(), 2);
        ending.join().expect("ended");
    }

    #[test]
    fn an_address_of_another_machine_is_named() {
        let error = bind_all(&[listener("192.0.2.1:2525")], 1).expect_err("not ours");
        assert!(error.contains("no such address"), "{error}");
    }
}
