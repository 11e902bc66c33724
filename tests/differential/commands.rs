//! Command lines against `smtp-proto`, which is made to take what it can.

mod lines;

use crate::{Difference, generated, settle};
use lines::{BAD_DATES, BAD_PATHS, KEYWORDS, lines};
use penstock::smtp::command::{Command, Mail, Mistake, Parameter, Rcpt};
use penstock::smtp::parameter::{Body, Hold, Ret, Submitter};
use penstock::smtp::path::{ForwardPath, Mailbox, ReversePath};
use penstock::smtp::xtext::decode;
use smtp_proto::{
    Error, MAIL_BODY_8BITMIME, MAIL_BODY_BINARYMIME, MAIL_REQUIRETLS, MAIL_RET_FULL, MAIL_RET_HDRS, MAIL_SMTPUTF8,
    MailFrom, RCPT_NOTIFY_DELAY, RCPT_NOTIFY_FAILURE, RCPT_NOTIFY_NEVER, RCPT_NOTIFY_SUCCESS, RcptTo, Request,
};
use std::borrow::Cow;

#[derive(Debug)]
struct Case {
    line: String,
    /// What the command means, written in one way for both.
    ours: Result<String, Mistake>,
    theirs: Result<String, Error>,
}

impl Case {
    fn refused(&self, mistake: Mistake) -> bool {
        self.ours == Err(mistake)
    }

    fn refused_value(&self, parameters: &[Parameter]) -> bool {
        parameters.iter().any(|parameter| self.refused(Mistake::Value(*parameter)))
    }

    fn verb(&self) -> String {
        self.line.split(' ').next().unwrap_or("").to_uppercase()
    }

    /// The values of a parameter, as often as it is given.
    fn values(&self, keyword: &str) -> Vec<&str> {
        let is_it = |word: &&str| word.split('=').next().is_some_and(|name| name.eq_ignore_ascii_case(keyword));
        self.line.split(' ').filter(is_it).map(|word| word.split_once('=').map_or("", |(_, value)| value)).collect()
    }
}

