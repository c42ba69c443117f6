//! The benchmark: a throwaway PostgreSQL, directly, through PgBouncer and through Crossfade; and the pure parts alone.
//!
//! Rounds are interleaved and medians are shown: ratios within one run mean something, figures of two runs do not. The
//! figure that counts on a busy machine is the CPU time of the proxy's process.

use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use crossfade::admin::remote::Body;
use crossfade::demo::postgres::{Postgres, SUPERUSER};
use serde_json::json;

#[path = "../tests/rewrite/fixture.rs"]
#[allow(dead_code)] // The tests use more of it.
mod fixture;
mod load;
mod micro;
mod report;
mod target;

use load::{Bench, Load, check};
use report::Report;
use target::{Bouncer, Certificate, Crossfade, HOT, PLAIN, Target};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// How long anything may take that is waited for.
const WAIT_MAX: Duration = Duration::from_secs(300);

const MIGRATION: &str = r#"name = "hot-rename"

[[change]]
kind = "rename_column"
table = "pgbench_accounts"
column = "abalance"
to = "balance"
"#;

#[derive(Parser)]
struct Options {
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Measurements of which the median is shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// pgbench's scale: 100,000 rows each.
    #[arg(long, default_value_t = 5)]
    scale: u32,
    /// Only these sections; all where none is named.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Section>,
    /// One short round of fewer loads.
    #[arg(long)]
    quick: bool,
    /// Print JSON at the end instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    /// The pure parts, without sockets.
    Micro,
    /// Small transactions.
    Small,
    /// Pipelines.
    Pipeline,
    /// Large results and values.
    Large,
    /// Bulk COPY.
    Copy,
    /// A connection for each transaction.
    Connect,
    /// TLS towards the client.
    Tls,
    /// Memory of idle sessions.
    Idle,
    /// A result and copies of 1 GB.
    Gigabyte,
    /// A rename on the hot table, in each phase that lasts.
    Rename,
}

fn main() -> Outcome<()> {
    let mut options = Options::parse();
    if options.quick {
        (options.seconds, options.rounds) = (1, 1);
    }
    let mut report = Report::new(options.json);
    if wanted(&options, Section::Micro) {
        micro::run(&mut report);
    }
    if options.only.as_slice() != [Section::Micro] {
        tokio::runtime::Runtime::new()?.block_on(run(&options, &mut report))?;
    }
    report.finish();
    Ok(())
}

fn wanted(options: &Options, section: Section) -> bool {
    options.only.is_empty() || options.only.contains(&section)
}

async fn run(options: &Options, report: &mut Report) -> Outcome<()> {
    let settings = [("shared_buffers", "512MB"), ("synchronous_commit", "off"), ("max_connections", "2300")];
    let postgres = Postgres::start(&settings)?;
    let bench = Bench {
        seconds: options.seconds,
        rounds: options.rounds,
        scale: options.scale,
        scratch: tempfile::tempdir()?,
        binaries: postgres.binaries().to_owned(),
    };
    fill(&bench, &postgres)?;
    let ours = Crossfade::start(&postgres, bench.scratch.path(), None).await?;
    let bouncer = Bouncer::start(&postgres, None)?;
    if bouncer.is_none() {
        report.note("PgBouncer is not installed: left out.");
    }
    let sides = Sides { postgres: &postgres, bouncer: &bouncer, ours: &ours };
    pass_through(options, &bench, &sides, report).await?;
    if wanted(options, Section::Tls) {
        tls(&bench, &postgres, report).await?;
    }
    if wanted(options, Section::Rename) {
        rename(options, &bench, &sides, report).await?;
    }
    Ok(())
}

/// What is compared.
struct Sides<'a> {
    postgres: &'a Postgres,
    bouncer: &'a Option<Bouncer>,
    ours: &'a Crossfade,
}

impl Sides<'_> {
    fn all(&self) -> Vec<Target> {
        let mut all = vec![Target { name: "direct", port: self.postgres.port(), database: HOT, process: None }];
        all.extend(self.proxies());
        all
    }

    fn proxies(&self) -> Vec<Target> {
        let mut all: Vec<Target> = self.bouncer.iter().map(|bouncer| bouncer.target(HOT)).collect();
        all.push(self.ours.target("crossfade", HOT));
        all
    }
}

/// Everything that passes unread.
async fn pass_through(options: &Options, bench: &Bench, sides: &Sides<'_>, report: &mut Report) -> Outcome<()> {
    let (all, proxies) = (sides.all(), sides.proxies());
    let sections = [
        (Section::Small, "small transactions", small_loads(options.quick)),
        (Section::Pipeline, "pipelines of 10", pipelines(bench)?),
        (Section::Large, "large results and values", large_loads(bench)?),
        (
            Section::Connect,
            "a connection for each transaction",
            vec![Load::builtin("select-only", "simple", 8).connecting()],
        ),
    ];
    for (section, title, loads) in sections {
        if !wanted(options, section) {
            continue;
        }
        report.heading(title);
        for load in loads {
            report.add(bench.compare(title, &load, &all)?);
        }
    }
    if wanted(options, Section::Copy) {
        report.heading("bulk COPY: megabytes");
        for out in [true, false] {
            report.add(copies(bench, 100, out, &all)?);
        }
    }
    if wanted(options, Section::Gigabyte) {
        report.heading("1 GB: megabytes, and the most memory meanwhile");
        report.add(copies(bench, 1_024, true, &proxies)?);
        report.add(copies(bench, 1_024, false, &proxies)?);
        let mut rows = Vec::new();
        for target in &proxies {
            rows.push(bench.result("1 GB", 1_024, target).await?);
        }
        report.add(rows);
    }
    if wanted(options, Section::Idle) {
        report.heading("memory of an idle session");
        for target in &proxies {
            let each = bench.idle(if options.quick { 200 } else { 1_000 }, target).await?;
            report.fact("idle session", target.name, each, "kB");
        }
    }
    Ok(())
}

