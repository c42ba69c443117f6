//! Drives one migration from phase to phase.
//!
//! One step at a time, each from what the store and the catalog show at that moment; so a crash anywhere is nothing but
//! a pause. Waits for nobody inside a step: what is not settled yet is looked at again, so that a pause, a rollback or a
//! stop is noticed at once. Every act happens on the connection that holds the migration's lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng as _;
use tracing::{info, warn};

use super::db::Session;
use super::fence::{self, Horizon};
use super::hold::{self, Outcome, Work};
use super::sidecar::{Pace, Pass, Sidecar, Walked};
use super::store::{self, Actor, MigrationRow, Move, Target};
use super::{Error, backoff, facts, steps};
use crate::catalog::{self, Fingerprint};
use crate::migration::ddl::{self, Lock, Step, SyncMode};
use crate::migration::{Epoch, Percent, Phase, gate};
use crate::schema::TableDetail;

/// How often something that is not settled yet is looked at.
const SETTLE_POLL: Duration = Duration::from_millis(50);

/// How often a migration that waits for a person is looked at when nobody calls.
const REST_POLL: Duration = Duration::from_millis(500);

/// How long the background scan may keep a migration from hearing a command.
const SCAN_SLICE: Duration = Duration::from_millis(250);

/// The longest wait after an error.
const ERROR_BACKOFF_MAX: Duration = Duration::from_secs(15);

/// The longest wait for another attempt to get a lock.
const LOCK_BACKOFF_MAX: Duration = Duration::from_secs(3);

/// Attempts to get a lock after which it is reported as an error; the attempts go on.
const LOCK_ATTEMPTS_QUIET: u32 = 20;

/// The longest wait for another hold, where holds are short.
const HOLD_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How many times its bound the rest after a hold that came to nothing is at least.
const HOLD_REST_FACTOR: u32 = 3;

/// The settings of the coordinator.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long DDL waits for a lock before it lets everybody pass and tries again.
    pub lock_timeout: Duration,
    /// How long new transactions may be held around a step that locks everybody out.
    pub hold_max: Duration,
    /// How long the background scan rests between two passes.
    pub scan_rest: Duration,
}

/// What to do after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Look again at once.
    Again,
    /// Look again after this, or when somebody calls.
    Wait(Duration),
    /// The migration is at its end.
    Finished,
}

/// The one who drives a migration, on the connection that holds its lock.
pub struct Driver<S> {
    name: String,
    session: Session,
    sidecar: Arc<S>,
    timing: Timing,
    /// The moment that older transactions are measured against, and the epoch it belongs to.
    horizon: Option<(Epoch, Horizon)>,
    /// The moment after which every snapshot sees the whole copy, and the epoch it belongs to.
    copied: Option<(Epoch, Horizon)>,
    /// The comparison before the old column goes: nothing where it has not begun, and whether it is through and found nothing.
    compared: Option<bool>,
    /// The moment from which on no row that does not fit can come any more, on the way to contracting.
    refusing: Option<(Epoch, Horizon)>,
    contended: u32,
    failures: u32,
    /// The indexes and constraints of the table when the new column had all of them.
    followed: Option<Fingerprint>,
    /// Holds in a row that came to nothing, and when the next one may begin.
    released: u32,
    hold_after: Option<Instant>,
}

impl<S: Sidecar> Driver<S> {
    /// A driver on a connection that holds the migration's lock.
    pub fn new(name: String, session: Session, sidecar: Arc<S>, timing: Timing) -> Driver<S> {
        Driver {
            name,
            session,
            sidecar,
            timing,
            horizon: None,
            copied: None,
            compared: None,
            refusing: None,
            contended: 0,
            failures: 0,
            followed: None,
            released: 0,
            hold_after: None,
        }
    }

    /// Goes on until the migration is at its end, or the connection is lost.
    pub async fn run(mut self) -> Result<(), Error> {
        loop {
            let flow = match self.step().await {
                Ok(flow) => {
                    (self.contended, self.failures) = (0, 0);
                    flow
                }
                Err(error) if error.is_lost_connection() => return Err(error),
                Err(error) if error.is_contention() => self.contention(error).await?,
                Err(Error::NotFound(_)) => Flow::Finished,
                Err(error) => self.failure(error).await?,
            };
            match flow {
                Flow::Again => {}
                Flow::Wait(time) => {
                    tokio::select! {
                        () = tokio::time::sleep(time) => {}
                        () = self.session.notified(), if time > SETTLE_POLL => {}
                    }
                }
                Flow::Finished => return Ok(()),
            }
        }
    }

