//! Reads an SQL expression of ours (`up`, `down`, an index's predicate) into an [`Expr`].
//!
//! Pure. Refuses whatever is not one scalar expression over the row: subqueries, aggregates, windows, parameters,
//! comments, functions known to give another value each time. The tree serves to find columns and functions and to
//! judge; the text is kept as it was written, with columns taken out at their exact places.

use std::ops::Range;

use sqlparser::ast::{
    self, AccessExpr, Expr as Tree, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, ObjectNamePart,
    Subscript,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Token, Tokenizer};

use super::Expr;
use super::near::nearest;
use crate::schema::Ident;

/// The longest expression text, in bytes. Longer ones are refused.
pub const EXPRESSION_BYTES_MAX: usize = 8_192;

/// The most tokens of an expression: bounds the depth of its tree.
pub const EXPRESSION_TOKENS_MAX: usize = 512;

/// Why a text is no expression that a lens can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExprError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
    /// The byte of the text that it is about, where it is about one place.
    pub offset: Option<usize>,
}

impl ExprError {
    fn new(message: impl Into<String>, help: impl Into<String>) -> ExprError {
        ExprError { message: message.into(), help: help.into(), offset: None }
    }

    fn at(mut self, offset: usize) -> ExprError {
        self.offset = Some(offset);
        self
    }
}

/// One scalar expression over these columns.
pub(super) fn expression(sql: &str, columns: &[Ident]) -> Result<Expr, ExprError> {
    let tree = tree(sql)?;
    let mut reader = Reader { sql, columns, found: Vec::new() };
    reader.expr(&tree)?;
    reader.found.sort_by_key(|found| found.range.start);
    let bare = matches!(tree, Tree::Identifier(_));
    let closed = bare || matches!(tree, Tree::Nested(_));
    let mut built = Expr::build();
    if !closed {
        built = built.text("(");
    }
    let mut at = 0;
    let trimmed_end = sql.trim_end().len();
    let start = sql.len() - sql.trim_start().len();
    for found in reader.found {
        let from = at.max(start);
        if found.range.start > from {
            built = built.text(&sql[from..found.range.start]);
        }
        built = match found.what {
            What::Column(name) => built.column(name),
            What::Function(name) => built.function(sql[found.range.clone()].to_owned(), name),
        };
        at = found.range.end;
    }
    let from = at.max(start);
    if trimmed_end > from {
        built = built.text(&sql[from..trimmed_end]);
    }
    if !closed {
        built = built.text(")");
    }
    Ok(built.done())
}

/// Whether a text is one type name, with a modifier or without, and nothing else.
pub(super) fn check_type(sql: &str) -> Result<(), ExprError> {
    let help = "Write a type as in CREATE TABLE: \"varchar(100)\", \"bigint\", \"app.mood\".";
    if let Some(place) = misleading(sql) {
        return Err(ExprError::new("this is no plain type name", help).at(place));
    }
    let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).and_then(|mut parser| {
        parser.parse_data_type()?;
        parser.expect_token(&Token::EOF)?;
        Ok(())
    });
    parsed.map_err(|error| ExprError::new(format!("this is no type: {}", parser_message(&error)), help))
}

/// The tree of the text, if the text is one expression and nothing in it can be read in two ways.
fn tree(sql: &str) -> Result<Tree, ExprError> {
    let help = "Write one SQL expression over the row, such as lower(username).";
    if sql.trim().is_empty() {
        return Err(ExprError::new("the expression is empty", help));
    }
    if sql.len() > EXPRESSION_BYTES_MAX {
        return Err(ExprError::new(
            format!("the expression has {} bytes, and {EXPRESSION_BYTES_MAX} are the limit", sql.len()),
            "Put the logic into an IMMUTABLE function and call it here.",
        ));
    }
    if let Some(place) = misleading(sql) {
        return Err(ExprError::new(
            "comments, parameters, semicolons, dollar quotes, backslashes and U& are not read in an expression",
            "Write it without them; a column name that needs quotes goes into double quotes.",
        )
        .at(place));
    }
    let failed = |error: String| ExprError::new(format!("this does not parse as an SQL expression: {error}"), help);
    let dialect = PostgreSqlDialect {};
    let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location().map_err(|e| failed(e.message))?;
    let count = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count();
    if count > EXPRESSION_TOKENS_MAX {
        return Err(ExprError::new(
            format!("the expression has {count} tokens, and {EXPRESSION_TOKENS_MAX} are the limit"),
            "Put the logic into an IMMUTABLE function and call it here.",
        ));
    }
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let tree = parser.parse_expr().map_err(|error| failed(parser_message(&error)))?;
    let rest = parser.next_token();
    match rest.token {
        Token::EOF => Ok(tree),
        ref other => {
            let error = ExprError::new(format!("there is more after the expression: {other}"), help);
            Err(match byte_offset(sql, rest.span.start) {
                Some(offset) => error.at(offset),
                None => error,
            })
        }
    }
}

