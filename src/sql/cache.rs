//! Remembers plans, bounded in bytes. A hit costs a comparison with a text that came lately; where none is like it, a hash and
//! a comparison, or, where it has literals, one pass over it and the same of its shape.
//!
//! Pure, one per proxy thread. A text that comes once is planned once, as it stands. When another of its shape comes, a
//! plan for the shape is made without the literals, and held against what both texts alone get: where it differs, or
//! where planning looked at a literal, texts of that shape are remembered one by one. Huge texts are never kept.

use std::sync::Arc;

use quick_cache::unsync::Cache;
use quick_cache::{Equivalent, Weighter};

use super::recent::Recent;
use super::shape::Shape as TextShape;
use super::template::{Planned, Template};
use super::{Context, Names, rewrite};
use crate::migration::{Bucket, Epoch, Route, Shape};

/// The longest text whose plan is kept, in bytes: a bulk insert of some thousand rows, which many libraries send again
/// and again. What comes once leaves the cache before what comes often.
pub const CACHED_TEXT_BYTES_MAX: usize = 256 * 1024;

/// What an entry costs besides its texts, in bytes.
const ENTRY_BYTES: u64 = 256;

/// How many entries the cache makes room for at once.
const ENTRIES_EXPECTED: usize = 4096;

/// How many lists of names are told apart; beyond that all plans are forgotten.
const NAMES_MAX: usize = 256;

/// Plans by shape and by everything else that they depend on.
#[derive(Debug)]
pub struct PlanCache {
    plans: Cache<Key, Entry, Bytes>,
    recent: Recent<Rest>,
    /// The shape of the text in hand; kept for its memory.
    shape: TextShape,
    /// What names meant in the sessions of the plans: a plan's key has the index.
    names: Vec<Names>,
    plans_made: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// A shape's key, or a whole text. No text has the byte that stands for a literal in a shape.
    text: Box<[u8]>,
    rest: Rest,
}

/// What a plan depends on besides the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Rest {
    epoch: Epoch,
    shape: Shape,
    routes: Routes,
    standard_conforming_strings: bool,
    names: u32,
}

#[derive(Hash)]
struct Lookup<'a> {
    text: &'a [u8],
    rest: Rest,
}

impl Equivalent<Key> for Lookup<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.rest == key.rest && *self.text == *key.text
    }
}

/// What is known of a shape or text.
#[derive(Debug, Clone)]
enum Entry {
    /// One text of the shape has come so far.
    Once { text: Arc<str>, plan: Arc<Template> },
    /// The plan of every text of the shape.
    Every(Arc<Template>),
    /// The literals matter: each text has an entry of its own.
    ByText,
    /// The plan of this text.
    Text(Arc<Template>),
}

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<Key, Entry> for Bytes {
    fn weight(&self, key: &Key, entry: &Entry) -> u64 {
        let entry = match entry {
            Entry::Once { text, plan } => text.len() + plan.bytes(),
            Entry::Every(plan) | Entry::Text(plan) => plan.bytes(),
            Entry::ByText => 0,
        };
        ENTRY_BYTES + (key.text.len() + entry) as u64
    }
}

impl PlanCache {
    /// A cache that keeps about this many bytes.
    pub fn new(bytes_max: u64) -> PlanCache {
        let plans = Cache::with_weighter(ENTRIES_EXPECTED, bytes_max, Bytes);
        PlanCache { plans, recent: Recent::new(), shape: TextShape::default(), names: Vec::new(), plans_made: 0 }
    }

    /// The plan for this text, where it is remembered. `may_be` is asked where no text like it came lately: whether it is worth
    /// a closer look.
    pub fn find(&mut self, text: &str, cx: &Context<'_>, may_be: impl FnOnce() -> bool) -> Option<Planned> {
        if text.len() > CACHED_TEXT_BYTES_MAX {
            return None;
        }
        let rest = self.rest(cx);
        let strings = cx.standard_conforming_strings;
        if let Some(plan) = self.recent.find(text, &rest, strings, &mut self.shape.literals)
            && let Some(planned) = Planned::moved(plan, &self.shape.literals)
        {
            return Some(planned);
        }
        if !may_be() {
            return None;
        }
        // A text without literals is its own shape.
        if let Some(Entry::Text(plan) | Entry::Every(plan)) = self.plans.get(&Lookup { text: text.as_bytes(), rest }) {
            self.recent.keep(text, rest, strings, &[], plan);
            return Some(Planned::fixed(plan));
        }
        if !self.shape.read(text, strings) || self.shape.literals.is_empty() {
            return None;
        }
        match self.plans.get(&Lookup { text: &self.shape.key, rest })? {
            Entry::Every(plan) => {
                let planned = Planned::moved(plan, &self.shape.literals)?;
                self.recent.keep(text, rest, strings, &self.shape.literals, plan);
                Some(planned)
            }
            Entry::Once { text: same, plan } => (**same == *text).then(|| Planned::fixed(plan)),
            Entry::ByText | Entry::Text(_) => None,
        }
    }

