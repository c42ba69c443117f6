//! Who changed what, when, from where and why.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio_postgres::GenericClient;

use crate::control::Error;

/// How many audit lines one answer holds at most.
const AUDIT_LINES_MAX: i64 = 1_000;

/// Who asks for a change, from where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// A person or program.
    pub who: String,
    /// The address the request came from.
    pub from_address: String,
    /// The reason given.
    pub why: String,
}

impl Actor {
    /// The coordinator itself, for this reason.
    pub fn coordinator(why: impl Into<String>) -> Actor {
        Actor { who: "crossfade".to_owned(), from_address: "coordinator".to_owned(), why: why.into() }
    }

    /// A process that only follows, for this reason.
    pub fn proxy(why: impl Into<String>) -> Actor {
        Actor { who: "crossfade".to_owned(), from_address: "proxy".to_owned(), why: why.into() }
    }
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number, in order.
    pub id: i64,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The migration, where it is about one.
    pub migration: Option<String>,
    /// Who.
    pub who: String,
    /// From which address.
    pub from_address: String,
    /// What was changed.
    pub what: String,
    /// Why.
    pub why: String,
    /// More, by kind of change.
    pub detail: serde_json::Value,
}

/// Writes one line, in the caller's transaction.
pub async fn note(
    client: &impl GenericClient,
    actor: &Actor,
    migration: Option<&str>,
    what: &str,
    detail: serde_json::Value,
) -> Result<(), Error> {
    client
        .execute(
            "INSERT INTO crossfade.audit (migration, who, from_address, what, why, detail) VALUES ($1, $2, $3, $4, $5, $6)",
            &[&migration, &actor.who, &actor.from_address, &what, &actor.why, &detail],
        )
        .await?;
    Ok(())
}

/// The latest lines, newest first; of one migration, or of all.
pub async fn audit_log(
    client: &impl GenericClient,
    migration: Option<&str>,
    limit: i64,
) -> Result<Vec<AuditEntry>, Error> {
    let rows = client
        .query(
            "SELECT id, at, migration, who, from_address, what, why, detail FROM crossfade.audit
              WHERE $1::text IS NULL OR migration = $1 ORDER BY id DESC LIMIT $2",
            &[&migration, &limit.clamp(1, AUDIT_LINES_MAX)],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| AuditEntry {
            id: row.get(0),
            at: row.get(1),
            migration: row.get(2),
            who: row.get(3),
            from_address: row.get(4),
            what: row.get(5),
            why: row.get(6),
            detail: row.get(7),
        })
        .collect())
}
