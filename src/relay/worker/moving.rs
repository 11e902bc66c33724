//! Messages that keep a segment of delivered mail from being recycled are written again, into the relay's own segment.
//!
//! ```text
//!  Follower::pinned -> Survivors --each message--> Queue::begin_move --yes--> record with what is known of it --> spool Writer
//!                                                                                                                   |
//!  old segment erased <-- Follower::superseded <-- Queue::add <----------------- read back, as every record --------+
//! ```
//!
//! Promise: at any instant one of the two records counts, and after a crash both are one message (queue/moving.rs).

use super::{Worker, release_ms};
use crate::log::{self, Level};
use crate::relay::queue::{Deferral, Moving};
use crate::smtp::envelope::{Act, Deferred, Envelope, Fate, Order, Outcome, Tag, View};
use crate::spool::{Candidate, CommitError, Content, Survivors};
use futures_channel::mpsc;
use std::collections::HashSet;

/// How often segments are looked over while there is nothing to move.
const LOOK_EVERY_MS: u64 = 10_000;
/// Records looked at before deliveries get their turn.
const CANDIDATES_AT_ONCE: usize = 256;
/// Content being moved at once, in octets; one message may have more.
const BYTES_AT_ONCE: usize = 1 << 20;

/// A survivor's record is durable, or not.
pub(super) struct Moved {
    id: u64,
    bytes: usize,
    result: Result<(), CommitError>,
}

/// What is being moved.
pub(super) struct Mover {
    /// Seconds after which a segment that few records pin is looked at.
    after_s: u64,
    survivors: Option<Survivors>,
    look_ms: u64,
    messages: u64,
    bytes: usize,
    sender: mpsc::UnboundedSender<Moved>,
    pub(super) receiver: mpsc::UnboundedReceiver<Moved>,
}

impl Mover {
    pub(super) fn new(after_s: u64) -> Mover {
        let (sender, receiver) = mpsc::unbounded();
        Mover { after_s, survivors: None, look_ms: 0, messages: 0, bytes: 0, sender, receiver }
    }

    /// The clock was set back: the next look is as soon as it was.
    pub(super) fn set_back(&mut self, by_ms: u64) {
        self.look_ms = self.look_ms.saturating_sub(by_ms);
    }

    /// When there is something to do that nothing else wakes the relay for.
    pub(super) fn wake_ms(&self) -> u64 {
        match (&self.survivors, self.bytes) {
            (None, _) => self.look_ms,
            (Some(_), 0) => 0,
            (Some(_), _) => u64::MAX,
        }
    }
}

impl Worker {
    /// Goes on with a segment, or looks for one.
    pub(super) fn move_survivors(&mut self, now: u64) {
        if self.mover.survivors.is_none() && self.mover.look_ms <= now {
            self.mover.look_ms = now + LOOK_EVERY_MS.min(self.mover.after_s.saturating_mul(1000).max(1));
            self.writer.change_old_segment();
            self.mover.survivors = self.follower.pinned(self.mover.after_s);
            self.mover.messages = 0;
        }
        for _ in 0..CANDIDATES_AT_ONCE {
            if self.mover.bytes >= BYTES_AT_ONCE || !self.records.may_deliver() {
                return;
            }
            let Some(survivors) = &mut self.mover.survivors else { return };
            match survivors.next() {
                Some(candidate) => self.move_one(&candidate),
                None => {
                    let (segment, messages) = (survivors.segment(), self.mover.messages);
                    log::event(Level::Info, "messages moved out of a segment to recycle it")
                        .field("segment", segment)
                        .field("messages", messages)
                        .emit();
                    self.mover.survivors = None;
                    // There may be many more, each named once in `after_s`. At one a pause, room would come back slower
                    // than mail comes.
                    self.mover.look_ms = now;
                }
            }
        }
    }

    pub(super) fn moved(&mut self, Moved { id, bytes, result }: Moved) {
        self.mover.bytes -= bytes;
        self.tools.watch.moved.add(u64::from(result.is_ok()));
        if let Err(error) = result {
            let line = log::event(Level::Warning, "message not moved, tried again later");
            line.field("queue_id", crate::spool::QueueId(id)).field("reason", format_args!("{error:?}")).emit();
            self.queue.move_failed(id);
            // The disk needs a pause; the segment is named again.
            self.mover.survivors = None;
        }
    }

