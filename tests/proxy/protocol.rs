//! What a client may say and hear at any time: each conversation is the same with and without the proxy.

use super::*;

#[test]
fn function_calls_pass() {
    // int4pl and int4div by their numbers in the catalog.
    let shown = same_as_direct(&[
        ("F 177 2 3", 1),
        ("F 154 1 0\nQ SELECT 1", 2),
        ("Q BEGIN\nF 154 1 0\nF 177 1 1\nQ ROLLBACK", 4),
        ("P - SELECT 1\nB - -\nE -\nF 177 1 1\nS", 2),
        ("F 4294967 1\nF 177 4 5", 2),
    ]);
    assert_eq!(shown[0], "V Z:I");
    assert_eq!(shown[1], "E:22012 Z:I T D:1 C:SELECT_1 Z:I");
}

#[test]
fn portals_give_their_rows_in_parts() {
    let shown = same_as_direct(&[
        ("Q BEGIN\nP g SELECT generate_series(1, 7)\nB p g\nEl p 3\nH\nEl p 3\nH\nDp p\nEl p 3\nEl p 3\nS", 2),
        ("El p 1\nS\nQ ROLLBACK", 2),
        ("P - SELECT generate_series(1, 5)\nB - -\nEl - 2\nS\nEl - 2\nS", 2),
        ("Q BEGIN\nB a g\nB b g\nEl a 2\nEl b 1\nEl a 1\nCp a\nEl a 1\nS\nQ COMMIT", 3),
        (
            "Q BEGIN; DECLARE c CURSOR FOR SELECT generate_series(1, 4); FETCH 2 FROM c\nQ FETCH 1 FROM c\nEl c 1\nS\nQ COMMIT",
            4,
        ),
    ]);
    assert!(shown[0].contains("D:1 D:2 D:3 s D:4 D:5 D:6 s T D:7 C:SELECT_1"), "{}", shown[0]);
}

#[test]
fn close_and_describe_come_in_any_order() {
    same_as_direct(&[
        ("Ds nothing\nS\nDp nothing\nS\nCs nothing\nCp nothing\nS", 3),
        ("P a SELECT $1::int\nDs a\nH\nDs a\nB x a 1\nDp x\nDs a\nE x\nDp x\nCp x\nDp x\nS", 1),
        ("P a SELECT 1\nS\nCs a\nP a SELECT 2\nB - a\nE -\nS", 2),
        ("P b SELECT 1\nB x b\nCs b\nE x\nS", 1),
        ("P n INSERT INTO nowhere VALUES (1)\nDs n\nS\nP u CREATE TABLE u (a int)\nDs u\nB - u\nDp -\nE -\nS", 2),
        ("H\nS\nS\nH\nS", 3),
    ]);
}

#[test]
fn statements_of_both_protocols_are_mixed() {
    let shown = same_as_direct(&[
        ("Q PREPARE a (int) AS SELECT $1 + 1\nB - a 41\nE -\nS", 2),
        ("P b SELECT $1::text\nS\nQ EXECUTE b('x')\nQ DEALLOCATE b\nB - b y\nE -\nS", 4),
        ("Q PREPARE a AS SELECT 2\nP a SELECT 3\nS\nB - a 1\nE -\nS", 3),
        ("Q DISCARD ALL\nB - a 1\nE -\nS\nP a SELECT 4\nB - a\nE -\nS", 3),
        ("P - DEALLOCATE ALL\nB - -\nE -\nB - a\nE -\nS", 1),
        ("P c EXECUTE d\nS\nQ PREPARE d AS SELECT 5\nP c EXECUTE d\nB - c\nE -\nS\nQ DISCARD PLANS", 4),
    ]);
    assert!(shown[3].ends_with("1 2 D:4 C:SELECT_1 Z:I"), "{}", shown[3]);
}

