//! The verdict cache: the second login of the same user costs no hash.
//!
//! ```text
//!  (account, mechanism, password) --HMAC-SHA256 under a key of this process--> 32 octets --> right or wrong,
//!                                                                              until when, under which generation
//! ```
//!
//! Promises: no password, and nothing that can be tried against without the key, is kept; the key lives and dies with
//! the process. A verdict counts only for its time and under the generation of the users file it was reached under. The
//! number of verdicts is bounded, wrong ones apart from right ones, so that guessing cannot push out those who know
//! their password. A lock is held for one look-up, on one of [`SHARDS`] shards.

use crate::sasl::Mechanism;
use ring::hmac;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Locks, so that cores seldom meet at one.
const SHARDS: usize = 16;
/// Right verdicts kept per shard: 131,072 in all, some 20 MiB when full.
const RIGHT_PER_SHARD_MAX: usize = 8192;
/// Wrong verdicts kept per shard: 8192 in all.
const WRONG_PER_SHARD_MAX: usize = 512;
/// A wrong verdict is believed for this long at most: it saves hashing for a phone that tries its old password over and
/// over, and nothing else.
const WRONG_LIFE_MAX: Duration = Duration::from_secs(30);

/// What a verdict is found by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

/// Verdicts of some minutes, shared by all cores.
pub struct Cache {
    hmac: hmac::Key,
    right_life: Duration,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Default)]
struct Shard {
    right: Verdicts,
    wrong: Verdicts,
}

/// Verdicts of one kind. All live equally long, so the oldest is the first to expire.
#[derive(Default)]
struct Verdicts {
    by_key: HashMap<Key, Life>,
    /// Oldest first. A key that was remembered twice is here twice; only the younger life is in `by_key`.
    ages: VecDeque<(Key, Life)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Life {
    until: Instant,
    generation: u64,
}

impl Cache {
    /// An empty cache whose right verdicts are believed for `life`; zero: none is. Errors: no random numbers.
    pub fn new(life: Duration) -> Result<Cache, String> {
        let hmac = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new());
        let hmac = hmac.map_err(|_| "the kernel gives no random numbers")?;
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Ok(Cache { hmac, right_life: life, shards })
    }

