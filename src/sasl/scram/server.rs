//! Server side of a SCRAM exchange.

use super::BINDING;
use super::keys::{KEY_BYTES, Keys, decode_at_most};
use super::message::{ClientFinal, ClientFirst, Fault, Flag};
use crate::sasl::{Mechanism, Proof, Step, decode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::sync::Arc;

/// Server side of a SCRAM exchange. `Debug` shows no keys.
pub(in crate::sasl) struct ScramServer {
    mechanism: Mechanism,
    /// What -PLUS binds to; none where it is not offered.
    binding: Option<Arc<[u8]>>,
    state: State,
}

/// What the next thing to come is.
enum State {
    /// The client's first message.
    First,
    /// The keys of this user.
    Keys { user: String, nonce: String, gs2_header: String, bare: String },
    /// The client's final message.
    Final { user: String, nonce: String, gs2_header: String, keys: Keys, auth_message: String },
    /// The verdict: the proof was right, and this is our signature.
    Verdict { signature: [u8; KEY_BYTES] },
    /// The client's empty answer to our signature.
    Empty { user: Arc<str> },
    /// Nothing: the exchange is over.
    Over,
}

impl ScramServer {
    pub fn new(mechanism: Mechanism, binding: Option<Arc<[u8]>>) -> ScramServer {
        ScramServer { mechanism, binding, state: State::First }
    }

    /// The client's next message, decoded.
    pub fn message(&mut self, message: &[u8]) -> Step {
        match std::mem::replace(&mut self.state, State::Over) {
            State::First => self.first(message),
            State::Final { user, nonce, gs2_header, keys, auth_message } => {
                let Some(last) = ClientFinal::parse(message) else { return Step::Malformed };
                let channel = decode(last.channel.as_bytes());
                let proof = decode_at_most(last.proof, KEY_BYTES);
                let proof = proof.and_then(|proof| <[u8; KEY_BYTES]>::try_from(&proof[..]).ok());
                let (Some(channel), Some(proof)) = (channel, proof) else { return Step::Malformed };
                let auth_message = [&auth_message, last.without_proof].concat();
                let right = channel[..] == self.channel(&gs2_header)[..]
                    && last.nonce == nonce
                    && keys.is_proof(&proof, auth_message.as_bytes());
                if right {
                    self.state = State::Verdict { signature: keys.signature(auth_message.as_bytes()) };
                }
                Step::Proof(Proof { mechanism: self.mechanism, user, keys: Box::new(keys), right })
            }
            State::Empty { user } if message.is_empty() => Step::Authenticated(user),
            _ => Step::Malformed,
        }
    }

    fn first(&mut self, message: &[u8]) -> Step {
        let first = match ClientFirst::parse(message) {
            Ok(first) => first,
            Err(Fault::Form) => return Step::Malformed,
            Err(Fault::Refused) => return Step::Refused,
        };
        let agrees = match (self.mechanism, first.flag) {
            (Mechanism::ScramSha256Plus, Flag::Binds(name)) => name == BINDING,
            (Mechanism::ScramSha256Plus, _) | (_, Flag::Binds(_)) => false,
            // Somebody took -PLUS out of our EHLO.
            (_, Flag::ServerCannot) => self.binding.is_none(),
            (_, Flag::Cannot) => true,
        };
        if !agrees || first.authzid.is_some_and(|authzid| authzid != first.user) {
            return Step::Refused;
        }
        let [nonce, gs2_header, bare] = [first.nonce, first.gs2_header, first.bare].map(str::to_owned);
        self.state = State::Keys { user: first.user.clone(), nonce, gs2_header, bare };
        Step::NeedKeys(first.user)
    }

    /// The user's keys, or made-up ones, and our part of the nonce: printable ASCII without a comma.
    pub fn keys(&mut self, keys: Keys, our_nonce: &str) -> Step {
        let State::Keys { user, nonce, gs2_header, bare } = std::mem::replace(&mut self.state, State::Over) else {
            return Step::Malformed;
        };
        let nonce = nonce + our_nonce;
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&keys.salt), keys.iterations);
        let challenge = STANDARD.encode(&server_first);
        let auth_message = format!("{bare},{server_first},");
        self.state = State::Final { user, nonce, gs2_header, keys, auth_message };
        Step::Challenge(challenge.into())
    }

    /// The proof was right and nothing else speaks against the user.
    pub fn accepted(&mut self, user: Arc<str>) -> Step {
        let State::Verdict { signature } = std::mem::replace(&mut self.state, State::Over) else {
            return Step::Malformed;
        };
        self.state = State::Empty { user };
        Step::Challenge(STANDARD.encode(format!("v={}", STANDARD.encode(signature))).into())
    }

    /// What `c=` must decode to (RFC 5802 section 7, cbind-input).
    fn channel(&self, gs2_header: &str) -> Vec<u8> {
        let mut channel = gs2_header.as_bytes().to_vec();
        if self.mechanism == Mechanism::ScramSha256Plus {
            channel.extend_from_slice(self.binding.as_deref().unwrap_or_default());
        }
        channel
    }
}

impl fmt::Debug for ScramServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Keys { user, .. } | State::Final { user, .. } => write!(f, "{} of {user:?}", self.mechanism.name()),
            _ => f.write_str(self.mechanism.name()),
        }
    }
}
