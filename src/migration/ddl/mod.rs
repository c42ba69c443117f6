//! The SQL of a migration's phases, derived from its lens and from what hangs on the table.
//!
//! Pure: data in, statements out. Nothing here runs one. Every step may be run again after a crash: it is idempotent,
//! or `done_when` tells whether it is done. Expects a session set up by `catalog::settle` (search_path = pg_catalog).

mod contract;
mod sync;
mod twins;

pub use contract::{contract, enter_contracting, leave_contracting};
pub use sync::{SyncMode, drop_sync, install_sync, refuse_misfits, set_sync_mode, sync_mode};
pub use twins::{build, drop_outlived};

use serde::Serialize;

use super::resolve::{FunctionKind, LensFunction, Migration, VALUE};
use super::text::{distinct, dollar_quoted, literal};
use super::walk::drop_key_function;
use super::{Expr, LensColumn, copies};
use crate::schema::{ColumnDetail, Ident, TableDetail};

/// A table lock mode, as far as our statements take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lock {
    /// None on a user's table.
    None,
    /// `ROW EXCLUSIVE`: what every write takes.
    RowExclusive,
    /// `SHARE UPDATE EXCLUSIVE`: readers and writers go on.
    ShareUpdateExclusive,
    /// `SHARE ROW EXCLUSIVE`: readers go on, writers wait.
    ShareRowExclusive,
    /// `ACCESS EXCLUSIVE`: everybody waits.
    AccessExclusive,
}

/// One step of a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// A short name, unique within the migration.
    pub name: String,
    /// Its statements, in order.
    pub statements: Vec<String>,
    /// The strongest lock that they take on the table.
    pub lock: Lock,
    /// True: all statements in one transaction. False: each by itself, outside a transaction block.
    pub transactional: bool,
    /// A query that returns one boolean, true when the step is done and must not be run again. `None`: running it
    /// again does no harm.
    pub done_when: Option<String>,
    /// What it is for.
    pub note: String,
}

/// Adds the new column, its attributes and the functions of its conversions. (shielded → expanded)
pub fn expand(migration: &Migration, detail: &TableDetail) -> Vec<Step> {
    let mut steps = Vec::new();
    if !migration.functions.is_empty() {
        steps.push(Step {
            name: "create functions".into(),
            statements: migration.functions.iter().flat_map(lens_function).collect(),
            lock: Lock::None,
            transactional: true,
            done_when: None,
            note: "convert values, for dual writes, copy and scans".into(),
        });
    }
    let table = migration.lens.table.quoted();
    let mut statements = Vec::new();
    let mut there = Vec::new();
    for (at, column) in migration.lens.new.iter().enumerate() {
        let collate = migration.carried.collation.as_ref().map(|name| format!(" COLLATE {name}")).unwrap_or_default();
        let name = column.stored().quoted();
        statements.push(format!("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {name} {}{collate}", column.type_sql));
        if let Some(old) = migration.lens.old.get(at).and_then(|old| detail.column(old.stored())) {
            statements.extend(attributes(migration, column, old));
        }
        there.push(column_exists(migration, column.stored()));
    }
    steps.push(Step {
        name: "add column".into(),
        statements,
        lock: Lock::AccessExclusive,
        transactional: true,
        done_when: Some(format!("SELECT {}", there.join(" AND "))),
        note: "no default and no rewrite of the table: the lock is held for a moment".into(),
    });
    steps
}

/// What is carried over from the old column and is no constraint, index or default.
pub(super) fn attributes(migration: &Migration, column: &LensColumn, old: &ColumnDetail) -> Vec<String> {
    let alter = format!("ALTER TABLE {} ALTER COLUMN {}", migration.lens.table.quoted(), column.stored().quoted());
    let same_type = migration.carried.same_values;
    let mut statements = Vec::new();
    statements.extend(old.statistics.map(|target| format!("{alter} SET STATISTICS {target}")));
    statements
        .extend(old.storage.as_ref().filter(|_| same_type).map(|storage| format!("{alter} SET STORAGE {storage}")));
    let compression = old.compression.as_ref().filter(|_| same_type);
    statements.extend(compression.map(|method| format!("{alter} SET COMPRESSION {method}")));
    let options: Vec<&str> = old.options.iter().map(String::as_str).filter(|option| is_settable(option)).collect();
    if !options.is_empty() {
        statements.push(format!("{alter} SET ({})", options.join(", ")));
    }
    let target = format!("{}.{}", migration.lens.table.quoted(), column.stored().quoted());
    statements.extend(old.comment.as_ref().map(|text| format!("COMMENT ON COLUMN {target} IS {}", literal(text))));
    statements.extend(old.grants.iter().map(|grant| {
        let option = if grant.grantable { " WITH GRANT OPTION" } else { "" };
        let (table, name) = (migration.lens.table.quoted(), column.stored().quoted());
        format!("GRANT {} ({name}) ON TABLE {table} TO {}{option}", grant.privilege, grant.grantee)
    }));
    statements
}

/// Whether it is a column option that people set (ALTER TABLE, "attribute_option"). A server may keep entries of its own
/// beside them: PostgreSQL 15.20 has `pg_attver`, which is each column's own, cannot be set, and is in no dump.
fn is_settable(option: &str) -> bool {
    matches!(option.split('=').next(), Some("n_distinct" | "n_distinct_inherited"))
}

