//! TLS on both sides of the proxy: what is set, and the certificates that are in force.
//!
//! Certificates are read again when their files change, at the next handshake; files that cannot be used leave the
//! earlier ones in force and are logged once. Does not move bytes (that is `secured`) and does not decide when a
//! connection is encrypted (that are `startup` and `upstream`).

mod der;
mod files;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ServerConfig};
use serde::Deserialize;

use super::Upstream;
use files::Reloaded;
use verify::ServerCheck;

/// The protocol's name in ALPN.
pub(super) const ALPN: &[u8] = b"postgresql";

/// A record towards a client carries at most this much, in bytes: libpq's asynchronous interface hangs on larger ones.
const RECORD_BYTES_MAX: usize = 8 * 1024;

/// The bytes of a record's header, which rustls counts in.
const RECORD_HEADER_BYTES: usize = 5;

/// TLS towards clients and towards the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Towards clients; without it they are told that there is no TLS.
    pub client: Option<ClientTls>,
    /// Towards the server.
    pub server: ServerTls,
}

/// TLS towards clients. A Unix socket never has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// The proxy's certificate and what leads to its root, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM, not encrypted.
    pub key: PathBuf,
    /// Whose certificates clients may show, as PEM.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Whether clients show certificates.
    #[serde(default)]
    pub client_certificates: ClientCertificates,
    /// Connections over TCP without TLS are refused.
    #[serde(default)]
    pub require: bool,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    Off,
    /// They may; one that is shown must be signed by `client_ca`.
    Optional,
    /// They must. Connections over TCP without TLS are refused too.
    Required,
}

/// TLS towards the server, with the meanings of libpq's parameters. A Unix socket never has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerTls {
    /// `sslmode`.
    pub mode: SslMode,
    /// `sslrootcert`: the roots, as PEM. With it `require` checks as `verify-ca` does.
    pub root_certificate: Option<PathBuf>,
    /// `sslcert`: the proxy's own certificate, as PEM.
    pub certificate: Option<PathBuf>,
    /// `sslkey`: its private key, as PEM, not encrypted.
    pub key: Option<PathBuf>,
    /// `sslnegotiation`.
    pub negotiation: Negotiation,
}

impl ServerTls {
    /// The same certificates for connections of our own to these hosts; `None` where the mode is `disable`, and where all
    /// of them are Unix sockets.
    pub fn client_config(&self, hosts: &[Upstream]) -> io::Result<Option<Arc<ClientConfig>>> {
        let config = TlsConfig { client: None, server: self.clone() };
        let tls = Tls::new(&config, hosts).map_err(io::Error::other)?;
        Ok(tls.server.map(|server| server.current()))
    }
}

/// libpq's `sslmode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS only where the server refuses a connection without it.
    Allow,
    /// TLS where the server has it; without, where that fails.
    #[default]
    Prefer,
    /// TLS. The certificate is checked only where there is a root.
    Require,
    /// TLS with a certificate that leads to the root.
    VerifyCa,
    /// The same, and it names the host.
    VerifyFull,
}

/// libpq's `sslnegotiation`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Negotiation {
    /// PostgreSQL is asked first.
    #[default]
    Postgres,
    /// TLS from the first byte: PostgreSQL 17 and later.
    Direct,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: rustls::pki_types::pem::Error },
    #[error("{}: {what}", path.display())]
    Content { path: PathBuf, what: String },
    #[error("{0}")]
    Setting(&'static str),
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// What the proxy is towards clients.
#[derive(Debug)]
pub(super) struct Identity {
    pub config: Arc<ServerConfig>,
    /// The certificate, as clients tie their SCRAM proofs to it (`tls-server-end-point`).
    pub end_point: Option<Vec<u8>>,
}

/// What the threads of a proxy need for TLS.
#[derive(Debug)]
pub(super) struct Tls {
    /// Towards clients, where there is a certificate.
    pub client: Option<Reloaded<Identity>>,
    /// Clients over TCP must have TLS.
    pub required: bool,
    mode: SslMode,
    pub negotiation: Negotiation,
    server: Option<Reloaded<ClientConfig>>,
}

impl Tls {
    /// Reads the certificates. What is wrong with them ends the proxy before it begins.
    pub fn new(config: &TlsConfig, hosts: &[Upstream]) -> Result<Tls, TlsError> {
        let client = config.client.clone().map(towards_clients).transpose()?;
        let settings = &config.server;
        // Whatever is set for a Unix socket: there is nobody in between.
        let is_tcp = |host: &&Upstream| matches!(host, Upstream::Tcp { .. });
        let mode = if hosts.iter().any(|host| is_tcp(&host)) { settings.mode } else { SslMode::Disable };
        let server = match mode {
            SslMode::Disable => None,
            SslMode::Allow | SslMode::Prefer | SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                let named = hosts.iter().filter(is_tcp).all(|host| name(host).is_some());
                checked(settings, named)?;
                Some(towards_server(settings.clone())?)
            }
        };
        let required = config
            .client
            .as_ref()
            .is_some_and(|client| client.require || client.client_certificates == ClientCertificates::Required);
        Ok(Tls { client, required, mode, negotiation: settings.negotiation, server })
    }

    /// The mode towards this server. As in libpq there is no TLS over a Unix socket.
    pub fn mode(&self, host: &Upstream) -> SslMode {
        match host {
            Upstream::Tcp { .. } => self.mode,
            Upstream::Unix { .. } => SslMode::Disable,
        }
    }

    /// What a connection to this server begins with; an error where TLS is off.
    pub fn towards_server(&self, host: &Upstream) -> io::Result<(Arc<ClientConfig>, ServerName<'static>)> {
        let config = self.server.as_ref().ok_or(io::ErrorKind::Unsupported)?.current();
        // Without a name that TLS can take none is sent, and none is checked: for an address there is no SNI.
        let nobody = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
        Ok((config, name(host).unwrap_or(nobody)))
    }
}

