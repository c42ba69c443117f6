//! A stream under TLS.
//!
//! Boxed where it is used: sessions without TLS pay nothing for it. What is written may stay behind in TLS while the
//! socket takes no more: whoever writes asks `poll_drained` before it counts on the peer having it.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, CommonState};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::socket::Socket;
use super::tls::Identity;

/// What is handed to TLS at once, in bytes.
const HANDED_BYTES_MAX: usize = 16 * 1024;

/// What is read from the socket at once, in bytes. TLS itself would ask for 4 KB each time.
const AHEAD_BYTES: usize = 64 * 1024;

thread_local! {
    /// The thread's buffer for reads ahead. A stream keeps it only while something is left in it: idle ones own none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A TLS connection over a socket.
#[derive(Debug)]
pub(super) struct Secured {
    stream: TlsStream<Carrier>,
    end_point: Option<Vec<u8>>,
}

/// A socket and what was read of it ahead of TLS.
#[derive(Debug)]
struct Carrier {
    socket: Socket,
    ahead: Vec<u8>,
    /// What of `ahead` is still to be given.
    left: std::ops::Range<usize>,
}

impl Secured {
    /// Answers a client's handshake, of which `ahead` has been read already.
    pub async fn accept(socket: Socket, ahead: Vec<u8>, identity: &Identity) -> io::Result<Secured> {
        let left = 0..ahead.len();
        let stream = TlsAcceptor::from(identity.config.clone()).accept(Carrier { socket, ahead, left }).await?;
        Ok(Secured { stream: stream.into(), end_point: identity.end_point.clone() })
    }

    /// Begins a handshake with the server.
    pub async fn connect(socket: Socket, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Secured> {
        let carrier = Carrier { socket, ahead: Vec::new(), left: 0..0 };
        let stream = TlsConnector::from(config).connect(name, carrier).await?;
        Ok(Secured { stream: stream.into(), end_point: None })
    }

    /// The protocol that was agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.state().alpn_protocol()
    }

    /// Our certificate, as the client may tie its SCRAM proof to it.
    pub fn end_point(&self) -> Option<&[u8]> {
        self.end_point.as_deref()
    }

    fn state(&self) -> &CommonState {
        self.stream.get_ref().1
    }

    /// Ready once the socket has taken all that was written.
    #[inline]
    pub fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.state().wants_write() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Reads all records that have come, as far as there is room: TLS itself would give one.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut had = buffer.filled().len();
        match ready!(Pin::new(&mut self.stream).poll_read(cx, buffer)) {
            // The peer left without a word. PostgreSQL's messages tell themselves whether they are whole.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(())),
            Err(error) => return Poll::Ready(Err(error)),
            Ok(()) => {}
        }
        while buffer.filled().len() > had && buffer.remaining() > 0 && self.has_more() {
            had = buffer.filled().len();
            // What ends the stream here ends it at the next call too.
            if !matches!(Pin::new(&mut self.stream).poll_read(cx, buffer), Poll::Ready(Ok(()))) {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether something is left to give without a look at the socket.
    fn has_more(&self) -> bool {
        let (carrier, state) = self.stream.get_ref();
        !carrier.left.is_empty() || !state.wants_read()
    }

    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut written = 0;
        while written < bytes.len() {
            let end = bytes.len().min(written + HANDED_BYTES_MAX);
            match Pin::new(&mut self.stream).poll_write(cx, &bytes[written..end]) {
                Poll::Pending => break,
                Poll::Ready(taken) => written += taken?,
            }
            if self.state().wants_write() {
                break;
            }
        }
        if written == 0 && !bytes.is_empty() { Poll::Pending } else { Poll::Ready(Ok(written)) }
    }

    /// Small parts go in one record.
    pub fn poll_write_vectored(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if parts.iter().map(|part| part.len()).sum::<usize>() <= HANDED_BYTES_MAX {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        }
        let first = parts.iter().find(|part| !part.is_empty());
        self.poll_write(cx, first.map_or(&[], |part| part))
    }

    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Says that nothing more is coming, and ends the socket's side.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Carrier {
    /// Reads what there is, beyond what is asked for.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut spare = SPARE.take();
        spare.resize(AHEAD_BYTES, 0);
        let mut buffer = ReadBuf::new(&mut spare);
        let read = Pin::new(&mut self.socket).poll_read(cx, &mut buffer);
        self.left = 0..buffer.filled().len();
        if self.left.is_empty() {
            SPARE.set(spare);
        } else {
            self.ahead = spare;
        }
        read
    }
}

impl AsyncRead for Carrier {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let carrier = self.get_mut();
        if carrier.left.is_empty() {
            ready!(carrier.poll_ahead(cx))?;
        }
        let size = carrier.left.len().min(buffer.remaining());
        buffer.put_slice(&carrier.ahead[carrier.left.start..carrier.left.start + size]);
        carrier.left.start += size;
        if carrier.left.is_empty() && carrier.ahead.capacity() > 0 {
            SPARE.set(std::mem::take(&mut carrier.ahead));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
