//! `penstock spool adopt`: takes over the spool of a machine that is dead.
//!
//! ```text
//!  their spool --Follower, Queue--> what is left to do --record of its own--> our spool      first
//!              <---------------- outcome: "adopted as .." -----------------------            then
//! ```
//!
//! Promises: a message is durable in our spool before theirs says that it is done; so nothing is lost, whatever ends this,
//! and it may be run again: only what was under way at that moment, [`BATCH`] messages at most, is there twice, as with every
//! hand-over (RFC 1047). The server that owns our spool must not run, nor the other.

use crate::clock::now_ms;
use crate::config;
use crate::net::{self, Driver};
use crate::relay::direct::domains::Domains;
use crate::relay::following::Following;
use crate::relay::queue::{Delivery, Queue, Settings};
use crate::relay::route::Routes;
use crate::relay::sender::Senders;
use crate::smtp::envelope::{self, Act, Damage, Envelope, Fields, Order, Outcome, Tag, View};
use crate::spool::{self, CommitError, Content, Follower, Location, QueueId, Spool, Stored, Writer};
use crate::trace::writer::TraceWriter;
use crate::trace::{self, Traces};
use std::collections::HashMap;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::task::Poll;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Their queue id and ours.
    pub messages: Vec<(QueueId, QueueId)>,
    /// What stays there, and why.
    pub left: Vec<String>,
}

/// Takes over all that is left to do in the spool `theirs`; where our disk fails or is full, what went before. Traces are kept
/// for `retention_days`: who asks here where such a message is asks by address or user, as nobody knows its new id. Errors: one
/// line with a remedy; nothing was adopted.
pub fn adopt(ours: &config::Spool, retention_days: u64, theirs: &Path) -> Result<Adopted, String> {
    let driver = if net::probe_io_uring().is_ok() { Driver::IoUring } else { Driver::Epoll };
    if theirs.canonicalize().ok() == ours.directory.canonicalize().ok() {
        return Err(format!("{} is our own spool; name the other machine's", theirs.display()));
    }
    if !theirs.join("segments").is_dir() {
        return Err(format!("{} is no spool; name the directory with segments in it", theirs.display()));
    }
    let options = |directory: PathBuf, writers| spool::Options {
        directory,
        segment_bytes: ours.segment_bytes,
        writers,
        reserve_bytes: ours.reserve_bytes,
        bytes_max: None,
        wipe_after_s: 0,
    };
    let mut into = Spool::open(options(ours.directory.clone(), 1))?;
    let mut from = Spool::open(options(theirs.to_owned(), 0))?;
    let (traces, _writer) = TraceWriter::start(trace::writer::Options {
        directory: ours.directory.join(trace::DIRECTORY),
        retention_days,
        reserve_bytes: ours.reserve_bytes,
    })?;
    let moved = net::run(driver, None, take_all(&mut into, &mut from, driver, &traces));
    moved.map_err(|error| format!("no runtime: {error}"))?
}

async fn take_all(into: &mut Spool, from: &mut Spool, driver: Driver, traces: &Traces) -> Result<Adopted, String> {
    let no_thread = |error| format!("no writer thread: {error}");
    let seed = into.core_writers().pop().ok_or("no writer")?;
    let writer = Writer::start(seed, driver).map_err(no_thread)?;
    let (seed, mut follower) = from.relay_side();
    let outcomes = Writer::start(seed, driver).map_err(no_thread)?;
    let (mut queue, mut left) = what_is_left(&mut follower);
    if !follower.past_is_whole() {
        left.push("segments are missing, set aside, damaged or unreadable, as said above: what stood there is not adopted; keep that disk".into());
    }
    let held = take_off_hold(&mut queue);
    let mut messages = Vec::new();
    loop {
        let (batch, trouble) = next_batch(&mut queue, &held, &mut follower, &writer, &mut left).await;
        if batch.is_empty() && trouble.is_none() {
            break;
        }
        let written = all(batch.iter().map(|one| writer.commit(one.id, &one.envelope, &one.content))).await;
        let (is_ours, failed): (Vec<_>, Vec<_>) = batch.iter().zip(&written).partition(|(_, result)| result.is_ok());
        let noted = all(is_ours.iter().map(|(one, _)| note(one, &outcomes))).await;
        is_ours.iter().for_each(|(one, _)| tell(one, traces));
        messages.extend(is_ours.iter().map(|(one, _)| (QueueId(one.delivery.id), one.id)));
        let failures = failed.into_iter().map(|(_, result)| result).chain(&noted);
        if let Some(error) = failures.filter_map(|result| result.err()).chain(trouble).next() {
            left.push(full(error));
            break;
        }
    }
    writer.close().await;
    outcomes.close().await;
    Ok(Adopted { messages, left })
}

