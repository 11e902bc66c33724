//! The queue: which delivery goes next, when to try again, when to give up. Pure: no I/O and no clock; `now` is passed
//! as milliseconds since the Unix epoch.
//!
//! ```text
//!  record --add--> Message { Job (<= 100 recipients of one destination), Job, .. }
//!                              |
//!            waiting(due) --next--> flying --tried--> delivered, failed: committing --outcome read back--> settled
//!                 ^                    |                                                  (the message is forgotten)
//!                 +---- deferred ------+
//! ```
//!
//! Promises: a recipient whose fate is being recorded is not sent to again; the state is changed by [`Queue::outcome`]
//! alone, which normal running and recovery both call for what the spool holds; of the jobs that are due at a destination
//! the one that has been due longest goes first; a destination that cannot be reached is asked by one
//! connection at a time and ever more rarely, and costs its messages no attempt; no attempt begins when a message's time is
//! over, and what is under way then is given up when it is back.
//!
//! A waiting message for one recipient takes about 340 octets of memory (measured with a million of them).

use crate::relay::route::Destination;
use crate::smtp::client::{Fate, Reply};
use message::{Job, Message};
use moving::Gone;
pub use moving::{Moving, Superseded};
use site::{Site, backoff};
use std::collections::{BTreeSet, HashMap};

mod message;
mod moving;
mod site;

/// Recipients of one transaction: RFC 5321 section 4.5.3.1.8 makes every server take that many.
const RECIPIENTS_PER_JOB: usize = 100;
/// Lost connections in a row, within transactions, after which a destination counts as unreachable.
const LOSSES_MAX: u32 = 3;
/// When a message is overdue and nothing can be said of it now, as nobody has tried it yet: look again after this time.
const LOOK_AGAIN_MS: u64 = 30_000;
/// The same while it is being moved to another segment: as long as a write takes, about.
const MOVING_MS: u64 = 1000;

/// How the queue behaves; times in milliseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// To the first retry; doubles.
    pub retry_first_ms: u64,
    /// Longest pause between tries.
    pub retry_max_ms: u64,
    /// From arrival (or release, RFC 4865) until a message is given up.
    pub expire_ms: u64,
    /// From arrival or release until the sender is told that it is late; none: never.
    pub warn_ms: Option<u64>,
    /// Connections to one server, over all destinations there.
    pub connections_max: usize,
}

/// A message as the queue needs it.
#[derive(Clone, Debug)]
pub struct Arrival<L> {
    /// Queue id.
    pub id: u64,
    /// Where its record is.
    pub at: L,
    /// Milliseconds since the Unix epoch: arrival, or the end of a hold if that is later.
    pub release_ms: u64,
    /// The destination of each recipient, in the order of the envelope.
    pub destinations: Vec<Destination>,
    /// The record was moved here from another segment.
    pub survivor: bool,
}

/// One transaction to be made. Its slot is given back by [`Queue::tried`] or [`Queue::unreachable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<L> {
    /// Queue id of the message.
    pub id: u64,
    /// Where its record is.
    pub at: L,
    /// Where it goes.
    pub destination: Destination,
    /// Indices of recipients in the envelope.
    pub recipients: Vec<u32>,
    part: u16,
}

/// What follows from a try. Replies by recipient index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// To be recorded as delivered.
    pub delivered: Vec<(u32, Reply)>,
    /// To be recorded as failed, with a bounce.
    pub failed: Vec<(u32, Reply)>,
    /// Tried again at `retry_ms`, if at all.
    pub deferred: Vec<(u32, Reply)>,
    /// Milliseconds since the Unix epoch; none: the message's time is over before there would be another try.
    pub retry_ms: Option<u64>,
    /// To be recorded, so that a restart does not begin with the short pauses of a new message; seldom, and not for sure.
    pub keep: Option<Deferral>,
}

/// Who broke a transaction off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody: the destination answered.
    Nobody,
    /// The destination: the connection broke.
    Destination,
    /// We: what was to be sent cannot be read, say. It says nothing of the destination.
    Ours,
}

/// What an outcome that was read is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied<L> {
    /// The message is not known: it is settled already, or will be read later in the catch-up.
    Unknown,
    /// The message at this place.
    Open(L),
    /// The message at this place, and that was its last recipient: it is forgotten.
    Settled(L),
}

