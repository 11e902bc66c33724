//! One core: a pinned thread with its runtime, accept loops, sessions and spool writer.
//!
//! Draining, in this order: the accept loops end, idle sessions are told 421 and closed, content that is under way is
//! received and answered within the configured time, what is left then is cut off without a word, the spool writer drains.

use super::admission::Admission;
use super::patience;
use super::places::Places;
use super::rates::Rates;
use super::share::Share;
use super::{Service, TlsSnapshot, arriving, ending};
use crate::auth::Authenticator;
use crate::clock::now_ms;
use crate::config::Config;
use crate::log::{Level, event};
use crate::metrics;
use crate::net::{self, Driver, Shared};
use crate::policy::Recipients;
use crate::smtp::Session;
use crate::spool::{Writer, WriterSeed};
use arc_swap::ArcSwap;
use futures_channel::oneshot;
use monoio::io::Canceller;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::{Duration, Instant};

/// How often a core looks whether lines about many alike are due.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// How often a draining core looks whether its connections have ended.
const DRAIN_TICK: Duration = Duration::from_millis(10);
/// Bodies' memory that a core keeps for reuse, pieces.
const BODIES_MAX: usize = 256;

/// All that a core thread needs, made before it starts.
pub struct Seed {
    pub config: Arc<Config>,
    pub driver: Driver,
    pub processor: Option<usize>,
    pub writer: WriterSeed,
    pub services: Arc<[Service]>,
    pub sockets: Vec<TcpListener>,
    pub authenticator: Option<Arc<Authenticator>>,
    pub tls: Arc<TlsSnapshot>,
    pub local_recipients: Option<Arc<ArcSwap<Recipients>>>,
    pub admission: Arc<Admission>,
    pub rates: Option<Arc<Rates>>,
    pub counters: Arc<metrics::Set>,
    pub drain: oneshot::Receiver<()>,
}

/// Says once whether a core could start, and lets go of the channel then: whoever waits for all cores must hear that one of
/// them has ended without a word, also while others run.
pub struct Ready(Cell<Option<mpsc::Sender<Result<(), String>>>>);

impl Ready {
    /// Through this channel.
    pub fn new(sender: mpsc::Sender<Result<(), String>>) -> Ready {
        Ready(Cell::new(Some(sender)))
    }

    /// Only the first word counts.
    fn say(&self, outcome: Result<(), String>) {
        if let Some(sender) = self.0.take() {
            // An error means that nobody waits any more.
            let _ = sender.send(outcome);
        }
    }
}

/// What the connections of a core share.
pub struct Core {
    pub config: Arc<Config>,
    pub services: Arc<[Service]>,
    pub shared: Rc<Shared>,
    pub writer: Writer,
    pub authenticator: Option<Arc<Authenticator>>,
    pub tls: Arc<TlsSnapshot>,
    /// Who there is in our own domains; none: nobody knows.
    pub local_recipients: Option<Arc<ArcSwap<Recipients>>>,
    /// What the cores share: who has how many connections.
    pub admission: Arc<Admission>,
    /// What they share besides: how many recipients users have used up. None: there is no limit.
    pub rates: Option<Arc<Rates>>,
    /// Who has a place on this core.
    pub places: Rc<Places>,
    /// Until when clients may keep us waiting.
    pub limits: patience::Limits,
    pub counters: Arc<metrics::Set>,
    pub bodies: Bodies,
    /// Where header fields are put together.
    pub scratch: RefCell<String>,
    pub spill_bytes: usize,
    /// Messages on their way into spill files.
    pub spilling: Cell<usize>,
    /// Octets of messages being received, envelopes and contents, in memory.
    pub receiving_bytes: Rc<Cell<usize>>,
    pub stopping: Cell<bool>,
    pub started: Instant,
}

impl Core {
    /// Does more content lie in memory than the core may hold?
    pub fn is_over_budget(&self) -> bool {
        self.receiving_bytes.get() as u64 > self.config.limits.receiving_bytes_per_core
    }

    /// Takes over the spool writer's counts.
    pub fn count_writes(&self) {
        let (durable_writes, records) = self.writer.counts();
        self.counters.durable_writes.set(durable_writes);
        self.counters.records.set(records);
    }

