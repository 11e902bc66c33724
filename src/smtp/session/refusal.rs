//! Refusals: how they are written, what the log is told of them, and how many recipients may be refused.
//!
//! The table of replies holds what is the same everywhere; a limit, or where a person can read on, stands behind it:
//!
//! | reply | behind it |
//! |---|---|
//! | 552 5.3.4 too large, message or header | `, the limit is .. octets` |
//! | 452 4.5.3 too many recipients | `, the limit is ..` |
//! | 530 5.7.0 TLS or AUTH first | `, see` [`Rules::help`](super::Rules::help), where there is one |
//!
//! Each refused recipient has its own reply, up to
//!
//! | recipients | of authenticated and trusted clients | of strangers | counted |
//! |---|---|---|---|
//! | over `recipients_max` | 1000 | 1000 | in a transaction |
//! | refused for something else | `recipients_max` | 100 | since the last message; of strangers: in the session |
//!
//! Past it 421 4.7.0 ends the session: nobody can go on for as long as a transaction may take, or guess who there is. A mailing
//! list with many dead addresses is not cut off by it, and where it is, what was refused is settled and the next session goes
//! on behind it. Postfix has the same 1000 (`smtpd_recipient_overshoot_limit`), and counts the others like any error, of which
//! it takes 20 (`smtpd_hard_error_limit`).
//!
//! Paths are kept for the log in the box of the refusal: a session that refuses nothing allocates nothing for them.

use super::{Action, Session, State};
use crate::message::header::HEADER_BYTES_MAX;
use crate::smtp::command::verb;
use crate::smtp::path::path_length;
use crate::smtp::reply;

/// What a client hears in the clear that needs TLS for what it wants.
const NEED_TLS: [&[u8]; 3] = [reply::STARTTLS_FIRST, reply::AUTH_REQUIRED, reply::AUTH_NEEDS_TLS];

/// Recipients over the limit that one transaction may name before the session is closed.
const OVERSHOOT_MAX: u16 = 1000;
/// Recipients that a session may refuse a stranger, for something else than their number, before it is closed.
const STRANGERS_REFUSED_MAX: u32 = 100;

/// A refusal, for the log and for the counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The reply as the table has it, without what stands behind it.
    pub reply: &'static [u8],
    /// What else there is to say.
    pub about: About,
    /// The reverse-path as it was given, without its angle brackets; none outside a transaction.
    pub sender: Option<Box<[u8]>>,
    /// The forward-path that was refused, as it was given, or the only one of a message that was.
    pub recipient: Option<Box<[u8]>>,
    /// How many refusals this stands for: itself, and those before it that were not asked for in time.
    pub count: u32,
    /// Messages among those: refused at MAIL, or at or behind DATA or BDAT.
    pub messages: u32,
    /// Recipients among those.
    pub recipients: u32,
    /// All of them by their reply codes.
    pub codes: Codes,
}

/// Refusals by reply code. What one read can hold of different ones finds room; if it did not, they would count as the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codes([OfCode; 12]);

/// Those with one reply code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfCode {
    /// 0: none.
    pub code: u16,
    /// How many.
    pub count: u32,
    /// Messages among those.
    pub messages: u32,
}

impl Codes {
    /// Those that there are.
    pub fn iter(&self) -> impl Iterator<Item = &OfCode> {
        self.0.iter().take_while(|of| of.code > 0)
    }

    fn of(&mut self, code: u16) -> &mut OfCode {
        let place = self.0.iter().position(|of| of.code == code || of.code == 0).unwrap_or(self.0.len() - 1);
        self.0[place].code = code;
        &mut self.0[place]
    }
}

impl Refused {
    fn new(reply: &'static [u8], about: About) -> Refused {
        let (sender, recipient, count, messages, recipients, codes) = Default::default();
        Refused { reply, about, sender, recipient, count, messages, recipients, codes }
    }

    /// Those with the same reply code as the last.
    fn alike(&mut self) -> &mut OfCode {
        self.codes.of(reply::code(self.reply))
    }
}

/// What a refusal was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The client must use TLS first.
    Tls,
    /// The message is too large.
    Size {
        /// Octets, as SIZE or the chunks so far said; 0: nothing was said.
        announced_bytes: u64,
    },
    /// So many recipients over the limit, in a transaction that is over.
    Recipients {
        /// At least 1.
        over: u32,
    },
    /// A message with so many recipients.
    Message {
        /// At least 1.
        recipients: u32,
    },
    /// Something else.
    Other,
}

impl Session {
    /// The last refusal of mail, a recipient or a secret in the clear since the last call, then how many recipients were over
    /// the limit in transactions that are over. To be asked until there is none.
    pub fn take_refused(&mut self) -> Option<Refused> {
        let over = |over| {
            let mut refused = Refused::new(reply::TOO_MANY_RECIPIENTS, About::Recipients { over });
            (refused.count, refused.recipients, refused.alike().count) = (over, over, over);
            refused
        };
        self.refused.take().map(|refused| *refused).or_else(|| match std::mem::take(&mut self.overshot) {
            0 => None,
            count => Some(over(count)),
        })
    }

