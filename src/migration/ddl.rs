//! The SQL of a migration's phases, derived from its lens and from what hangs on the table.
//!
//! Pure: data in, statements out. Nothing here runs one. Every step may be run again after a crash: it is idempotent,
//! or `done_when` tells whether it is done. Expects a session set up by `catalog::settle` (search_path = pg_catalog).

use serde::Serialize;

use super::resolve::{FunctionKind, LensFunction, Migration, VALUE, is_exact_type};
use super::text::{all_fit, distinct, dollar_quoted, field, literal, misfit_text, out_of_step, over_new, over_old};
use super::walk::key_json;
use super::{Blocker, Expr, Invalid, LensColumn, Misfits, Phase, copies, rules};
use crate::schema::{
    ColumnDetail, Constraint, ConstraintKind, ForeignKey, Ident, Index, IndexKey, QualifiedName, TableDetail,
};

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

/// What the sync trigger does with a row whose old value does not fit, and which side wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncMode {
    /// Until verified: the row is recorded in quarantine, its new column is NULL. Old wins.
    Quarantine,
    /// From ramping on: such a write is refused with PostgreSQL's own error, unless the old storage answers for it.
    /// Old wins.
    Strict,
    /// On the way to contracting: such a write is refused. Old wins.
    Refusing,
    /// From contracting on: new wins.
    Contracting,
}

