//! The client side of one SMTP or LMTP connection: pure. Used by the relay and the load generator.
//!
//! Driver loop: `let (used, event) = client.step(input, &mut out)`; write `out`; act on the event; when Ready call
//! `send` (or `quit`); on SendContent stream `content` pieces and `end_content`; read more on NeedInput. When the
//! connection is lost, `lost` tells what became of the recipients as far as it is known.
//!
//! ```text
//!  Greeting -> EHLO [-> HELO] -> [STARTTLS -> EHLO] -> [AUTH] -> Ready <---------------------------------+
//!                                                                  | send                                |
//!                                             [RSET] MAIL RCPT.. DATA -> 354 -> content . -> replies -> Done
//! ```
//!
//! Promises: every recipient of a transaction gets exactly one fate; nothing in an address or in the content can become
//! a command; memory is bounded by the transaction and by the bounds of the reply parser; 421 is temporary wherever it
//! comes (RFC 5321 section 3.8); unknown codes are read by their first digit (section 4.2.1).

mod command;
mod content;
mod reply;
mod terms;
#[cfg(test)]
mod tests;

pub use terms::{Event, Fate, Login, Options, Phase, Reply, StartTls, Transaction, Trouble};

use crate::sasl::ClientExchange;
use command::{Command, Offered};
use std::collections::VecDeque;

/// Commands on their way at once under PIPELINING, so that neither side's buffers fill while the other waits.
const WINDOW: usize = 100;
/// Challenges answered in one AUTH exchange.
const CHALLENGES_MAX: u32 = 8;

/// What is known of one recipient while its transaction runs.
#[derive(Clone, Debug)]
enum Standing {
    /// Not yet answered.
    Asked,
    /// 2xx to RCPT.
    Accepted,
    Decided(Fate),
}

/// The transaction that runs.
#[derive(Debug)]
struct Current {
    transaction: Transaction,
    standings: Vec<Standing>,
}

impl Current {
    /// Decides all that are in doubt.
    fn decide(&mut self, fate: &Fate) {
        for standing in &mut self.standings {
            if !matches!(standing, Standing::Decided(_)) {
                *standing = Standing::Decided(fate.clone());
            }
        }
    }

    fn accepted(&self) -> impl Iterator<Item = usize> {
        self.standings.iter().enumerate().filter(|(_, s)| matches!(s, Standing::Accepted)).map(|(index, _)| index)
    }
}

/// What the client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Replies to the commands in `sent`.
    Replies,
    /// `tls_started`.
    Handshake,
    /// `send` or `quit`.
    Ready,
    /// `content` and `end_content`.
    Content,
    /// Nothing any more.
    Over,
}

/// Client side of one connection.
pub struct Client {
    options: Options,
    state: State,
    replies: reply::Replies,
    offered: Offered,
    exchange: Option<Exchange>,
    /// Commands not yet written, in order.
    planned: VecDeque<Command>,
    /// Commands whose replies are awaited, in order.
    sent: VecDeque<Command>,
    current: Option<Current>,
    stuffer: content::Stuffer,
    /// The server holds a transaction that was not finished.
    needs_reset: bool,
    /// Fates to be told by the next `step`.
    done: Option<Vec<Fate>>,
    /// Why it is over; none after QUIT.
    trouble: Option<Trouble>,
}

/// AUTH under way.
struct Exchange {
    exchange: ClientExchange,
    challenges: u32,
}

impl Client {
    /// A client that waits for the greeting.
    pub fn new(options: Options) -> Client {
        Client {
            options,
            state: State::Replies,
            replies: reply::Replies::default(),
            offered: Offered::default(),
            exchange: None,
            planned: VecDeque::new(),
            sent: VecDeque::from([Command::Greeting]),
            current: None,
            stuffer: content::Stuffer::new(),
            needs_reset: false,
            done: None,
            trouble: None,
        }
    }

