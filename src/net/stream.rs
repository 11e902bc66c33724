//! One connection, in the clear or under TLS: read, feed, write, close.
//!
//! The caller's loop is always the same: `feed` until it gives nothing, `write` what came of it, `fill`, again.
//! `feed` is not async and lends the bytes where they lie; `fill` and `write` wait and lend nothing. So no borrow lives
//! across an `.await`, and the kernel owns a buffer only while we do not.
//!
//! Reading follows how busy the connection is. A busy one has a read under way that holds a pooled buffer: one
//! operation per read. One that has waited for a tick gives the buffer back and waits for readiness: two more
//! operations, once per pause. What it has of a record that is not complete is copied into memory of that size.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use monoio::buf::{IoBuf, IoBufMut};
use monoio::net::{TcpStream, UnixStream};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::buffer::{Window, eat_all};
use super::deadline::{Hook, Shared, Verdict, Wait, Watch};
use super::failure::{BeganWithProxy, SaidNothing};
use super::proxy::is_header;
use super::socket::FIRST_BYTES;
use super::socket::Socket;
use super::tls::Tls;
use super::tls_config::ServerTls;

/// Until [`Stream::set_deadline`] says otherwise (RFC 5321 section 4.5.3.2.7).
const DEADLINE_DEFAULT: Duration = Duration::from_secs(300);

/// How long [`Stream::close`] may take to send what is left, and then to see the peer close.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// How much [`Stream::close`] reads and throws away meanwhile, in bytes.
const CLOSE_BYTES_MAX: usize = 256 * 1024;

/// How often [`Stream::unless_gone`] looks. Readiness would not do: what a client sends meanwhile would hide its end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// With so many unread octets [`Stream::unless_gone`] reads no more.
const AHEAD_BYTES_MAX: usize = 16 * 1024;

/// So much of something incomplete is copied at once when there are many that wait; more only after a tick.
const SMALL_REST_BYTES: usize = 1024;

/// A TCP or Unix connection, in the clear or under TLS.
pub struct Stream {
    socket: Socket,
    shared: Rc<Shared>,
    watch: Rc<Watch>,
    /// Bytes from the socket: clear text, or TLS records.
    input: Window,
    /// Decrypted bytes that an eater left.
    plain: Window,
    tls: Option<Box<Tls>>,
    limit: Limit,
    flags: Flags,
}

/// When a wait is over.
#[derive(Clone, Copy)]
enum Limit {
    /// So long after it began.
    After(Duration),
    /// At this tick, whenever it began.
    At(u64),
}

#[derive(Default)]
struct Flags {
    /// The last read waited so long that it gave its buffer back.
    paused: bool,
    /// The socket has no more bytes for us.
    eof: bool,
    /// A handshake was begun and did not succeed: nothing is read or written any more.
    dead: bool,
    /// Draining leaves this stream alone.
    exempt: bool,
}

impl Stream {
    /// Wraps an accepted or connected socket (TCP_NODELAY is set here: replies are written whole, and waiting for the
    /// peer's acknowledgement would cost 40 ms).
    pub fn tcp(socket: TcpStream, shared: Rc<Shared>) -> Stream {
        // It fails only on a connection that is already gone, and the first read says that better.
        let _ = socket.set_nodelay(true);
        Stream::new(Socket::Tcp(socket), shared)
    }

    /// Wraps a Unix socket.
    pub fn unix(socket: UnixStream, shared: Rc<Shared>) -> Stream {
        Stream::new(Socket::Unix(socket), shared)
    }

    fn new(socket: Socket, shared: Rc<Shared>) -> Stream {
        Stream {
            socket,
            watch: shared.watch(),
            shared,
            input: Window::default(),
            plain: Window::default(),
            tls: None,
            limit: Limit::After(DEADLINE_DEFAULT),
            flags: Flags::default(),
        }
    }

    /// Waits that start from now on end with `ErrorKind::TimedOut` after `limit`: never before, and up to two ticks of
    /// the sweeper after. A wait is one `fill`, one `write`, or one whole handshake.
    pub fn set_deadline(&mut self, limit: Duration) {
        self.limit = Limit::After(limit);
    }

    /// Waits that start from now on end at this tick of [`Shared::tick`], however many they are: a deadline for all of
    /// them together.
    pub fn set_deadline_at(&mut self, tick: u64) {
        self.limit = Limit::At(tick);
    }

    /// The tick at which a wait that begins now has lasted `limit`, for [`Stream::set_deadline_at`].
    pub fn tick_after(&self, limit: Duration) -> u64 {
        self.shared.tick_after(limit)
    }

    /// By which somebody else ends a wait of this stream.
    pub fn hook(&self) -> Hook {
        Hook(self.watch.clone())
    }

