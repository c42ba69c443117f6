//! The world of the sessions of one thread: its rules, its plan cache, its counters.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::control::live::Live;
use crate::control::traffic::{Outcome, Shard, StatementKind};
use crate::migration::{Route, Rules};
use crate::session::{Host, Pinned};
use crate::sql::{self, Context, PlanCache, Planned};

/// What the sessions of one thread share.
#[derive(Debug)]
pub(super) struct ThreadHost {
    pinned: Rc<Pinned>,
    live: Arc<Live>,
    shard: Arc<Shard>,
    plans: PlanCache,
    plan_cache_bytes_max: u64,
}

impl ThreadHost {
    pub fn new(live: Arc<Live>, shard: Arc<Shard>, rules: Arc<Rules>, plan_cache_bytes_max: u64) -> ThreadHost {
        let plans = PlanCache::new(plan_cache_bytes_max);
        ThreadHost { pinned: Rc::new(Pinned::new(rules, 1)), live, shard, plans, plan_cache_bytes_max }
    }

    /// Puts other rules in force for the transactions that begin from now on.
    pub fn swap(&mut self, rules: Arc<Rules>) {
        self.pinned = Rc::new(Pinned::new(rules, self.pinned.generation + 1));
        // The catalog may differ though the epoch is the same, and plans depend on it.
        self.plans = PlanCache::new(self.plan_cache_bytes_max);
    }

    pub fn shard(&self) -> &Shard {
        &self.shard
    }
}

impl Host for ThreadHost {
    #[inline]
    fn rules(&self) -> &Rc<Pinned> {
        &self.pinned
    }

    fn is_leased(&self) -> bool {
        self.live.is_leased()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn rewrite(&mut self, text: &str, pinned: &Pinned, context: &Context<'_>) -> Planned {
        // A transaction that is still under older rules is soon over: its plans are not worth a place.
        let current = pinned.generation == self.pinned.generation;
        if current && let Some(planned) = self.plans.find(text, context) {
            self.shard.plan_remembered();
            return planned;
        }
        let begun = Instant::now();
        let plan =
            if current { self.plans.rewrite(text, context) } else { Planned::alone(sql::rewrite(text, context)) };
        self.shard.rewrite_took(begun.elapsed());
        plan
    }

    #[inline]
    fn statement(&mut self, kind: StatementKind, outcome: Outcome) {
        self.shard.statement(kind, outcome);
    }

    fn answered(&mut self, route: Route, time: Duration, failed: bool) {
        self.shard.answered(route, time, failed);
    }

    fn reprepared(&mut self) {
        self.shard.reprepared();
    }

    fn probed(&mut self) {
        self.shard.probed();
    }

    fn refused_unleased(&mut self) {
        self.shard.refused_unleased();
    }

    fn ddl_seen(&mut self) {
        self.live.note_ddl();
    }
}
