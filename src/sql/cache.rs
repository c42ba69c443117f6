//! Remembers rewrites, bounded in bytes: a hit costs a hash of the text and one comparison.
//!
//! Pure, one per proxy thread. A plan that is thrown out is simply made again; huge texts are never kept.

use std::hash::Hash;
use std::sync::Arc;

use quick_cache::unsync::Cache;
use quick_cache::{Equivalent, Weighter};

use super::{Context, Names, Rewrite, rewrite};
use crate::migration::{Bucket, Epoch, Route, Shape};

/// The longest text whose plan is kept, in bytes: longer ones are bulk loads that never come again.
pub const CACHED_TEXT_BYTES_MAX: usize = 32 * 1024;

/// What an entry costs besides its texts, in bytes.
const ENTRY_BYTES: u64 = 256;

/// How many entries the cache makes room for at once.
const ENTRIES_EXPECTED: usize = 4096;

/// Plans by text and by everything else that they depend on.
#[derive(Debug)]
pub struct PlanCache {
    plans: Cache<Key, Arc<Rewrite>, Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    text: Box<str>,
    names: Names,
    rest: Rest,
}

/// What a plan depends on besides the text and the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Rest {
    epoch: Epoch,
    shape: Shape,
    routes: Routes,
    standard_conforming_strings: bool,
}

#[derive(Hash)]
struct Lookup<'a> {
    text: &'a str,
    names: &'a Names,
    rest: Rest,
}

impl Equivalent<Key> for Lookup<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.rest == key.rest && *self.text == *key.text && *self.names == key.names
    }
}

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<Key, Arc<Rewrite>> for Bytes {
    fn weight(&self, key: &Key, plan: &Arc<Rewrite>) -> u64 {
        let plan_bytes = match plan.as_ref() {
            Rewrite::Unchanged => 0,
            Rewrite::Rewritten(edits) => edits.text_bytes(),
            Rewrite::Refused(refusal) => refusal.message.len() + 256,
        };
        ENTRY_BYTES + (key.text.len() + plan_bytes) as u64
    }
}

impl PlanCache {
    /// A cache that keeps about this many bytes.
    pub fn new(bytes_max: u64) -> PlanCache {
        PlanCache { plans: Cache::with_weighter(ENTRIES_EXPECTED, bytes_max, Bytes) }
    }

    /// The plan for this text, remembered or made now.
    pub fn rewrite(&mut self, text: &str, cx: &Context<'_>) -> Arc<Rewrite> {
        if text.len() > CACHED_TEXT_BYTES_MAX {
            return Arc::new(rewrite(text, cx));
        }
        let rest = Rest {
            epoch: cx.rules.epoch(),
            shape: cx.shape,
            routes: Routes::of(cx),
            standard_conforming_strings: cx.standard_conforming_strings,
        };
        if let Some(plan) = self.plans.get(&Lookup { text, names: cx.names, rest }) {
            return Arc::clone(plan);
        }
        let plan = Arc::new(rewrite(text, cx));
        self.plans.insert(Key { text: text.into(), names: cx.names.clone(), rest }, Arc::clone(&plan));
        plan
    }

    /// The bytes in use, roughly.
    pub fn bytes(&self) -> u64 {
        self.plans.weight()
    }
}

/// With one migration all sessions of one route share their plans; with several, those of one bucket do where the
/// tables' routes differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Routes {
    Same(Route),
    Bucket(Bucket),
}

impl Routes {
    fn of(cx: &Context<'_>) -> Routes {
        let mut routes = cx.rules.tables().map(|table| table.route(cx.bucket));
        let first = routes.next().unwrap_or_default();
        if routes.all(|route| route == first) { Routes::Same(first) } else { Routes::Bucket(cx.bucket) }
    }
}
