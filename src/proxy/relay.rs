//! Moves bytes between a client and its server, past their session.
//!
//! Both directions are polled whenever the task runs. A direction reads only while all that it wrote before was taken,
//! so each keeps at most what one read and its consequences made; neither ever waits for the other.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tracing::debug;

use super::socket::Socket;
use super::thread::{Hot, SWEEP_EVERY, Thread};
use crate::schema::{Refusal, SqlState};
use crate::session::{Host as _, Out, Session};

/// How long a peer may take to hear that the session is over.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// One session's two sockets.
#[derive(Debug)]
pub(super) struct Relay {
    client: Socket,
    server: Socket,
    session: Session,
    to_client: Backlog,
    to_server: Backlog,
    client_end: End,
    /// The server takes nothing more; what it still has to say is read.
    server_deaf: bool,
    /// All that is left to do is to write what the client has not taken.
    closing: bool,
    registered: bool,
    /// The sweep from which on the client counts as idle.
    idle_from: u32,
}

/// Whether the client has ended its side, and whether the server was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Seen,
    Told,
}

/// What a peer has not taken yet.
#[derive(Debug, Default)]
struct Backlog {
    bytes: Vec<u8>,
    written: usize,
}

/// Which sides had nothing to read in this run of the task: they wake it when they have, and need not be asked again.
#[derive(Debug, Default)]
struct Waits {
    client: bool,
    server: bool,
}

/// The session is over.
#[derive(Debug)]
struct Over;

impl From<io::Error> for Over {
    fn from(error: io::Error) -> Over {
        debug!(%error, "a session's connection broke");
        Over
    }
}

/// The FATAL that ends a session when the proxy ends.
pub(super) fn shutting_down() -> Refusal {
    Refusal::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
        .detail("The proxy is shutting down.")
}

impl Relay {
    pub fn new(client: Socket, server: Socket, session: Session) -> Relay {
        Relay {
            client,
            server,
            session,
            to_client: Backlog::default(),
            to_server: Backlog::default(),
            client_end: End::Open,
            server_deaf: false,
            closing: false,
            registered: false,
            idle_from: 0,
        }
    }

    /// Relays until the session ends.
    pub fn poll(&mut self, cx: &mut Context<'_>, thread: &Thread, number: u64) -> Poll<()> {
        if !self.registered {
            self.registered = true;
            self.idle_from = thread.sweeps.get().wrapping_add(1);
            thread.register(number, cx.waker());
        }
        let mut hot = thread.hot.borrow_mut();
        let mut moved = false;
        let mut waits = Waits::default();
        loop {
            if thread.draining.get() && !self.closing && self.session.is_idle() {
                self.end(&mut hot, &shutting_down());
            }
            match self.step(cx, &mut hot, &mut waits) {
                Ok(true) => moved = true,
                Ok(false) if moved => {
                    self.idle_from = thread.sweeps.get().wrapping_add(1);
                    return Poll::Pending;
                }
                Ok(false) => match self.idle_too_long(thread) {
                    Some(refusal) => self.end(&mut hot, &refusal),
                    None => return Poll::Pending,
                },
                Err(Over) => return Poll::Ready(()),
            }
        }
    }

    /// What ends the session where its client has been idle for longer than it may.
    fn idle_too_long(&self, thread: &Thread) -> Option<Refusal> {
        let sweeps = thread.sweeps.get().wrapping_sub(self.idle_from);
        // The sweep of the last movement lies ahead until it has come.
        if sweeps == 0 || sweeps > u32::MAX / 2 || self.closing {
            return None;
        }
        let over = |limit: Option<Duration>| limit.is_some_and(|limit| SWEEP_EVERY * sweeps >= limit);
        if self.session.is_idle() && over(thread.limits.idle_session()) {
            let text = "terminating connection due to idle-session timeout";
            return Some(Refusal::new(SqlState("57P05"), text).detail("The proxy's limit is idle_session_timeout_ms."));
        }
        if self.session.is_idle_in_transaction() && over(thread.limits.idle_transaction()) {
            let text = "terminating connection due to idle-in-transaction timeout";
            return Some(
                Refusal::new(SqlState("25P03"), text).detail("The proxy's limit is idle_transaction_timeout_ms."),
            );
        }
        None
    }

