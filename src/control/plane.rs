//! Each process's own part of the control plane: it holds a lease, follows the rules and says when it has settled.
//!
//! Two connections, so that neither waits for the other: one renews the lease, one reads the rules. Makes no decision
//! about a migration, and refuses nothing itself: it only lets the lease run out.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use super::db::{Session, Upstream};
use super::live::Live;
use super::store::{self, Lease};
use super::{Error, backoff};
use crate::catalog::{self, Fingerprint};
use crate::migration::{ActiveMigration, Epoch, Rules};
use crate::schema::Catalog;

/// How much of a lease this process trusts itself with, in percent: the rest covers clocks that run at different rates
/// and a statement that is on its way when the lease ends.
const LEASE_TRUSTED_PERCENT: u32 = 80;

/// How often the rules are looked at when nobody calls.
const POLL: Duration = Duration::from_secs(1);

/// The same while transactions are held.
const POLL_HELD: Duration = Duration::from_millis(200);

/// How often DDL that a session saw is looked for.
const DDL_POLL: Duration = Duration::from_millis(100);

/// How often an epoch that is not settled yet is looked at.
const SETTLE_POLL: Duration = Duration::from_millis(20);

/// The same while transactions are held, and everybody waits for it.
const SETTLE_POLL_HELD: Duration = Duration::from_millis(2);

/// How much longer than it may a hold lasts before whoever follows it ends it.
const HOLD_OVERDUE: Duration = Duration::from_secs(1);

/// How long one question to the database may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything the plane shares with whoever asks how it is.
#[derive(Debug, Default)]
pub struct Health {
    trouble: Mutex<[Option<String>; 2]>,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Lease,
    Rules,
}

impl Health {
    /// What keeps the plane from working now; `None` when all is well.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().expect("no panic happens under this lock").iter().flatten().next().cloned()
    }

    fn set(&self, part: Part, trouble: Option<String>) {
        self.trouble.lock().expect("no panic happens under this lock")[part as usize] = trouble;
    }
}

/// The plane of one process.
#[derive(Debug)]
pub struct Plane {
    upstream: Upstream,
    live: Arc<Live>,
    lease: Lease,
    machine: String,
    renew_every: Duration,
    hold_max: Duration,
    health: Arc<Health>,
    /// When the load of the rules in force began; `None` before the first.
    loaded: watch::Sender<Option<Instant>>,
    /// Asks for a load now.
    reload: Notify,
    /// Whether the schema `crossfade` is there.
    bootstrapped: watch::Sender<bool>,
}

impl Plane {
    /// A plane that has not begun. `hold_max`: how long a hold lasts at most where all is well.
    pub fn new(upstream: Upstream, live: Arc<Live>, lease: Lease, renew_every: Duration, hold_max: Duration) -> Plane {
        Plane {
            upstream,
            live,
            lease,
            machine: machine(),
            renew_every,
            hold_max,
            health: Arc::default(),
            loaded: watch::Sender::new(None),
            reload: Notify::new(),
            bootstrapped: watch::Sender::new(false),
        }
    }

