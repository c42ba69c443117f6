//! The phases of a migration, the shape of a session, and the route of a transaction.
//!
//! Pure. What each phase means for reads and writes is derived in `rules`; which step may follow which is in `gate`.

use std::fmt;
use std::str::FromStr;

/// A version of the rules. Each change of phase or of a reads flag is a new one; only `control::store` makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// Where a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Recorded; nothing differs yet, for anybody.
    Planned,
    /// Proxies name the old columns explicitly (no `*` reaches the server), so that a column may appear.
    Shielded,
    /// The new column exists; nothing keeps it filled.
    Expanded,
    /// Every write sets both storages; the sync trigger keeps bypassing writers in step.
    DualWriting,
    /// History is being copied.
    Backfilling,
    /// A full drift scan found nothing, and nothing is in quarantine. Reads may be switched.
    Verified,
    /// A share of sessions reads from new storage (the share may be 0).
    Ramping,
    /// All sessions read from new storage; the way back is still open.
    Soaking,
    /// Proxies no longer name the old column. The last phase that can be rolled back.
    Contracting,
    /// The old column is gone. Old sessions are served from new storage, for ever.
    Contracted,
    /// Proxies no longer name the new column, so that it may be dropped.
    RollingBack,
    /// The new column is gone; the table is as it was, with every write made meanwhile.
    RolledBack,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Phase; 12] = [
        Phase::Planned,
        Phase::Shielded,
        Phase::Expanded,
        Phase::DualWriting,
        Phase::Backfilling,
        Phase::Verified,
        Phase::Ramping,
        Phase::Soaking,
        Phase::Contracting,
        Phase::Contracted,
        Phase::RollingBack,
        Phase::RolledBack,
    ];

    /// The name that people, files and tables use.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Planned => "planned",
            Phase::Shielded => "shielded",
            Phase::Expanded => "expanded",
            Phase::DualWriting => "dual_writing",
            Phase::Backfilling => "backfilling",
            Phase::Verified => "verified",
            Phase::Ramping => "ramping",
            Phase::Soaking => "soaking",
            Phase::Contracting => "contracting",
            Phase::Contracted => "contracted",
            Phase::RollingBack => "rolling_back",
            Phase::RolledBack => "rolled_back",
        }
    }

    /// Whether the migration no longer changes by itself or by a command.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Contracted | Phase::RolledBack)
    }
}

impl serde::Serialize for Phase {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> serde::Deserialize<'de> for Phase {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Phase, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Phase {
    type Err = String;
    fn from_str(text: &str) -> Result<Phase, String> {
        Phase::ALL.into_iter().find(|phase| phase.name() == text).ok_or_else(|| {
            let names: Vec<_> = Phase::ALL.iter().map(|phase| phase.name()).collect();
            format!("no phase is named {text:?}; the phases are {}", names.join(", "))
        })
    }
}

/// The schema that a session sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Shape {
    /// Exactly the old schema, in every phase and after contract.
    Old,
    /// Exactly the new schema, from expand on.
    New,
    /// The old schema; a name that does not resolve in it is looked up in the new one.
    #[default]
    Auto,
}

impl Shape {
    /// All shapes.
    pub const ALL: [Shape; 3] = [Shape::Old, Shape::New, Shape::Auto];

    /// The name used in `crossfade.shape`, configuration and flags.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Old => "old",
            Shape::New => "new",
            Shape::Auto => "auto",
        }
    }
}

impl FromStr for Shape {
    type Err = String;
    fn from_str(text: &str) -> Result<Shape, String> {
        Shape::ALL
            .into_iter()
            .find(|shape| shape.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("no shape is named {text:?}; the shapes are old, new, auto"))
    }
}

/// The storage that a transaction's reads are answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Route {
    /// Old storage.
    #[default]
    Old,
    /// New storage.
    New,
}

impl Route {
    /// Both routes.
    pub const ALL: [Route; 2] = [Route::Old, Route::New];

    /// The name used in flags and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Route::Old => "old",
            Route::New => "new",
        }
    }
}

/// The share of sessions whose reads go to new storage, in percent (0 to 100).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Percent(u8);

impl Percent {
    /// Nobody.
    pub const ZERO: Percent = Percent(0);
    /// Everybody.
    pub const ALL: Percent = Percent(100);

    /// A share from 0 to 100.
    pub fn new(percent: u8) -> Option<Percent> {
        (percent <= 100).then_some(Percent(percent))
    }

    /// 0 to 100.
    pub fn value(self) -> u8 {
        self.0
    }
}

/// A session's fixed place in the ramp, 0 to 9,999. A session whose place is below the share reads from new storage,
/// so raising the share only ever adds sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Bucket(u16);

impl Bucket {
    /// How many places there are.
    pub const COUNT: u16 = 10_000;

    /// The place that any number falls on.
    pub fn of(number: u64) -> Bucket {
        Bucket((number % u64::from(Bucket::COUNT)) as u16)
    }

    /// The route of this place when that share reads from new storage.
    pub fn route(self, reads: Percent) -> Route {
        if self.0 < u16::from(reads.value()) * 100 { Route::New } else { Route::Old }
    }
}
