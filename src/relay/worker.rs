//! The relay's thread: it follows the spool, hands deliveries to tasks, and records what came of them.
//!
//! ```text
//!  Follower --records--> Queue --Delivery--> task (connection, Maildir) --Report--> Queue --Tried--> Records
//!     ^                                                                                                 |
//!     +------ outcome read back: only this changes what is done ------ spool Writer <--one record-------+
//! ```
//!
//! Promises: everything that is durable at start is read before the first delivery; recovery is the same code as normal
//! running; what is not recorded when the thread ends is still queued; the thread waits for no name server and no disk
//! but the page cache.

use crate::clock::now_ms;
use crate::config;
use crate::log::{self, Level};
use crate::metrics::{self, Owner, Set};
use crate::net::Shared;
use crate::relay::connection::{Context, Limits, Tls, Way};
use crate::relay::direct::domains::{DOMAINS_MAX, Domains};
use crate::relay::direct::site::Direct;
use crate::relay::following::{Following, release_ms};
use crate::relay::handle::RelayOptions;
use crate::relay::journal::{self, About};
use crate::relay::lease::Hosts;
use crate::relay::maildir::Maildirs;
use crate::relay::notification::{self, Action, Verdict};
use crate::relay::operator::Asked;
use crate::relay::pool::{self, Pools};
use crate::relay::prepare;
use crate::relay::queue::{Blame, Deferral, Delivery, Queue, Reason, Settings, Tried};
use crate::relay::records::{Delivered, Records, Told};
use crate::relay::route::Routes;
use crate::relay::sender::Senders;
use crate::relay::task::{self, Report, Tools, Trial, Work};
use crate::relay::watch::{Phase, Watch};
use crate::services::Resolver;
use crate::smtp::client::{Fate, Reply};
use crate::smtp::envelope::{Deferred, View};
use crate::spool::{Follower, Location, Writer};
use crate::trace::Traces;
use crate::trace::line::What;
use futures_channel::{mpsc, oneshot};
use lingering::Lingering;
use moving::{Moved, Mover};
use operator::{Acted, Operator};
use recording::Recorded;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use watching::Watching;

mod direct;
mod lingering;
mod moving;
mod operator;
mod recording;
#[cfg(test)]
mod simulation;
mod watching;

/// Records read before deliveries get their turn.
const FOLLOW_AT_ONCE: usize = 256;
/// Deliveries under way may end within this time after `stop`.
const STOP_LIMIT_MS: u64 = 5000;
/// Longest sleep when nothing is due; a change of the clock is noticed by then, and who watches sees a sign of life.
const SLEEP_MAX_MS: u64 = 1000;

/// The thread's whole life. Errors: its spool writer could not be started.
pub async fn run(
    options: RelayOptions,
    maildirs: Maildirs,
    resolver: Resolver,
    direct: Option<Direct>,
    watch: Arc<Watch>,
    stop: oneshot::Receiver<()>,
) -> io::Result<()> {
    let shared = Shared::start();
    let (reports, reported) = mpsc::unbounded();
    let routes = Routes::new(&options.config.routes);
    let context = Context {
        hostname: options.hostname.clone(),
        resolver,
        shared: shared.clone(),
        limits: Limits::new(options.config.timeouts),
    };
    let ways = ways(&routes);
    let hosts = Hosts::new(pools(&ways, &options.config));
    let route_of = watch.numbers(ways.iter().map(|way| &way.target));
    let tools = Tools { context, maildirs, ways, hosts, direct, reports, watch, route_of };
    let mut worker = Worker::new(options, routes, tools, metrics::register(Owner::Relay, 0), reported, stop)?;
    worker.catch_up();
    worker.deliver_until_stopped().await;
    worker.finish(&shared).await;
    shared.stop();
    Ok(())
}

/// All destinations, and one more for recipients that no route takes.
fn queue(config: &config::Relay, Tools { ways, hosts, .. }: &Tools) -> Queue<Location> {
    // A server is a host, and there are no more of them than these.
    let nowhere = ways.iter().map(|way| way.target.hosts().len()).sum();
    let servers = (0..ways.len()).map(|destination| hosts.server(destination)).chain([nowhere]);
    let mut queue = Queue::new(settings(config), servers, now_ms());
    queue.limit_crowd(config.direct.connections_max);
    for (destination, way) in ways.iter().enumerate() {
        if let config::Target::Maildir { .. } = way.target {
            // One thread writes them all: what waits for it waits here, where senders take turns.
            queue.limit(destination, 1);
        }
    }
    queue
}