/// The mode that the trigger must have before that phase begins; `None` where it is left as it is, or is not there.
pub fn sync_mode(phase: Phase) -> Option<SyncMode> {
    match phase {
        Phase::DualWriting | Phase::Backfilling | Phase::Verified => Some(SyncMode::Quarantine),
        Phase::Ramping | Phase::Soaking => Some(SyncMode::Strict),
        Phase::Contracting => Some(SyncMode::Contracting),
        Phase::Planned
        | Phase::Shielded
        | Phase::Expanded
        | Phase::Contracted
        | Phase::RollingBack
        | Phase::RolledBack => None,
    }
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
fn attributes(migration: &Migration, column: &LensColumn, old: &ColumnDetail) -> Vec<String> {
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
        text.push_str(&format!(
            "  IF {} THEN\n    RAISE EXCEPTION USING ERRCODE = '22P02', MESSAGE = {};\n  END IF;\n",
            distinct(type_sql, &name.quoted(), &back.sql()),
            literal(&format!("the value does not come back as it was from type {}", function.type_sql))
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

/// Puts the sync trigger on the table. (expanded → dual_writing)
pub fn install_sync(migration: &Migration) -> Vec<Step> {
    let table = migration.lens.table.quoted();
    let trigger = migration.trigger();
    let create = format!(
        "CREATE TRIGGER {} BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW WHEN ({}) EXECUTE FUNCTION crossfade.{}()",
        trigger.quoted(),
        out_of_step(migration, "NEW"),
        migration.sync_function().quoted()
    );
    vec![
        set_sync_mode(migration, SyncMode::Quarantine),
        Step {
            name: "create trigger".into(),
            statements: vec![create, format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {}", trigger.quoted())],
            lock: Lock::ShareRowExclusive,
            transactional: true,
            done_when: Some(format!(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = {}::regclass AND tgname = {} \
                 AND tgenabled = 'A')",
                literal(&table),
                literal(trigger.as_str())
            )),
            note: "waits for every writer before it, so that every write behind it is covered".into(),
        },
    ]
}

/// Changes what the sync trigger does, without a table lock.
pub fn set_sync_mode(migration: &Migration, mode: SyncMode) -> Step {
    let note = match mode {
        SyncMode::Quarantine => "keep new in step with old; what does not fit goes to quarantine",
        SyncMode::Strict | SyncMode::Refusing if told(migration) && mode == SyncMode::Strict => {
            "keep new in step with old; what does not fit goes to quarantine, and is read from the old column"
        }
        SyncMode::Strict | SyncMode::Refusing => "keep new in step with old; refuse what does not fit",
        SyncMode::Contracting => "keep old in step with new",
    };
    Step {
        name: format!(
            "sync function, {}",
            match mode {
                SyncMode::Quarantine => "quarantine",
                SyncMode::Strict => "strict",
                SyncMode::Refusing => "refusing",
                SyncMode::Contracting => "contracting",
            }
        ),
        statements: vec![sync_function(migration, mode)],
        lock: Lock::None,
        transactional: true,
        done_when: None,
        note: note.into(),
    }
}

/// The trigger's function.
fn sync_function(migration: &Migration, mode: SyncMode) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION crossfade.{}() RETURNS trigger LANGUAGE plpgsql AS {}",
        migration.sync_function().quoted(),
        dollar_quoted(&sync_text(migration, mode))
    )
}

/// The text of the trigger's function. Called only for rows that are out of step (see `text::out_of_step`); whatever it does, they
/// are in step afterwards, in quarantine, or refused.
fn sync_text(migration: &Migration, mode: SyncMode) -> String {
    let body = match mode {
        SyncMode::Quarantine | SyncMode::Strict | SyncMode::Refusing => {
            format!("{}{}", old_wins(migration), old_decides(migration, &misfit(migration, mode)))
        }
        SyncMode::Contracting => format!("{}{}", new_wins(migration), old_decides(migration, &refused(migration))),
    };
    format!("\nDECLARE\n  new_decides boolean;\nBEGIN\n{body}END\n")
}

/// Old decides, unless new was written and old was not.
fn old_wins(migration: &Migration) -> String {
    format!(
        "  IF TG_OP = 'INSERT' THEN\n    new_decides := {old_null} AND NOT ({new_null});\n  \
         ELSE\n    new_decides := {new_changed} AND NOT {old_changed};\n  END IF;\n  \
         IF new_decides THEN\n{down}  END IF;\n",
        old_null = all_null(&migration.lens.old),
        new_null = all_null(&migration.lens.new),
        new_changed = changed(&migration.lens.new),
        old_changed = changed(&migration.lens.old),
        down = assign_old(migration, "    "),
    )
}

/// New decides, unless old was written and new was not, or old was written and does not fit: a proxy whose transaction
/// began before contracting stores such a value beside NULL, and it must be refused rather than lost.
///
/// Where old had a default, it has moved to new: an old value in an INSERT was then given by the statement, and a new
/// one perhaps not.
fn new_wins(migration: &Migration) -> String {
    let on_insert = match migration.carried.default {
        Some(_) => all_null(&migration.lens.old),
        None => format!("NOT ({})", all_null(&migration.lens.new)),
    };
    format!(
        "  IF TG_OP = 'INSERT' THEN\n    new_decides := {on_insert};\n  \
         ELSE\n    new_decides := NOT {old_changed} OR {new_changed}{fits};\n  END IF;\n  \
         IF new_decides THEN\n{down}    RETURN NEW;\n  END IF;\n",
        new_changed = changed(&migration.lens.new),
        fits = all_fit(migration, "NEW").map(|fits| format!(" AND ({fits})")).unwrap_or_default(),
        old_changed = changed(&migration.lens.old),
        down = assign_old(migration, "    "),
    )
}

/// What becomes of a row whose old value does not fit, while both storages are complete or on their way to it.
///
/// | | until verified | from the first switch of reads on |
/// |---|---|---|
/// | `invalid = "reject"` | refused; where the old value is not what is written, quarantine | the same |
/// | the old storage answers for it (`LensColumn::misfits`) | quarantine | quarantine |
/// | else | quarantine | refused |
fn misfit(migration: &Migration, mode: SyncMode) -> String {
    match (&migration.invalid, mode) {
        (Invalid::Reject, _) => format!(
            "    IF TG_OP = 'INSERT' THEN\n{refused}    ELSIF {changed} THEN\n{refused}    END IF;\n{noted}",
            refused = refused(migration),
            changed = changed(&migration.lens.old),
            noted = quarantined(migration),
        ),
        (_, SyncMode::Quarantine) => quarantined(migration),
        (_, SyncMode::Strict) if told(migration) => quarantined(migration),
        (_, SyncMode::Strict | SyncMode::Refusing | SyncMode::Contracting) => refused(migration),
    }
}

/// Whether the old storage answers for what does not fit, as long as there is one.
fn told(migration: &Migration) -> bool {
    migration.lens.new.iter().all(|column| column.misfits != Misfits::Never)
}

/// What must hold before the last look at what does not fit: from then on no row that does not can come. `None` where that
/// holds since reads may move. (soaking)
pub fn refuse_misfits(migration: &Migration) -> Option<Step> {
    let any = migration.lens.new.iter().any(|column| column.from.fits.is_some());
    (any && told(migration)).then(|| set_sync_mode(migration, SyncMode::Refusing))
}

/// New follows old; `misfit` is done with what does not fit.
fn old_decides(migration: &Migration, misfit: &str) -> String {
    let mut text = String::new();
    let safe: String = migration
        .lens
        .new
        .iter()
        .map(|column| {
            format!("  NEW.{} := {};\n", column.stored().quoted(), over_old(migration, &column.from.safe, "NEW"))
        })
        .collect();
    if let Some(fits) = all_fit(migration, "NEW") {
        text.push_str(&format!("  IF NOT ({fits}) THEN\n{misfit}  END IF;\n"));
    }
    text.push_str(&safe);
    text.push_str("  RETURN NEW;\n");
    text
}

fn quarantined(migration: &Migration) -> String {
    format!(
        "    PERFORM crossfade.note_misfit({}, {}, {});\n",
        literal(migration.name.as_str()),
        key_json(migration, "NEW"),
        misfit_text(migration, "NEW")
    )
}

/// PostgreSQL's own error, by the assignment itself; where that would cut in silence (trailing blanks), one like it.
fn refused(migration: &Migration) -> String {
    let mut text = assign_new(migration, "    ");
    text.push_str(&format!(
        "    RAISE EXCEPTION USING ERRCODE = '22001', MESSAGE = {};\n",
        misfit_text(migration, "NEW")
    ));
    text
}

fn assign_new(migration: &Migration, indent: &str) -> String {
    let one = |column: &LensColumn| {
        let value = over_old(migration, &column.from.assign, "NEW");
        format!("{indent}NEW.{} := {value};\n", column.stored().quoted())
    };
    migration.lens.new.iter().map(one).collect()
}

fn assign_old(migration: &Migration, indent: &str) -> String {
    let one = |column: &LensColumn| {
        let value = over_new(migration, &column.from.assign, "NEW");
        format!("{indent}NEW.{} := {value};\n", column.stored().quoted())
    };
    migration.lens.old.iter().map(one).collect()
}

fn all_null(columns: &[LensColumn]) -> String {
    let each: Vec<String> = columns.iter().map(|column| format!("{} IS NULL", field("NEW", column.stored()))).collect();
    each.join(" AND ")
}

fn changed(columns: &[LensColumn]) -> String {
    let each: Vec<String> = columns
        .iter()
        .map(|column| distinct(&column.base_type_sql, &field("NEW", column.stored()), &field("OLD", column.stored())))
        .collect();
    if each.len() == 1 { each.concat() } else { format!("({})", each.join(" OR ")) }
}

/// Builds what the old column has on the new one: indexes, checks, foreign keys; then ANALYZE. (after the copy)
pub fn build(migration: &Migration, detail: &TableDetail) -> Result<Vec<Step>, Vec<Blocker>> {
    let mut steps = Vec::new();
    let mut blockers = Vec::new();
    for index in carried_indexes(migration, detail) {
        match twin_index(migration, detail, index) {
            Ok(step) => steps.push(step),
            Err(blocker) => blockers.push(blocker),
        }
        steps.extend(mirrors(migration, detail, index));
    }
    blockers.extend(not_carried(migration, detail));
    for constraint in carried_constraints(migration, detail) {
        match twin_constraint(migration, detail, constraint) {
            Ok(built) => steps.extend(built),
            Err(blocker) => blockers.push(blocker),
        }
    }
    if !blockers.is_empty() {
        return Err(blockers);
    }
    steps.push(Step {
        name: "analyze".into(),
        statements: vec![format!("ANALYZE {}", migration.lens.table.quoted())],
        lock: Lock::ShareUpdateExclusive,
        transactional: false,
        done_when: None,
        note: "the planner must know the new column before it is read".into(),
    });
    Ok(steps)
}

/// Drops what was built on the new column for an index or constraint of the old one that is there no more: whoever dropped that
/// one did not know of it. (while both columns are kept in step)
pub fn drop_outlived(migration: &Migration, detail: &TableDetail) -> Vec<Step> {
    let (table, schema) = (migration.lens.table.quoted(), migration.lens.table.schema.quoted());
    let outlived = |name: &&Ident, kinds: &[char], all: &[&Ident]| {
        let ours = |kind: &char| name.as_str().starts_with(&format!("{}{kind}_", migration.object_prefix()));
        let of = |original: &&Ident| kinds.iter().any(|kind| migration.twin(*kind, original) == **name);
        kinds.iter().any(ours) && !all.iter().any(of)
    };
    let step = |statement: String, lock: Lock| Step {
        name: "drop what was built for something that is gone".into(),
        statements: vec![statement],
        lock,
        transactional: lock == Lock::AccessExclusive,
        done_when: None,
        note: "an index or constraint of the old column was dropped".into(),
    };
    let indexes: Vec<&Ident> = detail.indexes.iter().map(|index| &index.name).collect();
    let constraints: Vec<&Ident> = detail.constraints.iter().map(|constraint| &constraint.name).collect();
    let gone = indexes.iter().copied().filter(|name| outlived(name, &INDEX_KINDS, &indexes));
    let mut steps: Vec<Step> = gone
        .map(|name| {
            let statement = format!("DROP INDEX CONCURRENTLY IF EXISTS {schema}.{}", name.quoted());
            step(statement, Lock::ShareUpdateExclusive)
        })
        .collect();
    let gone = constraints.iter().copied().filter(|name| outlived(name, &CONSTRAINT_KINDS, &constraints));
    steps.extend(gone.map(|name| {
        step(format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {}", name.quoted()), Lock::AccessExclusive)
    }));
    steps
}

/// What the twins of indexes are called by: the twin itself, and the mirrors that serve what old sessions read.
const INDEX_KINDS: [char; 3] = ['i', 'm', 'k'];

/// The same of checks and foreign keys.
const CONSTRAINT_KINDS: [char; 2] = ['c', 'f'];

/// The indexes that use an old column, without those that we made and those that are not valid anyway.
fn carried_indexes<'a>(migration: &'a Migration, detail: &'a TableDetail) -> impl Iterator<Item = &'a Index> {
    let numbers: Vec<i16> =
        migration.lens.old.iter().filter_map(|old| detail.relation.column(old.stored())).map(|c| c.number).collect();
    let ours = migration.object_prefix();
    detail.indexes.iter().filter(move |index| {
        index.valid
            && !index.name.as_str().starts_with(&ours)
            && index.uses.iter().any(|number| numbers.contains(number))
    })
}

/// The checks and foreign keys that name an old column and hold for the same values under the new name.
fn carried_constraints<'a>(migration: &'a Migration, detail: &'a TableDetail) -> impl Iterator<Item = &'a Constraint> {
    let ours = migration.object_prefix();
    detail.constraints.iter().filter(move |constraint| {
        let kind = match constraint.kind {
            ConstraintKind::Check | ConstraintKind::ForeignKey => true,
            ConstraintKind::PrimaryKey
            | ConstraintKind::Unique
            | ConstraintKind::Exclusion
            | ConstraintKind::NotNull
            | ConstraintKind::Trigger => false,
        };
        let named = constraint.columns.iter().any(|name| is_old(migration, name));
        kind && named && migration.carried.same_values && !constraint.name.as_str().starts_with(&ours)
    })
}

/// Checks and foreign keys of the old column that say nothing of the new one's values. They would be lost.
fn not_carried(migration: &Migration, detail: &TableDetail) -> Vec<Blocker> {
    if migration.carried.same_values {
        return Vec::new();
    }
    let named = detail.constraints.iter().filter(|constraint| {
        let kind = matches!(constraint.kind, ConstraintKind::Check | ConstraintKind::ForeignKey);
        kind && constraint.columns.iter().any(|name| is_old(migration, name))
    });
    let blocker = |constraint: &Constraint| {
        Blocker::new(
            "constraint_not_carried",
            format!("constraint {:?} cannot be put on the new column", constraint.name.as_str()),
            "It is about the old column's values, and the new ones are others; it would be lost with the old column.",
            "Drop it before, and add one that suits the new values after the migration.",
        )
    };
    named.map(blocker).collect()
}

fn is_old(migration: &Migration, name: &Ident) -> bool {
    migration.lens.old.iter().any(|old| old.stored() == name)
}

/// The new column in the place of an old one; every other column as it is.
fn renamed(migration: &Migration, name: &Ident) -> Ident {
    let old = migration.lens.old.iter().position(|old| old.stored() == name);
    old.and_then(|at| migration.lens.new.get(at)).map_or_else(|| name.clone(), |new| new.stored().clone())
}

/// PostgreSQL's own text of an expression over the table, over the new columns.
fn carried_expression(migration: &Migration, detail: &TableDetail, sql: &str) -> Result<String, String> {
    let columns: Vec<Ident> = detail.relation.columns.iter().map(|column| column.name.clone()).collect();
    let expr = Expr::parse(sql, &columns).map_err(|error| error.message)?;
    if !migration.carried.same_values && expr.columns().any(|name| is_old(migration, name)) {
        return Err("it is an expression over the old column's values, and the new ones are others".to_owned());
    }
    Ok(expr.render(|name| renamed(migration, name).quoted()))
}

fn twin_index(migration: &Migration, detail: &TableDetail, index: &Index) -> Result<Step, Blocker> {
    let underivable = |why: String| {
        Blocker::new(
            "index_not_derivable",
            format!("index {:?} cannot be built on the new column", index.name.as_str()),
            format!("{why}."),
            "Drop it before, and build it on the new column after the migration.",
        )
    };
    ambiguous_when_unique(migration, index).map_err(underivable)?;
    let mut parts = Vec::new();
    for key in &index.keys {
        parts.push(index_part(migration, detail, key).map_err(underivable)?);
    }
    let predicate = index.predicate.as_ref().map(|sql| carried_expression(migration, detail, sql)).transpose();
    let predicate = predicate.map_err(underivable)?;
    let name = migration.twin('i', &index.name);
    Ok(index_step(migration, index, &Copied { name, unique: index.unique, like: "index", parts, predicate }))
}

/// Whether a unique index over the new values would refuse old ones that differ.
fn ambiguous_when_unique(migration: &Migration, index: &Index) -> Result<(), String> {
    let keyed = |old: &LensColumn| index.keys.iter().any(|key| key.column.as_ref() == Some(old.stored()));
    if !index.unique || !migration.lens.old.iter().any(keyed) {
        return Ok(());
    }
    for column in &migration.lens.new {
        let sharing = match &column.misfits {
            Misfits::Never => false,
            Misfits::Null => index.nulls_not_distinct,
            Misfits::Fallback(_) => true,
        };
        if sharing {
            return Err("it is unique, and rows that do not fit would have the same new value".to_owned());
        }
        // What does not come back is kept out, so that equal new values were equal: as the type tells it.
        let written = !migration.carried.same_values && migration.functions.iter().any(|f| f.back.is_some());
        if written && !is_exact_type(&column.base_type_sql) {
            let type_sql = &column.type_sql;
            return Err(format!("it is unique, and values that differ as they are written may be equal as {type_sql}"));
        }
    }
    Ok(())
}

/// An index of ours that is like one of the user's.
struct Copied {
    name: Ident,
    unique: bool,
    like: &'static str,
    parts: Vec<String>,
    predicate: Option<String>,
}

fn index_step(migration: &Migration, index: &Index, copied: &Copied) -> Step {
    let name = QualifiedName { schema: migration.lens.table.schema.clone(), name: copied.name.clone() };
    let mut sql = format!(
        "CREATE {}INDEX CONCURRENTLY {} ON {} USING {} ({})",
        if copied.unique { "UNIQUE " } else { "" },
        name.name.quoted(),
        migration.lens.table.quoted(),
        index.method,
        copied.parts.join(", ")
    );
    if !index.include.is_empty() {
        let columns: Vec<String> = index.include.iter().map(|name| renamed(migration, name).quoted()).collect();
        sql.push_str(&format!(" INCLUDE ({})", columns.join(", ")));
    }
    if index.nulls_not_distinct && copied.unique {
        sql.push_str(" NULLS NOT DISTINCT");
    }
    if !index.options.is_empty() {
        sql.push_str(&format!(" WITH ({})", index.options.join(", ")));
    }
    sql.extend(index.tablespace.as_ref().map(|name| format!(" TABLESPACE {name}")));
    sql.extend(copied.predicate.as_ref().map(|predicate| format!(" WHERE {predicate}")));
    Step {
        name: format!("{} like {}", copied.like, index.name),
        statements: vec![format!("DROP INDEX CONCURRENTLY IF EXISTS {}", name.quoted()), sql],
        lock: Lock::ShareUpdateExclusive,
        transactional: false,
        done_when: Some(format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = {}::regclass AND \
             indexrelid = pg_catalog.to_regclass({}) AND indisvalid)",
            literal(&migration.lens.table.quoted()),
            literal(&name.quoted())
        )),
        note: "built beside running writes; what a failed attempt left is dropped first".into(),
    }
}

fn index_part(migration: &Migration, detail: &TableDetail, key: &IndexKey) -> Result<String, String> {
    let over_old = key.column.as_ref().is_some_and(|name| is_old(migration, name));
    if let Some(opclass) = key.opclass.as_ref().filter(|_| over_old && !migration.carried.same_values) {
        return Err(format!("operator class {opclass} may not suit the new column's type"));
    }
    let part = match (&key.column, &key.expression) {
        (Some(column), _) => renamed(migration, column).quoted(),
        (None, Some(expression)) => format!("({})", carried_expression(migration, detail, expression)?),
        (None, None) => return Err("one of its parts is neither a column nor an expression".to_owned()),
    };
    // The new column's type may have no collation at all.
    let strings = |new: &LensColumn| matches!(&*new.base_type_sql, "text" | "character varying" | "bpchar");
    let collatable = !over_old || migration.carried.same_values || migration.lens.new.iter().all(strings);
    let collation = key.collation.as_ref().filter(|_| collatable);
    Ok(ordered_part(part, key, collation))
}

/// A key part with what the index says of its order.
fn ordered_part(mut part: String, key: &IndexKey, collation: Option<&String>) -> String {
    part.extend(collation.map(|name| format!(" COLLATE {name}")));
    if let Some(opclass) = &key.opclass {
        part.push_str(&format!(" {opclass}"));
        if !key.opclass_options.is_empty() {
            part.push_str(&format!(" ({})", key.opclass_options.join(", ")));
        }
    }
    // The defaults are left out: access methods without an order refuse the words.
    match (key.descending, key.nulls_first) {
        (false, false) => {}
        (false, true) => part.push_str(" NULLS FIRST"),
        (true, true) => part.push_str(" DESC"),
        (true, false) => part.push_str(" DESC NULLS LAST"),
    }
    part
}

/// The index over what sessions of the old shape read from new storage, so that their conditions find one: as they read
/// from the contract on, and as they read while both storages exist, where that is another expression.
fn mirrors(migration: &Migration, detail: &TableDetail, index: &Index) -> Vec<Step> {
    let read = |phase: Phase| {
        let of = |old: &LensColumn| rules::read_from_new(&migration.lens, old, phase);
        migration.lens.old.iter().map(of).collect::<Vec<Expr>>()
    };
    let (soaking, contracting) = (read(Phase::Soaking), read(Phase::Contracting));
    let keyed = |old: &LensColumn| index.keys.iter().any(|key| key.column.as_ref() == Some(old.stored()));
    let served = migration
        .lens
        .old
        .iter()
        .zip(&contracting)
        .all(|(old, read)| !keyed(old) || is_relabelled(migration, old, read));
    let mut steps = Vec::new();
    if !served {
        steps.extend(mirror(migration, detail, index, 'm', &contracting));
    }
    let keyed_read = migration.lens.old.iter().any(keyed) && soaking != contracting;
    if keyed_read {
        steps.extend(mirror(migration, detail, index, 'k', &soaking));
    }
    steps
}

/// Whether the planner takes what is read for the stored column: it is, or a cast between strings that changes nothing.
fn is_relabelled(migration: &Migration, old: &LensColumn, read: &Expr) -> bool {
    let string = |type_sql: &str| matches!(type_sql, "text" | "character varying");
    let new = read.columns().next().and_then(|name| migration.lens.new.iter().find(|new| new.stored() == name));
    let strings = string(&old.base_type_sql) && new.is_some_and(|new| string(&new.base_type_sql));
    let cast = old.from.read.sql()
        == format!("{}::{}", old.from.read.columns().next().map_or_else(String::new, Ident::quoted), old.type_sql);
    read.as_column().is_some() || strings && cast
}

fn mirror(migration: &Migration, detail: &TableDetail, index: &Index, kind: char, reads: &[Expr]) -> Option<Step> {
    let mut parts = Vec::new();
    for key in &index.keys {
        let old = migration.lens.old.iter().position(|old| key.column.as_ref() == Some(old.stored()));
        let part = match old.and_then(|at| reads.get(at)) {
            Some(read) => ordered_part(format!("({})", read.sql()), key, key.collation.as_ref()),
            None => index_part(migration, detail, key).ok()?,
        };
        parts.push(part);
    }
    let predicate = match &index.predicate {
        Some(sql) => Some(carried_expression(migration, detail, sql).ok()?),
        None => None,
    };
    let name = migration.twin(kind, &index.name);
    let mut step = index_step(migration, index, &Copied { name, unique: false, like: "old reads", parts, predicate });
    step.name = format!("{}, {kind}", step.name);
    step.note = match kind {
        'k' => {
            "serves the reads of old sessions from the new column while both are there; goes with the old one".into()
        }
        _ => "serves the reads of old sessions from the new column, for as long as there are any".into(),
    };
    Some(step)
}

fn twin_constraint(migration: &Migration, detail: &TableDetail, constraint: &Constraint) -> Result<Vec<Step>, Blocker> {
    let (kind, definition) = match (&constraint.foreign, &constraint.expression) {
        (Some(foreign), _) => ('f', foreign_key(migration, constraint, foreign)),
        (None, Some(expression)) => {
            let expression = carried_expression(migration, detail, expression).map_err(|why| {
                Blocker::new(
                    "check_not_derivable",
                    format!("check {:?} cannot be put on the new column", constraint.name.as_str()),
                    format!("{why}."),
                    "Drop it before, and add it on the new column after the migration.",
                )
            })?;
            let inherit = if constraint.no_inherit { " NO INHERIT" } else { "" };
            ('c', format!("CHECK ({expression}){inherit}"))
        }
        (None, None) => return Ok(Vec::new()),
    };
    let table = migration.lens.table.quoted();
    let twin = migration.twin(kind, &constraint.name);
    let valid = if constraint.not_enforced { " NOT ENFORCED" } else { " NOT VALID" };
    let mut steps = vec![Step {
        name: format!("constraint like {}", constraint.name),
        statements: vec![format!("ALTER TABLE {table} ADD CONSTRAINT {} {definition}{valid}", twin.quoted())],
        lock: if kind == 'f' { Lock::ShareRowExclusive } else { Lock::AccessExclusive },
        transactional: true,
        done_when: Some(constraint_is(migration, &twin, "true")),
        note: "holds for new writes at once; the rows that are there are not read under this lock".into(),
    }];
    if constraint.validated && !constraint.not_enforced {
        steps.push(validate(migration, &twin, &format!("validate like {}", constraint.name)));
    }
    Ok(steps)
}

fn validate(migration: &Migration, constraint: &Ident, name: &str) -> Step {
    Step {
        name: name.to_owned(),
        statements: vec![format!(
            "ALTER TABLE {} VALIDATE CONSTRAINT {}",
            migration.lens.table.quoted(),
            constraint.quoted()
        )],
        lock: Lock::ShareUpdateExclusive,
        transactional: true,
        done_when: Some(constraint_is(migration, constraint, "convalidated")),
        note: "reads the table beside running writes".into(),
    }
}

fn foreign_key(migration: &Migration, constraint: &Constraint, foreign: &ForeignKey) -> String {
    let names = |columns: &[Ident]| columns.iter().map(Ident::quoted).collect::<Vec<_>>().join(", ");
    let own: Vec<Ident> = constraint.columns.iter().map(|name| renamed(migration, name)).collect();
    let mut sql =
        format!("FOREIGN KEY ({}) REFERENCES {} ({})", names(&own), foreign.table.quoted(), names(&foreign.columns));
    if foreign.match_type == "f" {
        sql.push_str(" MATCH FULL");
    }
    sql.push_str(&format!(" ON UPDATE {}", action(&foreign.on_update)));
    sql.push_str(&format!(" ON DELETE {}", action(&foreign.on_delete)));
    if !foreign.on_delete_columns.is_empty() {
        let set: Vec<Ident> = foreign.on_delete_columns.iter().map(|name| renamed(migration, name)).collect();
        sql.push_str(&format!(" ({})", names(&set)));
    }
    // Whatever the original is: that one objects first, under its own name, and a session may put only that one off. The twin
    // gets its way when it takes the original's place.
    sql.push_str(" DEFERRABLE INITIALLY DEFERRED");
    sql
}

/// `pg_constraint.confupdtype` and `confdeltype` as SQL.
fn action(letter: &str) -> &'static str {
    match letter {
        "r" => "RESTRICT",
        "c" => "CASCADE",
        "n" => "SET NULL",
        "d" => "SET DEFAULT",
        _ => "NO ACTION",
    }
}

