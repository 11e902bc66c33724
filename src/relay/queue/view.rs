//! What stands in the queue, to be looked at: counts, which are kept, and messages page by page.

use super::message::{Job, Message, State};
use super::{Destination, Queue, Reason};

/// Transactions of one destination: of most messages there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// They wait for their turn.
    pub ready: usize,
    /// They wait for their time.
    pub later: usize,
    /// Under way.
    pub flying: usize,
    /// They may not be begun now: their message is on hold or being moved, or their recipients are being recorded.
    pub resting: usize,
}

/// A message as it stands. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing<L> {
    /// Queue id.
    pub id: u64,
    /// Where its record is.
    pub at: L,
    /// When it is given up.
    pub expire_ms: u64,
    /// On hold since then.
    pub held_ms: Option<u64>,
    /// Its recipients for whom something is left to do.
    pub parts: Vec<Part>,
    /// Recipients whose fate is known and being written down.
    pub recording: Vec<u32>,
}

/// Recipients of one transaction, to whom the same was said when they were last tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Indices in the envelope.
    pub recipients: Vec<u32>,
    /// Where they go, by number.
    pub destination: Destination,
    /// Under way.
    pub flying: bool,
    /// Transactions that were tried.
    pub attempts: u16,
    /// Not tried before.
    pub due_ms: u64,
    /// The same if its destination can be reached: the time that its sender asked for, or its own next try.
    pub own_due_ms: u64,
    /// Why they were not delivered the last time, or why their destination cannot be reached.
    pub reason: Option<Reason>,
}

impl<L: Copy + PartialEq> Queue<L> {
    /// What there is for `destination`. Costs nothing.
    pub fn counts_of(&self, destination: Destination) -> Counts {
        let tally = &self.sites[destination].tally;
        let [ready, later, flying, resting] =
            [State::Ready, State::Later, State::Flying, State::Resting].map(|state| tally.count(state));
        Counts { ready, later, flying, resting }
    }

    /// At most `limit` messages, and where to go on; 0 is the beginning. A message that is there from the first page to
    /// the last is on one of them.
    pub fn page(&self, from: u32, limit: usize) -> (Vec<Standing<L>>, Option<u32>) {
        let mut slots = self.messages.range(from);
        let page = slots.by_ref().take(limit).map(|(slot, message)| self.stands(slot, message)).collect();
        (page, slots.next().map(|(slot, _)| slot))
    }

    /// One message.
    pub fn standing(&self, id: u64) -> Option<Standing<L>> {
        let slot = self.slot(id)?;
        Some(self.stands(slot, &self.messages[slot]))
    }

    fn stands(&self, slot: u32, message: &Message<L>) -> Standing<L> {
        let part = |number: u32, recipients: Vec<u32>, reason: Option<Reason>| {
            let job: &Job = &self.jobs[number];
            let destination = job.destination as usize;
            Part {
                recipients,
                destination,
                flying: job.state == State::Flying,
                attempts: job.attempts,
                due_ms: job.due_ms.max(self.sites[destination].down_until_ms),
                own_due_ms: job.due_ms,
                reason,
            }
        };
        let parts_of = |job: u32| self.reasons(job).into_iter().map(move |(reason, its)| part(job, its, reason));
        let parts = self.jobs_of(slot).into_iter().flat_map(parts_of).collect();
        let recording = self.committing.get(&slot).cloned().unwrap_or_default();
        let &Message { id, at, expire_ms, .. } = message;
        let held_ms = self.orders.held_ms(id);
        Standing { id, at, expire_ms, held_ms, parts, recording }
    }
}