/// A conversion by trying. A subtransaction for each call is what telling costs, so they are used only where nothing
/// else tells.
pub(crate) fn lens_function(function: &LensFunction) -> Vec<String> {
    let name = function.called();
    let parameters: Vec<String> =
        function.parameters.iter().map(|(name, type_sql)| format!("{} {type_sql}", name.quoted())).collect();
    let types: Vec<&str> = function.parameters.iter().map(|(_, type_sql)| type_sql.as_str()).collect();
    let (result, caught) = match function.kind {
        FunctionKind::Value | FunctionKind::Exact => ("RETURN \"~value\";", ""),
        FunctionKind::Safe | FunctionKind::Fallback => {
            ("RETURN \"~value\";", "EXCEPTION WHEN OTHERS THEN\n  RETURN NULL;\n")
        }
        FunctionKind::Error => ("RETURN NULL;", "EXCEPTION WHEN OTHERS THEN\n  RETURN SQLERRM;\n"),
    };
    // PostgreSQL before 17 allows no subtransaction in a parallel plan.
    let parallel = if caught.is_empty() && function.fallback.is_none() { "SAFE" } else { "UNSAFE" };
    let text = format!(
        "\nDECLARE\n  \"~value\" {};\nBEGIN\n{}  {result}\n{caught}END\n",
        function.type_sql,
        computed(function)
    );
    let settings: String =
        function.settings.iter().map(|(name, value)| format!(" SET {name} TO {}", setting(value))).collect();
    vec![
        format!(
            "CREATE OR REPLACE FUNCTION {name}({}) RETURNS {} LANGUAGE plpgsql IMMUTABLE PARALLEL {parallel}{settings} AS {}",
            parameters.join(", "),
            function.returns,
            dollar_quoted(&text)
        ),
        format!("GRANT EXECUTE ON FUNCTION {name}({}) TO PUBLIC", types.join(", ")),
    ]
}

/// A setting's value as SQL: a list of words stays one.
fn setting(value: &str) -> String {
    value.split(", ").map(literal).collect::<Vec<_>>().join(", ")
}

/// The statements that give `~value` its value, or raise an error.
fn computed(function: &LensFunction) -> String {
    // An assignment to a variable of the very type raises what an assignment to the column would.
    let assign = |body: &Expr| format!("  \"{VALUE}\" := {};\n", body.sql());
    let mut text = assign(&function.body);
    if let (Some(back), Some((name, type_sql))) = (&function.back, function.parameters.first()) {
        // Of a string that is assigned only blanks are cut.
        let (code, message) = if function.type_sql.starts_with("character varying(") && type_sql.as_str() != "bpchar" {
            ("22001", format!("value too long for type {}", function.type_sql))
        } else {
            ("22P02", format!("the value does not come back as it was from type {}", function.type_sql))
        };
        text.push_str(&format!(
            "  IF {} THEN\n    RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = {};\n  END IF;\n",
            distinct(type_sql, &name.quoted(), &back.sql()),
            literal(&message)
        ));
    }
    if let Some(fallback) = &function.fallback {
        let mut instead = assign(fallback);
        if function.not_null {
            instead.push_str(&format!(
                "  IF \"{VALUE}\" IS NULL THEN\n    RAISE EXCEPTION USING ERRCODE = '23502', MESSAGE = {};\n  END IF;\n",
                literal("the value for what does not fit is null")
            ));
        }
        text = format!("  BEGIN\n{text}  EXCEPTION WHEN OTHERS THEN\n{instead}  END;\n");
    }
    text
}

/// Takes everything away again. From any phase before contracted, after its fence. (rolling_back → rolled_back)
pub fn rollback(migration: &Migration, detail: &TableDetail) -> Vec<Step> {
    let table = migration.lens.table.quoted();
    let mut statements = vec![format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")];
    statements.extend(drop_sync(migration));
    for old in &migration.lens.old {
        // Where it moved to the new column it comes back; a default that is there is left alone.
        let lacks = detail.relation.column(old.stored()).is_some_and(|column| column.default.is_none());
        let Some(default) = migration.carried.default.as_ref().filter(|_| lacks) else { continue };
        statements.push(format!("ALTER TABLE {table} ALTER COLUMN {} SET DEFAULT {default}", old.stored().quoted()));
    }
    for new in &migration.lens.new {
        statements.push(format!("ALTER TABLE {table} DROP COLUMN IF EXISTS {}", new.stored().quoted()));
    }
    statements.push(format!("DROP FUNCTION IF EXISTS crossfade.{}()", migration.sync_function().quoted()));
    statements.push(drop_key_function(migration));
    statements.extend(copies::drop(migration));
    statements.extend(migration.functions.iter().map(drop_function));
    statements.push(forget_quarantine(migration));
    let gone: Vec<String> =
        migration.lens.new.iter().map(|new| format!("NOT {}", column_exists(migration, new.stored()))).collect();
    vec![Step {
        name: "drop new column".into(),
        statements,
        lock: Lock::AccessExclusive,
        transactional: true,
        done_when: Some(format!("SELECT {} AND NOT EXISTS (SELECT {})", gone.join(" AND "), sync::of_ours(migration))),
        note: "its indexes and constraints go with it; the table is as it was, with every write made meanwhile".into(),
    }]
}

pub(crate) fn drop_function(function: &LensFunction) -> String {
    let types: Vec<&str> = function.parameters.iter().map(|(_, type_sql)| type_sql.as_str()).collect();
    format!("DROP FUNCTION IF EXISTS {}({})", function.called(), types.join(", "))
}

fn forget_quarantine(migration: &Migration) -> String {
    format!("DELETE FROM crossfade.quarantine WHERE migration = {}", literal(migration.name.as_str()))
}

fn column_exists(migration: &Migration, column: &Ident) -> String {
    format!(
        "EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = {}::regclass AND attname = {} \
         AND NOT attisdropped)",
        literal(&migration.lens.table.quoted()),
        literal(column.as_str())
    )
}

fn constraint_is(migration: &Migration, constraint: &Ident, what: &str) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = {}::regclass AND conname = {} AND {what})",
        literal(&migration.lens.table.quoted()),
        literal(constraint.as_str())
    )
}
