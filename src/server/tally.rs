//! What happens often, counted by network, so that the log has one line per network and minute with how many, however
//! many there were. No clock: the caller says what time it is.
//!
//! Bounded: past [`NETWORKS_MAX`] networks the longest silent make room, or, if none has been silent for long, the new ones
//! are counted together under no name.

use crate::policy::Network;
use std::collections::HashMap;

/// Networks that are told apart.
const NETWORKS_MAX: usize = 1024;
/// Least time between two lines about one network, milliseconds.
const LINE_EVERY_MS: u64 = 60_000;
/// A network that has been silent for so long may be forgotten, milliseconds.
const FORGOTTEN_AFTER_MS: u64 = 3_600_000;

/// A line that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// None: all those that found no room in the table.
    pub network: Option<Network>,
    /// Since the last line about it.
    pub fresh: u64,
    /// Since it was first seen.
    pub seen: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    seen: u64,
    /// Not in any line yet.
    fresh: u64,
    /// Of the last line.
    line_ms: Option<u64>,
    last_ms: u64,
}

impl Count {
    fn due(&mut self, network: Option<Network>, now_ms: u64) -> Option<Due> {
        let is_time = self.line_ms.is_none_or(|line_ms| now_ms.saturating_sub(line_ms) >= LINE_EVERY_MS);
        (is_time && self.fresh > 0).then(|| {
            self.line_ms = Some(now_ms);
            Due { network, fresh: std::mem::take(&mut self.fresh), seen: self.seen }
        })
    }
}

/// Counts by network.
#[derive(Debug, Default)]
pub struct Tally {
    networks: HashMap<Network, Count>,
    others: Count,
}

impl Tally {
    /// Counts one. The line to write now, if one is due.
    pub fn note(&mut self, network: Network, now_ms: u64) -> Option<Due> {
        if self.networks.len() >= NETWORKS_MAX && !self.networks.contains_key(&network) {
            let is_fresh = |count: &Count| now_ms.saturating_sub(count.last_ms) < FORGOTTEN_AFTER_MS;
            self.networks.retain(|_, count| is_fresh(count));
        }
        let has_room = self.networks.len() < NETWORKS_MAX || self.networks.contains_key(&network);
        let (count, name) = match has_room {
            true => (self.networks.entry(network).or_default(), Some(network)),
            false => (&mut self.others, None),
        };
        count.seen += 1;
        count.fresh += 1;
        count.last_ms = now_ms;
        count.due(name, now_ms)
    }

    /// Lines about what was counted since the last one, where a minute has passed.
    pub fn due(&mut self, now_ms: u64) -> Vec<Due> {
        let named = self.networks.iter_mut().map(|(network, count)| (Some(*network), count));
        named.chain([(None, &mut self.others)]).filter_map(|(network, count)| count.due(network, now_ms)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u32) -> Network {
        Network::around(std::net::Ipv4Addr::from(number << 8).into())
    }

    // covers: 11.3
    #[test]
    fn one_line_a_minute_says_how_many() {
        let mut tally = Tally::default();
        let one = Some(network(1));
        assert_eq!(tally.note(network(1), 0), Some(Due { network: one, fresh: 1, seen: 1 }));
        for now_ms in 1..1000 {
            assert_eq!(tally.note(network(1), now_ms), None);
        }
        assert_eq!(tally.note(network(2), 1000).map(|due| due.network), Some(Some(network(2))), "another network");
        assert_eq!(tally.due(59_999), []);
        assert_eq!(tally.due(60_000), [Due { network: one, fresh: 999, seen: 1000 }], "what came after the first line");
        assert_eq!(tally.due(900_000), [], "nothing new");
        assert_eq!(tally.note(network(1), 900_000), Some(Due { network: one, fresh: 1, seen: 1001 }));
    }

    #[test]
    fn the_table_is_bounded_and_nothing_goes_uncounted() {
        let mut tally = Tally::default();
        let many = 3 * NETWORKS_MAX as u32;
        let lines = (0..many).filter_map(|number| tally.note(network(number), 0));
        let said: u64 = lines.map(|due| due.fresh).sum();
        assert_eq!(tally.networks.len(), NETWORKS_MAX);
        let rest: u64 = tally.due(LINE_EVERY_MS).iter().map(|due| due.fresh).sum();
        assert_eq!(said + rest, u64::from(many));
        tally.note(network(many), FORGOTTEN_AFTER_MS);
        assert_eq!(tally.networks.len(), 1, "the silent ones made room");
    }
}
