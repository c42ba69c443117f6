//! What the database itself says, read directly, never through the proxy.
//!
//! Reads only; compares with what the application believes.

use std::collections::HashMap;

use tokio_postgres::Client;

use super::application::{Model, Row, read_all};

/// Differences described in words; the rest are only counted.
const DIFFERENCES_KEPT_MAX: usize = 10;

/// How the table compares with what the application believes it holds.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// Rows in the table.
    pub rows: u64,
    /// Rows that should be there and are not, or with another value.
    pub lost: u64,
    /// Rows that nobody inserted, or that were deleted.
    pub unexpected: u64,
    /// The first differences, in words.
    pub differences: Vec<String>,
}

/// Compares every row, the name read from that column.
pub async fn compare(
    direct: &Client,
    models: &[Model],
    name_column: &str,
) -> Result<Comparison, tokio_postgres::Error> {
    let actual = read_all(direct, name_column).await?;
    let mut comparison = Comparison { rows: actual.len() as u64, ..Comparison::default() };
    let mut found: HashMap<i64, Row> = actual.into_iter().map(|row| (row.id, row)).collect();
    for expected in models.iter().flat_map(Model::rows) {
        let actual = found.remove(&expected.id);
        if actual.as_ref() != Some(expected) {
            comparison.lost += 1;
            comparison.note(format!("expected {expected:?}, found {actual:?}"));
        }
    }
    for row in found.values() {
        comparison.unexpected += 1;
        comparison.note(format!("nobody expects {row:?}"));
    }
    Ok(comparison)
}

impl Comparison {
    fn note(&mut self, difference: String) {
        if self.differences.len() < DIFFERENCES_KEPT_MAX {
            self.differences.push(difference);
        }
    }
}

/// A column as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnFact {
    /// `format_type`.
    pub type_sql: String,
    /// `attnotnull`.
    pub not_null: bool,
}

/// That column of `users`, if it exists.
pub async fn column(direct: &Client, name: &str) -> Result<Option<ColumnFact>, tokio_postgres::Error> {
    let sql = "SELECT format_type(atttypid, atttypmod), attnotnull FROM pg_attribute \
               WHERE attrelid = 'users'::regclass AND attname = $1 AND NOT attisdropped";
    let row = direct.query_opt(sql, &[&name]).await?;
    row.map(|row| Ok(ColumnFact { type_sql: row.try_get(0)?, not_null: row.try_get(1)? })).transpose()
}

/// The names of the unique constraints of `users` over exactly that column.
pub async fn unique_constraints(direct: &Client, column: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = "SELECT c.conname::text FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid \
               AND c.conkey = ARRAY[a.attnum] WHERE c.conrelid = 'users'::regclass AND c.contype = 'u' AND a.attname = $1";
    direct.query(sql, &[&column]).await?.iter().map(|row| row.try_get(0)).collect()
}

/// Triggers on `users` that are not PostgreSQL's own.
pub async fn triggers(direct: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = "SELECT tgname::text FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal ORDER BY 1";
    direct.query(sql, &[]).await?.iter().map(|row| row.try_get(0)).collect()
}

/// Rows whose two columns differ; `None` while one of them does not exist.
pub async fn drift(direct: &Client) -> Result<Option<u64>, tokio_postgres::Error> {
    let sql = "SELECT count(*) FROM users WHERE username IS DISTINCT FROM handle";
    match direct.query_one(sql, &[]).await {
        Ok(row) => Ok(Some(row.try_get::<_, i64>(0)?.unsigned_abs())),
        Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::UNDEFINED_COLUMN) => Ok(None),
        Err(error) => Err(error),
    }
}
