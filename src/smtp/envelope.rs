//! The envelope: all that is known of a message besides its content, in the form in which it is stored.
//!
//! A session appends fields as commands arrive and the spool writes these very bytes into the record, so that nothing
//! is converted or allocated on the way. A field is
//!
//! ```text
//!  0        2                 6
//!  +--------+-----------------+------------------ - -
//!  | tag u16| length u32      | length bytes
//!  +--------+-----------------+------------------ - -
//! ```
//!
//! little-endian, without padding. Bit 15 of the tag means "must understand": a reader that meets an unknown tag with
//! that bit holds the message and says so; an unknown tag without it is skipped. Fields after a [`Tag::Recipient`] and
//! before the next one belong to that recipient if their tag is a recipient's ([`Tag::Notify`], [`Tag::Orcpt`]).
//!
//! What was stored is read through [`View`].

mod view;

pub use view::{Act, Deferred, Fate, Order, Outcome, Recipient, SpillReference, View, push_hold};

use std::collections::HashSet;

/// Bit 15 of a stored tag: a reader that does not know the tag must not deliver the message.
pub const MUST_UNDERSTAND: u16 = 0x8000;

/// Memory that an empty envelope keeps, octets.
const KEPT_BYTES: usize = 2048;

/// What a field holds. The numbers are the stored ones, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Tag {
    /// Arrival time, u64: milliseconds since the Unix epoch.
    Arrival = 0x0001,
    /// Name of the listener, text.
    Listener = 0x0002,
    /// The client's address and port, text.
    Peer = 0x0003,
    /// What the client said in EHLO or HELO, as given.
    Helo = 0x0004,
    /// The authenticated user, canonical form.
    User = 0x0005,
    /// TLS version and cipher suite, text; absent in the clear.
    Tls = 0x0006,
    /// The reverse-path without its angle brackets; empty for `<>`. RFC 5321 section 4.1.1.2.
    ReversePath = 0x8007,
    /// u8: 0 = 7BIT, 1 = 8BITMIME, 2 = BINARYMIME. RFC 6152, RFC 3030.
    Body = 0x8008,
    /// No value: SMTPUTF8 was asked for. RFC 6531.
    SmtpUtf8 = 0x8009,
    /// No value: REQUIRETLS was asked for. RFC 8689.
    RequireTls = 0x800a,
    /// u8: 0 = FULL, 1 = HDRS. RFC 3461.
    Ret = 0x000b,
    /// ENVID, xtext as given. RFC 3461.
    Envid = 0x000c,
    /// The AUTH parameter of MAIL, xtext as given. RFC 4954 section 5.
    Auth = 0x000d,
    /// u64: not before this many milliseconds since the Unix epoch. RFC 4865.
    HoldUntil = 0x800e,
    /// A forward-path without its angle brackets. One field a recipient.
    Recipient = 0x8010,
    /// NOTIFY of the recipient before it, as given. RFC 3461.
    Notify = 0x0011,
    /// ORCPT of the recipient before it, as given. RFC 3461.
    Orcpt = 0x0012,
    /// Whole header fields, with their CRLF, that stand before the content.
    Prepended = 0x8020,
    /// Two u64: start and end of a range of the content that is not to be sent.
    RemovedRange = 0x8021,
    /// The content is in a spill file: file number u64, length u64, generation u64, CRC-32C u32.
    Spilled = 0x8022,
    /// u8: 1 if the content holds an octet above 127, 0 if not. Without it nobody has looked.
    EightBit = 0x0023,
    /// u8: 1 if a line of the content has more than 998 octets, 0 if not. Without it nobody has looked.
    LongLine = 0x0024,
    /// No value: the header says `TLS-Required: No`. RFC 8689 section 3.
    TlsOptional = 0x0025,
    /// What was asked for by HOLDFOR or HOLDUNTIL: u8 0 and u64 seconds, or u8 1 and u64 seconds since the Unix epoch. RFC 4865.
    HoldRequest = 0x0026,
    /// The fate of one recipient of another message: queue id u64, recipient index u32, status u8, then text.
    Outcome = 0x8030,
    /// Queue id u64 of a message whose sender has been told that it is late. A reader that does not know this tells the
    /// sender once more or not at all; the recipients are not settled by it.
    Warned = 0x0031,
    /// No value: the record was moved here from another segment. It holds what was recorded of its message until then, as
    /// outcomes and warnings about itself. A reader that does not know this may deliver the message twice after a crash.
    Survivor = 0x0033,
    /// How often recipients of a message have been tried, and when they are next: queue id u64, recipient index u32, attempts
    /// u16, milliseconds since the Unix epoch u64. A reader that does not know this tries them at once, as if new.
    Deferred = 0x0034,
    /// The operator holds a message: its queue id u64, then u64 milliseconds since the Unix epoch. A reader that does not know
    /// the operator's tags delivers the message, or waits for its next try, as if nothing had been said.
    Hold = 0x0040,
    /// The operator lets a message go that was held: as [`Tag::Hold`].
    Release = 0x0041,
    /// A message's time counts from that moment on, and it is tried at once: as [`Tag::Hold`].
    Requeue = 0x0042,
}

