//! The client side under whatever a server may say, for addresses and content of any octets: no panic, bounded output, one
//! fate for each recipient of each transaction; nothing but commands of ours on lines of their own, no password outside
//! TLS, content that ends where it ends and nowhere else; and all that alike however a line of the server is cut.
#![no_main]
use arbitrary::Arbitrary;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use penstock::sasl::Mechanism;
use penstock::smtp::Client;
use penstock::smtp::body::{BodyScanner, OddBytes, Piece};
use penstock::smtp::client::{Body, Event, Login, Options, Recipient, StartTls, Transaction};
use penstock_fuzz::Cuts;

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Input<'a> {
    lmtp: bool,
    /// Never, when offered, required.
    starttls: u8,
    /// None, PLAIN, LOGIN, SCRAM-SHA-256.
    login: u8,
    pipelining: bool,
    verifies: bool,
    message: Message,
    /// The connection is lost at the end, and not only silent.
    lost: bool,
    cuts: Cuts,
    /// Two addresses, the content, and what the server says, each behind an octet 30.
    rest: &'a [u8],
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Message {
    body: u8,
    long_lines: bool,
    smtputf8: bool,
    require_tls: bool,
    parameters: bool,
    announced: bool,
}

const VERBS: [&[u8]; 12] =
    [b"EHLO", b"LHLO", b"HELO", b"STARTTLS", b"AUTH", b"MAIL", b"RCPT", b"DATA", b"BDAT", b"RSET", b"QUIT", b"."];

/// All that came of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    events: Vec<Event>,
    commands: Vec<u8>,
    /// Each message as it was written, and whether it ended.
    contents: Vec<(Vec<u8>, bool)>,
}

fn options(input: Input) -> Options {
    let mechanism = [Mechanism::Plain, Mechanism::Plain, Mechanism::Login, Mechanism::ScramSha256];
    let login = Login {
        user: "anna".into(),
        password: "sesame".to_string().into(),
        mechanism: Some(mechanism[usize::from(input.login % 4)]),
        nonce: "rOprNGfwEbeRWgbNEkqO".into(),
        binding: None,
    };
    Options {
        lmtp: input.lmtp,
        starttls: [StartTls::Never, StartTls::WhenOffered, StartTls::Required][usize::from(input.starttls % 3)],
        login: (input.login % 4 > 0).then_some(login),
        pipelining: input.pipelining,
        verifies: input.verifies,
        detects_loop: true,
        ..Options::new("relay.example.edu")
    }
}

fn transaction(message: Message, addresses: [&[u8]; 2], content: &[u8]) -> Transaction {
    let with = |value: &[u8]| message.parameters.then(|| value.to_vec());
    Transaction {
        reverse_path: if message.announced { b"a@example.edu".to_vec() } else { addresses[1].to_vec() },
        recipients: vec![
            Recipient { notify: with(b"SUCCESS"), ..b"b@example.org"[..].into() },
            Recipient { orcpt: with(b"utf-8;\xc3\xbc@d"), ..addresses[0].into() },
            addresses[1].into(),
        ],
        size: if message.announced { content.len() as u64 } else { 3 },
        body: [Body::SevenBit, Body::EightBit, Body::Binary][usize::from(message.body % 3)],
        long_lines: message.long_lines,
        smtputf8: message.smtputf8,
        require_tls: message.require_tls,
        ret_full: message.parameters.then_some(true),
        envid: with(b"x"),
        auth: with(b"<>"),
    }
}

fn talk<'a>(input: Input, to_send: &Transaction, content: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    let (mut client, mut seen, mut sent) = (Client::new(options(input)), Seen::default(), 0);
    let mut secured = input.starttls % 3 == 0;
    'pieces: for piece in pieces {
        let mut rest = piece;
        loop {
            let (used, event) = client.step(rest, &mut seen.commands);
            rest = &rest[used..];
            assert!(secured || !seen.commands.split(|octet| *octet == b'\n').any(|line| line.starts_with(b"AUTH")));
            if event != Event::NeedInput {
                seen.events.push(event.clone());
            }
            match event {
                Event::NeedInput => break,
                Event::StartTls => {
                    secured = true;
                    client.tls_started(&mut seen.commands);
                    continue 'pieces;
                }
                Event::Ready if sent == 2 => client.quit(&mut seen.commands),
                Event::Ready => {
                    sent += 1;
                    client.send(to_send.clone(), &mut seen.commands);
                }
                Event::SendContent => {
                    let mut written = Vec::new();
                    let announced = content.len() == to_send.size as usize || to_send.body != Body::Binary;
                    input.cuts.pieces(content).for_each(|piece| client.content(piece, &mut written));
                    client.end_content(&mut written);
                    seen.contents.push((written, announced));
                }
                Event::Done(_) => {}
                Event::Bye | Event::Closed(_) => break 'pieces,
            }
        }
    }
    if input.lost {
        seen.events.extend(client.lost("the connection was lost").map(Event::Done));
    }
    let told = seen.events.iter().filter(|event| matches!(event, Event::Done(_))).count();
    assert!(told == sent || !input.lost && told + 1 == sent, "each transaction ends once");
    seen
}

