//! What every part of one process shares: the rules in force, whether the lease holds, and when an epoch is settled.
//!
//! No I/O. `control` writes, `proxy` reads. Nothing here is touched per message: a proxy thread keeps its own handle to
//! the rules and swaps it when the channel says so.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::migration::{Epoch, Rules};

/// The state that the control plane gives to the proxy threads of this process.
#[derive(Debug)]
pub struct Live {
    rules: watch::Sender<Arc<Rules>>,
    /// Rules that were in force before and may still be pinned by a transaction.
    older: Mutex<Vec<Weak<Rules>>>,
    /// Until when this process's lease is good, in nanoseconds after `begun`. A deadline, not a flag: a process that was
    /// stopped for a while must find its lease gone before anybody had a chance to tell it.
    leased_until: AtomicU64,
    begun: Instant,
    /// Whether the rules were read from the database at least once.
    ready: AtomicBool,
    /// How often a proxy session saw DDL pass: the catalog may have changed.
    ddl_seen: AtomicU64,
}

impl Live {
    /// Begins with these rules and no lease.
    pub fn new(rules: Arc<Rules>) -> Live {
        Live {
            rules: watch::Sender::new(rules),
            older: Mutex::default(),
            leased_until: AtomicU64::new(0),
            begun: Instant::now(),
            ready: AtomicBool::new(false),
            ddl_seen: AtomicU64::new(0),
        }
    }

    /// The rules in force. Cold paths only; a proxy thread subscribes.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.borrow().clone()
    }

    /// To be told of each new set of rules.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Rules>> {
        self.rules.subscribe()
    }

    /// Puts new rules in force for every transaction that begins from now on.
    pub fn publish(&self, rules: Arc<Rules>) {
        let mut older = self.older.lock().expect("no panic happens under this lock");
        older.retain(|weak| weak.strong_count() > 0);
        let replaced = self.rules.send_replace(rules);
        older.push(Arc::downgrade(&replaced));
    }

    /// The oldest epoch that a transaction of this process still runs under; the current one when none is older.
    ///
    /// Rules are held by whoever may still apply them: a transaction, or a proxy thread that has not swapped yet.
    pub fn oldest_pinned(&self) -> Epoch {
        let mut older = self.older.lock().expect("no panic happens under this lock");
        let current = self.rules.borrow().epoch();
        older.retain(|weak| weak.strong_count() > 0);
        older.iter().filter_map(Weak::upgrade).map(|rules| rules.epoch()).fold(current, Epoch::min)
    }

    /// Whether this process's lease is good, now. Asked only for statements that touch a migrating table.
    pub fn is_leased(&self) -> bool {
        self.is_leased_at(Instant::now())
    }

    /// Whether it was good at that moment.
    pub fn is_leased_at(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.begun) < Duration::from_nanos(self.leased_until.load(Ordering::Acquire))
    }

    /// Makes the lease good until that moment and no longer.
    pub fn lease_until(&self, deadline: Instant) {
        let nanos = deadline.saturating_duration_since(self.begun).as_nanos();
        self.leased_until.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// Makes the lease good for ever, or ends it at once.
    pub fn lease(&self, good: bool) {
        self.leased_until.store(if good { u64::MAX } else { 0 }, Ordering::Release);
    }

    /// Whether the rules are those of the database and the lease was granted, so that sessions may begin. Stays true
    /// when the database goes away later: statements on migrating tables are then refused one by one.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Lets sessions begin.
    pub fn make_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// A session saw DDL succeed: the catalog may have changed.
    pub fn note_ddl(&self) {
        self.ddl_seen.fetch_add(1, Ordering::Relaxed);
    }

    /// How often DDL was noted so far.
    pub fn ddl_seen(&self) -> u64 {
        self.ddl_seen.load(Ordering::Relaxed)
    }
}
