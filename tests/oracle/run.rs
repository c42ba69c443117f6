//! Runs one case on one database, and judges what came of it against an oracle.
//!
//! Left out of the comparison, since no proxy could keep it: where a result column comes from (table OID, attribute
//! number), hints, the stored row in a detail (`Failing row contains ...`), and which composite type a whole row has (each database has its own OIDs, and a row of an inline view
//! is a `record`): all row types count as one.

use std::collections::HashMap;
use std::sync::Arc;

use crossfade::migration::{Bucket, Percent, Phase, Route, Rules, Shape, TableView};
use crossfade::schema::{Refusal, SqlState};
use crossfade::sql::{self, Context, Edits, ErrorTexts, Names, Rewrite, Temporary, mask_error, rewrite};

use crate::case::Case;
use crate::client::{Client, Column, Reply, ResultSet, Row, ServerError};
use crate::fixture::{CHANGES, State, World, ident, retyped_storage};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    Simple,
    Extended,
}

impl Protocol {
    /// What the `at`th case is sent by. Where either would do they take turns: the rewriter sees the same text.
    pub fn of(at: usize, case: &Case) -> Protocol {
        if !case.parameters.is_empty() {
            return Protocol::Extended;
        }
        let simple = case.simple_only || case.copied_in.is_some() || at.is_multiple_of(2);
        if simple { Protocol::Simple } else { Protocol::Extended }
    }
}

/// A phase as a session meets it: on which state of the tables, and on which route.
pub struct Setting {
    pub label: &'static str,
    pub phase: Phase,
    pub state: State,
    pub bucket: Bucket,
    pub rules: Rules,
}

/// Every phase in which something differs, on each route that it has. Backfilling has the rules of dual writing.
pub fn settings(world: &World) -> Vec<Setting> {
    let half = Percent::new(50).expect("a percentage");
    let last = u64::from(Bucket::COUNT) - 1;
    let all = [
        ("shielded", Phase::Shielded, State::Old, half, last),
        ("expanded", Phase::Expanded, State::Expanded, half, last),
        ("dual_writing", Phase::DualWriting, State::Writing, half, last),
        ("verified", Phase::Verified, State::Copied, half, last),
        ("ramping/old", Phase::Ramping, State::Strict, half, last),
        ("ramping/new", Phase::Ramping, State::Strict, half, 0),
        ("soaking/new", Phase::Soaking, State::Strict, half, last),
        ("contracting", Phase::Contracting, State::Contracting, half, last),
        ("contracted", Phase::Contracted, State::Contracted, half, last),
        ("rolling_back", Phase::RollingBack, State::Strict, half, 0),
        ("soaking late", Phase::Soaking, State::Contracting, half, last),
    ];
    all.map(|(label, phase, state, reads, bucket)| {
        let rules = world.rules(state, phase, reads);
        let bucket = Bucket::of(bucket);
        let route = rules.tables().next().map(|table| table.route(bucket));
        assert!(!label.ends_with("/new") || route == Some(Route::New), "{label} is on route {route:?}");
        Setting { label, phase, state, bucket, rules }
    })
    .into()
}

/// Whether sessions can see the new shape in that phase.
pub fn new_shape_exists(phase: Phase) -> bool {
    match phase {
        Phase::Planned | Phase::Shielded | Phase::RollingBack | Phase::RolledBack => false,
        Phase::Expanded
        | Phase::DualWriting
        | Phase::Backfilling
        | Phase::Verified
        | Phase::Ramping
        | Phase::Soaking
        | Phase::Contracting
        | Phase::Contracted => true,
    }
}

/// Which columns the tables are read back by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Old,
    New,
}

/// What came of a case.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub replies: Vec<Reply>,
    /// After a write that succeeded: the tables as the old shape has them, and as the new one has them.
    pub tables: Option<Tables>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tables {
    pub old: Vec<String>,
    pub new: Vec<String>,
    /// Rows in which the two storages must agree and do not.
    pub drift: Vec<String>,
}

