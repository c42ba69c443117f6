//! Every option of `crossfade run`: its name, default, bounds, flag, environment variable and place in the file.
//!
//! One table gives all of them, so that none can be forgotten. A flag goes before the environment, the environment before
//! the file, the file before the default. Reads no file itself, and starts nothing.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};
use toml::de::{DeTable, DeValue};

use super::StartError;
use crate::control::db::Upstream;
use crate::migration::nearest;
use crate::migration::spec::{SpecError, SpecErrors};
use crate::proxy::{ClientCertificates, ClientTls, Negotiation, ServerTls, ShapeRule, SslMode, TlsConfig};

/// Defines [`Config`], its defaults, its flags and the reader of its file from one list of options.
macro_rules! options {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $env:literal, $check:expr;)+) => {
        /// What `crossfade run` is told.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for Config {
            fn default() -> Config {
                Config { $($name: $default,)+ }
            }
        }

        /// The options that were given by flag or by environment variable.
        #[derive(Debug, Clone, Default, clap::Args)]
        #[command(next_help_heading = "Options that the file has too")]
        pub struct Flags {
            $(
                $(#[doc = $doc])+
                #[arg(long, env = $env, hide_env_values = true, value_name = <$type>::PLACEHOLDER,
                    value_parser = |text: &str| from_text::<$type>(text, $check))]
                pub $name: Option<$type>,
            )+
        }

        /// The names of all options, in the order of the file.
        pub const NAMES: &[&str] = &[$(stringify!($name)),+];

        /// Their environment variables, in the same order.
        pub const VARIABLES: &[&str] = &[$($env),+];

        impl Config {
            /// Lays the flags over what the file and the defaults said.
            pub fn with_flags(mut self, flags: Flags) -> Config {
                $(if let Some(value) = flags.$name { self.$name = value; })+
                self
            }

            /// Takes one entry of the file; the error is what is wrong with its value.
            fn set(&mut self, name: &str, value: &DeValue<'_>) -> Option<Result<(), String>> {
                match name {
                    $(stringify!($name) => Some(from_toml(value, $check).map(|value| self.$name = value)),)+
                    _ => None,
                }
            }

            /// Every option with its value as the file would have it.
            pub fn entries(&self) -> Vec<(&'static str, String)> {
                vec![$((stringify!($name), self.$name.to_toml())),+]
            }
        }
    };
}

