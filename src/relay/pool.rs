//! Pools: to which of a destination's hosts the next connection goes, which of them are left out for a while, and how many
//! connections each may have. Pure: no I/O and no clock; `now` is passed as milliseconds since the Unix epoch.
//!
//! ```text
//!                        +-- by weight, by chance --> up, with room --open--> worked: grows
//!  destination --choose--+                              | failed, lost too often in a row (relay/losses.rs)
//!                        +-- only if none is up         v
//!                                                     down --pause over--> one probe, which carries no mail --> up again
//! ```
//!
//! Promises: a host that is down costs no message anything while another is up, and is asked by one probe at a time, ever
//! more rarely; in one attempt no host is tried twice and none is left out; a host never has more connections than
//! its limit, over all destinations that lead there, except those that were open when the limit fell.
//!
//! Health is a destination's matter, because what one message asks of TLS a host may have, and what another asks it may
//! not. The limit is the host's: half the configured most at first, one more each time as many transactions as it has were
//! answered, half when the host says that it has enough.
//!
//! By chance alone the weights would count for nothing under load, when all have as many as they may and whichever ends one
//! gets the next. So a host has that part of its limit which its weight is of the heaviest that is asked with it, to the next
//! whole number and one at least: with weights 3 and 1 and a limit of 8, one has 8 and the other 3.
//!
//! Where some hosts are to be asked before others ([`Ranked`]), the chance is among those of the lowest rank that are up.

use crate::relay::losses::{Broken, Losses};
use crate::relay::queue::backoff;
use crate::relay::route::Destination;

/// Longest pause before a host is asked again.
const PROBE_MAX_MS: u64 = 300_000;

/// How pools behave.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections to one host.
    pub connections_max: usize,
    /// To the first probe of a host that is down, milliseconds; doubles.
    pub probe_first_ms: u64,
}

/// The hosts of one destination: address and weight.
pub type Pool = Vec<(String, u32)>;

/// The hosts of one destination of which some are to be asked before others: address and rank, the lowest first; those of
/// one rank share the mail alike. RFC 5321 section 5.1.
pub type Ranked = Vec<(String, u16)>;

/// All hosts, and the pools that they are in.
pub struct Pools {
    settings: Settings,
    hosts: Vec<Host>,
    /// By destination.
    pools: Vec<Vec<Member>>,
    random: u64,
}

/// A host, whatever leads there.
struct Host {
    address: String,
    /// Hosts with a pool in common are one server to the queue.
    server: usize,
    /// Open, or being opened.
    connections: usize,
    limit: usize,
    /// Transactions answered since the limit was last changed.
    answered: usize,
}

/// A host in one pool.
struct Member {
    host: usize,
    weight: u32,
    /// As long as one of a lower rank is up, it is not asked.
    rank: u16,
    /// Failures in a row; 0: it is up.
    failures: u32,
    /// Connections lost in a row.
    losses: Losses,
    /// Failures before it was last up, if it has not answered a transaction since it broke too many.
    relapses_from: u32,
    probe_ms: u64,
    probing: bool,
}

/// A connection's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Which pool.
    pub destination: Destination,
    /// Which of its hosts, in the order of the configuration.
    pub member: usize,
}

/// Where the next connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// There; the place is taken.
    Seat(Seat),
    /// Whoever could be asked has as many as it may: wait until one is given back.
    Full,
    /// All have been tried.
    Exhausted,
}

impl Pools {
    /// `pools`: of each destination, by number; none is empty. `seed` is for the choice by weight.
    pub fn new(settings: Settings, pools: impl IntoIterator<Item = Pool>, seed: u64) -> Pools {
        let mut all = Pools { settings, hosts: Vec::new(), pools: Vec::new(), random: seed | 1 };
        for pool in pools {
            all.add(pool);
        }
        all
    }

    fn add(&mut self, pool: Pool) {
        self.add_members(pool.into_iter().map(|(address, weight)| (address, weight, 0)));
    }

