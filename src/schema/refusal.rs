//! A refusal: what we answer to a client instead of running its statement.
//!
//! Carries PostgreSQL's message, detail and hint. Never quotes a client's data. The wire form is made in `wire`.

use std::fmt;

/// A five-character SQLSTATE (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub &'static str);

impl SqlState {
    /// `feature_not_supported`.
    pub const UNSUPPORTED: SqlState = SqlState("0A000");
    /// `duplicate_column`.
    pub const DUPLICATE_COLUMN: SqlState = SqlState("42701");
    /// `undefined_column`.
    pub const UNDEFINED_COLUMN: SqlState = SqlState("42703");
    /// `syntax_error`.
    pub const SYNTAX_ERROR: SqlState = SqlState("42601");
    /// `ambiguous_column`.
    pub const AMBIGUOUS_COLUMN: SqlState = SqlState("42702");
    /// `cannot_connect_now`: this proxy's rules may be stale.
    pub const CANNOT_CONNECT_NOW: SqlState = SqlState("57P03");
    /// `admin_shutdown`.
    pub const ADMIN_SHUTDOWN: SqlState = SqlState("57P01");
    /// `connection_failure`: the server behind us cannot be reached.
    pub const CONNECTION_FAILURE: SqlState = SqlState("08006");
    /// `invalid_authorization_specification`.
    pub const INVALID_AUTHORIZATION: SqlState = SqlState("28000");
    /// `protocol_violation`.
    pub const PROTOCOL_VIOLATION: SqlState = SqlState("08P01");
    /// `too_many_connections`.
    pub const TOO_MANY_CONNECTIONS: SqlState = SqlState("53300");
    /// `program_limit_exceeded`.
    pub const PROGRAM_LIMIT_EXCEEDED: SqlState = SqlState("54000");
    /// `character_not_in_repertoire`: text that is not valid in its encoding.
    pub const CHARACTER_NOT_IN_REPERTOIRE: SqlState = SqlState("22021");
}

/// Why a statement is answered with an error of ours, and what to do about it.
///
/// `message` is lower case, one line, without a final full stop; `detail` and `hint` are full sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The SQLSTATE the client sees.
    pub state: SqlState,
    /// What happened.
    pub message: String,
    /// Why.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// Byte offset (from 0) in the client's own text, when the refusal is about one place in it.
    pub offset: Option<usize>,
}

impl Refusal {
    /// A refusal with this SQLSTATE.
    pub fn new(state: SqlState, message: impl Into<String>) -> Refusal {
        Refusal { state, message: message.into(), detail: None, hint: None, offset: None }
    }

    /// `0A000`: a construct that is out of scope on a table under migration.
    pub fn unsupported(message: impl Into<String>) -> Refusal {
        Refusal::new(SqlState::UNSUPPORTED, message)
    }

    /// With the reason, as full sentences.
    pub fn detail(mut self, detail: impl Into<String>) -> Refusal {
        self.detail = Some(detail.into());
        self
    }

    /// With what to do, as full sentences.
    pub fn hint(mut self, hint: impl Into<String>) -> Refusal {
        self.hint = Some(hint.into());
        self
    }

    /// At this byte of the client's text.
    pub fn at(mut self, offset: usize) -> Refusal {
        self.offset = Some(offset);
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.state.0)?;
        if let Some(detail) = &self.detail {
            write!(f, "\nDETAIL: {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nHINT: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
