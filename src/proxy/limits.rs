//! The limits that may be changed while the proxy runs. Sessions that are there already are not ended by a lower one.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::ProxyConfig;

/// Read by the acceptor and by each thread's sweep, never per message.
#[derive(Debug)]
pub struct Limits {
    connections_max: AtomicUsize,
    idle_transaction_ms: AtomicU64,
    idle_session_ms: AtomicU64,
}

impl Limits {
    pub(super) fn new(config: &ProxyConfig) -> Limits {
        let limits = Limits {
            connections_max: AtomicUsize::new(config.connections_max),
            idle_transaction_ms: AtomicU64::new(0),
            idle_session_ms: AtomicU64::new(0),
        };
        limits.set_idle(config.idle_transaction_timeout, config.idle_session_timeout);
        limits
    }

    /// Sessions at most.
    pub fn connections_max(&self) -> usize {
        self.connections_max.load(Ordering::Relaxed)
    }

    /// How long a client may leave its transaction idle; `None` for ever.
    pub fn idle_transaction(&self) -> Option<Duration> {
        some(&self.idle_transaction_ms)
    }

    /// How long a client may stay idle outside of a transaction; `None` for ever.
    pub fn idle_session(&self) -> Option<Duration> {
        some(&self.idle_session_ms)
    }

    /// Sessions at most, from now on.
    pub fn set_connections_max(&self, most: usize) {
        self.connections_max.store(most, Ordering::Relaxed);
    }

    /// The times that clients may be idle, from now on; zero for ever.
    pub fn set_idle(&self, transaction: Duration, session: Duration) {
        for (limit, time) in [(&self.idle_transaction_ms, transaction), (&self.idle_session_ms, session)] {
            limit.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

fn some(limit: &AtomicU64) -> Option<Duration> {
    Some(limit.load(Ordering::Relaxed)).filter(|ms| *ms > 0).map(Duration::from_millis)
}
