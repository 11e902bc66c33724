//! Questions to name servers: a domain's mail exchangers, and a host's addresses.
//!
//! ```text
//!  relay --Question--> bounded queue --> thread "dns": turns --> tokio, hickory-resolver --Answer--> one-shot
//! ```
//!
//! What an answer means for mail is decided by who asks. Promises: the asker's thread never waits; there is a bound to
//! questions that wait ([`QUEUE`]), that are under way ([`UNDER_WAY`]) and to answers that are kept ([`KEPT`]), and of the
//! first two one sender's mail does not take all ([`turns`]); answers are kept as long as their TTL says, but no longer than
//! [`KEPT_MAX`], and "there is none" no longer than [`NONE_KEPT_MAX`]; a failure is not kept. Only DNS is asked: not the
//! hosts file, and no search list.
//!
//! **How long it may take:** one question is under way for [`TRIES`] times `dns_timeout_s` and a second at most, however many
//! aliases it leads over. All questions of one lookup have [`Dns::lookup_max`] together, the time in which they wait for their
//! turn included; then it counts as unanswered, and those that are still under way are given up.

use crate::log::{self, Level};
use crate::metrics::histogram::PHASE_US;
use crate::metrics::{Counter, Histogram};
use futures_channel::oneshot;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use turns::Turns;

mod turns;

/// Questions that wait; past it the answer is "busy". One domain has 41 at most.
const QUEUE: usize = 4096;
/// Questions that name servers are asked at a time.
const UNDER_WAY: usize = 64;
/// Answers that are kept: about a KiB each, more with many records.
const KEPT: u64 = 8192;
/// Longest time for which an answer is kept: who moves a mail server and forgets its TTL of weeks gets mail after a day.
const KEPT_MAX: Duration = Duration::from_secs(86_400);
/// Longest time for which it is kept that there is none. RFC 2308 section 5 has one to three hours; here mail goes back to its
/// sender meanwhile, and whoever has just made a name is in a hurry.
const NONE_KEPT_MAX: Duration = Duration::from_secs(300);
/// Why a question is not even asked.
const BUSY: &str = "the name resolver is busy";
/// Tries of one question, at all name servers.
const TRIES: u32 = 3;
/// Octets of a name, without a final dot: RFC 1035 section 3.1.
pub const NAME_BYTES_MAX: usize = 253;

/// What is asked of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its mail exchangers.
    Mx,
    /// Its IPv4 addresses.
    A,
    /// Its IPv6 addresses.
    Aaaa,
}

/// One of the answer's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Preference, and a name in lower case without a final dot: empty for the root. Whatever stands in DNS: it may have any
    /// octet, escaped as in a zone file.
    Exchange(u16, String),
    /// An address.
    Address(IpAddr),
}

/// What the name servers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One record at least.
    Found(Vec<Record>),
    /// There is such a name, and nothing of this kind.
    NoData,
    /// There is no such name.
    NoName,
    /// Nothing, and nobody's word that there is nothing, which would be the zone's SOA record (RFC 2308 section 2.2): an alias
    /// that leads in a circle or too far, an answer to something else, or a server that leaves it out.
    Nothing,
    /// Nobody knows, for now: why.
    Unknown(String),
}

/// How to ask.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom; empty: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// For one answer of one of them, seconds.
    pub timeout_s: u64,
}

struct Question {
    name: String,
    kind: Kind,
    asker: u32,
    answer: oneshot::Sender<Answer>,
}

/// A handle to the thread, which ends when the last is dropped.
#[derive(Clone)]
pub struct Dns {
    questions: mpsc::Sender<Question>,
    lookup_max: Duration,
}

/// What came of questions. The thread "dns" alone counts.
#[derive(Debug)]
pub struct Counts {
    /// Records were found.
    pub found: Counter,
    /// There are none, on a name server's word.
    pub none: Counter,
    /// Nobody knows, for now.
    pub failed: Counter,
    /// Time of each question under way, answers that were kept included.
    pub time: Histogram,
}

impl Default for Counts {
    fn default() -> Counts {
        let (found, none, failed) = Default::default();
        Counts { found, none, failed, time: Histogram::new(&PHASE_US) }
    }
}

impl Counts {
    fn count(&self, answer: &Answer) {
        match answer {
            Answer::Found(_) => self.found.add(1),
            Answer::NoData | Answer::NoName => self.none.add(1),
            Answer::Nothing | Answer::Unknown(_) => self.failed.add(1),
        }
    }
}

