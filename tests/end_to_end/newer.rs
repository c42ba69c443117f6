//! What a session of the new shape writes while the old column is still there: nothing of it is lost to that column.

use std::time::Duration;

use futures_util::SinkExt as _;
use serde_json::json;
use tokio_postgres::Client;

use crate::common::{Subject, connect, server};
use crate::retype::ask;

const LIMIT: Duration = Duration::from_secs(60);

const SCHEMA: &str = "\
CREATE TABLE users (id bigint PRIMARY KEY, username varchar(5) CONSTRAINT users_name_unique UNIQUE, parts int[] DEFAULT '{1,2}');
CREATE UNIQUE INDEX users_lower_active ON users (lower(username)) WHERE id < 10;
INSERT INTO users VALUES (1, 'a', '{1}'), (2, 'b', '{2}');";

/// A migration of the one column or the other.
fn migration(change: &str) -> String {
    format!("name = \"users-handle\"\n[[change]]\ntable = \"users\"\n{change}\n")
}

/// A session of that shape.
async fn session(subject: &Subject, shape: &str) -> Client {
    connect(&format!("{}?options=-c%20crossfade.shape%3D{shape}", subject.url())).await
}

/// What each statement gives, in a transaction that is rolled back.
async fn check(client: &Client, phase: &str, cases: &[(&str, &[&str])], wrong: &mut Vec<String>) {
    for (sql, expected) in cases {
        client.batch_execute("BEGIN").await.unwrap();
        let found = ask(client, sql).await;
        if found != *expected {
            wrong.push(format!("[{phase}] {sql}: {found:?}, expected {expected:?}"));
        }
        client.batch_execute("ROLLBACK").await.unwrap();
    }
}

