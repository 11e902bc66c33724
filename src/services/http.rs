//! Pages over HTTP/1.1 (RFC 9112), for whoever watches this server: a request line and a header in, one page out, the end.
//!
//! ```text
//!  one thread: poll --+--> accept, up to 64 clients; past that the one that has been here longest goes
//!                     +--> head, at most 8 KiB and 5 s --> page(path) --> answer, at most 5 s --> the client closes, 1 s
//! ```
//!
//! Nothing in it waits for one client, so that those that hang keep nobody else waiting, however many they are. No body is
//! read, no connection kept, nothing is changed by any request: what a web page of somebody else makes a browser ask here
//! does nothing, and it cannot read the answer, because that names no origin.
//!
//! Promises: whoever asks, and whatever, takes no more memory than a head and a page, and no more time than said above; the
//! thread ends when the handle is dropped.

use crate::log::{Level, event};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, shutdown};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Clients at a time.
const CLIENTS_MAX: usize = 64;
/// Octets of a request line and header together. Prometheus and curl send some hundred.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Time for a client to send its head, and again to take the page.
const LIMIT: Duration = Duration::from_secs(5);
/// Time for it to close then: a close of ours with octets unread would be a reset, which takes the page away from its reader.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Reads and writes for one client before the others get their turn.
const STEPS: usize = 16;
/// Pause after accept failed for want of descriptors, say: at once again would spin.
const STARVED_PAUSE: Duration = Duration::from_millis(100);

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// 200, 404 or 503, say.
    pub status: u16,
    /// Its media type.
    pub kind: &'static str,
    /// The text.
    pub text: String,
}

impl Page {
    /// Lines for people and for scripts.
    pub fn plain(status: u16, text: impl Into<String>) -> Page {
        Page { status, kind: "text/plain; charset=utf-8", text: text.into() }
    }
}

/// What makes the pages.
type Pages = dyn Fn(&str) -> Page + Send;

/// The running thread.
pub struct Http {
    listener: Arc<TcpListener>,
    stopping: Arc<AtomicBool>,
}

impl Http {
    /// The socket, before there is anything to serve. Errors: one line with a remedy.
    pub fn bind(address: SocketAddr) -> Result<TcpListener, String> {
        TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| format!("cannot listen on {address} for [admin]: {error}; choose another admin.listen"))
    }

    /// Serves `page` of each path that is asked for with GET or HEAD. Errors: one line with a remedy.
    pub fn start(listener: TcpListener, page: impl Fn(&str) -> Page + Send + 'static) -> Result<Http, String> {
        let http = Http { listener: Arc::new(listener), stopping: Arc::default() };
        let (listener, stopping) = (http.listener.clone(), http.stopping.clone());
        let serve = move || serve(&listener, &stopping, &page);
        let thread = thread::Builder::new().name("http".into()).spawn(serve);
        thread.map_err(|error| format!("no http thread: {error}; raise the limit on processes"))?;
        Ok(http)
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // On Linux this wakes the poll, and the port is free. Nobody waits for a client that hangs.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
    }
}

fn serve(listener: &TcpListener, stopping: &AtomicBool, page: &Pages) {
    let mut clients: Vec<Client> = Vec::new();
    while !stopping.load(Ordering::SeqCst) {
        let woken = wait(listener, &clients);
        let mut woken = woken.into_iter();
        let knocks = woken.next().unwrap_or(true);
        let now = Instant::now();
        clients.retain_mut(|client| match woken.next() {
            Some(true) => client.go_on(page, now).is_ok_and(|goes_on| goes_on),
            _ => now < client.until,
        });
        if knocks && !stopping.load(Ordering::SeqCst) {
            accept(listener, &mut clients, page);
        }
    }
}

/// Waits until there is something to do for the listener, which is the first, and each client, or for the first one's time to
/// be over.
fn wait(listener: &TcpListener, clients: &[Client]) -> Vec<bool> {
    let mut all = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    all.extend(clients.iter().map(|client| PollFd::new(client.stream.as_fd(), client.waits_for())));
    let left = clients.iter().map(|client| client.until.saturating_duration_since(Instant::now())).min();
    // One more, because what is left is rounded down.
    let patience =
        left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX));
    match poll(&mut all, patience) {
        Ok(_) => all.iter().map(|one| one.any().unwrap_or(true)).collect(),
        Err(Errno::EINTR) => vec![false; all.len()],
        Err(error) => {
            event(Level::Debug, "http poll failed").field("error", error).emit();
            thread::sleep(STARVED_PAUSE);
            vec![true; all.len()]
        }
    }
}

