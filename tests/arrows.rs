//! The arrows of the house: who may import whom, and which rooms must not know the world.
//!
//! A room is a directory or file right under `src/`, and `loadgen/`. Every `crate::room` and `penstock::room` in its code
//! (not in comments, not in `#[cfg(test)]` modules, which may reach anywhere) is held against [`ARROWS`], and the code
//! of the rooms in [`PURE`] against [`WORLD`].
//!
//! To mend a failure: it names file, line and what is forbidden there. Usually the code stands in the wrong room, or a
//! driver decides something that a core should: pass a value in instead of importing the room. If the house itself has
//! changed, change the table here, the one in `src/lib.rs` and say why in the commit.

use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom. `*`: all. A finer entry, such as `spool::QueueId`, allows just that.
const ARROWS: &[(&str, &[&str])] = &[
    // What may stand in an address or a field is what may stand in a log line.
    ("smtp", &["sasl", "policy", "message", "log::is_dangerous"]),
    ("sasl", &[]),
    ("message", &["log::is_dangerous"]),
    ("policy", &[]),
    ("auth", &["sasl", "policy", "services", "config", "log", "clock"]),
    ("spool", &["smtp::envelope", "smtp::Envelope", "net::Driver", "log", "metrics", "clock"]),
    (
        "relay",
        &[
            "net", "spool", "message", "smtp", "sasl", "policy", "services", "trace", "config", "log", "metrics",
            "clock", "shares",
        ],
    ),
    // Certificates and keys are read as the users file is: bounded, and never from what could keep the reader waiting.
    ("net", &["log", "services::plain_file"]),
    (
        "server",
        &["net", "spool", "auth", "policy", "message", "smtp", "sasl", "services", "config", "log", "metrics", "clock"],
    ),
    ("services", &["config", "log", "metrics", "shares"]),
    ("control", &["relay", "spool", "smtp::envelope", "trace", "auth::users::Names", "config", "log", "clock"]),
    ("trace", &["smtp::envelope", "spool::QueueId", "log", "clock"]),
    ("config", &["policy", "sasl::Mechanism", "sasl::Mechanisms", "log"]),
    ("log", &[]),
    ("clock", &[]),
    ("metrics", &["log"]),
    ("shares", &[]),
    ("appliance", &["*"]),
    ("admin", &["*"]),
    ("main", &["*"]),
    ("loadgen", &["net", "smtp", "sasl", "message", "spool", "policy", "clock"]),
    ("lib", &[]),
];

/// Rooms that take bytes and answer with values.
const PURE: &[&str] = &["smtp", "sasl", "policy", "message"];

/// What they must not touch. (`std::net::IpAddr` is a value, `std::time::Duration` too.)
const WORLD: &[&str] = &[
    "std::fs",
    "std::io",
    "std::thread",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::atomic",
    "std::env",
    "std::process",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "Zoned::now",
    "monoio",
    "tokio",
    "nix::",
    "socket2",
    "io_uring",
    "rustls",
    "unsafe ",
    "async fn",
    ".await",
];

