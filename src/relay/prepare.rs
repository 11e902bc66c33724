//! A delivery with all that it needs, read from the spool.

use crate::relay::content::{self, Needs};
use crate::relay::queue::Delivery;
use crate::smtp::client::Transaction;
use crate::smtp::envelope::View;
use crate::spool::{Content, Follower, Location, Stored};

/// Reads the message of `delivery` and makes the envelope that the client sends. Errors: damage or I/O, as text.
pub fn read(follower: &mut Follower, delivery: &Delivery<Location>) -> Result<(Stored, Transaction), String> {
    let stored = follower.read(delivery.at)?;
    let view = View::parse(&stored.envelope).map_err(|damage| format!("{damage:?}"))?;
    let in_memory = match &stored.content {
        Content::Memory(content) => Some(&content[..]),
        Content::Spilled(_) => None,
    };
    let spilled = view.spilled.map_or(0, |spilled| spilled.length);
    let length = in_memory.map_or(spilled, |content| content.len() as u64);
    let needs = Needs::of(&view, in_memory);
    let path = |&index: &u32| view.recipients.get(index as usize).map(|recipient| recipient.path.to_vec());
    let recipients: Option<Vec<_>> = delivery.recipients.iter().map(path).collect();
    let transaction = Transaction {
        reverse_path: view.reverse_path.to_vec(),
        recipients: recipients.ok_or("a recipient is missing")?,
        size: content::size(&view, length),
        eight_bit: needs.eight_bit,
        smtputf8: needs.smtputf8,
    };
    Ok((stored, transaction))
}
