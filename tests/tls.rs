//! TLS on either side of the proxy, before a real PostgreSQL: who is let in, how, and what is said to the others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crossfade::control;
use crossfade::control::live::Live;
use crossfade::control::traffic::Traffic;
use crossfade::control::verifier;
use crossfade::demo::postgres::{self, Postgres};
use crossfade::migration::Rules;
use crossfade::proxy::{
    ClientCertificates, ClientTls, Negotiation, Proxy, ProxyConfig, SslMode, TlsConfig, Upstream, VerifierFuture,
    Verifiers,
};
use crossfade::schema::{Refusal, SqlState};
use crossfade::wire;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// How long anything in these tests may take.
const DEADLINE: Duration = Duration::from_secs(20);

const PASSWORD: &str = "correct horse";

const HBA: &str = "\
local all all trust
host all scrammed 127.0.0.1/32 scram-sha-256
host all expired 127.0.0.1/32 scram-sha-256
host all hashed 127.0.0.1/32 md5
host all passworded 127.0.0.1/32 password
hostssl all tlsonly 127.0.0.1/32 trust
hostnossl all plainonly 127.0.0.1/32 trust
hostssl all certified 127.0.0.1/32 cert
host all postgres 127.0.0.1/32 trust
host all nobody 127.0.0.1/32 scram-sha-256
";

/// Certificates in a folder: `ca`, `server` (for localhost), `proxy` (for localhost and 127.0.0.1), `client` (whose
/// common name is the role "certified"), each `.crt` and `.key`; `other.crt`, a root of nobody.
struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        if name.ends_with(".key") {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        }
    }

    fn sign(&self, name: &str, common: &str, names: &[&str]) {
        let (certificate, key) = signed(common, names);
        self.write(&format!("{name}.crt"), &certificate);
        self.write(&format!("{name}.key"), &key);
    }
}

fn authority() -> &'static CertifiedIssuer<'static, KeyPair> {
    static AUTHORITY: OnceLock<CertifiedIssuer<'static, KeyPair>> = OnceLock::new();
    AUTHORITY.get_or_init(|| root("Test root"))
}

fn root(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate of the authority, and its key, as PEM.
fn signed(common: &str, names: &[&str]) -> (String, String) {
    let mut params = CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, common);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority()).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn certificates() -> &'static Certificates {
    static CERTIFICATES: OnceLock<Certificates> = OnceLock::new();
    CERTIFICATES.get_or_init(made)
}

fn made() -> Certificates {
    let folder = tempfile::tempdir().unwrap();
    // The server's user reads its key from here.
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let made = Certificates { folder };
    made.write("ca.crt", &authority().pem());
    made.write("other.crt", &root("Somebody else's root").pem());
    made.sign("server", "server", &["localhost"]);
    made.sign("proxy", "proxy", &["localhost", "127.0.0.1"]);
    made.sign("client", "certified", &["certified"]);
    made
}

fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let files = certificates();
        let id = Command::new("id").args(["-u", "postgres"]).output().unwrap();
        let id: Option<u32> = String::from_utf8_lossy(&id.stdout).trim().parse().ok();
        // Where the tests do not run as root the server runs as their own user, and this need not succeed.
        let _ = std::os::unix::fs::chown(files.path("server.key"), id, None);
        let path = |name: &str| files.path(name).display().to_string();
        let settings = [
            ("ssl", "on"),
            ("ssl_cert_file", &path("server.crt")),
            ("ssl_key_file", &path("server.key")),
            ("ssl_ca_file", &path("ca.crt")),
            // What servers before 14 do not begin with.
            ("password_encryption", "scram-sha-256"),
        ];
        let binaries = postgres::find_binaries().expect("PostgreSQL is installed");
        let server = Postgres::start_with(&binaries, &settings, Some(HBA)).expect("a server starts");
        let roles = format!(
            "CREATE ROLE scrammed LOGIN PASSWORD '{PASSWORD}';
             CREATE ROLE expired LOGIN PASSWORD '{PASSWORD}' VALID UNTIL '2001-01-01';
             CREATE ROLE passworded LOGIN PASSWORD '{PASSWORD}';
             CREATE ROLE tlsonly LOGIN; CREATE ROLE plainonly LOGIN; CREATE ROLE certified LOGIN;
             SET password_encryption = md5;
             CREATE ROLE hashed LOGIN PASSWORD '{PASSWORD}'"
        );
        let target = format!("host=127.0.0.1 port={} user=postgres dbname=postgres sslmode=disable", server.port());
        let made = psql_of(server.binaries(), &target, &["-c", &roles], None);
        assert!(made.ok, "{}", made.errors);
        server
    })
}

