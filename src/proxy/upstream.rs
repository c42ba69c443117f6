//! Connections to the server, with or without TLS, as libpq's `sslmode` has it.
//!
//! Does not log in (that is `login`); says what else may be tried where the server refuses the login outright.

use std::collections::VecDeque;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Upstream;
use super::login::Means;
use super::socket::Socket;
use super::startup::{Failure, nothing_more};
use super::tls::{ALPN, Negotiation, SslMode, Tls};
use crate::control::hosts::Target;
use crate::schema::{Refusal, SqlState};
use crate::wire::SSL_REQUEST_PACKET;

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Connected<'a> {
    pub socket: Socket,
    /// The server.
    pub host: &'a Upstream,
    /// What to try where the server refuses this one.
    pub otherwise: Option<Form>,
}

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    /// TLS; a server that has none is taken as it is.
    IfOffered,
    /// TLS or nothing.
    Secured,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server is not reached.
    Unreachable(String),
    /// It is not asked for.
    Unfit(String),
    /// It is, but not under TLS.
    Tls(TlsTrouble),
}

#[derive(Debug)]
pub(super) enum TlsTrouble {
    /// It answered that it has none.
    Declined,
    /// It answered something else.
    Answer,
    /// It named another protocol than ours, or none.
    Protocol,
    Handshake(io::Error),
}

/// The servers that one session tries, one after the other.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    means: Means<'a>,
    left: VecDeque<(usize, Target)>,
    failed: Vec<(usize, Trouble)>,
}

impl<'a> Candidates<'a> {
    pub fn new(means: Means<'a>) -> Candidates<'a> {
        Candidates { means, left: means.config.upstream.order(), failed: Vec::new() }
    }

    /// Whether there is another server to try.
    pub fn has_more(&self) -> bool {
        !self.left.is_empty()
    }

    /// Connects to the next server that can be reached and is what is looked for.
    pub async fn next(&mut self) -> Result<Connected<'a>, Failure> {
        while let Some((number, wanted)) = self.left.pop_front() {
            match self.attempt(number, wanted).await {
                Ok(connected) => return Ok(connected),
                Err(trouble) => self.failed.push((number, trouble)),
            }
        }
        Err(self.refusal())
    }

    async fn attempt(&self, number: usize, wanted: Target) -> Result<Connected<'a>, Trouble> {
        let Means { config, roles, background, .. } = self.means;
        let host =
            config.upstream.hosts.get(number).ok_or_else(|| Trouble::Unfit("there is no such host".to_owned()))?;
        if wanted.needs_role() {
            let roles = roles.ok_or_else(|| Trouble::Unfit("nobody can tell its role".to_owned()))?;
            let asked = background.run(roles.clone().role(number));
            let asked = background.timeout(config.connect_timeout, asked).await;
            let role = asked.unwrap_or_else(|_| Err("it does not answer".to_owned()));
            let role = role.map_err(|why| Trouble::Unfit(format!("its role is not known: {why}")))?;
            if !wanted.takes(role) {
                let is = if role.standby { "a standby" } else { "a primary" };
                return Err(Trouble::Unfit(format!("it is {is}, and sessions want {}", wanted.name())));
            }
        }
        connect_to(self.means, host).await
    }

    fn refusal(&self) -> Failure {
        let hosts = &self.means.config.upstream.hosts;
        match self.failed.as_slice() {
            [(_, trouble)] => refused(trouble),
            several => {
                let whys = several.iter().filter_map(|(number, trouble)| {
                    Some(format!("{}: {}", hosts.get(*number)?, trouble.told().0.trim_end_matches('.')))
                });
                let why = format!("No server takes the session. {}.", whys.collect::<Vec<_>>().join("; "));
                unconnected(why, "Check that PostgreSQL runs, and the proxy's setting \"upstream\".")
            }
        }
    }
}

/// Connects to this server as the mode says.
pub(super) async fn connect_to<'a>(means: Means<'_>, host: &'a Upstream) -> Result<Connected<'a>, Trouble> {
    let (form, otherwise) = match means.tls.mode(host) {
        SslMode::Disable => (Form::Plain, None),
        SslMode::Allow => (Form::Plain, Some(Form::Secured)),
        SslMode::Prefer => (Form::IfOffered, Some(Form::Plain)),
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Form::Secured, None),
    };
    match in_time(means, host, form).await {
        // A server without TLS has been tried without it already.
        Ok(socket) if form == Form::IfOffered && !socket.is_tls() => Ok(Connected { socket, host, otherwise: None }),
        Ok(socket) => Ok(Connected { socket, host, otherwise }),
        Err(Trouble::Tls(trouble)) if form == Form::IfOffered => {
            tracing::debug!(?trouble, "no TLS with the server, trying without");
            let socket = in_time(means, host, Form::Plain).await?;
            Ok(Connected { socket, host, otherwise: None })
        }
        Err(trouble) => Err(trouble),
    }
}

/// Connects in this form and no other.
pub(super) async fn connect_so(means: Means<'_>, host: &Upstream, form: Form) -> Result<Socket, Trouble> {
    in_time(means, host, form).await
}