fn parser_message(error: &sqlparser::parser::ParserError) -> String {
    let text = error.to_string();
    text.trim_start_matches("sql parser error: ").to_owned()
}

/// The first byte that two readers could take in different ways: outside quotes, what opens comments, dollar quotes,
/// parameters or other statements; before quotes, a prefix that changes how they are read.
fn misleading(sql: &str) -> Option<usize> {
    let bytes = sql.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        match bytes[at] {
            quote @ (b'\'' | b'"') => {
                let prefixed =
                    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || matches!(bytes[at - 1], b'_' | b'&'));
                if prefixed {
                    return Some(at);
                }
                // A doubled quote closes and opens again, which comes to the same.
                let close = bytes[at + 1..].iter().position(|b| *b == quote)?;
                if quote == b'\'' && bytes[at + 1..at + 1 + close].contains(&b'\\') {
                    return Some(at);
                }
                at += close + 2;
                continue;
            }
            b';' | b'$' | b'\\' | b'`' | 0 => return Some(at),
            b'-' if rest.starts_with(b"--") => return Some(at),
            b'/' if rest.starts_with(b"/*") => return Some(at),
            b'*' if rest.starts_with(b"*/") => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The byte at a place that sqlparser gives: lines and characters from 1.
fn byte_offset(sql: &str, location: Location) -> Option<usize> {
    let line = usize::try_from(location.line.checked_sub(1)?).ok()?;
    let column = usize::try_from(location.column.checked_sub(1)?).ok()?;
    let start: usize = sql.split_inclusive('\n').take(line).map(str::len).sum();
    let text = sql.get(start..)?;
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(column).map(|at| start + at)
}

struct Found {
    range: Range<usize>,
    what: What,
}

enum What {
    Column(Ident),
    Function(String),
}

struct Reader<'a> {
    sql: &'a str,
    columns: &'a [Ident],
    found: Vec<Found>,
}

type Read = Result<(), ExprError>;

