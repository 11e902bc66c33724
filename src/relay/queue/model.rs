//! The queue against a naive one that scans everything: whatever happens in whatever order, what is begun may be begun, is the
//! longest due of its sender, and comes when it is its sender's turn; what may be begun is begun; the counts are right.

use super::tests::{EXPIRY, fates};
use super::turns::SMALL_IN_ROW;
use super::*;
use crate::relay::losses::LOSSES_MAX;
use std::collections::{BTreeMap, BTreeSet};

const SECOND: u64 = 1000;
const SERVERS: [usize; 4] = [0, 0, 1, 2];

/// A job, found by scanning.
#[derive(Debug)]
struct Waiting {
    id: u64,
    destination: usize,
    recipients: BTreeSet<u32>,
    due_ms: u64,
    flying: bool,
    /// It has its turn among others.
    ready: bool,
    /// It has been tried, and not in vain for want of a connection.
    tried: bool,
}

#[derive(Debug)]
struct Known {
    sender: u32,
    small: bool,
    expire_ms: u64,
    moving: bool,
    committing: BTreeSet<u32>,
}

/// Destination, size and sender.
type Lane = (usize, bool, u32);

#[derive(Default)]
struct Model {
    messages: BTreeMap<u64, Known>,
    jobs: Vec<Waiting>,
    /// How often the second was served since the first began to wait.
    passed: HashMap<(Lane, Lane), u32>,
    small_in_row: HashMap<usize, u8>,
    connections: [usize; 4],
}

impl Model {
    fn lane(&self, job: &Waiting) -> Lane {
        let known = &self.messages[&job.id];
        (job.destination, known.small, known.sender)
    }

    fn may_begin(&self, job: &Waiting, now: u64) -> bool {
        let known = &self.messages[&job.id];
        !job.flying && !known.moving && job.due_ms <= now && !job.recipients.is_empty()
    }

    fn ready(&self, now: u64) -> Vec<&Waiting> {
        self.jobs.iter().filter(|job| self.may_begin(job, now)).collect()
    }

    /// What is due takes part from the next time on that somebody asks.
    fn promote(&mut self, destination: usize, now: u64) {
        for at in 0..self.jobs.len() {
            let here = self.jobs[at].destination == destination;
            self.jobs[at].ready |= here && self.may_begin(&self.jobs[at], now);
        }
    }

    fn begun(&mut self, delivery: &Delivery<u32>, now: u64) {
        let recipients: BTreeSet<u32> = delivery.recipients.iter().copied().collect();
        let same = |job: &Waiting| job.id == delivery.id && job.recipients == recipients;
        let at = self.jobs.iter().position(same).expect("a job of the message");
        let job = &self.jobs[at];
        let lane = self.lane(job);
        assert!(self.may_begin(job, now) && job.destination == delivery.destination, "{job:?}");
        let ready = self.ready(now);
        let first_ms = ready.iter().filter(|other| self.lane(other) == lane).map(|other| other.due_ms).min();
        assert_eq!(first_ms, Some(job.due_ms), "the longest due of the sender");
        let others: BTreeSet<Lane> =
            ready.iter().map(|other| self.lane(other)).filter(|other| *other != lane).collect();
        let large_waits = others.iter().any(|other| (other.0, other.1) == (lane.0, false)) || !lane.1;
        for other in others.into_iter().filter(|other| (other.0, other.1) == (lane.0, lane.1)) {
            let passed = self.passed.entry((other, lane)).or_default();
            *passed += 1;
            assert!(*passed <= 1, "{lane:?} has had two turns while {other:?} waited");
        }
        let in_row = self.small_in_row.entry(lane.0).or_default();
        *in_row = if lane.1 && large_waits { *in_row + 1 } else { 0 };
        assert!(*in_row <= SMALL_IN_ROW, "large ones wait");
        self.passed.retain(|(waits, _), _| *waits != lane);
        (self.jobs[at].flying, self.jobs[at].ready) = (true, false);
    }