/// The host as TLS takes it: it is sent (where it is no address) and looked for in the certificate.
fn name(host: &Upstream) -> Option<ServerName<'static>> {
    match host {
        Upstream::Tcp { host, .. } => ServerName::try_from(host.trim_end_matches('.').to_owned()).ok(),
        Upstream::Unix { .. } => None,
    }
}

/// libpq refuses these combinations too.
fn checked(settings: &ServerTls, has_name: bool) -> Result<(), TlsError> {
    let verifies = matches!(settings.mode, SslMode::VerifyCa | SslMode::VerifyFull);
    if verifies && settings.root_certificate.is_none() {
        return Err(TlsError::Setting("TLS mode verify-ca or verify-full towards the server needs a root certificate"));
    }
    if settings.mode == SslMode::VerifyFull && !has_name {
        return Err(TlsError::Setting("TLS mode verify-full needs a server's host that a certificate can name"));
    }
    if settings.certificate.is_some() != settings.key.is_some() {
        return Err(TlsError::Setting("TLS towards the server needs certificate and key both, or neither"));
    }
    let weak = matches!(settings.mode, SslMode::Allow | SslMode::Prefer);
    if weak && settings.negotiation == Negotiation::Direct {
        return Err(TlsError::Setting("direct TLS negotiation needs mode require, verify-ca or verify-full"));
    }
    Ok(())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn towards_clients(settings: ClientTls) -> Result<Reloaded<Identity>, TlsError> {
    if settings.client_certificates != ClientCertificates::Off && settings.client_ca.is_none() {
        return Err(TlsError::Setting("client certificates are asked for, but no client_ca is set to check them by"));
    }
    let paths = [Some(settings.certificate.clone()), Some(settings.key.clone()), settings.client_ca.clone()];
    Reloaded::new(paths.into_iter().flatten().collect(), move || identity(&settings))
}

fn identity(settings: &ClientTls) -> Result<Identity, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let roots = || match &settings.client_ca {
        Some(path) => Ok(Arc::new(files::roots(path)?.0)),
        None => Err(TlsError::Setting("client_ca is not set")),
    };
    let verifier = |roots| WebPkiClientVerifier::builder_with_provider(roots, provider());
    let built = match settings.client_certificates {
        ClientCertificates::Off => Ok(WebPkiClientVerifier::no_client_auth()),
        ClientCertificates::Optional => verifier(roots()?).allow_unauthenticated().build(),
        ClientCertificates::Required => verifier(roots()?).build(),
    };
    let verifier = built.map_err(|error| rustls::Error::General(error.to_string()))?;
    let chain = files::certificates(&settings.certificate)?;
    let key = files::key(&settings.key)?;
    let end_point = chain.first().and_then(|certificate| der::end_point(certificate));
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&settings.certificate, &error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_fragment_size = Some(RECORD_BYTES_MAX + RECORD_HEADER_BYTES);
    // PostgreSQL resumes no TLS sessions either: clients open connections to keep them.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Identity { config: Arc::new(config), end_point })
}

fn unusable(path: &Path, error: &rustls::Error) -> TlsError {
    TlsError::Content { path: path.to_owned(), what: format!("this certificate cannot be used: {error}") }
}

fn towards_server(settings: ServerTls) -> Result<Reloaded<ClientConfig>, TlsError> {
    let paths = [settings.root_certificate.clone(), settings.certificate.clone(), settings.key.clone()];
    Reloaded::new(paths.into_iter().flatten().collect(), move || client_config(&settings))
}

fn client_config(settings: &ServerTls) -> Result<ClientConfig, TlsError> {
    let check = ServerCheck::new(settings, provider())?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(check));
    let mut config = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(files::certificates(certificate)?, files::key(key)?)
            .map_err(|error| unusable(certificate, &error))?,
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}
