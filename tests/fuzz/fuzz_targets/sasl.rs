//! Both sides of every exchange under any lines in any order, and the users file: no panic, bounded output, no success for
//! whoever does not know the password, and keys that print as they were read.
#![no_main]
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use penstock::auth::users::{Names, parse};
use penstock::policy::UsernameForm;
use penstock::sasl::{ClientExchange, Exchange, Keys, Mechanism, Mechanisms, Step, Terms};
use std::sync::{Arc, OnceLock};

static KEYS: OnceLock<Keys> = OnceLock::new();

fn server(mechanism: Mechanism, lines: &[Vec<u8>], initial: bool, binding: Option<Arc<[u8]>>) {
    let (first, rest) = match lines {
        [first, rest @ ..] if initial => (Some(&first[..]), rest),
        _ => (None, lines),
    };
    let (mut exchange, mut step) = Exchange::start(mechanism, first, binding);
    let mut rest = rest.iter();
    loop {
        step = match step {
            Step::Challenge(text) => {
                assert!(text.len() < 2000 && STANDARD.decode(&*text).is_ok());
                let Some(line) = rest.next() else { return };
                exchange.respond(line)
            }
            Step::NeedKeys(user) => {
                assert!((1..=255).contains(&user.len()) && mechanism.is_scram());
                let keys = KEYS.get_or_init(|| Keys::derive("pencil", b"0123456789abcdef", 4096));
                exchange.keys(keys.clone(), "SERVER-NONCE")
            }
            Step::Verify(credentials) => {
                assert!(!credentials.password.is_empty() && credentials.user.len() <= 255);
                return assert!(!mechanism.is_scram());
            }
            // Nobody here knows the password.
            Step::Proof(proof) => return assert!(!proof.right),
            Step::Authenticated(_) => unreachable!("nothing was proved"),
            Step::Cancelled | Step::Malformed | Step::Refused => {
                let mut later = rest.map(|line| exchange.respond(line));
                return assert!(later.all(|step| matches!(step, Step::Malformed | Step::Cancelled)));
            }
        }
    }
}

fn client(mechanism: Mechanism, lines: &[Vec<u8>], binding: Option<&[u8]>) {
    let terms = Terms { user: "user", password: "pencil", nonce: "rOprNGfwEbeRWgbNEkqO", binding };
    let (mut exchange, _) = ClientExchange::start(mechanism, &terms);
    // Up to 600,000 iterations are allowed, and would only slow this down.
    let is_count = |part: &[u8]| part.starts_with(b"i=") && part[2..].iter().all(u8::is_ascii_digit);
    for line in lines {
        let costly = STANDARD.decode(line).is_ok_and(|text| text.windows(7).any(is_count));
        if costly || exchange.respond(line).is_none_or(|answer| answer.len() > 4096) {
            return;
        }
    }
}

fn users_file(text: &[u8]) {
    let names = Names { form: UsernameForm::Either, domain: Some("example.edu".into()) };
    for entry in parse(text, &names).unwrap_or_default() {
        assert_eq!(names.account(&entry.name).as_ref(), Ok(&entry.name));
        if let Some(keys) = entry.scram {
            assert_eq!(Keys::parse(&keys.print()), Ok(keys));
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [flags, text @ ..] = input else { return };
    let flag = |bit: u8| flags & (1 << bit) != 0;
    if flag(7) {
        return users_file(text);
    }
    // Written plainly in the input, so that what is inside base64 is reached.
    let line = |line: &[u8]| if flag(6) { line.to_vec() } else { STANDARD.encode(line).into_bytes() };
    let lines: Vec<Vec<u8>> = text.split(|octet| *octet == b'\n').map(line).collect();
    let mechanism = Mechanisms::ALL.iter().nth(usize::from(flags & 3)).expect("four of them");
    let binding: Option<Arc<[u8]>> = flag(2).then(|| (0..32).collect());
    match flag(3) {
        true => client(mechanism, &lines, binding.as_deref()),
        false => server(mechanism, &lines, flag(4), binding),
    }
});
