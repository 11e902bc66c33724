//! The configuration: read once, held against one table of keys, then constant.
//!
//! ```text
//!  file -toml-> tables with places -section-> values that fit keys.rs -build-> Config -rules-> Loaded
//!                      \_______________________ Notices: every mistake of the file in one go ________/
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | [`keys`] | every key: unit, range, default, reason, RFC section |
//! | `syntax` | what is no TOML |
//! | `section` | holds one section of a file against that table |
//! | `values` | addresses, domains and targets: text that must have a form |
//! | `route`, `direct` | what a route says |
//! | `build` | sections to [`Config`] |
//! | `rules` | contradictions between keys |
//! | [`notice`] | mistakes and warnings with their lines |
//! | [`example`] | the commented examples that ship with Penstock |
//!
//! It promises that a [`Config`] holds no contradiction that the text alone can show. Whether the files that it names
//! are there is for `admin::check`.

mod build;
mod direct;
pub mod example;
pub mod keys;
pub mod notice;
mod route;
mod rules;
mod section;
mod syntax;
#[cfg(test)]
mod tests;
mod values;

pub use crate::log::Format as LogFormat;
pub use direct::{Direct, Mx};
pub use notice::{Notice, Notices, Severity};
pub use route::{ClientCertificate, Host, Login, Route, RouteTls, Smarthost, Target};

use crate::log::Level;
use crate::policy::{Networks, OddBytes, Role, TlsMode, UsernameForm};
use crate::sasl::Mechanisms;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A file that was read without a mistake.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// Warnings, no mistakes so far. Checks that need more than the text add to it.
    pub notices: Notices,
    /// Where the file names other files.
    pub places: Places,
}

/// Where the file names other files, or what else a machine must have: offsets into its text, for [`Notices`].
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// `cores`
    pub cores: Range<usize>,
    /// `address` of each listener, in the order of [`Config::listeners`].
    pub listeners: Vec<Range<usize>>,
    /// `spool.directory`
    pub spool_directory: Range<usize>,
    /// `spool.reserve_mib`
    pub spool_reserve: Range<usize>,
    /// `relay.paused`
    pub paused: Range<usize>,
    /// `tls.certificate`
    pub certificate: Range<usize>,
    /// `tls.key`
    pub key: Range<usize>,
    /// `certificate` and `key` of each further certificate, in the order of [`Tls::additional`].
    pub additional: Vec<(Range<usize>, Range<usize>)>,
    /// `local_recipients`
    pub local_recipients: Range<usize>,
    /// `auth.users_file`
    pub users_file: Range<usize>,
    /// `auth.scram`
    pub scram: Range<usize>,
    /// `control.socket`, or `spool.directory` without it
    pub control_socket: Range<usize>,
    /// `control.helpdesk_group` and `control.postmaster_group`
    pub groups: [Range<usize>; 2],
    /// `mechanisms` of each listener, in the order of [`Config::listeners`].
    pub mechanisms: Vec<Range<usize>>,
    /// `maildir` or `lmtp` of each route, in the order of [`Relay::routes`].
    pub routes: Vec<Range<usize>>,
    /// `ca_file` of each route, in the same order; empty where there is none.
    pub ca_files: Vec<Range<usize>>,
    /// `password_file`, `certificate` and `key` of each route, in the same order; empty where there is none.
    pub route_secrets: Vec<[Range<usize>; 3]>,
}

/// `[auth]` of `file`, whatever else has mistakes, and all that there is to say about the file. Errors: as of [`load`], if
/// `[auth]` itself, or the file's notation, has a mistake.
pub fn load_auth(file: &Path) -> Result<(Option<Auth>, Notices), Notices> {
    let notices = match load(file) {
        Ok(loaded) => return Ok((loaded.config.auth, loaded.notices)),
        Err(notices) => notices,
    };
    let Ok(text) = std::fs::read_to_string(file) else { return Err(notices) };
    let (document, errors) = toml::de::DeTable::parse_recoverable(&text);
    let mut own = Notices::new(file, &text);
    let auth = build::auth_alone(document.get_ref(), &directory(file), &mut own);
    match auth {
        Some(auth) if errors.is_empty() && !own.has_mistakes() => Ok((auth, notices)),
        _ => Err(notices),
    }
}

/// Reads `file`. Relative paths in it are relative to its directory. Errors: a file that cannot be read, or all its
/// mistakes and warnings.
pub fn load(file: &Path) -> Result<Loaded, Notices> {
    match std::fs::read(file).map(String::from_utf8) {
        Ok(Ok(text)) => parse(&text, file),
        Ok(Err(error)) => Err(syntax::not_utf8(&error, file)),
        Err(error) => {
            let mut notices = Notices::new(file, "");
            let remedy = "name a readable file with --config, or make one: penstock config example > penstock.toml";
            notices.mistake(
                &(0..0),
                format!("cannot read the configuration: {}", crate::log::without_number(&error)),
                remedy,
            );
            Err(notices)
        }
    }
}

