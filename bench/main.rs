//! The benchmark: pgbench against a throwaway PostgreSQL, directly, through PgBouncer and through Crossfade.
//!
//! Rounds are interleaved and medians are shown: ratios within one run mean something, figures of two runs do not.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use crossfade::admin::remote::{Body, Remote};
use crossfade::demo::postgres::{Postgres, SUPERUSER, free_port};
use crossfade::demo::proxy::Proxy;
use serde_json::json;
use tempfile::TempDir;

type Outcome<T> = Result<T, Box<dyn Error>>;

const DATABASE: &str = "bench";

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
    #[arg(long, default_value_t = 10)]
    scale: u32,
}

/// Something to connect to.
struct Target {
    name: &'static str,
    port: u16,
    /// The process whose CPU time counts.
    process: Option<u32>,
}

/// What pgbench does.
#[derive(Clone, Copy)]
struct Load {
    script: &'static str,
    protocol: &'static str,
    clients: u32,
}

#[derive(Clone, Copy)]
struct Figures {
    tps: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_ms_per_1000: f64,
}

fn main() -> Outcome<()> {
    let options = Options::parse();
    tokio::runtime::Runtime::new()?.block_on(run(&options))
}

async fn run(options: &Options) -> Outcome<()> {
    let postgres = Postgres::start(&[("shared_buffers", "512MB"), ("synchronous_commit", "off")])?;
    let bench = Bench { options, scratch: tempfile::tempdir()?, pgbench: postgres.binaries().join("pgbench") };
    bench.fill(&postgres)?;
    let log = bench.scratch.path().join("proxy.log");
    let mut proxy = Proxy::start(&crossfade()?, &postgres.url(DATABASE), &log)?;
    proxy.ready().await?;
    let bouncer = Bouncer::start(&postgres)?;
    let mut targets = vec![Target { name: "direct", port: postgres.port(), process: None }];
    if let Some(bouncer) = &bouncer {
        targets.push(Target { name: "pgbouncer", port: bouncer.port, process: Some(bouncer.child.id()) });
    }
    let ours = || Target { name: "crossfade", port: proxy.port(), process: Some(proxy.id()) };
    targets.push(ours());

    heading("no migration");
    for load in loads() {
        bench.compare(load, &targets)?;
    }
    let remote = proxy.remote();
    remote.post("/v1/migrations", Body::Toml(MIGRATION.to_owned())).await.map_err(|error| error.to_string())?;
    wait(&remote, "verified").await?;
    heading("a rename on the hot table: verified (dual writes, reads from old)");
    for load in hot_loads() {
        bench.compare(load, &[Target { name: "direct", port: postgres.port(), process: None }, ours()])?;
    }
    remote
        .post("/v1/migrations/hot-rename/reads", Body::Json(json!({ "percent": 100 })))
        .await
        .map_err(|e| e.to_string())?;
    wait(&remote, "ramping").await?;
    heading("the same: all reads from new");
    for load in hot_loads() {
        bench.compare(load, &[Target { name: "direct", port: postgres.port(), process: None }, ours()])?;
    }
    remote
        .post("/v1/migrations/hot-rename/complete", Body::Json(json!({ "confirm": true })))
        .await
        .map_err(|error| error.to_string())?;
    wait(&remote, "contracted").await?;
    heading("the same: contracted (direct could no longer run this application)");
    for load in hot_loads() {
        bench.compare(load, &[ours()])?;
    }
    Ok(())
}

fn loads() -> Vec<Load> {
    let mut all = Vec::new();
    for protocol in ["simple", "extended", "prepared"] {
        for clients in [1, 8] {
            all.push(Load { script: "select-only", protocol, clients });
        }
    }
    all.push(Load { script: "simple-update", protocol: "prepared", clients: 8 });
    all
}

fn hot_loads() -> Vec<Load> {
    let load = |script, protocol| Load { script, protocol, clients: 8 };
    vec![load("select-only", "simple"), load("select-only", "prepared"), load("simple-update", "prepared")]
}

async fn wait(remote: &Remote, phase: &str) -> Outcome<()> {
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

fn heading(title: &str) {
    println!("\n{title}");
    println!(
        "  {:<14} {:<9} {:>7}  {:<10} {:>9} {:>8} {:>8} {:>12}",
        "script", "protocol", "clients", "target", "tps", "p50 us", "p99 us", "cpu ms/1000"
    );
}

struct Bench<'a> {
    options: &'a Options,
    scratch: TempDir,
    pgbench: PathBuf,
}

