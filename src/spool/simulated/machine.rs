//! A spool on the simulated disk, with its files thread taken apart: it does one thing when it is told to.

use super::super::files::Files;
use super::super::follower::{Follower, Location};
use super::super::layout::{Layout, number_in};
use super::super::record;
use super::super::segment::{BLOCK, Header, State};
use super::super::{Options, Spool, WriterSeed, open};
use super::{ROOT, with};
use std::path::{Path, PathBuf};

/// Octets per segment.
const SEGMENT_BYTES: u64 = 64 << 10;

/// An open spool.
pub struct Machine {
    spool: Spool,
    files: Files,
}

/// What is left on the disk.
pub struct Remains {
    /// Segments that are not free.
    pub active: Vec<String>,
    /// Spill files that are not in the pool of free ones.
    pub spills: u64,
    /// Segments and ranges that were set aside.
    pub damaged: Vec<PathBuf>,
    /// Files in which something of a message is left, on the disk itself.
    pub unwiped: Vec<String>,
    /// How many files were overwritten in this life.
    pub wiped: u64,
}

impl Machine {
    /// Opens, as `Spool::open`, with so many core writers.
    pub fn open(writers: usize, wipe_after_s: u64) -> Result<Machine, String> {
        let directory = PathBuf::from(ROOT).join("spool");
        let options = Options {
            directory,
            segment_bytes: SEGMENT_BYTES,
            writers,
            reserve_bytes: 1 << 20,
            bytes_max: None,
            wipe_after_s,
        };
        open::make_directories(&Layout::new(&options.directory))?;
        let (spool, files) = open::assemble(options)?;
        Ok(Machine { spool, files })
    }

    /// As `Spool::core_writers`.
    pub fn core_writers(&mut self) -> Vec<WriterSeed> {
        self.spool.core_writers()
    }

    /// As `Spool::relay_side`.
    pub fn relay_side(&mut self) -> (WriterSeed, Follower) {
        self.spool.relay_side()
    }

    /// The files thread does one thing. False: there is nothing to do.
    pub fn step(&mut self) -> bool {
        self.files.step()
    }

    /// A second has passed.
    pub fn second(&mut self) {
        self.files.tick();
    }

    /// Is the record at `at` durable as it is read, with so many octets of it?
    pub fn is_durable(&self, at: Location, bytes: usize) -> bool {
        let from = at.at() as usize;
        with(|disk| disk.is_durable(&self.spool.shared.layout.segment(at.segment), from, from + bytes))
    }

    /// What is there now.
    pub fn remains(&self) -> Remains {
        let spills = self.files.spills_in_use();
        let layout = &self.spool.shared.layout;
        let (segments, ranges) = with(|disk| (disk.list(&layout.segments()), disk.list(&layout.damaged())));
        let (bad, segments): (Vec<_>, Vec<_>) = segments.into_iter().partition(|path| number_in(path, "bad").is_some());
        let in_use = |path: &&PathBuf| with(|disk| disk.content(path).is_some_and(is_in_use));
        let active = segments.iter().filter(in_use).map(|path| path.display().to_string()).collect();
        let spilled = with(|disk| disk.list(&layout.spills()));
        let ends = segments.iter().map(|path| (path, BLOCK as usize)).chain(spilled.iter().map(|path| (path, 0)));
        let holds = |&(path, from): &(&PathBuf, usize)| with(|disk| disk.holds_behind(path, from));
        let unwiped = ends.filter(holds).map(|(path, _)| path.display().to_string()).collect();
        let wiped = self.spool.shared.stock.wiped.get();
        let damaged = bad.into_iter().chain(ranges).collect();
        Remains { active, spills, damaged, unwiped, wiped }
    }
}

fn is_in_use(content: &[u8]) -> bool {
    let block = &content[..content.len().min(BLOCK as usize)];
    !Header::from_block(block).is_ok_and(|header| header.state == State::Free)
}

/// Where a record stands.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its segment.
    pub path: PathBuf,
    /// Its first octet.
    pub from: usize,
    /// One behind its last.
    pub to: usize,
    /// Queue id.
    pub id: u64,
    /// It has recipients.
    pub is_message: bool,
    /// No group of its segment follows.
    pub is_last_group: bool,
}

/// All records of this generation in all segments, in order.
pub fn records() -> Vec<Record> {
    let layout = Layout::new(&PathBuf::from(ROOT).join("spool"));
    let paths = with(|disk| disk.list(&layout.segments()));
    paths.iter().flat_map(|path| records_of(path)).collect()
}

