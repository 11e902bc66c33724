//! A configuration whose files are there, not there, or not what they should be.

use super::*;
use crate::admin::{certificate, user};
use std::path::PathBuf;
use std::time::Duration;

const TEXT: &str = r#"hostname = "smtp.example.edu"
[spool]
directory = "spool"
[tls]
certificate = "certificate.pem"
key = "key.pem"
self_signed = true
[auth]
users_file = "users"
[[listener]]
address = "127.0.0.1:2587"
role = "submission"
tls = "required"
[relay]
[[relay.route]]
maildir = "Maildir"
"#;

/// A folder in which nothing is missing, and its configuration.
fn complete(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("penstock.toml");
    fs::write(&file, text).expect("written");
    let config = config::load(&file).expect("no mistakes").config;
    certificate::make_if_missing(&config).expect("made");
    user::add(config.auth.as_ref().expect("auth"), "anna", "secret of anna").expect("added");
    (directory, file)
}

/// What is said about `file`, with its name taken out.
fn said(file: &Path) -> String {
    let notices = match load(file) {
        Ok(loaded) => loaded.notices,
        Err(notices) => notices,
    };
    notices.to_string().replace(&format!("{}/", file.parent().expect("a directory").display()), "")
}

#[test]
fn warnings_are_counted_in_what_is_said_last() {
    let words = |more: &str| {
        let (_directory, file) = complete(&format!("{more}{TEXT}"));
        verdict(&load(&file).expect("no mistakes").notices)
    };
    assert_eq!(words(""), "no mistakes");
    assert_eq!(words("help = \"help.example.edu\"\n"), "no mistakes, 1 warning");
    assert_eq!(
        words("help = \"help.example.edu\"\ntrusted_networks = [\"192.0.2.0/24\"]\n"),
        "no mistakes, 2 warnings"
    );
}

#[test]
fn nothing_is_said_when_nothing_is_missing() {
    let (_directory, file) = complete(TEXT);
    assert_eq!(said(&file), "");
}

#[test]
fn every_example_passes_where_nothing_is_there_yet() {
    for example in config::example::EXAMPLES {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("penstock.toml");
        // Paths under /etc and /var are moved into the folder: what is on this machine must not matter.
        let text = example.text.replace("\"/etc/", "\"etc/").replace("\"/var/", "\"var/");
        fs::write(&file, text).expect("written");
        let said = said(&file);
        let mistakes: Vec<&str> = said.lines().filter(|line| !line.contains(": warning: ")).collect();
        assert!(matches!(mistakes[..], [] | [_]), "{}: {said}", example.name);
        assert!(mistakes.iter().all(|line| line.contains("there are no users yet")), "{}: {said}", example.name);
    }
}

#[test]
fn a_smarthost_that_has_to_prove_its_name_has_one() {
    for (host, warned) in [("192.0.2.1", true), ("[2001:db8::1]", true), ("127.example.org", false)] {
        for tls in ["verified", "required"] {
            let route = format!("smarthost = \"{host}:25\"\ntls = \"{tls}\"");
            let (_directory, file) = complete(&TEXT.replace("maildir = \"Maildir\"", &route));
            let said = said(&file);
            let remedy = "which is rare; name the host as its certificate does";
            assert_eq!(said.contains(remedy), warned && tls == "verified", "{host} {tls}: {said}");
        }
    }
}

