//! The verifier threads: password hashing, away from the cores.
//!
//! ```text
//!  core --try_push--> [ bounded queue ] --> verifier 0 .. N-1 --oneshot--> core
//!           |          a line per address     each with its own working memory
//!           +-- full: the longest line loses its last check, or this one is refused
//! ```
//!
//! Promises: a push never waits; addresses take turns, and however many checks one of them has waiting, another's are
//! taken: who guesses by the hundred makes only himself wait; who has logged in from an address before goes before those
//! who have not, so that a crowd of guessers with an address each does not keep him waiting, and finds room when they have
//! filled the queue (it holds twice as many for him); a check whose asker has gone is not made; every check that is made
//! costs exactly one hash, whoever is asked about; a panic costs one answer, not a thread.
//!
//! The brake bounds what a known user's wrong passwords can do to others.

use super::hash::Memory;
use super::users::Users;
use crate::log::{self, Level};
use crate::policy::Network;
use crate::sasl::Credentials;
use futures_channel::oneshot;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// What to check: a password against the snapshot that was current when it was asked.
pub struct Check {
    /// The snapshot.
    pub users: Arc<Users>,
    /// The account's canonical name.
    pub account: Arc<str>,
    /// What the client claims.
    pub credentials: Credentials,
    /// Where he is.
    pub from: Network,
    /// He has logged in from there before.
    pub known: bool,
}

/// How a check is made: [`hash`], or what a test puts in its place.
pub type Method = fn(&Check, &mut Memory) -> bool;

/// Makes a check with one hash, real or dummy.
pub fn hash(check: &Check, memory: &mut Memory) -> bool {
    check.users.hash(&check.account).matches(check.credentials.password.as_bytes(), memory)
}

/// The threads and their queue.
pub struct Verifiers {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    waiting_max: usize,
    method: Method,
    made: AtomicU64,
}

#[derive(Default)]
struct Queue {
    /// What waits, by address; no line is empty.
    lines: HashMap<Network, VecDeque<Waiting>>,
    /// The addresses in the order in which it is their turn; each once.
    turns: VecDeque<Network>,
    /// In all lines.
    count: usize,
    stopped: bool,
}

type Waiting = (Check, oneshot::Sender<bool>);

impl Queue {
    /// Puts a check in line: one that is known before those that are not, in the line of its address and in the turns. False:
    /// there is no room, and no line is longer than this one would be.
    fn push(&mut self, waiting: Waiting, count_max: usize) -> bool {
        let (from, known) = (waiting.0.from, waiting.0.known);
        let count_max = if known { 2 * count_max } else { count_max };
        if self.count >= count_max && !self.shorten_longest(from) {
            return false;
        }
        let line = self.lines.entry(from).or_default();
        match (line.is_empty(), known) {
            (true, true) => self.turns.push_front(from),
            (true, false) => self.turns.push_back(from),
            (false, _) => {}
        }
        let at = if known { line.iter().take_while(|(check, _)| check.known).count() } else { line.len() };
        line.insert(at, waiting);
        self.count += 1;
        true
    }

    /// Drops the last check of the longest line, if that is longer than the line of `from` with one more.
    fn shorten_longest(&mut self, from: Network) -> bool {
        let own = self.lines.get(&from).map_or(0, VecDeque::len);
        let Some((longest, line)) = self.lines.iter_mut().max_by_key(|(_, line)| line.len()) else { return false };
        if line.len() <= own + 1 {
            return false;
        }
        // Who asked hears of it by the sender's end. The line had two checks or more, so it is not empty now.
        debug_assert!(*longest != from);
        line.pop_back();
        self.count -= 1;
        true
    }

    /// The check whose turn it is.
    fn pop(&mut self) -> Option<Waiting> {
        let from = self.turns.pop_front()?;
        let line = self.lines.get_mut(&from)?;
        let next = line.pop_front()?;
        match line.is_empty() {
            true => drop(self.lines.remove(&from)),
            false => self.turns.push_back(from),
        }
        self.count -= 1;
        Some(next)
    }
}

