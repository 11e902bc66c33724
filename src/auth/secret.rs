//! The secret from which salts of users that do not exist are made up.
//!
//! A SCRAM server says the salt of a user before anything is proved. Who does not exist, or has no keys, must get one
//! too, and always the same: otherwise asking twice tells who exists (RFC 5802 section 9). So the salt is an HMAC of the
//! name under a secret, which lies beside the users file in `<users file>.scram-secret`:
//!
//! ```text
//!  64 hexadecimal digits, newline
//! ```
//!
//! It is made when it is first needed, by the server or by `penstock user add`; whoever may read the users file may read
//! it. It must be kept, and be the same on all machines that serve the same users: a salt that changes, or differs from
//! machine to machine, is a made-up one.
//!
//! The iteration count and the length of the salt are drawn in the same way among those in use: after `scram_iterations` has
//! changed, users keep theirs until they get a new password, and keys that another server made have salts of its length, so
//! that one count and one length for all others would tell who exists.

use super::users::Shape;
use crate::sasl::{KEY_BYTES, Keys};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use zeroize::Zeroizing;

/// Octets of the secret.
const SECRET_BYTES: usize = 32;

/// Counts the files that this process began to make.
static MADE: AtomicU32 = AtomicU32::new(0);

/// The secret.
pub struct Secret(hmac::Key);

impl Secret {
    /// Reads the secret beside `users_file`, and makes it first if it is not there. Errors, one line with a remedy: it
    /// cannot be read or made, or it is no secret.
    pub fn open(users_file: &Path) -> Result<Secret, String> {
        let path = path(users_file);
        match read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make(&path, users_file).map_err(|error| {
                    let named = path.display();
                    format!("{named} cannot be made: {error}; run penstock user add as the owner of the users file")
                })?;
                Secret::open_made(&path)
            }
            _ => Secret::open_made(&path),
        }
    }

    /// Reads it again, and makes none. Errors: as of [`Secret::open`], and that it is gone.
    pub fn again(users_file: &Path) -> Result<Secret, String> {
        Secret::open_made(&path(users_file))
    }

    /// Is it the same as `other`?
    pub fn is(&self, other: &Secret) -> bool {
        self.part("is", "") == other.part("is", "")
    }

    fn open_made(path: &Path) -> Result<Secret, String> {
        let named = path.display();
        let text = read(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!(
                "{named} is gone; put it back, from a copy or another machine: the next start makes another, and salts that \
                 change tell who exists"
            ),
            _ => format!("{named} cannot be read: {error}; it needs the owner and mode of the users file"),
        })?;
        let octets = parse(&text).ok_or_else(|| {
            let digits = 2 * SECRET_BYTES;
            format!(
                "{} is not {digits} hexadecimal digits; copy it from another machine or move it away",
                path.display()
            )
        })?;
        Ok(Secret(hmac::Key::new(hmac::HMAC_SHA256, &octets[..])))
    }

    /// Keys for `account`, which has none: always the same, and no password fits them.
    pub fn made_up(&self, account: &str, shape: Shape) -> Keys {
        let salt = [self.part("salt\0", account), self.part("more salt\0", account)];
        Keys {
            iterations: shape.iterations,
            salt: salt.as_flattened()[..shape.salt_bytes.min(2 * KEY_BYTES)].into(),
            stored_key: self.part("stored key\0", account),
            server_key: self.part("server key\0", account),
        }
    }

    /// A number for `account`, always the same, by which the shape of its keys is drawn.
    pub fn draw(&self, account: &str) -> u64 {
        let octets = self.part("iterations\0", account);
        octets[..8].iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
    }

    fn part(&self, what: &str, account: &str) -> [u8; KEY_BYTES] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(what.as_bytes());
        context.update(account.as_bytes());
        let mut octets = [0; KEY_BYTES];
        octets.copy_from_slice(context.sign().as_ref());
        octets
    }
}

/// What is wrong with the secret beside `users_file`, with a remedy behind `; `, if it is there and anything is.
pub fn fault(users_file: &Path) -> Option<String> {
    let path = path(users_file);
    path.exists().then(|| Secret::open_made(&path).err()).flatten()
}

/// Where it lies: beside the file itself, if `users_file` is a symbolic link.
pub(super) fn path(users_file: &Path) -> PathBuf {
    let users_file = fs::canonicalize(users_file).unwrap_or_else(|_| users_file.to_owned());
    let mut name = users_file.into_os_string();
    name.push(".scram-secret");
    name.into()
}

