//! Statements that are no query: which of them pass although they name a migrating table, and which must not.
//!
//! Judged by tokens. DDL that could touch what a migration owns (its columns, the table's identity) is refused.

use super::Context;
use super::plan::{refuse, sensitive};
use super::read::Piece;
use super::survey::{Meaning, relation_meaning};
use crate::migration::TableRules;
use crate::schema::{Ident, Refusal};

/// What to do with a statement of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Forward it; why.
    Passes(String),
    /// Read it and plan.
    Read,
}

/// Statements that cannot read or write a table's columns, whatever they name.
const HARMLESS: &[&str] = &[
    "abort",
    "begin",
    "call",
    "checkpoint",
    "close",
    "cluster",
    "commit",
    "deallocate",
    "discard",
    "do",
    "end",
    "execute",
    "fetch",
    "listen",
    "load",
    "lock",
    "move",
    "notify",
    "release",
    "reset",
    "rollback",
    "savepoint",
    "set",
    "show",
    "start",
    "truncate",
    "unlisten",
];

/// Actions of ALTER TABLE that leave columns as they are.
const ALTER_HARMLESS: &[&[&str]] = &[
    &["validate", "constraint"],
    &["drop", "constraint"],
    &["add", "constraint"],
    &["enable"],
    &["disable"],
    &["force"],
    &["owner"],
    &["cluster"],
    &["replica", "identity"],
    &["set", "("],
    &["reset", "("],
    &["set", "tablespace"],
    &["set", "logged"],
    &["set", "without"],
];

/// What to do about a refusal: in the new shape a table is as it is stored once the migration is complete.
const WHEN_INSTEAD: &str = "Run it before the migration starts, after it is rolled back or, once it is complete, in a session \
     of the new shape (SET crossfade.shape = new).";

/// Decides by the statement's first words, and for DDL by the names in it.
pub(super) fn passes_by_kind(piece: &Piece<'_>, cx: &Context<'_>) -> Result<Kind, Refusal> {
    if HARMLESS.iter().any(|word| piece.is_word(0, word)) {
        return Ok(Kind::Passes("this kind of statement reads no column".to_owned()));
    }
    let first = |words: &[&str]| words.iter().any(|word| piece.is_word(0, word));
    if first(&["create"]) && !creates_from_query(piece) {
        return create(piece, cx);
    }
    if first(&["drop", "alter", "comment", "grant", "revoke", "security", "vacuum", "analyze", "analyse", "reindex"]) {
        return tend(piece, cx);
    }
    if first(&["refresh", "import", "reassign"]) {
        return Ok(Kind::Passes("this kind of statement names no column".to_owned()));
    }
    Ok(Kind::Read)
}

fn has_word(piece: &Piece<'_>, word: &str) -> bool {
    (0..piece.tokens.len()).any(|index| piece.is_word(index, word))
}

/// `CREATE [...] TABLE x AS`, `CREATE VIEW`, `CREATE MATERIALIZED VIEW`: a query stands inside.
fn creates_from_query(piece: &Piece<'_>) -> bool {
    let at = |word: &str| (1..piece.tokens.len().min(7)).find(|index| piece.is_word(*index, word));
    let routine = ["function", "procedure", "rule", "trigger", "policy", "index", "type", "schema", "aggregate"];
    let table = at("table").is_some() && has_query(piece);
    !routine.iter().any(|word| at(word).is_some()) && (at("view").is_some() || table)
}

/// Whether an AS stands outside of brackets: `GENERATED ALWAYS AS` stands inside.
fn has_query(piece: &Piece<'_>) -> bool {
    let mut depth = 0usize;
    piece.tokens.iter().enumerate().any(|(index, (token, _))| {
        depth += usize::from(token.is_mark(b'('));
        depth -= usize::from(token.is_mark(b')') && depth > 0);
        depth == 0 && piece.is_word(index, "as")
    })
}

/// Behind the name of the table that a CREATE TABLE makes: it is another relation, or PostgreSQL refuses it.
fn behind_created_table(piece: &Piece<'_>) -> usize {
    let Some(word) = (1..piece.tokens.len().min(4)).find(|index| piece.is_word(*index, "table")) else { return 0 };
    let mut index = word + 1;
    while ["if", "not", "exists"].iter().any(|word| piece.is_word(index, word)) {
        index += 1;
    }
    while piece.tokens.get(index + 1).is_some_and(|(token, _)| token.is_mark(b'.')) {
        index += 2;
    }
    index + 1
}

/// The migrating table that some path of names in the statement means.
fn table_named<'a>(piece: &Piece<'_>, cx: &Context<'a>) -> Option<&'a TableRules> {
    table_named_from(piece, cx, 0)
}

/// The same for the tokens from one on.
fn table_named_from<'a>(piece: &Piece<'_>, cx: &Context<'a>, from: usize) -> Option<&'a TableRules> {
    let parts = |index: usize| -> Vec<String> {
        let own = piece.tokens[index].1.clone().unwrap_or_default();
        let dotted = index >= 2 && piece.tokens[index - 1].0.is_mark(b'.');
        match piece.tokens.get(index.wrapping_sub(2)).and_then(|(_, name)| name.clone()) {
            Some(schema) if dotted => vec![schema, own],
            _ => vec![own],
        }
    };
    (from..piece.tokens.len()).filter(|index| piece.tokens[*index].1.is_some()).find_map(
        |index| match relation_meaning(cx, &parts(index)) {
            Meaning::Migrating(rules) => Some(rules),
            Meaning::Known(_) | Meaning::Cte(_) | Meaning::Unknown => None,
        },
    )
}