/// What became of a case under the rules: the texts that were sent, and what came of them.
pub struct Attempt {
    pub sent: Vec<String>,
    pub edits: Option<Edits>,
    pub refused: Option<Refusal>,
    pub outcome: Arc<Outcome>,
}

/// A database on which cases run, each in a transaction of its own that is rolled back.
pub struct Bench {
    client: Client,
    place: Place,
    seen: HashMap<(Vec<String>, Protocol), Arc<Outcome>>,
}

#[derive(Debug, Clone, Copy)]
pub enum Place {
    Oracle(Side),
    State(State),
}

const BEGIN: &str = "BEGIN; SELECT setval('public.users_id_seq', 100), setval('public.orders_id_seq', 100), \
    setval('public.log_id_seq', 100), setval('public.scores_id_seq', 100), setval('public.members_id_seq', 100), setval('public.probe', 100)";

impl Bench {
    pub fn new(world: &World, place: Place) -> Bench {
        let database = match place {
            Place::Oracle(Side::Old) => State::Old.database(),
            Place::Oracle(Side::New) => crate::fixture::ORACLE_NEW,
            Place::State(state) => state.database(),
        };
        Bench { client: world.connect(database), place, seen: HashMap::new() }
    }

    /// The case as it stands.
    pub fn original(&mut self, case: &Case, protocol: Protocol) -> Arc<Outcome> {
        self.client.must(BEGIN);
        let mut outcome = Outcome::default();
        for step in &case.steps {
            let reply = self.send(step, case, protocol);
            let failed = reply.error.is_some();
            outcome.replies.push(reply);
            if failed {
                break;
            }
        }
        self.finish(case, &mut outcome);
        Arc::new(outcome)
    }

    /// The case as the rewriter has it.
    pub fn rewritten(&mut self, case: &Case, protocol: Protocol, setting: &Setting, shape: Shape) -> Attempt {
        if let [only] = case.steps.as_slice() {
            return self.single(case, only, protocol, setting, shape);
        }
        self.client.must(BEGIN);
        let mut attempt = Attempt { sent: Vec::new(), edits: None, refused: None, outcome: Arc::default() };
        let mut outcome = Outcome::default();
        for step in &case.steps {
            let names = self.names();
            let (text, edits) = match decide(step, setting, shape, &names) {
                Ok(decided) => decided,
                Err(refusal) => {
                    attempt.refused = Some(refusal);
                    break;
                }
            };
            let reply = self.send(&text, case, protocol);
            attempt.sent.push(text);
            attempt.edits = edits;
            let failed = reply.error.is_some();
            outcome.replies.push(reply);
            if failed {
                break;
            }
        }
        if attempt.refused.is_none() {
            self.finish(case, &mut outcome);
        } else {
            self.client.must("ROLLBACK; DEALLOCATE ALL");
        }
        attempt.outcome = Arc::new(outcome);
        attempt
    }

    fn single(&mut self, case: &Case, step: &str, protocol: Protocol, setting: &Setting, shape: Shape) -> Attempt {
        let names = Names { path: vec![ident("pg_catalog"), ident("public")], temporary: Vec::new() };
        let (text, edits) = match decide(step, setting, shape, &names) {
            Ok(decided) => decided,
            Err(refused) => {
                return Attempt { sent: Vec::new(), edits: None, refused: Some(refused), outcome: Arc::default() };
            }
        };
        let mut key = vec![text.clone(), format!("{:?}{:?}", case.parameters, case.copied_in)];
        key.shrink_to_fit();
        let known = self.seen.get(&(key.clone(), protocol)).cloned();
        let outcome = known.unwrap_or_else(|| {
            self.client.must(BEGIN);
            let mut outcome = Outcome { replies: vec![self.send(&text, case, protocol)], tables: None };
            self.finish(case, &mut outcome);
            let outcome = Arc::new(outcome);
            self.seen.insert((key, protocol), outcome.clone());
            outcome
        });
        Attempt { sent: vec![text], edits, refused: None, outcome }
    }

