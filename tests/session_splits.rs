//! A session's output does not depend on how its input was split: made-up sessions, each whole, octet by octet, and in
//! random pieces, with answers of the driver that depend on what it was asked and not on when.
//!
//! Replies are also held to their form, and what is handed out is compared, not only what is written. The one exception is
//! input behind STARTTLS, which is refused if it was read with it and dropped if not: such input is cut off here.
//!
//! To mend a failure: proptest prints the shortest session that it found; make a dialogue of it.

use penstock::policy::{Domains, OddBytes, Role, TlsMode};
use penstock::sasl::{Keys, Mechanisms};
use penstock::smtp::session::{Action, Answer, MayXclient, Question, QueueName, Refusal, Rules, Session};
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

/// Of a user whose password is `pencil`: those of RFC 7677 section 3.
static KEYS: LazyLock<Keys> =
    LazyLock::new(|| Keys::derive("pencil", b"[m\x99h\x9d\x125\x8e\xec\xa0K\x14\x126\xfa\x81", 4096));

/// How the listener and its driver are.
#[derive(Clone, Copy, Debug)]
struct World {
    role: Role,
    secured: bool,
    trusted: bool,
    odd_bytes: OddBytes,
    /// Each bit: does the driver say no to that kind of question?
    refuses: u8,
    /// What it says of passwords and proofs.
    verdict: Verdict,
    /// What SCRAM-SHA-256-PLUS binds to is known.
    bound: bool,
    xclient: MayXclient,
    shuts_down: bool,
}

#[derive(Clone, Copy, Debug)]
enum Verdict {
    Right,
    Wrong,
    Braked,
    Unavailable,
}

impl Verdict {
    fn answer(self) -> Answer {
        match self {
            Verdict::Right => Answer::Accepted("anna".into()),
            Verdict::Wrong => Answer::Rejected,
            Verdict::Braked => Answer::Braked,
            Verdict::Unavailable => Answer::Unavailable,
        }
    }

    fn of_keys(self) -> Answer {
        match self {
            Verdict::Right | Verdict::Wrong => {
                Answer::ScramKeys { keys: KEYS.clone(), nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into() }
            }
            _ => self.answer(),
        }
    }
}

/// All that a driver sees of a session.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    out: Vec<u8>,
    /// Actions in order; content is in one piece, since pieces depend on the split.
    actions: Vec<String>,
    content: Vec<u8>,
}

impl Seen {
    fn action(&mut self, what: String) {
        if !self.content.is_empty() {
            self.actions.push(format!("content {}", std::mem::take(&mut self.content).escape_ascii()));
        }
        self.actions.push(what);
    }
}

fn rules(world: World) -> Rules {
    Rules {
        role: world.role,
        tls: if world.secured { TlsMode::Implicit } else { TlsMode::Offered },
        mechanisms: Mechanisms::ALL,
        message_bytes_max: 60,
        recipients_max: 2,
        messages_per_session: 4,
        hold_max_s: 100,
        odd_bytes: world.odd_bytes,
        help: "https://help.example.edu".into(),
        local_domains: Arc::new(Domains::new(["example.edu"])),
        ..Rules::new("mx.example.edu")
    }
}

/// All that is seen when `pieces` arrive one by one.
fn talk(world: World, pieces: &[&[u8]]) -> Seen {
    let mut seen = Seen::default();
    let mut session = Session::new(Arc::new(rules(world)), world.trusted, world.secured, &mut seen.out);
    session.set_may_xclient(world.xclient);
    if world.bound {
        session.bind_channel((0..32).collect());
    }
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let (used, action) = session.step(rest, &mut seen.out);
            rest = &rest[used..];
            let no = |bit: u8| world.refuses & (1 << bit) != 0;
            let answer = match action {
                Action::Flush => continue,
                Action::NeedInput => {
                    assert!(rest.is_empty(), "asks for input and leaves some");
                    break;
                }
                Action::Body(content) => {
                    seen.content.extend_from_slice(content);
                    continue;
                }
                Action::Abort => {
                    // How much was handed out before is the split's.
                    seen.content.clear();
                    seen.action("abort".into());
                    continue;
                }
                Action::Recipient => Answer::Granted,
                Action::Begin if no(0) => Answer::Refused(Refusal::NoRoom),
                Action::Begin => Answer::Begun(QueueName(*b"0123456789BCD")),
                Action::Commit if no(1) => Answer::Refused(Refusal::DiskTrouble),
                Action::Commit => Answer::Committed,
                Action::Ask(Question::Client(_)) if no(2) => Answer::Rejected,
                Action::Ask(Question::Client(xclient)) => {
                    let user = xclient.login.as_deref().map(Into::into);
                    Answer::Client { trusted: xclient.address.is_some(), user }
                }
                Action::Ask(Question::Password(_)) => world.verdict.answer(),
                // Keys come first: who is braked only later is told so in place of the signature.
                Action::Ask(Question::ScramKeys(_)) if no(3) => Verdict::Right.of_keys(),
                Action::Ask(Question::ScramKeys(_)) => world.verdict.of_keys(),
                Action::Ask(Question::Proof(proof)) if !proof.right => Answer::Rejected,
                Action::Ask(Question::Proof(_)) => world.verdict.answer(),
                Action::StartTls => {
                    seen.action("tls".into());
                    return seen;
                }
                Action::Close => {
                    // A message that was under way is dropped by the driver.
                    seen.content.clear();
                    seen.action("close".into());
                    return seen;
                }
            };
            seen.action(format!("{answer:?} {}", session.envelope().as_bytes().escape_ascii()));
            session.answered(answer, &mut seen.out);
        }
    }
    if world.shuts_down {
        session.shut_down();
        session.step(b"", &mut seen.out);
    }
    seen
}