    fn until_tick(&self) -> u64 {
        match self.limit {
            Limit::After(limit) => self.shared.tick_after(limit),
            Limit::At(tick) => tick,
        }
    }

    /// May draining ([`Shared::interrupt_idle`]) end a `fill` of this stream? Yes, until told otherwise: say no while a
    /// message is being received.
    pub fn set_interruptible(&mut self, interruptible: bool) {
        self.flags.exempt = !interruptible;
    }

    /// Server handshake. Unread clear-text input is dropped first. On failure the alert is sent before the error, and
    /// the stream is good for nothing but `close`.
    pub async fn accept_tls(&mut self, tls: &ServerTls) -> io::Result<()> {
        self.input.clear();
        self.accept_implicit_tls(tls).await
    }

    /// Server handshake where TLS comes first: unread input is the beginning of it, and nothing but a header of a proxy
    /// may have been read before. On failure as [`Stream::accept_tls`].
    pub async fn accept_implicit_tls(&mut self, tls: &ServerTls) -> io::Result<()> {
        let (config, showing) = tls.for_connection();
        self.handshake(Tls::server(config)?, !self.flags.exempt).await?;
        if let Some(tls) = &mut self.tls {
            tls.end_point = showing.end_point();
        }
        Ok(())
    }

    /// Client handshake. Unread clear-text input is dropped first, so that nothing said in the clear is believed under
    /// TLS. On failure as [`Stream::accept_tls`].
    pub async fn connect_tls(&mut self, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<()> {
        let tls = Tls::client(config, name)?;
        self.input.clear();
        self.handshake(tls, false).await
    }

    /// `interruptible`: until the peer's first byte.
    async fn handshake(&mut self, tls: Box<Tls>, mut interruptible: bool) -> io::Result<()> {
        assert!(self.tls.is_none(), "TLS inside TLS");
        self.tls = Some(tls);
        let mut heard = !self.input.is_empty();
        let until_tick = self.until_tick();
        // Dead until proven alive, so that neither an error nor a dropped future leaves the stream in the clear.
        self.flags.dead = true;
        loop {
            // After a failure nobody may look at the input any more.
            let began_with_proxy = is_header(self.input.unread());
            let done = self.step_handshake();
            let done = done.map_err(|error| if began_with_proxy { BeganWithProxy::error(error) } else { error });
            self.flush_tls(until_tick).await.or_else(|error| if done.is_err() { Ok(()) } else { Err(error) })?;
            if done? {
                self.flags.dead = false;
                return Ok(());
            }
            match self.receive(until_tick, interruptible).await {
                Ok(0) if !heard => return Err(SaidNothing::error(io::ErrorKind::UnexpectedEof)),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {
                    heard = true;
                    self.watch.check_hook()?;
                }
                Err(error)
                    if !heard && matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::TimedOut) =>
                {
                    return Err(SaidNothing::error(error.kind()));
                }
                Err(error) => return Err(error),
            }
            interruptible = false;
        }
    }

    fn step_handshake(&mut self) -> io::Result<bool> {
        let pool = &self.shared.pool;
        let Some(tls) = &mut self.tls else { return Err(io::ErrorKind::NotConnected.into()) };
        tls.handshake(&mut self.input, &mut self.plain, pool)
    }

    /// Hands buffered plaintext to `eat`, which returns how much it consumed and whether to stop. Runs until there is
    /// no buffered plaintext left or `eat` stops. If `eat` consumes nothing and does not stop, that is a bug (assert).
    /// TLS records are decrypted one at a time and eaten where rustls holds them; an unconsumed rest is copied.
    ///
    /// Err: the TLS connection is broken (`ErrorKind::InvalidData`); `close` sends the alert.
    pub fn feed<R>(&mut self, mut eat: impl FnMut(&[u8]) -> (usize, Option<R>)) -> io::Result<Option<R>> {
        let clear = self.tls.is_none();
        let first = if clear { &mut self.input } else { &mut self.plain };
        let (eaten, stop) = eat_all(first.unread(), &mut eat);
        first.eat(eaten);
        if stop.is_some() {
            return Ok(stop);
        }
        let pool = &self.shared.pool;
        self.plain.release(pool);
        match &mut self.tls {
            Some(tls) => tls.feed(&mut self.input, &mut self.plain, pool, &mut eat),
            None => Ok(None),
        }
    }

