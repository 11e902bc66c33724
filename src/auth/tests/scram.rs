//! Keys for SCRAM: who has them, and who looks as if.

use super::*;

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
