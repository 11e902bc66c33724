//! Contradictions between keys: what each key by itself could not show. Mistakes where the result would not do what
//! anybody wants, warnings where somebody might.

use super::build::{Draft, Marks, Placed};
use super::notice::Notices;
use super::{Auth, Config, Listener, Route, Target, values};
use crate::policy::{Role, TlsMode, UsernameForm};
use std::net::IpAddr;
use std::ops::Range;

/// Octets of a recipient in an envelope at about the most: a mailbox of 256, ORCPT, NOTIFY.
const RECIPIENT_BYTES: u64 = 600;
/// Octets of a segment that are kept free of recipients and content: its header, the rest of the envelope.
const SEGMENT_SPARE_BYTES: u64 = 64 * 1024;

/// Looks at everything and notes what it finds.
pub fn check(draft: &Draft, notices: &mut Notices) {
    let (config, marks) = (&draft.config, &draft.places);
    name(config, marks, notices);
    help(config, marks, notices);
    listeners(config, marks, notices);
    admin(config, marks, notices);
    senders(config, marks, notices);
    proxies(marks, notices);
    mechanisms(config, marks, notices);
    if let Some(auth) = &config.auth {
        users(auth, marks, notices);
    }
    sizes_and_times(config, marks, notices);
    routes(config, marks, notices);
    if marks.routes_complete && marks.listeners_complete {
        destinations(config, marks, notices);
    }
    circles(config, marks, notices);
}

fn name(config: &Config, marks: &Marks, notices: &mut Notices) {
    if !config.hostname.is_empty() && !config.hostname.contains('.') && config.hostname != "localhost" {
        let what = format!("hostname \"{}\" has no domain (RFC 5321 section 2.3.5)", config.hostname);
        notices.warning(&marks.hostname, what, "write the name that clients connect to, as in \"smtp.example.edu\"");
    }
}

/// The page that refused clients are sent to.
fn help(config: &Config, marks: &Marks, notices: &mut Notices) {
    if !config.help.is_empty() && !config.help.starts_with("https://") {
        let what = format!("help = \"{}\" is no page that people can be sent to", config.help);
        notices.warning(&marks.help, what, "write an address with https://, as in \"https://help.example.edu/mail\"");
    }
}

/// Two sockets that would fight for the same clients, and ports with the wrong TLS mode.
fn listeners(config: &Config, marks: &Marks, notices: &mut Notices) {
    for (at, (listener, place)) in config.listeners.iter().zip(&marks.listeners).enumerate() {
        for (other, other_place) in config.listeners[..at].iter().zip(&marks.listeners) {
            let line = notices.line(other_place.start);
            if listener.address == other.address {
                let what = format!("{} is listened on in line {line} already", listener.address);
                notices.mistake(place, what, "remove one of the two, or give it another port");
            }
        }
        match (listener.address.port(), listener.tls) {
            (465, TlsMode::Required | TlsMode::Offered) => {
                let what = "clients of port 465 speak TLS from the first octet (RFC 8314 section 3.3)";
                notices.warning(place, what, "write tls = \"implicit\"");
            }
            (587 | 25, TlsMode::Implicit) => {
                let what = format!("clients of port {} begin in the clear", listener.address.port());
                notices.warning(place, what, "write tls = \"required\" or \"offered\"");
            }
            _ => {}
        }
    }
}

/// One port for two things.
fn admin(config: &Config, marks: &Marks, notices: &mut Notices) {
    let Some(admin) = &config.admin else { return };
    let meets = |listener: &Listener| {
        let (own, other) = (admin.listen, listener.address);
        let all = other.ip().is_unspecified() || own.ip().is_unspecified();
        own.port() == other.port() && own.is_ipv4() == other.is_ipv4() && (all || own.ip() == other.ip())
    };
    if let Some((_, place)) = config.listeners.iter().zip(&marks.listeners).find(|(listener, _)| meets(listener)) {
        let what = format!("{} is listened on for mail in line {}", admin.listen, notices.line(place.start));
        notices.mistake(&marks.admin, what, "give it another port, as in listen = \"127.0.0.1:9587\"");
    }
}

