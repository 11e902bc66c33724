//! Dialogues of the client: each with the server's replies whole, byte by byte and in two pieces cut at every place.

mod extensions;
mod greeting;

use super::*;

/// What the client is expected to have written before the server says the second.
type Turn = (&'static str, &'static str);

const EHLO: &str = "EHLO penstock.example\r\n";
const PLAIN_SERVER: [Turn; 2] = [("", "220 mx\r\n"), (EHLO, "250 mx\r\n")];
const MODERN: &str = "250-mx\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 STARTTLS\r\n";

fn options() -> Options {
    Options::new("penstock.example")
}

fn to(recipients: &[&str]) -> Transaction {
    Transaction {
        reverse_path: b"anna@example.edu".to_vec(),
        recipients: recipients.iter().map(|path| path.as_bytes().into()).collect(),
        ..Transaction::default()
    }
}

/// How replies are cut.
#[derive(Clone, Copy, Debug)]
enum Split {
    Every(usize),
    At(usize),
}

impl Split {
    fn pieces(self, text: &[u8]) -> Vec<&[u8]> {
        match self {
            Split::Every(size) => text.chunks(size).collect(),
            Split::At(at) => {
                let (left, right) = text.split_at(at.min(text.len()));
                vec![left, right]
            }
        }
    }
}

/// Runs the dialogue once: content is `Hi\n.`, QUIT follows the last transaction. The events, without waits.
fn talk_split(options: Options, messages: &[Transaction], turns: &[Turn], split: Split) -> Vec<String> {
    let mut client = Client::new(options);
    let mut messages = messages.iter().cloned();
    let mut out = Vec::new();
    let mut events = Vec::new();
    for (number, (expected, answer)) in turns.iter().enumerate() {
        let written = String::from_utf8_lossy(&std::mem::take(&mut out)).into_owned();
        assert_eq!(&written, expected, "turn {number}, {split:?}");
        for piece in split.pieces(answer.as_bytes()) {
            feed(&mut client, piece, &mut messages, &mut out, &mut events);
        }
    }
    assert_eq!(String::from_utf8_lossy(&out), "", "after the last turn, {split:?}");
    events
}

fn feed(
    client: &mut Client,
    mut piece: &[u8],
    messages: &mut impl Iterator<Item = Transaction>,
    out: &mut Vec<u8>,
    events: &mut Vec<String>,
) {
    if events.last().is_some_and(|event| event == "bye" || event.starts_with("closed")) {
        return;
    }
    loop {
        let (used, event) = client.step(piece, out);
        piece = &piece[used..];
        match event {
            Event::NeedInput => return assert!(piece.is_empty()),
            Event::StartTls => {
                events.push(format!("tls, {} dropped", if piece.is_empty() { "nothing" } else { "something" }));
                client.tls_started(out);
                return;
            }
            Event::Ready => match messages.next() {
                Some(transaction) => client.send(transaction, out),
                None => client.quit(out),
            },
            Event::SendContent => {
                client.content(b"Hi\n", out);
                client.content(b".", out);
                client.end_content(out);
            }
            Event::Done(fates) => events.push(fates.iter().map(shown).collect::<Vec<_>>().join(", ")),
            Event::Bye => return events.push("bye".into()),
            Event::Closed(trouble) => {
                return events.push(match trouble {
                    Trouble::Temporary(reply) => format!("closed temporary {}", reply.code),
                    Trouble::Permanent(reply) => format!("closed permanent {}", reply.code),
                    Trouble::TlsNotOffered => "closed no tls".into(),
                    Trouble::Loop => "closed loop".into(),
                    Trouble::LoginRefused(reply) => format!("closed login refused {}", reply.code),
                    Trouble::NoMechanism => "closed no mechanism".into(),
                    Trouble::Garbled(seen) => format!("closed garbled {seen}"),
                });
            }
        }
    }
}

fn shown(fate: &Fate) -> String {
    match fate {
        Fate::Delivered(reply) => format!("delivered {}", reply.code),
        Fate::Deferred(reply) => format!("deferred {}", reply.code),
        Fate::Failed(reply) => format!("failed {}", reply.code),
    }
}

