//! The admin port and the command line against a real PostgreSQL: every answer, every mistake, every exit code.
//!
//! The parts run in this process, the commands are the real binary. One server for all, a database for each test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crossfade::admin::remote::{Body, CallError, Remote};
use crossfade::app::config::Secret;
use crossfade::app::{App, Config, Running};
use crossfade::demo::postgres::{Postgres, free_port};
use crossfade::migration::MigrationSpec;
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};

/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(60);

const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const BLOCKED: i32 = 3;

const USERS: &str = "CREATE TABLE users (id bigserial PRIMARY KEY, username varchar(255) NOT NULL UNIQUE, email text);
    INSERT INTO users (username) SELECT 'user ' || i FROM generate_series(1, 500) i;
    CREATE TABLE keyless (username text)";

const MIGRATION: &str = r#"name = "users-handle"

[[change]]
kind = "rename_column"
table = "users"
column = "username"
to = "handle"
type = "varchar(100)"
"#;

fn server() -> Arc<Postgres> {
    static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap();
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(Postgres::start(&[]).expect("PostgreSQL starts"));
    *shared = Arc::downgrade(&server);
    server
}

async fn connect(url: &str) -> Client {
    let (client, driver) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(driver);
    client
}

/// A database with the table of these tests, and everything of one process before it.
struct Stage {
    running: Running,
    url: String,
    direct: Client,
    folder: tempfile::TempDir,
    _server: Arc<Postgres>,
}

impl Stage {
    async fn start() -> Stage {
        Stage::start_with(|_| {}).await
    }

    async fn start_with(adjust: impl FnOnce(&mut Config)) -> Stage {
        let (server, url, direct) = database().await;
        let mut config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            admin: "127.0.0.1:0".parse().unwrap(),
            upstream: Secret::new(url.as_str()),
            threads: 1,
            shutdown_grace_ms: 500,
            ..Config::default()
        };
        adjust(&mut config);
        let running = App::start(config).await.unwrap();
        Stage { running, url, direct, folder: tempfile::tempdir().unwrap(), _server: server }
    }

    async fn ready() -> Stage {
        let stage = Stage::start().await;
        until("the parts are ready", async || stage.remote().is_ready().await).await;
        stage
    }

    fn remote(&self) -> Remote {
        Remote::local(self.running.admin_addr.port())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The binary, as somebody who has only this admin port.
    async fn cli(&self, arguments: &[&str]) -> Said {
        let admin = format!("http://{}", self.running.admin_addr);
        cli(&[("CROSSFADE_ADMIN", admin.as_str())], arguments).await
    }

    async fn until_phase(&self, phase: &str) {
        until(phase, async || {
            self.remote().get("/v1/migrations/users-handle").await.is_ok_and(|status| status["phase"] == phase)
        })
        .await;
    }

    /// What the migrations left or changed: nothing of it may differ after a mistake.
    async fn fingerprint(&self) -> String {
        let sql = "SELECT coalesce((SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute
                      WHERE attrelid = 'users'::regclass AND attnum > 0), '')
                || (SELECT count(*) FROM pg_trigger WHERE tgrelid = 'users'::regclass)
                || (SELECT count(*) FROM crossfade.migrations) || ' ' || (SELECT count(*) FROM crossfade.epochs)";
        self.direct.query_one(sql, &[]).await.unwrap().get(0)
    }
}

