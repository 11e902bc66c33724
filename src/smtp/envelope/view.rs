//! A stored envelope, read: [`View`], and the values in it that have a form of their own.
//!
//! Promises: [`View::parse`] accepts whatever [`Envelope`] wrote, never panics on anything else, and names the damage.

use super::{Damage, Envelope, Fields, Tag};
use crate::smtp::parameter::Hold;

/// One recipient of a stored envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipient<'a> {
    /// The forward-path without its angle brackets, as given.
    pub path: &'a [u8],
    /// NOTIFY, as given.
    pub notify: Option<&'a [u8]>,
    /// ORCPT, as given.
    pub orcpt: Option<&'a [u8]>,
}

/// Where the content of a spilled message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpillReference {
    /// Number of the spill file.
    pub file: u64,
    /// Content length in octets.
    pub length: u64,
    /// The file's generation: a reused file with another one is not this message's.
    pub generation: u64,
    /// CRC-32C of the content.
    pub checksum: u32,
}

impl SpillReference {
    /// Appends the stored form.
    pub fn push_to(&self, envelope: &mut Envelope) {
        envelope.push_with(Tag::Spilled, |out| {
            out.extend_from_slice(&self.file.to_le_bytes());
            out.extend_from_slice(&self.length.to_le_bytes());
            out.extend_from_slice(&self.generation.to_le_bytes());
            out.extend_from_slice(&self.checksum.to_le_bytes());
        });
    }

    fn parse(value: &[u8]) -> Option<SpillReference> {
        if value.len() != 28 {
            return None;
        }
        Some(SpillReference {
            file: number(&value[..8])?,
            length: number(&value[8..16])?,
            generation: number(&value[16..24])?,
            checksum: u32::from_le_bytes(value[24..].try_into().ok()?),
        })
    }
}

/// What became of one recipient. Stored as a u8, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fate {
    /// The next hop took it.
    Delivered = 1,
    /// Given up, and the sender was told, or must not be told.
    Failed = 2,
    /// The operator took it out of the queue; nobody was told.
    Deleted = 3,
}

/// The fate of one recipient of a message, stored in a relay's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The message.
    pub queue_id: u64,
    /// Index of the recipient in the message's envelope, from 0.
    pub recipient: u32,
    /// What became of it.
    pub fate: Fate,
    /// The next hop's reply or our reason, for the trace.
    pub text: &'a [u8],
}

impl<'a> Outcome<'a> {
    /// Appends the stored form.
    pub fn push_to(&self, envelope: &mut Envelope) {
        envelope.push_with(Tag::Outcome, |out| {
            out.extend_from_slice(&self.queue_id.to_le_bytes());
            out.extend_from_slice(&self.recipient.to_le_bytes());
            out.push(self.fate as u8);
            out.extend_from_slice(self.text);
        });
    }

    fn parse(value: &'a [u8]) -> Option<Outcome<'a>> {
        let (head, text) = value.split_at_checked(13)?;
        let fate = match head[12] {
            1 => Fate::Delivered,
            2 => Fate::Failed,
            3 => Fate::Deleted,
            _ => return None,
        };
        let recipient = u32::from_le_bytes(head[8..12].try_into().ok()?);
        Some(Outcome { queue_id: number(&head[..8])?, recipient, fate, text })
    }
}

/// What a relay's record keeps of recipients that wait: they stand for all that were tried together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deferred {
    /// The message.
    pub queue_id: u64,
    /// Index of the first of them in the message's envelope, from 0.
    pub recipient: u32,
    /// Transactions that were tried.
    pub attempts: u16,
    /// The next try, milliseconds since the Unix epoch.
    pub next_ms: u64,
}

