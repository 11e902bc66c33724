//! A domain that mail is delivered to directly: what is known of its mail servers, and connections to them.

use super::exchangers::{Candidate, Domain, Exchanger, Nobody, candidates, exchangers, literal};
use super::reach::Reach;
use crate::config::{self, Target};
use crate::relay::connection::{Connection, Unopened};
use crate::relay::lease::{Hosts, Lease};
use crate::relay::pool::{Ranked, Settings};
use crate::relay::route::Destination;
use crate::relay::task::Tools;
use crate::services::Dns;
use crate::services::dns::{self, Answer, Counts, Kind};
use crate::smtp::client::Reply;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// A domain with mail, or without for a while.
pub struct Site {
    /// The destination that its route has without regard to the domain.
    pub base: Destination,
    /// As it stands behind the `@`, in the one form in which two spellings are equal; empty: none stands there.
    pub domain: Box<str>,
    /// For whose mail it got its place: a hash.
    pub opener: u32,
    /// Changes each time it becomes idle.
    pub idled: Cell<u64>,
    known: RefCell<Option<Rc<Known>>>,
}

/// Its mail servers, as DNS has them now.
struct Known {
    exchangers: Vec<Exchanger>,
    hosts: Hosts,
    /// Connections that were begun: each begins with another of a server's addresses.
    opened: Cell<usize>,
}

/// What all sites share.
pub struct Direct {
    /// Who is asked.
    pub dns: Dns,
    /// To the first probe of a server that is down, milliseconds.
    pub probe_first_ms: u64,
}

impl Direct {
    /// Starts the name resolver, if a route needs it. `counts`: what came of its questions. Errors: one line with a remedy.
    pub fn start(config: &config::Relay, counts: Arc<Counts>) -> Result<Option<Direct>, String> {
        if !config.routes.iter().any(|route| matches!(route.target, Target::Mx(_))) {
            return Ok(None);
        }
        let config::Direct { name_servers, dns_timeout_s, .. } = &config.direct;
        let dns = Dns::start(&dns::Options { servers: name_servers.clone(), timeout_s: *dns_timeout_s }, counts)?;
        Ok(Some(Direct { dns, probe_first_ms: config.retry_first_s.saturating_mul(1000) }))
    }
}

impl Site {
    /// Of which nothing is known.
    pub fn new(base: Destination, domain: &str, opener: u32) -> Site {
        Site { base, domain: domain.into(), opener, idled: Cell::new(0), known: RefCell::new(None) }
    }

    /// What it is called in logs and by operators.
    pub fn name(&self) -> String {
        format!("mx of {}", self.domain)
    }

    /// How many connections it may have now: one, until its servers are known.
    pub fn room(&self) -> usize {
        let known = self.known.borrow();
        known.as_ref().map_or(1, |known| known.hosts.rooms().iter().map(|(_, room)| room).sum::<usize>().max(1))
    }

    /// The clock was set back: pauses of its servers last as long as they were meant to.
    pub fn set_back(&self, by_ms: u64) {
        self.known.borrow().iter().for_each(|known| known.hosts.set_back(by_ms));
    }

    /// A connection to one of its servers for mail of `sender`, by preference; each is tried once. Errors: that of a server that
    /// may be better another time, else of one that never will be.
    pub async fn open(&self, sender: u32, tools: &Rc<Tools>) -> Result<(Lease, Connection), Unopened> {
        let known = self.look_up(sender, tools).await.map_err(|nobody| match nobody {
            Nobody::Refused(reply) => Unopened::Refused(reply),
            Nobody::Unknown(why) => Unopened::Unreachable(why),
        })?;
        if let Some(lease) = known.hosts.probe(0) {
            monoio::spawn(probe(lease, self.base, sender, known.clone(), tools.clone()));
        }
        let (mut tried, mut trouble) = (Vec::new(), None);
        while let Some(lease) = known.hosts.lease(0, &tried).await {
            match known.open_at(&lease, self.base, sender, tools).await {
                Ok(connection) => return Ok((lease, connection)),
                Err(unopened) => {
                    if is_ourselves(&unopened) {
                        tried.extend(known.behind(lease.member()));
                    }
                    if trouble.is_none() || matches!(unopened, Unopened::Unreachable(_) | Unopened::Busy(_)) {
                        trouble = Some(unopened);
                    }
                }
            }
            tried.push(lease.member());
        }
        Err(trouble.unwrap_or_else(|| Unopened::Unreachable("it has no mail servers".into())))
    }

