//! Who it is: checks what a client claims against the users file, and stops those who guess.
//!
//! ```text
//!  core: check(credentials, from)
//!    account = the canonical name            no name in the configured form: Rejected
//!    brake   ---- too many failures from there ---------> Braked, no hash
//!    users   = the current snapshot
//!    verdict cache ---- known under this generation ----> Accepted / Rejected, no hash
//!    verifier queue --- full ---------------------------> Unavailable
//!        | one hash, against a dummy if nobody has that name
//!        +--> remembered under the generation ----------> brake counts -> Accepted / Rejected / Braked
//!
//!  core: scram_keys(user, from) -> keys, real or made up;  proved(proof, from) -> a verdict, as above
//!
//!  users file --watch, SIGHUP--> new snapshot, next generation
//! ```
//!
//! Promises: a core is never blocked, neither by hashing nor by a reload; an unknown user costs what a known one does;
//! a password that was changed or a user who was removed is out as soon as the new file is taken, whatever the cache
//! holds and whatever keys an exchange by SCRAM began with; a check is answered by the snapshot that was current when it
//! was asked; past the brake's bound no answer tells whether the password was right; why somebody was refused is for the
//! log alone (fault.rs).

pub mod brake;
pub mod hash;
pub mod users;
pub mod users_file;

mod cache;
mod fault;
mod secret;
mod verifier;

use crate::clock;
use crate::config;
use crate::log::{Level, event};
use crate::policy::{Network, Networks};
use crate::sasl::{Credentials, Keys, Mechanism, Proof};
use crate::services::Watcher;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use brake::{Account, Block, Brake, Held, Limits};
use cache::Cache;
use fault::Fault;
pub use fault::WITHHELD;
use ring::rand::{SecureRandom, SystemRandom};
pub use secret::{Secret, fault as secret_fault};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use users::Users;
use users_file::UsersFile;
use verifier::{Check, Method, Verifiers};

/// Octets of our part of a SCRAM nonce, before base64.
const NONCE_BYTES: usize = 18;

/// What came of checking a password or a proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Right: the canonical user name.
    Accepted(Arc<str>),
    /// Unknown user or wrong password: one and the same. The answer is to be held back for so long.
    Rejected(Duration),
    /// Too many failures before; not checked, or not told. The answer is to be held back for so long.
    Braked(Duration),
    /// Cannot be checked now (queue full, shutting down): 454 4.7.0.
    Unavailable,
}

/// Shared by all cores.
pub struct Authenticator {
    file: Arc<UsersFile>,
    cache: Cache,
    verifiers: Verifiers,
    watcher: Mutex<Option<Watcher>>,
    brake: Mutex<Brake>,
    /// Networks that the brake does not count.
    exempt: Networks,
    /// How long the first refused answer is held back.
    delay: Duration,
    /// The brake's times are since then.
    started: Instant,
    /// Blocks that the brake began.
    blocks: AtomicU64,
}

impl Authenticator {
    /// Loads the users file, starts the verifier threads and the watcher. Errors, one line with a remedy: the file is
    /// missing or has a mistake, a thread cannot be made.
    pub fn start(config: &config::Auth) -> Result<Arc<Authenticator>, String> {
        Authenticator::start_with(config, verifier::hash)
    }

    fn start_with(config: &config::Auth, method: Method) -> Result<Arc<Authenticator>, String> {
        let file = Arc::new(UsersFile::open(config)?);
        let watched = file.clone();
        let look = move || watched.reload_if_changed();
        let limits = Limits {
            account_failures: config.brake_account_failures,
            address_failures: config.brake_address_failures,
            window: Duration::from_secs(config.brake_window_s),
            delay: Duration::from_millis(config.failure_delay_ms),
        };
        Ok(Arc::new(Authenticator {
            cache: Cache::new(Duration::from_secs(config.cache_s))?,
            verifiers: Verifiers::start(config.verifiers, config.verifier_queue, method)?,
            watcher: Mutex::new(Some(Watcher::start("users file", file.path().to_owned(), look)?)),
            file,
            brake: Mutex::new(Brake::new(limits)),
            exempt: config.brake_exempt_networks.clone(),
            delay: limits.delay,
            started: Instant::now(),
            blocks: AtomicU64::new(0),
        }))
    }

