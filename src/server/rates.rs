//! What users have used of their recipients an hour, over all cores.
//!
//! A session asks for each recipient of a user, and only where a limit is set: one lock of one of sixteen tables, held for
//! two look-ups. What is refused is told to the client, counted, and in the log once for each account and hour.

use super::Setup;
use super::core::Core;
use super::proxy::Peer;
use crate::log::{Level, event};
use crate::policy::rate::{Accounts, Rate, Spent};
use crate::smtp::Session;
use crate::smtp::session::{Answer, Refusal};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time that the limit speaks of.
const WINDOW: Duration = Duration::from_secs(3600);
/// Tables, so that cores seldom wait for one another.
const SHARDS: usize = 16;
/// Accounts that are remembered in each table: 65,536 in all, some 4 MiB when full.
const REMEMBERED_MAX: usize = 4096;

/// Shared by all cores.
pub struct Rates {
    /// Names are not kept, only a hash that depends on the process.
    hasher: RandomState,
    shards: Vec<Mutex<Accounts>>,
    /// The tables' times are since then.
    started: Instant,
}

impl Rates {
    /// None: no limit is set.
    pub fn new(setup: &Setup) -> Option<Arc<Rates>> {
        let recipients = setup.config.limits.user_recipients_per_hour;
        let rate = Rate { recipients, window: WINDOW };
        (recipients > 0).then(|| {
            let shards = (0..SHARDS).map(|_| Mutex::new(Accounts::new(rate, REMEMBERED_MAX))).collect();
            Arc::new(Rates { hasher: RandomState::new(), shards, started: Instant::now() })
        })
    }

    /// One more recipient of `account`.
    fn spend(&self, account: &str) -> Spent {
        let key = self.hasher.hash_one(account);
        // The tables hash the key once more, so its low bits may choose the table.
        let shard = &self.shards[key as usize % SHARDS];
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        shard.lock().unwrap_or_else(PoisonError::into_inner).spend(key, now_ms)
    }
}

/// Answers Recipient.
pub(super) fn recipient(core: &Core, peer: &Peer, session: &mut Session, out: &mut Vec<u8>) {
    let answer = match (&core.rates, session.finish().1.user) {
        (Some(rates), Some(user)) => match rates.spend(user) {
            Spent::Granted => Answer::Granted,
            Spent::Refused { tell } => {
                core.counters.recipients_over_rate.add(1);
                if tell {
                    let limit = core.config.limits.user_recipients_per_hour;
                    let line = event(Level::Warning, "user over the limit of recipients").field("client", peer);
                    line.octets("user", user.as_bytes()).field("per_hour", limit).emit();
                }
                Answer::Refused(Refusal::OverRate)
            }
        },
        _ => Answer::Granted,
    };
    session.answered(answer, out);
}
