//! A configuration with one slip at a time: what is said about it, and in which line.

use super::*;

/// As short as a configuration can be; `{}` lines are replaced by the tests.
const SHORTEST: &str = r#"hostname = "smtp.example.edu"
[spool]
directory = "spool"
[tls]
certificate = "certificate.pem"
key = "/etc/key.pem"
[auth]
users_file = "users"
[[listener]]
address = "0.0.0.0:587"
role = "submission"
tls = "required"
[relay]
[[relay.route]]
smarthost = "mail.example.edu:25"
"#;

fn read(text: &str) -> Result<Loaded, Notices> {
    parse(text, Path::new("/etc/penstock/penstock.toml"))
}

/// What is said about SHORTEST after `from` has become `to`.
fn said(from: &str, to: &str) -> String {
    assert!(SHORTEST.contains(from), "{from}");
    match read(&SHORTEST.replacen(from, to, 1)) {
        Ok(loaded) => loaded.notices.to_string(),
        Err(notices) => notices.to_string(),
    }
}

#[test]
fn the_shortest_configuration_and_its_defaults() {
    let Loaded { config, notices, .. } = read(SHORTEST).expect("no mistakes");
    assert_eq!(notices.to_string(), "");
    assert_eq!(config.spool.directory, Path::new("/etc/penstock/spool"));
    assert_eq!(config.tls.key, Path::new("/etc/key.pem"));
    assert_eq!((config.io, config.cores, config.log.format), (Io::Auto, None, LogFormat::Human));
    assert_eq!(config.limits.message_bytes_max, 50 << 20);
    assert_eq!(config.limits.idle_timeout_s, 300);
    assert_eq!(config.listeners[0].name, "submission-587");
    assert_eq!(config.listeners[0].odd_bytes, OddBytes::Normalize);
    assert_eq!(config.listeners[0].odd_bytes_of_strangers, OddBytes::Reject);
    assert_eq!(config.auth.expect("auth").username_form, UsernameForm::Either);
    let smarthost = Target::Smarthost(Smarthost::new("mail.example.edu:25", RouteTls::Opportunistic));
    assert_eq!(config.relay.routes[0].target, smarthost);
}

#[test]
fn proxies_and_further_certificates() {
    let text = SHORTEST
        .replace("[auth]", "[[tls.additional]]\ncertificate = \"c\"\nkey = \"/k\"\n[auth]")
        .replace("role", "proxy_from = [\"192.0.2.1\"]\nxclient_from = [\"::1\"]\nxclient_login = true\nrole");
    let Loaded { config, notices, places } = read(&text).expect("no mistakes");
    assert_eq!((notices.to_string().as_str(), places.additional.len()), ("", 1));
    assert_eq!(config.tls.additional[0].certificate, Path::new("/etc/penstock/c"));
    assert_eq!(config.tls.additional[0].key, Path::new("/k"));
    let listener = &config.listeners[0];
    let address = |text: &str| text.parse().expect("an address");
    assert!(listener.proxy_from.contains(address("192.0.2.1")) && !listener.proxy_from.contains(address("::1")));
    assert!(listener.xclient_from.contains(address("::1")) && listener.xclient_login);
}

