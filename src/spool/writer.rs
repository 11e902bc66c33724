//! A writer: drives one `GroupCommit` on a core's runtime, or on the relay's.
//!
//! ```text
//!  commit() -> GroupCommit.append -> ticket ........................ awaited by the session
//!                   |                                                       ^
//!                   +--> task: step -> write -> written -> publish end -> wake
//! ```
//!
//! The task lives only while there is something to write: after `drain` nothing is left on the runtime.
//!
//! Promise: `commit` returns Ok only after the write that holds the record has come back from the disk. This is the one
//! place that waits for the disk.

use super::disk;
use super::figures::WriterFigures;
use super::file::{Through, WriteFile};
use super::group_commit::{FreshSegment, GroupCommit, Step, Ticket};
use super::published::Started;
use super::queue_id::COUNTER_LIMIT;
use super::record::{KIND_MESSAGE, KIND_SPILLED};
use super::segment::{BLOCK, Header, Sealed, State};
use super::shared::{Erase, Request, Shared, random_salt};
use super::spill::Spill;
use super::{CommitError, QueueId};
use crate::clock::now_ms;
use crate::log::{Level, event};
use crate::net::Driver;
use crate::smtp::envelope::{Envelope, Fields, Tag, View};
use futures_channel::oneshot;
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// What may wait for the disk at most, per writer, in octets. A record can be no longer.
const WAITING_BYTES: u64 = 16 << 20;

/// A writer before it is on its thread.
pub struct WriterSeed {
    pub(super) shared: Arc<Shared>,
    /// Which writer it is; the relay's is the last.
    pub(super) index: usize,
}

/// A core's (or the relay's) writer; cheap to clone on its thread.
#[derive(Clone)]
pub struct Writer {
    inner: Rc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    index: usize,
    /// The relay's records are outcomes and notifications: the reserve is there for them.
    is_relay: bool,
    bytes_max: usize,
    commits: Through,
    spills: Through,
    core: RefCell<GroupCommit>,
    file: RefCell<Option<Rc<WriteFile>>>,
    /// Of the segment that `file` is.
    header: Cell<Option<Header>>,
    /// Who waits for the group in flight and for the one being filled; a group's list is that of its parity.
    waiting: RefCell<[Vec<Waker>; 2]>,
    /// Groups whose waiters were woken.
    woken: Cell<u64>,
    running: Cell<bool>,
    drainers: RefCell<Vec<Waker>>,
    last_counter: Cell<u64>,
}

impl Writer {
    /// For the monoio runtime of the current thread, which runs on `driver`. Errors: no writer thread could be started.
    pub fn start(seed: WriterSeed, driver: Driver) -> io::Result<Writer> {
        let WriterSeed { shared, index } = seed;
        let bytes_max = WAITING_BYTES.min(shared.segment_bytes - BLOCK) as usize;
        let inner = Inner {
            is_relay: index + 1 == shared.published.len(),
            shared,
            index,
            bytes_max,
            commits: Through::start(driver, &format!("spool-{index}"))?,
            spills: Through::start(driver, &format!("spill-{index}"))?,
            core: RefCell::new(GroupCommit::new(bytes_max)),
            file: RefCell::default(),
            header: Cell::new(None),
            waiting: RefCell::default(),
            woken: Cell::new(0),
            running: Cell::new(false),
            drainers: RefCell::default(),
            last_counter: Cell::new(0),
        };
        Ok(Writer { inner: Rc::new(inner) })
    }

    /// A queue id for a message that begins, if there is room for it on disk. Costs two atomic loads.
    pub fn begin(&self, content_bytes: u64) -> Result<QueueId, CommitError> {
        let inner = &self.inner;
        if !inner.is_relay && !inner.shared.has_room(content_bytes) {
            return Err(CommitError::NoRoom);
        }
        let counter = inner.last_counter.get() + 1;
        if counter >= COUNTER_LIMIT {
            event(Level::Error, "queue ids of this run are used up; restart").field("writer", inner.index).emit();
            return Err(CommitError::NoRoom);
        }
        inner.last_counter.set(counter);
        Ok(QueueId::new(inner.shared.epoch, inner.index as u64, counter))
    }

    /// Octets of new mail for which there is room on disk; none: for no message at all. Costs two atomic loads.
    pub fn room(&self) -> Option<u64> {
        self.inner.shared.room()
    }

    /// The longest record, in octets of envelope and content with 64 more; beyond it `commit` says `NoRoom`. Longer
    /// content must be spilled.
    pub fn record_bytes_max(&self) -> usize {
        self.inner.bytes_max
    }