const DIFFERENCES: [Difference<Case>; 27] = [
    Difference {
        reason: "an address is held against the grammar of RFC 5321 (tests/differential/addresses.rs); theirs looks for @",
        explains: |case| {
            (case.refused(Mistake::Sender) || case.refused(Mistake::Recipient))
                && BAD_PATHS.iter().any(|path| case.line.contains(path))
        },
    },
    Difference {
        reason: "RFC 5321 section 4.1.3: an address literal is a domain; theirs takes none",
        explains: |case| case.ours.is_ok() && case.theirs.is_err() && case.line.contains("<a@[192.0.2.1]>"),
    },
    Difference {
        reason: "RFC 5321 section 4.5.1: postmaster without a domain is a recipient, and no sender",
        explains: |case| case.refused(Mistake::Sender) && case.line.contains("<postmaster>"),
    },
    Difference {
        reason: "RFC 5321 section 4.1.1.3: the null path is no recipient; theirs has one text for it and for postmaster",
        explains: |case| case.refused(Mistake::Recipient) && case.line.contains("<>"),
    },
    Difference {
        reason: "RFC 3030 section 4.2: a chunk that cannot be counted ends the session; theirs counts another number",
        explains: |case| case.refused(Mistake::ChunkSize) && case.line.contains("99999999999999999999999"),
    },
    Difference {
        reason: "commands that are not offered need no argument to be refused: 502",
        explains: |case| case.ours.is_ok() && ["EXPN", "ETRN"].contains(&case.verb().as_str()) && case.theirs.is_err(),
    },
    Difference {
        reason: "RFC 5321 section 4.1.2: FROM:< and TO:< are one word; only a space behind the colon is tolerated",
        explains: |case| case.theirs.is_ok() && case.refused(Mistake::Argument) && case.line.contains("FROM : "),
    },
    Difference {
        reason: "RFC 5321 section 4.1.2: a path ends with >, and a space or the end is behind it",
        explains: |case| case.refused(Mistake::Sender) && (case.line.contains(">x") || case.line.contains(">SIZE")),
    },
    Difference {
        reason: "no parameter is given twice, nor HOLDFOR with HOLDUNTIL; theirs takes the last",
        explains: |case| {
            let twice = |keyword: &&str| case.values(keyword).len() > 1;
            let holds = case.values("HOLDFOR").len() + case.values("HOLDUNTIL").len();
            matches!(case.ours, Err(Mistake::Value(_))) && (KEYWORDS.iter().any(twice) || holds > 1)
        },
    },
    Difference {
        reason: "what comes first decides: a line with two mistakes is refused for the first, and not always the same one",
        explains: |case| case.ours.is_err() && case.theirs.is_err(),
    },
    Difference {
        reason: "RFC 1870 section 6.1: a SIZE that cannot be counted is over the limit, 552, and no mistake of syntax",
        explains: |case| case.values("SIZE").iter().any(|value| value.len() == 20 && case.ours.is_ok()),
    },
    Difference {
        reason: "RFC 1870 section 3: SIZE has 20 digits at most",
        explains: |case| {
            case.refused_value(&[Parameter::Size]) && case.values("SIZE").iter().any(|value| value.len() > 20)
        },
    },
    Difference {
        reason: "RFC 3461 section 4: + is followed by two upper-case digits, and = is not xtext",
        explains: |case| {
            let broken = |value: &&str| value.contains("+x") || value.contains("+2b") || value[1..].contains('=');
            let keywords = ["ENVID", "AUTH", "ORCPT"];
            case.refused_value(&[Parameter::Envid, Parameter::Auth, Parameter::Orcpt])
                && keywords.iter().any(|keyword| case.values(keyword).iter().any(broken))
        },
    },
    Difference {
        reason: "RFC 3461 sections 4.2 and 4.4: what is encoded is printable ASCII",
        explains: |case| {
            let odd = |value: &&str| value.contains("+0D") || value.contains("+C3");
            case.refused_value(&[Parameter::Envid, Parameter::Orcpt])
                && ["ENVID", "ORCPT"].iter().any(|keyword| case.values(keyword).iter().any(odd))
        },
    },
    Difference {
        reason: "RFC 3461 section 4: xtext is octets; theirs makes a character of each",
        explains: |case| case.ours.is_ok() && case.values("AUTH").iter().any(|value| value.contains("+C3")),
    },
    Difference {
        reason: "RFC 3461 section 4.4 counts the 100 octets of the value; theirs counts them decoded",
        explains: |case| {
            case.refused_value(&[Parameter::Envid])
                && case.values("ENVID").iter().any(|value| value.len() > 100 && decode(value.as_bytes()).len() <= 100)
        },
    },
    Difference {
        reason: "RFC 4954 section 5: AUTH is <> or a mailbox",
        explains: |case| {
            let no_mailbox = |value: &&str| *value != "<>" && Mailbox::parse(&decode(value.as_bytes())).is_none();
            case.refused_value(&[Parameter::Auth]) && case.values("AUTH").iter().any(no_mailbox)
        },
    },
    Difference {
        reason: "RFC 3461 section 4.1: NEVER stands alone, and nothing is named twice",
        explains: |case| {
            let bad = |value: &&str| {
                let words: Vec<String> = value.split(',').map(str::to_uppercase).collect();
                words.len() > 1 && words.contains(&"NEVER".into())
                    || words.iter().any(|word| words.iter().filter(|other| *other == word).count() > 1)
            };
            case.refused_value(&[Parameter::Notify]) && case.values("NOTIFY").iter().any(bad)
        },
    },
    Difference {
        reason: "RFC 3461 section 4.2: ORCPT has any type; theirs takes rfc822 only (RFC 6533 asks for utf-8)",
        explains: |case| {
            case.ours.is_ok() && case.values("ORCPT").iter().any(|value| !value.to_lowercase().starts_with("rfc822;"))
        },
    },
    Difference {
        reason: "RFC 3339 section 5.6 and RFC 4865 section 4: digits in their places, days that exist",
        explains: |case| {
            case.refused_value(&[Parameter::HoldUntil])
                && case.values("HOLDUNTIL").iter().any(|value| BAD_DATES.contains(value))
        },
    },
    Difference {
        reason: "a date before the epoch is in the past like every other; theirs refuses it",
        explains: |case| case.ours.is_ok() && case.values("HOLDUNTIL").iter().any(|value| value.starts_with("19")),
    },
    Difference {
        reason: "part of a second counts as a second, so that nothing is released too early",
        explains: |case| case.ours.is_ok() && case.values("HOLDUNTIL").iter().any(|value| value.contains(".5")),
    },
    Difference {
        reason: "RFC 4865 section 4: HOLDFOR starts with a digit from 1",
        explains: |case| {
            case.refused_value(&[Parameter::HoldFor])
                && case.values("HOLDFOR").iter().any(|value| value.starts_with('0'))
        },
    },
    Difference {
        reason: "parameters that are not offered here: 555",
        explains: |case| {
            let known_to_them = ["BY", "MT-PRIORITY", "SOLICIT", "TRANSID", "MTRK", "CONPERM", "RRVS", "CONNEG"];
            case.refused(Mistake::Parameter) && known_to_them.iter().any(|keyword| !case.values(keyword).is_empty())
        },
    },
    Difference {
        reason: "RFC 5321 section 4.3.2: an argument that a command does not take is a mistake; theirs skips it",
        explains: |case| {
            let alone = ["DATA", "RSET", "QUIT", "STARTTLS"];
            let words = case.line.split(' ').filter(|word| !word.is_empty()).count();
            (case.refused(Mistake::Argument) && alone.contains(&case.verb().as_str()) && words > 1)
                || (case.refused(Mistake::Argument) && case.verb() == "AUTH" && words > 3)
                || (matches!(case.ours, Err(Mistake::Chunk(_))) && words > 3)
        },
    },
    Difference {
        reason: "a client's name is kept whole, white space inside too; theirs ends it there",
        explains: |case| {
            case.ours.is_ok() && ["EHLO", "HELO"].contains(&case.verb().as_str()) && case.line.split(' ').count() > 2
        },
    },
    Difference {
        reason: "RFC 5321 section 2.4: no controls, and nothing beyond ASCII where no address stands",
        explains: |case| {
            (case.refused(Mistake::Octets) || case.refused(Mistake::ChunkSize))
                && case.line.contains(|character: char| character.is_control() || !character.is_ascii())
        },
    },
];

