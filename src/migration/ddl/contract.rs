//! Into contracting and out of it, and the contract: the old column goes, and what stood on the new one takes its names.

use super::sync::{SyncMode, drop_sync, set_sync_mode, sync_function, sync_text};
use super::twins::{carried_constraints, carried_indexes, validate};
use super::{Lock, Step, column_exists, constraint_is, drop_function, forget_quarantine};
use crate::migration::resolve::{LensFunction, Migration};
use crate::migration::text::literal;
use crate::migration::walk::drop_key_function;
use crate::migration::{Blocker, LensColumn, copies};
use crate::schema::{Constraint, ConstraintKind, Ident, Index, TableDetail};

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
    let mut statements = vec![format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")];
    statements.extend(drop_sync(migration));
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
    statements.push(drop_key_function(migration));
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
