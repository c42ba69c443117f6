//! The sync trigger: what keeps both sides of a row in step, whoever writes it.
//!
//! It fires twice for a row that is out of step: before the table's own triggers, so that they see both sides of what the
//! statement gave; and behind them, for what they changed. Its text is the definition of "in step" (see `docs/decisions/0001-the-sync-trigger-is-the-floor.md`).

use serde::Serialize;

use super::{Lock, Step};
use crate::migration::resolve::Migration;
use crate::migration::text::{
    all_fit, distinct, dollar_quoted, field, literal, misfit_text, out_of_step, over_new, over_old, text, word,
};
use crate::migration::walk::{key_called, key_function};
use crate::migration::{Expr, Invalid, LensColumn, Misfits, Phase};
use crate::schema::Ident;

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

/// Puts the sync trigger on the table, in front of the table's own triggers and behind them. (expanded → dual_writing)
pub fn install_sync(migration: &Migration) -> Vec<Step> {
    let table = migration.lens.table.quoted();
    let [first, last] = migration.triggers();
    let create = |trigger: &Ident, arguments: &str| {
        format!(
            "CREATE TRIGGER {} BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW WHEN ({}) EXECUTE FUNCTION crossfade.{}({arguments})",
            trigger.quoted(),
            out_of_step(migration, "NEW"),
            migration.sync_function().quoted()
        )
    };
    let always = |trigger: &Ident| format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {}", trigger.quoted());
    vec![
        set_sync_mode(migration, SyncMode::Quarantine),
        Step {
            name: "create triggers".into(),
            statements: vec![create(&first, FIRST), create(&last, ""), always(&first), always(&last)],
            lock: Lock::ShareRowExclusive,
            transactional: true,
            done_when: Some(format!(
                "SELECT 2 = (SELECT pg_catalog.count(*) {} AND tgenabled = 'A')",
                of_ours(migration)
            )),
            note: "waits for every writer before it, so that every write behind it is covered".into(),
        },
    ]
}

/// The argument by which the function knows that the table's own triggers come behind it.
const FIRST: &str = "'first'";

/// The statements that take the sync trigger off the table, if it is there.
pub fn drop_sync(migration: &Migration) -> Vec<String> {
    let table = migration.lens.table.quoted();
    let drop = |trigger: Ident| format!("DROP TRIGGER IF EXISTS {} ON {table}", trigger.quoted());
    migration.triggers().map(drop).into()
}

/// `FROM pg_trigger`, for the rows of the sync trigger.
pub(super) fn of_ours(migration: &Migration) -> String {
    let names = migration.triggers().map(|trigger| literal(trigger.as_str()));
    format!(
        "FROM pg_catalog.pg_trigger WHERE tgrelid = {}::regclass AND tgname IN ({})",
        literal(&migration.lens.table.quoted()),
        names.join(", ")
    )
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
    let mut statements = Vec::new();
    if all_fit(migration, "NEW").is_some() {
        statements.extend(key_function(migration));
    }
    statements.push(sync_function(migration, mode));
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
        statements,
        lock: Lock::None,
        transactional: true,
        done_when: None,
        note: note.into(),
    }
}

/// The trigger's function.
pub(super) fn sync_function(migration: &Migration, mode: SyncMode) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION crossfade.{}() RETURNS trigger LANGUAGE plpgsql AS {}",
        migration.sync_function().quoted(),
        dollar_quoted(&sync_text(migration, mode))
    )
}

/// The text of the trigger's function. Called only for rows that are out of step (see `text::out_of_step`). The first time, a
/// row whose old value does not fit may stay so: a trigger of the table may still mend it. After the last it is in step, in
/// quarantine, or refused.
pub(super) fn sync_text(migration: &Migration, mode: SyncMode) -> String {
    let (given, changed, new_decided, refusal) = match mode {
        SyncMode::Quarantine | SyncMode::Strict | SyncMode::Refusing => {
            (old_wins(migration), "named = 'new'", "", misfit(migration, mode))
        }
        SyncMode::Contracting => (new_wins(migration), "named <> 'old'", "    RETURN NEW;\n", refused(migration)),
    };
    let fits = all_fit(migration, "NEW");
    let and_fits = fits.as_ref().map(|fits| format!(" AND ({fits})")).unwrap_or_default();
    let mut text = format!(
        "\nDECLARE\n  is_first boolean := TG_NARGS > 0;\n  named text := 'unsettled';\n  new_decides boolean;\nBEGIN\n  \
         IF NOT is_first THEN\n{}  END IF;\n  \
         IF named <> 'unsettled' THEN\n    new_decides := {changed}{and_fits};\n  ELSIF {given}  END IF;\n  \
         IF new_decides THEN\n{}{new_decided}  END IF;\n",
        named(migration),
        assign_old(migration, "    ")
    );
    if let Some(fits) = fits {
        text.push_str(&format!("  IF NOT is_first AND NOT ({fits}) THEN\n{refusal}  END IF;\n"));
    }
    let safe = migration.lens.new.iter().map(|column| {
        format!("  NEW.{} := {};\n", column.stored().quoted(), over_old(migration, &column.from.safe, "NEW"))
    });
    text.extend(safe);
    text.push_str("  RETURN NEW;\nEND\n");
    text
}

