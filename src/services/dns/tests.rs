use super::*;
use hickory_resolver::net::NoRecords;
use hickory_resolver::proto::op::{Message, OpCode, Query};
use hickory_resolver::proto::rr::rdata::{A, CNAME, MX, SOA};
use hickory_resolver::proto::rr::{self, DNSClass};
use std::net::{Ipv4Addr, UdpSocket};

fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

#[test]
fn a_full_queue_and_a_thread_that_is_gone_are_answers() {
    let (questions, asked) = mpsc::channel(1);
    let dns = Dns { questions, lookup_max: Duration::ZERO };
    let first = dns.ask("a.example", Kind::Mx, 7);
    let busy = Answer::Unknown("the name resolver is busy".into());
    assert_eq!(wait(dns.ask("a.example", Kind::A, 7).answer()), busy);
    drop(asked);
    let stopped = Answer::Unknown("the name resolver has stopped".into());
    assert_eq!(wait(first.answer()), stopped);
    assert_eq!(wait(dns.ask("a.example", Kind::A, 7).answer()), stopped);
}

#[test]
fn nothing_but_the_word_of_a_name_server_is_believed_for_good() {
    let none = |code| {
        let name = Name::from_ascii("a.example.").expect("a name");
        NetError::from(NoRecords::new(Box::new(Query::query(name, RecordType::MX)), code))
    };
    assert_eq!(refused(&none(ResponseCode::NXDomain)), Answer::NoName);
    assert_eq!(refused(&none(ResponseCode::NoError)), Answer::Nothing, "without the zone's word");
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
    let dns = Dns::start(&options, Arc::default()).expect("a thread");
    let long = ["a".repeat(63).as_str(); 4].join(".");
    for name in ["", ".", "a..b", &"a".repeat(64), &long] {
        assert_eq!(wait(dns.ask(name, Kind::Mx, 7).answer()), Answer::NoName, "{name}");
    }
    let answer = wait(dns.ask("a_b.example", Kind::Mx, 7).answer());
    assert!(matches!(answer, Answer::Unknown(_)), "{answer:?}");
}

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).expect("a name")
}

fn record(owner: &str, data: RData) -> rr::Record {
    rr::Record::from_rdata(name(owner), 60, data)
}

fn alias(owner: &str, target: &str) -> rr::Record {
    record(owner, RData::CNAME(CNAME(name(target))))
}

fn exchange(owner: &str) -> rr::Record {
    record(owner, RData::MX(MX::new(10, name("mx.example"))))
}

fn authority() -> rr::Record {
    record("example", RData::SOA(SOA::new(name("ns.example"), name("hostmaster.example"), 1, 2, 3, 4, 5)))
}

/// A name server for one test: what it says of a name of which it is asked. None: it says nothing.
fn name_server(says: impl Fn(&str, RecordType, &mut Message) -> Option<Vec<u8>> + Send + 'static) -> Options {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let options = Options { servers: vec![socket.local_addr().expect("bound")], timeout_s: 2 };
    // It ends with the test program.
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let Ok(asked) = Message::from_vec(&buffer[..length]) else { continue };
            let Some(query) = asked.queries.first() else { continue };
            let mut answer = Message::response(asked.metadata.id, OpCode::Query);
            (answer.metadata.recursion_available, answer.metadata.recursion_desired) = (true, true);
            answer.add_query(query.clone());
            let asked_for = query.name().to_ascii().trim_end_matches('.').to_lowercase();
            if let Some(octets) = says(&asked_for, query.query_type(), &mut answer) {
                let _ = socket.send_to(&octets, from);
            }
        }
    });
    options
}

