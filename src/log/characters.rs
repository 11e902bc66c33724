//! Characters that deceive: what a terminal or a mail program obeys without showing it. One table for all that is written by
//! peers and read by people: log lines, addresses, header fields, notifications.

/// Invisible, or changing the direction or the place of what is shown: Unicode's general category Cf (bidirectional
/// controls, invisible characters, tags) and the two separators that end lines for some readers. Without U+200C and U+200D,
/// which Persian and the languages of India are written with.
const DECEIVING: [(char, char); 22] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200b}'),
    ('\u{200e}', '\u{200f}'),
    ('\u{2028}', '\u{2029}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0001}', '\u{e0001}'),
    ('\u{e0020}', '\u{e007f}'),
];

/// Would a terminal obey it, would it end a line, would it be invisible, or would it change the direction or place of what is
/// shown? Controls (C1 too) and [`DECEIVING`].
pub fn is_dangerous(character: char) -> bool {
    let number = u32::from(character);
    number < 0xad && character.is_control()
        || number >= 0xad && DECEIVING.iter().any(|&(first, last)| (first..=last).contains(&character))
}

/// U+200C and U+200D: parts of words in some languages, invisible in all others.
pub fn is_joiner(character: char) -> bool {
    matches!(character, '\u{200c}' | '\u{200d}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_harmless_and_tricks_are_not() {
        assert!(!" azAZ09~ñüßяж中文日本語한국어हिन्दीفارسی\u{200c}\u{200d}é€😀\u{fffd}".chars().any(is_dangerous));
        for character in "\0\r\n\t\u{1b}\u{7f}\u{80}\u{85}\u{9b}\u{9f}\u{ad}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\
                          \u{2060}\u{2066}\u{2069}\u{206f}\u{feff}\u{fff9}\u{e0001}\u{e0041}\u{e007f}"
            .chars()
        {
            assert!(is_dangerous(character), "{:x}", character as u32);
        }
    }

    /// In order and apart, so that nothing stands in it twice.
    #[test]
    fn the_table_is_in_order() {
        assert!(DECEIVING.iter().all(|(first, last)| first <= last));
        assert!(DECEIVING.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }
}
