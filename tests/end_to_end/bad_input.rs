//! What people get wrong: each mistake gives one clear error that says what to do, and changes nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crossfade::admin::remote::{Body, CallError};
use crossfade::demo::application::{SCHEMA, seed_sql};
use crossfade::demo::facts;
use crossfade::demo::postgres::free_port;
use crossfade::demo::proxy::Proxy;

use crate::common::{MIGRATION, Subject, connect, program, server, until};
use crate::raw::{Raw, Seen};

/// Exit codes as the documentation has them.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const BLOCKED: i32 = 3;

const LIMIT: Duration = Duration::from_secs(60);

fn crossfade(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The code is right, and standard error says each of these.
#[track_caller]
fn fails(output: &Output, code: i32, says: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    let shown = format!("{error}{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(code), "{shown}");
    for what in says {
        assert!(shown.contains(what), "expected {what:?} in:\n{shown}");
    }
    assert!(!shown.contains("panicked"), "{shown}");
}

#[test]
fn unknown_commands_and_flags_are_usage_errors() {
    fails(&crossfade(&["frobnicate"]), USAGE, &["frobnicate"]);
    fails(&crossfade(&["demo", "--rows", "many"]), USAGE, &["many"]);
    fails(&crossfade(&["demo", "--rows", "1"]), USAGE, &["100"]);
    fails(&crossfade(&["reads", "users-handle", "101"]), USAGE, &["101"]);
    fails(&crossfade(&["run"]), USAGE, &["upstream"]);
}

#[test]
fn every_mistake_of_a_file_is_reported_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    let text = "name = \"Users Handle\"\ncolour = \"red\"\n\n[[change]]\nkind = \"rename_column\"\ntable = \"users\"\n\
                column = \"username\"\ntoo = \"handle\"\nup = \"lower(\"\n";
    fs::write(&file, text).unwrap();
    let output = crossfade(&["plan", file.to_str().unwrap()]);
    fails(&output, USAGE, &["Users Handle", "colour", "too", "1:", "2:", "8:"]);
    fails(&crossfade(&["plan", "nowhere.toml"]), USAGE, &["nowhere.toml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let server = server();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let admin = format!("127.0.0.1:{}", free_port().unwrap());
    let url = server.url("postgres");
    let output = crossfade(&["run", "--listen", &address, "--admin", &admin, "--upstream", &url]);
    fails(&output, FAILED, &[&address]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_is_said_to_the_client_and_the_proxy_stays_up() {
    let scratch = tempfile::tempdir().unwrap();
    let nobody = format!("postgres://postgres@127.0.0.1:{}/app", free_port().unwrap());
    let proxy = Proxy::start(program(), &nobody, &scratch.path().join("log")).unwrap();
    until("the proxy listens", LIMIT, async || TcpStream::connect(("127.0.0.1", proxy.port())).is_ok()).await;
    for _ in 0..2 {
        let url = format!("postgres://postgres@127.0.0.1:{}/app", proxy.port());
        let Err(error) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await else {
            panic!("a connection to nobody")
        };
        assert_eq!(error.code().map(|code| code.code()), Some("08006"), "{error:?}\n{}", proxy.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_wire_harms_nobody_else() {
    let server = server();
    let subject = Subject::start(&server, SCHEMA).await;
    let mut neighbour = Raw::connect(subject.port(), &subject.database, &[]);
    let huge_length = [&0x7fff_ffff_u32.to_be_bytes()[..], &[0, 3, 0, 0]].concat();
    let negative_length = [&0xffff_ffff_u32.to_be_bytes()[..], &[0, 3, 0, 0]].concat();
    let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    let early_end = vec![0, 0, 0, 20, 0, 3];
    for packet in [huge_length, negative_length, http, early_end, vec![0; 64]] {
        let mut stream = TcpStream::connect(("127.0.0.1", subject.port())).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // Whatever it says, it ends; it may have ended before we have.
        let _ = stream.write_all(&packet);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(said.len() < 4_096, "{said:?}");
        assert_eq!(neighbour.simple("SELECT 1")[1], Seen::Row(vec![Some("1".to_owned())]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_mistakes_are_answered_and_change_nothing() {
    let server = server();
    let subject = Subject::start(&server, SCHEMA).await;
    let remote = subject.remote();
    let status = |error: CallError| match error {
        CallError::Refused { status, body } => (status, body),
        CallError::NoAnswer(why) => panic!("{why}"),
    };
    let unknown = status(remote.get("/v1/migrations/nothing").await.unwrap_err());
    assert_eq!(unknown.0, 404, "{unknown:?}");
    let unknown = status(remote.post("/v1/migrations/nothing/complete", Body::Toml("{}".into())).await.unwrap_err());
    assert_eq!(unknown.0, 404, "{unknown:?}");
    let file = status(remote.post("/v1/migrations", Body::Toml("name = ".into())).await.unwrap_err());
    assert!((400..500).contains(&file.0), "{file:?}");
    remote.post("/v1/migrations", Body::Toml(MIGRATION.into())).await.unwrap();
    subject.until_phase("verified", LIMIT).await;
    for body in ["{", "{\"percent\": 101}", "{\"percent\": \"x\"}", "{\"share\": 5}", ""] {
        let wrong =
            status(remote.post("/v1/migrations/users-handle/reads", Body::Toml(body.into())).await.unwrap_err());
        assert!((400..500).contains(&wrong.0), "{body}: {wrong:?}");
    }
    assert_eq!(subject.phase().await, "verified");
    let again = status(remote.post("/v1/migrations", Body::Toml(MIGRATION.into())).await.unwrap_err());
    assert_eq!(again.0, 409, "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_cannot_do_is_blocked_and_nothing_changes() {
    let server = server();
    let subject = Subject::start(&server, SCHEMA).await;
    let direct = connect(&server.url(&subject.database)).await;
    direct.batch_execute("CREATE TABLE keyless (name text)").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let admin = subject.admin();
    let start = |text: &str| {
        let file = folder.path().join("file.toml");
        fs::write(&file, text).unwrap();
        crossfade(&["start", file.to_str().unwrap(), "--admin", &admin])
    };
    let missing_table = MIGRATION.replace("table = \"users\"", "table = \"nowhere\"");
    fails(&start(&missing_table), BLOCKED, &["nowhere"]);
    let missing_column = MIGRATION.replace("column = \"username\"", "column = \"nickname\"");
    fails(&start(&missing_column), BLOCKED, &["nickname"]);
    let keyless = MIGRATION.replace("\"users\"", "\"keyless\"").replace("\"username\"", "\"name\"");
    fails(&start(&keyless), BLOCKED, &["primary key"]);
    let volatile = format!("{MIGRATION}up = \"username || random()::text\"\n");
    fails(&start(&volatile), USAGE, &["random"]);
    assert_eq!(facts::column(&direct, "handle").await.unwrap(), None);
    assert_eq!(facts::triggers(&direct).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_fit_blocks_the_switch_until_it_is_solved() {
    let server = server();
    let subject = Subject::start(&server, SCHEMA).await;
    let direct = connect(&server.url(&subject.database)).await;
    direct.batch_execute(&seed_sql(50)).await.unwrap();
    direct.batch_execute("UPDATE users SET username = repeat('é', 150) WHERE id = 7").await.unwrap();
    let application = connect(&subject.url()).await;
    let rename = application.prepare("UPDATE users SET username = $1 WHERE id = $2").await.unwrap();
    subject.start_migration(MIGRATION).await;
    until("the row is in quarantine", LIMIT, async || {
        let sql = "SELECT count(*) FROM crossfade.quarantine";
        direct.query_one(sql, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) == 1)
    })
    .await;
    // The old application may still write such a name, and read it back.
    application.execute(&rename, &[&"ü".repeat(140), &8_i64]).await.unwrap();
    let row = application.query_one("SELECT * FROM users WHERE id = 8", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>("username"), "ü".repeat(140));
    assert_eq!(subject.phase().await, "backfilling");
    let refused =
        subject.remote().post("/v1/migrations/users-handle/reads", Body::Toml(r#"{"percent": 10}"#.into())).await;
    assert!(matches!(refused, Err(CallError::Refused { status: 409, .. })), "{refused:?}");

    for id in [7_i64, 8] {
        application.execute(&rename, &[&format!("short {id}"), &id]).await.unwrap();
    }
    subject.until_phase("verified", LIMIT).await;
    subject.reads(100).await;
    // From now on no read may be wrong: PostgreSQL's own error.
    let error = application.execute(&rename, &[&"x".repeat(101), &9_i64]).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("22001"), "{error:?}");
    assert_eq!(facts::drift(&direct).await.unwrap(), Some(0));
}