    /// One pool, and what `before` knows of the same hosts, if anything.
    pub fn ranked(settings: Settings, pool: Ranked, before: Option<&Pools>, seed: u64) -> Pools {
        let mut all = Pools { settings, hosts: Vec::new(), pools: Vec::new(), random: seed | 1 };
        all.add_members(pool.into_iter().map(|(address, rank)| (address, 1, rank)));
        if let Some(before) = before {
            all.inherit(before);
        }
        all
    }

    /// Connections that are open belong to `before`.
    fn inherit(&mut self, before: &Pools) {
        let Pools { hosts, pools, .. } = self;
        for member in pools.iter_mut().flatten() {
            let host = &mut hosts[member.host];
            let mut known = before.pools.iter().flatten().map(|known| (known, &before.hosts[known.host]));
            if let Some((known, known_host)) = known.find(|(_, known)| known.address == host.address) {
                (host.limit, host.answered) = (known_host.limit, known_host.answered);
                (member.failures, member.losses, member.probe_ms) = (known.failures, known.losses, known.probe_ms);
                member.relapses_from = known.relapses_from;
            }
        }
    }

    fn add_members(&mut self, members: impl Iterator<Item = (String, u32, u16)>) {
        let members: Vec<Member> =
            members.map(|(address, weight, rank)| Member::new(self.host(address), weight, rank)).collect();
        let servers: Vec<usize> = members.iter().map(|member| self.hosts[member.host].server).collect();
        let server = servers.iter().copied().min().expect("a pool has a host");
        for host in self.hosts.iter_mut().filter(|host| servers.contains(&host.server)) {
            host.server = server;
        }
        self.pools.push(members);
    }

    fn host(&mut self, address: String) -> usize {
        let known = self.hosts.iter().position(|host| host.address == address);
        known.unwrap_or_else(|| {
            let (server, limit) = (self.hosts.len(), self.settings.connections_max.div_ceil(2));
            self.hosts.push(Host { address, server, connections: 0, limit, answered: 0 });
            server
        })
    }

    /// The server of `destination`, for the queue: below the number of hosts.
    pub fn server(&self, destination: Destination) -> usize {
        self.hosts[self.pools[destination][0].host].server
    }

