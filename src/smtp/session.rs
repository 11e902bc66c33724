//! The server side of one connection: bytes in, replies and actions out. No socket, file, clock, thread or lock.
//!
//! ```text
//!             EHLO            MAIL             RCPT            DATA               CRLF.CRLF        answered
//!  Fresh ------------> Greeted ------> Sender ------> Recipients ---> Receiving ----------> Waiting ------> Greeted
//!    ^                  |  ^                                             (Begin, Body..)     (Commit)
//!    |    STARTTLS      |  |  AUTH: Exchange, Ask, answered
//!    '------------------'  '--- RSET, EHLO: from anywhere between commands
//! ```
//!
//! [`Session::step`] consumes a prefix of the input and says what the driver must do; [`Session::answered`] takes the
//! driver's answer. Commands are moves of one `match` in `moves.rs`, replies are one table in `reply.rs`.
//!
//! Promises: what is written and asked does not depend on how the input was cut (but for input behind STARTTLS, which is
//! refused if it was read with it and dropped if not); whatever is refused is also swallowed,
//! so that replies stay in step; `250` after the end of the data is written in one place, when the driver has answered
//! [`Answer::Committed`]; no secret is taken outside TLS; nothing of what came before STARTTLS is remembered after it.

mod moves;
#[cfg(test)]
mod tests;

use super::body::{BodyScanner, OddBytes, Piece};
use super::command::verb;
use super::envelope::Envelope;
use super::line::{AUTH_BYTES_MAX, COMMAND_BYTES_MAX, Line, LineScanner};
use super::reply;
use crate::policy::relaying;
use crate::policy::{Domains, Role, TlsMode};
use crate::sasl::{Credentials, Exchange};
use std::sync::Arc;

/// Bad commands in one session before it is closed.
const BAD_COMMANDS_MAX: u8 = 20;
/// Failed authentications in one session before it is closed.
const FAILED_AUTHENTICATIONS_MAX: u8 = 5;

/// What one listener lets its clients do; constant after start.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Our name in the greeting.
    pub hostname: String,
    /// Who may send where.
    pub role: Role,
    /// How TLS starts.
    pub tls: TlsMode,
    /// Is there anybody who checks passwords?
    pub auth: bool,
    /// SIZE: octets of content.
    pub message_bytes_max: u64,
    /// Recipients of one message.
    pub recipients_max: u32,
    /// Domains that anybody may send to, on a listener of role `smtp`.
    pub local_domains: Arc<Domains>,
    /// Where `<postmaster>` without a domain goes.
    pub postmaster_domain: String,
}

impl Rules {
    /// The strictest listener: submission behind STARTTLS without anybody who checks passwords, limits of RFC 5321.
    pub fn new(hostname: &str) -> Rules {
        Rules {
            hostname: hostname.into(),
            role: Role::Submission,
            tls: TlsMode::Required,
            auth: false,
            message_bytes_max: 50 << 20,
            recipients_max: 1000,
            local_domains: Arc::new(Domains::new([])),
            postmaster_domain: hostname.into(),
        }
    }
}

/// What the driver must do before it calls `step` again. Every wait flushes `out` first.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// All input was consumed: flush, read more.
    NeedInput,
    /// A message starts: reserve room and a queue id -> [`Answer::Begun`] or [`Answer::Refused`].
    Begin,
    /// Append to the message being received; dots are unstuffed already. No answer is awaited.
    Body(&'a [u8]),
    /// Make envelope and content durable -> [`Answer::Committed`] or [`Answer::Refused`].
    Commit,
    /// Forget the message being received. No answer is awaited.
    Abort,
    /// Find out -> the answers that the question names.
    Ask(Question),
    /// Flush, drop unread input, shake hands -> [`Answer::TlsStarted`]. A failed handshake ends the connection.
    StartTls,
    /// Flush and close.
    Close,
}

/// What only the driver can find out.
#[derive(Debug, PartialEq, Eq)]
pub enum Question {
    /// Check the password -> [`Answer::Accepted`], [`Answer::Rejected`] or [`Answer::Unavailable`].
    Password(Credentials),
}