/// Takes those that wait; most have said all when they are taken.
fn accept(listener: &TcpListener, clients: &mut Vec<Client>, page: &Pages) {
    for _ in 0..CLIENTS_MAX {
        match listener.accept().and_then(|(stream, _)| Client::new(stream)) {
            Ok(mut client) => {
                if !client.go_on(page, Instant::now()).is_ok_and(|goes_on| goes_on) {
                    continue;
                }
                if clients.len() >= CLIENTS_MAX {
                    clients.remove(0);
                }
                clients.push(client);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => {
                event(Level::Debug, "http accept failed").field("error", error).emit();
                return thread::sleep(STARVED_PAUSE);
            }
        }
    }
}

/// Somebody who asks.
struct Client {
    stream: TcpStream,
    stage: Stage,
    /// Until then this stage must be over.
    until: Instant,
}

/// How far it is.
enum Stage {
    /// What has come of its head.
    Head(Vec<u8>),
    /// The answer, and how much of it was taken.
    Answer(Vec<u8>, usize),
    /// It has all, and is to close.
    Close,
}

impl Client {
    fn new(stream: TcpStream) -> io::Result<Client> {
        stream.set_nonblocking(true)?;
        Ok(Client { stream, stage: Stage::Head(Vec::with_capacity(1024)), until: Instant::now() + LIMIT })
    }

    fn waits_for(&self) -> PollFlags {
        match self.stage {
            Stage::Answer(..) => PollFlags::POLLOUT,
            Stage::Head(_) | Stage::Close => PollFlags::POLLIN,
        }
    }

    /// Does what can be done without waiting. Ok(false), or an error: it is over.
    fn go_on(&mut self, page: &Pages, now: Instant) -> io::Result<bool> {
        for _ in 0..STEPS {
            match self.step(page, now) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(now < self.until),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(now < self.until)
    }

    /// One read or write; false: it is over.
    fn step(&mut self, page: &Pages, now: Instant) -> io::Result<bool> {
        let mut piece = [0; 1024];
        match &mut self.stage {
            Stage::Head(head) => {
                let count = self.stream.read(&mut piece)?;
                head.extend_from_slice(&piece[..count]);
                if count == 0 || is_whole(head) || head.len() >= HEAD_BYTES_MAX {
                    (self.stage, self.until) = (Stage::Answer(answer(head, page), 0), now + LIMIT);
                }
            }
            Stage::Answer(text, taken) if *taken < text.len() => match self.stream.write(&text[*taken..])? {
                0 => return Ok(false),
                count => *taken += count,
            },
            Stage::Answer(..) => {
                self.stream.shutdown(std::net::Shutdown::Write)?;
                (self.stage, self.until) = (Stage::Close, now + CLOSE_LIMIT);
            }
            Stage::Close => return Ok(self.stream.read(&mut piece)? > 0),
        }
        Ok(true)
    }
}

/// What a client is sent that has sent `head`.
fn answer(head: &[u8], page: &Pages) -> Vec<u8> {
    let request = Request::parse(head);
    let page = match &request {
        // Only a bug can do that, and the next page may be without it.
        Ok(request) => catch_unwind(AssertUnwindSafe(|| page(request.path)))
            .unwrap_or_else(|_| Page::plain(500, "this page cannot be made, a bug; the log says more\n")),
        Err(refused) => refused.clone(),
    };
    let mut text = head_of(&page).into_bytes();
    if !request.is_ok_and(|request| request.head_only) {
        text.extend_from_slice(page.text.as_bytes());
    }
    text
}

/// RFC 9112 section 2.2 lets a bare LF end a line.
fn is_whole(head: &[u8]) -> bool {
    memchr::memmem::find(head, b"\r\n\r\n").or(memchr::memmem::find(head, b"\n\n")).is_some()
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    path: &'a str,
    head_only: bool,
}

impl Request<'_> {
    /// The request line; nothing in the header matters. Errors: what to answer.
    fn parse(head: &[u8]) -> Result<Request<'_>, Page> {
        if !is_whole(head) {
            return Err(match head.len() < HEAD_BYTES_MAX {
                true => Page::plain(400, "the request does not end\n"),
                false => Page::plain(431, "the request is too long\n"),
            });
        }
        let line = head.split(|&octet| octet == b'\n').next().unwrap_or_default();
        let line = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).unwrap_or_default();
        let words: Vec<&str> = line.split(' ').collect();
        let [method, target, version] = words[..] else { return Err(Page::plain(400, "this is no HTTP request\n")) };
        if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
            return Err(Page::plain(400, "this is no HTTP/1.1 request for a page of this server\n"));
        }
        let path = target.split('?').next().unwrap_or(target);
        match method {
            "GET" | "HEAD" => Ok(Request { path, head_only: method == "HEAD" }),
            _ => Err(Page::plain(405, "only GET and HEAD are understood\n")),
        }
    }
}

