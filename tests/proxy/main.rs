//! The proxy in front of a real PostgreSQL: what a client sees through it is what it sees without it.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossfade::control::live::Live;
use crossfade::control::traffic::Traffic;
use crossfade::demo::postgres::{self, Postgres};
use crossfade::migration::Rules;
use crossfade::proxy::{Proxy, ProxyConfig, Upstream};
use crossfade::wire;
use tokio::sync::watch;

mod hosts;
mod life;
mod poolers;
mod protocol;
mod upgrade;

/// How long anything in these tests may take.
const DEADLINE: Duration = Duration::from_secs(20);

const HBA: &str = "\
local all peered peer
local all all trust
host all passworded 127.0.0.1/32 password
host all hashed 127.0.0.1/32 md5
host all scrammed 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 trust
host all all 127.0.0.1/32 trust
";

fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let binaries = postgres::find_binaries().expect("PostgreSQL is installed");
        Postgres::start_with(&binaries, &[], Some(HBA)).expect("a server starts")
    })
}

/// Whether standbys of the server can be made, and base backups taken; says so where they cannot.
fn is_copied() -> bool {
    let there = server().binaries().join("pg_basebackup").exists();
    if !there {
        println!("left out: pg_basebackup of the server's version is not installed");
    }
    there
}

/// A new, empty database.
fn database() -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name = format!("db{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    psql(server().port(), "postgres", &format!("CREATE DATABASE {name}"));
    name
}

/// Runs SQL by psql, as a text without decoration.
#[track_caller]
fn psql(port: u16, database: &str, sql: &str) -> String {
    let output = Command::new(server().binaries().join("psql"))
        .args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres", "-d", database])
        .args(["-p", &port.to_string(), "-c", sql])
        .output()
        .unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// A proxy that runs until it is dropped.
struct Running {
    address: SocketAddr,
    live: Arc<Live>,
    traffic: Arc<Traffic>,
    shutdown: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start() -> Running {
        Running::start_with(|_| {})
    }

    fn start_with(adjust: impl FnOnce(&mut ProxyConfig)) -> Running {
        Running::start_as(adjust, |proxy| proxy)
    }

    fn start_as(adjust: impl FnOnce(&mut ProxyConfig), with: impl FnOnce(Proxy) -> Proxy) -> Running {
        let upstream = Upstream::Tcp { host: "127.0.0.1".to_owned(), port: server().port() };
        let mut config = ProxyConfig::new("127.0.0.1:0".parse().unwrap(), upstream);
        config.threads = 2;
        adjust(&mut config);
        let live = Arc::new(Live::new(Arc::new(Rules::default())));
        live.lease(true);
        live.make_ready();
        let traffic = Arc::new(Traffic::new());
        let proxy = with(Proxy::bind(config, live.clone(), traffic.clone()).unwrap());
        let address = proxy.local_addr().unwrap();
        let (shutdown, ends) = watch::channel(false);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(proxy.run(ends)).unwrap();
        });
        Running { address, live, traffic, shutdown, thread: Some(thread) }
    }

    fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.shutdown.send(true);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(std::thread::panicking() || ended.is_ok());
        }
    }
}

/// A client that sends bytes and shows what comes back, message by message.
struct Raw {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    fn connect(port: u16) -> Raw {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Raw { socket, buffer: Vec::new() }
    }

    /// Connects and logs in without a password.
    fn login(port: u16, database: &str) -> Raw {
        Raw::login_with(port, &[("user", "postgres"), ("database", database)])
    }

    fn login_with(port: u16, parameters: &[(&str, &str)]) -> Raw {
        let mut raw = Raw::connect(port);
        raw.send(&startup(parameters));
        let login = raw.until_ready();
        assert!(login.ends_with("Z:I"), "{login}");
        raw
    }

    fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// The next message; `None` where the connection ends.
    fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(header) = wire::header(&self.buffer, wire::Peer::Server).unwrap()
                && self.buffer.len() >= header.size
            {
                let frame: Vec<u8> = self.buffer.drain(..header.size).collect();
                return Some((header.kind, frame[5..].to_vec()));
            }
            let mut more = [0; 65536];
            match self.socket.read(&mut more) {
                Ok(0) => return None,
                Ok(size) => self.buffer.extend_from_slice(&more[..size]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }

    fn until_ready(&mut self) -> String {
        self.until(|kind| kind == b'Z')
    }

    /// What comes up to the first message of such a kind, or to the end.
    fn until(&mut self, last: impl Fn(u8) -> bool) -> String {
        let mut shown = String::new();
        loop {
            let Some((kind, body)) = self.message() else {
                shown.push_str(" end");
                return shown.trim().to_owned();
            };
            show(&mut shown, kind, &body);
            if last(kind) {
                return shown.trim().to_owned();
            }
        }
    }

    fn query(&mut self, text: &str) -> String {
        let mut bytes = Vec::new();
        wire::query(&mut bytes, text.as_bytes());
        self.send(&bytes);
        self.until_ready()
    }
}

/// One message as a word: its type, and what matters of its contents.
fn show(out: &mut String, kind: u8, body: &[u8]) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "");
    let _ = match kind {
        b'E' | b'N' => {
            let field = |code| wire::error_field(body, code).map(text).unwrap_or_default();
            write!(out, " {}:{}", char::from(kind), field(b'C')).and_then(|()| match field(b'P').as_str() {
                "" => Ok(()),
                position => write!(out, "@{position}"),
            })
        }
        b'Z' => write!(out, " Z:{}", text(body)),
        b'C' => write!(out, " C:{}", text(body).replace(' ', "_")),
        b'D' => {
            let columns = wire::data_row(body).unwrap_or_default();
            let values: Vec<String> = columns.iter().map(|value| value.map_or("NULL".to_owned(), text)).collect();
            let values = values.join(",");
            if values.len() > 60 { write!(out, " D:<{}>", values.len()) } else { write!(out, " D:{values}") }
        }
        b't' => write!(out, " t:{}", body.len() / 4),
        b'A' => write!(out, " A:{}", text(&body[4..])),
        // Run time statistics and process ids differ.
        b'S' | b'K' | b'R' => Ok(()),
        _ => write!(out, " {}", char::from(kind)),
    };
}

fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 0x0003_0000u32.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(name.bytes().chain([0]).chain(value.bytes()).chain([0]));
    }
    body.push(0);
    let mut packet = (body.len() as u32 + 4).to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

/// Messages by a short script: `P name text`, `B portal statement`, `Ds name`, `Dp name`, `E portal`, `Cs name`, `S`, `H`,
/// `Q text`, `d data`, `c`, `f`, `El portal rows`, `F function arguments`; `-` stands for the empty name.
fn script(lines: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.splitn(3, ' ');
        let command = words.next().unwrap();
        let mut name = || words.next().filter(|name| *name != "-").unwrap_or("").as_bytes();
        match command {
            "P" => {
                let name = name();
                wire::parse(&mut out, name, words.next().unwrap_or("").as_bytes(), b"\0\0");
            }
            "B" => {
                let portal = name();
                let rest = words.next().unwrap();
                let mut parts = rest.split(' ');
                let statement = parts.next().filter(|name| *name != "-").unwrap_or("");
                let values: Vec<&[u8]> = parts.map(str::as_bytes).collect();
                wire::bind_text(&mut out, portal, statement.as_bytes(), &values);
            }
            "Dp" => wire::describe_portal(&mut out, name()),
            "Ds" => {
                wire::describe_portal(&mut out, name());
                let at = out.len() - 1 - line.split(' ').nth(1).filter(|n| *n != "-").unwrap_or("").len() - 1;
                out[at] = b'S';
            }
            "E" => wire::execute_all(&mut out, name()),
            "El" => {
                wire::execute_all(&mut out, name());
                let rows: u32 = words.next().unwrap().parse().unwrap();
                let at = out.len() - 4;
                out[at..].copy_from_slice(&rows.to_be_bytes());
            }
            "F" => {
                let numbers: Vec<&str> = line.split(' ').skip(1).collect();
                let mut body: Vec<u8> = numbers[0].parse::<u32>().unwrap().to_be_bytes().to_vec();
                body.extend([0, 0, 0, numbers.len() as u8 - 1]);
                for number in &numbers[1..] {
                    body.extend((number.len() as u32).to_be_bytes());
                    body.extend(number.bytes());
                }
                body.extend([0, 0]);
                out.push(b'F');
                out.extend((body.len() as u32 + 4).to_be_bytes());
                out.extend(body);
            }
            "Cp" => wire::close_portal(&mut out, name()),
            "Cs" => wire::close_statement(&mut out, name()),
            "S" => wire::sync(&mut out),
            "H" => wire::flush(&mut out),
            "Q" => wire::query(&mut out, line.get(2..).unwrap_or("").as_bytes()),
            "d" => {
                out.push(b'd');
                out.extend((line.len() as u32 - 2 + 5).to_be_bytes());
                out.extend(line[2..].bytes().chain([b'\n']));
            }
            "c" => out.extend(b"c\0\0\0\x04"),
            "f" => out.extend(b"f\0\0\0\x08bad\0"),
            other => panic!("no message is called {other}"),
        }
    }
    out
}

