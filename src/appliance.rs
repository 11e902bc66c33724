//! The whole appliance put together: spool, authenticator, core threads, relay; started, reloaded, stopped.
//!
//! ```text
//!  start:      spool (lock, epoch) -> certificate -> users, local recipients -> traces -> control socket -> listeners and cores -> relay
//!              -> http
//!  shut down:  control socket -> cores (accept, sessions, their writers) -> relay (deliveries in flight, its writer) -> traces -> verifiers -> spool
//!              -> http
//! ```
//!
//! Whatever is wrong at start is one line with a remedy, and nothing is left running.

use crate::admin::status::Status;
use crate::auth::Authenticator;
use crate::auth::users::Names;
use crate::clock::now_ms;
use crate::config::{Config, Io};
use crate::control::socket::ControlSocket;
use crate::log::{Level, event};
use crate::net::{self, Driver, PemFiles};
use crate::relay::{self, RelayHandle, RelayOptions};
use crate::server::recipients::RecipientsFile;
use crate::server::{self, Cores, Setup, TlsSnapshot};
use crate::services::Http;
use crate::spool::{self, Spool};
use crate::trace;
use crate::trace::writer::TraceWriter;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A running appliance.
pub struct Appliance {
    config: Arc<Config>,
    spool: Spool,
    cores: Cores,
    relay: RelayHandle,
    control: ControlSocket,
    trace_writer: Option<TraceWriter>,
    authenticator: Option<Arc<Authenticator>>,
    tls: Arc<TlsSnapshot>,
    recipients: Option<RecipientsFile>,
    status: Arc<Status>,
    http: Option<Http>,
}

impl Appliance {
    /// Starts everything. Errors: one line with a remedy.
    pub fn start(config: Arc<Config>) -> Result<Appliance, String> {
        let driver = choose_driver(config.io)?;
        let processors = processors(config.cores);
        let tls = Arc::new(TlsSnapshot::new(net::server_tls(&certificates(&config))?));
        let authenticator = config.auth.as_ref().map(Authenticator::start).transpose()?;
        let recipients = config.local_recipients.as_deref().map(RecipientsFile::open).transpose()?;
        let mut spool = Spool::open(spool::Options {
            directory: config.spool.directory.clone(),
            segment_bytes: config.spool.segment_bytes,
            writers: processors.len(),
            reserve_bytes: config.spool.reserve_bytes,
            bytes_max: config.spool.bytes_max,
            wipe_after_s: config.spool.wipe_after_s,
        })?;
        let writers = spool.core_writers();
        let (relay_writer, follower) = spool.relay_side();
        let setup = Setup {
            config: config.clone(),
            driver,
            processors,
            writers,
            authenticator: authenticator.clone(),
            tls: tls.clone(),
            local_recipients: recipients.as_ref().map(RecipientsFile::current),
        };
        let (line, asked) = relay::operator::line();
        // Before the first client: whoever sees a listener finds the socket.
        let (traces, trace_writer) = TraceWriter::start(trace::writer::Options {
            directory: config.spool.directory.join(trace::DIRECTORY),
            retention_days: config.trace.retention_days,
            reserve_bytes: config.spool.reserve_bytes,
        })?;
        let names = Names::of(config.auth.as_ref());
        let control = ControlSocket::start(&config.control, &config.spool.directory, line, traces.clone(), names)?;
        // Whatever cannot be had is said before anybody is served.
        let admin = config.admin.as_ref().map(|admin| Http::bind(admin.listen)).transpose()?;
        let cores = server::start(setup)?;
        let started = relay::start(RelayOptions {
            config: config.relay.clone(),
            hostname: config.hostname.clone(),
            move_after_s: relay::MOVE_AFTER_S,
            driver,
            writer: relay_writer,
            follower,
            traces,
            asked,
        });
        let relay = match started {
            Ok(relay) => relay,
            Err(error) => {
                cores.shut_down();
                return Err(error);
            }
        };
        let status = Arc::new(Status {
            config: config.clone(),
            spool: spool.watch(),
            relay: relay.watch(),
            authenticator: authenticator.clone(),
            stopping: AtomicBool::new(false),
        });
        let http = match admin.map(|listener| serve_status(listener, &status)).transpose() {
            Ok(http) => http,
            Err(error) => {
                cores.shut_down();
                relay.stop();
                return Err(error);
            }
        };
        for listener in &config.listeners {
            event(Level::Info, "listening")
                .field("listener", &listener.name)
                .field("address", listener.address)
                .field("io", driver.name())
                .emit();
        }
        Ok(Appliance {
            config,
            spool,
            cores,
            relay,
            control,
            trace_writer,
            authenticator,
            tls,
            recipients,
            status,
            http,
        })
    }

