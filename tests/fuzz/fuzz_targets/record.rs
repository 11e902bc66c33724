//! A segment as its writer leaves it, then damaged: recovery gives out only what was written, whole and in order; what
//! was durable is given out or reported; a later generation's remains are never taken for this one's. Whatever records
//! say that somebody has forged: no panic, and an end.
#![no_main]
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use penstock::smtp::envelope::View;
use penstock::spool::QueueId;
use penstock::spool::inside::{
    BLOCK, Cursor, End, FIRST_GROUP, HEAD_BYTES, Head, Header, Limit, Met, Place, ReadFile, Sealed, State, append,
    set_place,
};
use std::ops::Range;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// Everything that was written had become durable, and that is known.
    durable: bool,
    verifies_content: bool,
    groups: Vec<Vec<Record<'a>>>,
    damage: Vec<Damage>,
    salt: u64,
    header: SomeHeader,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Record<'a> {
    kind: u8,
    id: u64,
    content_blocks: u8,
    content: &'a [u8],
    fields: &'a [u8],
}

#[derive(Arbitrary, Debug)]
enum Damage {
    Flip {
        at: u16,
        bits: u8,
    },
    /// A block that never reached the disk.
    Zero {
        block: u8,
    },
    /// A block that an earlier generation left.
    Old {
        block: u8,
    },
    /// The file ends early.
    Cut {
        at: u16,
    },
    /// A record with a place of its own and right checksums.
    Forge {
        record: u8,
        group: u64,
        group_start: u64,
        index: u32,
        last: u32,
    },
}

#[derive(Arbitrary, Debug)]
struct SomeHeader {
    numbers: [u32; 2],
    longs: [u64; 4],
    sealed: Option<(u32, u64, u32, bool)>,
    end: Option<(u16, bool)>,
    free: bool,
    flips: Vec<(u16, u8)>,
}

const GROUPS_MAX: usize = 6;
const RECORDS_MAX: usize = 5;
const OLD_GROUP: Place = Place { group: 1, group_start: FIRST_GROUP, index: 0, last: 0 };

/// What a writer wrote, and where.
#[derive(Clone)]
struct Written {
    at: usize,
    place: Place,
    bytes: usize,
}

/// The image of a segment.
fn write(groups: &[Vec<Record>], salt: u64) -> (Vec<u8>, Vec<Written>) {
    let (mut image, mut written) = (vec![0; FIRST_GROUP as usize], Vec::new());
    let full = groups.iter().filter(|group| !group.is_empty()).take(GROUPS_MAX);
    for (number, group) in (1..).zip(full) {
        let group_start = image.len() as u64;
        let last = group.len().min(RECORDS_MAX) as u32 - 1;
        for (index, record) in (0..=last).zip(group) {
            let at = image.len();
            let content = [record.content, &b"Grass\r\n".repeat(usize::from(record.content_blocks % 4) * 500)].concat();
            append(&mut image, record.kind, QueueId(record.id), record.fields, &content);
            let place = Place { group: number, group_start, index, last };
            set_place(&mut image[at..], salt, place);
            written.push(Written { at, place, bytes: HEAD_BYTES + record.fields.len() + content.len() });
        }
        image.resize(image.len().next_multiple_of(BLOCK as usize), 0);
    }
    (image, written)
}

/// One block of an earlier generation: a record that was right then.
fn old_block(salt: u64) -> Vec<u8> {
    let mut block = Vec::new();
    append(&mut block, 1, QueueId(7), b"old fields", b"old content\r\n");
    set_place(&mut block, salt.wrapping_add(1), OLD_GROUP);
    block.resize(BLOCK as usize, 0);
    block
}

fn apply(damage: &[Damage], written: &[Written], salt: u64, image: &mut Vec<u8>) {
    for one in damage {
        match *one {
            Damage::Flip { at, bits } => image.iter_mut().skip(at.into()).take(1).for_each(|octet| *octet ^= bits),
            Damage::Zero { block } => overwrite(image, block, &[0; BLOCK as usize]),
            Damage::Old { block } => overwrite(image, block, &old_block(salt)),
            Damage::Cut { at } => image.truncate(usize::from(at)),
            Damage::Forge { record, group, group_start, index, last } => {
                let Some(written) = written.get(usize::from(record)) else { continue };
                let whole = image.get_mut(written.at..).filter(|rest| rest.len() >= written.bytes);
                // Lengths that were damaged before would lead its checksum astray.
                if let Some(bytes) = whole.filter(|bytes| field_bytes(bytes) <= bytes.len() - HEAD_BYTES) {
                    set_place(bytes, salt, Place { group, group_start, index, last });
                }
            }
        }
    }
}

fn field_bytes(record: &[u8]) -> usize {
    u32::from_le_bytes(record[48..52].try_into().expect("four octets")) as usize
}

