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
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, SimpleQueryMessage, SimpleQueryRow, Socket};

use super::Error;
use super::hosts::{Role, Target};
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
    target: Target,
}

/// A connection that was made, or why not.
type Connected<T> = Result<(Client, Connection<Socket, T>), tokio_postgres::Error>;

impl Upstream {
    /// Reads a connection string (`postgres://owner@host:port/database` or `host=... dbname=...`), which may name several
    /// hosts and say by `target_session_attrs` and `load_balance_hosts` which of them sessions take.
    pub fn parse(url: &str) -> Result<Upstream, String> {
        let (url, target) = without_target(url)?;
        let mut config: tokio_postgres::Config =
            url.parse().map_err(|error| format!("{error:#} (expected postgres://owner@host:5432/database)"))?;
        if config.get_hosts().is_empty() {
            return Err("no host is named (expected postgres://owner@host:5432/database)".to_owned());
        }
        if config.get_user().is_none() {
            return Err("no user is named (expected postgres://owner@host:5432/database)".to_owned());
        }
        if !config.get_hostaddrs().is_empty() {
            return Err("hostaddr is not taken; name the address as host".to_owned());
        }
        let (hosts, ports) = (config.get_hosts().len(), config.get_ports().len());
        if ports > 1 && ports != hosts {
            return Err(format!("{ports} ports are named for {hosts} hosts"));
        }
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(UNACKNOWLEDGED_MAX);
        config
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(3))
            .keepalives_retries(3);
        Ok(Upstream { config, tls: None, target })
    }

    /// With TLS: where the server has it, or else not at all where it is `needed`.
    pub fn with_tls(mut self, connector: Connector, needed: bool) -> Upstream {
        self.config.ssl_mode(if needed { SslMode::Require } else { SslMode::Prefer });
        self.tls = Some(connector);
        self
    }

    /// The hosts in their order, each with its port: a name, an address, or the folder of a Unix socket.
    pub fn hosts(&self) -> Vec<(String, u16)> {
        let names = self.config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(folder) => folder.display().to_string(),
        });
        names.enumerate().map(|(number, name)| (name, self.port_of(number))).collect()
    }

    fn port_of(&self, number: usize) -> u16 {
        let ports = self.config.get_ports();
        // As in libpq, one port is that of all hosts.
        ports.get(number).or(ports.first()).copied().unwrap_or(5432)
    }

    /// The first host as text: a name, an address, or the folder of a Unix socket.
    pub fn host(&self) -> String {
        self.hosts().into_iter().next().map(|(name, _)| name).unwrap_or_default()
    }

    /// The first port.
    pub fn port(&self) -> u16 {
        self.port_of(0)
    }

    /// The database that is migrated.
    pub fn database(&self) -> &str {
        self.config.get_dbname().or_else(|| self.config.get_user()).unwrap_or_default()
    }

    /// Which of the hosts sessions take.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Whether sessions take the hosts in any order.
    pub fn is_balanced(&self) -> bool {
        self.config.get_load_balance_hosts() == LoadBalanceHosts::Random
    }

    /// The same login at another place, such as a pooler before the database.
    pub fn at(&self, host: &str, port: u16) -> Upstream {
        let config = self.login(host, port);
        Upstream { config, tls: self.tls.clone(), target: Target::Any }
    }

    /// This login and these settings for one host.
    fn login(&self, host: &str, port: u16) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        let given = &self.config;
        // Nobody is in between on a Unix socket.
        let ssl_mode = if host.starts_with('/') { SslMode::Disable } else { given.get_ssl_mode() };
        config.host(host).port(port).ssl_mode(ssl_mode).dbname(self.database());
        config.user(given.get_user().unwrap_or_default());
        if let Some(password) = given.get_password() {
            config.password(password);
        }
        if let Some(options) = given.get_options() {
            config.options(options);
        }
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(UNACKNOWLEDGED_MAX);
        config
            .keepalives_idle(given.get_keepalives_idle())
            .keepalives_interval(Duration::from_secs(3))
            .keepalives_retries(3);
        config
    }

    /// Opens a connection that shows itself under this application name: to the primary, whichever host that is, and
    /// straight to it. Migrations need a session of their own, which a pooler does not promise.
    pub async fn connect(&self, application_name: &str) -> Result<Session, Error> {
        let mut trouble = None;
        for (host, port) in self.hosts() {
            match self.connect_to(&host, port, application_name).await {
                Ok(session) => return Ok(session),
                // What one host says of its own state is worth more than that another one is down.
                Err(error) if trouble.is_none() || matches!(error, Error::Conflict { .. }) => trouble = Some(error),
                Err(_) => {}
            }
        }
        Err(trouble.unwrap_or_else(|| Error::Record("no host is named".to_owned())))
    }

    async fn connect_to(&self, host: &str, port: u16, application_name: &str) -> Result<Session, Error> {
        let token = format!("{:016x}", rand::random::<u64>());
        let mut config = self.login(host, port);
        let options = format!("{} -c {DIRECT}={token}", config.get_options().unwrap_or_default());
        config.application_name(application_name).options(options.trim());
        let session = self.open(&config).await?;
        let found = session.first_answer(STANDING).await?;
        if found.get(1).map(String::as_str) != Some(token.as_str()) {
            return Err(not_direct(self));
        }
        if found.first().map(String::as_str) == Some("t") {
            return Err(Error::conflict(
                "the server is a standby",
                format!("The control plane writes to the database, and {host}:{port} replays another server."),
                "Name the primary in `upstream`, or all servers of which one is it.",
            ));
        }
        session.batch_execute(SETTINGS).await?;
        catalog::settle(&session).await?;
        Ok(session)
    }

    /// What the server at that place in the list of hosts is now.
    pub async fn role(&self, number: usize) -> Result<Role, Error> {
        let hosts = self.hosts();
        let (host, port) = hosts.get(number).ok_or_else(|| Error::Record("no such host".to_owned()))?;
        let mut config = self.login(host, *port);
        config.application_name("crossfade role");
        let session = self.open(&config).await?;
        let found = session.first_answer(ROLE).await?;
        let is = |place: usize, value: &str| found.get(place).map(String::as_str) == Some(value);
        Ok(Role { standby: is(0, "t"), read_only: is(1, "on") })
    }

    /// The processes of the server that answer two connections of ours in turn. At a pooler that gives a server away
    /// with each transaction one of them may come twice.
    pub async fn shares_servers(&self) -> Result<bool, Error> {
        let mut config = self.login(&self.host(), self.port());
        config.application_name("crossfade pooler");
        let (first, second) = (self.open(&config).await?, self.open(&config).await?);
        let pid = async |session: &Session| session.first_answer("SELECT pg_catalog.pg_backend_pid()").await;
        let before = pid(&first).await?;
        second.batch_execute("BEGIN").await?;
        let held = pid(&second).await?;
        let after = pid(&first).await;
        second.batch_execute("ROLLBACK").await?;
        Ok(before == held || after? != before)
    }

    async fn open(&self, config: &tokio_postgres::Config) -> Result<Session, Error> {
        match self.tls.clone().filter(|_| config.get_ssl_mode() != SslMode::Disable) {
            Some(connector) => self.begin(config.connect(connector).await),
            None => self.begin(config.connect(NoTls).await),
        }
    }

    fn begin<T>(&self, connected: Connected<T>) -> Result<Session, Error>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (client, mut connection) = connected.map_err(|error| match error.as_db_error() {
            // So do poolers answer what they do not pass on.
            Some(said) if said.message().contains("startup parameter") => not_direct(self),
            Some(_) | None => Error::unreachable(self, &error),
        })?;
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
        Ok(Session { client, notified, driver })
    }
}

