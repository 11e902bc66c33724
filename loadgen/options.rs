//! The command line of both sides, checked: what is contradictory is refused here, with one line.

use crate::workload::Template;
use clap::{Args, Parser, Subcommand, ValueEnum};
use penstock::sasl::Mechanism;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Load for a mail-submission server, and a server that takes everything.
#[derive(Debug, Parser)]
#[command(name = "penstock-loadgen", version)]
pub struct Options {
    /// Which side.
    #[command(subcommand)]
    pub side: Side,
}

/// The two sides.
#[derive(Debug, Subcommand)]
pub enum Side {
    /// Send messages and measure. Ends after --messages or --duration, whichever is first; SIGINT and SIGTERM end it
    /// early, a second one at once. What the server accepts it delivers, to whomever its route leads: point the route at
    /// penstock-loadgen sink first.
    Run(Box<Run>),
    /// Take messages and throw them away. Runs until SIGINT or SIGTERM, then prints what came.
    Sink(Sink),
}

/// `penstock-loadgen run`
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// The server: host:port. The first address that the host has is used
    #[arg(long)]
    pub address: String,
    /// Connections at a time
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// Messages on one connection; then QUIT and a new connection
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub messages_per_connection: u32,
    /// Messages to try in all; a session that fails before its first message counts as one. Default, if there is no
    /// --duration: each connection once
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,
    /// Seconds after which no further message is begun
    #[arg(long, value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Octets of each message, as it arrives; 4k and 2M are understood
    #[arg(long, default_value = "4096", value_parser = octets)]
    pub size: u64,
    /// Recipients of each message
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub recipients: u32,
    /// Senders: {N} stands for a number below N, drawn for each message
    #[arg(long, default_value = "student{40000}@example.edu", value_parser = Template::parse)]
    pub from: Template,
    /// Recipients, as --from
    #[arg(long, default_value = "staff{10000}@example.edu", value_parser = Template::parse)]
    pub to: Template,
    /// How TLS starts. No certificate is verified, and no session is resumed: each handshake is a whole one
    #[arg(long, value_enum, default_value_t = RunTls::None)]
    pub tls: RunTls,
    /// Log in as this user, inside TLS only; {N} as in --from, drawn for each connection. Needs --password-file or
    /// --password-env
    #[arg(long, value_parser = Template::parse)]
    pub user: Option<Template>,
    /// The password is the first line of this file
    #[arg(long, requires = "user", conflicts_with = "password_env")]
    pub password_file: Option<PathBuf>,
    /// The password is in this environment variable
    #[arg(long, requires = "user")]
    pub password_env: Option<String>,
    /// How to log in
    #[arg(long, value_enum, default_value_t = LoginMechanism::Plain)]
    pub mechanism: LoginMechanism,
    /// Wait for the reply to each command, also where PIPELINING is offered
    #[arg(long)]
    pub no_pipelining: bool,
    /// Our name in EHLO
    #[arg(long, default_value = "loadgen.example.edu")]
    pub hostname: String,
    /// Seconds to wait for a connection, a handshake or a reply before the session is given up
    #[arg(long, default_value = "60", value_parser = seconds)]
    pub timeout: Duration,
    /// Append a line for each message whose content was sent: outcome, tag, octets, SHA-256, recipients, queue id
    #[arg(long)]
    pub ledger: Option<PathBuf>,
    /// Equal seeds give equal messages and tags. Default: drawn, and shown in the report
    #[arg(long)]
    pub seed: Option<u64>,
    /// Threads, not pinned. Default: one for each processor, at most one for each connection
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Kernel interface
    #[arg(long, value_enum, default_value_t = Io::Auto)]
    pub io: Io,
    /// Report as one line of JSON, times in microseconds
    #[arg(long)]
    pub json: bool,
    /// Exit with 1 when anything went wrong, not only when nothing was accepted
    #[arg(long)]
    pub strict: bool,
}

/// `penstock-loadgen sink`
#[derive(Args, Clone, Debug)]
pub struct Sink {
    /// Where to listen: address:port; port 0 takes a free one, which is printed
    #[arg(long)]
    pub address: SocketAddr,
    /// How TLS starts, with a certificate made on the spot. Any user and password is right
    #[arg(long, value_enum, default_value_t = SinkTls::Offered)]
    pub tls: SinkTls,
    /// Refuse every Nth message after its content with 451
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub reject_every: Option<u64>,
    /// Milliseconds to wait before the reply to the content
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=600_000))]
    pub delay: u64,
    /// Largest message, octets
    #[arg(long, default_value = "100M", value_parser = octets)]
    pub message_bytes_max: u64,
    /// Append a line for each message: received, tag, octets, SHA-256, recipients, queue id
    #[arg(long)]
    pub ledger: Option<PathBuf>,
    /// Our name in the greeting
    #[arg(long, default_value = "sink.example.edu")]
    pub hostname: String,
    /// Threads, each with a listener of its own. Default: one for each processor
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Kernel interface
    #[arg(long, value_enum, default_value_t = Io::Auto)]
    pub io: Io,
}