/// What must hold before the proxies stop naming the old column: NOT NULL on the new one, a way for COPY, the trigger in
/// contracting mode, the default moved. (soaking → contracting)
pub fn enter_contracting(migration: &Migration, detail: &TableDetail) -> Vec<Step> {
    let mut steps = Vec::new();
    let table = migration.lens.table.quoted();
    for (old, new) in migration.lens.old.iter().zip(&migration.lens.new) {
        if detail.relation.column(old.stored()).is_some_and(|column| column.not_null) {
            steps.extend(not_null(migration, new.stored()));
        }
    }
    steps.extend(copies::create(migration, detail));
    let mut switch = set_sync_mode(migration, SyncMode::Contracting);
    if let ([old], [new]) = (&*migration.lens.old, &*migration.lens.new)
        && let Some(moved) = migration.moved_default(new)
    {
        switch.statements.insert(0, format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"));
        switch
            .statements
            .push(format!("ALTER TABLE {table} ALTER COLUMN {} SET DEFAULT {moved}", new.stored().quoted()));
        switch.statements.push(format!("ALTER TABLE {table} ALTER COLUMN {} DROP DEFAULT", old.stored().quoted()));
        switch.lock = Lock::AccessExclusive;
        switch.note = "the default moves to the new column, and the trigger keeps old in step with new".into();
    }
    steps.push(switch);
    steps
}

/// Undoes what entering `contracting` did, while proxies write both columns or neither: old wins again, and has its
/// default. (on the way from soaking or ramping to rolling_back; done already where contracting was never entered)
pub fn leave_contracting(migration: &Migration) -> Step {
    let table = migration.lens.table.quoted();
    let default = migration.carried.default.as_ref();
    let mut statements = vec![sync_function(migration, SyncMode::Strict)];
    let mut done = format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE oid = pg_catalog.to_regprocedure({}) AND prosrc = {})",
        literal(&format!("crossfade.{}()", migration.sync_function().quoted())),
        literal(&sync_text(migration, SyncMode::Strict))
    );
    if let Some(default) = default {
        statements.insert(0, format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"));
        for new in &migration.lens.new {
            statements.push(format!("ALTER TABLE {table} ALTER COLUMN {} DROP DEFAULT", new.stored().quoted()));
        }
        for old in &migration.lens.old {
            statements
                .push(format!("ALTER TABLE {table} ALTER COLUMN {} SET DEFAULT {default}", old.stored().quoted()));
            done.push_str(&format!(
                " AND EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = {}::regclass AND attname = {} AND atthasdef)",
                literal(&table),
                literal(old.stored().as_str())
            ));
        }
    }
    Step {
        name: "let old win again".into(),
        statements,
        lock: if default.is_some() { Lock::AccessExclusive } else { Lock::None },
        transactional: true,
        done_when: Some(done),
        note: "the trigger keeps new in step with old again, and the default is the old column's".into(),
    }
}

