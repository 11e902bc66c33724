//! `penstock serve`: start, then signals until one of them ends it.
//!
//! ```text
//!  configuration -> checks -> log -> descriptors -> Appliance::start -> ready
//!
//!  signals thread: sigwait --Stop, Reload--> main thread: shut_down, reload
//!                     TERM, INT   drain and end with 0; a second one ends at once with 1
//!                     HUP         read certificates, users, SCRAM's secret and local recipients again
//!                     USR1        log the totals
//! ```
//!
//! Whatever is wrong at start is said in one line with a remedy (a mistake in the configuration in one line each), and
//! the exit status is 1.

use super::{certificate, check, complain};
use crate::appliance::{self, Appliance};
use crate::config::{self, Config, LogFormat, Notice, Severity, Target};
use crate::log::{self, Level, event};
use crate::metrics;
use crate::server;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A second stop signal ends the process at once, if it comes this much later than the first.
const SECOND_SIGNAL_AFTER: Duration = Duration::from_millis(500);

/// How often certificates are looked at: one that is about to end is a line of each day's log.
const EXPIRY_LOOK_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Descriptors beside those of clients and of the relay's connections: the relay's own segments and files, the log, what
/// threads wake one another by.
const DESCRIPTORS_BESIDE: u64 = 256;

/// Descriptors of the name resolver: so many questions at a time, and its own.
const DESCRIPTORS_OF_DNS: u64 = 128;

/// What the signals thread wants of the main thread.
enum Wish {
    Stop,
    Reload,
}

/// Blocks the signals that [`serve`] waits for. Called before any other thread starts, because threads inherit it.
pub fn block_signals() {
    // It can fail only for an invalid argument.
    let _ = signals().thread_block();
}

fn signals() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1].into_iter().collect()
}

/// Serves `file` until a signal ends it. `ready` runs when clients can connect.
pub fn serve(file: &Path, ready: impl FnOnce()) -> ExitCode {
    let source = Source::read(file);
    let config = match prepare(file) {
        Ok(config) => Arc::new(config),
        Err(text) => {
            complain(&text);
            return ExitCode::FAILURE;
        }
    };
    let format = config.log.format;
    match start(config) {
        Ok((appliance, wishes)) => {
            ready();
            run(appliance, &wishes, &source);
            ExitCode::SUCCESS
        }
        Err(reason) => {
            refuse(format, &reason);
            ExitCode::FAILURE
        }
    }
}

/// The configuration as it was at start. What has changed in it since takes effect at the next start only, and who sends
/// SIGHUP may think otherwise.
struct Source {
    file: PathBuf,
    /// None: it could not be read.
    text: Option<Vec<u8>>,
}

/// What there is to say about a configuration since the start.
#[derive(Debug, PartialEq, Eq)]
enum Since {
    Same,
    Changed,
    /// It would not start any more; the first mistake.
    Broken(Notice),
}

impl Source {
    fn read(file: &Path) -> Source {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        Source { text: std::fs::read(&file).ok(), file }
    }

    fn since(&self) -> Since {
        if std::fs::read(&self.file).ok() == self.text {
            return Since::Same;
        }
        let Err(notices) = config::load(&self.file) else { return Since::Changed };
        let mistake = notices.iter().find(|notice| notice.severity == Severity::Mistake);
        mistake.map_or(Since::Changed, |mistake| Since::Broken(mistake.clone()))
    }

    /// Says what has changed.
    fn look(&self) {
        match self.since() {
            Since::Same => {}
            Since::Changed => event(Level::Warning, "configuration has changed; that takes effect at the next start")
                .field("file", self.file.display())
                .emit(),
            Since::Broken(mistake) => event(Level::Error, "configuration has a mistake; the next start would fail")
                .field("file", self.file.display())
                .field("line", mistake.line)
                .field("what", &mistake.what)
                .field("remedy", &mistake.remedy)
                .emit(),
        }
    }
}

/// The checked configuration, with a certificate if it was to be made, and the log running. Errors: lines to print.
fn prepare(file: &Path) -> Result<Config, String> {
    let mut loaded = config::load(file).map_err(|notices| notices.to_string())?;
    // What is wrong elsewhere is said before anything is made.
    check::beside_certificates(&mut loaded, file);
    let mut made = false;
    if !loaded.notices.has_mistakes() {
        made = certificate::make_if_missing(&loaded.config).map_err(|error| format!("penstock: {error}\n"))?;
    }
    check::certificates(&mut loaded);
    if loaded.notices.has_mistakes() {
        return Err(loaded.notices.to_string());
    }
    let config = loaded.config;
    log::init(config.log.format, config.log.level).map_err(|error| format!("penstock: no log thread: {error}\n"))?;
    log_panics();
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    event(Level::Info, "starting")
        .field("version", env!("CARGO_PKG_VERSION"))
        .field("configuration", file.display())
        .field("hostname", &config.hostname)
        .emit();
    if made {
        let line = event(Level::Warning, "self-signed certificate made, mail programs will warn about it");
        line.field("file", config.tls.certificate.display()).emit();
    }
    for notice in loaded.notices.iter().filter(|notice| notice.severity == Severity::Warning) {
        let line = event(Level::Warning, "configuration").field("file", file.display()).field("line", notice.line);
        line.field("what", &notice.what).field("remedy", &notice.remedy).emit();
    }
    Ok(config)
}

