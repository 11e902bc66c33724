//! Who of those who connect is served: there are few places, and nobody can hold all of them.
//!
//! | who | places |
//! |---|---|
//! | root and the server's own user | all, of which two are theirs alone |
//! | postmasters | the others |
//! | the help desk | at most four of those |
//! | strangers | none, and no further line in the log |
//! | who is not known yet | one, until the user's groups have been looked up |
//!
//! User and group of a connection are known as soon as it is there; which other groups a user has takes a look into the user
//! database, which may take its time, and is done by the client's thread. What it finds is remembered for some seconds, so
//! that connections without end do not take places while one after the other is looked up.

use super::peer::Credentials;
use super::permission::Rank;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Clients at a time; more are told to try again.
pub const PLACES: usize = 8;
/// Of these, for root and the server's own user.
const KEPT: usize = 2;
/// The help desk's clients at a time.
const HELPDESK_MAX: usize = 4;
/// For so long nobody is looked up again by whom to give a place: one who was just made a member of a group does not wait long.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// So many are remembered; further ones are looked up each time.
const KNOWN_MAX: usize = 64;

/// Those that are taken. Clones share them.
#[derive(Clone, Default)]
pub struct Places {
    taken: Arc<AtomicUsize>,
    helpdesk: Arc<AtomicUsize>,
    known: Arc<Mutex<Vec<Known>>>,
}

/// What a user with that group has turned out to be.
struct Known {
    uid: u32,
    gid: u32,
    rank: Rank,
    until: Instant,
}

/// A place, given back when dropped, by a panic too.
pub struct Place {
    places: Places,
    is_helpdesks: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.fetch_sub(1, Ordering::AcqRel);
        self.places.helpdesk.fetch_sub(usize::from(self.is_helpdesks), Ordering::AcqRel);
    }
}

impl Place {
    /// Whoever has it turned out to be of this rank. False: there are too many of that.
    pub fn is_of(&mut self, rank: Rank) -> bool {
        if rank != Rank::HelpDesk || self.is_helpdesks {
            return true;
        }
        self.is_helpdesks = true;
        self.places.helpdesk.fetch_add(1, Ordering::AcqRel) < HELPDESK_MAX
    }
}

impl Places {
    /// A place for whoever has just connected; `is_own`: root or the server's own user.
    pub fn take(&self, is_own: bool) -> Option<Place> {
        let most = if is_own { PLACES } else { PLACES - KEPT };
        let place = Place { places: self.clone(), is_helpdesks: false };
        (self.taken.fetch_add(1, Ordering::AcqRel) < most).then_some(place)
    }

    /// Somebody turned out to be of this rank.
    pub fn learns(&self, who: Credentials, rank: Rank, now: Instant) {
        let Credentials { uid, gid, .. } = who;
        let mut known = self.known.lock().unwrap_or_else(|broken| broken.into_inner());
        known.retain(|one| (one.uid, one.gid) != (uid, gid) && one.until > now);
        if known.len() < KNOWN_MAX {
            known.push(Known { uid, gid, rank, until: now + KNOWN_FOR });
        }
    }

    /// What somebody turned out to be a moment ago.
    pub fn knows(&self, who: Credentials, now: Instant) -> Option<Rank> {
        let known = self.known.lock().unwrap_or_else(|broken| broken.into_inner());
        known.iter().find(|one| (one.uid, one.gid) == (who.uid, who.gid) && one.until > now).map(|one| one.rank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_however_its_client_ends() {
        let all = Places::default();
        for _ in 0..3 {
            let places: Vec<_> = (0..PLACES).map(|_| all.take(true).expect("there is room")).collect();
            assert!(all.take(true).is_none(), "there are no more");
            let panicked = std::thread::spawn(move || {
                let _places = places;
                std::panic::resume_unwind(Box::new("a bug"));
            });
            assert!(panicked.join().is_err());
        }
    }

    #[test]
    fn nobody_can_hold_all_places() {
        let all = Places::default();
        let desk: Vec<_> = std::iter::from_fn(|| {
            let mut place = all.take(false)?;
            place.is_of(Rank::HelpDesk).then_some(place)
        })
        .collect();
        assert_eq!(desk.len(), HELPDESK_MAX);
        let mut others: Vec<_> = std::iter::from_fn(|| all.take(false)).collect();
        assert_eq!(others.len(), PLACES - KEPT - HELPDESK_MAX, "postmasters come through");
        assert!(others.iter_mut().all(|place| place.is_of(Rank::Postmaster)));
        let own: Vec<_> = std::iter::from_fn(|| all.take(true)).collect();
        assert_eq!(own.len(), KEPT, "and so does root");
        drop((desk, others, own));
        assert!(all.take(false).is_some_and(|mut place| place.is_of(Rank::HelpDesk)), "all are back");
        assert_eq!([all.taken, all.helpdesk].map(|count| count.load(Ordering::Acquire)), [0, 0]);
    }

    #[test]
    fn who_was_looked_up_is_known_for_a_while_by_user_and_group() {
        let (all, now) = (Places::default(), Instant::now());
        let nobody = |gid| Credentials { uid: 65534, gid, pid: 1 };
        all.learns(nobody(5), Rank::Stranger, now);
        assert_eq!([5, 6].map(|gid| all.knows(nobody(gid), now)), [Some(Rank::Stranger), None]);
        assert!(all.knows(Credentials { pid: 2, ..nobody(5) }, now).is_some(), "whichever process it is");
        assert_eq!(all.knows(nobody(5), now + KNOWN_FOR), None);
        all.learns(nobody(5), Rank::HelpDesk, now);
        assert_eq!(all.knows(nobody(5), now), Some(Rank::HelpDesk), "the last counts");
        for gid in 0..1000 {
            all.learns(nobody(gid), Rank::Stranger, now);
        }
        assert_eq!(all.known.lock().expect("whole").len(), KNOWN_MAX, "a thousand cost no more than a few");
        all.learns(nobody(2000), Rank::Stranger, now + KNOWN_FOR);
        assert!(all.knows(nobody(2000), now + KNOWN_FOR).is_some());
    }
}