    /// The connection is over, and so is the transaction: [`Session::take_refused`] tells what was counted of it.
    pub fn end(&mut self) {
        self.reset();
    }

    /// A refusal that is worth a log line.
    pub(super) fn refuse(&mut self, text: &'static [u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        self.note(text);
        self.write_refusal(text, out);
        None
    }

    pub(super) fn refuse_and_close(&mut self, text: &'static [u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        self.note(text);
        self.close(text, out)
    }

    /// Refuses one recipient, and closes if there were too many of those.
    pub(super) fn refuse_recipient(&mut self, text: &'static [u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        self.recipient_refused = true;
        if text == reply::TOO_MANY_RECIPIENTS {
            return self.refuse_one_more(out);
        }
        let max = match self.is_submission() {
            true => self.rules.recipients_max.max(STRANGERS_REFUSED_MAX),
            false => STRANGERS_REFUSED_MAX,
        };
        if self.recipients_refused >= max {
            return self.refuse_and_close(reply::TOO_MANY_REFUSED, out);
        }
        self.recipients_refused += 1;
        self.refuse(text, out)
    }

    /// A recipient over the limit. The log hears of all of them at once, when the transaction is over.
    fn refuse_one_more(&mut self, out: &mut Vec<u8>) -> Option<Action<'static>> {
        if self.overshoot >= OVERSHOOT_MAX {
            return self.refuse_and_close(reply::TOO_MANY_REFUSED, out);
        }
        self.overshoot += 1;
        self.write_refusal(reply::TOO_MANY_RECIPIENTS, out);
        None
    }

    /// Keeps a refusal for the log.
    pub(super) fn note(&mut self, text: &'static [u8]) {
        let about = match text {
            reply::TOO_BIG => About::Size { announced_bytes: self.declared_bytes },
            _ if !self.secured && NEED_TLS.contains(&text) => About::Tls,
            _ => About::Other,
        };
        let sender = (self.state >= State::Sender).then(|| self.envelope.reverse_path().into());
        let refused = self.refused.get_or_insert_with(|| Box::new(Refused::new(text, about)));
        let Refused { count, messages, recipients, codes, .. } = **refused;
        **refused = Refused { sender, count: count + 1, messages, recipients, codes, ..Refused::new(text, about) };
        refused.alike().count += 1;
    }

    /// How many refusals the log has not asked for.
    pub(super) fn refusals(&self) -> u32 {
        self.refused.as_ref().map_or(0, |refused| refused.count)
    }

    /// What was just refused was `line`: its path is kept, and MAIL and RCPT are counted.
    pub(super) fn note_command(&mut self, line: &[u8]) {
        let Some(refused) = &mut self.refused else { return };
        let is = |name: &[u8]| verb(line).eq_ignore_ascii_case(name);
        if is(b"MAIL") {
            refused.sender = Some(given_path(line).into());
            refused.messages += 1;
            refused.alike().messages += 1;
        } else if is(b"RCPT") {
            refused.recipient = Some(given_path(line).into());
            refused.recipients += 1;
        }
    }

    /// What was just refused was the recipient `path`.
    pub(super) fn note_recipient(&mut self, path: Box<[u8]>) {
        if let Some(refused) = &mut self.refused {
            refused.recipient = Some(path);
            refused.recipients += 1;
        }
    }

    /// What was just refused was the message, whose envelope is still there.
    pub(super) fn note_message(&mut self) {
        let Some(refused) = &mut self.refused else { return };
        refused.messages += 1;
        refused.alike().messages += 1;
        refused.recipient = self.envelope.only_recipient().map(Into::into);
        if refused.about == About::Other {
            refused.about = About::Message { recipients: self.envelope.recipients() };
        }
    }

    fn write_refusal(&self, text: &'static [u8], out: &mut Vec<u8>) {
        let rules = &self.rules;
        match text {
            reply::TOO_BIG => reply::with_limit(text, rules.message_bytes_max, " octets", out),
            reply::HEADER_TOO_BIG => reply::with_limit(text, HEADER_BYTES_MAX as u64, " octets", out),
            reply::TOO_MANY_RECIPIENTS => reply::with_limit(text, rules.recipients_max.into(), "", out),
            reply::STARTTLS_FIRST | reply::AUTH_REQUIRED if !rules.help.is_empty() => {
                reply::with_help(text, &rules.help, out);
            }
            _ => out.extend_from_slice(text),
        }
    }
}

/// The path in a line of MAIL or RCPT, legal or not, without its angle brackets.
fn given_path(line: &[u8]) -> &[u8] {
    let Some(colon) = line.iter().position(|octet| *octet == b':') else { return b"" };
    let given = line[colon + 1..].trim_ascii();
    match path_length(given) {
        Some(length) => &given[1..length - 1],
        None => given,
    }
}
