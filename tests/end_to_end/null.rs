//! NULL is a value: whoever sets it, in whatever phase and way, both shapes read it.

use std::time::Duration;

use serde_json::json;

use crate::common::{Subject, server};
use crate::differential::Brake;
use crate::raw::{Raw, Seen};

const LIMIT: Duration = Duration::from_secs(60);

/// Nobody fills these rows but the application.
const SCHEMA: &str = "\
CREATE TABLE users (id bigint PRIMARY KEY, username text);
INSERT INTO users SELECT n, 'user' || n FROM generate_series(1, 50) AS n;";

const MIGRATION: &str = r#"name = "users-handle"

[[change]]
kind = "rename_column"
table = "users"
column = "username"
to = "handle"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_null_replaces_a_value_in_every_phase() {
    let server = server();
    let subject = Subject::start(&server, SCHEMA).await;
    let mut wrong = check(&subject, "none");
    let mut brake = Brake::new(subject.port(), &subject.database);
    subject.start_migration(MIGRATION).await;
    let mut phase = subject.phase_after("none", LIMIT).await;
    while phase != "verified" {
        // A transaction that begins before sees the phase before.
        subject.caught_up().await;
        wrong.extend(check(&subject, &phase));
        phase = brake.step(&subject, &phase).await;
    }
    drop(brake);
    wrong.extend(check(&subject, "verified"));
    for percent in [50, 100] {
        subject.reads(percent).await;
        wrong.extend(check(&subject, &format!("reads at {percent} %")));
    }
    let mut brake = Brake::new(subject.port(), &subject.database);
    subject.post("complete", json!({ "confirm": true })).await;
    phase = subject.phase_after("ramping", LIMIT).await;
    while phase != "contracted" {
        // A transaction that begins before sees the phase before.
        subject.caught_up().await;
        wrong.extend(check(&subject, &phase));
        phase = brake.step(&subject, &phase).await;
    }
    wrong.extend(check(&subject, "contracted"));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What is wrong in this phase. Every write is rolled back, so that rows stay as the phase left them.
fn check(subject: &Subject, phase: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let new_exists = !["none", "planned", "shielded"].contains(&phase);
    let names = if new_exists { vec![("old", "username"), ("new", "handle")] } else { vec![("old", "username")] };
    for (shape, name) in &names {
        let option = format!("-c crossfade.shape={shape}");
        let mut session = Raw::connect(subject.port(), &subject.database, &[("options", &option)]);
        for value in ["NULL", "DEFAULT", "(SELECT NULL::text)", "nullif('x', 'x')"] {
            session.simple("BEGIN");
            let sql = format!("UPDATE users SET {name} = {value} WHERE id IN (1, 40)");
            let written = session.simple(&sql);
            // While rows are being filled, what cannot be computed twice may be refused; it may not be lost.
            if matches!(&written[..], [Seen::Error { code, .. }] if code == "0A000")
                && ["expanded", "dual_writing", "backfilling"].contains(&phase)
                && *shape == "new"
            {
                session.simple("ROLLBACK");
                continue;
            }
            for (reader, read) in &names {
                session.simple(&format!("SET LOCAL crossfade.shape = '{reader}'"));
                let seen = session.simple(&format!("SELECT {read} FROM users WHERE id IN (1, 40)"));
                let nulls = seen.iter().filter(|seen| **seen == Seen::Row(vec![None])).count();
                if nulls != 2 {
                    wrong.push(format!("[{phase}] {sql}: {written:?}; {reader} reads {seen:?}"));
                }
            }
            session.simple("ROLLBACK");
        }
    }
    wrong
}
