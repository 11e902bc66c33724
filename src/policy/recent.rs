//! A bounded memory: what is least recently used is forgotten first.

use std::collections::HashMap;

/// Values by the hash of what they belong to, at most so many: when the younger half is full, it becomes the older one,
/// which is forgotten. What is used moves to the younger half.
pub struct Recent<V> {
    room: usize,
    younger: HashMap<u64, V>,
    older: HashMap<u64, V>,
}

impl<V: Copy> Recent<V> {
    /// Empty, with room for so many.
    pub fn new(room: usize) -> Recent<V> {
        Recent { room, younger: HashMap::new(), older: HashMap::new() }
    }

    /// The value of `key`, if it is remembered.
    pub fn get(&mut self, key: u64) -> Option<V> {
        if let Some(value) = self.younger.get(&key) {
            return Some(*value);
        }
        let value = self.older.remove(&key)?;
        self.put(key, value);
        Some(value)
    }

    /// Remembers the value of `key` in place of what was.
    pub fn put(&mut self, key: u64, value: V) {
        if self.younger.len() >= self.room / 2 && !self.younger.contains_key(&key) {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(key, value);
    }

    /// How many are remembered.
    pub fn count(&self) -> usize {
        self.younger.len() + self.older.len()
    }
}
