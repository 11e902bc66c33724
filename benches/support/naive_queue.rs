//! The naive twin of the queue: ordered sets of (time, message), as anybody would write it first. One recipient a message,
//! one destination, no turns, no reasons.

use std::collections::{BTreeMap, BTreeSet};

/// What is known of a message.
struct Message {
    due_ms: u64,
    expire_ms: u64,
    attempts: u32,
    recipients: Vec<u32>,
    #[allow(dead_code)]
    at: [u32; 4],
}

/// See above.
#[derive(Default)]
pub struct Queue {
    messages: BTreeMap<u64, Message>,
    waiting: BTreeSet<(u64, u64)>,
    looks: BTreeSet<(u64, u64)>,
}

impl Queue {
    pub fn add(&mut self, id: u64, at: [u32; 4], now: u64, expire_ms: u64) {
        self.messages.insert(id, Message { due_ms: now, expire_ms, attempts: 0, recipients: vec![0], at });
        self.waiting.insert((now, id));
        self.looks.insert((expire_ms, id));
    }

    pub fn next(&mut self, now: u64) -> Option<(u64, Vec<u32>)> {
        let &(_, id) = self.waiting.first().filter(|(due_ms, _)| *due_ms <= now)?;
        self.waiting.pop_first();
        Some((id, self.messages.get(&id)?.recipients.clone()))
    }

    pub fn deferred(&mut self, id: u64, due_ms: u64) {
        if let Some(message) = self.messages.get_mut(&id) {
            (message.due_ms, message.attempts) = (due_ms, message.attempts + 1);
            self.waiting.insert((due_ms, id));
        }
    }

    pub fn settled(&mut self, id: u64) {
        if let Some(message) = self.messages.remove(&id) {
            self.waiting.remove(&(message.due_ms, id));
            self.looks.remove(&(message.expire_ms, id));
        }
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }
}
