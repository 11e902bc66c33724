//! Drives one session: reads, lets [`Session`] decide, writes, asks, commits. It decides nothing about SMTP.
//!
//! ```text
//!  stream.feed --> session.step --> Body: append   Begin: queue id      (answered on the spot)
//!                        |
//!                        '--> a wait: flush replies, then read | commit | check password | shake hands | close
//! ```
//!
//! A pipelined batch costs one write, because replies are flushed only before a wait, or when there are many.

use super::Service;
use super::committing::{begin, refusal};
use super::core::Core;
use super::proxy::Peer;
use super::receiving::Receiving;
use crate::auth::Verdict;
use crate::clock::now_ms;
use crate::log::{Event, Level, event};
use crate::net::Stream;
use crate::net::failure::{Begin, explain, is_silent};
use crate::policy::TlsMode;
use crate::sasl::Mechanisms;
use crate::smtp::Session;
use crate::smtp::reply;
use crate::smtp::session::{Action, Answer, Question, Refusal};
use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// Replies that are flushed before more input is looked at, octets: a client that asks much and reads nothing must not
/// fill our memory.
const REPLIES_BYTES_MAX: usize = 16 * 1024;
/// Memory for replies that an idle connection keeps, octets.
const REPLIES_KEPT_BYTES: usize = 1024;
/// Connections per core that are being turned away politely; past it they are just dropped.
pub const TURNED_AWAY_MAX: usize = 64;

/// What the driver waits for.
enum Wait {
    Flush,
    Spill,
    Commit,
    Ask(Question),
    StartTls,
    Close,
}

/// One connection.
pub(super) struct Connection {
    pub(super) core: Rc<Core>,
    pub(super) index: usize,
    pub(super) peer: Peer,
    pub(super) stream: Stream,
    pub(super) out: Vec<u8>,
    pub(super) message: Option<Receiving>,
    /// Why the message being received will be refused at its end.
    pub(super) trouble: Option<Refusal>,
    pub(super) accepted: u32,
}

/// Counts a connection for as long as it lives, among those that are served or those that are turned away.
struct Counted<'a>(&'a Cell<usize>);

