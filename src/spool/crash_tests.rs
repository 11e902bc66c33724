//! What a segment says after a crash or damage: group commit and recovery together, over a disk in memory whose last
//! write may have reached it in any sectors. No I/O, no time; a failing case prints its seed.

use super::CommitError;
use super::QueueId;
use super::file::ReadFile;
use super::group_commit::{FreshSegment, GroupCommit, Step, Ticket};
use super::record;
use super::recovery::{Cursor, Limit, Met};
use super::segment::{Header, Sealed, State};
use std::collections::{BTreeMap, BTreeSet};

const SIZE: u64 = 48 << 10;

/// A small generator of numbers: the same seed, the same run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What the content of a record must be, told by its queue id alone.
fn content_of(id: u64) -> Vec<u8> {
    let length = id.wrapping_mul(2_654_435_761) % 3000;
    (0..length).map(|at| (at ^ id) as u8).collect()
}

/// Group commit over segments in memory.
struct Disk {
    dice: Dice,
    core: GroupCommit,
    segments: BTreeMap<u32, Vec<u8>>,
    in_flight: Option<(u32, u64, Vec<u8>)>,
    active: u32,
    next_id: u64,
    open: Vec<(u64, Ticket)>,
    durable: BTreeSet<u64>,
    failed: BTreeSet<u64>,
}

impl Disk {
    fn new(seed: u64) -> Disk {
        Disk {
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            core: GroupCommit::new(16 << 10),
            segments: BTreeMap::new(),
            in_flight: None,
            active: 0,
            next_id: 1,
            open: Vec::new(),
            durable: BTreeSet::new(),
            failed: BTreeSet::new(),
        }
    }

    /// One thing happens.
    fn turn(&mut self, with_failures: bool) {
        match self.dice.below(10) {
            0..5 => self.append(),
            5 if with_failures && self.in_flight.is_some() && self.dice.below(4) == 0 => self.complete(false),
            _ if self.in_flight.is_some() => self.complete(true),
            _ => self.begin(),
        }
        self.collect();
    }

    fn append(&mut self) {
        let id = self.next_id;
        if let Some(ticket) = self.core.append(record::KIND_MESSAGE, QueueId(id), b"fields", &content_of(id)) {
            self.next_id += 1;
            self.open.push((id, ticket));
        }
    }

    fn begin(&mut self) {
        match self.core.step() {
            Step::Rest => {}
            Step::Write { offset, bytes } => self.in_flight = Some((self.active, offset, bytes)),
            Step::NewSegment { sealed } => self.new_segment(sealed),
        }
    }

    /// A recycled segment: it is full of an older generation's groups.
    fn new_segment(&mut self, sealed: Option<Sealed>) {
        self.active += 1;
        let (number, generation, salt) = (self.active, 100 + u64::from(self.active), self.dice.0 | 1);
        let state = State::Active { writer: 0, sealed, end: None };
        let header = Header { state, number, generation, salt, size: SIZE, created_ms: 0 };
        let mut image = stale_segment();
        image[..4096].copy_from_slice(&header.to_block());
        self.segments.insert(number, image);
        self.core.segment(Ok(FreshSegment { number, generation, salt, size: SIZE }));
    }

    fn complete(&mut self, durable: bool) {
        let (number, offset, bytes) = self.in_flight.take().expect("a write is in flight");
        self.reach_disk(number, offset, &bytes, !durable);
        self.core.written(durable, bytes);
        // The header of the next segment is written before anybody is told.
        if !durable {
            self.begin();
        }
    }

    /// All sectors of a write, or some.
    fn reach_disk(&mut self, number: u32, offset: u64, bytes: &[u8], only_some: bool) {
        for (index, sector) in bytes.chunks(512).enumerate() {
            if !only_some || self.dice.below(2) == 0 {
                let at = offset as usize + index * 512;
                self.segments.get_mut(&number).expect("active")[at..at + 512].copy_from_slice(sector);
            }
        }
    }