/// How the queue behaves.
pub fn settings(config: &config::Relay) -> Settings {
    Settings {
        retry_first_ms: config.retry_first_s.saturating_mul(1000),
        retry_max_ms: config.retry_max_s.saturating_mul(1000),
        expire_ms: config.expire_s.saturating_mul(1000),
        warn_ms: Some(config.delay_warning_s.saturating_mul(1000)).filter(|&warn_ms| warn_ms > 0),
        connections_max: config.connections_max,
    }
}

fn pools(ways: &[Way], config: &config::Relay) -> Pools {
    let probe_first_ms = config.retry_first_s.saturating_mul(1000);
    let settings = pool::Settings { connections_max: config.connections_max, probe_first_ms };
    Pools::new(settings, ways.iter().map(|way| way.target.hosts()), now_ms())
}

/// Longest pause between tries, about, in milliseconds: a recorded time that is further away is not believed.
pub fn resumed_max_ms(settings: &Settings) -> u64 {
    settings.retry_max_ms.saturating_mul(2)
}

/// All destinations, by number. `penstock check` has looked at the CAs that a route demands; a system without CA
/// certificates is a matter of the messages that require TLS.
fn ways(routes: &Routes) -> Vec<Way> {
    let mut ways: Vec<Way> = Vec::new();
    for (target, demand) in routes.destinations() {
        let tls = match ways.iter().find(|known| known.target == *target) {
            Some(known) => known.tls.clone(),
            None => Tls::of(target),
        };
        ways.push(Way { target: target.clone(), demand, tls });
    }
    ways
}

struct Worker {
    queue: Queue<Location>,
    senders: Senders,
    /// Octets of content up to which a message is small.
    small_bytes: u64,
    routes: Routes,
    domains: Domains,
    follower: Follower,
    writer: Writer,
    records: Records<Location>,
    /// From arrival or release until a message is given up.
    expire_ms: u64,
    /// Longest pause between tries, about.
    retry_max_ms: u64,
    honours_tls_optional: bool,
    hostname: String,
    counters: Arc<Set>,
    watching: Watching,
    tools: Rc<Tools>,
    /// Tasks that run; with a sender those that take more work.
    tasks: HashMap<u64, Option<mpsc::UnboundedSender<Work>>>,
    tasks_made: u64,
    lingering: Lingering,
    reported: mpsc::UnboundedReceiver<Report>,
    recorded: mpsc::UnboundedReceiver<Recorded>,
    recorded_here: mpsc::UnboundedSender<Recorded>,
    mover: Mover,
    operator: Operator,
    traces: Traces,
    stop: oneshot::Receiver<()>,
    /// Nothing is delivered.
    paused: bool,
    /// Nothing new is begun.
    stopping: bool,
}

/// What ended a wait.
enum Woken {
    Report(Report),
    Recorded(Recorded),
    Moved(Moved),
    /// An operator asks.
    Asked(Asked),
    /// What an operator has ordered is durable, or not.
    Acted(Acted),
    /// The spool has more, or it is time.
    Look,
    Stop,
}

impl Worker {
    /// Before it has read anything. Errors: its spool writer could not be started.
    fn new(
        options: RelayOptions,
        routes: Routes,
        tools: Tools,
        counters: Arc<Set>,
        reported: mpsc::UnboundedReceiver<Report>,
        stop: oneshot::Receiver<()>,
    ) -> io::Result<Worker> {
        let (recorded_here, recorded) = mpsc::unbounded();
        let writer = Writer::start(options.writer, options.driver)?;
        Ok(Worker {
            queue: queue(&options.config, &tools),
            senders: Senders::default(),
            small_bytes: options.config.small_bytes,
            // The last of those that are always there takes what has no route.
            domains: Domains::new(tools.ways.len() + 1, DOMAINS_MAX),
            routes,
            follower: options.follower,
            records: Records::new(writer.record_bytes_max()),
            writer,
            expire_ms: settings(&options.config).expire_ms,
            retry_max_ms: resumed_max_ms(&settings(&options.config)),
            honours_tls_optional: options.config.honours_tls_optional,
            hostname: options.hostname,
            counters,
            watching: Watching::default(),
            tools: Rc::new(tools),
            tasks: HashMap::new(),
            tasks_made: 0,
            lingering: Lingering::default(),
            reported,
            recorded,
            recorded_here,
            mover: Mover::new(options.move_after_s),
            operator: Operator::new(options.asked),
            traces: options.traces,
            stop,
            paused: options.config.paused,
            stopping: false,
        })
    }

