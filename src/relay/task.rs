//! One task per open connection, or per Maildir delivery: it does what the worker hands it and reports back.
//!
//! ```text
//!  worker --Work--> task --Tried / Unreachable--> worker --Work--> task ..   until the worker hands it nothing more,
//!                        --Closed-->                                         or the connection is of no more use
//! ```

use crate::config::Target;
use crate::relay::connection::{Attempt, Connection, Context, Unopened, Way};
use crate::relay::direct::addresses::Place;
use crate::relay::direct::site::{Direct, Site};
use crate::relay::lease::{Hosts, Lease};
use crate::relay::maildir::{self, Maildirs};
use crate::relay::notification::Action;
use crate::relay::prepare::Prepared;
use crate::relay::queue::{Blame, Delivery};
use crate::relay::route::{Demand, Destination};
use crate::relay::watch::{OnRoute, Watch};
use crate::smtp::client::{Fate, Reply};
use crate::spool::Location;
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages on one connection.
const MESSAGES_MAX: u32 = 100;
/// A connection this old gets no more messages, so that a server behind several addresses is not stuck to one.
const AGE_MAX: Duration = Duration::from_secs(60);

/// One delivery with everything that it needs.
pub struct Work {
    /// Which.
    pub delivery: Delivery<Location>,
    /// What is sent.
    pub prepared: Prepared,
    /// The domain, if it is delivered to directly.
    pub site: Option<Rc<Site>>,
}

impl Work {
    /// The number of what is configured for it.
    fn base(&self) -> Destination {
        self.site.as_ref().map_or(self.delivery.destination, |site| site.base)
    }
}

/// Whose word the sender has when a recipient was delivered to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// The next server's, which takes over NOTIFY (RFC 3461 section 5.2.1).
    PassedOn,
    /// Nobody's but ours: the next server does not know of NOTIFY (section 5.2.2).
    Relayed,
    /// Ours: it is in the mailbox, or LMTP's server says so (section 5.2.3).
    Lmtp,
    /// The same, and where that is on this machine is nobody's business.
    Maildir,
    /// Nobody's: it was thrown away.
    Discarded,
}

impl Handover {
    /// What there is to be told to a sender who asked for it.
    pub fn action(self) -> Option<Action> {
        match self {
            Handover::PassedOn | Handover::Discarded => None,
            Handover::Relayed => Some(Action::Relayed),
            Handover::Lmtp | Handover::Maildir => Some(Action::Delivered),
        }
    }

    /// Who said so, as it is told.
    pub fn remote(self, remote: &str) -> Option<String> {
        (self != Handover::Maildir).then(|| remote.to_string())
    }
}

/// A transaction that ended.
pub struct Trial {
    /// Which delivery.
    pub delivery: Delivery<Location>,
    /// The message's envelope, stored form.
    pub envelope: Vec<u8>,
    /// One per recipient.
    pub fates: Vec<Fate>,
    /// Who broke it off.
    pub blame: Blame,
    /// Who answers for what was delivered.
    pub handover: Handover,
    /// Who said so.
    pub remote: String,
}

/// What a task reports; `task` is its number.
pub enum Report {
    /// A transaction ended.
    Tried {
        /// Which task.
        task: u64,
        /// What came of it.
        trial: Trial,
        /// The task takes another.
        usable: bool,
    },
    /// No connection: nothing was tried.
    Unreachable {
        /// Which delivery.
        delivery: Delivery<Location>,
        /// Why.
        why: String,
    },
    /// The task has ended and its connection is closed.
    Closed {
        /// Which task.
        task: u64,
        /// Its destination.
        destination: usize,
    },
}

/// What tasks share.
pub struct Tools {
    /// For connections.
    pub context: Context,
    /// For Maildirs.
    pub maildirs: Maildirs,
    /// The destinations, by number.
    pub ways: Vec<Way>,
    /// Their hosts.
    pub hosts: Hosts,
    /// For domains that are delivered to directly, if there are such routes.
    pub direct: Option<Direct>,
    /// To the worker.
    pub reports: UnboundedSender<Report>,
    /// For whoever watches.
    pub watch: Arc<Watch>,
    /// The number there of each destination's route, and of what has none.
    pub route_of: Vec<usize>,
}

impl Tools {
    /// What is counted of a destination.
    pub fn route(&self, destination: usize) -> &OnRoute {
        &self.watch.routes[self.route_of[destination]]
    }