    fn collect(&mut self) {
        let Disk { open, core, durable, failed, .. } = self;
        open.retain(|(id, ticket)| match core.outcome(ticket) {
            None => true,
            Some(Ok(())) => !durable.insert(*id),
            Some(Err(error)) => {
                assert_eq!(error, CommitError::Disk);
                !failed.insert(*id)
            }
        });
    }

    /// The power goes: of the write in flight some sectors are there.
    fn crash(&mut self) {
        if let Some((number, offset, bytes)) = self.in_flight.take() {
            self.reach_disk(number, offset, &bytes, true);
        }
    }

    /// What recovery reads, segment by segment.
    fn recover(&self) -> Vec<u64> {
        let headers: Vec<Header> =
            self.segments.values().map(|image| Header::from_block(&image[..4096]).expect("a header")).collect();
        let mut ends = BTreeMap::new();
        for header in &headers {
            if let State::Active { sealed: Some(sealed), .. } = header.state {
                ends.insert(sealed.number, sealed.end.at);
            }
        }
        let mut found = Vec::new();
        for header in headers {
            let end = ends.get(&header.number);
            let limit = Limit { end: *end.unwrap_or(&SIZE), durable: end.is_some() };
            let seen = read_all(self.segments[&header.number].clone(), header.salt, limit);
            assert_eq!(seen.damaged, [], "nothing is damaged after a crash");
            found.extend(seen.ids.into_iter().map(|(id, _)| id));
        }
        found
    }
}

/// What a cursor saw.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    ids: Vec<(u64, u64)>,
    damaged: Vec<(u64, u64)>,
    torn: Option<u64>,
}

/// Reads a whole segment; every record that is given out must be one that was written.
fn read_all(image: Vec<u8>, salt: u64, limit: Limit) -> Seen {
    let whole = image.clone();
    let mut cursor = Cursor::new(ReadFile::Memory(image), salt, true, Vec::new());
    let mut seen = Seen::default();
    loop {
        match cursor.next(limit) {
            Met::Record(at, head) => {
                assert_eq!(cursor.fields(at, &head), b"fields");
                let content = &whole[at as usize..][head.content_range()];
                assert_eq!(content, content_of(head.id.0), "record {} at {at}", head.id.0);
                seen.ids.push((head.id.0, at));
            }
            Met::End => return seen,
            Met::TornTail(at) => seen.torn = Some(at),
            Met::Damaged(from, to) => seen.damaged.push((from, to)),
            Met::Unreadable(..) => unreachable!("memory is readable"),
        }
    }
}

/// A segment of an older generation, with its groups where groups will be.
fn stale_segment() -> Vec<u8> {
    written(0x5757, &[&[900, 901], &[902], &[903, 904, 905], &[906], &[907], &[908], &[909]])
}

