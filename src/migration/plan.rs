//! What a migration will do, phase by phase: every statement, its lock, and what a rollback does.
//!
//! Pure; for `crossfade plan` and the docs.

use std::fmt::Write as _;

use serde::Serialize;

use super::ddl::{self, Lock, Step, SyncMode};
use super::resolve::Migration;
use super::text::literal;
use super::{Blocker, Phase, walk};
use crate::schema::{Constraint, ConstraintKind, Ident, Index, TableDetail};

/// All phases of a migration with their statements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The migration's name.
    pub migration: String,
    /// The table, as SQL.
    pub table: String,
    /// Its phases in order.
    pub phases: Vec<PhasePlan>,
    /// What a rollback runs, from any phase before contracted.
    pub rollback: Vec<Step>,
}

/// What happens on the way into one phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PhasePlan {
    /// The phase that is reached.
    pub phase: Phase,
    /// What it means for the application.
    pub about: String,
    /// The steps, run before the phase begins.
    pub steps: Vec<Step>,
    /// What a rollback from it does.
    pub rollback: String,
}

/// The whole plan, over the table as it is now.
pub fn plan(migration: &Migration, detail: &TableDetail) -> Result<Plan, Vec<Blocker>> {
    const PHASES: [Phase; 10] = [
        Phase::Planned,
        Phase::Shielded,
        Phase::Expanded,
        Phase::DualWriting,
        Phase::Backfilling,
        Phase::Verified,
        Phase::Ramping,
        Phase::Soaking,
        Phase::Contracting,
        Phase::Contracted,
    ];
    let mut phases = Vec::new();
    for phase in PHASES {
        phases.push(PhasePlan {
            phase,
            about: about(phase).to_owned(),
            steps: steps(migration, detail, phase)?,
            rollback: rollback_from(phase).to_owned(),
        });
    }
    Ok(Plan {
        migration: migration.name.to_string(),
        table: migration.lens.table.quoted(),
        phases,
        rollback: ddl::rollback(migration, &before_contract(migration, detail)),
    })
}

fn steps(migration: &Migration, detail: &TableDetail, phase: Phase) -> Result<Vec<Step>, Vec<Blocker>> {
    Ok(match phase {
        Phase::Planned | Phase::Shielded | Phase::Soaking | Phase::RollingBack | Phase::RolledBack => Vec::new(),
        Phase::Expanded => ddl::expand(migration, detail),
        Phase::DualWriting => ddl::install_sync(migration),
        Phase::Backfilling => Vec::new(),
        Phase::Verified => {
            let mut steps = vec![copying(migration)];
            steps.extend(ddl::build(migration, detail)?);
            steps.push(scanning(migration));
            steps
        }
        Phase::Ramping => vec![ddl::set_sync_mode(migration, SyncMode::Strict)],
        Phase::Contracting => {
            ddl::refuse_misfits(migration).into_iter().chain(ddl::enter_contracting(migration, detail)).collect()
        }
        Phase::Contracted => ddl::contract(migration, &before_contract(migration, detail))?,
    })
}

/// The table as it will be when the contract comes: with the counterparts that `build` made, the default moved.
fn before_contract(migration: &Migration, detail: &TableDetail) -> TableDetail {
    let mut later = detail.clone();
    let ours = migration.object_prefix();
    let indexes = detail.indexes.iter().map(|index| Index { name: migration.twin('i', &index.name), ..index.clone() });
    later.indexes.extend(indexes.filter(|index| detail.index(&index.name).is_none()));
    later.indexes.retain(|index| !index.name.as_str().starts_with(&format!("{ours}i_")) || index.valid);
    let twin = |constraint: &Constraint| {
        let kind = if constraint.kind == ConstraintKind::ForeignKey { 'f' } else { 'c' };
        Constraint { name: migration.twin(kind, &constraint.name), ..constraint.clone() }
    };
    let constraints: Vec<Constraint> = detail.constraints.iter().map(twin).collect();
    later.constraints.extend(constraints.into_iter().filter(|twin| detail.constraint(&twin.name).is_none()));
    let old: Vec<&Ident> = migration.lens.old.iter().map(super::LensColumn::stored).collect();
    for column in later.relation.columns.iter_mut().filter(|column| old.contains(&&column.name)) {
        column.default = None;
    }
    later
}

