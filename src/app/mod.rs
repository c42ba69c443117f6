//! Puts the parts of one process together: configuration, control plane, sidecar, admin port, proxy.
//!
//! Knows which part needs which, and in what order they start and end; does none of their work.

pub mod config;
mod error;
mod handover;
pub mod limits;
pub mod logging;
pub mod notify;
mod servers;
mod sockets;

pub use config::{Config, Flags};
pub use error::StartError;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::admin::{self, Admin};
use crate::backfill::{Backfill, Settings};
use crate::control::Error;
use crate::control::commands::Commands;
use crate::control::coordinator::Coordinator;
use crate::control::db::Upstream;
use crate::control::driver::Timing;
use crate::control::live::Live;
use crate::control::plane::Plane;
use crate::control::store::Lease;
use crate::control::tls::Connector;
use crate::control::traffic::Traffic;
use crate::migration::Rules;
use crate::proxy::{self, Keepalive, Limits, Proxy, ProxyConfig, Servers, SslMode};
use handover::{Offer, Predecessor};
use servers::{Asked, Stored};
use sockets::{Given, Sockets};

/// How long the parts of the control plane may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a look at the database may hold up the start.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long this process may take to get ready where another one hands over to it.
const HANDOVER_READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How often it looks.
const READY_POLL: Duration = Duration::from_millis(10);

/// One process's parts, before they run.
#[derive(Debug)]
pub struct App;

/// One process's parts, running.
#[derive(Debug)]
pub struct Running {
    /// Where clients connect.
    pub proxy_addr: SocketAddr,
    /// Where the admin port is.
    pub admin_addr: SocketAddr,
    live: Arc<Live>,
    traffic: Arc<Traffic>,
    limits: Arc<Limits>,
    released: watch::Receiver<bool>,
    stop_proxy: watch::Sender<bool>,
    stop_rest: watch::Sender<bool>,
    proxy: JoinHandle<()>,
    rest: Vec<JoinHandle<()>>,
    /// Takes its file with it.
    _offer: Option<OfferTask>,
}

/// Why the proxy has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It should not have.
    ByItself,
    /// Another process has its sockets, and its last session is over.
    Relieved,
}

impl App {
    /// Starts everything. Addresses are bound first: when one cannot be, nothing was changed anywhere. The database
    /// need not be up: until it is, clients are told so.
    ///
    /// Where another process hands its sockets over, this one accepts nobody before it is ready; if it does not get
    /// ready, the other one goes on as if nothing had been.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        let upstream = secured(config.validate()?, &config)?;
        let settings = proxy_config(&config, &upstream);
        let path = Some(Path::new(&config.handover)).filter(|path| !path.as_os_str().is_empty());
        let (predecessor, given) = match path.map(Predecessor::ask).transpose()?.flatten() {
            Some((predecessor, given)) => (Some(predecessor), given),
            None => (None, Given::by_manager()?),
        };
        let sockets = Sockets::new(&config, &settings, given)?;
        let copies = sockets.copies().map_err(listening("listen", config.listen))?;
        refuse_poolers(&config, &upstream).await?;
        let parts = Parts::new(&config, &upstream, settings, sockets)?;

        let (stop_proxy, stop_rest) = (watch::Sender::new(false), watch::Sender::new(false));
        let (release, released) = watch::channel(false);
        let (mut rest, admin) = parts.control(&config, &upstream, &stop_rest);
        if predecessor.is_some()
            && let Err(error) = until_ready(&parts.live).await
        {
            rest.iter().for_each(JoinHandle::abort);
            return Err(error);
        }
        let Parts { live, traffic, clients, http, proxy_addr, admin_addr } = parts;
        let limits = clients.limits();
        let admin_stop = stopped_or_released(stop_rest.subscribe(), released.clone());
        rest.push(tokio::spawn(admin::serve(http, admin, admin_stop)));
        let proxy = tokio::spawn(serve(clients, stop_proxy.subscribe(), released.clone()));
        info!(listen = %proxy_addr, admin = %admin_addr, upstream = %upstream, "crossfade is up");
        relieve(predecessor).await;
        let offer = path.map(|path| OfferTask::start(path, copies, release)).transpose()?;
        Ok(Running {
            proxy_addr,
            admin_addr,
            live,
            traffic,
            limits,
            released,
            stop_proxy,
            stop_rest,
            proxy,
            rest,
            _offer: offer,
        })
    }
}

