//! A TCP or a Unix socket, behind one face.
//!
//! An enum, because monoio's streams share no object-safe trait, and an idle connection should cost no vtable box.

use std::io;
use std::os::fd::AsRawFd;

use monoio::BufResult;
use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncWriteRent, CancelHandle, CancelableAsyncReadRent, CancelableAsyncWriteRent};
use monoio::net::{TcpStream, UnixStream};
use nix::sys::socket::{MsgFlags, recv};

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
        self.peek().is_ok()
    }

    /// Would a recv give octets now?
    pub fn has_spoken(&self) -> bool {
        matches!(self.peek(), Ok(1..))
    }

    fn peek(&self) -> nix::Result<usize> {
        let descriptor = match self {
            Socket::Tcp(socket) => socket.as_raw_fd(),
            Socket::Unix(socket) => socket.as_raw_fd(),
        };
        recv(descriptor, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)
    }

    /// Half-close: the peer sees the end of our bytes, and we still see its.
    pub async fn shut_down_sending(&mut self) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.shutdown().await,
            Socket::Unix(socket) => socket.shutdown().await,
        }
    }
}
