//! Sockets: accepts clients, connects each to the server, and moves bytes between the two past a session.
//!
//! Thin: what a byte means is `session`'s affair. One current_thread runtime per core; a session's two sockets live on
//! one thread and never move. Nothing is shared per message: no lock, no timer, no allocation, no log line.

mod host;
mod login;
mod relay;
mod secured;
mod socket;
mod startup;
mod thread;
mod tls;
mod upstream;

pub use login::{VerifierFuture, Verifiers};
pub use tls::{ClientCertificates, ClientTls, Negotiation, ServerTls, SslMode, TlsConfig};

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::control::live::Live;
use crate::control::traffic::{Shard, Traffic};
use crate::migration::Shape;
use socket::Accepted;
use tls::Tls;

/// Connections that may wait in the kernel to be accepted.
const BACKLOG: i32 = 1024;

/// Sockets that may wait to be taken up by one thread.
const HANDED_MAX: usize = 1024;

/// Connections over the limit that are being told so at one time; further ones are dropped.
const REFUSALS_MAX: usize = 256;

/// How long to wait after an accept that failed for want of descriptors or memory.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// Over TCP.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// Through a Unix socket.
    Unix {
        /// The socket itself: `/run/postgresql/.s.PGSQL.5432`.
        path: PathBuf,
    },
}

/// Gives a shape to sessions that choose none. Every condition that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShapeRule {
    /// The `user` of the startup packet.
    pub user: Option<String>,
    /// The `database` of the startup packet; the user's name where it has none.
    pub database: Option<String>,
    /// The `application_name` of the startup packet.
    pub application_name: Option<String>,
    /// What they see.
    pub shape: Shape,
}

/// What a proxy is told at its start.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// Where to listen on TCP. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// A Unix socket to listen on too.
    pub listen_socket: Option<PathBuf>,
    /// The server.
    pub upstream: Upstream,
    /// The database that the rules are about: sessions of any other pass unread. `None`: every session is under them.
    pub database: Option<String>,
    /// Threads, each with its own sessions; 0 takes one per core.
    pub threads: usize,
    /// Sessions at most; one more is answered with `53300`.
    pub connections_max: usize,
    /// From the connection to the end of the login.
    pub startup_timeout: Duration,
    /// To connect to the server.
    pub connect_timeout: Duration,
    /// How long transactions may go on once the process is asked to end.
    pub shutdown_grace: Duration,
    /// The longest message that may have to be held whole, in bytes: a statement's text, not its values.
    pub message_bytes_max: usize,
    /// Rewritten texts remembered per thread, in bytes.
    pub plan_cache_bytes_max: u64,
    /// The shape of sessions that choose none: the first rule that fits decides, else `auto`.
    pub shapes: Vec<ShapeRule>,
    /// TLS towards clients and towards the server.
    pub tls: TlsConfig,
}

impl ProxyConfig {
    /// The defaults, for these two addresses.
    pub fn new(listen: SocketAddr, upstream: Upstream) -> ProxyConfig {
        ProxyConfig {
            listen,
            listen_socket: None,
            upstream,
            database: None,
            threads: 0,
            connections_max: 10_000,
            startup_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            shutdown_grace: Duration::from_secs(30),
            message_bytes_max: 256 * 1024 * 1024,
            plan_cache_bytes_max: 32 * 1024 * 1024,
            shapes: Vec::new(),
            tls: TlsConfig::default(),
        }
    }
}

/// How many sessions a thread takes before the next thread is begun: sessions of one thread share its waits for events,
/// which are a system call each, and so few seldom keep a core busy.
const GATHERED_SESSIONS: usize = 8;

/// A proxy that holds its listening sockets.
#[derive(Debug)]
pub struct Proxy {
    config: Arc<ProxyConfig>,
    tcp: std::net::TcpListener,
    unix: Option<std::os::unix::net::UnixListener>,
    live: Arc<Live>,
    traffic: Arc<Traffic>,
    tls: Arc<Tls>,
    verifiers: Option<Arc<dyn Verifiers>>,
}

