//! MAIL and RCPT: what of them is kept in the envelope, and what is refused.
//!
//! Parameters are taken as EHLO offers them: REQUIRETLS in TLS only (RFC 8689 section 2), HOLDFOR and HOLDUNTIL from
//! authenticated clients of submission only (RFC 4865), the others from everybody. What is said in them is kept as it was
//! given, but for AUTH, which is kept only from who is believed.

use super::{Action, Mode, Session, State, Wait, say};
use crate::policy::relaying::{self, Relaying};
use crate::smtp::command::{Body, Mail, Parameter, Parameters, Rcpt};
use crate::smtp::envelope::{self, Tag};
use crate::smtp::parameter::{Hold, Submitter};
use crate::smtp::path::{ForwardPath, Mailbox, ReversePath};
use crate::smtp::reply;

/// Parameters of MAIL that every session offers.
const ALWAYS: Parameters = Parameters::of(&[Parameter::Size, Parameter::Body, Parameter::SmtpUtf8, Parameter::Auth]);
/// Those of DSN.
const DSN: Parameters = Parameters::of(&[Parameter::Ret, Parameter::Envid]);
/// Those of FUTURERELEASE.
const HOLD: Parameters = Parameters::of(&[Parameter::HoldFor, Parameter::HoldUntil]);

