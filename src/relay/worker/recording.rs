//! What came of deliveries becomes records: outcomes, and the bounces that tell of failures.
//!
//! ```text
//!  Records --Matter--> build --envelope, content--> spool Writer --Recorded--> Records: done, or again in a while
//! ```
//!
//! Promise: a bounce and the outcomes that it tells of are one record; what the spool refuses is tried again.

use super::Worker;
use crate::clock::now_ms;
use crate::log::{self, Level};
use crate::relay::bounce::{self, Notice};
use crate::relay::content;
use crate::relay::journal::{self, About};
use crate::relay::records::{Delivered, Matter, Undelivered, push_outcome};
use crate::smtp::envelope::{self, Envelope, View};
use crate::spool::{CommitError, Location, QueueId, Stored};

/// A bounce holds no more than this of the message that it is about, in octets.
const RETURNED_BYTES_MAX: usize = 64 * 1024;

/// A record that is durable, or not.
pub(super) struct Recorded {
    matter: Matter<Location>,
    result: Result<(), CommitError>,
}

/// Why a record could not be put together.
enum Unbuilt {
    /// The spool has no room for it now.
    Refused(CommitError),
    /// The message that it is about cannot be read.
    Unreadable(u64, String),
}

impl Worker {
    /// Puts what came of deliveries on its way into the spool.
    pub(super) fn record(&mut self, now: u64) {
        while let Some(matter) = self.records.next(now) {
            match self.build(&matter, now) {
                Ok((id, envelope, content)) => {
                    let (writer, done) = (self.writer.clone(), self.recorded_here.clone());
                    monoio::spawn(async move {
                        let result = writer.commit(id, &envelope, &content).await;
                        // Nobody listens any more when the thread ends: the next start reads what is durable.
                        let _ = done.unbounded_send(Recorded { matter, result });
                    });
                }
                Err(Unbuilt::Refused(error)) => self.recorded(Recorded { matter, result: Err(error) }),
                Err(Unbuilt::Unreadable(id, why)) => {
                    // It stays queued: whoever mends the spool and starts again gets the bounce sent.
                    journal::trouble("bounce cannot be written", id, &why);
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

    pub(super) fn recorded(&mut self, Recorded { matter, result }: Recorded) {
        self.count_writes();
        if let Err(error) = result {
            let event = log::event(Level::Error, "outcomes not recorded, deliveries wait until they are");
            event.field("reason", format_args!("{error:?}")).emit();
        }
        self.records.ended(matter, result.is_ok(), now_ms());
    }

    fn build(&mut self, matter: &Matter<Location>, now: u64) -> Result<(QueueId, Envelope, Vec<u8>), Unbuilt> {
        match matter {
            Matter::Delivered(delivered) => {
                let id = self.writer.begin(0).map_err(Unbuilt::Refused)?;
                let mut envelope = Envelope::default();
                for Delivered { id, recipient, reply } in delivered {
                    push_outcome(*id, *recipient, envelope::Fate::Delivered, reply, &mut envelope);
                }
                Ok((id, envelope, Vec::new()))
            }
            Matter::Undelivered(undelivered) => self.build_bounce(undelivered, now),
        }
    }

    fn build_bounce(
        &mut self,
        Undelivered { id: about, at, failures }: &Undelivered<Location>,
        now: u64,
    ) -> Result<(QueueId, Envelope, Vec<u8>), Unbuilt> {
        let unreadable = |why| Unbuilt::Unreadable(*about, why);
        let Stored { envelope: stored, content: mut original, .. } = self.follower.read(*at).map_err(unreadable)?;
        let view = View::parse(&stored).map_err(|damage| unreadable(format!("{damage:?}")))?;
        let told = bounce::reported(&view, failures);
        let (mut envelope, mut content) = (Envelope::default(), Vec::new());
        let id = self.writer.begin(RETURNED_BYTES_MAX as u64).map_err(Unbuilt::Refused)?;
        if !told.is_empty() {
            let full = view.ret == Some(0);
            let (original, whole) =
                content::beginning(&view, &mut original, full, RETURNED_BYTES_MAX).map_err(unreadable)?;
            let (id, about) = (id.to_string(), QueueId(*about).to_string());
            let hostname = &self.hostname;
            let notice = Notice { hostname, id: &id, about: &about, now_ms: now, original: &original, whole };
            (envelope, content) = bounce::bounce(&view, &told, &notice);
        }
        for failure in failures {
            push_outcome(*about, failure.recipient, envelope::Fate::Failed, &failure.reply, &mut envelope);
            let recipient =
                view.recipients.get(failure.recipient as usize).map_or(&b""[..], |recipient| recipient.path);
            let destination = failure.remote.as_deref().unwrap_or("none");
            let is_told = told.iter().any(|told| told.recipient == failure.recipient);
            self.counters.bounced.add(1);
            journal::failed(&About { id: *about, recipient, destination }, failure, is_told);
        }
        Ok((id, envelope, content))
    }
}
