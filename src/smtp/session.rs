//! The server side of one connection: bytes in, replies and actions out. No socket, file, clock, thread or lock.
//!
//! ```text
//!             EHLO            MAIL             RCPT            DATA            CRLF.CRLF           answered
//!  Fresh ------------> Greeted ------> Sender ------> Recipients ---> content ----------> Waiting ------> Greeted
//!    ^                  |  ^                              '-- BDAT -->  (Begin, Body..)     (Commit)
//!    |    STARTTLS      |  |  AUTH: Exchange, Ask, answered            see content.rs, chunk.rs
//!    '------------------'  '--- RSET, EHLO: from anywhere between commands
//! ```
//!
//! [`Session::step`] consumes a prefix of the input and says what the driver must do; [`Session::answered`] takes the
//! driver's answer. Commands are moves of one `match` in `moves.rs`, replies are one table in `reply.rs`.
//!
//! Promises: what is written and asked does not depend on how the input was cut (but for input behind STARTTLS, which is
//! refused if it was read with it and dropped if not); whatever is refused is also swallowed, so that replies stay in
//! step, or, where nobody can tell how much of it there is, the session ends; `250` after the end of the data is written
//! in one place, when the driver has answered [`Answer::Committed`]; no secret is taken outside TLS; nothing of what came
//! before STARTTLS is remembered after it.

mod action;
mod authenticate;
mod chunk;
mod client;
mod content;
mod foreign;
mod hello;
mod lines;
mod moves;
mod proxied;
mod refusal;
mod rules;
#[cfg(test)]
mod tests;
mod transaction;

pub use action::{Action, Answer, Question, QueueName, Refusal};
pub use client::Client;
pub use refusal::{About, Codes, OfCode, Refused};
pub use rules::{MayXclient, Rules};

use super::body::BodyScanner;
use super::chunk::ChunkScanner;
use super::envelope::{Envelope, Mark};
use super::line::LineScanner;
use super::reply;
use crate::policy::{Recipients, relaying};
use crate::sasl::{Exchange, Mechanisms};
use chunk::Chunk;
use client::protocol;
use content::Incoming;
use proxied::Proxied;
use std::sync::Arc;

/// Replies that are flushed before more input is looked at, octets: a client that asks much and reads nothing must not fill
/// our memory.
pub const REPLIES_BYTES_MAX: usize = 16 * 1024;

/// What kind of input is expected.
#[derive(Debug)]
enum Mode {
    /// Command lines.
    Command,
    /// A line of an AUTH exchange.
    Exchange(Exchange),
    /// Content by DATA.
    Data(BodyScanner),
    /// The octets of a chunk.
    Chunk(Chunk),
    /// Nothing, until the driver has answered.
    Waiting(Wait),
    /// Nothing any more.
    Closed,
}

/// What a session waits for, as its driver's deadlines must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A command, of which nothing has come.
    Idle,
    /// The rest of a command line.
    Line,
    /// A line of an AUTH exchange, or the rest of one.
    Exchange,
    /// Content: after 354, or inside a chunk.
    Content,
    /// The driver's answer.
    Waiting,
    /// Nothing any more: the driver is to close.
    Closed,
}

/// Which answer is outstanding.
#[derive(Debug)]
enum Wait {
    /// What was put in the envelope since is the recipient.
    Recipient(Mark),
    Begin(Incoming),
    Commit,
    Verdict,
    Client,
    ScramKeys(Exchange),
    Proof(Exchange),
    Tls,
}

/// How far the transaction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Fresh,
    Greeted,
    Sender,
    Recipients,
    /// A chunk was taken, and it was not the last.
    Chunks,
}

