//! Types with a modifier: what an old session stores is what its own column would make of it, in each phase.

use std::time::Duration;

use serde_json::json;
use tokio_postgres::Client;

use crate::common::{Subject, connect, database, server};
use crate::ddl::ask;
use crate::differential::Brake;

const LIMIT: Duration = Duration::from_secs(60);

/// A column, its migration, and values for it as they stand in a statement.
struct Case {
    old: &'static str,
    new: &'static str,
    renamed: bool,
    ways: &'static str,
    default: &'static str,
    values: &'static [&'static str],
}

const PLAIN: Case = Case { old: "", new: "", renamed: false, ways: "", default: "", values: &[] };

const CASES: &[Case] = &[
    Case {
        old: "char(5)",
        new: "text",
        renamed: true,
        values: &["'ab'", "'new'", "''", "trim('zz ')", "'abcdef'", "'abcde  '", "upper(username)"],
        ..PLAIN
    },
    Case {
        old: "varchar(5)",
        new: "varchar(20)",
        renamed: true,
        values: &["'ab'", "'abcdef'", "username || 'xyz'", "repeat('x', 6)", "'abcde   '"],
        ..PLAIN
    },
    Case { old: "varchar(5)", new: "text", values: &["'ab'", "'abcdef'", "username || 'xyz'"], ..PLAIN },
    Case {
        old: "numeric(6,2)",
        new: "numeric",
        default: "0",
        values: &["5", "1.5", "1.505", "123456", "'7.125'", "username / 3", "username"],
        ..PLAIN
    },
    Case {
        old: "numeric(12,2)",
        new: "numeric(14,4)",
        ways: "up = \"username::numeric(14,4)\"\ndown = \"username::numeric(12,2)\"",
        values: &["1.004951", "username + 0.004951", "1e12", "'2'"],
        ..PLAIN
    },
    Case {
        old: "timestamp(0)",
        new: "timestamp",
        renamed: true,
        values: &["'2024-01-01 10:00:00.6'", "timestamp '2024-01-01 10:00:00.4'", "username + interval '0.7 s'"],
        ..PLAIN
    },
    Case {
        old: "bit(3)",
        new: "bit varying(8)",
        renamed: true,
        ways: "up = \"username\"\ndown = \"handle\"",
        values: &["B'101'", "B'1'", "'110'"],
        ..PLAIN
    },
];

impl Case {
    fn schema(&self) -> String {
        let default = if self.default.is_empty() { String::new() } else { format!(" DEFAULT {}", self.default) };
        format!(
            "CREATE TABLE users (id int PRIMARY KEY, username {}{default}, other text); \
             INSERT INTO users SELECT n, {}, 'x' FROM generate_series(1, 3) n",
            self.old,
            self.values.iter().find(|value| !value.contains("username")).expect("a value")
        )
    }

    fn migration(&self) -> String {
        let kind = if self.renamed { "rename_column\"\nto = \"handle" } else { "change_type" };
        format!(
            "name = \"users-handle\"\n[[change]]\nkind = \"{kind}\"\ntable = \"users\"\ncolumn = \"username\"\ntype = \"{}\"\n{}\n",
            self.new, self.ways
        )
    }

    fn script(&self) -> Vec<String> {
        let mut script = Vec::new();
        for (at, value) in self.values.iter().enumerate() {
            script.push(format!("UPDATE users SET username = {value} WHERE id = 1 RETURNING *"));
            script.push(format!("UPDATE users SET username = {value}, other = 'again' WHERE id = 1"));
            if !value.contains("username") {
                let id = 100 + at;
                script.push(format!("INSERT INTO users (id, username) VALUES ({id}, {value})"));
                script.push(format!("INSERT INTO users SELECT {id} + 50, {value}"));
                script.push(format!(
                    "INSERT INTO users VALUES (2, {value}) ON CONFLICT (id) DO UPDATE SET username = excluded.username, other = 'upserted'"
                ));
                script.push(format!("MERGE INTO users u USING (SELECT 3 AS k) s ON u.id = s.k WHEN MATCHED THEN UPDATE SET username = {value}"));
            }
            script.push("SELECT * FROM users ORDER BY id".to_owned());
        }
        script.push("INSERT INTO users (id) VALUES (300) RETURNING *".to_owned());
        script.push("INSERT INTO users VALUES (301, DEFAULT) RETURNING *".to_owned());
        script.push("UPDATE users SET username = DEFAULT WHERE id = 1 RETURNING *".to_owned());
        script.push("UPDATE users SET other = 'touched'".to_owned());
        script.push("SELECT * FROM users ORDER BY id".to_owned());
        script
    }

    /// Runs the script on both sides; what it inserted goes.
    async fn compare(&self, phase: &str, sides: (&Client, &Client), wrong: &mut Vec<String>) {
        for sql in self.script().iter().map(String::as_str).chain(["DELETE FROM users WHERE id > 3"]) {
            let (expected, found) = (ask(sides.0, sql, false).await, ask(sides.1, sql, false).await);
            if expected != found {
                wrong.push(format!(
                    "{} to {}, {phase}: {sql}\n  got {found:?}\n  expected {expected:?}",
                    self.old, self.new
                ));
            }
        }
    }

    async fn run(&self, wrong: &mut Vec<String>) {
        let server = server();
        let plain = database(&server).await;
        let direct = connect(&server.url(&plain)).await;
        direct.batch_execute(&self.schema()).await.unwrap();
        let subject = Subject::start(&server, &self.schema()).await;
        let client = connect(&subject.url()).await;
        let sides = (&direct, &client);
        subject.start_migration(&self.migration()).await;
        subject.until_phase("verified", LIMIT).await;
        self.compare("verified", sides, wrong).await;
        subject.reads(100).await;
        self.compare("reads_new", sides, wrong).await;
        let mut brake = Brake::new(subject.port(), &subject.database);
        subject.post("complete", json!({ "confirm": true })).await;
        let mut now = subject.phase_after("ramping", LIMIT).await;
        while now != "contracting" {
            now = brake.step(&subject, &now).await;
        }
        subject.caught_up().await;
        self.compare("contracting", sides, wrong).await;
        drop(brake);
        subject.until_phase("contracted", LIMIT).await;
        subject.caught_up().await;
        self.compare("contracted", sides, wrong).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_value_is_what_its_own_column_would_make_of_it() {
    let mut wrong = Vec::new();
    for case in CASES {
        case.run(&mut wrong).await;
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}