    fn move_one(&mut self, candidate: &Candidate) {
        let (at, id) = (candidate.at, candidate.id);
        let Some(moving) = self.queue.begin_move(id.0, at) else { return };
        let content = match candidate.content_bytes {
            None => Ok(Vec::new()),
            Some(_) => self.follower.read(at).map(|stored| match stored.content {
                Content::Memory(content) => content,
                Content::Spilled(_) => Vec::new(),
            }),
        };
        // What cannot be read is said when it is to be delivered.
        let (Ok(content), Some(envelope)) = (content, survivor(id.0, &candidate.envelope, &moving)) else {
            return self.queue.move_failed(id.0);
        };
        // A record without content counts too, or their number would have no bound.
        let bytes = content.len() + envelope.as_bytes().len();
        self.mover.bytes += bytes;
        self.mover.messages += 1;
        let (writer, done) = (self.writer.clone(), self.mover.sender.clone());
        self.writer.spawn(async move {
            let result = writer.commit_copy(id, &envelope, &content).await;
            // Nobody listens any more when the thread ends: the next start reads what is durable.
            let _ = done.unbounded_send(Moved { id: id.0, bytes, result });
        });
    }
}

/// The envelope of the new record: the old one's, and what has been recorded of the message since.
fn survivor(id: u64, stored: &[u8], moving: &Moving) -> Option<Envelope> {
    let mut envelope = Envelope::from_stored(stored).ok()?;
    let view = View::parse(stored).ok()?;
    let open: HashSet<u32> = moving.open.iter().copied().collect();
    let known: HashSet<u32> =
        view.outcomes.iter().filter(|outcome| outcome.queue_id == id).map(|outcome| outcome.recipient).collect();
    if !view.survivor {
        envelope.push(Tag::Survivor, b"");
    }
    let settled =
        (0..envelope.recipients()).filter(|recipient| !open.contains(recipient) && !known.contains(recipient));
    for recipient in settled {
        Outcome { queue_id: id, recipient, fate: Fate::Delivered, text: b"" }.push_to(&mut envelope);
    }
    if moving.warned && !view.warned.contains(&id) {
        envelope.push(Tag::Warned, &id.to_le_bytes());
    }
    for &Deferral { recipient, attempts, next_ms } in &moving.deferred {
        let deferred = Deferred { queue_id: id, recipient, attempts, next_ms };
        if !view.deferred.contains(&deferred) {
            deferred.push_to(&mut envelope);
        }
    }
    orders(id, &view, moving).into_iter().for_each(|act| act.push_to(&mut envelope));
    Some(envelope)
}

/// What an operator has ordered of it, so that the records that say so are not needed for it: from when its time counts, and
/// whether it is on hold.
fn orders(id: u64, view: &View, moving: &Moving) -> Vec<Act> {
    if view.acts.is_empty() && moving.held_ms.is_none() && moving.counts_from_ms == release_ms(view) {
        return Vec::new();
    }
    let requeue = Act { order: Order::Requeue, queue_id: id, at_ms: moving.counts_from_ms };
    let hold = moving.held_ms.map(|at_ms| Act { order: Order::Hold, queue_id: id, at_ms });
    let acts: Vec<Act> = std::iter::once(requeue).chain(hold).collect();
    if view.acts.ends_with(&acts) { Vec::new() } else { acts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moving(open: &[u32], warned: bool, attempts: u16) -> Moving {
        let deferred = vec![Deferral { recipient: 2, attempts, next_ms: 99 }];
        Moving { open: open.to_vec(), warned, deferred, counts_from_ms: 0, held_ms: None }
    }

    #[test]
    fn a_survivor_says_what_is_done_once_however_often_it_is_moved() {
        let mut first = Envelope::default();
        first.push(Tag::ReversePath, b"anna@example.edu");
        for to in [b"a@b", b"c@d", b"e@f"] {
            first.push(Tag::Recipient, to);
        }
        let once = survivor(7, first.as_bytes(), &moving(&[0, 2], false, 1)).expect("whole");
        let twice = survivor(7, once.as_bytes(), &moving(&[2], true, 4)).expect("whole");
        let thrice = survivor(7, twice.as_bytes(), &moving(&[2], true, 4)).expect("whole");
        assert_eq!(twice, thrice);
        let view = View::parse(thrice.as_bytes()).expect("whole");
        let done: Vec<_> = view.outcomes.iter().map(|outcome| (outcome.queue_id, outcome.recipient)).collect();
        assert_eq!((done, view.warned), (vec![(7, 1), (7, 0)], vec![7]));
        let deferred = [1, 4].map(|attempts| Deferred { queue_id: 7, recipient: 2, attempts, next_ms: 99 });
        assert_eq!(view.deferred, deferred);
        assert!(view.survivor && view.recipients.len() == 3 && view.reverse_path == b"anna@example.edu");
        assert_eq!(thrice.recipients(), 3);
    }
}
