//! One life of the process: spool, writers and the relay's worker, each doing one thing when it is told to.

use super::super::Worker;
use super::super::recording::Recorded;
use super::ledger::Ledger;
use super::operator::Operator;
use crate::clock::now_ms;
use crate::config;
use crate::metrics::Set;
use crate::net::{self, Driver};
use crate::relay::connection::{Context, Limits};
use crate::relay::direct::addresses::Addresses;
use crate::relay::handle::RelayOptions;
use crate::relay::lease::Hosts;
use crate::relay::maildir::Maildirs;
use crate::relay::notification::{Action, Verdict};
use crate::relay::queue::Blame;
use crate::relay::records::Matter;
use crate::relay::route::Routes;
use crate::relay::task::{Handover, Report, Tools, Trial, Work};
use crate::relay::watch::Watch;
use crate::services::Resolver;
use crate::smtp::client::{Fate, Reply};
use crate::spool::simulated::{self, Dice, Machine};
use crate::spool::{Location, Stored, Writer};
use crate::trace::Traces;
use futures_channel::{mpsc, oneshot};
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Until a message is given up.
pub const EXPIRE_S: u64 = 6 * 3600;

const CONFIGURATION: &str = r#"
hostname = "sim.example"
[spool]
directory = "/simulated/spool"
[tls]
certificate = "c.pem"
key = "k.pem"
[auth]
users_file = "users"
[[listener]]
address = "127.0.0.1:587"
role = "submission"
tls = "required"
[relay]
[[relay.route]]
domains = ["b.example"]
lmtp = "127.0.0.1:24"
[[relay.route]]
lmtp = "127.0.0.2:24"
"#;

/// The configuration's defaults, but for times: a run is a few virtual hours long.
fn relay_options() -> config::Relay {
    let loaded = config::parse(CONFIGURATION, Path::new("/simulated/penstock.toml"));
    let relay = loaded.map(|loaded| loaded.config.relay).unwrap_or_else(|notices| panic!("{notices}"));
    let (retry_first_s, retry_max_s, expire_s, delay_warning_s) = (300, 3600, EXPIRE_S, 3600);
    config::Relay { retry_first_s, retry_max_s, expire_s, delay_warning_s, ..relay }
}

/// What is made once for each thread: it holds threads and tables, and nothing of a run.
pub struct Fixture {
    resolver: Resolver,
    maildirs: Maildirs,
    shared: Rc<net::Shared>,
    counters: Arc<Set>,
    watch: Arc<Watch>,
    relay: config::Relay,
}

impl Fixture {
    fn new() -> Fixture {
        let relay = relay_options();
        Fixture {
            resolver: Resolver::start().expect("threads"),
            maildirs: Maildirs::start("sim.example").expect("a thread"),
            shared: Rc::default(),
            counters: Arc::default(),
            watch: Arc::new(Watch::new(&relay)),
            relay,
        }
    }

    fn tools(&self, routes: &Routes) -> (Tools, mpsc::UnboundedReceiver<Report>) {
        let (reports, reported) = mpsc::unbounded();
        let context = Context {
            hostname: "sim.example".into(),
            resolver: self.resolver.clone(),
            shared: self.shared.clone(),
            addresses: Addresses::new(1000),
            limits: Limits::new(self.relay.timeouts),
        };
        let ways = super::super::ways(routes);
        let hosts = Hosts::new(super::super::pools(&ways, &self.relay));
        let (maildirs, watch) = (self.maildirs.clone(), self.watch.clone());
        let route_of = watch.numbers(ways.iter().map(|way| &way.target));
        (Tools { context, maildirs, ways, hosts, direct: None, reports, watch, route_of }, reported)
    }
}

thread_local! {
    static FIXTURE: Fixture = Fixture::new();
}

/// A running process.
pub struct Process {
    machine: Machine,
    /// One per core.
    pub writers: Vec<Writer>,
    pub(super) worker: Worker,
    /// Transactions under way.
    work: Vec<Work>,
    pub(super) operator: Operator,
    pub(super) ledger: Rc<RefCell<Ledger>>,
    /// Dropping it would end the worker.
    _stop: oneshot::Sender<()>,
}

/// What a next server does with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It takes all.
    Kind,
    /// It takes, puts off, refuses, breaks off and is away.
    Any,
}

impl Process {
    /// Starts, up to the point from which the relay reads. `wipe_after_s`: as configured. Errors: why the spool does not open.
    pub fn start(cores: usize, wipe_after_s: u64, ledger: Rc<RefCell<Ledger>>) -> Result<Process, String> {
        simulated::start();
        let mut machine = Machine::open(cores, wipe_after_s)?;
        let start = |seed| Writer::start(seed, Driver::IoUring).expect("nothing is started");
        let writers = machine.core_writers().into_iter().map(start).collect();
        let (writer, follower) = machine.relay_side();
        let (stop, stopped) = oneshot::channel();
        let worker = FIXTURE.with(|fixture| {
            let routes = Routes::new(&fixture.relay.routes);
            let (tools, reported) = fixture.tools(&routes);
            let (config, hostname) = (fixture.relay.clone(), "sim.example".into());
            let (_, asked) = crate::relay::operator::line();
            let (move_after_s, driver, traces) = (2, Driver::IoUring, Traces::off());
            let options = RelayOptions { config, hostname, move_after_s, driver, writer, follower, traces, asked };
            Worker::new(options, routes, tools, fixture.counters.clone(), reported, stopped)
                .expect("nothing is started")
        });
        Ok(Process { machine, writers, worker, work: Vec::new(), operator: Operator::default(), ledger, _stop: stop })
    }

