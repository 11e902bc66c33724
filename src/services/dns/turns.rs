//! Whose question name servers are asked next. Pure.
//!
//! ```text
//!  question --put--> behind its asker's others --next--> under way --ended--> a place for another
//!                \--> too many wait: given back
//! ```
//!
//! Promises: askers take turns, each of its questions in order; of the places for questions that wait and of those for
//! questions under way one asker holds fewer than are free ([`crate::shares`]): who asks for a thousand names whose servers
//! say nothing leaves room for others, and one who has nothing under way waits for no time-out of anybody else's as long as a
//! place is free.

use crate::shares::Shares;
use std::collections::{HashMap, VecDeque};

/// Questions by asker.
#[derive(Debug)]
pub struct Turns<Q> {
    waiting: Shares,
    under_way: Shares,
    /// Those who have questions here, the next one first.
    ring: VecDeque<u32>,
    questions: HashMap<u32, VecDeque<Q>>,
}

impl<Q> Turns<Q> {
    /// At most so many that wait, and so many under way.
    pub fn new(waiting_max: usize, under_way_max: usize) -> Turns<Q> {
        let (waiting, under_way) = (Shares::new(waiting_max), Shares::new(under_way_max));
        Turns { waiting, under_way, ring: VecDeque::new(), questions: HashMap::new() }
    }

    /// One more waits. Errors: there are too many, of all or of this asker; it is given back.
    pub fn put(&mut self, asker: u32, question: Q) -> Result<(), Q> {
        if !self.waiting.may(asker) {
            return Err(question);
        }
        self.waiting.take(asker);
        let ring = &mut self.ring;
        let mine = self.questions.entry(asker).or_insert_with(|| {
            ring.push_back(asker);
            VecDeque::new()
        });
        mine.push_back(question);
        Ok(())
    }

    /// The next that may be asked; it is under way until [`Turns::ended`].
    pub fn next(&mut self) -> Option<(u32, Q)> {
        // Those who may not have some under way, so they are few.
        let at = self.ring.iter().position(|&asker| self.under_way.may(asker))?;
        let asker = self.ring.remove(at)?;
        let mine = self.questions.get_mut(&asker)?;
        let question = mine.pop_front()?;
        match mine.is_empty() {
            true => drop(self.questions.remove(&asker)),
            false => self.ring.push_back(asker),
        }
        self.waiting.give_back(asker);
        self.under_way.take(asker);
        Some((asker, question))
    }

    /// One of `asker`'s questions is no longer under way.
    pub fn ended(&mut self, asker: u32) {
        self.under_way.give_back(asker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(turns: &mut Turns<u32>) -> Vec<(u32, u32)> {
        std::iter::from_fn(|| turns.next()).collect()
    }

    #[test]
    fn one_with_very_many_questions_leaves_room_for_others() {
        let mut turns = Turns::new(1000, 64);
        let put = (0..1000).filter(|&question| turns.put(7, question).is_ok()).count();
        assert_eq!((put, all(&mut turns).len()), (500, 32));
        for question in 0..20 {
            assert_eq!(turns.put(8, question), Ok(()));
            assert_eq!(turns.next(), Some((8, question)), "at once");
            turns.ended(8);
        }
        turns.ended(7);
        assert_eq!(all(&mut turns), [(7, 32)], "in order");
    }

    #[test]
    fn askers_take_turns() {
        let mut turns = Turns::new(100, 64);
        for question in [70, 71, 72, 80, 81, 90] {
            assert_eq!(turns.put(question / 10, question), Ok(()));
        }
        let order: Vec<u32> = all(&mut turns).into_iter().map(|(_, question)| question).collect();
        assert_eq!(order, [70, 80, 90, 71, 81, 72]);
    }

    #[test]
    fn what_waits_is_bounded_and_nobody_is_remembered_who_has_nothing() {
        let mut turns = Turns::new(8, 64);
        let taken: Vec<u32> = (0..20).filter(|&asker| turns.put(asker, asker).is_ok()).collect();
        assert_eq!((taken.len(), turns.put(99, 1)), (8, Err(1)));
        all(&mut turns).into_iter().for_each(|(asker, _)| turns.ended(asker));
        assert!(turns.ring.is_empty() && turns.questions.is_empty());
        assert_eq!(turns.put(99, 1), Ok(()));
    }
}
