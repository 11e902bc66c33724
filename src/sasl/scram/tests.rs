//! The RFC's exchange word for word, both sides against each other, and every way in which a proof must fail.

use crate::sasl::*;
use proptest::prelude::*;
use std::sync::Arc;

const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

/// The messages of an exchange of user "user" with password "pencil", decoded: two of the client, two of the server.
type Vector = [&'static str; 4];
/// What -PLUS binds to.
type Binding = Option<Arc<[u8]>>;

/// RFC 7677 section 3.
const RFC_7677: Vector = [
    "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
];

/// The same bound to a channel whose end point has the hash 00 01 .. 1f; computed with Python's hashlib and hmac, in the
/// same few lines that give the exchange above.
const PLUS: Vector = [
    "p=tls-server-end-point,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    RFC_7677[1],
    "c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=,\
     r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=nY1Wus9a+gM2DrbQ1msXFgyhW6KM5ktOxWiU+/P/EGY=",
    "v=RwppMGddhz/J0lFYaRReBjXcQeNUFP5Qc76Lo5Exrig=",
];

fn binding() -> Arc<[u8]> {
    (0..32).collect()
}

fn b64(text: impl AsRef<[u8]>) -> String {
    STANDARD.encode(text)
}

fn challenge(text: impl AsRef<[u8]>) -> Step {
    Step::Challenge(b64(text).into())
}

fn keys() -> Keys {
    Keys::derive("pencil", &STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64"), 4096)
}

fn proof(mechanism: Mechanism, right: bool) -> Step {
    Step::Proof(Proof { mechanism, user: "user".into(), keys: Box::new(keys()), right })
}

/// Both sides of the table, with what -PLUS binds to.
fn vectors() -> [(Mechanism, Vector, Binding); 2] {
    [(Mechanism::ScramSha256, RFC_7677, None), (Mechanism::ScramSha256Plus, PLUS, Some(binding()))]
}

// covers: 10.10 10.7b
#[test]
fn the_server_says_what_the_rfc_says() {
    for (mechanism, [first, server_first, last, server_last], binding) in vectors() {
        let (mut server, step) = Exchange::start(mechanism, Some(b64(first).as_bytes()), binding.clone());
        assert_eq!(step, Step::NeedKeys("user".into()));
        assert_eq!(server.keys(keys(), SERVER_NONCE), challenge(server_first));
        assert_eq!(server.respond(b64(last).as_bytes()), proof(mechanism, true));
        assert_eq!(server.accepted("user".into()), challenge(server_last));
        assert_eq!(server.respond(b""), Step::Authenticated("user".into()));
        assert_eq!(server.respond(b""), Step::Malformed, "over");
        // Without an initial response.
        let (mut server, step) = Exchange::start(mechanism, None, binding);
        assert_eq!(step, challenge(""));
        assert_eq!(server.respond(b64(first).as_bytes()), Step::NeedKeys("user".into()));
    }
}

// covers: 10.10
#[test]
fn the_client_says_what_the_rfc_says() {
    for (mechanism, [first, server_first, last, server_last], binding) in vectors() {
        let terms = Terms { user: "user", password: "pencil", nonce: CLIENT_NONCE, binding: binding.as_deref() };
        let (mut client, initial) = ClientExchange::start(mechanism, &terms);
        assert_eq!(initial, Some(b64(first).into()));
        assert_eq!(client.respond(b64(server_first).as_bytes()), Some(b64(last).into()));
        assert!(!client.may_succeed(), "the server has shown nothing yet");
        assert_eq!(client.respond(b64(server_last).as_bytes()), Some(String::new().into()));
        assert!(client.may_succeed());
        assert_eq!(client.respond(b""), None);
    }
}

/// What the server makes of `first` and `last`, with the keys of "pencil".
fn outcome(mechanism: Mechanism, first: &str, last: &str, binding: Option<Arc<[u8]>>) -> Step {
    let (mut server, step) = Exchange::start(mechanism, Some(b64(first).as_bytes()), binding);
    if !matches!(step, Step::NeedKeys(_)) {
        return step;
    }
    server.keys(keys(), SERVER_NONCE);
    let step = server.respond(b64(last).as_bytes());
    if !matches!(step, Step::Proof(Proof { right: true, .. })) {
        assert_eq!(server.accepted("user".into()), Step::Malformed, "nothing is signed for {last}");
    }
    step
}

// covers: 10.10
#[test]
fn what_does_not_belong_together_is_refused() {
    use Mechanism::{ScramSha256 as Clear, ScramSha256Plus as Plus};
    let [rfc, plus] = [RFC_7677, PLUS];
    let refused: [(&str, Mechanism, String, bool); 8] = [
        ("the client was told that we cannot bind", Clear, rfc[0].replace("n,,", "y,,"), true),
        ("-PLUS without binding", Plus, rfc[0].into(), true),
        ("-PLUS and y", Plus, rfc[0].replace("n,,", "y,,"), true),
        ("-PLUS with another type", Plus, plus[0].replace("tls-server-end-point", "tls-exporter"), true),
        ("binding without -PLUS", Clear, plus[0].into(), true),
        ("an extension that must be understood", Clear, rfc[0].replace("n=user", "m=x,n=user"), false),
        ("the identity of another", Clear, rfc[0].replace("n,,", "n,a=root,"), false),
        ("the same, bound", Plus, plus[0].replace(",,", ",a=root,"), true),
    ];
    for (what, mechanism, first, bound) in refused {
        assert_eq!(outcome(mechanism, &first, rfc[2], bound.then(binding)), Step::Refused, "{what}");
    }
    // Where -PLUS is not offered, `y` is the truth; and whoever cannot bind may always say so, and then binds to nothing.
    assert_eq!(outcome(Clear, &rfc[0].replace("n,,", "y,,"), rfc[2], None), proof(Clear, false), "its c= says n");
    assert_eq!(outcome(Clear, rfc[0], rfc[2], Some(binding())), proof(Clear, true));
    assert!(meet(Clear, "user", "pencil", "pencil", [Some(binding()), None]), "it would bind, we do not offer to");
    let wrong: [(&str, Mechanism, &str, String, Binding); 7] = [
        ("another gs2 header", Clear, rfc[0], rfc[2].replace("biws", &b64("y,,")), None),
        ("a nonce that is not ours", Clear, rfc[0], rfc[2].replace("$k0", "$k1"), None),
        ("only its own nonce", Clear, rfc[0], rfc[2].replace(SERVER_NONCE, ""), None),
        ("a proof of another password", Clear, rfc[0], rfc[2].replace("dHzb", "dHzc"), None),
        ("an extension that was not signed", Clear, rfc[0], rfc[2].replace(",p=", ",x=y,p="), None),
        ("another channel", Plus, plus[0], plus[2].into(), Some((1..33).collect())),
        (
            "no channel",
            Plus,
            plus[0],
            plus[2].replace("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", ""),
            Some(binding()),
        ),
    ];
    for (what, mechanism, first, last, binding) in wrong {
        assert_eq!(outcome(mechanism, first, &last, binding), proof(mechanism, false), "{what}");
    }
}

// covers: 10.10
#[test]
fn who_knows_the_password_must_still_answer_with_our_nonce() {
    let [first, server_first, last, _] = RFC_7677;
    let without_proof = last.rsplit_once(",p=").expect("a proof").0;
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
    for (nonce, right) in [("$k0", true), ("$k1", false), ("", false), ("$k0$k0", false)] {
        let without_proof = without_proof.replace("$k0", nonce);
        let signed = format!("{},{server_first},{without_proof}", first.trim_start_matches("n,,"));
        let made = STANDARD.encode(super::keys::prove("pencil", &salt, 4096, signed.as_bytes()).0);
        let step = outcome(Mechanism::ScramSha256, first, &format!("{without_proof},p={made}"), None);
        assert_eq!(step, proof(Mechanism::ScramSha256, right), "{nonce}");
    }
}

// covers: 10.4 10.10 1.9
#[test]
fn what_is_not_of_the_form_is_malformed() {
    let [first, _, last, _] = RFC_7677;
    for last in [
        "",
        "c=biws",
        "v=x",
        &last.replace("biws", "biws="),
        &last.replace("biws", "b!ws"),
        &last.replace("dVQ=", "dVQ"),
        &last.replace("dVQ=", "dVQ=dVQ="),
        &last.replace(",p=", ",p=AAAA"),
        &format!("{last},x=y"),
        &last.replace("c=", "d="),
        &last.replace(",r=", ",s="),
        &"A".repeat(5000),
    ] {
        assert_eq!(outcome(Mechanism::ScramSha256, first, last, None), Step::Malformed, "{last}");
    }
    let own = "n,a=user,n=user,r=x";
    assert_eq!(
        Exchange::start(Mechanism::ScramSha256, Some(b64(own).as_bytes()), None).1,
        Step::NeedKeys("user".into())
    );
}

// covers: 10.3 10.14
#[test]
fn each_line_is_a_response_and_a_star_cancels() {
    let (mut server, _) = Exchange::start(Mechanism::ScramSha256, None, None);
    assert_eq!(server.respond(b"*"), Step::Cancelled);
    for line in ["RSET", "QUIT", "*", "*x"] {
        let (mut server, _) = Exchange::start(Mechanism::ScramSha256, Some(b64(RFC_7677[0]).as_bytes()), None);
        server.keys(keys(), SERVER_NONCE);
        let expected = if line == "*" { Step::Cancelled } else { Step::Malformed };
        assert_eq!(server.respond(line.as_bytes()), expected, "{line}");
        assert_eq!(server.respond(b64(RFC_7677[2]).as_bytes()), Step::Malformed, "over");
    }
    // After our signature: an answer that is not empty, and a client that does not believe us.
    for (line, expected) in [("AAAA", Step::Malformed), ("*", Step::Cancelled)] {
        let (mut server, _) = Exchange::start(Mechanism::ScramSha256, Some(b64(RFC_7677[0]).as_bytes()), None);
        server.keys(keys(), SERVER_NONCE);
        server.respond(b64(RFC_7677[2]).as_bytes());
        server.accepted("user".into());
        assert_eq!(server.respond(line.as_bytes()), expected);
        assert_eq!(server.respond(b""), Step::Malformed, "over");
    }
}

#[test]
fn a_client_does_not_trust_any_server() {
    let terms = Terms { user: "user", password: "pencil", nonce: CLIENT_NONCE, binding: None };
    let [_, server_first, _, server_last] = RFC_7677;
    for bad in [
        &server_first.replace("4096", "4095"),
        &server_first.replace("4096", "600001"),
        &server_first.replace("4096", "4294967295"),
        &server_first.replace("rOpr", "sOpr"),
        &server_first.replace(SERVER_NONCE, ""),
        &server_first.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
        &server_first.replace("W22ZaJ0SNY7soEsUEjb6gQ==", &b64([0; 257])),
        &server_first.replace("r=rO", "m=x,r=rO"),
        "e=other-error",
        "",
    ] {
        let (mut client, _) = ClientExchange::start(Mechanism::ScramSha256, &terms);
        assert_eq!(client.respond(b64(bad).as_bytes()), None, "{bad}");
        assert_eq!(client.respond(b64(server_first).as_bytes()), None, "over");
    }
    for bad in [&server_last.replace("6rri", "6rrj"), "v=", "v=AAAA", "e=invalid-proof", ""] {
        let (mut client, _) = ClientExchange::start(Mechanism::ScramSha256, &terms);
        client.respond(b64(server_first).as_bytes());
        assert_eq!(client.respond(b64(bad).as_bytes()), None, "{bad}");
        assert!(!client.may_succeed());
    }
}

// covers: 10.13
#[test]
fn no_key_and_no_password_is_shown() {
    let (mut server, step) = Exchange::start(Mechanism::ScramSha256, Some(b64(RFC_7677[0]).as_bytes()), None);
    let challenge = server.keys(keys(), SERVER_NONCE);
    let terms = Terms { user: "user", password: "pencil", nonce: CLIENT_NONCE, binding: None };
    let (client, _) = ClientExchange::start(Mechanism::ScramSha256, &terms);
    let shown = format!("{server:?} {step:?} {challenge:?} {client:?} {:?}", keys());
    let printed = keys().print().to_string();
    let stored = printed.rsplit(['$', ':']).next().expect("a key").to_owned();
    assert!(!shown.contains("pencil") && !shown.contains(&stored) && shown.contains("user"), "{shown}");
}

/// The whole exchange of `user` with `password` against the keys of `kept`; does it succeed for both?
fn meet(mechanism: Mechanism, user: &str, password: &str, kept: &str, bindings: [Option<Arc<[u8]>>; 2]) -> bool {
    let terms = Terms { user, password, nonce: CLIENT_NONCE, binding: bindings[0].as_deref() };
    let (mut client, initial) = ClientExchange::start(mechanism, &terms);
    let (mut server, mut step) =
        Exchange::start(mechanism, initial.as_ref().map(|text| text.as_bytes()), bindings[1].clone());
    for _ in 0..8 {
        step = match step {
            Step::Challenge(text) => match client.respond(text.as_bytes()) {
                Some(answer) => server.respond(answer.as_bytes()),
                None => server.respond(b"*"),
            },
            Step::NeedKeys(named) => {
                assert_eq!(Some(named), prepare(user));
                let kept = prepare(kept).expect("a password");
                server.keys(Keys::derive(&kept, b"0123456789abcdef", 4096), SERVER_NONCE)
            }
            Step::Proof(Proof { right: true, .. }) => server.accepted(user.into()),
            Step::Authenticated(_) => return client.may_succeed(),
            _ => return false,
        };
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn who_knows_the_password_gets_in_and_nobody_else(
        user in "[a-zA-Z0-9,=@.\u{e9}\u{f6}\u{3b1}]{1,85}",
        password in "[ -~\u{e9}\u{20ac}]{1,40}",
        other in "[ -~]{1,40}",
        plus in any::<bool>(),
    ) {
        prop_assume!(prepare(&user).is_some_and(|user| !user.is_empty()));
        let mechanism = if plus { Mechanism::ScramSha256Plus } else { Mechanism::ScramSha256 };
        let bindings = || [plus.then(binding), plus.then(binding)];
        prop_assert!(meet(mechanism, &user, &password, &password, bindings()));
        prop_assert_eq!(meet(mechanism, &user, &other, &password, bindings()), prepare(&other) == prepare(&password));
        if plus {
            prop_assert!(!meet(mechanism, &user, &password, &password, [Some([7; 32].into()), plus.then(binding)]));
        }
        // The client would bind; somebody took -PLUS out of the server's EHLO.
        prop_assert!(!meet(Mechanism::ScramSha256, &user, &password, &password, [Some(binding()), Some(binding())]));
    }
}
