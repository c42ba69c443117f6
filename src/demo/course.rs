//! The course of the demo's migration: what an operator would type, step by step, and what is looked at in between.
//!
//! Speaks to the admin port only; looks at the database only to count drift.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::progress::Progress;
use super::proxy::Proxy;
use super::report::Fact;
use super::{DemoError, Options, Stage, database, fact, facts};
use crate::admin::remote::{Body, CallError, Remote};

/// The migration of the demo, as its file would be.
pub const MIGRATION: &str = r#"name = "users-handle"

[[change]]
kind = "rename_column"
table = "users"
column = "username"
to = "handle"
type = "varchar(100)"
"#;

/// Its name.
const NAME: &str = "users-handle";

/// The shares of sessions that read from new storage, in the order in which they are tried.
const READS: [u8; 6] = [1, 10, 50, 100, 0, 100];

/// How long any one step may take before the demo gives up, besides a time for each row.
const STEP_TIMEOUT: Duration = Duration::from_secs(180);

/// What a row may add to that.
const ROW_TIMEOUT: Duration = Duration::from_millis(1);

/// A pause between two looks at the status.
const POLL_PAUSE: Duration = Duration::from_millis(40);

/// The migration as the admin port describes it.
#[derive(Debug, Clone, PartialEq)]
struct Status {
    phase: String,
    reads: u64,
    /// Whether every proxy has taken the last change and no older transaction is left.
    settled: bool,
    rows_done: u64,
    rows_total: u64,
    /// What it waits for, and what went wrong last.
    trouble: String,
}

impl Status {
    /// Reads the answer of `/v1/migrations`.
    fn parse(json: &Value) -> Option<Status> {
        let migration = json["migrations"].as_array()?.iter().find(|migration| migration["name"] == NAME)?;
        let epoch = migration["epoch"].as_u64()?;
        let proxies = json["proxies"].as_array()?;
        let behind = |proxy: &&Value| proxy["alive"] == true && proxy["epoch_acked"].as_u64() < Some(epoch);
        let backfill = &migration["backfill"];
        Some(Status {
            phase: migration["phase"].as_str()?.to_owned(),
            reads: migration["reads"].as_u64()?,
            settled: !proxies.iter().any(|proxy| behind(&proxy)),
            rows_done: backfill["rows_done"].as_u64().unwrap_or(0),
            rows_total: backfill["rows_total"].as_u64().unwrap_or(0),
            trouble: ["waiting", "error"]
                .iter()
                .filter_map(|key| migration[*key].as_str())
                .collect::<Vec<_>>()
                .join("; "),
        })
    }

    /// The name of the moment in the report.
    fn chapter(&self) -> String {
        if self.phase == "ramping" { format!("ramping, reads {} %", self.reads) } else { self.phase.clone() }
    }
}

/// How it went.
#[derive(Debug, Default)]
pub struct Voyage {
    /// The most rows seen with two columns that differ, once they had to agree.
    pub drift_rows: u64,
    /// How often the proxy was killed.
    pub kills: u32,
    /// What was checked on the way.
    pub facts: Vec<Fact>,
    /// Why it ended early.
    pub failure: Option<DemoError>,
}

/// The operator.
pub struct Course<'a> {
    stage: &'a Stage,
    options: &'a Options,
    progress: &'a mut Progress,
    remote: Option<Remote>,
    voyage: Voyage,
}