    async fn step(&mut self) -> Result<Flow, Error> {
        let row = store::load(self.session.client(), &self.name).await?;
        if row.phase.is_final() {
            return Ok(Flow::Finished);
        }
        if row.holds.now {
            // Nobody else acts for this migration, so whoever held is gone.
            warn!(migration = %row.name, epoch = row.epoch.0, "a hold was left behind; it is released");
            let why = "whoever held transactions is gone";
            hold::release(&mut self.session, &row, row.epoch, why).await?;
            return Ok(Flow::Again);
        }
        if row.target == Some(Target::RolledBack) && row.phase != Phase::RollingBack {
            return self.turn_back(&row).await;
        }
        if row.paused && row.phase != Phase::RollingBack {
            return self.wait("is paused; crossfade resume lets it go on", REST_POLL).await;
        }
        match row.phase {
            Phase::Planned => self.advance(&row, Phase::Shielded, "start").await,
            Phase::Shielded => self.expand(&row).await,
            Phase::Expanded => self.install_sync(&row).await,
            Phase::DualWriting => self.close_the_past(&row).await,
            Phase::Backfilling => self.complete_storage(&row).await,
            Phase::Verified | Phase::Ramping | Phase::Soaking => self.keep_watch(&row).await,
            Phase::Contracting => self.contract(&row).await,
            Phase::RollingBack => self.roll_back(&row).await,
            Phase::Contracted | Phase::RolledBack => Ok(Flow::Finished),
        }
    }

    /// shielded → expanded: the new column appears once no proxy sends `*` any more.
    async fn expand(&mut self, row: &MigrationRow) -> Result<Flow, Error> {
        if let Some(wait) = self.unsettled(row).await? {
            return Ok(wait);
        }
        let detail = facts::present_detail(&self.session, row).await?;
        steps::run(&mut self.session, &ddl::expand(&row.migration, &detail), self.timing.lock_timeout).await?;
        self.advance(row, Phase::Expanded, "the new column is there").await
    }

    /// expanded → dual_writing: the sync trigger is on the table before any proxy writes both columns.
    async fn install_sync(&mut self, row: &MigrationRow) -> Result<Flow, Error> {
        if let Some(wait) = self.unsettled(row).await? {
            return Ok(wait);
        }
        steps::run(&mut self.session, &ddl::install_sync(&row.migration), self.timing.lock_timeout).await?;
        self.advance(row, Phase::DualWriting, "the sync trigger is on the table").await
    }

    /// dual_writing → backfilling: when every transaction that began before the dual writes has ended, on the whole
    /// server, whether or not it came by a proxy.
    async fn close_the_past(&mut self, row: &MigrationRow) -> Result<Flow, Error> {
        if let Some(wait) = self.unsettled(row).await? {
            return Ok(wait);
        }
        if let Some(wait) = self.older_transactions(row.epoch).await? {
            return Ok(wait);
        }
        self.advance(row, Phase::Backfilling, "no transaction older than the dual writes is left").await
    }

