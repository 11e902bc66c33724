//! Claim: a whole session core, bytes in and replies out, costs little more than looking at the bytes.
//!
//! `submission`: EHLO, AUTH, one message of 4 KiB, QUIT, in the reads that a client's turns give. `pipelined`: twenty
//! such messages, envelopes pipelined, reads of 16 KiB. `attachment`: one message of 1 MiB base64. Inside TLS as the
//! session sees it: `secured`, passwords accepted, every message durable at once; content is appended to a buffer.

#[path = "support/naive_session.rs"]
mod naive;
mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use penstock::sasl::Mechanisms;
use penstock::smtp::Session;
use penstock::smtp::session::{Action, Answer, Question, QueueName, Rules};
use std::hint::black_box;
use std::sync::Arc;

const QUEUE_ID: &str = "01J9ZK3Q8V2WN";
const READ_BYTES: usize = 16 * 1024;
const HELLO: &[u8] = b"EHLO laptop-anna.campus.example.edu\r\n";
const LOGIN: &[u8] = b"AUTH PLAIN AGFubmEuc3R1ZGVudEBleGFtcGxlLmVkdQBjb3JyZWN0IGhvcnNlIGJhdHRlcnkgc3RhcGxl\r\n";
const ENVELOPE: &[u8] =
    b"MAIL FROM:<anna.student@example.edu> SIZE=4096\r\nRCPT TO:<ben.tutor@lab.example.edu>\r\nDATA\r\n";

fn rules() -> Arc<Rules> {
    Arc::new(Rules { mechanisms: Mechanisms::PASSWORD, ..Rules::new("mx.example.edu") })
}

/// What the driver of a session does, without the waiting. Returns octets of content.
fn by_session(rules: &Arc<Rules>, reads: &[Vec<u8>], content: &mut Vec<u8>, out: &mut Vec<u8>) -> u64 {
    let mut session = Session::new(rules.clone(), false, true, out);
    let mut content_bytes = 0;
    let user: Arc<str> = "anna.student@example.edu".into();
    for read in reads {
        let mut input = &read[..];
        loop {
            let (used, action) = session.step(input, out);
            input = &input[used..];
            let answer = match action {
                Action::NeedInput | Action::Close => break,
                Action::Flush => continue,
                Action::Body(piece) => {
                    content.extend_from_slice(piece);
                    continue;
                }
                Action::Begin => {
                    content.clear();
                    Answer::Begun(QueueName(*QUEUE_ID.as_bytes().first_chunk().expect("13 letters and digits")))
                }
                Action::Commit => {
                    content_bytes += content.len() as u64;
                    Answer::Committed
                }
                Action::Ask(Question::ScramKeys(_) | Question::Proof(_)) => unreachable!("not offered"),
                Action::Ask(Question::Password(credentials)) => {
                    assert_eq!(credentials.user, &*user);
                    Answer::Accepted(user.clone())
                }
                Action::Recipient => Answer::Granted,
                Action::Abort | Action::StartTls | Action::Ask(Question::Client(_)) => panic!("not in these dialogues"),
            };
            session.answered(answer, out);
        }
    }
    content_bytes
}

fn by_naive(reads: &[Vec<u8>], out: &mut Vec<u8>) -> (u64, Vec<u8>) {
    let mut session = naive::Session::new(out);
    reads.iter().for_each(|read| session.take(read, QUEUE_ID, out));
    (session.content_bytes, session.content)
}

/// The dialogues: a name and the reads.
fn dialogues() -> [(&'static str, Vec<Vec<u8>>); 3] {
    let message = support::stuffed(&support::text(4096));
    let one = [HELLO, LOGIN, ENVELOPE, &message, b"QUIT\r\n"].map(<[u8]>::to_vec).to_vec();
    let mut many = [HELLO, LOGIN].concat();
    (0..20).for_each(|_| many.extend([ENVELOPE, &message].concat()));
    many.extend_from_slice(b"QUIT\r\n");
    let attachment = support::stuffed(&support::base64(1 << 20));
    let large = [HELLO, LOGIN, ENVELOPE, &attachment, b"QUIT\r\n"].concat();
    let reads = |wire: &[u8]| wire.chunks(READ_BYTES).map(<[u8]>::to_vec).collect();
    [("submission", one), ("pipelined", reads(&many)), ("attachment", reads(&large))]
}

fn bench(criterion: &mut Criterion) {
    let rules = rules();
    let mut group = criterion.benchmark_group("session");
    for (name, reads) in dialogues() {
        let (mut content, mut out, mut naive_out) = (Vec::new(), Vec::new(), Vec::new());
        let (naive_bytes, naive_content) = by_naive(&reads, &mut naive_out);
        let bytes = by_session(&rules, &reads, &mut content, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&naive_out), "{name}");
        assert!(bytes > 4000 && bytes == naive_bytes && content == naive_content, "{name}");
        group.throughput(Throughput::Bytes(reads.iter().map(|read| read.len() as u64).sum()));
        group.bench_with_input(BenchmarkId::new("naive", name), &reads, |b, reads| {
            b.iter(|| {
                out.clear();
                by_naive(black_box(reads), &mut out).0
            });
        });
        group.bench_with_input(BenchmarkId::new("session", name), &reads, |b, reads| {
            b.iter(|| {
                out.clear();
                by_session(&rules, black_box(reads), &mut content, &mut out)
            });
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = support::settings(); targets = bench }
criterion_main!(benches);
