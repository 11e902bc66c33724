//! The name of a message.
//!
//! ```text
//!  63        44 43     36 35                             0
//!  +-----------+---------+--------------------------------+
//!  | epoch     | writer  | counter                        |
//!  +-----------+---------+--------------------------------+
//! ```
//!
//! The epoch is raised durably each time the spool is opened, so a counter may start from 1 and no name is ever given
//! twice. A new spool begins at an epoch by chance, so that names of two spools differ too, all but surely. A name is no file
//! position: it is fixed before the Received field is written and survives moves.
//!
//! It is shown as 13 digits and capital consonants to base 31 (31^13 > 2^64), because without vowels no word appears;
//! names of equal length sort as they were given.

use std::fmt;
use std::str::FromStr;

/// Names a message. Display: 13 letters and digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u64);

/// One more than the highest epoch.
pub(super) const EPOCH_LIMIT: u64 = 1 << 20;
/// One more than the highest writer.
pub(super) const WRITER_LIMIT: u64 = 1 << 8;
/// One more than the highest counter.
pub(super) const COUNTER_LIMIT: u64 = 1 << 36;

const LETTERS: &[u8; 31] = b"0123456789BCDFGHJKLMNPQRSTVWXYZ";
const LENGTH: usize = 13;

impl QueueId {
    /// Puts a name together. The parts are below their limits; anything else is a bug.
    pub(super) fn new(epoch: u64, writer: u64, counter: u64) -> QueueId {
        assert!(epoch < EPOCH_LIMIT && writer < WRITER_LIMIT && counter < COUNTER_LIMIT);
        QueueId((epoch << 44) | (writer << 36) | counter)
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; LENGTH];
        let mut rest = self.0;
        for place in text.iter_mut().rev() {
            *place = LETTERS[(rest % 31) as usize];
            rest /= 31;
        }
        out.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// The text is no queue id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAQueueId;

impl FromStr for QueueId {
    type Err = NotAQueueId;

    /// Reads what Display wrote; small letters are taken too.
    fn from_str(text: &str) -> Result<QueueId, NotAQueueId> {
        if text.len() != LENGTH {
            return Err(NotAQueueId);
        }
        let mut value = 0u64;
        for letter in text.bytes() {
            let digit = LETTERS.iter().position(|&l| l == letter.to_ascii_uppercase()).ok_or(NotAQueueId)?;
            value = value.checked_mul(31).and_then(|v| v.checked_add(digit as u64)).ok_or(NotAQueueId)?;
        }
        Ok(QueueId(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read() {
        for id in [
            QueueId(0),
            QueueId(u64::MAX),
            QueueId::new(7, 3, 12345),
            QueueId::new(EPOCH_LIMIT - 1, WRITER_LIMIT - 1, COUNTER_LIMIT - 1),
        ] {
            let text = id.to_string();
            assert_eq!(text.len(), 13);
            assert_eq!(text.parse(), Ok(id));
            assert_eq!(text.to_lowercase().parse(), Ok(id));
        }
    }

    #[test]
    fn names_sort_as_they_were_given() {
        let names = [(1, 0, 9), (1, 0, 10), (1, 1, 0), (2, 0, 0)].map(|(e, w, c)| QueueId::new(e, w, c).to_string());
        assert!(names.is_sorted());
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "0", "00000000000000", "A000000000000", "ZZZZZZZZZZZZZ", "000000000000\u{e9}"] {
            assert_eq!(text.parse::<QueueId>(), Err(NotAQueueId), "{text}");
        }
    }
}