/// NOT NULL without a scan under an exclusive lock: PostgreSQL takes a validated CHECK for proof.
fn not_null(migration: &Migration, column: &Ident) -> Vec<Step> {
    let table = migration.lens.table.quoted();
    let check = migration.twin('n', column);
    let done = format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = {}::regclass AND attname = {} \
         AND NOT attisdropped AND attnotnull)",
        literal(&table),
        literal(column.as_str())
    );
    let or_there = |there: String| format!("SELECT ({done}) OR ({there})");
    let mut validate = validate(migration, &check, "validate not null");
    validate.done_when = validate.done_when.map(or_there);
    vec![
        Step {
            name: "check not null".into(),
            statements: vec![format!(
                "ALTER TABLE {table} ADD CONSTRAINT {} CHECK ({} IS NOT NULL) NOT VALID",
                check.quoted(),
                column.quoted()
            )],
            lock: Lock::AccessExclusive,
            transactional: true,
            done_when: Some(or_there(constraint_is(migration, &check, "true"))),
            note: "a check first, so that the table is not read under the exclusive lock".into(),
        },
        validate,
        Step {
            name: "set not null".into(),
            statements: vec![
                format!("ALTER TABLE {table} ALTER COLUMN {} SET NOT NULL", column.quoted()),
                format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {}", check.quoted()),
            ],
            lock: Lock::AccessExclusive,
            transactional: true,
            done_when: Some(done),
            note: "the validated check spares the scan".into(),
        },
    ]
}

