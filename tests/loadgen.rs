//! Promise: what `penstock-loadgen run` enters as accepted is what `penstock-loadgen sink` received, octet for octet, in
//! the clear and in TLS, on io_uring and on epoll; and what was refused or lost is called so.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// A sink that is ended when it goes out of scope.
struct Sink {
    child: Child,
    address: String,
    output: BufReader<std::process::ChildStdout>,
}

impl Sink {
    fn start(ledger: &Path, arguments: &[&str]) -> Sink {
        let mut command = Command::new(env!("CARGO_BIN_EXE_penstock-loadgen"));
        command.args(["sink", "--address", "127.0.0.1:0", "--threads", "2", "--ledger"]).arg(ledger).args(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the sink starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a first line");
        let address = line.split(' ').nth(2).unwrap_or_else(|| panic!("no address in {line:?}")).to_string();
        Sink { child, address, output }
    }

    /// Ends it in order; its last line.
    fn stop(mut self) -> String {
        let id = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).expect("a signal");
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("its output");
        assert!(self.child.wait().expect("an end").success());
        rest
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(address: &str, ledger: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock-loadgen"));
    command.args(["run", "--json", "--address", address, "--seed", "7", "--ledger"]).arg(ledger).args(arguments);
    command.env("LOADGEN_PASSWORD", "swordfish").output().expect("the run ends")
}

/// By outcome: tag, octets, checksum, recipients, queue id, sorted.
fn read(ledger: &Path) -> BTreeMap<String, Vec<String>> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in std::fs::read_to_string(ledger).expect("a ledger").lines() {
        let (outcome, rest) = line.split_once('\t').expect("fields");
        lines.entry(outcome.into()).or_default().push(rest.into());
    }
    lines.values_mut().for_each(|lines| lines.sort());
    lines
}

/// Sends with `sent` what a sink with `received` takes; both ledgers.
#[track_caller]
fn both(received: &[&str], sent: &[&str]) -> (Output, [BTreeMap<String, Vec<String>>; 2]) {
    let directory = tempfile::tempdir().expect("a directory");
    let [left, right] = ["sent", "received"].map(|name| directory.path().join(name));
    let sink = Sink::start(&right, received);
    let output = run(&sink.address, &left, sent);
    sink.stop();
    (output, [read(&left), read(&right)])
}

#[test]
fn what_is_accepted_is_what_came() {
    let login = ["--user", "student{9}@example.edu", "--password-env", "LOADGEN_PASSWORD", "--mechanism", "login"];
    for io in ["io_uring", "epoll"] {
        if io == "io_uring" && penstock::net::probe_io_uring().is_err() {
            eprintln!("io_uring is not allowed here: epoll only");
            continue;
        }
        for (tls_here, tls_there) in [("none", "offered"), ("starttls", "required"), ("implicit", "implicit")] {
            for (size, messages) in [("700", 120), ("300k", 10)] {
                let count = messages.to_string();
                let mut arguments = vec!["--messages", &count, "--messages-per-connection", "7", "--size", size];
                arguments.extend(["--strict", "--recipients", "3", "--tls", tls_here, "--io", io]);
                arguments.extend(login.iter().filter(|_| tls_here != "none"));
                let (output, [sent, received]) = both(&["--tls", tls_there, "--io", io], &arguments);
                assert!(output.status.success(), "{io} {tls_here} {size}: {output:?}");
                assert_eq!(sent["accepted"].len(), messages, "{io} {tls_here} {size}");
                assert_eq!(sent.get("accepted"), received.get("received"), "{io} {tls_here} {size}");
                assert_eq!(sent.len(), 1);
            }
        }
    }
}

/// A reader that has gone (`| head -1`) ends nothing by a panic, and is no success.
#[test]
fn a_closed_output_is_said_by_the_status_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(&directory.path().join("received"), &[]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock-loadgen"));
    command.args(["run", "--address", &sink.address, "--messages", "1"]).stdout(writer);
    let output = command.stderr(Stdio::piped()).output().expect("the run ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(1), ""));
    sink.stop();
}

#[test]
fn refusals_are_entered_and_strict_minds_them() {
    let (output, [sent, received]) = both(&["--reject-every", "4"], &["--messages", "40", "--strict"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!((sent["accepted"].len(), sent["refused"].len()), (30, 10));
    assert_eq!(sent["accepted"], received["received"]);
    let text = String::from_utf8(output.stdout).expect("JSON");
    assert!(text.contains(r#""content 451":{"count":10"#), "{text}");
}

/// As a server without room does, and one that has had enough of somebody's mistakes.
#[test]
fn a_server_that_refuses_mail_and_ends_the_session_ends_no_run() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let serving = std::thread::spawn(move || {
        for ending in ["452 4.3.1 no room\r\n421 4.3.2 enough\r\n", "452 4.3.1 no room\r\nnonsense\r\n"] {
            let (stream, _) = listener.accept().expect("a client");
            let (mut lines, mut say) = (BufReader::new(&stream).lines(), &stream);
            say.write_all(b"220 here.example\r\n").expect("said");
            lines.next();
            say.write_all(b"250-here.example\r\n250 PIPELINING\r\n").expect("said");
            lines.by_ref().take(3).for_each(drop);
            say.write_all(ending.as_bytes()).expect("said");
            lines.for_each(drop);
        }
    });
    let directory = tempfile::tempdir().expect("a directory");
    let output = run(&address, &directory.path().join("sent"), &["--messages", "2"]);
    serving.join().expect("served");
    let text = String::from_utf8(output.stdout).expect("JSON");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(r#""refused":2"#) && text.contains(r#""envelope 452":{"count":2"#), "{text}{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_sink_that_dies_leaves_unknown_messages_and_no_false_ones() {
    let directory = tempfile::tempdir().expect("a directory");
    let [left, right] = ["sent", "received"].map(|name| directory.path().join(name));
    // No reply to content comes before the sink dies: up to four messages are in doubt.
    let mut sink = Sink::start(&right, &["--delay", "600000"]);
    let address = sink.address.clone();
    let sender = {
        let left = left.clone();
        std::thread::spawn(move || run(&address, &left, &["--messages", "4", "--connections", "4"]))
    };
    while !left.exists() {
        std::thread::yield_now();
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    sink.child.kill().expect("killed");
    let output = sender.join().expect("no panic");
    assert_eq!(output.status.code(), Some(1), "nothing was accepted: {output:?}");
    let sent = read(&left);
    assert!(!sent.contains_key("accepted"), "{sent:?}");
    assert!(sent.values().flatten().count() <= 4);
}
