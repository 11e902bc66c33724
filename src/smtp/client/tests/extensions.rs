//! Dialogues about what only some servers offer: DSN, REQUIRETLS, BINARYMIME; and about servers that are not to be believed.

use super::*;

/// A server that offers everything that a transaction may need.
const RICH: &str = "250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250-BINARYMIME\r\n\
                    250-DSN\r\n250-AUTH PLAIN\r\n250 REQUIRETLS\r\n";

fn asked_for() -> Transaction {
    let mut transaction = to(&["a@b", "gr\u{fc}n@d", "\"e f\"@g"]);
    transaction.recipients[0].notify = Some(b"SUCCESS,DELAY".to_vec());
    transaction.recipients[0].orcpt = Some(b"rfc822;A+2B@b".to_vec());
    transaction.recipients[1].orcpt = Some("utf-8;gr\u{fc}n@d".into());
    transaction.recipients[2].notify = Some(b"NEVER\r\nDATA".to_vec());
    Transaction { ret_full: Some(true), envid: Some(b"id+2B".to_vec()), auth: Some(b"<>".to_vec()), ..transaction }
}

// covers: 5.11 5.12 10.7c 12.9
#[test]
fn what_the_sender_asked_for_is_passed_on_where_it_is_offered() {
    let rich = "MAIL FROM:<anna@example.edu> SMTPUTF8 RET=FULL ENVID=id+2B AUTH=<>\r\n\
                RCPT TO:<a@b> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;A+2B@b\r\n\
                RCPT TO:<gr\u{fc}n@d> ORCPT=utf-8;gr\u{fc}n@d\r\n\
                RCPT TO:<\"e f\"@g> ORCPT=rfc822;\"e+20f\"@g\r\nDATA\r\n";
    let turns = [
        ("", "220 mx\r\n"),
        (EHLO, RICH),
        (rich, "250\r\n250\r\n250\r\n250\r\n354\r\n"),
        (BODY, "250 ok\r\n"),
        ("QUIT\r\n", "221 bye\r\n"),
    ];
    assert_eq!(talk(options(), &[asked_for()], &turns), ["delivered 250, delivered 250, delivered 250", "bye"]);
    let plain = "MAIL FROM:<anna@example.edu> SMTPUTF8\r\nRCPT TO:<a@b>\r\nRCPT TO:<gr\u{fc}n@d>\r\n\
                 RCPT TO:<\"e f\"@g>\r\nDATA\r\n";
    let turns = [("", "220 mx\r\n"), (EHLO, MODERN), (plain, "421 bye\r\n")];
    assert_eq!(talk(options(), &[asked_for()], &turns)[1], "closed temporary 421");
}

/// Only the ORCPT is beyond ASCII, and so the transaction asks for no SMTPUTF8: then it is spelt out. RFC 6533 section 3.
// covers: 12.9
#[test]
fn an_orcpt_outside_ascii_needs_no_smtputf8() {
    let mut transaction = to(&["a@b"]);
    transaction.recipients[0].orcpt = Some("utf-8;gr\u{fc}n@d".into());
    let group = "MAIL FROM:<anna@example.edu>\r\nRCPT TO:<a@b> ORCPT=utf-8;gr\\x{FC}n@d\r\nDATA\r\n";
    let turns = [
        ("", "220 mx\r\n"),
        (EHLO, RICH),
        (group, "250\r\n250\r\n354\r\n"),
        (BODY, "250 ok\r\n"),
        ("QUIT\r\n", "221 bye\r\n"),
    ];
    assert_eq!(talk(options(), &[transaction], &turns), ["delivered 250", "bye"]);
}

// covers: 12.3
#[test]
fn an_address_outside_ascii_does_not_stop_the_others() {
    let turns = after_hello(&[
        (MAIL, "250 ok\r\n"),
        ("RCPT TO:<a@b>\r\n", "250 ok\r\n"),
        ("DATA\r\n", "354 go\r\n"),
        (BODY, "250 ok\r\n"),
        ("QUIT\r\n", "221 bye\r\n"),
    ]);
    let events = talk(options(), &[to(&["gr\u{fc}n@b", "a@b"])], &turns);
    assert_eq!(events, ["failed 553, delivered 250", "bye"]);
}

