//! The proxies that are alive: their leases, and which epoch each has settled on.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio_postgres::GenericClient;

use crate::control::Error;
use crate::migration::Epoch;

/// Rows of proxies that have been gone for this long are removed.
const GONE_FOR: &str = "1 hour";

/// This process, as the other ones see it.
#[derive(Debug, Clone)]
pub struct Lease {
    /// A random name, new with each start.
    pub id: String,
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: i32,
    /// Where clients connect.
    pub address: String,
    /// How long the lease lasts from each renewal, in milliseconds.
    pub length_ms: i64,
}

/// A process that holds, or held, a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    /// Its name.
    pub id: String,
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: i32,
    /// Where clients connect.
    pub address: String,
    /// Its version of crossfade.
    pub version: String,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub started: OffsetDateTime,
    /// Whether the lease holds now.
    pub alive: bool,
    /// The latest epoch that it has settled on.
    pub epoch_acked: u64,
}

/// A live proxy that has not settled on an epoch yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: i32,
    /// Where clients connect.
    pub address: String,
}

/// What a renewal found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    /// Whether the lease still held: nobody acted behind our back.
    pub held: bool,
    /// The newest epoch.
    pub epoch: Epoch,
}

/// Renews the lease from now, and says which epoch this process has settled on.
pub async fn renew(client: &impl GenericClient, lease: &Lease, machine: &str, acked: Epoch) -> Result<Renewed, Error> {
    let row = client
        .query_one(
            "WITH before AS (SELECT lease_until > clock_timestamp() AS held FROM crossfade.proxies WHERE id = $1)
             INSERT INTO crossfade.proxies AS p (id, host, pid, address, version, lease_until, epoch_acked, machine)
             VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6::bigint * interval '1 millisecond', $7, $8)
             ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until, epoch_acked = excluded.epoch_acked
             RETURNING coalesce((SELECT held FROM before), false), (SELECT coalesce(max(epoch), 0) FROM crossfade.epochs)",
            &[
                &lease.id,
                &lease.host,
                &lease.pid,
                &lease.address,
                &env!("CARGO_PKG_VERSION"),
                &lease.length_ms,
                &(acked.0 as i64),
                &machine,
            ],
        )
        .await?;
    Ok(Renewed { held: row.get(0), epoch: Epoch(row.get::<_, i64>(1) as u64) })
}

/// The proxies of one machine that still hold a lease: their names and processes.
pub async fn neighbours(client: &impl GenericClient, machine: &str) -> Result<Vec<(String, i32)>, Error> {
    let sql = "SELECT id, pid FROM crossfade.proxies WHERE machine = $1 AND lease_until > clock_timestamp()";
    Ok(client.query(sql, &[&machine]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Gives the lease back.
pub async fn remove_proxy(client: &impl GenericClient, id: &str) -> Result<(), Error> {
    client.execute("DELETE FROM crossfade.proxies WHERE id = $1", &[&id]).await?;
    Ok(())
}

/// Forgets proxies that went away long ago.
pub async fn sweep_proxies(client: &impl GenericClient) -> Result<(), Error> {
    let sql = format!("DELETE FROM crossfade.proxies WHERE lease_until < clock_timestamp() - interval '{GONE_FOR}'");
    client.execute(&sql, &[]).await?;
    Ok(())
}

/// The live proxies that have not settled on that epoch. One whose lease has run out refuses by itself.
pub async fn behind(client: &impl GenericClient, epoch: Epoch) -> Result<Vec<Behind>, Error> {
    let rows = client
        .query(
            "SELECT host, pid, address FROM crossfade.proxies
              WHERE lease_until > clock_timestamp() AND epoch_acked < $1 ORDER BY host, pid",
            &[&(epoch.0 as i64)],
        )
        .await?;
    Ok(rows.iter().map(|row| Behind { host: row.get(0), pid: row.get(1), address: row.get(2) }).collect())
}

/// All proxies that are known.
pub async fn proxies(client: &impl GenericClient) -> Result<Vec<Proxy>, Error> {
    let rows = client
        .query(
            "SELECT id, host, pid, address, version, started, lease_until > clock_timestamp(), epoch_acked
               FROM crossfade.proxies ORDER BY started",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Proxy {
            id: row.get(0),
            host: row.get(1),
            pid: row.get(2),
            address: row.get(3),
            version: row.get(4),
            started: row.get(5),
            alive: row.get(6),
            epoch_acked: row.get::<_, i64>(7) as u64,
        })
        .collect())
}
