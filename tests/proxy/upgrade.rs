//! The process: how it starts, is reloaded, is relieved by the next one, and ends.

use super::poolers::PgBouncer;
use super::*;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;

/// Where a process listens, and its files.
struct Place {
    folder: tempfile::TempDir,
    port: u16,
    admin: u16,
    database: String,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        Place {
            folder,
            port: postgres::free_port().unwrap(),
            admin: postgres::free_port().unwrap(),
            database: database(),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn arguments(&self) -> Vec<String> {
        let (listen, admin) =
            (format!("--listen=127.0.0.1:{}", self.port), format!("--admin=127.0.0.1:{}", self.admin));
        vec!["run".to_owned(), listen, admin, format!("--upstream={}", server().url(&self.database))]
    }

    /// The binary with these arguments besides.
    fn run(&self, name: &str, more: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crossfade"));
        command.args(self.arguments()).args(more);
        self.spawn(name, command)
    }

    /// The binary before other servers than the tests' own.
    fn run_before(&self, name: &str, upstream: &str, more: &[&str]) -> Process {
        let kept = self.arguments().into_iter().filter(|argument| !argument.starts_with("--upstream"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_crossfade"));
        command.args(kept).arg(format!("--upstream={upstream}")).args(more);
        self.spawn(name, command)
    }

    fn spawn(&self, name: &str, mut command: Command) -> Process {
        let log = self.file(name);
        let file = std::fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Process { child: command.spawn().unwrap(), log }
    }

    /// One session, from its connection to its end.
    fn serves(&self) -> Result<(), String> {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).map_err(|error| error.to_string())?;
        socket.set_read_timeout(Some(DEADLINE)).map_err(|error| error.to_string())?;
        session(socket, &self.database)
    }

    fn until_served(&self, process: &mut Process) {
        eventually("a served session", || {
            process.lives();
            self.serves().is_ok()
        });
    }
}

/// Logs in, asks, and leaves.
fn session(mut socket: impl Read + Write, database: &str) -> Result<(), String> {
    let mut told = |bytes: &[u8]| -> Result<Vec<u8>, String> {
        socket.write_all(bytes).map_err(|error| error.to_string())?;
        let mut heard = Vec::new();
        while !heard.ends_with(b"Z\0\0\0\x05I") {
            let mut more = [0; 4096];
            match socket.read(&mut more) {
                Ok(0) => return Err(format!("the end after {:?}", String::from_utf8_lossy(&heard))),
                Ok(size) => heard.extend_from_slice(&more[..size]),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(heard)
    };
    told(&startup(&[("user", "postgres"), ("database", database)]))?;
    told(&script("Q SELECT 1"))?;
    Ok(())
}

struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    #[track_caller]
    fn lives(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "it ended: {}", self.log());
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    #[track_caller]
    fn ends(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("its end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    #[track_caller]
    fn says(&self, text: &str) {
        eventually(text, || self.log().contains(text));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Clients that come and go until they are told to stop; the number of those that came, and the first that was turned away.
struct Crowd {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<(usize, Option<String>)>>,
}

impl Crowd {
    fn start(place: &Place, unix: PathBuf) -> Crowd {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..4).map(|number| {
            let (stop, unix, database, port) = (stop.clone(), unix.clone(), place.database.clone(), place.port);
            std::thread::spawn(move || {
                let mut served = 0;
                while !stop.load(Ordering::Relaxed) {
                    let told = if number % 2 == 0 {
                        TcpStream::connect(("127.0.0.1", port))
                            .map_err(|e| e.to_string())
                            .and_then(|s| session(s, &database))
                    } else {
                        UnixStream::connect(&unix).map_err(|e| e.to_string()).and_then(|s| session(s, &database))
                    };
                    match told {
                        Ok(()) => served += 1,
                        Err(why) => return (served, Some(why)),
                    }
                }
                (served, None)
            })
        });
        Crowd { threads: threads.collect(), stop }
    }

    #[track_caller]
    fn was_served(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let (served, turned_away) = thread.join().unwrap();
            assert!(turned_away.is_none(), "after {served}: {turned_away:?}");
            assert!(served > 0);
        }
    }
}

#[test]
fn an_upgrade_refuses_no_connection() {
    let place = Place::new();
    let (handover, unix) = (place.file("handover"), place.folder.path().display().to_string());
    let options = [format!("--handover={}", handover.display()), format!("--unix-socket-directory={unix}")];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut old = place.run("old", &options);
    place.until_served(&mut old);
    old.says("crossfade is up");
    eventually("the offer", || handover.exists());
    let mut held = Some(Raw::login(place.port, &place.database));
    assert_eq!(held.as_mut().unwrap().query("BEGIN"), "C:BEGIN Z:T");

    let crowd = Crowd::start(&place, place.file(&format!(".s.PGSQL.{}", place.port)));
    for round in 0..3 {
        let mut new = place.run(&format!("new{round}"), &options);
        new.says("the process before this one accepts nobody any more");
        old.says("another process accepts connections now");
        // The sessions of the one that was relieved go on, and it ends with the last of them.
        if let Some(mut held) = held.take() {
            assert_eq!(held.query("SELECT 1"), "T D:1 C:SELECT_1 Z:T");
            assert_eq!(held.query("COMMIT"), "C:COMMIT Z:I");
            assert_eq!(held.query("SELECT 2"), "T D:2 C:SELECT_1 Z:I");
            old.lives();
        }
        assert!(old.ends().success(), "{}", old.log());
        new.lives();
        old = new;
    }
    crowd.was_served();
    assert!(place.serves().is_ok());
    old.signal("-TERM");
    assert!(old.ends().success());
    assert!(place.serves().is_err());
}

#[test]
fn a_successor_that_does_not_get_ready_changes_nothing() {
    let place = Place::new();
    let handover = format!("--handover={}", place.file("handover").display());
    let mut old = place.run("old", &[&handover]);
    place.until_served(&mut old);
    eventually("the offer", || place.file("handover").exists());
    // Its database does not exist.
    let nowhere = format!("postgres://postgres@127.0.0.1:{}/app", postgres::free_port().unwrap());
    let mut next = place.run_before("next", &nowhere, &[&handover]);
    next.says("another process gave its listening sockets");
    next.signal("-KILL");
    next.ends();
    old.says("the listening sockets were not handed over");
    assert!(place.serves().is_ok());
    old.lives();
    // And another one may still come.
    let mut new = place.run("new", &[&handover]);
    new.says("the process before this one accepts nobody any more");
    assert!(old.ends().success());
    assert!(place.serves().is_ok());
    new.lives();
}

#[test]
fn sockets_of_the_service_manager_are_used() {
    let place = Place::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // Out of the way of the numbers that they are to have.
    let [given_listener, given_admin] = [&listener, &admin].map(|socket| {
        let copy = rustix::io::fcntl_dupfd_cloexec(socket, 60).unwrap();
        rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).unwrap();
        copy
    });
    let line = format!(
        "exec 3<&{} 4<&{}; export LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=admin:listen; exec \"$0\" \"$@\"",
        given_admin.as_raw_fd(),
        given_listener.as_raw_fd()
    );
    let notified = place.file("notified");
    let manager = UnixDatagram::bind(&notified).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", &line, env!("CARGO_BIN_EXE_crossfade")]).args(place.arguments());
    command.env("NOTIFY_SOCKET", &notified);
    let mut process = place.spawn("log", command);
    drop((given_listener, given_admin));
    let heard = || {
        let mut text = [0; 256];
        let size = manager.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..size]).into_owned()
    };
    assert_eq!(heard(), format!("READY=1\nMAINPID={}", process.child.id()));
    let port = listener.local_addr().unwrap().port();
    eventually("a served session", || {
        process.lives();
        session(TcpStream::connect(("127.0.0.1", port)).unwrap(), &place.database).is_ok()
    });
    assert!(place.serves().is_err(), "the address of the configuration is not used");
    let mut http = TcpStream::connect(admin.local_addr().unwrap()).unwrap();
    http.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    process.signal("-TERM");
    assert_eq!(heard(), "STOPPING=1");
    assert!(process.ends().success());
}

#[test]
fn the_limit_of_open_files_is_raised() {
    let place = Place::new();
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -Sn 40; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_crossfade")]).args(place.arguments());
    let mut process = place.spawn("log", command);
    place.until_served(&mut process);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let files: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3], files[4], "{limits}");
    assert_ne!(files[3], "40");
    // More sessions than the old limit had room for.
    let sessions: Vec<Raw> = (0..30).map(|_| Raw::login(place.port, &place.database)).collect();
    drop(sessions);
}

