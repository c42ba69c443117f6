//! Gathers what the gates want to know about a migration, fresh from the database.
//!
//! Decides nothing: `migration::gate` does.

use super::Error;
use super::db::Session;
use super::fence;
use super::store::{self, MigrationRow, Progress};
use crate::catalog;
use crate::migration::gate::{Blocker, Facts, Scan};
use crate::migration::{Phase, changed, walk};
use crate::schema::TableDetail;

/// The facts about one migration at this moment, with `confirmed` as the caller knows it.
///
/// Transactions older than the epoch are not counted here: the coordinator's fences wait for them one by one.
pub async fn gather(session: &Session, row: &MigrationRow, confirmed: bool) -> Result<Facts, Error> {
    let client = session.client();
    let progress = store::progress(client, &row.name).await?;
    let behind = fence::unsettled_proxies(client, row.epoch).await?;
    let detail = detail(session, row).await?;
    let changed = match row.phase {
        // Before the new column there is nothing to compare, and behind the contract the table is its users' own.
        Phase::Planned | Phase::Shielded | Phase::Contracted | Phase::RollingBack | Phase::RolledBack => Vec::new(),
        Phase::Expanded
        | Phase::DualWriting
        | Phase::Backfilling
        | Phase::Verified
        | Phase::Ramping
        | Phase::Soaking
        | Phase::Contracting => changed(&row.migration, detail.as_ref(), row.phase),
    };
    let dependents = match detail {
        Some(detail) => row
            .migration
            .lens
            .old
            .iter()
            .flat_map(|column| catalog::breaks_on_contract(&detail, &column.name))
            .collect(),
        None => Vec::new(),
    };
    Ok(Facts {
        phase: row.phase,
        reads: row.reads,
        paused: row.paused,
        coordinator: true,
        proxies_behind: behind.into_iter().collect(),
        older_transactions: 0,
        copied: progress.copy_done_at.is_some(),
        built: progress.built_at.is_some(),
        scan: last_scan(&progress),
        quarantined: store::misfits_count(client, &row.name).await?.unsigned_abs(),
        rivals: Vec::new(),
        dependents,
        changed,
        confirmed,
    })
}

/// Takes out of quarantine what fits by now and is in step, or is gone. How many rows are left.
///
/// Whoever notes a misfit waits meanwhile: else a row that becomes one again at this very moment, in a transaction that
/// is not seen yet, would be taken out for good. Where that cannot be had at once, nothing is taken out this time.
pub async fn recheck(session: &mut Session, row: &MigrationRow) -> Result<u64, Error> {
    let noted = store::misfits_count(session.client(), &row.name).await?.unsigned_abs();
    if noted == 0 {
        return Ok(0);
    }
    match recheck_alone(session, row).await {
        Err(error) if error.is_contention() => Ok(noted),
        left => left,
    }
}

async fn recheck_alone(session: &mut Session, row: &MigrationRow) -> Result<u64, Error> {
    let transaction = session.transaction().await?;
    transaction
        .batch_execute("SET LOCAL lock_timeout TO '100ms'; LOCK TABLE crossfade.quarantine IN SHARE ROW EXCLUSIVE MODE")
        .await?;
    let found = transaction.query_one(walk::recheck(&row.migration).as_str(), &[]).await?;
    let (left, behind): (i64, i64) = (found.try_get(0)?, found.try_get(1)?);
    if behind > 0 && row.phase == Phase::Backfilling {
        // Later the scans in the background find them, and see first to it that nobody reads them.
        store::repair(&transaction, &row.name).await?;
    }
    transaction.commit().await?;
    Ok(left.unsigned_abs())
}

/// The table with all that hangs on it.
pub async fn detail(session: &Session, row: &MigrationRow) -> Result<Option<TableDetail>, Error> {
    Ok(catalog::detail(session, &row.migration.lens.table).await?)
}

/// The same, where the table must be there.
pub async fn present_detail(session: &Session, row: &MigrationRow) -> Result<TableDetail, Error> {
    refuse_if_moved(session, row).await?;
    detail(session, row).await?.ok_or_else(|| {
        Error::conflict(
            format!("table {} does not exist any more", row.migration.lens.table),
            "It was dropped while the migration was under way.",
            format!("Bring it back, or end the migration with: crossfade rollback {}", row.name),
        )
    })
}

/// Refuses where the table goes by another name than the migration knows: what is on it would be left there.
pub async fn refuse_if_moved(session: &Session, row: &MigrationRow) -> Result<(), Error> {
    let table = &row.migration.lens.table;
    let moved = catalog::moved_to(session.client(), table, &row.migration.sync_function()).await?;
    let Some(now) = moved.first() else { return Ok(()) };
    Err(Error::conflict(
        format!("table {table} is called {now} now"),
        "It was given another name or schema while the migration was under way; the new column and the sync trigger are still on it.",
        format!(
            "Give it its name back, in psql: the migration goes on by itself, or is rolled back if that was asked for ({})",
            row.name
        ),
    ))
}

/// What the latest full scan found, as far as it still counts: a sweep that is due makes it old.
pub fn last_scan(progress: &Progress) -> Scan {
    match progress.drift_rows {
        Some(0) if progress.sweep_done_at.is_some() => Scan::Clean,
        Some(rows) if rows > 0 => Scan::Drift(rows.unsigned_abs()),
        Some(_) | None => Scan::NotDone,
    }
}

/// Blockers as one error; nothing where there is none.
pub fn refuse_if_blocked(what: impl Into<String>, blockers: Vec<Blocker>) -> Result<(), Error> {
    if blockers.is_empty() {
        return Ok(());
    }
    Err(Error::Blocked { message: what.into(), blockers })
}