    /// Appends a record to the group being filled. Ok when the record is durable. A spill file that it names is free again
    /// if the record was certainly not written.
    pub async fn commit(&self, id: QueueId, envelope: &Envelope, content: &[u8]) -> Result<(), CommitError> {
        let outcome = self.commit_copy(id, envelope, content).await;
        if outcome == Err(CommitError::NoRoom) && content.is_empty() {
            self.give_spill_back(envelope.as_bytes());
        }
        outcome
    }

    /// The same for a message that has a record already, whose spill file is not this one's alone.
    pub async fn commit_copy(&self, id: QueueId, envelope: &Envelope, content: &[u8]) -> Result<(), CommitError> {
        let inner = &self.inner;
        let fields = envelope.as_bytes();
        let mut kind = if envelope.recipients() > 0 { KIND_MESSAGE } else { 0 };
        if content.is_empty() && names_spill(fields) {
            kind |= KIND_SPILLED;
        }
        let ticket = inner.core.borrow_mut().append(kind, id, fields, content);
        let ticket = ticket.ok_or(CommitError::NoRoom)?;
        if !inner.running.replace(true) {
            disk::spawn(run(inner.clone()));
        }
        Committing { inner, ticket: Some(ticket), place: None }.await
    }

    /// A spill file for a large content.
    pub async fn spill(&self) -> Result<Spill, CommitError> {
        let inner = &self.inner;
        if !inner.is_relay && !inner.shared.has_room(0) {
            return Err(CommitError::NoRoom);
        }
        let (reply, answer) = oneshot::channel();
        inner.shared.ask(Request::Spill(reply));
        match answer.await {
            Ok(Ok(file)) => Spill::new(inner.shared.clone(), &inner.spills, file),
            Ok(Err(error)) => {
                event(Level::Error, "no spill file").field("error", error).emit();
                Err(CommitError::NoRoom)
            }
            Err(_) => Err(CommitError::NoRoom),
        }
    }

