//! What is due goes to tasks, and what they report goes to the queue, the log, the traces and the records.
//!
//! ```text
//!  Queue --Delivery--> prepare --Work--> task, a new one or one that lingers --Report--> Queue --Tried--> Records
//! ```
//!
//! Promise: a delivery that cannot be begun is deferred, as one that failed is, and says why.

use super::Worker;
use crate::clock::now_ms;
use crate::relay::following::release_ms;
use crate::relay::journal::{self, About};
use crate::relay::notification::{self, Action, Verdict};
use crate::relay::prepare;
use crate::relay::queue::{Blame, Deferral, Delivery, Tried};
use crate::relay::records::{Delivered, Told};
use crate::relay::task::{self, Report, Trial, Work};
use crate::smtp::client::{Fate, Reply};
use crate::smtp::envelope::{Deferred, View};
use crate::spool::Location;
use crate::trace::line::What;
use futures_channel::mpsc;

impl Worker {
    /// Hands out what is due to new tasks.
    pub(super) fn deliver(&mut self, now: u64) {
        for (server, connections) in self.tools.hosts.rooms() {
            self.queue.set_limit(server, connections);
        }
        self.hand_to_lingering(now);
        while self.records.may_deliver() {
            let Some(delivery) = self.queue.start(now) else { return };
            if self.routes.is_by_domain(delivery.destination) {
                self.sort(&delivery, now);
                continue;
            }
            match self.prepare(delivery) {
                Ok(work) => self.spawn(work),
                Err((delivery, reply)) => {
                    self.not_sent(&delivery, &reply, now);
                    self.queue.disconnected(delivery.destination);
                }
            }
        }
    }

    pub(super) fn spawn(&mut self, work: Work) {
        let (sender, receiver) = mpsc::unbounded();
        self.tasks_made += 1;
        self.tasks.insert(self.tasks_made, Some(sender));
        monoio::spawn(task::run(self.tasks_made, work, receiver, self.tools.clone()));
    }

    /// The next work for a task that is free; without any it lingers, if it may, or ends.
    pub(super) fn hand_on(&mut self, task: u64, destination: usize, may_linger: bool, now: u64) {
        let sender = self.tasks.insert(task, None).flatten().filter(|_| !self.stopping);
        // Its server may have gone while it waited: then it has ended, and would lose what it is handed.
        let Some(sender) = sender.filter(|sender| !sender.is_closed()) else { return };
        while self.records.may_deliver() {
            let Some(delivery) = self.queue.next(destination, now) else { break };
            match self.prepare(delivery) {
                Ok(work) => {
                    // It waits on this thread, so this cannot fail.
                    let _ = sender.unbounded_send(work);
                    self.tasks.insert(task, Some(sender));
                    return;
                }
                Err((delivery, reply)) => self.not_sent(&delivery, &reply, now),
            }
        }
        if may_linger {
            self.linger(task, destination, sender, now);
        }
    }

    /// Reads what is to be sent. Errors: why it cannot be sent now.
    pub(super) fn prepare(&mut self, delivery: Delivery<Location>) -> Result<Work, (Delivery<Location>, Reply)> {
        if delivery.destination == self.tools.ways.len() {
            let text = "4.4.4 no route takes the recipient's domain".into();
            return Err((delivery, Reply::ours(451, text)));
        }
        match prepare::read(&mut self.follower, &delivery) {
            Ok(prepared) => {
                let site = self.domains.get(delivery.destination).cloned();
                Ok(Work { delivery, prepared, site })
            }
            Err(why) => {
                journal::trouble("message cannot be read", delivery.id, &why);
                Err((delivery, Reply::ours(451, format!("4.3.0 {why}"))))
            }
        }
    }

    /// Defers what could not even be tried.
    pub(super) fn not_sent(&mut self, delivery: &Delivery<Location>, reply: &Reply, now: u64) {
        let fates = delivery.recipients.iter().map(|_| Fate::Deferred(reply.clone())).collect();
        let tried = self.queue.tried(delivery, fates, Blame::Ours, "", now);
        let about = About { id: delivery.id, recipient: b"", destination: None };
        self.counters.deferred.add(1);
        self.tools.route(self.base_of(delivery.destination)).deferred.add(reply.code);
        journal::deferred(&about, reply, tried.retry_ms);
    }

