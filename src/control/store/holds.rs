//! Holds: epochs under which no proxy starts a transaction, around a step that locks everybody out for a moment.
//!
//! One at a time in the whole database, and none right behind another one: between two of them traffic must flow. Knows
//! neither the step nor how long a hold may be; whoever begins one must end it, here or by `advance`.

use std::time::Duration;

use tokio_postgres::GenericClient;

use super::audit::{Actor, note};
use super::migrations::{MigrationRow, announce, lock, new_epoch};
use crate::control::Error;
use crate::migration::Epoch;

/// How many times its own length must have passed after a hold before another one begins, whosever it is.
const REST_FACTOR: i64 = 3;

/// When to look again while another migration holds.
const OTHER_POLL: Duration = Duration::from_millis(50);

/// The end of a hold, if there is one, as assignments to a row of `migrations`.
pub(super) const END_OF_HOLD: &str = "holds = holds + (held_since IS NOT NULL)::integer,
    hold_last_ms = coalesce(extract(epoch FROM clock_timestamp() - held_since) * 1000, hold_last_ms)::bigint,
    hold_longest_ms = greatest(hold_longest_ms, extract(epoch FROM clock_timestamp() - held_since) * 1000)::bigint,
    hold_ended_at = CASE WHEN held_since IS NULL THEN hold_ended_at ELSE clock_timestamp() END,
    held_since = NULL";

/// The holds of one migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holds {
    /// Whether its present epoch is held.
    pub now: bool,
    /// How many ended.
    pub ended: i64,
    /// How long the last of them was, in milliseconds.
    pub last_ms: i64,
    /// How long the longest was, in milliseconds.
    pub longest_ms: i64,
}

/// Whether a hold began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// From this epoch on, once the caller's transaction commits.
    Held(Epoch),
    /// Not now: another hold is on, or ended a moment ago. It may be asked for again after that time.
    Resting(Duration),
    /// Not so: the migration is no longer as the caller believes.
    Moved,
}

/// Begins a hold, in the caller's transaction, if the migration still is as the caller believes.
pub async fn hold(client: &impl GenericClient, row: &MigrationRow, actor: &Actor) -> Result<Begun, Error> {
    let now = lock(client, &row.name).await?;
    if !is_as(&now, row, row.epoch) || now.holds.now {
        return Ok(Begun::Moved);
    }
    // Who makes epochs waits for each other: so no two find that nobody holds.
    client.batch_execute("LOCK TABLE crossfade.epochs IN SHARE ROW EXCLUSIVE MODE").await?;
    if let Some(time) = rest(client).await? {
        return Ok(Begun::Resting(time));
    }
    let epoch = new_epoch(client, row.stays(), &actor.why, true).await?;
    let waiting = format!("holds new transactions for a moment ({})", actor.why);
    client
        .execute(
            "UPDATE crossfade.migrations SET epoch = $2, held_since = clock_timestamp(), waiting = $3 WHERE name = $1",
            &[&row.name, &(epoch.0 as i64), &waiting],
        )
        .await?;
    note(client, actor, Some(&row.name), "hold", serde_json::json!({ "epoch": epoch.0 })).await?;
    announce(client).await?;
    Ok(Begun::Held(epoch))
}

/// How long a hold would have to wait that wants to begin now; nothing where it need not.
pub async fn rest(client: &impl GenericClient) -> Result<Option<Duration>, Error> {
    let others = client
        .query_one(
            "SELECT count(held_since), coalesce(max(extract(epoch FROM hold_ended_at - clock_timestamp()) * 1000
                    + hold_last_ms * $1), 0)::bigint FROM crossfade.migrations",
            &[&REST_FACTOR],
        )
        .await?;
    if others.get::<_, i64>(0) > 0 {
        return Ok(Some(OTHER_POLL));
    }
    let rest_ms: i64 = others.get(1);
    Ok((rest_ms > 0).then(|| Duration::from_millis(rest_ms.unsigned_abs())))
}

/// Ends the hold of that epoch, in the caller's transaction, and lets transactions begin again. The new epoch; nothing
/// where that hold is over already.
pub async fn release(
    client: &impl GenericClient,
    name: &str,
    held: Epoch,
    actor: &Actor,
) -> Result<Option<Epoch>, Error> {
    let row = lock(client, name).await?;
    if !row.holds.now || row.epoch != held {
        return Ok(None);
    }
    client.batch_execute("LOCK TABLE crossfade.epochs IN SHARE ROW EXCLUSIVE MODE").await?;
    let epoch = new_epoch(client, row.stays(), &actor.why, false).await?;
    let sql = format!(
        "UPDATE crossfade.migrations SET epoch = $2, waiting = NULL, {END_OF_HOLD} WHERE name = $1 RETURNING hold_last_ms"
    );
    let held_ms: i64 = client.query_one(&sql, &[&name, &(epoch.0 as i64)]).await?.get(0);
    let detail = serde_json::json!({ "epoch": epoch.0, "held_ms": held_ms });
    note(client, actor, Some(name), "release", detail).await?;
    announce(client).await?;
    Ok(Some(epoch))
}

/// Ends the holds that began longer ago than that, in the caller's transaction: whoever began them was stopped, or cut off.
/// Should it come back, it finds its hold gone before it does anything. The migrations they were of.
pub async fn release_overdue(client: &impl GenericClient, longer_than: Duration) -> Result<Vec<String>, Error> {
    let sql = "SELECT name, epoch FROM crossfade.migrations \
               WHERE held_since < clock_timestamp() - $1::bigint * interval '1 millisecond'";
    let mut released = Vec::new();
    for row in client.query(sql, &[&(longer_than.as_millis() as i64)]).await? {
        let (name, epoch): (String, i64) = (row.get(0), row.get(1));
        let actor = Actor::proxy("whoever held transactions does not end it");
        if release(client, &name, Epoch(epoch.unsigned_abs()), &actor).await?.is_some() {
            released.push(name);
        }
    }
    Ok(released)
}

/// Whether a migration that was held still is as it was before, in the caller's transaction; nobody else changes it until
/// that ends.
pub async fn is_still_held(client: &impl GenericClient, row: &MigrationRow, held: Epoch) -> Result<bool, Error> {
    let now = lock(client, &row.name).await?;
    Ok(now.holds.now && is_as(&now, row, held))
}

fn is_as(now: &MigrationRow, then: &MigrationRow, epoch: Epoch) -> bool {
    now.epoch == epoch && now.phase == then.phase && now.target == then.target && now.paused == then.paused
}
