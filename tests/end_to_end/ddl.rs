//! The old application's own changes to a table whose migration is over, compared with a database that never migrated.

use std::time::Duration;

use serde_json::json;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::common::{Subject, connect, database, server};

const LIMIT: Duration = Duration::from_secs(60);

const SCHEMA: &str = "\
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE users (id bigint PRIMARY KEY, spare int, username text DEFAULT 'anon', age text DEFAULT '0', mood mood);
CREATE TABLE orders (id int PRIMARY KEY, user_id bigint);
INSERT INTO users VALUES (1, 1, 'ann', '30', 'good'), (2, 2, 'bob', '4', NULL);
INSERT INTO orders VALUES (1, 1);";

const RENAME: &str = r#"name = "users-handle"

[[change]]
kind = "rename_column"
table = "users"
column = "username"
to = "handle"
"#;

const RETYPE: &str = r#"name = "users-handle"

[[change]]
kind = "change_type"
table = "users"
column = "age"
type = "integer"
"#;

/// What a session sends, each text by itself.
const SCRIPT: &[&str] = &[
    "SELECT * FROM users ORDER BY id",
    "ALTER TABLE users ADD COLUMN nick text DEFAULT 'n'",
    "SELECT * FROM users ORDER BY id",
    "INSERT INTO users VALUES (3, 3, 'cat', '7', 'bad', 'kit') RETURNING *",
    "UPDATE users SET nick = username || age WHERE id = 1 RETURNING nick",
    "SELECT u.nick, u.username FROM users u JOIN orders o ON o.user_id = u.id",
    "BEGIN",
    "ALTER TABLE users ADD COLUMN level int NOT NULL DEFAULT 5, ADD CHECK (length(nick) > 0)",
    "UPDATE users SET level = level + length(age)",
    "SELECT * FROM users ORDER BY id",
    "SAVEPOINT s",
    "ALTER TABLE users RENAME COLUMN nick TO short",
    "SELECT short, age FROM users ORDER BY id",
    "ROLLBACK TO s",
    "SELECT nick, username FROM users ORDER BY id",
    "COMMIT",
    "SELECT level, username FROM users ORDER BY id",
    "BEGIN",
    "ALTER TABLE users DROP COLUMN nick",
    "SELECT * FROM users ORDER BY id",
    "ROLLBACK",
    "SELECT * FROM users ORDER BY id",
    "ALTER TABLE users DROP COLUMN spare",
    "SELECT * FROM users ORDER BY id",
    "INSERT INTO users VALUES (4, 'dan', '9', NULL, 'd', 1) RETURNING *",
    "ALTER TABLE users ALTER COLUMN level TYPE text USING level || '!'",
    "SELECT level || username FROM users ORDER BY id",
    "ALTER TABLE users ALTER COLUMN nick SET NOT NULL, ALTER COLUMN nick DROP DEFAULT",
    "INSERT INTO users (id, level) VALUES (5, 'x')",
    "CREATE INDEX by_nick ON users (nick, lower(level))",
    "COMMENT ON COLUMN users.nick IS 'short'",
    "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'users' ORDER BY 1",
    "SET search_path = pg_catalog, public",
    "ALTER TABLE users ADD COLUMN other mood",
    "UPDATE users SET other = mood WHERE username = 'ann' RETURNING *",
    "RESET search_path",
    "DO $$ BEGIN ALTER TABLE users ADD COLUMN late int DEFAULT 1; END $$",
    "SELECT * FROM users ORDER BY id",
    "BEGIN",
    "DROP TABLE users",
    "SELECT * FROM users",
    "ROLLBACK",
    "SELECT username, age FROM users ORDER BY id",
    "DROP TABLE users",
    "CREATE TABLE users (id int PRIMARY KEY, username text, age text)",
    "INSERT INTO users VALUES (1, 'new', 'old') RETURNING *",
    "SELECT username, age FROM users",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_old_application_changes_a_renamed_table() {
    check(RENAME, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_application_changes_a_retyped_table() {
    check(RETYPE, false).await;
}

/// Rows and tags as text, or the SQLSTATE.
async fn ask(client: &Client, sql: &str, extended: bool) -> Vec<String> {
    let told = |error: tokio_postgres::Error| {
        vec![error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned())]
    };
    if extended {
        // What was changed meanwhile must be seen by what is prepared now.
        let found = async { client.execute(&client.prepare(sql).await?, &[]).await }.await;
        return found.map_or_else(told, |count| vec![count.to_string()]);
    }
    let text = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let values: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect();
            Some(values.join("|"))
        }
        SimpleQueryMessage::CommandComplete(count) => Some(count.to_string()),
        SimpleQueryMessage::RowDescription(columns) => {
            Some(columns.iter().map(|column| column.name()).collect::<Vec<_>>().join(","))
        }
        _ => None,
    };
    client.simple_query(sql).await.map_or_else(told, |messages| messages.into_iter().filter_map(text).collect())
}

/// The script in each protocol, by a session of its own on a database of its own.
async fn check(migration: &str, first_extended: bool) {
    let server = server();
    let plain = database(&server).await;
    connect(&server.url(&plain)).await.batch_execute(SCHEMA).await.unwrap();
    let subject = Subject::start(&server, SCHEMA).await;
    subject.start_migration(migration).await;
    subject.until_phase("verified", LIMIT).await;
    subject.reads(100).await;
    subject.post("complete", json!({ "confirm": true })).await;
    subject.until_phase("contracted", LIMIT).await;
    subject.caught_up().await;
    let sides = (connect(&server.url(&plain)).await, connect(&subject.url()).await);
    let prepared = sides.1.prepare("SELECT username, age FROM users WHERE id = 1").await.unwrap();
    let mut wrong = Vec::new();
    for (number, sql) in SCRIPT.iter().enumerate() {
        // Rows are compared in the simple protocol; every third text goes by the extended one.
        let extended = number % 3 == usize::from(first_extended) && !sql.starts_with("SELECT");
        let (expected, found) = (ask(&sides.0, sql, extended).await, ask(&sides.1, sql, extended).await);
        if expected != found {
            wrong.push(format!("{sql}\n  got {found:?}\n  expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let row = sides.1.query_one(&prepared, &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("new", "old"));
}