    /// backfilling → verified: copy, sweep, build, compare; each recorded when it is done.
    async fn complete_storage(&mut self, row: &MigrationRow) -> Result<Flow, Error> {
        let progress = store::progress(self.session.client(), &row.name).await?;
        if progress.copy_done_at.is_none() {
            return self.copy(row, Pass::Copy).await;
        }
        if progress.sweep_done_at.is_none() {
            return self.copy(row, Pass::Sweep).await;
        }
        if progress.built_at.is_none() {
            let detail = facts::present_detail(&self.session, row).await?;
            let built = ddl::build(&row.migration, &detail);
            let built = built.or_else(|blockers| {
                facts::refuse_if_blocked(
                    "the copy is done, and what the old column \
                has cannot be built on the new one",
                    blockers,
                )
                .map(|()| Vec::new())
            })?;
            self.say(Some("builds what the old column has on the new one")).await?;
            steps::run(&mut self.session, &built, self.timing.lock_timeout).await?;
            store::save_built(self.session.client(), &row.name).await?;
            return Ok(Flow::Again);
        }
        if facts::last_scan(&progress) != gate::Scan::Clean {
            return self.compare(row).await;
        }
        let left = facts::recheck(&mut self.session, row).await?;
        if left > 0 {
            let text = format!(
                "{left} rows do not fit the new shape; correct them, or rollback: crossfade status {} shows them",
                row.name
            );
            return self.wait(&text, REST_POLL).await;
        }
        if let Some(wait) = self.older_snapshots(row.epoch).await? {
            return Ok(wait);
        }
        if let Some(wait) = self.unsettled(row).await? {
            return Ok(wait);
        }
        let facts = facts::gather(&self.session, row, true).await?;
        facts::refuse_if_blocked("the migration cannot be verified", gate::blockers(&facts, Phase::Verified))?;
        self.advance(row, Phase::Verified, "a full comparison found no difference, and every row fits").await
    }

    async fn copy(&mut self, row: &MigrationRow, pass: Pass) -> Result<Flow, Error> {
        self.copied = None;
        match self.sidecar.copy(&mut self.session, row, pass).await? {
            Walked::Interrupted => Ok(Flow::Again),
            Walked::Exhausted => {
                match pass {
                    Pass::Copy => store::save_copied(self.session.client(), &row.name).await?,
                    Pass::Sweep => store::save_swept(self.session.client(), &row.name).await?,
                }
                info!(migration = %row.name, pass = ?pass, "copy reached the end of the table");
                Ok(Flow::Again)
            }
        }
    }

    /// The full comparison before reads may move. What differs is swept and compared again.
    async fn compare(&mut self, row: &MigrationRow) -> Result<Flow, Error> {
        if self.sidecar.scan(&mut self.session, row, Pace::Full).await?.walked == Walked::Interrupted {
            return Ok(Flow::Again);
        }
        let clean = self.judge_scan(row).await?;
        if clean {
            store::set_error(self.session.client(), &row.name, None).await?;
            return Ok(Flow::Again);
        }
        Ok(Flow::Wait(REST_POLL))
    }

    /// Records a scan that reached the end; asks for a sweep where it found something. Whether it was clean.
    async fn judge_scan(&mut self, row: &MigrationRow) -> Result<bool, Error> {
        let client = self.session.client();
        store::save_scanned(client, &row.name).await?;
        let found = store::progress(client, &row.name).await?;
        let noted = store::misfits_count(client, &row.name).await?;
        let drift = found.drift_rows.unwrap_or(0);
        if drift == 0 && found.scan_misfits <= noted {
            return Ok(true);
        }
        store::repair(client, &row.name).await?;
        if drift > 0 {
            let text = format!(
                "{drift} rows differed between old and new storage; they are repaired from the old column and compared again"
            );
            warn!(migration = %row.name, drift, "drift found");
            store::set_error(client, &row.name, Some(&text)).await?;
        }
        Ok(false)
    }

    /// verified, ramping, soaking: both storages are complete and stay so; commands are awaited.
    async fn keep_watch(&mut self, row: &MigrationRow) -> Result<Flow, Error> {
        if self.restore_sync(row).await? {
            return Ok(Flow::Again);
        }
        let progress = store::progress(self.session.client(), &row.name).await?;
        if progress.sweep_done_at.is_none() {
            // Repairs take the old side's word, so nobody may read the new one meanwhile.
            if let Some(wait) = self.unsettled(row).await? {
                return Ok(wait);
            }
            return self.copy(row, Pass::Sweep).await;
        }
        if row.target == Some(Target::Contracted) {
            return self.toward_contract(row).await;
        }
        (self.refusing, self.compared) = (None, None);
        match self.follow_table(row).await {
            // In the way, and told, when the migration is to be completed.
            Err(Error::Blocked { blockers, .. }) => {
                let what: Vec<&str> = blockers.iter().map(|blocker| blocker.what.as_str()).collect();
                warn!(migration = %row.name, "cannot follow what the old column got: {}", what.join("; "));
            }
            followed => followed?,
        }
        facts::recheck(&mut self.session, row).await?;
        self.scan_a_while(row, &progress).await
    }