// covers: 12.4
#[test]
fn requiretls_goes_over_proven_tls_to_a_server_that_offers_it() {
    let secret = || Transaction { require_tls: true, ret_full: Some(true), ..to(&["a@b"]) };
    let group = "MAIL FROM:<anna@example.edu> REQUIRETLS RET=HDRS\r\nRCPT TO:<a@b> ORCPT=rfc822;a@b\r\nDATA\r\n";
    let good: &[Turn] = &[(group, "250\r\n250\r\n354\r\n"), (BODY, "250 ok\r\n"), ("QUIT\r\n", "221\r\n")];
    let refused: &[Turn] = &[("QUIT\r\n", "221\r\n")];
    for (verifies, in_tls, turns, expected) in [
        (true, RICH, good, "delivered 250"),
        (false, RICH, refused, "failed 550"),
        (true, MODERN, refused, "failed 550"),
    ] {
        let tls = Options { starttls: StartTls::Required, verifies, ..options() };
        let start: &[Turn] = &[("", "220 mx\r\n"), (EHLO, MODERN), ("STARTTLS\r\n", "220 go\r\n"), (EHLO, in_tls)];
        let events = talk(tls, &[secret()], &[start, turns].concat());
        assert_eq!(events, ["tls, nothing dropped", expected, "bye"], "{verifies} {in_tls}");
    }
    // A notification is not dropped where REQUIRETLS is not offered, but it still goes over proven TLS alone. Section 5.
    let notice = || Transaction { reverse_path: Vec::new(), ..secret() };
    let tagged = "MAIL FROM:<> REQUIRETLS RET=HDRS\r\nRCPT TO:<a@b> ORCPT=rfc822;a@b\r\nDATA\r\n";
    let tagged: &[Turn] = &[(tagged, "250\r\n250\r\n354\r\n"), (BODY, "250 ok\r\n"), ("QUIT\r\n", "221\r\n")];
    let bare = "MAIL FROM:<> RET=HDRS\r\nRCPT TO:<a@b> ORCPT=rfc822;a@b\r\nDATA\r\n";
    let bare: &[Turn] = &[(bare, "250\r\n250\r\n354\r\n"), (BODY, "250 ok\r\n"), ("QUIT\r\n", "221\r\n")];
    let old = "250-mx\r\n250-PIPELINING\r\n250 DSN\r\n";
    for (verifies, in_tls, turns, expected) in [
        (true, RICH, tagged, "delivered 250"),
        (true, old, bare, "delivered 250"),
        (false, RICH, refused, "failed 550"),
        (false, old, refused, "failed 550"),
    ] {
        let tls = Options { starttls: StartTls::Required, verifies, ..options() };
        let start: &[Turn] = &[("", "220 mx\r\n"), (EHLO, MODERN), ("STARTTLS\r\n", "220 go\r\n"), (EHLO, in_tls)];
        let events = talk(tls, &[notice()], &[start, turns].concat());
        assert_eq!(events, ["tls, nothing dropped", expected, "bye"], "{verifies} {in_tls}");
    }
    // Offered in the clear, and no TLS at all.
    let clear = Options { verifies: true, ..options() };
    let turns: &[Turn] = &[("", "220 mx\r\n"), (EHLO, RICH), ("QUIT\r\n", "221\r\n")];
    assert_eq!(talk(clear, &[secret()], turns), ["failed 550", "bye"]);
}

// covers: 6.5a 12.2
#[test]
fn binary_content_goes_by_bdat_octet_for_octet() {
    let binary = |size, recipients: &[&str]| Transaction { body: Body::Binary, size, ..to(recipients) };
    let group = "MAIL FROM:<anna@example.edu> BODY=BINARYMIME\r\nRCPT TO:<a@b> ORCPT=rfc822;a@b\r\n";
    let hello: &[Turn] = &[("", "220 mx\r\n"), (EHLO, RICH)];
    let good: &[Turn] = &[(group, "250\r\n250\r\n"), ("BDAT 4 LAST\r\nHi\n.", "250 ok\r\n"), ("QUIT\r\n", "221\r\n")];
    assert_eq!(talk(options(), &[binary(4, &["a@b"])], &[hello, good].concat()), ["delivered 250", "bye"]);
    // Nobody to send it to: no chunk, and the transaction is left behind.
    let nobody: &[Turn] = &[(group, "250\r\n550\r\n"), ("QUIT\r\n", "221\r\n")];
    assert_eq!(talk(options(), &[binary(4, &["a@b"])], &[hello, nobody].concat()), ["failed 550", "bye"]);
    // Less than was announced has no end, and more has none either: a server takes no piece of a message for the whole.
    for (size, chunk) in [(5, "BDAT 5 LAST\r\nHi\n."), (3, "BDAT 3 LAST\r\nHi"), (2, "BDAT 2 LAST\r\n")] {
        let wrong: &[Turn] = &[(group, "250\r\n250\r\n"), (chunk, "")];
        let events = talk(options(), &[binary(size, &["a@b"])], &[hello, wrong].concat());
        assert_eq!(events, ["deferred 451", "closed temporary 451"], "{size}");
    }
}

// covers: 12.5
#[test]
fn binary_content_over_lmtp_has_a_reply_for_every_recipient() {
    let group = "MAIL FROM:<anna@example.edu> BODY=BINARYMIME\r\nRCPT TO:<a@b> ORCPT=rfc822;a@b\r\n\
                 RCPT TO:<c@d> ORCPT=rfc822;c@d\r\n";
    let turns = [
        ("", "220 mx\r\n"),
        ("LHLO penstock.example\r\n", RICH),
        (group, "250\r\n250\r\n250\r\n"),
        ("BDAT 4 LAST\r\nHi\n.", "250 ok\r\n452 full\r\n"),
        ("QUIT\r\n", "221\r\n"),
    ];
    let message = Transaction { body: Body::Binary, size: 4, ..to(&["a@b", "c@d"]) };
    let lmtp = Options { lmtp: true, ..options() };
    assert_eq!(talk(lmtp, &[message], &turns), ["delivered 250, deferred 452", "bye"]);
}

