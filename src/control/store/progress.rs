//! How far the sidecar is, and which rows do not fit.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio_postgres::GenericClient;

use crate::control::Error;

/// How many rows of the quarantine one answer shows.
const MISFITS_SHOWN_MAX: i64 = 20;

/// How far the sidecar is with one migration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The key of the last row that was copied.
    pub copy_key: Option<Vec<String>>,
    /// Rows looked at by the copy.
    pub copy_rows: i64,
    /// About how many there are.
    pub copy_rows_estimate: Option<i64>,
    /// When the copy began.
    pub copy_started_at: Option<OffsetDateTime>,
    /// When the copy reached the end of the table.
    pub copy_done_at: Option<OffsetDateTime>,
    /// The key of the last row that was swept.
    pub sweep_key: Option<Vec<String>>,
    /// When the sweep reached the end of the table.
    pub sweep_done_at: Option<OffsetDateTime>,
    /// When indexes and constraints of the new column were built.
    pub built_at: Option<OffsetDateTime>,
    /// The key of the last row that was compared by the scan under way.
    pub scan_key: Option<Vec<String>>,
    /// Rows compared by the scan under way.
    pub scan_rows: i64,
    /// Rows that the scan under way found to differ.
    pub scan_drift: i64,
    /// Rows of the scan under way (or the latest one) whose old value does not fit.
    pub scan_misfits: i64,
    /// When the scan under way began.
    pub scan_started_at: Option<OffsetDateTime>,
    /// How many scans reached the end.
    pub scans: i64,
    /// What the latest of them found; `None` before the first.
    pub drift_rows: Option<i64>,
    /// When it reached the end.
    pub scanned_at: Option<OffsetDateTime>,
}

/// A row whose old value does not fit the new shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misfit {
    /// The primary key as a JSON array of texts.
    pub key: String,
    /// Why it does not fit.
    pub error: String,
    /// Since when that is known.
    #[serde(with = "time::serde::rfc3339")]
    pub noted_at: OffsetDateTime,
}

/// How far the sidecar is.
pub async fn progress(client: &impl GenericClient, name: &str) -> Result<Progress, Error> {
    let row = client
        .query_opt(
            "SELECT copy_key, copy_rows, copy_rows_estimate, copy_started_at, copy_done_at, sweep_key, sweep_done_at,
                    built_at, scan_key, scan_rows, scan_drift, scan_misfits, scan_started_at, scans, drift_rows, scanned_at
               FROM crossfade.progress WHERE migration = $1",
            &[&name],
        )
        .await?;
    let Some(row) = row else { return Ok(Progress::default()) };
    Ok(Progress {
        copy_key: row.get(0),
        copy_rows: row.get(1),
        copy_rows_estimate: row.get(2),
        copy_started_at: row.get(3),
        copy_done_at: row.get(4),
        sweep_key: row.get(5),
        sweep_done_at: row.get(6),
        built_at: row.get(7),
        scan_key: row.get(8),
        scan_rows: row.get(9),
        scan_drift: row.get(10),
        scan_misfits: row.get(11),
        scan_started_at: row.get(12),
        scans: row.get(13),
        drift_rows: row.get(14),
        scanned_at: row.get(15),
    })
}

/// Notes that the copy begins, with about how many rows there are.
pub async fn start_copy(client: &impl GenericClient, name: &str, rows_estimate: i64) -> Result<(), Error> {
    update(
        client,
        "copy_started_at = coalesce(copy_started_at, clock_timestamp()), copy_rows_estimate = $2",
        name,
        &[&rows_estimate],
    )
    .await
}

/// Notes a batch of the copy, in the batch's own transaction.
pub async fn save_copy(client: &impl GenericClient, name: &str, key: &[String], rows: i64) -> Result<(), Error> {
    update(client, "copy_key = $2, copy_rows = copy_rows + $3", name, &[&key, &rows]).await
}

/// Notes that the copy reached the end of the table.
pub async fn save_copied(client: &impl GenericClient, name: &str) -> Result<(), Error> {
    update(client, "copy_done_at = clock_timestamp()", name, &[]).await
}

