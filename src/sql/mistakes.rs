//! The first mistake that PostgreSQL would report about a statement's names in the session's shape.
//!
//! Asked only about a statement that fails already: a rewrite finds mistakes in the order of its own work, PostgreSQL in
//! the order of its analysis. Never guesses: from the first name that it cannot judge on it has no answer.

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::insert::value_rows;
use super::plan::{Plan, SYSTEM_COLUMNS, ambiguous_column, sensitive, undefined_column, undefined_target};
use super::reads::unwrapped;
use super::resolve::Found;
use super::survey::{Event, ItemId, Reference, Source, Target, child, is_query};
use crate::schema::{Refusal, SqlState};

/// Two tables of one name stand side by side.
pub(super) const DUPLICATE_ALIAS: SqlState = SqlState("42712");

/// What one step of the analysis comes to.
enum Verdict {
    Fine,
    Mistake(Refusal),
    /// The step cannot be judged.
    Unsure,
}

impl Plan<'_, '_> {
    /// The error to give instead of this one, which planning came upon first.
    pub(super) fn first_mistake(&self, found: &Refusal) -> Option<Refusal> {
        // Tables are looked at before everything that names their columns.
        let of_tables = found.state == DUPLICATE_ALIAS;
        if of_tables || self.survey.targets.iter().any(|target| target.node.kind() == SyntaxKind::MERGE) {
            return None;
        }
        // A refusal gives way only to a mistake about a name under migration or of a known table: of those there is no doubt.
        let only_ours = found.state == SqlState::UNSUPPORTED;
        for event in &self.survey.events {
            let verdict = match event {
                Event::Reference(index) => self.reference_verdict(&self.survey.references[*index], only_ours),
                Event::Columns { item, clause } => self.columns_verdict(*item, clause),
                Event::Width { item, insert } => self.width_verdict(*item, insert),
            };
            match verdict {
                Verdict::Fine => {}
                Verdict::Mistake(refusal) => return Some(refusal),
                Verdict::Unsure => return None,
            }
        }
        self.assigned_twice()
    }