#[test]
fn each_mistake_names_its_line_and_its_remedy() {
    let table = [
        // (this, becomes, line, what, remedy)
        (
            "hostname =",
            "hostnam =",
            "1",
            "unknown key \"hostnam\" in the top of the file",
            "did you mean \"hostname\"?",
        ),
        (
            "hostname = \"smtp.example.edu\"\n",
            "",
            "1",
            "the top of the file has no hostname",
            "add hostname = \"smtp.example.edu\"",
        ),
        ("[spool]", "cores = \"one\"\n[spool]", "2", "a whole number without quotes", "write for example cores = 1"),
        ("[spool]", "trusted_networks = [\"0.0.0.0/0\"]\n[spool]", "2", "an open relay", "your own machines only"),
        (
            "[spool]",
            "trusted_networks = [\"0.0.0.0/1\", \"128.0.0.0/1\"]\n[spool]",
            "2",
            "0.0.0.0/1 and 128.0.0.0/1 is everybody: an open relay",
            "your own machines only",
        ),
        (
            "[spool]",
            "trusted_networks = [\"::ffff:192.0.2.0/120\"]\n[spool]",
            "2",
            "is an IPv4 network in IPv6 form",
            "write \"192.0.2.0/24\"",
        ),
        ("[tls]", "[log]\nlevel = \"warn\"\n[tls]", "5", "\"warn\" is no level", "did you mean \"warning\"?"),
        ("[tls]", "[admin]\nlisten = \"0.0.0.0:9587\"\n[tls]", "5", "reached by other hosts", "or add beyond_loopback"),
        ("[tls]", "[admin]\nlisten = \"192.0.2.1:80\"\n[tls]", "5", "no password", "write \"127.0.0.1:80\""),
        ("[tls]", "[admin]\nlisten = \"9587\"\n[tls]", "5", "is no address", "\"[::1]:9587\""),
        ("[tls]", "[admin]\nlisten = \"127.0.0.1:0\"\n[tls]", "5", "has port 0", "\"127.0.0.1:9587\""),
        (
            "[tls]",
            "[admin]\nlisten = \"127.0.0.1:587\"\n[tls]",
            "5",
            "listened on for mail in line 12",
            "give it another port",
        ),
        ("0.0.0.0:587", "::1:587", "10", "no address to listen on", "\"[::1]:587\""),
        ("0.0.0.0:587", "0.0.0.0:65587", "10", "has port 65587", "ports end at 65535"),
        (
            "\"smtp.example.edu\"",
            "25",
            "1",
            "hostname must be a string in quotes, and this is of type integer",
            "hostname = \"smtp",
        ),
        ("\"smtp.example.edu\"", "\"smtp example\"", "1", "is no domain name", "letters, digits and hyphens"),
        ("[spool]", "cores = 0\n[spool]", "2", "cores = 0 is out of range", "write 1 to 254 core threads"),
        ("[spool]", "drain_s = 3\n[spool]", "2", "unknown key \"drain_s\"", "it belongs to [limits]"),
        ("[spool]", "io = \"iouring\"\n[spool]", "2", "\"iouring\" is no io", "did you mean \"io_uring\"?"),
        (
            "[spool]",
            "io = \"fast\"\n[spool]",
            "2",
            "\"fast\" is no io",
            "write one of \"auto\", \"io_uring\", \"epoll\"",
        ),
        (
            "[spool]",
            "trusted_networks = [\n\"192.0.2.1/24\"]\n[spool]",
            "3",
            "bits set behind its prefix",
            "192.0.2.0/24",
        ),
        (
            "[spool]",
            "local_domains = \"example.edu\"\n[spool]",
            "2",
            "must be an array of strings",
            "local_domains = [",
        ),
        ("[spool]", "[colour]\nx = 1\n[spool]", "2", "unknown key \"colour\"", "known here: hostname"),
        ("[spool]", "[spol]", "2", "unknown key \"spol\"", "did you mean \"spool\"?"),
        ("[tls]", "[limits]\nmessage_mib = 4096\n[tls]", "5", "message_mib = 4096 is out of range", "1 to 2047 MiB"),
        ("[tls]", "[limits]\nmessage_mib = \"50\"\n[tls]", "5", "a whole number without quotes", "message_mib = 50"),
        ("[tls]", "size_max_mib = 500\n[tls]", "4", "leaves no room for mail", "write at least size_max_mib"),
        (
            "[tls]",
            "spill_kib = 2048\nsegment_mib = 4\n[tls]",
            "4",
            "spill_kib is more than a quarter of a segment",
            "at most spill_kib = 1024",
        ),
        (
            "[tls]",
            "[limits]\nconnections_per_address = 501\n[tls]",
            "4",
            "connections_per_network = 500 is less than one address may have",
            "write at least 501",
        ),
        (
            "[tls]",
            "[limits]\nconnections_exempt_networks = [\"192.0.2.1/24\"]\n[tls]",
            "5",
            "bits set behind its prefix",
            "192.0.2.0/24",
        ),
        ("key = \"/etc/key.pem\"\n", "", "4", "[tls] has no key", "add key = \"key.pem\""),
        ("[auth]", "[auth]\nusername_form = \"append-domain\"", "8", "needs a domain", "add domain ="),
        ("[auth]\nusers_file = \"users\"\n", "", "8", "nobody can log in", "add [auth]"),
        ("0.0.0.0:587", "0.0.0.0", "10", "\"0.0.0.0\" has no port", "[::]:587"),
        (
            "tls = \"required\"",
            "tls = \"starttls\"",
            "12",
            "\"starttls\" is no tls",
            "\"implicit\", \"required\", \"offered\"",
        ),
        (
            "tls = \"required\"",
            "tls = \"required\"\nmechanisms = [\"PLAIN\",\n\"CRAM-MD5\"]",
            "14",
            "\"CRAM-MD5\" is no mechanism",
            "write some of \"PLAIN\", \"LOGIN\", \"SCRAM-SHA-256\", \"SCRAM-SHA-256-PLUS\"",
        ),
        ("tls = \"required\"", "tls = \"required\"\nmechanisms = []", "13", "nobody can send", "or remove the line"),
        (
            "tls = \"required\"",
            "tls = \"required\"\nmechanisms = [\"PLAIN\", \"LOGIN\",\n\"plain\"]",
            "14",
            "\"plain\" is listed twice",
            "remove one of the two",
        ),
        (
            "[auth]\nusers_file = \"users\"\n[[listener]]\n",
            "[[listener]]\nmechanisms = [\"PLAIN\"]\n",
            "8",
            "there is nobody who could check anything",
            "add [auth]",
        ),
        ("[auth]", "[auth]\nscram_iterations = 1000", "8", "scram_iterations = 1000 is out of range", "4096 to 600000"),
        ("[auth]", "[auth]\nbrake_exempt_networks = [\"here\"]", "8", "is no IP address", "write a network"),
        (
            "[relay]",
            "[[listener]]\naddress = \"0.0.0.0:587\"\nrole = \"submission\"\ntls = \"required\"\n[relay]",
            "14",
            "line 10 already",
            "another port",
        ),
        (
            "role",
            "proxy_from = [\"192.0.2.1/32\", \"0.0.0.0/0\"]\nrole",
            "11",
            "proxy_from = 0.0.0.0/0: everybody could pretend",
            "your own proxies only",
        ),
        (
            "role",
            "proxy_from = [\"2000::/4\", \"3000::/4\"]\nrole",
            "11",
            "proxy_from = 2000::/4 and 3000::/4: everybody could pretend",
            "your own proxies only",
        ),
        ("role", "xclient_from = [\n\"::/0\"]\nrole", "12", "xclient_from = ::/0", "your own proxies only"),
        ("role", "xclient_from = [\"proxy\"]\nrole", "11", "\"proxy\" is no IP address", "write a network"),
        (
            "[auth]",
            "[[tls.additional]]\nkey = \"k\"\n[auth]",
            "7",
            "[[tls.additional]] has no certificate",
            "add certificate",
        ),
        (
            "[auth]",
            "[tls.additional]\nkey = \"k\"\n[auth]",
            "7",
            "must be a section in double brackets",
            "[[tls.additional]]",
        ),
        ("smarthost = \"mail.example.edu:25\"", "", "14", "leads nowhere", "exactly one of"),
        (
            "smarthost",
            "username = \"u\"\ntls = \"verified\"\nsmarthost",
            "15",
            "username has no effect without password_file",
            "add password_file = \"",
        ),
        (
            "smarthost",
            "password_file = \"p\"\nsmarthost",
            "15",
            "password_file has no effect without username",
            "add username = \"penstock\"",
        ),
        ("smarthost", "key = \"k\"\nsmarthost", "15", "key has no effect without certificate", "add certificate = \""),
        (
            "smarthost",
            "username = \"u\"\npassword_file = \"p\"\nsmarthost",
            "15",
            "a password is sent in TLS only",
            "tls = \"verified\"",
        ),
        (
            "smarthost",
            "tls = \"none\"\ncertificate = \"c\"\nkey = \"k\"\nsmarthost",
            "16",
            "a certificate is shown in TLS only",
            "tls = \"verified\"",
        ),
        ("smarthost", "maildir = \"m\"\nsmarthost", "14", "leads to smarthost and maildir at once", "exactly one of"),
        ("\"mail.example.edu:25\"", "[]", "15", "smarthost is empty", "name a host and port"),
        (
            "\"mail.example.edu:25\"",
            "[\"a.example:25\", \n\"b.example\"]",
            "16",
            "\"b.example\" has no port",
            "\"b.example:25\"",
        ),
        ("\"mail.example.edu:25\"", "[\"a.example:25\", \"127.0.0.1:587\"]", "15", "this Penstock itself", "has the"),
        ("\"mail.example.edu:25\"", "25", "15", "must be a string or an array of strings", "write for example"),
        ("smarthost", "domains = []\nsmarthost", "15", "domains is empty", "remove the line"),
        (
            "smarthost",
            "domains = [\"example.edu\"]\nsmarthost",
            "14",
            "other domains is accepted and has no route",
            "without domains",
        ),
        (
            "smarthost = \"mail.example.edu:25\"",
            "lmtp = \"/run/lmtp\"",
            "15",
            "is no host and port",
            "\"unix:/run/lmtp\"",
        ),
        (
            "smarthost = \"mail.example.edu:25\"",
            "maildir = \"m\"\ntls = \"none\"",
            "16",
            "for smarthost and mx only",
            "remove it",
        ),
        ("mail.example.edu:25", "127.0.0.1:587", "15", "this Penstock itself", "has the mailboxes"),
        ("mail.example.edu:25", "smtp.example.edu:587", "15", "this Penstock itself", "has the mailboxes"),
        (
            "[[relay.route]]",
            "[[relay.route]]\nmaildir = \"m\"\n[[relay.route]]",
            "16",
            "line 14 takes all other domains",
            "domains",
        ),
        (
            "[relay]",
            "[relay]\nexpire_s = 3600\nretry_max_s = 3600",
            "14",
            "would expire after 3600 s",
            "expire_s = 432000",
        ),
        ("\"spool\"", "\"sp\\u0000ool\"", "3", "the path is empty", "write the path"),
        ("[relay]", "[relay]\nexpire_s = 60", "14", "would expire after 60 s", "expire_s = 432000"),
        (
            "[tls]",
            "segment_mib = 8\nspill_kib = 2048\n[limits]\nreceiving_mib_per_core = 1\n[tls]",
            "7",
            "not even one message of spill_kib",
            "lower spool.spill_kib",
        ),
        (
            "[[relay.route]]",
            "[[relay.route]]\ndomains = [\"a.example\"]\nmaildir = \"m\"\n\
             [[relay.route]]\ndomains = [\"a.example\"]\nmaildir = \"n\"\n[[relay.route]]",
            "18",
            "a.example has a route in line 15 already",
            "remove one of the two",
        ),
        ("smarthost", "senders = []\nsmarthost", "15", "senders is empty", "name a sender"),
        ("smarthost", "senders = [\"math.example\"]\nsmarthost", "15", "is no sender", "for everybody there"),
        (
            "smarthost",
            "senders = [\"@a.example\"]\nsmarthost",
            "14",
            "other domains is accepted and has no route",
            "without",
        ),
        (
            "[[relay.route]]",
            "[[relay.route]]\nsenders = [\"@a.example\"]\nmaildir = \"m\"\n\
             [[relay.route]]\nsenders = [\"@a.example\"]\nmaildir = \"n\"\n[[relay.route]]",
            "18",
            "for @a.example has a route in line 15 already",
            "remove one of the two",
        ),
        (
            "[[relay.route]]",
            "[[relay.route]]\ndomains = [\"a.example\"]\nmaildir = \"m\"\n\
             [[relay.route]]\ndomains = [\"a.example\"]\nsenders = [\"@b.example\"]\nmaildir = \"n\"\n[[relay.route]]",
            "17",
            "takes these domains of all senders already",
            "put this route before it",
        ),
        ("smarthost", "discard = true\nsmarthost", "14", "leads to smarthost and discard at once", "exactly one of"),
        ("smarthost = \"mail.example.edu:25\"", "discard = false", "14", "leads nowhere", "and discard"),
        ("smarthost = \"mail.example.edu:25\"", "mx = false", "14", "leads nowhere", "smarthost, mx, lmtp"),
        ("smarthost", "mx = true\nsmarthost", "14", "leads to smarthost and mx at once", "exactly one of"),
        ("smarthost", "port = 26\nsmarthost", "15", "port has a meaning for mx only", "remove it"),
        (
            "[[relay.route]]",
            "[[relay.route]]\ndomains = [\"a.example\"]\nmx = true\nusername = \"u\"\n[[relay.route]]",
            "17",
            "username has a meaning for smarthost only",
            "remove it",
        ),
        (
            "[[relay.route]]",
            "[[relay.route]]\ndomains = [\"a.example\"]\nmx = true\nreachable_networks = [\"10.0.0.1/8\"]\n[[relay.route]]",
            "17",
            "10.0.0.1/8",
            "10.0.0.0/8",
        ),
        (
            "[relay]",
            "[relay]\nname_servers = [\"dns.example.edu\"]",
            "14",
            "\"dns.example.edu\" is no address of a name server",
            "192.0.2.53",
        ),
        ("smarthost = \"mail.example.edu:25\"", "lmtp = \"unix:run/l\"", "15", "no absolute path", "unix:/run/dovecot"),
        ("[relay]", "[relay]\nretry_first_s = 7200", "13", "longer than retry_max_s", "lower retry_first_s"),
        ("hostname", "hostname = \"a.b\"\nhostname", "2", "hostname stands in line 1 already", "remove one of the two"),
        ("[tls]", "[spool]\n[tls]", "4", "[spool] stands in line 2 already", "under one of the two"),
        ("tls = \"required\"", "tls = required", "12", "no valid TOML", "write tls = \"required\""),
        (
            "tls = \"required\"",
            "tls = \u{201c}required\u{201d} # so",
            "12",
            "no valid TOML",
            "write tls = \"required\"",
        ),
        ("\"0.0.0.0:587\"", "0.0.0.0:587", "10", "no valid TOML", "write address = \"0.0.0.0:587\""),
        ("\"spool\"", "/var/spool", "3", "no valid TOML", "write directory = \"/var/spool\""),
        ("\"spool\"", "\"spool", "3", "no valid TOML", "toml.io"),
    ];
    for (from, to, line, what, remedy) in table {
        let said = said(from, to);
        let expected = |notice: &str| {
            notice.starts_with(&format!("/etc/penstock/penstock.toml:{line}: "))
                && notice.contains(what)
                && notice.contains(remedy)
        };
        assert!(said.lines().any(expected), "{from:?} -> {to:?}: expected {line}: {what}; {remedy}\nsaid:\n{said}");
        assert!(!said.lines().any(|notice| notice.contains(": warning: ")), "{said}");
    }
}

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

