//! What is kept of orders, whoever hears of it.

use super::*;
use crate::control::permission::Rank;
use crate::relay::operator::{Asked, line};
use crate::trace::writer::{self, TraceWriter};

/// Ids and results that are kept of an order for three messages, of which the relay answers `answers` and then no more,
/// to somebody who reads so many lines.
fn kept(answers: Vec<Vec<(u64, Done)>>, mut lines: usize) -> Vec<u64> {
    let directory = tempfile::tempdir().expect("a directory");
    let traced = directory.path().join("traces");
    let options = writer::Options { directory: traced.clone(), retention_days: 1, reserve_bytes: 0 };
    let (traces, writer) = TraceWriter::start(options).expect("started");
    let (line, mut asked) = line();
    let relay = std::thread::spawn(move || {
        let counted = Answer::Count(Counts::default());
        for said in [counted].into_iter().chain(answers.into_iter().map(Answer::Done)) {
            let Asked { answer, .. } = loop {
                match asked.try_recv() {
                    Ok(asked) => break asked,
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            };
            answer.try_send(said).expect("waited for");
        }
    });
    let peer = Peer { uid: 1, name: "eve".into(), rank: Rank::Postmaster };
    let mut answering =
        Answering { source: Source::Relay(line), spool: directory.path().into(), traces, names: names() };
    let request = Request::Act { deed: Deed::Hold, selection: Selection::Ids(vec![1, 2, 3]), bounce: false };
    answer(&mut answering, &peer, &request, &mut |_| {
        let is_read = lines > 0;
        lines = lines.saturating_sub(1);
        is_read
    });
    relay.join().expect("answered");
    drop((answering, writer));
    let lines = std::fs::read_dir(&traced).expect("read").flat_map(|file| {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("text");
        text.lines().filter_map(|line| trace::line::parse(line.as_bytes())).collect::<Vec<_>>()
    });
    lines.map(|line| line.id).collect()
}

fn names() -> Names {
    Names { form: crate::policy::UsernameForm::Either, domain: Some("example.edu".into()) }
}

fn done(id: u64) -> (u64, Done) {
    (id, Done::Done { recipients: 1, under_way: 0, told: 0 })
}

#[test]
fn what_was_done_is_kept_though_whoever_asked_has_gone() {
    assert_eq!(kept(vec![vec![done(1), done(2), done(3)]], 9), [1, 2, 3]);
    assert_eq!(kept(vec![vec![done(1), done(2), done(3)]], 0), [1, 2, 3]);
}

#[test]
fn what_was_done_is_kept_though_the_relay_ends() {
    assert_eq!(kept(vec![vec![done(1), done(3), (2, Done::Busy)]], 9), [1, 3]);
}
