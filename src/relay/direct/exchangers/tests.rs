//! The table of verdicts: what name servers say, and what becomes of the mail.

use super::*;
use crate::policy::Networks;
use crate::services::dns::Kind;

const OWN: &str = "relay.test";

/// What is in DNS: `name`, `MX 10 host` or `A address` or `AAAA address`, or `?` where nobody answers, or
/// `bare` where the answer is neither yes nor no. A name that stands
/// with `-` only has nothing; one that does not stand here does not exist.
type Zone<'a> = &'a [(&'a str, &'a str)];

fn look_up(zone: Zone, name: &str, kind: Kind) -> Answer {
    let here: Vec<&str> = zone.iter().filter(|(known, _)| *known == name).map(|(_, record)| *record).collect();
    if here.is_empty() {
        return Answer::NoName;
    }
    if here.contains(&"?") || here.contains(&"A ?") && kind == Kind::A {
        return Answer::Unknown("SERVFAIL".into());
    }
    let record = |record: &&str| match (&record.split(' ').collect::<Vec<_>>()[..], kind) {
        (["MX", preference, host], Kind::Mx) => {
            Some(Record::Exchange(preference.parse().expect("a number"), host.trim_end_matches('.').into()))
        }
        (["A", address], Kind::A) | (["AAAA", address], Kind::Aaaa) => {
            Some(Record::Address(address.parse().expect("an address")))
        }
        _ => None,
    };
    if here.contains(&"bare") {
        return Answer::Nothing;
    }
    let found: Vec<Record> = here.iter().filter_map(record).collect();
    if found.is_empty() { Answer::NoData } else { Answer::Found(found) }
}

fn decide(zone: Zone, domain: &str) -> Result<Vec<Exchanger>, Nobody> {
    let answer = look_up(zone, domain, Kind::Mx);
    let candidates = candidates(domain, &answer, OWN)?;
    let answers = candidates.iter().map(|one| [Kind::A, Kind::Aaaa].map(|kind| look_up(zone, &one.name, kind)));
    exchangers(domain, &answer, &candidates, &answers.collect::<Vec<_>>(), &Reach::new(Networks::default()))
}