impl<'a> Course<'a> {
    /// An operator who has done nothing yet.
    pub fn new(stage: &'a Stage, options: &'a Options, progress: &'a mut Progress) -> Course<'a> {
        Course { stage, options, progress, remote: None, voyage: Voyage::default() }
    }

    /// From nothing to the old column dropped, and a while longer.
    pub async fn run(mut self) -> Voyage {
        self.remote = Some(self.stage.proxy.lock().await.remote());
        if let Err(error) = self.plan().await {
            self.voyage.failure = Some(error);
            return self.voyage;
        }
        let killer = Killer::start(&self.stage.proxy, self.options);
        self.voyage.failure = self.migrate().await.err();
        self.voyage.kills = killer.stop().await;
        if self.options.kills > 0 {
            let (kills, wanted) = (self.voyage.kills, self.options.kills);
            self.note("the proxy was killed and came back", kills == wanted, format!("{kills} of {wanted}"));
        }
        self.voyage
    }

    fn note(&mut self, name: &str, ok: bool, found: String) {
        self.voyage.facts.push(fact(name, ok, found));
    }

    async fn migrate(&mut self) -> Result<(), DemoError> {
        self.progress.say("the migration starts");
        self.command("/v1/migrations", Body::Toml(MIGRATION.to_owned()), |_| true).await?;
        self.until(|status| status.phase == "verified").await?;
        self.progress.say("verified: every row agrees");
        self.look("verified").await?;
        for percent in READS {
            self.progress.say(&format!("reads to {percent} %"));
            let body = Body::Json(json!({ "percent": percent }));
            let reached = move |status: &Status| status.reads == u64::from(percent);
            self.command("/v1/migrations/users-handle/reads", body, reached).await?;
            self.until(move |status| reached(status) && status.settled).await?;
            self.look(&format!("reads at {percent} %")).await?;
        }
        self.progress.say("complete: the old column goes");
        let begun = |status: &Status| ["soaking", "contracting", "contracted"].contains(&status.phase.as_str());
        self.command("/v1/migrations/users-handle/complete", Body::Json(json!({ "confirm": true })), begun).await?;
        self.until(|status| status.phase == "contracted").await?;
        self.progress.say("contracted: the application works on, with its old SQL");
        self.watch().await;
        Ok(())
    }

    /// What an operator looks at first: whether it is possible, and what will be done.
    async fn plan(&mut self) -> Result<(), DemoError> {
        let said = |error: CallError| DemoError::Proxy(error.to_string());
        let file = || Body::Toml(MIGRATION.to_owned());
        let check = self.remote().post("/v1/check", file()).await.map_err(said)?;
        let plan = self.remote().post("/v1/plan", file()).await.map_err(said)?;
        if check["possible"] != true {
            return Err(DemoError::Proxy(format!("the migration is not possible: {check}")));
        }
        let phases = plan["plan"]["phases"].as_array().map_or(&[][..], Vec::as_slice);
        let steps: usize = phases.iter().filter_map(|phase| phase["steps"].as_array()).map(Vec::len).sum();
        self.progress
            .say(&format!("the migration is possible: {} phases, {steps} steps of DDL and copying", phases.len()));
        Ok(())
    }

    /// A while in this phase, then the count of rows whose columns differ.
    async fn look(&mut self, moment: &str) -> Result<(), DemoError> {
        self.watch().await;
        match facts::drift(&self.stage.direct).await.map_err(database("count the drift"))? {
            Some(0) => {}
            Some(rows) => {
                self.voyage.drift_rows = self.voyage.drift_rows.max(rows);
                self.note(&format!("no drift with {moment}"), false, format!("{rows} rows"));
            }
            None => self.note(&format!("both columns are there with {moment}"), false, "one is not".to_owned()),
        }
        Ok(())
    }

    async fn watch(&self) {
        sleep(Duration::from_secs_f64(self.options.seconds_per_phase)).await;
    }

    /// Sends a command until it is known to have been taken. A lost reply is not taken for a failure: the state says
    /// what became of the command.
    async fn command(&self, path: &str, body: Body, taken: impl Fn(&Status) -> bool) -> Result<(), DemoError> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        loop {
            match self.remote().post(path, body.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if !self.may_retry(&error) || Instant::now() > deadline => {
                    return Err(DemoError::Proxy(format!("POST {path}: {error}")));
                }
                Err(_) => {}
            }
            sleep(POLL_PAUSE).await;
            if self.status().await.is_ok_and(|status| taken(&status)) {
                return Ok(());
            }
        }
    }

    /// While the proxy is killed on purpose, no answer is to be expected now and then, nor a proxy that is ready.
    fn may_retry(&self, error: &CallError) -> bool {
        let unavailable = match error {
            CallError::NoAnswer(_) => true,
            CallError::Refused { status, .. } => *status == 503 || *status == 409,
        };
        self.options.kills > 0 && unavailable
    }

    /// Waits until the status is so; tells the book each phase on the way.
    async fn until(&mut self, reached: impl Fn(&Status) -> bool) -> Result<(), DemoError> {
        let rows = u32::try_from(self.options.rows).unwrap_or(u32::MAX);
        let deadline = Instant::now() + STEP_TIMEOUT + ROW_TIMEOUT * rows;
        let mut last = None;
        loop {
            match self.status().await {
                Ok(status) => {
                    self.stage.book.enter(&status.chapter());
                    if status.phase == "backfilling" && status.rows_total > 0 {
                        self.progress.backfill(status.rows_done, status.rows_total);
                    }
                    if reached(&status) {
                        return Ok(());
                    }
                    last = Some(status);
                }
                Err(error) if !self.may_retry(&error) => return Err(DemoError::Proxy(error.to_string())),
                Err(_) => {}
            }
            if Instant::now() > deadline {
                let log = self.stage.proxy.lock().await.log();
                return Err(DemoError::Proxy(format!(
                    "the migration stands still at {last:?}; the proxy's log:\n{log}"
                )));
            }
            sleep(POLL_PAUSE).await;
        }
    }

    async fn status(&self) -> Result<Status, CallError> {
        let json = self.remote().get("/v1/migrations").await?;
        Status::parse(&json).ok_or_else(|| CallError::NoAnswer(format!("a status that says nothing: {json}")))
    }

    fn remote(&self) -> Remote {
        // Set first of all in `run`.
        self.remote.clone().unwrap_or_else(|| Remote::local(0))
    }
}

/// Kills the proxy at random moments.
struct Killer(Option<JoinHandle<u32>>);

impl Killer {
    fn start(proxy: &Arc<Mutex<Proxy>>, options: &Options) -> Killer {
        if options.kills == 0 {
            return Killer(None);
        }
        let (proxy, kills) = (proxy.clone(), options.kills);
        let mut random = StdRng::seed_from_u64(options.seed);
        let longest = 200 + (options.seconds_per_phase * 1_500.0) as u64;
        Killer(Some(tokio::spawn(async move {
            for kill in 0..kills {
                sleep(Duration::from_millis(random.random_range(0..longest))).await;
                let mut proxy = proxy.lock().await;
                if proxy.kill_and_restart().is_err() || proxy.ready().await.is_err() {
                    return kill;
                }
            }
            kills
        })))
    }

    /// Waits for the last kill: the proxy is up when this returns.
    async fn stop(self) -> u32 {
        match self.0 {
            Some(task) => task.await.unwrap_or(0),
            None => 0,
        }
    }
}
