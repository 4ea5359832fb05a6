//! A client's socket that can be cut off from outside, whatever the session does with it just then.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How much is read at once: a session reads every packet in two parts, and each would be a system call.
const READ_AHEAD: usize = 64 * 1024;

/// A socket that ends when its token is cancelled.
pub(super) struct Stream {
    socket: BufReader<TcpStream>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Stream {
    pub(super) fn new(socket: TcpStream, cut: CancellationToken) -> Self {
        Self { socket: BufReader::with_capacity(READ_AHEAD, socket), cut: Box::pin(cut.cancelled_owned()) }
    }

    /// What `poll` says, unless it would wait for a socket that is cut off.
    fn unless_cut<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut BufReader<TcpStream>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match poll(Pin::new(&mut self.socket), context) {
            Poll::Pending => {
                ready!(self.cut.as_mut().poll(context));
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
            ready => ready,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().unless_cut(context, |socket, context| socket.poll_read(context, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().unless_cut(context, |socket, context| socket.poll_write(context, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().unless_cut(context, |socket, context| socket.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().unless_cut(context, |socket, context| socket.poll_shutdown(context))
    }
}