/// Reads `text`, which stands in `file`. Errors: all its mistakes and warnings.
pub fn parse(text: &str, file: &Path) -> Result<Loaded, Notices> {
    let mut notices = Notices::new(file, text);
    let (document, errors) = toml::de::DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        syntax::note(text, &errors, &mut notices);
        return Err(notices);
    }
    let draft = build::build(document.get_ref(), &directory(file), &mut notices);
    rules::check(&draft, &mut notices);
    match notices.has_mistakes() {
        true => Err(notices),
        false => Ok(Loaded { config: draft.config, notices, places: draft.places.files }),
    }
}

/// What relative paths in `file` are relative to. Log lines name files: of a relative path they would not tell where it is.
fn directory(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    absolute.parent().unwrap_or(Path::new("/")).to_owned()
}

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our name in the greeting, in Received fields and in bounces.
    pub hostname: String,
    /// The kernel interface.
    pub io: Io,
    /// Core threads; none: one per processor that we may run on.
    pub cores: Option<usize>,
    /// Domains that anybody may send to on `smtp` listeners.
    pub local_domains: Vec<String>,
    /// Who there is in those domains; none: nobody knows, and all are taken.
    pub local_recipients: Option<PathBuf>,
    /// Networks that may relay on `smtp` listeners.
    pub trusted_networks: Networks,
    /// The page that 530 replies point to; empty: none.
    pub help: String,
    /// Where accepted messages are kept.
    pub spool: Spool,
    /// The certificates of all listeners.
    pub tls: Tls,
    /// Users; none: nobody can authenticate.
    pub auth: Option<Auth>,
    /// Bounds.
    pub limits: Limits,
    /// Log lines.
    pub log: Log,
    /// Who may ask a running server.
    pub control: Control,
    /// What is kept of delivered messages.
    pub trace: Trace,
    /// Metrics and health; none: not served.
    pub admin: Option<Admin>,
    /// Listeners, at least one.
    pub listeners: Vec<Listener>,
    /// Where accepted messages go.
    pub relay: Relay,
}

/// `io`
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
    /// Made if missing; one running instance at a time.
    pub directory: PathBuf,
    /// Octets per segment file, a multiple of 1 MiB.
    pub segment_bytes: u64,
    /// Content past this goes to a spill file, octets.
    pub spill_bytes: u64,
    /// Free octets below which new mail is refused.
    pub reserve_bytes: u64,
    /// What the spool's files may take together, in octets; none: what the file system has.
    pub bytes_max: Option<u64>,
    /// Seconds after which nothing of a delivered message is left in the spool's files; 0: not bounded.
    pub wipe_after_s: u64,
}

/// `[tls]`
#[derive(Clone, Debug)]
pub struct Tls {
    /// PEM chain, ours first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// While both files are missing, make a self-signed certificate there at start.
    pub self_signed: bool,
    /// Certificates for other names.
    pub additional: Vec<Additional>,
}

/// `[[tls.additional]]`
#[derive(Clone, Debug)]
pub struct Additional {
    /// PEM chain, ours first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
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
    /// Threads that check passwords.
    pub verifiers: usize,
    /// Passwords waiting for a verifier; past it 454.
    pub verifier_queue: usize,
    /// Seconds for which a right password is believed without a new check; 0: never.
    pub cache_s: u64,
    /// Keep what SCRAM needs beside each hash.
    pub scram: bool,
    /// PBKDF2 iterations of new SCRAM keys.
    pub scram_iterations: u32,
    /// Failures of one account from one address that block it there.
    pub brake_account_failures: u32,
    /// Failures from one address that block it for all accounts.
    pub brake_address_failures: u32,
    /// Seconds in which so many failures are forgiven.
    pub brake_window_s: u64,
    /// Networks whose failures are not counted.
    pub brake_exempt_networks: Networks,
    /// Milliseconds for which the first refused answer is held back.
    pub failure_delay_ms: u64,
}

