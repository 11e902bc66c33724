//! Who guesses is braked.

use super::*;

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