async fn serve(clients: Proxy, stop: watch::Receiver<bool>, released: watch::Receiver<bool>) {
    if let Err(error) = clients.run_until_released(stop, released).await {
        error!(%error, "proxy ended");
    }
}

/// What serves clients and the admin port, before it does.
#[derive(Debug)]
struct Parts {
    live: Arc<Live>,
    traffic: Arc<Traffic>,
    clients: Proxy,
    http: TcpListener,
    proxy_addr: SocketAddr,
    admin_addr: SocketAddr,
}

impl Parts {
    fn new(config: &Config, upstream: &Upstream, settings: ProxyConfig, sockets: Sockets) -> Result<Parts, StartError> {
        let live = Arc::new(Live::new(Arc::new(Rules::default())));
        let traffic = Arc::new(Traffic::new());
        let admin_addr = sockets.admin.local_addr().map_err(listening("admin", config.admin))?;
        let http = TcpListener::from_std(sockets.admin).map_err(listening("admin", config.admin))?;
        let clients = Proxy::on(sockets.clients, settings, live.clone(), traffic.clone())
            .map_err(listening("listen", config.listen))?
            .with_verifiers(Arc::new(Stored(upstream.clone())))
            .with_roles(Arc::new(Asked::new(upstream.clone())));
        let proxy_addr = clients.local_addr().map_err(listening("listen", config.listen))?;
        Ok(Parts { live, traffic, clients, http, proxy_addr, admin_addr })
    }

    /// Starts the control plane; gives its tasks, and what the admin port speaks for.
    fn control(
        &self,
        config: &Config,
        upstream: &Upstream,
        stop: &watch::Sender<bool>,
    ) -> (Vec<JoinHandle<()>>, Admin) {
        let plane = plane(config, upstream, &self.live, self.proxy_addr);
        let coordinator = coordinator(config, upstream, &self.traffic);
        let admin = Admin {
            commands: Commands::new(upstream.clone()),
            live: self.live.clone(),
            traffic: self.traffic.clone(),
            health: plane.health(),
            leading: coordinator.leading(),
            token: (!config.admin_token.is_empty()).then(|| config.admin_token.reveal().into()),
        };
        let (plane_stop, coordinator_stop) = (stop.subscribe(), stop.subscribe());
        let tasks = vec![
            tokio::spawn(async move { plane.run(plane_stop).await }),
            tokio::spawn(async move { coordinator.run(coordinator_stop).await }),
        ];
        (tasks, admin)
    }
}

/// Waits until the rules are known and the lease is granted.
async fn until_ready(live: &Live) -> Result<(), StartError> {
    let ready = async {
        while !live.is_ready() {
            tokio::time::sleep(READY_POLL).await;
        }
    };
    timeout(HANDOVER_READY_TIMEOUT, ready).await.map_err(|_| {
        StartError::usage(
            "this process did not get ready to take over",
            "It does not know its rules yet. The process before it goes on as before.",
            "The log says what it waits for; see whether the database can be reached.",
        )
    })
}

/// Lets the process before this one stop to accept.
async fn relieve(predecessor: Option<Predecessor>) {
    let Some(predecessor) = predecessor else { return };
    match tokio::task::spawn_blocking(move || predecessor.relieve()).await {
        Ok(Ok(())) => info!("the process before this one accepts nobody any more"),
        Ok(Err(error)) => warn!(%error, "the process before this one did not say that it stops"),
        Err(error) => warn!(%error, "the process before this one did not say that it stops"),
    }
}

/// Offers the sockets to the next process for as long as it lives.
#[derive(Debug)]
struct OfferTask {
    task: JoinHandle<()>,
}

