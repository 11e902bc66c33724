//! Addresses of mail servers, whatever domains lead there: how many connections each has, and which of them are down.
//!
//! ```text
//!                        +--> up, with room: a Place --> opened, answered, lost .. dropped: for the next who waits
//!  connection --enter----+--> up, without: waits until one is given back, or PATIENCE is over
//!                        +--> down: why, at once; but one attempt when its pause is over
//! ```
//!
//! A thousand domains may have their mail servers at one address, as with a provider of parked domains. To that server they
//! are one client's connections, and if it is down or says nothing, each of them finding that out for itself would take a
//! connection and its time-out a thousand times. What a domain's servers are by name is [`super::site`]'s.
//!
//! Promises: an address has no more connections than a route allows to one server, over all domains and routes; of those who
//! wait for a place the first goes next whose sender has the fewest places there; an address that is down costs nobody who
//! asks a connection, but for one at a time, ever more rarely; memory is bounded by connections and those who wait for one,
//! and by [`DOWN_MAX`] addresses that are down or have broken connections.

use crate::clock::now_ms;
use crate::relay::losses::{Broken, Losses};
use futures_channel::oneshot;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How long one waits for a place. Who waits has one of the connections that direct delivery may have.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest pause before an address is tried again: as of a destination.
const RETRY_MAX_MS: u64 = 300_000;
/// Addresses that are remembered although nobody is connected: those that are down, or about to be.
const DOWN_MAX: usize = 4096;

/// All of them. Pure: no I/O and no clock; `now` is passed as milliseconds since the Unix epoch.
#[derive(Debug)]
struct Table<W> {
    /// Pause after a first failure, milliseconds; doubles.
    first_ms: u64,
    known: HashMap<SocketAddr, Known<W>>,
}

/// An address.
#[derive(Debug)]
struct Known<W> {
    /// Who has a place.
    senders: Vec<u32>,
    /// Who waits for one, and how many there may be for it.
    waiting: Vec<(u32, usize, W)>,
    /// In a row; 0: it is up.
    failures: u32,
    losses: Losses,
    /// While it is down: nobody connects before.
    retry_ms: u64,
    /// While it is down.
    why: String,
}

/// What one hears who wants to connect.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    /// The place is taken.
    Place,
    /// None is free.
    Full,
    /// It is down: why.
    Down(String),
}

impl<W> Table<W> {
    fn new(first_ms: u64) -> Table<W> {
        Table { first_ms, known: HashMap::new() }
    }

    fn enter(&mut self, to: SocketAddr, most: usize, sender: u32, now: u64) -> Entry {
        let known = self.known.entry(to).or_insert_with(Known::new);
        if known.failures > 0 && (known.retry_ms > now || !known.senders.is_empty()) {
            return Entry::Down(known.why.clone());
        }
        if known.is_full(most) {
            return Entry::Full;
        }
        known.senders.push(sender);
        Entry::Place
    }

    /// After [`Entry::Full`].
    fn wait(&mut self, to: SocketAddr, most: usize, sender: u32, who: W) {
        self.known.entry(to).or_insert_with(Known::new).waiting.push((sender, most, who));
    }

    /// Gives a free place to one who waits: the first of those whose senders have fewest.
    fn next(&mut self, to: SocketAddr) -> Option<(u32, W)> {
        let known = self.known.get_mut(&to).filter(|known| known.failures == 0)?;
        let held = |sender: u32| known.senders.iter().filter(|&&other| other == sender).count();
        let has_room = |most: usize| known.senders.len() < most.max(1);
        let waiting = known.waiting.iter().enumerate().filter(|(_, (_, most, _))| has_room(*most));
        let (at, _) = waiting.min_by_key(|(_, (sender, ..))| held(*sender))?;
        let (sender, _, who) = known.waiting.remove(at);
        known.senders.push(sender);
        Some((sender, who))
    }

