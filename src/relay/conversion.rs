//! A message that the next server, or a Maildir, does not take as it is, made into one that it takes. RFC 6152 section 3,
//! RFC 3030 section 3.
//!
//! The content is read twice, as the encoding of a part stands before it: here for a plan, then by whoever sends it.

use crate::message::mime::{Plan, Planner, Target, Unconvertible};
use crate::relay::content::Cutter;
use crate::smtp::client::{Body, Reply, Transaction};
use crate::smtp::envelope::View;
use crate::spool::{Content, Stored};

/// Why there is no plan.
#[derive(Debug)]
pub enum Unplanned {
    /// It cannot be converted: what the sender is told.
    Refused(Reply),
    /// The spool does not give it, as text.
    Unreadable(String),
}

/// What is to be done to `stored` for a server that takes octets above 127 or not. `hindrance`: what the sender is told if
/// nothing can be done, with the reason behind it.
pub fn plan(stored: &mut Stored, hindrance: &Reply, eight_bit: bool) -> Result<Plan, Unplanned> {
    let damaged = |damage| Unplanned::Unreadable(format!("{damage:?}"));
    let view = View::parse(&stored.envelope).map_err(damaged)?;
    let mut planner = Planner::new(Target { eight_bit });
    let mut cutter = Cutter::new(&view.removed);
    planner.feed(view.prepended);
    let mut read = |mut piece: &[u8]| {
        while let Some(kept) = cutter.kept(&mut piece) {
            planner.feed(kept);
        }
    };
    match &mut stored.content {
        Content::Memory(content) => read(content),
        Content::Spilled(reader) => {
            loop {
                let piece = reader.next().map_err(Unplanned::Unreadable)?;
                if piece.is_empty() {
                    break;
                }
                read(piece);
            }
            reader.rewind();
        }
    }
    planner.end().map_err(|why| Unplanned::Refused(refusal(hindrance, why)))
}

/// What is to be done to `stored` before it becomes a text file, where CRLF in binary content would be lost: the same as for
/// a server without BINARYMIME. None if it is text.
pub fn plan_for_file(stored: &mut Stored) -> Result<Option<Plan>, Unplanned> {
    let view = View::parse(&stored.envelope).map_err(|damage| Unplanned::Unreadable(format!("{damage:?}")))?;
    if view.body != 2 {
        return Ok(None);
    }
    let hindrance = Reply::ours(554, "5.6.1 the mailbox does not take binary content".into());
    plan(stored, &hindrance, true).map(Some)
}

/// Could a whole message be sent to a server that takes 7-bit text only?
pub fn is_convertible(message: &[u8]) -> bool {
    let mut planner = Planner::new(Target { eight_bit: false });
    planner.feed(message);
    planner.end().is_ok()
}

/// The transaction of the converted message. How large that is, nobody knows before it is made.
pub fn converted(transaction: Transaction, eight_bit: bool) -> Transaction {
    let body = if eight_bit && transaction.body != Body::SevenBit { Body::EightBit } else { Body::SevenBit };
    Transaction { body, long_lines: false, size: 0, ..transaction }
}

fn refusal(hindrance: &Reply, why: Unconvertible) -> Reply {
    let Reply { code, text, .. } = hindrance;
    Reply::ours(*code, format!("{text}; {}", why.text()))
}
