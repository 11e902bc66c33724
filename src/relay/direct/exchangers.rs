//! Whom to connect to for a domain, by what name servers say of it. Pure. RFC 5321 section 5.1, RFC 7505, RFC 3463.
//!
//! | DNS says | what follows | the sender is told |
//! |---|---|---|
//! | no such domain | it goes back | 550 5.1.2, the destination does not exist |
//! | null MX | it goes back | 556 5.1.10 (RFC 7505 section 3) |
//! | MX | the lowest preference first; equal ones by chance | |
//! | no MX, but an address | that is the mail server (implicit MX) | |
//! | neither | it goes back | 550 5.4.4, unable to route: RFC 3463's own example of it |
//! | MX, but none has an address, or none that is public | it goes back | 550 5.4.4 |
//! | we are among them | we, and those after us, are left out | 554 5.4.6 if nobody is left |
//! | nothing: no answer, SERVFAIL, REFUSED | it waits | 4.4.3, directory server failure |
//! | nothing, and without a word for it: aliases in a circle, an answer to something else | it waits | 4.4.3 |
//!
//! No MX without a word for it is taken for no MX as long as there is an address: some servers leave the word out. An alias
//! (CNAME) is followed by the name servers. What is no host name is left out, whatever its rank, and so is what has
//! no address while others have one. Of what is left, [`HOSTS_MAX`] hosts and [`ADDRESSES_MAX`] addresses are kept.

use super::reach::Reach;
use crate::policy::domain_name::DomainName;
use crate::services::dns::{Answer, NAME_BYTES_MAX, Record};
use crate::smtp::client::Reply;
use std::collections::HashSet;
use std::net::IpAddr;

/// Mail servers of one domain that are looked at: more than anybody has that means well.
pub const HOSTS_MAX: usize = 20;
/// Addresses of all of them together.
pub const ADDRESSES_MAX: usize = 40;
/// Addresses of one of them.
const HOST_ADDRESSES_MAX: usize = 5;
/// Octets of a label: RFC 1035 section 2.3.4.
const LABEL_BYTES_MAX: usize = 63;

/// What is said of [`Answer::Nothing`].
const UNPROVEN: &str = "the name server names nobody, and does not say that there is nobody";

/// A mail server of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchanger {
    /// Its name in lower case; `[192.0.2.1]` where the recipient named an address.
    pub name: String,
    /// The lowest is asked first.
    pub preference: u16,
    /// In order, so that two answers with the same ones are equal; one at least.
    pub addresses: Vec<IpAddr>,
}

impl Exchanger {
    /// In the order in which they are tried; each `turn` begins with another.
    pub fn in_turn(&self, turn: usize) -> Vec<IpAddr> {
        let (mut v4, mut v6): (Vec<IpAddr>, Vec<IpAddr>) = self.addresses.iter().partition(|address| address.is_ipv4());
        for family in [&mut v4, &mut v6] {
            let by = turn % family.len().max(1);
            family.rotate_left(by);
        }
        alternating(&v4, &v6)
    }
}

/// What is to be looked up next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// A host.
    pub name: String,
    /// The lowest is asked first.
    pub preference: u16,
}

/// Why nobody is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nobody {
    /// For good: what the sender is told.
    Refused(Reply),
    /// For now: why, with a status.
    Unknown(String),
}

/// What a recipient's domain is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Domain {
    /// A name, in the form in which name servers are asked for it.
    Name(String),
    /// An address that the recipient named (RFC 5321 section 4.1.3).
    Literal(IpAddr),
}

impl Domain {
    /// From what stands behind the `@`. None: it is no domain. The session lets nobody name such a one.
    pub fn new(text: &[u8]) -> Option<Domain> {
        if let Some(literal) = text.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
            let literal = std::str::from_utf8(literal).ok()?;
            let address = match literal.split_at_checked(5) {
                Some((tag, v6)) if tag.eq_ignore_ascii_case("IPv6:") => v6,
                _ => literal,
            };
            return address.parse().ok().map(Domain::Literal);
        }
        let name = DomainName::new(text.strip_suffix(b".").unwrap_or(text))?;
        Some(Domain::Name(name.as_str().to_owned()))
    }
}

/// The hosts of which addresses are looked up, by what is said of the MX records of `domain`. `own`: our own name.
pub fn candidates(domain: &str, answer: &Answer, own: &str) -> Result<Vec<Candidate>, Nobody> {
    let records = match answer {
        Answer::Found(records) => records,
        // The domain itself: RFC 5321 section 5.1. If that is we, the mail would come back.
        Answer::NoData | Answer::Nothing if is_own(domain, own) => return Err(ourselves(domain)),
        Answer::NoData | Answer::Nothing => return Ok(vec![Candidate { name: domain.to_owned(), preference: 0 }]),
        Answer::NoName => return Err(no_such(domain)),
        Answer::Unknown(why) => return Err(unknown(domain, why)),
    };
    let exchanges = records.iter().filter_map(|record| match record {
        Record::Exchange(preference, name) => Some((*preference, name.as_str())),
        Record::Address(_) => None,
    });
    let mut exchanges: Vec<(u16, &str)> = exchanges.collect();
    if let [(_, "")] = exchanges[..] {
        return Err(refused(556, format!("5.1.10 {domain} does not accept mail (null MX)")));
    }
    exchanges.sort_unstable();
    let mut seen = HashSet::new();
    exchanges.retain(|(_, name)| seen.insert(*name));
    // Whoever is behind us would hand it to us: RFC 5321 section 5.1.
    if let Some(ours) = exchanges.iter().filter(|(_, name)| is_own(name, own)).map(|(preference, _)| *preference).min()
    {
        exchanges.retain(|(preference, _)| *preference < ours);
        if exchanges.is_empty() {
            return Err(ourselves(domain));
        }
    }
    exchanges.retain(|(_, name)| is_host_name(name));
    exchanges.truncate(HOSTS_MAX);
    if exchanges.is_empty() {
        return Err(refused(550, format!("5.4.4 the mail servers that DNS names for {domain} are no hosts")));
    }
    let candidate = |(preference, name): (u16, &str)| Candidate { name: name.to_owned(), preference };
    Ok(exchanges.into_iter().map(candidate).collect())
}

