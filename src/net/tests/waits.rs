//! Waits that are ended: deadlines, pauses, draining, stuck writes.

use super::*;

#[test]
fn a_deadline_ends_the_wait_and_loses_no_byte() {
    under_both_drivers(|shared| async move {
        for tls in [false, true] {
            let (mut client, mut server) = if tls { tls_streams(&shared).await } else { streams(&shared).await };
            server.set_deadline(SHORT);
            for _ in 0..2 {
                let began = Instant::now();
                assert_eq!(server.fill().await.unwrap_err().kind(), ErrorKind::TimedOut);
                assert!(began.elapsed() >= SHORT);
            }
            client.write(&mut b"late".to_vec()).await.unwrap();
            assert_eq!(read(&mut server, 4).await.unwrap(), b"late");
            close(client, server).await;
        }
    });
}

/// Bytes that arrive just when reads are being cancelled all come through.
#[test]
fn cancelled_reads_lose_nothing() {
    under_both_drivers(|shared| async move {
        let (mut client, mut server) = streams(&shared).await;
        server.set_deadline(Duration::ZERO);
        let sending = monoio::spawn(async move {
            for number in 0..400u32 {
                client.write(&mut number.to_le_bytes().to_vec()).await.unwrap();
                // Drifts through the sweeper's tick, so that some writes meet a cancel.
                monoio::time::sleep(Duration::from_millis(3)).await;
            }
            client.close().await;
        });
        let mut seen = Vec::new();
        loop {
            match server.fill().await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
            }
            server
                .feed(|bytes| -> (usize, Option<()>) {
                    seen.extend_from_slice(bytes);
                    (bytes.len(), None)
                })
                .unwrap();
        }
        assert!(seen == (0..400u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
        server.close().await;
        sending.await;
    });
}

/// A read is cancelled when its data has arrived, but before the reader has run: the data wins.
#[test]
fn data_that_came_before_the_cancel_is_kept() {
    // These flags let a completion in between two tasks; the others as they come.
    for flags in [RingFlags::None, RingFlags::SingleIssuerDeferTaskrun] {
        for rounds in 0..6 {
            let kept = run_with_flags(flags, None, async {
                let shared = Shared::start();
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let mut server = Stream::tcp(listener.accept().await.unwrap().0, shared.clone());
                server.set_deadline(Duration::from_secs(5));
                let reading = monoio::spawn(async move {
                    let first = server.fill().await;
                    server.set_interruptible(false);
                    if first.is_err() {
                        server.fill().await.unwrap();
                    }
                    server.set_deadline(SHORT);
                    read(&mut server, 4).await.unwrap()
                });
                monoio::time::sleep(Duration::from_millis(5)).await;
                std::io::Write::write_all(&mut client, b"kept").unwrap();
                for _ in 0..rounds {
                    runtime::next_round().await;
                }
                shared.interrupt_idle();
                let kept = reading.await;
                shared.stop();
                kept
            });
            assert_eq!(kept.unwrap(), b"kept");
        }
    }
}

#[test]
fn an_idle_stream_holds_no_buffer_and_wakes_up() {
    under_both_drivers(|shared| async move {
        for tls in [false, true] {
            let (mut client, mut server) = if tls { tls_streams(&shared).await } else { streams(&shared).await };
            let reading = monoio::spawn(async move { (read(&mut server, 5).await.unwrap(), server) });
            monoio::time::sleep(4 * TICK).await;
            assert_eq!(shared.waiting_buffers(), 0);
            client.write(&mut b"awake".to_vec()).await.unwrap();
            let (bytes, server) = reading.await;
            assert_eq!(bytes, b"awake");
            close(client, server).await;
        }
    });
}

/// Otherwise one octet of a record that never ends would cost 20 KiB for as long as we are patient.
#[test]
fn an_idle_stream_holds_no_more_than_what_is_incomplete() {
    under_both_drivers(|shared| async move {
        let (mut client, mut server) = tls_streams(&shared).await;
        let sealed = client.sealed(&[b'x'; 5000]);
        let reading = monoio::spawn(async move {
            server.set_deadline(6 * TICK);
            loop {
                assert!(server.feed(|_| -> (usize, Option<()>) { panic!("no record is complete") }).unwrap().is_none());
                if let Err(error) = server.fill().await {
                    assert_eq!(error.kind(), ErrorKind::TimedOut);
                    break;
                }
            }
            server
        });
        for part in [&sealed[..1], &sealed[1..2], &sealed[2..3000]] {
            client.send_raw(part).await;
            monoio::time::sleep(4 * TICK).await;
            assert_eq!(shared.waiting_buffers(), 0);
        }
        let mut server = reading.await;
        assert_eq!(server.input_memory_bytes(), 3000);
        client.send_raw(&sealed[3000..]).await;
        server.set_deadline(Duration::from_secs(20));
        assert_eq!(read(&mut server, 5000).await.unwrap(), vec![b'x'; 5000]);
        close(client, server).await;
    });
}

/// What arrives in the moment in which a hook ends the wait for it counts, and then it is over all the same.
#[test]
fn a_hook_ends_the_next_read_if_not_this_one() {
    let mut kept = 0;
    for flags in [RingFlags::None, RingFlags::SingleIssuerDeferTaskrun] {
        for rounds in 0..6 {
            let first = run_with_flags(flags, None, async {
                let shared = Shared::start();
                let (mut client, mut server) = {
                    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                    (client, Stream::tcp(listener.accept().await.unwrap().0, shared.clone()))
                };
                let hook = server.hook();
                let reading = monoio::spawn(async move {
                    let first = server.fill().await;
                    server.write(&mut b"last words".to_vec()).await.unwrap();
                    server.set_deadline(SHORT);
                    (first.map_err(|error| error.kind()), server.fill().await.map_err(|error| error.kind()))
                });
                monoio::time::sleep(Duration::from_millis(5)).await;
                std::io::Write::write_all(&mut client, b"x").unwrap();
                for _ in 0..rounds {
                    runtime::next_round().await;
                }
                let hooked = hook.interrupt();
                let (first, second) = reading.await;
                let ended = Err(ErrorKind::Interrupted);
                assert!(first == Ok(1) || first == ended);
                assert_eq!(second, if hooked { ended } else { Err(ErrorKind::TimedOut) });
                shared.stop();
                hooked && first == Ok(1)
            });
            kept += u32::from(first.unwrap());
        }
    }
    assert!(kept > 0, "no read won, so nothing was tested");
}

#[test]
fn a_hook_ends_a_handshake_that_has_just_heard_something() {
    under_both_drivers(|shared| async move {
        let (client, server) = pair().await;
        let (mut client, mut server) = (client, Stream::tcp(server, shared.clone()));
        let hook = server.hook();
        let accepting = monoio::spawn(async move {
            server.set_deadline(Duration::from_secs(5));
            server.accept_tls(&certificate()).await.unwrap_err().kind()
        });
        monoio::time::sleep(SHORT).await;
        // As if both had come in the same turn.
        assert!(hook.is_waiting());
        hook.0.hooked.set(true);
        client.write_all(vec![22, 3]).await.0.unwrap();
        assert_eq!(accepting.await, ErrorKind::Interrupted);
    });
}

#[test]
fn draining_ends_present_and_future_waits_for_something_new() {
    under_both_drivers(|shared| async move {
        let (mut client, mut waiting) = streams(&shared).await;
        let (mut other_client, mut paused) = tls_streams(&shared).await;
        let (mut third_client, mut exempt) = streams(&shared).await;
        exempt.set_interruptible(false);
        let waits = [
            monoio::spawn(async move { (waiting.fill().await.unwrap_err().kind(), waiting) }),
            monoio::spawn(async move { (paused.fill().await.unwrap_err().kind(), paused) }),
        ];
        let body = monoio::spawn(async move { (read(&mut exempt, 4).await.unwrap(), exempt) });
        monoio::time::sleep(4 * TICK).await;
        // One of them waits for readiness by now; wake the other's read up once more.
        shared.interrupt_idle();
        for wait in waits {
            let (kind, mut stream) = wait.await;
            assert_eq!(kind, ErrorKind::Interrupted);
            assert_eq!(stream.fill().await.unwrap_err().kind(), ErrorKind::Interrupted);
            stream.write(&mut b"421\r\n".to_vec()).await.unwrap();
            monoio::spawn(stream.close());
        }
        for client in [&mut client, &mut other_client] {
            client.set_interruptible(false);
            assert_eq!(read(client, 5).await.unwrap(), b"421\r\n");
        }
        third_client.write(&mut b"body".to_vec()).await.unwrap();
        let (bytes, exempt) = body.await;
        assert_eq!(bytes, b"body");
        drop((client, other_client, third_client));
        exempt.close().await;
    });
}

#[test]
fn a_stuck_write_ends_at_its_deadline() {
    under_both_drivers(|shared| async move {
        for tls in [false, true] {
            let (client, mut server) = if tls { tls_streams(&shared).await } else { streams(&shared).await };
            server.set_deadline(SHORT);
            let mut much = vec![b'x'; 64 << 20];
            assert_eq!(server.write(&mut much).await.unwrap_err().kind(), ErrorKind::TimedOut);
            drop(client);
        }
    });
}

/// Nobody works for a peer that has gone, whatever it sent before; what one sends that stays is not lost.
#[test]
fn an_end_is_seen_behind_what_was_sent_before_it() {
    under_both_drivers(|shared| async move {
        for tls in [false, true] {
            for count in [0, 1, 10_000] {
                let (mut client, mut server) = if tls { tls_streams(&shared).await } else { streams(&shared).await };
                client.write(&mut vec![b'x'; count]).await.unwrap();
                let work = monoio::time::sleep(3 * SHORT);
                assert_eq!(server.unless_gone(work).await, Some(()), "it is there");
                let closing = monoio::spawn(client.close());
                let gone = server.unless_gone(monoio::time::sleep(Duration::from_secs(20))).await;
                assert_eq!(gone, None, "tls {tls}, {count} octets before the end");
                assert_eq!(read(&mut server, count).await.unwrap(), vec![b'x'; count]);
                server.close().await;
                closing.await;
            }
        }
    });
}
