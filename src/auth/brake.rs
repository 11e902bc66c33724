//! The brake on guessing: counts failed authentications and says who must wait. No clock, no lock, no I/O.
//!
//! ```text
//!  a failure counts for    (account, address)    who tries many passwords for one user
//!                          (address)             who tries one password for many users
//!
//!  failures   0 . . . . . . . . . max            each is forgiven after window / max, all of an account's by a new password
//!             |        |           |
//!             |        |           '-- here a block begins
//!             |        '-------------- here it ends
//!             '----------------------- here nothing is remembered
//! ```
//!
//! Promises: past a bound nothing more is checked, and nothing is told, so a guesser learns at most what `max` failures in
//! a window tell; a block is for one address, so that nobody can lock a user out from elsewhere; who has logged in from
//! an address is not held up by what others there do; memory is bounded, and what is least recent is forgotten first;
//! of those who try on while a block lasts the log has one line a minute, which says how many they were.
//!
//! An address is what [`Network::address`] makes of one: for IPv6 a /64, because every host has all of one.

use crate::policy::Network;
use crate::policy::recent::Recent;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Pairs of account and address that are remembered, and as many addresses: some 8 MiB when full.
const REMEMBERED_MAX: usize = 1 << 16;
/// A refused answer is held back for at most this many times the first one's delay.
const DELAY_FACTOR_MAX: u32 = 8;
/// As many failures of an address with all accounts weigh as much, for the delay, as one with the account.
const SPREAD: u64 = 4;

/// Blocks whose refusals are counted for the log.
const NOTED_MAX: usize = 1 << 12;
/// Least time between two lines about one block, milliseconds.
const LINE_EVERY_MS: u64 = 60_000;

/// How much is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Failures of one account from one address, at least 1.
    pub account_failures: u32,
    /// Failures of all accounts from one address, at least 1.
    pub address_failures: u32,
    /// Time in which so many are forgiven.
    pub window: Duration,
    /// How long the first refused answer is held back.
    pub delay: Duration,
}

/// Whom somebody claims to be.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// The canonical name.
    pub name: &'a str,
    /// Another one whenever the password was set anew ([`Users::stamp`](super::users::Users::stamp)).
    pub stamp: u64,
}

/// What a failure led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Hold back the answer for so long.
    pub delay: Duration,
    /// The block that begins with it, and when it ends.
    pub begins: Option<(Block, u64)>,
}

/// Somebody who must wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose block it is.
    pub block: Block,
    /// When it ends.
    pub until_ms: u64,
    /// How many were refused for it since the last line in the log, this one too, if it is time for the next line.
    pub refused: Option<u64>,
}

/// Who is blocked, at one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// The account of the failure.
    Account,
    /// All accounts but those that have logged in from there.
    Address,
}

/// The brake. Times are milliseconds since any moment, the same for all calls.
pub struct Brake {
    limits: Limits,
    /// Names are not kept, only a hash that depends on the process.
    hasher: RandomState,
    pairs: Recent<Failures>,
    addresses: Recent<Failures>,
    /// What the log has not heard of yet, by pair or address.
    noted: Recent<Noted>,
}

impl Brake {
    /// A brake that has seen nothing.
    pub fn new(limits: Limits) -> Brake {
        Brake::with_room(limits, REMEMBERED_MAX)
    }

    fn with_room(limits: Limits, room: usize) -> Brake {
        let (pairs, addresses, noted) = (Recent::new(room), Recent::new(room), Recent::new(NOTED_MAX));
        Brake { limits, hasher: RandomState::new(), pairs, addresses, noted }
    }