fn read(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(4 * SECRET_BYTES));
    fs::File::open(path)?.take(4 * SECRET_BYTES as u64).read_to_end(&mut text)?;
    Ok(text)
}

fn parse(text: &[u8]) -> Option<Zeroizing<[u8; SECRET_BYTES]>> {
    let digits = std::str::from_utf8(text).ok()?.trim_end();
    let mut octets = Zeroizing::new([0; SECRET_BYTES]);
    if digits.len() != 2 * SECRET_BYTES || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, octet) in octets.iter_mut().enumerate() {
        *octet = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(octets)
}

/// Makes it, durably, unless somebody else did meanwhile. Owner, group and mode are those of the users file, but nobody
/// else ever has access.
fn make(path: &Path, users_file: &Path) -> std::io::Result<()> {
    let mut octets = Zeroizing::new([0; SECRET_BYTES]);
    SystemRandom::new().fill(&mut octets[..]).map_err(|_| std::io::Error::other("no random numbers"))?;
    let mut text = Zeroizing::new(octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>());
    text.push('\n');
    // Its own for each that makes one: who is second finds the first one's in place.
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let beside = path.with_extension(format!("secret-{}-{number}.new", std::process::id()));
    let _ = fs::remove_file(&beside);
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = (|| {
        if let Ok(users) = fs::metadata(users_file) {
            let made = new.metadata()?;
            if (made.uid(), made.gid()) != (users.uid(), users.gid()) {
                fchown(&new, Some(users.uid()), Some(users.gid()))?;
            }
            new.set_permissions(Permissions::from_mode(users.mode() & 0o660 | 0o400))?;
        }
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        // A link and not a rename: what is there already stays.
        match fs::hard_link(&beside, path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all(),
        }
    })();
    let _ = fs::remove_file(&beside);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { iterations: 4096, salt_bytes: 16 };

    #[test]
    fn it_is_made_once_and_gives_the_same_salts_again() {
        let directory = tempfile::tempdir().expect("directory");
        let users = directory.path().join("users");
        fs::write(&users, "").expect("written");
        fs::set_permissions(&users, Permissions::from_mode(0o644)).expect("mode");
        let first = Secret::open(&users).expect("made").made_up("anna", SHAPE);
        let again = Secret::open(&users).expect("read").made_up("anna", SHAPE);
        assert_eq!(first, again);
        assert_eq!(fs::metadata(path(&users)).expect("there").mode() & 0o777, 0o640, "others never");
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 2, "nothing else is left");
        let other = Secret::open(&users).expect("read").made_up("ben", SHAPE);
        assert!(first.salt != other.salt && first.salt.len() == SHAPE.salt_bytes);
        // The salt is public, and the keys must not follow from it.
        assert!(first.stored_key != first.server_key && !first.stored_key.starts_with(&first.salt));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&users, &link).expect("linked");
        assert_eq!(Secret::open(&link).expect("read").made_up("anna", SHAPE), first, "it lies beside the file itself");
        fs::remove_file(link).expect("removed");
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 2);
        fs::remove_file(path(&users)).expect("removed");
        assert_ne!(Secret::open(&users).expect("made").made_up("anna", SHAPE).salt, first.salt, "another secret");
    }

    #[test]
    fn two_that_make_it_at_once_have_the_same() {
        let directory = tempfile::tempdir().expect("directory");
        let users = directory.path().join("users");
        let start = std::sync::Barrier::new(8);
        let salts: Vec<_> = std::thread::scope(|scope| {
            let open = || {
                start.wait();
                Secret::open(&users).expect("a secret").made_up("anna", SHAPE).salt.clone()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().expect("joined")).collect()
        });
        assert!(salts.iter().all(|salt| *salt == salts[0]));
    }

    #[test]
    fn what_is_no_secret_is_named_and_left_alone() {
        let directory = tempfile::tempdir().expect("directory");
        let users = directory.path().join("users");
        for text in
            ["", "abc\n", &"g".repeat(64), &"a".repeat(63), &"a".repeat(65), &"\u{e9}".repeat(32), &"+f".repeat(32)]
        {
            fs::write(path(&users), text).expect("written");
            let error = Secret::open(&users).err().expect(text);
            assert!(error.contains("users.scram-secret is not 64 hexadecimal digits"), "{error}");
            assert_eq!(fs::read_to_string(path(&users)).expect("read"), text);
        }
        let error = Secret::open(Path::new("/nonexistent/users")).err().expect("no directory");
        assert!(error.contains("/nonexistent/users.scram-secret cannot be made"), "{error}");
    }
}