/// A segment that holds these groups.
fn written(salt: u64, groups: &[&[u64]]) -> Vec<u8> {
    let mut image = vec![0; SIZE as usize];
    let mut core = GroupCommit::new(SIZE as usize - 4096);
    let segment = FreshSegment { number: 1, generation: 1, salt, size: SIZE };
    for ids in groups {
        for &id in *ids {
            core.append(record::KIND_MESSAGE, QueueId(id), b"fields", &content_of(id)).expect("room");
        }
        loop {
            match core.step() {
                Step::Rest => break,
                Step::NewSegment { sealed: None } => core.segment(Ok(segment)),
                Step::NewSegment { .. } => panic!("the groups are too many for a segment"),
                Step::Write { offset, bytes } => {
                    image[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
                    core.written(true, bytes);
                }
            }
        }
    }
    image
}

#[test]
fn after_a_crash_all_that_was_acknowledged_is_there_and_nothing_is_half_there() {
    for seed in 1..=1500 {
        let mut disk = Disk::new(seed);
        let turns = disk.dice.below(60);
        (0..turns).for_each(|_| disk.turn(seed % 2 == 0));
        disk.crash();
        let found = disk.recover();
        let unique: BTreeSet<u64> = found.iter().copied().collect();
        assert_eq!(unique.len(), found.len(), "seed {seed}: a record was read twice");
        assert!(found.is_sorted(), "seed {seed}: out of order");
        let lost: Vec<_> = disk.durable.difference(&unique).collect();
        assert!(lost.is_empty(), "seed {seed}: lost {lost:?}");
        let risen: Vec<_> = disk.failed.intersection(&unique).collect();
        assert!(risen.is_empty(), "seed {seed}: {risen:?} were refused and are there");
        assert!(unique.iter().all(|id| *id < disk.next_id), "seed {seed}: an old record was believed");
    }
}

const SALT: u64 = 0xfeed_beef_0bad_cafe;
const GROUPS: [&[u64]; 3] = [&[1, 2, 3], &[4], &[5, 6]];

fn open_end() -> Limit {
    Limit { end: SIZE, durable: false }
}

#[test]
fn every_flipped_bit_is_reported_or_a_torn_tail() {
    let image = written(SALT, &GROUPS);
    let whole = read_all(image.clone(), SALT, open_end());
    assert_eq!(whole.ids.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(whole.damaged.is_empty() && whole.torn.is_none());
    let starts: Vec<u64> = whole.ids.iter().map(|(_, at)| *at).collect();
    for (index, &start) in starts.iter().enumerate() {
        let id = index as u64 + 1;
        let used = record::HEAD_BYTES + 6 + content_of(id).len();
        // Each octet of the head and the fields, and some of the content.
        let octets = (0..used).filter(|&octet| octet < record::HEAD_BYTES + 8 || octet % 7 == 0);
        for byte in octets.map(|octet| start as usize + octet) {
            let mut damaged = image.clone();
            damaged[byte] ^= 1 << (byte % 8);
            let seen = read_all(damaged.clone(), SALT, open_end());
            let ids: Vec<u64> = seen.ids.iter().map(|(id, _)| *id).collect();
            if id < 5 {
                let others: Vec<u64> = (1..=6).filter(|other| *other != id).collect();
                assert_eq!((ids, seen.torn), (others, None), "octet {byte}");
                assert_eq!(seen.damaged.len(), 1, "octet {byte}");
            } else {
                let before: Vec<u64> = (1..id).collect();
                assert_eq!((ids, seen.damaged.len()), (before, 0), "octet {byte}");
            }
            // With a known end every lost record is damage.
            let end = starts[5].next_multiple_of(4096);
            let seen = read_all(damaged, SALT, Limit { end, durable: true });
            assert_eq!((seen.ids.len(), seen.damaged.len(), seen.torn), (5, 1, None), "octet {byte}");
        }
    }
}

/// Small enough that each bit of a record can be flipped, and some of the zeros: three groups, each of one block.
#[test]
fn every_flipped_bit_of_a_small_segment_costs_one_record() {
    const SMALL: u64 = 16 << 10;
    let mut image = vec![0; SMALL as usize];
    let mut core = GroupCommit::new(SMALL as usize - 4096);
    let mut spans = Vec::new();
    for ids in [&[1u64, 2][..], &[3], &[4, 5]] {
        for &id in ids {
            core.append(record::KIND_MESSAGE, QueueId(id), b"fields", &small(id)).expect("room");
        }
        while let step @ (Step::NewSegment { .. } | Step::Write { .. }) = core.step() {
            let Step::Write { offset, bytes } = step else {
                core.segment(Ok(FreshSegment { number: 1, generation: 1, salt: SALT, size: SMALL }));
                continue;
            };
            let mut at = offset as usize;
            for &id in ids {
                let length = record::record_bytes(6, small(id).len());
                spans.push((id, at, at + record::HEAD_BYTES + 6 + small(id).len()));
                at += length;
            }
            image[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
            core.written(true, bytes);
        }
    }
    let open = Limit { end: SMALL, durable: false };
    let sealed = Limit { end: SMALL, durable: true };
    for bit in 4096 * 8..image.len() * 8 {
        let hit = spans.iter().find(|(_, from, to)| (from * 8..to * 8).contains(&bit)).map(|(id, ..)| *id);
        if hit.is_none() && bit % 61 > 0 {
            continue;
        }
        image[bit / 8] ^= 1 << (bit % 8);
        for limit in [open, sealed] {
            let (ids, damaged) = small_ids(&image, limit);
            // In the last group of an open segment a torn tail begins with the record that was hit.
            let cut = hit.filter(|id| !limit.durable && *id > 3);
            let expected: Vec<u64> = (1..=5).filter(|id| cut.map_or(hit != Some(*id), |cut| *id < cut)).collect();
            assert_eq!(ids, expected, "bit {bit}, {limit:?}");
            // Behind the last record of a segment whose end is known there should be another group.
            let reported = usize::from(hit.is_some() && cut.is_none());
            assert!(damaged >= reported, "bit {bit}, {limit:?}: nothing was reported");
        }
        image[bit / 8] ^= 1 << (bit % 8);
    }
}

fn small(id: u64) -> Vec<u8> {
    vec![b'a' + id as u8; 9 + id as usize]
}

fn small_ids(image: &[u8], limit: Limit) -> (Vec<u64>, usize) {
    let mut cursor = Cursor::new(ReadFile::Memory(image.to_vec()), SALT, true, Vec::new());
    let (mut ids, mut damaged) = (Vec::new(), 0);
    loop {
        match cursor.next(limit) {
            Met::Record(at, head) => {
                assert_eq!(image[at as usize..][head.content_range()], small(head.id.0));
                ids.push(head.id.0);
            }
            Met::Damaged(..) => damaged += 1,
            Met::TornTail(_) => {}
            Met::End => return (ids, damaged),
            Met::Unreadable(..) => unreachable!("memory is readable"),
        }
    }
}

/// It stands twice, and each copy is whole or nothing.
#[test]
fn every_flipped_bit_and_every_cut_of_a_header() {
    let end = super::segment::End { at: 8192, failed: false };
    let sealed = Some(Sealed { number: 6, generation: 8, end });
    let state = State::Active { writer: 2, sealed, end: Some(end) };
    let header = Header { state, number: 7, generation: 9, salt: SALT, size: SIZE, created_ms: 1 };
    let block = header.to_block();
    for bit in 0..block.len() * 8 {
        let mut one = block.clone();
        one[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Header::from_block(&one), Ok(header), "bit {bit}");
        let octet = bit / 8 % 2048;
        if octet < 84 {
            let mut both = block.clone();
            both[octet] ^= 1 << (bit % 8);
            both[octet + 2048] ^= 1 << (bit % 8);
            assert!(Header::from_block(&both).is_err(), "bit {bit} of both");
        }
    }
    for cut in 0..block.len() {
        assert_eq!(Header::from_block(&block[..cut]).ok(), (cut >= 84).then_some(header), "cut at {cut}");
    }
}

#[test]
fn every_cut_leaves_the_records_before_it() {
    let image = written(SALT, &GROUPS);
    let starts = read_all(image.clone(), SALT, open_end()).ids;
    for cut in (4096..image.len()).step_by(61) {
        let mut rest = image[..cut].to_vec();
        rest.resize(image.len(), 0);
        for tail in [rest, image[..cut].to_vec()] {
            let seen = read_all(tail, SALT, open_end());
            let whole =
                starts.iter().filter(|(id, at)| *at as usize + record::HEAD_BYTES + 6 + content_of(*id).len() <= cut);
            assert!(seen.ids.len() >= whole.clone().count(), "cut at {cut}");
            assert!(seen.ids.iter().zip(&starts).all(|(one, two)| one == two));
            assert!(seen.damaged.is_empty(), "cut at {cut}");
        }
    }
}

#[test]
fn a_lost_group_is_damage_and_the_groups_behind_it_are_read() {
    let image = written(SALT, &GROUPS);
    let starts = read_all(image.clone(), SALT, open_end()).ids;
    let (from, to) = (starts[3].1, starts[4].1);
    for filler in [0u8, 0xff] {
        let mut damaged = image.clone();
        damaged[from as usize..to as usize].fill(filler);
        let seen = read_all(damaged, SALT, open_end());
        assert_eq!(seen.damaged, [(from, to)]);
        assert_eq!(seen.ids.len(), 5);
    }
}

#[test]
fn a_group_that_was_written_to_the_wrong_place_is_not_believed_there() {
    let mut image = written(SALT, &GROUPS);
    let starts = read_all(image.clone(), SALT, open_end()).ids;
    let (from, to) = (starts[3].1, starts[4].1);
    image.copy_within(to as usize..to as usize + (to - from) as usize, from as usize);
    let seen = read_all(image, SALT, open_end());
    assert_eq!(seen.ids.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 3, 5, 6]);
    assert_eq!(seen.damaged, [(from, to)]);
}

#[test]
fn what_is_behind_a_seal_is_never_read() {
    let image = written(SALT, &GROUPS);
    let starts = read_all(image.clone(), SALT, open_end()).ids;
    let seen = read_all(image, SALT, Limit { end: starts[3].1, durable: true });
    assert_eq!(seen.ids.len(), 3);
    assert!(seen.damaged.is_empty());
}

#[test]
fn records_of_an_older_generation_are_never_believed() {
    let mut image = stale_segment();
    let seen = read_all(image.clone(), SALT, open_end());
    assert_eq!(seen, Seen::default());
    // A new generation that ends between old groups.
    let new = written(SALT, &[&[1, 2, 3]]);
    image[4096..8192].copy_from_slice(&new[4096..8192]);
    let seen = read_all(image.clone(), SALT, open_end());
    assert!(seen.ids.iter().all(|(id, _)| *id < 10) && seen.damaged.is_empty());
}

#[test]
fn a_record_forged_in_a_body_is_not_believed_even_where_the_real_one_is_damaged() {
    let forge = |salt: u64, group: u64| {
        let mut forged = vec![b'x'; 2];
        let mut record = Vec::new();
        record::append(&mut record, record::KIND_MESSAGE, QueueId(666), b"fields", b"forged");
        let place = record::Place { group, group_start: 4096, index: 1, last: 1 };
        record::set_place(&mut record, salt, place);
        forged.extend_from_slice(&record);
        forged
    };
    let mut core = GroupCommit::new(16 << 10);
    // The fields are 6 octets long: the body begins at 70, the forged record at 72, where a search would look.
    core.append(record::KIND_MESSAGE, QueueId(7), b"fields", &forge(0, 2)).expect("room");
    assert!(matches!(core.step(), Step::NewSegment { .. }));
    core.segment(Ok(FreshSegment { number: 1, generation: 1, salt: SALT, size: SIZE }));
    let Step::Write { mut bytes, .. } = core.step() else { panic!("a write") };
    bytes[40] ^= 1;
    let mut image = vec![0; SIZE as usize];
    image[4096..8192].copy_from_slice(&bytes);
    let seen = read_all(image.clone(), SALT, open_end());
    assert_eq!((seen.ids.len(), seen.damaged.len()), (0, 0));
    // The control: whoever knew the salt would be believed, so the salt is what protects.
    image[4096 + 72 + 8..][..8].copy_from_slice(&SALT.to_le_bytes());
    let mut record = forge(SALT, 2);
    image[4096 + 72..][..record.len() - 2].copy_from_slice(&record.split_off(2));
    let mut cursor = Cursor::new(ReadFile::Memory(image), SALT, true, Vec::new());
    assert!(matches!(cursor.next(open_end()), Met::Damaged(4096, 4168)));
}

/// Whoever knows the salt may write any place: no panic, an end, and what stands behind is read.
#[test]
fn a_record_with_an_impossible_place_is_damage() {
    for (group, index, last) in [(u64::MAX, 0, 0), (u64::MAX, 1, 1), (u64::MAX, 7, 3), (1, 7, 3), (9, 7, 3)] {
        let mut image = written(SALT, &[&[1], &[2]]);
        let place = record::Place { group, group_start: 4096, index, last };
        record::set_place(&mut image[4096..], SALT, place);
        for limit in [open_end(), Limit { end: image.len() as u64, durable: true }] {
            let seen = read_all(image.clone(), SALT, limit);
            let ids: Vec<u64> = seen.ids.iter().map(|(id, _)| *id).collect();
            assert_eq!((ids, seen.damaged.len()), (vec![2], 1 + usize::from(limit.durable)), "{place:?}");
        }
    }
}