/// The server's major version.
fn major() -> u32 {
    let target = format!("host=127.0.0.1 port={} user=postgres dbname=postgres sslmode=disable", server().port());
    let version = psql_of(server().binaries(), &target, &["-c", "SHOW server_version_num"], None).output;
    version.trim().parse::<u32>().unwrap() / 10_000
}

/// What psql did.
#[derive(Debug)]
struct Told {
    ok: bool,
    output: String,
    errors: String,
}

fn psql_of(binaries: &Path, target: &str, arguments: &[&str], input: Option<&[u8]>) -> Told {
    let mut psql = Command::new(binaries.join("psql"))
        .args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", target])
        .args(arguments)
        .env("PGPASSWORD", PASSWORD)
        .env("PGCONNECT_TIMEOUT", "20")
        .env("HOME", "/nowhere")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = psql.stdin.take().unwrap();
    let input = input.unwrap_or_default().to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = psql.wait_with_output().unwrap();
    writer.join().unwrap();
    Told {
        ok: output.status.success(),
        output: String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
        errors: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
    }
}

/// Logs in and asks whether the server's side has TLS: `t` or `f`.
const SERVER_HAS_TLS: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// A proxy that runs until it is dropped.
struct Running {
    port: u16,
    shutdown: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Reads verifiers as `postgres`.
#[derive(Debug)]
struct AsSuperuser;

impl Verifiers for AsSuperuser {
    fn verifier(self: Arc<Self>, role: String) -> VerifierFuture {
        Box::pin(async move {
            let url = server().url("postgres");
            let (client, connection) =
                tokio_postgres::connect(&url, tokio_postgres::NoTls).await.map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            verifier::verifier(&client, &role).await.map_err(|error| error.to_string())
        })
    }
}

fn config(tls: TlsConfig) -> ProxyConfig {
    let upstream = Upstream::Tcp { host: "127.0.0.1".to_owned(), port: server().port() };
    let mut config = ProxyConfig::new("127.0.0.1:0".parse().unwrap(), upstream);
    config.threads = 2;
    config.tls = tls;
    config
}

impl Running {
    fn start(tls: TlsConfig) -> Running {
        Running::start_with(config(tls), Some(Arc::new(AsSuperuser)))
    }

    fn start_with(config: ProxyConfig, verifiers: Option<Arc<dyn Verifiers>>) -> Running {
        let live = Arc::new(Live::new(Arc::new(Rules::default())));
        live.lease(true);
        live.make_ready();
        let mut proxy = Proxy::bind(config, live, Arc::new(Traffic::new())).unwrap();
        if let Some(verifiers) = verifiers {
            proxy = proxy.with_verifiers(verifiers);
        }
        let port = proxy.local_addr().unwrap().port();
        let (shutdown, ends) = watch::channel(false);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(proxy.run(ends)).unwrap();
        });
        Running { port, shutdown, thread: Some(thread) }
    }

    /// psql with these further words in its connection string.
    fn psql(&self, words: &str, sql: &str) -> Told {
        self.psql_with(words, &["-c", sql], None)
    }

    fn psql_with(&self, words: &str, arguments: &[&str], input: Option<&[u8]>) -> Told {
        let target = format!("hostaddr=127.0.0.1 port={} dbname=postgres {words}", self.port);
        psql_of(server().binaries(), &target, arguments, input)
    }

    /// Expects one line of output.
    #[track_caller]
    fn prints(&self, words: &str, sql: &str, expected: &str) {
        let told = self.psql(words, sql);
        assert!(told.ok, "{words}: {}", told.errors);
        assert_eq!(told.output, expected, "{words}");
    }

    /// Expects an error with these words in it.
    #[track_caller]
    fn fails(&self, words: &str, expected: &[&str]) {
        let told = self.psql(words, "SELECT 1");
        assert!(!told.ok, "{words}: {}", told.output);
        for part in expected {
            assert!(told.errors.contains(part), "{words}: {} has no {part:?}", told.errors);
        }
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

fn client_tls() -> ClientTls {
    ClientTls {
        certificate: certificates().path("proxy.crt"),
        key: certificates().path("proxy.key"),
        client_ca: None,
        client_certificates: ClientCertificates::Off,
        require: false,
    }
}

fn towards_clients(client: ClientTls) -> TlsConfig {
    let mut tls = TlsConfig { client: Some(client), ..TlsConfig::default() };
    tls.server.mode = SslMode::Disable;
    tls
}

fn towards_server(mode: SslMode) -> TlsConfig {
    let mut tls = TlsConfig::default();
    tls.server.mode = mode;
    if matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull) {
        tls.server.root_certificate = Some(certificates().path("ca.crt"));
    }
    tls
}