/// The events of the dialogue, which must be the same however the replies are cut.
fn talk(options: Options, messages: &[Transaction], turns: &[Turn]) -> Vec<String> {
    let whole = talk_split(options.clone(), messages, turns, Split::Every(usize::MAX));
    let longest = turns.iter().map(|(_, answer)| answer.len()).max().unwrap_or(0);
    for split in (0..longest).map(Split::At).chain([Split::Every(1), Split::Every(3)]) {
        assert_eq!(talk_split(options.clone(), messages, turns, split), whole, "{split:?}");
    }
    whole
}

/// Greeting and EHLO of a plain server, then `turns`.
fn after_hello(turns: &[Turn]) -> Vec<Turn> {
    [&PLAIN_SERVER[..], turns].concat()
}

const MAIL: &str = "MAIL FROM:<anna@example.edu>\r\n";
const BODY: &str = "Hi\r\n..\r\n.\r\n";

// covers: 12.12
#[test]
fn one_command_at_a_time_without_pipelining() {
    let turns = after_hello(&[
        (MAIL, "250 ok\r\n"),
        ("RCPT TO:<a@b>\r\n", "250 ok\r\n"),
        ("RCPT TO:<c@d>\r\n", "251 will forward\r\n"),
        ("DATA\r\n", "354 go\r\n"),
        (BODY, "250 queued\r\n"),
        ("QUIT\r\n", "221 bye\r\n"),
    ]);
    assert_eq!(talk(options(), &[to(&["a@b", "c@d"])], &turns), ["delivered 250, delivered 250", "bye"]);
}

#[test]
fn a_group_with_pipelining_and_what_is_offered_is_used() {
    let mut transaction = to(&["a@b", "grün@d"]);
    transaction.size = 77;
    transaction.body = Body::EightBit;
    let group = "MAIL FROM:<anna@example.edu> SIZE=77 BODY=8BITMIME SMTPUTF8\r\n\
                 RCPT TO:<a@b>\r\nRCPT TO:<grün@d>\r\nDATA\r\n";
    let turns = [
        ("", "220 mx\r\n"),
        (EHLO, MODERN),
        (group, "250 ok\r\n452 4.5.3 later\r\n250 ok\r\n354 go\r\n"),
        (BODY, "250 queued\r\n"),
        ("QUIT\r\n", "221 bye\r\n"),
    ];
    assert_eq!(talk(options(), &[transaction], &turns), ["deferred 452, delivered 250", "bye"]);
}

#[test]
fn a_second_message_resets_what_the_first_left_behind() {
    let turns = after_hello(&[
        (MAIL, "250 ok\r\n"),
        ("RCPT TO:<a@b>\r\n", "550 5.1.1 unknown\r\n"),
        ("RSET\r\n", "250 ok\r\n"),
        (MAIL, "250 ok\r\n"),
        ("RCPT TO:<c@d>\r\n", "250 ok\r\n"),
        ("DATA\r\n", "354 go\r\n"),
        (BODY, "250 ok\r\n"),
        (MAIL, "450 busy\r\n"),
        ("QUIT\r\n", "221 bye\r\n"),
    ]);
    let messages = [to(&["a@b"]), to(&["c@d"]), to(&["e@f"])];
    assert_eq!(talk(options(), &messages, &turns), ["failed 550", "delivered 250", "deferred 450", "bye"]);
}

#[test]
fn a_refused_reset_bounces_nothing() {
    let turns = after_hello(&[(MAIL, "250 ok\r\n"), ("RCPT TO:<a@b>\r\n", "450 no\r\n"), ("RSET\r\n", "502 what\r\n")]);
    let events = talk(options(), &[to(&["a@b"]), to(&["c@d"])], &turns);
    assert_eq!(events, ["deferred 450", "deferred 502", "closed permanent 502"]);
}