/// After every release and before every end: all that is left is due.
const NOW: u64 = u64::MAX - 1;

fn full(error: CommitError) -> String {
    let what = match error {
        CommitError::NoRoom => "there is no room here; make some",
        CommitError::Disk => "the disk here has failed; look at the log of the kernel",
    };
    format!("all others: {what}, and run this again")
}

/// Records that are waited for at once: one sync is for all of them.
const BATCH: usize = 64;

/// A message of theirs, with what is to be written of it as ours.
struct Taken {
    delivery: Delivery<Location>,
    id: QueueId,
    envelope: Envelope,
    content: Vec<u8>,
}

/// The next messages, of as many octets as may wait together; and why there are no more, if that is our spool's trouble.
async fn next_batch(
    queue: &mut Queue<Location>,
    held: &HashMap<u64, u64>,
    follower: &mut Follower,
    writer: &Writer,
    left: &mut Vec<String>,
) -> (Vec<Taken>, Option<CommitError>) {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    // One message has half of it at most.
    while batch.len() < BATCH && bytes < writer.record_bytes_max() / 4 {
        let Some(delivery) = queue.start(NOW) else { break };
        let theirs = QueueId(delivery.id);
        match take_one(delivery, held.get(&theirs.0).copied(), follower, writer).await {
            Ok(taken) => {
                bytes += taken.envelope.as_bytes().len() + taken.content.len() + RECORD_BYTES;
                bytes += taken.delivery.recipients.len() * OUTCOME_BYTES;
                batch.push(taken);
            }
            Err(Trouble::Spool(error)) => return (batch, Some(error)),
            Err(Trouble::Unreadable(why)) => left.push(format!("{theirs}: {why}")),
        }
    }
    (batch, None)
}

/// What a record has beside envelope and content, with room to spare.
const RECORD_BYTES: usize = 256;
/// What one recipient's outcome has at most.
const OUTCOME_BYTES: usize = 80;

/// Says in their spool that a message is done there. It must be durable in ours.
async fn note(Taken { delivery, id, .. }: &Taken, outcomes: &Writer) -> Result<(), CommitError> {
    let mut outcome = Envelope::default();
    let text = format!("adopted as {id}");
    for &recipient in &delivery.recipients {
        let (queue_id, fate) = (delivery.id, envelope::Fate::Delivered);
        Outcome { queue_id, recipient, fate, text: text.as_bytes() }.push_to(&mut outcome);
    }
    // The reserve is the relay's: there is room for it.
    outcomes.commit(outcomes.begin(0)?, &outcome, b"").await
}

/// Our server would not tell of it: it takes what has come before its start for told.
fn tell(Taken { id, envelope, .. }: &Taken, traces: &Traces) {
    if let Ok(view) = View::parse(envelope.as_bytes()) {
        traces.accepted(id.0, &view, true);
    }
}

/// Waits for all of them together.
async fn all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        let mut is_over = true;
        for (future, output) in waiting.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(value) => *output = Some(value),
                Poll::Pending => is_over = false,
            }
        }
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}

enum Trouble {
    Spool(CommitError),
    Unreadable(String),
}

/// Reads their spool as their relay would. Returns what has recipients left, and what cannot be understood.
fn what_is_left(follower: &mut Follower) -> (Queue<Location>, Vec<String>) {
    let expire_ms = u64::MAX;
    let settings = Settings {
        retry_first_ms: 1,
        retry_max_ms: 1,
        expire_ms,
        warn_ms: Some(expire_ms),
        connections_max: usize::MAX,
    };
    let mut queue = Queue::new(settings, [0], now_ms());
    // Without routes everything goes to one place: here.
    let (routes, senders, traces) = (Routes::new(&[]), Senders::default(), Traces::off());
    let mut domains = Domains::none();
    let mut next = || {
        let (queue, routes, senders, traces) = (&mut queue, &routes, &senders, &traces);
        let domains = &mut domains;
        let (honours_tls_optional, small_bytes, retry_max_ms) = (false, 0, 0);
        let follower = &mut *follower;
        Following { queue, follower, routes, domains, honours_tls_optional, senders, small_bytes, retry_max_ms, traces }
            .next()
    };
    while next() {}
    queue.caught_up();
    let (_, held) = queue.counts();
    let unknown =
        format!("{held} that a newer version wrote or that are damaged, named above; adopt with that version");
    (queue, Vec::from_iter((held > 0).then_some(unknown)))
}

