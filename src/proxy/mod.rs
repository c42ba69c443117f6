//! Sockets: accepts clients, connects each to the server, and moves bytes between the two past a session.
//!
//! Thin: what a byte means is `session`'s affair. One current_thread runtime for every two cores; a session's two sockets
//! live on one thread and never move. Nothing is shared per message: no lock, no timer, no allocation, no log line.

mod background;
mod host;
mod hosts;
mod limits;
mod listen;
mod login;
mod relay;
mod secured;
mod socket;
mod startup;
mod thread;
mod tls;
mod upstream;

pub use hosts::{RoleFuture, Roles, Servers};
pub use limits::Limits;
pub use listen::{Listeners, bind_tcp, bind_unix};
pub use login::{VerifierFuture, Verifiers};
pub use socket::Keepalive;
pub use tls::{ClientCertificates, ClientTls, Negotiation, ServerTls, SslMode, TlsConfig};

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::control::live::Live;
use crate::control::traffic::{Shard, Traffic};
use crate::migration::Shape;
use background::Background;
use socket::Accepted;
use tls::Tls;

/// Sockets that may wait to be taken up by one thread.
const HANDED_MAX: usize = 1024;

/// Connections over the limit that are being told so at one time; further ones are dropped.
const REFUSALS_MAX: usize = 256;

/// How long to wait after an accept that failed for want of descriptors or memory.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// How often a process that was relieved looks whether its last session has ended.
const EMPTY_POLL: Duration = Duration::from_millis(100);

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
    /// Who may connect to it, as the file's mode.
    pub listen_socket_mode: u32,
    /// The server, or several.
    pub upstream: Servers,
    /// The database that the rules are about: sessions of any other pass unread. `None`: every session is under them.
    pub database: Option<String>,
    /// Whether `upstream` is a pooler that was said to pool by session.
    pub pooled: bool,
    /// Threads, each with its own sessions; 0 takes one for every two cores.
    pub threads: usize,
    /// Sessions at most; one more is answered with `53300`.
    pub connections_max: usize,
    /// From the connection to the end of the login.
    pub startup_timeout: Duration,
    /// To connect to the server.
    pub connect_timeout: Duration,
    /// How long a client may leave its transaction idle; zero for ever.
    pub idle_transaction_timeout: Duration,
    /// How long a client may stay idle outside of a transaction; zero for ever.
    pub idle_session_timeout: Duration,
    /// Towards clients.
    pub client_keepalive: Keepalive,
    /// Towards the server.
    pub server_keepalive: Keepalive,
    /// How long sessions may go on once another process accepts the connections.
    pub handover_grace: Duration,
    /// How long transactions may go on once the process is asked to end.
    pub shutdown_grace: Duration,
    /// The longest message that may have to be held whole, in bytes: a statement's text, not its values.
    pub message_bytes_max: usize,
    /// Rewritten texts remembered per thread, in bytes.
    pub plan_cache_bytes_max: u64,
    /// How long the coordinator holds new transactions at most. A thread that has been held for much longer lets its
    /// sessions go on, without applying rules that may be stale.
    pub hold_max: Duration,
    /// The shape of sessions that choose none: the first rule that fits decides, else `auto`.
    pub shapes: Vec<ShapeRule>,
    /// TLS towards clients and towards the server.
    pub tls: TlsConfig,
}

impl ProxyConfig {
    /// The defaults, for these two addresses.
    pub fn new(listen: SocketAddr, upstream: impl Into<Servers>) -> ProxyConfig {
        ProxyConfig {
            listen,
            listen_socket: None,
            listen_socket_mode: 0o777,
            upstream: upstream.into(),
            database: None,
            pooled: false,
            threads: 0,
            connections_max: 10_000,
            startup_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            idle_transaction_timeout: Duration::ZERO,
            idle_session_timeout: Duration::ZERO,
            client_keepalive: Keepalive::default(),
            server_keepalive: Keepalive::default(),
            handover_grace: Duration::from_secs(300),
            shutdown_grace: Duration::from_secs(30),
            message_bytes_max: 256 * 1024 * 1024,
            plan_cache_bytes_max: 32 * 1024 * 1024,
            hold_max: Duration::from_millis(200),
            shapes: Vec::new(),
            tls: TlsConfig::default(),
        }
    }
}

/// For how many cores there is a thread where their number is not given. More threads find fewer events at each wait, which
/// costs more than they win while something else than the proxy uses the cores: see docs/decisions/0008.
const CORES_PER_THREAD: usize = 2;

/// How many sessions a thread takes before the next thread is begun: sessions of one thread share its waits for events,
/// which are a system call each, and so few seldom keep a core busy.
const GATHERED_SESSIONS: usize = 8;