    /// From a core: the cache at once, else a verifier. Never blocks the thread. `from`: the client's address.
    pub async fn check(&self, credentials: Credentials, from: IpAddr) -> Verdict {
        // Depends on how the name is written and not on who exists, so a quick answer tells nothing.
        let Ok(account) = self.file.names().account(&credentials.user) else { return Verdict::Rejected(self.delay) };
        let users = self.file.current();
        if !self.admits(&users, &account, from) {
            return Verdict::Braked(self.delay);
        }
        let account = users.name(&account).unwrap_or_else(|| account.into());
        let key = self.cache.key(&account, credentials.mechanism, &credentials.password);
        match self.cache.recall(&key, users.generation(), Instant::now()) {
            Some(true) => self.judge(account, true, from),
            // The same wrong password again tells a guesser nothing: it is a telephone that nobody told the new one.
            Some(false) => Verdict::Rejected(self.delay),
            None => {
                let Some(right) = self.verify(&users, &account, credentials, from).await else {
                    return Verdict::Unavailable;
                };
                self.cache.remember(key, right, users.generation(), Instant::now());
                self.judge(account, right, from)
            }
        }
    }

    async fn verify(
        &self,
        users: &Arc<Users>,
        account: &Arc<str>,
        credentials: Credentials,
        from: IpAddr,
    ) -> Option<bool> {
        let (users, account, from) = (users.clone(), account.clone(), Network::address(from));
        let known = self.brake().knows(Account { name: &account, stamp: users.stamp(&account) }, from);
        let check = Check { users, account, credentials, from, known };
        self.verifiers.try_push(check)?.await.ok()
    }