/// `run --tls`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RunTls {
    /// In the clear
    None,
    /// STARTTLS, or the session fails
    Starttls,
    /// From the first byte
    Implicit,
}

/// `sink --tls`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SinkTls {
    /// STARTTLS is offered
    Offered,
    /// STARTTLS first
    Required,
    /// From the first byte
    Implicit,
}

/// `--mechanism`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoginMechanism {
    /// AUTH PLAIN
    Plain,
    /// AUTH LOGIN
    Login,
}

/// `--io`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Io {
    /// io_uring where it is allowed, else epoll
    Auto,
    /// io_uring, or do not start
    #[value(name = "io_uring")]
    Uring,
    /// epoll
    Epoll,
}

impl Run {
    /// Refuses what contradicts itself. Errors: one line.
    pub fn check(&self) -> Result<(), String> {
        match (&self.user, self.tls, self.password_file.is_some() || self.password_env.is_some()) {
            (Some(_), RunTls::None, _) => {
                Err("--user needs --tls starttls or implicit: no password goes out in the clear".into())
            }
            (Some(_), _, false) => Err("--user needs --password-file or --password-env".into()),
            _ => Ok(()),
        }
    }

    /// The password, if there is a user. Errors: one line.
    pub fn password(&self) -> Result<Option<String>, String> {
        if let Some(path) = &self.password_file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read the password file {}: {error}", path.display()))?;
            return Ok(Some(text.lines().next().unwrap_or_default().into()));
        }
        let Some(name) = &self.password_env else { return Ok(None) };
        std::env::var(name)
            .map(Some)
            .map_err(|_| format!("--password-env {name}: no such variable, or it is not UTF-8"))
    }

    /// Messages to try in all; none: as many as the duration allows.
    pub fn budget(&self) -> Option<u64> {
        let once_each = u64::from(self.connections) * u64::from(self.messages_per_connection);
        self.messages.or(self.duration.is_none().then_some(once_each))
    }
}

impl LoginMechanism {
    /// As the library names it.
    pub fn mechanism(self) -> Mechanism {
        match self {
            LoginMechanism::Plain => Mechanism::Plain,
            LoginMechanism::Login => Mechanism::Login,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && *seconds <= 1e6);
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds, more than 0 and at most 1000000".into())
}

fn octets(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let octets = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    octets.filter(|octets| *octets <= 1 << 32).ok_or_else(|| "expected octets up to 4096M, as 4096, 100k or 5M".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &str) -> Result<Run, String> {
        let words = "penstock-loadgen run --address localhost:25".split(' ').chain(arguments.split_whitespace());
        let options = Options::try_parse_from(words).map_err(|error| error.to_string())?;
        let Side::Run(run) = options.side else { return Err("not run".into()) };
        run.check().map(|()| *run)
    }

    #[test]
    fn a_run_is_always_bounded() {
        let budget = |arguments| run(arguments).expect(arguments).budget();
        assert_eq!(budget("--connections 3 --messages-per-connection 4"), Some(12));
        assert_eq!(budget("--messages 5"), Some(5));
        assert_eq!(budget("--duration 1.5"), None);
        assert_eq!(budget("--duration 1 --messages 9"), Some(9));
    }

    #[test]
    fn sizes_have_units() {
        for (text, size) in [("700", 700), ("4k", 4096), ("5M", 5 << 20)] {
            assert_eq!(run(&format!("--size {text}")).expect(text).size, size);
        }
        for bad in ["4g", "-1", "k", "99999999M"] {
            assert!(run(&format!("--size {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for (arguments, part) in [
            ("--user a", "no password goes out in the clear"),
            ("--user a --tls starttls", "needs --password-file or --password-env"),
            ("--password-env X", "--user"),
            ("--user a --tls implicit --password-env X --password-file f", "cannot be used with"),
            ("--duration 0", "expected seconds"),
            ("--connections 0", "0 is not in"),
            ("--from a{0}@b", "expected one number in braces"),
        ] {
            let error = run(arguments).expect_err(arguments);
            assert!(error.contains(part), "{arguments}: {error}");
        }
        assert!(run("--user a{5} --tls implicit --password-env X --mechanism login --io io_uring").is_ok());
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }
}
