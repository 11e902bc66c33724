//! Questions to name servers: a domain's mail exchangers, and a host's addresses.
//!
//! ```text
//!  relay --Question--> bounded queue --> thread "dns" (tokio, hickory-resolver) --Answer--> one-shot
//! ```
//!
//! What an answer means for mail is decided by who asks. Promises: the asker's thread never waits; there is a bound to
//! questions that wait ([`QUEUE`]), that are under way ([`UNDER_WAY`]) and to answers that are kept ([`KEPT`]); answers are
//! kept as long as their TTL says, but no longer than [`KEPT_MAX`], and "there is none" no longer than [`NONE_KEPT_MAX`]; a
//! failure is not kept. Only DNS is asked: not the hosts file, and no search list.

use crate::log::{self, Level};
use futures_channel::oneshot;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

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
    answer: oneshot::Sender<Answer>,
}

/// A handle to the thread, which ends when the last is dropped.
#[derive(Clone)]
pub struct Dns {
    questions: mpsc::Sender<Question>,
}

/// An answer that is to come.
pub struct Pending(Result<oneshot::Receiver<Answer>, &'static str>);

impl Dns {
    /// Starts the thread. Errors: one line with a remedy.
    pub fn start(options: &Options) -> Result<Dns, String> {
        let resolver = resolver(options)?;
        let limit = Duration::from_secs(options.timeout_s) * TRIES + Duration::from_secs(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("the name resolver cannot start: {error}"))?;
        let (questions, asked) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("dns".into());
        thread
            .spawn(move || runtime.block_on(serve(asked, resolver, limit)))
            .map_err(|error| format!("the name resolver cannot start a thread: {error}; raise the limit of threads"))?;
        Ok(Dns { questions })
    }

    /// Asks. `name` is ASCII, without a final dot.
    pub fn ask(&self, name: &str, kind: Kind) -> Pending {
        let (answer, answered) = oneshot::channel();
        let question = Question { name: name.to_owned(), kind, answer };
        Pending(match self.questions.try_send(question) {
            Ok(()) => Ok(answered),
            Err(mpsc::error::TrySendError::Full(_)) => Err("the name resolver is busy"),
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

async fn serve(mut asked: mpsc::Receiver<Question>, resolver: TokioResolver, limit: Duration) {
    let places = Arc::new(Semaphore::new(UNDER_WAY));
    while let (Ok(place), Some(question)) = (places.clone().acquire_owned().await, asked.recv().await) {
        let resolver = resolver.clone();
        tokio::spawn(async move {
            let Question { name, kind, answer } = question;
            if !answer.is_canceled() {
                let looked_up = tokio::time::timeout(limit, look_up(&resolver, &name, kind)).await;
                let unanswered = || Answer::Unknown("the name servers do not answer".into());
                // Who asked may have stopped waiting.
                let _ = answer.send(looked_up.unwrap_or_else(|_| unanswered()));
            }
            drop(place);
        });
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
            if records.is_empty() { Answer::NoData } else { Answer::Found(records) }
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
            ResponseCode::NoError => Answer::NoData,
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
mod tests {
    use super::*;
    use hickory_resolver::net::NoRecords;
    use hickory_resolver::proto::op::Query;

    fn wait<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn a_full_queue_and_a_thread_that_is_gone_are_answers() {
        let (questions, asked) = mpsc::channel(1);
        let dns = Dns { questions };
        let first = dns.ask("a.example", Kind::Mx);
        let busy = Answer::Unknown("the name resolver is busy".into());
        assert_eq!(wait(dns.ask("a.example", Kind::A).answer()), busy);
        drop(asked);
        let stopped = Answer::Unknown("the name resolver has stopped".into());
        assert_eq!(wait(first.answer()), stopped);
        assert_eq!(wait(dns.ask("a.example", Kind::A).answer()), stopped);
    }

    #[test]
    fn nothing_but_the_word_of_a_name_server_is_believed_for_good() {
        let none = |code| {
            let name = Name::from_ascii("a.example.").expect("a name");
            NetError::from(NoRecords::new(Box::new(Query::query(name, RecordType::MX)), code))
        };
        assert_eq!(refused(&none(ResponseCode::NXDomain)), Answer::NoName);
        assert_eq!(refused(&none(ResponseCode::NoError)), Answer::NoData);
        let coded = |code| NetError::from(DnsError::ResponseCode(code));
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        for (error, words) in [
            (none(ResponseCode::ServFail), "the name server says"),
            (coded(ResponseCode::ServFail), "SERVFAIL"),
            (coded(ResponseCode::Refused), "REFUSED"),
            (coded(ResponseCode::FormErr), "the name server says"),
            (coded(ResponseCode::NXDomain), "the name server says"),
            (NetError::Timeout, "do not answer"),
            (NetError::Io(Arc::new(broken)), "cannot be reached"),
            (NetError::NoConnections, "cannot be asked"),
        ] {
            let Answer::Unknown(why) = refused(&error) else { panic!("{error} is no answer") };
            assert!(why.contains(words), "{why}");
        }
    }

    /// What may stand in an address and cannot in DNS is asked of nobody: there is no server here.
    #[test]
    fn what_is_no_name_does_not_exist() {
        let options = Options { servers: vec!["127.0.0.1:9".parse().expect("an address")], timeout_s: 1 };
        let dns = Dns::start(&options).expect("a thread");
        let long = ["a".repeat(63).as_str(); 4].join(".");
        for name in ["", ".", "a..b", &"a".repeat(64), &long] {
            assert_eq!(wait(dns.ask(name, Kind::Mx).answer()), Answer::NoName, "{name}");
        }
        let answer = wait(dns.ask("a_b.example", Kind::Mx).answer());
        assert!(matches!(answer, Answer::Unknown(_)), "{answer:?}");
    }
}