/// Who may send, by role.
fn senders(config: &Config, marks: &Marks, notices: &mut Notices) {
    let mut submissions = config.listeners.iter().zip(&marks.listeners).filter(|(l, _)| l.role == Role::Submission);
    if let (Some((_, place)), true) = (submissions.next(), marks.auth_is_absent) {
        let what = "nobody can log in, so nobody can send on a listener of role submission";
        notices.mistake(place, what, "add [auth] with users_file = \"users\"");
    }
    let smtp = config.listeners.iter().zip(&marks.listeners).find(|(l, _)| l.role == Role::Smtp);
    match smtp {
        Some((_, place)) if config.local_domains.is_empty() && marks.local_domains_complete => {
            let what = "clients that are neither authenticated nor in trusted_networks can send to nobody";
            notices.warning(place, what, "list your own domains: local_domains = [\"example.edu\"]");
        }
        None if marks.listeners_complete && !config.local_domains.is_empty() && config.local_recipients.is_none() => {
            let what = "local_domains has no effect without a listener of role smtp";
            notices.warning(&marks.local_domains, what, "remove it, or add such a listener");
        }
        _ => {}
    }
    if config.local_recipients.is_some() && config.local_domains.is_empty() && marks.local_domains_complete {
        let what = "local_recipients has no effect without local_domains";
        let remedy = "remove it, or list your own domains: local_domains = [\"example.edu\"]";
        notices.warning(&marks.files.local_recipients, what, remedy);
    }
    let open = everybody(&marks.trusted_networks);
    let is_open = !open.is_empty();
    for (text, place) in open {
        let what = format!("{text} is everybody: an open relay");
        notices.mistake(place, what, "name the networks of your own machines only");
    }
    if let (None, true, false, [(_, place), ..]) =
        (smtp, marks.listeners_complete, is_open, &marks.trusted_networks[..])
    {
        let what = "trusted_networks has no effect without a listener of role smtp";
        notices.warning(place, what, "remove it, or add such a listener");
    }
}

/// Whoever may say who its client is can be anybody.
fn proxies(marks: &Marks, notices: &mut Notices) {
    for (key, networks) in &marks.proxies {
        let everybody = everybody(networks);
        let is_said = !everybody.is_empty();
        for (text, place) in everybody {
            let what = format!("{key} = {text}: everybody could pretend to be anybody");
            notices.mistake(place, what, "name the addresses of your own proxies only");
        }
        let whole = networks.iter().filter(|(text, _)| !is_said && is_large(text));
        for (text, place) in whole {
            let what = format!("{key} = {text}: every machine in that network could pretend to be anybody");
            notices.warning(place, what, "name the addresses of your own proxies only, as in \"192.0.2.7\"");
        }
    }
    for (place, what, remedy) in &marks.idle {
        notices.warning(place, *what, *remedy);
    }
}

/// Is it a larger network than proxies have for themselves: shorter than /24, or /48 of IPv6?
fn is_large(text: &str) -> bool {
    let least = if text.contains(':') { 48 } else { 24 };
    text.split_once('/').and_then(|(_, bits)| bits.parse::<u8>().ok()).is_some_and(|bits| bits < least)
}

/// Those of a list of networks that are everybody, or, if no single one is, all of them if they are it together.
fn everybody(networks: &[Placed]) -> Vec<(String, &Range<usize>)> {
    let single = networks.iter().filter(|(text, _)| values::are_everybody([text.as_str()]));
    let single: Vec<_> = single.map(|(text, place)| (text.clone(), place)).collect();
    let texts = || networks.iter().map(|(text, _)| text.as_str());
    match networks {
        [(_, place), ..] if single.is_empty() && values::are_everybody(texts()) => {
            vec![(texts().collect::<Vec<_>>().join(" and "), place)]
        }
        _ => single,
    }
}

/// Mechanisms that nobody could use.
fn mechanisms(config: &Config, marks: &Marks, notices: &mut Notices) {
    for (listener, place) in config.listeners.iter().zip(&marks.files.mechanisms) {
        let Some(mechanisms) = listener.mechanisms else { continue };
        if mechanisms.is_empty() && listener.role == Role::Submission {
            let what = "without mechanisms nobody can send on a listener of role submission";
            notices.mistake(place, what, "name some, as in mechanisms = [\"PLAIN\", \"LOGIN\"], or remove the line");
        }
        if !mechanisms.is_empty() && marks.auth_is_absent {
            let what = "mechanisms are listed, and there is nobody who could check anything";
            notices.mistake(place, what, "add [auth] with users_file = \"users\"");
        }
    }
}

/// Contradictions within `[auth]`.
pub fn users(auth: &Auth, marks: &Marks, notices: &mut Notices) {
    if auth.username_form == UsernameForm::AppendDomain && auth.domain.is_none() {
        let what = "append-domain needs a domain to append";
        notices.mistake(&marks.auth, what, "add domain = \"example.edu\" to [auth]");
    }
    if auth.brake_account_failures > auth.brake_address_failures {
        let what = format!(
            "one account may fail {} times from an address, which with all accounts may only {} times",
            auth.brake_account_failures, auth.brake_address_failures
        );
        notices.warning(&marks.brake, what, "raise brake_address_failures, or lower brake_account_failures");
    }
}

