//! What we log in with at a smarthost.
//!
//! The password is read for each connection and kept for as long as that takes to get ready: a new one needs no restart, and
//! a core dump of a quiet relay holds none.

use crate::config;
use crate::services::plain_file;
use crate::smtp::client::Login;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use std::path::Path;
use zeroize::{Zeroize, Zeroizing};

/// Octets of a password's file. More than any password; less than a file that was named by mistake.
const BYTES_MAX: u64 = 1024;
/// Octets of our part of a SCRAM nonce, before base64.
const NONCE_BYTES: usize = 18;

/// User name, password and a fresh nonce. Errors: why there is none, and a remedy.
pub fn read(login: &config::Login) -> Result<Login, String> {
    let password = password(&login.password_file)?;
    let mut nonce = [0; NONCE_BYTES];
    let random = SystemRandom::new().fill(&mut nonce);
    random.map_err(|_| "the system gives no random numbers; look at the kernel's log".to_owned())?;
    let (user, nonce) = (login.username.clone(), STANDARD.encode(nonce));
    Ok(Login { user, password, mechanism: None, nonce, binding: None })
}

/// The only line of `file`, without its end. Errors: why there is none, `; ` and a remedy.
pub fn password(file: &Path) -> Result<Zeroizing<String>, String> {
    let named = file.display();
    let read = plain_file::read(file, BYTES_MAX);
    let read = read.map_err(|error| format!("{named} cannot be read: {error}; name a file with the password"))?;
    let text = String::from_utf8(read).map_err(|error| {
        error.into_bytes().zeroize();
        format!("{named} is not UTF-8; write the password in UTF-8")
    })?;
    let text = Zeroizing::new(text);
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() || line.contains(['\r', '\n', '\0']) {
        return Err(format!("{named} is not one line; write the password there and nothing else"));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_only_line_of_its_file() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("password");
        for (text, found) in [
            (&b"secret"[..], Some("secret")),
            (b"secret\n", Some("secret")),
            (b"two words\r\n", Some("two words")),
            ("schl\u{fc}ssel\n".as_bytes(), Some("schl\u{fc}ssel")),
            (b"", None),
            (b"\n", None),
            (b"one\ntwo\n", None),
            (b"nul\0", None),
            (b"schl\xfcssel\n", None),
            (&[b'x'; BYTES_MAX as usize + 1], None),
        ] {
            std::fs::write(&file, text).expect("written");
            assert_eq!(password(&file).ok().as_deref().map(String::as_str), found, "{}", text.escape_ascii());
        }
        let error = password(&folder.path().join("none")).expect_err("not there");
        assert!(error.contains("none cannot be read") && error.contains("; name a file"), "{error}");
    }

    #[test]
    fn each_connection_has_a_nonce_of_its_own() {
        let folder = tempfile::tempdir().expect("a directory");
        let password_file = folder.path().join("password");
        std::fs::write(&password_file, "secret\n").expect("written");
        let login = config::Login { username: "penstock".into(), password_file };
        let [one, other] = [(); 2].map(|()| read(&login).expect("a login"));
        assert_eq!((one.user.as_str(), one.password.as_str(), one.mechanism), ("penstock", "secret", None));
        assert!(one.nonce != other.nonce && one.nonce.len() == 24 && !one.nonce.contains(','));
    }
}
