//! A TCP or a Unix socket, behind one face.
//!
//! An enum, because monoio's streams share no object-safe trait, and an idle connection should cost no vtable box.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use monoio::BufResult;
use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncWriteRent, CancelHandle, CancelableAsyncReadRent, CancelableAsyncWriteRent};
use monoio::net::{TcpStream, UnixStream};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrStorage, getpeername, recv};

/// Octets that tell a PROXY header from all else.
pub const FIRST_BYTES: usize = 12;

pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// One recv(2) into `buffer`. ECANCELED if the handle's canceller came first; data that came first wins.
    pub async fn recv<B: IoBufMut>(&mut self, buffer: B, cancel: CancelHandle) -> BufResult<usize, B> {
        match self {
            Socket::Tcp(socket) => socket.cancelable_read(buffer, cancel).await,
            Socket::Unix(socket) => socket.cancelable_read(buffer, cancel).await,
        }
    }

    /// One send(2) of `buffer` or a part of it.
    pub async fn send<B: IoBuf>(&mut self, buffer: B, cancel: CancelHandle) -> BufResult<usize, B> {
        match self {
            Socket::Tcp(socket) => socket.cancelable_write(buffer, cancel).await,
            Socket::Unix(socket) => socket.cancelable_write(buffer, cancel).await,
        }
    }

    /// Until a recv would not wait. Carries no data, so it may be dropped at any time.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.readable(false).await,
            Socket::Unix(socket) => socket.readable(false).await,
        }
    }

    /// Would a recv give something now? Only while none is under way.
    pub fn has_arrived(&self) -> bool {
        self.peek(&mut [0]).is_ok()
    }

    /// Would a recv give octets now?
    pub fn has_spoken(&self) -> bool {
        matches!(self.peek(&mut [0]), Ok(1..))
    }

    /// Has the peer closed its side, or is the connection broken? An orderly end is not seen while octets lie before it.
    pub fn has_hung_up(&self) -> bool {
        match self.peek(&mut [0]) {
            Ok(0) => true,
            // A reset is not in the queue behind what was sent before: the connection is no more.
            Ok(_) => getpeername::<SockaddrStorage>(self.descriptor()).is_err(),
            Err(error) => !matches!(error, Errno::EAGAIN | Errno::EINTR),
        }
    }

    /// The first of the octets that a recv would give now; zeros where there are fewer.
    pub fn first_spoken(&self) -> [u8; FIRST_BYTES] {
        let mut first = [0; FIRST_BYTES];
        // An error is that there is nothing.
        let _ = self.peek(&mut first);
        first
    }

    fn peek(&self, octets: &mut [u8]) -> nix::Result<usize> {
        recv(self.descriptor(), octets, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)
    }

    fn descriptor(&self) -> RawFd {
        match self {
            Socket::Tcp(socket) => socket.as_raw_fd(),
            Socket::Unix(socket) => socket.as_raw_fd(),
        }
    }

    /// Half-close: the peer sees the end of our bytes, and we still see its.
    pub async fn shut_down_sending(&mut self) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.shutdown().await,
            Socket::Unix(socket) => socket.shutdown().await,
        }
    }
}
