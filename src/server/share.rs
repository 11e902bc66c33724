//! A connection's share of the memory that its core has for messages being received: its envelope, and its content until it
//! is stored. Counted while it is held, given back when it is dropped.
//!
//! The rest of a connection's memory needs no count, because it is small and bounded (see `connection.rs`).

use std::cell::Cell;
use std::rc::Rc;

/// Octets that one holder has of a core's memory.
pub struct Share {
    total: Rc<Cell<usize>>,
    bytes: usize,
}

impl Share {
    /// Nothing yet, of `total`.
    pub fn new(total: Rc<Cell<usize>>) -> Share {
        Share { total, bytes: 0 }
    }

    /// So much is held now.
    pub fn set(&mut self, bytes: usize) {
        self.total.set(self.total.get() + bytes - self.bytes);
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_once_and_given_back() {
        let total = Rc::new(Cell::new(0));
        let (mut one, mut other) = (Share::new(total.clone()), Share::new(total.clone()));
        one.set(100);
        other.set(7);
        one.set(40);
        assert_eq!(total.get(), 47);
        drop(one);
        assert_eq!(total.get(), 7);
        drop(other);
        assert_eq!(total.get(), 0);
    }
}
