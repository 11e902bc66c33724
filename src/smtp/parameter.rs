//! The parameters of MAIL and RCPT, parsed strictly into types that cannot be wrong.
//!
//! | keyword | of | value | source |
//! |---|---|---|---|
//! | SIZE | MAIL | 1*20DIGIT; a number past u64 is larger than any limit | RFC 1870 section 3 |
//! | BODY | MAIL | 7BIT, 8BITMIME, BINARYMIME | RFC 6152, RFC 3030 section 3 |
//! | SMTPUTF8 | MAIL | none | RFC 6531 section 3.4 |
//! | REQUIRETLS | MAIL | none | RFC 8689 section 2 |
//! | AUTH | MAIL | `<>`, or a mailbox in xtext | RFC 4954 section 5 |
//! | RET | MAIL | FULL, HDRS | RFC 3461 section 4.3 |
//! | ENVID | MAIL | printable ASCII in xtext, 100 octets | RFC 3461 section 4.4 |
//! | HOLDFOR | MAIL | seconds: a digit from 1, then up to eight digits | RFC 4865 section 4 |
//! | HOLDUNTIL | MAIL | date and time of RFC 3339 section 5.6; not with HOLDFOR | RFC 4865 section 4, erratum 2040 |
//! | NOTIFY | RCPT | NEVER, or a list of SUCCESS, FAILURE, DELAY, none of them twice | RFC 3461 section 4.1 |
//! | ORCPT | RCPT | address type, `;`, xtext or a form of RFC 6533, 500 octets | RFC 3461 section 4.2, RFC 6533 section 3 |
//!
//! Each at most once, in any order, keywords and fixed values in any case. Which of them a session offers is its own to
//! say: [`Parameters`] tells which were given, so that it can answer 555 to the others. Nothing is allocated.

use super::command::Mistake;
use super::path::{ForwardPath, Mailbox, ReversePath};
use super::xtext::Xtext;

/// The arguments of MAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mail<'a> {
    /// From whom.
    pub reverse_path: ReversePath<'a>,
    /// SIZE, octets; a number past u64 is `u64::MAX`.
    pub size: Option<u64>,
    /// BODY.
    pub body: Body,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// REQUIRETLS.
    pub require_tls: bool,
    /// AUTH.
    pub auth: Option<Submitter<'a>>,
    /// RET.
    pub ret: Option<Ret>,
    /// ENVID.
    pub envid: Option<Envid<'a>>,
    /// HOLDFOR or HOLDUNTIL.
    pub hold: Option<Hold>,
    /// Which parameters were given.
    pub given: Parameters,
}

/// The arguments of RCPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rcpt<'a> {
    /// To whom.
    pub path: ForwardPath<'a>,
    /// NOTIFY.
    pub notify: Option<Notify>,
    /// ORCPT.
    pub orcpt: Option<Orcpt<'a>>,
    /// Which parameters were given.
    pub given: Parameters,
}

/// A parameter of MAIL or RCPT. The number is its bit in [`Parameters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Parameter {
    /// RFC 1870.
    Size,
    /// RFC 6152.
    Body,
    /// RFC 6531.
    SmtpUtf8,
    /// RFC 8689.
    RequireTls,
    /// RFC 4954.
    Auth,
    /// RFC 3461.
    Ret,
    /// RFC 3461.
    Envid,
    /// RFC 4865.
    HoldFor,
    /// RFC 4865.
    HoldUntil,
    /// RFC 3461.
    Notify,
    /// RFC 3461.
    Orcpt,
}

/// A set of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters(u16);

impl Parameters {
    /// A set of these.
    pub const fn of(list: &[Parameter]) -> Parameters {
        let mut set = 0;
        let mut at = 0;
        while at < list.len() {
            set |= 1 << list[at] as u16;
            at += 1;
        }
        Parameters(set)
    }

    /// Is it in the set?
    pub const fn contains(self, parameter: Parameter) -> bool {
        self.0 & Parameters::of(&[parameter]).0 != 0
    }

    /// What is in one of them.
    pub const fn and(self, others: Parameters) -> Parameters {
        Parameters(self.0 | others.0)
    }

    /// Are all of them among `others`? If not, the reply is 555.
    pub const fn are_among(self, others: Parameters) -> bool {
        self.0 & !others.0 == 0
    }
}

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

/// Keywords of MAIL.
const MAIL: [(&[u8], Parameter); 9] = [
    (b"SIZE", Parameter::Size),
    (b"BODY", Parameter::Body),
    (b"SMTPUTF8", Parameter::SmtpUtf8),
    (b"REQUIRETLS", Parameter::RequireTls),
    (b"AUTH", Parameter::Auth),
    (b"RET", Parameter::Ret),
    (b"ENVID", Parameter::Envid),
    (b"HOLDFOR", Parameter::HoldFor),
    (b"HOLDUNTIL", Parameter::HoldUntil),
];
/// Keywords of RCPT.
const RCPT: [(&[u8], Parameter); 2] = [(b"NOTIFY", Parameter::Notify), (b"ORCPT", Parameter::Orcpt)];
/// HOLDFOR and HOLDUNTIL exclude each other.
const HOLDS: Parameters = Parameters::of(&[Parameter::HoldFor, Parameter::HoldUntil]);

