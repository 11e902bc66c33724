//! The authentication exchanges of SMTP AUTH (RFC 4954, RFC 4422), server and client side; no I/O.
//!
//! ```text
//!  client                       Exchange                                    who acts on the step
//!  AUTH PLAIN <base64>   ----> start(Plain, Some(..)) --> Verify(..)        auth checks, 235 or 535
//!  AUTH LOGIN            ----> start(Login, None) ------> Challenge("VXNlcm5hbWU6")     334
//!  <base64 user>         ----> respond(..) -------------> Challenge("UGFzc3dvcmQ6")     334
//!  <base64 password>     ----> respond(..) -------------> Verify(..)
//!  *                     ----> respond(..) -------------> Cancelled                     501
//! ```
//!
//! Promises: what comes out as [`Credentials`] is valid UTF-8, prepared ([`prepare`]), not empty and within
//! [`USER_BYTES_MAX`] and [`PASSWORD_BYTES_MAX`]; whether it is right is for `auth` to say. Base64 is taken strictly
//! (RFC 4954 section 4: padding is at the end and only there; no white space). Every line inside an exchange is a
//! response, also one that looks like a command (`RSET`, `QUIT`). Secrets are wiped when they are dropped and never
//! shown by `Debug`; the line that they came in is the caller's.

mod client;
mod login;
mod plain;
mod prepare;

pub use client::ClientExchange;
pub use prepare::prepare;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// Longest user name or authorization identity, octets of UTF-8 (RFC 4616 section 2 allows this limit).
pub const USER_BYTES_MAX: usize = 255;

/// Longest password, octets of UTF-8. Ours: far more than anybody types, little enough to keep an exchange cheap.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// A mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// draft-murchison-sasl-login: obsolete, and what many mail programs and copiers still prefer.
    Login,
}

/// Every mechanism and its name on the wire.
const MECHANISMS: [(Mechanism, &str); 2] = [(Mechanism::Plain, "PLAIN"), (Mechanism::Login, "LOGIN")];

impl Mechanism {
    /// By its name, case-insensitive (RFC 4954 section 4).
    pub fn parse(name: &[u8]) -> Option<Mechanism> {
        MECHANISMS.iter().find(|row| row.1.as_bytes().eq_ignore_ascii_case(name)).map(|row| row.0)
    }

    /// Its name as EHLO and AUTH have it.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
        }
    }
}

/// What a client claims. `Debug` never shows the password; the memory is wiped on drop.
#[derive(PartialEq, Eq)]
pub struct Credentials {
    /// By which mechanism.
    pub mechanism: Mechanism,
    /// The user name as given, valid UTF-8, prepared; 1 to [`USER_BYTES_MAX`] octets.
    pub user: String,
    /// The password, valid UTF-8, prepared, not empty.
    pub password: String,
}

impl Credentials {
    /// From what the client sent, decoded. None: not UTF-8, empty, too long, or text that preparation forbids.
    fn new(mechanism: Mechanism, user: &[u8], password: &[u8]) -> Option<Credentials> {
        let user = prepared(user, USER_BYTES_MAX)?;
        let password = prepared(password, PASSWORD_BYTES_MAX)?;
        Some(Credentials { mechanism, user, password })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?} by {})", self.user, self.mechanism.name())
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}

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
    /// Nothing: the exchange is over.
    Over,
}

/// What follows a line of the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send `334 ` and this text, which is already base64 (may be empty).
    Challenge(&'static str),
    /// Check these.
    Verify(Credentials),
    /// The client said `*`: 501 5.7.0.
    Cancelled,
    /// Not base64, or not of the mechanism's form: 501 5.5.2.
    Malformed,
    /// An authorization identity that is not the user's own: 535 5.7.8 (RFC 4616 section 2).
    OtherIdentity,
}

impl Exchange {
    /// Starts with the initial response as on the wire (base64, `=` for empty) or none.
    pub fn start(mechanism: Mechanism, initial: Option<&[u8]>) -> (Exchange, Step) {
        let state = match mechanism {
            Mechanism::Plain => State::PlainMessage,
            Mechanism::Login => State::LoginUser,
        };
        let mut exchange = Exchange { state };
        let step = match (initial, mechanism) {
            (Some(b"="), _) => exchange.decoded(b""),
            (Some(line), _) => exchange.respond(line),
            (None, Mechanism::Plain) => Step::Challenge(""),
            (None, Mechanism::Login) => Step::Challenge(login::USER_PROMPT),
        };
        (exchange, step)
    }

    /// The client's next line, without CRLF. After any step but `Challenge` the exchange is over.
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

    /// The moves. A malformed message ends the exchange: the client starts again with AUTH.
    fn decoded(&mut self, message: &[u8]) -> Step {
        match std::mem::replace(&mut self.state, State::Over) {
            State::PlainMessage => plain::read(message),
            State::LoginUser => match prepared(message, USER_BYTES_MAX) {
                Some(user) => {
                    self.state = State::LoginPassword { user };
                    Step::Challenge(login::PASSWORD_PROMPT)
                }
                None => Step::Malformed,
            },
            State::LoginPassword { user } => match Credentials::new(Mechanism::Login, user.as_bytes(), message) {
                Some(credentials) => Step::Verify(credentials),
                None => Step::Malformed,
            },
            State::Over => Step::Malformed,
        }
    }
}

/// Octets of a client as prepared text of 1 to `bytes_max` octets.
fn prepared(octets: &[u8], bytes_max: usize) -> Option<String> {
    if octets.len() > bytes_max {
        return None;
    }
    let mut text = prepare(std::str::from_utf8(octets).ok()?)?;
    if text.is_empty() || text.len() > bytes_max {
        text.zeroize();
        return None;
    }
    Some(text)
}

/// Strict base64: the standard alphabet, canonical padding, nothing else.
fn decode(line: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut message = Zeroizing::new(vec![0; base64::decoded_len_estimate(line.len())]);
    let decoded_bytes = STANDARD.decode_slice(line, &mut message).ok()?;
    message.truncate(decoded_bytes);
    Some(message)
}

#[cfg(test)]
mod tests;
