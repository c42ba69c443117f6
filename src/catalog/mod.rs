//! Reads the schema from PostgreSQL: relations for the rules, details for the DDL, facts for the gates.
//!
//! Effectful and thin: each function is one or two queries; what they mean is decided in the pure rooms. Writes nothing.
//! Expects a client made by [`connect`] or set up by [`settle`].

mod preflight;
mod roles;

pub use preflight::{Preflight, Warning, preflight};

use tokio_postgres::{Client, NoTls, Row};

use crate::migration::masks::masked_relations;
use crate::migration::resolve::{FIRST_PREFIX, OWN_PREFIX, ResolvedType};
use crate::migration::text::word;
use crate::schema::{
    Catalog, Dependent, DependentKind, Ident, QualifiedName, Relation, RowFunction, TableDetail, Trigger,
};

const RELATION_SQL: &str = include_str!("sql/relation.sql");
const DETAIL_SQL: &str = include_str!("sql/detail.sql");
const ROW_FUNCTIONS_SQL: &str = include_str!("sql/row_functions.sql");
const FINGERPRINT_SQL: &str = include_str!("sql/fingerprint.sql");

/// Schemas of the user's, of pg_namespace n.
const USER_SCHEMA_SQL: &str =
    "n.nspname NOT IN ('pg_catalog', 'information_schema', 'crossfade') AND n.nspname !~ '^pg_(toast|temp)'";

/// Our own views, of pg_class c in pg_namespace n: some statements go through them.
const OWN_VIEW_SQL: &str = "n.nspname = 'crossfade' AND c.relkind = 'v'";

/// Why the catalog could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// PostgreSQL said no, or the connection is gone.
    #[error("{context}: {}", postgres_message(.source))]
    Postgres {
        /// What was being done.
        context: &'static str,
        /// The cause.
        #[source]
        source: tokio_postgres::Error,
    },
    /// PostgreSQL answered what we do not understand.
    #[error("{context}: {message}")]
    Answer {
        /// What was being done.
        context: &'static str,
        /// What is wrong with the answer.
        message: String,
    },
}

/// The message of PostgreSQL's error with its detail and SQLSTATE, or of the connection's.
pub fn postgres_message(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => match db.detail() {
            Some(detail) => format!("{} ({detail}; SQLSTATE {})", db.message(), db.code().code()),
            None => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
        },
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

/// What changes whenever a relation of the user's changes; cheap to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

/// Connects (without TLS), drives the connection on a task, and sets the session up.
pub async fn connect(config: &tokio_postgres::Config) -> Result<Client, CatalogError> {
    let (client, connection) = config.connect(NoTls).await.map_err(postgres("connect to PostgreSQL"))?;
    tokio::spawn(async move {
        // A lost connection shows as an error of the next query.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "control connection ended");
        }
    });
    settle(&client).await?;
    Ok(client)
}

/// Sets a session up for everything of ours: an empty search path (every name that PostgreSQL writes for us is then
/// qualified, every name that we write is resolved in `pg_catalog`), fixed text formats.
pub async fn settle(client: &Client) -> Result<(), CatalogError> {
    let sql = "SET search_path = pg_catalog; SET standard_conforming_strings = on; SET DateStyle = 'ISO, YMD'; \
               SET IntervalStyle = postgres; SET extra_float_digits = 1; SET bytea_output = hex; \
               SET quote_all_identifiers = off; SET check_function_bodies = on; SET row_security = off";
    client.batch_execute(sql).await.map_err(postgres("set up a control session"))
}

/// All relations of the user's, our own views, and those of the system schemas that are read for a session's shape.
pub async fn load(client: &Client) -> Result<Catalog, CatalogError> {
    let context = "read the catalog";
    let masked: Vec<String> = masked_relations().map(|(schema, name)| format!("('{schema}', '{name}')")).collect();
    let sql = format!(
        "SELECT {RELATION_SQL} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND ({USER_SCHEMA_SQL} OR {OWN_VIEW_SQL} OR (n.nspname, c.relname) IN ({}))",
        masked.join(", ")
    );
    let rows = client.query(&sql, &[]).await.map_err(postgres(context))?;
    let relations: Result<Vec<Relation>, CatalogError> = rows.iter().map(|row| from_json(context, row)).collect();
    let is_system = |relation: &Relation| {
        masked_relations().any(|name| name == (relation.name.schema.as_str(), relation.name.name.as_str()))
    };
    let (system, relations): (Vec<_>, Vec<_>) = relations?.into_iter().partition(is_system);
    let rows = client.query(ROW_FUNCTIONS_SQL, &[]).await.map_err(postgres(context))?;
    let functions: Result<Vec<RowFunction>, CatalogError> = rows.iter().map(|row| from_json(context, row)).collect();
    Ok(Catalog::new(relations).with_system(system).with_row_functions(functions?))
}

