//! Client side of an exchange: what goes on the AUTH line and what answers each 334.

use super::scram::ScramClient;
use super::{Mechanism, decode, plain, prepare};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use zeroize::Zeroizing;

/// Longest AUTH command, octets with CRLF: a longer initial response must wait for its 334 (RFC 4954 section 4).
const COMMAND_BYTES_MAX: usize = 512;

/// What a client must know to authenticate.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// User name.
    pub user: &'a str,
    /// Password.
    pub password: &'a str,
    /// For SCRAM: fresh random text of printable ASCII without a comma, 18 octets or more.
    pub nonce: &'a str,
    /// For SCRAM: the `tls-server-end-point` of the channel (RFC 5929 section 4), if it is known. -PLUS needs it. Given with
    /// SCRAM-SHA-256 it tells the server that we would have bound to the channel, and that it did not offer to.
    pub binding: Option<&'a [u8]>,
}

/// Client side: the base64 lines to send. `Debug` shows none of them; the memory is wiped on drop, theirs too.
pub struct ClientExchange {
    kind: Kind,
}

enum Kind {
    /// What is still to be sent, decoded; the next one last.
    Unsent(Vec<Zeroizing<Vec<u8>>>),
    Scram(Box<ScramClient>),
}

impl ClientExchange {
    /// A client exchange; the second value is the initial response to put on the AUTH line, if the mechanism has one and
    /// it fits there. The text is prepared (RFC 4616 section 2) where it can be and sent as given where it cannot: then
    /// the server is to say no.
    pub fn start(mechanism: Mechanism, terms: &Terms<'_>) -> (ClientExchange, Option<Zeroizing<String>>) {
        let user = Zeroizing::new(prepare(terms.user).unwrap_or_else(|| terms.user.to_owned()));
        let password = Zeroizing::new(prepare(terms.password).unwrap_or_else(|| terms.password.to_owned()));
        match mechanism {
            Mechanism::Plain => {
                let message = plain::message(&user, &password);
                match fitting(mechanism, &message) {
                    Some(initial) => (ClientExchange { kind: Kind::Unsent(Vec::new()) }, Some(initial)),
                    None => (ClientExchange { kind: Kind::Unsent(vec![message]) }, None),
                }
            }
            Mechanism::Login => {
                let unsent = [password, user].map(|text| Zeroizing::new(text.as_bytes().to_vec()));
                (ClientExchange { kind: Kind::Unsent(unsent.into()) }, None)
            }
            Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => {
                let mut scram = ScramClient::new(mechanism, &user, password, terms);
                let initial = fitting(mechanism, scram.first().as_bytes());
                if initial.is_some() {
                    scram.first_is_sent();
                }
                (ClientExchange { kind: Kind::Scram(Box::new(scram)) }, initial)
            }
        }
    }

    /// The answer to a 334 challenge (base64 text of the server), or none if it makes no sense: the caller then sends
    /// `*`. What a prompt of LOGIN says is not compared, because servers word it differently; its place decides.
    pub fn respond(&mut self, challenge: &[u8]) -> Option<Zeroizing<String>> {
        let challenge = decode(challenge)?;
        match &mut self.kind {
            Kind::Unsent(unsent) => unsent.pop().map(|message| encode(&message)),
            Kind::Scram(scram) => scram.answer(&challenge).map(|message| encode(message.as_bytes())),
        }
    }

    /// May a 235 be believed now? With SCRAM only when the server has shown that it knows the password too.
    pub fn may_succeed(&self) -> bool {
        match &self.kind {
            Kind::Unsent(_) => true,
            Kind::Scram(scram) => scram.is_verified(),
        }
    }
}

/// `message` in base64, if the AUTH command with it is not too long.
fn fitting(mechanism: Mechanism, message: &[u8]) -> Option<Zeroizing<String>> {
    let initial = encode(message);
    ("AUTH  \r\n".len() + mechanism.name().len() + initial.len() <= COMMAND_BYTES_MAX).then_some(initial)
}

fn encode(message: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(message))
}

impl fmt::Debug for ClientExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Unsent(unsent) => write!(f, "ClientExchange({} to send)", unsent.len()),
            Kind::Scram(_) => f.write_str("ClientExchange(SCRAM)"),
        }
    }
}
