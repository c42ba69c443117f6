//! Connections to the database for the control plane and the sidecar: one owner of `tokio_postgres`'s connection half.
//!
//! Never decides when to connect again (its callers do), and never logs a password.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::poll_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Socket};

use super::Error;
use super::tls::Connector;
use crate::catalog;

/// How long connecting may take, per address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long sent bytes may stay unacknowledged before the connection counts as dead.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(15);

/// Where the database is, and as whom the control plane logs in.
#[derive(Clone)]
pub struct Upstream {
    config: tokio_postgres::Config,
    tls: Option<Connector>,
}

/// A connection that was made, or why not.
type Connected<T> = Result<(Client, Connection<Socket, T>), tokio_postgres::Error>;

impl Upstream {
    /// Reads a connection string (`postgres://owner@host:port/database` or `host=... dbname=...`).
    pub fn parse(url: &str) -> Result<Upstream, String> {
        let mut config: tokio_postgres::Config =
            url.parse().map_err(|error| format!("{error:#} (expected postgres://owner@host:5432/database)"))?;
        if config.get_hosts().is_empty() {
            return Err("no host is named (expected postgres://owner@host:5432/database)".to_owned());
        }
        if config.get_user().is_none() {
            return Err("no user is named (expected postgres://owner@host:5432/database)".to_owned());
        }
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(UNACKNOWLEDGED_MAX);
        config
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(3))
            .keepalives_retries(3);
        Ok(Upstream { config, tls: None })
    }

    /// With TLS: where the server has it, or else not at all where it is `needed`.
    pub fn with_tls(mut self, connector: Connector, needed: bool) -> Upstream {
        self.config.ssl_mode(if needed { SslMode::Require } else { SslMode::Prefer });
        self.tls = Some(connector);
        self
    }

    /// The first host as text: a name, an address, or the folder of a Unix socket.
    pub fn host(&self) -> String {
        match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(folder)) => folder.display().to_string(),
            None => String::new(),
        }
    }

    /// The first port.
    pub fn port(&self) -> u16 {
        self.config.get_ports().first().copied().unwrap_or(5432)
    }

    /// The database that is migrated.
    pub fn database(&self) -> &str {
        self.config.get_dbname().or_else(|| self.config.get_user()).unwrap_or_default()
    }

    /// Opens a connection that shows itself under this application name.
    pub async fn connect(&self, application_name: &str) -> Result<Session, Error> {
        let mut config = self.config.clone();
        config.application_name(application_name);
        match self.tls.clone() {
            Some(connector) => self.begin(config.connect(connector).await).await,
            None => self.begin(config.connect(NoTls).await).await,
        }
    }

    async fn begin<T>(&self, connected: Connected<T>) -> Result<Session, Error>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (client, mut connection) = connected.map_err(|error| Error::unreachable(self, &error))?;
        let notified = Arc::new(Notify::new());
        let notifier = notified.clone();
        let driver = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(_) = message {
                    notifier.notify_one();
                }
            }
            // Whoever waits for a notification must find out that none will come.
            notifier.notify_one();
        });
        let session = Session { client, notified, driver };
        session.batch_execute(SETTINGS).await?;
        catalog::settle(&session).await?;
        Ok(session)
    }
}

/// What every connection of ours runs with besides `catalog::settle`, whatever the role or the database has.
const SETTINGS: &str = "SET statement_timeout TO 0; SET lock_timeout TO 0; \
    SET idle_in_transaction_session_timeout TO 0; SET default_transaction_read_only TO off; \
    SET default_transaction_isolation TO 'read committed'; SET client_min_messages TO warning";

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Upstream {
    /// Host, port and database; never the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host(), self.port(), self.database())
    }
}

/// One open connection. Closed when dropped.
#[derive(Debug)]
pub struct Session {
    client: Client,
    notified: Arc<Notify>,
    driver: JoinHandle<()>,
}

impl Session {
    /// The client, for functions that take a transaction as well.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns when a notification has come since the last call, or the connection was lost.
    pub async fn notified(&self) {
        self.notified.notified().await;
    }
}

impl Deref for Session {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
