//! What a person may ask for: each a gate, then one transaction. What takes time is recorded and left to the coordinator.
//!
//! Each command may be repeated: when a connection is lost in the middle, the true state is looked at before anything is
//! tried again.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::db::{Session, Upstream};
use super::fence::{self, Horizon};
use super::status::{self, MigrationStatus, Overview};
use super::store::{self, Actor, AuditEntry, Draft, MigrationRow, Move, Setting, Target};
use super::{Error, backoff, facts, steps};
use crate::catalog::{self, Preflight, Warning};
use crate::migration::ddl::{self, SyncMode};
use crate::migration::plan::{self, Plan};
use crate::migration::{Blocker, MigrationSpec, Percent, Phase, gate};
use crate::schema::Dependent;

/// How often a command is tried over lost connections.
const ATTEMPTS_MAX: u32 = 3;

/// How long the first switch of reads waits for transactions that do not know yet that misfits are refused.
const STRICT_WAIT_MAX: Duration = Duration::from_secs(20);

/// How often they are looked at.
const STRICT_POLL: Duration = Duration::from_millis(20);

/// How long a command waits for a lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether a migration is possible, and what depends on the old column.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// The migration's name.
    pub name: String,
    /// Whether it may start.
    pub possible: bool,
    /// What makes it impossible now.
    pub blockers: Vec<Blocker>,
    /// What should be known.
    pub warnings: Vec<Warning>,
    /// What depends on the old column or names it.
    pub dependents: Vec<Dependent>,
}

/// The commands, on one database.
#[derive(Debug, Clone)]
pub struct Commands {
    upstream: Upstream,
}

impl Commands {
    /// Commands on that database.
    pub fn new(upstream: Upstream) -> Commands {
        Commands { upstream }
    }

    async fn connect(&self) -> Result<Session, Error> {
        self.upstream.connect("crossfade admin").await
    }

    /// Everything at a glance.
    pub async fn overview(&self) -> Result<Overview, Error> {
        status::overview(self.connect().await?.client()).await
    }

    /// One migration.
    pub async fn status(&self, name: &str) -> Result<MigrationStatus, Error> {
        status::status(self.connect().await?.client(), name).await
    }

    /// The latest lines of the audit log, newest first.
    pub async fn audit(&self, name: Option<&str>, limit: i64) -> Result<Vec<AuditEntry>, Error> {
        store::audit_log(self.connect().await?.client(), name, limit).await
    }

    /// Whether the file's migration is possible on this database. Changes nothing.
    pub async fn check(&self, spec: &str) -> Result<CheckReport, Error> {
        let spec = parse(spec)?;
        let session = self.connect().await?;
        let mut found = preflight(&session, &spec).await?;
        if let Some(rival) = rival(&session, &spec).await? {
            // What the other one has made is in the way only because of it.
            found.blockers = vec![rival];
        }
        Ok(CheckReport {
            name: spec.name.to_string(),
            possible: found.blockers.is_empty(),
            blockers: found.blockers,
            warnings: found.warnings,
            dependents: found.dependents,
        })
    }

    /// Every statement of the file's migration. Changes nothing.
    pub async fn plan(&self, spec: &str) -> Result<Plan, Error> {
        let spec = parse(spec)?;
        let session = self.connect().await?;
        let found = preflight(&session, &spec).await?;
        let (Some(migration), Some(detail)) = (&found.migration, &found.detail) else {
            let what = format!("migration \"{}\" is not possible", spec.name);
            facts::refuse_if_blocked(what, found.blockers)?;
            return Err(Error::Record("The preflight gave neither a migration nor a reason.".to_owned()));
        };
        plan::plan(migration, detail).or_else(|blockers| {
            let what = format!("migration \"{}\" cannot be planned", spec.name);
            facts::refuse_if_blocked(what, blockers)?;
            Err(Error::Record("The plan failed without a reason.".to_owned()))
        })
    }

    /// Records a migration; the coordinator goes on from there.
    pub async fn start(&self, text: &str, actor: &Actor) -> Result<MigrationStatus, Error> {
        let spec = parse(text)?;
        for attempt in 1.. {
            match self.try_start(&spec, text, actor).await {
                Err(error) if error.is_lost_connection() && attempt < ATTEMPTS_MAX => {
                    tokio::time::sleep(backoff(attempt, Duration::from_secs(1))).await;
                    // The reply to COMMIT may have been what was lost.
                    if let Ok(row) = self.row(spec.name.as_str()).await
                        && row.spec == text
                    {
                        break;
                    }
                }
                done => {
                    done?;
                    break;
                }
            }
        }
        self.status(spec.name.as_str()).await
    }

