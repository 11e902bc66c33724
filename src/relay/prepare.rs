//! A delivery with all that it needs, read from the spool.

use crate::relay::content::{self, Needs};
use crate::relay::queue::Delivery;
use crate::smtp::client::{Recipient, Transaction};
use crate::smtp::envelope::View;
use crate::spool::{Content, Follower, Location, Stored};

/// A message, and how it goes out.
pub struct Prepared {
    /// Envelope and content.
    pub stored: Stored,
    /// The envelope as the client wants it.
    pub transaction: Transaction,
}

/// Reads the message of `delivery` and makes the envelope that the client sends. Errors: damage or I/O, as text.
pub fn read(follower: &mut Follower, delivery: &Delivery<Location>) -> Result<Prepared, String> {
    let stored = follower.read(delivery.at)?;
    let view = View::parse(&stored.envelope).map_err(|damage| format!("{damage:?}"))?;
    let in_memory = match &stored.content {
        Content::Memory(content) => Some(&content[..]),
        Content::Spilled(_) => None,
    };
    let spilled = view.spilled.map_or(0, |spilled| spilled.length);
    let length = in_memory.map_or(spilled, |content| content.len() as u64);
    let needs = Needs::of(&view, in_memory);
    let recipient = |&index: &u32| {
        let to = view.recipients.get(index as usize)?;
        let given = |value: Option<&[u8]>| value.map(<[u8]>::to_vec);
        Some(Recipient { path: to.path.to_vec(), notify: given(to.notify), orcpt: given(to.orcpt) })
    };
    let recipients: Option<Vec<_>> = delivery.recipients.iter().map(recipient).collect();
    let transaction = Transaction {
        reverse_path: view.reverse_path.to_vec(),
        recipients: recipients.ok_or("a recipient is missing")?,
        size: content::size(&view, length),
        body: needs.body,
        long_lines: needs.long_lines,
        smtputf8: needs.smtputf8,
        require_tls: view.require_tls,
        ret_full: view.ret.map(|ret| ret == 0),
        envid: view.envid.map(<[u8]>::to_vec),
        // What the session did not believe, or nobody said, is passed on as such: RFC 4954 section 5.
        auth: Some(view.auth.unwrap_or(b"<>").to_vec()),
    };
    Ok(Prepared { stored, transaction })
}