impl Proxy {
    /// Takes the addresses and reads the certificates. Nobody is accepted before [`Proxy::run`].
    pub fn bind(config: ProxyConfig, live: Arc<Live>, traffic: Arc<Traffic>) -> io::Result<Proxy> {
        let tls = Arc::new(Tls::new(&config.tls, &config.upstream).map_err(io::Error::other)?);
        let domain = Domain::for_address(config.listen);
        let socket = RawSocket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&config.listen.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let unix = config.listen_socket.as_ref().map(bind_unix).transpose()?;
        Ok(Proxy { tcp: socket.into(), unix, config: Arc::new(config), live, traffic, tls, verifiers: None })
    }

    /// Reads roles' verifiers so. Without it, SCRAM does not pass where both sides have TLS and the client could bind.
    pub fn with_verifiers(mut self, verifiers: Arc<dyn Verifiers>) -> Proxy {
        self.verifiers = Some(verifiers);
        self
    }

    /// The TCP address, with the port that was taken.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until `shutdown` says true (or its sender is gone), then drains: idle sessions end at once, transactions
    /// may end within the grace period.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) -> io::Result<()> {
        let tcp = TcpListener::from_std(self.tcp)?;
        let unix = self.unix.map(UnixListener::from_std).transpose()?;
        let threads = match self.config.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            given => given,
        };
        let shared =
            thread::Shared { config: self.config.clone(), live: self.live, tls: self.tls, verifiers: self.verifiers };
        let workers: Vec<Worker> = (0..threads)
            .map(|number| Worker::start(number, shared.clone(), self.traffic.shard(), shutdown.clone()))
            .collect::<io::Result<_>>()?;
        info!(address = %tcp.local_addr()?, threads, "proxy listens");
        loop {
            let accepted = tokio::select! {
                _ = shutdown.wait_for(|ends| *ends) => break,
                accepted = tcp.accept() => accepted.map(|(socket, _)| socket.into_std().map(Accepted::Tcp)),
                accepted = accept_unix(unix.as_ref()) => accepted.map(|socket| socket.into_std().map(Accepted::Unix)),
            };
            match accepted {
                Ok(Ok(socket)) => hand_over(&workers, socket, self.config.connections_max),
                Ok(Err(error)) | Err(error) => wait_after(&error).await,
            }
        }
        drop((tcp, unix));
        if let Some(path) = &self.config.listen_socket {
            let _ = std::fs::remove_file(path);
        }
        info!("proxy drains");
        for worker in workers {
            drop(worker.sockets);
            let _ = tokio::task::spawn_blocking(move || worker.thread.join()).await;
        }
        Ok(())
    }
}

/// Takes over a socket file that nobody listens on any more.
fn bind_unix(path: &PathBuf) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::net::{UnixListener, UnixStream};
    if path.exists() && UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn accept_unix(listener: Option<&UnixListener>) -> io::Result<tokio::net::UnixStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(socket, _)| socket),
        None => std::future::pending().await,
    }
}

/// A connection that went away before it was accepted is nothing; want of descriptors or memory passes with time.
async fn wait_after(error: &io::Error) {
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    warn!(%error, "cannot accept a connection");
    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
}

/// One thread with its runtime.
struct Worker {
    sockets: mpsc::Sender<thread::Handed>,
    sessions: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
}

impl Worker {
    fn start(
        number: usize,
        shared: thread::Shared,
        shard: Arc<Shard>,
        shutdown: watch::Receiver<bool>,
    ) -> io::Result<Worker> {
        let (sockets, handed) = mpsc::channel(HANDED_MAX);
        let thread = std::thread::Builder::new()
            .name(format!("proxy-{number}"))
            .spawn(move || thread::run(shared, shard, handed, shutdown))?;
        Ok(Worker { sockets, sessions: Arc::default(), thread })
    }
}

/// Gives a socket to the thread with the fewest sessions, once each has its first few.
fn hand_over(workers: &[Worker], socket: Accepted, connections_max: usize) {
    let load = |worker: &Worker| worker.sessions.load(Ordering::Relaxed);
    let total: usize = workers.iter().map(load).sum();
    let begun = workers.iter().find(|worker| load(worker) < GATHERED_SESSIONS);
    let Some(worker) = begun.or_else(|| workers.iter().min_by_key(|worker| load(worker))) else { return };
    if total >= connections_max.saturating_add(REFUSALS_MAX) {
        return;
    }
    let counted = thread::Counted::new(&worker.sessions);
    let handed = thread::Handed { socket, counted, refused: total >= connections_max };
    if worker.sockets.try_send(handed).is_err() {
        warn!("a connection was dropped: its thread does not keep up");
    }
}