/// Replies to MAIL, two RCPTs, DATA and the dot (with pipelining), and what becomes of the two recipients.
// covers: 5.16 12.5
#[test]
fn the_table_of_fates() {
    let table: &[(&str, &str, &str)] = &[
        ("250\r\n250\r\n250\r\n354\r\n", "250 ok\r\n", "delivered 250, delivered 250"),
        ("250\r\n250\r\n550\r\n354\r\n", "250 ok\r\n", "delivered 250, failed 550"),
        ("250\r\n450\r\n550\r\n503\r\n", "", "deferred 450, failed 550"),
        ("250\r\n552\r\n250\r\n354\r\n", "250 ok\r\n", "deferred 552, delivered 250"),
        ("250\r\n250\r\n250\r\n354\r\n", "451 disk\r\n", "deferred 451, deferred 451"),
        ("250\r\n250\r\n550\r\n354\r\n", "554 virus\r\n", "failed 554, failed 550"),
        ("250\r\n250\r\n250\r\n451 no\r\n", "", "deferred 451, deferred 451"),
        ("250\r\n250\r\n250\r\n554 no\r\n", "", "failed 554, failed 554"),
        ("451\r\n503\r\n503\r\n503\r\n", "", "deferred 451, deferred 451"),
        ("550\r\n503\r\n503\r\n503\r\n", "", "failed 550, failed 550"),
        ("599\r\n250\r\n250\r\n503\r\n", "", "failed 599, failed 599"),
        ("250\r\n556 5.1.10 null MX\r\n250\r\n354\r\n", "250 ok\r\n", "failed 556, delivered 250"),
        ("250\r\n299\r\n499\r\n399\r\n", "277 ok\r\n", "delivered 277, deferred 499"),
    ];
    for (envelope, dot, expected) in table {
        let group = "MAIL FROM:<anna@example.edu>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";
        let mut turns = vec![("", "220 mx\r\n"), (EHLO, "250-mx\r\n250 PIPELINING\r\n"), (group, envelope)];
        if !dot.is_empty() {
            turns.push((BODY, dot));
        }
        turns.push(("QUIT\r\n", "221 bye\r\n"));
        assert_eq!(talk(options(), &[to(&["a@b", "c@d"])], &turns), [*expected, "bye"], "{envelope}");
    }
}

// covers: 12.12
#[test]
fn a_lone_dot_answers_a_354_for_nobody() {
    let group = "MAIL FROM:<anna@example.edu>\r\nRCPT TO:<a@b>\r\nDATA\r\n";
    let turns = [
        ("", "220 mx\r\n"),
        (EHLO, MODERN),
        (group, "250 ok\r\n550 no\r\n354 go\r\n"),
        (".\r\n", "250 took nothing\r\n"),
        (group, "250 ok\r\n250 ok\r\n354 go\r\n"),
        (BODY, "250 ok\r\n"),
        ("QUIT\r\n", "221 bye\r\n"),
    ];
    assert_eq!(talk(options(), &[to(&["a@b"]), to(&["a@b"])], &turns), ["failed 550", "delivered 250", "bye"]);
}

