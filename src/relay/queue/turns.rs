//! Whose turn it is at a destination: senders go round, so that one who has much to send delays nobody else.
//!
//! ```text
//!  later: jobs that wait for their time --due--> lane of their sender (the longest due first)
//!
//!  small ring:  anna -> ben -> cleo -> anna ..   the front lane's first job goes, the lane goes to the back
//!  large ring:  dan -> anna -> dan ..            one turn after four of the small ring, if both have something
//! ```
//!
//! Promises: between two turns of a sender each other sender with small messages, or large ones, that were due meanwhile
//! had one. Deferred and fresh messages of a sender stand in one lane, in the order in which they were due, so neither
//! starves the other. Two senders whose hashes are the same share the turns of one.

use super::message::{Job, State};
use super::slab::{NONE, Slab};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Turns of small messages after which a large one has its turn.
pub const SMALL_IN_ROW: u8 = 4;

/// What one sender has ready for one destination. Empty ones do not exist.
#[derive(Debug)]
struct Lane {
    destination: u32,
    sender: u32,
    /// Heap of its jobs.
    jobs: u32,
    /// Its neighbours in the ring.
    next: u32,
    prev: u32,
    small: bool,
}

/// The lanes of all destinations.
#[derive(Debug)]
pub struct Lanes {
    slab: Slab<Lane>,
    by_sender: HashTable<u32>,
}

/// Two rings of lanes, each by the lane whose turn is next.
#[derive(Debug)]
pub struct Rings {
    small: u32,
    large: u32,
    /// Turns of small messages since the last of a large one, while there are such.
    small_in_row: u8,
}

impl Default for Rings {
    fn default() -> Rings {
        Rings { small: NONE, large: NONE, small_in_row: 0 }
    }
}

impl Rings {
    /// The lane whose turn it is, or NONE.
    fn front(&self) -> u32 {
        match (self.small, self.large) {
            (NONE, large) => large,
            (small, NONE) => small,
            (_, large) if self.small_in_row >= SMALL_IN_ROW => large,
            (small, _) => small,
        }
    }

    fn ring(&mut self, small: bool) -> &mut u32 {
        if small { &mut self.small } else { &mut self.large }
    }
}

impl Lanes {
    /// None yet.
    pub fn new() -> Lanes {
        Lanes { slab: Slab::new(), by_sender: HashTable::new() }
    }

