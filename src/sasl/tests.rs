//! Exchanges as tables: what the client sent, what came of it.

use super::*;

fn b64(octets: impl AsRef<[u8]>) -> String {
    STANDARD.encode(octets)
}

fn terms<'a>(user: &'a str, password: &'a str) -> Terms<'a> {
    Terms { user, password, nonce: "fyko+d2lbbFgONRv9qkxdawL", binding: None }
}

fn verify(mechanism: Mechanism, user: &str, password: &str) -> Step {
    Step::Verify(Credentials { mechanism, user: user.into(), password: password.into() })
}

/// The last step of a whole exchange, and the challenges on the way.
fn run(mechanism: Mechanism, initial: Option<&str>, lines: &[&str]) -> (Vec<String>, Step) {
    let mut challenges = Vec::new();
    let (mut exchange, mut step) = Exchange::start(mechanism, initial.map(str::as_bytes), None);
    for line in lines {
        let Step::Challenge(text) = step else { panic!("{line} is not asked for: {step:?}") };
        challenges.push(text.into_owned());
        step = exchange.respond(line.as_bytes());
    }
    (challenges, step)
}

#[test]
fn plain_with_and_without_initial_response() {
    // RFC 4616 section 4 and RFC 4954 section 4.1.
    for (message, user, password) in [
        ("\0tim\0tanstaaftanstaaf", "tim", "tanstaaftanstaaf"),
        ("test\0test\x001234", "test", "1234"),
        ("\0a@b.example\0p:w d", "a@b.example", "p:w d"),
        ("\0us\u{00AD}er\0\u{2168}", "user", "IX"), // RFC 4013 section 3: mapped to nothing, NFKC
    ] {
        let line = b64(message);
        let expected = (vec![], verify(Mechanism::Plain, user, password));
        assert_eq!(run(Mechanism::Plain, Some(&line), &[]), expected, "{message:?}");
        let expected = (vec![String::new()], verify(Mechanism::Plain, user, password));
        assert_eq!(run(Mechanism::Plain, None, &[&line]), expected, "{message:?}");
    }
    assert_eq!(b64("test\0test\x001234"), "dGVzdAB0ZXN0ADEyMzQ=");
}

#[test]
fn plain_refusals() {
    let user_255 = "u".repeat(255);
    let user_256 = "u".repeat(256);
    let password_1024 = "p".repeat(1024);
    let table: &[(String, Step)] = &[
        (String::new(), Step::Malformed),
        ("user".into(), Step::Malformed),
        ("\0user".into(), Step::Malformed),
        ("\0user\0".into(), Step::Malformed),
        ("\0\0password".into(), Step::Malformed),
        ("\0user\0pass\0word".into(), Step::Malformed),
        ("\0user\0password\0".into(), Step::Malformed),
        ("\0\0user\0password".into(), Step::Malformed),
        ("\0us\ter\0password".into(), Step::Malformed),
        ("\0user\0pass\nword".into(), Step::Malformed),
        ("\0\u{00AD}\0password".into(), Step::Malformed), // empty once prepared
        ("\0user\0\u{E000}".into(), Step::Malformed),
        ("root\0user\0password".into(), Step::Refused),
        ("User\0user\0password".into(), Step::Refused),
        ("us\u{00AD}er\0user\0password".into(), verify(Mechanism::Plain, "user", "password")),
        (format!("\0{user_255}\0p"), verify(Mechanism::Plain, &user_255, "p")),
        (format!("\0{user_256}\0p"), Step::Malformed),
        (format!("\0u{}\0p", "\u{AD}".repeat(128)), Step::Malformed), // one octet once prepared, but not before
        (format!("{user_256}\0user\0p"), Step::Malformed),
        (format!("\0user\0{password_1024}"), verify(Mechanism::Plain, "user", &password_1024)),
        (format!("\0user\0{password_1024}p"), Step::Malformed),
        (format!("\0{}\0p", "\u{FDFA}".repeat(80)), Step::Malformed), // within 255 octets, past it once prepared
    ];
    for (message, step) in table {
        assert_eq!(run(Mechanism::Plain, Some(&b64(message)), &[]).1, *step, "{message:?}");
    }
    assert_eq!(run(Mechanism::Plain, Some(&b64(b"\0us\xffer\0password")), &[]).1, Step::Malformed);
    assert_eq!(run(Mechanism::Plain, Some(&b64(b"\0user\0\xc0\xaf")), &[]).1, Step::Malformed);
}

