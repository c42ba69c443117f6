//! The world of the sessions of one thread: its rules, its plan cache, its counters.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::control::live::Live;
use crate::control::traffic::{Outcome, Shard, StatementKind};
use crate::migration::{Route, Rules};
use crate::session::{Host, Pinned};
use crate::sql::{self, Context, PlanCache, Planned};

/// Whether transactions may begin on this thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// They may: the rules are not held.
    Off,
    /// They wait for the next rules, since then.
    On(Instant),
    /// They may, since the next rules did not come. The held ones are not applied.
    Over,
}

/// What the sessions of one thread share.
#[derive(Debug)]
pub(super) struct ThreadHost {
    pinned: Rc<Pinned>,
    /// No rules, for sessions that no rules are about.
    unruled: Rc<Pinned>,
    hold: Hold,
    live: Arc<Live>,
    shard: Arc<Shard>,
    plans: PlanCache,
    plan_cache_bytes_max: u64,
    /// The time of the input that is being read, once it was asked for: a statement asks several times.
    now: Cell<Option<Instant>>,
}

impl ThreadHost {
    pub fn new(live: Arc<Live>, shard: Arc<Shard>, rules: Arc<Rules>, plan_cache_bytes_max: u64) -> ThreadHost {
        let plans = PlanCache::new(plan_cache_bytes_max);
        let hold = if rules.is_held() { Hold::On(Instant::now()) } else { Hold::Off };
        let unruled = Rc::new(Pinned::new(Arc::default(), 0));
        ThreadHost {
            pinned: Rc::new(Pinned::new(rules, 1)),
            unruled,
            hold,
            live,
            shard,
            plans,
            plan_cache_bytes_max,
            now: Cell::new(None),
        }
    }

    /// Some input was read just now, and goes to a session.
    #[inline]
    pub fn input_begins(&self) {
        self.now.set(None);
    }

    /// Puts other rules in force for the transactions that begin from now on.
    pub fn swap(&mut self, rules: Arc<Rules>) {
        self.hold = match (rules.is_held(), self.hold) {
            (false, _) => Hold::Off,
            // The same hold over another catalog, or read anew: its time goes on.
            (true, hold @ (Hold::On(_) | Hold::Over)) if rules.epoch() == self.pinned.rules.epoch() => hold,
            (true, Hold::Off | Hold::On(_) | Hold::Over) => Hold::On(Instant::now()),
        };
        self.pinned = Rc::new(Pinned::new(rules, self.pinned.generation + 1));
        // The catalog may differ though the epoch is the same, and plans depend on it.
        self.plans = PlanCache::new(self.plan_cache_bytes_max);
    }

    /// Ends a hold that has lasted for too long, or in which the lease ran out: whoever would end it may be gone, or
    /// cannot be heard.
    pub fn limit_hold(&mut self, time_max: Duration) {
        if let Hold::On(since) = self.hold
            && (since.elapsed() >= time_max || !self.live.is_leased())
        {
            self.hold = Hold::Over;
        }
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

    fn unruled(&self) -> &Rc<Pinned> {
        &self.unruled
    }

    #[inline]
    fn holds(&self) -> bool {
        matches!(self.hold, Hold::On(_))
    }

    fn is_leased(&self) -> bool {
        self.live.is_leased_at(self.now())
    }

    fn now(&self) -> Instant {
        let now = self.now.get().unwrap_or_else(Instant::now);
        self.now.set(Some(now));
        now
    }

    fn remembered(&mut self, text: &str, pinned: &Pinned, context: &Context<'_>) -> Option<Planned> {
        // A transaction that is still under older rules is soon over: its plans are not worth a place.
        let current = pinned.generation == self.pinned.generation;
        let mentions = || pinned.screen.has_table(text.as_bytes());
        let planned = if current { self.plans.find(text, context, mentions) } else { None };
        if planned.is_some() {
            self.shard.plan_remembered();
        }
        planned
    }

    fn rewrite(&mut self, text: &str, pinned: &Pinned, context: &Context<'_>) -> Planned {
        if let Some(planned) = self.remembered(text, pinned, context) {
            return planned;
        }
        let begun = Instant::now();
        let current = pinned.generation == self.pinned.generation;
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
