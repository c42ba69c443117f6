//! PEM files, and what is made of them for as long as they stay as they are.
//!
//! A look at the files' times per handshake decides whether they are read again. Never fails once it worked.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::RootCertStore;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::{info, warn};

use super::TlsError;

/// Tells one state of a file from another: its inode, size and time of change.
type Stamp = Option<(u64, u64, i64, i64)>;

type Make<T> = Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>;

/// Something made of files, made again when they change.
pub(in crate::proxy) struct Reloaded<T> {
    paths: Vec<PathBuf>,
    make: Make<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    stamps: Vec<Stamp>,
    value: Arc<T>,
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl<T> Reloaded<T> {
    pub fn new(
        paths: Vec<PathBuf>,
        make: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Reloaded<T>, TlsError> {
        // Looked at before they are read: a change in between is seen the next time.
        let stamps = stamps(&paths);
        let value = Arc::new(make()?);
        Ok(Reloaded { paths, make: Box::new(make), state: Mutex::new(State { stamps, value }) })
    }

    /// What the files make now, or made last.
    pub fn current(&self) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.paths);
        if stamps != state.stamps {
            state.stamps = stamps;
            match (self.make)() {
                Ok(value) => {
                    state.value = Arc::new(value);
                    info!(files = ?self.paths, "certificates were read again");
                }
                Err(error) => warn!(%error, "changed certificates cannot be used, the earlier ones stay in force"),
            }
        }
        state.value.clone()
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let of = fs::metadata(path).ok()?;
        Some((of.ino(), of.size(), of.mtime(), of.mtime_nsec()))
    };
    paths.iter().map(stamp).collect()
}

/// The certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, PemError> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match all {
        Ok(all) if all.is_empty() => Err(content(path, "there is no certificate in it")),
        Ok(all) => Ok(all),
        Err(error) => Err(TlsError::File { path: path.to_owned(), error }),
    }
}

/// The private key of a file.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        PemError::NoItemsFound => content(path, "there is no private key in it (one with a passphrase cannot be read)"),
        error => TlsError::File { path: path.to_owned(), error },
    })
}

/// The roots of a file, and their certificates.
pub(super) fn roots(path: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let all = certificates(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in &all {
        roots.add(certificate.clone()).map_err(|error| content(path, &error.to_string()))?;
    }
    Ok((roots, all))
}

fn content(path: &Path, what: &str) -> TlsError {
    TlsError::Content { path: path.to_owned(), what: what.to_owned() }
}