impl<'a> Counted<'a> {
    fn new(count: &'a Cell<usize>) -> Counted<'a> {
        count.set(count.get() + 1);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A connection's whole life.
pub async fn serve(core: Rc<Core>, index: usize, socket: monoio::net::TcpStream, peer: SocketAddr) {
    core.counters.connections.add(1);
    let crowded = core.connections.get() >= core.config.limits.connections_per_core;
    if crowded {
        core.counters.connections_refused.add(1);
        if core.turned_away.get() >= TURNED_AWAY_MAX {
            return;
        }
    }
    let _counted = Counted::new(if crowded { &core.turned_away } else { &core.connections });
    let stream = Stream::tcp(socket, core.shared.clone());
    let (core, out, peer) = (core.clone(), Vec::new(), Peer::direct(peer));
    let mut connection = Connection { core, index, peer, stream, out, message: None, trouble: None, accepted: 0 };
    let end = if crowded { connection.turn_away().await } else { connection.run().await };
    let accepted = connection.accepted;
    if let Err(error) = &end
        && !matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
    {
        connection.event(Level::Info, "connection ended").field("reason", error).field("messages", accepted).emit();
    } else {
        connection.event(Level::Debug, "connection closed").field("messages", accepted).emit();
    }
    connection.stream.close().await;
}

impl Connection {
    /// Too many connections: says so, in the clear only where the client expects clear text.
    async fn turn_away(&mut self) -> io::Result<()> {
        self.event(Level::Warning, "too many connections").emit();
        if self.service().rules.tls != TlsMode::Implicit {
            self.out.extend_from_slice(reply::TOO_MANY_CONNECTIONS);
            self.flush().await?;
        }
        Ok(())
    }

    async fn run(&mut self) -> io::Result<()> {
        let rules = self.service().rules.clone();
        let secured = rules.tls == TlsMode::Implicit;
        self.meet().await?;
        if secured {
            self.shake_hands(Begin::Implicit).await?;
        }
        let mut session = Session::new(rules, self.is_trusted(), secured, &mut self.out);
        session.set_may_xclient(self.may_xclient());
        self.withhold_mechanisms(&mut session);
        self.bind_channel(&mut session);
        loop {
            let wait = self.decide(&mut session)?;
            if let Some(reply) = session.take_refused() {
                self.log_refused(&mut session, reply);
            }
            if !self.out.is_empty() {
                self.flush().await?;
            }
            match wait {
                Some(Wait::Flush) => {}
                None => self.read(&mut session).await?,
                Some(Wait::Spill) => self.spill().await,
                Some(Wait::Commit) => {
                    let answer = self.commit(&mut session).await;
                    session.answered(answer, &mut self.out);
                }
                Some(Wait::Ask(question)) => {
                    let answer = self.ask(question).await;
                    session.answered(answer, &mut self.out);
                }
                Some(Wait::StartTls) => {
                    self.shake_hands(Begin::StartTls).await?;
                    session.answered(Answer::TlsStarted, &mut self.out);
                    self.bind_channel(&mut session);
                }
                Some(Wait::Close) => return Ok(()),
            }
        }
    }

    /// Lets the session decide about all that has been read, up to a wait.
    fn decide(&mut self, session: &mut Session) -> io::Result<Option<Wait>> {
        let Connection { core, stream, out, message, trouble, .. } = self;
        let wait = stream.feed(|input| {
            let mut used = 0;
            // A step may consume nothing and yet go on: what the last read left undecided comes first.
            loop {
                let (took, action) = session.step(&input[used..], out);
                used += took;
                let wait = match action {
                    Action::NeedInput => return (used, None),
                    Action::Body(piece) => receive(core, session, message, trouble, piece),
                    Action::Begin => {
                        *trouble = None;
                        *message = begin(core, session, out);
                        None
                    }
                    Action::Abort => {
                        *message = None;
                        None
                    }
                    Action::Commit => Some(Wait::Commit),
                    Action::Ask(question) => Some(Wait::Ask(question)),
                    Action::StartTls => Some(Wait::StartTls),
                    Action::Close => Some(Wait::Close),
                };
                let many = out.len() > REPLIES_BYTES_MAX;
                if let Some(wait) = wait.or(many.then_some(Wait::Flush)) {
                    return (used, Some(wait));
                }
            }
        })?;
        // An answer may have ended the session although no input is left to say so.
        Ok(wait.or_else(|| matches!(session.step(b"", out).1, Action::Close).then_some(Wait::Close)))
    }

    async fn read(&mut self, session: &mut Session) -> io::Result<()> {
        self.stream.set_deadline(Duration::from_secs(self.core.config.limits.idle_timeout_s));
        self.stream.set_interruptible(!session.is_receiving());
        match self.stream.fill().await {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {
                session.set_clock(now_ms());
                session.set_room(self.core.room());
                Ok(())
            }
            // The next step says 421 and closes.
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                session.shut_down();
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                session.timed_out(&mut self.out);
                self.flush().await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.stream.set_deadline(Duration::from_secs(self.core.config.limits.idle_timeout_s));
        self.stream.write(&mut self.out).await?;
        self.out.shrink_to(REPLIES_KEPT_BYTES);
        Ok(())
    }

    async fn shake_hands(&mut self, begin: Begin) -> io::Result<()> {
        self.stream.set_deadline(Duration::from_secs(self.core.config.limits.handshake_timeout_s));
        let tls = self.core.tls.load_full();
        let result = match begin {
            Begin::Implicit => self.stream.accept_implicit_tls(&tls).await,
            Begin::StartTls => self.stream.accept_tls(&tls).await,
        };
        match &result {
            Ok(()) => self.core.counters.tls_handshakes.add(1),
            Err(error) => {
                self.core.counters.tls_failed.add(1);
                let level = if is_silent(error) { Level::Debug } else { Level::Info };
                let line = self.event(level, "TLS handshake failed").field("error", error);
                line.field("meaning", explain(error, begin)).emit();
            }
        }
        result
    }

    /// Tells the session which channel it speaks through, if TLS is up.
    fn bind_channel(&self, session: &mut Session) {
        if let Some(end_point) = self.stream.tls_server_end_point() {
            session.bind_channel(end_point);
        }
    }

    /// SCRAM that some user could not use, unless the operator wants it all the same.
    fn withhold_mechanisms(&self, session: &mut Session) {
        let all_have_keys = self.core.authenticator.as_ref().is_some_and(|authenticator| authenticator.all_have_keys());
        if self.service().scram_when_all && !all_have_keys {
            session.withhold(Mechanisms::SCRAM);
        }
    }

    async fn ask(&mut self, question: Question) -> Answer {
        let question = match question {
            Question::Client(xclient) => return self.take_xclient(&xclient),
            question => question,
        };
        let Some(authenticator) = self.core.authenticator.clone() else { return Answer::Unavailable };
        let from = self.peer.ip();
        match question {
            Question::Client(_) => unreachable!("answered above"),
            Question::Password(credentials) => {
                let name = credentials.user.clone();
                let verdict = authenticator.check(credentials, from).await;
                self.heard(verdict, &name).await
            }
            Question::ScramKeys(user) => match authenticator.scram_keys(&user, from) {
                Ok((keys, nonce)) => Answer::ScramKeys { keys, nonce },
                Err(verdict) => self.heard(verdict, &user).await,
            },
            Question::Proof(proof) => {
                let verdict = authenticator.proved(&proof, from);
                self.heard(verdict, &proof.user).await
            }
        }
    }

    /// Counts and logs a verdict, and holds back what is refused, so that guessing is slow.
    async fn heard(&mut self, verdict: Verdict, name: &str) -> Answer {
        let (answer, delay) = match verdict {
            Verdict::Accepted(user) => {
                self.core.counters.auth_ok.add(1);
                return Answer::Accepted(user);
            }
            Verdict::Unavailable => {
                self.event(Level::Warning, "authentication not available").octets("user", name.as_bytes()).emit();
                return Answer::Unavailable;
            }
            Verdict::Rejected(delay) => {
                self.core.counters.auth_failed.add(1);
                self.event(Level::Warning, "authentication failed").octets("user", name.as_bytes()).emit();
                (Answer::Rejected, delay)
            }
            // That the brake took hold is in the log once, by whoever did it.
            Verdict::Braked(delay) => {
                self.core.counters.auth_braked.add(1);
                (Answer::Braked, delay)
            }
        };
        if !delay.is_zero() && !self.core.stopping.get() {
            monoio::time::sleep(delay).await;
        }
        answer
    }

    async fn spill(&mut self) {
        let Some(message) = &mut self.message else { return };
        if let Err(error) = message.spill().await {
            self.message = None;
            self.trouble = Some(refusal(error));
        }
    }

    fn log_refused(&self, session: &mut Session, reply: &[u8]) {
        let mut line = self.event(Level::Info, "refused");
        if let Some(user) = session.finish().1.user {
            line = line.octets("user", user.as_bytes());
        }
        line.octets("reply", reply.trim_ascii_end()).emit();
    }

    pub(super) fn service(&self) -> &Service {
        &self.core.services[self.index]
    }

    pub(super) fn event(&self, level: Level, what: &'static str) -> Event {
        let line = event(level, what).field("client", self.peer);
        let line = match self.peer.proxy {
            Some(proxy) => line.field("proxy", proxy),
            None => line,
        };
        line.field("listener", &self.service().name)
    }
}

/// Takes a piece of content, unless the message is given up already or there is no memory for it.
fn receive(
    core: &Core,
    session: &mut Session,
    message: &mut Option<Receiving>,
    trouble: &mut Option<Refusal>,
    piece: &[u8],
) -> Option<Wait> {
    if message.is_some() && core.is_too_full_for(session) {
        *message = None;
        *trouble = Some(Refusal::NoRoom);
    }
    let message = message.as_mut()?;
    message.append(piece);
    message.must_spill().then_some(Wait::Spill)
}
