//! Whole dialogues are data in `tests/dialogues`, run in every split; here is what needs the session's inside.

use super::*;
use crate::policy::{Domains, OddBytes, Recipients, Role, TlsMode};

mod recipients;

fn rules(role: Role, tls: TlsMode) -> Arc<Rules> {
    Arc::new(Rules {
        role,
        tls,
        mechanisms: crate::sasl::Mechanisms::PASSWORD,
        message_bytes_max: 100,
        recipients_max: 2,
        local_domains: Arc::new(Domains::new(["example.edu"])),
        ..Rules::new("mx.example.edu")
    })
}

fn session(role: Role, tls: TlsMode, secured: bool) -> (Session, Vec<u8>) {
    let mut out = Vec::new();
    (Session::new(rules(role, tls), false, secured, &mut out), out)
}

/// Feeds `input`, answers Begin and Commit kindly, and returns what the server said behind the greeting.
fn talk(session: &mut Session, mut input: &[u8]) -> (String, Vec<u8>) {
    let (mut out, mut content) = (Vec::new(), Vec::new());
    loop {
        let (used, action) = session.step(input, &mut out);
        input = &input[used..];
        match action {
            Action::NeedInput | Action::Close | Action::StartTls | Action::Ask(_) => break,
            Action::Recipient => session.answered(Answer::Granted, &mut out),
            Action::Begin => session.answered(Answer::Begun(QueueName(*b"0123456789BCD")), &mut out),
            Action::Body(piece) => content.extend_from_slice(piece),
            Action::Commit => session.answered(Answer::Committed, &mut out),
            Action::Abort => content.clear(),
            Action::Flush => {}
        }
    }
    (String::from_utf8(out).expect("replies are text"), content)
}

#[test]
fn a_message_for_a_local_recipient() {
    let (mut session, _) = session(Role::Smtp, TlsMode::Offered, false);
    let (replies, content) = talk(
        &mut session,
        b"EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@Example.EDU>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n\
          A: b\r\n\r\n..x\r\n.\r\nQUIT\r\n",
    );
    let codes: Vec<&str> = replies.split("\r\n").map(|line| line.get(..4).unwrap_or("")).collect();
    assert_eq!(&codes[codes.len() - 8..], ["250 ", "250 ", "250 ", "550 ", "354 ", "250 ", "221 ", ""]);
    assert!(replies.contains("250 2.0.0 Ok: queued as 0123456789BCD\r\n"));
    assert!(replies.contains("550 5.7.1 Relaying denied. Authentication required.\r\n"));
    assert_eq!(content, b"A: b\r\n\r\n.x\r\n");
}