/// RFC 9110: status line and header of an answer. `no-store`, because each page is of now.
fn head_of(page: &Page) -> String {
    let reason = match page.status {
        200 => "OK",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Bad Request",
    };
    let allow = if page.status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        page.status,
        page.kind,
        page.text.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> Http {
        let page = |path: &str| match path {
            "/" => Page::plain(200, "home\n"),
            "/bug" => panic!("on purpose"),
            "/large" => Page::plain(200, "x".repeat(8 << 20)),
            _ => Page::plain(404, "no such page\n"),
        };
        Http::start(Http::bind("127.0.0.1:0".parse().expect("an address")).expect("a port"), page).expect("threads")
    }

    fn connect(http: &Http) -> TcpStream {
        TcpStream::connect(http.address().expect("bound")).expect("connected")
    }

    fn ask(http: &Http, pieces: &[&[u8]]) -> String {
        let mut stream = connect(http);
        for piece in pieces {
            stream.write_all(piece).expect("sent");
        }
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answered");
        text
    }

    #[test]
    fn a_page_comes_whole_and_the_connection_ends() {
        let http = started();
        let text = ask(&http, &[b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"]);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nhome\n"), "{text}");
        assert!(text.contains("\r\nContent-Length: 5\r\n") && text.contains("\r\nConnection: close\r\n"), "{text}");
        let large = ask(&http, &[b"GET /large HTTP/1.0\r\n\r\n"]);
        assert_eq!(large.rsplit("\r\n").next().map(str::len), Some(8 << 20));
        let head = ask(&http, &[b"HEAD / HTTP/1.1\r\n\r\n"]);
        assert!(head.contains("Content-Length: 5\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[test]
    fn a_request_may_come_in_any_pieces() {
        let http = started();
        let request: &[u8] = b"GET /?now=1 HTTP/1.1\r\nHost: a\r\n\r\n";
        for split in 1..request.len() {
            let text = ask(&http, &[&request[..split], &request[split..]]);
            assert!(text.starts_with("HTTP/1.1 200 "), "{split}: {text}");
        }
    }

    #[test]
    fn what_is_no_request_is_answered_as_such() {
        let long = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; HEAD_BYTES_MAX]].concat();
        let table: [(&[u8], u16); 10] = [
            (b"GET /elsewhere HTTP/1.1\r\n\r\n", 404),
            (b"GET / HTTP/1.1\n\n", 200),
            (b"GET /bug HTTP/1.1\r\n\r\n", 500),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
            (b"GET http://elsewhere/ HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/2\r\n\r\n", 400),
            (b"GET  / HTTP/1.1\r\n\r\n", 400),
            (b"\r\n\r\n", 400),
            (b"EHLO \xff\xfe\r\n\r\n", 400),
            (&long, 431),
        ];
        let http = started();
        for (request, status) in table {
            let text = ask(&http, &[request]);
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {text}");
            assert_eq!(text.contains("\r\nAllow: GET, HEAD\r\n"), status == 405);
        }
    }

    /// More than there is room for: the next one is served at once all the same, and one that has its page on the way gets it.
    #[test]
    fn who_hangs_keeps_nobody_waiting() {
        let http = started();
        let mut hanging: Vec<TcpStream> = (0..CLIENTS_MAX).map(|_| connect(&http)).collect();
        hanging[0].write_all(b"GET /large HTTP/1.1\r\n\r\n").expect("sent");
        hanging[1].write_all(b"GET / HT").expect("sent");
        let mut slow = connect(&http);
        slow.write_all(b"GET /large HTTP/1.1\r\n\r\n").expect("sent");
        for _ in 0..3 {
            hanging.extend((0..CLIENTS_MAX / 4).map(|_| connect(&http)));
            assert!(ask(&http, &[b"GET / HTTP/1.1\r\n\r\n"]).ends_with("home\n"));
        }
        let mut text = String::new();
        slow.read_to_string(&mut text).expect("its page");
        assert_eq!(text.rsplit("\r\n").next().map(str::len), Some(8 << 20));
        drop(hanging);
    }

    #[test]
    fn who_says_nothing_or_takes_nothing_is_cut_off() {
        let http = started();
        for request in [&b""[..], b"GET / HT"] {
            let mut stream = connect(&http);
            stream.write_all(request).expect("sent");
            stream.set_read_timeout(Some(12 * LIMIT)).expect("set");
            assert_eq!(stream.read(&mut [0]).expect("closed, and not kept for ever"), 0);
        }
        let mut stream = connect(&http);
        stream.write_all(b"GET /large HTTP/1.1\r\n\r\n").expect("sent");
        thread::sleep(2 * LIMIT);
        let mut taken = Vec::new();
        let _ = stream.read_to_end(&mut taken);
        assert!(taken.starts_with(b"HTTP/1.1 200 ") && taken.len() < 8 << 20, "{}", taken.len());
    }

    #[test]
    fn a_port_in_use_is_told_with_a_remedy_and_free_when_it_ends() {
        let http = started();
        let address = http.address().expect("bound");
        let said = Http::bind(address).expect_err("in use");
        assert!(said.contains("choose another admin.listen"), "{said}");
        drop(http);
        assert!(Http::bind(address).is_ok());
    }
}