fn both() -> TlsConfig {
    TlsConfig { client: Some(client_tls()), ..towards_server(SslMode::Require) }
}

/// A socket that remembers what it read.
struct Tap {
    socket: TcpStream,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let size = self.socket.read(buffer)?;
        self.seen.lock().unwrap().extend_from_slice(&buffer[..size]);
        Ok(size)
    }
}

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.socket.flush()
    }
}

/// A client of our own, under TLS.
struct Raw {
    stream: StreamOwned<ClientConnection, Tap>,
    seen: Arc<Mutex<Vec<u8>>>,
}

fn tcp(port: u16) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

impl Raw {
    /// A handshake over this socket, offering these protocols.
    fn over(socket: TcpStream, alpn: &[&[u8]]) -> Result<Raw, std::io::Error> {
        let (config, name) = Raw::config(alpn);
        let connection = ClientConnection::new(config, name).unwrap();
        let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
        let mut stream = StreamOwned::new(connection, Tap { socket, seen: seen.clone() });
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Raw { stream, seen })
    }

    /// How this client shakes hands.
    fn config(alpn: &[&[u8]]) -> (Arc<ClientConfig>, ServerName<'static>) {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificates().path("ca.crt")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        (Arc::new(config), ServerName::try_from("localhost").unwrap())
    }

    /// Asks first, then shakes hands.
    fn asked(port: u16) -> Raw {
        let mut socket = tcp(port);
        socket.write_all(&wire::SSL_REQUEST_PACKET).unwrap();
        assert_eq!(byte(&mut socket), Some(b'S'));
        Raw::over(socket, &[]).unwrap()
    }

    fn login(&mut self, user: &str) -> String {
        self.stream.write_all(&startup(user)).unwrap();
        self.until_ready()
    }

    fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 5];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return None,
            Err(error) => panic!("no answer: {error}"),
        }
        let size = wire::header(&header, wire::Peer::Server).unwrap().unwrap().size;
        let mut body = vec![0; size - 5];
        self.stream.read_exact(&mut body).unwrap();
        Some((header[0], body))
    }

    /// The types of the messages up to ReadyForQuery or the end, errors with their SQLSTATE.
    fn until_ready(&mut self) -> String {
        let mut shown = String::new();
        while let Some((kind, body)) = self.message() {
            shown.push(char::from(kind));
            if kind == b'E' {
                shown.push_str(&String::from_utf8_lossy(wire::error_field(&body, b'C').unwrap()));
            }
            if kind == b'Z' {
                return shown;
            }
        }
        shown + " end"
    }

    fn query(&mut self, text: &str) -> String {
        let mut bytes = Vec::new();
        wire::query(&mut bytes, text.as_bytes());
        self.stream.write_all(&bytes).unwrap();
        self.until_ready()
    }

    fn certificate(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().unwrap()[0].to_vec()
    }
}

fn startup(user: &str) -> Vec<u8> {
    let body = format!("\0\u{3}\0\0user\0{user}\0database\0postgres\0\0");
    [&(body.len() as u32 + 4).to_be_bytes()[..], body.as_bytes()].concat()
}

fn gss_request() -> [u8; 8] {
    [0, 0, 0, 8, 4, 210, 22, 48]
}

/// The next byte; `None` at the end.
fn byte(socket: &mut TcpStream) -> Option<u8> {
    let mut byte = [0];
    match socket.read(&mut byte) {
        Ok(0) => None,
        Ok(_) => Some(byte[0]),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
        Err(error) => panic!("no answer: {error}"),
    }
}

