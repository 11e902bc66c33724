//! Plain counters and histograms, one set per core and one for the relay; their totals for the log, and the Prometheus page.
//!
//! ```text
//!  core 0 --counts--> set --+
//!  core 1 --counts--> set --+--reads--> totals (SIGUSR1, the end)        log
//!  relay  --counts--> set --+           page.rs, by table.rs             `/metrics`
//! ```
//!
//! A set has one writer, so that adding is a load and a store on a cache line nobody else writes; readers see each
//! counter a moment late, never torn. Totals are logged when the server stops and on SIGUSR1.
//!
//! What `/metrics` serves is in [`table`], and nothing else can be served.

pub mod histogram;
pub mod page;
pub mod process;
pub mod table;

pub use histogram::{Histogram, Total};
pub use page::Page;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts one thing. One thread adds, any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Only on the set's own thread.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Takes over what somebody else has counted. Only on the set's own thread.
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts by reply code, 200 to 599; what is no such code counts as the nearest. One thread adds, any thread reads.
#[derive(Debug)]
pub struct ByCode(Box<[Counter]>);

const CODES: std::ops::RangeInclusive<u16> = 200..=599;

impl Default for ByCode {
    fn default() -> ByCode {
        ByCode(CODES.map(|_| Counter::default()).collect())
    }
}

impl ByCode {
    /// Adds one. Only on the set's own thread.
    pub fn add(&self, code: u16) {
        self.add_many(code, 1);
    }

    /// Adds `count`. Only on the set's own thread.
    pub fn add_many(&self, code: u16, count: u64) {
        self.0[usize::from(code.clamp(*CODES.start(), *CODES.end()) - CODES.start())].add(count);
    }

    /// The count so far.
    pub fn get(&self, code: u16) -> u64 {
        self.0.get(usize::from(code.wrapping_sub(*CODES.start()))).map_or(0, Counter::get)
    }

    /// The codes that were counted.
    pub fn all(&self) -> impl Iterator<Item = (u16, u64)> {
        CODES.zip(&self.0).map(|(code, counter)| (code, counter.get())).filter(|(_, count)| *count > 0)
    }
}

/// Whose a set is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// A core thread, by its number.
    Core(usize),
    /// The relay's thread.
    #[default]
    Relay,
}

/// What a core counts of one listener.
#[derive(Debug)]
pub struct OfListener {
    /// Connections accepted.
    pub connections: Counter,
    /// Handshakes completed, TLS 1.2 and TLS 1.3.
    pub handshakes: [Counter; 2],
    /// Handshakes that failed.
    pub handshakes_failed: Counter,
    /// How long they took.
    pub handshake: Histogram,
    /// Logins, by [`LoginResult`].
    pub logins: [Counter; LOGIN_RESULTS.len()],
    /// All refusals.
    pub refusals: ByCode,
    /// Messages by the reply that decided: to MAIL, DATA or BDAT, or to their end.
    pub messages: ByCode,
    /// Octets of those that were accepted.
    pub bytes: Counter,
    /// From MAIL to the last octet.
    pub reception: Histogram,
    /// From the last octet to the disk.
    pub commit_wait: Histogram,
}

/// The versions that [`OfListener::handshakes`] counts, in its order.
pub const TLS_VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];

/// What became of a login.
#[derive(Clone, Copy, Debug)]
pub enum LoginResult {
    /// Password or proof were right.
    Accepted,
    /// They were wrong.
    Rejected,
    /// Not looked at, or not answered: too many had failed.
    Braked,
    /// Nobody could look.
    Unavailable,
}

/// Their names, in the order of [`OfListener::logins`].
pub const LOGIN_RESULTS: [&str; 4] = ["accepted", "rejected", "braked", "unavailable"];

impl Default for OfListener {
    fn default() -> OfListener {
        OfListener {
            connections: Counter::default(),
            handshakes: Default::default(),
            handshakes_failed: Counter::default(),
            handshake: Histogram::new(&histogram::PHASE_US),
            logins: Default::default(),
            refusals: ByCode::default(),
            messages: ByCode::default(),
            bytes: Counter::default(),
            reception: Histogram::new(&histogram::PHASE_US),
            commit_wait: Histogram::new(&histogram::DISK_US),
        }
    }
}

/// What one thread counts: the table of plain counters, and beside it what has labels or is a histogram.
#[derive(Debug)]
pub struct Set {
    /// Whose it is.
    pub owner: Owner,
    counters: Counters,
    /// By the listener's number.
    pub listeners: Box<[OfListener]>,
    /// Content of accepted messages.
    pub message_bytes: Histogram,
    /// How long passwords and proofs took to be judged.
    pub auth_check: Histogram,
    /// The thread's last sign of life, milliseconds since the Unix epoch; 0: none yet.
    pub beat_ms: Counter,
}

impl Set {
    /// Nothing counted yet.
    pub fn new(owner: Owner, listeners: usize) -> Set {
        Set {
            owner,
            counters: Counters::default(),
            listeners: (0..listeners).map(|_| OfListener::default()).collect(),
            message_bytes: Histogram::new(&histogram::OCTETS),
            auth_check: Histogram::new(&histogram::PHASE_US),
            beat_ms: Counter::default(),
        }
    }
}

