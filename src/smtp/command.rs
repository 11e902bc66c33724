//! Commands: one line in, one [`Command`] out, borrowed from the line. RFC 5321 section 4.1.1 and the extensions.
//!
//! Verbs, keywords and parameter names are taken in any case (RFC 5321 section 2.4). Two things that printers send are
//! tolerated: white space at the end of a line, and a space behind `FROM:` and `TO:`. No octet below 32 nor 127 passes,
//! so that nothing odd can reach a reply, a log or a header field from here.

use super::parameter::digits;
pub use super::parameter::{Body, Mail, Parameter, Parameters, Rcpt};
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
    Rcpt(Rcpt<'a>),
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
    /// BDAT: so many octets follow the line. RFC 3030 section 2.
    Bdat {
        /// Octets of the chunk.
        octets: u64,
        /// It is the last chunk.
        last: bool,
    },
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
    /// A parameter that nobody knows.
    Parameter,
    /// A parameter whose value is missing, wrong or not expected, or that was given before.
    Value(Parameter),
    /// BDAT with an odd argument behind its size: so many octets follow, which are no commands.
    Chunk(u64),
    /// BDAT whose size cannot be told: nobody knows where the next command starts.
    ChunkSize,
}

/// What argument a verb takes.
#[derive(Clone, Copy)]
enum Takes {
    Nothing,
    Anything,
    Something,
}

/// Verbs that need no parser of their own.
const SIMPLE: [(&[u8], Takes, Command<'static>); 13] = [
    (b"STARTTLS", Takes::Nothing, Command::StartTls),
    (b"DATA", Takes::Nothing, Command::Data),
    (b"RSET", Takes::Nothing, Command::Rset),
    (b"NOOP", Takes::Anything, Command::Noop),
    (b"QUIT", Takes::Nothing, Command::Quit),
    (b"VRFY", Takes::Something, Command::Vrfy),
    (b"HELP", Takes::Anything, Command::Help),
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
            4 if verb.eq_ignore_ascii_case(b"BDAT") => chunk(argument),
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
    Mail::parse(reverse_path, parameters).map(Command::Mail)
}

fn recipient(argument: &[u8]) -> Result<Command<'_>, Mistake> {
    let (path, parameters) = path_and_parameters(argument, b"TO:", Mistake::Recipient)?;
    let path = ForwardPath::parse(path).ok_or(Mistake::Recipient)?;
    Rcpt::parse(path, parameters).map(Command::Rcpt)
}

/// `BDAT size [LAST]`. RFC 3030 section 2. A size past u64 cannot be counted off.
fn chunk(argument: &[u8]) -> Result<Command<'_>, Mistake> {
    let mut words = argument.split(|octet| *octet == b' ').filter(|word| !word.is_empty());
    let octets = words.next().and_then(digits).flatten().ok_or(Mistake::ChunkSize)?;
    match (words.next(), words.next()) {
        (None, _) => Ok(Command::Bdat { octets, last: false }),
        (Some(word), None) if word.eq_ignore_ascii_case(b"LAST") => Ok(Command::Bdat { octets, last: true }),
        _ => Err(Mistake::Chunk(octets)),
    }
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
    use crate::smtp::parameter::Submitter;
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
            ("MAIL FROM:<a@b> SIZE=x", Mistake::Value(Parameter::Size)),
            ("MAIL FROM:<a@b> SIZE=", Mistake::Value(Parameter::Size)),
            ("MAIL FROM:<a@b> SIZE=123456789012345678901", Mistake::Value(Parameter::Size)),
            ("MAIL FROM:<a@b> SIZE=1 size=2", Mistake::Value(Parameter::Size)),
            ("MAIL FROM:<a@b> BODY=6BIT", Mistake::Value(Parameter::Body)),
            ("MAIL FROM:<a@b> SMTPUTF8=1", Mistake::Value(Parameter::SmtpUtf8)),
            ("MAIL FROM:<a@b> AUTH=a+b", Mistake::Value(Parameter::Auth)),
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
        assert_eq!(mail.auth, Some(Submitter::Unknown));
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
