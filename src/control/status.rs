//! What people and programs are told about a migration: the answer of `GET /v1/migrations/{name}`.
//!
//! A public format: fields are added, never renamed.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio_postgres::GenericClient;

use super::store::{self, MigrationRow, Misfit, Progress, Proxy};
use super::{Error, fence};
use crate::migration::Phase;

/// One migration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationStatus {
    /// Its name.
    pub name: String,
    /// The table, with its schema.
    pub table: String,
    /// The columns that only the old shape has.
    pub old_columns: Vec<String>,
    /// The columns that only the new shape has.
    pub new_columns: Vec<String>,
    /// Where it is.
    pub phase: Phase,
    /// The share of sessions that reads from new storage, in percent.
    pub reads: u8,
    /// The epoch of its latest change.
    pub epoch: u64,
    /// Whether the sidecar rests.
    pub paused: bool,
    /// The pace of the copy, in percent.
    pub speed: u8,
    /// What was asked for and is not done yet: `contracted` or `rolled_back`.
    pub target: Option<String>,
    /// Whether every live proxy has settled on its latest epoch.
    pub settled: bool,
    /// Steps around which new transactions were held.
    #[serde(default)]
    pub holds: Holds,
    /// What it waits for.
    pub waiting: Option<String>,
    /// What went wrong last, until it goes right.
    pub error: Option<String>,
    /// The copy.
    pub backfill: Backfill,
    /// The comparison of old and new.
    pub verification: Verification,
    /// Rows whose old value does not fit the new shape.
    pub quarantine: Quarantine,
    /// What a person can do next, as a command; nothing when it goes on by itself.
    pub next: Option<String>,
    /// Since when it is known.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// Moments in which no proxy started a transaction, around steps that lock everybody out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// Whether one is on.
    pub now: bool,
    /// How many ended, those that came to nothing included.
    pub ended: i64,
    /// How long the last one was, in milliseconds.
    pub last_ms: i64,
    /// How long the longest one was, in milliseconds.
    pub longest_ms: i64,
}

/// How far the copy is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backfill {
    /// Rows looked at so far.
    pub rows_done: i64,
    /// About how many there are; exact once it is done.
    pub rows_total: i64,
    /// 0 to 100.
    pub percent: f64,
    /// About how long it still takes; nothing before it began or after it is done.
    pub eta_seconds: Option<i64>,
    /// Whether the end of the table was reached.
    pub done: bool,
    /// Whether indexes and constraints of the new column are there.
    pub built: bool,
}

/// What the comparison found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Rows compared by the scan under way.
    pub rows_scanned: i64,
    /// Scans that reached the end of the table.
    pub scans: i64,
    /// Rows that differ, as the latest of them (or an alarm since) says; nothing before the first.
    pub drift_rows: Option<i64>,
    /// When the latest reached the end.
    #[serde(with = "time::serde::rfc3339::option")]
    pub scanned_at: Option<OffsetDateTime>,
}

/// Rows that do not fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quarantine {
    /// How many.
    pub rows: i64,
    /// Some of them, oldest first.
    pub sample: Vec<Misfit>,
}

/// All migrations and proxies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// The newest epoch.
    pub epoch: u64,
    /// The migrations, oldest first.
    pub migrations: Vec<MigrationStatus>,
    /// The proxies, oldest first.
    pub proxies: Vec<Proxy>,
}

/// The status of one migration.
pub async fn status(client: &impl GenericClient, name: &str) -> Result<MigrationStatus, Error> {
    let row = store::load(client, name).await?;
    of_row(client, row).await
}

/// The status of everything.
pub async fn overview(client: &impl GenericClient) -> Result<Overview, Error> {
    let mut migrations = Vec::new();
    for row in store::load_all(client).await? {
        migrations.push(of_row(client, row).await?);
    }
    Ok(Overview { epoch: store::current_epoch(client).await?.0, migrations, proxies: store::proxies(client).await? })
}