/// Threads without which mail would be taken and never delivered, or hang. Passwords are contained where they run; of a core
/// only its sessions are, and without its accept loops and its spool writer the kernel would go on giving it clients.
const ESSENTIAL_THREADS: [&str; 6] = ["core-", "relay", "files", "maildir", "spool-", "spill-"];

/// Does nothing work any more when the thread of this name, which is the current one, panics?
fn is_fatal(name: &str) -> bool {
    !server::is_contained() && ESSENTIAL_THREADS.iter().any(|essential| name.starts_with(essential))
}

/// A panic, which only a bug can cause, is one line of the log like everything else. On a thread that nothing works without
/// it ends the process: what is on disk is whole, and a restart by the service manager goes on from there.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let what = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no words");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let current = thread::current();
        let name = current.name().unwrap_or_default();
        let line = event(Level::Error, "panicked at").field("place", place).octets("what", what.as_bytes());
        line.field("thread", name).emit();
        if is_fatal(name) {
            log::flush();
            std::process::abort();
        }
        // The line of a session waits for its turn like any other: the core's other clients are not kept waiting for a disk.
        if !server::is_contained() {
            log::flush();
        }
    }));
}

fn start(config: Arc<Config>) -> Result<(Appliance, Receiver<Wish>), String> {
    raise_descriptor_limit(&config)?;
    let (sender, wishes) = channel();
    // Before the appliance: a signal that comes while it starts is kept.
    let thread = thread::Builder::new().name("signals".to_owned()).spawn(move || listen(&sender));
    thread.map_err(|error| format!("no signals thread: {error}; raise the limit on processes (ulimit -u)"))?;
    let appliance = Appliance::start(config)?;
    event(Level::Info, "ready").emit();
    Ok((appliance, wishes))
}

/// One clear line, in the form of the log.
fn refuse(format: LogFormat, reason: &str) {
    match format {
        LogFormat::Json => event(Level::Error, "not started").field("reason", reason).emit(),
        LogFormat::Human => {
            log::flush();
            complain(&format!("penstock: {reason}\n"));
        }
    }
    log::flush();
}

