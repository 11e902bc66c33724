//! What this room promises, over real sockets on loopback, under both drivers.

use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream, UnixStream};

use rustls::pki_types::ServerName;

use super::*;

mod waits;

const SHORT: Duration = Duration::from_millis(100);

/// Runs `test` under each driver with a thread's shared state, and stops that afterwards.
fn under_both_drivers<F: Future<Output = ()>>(test: impl Fn(Rc<Shared>) -> F) {
    for driver in [Driver::IoUring, Driver::Epoll] {
        run(driver, None, async {
            let shared = Shared::start();
            test(shared.clone()).await;
            shared.stop();
        })
        .unwrap();
    }
}

/// Two connected sockets.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connecting = monoio::spawn(TcpStream::connect_addr(address));
    let (accepted, _) = listener.accept().await.unwrap();
    (connecting.await.unwrap(), accepted)
}

/// Two connected streams, the first of them the client's.
async fn streams(shared: &Rc<Shared>) -> (Stream, Stream) {
    let (client, server) = pair().await;
    (Stream::tcp(client, shared.clone()), Stream::tcp(server, shared.clone()))
}

/// The same with TLS on.
async fn tls_streams(shared: &Rc<Shared>) -> (Stream, Stream) {
    let (mut client, mut server) = streams(shared).await;
    let accepting = monoio::spawn(async move {
        server.accept_tls(&certificate()).await.unwrap();
        server
    });
    client.connect_tls(unverified_client_config(), name()).await.unwrap();
    (client, accepting.await)
}

fn name() -> ServerName<'static> {
    ServerName::try_from("mail.example.org").unwrap()
}