/// Sends the scripts one after the other, each followed by as many ReadyForQuery as it has coming.
fn converse(port: u16, database: &str, scripts: &[(&str, usize)], cut: Option<usize>) -> Vec<String> {
    let mut raw = Raw::login(port, database);
    let mut shown = Vec::new();
    for (lines, ready) in scripts {
        let bytes = script(lines);
        match cut {
            None => raw.send(&bytes),
            Some(size) => bytes.chunks(size).for_each(|chunk| raw.send(chunk)),
        }
        let answers: Vec<String> = (0..*ready).map(|_| raw.until_ready()).collect();
        shown.push(answers.join(" "));
    }
    shown
}

/// The same conversation with and without the proxy, also in pieces of a few bytes.
#[track_caller]
fn same_as_direct(scripts: &[(&str, usize)]) -> Vec<String> {
    let proxy = Running::start();
    let direct = converse(server().port(), &database(), scripts, None);
    assert_eq!(converse(proxy.port(), &database(), scripts, None), direct);
    assert_eq!(converse(proxy.port(), &database(), scripts, Some(3)), direct);
    direct
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn simple_and_extended_queries_pass() {
    let shown = same_as_direct(&[
        ("Q SELECT 1; SELECT 2", 1),
        ("Q", 1),
        ("P - SELECT $1::int + 1\nDs -\nB - - 41\nDp -\nE -\nS", 1),
        ("P one SELECT 'x'\nH\nB a one\nE a\nB b one\nE b\nCs one\nCs unknown\nS", 1),
        ("B - one\nE -\nS", 1),
        ("P e\nB - e\nE -\nS", 1),
    ]);
    assert_eq!(shown[2], "1 t:1 T 2 T D:42 C:SELECT_1 Z:I");
}

#[test]
fn an_error_skips_to_its_sync_and_no_further() {
    let shown = same_as_direct(&[
        ("P - SELECT 1\nB - -\nE -\nS\nP - SELECT 1/0\nB - -\nE -\nP x SELECT 5\nS\nP - SELECT 2\nB - -\nE -\nS", 3),
        ("B - x\nE -\nS", 1),
        ("Q BEGIN\nP - SELEC\nB - -\nE -\nQ SELECT 7\nS\nQ SELECT 8\nQ ROLLBACK", 4),
        ("P - SELECT 3\nB - -\nE -\nQ SELECT 4", 1),
        ("P - SELECT 1\nB - nope\nH\nE -\nS\nQ SELECT 9", 2),
    ]);
    assert!(shown[0].starts_with("1 2 D:1 C:SELECT_1 Z:I 1 E:22012"), "{}", shown[0]);
}

#[test]
fn copies_pass_whole_and_failed() {
    let shown = same_as_direct(&[
        ("Q CREATE TABLE t (a int PRIMARY KEY)", 1),
        ("Q COPY t FROM STDIN\nd 1\nd 2\nc", 1),
        ("Q COPY t FROM STDIN\nd 3\nd x\nd 4\nc\nQ SELECT 1", 2),
        ("Q COPY t FROM STDIN\nd 3\nf\nQ SELECT 1", 2),
        ("P - COPY t FROM STDIN\nB - -\nE -\nS\nd 5\nd 6\nc\nS", 1),
        ("P - COPY t FROM STDIN\nB - -\nE -\nd 7\nc\nS\nQ SELECT 1", 2),
        ("P - COPY t FROM STDIN\nB - -\nE -\nd z\nd 8\nc\nS\nQ SELECT count(*) FROM t", 2),
        ("Q COPY t TO STDOUT", 1),
        ("P - COPY t TO STDOUT\nB - -\nE -\nS\nQ SELECT 'after'", 2),
    ]);
    assert!(shown[6].ends_with("D:5 C:SELECT_1 Z:I"), "{}", shown[6]);
}

#[test]
fn sessions_that_pass_unread_settle_their_epoch() {
    let proxy = Running::start();
    let mut raw = Raw::login(proxy.port(), &database());
    raw.query("BEGIN");
    let catalog = Arc::default();
    proxy.live.publish(Arc::new(Rules::new(crossfade::migration::Epoch(5), &[], catalog)));
    // The other thread, and this one's idle sessions, have nothing to hold.
    psql(proxy.port(), "postgres", "SELECT 1");
    assert_eq!(proxy.live.oldest_pinned().0, 0);
    raw.query("COMMIT");
    eventually("settling", || proxy.live.oldest_pinned().0 == 5);
    // Half a pipeline holds as well.
    raw.send(&script("P - SELECT 1\nH"));
    assert_eq!(raw.until(|kind| kind == b'1'), "1");
    proxy.live.publish(Arc::new(Rules::new(crossfade::migration::Epoch(6), &[], Arc::default())));
    psql(proxy.port(), "postgres", "SELECT 1");
    assert_eq!(proxy.live.oldest_pinned().0, 5);
    raw.send(&script("S"));
    raw.until_ready();
    eventually("settling", || proxy.live.oldest_pinned().0 == 6);
}

#[test]
fn every_password_method_is_relayed() {
    let database = database();
    let roles = "SET password_encryption = 'md5'; CREATE ROLE passworded LOGIN PASSWORD 'p w'; \
                 CREATE ROLE hashed LOGIN PASSWORD 'p w'; SET password_encryption = 'scram-sha-256'; \
                 CREATE ROLE scrammed LOGIN PASSWORD 'p w'";
    psql(server().port(), &database, roles);
    let proxy = Running::start();
    for (user, password, succeeds) in [
        ("passworded", "p w", true),
        ("hashed", "p w", true),
        ("scrammed", "p w", true),
        ("scrammed", "wrong", false),
        ("passworded", "wrong", false),
    ] {
        let output = Command::new(server().binaries().join("psql"))
            .args(["-X", "-At", "-h", "127.0.0.1", "-U", user, "-d", &database, "-p", &proxy.port().to_string()])
            .args(["-c", "SELECT current_user"])
            .env("PGPASSWORD", password)
            .output()
            .unwrap();
        assert_eq!(output.status.success(), succeeds, "{user}: {}", String::from_utf8_lossy(&output.stderr));
        if succeeds {
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), user);
        } else {
            assert!(String::from_utf8_lossy(&output.stderr).contains("password authentication failed"));
        }
    }
}

