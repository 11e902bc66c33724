//! Commands: one line in, one [`Command`] out, borrowed from the line. RFC 5321 section 4.1.1 and the extensions.
//!
//! Verbs, keywords and parameter names are taken in any case (RFC 5321 section 2.4). Two things that printers send are
//! tolerated: white space at the end of a line, and a space behind `FROM:` and `TO:`. No octet below 32 nor 127 passes,
//! so that nothing odd can reach a reply, a log or a header field from here.

use super::path::{ForwardPath, ReversePath, path_length};

/// A command of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// EHLO with its argument.
    Ehlo(&'a [u8]),
    /// HELO with its argument.
    Helo(&'a [u8]),
    /// STARTTLS.
    StartTls,
    /// AUTH: mechanism and initial response.
    Auth(&'a [u8], Option<&'a [u8]>),
    /// MAIL.
    Mail(Mail<'a>),
    /// RCPT.
    Rcpt(ForwardPath<'a>),
    /// DATA.
    Data,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// QUIT.
    Quit,
    /// VRFY.
    Vrfy,
    /// HELP.
    Help,
    /// A command of the RFCs that is not offered.
    NotImplemented,
    /// BDAT: not offered, and what follows it is no command.
    Bdat,
}

/// The arguments of MAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mail<'a> {
    /// From whom.
    pub reverse_path: ReversePath<'a>,
    /// SIZE, octets; a number past u64 is `u64::MAX`. RFC 1870.
    pub size: Option<u64>,
    /// BODY. RFC 6152.
    pub body: Body,
    /// SMTPUTF8. RFC 6531.
    pub smtputf8: bool,
    /// AUTH, xtext as given. RFC 4954 section 5.
    pub auth: Option<&'a [u8]>,
}

/// The value of BODY. The numbers are the stored ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Body {
    /// 7BIT, also when nothing is said.
    SevenBit = 0,
    /// 8BITMIME.
    EightBitMime = 1,
}

/// What is wrong with a line; the reply follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Control characters, DEL, or invalid UTF-8.
    Octets,
    /// No such command.
    Unknown,
    /// An argument is missing, odd, or not expected.
    Argument,
    /// The reverse-path.
    Sender,
    /// The forward-path.
    Recipient,
    /// A parameter that is not offered.
    Parameter,
}

/// What argument a verb takes.
#[derive(Clone, Copy)]
enum Takes {
    Nothing,
    Anything,
    Something,
}

/// Verbs that need no parser of their own.
const SIMPLE: [(&[u8], Takes, Command<'static>); 14] = [
    (b"STARTTLS", Takes::Nothing, Command::StartTls),
    (b"DATA", Takes::Nothing, Command::Data),
    (b"RSET", Takes::Nothing, Command::Rset),
    (b"NOOP", Takes::Anything, Command::Noop),
    (b"QUIT", Takes::Nothing, Command::Quit),
    (b"VRFY", Takes::Something, Command::Vrfy),
    (b"HELP", Takes::Anything, Command::Help),
    (b"BDAT", Takes::Anything, Command::Bdat),
    (b"EXPN", Takes::Anything, Command::NotImplemented),
    (b"TURN", Takes::Anything, Command::NotImplemented),
    (b"SEND", Takes::Anything, Command::NotImplemented),
    (b"SOML", Takes::Anything, Command::NotImplemented),
    (b"SAML", Takes::Anything, Command::NotImplemented),
    (b"ETRN", Takes::Anything, Command::NotImplemented),
];

impl<'a> Command<'a> {
    /// Parses a line without its CRLF.
    pub fn parse(line: &'a [u8]) -> Result<Command<'a>, Mistake> {
        if line.iter().any(|octet| *octet < b' ' || *octet == 127) && !only_tabs(line) {
            return Err(Mistake::Octets);
        }
        let line = trim_end(line);
        let verb = verb(line);
        let argument = trim_start(&line[verb.len()..]);
        match verb.len() {
            4 if verb.eq_ignore_ascii_case(b"MAIL") => mail(argument),
            4 if verb.eq_ignore_ascii_case(b"RCPT") => recipient(argument),
            4 if verb.eq_ignore_ascii_case(b"EHLO") => name(argument).map(Command::Ehlo),
            4 if verb.eq_ignore_ascii_case(b"HELO") => name(argument).map(Command::Helo),
            4 if verb.eq_ignore_ascii_case(b"AUTH") => auth(argument),
            _ => simple(verb, argument),
        }
    }
}

/// The first word of a line: the verb, if it is a command.
pub fn verb(line: &[u8]) -> &[u8] {
    line.split(|octet| matches!(octet, b' ' | b'\t')).next().unwrap_or_default()
}

fn simple<'a>(verb: &[u8], argument: &[u8]) -> Result<Command<'a>, Mistake> {
    let found = SIMPLE.iter().find(|(name, _, _)| verb.eq_ignore_ascii_case(name));
    let (_, takes, command) = found.ok_or(Mistake::Unknown)?;
    match (takes, argument.is_empty()) {
        (Takes::Nothing, false) | (Takes::Something, true) => Err(Mistake::Argument),
        _ => Ok(*command),
    }
}

fn name(argument: &[u8]) -> Result<&[u8], Mistake> {
    if argument.is_empty() || std::str::from_utf8(argument).is_err() { Err(Mistake::Argument) } else { Ok(argument) }
}

fn auth(argument: &[u8]) -> Result<Command<'_>, Mistake> {
    let mut words = argument.split(|octet| *octet == b' ').filter(|word| !word.is_empty());
    let mechanism = words.next().ok_or(Mistake::Argument)?;
    let initial = words.next();
    if words.next().is_some() {
        return Err(Mistake::Argument);
    }
    Ok(Command::Auth(mechanism, initial))
}

fn mail(argument: &[u8]) -> Result<Command<'_>, Mistake> {
    let (path, parameters) = path_and_parameters(argument, b"FROM:", Mistake::Sender)?;
    let reverse_path = ReversePath::parse(path).ok_or(Mistake::Sender)?;
    let mut mail = Mail { reverse_path, size: None, body: Body::SevenBit, smtputf8: false, auth: None };
    let mut seen = 0u8;
    for parameter in parameters.split(|octet| *octet == b' ').filter(|word| !word.is_empty()) {
        let bit = mail.take(parameter)?;
        if seen & bit != 0 {
            return Err(Mistake::Argument);
        }
        seen |= bit;
    }
    Ok(Command::Mail(mail))
}

