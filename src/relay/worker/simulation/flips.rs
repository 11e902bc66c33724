//! Every flipped bit and every cut of a small spool: messages, the log of outcomes, survivors beside their originals, and
//! headers. What is hit may be lost and must be reported; nothing else may be.
//!
//! `PENSTOCK_ALL_BITS=1` flips each bit and cuts at each octet; otherwise some of them, spread over all records. What one
//! segment says of each flipped bit is tested in spool/crash_tests.rs.

use super::client::{self, Offer};
use super::ledger::Ledger;
use super::process::Process;
use crate::clock;
use crate::spool::simulated::{self, Dice, Disk, Record};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A spool at rest, and what is known of its messages.
struct House {
    disk: Disk,
    ledger: Rc<RefCell<Ledger>>,
    /// Queue ids that are queued.
    open: Vec<u64>,
    /// Queue ids that are done.
    done: Vec<u64>,
    records: Vec<Record>,
    /// The ends of all segments are known.
    closed: bool,
}

/// Messages that fill a segment, each in a group of its own.
const MESSAGES: u64 = 15;

impl House {
    /// One segment of messages, of which one is half done and one not at all, one that is begun, the outcomes, and if
    /// `moved` the survivors of the first segment, which is not erased yet.
    fn new(moved: bool, closed: bool) -> House {
        crate::log::QUIET.set(true);
        clock::SIMULATED_MS.set(Some(1_800_000_000_000));
        simulated::install(Disk::new(1));
        let ledger = Rc::new(RefCell::new(Ledger::default()));
        let mut process = Process::start(1, 0, ledger.clone()).expect("opens");
        process.catch_up(&mut Dice::new(1));
        for number in 0..MESSAGES + 2 {
            let offer = Offer::small(number);
            simulated::spawn(client::send(process.writers[0].clone(), ledger.clone(), offer));
            run_all(&mut process);
        }
        let first = ledger.borrow().taken_by_all()[0].0;
        let takes = |id: u64, recipient: u32| id > first + 1 || id == first && recipient == 0;
        for _ in 0..20 {
            turn(&mut process, takes);
        }
        if moved {
            clock::SIMULATED_MS.set(Some(1_800_000_010_000));
            (0..4).for_each(|_| process.second());
            process.move_survivors();
            // The original is not erased yet.
            run_tasks();
            process.hear();
            process.follow(100);
        }
        if closed {
            process.close();
            run_tasks();
        }
        simulated::with(Disk::die);
        simulated::stop();
        drop(process);
        simulated::with(Disk::after_power_cut);
        let (disk, records) = (simulated::with(|disk| disk.copy()), simulated::records());
        let (done, open): (Vec<_>, Vec<_>) = ledger.borrow().taken_by_all().into_iter().partition(|(_, done)| *done);
        let ids = |them: Vec<(u64, bool)>| them.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        let house = House { disk, ledger, open: ids(open), done: ids(done), records, closed };
        assert_eq!((house.open.len(), house.done.len()), (2, MESSAGES as usize));
        let copies = house.records.iter().filter(|record| record.is_message).count() as u64;
        assert_eq!(copies, MESSAGES + 2 + if moved { 2 } else { 0 }, "{:?}", house.records);
        house
    }

    /// Starts on a damaged copy; returns what is missing, what has risen, and whether damage was reported.
    fn look(&self, path: &Path, act: impl Fn(&mut Vec<u8>)) -> (Vec<u64>, Vec<u64>, bool) {
        let mut disk = self.disk.copy();
        disk.damage(path, act);
        simulated::install(disk);
        let mut process = Process::start(1, 0, self.ledger.clone()).expect("opens");
        process.catch_up(&mut Dice::new(1));
        let missing: Vec<u64> = self.open.iter().copied().filter(|&id| !process.has(id)).collect();
        let risen = self.done.iter().copied().filter(|&id| process.has(id)).collect();
        // What is queued is what was sent.
        self.ledger.borrow_mut().lenient = true;
        process.check_queue();
        let reported = !process.remains().damaged.is_empty();
        simulated::with(Disk::die);
        simulated::stop();
        (missing, risen, reported)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut paths: Vec<_> = self.records.iter().map(|record| record.path.clone()).collect();
        paths.dedup();
        paths
    }

    fn check_flip(&self, record: &Record, octet: usize, bit: usize) {
        let (missing, risen, reported) = self.look(&record.path, |content| content[octet] ^= 1 << bit);
        let place = format!("bit {bit} of octet {octet} of {}", record.path.display());
        let copies = self.records.iter().filter(|other| other.is_message && other.id == record.id).count();
        let may_miss = record.is_message && copies == 1;
        assert!(missing.is_empty() || may_miss && missing == [record.id], "{place}: {missing:x?} are missing");
        let may_rise = !record.is_message || risen == [record.id];
        assert!(risen.is_empty() || may_rise, "{place}: {risen:x?} have risen");
        assert!(reported || !self.closed && record.is_last_group, "{place}: nothing was reported");
    }

