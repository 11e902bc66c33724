//! A server that takes everything and throws it away: the far end of a relay, or of `run` itself.
//!
//! ```text
//!  socket --> Stream --> Session --+-- Body --> counted; with a ledger also kept until the end, for its checksum
//!                                  '-- Commit --> [wait] --> 250, or every Nth time 451
//! ```
//!
//! It speaks through the library's own [`Session`] and answers its questions at once: there is always room, every
//! password is right, and a message is "durable" as soon as it is counted. Nothing survives it: never use it for mail.

use crate::ledger::{Checksum, Entry, Ledger, Outcome, tagged};
use crate::options::{Sink, SinkTls};
use monoio::net::{TcpListener, TcpStream};
use penstock::net::{self, Certificate, Driver, PemFiles, ServerTls, Shared, Stream};
use penstock::policy::{Role, TlsMode};
use penstock::smtp::Session;
use penstock::smtp::session::{Action, Answer, Question, QueueName, Refusal, Rules};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Seconds that a client may be silent. RFC 5321 section 4.5.3.2.7.
const IDLE: Duration = Duration::from_secs(300);
/// Connections that wait to be accepted, for each thread.
const BACKLOG: i32 = 1024;
/// A pause after a failed accept: without descriptors it would fail again at once, and again.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);
/// More than any client sends.
const RECIPIENTS_MAX: u32 = 100_000;

/// What came, over all threads.
#[derive(Debug, Default)]
pub struct Counts {
    connections: AtomicU64,
    handshakes: AtomicU64,
    logins: AtomicU64,
    accepted: AtomicU64,
    accepted_bytes: AtomicU64,
    refused: AtomicU64,
    /// Messages begun, for queue ids.
    begun: AtomicU64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        write!(
            f,
            "accepted {} messages, {} octets; refused {}; connections {}, TLS handshakes {}, logins {}",
            get(&self.accepted),
            get(&self.accepted_bytes),
            get(&self.refused),
            get(&self.connections),
            get(&self.handshakes),
            get(&self.logins),
        )
    }
}

/// What all threads share.
struct Service {
    options: Sink,
    rules: Arc<Rules>,
    tls: Arc<ServerTls>,
    ledger: Option<Ledger>,
    counts: Arc<Counts>,
}

/// Listens, starts the threads and returns; they run until the process ends. Errors: one line with a remedy.
pub fn start(options: Sink, driver: Driver, threads: u32) -> Result<(SocketAddr, Arc<Counts>), String> {
    let wanted = options.address;
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => format!("cannot listen on {wanted}: another process does; stop it or take port 0"),
        _ => format!("cannot listen on {wanted}: {error}"),
    };
    let mut listeners = vec![listen(wanted, driver, false).map_err(cannot)?];
    let address = listeners[0].local_addr().map_err(cannot)?;
    for _ in 1..threads {
        listeners.push(listen(address, driver, true).map_err(cannot)?);
    }
    let service = Arc::new(Service {
        rules: Arc::new(rules(&options)),
        tls: self_signed(&options.hostname)?,
        ledger: options.ledger.as_deref().map(Ledger::open).transpose()?,
        counts: Arc::default(),
        options,
    });
    for (number, listener) in listeners.into_iter().enumerate() {
        let service = service.clone();
        let main = move || match net::run(driver, None, serve(listener, service)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) | Err(error) => fatal(&format!("a listener ended: {error}")),
        };
        let started = std::thread::Builder::new().name(format!("sink {number}")).spawn(main);
        started.map_err(|error| format!("cannot start a thread: {error}"))?;
    }
    Ok((address, service.counts.clone()))
}

/// A listening socket. The first one is bound alone, because sockets that share a port would also share it, unnoticed,
/// with another process.
fn listen(address: SocketAddr, driver: Driver, shares: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shares)?;
    socket.bind(&address.into())?;
    // Once bound the first socket lets the others in, which have the option from the start.
    socket.set_reuse_port(true)?;
    socket.listen(BACKLOG)?;
    // A ring waits by itself and would take a nonblocking socket at its word.
    socket.set_nonblocking(driver == Driver::Epoll)?;
    Ok(socket.into())
}

