//! One run: several lives of a process on one disk, and what is held against the promises in between.

use super::client::{self, Offer};
use super::ledger::Ledger;
use super::process::{EXPIRE_S, Mood, Process};
use crate::clock;
use crate::log::{Level, event};
use crate::spool::simulated::{self, Dice, Disk, Remains, Trouble};
use std::cell::RefCell;
use std::rc::Rc;

/// What happened in a run, or in many: a simulation in which nothing happens proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    runs: u64,
    starts: u64,
    power_cuts: u64,
    kills: u64,
    acknowledged: u64,
    duplicates: u64,
    recycled: u64,
    moves: u64,
    orders: u64,
    troubled_runs: u64,
    wiped: u64,
}

impl Tally {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Tally) {
        self.runs += other.runs;
        self.starts += other.starts;
        self.power_cuts += other.power_cuts;
        self.kills += other.kills;
        self.acknowledged += other.acknowledged;
        self.duplicates += other.duplicates;
        self.recycled += other.recycled;
        self.moves += other.moves;
        self.orders += other.orders;
        self.troubled_runs += other.troubled_runs;
        self.wiped += other.wiped;
    }

    /// Enough has happened.
    pub fn is_worth_something(&self) {
        let often = self.acknowledged > 10 * self.runs && self.power_cuts > self.runs / 2 && self.kills > self.runs / 4;
        let much = self.recycled > self.runs && self.moves > self.runs / 4 && self.duplicates > self.runs / 4;
        let much = much && self.orders > self.runs / 4 && self.wiped > self.runs / 4;
        assert!(self.runs < 100 || often && much, "too little has happened: {self:?}");
    }
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    GoodOrder,
    Kill,
    PowerCut,
}

struct Run {
    dice: Dice,
    now_ms: u64,
    ledger: Rc<RefCell<Ledger>>,
    /// Of a run in which operations fail.
    troubled: bool,
    /// As configured; 0: nothing is overwritten.
    wipe_after_s: u64,
    tally: Tally,
}

/// A run. Panics if a promise is broken.
pub fn run(seed: u64) -> Tally {
    let mut dice = Dice::new(seed);
    let troubled = dice.below(3) == 0;
    simulated::install(Disk::new(seed));
    let now_ms = 1_800_000_000_000;
    let wipe_after_s = [0, 600, 4000][dice.below(3) as usize];
    let mut run = Run { dice, now_ms, ledger: Rc::default(), troubled, wipe_after_s, tally: Tally::default() };
    run.pass(0);
    for _ in 0..1 + run.dice.below(4) {
        run.life();
    }
    run.last_life();
    run.check_remains();
    simulated::stop();
    let recycled = simulated::with(|disk| disk.recycled);
    simulated::remove();
    clock::SIMULATED_MS.set(None);
    let ledger = run.ledger.borrow();
    let (acknowledged, orders) = (ledger.acknowledged(), ledger.orders);
    let (duplicates, moves) = (ledger.duplicates, ledger.moves);
    Tally {
        runs: 1,
        acknowledged,
        duplicates,
        recycled,
        moves,
        orders,
        troubled_runs: u64::from(troubled),
        ..run.tally
    }
}

