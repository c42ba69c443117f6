//! A login's beginning, where it cannot simply be relayed.
//!
//! That is where the server may refuse this connection but take another (`sslmode` allow, prefer), and where the server's
//! side runs under TLS: what it says of channel binding is about that connection, not about the client's. All other
//! logins, and the rest of these, are relayed as they are. Passwords are never seen, proofs never logged.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::ProxyConfig;
use super::background::Background;
use super::hosts::Roles;
use super::socket::Socket;
use super::startup::Failure;
use super::tls::Tls;
use super::upstream::{self, Candidates, Connected};
use crate::schema::{Refusal, SqlState};
use crate::wire::{self, Authentication, Binding, Malformed, Peer, Startup, Translation, Verifier};

/// The longest message of a login that is read here, in bytes. PostgreSQL's own limit for tokens is the same.
const LOGIN_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Reads the stored verifiers of roles: `rolpassword`.
pub trait Verifiers: fmt::Debug + Send + Sync {
    /// The role's verifier; `None` where there is no such role, it may not log in, it has no password, or the password's
    /// time is over. An error says why it could not be read, as the end of a sentence.
    fn verifier(self: Arc<Self>, role: String) -> VerifierFuture;
}

/// What [`Verifiers::verifier`] answers with.
pub type VerifierFuture = Pin<Box<dyn Future<Output = Result<Option<String>, String>> + Send>>;

/// What logins need beside the sockets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Means<'a> {
    pub config: &'a ProxyConfig,
    pub tls: &'a Tls,
    pub verifiers: Option<&'a Arc<dyn Verifiers>>,
    pub roles: Option<&'a Arc<dyn Roles>>,
    pub background: &'a Background,
}

/// One message, whole.
#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn kind(&self) -> u8 {
        self.bytes[0]
    }

    fn body(&self) -> &[u8] {
        &self.bytes[wire::HEADER_BYTES..]
    }
}

/// Connects to a server, sends the first packet, and goes as far with the login as cannot be relayed.
pub(super) async fn begin(client: &mut Socket, packet: &[u8], means: Means<'_>) -> Result<Socket, Failure> {
    let mut candidates = Candidates::new(means);
    loop {
        let connected = candidates.next().await?;
        let (is_unix, others) = (connected.socket.is_unix(), candidates.has_more());
        let relayed = connected.otherwise.is_none() && !connected.socket.is_tls() && !is_unix && !others;
        let (mut server, first) = begin_with(connected, packet, means, !relayed).await?;
        let Some(first) = first else { return Ok(server) };
        // As libpq: a server that does not serve now is passed over.
        if others && first.as_ref().map_or(true, says_cannot_connect_now) {
            continue;
        }
        let mut first = first?;
        while matches!(first.kind(), b'v' | b'N') {
            send(client, &first.bytes).await?;
            first = from_server(&mut server).await?;
        }
        match wire::authentication(first.body()) {
            Authentication::Sasl(mechanisms) if first.kind() == b'R' && server.is_tls() => {
                sasl(client, &mut server, mechanisms, packet, means).await?;
            }
            _ if is_unix && is_peer_refused(&first) => send(client, &peer_not_relayed(&first)).await?,
            _ => send(client, &first.bytes).await?,
        }
        return Ok(server);
    }
}

/// Sends the first packet, and reads the first answer where it `reads` at all.
async fn begin_with(
    connected: Connected<'_>,
    packet: &[u8],
    means: Means<'_>,
    reads: bool,
) -> Result<(Socket, Option<Result<Message, Failure>>), Failure> {
    let Connected { socket: mut server, host, otherwise } = connected;
    send(&mut server, packet).await?;
    if !reads {
        return Ok((server, None));
    }
    let mut first = from_server(&mut server).await;
    if let (true, Some(form)) = (is_refused(&first), otherwise) {
        // As libpq: whatever the reason. Where there is no other connection either, the first one's counts.
        if let Ok(other) = upstream::connect_so(means, host, form).await {
            server = other;
            send(&mut server, packet).await?;
            first = from_server(&mut server).await;
        }
    }
    Ok((server, Some(first)))
}

