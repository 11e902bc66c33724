//! AUTH: the exchange between client and driver (RFC 4954 section 4).
//!
//! ```text
//!  AUTH, responses --> Exchange --> Challenge      334, the next line is a response
//!                               --> Verify         Ask Password  -> 235, 535, 454
//!                               --> NeedKeys       Ask ScramKeys -> 334, 454
//!                               --> Proof          Ask Proof     -> 334 with our signature, 535, 454
//!                               --> Authenticated  235
//! ```
//!
//! A wrong proof is a question too, so that it is counted, logged and held up like a wrong password.

use super::{Action, Answer, Mode, Question, Session, Wait, say};
use crate::sasl::{Exchange, Mechanism, Mechanisms, Step};
use crate::smtp::reply;
use std::sync::Arc;

/// Failed authentications in one session before it is closed.
const FAILED_AUTHENTICATIONS_MAX: u8 = 5;

impl Session {
    /// What this session offers now: -PLUS only where there is a channel to bind to.
    pub(super) fn mechanisms(&self) -> Mechanisms {
        match &self.binding {
            Some(_) => self.mechanisms,
            None => self.mechanisms.without([Mechanism::ScramSha256Plus].into_iter().collect()),
        }
    }

    /// AUTH with a mechanism and perhaps an initial response.
    pub(super) fn authenticate(
        &mut self,
        name: &[u8],
        initial: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Option<Action<'static>> {
        if self.user.is_some() {
            return self.bad_command(reply::AUTH_ALREADY, out);
        }
        let offered = self.mechanisms();
        let Some(mechanism) = Mechanism::parse(name).filter(|mechanism| offered.contains(*mechanism)) else {
            return self.bad_command(reply::UNKNOWN_MECHANISM, out);
        };
        let binding = self.binding.clone().filter(|_| offered.contains(Mechanism::ScramSha256Plus));
        let (exchange, step) = Exchange::start(mechanism, initial, binding);
        self.exchange_step(exchange, step, out)
    }

    /// What follows a step of the exchange.
    pub(super) fn exchange_step(
        &mut self,
        exchange: Exchange,
        step: Step,
        out: &mut Vec<u8>,
    ) -> Option<Action<'static>> {
        self.mode = Mode::Command;
        match step {
            Step::Challenge(base64) => {
                reply::challenge(&base64, out);
                self.mode = Mode::Exchange(exchange);
                None
            }
            Step::Verify(credentials) => self.ask(Wait::Verdict, Question::Password(credentials)),
            Step::NeedKeys(user) => self.ask(Wait::ScramKeys(exchange), Question::ScramKeys(user)),
            Step::Proof(proof) => self.ask(Wait::Proof(exchange), Question::Proof(proof)),
            Step::Authenticated(user) => self.authenticated(user, out),
            Step::Refused => self.authentication_failed(reply::BAD_CREDENTIALS, out),
            Step::Cancelled if self.idles() => self.refuse_and_close(reply::TOO_MANY_IDLE, out),
            Step::Cancelled => say(reply::AUTH_CANCELLED, out),
            Step::Malformed => self.bad_command(reply::BAD_AUTH_RESPONSE, out),
        }
    }

    /// The driver's answer to a question of an exchange.
    pub(super) fn exchange_answered(&mut self, wait: Wait, answer: Answer, out: &mut Vec<u8>) {
        match (wait, answer) {
            (Wait::Verdict, Answer::Accepted(user)) => drop(self.authenticated(user, out)),
            (Wait::ScramKeys(mut exchange), Answer::ScramKeys { keys, nonce }) => {
                let step = exchange.keys(keys, &nonce);
                self.exchange_step(exchange, step, out);
            }
            (Wait::Proof(mut exchange), Answer::Accepted(user)) => {
                let step = exchange.accepted(user);
                self.exchange_step(exchange, step, out);
            }
            (Wait::Verdict | Wait::Proof(_), Answer::Rejected) => {
                self.authentication_failed(reply::BAD_CREDENTIALS, out);
            }
            (_, Answer::Braked) => drop(self.authentication_failed(reply::AUTH_BRAKED, out)),
            (_, Answer::Unavailable) if self.idles() => drop(self.refuse_and_close(reply::TOO_MANY_IDLE, out)),
            (_, Answer::Unavailable) => out.extend_from_slice(reply::AUTH_UNAVAILABLE),
            (wait, answer) => panic!("{answer:?} is no answer to {wait:?}"),
        }
    }

    fn ask(&mut self, wait: Wait, question: Question) -> Option<Action<'static>> {
        self.mode = Mode::Waiting(wait);
        Some(Action::Ask(question))
    }

    fn authenticated(&mut self, user: Arc<str>, out: &mut Vec<u8>) -> Option<Action<'static>> {
        out.extend_from_slice(reply::AUTHENTICATED);
        self.user = Some(user);
        None
    }

    fn authentication_failed(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<Action<'static>> {
        out.extend_from_slice(text);
        self.failed_authentications += 1;
        match self.failed_authentications < FAILED_AUTHENTICATIONS_MAX {
            true => None,
            false => self.close(reply::TOO_MANY_ERRORS, out),
        }
    }
}
