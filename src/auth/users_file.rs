//! The users file as the running server has it: where it is, the current snapshot, and reading it again.
//!
//! ```text
//!  file --parse--> Users (generation n) --swap--> current --Arc--> a check keeps the snapshot it started with
//!        |
//!        +-- broken: the old snapshot stays, a warning names the line
//! ```
//!
//! SCRAM is offered while every user has keys for it, whoever wanted that, and the secret ([`super::secret`]) is there. The
//! secret is loaded, and made if it is missing, when the first keys are seen.

use super::secret::{self, Secret};
use super::users::{self, Names, Shape, Users};
use crate::config;
use crate::log::{self, Level};
use crate::sasl::{Keys, SALT_BYTES};
use crate::services::plain_file::{self, Mark};
use arc_swap::{ArcSwap, ArcSwapOption};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Largest users file, octets: half a million users.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The users file and its current snapshot. One per process; shared by all threads.
pub struct UsersFile {
    path: PathBuf,
    names: Names,
    /// Replaced as a whole; whoever reads it never waits.
    current: ArcSwap<Users>,
    /// What keys of users who have none are made from; none: nobody has keys and none are wanted, or it cannot be had.
    secret: ArcSwapOption<Secret>,
    iterations: u32,
    /// Locked for the whole of a reload, so that a slow one cannot put an older file over a newer.
    reloading: Mutex<Seen>,
}

/// What the last attempt to load saw.
struct Seen {
    mark: Option<Mark>,
    generation: u64,
    /// Was SCRAM offered when the log last said so?
    offers_scram: bool,
}

impl UsersFile {
    /// Loads the file. Errors, with file, line and remedy: it cannot be read, or has a mistake.
    pub fn open(config: &config::Auth) -> Result<UsersFile, String> {
        let (path, names) = (config.users_file.clone(), Names::new(config));
        let mark = Mark::of(&path);
        let users = load(&path, &names, 1)?;
        let secret = ArcSwapOption::from_pointee(config.scram.then(|| Secret::open(&path)).transpose()?);
        let reloading = Mutex::new(Seen { mark, generation: 1, offers_scram: false });
        let iterations = config.scram_iterations;
        let file = UsersFile { path, names, current: ArcSwap::from_pointee(users), secret, iterations, reloading };
        file.note_scram(&mut file.reloading());
        Ok(file)
    }

