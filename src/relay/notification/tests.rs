use super::*;
use crate::smtp::envelope::Fields;

fn view() -> View<'static> {
    View {
        arrival_ms: 1_795_317_010_000,
        reverse_path: b"anna@example.edu",
        envid: Some(b"abc+2Bdef"),
        recipients: vec![
            Recipient { path: b"ben@example.org", notify: None, orcpt: Some(b"rfc822;b+2Ben@example.org") },
            Recipient { path: b"cleo@example.org", notify: Some(b"never"), orcpt: None },
            Recipient { path: b"dora@example.org", notify: Some(b"SUCCESS,failure"), orcpt: None },
            Recipient { path: b"emil@example.org", notify: Some(b"SUCCESS,DELAY"), orcpt: None },
            Recipient { path: b"fritz@example.org", notify: Some(b"NEVER"), orcpt: None },
        ],
        ..View::default()
    }
}

fn verdict(recipient: u32, action: Action, code: u16, text: &str) -> Verdict {
    let reply = Reply { code, text: text.into(), ours: false };
    Verdict { recipient, action, reply, remote: Some("mx.example.org[192.0.2.1]:25".into()) }
}

fn failure(recipient: u32, code: u16, text: &str) -> Verdict {
    verdict(recipient, Action::Failed, code, text)
}

fn notice(original: &[u8]) -> Notice<'_> {
    let (hostname, id, about) = ("penstock.example", "DSN1", "MSG1");
    Notice { hostname, id, about, now_ms: 1_795_317_020_000, original, whole: false, retry_until_ms: None }
}

fn text(view: &View, verdicts: &[Verdict], notice: &Notice) -> String {
    let verdicts: Vec<&Verdict> = verdicts.iter().collect();
    String::from_utf8(notification(view, &verdicts, notice).1).expect("UTF-8")
}

// covers: 12.8
#[test]
fn a_bounce_as_it_is_sent() {
    let failures = [failure(0, 550, "5.1.1 no such user\nsee https://example.org")];
    let failures: Vec<&Verdict> = failures.iter().collect();
    let (envelope, content) = notification(&view(), &failures, &notice(b"Subject: Hi\r\nFrom: anna@example.edu\r\n"));
    let expected = "\
Date: Sun, 22 Nov 2026 03:10:20 +0000\r
Message-ID: <DSN1.1a2013bb560@penstock.example>\r
From: Mail Delivery System <MAILER-DAEMON@penstock.example>\r
To: <anna@example.edu>\r
Subject: Undelivered Mail Returned to Sender\r
Auto-Submitted: auto-replied\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status;\r
\tboundary=\"DSN1.0/penstock.example\"\r
Content-Transfer-Encoding: 8bit\r
\r
This is a MIME-encapsulated message.\r
\r
--DSN1.0/penstock.example\r
Content-Type: text/plain; charset=utf-8\r
Content-Transfer-Encoding: 8bit\r
\r
This is the mail system at penstock.example.\r
\r
Your message could not be delivered to the recipients below. It is not\r
kept here any longer. If you write to your postmaster about it, please\r
include this report.\r
\r
The message:\r
    Subject: Hi\r
\r
<ben@example.org>\r
    The mail server mx.example.org said:\r
    550 5.1.1 no such user see https://example.org\r
\r
--DSN1.0/penstock.example\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; penstock.example\r
X-Penstock-Queue-ID: MSG1\r
Original-Envelope-Id: abc+def\r
Arrival-Date: Sun, 22 Nov 2026 03:10:10 +0000\r
\r
Original-Recipient: rfc822; b+en@example.org\r
Final-Recipient: rfc822; ben@example.org\r
Action: failed\r
Status: 5.1.1\r
Remote-MTA: dns; mx.example.org\r
Diagnostic-Code: smtp; 550 5.1.1 no such user see https://example.org\r
\r
--DSN1.0/penstock.example\r
Content-Type: text/rfc822-headers\r
\r
Subject: Hi\r
From: anna@example.edu\r
\r
--DSN1.0/penstock.example--\r
";
    assert_eq!(String::from_utf8_lossy(&content), expected);
    let view = View::parse(envelope.as_bytes()).expect("whole");
    assert_eq!((view.reverse_path, view.body, view.smtputf8), (&b""[..], 0, false));
    assert_eq!(view.eight_bit, Some(false));
    assert_eq!(view.recipients[0].path, b"anna@example.edu");
}