    fn report(&self, report: Report) {
        // The worker may have gone; then the spool still says what is to be done.
        let _ = self.reports.unbounded_send(report);
    }
}

/// Runs to the end of the connection, beginning with `first`.
pub async fn run(task: u64, first: Work, work: UnboundedReceiver<Work>, tools: Rc<Tools>) {
    let destination = first.delivery.destination;
    match &tools.ways[first.base()].target {
        Target::Maildir { directory } => into_maildir(task, first, work, directory, &tools).await,
        Target::Discard => discard(task, first, work, &tools).await,
        _ => over_connection(task, first, work, &tools).await,
    }
    tools.report(Report::Closed { task, destination });
}

/// A connection to one host of the pool or another; each is tried once. Errors: that of a host that may be better another
/// time, else of one that never will be.
async fn open(destination: Destination, tools: &Rc<Tools>) -> Result<(Lease, Connection), Unopened> {
    if let Some(lease) = tools.hosts.probe(destination) {
        monoio::spawn(probe(destination, lease, tools.clone()));
    }
    let (mut tried, mut trouble) = (Vec::new(), None);
    while let Some(lease) = tools.hosts.lease(destination, &tried).await {
        match open_at(destination, &lease, tools).await {
            Ok(connection) => return Ok((lease, connection)),
            Err(Unopened::Refused(_)) if trouble.is_some() => {}
            Err(unopened) => trouble = Some(unopened),
        }
        tried.push(lease.member());
    }
    Err(trouble.unwrap_or_else(|| Unopened::Unreachable("it has no hosts".into())))
}

/// A connection for a message of `sender` and the destination `base`, to `site` if that is a domain's.
async fn open_for(
    base: Destination,
    site: Option<&Site>,
    sender: u32,
    tools: &Rc<Tools>,
) -> Result<(Lease, Connection), Unopened> {
    let way = &tools.ways[base];
    match (site, &way.target, way.demand) {
        (Some(site), _, _) => site.open(sender, tools).await,
        (None, Target::Mx(_), Demand::Required) => Err(Unopened::Refused(unproven())),
        (None, _, _) => open(base, tools).await,
    }
}

async fn open_at(destination: Destination, lease: &Lease, tools: &Tools) -> Result<Connection, Unopened> {
    let opened = Connection::open(&tools.ways[destination], lease.member(), lease.has_another(), &tools.context).await;
    lease.opened(&opened);
    opened
}

/// Is a host back that was down? Opens and closes a connection; no message waits for it.
async fn probe(destination: Destination, lease: Lease, tools: Rc<Tools>) {
    if let Ok(connection) = open_at(destination, &lease, &tools).await {
        connection.close().await;
    }
}

async fn over_connection(task: u64, first: Work, mut next: UnboundedReceiver<Work>, tools: &Rc<Tools>) {
    let (base, site, sender) = (first.base(), first.site.clone(), first.delivery.sender);
    let way = &tools.ways[base];
    let began = Instant::now();
    let (mut lease, mut connection) = match open_for(base, site.as_deref(), sender, tools).await {
        Ok(opened) => opened,
        Err(unopened) => return tools.report(unsent(task, first, unopened, way)),
    };
    let (mut opened, mut messages) = (Instant::now(), 0);
    tools.route(base).opening.count_time(opened - began);
    let mut next_work = Some(first);
    while let Some(work) = next_work {
        // A server may close what has lain idle. Nothing was sent yet, so that is no fault of the message's.
        if messages > 0 && connection.has_gone().await {
            connection.close().await;
            drop(lease);
            (lease, connection) = match open_for(base, site.as_deref(), sender, tools).await {
                Ok(opened) => opened,
                Err(unopened) => return tools.report(unsent(task, work, unopened, way)),
            };
            (opened, messages) = (Instant::now(), 0);
        }
        let Work { delivery, prepared: Prepared { mut stored, transaction }, .. } = work;
        let began = Instant::now();
        let attempt = connection.deliver(transaction, &mut stored).await;
        tools.route(base).delivery.count_time(began.elapsed());
        messages += 1;
        let blame = blamed(&attempt, &delivery, &lease, connection.place());
        let may_go_on = attempt.usable && messages < MESSAGES_MAX && opened.elapsed() < AGE_MAX;
        let usable = may_go_on && !lease.made_way();
        let Attempt { fates, passes_dsn, .. } = attempt;
        let handover = match (passes_dsn, &way.target) {
            (true, _) => Handover::PassedOn,
            (false, Target::Lmtp { .. }) => Handover::Lmtp,
            (false, _) => Handover::Relayed,
        };
        let (envelope, remote) = (stored.envelope, connection.remote().to_string());
        let trial = Trial { delivery, envelope, fates, blame, handover, remote };
        tools.report(Report::Tried { task, trial, usable });
        next_work = if usable { handed(&mut connection, &mut next).await } else { None };
    }
    connection.close().await;
}