#[test]
fn a_cancel_request_reaches_its_statement() {
    let proxy = Running::start();
    let mut raw = Raw::connect(proxy.port());
    raw.send(&startup(&[("user", "postgres"), ("database", "postgres")]));
    let key = loop {
        let (kind, body) = raw.message().unwrap();
        if kind == b'K' {
            break body;
        }
    };
    raw.until_ready();
    raw.send(&script("Q SELECT pg_sleep(60)"));
    // The statement must have begun: the cancel of an idle session does nothing.
    eventually("the statement's beginning", || {
        psql(
            server().port(),
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'",
        ) == "1"
    });
    let mut cancel = Raw::connect(proxy.port());
    let mut packet = (8 + key.len() as u32).to_be_bytes().to_vec();
    packet.extend(80_877_102u32.to_be_bytes());
    packet.extend(&key);
    cancel.send(&packet);
    assert_eq!(cancel.until_ready(), "end");
    assert_eq!(raw.until_ready(), "T E:57014 Z:I");
}

#[test]
fn large_messages_pass_both_ways_at_once() {
    let proxy = Running::start();
    let raw = Raw::login(proxy.port(), "postgres");
    let mut writer = raw.socket.try_clone().unwrap();
    let mut raw = raw;
    const ROUNDS: usize = 60;
    let value = "x".repeat(700_000);
    let sending = std::thread::spawn(move || {
        for _ in 0..ROUNDS {
            let mut out = Vec::new();
            wire::parse(&mut out, b"", b"SELECT $1::text, repeat('y', 900000)", b"\0\0");
            wire::bind_text(&mut out, b"", b"", &[value.as_bytes()]);
            wire::execute_all(&mut out, b"");
            wire::sync(&mut out);
            writer.write_all(&out).unwrap();
        }
    });
    for _ in 0..ROUNDS {
        assert_eq!(raw.until_ready(), "1 2 D:<1600001> C:SELECT_1 Z:I");
    }
    sending.join().unwrap();
}

#[test]
fn a_client_that_reads_late_keeps_its_answers() {
    let proxy = Running::start();
    let mut raw = Raw::login(proxy.port(), "postgres");
    // Far more answers than any buffer holds, before the first is read.
    let one = script("P - SELECT repeat('z', 100000)\nB - -\nE -\nS");
    for _ in 0..200 {
        raw.send(&one);
    }
    for _ in 0..200 {
        assert_eq!(raw.until_ready(), "1 2 D:<100000> C:SELECT_1 Z:I");
    }
}

#[test]
fn notifications_come_at_any_time() {
    let proxy = Running::start();
    let database = database();
    let mut raw = Raw::login(proxy.port(), &database);
    raw.query("LISTEN news");
    psql(proxy.port(), &database, "NOTIFY news, 'hello'");
    assert_eq!(raw.until(|kind| kind == b'A'), "A:newshello");
}

#[test]
fn thousands_of_prepared_statements_pass() {
    let proxy = Running::start();
    let mut raw = Raw::login(proxy.port(), "postgres");
    for batch in 0..20 {
        let mut lines = String::new();
        for number in 0..100 {
            let _ = writeln!(lines, "P s{batch}_{number} SELECT {number}");
        }
        raw.send(&script(&format!("{lines}S")));
        assert_eq!(raw.until_ready(), format!("{}Z:I", "1 ".repeat(100)));
    }
    raw.send(&script("B - s19_77\nE -\nS"));
    assert_eq!(raw.until_ready(), "2 D:77 C:SELECT_1 Z:I");
    assert_eq!(raw.query("DEALLOCATE ALL"), "C:DEALLOCATE_ALL Z:I");
    raw.send(&script("B - s19_77\nE -\nS"));
    assert_eq!(raw.until_ready(), "E:26000 Z:I");
}

#[test]
fn a_connection_that_begins_badly_ends_clearly() {
    let proxy = Running::start_with(|config| config.startup_timeout = Duration::from_millis(300));
    let begins = |bytes: &[u8]| {
        let mut raw = Raw::connect(proxy.port());
        raw.send(bytes);
        raw.until(|_| false)
    };
    // As PostgreSQL does it, also where a client says goodbye before anything else.
    for no_packet in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 16], b"X\0\0\0\x04"] {
        assert_eq!(begins(no_packet), "end");
    }
    assert_eq!(begins(&[0, 0, 0, 8, 0, 2, 0, 0]), "E:0A000 end");
    assert_eq!(begins(&[0, 0, 0, 9, 0, 3, 0, 0, b'x']), "E:08P01 end");
    assert_eq!(begins(&[0, 0, 0]), "E:08006 end");
    // Encryption is declined once, and nothing may stand behind the request.
    let ssl = [0, 0, 0, 8, 4, 210, 22, 47];
    let mut raw = Raw::connect(proxy.port());
    raw.send(&ssl);
    let mut byte = [0];
    raw.socket.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"N");
    raw.send(&startup(&[("user", "postgres")]));
    assert!(raw.until_ready().ends_with("Z:I"));
    let mut behind = ssl.to_vec();
    behind.extend(startup(&[("user", "postgres")]));
    assert_eq!(begins(&behind), "end");
    assert_eq!(psql(proxy.port(), "postgres", "SELECT 1"), "1");
}

#[test]
fn messages_that_cannot_be_end_their_session_only() {
    let proxy = Running::start_with(|config| config.message_bytes_max = 100_000);
    for bytes in [&b"Q\xff\xff\xff\xff"[..], b"Q\0\0\0\x03", b"S\x7f\xff\xff\xff", b"P\0\x0f\0\0s\0"] {
        let mut raw = Raw::login(proxy.port(), "postgres");
        raw.send(bytes);
        let shown = raw.until(|_| false);
        assert!(shown == "E:08P01 end" || shown == "E:54000 end", "{shown}");
    }
    assert_eq!(psql(proxy.port(), "postgres", "SELECT 1"), "1");
}

#[test]
fn an_upstream_that_is_down_is_said_so() {
    let proxy = Running::start_with(|config| {
        let port = postgres::free_port().unwrap();
        config.upstream = Upstream::Tcp { host: "127.0.0.1".to_owned(), port }.into();
    });
    for _ in 0..2 {
        let mut raw = Raw::connect(proxy.port());
        raw.send(&startup(&[("user", "postgres")]));
        assert_eq!(raw.until(|_| false), "E:08006 end");
    }
}

#[test]
fn one_connection_too_many_is_refused() {
    let proxy = Running::start_with(|config| config.connections_max = 1);
    let first = Raw::login(proxy.port(), "postgres");
    let mut second = Raw::connect(proxy.port());
    second.send(&startup(&[("user", "postgres")]));
    assert_eq!(second.until(|_| false), "E:53300 end");
    drop(first);
    eventually("a free place", || proxy.traffic.snapshot().sessions == 0);
    Raw::login(proxy.port(), "postgres");
}

#[test]
fn shutdown_ends_idle_sessions_and_lets_transactions_end() {
    let proxy = Running::start();
    let mut idle = Raw::login(proxy.port(), "postgres");
    let mut busy = Raw::login(proxy.port(), "postgres");
    busy.query("BEGIN");
    proxy.shutdown.send(true).unwrap();
    assert_eq!(idle.until(|_| false), "E:57P01 end");
    assert_eq!(busy.query("SELECT 1"), "T D:1 C:SELECT_1 Z:T");
    busy.send(&script("Q COMMIT"));
    assert_eq!(busy.until(|_| false), "C:COMMIT Z:I E:57P01 end");
}