/// A spool that is as large as it may be before the first message comes refuses all mail.
fn largest_spool(config: &Config, marks: &Marks, notices: &mut Notices) {
    let Some(most) = config.spool.bytes_max else { return };
    let cores = config.cores.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    // Each core and the relay write one segment and have another ready.
    let least = config.spool.reserve_bytes + (2 * (cores as u64 + 1) + 1) * config.spool.segment_bytes;
    if most < least {
        let what = format!(
            "size_max_mib leaves no room for mail: the reserve, and two segments for each of {cores} cores and the relay, take it all"
        );
        let remedy = format!("write at least size_max_mib = {}, or smaller reserve_mib and segment_mib", least >> 20);
        notices.mistake(&marks.size_max, what, remedy);
    }
}

fn sizes_and_times(config: &Config, marks: &Marks, notices: &mut Notices) {
    // A record, envelope and all, is at most half a segment, so that changing segments wastes little.
    let room = config.spool.segment_bytes / 4;
    if config.spool.spill_bytes > room {
        let what = "spill_kib is more than a quarter of a segment";
        let remedy = format!("write at most spill_kib = {}, or a larger segment_mib", room >> 10);
        notices.mistake(&marks.spill, what, remedy);
    }
    largest_spool(config, marks, notices);
    envelopes(config, marks, notices);
    if config.limits.receiving_bytes_per_core < config.spool.spill_bytes {
        let what = "receiving_mib_per_core holds not even one message of spill_kib";
        notices.mistake(&marks.receiving, what, "raise receiving_mib_per_core, or lower spool.spill_kib");
    }
    if config.limits.idle_timeout_s < 300 {
        let what = "RFC 5321 section 4.5.3.2.7 asks a server to wait five minutes for a command";
        notices.warning(&marks.idle_timeout, what, "write idle_timeout_s = 300 unless you have a reason");
    }
    let limits = &config.limits;
    if limits.login_timeout_s < limits.stranger_timeout_s {
        let what = format!(
            "who has not logged in is sent away after {} s, so stranger_timeout_s = {} has no effect on submission",
            limits.login_timeout_s, limits.stranger_timeout_s
        );
        notices.warning(&marks.login_timeout, what, "raise login_timeout_s, or lower stranger_timeout_s");
    }
    if limits.crowded_timeout_s > limits.stranger_timeout_s {
        let what = format!(
            "crowded_timeout_s = {} is longer than strangers may wait without a crowd, {} s: it has no effect on them",
            limits.crowded_timeout_s, limits.stranger_timeout_s
        );
        notices.warning(&marks.crowded_timeout, what, "write crowded_timeout_s = 10, or raise stranger_timeout_s");
    }
    if limits.connections_per_network < limits.connections_per_address {
        let what =
            format!("connections_per_network = {} is less than one address may have", limits.connections_per_network);
        let remedy = format!("write at least {}, or a lower connections_per_address", limits.connections_per_address);
        notices.mistake(&marks.per_network, what, remedy);
    }
    if (1..limits.recipients_max).contains(&limits.user_recipients_per_hour) {
        let what = format!(
            "a message may have {} recipients, and its user only {} in an hour: such a message never gets through",
            limits.recipients_max, limits.user_recipients_per_hour
        );
        let remedy = match limits.user_recipients_per_hour {
            ..100 => "write user_recipients_per_hour = 100 at least (RFC 5321 section 4.5.3.1.8)".to_owned(),
            fitting => format!("raise user_recipients_per_hour, or write recipients_max = {fitting}"),
        };
        notices.warning(&marks.per_user, what, remedy);
    }
    let relay = &config.relay;
    if relay.retry_first_s > relay.retry_max_s {
        let what =
            format!("retry_first_s = {} is longer than retry_max_s = {}", relay.retry_first_s, relay.retry_max_s);
        notices.mistake(&marks.retry, what, "lower retry_first_s or raise retry_max_s");
    }
    if relay.expire_s <= relay.retry_max_s {
        let what = format!(
            "a message would expire after {} s, before its retry after {} s",
            relay.expire_s, relay.retry_max_s
        );
        notices.mistake(&marks.expire, what, "write expire_s = 432000 (five days), or lower retry_max_s");
    }
}

/// The largest envelope lies in one segment, together with a content that is just too small for a file of its own.
fn envelopes(config: &Config, marks: &Marks, notices: &mut Notices) {
    let room = config.spool.segment_bytes.saturating_sub(config.spool.spill_bytes + SEGMENT_SPARE_BYTES);
    let recipients_max = config.limits.recipients_max;
    let fitting = room / RECIPIENT_BYTES;
    if u64::from(recipients_max) > fitting {
        let what = format!(
            "a message to {recipients_max} recipients with DSN parameters does not fit into a segment: it is answered 452 \
             each time"
        );
        let remedy = match fitting {
            ..100 => "write a larger segment_mib".to_owned(),
            fitting => format!("write a larger segment_mib, or recipients_max = {fitting}"),
        };
        notices.warning(&marks.recipients, what, remedy);
    }
}

