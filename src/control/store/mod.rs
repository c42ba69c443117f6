//! The schema `crossfade`: every statement that reads or writes the control plane's tables.
//!
//! Only here is an epoch made. A change of phase or of the reads flag is one transaction: compare with what the caller
//! believed, write the new state, the epoch and the audit line, notify. Knows no gates and starts nothing by itself.

mod audit;
mod holds;
mod leases;
mod migrations;
mod progress;

pub use audit::{Actor, AuditEntry, audit_log, note};
pub use holds::{Begun, Holds, hold, is_still_held, release, release_overdue, rest};
pub use leases::{Behind, Lease, Proxy, Renewed, behind, neighbours, proxies, remove_proxy, renew, sweep_proxies};
pub use migrations::{
    Draft, MigrationRow, Move, Setting, Target, advance, clear_target, current_epoch, insert, load, load_all, lock,
    rival, rules_version, set, set_error, set_strict, set_target, set_waiting, unfinished,
};
pub use progress::{
    Misfit, Page, Progress, misfits, misfits_count, progress, repair, save_alarm, save_built, save_copied, save_copy,
    save_scan, save_scanned, save_sweep, save_swept, start_copy, start_scan,
};

use tokio_postgres::GenericClient;

use super::Error;
use super::db::Session;

/// The channel on which every change is announced.
pub const CHANNEL: &str = "crossfade";

/// Serialises the bootstrap of all processes ("crossfad" in ASCII).
const BOOTSTRAP_LOCK: i64 = 0x6372_6f73_7366_6164;

/// The steps that lead from an empty database to the schema of this version; the n-th makes version n.
const VERSIONS: &[&str] = &[include_str!("schema_1.sql"), include_str!("schema_2.sql"), include_str!("schema_3.sql")];

/// The oldest server that is supported.
const SERVER_VERSION_MIN: i32 = 130_000;

/// Brings the schema `crossfade` to this version: creates it, or adds what is missing. Any number of processes may.
pub async fn bootstrap(session: &mut Session) -> Result<(), Error> {
    let server: i32 = session.query_one("SELECT current_setting('server_version_num')::int4", &[]).await?.get(0);
    if server < SERVER_VERSION_MIN {
        return Err(Error::conflict(
            "the server is too old",
            format!("It is version {server}, and the oldest that is supported is {SERVER_VERSION_MIN}."),
            "Use PostgreSQL 13 or newer.",
        ));
    }
    let transaction = session.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&BOOTSTRAP_LOCK]).await?;
    let there = version(&transaction).await?;
    if there > VERSIONS.len() as i32 {
        return Err(Error::conflict(
            "the schema crossfade was made by a newer version",
            format!("It is version {there}, and this program knows {}.", VERSIONS.len()),
            "Run the newer version of crossfade.",
        ));
    }
    if there == 0 {
        transaction
            .batch_execute(
                "CREATE SCHEMA IF NOT EXISTS crossfade;
                 CREATE TABLE crossfade.version (version integer NOT NULL, one boolean PRIMARY KEY DEFAULT true CHECK (one));
                 INSERT INTO crossfade.version VALUES (0)",
            )
            .await?;
    }
    for (index, step) in VERSIONS.iter().enumerate().skip(usize::try_from(there).unwrap_or(0)) {
        transaction.batch_execute(step).await?;
        transaction.execute("UPDATE crossfade.version SET version = $1", &[&(index as i32 + 1)]).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// The version of the schema that is there; 0 without one.
async fn version(client: &impl GenericClient) -> Result<i32, Error> {
    let there: bool = client.query_one("SELECT to_regclass('crossfade.version') IS NOT NULL", &[]).await?.get(0);
    if !there {
        return Ok(0);
    }
    Ok(client.query_one("SELECT version FROM crossfade.version", &[]).await?.get(0))
}

/// Whether the schema is there, for commands that only read.
pub async fn exists(client: &impl GenericClient) -> Result<bool, Error> {
    Ok(version(client).await? > 0)
}