fn overwrite(image: &mut [u8], block: u8, with: &[u8]) {
    if let Some(place) = image.chunks_exact_mut(BLOCK as usize).nth(usize::from(block)) {
        place.copy_from_slice(with);
    }
}

/// What a cursor meets.
#[derive(Default)]
struct Read {
    given: Vec<(usize, Head, Vec<u8>)>,
    damaged: Vec<Range<usize>>,
    torn: bool,
}

fn read(image: &[u8], salt: u64, verifies_content: bool, limit: Limit) -> Read {
    let mut read = Read::default();
    let mut cursor = Cursor::new(ReadFile::Memory(image.to_vec()), salt, verifies_content, vec![1; 10]);
    for _ in 0..10_000 {
        match cursor.next(limit) {
            Met::Record(at, head) => read.given.push((at as usize, head, cursor.fields(at, &head).to_vec())),
            Met::Damaged(from, to) => {
                assert!(from <= to && cursor.copy(from, to).is_ok());
                read.damaged.push(from as usize..to as usize);
            }
            Met::TornTail(_) => read.torn = true,
            Met::End => return read,
            Met::Unreadable(..) => unreachable!("memory can be read"),
        }
    }
    panic!("no end");
}

fn check(read: &Read, written: &[Written], before: &[u8], after: &[u8], input: &Input) {
    let is_intact =
        |one: &Written, bytes: usize| after.get(one.at..one.at + bytes) == before.get(one.at..one.at + bytes);
    let mut last = 0;
    for (at, head, fields) in &read.given {
        assert!(*at > last, "in order, each once");
        last = *at;
        let one = written.iter().find(|one| one.at == *at).expect("it was written here");
        let bytes = if input.verifies_content { one.bytes } else { HEAD_BYTES + head.fields_bytes };
        assert!(is_intact(one, bytes) && one.place == head.place);
        assert_eq!(fields, &before[one.at + HEAD_BYTES..][..head.fields_bytes]);
    }
    let is_given = |one: &Written| read.given.iter().any(|(at, ..)| *at == one.at);
    let is_reported = |one: &Written| read.damaged.iter().any(|range| range.contains(&one.at));
    let last_group = written.iter().filter(|one| is_intact(one, one.bytes)).map(|one| one.place.group).max();
    for one in written {
        let must_be_there = input.durable || Some(one.place.group) < last_group;
        if must_be_there {
            assert!(is_given(one) || is_reported(one), "passed over silently");
            assert!(is_given(one) || !is_intact(one, one.bytes), "whole, and not given out");
        }
    }
    assert!(!(input.durable && read.torn) && !read.damaged.iter().any(Range::is_empty));
    if after == before {
        assert!(read.given.len() == written.len() && read.damaged.is_empty() && !read.torn);
    }
}

fn check_header(some: &SomeHeader) {
    let blocks = |end: u32, failed| End { at: u64::from(end) * BLOCK, failed };
    let sealed = some.sealed.filter(|sealed| sealed.1 != 0);
    let sealed =
        sealed.map(|(number, generation, end, failed)| Sealed { number, generation, end: blocks(end, failed) });
    let end = some.end.filter(|end| end.0 != 0).map(|(end, failed)| blocks(end.into(), failed));
    let active = State::Active { writer: some.numbers[0], sealed, end };
    let [generation, salt, size, created_ms] = some.longs;
    let state = if some.free { State::Free } else { active };
    let header = Header { state, number: some.numbers[1], generation, salt, size, created_ms };
    let mut block = header.to_block();
    assert_eq!(Header::from_block(&block), Ok(header));
    some.flips.iter().for_each(|&(at, bits)| block[usize::from(at) % BLOCK as usize] ^= bits);
    assert!(Header::from_block(&block).is_ok_and(|read| read == header) || some.flips.len() > 1);
}

fuzz_target!(|input: Input| {
    check_header(&input.header);
    let (before, written) = write(&input.groups, input.salt);
    let end = before.len() as u64;
    let mut after = before.clone();
    apply(&input.damage, &written, input.salt, &mut after);
    if !input.durable {
        after.extend(old_block(input.salt));
    }
    let limit = match input.durable {
        true => Limit { end, durable: true },
        false => Limit { end: after.len() as u64, durable: false },
    };
    let read = read(&after, input.salt, input.verifies_content, limit);
    for (_, _, fields) in &read.given {
        let _ = View::parse(fields);
    }
    let forged = input.damage.iter().any(|damage| matches!(damage, Damage::Forge { .. }));
    // A record within a record, or within the remains of the old block, is as good as forged.
    let nests = |bytes: &[u8]| bytes.windows(4).any(|window| window == b"PREC");
    let contents = input.groups.iter().flatten().any(|record| nests(record.content) || nests(record.fields));
    if !forged && !contents {
        if !input.durable {
            after.truncate(before.len());
        }
        check(&read, &written, &before, &after, &input);
    }
});
