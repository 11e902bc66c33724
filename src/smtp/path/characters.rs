//! Which characters beyond ASCII an address may hold. RFC 6531 section 3.3 allows all of them; but addresses go into
//! header fields, replies and logs, and what is written there must be read as it stands.

use crate::log::is_dangerous;

/// May it stand in an address? Nothing that deceives its readers, no white space (some split words at U+3000), no
/// noncharacter. ASCII is for the grammar to judge.
pub(in crate::smtp) fn is_ordinary(character: char) -> bool {
    let number = character as u32;
    character.is_ascii()
        || !is_dangerous(character)
            && !character.is_whitespace()
            && number & 0xfffe != 0xfffe
            && !(0xfdd0..=0xfdef).contains(&number)
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