fn certificate() -> Arc<ServerTls> {
    let made = rcgen::generate_simple_self_signed(["mail.example.org".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    server_config(&chain, &key).unwrap()
}

/// Closes both ends at once: each waits for the other's end.
async fn close(one: Stream, other: Stream) {
    let closing = monoio::spawn(one.close());
    other.close().await;
    closing.await;
}

/// Reads until `count` bytes or the end have come.
async fn read(stream: &mut Stream, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        stream.feed(|part| -> (usize, Option<()>) {
            bytes.extend_from_slice(part);
            (part.len(), None)
        })?;
        if bytes.len() >= count || stream.fill().await? == 0 {
            return Ok(bytes);
        }
    }
}

async fn echo_until_closed(mut stream: Stream) {
    let mut out = Vec::new();
    loop {
        stream
            .feed(|part| -> (usize, Option<()>) {
                out.extend_from_slice(part);
                (part.len(), None)
            })
            .unwrap();
        stream.write(&mut out).await.unwrap();
        if stream.fill().await.unwrap() == 0 {
            break;
        }
    }
    stream.close().await;
}

#[test]
fn echoes_whole_and_byte_by_byte() {
    under_both_drivers(|shared| async move {
        for tls in [false, true] {
            let (mut client, server) = if tls { tls_streams(&shared).await } else { streams(&shared).await };
            assert_eq!(server.tls().is_some(), tls);
            let echo = monoio::spawn(echo_until_closed(server));
            let text = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n".repeat(20);
            for size in [1, 7, text.len()] {
                for part in text.chunks(size) {
                    client.write(&mut part.to_vec()).await.unwrap();
                }
                assert!(read(&mut client, text.len()).await.unwrap() == text);
            }
            client.close().await;
            echo.await;
        }
    });
}

#[test]
fn records_may_arrive_byte_by_byte() {
    under_both_drivers(|shared| async move {
        let (left, middle_left) = pair().await;
        let (middle_right, right) = pair().await;
        let relay = monoio::spawn(drip(middle_left, middle_right));
        let mut server = Stream::tcp(right, shared.clone());
        let accepting = monoio::spawn(async move {
            server.accept_tls(&certificate()).await.unwrap();
            (read(&mut server, 3000).await.unwrap(), server)
        });
        let mut client = Stream::tcp(left, shared.clone());
        client.connect_tls(unverified_client_config(), name()).await.unwrap();
        assert_eq!(client.tls(), Some(("TLSv1.3", "TLS_AES_256_GCM_SHA384")));
        client.write(&mut vec![b'x'; 3000]).await.unwrap();
        let (bytes, server) = accepting.await;
        assert_eq!(bytes, vec![b'x'; 3000]);
        close(client, server).await;
        relay.await;
    });
}

/// Copies both ways between two sockets, one byte per write to the right.
async fn drip(left: TcpStream, right: TcpStream) {
    right.set_nodelay(true).unwrap();
    use monoio::io::Splitable;
    let (mut left_read, mut left_write) = left.into_split();
    let (mut right_read, mut right_write) = right.into_split();
    let back = monoio::spawn(async move {
        loop {
            let (count, mut buffer) = right_read.read(vec![0; 4096]).await;
            let Ok(count @ 1..) = count else { break };
            buffer.truncate(count);
            left_write.write_all(buffer).await.0.unwrap();
        }
        let _ = left_write.shutdown().await;
    });
    loop {
        let (count, buffer) = left_read.read(vec![0; 4096]).await;
        let Ok(count @ 1..) = count else { break };
        for part in buffer[..count].chunks(1) {
            let _ = right_write.write_all(part.to_vec()).await;
        }
    }
    let _ = right_write.shutdown().await;
    back.await;
}

#[test]
fn clear_input_does_not_cross_into_tls() {
    under_both_drivers(|shared| async move {
        let (client, server) = pair().await;
        let (mut client, mut server) = (client, Stream::tcp(server, shared.clone()));
        client.write_all(b"STARTTLS\r\nMAIL FROM:<injected@example.org>\r\n".to_vec()).await.0.unwrap();
        server.fill().await.unwrap();
        let line = server.feed(|bytes| (bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1, Some(()))).unwrap();
        assert!(line.is_some() && server.has_unread());
        let accepting = monoio::spawn(async move {
            server.accept_tls(&certificate()).await.unwrap();
            (read(&mut server, 6).await.unwrap(), server)
        });
        let mut client = Stream::tcp(client, shared.clone());
        client.connect_tls(unverified_client_config(), name()).await.unwrap();
        client.write(&mut b"EHLO x".to_vec()).await.unwrap();
        let (bytes, server) = accepting.await;
        assert_eq!(bytes, b"EHLO x");
        close(client, server).await;
    });
}

#[test]
fn eaters_may_stop_anywhere() {
    under_both_drivers(|shared| async move {
        for tls in [false, true] {
            let (mut client, mut server) = if tls { tls_streams(&shared).await } else { streams(&shared).await };
            let text: Vec<u8> = (0..60_000u32).map(|n| n as u8).collect();
            let mut sent = text.clone();
            let sending = monoio::spawn(async move {
                client.write(&mut sent).await.unwrap();
                (read(&mut client, 5).await.unwrap(), client)
            });
            let mut seen = Vec::new();
            while seen.len() < text.len() {
                // At most 777 bytes at a time, and a reply in between, with records still unread behind it.
                let stop = server.feed(|bytes| {
                    let count = bytes.len().min(777);
                    seen.extend_from_slice(&bytes[..count]);
                    (count, Some(()))
                });
                if stop.unwrap().is_none() {
                    server.fill().await.unwrap();
                }
                if seen.len() == 777 {
                    server.write(&mut b"going".to_vec()).await.unwrap();
                }
            }
            assert!(seen == text);
            let (reply, client) = sending.await;
            assert_eq!(reply, b"going");
            close(client, server).await;
        }
    });
}

#[test]
fn five_mebibytes_both_ways() {
    under_both_drivers(|shared| async move {
        for tls in [false, true] {
            let (client, server) = if tls { tls_streams(&shared).await } else { streams(&shared).await };
            let text: Rc<Vec<u8>> =
                Rc::new((0..5 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect());
            let sides = [client, server].map(|mut stream| {
                let text = text.clone();
                monoio::spawn(async move {
                    let mut received = Vec::new();
                    for part in text.chunks(100_000) {
                        stream.write(&mut part.to_vec()).await.unwrap();
                        received.extend(read(&mut stream, part.len()).await.unwrap());
                    }
                    received.extend(read(&mut stream, text.len() - received.len()).await.unwrap());
                    assert!(received == *text);
                    stream.close().await;
                })
            });
            for side in sides {
                side.await;
            }
        }
    });
}

#[test]
fn half_close_lets_replies_through() {
    under_both_drivers(|shared| async move {
        let (mut client, server) = pair().await;
        let mut server = Stream::tcp(server, shared.clone());
        client.write_all(b"QUIT\r\n".to_vec()).await.0.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read(&mut server, 100).await.unwrap(), b"QUIT\r\n");
        assert_eq!(server.fill().await.unwrap(), 0);
        assert!(!server.is_truncated());
        server.write(&mut b"221\r\n".to_vec()).await.unwrap();
        server.close().await;
        let (count, bytes) = client.read(vec![0; 100]).await;
        assert_eq!(&bytes[..count.unwrap()], b"221\r\n");
    });
}

#[test]
fn a_reset_is_an_error_and_a_cut_tls_stream_is_marked() {
    under_both_drivers(|shared| async move {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut server = Stream::tcp(listener.accept().await.unwrap().0, shared.clone());
        // Closing without lingering resets.
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(server.fill().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        server.close().await;

        let (client, mut server) = tls_streams(&shared).await;
        drop(client);
        assert_eq!(server.fill().await.unwrap(), 0);
        assert!(server.is_truncated());
        server.close().await;

        let (client, mut server) = tls_streams(&shared).await;
        let closing = monoio::spawn(client.close());
        assert_eq!(read(&mut server, 1).await.unwrap(), b"");
        assert!(!server.is_truncated());
        server.close().await;
        closing.await;
    });
}

#[test]
fn garbage_instead_of_a_handshake_gets_an_alert() {
    under_both_drivers(|shared| async move {
        for garbage in [&b"EHLO client.example.org\r\n"[..], b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", &[0xff; 300]]
        {
            let (mut client, server) = pair().await;
            let mut server = Stream::tcp(server, shared.clone());
            client.write_all(garbage.to_vec()).await.0.unwrap();
            assert_eq!(server.accept_tls(&certificate()).await.unwrap_err().kind(), ErrorKind::InvalidData);
            assert_eq!(server.fill().await.unwrap_err().kind(), ErrorKind::NotConnected);
            assert_eq!(server.write(&mut b"x".to_vec()).await.unwrap_err().kind(), ErrorKind::NotConnected);
            assert_eq!(server.tls(), None);
            let closing = monoio::spawn(server.close());
            let (count, bytes) = client.read(vec![0; 100]).await;
            // A fatal alert in the clear: type 21, two bytes.
            assert_eq!((count.unwrap(), bytes[0], bytes[5]), (7, 21, 2), "{bytes:?}");
            drop(client);
            closing.await;
        }
    });
}

/// A load balancer that is not listed says its header where TLS comes first: the operator hears what that is.
// covers: 2.10
#[test]
fn a_proxy_header_instead_of_a_handshake_is_named() {
    under_both_drivers(|shared| async move {
        for header in [&b"PROXY TCP4 192.0.2.1 192.0.2.2 1 465\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"] {
            let (mut client, server) = pair().await;
            let mut server = Stream::tcp(server, shared.clone());
            client.write_all(header.to_vec()).await.0.unwrap();
            let error = server.accept_implicit_tls(&certificate()).await.unwrap_err();
            assert_eq!(failure::explain(&error, failure::Begin::Implicit), failure::UNASKED_PROXY, "{error}");
            drop(client);
            server.close().await;
        }
    });
}

#[test]
fn a_handshake_cut_anywhere_ends() {
    under_both_drivers(|shared| async move {
        let hello = client_hello();
        let config = certificate();
        let mut ends = Vec::new();
        for cut in 0..hello.len() {
            let (mut client, server) = pair().await;
            client.write_all(hello[..cut].to_vec()).await.0.unwrap();
            let mut server = Stream::tcp(server, shared.clone());
            server.set_deadline(SHORT);
            let config = config.clone();
            // Every other one closes; the rest fall silent.
            let client = (cut % 2 == 0).then_some(client);
            ends.push(monoio::spawn(async move {
                let kind = server.accept_tls(&config).await.unwrap_err().kind();
                (client.is_some(), kind)
            }));
        }
        for end in ends {
            let (silent, kind) = end.await;
            assert_eq!(kind, if silent { ErrorKind::TimedOut } else { ErrorKind::UnexpectedEof });
        }
    });
}

fn client_hello() -> Vec<u8> {
    let mut connection = rustls::ClientConnection::new(unverified_client_config(), name()).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn a_foreign_alpn_is_refused_and_our_own_taken() {
    under_both_drivers(|shared| async move {
        for (offer, accepted) in [(&b"h2"[..], false), (b"smtp", true)] {
            let (mut client, mut server) = streams(&shared).await;
            let mut config = (*unverified_client_config()).clone();
            config.alpn_protocols = vec![offer.to_vec()];
            let accepting = monoio::spawn(async move {
                let result = server.accept_tls(&certificate()).await;
                server.close().await;
                result
            });
            let connected = client.connect_tls(Arc::new(config), name()).await;
            assert_eq!(connected.is_ok(), accepted, "{connected:?}");
            if let Err(error) = connected {
                assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
            }
            client.close().await;
            assert_eq!(accepting.await.is_ok(), accepted);
        }
    });
}

#[test]
fn unix_sockets_work_too() {
    under_both_drivers(|shared| async move {
        let (left, right) = UnixStream::pair().unwrap();
        let mut left = Stream::unix(left, shared.clone());
        let echo = monoio::spawn(echo_until_closed(Stream::unix(right, shared.clone())));
        left.write(&mut b"LHLO x\r\n".to_vec()).await.unwrap();
        assert_eq!(read(&mut left, 8).await.unwrap(), b"LHLO x\r\n");
        left.set_deadline(SHORT);
        assert_eq!(left.fill().await.unwrap_err().kind(), ErrorKind::TimedOut);
        left.close().await;
        echo.await;
    });
}

/// What a task pays for each kind of wait, whether it waits or not.
#[test]
fn futures_are_small() {
    under_both_drivers(|shared| async move {
        let (mut client, mut server) = streams(&shared).await;
        let mut sizes = vec![size_of::<Stream>()];
        sizes.push(size_of_val(&server.fill()));
        sizes.push(size_of_val(&server.write(&mut Vec::new())));
        sizes.push(size_of_val(&server.accept_tls(&certificate())));
        sizes.push(size_of_val(&client.connect_tls(unverified_client_config(), name())));
        sizes.push(size_of_val(&client.close()));
        assert!(sizes.iter().all(|size| *size <= 960), "{sizes:?}");
    });
}

/// Each side says the same of the certificate that was shown, and the name asked for chose it.
// covers: 9.8 10.10
#[test]
fn both_sides_bind_to_the_certificate_that_was_shown() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["mail.example.org", "smtp.example.edu"];
    let files = names.map(|name| certificates::tests::made(folder.path(), name, &[name]));
    let tls = server_tls(&files).unwrap();
    under_both_drivers(|shared| {
        let tls = tls.clone();
        async move {
            let mut seen = Vec::new();
            for name in ["mail.example.org", "smtp.example.edu", "unknown.example", "192.0.2.1"] {
                let (mut client, mut server) = streams(&shared).await;
                let tls = tls.clone();
                let accepting = monoio::spawn(async move {
                    assert_eq!(server.tls_server_end_point(), None);
                    server.accept_tls(&tls).await.unwrap();
                    server
                });
                let name = ServerName::try_from(name).unwrap();
                client.connect_tls(unverified_client_config(), name).await.unwrap();
                let server = accepting.await;
                let bound = server.tls_server_end_point().unwrap();
                assert_eq!((client.tls_server_end_point().unwrap(), bound.len()), (bound.clone(), 32));
                seen.push(bound);
                close(client, server).await;
            }
            assert!(seen[0] != seen[1] && seen[0] == seen[2] && seen[0] == seen[3]);
        }
    });
}
