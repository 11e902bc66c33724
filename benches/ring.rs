//! The claim: a ring for one thread that takes completions when it asks for them is the cheapest, and our stream with
//! its deadlines, pooled buffers and draining costs little over a bare socket.
//!
//! Ping-pong over loopback: 64 connections, one request and its reply at a time, the same client for every variant.
//! CPU time comes from getrusage: the server thread's own, and the whole process with the client in it. The rounds
//! are interleaved, so that a noisy neighbour hits every variant, and the lowest is shown. Every reply is compared.
//!
//! Run with `cargo bench --bench ring`.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use penstock::net::{Driver, RingFlags, Shared, Stream, run, run_with_flags};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 64;
/// Requests per connection and round.
const REQUESTS: usize = 2000;
const REQUEST_BYTES: usize = 64;
const ROUNDS: usize = 15;

/// What the server is made of.
#[derive(Clone, Copy)]
enum Server {
    Stream(Kernel),
    /// A bare monoio socket that keeps a buffer.
    Bare,
    /// The same, waiting for readiness before each read.
    BareWhenReadable,
}

#[derive(Clone, Copy)]
enum Kernel {
    Ring(RingFlags),
    Epoll,
}

const VARIANTS: [(&str, Server); 6] = [
    ("stream, no flags (baseline)", Server::Stream(Kernel::Ring(RingFlags::None))),
    ("stream, single_issuer + coop_taskrun", Server::Stream(Kernel::Ring(RingFlags::SingleIssuerCoopTaskrun))),
    ("stream, single_issuer + defer_taskrun", Server::Stream(Kernel::Ring(RingFlags::SingleIssuerDeferTaskrun))),
    ("stream, epoll", Server::Stream(Kernel::Epoll)),
    ("bare, single_issuer + defer_taskrun", Server::Bare),
    ("bare, the same, readiness first", Server::BareWhenReadable),
];

fn main() {
    // `cargo test` runs a bench once and briefly, to see that it works.
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let (rounds, requests) = if is_measured { (ROUNDS, REQUESTS) } else { (1, 20) };
    let mut figures = vec![Vec::new(); VARIANTS.len()];
    for _ in 0..rounds {
        for (variant, figures) in VARIANTS.iter().zip(&mut figures) {
            figures.push(measure(variant.1, requests));
        }
    }
    let lows: Vec<(f64, f64)> = figures.iter().map(|figures| lowest(figures)).collect();
    println!("CPU microseconds per request, lowest of {rounds} rounds of {} requests", CONNECTIONS * requests);
    println!("{:40} {:>8} {:>6} {:>8} {:>6}", "", "server", "", "process", "");
    for ((name, _), (server, process)) in VARIANTS.iter().zip(&lows) {
        let (base_server, base_process) = lows[0];
        println!("{name:40} {server:8.2} {:6.2} {process:8.2} {:6.2}", server / base_server, process / base_process);
    }
}

/// CPU microseconds per request: the server thread's, and the process's.
fn measure(server: Server, requests: usize) -> (f64, f64) {
    let before = micros(getrusage(UsageWho::RUSAGE_SELF).unwrap());
    let (tell_address, address) = mpsc::channel();
    let serving = thread::spawn(move || serve(server, tell_address));
    let address = address.recv().unwrap();
    thread::spawn(move || run(Driver::Epoll, None, ask(address, requests)).unwrap()).join().unwrap();
    let server_micros = serving.join().unwrap();
    let process_micros = micros(getrusage(UsageWho::RUSAGE_SELF).unwrap()) - before;
    let requests = (CONNECTIONS * requests) as f64;
    (server_micros / requests, process_micros / requests)
}

fn micros(usage: Usage) -> f64 {
    let [user, system] = [usage.user_time(), usage.system_time()];
    (user.tv_sec() + system.tv_sec()) as f64 * 1e6 + (user.tv_usec() + system.tv_usec()) as f64
}