fn records_of(path: &Path) -> Vec<Record> {
    let content = with(|disk| disk.content(path).unwrap_or_default().to_vec());
    let Ok(header) = Header::from_block(&content[..BLOCK as usize]) else { return Vec::new() };
    let mut records = Vec::new();
    for from in (BLOCK as usize..content.len()).step_by(record::ALIGNMENT) {
        let room = (content.len() - from) as u64;
        if let record::Found::Record(head) = record::parse(&content[from..], header.salt, room, true) {
            let (to, is_message) = (from + head.content_range().end, head.kind & record::KIND_MESSAGE != 0);
            let found = Record { path: path.into(), from, to, id: head.id.0, is_message, is_last_group: false };
            records.push((head.place.group, found));
        }
    }
    let last = records.last().map(|(group, _)| *group);
    let mark = |(group, found): (u64, Record)| Record { is_last_group: Some(group) == last, ..found };
    records.into_iter().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::disk;
    use super::super::super::shared::{Erase, Request};
    use super::super::{Disk, Trouble, install};
    use super::*;
    use crate::clock::SIMULATED_MS;

    /// A spool with a segment that was written, and whose writer has ended.
    fn begun(seed: u64) -> (Machine, PathBuf, Header) {
        install(Disk::new(seed));
        let machine = Machine::open(1, 0).expect("opens");
        let path = machine.spool.shared.layout.segment(1);
        let state = State::Active { writer: 0, sealed: None, end: None };
        let header = Header { state, generation: 9, salt: 1, ..machine.spool.shared.free_header(1, Some(1)) };
        write(&path, header).expect("it is written");
        (machine, path, header)
    }

    fn write(path: &Path, header: Header) -> std::io::Result<()> {
        let disk::File::Simulated(file) = disk::open(path, disk::Open::WriteDurably)? else { panic!("no such disk") };
        file.write_all_at(&header.to_block(), 0)
    }

    fn set_trouble(trouble: Trouble) {
        with(|disk| disk.trouble = trouble);
    }

    #[test]
    fn a_start_believes_the_disk_and_not_the_page_cache_after_a_failed_write() {
        let mut stale = 0;
        for seed in 1..50 {
            let (machine, path, header) = begun(seed);
            let free = machine.spool.shared.free_header(1, Some(1));
            drop(machine);
            set_trouble(Trouble { writes: 1000, ..Trouble::default() });
            assert!(write(&path, Header { generation: header.generation + 1, ..free }).is_err());
            set_trouble(Trouble::default());
            stale += u64::from(!with(|disk| disk.is_durable(&path, 0, BLOCK as usize)));
            let _machine = Machine::open(1, 0).expect("opens");
            assert!(with(|disk| disk.is_durable(&path, 0, BLOCK as usize)), "seed {seed}: a power cut would change it");
        }
        assert!(stale > 10, "{stale}");
    }

    #[test]
    fn a_clock_that_was_ahead_does_not_put_off_what_is_to_be_overwritten() {
        let now_ms = 1_800_000_000_000;
        SIMULATED_MS.set(Some(now_ms));
        install(Disk::new(1));
        let mut machine = Machine::open(1, 4).expect("opens");
        machine.spool.shared.spares()[0].dirty = Some(now_ms + 86_400_000);
        while machine.step() {}
        let dirty = |machine: &Machine| machine.spool.shared.spares().iter().filter(|one| one.dirty.is_some()).count();
        assert_eq!(dirty(&machine), 1, "a quarter of the time is to pass");
        SIMULATED_MS.set(Some(now_ms + 1000));
        while machine.step() {}
        assert_eq!(dirty(&machine), 0);
        SIMULATED_MS.set(None);
    }

    #[test]
    fn half_a_segment_that_cannot_be_removed_is_not_in_the_way_of_the_next() {
        for seed in 1..50 {
            let (mut machine, ..) = begun(seed);
            machine.spool.shared.spares().clear();
            set_trouble(Trouble { writes: 500, names: 500, ..Trouble::default() });
            for _ in 0..20 {
                while machine.step() {}
                machine.second();
            }
            set_trouble(Trouble::default());
            machine.spool.shared.spares().clear();
            machine.second();
            while machine.step() {}
            assert_eq!(machine.spool.shared.spares().len(), 2, "seed {seed}");
        }
    }

    #[test]
    fn what_could_not_be_erased_is_erased_when_the_disk_takes_it_again() {
        for trouble in [Trouble { writes: 1000, ..Trouble::default() }, Trouble { names: 1000, ..Trouble::default() }] {
            for reusable in [true, false] {
                let (mut machine, path, header) = begun(7);
                let Header { number, generation, size, .. } = header;
                machine.spool.shared.ask(Request::Erase(Erase { number, generation, size, reusable, seals: None }));
                set_trouble(trouble);
                while machine.step() {}
                machine.second();
                set_trouble(Trouble::default());
                machine.second();
                let content = with(|disk| disk.content(&path).map(<[u8]>::to_vec));
                assert!(!content.is_some_and(|content| is_in_use(&content)), "{trouble:?}, reusable: {reusable}");
            }
        }
    }
}
