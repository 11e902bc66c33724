//! `penstock user add|remove|list`: the users file as the operator changes it.
//!
//! ```text
//!  lock the directory -> read and check the whole file -> change one line -> write beside it -> fsync
//!                                                      -> rename over it -> fsync the directory -> unlock
//! ```
//!
//! Promises: comments, blank lines and the order of lines stay; at every moment, also after a power cut, the file is
//! the old one or the new one; two runs at once change it one after the other; owner and group stay, others never have
//! access; a file with a mistake is not touched. A password is never taken from the command line, is not shown while it
//! is typed, and is wiped from memory. The running server notices the new file by itself.

use super::complain;
use crate::auth::Secret;
use crate::auth::hash::{self, Cost};
use crate::auth::users::{self, Entry, Names};
use crate::auth::users_file::{named, read};
use crate::config;
use crate::sasl::{Keys, PASSWORD_BYTES_MAX, SALT_BYTES, prepare};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use zeroize::Zeroizing;

/// Tries to get the lock, and the pause between them: five seconds. Another run holds it for milliseconds.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// What a file starts with that we make.
const HEADING: &str =
    "# Penstock users, one per line: name:argon2id hash[:SCRAM keys]. Change it with `penstock user add|remove`.\n";

/// What [`add`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// The user is new.
    New,
    /// The user was there and has another password now.
    Changed,
}

/// What [`add`] did about SCRAM keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramKeys {
    /// None were asked for, and the user had none.
    None,
    /// Made, because they were asked for.
    Made,
    /// Made anew, because the user had some: without them the user could no more log in as before.
    Renewed,
    /// None, and every other user has some: SCRAM is not offered any more.
    Missed,
}

/// What [`list`] tells of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The canonical name.
    pub name: String,
    /// Has SCRAM keys.
    pub scram: bool,
}

/// The canonical name of the account `name`, as it stands in the file. Errors: it is no user name under the configured
/// `username_form`.
pub fn account(config: &config::Auth, name: &str) -> Result<String, String> {
    Names::new(config).account(name).map_err(|what| format!("\"{}\": {what}", name.escape_debug()))
}

/// Adds the user `name`, or gives him another password. Makes the file if there is none. With `auth.scram`, or if the
/// user has it already, the line has what SCRAM needs.
pub fn add(config: &config::Auth, name: &str, password: &str) -> Result<(Added, ScramKeys), String> {
    add_at_cost(config, name, password, Cost::default())
}

fn add_at_cost(config: &config::Auth, name: &str, password: &str, cost: Cost) -> Result<(Added, ScramKeys), String> {
    let account = account(config, name)?;
    let password = checked(password)?;
    let mut line = Zeroizing::new(format!("{account}:{}", hash::create(password.as_bytes(), cost)?));
    let file = Locked::open(config)?;
    let (text, entries) = match file.exists() {
        true => file.read()?,
        false => (HEADING.to_owned(), Vec::new()),
    };
    let old = entries.iter().find(|entry| entry.name == account);
    let mut others = entries.iter().filter(|entry| entry.name != account).peekable();
    let keys = match old.is_some_and(|entry| entry.scram.is_some()) {
        _ if config.scram => ScramKeys::Made,
        true => ScramKeys::Renewed,
        false if others.peek().is_some() && others.all(|entry| entry.scram.is_some()) => ScramKeys::Missed,
        false => ScramKeys::None,
    };
    if matches!(keys, ScramKeys::Made | ScramKeys::Renewed) {
        // Made by whoever may write there, because the server often may not, and before the server sees the first keys.
        Secret::open(&file.path)?;
        line = Zeroizing::new(format!("{}:{}", *line, *scram_keys(&password, config.scram_iterations)?));
    }
    line = Zeroizing::new(format!("{}\n", *line));
    file.replace(&with_line(&text, old.map_or(usize::MAX, |entry| entry.line), &line))?;
    Ok((old.map_or(Added::New, |_| Added::Changed), keys))
}

/// What SCRAM needs of a prepared password, under a fresh salt, as the users file has it.
fn scram_keys(password: &str, iterations: u32) -> Result<Zeroizing<String>, String> {
    let mut salt = [0; SALT_BYTES];
    SystemRandom::new().fill(&mut salt).map_err(|_| "the kernel gives no random numbers")?;
    Ok(Keys::derive(password, &salt, iterations).print())
}

/// Removes the user `name`. Errors: there is no such user.
pub fn remove(config: &config::Auth, name: &str) -> Result<(), String> {
    let account = account(config, name)?;
    let file = Locked::open(config)?;
    let (text, entries) = file.read()?;
    let Some(entry) = entries.iter().find(|entry| entry.name == account) else {
        return Err(format!("{} has no user \"{account}\"", named(&file.path)));
    };
    let rest = with_line(&text, entry.line, "");
    // A server takes an empty file for one that is only half written.
    file.replace(if rest.is_empty() { "# no users\n" } else { &rest })
}

