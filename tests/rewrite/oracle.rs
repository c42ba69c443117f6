//! Statements on a database that never migrated, and rewritten on one in the state of each phase: every visible
//! difference fails.

use std::collections::{BTreeMap, HashMap};

use crossfade::demo::postgres::Postgres;
use crossfade::migration::{Phase, Route, Shape};
use crossfade::sql::Rewrite;
use crossfade::sql::lex::Lexer;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::corpus::{STATEMENTS, exchanged};
use crate::fixture::{database, databases, rewritten};

/// What a client sees of one statement.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Seen {
    columns: Vec<(String, u32)>,
    params: Vec<u32>,
    rows: Vec<Vec<Option<String>>>,
    affected: Vec<u64>,
    error: Option<String>,
    tables: Vec<String>,
}

async fn connect(postgres: &Postgres, name: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(&postgres.url(name), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Runs a statement in a transaction, looks at the tables in the shape of the oracle, and rolls back.
async fn run(client: &Client, sql: &str, after: &[String]) -> Seen {
    let mut seen =
        Seen { columns: vec![], params: vec![], rows: vec![], affected: vec![], error: None, tables: vec![] };
    client.batch_execute("BEGIN; ALTER SEQUENCE users_id_seq RESTART WITH 50").await.unwrap();
    match client.prepare(sql).await {
        Ok(statement) => {
            seen.columns =
                statement.columns().iter().map(|c| (c.name().to_owned(), shown_type(c.type_().oid()))).collect();
            seen.params = statement.params().iter().map(|p| p.oid()).collect();
        }
        Err(error) => seen.error = Some(state(&error)),
    }
    if seen.error.is_none() && seen.params.is_empty() {
        match client.simple_query(sql).await {
            Ok(messages) => {
                for message in messages {
                    match message {
                        SimpleQueryMessage::Row(row) => {
                            seen.rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
                        }
                        SimpleQueryMessage::CommandComplete(count) => seen.affected.push(count),
                        _ => {}
                    }
                }
            }
            Err(error) => seen.error = Some(state(&error)),
        }
    }
    if seen.error.is_none() {
        for query in after {
            let rows = client.simple_query(query).await.unwrap();
            for message in rows {
                if let SimpleQueryMessage::Row(row) = message {
                    seen.tables.push(format!("{:?}", (0..row.len()).map(|i| row.get(i)).collect::<Vec<_>>()));
                }
            }
        }
    }
    client.batch_execute("ROLLBACK").await.unwrap();
    if sql.starts_with("PREPARE") && seen.error.is_none() {
        // It is there unless the statement had parameters and was only looked at.
        let _ = client.batch_execute("DEALLOCATE p").await;
    }
    if !sql.to_ascii_uppercase().contains("ORDER BY") {
        seen.rows.sort();
    }
    seen
}

/// A table's row type is `record` to the client of a rewritten read: known, and the one difference that is allowed.
fn shown_type(oid: u32) -> u32 {
    const FIRST_OF_USERS: u32 = 16384;
    const RECORD: u32 = 2249;
    if oid >= FIRST_OF_USERS { RECORD } else { oid }
}

fn state(error: &tokio_postgres::Error) -> String {
    error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned())
}

/// Queries that show the tables as the oracle has them.
fn after(old: &str, years: &str) -> Vec<String> {
    vec![
        format!("SELECT id, {old}, email, score, tags FROM users ORDER BY 1, 2"),
        format!("SELECT id, name, {years} FROM people ORDER BY 1"),
        "SELECT * FROM posts ORDER BY id".to_owned(),
        "SELECT * FROM log ORDER BY 1, 2".to_owned(),
    ]
}

/// The stored tables under the oracle's names, from each storage that the phase keeps complete.
fn storages(phase: Phase, new: bool) -> Vec<Vec<String>> {
    let text = |years: &str| if new { years.to_owned() } else { format!("{years}::text") };
    let from_old = || after("username", if new { "age::int" } else { "age" });
    let from_new = || after("handle", &text("years"));
    match phase {
        Phase::Planned | Phase::Shielded | Phase::RolledBack | Phase::Expanded | Phase::RollingBack => vec![from_old()],
        Phase::DualWriting
        | Phase::Backfilling
        | Phase::Verified
        | Phase::Ramping
        | Phase::Soaking
        | Phase::Contracting => vec![from_old(), from_new()],
        Phase::Contracted => vec![from_new()],
    }
}

/// Whether the new schema can be seen at all.
fn phase_shows_new(phase: Phase) -> bool {
    !matches!(phase, Phase::Planned | Phase::Shielded | Phase::RollingBack | Phase::RolledBack)
}

struct Harness {
    clients: HashMap<&'static str, Client>,
    _postgres: Postgres,
}

async fn harness() -> Harness {
    let postgres = Postgres::start(&[]).unwrap();
    let admin = connect(&postgres, "postgres").await;
    let mut clients = HashMap::new();
    for (name, sql) in databases() {
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let client = connect(&postgres, name).await;
        client.batch_execute(&sql).await.unwrap();
        clients.insert(name, client);
    }
    Harness { clients, _postgres: postgres }
}

/// Each way to see the table: phase and route.
fn ways() -> Vec<(Phase, Route)> {
    vec![
        (Phase::Shielded, Route::Old),
        (Phase::Expanded, Route::Old),
        (Phase::DualWriting, Route::Old),
        (Phase::Ramping, Route::Old),
        (Phase::Ramping, Route::New),
        (Phase::Contracting, Route::Old),
        (Phase::Contracted, Route::Old),
        (Phase::RollingBack, Route::Old),
    ]
}

/// What became of the statements that were tried.
#[derive(Default)]
struct Tally {
    differences: Vec<String>,
    refusals: BTreeMap<String, Vec<String>>,
    answered: usize,
}

impl Harness {
    /// Runs one statement in every way of a shape, and notes what differs.
    async fn compare(&self, shape: Shape, sql: &str, tally: &mut Tally) {
        let new = shape == Shape::New;
        let (oracle, stored) =
            if new { ("oracle_new", after("handle", "years")) } else { ("oracle_old", after("username", "age")) };
        let expected = run(&self.clients[oracle], sql, &stored).await;
        for (phase, route) in ways() {
            if !(new && matches!(phase, Phase::Shielded | Phase::RollingBack)) {
                self.compare_way(shape, phase, route, sql, &expected, tally).await;
            }
        }
    }

    async fn compare_way(
        &self,
        shape: Shape,
        phase: Phase,
        route: Route,
        sql: &str,
        expected: &Seen,
        tally: &mut Tally,
    ) {
        let way = format!("{} {} {}", shape.name(), phase.name(), route.name());
        let text = match rewritten(phase, shape, route, sql).rewrite {
            Rewrite::Unchanged => sql.to_owned(),
            Rewrite::Rewritten(edits) => edits.apply(sql),
            Rewrite::Refused(refusal) => {
                if expected.error.as_deref() == Some(refusal.state.0) {
                    tally.answered += 1;
                } else {
                    tally.refusals.entry(format!("{sql}\n    {}", refusal.message)).or_default().push(way);
                }
                return;
            }
        };
        tally.answered += 1;
        // `auto` sees more than `old`: what names a column that is no column there means the new schema's.
        let wider = shape == Shape::Auto && expected.error.as_deref() == Some("42703");
        let mut expected = if wider {
            run(&self.clients["oracle_new"], sql, &after("handle", "years")).await
        } else {
            expected.clone()
        };
        for stored in storages(phase, shape == Shape::New) {
            let mut got = run(&self.clients[database(phase)], &text, &stored).await;
            if sql.starts_with("EXPLAIN") {
                got.rows.clear();
                expected.rows.clear();
            }
            let mixed = wider && expected.error.as_deref() == Some("42703");
            // A star is the old schema's even where a name beside it, or over it, is the new one's.
            let starred = sql.contains('*') && matches!(got.error.as_deref(), None | Some("42703"));
            let mixed = mixed || (wider && starred);
            // Either schema's error will do where both have one.
            let mixed = mixed || (wider && expected.error.is_some() && got.error.as_deref() == Some("42703"));
            let unborn = wider && got.error.as_deref() == Some("42703") && !phase_shows_new(phase);
            if got != expected && !mixed && !unborn {
                let difference = difference(&expected, &got);
                tally.differences.push(format!("{way}\n  {sql}\n  {text}\n  {difference}"));
            }
        }
    }
}

#[tokio::test]
async fn every_statement_means_what_it_meant() {
    let harness = harness().await;
    let mut tally = Tally::default();
    for shape in Shape::ALL {
        for sql in STATEMENTS {
            let sql = if shape == Shape::New { exchanged(sql) } else { (*sql).to_owned() };
            harness.compare(shape, &sql, &mut tally).await;
        }
    }
    let Tally { differences, refusals, answered } = tally;
    let listed: Vec<String> =
        refusals.iter().map(|(what, ways)| format!("{what}\n    {} ways: {}", ways.len(), ways.join(", "))).collect();
    eprintln!("{answered} answered, {} statements refused somewhere", refusals.len());
    assert!(differences.is_empty(), "{} differences:\n\n{}", differences.len(), differences.join("\n\n"));
    crate::snapshots::settings().bind(|| insta::assert_snapshot!("refused", listed.join("\n")));
}

/// How many altered statements are tried unless `CROSSFADE_ALTERED` says otherwise, and from which seed.
const ALTERED: u64 = 60;
const SEED: u64 = 0x5EED_5EED_5EED_5EED;

/// Statements of the corpus with some names exchanged for others: most still run, and mean something else.
#[tokio::test]
async fn altered_statements_mean_what_they_mean() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (count, seed) = (number("CROSSFADE_ALTERED").unwrap_or(ALTERED), number("CROSSFADE_SEED").unwrap_or(SEED));
    let harness = harness().await;
    let mut random = Random(seed);
    let mut tally = Tally::default();
    for _ in 0..count {
        let chosen = STATEMENTS[random.below(STATEMENTS.len())];
        if chosen.starts_with("PREPARE") {
            continue;
        }
        let sql = random.alter(chosen);
        for shape in Shape::ALL {
            harness.compare(shape, &sql, &mut tally).await;
        }
    }
    eprintln!("{} answered, {} statements refused somewhere", tally.answered, tally.refusals.len());
    let found = tally.differences;
    assert!(found.is_empty(), "seed {seed}: {} differences:\n\n{}", found.len(), found.join("\n\n"));
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// The statement with one to three of its names exchanged.
    fn alter(&mut self, sql: &str) -> String {
        const NAMES: &[&str] = &[
            "username",
            "username",
            "username",
            "handle",
            "handle",
            "id",
            "email",
            "users",
            "users",
            "posts",
            "title",
            "u",
            "p",
            "user_id",
            "excluded",
            "score",
            "*",
            "users.username",
            "u.username",
            "u.*",
            "users.*",
            "age",
            "other.users",
        ];
        let mut sql = sql.to_owned();
        for _ in 0..=self.below(3) {
            let tokens: Vec<_> = Lexer::new(sql.as_bytes(), true)
                .filter(|token| {
                    let word = &sql[token.start..token.end];
                    token.kind.is_name() && (NAMES.contains(&word) || word.starts_with('"'))
                })
                .collect();
            if tokens.is_empty() {
                break;
            }
            let token = tokens[self.below(tokens.len())];
            sql.replace_range(token.start..token.end, NAMES[self.below(NAMES.len())]);
        }
        sql
    }
}

fn difference(expected: &Seen, got: &Seen) -> String {
    if expected.error != got.error {
        return format!("error: expected {:?}, got {:?}", expected.error, got.error);
    }
    let mut said = Vec::new();
    if expected.columns != got.columns {
        said.push(format!("columns: expected {:?}, got {:?}", expected.columns, got.columns));
    }
    if expected.params != got.params {
        said.push(format!("params: expected {:?}, got {:?}", expected.params, got.params));
    }
    if expected.rows != got.rows {
        said.push(format!("rows: expected {:?}, got {:?}", expected.rows, got.rows));
    }
    if expected.affected != got.affected {
        said.push(format!("affected: expected {:?}, got {:?}", expected.affected, got.affected));
    }
    if expected.tables != got.tables {
        let pairs = expected.tables.iter().zip(&got.tables).find(|(a, b)| a != b);
        said.push(format!("tables: {pairs:?} of {} and {}", expected.tables.len(), got.tables.len()));
    }
    said.join("\n  ")
}
