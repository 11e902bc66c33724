//! What came of deliveries becomes records: outcomes, and the notifications that tell of them.
//!
//! ```text
//!  Records --Matter--> build --envelope, content--> spool Writer --Recorded--> Records: done, or again in a while
//! ```
//!
//! Promise: a notification and the outcomes that it tells of are one record; what the spool refuses is tried again.

use super::{Worker, release_ms};
use crate::clock::now_ms;
use crate::log::{self, Level};
use crate::relay::content;
use crate::relay::conversion;
use crate::relay::journal::{self, About};
use crate::relay::notification::{self, Action, Notice, Verdict};
use crate::relay::records::{Delivered, Matter, Told, push_outcome};
use crate::smtp::envelope::{self, Envelope, Tag, View};
use crate::spool::{CommitError, Location, QueueId, Stored};
use crate::trace::line::What;

/// A notification holds no more than this of the message that it is about, in octets.
const RETURNED_BYTES_MAX: usize = 64 * 1024;

/// A record that is durable, or not.
pub(super) struct Recorded {
    pub(super) matter: Matter<Location>,
    pub(super) words: Vec<Words>,
    pub(super) result: Result<(), CommitError>,
}

/// A record to be written.
pub(super) struct Built {
    pub(super) id: QueueId,
    pub(super) envelope: Envelope,
    pub(super) content: Vec<u8>,
    pub(super) words: Vec<Words>,
}

/// What log and trace say of a recipient as soon as it is durable, and not before: after a crash it would not be true.
pub(super) struct Words {
    about: u64,
    recipient: Vec<u8>,
    verdict: Verdict,
    /// What tells the sender.
    notification: Option<QueueId>,
}

impl Words {
    /// Is the sender told of it?
    pub(super) fn is_told(&self) -> bool {
        self.notification.is_some()
    }
}

/// Why there is no record.
enum Unbuilt {
    /// Nobody is to be told and nothing to be recorded.
    Needless,
    /// The spool has no room for it now.
    Refused(CommitError),
    /// The message that it is about cannot be read.
    Unreadable(u64, String),
}

/// Octets of a reply in a trace that also names a notification, about.
const TRACED_REPLY_MAX: usize = 165;

impl Worker {
    /// Puts what came of deliveries on its way into the spool.
    pub(super) fn record(&mut self, now: u64) {
        while let Some(matter) = self.records.next(now) {
            match self.build(&matter, now) {
                Ok(Built { id, envelope, content, words }) => {
                    let (writer, done) = (self.writer.clone(), self.recorded_here.clone());
                    self.writer.spawn(async move {
                        let result = writer.commit(id, &envelope, &content).await;
                        // Nobody listens any more when the thread ends: the next start reads what is durable.
                        let _ = done.unbounded_send(Recorded { matter, words, result });
                    });
                }
                Err(Unbuilt::Refused(error)) => {
                    self.recorded(Recorded { matter, words: Vec::new(), result: Err(error) })
                }
                Err(Unbuilt::Needless) => self.records.ended(matter, true, now),
                Err(Unbuilt::Unreadable(id, why)) => {
                    // It stays queued: whoever mends the spool and starts again gets the notification sent.
                    journal::trouble("notification cannot be written", id, &why);
                    self.records.ended(matter, true, now);
                }
            }
        }
    }

    /// Takes over the spool writer's counts.
    pub(super) fn count_writes(&self) {
        let (durable_writes, records) = self.writer.counts();
        self.counters.durable_writes.set(durable_writes);
        self.counters.records.set(records);
    }

    pub(super) fn recorded(&mut self, Recorded { matter, words, result }: Recorded) {
        self.count_writes();
        self.tools.watch.recorded(result.is_ok());
        match result {
            Ok(()) => self.say(words),
            Err(error) => {
                let event = log::event(Level::Error, "outcomes not recorded, deliveries wait until they are");
                event.field("reason", format_args!("{error:?}")).emit();
            }
        }
        self.records.ended(matter, result.is_ok(), now_ms());
    }

    fn build(&mut self, matter: &Matter<Location>, now: u64) -> Result<Built, Unbuilt> {
        match matter {
            Matter::Delivered(delivered, deferred) => {
                // A message on the move takes its account along.
                let deferred: Vec<_> = deferred.iter().filter(|one| !self.queue.is_moving(one.queue_id)).collect();
                if delivered.is_empty() && deferred.is_empty() {
                    return Err(Unbuilt::Needless);
                }
                let id = self.writer.begin(0).map_err(Unbuilt::Refused)?;
                let mut envelope = Envelope::default();
                for Delivered { id, recipient, reply } in delivered {
                    push_outcome(*id, *recipient, envelope::Fate::Delivered, reply, &mut envelope);
                }
                deferred.into_iter().for_each(|deferred| deferred.push_to(&mut envelope));
                Ok(Built { id, envelope, content: Vec::new(), words: Vec::new() })
            }
            Matter::Told(told) => self.build_notification(told, now),
        }
    }

