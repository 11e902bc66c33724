//! EHLO and HELO, and what is offered to whom. RFC 5321 section 4.1.1.1.
//!
//! | keyword | offered | source |
//! |---|---|---|
//! | STARTTLS | in the clear | RFC 3207 section 4 |
//! | SIZE, PIPELINING, 8BITMIME, ENHANCEDSTATUSCODES, SMTPUTF8 | always | RFC 1870, 2920, 6152, 2034, 6531 |
//! | DSN | on submission listeners; on others to authenticated and trusted clients | RFC 3461 |
//! | CHUNKING, BINARYMIME | always; the second never without the first | RFC 3030 |
//! | LIMITS | always: exactly what is enforced | RFC 9422 section 3 |
//! | AUTH | in TLS, with the mechanisms that can be checked; -PLUS only where the channel is known | RFC 4954 section 4, RFC 8314 section 4.1 |
//! | REQUIRETLS | in TLS | RFC 8689 section 2 |
//! | FUTURERELEASE | to authenticated clients on submission listeners, unless `hold_max_s` is 0 | RFC 4865 sections 3 and 4 |
//! | XCLIENT | to listed proxies that have not said it yet | Postfix's XCLIENT_README |
//! | HELP | always, and last | RFC 5321 section 4.1.1.8 |
//!
//! A stranger is not offered DSN, as with Postfix's and Sendmail's advice: for each message it could have us write to a
//! sender that it makes up. Whoever relays to us loses nothing: as we do not offer it, it tells its sender itself (RFC 3461
//! section 5.2.2).

use super::{Action, MayXclient, Session, State};
use crate::policy::{Role, TlsMode};
use crate::sasl::Mechanisms;
use crate::smtp::reply::{self, Digits};
use crate::smtp::xclient;

/// The largest number that LIMITS can tell. RFC 9422 section 4.
const LIMIT_MAX: u32 = 999_999;

impl Session {
    /// EHLO or HELO: greets, and drops the transaction. RFC 5321 section 4.1.4.
    pub(super) fn hello(&mut self, name: &[u8], extended: bool, out: &mut Vec<u8>) -> Option<Action<'static>> {
        let lost = self.abandon();
        if self.idles() {
            return self.refuse_and_close(reply::TOO_MANY_IDLE, out);
        }
        self.state = State::Greeted;
        self.extended = extended;
        if *self.helo != *name {
            self.helo = name.into();
        }
        match extended {
            true => self.offer(out),
            false => reply::hello(&self.rules.hostname, out),
        }
        lost
    }

    fn offer(&self, out: &mut Vec<u8>) {
        let rules = &self.rules;
        reply::extended_hello(&rules.hostname, out);
        if !self.secured && rules.tls != TlsMode::Implicit {
            reply::keyword(&["STARTTLS"], out);
        }
        reply::keyword(&["SIZE ", Digits::of(rules.message_bytes_max).as_str()], out);
        for always in ["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8"] {
            reply::keyword(&[always], out);
        }
        if self.offers_dsn() {
            reply::keyword(&["DSN"], out);
        }
        for always in ["CHUNKING", "BINARYMIME"] {
            reply::keyword(&[always], out);
        }
        let recipients = Digits::of(rules.recipients_max.into());
        let messages = Digits::of(rules.messages_per_session.into());
        match rules.messages_per_session {
            0..=LIMIT_MAX => {
                reply::keyword(&["LIMITS RCPTMAX=", recipients.as_str(), " MAILMAX=", messages.as_str()], out);
            }
            _ => reply::keyword(&["LIMITS RCPTMAX=", recipients.as_str()], out),
        }
        if self.secured {
            self.offer_auth(out);
            reply::keyword(&["REQUIRETLS"], out);
        }
        if self.offers_hold() {
            let seconds = Digits::of(rules.hold_max_s.into());
            reply::future_release(seconds.as_str(), self.now_ms / 1000 + u64::from(rules.hold_max_s), out);
        }
        match self.may_xclient {
            MayXclient::No => {}
            MayXclient::Yes => reply::keyword(&[xclient::KEYWORD], out),
            MayXclient::WithLogin => reply::keyword(&[xclient::KEYWORD_WITH_LOGIN], out),
        }
        out.extend_from_slice(reply::LAST_KEYWORD);
    }

    fn offer_auth(&self, out: &mut Vec<u8>) {
        let mut parts = [""; 2 * Mechanisms::COUNT + 1];
        parts[0] = "AUTH";
        for (pair, mechanism) in parts[1..].chunks_exact_mut(2).zip(self.mechanisms().iter()) {
            pair.copy_from_slice(&[" ", mechanism.name()]);
        }
        if !parts[1].is_empty() {
            reply::keyword(&parts, out);
        }
    }

    /// May the client ask to be told what became of a message? On submission listeners nobody sends before AUTH.
    pub(super) fn offers_dsn(&self) -> bool {
        self.rules.role == Role::Submission || self.is_submission()
    }

    /// May the client ask that a message be held?
    pub(super) fn offers_hold(&self) -> bool {
        self.rules.role == Role::Submission && self.user.is_some() && self.rules.hold_max_s > 0
    }
}