/// A name in the statement that the migration owns: a column of either shape.
fn owned_name(piece: &Piece<'_>, cx: &Context<'_>, rules: &TableRules) -> Option<Ident> {
    let views = [rules.write_view(cx.shape), rules.write_view(crate::migration::Shape::Auto)];
    let derived = views.iter().flat_map(|view| {
        let computed = view.stores.iter().filter(|store| store.value.as_column() != Some(&store.column));
        let inputs = computed.flat_map(|store| store.value.columns().chain(std::iter::once(&store.column)));
        sensitive(view).chain(inputs)
    });
    let mut owned = derived;
    owned.find(|name| super::plan::has_name(piece, name.as_str())).cloned()
}

/// Nothing of the migration is still to come, and the session sees the table as it is stored.
fn is_their_own(rules: &TableRules, cx: &Context<'_>) -> Option<Kind> {
    let own = rules.over && rules.write_view(cx.shape).is_plain();
    own.then(|| Kind::Passes("the migration is over, and the session sees the table as it is stored".to_owned()))
}

fn create(piece: &Piece<'_>, cx: &Context<'_>) -> Result<Kind, Refusal> {
    let Some(rules) = table_named_from(piece, cx, behind_created_table(piece)) else {
        return Ok(Kind::Passes("no name in it means a table under migration".to_owned()));
    };
    if let Some(passes) = is_their_own(rules, cx) {
        return Ok(passes);
    }
    let bound = ["index", "trigger", "rule", "policy", "statistics", "publication", "table", "constraint"];
    let what = bound.iter().find(|word| (1..piece.tokens.len().min(6)).any(|index| piece.is_word(index, word)));
    let takes_columns = ["like", "inherits", "partition"].iter().any(|word| has_word(piece, word));
    if what == Some(&"table") && takes_columns {
        let why = "The new table would have the columns that are stored, not those of the session's schema.";
        return Err(refuse(rules, "CREATE TABLE with its columns", why).hint("Name the new table's columns."));
    }
    match (what, owned_name(piece, cx, rules)) {
        (Some(what), Some(name)) => {
            let why = format!("The statement names column \"{name}\", which the migration replaces.");
            Err(refuse(rules, &format!("CREATE {}", what.to_ascii_uppercase()), &why).hint(WHEN_INSTEAD))
        }
        (Some(_), None) => Ok(Kind::Passes("it names no column under migration".to_owned())),
        (None, _) => Ok(Kind::Passes("what it creates does not bind to the table's columns".to_owned())),
    }
}

fn tend(piece: &Piece<'_>, cx: &Context<'_>) -> Result<Kind, Refusal> {
    let Some(rules) = table_named(piece, cx) else {
        return Ok(Kind::Passes("no name in it means a table under migration".to_owned()));
    };
    let verb = piece.tokens[0].0.bytes(piece.source.as_bytes()).to_ascii_uppercase();
    let verb = String::from_utf8_lossy(&verb).into_owned();
    if let Some(passes) = is_their_own(rules, cx) {
        return Ok(passes);
    }
    let hint = WHEN_INSTEAD;
    if let Some(name) = owned_name(piece, cx, rules) {
        let why = format!("The statement names column \"{name}\", which the migration replaces.");
        return Err(refuse(rules, &verb, &why).hint(hint));
    }
    let on_table = piece.is_word(1, "table") || (piece.is_word(1, "foreign") && piece.is_word(2, "table"));
    if on_table && piece.is_word(0, "drop") {
        return Err(refuse(rules, "DROP TABLE", "The migration works on the table.").hint(hint));
    }
    if on_table && piece.is_word(0, "alter") && !alters_harmlessly(piece) {
        let why = "The statement could add, drop, rename or retype columns under the migration's hands.";
        return Err(refuse(rules, "ALTER TABLE", why).hint(hint));
    }
    Ok(Kind::Passes("it leaves the table's columns as they are".to_owned()))
}

/// Whether every action of an ALTER TABLE is one that leaves columns as they are.
fn alters_harmlessly(piece: &Piece<'_>) -> bool {
    let mut actions = Vec::new();
    let mut depth = 0usize;
    let words = ["if", "exists", "only"];
    let mut index = 2;
    while words.iter().any(|word| piece.is_word(index, word)) {
        index += 1;
    }
    while piece.tokens.get(index + 1).is_some_and(|(token, _)| token.is_mark(b'.')) {
        index += 2;
    }
    let star = piece.tokens.get(index + 1).is_some_and(|(token, _)| token.bytes(piece.source.as_bytes()) == b"*");
    actions.push(index + 1 + usize::from(star));
    for (at, (token, _)) in piece.tokens.iter().enumerate().skip(index) {
        if token.is_mark(b'(') {
            depth += 1;
        } else if token.is_mark(b')') {
            depth = depth.saturating_sub(1);
        } else if token.is_mark(b',') && depth == 0 {
            actions.push(at + 1);
        }
    }
    actions.into_iter().all(|at| {
        ALTER_HARMLESS.iter().any(|words| {
            words.iter().enumerate().all(|(offset, word)| {
                piece.is_word(at + offset, word)
                    || piece
                        .tokens
                        .get(at + offset)
                        .is_some_and(|(t, _)| t.bytes(piece.source.as_bytes()) == word.as_bytes())
            })
        })
    })
}
