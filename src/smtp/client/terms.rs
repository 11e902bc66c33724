//! The words between a client and its driver: what the client is told, and what it says.

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

/// User name, password and mechanism. Debug does not show the password.
#[derive(Clone)]
pub struct Login {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
    /// PLAIN or LOGIN.
    pub mechanism: crate::sasl::Mechanism,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({:?}, {:?})", self.user, self.mechanism)
    }
}

/// One message to send.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Without angle brackets.
    pub reverse_path: Vec<u8>,
    /// Without angle brackets.
    pub recipients: Vec<Vec<u8>>,
    /// Octets, for SIZE=.
    pub size: u64,
    /// BODY=8BITMIME is needed.
    pub eight_bit: bool,
    /// SMTPUTF8 is needed.
    pub smtputf8: bool,
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

/// A server's reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200..=599
    pub code: u16,
    /// The whole text, lines joined by `\n`, bounded, printable ASCII or UTF-8, controls replaced.
    pub text: String,
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
    /// 5xx to the greeting, EHLO or AUTH.
    Permanent(Reply),
    /// STARTTLS is required, or a password is to be sent, and STARTTLS is not offered or refused.
    TlsNotOffered,
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
