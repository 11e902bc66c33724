//! The users file before and after each operation.

use super::*;
use crate::auth::hash::{Hash, Memory};
use crate::policy::{Networks, UsernameForm};
use std::sync::Barrier;
use tempfile::TempDir;

const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

fn house(form: UsernameForm) -> (TempDir, config::Auth) {
    let directory = tempfile::tempdir().expect("directory");
    let config = config::Auth {
        users_file: directory.path().join("users"),
        username_form: form,
        domain: Some("home.example".into()),
        verifiers: 1,
        verifier_queue: 1,
        cache_s: 0,
        scram: false,
        scram_iterations: 4096,
        brake_account_failures: 20,
        brake_address_failures: 100,
        brake_window_s: 900,
        brake_exempt_networks: Networks::default(),
        failure_delay_ms: 1000,
    };
    (directory, config)
}

fn text(config: &config::Auth) -> String {
    fs::read_to_string(&config.users_file).expect("read")
}

fn mode(config: &config::Auth) -> u32 {
    fs::metadata(&config.users_file).expect("metadata").mode() & 0o777
}

fn put(config: &config::Auth, name: &str, password: &str) -> Result<Added, String> {
    add_at_cost(config, name, password, CHEAP).map(|(added, _)| added)
}

fn names(config: &config::Auth) -> Result<Vec<String>, String> {
    list(config).map(|users| users.into_iter().map(|user| user.name).collect())
}

fn has_password(config: &config::Auth, account: &str, password: &str) -> bool {
    let entries = users::parse(text(config).as_bytes(), &Names::new(config)).expect("users");
    let entry = entries.into_iter().find(|entry| entry.name == account).expect("user");
    entry.hash.matches(password.as_bytes(), &mut Memory::default())
}

#[test]
fn the_first_user_makes_the_file_and_only_the_owner_may_read_it() {
    let (directory, config) = house(UsernameForm::Either);
    assert_eq!(put(&config, "Ann@Home.example", "password"), Ok(Added::New));
    assert!(has_password(&config, "ann", "password") && !has_password(&config, "ann", "other"));
    assert!(text(&config).starts_with(HEADING) && text(&config).contains("\nann:$argon2id$"), "{}", text(&config));
    assert_eq!(mode(&config), 0o600);
    assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 1, "nothing is left beside it");
}

#[test]
fn comments_blank_lines_and_order_stay() {
    let (_directory, config) = house(UsernameForm::Either);
    let line = |name: &str| format!("{name}:{}", hash::create(b"old", CHEAP).expect("hash"));
    let (ann, bob, eve) = (line("Ann"), line("bob"), line("eve"));
    fs::write(&config.users_file, format!("# staff\n{ann}\n\n# students\n{bob}\r\n  {eve}")).expect("written");
    assert_eq!(put(&config, "dan", "new"), Ok(Added::New));
    let dan = text(&config).lines().last().expect("a line").to_owned();
    assert_eq!(text(&config), format!("# staff\n{ann}\n\n# students\n{bob}\r\n  {eve}\n{dan}\n"));
    assert_eq!(remove(&config, "BOB@home.example"), Ok(()));
    assert_eq!(text(&config), format!("# staff\n{ann}\n\n# students\n  {eve}\n{dan}\n"));
    assert_eq!(put(&config, "ann", "new"), Ok(Added::Changed));
    assert!(has_password(&config, "ann", "new") && has_password(&config, "eve", "old"));
    assert_eq!(text(&config).lines().count(), 6);
    assert!(text(&config).starts_with("# staff\nann:$argon2id$"));
    assert_eq!(names(&config), Ok(vec!["ann".into(), "eve".into(), "dan".into()]));
}

#[test]
fn scram_keys_are_made_when_asked_for_and_anew_for_who_has_some() {
    let (directory, mut config) = house(UsernameForm::Either);
    put(&config, "ann", "old").expect("added");
    assert!(!text(&config).contains("SCRAM-SHA-256$"));
    config.scram = true;
    assert_eq!(put(&config, "ann", "\u{2168} clés"), Ok(Added::Changed));
    let entry = || users::parse(text(&config).as_bytes(), &Names::new(&config)).expect("users").remove(0);
    let keys = entry().scram.expect("keys");
    assert_eq!(keys, Keys::derive("IX clés", &keys.salt, 4096), "of the prepared password");
    assert!(has_password(&config, "ann", "IX clés"));
    let secret = directory.path().join("users.scram-secret");
    let made = fs::read_to_string(&secret).expect("the secret is made");
    assert_eq!(fs::metadata(&secret).expect("metadata").mode() & 0o777, 0o600);
    assert_eq!(put(&config, "ann", "again"), Ok(Added::Changed));
    assert_ne!(entry().scram.expect("keys").salt, keys.salt, "a salt of its own each time");
    assert_eq!(fs::read_to_string(&secret).expect("read"), made, "and kept");
    config.scram = false;
    let add = |name: &str| add_at_cost(&config, name, "new", CHEAP);
    assert_eq!(add("ann"), Ok((Added::Changed, ScramKeys::Renewed)));
    let entry = users::parse(text(&config).as_bytes(), &Names::new(&config)).expect("users").remove(0);
    let keys = entry.scram.expect("keys");
    assert_eq!(keys, Keys::derive("new", &keys.salt, 4096), "of the new password");
    assert_eq!(add("ben"), Ok((Added::New, ScramKeys::Missed)), "the first without");
    assert_eq!(add("ben"), Ok((Added::Changed, ScramKeys::Missed)));
    assert_eq!(add("cleo"), Ok((Added::New, ScramKeys::None)));
    let listed = |name: &str, scram| Listed { name: name.into(), scram };
    let all = vec![listed("ann", true), listed("ben", false), listed("cleo", false)];
    assert_eq!(list(&config), Ok(all));
}

