//! One `[[relay.route]]`: whose mail it is for, and where that goes.

use super::{domains, networks, noted, path};
use crate::config::notice::Notices;
use crate::config::section::Section;
use crate::config::values;
use crate::config::{ClientCertificate, Login, Mx, Route, RouteTls, Smarthost, Target, keys};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;

/// Where a route's parts stand.
pub struct Places {
    /// The key that names its target.
    pub target: &'static str,
    /// In the order of [`Route::domains`].
    pub domains: Vec<Range<usize>>,
    /// In the order of [`Route::senders`].
    pub senders: Vec<Range<usize>>,
}

/// What a route may lead to: exactly one of these.
const TARGETS: [&str; 5] = ["smarthost", "mx", "lmtp", "maildir", "discard"];
/// Those of them that are given by being true.
const FLAGS: [&str; 2] = ["mx", "discard"];

/// A route, if all that it must have could be read.
pub fn route(section: &Section<'_>, directory: &Path, notices: &mut Notices) -> Option<(Route, Places)> {
    let (domains, domains_at): (Vec<_>, Vec<_>) = domains(section, "domains", notices).into_iter().unzip();
    let (senders, senders_at): (Vec<_>, Vec<_>) = senders(section, notices).into_iter().unzip();
    // discard = false is as good as nothing.
    let is_given = |name: &&str| section.has(name) && (!FLAGS.contains(name) || section.flag(name));
    let given: Vec<&'static str> = TARGETS.into_iter().filter(is_given).collect();
    let head = section.head();
    for (key, targets) in KEYS_OF.into_iter().filter(|(key, _)| section.has(key)) {
        if !given.iter().any(|target| targets.contains(target)) {
            let what = format!("{key} has a meaning for {} only", targets.join(" and "));
            notices.mistake(&section.at(key), what, "remove it");
        }
    }
    for (key, one) in [("domains", "a domain"), ("senders", "a sender")] {
        if section.has(key) && section.list(key).is_empty() {
            let remedy = format!("name {one}, or remove the line: then the route is for all others");
            notices.mistake(&section.at(key), format!("{key} is empty"), remedy);
        }
    }
    let listed = [section.list("domains").len(), section.list("senders").len()];
    if section.is_flawed() || [domains.len(), senders.len()] != listed {
        return None;
    }
    let [target] = given[..] else {
        let what = match given.len() {
            0 => "this [[relay.route]] leads nowhere".to_owned(),
            _ => format!("this [[relay.route]] leads to {} at once", given.join(" and ")),
        };
        notices.mistake(&head, what, "give it exactly one of smarthost, mx, lmtp, maildir and discard");
        return None;
    };
    let at = section.at(target);
    let places = Places { target, domains: domains_at, senders: senders_at };
    let target = match target {
        "smarthost" => Target::Smarthost(smarthost(section, notices, directory)?),
        "mx" => Target::Mx(mx(section, notices, directory)),
        "lmtp" => noted(values::lmtp(section.text(target)?), &at, notices)?,
        "maildir" => {
            Target::Maildir { directory: noted(values::path(section.text(target)?, directory), &at, notices)? }
        }
        _ => {
            let what = "discard throws away all mail of this route: it is accepted with 250 and nobody ever gets it";
            notices.warning(&at, what, "remove this route before people send mail");
            Target::Discard
        }
    };
    Some((Route { domains, senders, target }, places))
}

fn senders(section: &Section<'_>, notices: &mut Notices) -> Vec<(String, Range<usize>)> {
    let list = section.list("senders").into_iter();
    list.filter_map(|(text, at)| Some((noted(values::sender(text), &at, notices)?, at))).collect()
}

/// What has a meaning for some targets only.
const KEYS_OF: [(&str, &[&str]); 9] = [
    ("tls", &["smarthost", "mx"]),
    ("ca_file", &["smarthost", "mx"]),
    ("username", &["smarthost"]),
    ("password_file", &["smarthost"]),
    ("certificate", &["smarthost"]),
    ("key", &["smarthost"]),
    ("port", &["mx"]),
    ("domain_connections_max", &["mx"]),
    ("reachable_networks", &["mx"]),
];
/// Of each pair one without the other is nothing.
const PAIRS: [(&str, &str); 2] = [("username", "password_file"), ("certificate", "key")];