async fn database() -> (Arc<Postgres>, String, Client) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let server = server();
    let name = format!("admin_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let maintenance = connect(&server.url("postgres")).await;
    maintenance.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let url = server.url(&name);
    let direct = connect(&url).await;
    direct.batch_execute(USERS).await.unwrap();
    (server, url, direct)
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the binary said, and how it ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn is(&self, code: i32, says: &[&str]) -> &Said {
        let all = format!("{}\n{}", self.out, self.err);
        assert_eq!(self.code, Some(code), "{all}");
        for what in says {
            assert!(all.contains(what), "expected {what:?} in:\n{all}");
        }
        assert!(!all.contains("panicked"), "{all}");
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

async fn cli(environment: &[(&str, &str)], arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crossfade"));
    command.args(arguments).stdin(Stdio::null());
    for name in ["CROSSFADE_ADMIN", "CROSSFADE_ADMIN_TOKEN", "CROSSFADE_UPSTREAM", "CROSSFADE_CONFIG"] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    Said { code: status.code(), out: String::from_utf8(stdout).unwrap(), err: String::from_utf8(stderr).unwrap() }
}

/// The status and the error of an answer that is no.
#[track_caller]
fn refused(answer: Result<Value, CallError>) -> (u16, Value) {
    match answer {
        Err(CallError::Refused { status, body }) => {
            let body: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e} in {body}"));
            assert!(body["error"]["message"].is_string(), "{body}");
            (status, body["error"].clone())
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_goes_all_the_way_by_command_line() {
    let stage = Stage::ready().await;
    let file = stage.file("m.toml", MIGRATION);
    let file = file.to_str().unwrap();
    stage.cli(&["status"]).await.is(DONE, &["no migrations", "held"]);
    stage.cli(&["check", file]).await.is(DONE, &["users-handle: possible"]);
    stage.cli(&["plan", file]).await.is(DONE, &["ADD COLUMN", "ACCESS EXCLUSIVE", "rollback"]);
    let started = stage.cli(&["start", file, "--wait", "--json", "--why", "the test wants it"]).await;
    assert_eq!(started.is(DONE, &[]).json()["phase"], "verified");
    stage.cli(&["status", "users-handle"]).await.is(DONE, &["verified", "500 rows, done", "empty", "none"]);
    let reads = stage.cli(&["reads", "users-handle", "100", "--json"]).await;
    assert_eq!((&reads.json()["reads"], &reads.json()["phase"]), (&json!(100), &json!("ramping")));
    let speed = stage.cli(&["speed", "users-handle", "50", "--json"]).await;
    assert_eq!(speed.is(DONE, &[]).json()["speed"], 50);
    let paused = stage.cli(&["pause", "users-handle", "--json"]).await;
    assert_eq!(paused.is(DONE, &[]).json()["paused"], true);
    stage.cli(&["resume", "users-handle"]).await.is(DONE, &["ramping"]);
    // Nobody is there to ask.
    stage.cli(&["complete", "users-handle"]).await.is(USAGE, &["--yes"]);
    let completed = stage.cli(&["complete", "users-handle", "--yes", "--wait", "--json"]).await;
    assert_eq!(completed.is(DONE, &[]).json()["phase"], "contracted");
    stage.cli(&["rollback", "users-handle"]).await.is(BLOCKED, &["contracted"]);
    stage.cli(&["audit"]).await.is(DONE, &["the test wants it", "contracting -> contracted"]);
    let audit = stage.cli(&["audit", "users-handle", "--json", "--limit", "3"]).await.json();
    assert_eq!(audit.as_array().map(Vec::len), Some(3));
    stage.cli(&["status", "--watch", "--json"]).await.is(DONE, &["contracted"]);
    let through = format!("postgres://postgres@{}/{}", stage.running.proxy_addr, stage.url.rsplit('/').next().unwrap());
    let row = connect(&through).await.query_one("SELECT username FROM users WHERE id = 7", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "user 7");
    stage.running.shutdown().await;
    let left: i64 = stage.direct.query_one("SELECT count(*) FROM crossfade.proxies", &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "the lease is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_waits_until_the_table_is_as_it_was() {
    let stage = Stage::ready().await;
    let before = stage.fingerprint().await;
    let file = stage.file("m.toml", MIGRATION);
    stage.cli(&["start", file.to_str().unwrap(), "--wait"]).await.is(DONE, &["verified"]);
    let said = stage.cli(&["rollback", "users-handle", "--wait", "--json"]).await;
    assert_eq!(said.is(DONE, &[]).json()["phase"], "rolled_back");
    let columns = |text: &str| text.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default().to_owned();
    assert!(stage.fingerprint().await.starts_with(&columns(&before)));
    stage.cli(&["reads", "users-handle", "1"]).await.is(BLOCKED, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_a_file_are_all_reported_with_their_places() {
    let stage = Stage::ready().await;
    let before = stage.fingerprint().await;
    let long = "x".repeat(64);
    let text = format!(
        "name = \"users-handle\"\ncolour = \"red\"\n\n[[change]]\nkind = \"rename_column\"\ntable = \"users\"\n\
         column = \"username\"\nto = \"{long}\"\nup = \"lower(\"\n"
    );
    let file = stage.file("wrong.toml", &text);
    let path = file.to_str().unwrap();
    for command in ["start", "check", "plan"] {
        let said = stage.cli(&[command, path]).await;
        said.is(USAGE, &["wrong.toml:2:1:", "wrong.toml:8:", "wrong.toml:9:", "colour = \"red\"", "63", "3 mistakes"]);
    }
    let said = stage.cli(&["start", path, "--json"]).await;
    assert_eq!(said.is(USAGE, &[]).json()["error"]["mistakes"].as_array().map(Vec::len), Some(3));
    for path in ["/v1/migrations", "/v1/check", "/v1/plan"] {
        let (status, error) = refused(stage.remote().post(path, Body::Toml(text.clone())).await);
        assert_eq!((status, error["mistakes"][0]["line"].as_u64()), (400, Some(2)), "{error}");
        assert_eq!(error["mistakes"].as_array().map(Vec::len), Some(3));
    }
    let (status, error) = refused(stage.remote().post("/v1/migrations", Body::Toml("name = ".into())).await);
    assert_eq!(status, 400, "{error}");
    stage.cli(&["start", "nowhere.toml"]).await.is(USAGE, &["nowhere.toml"]);
    assert_eq!(stage.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_does_not_allow_is_blocked_and_changes_nothing() {
    let stage = Stage::ready().await;
    let before = stage.fingerprint().await;
    let volatile = format!("{MIGRATION}up = \"username || clock_timestamp()::text\"\n");
    let unparsable = format!("{MIGRATION}up = \"username ||\"\n");
    for (text, code, says) in [
        (MIGRATION.replace("\"users\"", "\"nowhere\""), BLOCKED, "nowhere"),
        (MIGRATION.replace("\"username\"", "\"nickname\""), BLOCKED, "nickname"),
        (MIGRATION.replace("\"users\"", "\"keyless\""), BLOCKED, "primary key"),
        (volatile, USAGE, "clock_timestamp"),
        (unparsable, USAGE, "m.toml:9:"),
    ] {
        let file = stage.file("m.toml", &text);
        let path = file.to_str().unwrap();
        stage.cli(&["start", path]).await.is(code, &[says]);
        stage.cli(&["check", path]).await.is(code, &[says]);
        stage.cli(&["check", path, "--database", &stage.url]).await.is(code, &[says]);
        let said = stage.cli(&["start", path, "--json"]).await;
        assert!(said.is(code, &[says]).json()["error"]["message"].is_string());
    }
    assert_eq!(stage.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_has_one_migration_at_a_time() {
    let stage = Stage::ready().await;
    stage.remote().post("/v1/migrations", Body::Toml(MIGRATION.into())).await.unwrap();
    let other =
        MIGRATION.replace("users-handle", "another").replace("\"username\"", "\"email\"").replace("handle", "mail");
    let (status, error) = refused(stage.remote().post("/v1/migrations", Body::Toml(other.clone())).await);
    assert_eq!((status, error["blockers"][0]["code"].as_str()), (409, Some("table_in_use")), "{error}");
    let (status, error) = refused(stage.remote().post("/v1/migrations", Body::Toml(MIGRATION.into())).await);
    assert_eq!((status, error["blockers"][0]["code"].as_str()), (409, Some("name_in_use")), "{error}");
    let file = stage.file("other.toml", &other);
    stage.cli(&["check", file.to_str().unwrap()]).await.is(BLOCKED, &["users-handle"]);
    stage.until_phase("verified").await;
    assert_eq!(stage.remote().get("/v1/migrations").await.unwrap()["migrations"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_calls_are_answered_with_one_json_error() {
    let stage = Stage::ready().await;
    let remote = stage.remote();
    remote.post("/v1/migrations", Body::Toml(MIGRATION.into())).await.unwrap();
    stage.until_phase("verified").await;
    let before = stage.fingerprint().await;
    for body in ["", "{", "[]", "{\"percent\": 101}", "{\"percent\": -1}", "{\"percent\": \"x\"}", "{\"share\": 5}"] {
        let (status, error) = refused(remote.post("/v1/migrations/users-handle/reads", Body::Toml(body.into())).await);
        assert_eq!(status, 400, "{body:?}: {error}");
    }
    for action in ["reads", "speed", "pause", "resume", "rollback", "complete"] {
        let body = if matches!(action, "reads" | "speed") { json!({ "percent": 5 }) } else { json!({}) };
        let (status, error) = refused(remote.post(&format!("/v1/migrations/nothing/{action}"), Body::Json(body)).await);
        assert_eq!(status, 404, "{action}: {error}");
    }
    assert_eq!(refused(remote.get("/v1/migrations/nothing").await).0, 404);
    assert_eq!(refused(remote.get("/v2").await).0, 404);
    assert_eq!(refused(remote.get("/v1/migrations/users-handle/reads").await).0, 405);
    assert_eq!(refused(remote.get("/v1/audit?limit=many").await).0, 400);
    // Before reads are at 100 % the old column cannot go.
    let (status, error) = refused(remote.post("/v1/migrations/users-handle/complete", Body::Empty).await);
    assert_eq!(status, 409, "{error}");
    let huge = Body::Toml("#".repeat(2 * 1024 * 1024));
    assert!(remote.post("/v1/check", huge).await.is_err());
    assert_eq!(stage.fingerprint().await, before);
    stage.cli(&["status", "nothing"]).await.is(FAILED, &["nothing"]);
    stage.cli(&["reads", "Not A Name", "1"]).await.is(USAGE, &[]);
    stage.cli(&["reads", "users-handle", "101"]).await.is(USAGE, &["101"]);
    stage.cli(&["complete", "users-handle", "--yes", "--json"]).await.is(BLOCKED, &["reads_not_100"]).json();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_asked_for_on_every_request_but_one() {
    let token = "a-token-of-some-length".to_owned();
    let stage = Stage::start_with(|config| config.admin_token = Secret::new(token.as_str())).await;
    let port = stage.running.admin_addr.port();
    for remote in [Remote::local(port), Remote::local(port).with_token("a-token-of-some-lengtH")] {
        assert!(remote.text("/healthz").await.is_ok());
        for path in ["/readyz", "/metrics", "/v1/migrations", "/nowhere"] {
            assert_eq!(refused(remote.get(path).await).0, 401, "{path}");
        }
        let (status, _) = refused(remote.post("/v1/migrations", Body::Toml(MIGRATION.into())).await);
        assert_eq!(status, 401);
    }
    let remote = Remote::local(port).with_token(&token);
    until("ready", async || remote.is_ready().await).await;
    let admin = format!("127.0.0.1:{port}");
    cli(&[("CROSSFADE_ADMIN", &admin)], &["status"]).await.is(FAILED, &["CROSSFADE_ADMIN_TOKEN"]);
    cli(&[("CROSSFADE_ADMIN", &admin), ("CROSSFADE_ADMIN_TOKEN", &token)], &["status"]).await.is(DONE, &["held"]);
    cli(&[("CROSSFADE_ADMIN", &admin)], &["health"]).await.is(DONE, &["ok"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_no_web_page_gets_in() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let stage = Stage::start().await;
    for headers in ["Host: evil.example:6433\r\n", "Host: 127.0.0.1\r\nOrigin: http://evil.example\r\n"] {
        let mut socket = tokio::net::TcpStream::connect(stage.running.admin_addr).await.unwrap();
        let request = format!("GET /v1/migrations HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_follow_the_migration_and_the_traffic() {
    let stage = Stage::ready().await;
    stage.remote().post("/v1/migrations", Body::Toml(MIGRATION.into())).await.unwrap();
    stage.until_phase("verified").await;
    let through = format!("postgres://postgres@{}/{}", stage.running.proxy_addr, stage.url.rsplit('/').next().unwrap());
    let client = connect(&through).await;
    client.simple_query("SELECT * FROM users WHERE id = 1").await.unwrap();
    let text = stage.remote().text("/metrics").await.unwrap();
    for line in [
        "crossfade_sessions 1",
        "crossfade_statements_total{kind=\"select\",outcome=\"rewritten\"} 1",
        "crossfade_statement_seconds_count{route=\"old\"} 1",
        "crossfade_backfill_rows_total{migration=\"users-handle\"} 500",
        "crossfade_drift_rows{migration=\"users-handle\"} 0",
        "crossfade_quarantine_rows{migration=\"users-handle\"} 0",
        "crossfade_migration_phase{migration=\"users-handle\",phase=\"verified\"} 1",
        "crossfade_lease_held 1",
        "crossfade_upstream_up 1",
    ] {
        assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
    }
    assert!(text.contains("# TYPE crossfade_rewrite_seconds histogram"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rewrite_shows_what_becomes_of_sql_and_why() {
    let (_server, url, _direct) = database().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.toml");
    std::fs::write(&file, MIGRATION).unwrap();
    let file = file.to_str().unwrap();
    let with = ["rewrite", "--database", &url, "--migration", file];
    let sql = "SELECT * FROM users WHERE username = 'x'";
    let said = cli(&[], &[&with[..], &["--phase", "contracted", sql]].concat()).await;
    said.is(DONE, &["-- contracted (shape auto): rewritten", "handle", "WHERE username = 'x'", "why:"]);
    let said = cli(&[], &[&with[..], &["--phase", "all", "--json", sql]].concat()).await.json();
    let all = said.as_array().unwrap();
    assert_eq!(all.len(), 13, "every phase, ramping by both routes");
    assert_eq!(all[0]["outcome"], "unchanged");
    assert!(all.iter().all(|case| case["reasons"].is_array() && case["sql"].is_string()), "{said}");
    let refused =
        cli(&[], &[&with[..], &["--phase", "dual_writing", "ALTER TABLE users DROP COLUMN username"]].concat()).await;
    refused.is(BLOCKED, &["refused", "0A000", "HINT"]);
    cli(&[], &["rewrite", sql]).await.is(USAGE, &["--database"]);
    cli(&[], &["rewrite", "--database", &url, "--phase", "dual", sql]).await.is(USAGE, &["dual_writing"]);
    // Nothing was started: everything passes, and the database has no schema of ours.
    cli(&[], &["rewrite", "--database", &url, sql]).await.is(DONE, &["no migration", "passes as it is"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_is_said_to_clients_and_waited_for() {
    let nobody = free_port().unwrap();
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        admin: "127.0.0.1:0".parse().unwrap(),
        upstream: Secret::new(format!("postgres://postgres@127.0.0.1:{nobody}/app")),
        threads: 1,
        ..Config::default()
    };
    let running = App::start(config).await.unwrap();
    let remote = Remote::local(running.admin_addr.port());
    assert!(remote.text("/healthz").await.is_ok());
    let Err(error) = tokio_postgres::connect(&format!("postgres://postgres@{}/app", running.proxy_addr), NoTls).await
    else {
        panic!("a session with nobody")
    };
    let error = error.as_db_error().expect("an error of ours");
    assert_eq!(error.code().code(), "08006");
    assert!(error.hint().is_some() && error.detail().is_some(), "{error:?}");
    assert_eq!(refused(remote.get("/readyz").await).0, 503);
    assert_eq!(refused(remote.get("/v1/migrations").await).0, 503);
    assert!(remote.text("/metrics").await.unwrap().contains("crossfade_upstream_up 0"));
    let admin = running.admin_addr.to_string();
    cli(&[("CROSSFADE_ADMIN", &admin)], &["status"]).await.is(FAILED, &["cannot be reached"]);
    cli(&[("CROSSFADE_ADMIN", &admin)], &["health"]).await.is(DONE, &[]);
    cli(&[("CROSSFADE_ADMIN", &admin)], &["health", "--ready"]).await.is(FAILED, &["not ready"]);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn run_refuses_what_cannot_be_meant() {
    let (_server, url, direct) = database().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = taken.local_addr().unwrap().to_string();
    for [option, other] in [["--listen", "--admin"], ["--admin", "--listen"]] {
        let said = cli(&[], &["run", option, &busy, other, "127.0.0.1:0", "--upstream", &url]).await;
        said.is(FAILED, &[&format!("the address {busy} is in use"), &format!("choose another address with {option}")]);
    }
    let exists = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'crossfade')";
    assert!(!direct.query_one(exists, &[]).await.unwrap().get::<_, bool>(0), "nothing was changed");
    cli(&[], &["run"]).await.is(USAGE, &["no upstream is given", "--upstream"]);
    cli(&[], &["run", "--upstream", "nonsense"]).await.is(USAGE, &["postgres://"]);
    let open = ["run", "--upstream", &url, "--admin", "0.0.0.0:0"];
    cli(&[], &open).await.is(USAGE, &["without a token", "admin_token"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crossfade.toml");
    std::fs::write(&file, "lisen = \"127.0.0.1:1\"\nthreads = \"four\"\n").unwrap();
    let said = cli(&[], &["run", "--config", file.to_str().unwrap()]).await;
    said.is(USAGE, &["crossfade.toml:1:1:", "Did you mean \"listen\"?", "crossfade.toml:2:11:", "2 mistakes"]);
    cli(&[], &["run", "--config", "nowhere.toml"]).await.is(USAGE, &["nowhere.toml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_without_a_proxy_say_so() {
    let nobody = format!("127.0.0.1:{}", free_port().unwrap());
    let said = cli(&[("CROSSFADE_ADMIN", &nobody)], &["status"]).await;
    said.is(FAILED, &["no answer from the admin port", "crossfade run"]);
    let said = cli(&[("CROSSFADE_ADMIN", &nobody)], &["status", "--json"]).await;
    assert!(said.is(FAILED, &[]).json()["error"]["hint"].is_string());
    cli(&[("CROSSFADE_ADMIN", &nobody)], &["health"]).await.is(FAILED, &[]);
    cli(&[("CROSSFADE_ADMIN", "https://127.0.0.1:1")], &["status"]).await.is(USAGE, &["TLS"]);
    cli(&[], &["frobnicate"]).await.is(USAGE, &["frobnicate"]);
    cli(&[], &["--help"]).await.is(DONE, &["Exit codes:", "3  blocked"]);
}

#[test]
fn the_example_migrations_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/migrations");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.display().to_string();
        assert!(MigrationSpec::from_toml(&text, &name).is_ok(), "{name}");
        count += 1;
    }
    assert!(count >= 2);
}
