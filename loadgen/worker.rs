//! Drives the load: threads, connections, and one [`Client`] for each connection. Knows sockets and clocks, no SMTP.
//!
//! ```text
//!  Job (shared) -- take() --> Thread: a runtime, a Workload, a Recorder
//!    budget, deadline, stop     '-- a task for each connection: connect, [TLS], Client <-> Stream, QUIT, again
//! ```
//!
//! Promises: no more messages are tried than the budget says, and none is begun behind the deadline or a stop; every
//! wait ends within the time-out; each message whose content was sent has its line in the ledger before the next one of
//! its connection begins.

use crate::ledger::{Checksum, Entry, Ledger, Outcome, queue_id};
use crate::options::{Run, RunTls};
use crate::report::{Recorder, Span};
use crate::workload::{Message, Plan, Workload};
use penstock::net::{self, Driver, Shared, Stream};
use penstock::smtp::client::{Client, Event, Fate, Login, Options, Phase, StartTls, Transaction, Trouble};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A pause after a session that failed, so that a server which is down is not asked without end.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Content is written in pieces of about this many octets.
const PIECE_BYTES: usize = 64 * 1024;

/// What all threads work on.
pub struct Job {
    /// The command line.
    pub run: Run,
    /// The server.
    pub address: SocketAddr,
    /// The server's name in TLS.
    pub server_name: ServerName<'static>,
    /// The password of all users.
    pub password: Option<String>,
    /// What is sent.
    pub plan: Plan,
    /// Where outcomes are kept.
    pub ledger: Option<Ledger>,
    /// Messages not yet begun.
    pub budget: AtomicU64,
    /// No message is begun from here on.
    pub deadline: Option<Instant>,
    /// Set from outside: no further message is begun.
    pub stop: AtomicBool,
}

impl Job {
    /// May one more message be begun? Then it is counted.
    fn take(&self) -> bool {
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if late || self.stop.load(Ordering::Relaxed) {
            return false;
        }
        let one_less = |left: u64| left.checked_sub(1);
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

/// Runs the whole job on `threads` threads. Errors: a runtime could not be had; one line.
pub fn run(job: &Arc<Job>, driver: Driver, threads: u32) -> Result<Recorder, String> {
    let spawn = |number| {
        let job = job.clone();
        let connections = job.run.connections / threads + u32::from(number < job.run.connections % threads);
        let main = move || net::run(driver, None, run_thread(job, number, connections));
        std::thread::Builder::new().name(format!("load {number}")).spawn(main)
    };
    let started: Vec<_> = (0..threads).map(spawn).collect();
    let mut seen = Recorder::default();
    for thread in started {
        let thread = thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        let ended = thread.join().map_err(|_| "a thread panicked".to_string())?;
        seen.merge(&ended.map_err(|error| format!("cannot start a runtime: {error}"))??);
    }
    Ok(seen)
}

/// What the connections of one thread share.
struct Thread {
    job: Arc<Job>,
    shared: Rc<Shared>,
    tls: Arc<rustls::ClientConfig>,
    workload: RefCell<Workload>,
    recorder: RefCell<Recorder>,
}

async fn run_thread(job: Arc<Job>, number: u32, connections: u32) -> Result<Recorder, String> {
    let mut tls = rustls::ClientConfig::clone(&net::unverified_client_config());
    tls.resumption = Resumption::disabled();
    let thread = Rc::new(Thread {
        workload: RefCell::new(Workload::new(job.plan.clone(), number)?),
        shared: Shared::start(),
        tls: Arc::new(tls),
        recorder: RefCell::default(),
        job,
    });
    let tasks: Vec<_> = (0..connections).map(|_| monoio::spawn(sessions(thread.clone()))).collect();
    for task in tasks {
        task.await;
    }
    thread.shared.stop();
    Ok(thread.recorder.take())
}

/// One session after the other.
async fn sessions(thread: Rc<Thread>) {
    let mut message = Message::default();
    while thread.job.take() {
        let begun = Instant::now();
        let ended = session(&thread, &mut message).await;
        let failed = ended.is_err();
        thread.end_session(ended, begun);
        if failed {
            monoio::time::sleep(PAUSE_AFTER_FAILURE).await;
        }
    }
}

/// One session; its first message is already taken from the budget.
async fn session(thread: &Thread, message: &mut Message) -> Result<(), Failure> {
    let mut connection = Connection::open(thread).await?;
    connection.until_ready().await?;
    for number in 0..thread.job.run.messages_per_connection {
        if number > 0 && !thread.job.take() {
            break;
        }
        connection.send(message).await?;
        // With a refusal the server may have ended the session: 421, or what is no SMTP.
        connection.until_ready().await?;
    }
    connection.quit().await
}

/// Why a session ended before its time: a kind to count by, and what was said.
struct Failure {
    kind: String,
    example: String,
}

impl Failure {
    fn new(kind: impl Into<String>, example: impl Into<String>) -> Failure {
        Failure { kind: kind.into(), example: example.into() }
    }

    /// While something was waited for or written.
    fn io(place: &str, error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::TimedOut => Failure::new(format!("{place}: timed out"), ""),
            _ => Failure::new(format!("{place}: {error}"), ""),
        }
    }

    fn closed(phase: Phase, trouble: Trouble) -> Failure {
        let place = place(phase);
        match trouble {
            Trouble::Temporary(reply) | Trouble::Permanent(reply) | Trouble::LoginRefused(reply) => {
                Failure::new(format!("{place} {}", reply.code), reply.text)
            }
            Trouble::TlsNotOffered => Failure::new("starttls: not offered", ""),
            Trouble::NoMechanism => Failure::new("auth: no mechanism that we know", ""),
            Trouble::Loop => Failure::new("hello: the server has the load generator's own name", ""),
            Trouble::Garbled(seen) => Failure::new(format!("{place}: not SMTP"), seen),
        }
    }
}

/// One connection and its client.
struct Connection<'a> {
    thread: &'a Thread,
    stream: Stream,
    client: Client,
    out: Vec<u8>,
    /// Where the client was when last looked at, and since when.
    phase: Phase,
    since: Instant,
}