#[test]
fn all_mistakes_are_reported_in_one_go_and_in_order() {
    let text =
        SHORTEST.replace("0.0.0.0:587", "nowhere").replace("hostname", "hostnam").replace("smarthost", "smarthorse");
    let said = read(&text).expect_err("mistakes").to_string();
    let lines: Vec<&str> = said.lines().map(|line| line.split(':').nth(1).expect("a line number")).collect();
    assert_eq!(lines, ["1", "10", "15"], "{said}");
}

/// What would only follow from a mistake is not said beside it.
#[test]
fn a_mistake_has_no_followers() {
    let smtp = "role = \"smtp\"";
    let listed = |what: &str| format!("tls = \"required\"\nmechanisms = [{what}]");
    let table = [
        ("hostname =", "hostnam =".to_owned(), ""),
        ("hostname = \"smtp.example.edu\"", "hostname = 25".to_owned(), ""),
        ("[spool]", "[spol]".to_owned(), ""),
        ("tls = \"required\"", listed("\"XOAUTH2\""), ""),
        ("tls = \"required\"", listed("\"PLAIN\", \"XOAUTH2\""), ""),
        ("[spool]", "local_domains = [\"@example.edu\"]\n[spool]".to_owned(), smtp),
        ("[spool]", "local_domains = \"example.edu\"\n[spool]".to_owned(), smtp),
        ("[spool]", "local_domain = [\"example.edu\"]\n[spool]".to_owned(), smtp),
        ("[spool]", "trusted_networks = [\"0.0.0.0/0\"]\n[spool]".to_owned(), ""),
        ("role", "xclient_from = [\"2000::/4\", \"3000::/4\"]\nrole".to_owned(), ""),
        ("[auth]", "[aut]".to_owned(), ""),
        ("[auth]\nusers_file = \"users\"", "[auth]\nuser_file = \"users\"".to_owned(), ""),
        ("role", "xclient_login = true\nxclient_from = \"::1\"\nrole".to_owned(), ""),
        ("[[listener]]", "[listener]".to_owned(), ""),
    ];
    for (from, to, role) in table {
        let said = match read(&SHORTEST.replacen(from, &to, 1).replace("role = \"submission\"", role_or_own(role))) {
            Ok(loaded) => loaded.notices.to_string(),
            Err(notices) => notices.to_string(),
        };
        assert_eq!(said.lines().count(), 1, "{from:?} -> {to:?} said:\n{said}");
    }
}