    /// Must whoever claims to be `account` wait there now? Counts him for the log if so.
    pub fn holds(&mut self, account: Account, from: Network, now_ms: u64) -> Option<Held> {
        let (pair_key, address_key) = (self.key(account, from), self.hasher.hash_one(from));
        let pair = self.pair(pair_key, account);
        let address = self.addresses.get(address_key).unwrap_or_default();
        let [of_pair, of_address] = self.scales(now_ms);
        let (block, until_ms, key) = if pair.is_blocked(of_pair) {
            (Block::Account, pair.until_ms(of_pair), pair_key)
        } else if !pair.known && address.is_blocked(of_address) {
            (Block::Address, address.until_ms(of_address), address_key)
        } else {
            return None;
        };
        Some(Held { block, until_ms, refused: self.note(key, now_ms) })
    }

    /// Has `account` logged in from there, as far as is remembered?
    pub fn knows(&mut self, account: Account, from: Network) -> bool {
        self.pair(self.key(account, from), account).known
    }

    /// `account` was tried from there, and its password was wrong.
    pub fn failed(&mut self, account: Account, from: Network, now_ms: u64) -> Failure {
        let [of_pair, of_address] = self.scales(now_ms);
        let (pair_key, address_key) = (self.key(account, from), self.hasher.hash_one(from));
        let mut pair = self.pair(pair_key, account);
        let mut address = self.addresses.get(address_key).unwrap_or_default();
        let begins = match (pair.add(of_pair), address.add(of_address)) {
            (_, true) => Some((Block::Address, address.until_ms(of_address))),
            (true, false) => Some((Block::Account, pair.until_ms(of_pair))),
            (false, false) => None,
        };
        self.pairs.put(pair_key, pair);
        self.addresses.put(address_key, address);
        let failures = pair.count(of_pair).max(address.count(of_address) / SPREAD);
        let factor = 1_u32 << (failures.clamp(1, 16) - 1);
        Failure { delay: self.limits.delay * factor.min(DELAY_FACTOR_MAX), begins }
    }

    /// `account` was tried from there, and its password was right.
    pub fn succeeded(&mut self, account: Account, from: Network) {
        let key = self.key(account, from);
        self.pairs.put(key, Failures { known: true, stamp: account.stamp, ..Failures::default() });
    }

    /// What is remembered of it. Failures with an earlier password do not count: whoever sets a new one ends the block.
    fn pair(&mut self, key: u64, account: Account) -> Failures {
        let pair = self.pairs.get(key).unwrap_or_default();
        match pair.stamp == account.stamp {
            true => pair,
            false => Failures { known: pair.known, stamp: account.stamp, ..Failures::default() },
        }
    }

    /// Counts a refusal; how many a line has to tell of, if one is due.
    fn note(&mut self, key: u64, now_ms: u64) -> Option<u64> {
        let mut noted = self.noted.get(key).unwrap_or_default();
        noted.fresh += 1;
        let is_due = noted.line_ms.is_none_or(|line_ms| now_ms.saturating_sub(line_ms) >= LINE_EVERY_MS);
        let refused = is_due.then(|| std::mem::take(&mut noted.fresh));
        noted.line_ms = if is_due { Some(now_ms) } else { noted.line_ms };
        self.noted.put(key, noted);
        refused
    }

    fn key(&self, account: Account, from: Network) -> u64 {
        self.hasher.hash_one((account.name, from))
    }

    /// For a pair, and for an address.
    fn scales(&self, now_ms: u64) -> [Scale; 2] {
        let window_ms = u64::try_from(self.limits.window.as_millis()).unwrap_or(u64::MAX).max(1);
        [self.limits.account_failures, self.limits.address_failures].map(|max| Scale {
            now_ms,
            window_ms,
            max: u64::from(max.max(1)),
        })
    }
}

/// Failures of one account, or of all, from one address. Time is counted in milliseconds times `max`, so that a failure
/// weighs `window_ms`, `max` of them weigh `max` windows, and nothing is rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Failures {
    /// When all of them are forgiven.
    forgiven: u64,
    /// Did they reach the bound, and were not half of them forgiven since?
    blocked: bool,
    /// The account has logged in from there.
    known: bool,
    /// Of the account, when it failed.
    stamp: u64,
}