#[test]
fn names_are_written_in_the_configured_form() {
    for (form, given, account) in [
        (UsernameForm::Either, "Ann@home.example", "ann"),
        (UsernameForm::AppendDomain, "Ann", "ann@home.example"),
        (UsernameForm::RequireDomain, "Ann@Other.example", "ann@other.example"),
    ] {
        let (_directory, config) = house(form);
        assert_eq!(put(&config, given, "password"), Ok(Added::New));
        assert_eq!(names(&config), Ok(vec![account.into()]));
    }
    let (_directory, config) = house(UsernameForm::RequireDomain);
    let error = put(&config, "ann", "password").expect_err("bare");
    assert!(error.contains("\"ann\"") && error.contains("user@domain"), "{error}");
}

#[test]
fn what_is_refused_leaves_no_file() {
    let (_directory, config) = house(UsernameForm::Either);
    let (long_name, long_password) = ("u".repeat(256), "p".repeat(1025));
    for (name, password, part) in [
        ("a:b", "password", "no colon"),
        ("a b", "password", "white space"),
        ("#a", "password", "no #"),
        ("a\nb", "password", "control characters"),
        ("", "password", "form user"),
        (&long_name, "password", "255 octets"),
        ("ann", "", "password is empty"),
        ("ann", "pass\tword", "control characters"),
        ("ann", &long_password, "1024 octets"),
        ("ann", &"\u{FDFA}".repeat(40), "1024 octets"), // 120 as they are typed, 1320 as they are compared
    ] {
        let error = put(&config, name, password).expect_err(part);
        assert!(error.contains(part), "{name:?}: {error}");
    }
    assert!(!config.users_file.exists());
    for error in [remove(&config, "ann").expect_err("missing"), list(&config).expect_err("missing")] {
        assert!(error.contains("does not exist") && error.contains("penstock user add"), "{error}");
    }
}

#[test]
fn a_file_with_a_mistake_is_not_touched() {
    let (_directory, config) = house(UsernameForm::Either);
    fs::write(&config.users_file, "# users\nann:secret\n").expect("written");
    for error in [put(&config, "bob", "p").expect_err("mistake"), remove(&config, "ann").expect_err("mistake")] {
        assert!(error.contains("/users, line 2: user \"ann\""), "{error}");
    }
    assert_eq!(text(&config), "# users\nann:secret\n");
    fs::write(&config.users_file, "").expect("written");
    let error = remove(&config, "ann").expect_err("nobody");
    assert!(error.contains("has no user \"ann\""), "{error}");
}

#[test]
fn the_directory_must_be_there() {
    let (directory, mut config) = house(UsernameForm::Either);
    config.users_file = directory.path().join("missing/users");
    let error = put(&config, "ann", "password").expect_err("no directory");
    assert!(error.contains("/missing does not exist: make it first"), "{error}");
}

#[test]
fn a_group_that_may_read_still_may_and_others_never() {
    let (_directory, config) = house(UsernameForm::Either);
    for (before, after) in [(0o644, 0o640), (0o640, 0o640), (0o600, 0o600), (0o664, 0o660)] {
        put(&config, "ann", "password").expect("added");
        fs::set_permissions(&config.users_file, Permissions::from_mode(before)).expect("mode");
        put(&config, "ann", "password").expect("changed");
        assert_eq!(mode(&config), after, "{before:o}");
    }
    // Only root can give a file away, so only root can see that it stays given.
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&config.users_file, Some(65534), Some(65533)).expect("given away");
        put(&config, "bob", "password").expect("added");
        let metadata = fs::metadata(&config.users_file).expect("metadata");
        assert_eq!((metadata.uid(), metadata.gid(), mode(&config)), (65534, 65533, 0o660));
    }
}

