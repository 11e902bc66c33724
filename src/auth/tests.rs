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

/// The line of a user whose SCRAM keys are those of `password`.
fn scram_line(user: &str, password: &str) -> String {
    scram_line_of(user, password, 8192)
}

fn scram_line_of(user: &str, password: &str, iterations: u32) -> String {
    let cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
    let hash = hash::create(password.as_bytes(), cost).expect("hash");
    format!("{user}:{hash}:{}\n", *Keys::derive(password, b"0123456789abcdef", iterations).print())
}

/// After `scram_iterations` was changed: nobody stands out by his count, nor by one that changes.
// covers: 10.1 10.10
#[test]
fn who_does_not_exist_has_one_of_the_counts_in_use() {
    let mut house = House::new(&[]);
    house.config.scram = true;
    house.write_text(&(scram_line_of("ann", "one", 4096) + &scram_line_of("ben", "two", 8192)));
    let authenticator = house.start();
    let count = |user: &str| authenticator.scram_keys(user, HERE).expect("keys").0.iterations;
    let strangers: Vec<String> = (0..200).map(|number| format!("nobody-{number}")).collect();
    let counts: Vec<u32> = strangers.iter().map(|user| count(user)).collect();
    let low = counts.iter().filter(|count| **count == 4096).count();
    assert!(counts.iter().all(|count| [4096, 8192].contains(count)), "{counts:?}");
    assert!((50..150).contains(&low), "about as often as they are in use: {low} of 200");
    assert_eq!(strangers.iter().map(|user| count(user)).collect::<Vec<_>>(), counts, "the same each time");
}

#[test]
fn salts_of_who_does_not_exist_are_as_long_as_those_in_use() {
    let mut house = House::new(&[]);
    house.config.scram = true;
    let line = scram_line("ann", "one");
    let foreign = |salt: &str| line.replace(&STANDARD.encode(b"0123456789abcdef"), &STANDARD.encode(salt));
    for salt in ["12345678".to_string(), "s".repeat(64)] {
        let text = foreign(&salt);
        assert_ne!(text, line);
        house.write_text(&text);
        let authenticator = house.start();
        let salt_of = |user: &str| authenticator.scram_keys(user, HERE).expect("keys").0.salt.clone();
        assert_eq!(&salt_of("ann")[..], salt.as_bytes());
        assert_eq!(salt_of("nobody").len(), salt.len());
        assert!(salt_of("nobody") == salt_of("nobody") && salt_of("nobody") != salt_of("somebody"));
    }
}

// covers: 10.1 10.10
#[test]
fn who_does_not_exist_and_who_has_no_keys_look_like_who_has() {
    let mut house = House::new(&[("bob", "two")]);
    house.config.scram = true;
    let bob = fs::read_to_string(house.path()).expect("read");
    house.write_text(&(scram_line("ann", "one") + &bob));
    let authenticator = house.start();
    let keys = |user: &str| authenticator.scram_keys(user, HERE).expect("keys").0;
    let ann = keys("ann");
    assert_eq!(ann, Keys::derive("one", b"0123456789abcdef", 8192));
    assert_eq!(keys("Ann@home.example"), ann, "in every spelling of the name");
    for user in ["bob", "nobody", "a:b", "no@body@here"] {
        let made_up = keys(user);
        assert_eq!((made_up.iterations, made_up.salt.len()), (ann.iterations, ann.salt.len()), "{user}");
        assert_eq!(made_up, keys(user), "the same each time: {user}");
        assert_ne!(made_up.salt, keys("somebody").salt, "{user}");
    }
    assert_eq!(keys("Nobody@home.example"), keys("nobody"), "in every spelling of that too");
    // The same after a restart, and on another machine with the same secret.
    let before = keys("nobody");
    assert_eq!(house.start().scram_keys("nobody", HERE).expect("keys").0, before);
    let nonces = [(); 2].map(|()| authenticator.scram_keys("ann", HERE).expect("keys").1);
    assert!(nonces[0] != nonces[1] && nonces[0].len() == 24 && !nonces[0].contains(','), "{nonces:?}");
}

