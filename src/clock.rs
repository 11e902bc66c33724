//! The wall clock, for drivers only: cores are told what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch; 0 if the clock stands before it.
pub fn now_ms() -> u64 {
    #[cfg(test)]
    if let Some(now_ms) = SIMULATED_MS.get() {
        return now_ms;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
thread_local! {
    /// What the clock of this thread shows, if it is not the wall's.
    pub static SIMULATED_MS: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}