    /// Old sessions may make and drop indexes and constraints while both columns are there: the new column follows.
    async fn follow_table(&mut self, row: &MigrationRow) -> Result<(), Error> {
        let table = &row.migration.lens.table;
        let seen = catalog::hanging(self.session.client(), table).await?;
        if self.followed.as_ref() == Some(&seen) {
            return Ok(());
        }
        let detail = facts::present_detail(&self.session, row).await?;
        steps::run(&mut self.session, &ddl::drop_outlived(&row.migration, &detail), self.timing.lock_timeout).await?;
        let built = ddl::build(&row.migration, &detail);
        if let Ok(built) = &built {
            let mut missing = false;
            for step in built.iter().filter(|step| step.done_when.is_some()) {
                missing |= !steps::is_done(self.session.client(), step).await?;
            }
            if missing {
                let text = "builds what the old column got meanwhile on the new one";
                info!(migration = %row.name, "{text}");
                self.say(Some(text)).await?;
                steps::run(&mut self.session, built, self.timing.lock_timeout).await?;
            }
        }
        // What is there now has our own in it. Whatever else came meanwhile has not been looked at: what comes before this
        // question is in the description behind it, what comes later makes it another one.
        let now = catalog::hanging(self.session.client(), table).await?;
        let after = facts::present_detail(&self.session, row).await?;
        let same = ddl::build(&row.migration, &after).ok() == built.as_ref().ok().cloned();
        self.followed = same.then_some(now);
        let what = "what the old column has cannot be built on the new one";
        built.map(drop).or_else(|blockers| facts::refuse_if_blocked(what, blockers))
    }

    async fn scan_a_while(&mut self, row: &MigrationRow, progress: &store::Progress) -> Result<Flow, Error> {
        let settled = progress.drift_rows == Some(0);
        let rested = progress
            .scanned_at
            .is_none_or(|at| (time::OffsetDateTime::now_utc() - at).unsigned_abs() >= self.timing.scan_rest);
        if settled && progress.scan_started_at.is_none() && !rested {
            self.say(None).await?;
            return Ok(Flow::Wait(REST_POLL));
        }
        let pace = if settled { Pace::Background(SCAN_SLICE) } else { Pace::Full };
        let scanned = self.sidecar.scan(&mut self.session, row, pace).await?;
        if scanned.drift > 0 {
            self.alarm(row, scanned.drift, &scanned.samples).await?;
            return Ok(Flow::Again);
        }
        if scanned.walked == Walked::Exhausted && self.judge_scan(row).await? {
            store::set_error(self.session.client(), &row.name, None).await?;
        }
        Ok(Flow::Wait(SETTLE_POLL))
    }

