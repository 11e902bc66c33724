//! The claims: without TCP_NODELAY a reply in two writes waits for the peer's delayed acknowledgement, and SO_REUSEPORT
//! spreads connections over the listeners well enough.
//!
//! Plain blocking sockets, because it is the kernel that is measured. Run with `cargo bench --bench sockets`.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

const EXCHANGES: usize = 50;
const CONNECTIONS: usize = 2000;

fn main() {
    println!("milliseconds per exchange whose reply is two writes");
    for nodelay in [false, true] {
        println!("  TCP_NODELAY {nodelay:5} {:8.3}", exchange(nodelay).as_secs_f64() * 1e3);
    }
    println!("{CONNECTIONS} connections over listeners with SO_REUSEPORT");
    for listeners in [2, 4, 8] {
        println!("  {listeners} listeners: {:?}", spread(listeners));
    }
}

fn exchange(nodelay: bool) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.set_nodelay(nodelay).unwrap();
    let answering = thread::spawn(move || {
        for line in BufReader::new(server.try_clone().unwrap()).lines() {
            assert_eq!(line.unwrap(), "EHLO client.example.org");
            server.write_all(b"250-mail.example.org\r\n").unwrap();
            server.write_all(b"250 PIPELINING\r\n").unwrap();
        }
    });
    let mut replies = BufReader::new(client.try_clone().unwrap());
    let began = Instant::now();
    for _ in 0..EXCHANGES {
        client.write_all(b"EHLO client.example.org\r\n").unwrap();
        let mut reply = String::new();
        replies.read_line(&mut reply).unwrap();
        replies.read_line(&mut reply).unwrap();
        assert_eq!(reply, "250-mail.example.org\r\n250 PIPELINING\r\n");
    }
    let elapsed = began.elapsed();
    client.shutdown(std::net::Shutdown::Both).unwrap();
    answering.join().unwrap();
    elapsed / EXCHANGES as u32
}

/// How many connections each of the listeners on one port gets.
fn spread(listeners: usize) -> Vec<usize> {
    let first = listen("127.0.0.1:0".parse().unwrap());
    let address = first.local_addr().unwrap();
    let mut all = vec![first];
    all.resize_with(listeners, || listen(address));
    let mut counts = vec![0; listeners];
    for _ in 0..CONNECTIONS {
        let _client = TcpStream::connect(address).unwrap();
        let owner = all.iter().position(|listener| listener.accept().is_ok());
        counts[owner.expect("some listener has the connection")] += 1;
    }
    counts
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(128).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}