/// What the driver answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To Begin: there is room, and this is the queue id as it is printed.
    Begun(QueueName),
    /// To Begin and Commit.
    Refused(Refusal),
    /// To Commit: the message is durable.
    Committed,
    /// To Ask: right; the user in canonical form.
    Accepted(Arc<str>),
    /// To Ask: unknown user or wrong password.
    Rejected,
    /// To Ask: cannot be checked now.
    Unavailable,
    /// To StartTls.
    TlsStarted,
}

/// A queue id as it is printed: 13 letters and digits, kept without an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueName(pub [u8; 13]);

impl QueueName {
    /// The letters and digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("?")
    }
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 452 4.3.1: no room now.
    NoRoom,
    /// 451 4.3.0: the disk failed.
    DiskTrouble,
    /// 554 5.4.6: more than 100 Received fields.
    TooManyHops,
    /// 552 5.3.4: the header is too large.
    HeaderTooBig,
}

/// What kind of input is expected.
#[derive(Debug)]
enum Mode {
    /// Command lines.
    Command,
    /// A line of an AUTH exchange.
    Exchange(Exchange),
    /// Content.
    Receiving(BodyScanner),
    /// Nothing, until the driver has answered.
    Waiting(Wait),
    /// Nothing any more.
    Closed,
}

/// Which answer is outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Begin,
    Commit,
    Verdict,
    Tls,
}

/// How far the transaction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Fresh,
    Greeted,
    Sender,
    Recipients,
}

/// What a session knows of its client when a message is complete.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The argument of EHLO or HELO.
    pub helo: &'a [u8],
    /// The authenticated user, canonical.
    pub user: Option<&'a str>,
    /// For the Received field: ESMTPSA and so on.
    pub protocol: &'static str,
    /// Missing header fields may be added (RFC 6409 section 8); mail of strangers is left as it is.
    pub submission: bool,
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
    envelope: Envelope,
    helo: Box<[u8]>,
    user: Option<Arc<str>>,
    queue_name: QueueName,
    /// SIZE of MAIL, octets; 0 if it was not given.
    declared_bytes: u64,
    /// The last refusal that an operator may want to see.
    refused: Option<&'static [u8]>,
    /// Octets of content handed out for the message being received.
    content_bytes: u64,
    bad_commands: u8,
    failed_authentications: u8,
    extended: bool,
    smtputf8: bool,
    secured: bool,
    trusted: bool,
    stopping: bool,
    /// A RCPT of this transaction was refused.
    recipient_refused: bool,
}

impl Session {
    /// A new session; the greeting goes to `out`. `trusted`: the client's network may relay. `secured`: TLS is up.
    pub fn new(rules: Arc<Rules>, trusted: bool, secured: bool, out: &mut Vec<u8>) -> Session {
        reply::greeting(&rules.hostname, out);
        Session {
            rules,
            mode: Mode::Command,
            state: State::Fresh,
            lines: LineScanner::default(),
            now_ms: 0,
            envelope: Envelope::default(),
            helo: Box::default(),
            user: None,
            queue_name: QueueName([b'0'; 13]),
            declared_bytes: 0,
            refused: None,
            content_bytes: 0,
            bad_commands: 0,
            failed_authentications: 0,
            extended: false,
            smtputf8: false,
            secured,
            trusted,
            stopping: false,
            recipient_refused: false,
        }
    }

    /// Consumes a prefix of `input`, which may be empty, and writes replies to `out`. `Body` may come with nothing consumed:
    /// it is then what the last call left undecided. Not to be called while an answer is outstanding.
    pub fn step<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> (usize, Action<'a>) {
        let mut used = 0;
        loop {
            if self.stopping && matches!(self.mode, Mode::Command | Mode::Exchange(_)) {
                out.extend_from_slice(reply::SHUTTING_DOWN);
                self.mode = Mode::Closed;
            }
            let (took, action) = match &self.mode {
                Mode::Closed => return (input.len(), Action::Close),
                Mode::Waiting(wait) => panic!("step called while an answer is outstanding: {wait:?}"),
                Mode::Receiving(_) => self.content(&input[used..], out),
                Mode::Command | Mode::Exchange(_) => self.line(&input[used..], out),
            };
            used += took;
            if let Some(action) = action {
                return (used, action);
            }
        }
    }