/// Drops the old column and gives its names to what was built on the new one. (contracting → contracted)
///
/// Fails where something of the old column has no counterpart on the new one yet.
pub fn contract(migration: &Migration, detail: &TableDetail) -> Result<Vec<Step>, Vec<Blocker>> {
    let table = migration.lens.table.quoted();
    let mut blockers = Vec::new();
    let mut statements = vec![
        format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"),
        format!("DROP TRIGGER IF EXISTS {} ON {table}", migration.trigger().quoted()),
    ];
    for (old, new) in migration.lens.old.iter().zip(&migration.lens.new) {
        let sequence = detail.column(old.stored()).and_then(|column| column.owned_sequence.as_ref());
        let owner = format!("{table}.{}", new.stored().quoted());
        statements.extend(sequence.map(|sequence| format!("ALTER SEQUENCE {sequence} OWNED BY {owner}")));
    }
    for old in &migration.lens.old {
        statements.push(format!("ALTER TABLE {table} DROP COLUMN {}", old.stored().quoted()));
    }
    let storages = migration.lens.new.iter().filter(|new| new.stored() != &new.name);
    statements
        .extend(storages.map(|new| {
            format!("ALTER TABLE {table} RENAME COLUMN {} TO {}", new.stored().quoted(), new.name.quoted())
        }));
    for index in carried_indexes(migration, detail) {
        match take_index_name(migration, detail, index) {
            Ok(renames) => statements.extend(renames),
            Err(blocker) => blockers.push(blocker),
        }
    }
    for constraint in carried_constraints(migration, detail) {
        match take_constraint_name(migration, detail, constraint) {
            Ok(renames) => statements.extend(renames),
            Err(blocker) => blockers.push(blocker),
        }
    }
    if !blockers.is_empty() {
        return Err(blockers);
    }
    statements.extend(take_not_null_names(migration, detail));
    statements.extend(copies::after_contract(migration, detail));
    statements.push(format!("DROP FUNCTION IF EXISTS crossfade.{}()", migration.sync_function().quoted()));
    statements.extend(migration.functions.iter().filter(|f| !serves_contracted(migration, f)).map(drop_function));
    statements.push(forget_quarantine(migration));
    // Where the new column took the old one's name, the name of its storage is what is gone.
    let taken = |name: &Ident| migration.lens.new.iter().any(|new| &new.name == name);
    let old = migration.lens.old.iter().map(LensColumn::stored).filter(|name| !taken(name));
    let storages = migration.lens.new.iter().filter(|new| new.stored() != &new.name).map(LensColumn::stored);
    let gone: Vec<String> = old.chain(storages).map(|name| format!("NOT {}", column_exists(migration, name))).collect();
    Ok(vec![Step {
        name: "drop old column".into(),
        statements,
        lock: Lock::AccessExclusive,
        transactional: true,
        done_when: Some(format!("SELECT {}", gone.join(" AND "))),
        note: "one transaction, so that no moment is in between; this cannot be undone".into(),
    }])
}

