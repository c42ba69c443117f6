//! The second reader: a cold statement that touches a migrating table is read by `sqlparser` too, and both readers must
//! see the same kind of statement and the same migrating tables. A disagreement is refused.
//!
//! Where `sqlparser` cannot parse, or is known to misread, the first reader stands alone. Strings and comments are our
//! own lexer's in both cases, so readers cannot differ about where those end.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{ObjectNamePart, SetExpr, Statement, visit_relations};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::Context;
use super::edits::Edits;
use super::lex::TokenKind;
use super::plan::{concerned, overlap, refuse};
use super::read::Piece;
use super::seen::{Reading, Verb};
use super::survey::Survey;
use crate::schema::{Refusal, SqlState};

/// The deepest nesting that the second reader is asked about; deeper statements have the first reader only.
const DEPTH_MAX: usize = 40;

/// The longest statement that the second reader is asked about, in tokens: bulk inserts have nothing to disagree about.
/// Not in bytes, so that it does not depend on what the constants are.
const TOKENS_MAX: usize = 16 * 1024;

/// What the second reader makes of a statement.
fn second(piece: &Piece<'_>) -> Option<Statement> {
    if piece.tokens.len() > TOKENS_MAX {
        return None;
    }
    let mut parser =
        Parser::new(&PostgreSqlDialect {}).with_recursion_limit(DEPTH_MAX).try_with_sql(piece.blank).ok()?;
    let mut statements = parser.parse_statements().ok()?;
    if statements.len() == 1 { statements.pop() } else { None }
}

/// Refuses a statement that both readers read, and read differently.
pub(super) fn agrees(
    piece: &Piece<'_>,
    cx: &Context<'_>,
    survey: &Survey<'_>,
    statement: &SyntaxNode,
) -> Result<(), Refusal> {
    if !comparable(piece, cx) {
        return Ok(());
    }
    let Some(read) = second(piece) else { return Ok(()) };
    let same_kind = kind_of(&read).is_none_or(|kind| kind == tree_kind(statement));
    if same_kind && tables_in(&read, cx) == tables_read(survey, statement, cx) {
        return Ok(());
    }
    let rules = survey.reads.iter().map(|r| r.rules).chain(survey.targets.iter().map(|t| t.rules)).next();
    let why = "Two readers of this statement disagree about what it is.";
    Err(rules.map_or_else(
        || Refusal::unsupported("this statement cannot be rewritten").detail(why),
        |rules| refuse(rules, "this statement", why),
    ))
}

/// What the second reader makes of a statement.
pub(super) fn reading(piece: &Piece<'_>, cx: &Context<'_>) -> Reading {
    if !comparable(piece, cx) {
        return Reading::NotAsked;
    }
    let Some(read) = second(piece) else { return Reading::Unread };
    let tables = tables_in(&read, cx).into_iter().map(|name| (name, None)).collect();
    Reading::Read { verb: verb_of(&read), tables }
}

/// A WITH before INSERT, UPDATE, DELETE or MERGE is a query to this reader; the verb is in its body.
fn verb_of(statement: &Statement) -> Verb {
    match statement {
        Statement::Query(query) => match query.body.as_ref() {
            SetExpr::Insert(inner) | SetExpr::Update(inner) | SetExpr::Delete(inner) | SetExpr::Merge(inner) => {
                verb_of(inner)
            }
            _ => Verb::Select,
        },
        Statement::Insert(_) => Verb::Insert,
        Statement::Update(_) => Verb::Update,
        Statement::Delete(_) => Verb::Delete,
        Statement::Merge(_) => Verb::Merge,
        Statement::Copy { .. } => Verb::Copy,
        _ => Verb::Other,
    }
}

/// Whether the second reader can be asked: names written plainly, and nothing that it is known to misread.
fn comparable(piece: &Piece<'_>, cx: &Context<'_>) -> bool {
    let text = piece.source.as_bytes();
    let plain =
        cx.rules.names().iter().all(|name| name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    let misread = |word: &str| piece.tokens.iter().any(|(token, _)| token.is_word(text, word));
    let unicode = piece.tokens.iter().any(|(token, _)| token.kind == TokenKind::UnicodeQuoted);
    let into = misread("into") && !misread("insert") && !misread("merge");
    plain && !unicode && !misread("only") && !misread("copy") && !misread("table") && !into
}

fn kind_of(statement: &Statement) -> Option<SyntaxKind> {
    match statement {
        Statement::Query(_) => Some(SyntaxKind::SELECT),
        Statement::Insert(_) => Some(SyntaxKind::INSERT),
        Statement::Update(_) => Some(SyntaxKind::UPDATE),
        Statement::Delete(_) => Some(SyntaxKind::DELETE),
        _ => None,
    }
}

fn tree_kind(statement: &SyntaxNode) -> SyntaxKind {
    match statement.kind() {
        SyntaxKind::COMPOUND_SELECT | SyntaxKind::PAREN_SELECT | SyntaxKind::VALUES | SyntaxKind::TABLE => {
            SyntaxKind::SELECT
        }
        // A WITH before INSERT, UPDATE or DELETE is a query to the second reader.
        kind if super::survey::child(statement, SyntaxKind::WITH_CLAUSE).is_some() => match kind {
            SyntaxKind::INSERT | SyntaxKind::UPDATE | SyntaxKind::DELETE | SyntaxKind::MERGE => SyntaxKind::SELECT,
            other => other,
        },
        kind => kind,
    }
}

fn tables_in(statement: &Statement, cx: &Context<'_>) -> BTreeSet<String> {
    let mut tables = BTreeSet::new();
    let _: ControlFlow<()> = visit_relations(statement, |relation| {
        if let Some(ObjectNamePart::Identifier(ident)) = relation.0.last() {
            let mut name =
                if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() };
            super::lex::cut(&mut name);
            if cx.rules.names().iter().any(|known| known.as_str() == name) {
                tables.insert(name);
            }
        }
        ControlFlow::Continue(())
    });
    tables
}

/// The names of relations (and of functions in FROM, as the second reader has it) that a migrating table could have.
fn tables_read(survey: &Survey<'_>, statement: &SyntaxNode, cx: &Context<'_>) -> BTreeSet<String> {
    let relations = statement.descendants().filter(|node| {
        matches!(node.kind(), SyntaxKind::RELATION_NAME_REF | SyntaxKind::TABLE_NAME_REF)
            || (node.kind() == SyntaxKind::NAME_REF
                && node.ancestors().nth(2).is_some_and(|item| item.kind() == SyntaxKind::FUNCTION_FROM_ITEM))
    });
    relations
        .filter_map(|node| survey.path(&node).0.pop())
        .filter(|name| cx.rules.names().iter().any(|known| known.as_str() == name))
        .collect()
}

/// What becomes of a statement that mentions a migrating table and that the first reader cannot read.
///
/// It must never run. PostgreSQL is asked what is wrong with it, in a form that it cannot execute; where it finds nothing
/// wrong, it is we who cannot read it, and it is refused.
pub(super) fn unreadable(piece: &Piece<'_>, cx: &Context<'_>, edits: &mut Edits) -> Result<(), Refusal> {
    let ends_early = piece.range.end == piece.source.trim_end().len() && piece.ends_early();
    let refusal = match concerned(piece, cx) {
        _ if ends_early => Refusal::new(SqlState::SYNTAX_ERROR, "syntax error at end of input").at(piece.source.len()),
        Some(rules) => refuse(rules, "this statement", "The proxy cannot read it."),
        None => Refusal::unsupported("this statement cannot be read"),
    };
    edits.stop(piece.source, refusal).map_err(overlap)
}
