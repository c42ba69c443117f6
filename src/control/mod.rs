//! The control plane: epochs, leases, gates, guardrails and the store, all in the schema `crossfade` of the database.

pub mod commands;
pub mod coordinator;
pub mod db;
pub mod driver;
mod error;
pub mod facts;
pub mod fence;
mod hold;
pub mod hosts;
pub mod live;
pub mod plane;
pub mod sidecar;
pub mod status;
mod steps;
pub mod store;
pub mod tls;
pub mod traffic;
pub mod verifier;

pub use error::Error;

use std::time::Duration;

use rand::Rng as _;

/// The class of the migrations' advisory locks ("xfad"): whoever holds a migration's drives it.
const MIGRATION_LOCK_CLASS: i32 = 0x7866_6164;

/// The shortest wait before something is tried again.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// How long to wait before the n-th new attempt: doubled each time up to `longest`, and up to a half less by chance, so
/// that many processes do not come at once.
pub(crate) fn backoff(failures: u32, longest: Duration) -> Duration {
    let doubled = BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest.max(BACKOFF_MIN));
    doubled.mul_f64(1.0 - rand::rng().random_range(0.0..0.5))
}
