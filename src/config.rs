//! stub: see the struct shapes; constant after start.
use crate::policy::{Networks, Role, TlsMode, UsernameForm};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our name.
    pub hostname: String,
    /// Which kernel interface.
    pub io: Io,
    /// Core threads; none: one per processor that we may run on.
    pub cores: Option<usize>,
    /// Domains anybody may send to.
    pub local_domains: Vec<String>,
    /// Networks that may relay on `smtp` listeners.
    pub trusted_networks: Networks,
    /// Spool.
    pub spool: Spool,
    /// Certificate.
    pub tls: Tls,
    /// Users; none: nobody can authenticate.
    pub auth: Option<Auth>,
    /// Limits.
    pub limits: Limits,
    /// Log.
    pub log: Log,
    /// Listeners, at least one.
    pub listeners: Vec<Listener>,
    /// Relay.
    pub relay: Relay,
}
/// `io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// io_uring where allowed, else epoll.
    Auto,
    /// io_uring or refuse to start.
    IoUring,
    /// epoll.
    Epoll,
}
/// `[spool]`
#[derive(Clone, Debug)]
pub struct Spool {
    /// Directory.
    pub directory: PathBuf,
    /// Octets per segment.
    pub segment_bytes: u64,
    /// Content past this goes to a spill file, octets.
    pub spill_bytes: u64,
    /// Free octets below which new mail is refused.
    pub reserve_bytes: u64,
}
/// `[tls]`
#[derive(Clone, Debug)]
pub struct Tls {
    /// PEM chain.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}
/// `[auth]`
#[derive(Clone, Debug)]
pub struct Auth {
    /// The users file.
    pub users_file: PathBuf,
    /// How users name themselves.
    pub username_form: UsernameForm,
    /// The domain that is appended or may be left out.
    pub domain: Option<String>,
    /// Verifier threads.
    pub verifiers: usize,
    /// Passwords waiting for a verifier; past it 454.
    pub verifier_queue: usize,
    /// Seconds a verdict is believed.
    pub cache_s: u64,
}
/// `[limits]`
#[derive(Clone, Debug)]
pub struct Limits {
    /// SIZE, octets.
    pub message_bytes_max: u64,
    /// Recipients per message.
    pub recipients_max: u32,
    /// Connections per core.
    pub connections_per_core: usize,
    /// Octets of messages being received, per core.
    pub receiving_bytes_per_core: u64,
    /// Seconds a client may be silent.
    pub idle_timeout_s: u64,
    /// Seconds for the TLS handshake.
    pub handshake_timeout_s: u64,
    /// Seconds that messages in DATA may take to finish at shut-down.
    pub drain_s: u64,
}
/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// Format.
    pub format: LogFormat,
}
/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Human,
    /// One JSON object a line.
    Json,
}
/// `[[listener]]`
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name in logs and envelopes; default: role and port.
    pub name: String,
    /// Address and port.
    pub address: SocketAddr,
    /// Role.
    pub role: Role,
    /// TLS mode.
    pub tls: TlsMode,
}
/// `[relay]`
#[derive(Clone, Debug)]
pub struct Relay {
    /// Accept and keep.
    pub paused: bool,
    /// Routes; the first whose domains match, else the one without domains.
    pub routes: Vec<Route>,
    /// Seconds to the first retry; doubles up to `retry_max_s`.
    pub retry_first_s: u64,
    /// Longest pause between tries, seconds.
    pub retry_max_s: u64,
    /// Seconds after arrival at which a message is given up.
    pub expire_s: u64,
    /// Connections per destination.
    pub connections_max: usize,
}
/// `[[relay.route]]`
#[derive(Clone, Debug)]
pub struct Route {
    /// Recipient domains; empty: all others.
    pub domains: Vec<String>,
    /// Where to.
    pub target: Target,
}
/// The target of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// SMTP to host:port.
    Smarthost {
        /// Host and port.
        address: String,
        /// TLS.
        tls: RouteTls,
    },
    /// LMTP to host:port or `unix:/path`.
    Lmtp {
        /// Address.
        address: String,
    },
    /// A Maildir.
    Maildir {
        /// Directory.
        directory: PathBuf,
    },
}
/// `tls` of a smarthost route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteTls {
    /// Never.
    None,
    /// When offered; the certificate is not verified.
    Opportunistic,
    /// Or the message waits; the certificate is not verified.
    Required,
}
