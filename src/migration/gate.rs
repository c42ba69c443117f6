//! Decides whether a migration may move to another phase.
//!
//! Pure: `Facts` in, `Blocker`s out. Never asks the database, never reads the clock; what a fact is worth (how old it
//! may be) is decided by who gathers it.

use serde::Serialize;

use super::{Percent, Phase};

/// A reason why something may not be done now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocker {
    /// A short fixed name for machines: `quarantine_not_empty`.
    pub code: &'static str,
    /// What is in the way; lower case, one line, without a final full stop.
    pub what: String,
    /// Why it is, in full sentences.
    pub why: String,
    /// What to do about it, in full sentences.
    pub todo: String,
}

impl Blocker {
    /// A blocker.
    pub fn new(
        code: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        todo: impl Into<String>,
    ) -> Blocker {
        Blocker { code, what: what.into(), why: why.into(), todo: todo.into() }
    }
}

impl std::fmt::Display for Blocker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n  {}\n  {}", self.what, self.why, self.todo)
    }
}

/// What the last full drift scan said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scan {
    /// No full scan since the copy ended (or since rows were repaired).
    #[default]
    NotDone,
    /// Every row was read, and old and new agree.
    Clean,
    /// That many rows disagree.
    Drift(u64),
}

/// What is known of a migration when a step is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Where it is.
    pub phase: Phase,
    /// The share of sessions that reads from new storage.
    pub reads: Percent,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether this coordinator still holds its lock.
    pub coordinator: bool,
    /// Names of proxies whose lease is good and that have not acknowledged the present epoch.
    pub proxies_behind: Vec<String>,
    /// Transactions anywhere on the server that are older than the present epoch's fence.
    pub older_transactions: u64,
    /// Whether the copy reached the end of the table.
    pub copied: bool,
    /// Whether indexes and constraints of the new column are built and valid.
    pub built: bool,
    /// The last full drift scan.
    pub scan: Scan,
    /// Rows in quarantine.
    pub quarantined: u64,
    /// Other migrations on the table that are not at their end.
    pub rivals: Vec<String>,
    /// Objects that make the contract impossible or that it would break, as PostgreSQL describes them.
    pub dependents: Vec<String>,
    /// What became of the table that the migration cannot follow (see `migration::changed`).
    pub changed: Vec<Blocker>,
    /// Whether the person confirmed the step that cannot be undone.
    pub confirmed: bool,
}

impl Facts {
    /// Facts of a migration in that phase with nothing in the way.
    pub fn quiet(phase: Phase) -> Facts {
        Facts {
            phase,
            reads: Percent::ZERO,
            paused: false,
            coordinator: true,
            proxies_behind: Vec::new(),
            older_transactions: 0,
            copied: true,
            built: true,
            scan: Scan::Clean,
            quarantined: 0,
            rivals: Vec::new(),
            dependents: Vec::new(),
            changed: Vec::new(),
            confirmed: true,
        }
    }
}

/// The phases that may follow a phase.
///
/// | from | to |
/// |---|---|
/// | planned | shielded, rolled_back |
/// | shielded | expanded, rolling_back |
/// | expanded | dual_writing, rolling_back |
/// | dual_writing | backfilling, rolling_back |
/// | backfilling | verified, rolling_back |
/// | verified | ramping, rolling_back |
/// | ramping | soaking, rolling_back (and ramping again, with another share) |
/// | soaking | contracting, ramping, rolling_back |
/// | contracting | contracted, soaking |
/// | rolling_back | rolled_back |
/// | contracted, rolled_back | none |
pub fn next(phase: Phase) -> &'static [Phase] {
    match phase {
        Phase::Planned => &[Phase::Shielded, Phase::RolledBack],
        Phase::Shielded => &[Phase::Expanded, Phase::RollingBack],
        Phase::Expanded => &[Phase::DualWriting, Phase::RollingBack],
        Phase::DualWriting => &[Phase::Backfilling, Phase::RollingBack],
        Phase::Backfilling => &[Phase::Verified, Phase::RollingBack],
        Phase::Verified => &[Phase::Ramping, Phase::RollingBack],
        Phase::Ramping => &[Phase::Ramping, Phase::Soaking, Phase::RollingBack],
        Phase::Soaking => &[Phase::Contracting, Phase::Ramping, Phase::RollingBack],
        // On the way back both columns are written for a while, so that the default can move back to the old one.
        Phase::Contracting => &[Phase::Contracted, Phase::Soaking],
        Phase::RollingBack => &[Phase::RolledBack],
        Phase::Contracted | Phase::RolledBack => &[],
    }
}

