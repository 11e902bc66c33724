//! Places at hosts, as tasks hold them: each is given back when it is dropped, and whoever waits for one is woken.

use crate::clock::now_ms;
use crate::log::{self, Level};
use crate::relay::connection::{Connection, Unopened};
use crate::relay::losses::Broken;
use crate::relay::pool::{Choice, Pools, Ranked, Seat, Settings};
use crate::relay::route::Destination;
use futures_channel::oneshot;
use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;

/// The pools, shared by the tasks of one thread.
#[derive(Clone)]
pub struct Hosts {
    pools: Rc<RefCell<Pools>>,
    /// Tasks that wait for a place; bounded by the queue, which opens no more than there is room for.
    waiting: Rc<RefCell<Vec<oneshot::Sender<()>>>>,
}

/// A place at a host.
pub struct Lease {
    seat: Seat,
    /// Given back already.
    returned: Cell<bool>,
    hosts: Hosts,
}

impl Hosts {
    /// Of all destinations.
    pub fn new(pools: Pools) -> Hosts {
        Hosts { pools: Rc::new(RefCell::new(pools)), waiting: Rc::default() }
    }

    /// Of one destination, number 0, with what `before` knows of the same hosts.
    pub fn ranked(settings: Settings, pool: Ranked, before: Option<&Hosts>) -> Hosts {
        let before = before.map(|before| before.pools.borrow());
        Hosts::new(Pools::ranked(settings, pool, before.as_deref(), now_ms()))
    }

    /// A place at a host of `destination` that is none of `tried`; waits for one. None: all were tried.
    pub async fn lease(&self, destination: Destination, tried: &[usize]) -> Option<Lease> {
        loop {
            let choice = self.pools.borrow_mut().choose(destination, tried);
            match choice {
                Choice::Seat(seat) => return Some(self.leased(seat)),
                Choice::Exhausted => return None,
                Choice::Full => {
                    let (wake, woken) = oneshot::channel();
                    self.waiting.borrow_mut().push(wake);
                    // Whoever gives a place back sends; dropped is as good.
                    let _ = woken.await;
                }
            }
        }
    }

    /// A place for a probe, if one is due.
    pub fn probe(&self, destination: Destination) -> Option<Lease> {
        let seat = self.pools.borrow_mut().probe(destination, now_ms());
        seat.map(|seat| self.leased(seat))
    }

    /// The clock was set back: pauses last as long as they were meant to.
    pub fn set_back(&self, by_ms: u64) {
        self.pools.borrow_mut().set_back(by_ms);
    }

    /// How many connections each server may have.
    pub fn rooms(&self) -> Vec<(usize, usize)> {
        let pools = self.pools.borrow();
        pools.servers().map(|server| (server, pools.room(server))).collect()
    }

    /// The pools, to be looked at.
    pub fn look(&self) -> Ref<'_, Pools> {
        self.pools.borrow()
    }

    /// The server of a destination, for the queue.
    pub fn server(&self, destination: Destination) -> usize {
        self.pools.borrow().server(destination)
    }

    fn leased(&self, seat: Seat) -> Lease {
        Lease { seat, returned: Cell::new(false), hosts: self.clone() }
    }

    fn wake(&self) {
        for waiting in self.waiting.borrow_mut().drain(..) {
            let _ = waiting.send(());
        }
    }
}

impl Lease {
    /// Which of the destination's hosts.
    pub fn member(&self) -> usize {
        self.seat.member
    }

    /// What came of opening a connection.
    pub fn opened(&self, opened: &Result<Connection, Unopened>) {
        match opened {
            Ok(_) => self.worked(),
            Err(Unopened::Unreachable(why)) => self.failed(why, false),
            Err(Unopened::Busy(why)) => self.failed(why, true),
            // It is there; that it is not for this message says nothing to others.
            Err(Unopened::Refused(_)) => self.worked(),
        }
    }

    /// The host is there.
    pub fn worked(&self) {
        let was_down = self.hosts.pools.borrow_mut().worked(self.seat);
        if was_down {
            let address = self.hosts.pools.borrow().address(self.seat).to_owned();
            log::event(Level::Info, "host is back").field("destination", address).emit();
            self.hosts.wake();
        }
    }

    /// The host answered a transaction. `busy`: with its word that it has enough.
    pub fn answered(&self, busy: bool) {
        match busy {
            true => self.hosts.pools.borrow_mut().throttled(self.seat),
            false => self.hosts.pools.borrow_mut().answered(self.seat),
        }
        self.hosts.wake();
    }

    /// There was no connection to be had; `busy`: for now, because there are enough.
    pub fn failed(&self, why: &str, busy: bool) {
        if busy {
            self.hosts.pools.borrow_mut().throttled(self.seat);
        }
        let probe_ms = self.hosts.pools.borrow_mut().failed(self.seat, busy, now_ms());
        self.left_out(why, probe_ms);
    }

    /// The connection broke within a transaction.
    pub fn lost(&self, broken: Broken) {
        let probe_ms = self.hosts.pools.borrow_mut().lost(self.seat, broken, now_ms());
        self.left_out("connections break within transactions", probe_ms);
    }

    /// Can the pool do without this host?
    pub fn has_another(&self) -> bool {
        self.hosts.pools.borrow().has_another(self.seat)
    }

    /// Gives the place back if there are too many; says whether it did.
    pub fn made_way(&self) -> bool {
        let made_way = !self.returned.get() && self.hosts.pools.borrow_mut().made_way(self.seat);
        self.returned.set(self.returned.get() || made_way);
        made_way
    }

    /// Of a host alone the queue says that it is down.
    fn left_out(&self, why: &str, probe_ms: Option<u64>) {
        let Some(probe_ms) = probe_ms.filter(|_| self.has_another()) else { return };
        let address = self.hosts.pools.borrow().address(self.seat).to_owned();
        let event = log::event(Level::Warning, "host is down, its pool goes on without");
        let event = event.field("destination", address).octets("reason", why.as_bytes());
        event.field("next_try", crate::relay::journal::moment(probe_ms)).emit();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.returned.get() {
            self.hosts.pools.borrow_mut().left(self.seat);
        }
        self.hosts.wake();
    }
}
