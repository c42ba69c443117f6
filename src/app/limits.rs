//! What the operating system allows the process.

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

/// Descriptors that the process needs besides two for each client.
const DESCRIPTORS_BESIDES: u64 = 100;

/// Raises the soft limit of open files to the hard one, and says where that is too low for the connections.
pub fn raise_descriptors(connections_max: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => info!(before, now = limit.current, "the limit of open files was raised"),
        Err(error) => {
            warn!(%error, "the limit of open files cannot be raised");
            limit.current = before;
        }
    }
    let needed = connections_max.saturating_mul(2).saturating_add(DESCRIPTORS_BESIDES);
    if limit.current.is_some_and(|most| most < needed) {
        warn!(limit = limit.current, needed, "the limit of open files is too low for connections_max");
    }
}
