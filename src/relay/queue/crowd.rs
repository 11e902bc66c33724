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

use super::message::Job;
use super::site::{Server, Site};
use super::{Delivery, Destination, Message, Queue, State};
use std::collections::{BTreeSet, HashMap, VecDeque};

/// Where a site stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: nothing may begin there.
    #[default]
    Nowhere,
    /// In the agenda, for that time.
    Agenda(u64),
    /// Among those whose turn it will be.
    Turn,
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
    connections: usize,
    connections_max: usize,
}

/// Sites that are due, by the sender of what is first there; senders take turns.
#[derive(Debug, Default)]
struct Turns {
    ring: VecDeque<u32>,
    sites: HashMap<u32, VecDeque<Destination>>,
}

impl Turns {
    fn push(&mut self, sender: u32, site: Destination) {
        let sites = self.sites.entry(sender).or_default();
        if sites.is_empty() {
            self.ring.push_back(sender);
        }
        sites.push_back(site);
    }

    fn pop(&mut self) -> Option<Destination> {
        let sender = self.ring.pop_front()?;
        let sites = self.sites.get_mut(&sender)?;
        let site = sites.pop_front();
        match sites.is_empty() {
            true => drop(self.sites.remove(&sender)),
            false => self.ring.push_back(sender),
        }
        site
    }
}

impl Crowd {
    /// None yet; their numbers begin at `first`.
    pub fn new(first: Destination) -> Crowd {
        let (free, idle, agenda, turns, connections) = Default::default();
        Crowd { first, free, idle, agenda, turns, connections, connections_max: usize::MAX }
    }

    /// The number of the first, and of those that are always there.
    pub fn first(&self) -> Destination {
        self.first
    }

    fn has_room(&self) -> bool {
        self.connections < self.connections_max
    }

    /// A connection to `destination` more, if it is one of these.
    pub fn connected(&mut self, destination: Destination) {
        self.connections += usize::from(destination >= self.first);
    }

    /// One less.
    pub fn disconnected(&mut self, destination: Destination) {
        self.connections -= usize::from(destination >= self.first);
    }
}

