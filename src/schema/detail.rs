//! Everything that hangs on one table: indexes, constraints, triggers, and whatever else names its columns.
//!
//! Pure data, as `catalog` reads it from PostgreSQL. SQL texts in it are PostgreSQL's own (`pg_get_expr` and its
//! like), written with an empty search path, so that every name outside `pg_catalog` is qualified.

use serde::{Deserialize, Serialize};

use super::{Ident, QualifiedName, Relation};

/// A table with all that hangs on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDetail {
    /// The table and its columns.
    pub relation: Relation,
    /// `server_version_num`: 150018 for 15.18.
    pub server_version: u32,
    /// Part of an inheritance tree or partition hierarchy, as parent or as child.
    pub inherits: bool,
    /// A typed table (`CREATE TABLE OF`), whose columns cannot be altered.
    pub typed: bool,
    /// What `Relation` does not say of its columns, in the same order.
    pub columns: Vec<ColumnDetail>,
    /// Its indexes, in the order in which they were made: PostgreSQL checks unique ones in that order.
    pub indexes: Vec<Index>,
    /// Its constraints (foreign keys from here to elsewhere included), in the order of their names.
    pub constraints: Vec<Constraint>,
    /// Foreign keys of other tables that point here.
    pub referenced_by: Vec<Reference>,
    /// Its triggers, without PostgreSQL's internal ones, in firing order (by name).
    pub triggers: Vec<Trigger>,
    /// Objects that depend on one of its columns, or name one: views, rules, policies, publications, functions...
    pub dependents: Vec<Dependent>,
    /// Publications that it is part of.
    pub publications: Vec<Ident>,
    /// Names of relations (indexes, mostly) in its schema that begin as ours do.
    pub names_taken: Vec<Ident>,
}

/// What matters of a column only to who adds or drops one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDetail {
    /// `attnum`.
    pub number: i16,
    /// The collation as qualified SQL, where it is not the type's own.
    pub collation: Option<String>,
    /// Whether the collation that applies is deterministic (equal means the same bytes). True without a collation.
    pub deterministic: bool,
    /// `attstattarget` where it was set.
    pub statistics: Option<i32>,
    /// `attstorage` where it is not the type's own.
    pub storage: Option<String>,
    /// `attcompression` where it was set (14 and up).
    pub compression: Option<String>,
    /// `attoptions`: `n_distinct=5`.
    pub options: Vec<String>,
    /// The comment.
    pub comment: Option<String>,
    /// Column privileges, as GRANT would give them.
    pub grants: Vec<ColumnGrant>,
    /// A sequence owned by the column (`serial`), as qualified SQL.
    pub owned_sequence: Option<String>,
    /// Whether its type is an extension's (citext, ltree), whose operators are not found with an empty search path, or
    /// a row type.
    pub foreign_type: bool,
}

/// One column privilege.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnGrant {
    /// `SELECT`, `INSERT`, `UPDATE` or `REFERENCES`.
    pub privilege: String,
    /// To whom, as SQL: a quoted role, or `PUBLIC`.
    pub grantee: String,
    /// Whether it may be passed on.
    pub grantable: bool,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its name, in the table's schema.
    pub name: Ident,
    /// The access method: `btree`.
    pub method: String,
    /// Whether it is unique.
    pub unique: bool,
    /// `NULLS NOT DISTINCT` (15 and up).
    pub nulls_not_distinct: bool,
    /// Whether it is the primary key's.
    pub primary: bool,
    /// `indisvalid`: false for what a failed CONCURRENTLY left behind.
    pub valid: bool,
    /// Whether it is the table's replica identity.
    pub replica_identity: bool,
    /// Whether CLUSTER uses it.
    pub clustered: bool,
    /// The key parts in order.
    pub keys: Vec<IndexKey>,
    /// The columns behind INCLUDE.
    pub include: Vec<Ident>,
    /// The predicate of a partial index.
    pub predicate: Option<String>,
    /// Storage parameters: `fillfactor=70`.
    pub options: Vec<String>,
    /// The tablespace as SQL, where it is not the database's own.
    pub tablespace: Option<String>,
    /// The comment.
    pub comment: Option<String>,
    /// The constraint that owns it, if any.
    pub constraint: Option<Ident>,
    /// The numbers of the columns it uses in any way (keys, expressions, predicate, INCLUDE).
    pub uses: Vec<i16>,
}

/// One key part of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexKey {
    /// The column, where the part is one.
    pub column: Option<Ident>,
    /// The expression, where it is none.
    pub expression: Option<String>,
    /// The collation as qualified SQL, where it is not the column's (or expression's type's) own.
    pub collation: Option<String>,
    /// The operator class as qualified SQL, where it is not the default.
    pub opclass: Option<String>,
    /// Parameters of the operator class: `siglen=32`.
    pub opclass_options: Vec<String>,
    /// `DESC`.
    pub descending: bool,
    /// `NULLS FIRST`.
    pub nulls_first: bool,
}