/// Why a recipient was not delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The server's reply, or our own words.
    pub reply: Reply,
    /// The server that said so; none if it was we.
    pub server: Option<Box<str>>,
}

/// A message that is late, or past its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdue<L> {
    /// Queue id.
    pub id: u64,
    /// Where its record is.
    pub at: L,
    /// It is tried no more; if not, it is only late, and this is said once.
    pub given_up: bool,
    /// The recipients, each with the last reason for which it was not delivered.
    pub recipients: Vec<(u32, Reason)>,
}

/// What became of a message that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added<L> {
    /// Outcome records read before it that concern it.
    pub early: Vec<L>,
    /// Nothing is left to do: every recipient's outcome was read before.
    pub settled: bool,
    /// It was known already: one of the two copies is done with, and the message goes on as it was.
    pub superseded: Option<Superseded<L>>,
}

/// Recipients that wait, as it outlives a restart. The first of them stands for all that are tried together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deferral {
    /// Index in the envelope.
    pub recipient: u32,
    /// Transactions that were tried.
    pub attempts: u16,
    /// The next, milliseconds since the Unix epoch.
    pub next_ms: u64,
}

/// What was read about a message before the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// What became of a recipient.
    Outcome(u32),
    /// Its sender knows that it is late.
    Warned,
    Deferred(Deferral),
}

/// That, and the record in which it was read.
type Early<L> = (News, L);

/// The queue. `L` is a place in the spool.
pub struct Queue<L> {
    settings: Settings,
    messages: HashMap<u64, Message<L>>,
    sites: Vec<Site>,
    /// Connections to each server: the sum of those of its sites.
    connections: Vec<usize>,
    /// When a message is next looked at for being late or past its time.
    looks: BTreeSet<(u64, u64)>,
    /// What was read before its message; none when caught up.
    early: Option<HashMap<u64, Vec<Early<L>>>>,
    gone: Gone<L>,
    held: usize,
    random: u64,
}

impl<L: Copy + PartialEq> Queue<L> {
    /// A queue that catches up. `servers`: the server of each destination, both by number. `seed` moves the retries of many
    /// messages apart.
    pub fn new(settings: Settings, servers: impl IntoIterator<Item = usize>, seed: u64) -> Queue<L> {
        let sites: Vec<Site> = servers.into_iter().map(|server| Site { server, ..Site::default() }).collect();
        let connections = vec![0; sites.iter().map(|site| site.server + 1).max().unwrap_or(0)];
        let (messages, looks, early) = (HashMap::new(), BTreeSet::new(), Some(HashMap::new()));
        let (gone, held, random) = (Gone::new(), 0, seed | 1);
        Queue { settings, messages, sites, connections, looks, early, gone, held, random }
    }

    /// A message was read.
    pub fn add(&mut self, arrival: Arrival<L>) -> Added<L> {
        let superseded = self.supersede(&arrival);
        if superseded.is_some() {
            return Added { early: Vec::new(), settled: false, superseded };
        }
        let early = self.early.as_mut().and_then(|early| early.remove(&arrival.id)).unwrap_or_default();
        let is_done = |index: u32| early.iter().any(|&(news, _)| news == News::Outcome(index));
        let mut jobs: Vec<Job> = Vec::new();
        for (index, &destination) in (0u32..).zip(&arrival.destinations) {
            if is_done(index) {
                continue;
            }
            let fits = |job: &Job| job.destination as usize == destination && job.recipients.len() < RECIPIENTS_PER_JOB;
            match jobs.iter_mut().rev().find(|job| fits(job)) {
                Some(job) => job.recipients.push(index),
                None => jobs.push(Job::new(index, destination, arrival.release_ms)),
            }
        }
        for (news, _) in &early {
            if let News::Deferred(deferral) = news {
                message::resume(&mut jobs, deferral);
            }
        }
        // A vector that grew has room for four jobs; most messages have one.
        jobs.shrink_to_fit();
        let settled = jobs.is_empty();
        if settled && arrival.survivor && self.early.is_some() {
            self.gone.insert(arrival.id, arrival.at);
        }
        if !settled {
            for (part, job) in (0u16..).zip(&jobs) {
                self.sites[job.destination as usize].waiting.insert((job.due_ms, arrival.id, part));
            }
            let expire_ms = arrival.release_ms.saturating_add(self.settings.expire_ms);
            let warned = self.settings.warn_ms.is_none() || early.iter().any(|(news, _)| *news == News::Warned);
            let warn_ms = arrival.release_ms.saturating_add(self.settings.warn_ms.unwrap_or(0));
            let look_ms = if warned { expire_ms } else { warn_ms.min(expire_ms) };
            self.looks.insert((look_ms, arrival.id));
            let recovered = self.early.is_some();
            let Arrival { at, survivor, .. } = arrival;
            let (moving, committing) = (false, Vec::new());
            let message = Message { at, expire_ms, look_ms, warned, recovered, survivor, moving, jobs, committing };
            self.messages.insert(arrival.id, message);
        }
        Added { early: early.into_iter().map(|(_, from)| from).collect(), settled, superseded: None }
    }

