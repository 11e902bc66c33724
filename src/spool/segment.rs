//! The segment: a preallocated file of fixed size that is written once from start to end, then recycled.
//!
//! ```text
//!     0 +----------------------------+
//!       | header, one block of 4096  |
//!  4096 +----------------------------+
//!       | group 1: records | zeros   |  every group starts at a multiple of 4096 and is written as whole blocks, in
//!       +----------------------------+  one durable write: nothing that is durable is ever written again, and no
//!       | group 2: records           |  page need be read to be written
//!       |          records | zeros   |
//!       +----------------------------+
//!       | zeros, or old generations  |
//!       +----------------------------+ size
//! ```
//!
//! The header, format version 1, stands twice in its block, at 0 and at 2048, so that one lost sector costs nothing:
//!
//! ```text
//!    0  magic "PENSTOCK"
//!    8  version u32          1
//!   12  state u32            1 = free, 2 = active
//!   16  number u32           the file's name
//!   20  writer u32           who writes it, if active
//!   24  generation u64       unique in the spool; a later one has a higher number
//!   32  salt u64             random, not zero
//!   40  size u64             octets of the file
//!   48  created u64          milliseconds since the Unix epoch; 0 in a free header: nobody's mail stands behind it
//!   56  sealed number u32    the writer's segment before this one; generation 0: none
//!   60  closing u32          bit 0: a write into the sealed segment has failed; bit 1: one into this segment has;
//!                            the other bits: this segment's own durable end in blocks, 0 if its successor says it
//!   64  sealed generation u64
//!   72  sealed end u64       its durable end in octets: nothing behind it counts
//!   80  checksum u32         CRC-32C of octets 0 .. 80
//! ```
//!
//! One copy lies within one sector, so it is old or new, never half. When a crash leaves two different ones, the later
//! generation counts, and of the same generation the active one: either choice is right, because no record is written
//! before the header is durable and no outcome is forgotten before the free header is durable.
//!
//! A segment's end stands in its successor's header. If the successor is erased first, the end is written into the
//! segment's own header before; until then either copy will do.

/// Everything in a segment is written in blocks of so many octets.
pub const BLOCK: u64 = 4096;
/// Where the first group starts.
pub const FIRST_GROUP: u64 = BLOCK;

const MAGIC: &[u8; 8] = b"PENSTOCK";
const VERSION: u32 = 1;
const COPY_AT: usize = 2048;
const CHECKED: usize = 80;

/// A segment that is closed at a certain end, by the header of the one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its number.
    pub number: u32,
    /// Its generation.
    pub generation: u64,
    /// Its durable end.
    pub end: End,
}

/// Where a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// In octets; nothing behind it counts.
    pub at: u64,
    /// A write into it has failed: the file is not to be used again.
    pub failed: bool,
}

/// What a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing in it counts: a spare for any writer.
    Free,
    /// It holds records of this writer.
    Active {
        /// Who writes it.
        writer: u32,
        /// The writer's segment before it.
        sealed: Option<Sealed>,
        /// Its own end, if its successor is not there to say it.
        end: Option<End>,
    },
}

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Free or active.
    pub state: State,
    /// The file's number.
    pub number: u32,
    /// Unique in the spool.
    pub generation: u64,
    /// In every record of this generation.
    pub salt: u64,
    /// Octets of the file.
    pub size: u64,
    /// Milliseconds since the Unix epoch. In a free header 0 says that nobody's mail stands behind it.
    pub created_ms: u64,
}

/// Why a block is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHeader {
    /// Neither copy holds.
    Damaged,
    /// Written by a later version of this program.
    Version(u32),
}

impl Header {
    /// The stored form, one block.
    pub fn to_block(self) -> Vec<u8> {
        let (state, writer, sealed, end) = match self.state {
            State::Free => (1u32, 0, None, None),
            State::Active { writer, sealed, end } => (2, writer, sealed, end),
        };
        let none = End { at: 0, failed: false };
        let sealed = sealed.unwrap_or(Sealed { number: 0, generation: 0, end: none });
        let end = end.unwrap_or(none);
        let blocks = (end.at / BLOCK) as u32;
        let closing = blocks << 2 | u32::from(end.failed) << 1 | u32::from(sealed.end.failed);
        let mut copy = Vec::with_capacity(BLOCK as usize);
        copy.extend_from_slice(MAGIC);
        copy.extend_from_slice(&VERSION.to_le_bytes());
        copy.extend_from_slice(&state.to_le_bytes());
        copy.extend_from_slice(&self.number.to_le_bytes());
        copy.extend_from_slice(&writer.to_le_bytes());
        copy.extend_from_slice(&self.generation.to_le_bytes());
        copy.extend_from_slice(&self.salt.to_le_bytes());
        copy.extend_from_slice(&self.size.to_le_bytes());
        copy.extend_from_slice(&self.created_ms.to_le_bytes());
        copy.extend_from_slice(&sealed.number.to_le_bytes());
        copy.extend_from_slice(&closing.to_le_bytes());
        copy.extend_from_slice(&sealed.generation.to_le_bytes());
        copy.extend_from_slice(&sealed.end.at.to_le_bytes());
        let checksum = crc32c::crc32c(&copy);
        copy.extend_from_slice(&checksum.to_le_bytes());
        copy.resize(COPY_AT, 0);
        copy.extend_from_within(..);
        copy
    }