    fn send(&mut self, text: &str, case: &Case, protocol: Protocol) -> Reply {
        let sent = match protocol {
            Protocol::Simple => self.client.simple(text, case.copied_in.as_deref()),
            Protocol::Extended => {
                let parameters = if text.contains("$1") { case.parameters.as_slice() } else { &[] };
                self.client.extended(text, parameters)
            }
        };
        sent.unwrap_or_else(|error| panic!("the connection broke ({error}) at\n{text}"))
    }

    fn names(&mut self) -> Names {
        let reply = self.client.must(
            "SELECT unnest(current_schemas(true)); SELECT relname, attname FROM pg_class c JOIN pg_attribute a ON \
             attrelid = c.oid AND attnum > 0 AND NOT attisdropped WHERE relnamespace = pg_my_temp_schema() ORDER BY 1, attnum",
        );
        let name = |row: &Row, at: usize| row[at].as_deref().map(ident).expect("a name");
        let mut temporary: Vec<Temporary> = Vec::new();
        for row in &reply.results[1].rows {
            if temporary.last().is_none_or(|last| last.name != name(row, 0)) {
                temporary.push(Temporary { name: name(row, 0), columns: Some(Vec::new()) });
            }
            let columns = temporary.last_mut().and_then(|last| last.columns.as_mut());
            columns.expect("one was pushed").push(name(row, 1));
        }
        Names { path: reply.results[0].rows.iter().map(|row| name(row, 0)).collect(), temporary }
    }

    fn finish(&mut self, case: &Case, outcome: &mut Outcome) {
        let failed = outcome.replies.last().is_none_or(|reply| reply.error.is_some());
        if case.writes() && !failed {
            outcome.tables = Some(self.tables());
        }
        self.client.must("ROLLBACK; DEALLOCATE ALL");
    }

    /// All tables and sequences, and what is out of step.
    fn tables(&mut self) -> Tables {
        const OTHERS: [&str; 5] = [
            "SELECT 'orders', * FROM public.orders",
            "SELECT 'logins', * FROM public.logins",
            "SELECT 'log', * FROM public.log",
            "SELECT 'app', * FROM app.users",
            "SELECT 'sequences', (SELECT last_value FROM public.users_id_seq), (SELECT last_value FROM public.probe), \
             (SELECT last_value FROM public.orders_id_seq), (SELECT last_value FROM public.log_id_seq), \
             (SELECT last_value FROM public.scores_id_seq)",
        ];
        let (old, new, drift) = match self.place {
            Place::Oracle(Side::Old) => (tables_sql(self.place, Side::Old), Vec::new(), Vec::new()),
            Place::Oracle(Side::New) => (Vec::new(), tables_sql(self.place, Side::New), Vec::new()),
            Place::State(State::Old) => (tables_sql(self.place, Side::Old), Vec::new(), Vec::new()),
            Place::State(state) => {
                (tables_sql(self.place, Side::Old), tables_sql(self.place, Side::New), drift_sql(state))
            }
        };
        let others = OTHERS.map(str::to_owned).to_vec();
        let all = [&others, &old, &new, &drift].map(|part| part.join("; ")).into_iter().filter(|part| !part.is_empty());
        let sql = format!("RESET search_path; {}", all.collect::<Vec<_>>().join("; "));
        let results = self.client.must(&sql).results;
        let mut results = results.iter().skip(1);
        let mut lines = |count: usize| {
            let mut lines = Vec::new();
            for result in results.by_ref().take(count) {
                let mut rows: Vec<String> = result.rows.iter().map(show_row).collect();
                rows.sort();
                lines.extend(rows);
            }
            lines
        };
        let others = lines(others.len());
        let with_others = |own: Vec<String>| if own.is_empty() { own } else { [others.clone(), own].concat() };
        Tables { old: with_others(lines(old.len())), new: with_others(lines(new.len())), drift: lines(drift.len()) }
    }
}