    /// A message was read that this version must not deliver; it stays where it is.
    pub fn hold(&mut self) {
        self.held += 1;
    }

    /// An outcome was read, in the record at `from`.
    pub fn outcome(&mut self, id: u64, recipient: u32, from: L) -> Applied<L> {
        let Some(message) = self.messages.get_mut(&id) else {
            if let Some(early) = &mut self.early {
                early.entry(id).or_default().push((News::Outcome(recipient), from));
            }
            return Applied::Unknown;
        };
        message.committing.retain(|&index| index != recipient);
        for (part, job) in (0u16..).zip(&mut message.jobs) {
            job.recipients.retain(|&index| index != recipient);
            if job.recipients.is_empty() && !job.flying {
                self.sites[job.destination as usize].waiting.remove(&(job.due_ms, id, part));
            }
        }
        let at = message.at;
        if !message.is_settled() {
            return Applied::Open(at);
        }
        self.looks.remove(&(message.look_ms, id));
        if let Some(message) = self.messages.remove(&id) {
            self.remember(id, &message);
        }
        Applied::Settled(at)
    }

    /// It was read, in the record at `from`, that the sender of message `id` knows that it is late.
    pub fn warned(&mut self, id: u64, from: L) -> Applied<L> {
        let Some(message) = self.messages.get_mut(&id) else {
            if let Some(early) = &mut self.early {
                early.entry(id).or_default().push((News::Warned, from));
            }
            return Applied::Unknown;
        };
        message.warned = true;
        Applied::Open(message.at)
    }

    /// It was read, in the record at `from`, how often recipients of message `id` had been tried. It counts during the
    /// catch-up: later it is what this queue has said itself.
    pub fn deferred(&mut self, id: u64, deferral: Deferral, from: L) -> Applied<L> {
        let Some(message) = self.messages.get_mut(&id) else {
            if let Some(early) = &mut self.early {
                early.entry(id).or_default().push((News::Deferred(deferral), from));
            }
            return Applied::Unknown;
        };
        if self.early.is_some() {
            for (part, job) in (0u16..).zip(&message.jobs).filter(|(_, job)| !job.recipients.is_empty()) {
                self.sites[job.destination as usize].waiting.remove(&(job.due_ms, id, part));
            }
            message::resume(&mut message.jobs, &deferral);
            for (part, job) in (0u16..).zip(&message.jobs).filter(|(_, job)| !job.recipients.is_empty()) {
                self.sites[job.destination as usize].waiting.insert((job.due_ms, id, part));
            }
        }
        Applied::Open(message.at)
    }

    /// Everything that was durable at start is read: outcomes without a message belong to messages that are gone.
    pub fn caught_up(&mut self) {
        self.early = None;
        self.gone = Gone::new();
    }

    /// The next delivery for which a connection should be opened. Takes a connection of its destination.
    pub fn start(&mut self, now: u64) -> Option<Delivery<L>> {
        let ready = |site: &Site| site.due_ms(now).filter(|_| self.has_room(site));
        let sites = self.sites.iter().enumerate();
        let (_, destination) = sites.filter_map(|(index, site)| Some((ready(site)?, index))).min()?;
        let delivery = self.take(destination, now)?;
        self.sites[destination].connections += 1;
        self.connections[self.sites[destination].server] += 1;
        Some(delivery)
    }

    /// May another connection be opened? One at a time to a destination that cannot be reached.
    fn has_room(&self, site: &Site) -> bool {
        let connections_max = self.settings.connections_max;
        let limit = if site.failures > 0 { 1 } else { connections_max };
        site.connections < limit && self.connections[site.server] < connections_max
    }

