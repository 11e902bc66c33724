//! From the end of the data to 250: completes the envelope with what only the driver knows, makes the message durable, says
//! what became of it.

use super::connection::Connection;
use super::core::Core;
use super::receiving::Receiving;
use crate::clock::now_ms;
use crate::log::Level;
use crate::message::header::{FIELDS_MAX, HEADER_BYTES_MAX, RECEIVED_MAX};
use crate::message::{Arrival, Header, prepend};
use crate::smtp::Session;
use crate::smtp::envelope::{Envelope, Fields, Tag};
use crate::smtp::session::{Answer, QueueName, Refusal};
use crate::spool::{CommitError, QueueId};
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

impl Connection {
    /// Answers Commit.
    pub(super) async fn commit(&mut self, session: &mut Session) -> Answer {
        let received = Instant::now();
        let reception = self.message.as_ref().map_or(Duration::ZERO, |message| message.age(received));
        let outcome = self.commit_or_refuse(session).await;
        self.core.count_writes();
        match outcome {
            Ok((id, bytes)) => {
                self.accepted += 1;
                self.count_accepted(bytes, reception, received.elapsed());
                self.log_accepted(session, id, bytes);
                Answer::Committed
            }
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    fn count_accepted(&self, bytes: u64, reception: Duration, commit_wait: Duration) {
        let counters = &self.core.counters;
        counters.messages_accepted.add(1);
        counters.bytes_accepted.add(bytes);
        counters.message_bytes.count(bytes);
        let listener = self.listener();
        listener.messages.add(250);
        listener.bytes.add(bytes);
        listener.reception.count_time(reception);
        listener.commit_wait.count_time(commit_wait);
    }

    /// Queue id and octets of content, when the message is durable.
    async fn commit_or_refuse(&mut self, session: &mut Session) -> Result<(QueueId, u64), Refusal> {
        let mut message = self.message.take().ok_or(self.trouble.unwrap_or(Refusal::DiskTrouble))?;
        let header = message.header();
        if header.bytes > HEADER_BYTES_MAX {
            return Err(Refusal::HeaderTooBig);
        }
        if header.received > RECEIVED_MAX {
            return Err(Refusal::TooManyHops);
        }
        if header.fields > FIELDS_MAX {
            return Err(Refusal::TooManyFields);
        }
        let (id, bytes) = (message.id, message.content_bytes());
        self.complete(session, id, &header);
        message.commit(session.envelope()).await.map_err(refusal)?;
        Ok((id, bytes))
    }

    /// Adds to the envelope what only the driver knows, and the header fields that stand before the content.
    fn complete(&self, session: &mut Session, id: QueueId, header: &Header) {
        session.envelope().merge_duplicates();
        let epoch_ms = now_ms();
        let queue_id = queue_name(id);
        let (envelope, client) = session.finish();
        let arrival = Arrival {
            helo: client.helo,
            peer: self.peer.ip(),
            hostname: &self.core.config.hostname,
            protocol: client.protocol,
            queue_id: queue_id.as_str(),
            tls: self.stream.tls(),
            only_recipient: envelope.only_recipient(),
            epoch_ms,
            submission: client.submission,
        };
        let mut prepended = self.core.scratch.take();
        prepended.clear();
        prepend(&arrival, header, &mut prepended);
        envelope.push(Tag::Prepended, prepended.as_bytes());
        self.core.scratch.replace(prepended);
        remove_fields(envelope, client.submission, header);
        if header.tls_optional {
            envelope.push(Tag::TlsOptional, b"");
        }
        envelope.push(Tag::Arrival, &epoch_ms.to_le_bytes());
        envelope.push(Tag::Listener, self.service().name.as_bytes());
        envelope.push_with(Tag::Peer, |value| {
            let _ = write!(value, "{}", self.peer);
        });
        envelope.push(Tag::Helo, client.helo);
        if let Some(user) = client.user {
            envelope.push(Tag::User, user.as_bytes());
        }
        if let Some((version, suite)) = self.stream.tls() {
            envelope.push_with(Tag::Tls, |value| {
                let _ = write!(value, "{version} {suite}");
            });
        }
    }

    fn log_accepted(&self, session: &mut Session, id: QueueId, bytes: u64) {
        let (envelope, client) = session.finish();
        let mut line = self.event(Level::Info, "message accepted").field("queue_id", queue_name(id).as_str());
        line = line.octets("sender", envelope.reverse_path());
        if let Some(user) = client.user {
            line = line.octets("user", user.as_bytes());
        }
        if let Some(moment) = held_until(envelope.as_bytes()) {
            line = line.field("held_until", moment);
        }
        line.field("bytes", bytes).field("recipients", envelope.recipients()).field("protocol", client.protocol).emit();
    }
}

/// The end of a hold (RFC 4865), to the second.
fn held_until(envelope: &[u8]) -> Option<jiff::Timestamp> {
    let hold = |(tag, value): (Tag, &[u8])| (tag == Tag::HoldUntil).then(|| value.try_into().ok()).flatten();
    let epoch_ms = Fields::new(envelope).flatten().find_map(hold).map(u64::from_le_bytes)?;
    jiff::Timestamp::from_second(i64::try_from(epoch_ms / 1000).ok()?).ok()
}

/// Notes in the envelope which fields of the content are not sent on.
fn remove_fields(envelope: &mut Envelope, submission: bool, header: &Header) {
    let submitted = header.submitted_away.iter().filter(|_| submission);
    for range in header.forged.iter().chain(submitted) {
        envelope.push_with(Tag::RemovedRange, |value| {
            value.extend_from_slice(&(range.start as u64).to_le_bytes());
            value.extend_from_slice(&(range.end as u64).to_le_bytes());
        });
    }
}

/// Answers Begin: there is room, or not.
pub(super) fn begin(core: &Rc<Core>, session: &mut Session, out: &mut Vec<u8>) -> Option<Receiving> {
    let room = if core.is_full() { Err(CommitError::NoRoom) } else { core.writer.begin(session.declared_bytes()) };
    match room {
        Ok(id) => {
            session.answered(Answer::Begun(queue_name(id)), out);
            Some(Receiving::new(core.clone(), id))
        }
        Err(error) => {
            session.answered(Answer::Refused(refusal(error)), out);
            None
        }
    }
}

/// Why the message is not taken, in the session's words.
pub(super) fn refusal(error: CommitError) -> Refusal {
    match error {
        CommitError::NoRoom => Refusal::NoRoom,
        CommitError::Disk => Refusal::DiskTrouble,
    }
}

fn queue_name(id: QueueId) -> QueueName {
    let mut name = [b'0'; 13];
    let _ = write!(&mut name[..], "{id}");
    QueueName(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: 3.6
    #[test]
    fn the_log_says_until_when_a_message_is_held() {
        let mut envelope = Envelope::default();
        envelope.push(Tag::ReversePath, b"anna@example.edu");
        assert_eq!(held_until(envelope.as_bytes()), None);
        envelope.push(Tag::HoldUntil, &1_795_317_010_999u64.to_le_bytes());
        envelope.push(Tag::Recipient, b"ben@example.org");
        assert_eq!(held_until(envelope.as_bytes()).map(|at| at.to_string()).as_deref(), Some("2026-11-22T03:10:10Z"));
        envelope.clear();
        envelope.push(Tag::HoldUntil, &u64::MAX.to_le_bytes());
        assert_eq!(held_until(envelope.as_bytes()), None, "no date");
    }
}
