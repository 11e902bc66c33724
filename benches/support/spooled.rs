//! Spools for the benches: filled through the library's own writer, forgotten by the page cache, read like any file.

// Each bench is a crate of its own and uses a part of this.
#![allow(dead_code)]

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use penstock::clock::now_ms;
use penstock::net::Driver;
use penstock::smtp::envelope::{Envelope, Fate, Outcome, Tag};
use penstock::spool::{Options, QueueId, Spool, Writer};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// As the configuration has it.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Sessions that commit at once while a spool is filled.
const SESSIONS: usize = 512;
/// Outcomes in one record: as many as the relay puts there.
pub const OUTCOMES: usize = 256;

/// One core's writer and the relay's; nothing is wiped.
pub fn options(directory: &Path) -> Options {
    Options {
        directory: directory.to_path_buf(),
        segment_bytes: SEGMENT_BYTES,
        writers: 1,
        reserve_bytes: 0,
        bytes_max: None,
        wipe_after_s: 0,
    }
}

/// An envelope as a session of an authenticated user leaves it.
pub fn envelope(number: usize, recipient: &str) -> Envelope {
    let sender = format!("student{:05}@example.edu", number % 10_000);
    let mut envelope = Envelope::default();
    envelope.push(Tag::ReversePath, sender.as_bytes());
    envelope.push(Tag::Body, &[0]);
    envelope.push(Tag::Recipient, recipient.as_bytes());
    envelope.push(Tag::EightBit, &[0]);
    envelope.push(Tag::LongLine, &[0]);
    let received = format!(
        "Received: from [192.168.17.4] (192.0.2.77)\r\n\tby smtp.example.edu with ESMTPSA id 00000{number:08}\r\n\t\
         (version=TLSv1_3 cipher=TLS13_AES_128_GCM_SHA256)\r\n\tfor <{recipient}>; Mon, 21 Sep 2026 08:15:30 +0000\r\n"
    );
    envelope.push(Tag::Prepended, received.as_bytes());
    // Within the last hours: what came just before a server ended is traced anew at its start.
    let arrival_ms = now_ms() - 7_200_000 + number as u64 * 4;
    envelope.push(Tag::Arrival, &arrival_ms.to_le_bytes());
    envelope.push(Tag::Listener, b"submission-587");
    envelope.push(Tag::Peer, b"192.0.2.77:51234");
    envelope.push(Tag::Helo, b"[192.168.17.4]");
    envelope.push(Tag::User, sender.as_bytes());
    envelope.push(Tag::Tls, b"TLSv1_3 TLS13_AES_128_GCM_SHA256");
    envelope
}

/// Makes a spool of so many messages, with content of `bytes` octets, durable and closed. `recipient` is told a message's
/// number. Then records as delivered whichever `is_done` says.
pub fn fill(
    directory: &Path,
    messages: usize,
    bytes: usize,
    recipient: fn(usize) -> String,
    is_done: impl Fn(usize) -> bool + 'static,
) {
    let mut spool = Spool::open(options(directory)).expect("opens");
    let seed = spool.core_writers().remove(0);
    let (relay, _follower) = spool.relay_side();
    let filling = async move {
        let writer = Writer::start(seed, Driver::IoUring).expect("starts");
        let done = accept(&writer, messages, bytes, recipient, is_done).await;
        writer.close().await;
        let writer = Writer::start(relay, Driver::IoUring).expect("starts");
        for ids in done.chunks(OUTCOMES) {
            let id = writer.begin(0).expect("room");
            writer.commit(id, &outcomes(ids), b"").await.expect("durable");
        }
        writer.close().await;
    };
    penstock::net::run(Driver::IoUring, None, filling).expect("a runtime");
    spool.close();
}