    /// Turns are counted while somebody waits.
    fn settle_turns(&mut self, now: u64) {
        for at in 0..self.jobs.len() {
            self.jobs[at].ready &= self.may_begin(&self.jobs[at], now);
        }
        let waiting: BTreeSet<Lane> = self.jobs.iter().filter(|job| job.ready).map(|job| self.lane(job)).collect();
        self.passed.retain(|(waits, _), _| waiting.contains(waits));
        self.jobs.retain(|job| job.flying || !job.recipients.is_empty());
        let (jobs, is_open) = (&self.jobs, |known: &Known| !known.committing.is_empty());
        self.messages
            .retain(|id, known| is_open(known) || jobs.iter().any(|job| job.id == *id && !job.recipients.is_empty()));
        let messages = &self.messages;
        self.jobs.retain(|job| messages.contains_key(&job.id));
    }
}

struct Trial {
    queue: Queue<u32>,
    model: Model,
    flights: Vec<Delivery<u32>>,
    log: Vec<(u64, u32)>,
    now: u64,
    random: u64,
    next_id: u64,
}

impl Trial {
    fn roll(&mut self, sides: u64) -> u64 {
        self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.random >> 33) % sides
    }

    fn any_message(&mut self) -> Option<u64> {
        let at = self.roll(self.model.messages.len().max(1) as u64);
        self.model.messages.keys().copied().nth(at as usize)
    }

    fn add(&mut self) {
        self.next_id += 1;
        let id = self.next_id;
        let (sender, small) = (self.roll(4) as u32, self.roll(2) == 0);
        let destinations: Vec<usize> = (0..1 + self.roll(4)).map(|_| self.roll(4) as usize).collect();
        let release_ms = self.now.saturating_sub(self.roll(3)) + self.roll(2) * self.roll(100) * SECOND;
        let (at, survivor) = (id as u32, false);
        self.queue.add(Arrival { id, at, release_ms, destinations: destinations.clone(), survivor, sender, small });
        let expire_ms = release_ms + EXPIRY;
        let known = Known { sender, small, expire_ms, moving: false, committing: BTreeSet::new() };
        self.model.messages.insert(id, known);
        for destination in destinations.iter().collect::<BTreeSet<_>>() {
            let its = (0u32..).zip(&destinations).filter(|(_, other)| *other == destination);
            let recipients = its.map(|(index, _)| index).collect();
            let (due_ms, flying, ready, tried) = (release_ms, false, false, false);
            let job = Waiting { id, destination: *destination, recipients, due_ms, flying, ready, tried };
            self.model.jobs.push(job);
        }
    }

    fn overdue(&mut self) {
        while let Some(overdue) = self.queue.overdue(self.now) {
            let known = self.model.messages.get_mut(&overdue.id).expect("known");
            assert!(overdue.given_up && known.expire_ms <= self.now && !known.moving);
            let given_up: BTreeSet<u32> = overdue.recipients.iter().map(|(index, _)| *index).collect();
            // A last try comes first, but where connections fail and fail.
            let owed = |job: &Waiting| {
                (!job.tried || job.due_ms <= self.now) && self.queue.sites[job.destination].failures < LOSSES_MAX
            };
            let its = self.model.jobs.iter_mut().filter(|job| job.id == overdue.id && !job.flying && !owed(job));
            let expected: BTreeSet<u32> = its.flat_map(|job| std::mem::take(&mut job.recipients)).collect();
            assert_eq!(given_up, expected);
            self.log.extend(given_up.iter().map(|&index| (overdue.id, index)));
            known.committing.extend(given_up);
        }
    }

    fn begin(&mut self) {
        self.overdue();
        // Who has lost all that waited by that comes back behind the others.
        self.model.settle_turns(self.now);
        for destination in 0..SERVERS.len() {
            // Those that come and go are looked at when something may begin there, the others always.
            if destination < self.queue.crowd.first() || self.has_room(destination) {
                self.model.promote(destination, self.now);
            }
        }
        while let Some(delivery) = self.queue.start(self.now) {
            self.model.begun(&delivery, self.now);
            self.model.connections[delivery.destination] += 1;
            self.flights.push(delivery);
            self.model.settle_turns(self.now);
        }
        let begun: Vec<usize> = self.model.ready(self.now).iter().map(|job| job.destination).collect();
        assert!(begun.iter().all(|&destination| !self.has_room(destination)), "what may be begun is begun");
        let later = self.model.jobs.iter().filter(|job| !job.flying && !self.model.messages[&job.id].moving);
        let until = |job: &Waiting| job.due_ms.max(self.queue.sites[job.destination].down_until_ms);
        let first_ms = later.filter(|job| self.may_connect(job.destination)).map(until).min();
        let wake_ms = self.queue.wake_ms().unwrap_or(u64::MAX);
        let first_ms = first_ms.unwrap_or(u64::MAX);
        assert!(wake_ms > self.now && wake_ms <= first_ms, "{wake_ms}, not {first_ms}, at {}", self.now);
    }

    fn has_room(&self, destination: usize) -> bool {
        self.may_connect(destination) && self.queue.sites[destination].down_until_ms <= self.now
    }

    fn may_connect(&self, destination: usize) -> bool {
        let limit = if SERVERS[destination] == 2 { 1 } else { 2 };
        let server = |other: &usize| SERVERS[*other] == SERVERS[destination];
        let there: usize = (0..4).filter(server).map(|other| self.model.connections[other]).sum();
        let here = if self.queue.sites[destination].failures > 0 { 1 } else { limit };
        there < limit && self.model.connections[destination] < here
    }

    /// One is back, and its connection closes or goes on.
    fn land(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let at = self.roll(self.flights.len() as u64) as usize;
        let delivery = self.flights.swap_remove(at);
        let flying =
            |job: &&mut Waiting| job.id == delivery.id && job.flying && job.destination == delivery.destination;
        let flies: BTreeSet<u32> = delivery.recipients.iter().copied().collect();
        let closes = if self.roll(6) == 0 {
            self.queue.unreachable(&delivery, "down", self.now);
            self.model.jobs.iter_mut().find(flying).into_iter().for_each(|job| job.flying = false);
            true
        } else {
            let codes: Vec<u16> = flies.iter().map(|_| [250, 450, 450, 550][self.roll(4) as usize]).collect();
            let blame = [Blame::Destination, Blame::Content, Blame::Ours, Blame::Nobody][self.roll(7).min(3) as usize];
            let tried = self.queue.tried(&delivery, fates(&codes), blame, "mx", self.now);
            let done = tried.delivered.iter().chain(&tried.failed).map(|(index, _)| *index);
            if let Some(job) = self.model.jobs.iter_mut().find(flying) {
                (job.flying, job.tried) = (false, true);
                let known = self.model.messages.get_mut(&delivery.id).expect("known");
                for index in done {
                    assert!(job.recipients.remove(&index));
                    known.committing.insert(index);
                    self.log.push((delivery.id, index));
                }
                let standing = self.queue.standing(delivery.id).expect("known");
                let mut parts = standing.parts.iter().filter(|part| part.destination == delivery.destination);
                job.due_ms = parts.next().map_or(0, |part| part.due_ms).max(job.due_ms);
                let its = &self.queue.jobs;
                let same = |(_, known): &(u32, &Job)| {
                    self.queue.messages[known.message].id == delivery.id
                        && known.destination == delivery.destination as u32
                };
                job.due_ms = its.range(0).find(same).map_or(0, |(_, known)| known.due_ms);
                assert_eq!(tried.deferred.is_empty(), job.recipients.is_empty());
            }
            self.roll(3) == 0
        };
        self.model.settle_turns(self.now);
        self.overdue();
        if !closes {
            self.model.settle_turns(self.now);
            self.model.promote(delivery.destination, self.now);
        }
        let next = Some(delivery.destination).filter(|_| !closes).and_then(|site| self.queue.next(site, self.now));
        match next {
            Some(next) => {
                self.model.begun(&next, self.now);
                self.flights.push(next);
            }
            None => {
                self.queue.disconnected(delivery.destination);
                self.model.connections[delivery.destination] -= 1;
            }
        }
    }

    fn read_back(&mut self) {
        if self.log.is_empty() {
            return;
        }
        let at = self.roll(self.log.len() as u64) as usize;
        let (id, recipient) = self.log.swap_remove(at);
        let known = self.model.messages.get_mut(&id).expect("known");
        assert!(known.committing.remove(&recipient));
        let applied = self.queue.outcome(id, recipient, 0);
        let left = self.model.jobs.iter().any(|job| job.id == id && !job.recipients.is_empty());
        let is_open = left || !known.committing.is_empty();
        assert_eq!(matches!(applied, Applied::Open(_)), is_open);
    }

    fn move_one(&mut self) {
        let Some(id) = self.any_message() else { return };
        let at = self.queue.place(id).expect("known");
        let known = self.model.messages.get_mut(&id).expect("known");
        if known.moving {
            known.moving = false;
            let (destinations, at) = (Vec::new(), at + 1000);
            let arrival = Arrival { id, at, release_ms: 0, destinations, survivor: true, sender: 0, small: false };
            if self.random.is_multiple_of(2) {
                assert!(self.queue.add(arrival).superseded.is_some());
            } else {
                self.queue.move_failed(id);
            }
        } else {
            let its: Vec<&Waiting> = self.model.jobs.iter().filter(|job| job.id == id).collect();
            let expected = known.committing.is_empty() && its.iter().all(|job| !job.flying);
            let open: BTreeSet<u32> = its.iter().flat_map(|job| job.recipients.iter().copied()).collect();
            let moving = self.queue.begin_move(id, at).map(|moving| moving.open.into_iter().collect());
            assert_eq!(moving, expected.then_some(open));
            known.moving = expected;
        }
    }

    /// Whose turn it is does not change.
    fn set_back(&mut self) {
        let by_ms = [2 * SECOND, 1000 * SECOND][self.roll(2) as usize].min(self.now);
        let before_ms = self.now;
        self.now -= by_ms;
        self.queue.set_back(by_ms, self.now);
        for job in self.model.jobs.iter_mut().filter(|job| job.tried || job.due_ms <= before_ms) {
            job.due_ms = job.due_ms.saturating_sub(by_ms);
        }
    }

    fn check(&self) {
        assert_eq!(self.queue.counts().0, self.model.messages.len());
        for destination in 0..SERVERS.len() {
            let counts = self.queue.counts_of(destination);
            let here = || self.model.jobs.iter().filter(|job| job.destination == destination);
            let waits = |job: &&Waiting| !job.flying && !self.model.messages[&job.id].moving;
            assert_eq!(counts.flying, here().filter(|job| job.flying).count());
            let oldest_ms = self.queue.seen(destination, self.now).oldest_ms;
            assert_eq!(oldest_ms, self.queue.oldest_by_scan_ms(destination));
            assert_eq!(
                counts.ready + counts.later,
                here().filter(waits).filter(|job| !job.recipients.is_empty()).count()
            );
        }
        let (mut seen, mut from) = (BTreeSet::new(), Some(0));
        while let Some(first) = from {
            let (page, next) = self.queue.page(first, 3);
            seen.extend(page.iter().map(|standing| standing.id));
            from = next;
        }
        assert!(seen.iter().eq(self.model.messages.keys()));
    }
}

