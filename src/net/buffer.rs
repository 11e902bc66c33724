//! Buffers: a pool of equal ones per thread, and a window over one.
//!
//! ```text
//!  bytes:  | eaten | unread ........ | spare capacity |
//!          0      head            bytes.len()      capacity
//! ```
//!
//! A window without memory costs three words. It gets its memory from the pool when bytes are about to arrive and
//! gives it back when they have been eaten, or when nothing comes for a while; then it keeps a copy of what is unread. The pool keeps a bounded number of buffers and frees the rest, and those that
//! nobody needs any more.

use std::cell::{Cell, RefCell};

/// What a pooled buffer holds, in bytes: a whole TLS record at its largest (RFC 5246 section 6.2.3: 5 + 16384 + 2048)
/// and the beginning of the next one.
pub const BUFFER_BYTES: usize = 20 * 1024;

/// How far a window may grow, in bytes: a handshake message of 64 KiB must lie in one piece, and the last record
/// with it.
const WINDOW_BYTES_MAX: usize = 96 * 1024;

/// How many unused buffers a thread keeps.
const KEPT_MAX: usize = 256;

/// The unused buffers of a thread.
#[derive(Default)]
pub(super) struct Pool {
    unused: RefCell<Vec<Vec<u8>>>,
    /// The fewest that were unused since the last [`Pool::trim`]: so many were not needed. At most `unused.len()`.
    idle: Cell<usize>,
}

impl Pool {
    /// An empty buffer of [`BUFFER_BYTES`].
    pub fn take(&self) -> Vec<u8> {
        let mut unused = self.unused.borrow_mut();
        let buffer = unused.pop();
        self.idle.set(self.idle.get().min(unused.len()));
        buffer.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Frees half of the buffers that were not needed since the last time, so that what a burst needed is soon given back
    /// and what steady work needs is not.
    pub fn trim(&self) {
        let mut unused = self.unused.borrow_mut();
        unused.drain(..self.idle.get().div_ceil(2));
        self.idle.set(unused.len());
    }

    /// Takes a buffer back. One that has grown, and one too many, is freed.
    pub fn give(&self, mut buffer: Vec<u8>) {
        let mut unused = self.unused.borrow_mut();
        if buffer.capacity() == BUFFER_BYTES && unused.len() < KEPT_MAX {
            buffer.clear();
            unused.push(buffer);
        }
    }
}

/// Bytes that arrived and those of them that are still unread. Invariant: `0 <= head <= bytes.len()`.
#[derive(Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    head: usize,
}

impl Window {
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.head..]
    }

    pub fn unread_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.head..]
    }

    pub fn is_empty(&self) -> bool {
        self.head == self.bytes.len()
    }

    /// Marks the first `count` unread bytes as eaten.
    pub fn eat(&mut self, count: usize) {
        self.head += count;
        assert!(self.head <= self.bytes.len());
        if self.is_empty() {
            self.clear();
        }
    }

    /// Forgets what is unread; keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.head = 0;
    }

    /// Appends a copy of `bytes`, in pooled memory if there is none yet.
    pub fn append(&mut self, bytes: &[u8], pool: &Pool) {
        if bytes.is_empty() {
            return;
        }
        self.supply(pool);
        self.bytes.extend_from_slice(bytes);
    }

    /// Gives the memory back, but for what is unread: that is copied into as much as it needs.
    pub fn shrink(&mut self, pool: &Pool) {
        if self.bytes.capacity() > self.unread().len() {
            // `to_vec` takes no more than it needs.
            let rest = self.unread().to_vec();
            self.head = 0;
            pool.give(std::mem::replace(&mut self.bytes, rest));
        }
    }

    /// Octets of memory that it holds.
    #[cfg(test)]
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Is there memory that [`Window::release`] would give back?
    pub fn has_memory(&self) -> bool {
        self.bytes.capacity() > 0
    }

    /// Gets memory from the pool unless there is some.
    pub fn supply(&mut self, pool: &Pool) {
        if !self.has_memory() {
            self.bytes = pool.take();
        }
    }

    /// Gives the memory back if nothing is unread.
    pub fn release(&mut self, pool: &Pool) {
        if self.is_empty() && self.has_memory() {
            self.head = 0;
            pool.give(std::mem::take(&mut self.bytes));
        }
    }

    /// The memory, compacted and with room behind what is unread, for a read that owns it meanwhile. None: the window
    /// is as full as it may become. Hand it back with [`Window::restore`].
    pub fn lend(&mut self, pool: &Pool) -> Option<Vec<u8>> {
        self.supply(pool);
        if self.bytes.capacity() < BUFFER_BYTES {
            let mut whole = pool.take();
            whole.extend_from_slice(self.unread());
            (self.bytes, self.head) = (whole, 0);
        }
        if self.head > 0 {
            self.bytes.copy_within(self.head.., 0);
            self.bytes.truncate(self.bytes.len() - self.head);
            self.head = 0;
        }
        if self.bytes.len() == self.bytes.capacity() {
            if self.bytes.len() >= WINDOW_BYTES_MAX {
                return None;
            }
            self.bytes.reserve_exact(self.bytes.len().min(WINDOW_BYTES_MAX - self.bytes.len()));
        }
        Some(std::mem::take(&mut self.bytes))
    }

    /// Takes back what [`Window::lend`] gave out, with what was read behind it.
    pub fn restore(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }
}

