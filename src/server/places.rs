//! The places of one core: who has one, and who gives his up when there are none left. Strangers go before clients that
//! have authenticated.
//!
//! ```text
//!  |<------------------- connections_per_core ------------------->|
//!  | strangers, seven eighths at the most            | only known |      + LEAVING_MAX that are being told to leave
//! ```
//!
//! A newcomer that finds no place displaces the stranger that has kept us waiting longest for the same thing; a slow drip
//! of octets does not make it look busy. The search looks at [`LOOKED_AT`] strangers from where the last one ended, so that
//! a flood costs no more than that for each connection: with more strangers it finds one of the longest waiting, not
//! always the longest.

use crate::net::Hook;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Displaced connections of a core that may be on their way out at once; past it newcomers are refused.
pub const LEAVING_MAX: usize = 64;
/// Strangers that one search looks at.
const LOOKED_AT: usize = 64;

/// All places of a core.
#[derive(Default)]
pub struct Places {
    max: usize,
    strangers_max: usize,
    strangers: RefCell<Vec<Rc<Seat>>>,
    known: Cell<usize>,
    leaving: Cell<usize>,
    /// Where the next search begins.
    hand: Cell<usize>,
    /// Places given so far.
    given: Cell<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Stranger,
    Known,
    Leaving,
}

struct Seat {
    hook: Hook,
    standing: Cell<Standing>,
    /// Tick since which we wait for the same thing.
    since: Cell<u64>,
    /// Of two that have waited since the same tick, the one that came first has waited longer.
    number: u64,
    /// Where it stands among the strangers.
    at: Cell<usize>,
}

impl Places {
    /// `max` in all.
    pub fn new(max: usize) -> Places {
        Places { max, strangers_max: max - max / 8, ..Places::default() }
    }

    /// Connections that are served.
    pub fn taken(&self) -> usize {
        self.strangers.borrow().len() + self.known.get()
    }

    /// Connections that are not over yet.
    pub fn open(&self) -> usize {
        self.taken() + self.leaving.get()
    }

    /// Three quarters are taken: patience with strangers gets shorter.
    pub fn are_crowded(&self) -> bool {
        4 * self.taken() >= 3 * self.max
    }

    /// Makes sure that there is a place for a newcomer, if need be by sending a stranger away (true). `elsewhere_full`:
    /// there is no room for other reasons. Err: nobody can be sent away.
    pub fn make_room(&self, known: bool, elsewhere_full: bool) -> Result<bool, ()> {
        let strangers_full = !known && self.strangers.borrow().len() >= self.strangers_max;
        if !elsewhere_full && !strangers_full && self.taken() < self.max {
            return Ok(false);
        }
        if self.leaving.get() < LEAVING_MAX && self.displace() { Ok(true) } else { Err(()) }
    }

    /// Gives a place, whether or not there is one.
    pub fn take(self: &Rc<Places>, hook: Hook, known: bool, now: u64) -> Place {
        let standing = if known { Standing::Known } else { Standing::Stranger };
        let mut strangers = self.strangers.borrow_mut();
        let seat = Rc::new(Seat {
            hook,
            standing: Cell::new(standing),
            since: Cell::new(now),
            number: self.given.replace(self.given.get() + 1),
            at: Cell::new(strangers.len()),
        });
        match known {
            true => self.known.set(self.known.get() + 1),
            false => strangers.push(seat.clone()),
        }
        Place { places: self.clone(), seat }
    }

    /// Sends away one of the longest waiting strangers, if any of them waits.
    fn displace(&self) -> bool {
        let victim = {
            let strangers = self.strangers.borrow();
            let count = strangers.len();
            let first = self.hand.get() % count.max(1);
            let looked_at = count.min(LOOKED_AT);
            self.hand.set(first + looked_at);
            let candidates = (0..looked_at).map(|step| &strangers[(first + step) % count]);
            candidates.filter(|seat| seat.hook.is_waiting()).min_by_key(|seat| (seat.since.get(), seat.number)).cloned()
        };
        let Some(victim) = victim else { return false };
        self.remove(&victim);
        victim.standing.set(Standing::Leaving);
        self.leaving.set(self.leaving.get() + 1);
        victim.hook.interrupt()
    }

    /// From among the strangers.
    fn remove(&self, seat: &Seat) {
        let mut strangers = self.strangers.borrow_mut();
        strangers.swap_remove(seat.at.get());
        if let Some(moved) = strangers.get(seat.at.get()) {
            moved.at.set(seat.at.get());
        }
        // A flood must not leave its memory behind.
        if strangers.capacity() > LOOKED_AT && strangers.len() * 4 < strangers.capacity() {
            let half = strangers.capacity() / 2;
            strangers.shrink_to(half);
        }
    }
}

/// One connection's place; given back when it is dropped.
pub struct Place {
    places: Rc<Places>,
    seat: Rc<Seat>,
}

impl Place {
    /// Its client has authenticated: nobody displaces it any more.
    pub fn authenticated(&self) {
        if self.seat.standing.get() == Standing::Stranger {
            self.places.remove(&self.seat);
            self.seat.standing.set(Standing::Known);
            self.places.known.set(self.places.known.get() + 1);
        }
    }

    /// Who its client is was forgotten, or it turned out to be somebody else: a stranger again. There may be more strangers
    /// than places for them for a while; the next newcomer displaces one.
    pub fn forgotten(&self) {
        if self.seat.standing.get() == Standing::Known {
            self.places.known.set(self.places.known.get() - 1);
            self.seat.standing.set(Standing::Stranger);
            let mut strangers = self.places.strangers.borrow_mut();
            self.seat.at.set(strangers.len());
            strangers.push(self.seat.clone());
        }
    }

