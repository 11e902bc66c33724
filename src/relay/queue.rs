//! The queue: which delivery goes next, when to try again, when to give up. Pure: no I/O and no clock; `now` is passed
//! as milliseconds since the Unix epoch.
//!
//! ```text
//!  record --add--> Message { Job (<= 100 recipients of one destination), Job, .. }
//!                              |
//!     later(due) --> ready(turn) --next--> flying --tried--> delivered, failed: committing --outcome read back--> settled
//!          ^                                  |                                              (the message is forgotten)
//!          +------------ deferred ------------+
//! ```
//!
//! Promises: a recipient whose fate is being recorded is not sent to again; the state is changed by [`Queue::outcome`]
//! alone, which normal running and recovery both call for what the spool holds; at a destination senders take turns
//! (queue/turns.rs), and of a sender's jobs the one that has been due longest goes first; a destination that cannot be
//! reached is asked by one connection at a time and ever more rarely, and costs its messages no attempt; when a message's
//! time is over it is given up after the try that is under way or is due then, or that a start still owes it (queue/late.rs).
//!
//! Nothing is scanned: what comes next is at the top of a heap or at the front of a ring. A waiting message for one
//! recipient takes about 160 octets of memory, 190 if no other message has the same sender (measured with a million of them,
//! in `memory.rs`), and the reason why it waits about 150 more unless the one before it at that destination has the same.

use crate::relay::route::Destination;
use crate::smtp::client::Reply;
use crowd::Crowd;
use hashbrown::HashTable;
use message::{Job, Message, State};
use moving::Gone;
pub use moving::{Moving, Superseded};
use operator::Orders;
pub use operator::{Deleting, NotNow};
pub use site::backoff;
use site::{Server, Site};
use slab::{NONE, Slab};
use std::collections::{HashMap, HashSet};
use turns::Lanes;
pub use view::{Counts, Part, Standing};
pub use watched::Seen;

mod crowd;
mod flight;
mod heap;
mod heard;
mod late;
mod message;
mod moving;
mod operator;
mod set_back;
mod site;
mod slab;
mod turns;
mod view;
mod watched;

/// Recipients of one transaction: RFC 5321 section 4.5.3.1.8 makes every server take that many.
const RECIPIENTS_PER_JOB: usize = 100;

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
    /// Connections to one server, over all destinations there, until [`Queue::set_limit`] or [`Queue::limit`] says otherwise.
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
    /// Who sent it, as a hash: senders take turns.
    pub sender: u32,
    /// It takes little of a connection's time, and goes before others.
    pub small: bool,
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
    /// Who sent the message: a hash.
    pub sender: u32,
    job: u32,
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
    /// The destination: the connection broke before the content.
    Destination,
    /// The connection broke in the content or before the reply to it: the destination, or this message.
    Content,
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
#[derive(Debug)]
pub struct Queue<L> {
    settings: Settings,
    messages: Slab<Message<L>>,
    /// Messages by their ids.
    ids: HashTable<u32>,
    jobs: Slab<Job>,
    lanes: Lanes,
    sites: Vec<Site>,
    servers: Vec<Server>,
    /// Of the sites those that come and go.
    crowd: Crowd,
    /// Heap of messages by when they are looked at for being late or past their time.
    looks: u32,
    /// Recipients whose fate is known and not yet read back, by message: few at a time.
    committing: HashMap<u32, Vec<u32>>,
    /// What was read before its message; none when caught up.
    early: Option<HashMap<u64, Vec<Early<L>>>>,
    gone: Gone<L>,
    /// What an operator has ordered.
    orders: Orders<L>,
    held: usize,
    random: u64,
}

impl<L: Copy + PartialEq> Queue<L> {
    /// A queue that catches up. `servers`: the server of each destination, both by number. `seed` moves the retries of many
    /// messages apart.
    pub fn new(settings: Settings, servers: impl IntoIterator<Item = usize>, seed: u64) -> Queue<L> {
        let sites: Vec<Site> = servers.into_iter().map(Site::new).collect();
        let server = |_| Server::new(settings.connections_max);
        let servers = (0..sites.iter().map(|site| site.server + 1).max().unwrap_or(0)).map(server).collect();
        Queue {
            settings,
            messages: Slab::new(),
            ids: HashTable::new(),
            jobs: Slab::new(),
            lanes: Lanes::new(),
            crowd: Crowd::new(sites.len()),
            sites,
            servers,
            looks: NONE,
            committing: HashMap::new(),
            early: Some(HashMap::new()),
            gone: Gone::new(),
            orders: Orders::default(),
            held: 0,
            random: seed | 1,
        }
    }

