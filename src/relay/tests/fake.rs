//! A small SMTP and LMTP server on threads, which misbehaves on request. It shares no code with what it tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A message that the server took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub from: String,
    pub to: Vec<String>,
    pub content: String,
    /// MAIL and RCPT as they came.
    pub commands: Vec<String>,
    /// The client was told.
    pub answered: bool,
    pub tls: bool,
}

/// How it behaves from now on.
#[derive(Clone, Default)]
pub struct Mode {
    /// Recipients `later..` are taken.
    pub later_is_now: bool,
    /// Closes without a reply at "connect", "EHLO", "MAIL", "RCPT", "DATA", "content", "dot".
    pub close_at: &'static str,
    /// Closes a moment after it has taken a message.
    pub leaves: bool,
    /// Greets with this.
    pub greeting: &'static str,
    /// Offers STARTTLS: with a certificate, or with none (then the handshake fails).
    pub starttls: Option<Option<Arc<rustls::ServerConfig>>>,
    /// What it does in the handshake in place of it, if anything.
    pub handshake: Handshake,
    /// Offers neither 8BITMIME nor SMTPUTF8.
    pub seven_bit: bool,
    /// Offers these beside.
    pub offers: &'static [&'static str],
    /// Offers these in TLS only.
    pub offers_in_tls: &'static [&'static str],
    /// The answer to AUTH PLAIN that is right: without it 535, and 530 to MAIL.
    pub login: &'static str,
    /// Says this a moment after the 354, before it has read any content.
    pub early: &'static str,
}

/// What a network, or a server in trouble, makes of a TLS handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handshake {
    /// It goes well, if there is a certificate.
    #[default]
    Fine,
    /// Closed behind the 220.
    Closes,
    /// Reset behind the 220: what the client sent is never read.
    Resets,
    /// Nothing comes behind the 220.
    Stalls,
    /// No handshake: STARTTLS is answered so.
    Says(&'static str),
}

#[derive(Clone, Default)]
pub struct Fake {
    mode: Arc<Mutex<Mode>>,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<Mutex<usize>>,
    logins: Arc<Mutex<Vec<(bool, String)>>>,
}

