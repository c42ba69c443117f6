//! Chooses the one process that drives migrations, and starts a driver for each that is not at its end.
//!
//! Two locks, both of a session: the coordinator's own, and one for each migration on the connection that acts for it.
//! So what an older coordinator had begun has ended, whatever happened to it, before a new one acts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use super::db::{Session, Upstream};
use super::driver::{Driver, Timing};
use super::sidecar::Sidecar;
use super::{Error, MIGRATION_LOCK_CLASS, backoff, store};

/// The coordinator's advisory lock ("crossf" and 1).
const COORDINATOR_LOCK: i64 = 0x6372_6f73_7366_0001;

/// How often a process that does not coordinate tries to, and one that does looks whether it still may.
const POLL: Duration = Duration::from_secs(1);

/// How long the server may take to answer that look.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the server waits for a process that acts, before it ends its session and with it its locks: one that was stopped,
/// or cut off, keeps nobody else from acting for longer. Each such session has something to ask every second.
const SILENCE_MAX: &str = "'30s'";

/// One process's candidate for the coordination.
#[derive(Debug)]
pub struct Coordinator<S> {
    upstream: Upstream,
    sidecar: Arc<S>,
    timing: Timing,
    leading: Arc<AtomicBool>,
}

impl<S: Sidecar> Coordinator<S> {
    /// A candidate.
    pub fn new(upstream: Upstream, sidecar: Arc<S>, timing: Timing) -> Coordinator<S> {
        Coordinator { upstream, sidecar, timing, leading: Arc::default() }
    }

    /// Whether this process coordinates, for the admin port.
    pub fn leading(&self) -> Arc<AtomicBool> {
        self.leading.clone()
    }

    /// Works until told to stop.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        let mut failures = 0;
        loop {
            let result = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                result = self.campaign(&mut failures) => result,
            };
            self.leading.store(false, Ordering::Relaxed);
            if let Err(error) = result
                && failures == 0
            {
                warn!(upstream = %self.upstream, error = %error, detail = %error.detail(), "coordination was interrupted");
            }
            failures += 1;
            tokio::time::sleep(backoff(failures, POLL)).await;
        }
    }

    /// Waits for the lock, then leads until the connection that holds it is lost.
    async fn campaign(&self, failures: &mut u32) -> Result<(), Error> {
        let session = self.upstream.connect("crossfade coordinator").await?;
        bound_silence(&session).await?;
        while !store::exists(session.client()).await? || !locked(&session, COORDINATOR_LOCK).await? {
            *failures = 0;
            tokio::time::sleep(POLL).await;
        }
        *failures = 0;
        info!("this process coordinates");
        self.leading.store(true, Ordering::Relaxed);
        session.batch_execute("LISTEN crossfade").await?;
        let mut drivers = Drivers::default();
        loop {
            let rows = timeout(ANSWER_TIMEOUT, store::unfinished(session.client())).await;
            let names = rows.map_err(|_| Error::Unreachable {
                upstream: self.upstream.to_string(),
                detail: "The server does not answer in time.".to_owned(),
            })??;
            for name in names {
                drivers.ensure(&name, || tokio::spawn(self.drive(name.clone())));
            }
            let _ = timeout(POLL, session.notified()).await;
        }
    }

    /// Drives one migration to its end, over lost connections.
    fn drive(&self, name: String) -> impl Future<Output = ()> + Send + 'static {
        let (upstream, sidecar, timing) = (self.upstream.clone(), self.sidecar.clone(), self.timing);
        async move {
            let mut failures = 0;
            loop {
                let attempt = async {
                    let session = locked_session(&upstream, &name).await?;
                    Driver::new(name.clone(), session, sidecar.clone(), timing).run().await
                };
                let Err(error) = attempt.await else { return };
                failures += 1;
                warn!(migration = %name, error = %error, detail = %error.detail(), "driver lost its connection");
                tokio::time::sleep(backoff(failures, POLL)).await;
            }
        }
    }
}

/// A connection that holds the migration's lock and hears of changes.
async fn locked_session(upstream: &Upstream, name: &str) -> Result<Session, Error> {
    let session = upstream.connect("crossfade driver").await?;
    bound_silence(&session).await?;
    session.batch_execute("LISTEN crossfade").await?;
    loop {
        let row =
            session.query_one("SELECT pg_try_advisory_lock($1, hashtext($2))", &[&MIGRATION_LOCK_CLASS, &name]).await?;
        if row.get(0) {
            return Ok(session);
        }
        tokio::time::sleep(POLL / 4).await;
    }
}

/// PostgreSQL 13 has no `idle_session_timeout`: there only what is within a transaction ends.
async fn bound_silence(session: &Session) -> Result<(), Error> {
    let sql = format!(
        "SELECT set_config(name, {SILENCE_MAX}, false) FROM pg_settings \
         WHERE name IN ('idle_session_timeout', 'idle_in_transaction_session_timeout')"
    );
    Ok(session.batch_execute(&sql).await?)
}

async fn locked(session: &Session, key: i64) -> Result<bool, Error> {
    Ok(session.query_one("SELECT pg_try_advisory_lock($1)", &[&key]).await?.get(0))
}

/// The drivers of a coordinator; they end with it.
#[derive(Debug, Default)]
struct Drivers {
    tasks: HashMap<String, JoinHandle<()>>,
}

impl Drivers {
    fn ensure(&mut self, name: &str, start: impl FnOnce() -> JoinHandle<()>) {
        self.tasks.retain(|_, task| !task.is_finished());
        if !self.tasks.contains_key(name) {
            self.tasks.insert(name.to_owned(), start());
        }
    }
}

impl Drop for Drivers {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}
