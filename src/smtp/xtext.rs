//! xtext: printable ASCII in which `+` and two upper-case hexadecimal digits stand for any octet. RFC 3461 section 4.
//!
//! ```text
//!  xtext   = *( xchar / hexchar )       xchar   = 33..=126 but "+" and "="
//!                                       hexchar = "+" 2(0-9 A-F)
//! ```
//!
//! An [`Xtext`] is legal because it exists, so that [`Xtext::decoded`] cannot fail; `decoded` of [`encode`] is what was
//! encoded. What the decoded octets may be is for those who use it to say.

use std::borrow::Cow;

/// Legal xtext of at least one octet, borrowed, as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xtext<'a>(&'a [u8]);

impl<'a> Xtext<'a> {
    /// Parses; none if it is empty or not xtext.
    pub fn parse(text: &'a [u8]) -> Option<Xtext<'a>> {
        let mut octets = text.iter();
        while let Some(octet) = octets.next() {
            let legal = match octet {
                b'+' => octets.next().is_some_and(is_upper_hex) && octets.next().is_some_and(is_upper_hex),
                b'=' => false,
                octet => matches!(octet, 33..=126),
            };
            if !legal {
                return None;
            }
        }
        (!text.is_empty()).then_some(Xtext(text))
    }

    /// As it was written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The octets that it stands for.
    pub fn decoded(&self) -> impl Iterator<Item = u8> + use<'a> {
        let mut octets = self.0.iter();
        std::iter::from_fn(move || match *octets.next()? {
            b'+' => Some(hex_value(*octets.next()?) << 4 | hex_value(*octets.next()?)),
            octet => Some(octet),
        })
    }
}

/// Appends `plain` as xtext.
pub fn encode(plain: &[u8], out: &mut Vec<u8>) {
    for &octet in plain {
        match octet {
            b'+' | b'=' | 0..=32 | 127.. => {
                out.extend_from_slice(&[b'+', HEX[usize::from(octet >> 4)], HEX[usize::from(octet & 15)]]);
            }
            _ => out.push(octet),
        }
    }
}

/// The octets that `text` stands for, for a reader; what is no xtext stays as it is.
pub fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    match Xtext::parse(text) {
        Some(xtext) if text.contains(&b'+') => xtext.decoded().collect(),
        _ => Cow::Borrowed(text),
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn is_upper_hex(octet: &u8) -> bool {
    matches!(octet, b'0'..=b'9' | b'A'..=b'F')
}

fn hex_value(digit: u8) -> u8 {
    if digit.is_ascii_digit() { digit - b'0' } else { digit - b'A' + 10 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // covers: 5.11 5.12
    #[test]
    fn what_is_xtext_and_what_it_stands_for() {
        for (text, plain) in
            [("a", &b"a"[..]), ("a+2Bb", b"a+b"), ("+3D", b"="), ("+00+FF", b"\0\xff"), ("<>;,\"\\", b"<>;,\"\\")]
        {
            let xtext = Xtext::parse(text.as_bytes()).expect(text);
            assert_eq!(xtext.decoded().collect::<Vec<u8>>(), plain, "{text}");
            assert_eq!((xtext.as_bytes(), decode(text.as_bytes()).as_ref()), (text.as_bytes(), plain));
        }
        for text in ["", "+", "+2", "+2b", "+G0", "a+", "a=b", "a b", "a\tb", "\u{7f}", "\u{e9}", "++2B"] {
            assert_eq!(Xtext::parse(text.as_bytes()), None, "{text:?}");
            assert_eq!(decode(text.as_bytes()), text.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(plain in proptest::collection::vec(any::<u8>(), 1..60)) {
            let mut text = Vec::new();
            encode(&plain, &mut text);
            let xtext = Xtext::parse(&text).expect("legal");
            prop_assert_eq!(xtext.decoded().collect::<Vec<u8>>(), plain);
        }

        #[test]
        fn what_is_parsed_encodes_to_what_means_the_same(text in "[a-f+=0-9A-F;<>]{1,12}") {
            if let Some(xtext) = Xtext::parse(text.as_bytes()) {
                let plain: Vec<u8> = xtext.decoded().collect();
                let mut again = Vec::new();
                encode(&plain, &mut again);
                prop_assert_eq!(decode(&again).into_owned(), plain);
            }
        }
    }
}