impl OfferTask {
    fn start(
        path: &Path,
        sockets: Vec<(&'static str, std::os::fd::OwnedFd)>,
        release: watch::Sender<bool>,
    ) -> Result<OfferTask, StartError> {
        let offer = Offer::new(path, sockets).map_err(|error| {
            StartError::usage(
                "the socket for a handover cannot be made",
                format!("The operating system says of {}: {error}.", path.display()),
                "Choose a file in a folder that exists and only this user may write to with --handover.",
            )
        })?;
        Ok(OfferTask { task: tokio::spawn(offer.run(release)) })
    }
}

impl Drop for OfferTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    /// The rules in force and the lease.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// What passed through this process.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Takes over what may be changed while it runs: the limits.
    pub fn reload(&self, config: &Config) {
        let ms = Duration::from_millis;
        self.limits.set_connections_max(config.connections_max as usize);
        self.limits.set_idle(ms(config.idle_transaction_timeout_ms), ms(config.idle_session_timeout_ms));
    }

    /// Returns when the proxy has ended without being told to.
    pub async fn wait(&mut self) -> Ended {
        // A panic ends it too; it was reported where it happened.
        let _ = (&mut self.proxy).await;
        if *self.released.borrow() { Ended::Relieved } else { Ended::ByItself }
    }

    /// Ends everything in order: sessions may finish first, under a lease that still holds; then the lease is given back.
    pub async fn shutdown(self) {
        self.stop_proxy.send_replace(true);
        if !self.proxy.is_finished() {
            // Bounded by shutdown_grace_ms.
            let _ = self.proxy.await;
        }
        self.stop_rest.send_replace(true);
        for task in self.rest {
            // What does not end in time is cut: its lease and its locks go with its connections.
            let abort = task.abort_handle();
            if timeout(STOP_TIMEOUT, task).await.is_err() {
                abort.abort();
            }
        }
    }

    /// Ends at once, as a crash would: the lease is left to run out.
    pub fn abandon(self) {
        for task in self.rest.into_iter().chain([self.proxy]) {
            task.abort();
        }
    }
}

async fn stopped_or_released(mut stop: watch::Receiver<bool>, mut released: watch::Receiver<bool>) {
    tokio::select! {
        // A sender that is gone means the end too.
        _ = stop.wait_for(|stop| *stop) => {}
        Ok(_) = released.wait_for(|released| *released) => {}
    }
}

/// The control plane's way to the database, with the same TLS as the sessions'.
fn secured(upstream: Upstream, config: &Config) -> Result<Upstream, StartError> {
    let tls = config.tls().server;
    let certificates = tls.client_config(&addresses(&upstream)).map_err(|error| {
        StartError::usage(
            "TLS towards the server cannot be set up",
            format!("{error}."),
            "Check the files of upstream_sslrootcert, upstream_sslcert and upstream_sslkey.",
        )
    })?;
    let needed = !matches!(tls.mode, SslMode::Disable | SslMode::Allow | SslMode::Prefer);
    Ok(match certificates {
        Some(certificates) => upstream.with_tls(Connector::new(certificates), needed),
        None => upstream,
    })
}

/// Migrations need the control plane's own sessions, and sessions that keep their server. Where the database or the
/// pooler cannot be reached now, that is seen later.
async fn refuse_poolers(config: &Config, upstream: &Upstream) -> Result<(), StartError> {
    let usage = |error: &Error| StartError::usage(error.to_string(), error.detail(), error.hint());
    let looked = timeout(LOOK_TIMEOUT, upstream.connect("crossfade start")).await;
    if let Ok(Err(error @ Error::Conflict { .. })) = looked {
        return Err(usage(&error));
    }
    let Some((host, port)) = config.pooler() else { return Ok(()) };
    match timeout(LOOK_TIMEOUT, upstream.at(&host, port).shares_servers()).await {
        Ok(Ok(true)) => Err(StartError::usage(
            "the pooler gives its servers away between transactions",
            "What the proxy asks a session's server holds for another server's session then: settings, temporary tables \
             and prepared statements are not the session's own.",
            "Set pool_mode = session there for this database, or put the pooler in front of the proxy.",
        )),
        Ok(Ok(false)) => Ok(()),
        Ok(Err(error)) => {
            warn!(%error, detail = %error.detail(), "the pooler was not looked at; it must pool by session");
            Ok(())
        }
        Err(_) => {
            warn!("the pooler does not answer; it must pool by session");
            Ok(())
        }
    }
}

