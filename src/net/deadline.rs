//! Deadlines without a timer per wait: what the streams of a thread share.
//!
//! Every stream has a [`Watch`] in which it writes what it waits for and until which tick. One sweeper task per thread
//! counts the ticks, looks at all watches, frees buffers that nobody needs, and ends the waits that are over:
//!
//! | wait | holds | how it is ended | what the stream then does |
//! |---|---|---|---|
//! | read | a pooled buffer | cancelled, and awaited to its end: data that came first is kept | see the verdict |
//! | readiness | nothing | woken, and dropped: there is no data in it | see the verdict |
//! | write | its output | cancelled, and awaited to its end | see the verdict |
//!
//! | verdict | when | the stream |
//! |---|---|---|
//! | `Idle` | a read that has waited a whole tick | gives its buffer back, keeps what is unread in a small one, and waits for readiness |
//! | `TimedOut` | the deadline has passed | ends with `ErrorKind::TimedOut` |
//! | `Interrupted` | draining, and nothing had arrived | ends with `ErrorKind::Interrupted` |
//!
//! A deadline never comes early and comes at most two ticks late.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use monoio::io::{CancelHandle, Canceller};

use super::buffer::Pool;

/// The sweeper's tick: the resolution of all deadlines.
pub const TICK: Duration = Duration::from_millis(250);

/// How many waits of a thread may hold a buffer, 5 MiB in all; further ones wait for readiness first. Without a bound,
/// a burst of connections would grow the process by a buffer each, and an allocator does not give all of it back.
const READERS_MAX: usize = 256;

/// So much time in ticks, rounded up.
pub fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX)
}

/// What a thread's streams share: pooled buffers, and the sweeper that ends waits past their deadline.
#[derive(Default)]
pub struct Shared {
    pub(super) pool: Pool,
    watches: RefCell<Vec<Rc<Watch>>>,
    tick: Cell<u64>,
    /// Waits that hold a buffer. Counted anew at every tick, because a dropped future does not count itself out.
    readers: Cell<usize>,
    draining: Cell<bool>,
    ended: Cell<bool>,
    stopped: Cell<bool>,
    sweeper: RefCell<Option<Waker>>,
}

impl Shared {
    /// For the current thread; spawns the sweeper task on the current runtime.
    pub fn start() -> Rc<Shared> {
        let shared = Rc::new(Shared::default());
        monoio::spawn(sweep_until_stopped(Rc::downgrade(&shared)));
        shared
    }

    /// From now on a wait for the first byte of something new ends with `ErrorKind::Interrupted` at once, those under
    /// way included (draining). Streams that [`super::Stream::set_interruptible`] exempts go on.
    pub fn interrupt_idle(&self) {
        self.draining.set(true);
        for watch in self.watches.borrow().iter().filter(|watch| watch.interruptible.get()) {
            watch.end_wait(Verdict::Interrupted);
        }
    }

    /// Ends every wait, present and future, with `ErrorKind::TimedOut`: the time to drain is over.
    pub fn end_all(&self) {
        self.ended.set(true);
        for watch in self.watches.borrow().iter() {
            watch.end_wait(Verdict::TimedOut);
        }
    }

    /// Ends the sweeper task so that the runtime can be dropped. Deadlines end with it.
    pub fn stop(&self) {
        self.stopped.set(true);
        if let Some(waker) = self.sweeper.take() {
            waker.wake();
        }
    }

    /// An empty buffer of [`super::BUFFER_BYTES`].
    pub fn take_buffer(&self) -> Vec<u8> {
        self.pool.take()
    }

    /// Gives a buffer back.
    pub fn give_buffer(&self, buffer: Vec<u8>) {
        self.pool.give(buffer);
    }

    /// How many waits hold a buffer.
    pub fn waiting_buffers(&self) -> usize {
        self.readers.get()
    }

    /// So many waits hold a buffer that the next should wait without.
    pub(super) fn is_crowded(&self) -> bool {
        self.readers.get() >= READERS_MAX
    }

    /// A watch for a new stream.
    pub(super) fn watch(&self) -> Rc<Watch> {
        let watch = Rc::new(Watch::default());
        self.watches.borrow_mut().push(watch.clone());
        watch
    }

    /// The tick that it is: a clock that costs nothing to read.
    pub fn tick(&self) -> u64 {
        self.tick.get()
    }

    /// The tick at which a wait that starts now has lasted `limit`.
    pub(super) fn tick_after(&self, limit: Duration) -> u64 {
        // The current tick has partly passed, so it does not count.
        self.tick.get().saturating_add(ticks(limit)).saturating_add(1)
    }

    fn sweep(&self) {
        let now = self.tick.get() + 1;
        self.tick.set(now);
        let mut readers = 0;
        self.watches.borrow_mut().retain(|watch| {
            watch.sweep(now);
            readers += usize::from(watch.wait.get() == Wait::Read);
            // A hook alone keeps its watch here for as long as it lives: whoever holds one drops it with its stream.
            Rc::strong_count(watch) > 1
        });
        self.readers.set(readers);
        self.pool.trim();
    }

    fn poll_stopped(&self, context: &Context<'_>) -> bool {
        if !self.stopped.get() {
            self.sweeper.replace(Some(context.waker().clone()));
        }
        self.stopped.get()
    }
}

