//! The demo: an old application under load while its schema moves, and the proof that nothing was lost.
//!
//! Everything in it is thrown away: its own PostgreSQL, its own proxy (the real binary as a child process), its own
//! rows. Touches no database that it did not start.

pub mod application;
mod course;
pub mod facts;
pub mod postgres;
pub mod progress;
pub mod proxy;
pub mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use application::{Application, Book, Model, SCHEMA, Truth, Workload, seed_sql};
use course::{Course, Voyage};
use postgres::Postgres;
use progress::{Mode, Progress};
use proxy::Proxy;
use report::{Fact, Report};
use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls};

/// The database of the demo.
const DATABASE: &str = "app";

/// The most connections that the throwaway server has room for beside ours.
const CONNECTIONS_MAX: u32 = 200;

/// The most rows that are kept in memory for comparison.
const ROWS_MAX: u64 = 10_000_000;

/// What the demo is told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Rows in the table before the migration.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(100..=ROWS_MAX))]
    pub rows: u64,
    /// How long the application is watched in each phase, in seconds.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub seconds_per_phase: f64,
    /// Connections of the application; an even number, since they work in pairs.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(2..=CONNECTIONS_MAX as i64))]
    pub connections: u32,
    /// Print the report as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// When all is done, leave the database and the proxy running until interrupted.
    #[arg(long)]
    pub keep: bool,
    /// Kill the proxy (SIGKILL) that often during the migration, at random moments, and start it again.
    #[arg(long, default_value_t = 0)]
    pub kills: u32,
    /// How progress is shown (on standard error).
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    pub progress: Mode,
    /// Where random choices begin, so that a run can be repeated.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The binary to run as the proxy; this one when absent.
    #[arg(long, hide = true)]
    pub program: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=3_600.0).contains(&seconds) => Ok(seconds),
        Ok(_) | Err(_) => Err("expected a number of seconds from 0 to 3600".to_owned()),
    }
}

/// Why the demo could not be carried to its end. What it found on the way is lost with it.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No server.
    #[error(transparent)]
    Postgres(#[from] postgres::StartError),
    /// The database said no.
    #[error("{step}: {error:#}")]
    Database {
        /// What was being done.
        step: &'static str,
        /// What it said.
        error: tokio_postgres::Error,
    },
    /// The proxy or its admin port said no.
    #[error("{0}")]
    Proxy(String),
    /// The machine said no.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A worker of the application ended by itself.
    #[error("a worker of the application ended by itself: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

fn database(step: &'static str) -> impl FnOnce(tokio_postgres::Error) -> DemoError {
    move |error| DemoError::Database { step, error }
}

/// Runs the demo and prints its report. The exit code: 0 when every fact holds, 1 otherwise.
pub async fn run(options: Options) -> u8 {
    let outcome = tokio::select! {
        outcome = run_to_report(&options) => outcome,
        _ = tokio::signal::ctrl_c() => Err(DemoError::Proxy("interrupted".to_owned())),
    };
    match outcome {
        Ok((report, stage)) => {
            print(&report, options.json);
            if options.keep {
                keep(&stage).await;
            }
            u8::from(!report.ok)
        }
        Err(error) => {
            eprintln!("crossfade demo: {error}");
            1
        }
    }
}

fn print(report: &Report, json: bool) {
    if json {
        println!("{}", serde_json::to_string(report).unwrap_or_default());
    } else {
        println!("\n{}", report.text());
    }
}

async fn keep(stage: &Stage) {
    let proxy = stage.proxy.lock().await;
    eprintln!("database:   psql '{}'", stage.postgres.url(DATABASE));
    eprintln!("proxy:      psql 'postgres://{}@127.0.0.1:{}/{DATABASE}'", postgres::SUPERUSER, proxy.port());
    eprintln!("admin port: http://127.0.0.1:{}", proxy.admin_port());
    eprintln!("Everything is thrown away when you press Ctrl-C.");
    // Without a signal handler there is nothing to wait for, and the end is right too.
    let _ = tokio::signal::ctrl_c().await;
}

/// What the demo plays on.
struct Stage {
    // Fields are dropped in this order: the proxy goes before its database.
    proxy: Arc<Mutex<Proxy>>,
    direct: Client,
    postgres: Postgres,
    truth: Arc<Truth>,
    book: Arc<Book>,
    began: Instant,
}

/// Plays the whole demo without printing its report: what the tests call.
pub async fn play(options: &Options) -> Result<Report, DemoError> {
    Ok(run_to_report(options).await?.0)
}

async fn run_to_report(options: &Options) -> Result<(Report, Stage), DemoError> {
    let mut progress = Progress::new(options.progress);
    let stage = set_up(options, &mut progress).await?;
    let watch = Duration::from_secs_f64(options.seconds_per_phase);
    let models = Model::deal(&stage.direct, (options.connections as usize).div_ceil(2))
        .await
        .map_err(database("read the rows"))?;

    progress.say("the application works on the database directly");
    let direct = workload(options, stage.postgres.url(DATABASE));
    let (models, ()) = work(&stage, &direct, models, async || tokio::time::sleep(watch).await).await?;

    progress.say("the application works through the proxy, nothing is planned");
    stage.book.enter("proxy, no migration");
    let port = stage.proxy.lock().await.port();
    let through = workload(options, format!("postgres://{}@127.0.0.1:{port}/{DATABASE}", postgres::SUPERUSER));
    let (models, voyage) = work(&stage, &through, models, async || {
        tokio::time::sleep(watch).await;
        Course::new(&stage, options, &mut progress).run().await
    })
    .await?;

    progress.say("every row is compared");
    let report = report(&stage, &models, voyage).await.map_err(database("compare every row"))?;
    Ok((report, stage))
}

async fn set_up(options: &Options, progress: &mut Progress) -> Result<Stage, DemoError> {
    let began = Instant::now();
    progress.say("starting a throwaway PostgreSQL");
    let postgres = Postgres::start(&[])?;
    let maintenance = connect(&postgres.url("postgres")).await?;
    let create = format!("CREATE DATABASE {DATABASE}");
    maintenance.batch_execute(&create).await.map_err(database("create the database"))?;
    let direct = connect(&postgres.url(DATABASE)).await?;
    progress.say(&format!("filling users with {} rows", report::grouped(options.rows)));
    direct.batch_execute(SCHEMA).await.map_err(database("create the tables"))?;
    direct.batch_execute(&seed_sql(options.rows)).await.map_err(database("fill the tables"))?;
    direct.batch_execute("VACUUM ANALYZE users").await.map_err(database("analyze the tables"))?;
    let truth = Arc::new(Truth::learn(&direct).await.map_err(database("prepare the statements"))?);

    progress.say("starting the proxy");
    let program = match &options.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()?,
    };
    let log = postgres.socket_directory().join("proxy.log");
    let mut proxy = Proxy::start(&program, &postgres.url(DATABASE), &log)?;
    proxy.ready().await.map_err(DemoError::Proxy)?;
    let book = Arc::new(Book::begin("direct"));
    Ok(Stage { proxy: Arc::new(Mutex::new(proxy)), direct, postgres, truth, book, began })
}