    /// A place is given back.
    fn left(&mut self, to: SocketAddr, sender: u32) {
        let Some(known) = self.known.get_mut(&to) else { return };
        if let Some(at) = known.senders.iter().position(|&other| other == sender) {
            known.senders.swap_remove(at);
        }
        self.tidy(to);
    }

    /// It took a connection. If it has broken too many, it is up when it has answered a transaction.
    fn worked(&mut self, to: SocketAddr) {
        if let Some(known) = self.known.get_mut(&to).filter(|known| !known.losses.are_too_many()) {
            (known.failures, known.why) = (0, String::new());
        }
    }

    /// It answered a whole transaction.
    fn answered(&mut self, to: SocketAddr) {
        self.known.get_mut(&to).into_iter().for_each(|known| known.losses.end());
        self.worked(to);
    }

    /// It took no connection. Returns who waited for a place: they are told why.
    fn failed(&mut self, to: SocketAddr, why: &str, now: u64) -> Vec<W> {
        let Some(known) = self.known.get_mut(&to) else { return Vec::new() };
        // Connections that were being opened when it went down fail together: that is one failure.
        if known.failures == 0 || known.retry_ms <= now {
            known.failures = known.failures.saturating_add(1);
            let doubled = self.first_ms.saturating_mul(1 << (known.failures - 1).min(32));
            // Shorter than any domain's pause: whichever comes back first finds out for all.
            known.retry_ms = now + doubled.min(RETRY_MAX_MS) / 4 * 3;
            known.why = why.to_owned();
        }
        std::mem::take(&mut known.waiting).into_iter().map(|(.., who)| who).collect()
    }

    /// It broke a connection within a transaction. Returns as [`Table::failed`].
    fn lost(&mut self, to: SocketAddr, broken: Broken, now: u64) -> Vec<W> {
        let Some(known) = self.known.get_mut(&to) else { return Vec::new() };
        let is_fault = known.losses.add(broken) && known.losses.are_too_many();
        if is_fault { self.failed(to, "connections break within transactions", now) } else { Vec::new() }
    }

    fn set_back(&mut self, by_ms: u64) {
        self.known.values_mut().for_each(|known| known.retry_ms = known.retry_ms.saturating_sub(by_ms));
    }

    /// Forgets what need not be remembered.
    fn tidy(&mut self, to: SocketAddr) {
        let is_used = |known: &Known<W>| !known.senders.is_empty() || !known.waiting.is_empty();
        let is_good = |known: &Known<W>| known.failures == 0 && known.losses.is_empty();
        if self.known.get(&to).is_some_and(|known| !is_used(known) && is_good(known)) {
            self.known.remove(&to);
        }
        if self.known.len() > DOWN_MAX {
            let unused = self.known.iter().filter(|(_, known)| !is_used(known));
            let first = unused.min_by_key(|(_, known)| known.retry_ms).map(|(to, _)| *to);
            first.and_then(|to| self.known.remove(&to));
        }
    }
}

impl<W> Known<W> {
    fn new() -> Known<W> {
        let (losses, why) = Default::default();
        Known { senders: Vec::new(), waiting: Vec::new(), failures: 0, losses, retry_ms: 0, why }
    }

    /// Has it as many connections as there may be, or does somebody wait before?
    fn is_full(&self, most: usize) -> bool {
        !self.waiting.is_empty() || self.senders.len() >= most.max(1)
    }
}

type Wake = oneshot::Sender<Result<Place, String>>;

/// The addresses, as connections hold them: one table of a thread.
#[derive(Clone, Debug)]
pub struct Addresses(Rc<RefCell<Table<Wake>>>);

/// A connection's place at an address, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    to: SocketAddr,
    sender: u32,
    addresses: Addresses,
}

/// Why there is no place.
#[derive(Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// The address is down: why.
    Down(String),
    /// It has as many connections as it may, and kept them.
    Full,
}

impl Addresses {
    /// None yet. `first_ms`: pause after a first failure, milliseconds.
    pub fn new(first_ms: u64) -> Addresses {
        Addresses(Rc::new(RefCell::new(Table::new(first_ms))))
    }