fn proxy_config(config: &Config, upstream: &Upstream) -> ProxyConfig {
    let ms = Duration::from_millis;
    ProxyConfig {
        listen_socket: config.unix_socket(),
        listen_socket_mode: config.unix_socket_mode(),
        database: Some(upstream.database().to_owned()),
        threads: config.threads as usize,
        connections_max: config.connections_max as usize,
        startup_timeout: ms(config.startup_timeout_ms),
        connect_timeout: ms(config.connect_timeout_ms),
        idle_transaction_timeout: ms(config.idle_transaction_timeout_ms),
        idle_session_timeout: ms(config.idle_session_timeout_ms),
        client_keepalive: Keepalive {
            idle: ms(config.client_keepalive_idle_ms),
            interval: ms(config.client_keepalive_interval_ms),
            count: narrow(config.client_keepalive_count),
            unacknowledged: ms(config.client_unacknowledged_ms_max),
        },
        server_keepalive: Keepalive {
            idle: ms(config.server_keepalive_idle_ms),
            interval: ms(config.server_keepalive_interval_ms),
            count: narrow(config.server_keepalive_count),
            unacknowledged: ms(config.server_unacknowledged_ms_max),
        },
        handover_grace: ms(config.handover_grace_ms),
        shutdown_grace: ms(config.shutdown_grace_ms),
        message_bytes_max: config.message_bytes_max as usize,
        plan_cache_bytes_max: config.plan_cache_bytes_max,
        hold_max: Duration::from_millis(config.hold_ms_max),
        shapes: config.shapes.0.clone(),
        tls: config.tls(),
        pooled: config.pooler().is_some(),
        ..ProxyConfig::new(config.listen, servers(config, upstream))
    }
}

/// Where sessions are relayed to: the same servers, whoever the control plane logs in as, or the pooler before them.
fn servers(config: &Config, upstream: &Upstream) -> Servers {
    match config.pooler() {
        Some((host, port)) => address(host, port).into(),
        None => Servers { hosts: addresses(upstream), target: upstream.target(), balanced: upstream.is_balanced() },
    }
}

fn addresses(upstream: &Upstream) -> Vec<proxy::Upstream> {
    upstream.hosts().into_iter().map(|(host, port)| address(host, port)).collect()
}

fn address(host: String, port: u16) -> proxy::Upstream {
    if host.starts_with('/') {
        return proxy::Upstream::Unix { path: PathBuf::from(host).join(format!(".s.PGSQL.{port}")) };
    }
    proxy::Upstream::Tcp { host, port }
}

fn plane(config: &Config, upstream: &Upstream, live: &Arc<Live>, address: SocketAddr) -> Plane {
    let lease = Lease {
        id: format!("{:016x}", rand::random::<u64>()),
        host: host_name(),
        pid: std::process::id() as i32,
        address: address.to_string(),
        length_ms: config.lease_ms as i64,
    };
    let (renew, hold_max) = (Duration::from_millis(config.lease_renew_ms), Duration::from_millis(config.hold_ms_max));
    Plane::new(upstream.clone(), live.clone(), lease, renew, hold_max)
}

fn coordinator(config: &Config, upstream: &Upstream, traffic: &Arc<Traffic>) -> Coordinator<Backfill> {
    let settings = Settings {
        batch_target: Duration::from_millis(config.batch_ms),
        batch_rows_max: narrow(config.batch_rows_max),
        latency_factor_max: config.latency_percent_max as f64 / 100.0,
        replication_lag_max: Duration::from_millis(config.replication_lag_ms_max),
        lock_waits_max: narrow(config.lock_waits_max),
        scan_rows_per_second: narrow(config.scan_rows_per_second_max),
    };
    let timing = Timing {
        lock_timeout: Duration::from_millis(config.lock_timeout_ms),
        hold_max: Duration::from_millis(config.hold_ms_max),
        scan_rest: Duration::from_millis(config.scan_rest_ms),
    };
    let backfill = Arc::new(Backfill::new(upstream.clone(), traffic.clone(), settings));
    Coordinator::new(upstream.clone(), backfill, timing)
}

/// The bounds of the options keep them below.
fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}

fn listening(option: &'static str, address: SocketAddr) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Listen { option, address, source }
}
