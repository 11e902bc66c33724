//! TLS without I/O: rustls's unbuffered connection, driven by hand.
//!
//! rustls holds no buffer of its own. It is shown the unread input and answers with one state at a time; [`pass`] is
//! the one place where those states are handled:
//!
//! | state | what we do |
//! |---|---|
//! | `EncodeTlsData` | append the record to `out` |
//! | `TransmitTlsData` | go on: `out` is flushed before the next wait, so one write carries the whole flight |
//! | `ReadTraffic` | feed the payload to the eater where rustls holds it; copy what it leaves |
//! | `WriteTraffic`, `BlockedHandshake` | nothing is left to do with this input |
//! | `PeerClosed`, `Closed` | close_notify came: nothing more will be read |
//!
//! **Promises:** the input is never shown again once it has been discarded; a fatal error leaves its alert in `out`;
//! after it nothing is decrypted or encrypted any more.
//!
//! **A trap:** while a handshake message is incomplete rustls keeps offsets into the input that it was shown, and it
//! panics if it is then shown less. `shown` is how much it must be shown again.

use std::io;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{CipherSuite, ClientConfig, CommonState, ProtocolVersion, ServerConfig};

use super::buffer::{Pool, Window, eat_all};
use super::certificates::server_end_point;

/// How much plaintext goes into one record, in bytes (RFC 8446 section 5.1).
const RECORD_PLAINTEXT_MAX: usize = 16 * 1024;

/// Room for what a record adds: header, explicit nonce, content type, tag.
const RECORD_OVERHEAD: usize = 64;

enum Connection {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// One TLS connection and the records that it has yet to send.
pub(super) struct Tls {
    connection: Connection,
    /// Records to send. Whoever fills it flushes it before waiting for input.
    pub out: Vec<u8>,
    /// How much of the unread input rustls has seen and may still refer to.
    shown: usize,
    /// The hash of our own certificate (RFC 5929 section 4.1), when we are the server and the handshake is over.
    pub end_point: Option<Arc<[u8]>>,
    peer_closed: bool,
    failed: bool,
}

/// Where a pass over the input ended.
enum Pass<R> {
    /// Go on with the rest of the input.
    More,
    /// Nothing more can be done with this input.
    Blocked,
    /// The eater stopped.
    Stopped(R),
    PeerClosed,
}

impl Tls {
    /// Boxed, because a future would otherwise be larger by all of it.
    pub fn server(config: Arc<ServerConfig>) -> io::Result<Box<Tls>> {
        Ok(Tls::new(Connection::Server(UnbufferedServerConnection::new(config).map_err(broken)?)))
    }

    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Box<Tls>> {
        Ok(Tls::new(Connection::Client(UnbufferedClientConnection::new(config, name).map_err(broken)?)))
    }

    fn new(connection: Connection) -> Box<Tls> {
        Box::new(Tls { connection, out: Vec::new(), shown: 0, end_point: None, peer_closed: false, failed: false })
    }

    /// Goes as far as the input allows; true when the handshake is complete. Then `out` still has to be flushed.
    pub fn handshake(&mut self, input: &mut Window, plain: &mut Window, pool: &Pool) -> io::Result<bool> {
        // Plaintext right behind the peer's Finished is kept for the first feed.
        while self.is_handshaking() {
            match self.pass(input, usize::MAX, plain, pool, &mut keep::<()>)? {
                Pass::More | Pass::Stopped(()) => {}
                Pass::Blocked | Pass::PeerClosed => break,
            }
        }
        match (self.is_handshaking(), self.peer_closed) {
            (true, true) => return Err(io::ErrorKind::UnexpectedEof.into()),
            (true, false) => return Ok(false),
            (false, _) => {}
        }
        // The last flight may still wait to be encoded.
        while let Pass::More = self.pass(input, self.shown, plain, pool, &mut keep::<()>)? {}
        Ok(true)
    }

    /// Decrypts record by record and hands the plaintext to `eat`. What it leaves of a record goes to `plain`.
    pub fn feed<R>(
        &mut self,
        input: &mut Window,
        plain: &mut Window,
        pool: &Pool,
        eat: &mut impl FnMut(&[u8]) -> (usize, Option<R>),
    ) -> io::Result<Option<R>> {
        while !self.peer_closed {
            match self.pass(input, usize::MAX, plain, pool, eat)? {
                Pass::More => {}
                Pass::Blocked => return Ok(None),
                Pass::Stopped(stop) => return Ok(Some(stop)),
                Pass::PeerClosed => input.clear(),
            }
        }
        Ok(None)
    }

