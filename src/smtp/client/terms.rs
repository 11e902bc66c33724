//! The words between a client and its driver: what the client is told, and what it says.

use crate::sasl::Mechanism;
use zeroize::Zeroizing;

/// How the client is to behave on one connection.
#[derive(Clone, Debug)]
pub struct Options {
    /// Our name in EHLO.
    pub hostname: String,
    /// LMTP: LHLO, one reply per accepted recipient after the dot (RFC 2033 section 4.2).
    pub lmtp: bool,
    /// STARTTLS.
    pub starttls: StartTls,
    /// AUTH after TLS, if any.
    pub login: Option<Login>,
    /// Use PIPELINING where offered (off: one command at a time).
    pub pipelining: bool,
    /// A TLS handshake on this connection proves the server's name, as REQUIRETLS asks (RFC 8689 section 4.2.1).
    pub verifies: bool,
    /// A server that calls itself by our own name is ourselves (RFC 5321 section 6.3).
    pub detects_loop: bool,
}

impl Options {
    /// SMTP in the clear with PIPELINING; for the rest, struct update.
    pub fn new(hostname: impl Into<String>) -> Options {
        Options {
            hostname: hostname.into(),
            lmtp: false,
            starttls: StartTls::Never,
            login: None,
            pipelining: true,
            verifies: false,
            detects_loop: false,
        }
    }
}

/// When to ask for STARTTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTls {
    /// Never (or TLS is up from the first byte).
    Never,
    /// When offered.
    WhenOffered,
    /// Not offered: `Closed` with `Trouble::TlsNotOffered`.
    Required,
}

/// User name, password and mechanism. Debug does not show the password; the memory is wiped on drop.
#[derive(Clone)]
pub struct Login {
    /// User name.
    pub user: String,
    /// Password.
    pub password: Zeroizing<String>,
    /// By which mechanism, offered or not; none: the best that the server offers and we know.
    pub mechanism: Option<Mechanism>,
    /// For SCRAM: see [`crate::sasl::Terms`]. Of no use to PLAIN and LOGIN.
    pub nonce: String,
    /// For SCRAM: likewise.
    pub binding: Option<std::sync::Arc<[u8]>>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({:?}, {:?})", self.user, self.mechanism)
    }
}

/// One message to send.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// Without angle brackets.
    pub reverse_path: Vec<u8>,
    /// At least one.
    pub recipients: Vec<Recipient>,
    /// Octets that `content` will be given: for SIZE=, and for BDAT, where it must be exact. 0: not known.
    pub size: u64,
    /// What the content holds.
    pub body: Body,
    /// The content has lines of more than 998 octets.
    pub long_lines: bool,
    /// The header needs SMTPUTF8. Addresses are looked at here.
    pub smtputf8: bool,
    /// REQUIRETLS. RFC 8689. With the null reverse-path it is left out where it is not offered, and the rest of it holds.
    pub require_tls: bool,
    /// RET: full message (true) or header only. RFC 3461 section 4.3.
    pub ret_full: Option<bool>,
    /// ENVID, xtext. RFC 3461 section 4.4.
    pub envid: Option<Vec<u8>>,
    /// The AUTH parameter where AUTH is offered: xtext of a mailbox that is believed, or `<>`. RFC 4954 section 5.
    pub auth: Option<Vec<u8>>,
}

/// A recipient, with what its sender asked for (RFC 3461), to be passed to a server that offers DSN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipient {
    /// Without angle brackets.
    pub path: Vec<u8>,
    /// NOTIFY, as given.
    pub notify: Option<Vec<u8>>,
    /// ORCPT, as given.
    pub orcpt: Option<Vec<u8>>,
}

impl From<&[u8]> for Recipient {
    fn from(path: &[u8]) -> Recipient {
        Recipient { path: path.to_vec(), ..Recipient::default() }
    }
}

/// What a content holds, and so what its server must offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// ASCII.
    #[default]
    SevenBit,
    /// Octets above 127: 8BITMIME (RFC 6152).
    EightBit,
    /// Any octets, no lines: BINARYMIME and BDAT (RFC 3030).
    Binary,
}

/// Where the connection is; the load generator times the changes, drivers pick the time-out by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Waiting for 220.
    Greeting,
    /// EHLO sent.
    Hello,
    /// STARTTLS sent or the handshake is on.
    StartTls,
    /// AUTH under way.
    Auth,
    /// Between messages.
    Ready,
    /// MAIL, RCPT, DATA sent.
    Envelope,
    /// Content being written, or the reply to the dot awaited.
    Content,
    /// QUIT sent.
    Quit,
}

/// A server's reply, or our own words in its stead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200..=599
    pub code: u16,
    /// The whole text, lines joined by `\n`, bounded, printable ASCII or UTF-8, controls replaced.
    pub text: String,
    /// No server said so.
    pub ours: bool,
}

/// The enhanced status code with which a text begins, if it does: RFC 2034 section 4, RFC 3463 section 2.
pub fn enhanced_code(text: &str) -> Option<&str> {
    let word = text.split([' ', '\n']).next()?;
    let is_number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_digit());
    (word.split('.').count() == 3 && word.split('.').all(is_number)).then_some(word)
}

impl Reply {
    /// What we say where no server does.
    pub fn ours(code: u16, text: String) -> Reply {
        Reply { code, text, ours: true }
    }
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// 2xx after the content.
    Delivered(Reply),
    /// 4xx: try again.
    Deferred(Reply),
    /// 5xx.
    Failed(Reply),
}

/// Why a connection ended without a QUIT of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// 4xx or 421 anywhere it ends the session.
    Temporary(Reply),
    /// 5xx to the greeting or EHLO.
    Permanent(Reply),
    /// STARTTLS is required, or a password is to be sent, and STARTTLS is not offered or refused for good.
    TlsNotOffered,
    /// 5xx to AUTH: user name or password is wrong, or may not be used so.
    LoginRefused(Reply),
    /// There is a password to be sent, and the server offers no mechanism that we know.
    NoMechanism,
    /// The server has our own name.
    Loop,
    /// Not SMTP: what was seen, escaped and cut.
    Garbled(String),
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Write `out`, then read more.
    NeedInput,
    /// Write `out`, drop unread input, shake hands, then `tls_started`.
    StartTls,
    /// Call `send` or `quit`.
    Ready,
    /// Stream the content.
    SendContent,
    /// One fate per recipient of the transaction; the next `step` says Ready or Closed.
    Done(Vec<Fate>),
    /// QUIT was answered: close.
    Bye,
    /// Close.
    Closed(Trouble),
}