#[test]
fn a_copy_that_fails_in_its_middle_ends_where_it_fails() {
    let shown = same_as_direct(&[
        ("Q COPY (SELECT 1 / (3 - i) FROM generate_series(1, 5) AS i) TO STDOUT\nQ SELECT 1", 2),
        ("Q BEGIN; COPY (SELECT 1) TO STDOUT; SELECT 2; COPY (SELECT 3) TO STDOUT; COMMIT", 1),
        ("Q CREATE TABLE c (a int CHECK (a < 3))", 1),
        ("Q COPY c FROM STDIN\nd 1\nS\nH\nd 2\nc\nQ SELECT count(*) FROM c", 2),
        ("Q COPY c FROM STDIN\nd 1\nd 9\nd 1\nc\nP - SELECT 5\nB - -\nE -\nS", 2),
        ("Q COPY c FROM STDIN; SELECT 7\nd 1\nc", 1),
        ("Q COPY c FROM STDIN\nd 1\nQ SELECT 1\nQ SELECT 2", 2),
    ]);
    assert!(shown[0].starts_with("H d d E:22012 Z:I T D:1"), "{}", shown[0]);
}

/// Drivers send a Sync behind the Execute of a COPY. It is ignored while the server reads data, and answered where the
/// copy failed before that.
#[test]
fn a_copy_that_fails_at_once_answers_the_sync_behind_it() {
    let function = "CREATE FUNCTION pg_temp.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$";
    let shown = same_as_direct(&[
        (&format!("Q CREATE TEMP TABLE c (a int)\nQ CREATE TEMP TABLE n (a int)\nQ {function}"), 3),
        ("Q CREATE TRIGGER no BEFORE INSERT ON n FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.no()", 1),
        ("P - COPY c FROM STDIN\nB - -\nE -\nS\nd 1\nc\nS\nQ SELECT count(*) FROM c", 2),
        ("P - COPY n FROM STDIN\nB - -\nE -\nS", 1),
        ("d 1\nc\nS", 1),
        ("P - COPY n FROM STDIN\nB - -\nE -\nS", 1),
        ("Q SELECT 1", 1),
        ("P - COPY n FROM STDIN\nB - -\nE -\nS\nd 1\nc\nS\nP - SELECT 2\nB - -\nE -\nS", 3),
    ]);
    assert!(shown[3].ends_with("E:P0001 Z:I"), "{}", shown[3]);
    // It fails in the data, before the server reads the first Sync: both are answered.
    let begin = "P - COPY c FROM STDIN\nB - -\nE -\nd no\nd 1\nS\nc\nS";
    let shown = same_as_direct(&[
        ("Q CREATE TEMP TABLE c (a int)", 1),
        (&format!("{begin}\nQ SELECT 1"), 3),
        (&format!("{begin}\nQ SELECT 1/0\nF 177 2 3"), 4),
        (&format!("{begin}\nQ\nQ BEGIN\nP - SELECT 2\nB - -\nE -\nS\nQ COMMIT"), 6),
        ("Q COPY (SELECT 1) TO STDOUT\nQ SELECT 3", 2),
    ]);
    assert!(shown[1].ends_with("E:22P02 Z:I Z:I T D:1 C:SELECT_1 Z:I"), "{}", shown[1]);
}

#[test]
fn pipelines_fail_by_parts() {
    same_as_direct(&[
        ("P - SELECT 1\nB - -\nE -\nS\nP - SELECT 1/0\nB - -\nE -\nB - -\nS\nP - SELECT 2\nB - -\nE -\nS", 3),
        ("P - BEGIN\nB - -\nE -\nP - SELECT 1/0\nB - -\nE -\nS\nP - SELECT 2\nB - -\nE -\nS\nQ ROLLBACK", 3),
        ("P - CREATE TABLE made (a int)\nB - -\nE -\nP - SELECT 1/0\nB - -\nE -\nS\nQ SELECT to_regclass('made')", 2),
        ("P - SELECT 1/0\nB - -\nE -\nH\nP - SELECT 1\nS\nS\nQ SELECT 3", 3),
        ("P - SELECT 1; SELECT 2\nB - -\nS\nP x\nP x SELECT 1\nS\nP x SELECT 1\nS", 3),
    ]);
}