/// `[limits]`
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest message, announced as SIZE; octets.
    pub message_bytes_max: u64,
    /// Recipients per message.
    pub recipients_max: u32,
    /// Messages per session.
    pub messages_per_session: u32,
    /// Longest time for which a message may be held, seconds; 0: not offered.
    pub hold_max_s: u32,
    /// Recipients of one user in an hour, over all sessions; 0: no limit.
    pub user_recipients_per_hour: u32,
    /// Open connections on one core.
    pub connections_per_core: usize,
    /// Open connections in all.
    pub connections_max: usize,
    /// Open connections of one address without authentication.
    pub connections_per_address: usize,
    /// Open connections of one network without authentication.
    pub connections_per_network: usize,
    /// Networks without these two limits.
    pub connections_exempt_networks: Networks,
    /// Memory for messages that are being received on one core; octets.
    pub receiving_bytes_per_core: u64,
    /// Seconds that a known client or a mail server may take for a command.
    pub idle_timeout_s: u64,
    /// Seconds that strangers may take for a command, and everybody for an AUTH exchange.
    pub stranger_timeout_s: u64,
    /// Seconds from connecting to AUTH where mail needs it.
    pub login_timeout_s: u64,
    /// Seconds that strangers may take on a crowded core.
    pub crowded_timeout_s: u64,
    /// Seconds from MAIL to the end of the message.
    pub transaction_timeout_s: u64,
    /// Seconds that a client may take to read its replies.
    pub reply_timeout_s: u64,
    /// Octets per second that a message must come with.
    pub receiving_rate_min: u64,
    /// Seconds over which that is averaged.
    pub receiving_window_s: u64,
    /// Seconds for a TLS handshake.
    pub handshake_timeout_s: u64,
    /// Seconds that messages in DATA may take to finish at shut-down.
    pub drain_s: u64,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// The least level that is written.
    pub level: Level,
}

/// `[control]`
#[derive(Clone, Debug)]
pub struct Control {
    /// The Unix socket.
    pub socket: PathBuf,
    /// The system group that may ask where a message is.
    pub helpdesk_group: Option<String>,
    /// The system group that may do everything.
    pub postmaster_group: Option<String>,
}

/// `[trace]`
#[derive(Clone, Debug)]
pub struct Trace {
    /// Days for which it is kept what became of each message; 0: not at all.
    pub retention_days: u64,
}

/// `[admin]`
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where metrics and health are served over HTTP.
    pub listen: SocketAddr,
}

/// `[[listener]]`
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name in logs and envelopes. Default: role and port, as in `submission-587`.
    pub name: String,
    /// Address and port; an IPv6 address takes no IPv4 connections.
    pub address: SocketAddr,
    /// Who may send where.
    pub role: Role,
    /// How TLS starts.
    pub tls: TlsMode,
    /// Who must say a PROXY header first.
    pub proxy_from: Networks,
    /// Who may say XCLIENT.
    pub xclient_from: Networks,
    /// Is XCLIENT LOGIN believed?
    pub xclient_login: bool,
    /// Bare CR, bare LF and NUL in content of authenticated and trusted clients.
    pub odd_bytes: OddBytes,
    /// The same of all others.
    pub odd_bytes_of_strangers: OddBytes,
    /// What AUTH may be used with; none: whatever can be checked for every user.
    pub mechanisms: Option<Mechanisms>,
}

/// `[relay]`
#[derive(Clone, Debug)]
pub struct Relay {
    /// Accept and keep, deliver nothing.
    pub paused: bool,
    /// Routes; the first whose domains and senders match, else the one without either.
    pub routes: Vec<Route>,
    /// Seconds to the first retry; doubles up to `retry_max_s`.
    pub retry_first_s: u64,
    /// Longest pause between tries, seconds.
    pub retry_max_s: u64,
    /// Seconds after arrival at which a message is given up.
    pub expire_s: u64,
    /// Seconds after arrival at which the sender is told that a message is late; 0: never.
    pub delay_warning_s: u64,
    /// `TLS-Required: No` in a message's header lifts what its route demands of TLS (RFC 8689 section 3).
    pub honours_tls_optional: bool,
    /// Connections to one destination at a time.
    pub connections_max: usize,
    /// Octets of content up to which a message goes before larger ones; none does at 0.
    pub small_bytes: u64,
    /// How long servers may take.
    pub timeouts: RelayTimeouts,
    /// What routes with `mx` have in common.
    pub direct: Direct,
}

/// How long a server that mail is delivered to may take, in seconds; RFC 5321 section 4.5.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayTimeouts {
    /// For the whole TLS handshake.
    pub handshake_s: u64,
    /// For each reply but that to the content.
    pub reply_s: u64,
    /// For one write of content.
    pub block_s: u64,
    /// For each reply to the content.
    pub content_s: u64,
}

impl Default for RelayTimeouts {
    fn default() -> RelayTimeouts {
        RelayTimeouts { handshake_s: 60, reply_s: 300, block_s: 180, content_s: 600 }
    }
}