    /// Puts a job that is due into the lane of its sender.
    pub fn push(&mut self, rings: &mut Rings, jobs: &mut Slab<Job>, job: u32, sender: u32, small: bool) {
        let destination = jobs[job].destination;
        let Lanes { slab, by_sender } = self;
        let same = |&lane: &u32| {
            let lane = &slab[lane];
            (lane.destination, lane.sender, lane.small) == (destination, sender, small)
        };
        let hash_of = |&lane: &u32| hash(slab[lane].destination, slab[lane].sender, slab[lane].small);
        let lane = match by_sender.entry(hash(destination, sender, small), same, hash_of) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                let lane = Lane { destination, sender, jobs: NONE, next: NONE, prev: NONE, small };
                let lane = slab.insert(lane);
                vacant.insert(lane);
                join(slab, rings.ring(small), lane);
                lane
            }
        };
        jobs[job].lane = lane;
        jobs.push(&mut slab[lane].jobs, job);
    }

    /// Takes a job out of its lane.
    pub fn pull(&mut self, rings: &mut Rings, jobs: &mut Slab<Job>, job: u32) {
        let lane = jobs[job].lane;
        jobs.pull(&mut self.slab[lane].jobs, job);
        if self.slab[lane].jobs == NONE {
            self.leave(rings, lane);
        }
    }

    /// The job whose turn it is.
    pub fn first(&self, rings: &Rings) -> Option<u32> {
        let front = rings.front();
        (front != NONE).then(|| self.slab[front].jobs)
    }

    /// Lets those whose senders may not be served now stand back, so that the job whose turn it is is of one who may. False, and
    /// nothing is changed: there is none.
    pub fn turn_to(&self, rings: &mut Rings, may: impl Fn(u32) -> bool) -> bool {
        let Some((small, lane)) = self.first_who(rings, may) else { return false };
        *rings.ring(small) = lane;
        rings.small_in_row = match small {
            true => rings.small_in_row.min(SMALL_IN_ROW - 1),
            false => SMALL_IN_ROW,
        };
        true
    }

    /// Is anything there of a sender who may?
    pub fn has_who(&self, rings: &Rings, may: impl Fn(u32) -> bool) -> bool {
        self.first_who(rings, may).is_some()
    }

    /// In which ring the next turn of one who may is, and whose lane has it.
    fn first_who(&self, rings: &Rings, may: impl Fn(u32) -> bool) -> Option<(bool, u32)> {
        let front = rings.front();
        let small_first = front != NONE && self.slab[front].small;
        for small in [small_first, !small_first] {
            let first = if small { rings.small } else { rings.large };
            let mut lane = first;
            while lane != NONE {
                if may(self.slab[lane].sender) {
                    return Some((small, lane));
                }
                lane = self.slab[lane].next;
                if lane == first {
                    break;
                }
            }
        }
        None
    }

    /// Is anything there of another sender than this one?
    pub fn has_others(&self, rings: &Rings, sender: u32) -> bool {
        // A sender has one lane in a ring at most.
        let has_other =
            |front: u32| front != NONE && (self.slab[front].sender != sender || self.slab[front].next != front);
        has_other(rings.small) || has_other(rings.large)
    }

    /// Takes that job out: its sender has had a turn.
    pub fn take_first(&mut self, rings: &mut Rings, jobs: &mut Slab<Job>) -> Option<u32> {
        let front = rings.front();
        let job = self.first(rings)?;
        let Lane { small, next, .. } = self.slab[front];
        rings.small_in_row = if small && rings.large != NONE { rings.small_in_row + 1 } else { 0 };
        *rings.ring(small) = next;
        self.pull(rings, jobs, job);
        Some(job)
    }

    /// The lane has nothing left.
    fn leave(&mut self, rings: &mut Rings, lane: u32) {
        let Lane { destination, sender, next, prev, small, .. } = self.slab.remove(lane);
        if let Ok(found) = self.by_sender.find_entry(hash(destination, sender, small), |&known| known == lane) {
            found.remove();
        }
        let ring = rings.ring(small);
        if next == lane {
            *ring = NONE;
            return;
        }
        self.slab[prev].next = next;
        self.slab[next].prev = prev;
        if *ring == lane {
            *ring = next;
        }
    }
}

/// Puts a lane at the back of a ring: before its front.
fn join(slab: &mut Slab<Lane>, ring: &mut u32, lane: u32) {
    if *ring == NONE {
        *ring = lane;
    }
    let front = *ring;
    let back = if front == lane { lane } else { slab[front].prev };
    slab[lane].next = front;
    slab[lane].prev = back;
    slab[back].next = lane;
    slab[front].prev = lane;
}

