//! What lets a server start, and is said all the same.

use super::*;

#[test]
fn warnings_let_it_start() {
    let smtp = "role = \"smtp\"";
    let table = [
        ("\"smtp.example.edu\"", "\"smtp\"", "1", "has no domain", "write the name that clients connect to"),
        (
            "[spool]",
            "help = \"help.example.edu\"\n[spool]",
            "2",
            "no page that people",
            "as in \"https://help.example.edu",
        ),
        (
            "smarthost = \"mail.example.edu:25\"",
            "mx = true",
            "15",
            "without a DKIM signature",
            "a smarthost that signs",
        ),
        (
            "role =",
            "proxy_from = [\"10.0.0.0/23\"]\nrole =",
            "11",
            "every machine in that network",
            "your own proxies only",
        ),
        (
            "role =",
            "xclient_from = [\"::1\", \"2001:db8::/47\"]\nrole =",
            "11",
            "2001:db8::/47: every",
            "your own proxies",
        ),
        (
            "[spool]",
            "local_domains = [\"example.edu\"]\n[spool]",
            "2",
            "local_domains has no effect",
            "or add such a listener",
        ),
        (
            "[spool]",
            "trusted_networks = [\"192.0.2.0/24\"]\n[spool]",
            "2",
            "trusted_networks has no effect",
            "or add such a listener",
        ),
        (
            "[spool]",
            "local_recipients = \"recipients\"\n[spool]",
            "2",
            "local_recipients has no effect",
            "or list your own domains",
        ),
        (
            "[tls]",
            "[limits]\nuser_recipients_per_hour = 999\n[tls]",
            "5",
            "never gets through",
            "or write recipients_max = 999",
        ),
        (
            "[tls]",
            "[limits]\nuser_recipients_per_hour = 99\n[tls]",
            "5",
            "never gets through",
            "write user_recipients_per_hour = 100 at least",
        ),
        (
            "[tls]",
            "segment_mib = 1\n[limits]\nrecipients_max = 1202\n[tls]",
            "6",
            "a message to 1202 recipients with DSN parameters does not fit",
            "segment_mib, or recipients_max = 1201",
        ),
        ("[tls]", "[limits]\nidle_timeout_s = 10\n[tls]", "5", "five minutes", "write idle_timeout_s = 300"),
        (
            "[tls]",
            "[limits]\nlogin_timeout_s = 10\n[tls]",
            "5",
            "sent away after 10 s, so stranger_timeout_s = 60",
            "raise login_timeout_s",
        ),
        (
            "[tls]",
            "[limits]\ncrowded_timeout_s = 61\n[tls]",
            "5",
            "crowded_timeout_s = 61 is longer than",
            "write crowded_timeout_s = 10",
        ),
        (
            "[auth]",
            "[auth]\nbrake_account_failures = 101",
            "8",
            "one account may fail 101 times",
            "raise brake_address_failures",
        ),
        (
            "role",
            "bare_newlines_of_strangers = \"reject\"\nrole",
            "11",
            "bare_newlines_of_strangers has no effect on a listener of role submission",
            "or set bare_newlines",
        ),
        (
            "role",
            "xclient_login = true\nrole",
            "11",
            "xclient_login has no effect without xclient_from",
            "name the proxies",
        ),
        ("role = \"submission\"", smtp, "10", "can send to nobody", "list your own domains"),
        ("0.0.0.0:587", "0.0.0.0:465", "10", "TLS from the first octet", "write tls = \"implicit\""),
        (
            "tls = \"required\"",
            "tls = \"implicit\"",
            "10",
            "begin in the clear",
            "write tls = \"required\" or \"offered\"",
        ),
    ];
    for (from, to, line, what, remedy) in table {
        let loaded = read(&SHORTEST.replacen(from, to, 1)).expect("no mistakes");
        let said = loaded.notices.to_string();
        let expected = |notice: &str| {
            notice.starts_with(&format!("/etc/penstock/penstock.toml:{line}: warning: "))
                && notice.contains(what)
                && notice.contains(remedy)
        };
        assert!(said.lines().any(expected), "{from:?} -> {to:?}: {what}\nsaid:\n{said}");
    }
}

/// The last value before each warning or mistake.
#[test]
fn nothing_is_said_of_what_is_just_right() {
    let table = [
        ("smtp.example.edu", "localhost"),
        ("[spool]", "help = \"https://help.example.edu\"\n[spool]"),
        ("role =", "proxy_from = [\"10.0.0.0/24\", \"10.1.0.1\"]\nrole ="),
        ("role =", "xclient_from = [\"2001:db8::/48\"]\nrole ="),
        ("[auth]", "[auth]\nbrake_account_failures = 7\nbrake_address_failures = 7"),
        ("[tls]", "segment_mib = 4\nspill_kib = 1024\n[limits]\nreceiving_mib_per_core = 1\n[tls]"),
        ("[tls]", "segment_mib = 1\n[limits]\nrecipients_max = 1201\n[tls]"),
        ("[tls]", "[limits]\nlogin_timeout_s = 60\nstranger_timeout_s = 60\n[tls]"),
        ("[tls]", "[limits]\ncrowded_timeout_s = 60\nstranger_timeout_s = 60\n[tls]"),
        ("[tls]", "[limits]\nconnections_per_network = 50\nconnections_per_address = 50\n[tls]"),
        ("[relay]", "[relay]\nretry_first_s = 3600\nretry_max_s = 3600"),
        // Other programs beside it, and another machine's name.
        ("mail.example.edu:25", "127.0.0.1:26"),
        ("mail.example.edu:25", "smtp.example.edu:26"),
    ];
    for (from, to) in table {
        assert_eq!(said(from, to), "", "{from:?} -> {to:?}");
    }
    let elsewhere = SHORTEST.replace("0.0.0.0", "192.0.2.1").replace("mail.example.edu:25", "localhost:587");
    assert_eq!(read(&elsewhere).expect("no circle").notices.to_string(), "");
    let listener =
        "[[listener]]\naddress = \"0.0.0.0:25\"\nrole = \"smtp\"\ntls = \"offered\"\nmechanisms = []\n[relay]";
    let said = said("[relay]", listener);
    assert!(!said.contains("mechanisms"), "mail from other servers alone: {said}");
}