fn rules(options: &Sink) -> Rules {
    Rules {
        role: Role::Smtp,
        tls: match options.tls {
            SinkTls::Offered => TlsMode::Offered,
            SinkTls::Required => TlsMode::Required,
            SinkTls::Implicit => TlsMode::Implicit,
        },
        mechanisms: penstock::sasl::Mechanisms::PASSWORD,
        message_bytes_max: options.message_bytes_max,
        recipients_max: RECIPIENTS_MAX,
        messages_per_session: u32::MAX,
        ..Rules::new(&options.hostname)
    }
}

fn self_signed(hostname: &str) -> Result<Arc<ServerTls>, String> {
    let names = [hostname, "localhost"].map(String::from);
    let made = rcgen::generate_simple_self_signed(names)
        .map_err(|error| format!("cannot make a certificate for \"{hostname}\": {error}"))?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let memory = PemFiles { certificate: "the certificate in memory".into(), key: "the key in memory".into() };
    let certificate = Certificate::new(&memory, vec![made.cert.der().clone()], key)?;
    ServerTls::new(vec![certificate]).map(Arc::new)
}

async fn serve(listener: std::net::TcpListener, service: Arc<Service>) -> io::Result<()> {
    let shared = Shared::start();
    let listener = TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                service.counts.connections.fetch_add(1, Ordering::Relaxed);
                let (service, shared) = (service.clone(), shared.clone());
                monoio::spawn(async move {
                    // A client that breaks off is its own affair; what it finished is counted.
                    let _ = connection(socket, &service, shared).await;
                });
            }
            Err(_) => monoio::time::sleep(PAUSE_AFTER_FAILURE).await,
        }
    }
}

/// The message being received.
#[derive(Default)]
struct Receiving {
    queue_name: Option<QueueName>,
    octets: u64,
    /// Only with a ledger.
    content: Vec<u8>,
}

/// What the session waits for.
enum Wanted {
    Begin,
    Commit,
    Verdict(Arc<str>),
    StartTls,
    Close,
}

/// One client.
struct Connection<'a> {
    service: &'a Service,
    shared: Rc<Shared>,
    stream: Stream,
    message: Receiving,
    out: Vec<u8>,
}

async fn connection(socket: TcpStream, service: &Service, shared: Rc<Shared>) -> io::Result<()> {
    let mut stream = Stream::tcp(socket, shared.clone());
    stream.set_deadline(IDLE);
    let out = shared.take_buffer();
    Connection { service, shared, stream, message: Receiving::default(), out }.serve().await
}