    pub(super) fn report(&mut self, report: Report) {
        let now = now_ms();
        match report {
            Report::Tried { task, trial, usable } => {
                let destination = trial.delivery.destination;
                // Who takes nothing need not be kept waiting.
                let may_linger = trial.fates.iter().any(|fate| matches!(fate, Fate::Delivered(_)));
                self.tried(trial, now);
                self.follow_room(destination);
                if usable {
                    self.hand_on(task, destination, may_linger, now);
                }
            }
            Report::Unreachable { delivery, why } => {
                let retry_ms = self.queue.unreachable(&delivery, &why, now);
                self.tools.route(self.base_of(delivery.destination)).unopened.add(1);
                let name = self.destination_name(delivery.destination);
                journal::unreachable(&name, &why, self.queue.waiting(delivery.destination), retry_ms);
                self.follow_room(delivery.destination);
            }
            Report::Closed { task, destination } => {
                self.tasks.remove(&task);
                self.lingering.ended(task);
                self.queue.disconnected(destination);
                self.follow_room(destination);
            }
        }
    }

    pub(super) fn tried(&mut self, trial: Trial, now: u64) {
        let Trial { delivery, envelope, fates, blame, handover, remote } = trial;
        let tried = self.queue.tried(&delivery, fates, blame, &remote, now);
        self.trace(&delivery, &tried, &remote);
        let view = View::parse(&envelope).unwrap_or_default();
        let about = |&recipient: &u32| About {
            id: delivery.id,
            recipient: view.recipients.get(recipient as usize).map_or(b"", |recipient| recipient.path),
            destination: Some(&remote),
        };
        let tools = self.tools.clone();
        let route = tools.route(self.base_of(delivery.destination));
        for (recipient, reply) in &tried.deferred {
            self.counters.deferred.add(1);
            route.deferred.add(reply.code);
            journal::deferred(&about(recipient), reply, tried.retry_ms);
        }
        if let Some(Deferral { recipient, attempts, next_ms }) = tried.keep {
            self.records.deferred(Deferred { queue_id: delivery.id, recipient, attempts, next_ms }, now);
        }
        let counts_from_ms = self.queue.message_counts_from_ms(delivery.id).unwrap_or_else(|| release_ms(&view));
        let mut reported = Vec::new();
        for (recipient, reply) in tried.delivered {
            self.counters.delivered.add(1);
            route.delivered.add(reply.code);
            route.queued.count(now.saturating_sub(counts_from_ms));
            journal::delivered(&about(&recipient), &reply);
            let action = handover.action().filter(|&action| notification::is_wanted(&view, recipient, action));
            match action {
                Some(action) => reported.push((recipient, action, reply)),
                None => self.records.delivered(Delivered { id: delivery.id, recipient, reply }),
            }
        }
        tried.failed.iter().for_each(|(_, reply)| route.failed.add(reply.code));
        let failed = tried.failed.into_iter().map(|(recipient, reply)| (recipient, Action::Failed, reply)).collect();
        for (matters, remote) in [(reported, handover.remote(&remote)), (failed, Some(remote.clone()))] {
            let verdict = |(recipient, action, reply): (u32, Action, Reply)| {
                // What we refuse ourselves is not laid at the server's door.
                let remote = remote.clone().filter(|_| !reply.ours);
                Verdict { recipient, action, reply, remote }
            };
            let verdicts: Vec<_> = Vec::into_iter(matters).map(verdict).collect();
            if !verdicts.is_empty() {
                let more = self.queue.has_more(delivery.id, now) && !self.stopping;
                self.records.told(Told { id: delivery.id, at: delivery.at, verdicts }, more, now);
            }
        }
    }

    /// Keeps what a server said: of deferrals the first, second, fourth .., as tries of five days would say the same. What
    /// fails is kept with its notification.
    pub(super) fn trace(&self, delivery: &Delivery<Location>, tried: &Tried, remote: &str) {
        for (recipients, reply) in by_reply(&tried.delivered) {
            let text = format!("{} {}", reply.code, reply.text);
            self.traces.happened(What::Delivered, delivery.id, &recipients, remote, &text);
        }
        let Some((first, _)) = tried.deferred.first() else { return };
        let parts = self.queue.standing(delivery.id).map(|standing| standing.parts).unwrap_or_default();
        let attempts = parts.iter().find(|part| part.recipients.contains(first)).map_or(1, |part| part.attempts);
        for (recipients, reply) in by_reply(&tried.deferred).filter(|_| attempts.is_power_of_two()) {
            let who = if reply.ours { "" } else { remote };
            let text = format!("{} {}", reply.code, reply.text);
            self.traces.happened(What::Deferred, delivery.id, &recipients, who, &text);
        }
    }
}

/// Neighbours with the same reply together: most servers say one thing to all.
fn by_reply(replies: &[(u32, Reply)]) -> impl Iterator<Item = (Vec<u32>, &Reply)> {
    let alike = replies.chunk_by(|(_, one), (_, next)| one == next);
    alike.map(|some| (some.iter().map(|(recipient, _)| *recipient).collect(), &some[0].1))
}