/// A verdict on one line.
fn shown(verdict: Result<Vec<Exchanger>, Nobody>) -> String {
    match verdict {
        Ok(found) => {
            let one = |one: &Exchanger| format!("{} {} {:?}", one.preference, one.name, one.addresses);
            found.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        Err(Nobody::Refused(reply)) => {
            assert!(reply.ours);
            format!("{} {}", reply.code, reply.text)
        }
        Err(Nobody::Unknown(why)) => format!("wait {why}"),
    }
}

// covers: 5.16 12.14
#[test]
fn what_name_servers_say_and_what_becomes_of_the_mail() {
    let table: &[(&str, Zone, &str)] = &[
        (
            "the lowest preference first",
            &[("d", "MX 20 b"), ("d", "MX 10 a"), ("a", "A 11.0.0.1"), ("b", "A 11.0.0.2")],
            "10 a [11.0.0.1], 20 b [11.0.0.2]",
        ),
        ("no MX: the domain itself", &[("d", "A 11.0.0.1"), ("d", "AAAA 2a00::1")], "0 d [11.0.0.1, 2a00::1]"),
        ("IPv6 alone", &[("d", "MX 10 a"), ("a", "AAAA 2a00::1")], "10 a [2a00::1]"),
        // RFC 5321 section 5.1: with MX records the domain's own address counts for nothing.
        ("MX, and an address", &[("d", "MX 10 a"), ("d", "A 11.0.0.9"), ("a", "A 11.0.0.1")], "10 a [11.0.0.1]"),
        ("null MX", &[("d", "MX 0 ."), ("d", "A 11.0.0.1")], "556 5.1.10 d does not accept mail (null MX)"),
        ("null MX with a number", &[("d", "MX 10 .")], "556 5.1.10 d does not accept mail (null MX)"),
        ("a root among others is none", &[("d", "MX 0 ."), ("d", "MX 10 a"), ("a", "A 11.0.0.1")], "10 a [11.0.0.1]"),
        ("no such domain", &[], "550 5.1.2 there is no domain d"),
        ("nothing", &[("d", "-")], "550 5.4.4 d has no mail server: neither MX nor an address in DNS"),
        ("no answer", &[("d", "?")], "wait 4.4.3 the mail servers of d cannot be looked up: SERVFAIL"),
        (
            "no answer about the address",
            &[("d", "A ?")],
            "wait 4.4.3 the mail servers of d cannot be looked up: d: SERVFAIL",
        ),
        (
            "neither yes nor no, as with aliases in a circle",
            &[("d", "bare")],
            "wait 4.4.3 the mail servers of d cannot be looked up: \
             d: the name server names nobody, and does not say that there is nobody",
        ),
        (
            "no more of a host",
            &[("d", "MX 10 a"), ("d", "MX 20 gone"), ("a", "bare")],
            "wait 4.4.3 the mail servers of d cannot be looked up: \
             a: the name server names nobody, and does not say that there is nobody",
        ),
        (
            "a host without an address is left out",
            &[("d", "MX 10 gone"), ("d", "MX 20 b"), ("b", "A 11.0.0.2")],
            "20 b [11.0.0.2]",
        ),
        (
            "and so is one of which nobody knows, while there is another",
            &[("d", "MX 10 a"), ("d", "MX 20 b"), ("a", "?"), ("b", "A 11.0.0.2")],
            "20 b [11.0.0.2]",
        ),
        (
            "without another the mail waits",
            &[("d", "MX 10 a"), ("d", "MX 20 gone"), ("a", "?")],
            "wait 4.4.3 the mail servers of d cannot be looked up: a: SERVFAIL",
        ),
        (
            "no host has an address",
            &[("d", "MX 10 a"), ("d", "MX 20 gone"), ("a", "-")],
            "550 5.4.4 the mail servers of d have no address in DNS: a, gone",
        ),
        (
            "no address is public",
            &[("d", "MX 10 a"), ("a", "A 127.0.0.1"), ("a", "AAAA ::1")],
            "550 5.4.4 the mail servers of d have no public address: a has 127.0.0.1, loopback",
        ),
        (
            "one of two addresses is",
            &[("d", "MX 10 a"), ("a", "A 192.168.0.1"), ("a", "A 11.0.0.1")],
            "10 a [11.0.0.1]",
        ),
        (
            "what is not public, and nobody knows of the other",
            &[("d", "MX 10 a"), ("d", "MX 20 b"), ("a", "A 127.0.0.1"), ("b", "?")],
            "wait 4.4.3 the mail servers of d cannot be looked up: b: SERVFAIL",
        ),
        (
            "we, and those behind us",
            &[
                ("d", "MX 10 a"),
                ("d", "MX 20 relay.test"),
                ("d", "MX 20 b"),
                ("d", "MX 30 c"),
                ("a", "A 11.0.0.1"),
                ("b", "A 11.0.0.2"),
                ("c", "A 11.0.0.3"),
            ],
            "10 a [11.0.0.1]",
        ),
        (
            "we alone",
            &[("d", "MX 10 relay.test"), ("d", "MX 10 b"), ("b", "A 11.0.0.1")],
            "554 5.4.6 mail loops back to myself: I am the mail server of d myself, and have no mailboxes",
        ),
        ("the same host twice", &[("d", "MX 20 a"), ("d", "MX 10 a"), ("a", "A 11.0.0.1")], "10 a [11.0.0.1]"),
        (
            "what is no host name is left out",
            &[
                ("d", "MX 5 a\\013b"),
                ("d", "MX 6 -\u{1b}"),
                ("d", "MX 7 a..b"),
                ("d", "MX 10 a_b"),
                ("a_b", "A 11.0.0.1"),
            ],
            "10 a_b [11.0.0.1]",
        ),
        ("nothing else", &[("d", "MX 5 a\\013b")], "550 5.4.4 the mail servers that DNS names for d are no hosts"),
        // A common mistake: RFC 5321 section 5.1 wants a name, and so does DNS.
        (
            "an address for a name",
            &[("d", "MX 10 11.0.0.1")],
            "550 5.4.4 the mail servers of d have no address in DNS: 11.0.0.1",
        ),
    ];
    for (what, zone, verdict) in table {
        assert_eq!(shown(decide(zone, "d")), *verdict, "{what}");
    }
    // Without a word about MX there may be one; with an address there is somebody to be asked.
    let none = Candidate { name: "d".into(), preference: 0 };
    let decide = |v4: Answer| {
        let reach = Reach::new(Networks::default());
        shown(exchangers("d", &Answer::Nothing, std::slice::from_ref(&none), &[[v4, Answer::NoData]], &reach))
    };
    assert!(decide(Answer::NoData).starts_with("wait 4.4.3 "), "{}", decide(Answer::NoData));
    let address = Record::Address("11.0.0.1".parse().expect("an address"));
    assert_eq!(decide(Answer::Found(vec![address])), "0 d [11.0.0.1]");
    let decide = self::decide;
    assert_eq!(
        shown(decide(&[("relay.test", "A 11.0.0.1")], "relay.test")),
        "554 5.4.6 mail loops back to myself: I am the mail server of relay.test myself, and have no mailboxes"
    );
}

#[test]
fn hosts_and_addresses_are_bounded() {
    let names: Vec<String> = (0..100).map(|number| format!("h{number}")).collect();
    let exchanges: Vec<String> = (0..100).map(|number| format!("MX {number} h{number}")).collect();
    let addresses: Vec<String> = (0..100).map(|number| format!("A 11.0.0.{number}")).collect();
    let mut zone: Vec<(&str, &str)> = exchanges.iter().map(|record| ("d", record.as_str())).collect();
    zone.extend(names.iter().flat_map(|name| addresses.iter().map(|record| (name.as_str(), record.as_str()))));
    let found = decide(&zone, "d").expect("hosts");
    let counts: Vec<usize> = found.iter().map(|one| one.addresses.len()).collect();
    assert_eq!(counts, [HOST_ADDRESSES_MAX; ADDRESSES_MAX / HOST_ADDRESSES_MAX]);
    assert_eq!((found[0].name.as_str(), found[7].name.as_str()), ("h0", "h7"), "the first");
    let few: Vec<(&str, &str)> =
        zone.into_iter().filter(|(_, record)| !record.starts_with('A') || *record == "A 11.0.0.7").collect();
    assert_eq!(decide(&few, "d").expect("hosts").len(), HOSTS_MAX);
}

#[test]
fn addresses_are_tried_in_turn_and_ipv4_first() {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let addresses = ["11.0.0.1", "11.0.0.2", "11.0.0.3", "2a00::1", "2a00::2"].map(address).to_vec();
    let one = Exchanger { name: "a".into(), preference: 0, addresses };
    for (turn, expected) in [
        (0, ["11.0.0.1", "2a00::1", "11.0.0.2", "2a00::2", "11.0.0.3"]),
        (1, ["11.0.0.2", "2a00::2", "11.0.0.3", "2a00::1", "11.0.0.1"]),
        (5, ["11.0.0.3", "2a00::2", "11.0.0.1", "2a00::1", "11.0.0.2"]),
    ] {
        assert_eq!(one.in_turn(turn), expected.map(address), "{turn}");
    }
    let alone = Exchanger { addresses: vec![address("2a00::1")], ..one };
    assert_eq!(alone.in_turn(usize::MAX), [address("2a00::1")]);
}

#[test]
fn domains_and_address_literals() {
    let reach = Reach::new(Networks::default());
    for (text, expected) in [
        ("Example.ORG.", Some(Domain::Name("example.org".into()))),
        ("münchen.example", Some(Domain::Name("xn--mnchen-3ya.example".into()))),
        ("[11.0.0.1]", Some(Domain::Literal("11.0.0.1".parse().expect("an address")))),
        ("[IPv6:2a00::1]", Some(Domain::Literal("2a00::1".parse().expect("an address")))),
        ("[x]", None),
        ("münchen..example", None),
    ] {
        assert_eq!(Domain::new(text.as_bytes()), expected, "{text}");
    }
    let at = |text: &str| shown(literal(text.parse().expect("an address"), &reach));
    assert_eq!(at("11.0.0.1"), "0 [11.0.0.1] [11.0.0.1]");
    assert_eq!(at("169.254.169.254"), "550 5.4.4 [169.254.169.254] is no public address: link-local");
}