    /// How the plane is, for the admin port.
    pub fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    /// Works until told to stop; then gives the lease back.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = self.keep_lease() => {}
            () = self.follow_rules() => {}
        }
        self.live.lease(false);
        let goodbye = async {
            let session = self.upstream.connect("crossfade lease").await?;
            store::remove_proxy(session.client(), &self.lease.id).await
        };
        // Where the database is gone the lease runs out by itself.
        let _ = timeout(Duration::from_secs(1), goodbye).await;
    }

    async fn keep_lease(&self) {
        let mut ready = self.bootstrapped.subscribe();
        let _ = ready.wait_for(|there| *there).await;
        let mut failures = 0;
        loop {
            match self.renew_until_error(&mut failures).await {
                Ok(never) => match never {},
                Err(error) => self.report(Part::Lease, &error, failures),
            }
            failures += 1;
            tokio::time::sleep(backoff(failures, self.renew_every)).await;
        }
    }

    async fn renew_until_error(&self, failures: &mut u32) -> Result<std::convert::Infallible, Error> {
        let session = answered(self.upstream.connect("crossfade lease")).await?;
        let mut regained = None;
        let mut swept = None::<Instant>;
        self.bury_neighbours(&session).await?;
        let mut changes = self.live.subscribe();
        loop {
            let sent = Instant::now();
            let acked = self.live.oldest_pinned();
            let renewed =
                timeout(self.lease_trusted(), store::renew(session.client(), &self.lease, &self.machine, acked))
                    .await
                    .map_err(|_| self.no_answer())??;
            if !renewed.held {
                regained = Some(Regained { at: Instant::now(), epoch: renewed.epoch });
                self.reload.notify_one();
            }
            if regained.is_none_or(|open| self.caught_up(open)) {
                regained = None;
                *failures = 0;
                self.live.lease_until(sent + self.lease_trusted());
                self.live.make_ready();
                self.health.set(Part::Lease, None);
            }
            if swept.is_none_or(|at| at.elapsed() > Duration::from_secs(600)) {
                swept = Some(Instant::now());
                store::sweep_proxies(session.client()).await?;
            }
            self.until_due(sent, acked, regained.is_some(), &mut changes).await;
        }
    }

    /// After a crash and a restart nobody needs to wait for the lease of the process that crashed. Only where its end can
    /// be seen: on the same kernel, in the same process namespace.
    async fn bury_neighbours(&self, session: &Session) -> Result<(), Error> {
        if self.machine.is_empty() {
            return Ok(());
        }
        for (id, pid) in store::neighbours(session.client(), &self.machine).await? {
            if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
                info!(proxy = %id, pid, "the lease of a process that ended is removed");
                store::remove_proxy(session.client(), &id).await?;
            }
        }
        Ok(())
    }

    /// Waits until the lease is to be renewed: after a while, or at once when there is something to say.
    async fn until_due(
        &self,
        sent: Instant,
        acked: Epoch,
        catching_up: bool,
        changes: &mut watch::Receiver<Arc<Rules>>,
    ) {
        let due = tokio::time::Instant::from_std(sent + self.renew_every);
        loop {
            let rules = self.live.rules();
            let unsettled = catching_up || rules.epoch() > acked;
            let poll = if rules.is_held() { SETTLE_POLL_HELD } else { SETTLE_POLL };
            // Not kept over the wait: whoever holds rules counts as applying them.
            drop(rules);
            tokio::select! {
                () = tokio::time::sleep_until(due) => return,
                () = tokio::time::sleep(poll), if unsettled => {
                    if catching_up || self.live.oldest_pinned() > acked {
                        return;
                    }
                }
                _ = changes.changed(), if !unsettled => {}
            }
        }
    }

    /// After a lapse others may have acted without waiting for this process. Its rules may be applied again once they
    /// were read anew and the last transaction under older ones has ended.
    fn caught_up(&self, since: Regained) -> bool {
        self.loaded.borrow().is_some_and(|began| began >= since.at) && self.live.oldest_pinned() >= since.epoch
    }

    fn lease_trusted(&self) -> Duration {
        Duration::from_millis(self.lease.length_ms.unsigned_abs()) * LEASE_TRUSTED_PERCENT / 100
    }

    async fn follow_rules(&self) {
        let mut failures = 0;
        loop {
            match self.follow_until_error(&mut failures).await {
                Ok(never) => match never {},
                Err(error) => self.report(Part::Rules, &error, failures),
            }
            failures += 1;
            tokio::time::sleep(backoff(failures, POLL)).await;
        }
    }

    async fn follow_until_error(&self, failures: &mut u32) -> Result<std::convert::Infallible, Error> {
        let mut session = answered(self.upstream.connect("crossfade rules")).await?;
        answered(store::bootstrap(&mut session)).await?;
        session.batch_execute("LISTEN crossfade").await?;
        self.bootstrapped.send_replace(true);
        let mut known = None::<Known>;
        let mut catalog = None;
        loop {
            let ddl_seen = self.live.ddl_seen();
            let stale = match &known {
                None => true,
                Some(known) => known.ddl_seen != ddl_seen || answered(self.is_stale(&session, known)).await?,
            };
            if stale {
                known = Some(answered(self.load(&session, ddl_seen, &mut catalog)).await?);
                *failures = 0;
                self.health.set(Part::Rules, None);
            }
            if self.live.rules().is_held() && self.release_overdue(&mut session).await? {
                continue;
            }
            if self.until_call(&session, ddl_seen).await {
                known = None;
            }
        }
    }

    /// Ends a hold whose coordinator hangs: it keeps its locks for as long as the server takes it to be there, and nobody else
    /// drives meanwhile. Whether there was one.
    async fn release_overdue(&self, session: &mut Session) -> Result<bool, Error> {
        let work = async {
            let transaction = session.transaction().await?;
            // The hanging one may have the row; the server ends its transaction soon.
            transaction.batch_execute("SET LOCAL lock_timeout TO 200").await?;
            let released = store::release_overdue(&transaction, self.hold_max + HOLD_OVERDUE).await?;
            transaction.commit().await?;
            Ok(released)
        };
        let released = match answered(work).await {
            Err(error) if error.is_contention() => Vec::new(),
            released => released?,
        };
        for name in &released {
            warn!(migration = %name, "a hold lasted for too long and was ended: its coordinator hangs or is cut off");
        }
        Ok(!released.is_empty())
    }

    /// Waits for a reason to look again; whether that is a call to read everything anew.
    async fn until_call(&self, session: &Session, ddl_seen: u64) -> bool {
        let poll = if self.live.rules().is_held() { POLL_HELD } else { POLL };
        let due = tokio::time::Instant::now() + poll;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => return false,
                () = session.notified() => return false,
                () = self.reload.notified() => return true,
                () = tokio::time::sleep(DDL_POLL) => {
                    if self.live.ddl_seen() != ddl_seen {
                        return false;
                    }
                }
            }
        }
    }

    async fn is_stale(&self, session: &Session, known: &Known) -> Result<bool, Error> {
        if store::rules_version(session.client()).await? != known.version {
            return Ok(true);
        }
        Ok(catalog::fingerprint(session).await? != known.fingerprint)
    }

    /// Reads migrations and catalog in one snapshot, so that the rules never know a phase without its columns.
    async fn load(&self, session: &Session, ddl_seen: u64, catalog: &mut Option<Read>) -> Result<Known, Error> {
        let began = Instant::now();
        session.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let read = read_rules(session, catalog).await;
        session.batch_execute("ROLLBACK").await?;
        let (rules, version, fingerprint) = read?;
        let (epoch, held) = (rules.epoch(), rules.is_held());
        let before = self.live.rules().epoch();
        self.live.publish(Arc::new(rules));
        self.loaded.send_replace(Some(began));
        if before != epoch {
            info!(from = before.0, epoch = epoch.0, held, "rules changed");
        }
        Ok(Known { version, fingerprint, ddl_seen })
    }

    fn report(&self, part: Part, error: &Error, failures: u32) {
        let text = format!("{error}: {}", error.detail());
        // Once per outage: the trouble itself stays visible on the admin port.
        if failures == 0 {
            warn!(upstream = %self.upstream, part = ?part, error = %text, "control plane is cut off from the database");
        }
        self.health.set(part, Some(text));
    }

    fn no_answer(&self) -> Error {
        Error::Unreachable {
            upstream: self.upstream.to_string(),
            detail: "The server does not answer in time.".to_owned(),
        }
    }
}