/// Everything that stands between a migration and that phase; nothing when it may go there now.
pub fn blockers(facts: &Facts, target: Phase) -> Vec<Blocker> {
    let mut found = Vec::new();
    found.extend(wrong_order(facts, target));
    found.extend(lost_coordination(facts));
    match target {
        // A way back is never blocked by the state of the data, nor by a pause.
        Phase::RollingBack => {}
        Phase::Soaking if facts.phase == Phase::Contracting => {}
        Phase::Planned => found.extend(rivals(facts)),
        Phase::RolledBack => found.extend(unsettled(facts)),
        Phase::Shielded => {
            found.extend(rivals(facts));
            found.extend(paused(facts));
        }
        Phase::Expanded | Phase::DualWriting | Phase::Backfilling => {
            found.extend(paused(facts));
            found.extend(unsettled(facts));
        }
        Phase::Verified => {
            found.extend(paused(facts));
            found.extend(unsettled(facts));
            found.extend(incomplete(facts));
        }
        Phase::Ramping => found.extend(incomplete(facts)),
        Phase::Soaking => {
            found.extend(incomplete(facts));
            found.extend(reads_elsewhere(facts));
        }
        Phase::Contracting | Phase::Contracted => {
            found.extend(paused(facts));
            found.extend(unsettled(facts));
            found.extend(incomplete(facts));
            found.extend(reads_elsewhere(facts));
            found.extend(broken_by_contract(facts));
            found.extend(unconfirmed(facts));
        }
    }
    found
}

/// Everything that stands between a migration and that share of reads. Going to 0 % is never blocked.
pub fn reads_blockers(facts: &Facts, share: Percent) -> Vec<Blocker> {
    match facts.phase {
        Phase::Verified | Phase::Ramping | Phase::Soaking => {}
        Phase::Planned
        | Phase::Shielded
        | Phase::Expanded
        | Phase::DualWriting
        | Phase::Backfilling
        | Phase::Contracting
        | Phase::Contracted
        | Phase::RollingBack
        | Phase::RolledBack => {
            return vec![Blocker::new(
                "wrong_phase",
                format!("reads cannot be moved in phase {}", facts.phase),
                "Reads move between the two storages only while both are complete: in verified, ramping and soaking.",
                match facts.phase {
                    Phase::Contracting | Phase::Contracted => "Nothing: all reads come from new storage.",
                    Phase::RollingBack | Phase::RolledBack => "Nothing: all reads come from old storage.",
                    Phase::Planned
                    | Phase::Shielded
                    | Phase::Expanded
                    | Phase::DualWriting
                    | Phase::Backfilling
                    | Phase::Verified
                    | Phase::Ramping
                    | Phase::Soaking => "Wait until `crossfade status` says verified.",
                },
            )];
        }
    }
    let mut found = Vec::new();
    if share > Percent::ZERO {
        found.extend(lost_coordination(facts));
        found.extend(incomplete(facts));
    }
    found
}

fn wrong_order(facts: &Facts, target: Phase) -> Option<Blocker> {
    let follows = next(facts.phase);
    if follows.contains(&target) {
        return None;
    }
    let names: Vec<&str> = follows.iter().map(|phase| phase.name()).collect();
    let todo = match follows {
        [] => "Nothing can follow; start another migration.".to_owned(),
        _ => format!("From {} it can go to: {}.", facts.phase, names.join(", ")),
    };
    Some(Blocker::new(
        "wrong_phase",
        format!("phase {target} cannot follow phase {}", facts.phase),
        "Each phase relies on what the one before it established.",
        todo,
    ))
}

