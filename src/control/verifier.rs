//! Reads what PostgreSQL keeps of a role's password.
//!
//! Needs a role that may read `pg_authid`. Never logs or keeps what it reads. Heeds the password's end (CVE-2025-2291),
//! and names everything in full, so that no search_path gets between (CVE-2025-12819).

use tokio_postgres::{Client, Error};

const VERIFIER: &str = "SELECT rolpassword FROM pg_catalog.pg_authid \
    WHERE rolname OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.name AND rolcanlogin \
    AND (rolvaliduntil IS NULL OR rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now())";

/// The role's stored verifier; `None` where it may not log in with a password.
pub async fn verifier(client: &Client, role: &str) -> Result<Option<String>, Error> {
    let row = client.query_opt(VERIFIER, &[&role]).await?;
    Ok(row.and_then(|row| row.get(0)))
}
