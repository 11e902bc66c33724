//! Places that many share: connections, questions under way. How many of them one may hold.
//!
//! **The rule: whoever holds fewer than are free may take one more.**
//!
//! | of 200 places | holds at most |
//! |---|---|
//! | one alone | 100 |
//! | one who comes then | 50; the next 25, and so on |
//! | two who go on taking and giving back | 66 each; three: 50 each |
//!
//! What nobody holds is left for those who come, because a place may be given back late: a server that says nothing keeps a
//! connection for minutes. Promises: as long as a place is free, one who holds none gets it; memory is bounded by the places.

use std::collections::HashMap;

/// See above. Who shares is a hash: two with the same share one share.
#[derive(Debug)]
pub struct Shares {
    places: usize,
    taken: usize,
    /// How often anything has changed.
    changes: u64,
    /// By those who hold some.
    held: HashMap<u32, usize>,
}

impl Shares {
    /// So many places, none of them taken.
    pub fn new(places: usize) -> Shares {
        Shares { places, taken: 0, changes: 0, held: HashMap::new() }
    }

    /// So many from now on, and at least one; what is taken beyond that stays so.
    pub fn limit(&mut self, places: usize) {
        self.places = places.max(1);
        self.changes += 1;
    }

    /// Is one free?
    pub fn has_room(&self) -> bool {
        self.taken < self.places
    }

    /// May `who` take one?
    pub fn may(&self, who: u32) -> bool {
        self.holds(who) < self.places.saturating_sub(self.taken)
    }

    /// `who` takes one, whether or not it may.
    pub fn take(&mut self, who: u32) {
        self.taken += 1;
        self.changes += 1;
        *self.held.entry(who).or_default() += 1;
    }

    /// `who` gives one back that it has taken.
    pub fn give_back(&mut self, who: u32) {
        let held = self.held.get_mut(&who).expect("as many given back as taken");
        *held -= 1;
        if *held == 0 {
            self.held.remove(&who);
        }
        self.taken -= 1;
        self.changes += 1;
    }

    /// As long as it is the same, who may take one still may, and nobody else.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    fn holds(&self, who: u32) -> usize {
        self.held.get(&who).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes all that it may.
    fn greedy(shares: &mut Shares, who: u32) -> usize {
        while shares.may(who) {
            shares.take(who);
        }
        shares.holds(who)
    }

    #[test]
    fn one_alone_has_half_and_who_comes_later_half_of_the_rest() {
        let mut shares = Shares::new(200);
        assert_eq!([1, 2, 3].map(|who| greedy(&mut shares, who)), [100, 50, 25]);
        for places in 1..50 {
            assert_eq!(greedy(&mut Shares::new(places), 7), places.div_ceil(2), "{places}");
        }
    }

    #[test]
    fn who_has_none_gets_one_as_long_as_one_is_free() {
        let mut shares = Shares::new(5);
        for who in 0..5 {
            assert!(shares.has_room() && shares.may(who));
            shares.take(who);
        }
        assert!(!shares.has_room() && !shares.may(9));
        shares.give_back(3);
        assert!(shares.may(9) && !shares.may(0), "one that is free is for who has none");
    }

    #[test]
    fn they_even_out_while_places_come_back() {
        let mut shares = Shares::new(200);
        greedy(&mut shares, 1);
        for turn in 0..2000u32 {
            greedy(&mut shares, 2);
            // Connections end in turn, whosever they are.
            shares.give_back(1 + turn % 2);
            greedy(&mut shares, 1 + (turn + 1) % 2);
        }
        let held = [1, 2].map(|who| shares.holds(who));
        assert!(held.iter().all(|held| (60..=70).contains(held)), "{held:?}");
    }

    #[test]
    fn what_is_remembered_is_who_holds_some_and_fewer_places_take_nothing_away() {
        let mut shares = Shares::new(4);
        for who in 0..1000 {
            shares.take(who);
            shares.give_back(who);
        }
        assert!(shares.held.is_empty() && shares.taken == 0);
        (0..3).for_each(|_| shares.take(1));
        shares.limit(0);
        assert!(!shares.has_room() && !shares.may(2));
        (0..3).for_each(|_| shares.give_back(1));
        assert!(shares.has_room() && shares.may(2));
    }
}