/// The state of the catalog as one comparable value.
pub async fn fingerprint(client: &Client) -> Result<Fingerprint, CatalogError> {
    let sql = FINGERPRINT_SQL.replace("{user}", &format!("({USER_SCHEMA_SQL} OR {OWN_VIEW_SQL})"));
    let row = client.query_one(&sql, &[]).await.map_err(postgres("look for catalog changes"))?;
    Ok(Fingerprint(row.get(0)))
}

/// What changes whenever an index or constraint of the table comes, goes, becomes valid or gets another name; cheap to ask
/// for.
pub async fn hanging(client: &Client, table: &QualifiedName) -> Result<Fingerprint, CatalogError> {
    let sql = "SELECT concat_ws(' ', \
        (SELECT string_agg(concat(i.indexrelid, ':', i.indisvalid, ':', hashtext(c.relname::text)), ',' ORDER BY i.indexrelid) \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = t.oid), \
        (SELECT string_agg(concat(k.oid, ':', k.convalidated, ':', hashtext(k.conname::text)), ',' ORDER BY k.oid) \
         FROM pg_constraint k WHERE k.conrelid = t.oid)) \
        FROM (SELECT to_regclass($1)::oid) t (oid)";
    let row = client.query_one(sql, &[&table.quoted()]).await.map_err(postgres("look at a table's indexes"))?;
    Ok(Fingerprint(row.get(0)))
}

/// A table with all that hangs on it; `None` when there is no such relation.
pub async fn detail(client: &Client, table: &QualifiedName) -> Result<Option<TableDetail>, CatalogError> {
    let context = "read what hangs on a table";
    let sql = DETAIL_SQL.replace("{relation}", RELATION_SQL);
    let names = [table.schema.as_str(), table.name.as_str()];
    let row = client.query_opt(&sql, &[&names[0], &names[1]]).await.map_err(postgres(context))?;
    row.map(|row| from_json(context, &row)).transpose()
}

