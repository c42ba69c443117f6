//! How large the next batch is, and how long to rest after it.
//!
//! Pure: durations in, numbers out.

use std::time::Duration;

/// The first batch of a walk.
const BATCH_ROWS_FIRST: u32 = 200;

/// The smallest batch.
const BATCH_ROWS_MIN: u32 = 10;

/// How much larger or smaller than the last one a batch can be.
const STEP_MAX: f64 = 2.0;

/// A batch size that follows a time target.
#[derive(Debug, Clone)]
pub struct BatchSize {
    target: Duration,
    rows: u32,
    rows_max: u32,
}

impl BatchSize {
    /// A size that begins small.
    pub fn new(target: Duration, rows_max: u32) -> BatchSize {
        let rows_max = rows_max.max(1);
        BatchSize { target, rows: BATCH_ROWS_FIRST.min(rows_max), rows_max }
    }

    /// Rows of the next batch.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Learns from a batch that took so long.
    pub fn took(&mut self, time: Duration) {
        let factor = self.target.as_secs_f64() / time.as_secs_f64().max(1e-6);
        let wanted = f64::from(self.rows) * factor.clamp(1.0 / STEP_MAX, STEP_MAX);
        self.rows = (wanted as u32).clamp(BATCH_ROWS_MIN.min(self.rows_max), self.rows_max);
    }

    /// A batch met somebody else's locks: smaller ones meet fewer.
    pub fn contended(&mut self) {
        self.rows = (self.rows / 2).max(BATCH_ROWS_MIN.min(self.rows_max));
    }
}

/// The rest after a batch that took so long, for a pace in percent: at 50 % as long as the batch itself.
pub fn rest(took: Duration, percent: u8) -> Duration {
    let percent = f64::from(percent.clamp(1, 100));
    took.mul_f64(100.0 / percent - 1.0)
}

/// The rest after a page of the background scan, so that no more rows than this are read in a second.
pub fn scan_rest(rows: i64, took: Duration, rows_per_second: u32) -> Duration {
    let due = Duration::from_secs_f64(rows.max(0) as f64 / f64::from(rows_per_second.max(1)));
    due.saturating_sub(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_grow_and_shrink_toward_the_time_target() {
        let mut size = BatchSize::new(Duration::from_millis(50), 1_000);
        size.took(Duration::from_millis(1));
        assert_eq!(size.rows(), 400);
        size.took(Duration::from_millis(1));
        size.took(Duration::from_millis(1));
        assert_eq!(size.rows(), 1_000);
        size.took(Duration::from_secs(5));
        assert_eq!(size.rows(), 500);
        size.took(Duration::from_millis(50));
        assert_eq!(size.rows(), 500);
        for _ in 0..20 {
            size.took(Duration::from_secs(5));
        }
        assert_eq!(size.rows(), BATCH_ROWS_MIN);
    }

    #[test]
    fn half_the_pace_rests_as_long_as_it_works() {
        assert_eq!(rest(Duration::from_millis(40), 100), Duration::ZERO);
        assert_eq!(rest(Duration::from_millis(40), 50), Duration::from_millis(40));
        assert_eq!(rest(Duration::from_millis(40), 1), Duration::from_millis(3960));
    }
}