impl Default for Set {
    fn default() -> Set {
        Set::new(Owner::default(), 0)
    }
}

impl std::ops::Deref for Set {
    type Target = Counters;

    fn deref(&self) -> &Counters {
        &self.counters
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one thread counts.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters { $($(#[$doc])* pub $name: Counter,)* }

        impl Counters {
            /// Every counter with its name, in the order of the table.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Connections accepted.
    connections,
    /// Connections turned away because there were too many in all.
    connections_refused,
    /// Connections turned away because their address or network had too many.
    networks_refused,
    /// Connections of strangers that ended to make room for others.
    connections_displaced,
    /// Connections that could not be accepted: no descriptors or no memory.
    accepts_failed,
    /// Connections that ended because the client spoke before our greeting.
    early_talkers,
    /// Connections that could have used STARTTLS, needed it and did not.
    never_secured,
    /// Connections that ended because no command came in time.
    timed_out_idle,
    /// Connections that ended because a command line did not end in time.
    timed_out_line,
    /// Connections that ended because an AUTH exchange did not end in time.
    timed_out_exchange,
    /// Connections that ended because the client did not authenticate in time.
    timed_out_login,
    /// Connections that ended because a transaction did not end in time.
    timed_out_transaction,
    /// Connections that ended because content came too slowly.
    timed_out_slow,
    /// Connections that ended because the client did not read our replies.
    timed_out_reply,
    /// Connections that ended because a TLS handshake did not end in time.
    timed_out_handshake,
    /// Sessions that ended by a panic: each is a bug.
    sessions_panicked,
    /// TLS handshakes completed.
    tls_handshakes,
    /// TLS handshakes that failed.
    tls_failed,
    /// Sessions begun and ended: their difference are the open connections.
    sessions_begun,
    /// See there.
    sessions_ended,
    /// Passwords and proofs that were right.
    auth_ok,
    /// Passwords and proofs that were wrong.
    auth_failed,
    /// Attempts that were not checked, or not answered, because too many had failed.
    auth_braked,
    /// Recipients refused, whatever for: unknown, over a limit, no relaying, no path at all.
    recipients_refused,
    /// Those of them that were refused because their user was over the limit.
    recipients_over_rate,
    /// Messages made durable and answered 250.
    messages_accepted,
    /// Messages refused, whatever for: at MAIL, or at or behind DATA or BDAT. Not those whose recipients were all refused, which
    /// are counted as recipients only.
    messages_refused,
    /// Octets of content of accepted messages.
    bytes_accepted,
    /// Writes into the spool that were waited for.
    durable_writes,
    /// Records in those writes.
    records,
    /// Recipients that the next hop took.
    delivered,
    /// Deliveries put off.
    deferred,
    /// Recipients given up, whether or not their sender may be told.
    bounced,
}

static SETS: Mutex<Vec<Arc<Set>>> = Mutex::new(Vec::new());

/// A new set for the thread that will write it.
pub fn register(owner: Owner, listeners: usize) -> Arc<Set> {
    let set = Arc::new(Set::new(owner, listeners));
    SETS.lock().unwrap_or_else(PoisonError::into_inner).push(set.clone());
    set
}

/// All sets, in the order in which they were registered.
pub fn sets() -> Vec<Arc<Set>> {
    SETS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The totals over all sets, in the order of the table.
pub fn totals() -> Vec<(&'static str, u64)> {
    let mut totals = Counters::default().all();
    for set in sets() {
        for (total, (_, count)) in totals.iter_mut().zip(set.all()) {
            total.1 += count;
        }
    }
    totals
}

/// Logs the totals.
pub fn log_totals() {
    let mut line = crate::log::event(crate::log::Level::Info, "totals");
    for (name, count) in totals() {
        line = line.field(name, count);
    }
    line.emit();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_over_all_sets() {
        let (one, two) = (register(Owner::Core(0), 1), register(Owner::Relay, 0));
        one.messages_accepted.add(2);
        two.messages_accepted.add(3);
        let accepted = totals().into_iter().find(|(name, _)| *name == "messages_accepted").expect("in the table").1;
        assert!(accepted >= 5);
        assert_eq!(totals().len(), one.all().len());
    }

    #[test]
    fn codes_are_counted_each_for_itself() {
        let codes = ByCode::default();
        [250, 452, 452, 599, 200].into_iter().for_each(|code| codes.add(code));
        assert_eq!(codes.all().collect::<Vec<_>>(), [(200, 1), (250, 1), (452, 2), (599, 1)]);
        codes.add_many(452, 7);
        assert_eq!(codes.get(452), 9);
        // A server may say anything.
        [0, 999].into_iter().for_each(|code| codes.add(code));
        assert_eq!((codes.get(200), codes.get(599), codes.get(0), codes.get(600)), (2, 2, 0, 0));
    }
}
