//! An operator's questions and orders, answered between two turns.
//!
//! ```text
//!  Asked --Order, Delete, Return--> Queue::begin_act --record--> spool Writer --Acted--> answered
//!                                                                   +--read back--> Queue::order, Queue::outcome
//! ```
//!
//! Promise: an order is answered as done when it is durable, and otherwise leaves everything as it was.

use super::Worker;
use super::recording::{Built, Words};
use crate::relay::notification::{Action, Verdict};
use crate::relay::operator::{Answer, Asked, Counts, Described, Done, IDS_MAX, Question};
use crate::relay::queue::{Deleting, NotNow};
use crate::relay::records::Told;
use crate::relay::task;
use crate::smtp::client::Reply;
use crate::smtp::envelope::{Act, Envelope, Fate, Order, Outcome};
use crate::spool::{CommitError, Location};
use futures_channel::mpsc;
use std::sync::mpsc::SyncSender;

/// Recipients in one record of deletions, unless one message has more: 25 octets each.
const DELETED_MAX: usize = 4000;

/// The operator's side of the worker.
pub(super) struct Operator {
    pub(super) asked: mpsc::Receiver<Asked>,
    pub(super) acted: mpsc::UnboundedReceiver<Acted>,
    acted_here: mpsc::UnboundedSender<Acted>,
    under_way: usize,
}

/// An order that is durable, or not.
pub(super) struct Acted {
    acts: Vec<Begun>,
    done: Vec<(u64, Done)>,
    words: Vec<Words>,
    answer: SyncSender<Answer>,
    result: Result<(), CommitError>,
}

/// What was begun of one message.
struct Begun {
    id: u64,
    /// None: nothing is taken out of the queue.
    deleting: Option<Deleting<Location>>,
    done: Done,
}

impl Operator {
    pub(super) fn new(asked: mpsc::Receiver<Asked>) -> Operator {
        let (acted_here, acted) = mpsc::unbounded();
        Operator { asked, acted, acted_here, under_way: 0 }
    }

    /// Is no order being written?
    pub(super) fn is_idle(&self) -> bool {
        self.under_way == 0
    }
}

impl Worker {
    pub(super) fn asked(&mut self, Asked { question, answer }: Asked, now: u64) {
        let answered = match question {
            Question::Count => Answer::Count(self.count()),
            Question::Ids => Answer::Ids(self.queue.ids()),
            Question::Describe(ids) => {
                Answer::Described(ids.into_iter().take(IDS_MAX).filter_map(|id| self.describe(id)).collect())
            }
            Question::Flush(ids) => {
                let flush = |id| match self.queue.place(id) {
                    Some(_) => (id, Done::Done { recipients: self.queue.flush(id, now), under_way: 0, told: 0 }),
                    None => (id, Done::Unknown),
                };
                Answer::Done(ids.into_iter().take(IDS_MAX).map(flush).collect())
            }
            Question::Order(order, ids) => return self.order(order, &ids, answer, now),
            Question::Delete(ids) => return self.delete(&ids, answer),
            Question::Return(id) => return self.send_back(id, answer, now),
        };
        // Whoever asked may have gone.
        let _ = answer.try_send(answered);
    }

    fn count(&self) -> Counts {
        let (messages, unreadable) = self.queue.counts();
        let named = self.tools.ways.iter().enumerate();
        let waiting = |number| self.queue.waiting(number) + self.waiting_by_domain(number);
        let destinations = named.map(|(number, way)| (task::name(&way.target), waiting(number))).collect();
        let (held, paused) = (self.queue.held_by_operator(), self.paused);
        Counts { messages, unreadable, held, destinations, paused }
    }

    fn describe(&self, id: u64) -> Option<Described> {
        let standing = self.queue.standing(id)?;
        let reference = self.follower.reference(standing.at)?;
        let destinations = standing.parts.iter().map(|part| self.destination_name(part.destination)).collect();
        Some(Described { standing, destinations, reference })
    }

    fn order(&mut self, order: Order, ids: &[u64], answer: SyncSender<Answer>, now: u64) {
        let (mut acts, mut refused, mut envelope) = (Vec::new(), Vec::new(), Envelope::default());
        for &id in ids.iter().take(IDS_MAX) {
            let parts = self.queue.standing(id).map(|standing| standing.parts).unwrap_or_default();
            let count =
                |flying| parts.iter().filter(|part| part.flying == flying).map(|part| part.recipients.len()).sum();
            let (waiting, under_way): (usize, usize) = (count(false), count(true));
            // What goes out in this moment is tried anew or let go all the same; held it is not.
            let done = match order {
                Order::Hold => Done::Done { recipients: waiting, under_way, told: 0 },
                Order::Release | Order::Requeue => {
                    Done::Done { recipients: waiting + under_way, under_way: 0, told: 0 }
                }
            };
            match self.queue.begin_act(id) {
                Err(why) => refused.push((id, refusal(why))),
                Ok(()) => {
                    Act { order, queue_id: id, at_ms: now }.push_to(&mut envelope);
                    acts.push(Begun { id, deleting: None, done });
                }
            }
        }
        self.write(acts, refused, answer, envelope);
    }