    /// Never more than so many connections to the server of `destination`, and at least one.
    pub fn limit(&mut self, destination: Destination, most: usize) {
        let server = &mut self.servers[self.sites[destination].server];
        server.most = most.max(1);
        server.connections_max = server.connections_max.min(server.most);
    }

    /// `server` may have so many connections from now on, within [`Queue::limit`]; what is open beyond that stays.
    pub fn set_limit(&mut self, server: usize, connections_max: usize) {
        let server = &mut self.servers[server];
        server.connections_max = connections_max.min(server.most);
    }

    /// A message was read.
    pub fn add(&mut self, arrival: Arrival<L>) -> Added<L> {
        let superseded = self.supersede(&arrival);
        if superseded.is_some() {
            return Added { early: Vec::new(), settled: false, superseded };
        }
        let early = self.early.as_mut().and_then(|early| early.remove(&arrival.id)).unwrap_or_default();
        let done: HashSet<u32> = early.iter().filter_map(|(news, _)| news.outcome()).collect();
        let groups = groups(&arrival.destinations, &done);
        let settled = groups.is_empty();
        if settled && arrival.survivor && self.early.is_some() {
            self.gone.insert(arrival.id, arrival.at);
        }
        if !settled {
            let slot = self.enqueue(&arrival, groups, early.iter().any(|(news, _)| *news == News::Warned));
            for (news, _) in &early {
                if let News::Deferred(deferral) = news {
                    self.resume(slot, deferral);
                }
            }
        }
        let mut early: Vec<L> = early.into_iter().map(|(_, from)| from).collect();
        for (act, from) in self.orders.take_early(arrival.id) {
            self.order(act, from);
            early.push(from);
        }
        Added { early, settled, superseded: None }
    }

    fn enqueue(&mut self, arrival: &Arrival<L>, groups: Vec<(Destination, Vec<u32>)>, was_warned: bool) -> u32 {
        let &Arrival { id, at, release_ms, survivor, sender, small, .. } = arrival;
        let mut message = Message::new(id, at, release_ms.saturating_add(self.settings.expire_ms), sender);
        message.warned = self.settings.warn_ms.is_none() || was_warned;
        (message.survivor, message.small) = (survivor, small);
        let slot = self.messages.insert(message);
        let messages = &self.messages;
        self.ids.insert_unique(hash(id), slot, |&known| hash(messages[known].id));
        // From the last to the first, so that they stand in the order of the envelope.
        for (destination, recipients) in groups.into_iter().rev() {
            let job = self.insert_job(slot, recipients, destination, release_ms);
            self.wait(job);
        }
        self.look_anew(slot);
        slot
    }

    /// A message was read that this version must not deliver; it stays where it is.
    pub fn hold(&mut self) {
        self.held += 1;
    }

    /// An outcome was read, in the record at `from`.
    pub fn outcome(&mut self, id: u64, recipient: u32, from: L) -> Applied<L> {
        let Some(slot) = self.slot(id) else { return self.unknown(id, News::Outcome(recipient), from) };
        if !self.committed(slot, recipient) {
            self.jobs_of(slot).into_iter().for_each(|job| self.strike(job, &[recipient]));
        }
        let at = self.messages[slot].at;
        if !self.is_settled(slot) {
            return Applied::Open(at);
        }
        self.forget(slot);
        Applied::Settled(at)
    }

    /// It was read, in the record at `from`, that the sender of message `id` knows that it is late.
    pub fn warned(&mut self, id: u64, from: L) -> Applied<L> {
        let Some(slot) = self.slot(id) else { return self.unknown(id, News::Warned, from) };
        self.messages[slot].warned = true;
        Applied::Open(self.messages[slot].at)
    }

    /// It was read, in the record at `from`, how often recipients of message `id` had been tried. It counts during the
    /// catch-up: later it is what this queue has said itself.
    pub fn deferred(&mut self, id: u64, deferral: Deferral, from: L) -> Applied<L> {
        let Some(slot) = self.slot(id) else { return self.unknown(id, News::Deferred(deferral), from) };
        if self.early.is_some() {
            self.resume(slot, &deferral);
        }
        Applied::Open(self.messages[slot].at)
    }

    /// Everything that was durable at start is read: outcomes without a message belong to messages that are gone.
    pub fn caught_up(&mut self) {
        self.early = None;
        self.gone = Gone::new();
        self.orders.caught_up();
    }

    /// Is the past read?
    pub fn is_caught_up(&self) -> bool {
        self.early.is_none()
    }

