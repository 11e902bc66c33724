//! Each second the worker says how its queue and its hosts stand, for [`crate::relay::watch`].

use super::Worker;
use crate::relay::direct::site::Site;

/// Between two such moments, milliseconds.
const EVERY_MS: u64 = 1000;

/// When the next one is, milliseconds since the Unix epoch.
#[derive(Default)]
pub(super) struct Watching {
    next_ms: u64,
}

impl Watching {
    /// When it is.
    pub(super) fn next_ms(&self) -> u64 {
        self.next_ms
    }
}

impl Worker {
    /// A sign of life, and, when it is time, how all stands: a few dozen numbers, however much is queued.
    pub(super) fn show(&mut self, now: u64) {
        self.tools.watch.beat();
        // The clock may have been set back.
        if (self.watching.next_ms.saturating_sub(EVERY_MS)..self.watching.next_ms).contains(&now) {
            return;
        }
        self.watching.next_ms = now + EVERY_MS;
        let watch = &self.tools.watch;
        let (queued, unreadable) = self.queue.counts();
        watch.queued.set(queued as u64);
        watch.unreadable.set(unreadable as u64);
        watch.held.set(self.queue.held_by_operator() as u64);
        (0..watch.routes.len()).for_each(|number| self.show_route(number, now));
        self.follower.show();
    }

    /// A route may have several destinations, one for each demand on TLS.
    fn show_route(&self, number: usize, now: u64) {
        let route = &self.tools.watch.routes[number];
        let destinations =
            || (0..self.tools.route_of.len()).filter(|&destination| self.tools.route_of[destination] == number);
        // One step for each domain that is known, if this is a route to them.
        let is_here = |site: &Site| self.tools.route_of.get(site.base) == Some(&number);
        let domains = self.domains.all().filter(|(_, site)| is_here(site)).map(|(destination, _)| destination);
        let (mut transactions, mut connections, mut unreachable, mut oldest_ms) = ([0; 4], 0, false, None);
        for destination in destinations().chain(domains) {
            let seen = self.queue.seen(destination, now);
            let counts = [seen.counts.ready, seen.counts.later, seen.counts.flying, seen.counts.resting];
            transactions.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            connections += seen.connections;
            // One of many domains is not the route.
            unreachable |= seen.unreachable && destination < self.tools.route_of.len();
            oldest_ms = [oldest_ms, seen.oldest_ms].into_iter().flatten().min();
        }
        route.transactions.iter().zip(transactions).for_each(|(shown, count)| shown.set(count as u64));
        route.connections.set(connections as u64);
        route.unreachable.set(u64::from(unreachable));
        route.oldest_ms.set(oldest_ms.unwrap_or(0));
        let pools = self.tools.hosts.look();
        let ways = self.tools.ways.len();
        for host in &route.hosts {
            let is_down = |destination| destination < ways && pools.down(destination).any(|down| down == host.address);
            host.down.set(u64::from(destinations().any(is_down)));
            if let Some((_, connections, most)) = pools.hosts().find(|(address, ..)| *address == host.address) {
                host.connections.set(connections as u64);
                host.connections_max.set(most as u64);
            }
        }
    }
}
