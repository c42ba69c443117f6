//! Loads: what is run against a target, and what is measured meanwhile.
//!
//! Transactions come from pgbench; COPY from psql; the rest from clients of our own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossfade::demo::postgres::SUPERUSER;
use futures_util::TryStreamExt;
use tempfile::TempDir;
use tokio_postgres::NoTls;

use super::Outcome;
use super::report::{Row, median};
use super::target::{Target, descriptors_max};

/// How long a load runs before it is measured: a new server process is slower until it knows its catalogs.
const WARM_UP: Duration = Duration::from_secs(1);

/// What pgbench does.
#[derive(Debug, Clone)]
pub struct Load {
    pub name: String,
    arguments: Vec<String>,
    clients: u32,
    tls: bool,
}

impl Load {
    /// One of pgbench's own scripts.
    pub fn builtin(script: &str, protocol: &str, clients: u32) -> Load {
        let arguments = vec!["-b".to_owned(), script.to_owned(), "-M".to_owned(), protocol.to_owned()];
        Load { name: format!("{script} {protocol} x{clients}"), arguments, clients, tls: false }
    }

    /// A script of ours.
    pub fn file(name: &str, path: &Path, protocol: &str, clients: u32) -> Load {
        let arguments = vec!["-f".to_owned(), path.display().to_string(), "-M".to_owned(), protocol.to_owned()];
        Load { name: format!("{name} x{clients}"), arguments, clients, tls: false }
    }

    /// The same over TLS to the proxy.
    pub fn over_tls(mut self) -> Load {
        self.name.push_str(" tls");
        self.tls = true;
        self
    }

    /// The same with a connection for each transaction.
    pub fn connecting(mut self) -> Load {
        self.name.push_str(" connecting");
        self.arguments.push("-C".to_owned());
        self
    }
}

#[derive(Debug, Clone, Copy)]
struct Figures {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_ms_per_1000: f64,
}

/// How loads are run.
#[derive(Debug)]
pub struct Bench {
    pub seconds: u32,
    pub rounds: usize,
    pub scale: u32,
    pub scratch: TempDir,
    pub binaries: PathBuf,
}

impl Bench {
    /// A script file of that text.
    pub fn script(&self, name: &str, text: &str) -> Outcome<PathBuf> {
        let path = self.scratch.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// One load on each target in turn, as often as there are rounds; the medians.
    pub fn compare(&self, section: &str, load: &Load, targets: &[Target]) -> Outcome<Vec<Row>> {
        let mut all = vec![Vec::new(); targets.len()];
        targets.iter().for_each(Target::forget_peak);
        for _ in 0..self.rounds {
            for (target, figures) in targets.iter().zip(&mut all) {
                figures.push(self.measure(load, target)?);
            }
        }
        let row = |(target, figures): (&Target, &Vec<Figures>)| {
            let of = |pick: fn(&Figures) -> f64| median(figures.iter().map(pick).collect());
            Row {
                section: section.to_owned(),
                load: load.name.clone(),
                target: target.name,
                per_second: of(|f| f.per_second),
                p50_us: Some(of(|f| f.p50_us)),
                p99_us: Some(of(|f| f.p99_us)),
                cpu_ms_per_1000: target.process.map(|_| of(|f| f.cpu_ms_per_1000)),
                peak_kb: target.peak_kb(),
            }
        };
        Ok(targets.iter().zip(&all).map(row).collect())
    }

    /// One measurement, which begins when the server's processes are warm: PgBouncer keeps its own from one to the next.
    fn measure(&self, load: &Load, target: &Target) -> Outcome<Figures> {
        let logs = tempfile::tempdir_in(self.scratch.path())?;
        let seconds = (WARM_UP + Duration::from_secs(self.seconds.into())).as_secs();
        let mut command = self.client("pgbench", target);
        command
            .current_dir(logs.path())
            .args(["-n", "-c", &load.clients.to_string(), "-j", "1", "-T", &seconds.to_string(), "-l"])
            .args(["-D", &format!("rows={}", 100_000 * self.scale)])
            .args(&load.arguments)
            .env("PGSSLMODE", if load.tls { "require" } else { "disable" })
            .arg(target.database);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        std::thread::sleep(WARM_UP);
        let (cpu_before, from) = (target.cpu_seconds()?, SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64());
        succeeded(&command, &child.wait_with_output()?)?;
        let cpu = target.cpu_seconds()? - cpu_before;
        let Measured { mut latencies, until } = measured(logs.path(), from)?;
        latencies.sort_by(f64::total_cmp);
        let count = latencies.len();
        let at = |share: f64| latencies[((count as f64 * share) as usize).min(count - 1)];
        Ok(Figures {
            per_second: count as f64 / (until - from),
            p50_us: at(0.5),
            p99_us: at(0.99),
            cpu_ms_per_1000: cpu * 1_000_000.0 / count as f64,
        })
    }

    fn client(&self, program: &str, target: &Target) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.args(["-h", "127.0.0.1", "-p", &target.port.to_string(), "-U", SUPERUSER]);
        command
    }