#[test]
fn what_comes_unasked_keeps_its_place() {
    let shown = same_as_direct(&[
        ("Q DO $$ BEGIN RAISE NOTICE 'a'; RAISE WARNING 'b'; END $$\nQ LISTEN l\nQ NOTIFY l, 'x'; SELECT 1", 3),
        ("P - DO $$ BEGIN RAISE NOTICE 'c'; END $$\nB - -\nE -\nP - SELECT 1/0\nB - -\nE -\nS", 1),
        ("Q SET application_name = 'other'; SET timezone = 'UTC'; SELECT 2", 1),
    ]);
    assert!(shown[0].starts_with("N:00000 N:01000 C:DO Z:I"), "{}", shown[0]);
    // The server's settings are read again: a session is told of what has changed, in the middle of its own answers.
    let proxy = Running::start();
    let mut raw = Raw::login(proxy.port(), "postgres");
    psql(server().port(), "postgres", "ALTER SYSTEM SET intervalstyle = 'iso_8601'");
    psql(server().port(), "postgres", "SELECT pg_reload_conf()");
    eventually("the change", || {
        raw.send(&script("Q SELECT 1"));
        let mut told = false;
        loop {
            match raw.message().expect("the session lives") {
                (b'S', body) => told |= body == b"IntervalStyle\0iso_8601\0",
                (b'Z', _) => return told,
                _ => {}
            }
        }
    });
    psql(server().port(), "postgres", "ALTER SYSTEM RESET intervalstyle");
    psql(server().port(), "postgres", "SELECT pg_reload_conf()");
    assert!(raw.query("SELECT 1").ends_with("T D:1 C:SELECT_1 Z:I"));
}

#[test]
fn a_value_longer_than_any_bound_streams_through() {
    let proxy = Running::start_with(|config| config.message_bytes_max = 65_536);
    let mut raw = Raw::login(proxy.port(), "postgres");
    let value = vec![b'x'; 48 << 20];
    let mut bytes = Vec::new();
    wire::parse(&mut bytes, b"", b"SELECT length($1::text)", b"\0\0");
    wire::bind_text(&mut bytes, b"", b"", &[&value]);
    wire::execute_all(&mut bytes, b"");
    wire::sync(&mut bytes);
    raw.send(&bytes);
    assert_eq!(raw.until_ready(), format!("1 2 D:{} C:SELECT_1 Z:I", value.len()));
    // The server's limit is its own to tell.
    raw.send(b"B\x7f\xff\xff\xff");
    assert!(raw.until(|_| false).starts_with("E:08P01"));
}

/// A server that says what it is told to, and shows what it hears.
pub(super) fn impostor(answers: impl Fn(&mut TcpStream, usize) + Send + 'static) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, socket) in listener.incoming().enumerate() {
            let Ok(mut socket) = socket else { return };
            let _ = socket.set_read_timeout(Some(DEADLINE));
            answers(&mut socket, number);
        }
    });
    port
}

/// Reads one packet without a type.
pub(super) fn packet(socket: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
    let mut packet = length.to_vec();
    packet.resize(u32::from_be_bytes(length) as usize, 0);
    socket.read_exact(&mut packet[4..]).unwrap();
    packet
}

pub(super) fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn before_impostor(port: u16) -> Running {
    Running::start_with(|config| {
        config.upstream = Upstream::Tcp { host: "127.0.0.1".to_owned(), port }.into();
        config.tls.server.mode = crossfade::proxy::SslMode::Disable;
    })
}

/// A cancel request with this key: process id and secret.
fn cancel_request(key: &[u8]) -> Vec<u8> {
    let mut packet = (8 + key.len() as u32).to_be_bytes().to_vec();
    packet.extend(80_877_102u32.to_be_bytes());
    packet.extend(key);
    packet
}