#[test]
fn clients_have_tls_in_every_mode_of_theirs() {
    let proxy = Running::start(towards_clients(client_tls()));
    let root = certificates().path("ca.crt").display().to_string();
    let other = certificates().path("other.crt").display().to_string();
    for (words, has_tls) in [
        ("sslmode=disable".to_owned(), false),
        ("sslmode=allow".to_owned(), false),
        ("sslmode=prefer".to_owned(), true),
        ("sslmode=require".to_owned(), true),
        ("sslmode=require ssl_max_protocol_version=TLSv1.2".to_owned(), true),
        (format!("sslmode=verify-ca sslrootcert={root}"), true),
        (format!("sslmode=verify-full host=localhost sslrootcert={root}"), true),
    ] {
        let told = proxy.psql(&format!("user=postgres {words}"), "\\conninfo");
        assert!(told.ok, "{words}: {}", told.errors);
        assert_eq!(told.output.contains("SSL connection"), has_tls, "{words}: {}", told.output);
        proxy.prints(&format!("user=postgres {words}"), SERVER_HAS_TLS, "f");
    }
    proxy.fails(&format!("user=postgres sslmode=verify-ca sslrootcert={other}"), &["certificate verify failed"]);
}

#[test]
fn without_a_certificate_tls_is_declined() {
    let proxy = Running::start(towards_server(SslMode::Disable));
    proxy.prints("user=postgres sslmode=prefer", "SELECT 1", "1");
    proxy.fails("user=postgres sslmode=require", &["server does not support SSL"]);
    let mut socket = tcp(proxy.port);
    // The beginning of a TLS handshake.
    socket.write_all(&[0x16, 3, 1, 0, 100]).unwrap();
    assert_eq!(byte(&mut socket), None);
}

#[test]
fn plaintext_is_refused_where_tls_is_required() {
    let proxy = Running::start(towards_clients(ClientTls { require: true, ..client_tls() }));
    proxy.fails("user=postgres sslmode=disable", &["connections to the proxy need TLS", "sslmode=require"]);
    // libpq tries again with TLS.
    proxy.prints("user=postgres sslmode=allow", "SELECT 1", "1");
}

#[test]
fn what_stands_behind_a_request_for_encryption_ends_the_connection() {
    let proxy = Running::start(towards_clients(client_tls()));
    for request in [wire::SSL_REQUEST_PACKET, gss_request()] {
        let mut socket = tcp(proxy.port);
        socket.write_all(&[&request[..], &startup("postgres")].concat()).unwrap();
        assert_eq!(byte(&mut socket), None);
    }
}

#[test]
fn each_encryption_is_asked_for_once_in_either_order() {
    let proxy = Running::start(towards_clients(client_tls()));
    let mut socket = tcp(proxy.port);
    socket.write_all(&gss_request()).unwrap();
    assert_eq!(byte(&mut socket), Some(b'N'));
    socket.write_all(&wire::SSL_REQUEST_PACKET).unwrap();
    assert_eq!(byte(&mut socket), Some(b'S'));
    let mut raw = Raw::over(socket, &[]).unwrap();
    assert!(raw.login("postgres").ends_with('Z'));

    let mut socket = tcp(proxy.port);
    for expected in [b'N', b'E'] {
        socket.write_all(&gss_request()).unwrap();
        assert_eq!(byte(&mut socket), Some(expected));
    }
    for request in [wire::SSL_REQUEST_PACKET, gss_request()] {
        let mut raw = Raw::asked(proxy.port);
        raw.stream.write_all(&request).unwrap();
        assert_eq!(raw.until_ready(), "E08P01 end");
    }
}

#[test]
fn direct_tls_names_its_protocol() {
    let proxy = Running::start(towards_clients(client_tls()));
    let mut raw = Raw::over(tcp(proxy.port), &[b"postgresql"]).unwrap();
    assert!(raw.login("postgres").ends_with('Z'));
    assert_eq!(raw.query("SELECT 1"), "TDCZ");
    // A client that names nothing is told; one that names another protocol gets no handshake.
    assert_eq!(Raw::over(tcp(proxy.port), &[]).unwrap().until_ready(), "E08P01 end");
    assert!(Raw::over(tcp(proxy.port), &[b"http/1.1"]).is_err());
}

#[test]
fn a_session_ends_with_a_close_notify() {
    let proxy = Running::start(both());
    let mut raw = Raw::asked(proxy.port);
    assert!(raw.login("postgres").ends_with('Z'));
    // `message` panics at an end without one.
    let mut bytes = Vec::new();
    wire::query(&mut bytes, b"SELECT pg_terminate_backend(pg_backend_pid())");
    raw.stream.write_all(&bytes).unwrap();
    let end = raw.until_ready();
    assert!(end.ends_with("E57P01 end"), "{end}");
    assert!(raw.stream.conn.process_new_packets().unwrap().peer_has_closed());
}