/// Server side of one connection.
#[derive(Debug)]
pub struct Session {
    rules: Arc<Rules>,
    mode: Mode,
    state: State,
    lines: LineScanner,
    /// Milliseconds since the Unix epoch, as of the last read.
    now_ms: u64,
    /// Octets of new mail for which there is room, as of the last read.
    room: Option<u64>,
    /// Who there is in our own domains, as of the last read; none: nobody knows, and all are taken.
    local_recipients: Option<Arc<Recipients>>,
    envelope: Envelope,
    helo: Box<[u8]>,
    user: Option<Arc<str>>,
    /// What XCLIENT said. There once it was said.
    proxied: Option<Box<Proxied>>,
    /// What AUTH may be used with, as far as the driver knows.
    mechanisms: Mechanisms,
    /// What SCRAM-SHA-256-PLUS binds to (`tls-server-end-point`).
    binding: Option<Arc<[u8]>>,
    queue_name: QueueName,
    /// SIZE of MAIL or the first chunk's, octets; 0 if neither was given.
    declared_bytes: u64,
    /// Between the first chunk and the end of the last.
    chunks: Option<ChunkScanner>,
    /// The last refusal that an operator may want to see. Apart: most sessions never have one, and each costs a log line.
    refused: Option<Box<Refused>>,
    /// Recipients over the limit, in this transaction, each of which got 452.
    overshoot: u16,
    /// The same in transactions that are over, of which the log has not heard.
    overshot: u32,
    /// Recipients refused for something else, see `refusal.rs`.
    recipients_refused: u32,
    /// Octets of content handed out for the message being received.
    content_bytes: u64,
    /// MAIL commands that were taken.
    messages: u32,
    bad_commands: u8,
    /// Commands since the last message that moved nothing forward.
    idle_commands: u8,
    failed_authentications: u8,
    extended: bool,
    smtputf8: bool,
    /// BODY=BINARYMIME.
    binary: bool,
    /// A chunk of a message was refused; others of it may come.
    chunk_lost: bool,
    secured: bool,
    trusted: bool,
    stopping: bool,
    /// What the user proved at AUTH is true no more.
    login_ended: bool,
    may_xclient: MayXclient,
    /// A RCPT of this transaction was refused.
    recipient_refused: bool,
}

impl Session {
    /// A new session; the greeting goes to `out`. `trusted`: the client's network may relay. `secured`: TLS is up.
    pub fn new(rules: Arc<Rules>, trusted: bool, secured: bool, out: &mut Vec<u8>) -> Session {
        reply::greeting(&rules.hostname, out);
        Session {
            mechanisms: rules.mechanisms,
            binding: None,
            rules,
            mode: Mode::Command,
            state: State::Fresh,
            lines: LineScanner::default(),
            now_ms: 0,
            room: Some(u64::MAX),
            local_recipients: None,
            envelope: Envelope::default(),
            helo: Box::default(),
            user: None,
            proxied: None,
            queue_name: QueueName([b'0'; 13]),
            declared_bytes: 0,
            refused: None,
            overshoot: 0,
            overshot: 0,
            recipients_refused: 0,
            chunks: None,
            content_bytes: 0,
            messages: 0,
            bad_commands: 0,
            idle_commands: 0,
            failed_authentications: 0,
            extended: false,
            smtputf8: false,
            binary: false,
            chunk_lost: false,
            secured,
            trusted,
            stopping: false,
            login_ended: false,
            may_xclient: MayXclient::No,
            recipient_refused: false,
        }
    }

    /// Consumes a prefix of `input`, which may be empty, and writes replies to `out`. `Body` may come with nothing consumed:
    /// it is then what the last call left undecided. Not to be called while an answer is outstanding.
    pub fn step<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> (usize, Action<'a>) {
        let (mut used, before) = (0, out.len());
        loop {
            if self.stopping && matches!(self.mode, Mode::Command | Mode::Exchange(_)) && !self.is_receiving() {
                out.extend_from_slice(reply::SHUTTING_DOWN);
                self.mode = Mode::Closed;
            }
            let (took, action) = match &self.mode {
                Mode::Closed => return (input.len(), Action::Close),
                Mode::Waiting(wait) => panic!("step called while an answer is outstanding: {wait:?}"),
                Mode::Data(_) => self.data(&input[used..], out),
                Mode::Chunk(_) => self.chunk(&input[used..], out),
                Mode::Command | Mode::Exchange(_) => self.line(&input[used..], out),
            };
            used += took;
            if let Some(action) = action {
                return (used, action);
            }
            if out.len() - before > REPLIES_BYTES_MAX {
                return (used, Action::Flush);
            }
        }
    }