fn copying(migration: &Migration) -> Step {
    Step {
        name: "copy".into(),
        statements: vec![walk::copy(migration).next],
        lock: Lock::RowExclusive,
        transactional: true,
        done_when: None,
        note: "a page of rows in key order, again and again to the end of the table; each its own short transaction, \
               with the progress saved in it"
            .into(),
    }
}

fn scanning(migration: &Migration) -> Step {
    Step {
        name: "scan for drift".into(),
        statements: vec![walk::recheck(migration), walk::drift(migration).next],
        lock: Lock::None,
        transactional: true,
        done_when: None,
        note: "reads every row once; anything that disagrees or does not fit keeps the migration here".into(),
    }
}

fn about(phase: Phase) -> &'static str {
    match phase {
        Phase::Planned => "recorded; nothing differs for anybody",
        Phase::Shielded => "proxies name the old columns, so that a column may appear",
        Phase::Expanded => "the new column exists",
        Phase::DualWriting => "every write sets both columns, through the proxy or not",
        Phase::Backfilling => "history is copied; every transaction older than the trigger has ended",
        Phase::Verified => "both columns agree in every row; waits for `crossfade reads`",
        Phase::Ramping => "a share of sessions reads the new column",
        Phase::Soaking => "all sessions read the new column; waits for `crossfade complete`",
        Phase::Contracting => "proxies no longer name the old column",
        Phase::Contracted => "the old column is gone; old sessions are served from the new one, for ever",
        Phase::RollingBack => "proxies no longer name the new column",
        Phase::RolledBack => "the table is as it was, with every write made meanwhile",
    }
}

fn rollback_from(phase: Phase) -> &'static str {
    match phase {
        Phase::Planned => "forgets the migration",
        Phase::Shielded => "proxies let `*` pass again",
        Phase::Expanded | Phase::DualWriting | Phase::Backfilling | Phase::Verified => {
            "proxies stop naming the new column, then the statements of the rollback run; old was complete all the time"
        }
        Phase::Ramping | Phase::Soaking => {
            "reads go back to the old column, which is complete, then the statements of the rollback run"
        }
        Phase::Contracting => {
            "proxies write both columns again, the default moves back to the old one, which the trigger kept complete; then \
             the statements of the rollback run"
        }
        Phase::Contracted => "impossible: start a migration the other way",
        Phase::RollingBack | Phase::RolledBack => "is what is being done",
    }
}

impl Lock {
    /// The name that PostgreSQL's documentation uses.
    pub fn name(self) -> &'static str {
        match self {
            Lock::None => "none",
            Lock::RowExclusive => "ROW EXCLUSIVE",
            Lock::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            Lock::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            Lock::AccessExclusive => "ACCESS EXCLUSIVE",
        }
    }
}

impl Plan {
    /// For people: SQL with comments.
    pub fn text(&self) -> String {
        let mut text = format!("-- Migration {} on {}\n", literal(&self.migration), self.table);
        for phase in &self.phases {
            let _ =
                write!(text, "\n-- == {}: {}\n-- rollback from here: {}\n", phase.phase, phase.about, phase.rollback);
            text.extend(phase.steps.iter().map(step_text));
        }
        text.push_str("\n-- == rollback, from any phase before contracted\n");
        text.extend(self.rollback.iter().map(step_text));
        text
    }
}

fn step_text(step: &Step) -> String {
    let together = match (step.transactional, step.statements.len()) {
        (true, 2..) => "; one transaction",
        (true, _) => "",
        (false, _) => "; outside a transaction",
    };
    let mut text = format!("\n-- {} (lock: {}{together})\n-- {}\n", step.name, step.lock.name(), step.note);
    for statement in &step.statements {
        let _ = writeln!(text, "{statement};");
    }
    text
}