#[test]
fn every_import_follows_the_arrows() {
    let mut wrong = Vec::new();
    let files = sources();
    assert!(files.len() > 20, "only {} source files found", files.len());
    for (room, path, text) in &files {
        for (line, what) in forbidden(room, text) {
            wrong.push(format!("{}:{line}: {room} must not use {what}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n(how to mend it: head of tests/arrows.rs)", wrong.join("\n"));
}

/// A test that finds nothing proves nothing: each kind of forbidden line is found, and honest lines are not.
#[test]
fn forbidden_lines_are_found() {
    for (room, text) in [
        ("smtp", "use crate::server::Core;"),
        ("smtp", "use crate::{policy::Role, spool::Writer};"),
        ("smtp", "    let now = Instant::now();"),
        ("smtp", "let id = crate::spool::QueueId(1);"),
        ("sasl", "use std::net::TcpStream;"),
        ("message", "use std::{fmt, fs};"),
        ("policy", "unsafe { x() }"),
        ("server", "use crate::relay::Queue;"),
        ("relay", "use crate::server::listener;"),
        ("spool", "use crate::smtp::Session;"),
        ("spool", "use crate::smtp::{Envelope, session::Session};"),
        ("spool", "use crate::{\n    log,\n    relay::Queue,\n};"),
        ("net", "pub fn f(x: crate::smtp::Session) {}"),
        ("loadgen", "use penstock::server::Core;"),
        ("smtp", "use super::super::server::Core;"),
        ("newcomer", "use crate::log;"),
    ] {
        assert!(!forbidden(room, text).is_empty(), "{room}: {text}");
    }
    for (room, text) in [
        ("smtp", "use crate::policy::{Role, TlsMode};"),
        ("smtp", "//! use crate::server::Core;\n/// [`crate::spool`] says so\nlet x = 1; // crate::spool"),
        ("smtp", "#[cfg(test)]\nmod tests {\n    use crate::spool::Writer;\n}"),
        ("smtp", "use std::net::Ipv4Addr;\nuse std::fmt;\nuse std::sync::Arc;"),
        ("spool", "use crate::smtp::envelope::{Envelope, View};\nuse crate::smtp::Envelope;"),
        ("server", "use crate::{log, net::Stream, spool::Writer};"),
        ("main", "penstock::admin::run(); unsafe { x() }"),
        ("smtp", "let text = \"crate::server\";"),
        ("loadgen", "use crate::ledger::Ledger;\nuse penstock::smtp::Client;"),
    ] {
        assert_eq!(forbidden(room, text), [], "{room}: {text}");
    }
}

/// Line and name of what `room` must not use.
fn forbidden(room: &str, text: &str) -> Vec<(usize, String)> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
        return vec![(1, "anything: the room is not in the table".into())];
    };
    let code = code_only(text);
    let mut found = Vec::new();
    for (line, path) in paths(&code, room) {
        let own = path.first().is_some_and(|first| first == room);
        if !own && !allowed.iter().any(|entry| covers(entry, &path)) {
            found.push((line, path.join("::")));
        }
    }
    if PURE.contains(&room) {
        found.extend(worldly(&code));
    }
    found
}

fn covers(entry: &str, path: &[String]) -> bool {
    entry == "*" || entry.split("::").enumerate().all(|(at, part)| path.get(at).is_some_and(|name| name == part))
}

/// What [`WORLD`] has that the code mentions; imports in braces are looked at spelled out.
fn worldly(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in code.lines().enumerate() {
        for word in WORLD.iter().filter(|word| line.contains(**word)) {
            found.push((index + 1, word.to_string()));
        }
    }
    for (at, _) in code.match_indices("std::{") {
        for path in tree(&code[at..]) {
            let path = path.join("::");
            if WORLD.iter().any(|word| path.starts_with(word)) {
                found.push((line_of(code, at), path));
            }
        }
    }
    found
}

/// All paths that start with `crate::` or `penstock::` (that prefix left out), with their lines; braces spelled out. In a
/// binary `crate::` is the binary itself.
fn paths(code: &str, room: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let binary = room == "loadgen";
    let prefixes: &[&str] = if binary { &["penstock::"] } else { &["crate::", "penstock::", "super::super::"] };
    for &prefix in prefixes {
        for (at, _) in code.match_indices(prefix) {
            // `super::super::` leaves a room only from depth one; deeper ones are resolved by looking at the name.
            let behind = &code[at + prefix.len()..];
            let begins = code[..at].chars().next_back().is_none_or(|before| !is_name(before) && before != ':');
            if !begins {
                continue;
            }
            let known =
                |path: &[String]| path.first().is_some_and(|first| ARROWS.iter().any(|(room, _)| first == room));
            for path in tree(behind) {
                if prefix != "super::super::" || known(&path) {
                    found.push((line_of(code, at), path));
                }
            }
        }
    }
    found
}

/// The paths of a use tree at the start of `text`: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn tree(text: &str) -> Vec<Vec<String>> {
    let mut rest = text;
    let mut prefix = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(inside) = rest.strip_prefix('{') {
            let branches = branches(inside).into_iter().flat_map(tree);
            return branches.map(|branch| prefix.iter().cloned().chain(branch).collect()).collect();
        }
        let end = rest.find(|letter| !is_name(letter)).unwrap_or(rest.len());
        prefix.push(rest[..end].to_owned());
        match rest[end..].strip_prefix("::") {
            Some(behind) if end > 0 => rest = behind,
            _ => return vec![prefix],
        }
    }
}

/// The comma-separated parts up to the brace that closes `text`.
fn branches(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth == 0 => {
                found.push(&text[start..at]);
                start = at + 1;
            }
            '}' => {
                found.push(&text[start..at]);
                break;
            }
            _ => {}
        }
    }
    found.retain(|branch| !branch.trim().is_empty());
    found
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '*'
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The text without comments, without what is quoted, and without the test module at its end; lines stay in place.
fn code_only(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        if line.starts_with("#[cfg(test)]") && !next_is_file(text, line) {
            break;
        }
        code.push_str(&without_quotes(line));
        code.push('\n');
    }
    code
}

/// `#[cfg(test)] mod tests;`: the tests are in a file of their own and code follows here.
fn next_is_file(text: &str, line: &str) -> bool {
    let behind = &text[text.find(line).unwrap_or(0) + line.len()..];
    let next = behind.trim_start().lines().next().unwrap_or("");
    !next.starts_with("mod ") || next.ends_with(';')
}

fn without_quotes(line: &str) -> String {
    let line = line.split("//").next().unwrap_or("");
    line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

/// Room, path and text of every source file; test files beside the code are left out.
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    collect(&root.join("loadgen"), &mut files);
    let mut sources = Vec::new();
    for path in files {
        if path.file_name().is_some_and(|name| name == "tests.rs")
            || path.components().any(|part| part.as_os_str() == "tests")
        {
            continue;
        }
        let inside = path.strip_prefix(root).expect("found under it");
        let mut parts = inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
        let first = parts.next().expect("src or loadgen");
        let room = if first == "loadgen" { first } else { parts.next().expect("a file in src") };
        let text = fs::read_to_string(&path).expect("source is readable");
        sources.push((room.trim_end_matches(".rs").to_owned(), inside.to_owned(), text));
    }
    sources
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a source directory") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