/// Whoever wanted the keys: `auth.scram`, or somebody who said `penstock user add --scram` to each user.
// covers: 3.7
#[test]
fn scram_is_offered_while_every_user_has_keys() {
    for wanted in [false, true] {
        let mut house = House::new(&[("bob", "two")]);
        house.config.scram = wanted;
        let bob = fs::read_to_string(house.path()).expect("read");
        let secret = house.path().with_file_name("users.scram-secret");
        let authenticator = house.start();
        assert_eq!((authenticator.offers_scram(), secret.exists()), (false, wanted));
        let both = scram_line("ann", "one") + &scram_line("bob", "two");
        for (text, offers) in [
            (scram_line("ann", "one") + &bob, false),
            (both.clone(), true),
            (both.clone() + &format!("cleo:{}\n", bob.trim_end().split_once(':').expect("a hash").1), false),
            (both.clone(), true),
            ("# nobody\n".into(), false),
            (both, true),
        ] {
            house.write_text(&text);
            authenticator.reload();
            assert_eq!(authenticator.offers_scram(), offers, "wanted {wanted}: {text}");
        }
        assert!(secret.exists(), "made when it is first needed");
        let keys = |authenticator: &Authenticator, user: &str| authenticator.scram_keys(user, HERE).expect("keys").0;
        assert_eq!(keys(&authenticator, "ann"), Keys::derive("one", b"0123456789abcdef", 8192));
        let nobody = keys(&authenticator, "nobody");
        let again = house.start();
        assert!(again.offers_scram(), "from the start");
        assert_eq!(keys(&again, "nobody"), nobody, "the same secret");
    }
}

/// Keys that nobody asked [auth] for do not keep a server from starting, and it catches up when the secret is mended.
#[test]
fn without_its_secret_scram_is_not_offered() {
    let house = House::new(&[]);
    house.write_text(&scram_line("ann", "one"));
    let secret = house.path().with_file_name("users.scram-secret");
    fs::write(&secret, "none\n").expect("written");
    let authenticator = house.start();
    assert!(!authenticator.offers_scram());
    assert_eq!(authenticator.scram_keys("ann", HERE), Err(Verdict::Unavailable));
    fs::remove_file(&secret).expect("removed");
    authenticator.reload();
    assert!(authenticator.offers_scram() && secret.exists());
}

#[test]
fn proofs_are_judged_like_passwords() {
    let mut house = House::new(&[]);
    house.config.scram = true;
    house.config.brake_account_failures = 2;
    house.write_text(&scram_line("ann", "one"));
    let authenticator = house.start();
    let keys = Box::new(Keys::derive("one", b"0123456789abcdef", 8192));
    let proof =
        |user: &str, right| Proof { mechanism: Mechanism::ScramSha256, user: user.into(), keys: keys.clone(), right };
    assert_eq!(authenticator.proved(&proof("ANN", true), HERE), accepted("ann"));
    assert_eq!(authenticator.proved(&proof("nobody", true), HERE), REJECTED, "nobody can have proved that");
    assert_eq!(authenticator.proved(&proof("a:b", true), HERE), REJECTED);
    assert_eq!(authenticator.proved(&proof("ann", false), HERE), REJECTED);
    assert_eq!(authenticator.proved(&proof("ann", false), HERE), REJECTED);
    let braked = Verdict::Braked(Duration::ZERO);
    assert_eq!(authenticator.proved(&proof("ann", true), HERE), braked, "not told any more");
    assert_eq!(authenticator.scram_keys("ann", HERE), Err(braked.clone()));
    assert_eq!(check(&authenticator, "ann", "one"), braked, "the same brake for all mechanisms");
    assert!(authenticator.scram_keys("ann", THERE).is_ok());
    let nobody = House::new(&[("ann", "one")]);
    assert_eq!(nobody.start().scram_keys("ann", HERE), Err(Verdict::Unavailable), "nobody has keys");
}

/// Else the old password would be good once more, for as long as a client takes for its answer.
// covers: 10.1
#[test]
fn a_proof_by_keys_that_were_replaced_meanwhile_is_none() {
    let mut house = House::new(&[]);
    house.config.scram = true;
    let ann = scram_line("ann", "one");
    for (written, verdict) in [
        (ann.clone(), accepted("ann")),
        (ann.clone() + &scram_line("ben", "two"), accepted("ann")),
        (scram_line("ann", "two"), REJECTED),
        // Set anew to the same: the keys are others, and the client tries again.
        (scram_line_of("ann", "one", 4096), REJECTED),
        (scram_line("ben", "two"), REJECTED),
    ] {
        house.write_text(&ann);
        let authenticator = house.start();
        let nonce = "rOprNGfwEbeRWgbNEkqO";
        let terms = Terms { user: "ann", password: "one", nonce, binding: None };
        let (mut client, initial) = ClientExchange::start(Mechanism::ScramSha256, &terms);
        let initial = initial.expect("fits");
        let (mut server, step) = Exchange::start(Mechanism::ScramSha256, Some(initial.as_bytes()), None);
        assert_eq!(step, Step::NeedKeys("ann".into()));
        let (keys, nonce) = authenticator.scram_keys("ann", HERE).expect("keys");
        let Step::Challenge(challenge) = server.keys(keys, &nonce) else { panic!("no challenge") };
        house.write_text(&written);
        authenticator.reload();
        let answer = client.respond(challenge.as_bytes()).expect("an answer");
        let Step::Proof(proof) = server.respond(answer.as_bytes()) else { panic!("no proof") };
        assert!(proof.right);
        assert_eq!(authenticator.proved(&proof, HERE), verdict, "{written}");
    }
}

