//! Plans one statement: what of the client's text must change so that it means the same over what is stored.
//!
//! Reads become inline views (`reads`); targets of writes are edited in place (`writes`). What neither can do soundly
//! is refused, with the construct, the migration, the phase and what to do.

use std::collections::HashSet;
use std::ops::Range;

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::edits::{Edits, Overlap};
use super::read::{Piece, Unread};
use super::survey::{Survey, is_query, is_statement};
use super::{Context, catalog, second, tend};
use crate::migration::{TableRules, TableView, ViewColumn};
use crate::schema::{Ident, Refusal, SqlState};

/// The place of one statement in the making.
#[derive(Debug)]
pub(super) struct Plan<'a, 'o> {
    pub piece: &'a Piece<'a>,
    pub survey: &'a Survey<'a>,
    /// Every name that the statement has in it.
    pub names: HashSet<&'a str>,
    pub edits: &'o mut Edits,
    pub reasons: &'o mut Vec<String>,
    /// For each read: the columns that its inline view must have beyond the session's own.
    pub exposed: Vec<Exposure>,
}

/// What an inline view shows beside the session's columns.
#[derive(Debug, Clone, Default)]
pub(super) struct Exposure {
    /// Columns of the other shape that resolve in no other way.
    pub fallback: Vec<Ident>,
    /// System columns that are named.
    pub system: Vec<&'static str>,
    /// Whether the read becomes an inline view.
    pub inlined: bool,
    /// Whether it stays as it is, and the stars over it are written out.
    pub starred: bool,
}

/// The columns that every table has without naming them.
pub(super) const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

/// Plans one statement of a text: its edits are added to `edits`.
pub(super) fn plan(
    piece: &Piece<'_>,
    cx: &Context<'_>,
    edits: &mut Edits,
    reasons: &mut Vec<String>,
) -> Result<(), Refusal> {
    let functions = cx.rules.row_functions().map(|function| &function.name.name);
    let mut names = cx.rules.names().iter().chain(functions);
    let mentioned = names.any(|name| has_name(piece, name.as_str())) || tend::has_code_of_table(piece, cx);
    if catalog::mentions(piece, cx) {
        let (mut masked, noted) = (edits.clone(), reasons.len());
        match plan_masked(piece, cx, true, &mut masked, reasons) {
            Ok(()) => {
                *edits = masked;
                return Ok(());
            }
            Err(_) => reasons.truncate(noted),
        }
        reasons.push("the system catalogs in it are read as they are stored".to_owned());
    }
    if !mentioned {
        return Ok(());
    }
    plan_masked(piece, cx, false, edits, reasons)
}

/// Plans a statement; `masked`: with the system catalogs as the session's shape has them.
fn plan_masked(
    piece: &Piece<'_>,
    cx: &Context<'_>,
    masked: bool,
    edits: &mut Edits,
    reasons: &mut Vec<String>,
) -> Result<(), Refusal> {
    match tend::passes_by_kind(piece, cx)? {
        tend::Kind::Passes(why) => {
            reasons.push(why);
            return Ok(());
        }
        tend::Kind::Renamed(renamed) => {
            reasons.push("its columns are stored as they are, under other names".to_owned());
            return renamed.into_iter().try_for_each(|(range, name)| {
                let name = set_apart(piece.source, &range, name);
                edits.replace(range, name).map_err(overlap)
            });
        }
        tend::Kind::Read => {}
    }
    let bounds = piece.bounds().map_err(|unread| too_large(unread, piece, cx))?;
    bounds.with_stack(|| read_and_plan(piece, cx, masked, edits, reasons))
}

fn read_and_plan(
    piece: &Piece<'_>,
    cx: &Context<'_>,
    masked: bool,
    edits: &mut Edits,
    reasons: &mut Vec<String>,
) -> Result<(), Refusal> {
    let Some(statement) = piece.tree() else {
        reasons.push("it cannot be read: PostgreSQL is asked what is wrong with it, and cannot run it".to_owned());
        return second::unreadable(piece, cx, edits);
    };
    let survey = Survey::of(piece, &statement, cx, masked);
    let of_catalog = !(survey.catalog.is_empty() && survey.catalog_calls.is_empty());
    let rows = !(survey.row_types.is_empty() && survey.row_calls.is_empty());
    let of_table = rows || !(survey.reads.is_empty() && survey.targets.is_empty());
    if !of_table && !of_catalog && !is_copy_table(&statement) {
        reasons.push("no reference means a table under migration".to_owned());
        return Ok(());
    }
    if survey.is_too_large() {
        return Err(too_large(Unread::TooLarge("tables"), piece, cx));
    }
    second::agrees(piece, cx, &survey, &statement)?;
    let names = piece.tokens.iter().filter_map(|(_, name)| name.as_deref()).collect();
    let exposed = vec![Exposure::default(); survey.reads.len()];
    let mut plan = Plan { piece, survey: &survey, names, edits, reasons, exposed };
    let planned = plan.statement(&statement);
    planned.map_err(|refusal| plan.first_mistake(&refusal).unwrap_or(refusal))
}