    /// Encrypts the first record's worth of `bytes` into `out` and returns how much that was.
    pub fn encrypt(&mut self, bytes: &[u8], input: &mut Window, plain: &mut Window, pool: &Pool) -> io::Result<usize> {
        let count = bytes.len().min(RECORD_PLAINTEXT_MAX);
        self.when_writable(input, plain, pool, Sealed::Plaintext(&bytes[..count]))?;
        Ok(count)
    }

    /// Puts close_notify into `out`, unless the connection is beyond that.
    pub fn close_notify(&mut self, input: &mut Window, plain: &mut Window, pool: &Pool) {
        if !self.failed && !self.is_handshaking() {
            // An error here means that there is no connection left to close.
            let _ = self.when_writable(input, plain, pool, Sealed::CloseNotify);
        }
    }

    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Version and cipher suite, as the RFCs write them.
    pub fn names(&self) -> Option<(&'static str, &'static str)> {
        let state = self.state();
        let version = match state.protocol_version()? {
            ProtocolVersion::TLSv1_3 => "TLSv1.3",
            ProtocolVersion::TLSv1_2 => "TLSv1.2",
            _ => return None,
        };
        let suite = match state.negotiated_cipher_suite()?.suite() {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
            CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
            suite => suite.as_str()?,
        };
        Some((version, suite))
    }

    /// The hash of the server's certificate (RFC 5929 section 4.1): ours as a server, the peer's as a client.
    pub fn server_end_point(&self) -> Option<Arc<[u8]>> {
        match &self.connection {
            Connection::Server(_) => self.end_point.clone(),
            Connection::Client(connection) => {
                connection.peer_certificates()?.first().and_then(|certificate| server_end_point(certificate))
            }
        }
    }

    pub fn is_handshaking(&self) -> bool {
        self.state().is_handshaking()
    }

    fn state(&self) -> &CommonState {
        match &self.connection {
            Connection::Server(connection) => connection,
            Connection::Client(connection) => connection,
        }
    }

    /// Shows rustls the first `limit` unread bytes and does what it asks for, once.
    fn pass<R>(
        &mut self,
        input: &mut Window,
        limit: usize,
        plain: &mut Window,
        pool: &Pool,
        eat: &mut impl FnMut(&[u8]) -> (usize, Option<R>),
    ) -> io::Result<Pass<R>> {
        if self.failed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let out = &mut self.out;
        let shown = input.unread().len().min(limit);
        let bytes = &mut input.unread_mut()[..shown];
        let (discard, passed) = match &mut self.connection {
            Connection::Server(connection) => pass(connection.process_tls_records(bytes), out, plain, pool, eat),
            Connection::Client(connection) => pass(connection.process_tls_records(bytes), out, plain, pool, eat),
        };
        input.eat(discard);
        self.shown = match passed {
            // An eater that has got a record means that no handshake message is incomplete.
            Ok(Pass::Stopped(_)) => 0,
            _ => shown - discard,
        };
        match &passed {
            Ok(Pass::PeerClosed) => self.peer_closed = true,
            Err(_) => self.fail(pool),
            Ok(_) => {}
        }
        passed.map_err(broken)
    }

    /// Encodes what rustls still wants to say, which ends with the alert. No input is shown, or it would fail again.
    fn fail(&mut self, pool: &Pool) {
        self.failed = true;
        while self.state().wants_write() {
            let out = &mut self.out;
            let encoded = match &mut self.connection {
                Connection::Server(connection) => encode_only(connection.process_tls_records(&mut []), out, pool),
                Connection::Client(connection) => encode_only(connection.process_tls_records(&mut []), out, pool),
            };
            if !encoded {
                break;
            }
        }
    }

