//! The derived DDL, sync trigger, copy, scans and preflight against a real PostgreSQL.

#[path = "migration/bench.rs"]
mod bench;
#[path = "migration/copies.rs"]
mod copies;
#[path = "migration/life.rs"]
mod life;
#[path = "migration/possible.rs"]
mod possible;
#[path = "migration/types.rs"]
mod types;
#[path = "migration/writes.rs"]
mod writes;
