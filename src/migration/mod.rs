//! Migrations: changes, their lenses, phases, routes, gates and DDL plans.
//!
//! Pure. Knows no socket, no clock and no client SQL; what it derives is data for the rooms above.

mod changed;
mod coercion;
pub(crate) mod copies;
pub mod ddl;
mod expr;
pub mod gate;
mod lens;
pub mod masks;
pub(crate) mod near;
mod phase;
pub mod plan;
mod read;
pub mod resolve;
mod rules;
pub mod spec;
pub(crate) mod text;
pub mod walk;

pub use changed::changed;
pub use expr::{Expr, ExprBuilder, ExprError};
pub use gate::Blocker;
pub use lens::{Conversion, Invalid, Lens, LensColumn, Misfits, OnUnsupported};
pub use near::nearest;
pub use phase::{Bucket, Epoch, Percent, Phase, Route, Shape};
pub use resolve::Migration;
pub use rules::{ActiveMigration, Rules, Store, TableRules, TableView, ViewColumn};
pub use spec::{MigrationName, MigrationSpec};
