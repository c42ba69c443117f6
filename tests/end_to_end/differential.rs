//! The same statements on a database that never migrates, and through the proxy in every phase, route, shape and form
//! of the protocol: what the client sees must be the same.

use std::time::{Duration, Instant};

use crossfade::demo::facts;
use crossfade::demo::postgres::Postgres;
use serde_json::json;

use crate::common::{MIGRATION, Subject, connect, database, server};
use crate::corpus::{CASES, Case, SCHEMA};
use crate::raw::{Raw, Seen};

/// How long a phase may take to come.
const PHASE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a phase that is held by nothing may last before the hold is looked at again.
const STEP_PATIENCE: Duration = Duration::from_secs(2);

/// Where the identity column goes on in each case.
const RESTART: &str = "SELECT setval('users_id_seq', 1000)";

/// What stands before and behind a pipelined case.
const COUNT: (&str, &[Option<&str>]) = ("SELECT count(*) FROM users", &[]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Old,
    New,
    Auto,
}

impl Shape {
    const ALL: [Shape; 3] = [Shape::Old, Shape::New, Shape::Auto];

    fn options(self) -> &'static str {
        match self {
            Shape::Old => "-c crossfade.shape=old",
            Shape::New => "-c crossfade.shape=new",
            Shape::Auto => "-c crossfade.shape=auto",
        }
    }

    /// A text of the old shape, as an application of this one would write it.
    fn text(self, sql: &str) -> String {
        match self {
            Shape::Old | Shape::Auto => sql.to_owned(),
            Shape::New => sql.replace("username", "handle").replace("users_handle_key", "users_username_key"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Simple,
    Extended,
    /// Between two other statements, in one batch with one Sync.
    Pipelined,
    /// Prepared by name in the session's first moments, before the migration.
    PreparedBefore,
}

/// One session of each kind, and what each has in common with the other side.
struct Differential {
    reference_old: Raw,
    reference_new: Raw,
    sessions: Vec<(Shape, Raw)>,
    differences: Vec<String>,
    refusals: Vec<String>,
    compared: usize,
}

impl Differential {
    /// Fresh databases of both shapes; sessions through the proxy to the subject's, every case prepared in them.
    async fn new(server: &Postgres, port: u16, subject: &str) -> Differential {
        let (old, new) = (database(server).await, database(server).await);
        connect(&server.url(&old)).await.batch_execute(SCHEMA).await.unwrap();
        let new_schema = Shape::New.text(SCHEMA).replace("handle varchar(255)", "handle varchar(100)");
        connect(&server.url(&new)).await.batch_execute(&new_schema).await.unwrap();
        let mut reference_old = Raw::connect(server.port(), &old, &[]);
        prepare_all(&mut reference_old);
        let mut sessions = Vec::new();
        for shape in Shape::ALL {
            let mut session = Raw::connect(port, subject, &[("options", shape.options())]);
            if shape != Shape::New {
                prepare_all(&mut session);
            }
            sessions.push((shape, session));
        }
        let reference_new = Raw::connect(server.port(), &new, &[]);
        Differential {
            reference_old,
            reference_new,
            sessions,
            differences: Vec::new(),
            refusals: Vec::new(),
            compared: 0,
        }
    }

    /// Every case, in every shape that exists in this phase, in every form.
    fn compare_all(&mut self, moment: &str) {
        let new_exists = !["none", "planned", "shielded", "rolled_back"].contains(&moment);
        for (number, case) in CASES.iter().enumerate() {
            for at in 0..self.sessions.len() {
                let shape = self.sessions[at].0;
                if shape == Shape::New && !new_exists {
                    continue;
                }
                for form in [Form::Simple, Form::Extended, Form::Pipelined, Form::PreparedBefore] {
                    if form != Form::PreparedBefore || shape != Shape::New {
                        self.compare(moment, at, number, case, form);
                    }
                }
            }
        }
    }

    fn compare(&mut self, moment: &str, at: usize, number: usize, case: &Case, form: Form) {
        let (shape, session) = &mut self.sessions[at];
        let reference = match shape {
            Shape::Old | Shape::Auto => &mut self.reference_old,
            Shape::New => &mut self.reference_new,
        };
        let expected = observe(reference, number, case, *shape, form);
        let actual = observe(session, number, case, *shape, form);
        self.compared += 1;
        if expected == actual {
            return;
        }
        let title = format!("[{moment}, {shape:?}, {form:?}, {}] {}", case.origin, shape.text(case.sql));
        match actual.iter().find_map(refusal) {
            Some(_) if tolerated(moment, *shape, case) => {}
            Some(refusal) => self.refusals.push(format!("{title}\n    {refusal}")),
            None => self.differences.push(format!("{title}\n  - {expected:?}\n  + {actual:?}")),
        }
    }

    #[track_caller]
    fn finish(self) {
        let shown = |list: &[String]| list.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
        assert!(
            self.differences.is_empty() && self.refusals.is_empty(),
            "{} compared, {} differences:\n{}\n\n{} refusals:\n{}",
            self.compared,
            self.differences.len(),
            shown(&self.differences),
            self.refusals.len(),
            shown(&self.refusals),
        );
    }
}

/// Refusals that are right. While the new column is being filled, a new session's value that may not be computed twice
/// cannot be stored in both: before there is a trigger not at all, and then not in rows that may not be copied yet.
fn tolerated(moment: &str, shape: Shape, case: &Case) -> bool {
    let unrepeatable = ["SELECT", "random", "DEFAULT"].iter().any(|what| case.sql.contains(what));
    let write = match moment {
        "expanded" => case.sql.starts_with("INSERT") || case.sql.starts_with("UPDATE"),
        "dual_writing" | "backfilling" => case.sql.starts_with("UPDATE"),
        _ => false,
    };
    shape == Shape::New && unrepeatable && write
}

fn refusal(seen: &Seen) -> Option<&str> {
    match seen {
        Seen::Error { code, message, .. } if code == "0A000" => Some(message),
        _ => None,
    }
}

fn prepare_all(session: &mut Raw) {
    for (number, case) in CASES.iter().enumerate() {
        // A case that is an error is not there later either, on both sides.
        session.prepare(&format!("case{number}"), case.sql);
    }
}

/// The case in a transaction that is rolled back, and the table as it left it.
fn observe(session: &mut Raw, number: usize, case: &Case, shape: Shape, form: Form) -> Vec<Seen> {
    session.simple(RESTART);
    session.simple("BEGIN");
    let sql = shape.text(case.sql);
    let mut all = match form {
        Form::Simple => session.simple(&inline(&sql, case.values)),
        Form::Extended => session.extended(&sql, case.values),
        Form::Pipelined => session.pipelined(&[COUNT, (&sql, case.values), COUNT]),
        Form::PreparedBefore => session.run(&format!("case{number}"), case.values),
    };
    if !case.sql.to_uppercase().contains("ORDER BY") {
        sort_rows(&mut all);
    }
    let random = case.sql.contains("random");
    let columns = if random { "id, email, age, joined" } else { "*" };
    all.extend(session.simple(&format!("SELECT {columns} FROM users ORDER BY id")));
    session.simple("ROLLBACK");
    all.into_iter().map(|seen| comparable(seen, shape)).collect()
}

/// What must be the same on both sides. The words of an error may tell of storage; the constraint of a column that is
/// not the table's yet has a name of its own.
fn comparable(seen: Seen, shape: Shape) -> Seen {
    match seen {
        Seen::Error { code, message, constraint } => Seen::Error {
            message: if code == "0A000" { message } else { String::new() },
            code,
            constraint: if shape == Shape::New { None } else { constraint },
        },
        Seen::Parameters(_) | Seen::Columns(_) | Seen::NoData | Seen::Row(_) | Seen::Tag(_) | Seen::Other(_) => seen,
    }
}

/// Rows without an order come in any; the rest stays where it is.
fn sort_rows(all: &mut Vec<Seen>) {
    let mut rows: Vec<_> =
        all.iter().filter_map(|seen| if let Seen::Row(cells) = seen { Some(cells.clone()) } else { None }).collect();
    rows.sort();
    let mut rows = rows.into_iter();
    for seen in all {
        if let Seen::Row(cells) = seen {
            *cells = rows.next().unwrap();
        }
    }
}

/// The text with its values as literals.
fn inline(sql: &str, values: &[Option<&str>]) -> String {
    let literal = |value: &Option<&str>| value.map_or("NULL".to_owned(), |v| format!("'{}'", v.replace('\'', "''")));
    let numbered = values.iter().enumerate().rev();
    numbered.fold(sql.to_owned(), |sql, (at, value)| sql.replace(&format!("${}", at + 1), &literal(value)))
}

/// Moves a migration on one phase at a time, although no phase waits by itself: an open transaction, begun through the
/// proxy in one phase, keeps the next from being left.
pub struct Brake {
    port: u16,
    database: String,
    open: Raw,
}

impl Brake {
    /// Keeps the phase after this one from being left.
    pub fn new(port: u16, database: &str) -> Brake {
        Brake { port, database: database.to_owned(), open: Brake::transaction(port, database) }
    }

    fn transaction(port: u16, database: &str) -> Raw {
        let mut raw = Raw::connect(port, database, &[]);
        raw.simple("BEGIN");
        // The first statement puts the transaction under the rules of this moment.
        raw.simple("SELECT 1");
        raw
    }

    /// Lets the migration leave the phase it is in, and not the next one; gives that.
    pub async fn step(&mut self, subject: &Subject, phase: &str) -> String {
        let deadline = Instant::now() + PHASE_TIMEOUT;
        loop {
            subject.caught_up().await;
            let next = Brake::transaction(self.port, &self.database);
            // Closing the connection ends its transaction.
            self.open = next;
            if let Some(now) = subject.phase_within(phase, STEP_PATIENCE).await {
                return now;
            }
            // A thread of the proxy was behind, and the new transaction holds what the old one held: once more.
            assert!(Instant::now() < deadline, "{phase} is not left:\n{}", subject.account().await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_harness_finds_no_difference_between_two_plain_databases_and_finds_a_planted_one() {
    let server = server();
    let subject = database(&server).await;
    let direct = connect(&server.url(&subject)).await;
    direct.batch_execute(SCHEMA).await.unwrap();
    let mut differential = Differential::new(&server, server.port(), &subject).await;
    for (number, case) in CASES.iter().enumerate().filter(|(_, case)| case.origin != "errors") {
        let seen = observe(&mut differential.reference_old, number, case, Shape::Old, Form::PreparedBefore);
        assert!(!seen.iter().any(|seen| matches!(seen, Seen::Error { .. })), "{}: {seen:?}", case.sql);
    }
    differential.compare_all("none");
    assert_eq!((differential.differences.as_slice(), differential.refusals.len()), (&[][..], 0));
    direct.batch_execute("UPDATE users SET username = 'planted' WHERE id = 20").await.unwrap();
    differential.compare_all("none");
    assert!(differential.differences.len() > CASES.len(), "{}", differential.differences.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orm_sees_no_difference_up_to_contracted() {
    let server = server();
    let subject = Subject::start(&server, SCHEMA).await;
    let mut differential = Differential::new(&server, subject.port(), &subject.database).await;
    differential.compare_all("none");

    let mut brake = Brake::new(subject.port(), &subject.database);
    subject.start_migration(MIGRATION).await;
    let mut phase = "none".to_owned();
    phase = subject.phase_after(&phase, PHASE_TIMEOUT).await;
    while phase != "verified" {
        if phase != "planned" {
            // A transaction that begins before sees the phase before.
            subject.caught_up().await;
            differential.compare_all(&phase);
        }
        phase = brake.step(&subject, &phase).await;
    }
    drop(brake);
    differential.compare_all("verified");
    for percent in [50, 100, 0, 100] {
        subject.reads(percent).await;
        differential.compare_all(&format!("reads at {percent} %"));
    }
    let mut brake = Brake::new(subject.port(), &subject.database);
    subject.post("complete", json!({ "confirm": true })).await;
    phase = subject.phase_after("verified", PHASE_TIMEOUT).await;
    while phase != "contracted" {
        subject.caught_up().await;
        differential.compare_all(&phase);
        phase = brake.step(&subject, &phase).await;
    }
    drop(brake);
    differential.compare_all(&phase);
    let direct = connect(&server.url(&subject.database)).await;
    assert_eq!(facts::column(&direct, "username").await.unwrap(), None);
    differential.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orm_sees_no_difference_after_rollback() {
    let server = server();
    let subject = Subject::start(&server, SCHEMA).await;
    let mut differential = Differential::new(&server, subject.port(), &subject.database).await;
    subject.start_migration(MIGRATION).await;
    subject.until_phase("verified", PHASE_TIMEOUT).await;
    subject.reads(100).await;
    let mut brake = Brake::new(subject.port(), &subject.database);
    subject.post("rollback", json!({})).await;
    let mut phase = subject.phase_after("ramping", PHASE_TIMEOUT).await;
    while phase != "rolled_back" {
        differential.compare_all("rolled_back");
        phase = brake.step(&subject, &phase).await;
    }
    drop(brake);
    differential.compare_all("rolled_back");
    let direct = connect(&server.url(&subject.database)).await;
    assert_eq!(facts::column(&direct, "handle").await.unwrap(), None);
    differential.finish();
}