/// Other tables than that one on which that function of ours stands as a trigger: where the table is now, when it was given
/// another name or schema.
pub async fn moved_to(client: &Client, table: &QualifiedName, function: &Ident) -> Result<Vec<String>, CatalogError> {
    let sql = "SELECT DISTINCT t.tgrelid::regclass::text FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid \
               JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'crossfade' AND p.proname = $1 \
               AND t.tgparentid = 0 AND t.tgrelid IS DISTINCT FROM to_regclass($2)::oid ORDER BY 1";
    let names = [function.as_str(), &table.quoted()];
    let rows =
        client.query(sql, &[&names[0], &names[1]]).await.map_err(postgres("look for a table that was renamed"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What PostgreSQL knows of a type. `Err` in the inner result: PostgreSQL's complaint.
pub async fn resolve_type(client: &Client, wanted: &str) -> Result<Result<ResolvedType, String>, CatalogError> {
    let context = "look up a type";
    let sql = "SELECT t.oid, t.typtype = 'd', t.typcollation <> 0 FROM pg_type t WHERE t.oid = to_regtype($1)";
    let row = match refused(client.query_opt(sql, &[&wanted]).await, context)? {
        Ok(Some(row)) => row,
        Ok(None) => return Ok(Err(format!("type {wanted:?} does not exist"))),
        Err(message) => return Ok(Err(message)),
    };
    let (oid, domain, collatable): (u32, bool, bool) = (row.get(0), row.get(1), row.get(2));
    // Preparing runs nothing; the description has the modifier.
    let modifier = match refused(client.prepare(&format!("SELECT NULL::{wanted}")).await, context)? {
        Ok(statement) if !domain => statement.columns().first().map_or(-1, |column| column.type_modifier()),
        Ok(_) => -1,
        Err(message) => return Ok(Err(message)),
    };
    let sql = "SELECT format_type($1, $2), format_type($1, -1)";
    let row = client.query_one(sql, &[&oid, &modifier]).await.map_err(postgres(context))?;
    Ok(Ok(ResolvedType { type_sql: row.get(0), base_type_sql: row.get(1), modifier, collatable, domain }))
}

/// The volatility (`i`, `s`, `v`) of every function of those names (qualified or not), as (signature, letter).
pub async fn volatility(client: &Client, functions: &[String]) -> Result<Vec<(String, String)>, CatalogError> {
    let sql = "SELECT DISTINCT p.oid::regprocedure::text, p.provolatile::text FROM pg_proc p \
               JOIN pg_namespace n ON n.oid = p.pronamespace \
               WHERE p.proname = ANY ($1) AND n.nspname = 'pg_catalog' OR concat(n.nspname, '.', p.proname) = ANY ($1)";
    let rows = client.query(sql, &[&functions]).await.map_err(postgres("look up functions"))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Whether this role may set `session_replication_role` (see `migration::walk::SILENCE_TRIGGERS`).
pub async fn may_silence_triggers(client: &Client) -> Result<bool, CatalogError> {
    let context = "look up a privilege";
    let sql = "SELECT rolsuper, current_setting('server_version_num')::int FROM pg_roles WHERE rolname = current_user";
    let row = client.query_one(sql, &[]).await.map_err(postgres(context))?;
    let (superuser, version): (bool, i32) = (row.get(0), row.get(1));
    if superuser || version < 150_000 {
        return Ok(superuser);
    }
    let sql = "SELECT has_parameter_privilege('session_replication_role', 'SET')";
    Ok(client.query_one(sql, &[]).await.map_err(postgres(context))?.get(0))
}

/// Functions whose source names that column and that have to do with the table: they name it too, or take its rows.
/// PostgreSQL records no such dependency, so this goes by whole words in their text and may name too many.
pub async fn functions_naming(
    client: &Client,
    table: &QualifiedName,
    column: &Ident,
) -> Result<Vec<Dependent>, CatalogError> {
    let sql = "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
               JOIN pg_language l ON l.oid = p.prolang \
               WHERE l.lanname NOT IN ('internal', 'c') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'crossfade') \
               AND p.prosrc ~* $1 AND (p.prosrc ~* $2 OR pg_get_function_arguments(p.oid) ~* $2) ORDER BY 1";
    let words = [word(column), word(&table.name)];
    let rows = client.query(sql, &[&words[0], &words[1]]).await.map_err(postgres("look for functions"))?;
    let dependent = |row: &Row| Dependent {
        kind: DependentKind::FunctionText,
        name: format!("function {}", row.get::<_, String>(0)),
        column: column.clone(),
    };
    Ok(rows.iter().map(dependent).collect())
}

/// Objects that make the contract impossible or that it would break at run time: what `Facts::dependents` wants.
pub fn breaks_on_contract(detail: &TableDetail, column: &Ident) -> Vec<String> {
    needing(detail, column, |trigger| is_named_by(trigger, column.as_str()))
}

/// The same of the new column, which a rollback drops. Of triggers those whose function takes it out of NEW or OLD: a word
/// that only looks like it must not keep anybody from turning back.
pub fn breaks_on_rollback(detail: &TableDetail, column: &Ident) -> Vec<String> {
    let takes =
        |trigger: &Trigger| trigger.source.as_deref().is_some_and(|source| takes_field(source, column.as_str()));
    needing(detail, column, |trigger| takes(trigger) || names_word(arguments(trigger), column.as_str()))
}

/// What PostgreSQL knows to depend on the column, and the users' triggers that do so by their text.
fn needing(detail: &TableDetail, column: &Ident, by_text: impl Fn(&Trigger) -> bool) -> Vec<String> {
    let recorded = detail.dependents.iter().filter(|dependent| {
        let stops = match dependent.kind {
            DependentKind::View
            | DependentKind::MaterializedView
            | DependentKind::Rule
            | DependentKind::Policy
            | DependentKind::Trigger
            | DependentKind::Publication
            | DependentKind::GeneratedColumn
            | DependentKind::Function
            | DependentKind::Other => true,
            // Text may only look as if; statistics go with the column; a sequence goes over to the new one.
            DependentKind::FunctionText | DependentKind::Statistics | DependentKind::Sequence => false,
        };
        stops && &dependent.column == column
    });
    let mut found: Vec<String> = recorded.map(|dependent| dependent.name.clone()).collect();
    // A trigger's function that sets NEW.column fails on every row once the column is gone.
    let is_own = |name: &str| [FIRST_PREFIX, OWN_PREFIX].iter().any(|prefix| name.starts_with(prefix));
    let triggers = detail.triggers.iter().filter(|trigger| !is_own(trigger.name.as_str()) && by_text(trigger));
    found.extend(
        triggers.map(|trigger| format!("trigger {} (its function {} names it)", trigger.name, trigger.function)),
    );
    found
}

/// Whether a trigger's function names that column, or is given its name as an argument.
fn is_named_by(trigger: &Trigger, column: &str) -> bool {
    names_word(arguments(trigger), column) || trigger.source.as_deref().is_some_and(|source| names_word(source, column))
}

/// What a trigger gives its function, as SQL.
fn arguments(trigger: &Trigger) -> &str {
    let call = trigger.definition.rsplit_once("EXECUTE FUNCTION ").map_or("", |(_, call)| call);
    call.split_once('(').map_or("", |(_, arguments)| arguments)
}

/// Whether a function's text takes that column out of NEW or OLD.
fn takes_field(text: &str, column: &str) -> bool {
    let text = text.to_lowercase();
    words_at(&text, &column.to_lowercase()).any(|at| {
        let before = text[..at].trim_end_matches('"').trim_end();
        let row = before.strip_suffix('.').map(str::trim_end);
        row.is_some_and(|row| {
            ["new", "old"].iter().any(|name| row.ends_with(name) && words_at(row, name).any(|at| at + 3 == row.len()))
        })
    })
}

/// Whether a text has that word, bounded by what is no part of a name.
fn names_word(text: &str, word: &str) -> bool {
    words_at(&text.to_lowercase(), &word.to_lowercase()).next().is_some()
}

/// Where that word stands in a text, both in lower case.
fn words_at<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = text[..*at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(part_of_name) && !after.is_some_and(part_of_name)
    })
}

/// PostgreSQL's refusal as data, a broken connection as an error.
fn refused<T>(
    result: Result<T, tokio_postgres::Error>,
    context: &'static str,
) -> Result<Result<T, String>, CatalogError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(source) if source.as_db_error().is_some() => Ok(Err(postgres_message(&source))),
        Err(source) => Err(CatalogError::Postgres { context, source }),
    }
}