#[test]
fn login_with_and_without_the_user_on_the_auth_line() {
    let (user, password) = (b64("user@example.edu"), b64("pass word"));
    let expected = || verify(Mechanism::Login, "user@example.edu", "pass word");
    let prompts = vec!["VXNlcm5hbWU6".to_owned(), "UGFzc3dvcmQ6".to_owned()];
    assert_eq!(run(Mechanism::Login, None, &[&user, &password]), (prompts, expected()));
    assert_eq!(run(Mechanism::Login, Some(&user), &[&password]), (vec!["UGFzc3dvcmQ6".to_owned()], expected()));
    assert_eq!((b64("Username:"), b64("Password:")), ("VXNlcm5hbWU6".into(), "UGFzc3dvcmQ6".into()));
}

#[test]
fn login_refusals() {
    let (long_user, long_password) = (b64("u".repeat(256)), b64("p".repeat(1025)));
    for lines in [
        &[""][..],
        &["="],
        &[&long_user],
        &["/w=="],         // not UTF-8
        &["dQB2"],         // NUL inside
        &["dXNlcg==", ""], // empty password
        &["dXNlcg==", "dQB2"],
        &["dXNlcg==", &long_password],
    ] {
        assert_eq!(run(Mechanism::Login, None, lines).1, Step::Malformed, "{lines:?}");
    }
    assert_eq!(run(Mechanism::Login, Some("="), &[]).1, Step::Malformed, "an empty user name");
}

#[test]
fn an_empty_initial_response_is_an_equals_sign() {
    // For PLAIN an empty message is no message at all: three parts are missing.
    assert_eq!(run(Mechanism::Plain, Some("="), &[]).1, Step::Malformed);
    // Only on the AUTH line: as a response it is bad base64.
    assert_eq!(run(Mechanism::Plain, None, &["="]).1, Step::Malformed);
}

#[test]
fn a_star_cancels_at_every_prompt() {
    assert_eq!(run(Mechanism::Plain, None, &["*"]).1, Step::Cancelled);
    assert_eq!(run(Mechanism::Login, None, &["*"]).1, Step::Cancelled);
    assert_eq!(run(Mechanism::Login, None, &["dXNlcg==", "*"]).1, Step::Cancelled);
    assert_eq!(run(Mechanism::Login, Some("dXNlcg=="), &["*"]).1, Step::Cancelled);
    assert_eq!(run(Mechanism::Plain, None, &["* "]).1, Step::Malformed);
}

#[test]
fn base64_is_taken_strictly() {
    // "\0user\0password" is AHVzZXIAcGFzc3dvcmQ=
    for line in [
        "AHVzZXIAcGFzc3dvcmQ",    // padding missing
        "AHVzZXIAcGFzc3dvcmQ==",  // too much of it
        "AHVz=ZXIAcGFzc3dvcmQ=",  // in the middle
        "=AHVzZXIAcGFzc3dvcmQ",   // in front
        "AHVzZXIAcGFzc3dvcmQ= ",  // white space
        " AHVzZXIAcGFzc3dvcmQ=",  // the same
        "AHVzZXIA\tcGFzc3dvcmQ=", // the same
        "AHVzZXIAcGFzc3dvcmR=",   // bits set behind the end
        "AHVzZXIAcGFzc3dvcm-_",   // another alphabet
        "AHVzZXIAcGFzc3dvcmQ=AAAA",
        "A",
        "\u{e9}",
    ] {
        assert_eq!(run(Mechanism::Plain, Some(line), &[]).1, Step::Malformed, "{line}");
        assert_eq!(run(Mechanism::Plain, None, &[line]).1, Step::Malformed, "{line}");
    }
    assert_eq!(
        run(Mechanism::Plain, Some("AHVzZXIAcGFzc3dvcmQ="), &[]).1,
        verify(Mechanism::Plain, "user", "password")
    );
}

#[test]
fn a_command_inside_an_exchange_is_a_response() {
    for command in ["RSET", "QUIT", "NOOP", "HELP", "DATA", "EHLO client.example", "MAIL FROM:<a@b.example>"] {
        assert_eq!(run(Mechanism::Plain, None, &[command]).1, Step::Malformed, "{command}");
    }
    for command in ["RSET", "QUIT", "NOOP"] {
        assert_eq!(run(Mechanism::Login, None, &[command]).1, Step::Malformed, "{command}");
        assert_eq!(run(Mechanism::Login, None, &["dXNlcg==", command]).1, Step::Malformed, "{command}");
    }
}

