//! Drives one session: reads, lets [`Session`] decide, writes, asks, commits. It decides nothing about SMTP.
//!
//! ```text
//!  stream.feed --> session.step --> Body: append   Recipient: count   Begin: queue id      (answered on the spot)
//!                        |
//!                        '--> a wait: flush replies, then read | commit | check password | shake hands | close
//! ```
//!
//! A pipelined batch costs one write, because replies are flushed only before a wait, or when there are many.
//!
//! | memory of a connection, octets | idle | at most |
//! |---|---|---|
//! | the task with its session, its place and its watch | 2 Ki | 4 Ki |
//! | rustls, under TLS | 3.4 Ki | about 6 Ki |
//! | input, clear text or records; decrypted but not yet looked at | 0 | 96 Ki; 20 Ki |
//! | a line that is split | 0 | 12 Ki |
//! | replies; the same as records | 1 Ki | 17 Ki; 20 Ki |
//! | envelope, content | 2 Ki | of the core's `receiving_mib_per_core` ([`super::share`]) |
//!
//! Measured, resident KiB for each of 5,000 that wait (of 1,000 in the last line, most of which is the content):
//!
//! | | io_uring | epoll |
//! |---|---|---|
//! | idle in the clear | 3.5 | 4.0 |
//! | idle under TLS | 6.7 to 8.1 | 8.0 to 9.2 |
//! | the same, authenticated | 8.0 | 8.1 |
//! | the same, after MAIL and RCPT | 7.2 | 8.2 |
//! | the same, 24 KiB of content received | 42 | 44 |

use super::Service;
use super::admission::Refused;
use super::arriving::{Admitted, note_refused};
use super::asking::Login;
use super::committing::{begin, refusal};
use super::core::Core;
use super::ending::{End, Tls};
use super::patience::{Moment, Patience, Reason, Who};
use super::proxy::Peer;
use super::rates;
use super::receiving::Receiving;
use super::share::Share;
use crate::log::{Event, Level, event};
use crate::metrics::{OfListener, TLS_VERSIONS};
use crate::net::Stream;
use crate::net::failure::{Begin, UNASKED_PROXY, explain, is_silent};
use crate::net::proxy::is_header as is_proxy_header;
use crate::policy::TlsMode;
use crate::smtp::Session;
use crate::smtp::reply;
use crate::smtp::session::{Action, Answer, Question, REPLIES_BYTES_MAX, Refusal};
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Memory for replies that an idle connection keeps, octets.
const REPLIES_KEPT_BYTES: usize = 1024;
/// How long a client may take to read why it is sent away.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(2);

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
    /// Of its listener.
    pub(super) index: u32,
    pub(super) peer: Peer,
    pub(super) stream: Stream,
    pub(super) admitted: Admitted,
    /// Its network may relay.
    trusted: bool,
    pub(super) login: Login,
    patience: Patience,
    pub(super) tls: Tls,
    out: Vec<u8>,
    /// Octets that the session took since the last read.
    consumed: u32,
    /// Replies were written since the last read.
    replied: bool,
    /// Of the core's memory, for the envelope.
    share: Share,
    pub(super) message: Option<Receiving>,
    /// Why the message being received will be refused at its end.
    pub(super) trouble: Option<Refusal>,
    pub(super) accepted: u32,
    /// What the end most likely means, if that is known.
    pub(super) meaning: Option<&'static str>,
}

/// A connection's whole life. (Not an async function: its future would keep its arguments beside the connection that they
/// become.)
pub fn serve(
    core: Rc<Core>,
    index: usize,
    stream: Stream,
    peer: SocketAddr,
    admitted: Admitted,
) -> impl Future<Output = ()> {
    let mut connection = Connection {
        patience: Patience::new(core.shared.tick()),
        share: core.share(),
        core,
        index: index as u32,
        peer: Peer::direct(peer),
        stream,
        admitted,
        trusted: false,
        login: Login::default(),
        tls: Tls::default(),
        out: Vec::new(),
        consumed: 0,
        replied: false,
        message: None,
        trouble: None,
        accepted: 0,
        meaning: None,
    };
    async move {
        let Err(end) = connection.run().await;
        connection.log_end(&end);
        connection.stream.close().await;
    }
}

/// What is awaited in place has its room in the task for as long as the connection lives: of the large ones only those
/// that each command needs, `read` and `flush`. The others are boxed.
impl Connection {
    /// Never Ok: it ends for a reason.
    async fn run(&mut self) -> Result<Infallible, End> {
        let rules = self.service().rules.clone();
        let secured = rules.tls == TlsMode::Implicit;
        if self.meet().await.is_err() {
            return Err(Box::pin(self.unmet()).await);
        }
        self.trusted = self.is_trusted();
        if let Err(refused) = self.admitted.meet(&self.peer, self.trusted) {
            return self.refuse(refused).await;
        }
        if secured {
            Box::pin(self.shake_hands(Begin::Implicit, Who::new(rules.role, self.trusted))).await?;
        } else if !self.trusted && self.stream.has_spoken() {
            // Under TLS nobody else's octets can have come before ours: there they are served in order.
            let first = self.stream.first_spoken();
            if is_proxy_header(&first) {
                self.meaning = Some(UNASKED_PROXY);
            }
            self.tell(reply::EARLY_TALKER).await;
            return Err(End::EarlyTalker);
        }
        let mut session = Session::new(rules, self.trusted, secured, &mut self.out);
        // What stood behind a PROXY header or a handshake is read already.
        self.core.brief(&mut session);
        session.set_may_xclient(self.may_xclient());
        self.withhold_mechanisms(&mut session);
        self.bind_channel(&mut session);
        let end = self.converse(&mut session).await;
        session.end();
        self.note_refused(&mut session);
        self.note_unsecured(&session);
        end
    }