    /// The driver's answer to the outstanding action.
    pub fn answered(&mut self, answer: Answer, out: &mut Vec<u8>) {
        let Mode::Waiting(wait) = self.mode else { panic!("no answer is outstanding, got {answer:?}") };
        self.mode = Mode::Command;
        match (wait, answer) {
            (Wait::Begin, Answer::Begun(queue_name)) => self.begun(queue_name, out),
            (Wait::Commit, Answer::Committed) => {
                reply::queued(self.queue_name.as_str(), out);
                self.reset();
            }
            (Wait::Begin | Wait::Commit, Answer::Refused(refusal)) => {
                self.refuse(refused(refusal), out);
                self.reset();
            }
            (Wait::Verdict, Answer::Accepted(user)) => {
                out.extend_from_slice(reply::AUTHENTICATED);
                self.user = Some(user);
            }
            (Wait::Verdict, Answer::Rejected) => self.authentication_failed(out),
            (Wait::Verdict, Answer::Unavailable) => out.extend_from_slice(reply::AUTH_UNAVAILABLE),
            (Wait::Tls, Answer::TlsStarted) => self.tls_started(),
            (wait, answer) => panic!("{answer:?} is no answer to {wait:?}"),
        }
    }

    /// Tells the time, milliseconds since the Unix epoch. The driver does so after each read.
    pub fn set_clock(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
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

    /// Is content being received? Then a shut-down waits for its end.
    pub fn is_receiving(&self) -> bool {
        matches!(self.mode, Mode::Receiving(_))
    }

    /// SIZE as the client declared it, octets; 0 if it did not.
    pub fn declared_bytes(&self) -> u64 {
        self.declared_bytes
    }

    /// The last reply since the last call that refused mail, a recipient or a secret in the clear: for the log.
    pub fn take_refused(&mut self) -> Option<&'static [u8]> {
        self.refused.take()
    }

    /// The envelope of the transaction: reverse-path, its parameters, recipients.
    pub fn envelope(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    /// The envelope, to be completed, and what the session knows of the client.
    pub fn finish(&mut self) -> (&mut Envelope, Client<'_>) {
        let client = Client {
            helo: &self.helo,
            user: self.user.as_deref(),
            protocol: protocol(self.extended, self.smtputf8, self.secured, self.user.is_some()),
            submission: self.user.is_some() || self.trusted,
        };
        (&mut self.envelope, client)
    }

    /// One line of a command or an exchange.
    fn line<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> (usize, Option<Action<'a>>) {
        let mut lines = std::mem::take(&mut self.lines);
        // Which limit counts shows only when the verb is known.
        let (used, line) = lines.next(input, AUTH_BYTES_MAX);
        let Some(line) = line else {
            self.lines = lines;
            return (used, Some(Action::NeedInput));
        };
        let action = match line {
            Line::Whole(line) if line.len() + 2 > COMMAND_BYTES_MAX && !self.is_authenticating(line) => {
                self.bad_command(reply::LINE_TOO_LONG, out)
            }
            Line::Whole(line) => self.whole_line(line, &input[used..], out),
            Line::TooLong => self.too_long(out),
            Line::BareNewline => {
                self.refused = Some(reply::BARE_NEWLINE);
                self.close(reply::BARE_NEWLINE, out)
            }
            Line::Endless => {
                out.extend_from_slice(reply::LINE_TOO_LONG);
                self.close(reply::TOO_MANY_ERRORS, out)
            }
        };
        (used, action)
    }

    fn whole_line(&mut self, line: &[u8], rest: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        if let Mode::Exchange(exchange) = &mut self.mode {
            let step = exchange.respond(line);
            return self.exchange_step(step, out);
        }
        self.command(line, rest, out)
    }

    /// RFC 4954 section 4: lines of an exchange, and AUTH with its initial response, may be longer than other commands.
    fn is_authenticating(&self, line: &[u8]) -> bool {
        matches!(self.mode, Mode::Exchange(_)) || verb(line).eq_ignore_ascii_case(b"AUTH")
    }

    fn too_long(&mut self, out: &mut Vec<u8>) -> Option<Action<'static>> {
        let text = if matches!(self.mode, Mode::Command) { reply::LINE_TOO_LONG } else { reply::AUTH_TOO_LONG };
        self.mode = Mode::Command;
        self.bad_command(text, out)
    }

