//! Tables, columns and keys as data: the vocabulary of all other rooms.
//!
//! Pure. Knows nothing of migrations, SQL text or the wire; reads nothing from a database (that is `catalog`).

mod detail;
mod ident;
mod refusal;

pub use detail::{
    ColumnDetail, ColumnGrant, Constraint, ConstraintKind, Dependent, DependentKind, ForeignKey, Index, IndexKey,
    Reference, TableDetail, Trigger,
};
pub use ident::{IDENT_BYTES_MAX, Ident, IdentError, QualifiedName};
pub use refusal::{Refusal, SqlState};

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What a relation is, as far as a rewrite must know (`pg_class.relkind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RelationKind {
    /// An ordinary table (`r`).
    #[serde(rename = "r")]
    Table,
    /// A partitioned table (`p`).
    #[serde(rename = "p")]
    Partitioned,
    /// A view (`v`).
    #[serde(rename = "v")]
    View,
    /// A materialized view (`m`).
    #[serde(rename = "m")]
    MaterializedView,
    /// A foreign table (`f`).
    #[serde(rename = "f")]
    Foreign,
}

/// One column of a relation, as `pg_attribute` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: Ident,
    /// `attnum`: 1 and up, with gaps where columns were dropped.
    pub number: i16,
    /// The type with its modifier, as `format_type(atttypid, atttypmod)` writes it: `character varying(255)`.
    pub type_sql: String,
    /// The type without its modifier, as `format_type(atttypid, -1)` writes it: `character varying`, `bpchar`.
    pub base_type_sql: String,
    /// `attnotnull`.
    pub not_null: bool,
    /// The default expression as `pg_get_expr` writes it; `None` for generated columns.
    pub default: Option<String>,
    /// `GENERATED ALWAYS AS (...) STORED`.
    pub generated: bool,
    /// `GENERATED ... AS IDENTITY`.
    pub identity: bool,
}

/// A relation that a statement may name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema and name.
    pub name: QualifiedName,
    /// What it is.
    pub kind: RelationKind,
    /// Its columns in the order of their numbers, dropped ones left out.
    pub columns: Vec<Column>,
    /// The columns of its primary key in key order; empty without one.
    pub primary_key: Vec<Ident>,
}

impl Relation {
    /// The column of that name.
    pub fn column(&self, name: &Ident) -> Option<&Column> {
        self.columns.iter().find(|column| &column.name == name)
    }
}

/// A function whose result is a row of a table, or a set of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowFunction {
    /// Schema and name.
    pub name: QualifiedName,
    /// The table.
    pub table: QualifiedName,
    /// Whether every function of that name, of whatever arguments and schema, gives rows of that table.
    pub alone: bool,
}

/// The relations of one database at one moment.
///
/// System schemas are left out: a name that the catalog does not know has unknown columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    relations: HashMap<QualifiedName, Arc<Relation>>,
    system: Vec<Arc<Relation>>,
    row_functions: Vec<RowFunction>,
}

impl Catalog {
    /// A catalog of these relations.
    pub fn new(relations: impl IntoIterator<Item = Relation>) -> Catalog {
        Catalog {
            relations: relations.into_iter().map(|r| (r.name.clone(), Arc::new(r))).collect(),
            ..Catalog::default()
        }
    }

    /// The same with these functions.
    pub fn with_row_functions(self, row_functions: Vec<RowFunction>) -> Catalog {
        Catalog { row_functions, ..self }
    }

    /// Whether the functions that give rows of these tables are those, in any order.
    pub fn has_row_functions(&self, tables: &[&QualifiedName], functions: &[RowFunction]) -> bool {
        let own = self.row_functions.iter().filter(|function| tables.contains(&&function.table));
        own.clone().count() == functions.len() && own.into_iter().all(|function| functions.contains(function))
    }

    /// Puts these functions in the place of all that give rows of the tables.
    pub fn replace_row_functions(&mut self, tables: &[&QualifiedName], functions: Vec<RowFunction>) {
        self.row_functions.retain(|function| !tables.contains(&&function.table));
        self.row_functions.extend(functions);
    }

    /// The functions that give rows of tables.
    pub fn row_functions(&self) -> &[RowFunction] {
        &self.row_functions
    }

    /// The same with these relations of the system schemas, whose columns differ from one PostgreSQL to another.
    pub fn with_system(self, system: impl IntoIterator<Item = Relation>) -> Catalog {
        Catalog { system: system.into_iter().map(Arc::new).collect(), ..self }
    }

    /// Puts another relation of that name in its place, or none.
    pub fn replace(&mut self, name: &QualifiedName, relation: Option<Relation>) {
        match relation {
            Some(relation) => self.relations.insert(name.clone(), Arc::new(relation)),
            None => self.relations.remove(name),
        };
    }

    /// The relations of the system schemas that are known. Names are not looked up among them.
    pub fn system_relations(&self) -> impl Iterator<Item = &Arc<Relation>> {
        self.system.iter()
    }

    /// The relation of that schema and name.
    pub fn relation(&self, name: &QualifiedName) -> Option<&Arc<Relation>> {
        self.relations.get(name)
    }

    /// All relations, in no order.
    pub fn relations(&self) -> impl Iterator<Item = &Arc<Relation>> {
        self.relations.values()
    }

    /// The highest OID.
    pub fn newest(&self) -> Option<u32> {
        self.relations().map(|relation| relation.oid).max()
    }

    /// The first relation of that name on the path, as PostgreSQL looks up an unqualified name.
    pub fn find(&self, path: &[Ident], name: &Ident) -> Option<&Arc<Relation>> {
        path.iter().find_map(|schema| self.relation(&QualifiedName { schema: schema.clone(), name: name.clone() }))
    }
}