impl Connection<'_> {
    async fn serve(mut self) -> io::Result<()> {
        let secured = self.service.options.tls == SinkTls::Implicit;
        if secured {
            self.handshake().await?;
        }
        let mut session = Session::new(self.service.rules.clone(), true, secured, &mut self.out);
        let keep = self.service.ledger.is_some();
        loop {
            let Connection { stream, message, out, .. } = &mut self;
            let mut receive = |input: &[u8]| receive(&mut session, input, message, keep, out);
            // No input calls nobody, and `BDAT 0 LAST` needs none once it has been answered.
            let wanted = stream.feed(&mut receive)?.or_else(|| receive(b"").1);
            let answer = match wanted {
                Some(Wanted::Close) => break,
                Some(wanted) => self.answer(wanted, session.envelope().recipients()).await?,
                None => {
                    self.stream.write(&mut self.out).await?;
                    if self.stream.fill().await? == 0 {
                        return Ok(());
                    }
                    continue;
                }
            };
            session.answered(answer, &mut self.out);
        }
        self.stream.write(&mut self.out).await?;
        self.shared.give_buffer(self.out);
        self.stream.close().await;
        Ok(())
    }

    async fn answer(&mut self, wanted: Wanted, recipients: u32) -> io::Result<Answer> {
        let service = self.service;
        Ok(match wanted {
            Wanted::Begin => {
                let queue_name = service.queue_name();
                self.message.queue_name = Some(queue_name);
                Answer::Begun(queue_name)
            }
            Wanted::Verdict(user) => {
                service.counts.logins.fetch_add(1, Ordering::Relaxed);
                Answer::Accepted(user)
            }
            Wanted::Commit => {
                if service.options.delay > 0 {
                    self.stream.write(&mut self.out).await?;
                    monoio::time::sleep(Duration::from_millis(service.options.delay)).await;
                }
                service.commit(std::mem::take(&mut self.message), recipients)
            }
            Wanted::StartTls => {
                self.stream.write(&mut self.out).await?;
                self.handshake().await?;
                Answer::TlsStarted
            }
            Wanted::Close => unreachable!("handled where the connection ends"),
        })
    }

    async fn handshake(&mut self) -> io::Result<()> {
        self.stream.accept_tls(&self.service.tls).await?;
        self.service.counts.handshakes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Steps the session through `input` up to the first thing that it waits for.
fn receive(
    session: &mut Session,
    input: &[u8],
    message: &mut Receiving,
    keep: bool,
    out: &mut Vec<u8>,
) -> (usize, Option<Wanted>) {
    let mut used = 0;
    loop {
        let (took, action) = session.step(&input[used..], out);
        used += took;
        let wanted = match action {
            Action::NeedInput => None,
            Action::Flush => continue,
            Action::Body(piece) => {
                message.octets += piece.len() as u64;
                if keep {
                    message.content.extend_from_slice(piece);
                }
                continue;
            }
            Action::Abort => {
                *message = Receiving::default();
                continue;
            }
            Action::Recipient => unreachable!("users are not limited here"),
            Action::Begin => Some(Wanted::Begin),
            Action::Commit => Some(Wanted::Commit),
            Action::Ask(Question::Client(_)) => unreachable!("nobody may say XCLIENT here"),
            Action::Ask(Question::Password(credentials)) => Some(Wanted::Verdict(credentials.user.as_str().into())),
            Action::Ask(_) => unreachable!("SCRAM is not offered here"),
            Action::StartTls => Some(Wanted::StartTls),
            Action::Close => Some(Wanted::Close),
        };
        return (used, wanted);
    }
}

impl Service {
    fn queue_name(&self) -> QueueName {
        let mut name = [b'0'; 13];
        let number = format!("{:013}", self.counts.begun.fetch_add(1, Ordering::Relaxed) % 10_u64.pow(13));
        name.copy_from_slice(number.as_bytes());
        QueueName(name)
    }

    /// Counts a message, or refuses it.
    fn commit(&self, message: Receiving, recipients: u32) -> Answer {
        let number = 1 + self.counts.accepted.load(Ordering::Relaxed) + self.counts.refused.load(Ordering::Relaxed);
        if self.options.reject_every.is_some_and(|every| number.is_multiple_of(every)) {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return Answer::Refused(Refusal::DiskTrouble);
        }
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
        self.counts.accepted_bytes.fetch_add(message.octets, Ordering::Relaxed);
        if let Some(ledger) = &self.ledger {
            keep(ledger, &message, recipients);
        }
        Answer::Committed
    }
}

/// A line in the ledger. A ledger with a line missing would accuse the sender, so a failed write ends the process.
fn keep(ledger: &Ledger, message: &Receiving, recipients: u32) {
    let (tag, content) = tagged(&message.content).unwrap_or(("-", &message.content));
    let entry = Entry {
        outcome: Outcome::Received,
        tag,
        size: content.len() as u64,
        checksum: Checksum::of(&[content]),
        recipients: recipients as usize,
        queue_id: message.queue_name.as_ref().map(QueueName::as_str),
    };
    if let Err(error) = ledger.append(&entry) {
        fatal(&format!("cannot write the ledger: {error}"));
    }
}

fn fatal(what: &str) -> ! {
    crate::complain(&format!("penstock-loadgen: {what}"));
    std::process::exit(1);
}
