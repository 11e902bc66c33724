//! The relay's log lines: one per recipient and fate, so that "where is my message?" is one search for a queue id.

use crate::log::{self, Level};
use crate::relay::notification::{Action, Verdict};
use crate::smtp::client::Reply;
use crate::spool::QueueId;

/// Whom a line is about.
pub struct About<'a> {
    /// Queue id.
    pub id: u64,
    /// Forward-path.
    pub recipient: &'a [u8],
    /// The next server or Maildir, if it has come to one.
    pub destination: Option<&'a str>,
}

impl About<'_> {
    fn event(&self, level: Level, what: &'static str) -> log::Event {
        let event = log::event(level, what).field("queue_id", QueueId(self.id)).octets("recipient", self.recipient);
        match self.destination {
            Some(destination) => event.octets("destination", destination.as_bytes()),
            None => event,
        }
    }
}

/// The next server took it.
pub fn delivered(about: &About, reply: &Reply) {
    with_reply(about.event(Level::Info, "delivered"), reply).emit();
}

/// Tried again in a while; without `retry_ms` its time is over before that.
pub fn deferred(about: &About, reply: &Reply, retry_ms: Option<u64>) {
    let event = with_reply(about.event(Level::Warning, "deferred"), reply);
    match retry_ms {
        Some(retry_ms) => event.field("next_try", moment(retry_ms)).emit(),
        None => event.field("next_try", "none, its time is over before").emit(),
    }
}

/// What became of a recipient beyond a delivery; `notification` is the message that tells the sender, if one does.
pub fn settled(about: &About, verdict: &Verdict, notification: Option<QueueId>) {
    let (level, what) = match (verdict.action, notification.is_some()) {
        (Action::Failed | Action::Expired, true) => (Level::Warning, "bounced"),
        (Action::Failed | Action::Expired, false) => (Level::Warning, "failed, sender not to be told"),
        (Action::Delayed, true) => (Level::Info, "late, sender told"),
        // "delivered" or "deferred" has been said of it.
        (Action::Relayed | Action::Delivered, true) => (Level::Info, "success, sender told"),
        (Action::Delayed | Action::Relayed | Action::Delivered, false) => return,
    };
    let mut event = about.event(level, what);
    if let Some(notification) = notification {
        event = event.field("notification", notification);
    }
    if verdict.action == Action::Expired {
        event = event.field("expired", true);
    }
    with_reply(event, &verdict.reply).emit();
}

/// A destination cannot be reached; `waiting` messages for it stay queued.
pub fn unreachable(destination: &str, why: &str, waiting: usize, retry_ms: u64) {
    let event = log::event(Level::Warning, "destination unreachable, mail stays queued");
    let event = event.octets("destination", destination.as_bytes()).octets("reason", why.as_bytes());
    event.field("waiting", waiting).field("next_try", moment(retry_ms)).emit();
}

/// A message, or something about it, needs an operator.
pub fn trouble(what: &'static str, id: u64, why: &str) {
    log::event(Level::Error, what).field("queue_id", QueueId(id)).octets("reason", why.as_bytes()).emit();
}

/// What a server said has its code. What we say ourselves has none, so that nobody looks for it in the server's log.
fn with_reply(event: log::Event, reply: &Reply) -> log::Event {
    let (code, name) = said(reply);
    let event = match code {
        Some(code) => event.field("code", code),
        None => event,
    };
    event.octets(name, reply.text.as_bytes())
}

/// The code, if a server said it, and the name of the text.
fn said(reply: &Reply) -> (Option<u16>, &'static str) {
    match reply.ours {
        true => (None, "reason"),
        false => (Some(reply.code), "reply"),
    }
}

/// RFC 3339.
pub fn moment(epoch_ms: u64) -> jiff::Timestamp {
    let seconds = i64::try_from(epoch_ms / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_say_does_not_look_like_what_a_server_said() {
        let theirs = Reply { code: 451, text: "4.3.0 later".into(), ours: false };
        assert_eq!(said(&theirs), (Some(451), "reply"));
        assert_eq!(said(&Reply::ours(451, "4.4.2 not SMTP".into())), (None, "reason"));
    }
}