#[test]
fn records_towards_clients_are_small() {
    let proxy = Running::start(both());
    let mut raw = Raw::asked(proxy.port);
    assert!(raw.login("postgres").ends_with('Z'));
    raw.seen.lock().unwrap().clear();
    assert_eq!(raw.query("SELECT repeat('x', 1000000)"), "TDCZ");
    let seen = raw.seen.lock().unwrap();
    let mut rest = &seen[..];
    let mut largest = 0;
    while let Some(&[_, _, _, high, low]) = rest.first_chunk::<5>() {
        let size = usize::from(u16::from_be_bytes([high, low]));
        largest = largest.max(size);
        rest = &rest[(5 + size).min(rest.len())..];
    }
    // Eight KB and TLS 1.3's own: the true type and a tag.
    assert!((4096..=8192 + 17).contains(&largest), "{largest}");
}

#[test]
fn clients_show_certificates() {
    let files = certificates();
    let mut client = client_tls();
    client.client_ca = Some(files.path("ca.crt"));
    client.client_certificates = ClientCertificates::Required;
    let proxy = Running::start(towards_clients(client.clone()));
    let shown = format!("sslcert={} sslkey={}", files.path("client.crt").display(), files.path("client.key").display());
    proxy.prints(&format!("user=postgres sslmode=require {shown}"), "SELECT 1", "1");
    proxy.fails("user=postgres sslmode=require", &["certificate required"]);
    proxy.fails("user=postgres sslmode=disable", &["connections to the proxy need TLS"]);

    client.client_certificates = ClientCertificates::Optional;
    let proxy = Running::start(towards_clients(client.clone()));
    proxy.prints(&format!("user=postgres sslmode=require {shown}"), "SELECT 1", "1");
    proxy.prints("user=postgres sslmode=require", "SELECT 1", "1");
    drop(proxy);
    client.client_ca = Some(files.path("other.crt"));
    let proxy = Running::start(towards_clients(client));
    proxy.fails(&format!("user=postgres sslmode=require {shown}"), &["unknown ca"]);
}

#[test]
fn certificates_are_read_again_when_they_change() {
    let files = made();
    let client = ClientTls { certificate: files.path("proxy.crt"), key: files.path("proxy.key"), ..client_tls() };
    let proxy = Running::start(towards_clients(client));
    let mut old = Raw::asked(proxy.port);
    assert!(old.login("postgres").ends_with('Z'));
    let (certificate, key) = signed("proxy", &["localhost"]);
    files.write("proxy.crt", &certificate);
    // A certificate without its key is not used yet.
    assert_eq!(Raw::asked(proxy.port).certificate(), old.certificate());
    files.write("proxy.key", &key);
    let new = Raw::asked(proxy.port).certificate();
    assert_eq!(new, CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap().to_vec());
    for broken in ["", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"] {
        files.write("proxy.crt", broken);
        assert_eq!(Raw::asked(proxy.port).certificate(), new);
    }
    std::fs::remove_file(files.path("proxy.crt")).unwrap();
    assert_eq!(Raw::asked(proxy.port).certificate(), new);
    assert_eq!(old.query("SELECT 1"), "TDCZ");
}