#[test]
fn the_first_signal_lets_transactions_end_and_the_second_does_not() {
    for (second, code) in [("-TERM", Some(1)), ("-INT", Some(1)), ("-QUIT", Some(1))] {
        let place = Place::new();
        let mut process = place.run("log", &["--shutdown-grace-ms=60000"]);
        place.until_served(&mut process);
        let mut idle = Raw::login(place.port, &place.database);
        let mut busy = Raw::login(place.port, &place.database);
        busy.query("BEGIN");
        process.signal("-TERM");
        assert_eq!(idle.until(|_| false), "E:57P01 end");
        assert_eq!(busy.query("SELECT 1"), "T D:1 C:SELECT_1 Z:T");
        eventually("the refusal of new sessions", || place.serves().is_err());
        process.lives();
        process.signal(second);
        assert_eq!(process.ends().code(), code);
        assert_eq!(busy.until(|_| false), "end");
    }
    let place = Place::new();
    let mut process = place.run("log", &["--shutdown-grace-ms=300"]);
    place.until_served(&mut process);
    let mut busy = Raw::login(place.port, &place.database);
    busy.query("BEGIN");
    process.signal("-TERM");
    assert!(process.ends().success(), "the grace is over");
    assert_eq!(busy.until(|_| false), "end");
}

