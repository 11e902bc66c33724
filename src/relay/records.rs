//! Fates on their way into the spool: what is recorded next, and what is tried again when the disk refuses.
//!
//! Delivered recipients of any messages share a record; one such record is under way at a time, and what arrives
//! meanwhile is the next, so that records grow by themselves when there is much to record. Recipients of one message whose
//! sender is to be told are a record with the notification that tells of them: both are durable or neither is. While more
//! transactions of the message are to come, that waits a moment, so that one notification tells of all.
//!
//! How often recipients were tried is news that may be lost: it goes into a record of deliveries, or after a moment into one
//! of its own, and is dropped when there is too much of it. What the disk refused waits again, because only a record that is
//! taken says that deliveries may go on.

use crate::relay::notification::Verdict;
use crate::smtp::client::Reply;
use crate::smtp::envelope::{Deferred, Envelope, Fate, Outcome};
use std::collections::VecDeque;

/// Outcomes in one record.
const OUTCOMES_MAX: usize = 256;
/// Notifications under way at once.
const NOTIFICATIONS_MAX: usize = 8;
/// Outcomes that may wait before no more deliveries are begun: as many are delivered again after a crash (RFC 1047).
const BACKLOG_MAX: usize = 64;
/// Pause after the spool refused a record.
const RETRY_MS: u64 = 2000;
/// How long a notification waits for other recipients of its message.
const GATHER_MS: u64 = 1000;
/// Past so many that wait, none waits for other recipients: it would hold up the deliveries of everybody.
const GATHERING_MAX: usize = BACKLOG_MAX / 2;
/// How long an account of attempts waits for company.
const DEFERRED_MS: u64 = 1000;
/// Accounts of attempts that may wait.
const DEFERRED_MAX: usize = 4096;
/// Recipients in one notification, unless one transaction has more.
const GATHERED_MAX: usize = 1000;
/// Most that one recipient adds to a notification and its outcomes beside the texts of its reply, which stand in it three
/// times: its path, ORCPT twice, field names.
const VERDICT_BYTES_MAX: usize = 2048;
/// Longest text kept of a reply, in octets.
const TEXT_BYTES_MAX: usize = 256;

/// A recipient that was delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Queue id.
    pub id: u64,
    /// Index in the envelope.
    pub recipient: u32,
    /// The next server's reply.
    pub reply: Reply,
}

/// Recipients of one message whose sender may have to be told what became of them.
#[derive(Clone, Debug)]
pub struct Told<L> {
    /// Queue id.
    pub id: u64,
    /// Where its record is.
    pub at: L,
    /// Whom and why, of one kind of action.
    pub verdicts: Vec<Verdict>,
}

/// What one record is to hold.
#[derive(Clone, Debug)]
pub enum Matter<L> {
    /// Outcomes, and accounts of attempts.
    Delivered(Vec<Delivered>, Vec<Deferred>),
    /// What became of recipients of one message and, if the sender is to be told, the notification.
    Told(Told<L>),
}

/// What waits to be recorded.
#[derive(Debug)]
pub struct Records<L> {
    delivered: Vec<Delivered>,
    deferred: Vec<Deferred>,
    /// Not before, if nothing else is to be recorded.
    deferred_ms: u64,
    /// With the time before which it is not written.
    told: VecDeque<(u64, Told<L>)>,
    delivered_under_way: bool,
    told_under_way: usize,
    /// Octets that the recipients of one notification may take in its record.
    told_bytes_max: usize,
    /// The spool refused a record: not before this time.
    refused_until_ms: Option<u64>,
}

impl<L> Told<L> {
    /// What the verdicts have in common.
    fn kind(&self) -> Option<&'static str> {
        self.verdicts.first().map(|verdict| verdict.action.subject())
    }

    /// What would take more than `bytes_max` octets of a record; one recipient stays in any case.
    fn split_off(&mut self, bytes_max: usize) -> Option<Told<L>>
    where
        L: Copy,
    {
        let mut bytes = 0usize;
        let fits = |verdict: &Verdict| {
            bytes = bytes.saturating_add(VERDICT_BYTES_MAX + 3 * verdict.reply.text.len());
            bytes <= bytes_max
        };
        let count = self.verdicts.iter().map(fits).take_while(|fits| *fits).count().max(1);
        let rest = self.verdicts.split_off(count.min(self.verdicts.len()));
        (!rest.is_empty()).then_some(Told { id: self.id, at: self.at, verdicts: rest })
    }
}