    /// What is known only behind the header of a proxy: its client has too many connections.
    pub(super) async fn refuse(&mut self, refused: Refused) -> Result<Infallible, End> {
        if self.service().rules.tls != TlsMode::Implicit || self.stream.tls().is_some() {
            self.tell(refused.reply()).await;
        }
        note_refused(&self.core, self.peer.client, refused);
        Err(End::Refused)
    }

    async fn converse(&mut self, session: &mut Session) -> Result<Infallible, End> {
        loop {
            let wait = self.decide(session)?;
            self.share.set(session.envelope().memory_bytes());
            self.note_refused(session);
            if !self.out.is_empty() {
                self.flush(session).await?;
            }
            let began = self.core.shared.tick();
            match wait {
                Some(Wait::Flush) => continue,
                None => {
                    self.read(session).await?;
                    continue;
                }
                Some(Wait::Spill) => self.spill().await,
                Some(Wait::Commit) => {
                    let answer = Box::pin(self.commit(session)).await;
                    session.answered(answer, &mut self.out);
                    self.patience.message_over();
                }
                Some(Wait::Ask(question)) => {
                    let answer = Box::pin(self.ask(question)).await?;
                    session.answered(answer, &mut self.out);
                    self.trusted = session.is_trusted();
                    if session.is_authenticated() || self.trusted {
                        self.admitted.authenticated();
                    }
                }
                Some(Wait::StartTls) => {
                    self.tls = Tls::Begun;
                    Box::pin(self.shake_hands(Begin::StartTls, self.who(session))).await?;
                    session.answered(Answer::TlsStarted, &mut self.out);
                    self.bind_channel(session);
                    // What XCLIENT said is forgotten with all else that was said in the clear.
                    self.trusted = session.is_trusted();
                    if let Err(refused) = self.admitted.meet(&self.peer, self.trusted) {
                        return self.refuse(refused).await;
                    }
                    continue;
                }
                Some(Wait::Close) => return Err(End::Over),
            }
            // The disk and the password check are not the client's fault.
            self.patience.forgive(self.core.shared.tick() - began);
        }
    }

