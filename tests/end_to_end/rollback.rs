//! Rolling back under load, from each phase in which a migration can be held: the old schema as it was, and every write
//! that was made meanwhile.

use std::sync::Arc;
use std::time::Duration;

use crossfade::demo::application::{Application, Book, Model, SCHEMA, Truth, Workload, seed_sql};
use crossfade::demo::facts;
use serde_json::json;
use tokio_postgres::Client;

use crate::common::{MIGRATION, Subject, connect, server, until};
use crate::differential::Brake;

const LIMIT: Duration = Duration::from_secs(90);

/// How far the migration goes before it is taken back.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Goal {
    /// To this phase, which would pass by itself.
    Passing(&'static str),
    /// To the end of the scan.
    Verified,
    /// With this share of reads.
    Reads(u8),
    /// Complete was asked for, and is held in its last reversible phase.
    Contracting,
}

#[tokio::test(flavor = "multi_thread")]
async fn from_dual_writing() {
    check(Goal::Passing("dual_writing")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_verified() {
    check(Goal::Verified).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_half_the_reads() {
    check(Goal::Reads(50)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_contracting() {
    check(Goal::Contracting).await;
}

/// With the default on one column and writes on the other, NULL and nothing would look the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_default_is_told_from_null_all_the_way_back() {
    let server = server();
    let schema = "CREATE TABLE users (id bigint PRIMARY KEY, username varchar(50) DEFAULT 'anon')";
    let subject = Subject::start(&server, schema).await;
    let client = connect(&subject.url()).await;
    let brake = reach(&subject, Goal::Contracting).await;
    subject.post("rollback", json!({})).await;
    drop(brake);
    let mut id = 0;
    while subject.phase().await != "rolled_back" {
        let writes = format!(
            "INSERT INTO users (id) VALUES ({id}); INSERT INTO users (id, username) VALUES ({}, NULL); \
             INSERT INTO users (id, username) VALUES ({}, 'named')",
            id + 1,
            id + 2
        );
        client.batch_execute(&writes).await.unwrap();
        id += 3;
    }
    assert!(id > 0);
    let wrong = "SELECT count(*) FROM users WHERE username IS DISTINCT FROM (ARRAY['anon', NULL, 'named'])[1 + id % 3]";
    let row = connect(&server.url(&subject.database)).await.query_one(wrong, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0, "of {id} rows");
}

async fn check(goal: Goal) {
    let server = server();
    let subject = Subject::start(&server, SCHEMA).await;
    let direct = connect(&server.url(&subject.database)).await;
    direct.batch_execute(&seed_sql(500)).await.unwrap();
    let before = definition(&direct).await;
    let truth = Arc::new(Truth::learn(&direct).await.unwrap());
    let models = Model::deal(&direct, 2).await.unwrap();
    let book = Arc::new(Book::begin("before"));
    let workload =
        Workload { url: subject.url(), workers: 2, pause: Duration::from_millis(2), losses_expected: false, seed: 5 };
    let application = Application::start(&workload, models, &truth, &book).await.unwrap();

    let brake = reach(&subject, goal).await;
    some_more(&book).await;
    book.enter("rolling back");
    subject.post("rollback", json!({})).await;
    drop(brake);
    subject.until_phase("rolled_back", LIMIT).await;
    book.enter("rolled back");
    some_more(&book).await;
    let models = application.stop().await.unwrap();

    let summary = book.summary();
    assert_eq!((summary.errors, &summary.first_errors), (0, &Vec::new()), "from {goal:?}");
    let comparison = facts::compare(&direct, &models, "username").await.unwrap();
    assert_eq!((comparison.lost, comparison.unexpected), (0, 0), "from {goal:?}: {:?}", comparison.differences);
    assert_eq!(definition(&direct).await, before, "from {goal:?}");
}

/// Goes there; gives back what holds it there.
async fn reach(subject: &Subject, goal: Goal) -> Option<Brake> {
    let mut brake = Brake::new(subject.port(), &subject.database);
    subject.start_migration(MIGRATION).await;
    if let Goal::Passing(phase) = goal {
        let mut now = subject.phase_after("none", LIMIT).await;
        while now != phase {
            now = brake.step(subject, &now).await;
        }
        return Some(brake);
    }
    drop(brake);
    subject.until_phase("verified", LIMIT).await;
    match goal {
        Goal::Passing(_) | Goal::Verified => None,
        Goal::Reads(percent) => {
            subject.reads(percent).await;
            None
        }
        Goal::Contracting => {
            subject.reads(100).await;
            let mut brake = Brake::new(subject.port(), &subject.database);
            subject.post("complete", json!({ "confirm": true })).await;
            let mut now = subject.phase_after("ramping", LIMIT).await;
            while now != "contracting" {
                now = brake.step(subject, &now).await;
            }
            Some(brake)
        }
    }
}

async fn some_more(book: &Book) {
    let enough = book.summary().statements + 300;
    until("the application works on", LIMIT, async || book.summary().statements >= enough).await;
}

/// Columns, indexes, constraints and triggers, as text.
async fn definition(direct: &Client) -> Vec<String> {
    let sql = "SELECT attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull FROM pg_attribute \
                 WHERE attrelid = 'users'::regclass AND attnum > 0 AND NOT attisdropped \
               UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'users'::regclass \
               UNION ALL SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'users'::regclass \
               UNION ALL SELECT tgname FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal ORDER BY 1";
    direct.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}
