//! Plain counters, one set per core and one for the relay, and their totals for the log.
//!
//! A set has one writer, so that adding is a load and a store on a cache line nobody else writes; readers see each
//! counter a moment late, never torn. Totals are logged when the server stops and on SIGUSR1.

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

static SETS: Mutex<Vec<Arc<Counters>>> = Mutex::new(Vec::new());

/// A new set for the thread that will write it.
pub fn register() -> Arc<Counters> {
    let set = Arc::new(Counters::default());
    SETS.lock().unwrap_or_else(PoisonError::into_inner).push(set.clone());
    set
}

/// The totals over all sets, in the order of the table.
pub fn totals() -> Vec<(&'static str, u64)> {
    let mut totals = Counters::default().all();
    for set in SETS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
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
        let (one, two) = (register(), register());
        one.messages_accepted.add(2);
        two.messages_accepted.add(3);
        let accepted = totals().into_iter().find(|(name, _)| *name == "messages_accepted").expect("in the table").1;
        assert!(accepted >= 5);
        assert_eq!(totals().len(), one.all().len());
    }
}