impl<'a> Connection<'a> {
    async fn open(thread: &'a Thread) -> Result<Connection<'a>, Failure> {
        let job = &thread.job;
        let begun = Instant::now();
        // A connect that is dropped here may hold its descriptor until the kernel gives up: minutes at most.
        let connected = monoio::time::timeout(job.run.timeout, monoio::net::TcpStream::connect_addr(job.address)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let socket = connected.map_err(|error| Failure::io("connect", &error))?;
        thread.recorder.borrow_mut().timed(Span::Connect, begun.elapsed());
        let mut stream = Stream::tcp(socket, thread.shared.clone());
        stream.set_deadline(job.run.timeout);
        let client = Client::new(thread.client_options());
        let out = thread.shared.take_buffer();
        let since = Instant::now();
        let mut connection = Connection { thread, stream, client, out, phase: Phase::Greeting, since };
        if job.run.tls == RunTls::Implicit {
            connection.handshake().await?;
        }
        Ok(connection)
    }

    async fn handshake(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        let (tls, name) = (self.thread.tls.clone(), self.thread.job.server_name.clone());
        self.stream.connect_tls(tls, name).await.map_err(|error| Failure::io("handshake", &error))?;
        self.since = Instant::now();
        self.thread.recorder.borrow_mut().timed(Span::Handshake, self.since - begun);
        Ok(())
    }

    /// Greeting, EHLO, STARTTLS, AUTH; or the end of a transaction. Errors: the session is over.
    async fn until_ready(&mut self) -> Result<(), Failure> {
        loop {
            match self.event().await? {
                Event::Ready => return Ok(()),
                Event::StartTls => {
                    self.thread.recorder.borrow_mut().timed(Span::StartTls, self.since.elapsed());
                    self.handshake().await?;
                    self.client.tls_started(&mut self.out);
                    self.phase = self.client.phase();
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Sends the workload's next message and keeps what became of it.
    async fn send(&mut self, message: &mut Message) -> Result<(), Failure> {
        let begun = Instant::now();
        self.client.send(self.thread.next_transaction(message), &mut self.out);
        self.note();
        let mut content_sent = false;
        loop {
            let event = match self.event().await {
                Ok(Event::SendContent) => {
                    content_sent = true;
                    self.content(message).await.map(|()| None)
                }
                Ok(Event::Done(fates)) => Ok(Some(fates)),
                Ok(other) => Err(unexpected(&other)),
                Err(failure) => Err(failure),
            };
            match event {
                Ok(None) => {}
                Ok(Some(fates)) => {
                    self.thread.settle(message, &fates, content_sent, begun);
                    return Ok(());
                }
                Err(failure) => {
                    self.thread.lost(message, content_sent);
                    return Err(failure);
                }
            }
        }
    }

    async fn content(&mut self, message: &Message) -> Result<(), Failure> {
        let body = self.thread.workload.borrow().body();
        self.client.content(message.header.as_bytes(), &mut self.out);
        for piece in body.chunks(PIECE_BYTES) {
            self.client.content(piece, &mut self.out);
            if self.out.len() >= PIECE_BYTES {
                self.write().await?;
            }
        }
        self.client.end_content(&mut self.out);
        Ok(())
    }

    async fn quit(mut self) -> Result<(), Failure> {
        self.client.quit(&mut self.out);
        self.note();
        match self.event().await? {
            Event::Bye => {}
            other => return Err(unexpected(&other)),
        }
        self.thread.shared.give_buffer(self.out);
        self.stream.close().await;
        Ok(())
    }

    /// The client's next event; what it has to say is written before anything is waited for.
    async fn event(&mut self) -> Result<Event, Failure> {
        let (_, mut event) = self.client.step(&[], &mut self.out);
        while event == Event::NeedInput {
            event = match self.feed()? {
                Some(event) => event,
                None => self.read().await?,
            };
        }
        if let Event::Closed(trouble) = event {
            return Err(Failure::closed(self.phase, trouble));
        }
        self.note();
        Ok(event)
    }

    /// Gives buffered input to the client.
    fn feed(&mut self) -> Result<Option<Event>, Failure> {
        let Connection { stream, client, out, phase, .. } = self;
        let fed = stream.feed(|input| {
            let (used, event) = client.step(input, out);
            (used, (event != Event::NeedInput).then_some(event))
        });
        let event = fed.map_err(|error| Failure::io(place(*phase), &error))?;
        if event.is_none() {
            self.note();
        }
        Ok(event)
    }

    async fn read(&mut self) -> Result<Event, Failure> {
        self.write().await?;
        match self.stream.fill().await {
            Ok(0) => Err(Failure::new(format!("{}: the server closed the connection", place(self.phase)), "")),
            Ok(_) => Ok(Event::NeedInput),
            Err(error) => Err(Failure::io(place(self.phase), &error)),
        }
    }

    async fn write(&mut self) -> Result<(), Failure> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.stream.write(&mut self.out).await.map_err(|error| Failure::io(place(self.phase), &error))
    }

    /// Times the phase that was left, if one was.
    fn note(&mut self) {
        let phase = self.client.phase();
        if phase == self.phase {
            return;
        }
        let now = Instant::now();
        if let Some(span) = span(self.phase) {
            self.thread.recorder.borrow_mut().timed(span, now - self.since);
        }
        (self.phase, self.since) = (phase, now);
    }
}

impl Thread {
    fn client_options(&self) -> Options {
        let run = &self.job.run;
        let login = run.user.as_ref().zip(self.job.password.as_ref()).map(|(users, password)| Login {
            user: users.name(self.workload.borrow_mut().draw(users.names())),
            password: password.clone().into(),
            mechanism: Some(run.mechanism.mechanism()),
            nonce: String::new(),
            binding: None,
        });
        let starttls = if run.tls == RunTls::Starttls { StartTls::Required } else { StartTls::Never };
        Options { starttls, login, pipelining: !run.no_pipelining, ..Options::new(&run.hostname) }
    }

    fn next_transaction(&self, message: &mut Message) -> Transaction {
        let mut workload = self.workload.borrow_mut();
        workload.next(message);
        Transaction {
            reverse_path: message.reverse_path.as_bytes().to_vec(),
            recipients: message.recipients.iter().map(|path| path.as_bytes().into()).collect(),
            size: workload.size(),
            ..Transaction::default()
        }
    }

    fn end_session(&self, ended: Result<(), Failure>, begun: Instant) {
        let mut recorder = self.recorder.borrow_mut();
        match ended {
            Ok(()) => {
                recorder.counts.sessions += 1;
                recorder.timed(Span::Session, begun.elapsed());
            }
            Err(Failure { kind, example }) => {
                recorder.counts.broken_sessions += 1;
                recorder.failed(&kind, &example);
            }
        }
    }

    /// Counts and keeps the replies to a message.
    fn settle(&self, message: &Message, fates: &[Fate], content_sent: bool, begun: Instant) {
        let mut recorder = self.recorder.borrow_mut();
        let mut delivered = 0;
        let mut accepted = None;
        for fate in fates {
            match fate {
                Fate::Delivered(reply) => {
                    delivered += 1;
                    accepted = Some(reply);
                }
                Fate::Deferred(reply) | Fate::Failed(reply) => {
                    let place = if content_sent { "content" } else { "envelope" };
                    recorder.failed(&format!("{place} {}", reply.code), &reply.text);
                }
            }
        }
        match accepted {
            Some(reply) => {
                recorder.timed(Span::Message, begun.elapsed());
                recorder.counts.accepted += 1;
                recorder.counts.accepted_bytes += self.workload.borrow().size();
                self.keep(Outcome::Accepted, message, delivered, queue_id(&reply.text));
            }
            None => {
                recorder.counts.refused += 1;
                if content_sent {
                    self.keep(Outcome::Refused, message, fates.len(), None);
                }
            }
        }
    }

    /// The connection broke before the replies to a message. Without content it was not sent: the session counts.
    fn lost(&self, message: &Message, content_sent: bool) {
        if content_sent {
            self.recorder.borrow_mut().counts.unknown += 1;
            self.keep(Outcome::Unknown, message, message.recipients.len(), None);
        }
    }

    /// A line in the ledger. A ledger with a line missing would accuse the server, so a failed write ends the process.
    fn keep(&self, outcome: Outcome, message: &Message, recipients: usize, queue_id: Option<&str>) {
        let Some(ledger) = &self.job.ledger else { return };
        let workload = self.workload.borrow();
        let checksum = Checksum::of(&[message.header.as_bytes(), &workload.body()]);
        let entry = Entry { outcome, tag: &message.tag, size: workload.size(), checksum, recipients, queue_id };
        if let Err(error) = ledger.append(&entry) {
            crate::complain(&format!("penstock-loadgen: cannot write the ledger: {error}"));
            std::process::exit(1);
        }
    }
}

/// Only a client that breaks its own rules comes here; the session is given up rather than the run.
fn unexpected(event: &Event) -> Failure {
    Failure::new("client: an event out of order", format!("{event:?}"))
}

fn span(phase: Phase) -> Option<Span> {
    match phase {
        Phase::Greeting => Some(Span::Greeting),
        Phase::Hello => Some(Span::Ehlo),
        Phase::Auth => Some(Span::Auth),
        Phase::Envelope => Some(Span::Envelope),
        Phase::Content => Some(Span::Content),
        // StartTls is timed in two parts where it ends; the others are no waits of ours.
        Phase::StartTls | Phase::Ready | Phase::Quit => None,
    }
}

fn place(phase: Phase) -> &'static str {
    match phase {
        Phase::Greeting => "greeting",
        Phase::Hello => "ehlo",
        Phase::StartTls => "starttls",
        Phase::Auth => "auth",
        Phase::Ready => "between messages",
        Phase::Envelope => "envelope",
        Phase::Content => "content",
        Phase::Quit => "quit",
    }
}
