//! PLAIN (RFC 4616): one message, `[authzid] NUL authcid NUL password`.

use super::{Credentials, Mechanism, Step, USER_BYTES_MAX, prepared};
use zeroize::Zeroizing;

/// Server: what the message claims.
pub(super) fn read(message: &[u8]) -> Step {
    let mut parts = message.split(|&octet| octet == 0);
    let (Some(authzid), Some(user), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Step::Malformed;
    };
    let Some(credentials) = Credentials::new(Mechanism::Plain, user, password) else {
        return Step::Malformed;
    };
    if authzid.is_empty() {
        return Step::Verify(credentials);
    }
    match prepared(authzid, USER_BYTES_MAX) {
        None => Step::Malformed,
        Some(authzid) if authzid == credentials.user => Step::Verify(credentials),
        Some(_) => Step::Refused,
    }
}

/// Client: the message, without an authorization identity.
pub(super) fn message(user: &str, password: &str) -> Zeroizing<Vec<u8>> {
    let mut message = Zeroizing::new(Vec::with_capacity(user.len() + password.len() + 2));
    message.push(0);
    message.extend_from_slice(user.as_bytes());
    message.push(0);
    message.extend_from_slice(password.as_bytes());
    message
}