/// This kernel since its start, and this process namespace in it; empty where the system does not say, or hides the
/// processes of others.
fn machine() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    match (boot, namespace, std::path::Path::new("/proc/1").exists()) {
        (Ok(boot), Ok(namespace), true) => format!("{} {}", boot.trim(), namespace.display()),
        (Ok(_) | Err(_), Ok(_) | Err(_), _) => String::new(),
    }
}

/// When the lease was granted anew after a lapse, and the epoch at that moment.
#[derive(Debug, Clone, Copy)]
struct Regained {
    at: Instant,
    epoch: Epoch,
}

/// What the rules in force were read from.
#[derive(Debug)]
struct Known {
    version: (Epoch, i64),
    fingerprint: Fingerprint,
    ddl_seen: u64,
}

/// The catalog as it was read last.
type Read = (Fingerprint, Arc<Catalog>);

/// Derives the rules; reads the catalog only where it changed since it was read last, since everybody may be waiting.
async fn read_rules(
    session: &Session,
    catalog: &mut Option<Read>,
) -> Result<(Rules, (Epoch, i64), Fingerprint), Error> {
    let version = store::rules_version(session.client()).await?;
    let rows = store::load_all(session.client()).await?;
    let held = rows.iter().any(|row| row.holds.now);
    let active: Vec<ActiveMigration> = rows
        .into_iter()
        .map(|row| ActiveMigration {
            name: row.name,
            phase: row.phase,
            reads: row.reads,
            on_unsupported: row.migration.on_unsupported,
            lens: row.migration.lens,
        })
        .collect();
    let fingerprint = catalog::fingerprint(session).await?;
    let relations = match catalog {
        Some((of, relations)) if *of == fingerprint => relations.clone(),
        Some(_) | None => {
            let relations = Arc::new(catalog::load(session).await?);
            *catalog = Some((fingerprint.clone(), relations.clone()));
            relations
        }
    };
    Ok((Rules::new(version.0, &active, relations).hold(held), version, fingerprint))
}

async fn answered<T>(question: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(ANSWER_TIMEOUT, question).await.map_err(|_| Error::Unreachable {
        upstream: "upstream".to_owned(),
        detail: "The server does not answer in time.".to_owned(),
    })?
}
