//! Fences: whether everybody has left an older epoch, and who has not.
//!
//! Reads only. One question each, asked again by the coordinator until the answer is none.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_postgres::GenericClient;

use super::store;
use super::{Error, MIGRATION_LOCK_CLASS};
use crate::migration::Epoch;

/// A transaction number: every transaction that began before it was noted has a smaller one, or none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Horizon(pub i64);

/// Whom the coordinator waits for at a fence; `None` when every live proxy has settled on the epoch.
///
/// A proxy settles when it has the epoch's rules and its last transaction under older ones has ended. One whose lease
/// has run out is not waited for: it refuses by itself.
pub async fn unsettled_proxies(client: &impl GenericClient, epoch: Epoch) -> Result<Option<String>, Error> {
    let behind = store::behind(client, epoch).await?;
    if behind.is_empty() {
        return Ok(None);
    }
    let names: Vec<String> =
        behind.iter().map(|proxy| format!("{} (host {}, pid {})", proxy.address, proxy.host, proxy.pid)).collect();
    let oldest = client
        .query_opt(
            "SELECT a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), coalesce(a.state, ''), a.xact_start
               FROM pg_stat_activity a, crossfade.epochs e
              WHERE e.epoch = $1 AND a.xact_start < e.at AND a.backend_type = 'client backend'
                AND a.datname = current_database() AND a.pid <> pg_backend_pid()
              ORDER BY a.xact_start LIMIT 1",
            &[&(epoch.0 as i64)],
        )
        .await?;
    let mut text = format!("waits for proxies to settle on epoch {}: {}", epoch.0, names.join(", "));
    if let Some(row) = oldest {
        text.push_str(&format!("; the oldest open transaction is {}", person(&row)));
    }
    Ok(Some(text))
}

/// Notes the present moment: transactions that begin from now on have this number or a greater one.
pub async fn horizon(client: &impl GenericClient) -> Result<Horizon, Error> {
    let row = client.query_one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint", &[]).await?;
    Ok(Horizon(row.get(0)))
}

/// Whom the coordinator waits for until no transaction older than the horizon is left on the whole server, prepared ones
/// and those that come by no proxy included; `None` when there is none.
pub async fn older_transactions(client: &impl GenericClient, horizon: Horizon) -> Result<Option<String>, Error> {
    let oldest: i64 =
        client.query_one("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint", &[]).await?.get(0);
    if oldest >= horizon.0 {
        return Ok(None);
    }
    // A backend shows 32 bits of its transaction number; the horizon lends it the rest.
    let session = client
        .query_opt(
            "SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''), coalesce(state, ''), xact_start
               FROM pg_stat_activity
              WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
                AND backend_xid::text::bigint <= ($1 & 4294967295)
              ORDER BY xact_start LIMIT 1",
            &[&horizon.0],
        )
        .await?;
    if let Some(row) = session {
        return Ok(Some(format!("waits for a transaction that began before the fence: {}", person(&row))));
    }
    let prepared = client
        .query_opt(
            "SELECT gid, owner::text, database::text, prepared FROM pg_prepared_xacts ORDER BY prepared LIMIT 1",
            &[],
        )
        .await?;
    Ok(Some(match prepared {
        Some(row) => format!("waits for {}", prepared_one(&row)),
        None => format!("waits until transaction {oldest} has ended, which pg_stat_activity does not show"),
    }))
}

/// Whom the coordinator waits for until nobody in this database sees it as it was before the horizon; `None` when nobody
/// does. Such a snapshot can be handed to a transaction that begins later (`pg_export_snapshot`, `pg_dump --jobs`): under
/// the newest rules that one would read columns which are empty in it.
pub async fn older_snapshots(client: &impl GenericClient, horizon: Horizon) -> Result<Option<String>, Error> {
    // While an older transaction runs, every new snapshot reaches as far back.
    if let Some(waiting) = older_transactions(client, horizon).await? {
        return Ok(Some(waiting));
    }
    let session = client
        .query_opt(
            "SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''), coalesce(state, ''), xact_start
               FROM pg_stat_activity
              WHERE datname = current_database() AND backend_type <> 'autovacuum worker' AND pid <> pg_backend_pid()
                AND age(backend_xmin) > age(($1 & 4294967295)::text::xid)
              ORDER BY xact_start LIMIT 1",
            &[&horizon.0],
        )
        .await?;
    Ok(session.map(|row| format!("waits for a snapshot that is older than the copy: {}", person(&row))))
}