    /// Asks name servers, or what they said lately. What is known of servers that are still named is kept.
    async fn look_up(&self, sender: u32, tools: &Tools) -> Result<Rc<Known>, Nobody> {
        let (Some(direct), Target::Mx(mx)) = (&tools.direct, &tools.ways[self.base].target) else {
            return Err(Nobody::Unknown("4.3.5 nobody is there to be asked for mail servers".into()));
        };
        let reach = Reach::new(mx.reachable.clone());
        let asked = ask(&self.domain, &tools.context.hostname, &reach, &direct.dns, sender);
        let found = monoio::time::timeout(direct.dns.lookup_max(), asked).await;
        let found = found.unwrap_or_else(|_| Err(late(&self.domain)))?;
        let mut known = self.known.borrow_mut();
        if let Some(known) = known.as_ref().filter(|known| known.exchangers == found) {
            return Ok(known.clone());
        }
        let settings = Settings { connections_max: mx.connections_max, probe_first_ms: direct.probe_first_ms };
        let pool: Ranked = found.iter().map(|one| (one.name.clone(), one.preference)).collect();
        let hosts = Hosts::ranked(settings, pool, known.as_ref().map(|before| &before.hosts));
        Ok(known.insert(Rc::new(Known { exchangers: found, hosts, opened: Cell::new(0) })).clone())
    }
}

impl Known {
    /// Servers that are not preferred to this one. If that is we under another name, they would hand the mail to us: RFC 5321
    /// section 5.1.
    fn behind(&self, member: usize) -> Vec<usize> {
        let preference = self.exchangers[member].preference;
        (0..self.exchangers.len()).filter(|&other| self.exchangers[other].preference >= preference).collect()
    }

    async fn open_at(
        &self,
        lease: &Lease,
        base: Destination,
        sender: u32,
        tools: &Tools,
    ) -> Result<Connection, Unopened> {
        let turn = self.opened.replace(self.opened.get().wrapping_add(1));
        let exchanger = &self.exchangers[lease.member()];
        let addresses = exchanger.in_turn(turn);
        let way = &tools.ways[base];
        let (name, hurried) = (&exchanger.name, lease.has_another());
        let opened = Connection::open_to(way, name, &addresses, sender, hurried, &tools.context).await;
        lease.opened(&opened);
        opened
    }
}

/// Is it we who answered?
fn is_ourselves(unopened: &Unopened) -> bool {
    matches!(unopened, Unopened::Refused(reply) if reply.ours && reply.text.starts_with("5.4.6 "))
}

/// Is a server back that was down? Opens and closes a connection; no message waits for it.
async fn probe(lease: Lease, base: Destination, sender: u32, known: Rc<Known>, tools: Rc<Tools>) {
    if let Ok(connection) = known.open_at(&lease, base, sender, &tools).await {
        connection.close().await;
    }
}

/// A lookup took as long as it may.
fn late(domain: &str) -> Nobody {
    Nobody::Unknown(format!("4.4.3 the mail servers of {domain} cannot be looked up: no answer in time"))
}

/// The mail servers of `domain`, for mail of `sender`; without a domain our own are meant (RFC 5321 section 4.5.1: postmaster).
async fn ask(domain: &str, own: &str, reach: &Reach, dns: &Dns, sender: u32) -> Result<Vec<Exchanger>, Nobody> {
    let text = if domain.is_empty() { own } else { domain };
    let name = match Domain::new(text.as_bytes()) {
        Some(Domain::Name(name)) => name,
        Some(Domain::Literal(address)) => return literal(address, reach),
        None => return Err(Nobody::Refused(Reply::ours(550, "5.1.2 the recipient has no domain".into()))),
    };
    let answer = dns.ask(&name, Kind::Mx, sender).answer().await;
    let candidates = candidates(&name, &answer, own)?;
    // All at once, and then one after the other: the last is as late as the slowest.
    let ask_both = |one: &Candidate| [Kind::A, Kind::Aaaa].map(|kind| dns.ask(&one.name, kind, sender));
    let pending: Vec<_> = candidates.iter().map(ask_both).collect();
    let mut answers: Vec<[Answer; 2]> = Vec::new();
    for [v4, v6] in pending {
        answers.push([v4.answer().await, v6.answer().await]);
    }
    exchangers(&name, &answer, &candidates, &answers, reach)
}