/// Whether the function is still called when old sessions are served from new storage.
fn serves_contracted(migration: &Migration, function: &LensFunction) -> bool {
    let read = migration.lens.old.iter().map(|old| &old.from.read);
    let stored = migration.lens.new.iter().map(|new| &new.from.assign);
    read.chain(stored).any(|expr| function.is_called_by(expr))
}

fn not_built(what: &str, name: &Ident) -> Blocker {
    Blocker::new(
        "not_built",
        format!("{what} {:?} has no counterpart on the new column", name.as_str()),
        "It would be lost with the old column; it was made after the others were built, or its counterpart was dropped.",
        "Drop it, or roll back to verified and let the migration build it.",
    )
}

fn take_index_name(migration: &Migration, detail: &TableDetail, index: &Index) -> Result<Vec<String>, Blocker> {
    let table = migration.lens.table.quoted();
    let twin = migration.twin('i', &index.name);
    if !detail.index(&twin).is_some_and(|twin| twin.valid) {
        return Err(not_built("index", &index.name));
    }
    let schema = migration.lens.table.schema.quoted();
    let mut statements = Vec::new();
    match &index.constraint {
        Some(constraint) => statements.push(format!(
            "ALTER TABLE {table} ADD CONSTRAINT {} UNIQUE USING INDEX {}",
            constraint.quoted(),
            twin.quoted()
        )),
        None => statements.push(format!("ALTER INDEX {schema}.{} RENAME TO {}", twin.quoted(), index.name.quoted())),
    }
    let name = index.name.quoted();
    statements.extend(index.comment.as_ref().map(|t| format!("COMMENT ON INDEX {schema}.{name} IS {}", literal(t))));
    if index.clustered {
        statements.push(format!("ALTER TABLE {table} CLUSTER ON {name}"));
    }
    // It went with the old column; a published table without one takes no UPDATE and no DELETE.
    if index.replica_identity {
        statements.push(format!("ALTER TABLE {table} REPLICA IDENTITY USING INDEX {name}"));
    }
    if let Some(owner) = index.constraint.as_ref().and_then(|name| detail.constraint(name)) {
        statements.extend(constraint_comment(migration, owner));
    }
    Ok(statements)
}

