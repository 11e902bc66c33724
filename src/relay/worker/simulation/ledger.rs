//! What clients and next servers know: the other side of every promise.

use super::operator::What;
use crate::log::{Level, event};
use crate::relay::notification::Action;
use crate::relay::records::{Delivered, Matter, Told};
use crate::smtp::envelope::Order;
use crate::spool::{CommitError, Content, Location, QueueId, Stored};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A message that a client has offered.
#[derive(Debug)]
pub struct Message {
    /// Its content.
    pub content: Rc<Vec<u8>>,
    offered_ms: u64,
    /// 250 was said.
    acknowledged: bool,
    /// 451 or 452 was said, and nothing made that doubtful.
    refused: bool,
    orders: Orders,
    recipients: Vec<Recipient>,
}

#[derive(Clone, Debug, Default)]
struct Recipient {
    /// The next server took it so often.
    taken: u32,
    /// A durable outcome says so.
    recorded: bool,
    /// The next server refused it for good, or its time was over: an outcome may say that it failed.
    doomed: bool,
}

/// What an operator has ordered of a message.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    /// It was ordered to be deleted: that it is gone is no loss.
    may_be_deleted: bool,
    /// It is deleted for all of its recipients, of which none was under way or done.
    deleted: bool,
    /// Orders so far that could end a hold.
    ends: u64,
    /// A hold is durable, and no such order came after it.
    held: bool,
    /// The same, and a start has read it.
    bound: bool,
}

/// All messages of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    messages: BTreeMap<u64, Message>,
    /// Messages with a durable outcome that says that they failed.
    failed: BTreeSet<u64>,
    /// Messages whose senders were told of something.
    told: BTreeSet<u64>,
    /// The past could not be read for once: a message may be delivered again.
    pub lenient: bool,
    /// Deliveries of what had been taken before.
    pub duplicates: u64,
    /// Messages that were moved out of a segment, or were to be.
    pub moves: u64,
    /// Orders that were obeyed.
    pub orders: u64,
}

impl Ledger {
    /// A client sends it now.
    pub fn offered(&mut self, id: u64, content: Rc<Vec<u8>>, recipients: usize, offered_ms: u64) {
        let (orders, recipients) = (Orders::default(), vec![Recipient::default(); recipients]);
        let message = Message { content, offered_ms, acknowledged: false, refused: false, orders, recipients };
        assert!(self.messages.insert(id, message).is_none(), "queue id {id:x} was given twice");
    }

    /// The client has its answer. `decided`: nothing has failed that would leave open what is on the disk.
    pub fn answered(&mut self, id: u64, answer: Result<(), CommitError>, decided: bool) {
        let message = self.messages.get_mut(&id).expect("it was offered");
        match answer {
            Ok(()) => message.acknowledged = true,
            Err(_) => message.refused = decided,
        }
    }

    /// Acknowledged messages.
    pub fn acknowledged(&self) -> u64 {
        self.messages.values().filter(|message| message.acknowledged).count() as u64
    }

    /// Offered messages, with whether they must be queued now: an outcome that nobody has heard of may be durable.
    pub fn expected(&self) -> impl Iterator<Item = (u64, bool)> {
        self.messages.iter().map(|(&id, message)| {
            let open = message.recipients.iter().any(|recipient| recipient.taken == 0 && !recipient.doomed);
            (id, message.acknowledged && open && !message.orders.may_be_deleted && !self.lenient)
        })
    }

    /// Messages, with whether they were delivered to each recipient.
    pub fn taken_by_all(&self) -> Vec<(u64, bool)> {
        let done = |message: &Message| message.recipients.iter().all(|recipient| recipient.taken > 0);
        self.messages.iter().map(|(&id, message)| (id, done(message))).collect()
    }

    /// The time of messages that were offered by then may be over.
    pub fn expire(&mut self, offered_before_ms: u64) {
        for message in self.messages.values_mut().filter(|message| message.offered_ms <= offered_before_ms) {
            message.recipients.iter_mut().for_each(|recipient| recipient.doomed = true);
        }
    }