fn is_copy_table(statement: &SyntaxNode) -> bool {
    statement.kind() == SyntaxKind::COPY && statement.children().any(|c| c.kind() == SyntaxKind::COPY_TABLE)
}

/// A migrating table whose name the statement has in it, for messages.
pub(super) fn concerned<'a>(piece: &Piece<'_>, cx: &Context<'a>) -> Option<&'a TableRules> {
    cx.rules.tables().find(|rules| has_name(piece, rules.table.name.as_str()))
}

/// Whether the statement has an identifier of that name.
pub(super) fn has_name(piece: &Piece<'_>, wanted: &str) -> bool {
    piece.tokens.iter().any(|(_, name)| name.as_deref() == Some(wanted))
}

fn too_large(unread: Unread, piece: &Piece<'_>, cx: &Context<'_>) -> Refusal {
    let bound = match unread {
        Unread::TooLarge(bound) => bound,
        Unread::Unterminated => "open strings",
    };
    let refusal = match concerned(piece, cx) {
        Some(rules) => refuse(rules, "a statement of this size", &format!("It has too many {bound} to be read.")),
        None => Refusal::unsupported("a statement of this size cannot be read"),
    };
    refusal.hint("Split the statement into smaller ones.")
}

/// A refusal of a construct on a migrating table.
pub(super) fn refuse(rules: &TableRules, construct: &str, why: &str) -> Refusal {
    Refusal::unsupported(format!("{construct} cannot be rewritten for table \"{}\"", rules.table.name))
        .detail(format!(
            "Migration \"{}\" of table \"{}\" is in phase {}. {why}",
            rules.migration, rules.table, rules.phase
        ))
        .hint(
            "Write the statement without this construct, or run it before the migration starts or, once it is complete, in \
             a session of the new shape.",
        )
}

/// PostgreSQL's own answer to a name that the session's shape does not have.
pub(super) fn undefined_column(parts: &[String], offset: usize) -> Refusal {
    let message = match parts {
        [column] => format!("column \"{column}\" does not exist"),
        [.., table, column] => format!("column {table}.{column} does not exist"),
        [] => "column does not exist".to_owned(),
    };
    Refusal::new(SqlState::UNDEFINED_COLUMN, message).at(offset)
}

/// PostgreSQL's own answer to a target column that the session's shape does not have.
pub(super) fn undefined_target(column: &str, rules: &TableRules, offset: usize) -> Refusal {
    Refusal::new(
        SqlState::UNDEFINED_COLUMN,
        format!("column \"{column}\" of relation \"{}\" does not exist", rules.table.name),
    )
    .at(offset)
}

/// PostgreSQL's own answer to a name that several items have.
pub(super) fn ambiguous_column(column: &str, offset: usize) -> Refusal {
    Refusal::new(SqlState::AMBIGUOUS_COLUMN, format!("column reference \"{column}\" is ambiguous")).at(offset)
}

/// Two edits wanted one place: a defect of ours, answered with a refusal.
pub(super) fn overlap(_: Overlap) -> Refusal {
    Refusal::unsupported("this statement cannot be rewritten")
        .detail("Two rewrites of it want the same place in the text.")
        .hint("Report the statement as a defect of the proxy; until then write it in another form.")
}

impl Plan<'_, '_> {
    fn statement(&mut self, statement: &SyntaxNode) -> Result<(), Refusal> {
        if let Some((rules, place)) = self.survey.row_types.first() {
            let view = rules.write_view(self.survey.cx.shape);
            if !self.has_stored_rows(view) {
                let why = "Its row type has the columns that are stored, not those of the session's schema.";
                return Err(refuse(rules, "the use of the table's row type", why).at(*place));
            }
        }
        self.refuse_row_calls()?;
        match statement.kind() {
            kind if is_statement(kind) => {}
            SyntaxKind::EXPLAIN | SyntaxKind::PREPARE | SyntaxKind::DECLARE | SyntaxKind::CREATE_TABLE_AS => {}
            SyntaxKind::COPY if is_copy_table(statement) => return self.copy(statement),
            SyntaxKind::COPY => {}
            SyntaxKind::CREATE_VIEW | SyntaxKind::CREATE_MATERIALIZED_VIEW => return self.create_view(),
            _ => return self.other_statement(),
        }
        // In this order: a value that is written a second time is copied with the edits that names and reads need.
        if let Some(name) = self.survey.named_twice() {
            let message = format!("table name \"{name}\" specified more than once");
            return Err(Refusal::new(super::mistakes::DUPLICATE_ALIAS, message));
        }
        self.target_names()?;
        self.reads()?;
        self.catalog_reads()?;
        self.targets()
    }