/// A whole exchange by SCRAM, with the right proof.
const SCRAM: &str = "EHLO client.example\r\n\
    AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=\r\n\
    Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU8laHZZRHBXVWEyUmFUQ0FmdXhGSWxqKWhObEYkazAscD1kSHpiWmFwV0lrNGpVaE4rVXRlOXl0YWc5empmTUhnc3FtbWl6N0FuZFZRPQ==\r\n\
    \r\n";

/// Lines and chunks as clients send them, honest and odd.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::sample::select(vec![
        "EHLO client.example",
        "HELO client",
        "EHLO",
        "NOOP",
        "RSET",
        "QUIT",
        "VRFY a",
        "XYZZY",
        "",
        "AUTH PLAIN AGFubmEAc2VzYW1l",
        "AUTH LOGIN",
        "YW5uYQ==",
        "*",
        "AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=",
        "AUTH SCRAM-SHA-256-PLUS",
        "Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU8laHZZRHBXVWEyUmFUQ0FmdXhGSWxqKWhObEYkazAscD1kSHpiWmFwV0lrNGpVaE4rVXRlOXl0YWc5empmTUhnc3FtbWl6N0FuZFZRPQ==",
        "XCLIENT ADDR=192.0.2.1 LOGIN=anna",
        "XCLIENT NAME=pc.example.org HELO=pc PROTO=SMTP",
        "XCLIENT ADDR=nowhere",
        "MAIL FROM:<anna@example.org>",
        "MAIL FROM:<> SIZE=50 BODY=8BITMIME RET=HDRS ENVID=a AUTH=<> SMTPUTF8",
        "MAIL FROM:<anna@example.org> BODY=BINARYMIME",
        "MAIL FROM:<anna@example.org> HOLDFOR=50 REQUIRETLS",
        "MAIL FROM:<anna@example.org> XYZZY=1",
        "RCPT TO:<ben@example.edu>",
        "RCPT TO:<ben@example.edu> NOTIFY=NEVER ORCPT=rfc822;a",
        "RCPT TO:<ben@example.org>",
        "RCPT TO:<ben",
        "DATA",
        ".",
        "A: b",
        "..x",
        "GET / HTTP/1.1",
    ]);
    let mostly_crlf = prop_oneof![20 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\r\r\n")];
    let octets = prop::collection::vec(
        prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(0), Just(b'x'), Just(0x16), Just(3), any::<u8>()],
        0..40,
    );
    prop_oneof![
        12 => (lines, mostly_crlf).prop_map(|(line, end)| [line.as_bytes(), end.as_bytes()].concat()),
        3 => (octets.clone(), any::<bool>(), -1..2i32).prop_map(|(chunk, last, more)| {
            let octets = (chunk.len() as i32 + more).max(0);
            let last = if last { " LAST" } else { "" };
            [format!("BDAT {octets}{last}\r\n").as_bytes(), &chunk].concat()
        }),
        1 => octets,
        1 => Just(b"BDAT 100 LAST\r\n".to_vec()),
        1 => Just([&[b'y'; 1100][..], b"\r\n"].concat()),
        1 => Just([b"NOOP ", &[b'z'; 4200][..], b"\r\n"].concat()),
    ]
}