impl Session {
    /// MAIL. RFC 5321 section 4.1.1.2.
    pub(super) fn mail(&mut self, mail: Mail, out: &mut Vec<u8>) -> Option<Action<'static>> {
        if self.login_ended {
            return self.refuse_and_close(reply::LOGIN_ENDED, out);
        }
        if self.messages >= self.rules.messages_per_session {
            return self.refuse_and_close(reply::TOO_MANY_MESSAGES, out);
        }
        if !mail.given.are_among(self.offered()) {
            return self.bad_transaction_command(reply::UNKNOWN_PARAMETER, out);
        }
        if let Some(size) = mail.size.filter(|size| *size > self.rules.message_bytes_max) {
            self.declared_bytes = size;
            return self.idle_command(reply::TOO_BIG, out);
        }
        if self.room.is_none_or(|room| mail.size.unwrap_or(0) > room) {
            return self.idle_command(reply::NO_ROOM, out);
        }
        let path = match mail.reverse_path {
            ReversePath::Null => &b""[..],
            ReversePath::Mailbox(mailbox) if !mailbox.is_ascii() && !mail.smtputf8 => {
                return self.idle_command(reply::NEEDS_SMTPUTF8, out);
            }
            ReversePath::Mailbox(mailbox) => mailbox.as_bytes(),
        };
        let release_ms = mail.hold.map(|hold| self.release_ms(hold));
        if release_ms.is_some_and(|release_ms| release_ms > self.now_ms + u64::from(self.rules.hold_max_s) * 1000) {
            return self.bad_transaction_command(reply::HOLD_TOO_LONG, out);
        }
        self.reset();
        self.messages += 1;
        self.envelope.push(Tag::ReversePath, path);
        self.envelope.push(Tag::Body, &[mail.body as u8]);
        if mail.smtputf8 {
            self.envelope.push(Tag::SmtpUtf8, b"");
        }
        if mail.require_tls {
            self.envelope.push(Tag::RequireTls, b"");
        }
        if let Some(auth) = mail.auth {
            self.envelope.push(Tag::Auth, self.believed(auth).as_bytes());
        }
        if let Some(ret) = mail.ret {
            self.envelope.push(Tag::Ret, &[ret as u8]);
        }
        if let Some(envid) = mail.envid {
            self.envelope.push(Tag::Envid, envid.as_bytes());
        }
        if let Some(hold) = mail.hold {
            self.envelope.push_with(Tag::HoldRequest, |value| envelope::push_hold(hold, value));
        }
        if let Some(release_ms) = release_ms.filter(|release_ms| *release_ms > self.now_ms) {
            self.envelope.push(Tag::HoldUntil, &release_ms.to_le_bytes());
        }
        self.smtputf8 = mail.smtputf8;
        self.binary = mail.body == Body::BinaryMime;
        self.declared_bytes = mail.size.unwrap_or(0);
        self.state = State::Sender;
        say(reply::SENDER_OK, out)
    }

    /// The parameters that EHLO would offer now; others get 555. RFC 5321 section 4.1.1.11.
    fn offered(&self) -> Parameters {
        let secured = if self.secured { Parameters::of(&[Parameter::RequireTls]) } else { Parameters::default() };
        let holding = if self.offers_hold() { HOLD } else { Parameters::default() };
        let reporting = if self.offers_dsn() { DSN } else { Parameters::default() };
        ALWAYS.and(secured).and(holding).and(reporting)
    }

    /// When the message is released, milliseconds since the Unix epoch. RFC 4865 section 4.
    fn release_ms(&self, hold: Hold) -> u64 {
        match hold {
            Hold::For(seconds) => self.now_ms + u64::from(seconds) * 1000,
            Hold::Until(epoch_s) => epoch_s.saturating_mul(1000),
        }
    }

    /// Who submitted the message first: the word of an authenticated or trusted client counts, a stranger's does not.
    /// RFC 4954 section 5.
    fn believed<'m>(&self, claimed: Submitter<'m>) -> Submitter<'m> {
        if self.is_submission() { claimed } else { Submitter::Unknown }
    }

    /// RCPT. RFC 5321 section 4.1.1.3.
    pub(super) fn recipient(&mut self, rcpt: Rcpt, out: &mut Vec<u8>) -> Option<Action<'static>> {
        if self.envelope.recipients() >= self.rules.recipients_max {
            return self.refuse_recipient(reply::TOO_MANY_RECIPIENTS, out);
        }
        if self.room.is_none() {
            return self.refuse_recipient(reply::NO_ROOM, out);
        }
        if (rcpt.notify.is_some() || rcpt.orcpt.is_some()) && !self.offers_dsn() {
            return self.refuse_recipient(reply::UNKNOWN_PARAMETER, out);
        }
        if rcpt.orcpt.is_some_and(|orcpt| !orcpt.is_ascii()) && !self.smtputf8 {
            return self.refuse_recipient(reply::NEEDS_SMTPUTF8, out);
        }
        let mark = self.envelope.mark();
        match rcpt.path {
            ForwardPath::Postmaster => {
                let domain = self.rules.postmaster_domain.as_bytes();
                self.envelope.push_with(Tag::Recipient, |value| {
                    value.extend_from_slice(b"postmaster@");
                    value.extend_from_slice(domain);
                });
            }
            ForwardPath::Mailbox(mailbox) if !mailbox.is_ascii() && !self.smtputf8 => {
                return self.refuse_recipient(reply::NEEDS_SMTPUTF8, out);
            }
            ForwardPath::Mailbox(mailbox) => match self.relaying(&mailbox) {
                Relaying::Allowed if self.is_unknown(&mailbox) => {
                    return self.refuse_recipient(reply::UNKNOWN_RECIPIENT, out);
                }
                Relaying::Allowed => self.envelope.push(Tag::Recipient, mailbox.as_bytes()),
                Relaying::AuthenticationRequired => return self.refuse_recipient(reply::AUTH_REQUIRED, out),
                Relaying::Denied => return self.refuse_recipient(reply::RELAYING_DENIED, out),
            },
        }
        if let Some(notify) = rcpt.notify {
            self.envelope.push(Tag::Notify, notify.as_str().as_bytes());
        }
        if let Some(orcpt) = rcpt.orcpt {
            self.envelope.push(Tag::Orcpt, orcpt.as_bytes());
        }
        if self.rules.limits_users && self.user.is_some() {
            self.mode = Mode::Waiting(Wait::Recipient(mark));
            return Some(Action::Recipient);
        }
        self.recipient_taken(out)
    }

    pub(super) fn recipient_taken(&mut self, out: &mut Vec<u8>) -> Option<Action<'static>> {
        self.state = State::Recipients;
        say(reply::RECIPIENT_OK, out)
    }

    fn relaying(&self, mailbox: &Mailbox) -> Relaying {
        let local = &self.rules.local_domains;
        relaying::recipient(self.rules.role, self.client(), mailbox.domain(), mailbox.hides_a_route(), local)
    }

    /// Is it in one of our domains, and nobody there? Users are told too: then a typing mistake is known at once.
    fn is_unknown(&self, mailbox: &Mailbox) -> bool {
        let Some(known) = &self.local_recipients else { return false };
        let is_local = self.rules.local_domains.contains(mailbox.domain());
        is_local && !known.contains(mailbox.local_part(), mailbox.domain())
    }
}
