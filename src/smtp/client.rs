//! The client side of one SMTP or LMTP connection: pure. Used by the relay and the load generator.
//!
//! Driver loop: `let (used, event) = client.step(input, &mut out)`; write `out`; act on the event; when Ready call
//! `send` (or `quit`); on SendContent stream `content` pieces and `end_content`; read more on NeedInput.

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

/// User name, password and mechanism.
#[derive(Clone, Debug)]
pub struct Login {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
    /// PLAIN or LOGIN.
    pub mechanism: crate::sasl::Mechanism,
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
    /// STARTTLS is required and not offered or refused.
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

/// Client side of one connection.
pub struct Client {}

impl Client {
    /// A client that waits for the greeting.
    pub fn new(_options: Options) -> Client {
        todo!()
    }
    /// Consumes a prefix of `input`; commands go to `out`.
    pub fn step(&mut self, _input: &[u8], _out: &mut Vec<u8>) -> (usize, Event) {
        todo!()
    }
    /// TLS is up.
    pub fn tls_started(&mut self, _out: &mut Vec<u8>) {
        todo!()
    }
    /// Starts a transaction. Only when Ready.
    pub fn send(&mut self, _transaction: Transaction, _out: &mut Vec<u8>) {
        todo!()
    }
    /// Content, in any pieces; dots are stuffed here, bare CR and LF are made CRLF here.
    pub fn content(&mut self, _piece: &[u8], _out: &mut Vec<u8>) {
        todo!()
    }
    /// Ends the content with CRLF.CRLF.
    pub fn end_content(&mut self, _out: &mut Vec<u8>) {
        todo!()
    }
    /// Says QUIT. Only when Ready.
    pub fn quit(&mut self, _out: &mut Vec<u8>) {
        todo!()
    }
    /// Where the connection is.
    pub fn phase(&self) -> Phase {
        todo!()
    }
}