    /// Old and new differ although both were complete: reads go back to the old storage at once.
    async fn alarm(&mut self, row: &MigrationRow, drift: i64, samples: &[String]) -> Result<(), Error> {
        let text = format!(
            "drift alarm: {drift} rows differ between old and new storage, for example {}; reads are back at 0 %, and the \
             rows are repaired from the old column",
            samples.first().map_or("none shown", String::as_str)
        );
        warn!(migration = %row.name, drift, "drift alarm");
        let actor = Actor::coordinator(text.clone());
        let transaction = self.session.transaction().await?;
        // The row may have moved since: what is true now decides.
        let now = store::load(&transaction, &row.name).await?;
        store::save_alarm(&transaction, &row.name, drift).await?;
        store::repair(&transaction, &row.name).await?;
        let detail = serde_json::json!({ "drift_rows": drift, "samples": samples });
        store::note(&transaction, &actor, Some(&row.name), "drift alarm", detail).await?;
        let back = match now.phase {
            Phase::Ramping => now.reads > Percent::ZERO,
            Phase::Soaking => true,
            Phase::Planned
            | Phase::Shielded
            | Phase::Expanded
            | Phase::DualWriting
            | Phase::Backfilling
            | Phase::Verified
            | Phase::Contracting
            | Phase::Contracted
            | Phase::RollingBack
            | Phase::RolledBack => false,
        };
        if back {
            let step = Move { name: &row.name, from: now.phase, to: Phase::Ramping, reads: Percent::ZERO };
            store::advance(&transaction, step, &actor).await?;
            store::clear_target(&transaction, &row.name).await?;
        }
        store::set_error(&transaction, &row.name, Some(&text)).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The trigger must be on the table, always enabled, in the mode of the phase. Whether it had to be put back.
    async fn restore_sync(&mut self, row: &MigrationRow) -> Result<bool, Error> {
        let mut install = ddl::install_sync(&row.migration);
        let mut missing = false;
        for step in install.iter().filter(|step| step.done_when.is_some()) {
            missing |= !steps::is_done(self.session.client(), step).await?;
        }
        if !missing {
            return Ok(false);
        }
        facts::present_detail(&self.session, row).await?;
        let text = "the sync trigger was missing or disabled; it is put back, and every row is compared again";
        warn!(migration = %row.name, "sync trigger was missing or disabled");
        let mode = match ddl::sync_mode(row.phase) {
            Some(SyncMode::Strict) => SyncMode::Strict,
            Some(SyncMode::Quarantine | SyncMode::Refusing | SyncMode::Contracting) | None
                if row.strict_since.is_some() =>
            {
                SyncMode::Strict
            }
            Some(SyncMode::Quarantine | SyncMode::Refusing | SyncMode::Contracting) | None => SyncMode::Quarantine,
        };
        self.refusing = None;
        for step in &mut install {
            // A trigger that is there but disabled cannot be created again.
            if step.done_when.is_some() {
                step.statements.splice(0..0, ddl::drop_sync(&row.migration));
                step.lock = Lock::AccessExclusive;
            }
        }
        // First the function in its mode, so that the trigger never works in another one.
        install.retain(|step| step.done_when.is_some());
        install.insert(0, ddl::set_sync_mode(&row.migration, mode));
        steps::run(&mut self.session, &install, self.timing.lock_timeout).await?;
        let client = self.session.client();
        store::start_scan(client, &row.name).await?;
        store::set_error(client, &row.name, Some(text)).await?;
        Ok(true)
    }

    /// ramping → soaking → contracting, when `complete` was asked for.
    async fn toward_contract(&mut self, row: &MigrationRow) -> Result<Flow, Error> {
        if let Some(wait) = self.unsettled(row).await? {
            return Ok(wait);
        }
        let left = facts::recheck(&mut self.session, row).await?;
        if left > 0 {
            return self.wait(&format!("{left} rows do not fit the new shape"), REST_POLL).await;
        }
        let facts = facts::gather(&self.session, row, true).await?;
        let next = if row.phase == Phase::Soaking { Phase::Contracting } else { Phase::Soaking };
        facts::refuse_if_blocked("the migration cannot be completed", gate::blockers(&facts, next))?;
        if next == Phase::Soaking {
            self.compared = None;
            return self.advance(row, Phase::Soaking, "complete: all reads come from new storage").await;
        }
        self.follow_table(row).await?;
        if let Some(wait) = self.compare_once_more(row).await? {
            return Ok(wait);
        }
        if let Some(wait) = self.refuse_misfits(row).await? {
            return Ok(wait);
        }
        let detail = facts::present_detail(&self.session, row).await?;
        let enter = ddl::enter_contracting(&row.migration, &detail);
        self.carry_out(row, &enter, Phase::Contracting, "complete: proxies stop naming the old column").await
    }

    /// Soaking, on the way to the contract: nobody has compared every row since it was asked for. Nothing where that found
    /// nothing.
    async fn compare_once_more(&mut self, row: &MigrationRow) -> Result<Option<Flow>, Error> {
        match self.compared {
            Some(true) => return Ok(None),
            Some(false) => {}
            None => {
                store::start_scan(self.session.client(), &row.name).await?;
                self.compared = Some(false);
            }
        }
        self.say(Some("compares every row once more before the old column goes")).await?;
        let scanned = self.sidecar.scan(&mut self.session, row, Pace::Full).await?;
        if scanned.drift > 0 {
            self.alarm(row, scanned.drift, &scanned.samples).await?;
        } else if scanned.walked == Walked::Exhausted {
            self.compared = Some(self.judge_scan(row).await?);
        }
        Ok(Some(Flow::Again))
    }

    /// From contracting on there is no place for what does not fit: such writes are refused, those that are under way
    /// end, and then none may be left. Where one is, it is written as before.
    async fn refuse_misfits(&mut self, row: &MigrationRow) -> Result<Option<Flow>, Error> {
        let Some(refuse) = ddl::refuse_misfits(&row.migration) else { return Ok(None) };
        let since = match self.refusing {
            Some((of, horizon)) if of == row.epoch => horizon,
            Some(_) | None => {
                steps::run(&mut self.session, &[refuse], self.timing.lock_timeout).await?;
                let horizon = fence::horizon(self.session.client()).await?;
                self.refusing = Some((row.epoch, horizon));
                horizon
            }
        };
        if let Some(text) = fence::older_transactions(self.session.client(), since).await? {
            return Ok(Some(self.wait(&text, SETTLE_POLL).await?));
        }
        let left = facts::recheck(&mut self.session, row).await?;
        if left == 0 {
            return Ok(None);
        }
        self.refusing = None;
        let lenient = ddl::set_sync_mode(&row.migration, SyncMode::Strict);
        steps::run(&mut self.session, &[lenient], self.timing.lock_timeout).await?;
        Ok(Some(self.wait(&format!("{left} rows do not fit the new shape"), REST_POLL).await?))
    }

    /// contracting → contracted: the old column goes in one transaction with the change of phase.
    async fn contract(&mut self, row: &MigrationRow) -> Result<Flow, Error> {
        if let Some(wait) = self.unsettled(row).await? {
            return Ok(wait);
        }
        // Before the questions below, each of which every migration that waits for its turn would ask at every epoch of
        // the others.
        if let Some(time) = store::rest(self.session.client()).await? {
            return Ok(Flow::Wait(time));
        }
        self.follow_table(row).await?;
        let facts = facts::gather(&self.session, row, true).await?;
        facts::refuse_if_blocked("the old column cannot be dropped", gate::blockers(&facts, Phase::Contracted))?;
        let detail = facts::present_detail(&self.session, row).await?;
        let contract = ddl::contract(&row.migration, &detail).or_else(|blockers| {
            facts::refuse_if_blocked("the old column cannot be dropped", blockers).map(|()| Vec::new())
        })?;
        self.carry_out(row, &contract, Phase::Contracted, "complete: the old column is dropped").await
    }

    /// Any phase before contracted → rolling_back; a migration that did nothing yet is rolled back at once.
    ///
    /// From contracting by way of soaking: with the default on the new column, a proxy that writes the old one alone
    /// could not tell NULL from nothing, and one that writes the new one alone could not where it is on the old column.
    async fn turn_back(&mut self, row: &MigrationRow) -> Result<Flow, Error> {
        let to = match row.phase {
            Phase::Planned => Phase::RolledBack,
            Phase::Contracting => Phase::Soaking,
            Phase::Shielded
            | Phase::Expanded
            | Phase::DualWriting
            | Phase::Backfilling
            | Phase::Verified
            | Phase::Ramping
            | Phase::Soaking
            | Phase::Contracted
            | Phase::RollingBack
            | Phase::RolledBack => Phase::RollingBack,
        };
        let facts = facts::gather(&self.session, row, true).await?;
        facts::refuse_if_blocked("the migration cannot be rolled back", gate::blockers(&facts, to))?;
        facts::refuse_if_moved(&self.session, row).await?;
        // Of a table that is gone there is nothing to turn back.
        let there = facts::detail(&self.session, row).await?.is_some();
        if there && matches!(row.phase, Phase::Ramping | Phase::Soaking) {
            let leave = ddl::leave_contracting(&row.migration);
            if !steps::is_done(self.session.client(), &leave).await? {
                if let Some(wait) = self.unsettled(row).await? {
                    return Ok(wait);
                }
                return self.carry_out(row, &[leave], to, "rollback").await;
            }
        }
        self.advance(row, to, "rollback").await
    }

    /// rolling_back → rolled_back: the new column goes once no proxy names it.
    async fn roll_back(&mut self, row: &MigrationRow) -> Result<Flow, Error> {
        if let Some(wait) = self.unsettled(row).await? {
            return Ok(wait);
        }
        facts::refuse_if_moved(&self.session, row).await?;
        let detail = facts::detail(&self.session, row).await?;
        let need = |detail: &TableDetail| {
            let new = row.migration.lens.new.iter();
            new.flat_map(|column| catalog::breaks_on_rollback(detail, column.stored())).collect::<Vec<_>>()
        };
        let needing = detail.as_ref().map(need).unwrap_or_default();
        if !needing.is_empty() {
            let text = format!(
                "objects still need the new column: {}; change them to the old column or drop them",
                needing.join(", ")
            );
            return self.wait(&text, REST_POLL).await;
        }
        let rollback = detail.map(|detail| ddl::rollback(&row.migration, &detail)).unwrap_or_default();
        self.carry_out(row, &rollback, Phase::RolledBack, "the new column is gone").await
    }

    /// Runs the steps that are not done yet, then moves to that phase. Steps that lock everybody out run while no proxy
    /// starts a transaction; the last of them in one transaction with the change of phase.
    async fn carry_out(&mut self, row: &MigrationRow, steps: &[Step], to: Phase, why: &str) -> Result<Flow, Error> {
        for (at, step) in steps.iter().enumerate() {
            if steps::is_done(self.session.client(), step).await? {
                continue;
            }
            if step.transactional && step.lock == Lock::AccessExclusive {
                let rest = &steps[at..];
                let fits = |step: &&Step| step.transactional && matches!(step.lock, Lock::AccessExclusive | Lock::None);
                let together = &rest[..rest.iter().take_while(fits).count()];
                let advance = (together.len() == rest.len()).then(|| move_to(row, to));
                let time_max = self.timing.hold_max;
                let outdates = to == Phase::Contracted && row.migration.lens.renames_storage();
                return self.hold(Work { row, steps: together, advance, why, time_max, outdates }).await;
            }
            steps::run(&mut self.session, std::slice::from_ref(step), self.timing.lock_timeout).await?;
        }
        self.advance(row, to, why).await
    }

    /// Holds new transactions and works, unless a hold came to nothing a moment ago.
    async fn hold(&mut self, work: Work<'_>) -> Result<Flow, Error> {
        let rest = self.hold_after.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        if !rest.is_zero() {
            return Ok(Flow::Wait(rest));
        }
        if self.released > 0 {
            // Whoever was in the way and still is would be again: nobody is held for that.
            let table = work.row.migration.lens.table.quoted();
            let holders = fence::long_lock_holders(self.session.client(), &table, work.time_max).await?;
            if let Some(text) = holders {
                return self.wait(&text, REST_POLL).await;
            }
        }
        match hold::run(&mut self.session, work).await? {
            Outcome::Done(epoch) => {
                (self.released, self.hold_after) = (0, None);
                let to = work.advance.map_or(work.row.phase, |step| step.to);
                info!(migration = %work.row.name, from = %work.row.phase, to = %to, epoch = epoch.0, "step done in a hold");
                Ok(Flow::Again)
            }
            Outcome::Moved => Ok(Flow::Again),
            Outcome::Resting(time) => Ok(Flow::Wait(time)),
            Outcome::Released(text) => self.hold_released(&text).await,
        }
    }

    /// Somebody was in the way of a hold: say who it is, and try again after a rest that is clearly longer than it.
    async fn hold_released(&mut self, text: &str) -> Result<Flow, Error> {
        self.released += 1;
        info!(migration = %self.name, attempts = self.released, reason = %text, "hold released");
        let shortest = self.timing.hold_max * HOLD_REST_FACTOR;
        let doubled = shortest.saturating_mul(1 << (self.released - 1).min(16)).min(HOLD_BACKOFF_MAX.max(shortest));
        let rest = doubled.mul_f64(rand::rng().random_range(1.0..1.5));
        self.hold_after = Some(Instant::now() + rest);
        if self.released.is_multiple_of(LOCK_ATTEMPTS_QUIET) {
            let error = format!("{text}, {} times in a row", self.released);
            store::set_error(self.session.client(), &self.name, Some(&error)).await?;
        }
        self.wait(text, rest).await
    }

    async fn advance(&mut self, row: &MigrationRow, to: Phase, why: &str) -> Result<Flow, Error> {
        let step = move_to(row, to);
        let transaction = self.session.transaction().await?;
        let epoch = store::advance(&transaction, step, &Actor::coordinator(why)).await?;
        transaction.commit().await?;
        // What was in the way of a hold is no matter of the next phase.
        (self.released, self.hold_after) = (0, None);
        info!(migration = %row.name, from = %row.phase, to = %to, epoch = epoch.0, "phase changed");
        Ok(Flow::Again)
    }

    /// The fence of the proxies: nothing where it is passed.
    async fn unsettled(&mut self, row: &MigrationRow) -> Result<Option<Flow>, Error> {
        match fence::unsettled_proxies(self.session.client(), row.epoch).await? {
            None => Ok(None),
            Some(text) => Ok(Some(self.wait(&text, SETTLE_POLL).await?)),
        }
    }

    /// The fence of the whole server: nothing where it is passed.
    async fn older_transactions(&mut self, epoch: Epoch) -> Result<Option<Flow>, Error> {
        let noted = noted(&self.session, &mut self.horizon, epoch).await?;
        match fence::older_transactions(self.session.client(), noted).await? {
            None => Ok(None),
            Some(text) => Ok(Some(self.wait(&text, SETTLE_POLL).await?)),
        }
    }

    /// The fence of those who see the table as it was before the copy ended: nothing where it is passed.
    async fn older_snapshots(&mut self, epoch: Epoch) -> Result<Option<Flow>, Error> {
        let noted = noted(&self.session, &mut self.copied, epoch).await?;
        match fence::older_snapshots(self.session.client(), noted).await? {
            None => Ok(None),
            Some(text) => Ok(Some(self.wait(&text, SETTLE_POLL).await?)),
        }
    }

    async fn wait(&mut self, text: &str, time: Duration) -> Result<Flow, Error> {
        self.say(Some(text)).await?;
        Ok(Flow::Wait(time))
    }

    async fn say(&mut self, waiting: Option<&str>) -> Result<(), Error> {
        store::set_waiting(self.session.client(), &self.name, waiting).await
    }

    /// Somebody holds a lock: let everybody pass, say who it is, try again.
    async fn contention(&mut self, error: Error) -> Result<Flow, Error> {
        self.contended += 1;
        self.session.batch_execute("ROLLBACK; SET lock_timeout TO 0").await?;
        let row = store::load(self.session.client(), &self.name).await?;
        let table = row.migration.lens.table.quoted();
        let text = fence::lock_holders(self.session.client(), &table).await?;
        if self.contended.is_multiple_of(LOCK_ATTEMPTS_QUIET) {
            let error = format!("{error}, {} times in a row", self.contended);
            store::set_error(self.session.client(), &self.name, Some(&error)).await?;
        }
        self.wait(&text, backoff(self.contended, LOCK_BACKOFF_MAX)).await
    }

    /// Something is wrong: say it once, try again later.
    async fn failure(&mut self, error: Error) -> Result<Flow, Error> {
        self.failures += 1;
        self.session.batch_execute("ROLLBACK; SET lock_timeout TO 0").await?;
        let text = match error.detail() {
            detail if detail.is_empty() => error.to_string(),
            detail => format!("{error}: {detail}"),
        };
        if self.failures == 1 {
            warn!(migration = %self.name, error = %text, "step failed; it is tried again");
        }
        store::set_error(self.session.client(), &self.name, Some(&text)).await?;
        Ok(Flow::Wait(backoff(self.failures, ERROR_BACKOFF_MAX)))
    }
}

/// A change of phase by the coordinator, with the share of reads that goes with it.
fn move_to(row: &MigrationRow, to: Phase) -> Move<'_> {
    let reads = match to {
        Phase::Ramping | Phase::Soaking | Phase::Contracting => row.reads,
        Phase::Contracted => Percent::ALL,
        Phase::Planned
        | Phase::Shielded
        | Phase::Expanded
        | Phase::DualWriting
        | Phase::Backfilling
        | Phase::Verified
        | Phase::RollingBack
        | Phase::RolledBack => Percent::ZERO,
    };
    Move { name: &row.name, from: row.phase, to, reads }
}

/// The moment that is noted for the epoch; the present one where none is yet.
async fn noted(session: &Session, at: &mut Option<(Epoch, Horizon)>, epoch: Epoch) -> Result<Horizon, Error> {
    if let Some((of, horizon)) = *at
        && of == epoch
    {
        return Ok(horizon);
    }
    let horizon = fence::horizon(session.client()).await?;
    *at = Some((epoch, horizon));
    Ok(horizon)
}
