//! The appliance's front: a pinned thread per core, each with its own listeners, sessions, buffers and spool writer.
//!
//! ```text
//!  core.rs        one thread: its life, draining
//!  listener.rs    sockets that the kernel spreads connections over (SO_REUSEPORT)
//!  arriving.rs    accept loops: who is taken, and who is refused
//!    admission.rs   connections in all, of an address, of a network; shared by all cores
//!    places.rs      connections of one core: strangers go first
//!  connection.rs  drives one smtp::Session: reads, writes
//!  asking.rs      answers what it asks: passwords, proofs
//!  committing.rs  makes its messages durable
//!  refusing.rs    logs and counts what it refused
//!  proxy.rs       who the client is when a load balancer or mail proxy speaks for it
//!  rates.rs       how many recipients users have used up; shared by all cores
//!  recipients.rs  who there is in our own domains: a file that is read again when it changes
//!  receiving.rs   the message being received: memory (share.rs), then a spill file
//!  patience.rs    until when a client may keep us waiting
//!  ending.rs      why a connection ended, in the log and the counters (tally.rs: many alike in one line)
//! ```
//!
//! Cores share nothing but the TLS snapshot, what `auth` keeps (users, verdicts, the brake, the verifiers' queue), their
//! counters, the local recipients, and what counts a client as a whole: who has how many connections, and how many recipients
//! users have used up. The kernel spreads one client's connections over the cores, so none of them could count alone. The
//! first is touched when a connection comes, authenticates and goes, the second with each recipient of a user where that is
//! limited. `server` does not know `relay`: they meet in the spool.

mod admission;
mod arriving;
mod asking;
mod committing;
mod connection;
mod core;
mod ending;
mod listener;
mod patience;
mod places;
mod proxy;
mod rates;
mod receiving;
pub mod recipients;
mod refusing;
mod share;
mod tally;

use self::admission::Admission;
#[cfg(test)]
pub(crate) use self::core::contained;
pub use self::core::is_contained;
use crate::auth::Authenticator;
use crate::config::Config;
use crate::log::{Level, event};
use crate::metrics;
use crate::net::{Driver, ServerTls};
use crate::policy::{Domains, Networks, Recipients, Role};
use crate::sasl::{Mechanism, Mechanisms};
use crate::smtp::session::Rules;
use crate::spool::WriterSeed;
use arc_swap::ArcSwap;
use futures_channel::oneshot;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

/// The certificates in use: replaced as a whole on reload, loaded once per connection.
pub type TlsSnapshot = ArcSwap<ServerTls>;

/// What the cores are started with.
pub struct Setup {
    /// The configuration.
    pub config: Arc<Config>,
    /// Which kernel interface.
    pub driver: Driver,
    /// Processors to pin to, one per core thread.
    pub processors: Vec<usize>,
    /// One spool writer per core thread.
    pub writers: Vec<WriterSeed>,
    /// Who checks passwords, if anybody does.
    pub authenticator: Option<Arc<Authenticator>>,
    /// The certificate.
    pub tls: Arc<TlsSnapshot>,
    /// Who there is in our own domains; none: nobody knows.
    pub local_recipients: Option<Arc<ArcSwap<Recipients>>>,
}

/// Descriptors that a core with so many listeners may hold beside those of its connections: its ring, what wakes it, and two
/// segments; connections that are being displaced; two for each message that is being written to a spill file; and for each
/// listener its socket, spare ones, and one that is being refused.
pub fn descriptors_per_core(listeners: usize) -> u64 {
    (4 + places::LEAVING_MAX + 2 * receiving::SPILLING_MAX + (2 + arriving::SPARE) * listeners) as u64
}

/// What one listener is, for a core and its connections.
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) rules: Arc<Rules>,
    /// Peers that must say a PROXY header.
    pub(crate) proxy_from: Networks,
    /// Peers that may say XCLIENT, and whether LOGIN is believed.
    pub(crate) xclient_from: Networks,
    pub(crate) xclient_login: bool,
    /// SCRAM is offered only while every user has keys for it.
    pub(crate) scram_when_all: bool,
}

/// The running core threads.
pub struct Cores {
    threads: Vec<CoreThread>,
}

struct CoreThread {
    drain: Option<oneshot::Sender<()>>,
    thread: JoinHandle<()>,
}