    /// Reads more bytes from the socket. Ok(0): the peer has closed (for TLS: close_notify or EOF, see
    /// [`Stream::is_truncated`]). What `feed` has not given out yet is kept.
    pub async fn fill(&mut self) -> io::Result<usize> {
        if self.flags.dead {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let until_tick = self.until_tick();
        self.flush_tls(until_tick).await?;
        self.watch.check_hook()?;
        let first_byte = self.input.is_empty() && self.plain.is_empty();
        self.receive(until_tick, first_byte && !self.flags.exempt).await
    }

    /// Is clear-text input waiting that `feed` has not given out (STARTTLS injection check)?
    pub fn has_unread(&self) -> bool {
        !self.plain.is_empty() || (self.tls.is_none() && !self.input.is_empty())
    }

    /// Would a `fill` find something, or the end, without waiting?
    pub fn has_arrived(&self) -> bool {
        self.socket.has_arrived()
    }

    /// Has the peer sent something that `feed` has not given out? Looks without waiting.
    pub fn has_spoken(&self) -> bool {
        self.has_unread() || self.socket.has_spoken()
    }

    /// Does `work` unless the peer goes first: then None, and `work` is dropped. A peer that has closed its side counts as
    /// gone. What it sends meanwhile is kept for `feed`.
    pub async fn unless_gone<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        while !self.has_gone().await {
            if let Ok(done) = monoio::time::timeout(LOOK_EVERY, work.as_mut()).await {
                return Some(done);
            }
        }
        None
    }

    /// Looks without waiting. An orderly end hides behind what was sent before it, under TLS always behind close_notify, so
    /// that is read, as long as it is little: who sends more is there.
    pub async fn has_gone(&mut self) -> bool {
        if self.input.unread().len() < AHEAD_BYTES_MAX && self.socket.has_spoken() {
            let until_tick = self.shared.tick_after(CLOSE_LIMIT);
            if let Err(error) = Box::pin(self.receive(until_tick, false)).await {
                return error.kind() != io::ErrorKind::TimedOut;
            }
        }
        self.flags.eof || self.socket.has_hung_up()
    }

    /// The first octets that a peer has sent in the clear before anything was read, as far as they are there.
    pub fn first_spoken(&self) -> [u8; FIRST_BYTES] {
        self.socket.first_spoken()
    }