#[test]
fn settings_that_cannot_work_are_told_at_the_start() {
    let check = |tls: TlsConfig, expected: &str| {
        let live = Arc::new(Live::new(Arc::new(Rules::default())));
        let error = Proxy::bind(config(tls), live, Arc::new(Traffic::new())).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let missing = PathBuf::from("/nowhere/at.all");
    check(towards_clients(ClientTls { certificate: missing.clone(), ..client_tls() }), "/nowhere/at.all");
    check(towards_clients(ClientTls { key: certificates().path("ca.crt"), ..client_tls() }), "no private key");
    check(towards_clients(ClientTls { key: certificates().path("client.key"), ..client_tls() }), "cannot be used");
    let asked = ClientTls { client_certificates: ClientCertificates::Optional, ..client_tls() };
    check(towards_clients(asked), "client_ca");
    let mut tls = towards_server(SslMode::VerifyFull);
    tls.server.root_certificate = None;
    check(tls, "needs a root certificate");
    let mut tls = towards_server(SslMode::Prefer);
    tls.server.negotiation = Negotiation::Direct;
    check(tls, "direct TLS negotiation");
    let mut tls = towards_server(SslMode::Require);
    tls.server.root_certificate = Some(missing);
    check(tls, "/nowhere/at.all");
}

#[test]
fn the_server_has_tls_in_every_mode() {
    for (mode, has_tls) in [
        (SslMode::Disable, "f"),
        (SslMode::Allow, "f"),
        (SslMode::Prefer, "t"),
        (SslMode::Require, "t"),
        (SslMode::VerifyCa, "t"),
    ] {
        let proxy = Running::start(towards_server(mode));
        proxy.prints("user=postgres", SERVER_HAS_TLS, has_tls);
        // The weak modes try the other way where the server refuses the first.
        match mode {
            SslMode::Disable => {
                let said = if major() < 14 { "SSL off" } else { "no encryption" };
                proxy.fails("user=tlsonly", &["no pg_hba.conf entry", said]);
            }
            SslMode::Allow | SslMode::Prefer => {
                proxy.prints("user=tlsonly", SERVER_HAS_TLS, "t");
                proxy.prints("user=plainonly", SERVER_HAS_TLS, "f");
            }
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                let said = if major() < 14 { "SSL on" } else { "SSL encryption" };
                proxy.fails("user=plainonly", &["no pg_hba.conf entry", said]);
            }
        }
        proxy.fails("user=postgres dbname=nothing", &["database \"nothing\" does not exist"]);
    }
}

#[test]
fn the_servers_certificate_is_checked() {
    let upstream = |host: &str, tls| {
        let mut config = config(tls);
        config.upstream = Upstream::Tcp { host: host.to_owned(), port: server().port() }.into();
        Running::start_with(config, None)
    };
    upstream("localhost", towards_server(SslMode::VerifyFull)).prints("user=postgres", SERVER_HAS_TLS, "t");
    let wrong = upstream("127.0.0.1", towards_server(SslMode::VerifyFull));
    wrong.fails("user=postgres", &["does not match the host name", "alternative name", "verify-ca"]);
    let told = wrong.psql("user=postgres", "SELECT 1").errors;
    assert!(told.contains("could not connect to the server behind the proxy"), "{told}");
    for mode in [SslMode::VerifyCa, SslMode::Require] {
        let mut tls = towards_server(mode);
        tls.server.root_certificate = Some(certificates().path("other.crt"));
        upstream("localhost", tls).fails("user=postgres", &["UnknownIssuer", "root certificate"]);
    }
}

#[test]
fn a_server_that_signed_itself_is_its_own_root() {
    // As PostgreSQL's documentation makes one: a root that serves, with a common name and no other.
    let scratch = tempfile::tempdir().unwrap();
    std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let (crt, key) = (scratch.path().join("own.crt"), scratch.path().join("own.key"));
    std::fs::write(&crt, own.pem()).unwrap();
    std::fs::write(&key, own.key().serialize_pem()).unwrap();
    // A stand-in for the server: it answers the request, shakes hands and ends.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = std::thread::spawn(move || {
        let chain = vec![CertificateDer::from_pem_file(crt).unwrap()];
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        let mut request = [0; 8];
        socket.read_exact(&mut request).unwrap();
        assert_eq!(request, wire::SSL_REQUEST_PACKET);
        socket.write_all(b"S").unwrap();
        let connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        let mut first = [0; 4];
        stream.read_exact(&mut first).unwrap();
        let mut fatal = Vec::new();
        wire::fatal_response(&mut fatal, &Refusal::new(SqlState::INVALID_AUTHORIZATION, "stand-in"));
        stream.write_all(&fatal).unwrap();
        assert_eq!(stream.conn.server_name(), Some("localhost"));
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    let mut tls = towards_server(SslMode::VerifyFull);
    tls.server.root_certificate = Some(scratch.path().join("own.crt"));
    let mut config = config(tls);
    config.upstream = Upstream::Tcp { host: "localhost".to_owned(), port }.into();
    Running::start_with(config, None).fails("user=postgres", &["stand-in"]);
    served.join().unwrap();
}