#[test]
fn a_hangup_reads_the_limits_again() {
    let place = Place::new();
    let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
    let file = place.file("crossfade.toml");
    write(&file, "connections_max = 10\n");
    let mut process = place.run("log", &["--config", &file.display().to_string()]);
    place.until_served(&mut process);
    let mut first = Raw::login(place.port, &place.database);
    write(&file, "connections_max = 1\nlease_ms = 20_000\n");
    process.signal("-HUP");
    process.says("the configuration was read again");
    assert!(process.log().contains("lease_ms"), "{}", process.log());
    // The session that is there stays.
    let mut second = Raw::connect(place.port);
    second.send(&startup(&[("user", "postgres"), ("database", &place.database)]));
    assert_eq!(second.until(|_| false), "E:53300 end");
    assert_eq!(first.query("SELECT 1"), "T D:1 C:SELECT_1 Z:I");
    write(&file, "idle_session_timeout_ms = 1_000\n");
    process.signal("-HUP");
    assert_eq!(first.until(|_| false), "E:57P05 end");
    write(&file, "connections_max = \"many\"\n");
    process.signal("-HUP");
    process.says("the earlier one stays in force");
    process.lives();
}

#[test]
fn a_pooler_in_the_control_planes_way_is_told_at_the_start() {
    let place = Place::new();
    let Some(pooler) = PgBouncer::start("transaction", server().port(), "") else { return };
    let url = format!("postgres://postgres@127.0.0.1:{}/{}", pooler.port(), place.database);
    let mut process = place.run_before("through", &url, &[]);
    assert_eq!(process.ends().code(), Some(2));
    assert!(process.log().contains("a pooler stands between"), "{}", process.log());

    let through = format!("--pooler=127.0.0.1:{}", pooler.port());
    let mut process = place.run("shared", &[&through]);
    assert_eq!(process.ends().code(), Some(2));
    assert!(process.log().contains("pool_mode = session"), "{}", process.log());

    let Some(pooler) = PgBouncer::start("session", server().port(), "") else { return };
    let through = format!("--pooler=127.0.0.1:{}", pooler.port());
    let mut process = place.run("session", &[&through]);
    place.until_served(&mut process);
}

#[test]
fn sessions_follow_the_primary_when_it_changes() {
    if !is_copied() {
        return;
    }
    let binaries = postgres::find_binaries().unwrap();
    let primary = Postgres::start_with(&binaries, &[], None).unwrap();
    let standby = primary.standby().unwrap();
    let mut place = Place::new();
    place.database = "postgres".to_owned();
    let url = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres?target_session_attrs=primary",
        standby.port(),
        primary.port()
    );
    let mut process = place.run_before("log", &url, &[]);
    place.until_served(&mut process);
    psql(place.port, "postgres", "CREATE TABLE kept (a int); INSERT INTO kept VALUES (1)");
    eventually("the row on the standby", || {
        let there = "SELECT coalesce((SELECT reltuples::text FROM pg_class WHERE relname = 'kept'), 'no')";
        psql(standby.port(), "postgres", there) != "no"
            && psql(standby.port(), "postgres", "SELECT count(*) FROM kept") == "1"
    });
    let mut lost = Raw::login(place.port, "postgres");
    drop(primary);
    lost.until(|_| false);
    assert!(place.serves().is_err(), "a standby is no primary");
    assert_eq!(psql(standby.port(), "postgres", "SELECT pg_promote()"), "t");
    place.until_served(&mut process);
    psql(place.port, "postgres", "INSERT INTO kept VALUES (2)");
    assert_eq!(psql(standby.port(), "postgres", "SELECT count(*) FROM kept"), "2");
}
