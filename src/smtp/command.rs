//! Commands: one line in, one [`Command`] out, borrowed from the line. RFC 5321 section 4.1.1 and the extensions.
//!
//! Verbs, keywords and parameter names are taken in any case (RFC 5321 section 2.4). Two things that printers send are
//! tolerated: white space at the end of a line, and a space behind `FROM:` and `TO:`. No octet below 32 nor 127 passes,
//! so that nothing odd can reach a reply, a log or a header field from here.

use super::parameter::digits;
pub use super::parameter::{Body, Mail, Parameter, Parameters, Rcpt};
use super::path::{ForwardPath, ReversePath, path_length};
use crate::policy::domain_name::DOMAIN_BYTES_MAX;

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
    /// XCLIENT with its attributes, not looked at yet.
    Xclient(&'a [u8]),
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
    /// Control characters, DEL, invalid UTF-8, or octets above 127 where no address stands.
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
        let line = trim_end(line);
        let verb = verb(line);
        if !octets_are_legal(verb, line) {
            // Without its size nobody knows where a chunk ends.
            return Err(if verb.eq_ignore_ascii_case(b"BDAT") { Mistake::ChunkSize } else { Mistake::Octets });
        }
        let argument = trim_start(&line[verb.len()..]);
        match verb.len() {
            4 if verb.eq_ignore_ascii_case(b"MAIL") => mail(argument),
            4 if verb.eq_ignore_ascii_case(b"RCPT") => recipient(argument),
            4 if verb.eq_ignore_ascii_case(b"BDAT") => chunk(argument),
            4 if verb.eq_ignore_ascii_case(b"EHLO") => name(argument).map(Command::Ehlo),
            4 if verb.eq_ignore_ascii_case(b"HELO") => name(argument).map(Command::Helo),
            4 if verb.eq_ignore_ascii_case(b"AUTH") => auth(argument),
            7 if verb.eq_ignore_ascii_case(b"XCLIENT") => Ok(Command::Xclient(argument)),
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

/// EHLO and HELO: any name, as it is only told to others. RFC 5321 section 4.1.4.
fn name(argument: &[u8]) -> Result<&[u8], Mistake> {
    if (1..=DOMAIN_BYTES_MAX).contains(&argument.len()) { Ok(argument) } else { Err(Mistake::Argument) }
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

/// No controls; beyond ASCII only UTF-8, and only where an address may stand (RFC 6531 section 3.3) or where the octets
/// of an AUTH response are looked at later.
fn octets_are_legal(verb: &[u8], line: &[u8]) -> bool {
    const BEYOND_ASCII: [&[u8]; 5] = [b"MAIL", b"RCPT", b"AUTH", b"VRFY", b"EXPN"];
    !line.iter().any(|octet| *octet < b' ' || *octet == 127)
        && (line.is_ascii()
            || BEYOND_ASCII.iter().any(|known| verb.eq_ignore_ascii_case(known)) && std::str::from_utf8(line).is_ok())
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

    // covers: 6.13
    #[test]
    fn chunks() {
        for (line, octets, last) in [
            ("BDAT 0", 0, false),
            ("bdat 86 ", 86, false),
            ("BDAT 0 LAST", 0, true),
            ("BDAT  12   last\t", 12, true),
            ("BDAT 18446744073709551615", u64::MAX, false),
            ("BDAT 000000000000000000000000000007", 7, false),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Ok(Command::Bdat { octets, last }), "{line}");
        }
        // The chunk can be swallowed, and the next command be found.
        for line in ["BDAT 5 FIRST", "BDAT 5 LAST LAST", "BDAT 5 LASTS", "BDAT 5 5"] {
            assert_eq!(Command::parse(line.as_bytes()), Err(Mistake::Chunk(5)), "{line}");
        }
        for line in [
            &b"BDAT"[..],
            b"BDAT ",
            b"BDAT LAST",
            b"BDAT -1",
            b"BDAT +1",
            b"BDAT 1x",
            b"BDAT 0x10",
            b"BDAT 1,000",
            b"BDAT 18446744073709551616",
            b"BDAT 99999999999999999999999999",
            b"BDAT 5\0",
            b"BDAT 5\tLAST",
            b"BDAT 5 LAST\x7f",
            b"BDAT\t5",
            b"BDAT 5 \xff",
            "BDAT ５".as_bytes(),
        ] {
            assert_eq!(Command::parse(line), Err(Mistake::ChunkSize), "{}", line.escape_ascii());
        }
    }

    // covers: 1.2 1.3
    #[test]
    fn octets_that_no_command_may_hold() {
        for octet in (0..32).chain([127]) {
            for line in [
                vec![octet],
                [b"NOOP a", &[octet][..], b"b"].concat(),
                [b"MAIL FROM:<a@b", &[octet][..], b">"].concat(),
            ] {
                // White space behind the line is tolerated.
                if line != b"\t" {
                    assert_eq!(Command::parse(&line), Err(Mistake::Octets), "{}", line.escape_ascii());
                }
            }
        }
        for line in ["NOOP é", "EHLO münchen.example", "HELP é", "DATA é", "RSET\u{a0}", "é"] {
            assert_eq!(Command::parse(line.as_bytes()), Err(Mistake::Octets), "{line}");
        }
        for line in [
            &b"MAIL FROM:<a\xff@b>"[..],
            b"RCPT TO:<a@b> ORCPT=utf-8;\xc0\xaf",
            b"VRFY \xed\xa0\x80",
            b"AUTH PLAIN \xc3",
        ] {
            assert_eq!(Command::parse(line), Err(Mistake::Octets), "{}", line.escape_ascii());
        }
        assert_eq!(Command::parse("VRFY jörg".as_bytes()), Ok(Command::Vrfy));
        assert!(matches!(Command::parse("MAIL FROM:<jörg@b>".as_bytes()), Ok(Command::Mail(_))));
    }

    // covers: 2.3 2.4
    #[test]
    fn names_of_clients() {
        let longest = "a".repeat(255);
        for name in ["localhost", "a_b", "[192.0.2.1]", "[IPv6:2001:db8::1]", "[999.1.1.1]", "-", "PC 7", &longest] {
            assert_eq!(Command::parse(format!("EHLO {name}").as_bytes()), Ok(Command::Ehlo(name.as_bytes())));
            assert_eq!(Command::parse(format!("helo {name}").as_bytes()), Ok(Command::Helo(name.as_bytes())));
        }
        for line in ["EHLO", "HELO ", &format!("EHLO {longest}a")] {
            assert_eq!(Command::parse(line.as_bytes()), Err(Mistake::Argument), "{line}");
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