/// Which side the table's own triggers name: `old` or `new` alone, or `any`. What is out of step behind them is so by what they
/// did, and who names one side alone changed that one. `unsettled` where the first trigger is missing, so that a row may not
/// have been in step before them.
///
/// Asked once in a transaction, and kept in a setting that ends with it: a question for each row would cost ten times what
/// the rest does.
fn named(migration: &Migration) -> String {
    let [first, _] = migration.triggers();
    let names = |columns: &[LensColumn]| {
        // Arguments stand in `tgargs` with a zero byte behind each: \000 in its text.
        let source = "pg_catalog.concat_ws(' ', p.prosrc, \
                      pg_catalog.replace(pg_catalog.encode(t.tgargs, 'escape'), pg_catalog.chr(92) || '000', ' '))";
        let any = columns.iter().map(|column| format!("{source} ~* {}", text(&word(column.stored()))));
        format!("pg_catalog.bool_or(p.pronamespace <> n.oid AND ({}))", any.collect::<Vec<_>>().join(" OR "))
    };
    format!(
        "    named := pg_catalog.current_setting('crossfade.named_' || TG_RELID, true);\n    \
         IF named IS NULL OR named = '' THEN\n      \
         SELECT CASE WHEN pg_catalog.bool_or(t.tgname = {first} AND t.tgenabled = 'A') IS NOT TRUE THEN 'unsettled'\n          \
         WHEN {old} = {new} THEN 'any'\n          \
         WHEN {old} THEN 'old' ELSE 'new' END INTO named\n      \
         FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid\n      \
         JOIN pg_catalog.pg_namespace AS n ON n.nspname = 'crossfade'\n      \
         WHERE t.tgrelid = TG_RELID AND t.tgtype & 3 = 3 AND t.tgenabled <> 'D';\n      \
         PERFORM pg_catalog.set_config('crossfade.named_' || TG_RELID, named, true);\n    END IF;\n",
        first = literal(first.as_str()),
        old = names(&migration.lens.old),
        new = names(&migration.lens.new)
    )
}

/// Old decides, unless new was given and old was not.
///
/// In an INSERT that gives new alone old has its default.
fn old_wins(migration: &Migration) -> String {
    let is_default = constant_default(migration).map(|(old, default)| {
        let differs = distinct(&old.base_type_sql, &field("NEW", old.stored()), &default);
        format!(" OR (is_first AND NOT {differs})")
    });
    format!(
        "TG_OP = 'INSERT' THEN\n    new_decides := NOT ({new_null}) AND ({old_null}{is_default});\n  \
         ELSE\n    new_decides := {new_changed} AND NOT {old_changed};\n",
        old_null = all_null(&migration.lens.old),
        is_default = is_default.unwrap_or_default(),
        new_null = all_null(&migration.lens.new),
        new_changed = changed(&migration.lens.new),
        old_changed = changed(&migration.lens.old),
    )
}

/// The one old column and its default, where that is the same value throughout a statement.
fn constant_default(migration: &Migration) -> Option<(&LensColumn, String)> {
    let [old] = migration.lens.old.as_slice() else { return None };
    let default = migration.carried.default.as_ref()?;
    let steady = ["now", "transaction_timestamp", "statement_timestamp"];
    let expr = Expr::parse(default, &[]).ok()?;
    let constant = expr.functions().all(|function| steady.contains(&function));
    constant.then(|| (old, format!("({default})::{}", old.type_sql)))
}

/// New decides, unless old was given and new was not, or old was given and does not fit: a proxy whose transaction
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
        "TG_OP = 'INSERT' THEN\n    new_decides := {on_insert};\n  \
         ELSE\n    new_decides := NOT {old_changed} OR {new_changed}{fits};\n",
        new_changed = changed(&migration.lens.new),
        fits = all_fit(migration, "NEW").map(|fits| format!(" AND ({fits})")).unwrap_or_default(),
        old_changed = changed(&migration.lens.old),
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

fn quarantined(migration: &Migration) -> String {
    format!(
        "    PERFORM crossfade.note_misfit({}, {}, {});\n",
        literal(migration.name.as_str()),
        key_called(migration, "NEW"),
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
