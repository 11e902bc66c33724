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

use super::{Action, Session};
use crate::message::header::HEADER_BYTES_MAX;
use crate::smtp::reply;

/// What a client hears in the clear that needs TLS for what it wants.
const NEED_TLS: [&[u8]; 3] = [reply::STARTTLS_FIRST, reply::AUTH_REQUIRED, reply::AUTH_NEEDS_TLS];

/// Recipients over the limit that one transaction may name before the session is closed.
const OVERSHOOT_MAX: u16 = 1000;
/// Recipients that a session may refuse a stranger, for something else than their number, before it is closed.
const STRANGERS_REFUSED_MAX: u32 = 100;

/// A refusal, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The reply as the table has it, without what stands behind it.
    pub reply: &'static [u8],
    /// What else there is to say.
    pub about: About,
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
    /// Something else.
    Other,
}

impl Session {
    /// The last refusal of mail, a recipient or a secret in the clear since the last call, then how many recipients were over
    /// the limit in transactions that are over. To be asked until there is none.
    pub fn take_refused(&mut self) -> Option<Refused> {
        let over = |over| Refused { reply: reply::TOO_MANY_RECIPIENTS, about: About::Recipients { over } };
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
        self.refused = Some(Box::new(Refused { reply: text, about }));
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