impl<'a> Mail<'a> {
    /// Parses the parameters behind a reverse-path.
    pub(super) fn parse(reverse_path: ReversePath<'a>, parameters: &'a [u8]) -> Result<Mail<'a>, Mistake> {
        let mut mail = Mail {
            reverse_path,
            size: None,
            body: Body::SevenBit,
            smtputf8: false,
            require_tls: false,
            auth: None,
            ret: None,
            envid: None,
            hold: None,
            given: Parameters::default(),
        };
        for word in words(parameters) {
            let (parameter, value) = keyword_and_value(word, &MAIL)?;
            mail.given = once(mail.given, parameter)?;
            mail.take(parameter, value).ok_or(Mistake::Value(parameter))?;
        }
        Ok(mail)
    }

    fn take(&mut self, parameter: Parameter, value: Option<&'a [u8]>) -> Option<()> {
        match parameter {
            Parameter::Size => self.size = Some(size(value?)?),
            Parameter::Body => self.body = choose(value?, &BODIES)?,
            Parameter::SmtpUtf8 => self.smtputf8 = value.is_none().then_some(true)?,
            Parameter::RequireTls => self.require_tls = value.is_none().then_some(true)?,
            Parameter::Auth => self.auth = Some(Submitter::parse(value?)?),
            Parameter::Ret => self.ret = Some(choose(value?, &RETS)?),
            Parameter::Envid => self.envid = Some(Envid::parse(value?)?),
            Parameter::HoldFor => self.hold = Some(Hold::For(seconds(value?)?)),
            Parameter::HoldUntil => self.hold = Some(Hold::Until(date_time(value?)?)),
            Parameter::Notify | Parameter::Orcpt => return None,
        }
        Some(())
    }
}

impl<'a> Rcpt<'a> {
    /// Parses the parameters behind a forward-path.
    pub(super) fn parse(path: ForwardPath<'a>, parameters: &'a [u8]) -> Result<Rcpt<'a>, Mistake> {
        let mut rcpt = Rcpt { path, notify: None, orcpt: None, given: Parameters::default() };
        for word in words(parameters) {
            let (parameter, value) = keyword_and_value(word, &RCPT)?;
            rcpt.given = once(rcpt.given, parameter)?;
            let mistake = Mistake::Value(parameter);
            let value = value.ok_or(mistake)?;
            match parameter {
                Parameter::Notify => rcpt.notify = Some(Notify::parse(value).ok_or(mistake)?),
                _ => rcpt.orcpt = Some(Orcpt::parse(value).ok_or(mistake)?),
            }
        }
        Ok(rcpt)
    }
}

fn words(parameters: &[u8]) -> impl Iterator<Item = &[u8]> {
    parameters.split(|octet| *octet == b' ').filter(|word| !word.is_empty())
}

/// Splits `keyword[=value]` and looks the keyword up. RFC 5321 section 4.1.2, esmtp-param.
fn keyword_and_value<'a>(
    word: &'a [u8],
    known: &[(&[u8], Parameter)],
) -> Result<(Parameter, Option<&'a [u8]>), Mistake> {
    let (keyword, value) = match word.iter().position(|octet| *octet == b'=') {
        Some(at) => (&word[..at], Some(&word[at + 1..])),
        None => (word, None),
    };
    if let Some((_, parameter)) = known.iter().find(|(name, _)| keyword.eq_ignore_ascii_case(name)) {
        return Ok((*parameter, value));
    }
    let is_keyword = keyword.first().is_some_and(u8::is_ascii_alphanumeric)
        && keyword.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-');
    Err(if is_keyword { Mistake::Parameter } else { Mistake::Argument })
}

fn once(given: Parameters, parameter: Parameter) -> Result<Parameters, Mistake> {
    let this = Parameters::of(&[parameter]);
    let excluded = if this.are_among(HOLDS) { HOLDS } else { this };
    if given.0 & excluded.0 != 0 { Err(Mistake::Value(parameter)) } else { Ok(given.and(this)) }
}

const BODIES: [(&[u8], Body); 3] =
    [(b"7BIT", Body::SevenBit), (b"8BITMIME", Body::EightBitMime), (b"BINARYMIME", Body::BinaryMime)];
const RETS: [(&[u8], Ret); 2] = [(b"FULL", Ret::Full), (b"HDRS", Ret::Headers)];

fn choose<T: Copy>(value: &[u8], choices: &[(&[u8], T)]) -> Option<T> {
    choices.iter().find(|(name, _)| value.eq_ignore_ascii_case(name)).map(|(_, choice)| *choice)
}

fn size(value: &[u8]) -> Option<u64> {
    if value.len() > 20 {
        return None;
    }
    digits(value).map(|number| number.unwrap_or(u64::MAX))
}

fn seconds(value: &[u8]) -> Option<u32> {
    if value.len() > 9 || value.first() == Some(&b'0') {
        return None;
    }
    u32::try_from(digits(value)??).ok()
}

/// 1*DIGIT; the inner none: a number past u64.
pub(super) fn digits(text: &[u8]) -> Option<Option<u64>> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |number: u64, digit: &u8| number.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    Some(text.iter().try_fold(0, add))
}

/// Seconds since the Unix epoch. RFC 3339 section 5.6; what jiff takes beyond it (spaces, commas, names of zones, dates
/// without hyphens) is refused by its shape.
fn date_time(value: &[u8]) -> Option<u64> {
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
        [b'+' | b'-', zone @ ..] => zone.len() == 5 && zone.iter().zip(b"00:00").all(fits),
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
    /// Parses the value of ORCPT.
    pub fn parse(value: &'a [u8]) -> Option<Orcpt<'a>> {
        let semicolon = value.iter().position(|octet| *octet == b';')?;
        let orcpt = Orcpt { whole: value, semicolon };
        let legal = value.len() <= ORCPT_BYTES_MAX
            && semicolon > 0
            && value[..semicolon].iter().all(|octet| octet.is_ascii() && super::path::is_atext(octet))
            && Xtext::parse(&value[semicolon + 1..]).is_some_and(|xtext| xtext.decoded().all(is_printable));
        legal.then_some(orcpt)
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