    /// The driver's answer to the outstanding action.
    pub fn answered(&mut self, answer: Answer, out: &mut Vec<u8>) {
        let Mode::Waiting(wait) = std::mem::replace(&mut self.mode, Mode::Command) else {
            panic!("no answer is outstanding, got {answer:?}")
        };
        match (wait, answer) {
            (Wait::Recipient(_), Answer::Granted) => drop(self.recipient_taken(out)),
            (Wait::Recipient(mark), Answer::Refused(refusal)) => {
                let path = self.envelope.recipient_since(mark).into();
                self.envelope.return_to(mark);
                self.refuse_recipient(refused(refusal), out);
                self.note_recipient(path);
            }
            (Wait::Begin(incoming), Answer::Begun(queue_name)) => self.begun(incoming, queue_name, out),
            (Wait::Commit, Answer::Committed) => {
                reply::queued(self.queue_name.as_str(), out);
                self.idle_commands = 0;
                if self.is_submission() {
                    self.recipients_refused = 0;
                }
                self.reset();
            }
            (Wait::Begin(Incoming::Chunk(chunk)), Answer::Refused(refusal)) => {
                self.mode = Mode::Chunk(Chunk { refused: Some(refused(refusal)), ..chunk });
            }
            (Wait::Begin(Incoming::Data) | Wait::Commit, Answer::Refused(refusal)) => {
                self.refuse(refused(refusal), out);
                self.note_message();
                self.reset();
            }
            (Wait::Client, Answer::Client { trusted, user }) => self.client_known(trusted, user, out),
            (Wait::Client, Answer::Rejected) => self.client_refused(out),
            (Wait::Tls, Answer::TlsStarted) => self.tls_started(),
            (wait @ (Wait::Verdict | Wait::ScramKeys(_) | Wait::Proof(_)), answer) => {
                self.exchange_answered(wait, answer, out);
            }
            (wait, answer) => panic!("{answer:?} is no answer to {wait:?}"),
        }
    }