    /// Reads a block. Errors: [`NoHeader`].
    pub fn from_block(block: &[u8]) -> Result<Header, NoHeader> {
        let copies =
            [0, COPY_AT].map(|at| block.get(at..at + CHECKED + 4).ok_or(NoHeader::Damaged).and_then(read_copy));
        match copies {
            [Ok(one), Ok(two)] => Ok(later(one, two)),
            [Ok(one), _] | [_, Ok(one)] => Ok(one),
            [Err(NoHeader::Version(version)), _] | [_, Err(NoHeader::Version(version))] => {
                Err(NoHeader::Version(version))
            }
            _ => Err(NoHeader::Damaged),
        }
    }
}

fn later(one: Header, two: Header) -> Header {
    let rank = |header: &Header| (header.generation, matches!(header.state, State::Active { .. }));
    if rank(&two) > rank(&one) { two } else { one }
}

fn read_copy(copy: &[u8]) -> Result<Header, NoHeader> {
    let u32_at = |at: usize| u32::from_le_bytes(copy[at..at + 4].try_into().expect("four octets"));
    let u64_at = |at: usize| u64::from_le_bytes(copy[at..at + 8].try_into().expect("eight octets"));
    if &copy[..8] != MAGIC || crc32c::crc32c(&copy[..CHECKED]) != u32_at(CHECKED) {
        return Err(NoHeader::Damaged);
    }
    if u32_at(8) != VERSION {
        return Err(NoHeader::Version(u32_at(8)));
    }
    let closing = u32_at(60);
    let sealed_end = End { at: u64_at(72), failed: closing & 1 != 0 };
    let sealed = Sealed { number: u32_at(56), generation: u64_at(64), end: sealed_end };
    let sealed = (sealed.generation != 0).then_some(sealed);
    let end = End { at: u64::from(closing >> 2) * BLOCK, failed: closing & 2 != 0 };
    let end = (end.at != 0).then_some(end);
    let state = match u32_at(12) {
        1 => State::Free,
        2 => State::Active { writer: u32_at(20), sealed, end },
        _ => return Err(NoHeader::Damaged),
    };
    Ok(Header {
        state,
        number: u32_at(16),
        generation: u64_at(24),
        salt: u64_at(32),
        size: u64_at(40),
        created_ms: u64_at(48),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        let sealed = Some(Sealed { number: 4, generation: 90, end: End { at: 12288, failed: true } });
        let state = State::Active { writer: 2, sealed, end: None };
        Header { state, number: 5, generation: 91, salt: 17, size: 1 << 20, created_ms: 99 }
    }

    #[test]
    fn what_was_written_is_read() {
        let free = Header { state: State::Free, ..sample() };
        let closed = |at: u64, failed: bool| {
            let sealed = Some(Sealed { number: 4, generation: 90, end: End { at: 12288, failed: !failed } });
            let state = State::Active { writer: 2, sealed, end: Some(End { at, failed }) };
            Header { state, ..sample() }
        };
        for header in [sample(), free, closed(4096, true), closed(32 << 30, false)] {
            assert_eq!(header.to_block().len(), BLOCK as usize);
            assert_eq!(Header::from_block(&header.to_block()), Ok(header));
        }
    }

    #[test]
    fn no_flipped_bit_and_no_lost_sector_loses_the_header() {
        let block = sample().to_block();
        for bit in 0..block.len() * 8 {
            let mut damaged = block.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::from_block(&damaged), Ok(sample()), "bit {bit}");
        }
        for sector in 0..8 {
            let mut damaged = block.clone();
            damaged[sector * 512..][..512].fill(0xff);
            assert_eq!(Header::from_block(&damaged), Ok(sample()), "sector {sector}");
        }
        assert_eq!(Header::from_block(&[0; 4096]), Err(NoHeader::Damaged));
        assert_eq!(Header::from_block(&[]), Err(NoHeader::Damaged));
    }

    #[test]
    fn a_torn_header_is_the_later_one() {
        let old = Header { state: State::Free, generation: 90, ..sample() };
        let mut torn = sample().to_block();
        torn[2048..].copy_from_slice(&old.to_block()[2048..]);
        assert_eq!(Header::from_block(&torn), Ok(sample()));
        torn.rotate_left(2048);
        assert_eq!(Header::from_block(&torn), Ok(sample()));
    }

    #[test]
    fn a_later_version_is_named() {
        let mut block = sample().to_block();
        for at in [0, COPY_AT] {
            block[at + 8] = 9;
            let checksum = crc32c::crc32c(&block[at..at + CHECKED]);
            block[at + CHECKED..at + CHECKED + 4].copy_from_slice(&checksum.to_le_bytes());
        }
        assert_eq!(Header::from_block(&block), Err(NoHeader::Version(9)));
    }
}
