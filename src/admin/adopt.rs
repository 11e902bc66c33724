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
mod tests;
