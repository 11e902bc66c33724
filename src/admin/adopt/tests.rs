//! What is taken over, what stays there, and that it may be done again.

use super::*;
use std::collections::BTreeMap;
use tempfile::TempDir;

fn of(directory: &Path) -> config::Spool {
    config::Spool {
        directory: directory.join("spool"),
        segment_bytes: 1 << 20,
        spill_bytes: 65_536,
        reserve_bytes: 0,
        bytes_max: None,
        wipe_after_s: 0,
    }
}

fn open(directory: &Path) -> Spool {
    let directory = directory.join("spool");
    let options = spool::Options {
        directory,
        segment_bytes: 1 << 20,
        writers: 2,
        reserve_bytes: 0,
        bytes_max: None,
        wipe_after_s: 0,
    };
    Spool::open(options).expect("opens")
}

/// A spool with a message of which one recipient is done, a large one, one that is done, one that a newer version wrote.
async fn fill(directory: &Path) {
    let mut spool = open(directory);
    let core = Writer::start(spool.core_writers().remove(0), Driver::Epoll).expect("starts");
    let relay = Writer::start(spool.relay_side().0, Driver::Epoll).expect("starts");
    let mut ids = Vec::new();
    for (name, unknown) in [("half", false), ("large", false), ("done", false), ("newer", true)] {
        let mut envelope = Envelope::default();
        envelope.push(Tag::ReversePath, b"anna@example.edu");
        envelope.push(Tag::Recipient, b"first@example.edu");
        envelope.push(Tag::Notify, b"NEVER");
        envelope.push(Tag::Recipient, b"second@example.edu");
        envelope.push(Tag::Orcpt, b"rfc822;two@example.edu");
        let mut content = name.as_bytes().to_vec();
        if name == "large" {
            let mut spill = core.spill().await.expect("a file");
            spill.write(b"large".repeat(50_000)).await.0.expect("written");
            spill.finish().await.expect("durable").push_to(&mut envelope);
            content.clear();
        }
        let mut fields = envelope.as_bytes().to_vec();
        if unknown {
            fields.extend_from_slice(&[0xff, 0xff, 0, 0, 0, 0]);
        }
        let id = core.begin(0).expect("room");
        let envelope = if unknown { Envelope::unchecked(fields) } else { envelope };
        core.commit(id, &envelope, &content).await.expect("durable");
        ids.push(id);
    }
    let mut outcomes = Envelope::default();
    for (id, recipient) in [(ids[0], 0), (ids[2], 0), (ids[2], 1)] {
        let (queue_id, fate) = (id.0, envelope::Fate::Delivered);
        Outcome { queue_id, recipient, fate, text: b"" }.push_to(&mut outcomes);
    }
    Act { order: Order::Hold, queue_id: ids[0].0, at_ms: 77 }.push_to(&mut outcomes);
    relay.commit(relay.begin(0).expect("room"), &outcomes, b"").await.expect("durable");
}

/// What there is to do in a spool: contents, each with its recipients and what belongs to them.
fn to_do(directory: &Path) -> BTreeMap<String, Vec<String>> {
    let mut spool = open(directory);
    let mut follower = spool.relay_side().1;
    let (mut queue, _) = what_is_left(&mut follower);
    let held = take_off_hold(&mut queue);
    let mut all = BTreeMap::new();
    while let Some(delivery) = queue.start(NOW) {
        let stored = follower.read(delivery.at).expect("readable");
        let view = View::parse(&stored.envelope).expect("whole");
        let text = |octets: Option<&[u8]>| String::from_utf8_lossy(octets.unwrap_or(b"-")).into_owned();
        let recipients = delivery.recipients.iter().map(|&index| {
            let recipient = &view.recipients[index as usize];
            format!("{} {} {}", text(Some(recipient.path)), text(recipient.notify), text(recipient.orcpt))
        });
        let content = match stored.content {
            Content::Memory(content) => content,
            Content::Spilled(mut reader) => {
                let mut content = Vec::new();
                loop {
                    match reader.next().expect("undamaged") {
                        [] => break content,
                        piece => content.extend_from_slice(piece),
                    }
                }
            }
        };
        let name = format!("{} {}", String::from_utf8_lossy(&content[..4]), content.len());
        assert_eq!(view.reverse_path, b"anna@example.edu");
        let since = held.get(&delivery.id).map(|since| format!("held since {since}"));
        all.insert(name, recipients.chain(since).collect());
    }
    all
}

fn directories() -> (TempDir, TempDir) {
    let directory = || tempfile::tempdir().expect("a directory");
    (directory(), directory())
}