    /// Is so much in memory that no message may begin?
    pub fn is_full(&self) -> bool {
        self.receiving_bytes.get() as u64 > 2 * self.config.limits.receiving_bytes_per_core
    }

    /// Tells a session how things stand now: the time, the room for new mail, and who there is in our own domains.
    pub fn brief(&self, session: &mut Session) {
        session.set_clock(now_ms());
        let room = if self.is_too_full_for(session) { None } else { self.writer.room() };
        session.set_room(room);
        if let Some(known) = &self.local_recipients {
            session.set_local_recipients(&known.load());
        }
    }

    /// Is so much in memory that this session's message is given up? Strangers' are the first.
    pub fn is_too_full_for(&self, session: &mut Session) -> bool {
        self.is_over_budget() && (!session.finish().1.submission || self.is_full())
    }

    /// A share of the memory for messages being received.
    pub fn share(&self) -> Share {
        Share::new(self.receiving_bytes.clone())
    }
}

/// Memory for bodies, reused.
#[derive(Default)]
pub struct Bodies {
    free: RefCell<Vec<Vec<u8>>>,
}

impl Bodies {
    /// An empty one.
    pub fn take(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives one back.
    pub fn give(&self, mut body: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if free.len() < BODIES_MAX && body.capacity() > 0 {
            body.clear();
            free.push(body);
        }
    }
}

/// The thread's whole life. `ready` hears whether it could start.
pub fn run(seed: Seed, ready: Ready) {
    let (driver, processor) = (seed.driver, seed.processor);
    if let Err(error) = net::run(driver, processor, life(seed, &ready)) {
        ready.say(Err(format!("a core cannot run: {error}; check ulimits and `cores`")));
    }
}

async fn life(seed: Seed, ready: &Ready) {
    let shared = Shared::start();
    let writer = match Writer::start(seed.writer, seed.driver) {
        Ok(writer) => writer,
        Err(error) => {
            ready.say(Err(format!("a core cannot write the spool: {error}; check the spool's directory")));
            return shared.stop();
        }
    };
    let core = Rc::new(Core {
        spill_bytes: spill_bytes(&seed.config, &writer),
        services: seed.services,
        shared: shared.clone(),
        writer,
        authenticator: seed.authenticator,
        tls: seed.tls,
        local_recipients: seed.local_recipients,
        admission: seed.admission,
        rates: seed.rates,
        places: Rc::new(Places::new(seed.config.limits.connections_per_core)),
        limits: patience::Limits::new(&seed.config.limits),
        counters: seed.counters,
        config: seed.config,
        bodies: Bodies::default(),
        scratch: RefCell::default(),
        spilling: Cell::new(0),
        receiving_bytes: Rc::default(),
        stopping: Cell::new(false),
        started: Instant::now(),
    });
    let listeners: io::Result<Vec<_>> = seed.sockets.into_iter().map(monoio::net::TcpListener::from_std).collect();
    let listeners = match listeners {
        Ok(listeners) => listeners,
        Err(error) => {
            ready.say(Err(format!("a core cannot listen: {error}")));
            return shared.stop();
        }
    };
    ready.say(Ok(()));
    let mut accepting = Vec::new();
    for (index, listener) in listeners.into_iter().enumerate() {
        let canceller = Canceller::new();
        let task = monoio::spawn(arriving::accept_loop(core.clone(), index, listener, canceller.handle()));
        accepting.push((canceller, task));
    }
    until_drained(&core, seed.drain).await;
    core.stopping.set(true);
    for (canceller, task) in accepting {
        canceller.cancel();
        task.await;
    }
    drain(&core).await;
    core.writer.close().await;
    core.count_writes();
    shared.stop();
}

/// Content past this many octets spills. A record must hold the content and the envelope, so half of it is the most.
fn spill_bytes(config: &Config, writer: &Writer) -> usize {
    let wanted = usize::try_from(config.spool.spill_bytes).unwrap_or(usize::MAX);
    wanted.min(writer.record_bytes_max() / 2)
}

/// Serves until the signal, and writes the lines about many alike when they are due.
async fn until_drained(core: &Core, mut drain: oneshot::Receiver<()>) {
    core.counters.beat_ms.set(now_ms());
    // An error means that the sender is gone: as good as the signal.
    while monoio::time::timeout(REPORT_EVERY, &mut drain).await.is_err() {
        core.writer.change_old_segment();
        core.counters.beat_ms.set(now_ms());
        let (refused, unsecured) = core.admission.due(now_ms());
        refused.into_iter().for_each(arriving::log_refused);
        for (index, due) in unsecured {
            ending::log_unsecured(&core.services[index].name, due);
        }
    }
}

thread_local! {
    static IN_SESSION: Cell<bool> = const { Cell::new(false) };
}

/// Would a panic of this thread, at this moment, end one session and nothing else?
pub fn is_contained() -> bool {
    IN_SESSION.get()
}

/// Runs `session`; a panic in it, which only a bug can cause, ends it alone and is counted. The other sessions of the core
/// go on. (Not an async function: its future would keep room for the session beside the box that the session moves into.)
pub fn contained(session: impl Future<Output = ()>, counters: Arc<metrics::Set>) -> impl Future<Output = ()> {
    let mut session = Box::pin(session);
    counters.sessions_begun.add(1);
    std::future::poll_fn(move |context| {
        IN_SESSION.set(true);
        let polled = catch_unwind(AssertUnwindSafe(|| session.as_mut().poll(context)));
        IN_SESSION.set(false);
        let polled = polled.unwrap_or_else(|_| {
            counters.sessions_panicked.add(1);
            event(Level::Error, "session panicked, a bug; the others go on").emit();
            Poll::Ready(())
        });
        counters.sessions_ended.add(u64::from(polled.is_ready()));
        polled
    })
}

async fn drain(core: &Rc<Core>) {
    core.shared.interrupt_idle();
    let limit = Duration::from_secs(core.config.limits.drain_s);
    let started = std::time::Instant::now();
    let open = || core.places.open();
    while open() > 0 && started.elapsed() < limit {
        monoio::time::sleep(DRAIN_TICK).await;
    }
    if open() > 0 {
        event(Level::Warning, "cutting off connections").field("connections", open()).emit();
        core.shared.end_all();
    }
    while open() > 0 {
        monoio::time::sleep(DRAIN_TICK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_one_session() {
        let counters = Arc::new(metrics::Set::default());
        let counted = counters.clone();
        let ran_on = net::run(Driver::Epoll, None, async move {
            let broken = monoio::spawn(contained(async { panic!("on purpose") }, counted.clone()));
            let whole = monoio::spawn(contained(async {}, counted));
            broken.await;
            whole.await;
            true
        });
        assert!(ran_on.expect("a runtime"));
        assert_eq!(counters.sessions_panicked.get(), 1);
        assert_eq!((counters.sessions_begun.get(), counters.sessions_ended.get()), (2, 2));
    }

    /// One core runs, another has panicked before it was ready: who waits for both is not kept waiting.
    #[test]
    fn a_core_that_ends_without_a_word_is_noticed_while_others_run() {
        let (sender, started) = mpsc::channel();
        let (running, broken) = (Ready::new(sender.clone()), Ready::new(sender));
        running.say(Ok(()));
        running.say(Err("not heard".into()));
        drop(broken);
        assert_eq!(started.recv_timeout(Duration::from_secs(5)), Ok(Ok(())));
        assert_eq!(started.recv_timeout(Duration::from_secs(5)), Err(mpsc::RecvTimeoutError::Disconnected));
        drop(running);
    }

    /// Whatever a session needs is in its box, and nowhere else a second time.
    #[test]
    fn a_contained_session_is_kept_once() {
        let large = [0_u8; 4096];
        let session = async move {
            monoio::time::sleep(Duration::ZERO).await;
            assert_eq!(large.len(), 4096);
        };
        let bytes = size_of_val(&contained(session, Arc::default()));
        assert!(bytes <= 4 * size_of::<usize>(), "{bytes}");
    }
}