#[test]
fn an_exchange_that_is_over_stays_over() {
    let (mut exchange, step) = Exchange::start(Mechanism::Login, Some(b"?"), None);
    assert_eq!(step, Step::Malformed);
    assert_eq!(exchange.respond(b"dXNlcg=="), Step::Malformed);
    let (mut exchange, _) = Exchange::start(Mechanism::Plain, None, None);
    assert_eq!(exchange.respond(b"*"), Step::Cancelled);
    assert_eq!(exchange.respond(b"AHVzZXIAcGFzc3dvcmQ="), Step::Malformed);
}

#[test]
fn preparation_follows_rfc_4013() {
    for (given, prepared) in [
        // RFC 4013 section 3.
        ("I\u{AD}X", Some("IX")),
        ("user", Some("user")),
        ("USER", Some("USER")),
        ("\u{AA}", Some("a")),
        ("\u{2168}", Some("IX")),
        ("\u{7}", None),
        ("\u{627}1", None),
        // Ours.
        ("a\u{A0}b", Some("a b")),
        ("e\u{301}", Some("\u{E9}")),
        ("\u{627}\u{628}", Some("\u{627}\u{628}")),
        ("\u{627}a\u{628}", None),
        ("\u{1F600}", Some("\u{1F600}")), // assigned after Unicode 3.2: a query takes it
        ("a\u{7F}", None),
        ("a\u{85}", None),
        ("\u{F8FF}", None),
        ("\u{FFFD}", None),
        ("\u{202E}a", None),
        ("\u{FEFF}", Some("")),
        ("", Some("")),
    ] {
        assert_eq!(prepare(given).as_deref(), prepared, "{given:?}");
    }
}

#[test]
fn nothing_prepared_outgrows_its_room() {
    for c in (0..=0x10FFFF).filter_map(char::from_u32) {
        let text = c.to_string();
        let prepared_bytes = prepare(&text).map_or(0, |prepared| prepared.len());
        assert!(prepared_bytes <= 11 * text.len(), "{c:?}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let (exchange, step) = Exchange::start(Mechanism::Plain, Some(b64("\0user\0hunter42").as_bytes()), None);
    let (client, _) = ClientExchange::start(Mechanism::Login, &terms("user", "hunter42"));
    let shown = format!("{exchange:?} {step:?} {step:#?} {client:?}");
    assert!(!shown.contains("hunter42") && !shown.contains(&b64("hunter42")), "{shown}");
    assert!(shown.contains("user"), "{shown}");
}

#[test]
fn client_and_server_understand_each_other() {
    let long = "p".repeat(600);
    // On the AUTH line it would make 513 octets.
    let one_too_many = "p".repeat(367);
    for (user, password) in [
        ("user", "password"),
        ("user", &one_too_many),
        ("j\u{F6}rg@example.edu", "\u{1F511} s\u{E9}same"),
        ("u", &long),
    ] {
        for mechanism in Mechanisms::PASSWORD.iter() {
            let name = mechanism.name();
            let (mut client, initial) = ClientExchange::start(mechanism, &terms(user, password));
            assert!(initial.as_ref().is_none_or(|text| name.len() + text.len() + 8 <= 512));
            let (mut server, mut step) = Exchange::start(mechanism, initial.as_ref().map(|text| text.as_bytes()), None);
            while let Step::Challenge(challenge) = step {
                let answer = client.respond(challenge.as_bytes()).expect("an answer");
                step = server.respond(answer.as_bytes());
            }
            assert_eq!(step, verify(mechanism, user, password), "{name} {user}");
            assert!(client.may_succeed());
            assert_eq!(client.respond(b""), None, "nothing is left to say");
        }
    }
}

#[test]
fn client_lines_as_on_the_wire() {
    let shown = |line: &Option<Zeroizing<String>>| line.as_ref().map(|line| line.to_string());
    let (_, initial) = ClientExchange::start(Mechanism::Plain, &terms("test", "1234"));
    assert_eq!(shown(&initial), Some("AHRlc3QAMTIzNA==".into()));
    let (mut client, initial) = ClientExchange::start(Mechanism::Login, &terms("user", "password"));
    assert_eq!(initial, None);
    assert_eq!(client.respond(b"not base64"), None);
    assert_eq!(shown(&client.respond(b"VXNlciBOYW1lAA==")), Some("dXNlcg==".into()), "as Exchange words it");
    assert_eq!(shown(&client.respond(b"UGFzc3dvcmQA")), Some("cGFzc3dvcmQ=".into()));
    assert_eq!(client.respond(b"UGFzc3dvcmQA"), None);
}