fn smarthost(section: &Section<'_>, notices: &mut Notices, directory: &Path) -> Option<Smarthost> {
    for (one, other) in PAIRS {
        for (here, missing) in [(one, other), (other, one)] {
            if section.has(here) && !section.has(missing) {
                let what = format!("{here} has no effect without {missing}");
                notices.mistake(&section.at(here), what, format!("add {missing} = {}", example(missing)));
            }
        }
    }
    let mut file = |key| section.has(key).then(|| path(section, key, directory, notices));
    let [ca_file, password_file, certificate, key] = ["ca_file", "password_file", "certificate", "key"].map(&mut file);
    let username = section.text("username").map(str::to_owned);
    let login = username.zip(password_file).map(|(username, password_file)| Login { username, password_file });
    let client_certificate = certificate.zip(key).map(|(certificate, key)| ClientCertificate { certificate, key });
    let tls = route_tls(section);
    in_tls_only(section, tls, notices);
    let hosts = match values::hosts(&section.list("smarthost")) {
        Ok(hosts) => hosts,
        Err((at, (what, remedy))) => {
            notices.mistake(&at, what, remedy);
            return None;
        }
    };
    if hosts.is_empty() {
        let remedy = "name a host and port, as in smarthost = \"mail.example.edu:25\"";
        notices.mistake(&section.at("smarthost"), "smarthost is empty", remedy);
        return None;
    }
    Some(Smarthost { hosts, tls, ca_file, login, client_certificate })
}

/// Direct delivery.
fn mx(section: &Section<'_>, notices: &mut Notices, directory: &Path) -> Mx {
    if !section.has("domains") {
        let what = "mail of this route leaves without a DKIM signature, and many providers refuse or hide such mail";
        let remedy = "name the domains that take it, and send all other mail by a smarthost that signs";
        notices.warning(&section.at("mx"), what, remedy);
    }
    Mx {
        port: section.count("port") as u16,
        tls: route_tls(section),
        ca_file: section.has("ca_file").then(|| path(section, "ca_file", directory, notices)),
        connections_max: section.count("domain_connections_max") as usize,
        reachable: networks(section, "reachable_networks", notices).0,
    }
}

/// `relay.name_servers`.
pub fn name_servers(section: &Section<'_>, notices: &mut Notices) -> Vec<SocketAddr> {
    let list = section.list("name_servers").into_iter();
    list.filter_map(|(text, at)| noted(values::name_server(text), &at, notices)).collect()
}

/// What is of use in TLS only, or must not be seen outside.
fn in_tls_only(section: &Section<'_>, tls: RouteTls, notices: &mut Notices) {
    let at = section.at("username");
    let remedy = "write tls = \"verified\"";
    match tls {
        RouteTls::None | RouteTls::Opportunistic if section.has("username") => {
            notices.mistake(&at, "a password is sent in TLS only, and this route may go without", remedy);
        }
        RouteTls::Required if section.has("username") => {
            let what =
                "tls = \"required\" asks for no name: whoever answers in the smarthost's place gets the password";
            notices.warning(&at, what, remedy);
        }
        RouteTls::None if section.has("certificate") => {
            notices.mistake(
                &section.at("certificate"),
                "a certificate is shown in TLS only, and tls is \"none\"",
                remedy,
            );
        }
        _ => {}
    }
}

/// The value in the table of keys.
fn example(key: &str) -> &'static str {
    keys::find("relay.route", key).map_or("", |key| key.example)
}

fn route_tls(section: &Section<'_>) -> RouteTls {
    match section.text("tls") {
        Some("none") => RouteTls::None,
        Some("required") => RouteTls::Required,
        Some("verified") => RouteTls::Verified,
        _ => RouteTls::Opportunistic,
    }
}
