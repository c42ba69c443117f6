//! Pieces of SQL that DDL and walks share: when a row is out of step, and how values are compared and quoted.
//!
//! Pure. `row` is the name that holds the row: an alias, `NEW` or `OLD`.

use super::{Expr, Migration};
use crate::schema::Ident;

/// Types whose values are equal only where they are the same.
pub(super) const EXACT: &[&str] = &[
    "bigint",
    "boolean",
    "bytea",
    "date",
    "integer",
    "oid",
    "smallint",
    "time without time zone",
    "timestamp with time zone",
    "timestamp without time zone",
    "uuid",
];

/// A string as an SQL literal. Expects `standard_conforming_strings = on`.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A string that means the same whatever `standard_conforming_strings` is.
pub(super) fn text(value: &str) -> String {
    if value.contains('\\') {
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        return format!("pg_catalog.convert_from(pg_catalog.decode('{hex}', 'hex'), 'UTF8')");
    }
    format!("'{}'", value.replace('\'', "''"))
}

/// A regular expression for that name as a whole word.
pub(crate) fn word(name: &Ident) -> String {
    let mut escaped = String::new();
    for c in name.as_str().chars() {
        if !c.is_alphanumeric() && c != '_' && c != ' ' {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    format!("(^|[^[:alnum:]_]){escaped}($|[^[:alnum:]_])")
}

/// A text between dollar quotes with a tag that does not occur in it.
pub(super) fn dollar_quoted(text: &str) -> String {
    let tag = (0u32..).map(|n| if n == 0 { "$crossfade$".to_owned() } else { format!("$crossfade{n}$") });
    let tag = tag.into_iter().find(|tag| !text.contains(tag.trim_end_matches('$'))).unwrap_or_default();
    format!("{tag}{text}{tag}")
}

/// A column of that row.
pub(super) fn field(row: &str, name: &Ident) -> String {
    format!("{row}.{}", name.quoted())
}

/// Whether two values of one type differ at all, NULL being a value.
///
/// Not by the type's own equality where that overlooks differences which a client sees (`1.0` and `1.00`, letters that
/// a collation or citext takes for equal) or does not exist (json, xml, point): then by their bytes.
pub(crate) fn distinct(base_type_sql: &str, a: &str, b: &str) -> String {
    match base_type_sql {
        "text" | "character varying" => format!("({a} COLLATE pg_catalog.\"C\" IS DISTINCT FROM ({b}))"),
        exact if EXACT.contains(&exact) => format!("({a} IS DISTINCT FROM ({b}))"),
        // Casts keep PostgreSQL from taking the two rows apart and comparing column by column.
        _ => format!("(ROW({a})::record OPERATOR(pg_catalog.*<>) ROW({b})::record)"),
    }
}

/// An expression over the old shape's names, over that row's old storage.
pub(super) fn over_old(migration: &Migration, expr: &Expr, row: &str) -> String {
    expr.render(|name| field(row, &migration.lens.old_stored(name)))
}

/// An expression over the new shape's names, over that row's new storage.
pub(super) fn over_new(migration: &Migration, expr: &Expr, row: &str) -> String {
    expr.render(|name| field(row, &migration.lens.new_stored(name)))
}

/// Whether a new column is not what the old ones say.
pub(super) fn differs(migration: &Migration, row: &str) -> String {
    let columns = migration.lens.new.iter().map(|column| {
        let safe = over_old(migration, &column.from.safe, row);
        distinct(&column.base_type_sql, &field(row, column.stored()), &safe)
    });
    any(columns)
}

/// Whether the row needs the sync trigger or the copy: it differs, or its old value does not fit.
///
/// A new value that is not NULL and does not differ came from an old value that fits, so the second question is asked
/// for NULLs only.
pub(super) fn out_of_step(migration: &Migration, row: &str) -> String {
    let unfit = migration.lens.new.iter().filter_map(|column| {
        let fits = over_old(migration, column.from.fits.as_ref()?, row);
        Some(format!("({} IS NULL AND NOT {fits})", field(row, column.stored())))
    });
    any([differs(migration, row)].into_iter().chain(unfit))
}

/// Whether every old value fits.
pub(super) fn all_fit(migration: &Migration, row: &str) -> Option<String> {
    let fits = migration.lens.new.iter().filter_map(|column| column.from.fits.as_ref());
    let each: Vec<String> = fits.map(|fits| over_old(migration, fits, row)).collect();
    (!each.is_empty()).then(|| each.join(" AND "))
}

/// Why the row's old value does not fit, as an SQL text that is NULL where it does.
pub(super) fn misfit_text(migration: &Migration, row: &str) -> String {
    let reasons: Vec<String> = migration
        .lens
        .new
        .iter()
        .filter_map(|column| {
            let fits = over_old(migration, column.from.fits.as_ref()?, row);
            let error = migration.error_function(column);
            let why = match error {
                Some(call) => over_old(migration, &call, row),
                None => literal(&format!("value too long for type {}", column.type_sql)),
            };
            Some(format!("CASE WHEN NOT {fits} THEN {why} END"))
        })
        .collect();
    match reasons.as_slice() {
        [] => "NULL::text".to_owned(),
        [one] => format!("({one})"),
        several => format!("COALESCE({})", several.join(", ")),
    }
}

fn any(conditions: impl IntoIterator<Item = String>) -> String {
    let conditions: Vec<String> = conditions.into_iter().collect();
    match conditions.as_slice() {
        [one] => one.clone(),
        several => format!("({})", several.join(" OR ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_has_no_backslash() {
        assert_eq!(text("it's"), "'it''s'");
        assert_eq!(text("a\\b"), "pg_catalog.convert_from(pg_catalog.decode('615c62', 'hex'), 'UTF8')");
    }
}