    /// What SCRAM needs for `user`, as a client names him, and our part of the nonce. Keys for a user who does not exist,
    /// or has none, are made up. Errors: braked, or nobody can log in by SCRAM.
    pub fn scram_keys(&self, user: &str, from: IpAddr) -> Result<(Keys, String), Verdict> {
        let account = self.file.names().account(user).unwrap_or_else(|_| user.to_owned());
        if !self.admits(&self.file.current(), &account, from) {
            return Err(Verdict::Braked(self.delay));
        }
        let keys = self.file.scram_keys(&account).ok_or(Verdict::Unavailable)?;
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).map_err(|_| Verdict::Unavailable)?;
        Ok((keys, STANDARD.encode(nonce)))
    }

    /// What follows from a proof: it counts for the brake like a password.
    pub fn proved(&self, proof: &Proof, from: IpAddr) -> Verdict {
        let Ok(account) = self.file.names().account(&proof.user) else { return Verdict::Rejected(self.delay) };
        let users = self.file.current();
        match users.name(&account) {
            // Keys that were replaced while the exchange was under way prove a password of before.
            Some(account) => {
                let right = proof.right && users.scram(&account) == Some(&*proof.keys);
                self.judge(account, right, from)
            }
            // Nobody has these keys; or the user went while the exchange was under way.
            None => self.judge(account.into(), false, from),
        }
    }

    /// Can every user log in by SCRAM now?
    pub fn offers_scram(&self) -> bool {
        self.file.offers_scram()
    }

    /// The users as they are now.
    pub fn users(&self) -> Arc<Users> {
        self.file.current()
    }

    /// The generation of the users as they are now: cheap enough to be asked with each read.
    pub fn generation(&self) -> u64 {
        self.file.generation()
    }

    /// What was wrong with a login that was refused. Some look-ups whoever it is: it takes the same time for all, but for
    /// nanoseconds behind a hash of milliseconds.
    pub fn fault(&self, user: &str, mechanism: Mechanism) -> Fault {
        Fault::of(user, mechanism, self.file.names(), &self.file.current())
    }

    /// A name that a client gave, as the log may show it: [`WITHHELD`] if it may be a password.
    pub fn shown<'a>(&self, user: &'a str) -> &'a str {
        fault::shown(user, self.file.names(), &self.file.current())
    }

    /// Nobody of an exempt network is ever counted, so nobody there is held.
    fn admits(&self, users: &Users, account: &str, from: IpAddr) -> bool {
        let (address, now_ms) = (Network::address(from), self.now_ms());
        let stamped = Account { name: account, stamp: users.stamp(account) };
        let held = self.brake().holds(stamped, address, now_ms);
        if let Some(held) = held {
            log_held(held, address, shown_account(users, account), now_ms);
        }
        held.is_none()
    }

    /// The verdict on an attempt that was checked. Who was braked meanwhile, by attempts beside this one, is told nothing.
    fn judge(&self, account: Arc<str>, right: bool, from: IpAddr) -> Verdict {
        if self.exempt.contains(from) {
            return if right { Verdict::Accepted(account) } else { Verdict::Rejected(self.delay) };
        }
        let (address, now_ms, users) = (Network::address(from), self.now_ms(), self.file.current());
        let stamped = Account { name: &account, stamp: users.stamp(&account) };
        let mut brake = self.brake();
        if let Some(held) = brake.holds(stamped, address, now_ms) {
            drop(brake);
            log_held(held, address, shown_account(&users, &account), now_ms);
            return Verdict::Braked(self.delay);
        }
        if right {
            brake.succeeded(stamped, address);
            return Verdict::Accepted(account);
        }
        let failure = brake.failed(stamped, address, now_ms);
        drop(brake);
        if let Some((block, until_ms)) = failure.begins {
            self.blocks.fetch_add(1, Ordering::Relaxed);
            let line = event(Level::Warning, "too many failed authentications, braked").field("from", address);
            let line = match block {
                Block::Account => line.octets("user", shown_account(&users, &account).as_bytes()),
                Block::Address => line,
            };
            line.field("until", moment(until_ms, now_ms)).field("remedy", remedy(block)).emit();
        }
        Verdict::Rejected(failure.delay)
    }

    fn brake(&self) -> MutexGuard<'_, Brake> {
        self.brake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Reads the users file again (SIGHUP). A broken file keeps the old one and says so. Reads a file: not from a core.
    pub fn reload(&self) {
        self.file.reload();
    }

    /// How many blocks the brake began since the start.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// How many passwords were hashed since the start.
    pub fn hashes(&self) -> u64 {
        self.verifiers.made()
    }

    /// Ends the threads and waits for them; checks that wait are Unavailable, and so is every later one that the cache
    /// does not know. Dropping does the same.
    pub fn stop(&self) {
        drop(self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.verifiers.stop();
    }
}

/// Somebody tries on while a block lasts: one line a minute for all who do.
fn log_held(held: Held, address: Network, user: &str, now_ms: u64) {
    let Some(refused) = held.refused else { return };
    let line = event(Level::Warning, "refused while braked").field("from", address);
    let line = line.octets("user", user.as_bytes()).field("refused", refused);
    line.field("until", moment(held.until_ms, now_ms)).field("remedy", remedy(held.block)).emit();
}

/// An account's name, which may be a password if nobody has it.
fn shown_account<'a>(users: &Users, account: &'a str) -> &'a str {
    if users.name(account).is_some() { account } else { WITHHELD }
}

/// How a block ends before its time.
fn remedy(block: Block) -> &'static str {
    match block {
        Block::Account => "penstock user add NAME, with a new password or the same, ends it at once",
        Block::Address => {
            "who has logged in from there is let in; a network of many users goes into brake_exempt_networks"
        }
    }
}

/// The brake's time `at_ms` as a time of day, RFC 3339, when it is `now_ms` by its clock.
fn moment(at_ms: u64, now_ms: u64) -> jiff::Timestamp {
    let epoch_s = (clock::now_ms() + at_ms.saturating_sub(now_ms)).div_ceil(1000);
    jiff::Timestamp::from_second(i64::try_from(epoch_s).unwrap_or(i64::MAX)).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests;
