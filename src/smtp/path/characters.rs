//! Which characters beyond ASCII an address may hold. RFC 6531 section 3.3 allows all of them; but addresses go into
//! header fields, replies and logs, and what is written there must be read as it stands.

/// What no address needs and what deceives a reader: ranges of Unicode's general category Cf (bidirectional controls,
/// invisible characters, tags), without U+200C and U+200D, which Persian and the languages of India are written with.
const FORMAT: [(char, char); 21] = [
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

/// May it stand in an address? No controls (C1 too), no white space (U+2028 and U+2029 end lines for some readers, and
/// others split words at U+3000), nothing of [`FORMAT`], no noncharacter. ASCII is for the grammar to judge.
pub(in crate::smtp) fn is_ordinary(character: char) -> bool {
    let number = character as u32;
    character.is_ascii()
        || !character.is_control()
            && !character.is_whitespace()
            && number & 0xfffe != 0xfffe
            && !(0xfdd0..=0xfdef).contains(&number)
            && !FORMAT.iter().any(|&(first, last)| (first..=last).contains(&character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_ordinary_and_tricks_are_not() {
        assert!("azAZ09ñüßяж中文日本語한국어हिन्दीفارسی\u{200c}\u{200d}é€😀".chars().all(is_ordinary));
        for character in
            "\u{80}\u{85}\u{9f}\u{a0}\u{ad}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}\
                          \u{3000}\u{feff}\u{fffe}\u{ffff}\u{fdd0}\u{1fffe}\u{10ffff}\u{e0041}"
                .chars()
        {
            assert!(!is_ordinary(character), "{:x}", character as u32);
        }
    }
}
