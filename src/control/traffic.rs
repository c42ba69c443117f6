//! What passes through this process, counted per thread and summed when somebody looks.
//!
//! Each proxy thread owns one [`Shard`] and alone writes to it, with plain relaxed loads and stores: counting costs no
//! locked instruction and shares no cache line. Latency is measured only for statements that touch a migrating table.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::migration::Route;
pub use crate::session::{Outcome, StatementKind};

const KINDS: usize = StatementKind::ALL.len();
const OUTCOMES: usize = Outcome::ALL.len();
const ROUTES: usize = Route::ALL.len();

/// Steps of a histogram within each doubling.
const STEPS_PER_DOUBLING: usize = 4;
/// Doublings of one microsecond that are told apart: up to about 67 seconds.
const DOUBLINGS: usize = 26;
/// Buckets of a histogram; the last one holds everything that is longer.
pub const BUCKETS: usize = DOUBLINGS * STEPS_PER_DOUBLING + 1;

/// The counters of all threads of this process.
#[derive(Debug, Default)]
pub struct Traffic {
    shards: Mutex<Vec<Arc<Shard>>>,
}

impl Traffic {
    /// Nothing counted yet.
    pub fn new() -> Traffic {
        Traffic::default()
    }

    /// A new shard, for one thread. It counts for as long as the process lives.
    pub fn shard(&self) -> Arc<Shard> {
        let shard = Arc::new(Shard::default());
        self.shards.lock().expect("no panic happens under this lock").push(shard.clone());
        shard
    }

    /// The sums over all threads, at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        for shard in self.shards.lock().expect("no panic happens under this lock").iter() {
            shard.add_to(&mut sum);
        }
        sum
    }
}

/// One number with one writer.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    /// Only the owning thread calls this, so that a load and a store suffice.
    fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one thread. Only that thread may call its counting methods.
#[derive(Debug, Default)]
pub struct Shard {
    sessions_opened: Counter,
    sessions_closed: Counter,
    statements: [[Counter; OUTCOMES]; KINDS],
    repreparations: Counter,
    probes: Counter,
    refused_unleased: Counter,
    bytes_from_clients: Counter,
    bytes_from_server: Counter,
    rewrite: Distribution,
    latency: [Distribution; ROUTES],
    errors: [Counter; ROUTES],
}

impl Shard {
    /// A session was accepted.
    pub fn session_opened(&self) {
        self.sessions_opened.add(1);
    }

    /// A session ended.
    pub fn session_closed(&self) {
        self.sessions_closed.add(1);
    }

    /// A statement was sent on, or answered by us.
    pub fn statement(&self, kind: StatementKind, outcome: Outcome) {
        self.statements[kind as usize][outcome as usize].add(1);
    }

    /// A stale prepared statement was prepared again.
    pub fn reprepared(&self) {
        self.repreparations.add(1);
    }

    /// The server was asked what unqualified names mean in a session.
    pub fn probed(&self) {
        self.probes.add(1);
    }

    /// A statement was refused because this process holds no lease.
    pub fn refused_unleased(&self) {
        self.refused_unleased.add(1);
    }

    /// A plan was remembered: nothing was read. Counted with the rewrites, as one of no length: a look at the clock would
    /// cost as much as a part of it.
    pub fn plan_remembered(&self) {
        self.rewrite.observe(Duration::ZERO);
    }

    /// A rewrite that was not remembered took so long.
    pub fn rewrite_took(&self, time: Duration) {
        self.rewrite.observe(time);
    }

    /// The server answered a statement that touches a migrating table.
    pub fn answered(&self, route: Route, time: Duration, failed: bool) {
        self.latency[route as usize].observe(time);
        if failed {
            self.errors[route as usize].add(1);
        }
    }

    /// Bytes were read from clients.
    pub fn read_from_client(&self, bytes: usize) {
        self.bytes_from_clients.add(bytes as u64);
    }

    /// Bytes were read from the server.
    pub fn read_from_server(&self, bytes: usize) {
        self.bytes_from_server.add(bytes as u64);
    }

    fn add_to(&self, sum: &mut Snapshot) {
        // Closed first: a session that ends between the two loads must not make the difference negative.
        let closed = self.sessions_closed.value();
        let opened = self.sessions_opened.value();
        sum.sessions += opened.saturating_sub(closed);
        sum.sessions_total += opened;
        for (sums, counters) in sum.statements.iter_mut().zip(&self.statements) {
            for (sum, counter) in sums.iter_mut().zip(counters) {
                *sum += counter.value();
            }
        }
        sum.repreparations += self.repreparations.value();
        sum.probes += self.probes.value();
        sum.refused_unleased += self.refused_unleased.value();
        sum.bytes_from_clients += self.bytes_from_clients.value();
        sum.bytes_from_server += self.bytes_from_server.value();
        self.rewrite.add_to(&mut sum.rewrite);
        for (sum, latency) in sum.latency.iter_mut().zip(&self.latency) {
            latency.add_to(sum);
        }
        for (sum, errors) in sum.errors.iter_mut().zip(&self.errors) {
            *sum += errors.value();
        }
    }
}

#[derive(Debug)]
struct Distribution {
    buckets: [Counter; BUCKETS],
    sum_nanos: Counter,
}

impl Default for Distribution {
    fn default() -> Distribution {
        Distribution { buckets: std::array::from_fn(|_| Counter::default()), sum_nanos: Counter::default() }
    }
}

impl Distribution {
    fn observe(&self, time: Duration) {
        self.buckets[bucket_of(time)].add(1);
        self.sum_nanos.add(time.as_nanos() as u64);
    }

    fn add_to(&self, sum: &mut Histogram) {
        for (sum, bucket) in sum.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.value();
        }
        sum.sum_nanos += self.sum_nanos.value();
    }
}