fn role_or_own(role: &str) -> &str {
    if role.is_empty() { "role = \"submission\"" } else { role }
}

#[test]
fn what_is_no_utf8_is_said_of_its_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("penstock.toml");
    let latin = [&b"# one\n# two f\xc3\xbcr\nhelp = \"f"[..], b"\xfcr\"\n"].concat();
    std::fs::write(&file, latin).expect("written");
    let said = load(&file).map(|_| ()).expect_err("a mistake").to_string();
    assert!(
        said.ends_with("penstock.toml:3: this line is not UTF-8: it has the octet 0xfc; save the file as UTF-8\n"),
        "{said}"
    );
}

#[test]
fn what_is_no_toml_is_said_once_a_line_and_where_the_slip_is() {
    let said = said("\"spool\"\n[tls]\n", "\"spool\" segment_mib = 64 [tls] key = 5\n");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(":3: no valid TOML"), "{said}");
    let listener = "address = \"0.0.0.0:25\"\nrole = \"smtp\"\ntls = \"offered\"\n";
    let several = |first: &str, second: &str, third: &str| {
        let text = SHORTEST.replace("[[listener]]", first);
        let more = format!("{second}\n{listener}{third}\n{}[relay]", listener.replace(":25", ":26"));
        read(&text.replace("[relay]", &more)).map(|_| ()).expect_err("a mistake").to_string()
    };
    let (one, two) = ("[listener] # the first", "[[listener]]");
    let named = |line: u32| {
        format!("/etc/penstock/penstock.toml:{line}: [listener] is in single brackets; write it as [[listener]]\n")
    };
    assert_eq!(several(one, two, two), named(9));
    assert_eq!(several(two, one, two), named(13));
    assert_eq!(several(two, two, one), named(17));
    assert_eq!(several(one, one, one), named(9) + &named(13) + &named(17));
    let route = SHORTEST.replace("[[relay.route]]", "[relay.route]\nmaildir = \"m\"\n[[relay.route]]");
    let said = read(&route).map(|_| ()).expect_err("a mistake").to_string();
    assert!(said.contains(":14: [relay.route] is in single brackets; write it as [[relay.route]]"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn relative_paths_become_absolute() {
    let Loaded { config, .. } = parse(SHORTEST, Path::new("penstock.toml")).expect("no mistakes");
    let here = std::env::current_dir().expect("a directory");
    assert_eq!(config.tls.certificate, here.join("certificate.pem"));
    assert_eq!(config.auth.expect("auth").users_file, here.join("users"));
    let Loaded { config, .. } = parse(SHORTEST, Path::new("uni/penstock.toml")).expect("no mistakes");
    assert_eq!(config.spool.directory, here.join("uni/spool"));
}

#[test]
fn no_route_is_needed_while_the_relay_is_paused_or_when_local_mail_has_one() {
    assert_eq!(said("[relay]\n[[relay.route]]\nsmarthost = \"mail.example.edu:25\"", "[relay]\npaused = true"), "");
    let local_only = SHORTEST
        .replace("[auth]\nusers_file = \"users\"\n", "")
        .replace("submission", "smtp")
        .replace("[spool]", "local_domains = [\"example.edu\"]\n[spool]")
        .replace("smarthost", "domains = [\"example.edu\"]\nsmarthost");
    assert!(read(&local_only).is_ok(), "{:?}", read(&local_only).map(|_| ()).map_err(|notices| notices.to_string()));
    let two = local_only.replacen("[\"example.edu\"]", "[\"example.edu\", \"cs.example.edu\"]", 1);
    let said = read(&two).expect_err("a domain without route").to_string();
    assert!(said.contains("penstock.toml:2: mail to cs.example.edu is accepted and has no route"), "{said}");
}

/// 0 is no limit: then a stolen password could send without end.
// covers: 5.17
#[test]
fn each_university_bounds_what_one_user_sends() {
    for example in example::EXAMPLES.iter().filter(|example| example.name != "general") {
        let limits = read(example.text).expect(example.name).config.limits;
        assert!(limits.user_recipients_per_hour >= limits.recipients_max, "{}", example.name);
    }
}

#[test]
fn every_example_is_without_mistake() {
    for example in example::EXAMPLES {
        match read(example.text) {
            Ok(loaded) => {
                assert_eq!(loaded.notices.to_string(), "", "{}", example.name);
                let whole =
                    example.name == "general" || example.text.ends_with("# All other keys: penstock config example\n");
                assert!(whole, "{}", example.name);
            }
            Err(notices) => panic!("{}: {notices}", example.name),
        }
    }
}

/// The general example shows every key; with all of them uncommented it is still without mistake and says the defaults.
#[test]
fn the_general_example_shows_every_key_with_its_default() {
    let text = example::find("general").expect("it exists").text;
    for key in keys::all().iter().filter(|key| !matches!(key.kind, keys::Kind::Table | keys::Kind::Tables)) {
        let shown = |line: &str| line.trim_start_matches(['#', ' ']).starts_with(&format!("{} = ", key.name));
        assert!(text.lines().any(shown), "{}.{} is not shown", key.section, key.name);
        let keys::Kind::Count { default, .. } = key.kind else { continue };
        if key.name != "cores" {
            assert!(
                text.contains(&format!("# {} = {default}\n", key.name)),
                "the default of {} is not shown",
                key.name
            );
        }
    }
    let known = |line: &str| keys::all().iter().any(|key| line.starts_with(&format!("# {} = ", key.name)));
    let all: Vec<&str> = text.lines().map(|line| if known(line) { &line[2..] } else { line }).collect();
    if let Err(notices) = read(&all.join("\n")) {
        panic!("uncommented: {notices}");
    }
}

/// A list of tables may be written without any: then there would be a server that nobody can reach.
#[test]
fn there_is_something_to_listen_on() {
    let listener = "[[listener]]\naddress = \"0.0.0.0:587\"\nrole = \"submission\"\ntls = \"required\"\n";
    let text = SHORTEST.replacen(listener, "", 1).replacen("[spool]", "listener = []\n[spool]", 1);
    assert_eq!(
        read(&text).expect_err("nobody could connect").to_string(),
        "/etc/penstock/penstock.toml:2: there is nothing to listen on; add [[listener]] to the file\n"
    );
}

/// For `penstock user`: a user who must go, or is braked, cannot wait until the rest of the file is mended.
#[test]
fn auth_is_read_beside_mistakes_of_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("penstock.toml");
    let of = |text: &str| {
        std::fs::write(&file, text).expect("written");
        load_auth(&file)
    };
    let sound = "[auth]\nusers_file = \"users\"\nscram = true\n";
    for rest in ["", "[limits]\nrecipient_max = 3\n", "hostnam = \"x\"\n", "[spool]\ndirectory = 3\n"] {
        let text = if rest.starts_with('[') { format!("{sound}{rest}") } else { format!("{rest}{sound}") };
        let (auth, notices) = of(&text).expect(rest);
        let auth = auth.expect("auth");
        assert!(auth.scram && auth.users_file == directory.path().join("users"), "{rest}");
        assert!(notices.has_mistakes(), "{rest}");
    }
    for text in [
        "[auth]\nuser_file = \"users\"\n",
        "[auth]\nusers_file = \"users\"\nusername_form = \"append-domain\"\n",
        "[auth]\nusers_file = \"users\"\nscram = 1\n",
        "[auht]\nusers_file = \"users\"\n",
        "auth = 3\n",
        "[auth]\nusers_file = \"users\n[limits]\n",
    ] {
        assert!(of(text).is_err_and(|notices| notices.has_mistakes()), "{text}");
    }
    assert!(of("[limits]\nrecipient_max = 3\n").is_ok_and(|(auth, _)| auth.is_none()));
}

/// No port is opened that the file does not name, and the section alone names the usual one.
#[test]
fn metrics_are_served_where_the_file_says_so() {
    let text = example::find("toronto").expect("it exists").text;
    let read = |section: &str| {
        let text = text.replacen("\n[relay]", &format!("\n{section}\n[relay]"), 1);
        let loaded = parse(&text, Path::new("/etc/penstock/penstock.toml")).map_err(|notices| notices.to_string())?;
        let notices = loaded.notices.to_string();
        Ok::<_, String>((loaded.config.admin.map(|admin| admin.listen.to_string()), notices))
    };
    assert_eq!(read("").expect("no mistake").0, None);
    assert_eq!(read("[admin]").expect("no mistake").0.as_deref(), Some("127.0.0.1:9587"));
    let beyond = "[admin]\nlisten = \"[::]:9587\"\nbeyond_loopback = true";
    assert_eq!(read(beyond).expect("said explicitly").0.as_deref(), Some("[::]:9587"));
    assert!(read(&beyond.replace("true", "false")).is_err());
    let (listen, said) = read("[admin]\nbeyond_loopback = true").expect("no mistake");
    assert_eq!(listen.as_deref(), Some("127.0.0.1:9587"));
    assert!(said.contains("beyond_loopback has no effect"), "{said}");
}
