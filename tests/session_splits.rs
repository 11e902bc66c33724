//! A session's output does not depend on how its input was split: made-up sessions, each whole, octet by octet, and in
//! random pieces, with answers of the driver that depend on what it was asked and not on when.
//!
//! Replies are also held to their form, and what is handed out is compared, not only what is written. The one exception is
//! input behind STARTTLS, which is refused if it was read with it and dropped if not: such input is cut off here.
//!
//! To mend a failure: proptest prints the shortest session that it found; make a dialogue of it.

use penstock::policy::{Domains, OddBytes, Role, TlsMode};
use penstock::sasl::Mechanisms;
use penstock::smtp::session::{Action, Answer, Question, QueueName, Refusal, Rules, Session};
use proptest::prelude::*;
use std::sync::Arc;

/// How the listener and its driver are.
#[derive(Clone, Copy, Debug)]
struct World {
    role: Role,
    secured: bool,
    trusted: bool,
    odd_bytes: OddBytes,
    /// Each bit: does the driver say no to that kind of question?
    refuses: u8,
    shuts_down: bool,
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
        mechanisms: Mechanisms::PASSWORD,
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
                Action::Ask(Question::Client(_)) => unreachable!("nobody may say XCLIENT here"),
                Action::Ask(Question::ScramKeys(_) | Question::Proof(_)) => unreachable!("SCRAM is not offered here"),
                Action::Ask(Question::Password(_)) if no(2) => Answer::Rejected,
                Action::Ask(Question::Password(_)) => Answer::Accepted("anna".into()),
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
    ]);
    (begin, prop::collection::vec(part(), 0..12))
        .prop_map(|(begin, parts)| [begin.as_bytes(), &parts.concat()].concat())
}

fn world() -> impl Strategy<Value = World> {
    (any::<[bool; 5]>(), prop_oneof![3 => Just(0u8), 1 => 0..8u8]).prop_map(|(flags, refuses)| World {
        role: if flags[0] { Role::Submission } else { Role::Smtp },
        secured: flags[1],
        trusted: flags[2],
        odd_bytes: if flags[3] { OddBytes::Normalize } else { OddBytes::Reject },
        refuses,
        shuts_down: flags[4],
    })
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