    /// Log and trace say what is durable now.
    pub(super) fn say(&self, words: Vec<Words>) {
        for Words { about, recipient, verdict, notification } in words {
            let failed = matches!(verdict.action, Action::Failed | Action::Expired);
            self.counters.bounced.add(u64::from(failed));
            let about = About { id: about, recipient: &recipient, destination: verdict.remote.as_deref() };
            journal::settled(&about, &verdict, notification);
            self.trace_verdict(about.id, &verdict, notification);
        }
    }

    /// What was delivered has been kept when it was tried.
    fn trace_verdict(&self, id: u64, verdict: &Verdict, notification: Option<QueueId>) {
        let what = match (verdict.action, notification.is_some()) {
            (Action::Failed | Action::Expired, true) => What::Failed,
            (Action::Failed | Action::Expired, false) => What::FailedSilently,
            (Action::Delayed, true) => What::Late,
            (Action::Delayed, false) | (Action::Relayed | Action::Delivered, _) => return,
        };
        let mut text = format!("{} {}", verdict.reply.code, verdict.reply.text);
        if let Some(id) = notification {
            // Behind as much of the reply as leaves room in the line.
            let end = text.char_indices().map(|(at, _)| at).find(|&at| at >= TRACED_REPLY_MAX).unwrap_or(text.len());
            text.truncate(end);
            text += &format!(" (notification {id})");
        }
        self.traces.happened(what, id, &[verdict.recipient], verdict.remote.as_deref().unwrap_or_default(), &text);
    }

    /// For an operator who sends a message back. Errors: the spool has no room, or none: the message cannot be read.
    pub(super) fn build_told(&mut self, told: &Told<Location>, now: u64) -> Result<Built, Option<CommitError>> {
        self.build_notification(told, now).map_err(|why| match why {
            Unbuilt::Refused(error) => Some(error),
            Unbuilt::Needless | Unbuilt::Unreadable(..) => None,
        })
    }

    fn build_notification(
        &mut self,
        Told { id: about, at, verdicts }: &Told<Location>,
        now: u64,
    ) -> Result<Built, Unbuilt> {
        let unreadable = |why| Unbuilt::Unreadable(*about, why);
        // It may have been moved since.
        let at = &self.queue.place(*about).unwrap_or(*at);
        let Stored { envelope: stored, content: mut original, .. } = self.follower.read(*at).map_err(unreadable)?;
        let view = View::parse(&stored).map_err(|damage| unreadable(format!("{damage:?}")))?;
        let told = notification::reported(&view, verdicts);
        let late = verdicts.iter().any(|verdict| verdict.action == Action::Delayed);
        if late && told.is_empty() {
            return Err(Unbuilt::Needless);
        }
        let (mut envelope, mut content, mut words) = (Envelope::default(), Vec::new(), Vec::new());
        let id = self.writer.begin(RETURNED_BYTES_MAX as u64).map_err(Unbuilt::Refused)?;
        if let Some(first) = told.first() {
            // RET is about failures only: RFC 3461 section 4.3.
            let failed = matches!(first.action, Action::Failed | Action::Expired);
            let full = failed && view.ret == Some(0) && notification::may_return_text(&view);
            let (mut original, mut whole) =
                content::beginning(&view, &mut original, full, RETURNED_BYTES_MAX).map_err(unreadable)?;
            if whole && !conversion::is_convertible(&original) {
                // A server on the way home without 8BITMIME would get no notification at all.
                let mut again = self.follower.read(*at).map_err(unreadable)?.content;
                (original, whole) =
                    content::beginning(&view, &mut again, false, RETURNED_BYTES_MAX).map_err(unreadable)?;
            }
            let retry_until_ms = late.then(|| {
                let counts_from_ms = self.queue.message_counts_from_ms(*about).unwrap_or_else(|| release_ms(&view));
                counts_from_ms.saturating_add(self.expire_ms)
            });
            let (id, about) = (id.to_string(), QueueId(*about).to_string());
            let hostname = &self.hostname;
            let notice =
                Notice { hostname, id: &id, about: &about, now_ms: now, original: &original, whole, retry_until_ms };
            (envelope, content) = notification::notification(&view, &told, &notice);
        }
        if late {
            envelope.push(Tag::Warned, &about.to_le_bytes());
        }
        for verdict in verdicts {
            let fate = match verdict.action {
                Action::Failed | Action::Expired => Some(envelope::Fate::Failed),
                Action::Relayed | Action::Delivered => Some(envelope::Fate::Delivered),
                Action::Delayed => None,
            };
            if let Some(fate) = fate {
                push_outcome(*about, verdict.recipient, fate, &verdict.reply, &mut envelope);
            }
            let recipient =
                view.recipients.get(verdict.recipient as usize).map_or(&b""[..], |recipient| recipient.path);
            let is_told = told.iter().any(|told| told.recipient == verdict.recipient);
            words.push(Words {
                about: *about,
                recipient: recipient.to_vec(),
                verdict: verdict.clone(),
                notification: is_told.then_some(id),
            });
        }
        Ok(Built { id, envelope, content, words })
    }
}