    fn catch_up(&mut self) {
        let mut records = 0u64;
        while self.follow_one() {
            records += 1;
            if records.is_multiple_of(FOLLOW_AT_ONCE as u64) {
                self.tools.watch.beat();
            }
        }
        self.queue.caught_up();
        self.tools.watch.enters(if self.paused { Phase::Paused } else { Phase::Delivering });
        let (queued, held) = self.queue.counts();
        let event = log::event(Level::Info, "relay started").field("records", records);
        event.field("queued", queued).field("held", held).emit();
    }

    async fn deliver_until_stopped(&mut self) {
        loop {
            let more = (0..FOLLOW_AT_ONCE).all(|_| self.follow_one());
            let now = now_ms();
            self.show(now);
            self.record(now);
            if !self.paused {
                self.look_for_late(now);
                self.deliver(now);
                self.move_survivors(now);
            }
            self.domains.tidy(&mut self.queue);
            let until = if more { now } else { self.wake_ms(now).min(self.watching.next_ms()) };
            match self.wait(until).await {
                Woken::Report(report) => self.report(report),
                Woken::Recorded(recorded) => self.recorded(recorded),
                Woken::Moved(moved) => self.moved(moved),
                Woken::Asked(asked) => self.asked(asked, now_ms()),
                Woken::Acted(acted) => self.acted(acted),
                Woken::Look => {}
                Woken::Stop => return,
            }
        }
    }

    /// Who is late or past its time is to be told of.
    fn look_for_late(&mut self, now: u64) {
        while let Some(overdue) = self.queue.overdue(now) {
            let action = if overdue.given_up { Action::Expired } else { Action::Delayed };
            let verdict = |(recipient, Reason { reply, server })| Verdict {
                recipient,
                action,
                reply,
                remote: server.map(String::from),
            };
            let verdicts = overdue.recipients.into_iter().map(verdict).collect();
            self.records.told(Told { id: overdue.id, at: overdue.at, verdicts }, false, now);
        }
    }

    /// After `stop`: what is under way may end, what came of it is recorded.
    async fn finish(&mut self, shared: &Shared) {
        let end_ms = now_ms() + STOP_LIMIT_MS;
        self.stopping = true;
        self.records.flush();
        self.tasks.values_mut().for_each(|work| *work = None);
        while !(self.tasks.is_empty() && self.records.is_empty() && self.operator.is_idle()) && now_ms() < end_ms {
            let now = now_ms();
            self.record(now);
            // What the spool refused is tried again before the end, or those messages would be delivered once more.
            let retry_ms = self.records.wake_ms().map_or(end_ms, |until| until.max(now + 1));
            match self.wait(end_ms.min(retry_ms)).await {
                Woken::Report(report) => self.report(report),
                Woken::Recorded(recorded) => self.recorded(recorded),
                Woken::Acted(acted) => self.acted(acted),
                // Who asks now hears that nobody answers.
                Woken::Moved(_) | Woken::Asked(_) | Woken::Look | Woken::Stop => {}
            }
        }
        // Whoever still waits for a server ends now; a moment for the sockets to close.
        shared.interrupt_idle();
        monoio::time::sleep(Duration::from_millis(50)).await;
        self.writer.close().await;
        self.count_writes();
        while self.follow_one() {}
        let (queued, _) = self.queue.counts();
        log::event(Level::Info, "relay stopped").field("queued", queued).emit();
    }

    /// Reads one record of the spool, if there is one.
    fn follow_one(&mut self) -> bool {
        let Worker { queue, follower, routes, domains, senders, traces, .. } = self;
        let (small_bytes, retry_max_ms) = (self.small_bytes, self.retry_max_ms);
        let honours_tls_optional = self.honours_tls_optional;
        Following { queue, follower, routes, domains, honours_tls_optional, senders, small_bytes, retry_max_ms, traces }
            .next()
    }