impl Verifiers {
    /// Starts `threads` threads (at least one) with room for `waiting_max` checks that wait. Errors: a thread cannot be
    /// made.
    pub fn start(threads: usize, waiting_max: usize, method: Method) -> Result<Verifiers, String> {
        let (queue, filled, made) = (Mutex::default(), Condvar::new(), AtomicU64::new(0));
        let shared = Arc::new(Shared { queue, filled, waiting_max, method, made });
        let verifiers = Verifiers { shared, threads: Mutex::default() };
        for number in 0..threads.max(1) {
            let shared = verifiers.shared.clone();
            let thread = thread::Builder::new().name(format!("verifier-{number}")).spawn(move || shared.run());
            let thread = thread.map_err(|error| format!("cannot start verifier thread {number}: {error}"))?;
            verifiers.threads().push(thread);
        }
        Ok(verifiers)
    }

    /// Queues a check. None: the queue is full, or the threads are stopped. The answer is an error if the check has to make
    /// room for that of another address, or the threads stop, or the check panics, before it is made.
    pub fn try_push(&self, check: Check) -> Option<oneshot::Receiver<bool>> {
        let (sender, receiver) = oneshot::channel();
        let mut queue = self.shared.queue();
        if queue.stopped || !queue.push((check, sender), self.shared.waiting_max) {
            return None;
        }
        drop(queue);
        self.shared.filled.notify_one();
        Some(receiver)
    }

    /// How many checks were made, each at the cost of one hash.
    pub fn made(&self) -> u64 {
        self.shared.made.load(Ordering::Relaxed)
    }