    /// How many connections `server` may have: the sum over those of its hosts that are up and asked first, at least 1.
    pub fn room(&self, server: usize) -> usize {
        let asked = |pool: &'_ Vec<Member>, at: usize| {
            let rank = pool.iter().filter(|member| member.is_up()).map(|member| member.rank).min();
            pool.iter().any(|member| member.host == at && member.is_up() && Some(member.rank) == rank)
        };
        let is_up = |at: usize| self.pools.iter().any(|pool| asked(pool, at));
        let hosts = (0..self.hosts.len()).filter(|&at| self.hosts[at].server == server && is_up(at));
        hosts.map(|at| self.most(at)).sum::<usize>().max(1)
    }

    /// How many connections a host may have by any of its pools.
    fn most(&self, host: usize) -> usize {
        let members = |pool: &Vec<Member>| (0..pool.len()).filter(|&at| pool[at].host == host).collect::<Vec<_>>();
        let shares = self.pools.iter().flat_map(|pool| members(pool).into_iter().map(move |at| self.share(pool, at)));
        shares.max().unwrap_or(0)
    }

    /// How many connections a host may have, by its weight among those that are asked with it.
    fn share(&self, pool: &[Member], member: usize) -> usize {
        let Member { host, weight, rank, .. } = pool[member];
        let beside = pool.iter().filter(|other| other.is_up() && other.rank == rank).map(|other| other.weight);
        let (weight, heaviest) = (weight as usize, beside.max().unwrap_or(weight).max(weight).max(1) as usize);
        ((self.hosts[host].limit * weight + heaviest / 2) / heaviest).max(1)
    }

    /// All servers.
    pub fn servers(&self) -> impl Iterator<Item = usize> {
        (0..self.hosts.len()).filter(|&at| self.hosts[at].server == at)
    }

    /// The next host for an attempt that has `tried` some: of those that are up the ones of the lowest rank, by chance and
    /// weight, else the one that is to be probed first. Takes the place.
    pub fn choose(&mut self, destination: Destination, tried: &[usize]) -> Choice {
        let untried: Vec<usize> = (0..self.pools[destination].len()).filter(|member| !tried.contains(member)).collect();
        let pool = &self.pools[destination];
        let is_free = |member: &usize| self.hosts[pool[*member].host].connections < self.share(pool, *member);
        let mut up: Vec<usize> = untried.iter().copied().filter(|&member| pool[member].is_up()).collect();
        let rank = up.iter().map(|&member| pool[member].rank).min();
        up.retain(|&member| Some(pool[member].rank) == rank);
        let chosen = match (untried.is_empty(), up.is_empty()) {
            (true, _) => return Choice::Exhausted,
            (false, false) => {
                let free: Vec<usize> = up.into_iter().filter(is_free).collect();
                self.by_weight(destination, &free)
            }
            (false, true) => untried.into_iter().min_by_key(|&member| pool[member].probe_ms).filter(is_free),
        };
        chosen.map_or(Choice::Full, |member| self.seat(Seat { destination, member }))
    }

    fn seat(&mut self, seat: Seat) -> Choice {
        self.host_of(seat).connections += 1;
        Choice::Seat(seat)
    }

    fn by_weight(&mut self, destination: Destination, members: &[usize]) -> Option<usize> {
        let weight = |member: usize| u64::from(self.pools[destination][member].weight);
        let all: u64 = members.iter().map(|&member| weight(member)).sum();
        let mut drawn = draw(&mut self.random) % all.max(1);
        members.iter().copied().find(|&member| {
            let here = drawn < weight(member);
            drawn = drawn.saturating_sub(weight(member));
            here
        })
    }

    /// A host of `destination` that is down and whose pause is over, while another is up. Takes the place; the probe ends
    /// with [`Pools::worked`] or [`Pools::failed`].
    pub fn probe(&mut self, destination: Destination, now: u64) -> Option<Seat> {
        let Pools { hosts, pools, .. } = self;
        let pool = &mut pools[destination];
        if !pool.iter().any(Member::is_up) {
            return None;
        }
        let due = |member: &Member| !member.is_up() && !member.probing && member.probe_ms <= now;
        let member = pool.iter().position(|member| due(member) && hosts[member.host].has_room())?;
        pool[member].probing = true;
        hosts[pool[member].host].connections += 1;
        Some(Seat { destination, member })
    }

    /// The place is given back.
    pub fn left(&mut self, seat: Seat) {
        let host = self.host_of(seat);
        host.connections = host.connections.checked_sub(1).expect("as many left as taken");
    }

    /// Gives the place back if its host has more connections than it may by now; says whether it did.
    pub fn made_way(&mut self, seat: Seat) -> bool {
        let most = self.most(self.pools[seat.destination][seat.member].host);
        let host = self.host_of(seat);
        let too_many = host.connections > most;
        host.connections -= usize::from(too_many);
        too_many
    }

    /// The host is there; says whether it was down. If it has broken too many connections, it is asked as rarely as before
    /// when it breaks the next, until it has answered a transaction.
    pub fn worked(&mut self, seat: Seat) -> bool {
        let member = self.member(seat);
        let was_down = !member.is_up();
        match member.losses.are_too_many() {
            true => member.relapses_from = member.relapses_from.max(member.failures),
            false => member.relapses_from = 0,
        }
        (member.failures, member.probe_ms, member.probing) = (0, 0, false);
        was_down
    }

    /// The host answered a whole transaction: it may have more.
    pub fn answered(&mut self, seat: Seat) {
        self.member(seat).losses.end();
        self.worked(seat);
        let most = self.settings.connections_max;
        let host = self.host_of(seat);
        host.answered += 1;
        if host.answered >= host.limit {
            (host.answered, host.limit) = (0, (host.limit + 1).min(most));
        }
    }

    /// The host has enough of us. What was open when the limit fell may complain too: that counts once.
    pub fn throttled(&mut self, seat: Seat) {
        let most = self.most(self.pools[seat.destination][seat.member].host);
        let host = self.host_of(seat);
        if host.connections <= most {
            (host.answered, host.limit) = (0, (host.limit / 2).max(1));
        }
    }

    /// No connection was to be had. `busy`: because there are enough, so that it is not down if we have another there.
    /// Returns when it is asked again, if that has changed.
    pub fn failed(&mut self, seat: Seat, busy: bool, now: u64) -> Option<u64> {
        let others = self.host_of(seat).connections > 1;
        if busy && others {
            self.member(seat).probing = false;
            return None;
        }
        let Pools { pools, settings, random, .. } = self;
        let member = &mut pools[seat.destination][seat.member];
        // Connections that were being opened when it went down fail together: that is one failure.
        if !member.is_up() && !member.probing && member.probe_ms > now {
            return None;
        }
        member.probing = false;
        member.failures = member.failures.max(member.relapses_from).saturating_add(1);
        let first = settings.probe_first_ms.min(PROBE_MAX_MS);
        member.probe_ms = now + backoff(first, PROBE_MAX_MS, member.failures, random);
        Some(member.probe_ms)
    }

    /// A connection broke within a transaction. Returns as [`Pools::failed`].
    pub fn lost(&mut self, seat: Seat, broken: Broken, now: u64) -> Option<u64> {
        let losses = &mut self.member(seat).losses;
        let is_fault = losses.add(broken) && losses.are_too_many();
        if is_fault { self.failed(seat, false, now) } else { None }
    }

    /// The clock was set back: pauses last as long as they were meant to.
    pub fn set_back(&mut self, by_ms: u64) {
        let members = self.pools.iter_mut().flatten();
        members.for_each(|member| member.probe_ms = member.probe_ms.saturating_sub(by_ms));
    }

    /// Is another host of the pool up?
    pub fn has_another(&self, seat: Seat) -> bool {
        let others = self.pools[seat.destination].iter().enumerate().filter(|(member, _)| *member != seat.member);
        others.into_iter().any(|(_, member)| member.is_up())
    }

    /// As it is configured.
    pub fn address(&self, seat: Seat) -> &str {
        &self.hosts[self.pools[seat.destination][seat.member].host].address
    }

    /// All hosts: address, connections, and how many they may have.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.hosts.iter().map(|host| (&*host.address, host.connections, host.limit))
    }

    /// The hosts of a destination that are left out: addresses.
    pub fn down(&self, destination: Destination) -> impl Iterator<Item = &str> {
        let down = self.pools[destination].iter().filter(|member| !member.is_up());
        down.map(|member| &*self.hosts[member.host].address)
    }

    fn member(&mut self, seat: Seat) -> &mut Member {
        &mut self.pools[seat.destination][seat.member]
    }

    fn host_of(&mut self, seat: Seat) -> &mut Host {
        &mut self.hosts[self.pools[seat.destination][seat.member].host]
    }
}

impl Host {
    fn has_room(&self) -> bool {
        self.connections < self.limit
    }
}

impl Member {
    fn new(host: usize, weight: u32, rank: u16) -> Member {
        Member {
            host,
            weight,
            rank,
            failures: 0,
            losses: Losses::default(),
            relapses_from: 0,
            probe_ms: 0,
            probing: false,
        }
    }

    fn is_up(&self) -> bool {
        self.failures == 0
    }
}

/// xorshift64: any sequence will do.
fn draw(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

#[cfg(test)]
mod tests;