async fn of_row(client: &impl GenericClient, row: MigrationRow) -> Result<MigrationStatus, Error> {
    let progress = store::progress(client, &row.name).await?;
    let rows = store::misfits_count(client, &row.name).await?;
    let sample = if rows == 0 { Vec::new() } else { store::misfits(client, &row.name).await? };
    let lens = &row.migration.lens;
    let names = |columns: &[crate::migration::LensColumn]| columns.iter().map(|c| c.name.to_string()).collect();
    let settled = store::behind(client, row.epoch).await?.is_empty();
    let waiting = match row.waiting.clone() {
        Some(text) => Some(match fence::driver_at(client, &row.name).await? {
            Some(more) => format!("{text} ({more})"),
            None => text,
        }),
        None => None,
    };
    Ok(MigrationStatus {
        settled,
        next: next(&row, &progress, rows),
        table: lens.table.to_string(),
        old_columns: names(&lens.old),
        new_columns: names(&lens.new),
        phase: row.phase,
        reads: row.reads.value(),
        epoch: row.epoch.0,
        paused: row.paused,
        speed: row.speed,
        holds: Holds {
            now: row.holds.now,
            ended: row.holds.ended,
            last_ms: row.holds.last_ms,
            longest_ms: row.holds.longest_ms,
        },
        target: row.target.map(|target| target.name().to_owned()),
        waiting,
        error: row.error,
        backfill: backfill(&progress),
        verification: Verification {
            rows_scanned: progress.scan_rows,
            scans: progress.scans,
            drift_rows: progress.drift_rows,
            scanned_at: progress.scanned_at,
        },
        quarantine: Quarantine { rows, sample },
        created_at: row.created_at,
        updated_at: row.updated_at,
        name: row.name,
    })
}

fn backfill(progress: &Progress) -> Backfill {
    let done = progress.copy_done_at.is_some();
    let estimate = progress.copy_rows_estimate.unwrap_or(0);
    let rows_total = if done { progress.copy_rows } else { estimate.max(progress.copy_rows) };
    let percent = match (done, rows_total) {
        (true, _) => 100.0,
        (false, 0) => 0.0,
        // The number of rows is an estimate: only the end of the table is the end.
        (false, total) => (progress.copy_rows as f64 * 100.0 / total as f64).min(99.9),
    };
    let eta_seconds = progress.copy_started_at.filter(|_| !done && progress.copy_rows > 0).map(|began| {
        let spent = (OffsetDateTime::now_utc() - began).as_seconds_f64();
        (spent * (rows_total - progress.copy_rows) as f64 / progress.copy_rows as f64).round() as i64
    });
    Backfill {
        rows_done: progress.copy_rows,
        rows_total,
        percent,
        eta_seconds,
        done,
        built: progress.built_at.is_some(),
    }
}

/// What a person can do next.
fn next(row: &MigrationRow, progress: &Progress, misfits: i64) -> Option<String> {
    let name = &row.name;
    if row.paused && !row.phase.is_final() {
        return Some(format!("crossfade resume {name}"));
    }
    match row.phase {
        Phase::Ramping if progress.drift_rows != Some(0) => None,
        Phase::Verified | Phase::Ramping | Phase::Soaking if misfits > 0 => {
            Some("correct the rows in quarantine, or roll back".to_owned())
        }
        Phase::Verified => Some(format!("crossfade reads {name} 1")),
        Phase::Ramping if row.reads.value() < 100 => Some(format!("crossfade reads {name} 100")),
        Phase::Ramping | Phase::Soaking if row.target.is_none() => Some(format!("crossfade complete {name}")),
        Phase::Backfilling if misfits > 0 => Some("correct the rows in quarantine, or roll back".to_owned()),
        Phase::Planned
        | Phase::Shielded
        | Phase::Expanded
        | Phase::DualWriting
        | Phase::Backfilling
        | Phase::Ramping
        | Phase::Soaking
        | Phase::Contracting
        | Phase::Contracted
        | Phase::RollingBack
        | Phase::RolledBack => None,
    }
}
