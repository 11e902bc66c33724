//! The authenticator with a real users file, real threads and cheap hashes.

use super::*;
use crate::policy::UsernameForm;
use crate::sasl::{ClientExchange, Exchange, Mechanism, Step, Terms};
use hash::Cost;
use std::fs;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use tempfile::TempDir;

mod brakes;
mod scram;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
const REJECTED: Verdict = Verdict::Rejected(Duration::ZERO);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for `future` on this thread.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// A users file in a directory of its own.
struct House {
    directory: TempDir,
    config: config::Auth,
}

impl House {
    fn new(users: &[(&str, &str)]) -> House {
        let directory = tempfile::tempdir().expect("directory");
        fs::create_dir(directory.path().join("etc")).expect("made");
        let config = config::Auth {
            users_file: directory.path().join("etc/users"),
            username_form: UsernameForm::Either,
            domain: Some("home.example".into()),
            verifiers: 2,
            verifier_queue: 16,
            cache_s: 300,
            scram: false,
            scram_iterations: 4096,
            brake_account_failures: 20,
            brake_address_failures: 100,
            brake_window_s: 900,
            brake_exempt_networks: Networks::default(),
            failure_delay_ms: 0,
        };
        let house = House { directory, config };
        house.write(users);
        house
    }

    fn path(&self) -> PathBuf {
        self.config.users_file.clone()
    }

    /// Writes another file elsewhere and renames it over the old one: of this the directory sees one event.
    fn write(&self, users: &[(&str, &str)]) {
        let cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let line = |(user, password): &(&str, &str)| {
            format!("{user}:{}\n", hash::create(password.as_bytes(), cost).expect("hash"))
        };
        self.write_text(&users.iter().map(line).collect::<String>());
    }

    fn write_text(&self, text: &str) {
        let new = self.directory.path().join("users.new");
        fs::write(&new, text).expect("written");
        fs::rename(new, self.path()).expect("renamed");
    }

    fn start(&self) -> Arc<Authenticator> {
        Authenticator::start(&self.config).expect("start")
    }
}

fn credentials(user: &str, password: &str) -> Credentials {
    Credentials { mechanism: Mechanism::Plain, user: user.into(), password: password.into() }
}

fn check(authenticator: &Authenticator, user: &str, password: &str) -> Verdict {
    block_on(authenticator.check(credentials(user, password), HERE))
}

fn accepted(user: &str) -> Verdict {
    Verdict::Accepted(user.into())
}

