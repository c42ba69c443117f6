//! What is measured: PostgreSQL itself, PgBouncer in session mode, and Crossfade, each as a process of its own.
//!
//! Starts processes, ends them, and reads their CPU time and memory from `/proc`. Puts no load on them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crossfade::admin::remote::Remote;
use crossfade::demo::postgres::{Postgres, SUPERUSER, free_port};
use tempfile::TempDir;

use super::{Outcome, WAIT_MAX};

/// The databases: one that is migrated, and one that never is.
pub const HOT: &str = "bench";
pub const PLAIN: &str = "bench_plain";

/// Something to connect to.
#[derive(Debug, Clone)]
pub struct Target {
    pub name: &'static str,
    pub port: u16,
    pub database: &'static str,
    /// The process whose CPU time counts.
    pub process: Option<u32>,
}

impl Target {
    pub fn cpu_seconds(&self) -> Outcome<f64> {
        self.process.map_or(Ok(0.0), cpu_seconds)
    }

    pub fn peak_kb(&self) -> Option<u64> {
        self.process.and_then(|process| status_kb(process, "VmHWM:"))
    }

    pub fn resident_kb(&self) -> Option<u64> {
        self.process.and_then(|process| status_kb(process, "VmRSS:"))
    }

    /// How many descriptors the process may have.
    pub fn descriptors_max(&self) -> usize {
        self.process.map_or(usize::MAX, |process| descriptors_max(&process.to_string()))
    }

    /// Forgets the peak so far. Where that is not allowed the peak is that of the whole run.
    pub fn forget_peak(&self) {
        if let Some(process) = self.process {
            let _ = fs::write(format!("/proc/{process}/clear_refs"), "5");
        }
    }
}

/// The time that a process was on a CPU, all threads.
fn cpu_seconds(process: u32) -> Outcome<f64> {
    let mut nanos = 0u64;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        nanos += text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(nanos as f64 / 1e9)
}

/// How many descriptors a process may have.
pub fn descriptors_max(process: &str) -> usize {
    let text = fs::read_to_string(format!("/proc/{process}/limits")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(1_024)
}

fn status_kb(process: u32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

/// A certificate for both proxies.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    pub fn make(folder: &Path) -> Outcome<Certificate> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        fs::write(&certificate, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        for file in [&certificate, &key] {
            fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
        }
        own(&[&certificate, &key])?;
        Ok(Certificate { certificate, key })
    }
}

/// One Crossfade.
#[derive(Debug)]
pub struct Crossfade {
    child: Child,
    port: u16,
    admin: u16,
}

impl Crossfade {
    pub async fn start(postgres: &Postgres, folder: &Path, tls: Option<&Certificate>) -> Outcome<Crossfade> {
        let (port, admin) = (free_port()?, free_port()?);
        let log = fs::File::create(folder.join(format!("crossfade-{port}.log")))?;
        let mut command = Command::new(crossfade()?);
        command
            .arg("run")
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(format!("--admin=127.0.0.1:{admin}"))
            .arg(format!("--upstream={}", postgres.url(HOT)));
        if let Some(tls) = tls {
            command.arg("--tls-certificate").arg(&tls.certificate).arg("--tls-key").arg(&tls.key);
        }
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let started = Crossfade { child, port, admin };
        let deadline = Instant::now() + WAIT_MAX;
        while !started.remote().is_ready().await {
            if Instant::now() > deadline {
                return Err("Crossfade does not get ready".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(started)
    }

    pub fn remote(&self) -> Remote {
        Remote::local(self.admin)
    }

    pub fn target(&self, name: &'static str, database: &'static str) -> Target {
        Target { name, port: self.port, database, process: Some(self.child.id()) }
    }
}

impl Drop for Crossfade {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary beside this one.
fn crossfade() -> Outcome<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).ok_or("this binary is in no folder")?;
    Ok(folder.join("crossfade"))
}

/// A PgBouncer in session mode.
#[derive(Debug)]
pub struct Bouncer {
    child: Child,
    port: u16,
    _scratch: TempDir,
}

impl Bouncer {
    /// `None` where PgBouncer is not installed.
    pub fn start(postgres: &Postgres, tls: Option<&Certificate>) -> Outcome<Option<Bouncer>> {
        let programs = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"];
        let Some(program) = programs.iter().find(|path| Path::new(path).exists()) else { return Ok(None) };
        let scratch = tempfile::tempdir()?;
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))?;
        let (users, config, port) = (scratch.path().join("users"), scratch.path().join("ini"), free_port()?);
        fs::write(&users, format!("\"{SUPERUSER}\" \"\"\n"))?;
        let databases: String = [HOT, PLAIN]
            .iter()
            .map(|name| format!("{name} = host=127.0.0.1 port={} dbname={name}\n", postgres.port()))
            .collect();
        let tls = tls.map_or(String::new(), |tls| {
            format!(
                "client_tls_sslmode = require\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n",
                tls.certificate.display(),
                tls.key.display()
            )
        });
        let text = format!(
            "[databases]\n{databases}[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = session\nmax_client_conn = 2000\ndefault_pool_size = 1200\n\
             log_connections = 0\nlog_disconnections = 0\n{tls}",
            users.display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new(program);
        if is_root()? {
            command.args(["-u", SUPERUSER]);
        }
        let child = command.arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let bouncer = Bouncer { child, port, _scratch: scratch };
        let deadline = Instant::now() + WAIT_MAX;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                return Err("PgBouncer does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(bouncer))
    }

    pub fn target(&self, database: &'static str) -> Target {
        Target { name: "pgbouncer", port: self.port, database, process: Some(self.child.id()) }
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
    Ok(fs::metadata("/proc/self")?.uid() == 0)
}

/// Gives files to the user that PgBouncer runs as. Crossfade, which runs as we do, reads them all the same.
fn own(files: &[&PathBuf]) -> Outcome<()> {
    if is_root()? {
        let done = Command::new("chown").arg(SUPERUSER).args(files).status()?;
        if !done.success() {
            return Err("the certificate could not be given to the user that PgBouncer runs as".into());
        }
    }
    Ok(())
}
