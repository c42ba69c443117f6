//! Several statements in one query: whether an earlier one may change what a name in a later one means.
//!
//! The proxy reads the query before any of it has run. What an earlier statement makes, changes or drops by a name that
//! no later one says, or that nothing had before, leaves the later ones as they would be read alone.

use super::names::changes_names;
use crate::schema::{Ident, Refusal};
use crate::sql::lex::named_tokens;
use crate::sql::{Context, Kind, Statement, Statements};

/// Refuses where a later statement cannot be read.
pub(super) fn ambiguous(
    text: &str,
    statements: &Statements,
    context: &Context<'_>,
    unsettled: bool,
) -> Option<Refusal> {
    let earlier = statements.iter().len().checked_sub(1).filter(|count| *count > 0)?;
    let all: Vec<&Statement> = statements.iter().collect();
    // The end of a transaction, or of a part of it, changes back what was changed in it before.
    let changing = all.iter().take(earlier).enumerate().filter(|(_, s)| changes_names(text.as_bytes(), s, unsettled));
    let mut unclear = changing.filter(|(at, statement)| {
        let said = || all.iter().skip(at + 1).flat_map(|later| names_in(text, later, context)).collect::<Vec<_>>();
        changed(text, statement, context).is_none_or(|changed| {
            let said = if changed.is_empty() { Vec::new() } else { said() };
            changed.iter().any(|name| said.contains(name) && is_known(name, context))
        })
    });
    unclear.next()?;
    Some(
        Refusal::unsupported("cannot tell what a table's name means behind another statement of the same query")
            .detail(
                "The query names a table under migration, and an earlier statement in it may change search_path, \
                 the session's shape or the tables that it names.",
            )
            .hint("Send the statements one by one."),
    )
}

/// The relations that a statement may make, change or drop; `None` where that cannot be told.
fn changed(text: &str, statement: &Statement, context: &Context<'_>) -> Option<Vec<String>> {
    let words = names_in(text, statement, context);
    let is = |at: usize, word: &str| words.get(at).is_some_and(|name| name == word);
    let any_of = |at: usize, list: &[&str]| list.iter().any(|word| is(at, word));
    match statement.kind {
        Kind::Ddl if any_of(0, OF_NO_RELATION) => Some(Vec::new()),
        Kind::Ddl if is(0, "create") => {
            let kind = (1..words.len()).find(|at| !any_of(*at, BEFORE_KIND))?;
            match () {
                () if is(kind, "index") => Some(Vec::new()),
                // One that gives rows of a table under migration is read like the table, once it is known.
                () if any_of(kind, &["function", "procedure"]) => {
                    (!words.iter().any(|w| gives_rows(w, context))).then(Vec::new)
                }
                () if any_of(kind, &["table", "view", "sequence"]) => {
                    let named = if is(kind + 1, "if") { kind + 4 } else { kind + 1 };
                    // With its schema before it or not.
                    Some(words.iter().skip(named).take(2).cloned().collect())
                }
                () => None,
            }
        }
        // What depends on it goes too.
        Kind::Ddl if words.iter().any(|word| word == "cascade") => None,
        Kind::Ddl if any_of(0, &["alter", "drop"]) && any_of(1, &["table", "view", "sequence", "index"]) => Some(words),
        _ => None,
    }
}

/// Commands that leave every relation and its columns as they are.
const OF_NO_RELATION: &[&str] = &["analyze", "cluster", "comment", "grant", "reindex", "revoke"];

/// What may stand between `CREATE` and the kind of what is created.
const BEFORE_KIND: &[&str] =
    &["global", "local", "materialized", "or", "recursive", "replace", "temp", "temporary", "unique", "unlogged"];

/// The words and names of a statement, as PostgreSQL folds them.
fn names_in(text: &str, statement: &Statement, context: &Context<'_>) -> Vec<String> {
    let body = text.get(statement.range.clone()).unwrap_or_default();
    named_tokens(body.as_bytes(), context.standard_conforming_strings)
        .into_iter()
        .filter_map(|(_, name)| name)
        .collect()
}

/// Whether a word is a table under migration, or a function that gives rows of one.
fn gives_rows(word: &str, context: &Context<'_>) -> bool {
    let functions = context.rules.row_functions().map(|function| &function.name.name);
    context.rules.names().iter().chain(functions).any(|name| name.as_str() == word)
}

/// Whether a relation of that name may be there already.
fn is_known(name: &str, context: &Context<'_>) -> bool {
    let Ok(name) = Ident::new(name) else { return true };
    context.rules.names().contains(&name)
        || context.names.temporary(&name).is_some()
        || context.rules.catalog().relations().any(|relation| relation.name.name == name)
}
