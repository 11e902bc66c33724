//! Who may connect: how many connections there are in all, and how many strangers' of each address and network.
//!
//! The kernel spreads one client's connections over all cores, so no core alone can count them: this table is the one
//! thing that the cores share while they serve. It is touched once when a connection comes, once when its client
//! authenticates and once when it goes, never between. An address and its network lie in the same shard: one short lock.
//!
//! **Bounded:** an entry exists while it counts a connection, so there are at most two for each connection.
//!
//! Only strangers are counted by address. A client that authenticates moves out of the count, so that a thousand students
//! behind one translated address are limited only while they log in; clients of trusted and exempt networks are not counted
//! at all.

use super::tally::{Due, Tally};
use crate::config::Config;
use crate::policy::{Network, Networks};
use crate::smtp::reply;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// More than any machine has cores, so that two seldom want the same lock.
const SHARDS: usize = 64;

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// 421 4.7.0: its address has as many as an address may.
    Address,
    /// 421 4.7.0: its network has as many as a network may.
    Network,
    /// 421 4.3.2: there are as many as there may be.
    Full,
}

impl Refused {
    /// What the client is told.
    pub fn reply(self) -> &'static [u8] {
        match self {
            Refused::Address | Refused::Network => reply::TOO_MANY_FROM_YOU,
            Refused::Full => reply::TOO_MANY_CONNECTIONS,
        }
    }

    /// For the log.
    pub fn name(self) -> &'static str {
        match self {
            Refused::Address => "too many connections from this address",
            Refused::Network => "too many connections from this network",
            Refused::Full => "too many connections",
        }
    }
}

/// The table that all cores share.
pub struct Admission {
    shards: [Mutex<HashMap<Network, usize>>; SHARDS],
    hasher: RandomState,
    total: AtomicUsize,
    total_max: usize,
    address_max: usize,
    network_max: usize,
    exempt: Networks,
    refusals: Mutex<Tally>,
    /// By listener.
    unsecured: Mutex<Vec<Tally>>,
}

impl Admission {
    /// As configured.
    pub fn new(config: &Config) -> Arc<Admission> {
        Arc::new(Admission {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            total: AtomicUsize::new(0),
            total_max: config.limits.connections_max,
            address_max: config.limits.connections_per_address,
            network_max: config.limits.connections_per_network,
            exempt: config.limits.connections_exempt_networks.clone(),
            refusals: Mutex::default(),
            unsecured: Mutex::default(),
        })
    }

    /// Have more connections tickets than there may be in all?
    pub fn is_over(&self) -> bool {
        self.total.load(Ordering::Relaxed) > self.total_max
    }

    /// Counts a connection in all until its ticket is dropped.
    pub fn enter(self: &Arc<Admission>) -> Ticket {
        self.total.fetch_add(1, Ordering::Relaxed);
        Ticket { admission: self.clone(), stranger: None }
    }

    /// Counts a stranger of this address.
    fn join(&self, peer: IpAddr) -> Result<(), Refused> {
        let (address, network) = (Network::address(peer), Network::around(peer));
        let mut shard = self.shard(network);
        let count = |of: &Network| shard.get(of).copied().unwrap_or(0);
        if count(&address) >= self.address_max {
            return Err(Refused::Address);
        }
        if count(&network) >= self.network_max {
            return Err(Refused::Network);
        }
        for counted in [address, network] {
            *shard.entry(counted).or_default() += 1;
        }
        Ok(())
    }

    /// Counts a refused client; the line to write about its network, if one is due.
    pub fn note_refused(&self, peer: IpAddr, now_ms: u64) -> Option<Due> {
        lock(&self.refusals).note(Network::around(peer), now_ms)
    }

    /// Counts a client that could have used STARTTLS on the listener `index` and did not; the line to write, if one is due.
    pub fn note_unsecured(&self, index: usize, peer: IpAddr, now_ms: u64) -> Option<Due> {
        let mut tallies = lock(&self.unsecured);
        if tallies.len() <= index {
            tallies.resize_with(index + 1, Tally::default);
        }
        tallies[index].note(Network::around(peer), now_ms)
    }