    fn when_writable(
        &mut self,
        input: &mut Window,
        plain: &mut Window,
        pool: &Pool,
        sealed: Sealed<'_>,
    ) -> io::Result<()> {
        // Whatever must go out first does; plaintext that comes up is kept for the next feed.
        while let Pass::More | Pass::Stopped(()) = self.pass(input, self.shown, plain, pool, &mut keep::<()>)? {}
        let bytes = &mut input.unread_mut()[..self.shown];
        let out = &mut self.out;
        supply(out, pool);
        match &mut self.connection {
            Connection::Server(connection) => seal(connection.process_tls_records(bytes), sealed, out),
            Connection::Client(connection) => seal(connection.process_tls_records(bytes), sealed, out),
        }
    }
}

/// What [`seal`] encrypts.
enum Sealed<'a> {
    Plaintext(&'a [u8]),
    CloseNotify,
}

/// An eater that eats nothing: everything is kept in the window.
fn keep<R: Default>(_: &[u8]) -> (usize, Option<R>) {
    (0, Some(R::default()))
}

/// Does what one state asks for; returns how much input is done with, and where that leaves us.
fn pass<Data, R>(
    status: UnbufferedStatus<'_, '_, Data>,
    out: &mut Vec<u8>,
    plain: &mut Window,
    pool: &Pool,
    eat: &mut impl FnMut(&[u8]) -> (usize, Option<R>),
) -> (usize, Result<Pass<R>, rustls::Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let passed = match state {
        Ok(ConnectionState::EncodeTlsData(mut record)) => encode(&mut record, out, pool).map(|()| Pass::More),
        Ok(ConnectionState::TransmitTlsData(flight)) => {
            flight.done();
            Ok(Pass::More)
        }
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut stopped = None;
            while let Some(record) = traffic.next_record() {
                let Ok(record) = record else { break };
                discard += record.discard;
                let mut eaten = 0;
                if stopped.is_none() {
                    (eaten, stopped) = eat_all(record.payload, eat);
                }
                plain.append(&record.payload[eaten..], pool);
            }
            Ok(stopped.map_or(Pass::More, Pass::Stopped))
        }
        Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Ok(Pass::Blocked),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Pass::PeerClosed),
        // Early data is never accepted (max_early_data_size is 0), and there are no other states.
        Ok(_) => Err(rustls::Error::General("unexpected state".into())),
        Err(error) => Err(error),
    };
    (discard, passed)
}

fn encode_only<Data>(status: UnbufferedStatus<'_, '_, Data>, out: &mut Vec<u8>, pool: &Pool) -> bool {
    match status.state {
        Ok(ConnectionState::EncodeTlsData(mut record)) => encode(&mut record, out, pool).is_ok(),
        _ => false,
    }
}

fn encode<Data>(record: &mut EncodeTlsData<'_, Data>, out: &mut Vec<u8>, pool: &Pool) -> Result<(), rustls::Error> {
    supply(out, pool);
    let at = out.len();
    if let Err(EncodeError::InsufficientSize(size)) = record.encode(&mut []) {
        out.resize(at + size.required_size, 0);
    }
    let written = record.encode(&mut out[at..]).map_err(|error| rustls::Error::General(error.to_string()))?;
    out.truncate(at + written);
    Ok(())
}

/// Records are encoded into pooled memory, which is there only while there are records.
fn supply(out: &mut Vec<u8>, pool: &Pool) {
    if out.capacity() == 0 {
        *out = pool.take();
    }
}

fn seal<Data>(status: UnbufferedStatus<'_, '_, Data>, sealed: Sealed<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => seal_into(&mut traffic, sealed, out),
        Ok(_) => Err(io::ErrorKind::BrokenPipe.into()),
        Err(error) => Err(broken(error)),
    }
}

fn seal_into<Data>(traffic: &mut WriteTraffic<'_, Data>, sealed: Sealed<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    let at = out.len();
    let mut room = RECORD_OVERHEAD;
    if let Sealed::Plaintext(bytes) = sealed {
        room += bytes.len();
    }
    loop {
        out.resize(at + room, 0);
        let written = match sealed {
            Sealed::Plaintext(bytes) => traffic.encrypt(bytes, &mut out[at..]),
            Sealed::CloseNotify => traffic.queue_close_notify(&mut out[at..]),
        };
        match written {
            Ok(count) => {
                out.truncate(at + count);
                return Ok(());
            }
            // A key update goes in front of the record and needs room of its own.
            Err(EncryptError::InsufficientSize(size)) if size.required_size > room => room = size.required_size,
            Err(error) => {
                out.truncate(at);
                return Err(io::Error::other(error));
            }
        }
    }
}