// covers: 10.12
#[test]
fn a_guesser_is_braked_and_costs_no_hash_and_the_user_elsewhere_logs_in() {
    let mut house = House::new(&[("ann", "one"), ("bob", "two")]);
    house.config.brake_account_failures = 3;
    house.config.brake_exempt_networks.add("198.51.100.0/24").expect("a network");
    let authenticator = house.start();
    let braked = Verdict::Braked(Duration::ZERO);
    for guess in ["a", "b", "c"] {
        assert_eq!(check(&authenticator, "ann", guess), REJECTED);
    }
    assert_eq!(authenticator.hashes(), 3);
    for guess in ["d", "one"] {
        assert_eq!(check(&authenticator, "ann", guess), braked, "whether right or wrong");
    }
    assert_eq!(authenticator.hashes(), 3, "nothing was checked");
    assert_eq!(block_on(authenticator.check(credentials("ann", "one"), THERE)), accepted("ann"));
    assert_eq!(check(&authenticator, "ann", "one"), braked, "a verdict that is known is not told either");
    assert_eq!(check(&authenticator, "bob", "two"), accepted("bob"));
    // Behind the campus NAT nothing is counted.
    let campus = "198.51.100.7".parse().expect("an address");
    for guess in 0..10 {
        let credentials = credentials("ann", &guess.to_string());
        assert_eq!(block_on(authenticator.check(credentials, campus)), REJECTED);
    }
    assert_eq!(block_on(authenticator.check(credentials("ann", "one"), campus)), accepted("ann"));
}

// covers: 10.12
#[test]
fn a_new_password_ends_the_block_of_its_account() {
    let mut house = House::new(&[("ann", "one"), ("bob", "two")]);
    house.config.brake_account_failures = 2;
    let authenticator = house.start();
    for user in ["ann", "bob", "cleo"] {
        let verdicts = ["a", "b", "c"].map(|guess| check(&authenticator, user, guess));
        assert_eq!(verdicts, [REJECTED, REJECTED, Verdict::Braked(Duration::ZERO)]);
    }
    let bob = fs::read_to_string(house.path()).expect("read").lines().nth(1).expect("bob").to_owned();
    house.write(&[("ann", "one"), ("cleo", "three")]);
    house.write_text(&format!("{}{bob}\n", fs::read_to_string(house.path()).expect("read")));
    authenticator.reload();
    assert_eq!(check(&authenticator, "ann", "one"), accepted("ann"), "the same password, set anew");
    assert_eq!(check(&authenticator, "cleo", "three"), accepted("cleo"), "was not there before");
    assert_eq!(check(&authenticator, "bob", "two"), Verdict::Braked(Duration::ZERO), "his line is the same");
    assert_eq!(authenticator.fault("bob", Mechanism::Plain).name(), "wrong password");
    assert_eq!(authenticator.shown("sesame"), WITHHELD);
}

#[test]
fn the_same_wrong_password_again_is_not_counted() {
    let mut house = House::new(&[("ann", "one")]);
    house.config.brake_account_failures = 3;
    let authenticator = house.start();
    for _ in 0..20 {
        assert_eq!(check(&authenticator, "ann", "the old one"), REJECTED, "a telephone");
    }
    assert_eq!(check(&authenticator, "ann", "one"), accepted("ann"));
}

#[test]
fn refused_answers_are_held_back_for_longer_and_longer() {
    let mut house = House::new(&[("ann", "one")]);
    house.config.failure_delay_ms = 10;
    let authenticator = house.start();
    let delay = |guess: &str| match check(&authenticator, "ann", guess) {
        Verdict::Rejected(delay) => delay.as_millis(),
        other => panic!("{other:?}"),
    };
    assert_eq!(["a", "b", "c", "d", "e", "e"].map(delay), [10, 20, 40, 80, 80, 10]);
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