/// RFC 5321 section 5.1: only the word of a name server, that there is no such name or no such record, is for good. What
/// looks like no record and is no such word is trouble.
#[test]
fn odd_answers_are_no_words_of_name_servers() {
    let options = name_server(|asked, _, answer| {
        let (base, rest) = asked.split_once('.').unwrap_or((asked, ""));
        let code = &mut answer.metadata.response_code;
        match base {
            "found" => drop(answer.add_answer(exchange(asked))),
            "proven" => drop(answer.add_authority(authority())),
            "gone" => {
                *code = ResponseCode::NXDomain;
                answer.add_authority(authority());
            }
            "bare" => {}
            "circle" => drop(answer.add_answer(alias(asked, &format!("elcric.{rest}")))),
            "elcric" => drop(answer.add_answer(alias(asked, &format!("circle.{rest}")))),
            "whole-circle" => {
                answer.add_answers([alias(asked, &format!("b.{rest}")), alias(&format!("b.{rest}"), asked)]);
            }
            "itself" => drop(answer.add_answer(alias(asked, asked))),
            "far" => drop(answer.add_answer(alias(asked, &format!("far.x{rest}")))),
            "alias" => drop(answer.add_answer(alias(asked, &format!("found.{rest}")))),
            "alias-to-none" => drop(answer.add_answer(alias(asked, &format!("proven.{rest}")))),
            "alias-to-gone" => drop(answer.add_answer(alias(asked, &format!("gone.{rest}")))),
            "other-name" => drop(answer.add_answer(exchange("elsewhere.example"))),
            "other-kind" => drop(answer.add_answer(record(asked, RData::A(A(Ipv4Addr::LOCALHOST))))),
            "in-additional" => drop(answer.add_additional(exchange(asked))),
            "servfail" => *code = ResponseCode::ServFail,
            "notimp" => *code = ResponseCode::NotImp,
            "code-23" => *code = ResponseCode::BADCOOKIE,
            "code-3000" => *code = ResponseCode::Unknown(3000),
            "other-class" => {
                let mut odd = exchange(asked);
                odd.dns_class = DNSClass::CH;
                answer.add_answer(odd);
            }
            "garbage" => return Some(b"garbage".to_vec()),
            "cut-off" => {
                answer.add_answer(exchange(asked));
                return answer.to_vec().ok().map(|octets| octets[..octets.len() - 3].to_vec());
            }
            _ => return None,
        };
        answer.to_vec().ok()
    });
    let dns = Dns::start(&options, Arc::default()).expect("a thread");
    for (base, expected) in [
        ("found", "found"),
        ("alias", "found"),
        ("proven", "none"),
        ("gone", "no name"),
        ("alias-to-none", "none"),
        ("alias-to-gone", "no name"),
        ("bare", "nobody knows"),
        ("circle", "nobody knows"),
        ("whole-circle", "nobody knows"),
        ("itself", "nobody knows"),
        ("far", "nobody knows"),
        ("other-name", "nobody knows"),
        ("other-kind", "nobody knows"),
        ("in-additional", "nobody knows"),
        ("servfail", "nobody knows"),
        ("notimp", "nobody knows"),
        ("code-23", "nobody knows"),
        ("code-3000", "nobody knows"),
        ("other-class", "nobody knows"),
        ("garbage", "nobody knows"),
        ("cut-off", "nobody knows"),
    ] {
        // Twice: the second answer may be one that was kept.
        for _ in 0..2 {
            let answer = wait(dns.ask(&format!("{base}.example"), Kind::Mx, 7).answer());
            let meant = match &answer {
                Answer::Found(_) => "found",
                Answer::NoData => "none",
                Answer::NoName => "no name",
                Answer::Nothing | Answer::Unknown(_) => "nobody knows",
            };
            assert_eq!(meant, expected, "{base}: {answer:?}");
        }
    }
}

/// One sender's mail is for very many names whose servers say nothing; another's is for one.
#[test]
fn names_whose_servers_are_silent_do_not_hold_all_places() {
    let options = name_server(|asked, _, answer| {
        answer.add_answer(exchange(asked));
        if asked.starts_with("silent") { None } else { answer.to_vec().ok() }
    });
    let counts = Arc::new(Counts::default());
    let dns = Dns::start(&options, counts.clone()).expect("a thread");
    let mut silent: Vec<_> = (0..500).map(|number| dns.ask(&format!("silent{number}.example"), Kind::Mx, 7)).collect();
    for asker in 8..20 {
        let answer = wait(dns.ask(&format!("good{asker}.example"), Kind::Mx, asker).answer());
        assert!(matches!(answer, Answer::Found(_)), "{answer:?}");
    }
    let is_open = |pending: &mut Pending| matches!(pending.0.as_mut().map(|answer| answer.try_recv()), Ok(Ok(None)));
    assert!(silent.iter_mut().all(is_open), "nobody waited for a time-out");
    // Who stops waiting gives its places up.
    drop(silent);
    let places = (0..UNDER_WAY).map(|number| dns.ask(&format!("then{number}.example"), Kind::Mx, 7));
    let answers = places.collect::<Vec<_>>().into_iter().map(|pending| wait(pending.answer()));
    assert!(answers.into_iter().all(|answer| matches!(answer, Answer::Found(_))));
    assert_eq!((counts.found.get(), counts.none.get()), (12 + UNDER_WAY as u64, 0));
    assert!(counts.failed.get() >= 1 && counts.failed.get() <= UNDER_WAY as u64, "{counts:?}");
}

#[test]
fn a_question_that_panics_gives_its_place_back() {
    let (end, mut ended) = mpsc::unbounded_channel();
    let under_way = UnderWay { asker: 7, end };
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _under_way = under_way;
        panic!("as a library might");
    }));
    assert!(panicked.is_err());
    assert_eq!(ended.try_recv(), Ok(7));
}