async fn in_time(means: Means<'_>, host: &Upstream, form: Form) -> Result<Socket, Trouble> {
    let Means { config, tls, background, .. } = means;
    let connecting = async {
        let unreachable = |error: io::Error| Trouble::Unreachable(error.to_string());
        let mut socket = Socket::connect(host, &config.server_keepalive).await.map_err(unreachable)?;
        match form {
            Form::Plain => {}
            Form::IfOffered | Form::Secured => secure(&mut socket, tls, host, form).await.map_err(Trouble::Tls)?,
        }
        Ok(socket)
    };
    background.timeout(config.connect_timeout, connecting).await.unwrap_or_else(|_| {
        let seconds = config.connect_timeout.as_secs();
        Err(Trouble::Unreachable(format!("no answer within {seconds} seconds")))
    })
}

impl From<io::Error> for TlsTrouble {
    fn from(error: io::Error) -> TlsTrouble {
        TlsTrouble::Handshake(error)
    }
}

async fn secure(socket: &mut Socket, tls: &Tls, host: &Upstream, form: Form) -> Result<(), TlsTrouble> {
    let (config, name) = tls.towards_server(host)?;
    match tls.negotiation {
        Negotiation::Postgres => {
            if !offered(socket).await? {
                return if form == Form::IfOffered { Ok(()) } else { Err(TlsTrouble::Declined) };
            }
        }
        Negotiation::Direct => {}
    }
    socket.connect_tls(config, name).await?;
    if tls.negotiation == Negotiation::Direct && socket.alpn() != Some(ALPN) {
        return Err(TlsTrouble::Protocol);
    }
    Ok(())
}

/// Asks for TLS. The answer is one byte, and there is nothing behind it.
async fn offered(socket: &mut Socket) -> Result<bool, TlsTrouble> {
    socket.write_all(&SSL_REQUEST_PACKET).await?;
    let mut byte = [0];
    socket.read_exact(&mut byte).await?;
    nothing_more(socket).await?;
    match byte {
        [b'S'] => Ok(true),
        [b'N'] => Ok(false),
        // An error message at this place comes from nobody knows whom (CVE-2024-10977): it is not passed on.
        _ => Err(TlsTrouble::Answer),
    }
}

/// The server ended the connection while it was expected to answer.
pub(super) fn broken(error: io::Error) -> Failure {
    match error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        // Under TLS 1.3 a server says only now what it thinks of our certificate.
        true => refused(&Trouble::Tls(TlsTrouble::Handshake(error))),
        false => refused(&Trouble::Unreachable(error.to_string())),
    }
}

impl Trouble {
    /// What happened, and what to do about it.
    fn told(&self) -> (String, &'static str) {
        match self {
            Trouble::Unreachable(why) => (
                format!("The proxy's connection to PostgreSQL failed: {why}."),
                "Check that PostgreSQL runs, and the proxy's setting \"upstream\".",
            ),
            Trouble::Unfit(why) => (
                format!("The server is not taken: {why}."),
                "Check target_session_attrs in the proxy's setting \"upstream\".",
            ),
            Trouble::Tls(trouble) => {
                let (why, hint) = trouble.told();
                (format!("There is no TLS between the proxy and PostgreSQL: {why}."), hint)
            }
        }
    }
}

fn refused(trouble: &Trouble) -> Failure {
    let (why, hint) = trouble.told();
    unconnected(why, hint)
}

fn unconnected(why: String, hint: &'static str) -> Failure {
    tracing::warn!(%why, "cannot connect to the server");
    let message = "could not connect to the server behind the proxy";
    Failure::Refused(Refusal::new(SqlState::CONNECTION_FAILURE, message).detail(why).hint(hint))
}

impl TlsTrouble {
    /// What happened, and what to do about it.
    fn told(&self) -> (String, &'static str) {
        match self {
            TlsTrouble::Declined => (
                "the server does not support it, but the proxy's TLS mode requires it".to_owned(),
                "Set ssl = on at the server, or the proxy's TLS mode towards the server to \"prefer\".",
            ),
            TlsTrouble::Answer => (
                "the server answered the question for it with something else".to_owned(),
                "Check that the proxy's setting \"upstream\" names a PostgreSQL server.",
            ),
            TlsTrouble::Protocol => (
                "the server did not agree on the protocol \"postgresql\"".to_owned(),
                "Direct negotiation needs PostgreSQL 17 or later; set it to \"postgres\" for others.",
            ),
            TlsTrouble::Handshake(error) => handshake_told(error),
        }
    }
}

fn handshake_told(error: &io::Error) -> (String, &'static str) {
    use rustls::{CertificateError as Bad, Error as Tls};
    let why = format!("the handshake failed: {error}");
    let hint = match error.get_ref().and_then(|inner| inner.downcast_ref::<Tls>()) {
        Some(Tls::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. })) => {
            return (
                format!("the server's certificate does not match the host name ({error})"),
                "The certificate must carry the upstream's host as an alternative name (SAN); mode \"verify-ca\" does not check it.",
            );
        }
        Some(Tls::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. })) => {
            "The server's certificate has expired: give the server another one."
        }
        Some(Tls::InvalidCertificate(_)) => {
            "Check that the proxy's root certificate is the one that signed the server's certificate."
        }
        Some(Tls::AlertReceived(_)) => {
            "The server ended it: it may want a client certificate, or refuse the one that the proxy shows."
        }
        _ => "Check the server's log, and the proxy's TLS settings towards the server.",
    };
    (why, hint)
}