    async fn try_start(&self, spec: &MigrationSpec, text: &str, actor: &Actor) -> Result<(), Error> {
        let mut session = self.connect().await?;
        if let Some(rival) = rival(&session, spec).await? {
            let what = format!("migration \"{}\" cannot start", spec.name);
            return Err(Error::Blocked { message: what, blockers: vec![rival] });
        }
        let found = preflight(&session, spec).await?;
        facts::refuse_if_blocked(format!("migration \"{}\" is not possible", spec.name), found.blockers)?;
        let Some(migration) = &found.migration else {
            return Err(Error::Record("The preflight gave neither a migration nor a reason.".to_owned()));
        };
        let transaction = session.transaction().await?;
        store::insert(&transaction, Draft { spec: text, migration }, actor).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Moves the share of reads. Returns when the epoch is committed.
    pub async fn reads(&self, name: &str, share: Percent, actor: &Actor) -> Result<MigrationStatus, Error> {
        self.carry_out(name, Command::Reads(share), actor).await
    }

    /// Lets the sidecar rest, and the phases stand still.
    pub async fn pause(&self, name: &str, actor: &Actor) -> Result<MigrationStatus, Error> {
        self.carry_out(name, Command::Set(Setting::Paused(true)), actor).await
    }

    /// Lets it go on.
    pub async fn resume(&self, name: &str, actor: &Actor) -> Result<MigrationStatus, Error> {
        self.carry_out(name, Command::Set(Setting::Paused(false)), actor).await
    }

    /// Sets the pace of the copy, 1 to 100 percent.
    pub async fn speed(&self, name: &str, percent: u8, actor: &Actor) -> Result<MigrationStatus, Error> {
        if !(1..=100).contains(&percent) {
            return Err(Error::invalid(
                format!("{percent} is no speed"),
                "The pace of the copy is a percentage from 1 to 100.",
                "To stop the copy use: crossfade pause",
            ));
        }
        self.carry_out(name, Command::Set(Setting::Speed(percent)), actor).await
    }

    /// Asks for the way back. The coordinator takes it.
    pub async fn rollback(&self, name: &str, actor: &Actor) -> Result<MigrationStatus, Error> {
        self.carry_out(name, Command::Rollback, actor).await
    }

    /// Asks for the end: the old column is dropped. The coordinator does it.
    pub async fn complete(&self, name: &str, confirmed: bool, actor: &Actor) -> Result<MigrationStatus, Error> {
        self.carry_out(name, Command::Complete { confirmed }, actor).await
    }

    async fn row(&self, name: &str) -> Result<MigrationRow, Error> {
        store::load(self.connect().await?.client(), name).await
    }

    /// Carries a command out, again where the connection was lost: each looks first whether it is done already.
    async fn carry_out(&self, name: &str, command: Command, actor: &Actor) -> Result<MigrationStatus, Error> {
        let mut attempt = 1;
        loop {
            match self.attempt(name, command, actor).await {
                Err(error) if error.is_lost_connection() && attempt < ATTEMPTS_MAX => {
                    tokio::time::sleep(backoff(attempt, Duration::from_secs(1))).await;
                    attempt += 1;
                }
                done => {
                    done?;
                    return self.status(name).await;
                }
            }
        }
    }

    async fn attempt(&self, name: &str, command: Command, actor: &Actor) -> Result<(), Error> {
        let mut session = self.connect().await?;
        let row = store::load(session.client(), name).await?;
        match command {
            Command::Reads(share) => {
                let settled = row.phase == Phase::Ramping && row.reads == share;
                if settled || (row.phase == Phase::Verified && share == Percent::ZERO) {
                    return Ok(());
                }
                move_reads(&mut session, &row, share, actor).await
            }
            Command::Set(setting) => set(&mut session, &row, setting, actor).await,
            Command::Rollback => rollback(&mut session, &row, actor).await,
            Command::Complete { confirmed } => complete(&mut session, &row, confirmed, actor).await,
        }
    }
}

/// What can be asked of a migration that is there.
#[derive(Debug, Clone, Copy)]
enum Command {
    Reads(Percent),
    Set(Setting),
    Rollback,
    Complete { confirmed: bool },
}

async fn set(session: &mut Session, row: &MigrationRow, setting: Setting, actor: &Actor) -> Result<(), Error> {
    if row.phase.is_final() {
        return Err(at_its_end(row));
    }
    let there = match setting {
        Setting::Paused(paused) => row.paused == paused,
        Setting::Speed(percent) => row.speed == percent,
    };
    if there {
        return Ok(());
    }
    let transaction = session.transaction().await?;
    store::set(&transaction, &row.name, setting, actor).await?;
    Ok(transaction.commit().await?)
}

async fn rollback(session: &mut Session, row: &MigrationRow, actor: &Actor) -> Result<(), Error> {
    match row.phase {
        Phase::RolledBack | Phase::RollingBack => return Ok(()),
        Phase::Contracted => return Err(at_its_end(row)),
        Phase::Planned
        | Phase::Shielded
        | Phase::Expanded
        | Phase::DualWriting
        | Phase::Backfilling
        | Phase::Verified
        | Phase::Ramping
        | Phase::Soaking
        | Phase::Contracting => {}
    }
    let transaction = session.transaction().await?;
    store::set_target(&transaction, &row.name, row.phase, Target::RolledBack, actor).await?;
    Ok(transaction.commit().await?)
}

async fn complete(session: &mut Session, row: &MigrationRow, confirmed: bool, actor: &Actor) -> Result<(), Error> {
    if row.phase == Phase::Contracted || (row.target == Some(Target::Contracted) && confirmed) {
        return Ok(());
    }
    let mut found = facts::gather(session, row, confirmed).await?;
    // The coordinator waits for those.
    found.proxies_behind.clear();
    let what = format!("migration \"{}\" cannot be completed", row.name);
    facts::refuse_if_blocked(what, complete_blockers(&found))?;
    let transaction = session.transaction().await?;
    store::set_target(&transaction, &row.name, row.phase, Target::Contracted, actor).await?;
    Ok(transaction.commit().await?)
}

fn parse(text: &str) -> Result<MigrationSpec, Error> {
    MigrationSpec::from_toml(text, "migration.toml").map_err(|errors| Error::Spec(Box::new(errors)))
}

/// The migration that has the name or the table already.
async fn rival(session: &Session, spec: &MigrationSpec) -> Result<Option<Blocker>, Error> {
    if !store::exists(session.client()).await? {
        return Ok(None);
    }
    store::rival(session.client(), spec.name.as_str(), &spec.change.column().table).await
}

async fn preflight(session: &Session, spec: &MigrationSpec) -> Result<Preflight, Error> {
    Ok(catalog::preflight(session, spec).await?)
}

fn at_its_end(row: &MigrationRow) -> Error {
    let detail = match row.phase {
        Phase::Contracted => "The old column is gone; that is the one step that cannot be undone.",
        Phase::Planned
        | Phase::Shielded
        | Phase::Expanded
        | Phase::DualWriting
        | Phase::Backfilling
        | Phase::Verified
        | Phase::Ramping
        | Phase::Soaking
        | Phase::Contracting
        | Phase::RollingBack
        | Phase::RolledBack => "It left nothing behind.",
    };
    Error::conflict(format!("migration \"{}\" is {}", row.name, row.phase), detail, "Start another migration.")
}

/// What stands between a migration and its end, all steps taken together.
fn complete_blockers(found: &gate::Facts) -> Vec<Blocker> {
    let mut soaking = found.clone();
    let mut blockers = match found.phase {
        Phase::Soaking | Phase::Contracting => Vec::new(),
        Phase::Planned
        | Phase::Shielded
        | Phase::Expanded
        | Phase::DualWriting
        | Phase::Backfilling
        | Phase::Verified
        | Phase::Ramping
        | Phase::Contracted
        | Phase::RollingBack
        | Phase::RolledBack => gate::blockers(found, Phase::Soaking),
    };
    soaking.phase = Phase::Soaking;
    for blocker in gate::blockers(&soaking, Phase::Contracting) {
        if blockers.iter().all(|known| known.code != blocker.code) {
            blockers.push(blocker);
        }
    }
    blockers
}

async fn move_reads(session: &mut Session, row: &MigrationRow, share: Percent, actor: &Actor) -> Result<(), Error> {
    if let Some(target) = row.target.filter(|_| share > Percent::ZERO) {
        return Err(Error::conflict(
            format!("migration \"{}\" is on its way to {}", row.name, target.name()),
            "Reads do not move while it is.",
            format!("Wait, or turn back with: crossfade rollback {}", row.name),
        ));
    }
    let what = format!("reads of migration \"{}\" cannot move to {} %", row.name, share.value());
    facts::recheck(session, row).await?;
    let mut found = facts::gather(session, row, true).await?;
    facts::refuse_if_blocked(what.as_str(), gate::reads_blockers(&found, share))?;
    if share == Percent::ZERO {
        return commit_reads(session, row, share, None, actor).await;
    }
    let since = match row.strict_since {
        Some(since) => Horizon(since),
        None => begin_strict(session, row).await?,
    };
    let waited = wait_for_strict(session, since).await;
    let judged = match waited {
        Ok(()) => {
            // Only now can no misfit come any more that the gate did not see.
            found.quarantined = facts::recheck(session, row).await?;
            facts::refuse_if_blocked(what, gate::reads_blockers(&found, share))
        }
        Err(error) => Err(error),
    };
    match judged {
        Ok(()) => commit_reads(session, row, share, Some(since), actor).await,
        Err(error) => {
            if row.phase == Phase::Verified && !error.is_lost_connection() {
                end_strict(session, row).await?;
            }
            Err(error)
        }
    }
}

/// From here on a write that does not fit the new shape is refused: no read may be wrong.
async fn begin_strict(session: &mut Session, row: &MigrationRow) -> Result<Horizon, Error> {
    let strict = ddl::set_sync_mode(&row.migration, SyncMode::Strict);
    let transaction = session.transaction().await?;
    // One at a time: PostgreSQL does not replace a function that somebody else is replacing.
    if let Some(since) = store::lock(&transaction, &row.name).await?.strict_since {
        return Ok(Horizon(since));
    }
    steps::run_in(&transaction, &strict, LOCK_TIMEOUT).await?;
    transaction.commit().await?;
    // Noted after the commit: a transaction that ran the older function has a smaller number.
    let horizon = fence::horizon(session.client()).await?;
    store::set_strict(session.client(), &row.name, Some(horizon.0)).await?;
    Ok(horizon)
}

async fn end_strict(session: &mut Session, row: &MigrationRow) -> Result<(), Error> {
    let lenient = ddl::set_sync_mode(&row.migration, SyncMode::Quarantine);
    let transaction = session.transaction().await?;
    if store::lock(&transaction, &row.name).await?.phase == Phase::Verified {
        steps::run_in(&transaction, &lenient, LOCK_TIMEOUT).await?;
        store::set_strict(&transaction, &row.name, None).await?;
    }
    Ok(transaction.commit().await?)
}

async fn wait_for_strict(session: &Session, since: Horizon) -> Result<(), Error> {
    let deadline = Instant::now() + STRICT_WAIT_MAX;
    loop {
        let Some(waiting) = fence::older_transactions(session.client(), since).await? else { return Ok(()) };
        if Instant::now() > deadline {
            return Err(Error::Blocked {
                message: "a transaction is in the way of the first switch of reads".to_owned(),
                blockers: vec![Blocker::new(
                    "older_transaction",
                    format!("it {waiting}"),
                    "It may have written a row that does not fit the new shape.",
                    "Let it end, or end it with pg_terminate_backend; then try again.",
                )],
            });
        }
        tokio::time::sleep(STRICT_POLL).await;
    }
}

/// The change itself, if nothing moved since it was judged.
async fn commit_reads(
    session: &mut Session,
    row: &MigrationRow,
    share: Percent,
    strict: Option<Horizon>,
    actor: &Actor,
) -> Result<(), Error> {
    let transaction = session.transaction().await?;
    let now = store::lock(&transaction, &row.name).await?;
    let moved = now.target != row.target || (strict.is_some() && now.strict_since != strict.map(|since| since.0));
    if moved {
        return Err(Error::conflict(
            format!("migration \"{}\" changed in the meantime", row.name),
            "Another person or process changed it while the reads were about to move.",
            "Try again.",
        ));
    }
    if row.phase == Phase::Soaking {
        // It may have been on its way to the contract, where the new side wins.
        steps::run_in(&transaction, &ddl::set_sync_mode(&row.migration, SyncMode::Strict), LOCK_TIMEOUT).await?;
        store::clear_target(&transaction, &row.name).await?;
    }
    let step = Move { name: &row.name, from: row.phase, to: Phase::Ramping, reads: share };
    store::advance(&transaction, step, actor).await?;
    Ok(transaction.commit().await?)
}
