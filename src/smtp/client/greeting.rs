//! From the greeting to Ready: what was offered, STARTTLS, AUTH.
//!
//! ```text
//!  EHLO's answer --> greeted --> [STARTTLS --> EHLO's answer] --> [AUTH --> 334, response --> ..] --> Ready
//! ```

use super::command::{self, Command, Offered};
use super::{Client, StartTls, State, Trouble};
use crate::sasl::{ClientExchange, Terms};

/// Challenges answered in one AUTH exchange.
const CHALLENGES_MAX: u32 = 8;

/// AUTH under way.
pub(super) struct Exchange {
    pub(super) exchange: ClientExchange,
    challenges: u32,
}

impl Client {
    /// EHLO, LHLO or HELO was answered: TLS, then AUTH, then Ready.
    pub(super) fn greeted(&mut self, offered: Offered, out: &mut Vec<u8>) {
        self.offered = offered;
        match self.options.starttls {
            StartTls::Never => self.log_in(out),
            StartTls::WhenOffered | StartTls::Required if offered.starttls => self.plan(Command::StartTls, out),
            StartTls::WhenOffered | StartTls::Required => self.in_the_clear(out),
        }
    }

    /// Our own name in the reply to EHLO: what we send there comes back to us.
    pub(super) fn is_own_name(&self, text: &str) -> bool {
        let name = text.split([' ', '\n']).next().unwrap_or("");
        self.options.detects_loop && name.eq_ignore_ascii_case(&self.options.hostname)
    }

    /// Is what the server says of itself said inside TLS, where TLS is needed? Before, anybody on the way could say our name and
    /// have all mail bounced.
    pub(super) fn tls_is_settled(&self) -> bool {
        self.options.starttls == StartTls::Never || !self.must_not_go_clear()
    }

    pub(super) fn must_not_go_clear(&self) -> bool {
        self.options.starttls == StartTls::Required || self.options.login.is_some()
    }

    /// TLS was wanted and is not to be had.
    pub(super) fn in_the_clear(&mut self, out: &mut Vec<u8>) {
        if self.must_not_go_clear() {
            return self.end(Trouble::TlsNotOffered);
        }
        self.log_in(out);
    }

    fn log_in(&mut self, out: &mut Vec<u8>) {
        // Nobody needs it twice, and the connection may live on for long.
        let Some(login) = self.options.login.take() else {
            self.state = State::Ready;
            return;
        };
        let Some(mechanism) = login.mechanism.or(self.offered.best_mechanism()) else {
            return self.end(Trouble::NoMechanism);
        };
        let binding = login.binding.as_deref();
        let terms = Terms { user: &login.user, password: &login.password, nonce: &login.nonce, binding };
        let (exchange, initial) = ClientExchange::start(mechanism, &terms);
        command::auth(mechanism, initial.as_ref().map(|initial| initial.as_str()), out);
        self.exchange = Some(Exchange { exchange, challenges: 0 });
        self.sent.push_back(Command::Auth);
    }

    /// 334: the next line of the exchange, or `*` if there is none (RFC 4954 section 4).
    pub(super) fn challenge(&mut self, text: &str, out: &mut Vec<u8>) {
        let response = self.exchange.as_mut().and_then(|exchange| {
            exchange.challenges += 1;
            let wanted = exchange.challenges <= CHALLENGES_MAX;
            exchange.exchange.respond(text.as_bytes()).filter(|_| wanted)
        });
        if response.is_none() && self.exchange.take().is_none() {
            return self.garbled("a challenge after the exchange was cancelled".into());
        }
        out.extend_from_slice(response.as_ref().map_or(&b"*"[..], |response| response.as_bytes()));
        out.extend_from_slice(b"\r\n");
        self.sent.push_back(Command::Auth);
    }
}
