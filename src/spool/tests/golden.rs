//! The stored form, for ever: spools that earlier versions wrote, kept in tests/golden, are read as they were written.
//!
//! `tests/golden/spool-N` is a spool as the version with segment format N left it, and `read.txt` what stands in it: a line a
//! record, the fields in hexadecimal. A change of the format adds a directory and changes none. To write one anew, which
//! only a new format needs: `PENSTOCK_WRITE=1 cargo test --lib spool::tests::golden`.

use super::*;
use crate::smtp::envelope::{Fate, Outcome};
use std::fmt::Write;

const VERSION: u32 = 1;

fn golden(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("spool-{version}"))
}

fn small(directory: &Path) -> Options {
    Options { segment_bytes: 64 << 10, ..options(directory, 1) }
}

/// What a spool holds, in the order in which it is read.
fn read(directory: &Path) -> String {
    let mut spool = Spool::open(small(directory)).expect("opens");
    let mut follower = spool.relay_side().1;
    let mut places = Vec::new();
    while let Some(entry) = follower.next() {
        places.push((entry.at, entry.is_message));
    }
    let mut text = String::new();
    for (at, is_message) in places {
        let stored = follower.read(at).expect("readable");
        let fields: String = stored.envelope.iter().map(|octet| format!("{octet:02x}")).collect();
        let (id, kind) = (stored.id, if is_message { "message" } else { "outcomes" });
        let content = memory(stored).escape_ascii().to_string();
        writeln!(text, "{id} {kind} {fields} \"{content}\"").expect("a string takes it");
    }
    text
}

/// Every field, as the session and the relay write it.
fn every_field() -> Envelope {
    let mut all = Envelope::default();
    all.push(Tag::Arrival, &1_700_000_000_000u64.to_le_bytes());
    for (tag, value) in [
        (Tag::Listener, &b"submission"[..]),
        (Tag::Peer, b"192.0.2.7:50000"),
        (Tag::Helo, b"client.example"),
        (Tag::User, b"anna"),
        (Tag::Tls, b"TLS1.3 TLS_AES_128_GCM_SHA256"),
        (Tag::ReversePath, b"anna@example.edu"),
        (Tag::Body, &[1]),
        (Tag::SmtpUtf8, b""),
        (Tag::RequireTls, b""),
        (Tag::Ret, &[1]),
        (Tag::Envid, b"QQ314159"),
        (Tag::Auth, b"anna@example.edu"),
        (Tag::HoldUntil, &1_700_000_100_000u64.to_le_bytes()),
        (Tag::HoldRequest, &[0, 100, 0, 0, 0, 0, 0, 0, 0]),
        (Tag::Prepended, b"Received: by penstock\r\n"),
        (Tag::RemovedRange, &[0; 16]),
        (Tag::EightBit, &[1]),
        (Tag::LongLine, &[0]),
        (Tag::TlsOptional, b""),
        (Tag::Recipient, "björn@example.edu".as_bytes()),
        (Tag::Notify, b"SUCCESS,FAILURE"),
        (Tag::Orcpt, b"utf-8;bj\\x{F6}rn@example.edu"),
        (Tag::Recipient, b"carl@example.edu"),
    ] {
        all.push(tag, value);
    }
    all
}

/// A run of this version: a message with every field, a large one, outcomes, a warning, a survivor.
async fn write(directory: &Path) {
    let mut spool = Spool::open(small(directory)).expect("opens");
    let core = start(spool.core_writers().remove(0), Driver::Epoll);
    let (seed, mut follower) = spool.relay_side();
    let relay = start(seed, Driver::Epoll);
    let first = core.begin(0).expect("room");
    core.commit(first, &every_field(), "Subject: Grüße\r\n\r\n.\r\n".as_bytes()).await.expect("durable");
    let mut spill = core.spill().await.expect("a file");
    spill.write(b"Subject: large\r\n\r\n".repeat(10)).await.0.expect("written");
    let mut large = envelope("ben@example.edu");
    spill.finish().await.expect("durable").push_to(&mut large);
    core.commit(core.begin(0).expect("room"), &large, b"").await.expect("durable");
    let mut outcomes = Envelope::default();
    let text = b"550 5.1.1 no such user";
    Outcome { queue_id: first.0, recipient: 1, fate: Fate::Failed, text }.push_to(&mut outcomes);
    outcomes.push(Tag::Warned, &first.0.to_le_bytes());
    relay.commit(relay.begin(0).expect("room"), &outcomes, b"").await.expect("durable");
    let mut survivor = every_field();
    survivor.push(Tag::Survivor, b"");
    Outcome { queue_id: first.0, recipient: 1, fate: Fate::Delivered, text: b"" }.push_to(&mut survivor);
    relay.commit_copy(first, &survivor, b"Subject: moved\r\n\r\n").await.expect("durable");
    assert_eq!(entries(&mut follower).len(), 4);
    core.close().await;
    relay.close().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("listed") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).expect("copied")),
        }
    }
}

#[test]
fn spools_of_earlier_versions_are_read_as_they_were_written() {
    if std::env::var_os("PENSTOCK_WRITE").is_some() {
        let directory = golden(VERSION);
        let _ = std::fs::remove_dir_all(&directory);
        let runtime = monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().enable_timer().build();
        runtime.expect("epoll").block_on(write(&directory));
        // Whatever free segments there are hold nothing.
        for segment in std::fs::read_dir(directory.join("segments")).expect("listed") {
            let path = segment.expect("one").path();
            let header = Header::from_block(&std::fs::read(&path).expect("readable")[..4096]).expect("a header");
            if header.state == State::Free {
                std::fs::remove_file(path).expect("removed");
            }
        }
        for name in ["inventory", "lock"] {
            std::fs::remove_file(directory.join(name)).expect("removed");
        }
        let temporary = tempfile::tempdir().expect("a directory");
        copy(&directory, temporary.path());
        std::fs::write(directory.join("read.txt"), read(temporary.path())).expect("written");
    }
    for version in 1..=VERSION {
        let temporary = tempfile::tempdir().expect("a directory");
        copy(&golden(version), temporary.path());
        let expected = std::fs::read_to_string(golden(version).join("read.txt")).expect("kept");
        assert!(expected.lines().count() >= 4);
        assert_eq!(read(temporary.path()), expected, "format {version}");
    }
}