    /// Tells the time, milliseconds since the Unix epoch. The driver does so after each read.
    pub fn set_clock(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Tells for how many octets of new mail there is room; none: for no message at all. The driver may do so after each
    /// read; MAIL is refused by it, before a client sends content in vain. Begin decides for good.
    pub fn set_room(&mut self, octets: Option<u64>) {
        self.room = octets;
    }

    /// Tells who there is in our own domains, if anybody knows. The driver does so before the first step and after each read:
    /// a session that is idle keeps the snapshot that it has, until it speaks again or times out.
    pub fn set_local_recipients(&mut self, known: &Arc<Recipients>) {
        // Cores would wait for one another at the count of users of one snapshot.
        if self.local_recipients.as_ref().is_none_or(|old| !Arc::ptr_eq(old, known)) {
            self.local_recipients = Some(known.clone());
        }
    }

    /// The channel that TLS has made, for SCRAM-SHA-256-PLUS: its `tls-server-end-point` (RFC 5929 section 4). The driver
    /// says so after each handshake; without it -PLUS is not offered.
    pub fn bind_channel(&mut self, end_point: Arc<[u8]>) {
        self.binding = Some(end_point);
    }

    /// Takes mechanisms from those of the rules: who checks cannot check these for every user now.
    pub fn withhold(&mut self, mechanisms: Mechanisms) {
        self.mechanisms = self.mechanisms.without(mechanisms);
    }

    /// The client was silent for too long: says so. The driver closes.
    pub fn timed_out(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(reply::TIMED_OUT);
        self.mode = Mode::Closed;
    }

    /// From the next command on every client is told to come back later; content that is under way is received.
    pub fn shut_down(&mut self) {
        self.stopping = true;
    }

    /// The user was removed, or has another password, since AUTH: the next MAIL is told so, and the session ends. A message
    /// that is under way is received.
    pub fn end_login(&mut self) {
        self.login_ended = self.user.is_some();
    }

    /// What the session waits for.
    pub fn phase(&self) -> Phase {
        match &self.mode {
            Mode::Command if self.lines.is_begun() => Phase::Line,
            Mode::Command => Phase::Idle,
            Mode::Exchange(_) => Phase::Exchange,
            Mode::Data(_) | Mode::Chunk(_) => Phase::Content,
            Mode::Waiting(_) => Phase::Waiting,
            Mode::Closed => Phase::Closed,
        }
    }

    /// Is content being received, or the next chunk of it awaited? Then a shut-down waits for its end.
    pub fn is_receiving(&self) -> bool {
        match self.phase() {
            Phase::Content => true,
            Phase::Idle | Phase::Line => self.state == State::Chunks,
            Phase::Exchange | Phase::Waiting | Phase::Closed => false,
        }
    }

    /// Has MAIL been taken, and neither answered at the end of the data nor dropped?
    pub fn is_in_transaction(&self) -> bool {
        self.state >= State::Sender
    }

    /// Has the client authenticated?
    pub fn is_authenticated(&self) -> bool {
        self.user.is_some()
    }

    /// May the client relay because of its network? XCLIENT tells anew, and STARTTLS behind it makes nobody of it.
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Has the client said EHLO or HELO, and since TLS began if it did?
    pub fn has_greeted(&self) -> bool {
        self.state >= State::Greeted
    }

    /// Is TLS up?
    pub fn is_secured(&self) -> bool {
        self.secured
    }

    /// SIZE as the client declared it, or its first chunk's, octets; 0 if it did neither.
    pub fn declared_bytes(&self) -> u64 {
        self.declared_bytes
    }

    /// The envelope of the transaction: reverse-path, its parameters, recipients.
    pub fn envelope(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    /// The envelope, to be completed, and what the session knows of the client.
    pub fn finish(&mut self) -> (&mut Envelope, Client<'_>) {
        let proxied = self.proxied.as_deref();
        let extended = proxied.and_then(|proxied| proxied.extended).unwrap_or(self.extended);
        let client = Client {
            helo: proxied.and_then(|proxied| proxied.helo.as_deref()).map_or(&self.helo, str::as_bytes),
            user: self.user.as_deref(),
            protocol: protocol(extended, self.smtputf8, self.secured, self.user.is_some()),
            submission: self.is_submission(),
        };
        (&mut self.envelope, client)
    }

    /// RFC 3207 section 4.2: all that was said in the clear is forgotten.
    fn tls_started(&mut self) {
        self.secured = true;
        self.state = State::Fresh;
        self.helo = Box::default();
        self.extended = false;
        self.user = None;
        self.login_ended = false;
        self.binding = None;
        self.lines.forget();
        self.envelope.clear();
        self.forget_proxied();
    }

    fn client(&self) -> relaying::Client {
        relaying::Client { authenticated: self.user.is_some(), trusted: self.trusted }
    }

    /// Is the client authenticated or trusted, and not just anybody?
    fn is_submission(&self) -> bool {
        self.user.is_some() || self.trusted
    }

    /// Forgets the transaction; if the driver holds content of it, it is told to let go of it.
    fn abandon(&mut self) -> Option<Action<'static>> {
        let begun = self.state == State::Chunks;
        self.reset();
        begun.then_some(Action::Abort)
    }

    /// Forgets the transaction.
    fn reset(&mut self) {
        self.envelope.clear();
        self.chunks = None;
        self.content_bytes = 0;
        self.binary = false;
        self.chunk_lost = false;
        self.smtputf8 = false;
        self.recipient_refused = false;
        self.overshot += u32::from(std::mem::take(&mut self.overshoot));
        self.declared_bytes = 0;
        self.state = self.state.min(State::Greeted);
    }

    fn close(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        out.extend_from_slice(text);
        self.mode = Mode::Closed;
        Some(Action::Close)
    }
}

fn say(text: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
    out.extend_from_slice(text);
    None
}

fn refused(refusal: Refusal) -> &'static [u8] {
    match refusal {
        Refusal::OverRate => reply::OVER_RATE,
        Refusal::NoRoom => reply::NO_ROOM,
        Refusal::DiskTrouble => reply::DISK_TROUBLE,
        Refusal::TooManyHops => reply::TOO_MANY_HOPS,
        Refusal::HeaderTooBig => reply::HEADER_TOO_BIG,
        Refusal::TooManyFields => reply::TOO_MANY_FIELDS,
    }
}