    /// Hands out what is due to new tasks.
    fn deliver(&mut self, now: u64) {
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

    fn spawn(&mut self, work: Work) {
        let (sender, receiver) = mpsc::unbounded();
        self.tasks_made += 1;
        self.tasks.insert(self.tasks_made, Some(sender));
        monoio::spawn(task::run(self.tasks_made, work, receiver, self.tools.clone()));
    }

    /// The next work for a task that is free; without any it lingers, if it may, or ends.
    fn hand_on(&mut self, task: u64, destination: usize, may_linger: bool, now: u64) {
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
    fn prepare(&mut self, delivery: Delivery<Location>) -> Result<Work, (Delivery<Location>, Reply)> {
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
    fn not_sent(&mut self, delivery: &Delivery<Location>, reply: &Reply, now: u64) {
        let fates = delivery.recipients.iter().map(|_| Fate::Deferred(reply.clone())).collect();
        let tried = self.queue.tried(delivery, fates, Blame::Ours, "", now);
        let about = About { id: delivery.id, recipient: b"", destination: None };
        self.counters.deferred.add(1);
        self.tools.route(self.base_of(delivery.destination)).deferred.add(reply.code);
        journal::deferred(&about, reply, tried.retry_ms);
    }

    fn report(&mut self, report: Report) {
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

    fn tried(&mut self, trial: Trial, now: u64) {
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
        let mut reported = Vec::new();
        for (recipient, reply) in tried.delivered {
            self.counters.delivered.add(1);
            route.delivered.add(reply.code);
            route.queued.count(now.saturating_sub(release_ms(&view)));
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
    fn trace(&self, delivery: &Delivery<Location>, tried: &Tried, remote: &str) {
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

    /// When there may be something to do that nothing else wakes us for.
    fn wake_ms(&self, now: u64) -> u64 {
        let may_deliver = self.records.may_deliver() && !self.paused;
        let deliveries = self.queue.wake_ms().filter(|_| may_deliver);
        let retry = self.records.wake_ms().map(|until| until.max(now + 1));
        let moving = may_deliver.then(|| self.mover.wake_ms().max(now + 1));
        let lingering = self.lingering.wake_ms().map(|until| until.max(now + 1));
        deliveries.into_iter().chain(retry).chain(moving).chain(lingering).min().unwrap_or(u64::MAX)
    }

    async fn wait(&mut self, until_ms: u64) -> Woken {
        let pause = Duration::from_millis(until_ms.saturating_sub(now_ms()).clamp(1, SLEEP_MAX_MS));
        let Worker { reported, recorded, mover, operator, follower, stop, stopping, .. } = self;
        let mut report = pin!(reported.recv());
        let mut recorded = pin!(recorded.recv());
        let mut moved = pin!(mover.receiver.recv());
        let mut asked = pin!(operator.asked.recv());
        let mut acted = pin!(operator.acted.recv());
        let mut changed = pin!(follower.changed());
        let mut sleep = pin!(monoio::time::sleep(pause));
        poll_fn(|context| {
            // A one-shot that has fired is ready for ever.
            if !*stopping && Pin::new(&mut *stop).poll(context).is_ready() {
                return Poll::Ready(Woken::Stop);
            }
            if let Poll::Ready(Ok(recorded)) = recorded.as_mut().poll(context) {
                return Poll::Ready(Woken::Recorded(recorded));
            }
            if let Poll::Ready(Ok(moved)) = moved.as_mut().poll(context) {
                return Poll::Ready(Woken::Moved(moved));
            }
            if let Poll::Ready(Ok(acted)) = acted.as_mut().poll(context) {
                return Poll::Ready(Woken::Acted(acted));
            }
            if let Poll::Ready(Ok(report)) = report.as_mut().poll(context) {
                return Poll::Ready(Woken::Report(report));
            }
            if let Poll::Ready(Ok(asked)) = asked.as_mut().poll(context) {
                return Poll::Ready(Woken::Asked(asked));
            }
            if changed.as_mut().poll(context).is_ready() || sleep.as_mut().poll(context).is_ready() {
                return Poll::Ready(Woken::Look);
            }
            Poll::Pending
        })
        .await
    }
}

/// Neighbours with the same reply together: most servers say one thing to all.
fn by_reply(replies: &[(u32, Reply)]) -> impl Iterator<Item = (Vec<u32>, &Reply)> {
    let alike = replies.chunk_by(|(_, one), (_, next)| one == next);
    alike.map(|some| (some.iter().map(|(recipient, _)| *recipient).collect(), &some[0].1))
}
