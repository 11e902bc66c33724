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
use crate::relay::direct::addresses::Addresses;
use crate::relay::direct::domains::{DOMAINS_MAX, Domains};
use crate::relay::direct::site::Direct;
use crate::relay::following::{Following, release_ms};
use crate::relay::handle::RelayOptions;
use crate::relay::lease::Hosts;
use crate::relay::maildir::Maildirs;
use crate::relay::operator::Asked;
use crate::relay::pool::{self, Pools};
use crate::relay::queue::{Queue, Settings};
use crate::relay::records::Records;
use crate::relay::route::Routes;
use crate::relay::sender::Senders;
use crate::relay::task::{Report, Tools, Work};
use crate::relay::watch::{Phase, Watch};
use crate::services::Resolver;
use crate::spool::{Follower, Location, Writer};
use crate::trace::Traces;
use futures_channel::{mpsc, oneshot};
use lingering::Lingering;
use moving::{Moved, Mover};
use operator::{Acted, Operator};
use recording::Recorded;
use set_back::Clocks;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use watching::Watching;

mod direct;
mod handing;
mod late;
mod lingering;
mod moving;
mod operator;
mod recording;
mod set_back;
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
        addresses: Addresses::new(options.config.retry_first_s.saturating_mul(1000)),
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
    clocks: Clocks,
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
            clocks: Clocks::new(now_ms(), Instant::now()),
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
        let (queued, unreadable) = self.queue.counts();
        let event = log::event(Level::Info, "relay started").field("records", records).field("queued", queued);
        event.field("held", self.queue.held_by_operator()).field("unreadable", unreadable).emit();
    }

    async fn deliver_until_stopped(&mut self) {
        loop {
            let more = (0..FOLLOW_AT_ONCE).all(|_| self.follow_one());
            self.look_at_clocks();
            let now = now_ms();
            self.show(now);
            self.record(now);
            if !self.paused {
                self.look_for_late(now);
                self.deliver(now);
            }
            // Paused too: what was delivered before is to be overwritten in time, and what waits must not be in its way.
            self.move_survivors(now);
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

    fn look_for_late(&mut self, now: u64) {
        late::look(&mut self.queue, &mut self.records, now);
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

    /// When there may be something to do that nothing else wakes us for.
    fn wake_ms(&self, now: u64) -> u64 {
        let may_begin = self.records.may_deliver();
        let deliveries = self.queue.wake_ms().filter(|_| may_begin && !self.paused);
        let retry = self.records.wake_ms().map(|until| until.max(now + 1));
        let moving = may_begin.then(|| self.mover.wake_ms().max(now + 1));
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