fn postgres(context: &'static str) -> impl Fn(tokio_postgres::Error) -> CatalogError {
    move |source| CatalogError::Postgres { context, source }
}

/// A row's first column as what it describes.
fn from_json<T: serde::de::DeserializeOwned>(context: &'static str, row: &Row) -> Result<T, CatalogError> {
    let answer = |message: String| CatalogError::Answer { context, message };
    let value: serde_json::Value = row.try_get(0).map_err(|error| answer(error.to_string()))?;
    serde_json::from_value(value).map_err(|error| answer(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_whole() {
        assert!(names_word("NEW.username := lower(NEW.username);", "username"));
        assert!(names_word("NEW.\"Screen Name\" := 1", "Screen Name"));
        assert!(!names_word("NEW.username_old := 1; my_username", "username"));
    }

    #[test]
    fn a_field_is_told_from_a_word() {
        for text in [
            "NEW.handle := 1",
            "x(old . \"Handle\")",
            "if new.id = 1 and new.handle is null",
            "(OLD).handle; NEW.handle",
        ] {
            assert!(takes_field(text, "handle"), "{text}");
        }
        for text in ["-- handle it", "SELECT handle FROM renew.handle", "NEW.handles", "u.handle", "handle", ".handle"]
        {
            assert!(!takes_field(text, "handle"), "{text}");
        }
    }
}
