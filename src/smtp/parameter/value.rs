//! The values of parameters: each type is legal because it exists. The table is in [`super`].

use crate::smtp::path::{Mailbox, is_atext, is_ordinary};
use crate::smtp::xtext::Xtext;

/// The value of BODY. The numbers are the stored ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Body {
    /// 7BIT, also when nothing is said.
    SevenBit = 0,
    /// 8BITMIME.
    EightBitMime = 1,
    /// BINARYMIME: the content may come by BDAT only.
    BinaryMime = 2,
}

/// The value of AUTH: who submitted the message first, as the client has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitter<'a> {
    /// `<>`: not known, or not trusted.
    Unknown,
    /// A mailbox, encoded.
    Mailbox(Xtext<'a>),
}

/// The value of RET: how much of the message a failure report returns. The numbers are the stored ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ret {
    /// FULL.
    Full = 0,
    /// HDRS: the header.
    Headers = 1,
}

/// The value of ENVID: printable ASCII behind the encoding, at most [`ENVID_BYTES_MAX`] octets with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envid<'a>(Xtext<'a>);

/// When the message is to be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// HOLDFOR: in so many seconds, 1 to 999,999,999.
    For(u32),
    /// HOLDUNTIL: seconds since the Unix epoch, a part of a second counts as one; 0 for all that is earlier.
    Until(u64),
}

/// The value of NOTIFY: what the sender wants to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notify(u8);

/// The value of ORCPT: the recipient as the sender first had it. `0 < semicolon < whole.len() - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orcpt<'a> {
    whole: &'a [u8],
    semicolon: usize,
}

/// RFC 3461 section 4.4, octets of xtext.
pub const ENVID_BYTES_MAX: usize = 100;
/// RFC 3461 section 4.2, octets with the address type.
pub const ORCPT_BYTES_MAX: usize = 500;
/// RFC 4954 section 3, octets of xtext.
const AUTH_BYTES_MAX: usize = 500;

pub(super) const BODIES: [(&[u8], Body); 3] =
    [(b"7BIT", Body::SevenBit), (b"8BITMIME", Body::EightBitMime), (b"BINARYMIME", Body::BinaryMime)];
pub(super) const RETS: [(&[u8], Ret); 2] = [(b"FULL", Ret::Full), (b"HDRS", Ret::Headers)];

pub(super) fn choose<T: Copy>(value: &[u8], choices: &[(&[u8], T)]) -> Option<T> {
    choices.iter().find(|(name, _)| value.eq_ignore_ascii_case(name)).map(|(_, choice)| *choice)
}

pub(super) fn size(value: &[u8]) -> Option<u64> {
    if value.len() > 20 {
        return None;
    }
    digits(value).map(|number| number.unwrap_or(u64::MAX))
}

pub(super) fn seconds(value: &[u8]) -> Option<u32> {
    if value.len() > 9 || value.first() == Some(&b'0') {
        return None;
    }
    u32::try_from(digits(value)??).ok()
}

/// 1*DIGIT; the inner none: a number past u64.
pub(in crate::smtp) fn digits(text: &[u8]) -> Option<Option<u64>> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |number: u64, digit: &u8| number.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    Some(text.iter().try_fold(0, add))
}

/// Seconds since the Unix epoch. RFC 3339 section 5.6; what jiff takes beyond it (spaces, commas, names of zones, dates
/// without hyphens) is refused by its shape.
pub(super) fn date_time(value: &[u8]) -> Option<u64> {
    const SHAPE: &[u8; 19] = b"0000-00-00T00:00:00";
    let (head, rest) = value.split_at_checked(SHAPE.len())?;
    let fits = |(octet, shape): (&u8, &u8)| match shape {
        b'0' => octet.is_ascii_digit(),
        shape => octet.eq_ignore_ascii_case(shape),
    };
    let fraction = if rest.first() == Some(&b'.') {
        1 + rest[1..].iter().take_while(|octet| octet.is_ascii_digit()).count()
    } else {
        0
    };
    let zone_fits = match &rest[fraction..] {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', zone @ ..] => {
            zone.len() == 5 && zone.iter().zip(b"00:00").all(fits) && zone[..2] <= b"23"[..] && zone[3..] <= b"59"[..]
        }
        _ => false,
    };
    if !head.iter().zip(SHAPE).all(fits) || fraction == 1 || !zone_fits {
        return None;
    }
    let time: jiff::Timestamp = std::str::from_utf8(value).ok()?.parse().ok()?;
    let up = i64::from(time.subsec_nanosecond() > 0);
    Some(u64::try_from(time.as_second() + up).unwrap_or(0))
}

impl<'a> Submitter<'a> {
    /// Parses the value of AUTH.
    pub fn parse(value: &'a [u8]) -> Option<Submitter<'a>> {
        if value == b"<>" {
            return Some(Submitter::Unknown);
        }
        let xtext = Xtext::parse(value).filter(|_| value.len() <= AUTH_BYTES_MAX)?;
        let mut buffer = [0; AUTH_BYTES_MAX];
        let mut length = 0;
        for (place, octet) in buffer.iter_mut().zip(xtext.decoded()) {
            *place = octet;
            length += 1;
        }
        Mailbox::parse(&buffer[..length]).map(|_| Submitter::Mailbox(xtext))
    }

    /// As it was written.
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Submitter::Unknown => b"<>",
            Submitter::Mailbox(xtext) => xtext.as_bytes(),
        }
    }
}