    /// What SCRAM needs for `account`; if there is no such account, or it has none, something that looks alike, is the
    /// same each time and fits no password. None: nobody has keys, and none are wanted, or the secret cannot be had.
    pub fn scram_keys(&self, account: &str) -> Option<Keys> {
        let users = self.current();
        let secret = self.secret.load_full()?;
        // Made up for those who have some too: how long the answer takes does not tell who has.
        let ours = Shape { iterations: self.iterations, salt_bytes: SALT_BYTES };
        let made_up = secret.made_up(account, users.made_up_shape(secret.draw(account)).unwrap_or(ours));
        Some(users.scram(account).cloned().unwrap_or(made_up))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which names are accepted.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The current snapshot.
    pub fn current(&self) -> Arc<Users> {
        self.current.load_full()
    }

    /// Which snapshot is the current one.
    pub fn generation(&self) -> u64 {
        self.current.load().generation()
    }

    /// Can every user log in by SCRAM now? Asked once a connection.
    pub fn offers_scram(&self) -> bool {
        self.current.load().all_have_keys() && self.secret.load().is_some()
    }

    /// Reads the file again, and the secret of SCRAM. What is broken keeps its old form and says so.
    pub fn reload(&self) {
        let mut seen = self.reloading();
        self.load_into(&mut seen);
        match self.reload_secret() {
            Ok(false) => {}
            Ok(true) => log::event(Level::Info, "secret of SCRAM loaded, it is another")
                .field("file", secret::path(&self.path).display())
                .emit(),
            Err(error) => {
                log::event(Level::Warning, "secret of SCRAM not taken, the old one stays").field("error", error).emit();
            }
        }
        self.note_scram(&mut seen);
    }

    /// Takes the secret that lies beside the file now; is it another? Errors: as of [`Secret::again`]. None is made in its
    /// place: it would be another on each machine.
    pub(super) fn reload_secret(&self) -> Result<bool, String> {
        let Some(current) = self.secret.load_full() else { return Ok(false) };
        let secret = Secret::again(&self.path)?;
        let is_another = !secret.is(&current);
        if is_another {
            self.secret.store(Some(Arc::new(secret)));
        }
        Ok(is_another)
    }

    /// Reads the file again if it is not the one that was last read, broken or not.
    pub fn reload_if_changed(&self) {
        let mut seen = self.reloading();
        if Mark::of(&self.path) != seen.mark {
            self.load_into(&mut seen);
            self.note_scram(&mut seen);
        }
    }

    fn load_into(&self, seen: &mut Seen) {
        // Taken before reading: what changes meanwhile is then seen as a change.
        seen.mark = Mark::of(&self.path);
        let loaded = load(&self.path, &self.names, seen.generation + 1);
        match loaded.and_then(|users| self.not_cut_off(users, seen)) {
            Ok(users) => {
                seen.generation += 1;
                log::event(Level::Info, "users file loaded")
                    .field("file", self.path.display())
                    .field("users", users.count())
                    .emit();
                self.current.store(Arc::new(users));
            }
            Err(error) => log::event(Level::Warning, "users file not taken, the old users stay")
                .field("error", error)
                .field("users", self.current().count())
                .emit(),
        }
    }

    /// Takes the secret if it is needed for the first time, and logs if SCRAM is offered from now on, or no more.
    fn note_scram(&self, seen: &mut Seen) {
        let users = self.current();
        if self.secret.load().is_none() && users.have_keys() {
            match Secret::open(&self.path) {
                Ok(secret) => self.secret.store(Some(Arc::new(secret))),
                Err(error) => log::event(Level::Warning, "SCRAM cannot be offered").field("error", error).emit(),
            }
        }
        let offers = self.offers_scram();
        if std::mem::replace(&mut seen.offers_scram, offers) == offers {
            return;
        }
        if offers {
            return log::event(Level::Info, "SCRAM is offered: every user has keys").emit();
        }
        let line = log::event(Level::Warning, "SCRAM is no longer offered");
        match users.lacks_keys() {
            Some((count, first)) => {
                let line = line.field("users_without_keys", count).octets("first", first.as_bytes());
                line.field("remedy", "penstock user add --scram NAME").emit();
            }
            None => line.field("users", 0).emit(),
        }
    }

    /// Many editors empty a file before they write it. `penstock user remove` leaves a comment behind its last user.
    fn not_cut_off(&self, users: Users, seen: &Seen) -> Result<Users, String> {
        let emptied = seen.mark.as_ref().is_some_and(Mark::is_of_nothing) && self.current().count() > 0;
        match emptied {
            true => {
                Err(format!("{} is empty all at once: write a comment into it if that is meant", named(&self.path)))
            }
            false => Ok(users),
        }
    }

    fn reloading(&self) -> MutexGuard<'_, Seen> {
        self.reloading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(path: &Path, names: &Names, generation: u64) -> Result<Users, String> {
    let text = read(path)?;
    let entries = users::parse(&text, names).map_err(|mistake| format!("{}, {mistake}", named(path)))?;
    Users::new(entries, generation)
}

/// The octets of a users file. Errors, with file and remedy: missing, not readable, not a file, too large.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    plain_file::read(path, FILE_BYTES_MAX).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            format!("{} does not exist: make it with `penstock user add`, or mend auth.users_file", named(path))
        }
        ErrorKind::PermissionDenied => {
            format!("{} may not be read: give the user that penstock runs as the right to read it", named(path))
        }
        _ => format!("{} cannot be read: {error}", named(path)),
    })
}

/// How every message names the file.
pub fn named(path: &Path) -> String {
    format!("users file {}", path.display())
}