options! {
    /// The address and port where clients of the database connect.
    listen: SocketAddr = local(6432), "CROSSFADE_LISTEN", any;
    /// The folder of a Unix socket where clients connect too, .s.PGSQL. and the port of `listen`; empty for none.
    unix_socket_directory: String = String::new(), "CROSSFADE_UNIX_SOCKET_DIRECTORY", any;
    /// Who may connect to it, as the octal mode of a file.
    unix_socket_permissions: String = "0777".to_owned(), "CROSSFADE_UNIX_SOCKET_PERMISSIONS", permissions;
    /// The database, and the role that owns the tables: postgres://owner@host:5432/database. Several hosts may be named,
    /// with target_session_attrs. Required.
    upstream: Secret = Secret::default(), "CROSSFADE_UPSTREAM", upstream;
    /// A pooler before the database, through which sessions go: host:port, or the folder of a Unix socket and its port;
    /// empty for none. It must pool by session.
    pooler: String = String::new(), "CROSSFADE_POOLER", pooler;
    /// Threads that relay sessions; 0 for one for every two cores.
    threads: u64 = 0, "CROSSFADE_THREADS", between(0, 1_024);
    /// Client connections at most; one more is refused with SQLSTATE 53300.
    connections_max: u64 = 10_000, "CROSSFADE_CONNECTIONS_MAX", between(1, 1_000_000);
    /// How long a client may take to log in, in milliseconds.
    startup_timeout_ms: u64 = 60_000, "CROSSFADE_STARTUP_TIMEOUT_MS", between(100, 3_600_000);
    /// How long connecting to the server may take, in milliseconds.
    connect_timeout_ms: u64 = 10_000, "CROSSFADE_CONNECT_TIMEOUT_MS", between(100, 600_000);
    /// How long a client may leave its transaction idle, in milliseconds; 0 for ever. Then the session ends with 25P03.
    idle_transaction_timeout_ms: u64 = 0, "CROSSFADE_IDLE_TRANSACTION_TIMEOUT_MS", between(0, 86_400_000);
    /// How long a client may stay idle outside of a transaction, in milliseconds; 0 for ever. Then the session ends with
    /// 57P05.
    idle_session_timeout_ms: u64 = 0, "CROSSFADE_IDLE_SESSION_TIMEOUT_MS", between(0, 604_800_000);
    /// How long a client's TCP connection may be silent until it is asked whether it is there, in milliseconds.
    client_keepalive_idle_ms: u64 = 60_000, "CROSSFADE_CLIENT_KEEPALIVE_IDLE_MS", between(1_000, 86_400_000);
    /// How long until it is asked again, in milliseconds; 0 for the system's time.
    client_keepalive_interval_ms: u64 = 0, "CROSSFADE_CLIENT_KEEPALIVE_INTERVAL_MS", between(0, 86_400_000);
    /// How often it is asked in vain until it counts as gone; 0 for the system's number.
    client_keepalive_count: u64 = 0, "CROSSFADE_CLIENT_KEEPALIVE_COUNT", between(0, 100);
    /// How long bytes for a client may stay unacknowledged, in milliseconds; 0 for the system's time.
    client_unacknowledged_ms_max: u64 = 0, "CROSSFADE_CLIENT_UNACKNOWLEDGED_MS_MAX", between(0, 86_400_000);
    /// The same for the server's connections: silence until it is asked, in milliseconds.
    server_keepalive_idle_ms: u64 = 60_000, "CROSSFADE_SERVER_KEEPALIVE_IDLE_MS", between(1_000, 86_400_000);
    /// How long until it is asked again, in milliseconds; 0 for the system's time.
    server_keepalive_interval_ms: u64 = 0, "CROSSFADE_SERVER_KEEPALIVE_INTERVAL_MS", between(0, 86_400_000);
    /// How often it is asked in vain until it counts as gone; 0 for the system's number.
    server_keepalive_count: u64 = 0, "CROSSFADE_SERVER_KEEPALIVE_COUNT", between(0, 100);
    /// How long bytes for the server may stay unacknowledged, in milliseconds; 0 for the system's time.
    server_unacknowledged_ms_max: u64 = 0, "CROSSFADE_SERVER_UNACKNOWLEDGED_MS_MAX", between(0, 86_400_000);
    /// A Unix socket by which the next process takes over the listening sockets of this one; empty for none.
    handover: String = String::new(), "CROSSFADE_HANDOVER", any;
    /// How long sessions may go on once the next process has taken over, until they end as after SIGTERM, in
    /// milliseconds.
    handover_grace_ms: u64 = 300_000, "CROSSFADE_HANDOVER_GRACE_MS", between(0, 604_800_000);
    /// How long transactions may go on after SIGTERM until they are cut, in milliseconds.
    shutdown_grace_ms: u64 = 30_000, "CROSSFADE_SHUTDOWN_GRACE_MS", between(0, 86_400_000);
    /// The longest message that may have to be held whole to be read, in bytes.
    message_bytes_max: u64 = 268_435_456, "CROSSFADE_MESSAGE_BYTES_MAX", between(65_536, 1_073_741_824);
    /// Memory for remembered rewrites, per thread, in bytes.
    plan_cache_bytes_max: u64 = 33_554_432, "CROSSFADE_PLAN_CACHE_BYTES_MAX", between(65_536, 17_179_869_184);
    /// Shapes of sessions that choose none, as "user=NAME,database=NAME,application_name=NAME:SHAPE"; the first that
    /// fits counts, else auto. As flag and variable: with semicolons between the rules.
    shapes: Shapes = Shapes::default(), "CROSSFADE_SHAPES", any;
    /// The certificate that clients are shown, a PEM file; empty for no TLS towards clients. Read again when it changes.
    tls_certificate: String = String::new(), "CROSSFADE_TLS_CERTIFICATE", any;
    /// Its private key, a PEM file that is not encrypted.
    tls_key: String = String::new(), "CROSSFADE_TLS_KEY", any;
    /// Whether clients over TCP need TLS: "optional" or "required".
    tls_clients: String = "optional".to_owned(), "CROSSFADE_TLS_CLIENTS", tls_clients;
    /// Whose certificates clients may show, a PEM file; empty for nobody's.
    tls_client_ca: String = String::new(), "CROSSFADE_TLS_CLIENT_CA", any;
    /// Whether clients show certificates: "off", "optional" or "required".
    tls_client_certificates: String = "off".to_owned(), "CROSSFADE_TLS_CLIENT_CERTIFICATES", word::<ClientCertificates>;
    /// TLS towards the server, as libpq's sslmode: disable, allow, prefer, require, verify-ca, verify-full.
    upstream_sslmode: String = "prefer".to_owned(), "CROSSFADE_UPSTREAM_SSLMODE", word::<SslMode>;
    /// The roots that the server's certificate must lead to, a PEM file; empty for none.
    upstream_sslrootcert: String = String::new(), "CROSSFADE_UPSTREAM_SSLROOTCERT", any;
    /// The certificate that the server is shown, a PEM file; empty for none.
    upstream_sslcert: String = String::new(), "CROSSFADE_UPSTREAM_SSLCERT", any;
    /// Its private key, a PEM file that is not encrypted.
    upstream_sslkey: String = String::new(), "CROSSFADE_UPSTREAM_SSLKEY", any;
    /// How TLS towards the server begins: "postgres" asks first, "direct" does not (PostgreSQL 17 and later).
    upstream_sslnegotiation: String = "postgres".to_owned(), "CROSSFADE_UPSTREAM_SSLNEGOTIATION", word::<Negotiation>;
    /// The address and port of the admin port (HTTP). Without a token it must be a loopback address.
    admin: SocketAddr = local(6433), "CROSSFADE_ADMIN", any;
    /// What every request to the admin port must carry as bearer token; empty for no token. At least 16 characters.
    admin_token: Secret = Secret::default(), "CROSSFADE_ADMIN_TOKEN", token;
    /// How long a process may apply its rules without news from the database, in milliseconds.
    lease_ms: u64 = 10_000, "CROSSFADE_LEASE_MS", between(1_000, 300_000);
    /// How often the lease is renewed, in milliseconds; at most a third of lease_ms.
    lease_renew_ms: u64 = 1_000, "CROSSFADE_LEASE_RENEW_MS", between(50, 100_000);
    /// How long DDL waits for a lock before it lets everybody pass and tries again, in milliseconds.
    lock_timeout_ms: u64 = 200, "CROSSFADE_LOCK_TIMEOUT_MS", between(10, 60_000);
    /// How long new transactions may be held around a step that locks everybody out, in milliseconds. The same for all
    /// processes on one database.
    hold_ms_max: u64 = 200, "CROSSFADE_HOLD_MS_MAX", between(10, 10_000);
    /// How long one batch of the copy should take, in milliseconds.
    batch_ms: u64 = 50, "CROSSFADE_BATCH_MS", between(1, 60_000);
    /// The most rows in one batch of the copy.
    batch_rows_max: u64 = 10_000, "CROSSFADE_BATCH_ROWS_MAX", between(1, 1_000_000);
    /// The copy rests while statements take longer than this share of what they took before it, in percent.
    latency_percent_max: u64 = 200, "CROSSFADE_LATENCY_PERCENT_MAX", between(101, 100_000);
    /// The copy rests while a standby is behind by more, in milliseconds; 0 for not looking.
    replication_lag_ms_max: u64 = 5_000, "CROSSFADE_REPLICATION_LAG_MS_MAX", between(0, 86_400_000);
    /// The copy rests while more sessions than this wait for locks.
    lock_waits_max: u64 = 10, "CROSSFADE_LOCK_WAITS_MAX", between(0, 100_000);
    /// Rows that the continuous comparison of old and new reads in a second at most.
    scan_rows_per_second_max: u64 = 20_000, "CROSSFADE_SCAN_ROWS_PER_SECOND_MAX", between(100, 100_000_000);
    /// How long the continuous comparison rests between two passes over a table, in milliseconds.
    scan_rest_ms: u64 = 30_000, "CROSSFADE_SCAN_REST_MS", between(100, 86_400_000);
    /// What is logged: "error", "warn", "info", "debug", or a filter such as "info,crossfade::proxy=debug".
    log: String = "info".to_owned(), "CROSSFADE_LOG", log_filter;
    /// How it is logged, to standard error: "human" or "json".
    log_format: LogFormat = LogFormat::Human, "CROSSFADE_LOG_FORMAT", any;
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Human,
    /// One JSON object for each line.
    Json,
}

