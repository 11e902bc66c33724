//! STARTTLS and AUTH, as the relay says them.

use super::*;
use crate::sasl::Mechanism;

#[test]
fn starttls_starts_again_with_ehlo_and_believes_nothing_from_before() {
    let tls = Options { starttls: StartTls::Required, ..options() };
    let turns = [
        ("", "220 mx\r\n"),
        (EHLO, MODERN),
        ("STARTTLS\r\n", "220 go\r\n"),
        (EHLO, "250 mx\r\n"),
        (MAIL, "250 ok\r\n"),
        ("RCPT TO:<a@b>\r\n", "250 ok\r\n"),
        ("DATA\r\n", "354 go\r\n"),
        (BODY, "250 ok\r\n"),
        ("QUIT\r\n", "221 bye\r\n"),
    ];
    assert_eq!(talk(tls, &[to(&["a@b"])], &turns), ["tls, nothing dropped", "delivered 250", "bye"]);
}

/// Before TLS anybody on the way could say our name, and have all mail bounced.
// covers: 12.10
#[test]
fn who_says_our_name_is_believed_when_tls_is_settled() {
    let tls = Options { starttls: StartTls::Required, detects_loop: true, ..options() };
    let ours = "250-penstock.example\r\n250 STARTTLS\r\n";
    let before: &[Turn] = &[("", "220 mx\r\n"), (EHLO, ours), ("STARTTLS\r\n", "502 never\r\n")];
    assert_eq!(talk(tls.clone(), &[], before), ["closed no tls"]);
    let inside: &[Turn] = &[("", "220 mx\r\n"), (EHLO, ours), ("STARTTLS\r\n", "220 go\r\n"), (EHLO, ours)];
    assert_eq!(talk(tls.clone(), &[], inside), ["tls, nothing dropped", "closed loop"]);
    let clear = Options { starttls: StartTls::Never, ..tls };
    assert_eq!(talk(clear, &[], &[("", "220 mx\r\n"), (EHLO, ours)]), ["closed loop"]);
}

#[test]
fn what_follows_the_220_to_starttls_is_left_to_be_dropped() {
    let tls = Options { starttls: StartTls::WhenOffered, ..options() };
    let turns = [("", "220 mx\r\n"), (EHLO, MODERN), ("STARTTLS\r\n", "220 go\r\n250 PIPELINING\r\n"), (EHLO, "")];
    let events = talk_split(tls, &[], &turns, Split::Every(usize::MAX));
    assert_eq!(events, ["tls, something dropped"]);
}

#[test]
fn tls_that_is_not_to_be_had() {
    let refused: &[Turn] = &[("", "220 mx\r\n"), (EHLO, MODERN), ("STARTTLS\r\n", "502 never\r\n")];
    let not_now: &[Turn] = &[("", "220 mx\r\n"), (EHLO, MODERN), ("STARTTLS\r\n", "454 not now\r\n")];
    let not_offered: &[Turn] = &[("", "220 mx\r\n"), (EHLO, "250 mx\r\n")];
    let login = login_by(Mechanism::Plain);
    for (turns, closed) in
        [(refused, "closed no tls"), (not_offered, "closed no tls"), (not_now, "closed temporary 454")]
    {
        let required = Options { starttls: StartTls::Required, ..options() };
        assert_eq!(talk(required, &[], turns), [closed]);
        let with_password = Options { starttls: StartTls::WhenOffered, login: Some(login.clone()), ..options() };
        assert_eq!(talk(with_password, &[], turns), [closed]);
        let opportunistic = Options { starttls: StartTls::WhenOffered, ..options() };
        let turns = [turns, &[("QUIT\r\n", "221 bye\r\n")]].concat();
        assert_eq!(talk(opportunistic, &[], &turns), ["bye"]);
    }
    assert!(!format!("{login:?}").contains("\"p\""));
}

fn login_by(mechanism: Mechanism) -> Login {
    Login {
        user: "u".into(),
        password: "p".to_string().into(),
        mechanism: Some(mechanism),
        nonce: "rOprNGfwEbeRWgbNEkqO".into(),
        binding: None,
    }
}

#[test]
fn auth_scram_only_with_a_server_that_knows_the_password() {
    // RFC 7677 section 3, with the user and the password of that section.
    let first = "AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=\r\n";
    let server_first = "334 cj1yT3ByTkdmd0ViZVJXZ2JORWtxTyVodllEcFdVYTJSYVRDQWZ1eEZJbGopaE5sRiRrMCxzPVcyMlphSjBTTlk3c29Fc1VFamI2Z1E9PSxpPTQwOTY=\r\n";
    let last = "Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU8laHZZRHBXVWEyUmFUQ0FmdXhGSWxqKWhObEYkazAscD1kSHpiWmFwV0lrNGpVaE4rVXRlOXl0YWc5empmTUhnc3FtbWl6N0FuZFZRPQ==\r\n";
    let right = "334 dj02cnJpVFJCaTIzV3BSUi93dHVwK21NaFVaVW4vZEI1bkxUSlJzamw5NUc0PQ==\r\n";
    let wrong = "334 dj02cnJqVFJCaTIzV3BSUi93dHVwK21NaFVaVW4vZEI1bkxUSlJzamw5NUc0PQ==\r\n";
    let shown: &[Turn] = &[(first, server_first), (last, right), ("\r\n", "235 ok\r\n"), ("QUIT\r\n", "221 bye\r\n")];
    let not_shown: &[Turn] = &[(first, server_first), (last, "235 ok\r\n")];
    let at_once: &[Turn] = &[(first, "235 ok\r\n")];
    let false_one: &[Turn] = &[(first, server_first), (last, wrong), ("*\r\n", "501 cancelled\r\n")];
    let pushy: &[Turn] = &[(first, server_first), (last, wrong), ("*\r\n", "235 ok\r\n")];
    let unproven = "closed garbled 235 from a server that has not shown that it knows the password";
    for (turns, expected) in [
        (shown, "bye"),
        (not_shown, unproven),
        (at_once, unproven),
        (false_one, "closed login refused 501"),
        (pushy, unproven),
    ] {
        let login =
            Login { user: "user".into(), password: "pencil".to_string().into(), ..login_by(Mechanism::ScramSha256) };
        assert_eq!(talk(Options { login: Some(login), ..options() }, &[], &after_hello(turns)), [expected]);
    }
}

