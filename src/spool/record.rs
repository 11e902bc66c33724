//! The record: one message, or outcomes, as it stands in a segment. Format version 1.
//!
//! ```text
//!    0  magic u32 "PREC"     not zero, so that zero-filled space is no record
//!    4  checksum u32         CRC-32C of octets 8 .. 64 + fields
//!    8  salt u64             of the segment's generation, random
//!   16  group u64            groups of a generation are numbered from 1
//!   24  group start u64      offset of the group in the segment, a multiple of 4096
//!   32  index u32            of this record in its group, from 0
//!   36  last u32             index of the last record of the group
//!   40  queue id u64
//!   48  fields length u32    octets
//!   52  content length u32   octets
//!   56  content checksum u32 CRC-32C of the content
//!   60  kind u8              bit 0: has recipients, a message; bit 1: the content is in a spill file
//!   61  zero, 3 octets
//!   64  fields               the envelope in stored form (smtp::envelope), opaque here
//!       content              dots unstuffed, lines as accepted
//!       zeros                to a multiple of 8
//! ```
//!
//! Numbers are little-endian. Everything before the fields is fixed for version 1; what comes later goes into the fields.
//!
//! Promises: a record is believed only if its salt is that of the segment's present generation and both checksums hold.
//! Recycled space holds old records, with other salts; a body may hold anything, but whoever wrote it did not know the
//! salt. The place (group, group start, index) is checked by whoever reads on from one record to the next.

use super::QueueId;

/// Octets before the fields.
pub const HEAD_BYTES: usize = 64;
/// Records start at multiples of this many octets within a group.
pub const ALIGNMENT: usize = 8;
/// Where the salt stands in a record.
pub const SALT_AT: usize = 8;

/// Kind bit: the record has recipients and counts as a message.
pub const KIND_MESSAGE: u8 = 1;
/// Kind bit: the fields name a spill file.
pub const KIND_SPILLED: u8 = 2;

const MAGIC: u32 = u32::from_le_bytes(*b"PREC");

/// Where in its segment a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of its group, from 1.
    pub group: u64,
    /// Offset of the group in the segment.
    pub group_start: u64,
    /// Index in the group, from 0.
    pub index: u32,
    /// Index of the last record of the group.
    pub last: u32,
}

/// The fixed part of a record, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Where it stands.
    pub place: Place,
    /// The message.
    pub id: QueueId,
    /// Bits `KIND_*`.
    pub kind: u8,
    /// Octets of fields.
    pub fields_bytes: usize,
    /// Octets of content.
    pub content_bytes: usize,
    content_checksum: u32,
}

impl Head {
    /// Octets of the whole record, with padding.
    pub fn record_bytes(&self) -> usize {
        record_bytes(self.fields_bytes, self.content_bytes)
    }

    /// The fields within the record.
    pub fn fields_range(&self) -> std::ops::Range<usize> {
        HEAD_BYTES..HEAD_BYTES + self.fields_bytes
    }

    /// The content within the record.
    pub fn content_range(&self) -> std::ops::Range<usize> {
        self.fields_range().end..self.fields_range().end + self.content_bytes
    }
}

/// What stands at the start of some octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A record whose head and fields, and content if asked for, are what was written.
    Record(Head),
    /// The octets end too early: so many are needed to say more.
    Needs(usize),
    /// No record of this generation, or a damaged one.
    Nothing,
}

/// Octets of a whole record, with padding.
pub fn record_bytes(fields_bytes: usize, content_bytes: usize) -> usize {
    (HEAD_BYTES + fields_bytes + content_bytes).next_multiple_of(ALIGNMENT)
}

/// Appends a record that has no place yet: [`set_place`] must follow. `out` is aligned before and after.
pub fn append(out: &mut Vec<u8>, kind: u8, id: QueueId, fields: &[u8], content: &[u8]) {
    let fields_bytes = u32::try_from(fields.len()).expect("the caller has bounded the record");
    let content_bytes = u32::try_from(content.len()).expect("the caller has bounded the record");
    out.reserve(record_bytes(fields.len(), content.len()));
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&[0; 36]);
    out.extend_from_slice(&id.0.to_le_bytes());
    out.extend_from_slice(&fields_bytes.to_le_bytes());
    out.extend_from_slice(&content_bytes.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(content).to_le_bytes());
    out.extend_from_slice(&[kind, 0, 0, 0]);
    out.extend_from_slice(fields);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