fn run(appliance: Appliance, wishes: &Receiver<Wish>, source: &Source) {
    loop {
        match wishes.recv_timeout(EXPIRY_LOOK_EVERY) {
            Ok(Wish::Reload) => {
                appliance.reload();
                source.look();
            }
            Err(RecvTimeoutError::Timeout) => appliance.warn_of_expiry(),
            // The sender lives as long as the signals thread, which never ends.
            Ok(Wish::Stop) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    appliance.shut_down();
    metrics::log_totals();
    event(Level::Info, "stopped").emit();
    log::flush();
}

/// The signals thread.
fn listen(wishes: &Sender<Wish>) {
    let signals = signals();
    let mut stopping: Option<Instant> = None;
    loop {
        match signals.wait() {
            Ok(Signal::SIGHUP) => drop(wishes.send(Wish::Reload)),
            Ok(Signal::SIGUSR1) => metrics::log_totals(),
            // A service manager may signal the process and its group in the same moment: that is one signal.
            Ok(_) if stopping.is_some_and(|since| since.elapsed() < SECOND_SIGNAL_AFTER) => {}
            Ok(_) if stopping.is_some() => {
                event(Level::Warning, "ended at once by a second signal").emit();
                log::flush();
                std::process::exit(1);
            }
            Ok(_) => {
                stopping = Some(Instant::now());
                drop(wishes.send(Wish::Stop));
            }
            // The set is a constant, so there is nothing that can be wrong with it.
            Err(_) => continue,
        }
    }
}

/// Raises the soft limit on file descriptors to the hard one. Errors: even that is too small for the connections that
/// the configuration allows.
fn raise_descriptor_limit(config: &Config) -> Result<(), String> {
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| format!("cannot read the descriptor limit: {error}"))?;
    let cores = appliance::processors(config.cores).len() as u64;
    descriptors_suffice(cores, config.limits.connections_per_core as u64, descriptors_beside(config, cores), hard)?;
    match soft < hard {
        true => setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
            .map_err(|error| format!("cannot raise the limit on file descriptors from {soft} to {hard}: {error}")),
        false => Ok(()),
    }
}

/// Descriptors that are not clients'. Whoever has them all open must still be able to write what it promised.
fn descriptors_beside(config: &Config, cores: u64) -> u64 {
    let is_connected = |target: &&Target| !matches!(target, Target::Maildir { .. } | Target::Mx(_) | Target::Discard);
    let targets = config.relay.routes.iter().map(|route| &route.target).filter(is_connected);
    let hosts: usize = targets.map(|target| target.hosts().len()).sum();
    let is_direct = config.relay.routes.iter().any(|route| matches!(route.target, Target::Mx(_)));
    let direct = if is_direct { config.relay.direct.connections_max as u64 + DESCRIPTORS_OF_DNS } else { 0 };
    let of_relay = hosts as u64 * config.relay.connections_max as u64 + direct;
    DESCRIPTORS_BESIDE + of_relay + cores * server::descriptors_per_core(config.listeners.len())
}

/// `beside`: descriptors that are not clients'.
fn descriptors_suffice(cores: u64, connections_per_core: u64, beside: u64, limit: u64) -> Result<(), String> {
    let needed = cores * connections_per_core + beside;
    if needed <= limit {
        return Ok(());
    }
    let reason = format!(
        "{cores} x {connections_per_core} connections (cores x limits.connections_per_core) need {needed} file descriptors, and the limit is {limit}"
    );
    match limit.saturating_sub(beside) / cores {
        0 => Err(format!("{reason}; raise it: LimitNOFILE={needed} (systemd) or ulimit -n {needed}")),
        fitting => Err(format!(
            "{reason}; raise it: LimitNOFILE={needed} (systemd) or ulimit -n {needed}; or set limits.connections_per_core = {fitting}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_refuses_to_start_makes_nothing_and_says_why_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("penstock.toml");
        let text = config::example::EXAMPLES.iter().find(|example| example.text.contains("\nself_signed = true"));
        let text = text.expect("an example").text.replace("\"/etc/", "\"etc/").replace("\"/var/", "\"var/");
        std::fs::write(&file, text).expect("written");
        let said = prepare(&file).expect_err("no users");
        assert_eq!(said.matches("does not exist: there are no users yet").count(), 1, "{said}");
        assert_eq!(said.matches("a self-signed one is made at start").count(), 1, "{said}");
        assert_eq!(std::fs::read_dir(directory.path()).expect("read").count(), 1, "only the configuration is there");
    }

    #[test]
    fn a_configuration_that_changes_while_it_is_served_is_spoken_of() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("penstock.toml");
        let text = config::example::find("toronto").expect("there").text;
        std::fs::write(&file, text).expect("written");
        let source = Source::read(&file);
        assert_eq!(source.since(), Since::Same);
        std::fs::write(&file, format!("{text}# more\n")).expect("written");
        assert_eq!(source.since(), Since::Changed);
        std::fs::write(&file, text.replace("hostname", "hostnam")).expect("written");
        assert!(matches!(source.since(), Since::Broken(mistake) if mistake.what.contains("unknown key \"hostnam\"")));
        std::fs::write(&file, b"\xff").expect("written");
        assert!(matches!(source.since(), Since::Broken(mistake) if mistake.what.contains("UTF-8")));
        std::fs::remove_file(&file).expect("removed");
        assert!(matches!(source.since(), Since::Broken(mistake) if mistake.what.contains("cannot read")));
        std::fs::write(&file, text).expect("written");
        assert_eq!(source.since(), Since::Same);
    }

    #[test]
    fn a_descriptor_limit_that_is_too_small_is_refused_with_what_would_fit() {
        assert_eq!(descriptors_suffice(2, 8192, 2436, 18_820), Ok(()));
        let error = descriptors_suffice(2, 8192, 2436, 18_819).expect_err("one too few");
        for part in ["need 18820", "limit is 18819", "ulimit -n 18820", "connections_per_core = 8191"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!descriptors_suffice(2, 100, 256, 256).expect_err("nothing fits").contains("connections_per_core ="));
    }

    #[test]
    fn listeners_and_the_relay_have_descriptors_too() {
        let text = config::example::find("general").expect("the general one").text;
        let config = config::parse(text, Path::new("/etc/penstock/penstock.toml")).expect("no mistakes").config;
        let (mut wider, mut busier) = (config.clone(), config.clone());
        wider.listeners.extend(config.listeners.clone());
        busier.relay.connections_max += 100;
        let beside = |config| descriptors_beside(config, 32);
        // A socket and one in reserve for each listener of each core.
        assert!(beside(&wider) >= beside(&config) + 2 * 32 * config.listeners.len() as u64);
        assert!(beside(&busier) >= beside(&config) + 100);
    }

    /// Sessions are contained; what else runs on a core is not, and a core without it would take clients and serve none.
    #[test]
    fn a_panic_is_fatal_on_a_core_but_in_its_sessions() {
        assert!(is_fatal("core-0") && is_fatal("relay") && is_fatal("spool-1"));
        assert!(!is_fatal("verifier-0") && !is_fatal("main"));
        assert_eq!(fatal_in_a_session("core-0"), Some(false));
        assert!(is_fatal("core-0"), "behind a session that panicked");
    }

    /// What is to be expected of a panic in a session, which then panics.
    fn fatal_in_a_session(name: &'static str) -> Option<bool> {
        let seen = std::rc::Rc::new(std::cell::Cell::new(None));
        let told = seen.clone();
        let session = async move {
            told.set(Some(is_fatal(name)));
            panic!("on purpose");
        };
        let ended = crate::net::run(crate::net::Driver::Epoll, None, server::contained(session, Arc::default()));
        ended.map_or(None, |()| seen.get())
    }
}