/// Refusals while a block lasts.
#[derive(Clone, Copy, Default)]
struct Noted {
    /// Not in any line yet.
    fresh: u64,
    /// Of the last line.
    line_ms: Option<u64>,
}

/// A moment, and the bound that counts.
#[derive(Clone, Copy)]
struct Scale {
    now_ms: u64,
    window_ms: u64,
    max: u64,
}

impl Failures {
    fn left(self, scale: Scale) -> u64 {
        self.forgiven.saturating_sub(scale.now_ms * scale.max)
    }

    fn is_blocked(self, scale: Scale) -> bool {
        self.blocked && self.left(scale) > scale.window_ms * scale.max / 2
    }

    /// When a block that lasts now will end: half of the failures are forgiven then.
    fn until_ms(self, scale: Scale) -> u64 {
        self.forgiven.saturating_sub(scale.window_ms * scale.max / 2).div_ceil(scale.max)
    }

    /// Adds a failure; does a block begin?
    fn add(&mut self, scale: Scale) -> bool {
        let was_blocked = self.is_blocked(scale);
        let bound = scale.window_ms * scale.max;
        let left = (self.left(scale) + scale.window_ms).min(bound);
        self.forgiven = scale.now_ms * scale.max + left;
        // One that is partly forgiven still counts: else a bound would hold only for failures in the same millisecond.
        self.blocked = was_blocked || self.count(scale) >= scale.max;
        self.blocked && !was_blocked
    }