/// A proxy that holds its listening sockets.
#[derive(Debug)]
pub struct Proxy {
    config: Arc<ProxyConfig>,
    listeners: Listeners,
    live: Arc<Live>,
    traffic: Arc<Traffic>,
    tls: Arc<Tls>,
    verifiers: Option<Arc<dyn Verifiers>>,
    roles: Option<Arc<dyn Roles>>,
    limits: Arc<Limits>,
}

impl Proxy {
    /// Takes the addresses and reads the certificates. Nobody is accepted before [`Proxy::run`].
    pub fn bind(config: ProxyConfig, live: Arc<Live>, traffic: Arc<Traffic>) -> io::Result<Proxy> {
        let listeners = Listeners::bind(&config)?;
        Proxy::on(listeners, config, live, traffic)
    }

    /// The same with sockets that are there already.
    pub fn on(listeners: Listeners, config: ProxyConfig, live: Arc<Live>, traffic: Arc<Traffic>) -> io::Result<Proxy> {
        let tls = Arc::new(Tls::new(&config.tls, &config.upstream.hosts).map_err(io::Error::other)?);
        listeners.tcp.set_nonblocking(true)?;
        if let Some(unix) = &listeners.unix {
            unix.set_nonblocking(true)?;
        }
        let limits = Arc::new(Limits::new(&config));
        let config = Arc::new(config);
        Ok(Proxy { config, listeners, live, traffic, tls, verifiers: None, roles: None, limits })
    }

    /// Reads roles' verifiers so. Without it, SCRAM does not pass where both sides have TLS and the client could bind.
    pub fn with_verifiers(mut self, verifiers: Arc<dyn Verifiers>) -> Proxy {
        self.verifiers = Some(verifiers);
        self
    }

    /// Learns so what the servers are. Without it, sessions that want a certain kind of server are refused.
    pub fn with_roles(mut self, roles: Arc<dyn Roles>) -> Proxy {
        self.roles = Some(roles);
        self
    }

    /// The limits that may be changed while it runs.
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.clone()
    }

    /// The TCP address, with the port that was taken.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listeners.tcp.local_addr()
    }

    /// Serves until `shutdown` says true (or its sender is gone), then drains: idle sessions end at once, transactions
    /// may end within the grace period.
    pub async fn run(self, shutdown: watch::Receiver<bool>) -> io::Result<()> {
        let (_serving, released) = watch::channel(false);
        self.run_until_released(shutdown, released).await
    }

    /// The same; where `released` says true, another process has the listening sockets: this one accepts nobody any more,
    /// and goes on until its sessions have ended by themselves, the handover's time is over, or `shutdown` says true.
    pub async fn run_until_released(
        self,
        mut shutdown: watch::Receiver<bool>,
        mut released: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let Listeners { tcp, unix, file } = self.listeners;
        let tcp = TcpListener::from_std(tcp)?;
        let unix = unix.map(UnixListener::from_std).transpose()?;
        let count = match self.config.threads {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(CORES_PER_THREAD)),
            given => given,
        };
        let shared = thread::Shared {
            config: self.config.clone(),
            live: self.live,
            tls: self.tls,
            verifiers: self.verifiers,
            roles: self.roles,
            limits: self.limits.clone(),
            background: Background::current(),
        };
        let (drain, drains) = watch::channel(false);
        let workers: Vec<Worker> = (0..count)
            .map(|number| Worker::start(number, shared.clone(), self.traffic.shard(), drains.clone()))
            .collect::<io::Result<_>>()?;
        info!(address = %tcp.local_addr()?, threads = count, "proxy listens");
        loop {
            let accepted = tokio::select! {
                _ = shutdown.wait_for(|ends| *ends) => break,
                Ok(_) = released.wait_for(|released| *released) => break,
                accepted = tcp.accept() => accepted.map(|(socket, _)| socket.into_std().map(Accepted::Tcp)),
                accepted = accept_unix(unix.as_ref()) => accepted.map(|socket| socket.into_std().map(Accepted::Unix)),
            };
            match accepted {
                Ok(Ok(socket)) => hand_over(&workers, socket, self.limits.connections_max()),
                Ok(Err(error)) | Err(error) => wait_after(&error).await,
            }
        }
        drop((tcp, unix));
        if *released.borrow() {
            info!("another process accepts connections now");
            let over = tokio::time::sleep(self.config.handover_grace);
            tokio::select! {
                _ = shutdown.wait_for(|ends| *ends) => {}
                () = until_empty(&workers) => {}
                () = over => {}
            }
        } else if let Some(path) = file {
            let _ = std::fs::remove_file(path);
        }
        info!("proxy drains");
        drain.send_replace(true);
        for worker in workers {
            drop(worker.sockets);
            let _ = tokio::task::spawn_blocking(move || worker.thread.join()).await;
        }
        Ok(())
    }
}

/// Returns when there is no session any more.
async fn until_empty(workers: &[Worker]) {
    while workers.iter().any(|worker| worker.sessions.load(Ordering::Relaxed) > 0) {
        tokio::time::sleep(EMPTY_POLL).await;
    }
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