impl Tag {
    const ALL: [Tag; 30] = [
        Tag::Arrival,
        Tag::Listener,
        Tag::Peer,
        Tag::Helo,
        Tag::User,
        Tag::Tls,
        Tag::ReversePath,
        Tag::Body,
        Tag::SmtpUtf8,
        Tag::RequireTls,
        Tag::Ret,
        Tag::Envid,
        Tag::Auth,
        Tag::HoldUntil,
        Tag::Recipient,
        Tag::Notify,
        Tag::Orcpt,
        Tag::Prepended,
        Tag::RemovedRange,
        Tag::Spilled,
        Tag::EightBit,
        Tag::LongLine,
        Tag::TlsOptional,
        Tag::HoldRequest,
        Tag::Warned,
        Tag::Survivor,
        Tag::Deferred,
        Tag::Hold,
        Tag::Release,
        Tag::Requeue,
    ];

    fn from_stored(stored: u16) -> Option<Tag> {
        if stored == Tag::Outcome as u16 {
            return Some(Tag::Outcome);
        }
        Tag::ALL.into_iter().find(|&tag| tag as u16 == stored)
    }
}

/// An envelope being put together, in stored form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    fields: Vec<u8>,
    recipients: u32,
}

impl Envelope {
    /// From stored fields, to be added to. Errors: [`Damage`].
    pub fn from_stored(fields: &[u8]) -> Result<Envelope, Damage> {
        let recipients = View::parse(fields)?.recipients.len() as u32;
        Ok(Envelope { fields: fields.to_vec(), recipients })
    }

    /// From fields that nobody has looked at, as a newer version may have written them.
    #[cfg(test)]
    pub fn unchecked(fields: Vec<u8>) -> Envelope {
        Envelope { fields, recipients: 1 }
    }

    /// Appends a field.
    pub fn push(&mut self, tag: Tag, value: &[u8]) {
        let length = u32::try_from(value.len()).expect("a field is shorter than 4 GiB");
        self.fields.extend_from_slice(&(tag as u16).to_le_bytes());
        self.fields.extend_from_slice(&length.to_le_bytes());
        self.fields.extend_from_slice(value);
        if tag == Tag::Recipient {
            self.recipients += 1;
        }
    }

    /// Appends a field that is put together from parts, without copying it first.
    pub fn push_with(&mut self, tag: Tag, value: impl FnOnce(&mut Vec<u8>)) {
        self.push(tag, b"");
        let start = self.fields.len();
        value(&mut self.fields);
        let length = u32::try_from(self.fields.len() - start).expect("a field is shorter than 4 GiB");
        self.fields[start - 4..start].copy_from_slice(&length.to_le_bytes());
    }

    /// How far it has been put together.
    pub fn mark(&self) -> Mark {
        Mark { fields: self.fields.len(), recipients: self.recipients }
    }

    /// The path of the first recipient that was appended since; empty if there was none.
    pub fn recipient_since(&self, mark: Mark) -> &[u8] {
        let mut fields = Fields::new(&self.fields[mark.fields..]).flatten();
        fields.find(|(tag, _)| *tag == Tag::Recipient).map_or(b"", |(_, value)| value)
    }

    /// Takes back what was appended since.
    pub fn return_to(&mut self, mark: Mark) {
        self.fields.truncate(mark.fields);
        self.recipients = mark.recipients;
    }

    /// Leaves one of recipients that are alike to the octet, parameters included: they would get the same message twice.
    pub fn merge_duplicates(&mut self) {
        if self.recipients < 2 {
            return;
        }
        let mut seen = HashSet::new();
        let mut duplicates = Vec::new();
        for (start, end) in Recipients::new(&self.fields) {
            if !seen.insert(&self.fields[start..end]) {
                duplicates.push((start, end));
            }
        }
        let Some(&(mut to, _)) = duplicates.first() else { return };
        // Each octet moves once, however many gaps there are before it.
        let next = duplicates.iter().skip(1).map(|(start, _)| *start).chain([self.fields.len()]);
        for ((_, from), until) in duplicates.iter().zip(next) {
            self.fields.copy_within(*from..until, to);
            to += until - from;
        }
        self.fields.truncate(to);
        self.recipients -= duplicates.len() as u32;
    }

    /// Recipients so far.
    pub fn recipients(&self) -> u32 {
        self.recipients
    }

    /// The path of the recipient, if there is only one.
    pub fn only_recipient(&self) -> Option<&[u8]> {
        self.first(Tag::Recipient).filter(|_| self.recipients == 1)
    }