/// The rewriter's decision on one text.
fn decide(text: &str, setting: &Setting, shape: Shape, names: &Names) -> Result<(String, Option<Edits>), Refusal> {
    let cx = Context { rules: &setting.rules, names, shape, bucket: setting.bucket, standard_conforming_strings: true };
    match std::panic::catch_unwind(|| rewrite(text, &cx)) {
        Ok(Rewrite::Unchanged) => Ok((text.to_owned(), None)),
        Ok(Rewrite::Rewritten(edits)) => Ok((edits.apply(text), Some(edits))),
        Ok(Rewrite::Refused(refusal)) => Err(refusal),
        Err(_) => Err(Refusal::new(SqlState("XX000"), "the rewriter panicked")),
    }
}

fn tables_sql(place: Place, side: Side) -> Vec<String> {
    CHANGES
        .iter()
        .map(|change| {
            let (old, new) = (ident(change.old).quoted(), ident(change.new).quoted());
            let value = match (place, side) {
                (Place::Oracle(Side::Old), _) => old,
                (Place::Oracle(Side::New), _) => new,
                (Place::State(state), Side::Old) if state.has_old() => old,
                (Place::State(_), Side::Old) => change.down_read(&new),
                (Place::State(state), Side::New) if state.in_step() || !state.has_old() => new,
                (Place::State(_), Side::New) => change.up_safe(&old),
            };
            let rest = match change.table {
                "users" => "id, email, age, bio, tags, created_at",
                "User" => "\"Id\", \"order\"",
                _ => "id, player",
            };
            format!("SELECT '{}', {value}, {rest} FROM public.{}", change.table, ident(change.table).quoted())
        })
        .chain([members_sql(place, side)])
        .collect()
}

/// What the new `age` must be where history is copied: nothing that would not come back.
const MEMBERS_UP: &str = "CASE WHEN age ~ '^(0|-?[1-9][0-9]{0,8})$' THEN age::integer END";

/// `members`, whose column has one name in both shapes.
fn members_sql(place: Place, side: Side) -> String {
    let value = match (place, side) {
        (Place::Oracle(_), _) => "age".to_owned(),
        (Place::State(state), Side::Old) if state.has_old() => "age".to_owned(),
        (Place::State(_), Side::Old) => "age::text".to_owned(),
        (Place::State(state), Side::New) if !state.has_old() => "age".to_owned(),
        (Place::State(state), Side::New) if state.in_step() => retyped_storage(),
        (Place::State(_), Side::New) => MEMBERS_UP.to_owned(),
    };
    format!("SELECT 'members', {value}, id, name FROM public.members")
}

/// Rows out of step: all of them once history is copied; before that those which this transaction wrote.
fn drift_sql(state: State) -> Vec<String> {
    if !state.has_old() || !state.has_new() || state == State::Expanded {
        return Vec::new();
    }
    let which = if state.in_step() { "true" } else { "xmin = pg_current_xact_id()::xid" };
    CHANGES
        .iter()
        .map(|change| {
            let (table, old, new) =
                (ident(change.table).quoted(), ident(change.old).quoted(), ident(change.new).quoted());
            let safe = change.up_safe(&old);
            format!("SELECT {old}, {new} FROM public.{table} WHERE {new} IS DISTINCT FROM {safe} AND {which}")
        })
        .chain([format!(
            "SELECT age, {0} FROM public.members WHERE {0} IS DISTINCT FROM {MEMBERS_UP} AND {which}",
            retyped_storage()
        )])
        .collect()
}

