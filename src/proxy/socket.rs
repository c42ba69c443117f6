//! A stream to a client or to the server, whatever it runs over.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Upstream;
use super::secured::Secured;
use super::tls::Identity;

/// How the kernel finds out that a TCP connection's peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// An idle connection's peer is asked after this long whether it is still there.
    pub idle: Duration,
    /// How long until it is asked again; zero leaves it to the system.
    pub interval: Duration,
    /// How often it is asked in vain until the connection counts as gone; zero leaves it to the system.
    pub count: u32,
    /// How long sent bytes may stay unacknowledged; zero leaves it to the system.
    pub unacknowledged: Duration,
}

impl Default for Keepalive {
    fn default() -> Keepalive {
        Keepalive { idle: Duration::from_secs(60), interval: Duration::ZERO, count: 0, unacknowledged: Duration::ZERO }
    }
}

/// A socket as the acceptor hands it over, not yet of any thread's runtime.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// A socket of this thread's runtime.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<Secured>),
    /// It was given away, to a handshake that failed.
    Gone,
}

impl Accepted {
    pub fn into_socket(self, keepalive: &Keepalive) -> io::Result<Socket> {
        match self {
            Accepted::Tcp(socket) => tuned(TcpStream::from_std(socket)?, keepalive),
            Accepted::Unix(socket) => UnixStream::from_std(socket).map(Socket::Unix),
        }
    }
}

fn tuned(socket: TcpStream, keepalive: &Keepalive) -> io::Result<Socket> {
    socket.set_nodelay(true)?;
    let mut probes = TcpKeepalive::new().with_time(keepalive.idle);
    if !keepalive.interval.is_zero() {
        probes = probes.with_interval(keepalive.interval);
    }
    if keepalive.count > 0 {
        probes = probes.with_retries(keepalive.count);
    }
    let raw = SockRef::from(&socket);
    raw.set_tcp_keepalive(&probes)?;
    if !keepalive.unacknowledged.is_zero() {
        raw.set_tcp_user_timeout(Some(keepalive.unacknowledged))?;
    }
    Ok(Socket::Tcp(socket))
}

impl Socket {
    /// Connects to the server.
    pub async fn connect(upstream: &Upstream, keepalive: &Keepalive) -> io::Result<Socket> {
        match upstream {
            Upstream::Tcp { host, port } => tuned(TcpStream::connect((host.as_str(), *port)).await?, keepalive),
            Upstream::Unix { path } => UnixStream::connect(path).await.map(Socket::Unix),
        }
    }

    /// Goes on under TLS as its server. `ahead` is what was read of the handshake already.
    pub async fn accept_tls(&mut self, ahead: Vec<u8>, identity: &Identity) -> io::Result<()> {
        let plain = std::mem::replace(self, Socket::Gone);
        *self = Socket::Tls(Box::new(Secured::accept(plain, ahead, identity).await?));
        Ok(())
    }

    /// Goes on under TLS as its client.
    pub async fn connect_tls(&mut self, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<()> {
        let plain = std::mem::replace(self, Socket::Gone);
        *self = Socket::Tls(Box::new(Secured::connect(plain, config, name).await?));
        Ok(())
    }

    /// Whether it runs under TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Socket::Tls(_))
    }

    /// Whether it never leaves this machine.
    pub fn is_unix(&self) -> bool {
        matches!(self, Socket::Unix(_))
    }

    /// The protocol that TLS agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Socket::Tls(stream) => stream.alpn(),
            Socket::Tcp(_) | Socket::Unix(_) | Socket::Gone => None,
        }
    }

    /// What the client of this TLS connection may tie its SCRAM proof to.
    pub fn end_point(&self) -> Option<&[u8]> {
        match self {
            Socket::Tls(stream) => stream.end_point(),
            Socket::Tcp(_) | Socket::Unix(_) | Socket::Gone => None,
        }
    }

    /// Whether the kernel has all that was written; else the task is woken to ask again.
    #[inline]
    pub fn drained(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        match self {
            Socket::Tcp(_) | Socket::Unix(_) | Socket::Gone => Ok(true),
            Socket::Tls(stream) => match stream.poll_drained(cx) {
                Poll::Ready(drained) => drained.map(|()| true),
                Poll::Pending => Ok(false),
            },
        }
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(socket) => Pin::new(socket).poll_read(cx, buffer),
            Socket::Unix(socket) => Pin::new(socket).poll_read(cx, buffer),
            Socket::Tls(stream) => stream.poll_read(cx, buffer),
            Socket::Gone => Poll::Ready(Err(gone())),
        }
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Tls(stream) => stream.poll_write(cx, bytes),
            Socket::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
            Socket::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
            Socket::Tls(stream) => stream.poll_write_vectored(cx, parts),
            Socket::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Socket::Unix(socket) => Pin::new(socket).poll_flush(cx),
            Socket::Tls(stream) => stream.poll_flush(cx),
            Socket::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Tls(stream) => stream.poll_shutdown(cx),
            Socket::Gone => Poll::Ready(Err(gone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_without_tls_do_not_pay_for_it() {
        assert!(size_of::<Socket>() <= size_of::<TcpStream>() + size_of::<usize>());
    }
}
