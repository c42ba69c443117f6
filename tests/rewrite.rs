//! The rewriter: its output as snapshots, one file per case, and its meaning against a real PostgreSQL.

#[path = "rewrite/bounds.rs"]
mod bounds;
#[path = "rewrite/corpus.rs"]
mod corpus;
#[path = "rewrite/fixture.rs"]
mod fixture;
#[path = "rewrite/literals.rs"]
mod literals;
#[path = "rewrite/oracle.rs"]
mod oracle;
#[path = "rewrite/snapshots.rs"]
mod snapshots;
