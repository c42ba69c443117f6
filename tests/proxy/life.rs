//! How sessions and sockets end: idle clients, silent peers, files of Unix sockets.

use super::*;

#[test]
fn a_transaction_left_idle_ends_and_nothing_else_does() {
    let proxy = Running::start_with(|config| config.idle_transaction_timeout = Duration::from_millis(1_500));
    let mut idle = Raw::login(proxy.port(), "postgres");
    let mut lazy = Raw::login(proxy.port(), "postgres");
    let mut busy = Raw::login(proxy.port(), "postgres");
    busy.query("BEGIN");
    lazy.query("BEGIN");
    // A statement that runs for longer is not idleness.
    busy.send(&script("Q SELECT pg_sleep(4)"));
    assert_eq!(lazy.until(|_| false), "E:25P03 end");
    assert!(busy.until_ready().ends_with("C:SELECT_1 Z:T"));
    assert_eq!(busy.query("COMMIT"), "C:COMMIT Z:I");
    assert_eq!(idle.query("SELECT 1"), "T D:1 C:SELECT_1 Z:I");
    // A failed transaction is one too.
    idle.query("BEGIN; SELECT 1/0");
    assert_eq!(idle.until(|_| false), "E:25P03 end");
}

#[test]
fn an_idle_session_ends_and_one_in_a_transaction_does_not() {
    let proxy = Running::start_with(|config| config.idle_session_timeout = Duration::from_millis(1_000));
    let mut within = Raw::login(proxy.port(), "postgres");
    within.query("BEGIN");
    let mut idle = Raw::login(proxy.port(), "postgres");
    idle.query("SELECT 1");
    assert_eq!(idle.until(|_| false), "E:57P05 end");
    assert_eq!(within.query("SELECT 1"), "T D:1 C:SELECT_1 Z:T");
    assert_eq!(Raw::login(proxy.port(), "postgres").until(|_| false), "E:57P05 end");
}

#[test]
fn sockets_carry_the_keepalives_that_are_set() {
    use crossfade::proxy::Keepalive;
    let proxy = Running::start_with(|config| {
        config.client_keepalive = Keepalive {
            idle: Duration::from_secs(77),
            interval: Duration::from_secs(7),
            count: 3,
            unacknowledged: Duration::from_secs(21),
        };
        config.server_keepalive = Keepalive { idle: Duration::from_secs(88), ..Keepalive::default() };
    });
    let mut raw = Raw::login(proxy.port(), "postgres");
    assert_eq!(raw.query("SELECT 1"), "T D:1 C:SELECT_1 Z:I");
    // The kernel shows each socket's timer once all that was sent is acknowledged.
    let client = raw.socket.local_addr().unwrap().port();
    let towards_client = format!("127.0.0.1:{} 127.0.0.1:{client} timer:(keepalive,1min1", proxy.port());
    let towards_server = format!("127.0.0.1:{} timer:(keepalive,1min2", server().port());
    eventually("the timers", || {
        let Ok(output) = Command::new("ss").args(["-tnoH"]).output() else {
            println!("left out: ss is not installed (Debian: apt-get install iproute2)");
            return true;
        };
        let lines = String::from_utf8_lossy(&output.stdout);
        let shown = lines.split_whitespace().collect::<Vec<_>>().join(" ");
        shown.contains(&towards_client) && shown.contains(&towards_server)
    });
}

#[test]
fn a_unix_socket_has_its_mode_and_takes_the_place_of_a_dead_one() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".s.PGSQL.6432");
    // What a process that was killed leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listen = path.clone();
    let proxy = Running::start_with(move |config| {
        config.listen_socket = Some(listen);
        config.listen_socket_mode = 0o700;
    });
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    // One that lives is left alone.
    let mut config = ProxyConfig::new(
        "127.0.0.1:0".parse().unwrap(),
        Upstream::Tcp { host: "127.0.0.1".to_owned(), port: server().port() },
    );
    config.listen_socket = Some(path.clone());
    let live = Arc::new(Live::new(Arc::new(Rules::default())));
    let error = Proxy::bind(config, live, Arc::new(Traffic::new())).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(path.exists());
    drop(proxy);
    assert!(!path.exists());
}

#[test]
fn peer_authentication_over_the_servers_socket_is_explained() {
    let proxy = Running::start_with(|config| {
        let path = server().socket_directory().join(format!(".s.PGSQL.{}", server().port()));
        config.upstream = Upstream::Unix { path }.into();
    });
    psql(server().port(), "postgres", "CREATE ROLE peered LOGIN");
    let mut raw = Raw::connect(proxy.port());
    raw.send(&startup(&[("user", "peered"), ("database", "postgres")]));
    let (kind, body) = raw.message().unwrap();
    assert_eq!((kind, wire::error_field(&body, b'C')), (b'E', Some(&b"28000"[..])));
    let hint = String::from_utf8_lossy(wire::error_field(&body, b'H').unwrap()).into_owned();
    assert!(hint.contains("peer cannot be relayed"), "{hint}");
}