fn constraint_comment(migration: &Migration, constraint: &Constraint) -> Option<String> {
    let text = constraint.comment.as_ref()?;
    let (name, table) = (constraint.name.quoted(), migration.lens.table.quoted());
    Some(format!("COMMENT ON CONSTRAINT {name} ON {table} IS {}", literal(text)))
}

fn take_constraint_name(
    migration: &Migration,
    detail: &TableDetail,
    constraint: &Constraint,
) -> Result<Vec<String>, Blocker> {
    let kind = if constraint.foreign.is_some() { 'f' } else { 'c' };
    let twin = migration.twin(kind, &constraint.name);
    let built = detail.constraint(&twin);
    if !built.is_some_and(|built| built.validated || !constraint.validated) {
        return Err(not_built("constraint", &constraint.name));
    }
    let mut statements = vec![format!(
        "ALTER TABLE {} RENAME CONSTRAINT {} TO {}",
        migration.lens.table.quoted(),
        twin.quoted(),
        constraint.name.quoted()
    )];
    if constraint.foreign.is_some() && !constraint.deferred {
        let (table, name) = (migration.lens.table.quoted(), constraint.name.quoted());
        let when = if constraint.deferrable { "DEFERRABLE INITIALLY IMMEDIATE" } else { "NOT DEFERRABLE" };
        statements.push(format!("ALTER TABLE {table} ALTER CONSTRAINT {name} {when}"));
    }
    statements.extend(constraint_comment(migration, constraint));
    Ok(statements)
}

