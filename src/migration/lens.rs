//! The lens: how the old shape of a table and its new shape say the same thing.
//!
//! Pure data. Everything else (DDL, dual writes, reads, backfill, drift query, sync trigger) is derived from a lens and
//! from nothing else; see `rules` and `ddl`.

use serde::{Deserialize, Serialize};

use super::{Expr, coercion};
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
    /// The name that a session of this shape uses.
    pub name: Ident,
    /// The name of the column that stores it until the contract, where that is another one: both shapes may use one name,
    /// and a table cannot. From the contract on `name` stores it.
    #[serde(default)]
    pub stored: Option<Ident>,
    /// What the storage of a new column holds for old values that do not fit.
    #[serde(default)]
    pub misfits: Misfits,
    /// Its type with modifier: `character varying(100)`.
    pub type_sql: String,
    /// Its type without modifier: `character varying`.
    pub base_type_sql: String,
    /// Its index (from 0) among the columns of its shape, when the migration began.
    pub position: usize,
    /// The table's OID and the number (`attnum`) of the column whose place it has: columns may come and go after the
    /// contract, and numbers stay. Not so where the table was restored from a dump, and has another OID.
    #[serde(default)]
    pub origin: Option<(u32, i16)>,
    /// A column of the other side, by its name there, that is equal where this one is, so that a unique index over that column serves as the
    /// arbiter of `ON CONFLICT` for this one.
    pub twin: Option<Ident>,
    /// Its value, over the columns of the other shape.
    pub from: Conversion,
}

/// What a new column's storage holds for an old value that does not fit, while both storages exist.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfits {
    /// Once reads may move there is none: the new storage alone tells the old value.
    #[default]
    Never,
    /// NULL: where the new storage is NULL, the old one tells the old value.
    Null,
    /// NULL or this value over the old columns, which never raises an error: where the new storage is either, the old
    /// one tells the old value.
    Fallback(Expr),
}

impl LensColumn {
    /// The column that stores it until the contract.
    pub fn stored(&self) -> &Ident {
        self.stored.as_ref().unwrap_or(&self.name)
    }
}

impl Lens {
    /// Whether the contract gives a column's storage another name, so that rules of before it name what is gone.
    pub fn renames_storage(&self) -> bool {
        self.new.iter().any(|column| column.stored() != &column.name)
    }

    /// Whether an old column's values are not what the new storage holds as it is: they are converted on their way, or are
    /// of another type.
    pub fn converts(&self) -> bool {
        self.new.iter().any(|new| {
            let source = new.from.assign.as_column().and_then(|name| self.old.iter().find(|old| &old.name == name));
            source.is_none_or(|old| {
                coercion::differs((&old.type_sql, &old.base_type_sql), (&new.type_sql, &new.base_type_sql))
            })
        })
    }

    /// The column that stores what the old shape calls so, while there is old storage.
    pub fn old_stored(&self, name: &Ident) -> Ident {
        stored(&self.old, name)
    }

    /// The column that stores what the new shape calls so, until the contract.
    pub fn new_stored(&self, name: &Ident) -> Ident {
        stored(&self.new, name)
    }
}

fn stored(columns: &[LensColumn], name: &Ident) -> Ident {
    columns.iter().find(|column| &column.name == name).map_or(name, LensColumn::stored).clone()
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
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Invalid {
    /// The row is recorded, its new column stays NULL, and reads cannot be switched while one is left.
    #[default]
    Quarantine,
    /// Its new column is NULL; nothing is recorded.
    Null,
    /// The write is refused; rows that were there before are recorded as in quarantine.
    Reject,
    /// Its new column gets this value over the old column. A row for which this fails too is recorded.
    Fallback(Expr),
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