/// Notes a batch of the sweep, in the batch's own transaction.
pub async fn save_sweep(client: &impl GenericClient, name: &str, key: &[String]) -> Result<(), Error> {
    update(client, "sweep_key = $2", name, &[&key]).await
}

/// Notes that the sweep reached the end of the table; the next one begins at its start.
pub async fn save_swept(client: &impl GenericClient, name: &str) -> Result<(), Error> {
    update(client, "sweep_done_at = clock_timestamp(), sweep_key = NULL", name, &[]).await
}

/// Notes that indexes and constraints of the new column are there.
pub async fn save_built(client: &impl GenericClient, name: &str) -> Result<(), Error> {
    update(client, "built_at = clock_timestamp()", name, &[]).await
}

/// Begins a scan at the start of the table.
pub async fn start_scan(client: &impl GenericClient, name: &str) -> Result<(), Error> {
    let sets = "scan_key = NULL, scan_rows = 0, scan_drift = 0, scan_misfits = 0, scan_started_at = clock_timestamp()";
    update(client, sets, name, &[]).await
}

/// What one page of the scan found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Page {
    /// Rows compared.
    pub rows: i64,
    /// Rows that differ.
    pub drift: i64,
    /// Rows whose old value does not fit.
    pub misfits: i64,
}

/// Notes a page of the scan.
pub async fn save_scan(client: &impl GenericClient, name: &str, key: &[String], page: Page) -> Result<(), Error> {
    let sets = "scan_key = $2, scan_rows = scan_rows + $3, scan_drift = scan_drift + $4,
        scan_misfits = scan_misfits + $5";
    update(client, sets, name, &[&key, &page.rows, &page.drift, &page.misfits]).await
}

/// Asks for another sweep and another full scan after it.
pub async fn repair(client: &impl GenericClient, name: &str) -> Result<(), Error> {
    update(client, "sweep_done_at = NULL, sweep_key = NULL, scan_key = NULL, scan_started_at = NULL", name, &[]).await
}

/// Notes that the scan reached the end of the table.
pub async fn save_scanned(client: &impl GenericClient, name: &str) -> Result<(), Error> {
    let sets = "scans = scans + 1, drift_rows = scan_drift, scanned_at = clock_timestamp(), scan_key = NULL,
        scan_started_at = NULL";
    update(client, sets, name, &[]).await
}

/// Raises the alarm before the scan is at its end: reads stay blocked until a later scan finds nothing.
pub async fn save_alarm(client: &impl GenericClient, name: &str, drift: i64) -> Result<(), Error> {
    update(client, "drift_rows = greatest(coalesce(drift_rows, 0), $2)", name, &[&drift]).await
}

async fn update(
    client: &impl GenericClient,
    sets: &str,
    name: &str,
    values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<(), Error> {
    let sql = format!("UPDATE crossfade.progress SET {sets}, updated_at = clock_timestamp() WHERE migration = $1");
    let mut parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = vec![&name];
    parameters.extend_from_slice(values);
    client.execute(&sql, &parameters).await?;
    Ok(())
}

/// How many rows do not fit.
pub async fn misfits_count(client: &impl GenericClient, name: &str) -> Result<i64, Error> {
    let sql = "SELECT count(*) FROM crossfade.quarantine WHERE migration = $1";
    Ok(client.query_one(sql, &[&name]).await?.get(0))
}

/// Some of the rows that do not fit, oldest first.
pub async fn misfits(client: &impl GenericClient, name: &str) -> Result<Vec<Misfit>, Error> {
    let rows = client
        .query(
            "SELECT key, error, noted_at FROM crossfade.quarantine WHERE migration = $1 ORDER BY noted_at, key LIMIT $2",
            &[&name, &MISFITS_SHOWN_MAX],
        )
        .await?;
    Ok(rows.iter().map(|row| Misfit { key: row.get(0), error: row.get(1), noted_at: row.get(2) }).collect())
}
