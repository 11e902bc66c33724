//! Tasks of the simulation: one runs at a time, in an order that the seed tells; all are dropped when the process dies.

use super::Dice;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

type Task = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
    static TASKS: RefCell<BTreeMap<u64, Task>> = const { RefCell::new(BTreeMap::new()) };
    static NEXT: Cell<u64> = const { Cell::new(0) };
    static READY: Arc<Mutex<BTreeSet<u64>>> = Arc::default();
}

struct Alarm {
    task: u64,
    ready: Arc<Mutex<BTreeSet<u64>>>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.ready.lock().expect("no panic while locked").insert(self.task);
    }
}

/// A process begins.
pub fn start() {
    stop();
    RUNNING.set(true);
}

/// The process is gone, with all its tasks.
pub fn stop() {
    // What they drop may wake or spawn others.
    while let Some((_, task)) = TASKS.with_borrow_mut(BTreeMap::pop_first) {
        drop(task);
    }
    READY.with(|ready| ready.lock().expect("no panic while locked").clear());
    RUNNING.set(false);
}

/// Does this thread simulate?
pub fn is_running() -> bool {
    RUNNING.get()
}

/// Begins a task.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    let number = NEXT.get();
    NEXT.set(number + 1);
    TASKS.with_borrow_mut(|tasks| tasks.insert(number, Box::pin(task)));
    READY.with(|ready| ready.lock().expect("no panic while locked").insert(number));
}

/// Tasks that have not ended.
pub fn tasks() -> usize {
    TASKS.with_borrow(BTreeMap::len)
}

/// Some task that can go on does. False: none can.
pub fn run_one(dice: &mut Dice) -> bool {
    let ready = READY.with(Arc::clone);
    let number = {
        let mut ready = ready.lock().expect("no panic while locked");
        if ready.is_empty() {
            return false;
        }
        let number = *ready.iter().nth(dice.below(ready.len() as u64) as usize).expect("so many are ready");
        ready.remove(&number);
        number
    };
    let Some(mut task) = TASKS.with_borrow_mut(|tasks| tasks.remove(&number)) else { return true };
    let waker = Waker::from(Arc::new(Alarm { task: number, ready }));
    if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        TASKS.with_borrow_mut(|tasks| tasks.insert(number, task));
    }
    true
}