/// A setting that only this connection's own server session has, since it came with its startup packet.
const DIRECT: &str = "crossfade.direct";

/// What a new connection asks first.
const STANDING: &str = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('crossfade.direct', true)";

/// What tells a server's role.
const ROLE: &str = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only', true)";

fn not_direct(upstream: &Upstream) -> Error {
    Error::conflict(
        "a pooler stands between the control plane and PostgreSQL",
        format!(
            "The server session behind {upstream} was not opened by the connection to it. Locks, notifications and \
             settings of the control plane need a session of their own."
        ),
        "Let `upstream` name PostgreSQL itself, and the pooler in `pooler`: sessions then go through it.",
    )
}

/// The connection string with `target_session_attrs` as `tokio_postgres` takes it, which knows but half of its values, and
/// the value.
fn without_target(url: &str) -> Result<(String, Target), String> {
    const NAME: &str = "target_session_attrs";
    let is_url = url.contains("://");
    let starts = |at: usize| match url[..at].chars().next_back() {
        Some(before) if is_url => matches!(before, '?' | '&'),
        Some(before) => before.is_whitespace(),
        None => true,
    };
    let Some((at, _)) = url.match_indices(NAME).filter(|(at, _)| starts(*at)).last() else {
        return Ok((url.to_owned(), Target::Any));
    };
    let behind = &url[at + NAME.len()..];
    let value = behind.trim_start_matches(|c: char| c == '=' || c == '\'' || c.is_whitespace());
    let length = value.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).unwrap_or(value.len());
    let target = value[..length].parse()?;
    let from = url.len() - value.len();
    Ok((format!("{}any{}", &url[..from], &url[from + length..]), target))
}

