//! Who it is: checks what a client claims against the users file.
//!
//! ```text
//!  core: check(credentials)
//!    account = the canonical name            no name in the configured form: Rejected
//!    users   = the current snapshot
//!    verdict cache ---- known under this generation ----> Accepted / Rejected, no hash
//!    verifier queue --- full ---------------------------> Unavailable
//!        | one hash, against a dummy if nobody has that name
//!        +--> remembered under the generation ----------> Accepted / Rejected
//!
//!  users file --watch, SIGHUP--> new snapshot, next generation
//! ```
//!
//! Promises: a core is never blocked, neither by hashing nor by a reload; an unknown user costs what a known one does;
//! a password that was changed or a user who was removed is out as soon as the new file is taken, whatever the cache
//! holds; a check is answered by the snapshot that was current when it was asked.

pub mod hash;
pub mod users;
pub mod users_file;

mod cache;
mod verifier;
mod watch;

use crate::config;
use crate::sasl::Credentials;
use cache::Cache;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use users::Users;
use users_file::UsersFile;
use verifier::{Check, Method, Verifiers};
use watch::Watcher;

/// What came of checking a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Right: the canonical user name.
    Accepted(Arc<str>),
    /// Unknown user or wrong password: one and the same.
    Rejected,
    /// Cannot be checked now (queue full, shutting down): 454 4.7.0.
    Unavailable,
}

/// Shared by all cores.
pub struct Authenticator {
    file: Arc<UsersFile>,
    cache: Cache,
    verifiers: Verifiers,
    watcher: Mutex<Option<Watcher>>,
}

impl Authenticator {
    /// Loads the users file, starts the verifier threads and the watcher. Errors, one line with a remedy: the file is
    /// missing or has a mistake, a thread cannot be made.
    pub fn start(config: &config::Auth) -> Result<Arc<Authenticator>, String> {
        Authenticator::start_with(config, verifier::hash)
    }

    fn start_with(config: &config::Auth, method: Method) -> Result<Arc<Authenticator>, String> {
        let file = Arc::new(UsersFile::open(config)?);
        let cache = Cache::new(Duration::from_secs(config.cache_s))?;
        let verifiers = Verifiers::start(config.verifiers, config.verifier_queue, method)?;
        let watcher = Mutex::new(Some(Watcher::start(file.clone())?));
        Ok(Arc::new(Authenticator { file, cache, verifiers, watcher }))
    }

    /// From a core: the cache at once, else a verifier. Never blocks the thread.
    pub async fn check(&self, credentials: Credentials) -> Verdict {
        // Depends on how the name is written and not on who exists, so a quick answer tells nothing.
        let Ok(account) = self.file.names().account(&credentials.user) else { return Verdict::Rejected };
        let users = self.file.current();
        let account = users.name(&account).unwrap_or_else(|| account.into());
        let key = self.cache.key(&account, credentials.mechanism, &credentials.password);
        let right = match self.cache.recall(&key, users.generation(), Instant::now()) {
            Some(right) => right,
            None => {
                let Some(right) = self.verify(&users, &account, credentials).await else { return Verdict::Unavailable };
                self.cache.remember(key, right, users.generation(), Instant::now());
                right
            }
        };
        if right { Verdict::Accepted(account) } else { Verdict::Rejected }
    }

    async fn verify(&self, users: &Arc<Users>, account: &Arc<str>, credentials: Credentials) -> Option<bool> {
        let check = Check { users: users.clone(), account: account.clone(), credentials };
        self.verifiers.try_push(check)?.await.ok()
    }

    /// Reads the users file again (SIGHUP). A broken file keeps the old one and says so. Reads a file: not from a core.
    pub fn reload(&self) {
        self.file.reload();
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

#[cfg(test)]
mod tests;