impl<'a> Envid<'a> {
    /// Parses the value of ENVID.
    pub fn parse(value: &'a [u8]) -> Option<Envid<'a>> {
        let xtext = Xtext::parse(value)?;
        let legal = value.len() <= ENVID_BYTES_MAX && xtext.decoded().all(is_printable);
        legal.then_some(Envid(xtext))
    }

    /// As it was written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0.as_bytes()
    }
}

/// Graphic or white space in ASCII: all that a delivery status notification can hold. RFC 3461 sections 4.2 and 4.4.
fn is_printable(octet: u8) -> bool {
    matches!(octet, b'\t' | b' '..=b'~')
}

impl Notify {
    /// NEVER.
    pub const NEVER: Notify = Notify(0);
    const EVENTS: [(&'static [u8], u8); 3] = [(b"SUCCESS", 1), (b"FAILURE", 2), (b"DELAY", 4)];
    const TEXTS: [&'static str; 8] = [
        "NEVER",
        "SUCCESS",
        "FAILURE",
        "SUCCESS,FAILURE",
        "DELAY",
        "SUCCESS,DELAY",
        "FAILURE,DELAY",
        "SUCCESS,FAILURE,DELAY",
    ];

    /// Parses the value of NOTIFY.
    pub fn parse(value: &[u8]) -> Option<Notify> {
        if value.eq_ignore_ascii_case(b"NEVER") {
            return Some(Notify::NEVER);
        }
        let mut events = 0;
        for word in value.split(|octet| *octet == b',') {
            let event = choose(word, &Notify::EVENTS).filter(|event| events & event == 0)?;
            events |= event;
        }
        Some(Notify(events))
    }

    /// In one form for all that mean the same.
    pub fn as_str(self) -> &'static str {
        Notify::TEXTS[usize::from(self.0)]
    }

    /// Tell of delivery.
    pub fn success(self) -> bool {
        self.0 & 1 != 0
    }

    /// Tell of failure.
    pub fn failure(self) -> bool {
        self.0 & 2 != 0
    }

    /// Tell of delay.
    pub fn delay(self) -> bool {
        self.0 & 4 != 0
    }
}

impl<'a> Orcpt<'a> {
    /// Parses the value of ORCPT. What an address of its type looks like is not asked: RFC 3461 section 4.2 says that it
    /// need not follow the type's rules.
    pub fn parse(value: &'a [u8]) -> Option<Orcpt<'a>> {
        let semicolon = value.iter().position(|octet| *octet == b';').filter(|_| value.len() <= ORCPT_BYTES_MAX)?;
        let (address_type, address) = (&value[..semicolon], &value[semicolon + 1..]);
        let legal = match address_type.eq_ignore_ascii_case(b"utf-8") {
            true => is_encoded_utf8(address),
            false => {
                !address_type.is_empty()
                    && address_type.iter().all(|octet| octet.is_ascii() && is_atext(octet))
                    && Xtext::parse(address)?.decoded().all(is_printable)
            }
        };
        legal.then_some(Orcpt { whole: value, semicolon })
    }

    /// As it was written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.whole
    }

    /// The type of the address: `rfc822`, `utf-8` or another.
    pub fn address_type(&self) -> &'a [u8] {
        &self.whole[..self.semicolon]
    }

    /// The address, encoded.
    pub fn address(&self) -> &'a [u8] {
        &self.whole[self.semicolon + 1..]
    }

    /// Can it be sent without SMTPUTF8?
    pub fn is_ascii(&self) -> bool {
        self.whole.is_ascii()
    }
}

/// utf-8-addr-xtext or utf-8-addr-unitext of RFC 6533 section 3: printable characters but `\`, `+` and `=`, and any
/// character as `\x{hexadecimal}`. Controls, which the grammar lets through there, are in no mailbox.
fn is_encoded_utf8(text: &[u8]) -> bool {
    let Ok(mut rest) = std::str::from_utf8(text) else { return false };
    while let Some(character) = rest.chars().next() {
        rest = match character {
            '\\' => match embedded_character(rest) {
                Some(behind) => behind,
                None => return false,
            },
            '+' | '=' | '\0'..=' ' | '\x7f' => return false,
            _ if is_ordinary(character) => &rest[character.len_utf8()..],
            _ => return false,
        };
    }
    !text.is_empty()
}

/// What stands behind the `\x{...}` that `text` starts with; it has no more digits than it needs, and two at least.
fn embedded_character(text: &str) -> Option<&str> {
    let (digits, behind) = text.strip_prefix("\\x{")?.split_once('}')?;
    let legal_digits = (2..=6).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_hexdigit());
    let number = u32::from_str_radix(digits, 16).ok().filter(|_| legal_digits)?;
    let shortest = digits.len() == 2 || !digits.starts_with('0');
    let character = char::from_u32(number).filter(|_| shortest)?;
    let legal = if number < 128 { " +=\\".contains(character) } else { is_ordinary(character) };
    legal.then_some(behind)
}