/// What a reader of the report needs to see first.
pub fn differences(
    case: &Case,
    (setting, shape): (&Setting, Shape),
    (side, expected): (Side, &Outcome),
    attempt: &Attempt,
) -> Vec<String> {
    let mut found = Vec::new();
    let (mut wanted, mut got) = (expected.replies.clone(), attempt.outcome.replies.clone());
    let mut target = None;
    if let (Some(error), Some(edits)) = (got.last_mut().and_then(|reply| reply.error.as_mut()), &attempt.edits) {
        let sent = attempt.sent.last().map(String::as_str).unwrap_or_default();
        let source = case.steps.get(attempt.sent.len() - 1).map(String::as_str).unwrap_or_default();
        target =
            error.position.and_then(|place| sql::target_at(source, edits.source_offset(sent_byte(sent, place)), true));
        let stopped = error.position.and_then(|place| edits.stopped_at(sent_byte(sent, place)));
        match stopped.and_then(|refusal| refusal_as_reply(refusal, source).error) {
            Some(ours) => *error = ours,
            None => error.position = error.position.and_then(|place| source_position(sent, source, place, edits)),
        }
    }
    if let Some(error) = got.last_mut().and_then(|reply| reply.error.as_mut()) {
        setting.rules.tables().for_each(|table| mask(table.write_view(shape), target.clone(), error));
    }
    if let Some(refusal) = &attempt.refused {
        let step = case.steps.get(got.len()).map(String::as_str).unwrap_or_default();
        got.push(refusal_as_reply(refusal, step));
        // Our refusal comes before anything is sent, so that there is no description of parameters.
        if let (Some(want), Some(got)) = (wanted.get_mut(got.len() - 1), got.last_mut()) {
            want.parameters = None;
            want.results.clear();
            got.parameters = None;
        }
    }
    for (at, (want, got)) in wanted.iter().zip(&got).enumerate() {
        reply_differences(case, want, got, &mut found);
        if !found.is_empty() && case.steps.len() > 1 {
            found[0] = format!("step {}: {}", at + 1, found[0]);
        }
        if !found.is_empty() {
            return found;
        }
    }
    if wanted.len() != got.len() {
        found.push(format!("{} texts ran, expected {}", got.len(), wanted.len()));
    }
    if let (Some(want), Some(got)) = (&expected.tables, &attempt.outcome.tables) {
        let (want, have) = match side {
            Side::Old => (&want.old, &got.old),
            Side::New => (&want.new, &got.new),
        };
        if want != have {
            found.push(format!("tables afterwards: {}", lines_differ(want, have)));
        }
        if !got.drift.is_empty() {
            found.push(format!("out of step afterwards: {}", got.drift.join(" / ")));
        }
    }
    found
}

/// The error as the session tells it.
fn mask(view: &TableView, target: Option<String>, error: &mut ServerError) {
    let texts = ErrorTexts {
        message: Some(std::mem::take(&mut error.message)),
        detail: error.detail.take(),
        context: error.context.take(),
        table: error.table.take(),
        column: error.column.take(),
        target,
        ..ErrorTexts::default()
    };
    let masked = mask_error(view, texts);
    error.message = masked.message.unwrap_or_default();
    (error.detail, error.context) = (masked.detail, masked.context);
    (error.column, error.table) = (masked.column, masked.table);
}

fn refusal_as_reply(refusal: &Refusal, source: &str) -> Reply {
    let position = refusal.offset.map(|offset| source[..offset.min(source.len())].chars().count() + 1);
    let error = ServerError {
        code: refusal.state.0.to_owned(),
        message: refusal.message.clone(),
        position,
        ..ServerError::default()
    };
    Reply { parameters: None, results: Vec::new(), error: Some(error) }
}

fn sent_byte(sent: &str, place: usize) -> usize {
    sent.char_indices().nth(place - 1).map_or(sent.len(), |(byte, _)| byte)
}

/// PostgreSQL counts characters from 1.
fn source_position(sent: &str, source: &str, place: usize, edits: &Edits) -> Option<usize> {
    let byte = sent_byte(sent, place);
    let back = edits.source_offset(byte).min(source.len());
    if sql::stands_nowhere((source, back), (sent, byte)) {
        return None;
    }
    Some(source.get(..back).map_or(0, |before| before.chars().count() + 1))
}

fn reply_differences(case: &Case, want: &Reply, got: &Reply, found: &mut Vec<String>) {
    match (&want.error, &got.error) {
        (None, None) => {}
        (Some(want), Some(got)) => {
            error_differences(case, want, got, found);
            return;
        }
        (Some(want), None) => {
            found.push(format!("expected the error {}, it succeeded", show_error(want)));
            return;
        }
        (None, Some(got)) => {
            found.push(format!("unexpected error {}", show_error(got)));
            return;
        }
    }
    if let (Some(want), Some(got)) = (&want.parameters, &got.parameters)
        && want != got
    {
        found.push(format!("parameter types {got:?}, expected {want:?}"));
    }
    if want.results.len() != got.results.len() {
        found.push(format!("{} results, expected {}", got.results.len(), want.results.len()));
    }
    for (want, got) in want.results.iter().zip(&got.results) {
        result_differences(case, want, got, found);
    }
}

