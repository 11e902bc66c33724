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
//!                                                                BDAT n LAST -> content --^   (BINARYMIME only)
//! ```
//!
//! BDAT is for BINARYMIME alone, as one chunk: for other content it saves the dots and costs the wait for the replies to
//! RCPT, and DATA must be there anyway.
//!
//! Promises: every recipient of a transaction gets exactly one fate; nothing is sent in a form that was not offered; nothing in an address or in the content can become
//! a command; memory is bounded by the transaction and by the bounds of the reply parser; 421 is temporary wherever it
//! comes (RFC 5321 section 3.8); unknown codes are read by their first digit (section 4.2.1).

mod command;
mod content;
mod fit;
mod greeting;
mod reply;
mod standing;
mod terms;
#[cfg(test)]
mod tests;

pub use fit::Hindrance;
pub use terms::{
    Body, Event, Fate, Login, Options, Phase, Recipient, Reply, StartTls, Transaction, Trouble, enhanced_code,
};

use command::{Command, Offered};
use content::{Counted, Outgoing, Stuffer};
use greeting::Exchange;
use standing::{Current, Standing, deferred_here, fate, recipient_fate};
use std::collections::VecDeque;

/// Commands on their way at once under PIPELINING, so that neither side's buffers fill while the other waits.
const WINDOW: usize = 100;

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
    outgoing: Outgoing,
    /// TLS is up and the server's name is proven.
    verified: bool,
    /// The server holds a transaction that was not finished.
    needs_reset: bool,
    /// Fates to be told by the next `step`.
    done: Option<Vec<Fate>>,
    /// Why it is over; none after QUIT.
    trouble: Option<Trouble>,
    /// Replies so far.
    heard: u64,
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
            outgoing: Outgoing::Counted(Counted::default()),
            verified: false,
            needs_reset: false,
            done: None,
            trouble: None,
            heard: 0,
        }
    }

    /// Consumes a prefix of `input`; commands go to `out`. Everything is consumed when it returns `NeedInput` or, with
    /// nothing unasked-for behind it, `Ready`. What comes along with the answer to the last command that was written is no
    /// answer to one that is written only now: a server that is one reply ahead would refuse one recipient for another.
    pub fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Event) {
        let mut used = 0;
        let mut asked = self.sent.len();
        loop {
            if let Some(event) = self.due() {
                return (used, event);
            }
            let (consumed, reply) = self.replies.feed(&input[used..]);
            used += consumed;
            match reply {
                Some(Ok(reply)) if asked == 0 => self.unasked(reply),
                Some(Ok(reply)) => {
                    asked -= 1;
                    self.reply(reply, out);
                }
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
        self.verified = self.options.verifies;
        self.state = State::Replies;
        self.plan(Command::Ehlo, out);
    }

    /// Why this server cannot get `transaction` as it is; known when Ready.
    pub fn hindrance(&self, transaction: &Transaction) -> Option<Hindrance> {
        fit::hindrance(transaction, self.offered, self.verified)
    }

    /// Does the server take octets above 127 (RFC 6152)? Known when Ready.
    pub fn takes_eight_bit(&self) -> bool {
        self.offered.eight_bit
    }

    /// Does the server take over what senders asked for by NOTIFY (RFC 3461)? Known when Ready.
    pub fn passes_dsn(&self) -> bool {
        self.offered.dsn
    }

    /// Starts a transaction. Only when Ready.
    pub fn send(&mut self, mut transaction: Transaction, out: &mut Vec<u8>) {
        assert_eq!(self.state, State::Ready, "send before Event::Ready");
        self.state = State::Replies;
        let refused = self.hindrance(&transaction).map(|hindrance| Fate::Failed(hindrance.reply()));
        let paths = || transaction.recipients.iter().map(|recipient| &recipient.path);
        let utf8_path = !transaction.reverse_path.is_ascii() || !paths().all(|path| path.is_ascii());
        let standings = transaction.recipients.iter().map(|to| fit::first_standing(to, self.offered)).collect();
        transaction.smtputf8 |= utf8_path;
        let content = if transaction.body == Body::Binary { Command::Bdat } else { Command::Data };
        let mut current = Current { transaction, standings };
        if let Some(fate) = refused {
            current.decide(&fate);
        }
        let asked = |(index, standing): (usize, &Standing)| matches!(standing, Standing::Asked).then_some(index);
        let mut recipients = current.standings.iter().enumerate().filter_map(asked).peekable();
        if recipients.peek().is_some() {
            self.planned.extend(self.needs_reset.then_some(Command::Rset));
            self.planned.push_back(Command::Mail);
            self.planned.extend(recipients.map(Command::Rcpt));
            self.planned.push_back(content);
        }
        self.current = Some(current);
        self.advance(out);
    }

    /// Content, in any pieces; dots are stuffed here, bare CR and LF are made CRLF here, unless it is binary.
    pub fn content(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        assert_eq!(self.state, State::Content, "content before Event::SendContent");
        self.outgoing.append(piece, out);
    }

    /// Does the server still want content? Not if it has spoken meanwhile: then `step` says what came of it.
    pub fn wants_content(&self) -> bool {
        self.state == State::Content
    }

    /// Consumes a prefix of what the server says before the content has ended; stops when that ends the transaction.
    pub fn hear(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let mut used = 0;
        while used < input.len() && self.wants_content() {
            let (consumed, reply) = self.replies.feed(&input[used..]);
            used += consumed;
            match reply {
                Some(Ok(reply)) => self.reply(reply, out),
                Some(Err(seen)) => self.garbled(seen),
                None => {}
            }
        }
        used
    }

    /// Ends the content: with CRLF.CRLF, or because all that was announced is there. What the server says before this is
    /// called is no answer to the content: `hear` it first.
    pub fn end_content(&mut self, out: &mut Vec<u8>) {
        assert_eq!(self.state, State::Content, "end_content before Event::SendContent");
        if let Err(fault) = self.outgoing.end(out) {
            return self.end(Trouble::Temporary(Reply::ours(451, format!("4.3.0 {fault}"))));
        }
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

    /// How many replies have come, whole ones.
    pub fn replies_heard(&self) -> u64 {
        self.heard
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
            (_, Some(Command::Rset | Command::Mail | Command::Rcpt(_) | Command::Data | Command::Bdat)) => {
                Phase::Envelope
            }
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
        self.heard += 1;
        let Some(command) = self.sent.pop_front() else { return self.unasked(reply) };
        if reply.code == 421 && command != Command::Quit {
            return self.end(Trouble::Temporary(reply));
        }
        match (command, reply.code / 100) {
            (Command::Greeting, 2) => self.plan(Command::Ehlo, out),
            (Command::Ehlo | Command::Helo, 2) if self.tls_is_settled() && self.is_own_name(&reply.text) => {
                self.end(Trouble::Loop)
            }
            (Command::Ehlo, 2) => self.greeted(Offered::parse(&reply.text), out),
            (Command::Ehlo, 5) if !self.options.lmtp => self.plan(Command::Helo, out),
            (Command::Helo, 2) => self.greeted(Offered::default(), out),
            (Command::StartTls, 2) => self.state = State::Handshake,
            (Command::StartTls, 4) if self.must_not_go_clear() => self.end(Trouble::Temporary(reply)),
            (Command::StartTls, 4 | 5) => self.in_the_clear(out),
            (Command::Auth, 2) if !self.exchange.as_ref().is_some_and(|auth| auth.exchange.may_succeed()) => {
                self.garbled("235 from a server that has not shown that it knows the password".into());
            }
            (Command::Auth, 2) => {
                self.exchange = None;
                self.state = State::Ready;
            }
            (Command::Auth, 3) => self.challenge(&reply.text, out),
            (Command::Auth, 5) => self.end(Trouble::LoginRefused(reply)),
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
            let answered = self.sent.is_empty();
            let pointless = answered && self.current.as_ref().is_some_and(|c| c.accepted().next().is_none());
            match self.planned.pop_front() {
                Some(Command::Data | Command::Bdat) if pointless => {}
                Some(Command::Bdat) if !answered => return self.planned.push_front(Command::Bdat),
                Some(Command::Bdat) => return self.begin_chunk(out),
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
            (Command::Rcpt(index), Some(transaction)) => {
                command::rcpt(&transaction.recipients[index], transaction.smtputf8, self.offered, out);
            }
            (Command::Data, _) => out.extend_from_slice(b"DATA\r\n"),
            (Command::LoneDot, _) => out.extend_from_slice(b".\r\n"),
            (Command::Quit, _) => out.extend_from_slice(b"QUIT\r\n"),
            // Written where they arise: AUTH by `log_in`, BDAT by `begin_chunk`, the end of the content by `end_content`.
            (Command::Auth | Command::Bdat | Command::Dot | Command::DotFor(_) | Command::Greeting, _) => {}
            (Command::Mail | Command::Rcpt(_), None) => unreachable!("planned by `send` only"),
        }
        self.sent.push_back(command);
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
            self.outgoing = Outgoing::Dotted(Stuffer::new());
            self.state = State::Content;
        } else if self.options.lmtp {
            // One reply per accepted recipient would be none at all: there is no way back into step.
            self.garbled("354 without a recipient".into());
        } else {
            self.plan(Command::LoneDot, out);
        }
    }

    /// BDAT: the length of the whole content, and the content behind it at once.
    fn begin_chunk(&mut self, out: &mut Vec<u8>) {
        let size = self.current.as_ref().map_or(0, |current| current.transaction.size);
        out.extend_from_slice(format!("BDAT {size} LAST\r\n").as_bytes());
        self.outgoing = Outgoing::Counted(Counted::new(size));
        self.state = State::Content;
    }

    /// A reply that nothing asked for: the server's farewell, its impatience with the content, or nonsense.
    fn unasked(&mut self, reply: Reply) {
        match (self.state, reply.code / 100) {
            (State::Content, 4 | 5) => {
                self.decide(&fate(reply.clone()));
                self.end(Trouble::Temporary(reply));
            }
            (State::Ready, 4 | 5) => self.end(Trouble::Temporary(reply)),
            _ if reply.code == 421 => self.end(Trouble::Temporary(reply)),
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
            Trouble::TlsNotOffered | Trouble::Loop | Trouble::LoginRefused(_) | Trouble::NoMechanism => {}
            Trouble::Garbled(seen) => {
                let fate = deferred_here(&format!("not SMTP: {seen}"));
                self.current.iter_mut().for_each(|current| current.doubt(&fate));
                self.finish(&fate);
            }
        }
        self.planned.clear();
        self.sent.clear();
        self.exchange = None;
        self.trouble = Some(trouble);
        self.state = State::Over;
    }
}