    /// Ends the threads: a check under way is finished, those that wait are dropped and their askers told so.
    pub fn stop(&self) {
        let waiting = {
            let mut queue = self.shared.queue();
            queue.stopped = true;
            queue.turns.clear();
            queue.count = 0;
            std::mem::take(&mut queue.lines)
        };
        drop(waiting);
        self.shared.filled.notify_all();
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Verifiers {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self) {
        let mut memory = Memory::default();
        while let Some((check, answer)) = self.next() {
            if answer.is_canceled() {
                continue;
            }
            self.made.fetch_add(1, Ordering::Relaxed);
            match catch_unwind(AssertUnwindSafe(|| (self.method)(&check, &mut memory))) {
                // Who asked may have gone meanwhile.
                Ok(right) => drop(answer.send(right)),
                Err(_) => {
                    memory = Memory::default();
                    log::event(Level::Error, "password check panicked").field("user", &check.account).emit();
                }
            }
        }
    }

    /// The next check, or none once stopped.
    fn next(&self) -> Option<Waiting> {
        let mut queue = self.queue();
        loop {
            if queue.stopped {
                return None;
            }
            if let Some(next) = queue.pop() {
                return Some(next);
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sasl::Mechanism;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;

    fn check(password: &str) -> Check {
        check_from(password, "192.0.2.1")
    }

    fn check_from(password: &str, address: &str) -> Check {
        let users = Arc::new(Users::new(Vec::new(), 1).expect("snapshot"));
        let credentials = Credentials { mechanism: Mechanism::Plain, user: "ann".into(), password: password.into() };
        let from = Network::address(address.parse().expect("an address"));
        Check { users, account: "ann".into(), credentials, from, known: false }
    }

    fn queued(queue: &mut Queue, password: &str, address: &str) -> Option<oneshot::Receiver<bool>> {
        let (sender, receiver) = oneshot::channel();
        queue.push((check_from(password, address), sender), 4).then_some(receiver)
    }

    fn drained(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop().map(|(check, _)| check.credentials.password.clone())).collect()
    }

    // covers: 10.13 11.3
    #[test]
    fn a_guesser_loses_his_place_to_others_and_addresses_take_turns() {
        let mut queue = Queue::default();
        let guesses: Vec<_> = (0..6).map(|n| queued(&mut queue, &format!("g{n}"), "192.0.2.1")).collect();
        assert_eq!(guesses.iter().filter(|place| place.is_some()).count(), 4, "alone he may have all of it");
        let anna = queued(&mut queue, "a1", "192.0.2.2").expect("room is made");
        let ben = queued(&mut queue, "b1", "192.0.2.3").expect("and again");
        assert!(queued(&mut queue, "a2", "192.0.2.2").is_none(), "every line is as short as hers would be");
        let lost: Vec<bool> = guesses.into_iter().flatten().map(|mut place| place.try_recv().is_err()).collect();
        assert_eq!(lost, [false, false, true, true], "his last ones");
        assert_eq!((queue.count, queue.lines.len()), (4, 3));
        assert_eq!(drained(&mut queue), ["g0", "a1", "b1", "g1"]);
        assert!(queue.lines.is_empty() && queue.turns.is_empty() && queue.count == 0);
        drop((anna, ben));
    }

    // covers: 10.13 11.3
    #[test]
    fn who_has_logged_in_from_there_goes_before_a_crowd() {
        let mut queue = Queue::default();
        let mut places: Vec<_> =
            (1..=4).map(|n| queued(&mut queue, &format!("g{n}"), &format!("192.0.2.{n}"))).collect();
        assert!(queued(&mut queue, "a", "192.0.2.9").is_none(), "full, with a line for each");
        for (password, address) in [("anna", "192.0.2.9"), ("anna2", "192.0.2.9"), ("ben", "192.0.2.3")] {
            let (sender, receiver) = oneshot::channel();
            let check = Check { known: true, ..check_from(password, address) };
            assert!(queue.push((check, sender), 4), "there is room for {password}");
            places.push(Some(receiver));
        }
        assert_eq!(drained(&mut queue), ["anna", "g1", "g2", "ben", "g4", "anna2", "g3"]);
        assert_eq!((queue.count, queue.lines.len()), (0, 0));
    }

    fn wait(receiver: oneshot::Receiver<bool>) -> Result<bool, oneshot::Canceled> {
        crate::auth::tests::block_on(receiver)
    }

    #[test]
    fn a_panic_costs_one_answer_and_not_the_thread() {
        let method: Method = |check, _| match check.credentials.password.as_str() {
            "panic" => panic!("on purpose"),
            password => password == "right",
        };
        let verifiers = Verifiers::start(1, 4, method).expect("threads");
        let ask = |password| wait(verifiers.try_push(check(password)).expect("room"));
        assert_eq!(ask("right"), Ok(true));
        assert_eq!(ask("panic"), Err(oneshot::Canceled));
        assert_eq!(ask("wrong"), Ok(false));
        assert_eq!(ask("right"), Ok(true));
        assert_eq!(verifiers.made(), 4);
    }

    #[test]
    fn a_full_queue_refuses_at_once_and_an_asker_who_left_costs_no_hash() {
        static GATE: Barrier = Barrier::new(2);
        let method: Method = |check, _| {
            if check.credentials.password == "gate" {
                GATE.wait();
                GATE.wait();
            }
            true
        };
        let verifiers = Verifiers::start(1, 2, method).expect("threads");
        let held = verifiers.try_push(check("gate")).expect("room");
        GATE.wait(); // now the only thread is busy and the queue empty
        let first = verifiers.try_push(check("a")).expect("room");
        let left = verifiers.try_push(check("b")).expect("room");
        assert!(verifiers.try_push(check("c")).is_none(), "full");
        drop(left);
        GATE.wait();
        assert_eq!((wait(held), wait(first)), (Ok(true), Ok(true)));
        assert_eq!(wait(verifiers.try_push(check("d")).expect("room again")), Ok(true));
        assert_eq!(verifiers.made(), 3, "gate, a and d, but not b");
    }

    #[test]
    fn stopping_answers_those_who_wait_and_refuses_the_next() {
        static GATE: Barrier = Barrier::new(2);
        static RELEASED: AtomicBool = AtomicBool::new(false);
        let method: Method = |_, _| {
            GATE.wait();
            GATE.wait();
            RELEASED.load(Ordering::SeqCst)
        };
        let verifiers = Verifiers::start(1, 2, method).expect("threads");
        let held = verifiers.try_push(check("held")).expect("room");
        GATE.wait();
        let waiting = verifiers.try_push(check("waiting")).expect("room");
        thread::scope(|scope| {
            scope.spawn(|| verifiers.stop());
            // Told before the check under way ends: it ends only after this.
            assert_eq!(wait(waiting), Err(oneshot::Canceled));
            RELEASED.store(true, Ordering::SeqCst);
            GATE.wait();
        });
        assert_eq!(wait(held), Ok(true), "what was under way is finished");
        assert!(verifiers.try_push(check("late")).is_none());
        verifiers.stop();
    }
}
