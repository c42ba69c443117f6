//! The two walks over a table in key order: the one that writes and the one that compares.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::{GenericClient, Row};

use crate::catalog;
use crate::control::Error;
use crate::control::db::Session;
use crate::control::sidecar::{Pace, Pass, Scanned, Walked};
use crate::control::store::{self, MigrationRow, Page};
use crate::migration::walk::{self, Walk};

use super::Settings;
use super::pace::{self, BatchSize};
use super::throttle::Throttle;

/// How often one batch is tried again when it met somebody else's locks.
const BATCH_ATTEMPTS_MAX: u32 = 20;

/// The longest rest without looking at the migration's row.
const REST_MAX: Duration = Duration::from_millis(500);

/// How long a batch waits for one lock: it gives way long before PostgreSQL looks for deadlocks, which could end a client's
/// transaction instead.
const BATCH_LOCK_TIMEOUT: &str = "SELECT pg_catalog.set_config('lock_timeout', greatest(1, least(200, \
    extract(epoch FROM pg_catalog.current_setting('deadlock_timeout')::interval) * 500))::integer::text, true)";

/// Where the walk is, and how it goes on.
struct Position {
    key: Option<Vec<String>>,
    size: BatchSize,
}

/// Copies until the table is exhausted or the migration's row changes.
pub async fn copy(
    settings: &Settings,
    throttle: &Mutex<Throttle>,
    session: &mut Session,
    row: &MigrationRow,
    pass: Pass,
) -> Result<Walked, Error> {
    let progress = store::progress(session.client(), &row.name).await?;
    if pass == Pass::Copy && progress.copy_started_at.is_none() {
        let estimate = rows_estimate(session, row).await?;
        store::start_copy(session.client(), &row.name, estimate).await?;
    }
    throttle.lock().await.begin();
    let silence = catalog::may_silence_triggers(session).await?;
    let walk = walk::copy(&row.migration);
    let key = match pass {
        Pass::Copy => progress.copy_key,
        Pass::Sweep => progress.sweep_key,
    };
    let mut position = Position { key, size: BatchSize::new(settings.batch_target, settings.batch_rows_max) };
    loop {
        let Some(now) = unchanged(session, row).await? else { return Ok(Walked::Interrupted) };
        if let Some(reason) = throttle.lock().await.reason_to_rest().await {
            store::set_waiting(session.client(), &row.name, Some(&reason)).await?;
            tokio::time::sleep(REST_MAX / 2).await;
            continue;
        }
        store::set_waiting(session.client(), &row.name, None).await?;
        let began = Instant::now();
        match batch(session, row, pass, &walk, &position, silence).await? {
            Some(key) => position.key = Some(key),
            None => return Ok(Walked::Exhausted),
        }
        let took = began.elapsed();
        position.size.took(took);
        if !rest(session, row, pace::rest(took, now.speed)).await? {
            return Ok(Walked::Interrupted);
        }
    }
}

/// One batch with its progress, in one transaction; tried again where it met somebody else's locks. The last key, or
/// nothing when no row was left.
async fn batch(
    session: &mut Session,
    row: &MigrationRow,
    pass: Pass,
    walk: &Walk,
    position: &Position,
    silence: bool,
) -> Result<Option<Vec<String>>, Error> {
    let mut size = position.size.clone();
    for attempt in 1.. {
        match try_batch(session, row, pass, walk, position.key.as_deref(), size.rows(), silence).await {
            Err(error) if error.is_contention() && attempt < BATCH_ATTEMPTS_MAX => {
                size.contended();
                let jitter = rand::random_range(5..50 * u64::from(attempt));
                tokio::time::sleep(Duration::from_millis(jitter)).await;
            }
            done => return done,
        }
    }
    Ok(None)
}

async fn try_batch(
    session: &mut Session,
    row: &MigrationRow,
    pass: Pass,
    walk: &Walk,
    after: Option<&[String]>,
    rows: u32,
    silence: bool,
) -> Result<Option<Vec<String>>, Error> {
    let transaction = session.transaction().await?;
    transaction.batch_execute(BATCH_LOCK_TIMEOUT).await?;
    if silence {
        transaction.batch_execute(walk::SILENCE_TRIGGERS).await?;
    }
    let page = page(&transaction, walk, after, rows).await?;
    let Some(key) = page.try_get::<_, Option<Vec<String>>>("last_key")? else {
        // An empty page is the one sign that the range is exhausted.
        transaction.commit().await?;
        return Ok(None);
    };
    match pass {
        Pass::Copy => store::save_copy(&transaction, &row.name, &key, page.try_get("rows")?).await?,
        Pass::Sweep => store::save_sweep(&transaction, &row.name, &key).await?,
    }
    transaction.commit().await?;
    Ok(Some(key))
}

