//! What is due first: heaps whose links are in the entries of a [`Slab`], so that standing in one costs 12 octets and no
//! allocation, and any entry can be taken out at any time.
//!
//! They are pairing heaps. An entry goes in by one comparison; the first, or any other, goes out in time logarithmic on
//! the average of many operations. A single one may take as many steps as entries went in since the last went out.
//!
//! ```text
//!  root --child--> a --next--> b --next--> c        prev: the one before, or the parent of the first child
//!                  +--child--> d
//! ```
//!
//! Promise: the root has the least key, of equal ones the lowest number.

use super::slab::{NONE, Slab};

/// An entry's place in its heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    child: u32,
    next: u32,
    prev: u32,
}

/// In no heap, or alone in one.
pub const ALONE: Link = Link { child: NONE, next: NONE, prev: NONE };

/// What can stand in a heap: one at a time.
pub trait Linked {
    /// Least first. It must not change while the entry stands in a heap.
    fn key(&self) -> u64;
    /// Its place.
    fn link(&self) -> &Link;
    /// The same, to be changed by the heap only.
    fn link_mut(&mut self) -> &mut Link;
}

impl<T: Linked> Slab<T> {
    /// Puts `slot`, which stands in no heap, into the one whose first entry is `root`.
    pub fn push(&mut self, root: &mut u32, slot: u32) {
        *self[slot].link_mut() = ALONE;
        *root = self.meld(*root, slot);
    }

    /// Takes out `slot`, which stands in this heap.
    pub fn pull(&mut self, root: &mut u32, slot: u32) {
        let Link { child, next, prev } = *self[slot].link();
        let below = self.meld_all(child);
        if *root == slot {
            *root = below;
        } else {
            let before = self[prev].link_mut();
            if before.child == slot {
                before.child = next;
            } else {
                before.next = next;
            }
            if next != NONE {
                self[next].link_mut().prev = prev;
            }
            *root = self.meld(*root, below);
        }
        *self[slot].link_mut() = ALONE;
    }

    /// The least key of a heap.
    pub fn least(&self, root: u32) -> Option<u64> {
        (root != NONE).then(|| self[root].key())
    }

    /// One heap of two; both are given by their first entries, which have no neighbours.
    fn meld(&mut self, a: u32, b: u32) -> u32 {
        if a == NONE || b == NONE {
            return if a == NONE { b } else { a };
        }
        let (top, below) = if (self[a].key(), a) < (self[b].key(), b) { (a, b) } else { (b, a) };
        let first = std::mem::replace(&mut self[top].link_mut().child, below);
        if first != NONE {
            self[first].link_mut().prev = below;
        }
        let link = self[below].link_mut();
        (link.next, link.prev) = (first, top);
        top
    }

    /// One heap of `first` and all that come next: by pairs, then the last pair with the one before it, and so on.
    fn meld_all(&mut self, mut first: u32) -> u32 {
        let mut pairs = NONE;
        while first != NONE {
            let second = self.cut(first);
            let rest = if second == NONE { NONE } else { self.cut(second) };
            let pair = self.meld(first, second);
            self[pair].link_mut().next = pairs;
            (pairs, first) = (pair, rest);
        }
        let mut root = NONE;
        while pairs != NONE {
            let rest = self.cut(pairs);
            root = self.meld(root, pairs);
            pairs = rest;
        }
        root
    }

    /// Parts an entry from its neighbours, and returns the next.
    fn cut(&mut self, slot: u32) -> u32 {
        let link = self[slot].link_mut();
        link.prev = NONE;
        std::mem::replace(&mut link.next, NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    struct Entry(u64, Link);

    impl Linked for Entry {
        fn key(&self) -> u64 {
            self.0
        }

        fn link(&self) -> &Link {
            &self.1
        }

        fn link_mut(&mut self) -> &mut Link {
            &mut self.1
        }
    }

    fn pop(slab: &mut Slab<Entry>, root: &mut u32) -> Option<u32> {
        let slot = Some(*root).filter(|&slot| slot != NONE)?;
        slab.pull(root, slot);
        Some(slot)
    }

    proptest! {
        /// Two heaps in one slab, each against an ordered set: 0 and 1 push, 2 and 3 pop, 4 and 5 pull any.
        #[test]
        fn it_is_an_ordered_set(steps in proptest::collection::vec((0u8..6, 0u64..20), 0..400)) {
            let mut slab = Slab::new();
            let mut heaps = [NONE, NONE];
            let mut sets = [BTreeSet::new(), BTreeSet::new()];
            for (step, key) in steps {
                let which = usize::from(step % 2);
                let (root, set) = (&mut heaps[which], &mut sets[which]);
                match step / 2 {
                    0 => {
                        let slot = slab.insert(Entry(key, ALONE));
                        slab.push(root, slot);
                        set.insert((key, slot));
                    }
                    1 => {
                        let popped = pop(&mut slab, root);
                        prop_assert_eq!(popped, set.pop_first().map(|(_, slot)| slot));
                        if let Some(slot) = popped {
                            slab.remove(slot);
                        }
                    }
                    _ => {
                        let Some(&(key, slot)) = set.iter().nth(key as usize % set.len().max(1)) else { continue };
                        set.remove(&(key, slot));
                        slab.pull(root, slot);
                        prop_assert_eq!(slab.remove(slot).1, ALONE);
                    }
                }
                prop_assert_eq!(slab.least(heaps[which]), sets[which].first().map(|(key, _)| *key));
            }
            for (mut root, mut set) in heaps.into_iter().zip(sets) {
                while let Some((_, slot)) = set.pop_first() {
                    prop_assert_eq!(pop(&mut slab, &mut root), Some(slot));
                }
                prop_assert_eq!(root, NONE);
            }
        }
    }
}