impl Bench<'_> {
    fn fill(&self, postgres: &Postgres) -> Outcome<()> {
        let port = postgres.port().to_string();
        let common = ["-h", "127.0.0.1", "-p", &port, "-U", SUPERUSER];
        check(Command::new(postgres.binaries().join("createdb")).args(common).arg(DATABASE))?;
        let scale = self.options.scale.to_string();
        check(Command::new(&self.pgbench).args(common).args(["-i", "-q", "-s", &scale, DATABASE]))
    }

    /// One load on each target in turn, that often; prints the medians.
    fn compare(&self, load: Load, targets: &[Target]) -> Outcome<()> {
        let mut all = vec![Vec::new(); targets.len()];
        for _ in 0..self.options.rounds {
            for (target, figures) in targets.iter().zip(&mut all) {
                figures.push(self.measure(load, target)?);
            }
        }
        for (target, figures) in targets.iter().zip(&all) {
            let of = |pick: fn(&Figures) -> f64| median(figures.iter().map(pick).collect());
            let cpu = if target.process.is_some() { format!("{:.1}", of(|f| f.cpu_ms_per_1000)) } else { "-".into() };
            println!(
                "  {:<14} {:<9} {:>7}  {:<10} {:>9.0} {:>8.0} {:>8.0} {:>12}",
                load.script,
                load.protocol,
                load.clients,
                target.name,
                of(|f| f.tps),
                of(|f| f.p50_us),
                of(|f| f.p99_us),
                cpu
            );
        }
        Ok(())
    }

    fn measure(&self, load: Load, target: &Target) -> Outcome<Figures> {
        let logs = tempfile::tempdir_in(self.scratch.path())?;
        let cpu_before = target.process.map(cpu_seconds).transpose()?;
        let (port, clients, seconds) =
            (target.port.to_string(), load.clients.to_string(), self.options.seconds.to_string());
        check(
            Command::new(&self.pgbench)
                .current_dir(logs.path())
                .args(["-n", "-h", "127.0.0.1", "-p", &port, "-U", SUPERUSER, "-b", load.script])
                .args(["-M", load.protocol, "-c", &clients, "-j", "1", "-T", &seconds, "-l", DATABASE]),
        )?;
        let cpu = target.process.map(cpu_seconds).transpose()?.unwrap_or(0.0) - cpu_before.unwrap_or(0.0);
        let mut latencies = latencies(logs.path())?;
        latencies.sort_by(f64::total_cmp);
        let count = latencies.len();
        let at = |share: f64| latencies[((count as f64 * share) as usize).min(count - 1)];
        Ok(Figures {
            tps: count as f64 / f64::from(self.options.seconds),
            p50_us: at(0.5),
            p99_us: at(0.99),
            cpu_ms_per_1000: cpu * 1_000_000.0 / count as f64,
        })
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The third field of each line of pgbench's logs: microseconds.
fn latencies(folder: &Path) -> Outcome<Vec<f64>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let text = fs::read_to_string(entry?.path())?;
        all.extend(text.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<f64>().ok()));
    }
    if all.is_empty() { Err("pgbench logged no transaction".into()) } else { Ok(all) }
}

/// User and system time of a process, all threads.
fn cpu_seconds(process: u32) -> Outcome<f64> {
    /// Linux reports in this unit to user space, whatever the kernel's own.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold spaces.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / TICKS_PER_SECOND)
}

fn check(command: &mut Command) -> Outcome<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// The binary beside this one.
fn crossfade() -> Outcome<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).ok_or("this binary is in no folder")?;
    Ok(folder.join("crossfade"))
}

/// A PgBouncer in session mode.
struct Bouncer {
    child: Child,
    port: u16,
    _scratch: TempDir,
}

impl Bouncer {
    fn start(postgres: &Postgres) -> Outcome<Option<Bouncer>> {
        let Some(program) = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].iter().find(|path| Path::new(path).exists())
        else {
            println!("PgBouncer is not installed: left out.");
            return Ok(None);
        };
        let scratch = tempfile::tempdir()?;
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))?;
        let (users, config, port) = (scratch.path().join("users"), scratch.path().join("ini"), free_port()?);
        fs::write(&users, format!("\"{SUPERUSER}\" \"\"\n"))?;
        let text = format!(
            "[databases]\n{DATABASE} = host=127.0.0.1 port={} dbname={DATABASE}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = session\n\
             max_client_conn = 200\ndefault_pool_size = 100\nlog_connections = 0\nlog_disconnections = 0\n",
            postgres.port(),
            users.display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new(program);
        if is_root()? {
            command.args(["-u", SUPERUSER]);
        }
        let child = command.arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let bouncer = Bouncer { child, port, _scratch: scratch };
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                return Err("PgBouncer does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(bouncer))
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_root() -> Outcome<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata("/proc/self")?.uid() == 0)
}
