//! What the relay tells of itself while it runs: signs of life, what waits on each route, which hosts are down, and what
//! came of deliveries.
//!
//! ```text
//!  worker --each turn: a beat; each second: what waits--> Watch --> metrics, readiness
//!  tasks  --each connection, transaction: its time------>
//! ```
//!
//! The relay's thread alone writes, and of name servers theirs; nobody waits for a reader.

use crate::config;
use crate::metrics::histogram::{PHASE_US, QUEUE_MS};
use crate::metrics::{ByCode, Counter, Histogram};
use crate::relay::task;
use crate::services::dns::Counts;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// A relay that lives shows it each second; one that has not for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(15);

/// What recipients are counted under whose domain no route takes.
const NO_ROUTE: &str = "no route";

/// What the thread is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// It reads what is in the spool.
    Reading,
    /// It delivers.
    Delivering,
    /// It delivers nothing: the configuration says so.
    Paused,
    /// It has ended.
    Ended,
}

const PHASES: [Phase; 4] = [Phase::Reading, Phase::Delivering, Phase::Paused, Phase::Ended];

/// What waits on a route, and what came of what was tried there.
#[derive(Debug)]
pub struct OnRoute {
    /// As configured: hosts and ports, socket or directory.
    pub name: String,
    /// Transactions by [`STATES`].
    pub transactions: [Counter; STATES.len()],
    /// When the oldest message that waits or is under way was accepted or released, milliseconds since the Unix epoch; 0: there
    /// is none.
    pub oldest_ms: Counter,
    /// Connections.
    pub connections: Counter,
    /// 1: no host of it could be reached, and it is tried again after a pause.
    pub unreachable: Counter,
    /// Its hosts, in the order of the configuration: none of a directory.
    pub hosts: Box<[OnHost]>,
    /// Deliveries for which no host gave a connection.
    pub unopened: Counter,
    /// Recipients that it took.
    pub delivered: ByCode,
    /// Recipients put off.
    pub deferred: ByCode,
    /// Recipients that it refused.
    pub failed: ByCode,
    /// Time until each connection was good for a transaction.
    pub opening: Histogram,
    /// Time of each transaction.
    pub delivery: Histogram,
    /// Time from acceptance to the reply of each recipient delivered.
    pub queued: Histogram,
}

/// States of transactions, as [`OnRoute::transactions`] counts them: what waits for its turn, for its time, what is under
/// way, and what is on hold, being moved or being recorded.
pub const STATES: [&str; 4] = ["ready", "later", "in_flight", "resting"];

/// A host as one route has it.
#[derive(Debug)]
pub struct OnHost {
    /// As configured.
    pub address: String,
    /// 1: it is left out, but for a probe now and then.
    pub down: Counter,
    /// Connections, whatever route they are for.
    pub connections: Counter,
    /// So many it may have for now.
    pub connections_max: Counter,
}

impl OnRoute {
    fn new(name: String, hosts: Vec<String>) -> OnRoute {
        let host = |address| {
            let (down, connections, connections_max) = Default::default();
            OnHost { address, down, connections, connections_max }
        };
        OnRoute {
            name,
            transactions: Default::default(),
            oldest_ms: Counter::default(),
            connections: Counter::default(),
            unreachable: Counter::default(),
            hosts: hosts.into_iter().map(host).collect(),
            unopened: Counter::default(),
            delivered: ByCode::default(),
            deferred: ByCode::default(),
            failed: ByCode::default(),
            opening: Histogram::new(&PHASE_US),
            delivery: Histogram::new(&PHASE_US),
            queued: Histogram::new(&QUEUE_MS),
        }
    }
}

/// The relay as it is seen from other threads.
#[derive(Debug)]
pub struct Watch {
    started: Instant,
    /// Milliseconds from `started` to the last sign of life.
    beat_ms: Counter,
    phase: AtomicU8,
    /// The spool did not take the last outcomes.
    unrecorded: AtomicBool,
    /// Messages not done.
    pub queued: Counter,
    /// Messages on hold.
    pub held: Counter,
    /// Messages that this version does not understand, or whose envelope is damaged.
    pub unreadable: Counter,
    /// Messages moved into another segment.
    pub moved: Counter,
    /// Of name servers, for direct delivery.
    pub dns: Arc<Counts>,
    /// By name, each once; the last is of recipients that no route takes.
    pub routes: Box<[OnRoute]>,
}

impl Watch {
    /// Of a relay that is about to start.
    pub fn new(config: &config::Relay) -> Watch {
        let mut routes: Vec<OnRoute> = Vec::new();
        for target in config.routes.iter().map(|route| &route.target) {
            let name = task::name(target);
            if !routes.iter().any(|route| route.name == name) {
                routes.push(OnRoute::new(name, hosts(target)));
            }
        }
        routes.push(OnRoute::new(NO_ROUTE.into(), Vec::new()));
        Watch {
            started: Instant::now(),
            beat_ms: Counter::default(),
            phase: AtomicU8::new(Phase::Reading as u8),
            unrecorded: AtomicBool::new(false),
            queued: Counter::default(),
            held: Counter::default(),
            unreadable: Counter::default(),
            moved: Counter::default(),
            dns: Arc::default(),
            routes: routes.into(),
        }
    }

