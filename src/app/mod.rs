//! Puts the parts of one process together: configuration, control plane, sidecar, admin port, proxy.
//!
//! Knows which part needs which, and in what order they start and end; does none of their work.

pub mod config;
mod error;
pub mod logging;

pub use config::{Config, Flags};
pub use error::StartError;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{error, info};

use crate::admin::{self, Admin};
use crate::backfill::{Backfill, Settings};
use crate::control::commands::Commands;
use crate::control::coordinator::Coordinator;
use crate::control::db::Upstream;
use crate::control::driver::Timing;
use crate::control::live::Live;
use crate::control::plane::Plane;
use crate::control::store::Lease;
use crate::control::tls::Connector;
use crate::control::traffic::Traffic;
use crate::control::verifier::verifier;
use crate::migration::Rules;
use crate::proxy::{self, Proxy, ProxyConfig, SslMode, VerifierFuture, Verifiers};

/// How long the parts of the control plane may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

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
    stop_proxy: watch::Sender<bool>,
    stop_rest: watch::Sender<bool>,
    proxy: JoinHandle<()>,
    rest: Vec<JoinHandle<()>>,
}

impl App {
    /// Starts everything. Addresses are bound first: when one cannot be, nothing was changed anywhere. The database
    /// need not be up: until it is, clients are told so.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        let upstream = secured(config.validate()?, &config)?;
        let live = Arc::new(Live::new(Arc::new(Rules::default())));
        let traffic = Arc::new(Traffic::new());
        let clients = Proxy::bind(proxy_config(&config, &upstream), live.clone(), traffic.clone())
            .map_err(listening("listen", config.listen))?
            .with_verifiers(Arc::new(Stored(upstream.clone())));
        let proxy_addr = clients.local_addr().map_err(listening("listen", config.listen))?;
        let http = TcpListener::bind(config.admin).await.map_err(listening("admin", config.admin))?;
        let admin_addr = http.local_addr().map_err(listening("admin", config.admin))?;

        let (stop_proxy, stop_rest) = (watch::Sender::new(false), watch::Sender::new(false));
        let plane = plane(&config, &upstream, &live, proxy_addr);
        let coordinator = coordinator(&config, &upstream, &traffic);
        let admin = Admin {
            commands: Commands::new(upstream.clone()),
            live: live.clone(),
            traffic: traffic.clone(),
            health: plane.health(),
            leading: coordinator.leading(),
            token: (!config.admin_token.is_empty()).then(|| config.admin_token.reveal().into()),
        };
        info!(listen = %proxy_addr, admin = %admin_addr, upstream = %upstream, "crossfade is up");
        let (plane_stop, coordinator_stop) = (stop_rest.subscribe(), stop_rest.subscribe());
        let rest = vec![
            tokio::spawn(async move { plane.run(plane_stop).await }),
            tokio::spawn(async move { coordinator.run(coordinator_stop).await }),
            tokio::spawn(admin::serve(http, admin, stopped(stop_rest.subscribe()))),
        ];
        let proxy_stop = stop_proxy.subscribe();
        let proxy = tokio::spawn(async move {
            if let Err(error) = clients.run(proxy_stop).await {
                error!(%error, "proxy ended");
            }
        });
        Ok(Running { proxy_addr, admin_addr, live, traffic, stop_proxy, stop_rest, proxy, rest })
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

    /// Returns when the proxy has ended by itself, which it should not.
    pub async fn wait(&mut self) {
        // A panic ends it too; it was reported where it happened.
        let _ = (&mut self.proxy).await;
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

async fn stopped(mut stop: watch::Receiver<bool>) {
    // A sender that is gone means the end too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The control plane's way to the database, with the same TLS as the sessions'.
fn secured(upstream: Upstream, config: &Config) -> Result<Upstream, StartError> {
    let host = upstream.host();
    if host.starts_with('/') {
        return Ok(upstream);
    }
    let tls = config.tls().server;
    let certificates = tls.client_config(&host).map_err(|error| {
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

/// The roles' verifiers as PostgreSQL keeps them, read by the control plane's role.
#[derive(Debug)]
struct Stored(Upstream);

impl Verifiers for Stored {
    fn verifier<'a>(&'a self, role: &'a str) -> VerifierFuture<'a> {
        Box::pin(async move {
            let session = self.0.connect("crossfade verifier").await.map_err(|error| error.to_string())?;
            verifier(session.client(), role).await.map_err(|error| error.to_string())
        })
    }
}

fn proxy_config(config: &Config, upstream: &Upstream) -> ProxyConfig {
    ProxyConfig {
        database: Some(upstream.database().to_owned()),
        threads: config.threads as usize,
        connections_max: config.connections_max as usize,
        startup_timeout: Duration::from_millis(config.startup_timeout_ms),
        connect_timeout: Duration::from_millis(config.connect_timeout_ms),
        shutdown_grace: Duration::from_millis(config.shutdown_grace_ms),
        message_bytes_max: config.message_bytes_max as usize,
        plan_cache_bytes_max: config.plan_cache_bytes_max,
        hold_max: Duration::from_millis(config.hold_ms_max),
        shapes: config.shapes.0.clone(),
        tls: config.tls(),
        ..ProxyConfig::new(config.listen, server_address(upstream))
    }
}

/// Where sessions are relayed to: the same server, whoever the control plane logs in as.
fn server_address(upstream: &Upstream) -> proxy::Upstream {
    let (host, port) = (upstream.host(), upstream.port());
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
    Plane::new(upstream.clone(), live.clone(), lease, Duration::from_millis(config.lease_renew_ms))
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