#[test]
fn what_a_smarthost_is_shown_is_there_and_is_ours_alone() {
    let route = "smarthost = \"mail.example.org:587\"\ntls = \"required\"\nusername = \"penstock\"\n\
                 password_file = \"password\"\ncertificate = \"certificate.pem\"\nkey = \"own.pem\"";
    let (directory, file) = complete(&TEXT.replace("maildir = \"Maildir\"", route));
    let path = |name: &str| directory.path().join(name);
    let usual = "penstock.toml:18: warning: tls = \"required\" asks for no name: whoever answers";
    let mode = |name: &str, bits| fs::set_permissions(path(name), fs::Permissions::from_mode(bits)).expect("set");
    let written = |text: &str| fs::write(path("password"), text).expect("written");
    let table: [(&dyn Fn(), &[&str]); 5] = [
        (&|| {}, &["19: password cannot be read: No such file", "21: own.pem does not exist; put the key"]),
        (&|| fs::copy(path("key.pem"), path("own.pem")).map(|_| ()).expect("copied"), &["19: password cannot be read"]),
        (&|| written("one\ntwo\n"), &["19: password is not one line; write the password"]),
        (&|| [written("secret\n"), mode("password", 0o604)].into_iter().collect(), &["19: warning: everybody"]),
        (&|| mode("password", 0o600), &[]),
    ];
    for (change, expected) in table {
        change();
        let said = said(&file);
        assert!(said.contains(usual) && said.lines().count() == 1 + expected.len(), "{said}");
        assert!(expected.iter().all(|part| said.contains(&format!("penstock.toml:{part}"))), "{expected:?}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

#[test]
fn files_that_are_missing_or_are_not_what_they_should_be() {
    type Spoil = fn(&Path);
    let table: [(&str, Spoil, &str); 10] = [
        (
            "no users",
            |d| fs::remove_file(d.join("users")).expect("removed"),
            ":9: users does not exist: there are no users yet, and serve",
        ),
        (
            "nobody in users",
            |d| fs::write(d.join("users"), "# nobody\n").expect("written"),
            ":9: warning: users names nobody, so nobody can log in; run: penstock user add",
        ),
        ("no key", |d| fs::remove_file(d.join("key.pem")).expect("removed"), ":6: key.pem does not exist"),
        (
            "no certificate",
            |d| fs::remove_file(d.join("certificate.pem")).expect("removed"),
            ":5: certificate.pem does not exist; put it there, or move the key away",
        ),
        (
            "certificate twice",
            |d| fs::write(d.join("key.pem"), fs::read(d.join("certificate.pem")).expect("read")).expect("written"),
            ":6: key.pem: no private key",
        ),
        (
            "an empty certificate",
            |d| fs::write(d.join("certificate.pem"), "").expect("written"),
            ":5: certificate.pem: no certificate",
        ),
        (
            "a key that all can read",
            |d| fs::set_permissions(d.join("key.pem"), fs::Permissions::from_mode(0o644)).expect("set"),
            ":6: warning: everybody on this machine can read key.pem; run: chmod o= key.pem",
        ),
        ("a line without a hash", |d| fs::write(d.join("users"), "# all\nanna\n").expect("written"), ":9: users:2: "),
        ("a file as spool", |d| fs::write(d.join("spool"), "").expect("written"), ":3: spool is no directory"),
        ("a file as Maildir", |d| fs::write(d.join("Maildir"), "").expect("written"), ":16: Maildir is no directory"),
    ];
    for (what, spoil, expected) in table {
        let (directory, file) = complete(TEXT);
        spoil(directory.path());
        let said = said(&file);
        assert!(said.lines().count() == 1 && said.contains(&format!("penstock.toml{expected}")), "{what}: {said}");
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_a_mistake() {
    for (spool, expected) in [
        ("/proc/x", ":3: /proc/x cannot be made: /proc is the kernel's own"),
        ("/sys/x/y", ":3: /sys/x/y cannot be made: /sys is the kernel's own"),
        ("users/spool", ":3: users/spool cannot be made: users is no directory; name"),
        ("a/b/c", ""),
    ] {
        let (_directory, file) = complete(&TEXT.replace("\"spool\"", &format!("\"{spool}\"")));
        let said = said(&file);
        assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{spool}: {said}");
        assert_eq!(check(&file) == ExitCode::SUCCESS, expected.is_empty(), "{spool}");
    }
}

#[test]
fn certificate_and_key_that_are_not_where_they_should_be() {
    let keys = "certificate = \"certificate.pem\"\nkey = \"key.pem\"\n";
    for (lines, expected) in [
        ("certificate = \"key.pem\"\nkey = \"key.pem\"\n", ":5: key.pem: no certificate in this file"),
        ("certificate = \"certificate.pem\"\nkey = \"certificate.pem\"\n", ":6: certificate.pem: no private key"),
        (
            "certificate = \"key.pem\"\nkey = \"certificate.pem\"\n",
            ":5: key.pem is the key and certificate.pem the certificate: these two are swapped; exchange them",
        ),
    ] {
        let (_directory, file) = complete(TEXT);
        fs::write(&file, TEXT.replace(keys, lines)).expect("written");
        let said = said(&file);
        assert!(said.lines().count() == 1 && said.contains(&format!("penstock.toml{expected}")), "{lines}: {said}");
    }
}

#[test]
fn names_of_certificates_are_held_against_hostname_and_each_other() {
    let (_directory, file) = complete(TEXT);
    let other = TEXT.replace("smtp.example.edu", "mail.example.edu");
    fs::write(&file, &other).expect("written");
    let words = said(&file);
    assert!(words.starts_with("penstock.toml:5: warning: certificate.pem is not for hostname \"mail."), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");
    let again = "[[tls.additional]]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n[auth]";
    fs::write(&file, TEXT.replace("[auth]", again)).expect("written");
    let words = said(&file);
    assert!(words.starts_with("penstock.toml:9: warning: certificate.pem is never shown: earlier"), "{words}");
    let loaded = load(&file).expect("no mistakes");
    let lines = ends(&loaded.config);
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("certificate.pem: ends on 20") && lines[0].ends_with(" UTC"), "{lines:?}");
}

/// What is said about `TEXT` with more lines in `[auth]` and in the listener, of which the last user has no SCRAM keys.
fn said_of_scram(listener: &str, anna: bool, spoil: fn(&Path)) -> String {
    let (directory, file) = complete(TEXT);
    let text = TEXT.replace("users_file", "scram = true\nscram_iterations = 4096\nusers_file");
    fs::write(&file, text.replace("tls = \"required\"\n", &format!("tls = \"required\"\n{listener}")))
        .expect("written");
    let mut auth = config::load(&file).expect("no mistakes").config.auth.expect("auth");
    if anna {
        user::add(&auth, "anna", "secret of anna").expect("changed");
    }
    auth.scram = false;
    user::add(&auth, "ben", "secret of ben").expect("added");
    spoil(directory.path());
    said(&file)
}

#[test]
fn scram_that_users_cannot_use_is_named() {
    let listed = "mechanisms = [\"PLAIN\", \"SCRAM-SHA-256\"]\n";
    let nothing: fn(&Path) = |_| {};
    for (listener, anna, expected) in [
        (
            "",
            true,
            "penstock.toml:9: warning: SCRAM is not offered yet: 1 of 2 users have no SCRAM keys, first \"ben\"",
        ),
        (listed, true, "penstock.toml:16: warning: programs that prefer SCRAM will fail: 1 of 2 users"),
        (
            listed,
            false,
            "penstock.toml:16: nobody could log in by SCRAM: 2 of 2 users have no SCRAM keys, first \"anna\"",
        ),
        ("mechanisms = [\"PLAIN\"]\n", false, "penstock.toml:9: warning: SCRAM is not offered yet: 2 of 2"),
    ] {
        let said = said_of_scram(listener, anna, nothing);
        assert!(said.starts_with(expected) && said.contains("; set their passwords anew with"), "{listener}: {said}");
    }
    let spoilt = said_of_scram(listed, true, |d| fs::write(d.join("users.scram-secret"), "x").expect("written"));
    assert!(spoilt.contains("penstock.toml:9: users.scram-secret is not 64 hexadecimal digits; copy it"), "{spoilt}");
    let all = said_of_scram(listed, true, |d| {
        let text = fs::read_to_string(d.join("users")).expect("read");
        let kept: String = text.split_inclusive('\n').filter(|line| !line.starts_with("ben")).collect();
        fs::write(d.join("users"), kept).expect("written");
    });
    assert_eq!(all, "");
}

/// All users may have keys, given by `penstock user add --scram`, and [auth] not have `scram = true`.
#[test]
fn scram_that_auth_does_not_have_is_as_good() {
    let listed = TEXT.replace("tls = \"required\"\n", "tls = \"required\"\nmechanisms = [\"SCRAM-SHA-256\"]\n");
    let (directory, file) = complete(&listed);
    let mut auth = config::load(&file).expect("its text has no mistake").config.auth.expect("auth");
    let nobody = "penstock.toml:14: nobody could log in by SCRAM: 1 of 1 users have no SCRAM keys";
    let remedy = "set their passwords anew with penstock user add --scram";
    assert!(said(&file).starts_with(nobody) && said(&file).contains(remedy), "{}", said(&file));
    auth.scram = true;
    auth.scram_iterations = 4096;
    user::add(&auth, "anna", "secret of anna").expect("changed");
    assert_eq!(said(&file), "");
    fs::write(&file, TEXT).expect("written");
    assert_eq!(said(&file), "");
    auth.scram = false;
    user::add(&auth, "ben", "secret of ben").expect("added");
    let words = said(&file);
    assert!(words.contains("warning: SCRAM is not offered yet: 1 of 2") && words.contains(remedy), "{words}");
    // The way that it names leads there.
    auth.scram = true;
    user::add(&auth, "ben", "secret of ben").expect("changed");
    assert_eq!(said(&file), "");
    fs::write(directory.path().join("users.scram-secret"), "x").expect("written");
    let words = said(&file);
    assert!(words.contains("warning: SCRAM cannot be offered: users.scram-secret is not 64"), "{words}");
    fs::write(&file, listed).expect("written");
    assert!(said(&file).contains("penstock.toml:8: users.scram-secret is not 64"), "{}", said(&file));
}

#[test]
fn every_line_that_is_wrong_is_named() {
    let text = TEXT.replace("[spool]", "local_domains = [\"example.edu\"]\nlocal_recipients = \"known\"\n[spool]");
    let (directory, file) =
        complete(&format!("{text}[[relay.route]]\ndomains = [\"example.edu\"]\nmaildir = \"Maildir\"\n"));
    let users = fs::read_to_string(directory.path().join("users")).expect("read");
    fs::write(
        directory.path().join("users"),
        format!("ben\n{users}cleo:x\nanna:{}", &users[users.find("$").unwrap_or(0)..]),
    )
    .expect("written");
    fs::write(directory.path().join("known"), "anna@example.edu\nben\ncleo\n").expect("written");
    let words = said(&file);
    for part in ["users:1: ", "users:4: ", "users:5: the account \"anna\" is already", "known:2: ", "known:3: "] {
        assert_eq!(words.matches(part).count(), 1, "{part}: {words}");
    }
    for name in ["users", "known"] {
        fs::write(directory.path().join(name), "x\n".repeat(LINES_SHOWN + 7)).expect("written");
    }
    let words = said(&file);
    for name in ["users", "known"] {
        assert_eq!(words.matches(&format!("{name}:")).count(), LINES_SHOWN + 1, "{words}");
        assert!(words.contains(&format!("{name}: and 7 more lines with mistakes")), "{words}");
    }
}

#[test]
fn without_self_signed_a_missing_pair_is_two_mistakes() {
    let (directory, file) = complete(TEXT);
    fs::write(&file, TEXT.replace("self_signed = true\n", "")).expect("written");
    for name in ["certificate.pem", "key.pem"] {
        fs::remove_file(directory.path().join(name)).expect("removed");
    }
    let said = said(&file);
    assert!(
        said.starts_with("penstock.toml:5: certificate.pem does not exist; put it there, or let one be made"),
        "{said}"
    );
    assert!(said.contains("\npenstock.toml:6: key.pem does not exist"), "{said}");
}

/// A further certificate, spoilt in every way, and one that soon ends. The lines are those of `certificate` and `key` in TEXT
/// with that section.
// covers: 9.9
#[test]
fn further_certificates_are_looked_at_too() {
    let text = TEXT.replace("[auth]", "[[tls.additional]]\ncertificate = \"other.pem\"\nkey = \"other.key\"\n[auth]");
    let (directory, file) = complete(&text);
    let path = |name: &str| directory.path().join(name);
    assert_eq!(
        said(&file),
        "penstock.toml:9: other.pem does not exist; put it there, or remove this [[tls.additional]]\n\
         penstock.toml:10: other.key does not exist; put the key of the certificate there\n"
    );
    let now_s = (crate::clock::now_ms() / 1000) as i64;
    let make = |names: &[&str], days_left: i64| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        let at = |days: i64| {
            let day = rcgen::date_time_ymd(1970, 1, 1);
            day + Duration::from_secs((now_s + days * 86_400) as u64)
        };
        (params.not_before, params.not_after) = (at(-60), at(days_left));
        let key = rcgen::KeyPair::generate().expect("a key");
        fs::write(path("other.pem"), params.self_signed(&key).expect("made").pem()).expect("written");
        fs::write(path("other.key"), key.serialize_pem()).expect("written");
        fs::set_permissions(path("other.key"), fs::Permissions::from_mode(0o600)).expect("set");
    };
    make(&["smtp.example.org"], 15);
    assert_eq!(said(&file), "");
    make(&["smtp.example.org"], 13);
    let words = said(&file);
    assert!(words.starts_with("penstock.toml:9: warning: other.pem: the certificate expires on 20"), "{words}");
    make(&["smtp.example.org"], -1);
    assert!(said(&file).contains(":9: warning: other.pem: the certificate expired on 20"), "{}", said(&file));
    make(&["192.0.2.1"], 15);
    assert!(said(&file).contains(":9: other.pem has no DNS name in its subjectAltName"), "{}", said(&file));
    fs::copy(path("key.pem"), path("other.key")).expect("copied");
    assert!(said(&file).contains(":10: other.key: this key does not belong"), "{}", said(&file));
}

// covers: 4.7
#[test]
fn local_recipients_are_looked_at() {
    let text = "local_domains = [\"example.edu\", \"lab.example.edu\"]\nlocal_recipients = \"recipients\"\n";
    let (directory, file) = complete(&format!("{text}{TEXT}"));
    assert!(said(&file).contains(":2: recipients does not exist; put it there"), "{}", said(&file));
    for (recipients, expected) in [
        ("anna@example.edu\n@lab.example.edu\n", ""),
        ("anna@example.edu\n\nanna\n", ":2: recipients:3: \"anna\" is no address; write one a line"),
        ("# nobody\n", ":2: recipients: it names nobody"),
        ("anna@example.edu\n", ":2: warning: recipients names nobody in lab.example.edu"),
        ("@example.edu\n@lab.example.edu\na@example.org\n", ":2: warning: a@example.org in recipients is in none of"),
    ] {
        fs::write(directory.path().join("recipients"), recipients).expect("written");
        let said = said(&file);
        assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{recipients:?}: {said}");
    }
}
