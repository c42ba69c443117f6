//! The SQL that walks a table by its primary key: copy, drift scan, quarantine.
//!
//! Pure. Each statement is one page of rows in key order; keys travel as text in both directions. Expects a session set
//! up by `catalog::settle`.

use super::resolve::{KeyColumn, Migration};
use super::text::{differs, dollar_quoted, field, literal, misfit_text, out_of_step, over_old};
use crate::schema::Ident;

/// How many keys of drifted rows a page of the drift scan reports.
pub const SAMPLES_MAX: usize = 10;

/// A walk over the table in key order, a page at a time.
///
/// `first` takes `$1::bigint` (rows in a page). `next` takes that and the last key of the page before, one `text`
/// parameter for each column of the primary key (`$2`, `$3`, ...).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// The first page.
    pub first: String,
    /// Every other page.
    pub next: String,
}

/// Copies: sets the new column where it is not what the old one says, and records misfits, in one statement.
///
/// Returns one row: `last_key text[]` (NULL when the page was empty: the range is exhausted), `rows bigint` (rows
/// looked at), `changed bigint`, `misfits bigint`. Rows are locked in key order, and only those that need a change.
pub fn copy(migration: &Migration) -> Walk {
    let table = migration.lens.table.quoted();
    let todo = out_of_step(migration, "t");
    let keys = list(migration, |key| format!("t.{}", key.quoted()));
    let join = same_key(migration, "t", "p");
    let set: Vec<String> = migration
        .lens
        .new
        .iter()
        .map(|column| format!("{} = {}", column.stored().quoted(), over_old(migration, &column.from.safe, "t")))
        .collect();
    let out = differs(migration, "t");
    let misfit = misfit_text(migration, "t");
    let (name, key) = (literal(migration.name.as_str()), key_json(migration, "t"));
    let tail = format!(
        "), locked AS MATERIALIZED (\n\
         SELECT {keys}, {key} AS \"~key\", {misfit} AS \"~misfit\"\n\
         FROM ONLY {table} AS t JOIN page AS p ON {join} WHERE p.\"~todo\"\n\
         ORDER BY {keys} FOR NO KEY UPDATE OF t\n\
         ), changed AS (\n\
         UPDATE ONLY {table} AS t SET {set} FROM locked AS p WHERE {join} AND {out} RETURNING 1\n\
         ), misfit AS (\n\
         INSERT INTO crossfade.quarantine (migration, key, error)\n\
         SELECT {name}, p.\"~key\", p.\"~misfit\" FROM locked AS p WHERE p.\"~misfit\" IS NOT NULL\n\
         ON CONFLICT DO NOTHING\n\
         )\n\
         SELECT {last} AS last_key, (SELECT count(*) FROM page) AS rows,\n\
         (SELECT count(*) FROM changed) AS changed, \
         (SELECT count(*) FROM locked AS p WHERE p.\"~misfit\" IS NOT NULL) AS misfits",
        set = set.join(", "),
        last = last_key(migration),
    );
    walk(migration, &format!("{todo} AS \"~todo\""), &tail)
}

/// Scans for drift; changes nothing.
///
/// Returns one row: `last_key text[]`, `rows bigint`, `drifted bigint` (rows whose new value is not what the old one
/// says), `misfits bigint` (rows whose old value does not fit), `samples text[]` (keys of up to [`SAMPLES_MAX`] drifted
/// rows as JSON arrays).
pub fn drift(migration: &Migration) -> Walk {
    let columns = format!(
        "{} AS \"~drifted\", {} AS \"~misfit\", {} AS \"~key\"",
        differs(migration, "t"),
        misfit_text(migration, "t"),
        key_json(migration, "t")
    );
    let order = list(migration, |key| format!("p.{}", key.quoted()));
    let tail = format!(
        ")\n\
         SELECT {last} AS last_key, count(*) AS rows, count(*) FILTER (WHERE \"~drifted\") AS drifted,\n\
         count(*) FILTER (WHERE \"~misfit\" IS NOT NULL) AS misfits,\n\
         ARRAY(SELECT p.\"~key\" FROM page AS p WHERE p.\"~drifted\" ORDER BY {order} LIMIT {SAMPLES_MAX}) AS samples\n\
         FROM page",
        last = last_key(migration),
    );
    walk(migration, &columns, &tail)
}

/// Takes out of quarantine what fits by now and is in step, or is gone. Takes no parameters; returns one row: `left
/// bigint`, what is left in quarantine, and `behind bigint`, how many rows of those would fit and were not converted when
/// they were written (whoever wrote them may not call what `up` calls): a sweep does it.
///
/// A row that becomes a misfit while this runs may be taken out all the same; so a drift scan, which counts misfits in
/// the table itself, has the last word.
pub fn recheck(migration: &Migration) -> String {
    let name = literal(migration.name.as_str());
    let (differs, misfit) = (differs(migration, "t"), misfit_text(migration, "t"));
    let same: Vec<String> = migration
        .key
        .iter()
        .enumerate()
        .map(|(at, key)| format!("t.{} = (q.key::jsonb ->> {at})::{}", key.name.quoted(), key.type_sql))
        .collect();
    format!(
        "WITH solved AS (\n\
         DELETE FROM crossfade.quarantine AS q WHERE q.migration = {name} AND NOT EXISTS (\n\
         SELECT FROM ONLY {table} AS t WHERE {same} AND ({misfit} IS NOT NULL OR {differs}))\n\
         RETURNING 1)\n\
         SELECT (SELECT count(*) FROM crossfade.quarantine AS q WHERE q.migration = {name})\n\
         - (SELECT count(*) FROM solved) AS \"left\",\n\
         (SELECT count(*) FROM crossfade.quarantine AS q WHERE q.migration = {name} AND EXISTS (\n\
         SELECT FROM ONLY {table} AS t WHERE {same} AND {misfit} IS NULL AND {differs})) AS behind",
        table = migration.lens.table.quoted(),
        same = same.join(" AND "),
    )
}