#[test]
fn the_proxy_shows_its_certificate_to_the_server() {
    let files = certificates();
    let mut tls = towards_server(SslMode::Require);
    tls.server.certificate = Some(files.path("client.crt"));
    tls.server.key = Some(files.path("client.key"));
    Running::start(tls).prints("user=certified", SERVER_HAS_TLS, "t");
    let without = Running::start(towards_server(SslMode::Require));
    without.fails("user=certified", &["requires a valid client certificate"]);
}

#[test]
fn a_server_without_tls_is_told_of() {
    let binaries = postgres::find_binaries().unwrap();
    let plain = Postgres::start_with(&binaries, &[], None).unwrap();
    let through = |mode| {
        let mut config = config(towards_server(mode));
        config.upstream = Upstream::Tcp { host: "127.0.0.1".to_owned(), port: plain.port() }.into();
        Running::start_with(config, None)
    };
    through(SslMode::Prefer).prints("user=postgres", "SELECT 1", "1");
    through(SslMode::Require).fails("user=postgres", &["the server does not support it", "ssl = on"]);
    // Direct TLS is for PostgreSQL 17: an older one ends the handshake.
    let mut tls = towards_server(SslMode::Require);
    tls.server.negotiation = Negotiation::Direct;
    if major() < 17 {
        Running::start(tls).fails("user=postgres", &["There is no TLS between the proxy and PostgreSQL"]);
    } else {
        Running::start(tls).prints("user=postgres", SERVER_HAS_TLS, "t");
    }
    // A Unix socket has no TLS, whatever is set.
    let mut config = config(towards_server(SslMode::Require));
    config.upstream =
        Upstream::Unix { path: server().socket_directory().join(format!(".s.PGSQL.{}", server().port())) }.into();
    Running::start_with(config, None).prints("user=postgres", "SELECT 1", "1");
}

#[test]
fn passwords_pass_in_every_combination() {
    for (clients, mode) in
        [(false, SslMode::Disable), (false, SslMode::Require), (true, SslMode::Disable), (true, SslMode::Require)]
    {
        let tls = TlsConfig { client: clients.then(client_tls), ..towards_server(mode) };
        let proxy = Running::start(tls);
        let sslmode = if clients { "require" } else { "disable" };
        for user in ["scrammed", "hashed", "passworded"] {
            let expected = if mode == SslMode::Require { "t" } else { "f" };
            proxy.prints(&format!("user={user} sslmode={sslmode}"), SERVER_HAS_TLS, expected);
            let wrong = format!("user={user} sslmode={sslmode} password=wrong");
            proxy.fails(&wrong, &[&format!("FATAL:  password authentication failed for user \"{user}\"")]);
        }
        for user in ["expired", "nobody"] {
            let words = format!("user={user} sslmode={sslmode}");
            proxy.fails(&words, &[&format!("FATAL:  password authentication failed for user \"{user}\"")]);
        }
    }
}

#[test]
fn scram_over_two_tls_connections_needs_the_verifier() {
    let proxy = Running::start_with(config(both()), None);
    let expected = ["SCRAM login with TLS on both sides", "pg_authid", "channel_binding=disable"];
    proxy.fails("user=scrammed sslmode=require", &expected);
    proxy.fails("user=scrammed sslmode=require channel_binding=require", &["channel binding is required"]);
    // These need none.
    proxy.prints("user=scrammed sslmode=require channel_binding=disable", SERVER_HAS_TLS, "t");
    proxy.prints("user=passworded sslmode=require", SERVER_HAS_TLS, "t");
    proxy.prints("user=scrammed sslmode=disable", SERVER_HAS_TLS, "t");
}

#[test]
fn clients_bind_their_logins_to_the_proxys_certificate() {
    let proxy = Running::start(both());
    let words = "user=scrammed sslmode=require channel_binding=require";
    proxy.prints(words, SERVER_HAS_TLS, "t");
    proxy.fails(&format!("{words} password=wrong"), &["password authentication failed for user \"scrammed\""]);
    proxy.fails(&words.replace("scrammed", "expired"), &["password authentication failed for user \"expired\""]);
    proxy.prints(&words.replace("require", "disable").replace("sslmode=disable", "sslmode=require"), "SELECT 1", "1");
}