// covers: 12.8
#[test]
fn notify_is_obeyed_and_a_notification_is_never_answered() {
    for (action, expected) in [
        (Action::Failed, &[0, 2][..]),
        (Action::Expired, &[0, 2]),
        (Action::Delayed, &[0, 3]),
        (Action::Relayed, &[2, 3]),
        (Action::Delivered, &[2, 3]),
    ] {
        let verdicts: Vec<Verdict> = (0..5).map(|recipient| verdict(recipient, action, 550, "no")).collect();
        let told: Vec<u32> = reported(&view(), &verdicts).iter().map(|verdict| verdict.recipient).collect();
        assert_eq!(told, expected, "{action:?}");
        let null = View { reverse_path: b"", ..view() };
        assert!(reported(&null, &verdicts).is_empty());
    }
}

// covers: 12.7 12.8 12.9
#[test]
fn what_is_said_of_each_action() {
    let until = Notice { retry_until_ms: Some(1_795_317_010_000), ..notice(b"Subject: Hi\r\n") };
    for (action, code, reply, expected) in [
        (
            Action::Relayed,
            250,
            "2.0.0 queued",
            ["Subject: Successful", "handed to", "Action: relayed", "Status: 2.0.0"],
        ),
        (Action::Delivered, 250, "ok", ["Subject: Successful", "was delivered", "Action: delivered", "Status: 2.0.0"]),
        (Action::Delayed, 451, "4.2.1 x", ["Subject: Delayed", "not yet be", "Action: delayed", "Status: 4.2.1"]),
        (Action::Expired, 451, "4.2.1 x", ["Subject: Undelivered", "in time", "Action: failed", "Status: 4.4.7"]),
    ] {
        let text = text(&view(), &[verdict(0, action, code, reply)], &until);
        assert!(expected.iter().all(|part| text.contains(part)), "{action:?}: {text}");
        let promised = text.contains("Will-Retry-Until: Sun, 22 Nov 2026 03:10:10 +0000\r\n");
        assert_eq!(promised, action == Action::Delayed);
        assert!(text.contains("Auto-Submitted: auto-replied\r\n"));
    }
}

