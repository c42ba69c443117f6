//! Several servers behind one proxy: a primary and its standby, and hosts that are not there.

use super::*;
use crossfade::control::hosts::Target;
use crossfade::proxy::{RoleFuture, Roles, Servers};

/// A standby of the tests' server, if one can be made.
fn standby() -> Option<&'static Postgres> {
    static STANDBY: OnceLock<Postgres> = OnceLock::new();
    is_copied().then(|| STANDBY.get_or_init(|| server().standby().expect("a standby starts")))
}

/// The role of each of these servers, asked on a connection of its own.
#[derive(Debug)]
struct Ask(Vec<u16>);

impl Roles for Ask {
    fn role(self: Arc<Self>, host: usize) -> RoleFuture {
        let port = self.0[host];
        Box::pin(async move {
            let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
            let upstream = crossfade::control::db::Upstream::parse(&url)?;
            upstream.role(0).await.map_err(|error| format!("{error}: {}", error.detail()))
        })
    }
}

fn before(ports: &[u16], target: Target) -> Running {
    let hosts = ports.iter().map(|port| Upstream::Tcp { host: "127.0.0.1".to_owned(), port: *port }).collect();
    let adjust = |config: &mut ProxyConfig| {
        config.upstream = Servers { hosts, target, balanced: false };
        config.connect_timeout = Duration::from_secs(5);
    };
    Running::start_as(adjust, |proxy| proxy.with_roles(Arc::new(Ask(ports.to_vec()))))
}

/// Whether a session is on the standby: `t`, `f`, or what it was refused with.
fn lands(ports: &[u16], target: Target) -> String {
    let proxy = before(ports, target);
    let mut raw = Raw::connect(proxy.port());
    raw.send(&startup(&[("user", "postgres"), ("database", "postgres")]));
    let login = raw.until_ready();
    if !login.ends_with("Z:I") {
        return login;
    }
    raw.query("SELECT pg_is_in_recovery()").replace("T D:", "").replace(" C:SELECT_1 Z:I", "")
}

#[test]
fn sessions_take_the_first_server_that_will_do() {
    let Some(standby) = standby() else { return };
    let (primary, standby) = (server().port(), standby.port());
    let nobody = postgres::free_port().unwrap();
    for (ports, target, expected) in [
        (vec![primary, standby], Target::Any, "f"),
        (vec![standby, primary], Target::Any, "t"),
        (vec![nobody, primary], Target::Any, "f"),
        (vec![standby, primary], Target::Primary, "f"),
        (vec![standby, primary], Target::ReadWrite, "f"),
        (vec![primary, standby], Target::Standby, "t"),
        (vec![primary, standby], Target::ReadOnly, "t"),
        (vec![primary, nobody, standby], Target::PreferStandby, "t"),
        (vec![nobody, primary], Target::PreferStandby, "f"),
        (vec![nobody, standby], Target::Primary, "E:08006 end"),
        (vec![nobody, nobody], Target::Any, "E:08006 end"),
    ] {
        assert_eq!(lands(&ports, target), expected, "{ports:?} {target:?}");
    }
}

#[test]
fn a_server_that_does_not_serve_yet_is_passed_over() {
    use super::protocol::{frame, impostor, packet};
    let starting = impostor(|socket, _| {
        packet(socket);
        let body = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
        socket.write_all(&frame(b'E', body)).unwrap();
    });
    let silent = impostor(|socket, _| drop(packet(socket)));
    let primary = server().port();
    let lands = |ports: &[u16]| {
        let hosts = ports.iter().map(|port| Upstream::Tcp { host: "127.0.0.1".to_owned(), port: *port }).collect();
        let proxy = Running::start_with(|config| {
            config.upstream = Servers { hosts, target: Target::Any, balanced: false };
            config.tls.server.mode = crossfade::proxy::SslMode::Disable;
        });
        let mut raw = Raw::connect(proxy.port());
        raw.send(&startup(&[("user", "postgres"), ("database", "postgres")]));
        raw.until_ready()
    };
    assert!(lands(&[starting, silent, primary]).ends_with("Z:I"));
    // The last one's answer is the client's.
    assert_eq!(lands(&[silent, starting]), "E:57P03 end");
}