#[tokio::test]
async fn our_own_connections_have_tls_too() {
    let connect = |host: &'static str| async move {
        let tls = towards_server(SslMode::VerifyFull).server;
        let connector = control::tls::Connector::new(
            tls.client_config(&[Upstream::Tcp { host: host.to_owned(), port: 0 }]).unwrap().unwrap(),
        );
        let words = format!("host={host} port={} user=scrammed password='{PASSWORD}'", server().port());
        let words = format!("{words} dbname=postgres sslmode=require");
        let (client, connection) = tokio_postgres::connect(&words, connector).await?;
        tokio::spawn(connection);
        Ok::<bool, tokio_postgres::Error>(client.query_one(SERVER_HAS_TLS, &[]).await?.get(0))
    };
    assert!(connect("localhost").await.unwrap());
    assert!(connect("127.0.0.1").await.is_err());
}

#[test]
fn a_cancel_passes_over_tls() {
    let proxy = Running::start(both());
    let mut raw = Raw::asked(proxy.port);
    raw.stream.write_all(&startup("postgres")).unwrap();
    let mut key = Vec::new();
    loop {
        match raw.message().unwrap() {
            (b'K', body) => key = body,
            (b'Z', _) => break,
            _ => {}
        }
    }
    let mut bytes = Vec::new();
    wire::query(&mut bytes, b"SELECT pg_sleep(60)");
    raw.stream.write_all(&bytes).unwrap();
    let request = [&(key.len() as u32 + 8).to_be_bytes()[..], &80_877_102u32.to_be_bytes(), &key].concat();
    let deadline = std::time::Instant::now() + DEADLINE;
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'";
    while proxy.psql("user=postgres sslmode=require", running).output != "1" {
        assert!(std::time::Instant::now() < deadline, "the query does not begin");
    }
    let mut canceller = Raw::asked(proxy.port);
    canceller.stream.write_all(&request).unwrap();
    assert_eq!(canceller.message(), None);
    assert_eq!(raw.until_ready(), "TE57014Z");
}

/// Questions of 1 kB and answers of 2 kB, all on their way at once.
#[tokio::test]
async fn pipelines_pass_over_tls_both_ways_at_once() {
    const QUESTIONS: usize = 3000;
    let proxy = Running::start(both());
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
    socket.write_all(&wire::SSL_REQUEST_PACKET).await.unwrap();
    assert_eq!(socket.read_u8().await.unwrap(), b'S');
    let (config, name) = Raw::config(&[]);
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, socket).await.unwrap();
    let (mut reads, mut writes) = tokio::io::split(stream);
    let asking = async {
        let text = format!("SELECT repeat('x', 2000) -- {}", "y".repeat(1000));
        let mut all = startup("postgres");
        (0..QUESTIONS).for_each(|_| wire::query(&mut all, text.as_bytes()));
        writes.write_all(&all).await.unwrap();
        writes.flush().await.unwrap();
    };
    let reading = async {
        let mut ready = 0;
        let mut body = Vec::new();
        // Once for the login.
        while ready < QUESTIONS + 1 {
            let mut header = [0; 5];
            reads.read_exact(&mut header).await.unwrap();
            let header = wire::header(&header, wire::Peer::Server).unwrap().unwrap();
            body.resize(header.size - 5, 0);
            reads.read_exact(&mut body).await.unwrap();
            assert_ne!(header.kind, b'E');
            ready += usize::from(header.kind == b'Z');
        }
    };
    tokio::time::timeout(DEADLINE, async { tokio::join!(asking, reading) }).await.expect("nothing stalls");
}

#[test]
fn much_passes_over_tls_both_ways() {
    for version in ["TLSv1.2", "TLSv1.3"] {
        let proxy = Running::start(both());
        let words = format!("user=postgres sslmode=require ssl_max_protocol_version={version}");
        let out = "COPY (SELECT repeat('x', 999) FROM generate_series(1, 20000)) TO STDOUT";
        let told = proxy.psql_with(&words, &["-c", out], None);
        assert!(told.ok, "{}", told.errors);
        assert_eq!(told.output.len(), 20_000_000 - 1);
        let table = format!("bulk_{}", version.replace('.', "_"));
        let create = format!("CREATE TABLE {table} (line text)");
        let copy = format!("COPY {table} FROM STDIN");
        let sum = format!("SELECT count(*), sum(length(line)) FROM {table}");
        let told = proxy.psql_with(&words, &["-c", &create, "-c", &copy, "-c", &sum], Some(told.output.as_bytes()));
        assert!(told.ok, "{}", told.errors);
        assert_eq!(told.output, "20000|19980000");
    }
}