#[test]
fn more_recipients_than_the_window() {
    let recipients: Vec<String> = (0..150).map(|number| format!("r{number}@b")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let mut client = Client::new(options());
    let mut out = Vec::new();
    let (mut events, mut messages) = (Vec::new(), [to(&recipients)].into_iter());
    feed(&mut client, b"220 mx\r\n", &mut messages, &mut out, &mut events);
    feed(&mut client, MODERN.as_bytes(), &mut messages, &mut out, &mut events);
    assert_eq!(out.iter().filter(|&&octet| octet == b'\n').count(), 1 + WINDOW, "EHLO and the first window");
    for _ in 0..151 {
        feed(&mut client, b"250 ok\r\n", &mut messages, &mut out, &mut events);
    }
    assert!(out.ends_with(b"RCPT TO:<r149@b>\r\nDATA\r\n"));
    feed(&mut client, b"354 go\r\n", &mut messages, &mut out, &mut events);
    feed(&mut client, b"250 ok\r\n", &mut messages, &mut out, &mut events);
    assert_eq!(events, [vec!["delivered 250"; 150].join(", ")]);
}

#[test]
fn lmtp_has_a_reply_for_every_accepted_recipient() {
    let lmtp = Options { lmtp: true, ..options() };
    let turns = [
        ("", "220 lmtp\r\n"),
        ("LHLO penstock.example\r\n", "250 lmtp\r\n"),
        (MAIL, "250 ok\r\n"),
        ("RCPT TO:<a@b>\r\n", "250 ok\r\n"),
        ("RCPT TO:<c@d>\r\n", "550 unknown\r\n"),
        ("RCPT TO:<e@f>\r\n", "250 ok\r\n"),
        ("DATA\r\n", "354 go\r\n"),
        (BODY, "250 saved\r\n452 full\r\n"),
        ("QUIT\r\n", "221 bye\r\n"),
    ];
    let events = talk(lmtp, &[to(&["a@b", "c@d", "e@f"])], &turns);
    assert_eq!(events, ["delivered 250, failed 550, deferred 452", "bye"]);
}

// covers: 12.11
#[test]
fn helo_when_ehlo_is_unknown() {
    let turns = [
        ("", "220 old\r\n"),
        (EHLO, "502 what\r\n"),
        ("HELO penstock.example\r\n", "250 hi\r\n"),
        ("QUIT\r\n", "221\r\n"),
    ];
    assert_eq!(talk(options(), &[], &turns), ["bye"]);
}

// covers: 12.11
#[test]
fn the_table_of_troubles() {
    let table: &[(&[Turn], &str)] = &[
        (&[("", "421 full\r\n")], "closed temporary 421"),
        (&[("", "450 later\r\n")], "closed temporary 450"),
        (&[("", "554 go away\r\n")], "closed permanent 554"),
        (&[("", "354 what\r\n")], "closed garbled 354 what at the wrong moment"),
        (&[("", "SSH-2.0-x\r\n")], "closed garbled SSH-2.0-x"),
        (&[("", "220 a\r\n"), (EHLO, "421 bye\r\n")], "closed temporary 421"),
        (&[("", "220 a\r\n"), (EHLO, "451 busy\r\n")], "closed temporary 451"),
        (
            &[("", "220 a\r\n"), (EHLO, "500 no\r\n"), ("HELO penstock.example\r\n", "500 no\r\n")],
            "closed permanent 500",
        ),
    ];
    for (turns, expected) in table {
        assert_eq!(talk(options(), &[], turns), [*expected]);
    }
}

#[test]
fn trouble_in_a_transaction_defers_whom_it_leaves_in_doubt() {
    let table: &[(&[Turn], &str, &str)] = &[
        (&[(MAIL, "421 bye\r\n")], "deferred 421, deferred 421", "closed temporary 421"),
        (
            &[(MAIL, "250 ok\r\n"), ("RCPT TO:<a@b>\r\n", "550 no\r\n"), ("RCPT TO:<c@d>\r\n", "421 bye\r\n")],
            "failed 550, deferred 421",
            "closed temporary 421",
        ),
        (&[(MAIL, "nonsense\r\n")], "deferred 451, deferred 451", "closed garbled nonsense"),
        (
            &[
                (MAIL, "250 ok\r\n"),
                ("RCPT TO:<a@b>\r\n", "250 ok\r\n"),
                ("RCPT TO:<c@d>\r\n", "250 ok\r\n"),
                ("DATA\r\n", "354 go\r\n"),
                (BODY, "354 more\r\n"),
            ],
            "deferred 451, deferred 451",
            "closed garbled 354 more at the wrong moment",
        ),
        (
            &[
                (MAIL, "250 ok\r\n"),
                ("RCPT TO:<a@b>\r\n", "250 ok\r\n"),
                ("RCPT TO:<c@d>\r\n", "250 ok\r\n"),
                ("DATA\r\n", "250 hm\r\n"),
            ],
            "deferred 451, deferred 451",
            "closed garbled 250 hm at the wrong moment",
        ),
    ];
    for (turns, fates, closed) in table {
        assert_eq!(talk(options(), &[to(&["a@b", "c@d"])], &after_hello(turns)), [*fates, *closed]);
    }
}

#[test]
fn a_farewell_between_messages() {
    let mut client = ready(options());
    let mut out = Vec::new();
    assert_eq!(client.step(b"", &mut out), (0, Event::Ready));
    assert_eq!(client.phase(), Phase::Ready);
    let (_, event) = client.step(b"421 idle\r\n", &mut out);
    assert!(matches!(event, Event::Closed(Trouble::Temporary(_))), "{event:?}");
}

#[test]
fn a_reply_before_the_content_is_whole_ends_the_connection() {
    for (answer, expected) in [(&b"552 too big\r\n"[..], "failed 552"), (b"421 shutting down\r\n", "deferred 421")] {
        let mut client = in_content(options(), &["a@b"]);
        let mut out = Vec::new();
        client.content(b"half", &mut out);
        let Event::Done(fates) = client.step(answer, &mut out).1 else { panic!("no fates") };
        assert_eq!(shown(&fates[0]), expected);
        assert!(matches!(client.step(b"", &mut out).1, Event::Closed(Trouble::Temporary(_))));
    }
}

#[test]
fn a_lost_connection_defers_whom_it_leaves_in_doubt() {
    assert_eq!(Client::new(options()).lost("reset"), None);
    let mut client = in_content(Options { lmtp: true, ..options() }, &["a@b", "c@d"]);
    let mut out = Vec::new();
    client.end_content(&mut out);
    client.step(b"250 saved\r\n", &mut out);
    assert_eq!(client.phase(), Phase::Content);
    let fates = client.lost("connection reset").expect("fates");
    assert_eq!(fates.iter().map(shown).collect::<Vec<_>>(), ["delivered 250", "deferred 451"]);
}

#[test]
fn what_a_server_does_not_offer_is_not_sent_raw() {
    let plain = || to(&["a@b"]);
    for (transaction, code) in [
        (Transaction { body: Body::EightBit, ..plain() }, "5.6.3 "),
        (Transaction { body: Body::Binary, ..plain() }, "5.6.1 "),
        (Transaction { long_lines: true, ..plain() }, "5.6.0 "),
        (Transaction { smtputf8: true, ..plain() }, "5.6.9 "),
        (Transaction { reverse_path: "gr\u{fc}n@b".into(), ..plain() }, "5.6.7 "),
        (Transaction { require_tls: true, ..plain() }, "5.7.10 "),
        (to(&["gr\u{fc}n@b"]), "5.6.7 "),
    ] {
        let mut client = ready(options());
        let mut out = Vec::new();
        client.send(transaction, &mut out);
        let Event::Done(fates) = client.step(b"", &mut out).1 else { panic!("no fates") };
        assert!(matches!(&fates[0], Fate::Failed(reply) if reply.text.starts_with(code)), "{fates:?}");
        assert!(out.is_empty());
        assert_eq!(client.step(b"", &mut out).1, Event::Ready);
    }
}

// covers: 12.13
#[test]
fn an_address_never_becomes_a_command() {
    let turns = after_hello(&[
        (MAIL, "250 ok\r\n"),
        ("RCPT TO:<a@b>\r\n", "250 ok\r\n"),
        ("DATA\r\n", "354 go\r\n"),
        (BODY, "250 ok\r\n"),
        ("QUIT\r\n", "221 bye\r\n"),
    ]);
    let recipients = ["x@y>\r\nRSET", "a@b", "x> NOTIFY=NEVER"];
    let events = talk(options(), &[to(&recipients)], &turns);
    assert_eq!(events, ["failed 553, delivered 250, failed 553", "bye"]);
}

fn ready(options: Options) -> Client {
    let mut client = Client::new(options);
    let mut out = Vec::new();
    client.step(b"220 mx\r\n", &mut out);
    client.step(b"250 mx\r\n", &mut out);
    client
}

fn in_content(options: Options, recipients: &[&str]) -> Client {
    let mut client = ready(options);
    let mut out = Vec::new();
    client.send(to(recipients), &mut out);
    for _ in 0..=recipients.len() {
        client.step(b"250 ok\r\n", &mut out);
    }
    assert_eq!(client.step(b"354 go\r\n", &mut out).1, Event::SendContent);
    client
}
