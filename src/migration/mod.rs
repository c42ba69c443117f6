//! Migrations: changes, their lenses, phases, routes, gates and DDL plans.
//!
//! Pure. Knows no socket, no clock and no client SQL; what it derives is data for the rooms above.

mod expr;
mod lens;
mod phase;
mod rules;

pub use expr::{Expr, ExprBuilder};
pub use lens::{Conversion, Invalid, Lens, LensColumn, OnUnsupported};
pub use phase::{Bucket, Epoch, Percent, Phase, Route, Shape};
pub use rules::{ActiveMigration, Rules, Store, TableRules, TableView, ViewColumn};
