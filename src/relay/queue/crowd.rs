//! Sites that come and go: one for each domain that mail is delivered to directly, and there may be very many.
//!
//! ```text
//!  add_site --> agenda: by when something may begin --time--> turns of its first sender --start--> a connection
//!                 ^                                                                                    |
//!                 +------------------------------- something is left, or comes ------------------------+
//!  nothing waits, nothing is open --> take_idle --> remove_site: its number is used again
//! ```
//!
//! Promises: what one of them costs does not depend on how many there are; all of them together have no more connections than
//! [`Queue::limit_crowd`] says; for those connections senders take turns, so that a mailing to 50,000 domains does not delay
//! another's single mail. Each has a server of its own.
//!
//! **How many connections one sender may hold** is the rule of [`crate::shares`]: fewer than are free, so alone half of them.
//! Turns are not enough: who mails to a thousand domains whose servers say nothing would hold all connections for minutes when
//! the others' turn comes. A connection counts for the sender of whose mail it was begun, to its end, whatever else it is
//! handed. Where the mail of a sender who may not begin another is first in turn, that of one who may goes before it.

use super::message::Job;
use super::site::{Server, Site};
use super::{Delivery, Destination, Message, Queue, State};
use crate::shares::Shares;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// Shared sites that are looked at in one turn: two mailings to the same domains may share 50,000, and each connection that
/// begins or ends changes who may.
const TURNED_AT_ONCE: usize = 1024;

/// Where a site stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: nothing may begin there.
    #[default]
    Nowhere,
    /// In the agenda, for that time.
    Agenda(u64),
    /// Among those whose turn it will be: that of this sender, by how long its mail has been due.
    Turn(u32, u64),
}

/// The queue's knowledge of such sites.
#[derive(Debug)]
pub struct Crowd {
    /// The number of the first.
    first: Destination,
    /// Numbers that are not in use.
    free: Vec<Destination>,
    /// Nothing waited for them and nothing was open; each once.
    idle: Vec<Destination>,
    /// By when something may begin, milliseconds since the Unix epoch.
    agenda: BTreeSet<(u64, Destination)>,
    turns: Turns,
    /// Of those that have their turn, where mail of several senders is due.
    shared: BTreeSet<Destination>,
    /// The connections, by sender.
    shares: Shares,
    /// `Shares::changes` when it was last seen to it that no shared one has its turn by a sender who may not, if another may.
    turned_at: u64,
    /// So many of those are still to be looked at for that, from this one on.
    to_turn: usize,
    turn_from: Destination,
    /// For whom the connections to a site were begun, the oldest first: that is taken to be the one that ends.
    openers: HashMap<Destination, VecDeque<u32>>,
}

/// Sites that are due, by the sender of what is first there; senders take turns. Those without sites are forgotten when their
/// turn comes.
#[derive(Debug, Default)]
struct Turns {
    ring: VecDeque<u32>,
    /// Of each in the ring, by since when something is due.
    sites: HashMap<u32, BTreeSet<(u64, Destination)>>,
}

impl Turns {
    fn push(&mut self, sender: u32, since_ms: u64, site: Destination) {
        let ring = &mut self.ring;
        let sites = self.sites.entry(sender).or_insert_with(|| {
            ring.push_back(sender);
            BTreeSet::new()
        });
        sites.insert((since_ms, site));
    }

    fn remove(&mut self, sender: u32, since_ms: u64, site: Destination) {
        self.sites.get_mut(&sender).expect("a sender with sites").remove(&(since_ms, site));
    }

    /// The first of the first sender who may. Those who may not hold connections, so they are few.
    fn pop(&mut self, may: impl Fn(u32) -> bool) -> Option<Destination> {
        let mut at = 0;
        loop {
            let sender = *self.ring.get(at)?;
            let sites = self.sites.get_mut(&sender).expect("each in the ring has some");
            let first = if may(sender) { sites.pop_first() } else { None };
            if first.is_none() && !sites.is_empty() {
                at += 1;
                continue;
            }
            self.ring.remove(at);
            match sites.is_empty() {
                true => drop(self.sites.remove(&sender)),
                false => self.ring.push_back(sender),
            }
            if let Some((_, site)) = first {
                return Some(site);
            }
        }
    }