/// What a constraint is (`pg_constraint.contype`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConstraintKind {
    /// `c`
    #[serde(rename = "c")]
    Check,
    /// `f`
    #[serde(rename = "f")]
    ForeignKey,
    /// `p`
    #[serde(rename = "p")]
    PrimaryKey,
    /// `u`
    #[serde(rename = "u")]
    Unique,
    /// `x`
    #[serde(rename = "x")]
    Exclusion,
    /// `n` (18 and up)
    #[serde(rename = "n")]
    NotNull,
    /// `t`
    #[serde(rename = "t")]
    Trigger,
}

/// A constraint of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// Its name.
    pub name: Ident,
    /// What it is.
    pub kind: ConstraintKind,
    /// The columns it names, in its order.
    pub columns: Vec<Ident>,
    /// The expression of a CHECK.
    pub expression: Option<String>,
    /// `DEFERRABLE`.
    pub deferrable: bool,
    /// `INITIALLY DEFERRED`.
    pub deferred: bool,
    /// Whether it holds for the rows that were there before it.
    pub validated: bool,
    /// `NO INHERIT`.
    pub no_inherit: bool,
    /// `NOT ENFORCED` (18 and up).
    pub not_enforced: bool,
    /// Where a foreign key points.
    pub foreign: Option<ForeignKey>,
    /// The comment.
    pub comment: Option<String>,
}

/// The far side of a foreign key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// The table it points at.
    pub table: QualifiedName,
    /// The columns there, in the order of the constraint's own.
    pub columns: Vec<Ident>,
    /// `confmatchtype`: `s` simple, `f` full.
    pub match_type: String,
    /// `confupdtype`: `a` no action, `r` restrict, `c` cascade, `n` set null, `d` set default.
    pub on_update: String,
    /// `confdeltype`, the same letters.
    pub on_delete: String,
    /// The columns that ON DELETE SET NULL or SET DEFAULT sets, where not all (15 and up).
    pub on_delete_columns: Vec<Ident>,
}

/// A foreign key of another table that points here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The table that has it.
    pub table: QualifiedName,
    /// Its name.
    pub name: Ident,
    /// The columns of this table that it points at, and the others of the index that it goes by.
    pub columns: Vec<Ident>,
}

/// A trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Its name.
    pub name: Ident,
    /// `pg_get_triggerdef`.
    pub definition: String,
    /// The function it calls, as qualified SQL.
    pub function: String,
    /// The function's source, where it has one.
    pub source: Option<String>,
    /// Whether it is `BEFORE ... FOR EACH ROW` on INSERT or UPDATE, so that it may change what is stored.
    pub changes_rows: bool,
    /// `tgenabled`: `O`, `D`, `R` or `A`.
    pub enabled: String,
    /// Column numbers of `UPDATE OF`.
    pub of_columns: Vec<i16>,
}

/// What kind of object depends on a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependentKind {
    /// A view.
    View,
    /// A materialized view.
    MaterializedView,
    /// A rewrite rule that is no view's.
    Rule,
    /// A row security policy.
    Policy,
    /// A trigger whose definition (`UPDATE OF`, `WHEN`) names it.
    Trigger,
    /// A publication's column list or row filter.
    Publication,
    /// Another column, generated from it.
    GeneratedColumn,
    /// A function with an SQL-standard body.
    Function,
    /// A function whose source text names it; PostgreSQL records no dependency.
    FunctionText,
    /// An extended statistics object.
    Statistics,
    /// A sequence that it owns.
    Sequence,
    /// Anything else that `pg_depend` knows.
    Other,
}

/// An object that depends on one column, or names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependent {
    /// What it is.
    pub kind: DependentKind,
    /// PostgreSQL's description: `view public.active_users`.
    pub name: String,
    /// The column it depends on.
    pub column: Ident,
}

impl TableDetail {
    /// The column's detail.
    pub fn column(&self, name: &Ident) -> Option<&ColumnDetail> {
        let number = self.relation.column(name)?.number;
        self.columns.iter().find(|detail| detail.number == number)
    }

    /// The indexes that use the column in any way.
    pub fn indexes_using<'a>(&'a self, name: &Ident) -> impl Iterator<Item = &'a Index> + use<'a> {
        let number = self.relation.column(name).map(|column| column.number);
        self.indexes.iter().filter(move |index| number.is_some_and(|number| index.uses.contains(&number)))
    }

    /// The index of that name.
    pub fn index(&self, name: &Ident) -> Option<&Index> {
        self.indexes.iter().find(|index| &index.name == name)
    }

    /// The constraint of that name.
    pub fn constraint(&self, name: &Ident) -> Option<&Constraint> {
        self.constraints.iter().find(|constraint| &constraint.name == name)
    }
}
