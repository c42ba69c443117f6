//! What can go wrong in the control plane, said as what happened, why, and what to do.
//!
//! The HTTP status and the exit code are chosen from the kind, in `admin` and `cli`.

use tokio_postgres::error::SqlState;

use super::db::Upstream;
use crate::catalog::CatalogError;
use crate::migration::Blocker;
use crate::migration::spec::SpecErrors;

/// An error of the control plane.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached, or the connection was lost: whether the last command took effect is not known.
    #[error("the database at {upstream} cannot be reached")]
    Unreachable {
        /// Host, port and database.
        upstream: String,
        /// What the operating system or the server said.
        detail: String,
    },
    /// The database refused a statement of ours.
    #[error("{}", database_message(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The catalog could not be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// No migration has that name.
    #[error("no migration is named \"{0}\"")]
    NotFound(String),
    /// What was asked for does not go with the state.
    #[error("{message}")]
    Conflict {
        /// What does not go.
        message: String,
        /// Why.
        detail: String,
        /// What to do.
        hint: String,
    },
    /// Something must be solved first.
    #[error("{message}")]
    Blocked {
        /// What is blocked.
        message: String,
        /// What blocks it. Never empty.
        blockers: Vec<Blocker>,
    },
    /// The request itself is wrong.
    #[error("{message}")]
    Invalid {
        /// What is wrong.
        message: String,
        /// Where, or why.
        detail: String,
        /// What to do.
        hint: String,
    },
    /// The migration file has mistakes.
    #[error("the migration file has {} {}", .0.errors.len(), if .0.errors.len() == 1 { "mistake" } else { "mistakes" })]
    Spec(Box<SpecErrors>),
    /// A record in the schema `crossfade` cannot be read.
    #[error("a record in the schema crossfade cannot be read")]
    Record(String),
}

impl Error {
    /// The connection could not be made.
    pub fn unreachable(upstream: &Upstream, error: &tokio_postgres::Error) -> Error {
        Error::Unreachable { upstream: upstream.to_string(), detail: database_detail(error) }
    }

    /// A state that the request does not go with.
    pub fn conflict(message: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Conflict { message: message.into(), detail: detail.into(), hint: hint.into() }
    }

    /// A request that is wrong whatever the state.
    pub fn invalid(message: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Invalid { message: message.into(), detail: detail.into(), hint: hint.into() }
    }

    /// Why, as full sentences; empty where there is nothing to add.
    pub fn detail(&self) -> String {
        match self {
            Error::Unreachable { detail, .. } | Error::Conflict { detail, .. } | Error::Invalid { detail, .. } => {
                detail.clone()
            }
            Error::Database(error) | Error::Catalog(CatalogError::Postgres { source: error, .. }) => {
                database_detail(error)
            }
            Error::Catalog(CatalogError::Answer { message, .. }) => message.clone(),
            Error::NotFound(_) => String::new(),
            Error::Blocked { blockers, .. } => {
                let lines: Vec<String> =
                    blockers.iter().map(|b| format!("{} ({}). {}", b.what, b.code, b.why)).collect();
                lines.join("\n")
            }
            Error::Spec(mistakes) => mistakes
                .errors
                .iter()
                .map(|mistake| format!("{}:{}: {}", mistake.line, mistake.column, mistake.message))
                .collect::<Vec<_>>()
                .join("\n"),
            Error::Record(detail) => detail.clone(),
        }
    }

    /// What to do; empty where only a look into the log helps.
    pub fn hint(&self) -> String {
        match self {
            Error::Unreachable { .. } => {
                "Start the database or correct `upstream`; the proxy tries again by itself.".into()
            }
            Error::Conflict { hint, .. } | Error::Invalid { hint, .. } => hint.clone(),
            Error::Blocked { blockers, .. } => {
                let mut hints: Vec<&str> = blockers.iter().map(|blocker| blocker.todo.as_str()).collect();
                hints.dedup();
                hints.join("\n")
            }
            Error::Database(error) | Error::Catalog(CatalogError::Postgres { source: error, .. }) => {
                error.as_db_error().and_then(|error| error.hint()).unwrap_or_default().to_owned()
            }
            Error::Catalog(CatalogError::Answer { .. }) => String::new(),
            Error::NotFound(_) => "List them with: crossfade status".into(),
            Error::Spec(_) => "Correct the file; nothing was changed.".into(),
            Error::Record(_) => "Was the schema crossfade changed by hand, or by a newer version?".into(),
        }
    }

    /// The SQLSTATE, when the database said one.
    pub fn sql_state(&self) -> Option<&SqlState> {
        self.database().and_then(tokio_postgres::Error::code)
    }

    fn database(&self) -> Option<&tokio_postgres::Error> {
        match self {
            Error::Database(error) | Error::Catalog(CatalogError::Postgres { source: error, .. }) => Some(error),
            Error::Catalog(CatalogError::Answer { .. })
            | Error::Unreachable { .. }
            | Error::NotFound(_)
            | Error::Conflict { .. }
            | Error::Blocked { .. }
            | Error::Invalid { .. }
            | Error::Spec(_)
            | Error::Record(_) => None,
        }
    }

    /// Whether somebody else's lock, a deadlock or a conflict with another transaction stopped it: trying again is right.
    pub fn is_contention(&self) -> bool {
        let transient =
            [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE];
        self.sql_state().is_some_and(|state| transient.contains(state))
    }

    /// Whether the connection is gone, so that the true state must be looked at before anything is tried again.
    pub fn is_lost_connection(&self) -> bool {
        let shutdown = [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::IDLE_SESSION_TIMEOUT,
        ];
        match self.database() {
            // Without an SQLSTATE it is the connection that failed, or a value that could not be read.
            Some(error) => {
                error.code().map_or(error.is_closed() || error.as_db_error().is_none(), |code| shutdown.contains(code))
            }
            None => matches!(self, Error::Unreachable { .. }),
        }
    }
}

fn database_message(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} (SQLSTATE {})", said.message(), said.code().code()),
        None => format!("the connection to the database failed: {}", chain(error)),
    }
}

fn database_detail(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => match (said.detail(), said.where_()) {
            (Some(detail), _) => detail.to_owned(),
            (None, Some(context)) => context.to_owned(),
            (None, None) => format!("{}: {}", said.severity(), said.message()),
        },
        None => chain(error),
    }
}

/// An error with its causes, which `tokio_postgres` leaves out of its own text.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}
