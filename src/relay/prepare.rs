//! A delivery with all that it needs, read from the spool.

use crate::relay::content::{self, Needs, Scan};
use crate::relay::queue::Delivery;
use crate::smtp::client::Transaction;
use crate::smtp::envelope::View;
use crate::spool::{Content, Follower, Location, Stored};

/// Reads the message of `delivery` and makes the envelope that the client sends. Errors: damage or I/O, as text.
pub fn read(follower: &mut Follower, delivery: &Delivery<Location>) -> Result<(Stored, Transaction), String> {
    let stored = follower.read(delivery.at)?;
    let view = View::parse(&stored.envelope).map_err(|damage| format!("{damage:?}"))?;
    let (length, needs) = match (&stored.content, view.spilled) {
        (Content::Memory(content), _) => {
            let mut scan = Scan::default();
            scan.feed(content);
            (content.len() as u64, Needs::of(&view, &scan))
        }
        // Declared 7-bit: not believed, because what was not so would go out raw.
        (Content::Spilled(_), Some(spilled)) if view.body == 0 => {
            let scan = scan_spilled(follower.read(delivery.at)?)?;
            (spilled.length, Needs::of(&view, &scan))
        }
        (Content::Spilled(_), spilled) => (spilled.map_or(0, |spilled| spilled.length), Needs::declared(&view)),
    };
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

fn scan_spilled(stored: Stored) -> Result<Scan, String> {
    let mut scan = Scan::default();
    if let Content::Spilled(mut reader) = stored.content {
        loop {
            let piece = reader.next()?;
            if piece.is_empty() {
                break;
            }
            scan.feed(piece);
        }
    }
    Ok(scan)
}
