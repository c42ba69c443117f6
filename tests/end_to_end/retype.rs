//! A change of type from one end to the other, seen by an application that knows text and by one that knows integers.

use std::time::Duration;

use futures_util::SinkExt as _;
use serde_json::json;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::common::{Subject, connect, server, until};
use crate::differential::Brake;

const LIMIT: Duration = Duration::from_secs(60);

const SCHEMA: &str = "\
CREATE TABLE users (id bigint PRIMARY KEY, name text, age text DEFAULT '0');
CREATE INDEX by_age ON users (age);
INSERT INTO users SELECT n, 'user' || n, n::text FROM generate_series(1, 200) AS n;";

const MIGRATION: &str = r#"name = "users-handle"

[[change]]
kind = "change_type"
table = "users"
column = "age"
type = "integer"
"#;

struct Sessions {
    old: Client,
    new: Client,
}

impl Sessions {
    async fn open(subject: &Subject) -> Sessions {
        let url = |shape: &str| format!("{}?options=-c%20crossfade.shape%3D{shape}", subject.url());
        Sessions { old: connect(&url("old")).await, new: connect(&url("new")).await }
    }
}

/// Rows as text, or the SQLSTATE.
pub async fn ask(client: &Client, sql: &str) -> Vec<String> {
    match client.simple_query(sql).await {
        Ok(messages) => {
            let row = |message: SimpleQueryMessage| match message {
                SimpleQueryMessage::Row(row) => {
                    let texts: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect();
                    Some(texts.join("|"))
                }
                _ => None,
            };
            messages.into_iter().filter_map(row).collect()
        }
        Err(error) => vec![error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned())],
    }
}