fn lost_coordination(facts: &Facts) -> Option<Blocker> {
    (!facts.coordinator).then(|| {
        Blocker::new(
            "not_coordinator",
            "this process is not the coordinator",
            "Another process holds the coordinator's lock, or the connection that held it was lost.",
            "Nothing: the process that holds the lock goes on with the migration.",
        )
    })
}

fn rivals(facts: &Facts) -> Option<Blocker> {
    (!facts.rivals.is_empty()).then(|| {
        Blocker::new(
            "table_busy",
            format!("another migration is active on the table: {}", facts.rivals.join(", ")),
            "Two active migrations on one table are not supported.",
            "Complete it or roll it back, then start this one.",
        )
    })
}

fn paused(facts: &Facts) -> Option<Blocker> {
    facts.paused.then(|| {
        Blocker::new(
            "paused",
            "the migration is paused",
            "A paused migration stays in its phase.",
            "Run `crossfade resume NAME`.",
        )
    })
}

/// Somebody may still act by the rules of an older epoch.
fn unsettled(facts: &Facts) -> Vec<Blocker> {
    let mut found = Vec::new();
    if !facts.proxies_behind.is_empty() {
        found.push(Blocker::new(
            "proxies_behind",
            format!("{} proxies have not acknowledged the epoch: {}", facts.proxies_behind.len(), {
                facts.proxies_behind.join(", ")
            }),
            "A proxy acknowledges when it has the new rules and its last transaction under older ones has ended.",
            "Wait; if one has died, its lease runs out by itself. Look for long transactions in pg_stat_activity.",
        ));
    }
    if facts.older_transactions > 0 {
        found.push(Blocker::new(
            "older_transactions",
            format!("{} transactions older than the epoch are still open", facts.older_transactions),
            "A write of theirs may follow older rules, whether or not it comes through a proxy. Prepared \
             transactions count too.",
            "Wait, or end them: see pg_stat_activity (backend_xmin, xact_start) and pg_prepared_xacts.",
        ));
    }
    found
}

/// New storage is not proved complete.
fn incomplete(facts: &Facts) -> Vec<Blocker> {
    let mut found = facts.changed.clone();
    if !facts.copied {
        found.push(Blocker::new(
            "not_copied",
            "the copy has not reached the end of the table",
            "Rows behind it have no new value yet.",
            "Wait for the backfill; `crossfade status` shows how far it is.",
        ));
    }
    if !facts.built {
        found.push(Blocker::new(
            "not_built",
            "indexes or constraints of the new column are not built",
            "Reads from the new column would be slow, and uniqueness would not be kept.",
            "Wait for them; `crossfade status` shows the step and its last error.",
        ));
    }
    if facts.quarantined > 0 {
        found.push(Blocker::new(
            "quarantine_not_empty",
            format!("{} rows are in quarantine", facts.quarantined),
            "Their old value does not fit the new column, so a read from new storage would be wrong.",
            "List them with `crossfade status NAME --json` or in crossfade.quarantine, and change or delete them \
             in the table; they leave quarantine by themselves.",
        ));
    }
    match facts.scan {
        Scan::Clean => {}
        Scan::NotDone => found.push(Blocker::new(
            "not_scanned",
            "no full drift scan has ended yet",
            "Only a scan of every row proves that old and new agree.",
            "Wait for the scan; `crossfade status` shows how far it is.",
        )),
        Scan::Drift(rows) => found.push(Blocker::new(
            "drift",
            format!("{rows} rows differ between old and new storage"),
            "Something wrote one column and not the other, and the sync trigger did not see it.",
            "See the audit log for sample keys. The rows are repaired and scanned again; find the writer if they \
             come back.",
        )),
    }
    found
}

fn reads_elsewhere(facts: &Facts) -> Option<Blocker> {
    (facts.reads < Percent::ALL).then(|| {
        Blocker::new(
            "reads_not_100",
            format!("reads are at {} %", facts.reads.value()),
            "The old column can go only when nobody reads it.",
            "Run `crossfade reads NAME 100` and watch the application for a while.",
        )
    })
}