/// An answer that is to come.
pub struct Pending(Result<oneshot::Receiver<Answer>, &'static str>);

impl Dns {
    /// Starts the thread. Errors: one line with a remedy.
    pub fn start(options: &Options, counts: Arc<Counts>) -> Result<Dns, String> {
        let resolver = resolver(options)?;
        let limit = Duration::from_secs(options.timeout_s) * TRIES + Duration::from_secs(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("the name resolver cannot start: {error}"))?;
        let (questions, asked) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("dns".into());
        thread
            .spawn(move || runtime.block_on(Server { resolver, limit, counts }.serve(asked)))
            .map_err(|error| format!("the name resolver cannot start a thread: {error}; raise the limit of threads"))?;
        // Two, one after the other, and for each as long again to wait for its turn.
        Ok(Dns { questions, lookup_max: limit * 4 })
    }

    /// How long it may take to find out about a domain: its mail exchangers, and then their addresses.
    pub fn lookup_max(&self) -> Duration {
        self.lookup_max
    }

    /// Asks for `asker`, a hash of whose mail it is for. `name` is ASCII, without a final dot.
    pub fn ask(&self, name: &str, kind: Kind, asker: u32) -> Pending {
        let (answer, answered) = oneshot::channel();
        let question = Question { name: name.to_owned(), kind, asker, answer };
        Pending(match self.questions.try_send(question) {
            Ok(()) => Ok(answered),
            Err(mpsc::error::TrySendError::Full(_)) => Err(BUSY),
            Err(mpsc::error::TrySendError::Closed(_)) => Err("the name resolver has stopped"),
        })
    }
}

impl Pending {
    /// Waits for it.
    pub async fn answer(self) -> Answer {
        match self.0 {
            Ok(answered) => answered.await.unwrap_or_else(|_| Answer::Unknown("the name resolver has stopped".into())),
            Err(why) => Answer::Unknown(why.into()),
        }
    }
}

fn resolver(options: &Options) -> Result<TokioResolver, String> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = match &options.servers[..] {
        [] => TokioResolver::builder_tokio().map_err(|error| {
            format!("/etc/resolv.conf cannot be read: {error}; name your name servers in relay.name_servers")
        })?,
        servers => {
            let servers = servers.iter().map(|&address| server(address)).collect();
            TokioResolver::builder_with_config(ResolverConfig::from_name_servers(servers), provider)
        }
    };
    let set: &mut ResolverOpts = builder.options_mut();
    set.timeout = Duration::from_secs(options.timeout_s);
    set.attempts = TRIES as usize - 1;
    set.cache_size = KEPT;
    set.use_hosts_file = ResolveHosts::Never;
    (set.positive_max_ttl, set.negative_max_ttl) = (Some(KEPT_MAX), Some(NONE_KEPT_MAX));
    set.preserve_intermediates = false;
    set.try_tcp_on_error = true;
    set.max_active_requests = UNDER_WAY;
    builder.build().map_err(|error| format!("the name resolver cannot start: {error}"))
}

/// By UDP, and by TCP what is too long for that.
fn server(address: SocketAddr) -> NameServerConfig {
    let connection = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = address.port();
        connection
    };
    NameServerConfig::new(address.ip(), true, vec![connection(ProtocolConfig::Udp), connection(ProtocolConfig::Tcp)])
}

/// What the thread needs for a question.
#[derive(Clone)]
struct Server {
    resolver: TokioResolver,
    /// For one question.
    limit: Duration,
    counts: Arc<Counts>,
}

/// What the thread waits for.
enum Woken {
    Asked(Question),
    /// One of this asker's questions is no longer under way.
    Ended(u32),
    /// Nobody will ask any more.
    Gone,
}

/// A question that is under way, until this is dropped: by a panic too, or its place would be lost for good.
struct UnderWay {
    asker: u32,
    end: mpsc::UnboundedSender<u32>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // The thread may be about to end.
        let _ = self.end.send(self.asker);
    }
}

