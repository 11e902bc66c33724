//! What came of a request, counted for its last line: only what was done counts as done.

use super::request::Deed;
use crate::relay::operator::Done;
use serde_json::{Value, json};

/// Counts of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Told of, or changed.
    pub messages: u64,
    /// More of them fit than were asked for.
    pub more: bool,
    /// All there are; only where no filter was given.
    pub of: Option<u64>,
    /// That an order for all that fit has left alone, because their senders want them later.
    pub scheduled: u64,
    /// That could not be deleted: a delivery is under way to all that is left of them, or being written down.
    pub under_way: u64,
    /// For which a flush was nothing: held, under way, or wanted later.
    pub nothing: u64,
}

impl Tally {
    /// Counts what became of a message.
    pub fn count(&mut self, deed: Deed, done: Done) {
        match result(deed, done) {
            "done" => self.messages += 1,
            UNDER_WAY => self.under_way += 1,
            NOTHING => self.nothing += 1,
            _ => {}
        }
    }

    /// The last line of an answer.
    pub fn to_json(&self) -> Value {
        let Tally { messages, more, of, scheduled, under_way, nothing } = self;
        json!({ "end": {
            "messages": messages, "more": more, "of": of, "scheduled": scheduled, "under_way": under_way, "nothing": nothing,
        }})
    }
}

/// What stands in an answer of a message that is queued and of which nothing can be told.
pub const UNREADABLE: &str = "unreadable";
/// What stands in an answer of a message that could not be deleted.
pub const UNDER_WAY: &str = "under way";
/// What stands in an answer of a message for which a flush was nothing.
pub const NOTHING: &str = "nothing to try";

/// What became of a message, in words for programs.
pub fn result(deed: Deed, done: Done) -> &'static str {
    match (deed, done) {
        (Deed::Delete, Done::Done { recipients: 0, .. }) => UNDER_WAY,
        (Deed::Flush, Done::Done { recipients: 0, .. }) => NOTHING,
        (_, Done::Done { .. }) => "done",
        (_, Done::Unknown) => "unknown",
        (_, Done::Busy) => "busy",
        (_, Done::Refused(_)) => "the disk refused, nothing was changed",
        (_, Done::Unreadable) => "the message cannot be read, nothing was changed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_done_counts_as_done() {
        let done = |recipients, under_way| Done::Done { recipients, under_way, told: 0 };
        for (deed, what, expected) in [
            (Deed::Delete, done(1, 0), (1, 0, 0)),
            (Deed::Delete, done(1, 1), (1, 0, 0)),
            (Deed::Delete, done(0, 1), (0, 1, 0)),
            (Deed::Flush, done(0, 0), (0, 0, 1)),
            (Deed::Flush, done(2, 0), (1, 0, 0)),
            (Deed::Hold, done(0, 0), (1, 0, 0)),
            (Deed::Delete, Done::Unknown, (0, 0, 0)),
            (Deed::Flush, Done::Busy, (0, 0, 0)),
        ] {
            let mut tally = Tally::default();
            tally.count(deed, what);
            assert_eq!((tally.messages, tally.under_way, tally.nothing), expected, "{deed:?} {what:?}");
        }
    }
}