/// The last two of the destinations are always there, or come and go: that makes no difference.
#[test]
fn whatever_happens_it_decides_as_the_naive_one_allows() {
    for seed in 1..100u64 {
        let fixed = if seed % 2 == 0 { 2 } else { SERVERS.len() };
        let mut queue = Queue::new(super::tests::queue(1).settings, SERVERS.into_iter().take(fixed), seed);
        queue.caught_up();
        match fixed {
            2 => assert_eq!([queue.add_site(2), queue.add_site(1)], [2, 3]),
            _ => queue.limit(3, 1),
        }
        let (model, random) = (Model::default(), seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut trial = Trial { queue, model, flights: vec![], log: vec![], now: EXPIRY, random, next_id: 0 };
        for _ in 0..800 {
            trial.now += [0, 1, SECOND, 100 * SECOND][trial.roll(4) as usize] * trial.roll(2);
            match trial.roll(8) {
                0 | 1 if trial.model.messages.len() < 25 => trial.add(),
                2 | 3 => trial.begin(),
                4 | 5 => trial.land(),
                6 => trial.move_one(),
                7 if trial.roll(10) == 0 => trial.set_back(),
                _ => trial.read_back(),
            }
            trial.model.settle_turns(trial.now);
            trial.check();
        }
    }
}
