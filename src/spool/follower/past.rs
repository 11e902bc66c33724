//! What is special about the segments of earlier runs: they come first, their ends may have to be found, and once all of them
//! have been read it is known what counts.

use super::{Follower, Open};
use crate::clock::now_ms;
use crate::log::{Level, event};
use crate::spool::published::Started;
use crate::spool::recovery::Cursor;
use crate::spool::segment::{End, Sealed};
use crate::spool::shared::Request;

/// A segment of an earlier run.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    /// What its header says.
    pub started: Started,
    /// Where it ends, if that is known.
    pub end: Option<End>,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub begun_ms: u64,
}

impl Follower {
    /// The next segment of the past. The one behind it is read ahead meanwhile, by the files thread: what the kernel does for
    /// that takes as long as what is done here.
    pub(super) fn next_past(&mut self) -> Option<Past> {
        let past = self.past.pop_front()?;
        if let Some(Past { started, end, .. }) = self.past.front() {
            let bytes = end.map_or(started.size, |end| end.at);
            self.shared.ask(Request::ReadAhead(started.number, bytes));
        }
        Some(past)
    }

    /// For how many seconds nobody has written into a segment of the past: its writer would have left it a quarter of the time
    /// after which old mail is to be overwritten. Without that time it does not matter.
    pub(super) fn age(&self, begun_ms: u64) -> u64 {
        let written_s = self.shared.wipe_after_s.map_or(u64::MAX, |seconds| seconds / 4);
        (now_ms().saturating_sub(begun_ms) / 1000).saturating_sub(written_s)
    }

    /// The end of a segment whose writer had no time to say it was found by reading. From now on, what is bad before it is
    /// damage and no torn tail.
    pub(super) fn close(&self, open: &Open) {
        if let Some(at) = open.cursor.as_ref().and_then(Cursor::end) {
            let Started { number, generation, .. } = open.started;
            self.shared.ask(Request::Close(Sealed { number, generation, end: End { at, failed: false } }));
        }
    }

    /// The whole past has been read: segments may be erased, and spill files that no record names are freed.
    pub(super) fn catch_up(&mut self) {
        if std::mem::replace(&mut self.caught_up, true) {
            return;
        }
        for from in std::mem::take(&mut self.strays) {
            self.unread.iter().for_each(|&unread| self.recycling.refers(from, unread));
        }
        self.recycling.past_is_known();
        self.erase_dead();
        let unnamed = self.spilled.found_and_unnamed();
        if !self.past_is_whole && !unnamed.is_empty() {
            event(Level::Warning, "spill files that no readable record names are kept, because records were lost")
                .field("files", unnamed.len())
                .emit();
            return;
        }
        for number in unnamed {
            self.shared.ask(Request::SpillBack { number, reusable: true });
        }
    }
}