impl LogFormat {
    fn name(self) -> &'static str {
        match self {
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        }
    }
}

impl FromStr for LogFormat {
    type Err = String;
    fn from_str(text: &str) -> Result<LogFormat, String> {
        [LogFormat::Human, LogFormat::Json]
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| format!("no log format is named {text:?}; the formats are human, json"))
    }
}

/// Rules that give a shape to sessions which choose none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shapes(pub Vec<ShapeRule>);

/// A text that may hold a password: never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "hidden" })
    }
}

impl FromStr for Secret {
    type Err = String;
    fn from_str(text: &str) -> Result<Secret, String> {
        Ok(Secret(text.to_owned()))
    }
}

/// A value that an option may have: how it is written as text (flag, environment) and in the file.
trait Setting: Sized {
    const PLACEHOLDER: &'static str;
    fn from_words(text: &str) -> Result<Self, String>;
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(|| format!("expected text in quotes, found {}", kind(value)))?;
        Self::from_words(text)
    }
    fn to_toml(&self) -> String;
}

impl Setting for SocketAddr {
    const PLACEHOLDER: &'static str = "HOST:PORT";
    /// Takes `http://` too: one variable serves `run`, and the commands that talk to it.
    fn from_words(text: &str) -> Result<SocketAddr, String> {
        let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let wrong = |why: &str| format!("{text:?} is no address{why}; expected host and port, such as 127.0.0.1:6432");
        if let Ok(address) = bare.parse() {
            return Ok(address);
        }
        let mut found = bare.to_socket_addrs().map_err(|error| wrong(&format!(" ({error})")))?;
        found.next().ok_or_else(|| wrong(""))
    }
    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for u64 {
    const PLACEHOLDER: &'static str = "NUMBER";
    fn from_words(text: &str) -> Result<u64, String> {
        text.replace('_', "").parse().map_err(|_| format!("expected a whole number, found {text:?}"))
    }
    fn from_value(value: &DeValue<'_>) -> Result<u64, String> {
        let number = value.as_integer().ok_or_else(|| format!("expected a whole number, found {}", kind(value)))?;
        u64::from_str_radix(number.as_str(), number.radix())
            .map_err(|_| format!("expected a whole number from 0 on, found {}", number.as_str()))
    }
    fn to_toml(&self) -> String {
        let digits = self.to_string();
        let mut grouped = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                grouped.push('_');
            }
            grouped.push(digit);
        }
        grouped
    }
}

