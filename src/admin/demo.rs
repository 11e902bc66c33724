//! `penstock demo`: a folder with everything in it, served on loopback.
//!
//! ```text
//!  penstock-demo/
//!    penstock.toml     a real configuration: `penstock serve --config` takes it as well
//!    certificate.pem, key.pem    self-signed, made at the first start
//!    users, password   the user "demo"; the password in the clear, for its owner only
//!    spool/            what was accepted and is not delivered yet
//!    Maildir/          where everything is delivered to
//! ```
//!
//! Starting again keeps whatever is there.

use super::{complain, say, serve, user};
use crate::config::{self, Config};
use crate::policy::{Role, TlsMode};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Letters and digits that cannot be mistaken for one another: 5 bits each.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Length of the password: 80 bits.
const PASSWORD_LETTERS: usize = 16;
const USER: &str = "demo";
/// Of the roles smtp and submission and of submission by TLS, without an offset.
const PORTS: [u16; 3] = [2525, 2587, 2465];

/// Serves the demo in `directory` until a signal ends it. `port_offset` is added to 2525, 2587 and 2465; if it is given,
/// the configuration is written anew.
pub fn demo(directory: &Path, port_offset: Option<u16>) -> ExitCode {
    match prepare(directory, port_offset) {
        // A reader who has gone does not end the demo.
        Ok((file, greeting)) => serve::serve(&file, || _ = say(&greeting)),
        Err(error) => {
            complain(&format!("penstock: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Makes what is missing in the folder. Returns the configuration file and what to tell the reader.
fn prepare(directory: &Path, port_offset: Option<u16>) -> Result<(PathBuf, String), String> {
    let failed = |error| format!("{}: {error}; name another folder with --directory", directory.display());
    // There will be mail in it.
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let directory = fs::canonicalize(directory).map_err(failed)?;
    let file = directory.join("penstock.toml");
    is_not_running(&directory)?;
    if port_offset.is_some() || !file.exists() {
        fs::write(&file, configuration(port_offset.unwrap_or(0))).map_err(failed)?;
    }
    for part in ["tmp", "new", "cur"] {
        fs::create_dir_all(directory.join("Maildir").join(part)).map_err(failed)?;
    }
    let config = config::load(&file).map_err(|notices| notices.to_string())?.config;
    ports_are_free(&config, &directory)?;
    let password = password(&directory.join("password")).map_err(failed)?;
    add_user(&config, &password)?;
    Ok((file, greeting(&directory, &config, &password)))
}

/// Nothing in the folder may be changed under a demo that runs there. The spool's lock tells.
fn is_not_running(directory: &Path) -> Result<(), String> {
    let Ok(lock) = fs::File::open(directory.join("spool/lock")) else { return Ok(()) };
    match Flock::lock(lock, FlockArg::LockSharedNonblock) {
        Err((_, Errno::EWOULDBLOCK)) => Err(format!(
            "a demo runs in {} already: stop it, or start a second one beside it with {}",
            directory.display(),
            other_demo(directory)
        )),
        _ => Ok(()),
    }
}

fn configuration(port_offset: u16) -> String {
    let port = |port: u16| port + port_offset;
    format!(
        r#"# Written by `penstock demo`. It is a real configuration: penstock serve --config penstock.toml
# All keys, with their defaults and reasons: penstock config example

hostname = "localhost"
local_domains = ["localhost"]
cores = 1

[spool]
directory = "spool"
segment_mib = 8
reserve_mib = 16

[tls]
certificate = "certificate.pem"
key = "key.pem"
self_signed = true

[auth]
users_file = "users"
domain = "localhost"

[limits]
connections_per_core = 200
# Everybody here has the same address.
connections_per_address = 200

[[listener]]
address = "127.0.0.1:{smtp}"
role = "smtp"
tls = "offered"

[[listener]]
address = "127.0.0.1:{submission}"
role = "submission"
tls = "required"

[[listener]]
address = "127.0.0.1:{submissions}"
role = "submission"
tls = "implicit"

[relay]

# Everything is delivered here, whatever its recipient.
[[relay.route]]
maildir = "Maildir"
"#,
        smtp = port(PORTS[0]),
        submission = port(PORTS[1]),
        submissions = port(PORTS[2]),
    )
}

/// A demo port that is taken is the mistake most likely to be made, and its remedy is the demo's own.
fn ports_are_free(config: &Config, directory: &Path) -> Result<(), String> {
    for listener in &config.listeners {
        if let Err(error) = TcpListener::bind(listener.address) {
            let remedy = "stop the program that listens there, or take other ports and another folder";
            return Err(format!("cannot listen on {}: {error}; {remedy}: {}", listener.address, other_demo(directory)));
        }
    }
    Ok(())
}

/// The command for a demo beside the one in `directory`, on ports that nobody has at the moment.
fn other_demo(directory: &Path) -> String {
    let are_free = |offset: &u16| PORTS.iter().all(|port| TcpListener::bind(("127.0.0.1", port + offset)).is_ok());
    let offset = (1..=60).map(|thousands| thousands * 1000).find(are_free).unwrap_or(1000);
    let name = if directory.ends_with("other-demo") { "third-demo" } else { "other-demo" };
    format!("penstock demo --port-offset {offset} --directory {name}")
}

/// The password in `file`, made if the file is missing.
fn password(file: &Path) -> std::io::Result<String> {
    match fs::read_to_string(file) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut octets = [0; PASSWORD_LETTERS];
    SystemRandom::new().fill(&mut octets).map_err(|_| std::io::Error::other("the system gave no random octets"))?;
    let password: String = octets.iter().map(|octet| char::from(ALPHABET[usize::from(octet % 32)])).collect();
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    writeln!(file, "{password}")?;
    Ok(password)
}

/// Gives the user the password, unless the users file is there: then its owner may have changed it.
fn add_user(config: &Config, password: &str) -> Result<(), String> {
    match &config.auth {
        Some(auth) if !auth.users_file.exists() => user::add(auth, USER, password).map(|_| ()),
        _ => Ok(()),
    }
}

/// What the reader sees: addresses, the login, commands to paste and where the message arrives.
fn greeting(directory: &Path, config: &Config, password: &str) -> String {
    let mut text = format!("\nThe demo lives in {}\n\n", directory.display());
    for listener in &config.listeners {
        text += &format!("  {}  {}\n", listener.address, describe(listener.role, listener.tls));
    }
    text += &format!("  user {USER}, password {password}\n");
    let submission = config.listeners.iter().find(|listener| listener.tls == TlsMode::Required);
    if let Some(listener) = submission {
        let (port, certificate) = (listener.address.port(), quoted(&config.tls.certificate));
        text += &format!(
            r"
Send a first message: paste this into another terminal,

  printf 'From: demo@localhost\r\nTo: anna@example.edu\r\nSubject: First message\r\n\r\nHello.\r\n' |
    curl --silent --show-error --url smtp://127.0.0.1:{port} --ssl-reqd --cacert {certificate} \
      --user '{USER}:{password}' --mail-from demo@localhost --mail-rcpt anna@example.edu --upload-file -

or, if you have swaks,

  swaks --server 127.0.0.1:{port} --tls --auth PLAIN --auth-user {USER} --auth-password '{password}' \
    --from demo@localhost --to anna@example.edu

and see it arrive:

  ls {maildir}

",
            maildir = quoted(&directory.join("Maildir/new")),
        );
    }
    text + "Stop with Ctrl-C; start again and everything is still there.\n\n"
}

fn describe(role: Role, tls: TlsMode) -> &'static str {
    match (role, tls) {
        (Role::Smtp, TlsMode::Implicit) => "smtp, TLS from the first octet",
        (Role::Smtp, TlsMode::Required) => "smtp, STARTTLS required",
        (Role::Smtp, TlsMode::Offered) => "smtp, STARTTLS offered",
        (Role::Submission, TlsMode::Implicit) => "submission, TLS from the first octet",
        (Role::Submission, TlsMode::Required) => "submission, STARTTLS required",
        (Role::Submission, TlsMode::Offered) => "submission, STARTTLS offered",
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    match text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"/._-".contains(&octet)) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_folder_is_made_once_and_kept() {
        let parent = tempfile::tempdir().expect("a directory");
        let directory = parent.path().join("a demo");
        let offset = free_offset();
        let (file, greeting) = prepare(&directory, Some(offset)).expect("made");
        let password = fs::read_to_string(directory.join("password")).expect("a password").trim().to_owned();
        assert_eq!(password.len(), PASSWORD_LETTERS);
        assert_eq!(fs::metadata(directory.join("password")).expect("a file").permissions().mode() & 0o777, 0o600);
        for part in [&*password, &format!("smtp://127.0.0.1:{}", 2587 + offset), "a demo/Maildir/new'"] {
            assert!(greeting.contains(part), "{part} is not in {greeting}");
        }
        let config = config::load(&file).expect("no mistakes").config;
        let users = user::list(&config.auth.expect("auth")).expect("users");
        assert_eq!(users.iter().map(|user| &*user.name).collect::<Vec<_>>(), [USER]);

        let users = fs::read(directory.join("users")).expect("users");
        fs::write(&file, fs::read_to_string(&file).expect("text") + "# mine\n").expect("written");
        assert_eq!(prepare(&directory, None).expect("again").1, greeting);
        assert_eq!(fs::read(directory.join("users")).expect("users"), users);
        assert!(fs::read_to_string(&file).expect("text").ends_with("# mine\n"));
    }

    #[test]
    fn a_port_that_is_taken_is_named_with_the_remedy() {
        let parent = tempfile::tempdir().expect("a directory");
        let offset = free_offset();
        let _taken = std::net::TcpListener::bind(("127.0.0.1", 2587 + offset)).expect("free");
        let error = prepare(parent.path(), Some(offset)).expect_err("taken");
        assert!(error.contains(&format!("127.0.0.1:{}", 2587 + offset)) && error.contains("--port-offset"), "{error}");
    }

    #[test]
    fn the_advice_is_ports_that_are_free() {
        // Whether it is ours or somebody else's: it is taken.
        let _taken = TcpListener::bind(("127.0.0.1", 2525 + 1000));
        let advice = other_demo(Path::new("/tmp/other-demo"));
        assert!(!advice.contains("--port-offset 1000 ") && advice.ends_with(" --directory third-demo"), "{advice}");
    }

    /// An offset at which the three ports are free now.
    fn free_offset() -> u16 {
        (10_000..20_000)
            .step_by(7)
            .map(|offset| offset + (std::process::id() % 1000) as u16 * 10)
            .find(|offset| {
                [2525, 2587, 2465].iter().all(|port| std::net::TcpListener::bind(("127.0.0.1", port + offset)).is_ok())
            })
            .expect("some ports are free")
    }

    #[test]
    fn paths_are_quoted_for_the_shell() {
        assert_eq!(quoted(Path::new("/tmp/penstock-demo/key.pem")), "/tmp/penstock-demo/key.pem");
        assert_eq!(quoted(Path::new("/tmp/it's")), r"'/tmp/it'\''s'");
    }
}
