//! Claim: commands are parsed, with their addresses checked, in a fraction of the time that owned strings take; all
//! parameters of MAIL and RCPT together, a date and two decoded texts among them, cost a few microseconds.

#[path = "support/naive_command.rs"]
mod naive;
mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use naive::Summary;
use penstock::smtp::command::{Body, Command, Rcpt};
use penstock::smtp::path::{ForwardPath, ReversePath};
use std::hint::black_box;

/// The commands of a submission, as mail programs send them.
const LINES: [&[u8]; 12] = [
    b"EHLO [192.0.2.17]",
    b"STARTTLS",
    b"EHLO laptop-anna.campus.example.edu",
    b"AUTH PLAIN AGFubmEuc3R1ZGVudEBleGFtcGxlLmVkdQBjb3JyZWN0IGhvcnNlIGJhdHRlcnkgc3RhcGxl",
    b"MAIL FROM:<anna.student@example.edu> SIZE=48213 BODY=8BITMIME",
    b"RCPT TO:<ben.tutor@lab.example.edu>",
    b"RCPT TO:<admissions+2026@example.org>",
    b"DATA",
    b"mail from:<anna.student@example.edu> size=1200 smtputf8",
    b"rcpt to:<cleo@example.net>",
    b"RSET",
    b"QUIT",
];

fn summary(line: &[u8]) -> Option<Summary> {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let verb = text(line.split(|&octet| octet == b' ').next()?).to_uppercase();
    let mut summary = Summary { verb, ..Summary::default() };
    match Command::parse(line).ok()? {
        Command::Ehlo(name) | Command::Helo(name) => summary.argument = text(name),
        Command::Auth(mechanism, initial) => {
            summary.argument = text(mechanism);
            summary.initial = initial.map(text);
        }
        Command::Mail(mail) => {
            if let ReversePath::Mailbox(mailbox) = mail.reverse_path {
                summary.argument = text(mailbox.as_bytes());
            }
            summary.size = mail.size;
            summary.eight_bit = mail.body == Body::EightBitMime;
            summary.smtputf8 = mail.smtputf8;
        }
        Command::Rcpt(Rcpt { path: ForwardPath::Mailbox(mailbox), .. }) => summary.argument = text(mailbox.as_bytes()),
        _ => {}
    }
    Some(summary)
}

/// Everything that MAIL and RCPT can carry, and the same without it.
const PLAIN: [&[u8]; 2] = [b"MAIL FROM:<anna.student@example.edu>", b"RCPT TO:<ben.tutor@lab.example.edu>"];
const LOADED: [&[u8]; 2] = [
    b"MAIL FROM:<anna.student@example.edu> SIZE=48213 BODY=8BITMIME SMTPUTF8 REQUIRETLS AUTH=anna.student@example.edu \
      RET=HDRS ENVID=QQ314159+2B26 HOLDUNTIL=2026-11-22T06:30:00Z",
    b"RCPT TO:<ben.tutor@lab.example.edu> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;ben+2Btutor@example.edu",
];

fn bench(criterion: &mut Criterion) {
    for line in LINES {
        assert!(naive::parse(line).is_some(), "{}", line.escape_ascii());
        assert_eq!(naive::parse(line), summary(line), "{}", line.escape_ascii());
    }
    let mut group = criterion.benchmark_group("command");
    group.throughput(Throughput::Bytes(LINES.iter().map(|line| line.len() as u64 + 2).sum()));
    group.bench_function("naive", |b| b.iter(|| black_box(&LINES).map(|line| naive::parse(line).is_some())));
    group.bench_function("parser", |b| b.iter(|| black_box(&LINES).map(|line| Command::parse(line).is_ok())));
    group.finish();

    for line in PLAIN.into_iter().chain(LOADED) {
        assert!(Command::parse(line).is_ok(), "{}", line.escape_ascii());
    }
    let mut group = criterion.benchmark_group("command_parameters");
    group.bench_function("none", |b| b.iter(|| black_box(&PLAIN).map(|line| Command::parse(line).is_ok())));
    group.bench_function("all", |b| b.iter(|| black_box(&LOADED).map(|line| Command::parse(line).is_ok())));
    group.finish();
}

criterion_group! { name = benches; config = support::settings(); targets = bench }
criterion_main!(benches);
