//! The sidecar's work: copies history, sweeps, compares, and yields to the application.
//!
//! Short transactions in key order; where a walk is, is saved in the transaction of the batch itself. Only an exhausted
//! range counts as done. Decides nothing about phases: the coordinator calls, and hears how a walk ended.

mod pace;
mod throttle;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::control::Error;
use crate::control::db::{Session, Upstream};
use crate::control::sidecar::{Pace, Pass, Scanned, Sidecar, Walked};
use crate::control::store::MigrationRow;
use crate::control::traffic::Traffic;

use throttle::Throttle;

/// The settings of the copy and the scan.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How long one batch should take.
    pub batch_target: Duration,
    /// The largest batch.
    pub batch_rows_max: u32,
    /// The copy rests while the application's statements take this many times as long as they did before it.
    pub latency_factor_max: f64,
    /// The copy rests while a standby is behind by more; zero: it does not look.
    pub replication_lag_max: Duration,
    /// The copy rests while more sessions than this wait for locks.
    pub lock_waits_max: u32,
    /// Rows in a second that the background scan compares at most.
    pub scan_rows_per_second: u32,
}

/// The sidecar of one process.
#[derive(Debug)]
pub struct Backfill {
    settings: Settings,
    throttle: Mutex<Throttle>,
}

impl Backfill {
    /// A sidecar that watches this process's traffic and this database.
    pub fn new(upstream: Upstream, traffic: Arc<Traffic>, settings: Settings) -> Backfill {
        let throttle = Mutex::new(Throttle::new(upstream, traffic, settings.clone()));
        Backfill { settings, throttle }
    }
}

impl Sidecar for Backfill {
    async fn copy(&self, session: &mut Session, row: &MigrationRow, pass: Pass) -> Result<Walked, Error> {
        walk::copy(&self.settings, &self.throttle, session, row, pass).await
    }

    async fn scan(&self, session: &mut Session, row: &MigrationRow, pace: Pace) -> Result<Scanned, Error> {
        walk::scan(&self.settings, &self.throttle, session, row, pace).await
    }
}
