//! What the coordinator asks of whoever moves rows: the copy and the scan. Implemented in `backfill`.
//!
//! Both stop by themselves when somebody paused the migration or asked for another end, and both can be called again at
//! any time: where they are is in the store.

use std::time::Duration;

use super::Error;
use super::db::Session;
use super::store::MigrationRow;

/// Which walk over the table writes rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The first one: history.
    Copy,
    /// Again, for what a writer may have left behind the cursor, and for repairs.
    Sweep,
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walked {
    /// The end of the table was reached. Nothing else counts as done.
    Exhausted,
    /// The migration's row changed, or the time was over; the walk goes on from here when called again.
    Interrupted,
}

/// What a scan found since it was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// How it ended.
    pub walked: Walked,
    /// Rows that differ.
    pub drift: i64,
    /// Keys of some of them.
    pub samples: Vec<String>,
}

/// How fast a scan may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the throttle allows, to the end.
    Full,
    /// Slowly, and only for so long.
    Background(Duration),
}

/// Moves and compares rows.
pub trait Sidecar: Send + Sync + 'static {
    /// Copies the rows of one pass.
    fn copy(
        &self,
        session: &mut Session,
        row: &MigrationRow,
        pass: Pass,
    ) -> impl Future<Output = Result<Walked, Error>> + Send;

    /// Compares old and new.
    fn scan(
        &self,
        session: &mut Session,
        row: &MigrationRow,
        pace: Pace,
    ) -> impl Future<Output = Result<Scanned, Error>> + Send;
}