/// Compares until the table is exhausted, the time is over, or the migration's row changes.
pub async fn scan(
    settings: &Settings,
    throttle: &Mutex<Throttle>,
    session: &mut Session,
    row: &MigrationRow,
    pace: Pace,
) -> Result<Scanned, Error> {
    let progress = store::progress(session.client(), &row.name).await?;
    if progress.scan_started_at.is_none() {
        store::start_scan(session.client(), &row.name).await?;
    }
    let walk = walk::drift(&row.migration);
    let key = progress.scan_key.filter(|_| progress.scan_started_at.is_some());
    let mut position = Position { key, size: BatchSize::new(settings.batch_target, settings.batch_rows_max) };
    let mut found = Scanned { walked: Walked::Interrupted, drift: 0, samples: Vec::new() };
    let began = Instant::now();
    loop {
        let Some(now) = unchanged(session, row).await? else { return Ok(found) };
        let over = match pace {
            Pace::Full => false,
            Pace::Background(time) => found.drift > 0 || began.elapsed() >= time,
        };
        if over {
            return Ok(found);
        }
        if let Some(reason) = throttle.lock().await.reason_to_rest().await {
            if let Pace::Background(_) = pace {
                return Ok(found);
            }
            store::set_waiting(session.client(), &row.name, Some(&reason)).await?;
            tokio::time::sleep(REST_MAX / 2).await;
            continue;
        }
        if pace == Pace::Full {
            store::set_waiting(session.client(), &row.name, Some("compares every row of old and new storage")).await?;
        }
        let page_began = Instant::now();
        let page = page(session.client(), &walk, position.key.as_deref(), position.size.rows()).await?;
        let took = page_began.elapsed();
        let Some(key) = page.try_get::<_, Option<Vec<String>>>("last_key")? else {
            found.walked = Walked::Exhausted;
            return Ok(found);
        };
        let counts =
            Page { rows: page.try_get("rows")?, drift: page.try_get("drifted")?, misfits: page.try_get("misfits")? };
        store::save_scan(session.client(), &row.name, &key, counts).await?;
        found.drift += counts.drift;
        found.samples.extend(page.try_get::<_, Option<Vec<String>>>("samples")?.unwrap_or_default());
        position.key = Some(key);
        position.size.took(took);
        let time = match pace {
            Pace::Full => pace::rest(took, now.speed),
            Pace::Background(_) => pace::scan_rest(counts.rows, took, settings.scan_rows_per_second),
        };
        if !rest(session, row, time).await? {
            return Ok(found);
        }
    }
}

/// One page in key order, after a key or from the start.
async fn page(client: &impl GenericClient, walk: &Walk, after: Option<&[String]>, rows: u32) -> Result<Row, Error> {
    let rows = i64::from(rows);
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&rows];
    let Some(after) = after else { return Ok(client.query_one(walk.first.as_str(), &values).await?) };
    values.extend(after.iter().map(|part| part as &(dyn ToSql + Sync)));
    Ok(client.query_one(walk.next.as_str(), &values).await?)
}

/// The migration's row as it is now, if nobody paused it, moved it, or asked for another end.
async fn unchanged(session: &Session, row: &MigrationRow) -> Result<Option<MigrationRow>, Error> {
    let now = store::load(session.client(), &row.name).await?;
    let same = now.phase == row.phase && now.reads == row.reads && now.target == row.target && !now.paused;
    Ok(same.then_some(now))
}

/// Rests for a while, looking at the migration's row now and then; whether the walk may go on.
async fn rest(session: &Session, row: &MigrationRow, time: Duration) -> Result<bool, Error> {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(true);
        }
        tokio::time::sleep(left.min(REST_MAX)).await;
        if unchanged(session, row).await?.is_none() {
            return Ok(false);
        }
    }
}

/// About how many rows there are, as the planner knows; counted where it knows nothing.
async fn rows_estimate(session: &Session, row: &MigrationRow) -> Result<i64, Error> {
    let table = row.migration.lens.table.quoted();
    let estimate: Option<f32> = session
        .query_one("SELECT (SELECT reltuples FROM pg_class WHERE oid = to_regclass($1))", &[&table])
        .await?
        .get(0);
    match estimate {
        Some(rows) if rows > 0.0 => Ok(rows as i64),
        Some(_) | None => Ok(0),
    }
}
