//! The lens: how the old shape of a table and its new shape say the same thing.
//!
//! Pure data. Everything else (DDL, dual writes, reads, backfill, drift query, sync trigger) is derived from a lens and
//! from nothing else; see `rules` and `ddl`.

use serde::{Deserialize, Serialize};

use super::Expr;
use crate::schema::{Ident, QualifiedName};

/// The two shapes of one table, and the way between them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lens {
    /// The table, in both shapes.
    pub table: QualifiedName,
    /// The columns that only the old shape has (or that mean something else there).
    pub old: Vec<LensColumn>,
    /// The columns that only the new shape has.
    pub new: Vec<LensColumn>,
}

/// A column of one shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LensColumn {
    /// The name that a session of this shape uses; also the name of the column that stores it.
    pub name: Ident,
    /// Its type with modifier: `character varying(100)`.
    pub type_sql: String,
    /// Its type without modifier: `character varying`.
    pub base_type_sql: String,
    /// Its index (from 0) among the columns of its shape.
    pub position: usize,
    /// A column of the other side that holds the same values, so that a unique index over that column serves as the
    /// arbiter of `ON CONFLICT` for this one.
    pub twin: Option<Ident>,
    /// Its value, over the columns of the other shape.
    pub from: Conversion,
}

/// How one side's column is computed from the other side's columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversion {
    /// The value to assign. A bare column leaves the conversion to PostgreSQL's assignment cast, which raises an error
    /// where an explicit cast would truncate. Raises PostgreSQL's own error for a value that does not fit.
    pub assign: Expr,
    /// The value as an expression of exactly the column's type. A bare column where the types are the same.
    pub read: Expr,
    /// The value, or NULL for what does not fit. Never raises an error. Equal to `read` where everything fits.
    pub safe: Expr,
    /// True for values that fit; `None` where every value does.
    pub fits: Option<Expr>,
}

impl Conversion {
    /// The same value under another name.
    pub fn identity(column: &Ident) -> Conversion {
        let expr = Expr::column(column.clone());
        Conversion { assign: expr.clone(), read: expr.clone(), safe: expr, fits: None }
    }
}

/// What to do with a row whose old value `up` cannot convert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Invalid {
    /// The row is recorded, its new column stays NULL, and reads cannot be switched while one is left.
    #[default]
    Quarantine,
}

/// What to do with a statement on the table that cannot be rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnsupported {
    /// Answer it with a clear error.
    #[default]
    Refuse,
    /// Pass it as it is, with a warning to the client and in the log.
    Warn,
}