async fn connect(url: &str) -> Result<Client, DemoError> {
    let (client, driver) = tokio_postgres::connect(url, NoTls).await.map_err(database("connect"))?;
    tokio::spawn(async move {
        // Its errors are the client's too.
        let _ = driver.await;
    });
    Ok(client)
}

fn workload(options: &Options, url: String) -> Workload {
    Workload {
        url,
        workers: (options.connections as usize).div_ceil(2),
        pause: Duration::from_millis(3),
        losses_expected: options.kills > 0,
        seed: options.seed,
    }
}

/// Lets the application work while that happens, and a moment before it: its statements are prepared by then.
async fn work<T>(
    stage: &Stage,
    workload: &Workload,
    models: Vec<Model>,
    meanwhile: impl AsyncFnOnce() -> T,
) -> Result<(Vec<Model>, T), DemoError> {
    let application = Application::start(workload, models, &stage.truth, &stage.book)
        .await
        .map_err(database("connect the application"))?;
    let outcome = meanwhile().await;
    Ok((application.stop().await?, outcome))
}

/// What must be true of the table when the migration is complete.
async fn final_facts(stage: &Stage) -> Result<Vec<Fact>, tokio_postgres::Error> {
    let old = facts::column(&stage.direct, "username").await?;
    let new = facts::column(&stage.direct, "handle").await?;
    let constraints = facts::unique_constraints(&stage.direct, "handle").await?;
    let triggers = facts::triggers(&stage.direct).await?;
    let is_new = new.as_ref().is_some_and(|c| c.type_sql == "character varying(100)" && c.not_null);
    let shown = |column: &Option<facts::ColumnFact>| match column {
        Some(column) if column.not_null => format!("{} not null", column.type_sql),
        Some(column) => column.type_sql.clone(),
        None => "none".to_owned(),
    };
    Ok(vec![
        fact("the column username is gone", old.is_none(), shown(&old)),
        fact("the column handle is varchar(100) not null", is_new, shown(&new)),
        fact("its unique constraint has the old name", constraints == ["users_username_key"], constraints.join(", ")),
        fact(
            "no trigger is left",
            triggers.is_empty(),
            if triggers.is_empty() { "none".into() } else { triggers.join(", ") },
        ),
    ])
}

fn fact(name: &str, ok: bool, found: String) -> Fact {
    Fact { name: name.to_owned(), ok, found }
}

/// Compares everything with everything. A migration that did not reach its end is one more fact, not the end of the
/// report: what became of the rows is then of interest most of all.
async fn report(stage: &Stage, models: &[Model], voyage: Voyage) -> Result<Report, tokio_postgres::Error> {
    let gone = facts::column(&stage.direct, "username").await?.is_none();
    let comparison = facts::compare(&stage.direct, models, if gone { "handle" } else { "username" }).await?;
    let summary = stage.book.summary();
    let mut facts = voyage.facts;
    let said = voyage.failure.map_or_else(|| "contracted".to_owned(), |error| error.to_string());
    facts.push(fact("the migration went to its end", said == "contracted", said));
    facts.extend(final_facts(stage).await?);
    let worked = summary.statements > 0 && summary.errors == 0;
    facts.push(fact("the application saw no error", worked, format!("{} errors", summary.errors)));
    let differences = comparison.differences.join("; ");
    let same = comparison.lost == 0 && comparison.unexpected == 0;
    let found = if same { format!("{} rows", report::grouped(comparison.rows)) } else { differences };
    facts.push(fact("every row is there with its right values", same, found));
    let drift = voyage.drift_rows;
    facts.push(fact("old and new never differed once they had to agree", drift == 0, format!("{drift} rows")));
    Ok(Report {
        ok: facts.iter().all(|fact| fact.ok),
        rows: comparison.rows,
        lost_rows: comparison.lost,
        unexpected_rows: comparison.unexpected,
        drift_rows: drift,
        kills: voyage.kills,
        phases: summary.chapters.iter().map(Into::into).collect(),
        app: summary.into(),
        facts,
        seconds: stage.began.elapsed().as_secs_f64(),
    })
}