    /// The next delivery for a connection to `destination` that is open. None also if another destination at the same server
    /// has waited longer and can get no connection but this one's.
    pub fn next(&mut self, destination: Destination, now: u64) -> Option<Delivery<L>> {
        let site = &self.sites[destination];
        let due_ms = site.waiting.first().map_or(u64::MAX, |first| first.0);
        let waits = |other: &Site| {
            let longer = other.due_ms(now).is_some_and(|other_ms| other_ms < due_ms);
            longer && other.server == site.server && other.connections == 0
        };
        if self.connections[site.server] >= self.settings.connections_max && self.sites.iter().any(waits) {
            return None;
        }
        self.take(destination, now)
    }

    /// None while [`Queue::overdue`] has not been asked about a message whose time is over: it is not begun any more.
    fn take(&mut self, destination: Destination, now: u64) -> Option<Delivery<L>> {
        let site = &mut self.sites[destination];
        let &(due_ms, id, part) = site.waiting.first()?;
        let message = self.messages.get_mut(&id).expect("what waits is a message's");
        if due_ms > now || message.expire_ms <= now {
            return None;
        }
        site.waiting.pop_first();
        let job = &mut message.jobs[usize::from(part)];
        job.flying = true;
        Some(Delivery { id, at: message.at, destination, recipients: job.recipients.clone(), part })
    }

    /// A connection to `destination` was closed.
    pub fn disconnected(&mut self, destination: Destination) {
        let site = &mut self.sites[destination];
        site.connections = site.connections.checked_sub(1).expect("as many closed as opened");
        self.connections[site.server] -= 1;
    }

    /// A transaction with `server` ended, or was not even begun; one fate per recipient of `delivery`.
    pub fn tried(&mut self, delivery: &Delivery<L>, fates: Vec<Fate>, blame: Blame, server: &str, now: u64) -> Tried {
        match blame {
            Blame::Nobody => self.sites[delivery.destination].answered(),
            Blame::Destination => self.site_lost(delivery.destination, now),
            Blame::Ours => {}
        }
        let mut tried = Tried::default();
        let Some(message) = self.messages.get_mut(&delivery.id) else { return tried };
        let job = &mut message.jobs[usize::from(delivery.part)];
        job.attempts = job.attempts.saturating_add(1);
        let named = job.recipients.first().copied();
        for (&recipient, fate) in delivery.recipients.iter().zip(fates) {
            let Some(place) = job.recipients.iter().position(|&index| index == recipient) else { continue };
            match fate {
                Fate::Delivered(reply) => tried.delivered.push((recipient, reply)),
                Fate::Failed(reply) => tried.failed.push((recipient, reply)),
                Fate::Deferred(reply) => {
                    tried.deferred.push((recipient, reply));
                    continue;
                }
            }
            job.recipients.remove(place);
            message.committing.push(recipient);
        }
        if let Some((_, reply)) = tried.deferred.last() {
            let server = Some(server.into()).filter(|_| !reply.ours);
            job.reason = Some(Box::new(Reason { reply: reply.clone(), server }));
            let attempts = u32::from(job.attempts);
            job.due_ms =
                now + backoff(self.settings.retry_first_ms, self.settings.retry_max_ms, attempts, &mut self.random);
            tried.retry_ms = Some(job.due_ms).filter(|&due_ms| due_ms < message.expire_ms);
            let is_kept = |kept: &Deferral| is_kept(kept.attempts, named == Some(kept.recipient));
            tried.keep = tried.retry_ms.and_then(|_| job.deferral()).filter(is_kept);
        }
        self.landed(delivery);
        tried
    }

    /// A job is back from its flight.
    fn landed(&mut self, delivery: &Delivery<L>) {
        let Some(message) = self.messages.get_mut(&delivery.id) else { return };
        let job = &mut message.jobs[usize::from(delivery.part)];
        job.flying = false;
        if job.recipients.is_empty() {
            return;
        }
        self.sites[delivery.destination].waiting.insert((job.due_ms, delivery.id, delivery.part));
        if message.look_ms > message.expire_ms {
            // The message's time ended during the flight: what was not given up then is given up now.
            self.looks.remove(&(message.look_ms, delivery.id));
            message.look_ms = message.expire_ms;
            self.looks.insert((message.look_ms, delivery.id));
        }
    }