/// Returns the ids of those that are done, in the order of their numbers.
async fn accept(
    writer: &Writer,
    messages: usize,
    bytes: usize,
    recipient: fn(usize) -> String,
    is_done: impl Fn(usize) -> bool + 'static,
) -> Vec<QueueId> {
    let (next, ids) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(Vec::new())));
    let is_done = Rc::new(is_done);
    let sessions: Vec<_> = (0..SESSIONS.min(messages))
        .map(|_| {
            let (writer, next, ids, is_done) = (writer.clone(), next.clone(), ids.clone(), is_done.clone());
            monoio::spawn(async move {
                let body = vec![b'x'; bytes];
                while next.get() < messages {
                    let number = next.replace(next.get() + 1);
                    let id = writer.begin(0).expect("room");
                    writer.commit(id, &envelope(number, &recipient(number)), &body).await.expect("durable");
                    if is_done(number) {
                        ids.borrow_mut().push(id);
                    }
                }
            })
        })
        .collect();
    for session in sessions {
        session.await;
    }
    ids.take()
}

/// What the relay records when these were delivered.
pub fn outcomes(ids: &[QueueId]) -> Envelope {
    let mut envelope = Envelope::default();
    for id in ids {
        let text = b"250 2.0.0 Ok: queued as 4cW0Qv2hDgz1T";
        Outcome { queue_id: id.0, recipient: 0, fate: Fate::Delivered, text }.push_to(&mut envelope);
    }
    envelope
}

/// Waits until the files thread has made the spares of [`options`] that are wanted beside one active segment: zero-filling
/// them competes for the disk, and a spool that runs recycles.
pub fn wait_for_spares(directory: &Path) {
    let is_ready = || {
        let entries = std::fs::read_dir(directory.join("segments")).expect("listed");
        let names = entries.map(|entry| entry.expect("an entry").path());
        names.filter(|path| path.extension().is_some_and(|ending| ending == "seg")).count() == 3
    };
    while !is_ready() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A segment that holds records.
pub struct Active {
    pub path: PathBuf,
    /// How far it was written, octets.
    pub end: u64,
}

/// The segments that are not spares, in the order in which they were begun. The places are those of spool/segment.rs.
pub fn active(directory: &Path) -> Vec<Active> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory.join("segments")).expect("listed") {
        let path = entry.expect("an entry").path();
        let mut head = [0; 84];
        File::open(&path).expect("opens").read_exact_at(&mut head, 0).expect("a header");
        let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four octets"));
        if number(12) == 2 {
            let generation = u64::from_le_bytes(head[24..32].try_into().expect("eight octets"));
            let end = u64::from(number(60) >> 2) * 4096;
            found.push((generation, Active { path, end: if end > 0 { end } else { SEGMENT_BYTES } }));
        }
    }
    found.sort_by_key(|(generation, _)| *generation);
    found.into_iter().map(|(_, active)| active).collect()
}

/// Takes the spool's files out of the page cache: the next reader goes to the disk. All of them are on it.
pub fn forget_cached(directory: &Path) {
    for entry in std::fs::read_dir(directory.join("segments")).expect("listed") {
        let file = File::open(entry.expect("an entry").path()).expect("opens");
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("forgets");
    }
}

/// Reads the active segments from start to end, as `dd bs=1M` would. Octets.
pub fn read_sequentially(directory: &Path) -> u64 {
    let mut piece = vec![0; 1 << 20];
    let mut read = 0;
    for Active { path, end } in active(directory) {
        let file = File::open(path).expect("opens");
        let mut at = 0;
        while at < end {
            let wanted = piece.len().min((end - at) as usize);
            file.read_exact_at(&mut piece[..wanted], at).expect("readable");
            at += wanted as u64;
        }
        read += end;
    }
    read
}

/// Octets that process `pid` has had read from the disk so far.
pub fn disk_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("readable");
    let line = text.lines().find_map(|line| line.strip_prefix("read_bytes: "));
    line.expect("a line").parse().expect("a number")
}

/// Least, median and most.
pub fn spread(values: &[f64]) -> [f64; 3] {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}