fn words(damage: Damage) -> String {
    match damage {
        Damage::NotUnderstood(_) => "a newer version wrote it; adopt with that version".into(),
        damage => format!("its envelope is damaged ({damage:?})"),
    }
}

/// What an operator holds comes along, and is on hold here: since when, by their queue id.
fn take_off_hold(queue: &mut Queue<Location>) -> HashMap<u64, u64> {
    let standing = queue.ids().into_iter().filter_map(|(_, id)| queue.standing(id).map(|standing| (id, standing)));
    let held: Vec<_> = standing.filter_map(|(id, standing)| Some((id, standing.held_ms?, standing.at))).collect();
    for &(queue_id, at_ms, at) in &held {
        queue.order(Act { order: Order::Release, queue_id, at_ms }, at);
    }
    held.into_iter().map(|(id, at_ms, _)| (id, at_ms)).collect()
}

/// Reads a message, with the recipients that are left, to be written as one of ours.
async fn take_one(
    delivery: Delivery<Location>,
    held_ms: Option<u64>,
    follower: &mut Follower,
    writer: &Writer,
) -> Result<Taken, Trouble> {
    let Stored { envelope: stored, content, .. } = follower.read(delivery.at).map_err(Trouble::Unreadable)?;
    let mut envelope = of_ours(&stored, &delivery.recipients).map_err(|damage| Trouble::Unreadable(words(damage)))?;
    let content = match content {
        Content::Memory(content) if content.len() + envelope.as_bytes().len() + 64 <= writer.record_bytes_max() / 2 => {
            content
        }
        Content::Memory(content) => {
            spill(writer, &mut envelope, std::iter::once(Ok(content))).await?;
            Vec::new()
        }
        Content::Spilled(mut reader) => {
            let pieces = std::iter::from_fn(|| match reader.next() {
                Ok([]) => None,
                Ok(piece) => Some(Ok(piece.to_vec())),
                Err(why) => Some(Err(why)),
            });
            spill(writer, &mut envelope, pieces).await?;
            Vec::new()
        }
    };
    let id = writer.begin(content.len() as u64).map_err(Trouble::Spool)?;
    if let Some(at_ms) = held_ms {
        Act { order: Order::Hold, queue_id: id.0, at_ms }.push_to(&mut envelope);
    }
    Ok(Taken { delivery, id, envelope, content })
}

/// Copies a large content into a spill file of ours, which the envelope names then.
async fn spill(
    writer: &Writer,
    envelope: &mut Envelope,
    pieces: impl Iterator<Item = Result<Vec<u8>, String>>,
) -> Result<(), Trouble> {
    let mut spill = writer.spill().await.map_err(Trouble::Spool)?;
    for piece in pieces {
        spill.write(piece.map_err(Trouble::Unreadable)?).await.0.map_err(Trouble::Spool)?;
    }
    spill.finish().await.map_err(Trouble::Spool)?.push_to(envelope);
    Ok(())
}

/// The envelope without the recipients that are done and without what belonged to their spool. Whether the sender knows that
/// it is late is not taken over: at worst it is said once more.
fn of_ours(stored: &[u8], recipients: &[u32]) -> Result<Envelope, Damage> {
    let mut envelope = Envelope::default();
    let (mut next, mut is_left) = (0, true);
    for field in Fields::new(stored) {
        let (tag, value) = field?;
        match tag {
            Tag::Recipient => {
                is_left = recipients.contains(&next);
                next += 1;
                if is_left {
                    envelope.push(tag, value);
                }
            }
            Tag::Notify | Tag::Orcpt if !is_left => {}
            Tag::Outcome | Tag::Warned | Tag::Deferred | Tag::Survivor | Tag::Spilled => {}
            Tag::Hold | Tag::Release | Tag::Requeue => {}
            _ => envelope.push(tag, value),
        }
    }
    Ok(envelope)
}

#[cfg(test)]
mod tests {
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
        let found =
            trace::search::find(&of(ours.path()).directory.join(trace::DIRECTORY), "second@example.edu", None, 9);
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
}