    /// The plan for this text, remembered or made now.
    pub fn rewrite(&mut self, text: &str, cx: &Context<'_>) -> Planned {
        if let Some(planned) = self.find(text, cx, || true) {
            return planned;
        }
        if text.len() > CACHED_TEXT_BYTES_MAX {
            return Planned::fixed(&self.plan(text, cx));
        }
        let rest = self.rest(cx);
        if !self.shape.read(text, cx.standard_conforming_strings) {
            return self.alone(text, cx, rest);
        }
        match self.plans.get(&Lookup { text: &self.shape.key, rest }) {
            Some(Entry::Once { text: other, plan }) => {
                let (other, plan) = (Arc::clone(other), Arc::clone(plan));
                self.second(text, (&other, &plan), cx, rest)
            }
            Some(Entry::Every(_) | Entry::ByText | Entry::Text(_)) => self.alone(text, cx, rest),
            None => self.first(text, cx, rest),
        }
    }

    fn rest(&mut self, cx: &Context<'_>) -> Rest {
        Rest {
            epoch: cx.rules.epoch(),
            shape: cx.shape,
            routes: Routes::of(cx),
            standard_conforming_strings: cx.standard_conforming_strings,
            names: self.names_index(cx.names),
        }
    }

    /// A text of a shape that is new.
    fn first(&mut self, text: &str, cx: &Context<'_>, rest: Rest) -> Planned {
        let plan = self.plan(text, cx);
        let planned = Planned::fixed(&plan);
        let entry = match self.shape.literals.is_empty() {
            true => Entry::Every(plan),
            false => Entry::Once { text: text.into(), plan },
        };
        self.plans.insert(Key { text: self.shape.key.as_slice().into(), rest }, entry);
        planned
    }

    /// The second text of a shape: now a plan for the shape is worth its while.
    fn second(&mut self, text: &str, other: (&str, &Arc<Template>), cx: &Context<'_>, rest: Rest) -> Planned {
        let plan = self.plan(text, cx);
        let key = Key { text: self.shape.key.as_slice().into(), rest };
        let (other, other_plan) = other;
        self.plans_made += 1;
        let canonical = self.shape.canonical(text);
        let shared = canonical.and_then(|canonical| Template::of_shape(&canonical, cx)).map(Arc::new);
        let holds = |shared: &Arc<Template>, shape: &TextShape, text: &str, plan: &Arc<Template>| {
            let moved = Planned::moved(shared, &shape.literals);
            moved.is_some_and(|moved| moved.rewrite(text) == Planned::fixed(plan).rewrite(text))
        };
        let shared = shared.filter(|shared| {
            holds(shared, &self.shape, text, &plan)
                && self.shape.read(other, cx.standard_conforming_strings)
                && holds(shared, &self.shape, other, other_plan)
        });
        let planned = Planned::fixed(&plan);
        match shared {
            Some(shared) => self.plans.insert(key, Entry::Every(shared)),
            None => {
                self.plans.insert(key, Entry::ByText);
                self.plans.insert(Key { text: text.as_bytes().into(), rest }, Entry::Text(plan));
            }
        }
        planned
    }

    /// A text whose literals matter, or that has no shape, and that is not remembered.
    fn alone(&mut self, text: &str, cx: &Context<'_>, rest: Rest) -> Planned {
        let plan = self.plan(text, cx);
        let planned = Planned::fixed(&plan);
        self.plans.insert(Key { text: text.as_bytes().into(), rest }, Entry::Text(plan));
        planned
    }

    fn plan(&mut self, text: &str, cx: &Context<'_>) -> Arc<Template> {
        self.plans_made += 1;
        Arc::new(Template::of_text(rewrite(text, cx)))
    }

    /// The index of what names mean. Nearly all sessions of a proxy agree about that.
    fn names_index(&mut self, names: &Names) -> u32 {
        if let Some(found) = self.names.iter().position(|known| known == names) {
            return found as u32;
        }
        if self.names.len() >= NAMES_MAX {
            self.names.clear();
            self.plans.clear();
            self.recent.clear();
        }
        self.names.push(names.clone());
        self.names.len() as u32 - 1
    }

    /// How often a text was read and planned: what was not remembered.
    pub fn plans_made(&self) -> u64 {
        self.plans_made
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
