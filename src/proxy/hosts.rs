//! The servers behind the proxy: which of several hosts a session tries, in which order.
//!
//! As libpq: in the order in which they are named, or in any order; those that cannot be reached are passed over, and so
//! are those that are not what is looked for. Does not connect itself (that is `upstream`).

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use rand::seq::SliceRandom;

use super::Upstream;
use crate::control::hosts::{Role, Target};

/// The servers, and which of them sessions take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    /// At least one.
    pub hosts: Vec<Upstream>,
    /// What a session's server must be.
    pub target: Target,
    /// Each session takes them in an order of its own.
    pub balanced: bool,
}

impl From<Upstream> for Servers {
    fn from(host: Upstream) -> Servers {
        Servers { hosts: vec![host], target: Target::Any, balanced: false }
    }
}

/// Tells what a server is now.
pub trait Roles: fmt::Debug + Send + Sync {
    /// The role of the server at that place in [`Servers::hosts`]. An error says why it is not known, as the end of a
    /// sentence.
    fn role(self: Arc<Self>, host: usize) -> RoleFuture;
}

/// What [`Roles::role`] answers with.
pub type RoleFuture = Pin<Box<dyn Future<Output = Result<Role, String>> + Send>>;

impl Servers {
    /// The hosts that one session tries, in order, each with what it must be.
    pub(super) fn order(&self) -> VecDeque<(usize, Target)> {
        let mut hosts: Vec<usize> = (0..self.hosts.len()).collect();
        if self.balanced {
            hosts.shuffle(&mut rand::rng());
        }
        let passes = self.target.passes().iter();
        passes.flat_map(|wanted| hosts.iter().map(|host| (*host, *wanted))).collect()
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Upstream::Tcp { host, port } => write!(f, "{host}:{port}"),
            Upstream::Unix { path } => write!(f, "{}", path.display()),
        }
    }
}