/// Noise only adds, so the lowest round is the truest.
fn lowest(figures: &[(f64, f64)]) -> (f64, f64) {
    figures.iter().fold((f64::MAX, f64::MAX), |low, figure| (low.0.min(figure.0), low.1.min(figure.1)))
}

/// Runs the server to its end and returns the CPU microseconds that its thread used.
fn serve(server: Server, tell_address: mpsc::Sender<SocketAddr>) -> f64 {
    let deferred = RingFlags::SingleIssuerDeferTaskrun;
    let done = match server {
        Server::Stream(Kernel::Ring(flags)) => run_with_flags(flags, Some(0), echo_streams(tell_address)),
        Server::Stream(Kernel::Epoll) => run(Driver::Epoll, Some(0), echo_streams(tell_address)),
        Server::Bare => run_with_flags(deferred, Some(0), echo_bare(tell_address, false)),
        Server::BareWhenReadable => run_with_flags(deferred, Some(0), echo_bare(tell_address, true)),
    };
    done.unwrap();
    micros(getrusage(UsageWho::RUSAGE_THREAD).unwrap())
}

fn listen(tell_address: mpsc::Sender<SocketAddr>) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    tell_address.send(listener.local_addr().unwrap()).unwrap();
    listener
}

async fn echo_streams(tell_address: mpsc::Sender<SocketAddr>) {
    let listener = listen(tell_address);
    let shared = Shared::start();
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        let socket = listener.accept().await.unwrap().0;
        tasks.push(monoio::spawn(echo_stream(Stream::tcp(socket, shared.clone()))));
    }
    for task in tasks {
        task.await;
    }
    shared.stop();
}

async fn echo_stream(mut stream: Stream) {
    let mut out = Vec::with_capacity(REQUEST_BYTES);
    while stream.fill().await.unwrap() > 0 {
        let echoed = stream.feed(|bytes| -> (usize, Option<()>) {
            out.extend_from_slice(bytes);
            (bytes.len(), None)
        });
        echoed.unwrap();
        stream.write(&mut out).await.unwrap();
    }
}

async fn echo_bare(tell_address: mpsc::Sender<SocketAddr>, when_readable: bool) {
    let listener = listen(tell_address);
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        let socket = listener.accept().await.unwrap().0;
        socket.set_nodelay(true).unwrap();
        tasks.push(monoio::spawn(echo_socket(socket, when_readable)));
    }
    for task in tasks {
        task.await;
    }
}

async fn echo_socket(mut socket: TcpStream, when_readable: bool) {
    let mut buffer = Vec::with_capacity(20 * 1024);
    loop {
        if when_readable {
            socket.readable(false).await.unwrap();
        }
        let (count, filled) = socket.read(buffer).await;
        if count.unwrap() == 0 {
            break;
        }
        let (sent, emptied) = socket.write_all(filled).await;
        sent.unwrap();
        buffer = emptied;
    }
}

async fn ask(address: SocketAddr, requests: usize) {
    let asking: Vec<_> =
        (0..CONNECTIONS).map(|number| monoio::spawn(ask_once_at_a_time(address, number, requests))).collect();
    for task in asking {
        task.await;
    }
}

async fn ask_once_at_a_time(address: SocketAddr, number: usize, requests: usize) {
    let mut socket = TcpStream::connect_addr(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let request: Rc<[u8]> = (0..REQUEST_BYTES).map(|at| (at + number) as u8).collect();
    let (mut out, mut buffer) = (request.to_vec(), Vec::with_capacity(4096));
    for _ in 0..requests {
        let (sent, back) = socket.write_all(out).await;
        sent.unwrap();
        out = back;
        let (count, filled) = socket.read(buffer).await;
        assert_eq!(count.unwrap(), REQUEST_BYTES);
        assert!(filled[..] == request[..]);
        buffer = filled;
    }
}
