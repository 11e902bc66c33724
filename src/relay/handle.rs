//! The relay as the appliance sees it: options in, a handle to stop it out.

use crate::config;
use crate::log::{self, Level};
use crate::net;
use crate::relay::direct::site::Direct;
use crate::relay::maildir::Maildirs;
use crate::relay::operator::Asked;
use crate::relay::watch::{Phase, Watch};
use crate::relay::worker;
use crate::services::Resolver;
use crate::spool::{Follower, WriterSeed};
use crate::trace::Traces;
use futures_channel::{mpsc, oneshot};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// What the relay needs.
pub struct RelayOptions {
    /// `[relay]`.
    pub config: config::Relay,
    /// Our name.
    pub hostname: String,
    /// Seconds after which messages that keep a segment of delivered mail on the disk are moved out of it.
    pub move_after_s: u64,
    /// Which kernel interface.
    pub driver: net::Driver,
    /// Its writer.
    pub writer: WriterSeed,
    /// Its cursor.
    pub follower: Follower,
    /// Where it is kept what becomes of messages.
    pub traces: Traces,
    /// What an operator asks.
    pub asked: mpsc::Receiver<Asked>,
}

/// For [`RelayOptions::move_after_s`]: most of what is left in a segment is done in seconds by itself.
pub const MOVE_AFTER_S: u64 = 60;

/// The running relay.
pub struct RelayHandle {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    watch: Arc<Watch>,
}

impl RelayHandle {
    /// What it tells of itself.
    pub fn watch(&self) -> Arc<Watch> {
        self.watch.clone()
    }

    /// Asks it to end and returns at once. Deliveries under way may finish within a few seconds.
    pub fn ask_to_stop(&mut self) {
        // Dropping the sender is the signal.
        self.stop = None;
    }

    /// Ends it and waits until its writer has drained; what is not delivered stays queued.
    pub fn stop(mut self) {
        self.ask_to_stop();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::event(Level::Error, "relay thread panicked").emit();
        }
    }
}

/// Starts the relay on a thread of its own. Paused, it reads the spool and answers an operator, and delivers, returns and
/// moves nothing: mail is accepted and kept. Errors: one line.
pub fn start(options: RelayOptions) -> Result<RelayHandle, String> {
    let watch = Arc::new(Watch::new(&options.config));
    if options.config.paused {
        log::event(Level::Warning, "relay paused, mail is accepted and kept").emit();
    }
    let no_thread = |error: io::Error| format!("the relay cannot start a thread: {error}; raise the limit of threads");
    let maildirs = Maildirs::start(&options.hostname).map_err(no_thread)?;
    let resolver = Resolver::start().map_err(no_thread)?;
    let direct = Direct::start(&options.config, watch.dns.clone())?;
    let (stop, stopped) = oneshot::channel();
    let seen = watch.clone();
    let thread = std::thread::Builder::new().name("relay".into()).spawn(move || {
        let driver = options.driver;
        let ended = net::run(driver, None, worker::run(options, maildirs, resolver, direct, seen.clone(), stopped));
        seen.enters(Phase::Ended);
        let ended = ended.and_then(|ended| ended);
        if let Err(error) = ended {
            log::event(Level::Error, "relay cannot run, mail is accepted and kept").field("reason", error).emit();
        }
    });
    Ok(RelayHandle { stop: Some(stop), thread: Some(thread.map_err(no_thread)?), watch })
}