// covers: 12.14
#[test]
fn a_server_with_our_own_name_is_ourselves() {
    let own = "250-Penstock.Example hi\r\n250 PIPELINING\r\n";
    let wary = Options { detects_loop: true, ..options() };
    assert_eq!(talk(wary.clone(), &[], &[("", "220 mx\r\n"), (EHLO, own)]), ["closed loop"]);
    let old = [("", "220 mx\r\n"), (EHLO, "500 what\r\n"), ("HELO penstock.example\r\n", "250 penstock.example\r\n")];
    assert_eq!(talk(wary.clone(), &[], &old), ["closed loop"]);
    let other = [("", "220 penstock.example\r\n"), (EHLO, "250 penstock.example.org\r\n"), ("QUIT\r\n", "221\r\n")];
    assert_eq!(talk(wary, &[], &other), ["bye"]);
    assert_eq!(talk(options(), &[], &[("", "220 mx\r\n"), (EHLO, own), ("QUIT\r\n", "221\r\n")]), ["bye"]);
}

/// A `250` that is there before the content has ended is believed by nobody.
// covers: 12.6
#[test]
fn an_answer_before_the_end_of_the_content_is_no_answer() {
    for answer in [&b"250 queued\r\n"[..], b"354 go on\r\n"] {
        let mut client = in_content(options(), &["a@b"]);
        let mut out = Vec::new();
        client.content(b"Hi", &mut out);
        let Event::Done(fates) = client.step(answer, &mut out).1 else { panic!("no fates") };
        assert_eq!(shown(&fates[0]), "deferred 451");
        assert!(matches!(client.step(b"", &mut out).1, Event::Closed(Trouble::Garbled(_))));
    }
}

/// One reply too many, in one read with the one before: it answers nothing, and nobody is refused for another.
// covers: 12.5
#[test]
fn a_reply_too_many_refuses_nobody() {
    let ehlo = "250-mx\r\n250 PIPELINING\r\n";
    let reads: [&[&str]; 3] = [
        // The 550 is for the first recipient, and would be taken for the second one's.
        &["250 mail\r\n250 once more\r\n550 first\r\n250 second\r\n354 go\r\n"],
        &["250 mail\r\n250 once more\r\n550 first\r\n250 second\r\n", "354 go\r\n"],
        &["250 mail\r\n250 once more\r\n", "550 first\r\n", "250 second\r\n354 go\r\n"],
    ];
    for (number, answers) in reads.into_iter().enumerate() {
        let (mut client, mut out) = (Client::new(options()), Vec::new());
        client.step(b"220 mx\r\n", &mut out);
        assert_eq!(client.step(ehlo.as_bytes(), &mut out).1, Event::Ready);
        client.send(to(&["a@b", "c@d"]), &mut out);
        let fates = answers.iter().find_map(|answer| match client.step(answer.as_bytes(), &mut out).1 {
            Event::Done(fates) => Some(fates),
            _ => None,
        });
        let fates: Vec<String> = fates.unwrap_or_else(|| panic!("no fates of {number}")).iter().map(shown).collect();
        assert_eq!(fates, ["deferred 451", "deferred 451"], "{number}");
        assert!(matches!(client.step(b"", &mut out).1, Event::Closed(Trouble::Garbled(_))), "{number}");
    }
}

/// What comes along with the answer to a command is no answer to the next one, which the server has not seen.
// covers: 12.5
#[test]
fn an_answer_to_what_is_not_yet_asked() {
    let hear = |said: &[&str]| {
        let (mut client, mut out) = (Client::new(options()), Vec::new());
        said.iter().map(|said| client.step(said.as_bytes(), &mut out).1).last()
    };
    let garbled = |event: Option<Event>| matches!(event, Some(Event::Closed(Trouble::Garbled(_))));
    assert!(garbled(hear(&["220 mx\r\n250 mx\r\n"])));
    assert!(garbled(hear(&["220 mx\r\n", "250 mx\r\n250 mx\r\n"])));
    assert_eq!(hear(&["220 mx\r\n", "250 mx\r\n"]), Some(Event::Ready));
    // A farewell is one wherever it comes.
    let farewell = hear(&["220 mx\r\n421 closing\r\n"]);
    assert!(matches!(farewell, Some(Event::Closed(Trouble::Temporary(_)))), "{farewell:?}");
}

/// What we refuse ourselves is refused whatever the server says.
#[test]
fn our_own_refusals_stand() {
    let (mut client, mut out) = (Client::new(options()), Vec::new());
    client.step(b"220 mx\r\n", &mut out);
    client.step(b"250-mx\r\n250 PIPELINING\r\n", &mut out);
    client.send(to(&["\u{fc}@b", "c@d"]), &mut out);
    let Event::Done(fates) = client.step(b"nonsense\r\n", &mut out).1 else { panic!("no fates") };
    assert_eq!(fates.iter().map(shown).collect::<Vec<_>>(), ["failed 553", "deferred 451"]);
}
