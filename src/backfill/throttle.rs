//! Whether the copy should rest, so that the application does not notice it.
//!
//! Looks at the application's own latency as the proxy sees it, at standbys, and at lock waits. A signal that cannot be
//! read stops the copy: it never frees it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::control::Error;
use crate::control::db::{Session, Upstream};
use crate::control::traffic::{Histogram, Traffic};
use crate::migration::Route;

use super::Settings;

/// How often the signals are read.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Fewer statements than this in a look say nothing about latency.
const STATEMENTS_MIN: u64 = 20;

/// The share of statements whose latency is watched.
const QUANTILE: f64 = 0.9;

/// Latency below this is never a reason to rest.
const LATENCY_FREE: Duration = Duration::from_millis(5);

/// How long latency alone may keep the copy still at a time: a slow application must not stop it for ever.
const LATENCY_REST_MAX: Duration = Duration::from_secs(2);

/// Reads the signals.
#[derive(Debug)]
pub struct Throttle {
    upstream: Upstream,
    traffic: Arc<Traffic>,
    settings: Settings,
    monitor: Option<Session>,
    looked: Option<Instant>,
    verdict: Option<String>,
    /// The application's latency while nothing was copied.
    baseline: Option<Duration>,
    /// The counters at the last look.
    seen: Histogram,
    resting_since: Option<Instant>,
}

impl Throttle {
    /// A throttle that has not looked yet.
    pub fn new(upstream: Upstream, traffic: Arc<Traffic>, settings: Settings) -> Throttle {
        Throttle {
            upstream,
            traffic,
            settings,
            monitor: None,
            looked: None,
            verdict: None,
            baseline: None,
            seen: Histogram::default(),
            resting_since: None,
        }
    }

    /// Takes what the application's latency was until now as what it is without a copy. The caller copies nothing yet.
    pub fn begin(&mut self) {
        let latency = self.latency();
        if self.baseline.is_none() && latency.count() >= STATEMENTS_MIN {
            self.baseline = latency.quantile(QUANTILE);
        }
        self.seen = latency;
    }

    /// Why the copy should rest now; nothing when it may go on. Cheap between two looks.
    pub async fn reason_to_rest(&mut self) -> Option<String> {
        if self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            self.verdict = self.look().await;
            self.looked = Some(Instant::now());
        }
        self.verdict.clone()
    }

    async fn look(&mut self) -> Option<String> {
        if let Some(reason) = self.slow_application() {
            return Some(reason);
        }
        match self.look_at_server().await {
            Ok(verdict) => verdict,
            Err(error) => {
                self.monitor = None;
                Some(format!("the copy rests: its throttle cannot be read ({error})"))
            }
        }
    }

    fn latency(&self) -> Histogram {
        let snapshot = self.traffic.snapshot();
        let (old, new) = (snapshot.latency(Route::Old), snapshot.latency(Route::New));
        old.plus(new)
    }

    fn slow_application(&mut self) -> Option<String> {
        let latency = self.latency();
        let recent = latency.since(&self.seen);
        if recent.count() < STATEMENTS_MIN {
            return None;
        }
        self.seen = latency;
        let now = recent.quantile(QUANTILE)?;
        let baseline = *self.baseline.get_or_insert(now);
        let limit = baseline.mul_f64(self.settings.latency_factor_max.max(1.0)).max(LATENCY_FREE);
        if now <= limit {
            self.resting_since = None;
            return None;
        }
        let since = *self.resting_since.get_or_insert_with(Instant::now);
        if since.elapsed() > LATENCY_REST_MAX {
            // It is slow without us, too: that is the new baseline's lower bound.
            self.resting_since = None;
            self.baseline = Some(baseline.mul_f64(1.1));
            return None;
        }
        Some(format!(
            "the copy rests: the application's statements take {now:?} (9 of 10), {baseline:?} before the copy"
        ))
    }

    async fn look_at_server(&mut self) -> Result<Option<String>, Error> {
        let session = match self.monitor.take() {
            Some(session) => session,
            None => self.upstream.connect("crossfade throttle").await?,
        };
        let verdict = self.ask(&session).await?;
        self.monitor = Some(session);
        Ok(verdict)
    }

    async fn ask(&self, session: &Session) -> Result<Option<String>, Error> {
        let waits: i64 =
            session.query_one("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted", &[]).await?.get(0);
        if waits > i64::from(self.settings.lock_waits_max) {
            return Ok(Some(format!("the copy rests: {waits} sessions wait for locks")));
        }
        if self.settings.replication_lag_max.is_zero() {
            return Ok(None);
        }
        // Without pg_monitor other roles' rows are there, but empty.
        let row = session
            .query_one(
                "SELECT coalesce(bool_or(state IS NULL), false),
                        coalesce(max(extract(epoch FROM replay_lag)) FILTER (WHERE state = 'streaming'), 0)::float8
                   FROM pg_stat_replication",
                &[],
            )
            .await?;
        let (hidden, lag): (bool, f64) = (row.get(0), row.get(1));
        if hidden {
            return Ok(Some(
                "the copy rests: replication lag cannot be read; GRANT pg_monitor to the owner, or set \
                 replication_lag_ms_max = 0"
                    .to_owned(),
            ));
        }
        if lag > self.settings.replication_lag_max.as_secs_f64() {
            return Ok(Some(format!("the copy rests: a standby is {lag:.1} s behind")));
        }
        Ok(None)
    }
}
