//! What the two readers see in a text, for those who hold them against another reader: the tests do, against
//! PostgreSQL's own parser.
//!
//! Decides nothing and edits nothing.

use std::ops::Range;

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::read::{Piece, Text};
use super::survey::{Survey, child};
use super::{Context, Kind, classify, second, tend};

/// What is seen in one statement of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its bytes, from its first token to its last, without the semicolon.
    pub range: Range<usize>,
    /// What it is by its tokens.
    pub kind: Kind,
    /// What the first reader makes of it.
    pub first: Reading,
    /// What the second reader makes of it.
    pub second: Reading,
}

/// What one reader makes of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// It is not asked: statements of this kind are judged by their tokens, or the reader is known to misread this one.
    NotAsked,
    /// It cannot read the statement.
    Unread,
    /// It reads the statement.
    Read {
        /// What the statement is.
        verb: Verb,
        /// The tables under migration that it names, with the place of the name where the reader knows it.
        tables: Vec<(String, Option<usize>)>,
    },
}

/// What a statement is, as coarse as all readers can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `SELECT`, `VALUES` and `TABLE`.
    Select,
    /// `INSERT`.
    Insert,
    /// `UPDATE`.
    Update,
    /// `DELETE`.
    Delete,
    /// `MERGE`.
    Merge,
    /// `COPY`.
    Copy,
    /// Any other.
    Other,
}

/// What is seen in each statement of a text; `None` where the text does not end or is beyond a bound.
pub fn seen(text: &str, cx: &Context<'_>) -> Option<Vec<Seen>> {
    let read = Text::new(text, cx.standard_conforming_strings).ok()?;
    let kinds = classify(text.as_bytes(), cx.standard_conforming_strings);
    let kind_of = |range: &Range<usize>| {
        kinds.iter().find(|known| known.range.start == range.start).map_or(Kind::Other, |known| known.kind.clone())
    };
    let statements = read.statements.iter().map(|tokens| {
        let piece = read.piece(tokens.clone());
        let (first, second) = match piece.bounds() {
            Ok(bounds) => bounds.with_stack(|| (first(&piece, cx), second::reading(&piece, cx))),
            Err(_) => (Reading::Unread, Reading::NotAsked),
        };
        Seen { kind: kind_of(&piece.range), range: piece.range.clone(), first, second }
    });
    Some(statements.collect())
}

fn first(piece: &Piece<'_>, cx: &Context<'_>) -> Reading {
    if !matches!(tend::passes_by_kind(piece, cx), Ok(tend::Kind::Read)) {
        return Reading::NotAsked;
    }
    let Some(statement) = piece.tree() else { return Reading::Unread };
    let survey = Survey::of(piece, &statement, cx, false);
    let place = |node: &SyntaxNode| name_place(&survey, node);
    let tables = survey.reads.iter().filter(|read| !read.of_function());
    let reads = tables.map(|read| (read.rules.table.name.as_str().to_owned(), place(&read.node)));
    let targets =
        survey.targets.iter().map(|target| (target.rules.table.name.as_str().to_owned(), place(&target.node)));
    let mut tables: Vec<_> = reads.chain(targets).collect();
    if let Some(name) = child(&statement, SyntaxKind::COPY_TABLE).and_then(|t| child(&t, SyntaxKind::TABLE_NAME_REF)) {
        let (parts, places) = survey.path(&name);
        tables.extend(parts.last().map(|last| (last.clone(), places.first().copied())));
    }
    Reading::Read { verb: verb_of(statement.kind()), tables }
}

/// Where the name of a read or written table begins. A `WITH` stands before it, and has names of its own.
fn name_place(survey: &Survey<'_>, node: &SyntaxNode) -> Option<usize> {
    let parts = node.children().filter(|part| part.kind() != SyntaxKind::WITH_CLAUSE);
    let named = |n: &SyntaxNode| matches!(n.kind(), SyntaxKind::RELATION_NAME_REF | SyntaxKind::TABLE_NAME_REF);
    let name = parts.flat_map(|part| part.descendants().collect::<Vec<_>>()).find(named)?;
    survey.path(&name).1.first().copied()
}

fn verb_of(kind: SyntaxKind) -> Verb {
    match kind {
        SyntaxKind::SELECT
        | SyntaxKind::SELECT_INTO
        | SyntaxKind::COMPOUND_SELECT
        | SyntaxKind::PAREN_SELECT
        | SyntaxKind::VALUES
        | SyntaxKind::TABLE => Verb::Select,
        SyntaxKind::INSERT => Verb::Insert,
        SyntaxKind::UPDATE => Verb::Update,
        SyntaxKind::DELETE => Verb::Delete,
        SyntaxKind::MERGE => Verb::Merge,
        SyntaxKind::COPY => Verb::Copy,
        _ => Verb::Other,
    }
}
