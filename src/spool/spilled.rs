//! Which live message has which spill file.
//!
//! A file that was freed is used again, so a record of long ago may name one that another message has now: the record with the
//! file's latest generation has it. While the past is read, records come in any order.

use super::follower::Location;
use std::collections::{BTreeSet, HashMap};

/// Spill files by message, and the other way round.
#[derive(Debug)]
pub struct Spilled {
    /// What live records name.
    named: HashMap<Location, u64>,
    /// Of each file the latest generation that was read, and in which record.
    owners: HashMap<u64, (u64, Location)>,
    /// Files found at the start.
    found: BTreeSet<u64>,
}

impl Spilled {
    /// `found`: files that were there at the start.
    pub fn new(found: BTreeSet<u64>) -> Spilled {
        Spilled { named: HashMap::new(), owners: HashMap::new(), found }
    }

    /// A live record at `at` names this generation of a file.
    pub fn named(&mut self, at: Location, file: u64, generation: u64) {
        self.named.insert(at, file);
        let owner = self.owners.entry(file).or_insert((0, at));
        if generation > owner.0 {
            *owner = (generation, at);
        }
    }

    /// The record at `new` is that of the same message as the one at `old`, and goes on with its file.
    pub fn superseded(&mut self, old: Location, new: Location) {
        let file = self.named.get(&old).copied();
        if file.is_some() && file == self.named.get(&new).copied() {
            self.named.remove(&old);
            let owner = file.and_then(|file| self.owners.get_mut(&file));
            owner.into_iter().filter(|(_, owner)| *owner == old).for_each(|(_, owner)| *owner = new);
        }
    }

    /// The message at `at` is done: the file that it had.
    pub fn settled(&mut self, at: Location) -> Option<u64> {
        let file = self.named.remove(&at)?;
        self.owners.get(&file).filter(|(_, owner)| *owner == at)?;
        self.owners.remove(&file);
        Some(file)
    }

    /// Files that were found at the start and that no live record names. Once, when all records have been read.
    pub fn found_and_unnamed(&mut self) -> Vec<u64> {
        let found = std::mem::take(&mut self.found);
        found.into_iter().filter(|file| !self.owners.contains_key(file)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64) -> Location {
        Location::new(1, 1, 4096 * number)
    }

    #[test]
    fn a_file_is_that_of_the_record_with_its_latest_generation_in_whatever_order_they_are_read() {
        for order in [[(1, 10), (2, 20)], [(2, 20), (1, 10)]] {
            let mut all = Spilled::new([7, 8].into());
            order.iter().for_each(|&(record, generation)| all.named(at(record), 7, generation));
            assert_eq!(all.settled(at(1)), None);
            assert_eq!(all.settled(at(2)), Some(7));
            assert_eq!(all.settled(at(2)), None);
        }
    }

    #[test]
    fn a_moved_message_keeps_its_file() {
        let mut all = Spilled::new([7].into());
        all.named(at(1), 7, 10);
        all.named(at(2), 7, 10);
        all.superseded(at(1), at(2));
        assert_eq!(all.settled(at(1)), None);
        assert!(all.found_and_unnamed().is_empty());
        assert_eq!(all.settled(at(2)), Some(7));
    }

    #[test]
    fn what_nothing_names_is_told_once() {
        let mut all = Spilled::new([7, 8].into());
        all.named(at(1), 8, 1);
        assert_eq!(all.found_and_unnamed(), [7]);
        assert!(all.found_and_unnamed().is_empty());
    }
}