#[test]
fn what_is_left_to_do_there_is_to_do_here_and_there_no_more() {
    let (ours, theirs) = directories();
    net::run(Driver::Epoll, None, fill(theirs.path())).expect("a runtime");
    let expected = to_do(theirs.path());
    assert_eq!(expected["half 4"], ["second@example.edu - rfc822;two@example.edu", "held since 77"]);
    assert_eq!((expected.len(), expected["larg 250000"].len()), (2, 2));
    drop(open(ours.path()));
    let adopted = adopt(&of(ours.path()), 1, &theirs.path().join("spool")).expect("adopted");
    assert_eq!((adopted.messages.len(), adopted.left.len()), (2, 1), "{adopted:?}");
    assert!(adopted.left[0].contains("newer version"), "{adopted:?}");
    let found = trace::search::find(&of(ours.path()).directory.join(trace::DIRECTORY), "second@example.edu", None, 9);
    let traced: Vec<u64> = found.messages.iter().map(|(id, _)| *id).collect();
    assert_eq!(traced, adopted.messages.iter().map(|(_, ours)| ours.0).collect::<Vec<_>>());
    assert_eq!(to_do(ours.path()), expected);
    assert_eq!(to_do(theirs.path()), BTreeMap::new());
    // Once more changes nothing.
    let again = adopt(&of(ours.path()), 1, &theirs.path().join("spool")).expect("adopted");
    assert_eq!((again.messages.len(), again.left.len()), (0, 1));
    assert_eq!(to_do(ours.path()), expected);
}

#[test]
fn more_than_are_waited_for_at_once_are_all_adopted() {
    let (ours, theirs) = directories();
    let many = async {
        let core = Writer::start(open(theirs.path()).core_writers().remove(0), Driver::Epoll).expect("starts");
        for number in 0..2 * BATCH + 9 {
            let mut envelope = Envelope::default();
            envelope.push(Tag::ReversePath, b"anna@example.edu");
            envelope.push(Tag::Recipient, format!("{number}@example.edu").as_bytes());
            let id = core.begin(0).expect("room");
            core.commit(id, &envelope, format!("{number:04}").as_bytes()).await.expect("durable");
        }
    };
    net::run(Driver::Epoll, None, many).expect("a runtime");
    let expected = to_do(theirs.path());
    let adopted = adopt(&of(ours.path()), 1, &theirs.path().join("spool")).expect("adopted");
    assert_eq!((adopted.messages.len(), expected.len()), (2 * BATCH + 9, 2 * BATCH + 9));
    assert_eq!((to_do(ours.path()), to_do(theirs.path())), (expected, BTreeMap::new()));
}

#[test]
fn what_there_is_no_room_for_is_left_there() {
    let (ours, theirs) = directories();
    net::run(Driver::Epoll, None, fill(theirs.path())).expect("a runtime");
    let expected = to_do(theirs.path());
    drop(open(ours.path()));
    let full = config::Spool { reserve_bytes: u64::MAX, ..of(ours.path()) };
    let adopted = adopt(&full, 1, &theirs.path().join("spool")).expect("tried");
    assert!(adopted.messages.is_empty() && adopted.left.iter().any(|why| why.contains("make some")), "{adopted:?}");
    assert_eq!(to_do(theirs.path()), expected);
}

#[test]
fn a_spool_that_is_not_whole_is_not_called_adopted() {
    let (ours, theirs) = directories();
    net::run(Driver::Epoll, None, fill(theirs.path())).expect("a runtime");
    let segments = theirs.path().join("spool/segments");
    std::fs::write(segments.join("00000099.bad"), b"what a start has set aside").expect("written");
    let adopted = adopt(&of(ours.path()), 1, &theirs.path().join("spool")).expect("adopted");
    assert!(adopted.left.iter().any(|why| why.contains("keep that disk")), "{adopted:?}");
}

#[test]
fn what_cannot_be_adopted_is_said() {
    let (ours, theirs) = directories();
    let spool = open(ours.path());
    for (from, words) in [
        (theirs.path().join("nothing"), "is no spool"),
        (theirs.path().to_owned(), "is no spool"),
        (ours.path().join("spool"), "our own"),
    ] {
        let error = adopt(&of(ours.path()), 1, &from).expect_err("refused");
        assert!(error.contains(words), "{error}");
    }
    drop(open(theirs.path()));
    let error = adopt(&of(ours.path()), 1, &theirs.path().join("spool")).expect_err("refused");
    assert!(error.contains("another running instance"), "{error}");
    drop(spool);
    let spool = open(theirs.path());
    let error = adopt(&of(ours.path()), 1, &theirs.path().join("spool")).expect_err("refused");
    assert!(error.contains("another running instance"), "{error}");
    drop(spool);
}