impl Fake {
    /// Serves on a port of its own; the second value is `host:port`. The thread ends with the process.
    pub fn tcp(mode: Mode) -> (Fake, String) {
        let fake = Fake { mode: Arc::new(Mutex::new(mode)), ..Fake::default() };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let server = fake.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let server = server.clone();
                std::thread::spawn(move || server.connection(Transport::Clear(socket)));
            }
        });
        (fake, address)
    }

    /// The same on a Unix socket.
    pub fn unix(path: &Path) -> Fake {
        let fake = Fake::default();
        let listener = UnixListener::bind(path).expect("a socket");
        let server = fake.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let server = server.clone();
                std::thread::spawn(move || server.connection(Transport::Unix(socket)));
            }
        });
        fake
    }

    pub fn set(&self, mode: Mode) {
        *self.mode.lock().expect("lock") = mode;
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("lock").clone()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().expect("lock")
    }

    /// Each AUTH line that came, and whether in TLS.
    pub fn logins(&self) -> Vec<(bool, String)> {
        self.logins.lock().expect("lock").clone()
    }

    fn connection(&self, transport: Transport) {
        *self.connections.lock().expect("lock") += 1;
        // A peer that goes away is no matter.
        let _ = self.talk(transport);
    }

    fn mode(&self) -> Mode {
        self.mode.lock().expect("lock").clone()
    }

    fn talk(&self, transport: Transport) -> std::io::Result<()> {
        let mut peer = BufReader::new(transport);
        let (mut tls, mut known) = (false, false);
        let mode = self.mode();
        if mode.close_at == "connect" {
            return Ok(());
        }
        let greeting = if mode.greeting.is_empty() { "220 fake" } else { mode.greeting };
        write!(peer.get_mut(), "{greeting}\r\n")?;
        let (mut from, mut to, mut commands) = (String::new(), Vec::new(), Vec::new());
        let mut line = String::new();
        let mut lmtp = false;
        loop {
            line.clear();
            if peer.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let mode = self.mode();
            let verb = line.trim_end().split([' ', ':']).next().unwrap_or("").to_owned();
            let verb = if verb == "LHLO" { "EHLO" } else { &verb };
            lmtp |= line.starts_with("LHLO");
            if mode.close_at == verb {
                return Ok(());
            }
            let reply = match verb {
                "EHLO" => {
                    let starttls = if mode.starttls.is_some() && !tls { "250-STARTTLS\r\n" } else { "" };
                    let eight_bit = if mode.seven_bit { "" } else { "250-8BITMIME\r\n250-SMTPUTF8\r\n" };
                    let in_tls = if tls { mode.offers_in_tls } else { &[] };
                    let others: String =
                        mode.offers.iter().chain(in_tls).map(|offer| format!("250-{offer}\r\n")).collect();
                    format!("250-fake\r\n{starttls}{eight_bit}{others}250 PIPELINING")
                }
                "STARTTLS" => {
                    if let Handshake::Says(reply) = mode.handshake {
                        write!(peer.get_mut(), "{reply}\r\n")?;
                        continue;
                    }
                    write!(peer.get_mut(), "220 go\r\n")?;
                    match mode.handshake {
                        Handshake::Fine | Handshake::Says(_) => {}
                        Handshake::Closes => {
                            let _ = peer.read(&mut [0; 4096]);
                            return Ok(());
                        }
                        Handshake::Resets => {
                            // Closed while octets wait to be read: the kernel resets.
                            std::thread::sleep(Duration::from_millis(100));
                            return Ok(());
                        }
                        Handshake::Stalls => {
                            while peer.read(&mut [0; 4096])? > 0 {}
                            return Ok(());
                        }
                    }
                    let Some(Some(config)) = mode.starttls else {
                        write!(peer.get_mut(), "this is no handshake, not at all\r\n")?;
                        // Long enough for the client to see it before a reset.
                        let _ = peer.read(&mut [0; 4096]);
                        return Ok(());
                    };
                    let server = rustls::ServerConnection::new(config).expect("a configuration");
                    let Transport::Clear(socket) = peer.into_inner() else { return Ok(()) };
                    peer = BufReader::new(Transport::Tls(Box::new(rustls::StreamOwned::new(server, socket))));
                    tls = true;
                    continue;
                }
                "AUTH" => {
                    self.logins.lock().expect("lock").push((tls, line.trim_end().to_owned()));
                    known = line.trim_end() == format!("AUTH PLAIN {}", mode.login);
                    if known { "235 2.7.0 yes" } else { "535 5.7.8 no" }.into()
                }
                "MAIL" if !mode.login.is_empty() && !known => "530 5.7.0 log in".into(),
                "MAIL" => {
                    from = path(&line);
                    commands = vec![line.trim_end().to_string()];
                    "250 ok".into()
                }
                "RCPT" => match path(&line) {
                    path if path.starts_with("never") => "550 5.1.1 no such user".into(),
                    path if path.starts_with("later") && !mode.later_is_now => "450 4.2.0 later".into(),
                    path => {
                        to.push(path);
                        commands.push(line.trim_end().to_string());
                        "250 ok".into()
                    }
                },
                "DATA" if to.is_empty() => "503 nobody".into(),
                "DATA" | "BDAT" => {
                    let content = if verb == "BDAT" {
                        let size = line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("a size");
                        let mut chunk = vec![0; size];
                        peer.read_exact(&mut chunk)?;
                        String::from_utf8_lossy(&chunk).into_owned()
                    } else {
                        write!(peer.get_mut(), "354 go\r\n")?;
                        if !mode.early.is_empty() {
                            // Meanwhile the client writes as much as the socket takes.
                            std::thread::sleep(Duration::from_millis(50));
                            write!(peer.get_mut(), "{}", mode.early)?;
                        }
                        let Some(content) = content(&mut peer, mode.close_at == "content")? else { return Ok(()) };
                        content
                    };
                    let (to, commands) = (std::mem::take(&mut to), std::mem::take(&mut commands));
                    let replies = if lmtp { to.len() } else { 1 };
                    let answered = mode.close_at != "dot";
                    let message = Received { from: from.clone(), to, content, commands, answered, tls };
                    self.received.lock().expect("lock").push(message);
                    if !answered {
                        return Ok(());
                    }
                    let reply = vec!["250 2.0.0 saved"; replies].join("\r\n");
                    if mode.leaves {
                        write!(peer.get_mut(), "{reply}\r\n")?;
                        std::thread::sleep(Duration::from_millis(50));
                        return Ok(());
                    }
                    reply
                }
                "RSET" => {
                    to.clear();
                    "250 ok".into()
                }
                "QUIT" => "221 bye".into(),
                _ => "500 what".into(),
            };
            write!(peer.get_mut(), "{reply}\r\n")?;
        }
    }
}

/// Content with dots unstuffed; none if it breaks off. `cut`: only its first octets are read.
fn content(peer: &mut impl BufRead, cut: bool) -> std::io::Result<Option<String>> {
    let mut content = Vec::new();
    loop {
        let start = content.len();
        if peer.read_until(b'\n', &mut content)? == 0 || cut {
            return Ok(None);
        }
        if content[start..] == *b".\r\n" {
            content.truncate(start);
            return Ok(Some(String::from_utf8_lossy(&content).into_owned()));
        }
        if content[start] == b'.' {
            content.remove(start);
        }
    }
}

fn path(line: &str) -> String {
    let start = line.find('<').map_or(0, |at| at + 1);
    line[start..line.rfind('>').unwrap_or(line.len())].into()
}

/// What the server reads and writes.
enum Transport {
    Clear(TcpStream),
    Unix(std::os::unix::net::UnixStream),
    Tls(Box<rustls::StreamOwned<rustls::ServerConnection, TcpStream>>),
}

impl Read for Transport {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Transport::Clear(socket) => {
                socket.set_read_timeout(Some(Duration::from_secs(30)))?;
                socket.read(into)
            }
            Transport::Unix(socket) => socket.read(into),
            Transport::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Transport::Clear(socket) => socket.write(bytes),
            Transport::Unix(socket) => socket.write(bytes),
            Transport::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Transport::Clear(socket) => socket.flush(),
            Transport::Unix(socket) => socket.flush(),
            Transport::Tls(stream) => stream.flush(),
        }
    }
}