/// Hands `bytes` to `eat` until they are eaten or it stops; returns how many were eaten.
pub(super) fn eat_all<R>(bytes: &[u8], eat: &mut impl FnMut(&[u8]) -> (usize, Option<R>)) -> (usize, Option<R>) {
    let mut eaten = 0;
    while eaten < bytes.len() {
        let (count, stop) = eat(&bytes[eaten..]);
        eaten += count;
        if stop.is_some() {
            return (eaten, stop);
        }
        assert!(count > 0, "an eater that neither eats nor stops would be fed for ever");
    }
    (eaten, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_keeps_whole_buffers_only() {
        let pool = Pool::default();
        let mut buffer = pool.take();
        assert_eq!(buffer.capacity(), BUFFER_BYTES);
        buffer.push(1);
        pool.give(buffer);
        assert!(pool.take().is_empty());
        pool.give(Vec::with_capacity(3 * BUFFER_BYTES));
        assert_eq!(pool.unused.borrow().len(), 0);
        for buffer in (0..2 * KEPT_MAX).map(|_| pool.take()).collect::<Vec<_>>() {
            pool.give(buffer);
        }
        assert_eq!(pool.unused.borrow().len(), KEPT_MAX);
    }

    #[test]
    fn pool_forgets_a_burst_and_keeps_what_is_needed() {
        let pool = Pool::default();
        let burst =
            |count| (0..count).map(|_| pool.take()).collect::<Vec<_>>().into_iter().for_each(|one| pool.give(one));
        burst(100);
        for _ in 0..20 {
            burst(10);
            pool.trim();
        }
        assert_eq!(pool.unused.borrow().len(), 10, "in use all the time");
        for _ in 0..5 {
            pool.trim();
        }
        assert_eq!(pool.unused.borrow().len(), 0, "in use no more");
        pool.trim();
    }

    #[test]
    fn window_compacts_grows_and_ends() {
        let pool = Pool::default();
        let mut window = Window::default();
        window.append(&[7; BUFFER_BYTES], &pool);
        window.eat(BUFFER_BYTES - 2);
        let lent = window.lend(&pool).unwrap();
        assert_eq!(lent, [7, 7]);
        window.restore(lent);
        let mut filled = 0;
        while let Some(mut lent) = window.lend(&pool) {
            lent.resize(lent.capacity(), 8);
            filled = lent.len();
            window.restore(lent);
        }
        assert_eq!((filled, window.unread().len()), (WINDOW_BYTES_MAX, WINDOW_BYTES_MAX));
        window.eat(WINDOW_BYTES_MAX);
        window.release(&pool);
        assert!(!window.has_memory());
    }

    #[test]
    fn window_shrinks_to_what_is_unread_and_grows_again() {
        let pool = Pool::default();
        for unread in [0, 1, 5000, BUFFER_BYTES - 1, BUFFER_BYTES, 3 * BUFFER_BYTES] {
            let text: Vec<u8> = (0..unread + 10).map(|at| at as u8).collect();
            let mut window = Window::default();
            window.append(&text, &pool);
            window.eat(10);
            window.shrink(&pool);
            window.shrink(&pool);
            assert_eq!((window.unread(), window.memory_bytes()), (&text[10..], unread));
            let mut lent = window.lend(&pool).unwrap();
            assert!(lent == text[10..] && lent.capacity() > lent.len() && lent.capacity() >= BUFFER_BYTES);
            lent.push(1);
            window.restore(lent);
            window.eat(unread);
            assert_eq!(window.unread(), [1]);
        }
    }

    #[test]
    fn eat_all_stops_where_told() {
        let mut seen = Vec::new();
        let stop = eat_all(b"abc", &mut |bytes| {
            seen.push(bytes[0]);
            (1, (bytes[0] == b'b').then_some(()))
        });
        assert_eq!((stop, seen.as_slice()), ((2, Some(())), &b"ab"[..]));
    }
}