#[test]
fn a_symbolic_link_stays_one_and_what_a_crash_left_is_swept() {
    let (directory, mut config) = house(UsernameForm::Either);
    put(&config, "ann", "password").expect("added");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&config.users_file, &link).expect("linked");
    fs::write(directory.path().join(".users.new"), "half a li").expect("written");
    let real = std::mem::replace(&mut config.users_file, link.clone());
    put(&config, "bob", "password").expect("added");
    assert!(fs::symlink_metadata(&link).expect("link").is_symlink());
    assert!(fs::read_to_string(real).expect("read").contains("\nbob:"));
    assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 2);
}

#[test]
fn what_is_left_of_a_file_without_users_is_not_empty() {
    let (_directory, config) = house(UsernameForm::Either);
    put(&config, "ann", "password").expect("added");
    let line = text(&config).lines().last().expect("ann").to_owned();
    fs::write(&config.users_file, line).expect("written");
    remove(&config, "ann").expect("removed");
    // A running server takes an empty file for one that is being written, and would let ann in.
    assert_eq!(text(&config), "# no users\n");
}

#[test]
fn runs_at_once_lose_nobody() {
    let (_directory, config) = house(UsernameForm::Either);
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for runner in 0..8 {
            let (config, start) = (&config, &start);
            scope.spawn(move || {
                start.wait();
                put(config, &format!("user{runner}"), "password").expect("added");
            });
        }
    });
    let mut names = names(&config).expect("list");
    names.sort();
    assert_eq!(names, (0..8).map(|runner| format!("user{runner}")).collect::<Vec<_>>());
}

#[test]
fn one_line_of_standard_input() {
    for (input, line) in [
        (&b"password\n"[..], Ok("password")),
        (b"password\r\nmore\n", Ok("password")),
        (b"password", Ok("password")),
        (b" pass word \n", Ok(" pass word ")),
        (b"", Ok("")),
        (b"\n", Ok("")),
        (b"\xff\n", Err("the password is not UTF-8")),
    ] {
        let mut rest = input;
        let read = read_line(&mut rest);
        assert_eq!(read.as_ref().map(|line| line.as_str()).map_err(String::as_str), line, "{input:?}");
    }
    let endless = read_line(&mut std::io::repeat(b'p')).expect("bounded");
    assert!(checked(&endless).is_err(), "too long, not cut");
}

/// Nobody could tell which of two lines the password is.
#[test]
fn a_second_line_of_standard_input_is_refused() {
    for (input, refused) in [("password\n", false), ("password\r\n\n", false), ("one\ntwo\n", true), ("one\n\nx", true)]
    {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let mut reader = File::from(std::os::fd::OwnedFd::from(reader));
        writer.write_all(input.as_bytes()).expect("written");
        read_line(&mut reader).expect("a line");
        let rest = nothing_follows(&mut reader);
        assert_eq!(rest.is_err(), refused, "{input:?}, and the pipe stays open: {rest:?}");
        drop(writer);
    }
}

#[test]
fn a_terminal_shows_nothing_while_a_password_is_typed() {
    let terminal = nix::pty::openpty(None, None).expect("pty");
    let (mut typist, slave) = (File::from(terminal.master), File::from(terminal.slave));
    let echoes = || tcgetattr(&slave).expect("settings").local_flags.contains(LocalFlags::ECHO);
    assert!(echoes());
    let mut input = slave.try_clone().expect("clone");
    let asked = thread::spawn(move || prompt(&mut input, ""));
    while echoes() {
        assert!(!asked.is_finished(), "asked without turning the echo off");
        thread::yield_now();
    }
    typist.write_all(b"hunter42\n").expect("typed");
    assert_eq!(asked.join().expect("joined").expect("a line").as_str(), "hunter42");
    assert!(echoes(), "as before");
    typist.write_all(b"seen\n").expect("typed");
    let mut shown = [0; 64];
    let octets = typist.read(&mut shown).expect("shown");
    assert!(shown[..octets].starts_with(b"seen"), "{}", shown[..octets].escape_ascii());
}

#[test]
fn passwords_are_kept_as_clients_send_them() {
    let (_directory, config) = house(UsernameForm::Either);
    put(&config, "ann", "\u{2168} cl\u{E9}s \u{1F511}").expect("added");
    assert!(has_password(&config, "ann", "IX cl\u{E9}s \u{1F511}"), "prepared like what PLAIN carries");
    let line = text(&config).lines().last().expect("a line").to_owned();
    assert_eq!(Hash::parse(line.split_once(':').expect("colon").1).expect("hash").cost(), CHEAP);
}

#[test]
fn a_short_password_is_warned_of_whatever_its_letters() {
    assert!(weakness("x").is_some_and(|warning| warning.contains("has 1 of the 8")));
    assert!(weakness("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}").is_some(), "seven characters, fourteen octets");
    assert_eq!(weakness("eight ch"), None);
}