impl Setting for String {
    const PLACEHOLDER: &'static str = "TEXT";
    fn from_words(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }
    fn to_toml(&self) -> String {
        quoted(self)
    }
}

impl Setting for Secret {
    const PLACEHOLDER: &'static str = "TEXT";
    fn from_words(text: &str) -> Result<Secret, String> {
        Ok(Secret(text.to_owned()))
    }
    fn to_toml(&self) -> String {
        quoted(&self.0)
    }
}

impl Setting for Shapes {
    const PLACEHOLDER: &'static str = "RULES";
    fn from_words(text: &str) -> Result<Shapes, String> {
        text.split(';')
            .map(str::trim)
            .filter(|rule| !rule.is_empty())
            .map(shape_rule)
            .collect::<Result<_, _>>()
            .map(Shapes)
    }
    fn from_value(value: &DeValue<'_>) -> Result<Shapes, String> {
        let wrong = || format!("expected a list of texts, found {}", kind(value));
        let rules = value.as_array().ok_or_else(wrong)?;
        let each = rules.iter().map(|rule| shape_rule(rule.get_ref().as_str().ok_or_else(wrong)?));
        each.collect::<Result<_, _>>().map(Shapes)
    }
    fn to_toml(&self) -> String {
        let rules: Vec<String> = self.0.iter().map(|rule| quoted(&shape_rule_text(rule))).collect();
        format!("[{}]", rules.join(", "))
    }
}