    /// The clock was set back: pauses last as long as they were meant to.
    pub fn set_back(&self, by_ms: u64) {
        self.0.borrow_mut().set_back(by_ms);
    }

    /// A place at `to`, which may have `most`, for mail of `sender`; waits for one, but not for long.
    pub async fn enter(&self, to: SocketAddr, most: usize, sender: u32) -> Result<Place, NoPlace> {
        let entry = self.0.borrow_mut().enter(to, most, sender, now_ms());
        match entry {
            Entry::Place => return Ok(Place { to, sender, addresses: self.clone() }),
            Entry::Down(why) => return Err(NoPlace::Down(why)),
            Entry::Full => {}
        }
        let (wake, woken) = oneshot::channel();
        self.0.borrow_mut().known.get_mut(&to).into_iter().for_each(|known| {
            known.waiting.retain(|(.., wake)| !wake.is_canceled());
        });
        self.0.borrow_mut().wait(to, most, sender, wake);
        // Those before may be of a route that allows fewer.
        self.hand_on(to);
        match monoio::time::timeout(PATIENCE, woken).await {
            Ok(Ok(Ok(place))) => Ok(place),
            Ok(Ok(Err(why))) => Err(NoPlace::Down(why)),
            Ok(Err(_)) | Err(_) => Err(NoPlace::Full),
        }
    }

    /// Would one have to wait for a place at `to` now?
    pub fn is_full(&self, to: SocketAddr, most: usize) -> bool {
        self.0.borrow().known.get(&to).is_some_and(|known| known.failures == 0 && known.is_full(most))
    }

    /// Who waits for a place at `to` gets what is free.
    fn hand_on(&self, to: SocketAddr) {
        loop {
            let next = self.0.borrow_mut().next(to);
            let Some((sender, wake)) = next else { return };
            // Who has stopped waiting gives it back at once, which hands it on.
            let _ = wake.send(Ok(Place { to, sender, addresses: self.clone() }));
        }
    }
}

impl Place {
    /// The address took a connection.
    pub fn worked(&self) {
        self.addresses.0.borrow_mut().worked(self.to);
        self.addresses.hand_on(self.to);
    }

    /// It answered a whole transaction.
    pub fn answered(&self) {
        self.addresses.0.borrow_mut().answered(self.to);
        self.addresses.hand_on(self.to);
    }

    /// It took none; `busy`: for now, so that it is not down if we have another there.
    pub fn failed(&self, why: &str, busy: bool) {
        let others = || self.addresses.0.borrow().known.get(&self.to).is_some_and(|known| known.senders.len() > 1);
        if !(busy && others()) {
            let waited = self.addresses.0.borrow_mut().failed(self.to, why, now_ms());
            tell(waited, why);
        }
    }

    /// The connection broke within a transaction.
    pub fn lost(&self, broken: Broken) {
        let waited = self.addresses.0.borrow_mut().lost(self.to, broken, now_ms());
        tell(waited, "connections break within transactions");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.addresses.0.borrow_mut().left(self.to, self.sender);
        self.addresses.hand_on(self.to);
    }
}