    /// Lets the session decide about all that has been read, up to a wait.
    fn decide(&mut self, session: &mut Session) -> io::Result<Option<Wait>> {
        let Connection { core, peer, stream, out, message, trouble, consumed, .. } = self;
        let mut decide = |input: &[u8]| {
            let mut used = 0;
            // A step may consume nothing and yet go on: what the last read left undecided comes first.
            loop {
                let (took, action) = session.step(&input[used..], out);
                used += took;
                *consumed += took as u32;
                let wait = match action {
                    Action::NeedInput => return (used, None),
                    Action::Flush => Some(Wait::Flush),
                    Action::Body(piece) => receive(core, session, message, trouble, piece),
                    Action::Recipient => {
                        rates::recipient(core, peer, session, out);
                        None
                    }
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
                // A step ends at so many; steps that end for what is answered on the spot add up.
                let many = out.len() > REPLIES_BYTES_MAX;
                if let Some(wait) = wait.or(many.then_some(Wait::Flush)) {
                    return (used, Some(wait));
                }
            }
        };
        let wait = stream.feed(&mut decide)?;
        // Some decisions need no input, and no input calls nobody: a chunk whose last octets made the content spill is at
        // its end, an answer may have ended the session.
        Ok(wait.or_else(|| decide(b"").1))
    }

    async fn read(&mut self, session: &mut Session) -> Result<(), End> {
        let moment = Moment {
            phase: session.phase(),
            who: self.who(session),
            in_transaction: session.is_in_transaction(),
            replied: std::mem::take(&mut self.replied),
            octets: u64::from(std::mem::take(&mut self.consumed)),
            crowded: self.core.places.are_crowded(),
        };
        let (until, reason) = self.patience.until(&self.core.limits, &moment, self.core.shared.tick());
        self.admitted.place.set_since(self.patience.since());
        self.stream.set_deadline_at(until);
        self.stream.set_interruptible(!session.is_receiving());
        let filled = self.stream.fill().await;
        if self.admitted.place.is_lost() {
            self.tell(reply::TOO_MANY_CONNECTIONS).await;
            return Err(End::Displaced);
        }
        match filled {
            Ok(0) => Err(End::Failed(ErrorKind::UnexpectedEof.into())),
            Ok(_) => {
                self.core.brief(session);
                self.look_after_login(session);
                Ok(())
            }
            // The next step says 421 and closes.
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                session.shut_down();
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                let end = self.timed_out(reason);
                if matches!(end, End::TimedOut(_)) {
                    session.timed_out(&mut self.out);
                    Box::pin(self.last_words()).await;
                }
                Err(end)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn flush(&mut self, session: &Session) -> Result<(), End> {
        self.wait_at_most(Reason::Reply, self.who(session));
        self.replied = true;
        let written = self.stream.write(&mut self.out).await;
        self.out.shrink_to(REPLIES_KEPT_BYTES);
        match written {
            Err(_) if self.admitted.place.is_lost() => Err(End::Displaced),
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(self.timed_out(Reason::Reply)),
            written => Ok(written?),
        }
    }

    /// The last words before the connection is closed: for those that read.
    pub(super) async fn tell(&mut self, text: &[u8]) {
        self.out.clear();
        self.out.extend_from_slice(text);
        Box::pin(self.last_words()).await;
    }

    async fn last_words(&mut self) {
        self.stream.set_deadline(LAST_WORDS_LIMIT);
        // Nobody is left to be told of an error.
        let _ = self.stream.write(&mut self.out).await;
    }

    async fn shake_hands(&mut self, begin: Begin, who: Who) -> Result<(), End> {
        self.wait_at_most(Reason::Handshake, who);
        let (tls, began) = (self.core.tls.load_full(), Instant::now());
        let result = match begin {
            Begin::Implicit => self.stream.accept_implicit_tls(&tls).await,
            Begin::StartTls => self.stream.accept_tls(&tls).await,
        };
        let Err(error) = result else {
            self.count_handshake(began.elapsed());
            // In the moment in which it was done. It is told here what it would be told instead of its first command's answer.
            if self.admitted.place.is_lost() {
                self.tell(reply::TOO_MANY_CONNECTIONS).await;
                return Err(End::Displaced);
            }
            return Ok(());
        };
        self.core.counters.tls_failed.add(1);
        self.listener().handshakes_failed.add(1);
        match error.kind() {
            _ if self.admitted.place.is_lost() => Err(End::Displaced),
            ErrorKind::TimedOut => {
                self.meaning = Some(explain(&error, begin));
                Err(self.timed_out(Reason::Handshake))
            }
            _ => {
                let level = if is_silent(&error) { Level::Debug } else { Level::Info };
                let line = self.event(level, "TLS handshake failed").field("error", &error);
                line.field("meaning", explain(&error, begin)).emit();
                Err(End::Handshake)
            }
        }
    }

    fn count_handshake(&self, time: Duration) {
        self.core.counters.tls_handshakes.add(1);
        let listener = self.listener();
        let version = self.stream.tls().map_or("", |(version, _)| version);
        for (name, handshakes) in TLS_VERSIONS.iter().zip(&listener.handshakes) {
            handshakes.add(u64::from(*name == version));
        }
        listener.handshake.count_time(time);
    }

    /// The next wait, however many operations it takes, lasts no longer than this limit.
    fn wait_at_most(&mut self, reason: Reason, who: Who) {
        let limit = self.core.limits.of(reason, who, self.core.places.are_crowded());
        // One more, because the tick that it is has partly passed.
        self.stream
            .set_deadline_at(self.core.shared.tick().saturating_add(limit.unwrap_or(u64::MAX)).saturating_add(1));
    }

    /// What a wait that timed out ended for: when the time to drain is over, all of them do.
    fn timed_out(&self, reason: Reason) -> End {
        if self.core.stopping.get() { End::CutOff } else { End::TimedOut(reason) }
    }

    fn who(&self, session: &Session) -> Who {
        Who::new(self.service().rules.role, session.is_authenticated() || self.trusted)
    }

    async fn spill(&mut self) {
        let Some(message) = &mut self.message else { return };
        if let Err(error) = message.spill().await {
            self.message = None;
            self.trouble = Some(refusal(error));
        }
    }

    /// What is counted of its listener.
    pub(super) fn listener(&self) -> &OfListener {
        &self.core.counters.listeners[self.index as usize]
    }

    pub(super) fn service(&self) -> &Service {
        &self.core.services[self.index as usize]
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets of what `function` returns, which need not be made for it.
    fn future_bytes<A, B, C, D, E, F>(_: impl FnOnce(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    /// 1,768 when this was written; the next size that the allocator has is 2,048. Who needs more looks first whether it
    /// is awaited in place though it is rare, or kept over a wait though it is not needed there.
    #[test]
    fn a_task_is_small() {
        let bytes = future_bytes(serve);
        println!("measured: a connection's task has {bytes} octets");
        assert!(bytes <= 1792, "{bytes}");
    }

    /// What each connection has whatever it does.
    #[test]
    fn what_a_task_holds_is_small() {
        println!("measured: connection {}, session {}", size_of::<Connection>(), size_of::<Session>());
        assert!(size_of::<Connection>() <= 704 && size_of::<Session>() <= 320);
    }
}
