//! What a record of the spool changes in the queue: in normal running, after a start, and where a stopped spool is looked at.

use crate::clock::now_ms;
use crate::relay::direct::domains::Domains;
use crate::relay::journal;
use crate::relay::queue::{Applied, Arrival, Deferral, Queue, Superseded};
use crate::relay::route::{self, Demand, Destination, Routes};
use crate::relay::sender::Senders;
use crate::smtp::envelope::{Act, Damage, Deferred, View};
use crate::spool::{Follower, Location};
use crate::trace::Traces;

/// Reads records into the queue.
pub struct Following<'a> {
    /// What is changed.
    pub queue: &'a mut Queue<Location>,
    /// What is read, and told what is done with.
    pub follower: &'a mut Follower,
    /// Where recipients go.
    pub routes: &'a Routes,
    /// Domains that are destinations of their own.
    pub domains: &'a mut Domains,
    /// `TLS-Required: No` counts.
    pub honours_tls_optional: bool,
    /// Whose turns a message takes.
    pub senders: &'a Senders,
    /// Octets of content up to which a message is small.
    pub small_bytes: u64,
    /// Longest pause between tries, about, in milliseconds.
    pub retry_max_ms: u64,
    /// Where it is told what was accepted.
    pub traces: &'a Traces,
}

/// What one record says.
struct Read {
    outcomes: Vec<(u64, u32)>,
    warned: Vec<u64>,
    deferred: Vec<Deferred>,
    acts: Vec<Act>,
    arrival: Option<Arrival<Location>>,
}

impl Following<'_> {
    /// Reads one record of the spool, if there is one. Nothing else changes what is done.
    pub fn next(mut self) -> bool {
        let traces = self.traces;
        let (routes, honours, caught_up) = (self.routes, self.honours_tls_optional, self.queue.is_caught_up());
        let (domains, queue) = (&mut *self.domains, &mut *self.queue);
        let Some(entry) = self.follower.next() else { return false };
        domains.begin(queue);
        let (at, id) = (entry.at, entry.id.0);
        let (senders, small_bytes, in_record) = (self.senders, self.small_bytes, entry.content_bytes as u64);
        let read = View::parse(entry.envelope).map_err(why_held).map(|view| {
            // Of a message that is known, whatever its survivor says of orders is known as well.
            if !view.recipients.is_empty() && !view.survivor {
                traces.accepted(id, &view, caught_up);
            }
            let sender = senders.of(&view);
            let small = view.spilled.map_or(in_record, |spilled| spilled.length) <= small_bytes;
            let arrival = arrival(
                id,
                at,
                &view,
                &mut |path, demand| destination(routes, domains, queue, (view.reverse_path, sender), path, demand),
                honours,
            )
            .map(|arrival| Arrival { sender, small, ..arrival });
            let is_news = |act: &&Act| !(view.survivor && caught_up && act.queue_id == id);
            Read {
                outcomes: view.outcomes.iter().map(|outcome| (outcome.queue_id, outcome.recipient)).collect(),
                warned: view.warned.clone(),
                deferred: view.deferred.clone(),
                acts: view.acts.iter().filter(is_news).copied().collect(),
                arrival,
            }
        });
        match read {
            Ok(read) => self.apply(read, at),
            Err((what, why)) => {
                self.queue.hold();
                journal::trouble(what, id, &why);
            }
        }
        true
    }

    fn apply(&mut self, Read { outcomes, warned, deferred, acts, arrival }: Read, at: Location) {
        for Deferred { queue_id, recipient, attempts, next_ms } in deferred {
            // A clock that was set back holds no mail.
            let next_ms = next_ms.min(now_ms().saturating_add(self.retry_max_ms));
            let applied = self.queue.deferred(queue_id, Deferral { recipient, attempts, next_ms }, at);
            self.applied(applied, at);
        }
        for id in warned {
            let applied = self.queue.warned(id, at);
            self.applied(applied, at);
        }
        for act in acts {
            let applied = self.queue.order(act, at);
            self.applied(applied, at);
        }
        for (id, recipient) in outcomes {
            let applied = self.queue.outcome(id, recipient, at);
            self.applied(applied, at);
        }
        arrival.into_iter().for_each(|arrival| self.apply_arrival(arrival));
    }

    fn applied(&mut self, applied: Applied<Location>, from: Location) {
        match applied {
            Applied::Unknown => self.follower.is_about_unknown(from),
            Applied::Open(to) => self.follower.refers(from, to),
            Applied::Settled(to) => {
                self.follower.refers(from, to);
                self.follower.settled(to);
            }
        }
    }

    fn apply_arrival(&mut self, arrival: Arrival<Location>) {
        let (at, survivor) = (arrival.at, arrival.survivor);
        let added = self.queue.add(arrival);
        if let Some(Superseded { by, old }) = added.superseded {
            return self.follower.superseded(old, by);
        }
        if survivor {
            // Its original may still be there.
            self.follower.is_about_unknown(at);
        }
        // A survivor says itself what was recorded before it. If older outcomes were kept for it, and it for them because of
        // another message, neither segment would ever be recycled, nor any that refers to them.
        let needed = added.early.into_iter().filter(|from| !survivor || at.is_before(*from));
        needed.for_each(|from| self.follower.refers(from, at));
        if added.settled {
            self.follower.settled(at);
        }
    }
}

/// For the operator: what is the matter with a record, and details.
fn why_held(damage: Damage) -> (&'static str, String) {
    let what = match damage {
        Damage::NotUnderstood(_) => "message held, a newer version wrote it",
        Damage::Truncated | Damage::BadValue(_) => "message held, its envelope is damaged",
    };
    (what, format!("{damage:?}"))
}

/// Where a message goes to reach `path`; `from`: its reverse-path, and its sender as a hash.
pub fn destination(
    routes: &Routes,
    domains: &mut Domains,
    queue: &mut Queue<Location>,
    (reverse_path, sender): (&[u8], u32),
    path: &[u8],
    demand: Demand,
) -> Destination {
    match routes.route(reverse_path, path, demand) {
        Some(base) if routes.is_by_domain(base) => domains.place(queue, base, route::domain(path), sender),
        Some(destination) => destination,
        None => routes.destinations().count(),
    }
}

/// A message for the queue; none if the record holds outcomes only. `honours`: `TLS-Required: No` counts. `to`: where a
/// recipient goes.
fn arrival(
    id: u64,
    at: Location,
    view: &View,
    to: &mut dyn FnMut(&[u8], Demand) -> Destination,
    honours: bool,
) -> Option<Arrival<Location>> {
    if view.recipients.is_empty() {
        return None;
    }
    let demand = demand(view, honours);
    let destinations = view.recipients.iter().map(|recipient| to(recipient.path, demand)).collect();
    let (release_ms, survivor) = (release_ms(view), view.survivor);
    Some(Arrival { id, at, release_ms, destinations, survivor, sender: 0, small: false })
}

/// What a message asks of TLS. REQUIRETLS wins: RFC 8689 section 3.
pub fn demand(view: &View, honours: bool) -> Demand {
    match (view.require_tls, view.tls_optional && honours) {
        (true, _) => Demand::Required,
        (false, true) => Demand::Optional,
        (false, false) => Demand::Usual,
    }
}

/// Milliseconds since the Unix epoch: arrival, or the end of a hold (RFC 4865). A clock that was set back holds no mail.
pub fn release_ms(view: &View) -> u64 {
    view.hold_until_ms.unwrap_or(0).max(view.arrival_ms.min(now_ms()))
}
