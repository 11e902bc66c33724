//! Connections that have nothing to do stay open for a moment: the next message to the same destination needs none of its
//! own. Without this, mail that comes no faster than it goes out would take a connection, and a TLS handshake, a message.
//!
//! ```text
//!  task --Tried--> nothing is due, or outcomes wait for the disk --> lingers --due--> task
//!                                                                       \--LINGER_MS--> closed
//! ```
//!
//! Only a server that has just taken a message is kept. Promises: who lingers takes no place that another destination at the same server waits for, and is handed nothing once
//! its server has gone. Pools of several hosts are left alone: there each connection is a new choice.

use super::Worker;
use crate::relay::task::Work;
use futures_channel::mpsc;

/// As long as Postfix keeps one (`smtp_connection_cache_time_limit`), in milliseconds.
const LINGER_MS: u64 = 2000;

/// Tasks that wait for work, those that began first in front.
#[derive(Debug, Default)]
pub(super) struct Lingering(Vec<Waiting>);

#[derive(Debug)]
struct Waiting {
    task: u64,
    destination: usize,
    until_ms: u64,
}

impl Lingering {
    /// When the first is to be closed.
    pub(super) fn wake_ms(&self) -> Option<u64> {
        self.0.first().map(|waiting| waiting.until_ms)
    }

    /// The clock was set back: nobody lingers longer for it.
    pub(super) fn set_back(&mut self, by_ms: u64) {
        self.0.iter_mut().for_each(|waiting| waiting.until_ms = waiting.until_ms.saturating_sub(by_ms));
    }

    /// A task has ended.
    pub(super) fn ended(&mut self, task: u64) {
        self.0.retain(|waiting| waiting.task != task);
    }
}

impl Worker {
    /// A task has nothing to do now: it waits, or ends.
    pub(super) fn linger(&mut self, task: u64, destination: usize, sender: mpsc::UnboundedSender<Work>, now: u64) {
        let is_alone = self.tools.ways.get(destination).is_some_and(|way| way.target.hosts().len() == 1);
        if is_alone && self.queue.may_linger(destination) {
            self.tasks.insert(task, Some(sender));
            self.lingering.0.push(Waiting { task, destination, until_ms: now + LINGER_MS });
        }
    }

    /// Hands what is due to tasks that wait, those first that began to last, so that what is not needed is closed.
    pub(super) fn hand_to_lingering(&mut self, now: u64) {
        while self.lingering.wake_ms().is_some_and(|until_ms| until_ms <= now) {
            let Waiting { task, .. } = self.lingering.0.remove(0);
            self.tasks.insert(task, None);
        }
        for at in (0..self.lingering.0.len()).rev() {
            let Waiting { task, destination, .. } = self.lingering.0[at];
            if self.queue.is_due(destination, now) {
                self.lingering.0.remove(at);
                self.hand_on(task, destination, true, now);
            }
        }
    }
}
