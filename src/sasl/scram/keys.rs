//! What a server keeps of a password for SCRAM, and how both sides compute with it (RFC 5802 section 3).
//!
//! ```text
//!  SaltedPassword = PBKDF2-HMAC-SHA-256(password, salt, i)
//!  ClientKey      = HMAC(SaltedPassword, "Client Key")      StoredKey = SHA-256(ClientKey)
//!  ServerKey      = HMAC(SaltedPassword, "Server Key")
//!  ClientProof    = ClientKey XOR HMAC(StoredKey, AuthMessage)
//!  ServerSignature = HMAC(ServerKey, AuthMessage)
//! ```
//!
//! In the users file (the form of RFC 5803, which other servers write too):
//!
//! ```text
//!  SCRAM-SHA-256$<i>:<salt>$<StoredKey>:<ServerKey>         all three in base64
//! ```
//!
//! Whoever reads these keys can pretend to be this server to that user, and can try passwords at 2 i HMACs each: far
//! cheaper than against argon2id. Hence they are kept only where the operator asks for it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use std::fmt;
use std::num::NonZeroU32;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// Octets of SHA-256.
pub const KEY_BYTES: usize = 32;
/// Fewest iterations (RFC 7677 section 4).
pub const ITERATIONS_MIN: u32 = 4096;
/// Most iterations that we store or, as a client, compute: some 0.3 s. A server could otherwise keep us busy for hours.
pub const ITERATIONS_MAX: u32 = 600_000;
/// Salt of new keys, octets.
pub const SALT_BYTES: usize = 16;
/// Longest salt that we take, octets.
pub const SALT_BYTES_MAX: usize = 64;

/// The scheme's name in a users file.
const SCHEME: &str = "SCRAM-SHA-256$";

/// A server's keys of one user. `Debug` shows none of them; the memory is wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// Iterations, [`ITERATIONS_MIN`] to [`ITERATIONS_MAX`].
    pub iterations: u32,
    /// Not secret; 1 to [`SALT_BYTES_MAX`] octets.
    pub salt: Box<[u8]>,
    /// What a proof is checked against.
    pub stored_key: [u8; KEY_BYTES],
    /// What shows the client that we are who we are.
    pub server_key: [u8; KEY_BYTES],
}

impl Keys {
    /// Derives the keys of `password`, which is prepared already. Takes tens of milliseconds: never on a core.
    pub fn derive(password: &str, salt: &[u8], iterations: u32) -> Keys {
        let salted = salted_password(password, salt, iterations);
        Keys {
            iterations,
            salt: salt.into(),
            stored_key: stored_key(&client_key(&salted)),
            server_key: sign(&salted[..], b"Server Key"),
        }
    }

    /// From a users file. Errors: what is wrong, without the keys.
    pub fn parse(text: &str) -> Result<Keys, String> {
        let body = text.strip_prefix(SCHEME).ok_or(format!("the SCRAM keys do not start with {SCHEME}"))?;
        let parts: Vec<&str> = body.split([':', '$']).collect();
        let [iterations, salt, stored_key, server_key] = parts[..] else {
            return Err(format!("the SCRAM keys are not of the form {SCHEME}iterations:salt$key:key"));
        };
        let iterations = iterations.parse().ok().filter(|count| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(count));
        let salt = decode_at_most(salt, SALT_BYTES_MAX).filter(|salt| !salt.is_empty());
        let key = |text, what: &str| {
            let key = decode_at_most(text, KEY_BYTES).and_then(|key| <[u8; KEY_BYTES]>::try_from(&key[..]).ok());
            key.ok_or(format!("the {what} of the SCRAM keys is not {KEY_BYTES} octets of base64"))
        };
        Ok(Keys {
            iterations: iterations
                .ok_or(format!("the SCRAM keys have no iteration count of {ITERATIONS_MIN} to {ITERATIONS_MAX}"))?,
            salt: salt.ok_or(format!("the salt of the SCRAM keys is not 1 to {SALT_BYTES_MAX} octets of base64"))?[..]
                .into(),
            stored_key: key(stored_key, "first key")?,
            server_key: key(server_key, "second key")?,
        })
    }