impl Run {
    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        clock::SIMULATED_MS.set(Some(self.now_ms));
        self.ledger.borrow_mut().expire(self.now_ms - 1000 * EXPIRE_S);
    }

    /// A start, unless the power goes during it.
    fn start(&mut self) -> Option<Process> {
        self.tally.starts += 1;
        let cores = 1 + self.dice.below(3) as usize;
        event(Level::Info, "simulated: a start").field("cores", cores).emit();
        match Process::start(cores, self.wipe_after_s, self.ledger.clone()) {
            Ok(mut process) => {
                process.catch_up(&mut self.dice);
                process.check_queue();
                Some(process)
            }
            Err(why) => {
                let excused = simulated::with(|disk| disk.is_dead()) || self.troubled;
                assert!(excused, "the spool does not open: {why}");
                None
            }
        }
    }

    fn life(&mut self) {
        let end = [End::GoodOrder, End::Kill, End::PowerCut, End::PowerCut][self.dice.below(4) as usize];
        if end == End::PowerCut {
            let operations_max = if self.dice.below(4) == 0 { 60 } else { 600 };
            let operations = 1 + self.dice.below(operations_max);
            simulated::with(|disk| disk.cut_power_at(Some(operations)));
        }
        self.set_trouble(false);
        if let Some(mut process) = self.start() {
            let turns = 20 + self.dice.below(600);
            for _ in 0..turns {
                if simulated::with(|disk| disk.is_dead()) {
                    break;
                }
                self.turn(&mut process);
            }
            if end == End::GoodOrder {
                self.end_in_good_order(&mut process);
            }
            self.die(Some(process), end);
        } else {
            self.die(None, end);
        }
        let pause = self.dice.below(600_000);
        self.pass(pause);
    }

    fn die(&mut self, process: Option<Process>, end: End) {
        event(Level::Info, "simulated: a life ends").field("how", format_args!("{end:?}")).emit();
        simulated::with(|disk| disk.die());
        simulated::stop();
        drop(process);
        simulated::with(|disk| disk.trouble = Trouble::default());
        if end == End::PowerCut {
            self.tally.power_cuts += 1;
            simulated::with(|disk| disk.after_power_cut());
        } else {
            self.tally.kills += u64::from(end == End::Kill);
            simulated::with(|disk| disk.after_kill());
        }
    }

    /// One thing happens.
    fn turn(&mut self, process: &mut Process) {
        match self.dice.below(100) {
            0..10 => self.offer(process),
            10..40 => drop(simulated::run_one(&mut self.dice)),
            40..58 => simulated::with(|disk| disk.complete_one()),
            58..66 => drop(process.files()),
            66..74 => process.follow(1 + self.dice.below(8)),
            74..78 => process.record(),
            78..82 => process.hear(),
            82..84 => process.move_survivors(),
            84..88 => process.deliver(1 + self.dice.below(4) as usize),
            88..94 => process.answer(&mut self.dice, Mood::Any),
            94..96 => {
                self.pass(1000);
                process.second();
            }
            96 => process.order(&mut self.dice),
            97 => {
                let ms = [10_000, 60_000, 1_000_000][self.dice.below(3) as usize];
                self.pass(ms);
                process.second();
            }
            98 => self.set_trouble(true),
            _ => self.burst(process),
        }
    }

    fn offer(&mut self, process: &Process) {
        let writer = &process.writers[self.dice.below(process.writers.len() as u64) as usize];
        let offer = Offer::new(&mut self.dice);
        simulated::spawn(client::send(writer.clone(), self.ledger.clone(), offer));
    }

    /// Some things that belong together happen at once, or runs would seldom get far.
    fn burst(&mut self, process: &mut Process) {
        for _ in 0..self.dice.below(4) {
            self.offer(process);
        }
        for _ in 0..1 + self.dice.below(6) {
            self.settle(process, Mood::Any);
        }
    }

    /// What is under way goes on, everywhere.
    fn settle(&mut self, process: &mut Process, mood: Mood) {
        for _ in 0..20 {
            simulated::run_one(&mut self.dice);
            simulated::with(|disk| disk.complete_one());
        }
        process.hear();
        process.follow(64);
        process.record();
        process.deliver(8);
        for _ in 0..8 {
            process.answer(&mut self.dice, mood);
        }
        process.files();
    }

    fn set_trouble(&mut self, is_open: bool) {
        let dice = &mut self.dice;
        if !self.troubled {
            return;
        }
        let mut trouble = Trouble::default();
        match dice.below(6) {
            0 => trouble.writes = 300,
            // What a killed process has left is synced at the start, and must be.
            1 if is_open => trouble.syncs = 500,
            2 => trouble.full = true,
            3 => trouble.names = 300,
            4 if is_open => trouble.reads = 100,
            _ => {}
        }
        simulated::with(|disk| disk.trouble = trouble);
    }

    fn end_in_good_order(&mut self, process: &mut Process) {
        for _ in 0..30 {
            self.settle(process, Mood::Any);
        }
        process.close();
        for _ in 0..200 {
            simulated::run_one(&mut self.dice);
            simulated::with(|disk| disk.complete_one());
        }
        process.hear();
        process.follow(1000);
        while process.files() {}
    }

    /// Without harm, until all is delivered.
    fn last_life(&mut self) {
        let mut process = self.start().expect("nothing fails any more");
        let mut rounds = 0;
        while !(process.is_idle() && simulated::tasks() == 0) {
            self.settle(&mut process, Mood::Kind);
            process.move_survivors();
            if rounds % 8 == 0 {
                process.release_all();
            }
            self.pass(60_000);
            process.second();
            rounds += 1;
            assert!(rounds < 2000, "what is queued is never delivered");
        }
        self.ledger.borrow().check_all_is_done();
        self.end_in_good_order(&mut process);
        self.die(Some(process), End::GoodOrder);
    }

    /// Another start finds nothing to do, and gives all back. One more, after the time in which that is to be overwritten,
    /// finds that it is due: restarts do not put it off.
    fn check_remains(&mut self) {
        self.settled_life();
        self.pass(1000 * self.wipe_after_s / 4);
        let Remains { active, spills, damaged, unwiped, wiped } = self.settled_life();
        assert!(active.is_empty(), "segments {active:?} are never recycled");
        assert_eq!(spills, 0, "spill files are never freed");
        assert!(damaged.is_empty(), "what was never whole is reported as damaged: {damaged:?}");
        assert!(self.wipe_after_s == 0 || unwiped.is_empty(), "delivered mail is left in {unwiped:?}");
        self.tally.wiped += wiped;
    }

    /// A life in which nothing is left to deliver.
    fn settled_life(&mut self) -> Remains {
        let mut process = self.start().expect("nothing fails any more");
        for _ in 0..20 {
            while process.files() {}
            process.follow(1000);
        }
        assert!(process.is_idle(), "something is delivered that was done");
        let remains = process.remains();
        if !remains.active.is_empty() {
            println!("why they are kept: {}", process.why_kept());
        }
        self.die(Some(process), End::GoodOrder);
        remains
    }
}