    /// The relay reads all that there is; the files thread runs beside it.
    pub fn catch_up(&mut self, dice: &mut Dice) {
        let failed_reads = simulated::with(|disk| disk.failed_reads);
        while self.worker.follow_one() {
            if dice.below(4) == 0 {
                self.machine.step();
            }
        }
        self.worker.queue.caught_up();
        self.ledger.borrow_mut().orders_were_read();
        self.ledger.borrow_mut().lenient |= simulated::with(|disk| disk.failed_reads) != failed_reads;
    }

    /// What must be queued is, and what is queued is whole.
    pub fn check_queue(&mut self) {
        let expected: Vec<(u64, bool)> = self.ledger.borrow().expected().collect();
        for (id, must_be_there) in expected {
            let Some(at) = self.worker.queue.place(id) else {
                assert!(!must_be_there || dead(), "message {id:x} was acknowledged and is lost");
                continue;
            };
            if let Some(stored) = self.read(at) {
                self.ledger.borrow().check_whole(id, stored);
            }
        }
    }

    fn read(&mut self, at: Location) -> Option<Stored> {
        let failed_reads = simulated::with(|disk| disk.failed_reads);
        match self.worker.follower.read(at) {
            Ok(stored) => Some(stored),
            Err(why) => {
                let excused = dead() || simulated::with(|disk| disk.failed_reads) != failed_reads;
                assert!(excused, "a queued message cannot be read: {why}");
                None
            }
        }
    }

    /// The files thread does something. False: there is nothing to do.
    pub fn files(&mut self) -> bool {
        self.machine.step()
    }

    /// A second passes for the files thread.
    pub fn second(&mut self) {
        self.machine.second();
    }

    /// The relay reads some records.
    pub fn follow(&mut self, records: u64) {
        for _ in 0..records {
            if !self.worker.follow_one() {
                return;
            }
        }
    }

    /// The relay writes down what came of deliveries.
    pub fn record(&mut self) {
        let now = now_ms();
        self.worker.look_for_late(now);
        let said = self.worker.counters.bounced.get();
        self.worker.record(now);
        assert_eq!(self.worker.counters.bounced.get(), said, "a failure is told before it is durable");
    }

    /// The relay hears what became of its records.
    pub fn hear(&mut self) {
        while let Ok(recorded) = self.worker.recorded.try_recv() {
            let Recorded { matter, result, .. } = &recorded;
            let mut said = self.worker.counters.bounced.get();
            if result.is_ok() {
                self.ledger.borrow_mut().recorded(matter);
                said += failures(matter);
            }
            self.worker.recorded(recorded);
            assert_eq!(self.worker.counters.bounced.get(), said, "each failure is told once, when it is durable");
        }
        while let Ok(moved) = self.worker.mover.receiver.try_recv() {
            self.ledger.borrow_mut().moves += 1;
            self.worker.moved(moved);
        }
        self.operator.hear(&mut self.worker, &mut self.ledger.borrow_mut());
    }

    /// The relay looks for what pins segments.
    pub fn move_survivors(&mut self) {
        self.worker.move_survivors(now_ms());
    }

    /// The relay begins deliveries.
    pub fn deliver(&mut self, most: usize) {
        let now = now_ms();
        for _ in 0..most {
            if !self.worker.records.may_deliver() {
                return;
            }
            let Some(delivery) = self.worker.queue.start(now) else { return };
            let (id, failed_reads) = (delivery.id, simulated::with(|disk| disk.failed_reads));
            match self.worker.prepare(delivery) {
                Ok(work) => self.begin(work),
                Err((delivery, reply)) => {
                    let excused = dead() || simulated::with(|disk| disk.failed_reads) != failed_reads;
                    assert!(excused, "message {id:x} cannot be delivered: {}", reply.text);
                    self.worker.not_sent(&delivery, &reply, now);
                    self.worker.queue.disconnected(delivery.destination);
                }
            }
        }
    }

    fn begin(&mut self, work: Work) {
        let (id, at) = (work.delivery.id, work.delivery.at);
        self.ledger.borrow().check_due(id, &work.delivery.recipients);
        let bytes = 64 + work.prepared.stored.envelope.len();
        assert!(dead() || self.machine.is_durable(at, bytes), "message {id:x} is delivered and not durable");
        self.work.push(work);
    }

