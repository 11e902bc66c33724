//! A client: sends one message, as a connection does once it has all of it.

use super::ledger::Ledger;
use crate::clock::now_ms;
use crate::smtp::envelope::{Envelope, Tag};
use crate::spool::simulated::{self, Dice};
use crate::spool::{CommitError, Writer};
use std::cell::RefCell;
use std::rc::Rc;

/// A message that is to be sent.
pub struct Offer {
    content: Rc<Vec<u8>>,
    recipients: usize,
    /// Each wants to be told of success as well.
    notify: bool,
    spilled: bool,
}

impl Offer {
    /// Whatever the dice say.
    pub fn new(dice: &mut Dice) -> Offer {
        let spilled = dice.below(6) == 0;
        let octets_max = if dice.below(3) == 0 { 14_000 } else { 2500 };
        let octets = dice.below(octets_max);
        let mark = dice.below(1 << 40);
        let mut content = format!("Subject: {mark}\r\n\r\n").into_bytes();
        content.extend((0..octets).map(|at| b'a' + ((at ^ mark) % 23) as u8));
        content.extend_from_slice(b"\r\n");
        let recipients = [1, 1, 1, 2, 3][dice.below(5) as usize];
        Offer { content: Rc::new(content), recipients, notify: dice.below(4) == 0, spilled }
    }

    /// A small one for two recipients.
    pub fn small(number: u64) -> Offer {
        let content = Rc::new(format!("Subject: {number}\r\n\r\nbody\r\n").into_bytes());
        Offer { content, recipients: 2, notify: false, spilled: false }
    }

    fn envelope(&self) -> Envelope {
        let mut envelope = Envelope::default();
        envelope.push(Tag::Arrival, &now_ms().to_le_bytes());
        envelope.push(Tag::ReversePath, b"anna@example.edu");
        for index in 0..self.recipients {
            let path = format!("to{index}@{}.example", if index % 2 == 0 { "a" } else { "b" });
            envelope.push(Tag::Recipient, path.as_bytes());
            if self.notify {
                envelope.push(Tag::Notify, b"SUCCESS,FAILURE,DELAY");
            }
        }
        envelope
    }
}

/// Sends it; what is answered goes into the ledger.
pub async fn send(writer: Writer, ledger: Rc<RefCell<Ledger>>, offer: Offer) {
    let Ok(id) = writer.begin(offer.content.len() as u64) else { return };
    ledger.borrow_mut().offered(id.0, offer.content.clone(), offer.recipients, now_ms());
    let mut envelope = offer.envelope();
    let failures = simulated::with(|disk| disk.undecided);
    let answer = match offer.spilled {
        true => match spill(&writer, &offer.content, &mut envelope).await {
            Ok(()) => writer.commit(id, &envelope, b"").await,
            refused => refused,
        },
        false => writer.commit(id, &envelope, &offer.content).await,
    };
    let decided = simulated::with(|disk| disk.undecided == failures && !disk.is_dead());
    ledger.borrow_mut().answered(id.0, answer, decided);
}

async fn spill(writer: &Writer, content: &[u8], envelope: &mut Envelope) -> Result<(), CommitError> {
    let mut spill = writer.spill().await?;
    for piece in content.chunks(5000) {
        spill.write(piece.to_vec()).await.0?;
    }
    spill.finish().await?.push_to(envelope);
    Ok(())
}