/// No domain and no sender may have two routes, and there is one route for the others.
fn routes(config: &Config, marks: &Marks, notices: &mut Notices) {
    let mut seen: Vec<(&Route, &Range<usize>, String)> = Vec::new();
    for (route, (head, places)) in config.relay.routes.iter().zip(&marks.routes) {
        let of_senders = route.senders.iter().map(|sender| format!(" for {sender}"));
        let of_domains = route.domains.iter().map(|domain| domain.to_owned());
        // What it is for, and where that stands.
        let mut parts: Vec<(String, &Range<usize>)> = Vec::new();
        match (route.domains.is_empty(), route.senders.is_empty()) {
            (true, true) => parts.push((String::new(), head)),
            (true, false) => parts.extend(of_senders.zip(&places.senders)),
            (false, true) => parts.extend(of_domains.zip(&places.domains)),
            (false, false) => {
                for (domain, place) in of_domains.zip(&places.domains) {
                    parts.extend(route.senders.iter().map(|sender| (format!("{domain} for {sender}"), place)));
                }
            }
        }
        for (part, place) in parts {
            match seen.iter().find(|(_, _, other)| *other == part) {
                Some((_, first, _)) if part.is_empty() => {
                    let line = notices.line(first.start);
                    let what = format!("the [[relay.route]] in line {line} takes all other domains already");
                    notices.mistake(place, what, "give one of the two its domains = [...]");
                }
                Some((_, first, _)) => {
                    let what = format!("{} has a route in line {} already", part.trim(), notices.line(first.start));
                    notices.mistake(place, what, "remove one of the two");
                }
                None => seen.push((route, place, part)),
            }
        }
        never_reached(route, &seen, head, notices);
    }
}

/// A route of some senders behind one that takes the same domains of all senders.
fn never_reached(route: &Route, seen: &[(&Route, &Range<usize>, String)], head: &Range<usize>, notices: &mut Notices) {
    let is_taken =
        |domain: &String| seen.iter().find(|(other, _, _)| other.senders.is_empty() && other.domains.contains(domain));
    if route.senders.is_empty() || route.domains.is_empty() {
        return;
    }
    if let Some((_, first, _)) =
        route.domains.iter().map(is_taken).collect::<Option<Vec<_>>>().and_then(|all| all.first().copied())
    {
        let what =
            format!("the route in line {} takes these domains of all senders already", notices.line(first.start));
        notices.mistake(head, what, "put this route before it: the first that fits counts");
    }
}

/// Whatever can be accepted must have somewhere to go.
fn destinations(config: &Config, marks: &Marks, notices: &mut Notices) {
    let relay = &config.relay;
    if relay.paused || relay.routes.iter().any(|route| route.domains.is_empty() && route.senders.is_empty()) {
        return;
    }
    if !marks.local_domains_complete || !marks.trusted_networks_complete {
        return;
    }
    let anybody_to_anyone = !marks.auth_is_absent || !marks.trusted_networks.is_empty();
    if anybody_to_anyone {
        let what = "mail to other domains is accepted and has no route";
        notices.mistake(
            &marks.relay,
            what,
            "add a [[relay.route]] without domains, as in smarthost = \"mail.example.edu:25\"",
        );
        return;
    }
    let has_route =
        |domain: &String| relay.routes.iter().any(|route| route.senders.is_empty() && route.domains.contains(domain));
    for domain in config.local_domains.iter().filter(|domain| !has_route(domain)) {
        let what = format!("mail to {domain} is accepted and has no route");
        notices.mistake(&marks.local_domains, what, "add a [[relay.route]] for it, or one without domains");
    }
}

/// A route that leads back to one of our own listeners (RFC 5321 section 6.3).
fn circles(config: &Config, marks: &Marks, notices: &mut Notices) {
    for (route, place) in config.relay.routes.iter().zip(&marks.files.routes) {
        if let Target::Maildir { .. } | Target::Mx(_) | Target::Discard = route.target {
            continue;
        }
        for (address, _) in route.target.hosts() {
            let Some((host, port)) = address.rsplit_once(':') else { continue };
            if config.listeners.iter().any(|listener| is_ours(config, listener, host, port)) {
                let what = format!("{address} is this Penstock itself: mail would go in a circle");
                notices.mistake(place, what, "name the server that has the mailboxes");
            }
        }
    }
}

fn is_ours(config: &Config, listener: &Listener, host: &str, port: &str) -> bool {
    let (own, everywhere) = (listener.address.ip(), listener.address.ip().is_unspecified());
    let host_is_ours = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => address == own || everywhere && address.is_loopback(),
        Err(_) => host == config.hostname || host == "localhost" && (everywhere || own.is_loopback()),
    };
    host_is_ours && port.parse() == Ok(listener.address.port())
}
