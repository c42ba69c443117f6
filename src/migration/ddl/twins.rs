//! What the old column has, built on the new one: indexes, checks and foreign keys, each a *twin* of the old one's; and *mirrors*,
//! indexes that serve what old sessions read once the old column is gone.

use super::{Lock, Step, constraint_is};
use crate::migration::resolve::{Migration, is_exact_type};
use crate::migration::text::literal;
use crate::migration::{Blocker, Expr, LensColumn, Misfits, Phase, rules};
use crate::schema::{Constraint, ConstraintKind, ForeignKey, Ident, Index, IndexKey, QualifiedName, TableDetail};

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
pub(super) fn carried_indexes<'a>(
    migration: &'a Migration,
    detail: &'a TableDetail,
) -> impl Iterator<Item = &'a Index> {
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
pub(super) fn carried_constraints<'a>(
    migration: &'a Migration,
    detail: &'a TableDetail,
) -> impl Iterator<Item = &'a Constraint> {
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
    let of_index = |constraint: &&Constraint| index.constraint.as_ref() == Some(&constraint.name);
    if detail.constraints.iter().find(of_index).is_some_and(|constraint| constraint.deferrable) {
        return Err(underivable("Its constraint is deferrable, and a twin would be checked at once".to_owned()));
    }
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

pub(super) fn validate(migration: &Migration, constraint: &Ident, name: &str) -> Step {
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