impl<L> Default for Records<L> {
    fn default() -> Records<L> {
        Records {
            delivered: Vec::new(),
            deferred: Vec::new(),
            deferred_ms: 0,
            told: VecDeque::new(),
            delivered_under_way: false,
            told_under_way: 0,
            told_bytes_max: usize::MAX,
            refused_until_ms: None,
        }
    }
}

impl<L: Copy> Records<L> {
    /// Nothing waits. A record takes `record_bytes_max` octets: what would be more is several notifications.
    pub fn new(record_bytes_max: usize) -> Records<L> {
        // The other half is for the message that is returned.
        Records { told_bytes_max: record_bytes_max / 2, ..Records::default() }
    }

    /// A recipient was delivered to.
    pub fn delivered(&mut self, delivered: Delivered) {
        self.delivered.push(delivered);
    }

    /// Recipients were tried once more.
    pub fn deferred(&mut self, deferred: Deferred, now: u64) {
        if self.deferred.is_empty() {
            self.deferred_ms = now + DEFERRED_MS;
        }
        if self.deferred.len() < DEFERRED_MAX {
            self.deferred.push(deferred);
        }
    }

    /// The sender of a message may have to be told of it. `more`: other transactions of it are to come at once.
    pub fn told(&mut self, mut told: Told<L>, more: bool, now: u64) {
        let more = more && self.told.len() < GATHERING_MAX;
        let same = |(_, known): &&mut (u64, Told<L>)| {
            let fits = known.verdicts.len() + told.verdicts.len() <= GATHERED_MAX;
            known.id == told.id && known.kind() == told.kind() && fits
        };
        match self.told.iter_mut().find(same) {
            Some((not_before_ms, known)) => {
                known.verdicts.append(&mut told.verdicts);
                *not_before_ms = if more { *not_before_ms } else { now };
            }
            None => self.told.push_back((if more { now + GATHER_MS } else { now }, told)),
        }
    }

    /// The clock was set back: pauses last as long as they were meant to.
    pub fn set_back(&mut self, by_ms: u64) {
        self.deferred_ms = self.deferred_ms.saturating_sub(by_ms);
        self.refused_until_ms = self.refused_until_ms.map(|until_ms| until_ms.saturating_sub(by_ms));
        self.told.iter_mut().for_each(|(not_before_ms, _)| *not_before_ms = not_before_ms.saturating_sub(by_ms));
    }

    /// Nothing is gathered any longer.
    pub fn flush(&mut self) {
        self.deferred_ms = 0;
        self.told.iter_mut().for_each(|(not_before_ms, _)| *not_before_ms = 0);
    }

    /// The next record to be made, if one may be made now. Given back to [`Records::ended`].
    pub fn next(&mut self, now: u64) -> Option<Matter<L>> {
        if self.refused_until_ms.is_some_and(|until| until > now) {
            return None;
        }
        let is_due = !self.delivered.is_empty() || !self.deferred.is_empty() && self.deferred_ms <= now;
        if !self.delivered_under_way && is_due {
            self.delivered_under_way = true;
            let (delivered, deferred) = (&mut self.delivered, &mut self.deferred);
            let count = delivered.len().min(OUTCOMES_MAX);
            let others = deferred.len().min(OUTCOMES_MAX);
            return Some(Matter::Delivered(delivered.drain(..count).collect(), deferred.drain(..others).collect()));
        }
        if self.told_under_way < NOTIFICATIONS_MAX {
            let at = self.told.iter().position(|(not_before_ms, _)| *not_before_ms <= now)?;
            let (_, mut told) = self.told.remove(at)?;
            let rest = told.split_off(self.told_bytes_max);
            self.told.extend(rest.map(|rest| (now, rest)));
            self.told_under_way += 1;
            return Some(Matter::Told(told));
        }
        None
    }