    /// As a users file has them.
    pub fn print(&self) -> Zeroizing<String> {
        let [salt, stored_key, server_key] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|octets| STANDARD.encode(octets));
        Zeroizing::new(format!("{SCHEME}{}:{salt}${stored_key}:{server_key}", self.iterations))
    }

    /// Does `proof` show that the client knows the password?
    pub(super) fn is_proof(&self, proof: &[u8; KEY_BYTES], auth_message: &[u8]) -> bool {
        let client_key = Zeroizing::new(xor(proof, &sign(&self.stored_key, auth_message)));
        stored_key(&client_key).ct_eq(&self.stored_key).into()
    }

    /// What shows the client that we know it too.
    pub(super) fn signature(&self, auth_message: &[u8]) -> [u8; KEY_BYTES] {
        sign(&self.server_key, auth_message)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stored_key.zeroize();
        self.server_key.zeroize();
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys(i={})", self.iterations)
    }
}

/// A client's proof, and the signature by which the server is to show that it knows the password too.
pub(super) fn prove(
    password: &str,
    salt: &[u8],
    iterations: u32,
    auth_message: &[u8],
) -> ([u8; KEY_BYTES], [u8; KEY_BYTES]) {
    let salted = salted_password(password, salt, iterations);
    let client_key = client_key(&salted);
    let proof = xor(&client_key, &sign(&stored_key(&client_key), auth_message));
    let server_key = Zeroizing::new(sign(&salted[..], b"Server Key"));
    (proof, sign(&server_key[..], auth_message))
}

fn salted_password(password: &str, salt: &[u8], iterations: u32) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut salted = Zeroizing::new([0; KEY_BYTES]);
    let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut salted[..]);
    salted
}

fn client_key(salted: &[u8; KEY_BYTES]) -> Zeroizing<[u8; KEY_BYTES]> {
    Zeroizing::new(sign(salted, b"Client Key"))
}

fn stored_key(client_key: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    octets(digest::digest(&digest::SHA256, client_key).as_ref())
}

fn sign(key: &[u8], message: &[u8]) -> [u8; KEY_BYTES] {
    octets(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref())
}

fn octets(of: &[u8]) -> [u8; KEY_BYTES] {
    let mut octets = [0; KEY_BYTES];
    octets.copy_from_slice(of);
    octets
}

fn xor(one: &[u8; KEY_BYTES], other: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    std::array::from_fn(|at| one[at] ^ other[at])
}

/// Strict base64 of at most `bytes_max` octets; the length is looked at first.
pub(super) fn decode_at_most(text: &str, bytes_max: usize) -> Option<Zeroizing<Vec<u8>>> {
    if text.len() > bytes_max.div_ceil(3) * 4 {
        return None;
    }
    super::super::decode(text.as_bytes()).filter(|octets| octets.len() <= bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_print_and_parse() {
        let keys = Keys::derive("pencil", b"0123456789abcdef", 4096);
        let printed = keys.print();
        assert!(printed.starts_with("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$"), "{}", *printed);
        assert_eq!(Keys::parse(&printed), Ok(keys.clone()));
        assert_ne!(keys.stored_key, keys.server_key);
        assert_eq!(format!("{keys:?}"), "Keys(i=4096)");
    }

    #[test]
    fn keys_made_by_postgresql() {
        // CREATE ROLE .. PASSWORD 'pencil' with the salt and the count of RFC 7677 section 3.
        let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        let keys = Keys::parse(text).expect("keys");
        assert_eq!(keys, Keys::derive("pencil", &keys.salt, 4096));
        assert_eq!(keys.print().as_str(), text);
    }

    #[test]
    fn a_salt_has_at_most_64_octets() {
        for (salt, taken) in [(vec![7; 64], true), (vec![7; 65], false)] {
            assert_eq!(Keys::parse(&Keys::derive("pencil", &salt, 4096).print()).is_ok(), taken);
        }
    }

    #[test]
    fn mistakes_are_named_without_the_keys() {
        let good = Keys::derive("pencil", b"salt", 4096).print().to_string();
        for (text, part) in [
            (String::new(), "do not start"),
            (good.replace("SCRAM-SHA-256$", "SCRAM-SHA-1$"), "do not start"),
            (good.replace("4096", "4095"), "iteration count"),
            (good.replace("4096", "600001"), "iteration count"),
            (good.replace("4096", "99999999999"), "iteration count"),
            (good.replace("c2FsdA==", ""), "salt"),
            (good.replace("c2FsdA==", "c2FsdA"), "salt"),
            (good.replace("c2FsdA==", &"AAAA".repeat(22)), "salt"),
            (good[..good.len() - 2].into(), "second key"),
            (format!("{good}:"), "form"),
            (good.rsplit_once(':').expect("keys").0.into(), "form"),
        ] {
            let error = Keys::parse(&text).expect_err(&text);
            assert!(error.contains(part) && error.len() < 100, "{text}: {error}");
        }
    }
}