/// Waits until `true_now`, for less than the ten seconds after which the watcher looks without any event.
fn eventually(what: &str, mut true_now: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(8);
    while !true_now() {
        assert!(Instant::now() < deadline, "not within eight seconds: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn right_and_wrong_passwords_in_every_spelling_of_the_name() {
    let house = House::new(&[("ann", "one"), ("bob@other.example", "two")]);
    let authenticator = house.start();
    for (user, password, verdict) in [
        ("ann", "one", accepted("ann")),
        ("ANN@Home.example", "one", accepted("ann")),
        ("ann", "two", REJECTED),
        ("ann@other.example", "one", REJECTED),
        ("bob@OTHER.example", "two", accepted("bob@other.example")),
        ("bob", "two", REJECTED),
        ("nobody", "one", REJECTED),
        ("a:b", "one", REJECTED),
    ] {
        assert_eq!(check(&authenticator, user, password), verdict, "{user}");
    }
}

#[test]
fn the_second_login_costs_no_hash_and_neither_does_the_second_wrong_one() {
    let house = House::new(&[("ann", "one")]);
    let authenticator = house.start();
    for (user, password, verdict, hashes) in [
        ("ann", "one", accepted("ann"), 1),
        ("ann", "one", accepted("ann"), 1),
        ("Ann@home.example", "one", accepted("ann"), 1),
        ("ann", "wrong", REJECTED, 2),
        ("ann", "wrong", REJECTED, 2),
        ("ann", "one", accepted("ann"), 2),
    ] {
        assert_eq!(check(&authenticator, user, password), verdict);
        assert_eq!(authenticator.hashes(), hashes, "{user} {password}");
    }
    let mut login = credentials("ann", "one");
    login.mechanism = Mechanism::Login;
    assert_eq!(block_on(authenticator.check(login, HERE)), accepted("ann"));
    assert_eq!(authenticator.hashes(), 3, "another mechanism is another verdict");
}

#[test]
fn an_unknown_user_costs_one_hash_of_the_usual_cost_like_a_known_one() {
    let method: Method = |check, memory| {
        let cost = check.users.hash(&check.account).cost();
        assert_eq!(cost, Cost { memory_kib: 8, passes: 1, lanes: 1 });
        verifier::hash(check, memory)
    };
    let house = House::new(&[("ann", "one")]);
    let authenticator = Authenticator::start_with(&house.config, method).expect("start");
    assert_eq!(check(&authenticator, "ann", "wrong"), REJECTED);
    assert_eq!(authenticator.hashes(), 1);
    assert_eq!(check(&authenticator, "nobody", "wrong"), REJECTED);
    assert_eq!(authenticator.hashes(), 2);
    // From the cache both cost none.
    assert_eq!(check(&authenticator, "ann", "wrong"), REJECTED);
    assert_eq!(check(&authenticator, "nobody", "wrong"), REJECTED);
    assert_eq!(authenticator.hashes(), 2);
}

#[test]
fn a_new_file_is_noticed_by_itself_and_ends_what_the_cache_knew() {
    let house = House::new(&[("ann", "one"), ("bob", "two")]);
    let authenticator = house.start();
    assert_eq!(check(&authenticator, "ann", "one"), accepted("ann"));
    assert_eq!(check(&authenticator, "bob", "two"), accepted("bob"));
    house.write(&[("ann", "changed")]);
    eventually("the new file is taken", || authenticator.file.current().generation() == 2);
    assert_eq!(check(&authenticator, "ann", "one"), REJECTED);
    assert_eq!(check(&authenticator, "bob", "two"), REJECTED);
    assert_eq!(check(&authenticator, "ann", "changed"), accepted("ann"));
    // Written in place, not renamed: noticed when the writer closes it.
    let text = fs::read_to_string(house.path()).expect("read");
    fs::write(house.path(), text.replace("ann", "eve")).expect("written");
    eventually("the file written in place is taken", || check(&authenticator, "eve", "changed") == accepted("eve"));
}

#[test]
fn a_broken_or_missing_file_keeps_the_old_users() {
    let house = House::new(&[("ann", "one")]);
    let authenticator = house.start();
    house.write_text("ann:$2b$12$abcdefghijklmnopqrstuu\n");
    authenticator.reload();
    assert_eq!(check(&authenticator, "ann", "one"), accepted("ann"));
    fs::remove_file(house.path()).expect("removed");
    authenticator.reload();
    assert_eq!(check(&authenticator, "ann", "one"), accepted("ann"));
    // As many editors empty a file before they write it.
    house.write_text("");
    authenticator.reload();
    assert_eq!(check(&authenticator, "ann", "one"), accepted("ann"));
    assert_eq!(authenticator.file.current().generation(), 1);
    house.write(&[("ann", "two")]);
    authenticator.reload();
    assert_eq!(check(&authenticator, "ann", "two"), accepted("ann"));
    // Where there was nobody, an empty file is as good as one with a comment.
    for (text, generation) in [("# no users\n", 3), ("", 4)] {
        house.write_text(text);
        authenticator.reload();
        let users = authenticator.file.current();
        assert_eq!((users.generation(), users.count()), (generation, 0));
    }
}

#[test]
fn a_file_that_stays_as_it_is_is_not_read_again() {
    let house = House::new(&[("ann", "one")]);
    let file = UsersFile::open(&house.config).expect("opened");
    for generation in [1, 2] {
        file.reload_if_changed();
        file.reload_if_changed();
        assert_eq!(file.current().generation(), generation);
        house.write(&[("ann", "two")]);
    }
}

#[test]
fn the_directory_may_go_and_come_back() {
    let house = House::new(&[("ann", "one")]);
    let (etc, away) = (house.directory.path().join("etc"), house.directory.path().join("away"));
    let authenticator = house.start();
    fs::rename(&etc, &away).expect("moved");
    fs::create_dir(&etc).expect("made");
    house.write(&[("ann", "two")]);
    eventually("the new directory's file is taken", || check(&authenticator, "ann", "two") == accepted("ann"));
    house.write(&[("ann", "three")]);
    eventually("and is watched again", || check(&authenticator, "ann", "three") == accepted("ann"));
}

#[test]
fn a_check_under_way_is_answered_by_the_snapshot_it_started_with() {
    static STARTED: std::sync::Barrier = std::sync::Barrier::new(2);
    static GO_ON: std::sync::Barrier = std::sync::Barrier::new(2);
    let method: Method = |check, memory| {
        if check.users.generation() == 1 {
            STARTED.wait();
            GO_ON.wait();
        }
        verifier::hash(check, memory)
    };
    let house = House::new(&[("ann", "one")]);
    let authenticator = Authenticator::start_with(&house.config, method).expect("start");
    thread::scope(|scope| {
        let old = scope.spawn(|| check(&authenticator, "ann", "one"));
        STARTED.wait();
        house.write(&[("ann", "two")]);
        authenticator.reload();
        GO_ON.wait();
        assert_eq!(old.join().expect("joined"), accepted("ann"));
    });
    assert_eq!(check(&authenticator, "ann", "one"), REJECTED, "its verdict does not outlive its generation");
}

#[test]
fn a_full_queue_and_a_stopped_authenticator_are_unavailable() {
    let house = House::new(&[("ann", "one")]);
    let mut config = house.config.clone();
    config.verifier_queue = 0;
    let authenticator = Authenticator::start(&config).expect("start");
    assert_eq!(check(&authenticator, "ann", "one"), Verdict::Unavailable);
    assert_eq!(authenticator.hashes(), 0);
    let authenticator = house.start();
    assert_eq!(check(&authenticator, "ann", "one"), accepted("ann"));
    authenticator.stop();
    assert_eq!(check(&authenticator, "ann", "two"), Verdict::Unavailable);
    authenticator.stop();
}

#[test]
fn a_core_on_monoio_is_woken_by_the_answer() {
    let house = House::new(&[("ann", "one")]);
    let authenticator = house.start();
    let mut runtime = monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().build().expect("runtime");
    assert_eq!(runtime.block_on(authenticator.check(credentials("ann", "one"), HERE)), accepted("ann"));
    assert_eq!(runtime.block_on(authenticator.check(credentials("ann", "two"), HERE)), REJECTED);
}

#[test]
fn what_cannot_start_says_why_and_what_to_do() {
    let house = House::new(&[]);
    let error_with = |change: fn(&mut config::Auth)| {
        let mut config = house.config.clone();
        change(&mut config);
        Authenticator::start(&config).err().expect("an error")
    };
    let missing = error_with(|config| config.users_file.set_file_name("missing"));
    assert!(missing.contains("/missing does not exist") && missing.contains("penstock user add"), "{missing}");
    let no_directory = error_with(|config| config.users_file = "/nonexistent/penstock/users".into());
    assert!(no_directory.contains("/nonexistent/penstock/users does not exist"), "{no_directory}");
    let directory = error_with(|config| config.users_file = "/tmp".into());
    assert!(directory.contains("not a plain file"), "{directory}");
    house.write_text("# users\nann\n");
    let broken = error_with(|_| {});
    assert!(broken.contains("/users, line 2: expected name:hash"), "{broken}");
}

/// Salts that change tell who exists, so a secret that is gone is told, and never made anew while it is in use.
// covers: 10.10
#[test]
fn a_secret_that_went_is_told_and_one_that_was_put_there_is_taken() {
    let mut house = House::new(&[("ann", "one")]);
    house.config.scram = true;
    let authenticator = house.start();
    let salt = || authenticator.scram_keys("nobody", HERE).expect("keys").0.salt.clone();
    let (secret, file) = (house.directory.path().join("etc/users.scram-secret"), &authenticator.file);
    let (first, text) = (salt(), fs::read_to_string(&secret).expect("made"));
    assert_eq!(file.reload_secret(), Ok(false), "it is the same");

    fs::remove_file(&secret).expect("removed");
    let error = file.reload_secret().expect_err("it is gone");
    assert!(error.contains("users.scram-secret is gone; put it back"), "{error}");
    fs::write(&secret, "half of it").expect("written");
    let error = file.reload_secret().expect_err("it is none");
    assert!(error.contains("is not 64 hexadecimal digits; "), "{error}");
    fs::remove_file(&secret).expect("removed");
    authenticator.reload();
    assert!(salt() == first && !secret.exists(), "the old one stays, and no other is made");

    fs::write(&secret, &text).expect("put back");
    assert_eq!(file.reload_secret(), Ok(false));
    fs::write(&secret, "a".repeat(64)).expect("another machine's");
    authenticator.reload();
    assert_ne!(salt(), first);
    assert_eq!(file.reload_secret(), Ok(false), "taken already");
}
