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

#[cfg(test)]
mod tests;
mod value;

use super::command::Mistake;
use super::path::{ForwardPath, ReversePath};
pub(super) use value::digits;
use value::{BODIES, RETS, choose, date_time, seconds, size};
pub use value::{Body, ENVID_BYTES_MAX, Envid, Hold, Notify, ORCPT_BYTES_MAX, Orcpt, Ret, Submitter};

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