    /// Relays until the login is done; answers with whether the session is over before that.
    pub fn poll_login(&mut self, cx: &mut Context<'_>, thread: &Thread) -> Poll<bool> {
        let mut hot = thread.hot.borrow_mut();
        let mut waits = Waits::default();
        while self.session.is_starting() {
            match self.step(cx, &mut hot, &mut waits) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(Over) => return Poll::Ready(true),
            }
        }
        Poll::Ready(false)
    }

    /// Ends a session whose login takes too long.
    pub async fn give_up(&mut self, thread: &Thread, refusal: &Refusal) {
        self.end(&mut thread.hot.borrow_mut(), refusal);
        let rest = std::mem::take(&mut self.to_client);
        // Whoever does not take a few bytes is not told.
        let told = async {
            self.client.write_all(rest.rest()).await?;
            self.client.flush().await
        };
        let _ = thread.background.timeout(FAREWELL_TIMEOUT, told).await;
    }

    /// Whether there is more to do at the end than to close the sockets.
    pub fn needs_farewell(&self) -> bool {
        self.client.is_tls() || self.server.is_tls()
    }

    /// Tells whoever is connected by TLS that this is the end, and not an accident.
    pub async fn farewell(&mut self, thread: &Thread) {
        let client = self.client.shutdown();
        let server = self.server.shutdown();
        let told = async { tokio::join!(client, server) };
        let _ = thread.background.timeout(FAREWELL_TIMEOUT, told).await;
    }

    fn end(&mut self, hot: &mut Hot, refusal: &Refusal) {
        hot.out.clear();
        self.session.end(refusal, &mut hot.out);
        let (made, _) = hot.out.to_client.parts(&[]);
        self.to_client.keep(made);
        self.closing = true;
    }

    /// Does what can be done now; answers with whether anything was.
    #[inline]
    fn step(&mut self, cx: &mut Context<'_>, hot: &mut Hot, waits: &mut Waits) -> Result<bool, Over> {
        let mut moved = false;
        if !self.to_client.is_empty() {
            moved |= self.to_client.poll_write(cx, &mut self.client)?;
        }
        let client_has_all = self.to_client.is_empty() && self.client.drained(cx)?;
        if self.closing {
            return if client_has_all { Err(Over) } else { Ok(moved) };
        }
        if !self.to_server.is_empty() {
            let written = self.to_server.poll_write(cx, &mut self.server);
            moved |= written.unwrap_or_else(|_| self.deafen());
        }
        let server_has_all = self.to_server.is_empty() && self.server.drained(cx).unwrap_or_else(|_| self.deafen());
        if server_has_all && self.session.is_held() && !hot.host.holds() {
            moved |= self.resume_client(cx, hot)?;
        }
        if self.client_end == End::Open && server_has_all && !waits.client && self.session.wants_client(&hot.host) {
            let read = self.read_client(cx, hot)?;
            waits.client = !read;
            moved |= read;
        }
        if self.client_end == End::Seen && server_has_all {
            // What the client asked before it left is answered; the server then ends its side.
            if Pin::new(&mut self.server).poll_shutdown(cx).is_ready() {
                self.client_end = End::Told;
            }
        }
        if client_has_all && !waits.server && self.to_client.is_empty() && !self.closing {
            let read = self.read_server(cx, hot)?;
            waits.server = !read;
            moved |= read;
        }
        Ok(moved)
    }

    #[inline]
    fn read_client(&mut self, cx: &mut Context<'_>, hot: &mut Hot) -> Result<bool, Over> {
        let mut buffer = ReadBuf::new(&mut hot.scratch);
        match Pin::new(&mut self.client).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(false),
            Poll::Ready(read) => read?,
        }
        let size = buffer.filled().len();
        if size == 0 {
            self.client_end = End::Seen;
            return Ok(true);
        }
        hot.host.shard().read_from_client(size);
        hot.out.clear();
        hot.host.input_begins();
        self.session.on_client(&mut hot.host, &hot.scratch[..size], &mut hot.out);
        self.deliver(cx, &hot.out, &[], size, &hot.scratch)?;
        Ok(true)
    }

    /// Transactions may begin again: what the client sent meanwhile goes on.
    #[cold]
    fn resume_client(&mut self, cx: &mut Context<'_>, hot: &mut Hot) -> Result<bool, Over> {
        hot.out.clear();
        hot.host.input_begins();
        self.session.on_rules(&mut hot.host, &mut hot.out);
        self.deliver(cx, &hot.out, &[], 0, &hot.scratch)?;
        Ok(true)
    }

    #[inline]
    fn read_server(&mut self, cx: &mut Context<'_>, hot: &mut Hot) -> Result<bool, Over> {
        let mut buffer = ReadBuf::new(&mut hot.scratch);
        match Pin::new(&mut self.server).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(false),
            Poll::Ready(read) => read?,
        }
        let size = buffer.filled().len();
        if size == 0 {
            // The client has been given all that the server said.
            return Err(Over);
        }
        hot.host.shard().read_from_server(size);
        hot.out.clear();
        hot.host.input_begins();
        self.session.on_server(&mut hot.host, &hot.scratch[..size], &mut hot.out);
        let from_server = &hot.scratch[..size];
        self.deliver(cx, &hot.out, from_server, 0, &hot.scratch)?;
        Ok(true)
    }

    /// Writes what a session put out; keeps what is not taken.
    #[inline]
    fn deliver(
        &mut self,
        cx: &mut Context<'_>,
        out: &Out,
        from_server: &[u8],
        from_client: usize,
        scratch: &[u8],
    ) -> Result<(), Over> {
        if !out.to_server.is_empty() && !self.server_deaf {
            let parts = out.to_server.parts(&scratch[..from_client]);
            if self.to_server.write_or_keep(cx, &mut self.server, parts).is_err() {
                self.deafen();
            }
        }
        if !out.to_client.is_empty() {
            self.to_client.write_or_keep(cx, &mut self.client, out.to_client.parts(from_server))?;
        }
        self.closing |= out.close;
        Ok(())
    }

    /// The server closed: what it said last is still to be read.
    fn deafen(&mut self) -> bool {
        self.server_deaf = true;
        self.to_server = Backlog::default();
        true
    }
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes what is kept; answers with whether anything went. All gone, it owns no memory.
    fn poll_write(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> io::Result<bool> {
        match Pin::new(socket).poll_write(cx, &self.bytes[self.written..]) {
            Poll::Pending => Ok(false),
            Poll::Ready(written) => {
                self.written += nonzero(written?)?;
                if self.written == self.bytes.len() {
                    *self = Backlog::default();
                }
                Ok(true)
            }
        }
    }

    /// Writes two parts at once, behind what is kept already.
    #[inline]
    fn write_or_keep(&mut self, cx: &mut Context<'_>, socket: &mut Socket, parts: (&[u8], &[u8])) -> io::Result<()> {
        let (made, passed) = parts;
        let mut written = 0;
        if self.is_empty() {
            written = match poll_write_both(cx, socket, made, passed) {
                Poll::Pending => 0,
                Poll::Ready(written) => written?,
            };
        }
        if written < made.len() {
            self.keep(&made[written..]);
            self.keep(passed);
        } else if written - made.len() < passed.len() {
            self.keep(&passed[written - made.len()..]);
        }
        Ok(())
    }
}

#[inline]
fn poll_write_both(cx: &mut Context<'_>, socket: &mut Socket, made: &[u8], passed: &[u8]) -> Poll<io::Result<usize>> {
    let written = match (made.is_empty(), passed.is_empty()) {
        (true, _) => ready!(Pin::new(socket).poll_write(cx, passed)),
        (false, true) => ready!(Pin::new(socket).poll_write(cx, made)),
        (false, false) => {
            ready!(Pin::new(socket).poll_write_vectored(cx, &[IoSlice::new(made), IoSlice::new(passed)]))
        }
    };
    Poll::Ready(written.and_then(nonzero))
}

fn nonzero(written: usize) -> io::Result<usize> {
    if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
}