/// Keeps the user's own triggers from firing for rows that the copy touches (they would stamp `updated_at`, write
/// audit rows...). The sync trigger fires nevertheless. First statement of a batch's transaction, where
/// `catalog::may_silence_triggers` says that it is allowed.
pub const SILENCE_TRIGGERS: &str = "SET LOCAL session_replication_role = replica";

/// The row's key as a JSON array: what `crossfade.quarantine.key` holds. Expects our settings: the key's text must be the
/// same whoever writes it, and give the same key again.
fn key_json(migration: &Migration, row: &str) -> String {
    key_array(migration, |key| field(row, &key.name))
}

fn key_array(migration: &Migration, value: impl Fn(&KeyColumn) -> String) -> String {
    let part = |key: &KeyColumn| {
        // Anything else goes in as its text, which comes out by `->>` as PostgreSQL reads it.
        let text = if INTEGERS.contains(&key.type_sql.as_str()) { "" } else { "::text" };
        format!("{}{text}", value(key))
    };
    let parts: Vec<String> = migration.key.iter().map(part).collect();
    format!("pg_catalog.jsonb_build_array({})::text", parts.join(", "))
}

/// The row's key as [`key_json`] gives it, under the settings of whoever writes the row.
pub(super) fn key_called(migration: &Migration, row: &str) -> String {
    let parts = list(migration, |key| field(row, key));
    format!("crossfade.{}({parts})", migration.key_function().quoted())
}

/// The function behind [`key_called`].
pub(super) fn key_function(migration: &Migration) -> Vec<String> {
    let types = key_types(migration);
    let name = migration.key_function().quoted();
    let numbered = |wanted: &KeyColumn| {
        format!("${}", migration.key.iter().position(|key| key.name == wanted.name).map_or(1, |at| at + 1))
    };
    vec![
        format!(
            "CREATE OR REPLACE FUNCTION crossfade.{name}({types}) RETURNS text LANGUAGE sql STABLE {KEY_SETTINGS} AS {}",
            dollar_quoted(&format!("SELECT {}", key_array(migration, numbered)))
        ),
        format!("GRANT EXECUTE ON FUNCTION crossfade.{name}({types}) TO PUBLIC"),
    ]
}

/// Takes that function away.
pub(super) fn drop_key_function(migration: &Migration) -> String {
    format!("DROP FUNCTION IF EXISTS crossfade.{}({})", migration.key_function().quoted(), key_types(migration))
}

fn key_types(migration: &Migration) -> String {
    migration.key.iter().map(|key| key.type_sql.as_str()).collect::<Vec<_>>().join(", ")
}

/// The settings of `catalog::settle` that values' texts depend on.
const KEY_SETTINGS: &str = "SET search_path TO pg_catalog SET \"DateStyle\" TO 'ISO, YMD' SET \"IntervalStyle\" TO postgres \
                            SET extra_float_digits TO 1 SET bytea_output TO hex";

/// Types whose values JSON has as they are.
const INTEGERS: &[&str] = &["smallint", "integer", "bigint"];

fn walk(migration: &Migration, columns: &str, tail: &str) -> Walk {
    let keys = list(migration, |key| format!("t.{}", key.quoted()));
    let after: Vec<String> =
        migration.key.iter().enumerate().map(|(at, key)| format!("${}::text::{}", at + 2, key.type_sql)).collect();
    let page = |only: &str| {
        format!(
            "WITH page AS MATERIALIZED (\n\
             SELECT {keys}, {columns}\n\
             FROM ONLY {table} AS t {only}ORDER BY {keys} LIMIT $1::bigint\n\
             {tail}",
            table = migration.lens.table.quoted(),
        )
    };
    Walk { first: page(""), next: page(&format!("WHERE ({keys}) > ({})\n", after.join(", "))) }
}

/// The last key of the page, in the order of the walk: never from an unordered RETURNING.
fn last_key(migration: &Migration) -> String {
    let texts = list(migration, |key| format!("p.{}::text", key.quoted()));
    let order = list(migration, |key| format!("p.{} DESC", key.quoted()));
    format!("(SELECT ARRAY[{texts}] FROM page AS p ORDER BY {order} LIMIT 1)")
}

fn same_key(migration: &Migration, a: &str, b: &str) -> String {
    let pairs: Vec<String> =
        migration.key.iter().map(|key| format!("{} = {}", field(a, &key.name), field(b, &key.name))).collect();
    pairs.join(" AND ")
}

fn list(migration: &Migration, item: impl Fn(&Ident) -> String) -> String {
    migration.key.iter().map(|key| item(&key.name)).collect::<Vec<_>>().join(", ")
}
