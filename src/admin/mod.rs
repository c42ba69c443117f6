//! The admin port: HTTP for people, scripts and Prometheus.
//!
//! A thin layer over `control`: reads requests, says who asks, turns answers into JSON. Decides nothing about a migration
//! and keeps no state. The names under `/v1` are a public format: added to, never renamed.

mod answer;
mod guard;
mod metrics;
mod migrations;
pub mod remote;

pub use answer::Problem;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::control::commands::Commands;
use crate::control::live::Live;
use crate::control::plane::Health;
use crate::control::traffic::Traffic;
use answer::Answer;

/// The header that names who asks, for the audit log.
pub const USER_HEADER: &str = "x-crossfade-user";

/// The header that says why, for the audit log.
pub const WHY_HEADER: &str = "x-crossfade-why";

/// The longest request, in bytes. A migration file is far shorter.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// How long a scrape waits for the database; without its answer it shows what this process knows.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(2);

/// What the admin port speaks for.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The commands.
    pub commands: Commands,
    /// The rules in force and the lease.
    pub live: Arc<Live>,
    /// What passed.
    pub traffic: Arc<Traffic>,
    /// Whether the control plane works.
    pub health: Arc<Health>,
    /// Whether this process coordinates.
    pub leading: Arc<AtomicBool>,
    /// The bearer token, where one is wanted.
    pub token: Option<Arc<str>>,
}

/// Serves the admin port until `stop` is done; then lets the calls that are under way end.
pub async fn serve(listener: TcpListener, admin: Admin, stop: impl Future<Output = ()> + Send + 'static) {
    let service = router(admin).into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "admin port stopped");
    }
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .route("/v1/audit", get(migrations::audit))
        .route("/v1/check", post(migrations::check))
        .route("/v1/plan", post(migrations::plan))
        .route("/v1/migrations", get(migrations::overview).post(migrations::start))
        .route("/v1/migrations/{name}", get(migrations::status))
        .route("/v1/migrations/{name}/reads", post(migrations::reads))
        .route("/v1/migrations/{name}/speed", post(migrations::speed))
        .route("/v1/migrations/{name}/pause", post(migrations::pause))
        .route("/v1/migrations/{name}/resume", post(migrations::resume))
        .route("/v1/migrations/{name}/rollback", post(migrations::rollback))
        .route("/v1/migrations/{name}/complete", post(migrations::complete))
        .fallback(nothing_there)
        .method_not_allowed_fallback(not_so)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(middleware::from_fn_with_state(admin.clone(), guard::guard))
        .with_state(admin)
}

async fn nothing_there(uri: Uri) -> Answer {
    Answer::not_found(
        Problem::new(format!("there is nothing at {}", uri.path()))
            .detail("The paths are /healthz, /readyz, /metrics, and those under /v1: migrations, check, plan, audit.")
            .hint("docs/cli.md lists them."),
    )
}

async fn not_so(uri: Uri) -> Answer {
    let problem = Problem::new(format!("{} is not called this way", uri.path()))
        .detail("What only reads is called with GET, what changes something with POST.");
    Answer { status: StatusCode::METHOD_NOT_ALLOWED, problem }
}

async fn healthz() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

async fn readyz(State(admin): State<Admin>) -> Response {
    match admin.unready() {
        None => Json(json!({ "status": "ready", "epoch": admin.live.rules().epoch().0 })).into_response(),
        Some(why) => {
            let problem =
                Problem::new("not ready").detail(why).hint("It becomes ready by itself when the cause is gone.");
            Answer { status: StatusCode::SERVICE_UNAVAILABLE, problem }.into_response()
        }
    }
}

async fn scrape(State(admin): State<Admin>) -> Response {
    let overview = timeout(SCRAPE_TIMEOUT, admin.commands.overview()).await;
    let scrape = metrics::Scrape {
        traffic: admin.traffic.snapshot(),
        epoch: admin.live.rules().epoch().0,
        epoch_oldest: admin.live.oldest_pinned().0,
        held: admin.live.rules().is_held(),
        leased: admin.live.is_leased(),
        ready: admin.unready().is_none(),
        coordinates: admin.leading.load(Ordering::Relaxed),
        overview: overview.ok().and_then(Result::ok),
    };
    match scrape.text() {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        // Writing into a string does not fail.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

impl Admin {
    /// Why statements on migrating tables would be refused now; nothing when they are served.
    fn unready(&self) -> Option<String> {
        if let Some(trouble) = self.health.trouble() {
            return Some(trouble);
        }
        if !self.live.is_ready() {
            return Some("The rules have not been read from the database yet.".to_owned());
        }
        (!self.live.is_leased()).then(|| "The lease is not held.".to_owned())
    }
}