/// A sender is a hash already: two multiplications spread it over the table.
fn hash(destination: u32, sender: u32, small: bool) -> u64 {
    let key = u64::from(sender) | u64::from(destination) << 33 | u64::from(small) << 32;
    let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// A site's jobs by [`State`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([usize; 4]);

impl Tally {
    /// One job more, or less.
    pub fn add(&mut self, state: State) {
        self.0[state as usize] += 1;
    }

    /// The opposite.
    pub fn remove(&mut self, state: State) {
        self.0[state as usize] -= 1;
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// How many.
    pub fn count(&self, state: State) -> usize {
        self.0[state as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{arrival, fates, queue};
    use super::super::{Arrival, Blame, Counts, Queue};

    fn from(id: u64, sender: u32, small: bool) -> Arrival<u32> {
        Arrival { sender, small, ..arrival(id, id, &[0]) }
    }

    /// One connection; what it is handed in turn, as ids.
    fn handed(queue: &mut Queue<u32>, now: u64) -> Vec<u64> {
        let one = |queue: &mut Queue<u32>| {
            let delivery = queue.next(0, now)?;
            queue.tried(&delivery, fates(&vec![250; delivery.recipients.len()]), Blame::Nobody, "mx", now);
            Some(delivery.id)
        };
        std::iter::from_fn(|| one(queue)).collect()
    }

    #[test]
    fn a_mailing_to_fifty_thousand_delays_nobody_elses_mail() {
        let mut queue = queue(1);
        queue.add(Arrival { sender: 7, ..arrival(1, 0, &[0; 50_000]) });
        queue.add(Arrival { sender: 7, ..arrival(2, 5, &[0; 1]) });
        queue.add(from(3, 8, true));
        let begun: Vec<u64> = std::iter::from_fn(|| queue.start(10)).map(|delivery| delivery.id).collect();
        assert_eq!(begun, [1, 3], "its sender has waited since a moment ago");
        let order = handed(&mut queue, 10);
        assert_eq!((order.len(), order.iter().position(|id| *id == 2)), (500, Some(499)), "one's own mail is in order");
    }

    #[test]
    fn senders_take_turns_and_their_own_mail_is_in_order() {
        let mut queue = queue(1);
        for (id, sender) in [(1, 7), (2, 7), (3, 7), (4, 8), (5, 8), (6, 9)] {
            queue.add(from(id, sender, true));
        }
        assert_eq!(handed(&mut queue, 10), [1, 4, 6, 2, 5, 3]);
    }

    #[test]
    fn deferred_and_fresh_mail_of_a_sender_is_in_the_order_in_which_it_was_due() {
        let mut queue = queue(1);
        queue.add(from(1, 7, true));
        let first = queue.start(10).expect("due");
        let again = queue.tried(&first, fates(&[450]), Blame::Nobody, "mx", 10).retry_ms.expect("a retry");
        for (id, due_ms) in [(2, again - 1), (3, again + 1)] {
            queue.add(Arrival { release_ms: due_ms, ..from(id, 7, true) });
        }
        queue.add(Arrival { release_ms: again + 2, ..from(4, 8, true) });
        assert_eq!(handed(&mut queue, again + 5), [2, 4, 1, 3]);
    }

    #[test]
    fn small_messages_go_before_large_ones_which_have_their_turns_too() {
        let mut queue = queue(1);
        (1..=3).for_each(|id| drop(queue.add(from(id, 7, false))));
        (4..=12).for_each(|id| drop(queue.add(from(id, 7, true))));
        queue.add(from(13, 8, true));
        assert_eq!(handed(&mut queue, 20), [4, 13, 5, 6, 1, 7, 8, 9, 10, 2, 11, 12, 3]);
    }

    /// One of two destinations at a server has so much that its connections would never be free.
    #[test]
    fn a_destination_does_not_wait_for_the_end_of_anothers_mailing() {
        let mut queue = Queue::new(queue(1).settings, [0, 0], 1);
        queue.caught_up();
        queue.add(arrival(1, 0, &[0; 5000]));
        let mut open: Vec<_> = std::iter::from_fn(|| queue.start(10)).collect();
        assert_eq!(open.len(), 2);
        queue.add(arrival(2, 9, &[1]));
        let mut handed = 0;
        while let Some(delivery) = open.pop() {
            queue.tried(&delivery, fates(&[250; 100]), Blame::Nobody, "mx", 10);
            open.extend(queue.next(0, 10));
            handed += 1;
        }
        assert!(handed < 25, "{handed}");
        queue.disconnected(0);
        assert_eq!(queue.start(10).expect("theirs").destination, 1);
    }

    #[test]
    fn a_server_may_take_fewer_connections() {
        let mut queue = Queue::new(queue(1).settings, [0, 1], 1);
        queue.caught_up();
        queue.limit(1, 1);
        (1..=6).for_each(|id| drop(queue.add(arrival(id, id, &[id as usize % 2]))));
        let begun: Vec<u64> = std::iter::from_fn(|| queue.start(10)).map(|delivery| delivery.id).collect();
        assert_eq!(begun, [1, 2, 4]);
        assert_eq!(queue.counts_of(1), Counts { ready: 2, flying: 1, ..Counts::default() });
    }
}