// covers: 5.7 5.8 5.10 5.11 5.12 5.13
#[test]
fn every_difference_about_a_command_has_its_reason() {
    let mut agreed = 0;
    let mut differing = Vec::new();
    for line in generated(lines(), 30_000) {
        let case = Case { ours: ours(&line), theirs: theirs(&line), line };
        match (&case.ours, &case.theirs) {
            (Ok(ours), Ok(theirs)) if ours == theirs => agreed += 1,
            (Err(_), Err(_)) if said(&case) => agreed += 1,
            _ => differing.push(case),
        }
    }
    assert!(agreed > 8_000, "only {agreed} lines were read alike");
    settle(&DIFFERENCES, &differing);
}

/// Both refuse a line for the same thing.
fn said(case: &Case) -> bool {
    use Error::{
        InvalidParameter, InvalidRecipientAddress, InvalidSenderAddress, SyntaxError, UnknownCommand,
        UnsupportedParameter,
    };
    matches!(
        (&case.ours, &case.theirs),
        (Err(Mistake::Unknown), Err(UnknownCommand))
            | (Err(Mistake::Argument | Mistake::Chunk(_) | Mistake::ChunkSize), Err(SyntaxError { .. }))
            | (Err(Mistake::Sender), Err(InvalidSenderAddress | SyntaxError { .. }))
            | (Err(Mistake::Recipient), Err(InvalidRecipientAddress | SyntaxError { .. }))
            | (Err(Mistake::Parameter), Err(UnsupportedParameter { .. }))
            | (Err(Mistake::Value(_)), Err(InvalidParameter { .. } | UnsupportedParameter { .. }))
    )
}

fn ours(line: &str) -> Result<String, Mistake> {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    Ok(match Command::parse(line.as_bytes())? {
        Command::Ehlo(name) => format!("EHLO {}", text(name)),
        Command::Helo(name) => format!("HELO {}", text(name)),
        Command::Mail(mail) => our_mail(&mail),
        Command::Rcpt(rcpt) => our_rcpt(&rcpt),
        Command::Bdat { octets, last } => format!("BDAT {octets} {last}"),
        Command::Auth(_, initial) => format!("AUTH {}", text(initial.unwrap_or_default())),
        _ => line.split(' ').next().unwrap_or("").to_uppercase(),
    })
}