impl<'a> Mail<'a> {
    /// Takes one parameter; returns a bit that tells which, so that none is given twice.
    fn take(&mut self, parameter: &'a [u8]) -> Result<u8, Mistake> {
        let (keyword, value) = match parameter.iter().position(|octet| *octet == b'=') {
            Some(at) => (&parameter[..at], Some(&parameter[at + 1..])),
            None => (parameter, None),
        };
        if keyword.eq_ignore_ascii_case(b"SIZE") {
            self.size = Some(value.and_then(size).ok_or(Mistake::Argument)?);
            Ok(1)
        } else if keyword.eq_ignore_ascii_case(b"BODY") {
            self.body = value.and_then(body).ok_or(Mistake::Argument)?;
            Ok(2)
        } else if keyword.eq_ignore_ascii_case(b"SMTPUTF8") {
            self.smtputf8 = true;
            if value.is_none() { Ok(4) } else { Err(Mistake::Argument) }
        } else if keyword.eq_ignore_ascii_case(b"AUTH") {
            self.auth = Some(value.filter(|value| is_xtext(value)).ok_or(Mistake::Argument)?);
            Ok(8)
        } else {
            Err(Mistake::Parameter)
        }
    }
}

fn recipient(argument: &[u8]) -> Result<Command<'_>, Mistake> {
    let (path, parameters) = path_and_parameters(argument, b"TO:", Mistake::Recipient)?;
    let path = ForwardPath::parse(path).ok_or(Mistake::Recipient)?;
    if !parameters.is_empty() {
        return Err(Mistake::Parameter);
    }
    Ok(Command::Rcpt(path))
}

/// Splits `FROM:<path> parameters`. A path ends at its `>`; then comes a space or the end.
fn path_and_parameters<'a>(
    argument: &'a [u8],
    keyword: &[u8],
    mistake: Mistake,
) -> Result<(&'a [u8], &'a [u8]), Mistake> {
    let (head, rest) = argument.split_at_checked(keyword.len()).ok_or(Mistake::Argument)?;
    if !head.eq_ignore_ascii_case(keyword) {
        return Err(Mistake::Argument);
    }
    let rest = trim_start(rest);
    let (path, parameters) = rest.split_at(path_length(rest).ok_or(mistake)?);
    match parameters.first() {
        None | Some(b' ') => Ok((path, trim_start(parameters))),
        Some(_) => Err(mistake),
    }
}

/// 1*20DIGIT. RFC 1870 section 3. A number past u64 is larger than any limit.
fn size(value: &[u8]) -> Option<u64> {
    if !(1..=20).contains(&value.len()) || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(std::str::from_utf8(value).ok()?.parse().unwrap_or(u64::MAX))
}

fn body(value: &[u8]) -> Option<Body> {
    if value.eq_ignore_ascii_case(b"7BIT") {
        Some(Body::SevenBit)
    } else if value.eq_ignore_ascii_case(b"8BITMIME") {
        Some(Body::EightBitMime)
    } else {
        None
    }
}

