//! The queue between the threads that log and the one that writes: a bounded run of octets behind a lock that is held
//! for a copy or a swap, never for a write.

use super::{Event, Format, Level, Timestamp};
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Octets that may wait to be written.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// How long lines are collected before they are written.
const COALESCE: Duration = Duration::from_millis(10);

/// Lines that wait to be written.
pub struct Queue {
    state: Mutex<State>,
    /// Something to write, or somebody waits for it to be written.
    wake: Condvar,
    /// A batch was written.
    written: Condvar,
}

#[derive(Default)]
struct State {
    /// Whole lines; at most QUEUE_BYTES_MAX.
    bytes: Vec<u8>,
    /// Lines that found no room and were not reported yet.
    dropped: u64,
    /// Octets pushed and octets written, ever; `written_bytes <= pushed_bytes`.
    pushed_bytes: u64,
    written_bytes: u64,
    /// Threads in `flush`; while there are any, nothing is collected.
    flushing: u32,
}

impl Queue {
    /// An empty one.
    pub fn new() -> Queue {
        let state = State { bytes: Vec::with_capacity(QUEUE_BYTES_MAX), ..State::default() };
        Queue { state: Mutex::new(state), wake: Condvar::new(), written: Condvar::new() }
    }

    /// Adds a line, or counts it as dropped if there is no room.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.bytes.len() + line.len() > QUEUE_BYTES_MAX {
            state.dropped += 1;
            return;
        }
        let was_empty = state.bytes.is_empty();
        state.bytes.extend_from_slice(line);
        state.pushed_bytes += line.len() as u64;
        drop(state);
        if was_empty {
            self.wake.notify_one();
        }
    }

    /// Waits until what was pushed so far is written, or for `limit`.
    pub fn flush(&self, limit: Duration) {
        let mut state = self.lock();
        let target = state.pushed_bytes;
        state.flushing += 1;
        self.wake.notify_one();
        let waited = self.written.wait_timeout_while(state, limit, |state| state.written_bytes < target);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.flushing -= 1;
    }

    /// Writes batches to `out` for ever. What cannot be written is lost: there is nowhere left to say so.
    pub fn drain(&self, mut out: impl Write) {
        let mut batch = Vec::with_capacity(QUEUE_BYTES_MAX);
        loop {
            let dropped = self.take(&mut batch);
            let _ = out.write_all(&batch);
            if let Some(line) = dropped_line(dropped) {
                let _ = out.write_all(line.as_bytes());
            }
            let _ = out.flush();
            self.lock().written_bytes += batch.len() as u64;
            self.written.notify_all();
        }
    }

    /// Waits for lines, collects for a moment, and swaps them into `batch`. Returns how many were dropped.
    fn take(&self, batch: &mut Vec<u8>) -> u64 {
        batch.clear();
        let idle = |state: &mut State| state.bytes.is_empty();
        let state = self.wake.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let collecting = |state: &mut State| state.flushing == 0;
        let collected = self.wake.wait_timeout_while(state, COALESCE, collecting);
        let (mut state, _) = collected.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.bytes, batch);
        std::mem::take(&mut state.dropped)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in here leaves no half-made state: every change is one assignment or one copy.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn dropped_line(dropped: u64) -> Option<String> {
    let format = super::SETTINGS.get().map_or(Format::Human, |settings| settings.format);
    let event = Event::start(String::new(), format, Timestamp::now(), Level::Warning, "log lines dropped");
    event.field("count", dropped).finish().filter(|_| dropped > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A writer that says when a batch has come and goes on when it is told to.
    struct Slow {
        came: Sender<Vec<u8>>,
        go_on: Receiver<()>,
    }

    impl Write for Slow {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            let _ = self.came.send(octets.to_vec());
            let _ = self.go_on.recv();
            Ok(octets.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_hangs_costs_lines_and_not_time() {
        let (came, arrivals) = channel();
        let (go, go_on) = channel();
        let queue = Arc::new(Queue::new());
        let drained = Arc::clone(&queue);
        std::thread::spawn(move || drained.drain(Slow { came, go_on }));

        queue.push(b"first\n");
        assert_eq!(arrivals.recv().expect("a batch"), b"first\n");
        // The writer hangs in its write; the queue takes its bound and drops the rest.
        let line = [b'x'; 1024];
        for _ in 0..1030 {
            queue.push(&line);
        }
        go.send(()).expect("the writer waits");
        let batch = arrivals.recv().expect("a batch");
        assert_eq!(batch.len(), QUEUE_BYTES_MAX);
        go.send(()).expect("the writer waits");
        let report = String::from_utf8(arrivals.recv().expect("the report")).expect("text");
        assert!(report.ends_with("warning log lines dropped count=6\n"), "{report}");
        go.send(()).expect("the writer waits");

        queue.push(b"last\n");
        assert_eq!(arrivals.recv().expect("a batch"), b"last\n");
        go.send(()).expect("the writer waits");
        queue.flush(Duration::from_secs(60));
        let state = queue.lock();
        assert_eq!(state.written_bytes, state.pushed_bytes);
    }
}