async fn sweep_until_stopped(shared: Weak<Shared>) {
    loop {
        let mut tick = std::pin::pin!(monoio::time::sleep(TICK));
        let over = poll_fn(|context| match shared.upgrade() {
            Some(shared) if !shared.poll_stopped(context) => tick.as_mut().poll(context).map(|()| false),
            _ => Poll::Ready(true),
        });
        if over.await {
            return;
        }
        match shared.upgrade() {
            Some(shared) => shared.sweep(),
            None => return,
        }
    }
}

/// What a stream waits for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Wait {
    #[default]
    Nothing,
    Read,
    Readiness,
    Write,
}

/// Why a wait was ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Verdict {
    #[default]
    None,
    Idle,
    TimedOut,
    Interrupted,
}

impl Verdict {
    /// What the stream tells its caller; `Idle` is between the stream and the sweeper.
    pub fn error(self) -> Option<io::Error> {
        match self {
            Verdict::None | Verdict::Idle => None,
            Verdict::TimedOut => Some(io::ErrorKind::TimedOut.into()),
            Verdict::Interrupted => Some(io::ErrorKind::Interrupted.into()),
        }
    }
}

/// By which somebody else ends a stream's wait.
#[derive(Clone)]
pub struct Hook(pub(super) Rc<Watch>);

impl Hook {
    /// Is the stream waiting for its peer?
    pub fn is_waiting(&self) -> bool {
        self.0.wait.get() != Wait::Nothing
    }

    /// Ends the wait with `ErrorKind::Interrupted`; false if there is none. What it waits for may have come already: then
    /// it counts, and the next read ends so instead, before it begins. What is written goes out all the same.
    pub fn interrupt(&self) -> bool {
        let waiting = self.is_waiting();
        self.0.hooked.set(self.0.hooked.get() || waiting);
        self.0.end_wait(Verdict::Interrupted);
        waiting
    }

    /// Of a stream that waits, or so it looks.
    #[cfg(test)]
    pub(crate) fn waiting() -> Hook {
        let hook = Hook::busy();
        hook.0.wait.set(Wait::Readiness);
        hook
    }

    /// Of a stream that does not wait.
    #[cfg(test)]
    pub(crate) fn busy() -> Hook {
        Hook(Rc::default())
    }
}

/// One stream's current wait.
#[derive(Default)]
pub(super) struct Watch {
    wait: Cell<Wait>,
    verdict: Cell<Verdict>,
    /// Waits for the first byte of something new, so draining may end it.
    interruptible: Cell<bool>,
    /// Somebody has ended a wait by a hook.
    pub(super) hooked: Cell<bool>,
    since_tick: Cell<u64>,
    until_tick: Cell<u64>,
    /// Only while operations are under way: it costs an idle connection nothing.
    canceller: RefCell<Option<Canceller>>,
    waker: RefCell<Option<Waker>>,
}

impl Watch {
    /// Starts a wait until `until_tick`. Err: it is over before it began.
    pub fn begin(&self, shared: &Shared, wait: Wait, until_tick: u64, interruptible: bool) -> io::Result<()> {
        if interruptible && shared.draining.get() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if shared.tick.get() >= until_tick {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if shared.ended.get() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.verdict.set(Verdict::None);
        self.interruptible.set(interruptible);
        self.since_tick.set(shared.tick.get());
        self.until_tick.set(until_tick);
        self.wait.set(wait);
        if wait == Wait::Read {
            shared.readers.set(shared.readers.get() + 1);
        }
        Ok(())
    }

    /// Ends the wait and says why it ended, if the sweeper ended it.
    pub fn finish(&self, shared: &Shared) -> Verdict {
        if self.wait.replace(Wait::Nothing) == Wait::Read {
            shared.readers.set(shared.readers.get().saturating_sub(1));
        }
        self.interruptible.set(false);
        self.verdict.take()
    }

    /// Err, for ever: somebody has ended a wait by a hook, so there is nothing to read for.
    pub fn check_hook(&self) -> io::Result<()> {
        if self.hooked.get() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }

    /// For the operation that is about to begin.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.canceller.borrow_mut().get_or_insert_with(Canceller::new).handle()
    }

    /// No operation is under way: frees what cancelling one would need.
    pub fn forget_canceller(&self) {
        self.canceller.take();
    }

    /// Waits for `ready` or for a verdict, whichever comes first.
    pub async fn or_verdict(&self, ready: impl Future<Output = io::Result<()>>) -> io::Result<()> {
        let mut ready = std::pin::pin!(ready);
        poll_fn(|context| {
            if let Some(error) = self.verdict.get().error() {
                return Poll::Ready(Err(error));
            }
            let polled = ready.as_mut().poll(context);
            if polled.is_pending() {
                let mut waker = self.waker.borrow_mut();
                match waker.as_mut() {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => *waker = Some(context.waker().clone()),
                }
            }
            polled
        })
        .await
    }

    fn sweep(&self, now: u64) {
        if self.wait.get() == Wait::Nothing {
            return;
        }
        if now >= self.until_tick.get() {
            self.end_wait(Verdict::TimedOut);
        } else if self.wait.get() == Wait::Read && now > self.since_tick.get() + 1 {
            self.end_wait(Verdict::Idle);
        }
    }

    fn end_wait(&self, verdict: Verdict) {
        match self.wait.replace(Wait::Nothing) {
            Wait::Nothing => {}
            Wait::Readiness => {
                self.verdict.set(verdict);
                if let Some(waker) = self.waker.take() {
                    waker.wake();
                }
            }
            Wait::Read | Wait::Write => {
                self.verdict.set(verdict);
                let canceller = self.canceller.take();
                *self.canceller.borrow_mut() = canceller.map(Canceller::cancel);
            }
        }
    }
}
