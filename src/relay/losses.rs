//! Connections that break within transactions: when that is held against the host, and when against the message alone.
//!
//! | the connection breaks | held against the host |
//! |---|---|
//! | before the content: in MAIL, RCPT, DATA, or between messages | each time |
//! | in the content, or before the reply to it | once for each sender; for one alone from the [`ALONE_MAX`]th message on |
//! | the same message again | never |
//!
//! All of it in a row: whatever the host answers to a whole transaction ends the row. [`LOSSES_MAX`] of those that are held
//! against it, and it is left out for a while.
//!
//! A message may be what breaks a server (a scanner that dies of an attachment): it is put off like any that is deferred, and
//! three such messages of one sender shall not keep everybody's mail waiting. If the host is what is broken, the mail of
//! others breaks too, as senders take turns; where there are no others, nobody is kept waiting meanwhile.

/// Losses that are held against a host, in a row, after which it is left out.
pub const LOSSES_MAX: u32 = 3;
/// Messages of one sender that break in their content, in a row, before each is held against the host.
pub const ALONE_MAX: u32 = 10;

/// A message in whose content a connection broke: its queue id, and its sender as a hash. None: it broke before the content.
pub type Broken = Option<(u64, u32)>;

/// Those of one host in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Losses {
    held: u32,
    /// Messages in whose content a connection broke.
    in_content: u32,
    last: Broken,
    /// Senders for whose messages it is held against the host.
    senders: [Option<u32>; LOSSES_MAX as usize],
}

impl Losses {
    /// One more. Says whether it is held against the host.
    pub fn add(&mut self, broken: Broken) -> bool {
        let is_held = match broken {
            None => true,
            Some((id, _)) if self.last.is_some_and(|(last, _)| last == id) => false,
            Some((_, sender)) => {
                self.in_content += 1;
                self.is_new(sender) || self.in_content >= ALONE_MAX
            }
        };
        self.last = broken.or(self.last);
        self.held += u32::from(is_held);
        is_held
    }

    /// Are they so many that the host is left out?
    pub fn are_too_many(&self) -> bool {
        self.held >= LOSSES_MAX
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.held == 0 && self.in_content == 0
    }

    /// The host has answered a whole transaction.
    pub fn end(&mut self) {
        *self = Losses::default();
    }

    fn is_new(&mut self, sender: u32) -> bool {
        let is_known = self.senders.contains(&Some(sender));
        if let (false, Some(free)) = (is_known, self.senders.iter_mut().find(|known| known.is_none())) {
            *free = Some(sender);
        }
        !is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many it takes, if ever.
    fn needed(mut losses: impl Iterator<Item = Broken>) -> Option<usize> {
        let mut all = Losses::default();
        let at = losses.position(|broken| {
            all.add(broken);
            all.are_too_many()
        });
        at.map(|at| at + 1)
    }

    #[test]
    fn what_breaks_before_the_content_is_the_hosts() {
        assert_eq!(needed([None; 5].into_iter()), Some(3));
    }

    #[test]
    fn poison_of_one_sender_is_not_the_hosts_fault_and_that_of_several_is() {
        assert_eq!(needed((0..9).map(|id| Some((id, 7)))), None);
        assert_eq!(needed((0..50).map(|id| Some((id, 7)))), Some(ALONE_MAX as usize + 1));
        assert_eq!(needed((0..50).map(|id| Some((id, id as u32)))), Some(3));
        assert_eq!(needed((0..50).map(|id| Some((id, id as u32 % 2)))), Some(ALONE_MAX as usize));
        assert_eq!(needed([Some((1, 7)), None, Some((2, 7)), Some((3, 8))].into_iter()), Some(4));
    }

    #[test]
    fn one_message_counts_once_however_often_it_is_tried() {
        assert_eq!(needed([Some((1, 7)); 1000].into_iter()), None);
    }

    #[test]
    fn an_answer_ends_the_row() {
        let mut losses = Losses::default();
        for id in 0..1000 {
            losses.add(Some((id, id as u32)));
            losses.add(None);
            assert!(!losses.are_too_many());
            losses.end();
        }
    }
}