    fn every_flip(&self) {
        for record in &self.records {
            for bit in (record.from * 8..record.to * 8).step_by(step(233)) {
                self.check_flip(record, bit / 8, bit % 8);
            }
        }
    }

    /// A header stands twice.
    fn every_flip_of_a_header(&self) {
        for path in self.segments() {
            for octet in (0..84).chain(2048..2132).step_by(step(11)) {
                let found = self.look(&path, |content| content[octet] ^= 1 << (octet % 8));
                assert_eq!(found, (vec![], vec![], false), "octet {octet} of {}", path.display());
            }
        }
    }

    /// What stands before a cut is there.
    fn every_cut(&self) {
        for record in &self.records {
            for cut in (record.from..record.to).step_by(step(47)) {
                let (missing, risen, _) = self.look(&record.path, |content| content.truncate(cut));
                let whole = |id: &u64| {
                    let stands = |other: &Record| other.path != record.path || other.to <= cut;
                    self.records.iter().any(|other| other.is_message && other.id == *id && stands(other))
                };
                assert!(!missing.iter().any(whole), "cut at {cut} of {}: {missing:x?}", record.path.display());
                let outcomes =
                    self.records.iter().any(|other| other.path == record.path && !other.is_message && other.to > cut);
                assert!(risen.is_empty() || outcomes, "cut at {cut} of {}: {risen:x?}", record.path.display());
            }
        }
    }
}

fn step(usual: usize) -> usize {
    if std::env::var_os("PENSTOCK_ALL_BITS").is_some() { 1 } else { usual }
}

/// Until nothing is left to be done.
fn run_all(process: &mut Process) {
    let mut dice = Dice::new(2);
    for _ in 0..100 {
        while simulated::run_one(&mut dice) || process.files() {}
        simulated::with(Disk::complete_one);
    }
}

/// The same without the files thread, which erases nothing then.
fn run_tasks() {
    for _ in 0..100 {
        while simulated::run_one(&mut Dice::new(2)) {}
        simulated::with(Disk::complete_one);
    }
}

fn turn(process: &mut Process, takes: impl Fn(u64, u32) -> bool) {
    process.follow(100);
    process.deliver(100);
    process.answer_by(takes);
    process.record();
    run_all(process);
    process.hear();
}

#[test]
fn every_flipped_bit_is_reported_and_costs_nothing_else() {
    for (moved, closed) in [(false, false), (false, true), (true, true)] {
        House::new(moved, closed).every_flip();
    }
    simulated::remove();
}

#[test]
fn every_flipped_bit_of_a_header_costs_nothing() {
    for (moved, closed) in [(false, false), (true, true)] {
        House::new(moved, closed).every_flip_of_a_header();
    }
}

#[test]
fn every_cut_leaves_what_stands_before_it() {
    for (moved, closed) in [(false, false), (true, true)] {
        House::new(moved, closed).every_cut();
    }
}

/// The segment of the messages cannot be read at one start, and can be at the next. What says that they are done is there
/// still, or all of them would be delivered once more.
#[test]
fn what_is_done_in_a_segment_that_cannot_be_read_for_once_is_done() {
    for moved in [false, true] {
        let house = House::new(moved, true);
        let messages =
            |path: &Path| house.records.iter().filter(|record| record.is_message && record.path == path).count();
        let segment = house.segments().into_iter().max_by_key(|path| messages(path)).expect("one");
        simulated::install(house.disk.copy());
        for unreadable in [Some(segment), None] {
            let mut process = Process::start(1, 0, house.ledger.clone()).expect("opens");
            let can_be_read = unreadable.is_none();
            simulated::with(|disk| disk.unreadable = unreadable);
            process.catch_up(&mut Dice::new(1));
            for _ in 0..10 {
                while process.files() {}
                process.follow(100);
                process.second();
            }
            if can_be_read {
                let risen: Vec<u64> = house.done.iter().copied().filter(|&id| process.has(id)).collect();
                assert!(risen.is_empty(), "{} of {} are queued again", risen.len(), house.done.len());
                assert!(house.open.iter().all(|&id| process.has(id)), "what was open is queued");
            }
            simulated::with(|disk| disk.unreadable = None);
            simulated::with(Disk::die);
            simulated::stop();
            drop(process);
            simulated::with(Disk::after_kill);
        }
    }
}
