//! Server side of an exchange: from a line of the client to what must be done.

use super::scram::{Keys, ScramServer};
use super::{Credentials, Mechanism, USER_BYTES_MAX, decode, login, plain, prepared};
use std::borrow::Cow;
use std::sync::Arc;

/// Server side of one exchange.
#[derive(Debug)]
pub struct Exchange {
    state: State,
}

/// What the next line of the client is.
#[derive(Debug)]
enum State {
    /// The message of PLAIN.
    PlainMessage,
    /// The user name of LOGIN.
    LoginUser,
    /// The password of LOGIN, for this user.
    LoginPassword { user: String },
    /// A message of SCRAM.
    Scram(Box<ScramServer>),
    /// Nothing: the exchange is over.
    Over,
}

/// What follows a line of the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send `334 ` and this text, which is already base64 (may be empty).
    Challenge(Cow<'static, str>),
    /// Check these.
    Verify(Credentials),
    /// Find the SCRAM keys of this user, prepared, or make some up -> [`Exchange::keys`].
    NeedKeys(String),
    /// Decide -> [`Exchange::accepted`], if the proof was right.
    Proof(Proof),
    /// The client has seen our signature: 235 2.7.0.
    Authenticated(Arc<str>),
    /// The client said `*`: 501 5.7.0.
    Cancelled,
    /// Not base64, or not of the mechanism's form: 501 5.5.2.
    Malformed,
    /// An authorization identity that is not the user's own (RFC 4616 section 2), or what RFC 5802 says must fail: 535 5.7.8.
    Refused,
}

/// What came of a client's proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// By which mechanism.
    pub mechanism: Mechanism,
    /// The user name as given, prepared.
    pub user: String,
    /// The keys that it was checked against: the user may have others by now, or none.
    pub keys: Box<Keys>,
    /// Does the client know the password, and did it see the channel and the nonce that we gave it?
    pub right: bool,
}

impl Exchange {
    /// Starts with the initial response as on the wire (base64, `=` for empty) or none. `binding`: what -PLUS binds to, if
    /// it was offered (`tls-server-end-point`).
    pub fn start(mechanism: Mechanism, initial: Option<&[u8]>, binding: Option<Arc<[u8]>>) -> (Exchange, Step) {
        let state = match mechanism {
            Mechanism::Plain => State::PlainMessage,
            Mechanism::Login => State::LoginUser,
            Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => {
                State::Scram(Box::new(ScramServer::new(mechanism, binding)))
            }
        };
        let mut exchange = Exchange { state };
        let step = match (initial, mechanism) {
            (Some(b"="), _) => exchange.decoded(b""),
            (Some(line), _) => exchange.respond(line),
            (None, Mechanism::Login) => Step::Challenge(login::USER_PROMPT.into()),
            (None, _) => Step::Challenge("".into()),
        };
        (exchange, step)
    }

    /// The client's next line, without CRLF. The exchange goes on after `Challenge`, `NeedKeys` and a right `Proof`.
    pub fn respond(&mut self, line: &[u8]) -> Step {
        if line == b"*" {
            self.state = State::Over;
            return Step::Cancelled;
        }
        match decode(line) {
            Some(message) => self.decoded(&message),
            None => {
                self.state = State::Over;
                Step::Malformed
            }
        }
    }

    /// Answers `NeedKeys`: the user's keys or made-up ones, and our part of the nonce.
    pub fn keys(&mut self, keys: Keys, nonce: &str) -> Step {
        match &mut self.state {
            State::Scram(scram) => scram.keys(keys, nonce),
            _ => Step::Malformed,
        }
    }

    /// Answers a right `Proof`: this user, by his canonical name.
    pub fn accepted(&mut self, user: Arc<str>) -> Step {
        match &mut self.state {
            State::Scram(scram) => scram.accepted(user),
            _ => Step::Malformed,
        }
    }

    /// The moves. A malformed message ends the exchange: the client starts again with AUTH.
    fn decoded(&mut self, message: &[u8]) -> Step {
        match std::mem::replace(&mut self.state, State::Over) {
            State::PlainMessage => plain::read(message),
            State::LoginUser => match prepared(message, USER_BYTES_MAX) {
                Some(user) => {
                    self.state = State::LoginPassword { user };
                    Step::Challenge(login::PASSWORD_PROMPT.into())
                }
                None => Step::Malformed,
            },
            State::LoginPassword { user } => match Credentials::new(Mechanism::Login, user.as_bytes(), message) {
                Some(credentials) => Step::Verify(credentials),
                None => Step::Malformed,
            },
            State::Scram(mut scram) => {
                let step = scram.message(message);
                // It ends itself after a step that is the last one.
                self.state = State::Scram(scram);
                step
            }
            State::Over => Step::Malformed,
        }
    }
}