    /// How many are not forgiven yet.
    fn count(self, scale: Scale) -> u64 {
        self.left(scale).div_ceil(scale.window_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    const LIMITS: Limits = Limits {
        account_failures: 4,
        address_failures: 10,
        window: Duration::from_secs(100),
        delay: Duration::from_secs(1),
    };

    fn of(name: &str) -> Account<'_> {
        Account { name, stamp: 1 }
    }

    impl Brake {
        fn admits(&mut self, account: &str, from: Network, now_ms: u64) -> bool {
            self.holds(of(account), from, now_ms).is_none()
        }
    }

    fn from(address: &str) -> Network {
        Network::address(address.parse().expect("an address"))
    }

    /// Fails `count` times at `now_ms`; did a block begin with the last one?
    fn fail(brake: &mut Brake, account: &str, address: &str, now_ms: u64, count: u32) -> Option<Block> {
        (0..count)
            .map(|_| brake.failed(of(account), from(address), now_ms).begins)
            .last()
            .flatten()
            .map(|(block, _)| block)
    }

    #[test]
    fn failures_need_not_come_in_the_same_millisecond() {
        let mut brake = Brake::new(LIMITS);
        let begins = [0, 2_000, 4_000, 6_000].map(|now_ms| fail(&mut brake, "anna", "192.0.2.1", now_ms, 1));
        assert_eq!(begins, [None, None, None, Some(Block::Account)]);
        assert!(!brake.admits("anna", from("192.0.2.1"), 6_000));
    }

    /// What the log is told: until when, which is the first moment at which he is admitted, and how many tried meanwhile.
    #[test]
    fn who_is_held_is_told_until_when_and_counted_once_a_minute() {
        for (max, window_s) in [(4, 100), (3, 100), (7, 31)] {
            let limits = Limits { account_failures: max, window: Duration::from_secs(window_s), ..LIMITS };
            let mut brake = Brake::new(limits);
            let here = from("192.0.2.1");
            let failures = (0..max).filter_map(|n| brake.failed(of("anna"), here, u64::from(n) * 17).begins);
            let begun: Vec<_> = failures.collect();
            let [(Block::Account, until_ms)] = begun[..] else { panic!("{begun:?}") };
            assert!(!brake.admits("anna", here, until_ms - 1) && brake.admits("anna", here, until_ms), "{max}");
        }
        let mut brake = Brake::new(Limits { window: Duration::from_secs(1000), ..LIMITS });
        let (here, elsewhere) = (from("192.0.2.1"), from("192.0.2.2"));
        fail(&mut brake, "anna", "192.0.2.1", 0, 4);
        fail(&mut brake, "anna", "192.0.2.2", 0, 4);
        let mut refused = |at, now_ms| brake.holds(of("anna"), at, now_ms).expect("held").refused;
        assert_eq!(refused(here, 0), Some(1));
        assert_eq!([1, 2, 59_999].map(|now_ms| refused(here, now_ms)), [None; 3]);
        assert_eq!(refused(elsewhere, 3), Some(1), "another network");
        assert_eq!(refused(here, 60_000), Some(4));
        assert_eq!(refused(here, 60_001), None);
        // Many names from one blocked address are one matter.
        for user in 0..10 {
            brake.failed(of(&user.to_string()), from("192.0.2.9"), 0);
        }
        let lines = (0..50)
            .filter_map(|user| brake.holds(of(&format!("user{user}")), from("192.0.2.9"), 0).expect("held").refused);
        assert_eq!(lines.count(), 1);
    }

    #[test]
    fn a_new_password_ends_the_block_of_its_account_and_of_no_other() {
        let mut brake = Brake::new(LIMITS);
        let here = from("192.0.2.1");
        brake.succeeded(of("anna"), here);
        fail(&mut brake, "anna", "192.0.2.1", 0, 4);
        fail(&mut brake, "ben", "192.0.2.1", 0, 4);
        let anew = Account { name: "anna", stamp: 2 };
        assert!(!brake.admits("anna", here, 1));
        assert_eq!(brake.holds(anew, here, 1), None);
        assert!(!brake.admits("ben", here, 1));
        // The new password can be guessed as often as the old one could.
        let begins = (0..4).map(|_| brake.failed(anew, here, 1).begins.map(|(block, _)| block));
        // The tenth failure of the address is among them.
        assert!(begins.eq([None, Some(Block::Address), None, Some(Block::Account)]));
        assert!(brake.holds(anew, here, 1).is_some());
        // She is still known there, whatever others do.
        let third = Account { name: "anna", stamp: 3 };
        assert!(!brake.admits("cleo", here, 1), "ten failures of the address");
        assert_eq!(brake.holds(third, here, 1), None);
    }

    // covers: 10.12
    #[test]
    fn a_guesser_is_stopped_and_the_user_elsewhere_is_not() {
        let mut brake = Brake::new(LIMITS);
        let (here, elsewhere) = (from("192.0.2.1"), from("192.0.2.2"));
        assert_eq!(fail(&mut brake, "anna", "192.0.2.1", 0, 3), None);
        assert!(brake.admits("anna", here, 0));
        assert_eq!(fail(&mut brake, "anna", "192.0.2.1", 0, 1), Some(Block::Account));
        assert!(!brake.admits("anna", here, 0));
        assert!(brake.admits("anna", elsewhere, 0), "the user himself");
        assert!(brake.admits("ben", here, 0), "his neighbour");
        // It begins once, and ends when half of the failures are forgiven.
        assert_eq!(fail(&mut brake, "anna", "192.0.2.1", 0, 5), None);
        assert!(!brake.admits("anna", here, 49_999));
        assert!(brake.admits("anna", here, 50_000));
        assert_eq!(fail(&mut brake, "anna", "192.0.2.1", 50_000, 1), None);
        assert_eq!(fail(&mut brake, "anna", "192.0.2.1", 50_000, 1), Some(Block::Account), "the second half again");
        assert!(!brake.admits("anna", here, 50_000));
    }

    #[test]
    fn failures_far_apart_are_forgiven() {
        let mut brake = Brake::new(LIMITS);
        for at in 0..50 {
            assert_eq!(fail(&mut brake, "anna", "192.0.2.1", at * 25_000, 1), None, "{at}");
        }
    }

    #[test]
    fn a_success_is_remembered_and_forgives() {
        let mut brake = Brake::new(LIMITS);
        let here = from("192.0.2.1");
        fail(&mut brake, "anna", "192.0.2.1", 0, 3);
        brake.succeeded(of("anna"), here);
        assert_eq!(fail(&mut brake, "anna", "192.0.2.1", 0, 3), None);
        brake.succeeded(of("anna"), here);
        // Somebody at the same address tries one password for everybody.
        for guess in 0..20 {
            fail(&mut brake, &format!("user{guess}"), "192.0.2.1", 1, 1);
        }
        assert!(!brake.admits("cleo", here, 1) && brake.admits("anna", here, 1), "she has logged in from there");
        assert!(brake.admits("cleo", from("192.0.2.2"), 1));
    }

    #[test]
    fn one_password_for_many_users_is_guessing_too() {
        let mut brake = Brake::new(LIMITS);
        let begins: Vec<_> = (0..12).map(|user| fail(&mut brake, &user.to_string(), "2001:db8::1", 0, 1)).collect();
        assert_eq!(begins.iter().position(Option::is_some), Some(9), "with the tenth");
        assert_eq!(begins[9], Some(Block::Address));
        assert!(!brake.admits("anna", from("2001:db8::ffff:1"), 0), "the same /64");
        assert!(brake.admits("anna", from("2001:db8:0:1::1"), 0), "the next one");
    }

    #[test]
    fn answers_come_later_and_later_up_to_a_bound() {
        let mut brake = Brake::new(Limits { account_failures: 100, address_failures: 100, ..LIMITS });
        let here = from("192.0.2.1");
        let delays: Vec<u64> = (0..6).map(|_| brake.failed(of("anna"), here, 0).delay.as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 8, 8]);
        let spread: Vec<u64> =
            (0..16).map(|user| brake.failed(of(&user.to_string()), from("192.0.2.9"), 0).delay.as_secs()).collect();
        assert_eq!((spread[0], spread[8], spread[15]), (1, 2, 8));
        assert_eq!(brake.failed(of("anna"), here, 1_000_000).delay.as_secs(), 1, "forgiven");
    }

