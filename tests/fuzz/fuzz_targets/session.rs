//! A whole session under any input, any split and any answers: no panic, replies in lines of at most 512 octets, and the
//! same replies as for the same input in one piece.
#![no_main]
use libfuzzer_sys::fuzz_target;
use penstock::policy::{Domains, Role, TlsMode};
use penstock::sasl::Mechanisms;
use penstock::smtp::Session;
use penstock::smtp::session::{Action, Answer, MayXclient, Question, QueueName, Refusal, Rules};
use std::sync::Arc;

/// All that the server says to `input` in pieces of `step` octets; `answers` choose what the driver answers.
fn talk(input: &[u8], step: usize, answers: u8) -> Vec<u8> {
    let pick = |a: u8| answers & (1 << a) != 0;
    let rules = Rules {
        role: if pick(0) { Role::Submission } else { Role::Smtp },
        tls: if pick(1) { TlsMode::Offered } else { TlsMode::Implicit },
        mechanisms: Mechanisms::PASSWORD,
        message_bytes_max: 2000,
        recipients_max: 3,
        local_domains: Arc::new(Domains::new(["example.edu"])),
        ..Rules::new("mx.example.edu")
    };
    let mut out = Vec::new();
    let mut session = Session::new(Arc::new(rules), pick(2), !pick(1), &mut out);
    session.set_may_xclient(if pick(6) { MayXclient::WithLogin } else { MayXclient::No });
    for piece in input.chunks(step) {
        let mut rest = piece;
        loop {
            let (used, action) = session.step(rest, &mut out);
            rest = &rest[used..];
            match action {
                Action::NeedInput => break,
                Action::Begin if pick(3) => session.answered(Answer::Refused(Refusal::NoRoom), &mut out),
                Action::Begin => session.answered(Answer::Begun(QueueName(*b"0123456789BCD")), &mut out),
                Action::Body(_) | Action::Abort | Action::Flush => {}
                Action::Commit if pick(4) => session.answered(Answer::Refused(Refusal::DiskTrouble), &mut out),
                Action::Commit => session.answered(Answer::Committed, &mut out),
                Action::Ask(Question::Client(xclient)) => {
                    let user = xclient.login.as_deref().map(Into::into);
                    session.answered(Answer::Client { trusted: xclient.address.is_some(), user }, &mut out);
                }
                Action::Ask(_) if pick(5) => session.answered(Answer::Rejected, &mut out),
                Action::Ask(_) => session.answered(Answer::Accepted("anna".into()), &mut out),
                // What is behind STARTTLS depends on the split by its nature.
                Action::StartTls | Action::Close => return out,
            }
        }
    }
    out
}

fuzz_target!(|input: &[u8]| {
    let [answers, step, input @ ..] = input else { return };
    let starttls = input.windows(8).any(|window| window.eq_ignore_ascii_case(b"STARTTLS"));
    let whole = talk(input, input.len().max(1), *answers);
    for line in whole.split_inclusive(|octet| *octet == b'\n') {
        assert!(line.len() <= 512 && line.ends_with(b"\r\n"));
        assert!(line[..3].iter().all(u8::is_ascii_digit));
    }
    if !starttls {
        assert_eq!(talk(input, usize::from(*step).max(1), *answers), whole);
    }
});