/// Gives an appended record its place and its checksum.
pub fn set_place(record: &mut [u8], salt: u64, place: Place) {
    record[8..16].copy_from_slice(&salt.to_le_bytes());
    record[16..24].copy_from_slice(&place.group.to_le_bytes());
    record[24..32].copy_from_slice(&place.group_start.to_le_bytes());
    record[32..36].copy_from_slice(&place.index.to_le_bytes());
    record[36..40].copy_from_slice(&place.last.to_le_bytes());
    let checked = HEAD_BYTES + u32_at(record, 48) as usize;
    let checksum = crc32c::crc32c(&record[8..checked]);
    record[4..8].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads the record that starts at `bytes[0]`. `room` is how many octets it may have at most: to the end of what is
/// durable. With `with_content` the content's checksum is verified too; otherwise only head and fields need be there.
pub fn parse(bytes: &[u8], salt: u64, room: u64, with_content: bool) -> Found {
    if room < HEAD_BYTES as u64 {
        return Found::Nothing;
    }
    if bytes.len() < HEAD_BYTES {
        return Found::Needs(HEAD_BYTES);
    }
    if u32_at(bytes, 0) != MAGIC || u64_at(bytes, SALT_AT) != salt {
        return Found::Nothing;
    }
    let head = Head {
        place: Place {
            group: u64_at(bytes, 16),
            group_start: u64_at(bytes, 24),
            index: u32_at(bytes, 32),
            last: u32_at(bytes, 36),
        },
        id: QueueId(u64_at(bytes, 40)),
        kind: bytes[60],
        fields_bytes: u32_at(bytes, 48) as usize,
        content_bytes: u32_at(bytes, 52) as usize,
        content_checksum: u32_at(bytes, 56),
    };
    if head.record_bytes() as u64 > room {
        return Found::Nothing;
    }
    let needed = if with_content { head.content_range().end } else { head.fields_range().end };
    if bytes.len() < needed {
        return Found::Needs(needed);
    }
    let whole = crc32c::crc32c(&bytes[8..head.fields_range().end]) == u32_at(bytes, 4)
        && (!with_content || crc32c::crc32c(&bytes[head.content_range()]) == head.content_checksum);
    if whole { Found::Record(head) } else { Found::Nothing }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four octets"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight octets"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 0x1122_3344_5566_7788;
    const PLACE: Place = Place { group: 3, group_start: 8192, index: 1, last: 4 };

    fn sample() -> Vec<u8> {
        let mut out = Vec::new();
        append(&mut out, KIND_MESSAGE, QueueId(77), b"the fields", b"Subject: x\r\n\r\nbody\r\n");
        set_place(&mut out, SALT, PLACE);
        out
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = sample();
        let Found::Record(head) = parse(&bytes, SALT, 1000, true) else { panic!("not read") };
        assert_eq!(head.place, PLACE);
        assert_eq!((head.id, head.kind), (QueueId(77), KIND_MESSAGE));
        assert_eq!(&bytes[head.fields_range()], b"the fields");
        assert_eq!(&bytes[head.content_range()], b"Subject: x\r\n\r\nbody\r\n");
        assert_eq!(head.record_bytes(), bytes.len());
    }

    #[test]
    fn every_flipped_bit_is_noticed_but_in_the_padding() {
        let whole = sample();
        let used = HEAD_BYTES + 10 + 20;
        for bit in 0..used * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let found = parse(&bytes, SALT, bytes.len() as u64, true);
            assert!(!matches!(found, Found::Record(_)), "bit {bit}: {found:?}");
        }
    }

    #[test]
    fn every_cut_asks_for_more_and_is_no_record() {
        let whole = sample();
        for end in 0..HEAD_BYTES + 30 {
            let Found::Needs(bytes) = parse(&whole[..end], SALT, 1000, true) else { panic!("cut at {end}") };
            assert!(bytes > end && bytes <= whole.len());
        }
    }

    #[test]
    fn another_generations_record_and_one_without_room_are_nothing() {
        let whole = sample();
        assert_eq!(parse(&whole, SALT + 1, 1000, true), Found::Nothing);
        assert_eq!(parse(&whole, SALT, whole.len() as u64 - 1, true), Found::Nothing);
        assert_eq!(parse(&[0; 200], SALT, 200, true), Found::Nothing);
    }

    #[test]
    fn without_content_only_head_and_fields_are_verified() {
        let mut bytes = sample();
        bytes[HEAD_BYTES + 12] ^= 1;
        assert!(matches!(parse(&bytes[..HEAD_BYTES + 10], SALT, 1000, false), Found::Record(_)));
        assert_eq!(parse(&bytes, SALT, 1000, true), Found::Nothing);
    }
}
