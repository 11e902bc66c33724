//! What the spool tells of itself while it runs, to whoever watches: counts of each writer, room, files, and whether it can
//! be written.
//!
//! ```text
//!  writer 0 ..  --each durable write----------> WriterFigures ------+
//!  files thread --each second---> free space, what is on the disk --+--> Watch: metrics, readiness
//!  relay        --each second---> what keeps segments --------------+
//! ```
//!
//! The writers count in memory of their own, and nobody waits for a reader.

use super::probe::Probe;
use super::recycling::Tally;
use super::shared::Shared;
use crate::metrics::histogram::{DISK_US, FEW, OCTETS};
use crate::metrics::{Counter, Histogram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What one writer counts.
#[derive(Debug)]
#[repr(align(128))]
pub struct WriterFigures {
    /// Records made durable.
    pub records: Counter,
    /// Time of each durable write.
    pub time: Histogram,
    /// Records of each.
    pub group: Histogram,
    /// Octets of each.
    pub bytes: Histogram,
    /// Writes that failed, and segments that could not be begun.
    pub failures: Counter,
    /// The last one failed.
    failing: AtomicBool,
}

impl Default for WriterFigures {
    fn default() -> WriterFigures {
        WriterFigures {
            records: Counter::default(),
            time: Histogram::new(&DISK_US),
            group: Histogram::new(&FEW),
            bytes: Histogram::new(&OCTETS),
            failures: Counter::default(),
            failing: AtomicBool::new(false),
        }
    }
}

impl WriterFigures {
    /// A durable write of so many octets has come back, and the writer has made `records` durable by now.
    pub fn wrote(&self, time: Duration, bytes: usize, records: u64) {
        self.time.count_time(time);
        self.bytes.count(bytes as u64);
        self.group.count(records - self.records.get());
        self.records.set(records);
        self.failing.store(false, Ordering::Relaxed);
    }

    /// A write failed, or there is no segment to write to.
    pub fn failed(&self) {
        self.failures.add(1);
        self.failing.store(true, Ordering::Relaxed);
    }
}

/// What is on the disk: set by the files thread each second, what keeps segments by the relay's.
#[derive(Debug, Default)]
pub struct Stock {
    /// Segments, whatever is in them.
    pub segments: Counter,
    /// Their octets.
    pub segment_bytes: Counter,
    /// Those that are free.
    pub spares: Counter,
    /// Those that are written, or not read to their end.
    pub read: Counter,
    /// Those that could not be read wholly.
    pub damaged: Counter,
    /// Those with mail that is not done.
    pub mail: Counter,
    /// Those with nothing but outcomes that are still needed.
    pub outcomes: Counter,
    /// Spill files, used or free.
    pub spills: Counter,
    /// Their octets, ten seconds late at the most.
    pub spill_bytes: Counter,
    /// Segments and spill files that are free and hold old mail.
    pub to_wipe: Counter,
    /// How long the segment has waited for that which has waited longest, seconds.
    pub to_wipe_for_s: Counter,
    /// Segments and spill files that were overwritten.
    pub wiped: Counter,
    /// Attempts to prepare a segment that failed.
    pub failures: Counter,
}

impl Stock {
    /// What keeps segments, as the follower knows it.
    pub(super) fn kept(&self, Tally { read, damaged, mail, outcomes }: Tally) {
        self.read.set(read);
        self.damaged.set(damaged);
        self.mail.set(mail);
        self.outcomes.set(outcomes);
    }
}

/// A view of an open spool, for any thread; it may outlive it.
#[derive(Clone)]
pub struct Watch {
    shared: Arc<Shared>,
    probe: Arc<Probe>,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>) -> Watch {
        let probe = Arc::new(Probe::new(shared.layout.probe()));
        Watch { shared, probe }
    }

    /// Of each core's writer, then of the relay's.
    pub fn writers(&self) -> &[WriterFigures] {
        &self.shared.figures
    }

    /// Octets of new mail that can be taken; none: not a message.
    pub fn room(&self) -> Option<u64> {
        self.shared.room()
    }

    /// Free octets of the file system, or that the spool may still take if that is less, as they were within the last second
    /// or two.
    pub fn free_bytes(&self) -> u64 {
        self.shared.free_bytes()
    }

    /// New mail is refused below so many.
    pub fn reserve_bytes(&self) -> u64 {
        self.shared.reserve_bytes
    }

    /// What all its files may take, octets; none: what the file system has.
    pub fn bytes_max(&self) -> Option<u64> {
        self.shared.bytes_max
    }

    /// What is on the disk.
    pub fn stock(&self) -> &Stock {
        &self.shared.stock
    }

    /// Can the spool be written? As mail shows while it comes, else by writing a block to a file of its own. Never waits
    /// for the disk. Errors: what is wrong.
    pub fn can_be_written(&self) -> Result<(), String> {
        let failing = self.writers().iter().any(|writer| writer.failing.load(Ordering::Relaxed));
        let written = self.writers().iter().map(|writer| writer.records.get()).sum();
        self.probe.ask(written, failing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_what_came_since_the_last_one() {
        let figures = WriterFigures::default();
        figures.failed();
        figures.wrote(Duration::from_micros(100), 4096, 3);
        figures.wrote(Duration::from_micros(100), 8192, 4);
        let mut groups = crate::metrics::Total::new(&FEW);
        groups.add(&figures.group);
        assert_eq!(groups.cumulative().take(3).collect::<Vec<_>>(), [(1.0, 1), (2.0, 1), (4.0, 2)]);
        assert_eq!((groups.sum(), figures.records.get(), figures.failures.get()), (4.0, 4, 1));
        assert!(!figures.failing.load(Ordering::Relaxed), "it works again");
    }
}