    /// A next server answers.
    pub fn answer(&mut self, dice: &mut Dice, mood: Mood) {
        if self.work.is_empty() || dead() {
            return;
        }
        let index = dice.below(self.work.len() as u64) as usize;
        let Work { delivery, prepared, .. } = self.work.swap_remove(index);
        let destination = delivery.destination;
        let any = mood == Mood::Any;
        if any && dice.below(12) == 0 {
            self.worker.report(Report::Unreachable { delivery, why: "away".into() });
        } else {
            let envelope = prepared.stored.envelope.clone();
            if simulated::with(|disk| disk.trouble.reads) > 0 {
                // The content of a spilled message may not be readable to its end; then a task defers it.
                let later = || Fate::Deferred(Reply::ours(451, "4.3.0".into()));
                let fates = delivery.recipients.iter().map(|_| later()).collect();
                let (blame, handover, remote) = (Blame::Ours, Handover::PassedOn, String::new());
                return self.tried(Trial { delivery, envelope, fates, blame, handover, remote });
            }
            let content = self.ledger.borrow().check_whole(delivery.id, prepared.stored);
            let fates =
                delivery.recipients.iter().map(|&recipient| self.fate(dice, any, delivery.id, recipient, &content));
            let fates = fates.collect();
            let blame = if any && dice.below(16) == 0 { Blame::Destination } else { Blame::Nobody };
            let handover = if dice.below(4) == 0 { Handover::Relayed } else { Handover::PassedOn };
            return self.tried(Trial { delivery, envelope, fates, blame, handover, remote: "a:24".into() });
        }
        self.worker.report(Report::Closed { task: 0, destination });
    }

    /// A next server takes what `takes` says (message, recipient), and puts off the rest.
    pub fn answer_by(&mut self, takes: impl Fn(u64, u32) -> bool) {
        for Work { delivery, prepared, .. } in std::mem::take(&mut self.work) {
            let envelope = prepared.stored.envelope.clone();
            let content = self.ledger.borrow().check_whole(delivery.id, prepared.stored);
            let fate = |&recipient: &u32| {
                let reply = |code| Reply { code, text: "2.0.0".into(), ours: false };
                if !takes(delivery.id, recipient) {
                    return Fate::Deferred(reply(451));
                }
                self.ledger.borrow_mut().taken(delivery.id, recipient, &content);
                Fate::Delivered(reply(250))
            };
            let fates = delivery.recipients.iter().map(fate).collect();
            let (blame, handover, remote) = (Blame::Nobody, Handover::PassedOn, "a:24".into());
            self.tried(Trial { delivery, envelope, fates, blame, handover, remote });
        }
    }

    /// Is it queued?
    pub fn has(&self, id: u64) -> bool {
        self.worker.queue.place(id).is_some()
    }

    fn tried(&mut self, trial: Trial) {
        let destination = trial.delivery.destination;
        self.worker.report(Report::Tried { task: 0, trial, usable: false });
        self.worker.report(Report::Closed { task: 0, destination });
    }

    fn fate(&self, dice: &mut Dice, any: bool, id: u64, recipient: u32, content: &[u8]) -> Fate {
        let mut ledger = self.ledger.borrow_mut();
        let reply = |code, text: &str| Reply { code, text: text.into(), ours: false };
        match dice.below(if any { 20 } else { 1 }) {
            0..13 => {
                ledger.taken(id, recipient, content);
                Fate::Delivered(reply(250, "2.0.0 ok"))
            }
            // Nobody is told of a notification that fails.
            13..15 if ledger.knows(id) => {
                ledger.refused(id, recipient);
                Fate::Failed(reply(550, "5.1.1 no"))
            }
            _ => Fate::Deferred(reply(451, "4.2.0 later")),
        }
    }

    /// Nothing is queued, nothing under way and nothing to be recorded.
    pub fn is_idle(&self) -> bool {
        self.worker.queue.counts().0 == 0
            && self.work.is_empty()
            && self.worker.records.is_empty()
            && self.operator.is_idle()
    }

    /// What is left on the disk.
    pub fn remains(&self) -> simulated::Remains {
        self.machine.remains()
    }

    /// What keeps segments from being erased, for people.
    pub fn why_kept(&self) -> String {
        self.worker.follower.why_kept()
    }

    /// All writers end in good order: to be run as tasks.
    pub fn close(&self) {
        for writer in self.writers.iter().chain([&self.worker.writer]) {
            let writer = writer.clone();
            simulated::spawn(async move { writer.close().await });
        }
    }
}

/// Is the process dead, and what it says of no account?
fn dead() -> bool {
    simulated::with(|disk| disk.is_dead())
}

/// Recipients of which a record says that they got nothing.
fn failures(matter: &Matter<Location>) -> u64 {
    let Matter::Told(told) = matter else { return 0 };
    let failed = |verdict: &&Verdict| matches!(verdict.action, Action::Failed | Action::Expired);
    told.verdicts.iter().filter(failed).count() as u64
}