impl Deferred {
    /// Appends the stored form.
    pub fn push_to(&self, envelope: &mut Envelope) {
        envelope.push_with(Tag::Deferred, |out| {
            out.extend_from_slice(&self.queue_id.to_le_bytes());
            out.extend_from_slice(&self.recipient.to_le_bytes());
            out.extend_from_slice(&self.attempts.to_le_bytes());
            out.extend_from_slice(&self.next_ms.to_le_bytes());
        });
    }

    fn parse(value: &[u8]) -> Option<Deferred> {
        if value.len() != 22 {
            return None;
        }
        let recipient = u32::from_le_bytes(value[8..12].try_into().ok()?);
        let attempts = u16::from_le_bytes(value[12..14].try_into().ok()?);
        Some(Deferred { queue_id: number(&value[..8])?, recipient, attempts, next_ms: number(&value[14..])? })
    }
}

/// What an operator has ordered of a message as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Nothing more is begun.
    Hold,
    /// It goes on; the time for which it was held does not count.
    Release,
    /// It is tried at once, and its time counts from then.
    Requeue,
}

/// An operator's order about a message, stored in a relay's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Act {
    /// What.
    pub order: Order,
    /// The message.
    pub queue_id: u64,
    /// When it was given, milliseconds since the Unix epoch.
    pub at_ms: u64,
}

impl Act {
    /// Appends the stored form.
    pub fn push_to(&self, envelope: &mut Envelope) {
        let tag = match self.order {
            Order::Hold => Tag::Hold,
            Order::Release => Tag::Release,
            Order::Requeue => Tag::Requeue,
        };
        envelope.push_with(tag, |out| {
            out.extend_from_slice(&self.queue_id.to_le_bytes());
            out.extend_from_slice(&self.at_ms.to_le_bytes());
        });
    }

    fn parse(order: Order, value: &[u8]) -> Option<Act> {
        let (queue_id, at_ms) = value.split_at_checked(8)?;
        Some(Act { order, queue_id: number(queue_id)?, at_ms: number(at_ms)? })
    }
}

/// A stored envelope, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View<'a> {
    /// Milliseconds since the Unix epoch.
    pub arrival_ms: u64,
    /// Name of the listener.
    pub listener: &'a [u8],
    /// The client's address and port.
    pub peer: &'a [u8],
    /// EHLO or HELO argument.
    pub helo: &'a [u8],
    /// The authenticated user.
    pub user: Option<&'a [u8]>,
    /// TLS version and cipher suite.
    pub tls: Option<&'a [u8]>,
    /// Without angle brackets; empty for `<>`.
    pub reverse_path: &'a [u8],
    /// 0 = 7BIT, 1 = 8BITMIME, 2 = BINARYMIME.
    pub body: u8,
    /// SMTPUTF8 was asked for.
    pub smtputf8: bool,
    /// REQUIRETLS was asked for.
    pub require_tls: bool,
    /// 0 = FULL, 1 = HDRS.
    pub ret: Option<u8>,
    /// ENVID.
    pub envid: Option<&'a [u8]>,
    /// AUTH= of MAIL.
    pub auth: Option<&'a [u8]>,
    /// Milliseconds since the Unix epoch.
    pub hold_until_ms: Option<u64>,
    /// What was asked for by HOLDFOR or HOLDUNTIL.
    pub hold: Option<Hold>,
    /// In the order of their RCPT commands.
    pub recipients: Vec<Recipient<'a>>,
    /// Header fields that stand before the content.
    pub prepended: &'a [u8],
    /// Ranges of the content not to be sent, in octets: start, end.
    pub removed: Vec<(u64, u64)>,
    /// Where the content is, if it is not in the record.
    pub spilled: Option<SpillReference>,
    /// The content holds an octet above 127; None: nobody has looked.
    pub eight_bit: Option<bool>,
    /// A line of the content has more than 998 octets; None: nobody has looked.
    pub long_line: Option<bool>,
    /// `TLS-Required: No`.
    pub tls_optional: bool,
    /// Fates of recipients of other messages.
    pub outcomes: Vec<Outcome<'a>>,
    /// Queue ids of other messages whose senders know that they are late.
    pub warned: Vec<u64>,
    /// Moved here from another segment.
    pub survivor: bool,
    /// How often recipients of other messages have been tried.
    pub deferred: Vec<Deferred>,
    /// An operator's orders, in the order in which they were given.
    pub acts: Vec<Act>,
}