    /// A record is durable, or the spool refused it: then it waits again.
    pub fn ended(&mut self, matter: Matter<L>, durable: bool, now: u64) {
        match &matter {
            Matter::Delivered(..) => self.delivered_under_way = false,
            Matter::Told(_) => self.told_under_way -= 1,
        }
        self.refused_until_ms = if durable { None } else { Some(now + RETRY_MS) };
        match matter {
            _ if durable => {}
            Matter::Delivered(mut delivered, mut deferred) => {
                delivered.append(&mut self.delivered);
                self.delivered = delivered;
                deferred.append(&mut self.deferred);
                deferred.truncate(DEFERRED_MAX);
                self.deferred = deferred;
            }
            Matter::Told(told) => self.told.push_back((now, told)),
        }
    }

    /// May deliveries be begun whose fates will have to be recorded?
    pub fn may_deliver(&self) -> bool {
        self.refused_until_ms.is_none() && self.delivered.len() + self.told.len() < BACKLOG_MAX
    }

    /// May more be told of that came to pass by itself? Whoever waits longer for that costs nothing.
    pub fn may_tell(&self) -> bool {
        self.told.len() < BACKLOG_MAX
    }

    /// When something may be tried again.
    pub fn wake_ms(&self) -> Option<u64> {
        let gathering = self.told.iter().map(|(not_before_ms, _)| *not_before_ms).min();
        let gathering = gathering.filter(|_| self.told_under_way < NOTIFICATIONS_MAX);
        let account = (!self.deferred.is_empty() && !self.delivered_under_way).then_some(self.deferred_ms);
        self.refused_until_ms.or(gathering.into_iter().chain(account).min())
    }

    /// Nothing waits and nothing is under way.
    pub fn is_empty(&self) -> bool {
        let waiting = !self.delivered.is_empty() || !self.deferred.is_empty() || !self.told.is_empty();
        !waiting && !self.delivered_under_way && self.told_under_way == 0
    }
}

