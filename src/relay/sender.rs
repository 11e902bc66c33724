//! Who sent a message, as far as turns are concerned: the user, else the reverse-path, else the client's network.
//!
//! A hash of it is enough: two senders whose hashes are the same share the turns of one, about one pair among a hundred
//! thousand senders. It is keyed anew at each start, so that nobody can choose whose turns to share.

use crate::smtp::envelope::View;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Makes the hashes.
#[derive(Clone, Debug, Default)]
pub struct Senders {
    key: RandomState,
}

/// Who it is.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Sender<'a> {
    User(&'a [u8]),
    ReversePath(&'a [u8]),
    Network(Ipv6Addr),
    /// We ourselves: notifications.
    Nobody,
}

impl Senders {
    /// The sender of a message.
    pub fn of(&self, view: &View) -> u32 {
        // The upper half of 64 good bits is as good as the lower.
        (self.key.hash_one(sender(view)) >> 32) as u32
    }
}

fn sender<'a>(view: &View<'a>) -> Sender<'a> {
    match (view.user, view.reverse_path) {
        (Some(user), _) => Sender::User(user),
        (None, b"") => network(view.peer).map_or(Sender::Nobody, Sender::Network),
        (None, path) => Sender::ReversePath(path),
    }
}

/// The /24 or /64 of a client, as an IPv6 address.
fn network(peer: &[u8]) -> Option<Ipv6Addr> {
    let address: SocketAddr = std::str::from_utf8(peer).ok()?.parse().ok()?;
    let (address, kept) = match address.ip().to_canonical() {
        IpAddr::V4(address) => (address.to_ipv6_mapped(), 96 + 24),
        IpAddr::V6(address) => (address, 64),
    };
    Some(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - kept))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_else_the_reverse_path_else_the_network() {
        let view = |user, path, peer| View { user, reverse_path: path, peer, ..View::default() };
        let anna = view(Some(&b"anna"[..]), &b"anna@a.example"[..], &b"192.0.2.1:25"[..]);
        let same = [
            (anna.clone(), view(Some(b"anna"), b"else@b.example", b"[2001:db8::1]:25")),
            (view(None, b"x@y.example", b"192.0.2.1:25"), view(None, b"x@y.example", b"198.51.100.1:25")),
            (view(None, b"", b"192.0.2.1:25"), view(None, b"", b"[::ffff:192.0.2.77]:4711")),
            (view(None, b"", b"[2001:db8::1]:25"), view(None, b"", b"[2001:db8::2:1]:26")),
            (view(None, b"", b""), view(None, b"", b"a socket")),
        ];
        let senders = Senders::default();
        for (at, (one, other)) in same.iter().enumerate() {
            assert_eq!(sender(one), sender(other));
            assert_eq!(senders.of(one), senders.of(other));
            assert!(same.iter().skip(at + 1).all(|(next, _)| sender(next) != sender(one)), "{one:?}");
        }
        assert_ne!(sender(&view(Some(b"x@y"), b"", b"")), sender(&view(None, b"x@y", b"")));
        assert_ne!(sender(&view(None, b"", b"192.0.2.1:1")), sender(&view(None, b"", b"192.0.3.1:1")));
    }
}
