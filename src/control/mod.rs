//! The control plane: epochs, leases, gates, guardrails and the store, all in the schema `crossfade` of the database.

pub mod live;
