//! A wall clock that is set back while the relay runs: what waits would wait so much longer, and after a disk error nothing
//! would be delivered meanwhile.
//!
//! Times here are those of the wall clock, because messages speak of it: until when one is held, and since when it is
//! queued. What waits for a pause to end is another matter: when the wall clock falls behind one that only runs, all such
//! times are shifted. A clock that is set forward ends pauses early, which does no harm.

use super::Worker;
use crate::clock::now_ms;
use crate::log::{self, Level};
use std::time::{Duration, Instant};

/// What is no more than this is left alone, milliseconds: a second longer or shorter is no matter to any pause.
const TOLERATED_MS: u64 = 1000;

/// Longest time between two looks at the clocks that are to be of one moment.
const READING_MAX: Duration = Duration::from_millis(100);

/// What both clocks showed when they were last looked at.
#[derive(Debug)]
pub(super) struct Clocks {
    wall_ms: u64,
    running: Instant,
}

impl Clocks {
    /// `wall_ms`: milliseconds since the Unix epoch.
    pub(super) fn new(wall_ms: u64, running: Instant) -> Clocks {
        Clocks { wall_ms, running }
    }

    /// By how many milliseconds the wall clock was set back since the last time, if it was. `running`: what the other clock
    /// showed before and after the wall clock was read. If we stood still in between, nothing is known.
    fn set_back(&mut self, wall_ms: u64, running: [Instant; 2]) -> Option<u64> {
        let [running, after] = running;
        if after.saturating_duration_since(running) > READING_MAX {
            return None;
        }
        let since = u64::try_from(running.saturating_duration_since(self.running).as_millis()).unwrap_or(u64::MAX);
        let by_ms = self.wall_ms.saturating_add(since).saturating_sub(wall_ms);
        *self = Clocks { wall_ms, running };
        Some(by_ms).filter(|&by_ms| by_ms > TOLERATED_MS)
    }
}

impl Worker {
    /// Shifts what waits if the wall clock was set back.
    pub(super) fn look_at_clocks(&mut self) {
        let (before, now, after) = (Instant::now(), now_ms(), Instant::now());
        let Some(by_ms) = self.clocks.set_back(now, [before, after]) else { return };
        log::event(Level::Warning, "clock was set back").field("by_s", by_ms.div_ceil(1000)).emit();
        self.queue.set_back(by_ms, now);
        self.records.set_back(by_ms);
        self.lingering.set_back(by_ms);
        self.mover.set_back(by_ms);
        self.tools.hosts.set_back(by_ms);
        self.tools.context.addresses.set_back(by_ms);
        self.domains.all().for_each(|(_, site)| site.set_back(by_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_was_set_back_is_noticed_and_once() {
        let start = Instant::now();
        let mut clocks = Clocks::new(1_000_000, start);
        let at = |running_s: u64| start + Duration::from_secs(running_s);
        let mut look = |wall_ms: u64, running_s: u64| clocks.set_back(wall_ms, [at(running_s); 2]);
        assert_eq!(look(1_005_000, 5), None);
        assert_eq!(look(1_009_100, 10), None, "set back a little");
        assert_eq!(look(4_000_000, 11), None, "set forward");
        assert_eq!(look(1_000_000, 12), Some(3_001_000));
        assert_eq!(look(1_001_000, 13), None);
        assert_eq!(look(0, 14), Some(1_002_000));
        assert_eq!(look(1000, 15), None);
        assert_eq!(clocks.set_back(12_000, [at(16), at(26)]), None, "we stood still in between");
        assert_eq!(clocks.set_back(13_000, [at(27); 2]), None);
    }
}