/// Checks in `verified`, with reads on either side, and at the end.
async fn through(change: &str, before: &[(&str, &[&str])], after: &[(&str, &[&str])]) {
    let server = server();
    let subject = Subject::start(&server, SCHEMA).await;
    subject.start_migration(&migration(change)).await;
    subject.until_phase("verified", LIMIT).await;
    subject.caught_up().await;
    let mut wrong = Vec::new();
    for shape in ["new", "auto"] {
        let client = session(&subject, shape).await;
        check(&client, &format!("verified, {shape}"), before, &mut wrong).await;
    }
    subject.reads(100).await;
    check(&session(&subject, "new").await, "reads at 100 %", before, &mut wrong).await;
    subject.post("complete", json!({ "confirm": true })).await;
    subject.until_phase("contracted", LIMIT).await;
    subject.caught_up().await;
    check(&session(&subject, "new").await, "contracted", after, &mut wrong).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_value_win_over_the_old_columns_default() {
    let cases: &[(&str, &[&str])] = &[
        ("INSERT INTO users (id, tags[1], tags[3]) VALUES (10, 1, 3) RETURNING tags", &["{1,NULL,3}"]),
        (
            "INSERT INTO users (id, tags[2:3]) VALUES (10, '{5,6}'), (11, '{7,8}') RETURNING tags",
            &["[2:3]={5,6}", "[2:3]={7,8}"],
        ),
        ("INSERT INTO users (id, tags[1]) SELECT 10, 5 RETURNING tags", &["{5}"]),
        ("INSERT INTO users (tags[2], id) SELECT max(id), 10 FROM users RETURNING tags", &["[2:2]={2}"]),
        (
            "INSERT INTO users (id, tags[1]) VALUES (1, 9) ON CONFLICT (id) DO UPDATE SET tags[2] = 7 RETURNING tags",
            &["{1,7}"],
        ),
    ];
    let change = "kind = \"rename_column\"\ncolumn = \"parts\"\nto = \"tags\"";
    through(change, cases, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blanks_that_the_old_column_would_cut_are_refused_as_longer_values_are() {
    let before: &[(&str, &[&str])] = &[
        ("INSERT INTO users (id, handle) VALUES (10, 'ab   ') RETURNING handle || '|'", &["ab   |"]),
        ("INSERT INTO users (id, handle) VALUES (10, 'ab    ')", &["22001"]),
        ("INSERT INTO users (id, handle) SELECT 10, 'abcde' || ' '", &["22001"]),
        ("UPDATE users SET handle = handle || repeat(' ', 5) WHERE id = 1", &["22001"]),
        ("UPDATE users SET handle = handle || repeat(' ', 4) WHERE id = 1 RETURNING handle || '|'", &["a    |"]),
        ("UPDATE users SET handle = 'abcdef' WHERE id = 1", &["22001"]),
    ];
    let after: &[(&str, &[&str])] = &[
        ("UPDATE users SET handle = handle || repeat(' ', 5) WHERE id = 1 RETURNING handle || '|'", &["a     |"]),
        // The one that was made first is looked at first, as before.
        ("INSERT INTO users (id, handle) VALUES (3, 'a')", &["23505"]),
    ];
    let change = "kind = \"rename_column\"\ncolumn = \"username\"\nto = \"handle\"\ntype = \"text\"";
    through(change, before, after).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_indexes_are_looked_at_in_the_order_in_which_they_were_made() {
    let server = server();
    let subject = Subject::start(&server, SCHEMA).await;
    subject.start_migration(&migration("kind = \"rename_column\"\ncolumn = \"username\"\nto = \"handle\"")).await;
    subject.until_phase("verified", LIMIT).await;
    subject.reads(100).await;
    subject.post("complete", json!({ "confirm": true })).await;
    subject.until_phase("contracted", LIMIT).await;
    subject.caught_up().await;
    let error = connect(&subject.url()).await.execute("INSERT INTO users (id, username) VALUES (3, 'a')", &[]).await;
    let constraint = error.unwrap_err().as_db_error().and_then(|error| error.constraint().map(str::to_owned));
    assert_eq!(constraint.as_deref(), Some("users_name_unique"));
}

#[tokio::test(flavor = "multi_thread")]
async fn code_whose_value_the_old_columns_default_would_win_over_is_refused() {
    let server = server();
    let subject = Subject::start(&server, SCHEMA).await;
    subject.start_migration(&migration("kind = \"rename_column\"\ncolumn = \"parts\"\nto = \"tags\"")).await;
    subject.until_phase("verified", LIMIT).await;
    subject.caught_up().await;
    let mut wrong = Vec::new();
    let cases: &[(&str, &[&str])] = &[
        ("DO $$ BEGIN INSERT INTO users (id, tags) VALUES (10, '{7}'); END $$", &["0A000"]),
        (
            "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'INSERT INTO users (id, tags) VALUES (10, ''{7}'')'",
            &["0A000"],
        ),
        ("DO $$ BEGIN INSERT INTO users (id, tags, parts) VALUES (10, '{7}', '{7}'); END $$", &[]),
        ("DO $$ BEGIN UPDATE users SET tags = '{7}' WHERE id = 1; END $$", &[]),
        ("DO $$ BEGIN INSERT INTO users (id, parts) VALUES (10, '{7}'); END $$", &[]),
        ("DO $$ BEGIN INSERT INTO users (id, username) VALUES (10, 'x'); END $$", &[]),
    ];
    check(&session(&subject, "auto").await, "verified", cases, &mut wrong).await;
    // Past the proxy: a default gives way to a value, but not what a trigger has made of one.
    let direct = connect(&server.url(&subject.database)).await;
    let both = "RETURNING parts, tags";
    let cases = [
        (format!("INSERT INTO users (id, tags) VALUES (10, '{{7}}') {both}"), ["{7}|{7}"]),
        (format!("INSERT INTO users (id, username) VALUES (10, 'x') {both}"), ["{1,2}|{1,2}"]),
        (format!("INSERT INTO users (id, parts, tags) VALUES (10, '{{8}}', '{{7}}') {both}"), ["{8}|{8}"]),
        (format!("INSERT INTO users (id, parts, tags) VALUES (10, NULL, '{{7}}') {both}"), ["{7}|{7}"]),
    ];
    let cases: Vec<(&str, &[&str])> = cases.iter().map(|(sql, told)| (sql.as_str(), told.as_slice())).collect();
    check(&direct, "direct", &cases, &mut wrong).await;
    let trigger = "CREATE FUNCTION parted() RETURNS trigger LANGUAGE plpgsql AS \
                   $$ BEGIN IF NEW.parts = '{}' THEN NEW.parts := '{1,2}'; END IF; RETURN NEW; END $$; \
                   CREATE TRIGGER parted BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION parted()";
    direct.batch_execute(trigger).await.unwrap();
    let cases: &[(&str, &[&str])] = &[("INSERT INTO users (id, parts) VALUES (10, '{}') RETURNING parts", &["{1,2}"])];
    check(&session(&subject, "old").await, "with a trigger", cases, &mut wrong).await;
    let cases: &[(&str, &[&str])] = &[
        ("INSERT INTO users (id, tags) VALUES (10, '{7}') RETURNING parts, tags", &["{7}|{7}"]),
        ("INSERT INTO users (id, tags) VALUES (10, '{}') RETURNING parts, tags", &["{1,2}|{1,2}"]),
    ];
    check(&direct, "direct, with a trigger", cases, &mut wrong).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The users' own triggers name what they know; they act on what every session writes, whichever way.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_over_one_column_acts_on_whatever_either_shape_writes() {
    let server = server();
    let schema = "CREATE TABLE users (id bigint PRIMARY KEY, username text); INSERT INTO users VALUES (1, 'a'), (2, 'b'); \
                  CREATE FUNCTION fold() RETURNS trigger LANGUAGE plpgsql AS \
                  $$ BEGIN NEW.username := CASE WHEN TG_OP = 'UPDATE' AND NEW.username = 'KEEP' THEN OLD.username \
                                           ELSE lower(NEW.username) END; RETURN NEW; END $$; \
                  CREATE TRIGGER fold BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION fold();";
    let subject = Subject::start(&server, schema).await;
    subject.start_migration(&migration("kind = \"rename_column\"\ncolumn = \"username\"\nto = \"handle\"")).await;
    let direct = connect(&server.url(&subject.database)).await;
    let mut wrong = Vec::new();
    let mut acts = async |phase: &str| {
        for (shape, name) in [("old", "username"), ("new", "handle")] {
            let client = session(&subject, shape).await;
            let cases: Vec<(String, &[&str])> = vec![
                (format!("INSERT INTO users (id, {name}) VALUES (9, 'X') RETURNING {name}"), &["x"]),
                (format!("INSERT INTO users (id, {name}) SELECT 9, (SELECT 'X') RETURNING {name}"), &["x"]),
                (format!("UPDATE users SET {name} = 'X' WHERE id = 1 RETURNING {name}"), &["x"]),
                (format!("UPDATE users SET {name} = (SELECT 'X') WHERE id = 1 RETURNING {name}"), &["x"]),
                (format!("UPDATE users SET {name} = 'KEEP' WHERE id = 1 RETURNING {name}"), &["a"]),
                (format!("UPDATE users SET {name} = (SELECT 'KEEP') WHERE id = 1 RETURNING {name}"), &["a"]),
                (
                    format!(
                        "INSERT INTO users (id, {name}) VALUES (1, 'X') ON CONFLICT (id) DO UPDATE \
                         SET {name} = excluded.{name} || 'Y' RETURNING {name}"
                    ),
                    &["xy"],
                ),
            ];
            let cases: Vec<(&str, &[&str])> = cases.iter().map(|(sql, told)| (sql.as_str(), *told)).collect();
            check(&client, &format!("{phase}, {shape}"), &cases, &mut wrong).await;
            let sink = client.copy_in::<_, bytes::Bytes>(&format!("COPY users (id, {name}) FROM STDIN")).await.unwrap();
            let mut sink = std::pin::pin!(sink);
            sink.send(bytes::Bytes::from_static(b"9\tCoPiEd\n")).await.unwrap();
            sink.finish().await.unwrap();
            let cases = [(format!("SELECT {name} FROM users WHERE id = 9"), ["copied"])];
            let cases: Vec<(&str, &[&str])> = cases.iter().map(|(sql, told)| (sql.as_str(), &told[..])).collect();
            check(&client, &format!("{phase}, {shape}, COPY"), &cases, &mut wrong).await;
            client.execute("DELETE FROM users WHERE id = 9", &[]).await.unwrap();
        }
    };
    subject.until_phase("verified", LIMIT).await;
    subject.caught_up().await;
    acts("verified").await;
    subject.reads(100).await;
    acts("reads at 100 %").await;
    // As `complete` asks for: the function names the new column alone.
    let source = "SELECT replace(pg_get_functiondef('fold'::regproc), 'username', 'handle')";
    let renamed: String = direct.query_one(source, &[]).await.unwrap().get(0);
    direct.batch_execute(&renamed).await.unwrap();
    acts("the function renamed").await;
    subject.post("complete", json!({ "confirm": true })).await;
    subject.until_phase("contracted", LIMIT).await;
    subject.caught_up().await;
    acts("contracted").await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