/// A connection lives on for a minute, its password does not.
// covers: 12.10
#[test]
fn nothing_of_the_password_is_kept_behind_auth() {
    for (answer, event) in [("235 ok\r\n", "ready"), ("535 no\r\n", "closed"), ("454 later\r\n", "closed")] {
        let mut client = Client::new(Options { login: Some(login_by(Mechanism::Login)), ..options() });
        let mut out = Vec::new();
        for line in ["220 mx\r\n", MODERN, "334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n"] {
            client.step(line.as_bytes(), &mut out);
        }
        assert!(client.exchange.is_some() && out.ends_with(b"cA==\r\n"));
        let seen = client.step(answer.as_bytes(), &mut out).1;
        assert_eq!(if seen == Event::Ready { "ready" } else { "closed" }, event);
        assert!(client.exchange.is_none() && client.options.login.is_none(), "{answer}");
    }
}

#[test]
fn auth_plain_and_login() {
    let plain: &[Turn] = &[("AUTH PLAIN AHUAcA==\r\n", "235 ok\r\n"), ("QUIT\r\n", "221 bye\r\n")];
    let login: &[Turn] = &[
        ("AUTH LOGIN\r\n", "334 VXNlcm5hbWU6\r\n"),
        ("dQ==\r\n", "334 UGFzc3dvcmQ6\r\n"),
        ("cA==\r\n", "235 ok\r\n"),
        ("QUIT\r\n", "221 bye\r\n"),
    ];
    let wrong: &[Turn] = &[("AUTH PLAIN AHUAcA==\r\n", "535 5.7.8 no\r\n")];
    let busy: &[Turn] = &[("AUTH PLAIN AHUAcA==\r\n", "454 4.7.0 later\r\n")];
    let nosy: &[Turn] = &[("AUTH PLAIN AHUAcA==\r\n", "334 more\r\n"), ("*\r\n", "501 cancelled\r\n")];
    let endless: &[Turn] = &[("AUTH PLAIN AHUAcA==\r\n", "334 \r\n"), ("*\r\n", "334 \r\n")];
    for (mechanism, turns, expected) in [
        (Mechanism::Plain, plain, "bye"),
        (Mechanism::Login, login, "bye"),
        (Mechanism::Plain, wrong, "closed login refused 535"),
        (Mechanism::Plain, busy, "closed temporary 454"),
        (Mechanism::Plain, nosy, "closed login refused 501"),
        (Mechanism::Plain, endless, "closed garbled a challenge after the exchange was cancelled"),
    ] {
        let login = Some(login_by(mechanism));
        assert_eq!(talk(Options { login, ..options() }, &[], &after_hello(turns)), [expected]);
    }
}

/// SCRAM where it is offered, then PLAIN; what a server does not offer is not tried.
#[test]
fn without_a_mechanism_the_best_that_is_offered() {
    let scram: &[Turn] = &[
        ("", "220 mx\r\n"),
        (EHLO, "250-mx\r\n250 AUTH PLAIN LOGIN SCRAM-SHA-256\r\n"),
        ("AUTH SCRAM-SHA-256 biwsbj11LHI9ck9wck5HZndFYmVSV2diTkVrcU8=\r\n", "454 4.7.0 later\r\n"),
    ];
    let plain: &[Turn] = &[
        ("", "220 mx\r\n"),
        (EHLO, "250-mx\r\n250 AUTH GSSAPI LOGIN PLAIN\r\n"),
        ("AUTH PLAIN AHUAcA==\r\n", "235 ok\r\n"),
        ("QUIT\r\n", "221 bye\r\n"),
    ];
    let none: &[Turn] = &[("", "220 mx\r\n"), (EHLO, "250-mx\r\n250 AUTH GSSAPI\r\n")];
    let silent: &[Turn] = &[("", "220 mx\r\n"), (EHLO, "250 mx\r\n")];
    for (turns, expected) in [
        (scram, "closed temporary 454"),
        (plain, "bye"),
        (none, "closed no mechanism"),
        (silent, "closed no mechanism"),
    ] {
        let login = Some(Login { mechanism: None, ..login_by(Mechanism::Plain) });
        assert_eq!(talk(Options { login, ..options() }, &[], turns), [expected]);
    }
}

/// Whatever says that we should log in, or otherwise, or use TLS, is about us: the message waits.
// covers: 12.5
#[test]
fn a_reply_that_is_about_us_costs_no_recipient() {
    for (code, fate) in [(530, "deferred"), (534, "deferred"), (535, "deferred"), (538, "deferred"), (550, "failed")] {
        let refusal = format!("{code} 5.7.0 no\r\n");
        let turns =
            [&PLAIN_SERVER[..], &[(MAIL, &*Box::leak(refusal.into_boxed_str())), ("QUIT\r\n", "221 bye\r\n")]].concat();
        assert_eq!(talk(options(), &[to(&["a@b"])], &turns), [&*format!("{fate} {code}"), "bye"]);
    }
}