/// What the worker hands this task next; none if the server goes first. What was handed meanwhile is not dropped with it: the
/// queue believes it under way.
async fn handed(connection: &mut Connection, next: &mut UnboundedReceiver<Work>) -> Option<Work> {
    if let Some(work) = connection.unless_gone(next.recv()).await {
        return work.ok();
    }
    next.close();
    next.try_recv().ok()
}

/// There is no connection for a message.
fn unsent(task: u64, work: Work, unopened: Unopened, way: &Way) -> Report {
    match unopened {
        Unopened::Unreachable(why) | Unopened::Busy(why) => Report::Unreachable { delivery: work.delivery, why },
        Unopened::Refused(reply) => refused(task, work, &reply, way),
    }
}

/// Tells the pool, and whoever else is at the address, what came of an attempt. Whose fault it was for the queue: not the
/// destination's while another of its hosts is up.
fn blamed(attempt: &Attempt, delivery: &Delivery<Location>, lease: &Lease, place: Option<&Place>) -> Blame {
    let is_enough = is_enough(&attempt.fates);
    if is_enough || attempt.blame == Blame::Nobody {
        lease.answered(is_enough);
    }
    let broken = match attempt.blame {
        Blame::Destination => Some(None),
        Blame::Content => Some(Some((delivery.id, delivery.sender))),
        Blame::Nobody | Blame::Ours => None,
    };
    if let Some(broken) = broken {
        lease.lost(broken);
        place.into_iter().for_each(|place| place.lost(broken));
    } else if attempt.blame == Blame::Nobody {
        place.into_iter().for_each(Place::answered);
    }
    match attempt.blame {
        Blame::Destination | Blame::Content if lease.has_another() => Blame::Ours,
        blame => blame,
    }
}

/// What a server says when it has enough of us, to everybody of a transaction. Anything else is about a message or its
/// recipients and says nothing of how many connections the host takes.
///
/// | reply | enough | source |
/// |---|---|---|
/// | 421 | yes | "service not available, closing transmission channel": RFC 5321 sections 3.8, 4.2.2 |
/// | 4.3.2 | yes | "system not accepting network messages .. excessive load": RFC 3463 section 3.4 |
/// | 4.4.5 | yes | "mail system congestion": RFC 3463 section 3.5 |
/// | 4.3.0, 4.3.1, 4.3.5 | no | no room for a message of this size, or trouble with it: RFC 5321 section 4.2.2 (451, 452) |
/// | 4.7.x | no | policy, about this sender, recipient or first attempt: RFC 3463 section 3.8, RFC 6647 (greylisting) |
/// | 4.1.x, 4.2.x | no | an address, a mailbox: RFC 3463 sections 3.2, 3.3 |
/// | 4yz without a status | no | nobody knows |
/// | what we say ourselves | no | it is not the server's word |
///
/// In the greeting, and to EHLO, any 4yz means that the host does not want us now: there is no message that it could be about.
fn is_enough(fates: &[Fate]) -> bool {
    const STATUSES: [&str; 2] = ["4.3.2", "4.4.5"];
    let says = |fate: &Fate| match fate {
        Fate::Deferred(reply) if !reply.ours => {
            let status = reply.text.split_whitespace().next().unwrap_or_default();
            reply.code == 421 || STATUSES.contains(&status)
        }
        Fate::Deferred(_) | Fate::Delivered(_) | Fate::Failed(_) => false,
    };
    !fates.is_empty() && fates.iter().all(says)
}