    /// Messages that wait for `destination`; of some of them a part.
    pub fn waiting(&self, destination: Destination) -> usize {
        let tally = &self.sites[destination].tally;
        tally.count(State::Later) + tally.count(State::Ready)
    }

    /// Messages not settled, and messages that this version must not deliver.
    pub fn counts(&self) -> (usize, usize) {
        (self.messages.len(), self.held)
    }

    /// Is message `id` being moved? Then nothing of it may be recorded.
    pub fn is_moving(&self, id: u64) -> bool {
        self.slot(id).is_some_and(|slot| self.messages[slot].moving)
    }

    /// News of a message that is not here, or not yet.
    fn unknown(&mut self, id: u64, news: News, from: L) -> Applied<L> {
        if let Some(early) = &mut self.early {
            early.entry(id).or_default().push((news, from));
        }
        Applied::Unknown
    }

    fn slot(&self, id: u64) -> Option<u32> {
        self.ids.find(hash(id), |&slot| self.messages[slot].id == id).copied()
    }

    /// The jobs of a message, in order.
    fn jobs_of(&self, slot: u32) -> Vec<u32> {
        let next = |&job: &u32| Some(self.jobs[job].next).filter(|&next| next != NONE);
        let first = Some(self.messages[slot].jobs).filter(|&first| first != NONE);
        std::iter::successors(first, next).collect()
    }

    /// One recipient's fate was read back; was it waited for?
    fn committed(&mut self, slot: u32, recipient: u32) -> bool {
        let Some(waiting) = self.committing.get_mut(&slot) else { return false };
        let Some(at) = waiting.iter().position(|&index| index == recipient) else { return false };
        waiting.swap_remove(at);
        if waiting.is_empty() {
            self.committing.remove(&slot);
        }
        true
    }

    /// Recipients leave a job; one without recipients waits for nothing.
    fn strike(&mut self, job: u32, recipients: &[u32]) {
        self.jobs[job].recipients.remove_all(recipients);
        if self.jobs[job].recipients.is_empty() {
            self.rest(job);
        }
    }

    /// Nothing is left to do, nor to be read back.
    fn is_settled(&self, slot: u32) -> bool {
        let is_done = |job: u32| self.jobs[job].recipients.is_empty();
        !self.committing.contains_key(&slot) && self.jobs_of(slot).into_iter().all(is_done)
    }

    /// A message is settled.
    fn forget(&mut self, slot: u32) {
        for job in self.jobs_of(slot) {
            self.rest(job);
            self.count_out(job);
        }
        self.look_no_more(slot);
        let message = self.messages.remove(slot);
        if let Ok(found) = self.ids.find_entry(hash(message.id), |&known| known == slot) {
            found.remove();
        }
        self.orders.forget(message.id);
        self.remember(&message);
    }

    /// Goes on where the job with the named recipient was before a restart.
    fn resume(&mut self, slot: u32, deferral: &Deferral) {
        let is_named = |&job: &u32| self.jobs[job].recipients.as_slice().contains(&deferral.recipient);
        let named = self.jobs_of(slot).into_iter().find(is_named);
        if let Some(job) = named.filter(|&job| self.jobs[job].attempts < deferral.attempts) {
            self.rest(job);
            let resumed = &mut self.jobs[job];
            (resumed.attempts, resumed.due_ms) = (deferral.attempts, deferral.next_ms);
            self.wait(job);
        }
    }
}

impl News {
    fn outcome(&self) -> Option<u32> {
        match self {
            News::Outcome(recipient) => Some(*recipient),
            News::Warned | News::Deferred(_) => None,
        }
    }
}

/// Recipients that go together, without those that are done: of one destination, so many as one transaction takes.
fn groups(destinations: &[Destination], done: &HashSet<u32>) -> Vec<(Destination, Vec<u32>)> {
    let mut groups: Vec<(Destination, Vec<u32>)> = Vec::new();
    for (index, &destination) in (0u32..).zip(destinations).filter(|(index, _)| !done.contains(index)) {
        let fits = |group: &&mut (Destination, Vec<u32>)| group.0 == destination && group.1.len() < RECIPIENTS_PER_JOB;
        match groups.iter_mut().rev().find(fits) {
            Some((_, recipients)) => recipients.push(index),
            None => groups.push((destination, vec![index])),
        }
    }
    groups
}

/// Queue ids are ours, one more each time: nobody can choose them, and a multiplication spreads them.
fn hash(id: u64) -> u64 {
    let mixed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

#[cfg(test)]
mod memory;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