    /// The number here of the route that leads to each of `targets`, and of what has none.
    pub fn numbers<'a>(&self, targets: impl Iterator<Item = &'a config::Target>) -> Vec<usize> {
        let nowhere = self.routes.len() - 1;
        let number = |target| {
            let name = task::name(target);
            self.routes.iter().position(|route| route.name == name).unwrap_or(nowhere)
        };
        targets.map(number).chain([nowhere]).collect()
    }

    /// A sign of life.
    pub fn beat(&self) {
        self.beat_ms.set(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX));
    }

    /// It goes on to this.
    pub fn enters(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Does it deliver nothing because the configuration says so?
    pub fn is_paused(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == Phase::Paused as u8
    }

    /// The spool took outcomes, or did not.
    pub fn recorded(&self, taken: bool) {
        self.unrecorded.store(!taken, Ordering::Relaxed);
    }

    /// Does it move? In words; Err: why not.
    pub fn is_moving(&self) -> Result<String, String> {
        let silent = self.started.elapsed().saturating_sub(Duration::from_millis(self.beat_ms.get()));
        match PHASES[usize::from(self.phase.load(Ordering::Relaxed))] {
            Phase::Ended => Err("its thread has ended; the log says why".into()),
            _ if silent >= STUCK_AFTER => Err(format!("no sign of life for {} s", silent.as_secs())),
            _ if self.unrecorded.load(Ordering::Relaxed) => {
                Err("the spool does not take what came of deliveries, so nothing more is delivered".into())
            }
            Phase::Reading => Ok("reading the spool".into()),
            Phase::Paused => Ok(format!("paused by the configuration; {}", self.queue_in_words())),
            Phase::Delivering => Ok(self.queue_in_words()),
        }
    }

    /// A next hop that is down is no reason to send mail elsewhere: other Penstocks have the same one.
    fn queue_in_words(&self) -> String {
        let mut words = format!("{} messages in the queue", self.queued.get());
        for route in &self.routes {
            if route.unreachable.get() > 0 {
                words += &format!("; {} is unreachable", route.name);
            } else if let Some(host) = route.hosts.iter().find(|host| host.down.get() > 0) {
                words += &format!("; {} is down, its pool goes on without", host.address);
            }
        }
        words
    }
}

/// What can be up or down, each once.
fn hosts(target: &config::Target) -> Vec<String> {
    match target {
        config::Target::Smarthost(_) | config::Target::Lmtp { .. } => {
            let mut hosts: Vec<String> = Vec::new();
            for (address, _) in target.hosts() {
                if !hosts.contains(&address) {
                    hosts.push(address);
                }
            }
            hosts
        }
        // Of a domain that is delivered to directly the log says so: there may be very many.
        config::Target::Mx(_) | config::Target::Maildir { .. } | config::Target::Discard => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::{RouteTls, Smarthost, Target};

    fn watch() -> Watch {
        let text = config::example::find("general").expect("the general one").text;
        let loaded = config::parse(text, std::path::Path::new("/etc/penstock/penstock.toml")).expect("no mistakes");
        Watch::new(&loaded.config.relay)
    }

    #[test]
    fn a_route_has_one_name_and_what_has_none_the_last() {
        let watch = self::watch();
        let names: Vec<&str> = watch.routes.iter().map(|route| &*route.name).collect();
        assert_eq!(names, ["lmtp.example.edu:24", "mail.example.org:587", "mail.example.edu:25", "mx", NO_ROUTE]);
        let smarthost = |address: &str| Target::Smarthost(Smarthost::new(address, RouteTls::None));
        let targets = [smarthost("elsewhere.example.edu:25"), smarthost("mail.example.edu:25")];
        assert_eq!(watch.numbers(targets.iter()), [4, 2, 4]);
        assert_eq!((&*watch.routes[2].hosts[0].address, watch.routes[3].hosts.len()), ("mail.example.edu:25", 0));
        assert!(hosts(&Target::Maildir { directory: "/var/mail".into() }).is_empty());
    }

    #[test]
    fn a_relay_that_is_silent_or_cannot_record_does_not_move() {
        let mut watch = self::watch();
        assert_eq!(watch.is_moving(), Ok("reading the spool".into()));
        watch.enters(Phase::Delivering);
        watch.queued.set(3);
        watch.routes[2].unreachable.set(1);
        assert_eq!(watch.is_moving(), Ok("3 messages in the queue; mail.example.edu:25 is unreachable".into()));
        watch.routes[2].unreachable.set(0);
        watch.routes[2].hosts[0].down.set(1);
        let said = watch.is_moving().expect("a host that is down is no reason to send mail elsewhere");
        assert!(said.ends_with("; mail.example.edu:25 is down, its pool goes on without"), "{said}");
        watch.recorded(false);
        assert!(watch.is_moving().is_err());
        watch.recorded(true);
        assert!(watch.is_moving().is_ok());
        watch.started = Instant::now().checked_sub(STUCK_AFTER).expect("a clock that runs");
        assert_eq!(watch.is_moving(), Err("no sign of life for 15 s".into()));
        watch.beat();
        assert!(watch.is_moving().is_ok());
        watch.enters(Phase::Ended);
        assert!(watch.is_moving().is_err());
        watch.enters(Phase::Paused);
        let said = watch.is_moving().expect("that is no trouble");
        assert!(
            said.starts_with("paused by the configuration; 3 messages in the queue") && watch.is_paused(),
            "{said}"
        );
    }
}