/// `user=bob,application_name=reports:new`; without a condition (`:new`) it fits everybody.
fn shape_rule(text: &str) -> Result<ShapeRule, String> {
    let (conditions, shape) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("the rule {text:?} has no colon before its shape, as in \"user=bob:new\""))?;
    let mut rule = ShapeRule { shape: shape.trim().parse()?, ..ShapeRule::default() };
    for condition in conditions.split(',').map(str::trim).filter(|condition| !condition.is_empty()) {
        let (key, value) = condition
            .split_once('=')
            .ok_or_else(|| format!("the condition {condition:?} has no equals sign, as in \"user=bob\""))?;
        let value = Some(value.trim().to_owned());
        match key.trim() {
            "user" => rule.user = value,
            "database" => rule.database = value,
            "application_name" => rule.application_name = value,
            other => return Err(format!("a rule knows user, database and application_name, not {other:?}")),
        }
    }
    Ok(rule)
}

fn shape_rule_text(rule: &ShapeRule) -> String {
    let named = [("user", &rule.user), ("database", &rule.database), ("application_name", &rule.application_name)];
    let conditions: Vec<String> =
        named.iter().filter_map(|(key, value)| value.as_ref().map(|value| format!("{key}={value}"))).collect();
    format!("{}:{}", conditions.join(","), rule.shape.name())
}

impl Setting for LogFormat {
    const PLACEHOLDER: &'static str = "FORMAT";
    fn from_words(text: &str) -> Result<LogFormat, String> {
        text.parse()
    }
    fn to_toml(&self) -> String {
        quoted(self.name())
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn from_text<T: Setting>(text: &str, check: impl Fn(&T) -> Result<(), String>) -> Result<T, String> {
    let value = T::from_words(text)?;
    check(&value).map(|()| value)
}

fn from_toml<T: Setting>(value: &DeValue<'_>, check: impl Fn(&T) -> Result<(), String>) -> Result<T, String> {
    let value = T::from_value(value)?;
    check(&value).map(|()| value)
}

fn any<T>(_: &T) -> Result<(), String> {
    Ok(())
}

fn between(least: u64, most: u64) -> impl Fn(&u64) -> Result<(), String> + Clone {
    move |value| match value {
        value if (least..=most).contains(value) => Ok(()),
        value => Err(format!("expected a number from {least} to {most}, found {value}")),
    }
}

fn upstream(url: &Secret) -> Result<(), String> {
    // Empty: not said here; whether it was said anywhere is seen at the end.
    if url.is_empty() { Ok(()) } else { Upstream::parse(url.reveal()).map(|_| ()) }
}

/// The shortest token that is taken.
const TOKEN_CHARACTERS_MIN: usize = 16;

fn token(token: &Secret) -> Result<(), String> {
    let visible = token.reveal().bytes().all(|byte| byte.is_ascii_graphic());
    match token.reveal().len() {
        0 => Ok(()),
        length if length >= TOKEN_CHARACTERS_MIN && visible => Ok(()),
        _ => Err(format!("a token has at least {TOKEN_CHARACTERS_MIN} visible ASCII characters and no spaces")),
    }
}

/// A word that a type of the proxy's has a meaning for.
#[expect(clippy::ptr_arg, reason = "a check takes the option's own type")]
fn word<T: DeserializeOwned>(text: &String) -> Result<(), String> {
    meaning::<T>(text).map(|_| ())
}

fn meaning<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let text: StrDeserializer<'_, serde::de::value::Error> = text.into_deserializer();
    T::deserialize(text).map_err(|error| error.to_string())
}

#[expect(clippy::ptr_arg, reason = "a check takes the option's own type")]
fn tls_clients(text: &String) -> Result<(), String> {
    match text.as_str() {
        "optional" | "required" => Ok(()),
        other => Err(format!("expected \"optional\" or \"required\", found {other:?}")),
    }
}

fn permissions(text: &String) -> Result<(), String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(()),
        Ok(_) | Err(_) => Err(format!("expected an octal mode from \"0\" to \"0777\", found {text:?}")),
    }
}

