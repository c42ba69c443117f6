//! A connection from its first byte to where a session begins: encryption requests, cancel requests, the first packet.
//!
//! The packet goes to the server byte for byte. Nothing that came before TLS is taken for what comes under it.

use std::io;
use std::time::Duration;

use futures_util::poll;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::login::Means;
use super::socket::Socket;
use super::tls::{ALPN, Tls};
use super::{ProxyConfig, Upstream, upstream};
use crate::migration::Shape;
use crate::schema::{Refusal, SqlState};
use crate::wire::{self, STARTUP_BYTES_MAX, Startup, StartupError, StartupParameters};

/// How long the server may take to take notice of a cancel request.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(30);

/// What a client wants.
#[derive(Debug)]
pub(super) enum Opening {
    /// A session: its first packet, its shape where it chooses none itself, whether the rules are about its database, and
    /// whether it is for replication.
    Session { packet: Vec<u8>, shape: Shape, under_rules: bool, walsender: bool },
    /// To cancel a statement of another connection.
    Cancel { packet: Vec<u8> },
}

/// Why a connection does not come to be.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client is told.
    Refused(Refusal),
    /// There is nobody to tell.
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

impl From<StartupError> for Failure {
    fn from(error: StartupError) -> Failure {
        let state = match error {
            // What does not begin as a packet of ours comes from no client of ours: PostgreSQL does not answer it either.
            StartupError::Length => return Failure::Io(io::Error::new(io::ErrorKind::InvalidData, error)),
            StartupError::Version(..) => SqlState::UNSUPPORTED,
            StartupError::Layout => SqlState::PROTOCOL_VIOLATION,
        };
        Failure::Refused(Refusal::new(state, error.to_string()))
    }
}

/// The first byte of a TLS handshake, and of no packet of PostgreSQL's.
const TLS_HANDSHAKE: u8 = 0x16;

/// Reads what the client opens with. Each kind of encryption may be asked for once.
pub(super) async fn opening(client: &mut Socket, config: &ProxyConfig, tls: &Tls) -> Result<Opening, Failure> {
    let (mut ssl_asked, mut gss_asked) = (false, false);
    let mut begun = first_bytes(client).await?;
    if begun[0] == TLS_HANDSHAKE {
        secure_directly(client, begun, tls).await?;
        (ssl_asked, gss_asked) = (true, true);
        begun = first_bytes(client).await?;
    }
    loop {
        let packet = first_packet(client, begun).await?;
        let Some((startup, _)) = wire::startup(&packet)? else { return Err(StartupError::Length.into()) };
        match startup {
            Startup::Session(parameters) => {
                if tls.required && !client.is_tls() && !client.is_unix() {
                    return Err(Failure::Refused(without_tls()));
                }
                let shape = shape_of(parameters, config);
                let under_rules =
                    config.database.as_ref().is_none_or(|ours| database(parameters) == Some(ours.as_bytes()));
                // Anything but a plain no: PostgreSQL ends the session where it is no word that it knows.
                let no: [&[u8]; 4] = [b"false", b"off", b"no", b"0"];
                let walsender = parameters
                    .value("replication")
                    .is_some_and(|how| !no.iter().any(|no| how.eq_ignore_ascii_case(no)));
                return Ok(Opening::Session { packet, shape, under_rules, walsender });
            }
            Startup::Cancel => return Ok(Opening::Cancel { packet }),
            Startup::Ssl => {
                once(&mut ssl_asked)?;
                // Within TLS nothing else is asked for.
                gss_asked |= secure_or_decline(client, tls).await?;
            }
            Startup::Gss => {
                once(&mut gss_asked)?;
                answer(client, b"N").await?;
            }
        }
        begun = first_bytes(client).await?;
    }
}

fn once(asked: &mut bool) -> Result<(), Failure> {
    if std::mem::replace(asked, true) {
        let twice = Refusal::new(SqlState::PROTOCOL_VIOLATION, "encryption was asked for twice");
        return Err(Failure::Refused(twice));
    }
    Ok(())
}

fn without_tls() -> Refusal {
    Refusal::new(SqlState::INVALID_AUTHORIZATION, "connections to the proxy need TLS")
        .detail("The proxy is set up to refuse connections over TCP that are not encrypted.")
        .hint("Connect with sslmode=require or above.")
}

/// Answers SSLRequest, and says whether TLS is on.
async fn secure_or_decline(client: &mut Socket, tls: &Tls) -> Result<bool, Failure> {
    let identity = tls.client.as_ref().filter(|_| !client.is_unix());
    let Some(identity) = identity else {
        answer(client, b"N").await?;
        return Ok(false);
    };
    answer(client, b"S").await?;
    client.accept_tls(Vec::new(), &identity.current()).await?;
    Ok(true)
}

