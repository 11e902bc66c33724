//! An operator: holds, releases, requeues, deletes, sends back and flushes whatever is queued.

use super::super::Worker;
use super::ledger::Ledger;
use super::process::Process;
use crate::clock::now_ms;
use crate::relay::operator::{Answer, Asked, Done, Question};
use crate::smtp::envelope::Order;
use crate::spool::simulated::Dice;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, sync_channel};

/// Messages of one order, at most.
const IDS_MAX: u64 = 4;

/// What was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Order(Order),
    Delete,
    /// Deletes it and tells its sender.
    Return,
    Flush,
}

struct Waiting {
    what: What,
    /// Queue ids, and what the ledger has said to each.
    ends: BTreeMap<u64, u64>,
    answer: Receiver<Answer>,
}

/// Orders whose answers are not there yet.
#[derive(Default)]
pub struct Operator {
    waiting: Vec<Waiting>,
}

impl Process {
    /// The operator orders something.
    pub fn order(&mut self, dice: &mut Dice) {
        let what = match dice.below(8) {
            0 => What::Order(Order::Hold),
            1 | 2 => What::Order(Order::Release),
            3 | 4 => What::Order(Order::Requeue),
            5 => What::Delete,
            6 => What::Return,
            _ => What::Flush,
        };
        let queued = self.queued();
        if queued.is_empty() {
            return;
        }
        let most = if what == What::Return { 1 } else { 1 + dice.below(IDS_MAX) };
        let mut ids: Vec<u64> = (0..most).map(|_| queued[dice.below(queued.len() as u64) as usize]).collect();
        ids.sort_unstable();
        ids.dedup();
        // Who deletes a notification wants nobody to be told.
        if matches!(what, What::Delete | What::Return) {
            ids.retain(|&id| self.ledger.borrow().knows(id));
        }
        if !ids.is_empty() {
            self.ask(what, ids);
        }
    }

    /// The operator lets everything go.
    pub fn release_all(&mut self) {
        for ids in self.queued().chunks(IDS_MAX as usize) {
            self.ask(What::Order(Order::Release), ids.to_vec());
        }
    }

    fn queued(&self) -> Vec<u64> {
        self.worker.queue.ids().into_iter().map(|(_, id)| id).collect()
    }

    fn ask(&mut self, what: What, ids: Vec<u64>) {
        let ends = ids.iter().map(|&id| (id, self.ledger.borrow_mut().ordered(id, what))).collect();
        let (answer, answered) = sync_channel(1);
        let question = match what {
            What::Order(order) => Question::Order(order, ids),
            What::Delete => Question::Delete(ids),
            What::Return => Question::Return(ids[0]),
            What::Flush => Question::Flush(ids),
        };
        self.worker.asked(Asked { question, answer }, now_ms());
        self.operator.waiting.push(Waiting { what, ends, answer: answered });
    }
}

impl Operator {
    /// The relay hears that orders are durable, and the operator that they are done.
    pub fn hear(&mut self, worker: &mut Worker, ledger: &mut Ledger) {
        while let Ok(acted) = worker.operator.acted.try_recv() {
            worker.acted(acted);
        }
        self.waiting.retain(|Waiting { what, ends, answer }| {
            let Ok(answer) = answer.try_recv() else { return true };
            let Answer::Done(done) = answer else { panic!("an order is answered by what was done: {answer:?}") };
            for (id, done) in done {
                if let Done::Done { recipients, .. } = done {
                    ledger.obeyed(id, *what, recipients, ends[&id]);
                }
            }
            false
        });
    }

    /// Is no answer outstanding?
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}