    /// The reverse-path; empty for `<>`, and before MAIL.
    pub fn reverse_path(&self) -> &[u8] {
        self.first(Tag::ReversePath).unwrap_or_default()
    }

    fn first(&self, tag: Tag) -> Option<&[u8]> {
        Fields::new(&self.fields).flatten().find(|(found, _)| *found == tag).map(|(_, value)| value)
    }

    /// The fields in stored form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.fields
    }

    /// Octets of memory that it holds beyond what an empty one keeps.
    pub fn memory_bytes(&self) -> usize {
        self.fields.capacity().saturating_sub(KEPT_BYTES)
    }

    /// Empties the envelope and keeps its memory, unless that is much: most sessions are idle.
    pub fn clear(&mut self) {
        self.fields.clear();
        self.fields.shrink_to(KEPT_BYTES);
        self.recipients = 0;
    }
}

/// How far an envelope had been put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Octets of fields: never in the middle of one.
    fields: usize,
    recipients: u32,
}

/// Why stored bytes are no envelope that this version may deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A field runs past the end.
    Truncated,
    /// A value has the wrong length or no meaning.
    BadValue(Tag),
    /// An unknown tag that must be understood: written by a newer version. Hold the message.
    NotUnderstood(u16),
}

/// The fields of stored bytes, in order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Reads `stored`.
    pub fn new(stored: &'a [u8]) -> Fields<'a> {
        Fields { rest: stored }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(Tag, &'a [u8]), Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let Some((head, rest)) = self.rest.split_at_checked(6) else {
                self.rest = b"";
                return Some(Err(Damage::Truncated));
            };
            let stored = u16::from_le_bytes([head[0], head[1]]);
            let length = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
            let Some((value, rest)) = rest.split_at_checked(length) else {
                self.rest = b"";
                return Some(Err(Damage::Truncated));
            };
            self.rest = rest;
            match Tag::from_stored(stored) {
                Some(tag) => return Some(Ok((tag, value))),
                None if stored & MUST_UNDERSTAND != 0 => return Some(Err(Damage::NotUnderstood(stored))),
                None => {}
            }
        }
    }
}

/// Where each recipient stands in stored fields, with what belongs to it: start and end.
struct Recipients<'a> {
    fields: &'a [u8],
    at: usize,
}