impl Server {
    async fn serve(self, mut asked: mpsc::Receiver<Question>) {
        let (end, mut ended) = mpsc::unbounded_channel();
        let mut turns = Turns::new(QUEUE, UNDER_WAY);
        loop {
            while let Some((asker, question)) = turns.next() {
                let (server, under_way) = (self.clone(), UnderWay { asker, end: end.clone() });
                tokio::spawn(async move {
                    server.answer(question).await;
                    drop(under_way);
                });
            }
            let woken = poll_fn(|context| match ended.poll_recv(context) {
                Poll::Ready(Some(asker)) => Poll::Ready(Woken::Ended(asker)),
                _ => asked.poll_recv(context).map(|asked| asked.map_or(Woken::Gone, Woken::Asked)),
            });
            match woken.await {
                Woken::Asked(question) => {
                    if let Err(Question { answer, .. }) = turns.put(question.asker, question) {
                        let busy = Answer::Unknown(BUSY.into());
                        self.counts.count(&busy);
                        // Who asked may have stopped waiting, here and below.
                        let _ = answer.send(busy);
                    }
                }
                Woken::Ended(asker) => turns.ended(asker),
                Woken::Gone => return,
            }
        }
    }

    async fn answer(&self, Question { name, kind, mut answer, .. }: Question) {
        if answer.is_canceled() {
            return;
        }
        let began = Instant::now();
        let mut looked_up = pin!(tokio::time::timeout(self.limit, look_up(&self.resolver, &name, kind)));
        let unless_given_up = poll_fn(|context| match looked_up.as_mut().poll(context) {
            Poll::Ready(looked_up) => Poll::Ready(Some(looked_up)),
            Poll::Pending => answer.poll_canceled(context).map(|()| None),
        });
        let unanswered = || Answer::Unknown("the name servers do not answer".into());
        let found = unless_given_up.await.map_or_else(unanswered, |found| found.unwrap_or_else(|_| unanswered()));
        self.counts.time.count_time(began.elapsed());
        self.counts.count(&found);
        let _ = answer.send(found);
    }
}

async fn look_up(resolver: &TokioResolver, name: &str, kind: Kind) -> Answer {
    let record_type = match kind {
        Kind::Mx => RecordType::MX,
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
    };
    let full = match Name::from_ascii(format!("{name}.")) {
        Ok(full) if name.len() <= NAME_BYTES_MAX && !name.is_empty() => full,
        // What cannot be asked for is not there.
        _ => return Answer::NoName,
    };
    match resolver.lookup(full, record_type).await {
        Ok(found) => {
            let records: Vec<Record> = found.answers().iter().filter_map(|record| read(&record.data, kind)).collect();
            if records.is_empty() { Answer::Nothing } else { Answer::Found(records) }
        }
        Err(error) => refused(&error),
    }
}

/// A record, if it is of the kind that was asked for: there may be aliases beside.
fn read(data: &RData, kind: Kind) -> Option<Record> {
    match (data, kind) {
        (RData::MX(mx), Kind::Mx) => {
            let name = mx.exchange.to_lowercase().to_ascii();
            Some(Record::Exchange(mx.preference, name.trim_end_matches('.').to_owned()))
        }
        (RData::A(address), Kind::A) => Some(Record::Address(IpAddr::V4(address.0))),
        (RData::AAAA(address), Kind::Aaaa) => Some(Record::Address(IpAddr::V6(address.0))),
        _ => None,
    }
}

/// Only what a name server says in so many words is believed to be so for good.
fn refused(error: &NetError) -> Answer {
    match error {
        // A delegation, where an answer was asked for: that server is no resolver, and knows nothing of the name.
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.soa.is_none() && none.ns.is_some() => {
            log::event(Level::Warning, "a name server does not resolve names, look at relay.name_servers").emit();
            Answer::Unknown("the name server only refers to others".into())
        }
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => Answer::NoName,
            ResponseCode::NoError if none.soa.is_some() => Answer::NoData,
            ResponseCode::NoError => Answer::Nothing,
            other => Answer::Unknown(format!("the name server says {other}")),
        },
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => {
            Answer::Unknown("the name server could not find out (SERVFAIL)".into())
        }
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => {
            Answer::Unknown("the name server refuses to answer (REFUSED)".into())
        }
        NetError::Dns(DnsError::ResponseCode(code)) => Answer::Unknown(format!("the name server says {code}")),
        NetError::Timeout => Answer::Unknown("the name servers do not answer".into()),
        NetError::Io(error) => {
            Answer::Unknown(format!("the name servers cannot be reached: {}", log::without_number(error)))
        }
        other => Answer::Unknown(format!("the name servers cannot be asked: {other}")),
    }
}

#[cfg(test)]
mod tests;