/// What both see in this phase; every write is rolled back.
async fn check(sessions: &Sessions, phase: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expect = |what: &str, found: Vec<String>, expected: &[&str]| {
        if found != expected {
            wrong.push(format!("[{phase}] {what}: {found:?}, expected {expected:?}"));
        }
    };
    let Sessions { old, new } = sessions;
    expect("old reads", ask(old, "SELECT age || '!' FROM users WHERE age = '42'").await, &["42!"]);
    expect("old orders as text", ask(old, "SELECT max(age) FROM users WHERE id < 20").await, &["9"]);
    let write = "BEGIN; UPDATE users SET age = '7' || '0' WHERE id = 1; SELECT age FROM users WHERE id = 1; ROLLBACK";
    expect("old writes", ask(old, write).await, &["70"]);
    let write = "BEGIN; INSERT INTO users (id) VALUES (999); SELECT age FROM users WHERE id = 999; ROLLBACK";
    expect("old default", ask(old, write).await, &["0"]);
    if ["none", "planned", "shielded"].contains(&phase) {
        return wrong;
    }
    expect("new reads", ask(new, "SELECT age + 1 FROM users WHERE age = 42").await, &["43"]);
    expect("new orders as integer", ask(new, "SELECT max(age) FROM users WHERE id < 20").await, &["19"]);
    // Texts of their own: what follows a change of shape in one text would be refused.
    let write = "BEGIN; UPDATE users SET age = age + 1000 WHERE id = 1; SELECT age FROM users WHERE id = 1";
    expect("new writes", ask(new, write).await, &["1001"]);
    ask(new, "SET LOCAL crossfade.shape = 'old'").await;
    expect("old reads it", ask(new, "SELECT age || '?' FROM users WHERE id = 1").await, &["1001?"]);
    ask(new, "ROLLBACK").await;
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn both_applications_work_in_every_phase() {
    let server = server();
    let subject = Subject::start(&server, SCHEMA).await;
    let sessions = Sessions::open(&subject).await;
    let prepared = sessions.old.prepare("SELECT age FROM users WHERE id = $1").await.unwrap();
    let mut wrong = check(&sessions, "none").await;
    let mut brake = Brake::new(subject.port(), &subject.database);
    subject.start_migration(MIGRATION).await;
    let mut phase = subject.phase_after("none", LIMIT).await;
    while phase != "verified" {
        // A phase is told as soon as it is published; the proxy takes it a moment later.
        subject.caught_up().await;
        wrong.extend(check(&sessions, &phase).await);
        phase = brake.step(&subject, &phase).await;
    }
    drop(brake);
    subject.caught_up().await;
    wrong.extend(check(&sessions, "verified").await);
    for percent in [50, 100] {
        subject.reads(percent).await;
        wrong.extend(check(&sessions, &format!("reads at {percent} %")).await);
    }
    wrong.extend(misfits_are_told_by_the_old_column(&subject, &sessions).await);
    // No transaction is kept open here: around the contract new ones are held, and those in flight must end.
    subject.post("complete", json!({ "confirm": true })).await;
    while phase != "contracted" {
        phase = subject.phase().await;
        wrong.extend(check(&sessions, &phase).await);
    }
    subject.caught_up().await;
    wrong.extend(check(&sessions, "contracted").await);
    let row = sessions.old.query_one(&prepared, &[&42_i64]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "42");
    assert_eq!(ask(&sessions.old, "UPDATE users SET age = 'old' WHERE id = 1").await, ["22P02"]);
    let direct = connect(&server.url(&subject.database)).await;
    let columns = "SELECT string_agg(attname || ' ' || atttypid::regtype, ', ' ORDER BY attname) FROM pg_attribute \
                   WHERE attrelid = 'users'::regclass AND attnum > 0 AND NOT attisdropped";
    assert_eq!(ask(&direct, columns).await, ["age integer, id bigint, name text"]);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    copy_converts(&subject, &sessions, &direct).await;
    // The stored table is its users' own: the view that COPY goes through is not in the way.
    assert_eq!(ask(&sessions.new, "DROP TABLE users").await, [""; 0]);
}

/// COPY in one piece; the rows, or the SQLSTATE and where it happened.
async fn copy(client: &Client, sql: &str, data: &'static str) -> Result<u64, (String, String)> {
    let told = |error: tokio_postgres::Error| {
        let found = error.as_db_error();
        let place = found.and_then(|found| found.where_()).unwrap_or_default().to_owned();
        (found.map_or_else(|| error.to_string(), |found| found.code().code().to_owned()), place)
    };
    let sink = client.copy_in(sql).await.map_err(told)?;
    let mut sink = std::pin::pin!(sink);
    // The server may have refused already: how it ends is told by `finish`.
    let _ = sink.send(bytes::Bytes::from_static(data.as_bytes())).await;
    sink.finish().await.map_err(told)
}

/// An old session copies texts into what is stored as integers.
async fn copy_converts(subject: &Subject, sessions: &Sessions, direct: &Client) {
    let Sessions { old, new } = sessions;
    assert_eq!(copy(old, "COPY users (id, age) FROM STDIN", "500\t77\n501\t\\N\n").await, Ok(2));
    assert_eq!(copy(old, "COPY users FROM STDIN CSV", "502,me,78\n").await, Ok(1));
    assert_eq!(copy(old, "COPY users (id, name) FROM STDIN", "503\tyou\n").await, Ok(1));
    let found = ask(new, "SELECT id, name, age FROM users WHERE id >= 500 ORDER BY id").await;
    assert_eq!(found, ["500|NULL|77", "501|NULL|NULL", "502|me|78", "503|you|0"]);
    let failed = copy(old, "COPY users (id, age) FROM STDIN", "504\t1\n505\told\n").await;
    let (state, place) = failed.unwrap_err();
    assert_eq!(state, "22P02");
    assert!(place.ends_with("\nCOPY users, line 2: \"505\told\""), "{place}");
    let failed = copy(old, "COPY users (id, age) FROM STDIN", "500\t1\n").await;
    let (state, place) = failed.unwrap_err();
    assert_eq!(state, "23505");
    assert!(place.starts_with("COPY users, line 1"), "{place}");
    // What rows one by one would not give is refused, and passes when it is gone.
    let changes = [
        (
            "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER noted AFTER INSERT ON users EXECUTE FUNCTION noted()",
            "DROP TRIGGER noted ON users",
        ),
        ("ALTER TABLE users ADD parent bigint REFERENCES users", "ALTER TABLE users DROP parent"),
        ("CREATE RULE noted AS ON INSERT TO users DO ALSO SELECT 1", "DROP RULE noted ON users"),
        ("ALTER TABLE users ALTER name TYPE varchar(9)", "ALTER TABLE users ALTER name TYPE text"),
    ];
    for (number, (change, back)) in changes.iter().enumerate() {
        ask(direct, change).await;
        let sql = "COPY users (id, age) FROM STDIN";
        // The driver does not live through a copy that fails before its data is read, here as little as on a direct way.
        let refused = copy(&Sessions::open(subject).await.old, sql, "600\t1\n").await.unwrap_err();
        assert_eq!(refused.0, "0A000", "{change}");
        ask(direct, back).await;
        let data: &'static str = ["601\t1\n", "602\t1\n", "603\t1\n", "604\t1\n"][number];
        assert_eq!(copy(old, sql, data).await, Ok(1), "{back}");
    }
    ask(direct, "ALTER TABLE users ADD more int DEFAULT 5").await;
    assert_eq!(copy(old, "COPY users (id, age) FROM STDIN", "700\t1\n").await, Ok(1));
    assert_eq!(ask(direct, "SELECT more FROM users WHERE id = 700").await, ["5"]);
}

/// The old application's write is accepted while reads come from the new column; completing waits until it is corrected.
async fn misfits_are_told_by_the_old_column(subject: &Subject, sessions: &Sessions) -> Vec<String> {
    let mut wrong = Vec::new();
    let Sessions { old, new } = sessions;
    let mut expect = |what: &str, found: Vec<String>, expected: &[&str]| {
        if found != expected {
            wrong.push(format!("[a misfit] {what}: {found:?}, expected {expected:?}"));
        }
    };
    expect("is written", ask(old, "UPDATE users SET age = 'old' WHERE id = 5 RETURNING age").await, &["old"]);
    expect("is read", ask(old, "SELECT id FROM users WHERE age = 'old'").await, &["5"]);
    expect("is NULL in the new shape", ask(new, "SELECT age FROM users WHERE id = 5").await, &["NULL"]);
    let refused = subject
        .remote()
        .post("/v1/migrations/users-handle/complete", crossfade::admin::remote::Body::Json(json!({ "confirm": true })))
        .await;
    if refused.is_ok() {
        wrong.push("complete was taken with a row in quarantine".to_owned());
    }
    ask(old, "UPDATE users SET age = '5' WHERE id = 5").await;
    until("the quarantine is empty", LIMIT, async || subject.status().await["quarantine"]["rows"] == 0).await;
    wrong
}