fn pooler(text: &String) -> Result<(), String> {
    match (text.is_empty(), pooler_address(text)) {
        (true, _) | (false, Some(_)) => Ok(()),
        (false, None) => Err(format!("expected host:port, or /folder:port, found {text:?}")),
    }
}

fn pooler_address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), port.parse().ok()?)).filter(|_| !host.is_empty())
}

fn log_filter(filter: &String) -> Result<(), String> {
    filter.parse::<tracing_subscriber::filter::Targets>().map(|_| ()).map_err(|error| {
        format!("{filter:?} is no log filter ({error}); expected a level such as info, or info,crossfade::proxy=debug")
    })
}

/// Options that a running process takes over when it reads its file again.
pub const RELOADED: &[&str] = &["connections_max", "idle_transaction_timeout_ms", "idle_session_timeout_ms", "log"];

impl Config {
    /// The options in which another configuration differs and that a running process does not take over.
    pub fn needs_restart(&self, other: &Config) -> Vec<&'static str> {
        let pairs = self.entries().into_iter().zip(other.entries());
        let mut differ: Vec<&str> = pairs.filter(|(ours, theirs)| ours != theirs).map(|((name, _), _)| name).collect();
        differ.retain(|name| !RELOADED.contains(name));
        differ
    }

    /// Takes over of another configuration what a running process takes over.
    pub fn take_reloaded(&mut self, other: &Config) {
        self.connections_max = other.connections_max;
        self.idle_transaction_timeout_ms = other.idle_transaction_timeout_ms;
        self.idle_session_timeout_ms = other.idle_session_timeout_ms;
        self.log.clone_from(&other.log);
    }

    /// Where clients on this machine find the proxy, as libpq looks for it.
    pub fn unix_socket(&self) -> Option<PathBuf> {
        let folder = Some(&self.unix_socket_directory).filter(|folder| !folder.is_empty())?;
        Some(PathBuf::from(folder).join(format!(".s.PGSQL.{}", self.listen.port())))
    }

    /// Who may connect there, as a file's mode.
    pub fn unix_socket_mode(&self) -> u32 {
        u32::from_str_radix(&self.unix_socket_permissions, 8).unwrap_or(0o700)
    }

    /// The pooler's host and port, where there is one.
    pub fn pooler(&self) -> Option<(String, u16)> {
        pooler_address(&self.pooler)
    }

    /// What the options say of TLS. Its words were checked when they were read.
    pub fn tls(&self) -> TlsConfig {
        let file = |name: &String| (!name.is_empty()).then(|| PathBuf::from(name));
        let client = file(&self.tls_certificate).map(|certificate| ClientTls {
            certificate,
            key: PathBuf::from(&self.tls_key),
            client_ca: file(&self.tls_client_ca),
            client_certificates: meaning(&self.tls_client_certificates).unwrap_or_default(),
            require: self.tls_clients == "required",
        });
        let server = ServerTls {
            mode: meaning(&self.upstream_sslmode).unwrap_or_default(),
            root_certificate: file(&self.upstream_sslrootcert),
            certificate: file(&self.upstream_sslcert),
            key: file(&self.upstream_sslkey),
            negotiation: meaning(&self.upstream_sslnegotiation).unwrap_or_default(),
        };
        TlsConfig { client, server }
    }

    /// Lays a file's text over the defaults; `file` is its name for messages. Every mistake is reported.
    pub fn from_toml(text: &str, file: &str) -> Result<Config, SpecErrors> {
        let mut config = Config::default();
        let (table, broken) = DeTable::parse_recoverable(text);
        let mut errors: Vec<SpecError> = broken
            .iter()
            .map(|error| {
                let span = error.span().unwrap_or(0..0);
                mistake(text, span, error.message(), "The file is TOML: one `name = value` for each line.")
            })
            .collect();
        for (key, value) in table.get_ref() {
            match config.set(key.get_ref(), value.get_ref()) {
                Some(Ok(())) => {}
                Some(Err(why)) => {
                    let message = format!("{}: {why}", key.get_ref());
                    errors.push(mistake(text, value.span(), &message, "See config/crossfade.toml for every option."));
                }
                None => {
                    let message = format!("no option is named \"{}\"", key.get_ref());
                    let help = match nearest(key.get_ref(), NAMES.iter().copied()) {
                        Some(near) => format!("Did you mean \"{near}\"?"),
                        None => "See config/crossfade.toml for every option.".to_owned(),
                    };
                    errors.push(mistake(text, key.span(), &message, &help));
                }
            }
        }
        errors.sort_by_key(|error| error.span.start);
        if errors.is_empty() {
            return Ok(config);
        }
        Err(SpecErrors { file: file.to_owned(), text: text.to_owned(), errors })
    }

    /// Checks what the options mean together; gives the database.
    pub fn validate(&self) -> Result<Upstream, StartError> {
        if self.upstream.is_empty() {
            return Err(StartError::usage(
                "no upstream is given",
                "The proxy must know the database, and the role that owns its tables.",
                "Say --upstream postgres://owner@host:5432/database, or set `upstream` in the file.",
            ));
        }
        let upstream = Upstream::parse(self.upstream.reveal()).map_err(|why| {
            StartError::usage("the upstream is no connection string", why, "Write postgres://owner@host:5432/database.")
        })?;
        if self.admin_token.is_empty() && !self.admin.ip().is_loopback() {
            return Err(StartError::usage(
                format!("the admin port would listen on {} without a token", self.admin),
                "Whoever can reach it could change the schema.",
                "Set `admin_token` (CROSSFADE_ADMIN_TOKEN), or let `admin` be a loopback address.",
            ));
        }
        let half = self.tls_certificate.is_empty() != self.tls_key.is_empty();
        if half || (self.tls_certificate.is_empty() && self.tls_clients == "required") {
            return Err(StartError::usage(
                "TLS towards clients is set up by half",
                "It needs both tls_certificate and tls_key.",
                "Give both, or neither and leave tls_clients at \"optional\".",
            ));
        }
        if self.lease_renew_ms * 3 > self.lease_ms {
            return Err(StartError::usage(
                "the lease is renewed too rarely",
                format!("lease_renew_ms is {}, more than a third of lease_ms, {}.", self.lease_renew_ms, self.lease_ms),
                "Lower lease_renew_ms or raise lease_ms.",
            ));
        }
        Ok(upstream)
    }
}

fn mistake(text: &str, span: std::ops::Range<usize>, message: &str, help: &str) -> SpecError {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    SpecError { span, line, column, message: message.trim().to_owned(), help: help.to_owned() }
}

#[cfg(test)]
mod tests;
