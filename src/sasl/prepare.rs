//! SASLprep (RFC 4013), the form in which user names and passwords are compared.
//!
//! What a client sends is a query in the sense of RFC 3454 section 7: code points that Unicode 3.2 had not assigned
//! (an emoji in a password) are taken as they are. We prepare what goes into the users file in the same way, so that
//! both always meet.

use stringprep::tables;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// Octets that one octet can become under NFKC: U+FDFA, three octets, becomes 33.
const NFKC_GROWTH_MAX: usize = 11;

/// The prepared form of `text`, or none if it contains what RFC 4013 section 2.3 or 2.4 forbids: control characters,
/// private use, mixed directions. The result may be empty. The caller wipes it if it is a secret.
pub fn prepare(text: &str) -> Option<String> {
    if text.is_ascii() {
        return (!text.bytes().any(|octet| octet.is_ascii_control())).then(|| text.to_owned());
    }
    // Room for the longest result: growing would leave copies of a secret behind.
    let mut normalised = Zeroizing::new(String::with_capacity(text.len() * NFKC_GROWTH_MAX));
    normalised.extend(text.chars().filter_map(mapped).nfkc());
    let sound = !normalised.contains(prohibited) && !mixes_directions(&normalised);
    sound.then(|| normalised.as_str().to_owned())
}

/// RFC 4013 section 2.1. A zero-width space is in both tables; the first one decides (RFC 4013 maps spaces first).
fn mapped(c: char) -> Option<char> {
    if tables::non_ascii_space_character(c) {
        Some(' ')
    } else if tables::commonly_mapped_to_nothing(c) {
        None
    } else {
        Some(c)
    }
}

/// RFC 4013 section 2.3: tables C.1.2 to C.9 of RFC 3454.
fn prohibited(c: char) -> bool {
    [
        tables::non_ascii_space_character,
        tables::ascii_control_character,
        tables::non_ascii_control_character,
        tables::private_use,
        tables::non_character_code_point,
        tables::surrogate_code,
        tables::inappropriate_for_plain_text,
        tables::inappropriate_for_canonical_representation,
        tables::change_display_properties_or_deprecated,
        tables::tagging_character,
    ]
    .iter()
    .any(|table| table(c))
}

/// RFC 3454 section 6: text with a right-to-left letter starts and ends with one and has no left-to-right letter.
fn mixes_directions(text: &str) -> bool {
    let right_to_left = |c: Option<char>| c.is_some_and(tables::bidi_r_or_al);
    text.contains(tables::bidi_r_or_al)
        && (text.contains(tables::bidi_l)
            || !right_to_left(text.chars().next())
            || !right_to_left(text.chars().next_back()))
}
