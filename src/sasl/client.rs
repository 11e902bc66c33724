//! Client side of an exchange: what goes on the AUTH line and what answers each 334.

use super::{Mechanism, decode, plain, prepare};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use zeroize::Zeroizing;

/// Longest AUTH command, octets with CRLF: a longer initial response must wait for its 334 (RFC 4954 section 4).
const COMMAND_BYTES_MAX: usize = 512;

/// Client side: the base64 lines to send. `Debug` shows none of them; the memory is wiped on drop.
pub struct ClientExchange {
    /// What is still to be sent, decoded; the next one last.
    unsent: Vec<Zeroizing<Vec<u8>>>,
}

impl ClientExchange {
    /// A client exchange; the first value is the initial response to put on the AUTH line, if the mechanism has one and
    /// it fits there. The text is prepared (RFC 4616 section 2) where it can be and sent as given where it cannot: then
    /// the server is to say no.
    pub fn start(mechanism: Mechanism, user: &str, password: &str) -> (ClientExchange, Option<String>) {
        let user = Zeroizing::new(prepare(user).unwrap_or_else(|| user.to_owned()));
        let password = Zeroizing::new(prepare(password).unwrap_or_else(|| password.to_owned()));
        let mut exchange = ClientExchange { unsent: Vec::with_capacity(2) };
        match mechanism {
            Mechanism::Plain => {
                let message = plain::message(&user, &password);
                let initial = STANDARD.encode(&message);
                if "AUTH PLAIN \r\n".len() + initial.len() <= COMMAND_BYTES_MAX {
                    return (exchange, Some(initial));
                }
                exchange.unsent.push(message);
            }
            Mechanism::Login => {
                exchange.unsent.push(Zeroizing::new(password.as_bytes().to_vec()));
                exchange.unsent.push(Zeroizing::new(user.as_bytes().to_vec()));
            }
        }
        (exchange, None)
    }

    /// The answer to a 334 challenge (base64 text of the server), or none if it makes no sense: the caller then sends
    /// `*`. What a prompt of LOGIN says is not compared, because servers word it differently; its place decides.
    pub fn respond(&mut self, challenge: &[u8]) -> Option<String> {
        decode(challenge)?;
        self.unsent.pop().map(|message| STANDARD.encode(&message))
    }
}

impl fmt::Debug for ClientExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientExchange({} to send)", self.unsent.len())
    }
}
