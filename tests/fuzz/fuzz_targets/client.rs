//! The client side under whatever a server may say, in any split: no panic, bounded output, and an end.
#![no_main]
use libfuzzer_sys::fuzz_target;
use penstock::smtp::Client;
use penstock::smtp::client::{Body, Event, Options, Recipient, StartTls, Transaction};

const CONTENT: &[u8] = b"A: b\r\n\r\n.x\r\n";

fuzz_target!(|input: &[u8]| {
    let [flags, step, input @ ..] = input else { return };
    let mut client = Client::new(Options {
        lmtp: flags & 1 != 0,
        starttls: if flags & 2 != 0 { StartTls::WhenOffered } else { StartTls::Never },
        pipelining: flags & 4 != 0,
        verifies: true,
        detects_loop: true,
        ..Options::new("relay.example.edu")
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
                        recipients: vec![
                            Recipient { notify: Some(b"SUCCESS".to_vec()), ..b"b@example.org"[..].into() },
                            Recipient { orcpt: Some(b"utf-8;\xc3\xbc@d".to_vec()), ..b"c@example.org"[..].into() },
                        ],
                        size: CONTENT.len() as u64,
                        body: match flags & 40 {
                            0 => Body::SevenBit,
                            8 => Body::EightBit,
                            _ => Body::Binary,
                        },
                        smtputf8: flags & 16 != 0,
                        require_tls: flags & 64 != 0,
                        ret_full: Some(true),
                        envid: Some(b"x".to_vec()),
                        auth: Some(b"<>".to_vec()),
                        ..Transaction::default()
                    };
                    client.send(transaction, &mut out);
                }
                Event::SendContent => {
                    client.content(CONTENT, &mut out);
                    client.end_content(&mut out);
                }
                Event::Done(fates) => assert_eq!(fates.len(), 2),
                Event::Bye | Event::Closed(_) => break 'pieces,
            }
        }
    }
    assert!(out.len() < 4096);
});