    /// The lines that have become due: about refused clients, and, with their listener, about those without STARTTLS.
    pub fn due(&self, now_ms: u64) -> (Vec<Due>, Vec<(usize, Due)>) {
        let mut tallies = lock(&self.unsecured);
        let unsecured = tallies.iter_mut().enumerate();
        let unsecured = unsecured.flat_map(|(index, tally)| tally.due(now_ms).into_iter().map(move |due| (index, due)));
        (lock(&self.refusals).due(now_ms), unsecured.collect())
    }

    fn shard(&self, network: Network) -> MutexGuard<'_, HashMap<Network, usize>> {
        lock(&self.shards[self.hasher.hash_one(network) as usize % SHARDS])
    }

    fn leave(&self, peer: IpAddr) {
        let (address, network) = (Network::address(peer), Network::around(peer));
        let mut shard = self.shard(network);
        for counted in [address, network] {
            let count = shard.get_mut(&counted).expect("counted when it came");
            *count -= 1;
            if *count == 0 {
                shard.remove(&counted);
            }
        }
        // A flood must not leave its memory behind.
        if shard.is_empty() && shard.capacity() > SHARD_KEPT {
            shard.shrink_to(0);
        }
    }
}

/// Entries that an empty shard keeps room for.
const SHARD_KEPT: usize = 64;

/// A session's panic is contained, and none can happen while a table is held half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection in the count.
pub struct Ticket {
    admission: Arc<Admission>,
    /// Counted as a stranger of this address.
    stranger: Option<IpAddr>,
}

impl Ticket {
    /// Counts its client under this address, and no longer under another; not if it is `known`, of a trusted network.
    pub fn count(&mut self, peer: IpAddr, known: bool) -> Result<(), Refused> {
        self.authenticated();
        if !known && !self.admission.exempt.contains(peer) {
            self.admission.join(peer)?;
            self.stranger = Some(peer);
        }
        Ok(())
    }

