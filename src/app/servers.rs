//! What the proxy asks of the servers behind it on the control plane's login: verifiers, and who is the primary.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::control::db::Upstream;
use crate::control::hosts::Role;
use crate::control::verifier::verifier;
use crate::proxy::{RoleFuture, Roles, VerifierFuture, Verifiers};

/// How long a server's role counts as known.
const ROLE_KNOWN: Duration = Duration::from_secs(1);

/// The roles' verifiers as PostgreSQL keeps them, read by the control plane's role.
#[derive(Debug)]
pub(super) struct Stored(pub Upstream);

impl Verifiers for Stored {
    fn verifier(self: Arc<Self>, role: String) -> VerifierFuture {
        Box::pin(async move {
            let session = self.0.connect("crossfade verifier").await.map_err(|error| error.to_string())?;
            verifier(session.client(), &role).await.map_err(|error| error.to_string())
        })
    }
}

/// A server's role, or why it is not known, and since when.
type Known = (Instant, Result<Role, String>);

/// What each server was when it was last asked.
#[derive(Debug)]
pub(super) struct Asked {
    upstream: Upstream,
    hosts: Vec<Mutex<Option<Known>>>,
}

impl Asked {
    pub fn new(upstream: Upstream) -> Asked {
        let hosts = upstream.hosts().iter().map(|_| Mutex::default()).collect();
        Asked { upstream, hosts }
    }
}

impl Roles for Asked {
    /// One session asks, those that come meanwhile wait for its answer.
    fn role(self: Arc<Self>, host: usize) -> RoleFuture {
        Box::pin(async move {
            let known = self.hosts.get(host).ok_or("there is no such host")?;
            let mut known = known.lock().await;
            if let Some((at, role)) = known.as_ref()
                && at.elapsed() < ROLE_KNOWN
            {
                return role.clone();
            }
            let asked = self.upstream.role(host).await;
            let role = asked.map_err(|error| match error.detail() {
                detail if detail.is_empty() => error.to_string(),
                detail => format!("{error}: {}", detail.trim_end_matches('.')),
            });
            *known = Some((Instant::now(), role.clone()));
            role
        })
    }
}