impl<'a> Recipients<'a> {
    fn new(fields: &'a [u8]) -> Recipients<'a> {
        Recipients { fields, at: 0 }
    }

    /// The field at `at`, and its end.
    fn field(&self, at: usize) -> Option<(u16, usize)> {
        let head = self.fields.get(at..at + 6)?;
        let length = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
        Some((u16::from_le_bytes([head[0], head[1]]), at + 6 + length))
    }
}

impl Iterator for Recipients<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        loop {
            let start = self.at;
            let (tag, end) = self.field(start)?;
            self.at = end;
            if tag != Tag::Recipient as u16 {
                continue;
            }
            while let Some((tag, end)) = self.field(self.at)
                && (tag == Tag::Notify as u16 || tag == Tag::Orcpt as u16)
            {
                self.at = end;
            }
            return Some((start, self.at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Envelope {
        let mut envelope = Envelope::default();
        envelope.push(Tag::Arrival, &7u64.to_le_bytes());
        envelope.push(Tag::Peer, b"192.0.2.1:4711");
        envelope.push(Tag::ReversePath, b"anna@example.edu");
        envelope.push(Tag::Body, &[1]);
        envelope.push(Tag::Recipient, b"ben@example.edu");
        envelope.push(Tag::Notify, b"NEVER");
        envelope.push(Tag::Recipient, b"cleo@example.org");
        envelope.push(Tag::EightBit, &[1]);
        envelope.push(Tag::LongLine, &[0]);
        envelope.push(Tag::TlsOptional, b"");
        envelope.push(Tag::Warned, &11u64.to_le_bytes());
        Deferred { queue_id: 12, recipient: 1, attempts: 4, next_ms: 5 }.push_to(&mut envelope);
        Act { order: Order::Hold, queue_id: 12, at_ms: 13 }.push_to(&mut envelope);
        Act { order: Order::Requeue, queue_id: 14, at_ms: 15 }.push_to(&mut envelope);
        Outcome { queue_id: 9, recipient: 1, fate: Fate::Failed, text: b"550 no" }.push_to(&mut envelope);
        SpillReference { file: 1, length: 2, generation: 3, checksum: 4 }.push_to(&mut envelope);
        envelope
    }

    #[test]
    fn what_was_written_is_read() {
        let envelope = sample();
        let view = View::parse(envelope.as_bytes()).expect("whole");
        assert_eq!(view.arrival_ms, 7);
        assert_eq!(view.reverse_path, b"anna@example.edu");
        assert_eq!(view.body, 1);
        assert_eq!(view.recipients.len(), 2);
        assert_eq!(view.recipients[0].notify, Some(&b"NEVER"[..]));
        assert_eq!(view.recipients[1].path, b"cleo@example.org");
        assert_eq!(view.outcomes[0].text, b"550 no");
        let acts = [(Order::Hold, 12, 13), (Order::Requeue, 14, 15)];
        assert_eq!(view.acts, acts.map(|(order, queue_id, at_ms)| Act { order, queue_id, at_ms }));
        assert_eq!((view.tls_optional, &view.warned[..]), (true, &[11][..]));
        assert_eq!(view.deferred, [Deferred { queue_id: 12, recipient: 1, attempts: 4, next_ms: 5 }]);
        assert_eq!((view.eight_bit, view.long_line), (Some(true), Some(false)));
        assert_eq!(view.spilled, Some(SpillReference { file: 1, length: 2, generation: 3, checksum: 4 }));
        assert_eq!((envelope.recipients(), envelope.only_recipient()), (2, None));
    }

    #[test]
    fn every_cut_is_read_or_named_and_never_panics() {
        let envelope = sample();
        for end in 0..envelope.as_bytes().len() {
            let _ = View::parse(&envelope.as_bytes()[..end]);
        }
    }

    #[test]
    fn an_unknown_field_is_skipped_unless_it_must_be_understood() {
        let mut stored = sample().as_bytes().to_vec();
        stored.extend_from_slice(&[0x77, 0x00, 1, 0, 0, 0, 9]);
        assert!(View::parse(&stored).is_ok());
        stored.extend_from_slice(&[0x77, 0x80, 1, 0, 0, 0, 9]);
        assert_eq!(View::parse(&stored), Err(Damage::NotUnderstood(0x8077)));
    }

    #[test]
    fn what_was_appended_is_taken_back() {
        let mut envelope = sample();
        let mark = envelope.mark();
        envelope.push(Tag::Recipient, b"dan@example.org");
        envelope.push(Tag::Notify, b"NEVER");
        envelope.return_to(mark);
        assert_eq!(envelope, sample());
    }

    #[test]
    fn recipients_that_are_alike_are_one() {
        let mut envelope = Envelope::default();
        envelope.push(Tag::ReversePath, b"anna@example.edu");
        for (path, notify) in
            [("a", ""), ("b", "NEVER"), ("a", ""), ("b", "FAILURE"), ("b", "NEVER"), ("A", ""), ("a", "")]
        {
            envelope.push(Tag::Recipient, path.as_bytes());
            if !notify.is_empty() {
                envelope.push(Tag::Notify, notify.as_bytes());
            }
        }
        envelope.push(Tag::EightBit, &[1]);
        envelope.merge_duplicates();
        let view = View::parse(envelope.as_bytes()).expect("whole");
        let left: Vec<_> = view.recipients.iter().map(|to| (to.path, to.notify)).collect();
        let expected: [(&[u8], Option<&[u8]>); 4] =
            [(b"a", None), (b"b", Some(b"NEVER")), (b"b", Some(b"FAILURE")), (b"A", None)];
        assert_eq!(left, expected);
        assert_eq!((envelope.recipients(), view.eight_bit), (4, Some(true)));
    }

    proptest! {
        #[test]
        fn what_is_left_is_the_first_of_each(names in proptest::collection::vec("[a-d]{1,2}", 0..12)) {
            let (mut envelope, mut expected) = (Envelope::default(), Envelope::default());
            let mut first = HashSet::new();
            for name in &names {
                envelope.push(Tag::Recipient, name.as_bytes());
                if first.insert(name) {
                    expected.push(Tag::Recipient, name.as_bytes());
                }
            }
            for envelope in [&mut envelope, &mut expected] {
                envelope.push(Tag::Body, &[0]);
            }
            envelope.merge_duplicates();
            prop_assert_eq!(envelope, expected);
        }
    }

    #[test]
    fn the_only_recipient() {
        let mut envelope = Envelope::default();
        assert_eq!(envelope.only_recipient(), None);
        envelope.push(Tag::ReversePath, b"");
        envelope.push(Tag::Recipient, b"a@b");
        assert_eq!(envelope.only_recipient(), Some(&b"a@b"[..]));
        assert_eq!((envelope.reverse_path(), sample().reverse_path()), (&b""[..], &b"anna@example.edu"[..]));
    }

    #[test]
    fn a_field_put_together_has_its_length() {
        let mut envelope = Envelope::default();
        envelope.push_with(Tag::Prepended, |out| out.extend_from_slice(b"A: b\r\n"));
        assert_eq!(View::parse(envelope.as_bytes()).expect("whole").prepended, b"A: b\r\n");
    }
}