fn our_mail(mail: &Mail) -> String {
    let from = match mail.reverse_path {
        ReversePath::Null => String::new(),
        ReversePath::Mailbox(mailbox) => unquoted(&mailbox),
    };
    let auth = mail.auth.map(|auth| match auth {
        Submitter::Unknown => "<>".to_string(),
        Submitter::Mailbox(xtext) => String::from_utf8_lossy(&decode(xtext.as_bytes())).into_owned(),
    });
    let (hold_for, hold_until) = match mail.hold {
        Some(Hold::For(seconds)) => (u64::from(seconds), 0),
        Some(Hold::Until(epoch_s)) => (0, epoch_s),
        None => (0, 0),
    };
    let envid = mail.envid.map(|envid| String::from_utf8_lossy(&decode(envid.as_bytes())).into_owned());
    mail_text(
        &from,
        mail.size.unwrap_or(0),
        (mail.body == Body::EightBitMime, mail.body == Body::BinaryMime),
        (mail.smtputf8, mail.require_tls),
        (mail.ret == Some(Ret::Full), mail.ret == Some(Ret::Headers)),
        (auth.as_deref(), envid.as_deref()),
        (hold_for, hold_until),
    )
}

fn their_mail(from: &MailFrom<Cow<str>>) -> String {
    let has = |flag: u64| from.flags & flag != 0;
    mail_text(
        &from.address,
        from.size as u64,
        (has(MAIL_BODY_8BITMIME), has(MAIL_BODY_BINARYMIME)),
        (has(MAIL_SMTPUTF8), has(MAIL_REQUIRETLS)),
        (has(MAIL_RET_FULL), has(MAIL_RET_HDRS)),
        (from.auth.as_deref(), from.env_id.as_deref()),
        (from.hold_for, from.hold_until),
    )
}

fn mail_text(
    from: &str,
    size: u64,
    body: (bool, bool),
    flags: (bool, bool),
    ret: (bool, bool),
    texts: (Option<&str>, Option<&str>),
    hold: (u64, u64),
) -> String {
    format!("MAIL {from} {size} {body:?} {flags:?} {ret:?} {texts:?} {hold:?}")
}

fn our_rcpt(rcpt: &Rcpt) -> String {
    let to = match rcpt.path {
        ForwardPath::Postmaster => String::new(),
        ForwardPath::Mailbox(mailbox) => unquoted(&mailbox),
    };
    let orcpt = rcpt.orcpt.map(|orcpt| String::from_utf8_lossy(&decode(orcpt.address())).into_owned());
    format!("RCPT {to} {:?} {orcpt:?}", rcpt.notify.map_or("", |notify| notify.as_str()))
}

fn their_rcpt(to: &RcptTo<Cow<str>>) -> String {
    let flags = [
        (RCPT_NOTIFY_NEVER, "NEVER"),
        (RCPT_NOTIFY_SUCCESS, "SUCCESS"),
        (RCPT_NOTIFY_FAILURE, "FAILURE"),
        (RCPT_NOTIFY_DELAY, "DELAY"),
    ];
    let notify: Vec<&str> = flags.iter().filter(|(flag, _)| to.flags & flag != 0).map(|(_, name)| *name).collect();
    format!("RCPT {} {:?} {:?}", to.address, notify.join(","), to.orcpt)
}

fn theirs(line: &str) -> Result<String, Error> {
    let octets = format!("{line}\r\n");
    Ok(match Request::parse(&mut octets.as_bytes().iter())? {
        Request::Ehlo { host } => format!("EHLO {host}"),
        Request::Helo { host } => format!("HELO {host}"),
        Request::Mail { from } => their_mail(&from),
        Request::Rcpt { to } => their_rcpt(&to),
        Request::Bdat { chunk_size, is_last } => format!("BDAT {chunk_size} {is_last}"),
        Request::Auth { initial_response, .. } => format!("AUTH {initial_response}"),
        other => other.name().to_string(),
    })
}

/// Their parser hands out addresses without quotes and backslashes.
fn unquoted(mailbox: &Mailbox) -> String {
    let text = String::from_utf8_lossy(mailbox.as_bytes()).into_owned();
    if !text.starts_with('"') {
        return text;
    }
    let mut plain = String::new();
    let mut escaped = false;
    for character in text.chars() {
        match character {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => {}
            character => {
                plain.push(character);
                escaped = false;
            }
        }
    }
    plain
}