impl<'a> View<'a> {
    /// Reads stored fields. Errors: [`Damage`].
    pub fn parse(stored: &'a [u8]) -> Result<View<'a>, Damage> {
        let mut view = View::default();
        for field in Fields::new(stored) {
            let (tag, value) = field?;
            view.take(tag, value).ok_or(Damage::BadValue(tag))?;
        }
        Ok(view)
    }

    fn take(&mut self, tag: Tag, value: &'a [u8]) -> Option<()> {
        match tag {
            Tag::Arrival => self.arrival_ms = number(value)?,
            Tag::Listener => self.listener = value,
            Tag::Peer => self.peer = value,
            Tag::Helo => self.helo = value,
            Tag::User => self.user = Some(value),
            Tag::Tls => self.tls = Some(value),
            Tag::ReversePath => self.reverse_path = value,
            Tag::Body => self.body = octet(value)?,
            Tag::SmtpUtf8 => self.smtputf8 = true,
            Tag::RequireTls => self.require_tls = true,
            Tag::Ret => self.ret = Some(octet(value)?),
            Tag::Envid => self.envid = Some(value),
            Tag::Auth => self.auth = Some(value),
            Tag::HoldUntil => self.hold_until_ms = Some(number(value)?),
            Tag::Recipient => self.recipients.push(Recipient { path: value, ..Recipient::default() }),
            Tag::Notify => self.recipients.last_mut()?.notify = Some(value),
            Tag::Orcpt => self.recipients.last_mut()?.orcpt = Some(value),
            Tag::Prepended => self.prepended = value,
            Tag::RemovedRange => self.removed.push((number(value.get(..8)?)?, number(value.get(8..)?)?)),
            Tag::Spilled => self.spilled = Some(SpillReference::parse(value)?),
            Tag::EightBit => self.eight_bit = Some(octet(value)? != 0),
            Tag::LongLine => self.long_line = Some(octet(value)? != 0),
            Tag::TlsOptional => self.tls_optional = true,
            Tag::HoldRequest => self.hold = Some(hold(value)?),
            Tag::Outcome => self.outcomes.push(Outcome::parse(value)?),
            Tag::Warned => self.warned.push(number(value)?),
            Tag::Survivor => self.survivor = true,
            Tag::Deferred => self.deferred.push(Deferred::parse(value)?),
            Tag::Hold => self.acts.push(Act::parse(Order::Hold, value)?),
            Tag::Release => self.acts.push(Act::parse(Order::Release, value)?),
            Tag::Requeue => self.acts.push(Act::parse(Order::Requeue, value)?),
        }
        Some(())
    }
}

fn number(value: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(value.try_into().ok()?))
}

/// The value of [`Tag::HoldRequest`].
pub fn push_hold(hold: Hold, value: &mut Vec<u8>) {
    let (kind, seconds) = match hold {
        Hold::For(seconds) => (0, seconds.into()),
        Hold::Until(epoch_s) => (1, epoch_s),
    };
    value.push(kind);
    value.extend_from_slice(&u64::to_le_bytes(seconds));
}

fn hold(value: &[u8]) -> Option<Hold> {
    let (kind, seconds) = value.split_first()?;
    match kind {
        0 => Some(Hold::For(u32::try_from(number(seconds)?).ok()?)),
        1 => Some(Hold::Until(number(seconds)?)),
        _ => None,
    }
}

fn octet(value: &[u8]) -> Option<u8> {
    match value {
        [octet] => Some(*octet),
        _ => None,
    }
}