/// TLS without a question, for which the handshake itself must name PostgreSQL's protocol.
async fn secure_directly(client: &mut Socket, begun: [u8; 4], tls: &Tls) -> Result<(), Failure> {
    let identity = tls.client.as_ref().filter(|_| !client.is_unix());
    let Some(identity) = identity else { return Err(Failure::Io(io::ErrorKind::Unsupported.into())) };
    client.accept_tls(begun.to_vec(), &identity.current()).await?;
    if client.alpn() != Some(ALPN) {
        let unnamed = Refusal::new(SqlState::PROTOCOL_VIOLATION, "direct TLS connection without ALPN")
            .hint("The client must name the protocol \"postgresql\", or ask for TLS first.");
        return Err(Failure::Refused(unnamed));
    }
    Ok(())
}

async fn first_bytes(client: &mut Socket) -> Result<[u8; 4], Failure> {
    let mut bytes = [0; 4];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// One packet that begins so, and not a byte of what is behind it.
async fn first_packet(client: &mut Socket, begun: [u8; 4]) -> Result<Vec<u8>, Failure> {
    let size = usize::try_from(i32::from_be_bytes(begun)).map_err(|_| StartupError::Length)?;
    if !(8..=STARTUP_BYTES_MAX).contains(&size) {
        return Err(StartupError::Length.into());
    }
    let mut packet = begun.to_vec();
    packet.resize(size, 0);
    client.read_exact(&mut packet[4..]).await?;
    Ok(packet)
}

/// Answers a request for encryption. What the client sent before it had the answer would be taken for its own words
/// behind it (CVE-2021-23214): then the connection ends.
async fn answer(client: &mut Socket, byte: &[u8]) -> Result<(), Failure> {
    nothing_more(client).await?;
    client.write_all(byte).await?;
    Ok(())
}

/// The database that a client wants: as for PostgreSQL, its user's name where it names none.
fn database<'a>(parameters: StartupParameters<'a>) -> Option<&'a [u8]> {
    parameters.value("database").filter(|name| !name.is_empty()).or_else(|| parameters.value("user"))
}

/// Fails where the peer has sent more than it may by now, or has gone.
pub(super) async fn nothing_more(peer: &mut Socket) -> io::Result<()> {
    let mut byte = [0];
    match poll!(std::pin::pin!(peer.read(&mut byte))) {
        std::task::Poll::Pending => Ok(()),
        std::task::Poll::Ready(read) => {
            read?;
            Err(io::ErrorKind::InvalidData.into())
        }
    }
}

fn shape_of(parameters: StartupParameters<'_>, config: &ProxyConfig) -> Shape {
    let user = parameters.value("user");
    let database = database(parameters);
    let application = parameters.value("application_name");
    let fits = |wanted: &Option<String>, value: Option<&[u8]>| match wanted {
        Some(wanted) => value == Some(wanted.as_bytes()),
        None => true,
    };
    let rule = config.shapes.iter().find(|rule| {
        fits(&rule.user, user) && fits(&rule.database, database) && fits(&rule.application_name, application)
    });
    rule.map_or(Shape::default(), |rule| rule.shape)
}

/// Sends a cancel request on. The client's connection stays open until the server has closed ours, so that its end
/// means that the request was seen. Of several servers each gets it: none but the one that made the key knows it.
pub(super) async fn cancel(packet: &[u8], means: Means<'_>) -> Result<(), Failure> {
    let hosts = &means.config.upstream.hosts;
    let sent = futures_util::future::join_all(hosts.iter().map(|host| cancel_at(packet, means, host))).await;
    match sent.into_iter().find(Result::is_err) {
        Some(Err(error)) if hosts.len() == 1 => Err(Failure::Io(error)),
        _ => Ok(()),
    }
}

async fn cancel_at(packet: &[u8], means: Means<'_>, host: &Upstream) -> io::Result<()> {
    let connected = upstream::connect_to(means, host).await;
    let mut server = connected.map_err(|trouble| io::Error::other(format!("{trouble:?}")))?.socket;
    server.write_all(packet).await?;
    server.flush().await?;
    let mut rest = [0; 16];
    let closed = async { while server.read(&mut rest).await.is_ok_and(|bytes| bytes > 0) {} };
    let _ = means.background.timeout(CANCEL_TIMEOUT, closed).await;
    Ok(())
}
