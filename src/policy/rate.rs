//! How many recipients an account may name in a time: a token bucket for each account. No clock, no lock.
//!
//! ```text
//!  recipients taken   0 . . . . . . . . . max     each is forgiven after window / max
//!                     |                   |
//!                     |                   '-- the next one is refused
//!                     '---------------------- here nothing is remembered
//! ```
//!
//! An account that was quiet may use up all of it at once, and then goes on at the pace of the rate. So in any window it
//! has less than twice as many, and never more than one for each part of the window behind a burst.
//!
//! Promises: what is refused does not count; a bound of `max` is reached with exactly `max`; that an account is over its
//! rate is told once in a window; memory is bounded, and who is least recent is forgotten first.

use super::recent::Recent;
use std::time::Duration;

/// How much is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Recipients, at least 1.
    pub recipients: u32,
    /// Time in which so many are forgiven.
    pub window: Duration,
}

/// May the account have one more recipient?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// Yes, and it is counted.
    Granted,
    /// No, not now. `tell`: nobody was told of this account in the last window.
    Refused {
        /// Worth a line in the log.
        tell: bool,
    },
}

/// What accounts have used. Accounts are hashes of their names; times are milliseconds since any moment, the same for all
/// calls.
pub struct Accounts {
    rate: Rate,
    buckets: Recent<Bucket>,
}

/// What one account has used. Time is counted in milliseconds times `recipients`, so that a recipient weighs the window
/// and nothing is rounded.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// When all is forgiven.
    forgiven: u64,
    /// When it was last told that the account is over its rate.
    told_ms: Option<u64>,
}

impl Accounts {
    /// Nothing is used yet; `room`: accounts that are remembered.
    pub fn new(rate: Rate, room: usize) -> Accounts {
        Accounts { rate, buckets: Recent::new(room) }
    }

    /// One more recipient of `account`.
    pub fn spend(&mut self, account: u64, now_ms: u64) -> Spent {
        let window_ms = u64::try_from(self.rate.window.as_millis()).unwrap_or(u64::MAX).max(1);
        let recipients = u64::from(self.rate.recipients.max(1));
        let mut bucket = self.buckets.get(account).unwrap_or_default();
        let spent = bucket.spend(now_ms, recipients, window_ms);
        self.buckets.put(account, bucket);
        spent
    }
}

impl Bucket {
    fn spend(&mut self, now_ms: u64, recipients: u64, window_ms: u64) -> Spent {
        let now = now_ms.saturating_mul(recipients);
        let used = self.forgiven.saturating_sub(now).saturating_add(window_ms);
        if used <= window_ms.saturating_mul(recipients) {
            self.forgiven = now.saturating_add(used);
            return Spent::Granted;
        }
        let tell = self.told_ms.is_none_or(|told_ms| now_ms.saturating_sub(told_ms) >= window_ms);
        if tell {
            self.told_ms = Some(now_ms);
        }
        Spent::Refused { tell }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { recipients: 4, window: Duration::from_secs(100) };

    fn granted(accounts: &mut Accounts, account: u64, now_ms: u64, tries: u32) -> usize {
        (0..tries).filter(|_| accounts.spend(account, now_ms) == Spent::Granted).count()
    }

    // covers: 5.17
    #[test]
    fn one_account_is_stopped_another_is_not_and_it_goes_on() {
        let mut accounts = Accounts::new(RATE, 64);
        assert_eq!(granted(&mut accounts, 1, 0, 10), 4);
        assert_eq!(granted(&mut accounts, 2, 0, 10), 4, "another account");
        // The refused ones did not count: a quarter of the window later there is one more, and only one.
        assert_eq!(granted(&mut accounts, 1, 24_999, 10), 0);
        assert_eq!(granted(&mut accounts, 1, 25_000, 10), 1);
        assert_eq!(granted(&mut accounts, 1, 99_999, 10), 2);
        assert_eq!(granted(&mut accounts, 1, 100_000, 10), 1);
        assert_eq!(granted(&mut accounts, 1, 200_000, 10), 4, "after a quiet window all of it");
        assert_eq!(granted(&mut accounts, 1, 1_000_000_000, 10), 4, "and never more");
    }

    #[test]
    fn it_is_told_once_in_a_window() {
        let mut accounts = Accounts::new(RATE, 64);
        granted(&mut accounts, 1, 0, 4);
        let told: Vec<u64> = (0..30)
            .map(|tick| tick * 10_000 + 1)
            .filter(|&now_ms| {
                (0..3).filter(|_| accounts.spend(1, now_ms) == Spent::Refused { tell: true }).count() == 1
            })
            .collect();
        assert_eq!(told, [1, 100_001, 200_001]);
    }

    #[test]
    fn every_bound_is_reached_with_exactly_as_many() {
        for recipients in [1, 2, 3, 7, 100, 999, 1_000_000] {
            for window_s in [1, 7, 3600] {
                let rate = Rate { recipients, window: Duration::from_secs(window_s) };
                let mut accounts = Accounts::new(rate, 64);
                let tries = recipients.min(1000) + 5;
                let expected = recipients.min(tries) as usize;
                assert_eq!(granted(&mut accounts, 1, 5, tries), expected, "{recipients} in {window_s} s");
            }
        }
    }

    /// Against a list of the moments at which recipients were granted: any window has less than twice the bound, and a
    /// steady sender within the rate is never refused.
    #[test]
    fn no_window_has_twice_as_many_and_a_steady_sender_is_never_refused() {
        let mut accounts = Accounts::new(RATE, 64);
        let mut times = Vec::new();
        for now_ms in (0..1_000_000).step_by(500) {
            times.extend((accounts.spend(1, now_ms) == Spent::Granted).then_some(now_ms));
        }
        for start in &times {
            let in_window = times.iter().filter(|at| (*start..*start + 100_000).contains(*at)).count();
            assert!(in_window < 8, "{in_window} from {start}");
        }
        assert_eq!(times.len(), 4 + 39, "a burst, then one each 25 s");
        let steady = (0..1000).all(|n| accounts.spend(2, n * 25_000) == Spent::Granted);
        assert!(steady);
    }

    #[test]
    fn memory_is_bounded_and_the_recent_stays() {
        let mut accounts = Accounts::new(RATE, 64);
        granted(&mut accounts, 0, 0, 4);
        for other in 1..10_000 {
            accounts.spend(other, 0);
            assert!(accounts.buckets.count() <= 64);
            if other % 10 == 0 {
                assert_ne!(accounts.spend(0, 0), Spent::Granted, "asked often enough, remembered: {other}");
            }
        }
    }
}