    /// Has a sender sites who may?
    fn has_some(&self, may: impl Fn(u32) -> bool) -> bool {
        self.ring.iter().any(|&sender| may(sender) && self.sites.get(&sender).is_some_and(|sites| !sites.is_empty()))
    }
}

impl Crowd {
    /// None yet; their numbers begin at `first`.
    pub fn new(first: Destination) -> Crowd {
        let (free, idle, agenda, turns, shared, openers) = Default::default();
        let (shares, turned_at, to_turn, turn_from) = (Shares::new(usize::MAX), 0, 0, 0);
        Crowd { first, free, idle, agenda, turns, shared, shares, turned_at, to_turn, turn_from, openers }
    }

    /// The number of the first, and of those that are always there.
    pub fn first(&self) -> Destination {
        self.first
    }

    /// A connection to `destination` more, if it is one of these, for mail of `sender`.
    pub fn connected(&mut self, destination: Destination, sender: u32) {
        if destination >= self.first {
            self.shares.take(sender);
            self.openers.entry(destination).or_default().push_back(sender);
        }
    }

    /// One less.
    pub fn disconnected(&mut self, destination: Destination) {
        if destination >= self.first {
            let openers = self.openers.get_mut(&destination).expect("as many closed as opened");
            self.shares.give_back(openers.pop_front().expect("as many closed as opened"));
            if openers.is_empty() {
                self.openers.remove(&destination);
            }
        }
    }
}

impl<L: Copy + PartialEq> Queue<L> {
    /// Most connections to all of them together.
    pub fn limit_crowd(&mut self, connections_max: usize) {
        self.crowd.shares.limit(connections_max);
    }

    /// A destination more. With `connections_max` connections at a time until [`Queue::limit_site`].
    pub fn add_site(&mut self, connections_max: usize) -> Destination {
        let number = self.crowd.free.pop().unwrap_or_else(|| {
            self.servers.push(Server::new(0));
            self.sites.push(Site::new(self.servers.len() - 1));
            self.sites.len() - 1
        });
        let server = self.sites[number].server;
        self.servers[server] = Server::new(connections_max.max(1));
        // Until something waits for it.
        self.look_if_idle(number);
        number
    }

    /// `destination`, from [`Queue::add_site`], may have so many connections from now on.
    pub fn limit_site(&mut self, destination: Destination, connections_max: usize) {
        let server = self.sites[destination].server;
        self.servers[server].connections_max = connections_max.max(1);
        self.touch(destination);
    }

    /// Nothing waits for it, nothing is under way and nothing is open.
    pub fn is_idle(&self, destination: Destination) -> bool {
        let site = &self.sites[destination];
        site.connections == 0 && site.place == Place::Nowhere && site.tally.is_empty()
    }

    /// Those that have become idle since this was last asked, each once; some of them may be so no longer.
    pub fn take_idle(&mut self) -> Vec<Destination> {
        let idle = std::mem::take(&mut self.crowd.idle);
        idle.iter().for_each(|&number| self.sites[number].is_noted = false);
        idle
    }

    /// `destination`, which is idle and in no list of [`Queue::take_idle`] that is to come, is no more. What is known of its
    /// health is forgotten.
    pub fn remove_site(&mut self, destination: Destination) {
        assert!(destination >= self.crowd.first && self.is_idle(destination), "something is left at {destination}");
        let server = self.sites[destination].server;
        self.sites[destination] = Site::new(server);
        self.crowd.idle.retain(|&number| number != destination);
        self.crowd.free.push(destination);
    }