// covers: 12.7 12.8
#[test]
fn the_sender_learns_which_message_how_long_and_whose_words() {
    let original = b"Date: Sun, 22 Nov 2026 04:00:00 +0100\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n";
    let until = Notice { retry_until_ms: Some(1_795_317_010_000), ..notice(original) };
    let mut late = verdict(0, Action::Delayed, 451, "4.2.1 busy");
    for (remote, present) in [
        (
            Some("hub.example[192.0.2.7]:25"),
            &["The mail server hub.example said:\r\n    451", "MTA: dns; hub.example\r", "Code: smtp; 451 4"][..],
        ),
        (Some("[2001:db8::1]:25"), &["The mail server [2001:db8::1] said:"]),
        (Some("192.0.2.7:25"), &["The mail server 192.0.2.7 said:"]),
        (Some("unix:/run/lmtp"), &["The mail store said:", "MTA: X-local; unix:/run/lmtp\r", "Code: smtp;"]),
        (None, &["The last reason was:\r\n    451", "Code: X-Penstock; 451"]),
    ] {
        late.remote = remote.map(String::from);
        let text = text(&view(), &[late.clone()], &until);
        for part in present.iter().chain(&[
            "\r\nThe message:\r\n    Subject: Grüße\r\n    Date: Sun, 22 Nov 2026 04:00:00 +0100\r\n",
            "It will be tried until Sun, 22 Nov 2026 03:10:10 +0000.\r\n",
        ]) {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!((text.contains(" said:"), text.contains("Remote-MTA")), (remote.is_some(), remote.is_some()));
    }
    let refused = Verdict { remote: None, ..failure(0, 550, "5.6.1 it would have to be converted") };
    assert!(text(&view(), &[refused], &until).contains("    It could not be sent from here:\r\n    550 5.6.1"));
}

// covers: 12.4
#[test]
fn a_notification_of_a_message_that_requires_tls_requires_it_and_returns_no_text() {
    let secret = View { require_tls: true, ret: Some(0), ..view() };
    let failures = [failure(0, 550, "no")];
    let (envelope, _) = notification(&secret, &failures.iter().collect::<Vec<_>>(), &notice(b"A: b\r\n"));
    assert!(View::parse(envelope.as_bytes()).expect("whole").require_tls);
    assert!(may_return_text(&view()) && !may_return_text(&secret));
    assert!(
        !may_return_text(&View { body: 2, ..view() }) && !may_return_text(&View { long_line: Some(true), ..view() })
    );
}

#[test]
fn an_original_recipient_of_type_utf_8_keeps_its_escapes() {
    let original = |orcpt: &str| original(orcpt.as_bytes()).map(|(kind, address)| format!("{kind}; {address}"));
    assert_eq!(original("rfc822;a+2Bb@c").as_deref(), Some("rfc822; a+b@c"));
    assert_eq!(original("utf-8;gr\\x{FC}n+2B@c").as_deref(), Some("utf-8; gr\\x{FC}n+2B@c"));
    assert_eq!(original("nothing"), None);
}

/// What the relay has to know before it sends one: its recipient is the one address, and a header may have a long line.
#[test]
fn the_envelope_says_what_the_content_needs() {
    let long = format!("Subject: {}\r\n", "x".repeat(1100));
    for (reverse_path, original, utf8, long_line) in [
        ("anna@example.edu", "", false, 0),
        ("j\u{f6}rg@example.edu", "", true, 0),
        ("anna@example.edu", &*long, false, 1),
    ] {
        let view = View { reverse_path: reverse_path.as_bytes(), ..view() };
        let (envelope, _) = notification(&view, &[&failure(0, 550, "5.1.1 no")], &notice(original.as_bytes()));
        let fields: Vec<_> = Fields::new(envelope.as_bytes()).map(|field| field.expect("whole")).collect();
        assert_eq!(fields.contains(&(Tag::SmtpUtf8, &b""[..])), utf8, "{reverse_path}");
        assert!(fields.contains(&(Tag::LongLine, &[long_line][..])), "{reverse_path}");
    }
}

#[test]
fn long_lines_are_known() {
    let line = |length: usize, end: &str| format!("a\r\n{}{end}", "x".repeat(length)).into_bytes();
    for (length, expected) in [(998, false), (999, true)] {
        for end in ["\r\n", "\n", ""] {
            assert_eq!(has_long_line(&line(length, end)), expected, "{length} {end:?}");
        }
    }
}

#[test]
fn nothing_from_outside_adds_a_line() {
    let mut view = view();
    view.recipients[0].orcpt = Some(b"rfc822;x+0D+0AAction:+20delivered");
    view.envid = Some(b"x+0AStatus: 2.0.0");
    view.recipients[0].path = b"a\r\nStatus: 2.0.0\r\n@b";
    let hostile = failure(0, 550, &format!("5.1.1 x\r\nStatus: 2.0.0\n{}", "y".repeat(5000)));
    let text = text(&view, &[hostile], &notice(b"A: b\r\n"));
    assert_eq!(text.matches("\nStatus: ").count(), 1);
    assert_eq!(text.matches("\nAction: ").count(), 1);
    assert!(text.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n'])));
}

/// The words of a server, a subject, an ORCPT: none hides what stands beside it from people or programs.
// covers: 1.2 12.8
#[test]
fn what_would_turn_a_report_around_is_spelt_out() {
    let mut view = view();
    view.recipients[0].orcpt = Some("utf-8;b\u{202e}c@d".as_bytes());
    // Words of Persian need their joiners.
    view.recipients[0].path = "\u{645}\u{6cc}\u{200c}\u{62e}@example.org".as_bytes();
    let reply = "5.1.1 \u{202e}yes\u{2066}no\u{200b}\u{feff}\u{ad}\u{e0041}\u{2028}\u{9b}gr\u{fc}n";
    let original = "Subject: a\u{202e}b =?utf-8?q?=E2=80=AEc?=\r\n".as_bytes();
    let text = text(&view, &[failure(0, 550, reply)], &notice(original));
    let spelt = "550 5.1.1 \\u{202e}yes\\u{2066}no\\u{200b}\\u{feff}\\u{ad}\\u{e0041}\\u{2028} gr\u{fc}n\r\n";
    for expected in
        [&format!("    {spelt}"), &format!("smtp; {spelt}"), "Subject: a\\u{202e}b \\u{202e}c\r\n", "b\\u{202e}c@d\r\n"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_eq!(text.matches("\u{645}\u{6cc}\u{200c}\u{62e}@example.org").count(), 2);
    let returned = text.find("Subject: a\u{202e}b").expect("the original is returned as it is");
    let said =
        text[..returned].chars().find(|&character| !matches!(character, '\r' | '\n' | '\t') && is_dangerous(character));
    assert_eq!(said, None);
    // Within bounds, and never half an escape.
    let long = one_line(&"\u{202e}".repeat(1000));
    assert!(long.len() <= DIAGNOSTIC_BYTES_MAX && long.ends_with("\\u{202e}"), "{long}");
}

/// RFC 4865 section 5.1.2: when it arrived, and what was asked for.
// covers: 3.6 12.8
#[test]
fn a_report_of_a_held_message_says_what_was_asked_for() {
    for (hold, expected) in [
        (Some(Hold::For(3600)), Some("Future-Release-Request: for;3600\r\n\r\n")),
        (Some(Hold::Until(1_795_329_000)), Some("Future-Release-Request: until;2026-11-22T06:30:00Z\r\n\r\n")),
        (None, None),
    ] {
        let text = text(&View { hold, ..view() }, &[failure(0, 550, "no")], &notice(b"A: b\r\n"));
        let arrival = "Arrival-Date: Sun, 22 Nov 2026 03:10:10 +0000\r\n";
        match expected {
            Some(field) => assert!(text.contains(&format!("{arrival}{field}")), "{text}"),
            None => assert!(text.contains(arrival) && !text.contains("Future-Release"), "{text}"),
        }
    }
}

#[test]
fn the_boundary_is_not_in_the_original() {
    let text = text(&view(), &[failure(0, 550, "no")], &notice(b"A: --DSN1.0/penstock.example\r\n"));
    assert!(text.contains("boundary=\"DSN1.1/penstock.example\""));
}

/// RFC 2046 section 5.1.1: not empty, at most 70 octets, with no space at its end.
// covers: 12.8
#[test]
fn the_boundary_is_as_short_as_it_must_be() {
    let longest = format!("{}.{}", ["a"; 63].concat(), ["b"; 63].concat());
    for hostname in ["mx.example", &longest] {
        let original = b"A: --1CZD3XK4Q00AB.0/\r\n";
        let text =
            text(&view(), &[failure(0, 550, "no")], &Notice { hostname, id: "1CZD3XK4Q00AB", ..notice(original) });
        let (_, behind) = text.split_once("boundary=\"").expect("a boundary");
        let (boundary, _) = behind.split_once('"').expect("its end");
        assert!((1..=70).contains(&boundary.len()), "{boundary}");
        assert_eq!(text.matches(&format!("\r\n--{boundary}\r\n")).count(), 3);
        assert!(text.ends_with(&format!("\r\n--{boundary}--\r\n")));
    }
}

#[test]
fn expiry_and_status() {
    let mut late = failure(0, 451, "4.2.0 greylisted");
    late.action = Action::Expired;
    assert_eq!(status(&late), "4.4.7");
    assert!(text(&view(), &[late], &notice(b"")).contains("could not be delivered in time"));
    for (code, text, expected) in [
        (550, "5.7.1 no", "5.7.1"),
        (550, "no", "5.0.0"),
        (550, "4.7.1 odd", "5.0.0"),
        (554, "5.7.1.2 odd", "5.0.0"),
        (554, "5.7.1x", "5.0.0"),
        (599, "5.1234.1", "5.0.0"),
        (550, "5.7.1\nmore", "5.7.1"),
    ] {
        assert_eq!(status(&failure(0, code, text)), expected, "{text}");
    }
}

#[test]
fn eight_bit_headers_and_international_addresses_keep_their_octets() {
    let original = "Subject: Grüße\r\n".as_bytes();
    let failures = [failure(0, 550, "5.1.1 nö")];
    let refs: Vec<&Verdict> = failures.iter().collect();
    let (envelope, content) = notification(&view(), &refs, &notice(original));
    assert!(memchr::memmem::find(&content, original).is_some());
    assert!(memchr::memmem::find(&content, b"Diagnostic-Code: smtp; 550 5.1.1 n?\r\n").is_some());
    let stored = View::parse(envelope.as_bytes()).expect("whole");
    assert_eq!((stored.body, stored.eight_bit), (1, Some(true)));

    let mut view = view();
    view.reverse_path = "ännä@example.edu".as_bytes();
    view.recipients[0].path = "bän@example.org".as_bytes();
    let (envelope, _) = notification(&view, &refs, &notice(original));
    assert!(View::parse(envelope.as_bytes()).expect("whole").smtputf8);
    let text = text(&view, &failures, &notice(original));
    for part in [
        "report-type=global-delivery-status",
        "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n",
        "Final-Recipient: utf-8; bän@example.org\r\n",
        "Diagnostic-Code: smtp; 550 5.1.1 nö\r\n",
        "Content-Type: message/global-headers\r\n",
    ] {
        assert!(text.contains(part), "{part}");
    }
}

#[test]
fn the_whole_message_when_asked_for() {
    let original = b"Subject: Hi\r\n\r\nText without an end";
    let notice = Notice { whole: true, ..notice(original) };
    let text = text(&view(), &[failure(0, 550, "no")], &notice);
    assert!(text.contains("Content-Type: message/rfc822\r\n\r\nSubject: Hi\r\n\r\nText without an end\r\n\r\n--"));
}