/// Whom to connect to. `answer`: as for [`candidates`]; `answers`: of each candidate what is said of its IPv4 and of its IPv6
/// addresses.
pub fn exchangers(
    domain: &str,
    answer: &Answer,
    candidates: &[Candidate],
    answers: &[[Answer; 2]],
    reach: &Reach,
) -> Result<Vec<Exchanger>, Nobody> {
    let mut room = ADDRESSES_MAX;
    let (mut found, mut hidden, mut unanswered) = (Vec::new(), Vec::new(), None);
    for (Candidate { name, preference }, answers) in candidates.iter().zip(answers) {
        let mut addresses = Vec::new();
        for address in alternating(&addresses_in(&answers[0]), &addresses_in(&answers[1])) {
            match reach.refuses(address) {
                Some(what) => hidden.push(format!("{name} has {address}, {what}")),
                None => addresses.push(address),
            }
        }
        addresses.truncate(HOST_ADDRESSES_MAX.min(room));
        addresses.sort_unstable();
        room -= addresses.len();
        if !addresses.is_empty() {
            found.push(Exchanger { name: name.clone(), preference: *preference, addresses });
        }
        let why = answers.iter().find_map(|answer| match answer {
            Answer::Unknown(why) => Some(format!("{name}: {why}")),
            Answer::Nothing => Some(format!("{name}: {UNPROVEN}")),
            Answer::Found(_) | Answer::NoData | Answer::NoName => None,
        });
        unanswered = unanswered.or(why);
    }
    if *answer == Answer::Nothing {
        unanswered = unanswered.or_else(|| Some(UNPROVEN.to_owned()));
    }
    match (found.is_empty(), unanswered, hidden.first()) {
        (false, _, _) => Ok(found),
        (true, Some(why), _) => Err(unknown(domain, &why)),
        (true, None, Some(first)) => {
            Err(refused(550, format!("5.4.4 the mail servers of {domain} have no public address: {first}")))
        }
        (true, None, None) => Err(homeless(domain, candidates, answers)),
    }
}

/// An address that the recipient named.
pub fn literal(address: IpAddr, reach: &Reach) -> Result<Vec<Exchanger>, Nobody> {
    match reach.refuses(address) {
        Some(what) => Err(refused(550, format!("5.4.4 [{address}] is no public address: {what}"))),
        None => Ok(vec![Exchanger { name: format!("[{address}]"), preference: 0, addresses: vec![address] }]),
    }
}

/// IPv4 and IPv6 in turn, so that one of them without a way costs one try; IPv4 first, because a connection by IPv6 fails
/// late where it does, and more servers mistrust its addresses.
fn alternating(v4: &[IpAddr], v6: &[IpAddr]) -> Vec<IpAddr> {
    (0..v4.len().max(v6.len())).flat_map(|at| [v4.get(at), v6.get(at)]).flatten().copied().collect()
}

fn addresses_in(answer: &Answer) -> Vec<IpAddr> {
    let Answer::Found(records) = answer else { return Vec::new() };
    let address = |record: &Record| match record {
        Record::Address(address) => Some(*address),
        Record::Exchange(..) => None,
    };
    records.iter().filter_map(address).collect()
}

/// Nobody has an address.
fn homeless(domain: &str, candidates: &[Candidate], answers: &[[Answer; 2]]) -> Nobody {
    let names: Vec<&str> = candidates.iter().map(|candidate| &*candidate.name).collect();
    match (names[..] == [domain], answers) {
        (true, [[Answer::NoName, _] | [_, Answer::NoName]]) => no_such(domain),
        (true, _) => refused(550, format!("5.4.4 {domain} has no mail server: neither MX nor an address in DNS")),
        (false, _) => {
            refused(550, format!("5.4.4 the mail servers of {domain} have no address in DNS: {}", names.join(", ")))
        }
    }
}

fn no_such(domain: &str) -> Nobody {
    refused(550, format!("5.1.2 there is no domain {domain}"))
}

fn ourselves(domain: &str) -> Nobody {
    refused(
        554,
        format!("5.4.6 mail loops back to myself: I am the mail server of {domain} myself, and have no mailboxes"),
    )
}

fn unknown(domain: &str, why: &str) -> Nobody {
    Nobody::Unknown(format!("4.4.3 the mail servers of {domain} cannot be looked up: {why}"))
}

fn refused(code: u16, text: String) -> Nobody {
    Nobody::Refused(Reply::ours(code, text))
}

fn is_own(name: &str, own: &str) -> bool {
    name.eq_ignore_ascii_case(own.strip_suffix('.').unwrap_or(own))
}

/// Letters, digits, hyphens, and the underscores of real host names. DNS itself allows any octet, and nothing of that kind
/// may come into logs, notifications and certificates' names.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_')
    };
    name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests;