/// Who holds or awaits locks on a table, oldest first, for the message when a lock could not be had.
pub async fn lock_holders(client: &impl GenericClient, table: &str) -> Result<String, Error> {
    let rows = client
        .query(
            "SELECT DISTINCT a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), coalesce(a.state, ''), a.xact_start
               FROM pg_locks l JOIN pg_stat_activity a USING (pid)
              WHERE l.relation = to_regclass($1) AND l.granted AND a.pid <> pg_backend_pid()
              ORDER BY a.xact_start LIMIT 3",
            &[&table],
        )
        .await?;
    let mut people: Vec<String> = rows.iter().map(person).collect();
    // They have no process.
    let prepared = client
        .query(
            "SELECT DISTINCT p.gid, p.owner::text, p.database::text, p.prepared
               FROM pg_locks l JOIN pg_prepared_xacts p ON l.virtualtransaction = '-1/' || p.transaction::text
              WHERE l.relation = to_regclass($1) AND l.granted ORDER BY p.prepared LIMIT 3",
            &[&table],
        )
        .await?;
    people.extend(prepared.iter().map(prepared_one));
    if people.is_empty() {
        return Ok(format!("waits for a lock on {table}; the next attempt follows"));
    }
    Ok(format!("waits for a lock on {table}, held by {}", people.join("; ")))
}

/// Transactions that have had a lock on a table for longer than that: holding new ones would not get the lock from them.
pub async fn long_lock_holders(
    client: &impl GenericClient,
    table: &str,
    longer_than: Duration,
) -> Result<Option<String>, Error> {
    let rows = client
        .query(
            "SELECT DISTINCT a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), coalesce(a.state, ''), a.xact_start
               FROM pg_locks l JOIN pg_stat_activity a USING (pid)
              WHERE l.relation = to_regclass($1) AND l.granted AND a.pid <> pg_backend_pid()
                AND a.xact_start < clock_timestamp() - $2::bigint * interval '1 millisecond'
              ORDER BY a.xact_start LIMIT 3",
            &[&table, &(longer_than.as_millis() as i64)],
        )
        .await?;
    let people: Vec<String> = rows.iter().map(person).collect();
    Ok((!people.is_empty()).then(|| format!("waits for a lock on {table}, held by {}", people.join("; "))))
}

/// How far the build of an index is that the session with a migration's lock is at, and whom that session waits for at this
/// moment; `None` when there is neither.
pub async fn driver_at(client: &impl GenericClient, migration: &str) -> Result<Option<String>, Error> {
    let rows = client
        .query(
            "WITH driver AS (
               SELECT d.pid, d.wait_event_type = 'Lock' AS waits FROM pg_locks l JOIN pg_stat_activity d USING (pid)
                WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
                  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                  AND l.classid::bigint = $1::int AND l.objid::bigint = hashtext($2)::bigint & 4294967295)
             SELECT coalesce(a.pid, b.pid), coalesce(a.usename::text, ''), coalesce(a.application_name, ''),
                    coalesce(a.state, ''), a.xact_start, p.index_relid::regclass::text, p.phase,
                    CASE WHEN p.blocks_total > 0 THEN p.blocks_done * 100 / p.blocks_total END
               FROM driver d LEFT JOIN pg_stat_progress_create_index p USING (pid)
               LEFT JOIN LATERAL unnest(CASE WHEN d.waits THEN pg_blocking_pids(d.pid) END) b (pid) ON true
               LEFT JOIN pg_stat_activity a ON a.pid = b.pid
              ORDER BY a.xact_start LIMIT 3",
            &[&MIGRATION_LOCK_CLASS, &migration],
        )
        .await?;
    let mut parts = Vec::new();
    if let Some((index, phase)) =
        rows.first().and_then(|row| Some((row.get::<_, Option<&str>>(5)?, row.get::<_, &str>(6))))
    {
        let share = rows[0].get::<_, Option<i64>>(7).map(|percent| format!(", {percent} %")).unwrap_or_default();
        parts.push(format!("index {index}: {phase}{share}"));
    }
    // A prepared transaction is told as pid 0.
    let blocking = rows.iter().filter_map(|row| match row.get::<_, Option<i32>>(0)? {
        0 => Some("a prepared transaction".to_owned()),
        _ => Some(person(row)),
    });
    let people: Vec<String> = blocking.collect();
    if !people.is_empty() {
        parts.push(format!("waits for {}", people.join("; ")));
    }
    Ok((!parts.is_empty()).then(|| parts.join("; ")))
}

fn person(row: &tokio_postgres::Row) -> String {
    let (pid, user, application, state): (i32, &str, &str, &str) = (row.get(0), row.get(1), row.get(2), row.get(3));
    let since = row.get::<_, Option<OffsetDateTime>>(4).map(moment).unwrap_or_else(|| "an unknown time".to_owned());
    format!("pid {pid} (user {user}, application \"{application}\", {state}) since {since}")
}

fn prepared_one(row: &tokio_postgres::Row) -> String {
    let (name, owner, database): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
    format!(
        "the prepared transaction '{name}' (owner {owner}, database {database}), prepared {}; COMMIT PREPARED or ROLLBACK \
         PREPARED ends it",
        moment(row.get(3))
    )
}

fn moment(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}