    #[test]
    fn every_bound_is_reached_in_as_many_failures() {
        for max in 1..200 {
            for window_s in [1, 7, 60, 900] {
                let window = Duration::from_secs(window_s);
                let limits = Limits { account_failures: max, address_failures: 1000, window, ..LIMITS };
                let mut brake = Brake::new(limits);
                let count = (1..=max).find(|_| brake.failed(of("anna"), from("192.0.2.1"), 5).begins.is_some());
                assert_eq!(count, Some(max), "{max} in {window_s} s");
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_the_recent_stays() {
        let mut brake = Brake::with_room(LIMITS, 64);
        fail(&mut brake, "anna", "192.0.2.1", 0, 4);
        for other in 0..10_000_u32 {
            brake.failed(of(&other.to_string()), Network::address(Ipv6Addr::from(u128::from(other) << 64).into()), 0);
            assert!(brake.pairs.count() <= 64);
            assert!(brake.addresses.count() <= 64);
            if other % 10 == 0 {
                assert!(!brake.admits("anna", from("192.0.2.1"), 0), "asked for often enough, remembered: {other}");
            }
        }
    }

    #[test]
    fn addresses_as_they_are_counted() {
        for (one, other, same) in [
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8::1", "2001:db8::2:0:0:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::1", "127.0.0.1", false),
        ] {
            assert_eq!(from(one) == from(other), same, "{one} {other}");
        }
        assert_eq!(from("2001:db8:1:2:3::").to_string(), "2001:db8:1:2::/64");
        assert_eq!(from("192.0.2.1").to_string(), "192.0.2.1");
    }
}