#[test]
fn protocol_3_2_passes_with_long_keys() {
    let key: Vec<u8> = (0..=255).chain(0..4).collect();
    let (heard, hears) = std::sync::mpsc::channel();
    let given = key.clone();
    let port = impostor(move |socket, number| {
        heard.send(packet(socket)).unwrap();
        if number == 0 {
            let mut bytes = frame(b'v', b"\0\0\0\x02\0\0\0\x01_pq_.unknown\0");
            bytes.extend(frame(b'R', b"\0\0\0\0"));
            bytes.extend(frame(b'K', &given));
            bytes.extend(frame(b'Z', b"I"));
            socket.write_all(&bytes).unwrap();
        }
    });
    let proxy = before_impostor(port);
    let mut opening = startup(&[("user", "me"), ("_pq_.unknown", "x"), ("_pq_.test", "y"), ("user", "me")]);
    opening[4..8].copy_from_slice(&0x0003_0002u32.to_be_bytes());
    let mut raw = Raw::connect(proxy.port());
    raw.send(&opening);
    assert_eq!(raw.message().unwrap(), (b'v', b"\0\0\0\x02\0\0\0\x01_pq_.unknown\0".to_vec()));
    assert_eq!(raw.message().unwrap().0, b'R');
    assert_eq!(raw.message().unwrap(), (b'K', key.clone()));
    assert_eq!(hears.recv_timeout(DEADLINE).unwrap(), opening);
    // The sender does not wait.
    Raw::connect(proxy.port()).send(&cancel_request(&key));
    assert_eq!(hears.recv_timeout(DEADLINE).unwrap(), cancel_request(&key));
}

#[test]
fn a_minor_version_that_the_server_does_not_know_is_negotiated() {
    let proxy = Running::start();
    let says = |port| {
        let mut opening = startup(&[("user", "postgres"), ("_pq_.later", "1")]);
        opening[4..8].copy_from_slice(&0x0003_0009u32.to_be_bytes());
        let mut raw = Raw::connect(port);
        raw.send(&opening);
        let (kind, body) = raw.message().unwrap();
        raw.until_ready();
        (kind, body)
    };
    let direct = says(server().port());
    assert_eq!(direct.0, b'v');
    assert_eq!(says(proxy.port()), direct);
}

/// A session that sleeps, and the key of its server session.
fn sleeper(port: u16, name: &str) -> (Raw, Vec<u8>) {
    let mut raw = Raw::connect(port);
    raw.send(&startup(&[("user", "postgres"), ("database", "postgres"), ("application_name", name)]));
    let key = loop {
        let (kind, body) = raw.message().unwrap();
        if kind == b'K' {
            break body;
        }
    };
    raw.until_ready();
    raw.send(&script("Q SELECT pg_sleep(600)"));
    eventually("the statement's beginning", || is_asleep(name));
    (raw, key)
}

fn is_asleep(name: &str) -> bool {
    let sql =
        format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND wait_event = 'PgSleep'");
    psql(server().port(), "postgres", &sql) == "1"
}

#[test]
fn cancels_reach_their_own_statement_whoever_sends_them_and_however() {
    let (one, two) = (Running::start(), Running::start());
    let (mut mine, key) = sleeper(one.port(), "mine");
    let (mut other, _) = sleeper(one.port(), "other");
    // A stranger who knows the process but not its secret reaches nobody; nor does one who knows nothing.
    for wrong in [[&key[..4], &[1, 2, 3, 4]].concat(), vec![0; 8], vec![0xff; 8]] {
        let mut stranger = Raw::connect(two.port());
        stranger.send(&cancel_request(&wrong));
        assert_eq!(stranger.until(|_| false), "end");
    }
    assert!(is_asleep("mine") && is_asleep("other"));
    // By another proxy before the same server, and without waiting for anything.
    Raw::connect(two.port()).send(&cancel_request(&key));
    assert_eq!(mine.until_ready(), "T E:57014 Z:I");
    assert!(is_asleep("other"));
    psql(
        server().port(),
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'other'",
    );
    assert_eq!(other.until(|_| false), "T E:57P01 end");
}

#[test]
fn a_server_that_goes_away_takes_its_clients_with_it() {
    // In the middle of the login, of an answer, and of nothing.
    let port = impostor(|socket, number| {
        packet(socket);
        if number == 0 {
            return;
        }
        let mut bytes = frame(b'R', b"\0\0\0\0");
        bytes.extend(frame(b'Z', b"I"));
        socket.write_all(&bytes).unwrap();
        let mut heard = [0; 64];
        let _ = socket.read(&mut heard);
        let row = frame(b'D', b"\0\x01\0\0\0\x01x");
        socket.write_all(&row[..row.len() - number + 1]).unwrap();
    });
    let proxy = before_impostor(port);
    let mut raw = Raw::connect(proxy.port());
    raw.send(&startup(&[("user", "me")]));
    assert_eq!(raw.until(|_| false), "end");
    for expected in ["D:x end", "end"] {
        let mut raw = Raw::connect(proxy.port());
        raw.send(&startup(&[("user", "me")]));
        assert_eq!(raw.until_ready(), "Z:I");
        raw.send(&script("Q SELECT 'x'"));
        assert_eq!(raw.until(|_| false), expected);
    }
    eventually("no session", || proxy.traffic.snapshot().sessions == 0);
}

