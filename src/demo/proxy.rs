//! The proxy of the demo: the real binary as a child process, so that it can be killed like one.
//!
//! Starts, kills and stops one process; never another.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::postgres::free_port;
use crate::admin::remote::Remote;

/// How long the proxy may take until it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long it may take to end when asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// How long its lease lasts without being renewed.
const LEASE_MS: u32 = 3_000;

/// How often it is renewed.
const LEASE_RENEW_MS: u32 = 500;

/// A pause between two looks.
const POLL_PAUSE: Duration = Duration::from_millis(20);

/// A proxy that can be killed and started again at the same addresses.
#[derive(Debug)]
pub struct Proxy {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    port: u16,
    admin_port: u16,
    child: Child,
}

impl Proxy {
    /// Starts `crossfade run` before that database, on free ports, its log appended to that file.
    pub fn start(program: &Path, upstream: &str, log: &Path) -> io::Result<Proxy> {
        let (port, admin_port) = (free_port()?, free_port()?);
        let arguments = vec![
            "run".to_owned(),
            format!("--listen=127.0.0.1:{port}"),
            format!("--admin=127.0.0.1:{admin_port}"),
            format!("--upstream={upstream}"),
            // A proxy that was killed must not hold the next one up for long.
            format!("--lease-ms={LEASE_MS}"),
            format!("--lease-renew-ms={LEASE_RENEW_MS}"),
        ];
        let child = spawn(program, &arguments, log)?;
        Ok(Proxy { program: program.into(), arguments, log: log.into(), port, admin_port, child })
    }

    /// Waits until it says that it is ready; the error is for a person.
    pub async fn ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            if self.remote().is_ready().await {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the proxy ended ({status}) instead of getting ready:\n{}", self.log()));
            }
            if Instant::now() > deadline {
                return Err(format!("the proxy is not ready after {READY_TIMEOUT:?}:\n{}", self.log()));
            }
            tokio::time::sleep(POLL_PAUSE).await;
        }
    }

    /// SIGKILL, and a new process at the same addresses. Does not wait until that is ready.
    pub fn kill_and_restart(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(&self.program, &self.arguments, &self.log)?;
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits; whether it ended well.
    pub async fn stop(&mut self) -> io::Result<bool> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            tokio::time::sleep(POLL_PAUSE).await;
        }
        Ok(false)
    }

    /// Its admin port.
    pub fn remote(&self) -> Remote {
        Remote::local(self.admin_port)
    }

    /// The TCP port on 127.0.0.1 for clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The TCP port on 127.0.0.1 for HTTP.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        const LINES_MAX: usize = 30;
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Gone already when it was stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, arguments: &[String], log: &Path) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    Command::new(program).args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
}
