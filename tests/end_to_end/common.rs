//! What the tests share: one server for the binary, a database for each test.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crossfade::admin::remote::{Body, Remote};
use crossfade::demo::postgres::Postgres;
use crossfade::demo::proxy::Proxy;
use serde_json::json;
use tokio_postgres::{Client, NoTls};

/// The server of this binary; it goes with the last test that holds it.
pub fn server() -> Arc<Postgres> {
    static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap();
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(Postgres::start(&[]).expect("PostgreSQL starts"));
    *shared = Arc::downgrade(&server);
    server
}

/// A fresh database on it; the name is unique.
pub async fn database(server: &Postgres) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let client = connect(&server.url("postgres")).await;
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    name
}

/// A connection.
pub async fn connect(url: &str) -> Client {
    let (client, driver) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(driver);
    client
}

/// Asks until the answer is yes; fails after that long.
pub async fn until(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A database with a proxy of its own before it.
pub struct Subject {
    proxy: Proxy,
    /// Its name.
    pub database: String,
    // Kept for the proxy's log.
    _scratch: tempfile::TempDir,
}

/// The migration of these tests, as its file would be.
pub const MIGRATION: &str = r#"name = "users-handle"

[[change]]
kind = "rename_column"
table = "users"
column = "username"
to = "handle"
type = "varchar(100)"
"#;

/// Its name.
const NAME: &str = "users-handle";

/// How long a command may take to be in force everywhere.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);

impl Subject {
    /// A fresh database with these tables, and a proxy that is ready.
    pub async fn start(server: &Postgres, schema: &str) -> Subject {
        let database = database(server).await;
        connect(&server.url(&database)).await.batch_execute(schema).await.unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let log = scratch.path().join("proxy.log");
        let mut proxy = Proxy::start(program(), &server.url(&database), &log).unwrap();
        proxy.ready().await.unwrap();
        Subject { proxy, database, _scratch: scratch }
    }

    /// The port for clients.
    pub fn port(&self) -> u16 {
        self.proxy.port()
    }

    /// The connection string through the proxy.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}", self.port(), self.database)
    }

    /// Its admin port, as a client.
    pub fn remote(&self) -> Remote {
        self.proxy.remote()
    }

    /// Its admin port, as an address.
    pub fn admin(&self) -> String {
        format!("127.0.0.1:{}", self.proxy.admin_port())
    }

    /// Waits until the proxy itself applies the latest epoch to new transactions.
    pub async fn caught_up(&self) {
        let epoch = self.status().await["epoch"].as_u64();
        until("the proxy takes the epoch", SETTLE_TIMEOUT, async || {
            self.remote().get("/readyz").await.is_ok_and(|ready| ready["epoch"].as_u64() >= epoch)
        })
        .await;
    }

    /// Starts a migration from a file's text.
    pub async fn start_migration(&self, file: &str) {
        let answer = self.proxy.remote().post("/v1/migrations", Body::Toml(file.to_owned())).await;
        assert!(answer.is_ok(), "{answer:?}\n{}", self.proxy.log());
    }

    /// Sends a command for the migration.
    pub async fn post(&self, command: &str, body: serde_json::Value) {
        let path = format!("/v1/migrations/{NAME}/{command}");
        let answer = self.proxy.remote().post(&path, Body::Json(body)).await;
        assert!(answer.is_ok(), "{command}: {answer:?}\n{}", self.proxy.log());
    }

    /// Moves the share of reads and waits until it is in force.
    pub async fn reads(&self, percent: u8) {
        self.post("reads", json!({ "percent": percent })).await;
        until("the share of reads is in force", SETTLE_TIMEOUT, async || {
            let overview = self.overview().await;
            let epoch = overview["migrations"][0]["epoch"].as_u64();
            let proxies = overview["proxies"].as_array().unwrap();
            proxies.iter().all(|proxy| proxy["alive"] == false || proxy["epoch_acked"].as_u64() >= epoch)
        })
        .await;
    }

    /// The migration as the admin port describes it.
    pub async fn status(&self) -> serde_json::Value {
        match self.proxy.remote().get(&format!("/v1/migrations/{NAME}")).await {
            Ok(status) => status,
            Err(error) => panic!("{error}\n{}", self.proxy.log()),
        }
    }

    async fn overview(&self) -> serde_json::Value {
        self.remote().get("/v1/migrations").await.unwrap()
    }

    /// Its phase.
    pub async fn phase(&self) -> String {
        self.status().await["phase"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until it is in that phase.
    pub async fn until_phase(&self, phase: &str, limit: Duration) {
        self.wait(&format!("phase {phase}"), limit, |now| now == phase).await;
    }

    /// Waits until it has left that phase; the one it is in then.
    pub async fn phase_after(&self, phase: &str, limit: Duration) -> String {
        self.wait(&format!("another phase than {phase}"), limit, |now| now != phase).await
    }

    async fn wait(&self, what: &str, limit: Duration, holds: impl Fn(&str) -> bool) -> String {
        match self.phase_that(limit, holds).await {
            Some(phase) => phase,
            None => panic!("not within {limit:?}: {what}\n{}", self.account().await),
        }
    }

    /// The phase it is in once it has left that one; `None` when it does not in this time.
    pub async fn phase_within(&self, phase: &str, limit: Duration) -> Option<String> {
        self.phase_that(limit, |now| now != phase).await
    }

    async fn phase_that(&self, limit: Duration, holds: impl Fn(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + limit;
        loop {
            let phase = self.phase().await;
            if holds(&phase) {
                return Some(phase);
            }
            if Instant::now() > deadline {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Everything that a person would look at first.
    pub async fn account(&self) -> String {
        format!("{:#}\n{}", self.overview().await, self.proxy.log())
    }
}

/// The binary under test.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_crossfade"))
}