    /// Has it been given to somebody else? Then the client is to be told, and the connection to be closed.
    pub fn is_lost(&self) -> bool {
        self.seat.standing.get() == Standing::Leaving
    }

    /// Since which tick we wait for the same thing.
    pub fn set_since(&self, tick: u64) {
        self.seat.since.set(tick);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match self.seat.standing.get() {
            Standing::Stranger => self.places.remove(&self.seat),
            Standing::Known => self.places.known.set(self.places.known.get() - 1),
            Standing::Leaving => self.places.leaving.set(self.places.leaving.get() - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Hook;

    fn places(max: usize) -> Rc<Places> {
        Rc::new(Places::new(max))
    }

    fn sit(places: &Rc<Places>, known: bool, since: u64) -> Place {
        places.take(Hook::waiting(), known, since)
    }

    // covers: 2.10 11.3
    #[test]
    fn who_is_forgotten_is_a_stranger_again() {
        let places = places(8);
        let (first, second) = (sit(&places, true, 5), sit(&places, false, 9));
        assert_eq!(places.make_room(false, true), Ok(true));
        assert!(second.is_lost() && !first.is_lost(), "the known one stays");
        second.forgotten();
        assert!(second.is_lost(), "what is lost stays so");
        first.forgotten();
        first.forgotten();
        assert_eq!((places.taken(), places.known.get()), (1, 0));
        first.authenticated();
        first.forgotten();
        assert_eq!(places.make_room(false, true), Ok(true));
        assert!(first.is_lost());
        drop((first, second));
        assert_eq!(places.open(), 0);
    }

    // covers: 11.3
    #[test]
    fn the_longest_waiting_stranger_goes() {
        let places = places(8);
        let known = [sit(&places, true, 0), sit(&places, true, 0)];
        let strangers: Vec<Place> = [5, 3, 9, 3, 4, 8].map(|since| sit(&places, false, since)).into();
        assert_eq!(places.taken(), 8);
        for leaves in [1, 3, 4, 0, 5, 2] {
            assert_eq!(places.make_room(false, false), Ok(true));
            assert!(strangers[leaves].is_lost(), "not {leaves}");
            let newcomer = sit(&places, true, 10);
            assert_eq!(places.taken(), 8);
            std::mem::forget(newcomer);
        }
        assert_eq!(places.make_room(false, false), Err(()), "nobody but known clients is left");
        assert_eq!(places.make_room(true, false), Err(()), "not even for a known one");
        assert!(known.iter().all(|place| !place.is_lost()));
    }

    // covers: 11.3
    #[test]
    fn an_eighth_of_the_places_is_for_those_that_authenticate() {
        let places = places(80);
        let mut strangers: Vec<Place> = (0..70).map(|since| sit(&places, false, since)).collect();
        assert_eq!(places.make_room(true, false), Ok(false), "a known client finds one");
        assert_eq!(places.make_room(false, false), Ok(true), "a stranger takes another stranger's");
        strangers.retain(|place| !place.is_lost());
        assert_eq!(strangers.len(), 69);
        // Those that authenticate make room for strangers.
        strangers.iter().take(10).for_each(Place::authenticated);
        strangers.extend((0..10).map(|since| sit(&places, false, since)));
        assert_eq!((places.taken(), places.make_room(false, false)), (79, Ok(false)));
    }

    #[test]
    fn who_is_served_at_this_moment_is_not_displaced() {
        let places = places(1);
        let busy = places.take(Hook::busy(), false, 0);
        assert_eq!(places.make_room(false, false), Err(()));
        assert!(!busy.is_lost());
    }

    #[test]
    fn those_that_leave_are_bounded() {
        let places = places(200);
        let strangers: Vec<Place> = (0..175).map(|since| sit(&places, false, since)).collect();
        for _ in 0..LEAVING_MAX {
            assert_eq!(places.make_room(true, true), Ok(true));
        }
        assert_eq!(places.make_room(true, true), Err(()));
        assert_eq!((places.taken(), places.open()), (175 - LEAVING_MAX, 175));
        drop(strangers);
        assert_eq!(places.open(), 0);
    }

    /// Any order of coming, authenticating, displacing and going keeps the books.
    #[test]
    fn the_books_balance() {
        let places = places(64);
        let mut open: Vec<Place> = Vec::new();
        let mut seed = 1u64;
        for turn in 0..20_000u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pick = (seed >> 33) as usize;
            match pick % 4 {
                0 | 1 if places.make_room(false, false).is_ok() => open.push(sit(&places, false, turn)),
                2 if !open.is_empty() => drop(open.swap_remove(pick / 4 % open.len())),
                3 if !open.is_empty() => open[pick / 4 % open.len()].authenticated(),
                _ => {}
            }
            let standing = |wanted| open.iter().filter(|place| place.seat.standing.get() == wanted).count();
            assert_eq!(places.strangers.borrow().len(), standing(Standing::Stranger));
            assert_eq!(places.known.get(), standing(Standing::Known));
            assert_eq!(places.leaving.get(), standing(Standing::Leaving));
            assert!(places.taken() <= 64 && places.leaving.get() <= LEAVING_MAX);
            for (at, seat) in places.strangers.borrow().iter().enumerate() {
                assert_eq!(seat.at.get(), at);
            }
        }
    }
}