fn says_cannot_connect_now(first: &Message) -> bool {
    first.kind() == b'E' && wire::error_field(first.body(), b'C') == Some(SqlState::CANNOT_CONNECT_NOW.0.as_bytes())
}

fn is_peer_refused(first: &Message) -> bool {
    first.kind() == b'E' && wire::error_field(first.body(), b'C') == Some(SqlState::INVALID_AUTHORIZATION.0.as_bytes())
}

/// The server's refusal, and why: over a Unix socket it may have asked the kernel who is there.
fn peer_not_relayed(first: &Message) -> Vec<u8> {
    let hint = "Over its Unix socket PostgreSQL sees the proxy's own user: the method peer cannot be relayed. Use scram-sha-256.";
    wire::error_with_hint(first.body(), hint)
}

/// Whether the server turned the connection down: in words, or under TLS 1.3 by the end of a handshake that seemed done.
fn is_refused(first: &Result<Message, Failure>) -> bool {
    first.as_ref().map_or(true, |message| message.kind() == b'E')
}

/// The server's side is under TLS. What it offers of channel binding is about that connection: the client is offered the
/// same about its own, where its proof can be made anew, and else none.
async fn sasl(
    client: &mut Socket,
    server: &mut Socket,
    mechanisms: &[u8],
    packet: &[u8],
    means: Means<'_>,
) -> Result<(), Failure> {
    let bound = wire::sasl_mechanisms(mechanisms).any(|name| name == wire::SCRAM_PLUS);
    // Read before anything is offered: a client that then chooses binding cannot do without.
    let mut stored = None;
    if bound && client.is_tls() {
        stored = Some(verifier(packet, means).await);
    }
    let end_point = client.end_point().filter(|_| matches!(stored, Some(Ok(_)))).map(<[u8]>::to_vec);
    let mut offer = Vec::new();
    let offered = |name: &&[u8]| *name != wire::SCRAM_PLUS || end_point.is_some();
    wire::authentication_sasl(&mut offer, wire::sasl_mechanisms(mechanisms).filter(offered));
    send(client, &offer).await?;
    let answer = receive(client, Peer::Client).await?;
    let initial = Some(answer.body()).filter(|_| answer.kind() == b'p').and_then(wire::sasl_initial);
    let chosen = initial.and_then(|(name, first)| Some((name, first, wire::client_binding(first)?)));
    match chosen {
        // The server knows that it did offer what the client was not offered.
        Some((wire::SCRAM, first, Binding::NotOffered)) if bound && end_point.is_none() => {
            let stored = match stored {
                Some(stored) => stored,
                None => verifier(packet, means).await,
            };
            let stored = stored.map_err(|why| unreadable(&why))?;
            translated(client, server, first, None, stored).await
        }
        Some((wire::SCRAM_PLUS, first, Binding::Bound)) if end_point.is_some() => {
            let stored = stored.and_then(Result::ok).flatten();
            translated(client, server, first, end_point.as_deref(), stored).await
        }
        _ => Ok(send(server, &answer.bytes).await?),
    }
}

