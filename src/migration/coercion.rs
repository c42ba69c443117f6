//! What storing a value in a column makes of it, as an expression: `up` and the other side's storage take the value that
//! the session's own column would have had.
//!
//! A modifier (`numeric(12,2)`, `char(5)`) rounds, pads or refuses. An explicit cast does the same, but for strings and bits,
//! which it cuts: for those PostgreSQL's own coercion functions are called as an assignment calls them ("CREATE CAST", the
//! third argument: whether the cast is an explicit one).

use super::ViewColumn;

/// How the modifier of a type works.
enum Modifier<'a> {
    None,
    /// As an explicit cast does it.
    Cast,
    /// By that function, with that modifier (`atttypmod`).
    Function(&'a str, usize),
}

fn modifier<'a>(type_sql: &str, base_type_sql: &str) -> Modifier<'a> {
    if type_sql == base_type_sql {
        return Modifier::None;
    }
    let length = || type_sql.strip_suffix(')')?.rsplit('(').next()?.parse::<usize>().ok();
    // `VARHDRSZ` is part of a string's modifier.
    match (base_type_sql, length()) {
        ("character varying", Some(length)) => Modifier::Function("pg_catalog.\"varchar\"", length + 4),
        ("bpchar" | "character", Some(length)) => Modifier::Function("pg_catalog.bpchar", length + 4),
        ("\"bit\"" | "bit", Some(length)) => Modifier::Function("pg_catalog.\"bit\"", length),
        ("bit varying", Some(length)) => Modifier::Function("pg_catalog.varbit", length),
        // Of an array of those a cast would cut the elements.
        (base, None)
            if ["character varying[]", "bpchar[]", "character[]", "\"bit\"[]", "bit varying[]"].contains(&base) =>
        {
            Modifier::None
        }
        (_, _) => Modifier::Cast,
    }
}

impl ViewColumn {
    /// What goes before and behind an expression to make it the value that this column has when the expression is assigned,
    /// for a store in a column of that type, with and without modifier.
    pub fn around_value(&self, type_sql: &str, base_type_sql: &str) -> (String, String) {
        let base = &self.base_type_sql;
        let plain = || ("((".to_owned(), format!(")::{base})"));
        if !self.differs_from(type_sql, base_type_sql) {
            return plain();
        }
        match modifier(&self.type_sql, base) {
            Modifier::None => plain(),
            Modifier::Cast => ("((".to_owned(), format!(")::{})", self.type_sql)),
            Modifier::Function(name, modifier) => (format!("{name}((("), format!(")::{base}), {modifier}, false)")),
        }
    }

    /// Whether a column of that type may take a value otherwise than this one would have it.
    pub fn differs_from(&self, type_sql: &str, base_type_sql: &str) -> bool {
        differs((&self.type_sql, &self.base_type_sql), (type_sql, base_type_sql))
    }
}

/// Whether a column of the second type, with and without modifier, may take a value otherwise than one of the first would have
/// it. A string that is no longer than the second allows is what the first has too.
pub(super) fn differs(one: (&str, &str), other: (&str, &str)) -> bool {
    if one.1 != other.1 {
        return true;
    }
    match (modifier(one.0, one.1), modifier(other.0, other.1)) {
        (Modifier::None, _) => false,
        (Modifier::Function(_, limit), Modifier::Function(_, shorter)) if !one.1.contains("bit") => limit < shorter,
        (Modifier::Cast | Modifier::Function(..), _) => one.0 != other.0,
    }
}

/// A default of a column of that type, as the column would have it. Strings are left: a default that is too long is an
/// error in either column.
pub(super) fn default_of(default: &str, type_sql: &str, base_type_sql: &str) -> String {
    match modifier(type_sql, base_type_sql) {
        Modifier::Cast => format!("({default})::{type_sql}"),
        Modifier::None | Modifier::Function(..) => default.to_owned(),
    }
}