/// All users, in the order of the file.
pub fn list(config: &config::Auth) -> Result<Vec<Listed>, String> {
    let text = read(&config.users_file)?;
    let entries = parse(&config.users_file, &text, &Names::new(config))?;
    Ok(entries.into_iter().map(|entry| Listed { name: entry.name, scram: entry.scram.is_some() }).collect())
}

/// A new password for `account`: asked for twice without echo if standard input is a terminal, else all of it, which
/// is one line. Errors: there is more.
pub fn read_password(account: &str) -> Result<Zeroizing<String>, String> {
    let stdin = std::io::stdin();
    let unbuffered = stdin.as_fd().try_clone_to_owned().map_err(|error| format!("standard input: {error}"))?;
    let mut input = File::from(unbuffered);
    if !stdin.is_terminal() {
        let line = read_line(&mut input)?;
        nothing_follows(&mut input)?;
        return Ok(line);
    }
    let first = prompt(&mut input, &format!("Password for {account}: "))?;
    checked(&first)?;
    let again = prompt(&mut input, "The same again: ")?;
    if first == again { Ok(first) } else { Err("the two passwords differ".into()) }
}

fn prompt(input: &mut File, text: &str) -> Result<Zeroizing<String>, String> {
    let terminal = input.try_clone().map_err(|error| format!("the terminal: {error}"))?;
    let silent = Silent::new(terminal.as_fd()).map_err(|error| format!("cannot turn off the echo: {error}"))?;
    complain(text);
    let line = silent.line_or_signal().and_then(|()| read_line(input));
    complain("\n");
    line
}

/// How long whoever feeds us a password by pipe has for what follows it. Not until the end: some keep the pipe open until
/// we have ended.
const MORE_PAUSE_MS: u8 = 100;

/// Errors: behind the line that was read stands another. Which of them is the password?
fn nothing_follows(input: &mut File) -> Result<(), String> {
    let mut octet = Zeroizing::new([0]);
    loop {
        let mut waited = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waited, PollTimeout::from(MORE_PAUSE_MS)) {
            Ok(1..) => {}
            Ok(_) | Err(_) => return Ok(()),
        }
        match input.read(&mut octet[..]) {
            Ok(1..) if octet[0] == b'\r' || octet[0] == b'\n' => {}
            Ok(1..) => {
                return Err("standard input has more than one line; give the password alone, once, in one line".into());
            }
            Ok(_) | Err(_) => return Ok(()),
        }
    }
}

/// One line without its end; read octet by octet, so that no buffer keeps a copy.
fn read_line(input: &mut impl Read) -> Result<Zeroizing<String>, String> {
    let octets_max = PASSWORD_BYTES_MAX + "\r\n".len();
    let mut line = Zeroizing::new(Vec::with_capacity(octets_max));
    let mut octet = Zeroizing::new([0]);
    while line.last() != Some(&b'\n') && line.len() < octets_max {
        match input.read(&mut octet[..]) {
            Ok(0) => break,
            Ok(_) => line.push(octet[0]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("cannot read the password: {error}")),
        }
    }
    let text = std::str::from_utf8(&line).map_err(|_| "the password is not UTF-8")?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(Zeroizing::new(text.strip_suffix('\r').unwrap_or(text).to_owned()))
}

/// The password in the form in which the server compares it.
fn checked(password: &str) -> Result<Zeroizing<String>, String> {
    let too_long = || Err(format!("the password is longer than {PASSWORD_BYTES_MAX} octets"));
    if password.len() > PASSWORD_BYTES_MAX {
        return too_long();
    }
    match prepare(password).map(Zeroizing::new) {
        None => Err("the password has characters that no client may send: control characters, private use, or \
                     right-to-left letters mixed with others"
            .into()),
        Some(prepared) if prepared.is_empty() => Err("the password is empty".into()),
        Some(prepared) if prepared.len() > PASSWORD_BYTES_MAX => too_long(),
        Some(prepared) => Ok(prepared),
    }
}

/// Characters that a password should have (NIST SP 800-63B section 3.1.1.2 asks for 8 at least).
const PASSWORD_CHARACTERS: usize = 8;

/// A warning about a password that is soon guessed; it is taken all the same.
pub fn weakness(password: &str) -> Option<String> {
    let count = password.chars().count();
    (count < PASSWORD_CHARACTERS).then(|| {
        format!("warning: the password has {count} of the {PASSWORD_CHARACTERS} characters that it should have")
    })
}

/// `text` with its line `number` (from 1) replaced by `line`; past the end `line` is appended.
fn with_line(text: &str, number: usize, line: &str) -> String {
    let mut new = String::with_capacity(text.len() + line.len() + 1);
    let mut placed = false;
    for (at, old) in (1..).zip(text.split_inclusive('\n')) {
        placed |= at == number;
        new.push_str(if at == number { line } else { old });
    }
    if !placed {
        if !new.is_empty() && !new.ends_with('\n') {
            new.push('\n');
        }
        new.push_str(line);
    }
    new
}

