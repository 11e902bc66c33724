//! Client side of a SCRAM exchange.

use super::BINDING;
use super::keys::{ITERATIONS_MAX, ITERATIONS_MIN, KEY_BYTES, decode_at_most, prove};
use super::message::{self, ServerFirst};
use crate::sasl::{Mechanism, Terms};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Longest salt of a server, octets.
const SALT_BYTES_MAX: usize = 256;

/// Client side of a SCRAM exchange: the messages, decoded.
pub(in crate::sasl) struct ScramClient {
    password: Zeroizing<String>,
    nonce: String,
    gs2_header: String,
    /// What -PLUS binds to; else empty.
    binding: Box<[u8]>,
    /// The first message without the gs2 header: part of what is signed.
    bare: String,
    state: State,
}

enum State {
    /// The first message was not sent: it was too long for the AUTH line.
    Unsent,
    /// The server's first message is next.
    First,
    /// Its final message, which must show this.
    Final([u8; KEY_BYTES]),
    /// It has shown that it knows the password too.
    Verified,
    Over,
}

impl ScramClient {
    /// `user` and `password` are prepared.
    pub fn new(mechanism: Mechanism, user: &str, password: Zeroizing<String>, terms: &Terms<'_>) -> ScramClient {
        let plus = mechanism == Mechanism::ScramSha256Plus;
        let gs2_header = match (plus, terms.binding) {
            (true, _) => format!("p={BINDING},,"),
            (false, Some(_)) => "y,,".to_owned(),
            (false, None) => "n,,".to_owned(),
        };
        ScramClient {
            password,
            nonce: terms.nonce.to_owned(),
            gs2_header,
            binding: terms.binding.filter(|_| plus).unwrap_or_default().into(),
            bare: format!("n={},r={}", message::escape(user), terms.nonce),
            state: State::Unsent,
        }
    }

    /// The first message. It goes on the AUTH line, and then [`Self::first_is_sent`], or answers an empty challenge.
    pub fn first(&self) -> String {
        format!("{}{}", self.gs2_header, self.bare)
    }

    /// It went on the AUTH line.
    pub fn first_is_sent(&mut self) {
        self.state = State::First;
    }

    /// What answers a message of the server. None: it is not of the form, asks for too much or too little, or shows that
    /// the server does not know the password.
    pub fn answer(&mut self, challenge: &[u8]) -> Option<String> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Unsent if challenge.is_empty() => {
                self.state = State::First;
                Some(self.first())
            }
            State::First => self.last(challenge),
            State::Final(expected) => {
                let signature = decode_at_most(message::server_signature(challenge)?, KEY_BYTES)?;
                bool::from(signature[..].ct_eq(&expected)).then(|| {
                    self.state = State::Verified;
                    String::new()
                })
            }
            _ => None,
        }
    }

    /// Has the server shown that it knows the password? Only then a success is one (RFC 5802 section 5).
    pub fn is_verified(&self) -> bool {
        matches!(self.state, State::Verified)
    }

    fn last(&mut self, challenge: &[u8]) -> Option<String> {
        let first = ServerFirst::parse(challenge)?;
        let extends = first.nonce.len() > self.nonce.len() && first.nonce.starts_with(&self.nonce);
        if !extends || !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&first.iterations) {
            return None;
        }
        let salt = decode_at_most(first.salt, SALT_BYTES_MAX).filter(|salt| !salt.is_empty())?;
        let channel = STANDARD.encode([self.gs2_header.as_bytes(), &self.binding].concat());
        let without_proof = format!("c={channel},r={}", first.nonce);
        let server_first = std::str::from_utf8(challenge).ok()?;
        let auth_message = format!("{},{server_first},{without_proof}", self.bare);
        let (proof, signature) = prove(&self.password, &salt, first.iterations, auth_message.as_bytes());
        self.state = State::Final(signature);
        Some(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }
}
