//! No password stays in memory behind the exchange that brought it: what a core dump would show is searched for it.
//!
//! The client sends octet by octet, which is how most copies come to be: each time a buffer grows, the old one is freed as
//! it was. The password is kept here with each octet changed, so that this test is not what it finds.

use penstock::policy::{Role, TlsMode};
use penstock::sasl::Mechanisms;
use penstock::smtp::session::{Action, Answer, Rules, Session};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

/// What each octet is changed by.
const MASK: u8 = 0x2a;
/// Octets of a password of which none may be found together. What is freed loses its first sixteen to the allocator.
const WINDOW: usize = 16;
/// Octets of memory that are searched at once.
const BLOCK: usize = 1 << 20;

/// Base64 that is in no other program, changed: as an exchange carries it.
fn masked(line: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 63] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+";
    let mut state = 0x9e37_79b9_u32.wrapping_add(line as u32);
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 7) as usize % below
    };
    // Each four stand for a C, a letter and a printable character.
    let four = |_| [b'Q', b"23"[random(2)], b"FJ"[random(2)], ALPHABET[random(63)]];
    // What PLAIN has before a password: NUL user NUL.
    b"AHVzZXIA".iter().copied().chain((0..60).flat_map(four)).map(|octet| octet ^ MASK).collect()
}

/// Is a piece of `masked`, unchanged, in memory that this process may write?
fn is_found(masked: &[u8]) -> bool {
    let maps = fs::read_to_string("/proc/self/maps").expect("what is mapped");
    let mut memory = File::open("/proc/self/mem").expect("own memory");
    let mut block = vec![0; BLOCK];
    let needles: Vec<&[u8]> = masked[8..].windows(WINDOW).step_by(WINDOW / 2).collect();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let [mut at, end] = [start, end].map(|text| u64::from_str_radix(text, 16).expect("an address"));
        while at < end {
            let length = BLOCK.min((end - at) as usize);
            block.iter_mut().for_each(|octet| *octet = 0);
            if memory.seek(SeekFrom::Start(at)).is_err() || memory.read_exact(&mut block[..length]).is_err() {
                break;
            }
            let first = |needle: &&[u8]| {
                memchr::memmem::find_iter(&block[..length], &[needle[0] ^ MASK, needle[1] ^ MASK])
                    .any(|at| block[at..].iter().map(|octet| octet ^ MASK).take(WINDOW).eq(needle.iter().copied()))
            };
            if needles.iter().any(first) {
                return true;
            }
            at += length as u64;
        }
    }
    false
}

/// Logs in with the exchange that `before` begins, the secret line octet by octet; what the driver does is done.
fn log_in(before: &[u8], masked: &[u8]) {
    let rules =
        Rules { role: Role::Smtp, tls: TlsMode::Implicit, mechanisms: Mechanisms::PASSWORD, ..Rules::new("mx") };
    let mut out = Vec::new();
    let mut session = Session::new(Arc::new(rules), false, true, &mut out);
    session.step(b"EHLO x\r\n", &mut out);
    session.step(before, &mut out);
    for octet in masked {
        assert_eq!(session.step(&[octet ^ MASK], &mut out), (1, Action::NeedInput));
    }
    session.step(b"\r", &mut out);
    match session.step(b"\n", &mut out).1 {
        Action::Ask(question) => drop(question),
        other => panic!("{other:?}: {}", out.escape_ascii()),
    }
    session.answered(Answer::Rejected, &mut out);
}

// covers: 10.13
#[test]
fn nothing_of_a_password_is_left_behind() {
    let there = masked(7);
    let plain: Vec<u8> = there.iter().map(|octet| octet ^ MASK).collect();
    assert!(is_found(&there), "the search finds what is there");
    drop(plain);
    for (line, before) in [(1, &b"AUTH PLAIN "[..]), (2, b"AUTH PLAIN\r\n"), (3, b"AUTH LOGIN YW5u\r\n")] {
        let masked = masked(line);
        let masked = if line == 3 { &masked[8..] } else { &masked[..] };
        assert!(!is_found(masked), "nobody has sent it yet");
        log_in(before, masked);
        assert!(!is_found(masked), "{} leaves a copy of its line", before.escape_ascii());
    }
}