/// Bucket `i` holds the times up to `bucket_limit(i)` that no lower bucket holds.
fn bucket_of(time: Duration) -> usize {
    let micros = (time.as_nanos() / 1000).min(u128::from(u64::MAX)) as u64;
    if micros == 0 {
        return 0;
    }
    let doubling = micros.ilog2() as usize;
    // How far into its doubling the time lies, in steps.
    let step = ((micros - (1 << doubling)) * STEPS_PER_DOUBLING as u64) >> doubling;
    (doubling * STEPS_PER_DOUBLING + step as usize).min(BUCKETS - 1)
}

/// The longest time that bucket `i` of a [`Histogram`] holds (exclusive); the last bucket has no limit.
pub fn bucket_limit(bucket: usize) -> Duration {
    if bucket + 1 >= BUCKETS {
        return Duration::MAX;
    }
    let doubling = bucket / STEPS_PER_DOUBLING;
    let step = (bucket % STEPS_PER_DOUBLING + 1) as u64;
    let nanos = (1000u64 << doubling) + ((1000u64 << doubling) * step) / STEPS_PER_DOUBLING as u64;
    Duration::from_nanos(nanos)
}

/// How many of what length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    sum_nanos: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: [0; BUCKETS], sum_nanos: 0 }
    }
}

impl Histogram {
    /// How many in all.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their lengths, added up.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos)
    }

    /// How many are in each bucket; see [`bucket_limit`].
    pub fn buckets(&self) -> &[u64] {
        &self.buckets
    }

    /// Both together.
    pub fn plus(&self, other: &Histogram) -> Histogram {
        Histogram {
            buckets: std::array::from_fn(|i| self.buckets[i] + other.buckets[i]),
            sum_nanos: self.sum_nanos.wrapping_add(other.sum_nanos),
        }
    }

    /// What came since an earlier snapshot of the same counters.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        Histogram {
            buckets: std::array::from_fn(|i| self.buckets[i].saturating_sub(earlier.buckets[i])),
            sum_nanos: self.sum_nanos.saturating_sub(earlier.sum_nanos),
        }
    }

    /// The time that this share (0 to 1) of them do not exceed, to within a quarter of a doubling; `None` without any.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((share * count as f64).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        for (bucket, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return Some(bucket_limit(bucket.min(BUCKETS - 2)));
            }
        }
        None
    }
}

/// All counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Sessions that are open now.
    pub sessions: u64,
    /// Sessions accepted so far.
    pub sessions_total: u64,
    statements: [[u64; OUTCOMES]; KINDS],
    /// Stale prepared statements that were prepared again under the covers.
    pub repreparations: u64,
    /// Questions of ours to the server about what names mean in a session.
    pub probes: u64,
    /// Statements refused for want of a lease (they count as refused too).
    pub refused_unleased: u64,
    /// Bytes read from clients.
    pub bytes_from_clients: u64,
    /// Bytes read from the server.
    pub bytes_from_server: u64,
    /// How long rewrites took.
    pub rewrite: Histogram,
    latency: [Histogram; ROUTES],
    errors: [u64; ROUTES],
}

impl Snapshot {
    /// Statements of that kind with that outcome.
    pub fn statements(&self, kind: StatementKind, outcome: Outcome) -> u64 {
        self.statements[kind as usize][outcome as usize]
    }

    /// Statements of all kinds with that outcome.
    pub fn statements_with(&self, outcome: Outcome) -> u64 {
        self.statements.iter().map(|kind| kind[outcome as usize]).sum()
    }

    /// How long statements on migrating tables took, from our sending to the server's last word, on that route.
    pub fn latency(&self, route: Route) -> &Histogram {
        &self.latency[route as usize]
    }

    /// Statements on migrating tables that the server answered with an error, on that route.
    pub fn errors(&self, route: Route) -> u64 {
        self.errors[route as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_bucket_whose_limits_hold_it() {
        for micros in (0..5_000).chain([70_000, 1_000_000, 66_000_000]) {
            let time = Duration::from_micros(micros);
            let bucket = bucket_of(time);
            assert!(time < bucket_limit(bucket), "{micros} µs in bucket {bucket}");
            // The buckets within the first doublings are finer than the microseconds that are counted.
            assert!(bucket < 12 || time >= bucket_limit(bucket - 1), "{micros} µs in bucket {bucket}");
        }
        assert_eq!(bucket_of(Duration::from_secs(1_000_000)), BUCKETS - 1);
    }

    #[test]
    fn shards_add_up_and_a_difference_is_what_came_since() {
        let traffic = Traffic::new();
        let (one, two) = (traffic.shard(), traffic.shard());
        one.session_opened();
        two.session_opened();
        two.session_closed();
        one.statement(StatementKind::Select, Outcome::Rewritten);
        two.statement(StatementKind::Select, Outcome::Rewritten);
        one.answered(Route::New, Duration::from_millis(1), true);
        let before = traffic.snapshot();
        two.answered(Route::New, Duration::from_millis(100), false);
        let after = traffic.snapshot();
        assert_eq!((after.sessions, after.sessions_total), (1, 2));
        assert_eq!(after.statements(StatementKind::Select, Outcome::Rewritten), 2);
        assert_eq!(after.statements_with(Outcome::Rewritten), 2);
        assert_eq!(after.errors(Route::New), 1);
        let since = after.latency(Route::New).since(before.latency(Route::New));
        assert_eq!(since.count(), 1);
        let p99 = since.quantile(0.99).unwrap();
        assert!(p99 >= Duration::from_millis(100) && p99 < Duration::from_millis(126), "{p99:?}");
        assert_eq!(after.latency(Route::Old).quantile(0.5), None);
    }
}