    /// Content up to the next thing that the driver must do.
    fn content<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> (usize, Option<Action<'a>>) {
        let Mode::Receiving(scanner) = &mut self.mode else { unreachable!("only while receiving") };
        let (used, piece) = scanner.next(input);
        let action = match piece {
            Piece::More => Some(Action::NeedInput),
            Piece::Content(content) => {
                let before = self.content_bytes;
                self.content_bytes += content.len() as u64;
                match self.content_bytes <= self.rules.message_bytes_max {
                    true => Some(Action::Body(content)),
                    // What comes from here on is swallowed; the driver may let go of what it has.
                    false if before <= self.rules.message_bytes_max => Some(Action::Abort),
                    false => None,
                }
            }
            Piece::End => {
                let odd = scanner.refused();
                self.end_of_data(odd, out)
            }
        };
        (used, action)
    }

    fn end_of_data(&mut self, odd: bool, out: &mut Vec<u8>) -> Option<Action<'static>> {
        let too_big = self.content_bytes > self.rules.message_bytes_max;
        if !too_big && !odd {
            self.mode = Mode::Waiting(Wait::Commit);
            return Some(Action::Commit);
        }
        self.refuse(if too_big { reply::TOO_BIG } else { reply::ODD_CONTENT }, out);
        self.mode = Mode::Command;
        self.reset();
        (!too_big).then_some(Action::Abort)
    }

    fn begun(&mut self, queue_name: QueueName, out: &mut Vec<u8>) {
        out.extend_from_slice(reply::GO_AHEAD);
        self.queue_name = queue_name;
        self.content_bytes = 0;
        let submission = self.user.is_some() || self.trusted;
        let odd_bytes = if submission { OddBytes::Normalize } else { OddBytes::Reject };
        self.mode = Mode::Receiving(BodyScanner::new(odd_bytes));
    }

    /// RFC 3207 section 4.2: all that was said in the clear is forgotten.
    fn tls_started(&mut self) {
        self.secured = true;
        self.state = State::Fresh;
        self.helo = Box::default();
        self.extended = false;
        self.user = None;
        self.lines.forget();
        self.envelope.clear();
    }

    fn client(&self) -> relaying::Client {
        relaying::Client { authenticated: self.user.is_some(), trusted: self.trusted }
    }

    /// Forgets the transaction.
    fn reset(&mut self) {
        self.envelope.clear();
        self.smtputf8 = false;
        self.recipient_refused = false;
        self.declared_bytes = 0;
        self.state = self.state.min(State::Greeted);
    }

    fn authentication_failed(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(reply::BAD_CREDENTIALS);
        self.failed_authentications += 1;
        if self.failed_authentications >= FAILED_AUTHENTICATIONS_MAX {
            out.extend_from_slice(reply::TOO_MANY_ERRORS);
            self.mode = Mode::Closed;
        }
    }

    /// A refusal that is worth a log line.
    fn refuse(&mut self, text: &'static [u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        self.refused = Some(text);
        out.extend_from_slice(text);
        None
    }

    fn bad_command(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        out.extend_from_slice(text);
        self.bad_commands += 1;
        if self.bad_commands >= BAD_COMMANDS_MAX { self.close(reply::TOO_MANY_ERRORS, out) } else { None }
    }

    fn close(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        out.extend_from_slice(text);
        self.mode = Mode::Closed;
        Some(Action::Close)
    }
}

/// The protocol for the Received field. RFC 3848, RFC 6531 section 4.3.
fn protocol(extended: bool, smtputf8: bool, secured: bool, authenticated: bool) -> &'static str {
    match (extended, smtputf8, secured, authenticated) {
        (false, ..) => "SMTP",
        (true, false, false, false) => "ESMTP",
        (true, false, false, true) => "ESMTPA",
        (true, false, true, false) => "ESMTPS",
        (true, false, true, true) => "ESMTPSA",
        (true, true, false, false) => "UTF8SMTP",
        (true, true, false, true) => "UTF8SMTPA",
        (true, true, true, false) => "UTF8SMTPS",
        (true, true, true, true) => "UTF8SMTPSA",
    }
}

fn refused(refusal: Refusal) -> &'static [u8] {
    match refusal {
        Refusal::NoRoom => reply::NO_ROOM,
        Refusal::DiskTrouble => reply::DISK_TROUBLE,
        Refusal::TooManyHops => reply::TOO_MANY_HOPS,
        Refusal::HeaderTooBig => reply::HEADER_TOO_BIG,
    }
}