fn broken_by_contract(facts: &Facts) -> Option<Blocker> {
    (!facts.dependents.is_empty()).then(|| {
        Blocker::new(
            "dependents",
            format!("objects still need the old column: {}", facts.dependents.join(", ")),
            "Dropping the column would fail or break them; nothing is ever dropped with CASCADE.",
            "Change them to the new column or drop them.",
        )
    })
}

fn unconfirmed(facts: &Facts) -> Option<Blocker> {
    (!facts.confirmed).then(|| {
        Blocker::new(
            "not_confirmed",
            "dropping the old column was not confirmed",
            "It is the one step that cannot be undone.",
            "Run `crossfade complete NAME --yes`.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(blockers: &[Blocker]) -> Vec<&'static str> {
        blockers.iter().map(|blocker| blocker.code).collect()
    }

    #[test]
    fn only_phases_that_follow_may_be_entered() {
        for from in Phase::ALL {
            for to in Phase::ALL {
                let mut facts = Facts::quiet(from);
                facts.reads = Percent::ALL;
                let wrong = codes(&blockers(&facts, to)).contains(&"wrong_phase");
                assert_eq!(wrong, !next(from).contains(&to), "{from} to {to}");
            }
        }
    }

    #[test]
    fn every_phase_before_contracted_has_a_way_back() {
        for phase in Phase::ALL.into_iter().filter(|phase| !phase.is_final()) {
            let back = |phase| next(phase).iter().any(|to| matches!(to, Phase::RollingBack | Phase::RolledBack));
            assert!(back(phase) || next(phase).iter().any(|to| *to < phase && back(*to)), "{phase}");
        }
        assert!(next(Phase::Contracted).is_empty());
    }

    #[test]
    fn the_way_back_does_not_wait_for_data() {
        let mut facts = Facts::quiet(Phase::Ramping);
        (facts.quarantined, facts.scan, facts.paused, facts.copied) = (5, Scan::Drift(3), true, false);
        assert_eq!(blockers(&facts, Phase::RollingBack), []);
        assert_eq!(reads_blockers(&facts, Percent::ZERO), []);
    }

    #[test]
    fn reads_wait_for_proof() {
        let half = Percent::new(50).unwrap_or_default();
        assert_eq!(codes(&reads_blockers(&Facts::quiet(Phase::Backfilling), half)), ["wrong_phase"]);
        let mut facts = Facts::quiet(Phase::Verified);
        assert_eq!(reads_blockers(&facts, half), []);
        facts.quarantined = 1;
        facts.scan = Scan::NotDone;
        assert_eq!(codes(&reads_blockers(&facts, half)), ["quarantine_not_empty", "not_scanned"]);
        assert_eq!(codes(&blockers(&facts, Phase::Ramping)), ["quarantine_not_empty", "not_scanned"]);
        facts = Facts { scan: Scan::Drift(2), copied: false, built: false, ..Facts::quiet(Phase::Backfilling) };
        assert_eq!(codes(&blockers(&facts, Phase::Verified)), ["not_copied", "not_built", "drift"]);
    }

    #[test]
    fn the_contract_wants_everything() {
        let mut facts = Facts::quiet(Phase::Soaking);
        facts.reads = Percent::ALL;
        assert_eq!(blockers(&facts, Phase::Contracting), []);
        facts.reads = Percent::new(99).unwrap_or_default();
        facts.dependents = vec!["view v".into()];
        facts.confirmed = false;
        facts.coordinator = false;
        facts.proxies_behind = vec!["p".into()];
        facts.older_transactions = 1;
        assert_eq!(
            codes(&blockers(&facts, Phase::Contracting)),
            ["not_coordinator", "proxies_behind", "older_transactions", "reads_not_100", "dependents", "not_confirmed"]
        );
    }

    #[test]
    fn one_table_has_one_migration() {
        let facts = Facts { rivals: vec!["other".into()], ..Facts::quiet(Phase::Planned) };
        assert_eq!(codes(&blockers(&facts, Phase::Shielded)), ["table_busy"]);
    }
}