    fn target_at(&self, item: ItemId) -> Option<&Target<'_>> {
        match self.survey.items[item].source {
            Source::Target(target) => self.survey.targets.get(target),
            Source::Read(_) | Source::Excluded(_) | Source::Other => None,
        }
    }

    fn reference_verdict(&self, reference: &Reference, only_ours: bool) -> Verdict {
        let place = reference.places.first().copied().unwrap_or_default();
        let column = reference.column();
        let found = self.survey.resolve(reference);
        match found {
            Found::Column(_) | Found::Row(_) | Found::Merged(_) | Found::Output => return Verdict::Fine,
            Found::Unsure => return Verdict::Unsure,
            Found::Ambiguous => return Verdict::Mistake(ambiguous_column(column, place)),
            Found::Missing | Found::MissingIn(_) => {}
        }
        if SYSTEM_COLUMNS.contains(&column) {
            return Verdict::Fine;
        }
        match self.fallback_holder(reference) {
            Err(refusal) => return Verdict::Mistake(refusal),
            Ok(Some(_)) => return Verdict::Fine,
            Ok(None) => {}
        }
        let unknown_table = match reference.parts.split_last() {
            Some((_, qualifier)) if !qualifier.is_empty() => {
                self.survey.item_named(qualifier, reference.scope).is_none()
            }
            Some(_) | None => false,
        };
        // A name with its database is first held against the database in use, which is not known here.
        let unknown_table = unknown_table || reference.parts.len() > 3;
        if unknown_table || (only_ours && found == Found::Missing && !self.is_ours(column)) {
            return Verdict::Unsure;
        }
        Verdict::Mistake(undefined_column(&reference.parts, place))
    }

    /// Whether some view of the statement and what is stored differ in that name.
    fn is_ours(&self, name: &str) -> bool {
        let views = self.survey.reads.iter().map(|read| read.view);
        let mut views = views.chain(self.survey.targets.iter().map(|target| target.view));
        views.any(|view| sensitive(view).any(|column| column.as_str() == name))
    }

    /// The columns that an INSERT or a SET names as its targets.
    fn columns_verdict(&self, item: ItemId, clause: &SyntaxNode) -> Verdict {
        let Some(target) = self.target_at(item) else { return Verdict::Fine };
        let set = clause.kind() == SyntaxKind::SET_CLAUSE;
        let columns: Vec<SyntaxNode> = match set {
            true => clause.descendants().filter(|n| n.kind() == SyntaxKind::COLUMN_TARGET).collect(),
            false => clause.children().collect(),
        };
        let mut before: Vec<String> = Vec::new();
        for column in &columns {
            let Some((name, place)) = self.survey.name_of(column) else { continue };
            let known = target.view.columns.iter().chain(&target.view.fallback).any(|c| c.name.as_str() == name);
            if !known {
                return Verdict::Mistake(undefined_target(&name, target.rules, place));
            }
            let whole = column.children().count() <= 1;
            if whole && !set && before.contains(&name) {
                return Verdict::Mistake(specified_twice(&name, place));
            }
            before.push(name);
        }
        Verdict::Fine
    }

    fn width_verdict(&self, item: ItemId, insert: &SyntaxNode) -> Verdict {
        let mistake = self.target_at(item).and_then(|target| self.width_mistake(target, insert));
        mistake.map_or(Verdict::Fine, Verdict::Mistake)
    }

    /// PostgreSQL's own errors for rows of another length than the list: with columns added, they would not arise.
    pub(super) fn width_mistake(&self, target: &Target<'_>, insert: &SyntaxNode) -> Option<Refusal> {
        let listed: Option<Vec<SyntaxNode>> =
            child(insert, SyntaxKind::COLUMN_TARGET_LIST).map(|list| list.children().collect());
        let most = listed.as_ref().map_or(target.view.columns.len(), Vec::len);
        let source = insert.children().find(|part| is_query(part.kind()))?;
        let wrong = |message: &str, node: Option<&SyntaxNode>| {
            let refusal = Refusal::new(SqlState::SYNTAX_ERROR, message.to_owned());
            Some(match node {
                Some(node) => refusal.at(self.piece.range_of(&unwrapped(node.clone())).start),
                None => refusal,
            })
        };
        let rows: Vec<Vec<SyntaxNode>> = match value_rows(&source) {
            Some(rows) => rows.iter().map(|row| row.children().collect()).collect(),
            None => vec![self.output_expressions(&source)?],
        };
        let width = rows.first()?.len();
        if let Some(uneven) = rows.iter().find(|row| row.len() != width) {
            return wrong("VALUES lists must all be the same length", uneven.first());
        }
        if width > most {
            return wrong("INSERT has more expressions than target columns", rows.first()?.get(most));
        }
        let listed = listed.filter(|columns| width < columns.len())?;
        wrong("INSERT has more target columns than expressions", listed.get(width))
    }

    /// The outputs of a plain SELECT without stars.
    fn output_expressions(&self, source: &SyntaxNode) -> Option<Vec<SyntaxNode>> {
        let clause = child(source, SyntaxKind::SELECT_CLAUSE)?;
        let list = child(&clause, SyntaxKind::TARGET_LIST)?;
        let named = |target: &SyntaxNode| self.survey.target_name(target).and_then(|_| target.children().next());
        list.children().map(|target| named(&target)).collect()
    }

    /// A column that one SET assigns as a whole twice: found only after everything has been analysed.
    fn assigned_twice(&self) -> Option<Refusal> {
        for event in &self.survey.events {
            let Event::Columns { item, clause } = event else { continue };
            if clause.kind() != SyntaxKind::SET_CLAUSE || self.target_at(*item).is_none() {
                continue;
            }
            let mut before = Vec::new();
            for column in clause.descendants().filter(|n| n.kind() == SyntaxKind::COLUMN_TARGET) {
                let Some((name, _)) = self.survey.name_of(&column) else { continue };
                let whole = column.children().count() <= 1;
                if whole && before.contains(&name) {
                    let message = format!("multiple assignments to same column \"{name}\"");
                    return Some(Refusal::new(SqlState::SYNTAX_ERROR, message));
                }
                before.push(name);
            }
        }
        None
    }
}

/// PostgreSQL's own answer to a column that an INSERT lists twice.
pub(super) fn specified_twice(name: &str, place: usize) -> Refusal {
    Refusal::new(SqlState::DUPLICATE_COLUMN, format!("column \"{name}\" specified more than once")).at(place)
}