    /// The key of these credentials. Lengths go in front of each part: else `ab` + `c` would be `a` + `bc`.
    pub fn key(&self, account: &str, mechanism: Mechanism, password: &str) -> Key {
        let mut context = hmac::Context::with_key(&self.hmac);
        for part in [account, mechanism.name(), password] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.sign().as_ref());
        Key(key)
    }

    /// Was the password right, when it was last checked under `generation`?
    pub fn recall(&self, key: &Key, generation: u64, now: Instant) -> Option<bool> {
        let shard = self.shard(key);
        let counts = |life: &&Life| life.generation == generation && now < life.until;
        let right = shard.right.by_key.get(key).filter(counts).map(|_| true);
        right.or_else(|| shard.wrong.by_key.get(key).filter(counts).map(|_| false))
    }

    /// Keeps the verdict of a check against the snapshot `generation` that ended at `now`.
    pub fn remember(&self, key: Key, right: bool, generation: u64, now: Instant) {
        let life = if right { self.right_life } else { self.right_life.min(WRONG_LIFE_MAX) };
        if life.is_zero() {
            return;
        }
        let life = Life { until: now + life, generation };
        let mut shard = self.shard(&key);
        if right {
            shard.right.insert(key, life, RIGHT_PER_SHARD_MAX, now);
        } else {
            shard.wrong.insert(key, life, WRONG_PER_SHARD_MAX, now);
        }
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[usize::from(key.0[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verdicts {
    fn insert(&mut self, key: Key, life: Life, count_max: usize, now: Instant) {
        while self.ages.front().is_some_and(|(_, oldest)| oldest.until <= now) || self.ages.len() >= count_max {
            let Some((key, life)) = self.ages.pop_front() else { break };
            if self.by_key.get(&key) == Some(&life) {
                self.by_key.remove(&key);
            }
        }
        self.by_key.insert(key, life);
        self.ages.push_back((key, life));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(300);

    fn cache() -> Cache {
        Cache::new(LIFE).expect("cache")
    }

    #[test]
    fn a_verdict_is_recalled_for_its_life() {
        let (cache, start) = (cache(), Instant::now());
        let right = cache.key("ann", Mechanism::Plain, "password");
        let wrong = cache.key("ann", Mechanism::Plain, "Password");
        assert_eq!(cache.recall(&right, 1, start), None);
        cache.remember(right, true, 1, start);
        cache.remember(wrong, false, 1, start);
        for (seconds, right_known, wrong_known) in
            [(0, Some(true), Some(false)), (29, Some(true), Some(false)), (30, Some(true), None), (300, None, None)]
        {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(cache.recall(&right, 1, now), right_known, "{seconds}");
            assert_eq!(cache.recall(&wrong, 1, now), wrong_known, "{seconds}");
        }
        assert_eq!(cache.recall(&right, 1, start + LIFE - Duration::from_nanos(1)), Some(true));
    }

    #[test]
    fn only_the_same_generation_counts() {
        let (cache, now) = (cache(), Instant::now());
        let key = cache.key("ann", Mechanism::Plain, "password");
        cache.remember(key, true, 2, now);
        assert_eq!((cache.recall(&key, 1, now), cache.recall(&key, 3, now)), (None, None));
        assert_eq!(cache.recall(&key, 2, now), Some(true));
        // A password that became wrong: the old verdict is not consulted, the new one is.
        cache.remember(key, false, 3, now);
        assert_eq!(cache.recall(&key, 3, now), Some(false));
    }

    #[test]
    fn every_part_and_its_length_count() {
        let cache = cache();
        let key = cache.key("ann", Mechanism::Plain, "password");
        assert!(key == cache.key("ann", Mechanism::Plain, "password"));
        for other in [
            cache.key("anna", Mechanism::Plain, "password"),
            cache.key("ann", Mechanism::Login, "password"),
            cache.key("ann", Mechanism::Plain, "passwore"),
            Cache::new(LIFE).expect("cache").key("ann", Mechanism::Plain, "password"),
        ] {
            assert!(key != other);
        }
        // The same octets in the same order, cut elsewhere.
        assert!(cache.key("annPLAIN", Mechanism::Plain, "x") != cache.key("ann", Mechanism::Plain, "PLAINx"));
    }

    #[test]
    fn the_number_of_verdicts_is_bounded_and_guesses_push_out_only_guesses() {
        let (cache, now) = (cache(), Instant::now());
        let ann = cache.key("ann", Mechanism::Plain, "password");
        cache.remember(ann, true, 1, now);
        for guess in 0..20_000 {
            cache.remember(cache.key("ann", Mechanism::Plain, &guess.to_string()), false, 1, now);
        }
        assert_eq!(cache.recall(&ann, 1, now), Some(true));
        for shard in &cache.shards {
            let shard = shard.lock().expect("shard");
            assert_eq!((shard.wrong.by_key.len(), shard.wrong.ages.len()), (512, 512));
        }
        let newest = cache.key("ann", Mechanism::Plain, "19999");
        assert_eq!(cache.recall(&newest, 1, now), Some(false), "the oldest went");
    }

    #[test]
    fn one_key_many_times_neither_grows_nor_dies_early() {
        let (mut verdicts, start) = (Verdicts::default(), Instant::now());
        let key = Key([0; 32]);
        let at = |second| start + Duration::from_secs(second);
        for second in 0..1000 {
            verdicts.insert(key, Life { until: at(second + 10), generation: 1 }, 4, at(second));
            assert!(verdicts.by_key.contains_key(&key) && verdicts.ages.len() <= 4);
        }
        // Others fill the room; the key goes with its youngest age, not with an older one.
        for other in 1..4 {
            verdicts.insert(Key([other; 32]), Life { until: at(1010), generation: 1 }, 4, at(1000));
            assert!(verdicts.by_key.contains_key(&key), "{other}");
        }
        verdicts.insert(Key([4; 32]), Life { until: at(1010), generation: 1 }, 4, at(1000));
        assert!(!verdicts.by_key.contains_key(&key));
        verdicts.insert(Key([1; 32]), Life { until: at(2000), generation: 1 }, 4, at(1500));
        assert!(verdicts.by_key.len() == 1 && verdicts.ages.len() == 1, "what expired is gone");
    }

    #[test]
    fn without_a_life_nothing_is_kept() {
        let (cache, now) = (Cache::new(Duration::ZERO).expect("cache"), Instant::now());
        let key = cache.key("ann", Mechanism::Plain, "password");
        cache.remember(key, true, 1, now);
        assert_eq!(cache.recall(&key, 1, now), None);
        assert!(cache.shard(&key).right.by_key.is_empty());
    }
}
