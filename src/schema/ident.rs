//! Identifiers as PostgreSQL stores them, and how they are written in SQL.
//!
//! Pure. Reading identifiers out of client SQL (case folding, `U&`) is the lexer's work, in `sql`.

use std::fmt;
use std::sync::Arc;

/// The longest identifier PostgreSQL keeps (`NAMEDATALEN - 1`), in bytes.
pub const IDENT_BYTES_MAX: usize = 63;

/// A name as the catalog stores it: folded, unquoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Ident(Arc<str>);

/// Why a text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentError {
    /// No characters.
    #[error("an identifier cannot be empty")]
    Empty,
    /// PostgreSQL would cut it.
    #[error("the name {0:?} has {1} bytes, and PostgreSQL keeps {IDENT_BYTES_MAX}")]
    TooLong(String, usize),
    /// A NUL byte.
    #[error("an identifier cannot contain a NUL byte")]
    Nul,
}

impl Ident {
    /// The identifier with exactly this text (`Screen Name` is `"Screen Name"` in SQL).
    pub fn new(text: &str) -> Result<Ident, IdentError> {
        if text.is_empty() {
            return Err(IdentError::Empty);
        }
        if text.len() > IDENT_BYTES_MAX {
            return Err(IdentError::TooLong(text.to_owned(), text.len()));
        }
        if text.contains('\0') {
            return Err(IdentError::Nul);
        }
        Ok(Ident(text.into()))
    }

    /// The stored text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As SQL: bare where PostgreSQL reads it back as the same name, quoted otherwise.
    pub fn quoted(&self) -> String {
        let mut bytes = self.0.bytes();
        let starts = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
        let plain = starts && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if plain && KEYWORDS.binary_search(&self.as_str()).is_err() {
            return self.0.to_string();
        }
        format!("\"{}\"", self.0.replace('"', "\"\""))
    }
}

impl fmt::Display for Ident {
    /// The stored text, as messages show it; use [`Ident::quoted`] in SQL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Ident {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Ident, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ident::new(&text).map_err(serde::de::Error::custom)
    }
}

/// A relation's name with its schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct QualifiedName {
    /// The schema.
    pub schema: Ident,
    /// The name in it.
    pub name: Ident,
}

impl QualifiedName {
    /// Both parts as SQL.
    pub fn quoted(&self) -> String {
        format!("{}.{}", self.schema.quoted(), self.name.quoted())
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// Words that cannot stand for a column or table without quotes somewhere: `pg_get_keywords()` of category other than
/// U, over PostgreSQL 13 to 18. Sorted.
const KEYWORDS: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "json",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_table",
    "json_value",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "merge_action",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_sorted_for_the_binary_search() {
        assert!(KEYWORDS.is_sorted());
    }

    #[test]
    fn names_are_quoted_only_where_needed() {
        let quoted = |text: &str| Ident::new(text).unwrap().quoted();
        assert_eq!(quoted("handle"), "handle");
        assert_eq!(quoted("Screen Name"), "\"Screen Name\"");
        assert_eq!(quoted("user"), "\"user\"");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(quoted("größe"), "\"größe\"");
        assert_eq!(quoted("1st"), "\"1st\"");
    }

    #[test]
    fn names_that_postgresql_would_cut_are_no_identifiers() {
        assert!(Ident::new(&"x".repeat(63)).is_ok());
        assert!(matches!(Ident::new(&"x".repeat(64)), Err(IdentError::TooLong(_, 64))));
        assert!(Ident::new("").is_err());
        assert!(Ident::new("a\0b").is_err());
    }
}