    /// Its client has authenticated: from here on it counts in the total only.
    pub fn authenticated(&mut self) {
        if let Some(peer) = self.stranger.take() {
            self.admission.leave(peer);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.authenticated();
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(total_max: usize, address_max: usize, network_max: usize, exempt: &[&str]) -> Arc<Admission> {
        let mut networks = Networks::default();
        for network in exempt {
            networks.add(network).expect("a network");
        }
        Arc::new(Admission {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            total: AtomicUsize::new(0),
            total_max,
            address_max,
            network_max,
            exempt: networks,
            refusals: Mutex::default(),
            unsecured: Mutex::default(),
        })
    }

    fn enter(admission: &Arc<Admission>, peer: IpAddr, known: bool) -> Result<Ticket, Refused> {
        let mut ticket = admission.enter();
        ticket.count(peer, known).map(|()| ticket)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn entries(admission: &Admission) -> usize {
        admission.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    #[test]
    fn who_never_uses_starttls_is_counted_by_listener_too() {
        let admission = admission(1000, 2, 3, &[]);
        let seen = [0, 2, 0].map(|listener| admission.note_unsecured(listener, ip("192.0.2.1"), 0).map(|due| due.seen));
        assert_eq!(seen, [Some(1), Some(1), None]);
        let later: Vec<_> = admission.due(60_000).1.into_iter().map(|(listener, due)| (listener, due.seen)).collect();
        assert_eq!(later, [(0, 2)]);
    }

    // covers: 11.3
    #[test]
    fn an_address_and_a_network_have_their_caps() {
        let admission = admission(1000, 2, 3, &[]);
        let enter = |peer: &str| super::tests::enter(&admission, ip(peer), false);
        let first = enter("192.0.2.1").expect("the first");
        let _second = enter("192.0.2.1").expect("the second");
        assert_eq!(enter("192.0.2.1").err(), Some(Refused::Address));
        let _third = enter("192.0.2.2").expect("another address of the network");
        assert_eq!(enter("192.0.2.3").err(), Some(Refused::Network));
        let _other = enter("192.0.3.1").expect("another network");
        drop(first);
        assert!(enter("192.0.2.3").is_ok(), "one has gone");
    }

    /// A host has 2^64 addresses of its own, and a site 2^16 such networks.
    // covers: 11.3
    #[test]
    fn ipv6_is_counted_by_what_one_host_and_one_site_have() {
        let admission = admission(1000, 2, 3, &[]);
        let enter = |peer: &str| super::tests::enter(&admission, ip(peer), false);
        let _kept = [enter("2001:db8::1").expect("one"), enter("2001:db8::2").expect("two")];
        assert_eq!(enter("2001:db8::3").err(), Some(Refused::Address));
        let _third = enter("2001:db8:0:1::1").expect("another /64");
        assert_eq!(enter("2001:db8:0:2::1").err(), Some(Refused::Network));
        assert!(enter("2001:db8:1::1").is_ok(), "another /48");
    }

    // covers: 11.3
    #[test]
    fn who_authenticates_makes_room_for_the_next_behind_the_same_address() {
        let admission = admission(1000, 1, 1, &[]);
        let mut students = Vec::new();
        for _ in 0..500 {
            let mut ticket = enter(&admission, ip("192.0.2.1"), false).expect("none is logging in");
            assert_eq!(enter(&admission, ip("192.0.2.1"), false).err(), Some(Refused::Address));
            ticket.authenticated();
            students.push(ticket);
        }
        assert_eq!((admission.total.load(Ordering::Relaxed), entries(&admission)), (500, 0));
        drop(students);
        assert_eq!(admission.total.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn trusted_and_exempt_clients_are_counted_in_the_total_only() {
        let admission = admission(2, 1, 1, &["198.51.100.0/24"]);
        let _trusted = [(); 5].map(|()| enter(&admission, ip("192.0.2.1"), true).expect("trusted"));
        let _exempt = [(); 5].map(|()| enter(&admission, ip("198.51.100.1"), false).expect("exempt"));
        assert!(admission.is_over());
        assert_eq!(entries(&admission), 0);
    }

    #[test]
    fn refused_ones_leave_nothing_behind() {
        let admission = admission(1000, 1, 1, &[]);
        let kept = enter(&admission, ip("192.0.2.1"), false).expect("the first");
        for host in 0..100_000u32 {
            let peer = std::net::Ipv4Addr::from(0xc000_0200 | host & 0xff).into();
            assert!(enter(&admission, peer, false).is_err());
        }
        assert_eq!((admission.total.load(Ordering::Relaxed), entries(&admission)), (1, 2));
        drop(kept);
        assert_eq!((admission.total.load(Ordering::Relaxed), entries(&admission)), (0, 0));
    }

    #[test]
    fn many_cores_at_once_lose_no_count() {
        let admission = admission(usize::MAX, usize::MAX, usize::MAX, &[]);
        std::thread::scope(|scope| {
            for core in 0..4u32 {
                let admission = &admission;
                scope.spawn(move || {
                    for turn in 0..2000u32 {
                        let peer = std::net::Ipv4Addr::from(turn.wrapping_mul(0x9e37_79b9) ^ core).into();
                        let mut ticket = enter(admission, peer, false).expect("no bound");
                        if turn % 3 == 0 {
                            ticket.authenticated();
                        }
                    }
                });
            }
        });
        assert_eq!((admission.total.load(Ordering::Relaxed), entries(&admission)), (0, 0));
    }

    // covers: 2.10 11.3
    #[test]
    fn behind_a_proxy_each_client_counts_for_itself() {
        let admission = admission(1000, 1, 1, &[]);
        let mut tickets = Vec::new();
        for client in 0..5u32 {
            let mut ticket = enter(&admission, ip("127.0.0.1"), true).expect("the proxy is not counted");
            let client = std::net::Ipv4Addr::from(client << 8).into();
            assert_eq!(ticket.count(client, false), Ok(()));
            assert_eq!(ticket.count(client, false), Ok(()), "not twice");
            let mut second = admission.enter();
            assert_eq!(second.count(client, false), Err(Refused::Address));
            tickets.push(ticket);
        }
        assert_eq!(entries(&admission), 10);
        drop(tickets);
        assert_eq!((admission.total.load(Ordering::Relaxed), entries(&admission)), (0, 0));
    }
}