fn small_loads(quick: bool) -> Vec<Load> {
    let clients: &[u32] = if quick { &[8] } else { &[1, 8, 64] };
    let mut all = Vec::new();
    for script in ["select-only", "simple-update"] {
        for protocol in ["simple", "extended", "prepared"] {
            all.extend(clients.iter().map(|clients| Load::builtin(script, protocol, *clients)));
        }
    }
    all
}

fn pipelines(bench: &Bench) -> Outcome<Vec<Load>> {
    let one = "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n";
    let text = format!("\\set aid random(1, :rows)\n\\startpipeline\n{}\\endpipeline\n", one.repeat(10));
    let file = bench.script("pipeline.sql", &text)?;
    Ok(vec![
        Load::file("pipeline extended", &file, "extended", 8),
        Load::file("pipeline prepared", &file, "prepared", 8),
    ])
}

fn large_loads(bench: &Bench) -> Outcome<Vec<Load>> {
    let result = bench.script("result.sql", "SELECT repeat('x', 97) FROM generate_series(1, 1000);\n")?;
    let value = bench.script("value.sql", "SELECT repeat('x', 1000000);\n")?;
    let sent = bench.script("sent.sql", &format!("SELECT length('{}');\n", "x".repeat(1_000_000)))?;
    Ok(vec![
        Load::file("100 kB result", &result, "simple", 4),
        Load::file("1 MB value", &value, "simple", 4),
        Load::file("1 MB literal sent", &sent, "simple", 4),
    ])
}

fn copies(bench: &Bench, megabytes: u32, out: bool, targets: &[Target]) -> Outcome<Vec<report::Row>> {
    targets.iter().map(|target| bench.copy("copy", megabytes, out, target)).collect()
}

async fn tls(bench: &Bench, postgres: &Postgres, report: &mut Report) -> Outcome<()> {
    let certificate = Certificate::make(bench.scratch.path())?;
    let ours = Crossfade::start(postgres, bench.scratch.path(), Some(&certificate)).await?;
    let bouncer = Bouncer::start(postgres, Some(&certificate))?;
    let mut targets: Vec<Target> = bouncer.iter().map(|bouncer| bouncer.target(HOT)).collect();
    targets.push(ours.target("crossfade", HOT));
    report.heading("TLS towards the client");
    for protocol in ["simple", "prepared"] {
        report.add(bench.compare("tls", &Load::builtin("select-only", protocol, 8).over_tls(), &targets)?);
    }
    for load in large_loads(bench)?.into_iter().take(1) {
        report.add(bench.compare("tls", &load.over_tls(), &targets)?);
    }
    Ok(())
}

/// A rename on the hot table. The pass-through beside it is the same proxy before a database that is not migrated.
async fn rename(options: &Options, bench: &Bench, sides: &Sides<'_>, report: &mut Report) -> Outcome<()> {
    let ours = sides.ours;
    let mut targets: Vec<Target> = sides.bouncer.iter().map(|bouncer| bouncer.target(PLAIN)).collect();
    targets.push(ours.target("pass-through", PLAIN));
    targets.push(ours.target("crossfade", HOT));
    let remote = ours.remote();
    let told = |error: crossfade::admin::remote::CallError| error.to_string();
    let steps = [
        ("/v1/migrations", Body::Toml(MIGRATION.to_owned()), "verified", "verified: dual writes, reads from old"),
        (
            "/v1/migrations/hot-rename/reads",
            Body::Json(json!({ "percent": 100 })),
            "ramping",
            "ramping: reads from new",
        ),
        ("/v1/migrations/hot-rename/complete", Body::Json(json!({ "confirm": true })), "contracted", "contracted"),
    ];
    for (path, body, phase, title) in steps {
        remote.post(path, body).await.map_err(told)?;
        wait(&remote, phase).await?;
        report.heading(&format!("a rename on the hot table, {title}"));
        for load in hot_loads(options.quick) {
            report.add(bench.compare(phase, &load, &targets)?);
        }
    }
    Ok(())
}

fn hot_loads(quick: bool) -> Vec<Load> {
    let protocols: &[&str] = if quick { &["simple", "prepared"] } else { &["simple", "extended", "prepared"] };
    let scripts = ["select-only", "simple-update"];
    scripts.iter().flat_map(|s| protocols.iter().map(|p| Load::builtin(s, p, 8))).collect()
}

async fn wait(remote: &crossfade::admin::remote::Remote, phase: &str) -> Outcome<()> {
    let deadline = Instant::now() + WAIT_MAX;
    while Instant::now() < deadline {
        let status = remote.get("/v1/migrations/hot-rename").await.map_err(|error| error.to_string())?;
        if status["phase"] == phase {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(format!("the migration did not reach {phase}").into())
}

/// Two databases of pgbench's, and a table that is copied into.
fn fill(bench: &Bench, postgres: &Postgres) -> Outcome<()> {
    let port = postgres.port().to_string();
    let common = ["-h", "127.0.0.1", "-p", &port, "-U", SUPERUSER];
    for database in [HOT, PLAIN] {
        check(Command::new(bench.binaries.join("createdb")).args(common).arg(database))?;
        let scale = bench.scale.to_string();
        check(Command::new(bench.binaries.join("pgbench")).args(common).args(["-i", "-q", "-s", &scale, database]))?;
        let table = "CREATE UNLOGGED TABLE sink (line text)";
        check(Command::new(bench.binaries.join("psql")).args(common).args(["-q", "-c", table, database]))?;
    }
    Ok(())
}
