//! The claim: an idle TLS session costs what rustls keeps for it and little more, and holds no buffer.
//!
//! Server and client are this program again, in processes of their own, so that only the server's memory is counted,
//! and nothing of an earlier run. The client opens the sessions, each says one line and gets one back, and then all of
//! them are silent. Shown is how much the server's resident set has grown per session, in the clear and under TLS.
//!
//! Run with `cargo bench --bench idle`; `IDLE_SESSIONS=5000` says how many.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use monoio::net::{TcpListener, TcpStream};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use penstock::net::{Driver, ServerTls, Shared, Stream, TICK, run, server_config, unverified_client_config};
use rustls::pki_types::ServerName;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LINE: &[u8] = b"NOOP idle\r\n";

/// Says to the server process what to serve: "clear" or "tls".
const SERVE: &str = "IDLE_SERVE";

/// Says to the client process whom to call: "127.0.0.1:1234 clear" or "127.0.0.1:1234 tls".
const CALL: &str = "IDLE_CALL";

/// More than a run takes.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    if let Ok(call) = std::env::var(CALL) {
        let (address, mode) = call.split_once(' ').unwrap();
        run(Driver::Epoll, None, hold_sessions(address.parse().unwrap(), mode == "tls")).unwrap();
    } else if let Ok(mode) = std::env::var(SERVE) {
        let config = (mode == "tls").then(certificate);
        let bytes = run(Driver::IoUring, None, serve(config)).unwrap();
        println!("{mode:6} {:6} sessions {bytes:8.0} resident bytes per idle session", sessions());
    } else {
        for mode in ["clear", "tls"] {
            assert!(again().env(SERVE, mode).status().unwrap().success());
        }
    }
}

fn again() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(std::env::args().skip(1));
    command
}

fn sessions() -> usize {
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let default = if is_measured { 2000 } else { 20 };
    std::env::var("IDLE_SESSIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}

fn certificate() -> Arc<ServerTls> {
    let made = rcgen::generate_simple_self_signed(["mail.example.org".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    server_config(&chain, &key).unwrap()
}

/// Serves all sessions of one client process; returns the resident bytes per session while they are idle.
async fn serve(config: Option<Arc<ServerTls>>) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mode = if config.is_some() { "tls" } else { "clear" };
    let call = format!("{} {mode}", listener.local_addr().unwrap());
    let shared = Shared::start();
    let mut client = again().env(CALL, call).stdin(Stdio::piped()).spawn().unwrap();
    let before = resident_bytes();
    let mut tasks = Vec::new();
    for _ in 0..sessions() {
        let socket = listener.accept().await.unwrap().0;
        tasks.push(monoio::spawn(answer(Stream::tcp(socket, shared.clone()), config.clone())));
    }
    // The client ends when all its sessions have had their answer, and it holds them until it is told.
    monoio::time::sleep(Duration::from_secs(2) + 4 * TICK).await;
    assert_eq!(shared.waiting_buffers(), 0, "an idle session holds a buffer");
    let grown = resident_bytes() - before;
    drop(client.stdin.take());
    for task in tasks {
        assert!(task.await, "a session ended early");
    }
    assert!(client.wait().unwrap().success());
    shared.stop();
    grown / sessions() as f64
}

/// One line and its answer, then silence until the client goes. True: that is how it went.
async fn answer(mut stream: Stream, config: Option<Arc<ServerTls>>) -> bool {
    stream.set_deadline(PATIENCE);
    if let Some(config) = config {
        stream.accept_tls(&config).await.unwrap();
    }
    let line = read_line(&mut stream).await;
    stream.write(&mut line.to_vec()).await.unwrap();
    drop(line);
    stream.fill().await.is_ok_and(|count| count == 0)
}

async fn read_line(stream: &mut Stream) -> Vec<u8> {
    let mut line = Vec::new();
    loop {
        // The line may have come with the end of the handshake.
        let fed = stream.feed(|bytes| -> (usize, Option<()>) {
            line.extend_from_slice(bytes);
            (bytes.len(), None)
        });
        fed.unwrap();
        if line.len() >= LINE.len() {
            break;
        }
        assert!(stream.fill().await.unwrap() > 0);
    }
    assert_eq!(line, LINE);
    line
}

/// The client: opens all sessions, and holds them until its standard input ends.
async fn hold_sessions(address: SocketAddr, tls: bool) {
    let shared = Shared::start();
    let config = unverified_client_config();
    let mut held = Vec::new();
    for _ in 0..sessions() {
        let mut stream = Stream::tcp(TcpStream::connect_addr(address).await.unwrap(), Rc::clone(&shared));
        stream.set_deadline(PATIENCE);
        if tls {
            let name = ServerName::try_from("mail.example.org").unwrap();
            stream.connect_tls(config.clone(), name).await.unwrap();
        }
        stream.write(&mut LINE.to_vec()).await.unwrap();
        read_line(&mut stream).await;
        held.push(stream);
    }
    // Nothing else happens on this thread any more, so it may block.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    shared.stop();
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}