/// Appends one fate.
pub fn push_outcome(queue_id: u64, recipient: u32, fate: Fate, reply: &Reply, envelope: &mut Envelope) {
    let text = format!("{} {}", reply.code, reply.text);
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    Outcome { queue_id, recipient, fate, text: &text.as_bytes()[..end] }.push_to(envelope);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::notification::Action;
    use crate::smtp::envelope::View;

    fn delivered(recipient: u32) -> Delivered {
        Delivered { id: 1, recipient, reply: Reply::ours(250, "ok".into()) }
    }

    fn told(id: u64) -> Told<u32> {
        Told { id, at: 0, verdicts: Vec::new() }
    }

    fn recipients(matter: &Matter<u32>) -> Vec<u32> {
        let Matter::Delivered(delivered, _) = matter else { panic!("no deliveries") };
        delivered.iter().map(|delivered| delivered.recipient).collect()
    }

    #[test]
    fn what_arrives_while_a_record_is_written_is_the_next() {
        let mut records = Records::<u32>::default();
        records.delivered(delivered(0));
        let first = records.next(0).expect("a record");
        records.delivered(delivered(1));
        records.delivered(delivered(2));
        assert!(records.next(0).is_none());
        records.ended(first, true, 0);
        let second = records.next(0).expect("a record");
        assert_eq!(recipients(&second), [1, 2]);
        assert!(!records.is_empty());
        records.ended(second, true, 0);
        assert!(records.is_empty());
    }

    #[test]
    fn a_refused_record_comes_back_and_stops_deliveries_meanwhile() {
        let mut records = Records::default();
        records.delivered(delivered(0));
        let first = records.next(100).expect("a record");
        records.delivered(delivered(1));
        records.told(told(7), false, 100);
        let bounce = records.next(100).expect("a bounce");
        records.ended(first, false, 100);
        records.ended(bounce, false, 100);
        assert!(!records.may_deliver());
        assert!(records.next(100 + RETRY_MS - 1).is_none());
        assert_eq!(records.wake_ms(), Some(100 + RETRY_MS));
        let again = records.next(100 + RETRY_MS).expect("again");
        assert_eq!(recipients(&again), [0, 1]);
        records.ended(again, true, 3000);
        assert!(records.may_deliver());
        assert!(matches!(records.next(3000), Some(Matter::Told(Told { id: 7, .. }))));
    }

    #[test]
    fn accounts_of_attempts_go_with_deliveries_or_after_a_moment_and_may_be_lost() {
        let account = |queue_id| Deferred { queue_id, recipient: 0, attempts: 2, next_ms: 9 };
        let mut records = Records::<u32>::default();
        records.deferred(account(1), 100);
        assert!(records.next(100).is_none() && records.may_deliver() && !records.is_empty());
        records.delivered(delivered(0));
        let Some(Matter::Delivered(outcomes, accounts)) = records.next(100) else { panic!("no record") };
        assert_eq!((outcomes.len(), &accounts[..]), (1, &[account(1)][..]));
        records.ended(Matter::Delivered(outcomes, accounts), false, 100);
        let again = records.next(100 + RETRY_MS).expect("again");
        assert!(
            matches!(&again, Matter::Delivered(outcomes, accounts) if outcomes.len() == 1 && *accounts == [account(1)])
        );
        records.ended(again, true, 100 + RETRY_MS);
        records.delivered(delivered(0));
        (0..2 * DEFERRED_MAX as u64).for_each(|id| records.deferred(account(id), 5000));
        let Some(Matter::Delivered(outcomes, accounts)) = records.next(5000) else { panic!("no record") };
        assert_eq!(
            (outcomes.len(), accounts.len(), records.deferred.len()),
            (1, OUTCOMES_MAX, DEFERRED_MAX - OUTCOMES_MAX)
        );
        records.ended(Matter::Delivered(outcomes, accounts), true, 5000);
        assert_eq!(records.wake_ms(), Some(5000 + DEFERRED_MS));
        assert!(records.next(5000 + DEFERRED_MS - 1).is_none());
        let rest = std::iter::from_fn(|| {
            let matter = records.next(5000 + DEFERRED_MS)?;
            records.ended(matter, true, 5000 + DEFERRED_MS);
            Some(())
        });
        assert_eq!(rest.count(), DEFERRED_MAX / OUTCOMES_MAX - 1);
        assert!(records.is_empty() && records.wake_ms().is_none());
    }

    /// With nothing to be written again nobody would ever learn that the disk is back, and nothing would be delivered.
    #[test]
    fn a_clock_that_is_set_back_makes_no_pause_longer() {
        const HOUR: u64 = 3_600_000;
        let mut records = Records::<u32>::default();
        records.told(refused(1, 0..1, Action::Failed), true, HOUR);
        records.deferred(Deferred { queue_id: 1, recipient: 0, attempts: 2, next_ms: 9 }, HOUR);
        records.set_back(HOUR);
        assert!(records.next(GATHER_MS.min(DEFERRED_MS) - 1).is_none());
        let [first, second] = [(); 2].map(|()| records.next(GATHER_MS.max(DEFERRED_MS)).expect("a record"));
        records.ended(first, false, HOUR);
        records.ended(second, false, HOUR);
        records.set_back(HOUR);
        assert!(records.next(RETRY_MS - 1).is_none() && !records.may_deliver());
        assert!(records.next(RETRY_MS).is_some());
    }

    #[test]
    fn an_account_that_is_refused_is_tried_again_and_then_deliveries_go_on() {
        let mut records = Records::<u32>::default();
        records.deferred(Deferred { queue_id: 1, recipient: 0, attempts: 2, next_ms: 9 }, 0);
        let alone = records.next(DEFERRED_MS).expect("a record");
        records.ended(alone, false, DEFERRED_MS);
        let until = DEFERRED_MS + RETRY_MS;
        assert_eq!((records.may_deliver(), records.wake_ms()), (false, Some(until)));
        let again = records.next(until).expect("again");
        records.ended(again, true, until);
        assert!(records.may_deliver() && records.is_empty() && records.wake_ms().is_none());
    }

    fn refused(id: u64, recipients: std::ops::Range<u32>, action: Action) -> Told<u32> {
        let reply = || Reply::ours(550, "no".into());
        let verdict = |recipient| Verdict { recipient, action, reply: reply(), remote: None };
        Told { id, at: 0, verdicts: recipients.map(verdict).collect() }
    }

    /// Message and recipients of each notification that may be written at `now`.
    fn written(records: &mut Records<u32>, now: u64) -> Vec<(u64, usize)> {
        let next = std::iter::from_fn(|| records.next(now)).map(|matter| match matter {
            Matter::Told(told) => (told.id, told.verdicts.len()),
            Matter::Delivered(..) => panic!("a delivery"),
        });
        next.collect()
    }

    #[test]
    fn one_notification_for_what_comes_together() {
        let mut records = Records::default();
        records.told(refused(1, 0..100, Action::Failed), true, 0);
        records.told(refused(2, 0..1, Action::Failed), false, 0);
        records.told(refused(1, 100..101, Action::Relayed), true, 0);
        assert_eq!(written(&mut records, 10), [(2, 1)], "the others may get more");
        assert_eq!(records.wake_ms(), Some(GATHER_MS));
        records.told(refused(1, 101..150, Action::Failed), true, 20);
        records.told(refused(1, 150..160, Action::Expired), false, 30);
        assert_eq!(written(&mut records, 30), [(1, 159)]);
        assert_eq!(written(&mut records, GATHER_MS), [(1, 1)], "no longer than that");
        // Bounds, and the end.
        records.told(refused(3, 0..900, Action::Failed), true, 0);
        records.told(refused(3, 900..1001, Action::Failed), true, 0);
        assert_eq!(written(&mut records, 0), []);
        records.flush();
        assert_eq!(written(&mut records, 0), [(3, 900), (3, 101)]);
    }

    /// What waits for company counts as much as what waits for the disk: who has one message after the other refused would
    /// hold up everybody's.
    #[test]
    fn where_much_is_to_be_told_nothing_waits_for_company() {
        let mut records = Records::default();
        (0..BACKLOG_MAX as u64).for_each(|id| records.told(refused(id, 0..1, Action::Failed), true, 0));
        assert!(!records.may_deliver());
        while let Some(matter) = records.next(0) {
            records.ended(matter, true, 0);
        }
        assert!(records.may_deliver());
    }

    #[test]
    fn what_no_record_takes_is_several_notifications() {
        let mut records = Records::new(2 * 100 * (VERDICT_BYTES_MAX + 6));
        records.told(refused(1, 0..250, Action::Failed), false, 0);
        assert_eq!(written(&mut records, 0), [(1, 100), (1, 100), (1, 50)]);
        let mut records = Records::new(1);
        records.told(refused(1, 0..2, Action::Failed), false, 0);
        assert_eq!(written(&mut records, 0), [(1, 1), (1, 1)]);
    }

    #[test]
    fn bounds() {
        let mut records = Records::default();
        (0..OUTCOMES_MAX as u32 + 1).for_each(|recipient| records.delivered(delivered(recipient)));
        assert_eq!(recipients(&records.next(0).expect("a record")).len(), OUTCOMES_MAX);
        (0..2 * BACKLOG_MAX as u64).for_each(|id| records.told(told(id), false, 0));
        assert_eq!(std::iter::from_fn(|| records.next(0)).count(), NOTIFICATIONS_MAX);
        assert!(!records.may_deliver());
        let mut envelope = Envelope::default();
        let reply = Reply::ours(250, "ü".repeat(1000));
        push_outcome(1, 2, Fate::Delivered, &reply, &mut envelope);
        let text = View::parse(envelope.as_bytes()).expect("whole").outcomes[0].text;
        assert!(text.len() <= TEXT_BYTES_MAX && std::str::from_utf8(text).is_ok());
    }
}