/// Binds every listener for every core and starts the threads. Errors: one line with a remedy; nothing is left running.
pub fn start(setup: Setup) -> Result<Cores, String> {
    let services: Arc<[Service]> = setup.config.listeners.iter().map(|listener| service(&setup, listener)).collect();
    let mut sockets = listener::bind_all(&setup.config.listeners, setup.writers.len())?;
    let admission = Admission::new(&setup.config);
    let rates = rates::Rates::new(&setup);
    let (ready, started) = mpsc::channel();
    let mut cores = Cores { threads: Vec::new() };
    for (index, writer) in setup.writers.into_iter().enumerate() {
        let (drain, drained) = oneshot::channel();
        let seed = core::Seed {
            config: setup.config.clone(),
            driver: setup.driver,
            processor: setup.processors.get(index).copied(),
            writer,
            services: services.clone(),
            sockets: sockets.pop().expect("one set of sockets per core"),
            authenticator: setup.authenticator.clone(),
            tls: setup.tls.clone(),
            local_recipients: setup.local_recipients.clone(),
            admission: admission.clone(),
            rates: rates.clone(),
            counters: metrics::register(metrics::Owner::Core(index), services.len()),
            drain: drained,
        };
        let ready = core::Ready::new(ready.clone());
        let spawned = std::thread::Builder::new().name(format!("core-{index}")).spawn(move || core::run(seed, ready));
        match spawned {
            Ok(thread) => cores.threads.push(CoreThread { drain: Some(drain), thread }),
            Err(error) => {
                cores.shut_down();
                return Err(format!("cannot start thread core-{index}: {error}; raise the limit on processes"));
            }
        }
    }
    drop(ready);
    for _ in &cores.threads {
        let outcome = started.recv().unwrap_or_else(|_| Err("a core ended at once; see the log".into()));
        if let Err(error) = outcome {
            cores.shut_down();
            return Err(error);
        }
    }
    Ok(cores)
}

impl Cores {
    /// Stops accepting, lets content that is under way finish within the configured time, says 421 to the rest, and
    /// returns when every core has ended and its spool writer has drained.
    pub fn shut_down(mut self) {
        for core in &mut self.threads {
            if let Some(drain) = core.drain.take() {
                let _ = drain.send(());
            }
        }
        for core in self.threads {
            if core.thread.join().is_err() {
                event(Level::Error, "core thread panicked").emit();
            }
        }
    }
}

fn service(setup: &Setup, listener: &crate::config::Listener) -> Service {
    let config = &setup.config;
    let first_domain = config.local_domains.first();
    let rules = Rules {
        role: listener.role,
        tls: listener.tls,
        mechanisms: match &config.auth {
            Some(_) => listener.mechanisms.unwrap_or(usual_mechanisms()),
            None => Mechanisms::NONE,
        },
        message_bytes_max: config.limits.message_bytes_max,
        recipients_max: config.limits.recipients_max,
        messages_per_session: config.limits.messages_per_session,
        hold_max_s: config.limits.hold_max_s,
        odd_bytes: listener.odd_bytes,
        odd_bytes_of_strangers: listener.odd_bytes_of_strangers,
        help: config.help.clone(),
        local_domains: Arc::new(Domains::new(config.local_domains.iter().map(String::as_str))),
        limits_users: config.limits.user_recipients_per_hour > 0,
        postmaster_domain: first_domain.unwrap_or(&config.hostname).clone(),
        ..Rules::new(&config.hostname)
    };
    Service {
        name: listener.name.clone(),
        rules: Arc::new(rules),
        scram_when_all: listener.mechanisms.is_none(),
        proxy_from: listener.proxy_from.clone(),
        xclient_from: listener.xclient_from.clone(),
        xclient_login: listener.xclient_login,
    }
}

/// Where the operator lists none; SCRAM is withheld while somebody could not use it. Not -PLUS: of those that bind to TLS 1.3 most know `tls-exporter` only (RFC 9266), prefer
/// -PLUS where it is offered, and would fail each time, because ours is `tls-server-end-point`.
fn usual_mechanisms() -> Mechanisms {
    Mechanisms::PASSWORD.with([Mechanism::ScramSha256].into_iter().collect())
}

/// May a client of this network relay on a listener of this role?
pub(crate) fn is_trusted(config: &Config, role: Role, peer: std::net::IpAddr) -> bool {
    role == Role::Smtp && config.trusted_networks.contains(peer)
}