/// The server is there, and not for this message.
fn refused(task: u64, work: Work, reply: &Reply, way: &Way) -> Report {
    let Work { delivery, prepared, site } = work;
    let fates = vec![Fate::Failed(reply.clone()); delivery.recipients.len()];
    let (envelope, remote) = (prepared.stored.envelope, site.map_or_else(|| name(&way.target), |site| site.name()));
    let trial = Trial { delivery, envelope, fates, blame: Blame::Ours, handover: Handover::Relayed, remote };
    Report::Tried { task, trial, usable: false }
}

/// Without DNSSEC or MTA-STS nobody can tell that a domain's mail server is the one that it has named: RFC 8689 section 4.2.1.
fn unproven() -> Reply {
    let text = "5.7.10 the sender requires TLS with a proven name, and DNS proves no mail server's name here";
    Reply::ours(550, text.into())
}

/// A destination as it is configured.
pub fn name(target: &Target) -> String {
    let names: Vec<String> = target.hosts().into_iter().map(|(address, _)| address).collect();
    names.join(", ")
}

async fn into_maildir(
    task: u64,
    first: Work,
    mut next: UnboundedReceiver<Work>,
    directory: &std::path::Path,
    tools: &Tools,
) {
    let lease = tools.hosts.lease(first.delivery.destination, &[]).await;
    let mut work = Some(first);
    while let Some(Work { delivery, prepared, .. }) = work {
        let stored = prepared.stored;
        let (recipients, envelope) = (delivery.recipients.clone(), stored.envelope.clone());
        let job = maildir::Job { directory: directory.into(), recipients, stored };
        let began = Instant::now();
        let fates = tools.maildirs.deliver(job).await;
        tools.route(delivery.destination).delivery.count_time(began.elapsed());
        lease.iter().for_each(|lease| lease.answered(false));
        let (blame, handover, remote) = (Blame::Nobody, Handover::Maildir, directory.display().to_string());
        let trial = Trial { delivery, envelope, fates, blame, handover, remote };
        tools.report(Report::Tried { task, trial, usable: true });
        work = next.recv().await.ok();
    }
}

/// Throws away what comes, and says so.
async fn discard(task: u64, first: Work, mut next: UnboundedReceiver<Work>, tools: &Tools) {
    let lease = tools.hosts.lease(first.delivery.destination, &[]).await;
    let mut work = Some(first);
    while let Some(Work { delivery, prepared, .. }) = work {
        let reply = Reply::ours(250, "2.0.0 thrown away, as the route says".into());
        let fates = vec![Fate::Delivered(reply); delivery.recipients.len()];
        lease.iter().for_each(|lease| lease.answered(false));
        let (blame, handover, remote) = (Blame::Nobody, Handover::Discarded, name(&Target::Discard));
        let trial = Trial { delivery, envelope: prepared.stored.envelope, fates, blame, handover, remote };
        tools.report(Report::Tried { task, trial, usable: true });
        work = next.recv().await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_has_enough_says_so_to_everybody() {
        let deferred = |code: u16, text: &str| Fate::Deferred(Reply { code, text: text.into(), ours: false });
        let taken = Fate::Delivered(Reply { code: 250, text: "2.0.0 ok".into(), ours: false });
        for (fates, enough) in [
            (vec![deferred(421, "closing"), deferred(421, "closing")], true),
            (vec![deferred(421, "4.7.0 too many connections")], true),
            (vec![deferred(451, "4.3.2 not now")], true),
            (vec![deferred(450, "4.3.2")], true),
            (vec![deferred(451, "4.4.5 congestion"), deferred(450, "4.3.2 not now")], true),
            (vec![deferred(451, "4.3.0 try again")], false),
            (vec![deferred(452, "4.3.1 insufficient system storage")], false),
            (vec![deferred(451, "4.3.5 not configured")], false),
            (vec![deferred(451, "4.3.20 no such status")], false),
            (vec![deferred(450, "4.7.1 greylisted, try again in 300 seconds")], false),
            (vec![deferred(451, "4.7.28 too fast")], false),
            (vec![deferred(450, "4.1.8 sender's domain not found")], false),
            (vec![deferred(452, "4.2.2 mailbox full")], false),
            (vec![deferred(450, "later")], false),
            (vec![deferred(451, "4.3.2 not now"), taken.clone()], false),
            (vec![Fate::Deferred(Reply::ours(451, "4.3.0 our disk".into()))], false),
            (vec![taken], false),
            (Vec::new(), false),
        ] {
            assert_eq!(is_enough(&fates), enough, "{fates:?}");
        }
    }
}
