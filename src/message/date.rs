//! Dates in header fields. RFC 5322 section 3.3.

use std::fmt::Write;

/// Appends `Sun, 22 Nov 2026 03:10:10 +0000` for milliseconds since the Unix epoch. Always UTC: the one zone in which a
/// trace over several servers can be read without a map.
pub fn push_date(epoch_ms: u64, out: &mut String) {
    let seconds = i64::try_from(epoch_ms / 1000).unwrap_or(0);
    let moment = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    let date = jiff::tz::Offset::UTC.to_datetime(moment);
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let day = DAYS[usize::from(date.weekday().to_monday_zero_offset().unsigned_abs())];
    let month = MONTHS[usize::from(date.month().unsigned_abs()) - 1];
    let (hour, minute, second) = (date.hour(), date.minute(), date.second());
    let _ = write!(out, "{day}, {} {month} {} {hour:02}:{minute:02}:{second:02} +0000", date.day(), date.year());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (epoch_ms, expected) in [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (1_795_317_010_999, "Sun, 22 Nov 2026 03:10:10 +0000"),
            (1_709_251_199_000, "Thu, 29 Feb 2024 23:59:59 +0000"),
        ] {
            let mut text = String::new();
            push_date(epoch_ms, &mut text);
            assert_eq!(text, expected);
        }
        push_date(u64::MAX, &mut String::new());
    }
}