/// From PostgreSQL 18 on, NOT NULL is a constraint with a name of its own.
fn take_not_null_names(migration: &Migration, detail: &TableDetail) -> Vec<String> {
    let named = |column: &Ident| {
        let of_column = |c: &&Constraint| c.kind == ConstraintKind::NotNull && c.columns == [column.clone()];
        detail.constraints.iter().find(of_column)
    };
    let pairs = migration.lens.old.iter().zip(&migration.lens.new);
    let renames = pairs.filter_map(|(old, new)| Some((named(old.stored())?, named(new.stored())?)));
    renames
        .map(|(old, new)| {
            let table = migration.lens.table.quoted();
            format!("ALTER TABLE {table} RENAME CONSTRAINT {} TO {}", new.name.quoted(), old.name.quoted())
        })
        .collect()
}

/// Takes everything away again. From any phase before contracted, after its fence. (rolling_back → rolled_back)
pub fn rollback(migration: &Migration, detail: &TableDetail) -> Vec<Step> {
    let table = migration.lens.table.quoted();
    let mut statements = vec![
        format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"),
        format!("DROP TRIGGER IF EXISTS {} ON {table}", migration.trigger().quoted()),
    ];
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
        done_when: Some(format!(
            "SELECT {} AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = {}::regclass AND tgname = {})",
            gone.join(" AND "),
            literal(&table),
            literal(migration.trigger().as_str())
        )),
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