    /// A row that a function gives has the columns that are stored.
    fn refuse_row_calls(&self) -> Result<(), Refusal> {
        for call in &self.survey.row_calls {
            if self.has_stored_rows(call.rules.write_view(self.survey.cx.shape)) {
                continue;
            }
            let (what, hint) = match call.doubtful {
                true => ("a call", "Give the function that returns the table's rows a name of its own."),
                false => ("a row as a value", "Call the function in FROM: SELECT r.* FROM function(...) AS r."),
            };
            let why = "What the function gives has the columns that are stored, not those of the session's schema.";
            return Err(refuse(call.rules, &format!("{what} of {}(...)", call.name), why).hint(hint).at(call.place));
        }
        Ok(())
    }

    /// A view binds to what is stored. While old storage is complete it may bind to that: completing the migration waits
    /// until nothing depends on the old column. Once only the new one is left it binds to that. In between nothing lasts.
    fn create_view(&mut self) -> Result<(), Refusal> {
        for read in &self.survey.reads {
            let touched = !self.survey.stars.is_empty()
                || self.survey.natural
                || self.touches(read.view).is_some()
                || self.uses_row(read.item)
                || read.in_table_statement;
            if touched && !self.outlasts(read.view) {
                let why = "A view binds to the columns that are stored, and these will not last.";
                return Err(refuse(read.rules, "CREATE VIEW over a column under migration", why)
                    .hint("Create the view in a session of the old schema, or after the migration is complete."));
            }
        }
        self.reads()
    }

    /// Whether what the statement reads through the view is there until the migration is complete, or for ever.
    fn outlasts(&self, view: &TableView) -> bool {
        let reached = |column: &&ViewColumn| self.names.contains(column.name.as_str());
        let last = |column: &ViewColumn| {
            let stores = view.stores.iter().chain(&view.fallback_stores);
            !view.synced && stores.filter(|store| store.value.mentions(&column.name) > 0).count() == 1
        };
        let fallback = view.fallback.iter().filter(reached);
        view.columns.iter().filter(|column| !column.is_plain()).chain(fallback).all(last)
    }

    fn other_statement(&mut self) -> Result<(), Refusal> {
        let rules = self.survey.reads.iter().map(|r| r.rules).chain(self.survey.targets.iter().map(|t| t.rules)).next();
        match rules {
            Some(rules) => Err(refuse(rules, "this kind of statement", "It is not one that the proxy can rewrite.")),
            None => Ok(()),
        }
    }

    /// Whether a row of the view is a row of the stored table: the same columns, as they are, in the same order.
    pub(super) fn has_stored_rows(&self, view: &TableView) -> bool {
        let relation = self.survey.cx.rules.catalog().relation(&view.storage);
        view.is_plain()
            && relation.is_some_and(|relation| {
                let stored = relation.columns.iter().map(|column| &column.name);
                stored.eq(view.columns.iter().map(|column| &column.name))
            })
    }

    /// The first name of the statement that a view does not give as it is stored: a column that is not plain, or a
    /// stored column that is hidden.
    pub(super) fn touches<'v>(&self, view: &'v TableView) -> Option<&'v Ident> {
        sensitive(view).find(|name| self.names.contains(name.as_str()))
    }

    /// Whether the item's name stands where a column could: its whole row, or `t.*`.
    pub(super) fn uses_row(&self, item: usize) -> bool {
        let Some(alias) = self.survey.items[item].alias.as_ref() else { return false };
        self.survey.references.iter().any(|reference| matches!(reference.parts.as_slice(), [name] if name == alias))
    }

    pub(super) fn replace(&mut self, range: Range<usize>, text: impl Into<String>) -> Result<(), Refusal> {
        let text = set_apart(self.piece.source, &range, text.into());
        self.edits.replace(range, text).map_err(overlap)
    }

    pub(super) fn insert(&mut self, place: usize, text: impl Into<String>) -> Result<(), Refusal> {
        self.replace(place..place, text)
    }
}

/// The text with a blank where it would run into what stands beside it: `FROM "users"left JOIN ...` needs none, and
/// `FROM (...) AS usersleft JOIN ...` is another statement.
fn set_apart(source: &str, range: &Range<usize>, text: String) -> String {
    let part_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_$\"'".contains(byte) || !byte.is_ascii();
    let (source, bytes) = (source.as_bytes(), text.as_bytes());
    let before = range.start.checked_sub(1).and_then(|at| source.get(at));
    let glued = |a: Option<&u8>, b: Option<&u8>| a.is_some_and(part_of_word) && b.is_some_and(part_of_word);
    match (glued(before, bytes.first()), glued(bytes.last(), source.get(range.end))) {
        (false, false) => text,
        (true, false) => format!(" {text}"),
        (false, true) => format!("{text} "),
        (true, true) => format!(" {text} "),
    }
}

/// The names under which a view and what is stored differ.
pub(super) fn sensitive(view: &TableView) -> impl Iterator<Item = &Ident> {
    let columns = view.columns.iter().filter(|column| !column.is_plain()).map(|column| &column.name);
    columns.chain(&view.hidden).chain(view.fallback.iter().map(|column| &column.name))
}

/// Whether the node is a query or holds one: what cannot be put into another place of a statement unread.
pub(super) fn holds_query(node: &SyntaxNode) -> bool {
    node.descendants().any(|inner| is_query(inner.kind()))
}