fn error_differences(case: &Case, want: &ServerError, got: &ServerError, found: &mut Vec<String>) {
    let strict = case.state_only.is_none();
    // The row in the detail has the columns of the stored table: values are not searched for names, so it stays.
    let detail = |error: &ServerError| error.detail.clone().filter(|detail| !detail.starts_with("Failing row"));
    if case.class_only {
        if want.code[..2] != got.code[..2] {
            found.push(format!("error {}, expected {}", show_error(got), show_error(want)));
        }
        return;
    }
    if want.code != got.code || (strict && want.message != got.message) {
        found.push(format!("error {}, expected {}", show_error(got), show_error(want)));
    } else if strict && want.position != got.position {
        found.push(format!("error at {:?}, expected at {:?} ({})", got.position, want.position, want.message));
    } else if strict && !(case.lax_detail && want.code == "42703") && detail(want) != detail(got) {
        found.push(format!("detail {:?}, expected {:?} ({})", got.detail, want.detail, want.message));
    } else if (&want.constraint, &want.column) != (&got.constraint, &got.column) {
        let named = |error: &ServerError| format!("{:?} {:?}", error.constraint, error.column);
        found.push(format!("error about {}, expected {} ({})", named(got), named(want), want.message));
    }
}

fn show_error(error: &ServerError) -> String {
    let place = error.position.map(|place| format!(" at {place}")).unwrap_or_default();
    format!("{} \"{}\"{place}", error.code, error.message)
}

fn result_differences(case: &Case, want: &ResultSet, got: &ResultSet, found: &mut Vec<String>) {
    if want.tag != got.tag {
        found.push(format!("tag {:?}, expected {:?}", got.tag, want.tag));
    }
    let (want_columns, got_columns) = (comparable(&want.columns), comparable(&got.columns));
    if want_columns != got_columns {
        found.push(format!("columns {got_columns:?}, expected {want_columns:?}"));
    }
    if case.tag_only {
        return;
    }
    let lines = |rows: &[Row]| {
        let mut lines: Vec<String> = rows.iter().map(show_row).collect();
        if !case.ordered() {
            lines.sort();
        }
        lines
    };
    let (want_rows, got_rows) = (lines(&want.rows), lines(&got.rows));
    if want_rows != got_rows {
        found.push(format!("rows: {}", lines_differ(&want_rows, &got_rows)));
    }
    if want.copied_out != got.copied_out {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        found.push(format!("copied out {:?}, expected {:?}", text(&got.copied_out), text(&want.copied_out)));
    }
}

/// Name, type OID and modifier; all composite types count as one.
fn comparable(columns: &Option<Vec<Column>>) -> Option<Vec<(String, u32, i32)>> {
    const RECORD: u32 = 2249;
    const RECORD_ARRAY: u32 = 2287;
    const FIRST_USER_OID: u32 = 16384;
    let columns = columns.as_ref()?;
    let kind = |oid| match oid {
        RECORD | RECORD_ARRAY => 0,
        user if user >= FIRST_USER_OID => 0,
        built_in => built_in,
    };
    Some(columns.iter().map(|column| (column.name.clone(), kind(column.type_oid), column.type_modifier)).collect())
}

pub fn show_row(row: &Row) -> String {
    let values: Vec<&str> = row.iter().map(|value| value.as_deref().unwrap_or("∅")).collect();
    values.join("|")
}

fn lines_differ(want: &[String], got: &[String]) -> String {
    let missing: Vec<&str> = want.iter().filter(|line| !got.contains(line)).map(String::as_str).collect();
    let extra: Vec<&str> = got.iter().filter(|line| !want.contains(line)).map(String::as_str).collect();
    if missing.is_empty() && extra.is_empty() {
        return format!("got {got:?}, expected {want:?}");
    }
    format!("got {extra:?}, expected {missing:?}")
}