    /// Reads certificates, users and local recipients again. What is broken keeps its old form and says so; certificates are replaced all
    /// together or not at all.
    pub fn reload(&self) {
        match net::server_tls(&certificates(&self.config)) {
            Ok(tls) => {
                let count = tls.certificates().len();
                self.tls.store(tls);
                event(Level::Info, "certificate reloaded").field("certificates", count).emit();
                self.warn_of_expiry();
            }
            Err(error) => {
                event(Level::Error, "certificate not reloaded, the old one stays").field("error", error).emit()
            }
        }
        if let Some(authenticator) = &self.authenticator {
            authenticator.reload();
        }
        if let Some(recipients) = &self.recipients {
            recipients.reload();
        }
    }

    /// A line in the log for each certificate whose time is over or soon will be.
    pub fn warn_of_expiry(&self) {
        let now_s = (now_ms() / 1000) as i64;
        for trouble in self.tls.load().certificates().iter().filter_map(|certificate| certificate.trouble(now_s)) {
            let (what, remedy) = trouble.split_once("; ").unwrap_or((&trouble, ""));
            event(Level::Warning, "certificate").field("what", what).field("remedy", remedy).emit();
        }
    }

    /// Drains and stops everything; returns when all is on disk and every thread has ended.
    pub fn shut_down(self) {
        event(Level::Info, "shutting down").emit();
        // Whoever asks is told so until the end.
        self.status.stopping.store(true, Ordering::Relaxed);
        drop(self.control);
        self.cores.shut_down();
        self.relay.stop();
        drop(self.trace_writer);
        if let Some(authenticator) = self.authenticator {
            authenticator.stop();
        }
        self.spool.close();
        drop(self.http);
    }
}

/// Metrics and health.
fn serve_status(listener: TcpListener, status: &Arc<Status>) -> Result<Http, String> {
    let status = status.clone();
    let http = Http::start(listener, move |path| status.page(path))?;
    if let Ok(address) = http.address() {
        event(Level::Info, "metrics and health").field("address", address).emit();
    }
    Ok(http)
}

/// The files of all certificates, the default's first.
pub fn certificates(config: &Config) -> Vec<PemFiles> {
    let tls = &config.tls;
    let first = PemFiles { certificate: tls.certificate.clone(), key: tls.key.clone() };
    let others =
        tls.additional.iter().map(|one| PemFiles { certificate: one.certificate.clone(), key: one.key.clone() });
    std::iter::once(first).chain(others).collect()
}

/// Chooses between io_uring and epoll, and says it loudly where io_uring is wanted and not to be had.
fn choose_driver(io: Io) -> Result<Driver, String> {
    match (io, net::probe_io_uring()) {
        (Io::Epoll, _) => Ok(Driver::Epoll),
        (Io::Auto | Io::IoUring, Ok(())) => Ok(Driver::IoUring),
        (Io::Auto, Err(reason)) => {
            event(
                Level::Warning,
                "io_uring cannot be used here, falling back to epoll: slower, and file writes take a thread per core",
            )
            .field("reason", reason)
            .emit();
            Ok(Driver::Epoll)
        }
        (Io::IoUring, Err(reason)) => Err(format!(
            "io_uring cannot be used here: {reason}; allow it (kernel.io_uring_disabled, seccomp) or set io = \"auto\""
        )),
    }
}

/// The processors to pin core threads to: those that we may run on, `cores` of them at most.
pub fn processors(cores: Option<usize>) -> Vec<usize> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap_or_default();
    let allowed: Vec<usize> =
        (0..nix::sched::CpuSet::count()).filter(|&processor| set.is_set(processor).unwrap_or(false)).collect();
    let allowed = if allowed.is_empty() { vec![0] } else { allowed };
    let wanted = cores.unwrap_or(allowed.len());
    // More threads than processors share them; tests on small machines want that.
    allowed.iter().copied().cycle().take(wanted.max(1)).collect()
}
