//! The SQL that walks a table by its primary key: copy, drift scan, quarantine.
//!
//! Pure. Each statement is one page of rows in key order; keys travel as text in both directions. Expects a session set
//! up by `catalog::settle`.

use super::resolve::{KeyColumn, Migration};
use super::text::{differs, field, literal, misfit_text, out_of_step, over_old};
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
         ON CONFLICT (migration, key) DO NOTHING\n\
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

/// Takes out of quarantine what fits by now or is gone. Takes no parameters; returns one row: `left bigint`, what is
/// left in quarantine.
///
/// A row that becomes a misfit while this runs may be taken out all the same; so a drift scan, which counts misfits in
/// the table itself, has the last word.
pub fn recheck(migration: &Migration) -> String {
    let name = literal(migration.name.as_str());
    let same: Vec<String> = migration
        .key
        .iter()
        .enumerate()
        .map(|(at, key)| format!("t.{} = (q.key::jsonb ->> {at})::{}", key.name.quoted(), key.type_sql))
        .collect();
    format!(
        "WITH solved AS (\n\
         DELETE FROM crossfade.quarantine AS q WHERE q.migration = {name} AND NOT EXISTS (\n\
         SELECT FROM ONLY {table} AS t WHERE {same} AND {misfit} IS NOT NULL)\n\
         RETURNING 1)\n\
         SELECT (SELECT count(*) FROM crossfade.quarantine AS q WHERE q.migration = {name})\n\
         - (SELECT count(*) FROM solved) AS \"left\"",
        table = migration.lens.table.quoted(),
        same = same.join(" AND "),
        misfit = misfit_text(migration, "t"),
    )
}

/// Keeps the user's own triggers from firing for rows that the copy touches (they would stamp `updated_at`, write
/// audit rows...). The sync trigger fires nevertheless. First statement of a batch's transaction, where
/// `catalog::may_silence_triggers` says that it is allowed.
pub const SILENCE_TRIGGERS: &str = "SET LOCAL session_replication_role = replica";

/// The row's key as a JSON array: what `crossfade.quarantine.key` holds.
pub(super) fn key_json(migration: &Migration, row: &str) -> String {
    let part = |key: &KeyColumn| {
        // An array goes in as one text: it must come out by `->>` as PostgreSQL reads it.
        let text = if key.type_sql.ends_with(']') { "::text" } else { "" };
        format!("{}{text}", field(row, &key.name))
    };
    let parts: Vec<String> = migration.key.iter().map(part).collect();
    format!("pg_catalog.jsonb_build_array({})::text", parts.join(", "))
}

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