fn tell(waited: Vec<Wake>, why: &str) {
    for wake in waited {
        // Who has stopped waiting knows better.
        let _ = wake.send(Err(why.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Driver;

    const SECOND: u64 = 1000;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_a_limit_whatever_domains_lead_there_and_senders_take_turns() {
        let (mut table, here) = (Table::new(SECOND), address("192.0.2.1:25"));
        (0..3).for_each(|_| assert_eq!(table.enter(here, 3, 7, 0), Entry::Place));
        assert_eq!(table.enter(address("192.0.2.2:25"), 3, 7, 0), Entry::Place, "another has its own");
        for (who, sender) in [(1, 7), (2, 7), (3, 8), (4, 8), (5, 9)] {
            assert_eq!(table.enter(here, 3, sender, 0), Entry::Full);
            table.wait(here, 3, sender, who);
        }
        assert_eq!(table.next(here), None);
        let mut order = Vec::new();
        for _ in 0..5 {
            // The first sender's are given back, one after the other.
            table.left(here, 7);
            let (sender, who) = table.next(here).expect("a place");
            assert_eq!(table.next(here), None);
            order.push(who);
            if sender != 7 {
                table.left(here, sender);
                table.known.get_mut(&here).expect("in use").senders.push(7);
            }
        }
        assert_eq!(order, [3, 4, 5, 1, 2], "who has none goes first");
    }

    #[test]
    fn who_comes_does_not_pass_those_who_wait() {
        let (mut table, here) = (Table::new(SECOND), address("192.0.2.1:25"));
        assert_eq!(table.enter(here, 1, 7, 0), Entry::Place);
        table.wait(here, 1, 8, ());
        table.left(here, 7);
        assert_eq!(table.enter(here, 1, 9, 0), Entry::Full);
        assert_eq!(table.next(here), Some((8, ())));
    }

    #[test]
    fn an_address_that_is_down_is_tried_by_one_when_its_pause_is_over_and_ever_more_rarely() {
        let (mut table, here) = (Table::<u32>::new(SECOND), address("192.0.2.1:25"));
        (0..2).for_each(|_| assert_eq!(table.enter(here, 2, 7, 0), Entry::Place));
        table.wait(here, 2, 8, 17);
        assert_eq!(table.failed(here, "timed out", 0), [17], "who waits is told");
        assert!(table.failed(here, "timed out", 0).is_empty());
        (0..2).for_each(|_| table.left(here, 7));
        let (mut now, mut pauses) = (0, Vec::new());
        for _ in 0..12 {
            let retry_ms = table.known[&here].retry_ms;
            pauses.push(retry_ms - now);
            assert_eq!(table.enter(here, 2, 9, retry_ms - 1), Entry::Down("timed out".into()));
            assert_eq!(table.enter(here, 2, 9, retry_ms), Entry::Place);
            assert_eq!(table.enter(here, 2, 9, retry_ms), Entry::Down("timed out".into()), "one");
            now = retry_ms;
            table.failed(here, "timed out", now);
            table.left(here, 9);
        }
        assert_eq!((pauses[0], pauses[1], pauses[11]), (750, 1500, RETRY_MAX_MS / 4 * 3));
        let retry_ms = table.known[&here].retry_ms;
        assert_eq!(table.enter(here, 2, 9, retry_ms), Entry::Place);
        table.worked(here);
        assert_eq!(table.enter(here, 2, 9, retry_ms), Entry::Place, "it is up");
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_pause_longer() {
        let (mut table, here, hour) = (Table::<u32>::new(SECOND), address("192.0.2.1:25"), 3600 * SECOND);
        assert_eq!(table.enter(here, 2, 7, hour), Entry::Place);
        table.failed(here, "timed out", hour);
        table.left(here, 7);
        table.set_back(hour);
        assert_eq!(table.enter(here, 2, 7, 749), Entry::Down("timed out".into()));
        assert_eq!(table.enter(here, 2, 7, 750), Entry::Place);
    }

    #[test]
    fn what_breaks_in_transactions_is_down_and_one_senders_messages_are_not_enough() {
        let (mut table, here) = (Table::<u32>::new(SECOND), address("192.0.2.1:25"));
        assert_eq!(table.enter(here, 2, 7, 0), Entry::Place);
        (0..8).for_each(|id| drop(table.lost(here, Some((id, 7)), 0)));
        table.worked(here);
        assert_eq!(table.known[&here].failures, 0);
        (8..10).for_each(|id| drop(table.lost(here, Some((id, id as u32)), 0)));
        assert_eq!(table.known[&here].failures, 1);
        table.answered(here);
        table.lost(here, None, 0);
        assert_eq!(table.known[&here].failures, 0);
    }

    #[test]
    fn what_takes_connections_and_breaks_them_is_asked_ever_more_rarely_too() {
        let (mut table, here) = (Table::<u32>::new(SECOND), address("192.0.2.1:25"));
        let (mut now, mut pauses) = (0, Vec::new());
        for turn in 0..6 {
            assert_eq!(table.enter(here, 2, 7, now), Entry::Place);
            table.worked(here);
            if turn > 0 {
                assert!(matches!(table.enter(here, 2, 8, now), Entry::Down(_)), "one");
            }
            (0..3).for_each(|_| drop(table.lost(here, None, now)));
            table.left(here, 7);
            let retry_ms = table.known[&here].retry_ms;
            pauses.push(retry_ms - now);
            now = retry_ms;
        }
        assert_eq!(pauses, [750, 1500, 3000, 6000, 12_000, 24_000]);
        assert_eq!(table.enter(here, 2, 7, now), Entry::Place);
        table.answered(here);
        assert_eq!(table.enter(here, 2, 8, now), Entry::Place, "it is up");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut table = Table::<u32>::new(SECOND);
        for number in 0..2 * DOWN_MAX as u32 {
            let to = SocketAddr::new(std::net::Ipv4Addr::from(number).into(), 25);
            assert_eq!(table.enter(to, 1, 7, number.into()), Entry::Place);
            match number % 2 {
                0 => drop(table.failed(to, "refused", number.into())),
                _ => table.worked(to),
            }
            table.left(to, 7);
        }
        assert_eq!(table.known.len(), DOWN_MAX);
        (0..100u32).for_each(|number| {
            let to = SocketAddr::new(std::net::Ipv4Addr::from(number + (1 << 30)).into(), 25);
            assert_eq!(table.enter(to, 1, 7, 0), Entry::Place);
            table.failed(to, "refused", 1 << 40);
            table.left(to, 7);
        });
        assert_eq!(table.known.len(), DOWN_MAX);
    }

    fn on_a_core(test: impl Future<Output = ()>) {
        let driver = if crate::net::probe_io_uring().is_ok() { Driver::IoUring } else { Driver::Epoll };
        crate::net::run(driver, None, test).expect("a runtime");
    }

    /// By one route it may have one, by another two.
    #[test]
    fn who_waits_by_one_route_holds_up_nobody_of_another_that_may_have_more() {
        let here = address("192.0.2.1:25");
        on_a_core(async move {
            let addresses = Addresses::new(SECOND);
            let first = addresses.enter(here, 1, 7).await.expect("a place");
            let waiting = monoio::spawn({
                let addresses = addresses.clone();
                async move { addresses.enter(here, 1, 8).await.map(drop) }
            });
            monoio::time::sleep(Duration::from_millis(1)).await;
            let other = addresses.enter(here, 2, 9).await.expect("there is room");
            drop((first, other));
            assert_eq!(waiting.await, Ok(()));
        });
    }

    /// Given back, handed on, and told, by those who hold places and wait for them.
    #[test]
    fn places_go_from_hand_to_hand() {
        let here = address("192.0.2.1:25");
        on_a_core(async move {
            let addresses = Addresses::new(SECOND);
            let first = addresses.enter(here, 1, 7).await.expect("a place");
            let wait = |sender| {
                let addresses = addresses.clone();
                monoio::spawn(async move { addresses.enter(here, 1, sender).await })
            };
            let (second, third) = (wait(7), wait(8));
            monoio::time::sleep(Duration::from_millis(1)).await;
            drop(first);
            let second = second.await.expect("handed on");
            second.failed("refused", true);
            assert_eq!(third.await.map(drop), Err(NoPlace::Down("refused".into())));
            assert_eq!(addresses.enter(here, 1, 9).await.map(drop), Err(NoPlace::Down("refused".into())));
            second.answered();
            drop(second);
            let again = addresses.enter(here, 1, 9).await.expect("it is up");
            drop(again);
            assert!(addresses.0.borrow().known.is_empty());
        });
    }
}