    /// COPY of so many megabytes, out of the server or into it; megabytes are what is counted.
    pub fn copy(&self, section: &str, megabytes: u32, out: bool, target: &Target) -> Outcome<Row> {
        target.forget_peak();
        let (cpu_before, begun) = (target.cpu_seconds()?, Instant::now());
        let query = match out {
            true => format!("COPY (SELECT repeat('x', 1023) FROM generate_series(1, {megabytes} * 1024)) TO STDOUT"),
            false => "COPY sink FROM STDIN".to_owned(),
        };
        let mut command = self.client("psql", target);
        command.args(["-q", "-v", "ON_ERROR_STOP=1", "-c", &query, target.database]).stdout(Stdio::null());
        if out {
            check(&mut command)?;
        } else {
            let mut child = command.stdin(Stdio::piped()).spawn()?;
            let mut input = child.stdin.take().ok_or("psql has no input")?;
            let megabyte = format!("{}\n", "x".repeat(1023)).repeat(1024);
            for _ in 0..megabytes {
                input.write_all(megabyte.as_bytes())?;
            }
            drop(input);
            if !child.wait()?.success() {
                return Err("psql could not copy".into());
            }
            check(self.client("psql", target).args(["-q", "-c", "TRUNCATE sink", target.database]))?;
        }
        let name = format!("COPY {} {megabytes} MB", if out { "out" } else { "in" });
        row_of_megabytes(section, name, megabytes, target, cpu_before, begun)
    }

    /// A result of so many megabytes, read row by row.
    pub async fn result(&self, section: &str, megabytes: u32, target: &Target) -> Outcome<Row> {
        target.forget_peak();
        let (cpu_before, begun) = (target.cpu_seconds()?, Instant::now());
        let client = connect(target).await?;
        let query = format!("SELECT repeat('x', 1024) FROM generate_series(1, {megabytes} * 1024)");
        let mut rows = std::pin::pin!(client.query_raw(query.as_str(), Vec::<String>::new()).await?);
        let mut count = 0;
        while rows.try_next().await?.is_some() {
            count += 1;
        }
        if count != megabytes * 1024 {
            return Err(format!("{count} rows came").into());
        }
        row_of_megabytes(section, format!("result of {megabytes} MB"), megabytes, target, cpu_before, begun)
    }

    /// The memory that one idle session takes, in kB.
    pub async fn idle(&self, wanted: usize, target: &Target) -> Outcome<f64> {
        // Each session takes two descriptors of a proxy, and one of ours.
        let most = (target.descriptors_max() / 2).min(descriptors_max("self")).saturating_sub(100);
        let sessions = wanted.min(most);
        let mut warm = Vec::new();
        for _ in 0..20 {
            warm.push(connect(target).await?);
        }
        let before = target.resident_kb().unwrap_or_default();
        let mut idle = Vec::new();
        for _ in 0..sessions {
            let client = connect(target).await?;
            client.simple_query("SELECT 1").await?;
            idle.push(client);
        }
        let after = target.resident_kb().unwrap_or_default();
        Ok(after.saturating_sub(before) as f64 / sessions as f64)
    }
}

fn row_of_megabytes(
    section: &str,
    load: String,
    megabytes: u32,
    target: &Target,
    cpu_before: f64,
    begun: Instant,
) -> Outcome<Row> {
    let cpu = target.cpu_seconds()? - cpu_before;
    Ok(Row {
        section: section.to_owned(),
        load,
        target: target.name,
        per_second: f64::from(megabytes) / begun.elapsed().as_secs_f64(),
        p50_us: None,
        p99_us: None,
        cpu_ms_per_1000: target.process.map(|_| cpu * 1_000_000.0 / f64::from(megabytes)),
        peak_kb: target.peak_kb(),
    })
}

async fn connect(target: &Target) -> Outcome<tokio_postgres::Client> {
    let config =
        format!("host=127.0.0.1 port={} user={SUPERUSER} dbname={} connect_timeout=30", target.port, target.database);
    let connected = tokio::time::timeout(Duration::from_secs(60), tokio_postgres::connect(&config, NoTls)).await??;
    let (client, connection) = connected;
    tokio::spawn(connection);
    Ok(client)
}

/// What pgbench logged from some moment on.
struct Measured {
    /// In microseconds.
    latencies: Vec<f64>,
    /// The last one's end, in seconds since 1970.
    until: f64,
}

/// Reads pgbench's logs: a line has the client, the transaction's number, its time in microseconds, the script, and its end in
/// seconds and microseconds.
fn measured(folder: &Path, from: f64) -> Outcome<Measured> {
    let mut all = Measured { latencies: Vec::new(), until: from };
    for entry in fs::read_dir(folder)? {
        for line in fs::read_to_string(entry?.path())?.lines() {
            let fields: Vec<f64> = line.split(' ').map_while(|field| field.parse().ok()).collect();
            let [_, _, latency, _, seconds, micros, ..] = *fields else {
                return Err(format!("pgbench logged {line:?}").into());
            };
            let end = seconds + micros / 1e6;
            if end >= from {
                all.latencies.push(latency);
                all.until = all.until.max(end);
            }
        }
    }
    if all.latencies.is_empty() { Err("pgbench logged no transaction".into()) } else { Ok(all) }
}

/// Runs a command that must succeed.
pub fn check(command: &mut Command) -> Outcome<()> {
    let output = command.stdin(Stdio::null()).output()?;
    succeeded(command, &output)
}

fn succeeded(command: &Command, output: &Output) -> Outcome<()> {
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}
