//! A configuration with one slip at a time: what is said about it, and in which line.

use super::*;

mod mistakes;
mod warnings;

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