fn check(seen: &Seen, to_send: &Transaction, content: &[u8]) {
    let addresses: usize = to_send.recipients.iter().map(|to| to.path.len()).sum();
    assert!(seen.commands.len() < 10_000 + 4 * addresses);
    for event in &seen.events {
        if let Event::Done(fates) = event {
            assert_eq!(fates.len(), to_send.recipients.len());
        }
    }
    for line in seen.commands.split_inclusive(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\r\n").expect("a whole line");
        assert!(!line.iter().any(|octet| *octet < b' ' || *octet == 127), "{}", line.escape_ascii());
        let verb = line.split(|octet| *octet == b' ').next().unwrap_or_default();
        let is_base64 = line.iter().all(|octet| octet.is_ascii_alphanumeric() || b"+/=*".contains(octet));
        assert!(VERBS.contains(&verb) || is_base64, "{}", line.escape_ascii());
    }
    for (written, ends) in &seen.contents {
        match to_send.body {
            Body::Binary => assert!(content.starts_with(written) && (written.len() as u64 == to_send.size) == *ends),
            _ => check_dotted(written, content),
        }
    }
}

/// What a strict server makes of it, whatever it makes of bare line ends, is the content and one end.
fn check_dotted(written: &[u8], content: &[u8]) {
    let mut scanner = BodyScanner::new(OddBytes::Reject);
    let (mut at, mut found) = (0, Vec::new());
    loop {
        let (used, piece) = scanner.next(&written[at..]);
        at += used;
        match piece {
            Piece::Content(slice) => found.extend_from_slice(slice),
            Piece::End => break,
            Piece::More => panic!("no end"),
        }
    }
    assert_eq!(at, written.len());
    assert!(!scanner.refused());
    assert_eq!(found, normalized(content));
}

/// RFC 5321 section 2.3.8: lines that end with CRLF, without NUL.
fn normalized(content: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (at, &octet) in content.iter().enumerate() {
        match octet {
            b'\n' if content[..at].ends_with(b"\r") => {}
            b'\r' | b'\n' => lines.extend_from_slice(b"\r\n"),
            0 => {}
            octet => lines.push(octet),
        }
    }
    if !lines.is_empty() && !lines.ends_with(b"\n") {
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// Does the server ask for so many iterations that it would only slow this down?
fn is_costly(server: &[u8]) -> bool {
    server.split(|octet| *octet == b'\n').any(|line| {
        let text = line.strip_suffix(b"\r").unwrap_or(line).get(4..).unwrap_or_default();
        let is_count = |part: &[u8]| part.starts_with(b"i=") && part[2..].iter().all(u8::is_ascii_digit);
        STANDARD.decode(text).is_ok_and(|text| text.windows(7).any(is_count))
    })
}

fuzz_target!(|input: Input| {
    let mut parts = input.rest.splitn(4, |octet| *octet == b'\x1e');
    let mut next = || parts.next().unwrap_or_default();
    let (addresses, content, server) = ([next(), next()], next(), next());
    if is_costly(server) {
        return;
    }
    let to_send = transaction(input.message, addresses, content);
    let lines = || server.split_inclusive(|octet| *octet == b'\n');
    let whole = talk(input, &to_send, content, lines());
    check(&whole, &to_send, content);
    // What a server says before it is asked may count as the answer or not: between its lines the driver has its turn.
    let cut = talk(input, &to_send, content, lines().flat_map(|line| input.cuts.pieces(line)));
    assert_eq!(cut, whole);
});