/// The whole exchange, each proof made anew for the other side.
async fn translated(
    client: &mut Socket,
    server: &mut Socket,
    client_first: &[u8],
    end_point: Option<&[u8]>,
    verifier: Option<Verifier>,
) -> Result<(), Failure> {
    let (mut translation, first) =
        Translation::begin(client_first, end_point).map_err(|Malformed| malformed("client"))?;
    let mut out = Vec::new();
    wire::sasl_initial_response(&mut out, wire::SCRAM, &first);
    send(server, &out).await?;

    let challenge = from_server(server).await?;
    if let (b'R', Authentication::SaslContinue(data)) = (challenge.kind(), wire::authentication(challenge.body())) {
        translation.server_first(data);
    } else {
        return Ok(send(client, &challenge.bytes).await?);
    }
    send(client, &challenge.bytes).await?;

    let answer = receive(client, Peer::Client).await?;
    if answer.kind() != b'p' {
        return Ok(send(server, &answer.bytes).await?);
    }
    let proof = translation.client_final(answer.body(), verifier.as_ref()).map_err(|Malformed| malformed("client"))?;
    out.clear();
    wire::sasl_response(&mut out, &proof);
    send(server, &out).await?;

    let end = from_server(server).await?;
    if let (b'R', Authentication::SaslFinal(data)) = (end.kind(), wire::authentication(end.body())) {
        let signature = translation.server_final(data, verifier.as_ref()).map_err(|Malformed| malformed("server"))?;
        out.clear();
        wire::authentication_sasl_final(&mut out, &signature);
        return Ok(send(client, &out).await?);
    }
    Ok(send(client, &end.bytes).await?)
}

/// The verifier of the role that logs in. None is told apart from a wrong password by the server alone.
async fn verifier(packet: &[u8], means: Means<'_>) -> Result<Option<Verifier>, String> {
    let user = match wire::startup(packet) {
        Ok(Some((Startup::Session(parameters), _))) => parameters.value("user"),
        _ => None,
    };
    let role = user.and_then(|user| std::str::from_utf8(user).ok()).ok_or("the name of the role is not UTF-8")?;
    let verifiers = means.verifiers.ok_or("the proxy has no connection to read it on")?;
    // PostgreSQL cuts names that are too long.
    let end = role.floor_char_boundary(NAME_BYTES_MAX.min(role.len()));
    let stored = means.background.run(verifiers.clone().verifier(role[..end].to_owned())).await?;
    Ok(stored.as_deref().and_then(Verifier::parse))
}

/// The longest name of a role, in bytes.
const NAME_BYTES_MAX: usize = 63;

fn unreadable(why: &str) -> Failure {
    let message = "cannot pass on this SCRAM login with TLS on both sides of the proxy";
    let why = format!(
        "The client ties its proof to its own TLS connection. To make it anew for the server's, the proxy needs the \
         role's stored verifier, and it could not be read: {why}."
    );
    tracing::warn!(%why, "a login could not be passed on");
    Failure::Refused(Refusal::new(SqlState::INVALID_AUTHORIZATION, message).detail(why).hint(
        "Connect with channel_binding=disable, or have TLS on one side of the proxy only, or let the role of the \
         proxy's control connection read pg_authid.",
    ))
}

fn malformed(whose: &str) -> Failure {
    Failure::Refused(Refusal::new(SqlState::PROTOCOL_VIOLATION, format!("malformed SCRAM message from the {whose}")))
}

async fn send(to: &mut Socket, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// One message of the server. Its end is told to the client.
async fn from_server(server: &mut Socket) -> Result<Message, Failure> {
    receive(server, Peer::Server).await.map_err(|failure| match failure {
        Failure::Io(error) => upstream::broken(error),
        Failure::Refused(refusal) => Failure::Refused(refusal),
    })
}

/// One message, and not a byte of what is behind it.
async fn receive(from: &mut Socket, peer: Peer) -> Result<Message, Failure> {
    let mut bytes = vec![0; wire::HEADER_BYTES];
    from.read_exact(&mut bytes).await?;
    let broken = |what: String| Failure::Refused(Refusal::new(SqlState::PROTOCOL_VIOLATION, what));
    let size = match wire::header(&bytes, peer) {
        Ok(Some(header)) => header.size,
        Ok(None) => wire::HEADER_BYTES,
        Err(error) => return Err(broken(error.to_string())),
    };
    if size > LOGIN_MESSAGE_BYTES_MAX {
        return Err(broken("message is too long for a login".to_owned()));
    }
    bytes.resize(size, 0);
    from.read_exact(&mut bytes[wire::HEADER_BYTES..]).await?;
    Ok(Message { bytes })
}
