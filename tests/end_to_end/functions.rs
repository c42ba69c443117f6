//! A function that gives rows of a table under migration gives them in the session's shape.

use std::time::Duration;

use serde_json::json;

use crate::common::{Subject, server, until};
use crate::differential::Brake;
use crate::raw::{Raw, Seen};

const LIMIT: Duration = Duration::from_secs(60);

const SCHEMA: &str = "\
CREATE TABLE users (id bigint PRIMARY KEY, username text, age int);
INSERT INTO users SELECT n, 'user' || n, n FROM generate_series(1, 50) AS n;
CREATE FUNCTION by_age(int) RETURNS SETOF users LANGUAGE sql STABLE AS 'SELECT * FROM users WHERE age = $1';
CREATE FUNCTION made_up(text) RETURNS users LANGUAGE plpgsql AS
  'DECLARE u users; BEGIN u.id := 7; u.username := $1; RETURN u; END';";

const MIGRATION: &str = r#"name = "users-handle"

[[change]]
kind = "rename_column"
table = "users"
column = "username"
to = "handle"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_functions_are_those_of_the_sessions_shape() {
    let server = server();
    let subject = Subject::start(&server, SCHEMA).await;
    let mut wrong = check(&subject, "none");
    let mut brake = Brake::new(subject.port(), &subject.database);
    subject.start_migration(MIGRATION).await;
    let mut phase = subject.phase_after("none", LIMIT).await;
    while phase != "verified" {
        subject.caught_up().await;
        wrong.extend(check(&subject, &phase));
        phase = brake.step(&subject, &phase).await;
    }
    drop(brake);
    subject.reads(100).await;
    wrong.extend(check(&subject, "reads at 100 %"));
    // Made while the migration runs: the session that makes it knows at once, others once the catalog is read again.
    let mut session = old(&subject);
    for schema in ["public", "pg_temp"] {
        session.simple("BEGIN");
        session.simple(&format!(
            "CREATE FUNCTION {schema}.later() RETURNS SETOF users LANGUAGE sql AS 'SELECT * FROM users WHERE id = 3'"
        ));
        let seen = session.simple(&format!("SELECT * FROM {schema}.later()"));
        assert_eq!(shown(&seen), [["3", "user3", "3"]], "{seen:?}");
        session.simple(if schema == "public" { "COMMIT" } else { "ROLLBACK" });
        assert_eq!(shown(&session.simple("SELECT * FROM later()")), [["3", "user3", "3"]]);
    }
    until("a function that was made meanwhile is known", LIMIT, async || {
        shown(&old(&subject).simple("SELECT * FROM later()")) == [["3", "user3", "3"]]
    })
    .await;
    let mut brake = Brake::new(subject.port(), &subject.database);
    subject.post("complete", json!({ "confirm": true })).await;
    phase = subject.phase_after("ramping", LIMIT).await;
    while phase != "contracted" {
        subject.caught_up().await;
        // What a function does with the old column by its name ends with that column.
        let soaks = phase == "soaking";
        wrong.extend(check(&subject, &phase).into_iter().filter(|what| soaks || !what.contains("made_up")));
        phase = brake.step(&subject, &phase).await;
    }
    subject.caught_up().await;
    wrong.extend(check(&subject, "contracted").into_iter().filter(|what| !what.contains("made_up")));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn old(subject: &Subject) -> Raw {
    Raw::connect(subject.port(), &subject.database, &[("options", "-c crossfade.shape=old")])
}

fn shown(seen: &[Seen]) -> Vec<Vec<&str>> {
    let rows = seen.iter().filter_map(|seen| if let Seen::Row(row) = seen { Some(row) } else { None });
    rows.map(|row| row.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect()).collect()
}

/// What is wrong in this phase.
fn check(subject: &Subject, phase: &str) -> Vec<String> {
    let mut session = old(subject);
    let user = vec!["30", "user30", "30"];
    let cases = [
        ("SELECT * FROM by_age(30)", user.clone()),
        ("SELECT username FROM by_age(30) WHERE username = 'user30'", vec!["user30"]),
        ("SELECT f.* FROM users u, by_age(u.age) AS f WHERE u.username = 'user30'", user),
        ("SELECT handle FROM by_age(30)", vec![]),
        ("SELECT * FROM made_up('x')", vec!["7", "x", "NULL"]),
    ];
    let mut wrong = Vec::new();
    for (sql, expected) in cases {
        let seen = session.simple(sql);
        let rows = shown(&seen);
        let right = match expected.is_empty() {
            true => matches!(&seen[..], [Seen::Error { code, .. }] if code == "42703"),
            false => rows == [expected],
        };
        if !right {
            wrong.push(format!("[{phase}] {sql}: {seen:?}"));
        }
    }
    wrong
}
