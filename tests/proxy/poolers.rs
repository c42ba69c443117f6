//! PgBouncer in front of the proxy and behind it, in session and in transaction mode.

use super::*;
use crossfade::control::db;
use std::path::PathBuf;
use std::process::{Child, Stdio};

/// A pooler that runs until it is dropped.
pub(super) struct PgBouncer {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    /// Before that port, in that mode; `None`, with a word about it, where PgBouncer is not installed.
    pub(super) fn start(mode: &str, before: u16, settings: &str) -> Option<PgBouncer> {
        let Some(program) =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].map(PathBuf::from).into_iter().find(|p| p.exists())
        else {
            println!("left out: PgBouncer is not installed (Debian: apt-get install pgbouncer)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let port = postgres::free_port().unwrap();
        let users = folder.path().join("users");
        std::fs::write(&users, "\"postgres\" \"\"\n").unwrap();
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={before}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = {mode}\n\
             server_tls_sslmode = disable\n{settings}\n",
            users.display()
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program);
        if std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
            command.args(["-u", "postgres"]);
        }
        let child = command.arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pooler = PgBouncer { child, port, _folder: folder };
        eventually("PgBouncer's start", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(pooler)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const READ: &str = "SELECT username FROM users";

#[test]
fn in_front_in_session_mode_everything_works() {
    let (proxy, database) = rename::begin();
    let Some(pooler) = PgBouncer::start("session", proxy.port(), "default_pool_size = 2") else { return };
    rename::publish(&proxy, rename::rules(1, Phase::Ramping, 0));
    let mut raw = Raw::login(pooler.port(), &database);
    raw.send(&script("P one SELECT username FROM users WHERE id = $1\nB - one 1\nE -\nS"));
    assert_eq!(raw.until_ready(), "1 2 D:old C:SELECT_1 Z:I");
    rename::switch(&proxy, 2);
    raw.send(&script("B - one 1\nE -\nS"));
    assert_eq!(raw.until_ready(), "2 D:new C:SELECT_1 Z:I");
    assert_eq!(raw.query("CREATE TEMP TABLE users AS SELECT 'temporary' AS username"), "C:SELECT_1 Z:I");
    assert_eq!(raw.query(READ), "T D:temporary C:SELECT_1 Z:I");
    raw.query("SET crossfade.shape = 'new'");
    raw.query("LISTEN news");
    psql(proxy.port(), &database, "NOTIFY news, 'hello'");
    assert_eq!(raw.until(|kind| kind == b'A'), "A:newshello");
    drop(raw);
    // The next client has the same server session, and nothing of the one before.
    for _ in 0..3 {
        let mut next = Raw::login(pooler.port(), &database);
        assert_eq!(next.query(READ), "T D:new C:SELECT_1 Z:I");
        next.send(&script("B - one 1\nE -\nS"));
        assert_eq!(next.until_ready(), "E:26000 Z:I");
    }
}

#[test]
fn in_front_in_transaction_mode_what_is_local_to_a_transaction_works() {
    let (proxy, database) = rename::begin();
    let Some(pooler) = PgBouncer::start("transaction", proxy.port(), "default_pool_size = 1") else { return };
    rename::switch(&proxy, 1);
    let mut one = Raw::login(pooler.port(), &database);
    let mut two = Raw::login(pooler.port(), &database);
    for _ in 0..2 {
        for raw in [&mut one, &mut two] {
            assert_eq!(raw.query(READ), "T D:new C:SELECT_1 Z:I");
            raw.send(&script("P - SELECT username FROM users WHERE id = $1\nB - - 1\nE -\nS"));
            assert_eq!(raw.until_ready(), "1 2 D:new C:SELECT_1 Z:I");
        }
        one.query("BEGIN");
        one.query("SET LOCAL crossfade.shape = 'old'");
        assert_eq!(one.query("SELECT handle FROM users"), "E:42703@8 Z:E");
        one.query("ROLLBACK");
        assert_eq!(two.query("SELECT handle FROM users"), "T D:new C:SELECT_1 Z:I");
    }
    // An epoch in between: a transaction that is open keeps its rules, the next one has the new ones.
    one.query("BEGIN");
    assert_eq!(one.query(READ), "T D:new C:SELECT_1 Z:T");
    proxy.live.publish(rename::rules(2, Phase::Ramping, 0));
    assert_eq!(one.query(READ), "T D:new C:SELECT_1 Z:T");
    one.query("COMMIT");
    eventually("settling", || proxy.live.oldest_pinned() == Epoch(2));
    assert_eq!(two.query(READ), "T D:old C:SELECT_1 Z:I");
}

/// A proxy before a pooler.
fn before(pooler: &PgBouncer, is_told: bool) -> Running {
    Running::start_with(|config| {
        config.upstream = Upstream::Tcp { host: "127.0.0.1".to_owned(), port: pooler.port() }.into();
        config.pooled = is_told;
    })
}

#[test]
fn behind_a_pooler_that_nobody_told_of_tables_under_migration_are_refused() {
    let database = database();
    psql(server().port(), &database, rename::TABLE);
    for mode in ["session", "transaction"] {
        let Some(pooler) = PgBouncer::start(mode, server().port(), "") else { return };
        let proxy = before(&pooler, false);
        rename::switch(&proxy, 1);
        let mut raw = Raw::login(proxy.port(), &database);
        assert_eq!(raw.query("SELECT 1"), "T D:1 C:SELECT_1 Z:I");
        assert_eq!(raw.query(READ), "E:0A000 Z:I");
        raw.send(&script("P - SELECT username FROM users\nB - -\nE -\nS"));
        assert_eq!(raw.until_ready(), "E:0A000 Z:I");
        assert_eq!(raw.query("SELECT email FROM pg_catalog.pg_class LIMIT 0"), "E:42703@8 Z:I");
    }
}

#[test]
fn behind_in_session_mode_everything_works() {
    let database = database();
    psql(server().port(), &database, rename::TABLE);
    let Some(pooler) = PgBouncer::start("session", server().port(), "") else { return };
    let proxy = before(&pooler, true);
    rename::publish(&proxy, rename::rules(1, Phase::Ramping, 0));
    let mut raw = Raw::login(proxy.port(), &database);
    raw.send(&script("P one SELECT username FROM users WHERE id = $1\nB - one 1\nE -\nS"));
    assert_eq!(raw.until_ready(), "1 2 D:old C:SELECT_1 Z:I");
    rename::switch(&proxy, 2);
    raw.send(&script("B - one 1\nE -\nS"));
    assert_eq!(raw.until_ready(), "2 D:new C:SELECT_1 Z:I");
    raw.query("CREATE TEMP TABLE users AS SELECT 'temporary' AS username");
    assert_eq!(raw.query(READ), "T D:temporary C:SELECT_1 Z:I");
    assert_eq!(raw.query("DROP TABLE pg_temp.users"), "C:DROP_TABLE Z:I");
    raw.query("BEGIN");
    assert_eq!(raw.query(READ), "T D:new C:SELECT_1 Z:T");
    assert_eq!(raw.query("COMMIT"), "C:COMMIT Z:I");
}

#[test]
fn behind_in_transaction_mode_a_change_of_servers_is_found() {
    let database = database();
    psql(server().port(), &database, rename::TABLE);
    let Some(pooler) = PgBouncer::start("transaction", server().port(), "") else { return };
    let proxy = before(&pooler, true);
    rename::switch(&proxy, 1);
    let mut raw = Raw::login(proxy.port(), &database);
    assert_eq!(raw.query(READ), "T D:new C:SELECT_1 Z:I");
    // Somebody else has that server now.
    let mut other = Raw::login(proxy.port(), &database);
    assert_eq!(other.query("BEGIN; SELECT 1"), "C:BEGIN T D:1 C:SELECT_1 Z:T");
    assert_eq!(raw.query(READ), "E:0A000 Z:I");
    assert_eq!(raw.query("SELECT 2"), "T D:2 C:SELECT_1 Z:I");
    other.query("COMMIT");
    assert_eq!(raw.query(READ), "E:0A000 Z:I");
}

#[test]
fn the_control_plane_goes_straight_to_the_server() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let at = |port: u16| db::Upstream::parse(&format!("postgres://postgres@127.0.0.1:{port}/postgres")).unwrap();
    for mode in ["session", "transaction"] {
        for settings in ["", "ignore_startup_parameters = options, extra_float_digits"] {
            let Some(pooler) = PgBouncer::start(mode, server().port(), settings) else { return };
            let error = runtime.block_on(at(pooler.port()).connect("straight")).unwrap_err();
            assert_eq!(
                error.to_string(),
                "a pooler stands between the control plane and PostgreSQL",
                "{mode} {settings}"
            );
            let shares = runtime.block_on(at(pooler.port()).shares_servers()).unwrap();
            assert_eq!(shares, mode == "transaction");
        }
    }
    runtime.block_on(at(server().port()).connect("straight")).unwrap();
    assert!(!runtime.block_on(at(server().port()).shares_servers()).unwrap());
    // Another proxy passes on what it is given: it is no pooler.
    runtime.block_on(at(Running::start().port()).connect("straight")).unwrap();
}
