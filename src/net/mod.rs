//! stub: the shapes that server, relay and loadgen code against
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Which kernel interface a thread's runtime uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring
    IoUring,
    /// monoio's legacy driver
    Epoll,
}
/// Can io_uring be used here? Err: why not (errno text).
pub fn probe_io_uring() -> Result<(), String> {
    todo!()
}
/// Pins the calling thread to `processor`, builds the runtime on it and runs `main` to its end.
pub fn run<F: Future>(_driver: Driver, _processor: Option<usize>, _main: F) -> io::Result<F::Output> {
    todo!()
}
/// What a thread's streams share: pooled buffers, and the sweeper that ends waits past their deadline.
pub struct Shared {}
impl Shared {
    /// For the current thread; spawns the sweeper task on the current runtime.
    pub fn start() -> Rc<Shared> {
        todo!()
    }
    /// From now on every `fill` that has nothing buffered ends with `ErrorKind::Interrupted` at once (draining).
    pub fn interrupt_idle(&self) {
        todo!()
    }
    /// Ends the sweeper task so that the runtime can be dropped.
    pub fn stop(&self) {
        todo!()
    }
    /// An empty pooled buffer / gives one back.
    pub fn take_buffer(&self) -> Vec<u8> {
        todo!()
    }
    /// Gives a buffer back.
    pub fn give_buffer(&self, _buffer: Vec<u8>) {
        todo!()
    }
}
/// A TCP or Unix connection, in the clear or under TLS.
pub struct Stream {}
impl Stream {
    /// Wraps an accepted or connected socket (TCP_NODELAY is set here).
    pub fn tcp(_socket: monoio::net::TcpStream, _shared: Rc<Shared>) -> Stream {
        todo!()
    }
    /// Wraps a Unix socket.
    pub fn unix(_socket: monoio::net::UnixStream, _shared: Rc<Shared>) -> Stream {
        todo!()
    }
    /// Waits that start from now on end with `ErrorKind::TimedOut` after `limit` (resolution: the sweeper's tick).
    pub fn set_deadline(&mut self, _limit: Duration) {
        todo!()
    }
    /// Server handshake. Unread clear-text input is dropped first. On failure the alert is sent before the error.
    pub async fn accept_tls(&mut self, _config: Arc<rustls::ServerConfig>) -> io::Result<()> {
        todo!()
    }
    /// Client handshake.
    pub async fn connect_tls(
        &mut self,
        _config: Arc<rustls::ClientConfig>,
        _name: rustls::pki_types::ServerName<'static>,
    ) -> io::Result<()> {
        todo!()
    }
    /// Hands buffered plaintext to `eat`, which returns how much it consumed and whether to stop. Runs until there is
    /// no buffered plaintext left or `eat` stops. If `eat` consumes nothing and does not stop, that is a bug (assert).
    /// TLS records are decrypted one at a time and eaten where rustls holds them; an unconsumed rest is copied.
    pub fn feed<R>(&mut self, _eat: impl FnMut(&[u8]) -> (usize, Option<R>)) -> io::Result<Option<R>> {
        todo!()
    }
    /// Reads more bytes from the socket. Ok(0): the peer has closed (for TLS: close_notify or EOF).
    pub async fn fill(&mut self) -> io::Result<usize> {
        todo!()
    }
    /// Is clear-text input waiting that `feed` has not given out (STARTTLS injection check)?
    pub fn has_unread(&self) -> bool {
        todo!()
    }
    /// Encrypts if under TLS, writes all, empties `out` (keeps its memory). Also sends pending TLS handshake bytes.
    pub async fn write(&mut self, _out: &mut Vec<u8>) -> io::Result<()> {
        todo!()
    }
    /// close_notify if under TLS, then a clean shutdown (half-close), bounded in time.
    pub async fn close(self) {
        todo!()
    }
    /// "TLSv1.3", "TLS_AES_128_GCM_SHA256"
    pub fn tls(&self) -> Option<(&'static str, &'static str)> {
        todo!()
    }
}
/// Loads PEM chain and key. Errors: one line with the file's name and a remedy.
pub fn server_config(
    _certificate: &std::path::Path,
    _key: &std::path::Path,
) -> Result<Arc<rustls::ServerConfig>, String> {
    todo!()
}
/// A client configuration that does not verify certificates (opportunistic TLS).
pub fn unverified_client_config() -> Arc<rustls::ClientConfig> {
    todo!()
}