// covers: 5.9 11.6
#[test]
fn recipients_are_refused_while_there_is_no_room_and_only_then() {
    let (mut session, _) = session(Role::Smtp, TlsMode::Offered, false);
    let (said, _) = talk(&mut session, b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<b@example.edu>\r\n");
    assert!(said.ends_with("250 2.1.5 Ok\r\n"), "{said}");
    session.set_room(None);
    let (said, _) = talk(&mut session, b"RCPT TO:<c@example.edu>\r\n");
    assert_eq!(said.as_bytes(), reply::NO_ROOM);
    session.set_room(Some(1000));
    let (said, _) = talk(&mut session, b"RCPT TO:<c@example.edu>\r\n");
    assert_eq!(said.as_bytes(), reply::RECIPIENT_OK);
    assert_eq!(session.envelope().recipients(), 2);
}

#[test]
fn content_over_the_limit_is_swallowed_and_refused_in_step() {
    let (mut session, _) = session(Role::Smtp, TlsMode::Offered, false);
    let mut input = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.edu>\r\nDATA\r\n".to_vec();
    input.extend_from_slice(&b"0123456789\r\n".repeat(12));
    input.extend_from_slice(b".\r\nNOOP\r\n");
    let (replies, content) = talk(&mut session, &input);
    assert!(
        replies.ends_with("552 5.3.4 Message is too large, the limit is 100 octets\r\n250 2.0.0 Ok\r\n"),
        "{replies}"
    );
    assert!(content.is_empty());
}

#[test]
fn nothing_said_in_the_clear_survives_starttls() {
    let (mut session, _) = session(Role::Smtp, TlsMode::Offered, false);
    talk(&mut session, b"EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.edu>\r\n");
    let (replies, _) = talk(&mut session, b"STARTTLS\r\n");
    assert!(replies.starts_with("220 2.0.0 "));
    session.answered(Answer::TlsStarted, &mut Vec::new());
    assert_eq!(session.state, State::Fresh);
    let (envelope, client) = session.finish();
    assert!(client.helo.is_empty() && envelope.as_bytes().is_empty());
}

#[test]
fn a_shut_down_waits_for_content_and_stops_at_the_next_command() {
    let (mut session, _) = session(Role::Smtp, TlsMode::Offered, false);
    talk(&mut session, b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.edu>\r\nDATA\r\nA: b\r\n");
    assert!(session.is_receiving());
    session.shut_down();
    let (replies, _) = talk(&mut session, b"\r\n.\r\nNOOP\r\n");
    assert_eq!(replies, "250 2.0.0 Ok: queued as 0123456789BCD\r\n421 4.3.2 Shutting down, try again soon\r\n");
}

/// Besides it an idle session holds the name that EHLO gave, the user's name, and at most 2 KiB of a former envelope.
#[test]
fn an_idle_session_is_small() {
    assert!(std::mem::size_of::<Session>() <= 320, "{}", std::mem::size_of::<Session>());
}

#[test]
fn drivers_see_what_a_session_waits_for() {
    let (mut session, _) = session(Role::Smtp, TlsMode::Offered, true);
    let mut out = Vec::new();
    assert_eq!((session.phase(), session.has_greeted()), (Phase::Idle, false));
    session.step(b"EH", &mut out);
    assert_eq!(session.phase(), Phase::Line);
    talk(&mut session, b"LO x\r\n");
    assert_eq!((session.phase(), session.has_greeted(), session.is_secured()), (Phase::Idle, true, true));
    talk(&mut session, b"AUTH LOGIN\r\nYW5u");
    assert_eq!(session.phase(), Phase::Exchange);
    talk(&mut session, b"\r\n*\r\nMAIL FROM:<>\r\n");
    assert_eq!((session.is_in_transaction(), session.is_authenticated()), (true, false));
    session.step(b"RCPT TO:<b@example.edu>\r\n", &mut out);
    assert!(matches!(session.step(b"DATA\r\n", &mut out), (6, Action::Begin)));
    assert_eq!(session.phase(), Phase::Waiting);
    session.answered(Answer::Begun(QueueName(*b"0123456789BCD")), &mut out);
    assert_eq!(session.phase(), Phase::Content);
    talk(&mut session, b".\r\n");
    assert_eq!((session.phase(), session.is_in_transaction()), (Phase::Idle, false));
    talk(&mut session, b"QUIT\r\n");
    assert_eq!(session.phase(), Phase::Closed);
}

// covers: 6.13
#[test]
fn a_chunk_whose_size_cannot_be_told_ends_the_session() {
    for line in [
        "BDAT",
        "BDAT ",
        "BDAT x",
        "BDAT -1",
        "BDAT 6x",
        "BDAT LAST",
        "BDAT 0x6 LAST",
        "BDAT 18446744073709551616 LAST",
        "BDAT 99999999999999999999999 LAST",
        "BDAT 6\tLAST",
        "BDAT 6\0LAST",
        "bdat\t6 LAST",
        &format!("BDAT 6{}", " ".repeat(5000)),
        &format!("BDAT 6{}", " ".repeat(50_000)),
    ] {
        let (mut session, _) = session(Role::Smtp, TlsMode::Offered, false);
        talk(&mut session, b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.edu>\r\n");
        let (replies, _) = talk(&mut session, format!("{line}\r\nQUIT\r\n").as_bytes());
        let codes: Vec<&str> = replies.lines().map(|line| &line[..3]).collect();
        assert!(matches!(codes[..], ["500" | "501", "421"]), "{line:?}: {replies}");
        assert_eq!(session.phase(), Phase::Closed);
    }
}

#[test]
fn the_refusals_of_other_protocols_are_for_the_log() {
    for (input, refused) in [
        (&b"\x16\x03\x01\x02\0"[..], reply::TLS_IN_THE_CLEAR),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", reply::HTTP),
        (b"BREW /pot HTTP/1.0\r\n", reply::HTTP),
        (b"NOOP\nNOOP\r\n", reply::BARE_NEWLINE),
    ] {
        let (mut session, _) = session(Role::Smtp, TlsMode::Offered, false);
        let (replies, _) = talk(&mut session, input);
        assert_eq!(replies.as_bytes(), refused);
        assert_eq!(session.take_refused().map(|refused| refused.reply), Some(refused));
    }
    // Inside TLS these octets are only an odd command.
    let (mut session, _) = session(Role::Smtp, TlsMode::Implicit, true);
    let (replies, _) = talk(&mut session, b"\x16\x03\r\n");
    assert_eq!(replies.as_bytes(), reply::BAD_OCTETS);
}

/// Why somebody's mail does not get in is often a parameter or an address that a program writes wrongly.
#[test]
fn mistakes_in_mail_and_rcpt_are_for_the_log_and_others_are_not() {
    for (input, refused) in [
        ("MAIL FROM:<a@example.org> HOLDFOR=5\r\n", Some(reply::UNKNOWN_PARAMETER)),
        ("MAIL FROM:<a@example.org> SIZE=x\r\n", Some(reply::BAD_ARGUMENT)),
        ("MAIL FROM:a b\r\n", Some(reply::BAD_SENDER)),
        ("MAIL FROM:<>\r\nRCPT TO:<a@@b>\r\n", Some(reply::BAD_RECIPIENT)),
        ("MAIL FROM:<>\r\nRCPT TO:<b@example.edu> NOTIFY=x\r\n", Some(reply::BAD_ARGUMENT)),
        ("VRFY\r\n", None),
        ("XYZZY\r\n", None),
    ] {
        let (mut session, _) = session(Role::Smtp, TlsMode::Offered, false);
        talk(&mut session, b"EHLO x\r\n");
        let (replies, _) = talk(&mut session, input.as_bytes());
        assert_eq!(session.take_refused().map(|refused| refused.reply), refused, "{input}{replies}");
        assert!(refused.is_none_or(|text| replies.as_bytes().ends_with(text)), "{input}{replies}");
    }
}

/// Whoever looks why somebody's mail does not get in learns how large it was, as far as that was said.
// covers: 5.8 6.8
#[test]
fn what_a_refusal_was_about_is_for_the_log() {
    let sized = |announced_bytes| About::Size { announced_bytes };
    let to = "MAIL FROM:<>\r\nRCPT TO:<b@example.edu>\r\n";
    let long = "0123456789\r\n".repeat(12);
    for (input, about) in [
        ("MAIL FROM:<> SIZE=101\r\n".to_owned(), sized(101)),
        (format!("{to}DATA\r\n{long}.\r\n"), sized(0)),
        (format!("MAIL FROM:<> SIZE=99\r\nRCPT TO:<b@example.edu>\r\nDATA\r\n{long}.\r\n"), sized(99)),
        (format!("{to}BDAT 144 LAST\r\n{long}"), sized(144)),
        (format!("{to}BDAT 12\r\n0123456789\r\nBDAT 144 LAST\r\n{long}"), sized(156)),
        (format!("{to}BDAT 1000\r\n"), sized(1000)),
        ("AUTH PLAIN\r\n".to_owned(), About::Tls),
        ("MAIL FROM:<> X=y\r\n".to_owned(), About::Other),
    ] {
        let (mut session, _) = session(Role::Smtp, TlsMode::Offered, false);
        talk(&mut session, b"EHLO x\r\n");
        let (replies, _) = talk(&mut session, input.as_bytes());
        assert_eq!(session.take_refused().map(|refused| refused.about), Some(about), "{input}{replies}");
    }
    for (tls, secured, about) in [
        (TlsMode::Required, false, About::Tls),
        (TlsMode::Offered, false, About::Tls),
        (TlsMode::Implicit, true, About::Other),
    ] {
        let (mut session, _) = session(Role::Submission, tls, secured);
        talk(&mut session, b"EHLO x\r\nMAIL FROM:<>\r\n");
        assert_eq!(session.take_refused().map(|refused| refused.about), Some(about), "{tls:?}");
    }
}

/// A postmaster is asked for an address, so the log must have it, whatever it looks like; and its totals what its lines say.
// covers: 4.7 5.8 11.6
#[test]
fn who_was_refused_is_for_the_log_and_counted() {
    let (strange, to) = ("MAIL FROM:<a@x>\r\n", "MAIL FROM:<a@x>\r\nRCPT TO:<b@Example.edu>\r\n");
    let (message, recipient) = ((1, 0), (0, 1));
    let somebody = Arc::new({
        let mut known = Recipients::default();
        known.add(b"b", b"example.edu");
        known
    });
    for (input, code, sender, path, counts) in [
        (
            format!("{strange}RCPT TO:<Carl@example.EDU>\r\n"),
            "550 5.1.1",
            Some("a@x"),
            Some("Carl@example.EDU"),
            recipient,
        ),
        (
            format!("{to}RCPT TO: <c@example.org> ORCPT=x\r\n"),
            "501 5.5.4",
            Some("a@x"),
            Some("c@example.org"),
            recipient,
        ),
        (
            "MAIL FROM:<>\r\nRCPT TO:<c@example.org>\r\n".to_owned(),
            "550 5.7.1",
            Some(""),
            Some("c@example.org"),
            recipient,
        ),
        (
            format!("{to}RCPT TO:<\"a>b\\\"\"@example.org>\r\n"),
            "550 5.7.1",
            Some("a@x"),
            Some("\"a>b\\\"\"@example.org"),
            recipient,
        ),
        (format!("{to}RCPT TO:<c\u{202e}d@x> \r\n"), "501 5.1.3", Some("a@x"), Some("c\u{202e}d@x"), recipient),
        (format!("{to}RCPT TO:carl\r\n"), "501 5.1.3", Some("a@x"), Some("carl"), recipient),
        ("MAIL FROM:<a@x> SIZE=101\r\n".to_owned(), "552 5.3.4", Some("a@x"), None, message),
        ("MAIL FROM:<a b@x>\r\n".to_owned(), "501 5.1.7", Some("a b@x"), None, message),
        ("MAIL FROM:<j\u{f6}rg@x>\r\n".to_owned(), "553 5.6.7", Some("j\u{f6}rg@x"), None, message),
        (format!("{to}DATA\r\na\rb\r\n.\r\n"), "550 5.6.0", Some("a@x"), Some("b@Example.edu"), message),
        (
            format!("{to}DATA\r\n{}.\r\n", "0123456789\r\n".repeat(12)),
            "552 5.3.4",
            Some("a@x"),
            Some("b@Example.edu"),
            message,
        ),
        (format!("{to}BDAT 3 LAST\r\na\rb"), "550 5.6.0", Some("a@x"), Some("b@Example.edu"), message),
        (format!("{to}BDAT 3\r\na\rb"), "550 5.6.0", Some("a@x"), Some("b@Example.edu"), message),
        (format!("{to}BDAT 3 FIRST\r\nabcRSET\r\n"), "501 5.5.4", Some("a@x"), Some("b@Example.edu"), message),
        (format!("{to}BDAT 201 LAST\r\n"), "552 5.3.4", Some("a@x"), Some("b@Example.edu"), message),
        ("MAIL\r\n".to_owned(), "501 5.5.4", Some(""), None, message),
    ] {
        let rules =
            Rules { odd_bytes_of_strangers: OddBytes::Reject, ..Rules::clone(&rules(Role::Smtp, TlsMode::Offered)) };
        let mut session = Session::new(Arc::new(rules), false, false, &mut Vec::new());
        session.set_local_recipients(&somebody);
        talk(&mut session, b"EHLO x\r\n");
        let (replies, _) = talk(&mut session, input.as_bytes());
        let refused = session.take_refused().unwrap_or_else(|| panic!("{input}{replies}"));
        let text =
            |octets: &Option<Box<[u8]>>| octets.as_ref().map(|octets| String::from_utf8_lossy(octets).into_owned());
        assert!(refused.reply.starts_with(code.as_bytes()), "{input}{replies}");
        assert_eq!(text(&refused.sender).as_deref(), sender, "{input}{replies}");
        assert_eq!(text(&refused.recipient).as_deref(), path, "{input}{replies}");
        assert_eq!((refused.messages, refused.recipients), counts, "{input}{replies}");
        assert_eq!(session.take_refused(), None, "{input}{replies}");
    }
}

/// What came in one read is one line, and none of it is lost to the totals.
// covers: 5.8
#[test]
fn refusals_of_one_read_are_counted_together() {
    let (mut session, _) = session(Role::Smtp, TlsMode::Offered, false);
    talk(&mut session, b"EHLO x\r\nMAIL FROM:<a@x> SIZE=101\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nRCPT TO:<c@y>\r\n");
    let refused = session.take_refused().expect("three");
    assert_eq!((refused.count, refused.messages, refused.recipients), (3, 1, 2));
    let of = |code, count, messages| OfCode { code, count, messages };
    assert!(refused.codes.iter().eq(&[of(552, 1, 1), of(550, 2, 0)]), "{refused:?}");
    assert_eq!(refused.recipient.as_deref(), Some(&b"c@y"[..]));
    talk(&mut session, b"RCPT TO:<b@example.edu>\r\nRCPT TO:<b2@example.edu>\r\nDATA\r\na\rb\r\n.\r\n");
    let refused = session.take_refused().expect("a message");
    assert_eq!((refused.recipient.clone(), refused.about), (None, About::Message { recipients: 2 }));
    assert!(refused.codes.iter().eq(&[of(550, 1, 1)]), "{refused:?}");
}

/// One read may hold thousands of short commands: a step ends before their replies fill memory, and goes on where it ended.
// covers: 8.4
#[test]
fn many_replies_are_flushed_before_more_commands_are_looked_at() {
    let many = Rules { recipients_max: 5000, ..Rules::clone(&rules(Role::Smtp, TlsMode::Offered)) };
    let mut session = Session::new(Arc::new(many), false, false, &mut Vec::new());
    talk(&mut session, b"EHLO x\r\nMAIL FROM:<a@example.org>\r\n");
    let input = b"RCPT TO:<b@example.edu>\r\n".repeat(5000);
    let (mut rest, mut out, mut replies) = (&input[..], Vec::new(), 0);
    loop {
        let (used, action) = session.step(rest, &mut out);
        rest = &rest[used..];
        assert!(out.len() <= 17 * 1024, "{} octets of replies", out.len());
        replies += out.split(|octet| *octet == b'\n').filter(|line| line.starts_with(b"250 2.1.5 ")).count();
        out.clear();
        match action {
            Action::Flush => assert!(!rest.is_empty()),
            action => break assert_eq!(action, Action::NeedInput),
        }
    }
    assert_eq!((replies, rest.len()), (5000, 0));
}

/// NULs are dropped, so that nothing is handed out, and content still has its ceiling.
// covers: 6.8
#[test]
fn content_that_comes_to_nothing_has_a_ceiling_too() {
    let mut rules = (*rules(Role::Smtp, TlsMode::Offered)).clone();
    rules.odd_bytes_of_strangers = OddBytes::Normalize;
    for (begin, piece) in [("DATA\r\n", &[0; 50][..]), ("", b"BDAT 50\r\n"), ("", b"BDAT 0\r\n")] {
        let mut session = Session::new(Arc::new(rules.clone()), false, false, &mut Vec::new());
        talk(&mut session, b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.edu>\r\n");
        talk(&mut session, begin.as_bytes());
        let mut input = piece.to_vec();
        input.resize(input.len() + if piece.ends_with(b"50\r\n") { 50 } else { 0 }, 0);
        let replies: Vec<String> = (0..200).map(|_| talk(&mut session, &input).0).collect();
        let replies = replies.concat();
        assert!(replies.contains("421 4.7.0 "), "{}: {replies}", piece.escape_ascii());
    }
}

/// While nobody can check passwords a client that tries on is sent away in the end, like one that says NOOP for ever.
// covers: 10.8
#[test]
fn who_asks_again_and_again_while_nobody_can_answer_is_sent_away() {
    let (mut session, mut out) = session(Role::Smtp, TlsMode::Implicit, true);
    session.step(b"EHLO x\r\n", &mut out);
    let mut tries = 0;
    while session.phase() != Phase::Closed {
        tries += 1;
        assert!(tries < 500, "still there");
        let (_, action) = session.step(b"AUTH PLAIN AGFubmEAc2VzYW1l\r\n", &mut out);
        assert!(matches!(action, Action::Ask(_)));
        session.answered(Answer::Unavailable, &mut out);
    }
    assert!(out.ends_with(reply::TOO_MANY_IDLE));
}