    /// A delivery that was begun goes elsewhere, each of its recipients to the destination with the same place in
    /// `destinations`. Returns whether it is gone; else those that are to stay are still under way.
    pub fn sort(&mut self, delivery: &Delivery<L>, destinations: &[Destination]) -> bool {
        let Some(slot) = self.flying(delivery) else { return true };
        let mut groups: Vec<(Destination, Vec<u32>)> = Vec::new();
        for (&recipient, &destination) in delivery.recipients.iter().zip(destinations) {
            let is_open = self.jobs[delivery.job].recipients.as_slice().binary_search(&recipient).is_ok();
            match groups.iter_mut().find(|(known, _)| *known == destination) {
                _ if !is_open || destination == delivery.destination => {}
                Some((_, recipients)) => recipients.push(recipient),
                None => groups.push((destination, vec![recipient])),
            }
        }
        for (destination, recipients) in groups {
            self.jobs[delivery.job].recipients.remove_all(&recipients);
            let Job { due_ms, attempts, .. } = self.jobs[delivery.job];
            let job = self.insert_job(slot, recipients, destination, due_ms);
            self.jobs[job].attempts = attempts;
            self.jobs[job].heard = self.jobs[delivery.job].heard.clone();
            self.wait(job);
        }
        let is_gone = self.jobs[delivery.job].recipients.is_empty();
        if is_gone {
            self.sites[delivery.destination].answered();
            self.landed(slot, delivery.job);
        }
        is_gone
    }

    /// The next of them where something may begin, of a sender who may. It stands nowhere then, until [`Queue::touch`].
    pub(super) fn next_of_crowd(&mut self, now: u64) -> Option<Destination> {
        if !self.crowd.shares.has_room() {
            return None;
        }
        loop {
            self.give_turns(now);
            let found = self.next_in_turn(now);
            if found.is_some() || !self.turn_shared() {
                return found;
            }
        }
    }

    /// Each of them has its turn once when its time has come, however many that are at a time: nobody shall wait behind the first.
    fn give_turns(&mut self, now: u64) {
        while let Some(&(when_ms, site)) = self.crowd.agenda.first().filter(|(when_ms, _)| *when_ms <= now) {
            self.crowd.agenda.remove(&(when_ms, site));
            self.promote(site, now);
            self.turn_to_who_may(site);
            let chosen = self.chosen(site).map(|job| &self.jobs[job]);
            let (sender, since_ms) = chosen.map_or((0, 0), |job| (self.messages[job.message].sender, job.due_ms));
            self.sites[site].place = Place::Turn(sender, since_ms);
            self.crowd.turns.push(sender, since_ms, site);
            self.look_if_shared(site);
        }
    }

    fn next_in_turn(&mut self, now: u64) -> Option<Destination> {
        loop {
            let Crowd { turns, shares, .. } = &mut self.crowd;
            let site = turns.pop(|sender| shares.may(sender))?;
            self.leave_turn(site);
            self.promote(site, now);
            if self.has_room(site) && self.turn_to_who_may(site) && self.due_ms(site, now).is_some() {
                return Some(site);
            }
            self.touch(site);
        }
    }

    /// A site with mail of several senders has its turn by one of them. If that one may not begin a connection any more and
    /// another may, it is put where it has its turn by that one. The first such; says whether there was any. Each is looked at
    /// once after a change of who may, and not all of them in one turn.
    fn turn_shared(&mut self) -> bool {
        let Crowd { shared, shares, turned_at, to_turn, turn_from, .. } = &mut self.crowd;
        if std::mem::replace(turned_at, shares.changes()) != shares.changes() {
            *to_turn = shared.len();
        }
        let is_stuck = |site: Destination| {
            let Site { place, rings, .. } = &self.sites[site];
            matches!(*place, Place::Turn(sender, _) if !shares.may(sender))
                && self.lanes.has_who(rings, |sender| shares.may(sender))
        };
        let most = TURNED_AT_ONCE.min(*to_turn);
        for (looked, &site) in shared.range(*turn_from..).chain(shared.range(..*turn_from)).take(most).enumerate() {
            if is_stuck(site) {
                (*to_turn, *turn_from) = (*to_turn - looked - 1, site + 1);
                self.touch(site);
                return true;
            }
        }
        *turn_from =
            shared.range(*turn_from..).chain(shared.range(..*turn_from)).nth(most).copied().unwrap_or_default();
        *to_turn = to_turn.saturating_sub(most).min(shared.len());
        false
    }

