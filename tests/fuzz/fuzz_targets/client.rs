//! The client side under whatever a server may say, in any split: no panic, bounded output, and an end.
#![no_main]
use libfuzzer_sys::fuzz_target;
use penstock::smtp::Client;
use penstock::smtp::client::{Event, Options, StartTls, Transaction};

fuzz_target!(|input: &[u8]| {
    let [flags, step, input @ ..] = input else { return };
    let mut client = Client::new(Options {
        hostname: "relay.example.edu".into(),
        lmtp: flags & 1 != 0,
        starttls: if flags & 2 != 0 { StartTls::WhenOffered } else { StartTls::Never },
        login: None,
        pipelining: flags & 4 != 0,
    });
    let mut out = Vec::new();
    let mut sent = false;
    'pieces: for piece in input.chunks(usize::from(*step).max(1)) {
        let mut rest = piece;
        loop {
            let (used, event) = client.step(rest, &mut out);
            rest = &rest[used..];
            match event {
                Event::NeedInput => break,
                Event::StartTls => client.tls_started(&mut out),
                Event::Ready if sent => client.quit(&mut out),
                Event::Ready => {
                    sent = true;
                    let transaction = Transaction {
                        reverse_path: b"a@example.edu".to_vec(),
                        recipients: vec![b"b@example.org".to_vec(), b"c@example.org".to_vec()],
                        size: 10,
                        eight_bit: flags & 8 != 0,
                        smtputf8: flags & 16 != 0,
                    };
                    client.send(transaction, &mut out);
                }
                Event::SendContent => {
                    client.content(b"A: b\r\n\r\n.x\r\n", &mut out);
                    client.end_content(&mut out);
                }
                Event::Done(fates) => assert_eq!(fates.len(), 2),
                Event::Bye | Event::Closed(_) => break 'pieces,
            }
        }
    }
    assert!(out.len() < 4096);
});