#[test]
fn a_server_that_never_answers_does_not_hold_a_login_for_ever() {
    let port = impostor(|socket, _| {
        packet(socket);
        // Keeps the connection until the other side ends it.
        let _ = socket.read(&mut [0; 1]);
    });
    let proxy = Running::start_with(|config| {
        config.upstream = Upstream::Tcp { host: "127.0.0.1".to_owned(), port }.into();
        config.tls.server.mode = crossfade::proxy::SslMode::Disable;
        config.startup_timeout = Duration::from_millis(300);
    });
    let mut raw = Raw::connect(proxy.port());
    raw.send(&startup(&[("user", "me")]));
    assert_eq!(raw.until(|_| false), "E:08006 end");
}

#[test]
fn a_statement_whose_server_process_dies_ends_its_session_as_it_would_directly() {
    let proxy = Running::start();
    let (mut raw, _) = sleeper(proxy.port(), "doomed");
    let doom = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'doomed'";
    psql(server().port(), "postgres", doom);
    assert_eq!(raw.until(|_| false), "T E:57P01 end");
}

/// A tool of PostgreSQL's against that port.
fn tool(name: &str, port: u16) -> Command {
    // A tool that waits for ever fails.
    let mut command = Command::new("timeout");
    command.arg("60").arg(server().binaries().join(name));
    command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()]).env("PGCONNECT_TIMEOUT", "20");
    command
}

#[track_caller]
fn succeeds(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_base_backup_passes() {
    if !is_copied() {
        return;
    }
    let proxy = Running::start();
    let folder = tempfile::tempdir().unwrap();
    let mut backup = tool("pg_basebackup", proxy.port());
    backup.args(["-X", "stream", "--checkpoint=fast", "--no-sync", "-D"]).arg(folder.path().join("copy"));
    succeeds(backup);
    let verify = server().binaries().join("pg_verifybackup");
    if !verify.exists() {
        println!("left out: pg_verifybackup of the server's version is not installed");
        return;
    }
    let mut verify = Command::new(verify);
    verify.arg(folder.path().join("copy"));
    assert!(succeeds(verify).contains("successfully verified"));
}

#[test]
fn wal_and_logical_changes_stream_through() {
    let proxy = Running::start();
    let database = database();
    psql(server().port(), &database, "CREATE TABLE streamed (a int)");
    let folder = tempfile::tempdir().unwrap();

    let slot = |option: &str| {
        let mut command = tool("pg_recvlogical", proxy.port());
        command.args(["-d", &database, "--slot=streams", option]);
        command
    };
    let mut create = slot("--create-slot");
    create.args(["--plugin=test_decoding"]);
    if !create.output().unwrap().status.success() {
        println!("left out: the plugin test_decoding is not installed");
        return;
    }
    psql(proxy.port(), &database, "INSERT INTO streamed VALUES (4711)");
    let end = psql(server().port(), &database, "SELECT pg_current_wal_flush_lsn()");
    let file = folder.path().join("changes");
    let mut start = slot("--start");
    start.args(["--no-loop", "--endpos", &end, "-f"]).arg(&file);
    succeeds(start);
    let changes = std::fs::read_to_string(&file).unwrap();
    assert!(changes.contains("INSERT: a[integer]:4711"), "{changes}");
    succeeds(slot("--drop-slot"));

    psql(server().port(), &database, "SELECT pg_switch_wal()");
    psql(server().port(), &database, "INSERT INTO streamed VALUES (1)");
    let end = psql(server().port(), &database, "SELECT pg_current_wal_flush_lsn()");
    let mut receive = tool("pg_receivewal", proxy.port());
    receive.args(["--no-loop", "--no-sync", "--endpos", &end, "-D"]).arg(folder.path());
    succeeds(receive);
    assert!(std::fs::read_dir(folder.path()).unwrap().count() > 1);
}