/// RFC 3461 section 4; not empty, at most 500 octets.
fn is_xtext(value: &[u8]) -> bool {
    let mut octets = value.iter();
    while let Some(octet) = octets.next() {
        let upper_hex = |octet: &u8| matches!(octet, b'0'..=b'9' | b'A'..=b'F');
        let legal = match octet {
            b'+' => octets.next().is_some_and(upper_hex) && octets.next().is_some_and(upper_hex),
            b'=' => false,
            33..=126 => true,
            _ => false,
        };
        if !legal {
            return false;
        }
    }
    (1..=500).contains(&value.len())
}

/// Are tabs the only control characters, and only where white space is tolerated: at the end?
fn only_tabs(line: &[u8]) -> bool {
    trim_end(line).iter().all(|octet| *octet >= b' ' && *octet != 127)
}

fn trim_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|octet| !matches!(octet, b' ' | b'\t')).map_or(0, |last| last + 1);
    &line[..end]
}

fn trim_start(line: &[u8]) -> &[u8] {
    let start = line.iter().position(|octet| *octet != b' ').unwrap_or(line.len());
    &line[start..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn verbs_in_any_case() {
        for (line, command) in [
            ("DATA", Command::Data),
            ("data  \t", Command::Data),
            ("Noop x y", Command::Noop),
            ("QUIT", Command::Quit),
            ("STARTTLS", Command::StartTls),
            ("VRFY anna", Command::Vrfy),
            ("expn list", Command::NotImplemented),
            ("EHLO [192.0.2.1]", Command::Ehlo(b"[192.0.2.1]")),
            ("helo a_b c", Command::Helo(b"a_b c")),
            ("AUTH PLAIN AGEAYg==", Command::Auth(b"PLAIN", Some(b"AGEAYg=="))),
            ("auth login", Command::Auth(b"login", None)),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Ok(command), "{line}");
        }
    }

    #[test]
    fn mistakes() {
        for (line, mistake) in [
            ("", Mistake::Unknown),
            ("   ", Mistake::Unknown),
            (" NOOP", Mistake::Unknown),
            ("FOO", Mistake::Unknown),
            ("NOOP\0", Mistake::Octets),
            ("NO\tOP", Mistake::Octets),
            ("NOOP \u{7f}", Mistake::Octets),
            ("DATA x", Mistake::Argument),
            ("STARTTLS x", Mistake::Argument),
            ("VRFY", Mistake::Argument),
            ("EHLO", Mistake::Argument),
            ("AUTH", Mistake::Argument),
            ("AUTH PLAIN a b", Mistake::Argument),
            ("MAIL", Mistake::Argument),
            ("MAIL TO:<a@b>", Mistake::Argument),
            ("MAIL FROM:", Mistake::Sender),
            ("MAIL FROM:a@b", Mistake::Sender),
            ("MAIL FROM:<a@b>x", Mistake::Sender),
            ("MAIL FROM:<a@b", Mistake::Sender),
            ("MAIL FROM:<a@b> SIZE=x", Mistake::Argument),
            ("MAIL FROM:<a@b> SIZE=", Mistake::Argument),
            ("MAIL FROM:<a@b> SIZE=123456789012345678901", Mistake::Argument),
            ("MAIL FROM:<a@b> SIZE=1 size=2", Mistake::Argument),
            ("MAIL FROM:<a@b> BODY=6BIT", Mistake::Argument),
            ("MAIL FROM:<a@b> SMTPUTF8=1", Mistake::Argument),
            ("MAIL FROM:<a@b> AUTH=a+b", Mistake::Argument),
            ("MAIL FROM:<a@b> FOO=1", Mistake::Parameter),
            ("RCPT TO:<>", Mistake::Recipient),
            ("RCPT TO:<a b@c>", Mistake::Recipient),
            ("RCPT TO:<a@b> FOO", Mistake::Parameter),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Err(mistake), "{line:?}");
        }
    }

    #[test]
    fn mail_and_its_parameters() {
        let line = b"mail from: <a@b> size=12  BODY=8bitmime SMTPUTF8 AUTH=<>";
        let Ok(Command::Mail(mail)) = Command::parse(line) else { panic!("legal") };
        assert_eq!((mail.size, mail.body, mail.smtputf8), (Some(12), Body::EightBitMime, true));
        assert_eq!(mail.auth, Some(&b"<>"[..]));
        let Ok(Command::Mail(mail)) = Command::parse(b"MAIL FROM:<> SIZE=99999999999999999999") else {
            panic!("legal")
        };
        assert_eq!((mail.reverse_path, mail.size), (ReversePath::Null, Some(u64::MAX)));
    }

    proptest! {
        #[test]
        fn any_line_is_parsed_or_refused(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Command::parse(&line);
        }

        #[test]
        fn any_mail_line_is_parsed_or_refused(rest in "[<>@a-c\" \\\\=:.\\[\\]SIZEBODY0-9]{0,40}") {
            let _ = Command::parse(format!("MAIL FROM:{rest}").as_bytes());
            let _ = Command::parse(format!("RCPT TO:{rest}").as_bytes());
        }
    }
}