/// A session that gets as far as content more often than chance would.
fn session() -> impl Strategy<Value = Vec<u8>> {
    let begin = prop::sample::select(vec![
        "",
        "EHLO client.example\r\nMAIL FROM:<anna@example.org>\r\nRCPT TO:<ben@example.edu>\r\n",
        "EHLO client.example\r\nMAIL FROM:<anna@example.org>\r\nRCPT TO:<ben@example.edu>\r\nDATA\r\n",
        "EHLO client.example\r\nAUTH PLAIN AGFubmEAc2VzYW1l\r\nMAIL FROM:<anna@example.org>\r\nRCPT TO:<ben@example.edu>\r\n",
        "EHLO client.example\r\nMAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<ben@example.edu>\r\nBDAT 2\r\n\r\n",
        SCRAM,
        "EHLO proxy.example\r\nXCLIENT ADDR=192.0.2.1 LOGIN=anna\r\n",
    ]);
    (begin, prop::collection::vec(part(), 0..12))
        .prop_map(|(begin, parts)| [begin.as_bytes(), &parts.concat()].concat())
}

fn world() -> impl Strategy<Value = World> {
    let verdict = prop_oneof![
        2 => Just(Verdict::Right),
        1 => Just(Verdict::Wrong),
        1 => Just(Verdict::Braked),
        1 => Just(Verdict::Unavailable)
    ];
    let xclient = prop::sample::select(vec![MayXclient::No, MayXclient::Yes, MayXclient::WithLogin]);
    let refuses = prop_oneof![3 => Just(0u8), 1 => 0..16u8];
    (any::<[bool; 6]>(), refuses, verdict, xclient).prop_map(|(flags, refuses, verdict, xclient)| World {
        role: if flags[0] { Role::Submission } else { Role::Smtp },
        secured: flags[1],
        trusted: flags[2],
        odd_bytes: if flags[3] { OddBytes::Normalize } else { OddBytes::Reject },
        refuses,
        verdict,
        bound: flags[5],
        xclient,
        shuts_down: flags[4],
    })
}

/// Else the property would hold of sessions in which none of this comes to pass.
// covers: 8.1
#[test]
fn every_verdict_and_xclient_are_reached() {
    let world = |verdict, refuses| World {
        role: Role::Submission,
        secured: true,
        trusted: false,
        odd_bytes: OddBytes::Reject,
        refuses,
        verdict,
        bound: false,
        xclient: MayXclient::WithLogin,
        shuts_down: false,
    };
    let late = 1 << 3;
    for (verdict, refuses, challenges, reply) in [
        (Verdict::Right, 0, 2, "235 2.7.0"),
        (Verdict::Wrong, 0, 1, "535 5.7.8"),
        (Verdict::Braked, 0, 0, "454 4.7.0"),
        (Verdict::Braked, late, 1, "454 4.7.0"),
        (Verdict::Unavailable, 0, 0, "454 4.7.0"),
        (Verdict::Unavailable, late, 1, "454 4.7.0"),
    ] {
        let seen = talk(world(verdict, refuses), &[SCRAM.as_bytes()]);
        let out = String::from_utf8(seen.out).expect("ASCII");
        let count = out.lines().filter(|line| line.starts_with("334 ")).count();
        assert!(count == challenges && out.contains(&format!("\r\n{reply}")), "{verdict:?} {refuses}: {out}");
    }
    for (refuses, greetings) in [(0, 2), (1 << 2, 1)] {
        let seen = talk(world(Verdict::Right, refuses), &[b"XCLIENT ADDR=192.0.2.1 LOGIN=anna\r\n"]);
        let out = String::from_utf8(seen.out).expect("ASCII");
        assert_eq!(out.lines().filter(|line| line.starts_with("220 ")).count(), greetings, "{out}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    // covers: 8.1
    #[test]
    fn what_is_seen_does_not_depend_on_the_split(world in world(), input in session(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let whole = talk(world, &[&input]);
        for line in whole.out.split_inclusive(|octet| *octet == b'\n') {
            prop_assert!(line.len() <= 512 && line.ends_with(b"\r\n") && line[..3].iter().all(u8::is_ascii_digit));
        }
        let octets: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(&talk(world, &octets), &whole);
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        places.sort_unstable();
        let mut pieces = Vec::new();
        let mut start = 0;
        for place in places.into_iter().chain([input.len()]) {
            pieces.push(&input[start..place]);
            start = place;
        }
        prop_assert_eq!(&talk(world, &pieces), &whole);
    }
}
