//! The old application's own changes to a table whose migration is over, compared with a database that never migrated.

use std::time::Duration;

use serde_json::json;
use tokio_postgres::{Client, SimpleQueryMessage, Statement};

use crate::common::{Subject, connect, database, server, until};

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

/// Statements about what the session has just made, and such as run only outside of a transaction. Each name is read at once:
/// the catalog that the proxy has is older.
const FRESH: &[&str] = &[
    "CREATE TABLE fresh (user_id bigint, note text)",
    "INSERT INTO fresh SELECT id, username FROM users",
    "SELECT username, note FROM users JOIN fresh ON id = user_id ORDER BY 1",
    "UPDATE users SET age = length(note) FROM fresh WHERE id = user_id AND username = note",
    "CREATE VIEW notes AS SELECT note, user_id AS id2 FROM fresh",
    "SELECT username, note FROM users, notes WHERE id = id2 AND username = note ORDER BY 1",
    "BEGIN",
    "ALTER TABLE fresh ADD COLUMN username text",
    "SELECT username FROM users JOIN fresh ON id = user_id",
    "ROLLBACK",
    "DROP TABLE fresh CASCADE",
    "CREATE TABLE fresh AS SELECT id AS user_id, username AS name FROM users",
    "MERGE INTO users USING fresh ON id = user_id WHEN MATCHED THEN UPDATE SET username = name || '!'",
    "DELETE FROM users USING fresh WHERE name = 'bob' AND username = 'bob!'",
    "SELECT * FROM users NATURAL JOIN fresh ORDER BY id",
    "SET search_path = pg_catalog, public",
    "VACUUM users",
    "SET search_path = public",
    "CREATE INDEX CONCURRENTLY fresh_spare ON users (spare)",
    "RESET search_path",
    "PREPARE one (text) AS SELECT id FROM users WHERE username = $1",
    "EXECUTE one ('ann!')",
    "PREPARE one AS SELECT 1",
    "EXECUTE one ('bob!')",
    "DEALLOCATE one",
    "EXECUTE one ('ann!')",
];

/// What the old application may do to the table while its column is being renamed, in two parts: reads move in between.
const MEANWHILE: [&[&str]; 3] = [
    &[
        "CREATE UNIQUE INDEX by_name ON users (username)",
        "INSERT INTO users (id, username) VALUES (3, 'ann') ON CONFLICT (username) DO UPDATE SET age = 'twice' RETURNING *",
        "INSERT INTO users (id, username) VALUES (3, 'bob')",
        "CREATE INDEX lower_name ON users (lower(username)) WHERE username <> ''",
        "ALTER TABLE users ADD COLUMN nick text DEFAULT 'n', ADD CHECK (nick <> 'x')",
        "SELECT * FROM users ORDER BY id",
        "INSERT INTO users VALUES (3, 3, 'cat', '7', 'bad', 'kit') RETURNING *",
        "BEGIN",
        "ALTER TABLE users ADD COLUMN level int",
        "UPDATE users SET level = length(username) RETURNING *",
        "ROLLBACK",
        "ALTER TABLE users ADD CONSTRAINT named CHECK (username <> 'nobody')",
        "UPDATE users SET username = 'nobody'",
        "ALTER TABLE users ADD CONSTRAINT gone CHECK (username <> 'none')",
        "CREATE UNIQUE INDEX spare_name ON users (username, spare)",
    ],
    &[
        "SELECT * FROM users ORDER BY id",
        "INSERT INTO users (id, username) VALUES (4, 'ann') ON CONFLICT (username) DO NOTHING RETURNING *",
        "DROP INDEX spare_name",
        "ALTER TABLE users DROP CONSTRAINT gone",
    ],
    &[
        "INSERT INTO users (id, username, spare) VALUES (5, 'none', 3) RETURNING username",
        "SELECT * FROM users ORDER BY id",
        "INSERT INTO users (id, username) VALUES (6, 'ann') ON CONFLICT (username) DO UPDATE SET nick = 'again' RETURNING *",
        "INSERT INTO users (id, username) VALUES (3, 'bob')",
        "UPDATE users SET username = 'nobody'",
        "SELECT indexname FROM pg_indexes WHERE tablename = 'users' ORDER BY 1",
        "SELECT conname FROM pg_constraint WHERE conrelid = 'users'::regclass ORDER BY 1",
    ],
];

#[tokio::test(flavor = "multi_thread")]
async fn the_old_application_adds_to_a_table_that_is_being_renamed() {
    let server = server();
    let plain = database(&server).await;
    connect(&server.url(&plain)).await.batch_execute(SCHEMA).await.unwrap();
    let subject = Subject::start(&server, SCHEMA).await;
    subject.start_migration(RENAME).await;
    subject.until_phase("verified", LIMIT).await;
    let sides = (connect(&server.url(&plain)).await, connect(&subject.url()).await);
    let stored = connect(&server.url(&subject.database)).await;
    let twins = async |what: &str, count: i64| {
        let sql = "SELECT count(*) FROM pg_class WHERE relname LIKE '~crossfade%' AND relkind = 'i'";
        until(what, LIMIT, async || stored.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == count).await;
    };
    let mut wrong = Vec::new();
    for (part, script) in MEANWHILE.iter().enumerate() {
        for sql in *script {
            let (expected, found) = (ask(&sides.0, sql, false).await, ask(&sides.1, sql, false).await);
            if expected != found {
                wrong.push(format!("{sql}\n  got {found:?}\n  expected {expected:?}"));
            }
        }
        match part {
            0 => {
                twins("the new column has the indexes of the old one", 3).await;
                subject.reads(100).await;
            }
            1 => {
                twins("what was dropped is dropped on the new column too", 2).await;
                subject.post("complete", json!({ "confirm": true })).await;
                subject.until_phase("contracted", LIMIT).await;
                subject.caught_up().await;
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_has_just_made_is_known() {
    for extended in [false, true] {
        check(RENAME, FRESH, |_| extended).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_application_changes_a_renamed_table() {
    check_script(RENAME, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_application_changes_a_retyped_table() {
    check_script(RETYPE, false).await;
}

/// Rows and tags as text, or the SQLSTATE.
pub async fn ask(client: &Client, sql: &str, extended: bool) -> Vec<String> {
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

/// The script: rows are compared in the simple protocol, every third other text goes by the extended one.
async fn check_script(migration: &str, first_extended: bool) {
    let extended = |number: usize| number % 3 == usize::from(first_extended) && !SCRIPT[number].starts_with("SELECT");
    let (_subject, client, prepared) = check(migration, SCRIPT, extended).await;
    let row = client.query_one(&prepared, &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("new", "old"));
}

/// A script by a session of the old application, after the contract and on a database that never migrated. Answers with the
/// session, and a statement that it prepared before.
async fn check(migration: &str, script: &[&str], extended: impl Fn(usize) -> bool) -> (Subject, Client, Statement) {
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
    for (number, sql) in script.iter().enumerate() {
        let extended = extended(number);
        let (expected, found) = (ask(&sides.0, sql, extended).await, ask(&sides.1, sql, extended).await);
        if expected != found {
            wrong.push(format!("{sql}\n  got {found:?}\n  expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    (subject, sides.1, prepared)
}