    /// Waits until all that was appended is durable or failed.
    pub async fn drain(&self) {
        std::future::poll_fn(|context| {
            if !self.inner.running.get() {
                return Poll::Ready(());
            }
            self.inner.drainers.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Goes on in another segment if this one was begun a quarter of the time ago after which old mail is to be overwritten, and
    /// holds records: what is delivered of it can then be recycled, however little mail there is. To be called now and then.
    pub fn change_old_segment(&self) {
        let inner = &self.inner;
        let Some(wipe_after_s) = inner.shared.wipe_after_s else { return };
        let now_ms = now_ms();
        let before_ms = now_ms.saturating_sub(wipe_after_s.saturating_mul(1000) / 4);
        // What was begun later than now was begun before the clock was set back: nobody knows when.
        let is_old = |begun_ms: u64| begun_ms < before_ms || begun_ms > now_ms;
        let is_old = inner.header.get().is_some_and(|header| is_old(header.created_ms));
        if is_old && inner.core.borrow_mut().change_segment() && !inner.running.replace(true) {
            disk::spawn(run(inner.clone()));
        }
    }

    /// Drains, and writes the segment's end into its own header: whatever is bad before it at the next start is damage then,
    /// and no torn tail. The last call; a crash just leaves that to be found out.
    pub async fn close(&self) {
        self.drain().await;
        let inner = &self.inner;
        let (sealed, file) = (inner.core.borrow_mut().retire(), inner.file.borrow_mut().take());
        let (Some(sealed), Some(file), Some(mut header)) = (sealed, file, inner.header.take()) else { return };
        if let State::Active { end, .. } = &mut header.state {
            *end = Some(sealed.end);
        }
        if let (Err(error), _) = file.write_durably(header.to_block(), 0).await {
            event(Level::Warning, "spool segment not closed, the next start looks for its end")
                .field("segment", sealed.number)
                .field("error", error)
                .emit();
        }
    }

    /// Starts a task that commits, on the thread's runtime.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        disk::spawn(task);
    }

    /// Durable writes and records so far.
    pub fn counts(&self) -> (u64, u64) {
        self.inner.core.borrow().counts()
    }

    /// The record was never written: nothing can name the file.
    fn give_spill_back(&self, fields: &[u8]) {
        if let Ok(View { spilled: Some(reference), .. }) = View::parse(fields) {
            self.inner.shared.ask(Request::SpillBack { number: reference.file, reusable: true });
        }
    }
}

fn names_spill(fields: &[u8]) -> bool {
    Fields::new(fields).any(|field| matches!(field, Ok((Tag::Spilled, _))))
}

/// Writes until nothing waits.
async fn run(inner: Rc<Inner>) {
    loop {
        let step = inner.core.borrow_mut().step();
        match step {
            Step::Rest => break,
            Step::Write { offset, bytes } => inner.write(bytes, offset).await,
            Step::NewSegment { sealed } => inner.new_segment(sealed).await,
        }
        inner.wake_finished();
    }
    inner.running.set(false);
    inner.drainers.borrow_mut().drain(..).for_each(Waker::wake);
}

impl Inner {
    async fn write(&self, bytes: Vec<u8>, offset: u64) {
        let file = self.file.borrow().clone().expect("a write is asked for only in an open segment");
        let (began, length) = (Instant::now(), bytes.len());
        let (result, bytes) = file.write_durably(bytes, offset).await;
        let mut core = self.core.borrow_mut();
        core.written(result.is_ok(), bytes);
        match result {
            Ok(()) => {
                self.figures().wrote(began.elapsed(), length, core.counts().1);
                if let Some((number, end)) = core.durable_end() {
                    self.shared.published[self.index].advance(number, end);
                    self.shared.alarm.ring();
                }
            }
            Err(error) => {
                self.figures().failed();
                self.file.borrow_mut().take();
                event(Level::Error, "spool write failed")
                    .field("writer", self.index)
                    .field("offset", offset)
                    .field("error", error)
                    .emit();
            }
        }
    }

    async fn new_segment(&self, sealed: Option<Sealed>) {
        self.file.borrow_mut().take();
        let fresh = self.begin_segment(sealed).await;
        if fresh.is_err() {
            self.figures().failed();
        }
        if fresh.is_err() && sealed.is_some_and(|sealed| sealed.end.failed) {
            event(Level::Error, "spool segment could not be sealed: whether its last group is on disk is undecided")
                .field("writer", self.index)
                .emit();
        }
        self.core.borrow_mut().segment(fresh);
    }

    fn figures(&self) -> &WriterFigures {
        &self.shared.figures[self.index]
    }

    async fn begin_segment(&self, sealed: Option<Sealed>) -> Result<FreshSegment, CommitError> {
        let spare = match self.shared.take_spare(self.is_relay) {
            Some(spare) => spare,
            None => {
                let (reply, answer) = oneshot::channel();
                self.shared.ask(Request::Spare { for_relay: self.is_relay, reply });
                answer.await.map_err(|_| CommitError::NoRoom)?.map_err(|_| CommitError::NoRoom)?
            }
        };
        let path = self.shared.layout.segment(spare.number);
        let header = Header {
            state: State::Active { writer: self.index as u32, sealed, end: None },
            number: spare.number,
            generation: self.shared.next_generation(),
            salt: random_salt(),
            size: self.shared.segment_bytes,
            created_ms: now_ms(),
        };
        let written = match WriteFile::new(&self.commits, spare.file, path) {
            Ok(file) => file.write_durably(header.to_block(), 0).await.0.map(|()| file),
            Err(error) => Err(error),
        };
        let file = written.map_err(|error| {
            event(Level::Error, "spool segment header cannot be written")
                .field("writer", self.index)
                .field("segment", header.number)
                .field("error", error)
                .emit();
            // Nobody's spare any more, and perhaps active on disk: the file goes, so that its room comes back.
            let Header { number, generation, size, .. } = header;
            self.shared.ask(Request::Erase(Erase { number, generation, size, reusable: false, seals: None }));
            CommitError::Disk
        })?;
        *self.file.borrow_mut() = Some(Rc::new(file));
        self.header.set(Some(header));
        let Header { number, generation, salt, size, .. } = header;
        self.shared.published[self.index].start(Started { number, generation, salt, size, sealed });
        self.shared.alarm.ring();
        Ok(FreshSegment { number, generation, salt, size })
    }

    fn wake_finished(&self) {
        let finished = self.core.borrow().finished();
        while self.woken.get() < finished {
            let parity = (self.woken.get() & 1) as usize;
            self.woken.set(self.woken.get() + 1);
            self.waiting.borrow_mut()[parity].drain(..).for_each(Waker::wake);
        }
    }
}

/// Waits for a ticket's outcome.
struct Committing<'a> {
    inner: &'a Inner,
    ticket: Option<Ticket>,
    /// Where its waker is in its group's list.
    place: Option<usize>,
}

impl Future for Committing<'_> {
    type Output = Result<(), CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.inner;
        let ticket = self.ticket.as_ref().expect("not polled after it was ready");
        if let Some(outcome) = inner.core.borrow_mut().outcome(ticket) {
            self.ticket = None;
            return Poll::Ready(outcome);
        }
        let mut waiting = inner.waiting.borrow_mut();
        let wakers = &mut waiting[(ticket.group() & 1) as usize];
        match self.place {
            Some(place) if wakers[place].will_wake(context.waker()) => {}
            Some(place) => wakers[place] = context.waker().clone(),
            None => {
                wakers.push(context.waker().clone());
                self.place = Some(wakers.len() - 1);
            }
        }
        Poll::Pending
    }
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.inner.core.borrow_mut().forget(&ticket);
        }
    }
}