/// The peer's mistake, or ours, as an I/O error; the words are rustls's.
fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls_config::unverified_client_config;
    use rustls::{ClientConnection, ConnectionTrafficSecrets};
    use std::io::Read;

    struct Side {
        tls: Box<Tls>,
        input: Window,
        plain: Window,
        pool: Pool,
    }

    impl Side {
        fn handshake(&mut self, records: &[u8]) -> io::Result<bool> {
            self.input.append(records, &self.pool);
            self.tls.handshake(&mut self.input, &mut self.plain, &self.pool)
        }

        fn feed(&mut self, records: &[u8]) -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            self.input.append(records, &self.pool);
            self.tls.feed(&mut self.input, &mut self.plain, &self.pool, &mut |part| -> (usize, Option<()>) {
                bytes.extend_from_slice(part);
                (part.len(), None)
            })?;
            Ok(bytes)
        }

        fn say(&mut self, bytes: &[u8]) -> Vec<u8> {
            self.tls.encrypt(bytes, &mut self.input, &mut self.plain, &self.pool).unwrap();
            std::mem::take(&mut self.tls.out)
        }
    }

    /// Our server, and rustls's buffered client whose secrets can be had, after their handshake. The server gets its
    /// input in pieces of `size` bytes.
    fn connected(size: usize, versions: &[&'static rustls::SupportedProtocolVersion]) -> (Side, ClientConnection) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let made = rcgen::generate_simple_self_signed(["mail.example.org".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let tls = Tls::server(Arc::new(config)).unwrap();
        let mut server = Side { tls, input: Window::default(), plain: Window::default(), pool: Pool::default() };

        let mut client_config = (*unverified_client_config()).clone();
        client_config.enable_secret_extraction = true;
        let name = ServerName::try_from("mail.example.org").unwrap();
        let mut client = ClientConnection::new(Arc::new(client_config), name).unwrap();
        let mut done = false;
        while client.is_handshaking() || !done {
            let mut records = Vec::new();
            client.write_tls(&mut records).unwrap();
            for piece in records.chunks(size) {
                done = server.handshake(piece).unwrap();
            }
            let mut flight = &std::mem::take(&mut server.tls.out)[..];
            while !flight.is_empty() {
                client.read_tls(&mut flight).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        (server, client)
    }

    fn tell(client: &mut ClientConnection, mut records: &[u8]) -> Vec<u8> {
        client.read_tls(&mut records).unwrap();
        client.process_new_packets().unwrap();
        let mut bytes = vec![0; 100];
        let count = client.reader().read(&mut bytes).unwrap();
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn shakes_hands_in_any_split_and_version() {
        for (version, name) in [(&rustls::version::TLS13, "TLSv1.3"), (&rustls::version::TLS12, "TLSv1.2")] {
            for size in [1, 2, 3, 5, 100, 1000] {
                let (mut server, mut client) = connected(size, &[version]);
                assert_eq!(server.tls.names().unwrap().0, name);
                let record = server.say(b"220 ready");
                assert_eq!(tell(&mut client, &record), b"220 ready");
            }
        }
    }

    #[test]
    fn an_altered_record_gets_an_alert_and_ends_everything() {
        let (mut server, mut client) = connected(1000, rustls::ALL_VERSIONS);
        std::io::Write::write_all(&mut client.writer(), b"QUIT").unwrap();
        let mut record = Vec::new();
        client.write_tls(&mut record).unwrap();
        record[7] ^= 1;
        assert_eq!(server.feed(&record).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut alert = &std::mem::take(&mut server.tls.out)[..];
        client.read_tls(&mut alert).unwrap();
        let told = client.process_new_packets().unwrap_err();
        assert_eq!(told, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
        assert_eq!(server.feed(b"").unwrap_err().kind(), io::ErrorKind::NotConnected);
    }

    /// A key update cut in two records, and a reply sent between them: see the trap above.
    #[test]
    fn a_split_key_update_may_wait_behind_a_reply() {
        let (mut server, client) = connected(1000, &[&rustls::version::TLS13]);
        let (number, secrets) = client.dangerous_extract_secrets().unwrap().tx;
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { panic!("another cipher") };
        const KEY_UPDATE_NOT_REQUESTED: [u8; 5] = [24, 0, 0, 1, 0];
        let (head, tail) = KEY_UPDATE_NOT_REQUESTED.split_at(2);
        let first = handshake_record(key.as_ref(), iv.as_ref(), number, head);
        let second = handshake_record(key.as_ref(), iv.as_ref(), number + 1, tail);

        assert_eq!(server.feed(&first).unwrap(), b"");
        assert!(!server.say(b"250 still here").is_empty());
        assert_eq!(server.feed(&second[..9]).unwrap(), b"");
        assert!(!server.say(b"250 still here").is_empty());
        assert_eq!(server.feed(&second[9..]).unwrap(), b"");
        assert!(server.input.is_empty());
    }

    /// RFC 8446 section 5.2.
    fn handshake_record(key: &[u8], iv: &[u8], number: u64, fragment: &[u8]) -> Vec<u8> {
        use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
        let mut nonce: [u8; 12] = iv.try_into().unwrap();
        for (byte, other) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= other;
        }
        let mut sealed = fragment.to_vec();
        sealed.push(22);
        let header = [23, 3, 3, 0, (sealed.len() + AES_256_GCM.tag_len()) as u8];
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(header), &mut sealed).unwrap();
        [&header[..], &sealed].concat()
    }
}