    /// The next server has refused it for good.
    pub fn refused(&mut self, id: u64, index: u32) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.recipients[index as usize].doomed = true;
        }
    }

    /// A record was read: it must be what was offered. Notifications are not offered by anybody.
    pub fn check_whole(&self, id: u64, stored: Stored) -> Vec<u8> {
        let content = match stored.content {
            Content::Memory(content) => content,
            Content::Spilled(mut reader) => {
                let mut content = Vec::new();
                loop {
                    let piece = reader.next().unwrap_or_else(|why| panic!("message {}: {why}", QueueId(id)));
                    if piece.is_empty() {
                        break;
                    }
                    content.extend_from_slice(piece);
                }
                content
            }
        };
        if let Some(message) = self.messages.get(&id) {
            let id = QueueId(id);
            assert!(content == *message.content, "message {id} is not what was sent");
        }
        content
    }

    /// A delivery to these recipients begins.
    pub fn check_due(&self, id: u64, recipients: &[u32]) {
        let Some(message) = self.messages.get(&id) else { return };
        let id = QueueId(id);
        assert!(!message.refused, "message {id} was refused and is delivered");
        assert!(self.lenient || !message.orders.deleted, "message {id} was deleted and is delivered");
        assert!(self.lenient || !message.orders.bound, "message {id} is on hold and is delivered");
        for &index in recipients {
            let recipient = &message.recipients[index as usize];
            assert!(self.lenient || !recipient.recorded, "message {id}, recipient {index} is done and delivered again");
        }
    }

    /// The next server has taken it for a recipient.
    pub fn taken(&mut self, id: u64, index: u32, content: &[u8]) {
        match self.messages.get_mut(&id) {
            Some(message) => {
                let recipient = &mut message.recipients[index as usize];
                self.duplicates += u64::from(recipient.taken > 0);
                recipient.taken += 1;
            }
            None => {
                let doomed = |message: &Message| message.recipients.iter().any(|recipient| recipient.doomed);
                for (&about, _) in self.messages.iter().filter(|(_, message)| doomed(message)) {
                    let name = QueueId(about).to_string();
                    if memchr::memmem::find(content, name.as_bytes()).is_some() {
                        self.told.insert(about);
                    }
                }
            }
        }
    }

    /// An operator orders it now; returns what [`Ledger::obeyed`] is to be told.
    pub fn ordered(&mut self, id: u64, what: What) -> u64 {
        let Some(message) = self.messages.get_mut(&id) else { return 0 };
        match what {
            What::Delete => message.orders.may_be_deleted = true,
            // The sender is told, or it stays queued.
            What::Return => message.recipients.iter_mut().for_each(|recipient| recipient.doomed = true),
            What::Order(Order::Release | Order::Requeue) => {
                (message.orders.held, message.orders.bound) = (false, false);
                message.orders.ends += 1;
            }
            What::Order(Order::Hold) | What::Flush => {}
        }
        message.orders.ends
    }

    /// It is durable, for so many recipients. Another order may have come meanwhile.
    pub fn obeyed(&mut self, id: u64, what: What, recipients: usize, ends: u64) {
        self.orders += 1;
        let line = event(Level::Info, "simulated: an order is durable").field("queue_id", QueueId(id));
        line.field("order", format_args!("{what:?}")).field("recipients", recipients).emit();
        let Some(message) = self.messages.get_mut(&id) else { return };
        match what {
            What::Delete => message.orders.deleted |= recipients == message.recipients.len(),
            What::Return if recipients > 0 => {
                message.orders.deleted |= recipients == message.recipients.len();
                self.failed.insert(id);
            }
            What::Order(Order::Hold) => message.orders.held |= ends == message.orders.ends,
            What::Return | What::Order(Order::Release | Order::Requeue) | What::Flush => {}
        }
    }

    /// A start has read what was durable: it binds.
    pub fn orders_were_read(&mut self) {
        self.messages.values_mut().for_each(|message| message.orders.bound = message.orders.held);
    }

    /// Is it a client's, and no notification?
    pub fn knows(&self, id: u64) -> bool {
        self.messages.contains_key(&id)
    }

    /// These outcomes are durable.
    pub fn recorded(&mut self, matter: &Matter<Location>) {
        match matter {
            Matter::Delivered(delivered, _) => {
                for Delivered { id, recipient, .. } in delivered {
                    self.done(*id, *recipient, false);
                }
            }
            Matter::Told(Told { id, verdicts, .. }) => {
                for verdict in verdicts {
                    match verdict.action {
                        Action::Delayed => {}
                        Action::Failed | Action::Expired => self.done(*id, verdict.recipient, true),
                        Action::Relayed | Action::Delivered => self.done(*id, verdict.recipient, false),
                    }
                }
            }
        }
    }

    fn done(&mut self, id: u64, index: u32, failed: bool) {
        let Some(message) = self.messages.get_mut(&id) else { return };
        let line = event(Level::Info, "simulated: an outcome is durable");
        line.field("queue_id", QueueId(id)).field("recipient", index).field("failed", failed).emit();
        message.recipients[index as usize].recorded = true;
        if failed {
            self.failed.insert(id);
        }
    }

    /// Nothing is queued any more.
    pub fn check_all_is_done(&self) {
        for (id, message) in self.messages.iter().filter(|(_, message)| message.acknowledged) {
            for (index, recipient) in message.recipients.iter().enumerate() {
                let done =
                    message.orders.may_be_deleted || recipient.taken > 0 || recipient.doomed && self.told.contains(id);
                let id = QueueId(*id);
                assert!(done, "message {id} was acknowledged and never delivered to recipient {index}");
            }
        }
        let untold: Vec<_> = self.failed.difference(&self.told).collect();
        assert!(untold.is_empty(), "the senders of {untold:x?} were never told that they failed");
    }
}