impl Reader<'_> {
    /// Walks what a lens may contain; everything else is refused.
    fn expr(&mut self, tree: &Tree) -> Read {
        match tree {
            Tree::Identifier(ident) => self.column(ident),
            Tree::Value(value) => self.value(&value.value),
            Tree::TypedString(typed) => self.value(&typed.value.value),
            Tree::Function(function) => self.function(function),
            Tree::Case { operand, conditions, else_result, .. } => {
                self.each(operand.as_deref().into_iter().chain(else_result.as_deref()))?;
                self.each(conditions.iter().flat_map(|when| [&when.condition, &when.result]))
            }
            Tree::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain),
            Tree::Substring { expr, substring_from, substring_for, .. } => self.each(
                [Some(expr), substring_from.as_ref(), substring_for.as_ref()].into_iter().flatten().map(|e| &**e),
            ),
            Tree::Trim { expr, trim_what, trim_characters, .. } => {
                self.each([Some(expr), trim_what.as_ref()].into_iter().flatten().map(|e| &**e))?;
                self.each(trim_characters.iter().flatten())
            }
            Tree::Overlay { expr, overlay_what, overlay_from, overlay_for } => self.each(
                [Some(expr), Some(overlay_what), Some(overlay_from), overlay_for.as_ref()]
                    .into_iter()
                    .flatten()
                    .map(|e| &**e),
            ),
            Tree::Array(array) if array.named => self.each(&array.elem),
            Tree::Interval(interval) => self.expr(&interval.value),
            Tree::Ceil { expr, .. } | Tree::Floor { expr, .. } => self.expr(expr),
            Tree::Position { expr, r#in } => self.each([&**expr, &**r#in]),
            Tree::Tuple(items) => self.each(items),
            Tree::CompoundIdentifier(parts) => Err(self.qualified(parts)),
            Tree::Subquery(_) | Tree::Exists { .. } | Tree::InSubquery { .. } => Err(ExprError::new(
                "a subquery cannot be part of a lens",
                "The value must follow from the row alone, or dual writes, copy and verification would disagree.",
            )),
            Tree::Wildcard(_) | Tree::QualifiedWildcard(..) => {
                Err(ExprError::new("* is not a value", "Name the columns."))
            }
            other => self.operator(other),
        }
    }

    /// Operators and the predicates that are written as words.
    fn operator(&mut self, tree: &Tree) -> Read {
        match tree {
            Tree::Nested(inner)
            | Tree::IsFalse(inner)
            | Tree::IsNotFalse(inner)
            | Tree::IsTrue(inner)
            | Tree::IsNotTrue(inner)
            | Tree::IsNull(inner)
            | Tree::IsNotNull(inner)
            | Tree::IsUnknown(inner)
            | Tree::IsNotUnknown(inner) => self.expr(inner),
            Tree::UnaryOp { expr, .. }
            | Tree::Extract { expr, .. }
            | Tree::Collate { expr, .. }
            | Tree::IsNormalized { expr, .. }
            | Tree::Cast { expr, format: None, .. } => self.expr(expr),
            Tree::IsDistinctFrom(left, right) | Tree::IsNotDistinctFrom(left, right) => self.each([&**left, &**right]),
            Tree::BinaryOp { left, right, .. }
            | Tree::AnyOp { left, right, .. }
            | Tree::AllOp { left, right, .. }
            | Tree::AtTimeZone { timestamp: left, time_zone: right } => self.each([&**left, &**right]),
            Tree::Between { expr, low, high, .. } => self.each([&**expr, &**low, &**high]),
            Tree::InList { expr, list, .. } => {
                self.expr(expr)?;
                self.each(list)
            }
            Tree::Like { expr, pattern, escape_char, any: false, .. }
            | Tree::ILike { expr, pattern, escape_char, any: false, .. }
            | Tree::SimilarTo { expr, pattern, escape_char, .. } => {
                self.each([&**expr, &**pattern])?;
                self.each(escape_char.as_deref())
            }
            other => Err(ExprError::new(
                format!("this construct is not supported in a lens: {other}"),
                "Put it into an IMMUTABLE function and call that.",
            )),
        }
    }

    fn each<'t>(&mut self, trees: impl IntoIterator<Item = &'t Tree>) -> Read {
        trees.into_iter().try_for_each(|tree| self.expr(tree))
    }

    fn value(&self, value: &ast::Value) -> Read {
        match value {
            ast::Value::Number(..) | ast::Value::SingleQuotedString(_) | ast::Value::Boolean(_) | ast::Value::Null => {
                Ok(())
            }
            other => Err(ExprError::new(
                format!("this form of a literal is not supported in a lens: {other}"),
                "Write a plain number, 'string', true, false or NULL, cast where needed.",
            )),
        }
    }

    fn column(&mut self, ident: &ast::Ident) -> Read {
        let range = self.place(ident)?;
        let text = match ident.quote_style {
            Some(_) => ident.value.clone(),
            None => ident.value.to_ascii_lowercase(),
        };
        if ident.quote_style.is_none() && VALUE_WORDS.contains(&text.as_str()) {
            return Err(not_immutable(&text).at(range.start));
        }
        match self.columns.iter().find(|column| column.as_str() == text) {
            Some(column) => {
                self.found.push(Found { range, what: What::Column(column.clone()) });
                Ok(())
            }
            None => Err(self.unknown_column(&text).at(range.start)),
        }
    }

    fn unknown_column(&self, text: &str) -> ExprError {
        let known: Vec<&str> = self.columns.iter().map(Ident::as_str).collect();
        let help = match nearest(text, known.iter().copied()) {
            Some(near) => format!("Did you mean {near:?}? Known here: {}.", known.join(", ")),
            None => format!("Known here: {}.", known.join(", ")),
        };
        ExprError::new(format!("there is no column {text:?} to use here"), help)
    }

    fn qualified(&self, parts: &[ast::Ident]) -> ExprError {
        let written: Vec<String> = parts.iter().map(ToString::to_string).collect();
        let error = ExprError::new(
            format!("{} is a qualified name", written.join(".")),
            "Write the bare column name: the expression is about one row of one table.",
        );
        match parts.first().map(|part| self.place(part)) {
            Some(Ok(range)) => error.at(range.start),
            Some(Err(_)) | None => error,
        }
    }

    fn function(&mut self, function: &ast::Function) -> Read {
        let (range, name) = self.function_name(&function.name)?;
        let bare = name.strip_prefix("pg_catalog.").unwrap_or(&name);
        if NOT_IMMUTABLE.contains(&bare) || matches!(function.args, FunctionArguments::None) {
            return Err(not_immutable(bare).at(range.start));
        }
        if AGGREGATES.contains(&bare) || function.over.is_some() || function.filter.is_some() {
            return Err(ExprError::new(
                format!("{bare} is an aggregate or window function here"),
                "The value must follow from one row alone.",
            )
            .at(range.start));
        }
        let plain = !function.uses_odbc_syntax
            && matches!(function.parameters, FunctionArguments::None)
            && function.within_group.is_empty()
            && function.null_treatment.is_none();
        let FunctionArguments::List(list) = &function.args else {
            return Err(
                ExprError::new("a subquery cannot be part of a lens", "Use the row's own columns.").at(range.start)
            );
        };
        if !plain || list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
            return Err(ExprError::new(
                format!("this form of a call of {bare} is not supported in a lens"),
                "Call it with plain arguments.",
            )
            .at(range.start));
        }
        self.found.push(Found { range, what: What::Function(name) });
        list.args.iter().try_for_each(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.expr(expr),
            other => Err(ExprError::new(
                format!("this argument is not supported in a lens: {other}"),
                "Give arguments by position.",
            )),
        })
    }

    /// Where a function's name stands, and what the catalog calls it.
    fn function_name(&self, name: &ObjectName) -> Result<(Range<usize>, String), ExprError> {
        let mut folded = Vec::new();
        let mut range: Option<Range<usize>> = None;
        for part in &name.0 {
            let ObjectNamePart::Identifier(ident) = part else {
                return Err(ExprError::new(format!("{name} is no function name"), "Call a function by its name."));
            };
            let place = self.place(ident)?;
            range = Some(range.map_or(place.start, |range| range.start)..place.end);
            folded.push(match ident.quote_style {
                Some(_) => ident.value.clone(),
                None => ident.value.to_ascii_lowercase(),
            });
        }
        match range {
            Some(range) => Ok((range, folded.join("."))),
            None => Err(ExprError::new("a function without a name", "Call a function by its name.")),
        }
    }

    fn access(&mut self, root: &Tree, chain: &[AccessExpr]) -> Read {
        self.expr(root)?;
        chain.iter().try_for_each(|access| match access {
            AccessExpr::Subscript(Subscript::Index { index }) => self.expr(index),
            AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride: None }) => {
                self.each(lower_bound.iter().chain(upper_bound))
            }
            AccessExpr::Subscript(Subscript::Slice { .. }) | AccessExpr::Dot(_) => Err(ExprError::new(
                "this access to a part of a value is not supported in a lens",
                "Put it into an IMMUTABLE function and call that.",
            )),
        })
    }

    /// The bytes of an identifier; an error unless exactly that identifier stands there.
    fn place(&self, ident: &ast::Ident) -> Result<Range<usize>, ExprError> {
        let written = match ident.quote_style {
            Some(_) => format!("\"{}\"", ident.value.replace('"', "\"\"")),
            None => ident.value.clone(),
        };
        let start = byte_offset(self.sql, ident.span.start);
        match start.filter(|start| self.sql[*start..].starts_with(&written)) {
            Some(start) => Ok(start..start + written.len()),
            None => Err(ExprError::new(
                format!("the place of {written} in the expression is not certain"),
                "Write the expression in a simpler form.",
            )),
        }
    }
}

