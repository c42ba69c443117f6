//! One hold: proxies start no transaction, those in flight end, a step that locks everybody out runs, all go on.
//!
//! Bounded: where the proxies or the lock are not had in time everybody is let go, and whoever stood in the way is named.
//! Never tries twice; when to try again is the driver's affair. Leaves the hold behind only when the connection is lost:
//! then whoever drives next ends it.

use std::time::{Duration, Instant};

use tokio_postgres::Transaction;
use tokio_postgres::error::SqlState;

use super::db::Session;
use super::store::{self, Actor, Begun, MigrationRow, Move};
use super::{Error, fence, steps};
use crate::migration::Epoch;
use crate::migration::ddl::Step;

/// How often it is looked whether the proxies have settled.
const SETTLE_POLL: Duration = Duration::from_millis(5);

/// The shortest wait for a lock: less would fail without asking.
const LOCK_WAIT_MIN: Duration = Duration::from_millis(5);

/// What is done while nothing is in flight, in one transaction with the next epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work<'a> {
    /// The migration as the driver sees it.
    pub row: &'a MigrationRow,
    /// The steps; those that are done already are passed over.
    pub steps: &'a [Step],
    /// The change of phase that goes with them.
    pub advance: Option<Move<'a>>,
    /// What for.
    pub why: &'a str,
    /// How long transactions may be held.
    pub time_max: Duration,
    /// Whether the rules of before the work name what is gone behind it: then every transaction under them must have ended.
    /// Else those that are open go on, and only what they have locked is waited for.
    pub outdates: bool,
}

/// How a hold ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The work is done, and this is the epoch from then on.
    Done(Epoch),
    /// None began: it may be asked for again after that time.
    Resting(Duration),
    /// The migration is no longer as the driver saw it: somebody asked for something else. Nothing is held.
    Moved,
    /// It took too long, for this reason. Nothing was done, and nothing is held.
    Released(String),
}

/// Holds and works.
pub(super) async fn run(session: &mut Session, work: Work<'_>) -> Result<Outcome, Error> {
    let transaction = session.transaction().await?;
    let epoch = match store::hold(&transaction, work.row, &Actor::coordinator(work.why)).await? {
        Begun::Held(epoch) => epoch,
        Begun::Resting(time) => return Ok(Outcome::Resting(time)),
        Begun::Moved => return Ok(Outcome::Moved),
    };
    transaction.commit().await?;
    let begun = Instant::now();
    let text = match held(session, work, epoch, begun + work.time_max).await {
        Ok(Outcome::Released(text)) => text,
        Ok(Outcome::Moved) => {
            release(session, work.row, epoch, "something else was asked for").await?;
            return Ok(Outcome::Moved);
        }
        Ok(outcome @ (Outcome::Done(_) | Outcome::Resting(_))) => return Ok(outcome),
        Err(error) if error.is_lost_connection() => return Err(error),
        Err(error) if error.is_contention() || error.sql_state() == Some(&SqlState::QUERY_CANCELED) => {
            fence::lock_holders(session.client(), &work.row.migration.lens.table.quoted()).await?
        }
        Err(error) => {
            release(session, work.row, epoch, &format!("the step failed: {error}")).await?;
            return Err(error);
        }
    };
    let text = format!("{text} (transactions were held for {} ms and let go)", begun.elapsed().as_millis());
    release(session, work.row, epoch, &text).await?;
    Ok(Outcome::Released(text))
}

/// Lets transactions begin again, if that hold is still on.
pub(super) async fn release(session: &mut Session, row: &MigrationRow, held: Epoch, why: &str) -> Result<(), Error> {
    let transaction = session.transaction().await?;
    store::release(&transaction, &row.name, held, &Actor::coordinator(why)).await?;
    Ok(transaction.commit().await?)
}

async fn held(session: &mut Session, work: Work<'_>, epoch: Epoch, deadline: Instant) -> Result<Outcome, Error> {
    // A transaction that ends meanwhile will not stand in the lock's way.
    let settled_by = if work.outdates { deadline } else { deadline - work.time_max / 2 };
    while !store::behind(session.client(), epoch).await?.is_empty() {
        if Instant::now() >= settled_by {
            if !work.outdates {
                break;
            }
            // They may have settled since; then the next attempt will be quicker.
            let text = fence::unsettled_proxies(session.client(), epoch).await?;
            return Ok(Outcome::Released(text.unwrap_or_else(|| "waits for proxies to settle".to_owned())));
        }
        tokio::time::sleep(SETTLE_POLL).await;
    }
    let transaction = session.transaction().await?;
    bound(&transaction, deadline).await?;
    if !store::is_still_held(&transaction, work.row, epoch).await? {
        return Ok(Outcome::Moved);
    }
    for step in work.steps {
        if !steps::is_done(&transaction, step).await? {
            let left = bound(&transaction, deadline).await?;
            steps::run_in(&transaction, step, left).await?;
        }
    }
    let after = match work.advance {
        Some(step) => Some(store::advance(&transaction, step, &Actor::coordinator(work.why)).await?),
        None => {
            let done = Actor::coordinator("the step is done");
            store::release(&transaction, &work.row.name, epoch, &done).await?
        }
    };
    transaction.commit().await?;
    Ok(after.map_or(Outcome::Moved, Outcome::Done))
}

/// No statement of the transaction from here on runs on past the end of the hold, be it for a lock or for its own work.
/// What is left.
async fn bound(transaction: &Transaction<'_>, deadline: Instant) -> Result<Duration, Error> {
    let left = deadline.saturating_duration_since(Instant::now()).max(LOCK_WAIT_MIN);
    let millis = left.as_millis();
    // The lock's timeout is set by the step, and comes first.
    let idle = millis + steps::IDLE_GRACE.as_millis();
    let timeouts = format!(
        "SET LOCAL statement_timeout TO {}; SET LOCAL idle_in_transaction_session_timeout TO {idle}",
        millis + 1
    );
    transaction.batch_execute(&timeouts).await?;
    Ok(left)
}
