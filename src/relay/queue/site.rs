//! A destination as the queue knows it: what waits for it, whether it can be reached, and pauses.

use super::crowd::Place;
use super::heard::Heard;
use super::slab::NONE;
use super::turns::{Rings, Tally};
use super::watched::Ages;
use super::{Reason, Settings};
use crate::relay::losses::Losses;
use crate::smtp::client::{Reply, enhanced_code};
use std::sync::Arc;

/// Longest pause before a destination is tried again. Shorter than a message's, because it is one connection only.
const DESTINATION_RETRY_MAX_MS: u64 = 300_000;

/// A destination as the queue knows it.
#[derive(Debug)]
pub struct Site {
    /// Its server: other destinations may be there too, for messages that ask for other TLS.
    pub server: usize,
    /// Heap of jobs that wait for their time.
    pub later: u32,
    /// Jobs that wait for their turn.
    pub rings: Rings,
    /// All its jobs.
    pub tally: Tally,
    /// Those that wait or are under way, by age.
    pub ages: Ages,
    /// Deliveries that its server had begun when one was last begun here, or when something began to wait here.
    pub served_at: u64,
    /// Open, or being opened.
    pub connections: usize,
    /// Failures in a row; 0: the last connection was good.
    pub failures: u32,
    /// Those within transactions.
    pub losses: Losses,
    /// Milliseconds since the Unix epoch: no connection before.
    pub down_until_ms: u64,
    /// Why it cannot be reached.
    pub trouble: Option<String>,
    /// Where it stands, if it is one of a crowd.
    pub place: Place,
    /// It is in the list of those that have become idle.
    pub is_noted: bool,
    /// Why a job was last deferred here: many have the same reason, and share it.
    heard: Option<Arc<Heard>>,
}

/// What the destinations at one address have in common.
#[derive(Debug)]
pub struct Server {
    /// The sum of those of its sites.
    pub connections: usize,
    /// Most at a time, for now.
    pub connections_max: usize,
    /// Most at any time.
    pub most: usize,
    /// Deliveries begun there.
    pub begun: u64,
}

impl Server {
    /// With `connections_max`, for now.
    pub fn new(connections_max: usize) -> Server {
        Server { connections: 0, connections_max, most: usize::MAX, begun: 0 }
    }
}

impl Site {
    /// At `server`, by number.
    pub fn new(server: usize) -> Site {
        let (rings, tally, ages, trouble, heard, place, is_noted, losses) = Default::default();
        let (later, served_at, connections, failures, down_until_ms) = (NONE, 0, 0, 0, 0);
        Site {
            server,
            later,
            rings,
            tally,
            ages,
            served_at,
            connections,
            failures,
            losses,
            down_until_ms,
            trouble,
            place,
            is_noted,
            heard,
        }
    }

    /// It took part in a whole transaction.
    pub fn answered(&mut self) {
        self.failures = 0;
        self.losses.end();
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
        Some(unreached(self.trouble.as_deref()?))
    }

    /// What was said, shared with the job before if that was told the same.
    pub fn share(&mut self, heard: Heard) -> Arc<Heard> {
        match &self.heard {
            Some(before) if **before == heard => before.clone(),
            _ => self.heard.insert(Arc::new(heard)).clone(),
        }
    }
}

/// What is said of a destination that cannot be reached. `trouble` may begin with a status of its own; else it is that nobody
/// answers (RFC 3463 section 3.5).
pub fn unreached(trouble: &str) -> Reason {
    let text = if enhanced_code(trouble).is_some_and(|code| code.starts_with("4.")) {
        trouble.to_owned()
    } else {
        format!("4.4.1 {trouble}")
    };
    Reason { reply: Reply::ours(451, text), server: None }
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