fn parse(path: &Path, text: &[u8], names: &Names) -> Result<Vec<Entry>, String> {
    users::parse(text, names).map_err(|mistake| format!("{}, {mistake}", named(path)))
}

/// The terminal's echo is off while this lives. Signals that would end the program meanwhile are held back, or they would
/// leave the terminal like that.
struct Silent<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
    signals: SignalFd,
    mask: SigSet,
}

impl Silent<'_> {
    fn new(terminal: BorrowedFd<'_>) -> Result<Silent<'_>, Errno> {
        let before = tcgetattr(terminal)?;
        let ends: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT].into_iter().collect();
        let signals = SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC)?;
        let mut without_echo = before.clone();
        without_echo.local_flags.remove(LocalFlags::ECHO);
        let mask = SigSet::thread_get_mask()?;
        ends.thread_block()?;
        let silent = Silent { terminal, before, signals, mask };
        tcsetattr(terminal, SetArg::TCSAFLUSH, &without_echo)?;
        Ok(silent)
    }

    /// Waits until a line can be read. Errors: a signal came first, which takes effect when the echo is on again.
    fn line_or_signal(&self) -> Result<(), String> {
        let mut waited =
            [PollFd::new(self.terminal, PollFlags::POLLIN), PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        loop {
            match poll(&mut waited, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(error) => return Err(format!("cannot read the password: {error}")),
                Ok(_) if waited[1].any() == Some(true) => return Err("interrupted".into()),
                Ok(_) => return Ok(()),
            }
        }
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, SetArg::TCSANOW, &self.before);
        let _ = self.mask.thread_set_mask();
    }
}

/// The users file while nobody else changes it.
struct Locked {
    path: PathBuf,
    names: Names,
    /// The directory is what is locked: the file itself is another one after each change.
    directory: Flock<File>,
}

impl Locked {
    fn open(config: &config::Auth) -> Result<Locked, String> {
        // A symbolic link stays one: what it points to is replaced.
        let path = fs::canonicalize(&config.users_file).unwrap_or_else(|_| config.users_file.clone());
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let directory = File::open(parent).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                format!("{}: the directory {} does not exist: make it first", named(&path), parent.display())
            }
            _ => format!("{}: cannot open the directory {}: {error}", named(&path), parent.display()),
        })?;
        let directory = lock(directory).map_err(|what| format!("{}: {what}", named(&path)))?;
        Ok(Locked { path, names: Names::new(config), directory })
    }

    fn exists(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok()
    }

    fn read(&self) -> Result<(String, Vec<Entry>), String> {
        let octets = read(&self.path)?;
        let entries = parse(&self.path, &octets, &self.names)?;
        let text = String::from_utf8(octets).map_err(|_| format!("{} is not UTF-8", named(&self.path)))?;
        Ok((text, entries))
    }

    /// Puts `text` in place of the file, durably and at once.
    fn replace(&self, text: &str) -> Result<(), String> {
        let name = self.path.file_name().ok_or_else(|| format!("{} has no name", named(&self.path)))?;
        // Under the lock this name is ours; one that is there was left by a crash.
        let beside = self.path.with_file_name(format!(".{}.new", name.to_string_lossy()));
        let _ = fs::remove_file(&beside);
        let written = self.write_beside(&beside, text).and_then(|()| {
            fs::rename(&beside, &self.path)?;
            self.directory.sync_all()
        });
        written.map_err(|error| {
            let _ = fs::remove_file(&beside);
            let remedy = match error.kind() {
                ErrorKind::PermissionDenied => ": run this as the owner of the file and its directory, or as root",
                _ => "",
            };
            format!("{} cannot be written: {error}{remedy}", named(&self.path))
        })
    }

    fn write_beside(&self, beside: &Path, text: &str) -> std::io::Result<()> {
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
        if let Ok(old) = fs::metadata(&self.path) {
            let made = new.metadata()?;
            if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
                fchown(&new, Some(old.uid()), Some(old.gid()))?;
            }
            // A group that may read the file (root:penstock 0640) still may; others never.
            new.set_permissions(Permissions::from_mode(old.mode() & 0o660))?;
        }
        new.write_all(text.as_bytes())?;
        new.sync_all()
    }
}

fn lock(mut directory: File) -> Result<Flock<File>, String> {
    for _ in 0..LOCK_TRIES {
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((unlocked, Errno::EWOULDBLOCK | Errno::EINTR)) => directory = unlocked,
            Err((_, error)) => return Err(format!("its directory cannot be locked: {error}")),
        }
        thread::sleep(LOCK_PAUSE);
    }
    Err("another `penstock user` is changing it and does not end; try again".into())
}

#[cfg(test)]
mod tests;
