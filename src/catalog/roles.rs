//! What roles may not do that the migration does as them, or as the owner.
//!
//! A statement that is rewritten, and the sync trigger, run as whoever sent it. What they may not call would look like a
//! value that does not fit.

use tokio_postgres::Client;

use super::{CatalogError, postgres};
use crate::migration::resolve::ResolvedType;
use crate::migration::spec::ColumnChange;
use crate::migration::{Blocker, Expr, Invalid};

/// Roles with privileges on the table and without those on what `up`, `down`, `invalid` and the types name.
pub(super) async fn without_rights(
    client: &Client,
    change: &ColumnChange,
    types: &[&ResolvedType],
) -> Result<Vec<Blocker>, CatalogError> {
    let fallback = match &change.invalid {
        Invalid::Fallback(expr) => Some(expr),
        Invalid::Quarantine | Invalid::Null | Invalid::Reject => None,
    };
    let expressions = change.up.iter().chain(&change.down).chain(fallback);
    let functions: Vec<&str> = expressions.flat_map(Expr::functions).collect();
    let types: Vec<&str> = types.iter().map(|of| of.type_sql.as_str()).collect();
    let sql = "WITH granted AS (
            SELECT c.relacl AS acl FROM pg_class c WHERE c.oid = to_regclass($1)
            UNION ALL SELECT a.attacl FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND NOT a.attisdropped),
        grantee AS (
            SELECT DISTINCT CASE WHEN g.grantee = 0 THEN 'public' ELSE pg_get_userbyid(g.grantee)::text END AS role
            FROM granted, aclexplode(acl) g WHERE g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE')),
        called AS (
            SELECT p.oid, n.oid AS schema, n.nspname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
            WHERE concat(n.nspname, '.', p.proname) = ANY ($2)),
        used AS (
            SELECT c.schema, c.nspname FROM called c
            UNION SELECT n.oid, n.nspname FROM unnest($3::text[]) AS type_sql
            JOIN pg_type t ON t.oid = to_regtype(type_sql) LEFT JOIN pg_type e ON e.oid = t.typelem
            JOIN pg_namespace n ON n.oid IN (t.typnamespace, e.typnamespace) WHERE n.nspname <> 'pg_catalog')
        SELECT role, format('USAGE ON SCHEMA %I', nspname) FROM grantee, used
        WHERE NOT has_schema_privilege(role, schema, 'USAGE')
        UNION SELECT role, format('EXECUTE ON FUNCTION %s', oid::regprocedure) FROM grantee, called
        WHERE NOT has_function_privilege(role, oid, 'EXECUTE') ORDER BY 1, 2";
    let table = change.table.quoted();
    let rows = client.query(sql, &[&table, &functions, &types]).await.map_err(postgres("look at roles"))?;
    let blocker = |row: &tokio_postgres::Row| {
        let (role, right): (String, String) = (row.get(0), row.get(1));
        let quoted = if role == "public" { "PUBLIC".to_owned() } else { format!("\"{}\"", role.replace('"', "\"\"")) };
        Blocker::new(
            "role_lacks_privilege",
            format!("role {role:?} may use the table and has no {right}"),
            "Its statements convert values, and would fail, or store values that then do not seem to fit.",
            format!("GRANT {right} TO {quoted}"),
        )
    };
    Ok(rows.iter().map(blocker).collect())
}

/// Tables that the column's foreign keys point at, and at which this role may let none point.
pub(super) async fn without_references(client: &Client, change: &ColumnChange) -> Result<Vec<Blocker>, CatalogError> {
    let sql = "SELECT k.conname::text, k.confrelid::regclass::text, quote_ident(current_user)
        FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attname = $2 AND a.attnum = ANY (k.conkey)
        WHERE k.conrelid = to_regclass($1) AND k.contype = 'f' AND k.conparentid = 0 AND EXISTS (
            SELECT FROM unnest(k.confkey) n WHERE NOT has_column_privilege(k.confrelid, n, 'REFERENCES'))";
    let names = [&change.table.quoted(), change.column.as_str()];
    let rows = client.query(sql, &[&names[0], &names[1]]).await.map_err(postgres("look at foreign keys"))?;
    let blocker = |row: &tokio_postgres::Row| {
        let (name, table, role): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        Blocker::new(
            "no_references_privilege",
            format!("foreign key {name:?} points at {table}, and role {role} may let none point there"),
            "The new column gets the same foreign key, made by that role.",
            format!("GRANT REFERENCES ON {table} TO {role}"),
        )
    };
    Ok(rows.iter().map(blocker).collect())
}
