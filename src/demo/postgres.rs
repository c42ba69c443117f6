//! A throwaway PostgreSQL server: its own scratch directory, a free port, gone when dropped.
//!
//! Serves the demo, the benchmarks and the tests. Never touches a server that it did not start.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long the server may take to accept its first connection.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Its input ends with this process, however that ends: then the server goes, and its folder.
const KEEPER: &str = r#"trap "" INT HUP TERM; read -r _; kill -QUIT "$1" 2>/dev/null
while kill -0 "$1" 2>/dev/null; do sleep 0.1; done; rm -rf "$2""#;

/// The user that owns the throwaway database.
pub const SUPERUSER: &str = "postgres";

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    scratch: TempDir,
    server: Child,
    /// Ends the server where this process ends without doing so.
    keeper: Child,
    binaries: PathBuf,
    port: u16,
}

/// Why no server could be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No binaries.
    #[error(
        "no PostgreSQL server binaries found in /usr/lib/postgresql/*/bin or in PATH; install them (Debian: apt-get install postgresql) or set CROSSFADE_PG_BIN to their folder"
    )]
    NoBinaries,
    /// PostgreSQL refuses to run as root, and there is nobody else.
    #[error("PostgreSQL refuses to run as root, and there is no user \"postgres\" to run it as")]
    NoUser,
    /// A step failed.
    #[error("{step}: {output}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// What the program said.
        output: String,
    },
    /// The machine said no.
    #[error("start a throwaway PostgreSQL: {0}")]
    Io(#[from] io::Error),
}

impl Postgres {
    /// Starts a server with these lines in its `postgresql.conf`, and waits until it answers.
    ///
    /// Listens on 127.0.0.1 and on a Unix socket in its scratch directory; every connection is trusted.
    pub fn start(settings: &[(&str, &str)]) -> Result<Postgres, StartError> {
        Postgres::start_with(&find_binaries().ok_or(StartError::NoBinaries)?, settings, None)
    }

    /// The same with given binaries and, where wanted, the text of `pg_hba.conf`.
    pub fn start_with(binaries: &Path, settings: &[(&str, &str)], hba: Option<&str>) -> Result<Postgres, StartError> {
        let owner = owner()?;
        let scratch = tempfile::Builder::new().prefix("crossfade-").tempdir()?;
        let data = scratch.path().join("data");
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(scratch.path(), Some(uid), Some(gid))?;
        }
        let output = command(&binaries.join("initdb"), owner)
            .args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--username", SUPERUSER, "-D"])
            .arg(&data)
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(StartError::Step { step: "initdb", output: said });
        }
        let port = free_port()?;
        let mut conf = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nfsync = off\n\
             max_connections = 300\nmax_prepared_transactions = 10\nwal_level = logical\n",
            scratch.path().display()
        );
        for (name, value) in settings {
            conf.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        append(&data.join("postgresql.conf"), &conf)?;
        if let Some(hba) = hba {
            fs::write(data.join("pg_hba.conf"), hba)?;
        }
        Postgres::run(scratch, binaries, port, owner)
    }

    /// A standby of this server, which replays it from now on.
    pub fn standby(&self) -> Result<Postgres, StartError> {
        let owner = owner()?;
        let scratch = tempfile::Builder::new().prefix("crossfade-").tempdir()?;
        let data = scratch.path().join("data");
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(scratch.path(), Some(uid), Some(gid))?;
        }
        let output = command(&self.binaries.join("pg_basebackup"), owner)
            .args(["-X", "stream", "--checkpoint=fast", "--no-sync", "-U", SUPERUSER, "-D"])
            .arg(&data)
            .args(["-d", &format!("host=127.0.0.1 port={}", self.port)])
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(StartError::Step { step: "pg_basebackup", output: said });
        }
        let port = free_port()?;
        let folder = scratch.path().display();
        // Not by `-R`, which writes settings that only a server of the program's own version knows.
        let primary = format!("primary_conninfo = 'host=127.0.0.1 port={} user={SUPERUSER}'", self.port);
        let settings = format!("port = {port}\nunix_socket_directories = '{folder}'\n{primary}\n");
        append(&data.join("postgresql.conf"), &settings)?;
        fs::write(data.join("standby.signal"), "")?;
        Postgres::run(scratch, &self.binaries, port, owner)
    }

    /// Starts the server of a data folder, and waits until it answers.
    fn run(scratch: TempDir, binaries: &Path, port: u16, owner: Option<(u32, u32)>) -> Result<Postgres, StartError> {
        let log = fs::File::create(scratch.path().join("server.log"))?;
        let server = command(&binaries.join("postgres"), owner)
            .arg("-D")
            .arg(scratch.path().join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh", &server.id().to_string()])
            .arg(scratch.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut started = Postgres { scratch, server, keeper, binaries: binaries.to_owned(), port };
        started.wait_until_ready()?;
        Ok(started)
    }

    fn wait_until_ready(&mut self) -> Result<(), StartError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            // The postmaster writes "ready" as the last word of this file once it accepts connections.
            let state = fs::read_to_string(self.scratch.path().join("data/postmaster.pid")).unwrap_or_default();
            if state.lines().nth(7).is_some_and(|line| matches!(line.trim(), "ready" | "standby")) {
                return Ok(());
            }
            if self.server.try_wait()?.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.scratch.path().join("server.log")).unwrap_or_default();
                return Err(StartError::Step { step: "start the server", output: log });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the Unix socket.
    pub fn socket_directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The folder of `psql`, `pgbench` and the rest of this server's version.
    pub fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("server.log")).unwrap_or_default()
    }

    /// A connection string for that database over TCP.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        // Nothing in it is to be kept: the immediate way out.
        let pid = self.server.id().to_string();
        let _ = Command::new("kill").args(["-QUIT", &pid]).status();
        let _ = self.server.wait();
    }
}

/// The folder of the newest server binaries: `CROSSFADE_PG_BIN`, `/usr/lib/postgresql/*/bin`, else PATH.
pub fn find_binaries() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("CROSSFADE_PG_BIN") {
        return Some(PathBuf::from(given));
    }
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("postgres").exists() && bin.join("initdb").exists())
        .collect();
    versions.sort();
    let in_path = || {
        std::env::split_paths(&std::env::var_os("PATH")?)
            .find(|d| d.join("postgres").exists() && d.join("initdb").exists())
    };
    versions.pop().map(|(_, bin)| bin).or_else(in_path)
}

/// A TCP port on 127.0.0.1 that nobody listens on now.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Whom to run the server as: nobody else (`None`) unless we are root.
fn owner() -> Result<Option<(u32, u32)>, StartError> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let postgres = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == SUPERUSER);
    let ids = postgres.and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)));
    ids.map(Some).ok_or(StartError::NoUser)
}

fn command(program: &Path, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C.UTF-8").current_dir("/");
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    command
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut whole = fs::read_to_string(path)?;
    whole.push_str(text);
    fs::write(path, whole)
}