    /// The destination could not be reached, or did not get as far as taking a transaction. The message keeps its place.
    /// Returns when the destination is tried again.
    pub fn unreachable(&mut self, delivery: &Delivery<L>, trouble: &str, now: u64) -> u64 {
        if let Some(message) = self.messages.get_mut(&delivery.id) {
            if message.expire_ms <= now {
                let heard = Reason { reply: Reply::ours(451, format!("4.4.1 {trouble}")), server: None };
                message.jobs[usize::from(delivery.part)].reason = Some(Box::new(heard));
            }
            self.landed(delivery);
        }
        let site = &mut self.sites[delivery.destination];
        site.trouble = Some(trouble.into());
        // Connections that were open when it went down fail together: that is one failure.
        if site.down_until_ms <= now {
            site.failures = site.failures.saturating_add(1);
            site.down(&self.settings, now, &mut self.random);
        }
        site.down_until_ms
    }

    /// One message that is late, or past its time; of the latter the recipients in none of the deliveries under way, which
    /// are to be recorded as failed.
    pub fn overdue(&mut self, now: u64) -> Option<Overdue<L>> {
        loop {
            let &(_, id) = self.looks.first().filter(|(look_ms, _)| *look_ms <= now)?;
            self.looks.pop_first();
            let Some(message) = self.messages.get_mut(&id) else { continue };
            if message.moving {
                message.look_ms = now + MOVING_MS;
                self.looks.insert((message.look_ms, id));
                continue;
            }
            let given_up = message.expire_ms <= now;
            let recipients = match given_up {
                true => message.give_up(id, &mut self.sites),
                false => message.late(&self.sites),
            };
            message.warned |= !recipients.is_empty();
            message.look_ms = match (given_up, message.warned) {
                // What is under way is looked at when it is back.
                (true, _) => u64::MAX,
                (false, true) => message.expire_ms,
                // Nobody has tried it yet, as after a long standstill of ours.
                (false, false) => (now + LOOK_AGAIN_MS.min(self.settings.retry_first_ms)).min(message.expire_ms),
            };
            self.looks.insert((message.look_ms, id));
            if !recipients.is_empty() {
                return Some(Overdue { id, at: message.at, given_up, recipients });
            }
        }
    }

    /// Are other transactions of message `id` under way, or due and not yet tried?
    pub fn has_more(&self, id: u64, now: u64) -> bool {
        let more = |job: &Job| job.flying || !job.recipients.is_empty() && job.attempts == 0 && job.due_ms <= now;
        self.messages.get(&id).is_some_and(|message| message.jobs.iter().any(more))
    }

    /// When [`Queue::start`] or [`Queue::overdue`] may have something that they have not now.
    pub fn wake_ms(&self) -> Option<u64> {
        let due = self.sites.iter().filter_map(|site| {
            let first = site.waiting.first().filter(|_| self.has_room(site))?;
            Some(first.0.max(site.down_until_ms))
        });
        due.chain(self.looks.first().map(|(look_ms, _)| *look_ms)).min()
    }

    /// Messages that wait for `destination`; of some of them a part.
    pub fn waiting(&self, destination: Destination) -> usize {
        self.sites[destination].waiting.len()
    }

    /// Messages not settled, and messages held.
    pub fn counts(&self) -> (usize, usize) {
        (self.messages.len(), self.held)
    }

    /// Is message `id` being moved? Then nothing of it may be recorded.
    pub fn is_moving(&self, id: u64) -> bool {
        self.messages.get(&id).is_some_and(|message| message.moving)
    }

    /// The connection broke within a transaction.
    fn site_lost(&mut self, destination: Destination, now: u64) {
        let site = &mut self.sites[destination];
        site.failures = site.failures.saturating_add(1);
        if site.failures >= LOSSES_MAX && site.down_until_ms <= now {
            site.down(&self.settings, now, &mut self.random);
        }
    }
}

/// Whenever the attempts have doubled, or the recipient is done who was named the last time: there are few such records
/// however long a message waits, and none of one that is taken at the second try.
fn is_kept(attempts: u16, is_named: bool) -> bool {
    attempts >= 2 && (attempts.is_power_of_two() || !is_named)
}

#[cfg(test)]
mod tests;