fn not_immutable(name: &str) -> ExprError {
    ExprError::new(
        format!("{name} may give another value each time it is asked"),
        "The value must follow from the row alone: dual writes, copy and verification each compute it, and must agree.",
    )
}

/// Words that are values without parentheses, and not of the row.
const VALUE_WORDS: &[&str] = &[
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "system_user",
    "user",
];

/// Functions of `pg_catalog` (and common extensions) that are volatile or stable. The rest is asked of PostgreSQL.
const NOT_IMMUTABLE: &[&str] = &[
    "clock_timestamp",
    "current_catalog",
    "current_date",
    "current_database",
    "current_query",
    "current_role",
    "current_schema",
    "current_schemas",
    "current_setting",
    "current_time",
    "current_timestamp",
    "current_user",
    "currval",
    "gen_random_bytes",
    "gen_random_uuid",
    "inet_client_addr",
    "inet_server_addr",
    "lastval",
    "localtime",
    "localtimestamp",
    "nextval",
    "now",
    "pg_backend_pid",
    "pg_current_xact_id",
    "pg_sleep",
    "random",
    "random_normal",
    "session_user",
    "set_config",
    "setseed",
    "setval",
    "statement_timestamp",
    "system_user",
    "timeofday",
    "transaction_timestamp",
    "txid_current",
    "user",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
];

/// Aggregates and window functions of `pg_catalog`.
const AGGREGATES: &[&str] = &[
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bool_and",
    "bool_or",
    "count",
    "dense_rank",
    "every",
    "first_value",
    "grouping",
    "json_agg",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_object_agg",
    "lag",
    "last_value",
    "lead",
    "max",
    "min",
    "mode",
    "nth_value",
    "ntile",
    "percent_rank",
    "percentile_cont",
    "percentile_disc",
    "rank",
    "row_number",
    "stddev",
    "string_agg",
    "sum",
    "unnest",
    "generate_series",
    "variance",
    "xmlagg",
];

#[cfg(test)]
mod tests;