#[test]
fn sockets_of_the_file_system_serve_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".s.PGSQL.6432");
    let listen = path.clone();
    let proxy = Running::start_with(move |config| {
        let path = server().socket_directory().join(format!(".s.PGSQL.{}", server().port()));
        config.upstream = Upstream::Unix { path }.into();
        config.listen_socket = Some(listen);
    });
    let output = Command::new(server().binaries().join("psql"))
        .args(["-X", "-At", "-U", "postgres", "-d", "postgres", "-p", "6432", "-c", "SELECT 1", "-h"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1");
    drop(proxy);
    assert!(!path.exists());
}

#[test]
fn replication_is_relayed() {
    let proxy = Running::start();
    let database = database();
    psql(server().port(), &database, "CREATE PUBLICATION p FOR ALL TABLES");
    let mut raw =
        Raw::login_with(proxy.port(), &[("user", "postgres"), ("database", &database), ("replication", "database")]);
    let made = raw.query("CREATE_REPLICATION_SLOT s1 TEMPORARY LOGICAL pgoutput");
    assert!(made.ends_with("C:CREATE_REPLICATION_SLOT Z:I"), "{made}");
    raw.send(&script("Q START_REPLICATION SLOT s1 LOGICAL 0/0 (proto_version '1', publication_names 'p')"));
    assert_eq!(raw.until(|kind| kind == b'W'), "W");
    psql(server().port(), &database, "CREATE TABLE r (a int); INSERT INTO r VALUES (1)");
    assert!(raw.until(|kind| kind == b'd').ends_with('d'));
}

#[test]
fn the_end_of_either_side_ends_the_other() {
    let proxy = Running::start();
    let mut raw = Raw::login(proxy.port(), "postgres");
    let shown = raw.query("SELECT pg_backend_pid()");
    let pid = shown.split("D:").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let gone = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    // What the client asked before it left is done.
    raw.send(&script("Q CREATE TABLE IF NOT EXISTS left_behind (a int)"));
    drop(raw);
    eventually("the server session's end", || psql(server().port(), "postgres", &gone) == "0");
    assert_eq!(psql(server().port(), "postgres", "SELECT count(*) FROM left_behind"), "0");
    let mut raw = Raw::login(proxy.port(), "postgres");
    raw.query("SET application_name = 'victim'");
    psql(
        server().port(),
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'",
    );
    assert_eq!(raw.until(|_| false), "E:57P01 end");
    eventually("no session", || proxy.traffic.snapshot().sessions == 0);
}

/// The table of the rename, and the rules of one of its phases.
mod rename {
    use super::*;
    use crossfade::migration::{
        ActiveMigration, Conversion, Epoch, Lens, LensColumn, Misfits, OnUnsupported, Percent, Phase,
    };
    use crossfade::schema::{Catalog, Column, Ident, QualifiedName, Relation, RelationKind};

    /// Both storages, told apart by their values: who reads `username` from new storage sees `new`.
    pub const TABLE: &str = "\
        CREATE TABLE users (id int PRIMARY KEY, username varchar(255), handle varchar(100), email text); \
        INSERT INTO users VALUES (1, 'old', 'new', 'e')";

    fn ident(name: &str) -> Ident {
        Ident::new(name).unwrap()
    }

    pub fn catalog() -> Arc<Catalog> {
        let column = |number: i16, name: &str, type_sql: &str| Column {
            name: ident(name),
            number,
            type_sql: type_sql.to_owned(),
            base_type_sql: type_sql.split('(').next().unwrap().to_owned(),
            not_null: number == 1,
            default: None,
            generated: false,
            identity: false,
        };
        let columns = vec![
            column(1, "id", "integer"),
            column(2, "username", "character varying(255)"),
            column(3, "handle", "character varying(100)"),
            column(4, "email", "text"),
        ];
        let name = QualifiedName { schema: ident("public"), name: ident("users") };
        let kind = RelationKind::Table;
        Arc::new(Catalog::new([Relation { oid: 1, name, kind, columns, primary_key: vec![ident("id")] }]))
    }

    pub fn migration(phase: Phase, reads: u8) -> ActiveMigration {
        let column = |name: &str, other: &str, size: u32| LensColumn {
            name: ident(name),
            stored: None,
            misfits: Misfits::Never,
            type_sql: format!("character varying({size})"),
            base_type_sql: "character varying".to_owned(),
            position: 1,
            origin: None,
            twin: Some(ident(other)),
            from: Conversion::identity(&ident(other)),
        };
        let lens = Lens {
            table: QualifiedName { schema: ident("public"), name: ident("users") },
            old: vec![column("username", "handle", 255)],
            new: vec![column("handle", "username", 100)],
        };
        ActiveMigration {
            name: "rename".to_owned(),
            lens,
            phase,
            reads: Percent::new(reads).unwrap(),
            on_unsupported: OnUnsupported::Refuse,
        }
    }

    pub fn rules(epoch: u64, phase: Phase, reads: u8) -> Arc<Rules> {
        Arc::new(Rules::new(Epoch(epoch), &[migration(phase, reads)], catalog()))
    }

    /// A proxy and a database with the table.
    pub fn begin() -> (Running, String) {
        let database = database();
        psql(server().port(), &database, TABLE);
        (Running::start(), database)
    }

    /// Publishes rules under which `username` is read from new storage, and waits until they are in force.
    pub fn switch(proxy: &Running, epoch: u64) {
        publish(proxy, rules(epoch, Phase::Ramping, 100));
    }

    pub fn publish(proxy: &Running, rules: Arc<Rules>) {
        let epoch = rules.epoch();
        proxy.live.publish(rules);
        eventually("settling", || proxy.live.oldest_pinned() == epoch);
    }
}

use crossfade::migration::{Epoch, Phase};
use crossfade::session::Outcome;

/// A walsender takes no question of ours: catalogs and replication commands pass, the table itself is refused.
#[test]
fn a_subscription_goes_through_while_a_table_is_under_migration() {
    let (proxy, publisher) = rename::begin();
    rename::switch(&proxy, 1);
    let copied = "CREATE TABLE copied (id int PRIMARY KEY, username text)";
    psql(server().port(), &publisher, &format!("{copied}; INSERT INTO copied VALUES (1, 'a'), (2, 'b')"));
    psql(server().port(), &publisher, "CREATE PUBLICATION p FOR TABLE copied");
    // On one server the slot is made first: CREATE SUBSCRIPTION would wait for itself.
    let slot = format!("slot_{publisher}");
    psql(server().port(), &publisher, &format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    let subscriber = database();
    psql(server().port(), &subscriber, copied);
    let target = format!("host=127.0.0.1 port={} dbname={publisher} user=postgres", proxy.port());
    let made = format!(
        "CREATE SUBSCRIPTION {slot} CONNECTION '{target}' PUBLICATION p WITH (create_slot = false, slot_name = '{slot}')"
    );
    psql(server().port(), &subscriber, &made);
    let count = || psql(server().port(), &subscriber, "SELECT count(*) FROM copied");
    eventually("the first copy", || count() == "2");
    psql(server().port(), &publisher, "INSERT INTO copied VALUES (3, 'c')");
    eventually("what follows it", || count() == "3");
    let mut raw =
        Raw::login_with(proxy.port(), &[("user", "postgres"), ("database", &publisher), ("replication", "database")]);
    assert!(raw.query("SELECT id, username FROM users").starts_with("E:0A000"));
    assert!(raw.query("COPY users (id, username) TO STDOUT").starts_with("E:0A000"));
    assert!(raw.query("SELECT username FROM copied WHERE id = 1").contains("D:a"));
    let gone = format!("ALTER SUBSCRIPTION {slot} DISABLE; ALTER SUBSCRIPTION {slot} SET (slot_name = NONE)");
    psql(server().port(), &subscriber, &gone);
    psql(server().port(), &subscriber, &format!("DROP SUBSCRIPTION {slot}"));
    let free = format!(
        "SELECT pg_drop_replication_slot('{slot}') FROM pg_replication_slots WHERE slot_name = '{slot}' AND NOT active"
    );
    eventually("the slot's end", || {
        psql(server().port(), &publisher, &free);
        psql(
            server().port(),
            &publisher,
            &format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}'"),
        ) == "0"
    });
}

/// What PostgreSQL refuses to prepare again is refused as what it is, and prepared as soon as it can be.
#[test]
fn a_statement_that_cannot_be_prepared_again_is_tried_anew_each_time() {
    let (proxy, database) = rename::begin();
    let mut raw = Raw::login(proxy.port(), &database);
    let mut direct = Raw::login(server().port(), &database);
    let prepare = "PREPARE two (int) AS SELECT username, email FROM users WHERE id = $1";
    assert_eq!((raw.query(prepare), direct.query(prepare)), ("C:PREPARE Z:I".to_owned(), "C:PREPARE Z:I".to_owned()));
    let extended = script("P - EXECUTE two(1)\nB - -\nE -\nS");
    // The column is missed where the table is read, since the rules do not know yet that it is gone.
    let placeless = |text: String| text.replace("@39", "").replace("@50", "");
    let mut run = |value: &str| {
        for _ in 0..2 {
            let seen = direct.query("EXECUTE two(1)");
            assert_eq!(placeless(raw.query("EXECUTE two(1)")), placeless(seen).replace("old", value));
            raw.send(&extended);
            direct.send(&extended);
            let (ours, theirs) = (raw.until_ready(), direct.until_ready());
            // Where it cannot be prepared again the Parse is not reached.
            let theirs = placeless(theirs).replace("old", value);
            assert_eq!(placeless(ours).trim_start_matches(['1', '2', ' ']), theirs.trim_start_matches(['1', '2', ' ']));
        }
        direct.query("EXECUTE two(1)")
    };
    assert_eq!(run("old"), "T D:old,e C:SELECT_1 Z:I");
    rename::switch(&proxy, 1);
    psql(server().port(), &database, "ALTER TABLE users RENAME email TO mail");
    assert!(run("new").starts_with("E:42703"));
    psql(server().port(), &database, "ALTER TABLE users RENAME mail TO email");
    assert_eq!(run("new"), "T D:old,e C:SELECT_1 Z:I");
    // As it was, it fails at its own place.
    rename::publish(&proxy, Arc::new(Rules::new(Epoch(2), &[], Arc::default())));
    psql(server().port(), &database, "ALTER TABLE users RENAME email TO mail");
    let failed = direct.query("EXECUTE two(1)");
    assert_eq!((raw.query("EXECUTE two(1)"), failed.as_str()), (failed.clone(), "E:42703@39 Z:I"));
}

#[test]
fn statements_prepared_before_an_epoch_run_under_it() {
    let (proxy, database) = rename::begin();
    let mut raw = Raw::login(proxy.port(), &database);
    let prepare = script("P one SELECT username FROM users WHERE id = $1\nS");
    raw.send(&prepare);
    assert_eq!(raw.until_ready(), "1 Z:I");
    raw.query("PREPARE two (int) AS SELECT username FROM users WHERE id = $1");
    // The unnamed one lives until the next simple query of its session.
    let mut other = Raw::login(proxy.port(), &database);
    other.send(&script("P - SELECT username FROM users\nS"));
    assert_eq!(other.until_ready(), "1 Z:I");
    let mut run = |raw: &mut Raw| {
        other.send(&script("B - -\nE -\nS"));
        let unnamed = other.until_ready();
        raw.send(&script("Ds one\nB - one 1\nE -\nS"));
        let named = raw.until_ready();
        raw.send(&script("P x EXECUTE two(1)\nB - x\nE -\nCs x\nS"));
        let nested = raw.until_ready();
        (unnamed, named, raw.query("EXECUTE two(1)"), nested)
    };
    let expected = |value: &str| {
        (
            format!("2 D:{value} C:SELECT_1 Z:I"),
            format!("t:1 T 2 D:{value} C:SELECT_1 Z:I"),
            format!("T D:{value} C:SELECT_1 Z:I"),
            format!("1 2 D:{value} C:SELECT_1 3 Z:I"),
        )
    };
    assert_eq!(run(&mut raw), expected("old"));
    rename::switch(&proxy, 1);
    assert_eq!(run(&mut raw), expected("new"));
    assert_eq!(run(&mut raw), expected("new"));
    rename::publish(&proxy, rename::rules(2, Phase::Ramping, 0));
    assert_eq!(run(&mut raw), expected("old"));
    rename::switch(&proxy, 3);
    assert_eq!(run(&mut raw), expected("new"));
    rename::publish(&proxy, Arc::new(Rules::new(Epoch(4), &[], Arc::default())));
    assert_eq!(run(&mut raw), expected("old"));
    let seen = proxy.traffic.snapshot();
    assert!(seen.repreparations >= 8, "{seen:?}");
    assert!(seen.latency(crossfade::migration::Route::New).count() > 0);
}

/// A statement goes only when what closes it has run.
#[test]
fn a_statement_that_is_not_closed_after_all_is_still_known() {
    let (proxy, database) = rename::begin();
    rename::switch(&proxy, 1);
    for (lines, ready) in [
        ("P - SELECT 1/0\nB - -\nE -\nCs s\nS\nB - s\nE -\nS", 2),
        ("P - SELECT * FROM nothing\nCs s\nS\nB - s\nE -\nS", 2),
        ("P - SELECT * FROM nothing\nP - DEALLOCATE s\nB - -\nE -\nS\nB - s\nE -\nS", 2),
        ("P - SELECT * FROM nothing\nP d DEALLOCATE ALL\nS\nB - s\nE -\nS\nB - d\nS", 3),
        ("Q BEGIN; SELECT 1/0\nQ DEALLOCATE s\nQ ROLLBACK\nB - s\nE -\nS", 4),
        ("Q BEGIN; SELECT 1/0\nP - DEALLOCATE s\nS\nQ ROLLBACK\nB - s\nE -\nS", 4),
        ("Q BEGIN; SELECT 1/0\nQ DISCARD ALL\nQ ROLLBACK\nQ EXECUTE s", 4),
        ("Cs s\nS\nB - s\nE -\nS", 2),
        ("P - DEALLOCATE s\nB - -\nE -\nB - s\nE -\nS", 1),
        ("E -\nS\nP - SELECT 1\nQ SELECT 1\nB q a\nS", 3),
        ("E -\nS\nP - SELECT 1\nQ DISCARD ALL\nB q a\nS", 3),
        ("E -\nS\nP - SELECT 1\nQ BEGIN\nB q a\nS\nQ ROLLBACK", 4),
        ("E -\nS\nP - SELECT 1\nQ SELECT 1/0\nB q a\nS\nQ ROLLBACK", 4),
        ("Q selec\nS\nP - SELECT 1\nQ BEGIN; DISCARD ALL\nB q a\nS\nQ ROLLBACK", 5),
        ("E -\nS\nP - SELECT 1\nQ BEGIN; SET search_path = xx; SELECT bad\nB q a\nS\nQ ROLLBACK", 4),
        ("P d DISCARD ALL\nB - d\nE -\nS", 1),
        ("P d DEALLOCATE ALL\nB p d\nE p\nB q d\nS", 1),
        ("P d DEALLOCATE d\nB - d\nE -\nS\nB - d\nE -\nS", 2),
        // One that runs itself, alone or by another, is the server's to end.
        ("P b EXECUTE b\nB - nothing\nCs b\nS\nQ EXECUTE b", 2),
        ("P a EXECUTE b\nP b EXECUTE a\nS\nQ EXECUTE a\nB - b\nE -\nS", 3),
        ("P a EXECUTE s\nP b EXECUTE a\nS\nQ EXECUTE b\nB - b\nE -\nS", 3),
        ("Q DEALLOCATE ALL\nB - s\nE -\nS\nP s SELECT email, username FROM users\nB - s\nE -\nS", 3),
    ] {
        let made = ("P s SELECT username FROM users\nS", 1);
        let ours = converse(proxy.port(), &database, &[made, (lines, ready)], None).join(" ");
        let direct = converse(server().port(), &database, &[made, (lines, ready)], None).join(" ");
        assert_eq!(ours.replace("new", "old"), direct, "{lines}");
        let pieces = converse(proxy.port(), &database, &[made, (lines, ready)], Some(5)).join(" ");
        assert_eq!(pieces, ours, "{lines}");
    }
}

/// What the server skips behind a batch that fails without a Sync is skipped, also where names must be asked in between.
#[test]
fn a_batch_without_sync_is_answered_before_anything_is_asked() {
    let (proxy, database) = rename::begin();
    rename::switch(&proxy, 1);
    let (fails, runs) = ("P - SELECT 1/0\nB - -\nE -", "P - SELECT 1\nB - -\nE -");
    let read = "SELECT username FROM users";
    let write = "UPDATE users SET email = email || 'x'";
    for batch in [fails, runs] {
        for behind in [
            format!("Q {write}\nS"),
            format!("Q SELECT 2\nQ {write}\nS"),
            format!("Q SELECT 2\nP - {write}\nB - -\nE -\nS"),
            format!("Q {read}\nP - {read}\nB - -\nE -\nS\nQ {read}"),
            format!("Q SELECT nothing\nQ {read}\nS"),
            // Of what PREPARE made, the text is known.
            "Q EXECUTE two\nS\nQ EXECUTE two".to_owned(),
        ] {
            let conversation = |port| {
                let mut raw = Raw::login(port, &database);
                raw.query("PREPARE two AS SELECT username FROM users");
                raw.query("UPDATE users SET email = 'e'");
                raw.query("SET search_path = public");
                // The last answer of all is this one's.
                raw.send(&script(&format!("{batch}\n{behind}\nQ SELECT email AS last FROM users\nQ SELECT 'last'")));
                let mut shown = String::new();
                while !shown.ends_with("D:last C:SELECT_1 Z:I") {
                    shown = format!("{shown} {}", raw.until_ready());
                }
                shown
            };
            assert_eq!(
                conversation(proxy.port()).replace("D:new", "D:old"),
                conversation(server().port()),
                "{batch}\n{behind}"
            );
        }
    }
}

#[test]
fn another_databases_table_of_that_name_is_left_alone() {
    let (ours, theirs) = (database(), database());
    for database in [&ours, &theirs] {
        psql(server().port(), database, rename::TABLE);
    }
    let proxy = Running::start_with(|config| config.database = Some(ours.clone()));
    rename::switch(&proxy, 1);
    for (database, value) in [(&ours, "new"), (&theirs, "old")] {
        let mut raw = Raw::login(proxy.port(), database);
        assert_eq!(raw.query("SELECT username FROM users"), format!("T D:{value} C:SELECT_1 Z:I"));
    }
}

#[test]
fn a_transaction_keeps_its_epoch() {
    let (proxy, database) = rename::begin();
    let mut raw = Raw::login(proxy.port(), &database);
    rename::publish(&proxy, rename::rules(1, Phase::Ramping, 0));
    let read = "SELECT username FROM users";
    raw.query("BEGIN");
    assert_eq!(raw.query(read), "T D:old C:SELECT_1 Z:T");
    proxy.live.publish(rename::rules(2, Phase::Ramping, 100));
    let mut other = Raw::login(proxy.port(), &database);
    eventually("the new epoch", || other.query(read) == "T D:new C:SELECT_1 Z:I");
    assert_eq!(raw.query(read), "T D:old C:SELECT_1 Z:T");
    assert_eq!(proxy.live.oldest_pinned(), Epoch(1));
    raw.query("COMMIT");
    eventually("settling", || proxy.live.oldest_pinned() == Epoch(2));
    assert_eq!(raw.query(read), "T D:new C:SELECT_1 Z:I");
}

/// The same rules, held.
fn held(epoch: u64) -> Arc<Rules> {
    let rules = Rules::new(Epoch(epoch), &[rename::migration(Phase::Ramping, 0)], rename::catalog());
    Arc::new(rules.hold(true))
}

#[test]
fn while_rules_are_held_transactions_end_and_none_begins() {
    let (proxy, database) = rename::begin();
    let read = "SELECT username FROM users";
    rename::publish(&proxy, rename::rules(1, Phase::Ramping, 0));
    let mut open = Raw::login(proxy.port(), &database);
    open.query("BEGIN");
    let mut idle = Raw::login(proxy.port(), &database);
    assert_eq!(idle.query(read), "T D:old C:SELECT_1 Z:I");

    proxy.live.publish(held(2));
    // A login goes on, and tells that its thread has the rules; the first statement does not.
    let mut fresh: Vec<Raw> = (0..4).map(|_| Raw::login(proxy.port(), &database)).collect();
    assert_eq!(proxy.live.oldest_pinned(), Epoch(1));
    assert_eq!(open.query(read), "T D:old C:SELECT_1 Z:T");
    // What comes behind the end of the transaction, in one buffer, stays in its order.
    open.send(&script("Q COMMIT\nQ SELECT username FROM users\nP - SELECT 1\nB - -\nE -\nS"));
    assert_eq!(open.until_ready(), "C:COMMIT Z:I");
    eventually("settling", || proxy.live.oldest_pinned() == Epoch(2));
    for raw in fresh.iter_mut().chain([&mut idle]) {
        raw.send(&script("Q SELECT username FROM users"));
    }
    // Nobody holds the held rules: nothing has begun.
    proxy.live.publish(rename::rules(3, Phase::Ramping, 100));
    for raw in fresh.iter_mut().chain([&mut idle, &mut open]) {
        assert_eq!(raw.until_ready(), "T D:new C:SELECT_1 Z:I");
    }
    assert_eq!(open.until_ready(), "1 2 D:1 C:SELECT_1 Z:I");
    eventually("settling", || proxy.live.oldest_pinned() == Epoch(3));
}

#[test]
fn a_hold_that_nobody_ends_lets_go_and_applies_nothing() {
    let (proxy, database) = rename::begin();
    let read = "SELECT username FROM users";
    rename::publish(&proxy, rename::rules(1, Phase::Ramping, 0));
    let mut raw = Raw::login(proxy.port(), &database);
    let mut other = Raw::login(proxy.port(), &database);
    proxy.live.publish(held(2));
    eventually("settling", || proxy.live.oldest_pinned() == Epoch(2));
    assert_eq!(raw.query("SELECT 1"), "T D:1 C:SELECT_1 Z:I");
    assert_eq!(raw.query(read), "E:57P03 Z:I");
    // The same epoch read anew is no new hold.
    proxy.live.publish(held(2));
    assert_eq!(other.query(read), "E:57P03 Z:I");
    rename::publish(&proxy, rename::rules(3, Phase::Ramping, 100));
    assert_eq!(raw.query(read), "T D:new C:SELECT_1 Z:I");

    // A lease that runs out ends it too.
    proxy.live.publish(held(4));
    eventually("settling", || proxy.live.oldest_pinned() == Epoch(4));
    proxy.live.lease(false);
    assert_eq!(raw.query("SELECT 1"), "T D:1 C:SELECT_1 Z:I");
    assert_eq!(raw.query(read), "E:57P03 Z:I");
    proxy.live.lease(true);
    assert_eq!(raw.query(read), "E:57P03 Z:I");
    rename::publish(&proxy, rename::rules(5, Phase::Ramping, 100));
    assert_eq!(raw.query(read), "T D:new C:SELECT_1 Z:I");
}

#[test]
fn held_sessions_end_with_the_proxy() {
    let (proxy, database) = rename::begin();
    rename::publish(&proxy, rename::rules(1, Phase::Ramping, 0));
    let mut idle = Raw::login(proxy.port(), &database);
    let mut waiting = Raw::login(proxy.port(), &database);
    waiting.query("BEGIN");
    proxy.live.publish(held(2));
    let _fresh: Vec<Raw> = (0..4).map(|_| Raw::login(proxy.port(), &database)).collect();
    waiting.send(&script("Q COMMIT\nQ SELECT username FROM users"));
    assert_eq!(waiting.until_ready(), "C:COMMIT Z:I");
    proxy.shutdown.send(true).unwrap();
    assert_eq!(idle.until(|_| false), "E:57P01 end");
    assert_eq!(waiting.until(|_| false), "E:57P01 end");
}

#[test]
fn refusals_fail_what_an_error_would_fail() {
    let (proxy, database) = rename::begin();
    rename::switch(&proxy, 1);
    proxy.live.lease(false);
    let mut raw = Raw::login(proxy.port(), &database);
    let mut says = |lines: &str, ready: usize| {
        raw.send(&script(lines));
        (0..ready).map(|_| raw.until_ready()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(says("Q SELECT username FROM users", 1), "E:57P03 Z:I");
    assert_eq!(says("Q SELECT 'users'", 1), "T D:users C:SELECT_1 Z:I");
    // In a block the server's own state fails with it.
    assert_eq!(
        says("Q BEGIN\nQ SELECT username FROM users\nQ SELECT 1\nQ ROLLBACK", 4),
        "C:BEGIN Z:T E:57P03 Z:E E:25P02 Z:E C:ROLLBACK Z:I"
    );
    // In a pipeline what was done before it is undone, and the rest is skipped.
    let pipeline = "P - CREATE TABLE made (a int)\nB - -\nE -\nP - SELECT username FROM users\nB - -\nE -\nS\nQ SELECT to_regclass('made')";
    assert_eq!(says(pipeline, 2), "1 2 C:CREATE_TABLE E:57P03 Z:I T D:NULL C:SELECT_1 Z:I");
    proxy.live.lease(true);
    assert_eq!(says("P one SELECT username FROM users\nP - SELECT 2\nS", 1), "1 1 Z:I");
    proxy.live.lease(false);
    assert_eq!(says("B - one\nE -\nS\nB - -\nE -\nS", 2), "E:57P03 Z:I 2 D:2 C:SELECT_1 Z:I");
    proxy.live.lease(true);
    assert_eq!(says("B - one\nE -\nS", 1), "2 D:new C:SELECT_1 Z:I");
    let seen = proxy.traffic.snapshot();
    assert_eq!(seen.statements_with(Outcome::Refused), seen.refused_unleased);
}

#[test]
fn errors_around_injected_messages_stay_in_their_place() {
    let (proxy, database) = rename::begin();
    let mut raw = Raw::login(proxy.port(), &database);
    raw.send(&script("P one SELECT username FROM users\nP two SELECT 1/0\nP gone SELECT username, a FROM users, t\nS"));
    assert_eq!(raw.until_ready(), "1 1 E:42P01@32 Z:I");
    raw.send(&script(
        "Q CREATE TABLE t (a int)\nP gone SELECT username, a FROM users, t\nS\nP bad SELECT 1/(random()*0)::int\nS",
    ));
    for _ in 0..3 {
        raw.until_ready();
    }
    rename::switch(&proxy, 1);
    let mut says = |lines: &str, ready: usize| {
        raw.send(&script(lines));
        (0..ready).map(|_| raw.until_ready()).collect::<Vec<_>>().join(" ")
    };
    // An error before our messages: they are skipped with the rest, and come again.
    assert_eq!(says("B - bad\nE -\nB - one\nE -\nS\nB - one\nE -\nS", 2), "2 E:22012 Z:I 2 D:new C:SELECT_1 Z:I");
    // The server cannot prepare it again: that is the client's error, at its place.
    assert_eq!(says("Q DROP TABLE t", 1), "C:DROP_TABLE Z:I");
    assert_eq!(says("B - gone\nE -\nS\nQ SELECT 1", 2), "E:42P01@32 Z:I T D:1 C:SELECT_1 Z:I");
    assert_eq!(says("Q CREATE TABLE t (a int)\nB - gone\nE -\nS", 2), "C:CREATE_TABLE Z:I 2 C:SELECT_0 Z:I");
    // In a failed block nothing is asked.
    assert_eq!(
        says("Q BEGIN\nQ SELECT 1/0\nQ SELECT username FROM users\nQ ROLLBACK\nQ SELECT username FROM users", 5),
        "C:BEGIN Z:T E:22012 Z:E E:25P02 Z:E C:ROLLBACK Z:I T D:new C:SELECT_1 Z:I"
    );
    assert_eq!(says("Q BEGIN\nQ SAVEPOINT users\nQ SELECT 1/0", 3), "C:BEGIN Z:T C:SAVEPOINT Z:T E:22012 Z:E");
    assert_eq!(says("Q ROLLBACK TO SAVEPOINT users\nQ COMMIT", 2), "C:ROLLBACK Z:T C:COMMIT Z:I");
}

#[test]
fn names_and_shapes_are_those_of_the_session() {
    let (proxy, database) = rename::begin();
    rename::switch(&proxy, 1);
    let mut raw = Raw::login(proxy.port(), &database);
    let mut says = |text: &str| raw.query(text);
    let read = "SELECT username FROM users";
    assert_eq!(says(read), "T D:new C:SELECT_1 Z:I");
    says("CREATE TEMP TABLE users AS SELECT 'temporary' AS username");
    assert_eq!(says(read), "T D:temporary C:SELECT_1 Z:I");
    assert_eq!(says("SELECT username FROM public.users"), "T D:new C:SELECT_1 Z:I");
    says("BEGIN");
    says("DROP TABLE pg_temp.users");
    assert_eq!(says(read), "T D:new C:SELECT_1 Z:T");
    says("ROLLBACK");
    assert_eq!(says(read), "T D:temporary C:SELECT_1 Z:I");
    says("DROP TABLE pg_temp.users");
    says("CREATE SCHEMA other");
    assert_eq!(says("CREATE TABLE other.users AS SELECT 'other' AS username"), "C:SELECT_1 Z:I");
    says("BEGIN");
    says("SET LOCAL search_path = other, public");
    assert_eq!(says(read), "T D:other C:SELECT_1 Z:T");
    says("COMMIT");
    assert_eq!(says(read), "T D:new C:SELECT_1 Z:I");
    says("SELECT set_config('search_path', 'other', false)");
    assert_eq!(says(read), "T D:other C:SELECT_1 Z:I");
    says("RESET search_path");
    assert_eq!(says("SELECT handle FROM users"), "T D:new C:SELECT_1 Z:I");
    says("SET crossfade.shape = 'old'");
    assert_eq!(says("SELECT handle FROM users"), "E:42703@8 Z:I");
    says("SET crossfade.shape = 'new'");
    assert_eq!(says("SELECT handle FROM users"), "T D:new C:SELECT_1 Z:I");
    assert_eq!(says(read), "E:42703@8 Z:I");
    says("SET crossfade.shape = 'nwe'");
    assert_eq!(says(read), "E:22023 Z:I");
    says("RESET crossfade.shape");
    assert_eq!(says("SET search_path = other; SELECT username FROM users"), "E:0A000 Z:I");
    let parameters = [("user", "postgres"), ("database", database.as_str()), ("options", "-c crossfade.shape=new")];
    assert_eq!(Raw::login_with(proxy.port(), &parameters).query(read), "E:42703@8 Z:I");
    let parameters = [("user", "postgres"), ("database", database.as_str()), ("crossfade.shape", "new")];
    assert_eq!(Raw::login_with(proxy.port(), &parameters).query(read), "E:42703@8 Z:I");
}

#[test]
fn statements_of_one_query_run_together_where_no_name_changes_its_meaning() {
    let (proxy, database) = rename::begin();
    rename::switch(&proxy, 1);
    let mut raw = Raw::login(proxy.port(), &database);
    let mut says = |text: &str| raw.query(text);
    let read = "SELECT username FROM users";
    for (before, answer) in [
        ("SET enable_seqscan = off", "C:SET"),
        ("SELECT set_config('app.user', '7', false)", "T D:7 C:SELECT_1"),
        ("SELECT pg_catalog.set_config('Statement_Timeout', '9s', true)", "T D:9s C:SELECT_1"),
        ("CREATE TEMP TABLE scratch (username text)", "C:CREATE_TABLE"),
        ("CREATE TEMP TABLE IF NOT EXISTS kept AS SELECT username FROM users", "C:SELECT_1"),
        ("CREATE INDEX ON scratch (username)", "C:CREATE_INDEX"),
        ("COMMENT ON TABLE scratch IS 'x'", "C:COMMENT"),
        ("ANALYZE scratch", "C:ANALYZE"),
        ("DROP TABLE scratch", "C:DROP_TABLE"),
        ("CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'", "C:CREATE_FUNCTION"),
    ] {
        assert_eq!(says(&format!("{before}; {read}")), format!("{answer} T D:new C:SELECT_1 Z:I"), "{before}");
    }
    assert_eq!(
        says("CREATE TEMP TABLE o AS SELECT 'new' AS n; SELECT u.username FROM users u JOIN o ON o.n = u.username"),
        "C:SELECT_1 T D:new C:SELECT_1 Z:I"
    );
    for before in [
        "CREATE TEMP TABLE users (username text)",
        "CREATE VIEW pg_temp.users AS SELECT 'x' AS username",
        "ALTER TABLE users RENAME TO elsewhere",
        "CREATE SCHEMA elsewhere",
        "SELECT set_config('search_path', 'other', false)",
        "SELECT set_config('app.user', '7', false), set_config('search' || '_path', 'other', false)",
        "SELECT set_config(E'search\\x5fpath', 'other', false)",
        "SET ROLE postgres",
        "SET crossfade.shape = 'new'",
        "DO 'BEGIN END'",
        "CREATE FUNCTION all_users() RETURNS SETOF users LANGUAGE sql AS 'SELECT * FROM users'",
    ] {
        assert_eq!(says(&format!("{before}; {read}")), "E:0A000 Z:I", "{before}");
    }
    // A column that is added there may have the name that a later statement means another table's by.
    says("CREATE TEMP TABLE known (id int)");
    assert_eq!(says("ALTER TABLE known ADD username text; SELECT username FROM users, known"), "E:0A000 Z:I");
}

#[test]
fn questions_in_pieces_and_pipelines_stay_in_order() {
    let (proxy, database) = rename::begin();
    rename::switch(&proxy, 1);
    let lines = "P - SET crossfade.shape = 'new'\nB - -\nE -\nP - SELECT handle FROM users\nB - -\nE -\nS\n\
                 Q SELECT 1\nP - SELECT 1/0\nB - -\nE -\nP - SELECT username FROM users\nB - -\nE -\nS\nQ SELECT handle FROM users";
    let expected = "1 2 C:SET 1 2 D:new C:SELECT_1 Z:I T D:1 C:SELECT_1 Z:I 1 E:22012 Z:I T D:new C:SELECT_1 Z:I";
    for cut in [None, Some(1), Some(7), Some(100)] {
        assert_eq!(converse(proxy.port(), &database, &[(lines, 4)], cut), [expected]);
    }
}

/// PostgreSQL reads most commands when they are executed, and no sooner.
#[test]
fn an_error_of_a_command_is_told_at_its_place_when_it_is_executed() {
    let (proxy, database) = rename::begin();
    rename::switch(&proxy, 1);
    for (sql, says) in [
        ("COPY users FROM STDIN (FORMAT csv, FORMAT csv)", "E:42601@36"),
        ("COPY users FROM STDIN WHERE nosuch > 1", "E:42703@29"),
        ("PREPARE p AS SELECT username, nosuch FROM users", "E:42703@31"),
    ] {
        let simple = format!("Q {sql}");
        let extended = format!("P - {sql}\nB - -\nE -\nS");
        for direct in [true, false] {
            let port = if direct { server().port() } else { proxy.port() };
            assert_eq!(converse(port, &database, &[(&simple, 1)], None), [format!("{says} Z:I")], "{direct} {sql}");
            let answer = format!("1 2 {says} Z:I");
            assert_eq!(converse(port, &database, &[(&extended, 1)], None), [answer], "{direct} {sql}");
        }
    }
}

#[test]
fn text_that_cannot_be_read_is_refused_only_where_it_matters() {
    let (proxy, database) = rename::begin();
    rename::switch(&proxy, 1);
    let mut raw = Raw::login(proxy.port(), &database);
    let mut says = |text: &[u8]| {
        let mut bytes = Vec::new();
        wire::query(&mut bytes, text);
        raw.send(&bytes);
        raw.until_ready()
    };
    assert_eq!(says(b"SELECT username FROM users WHERE username <> '\xff'"), "E:22021 Z:I");
    assert_eq!(says("SELECT username AS ä FROM users".as_bytes()), "T D:new C:SELECT_1 Z:I");
    says(b"SET client_encoding = 'LATIN1'");
    assert_eq!(says(b"SELECT username AS \xe4 FROM users"), "E:22021 Z:I");
    assert_eq!(says(b"SELECT 1 AS \xe4"), "T D:1 C:SELECT_1 Z:I");
    assert_eq!(says(b"SELECT username FROM users"), "T D:new C:SELECT_1 Z:I");
}

#[test]
fn ddl_is_told_when_its_transaction_ends() {
    let proxy = Running::start();
    let mut raw = Raw::login(proxy.port(), &database());
    raw.query("BEGIN");
    raw.query("CREATE TABLE t (a int)");
    assert_eq!(proxy.live.ddl_seen(), 0);
    raw.query("COMMIT");
    assert_eq!(proxy.live.ddl_seen(), 1);
    raw.query("SELECT 1");
    assert_eq!(proxy.live.ddl_seen(), 1);
}

#[test]
fn a_driver_notices_nothing_of_an_epoch() {
    let (proxy, database) = rename::begin();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("postgres://postgres@127.0.0.1:{}/{database}", proxy.port());
        let (mut client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        let driving = tokio::spawn(connection);
        let one = client.prepare("SELECT id, username FROM users WHERE id = $1").await.unwrap();
        let all = client.prepare("SELECT * FROM users ORDER BY id").await.unwrap();
        let write = client.prepare("UPDATE users SET username = $1 WHERE id = $2 RETURNING username").await.unwrap();
        for (epoch, phase, reads) in
            [(1, Phase::DualWriting, 0), (2, Phase::Ramping, 0), (3, Phase::Ramping, 100), (4, Phase::Soaking, 100)]
        {
            rename::publish(&proxy, rename::rules(epoch, phase, reads));
            let value = format!("in {phase}");
            let transaction = client.transaction().await.unwrap();
            let row = transaction.query_one(&write, &[&value, &1]).await.unwrap();
            assert_eq!(row.get::<_, &str>(0), value);
            assert_eq!(transaction.query_one(&one, &[&1]).await.unwrap().get::<_, &str>("username"), value);
            transaction.commit().await.unwrap();
            // Pipelined, and mixed with what fails.
            let (first, failed, second) = futures_util::future::join3(
                client.query_one(&one, &[&1]),
                client.query("SELECT 1 / (random() * 0)::int", &[]),
                client.query_one(&one, &[&1]),
            )
            .await;
            assert_eq!(first.unwrap().get::<_, &str>(1), value);
            assert_eq!(second.unwrap().get::<_, &str>(1), value);
            assert!(failed.is_err());
            if phase == Phase::DualWriting {
                let both = psql(server().port(), &database, "SELECT username, handle FROM users");
                assert_eq!(both, format!("{value}|{value}"));
            }
        }
        drop(all);
        drop(client);
        driving.await.unwrap().unwrap();
    });
}