    fn delete(&mut self, ids: &[u64], answer: SyncSender<Answer>) {
        let (mut acts, mut done, mut envelope) = (Vec::new(), Vec::new(), Envelope::default());
        let mut count = 0;
        for &id in ids.iter().take(IDS_MAX) {
            if count > DELETED_MAX {
                done.push((id, Done::Busy));
                continue;
            }
            match self.queue.begin_delete(id) {
                Err(why) => done.push((id, refusal(why))),
                Ok(deleting) => {
                    for recipient in deleting.recipients() {
                        Outcome { queue_id: id, recipient, fate: Fate::Deleted, text: b"" }.push_to(&mut envelope);
                        count += 1;
                    }
                    acts.push(Begun::deletion(id, deleting, 0));
                }
            }
        }
        self.write(acts, done, answer, envelope);
    }

    /// Deletes a message and tells its sender, in one record.
    fn send_back(&mut self, id: u64, answer: SyncSender<Answer>, now: u64) {
        let deleting = match self.queue.begin_delete(id) {
            Ok(deleting) => deleting,
            Err(why) => return drop(answer.try_send(Answer::Done(vec![(id, refusal(why))]))),
        };
        let verdict = |recipient| Verdict {
            recipient,
            action: Action::Failed,
            reply: Reply::ours(550, "5.7.1 the postmaster has stopped its delivery".into()),
            remote: None,
        };
        let told = Told { id, at: deleting.at, verdicts: deleting.recipients().map(verdict).collect() };
        if told.verdicts.is_empty() {
            return self.write(vec![Begun::deletion(id, deleting, 0)], Vec::new(), answer, Envelope::default());
        }
        match self.build_told(&told, now) {
            Ok(built) => {
                let told = built.words.iter().filter(|words| words.is_told()).count();
                self.commit(built, vec![Begun::deletion(id, deleting, told)], Vec::new(), answer);
            }
            Err(why) => {
                self.queue.delete_failed(id, deleting);
                let done = why.map_or(Done::Unreadable, Done::Refused);
                let _ = answer.try_send(Answer::Done(vec![(id, done)]));
            }
        }
    }

    fn write(&mut self, acts: Vec<Begun>, done: Vec<(u64, Done)>, answer: SyncSender<Answer>, envelope: Envelope) {
        if envelope.as_bytes().is_empty() {
            return self.end(Acted { acts, done, words: Vec::new(), answer, result: Ok(()) });
        }
        match self.writer.begin(0) {
            Ok(id) => {
                let built = Built { id, envelope, content: Vec::new(), words: Vec::new() };
                self.commit(built, acts, done, answer);
            }
            Err(error) => self.end(Acted { acts, done, words: Vec::new(), answer, result: Err(error) }),
        }
    }

    fn commit(&mut self, built: Built, acts: Vec<Begun>, done: Vec<(u64, Done)>, answer: SyncSender<Answer>) {
        let Built { id: record, envelope, content, words } = built;
        self.operator.under_way += 1;
        let (writer, sender) = (self.writer.clone(), self.operator.acted_here.clone());
        self.writer.spawn(async move {
            let result = writer.commit(record, &envelope, &content).await;
            // Nobody listens any more when the thread ends: the next start reads what is durable.
            let _ = sender.unbounded_send(Acted { acts, done, words, answer, result });
        });
    }

    pub(super) fn acted(&mut self, acted: Acted) {
        self.operator.under_way -= 1;
        self.count_writes();
        self.end(acted);
    }

    fn end(&mut self, Acted { acts, mut done, words, answer, result }: Acted) {
        if result.is_ok() {
            self.say(words);
        }
        for Begun { id, deleting, done: begun } in acts {
            match (deleting, result) {
                (Some(deleting), Err(_)) => self.queue.delete_failed(id, deleting),
                (None, Err(_)) => self.queue.end_act(id),
                (Some(_), Ok(())) => self.queue.deleted(id),
                // Until it is read back nothing may be moved or ordered of it.
                (None, Ok(())) => {}
            }
            done.push((id, result.map_or_else(Done::Refused, |()| begun)));
        }
        let _ = answer.try_send(Answer::Done(done));
    }
}

impl Begun {
    /// `told`: of how many recipients its sender is told.
    fn deletion(id: u64, deleting: Deleting<Location>, told: usize) -> Begun {
        let done = Done::Done { recipients: deleting.recipients().count(), under_way: deleting.flying, told };
        Begun { id, deleting: Some(deleting), done }
    }
}

fn refusal(why: NotNow) -> Done {
    match why {
        NotNow::Unknown => Done::Unknown,
        NotNow::Busy => Done::Busy,
    }
}
