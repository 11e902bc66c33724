//! A destination as the queue knows it: what waits for it, whether it can be reached, and pauses.

use super::{Reason, Settings};
use crate::smtp::client::Reply;
use std::collections::BTreeSet;

/// Longest pause before a destination is tried again. Shorter than a message's, because it is one connection only.
const DESTINATION_RETRY_MAX_MS: u64 = 300_000;

/// A job in the order in which it is due: due time, message, part.
pub type Key = (u64, u64, u16);

/// A destination as the queue knows it.
#[derive(Debug, Default)]
pub struct Site {
    /// Its server: other destinations may be there too, for messages that ask for other TLS.
    pub server: usize,
    /// Jobs that are not under way.
    pub waiting: BTreeSet<Key>,
    /// Open, or being opened.
    pub connections: usize,
    /// Failures in a row; 0: the last connection was good.
    pub failures: u32,
    /// Milliseconds since the Unix epoch: no connection before.
    pub down_until_ms: u64,
    /// Why it cannot be reached.
    pub trouble: Option<String>,
}

impl Site {
    /// Since when a job is due that may be begun now, if one may.
    pub fn due_ms(&self, now: u64) -> Option<u64> {
        let first = self.waiting.first().filter(|_| self.down_until_ms <= now)?;
        (first.0 <= now).then_some(first.0)
    }

    /// It took part in a whole transaction.
    pub fn answered(&mut self) {
        self.failures = 0;
        self.down_until_ms = 0;
        self.trouble = None;
    }

    /// It failed: a pause.
    pub fn down(&mut self, settings: &Settings, now: u64, random: &mut u64) {
        let longest = settings.retry_max_ms.min(DESTINATION_RETRY_MAX_MS);
        self.down_until_ms = now + backoff(settings.retry_first_ms, longest, self.failures, random);
    }

    /// Why it cannot be reached, if it cannot.
    pub fn reason(&self) -> Option<Reason> {
        let text = format!("4.4.1 {}", self.trouble.as_deref()?);
        Some(Reason { reply: Reply::ours(451, text), server: None })
    }
}

/// `first`, doubled with each attempt after the first up to `max`, and then a quarter more or less by chance, so that
/// messages deferred together do not come back together.
pub fn backoff(first_ms: u64, max_ms: u64, attempts: u32, random: &mut u64) -> u64 {
    let doublings = attempts.saturating_sub(1).min(32);
    let pause = first_ms.saturating_mul(1 << doublings).min(max_ms).max(1);
    // xorshift64: any sequence will do.
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    pause - pause / 4 + *random % (pause / 2 + 1)
}