#[test]
fn the_clients_own_choice_works_through_the_proxy() {
    let Some(standby) = standby() else { return };
    let (primary, standby) = (Running::start(), before(&[standby.port()], Target::Any));
    let says = |ports: [u16; 2], attrs: &str| {
        let target = format!(
            "host=127.0.0.1,127.0.0.1 port={},{} user=postgres dbname=postgres target_session_attrs={attrs}",
            ports[0], ports[1]
        );
        let output = Command::new(server().binaries().join("psql"))
            .args(["-X", "-At", "-c", "SELECT pg_is_in_recovery()", "-d", &target])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let ports = [primary.port(), standby.port()];
    for (attrs, expected) in [
        ("any", "f"),
        ("read-write", "f"),
        ("primary", "f"),
        ("standby", "t"),
        ("read-only", "t"),
        ("prefer-standby", "t"),
    ] {
        assert_eq!(says(ports, attrs), expected, "{attrs}");
        assert_eq!(says([ports[1], ports[0]], attrs), if attrs == "any" { "t" } else { expected }, "{attrs}");
    }
}

#[test]
fn a_cancel_finds_the_host_of_its_session() {
    let Some(standby) = standby() else { return };
    let nobody = postgres::free_port().unwrap();
    let proxy = before(&[nobody, standby.port(), server().port()], Target::Primary);
    let mut raw = Raw::connect(proxy.port());
    raw.send(&startup(&[("user", "postgres"), ("database", "postgres"), ("application_name", "hosted")]));
    let key = loop {
        let (kind, body) = raw.message().unwrap();
        if kind == b'K' {
            break body;
        }
    };
    raw.until_ready();
    raw.send(&script("Q SELECT pg_sleep(600)"));
    eventually("the statement's beginning", || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hosted' AND wait_event = 'PgSleep'";
        psql(server().port(), "postgres", sql) == "1"
    });
    let mut packet = (8 + key.len() as u32).to_be_bytes().to_vec();
    packet.extend(80_877_102u32.to_be_bytes());
    packet.extend(&key);
    let mut cancel = Raw::connect(proxy.port());
    cancel.send(&packet);
    assert_eq!(cancel.until(|_| false), "end");
    assert_eq!(raw.until_ready(), "T E:57014 Z:I");
}

#[test]
fn a_table_under_migration_is_not_read_on_a_standby() {
    let Some(standby) = standby() else { return };
    let database = database();
    psql(server().port(), &database, rename::TABLE);
    let there = || psql_fails_or(standby.port(), &database, "SELECT count(*) FROM users") == "1";
    eventually("the table on the standby", there);
    let proxy = before(&[standby.port()], Target::Any);
    rename::switch(&proxy, 1);
    let mut raw = Raw::login(proxy.port(), &database);
    assert_eq!(raw.query("SELECT username FROM users"), "E:0A000 Z:I");
    assert_eq!(raw.query("SELECT 1"), "T D:1 C:SELECT_1 Z:I");
}

fn psql_fails_or(port: u16, database: &str, sql: &str) -> String {
    let output = Command::new(server().binaries().join("psql"))
        .args([
            "-X",
            "-q",
            "-At",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-d",
            database,
            "-p",
            &port.to_string(),
            "-c",
            sql,
        ])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn the_control_plane_finds_the_primary() {
    let Some(standby) = standby() else { return };
    let (primary, standby) = (server().port(), standby.port());
    let nobody = postgres::free_port().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("postgres://postgres@127.0.0.1:{nobody},127.0.0.1:{standby},127.0.0.1:{primary}/postgres?target_session_attrs=standby");
        let session = crossfade::control::db::Upstream::parse(&url).unwrap().connect("finds").await.unwrap();
        assert!(!session.query_one("SELECT pg_is_in_recovery()", &[]).await.unwrap().get::<_, bool>(0));
        let alone = crossfade::control::db::Upstream::parse(&format!("postgres://postgres@127.0.0.1:{standby}/postgres"));
        let error = alone.unwrap().connect("finds").await.unwrap_err();
        assert_eq!(error.to_string(), "the server is a standby");
    });
}
