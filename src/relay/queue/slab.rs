//! Entries under small numbers: a number is 4 octets where a pointer is 8 and an id of a message needs a table, and entries
//! refer to each other by it.
//!
//! ```text
//!  chunks: [ 4096 entries ][ 4096 entries ][ 17 ..        a number = place in the chunks; a free one is the next given
//! ```
//!
//! Promises: an entry stays where it is, and its number is not given again before it is taken out; growing copies nothing.
//! Memory is kept for the next peak.

use std::ops::{Index, IndexMut};

/// Entries in a chunk.
const CHUNK: usize = 4096;
/// No entry.
pub const NONE: u32 = u32::MAX;

/// See above.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    length: usize,
}

impl<T> Slab<T> {
    /// Nothing.
    pub fn new() -> Slab<T> {
        Slab { chunks: Vec::new(), free: Vec::new(), length: 0 }
    }

    /// Its number from now on.
    pub fn insert(&mut self, value: T) -> u32 {
        self.length += 1;
        if let Some(slot) = self.free.pop() {
            *self.slot(slot) = Some(value);
            return slot;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let last = self.chunks.len() - 1;
        let slot = last * CHUNK + self.chunks[last].len();
        self.chunks[last].push(Some(value));
        u32::try_from(slot).ok().filter(|&slot| slot != NONE).expect("memory holds fewer")
    }

    /// Takes it out; its number may be given to another.
    pub fn remove(&mut self, slot: u32) -> T {
        let value = self.slot(slot).take().expect("a number that was given");
        self.free.push(slot);
        self.length -= 1;
        value
    }

    /// If there is one of that number.
    pub fn get(&self, slot: u32) -> Option<&T> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)?.as_ref()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Those with numbers from `first` on, in their order.
    pub fn range(&self, first: u32) -> impl Iterator<Item = (u32, &T)> {
        let (chunk, place) = (first as usize / CHUNK, first as usize % CHUNK);
        let chunks = self.chunks.get(chunk..).unwrap_or_default();
        let entries = (first..).zip(chunks.iter().flatten().skip(place));
        entries.filter_map(|(slot, entry)| Some((slot, entry.as_ref()?)))
    }

    fn slot(&mut self, slot: u32) -> &mut Option<T> {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, slot: u32) -> &T {
        self.chunks[slot as usize / CHUNK][slot as usize % CHUNK].as_ref().expect("a number that was given")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        self.slot(slot).as_mut().expect("a number that was given")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn it_is_a_map_that_chooses_its_keys(steps in proptest::collection::vec((any::<bool>(), any::<u16>()), 0..300)) {
            let (mut slab, mut map) = (Slab::new(), HashMap::new());
            for (insert, value) in steps {
                let some = map.keys().copied().nth(usize::from(value) % map.len().max(1));
                match some.filter(|_| !insert) {
                    Some(slot) => prop_assert_eq!(Some(slab.remove(slot)), map.remove(&slot)),
                    None => prop_assert_eq!(map.insert(slab.insert(value), value), None),
                }
                prop_assert_eq!(slab.len(), map.len());
                prop_assert!(slab.range(0).all(|(slot, value)| map.get(&slot) == Some(value)));
                prop_assert!(map.keys().all(|&slot| slab.get(slot).is_some() && map[&slot] == slab[slot]));
            }
        }
    }

    #[test]
    fn more_than_a_chunk() {
        let mut slab = Slab::new();
        assert!((0..2 * CHUNK as u32 + 1).all(|number| slab.insert(number) == number));
        assert_eq!((slab.remove(CHUNK as u32), slab.get(CHUNK as u32), slab.len()), (CHUNK as u32, None, 2 * CHUNK));
        assert_eq!((slab.insert(7), slab.range(0).count()), (CHUNK as u32, 2 * CHUNK + 1));
        assert_eq!(slab.get(NONE), None);
        for first in [0, 1, CHUNK as u32 - 1, CHUNK as u32, CHUNK as u32 + 1, 2 * CHUNK as u32, 9 * CHUNK as u32] {
            let expected = (first..=2 * CHUNK as u32).collect::<Vec<_>>();
            assert_eq!(slab.range(first).map(|(slot, _)| slot).collect::<Vec<_>>(), expected);
        }
    }
}
