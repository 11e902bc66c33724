//! `penstock queue`: what is queued, and what is to become of it.
//!
//! ```text
//!  command --Request--> control socket --> running server --lines--> print
//!                  \--> nobody there: the spool is locked and read, for list, show and stats -/
//! ```
//!
//! A server that runs is asked over its socket, and nothing else is tried if that refuses. Of a stopped one only what can be
//! found out without changing anything is answered: what is ordered must be a record of the relay's.

pub mod command;
pub mod print;

use super::{complain, say};
use crate::auth::users::Names;
use crate::clock::now_ms;
use crate::config::{self, Config};
use crate::control::answer::{self, Answering};
use crate::control::request::Request;
use crate::control::socket::connect;
use crate::control::source::{Source, Stopped};
use crate::spool::{NotExamined, examine};
use crate::trace::Traces;
use serde_json::Value;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// What else there is where the configuration cannot be used: for whoever may not read it, and while it has a mistake.
const WITHOUT_CONFIG: &str =
    "a server that runs can be asked without its configuration: --socket PATH, with the path of its control socket";
/// While too many others wait to be asked.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where too many ask at once it is tried so often, with such a pause.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// For the next line of an answer: longer than the server itself looks for one.
const SILENCE_MAX: Duration = Duration::from_secs(660);

/// Where the server, or its spool, is, and how its answer is printed.
#[derive(Clone, Debug, clap::Args)]
pub struct Server {
    /// The configuration, which names the socket and the spool
    #[arg(long, value_name = "FILE", required_unless_present = "socket")]
    config: Option<PathBuf>,
    /// The control socket of a running server, for users who may not read its configuration
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// One JSON object a line, for programs
    #[arg(long)]
    json: bool,
}

/// Asks and prints the answer. Exit status 1: refused, or something could not be done.
pub fn run(server: &Server, request: &Request) -> ExitCode {
    match ask(server, request) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            let lines: Vec<String> = reason.lines().map(print::clean).collect();
            complain(&format!("penstock: {}\n", lines.join("\n")));
            ExitCode::FAILURE
        }
    }
}

/// False: something of it could not be done.
fn ask(server: &Server, request: &Request) -> Result<bool, String> {
    let config = match &server.config {
        Some(file) => Some(read_config(file).map_err(|why| format!("{}\n{WITHOUT_CONFIG}", why.trim_end()))?),
        None => None,
    };
    let socket = match (&server.socket, &config) {
        (Some(socket), _) => socket.clone(),
        (None, Some(config)) => config.control.socket.clone(),
        (None, None) => return Err("say where the server is: --config or --socket".into()),
    };
    let mut printer = print::Printer::new(request, server.json, now_ms());
    let mut out = |line: &Value| say(&printer.line(line));
    let mut tries = 1;
    let mut connected = connect(&socket, PATIENCE);
    while let Ok(stream) = &connected {
        if over(stream, request, tries == TRIES, &mut out)? {
            break;
        }
        tries += 1;
        std::thread::sleep(PAUSE);
        connected = connect(&socket, PATIENCE);
    }
    match (connected, config) {
        (Ok(_), _) => {}
        (Err(error), Some(config)) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            stopped(&config, &socket, request, &mut out)?;
        }
        (Err(error), _) => return Err(unreachable(&socket, &error)),
    }
    match printer.ended() {
        Some(Ok(all_done)) => Ok(all_done),
        Some(Err(reason)) => Err(reason),
        None => Err("the server broke its answer off; its log may say why".into()),
    }
}

/// The text alone counts: files that it names may be unreadable for whoever asks.
fn read_config(file: &Path) -> Result<Config, String> {
    let loaded = config::load(file).map_err(|notices| format!("the configuration has mistakes:\n{notices}"))?;
    Ok(loaded.config)
}

fn unreachable(socket: &Path, error: &std::io::Error) -> String {
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied => {
            "ask as root, as the server's user, or as a member of control.postmaster_group or control.helpdesk_group"
        }
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            "does the server run? with --config its spool is read instead"
        }
        ErrorKind::WouldBlock => "nobody takes connections there, or too many wait; does that server hang?",
        _ => "is this the control socket of a server?",
    };
    format!("{}: {error}; {remedy}", socket.display())
}

/// False: too many ask at once, which `is_last` lets be said.
fn over(
    mut stream: &UnixStream,
    request: &Request,
    is_last: bool,
    out: &mut dyn FnMut(&Value) -> bool,
) -> Result<bool, String> {
    let broken = |error: std::io::Error| match error.kind() {
        ErrorKind::WouldBlock => {
            "the server does not answer; is it a server that listens there? its log may say more".into()
        }
        _ => format!("the control socket: {error}"),
    };
    stream
        .set_read_timeout(Some(SILENCE_MAX))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .map_err(broken)?;
    // Refused at once, the server has not read it; what it said is there all the same.
    let sent = stream.write_all(format!("{}\n", request.to_json()).as_bytes());
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) => return sent.map(|()| true).map_err(broken),
            Ok(_) => {}
            Err(error) => return Err(broken(error)),
        }
        let value: Value =
            serde_json::from_slice(&line).map_err(|error| format!("the server's answer is no JSON: {error}"))?;
        if value["again"] == true && !is_last {
            return Ok(false);
        }
        // Behind the last line there is nothing but the server's close, which may be a reset if it refused unread.
        let ends = value["end"].is_object() || value["error"].is_string();
        if !out(&value) || ends {
            return Ok(true);
        }
    }
}

fn stopped(
    config: &Config,
    socket: &Path,
    request: &Request,
    out: &mut dyn FnMut(&Value) -> bool,
) -> Result<(), String> {
    if let Request::Act { deed, .. } = request {
        let (deed, socket) = (deed.name(), socket.display());
        return Err(format!("nothing listens on {socket}, and {deed} takes a running server; start it first"));
    }
    let directory = &config.spool.directory;
    let examined = examine(directory).map_err(|why| match why {
        NotExamined::InUse => format!(
            "{} is in use, and nothing listens on {}; is that the control socket of the configuration that the server was started with?",
            directory.display(),
            socket.display()
        ),
        NotExamined::Unreadable(reason) => format!("the server does not run, and its spool cannot be read: {reason}"),
    })?;
    complain("penstock: the server does not run; this is what its spool says\n");
    for path in &examined.left_out {
        complain(&format!("penstock: {}: damaged or set aside, messages in it are not shown\n", path.display()));
    }
    let source = Source::Spool(Box::new(Stopped::read(examined, config, now_ms())));
    let names = Names::of(config.auth.as_ref());
    let mut answering = Answering { source, spool: directory.clone(), traces: Traces::off(), names };
    answer::carry_out(&mut answering, None, request, out);
    Ok(())
}