    /// Consumes a prefix of `input`; commands go to `out`. Everything is consumed when it returns `NeedInput` or, with
    /// nothing unasked-for behind it, `Ready`.
    pub fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Event) {
        let mut used = 0;
        loop {
            if let Some(event) = self.due() {
                return (used, event);
            }
            let (consumed, reply) = self.replies.feed(&input[used..]);
            used += consumed;
            match reply {
                Some(Ok(reply)) => self.reply(reply, out),
                Some(Err(seen)) => self.garbled(seen),
                None => return (used, self.idle()),
            }
        }
    }

    /// TLS is up.
    pub fn tls_started(&mut self, out: &mut Vec<u8>) {
        assert_eq!(self.state, State::Handshake, "tls_started without Event::StartTls");
        self.replies.clear();
        self.offered = Offered::default();
        self.options.starttls = StartTls::Never;
        self.state = State::Replies;
        self.plan(Command::Ehlo, out);
    }

    /// Starts a transaction. Only when Ready.
    pub fn send(&mut self, mut transaction: Transaction, out: &mut Vec<u8>) {
        assert_eq!(self.state, State::Ready, "send before Event::Ready");
        self.state = State::Replies;
        let paths = &transaction.recipients;
        transaction.smtputf8 |= !transaction.reverse_path.is_ascii() || !paths.iter().all(|path| path.is_ascii());
        let standings = transaction.recipients.iter().map(|path| first_standing(path)).collect();
        let mut current = Current { transaction, standings };
        if let Some(fate) = refused_here(&current.transaction, self.offered) {
            current.decide(&fate);
        }
        let asked = |(index, standing): (usize, &Standing)| matches!(standing, Standing::Asked).then_some(index);
        let mut recipients = current.standings.iter().enumerate().filter_map(asked).peekable();
        if recipients.peek().is_some() {
            self.planned.extend(self.needs_reset.then_some(Command::Rset));
            self.planned.push_back(Command::Mail);
            self.planned.extend(recipients.map(Command::Rcpt));
            self.planned.push_back(Command::Data);
        }
        self.current = Some(current);
        self.advance(out);
    }

    /// Content, in any pieces; dots are stuffed here, bare CR and LF are made CRLF here.
    pub fn content(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        assert_eq!(self.state, State::Content, "content before Event::SendContent");
        self.stuffer.append(piece, out);
    }

    /// Ends the content with CRLF.CRLF.
    pub fn end_content(&mut self, out: &mut Vec<u8>) {
        assert_eq!(self.state, State::Content, "end_content before Event::SendContent");
        self.stuffer.end(out);
        self.state = State::Replies;
        match &self.current {
            Some(current) if self.options.lmtp => self.sent.extend(current.accepted().map(Command::DotFor)),
            _ => self.sent.push_back(Command::Dot),
        }
    }

    /// Says QUIT. Only when Ready.
    pub fn quit(&mut self, out: &mut Vec<u8>) {
        assert_eq!(self.state, State::Ready, "quit before Event::Ready");
        self.state = State::Replies;
        self.plan(Command::Quit, out);
    }

    /// The connection broke or timed out. What became of the recipients of the transaction that ran, if one did: those
    /// not yet answered are deferred, and `why` is their reply's text.
    pub fn lost(&mut self, why: &str) -> Option<Vec<Fate>> {
        self.finish(&deferred_here(why));
        self.state = State::Over;
        self.done.take()
    }

    /// Where the connection is.
    pub fn phase(&self) -> Phase {
        match (self.state, self.sent.front()) {
            (State::Handshake, _) | (_, Some(Command::StartTls)) => Phase::StartTls,
            (State::Ready, _) => Phase::Ready,
            (State::Content, _) | (_, Some(Command::Dot | Command::DotFor(_) | Command::LoneDot)) => Phase::Content,
            (_, Some(Command::Greeting)) => Phase::Greeting,
            (_, Some(Command::Ehlo | Command::Helo)) => Phase::Hello,
            (_, Some(Command::Auth)) => Phase::Auth,
            (_, Some(Command::Rset | Command::Mail | Command::Rcpt(_) | Command::Data)) => Phase::Envelope,
            (State::Over, _) | (_, Some(Command::Quit)) => Phase::Quit,
            (State::Replies, None) => Phase::Envelope,
        }
    }

    /// An event that needs no input.
    fn due(&mut self) -> Option<Event> {
        if self.state == State::Replies && self.sent.is_empty() {
            self.finish(&deferred_here("not sent"));
        }
        if let Some(fates) = self.done.take() {
            return Some(Event::Done(fates));
        }
        match self.state {
            State::Handshake => Some(Event::StartTls),
            State::Over => Some(self.trouble.clone().map_or(Event::Bye, Event::Closed)),
            _ => None,
        }
    }

    /// The event when all input is consumed.
    fn idle(&self) -> Event {
        match self.state {
            State::Ready => Event::Ready,
            State::Content => Event::SendContent,
            _ => Event::NeedInput,
        }
    }

    /// One reply: the moves of the client.
    fn reply(&mut self, reply: Reply, out: &mut Vec<u8>) {
        let Some(command) = self.sent.pop_front() else { return self.unasked(reply) };
        if reply.code == 421 && command != Command::Quit {
            return self.end(Trouble::Temporary(reply));
        }
        match (command, reply.code / 100) {
            (Command::Greeting, 2) => self.plan(Command::Ehlo, out),
            (Command::Ehlo, 2) => self.greeted(Offered::parse(&reply.text), out),
            (Command::Ehlo, 5) if !self.options.lmtp => self.plan(Command::Helo, out),
            (Command::Helo, 2) => self.greeted(Offered::default(), out),
            (Command::StartTls, 2) => self.state = State::Handshake,
            (Command::StartTls, 4 | 5) => self.in_the_clear(out),
            (Command::Auth, 2) => self.state = State::Ready,
            (Command::Auth, 3) => self.challenge(&reply.text, out),
            (Command::Rset, 2) => self.needs_reset = false,
            (Command::Mail, 2) => self.needs_reset = true,
            (Command::Mail, 4 | 5) => self.mail_refused(reply),
            (Command::Rcpt(index), 2) => self.stands(index, Standing::Accepted),
            (Command::Rcpt(index), 4 | 5) => self.stands(index, Standing::Decided(recipient_fate(reply))),
            (Command::Data, 3) => self.go_ahead(out),
            (Command::Data, 4 | 5) => self.decide(&fate(reply)),
            (Command::LoneDot, 2 | 4 | 5) => self.needs_reset = false,
            (Command::Dot, 2 | 4 | 5) => {
                self.needs_reset = false;
                self.decide(&fate(reply));
            }
            (Command::DotFor(index), 2 | 4 | 5) => {
                self.needs_reset = false;
                self.stands(index, Standing::Decided(fate(reply)));
            }
            (Command::Quit, _) => self.state = State::Over,
            (_, 4) => self.end(Trouble::Temporary(reply)),
            (_, 5) => self.end(Trouble::Permanent(reply)),
            _ => self.garbled(format!("{} {} at the wrong moment", reply.code, reply.text)),
        }
        self.advance(out);
    }

    /// Writes planned commands as far as they may be written now.
    fn advance(&mut self, out: &mut Vec<u8>) {
        if self.state != State::Replies {
            return;
        }
        let window = if self.options.pipelining && self.offered.pipelining { WINDOW } else { 1 };
        while self.sent.len() < window {
            let pointless =
                self.sent.is_empty() && self.current.as_ref().is_some_and(|c| c.accepted().next().is_none());
            match self.planned.pop_front() {
                Some(Command::Data) if pointless => {}
                Some(command) => self.write(command, out),
                None => break,
            }
        }
    }

    /// Writes `command` as soon as the one before is answered.
    fn plan(&mut self, command: Command, out: &mut Vec<u8>) {
        self.planned.push_back(command);
        self.advance(out);
    }

    fn write(&mut self, command: Command, out: &mut Vec<u8>) {
        let current = self.current.as_ref().map(|current| &current.transaction);
        match (command, current) {
            (Command::Ehlo, _) => command::hello(if self.options.lmtp { "LHLO" } else { "EHLO" }, &self.options, out),
            (Command::Helo, _) => command::hello("HELO", &self.options, out),
            (Command::StartTls, _) => out.extend_from_slice(b"STARTTLS\r\n"),
            (Command::Rset, _) => out.extend_from_slice(b"RSET\r\n"),
            (Command::Mail, Some(transaction)) => command::mail(transaction, self.offered, out),
            (Command::Rcpt(index), Some(transaction)) => command::rcpt(&transaction.recipients[index], out),
            (Command::Data, _) => out.extend_from_slice(b"DATA\r\n"),
            (Command::LoneDot, _) => out.extend_from_slice(b".\r\n"),
            (Command::Quit, _) => out.extend_from_slice(b"QUIT\r\n"),
            // Written where they arise: AUTH by `log_in`, the end of the content by `end_content`.
            (Command::Auth | Command::Dot | Command::DotFor(_) | Command::Greeting, _) => {}
            (Command::Mail | Command::Rcpt(_), None) => unreachable!("planned by `send` only"),
        }
        self.sent.push_back(command);
    }

    /// EHLO, LHLO or HELO was answered: TLS, then AUTH, then Ready.
    fn greeted(&mut self, offered: Offered, out: &mut Vec<u8>) {
        self.offered = offered;
        match self.options.starttls {
            StartTls::Never => self.log_in(out),
            StartTls::WhenOffered | StartTls::Required if offered.starttls => self.plan(Command::StartTls, out),
            StartTls::WhenOffered | StartTls::Required => self.in_the_clear(out),
        }
    }

    /// TLS was wanted and is not to be had.
    fn in_the_clear(&mut self, out: &mut Vec<u8>) {
        if self.options.starttls == StartTls::Required || self.options.login.is_some() {
            return self.end(Trouble::TlsNotOffered);
        }
        self.log_in(out);
    }

    fn log_in(&mut self, out: &mut Vec<u8>) {
        let Some(login) = &self.options.login else {
            self.state = State::Ready;
            return;
        };
        let (exchange, initial) = ClientExchange::start(login.mechanism, &login.user, &login.password);
        command::auth(login.mechanism, initial.as_deref(), out);
        self.exchange = Some(Exchange { exchange, challenges: 0 });
        self.sent.push_back(Command::Auth);
    }

    /// 334: the next line of the exchange, or `*` if there is none (RFC 4954 section 4).
    fn challenge(&mut self, text: &str, out: &mut Vec<u8>) {
        let response = self.exchange.as_mut().and_then(|exchange| {
            exchange.challenges += 1;
            let wanted = exchange.challenges <= CHALLENGES_MAX;
            exchange.exchange.respond(text.as_bytes()).filter(|_| wanted)
        });
        if response.is_none() && self.exchange.take().is_none() {
            return self.garbled("a challenge after the exchange was cancelled".into());
        }
        out.extend_from_slice(response.as_deref().unwrap_or("*").as_bytes());
        out.extend_from_slice(b"\r\n");
        self.sent.push_back(Command::Auth);
    }

    /// MAIL was refused: what is not yet sent need not be; replies to what is sent decide nothing any more.
    fn mail_refused(&mut self, reply: Reply) {
        self.planned.clear();
        self.decide(&fate(reply));
    }

    /// 354. Without a recipient the dot alone ends what the server believes to be a message (RFC 2920 section 3.1).
    fn go_ahead(&mut self, out: &mut Vec<u8>) {
        let nobody = self.current.as_ref().is_none_or(|current| current.accepted().next().is_none());
        if !nobody {
            self.stuffer = content::Stuffer::new();
            self.state = State::Content;
        } else if self.options.lmtp {
            // One reply per accepted recipient would be none at all: there is no way back into step.
            self.garbled("354 without a recipient".into());
        } else {
            self.plan(Command::LoneDot, out);
        }
    }

    /// A reply that nothing asked for: the server's farewell, its impatience with the content, or nonsense.
    fn unasked(&mut self, reply: Reply) {
        match (self.state, reply.code / 100) {
            (State::Content, 4 | 5) => {
                self.decide(&fate(reply.clone()));
                self.end(Trouble::Temporary(reply));
            }
            (State::Ready, 4 | 5) => self.end(Trouble::Temporary(reply)),
            _ => self.garbled(format!("{} {} unasked for", reply.code, reply.text)),
        }
    }

    fn stands(&mut self, index: usize, standing: Standing) {
        let slot = self.current.as_mut().and_then(|current| current.standings.get_mut(index));
        if let Some(slot) = slot.filter(|slot| !matches!(slot, Standing::Decided(_))) {
            *slot = standing;
        }
    }

    fn decide(&mut self, fate: &Fate) {
        if let Some(current) = &mut self.current {
            current.decide(fate);
        }
    }

    /// Ends the transaction: who is in doubt gets `fate`.
    fn finish(&mut self, fate: &Fate) {
        let Some(mut current) = self.current.take() else { return };
        current.decide(fate);
        let decided = |standing| match standing {
            Standing::Decided(fate) => fate,
            Standing::Asked | Standing::Accepted => fate.clone(),
        };
        self.done = Some(current.standings.into_iter().map(decided).collect());
        self.state = State::Ready;
    }

    fn garbled(&mut self, seen: String) {
        self.end(Trouble::Garbled(seen));
    }

    /// The connection is of no use any more.
    fn end(&mut self, trouble: Trouble) {
        match &trouble {
            Trouble::Temporary(reply) | Trouble::Permanent(reply) => self.finish(&Fate::Deferred(reply.clone())),
            Trouble::TlsNotOffered => {}
            Trouble::Garbled(seen) => self.finish(&deferred_here(&format!("not SMTP: {seen}"))),
        }
        self.planned.clear();
        self.sent.clear();
        self.trouble = Some(trouble);
        self.state = State::Over;
    }
}

