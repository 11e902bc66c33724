//! The authentication exchanges of SMTP AUTH (RFC 4954, RFC 4422), server and client side; no I/O.
//!
//! ```text
//!  client                       Exchange                                    who acts on the step
//!  AUTH PLAIN <base64>   ----> start(Plain, Some(..)) --> Verify(..)        auth checks, 235 or 535
//!  AUTH LOGIN            ----> start(Login, None) ------> Challenge("VXNlcm5hbWU6")     334
//!  <base64 user>         ----> respond(..) -------------> Challenge("UGFzc3dvcmQ6")     334
//!  <base64 password>     ----> respond(..) -------------> Verify(..)
//!  AUTH SCRAM-.. <base64> ---> start(ScramSha256, ..) --> NeedKeys(user)    auth gives keys(..): 334, see `scram`
//!  *                     ----> respond(..) -------------> Cancelled                     501
//! ```
//!
//! Promises: what comes out as [`Credentials`] or as a user name is valid UTF-8, prepared ([`prepare`]), not empty and
//! within [`USER_BYTES_MAX`] and [`PASSWORD_BYTES_MAX`]; whether it is right is for `auth` to say. Base64 is taken strictly
//! (RFC 4954 section 4: padding is at the end and only there; no white space). Every line inside an exchange is a
//! response, also one that looks like a command (`RSET`, `QUIT`). Secrets are wiped when they are dropped and never
//! shown by `Debug`; the line that they came in is the caller's. Nothing here makes random numbers: nonces come from
//! whoever answers, so that an exchange can be repeated in a test.

mod client;
mod exchange;
mod login;
mod mechanism;
mod plain;
mod prepare;
mod scram;

pub use client::{ClientExchange, Terms};
pub use exchange::{Exchange, Proof, Step};
pub use mechanism::{Mechanism, Mechanisms};
pub use prepare::prepare;
pub use scram::{ITERATIONS_MAX, ITERATIONS_MIN, KEY_BYTES, Keys, SALT_BYTES};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// Longest user name or authorization identity, octets of UTF-8 (RFC 4616 section 2 allows this limit).
pub const USER_BYTES_MAX: usize = 255;

/// Longest password, octets of UTF-8. Ours: far more than anybody types, little enough to keep an exchange cheap.
pub const PASSWORD_BYTES_MAX: usize = 1024;

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