impl<L: Copy + PartialEq> Queue<L> {
    /// Most connections to all of them together.
    pub fn limit_crowd(&mut self, connections_max: usize) {
        self.crowd.connections_max = connections_max.max(1);
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
            self.jobs[job].reason = self.jobs[delivery.job].reason.clone();
            self.wait(job);
        }
        let is_gone = self.jobs[delivery.job].recipients.is_empty();
        if is_gone {
            self.sites[delivery.destination].answered();
            self.landed(slot, delivery.job);
        }
        is_gone
    }

    /// The next of them where something may begin. It stands nowhere then, until [`Queue::touch`].
    pub(super) fn next_of_crowd(&mut self, now: u64) -> Option<Destination> {
        if !self.crowd.has_room() {
            return None;
        }
        // Each of them once when its time has come, however many that are at a time: nobody shall wait behind the first.
        while let Some(&(when_ms, site)) = self.crowd.agenda.first().filter(|(when_ms, _)| *when_ms <= now) {
            self.crowd.agenda.remove(&(when_ms, site));
            self.sites[site].place = Place::Turn;
            self.promote(site, now);
            let sender = self.chosen(site).map_or(0, |job| self.messages[self.jobs[job].message].sender);
            self.crowd.turns.push(sender, site);
        }
        while let Some(site) = self.crowd.turns.pop() {
            self.sites[site].place = Place::Nowhere;
            self.promote(site, now);
            if self.has_room(site) && self.due_ms(site, now).is_some() {
                return Some(site);
            }
            self.touch(site);
        }
        None
    }

    /// When [`Queue::start`] may find something at one of them.
    pub(super) fn crowd_wake_ms(&self) -> Option<u64> {
        let Crowd { agenda, turns, .. } = &self.crowd;
        let next_ms = if turns.ring.is_empty() { agenda.first().map(|(when_ms, _)| *when_ms) } else { Some(0) };
        next_ms.filter(|_| self.crowd.has_room())
    }

    /// Something has changed at `destination`: puts it where it belongs, if it is one of these.
    pub(super) fn touch(&mut self, destination: Destination) {
        if destination < self.crowd.first || self.sites[destination].place == Place::Turn {
            return;
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
mod tests {
    use super::super::tests::{arrival, fates, queue};
    use super::super::{Applied, Arrival, Blame};
    use super::*;

    /// One destination that is always there, and `count` that come and go.
    fn crowd(count: usize) -> Queue<u32> {
        let mut queue = queue(1);
        (0..count).for_each(|at| assert_eq!(queue.add_site(2), 1 + at));
        queue
    }

    fn from(id: u64, sender: u32, to: &[Destination]) -> Arrival<u32> {
        Arrival { sender, ..arrival(id, 0, to) }
    }

    #[test]
    fn a_mailing_to_very_many_domains_delays_nobody_elses_mail() {
        let mut queue = crowd(5000);
        queue.limit_crowd(3);
        queue.add(from(1, 7, &(1..5000).collect::<Vec<_>>()));
        queue.add(from(2, 8, &[5000]));
        let begun: Vec<_> = std::iter::from_fn(|| queue.start(10)).collect();
        let ids: Vec<u64> = begun.iter().map(|delivery| delivery.id).collect();
        assert_eq!((ids.len(), ids.contains(&2)), (3, true), "{ids:?}");
        assert_eq!(queue.wake_ms(), Some(super::super::tests::EXPIRY), "no more connections");
        // Every one of them has its turn.
        let mut open = begun;
        let mut handed = 0;
        while let Some(delivery) = open.pop() {
            queue.tried(&delivery, fates(&[250]), Blame::Nobody, "mx", 10);
            assert_eq!(queue.next(delivery.destination, 10), None);
            queue.disconnected(delivery.destination);
            open.extend(queue.start(10));
            handed += 1;
        }
        assert_eq!(handed, 5000);
    }

    #[test]
    fn a_domain_that_is_down_is_asked_by_one_connection_when_its_pause_is_over() {
        let mut queue = crowd(2);
        (1..=4).for_each(|id| drop(queue.add(from(id, 7, &[1]))));
        let first = queue.start(0).expect("due");
        let until_ms = queue.unreachable(&first, "4.4.3 no answer", 0);
        queue.disconnected(1);
        assert_eq!((queue.start(until_ms - 1), queue.wake_ms()), (None, Some(until_ms)));
        let again = queue.start(until_ms).expect("due");
        assert_eq!(queue.start(until_ms), None, "one");
        let reason = queue.standing(2).and_then(|standing| standing.parts[0].reason.clone()).expect("a reason");
        assert_eq!(reason.reply.text, "4.4.3 no answer");
        queue.tried(&again, fates(&[250]), Blame::Nobody, "mx", until_ms);
        assert!(queue.start(until_ms).is_some(), "it is up");
    }

    #[test]
    fn what_is_idle_is_said_once_and_its_number_is_used_again() {
        let mut queue = crowd(3);
        assert_eq!((queue.take_idle(), queue.take_idle()), (vec![1, 2, 3], vec![]));
        queue.add(from(1, 7, &[2]));
        let delivery = queue.start(0).expect("due");
        queue.tried(&delivery, fates(&[250]), Blame::Nobody, "mx", 0);
        assert_eq!((queue.take_idle(), queue.is_idle(2)), (vec![], false), "its connection is open");
        queue.disconnected(2);
        assert_eq!((queue.take_idle(), queue.is_idle(2)), (vec![2], true));
        assert_eq!(queue.outcome(1, 0, 9), Applied::Settled(1));
        queue.remove_site(2);
        queue.remove_site(3);
        assert_eq!([queue.add_site(1), queue.add_site(1), queue.add_site(1)], [3, 2, 4]);
        // Forgotten while it waits, as by an operator's order.
        queue.take_idle();
        queue.add(from(5, 7, &[4]));
        assert_eq!(queue.outcome(5, 0, 9), Applied::Settled(5));
        assert_eq!(queue.take_idle(), [4]);
        assert_eq!(queue.wake_ms(), None);
    }

    #[test]
    fn what_waited_for_a_place_goes_there_and_the_rest_waits_on() {
        let mut queue = crowd(2);
        queue.add(from(1, 7, &[0, 0, 0, 0]));
        let delivery = queue.start(0).expect("due");
        assert!(!queue.sort(&delivery, &[1, 2, 0, 1]), "one has no place");
        let until_ms = queue.unreachable(&delivery, "full", 0);
        queue.disconnected(0);
        let begun: Vec<_> = std::iter::from_fn(|| queue.start(0)).collect();
        let mut parts: Vec<_> = begun.iter().map(|one| (one.destination, one.recipients.clone())).collect();
        parts.sort();
        assert_eq!(parts, [(1, vec![0, 3]), (2, vec![1])]);
        let again = queue.start(until_ms).expect("due");
        assert_eq!((again.destination, &again.recipients[..]), (0, &[2][..]));
        assert!(queue.sort(&again, &[2]));
        queue.disconnected(0);
        let last = queue.start(until_ms).expect("due");
        assert_eq!((last.destination, &last.recipients[..]), (2, &[2][..]));
        for one in begun.iter().chain([&last]) {
            let codes = vec![250; one.recipients.len()];
            queue.tried(one, fates(&codes), Blame::Nobody, "mx", 0);
            for &index in &one.recipients {
                queue.outcome(1, index, 5);
            }
        }
        assert_eq!(queue.counts(), (0, 0));
    }
}