    fn look_if_shared(&mut self, site: Destination) {
        if let Place::Turn(sender, _) = self.sites[site].place
            && self.lanes.has_others(&self.sites[site].rings, sender)
        {
            let Crowd { shared, to_turn, .. } = &mut self.crowd;
            // It may stand between those that are still to be looked at.
            *to_turn += usize::from(shared.insert(site) && *to_turn > 0);
        }
    }

    fn leave_turn(&mut self, site: Destination) {
        self.sites[site].place = Place::Nowhere;
        self.crowd.shared.remove(&site);
    }

    /// At `site` it is the turn of a sender who may begin a connection, if there is one.
    fn turn_to_who_may(&mut self, site: Destination) -> bool {
        let Queue { lanes, crowd, sites, .. } = self;
        lanes.turn_to(&mut sites[site].rings, |sender| crowd.shares.may(sender))
    }

    /// When [`Queue::start`] may find something at one of them.
    pub(super) fn crowd_wake_ms(&self) -> Option<u64> {
        let Crowd { agenda, turns, shares, shared, turned_at, to_turn, .. } = &self.crowd;
        let is_stuck = (*turned_at != shares.changes() || *to_turn > 0) && !shared.is_empty();
        let is_now = is_stuck || turns.has_some(|sender| shares.may(sender));
        let next_ms = if is_now { Some(0) } else { agenda.first().map(|(when_ms, _)| *when_ms) };
        next_ms.filter(|_| shares.has_room())
    }

    /// Something has changed at `destination`: puts it where it belongs, if it is one of these.
    pub(super) fn touch(&mut self, destination: Destination) {
        if destination < self.crowd.first {
            return;
        }
        // If its sender may not begin anything, what has come may be of one who may.
        if let Place::Turn(sender, since_ms) = self.sites[destination].place {
            if self.crowd.shares.may(sender) {
                return self.look_if_shared(destination);
            }
            self.crowd.turns.remove(sender, since_ms, destination);
            self.leave_turn(destination);
        }
        let place = self.begins_ms(destination).map_or(Place::Nowhere, Place::Agenda);
        let before = std::mem::replace(&mut self.sites[destination].place, place);
        if before != place {
            if let Place::Agenda(when_ms) = before {
                self.crowd.agenda.remove(&(when_ms, destination));
            }
            if let Place::Agenda(when_ms) = place {
                self.crowd.agenda.insert((when_ms, destination));
            }
        }
        self.look_if_idle(destination);
    }

    /// Since when something is due at `destination`, or will be, is another time now.
    pub(super) fn shift_in_crowd(&mut self, destination: Destination) {
        if let Place::Turn(sender, since_ms) = self.sites[destination].place {
            self.crowd.turns.remove(sender, since_ms, destination);
            self.leave_turn(destination);
        }
        self.touch(destination);
    }

    fn look_if_idle(&mut self, destination: Destination) {
        if self.is_idle(destination) && !std::mem::replace(&mut self.sites[destination].is_noted, true) {
            self.crowd.idle.push(destination);
        }
    }

    /// A job more of a message, which rests.
    pub(super) fn insert_job(&mut self, slot: u32, recipients: Vec<u32>, to: Destination, due_ms: u64) -> u32 {
        let job = self.jobs.insert(Job::new(slot, recipients, to, due_ms));
        self.sites[to].tally.add(State::Resting);
        let Message { jobs, .. } = &mut self.messages[slot];
        self.jobs[job].next = std::mem::replace(jobs, job);
        job
    }
}

#[cfg(test)]
mod tests;