    /// Encrypts if under TLS, writes all, empties `out` (keeps its memory). Also sends pending TLS handshake bytes.
    pub async fn write(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if self.flags.dead {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let until_tick = self.until_tick();
        if self.tls.is_none() {
            return self.send_all(out, until_tick).await;
        }
        let mut sealed = 0;
        while sealed < out.len() {
            sealed += self.encrypt(&out[sealed..])?;
            self.flush_tls(until_tick).await?;
        }
        out.clear();
        self.flush_tls(until_tick).await
    }

    fn encrypt(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let pool = &self.shared.pool;
        let Some(tls) = &mut self.tls else { return Err(io::ErrorKind::NotConnected.into()) };
        tls.encrypt(bytes, &mut self.input, &mut self.plain, pool)
    }

    /// close_notify if under TLS, then a clean shutdown (half-close), bounded in time: what was written last must not be
    /// lost to a reset, so the peer's end is awaited for a moment and what it still sends is thrown away.
    pub async fn close(mut self) {
        let until_tick = self.shared.tick_after(CLOSE_LIMIT);
        if let Some(tls) = &mut self.tls {
            tls.close_notify(&mut self.input, &mut self.plain, &self.shared.pool);
        }
        let sent = self.flush_tls(until_tick).await.is_ok() && self.socket.shut_down_sending().await.is_ok();
        let peer_closed = self.flags.eof || self.tls.as_ref().is_some_and(|tls| tls.peer_closed());
        let mut thrown_away = 0;
        while sent && !peer_closed && thrown_away < CLOSE_BYTES_MAX {
            self.input.clear();
            match self.receive_raw(until_tick, false).await {
                Ok(count) if count > 0 => thrown_away += count,
                _ => break,
            }
        }
    }

    /// Version and cipher suite: "TLSv1.3", "TLS_AES_128_GCM_SHA256". None: in the clear.
    pub fn tls(&self) -> Option<(&'static str, &'static str)> {
        self.tls.as_ref().filter(|_| !self.flags.dead).and_then(|tls| tls.names())
    }

    /// What SCRAM binds to (`tls-server-end-point`, RFC 5929 section 4): a hash of the certificate that the server of this
    /// connection showed, ours or the peer's. None: in the clear, or the certificate's signature names no hash function.
    pub fn tls_server_end_point(&self) -> Option<Arc<[u8]>> {
        self.tls.as_ref().filter(|_| !self.flags.dead).and_then(|tls| tls.server_end_point())
    }

    /// Did a TLS peer end without close_notify, so that its last bytes may have been cut off?
    pub fn is_truncated(&self) -> bool {
        self.flags.eof && self.tls.as_ref().is_some_and(|tls| !tls.peer_closed())
    }

    /// As [`Stream::receive_raw`], but knows when there is nothing left to come.
    async fn receive(&mut self, until_tick: u64, interruptible: bool) -> io::Result<usize> {
        let tls_ended = self.tls.as_ref().is_some_and(|tls| tls.peer_closed() || tls.has_failed());
        if self.flags.eof || tls_ended {
            return Ok(0);
        }
        self.receive_raw(until_tick, interruptible).await
    }

    /// One read into `input`, behind what is unread there.
    async fn receive_raw(&mut self, until_tick: u64, interruptible: bool) -> io::Result<usize> {
        loop {
            self.input.release(&self.shared.pool);
            // A large rest is the middle of something: who sends that is about to go on, and copying it would cost more.
            let crowded = self.shared.is_crowded() && self.input.unread().len() <= SMALL_REST_BYTES;
            if self.flags.paused || crowded {
                self.input.shrink(&self.shared.pool);
                self.wait_until_readable(until_tick, interruptible).await?;
            }
            self.flags.paused = false;
            if let Some(count) = self.receive_now(until_tick, interruptible).await? {
                self.flags.eof |= count == 0;
                return Ok(count);
            }
            self.flags.paused = true;
        }
    }

    async fn wait_until_readable(&mut self, until_tick: u64, interruptible: bool) -> io::Result<()> {
        self.watch.forget_canceller();
        self.watch.begin(&self.shared, Wait::Readiness, until_tick, interruptible)?;
        let readable = self.watch.or_verdict(self.socket.readable()).await;
        self.watch.finish(&self.shared);
        readable
    }

    /// None: the sweeper wants the buffer back, and nothing was read.
    async fn receive_now(&mut self, until_tick: u64, interruptible: bool) -> io::Result<Option<usize>> {
        self.watch.begin(&self.shared, Wait::Read, until_tick, interruptible)?;
        let Some(buffer) = self.input.lend(&self.shared.pool) else {
            self.watch.finish(&self.shared);
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more unread input than a message may have"));
        };
        let unread = buffer.len();
        let (result, buffer) = self.socket.recv(buffer.slice_mut(unread..), self.watch.cancel_handle()).await;
        self.input.restore(buffer.into_inner());
        match (result, self.watch.finish(&self.shared)) {
            (Ok(count), _) => Ok(Some(count)),
            (Err(error), Verdict::Idle) if is_cancelled(&error) => Ok(None),
            (Err(error), verdict) => Err(verdict.error().filter(|_| is_cancelled(&error)).unwrap_or(error)),
        }
    }

    /// Sends the TLS records that wait to be sent.
    async fn flush_tls(&mut self, until_tick: u64) -> io::Result<()> {
        let Some(tls) = self.tls.as_mut().filter(|tls| !tls.out.is_empty()) else { return Ok(()) };
        let mut records = std::mem::take(&mut tls.out);
        let sent = self.send_all(&mut records, until_tick).await;
        self.shared.pool.give(records);
        sent
    }

    /// Sends all of `out` and empties it, also when it fails.
    async fn send_all(&mut self, out: &mut Vec<u8>, until_tick: u64) -> io::Result<()> {
        let mut bytes = std::mem::take(out);
        let mut sent = 0;
        let mut result = Ok(());
        while sent < bytes.len() && result.is_ok() {
            self.watch.begin(&self.shared, Wait::Write, until_tick, false)?;
            let (written, rest) = self.socket.send(bytes.slice(sent..), self.watch.cancel_handle()).await;
            bytes = rest.into_inner();
            result = match (written, self.watch.finish(&self.shared)) {
                (Ok(0), _) => Err(io::ErrorKind::WriteZero.into()),
                (Ok(count), verdict) => {
                    sent += count;
                    verdict.error().filter(|_| sent < bytes.len()).map_or(Ok(()), Err)
                }
                (Err(error), verdict) => Err(verdict.error().filter(|_| is_cancelled(&error)).unwrap_or(error)),
            };
        }
        bytes.clear();
        *out = bytes;
        result
    }
}

/// For tests of what happens between a record's octets.
#[cfg(test)]
impl Stream {
    /// `bytes` as records that are not sent.
    pub(super) fn sealed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.encrypt(bytes).expect("under TLS");
        self.tls.as_mut().map(|tls| std::mem::take(&mut tls.out)).unwrap_or_default()
    }

    /// Sends octets as they are, also under TLS.
    pub(super) async fn send_raw(&mut self, bytes: &[u8]) {
        let until_tick = self.until_tick();
        self.send_all(&mut bytes.to_vec(), until_tick).await.expect("sent");
    }

    pub(super) fn input_memory_bytes(&self) -> usize {
        self.input.memory_bytes()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        for window in [&mut self.input, &mut self.plain] {
            window.clear();
            window.release(&self.shared.pool);
        }
    }
}

fn is_cancelled(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::ECANCELED as i32)
}