/// What a reply means for the recipients it is about.
fn fate(reply: Reply) -> Fate {
    match reply.code / 100 {
        2 => Fate::Delivered(reply),
        5 => Fate::Failed(reply),
        _ => Fate::Deferred(reply),
    }
}

/// The reply to RCPT: 552 means "too many recipients" to old servers (RFC 5321 section 4.5.3.1.10).
fn recipient_fate(reply: Reply) -> Fate {
    if reply.code == 552 { Fate::Deferred(reply) } else { fate(reply) }
}

/// Our own reason to try again.
fn deferred_here(why: &str) -> Fate {
    Fate::Deferred(Reply { code: 451, text: format!("4.4.2 {why}") })
}

fn first_standing(path: &[u8]) -> Standing {
    if !path.is_empty() && command::path_is_safe(path) {
        return Standing::Asked;
    }
    let text = "5.1.3 the address cannot be sent in a command".into();
    Standing::Decided(Fate::Failed(Reply { code: 553, text }))
}

/// Why the transaction cannot be sent to this server at all: nothing is sent in a form that it did not offer.
fn refused_here(transaction: &Transaction, offered: Offered) -> Option<Fate> {
    let refused = |code, text: &str| Some(Fate::Failed(Reply { code, text: text.into() }));
    if !command::path_is_safe(&transaction.reverse_path) {
        return refused(553, "5.1.7 the sender's address cannot be sent in a command");
    }
    if transaction.smtputf8 && !offered.smtputf8 {
        return refused(554, "5.6.7 the next server does not offer SMTPUTF8, which the message needs");
    }
    if transaction.eight_bit && !offered.eight_bit {
        return refused(554, "5.6.3 the next server does not offer 8BITMIME, which the message needs");
    }
    None
}
