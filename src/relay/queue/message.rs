//! A message as the queue knows it, and its jobs. Both are small, as there may be millions: 72 and 64 octets, with an
//! [`crate::spool::Location`] of 16.

use super::heap::{ALONE, Link, Linked};
use super::heard::Heard;
use super::slab::NONE;
use super::{Deferral, Destination};
use std::sync::Arc;

/// A message with recipients that are not settled. Times are milliseconds since the Unix epoch.
#[derive(Debug)]
pub struct Message<L> {
    /// Queue id.
    pub id: u64,
    /// Where its record is.
    pub at: L,
    /// When it is given up.
    pub expire_ms: u64,
    /// When it is next looked at: its key in `Queue::looks`.
    pub look_ms: u64,
    link: Link,
    /// Its first job, or NONE.
    pub jobs: u32,
    /// Who sent it: a hash.
    pub sender: u32,
    /// It takes little of a connection's time.
    pub small: bool,
    /// It stands in `Queue::looks`.
    pub looked: bool,
    /// The sender knows that it is late, or must not be told any more.
    pub warned: bool,
    /// Its record was moved here from another segment.
    pub survivor: bool,
    /// A survivor of it is being written: nothing is begun.
    pub moving: bool,
}

/// Recipients of one message at one destination: one transaction.
#[derive(Debug)]
pub struct Job {
    /// Indices in the envelope.
    pub recipients: Recipients,
    /// Not before; its key where it waits.
    pub due_ms: u64,
    /// Why it was not delivered the last time; none: it has not been tried since the start.
    pub heard: Option<Arc<Heard>>,
    link: Link,
    /// Its message.
    pub message: u32,
    /// The next job of the message, or NONE.
    pub next: u32,
    /// A [`Destination`], kept small.
    pub destination: u32,
    /// Where it waits, while [`State::Ready`].
    pub lane: u32,
    /// Transactions that were tried.
    pub attempts: u16,
    /// Changed by `Queue::enter` alone.
    pub state: State,
}

/// Where a job is. The number is its place in a site's tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nowhere: it is not to be begun now, or has no recipients left.
    Resting,
    /// It waits for its time.
    Later,
    /// It waits for its turn.
    Ready,
    /// Under way.
    Flying,
}

impl<L> Message<L> {
    /// Without jobs; it stands nowhere.
    pub fn new(id: u64, at: L, expire_ms: u64, sender: u32) -> Message<L> {
        let (small, looked, warned, survivor, moving) = Default::default();
        let (look_ms, link, jobs) = (u64::MAX, ALONE, NONE);
        Message { id, at, expire_ms, look_ms, link, jobs, sender, small, looked, warned, survivor, moving }
    }
}

impl Job {
    /// For `message`; it stands nowhere.
    pub fn new(message: u32, recipients: Vec<u32>, destination: Destination, due_ms: u64) -> Job {
        let destination = u32::try_from(destination).expect("routes are few");
        let (recipients, heard, link, next, lane) = (Recipients::new(recipients), None, ALONE, NONE, NONE);
        Job { recipients, due_ms, heard, link, message, next, destination, lane, attempts: 0, state: State::Resting }
    }

    /// How often it has been tried, if it has.
    pub fn deferral(&self) -> Option<Deferral> {
        let recipient = *self.recipients.as_slice().first().filter(|_| self.attempts > 0)?;
        Some(Deferral { recipient, attempts: self.attempts, next_ms: self.due_ms })
    }
}

impl<L> Linked for Message<L> {
    fn key(&self) -> u64 {
        self.look_ms
    }

    fn link(&self) -> &Link {
        &self.link
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl Linked for Job {
    fn key(&self) -> u64 {
        self.due_ms
    }

    fn link(&self) -> &Link {
        &self.link
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// Indices of recipients, ascending. One, as most messages have, costs no allocation.
#[derive(Debug)]
pub enum Recipients {
    /// This one.
    One(u32),
    /// These, or nobody.
    Many(Box<[u32]>),
}

impl Recipients {
    /// From a list.
    pub fn new(list: Vec<u32>) -> Recipients {
        match list[..] {
            [one] => Recipients::One(one),
            _ => Recipients::Many(list.into_boxed_slice()),
        }
    }

    /// All of them.
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Recipients::One(one) => std::slice::from_ref(one),
            Recipients::Many(list) => list,
        }
    }

    /// Nobody.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Takes all out.
    pub fn take(&mut self) -> Vec<u32> {
        match std::mem::replace(self, Recipients::Many(Box::default())) {
            Recipients::One(one) => vec![one],
            Recipients::Many(list) => list.into_vec(),
        }
    }

    /// Leaves those that are not in `gone`.
    pub fn remove_all(&mut self, gone: &[u32]) {
        if gone.iter().any(|index| self.as_slice().binary_search(index).is_ok()) {
            let mut left = self.take();
            left.retain(|index| !gone.contains(index));
            *self = Recipients::new(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Location;

    #[test]
    fn they_are_as_small_as_is_said() {
        assert_eq!((size_of::<Message<Location>>(), size_of::<Option<Message<Location>>>()), (72, 72));
        assert_eq!((size_of::<Job>(), size_of::<Option<Job>>()), (64, 64));
    }

    #[test]
    fn recipients_leave() {
        let mut recipients = Recipients::new(vec![1, 4, 9]);
        recipients.remove_all(&[2, 9]);
        assert_eq!(recipients.as_slice(), [1, 4]);
        recipients.remove_all(&[1]);
        assert!(matches!(recipients, Recipients::One(4)));
        recipients.remove_all(&[7]);
        assert_eq!(recipients.take(), [4]);
        assert!(recipients.is_empty() && recipients.take().is_empty());
    }
}