/// What every connection of ours runs with besides `catalog::settle`, whatever the role or the database has.
const SETTINGS: &str = "SET statement_timeout TO 0; SET lock_timeout TO 0; \
    SET idle_in_transaction_session_timeout TO 0; SET default_transaction_read_only TO off; \
    SET default_transaction_isolation TO 'read committed'; SET client_min_messages TO warning; \
    SELECT pg_catalog.set_config('synchronous_commit', 'on', false) \
     WHERE pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'";

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Upstream {
    /// Hosts, ports and database; never the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts().iter().map(|(host, port)| format!("{host}:{port}")).collect();
        write!(f, "{}/{}", hosts.join(","), self.database())
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

    /// The first row of a question's answer, as text.
    async fn first_answer(&self, question: &str) -> Result<Vec<String>, Error> {
        let answer = self.client.simple_query(question).await?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let text = |row: &SimpleQueryRow| {
            (0..row.len()).map(|place| row.get(place).unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        Ok(row.map(text).unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hosts_are_read_with_what_is_looked_for() {
        for (url, hosts, target) in [
            ("postgres://me@a:1,b:2/app?target_session_attrs=primary", "a:1,b:2/app", Target::Primary),
            (
                "postgres://me@a,b:2/app?connect_timeout=3&target_session_attrs=prefer-standby",
                "a:5432,b:2/app",
                Target::PreferStandby,
            ),
            ("host=a,b port=7 user=me dbname=app target_session_attrs = 'standby'", "a:7,b:7/app", Target::Standby),
            ("postgres://me@a/app?target_session_attrs=read-write&connect_timeout=2", "a:5432/app", Target::ReadWrite),
            ("postgres://me@/app?host=/run/postgresql", "/run/postgresql:5432/app", Target::Any),
        ] {
            let upstream = Upstream::parse(url).unwrap_or_else(|why| panic!("{url}: {why}"));
            assert_eq!((upstream.to_string().as_str(), upstream.target()), (hosts, target), "{url}");
        }
        assert!(Upstream::parse("postgres://me@a/app?load_balance_hosts=random").unwrap().is_balanced());
        for wrong in [
            "postgres://me@a/app?target_session_attrs=master",
            "host=a,b,c port=1,2 user=me",
            "host=a hostaddr=127.0.0.1 user=me",
        ] {
            assert!(Upstream::parse(wrong).is_err(), "{wrong}");
        }
    }
}
