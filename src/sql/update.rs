//! UPDATE's SET, also of ON CONFLICT DO UPDATE: each assignment to a column of the session's shape becomes the
//! assignments to what is stored.

use std::ops::Range;

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::plan::{Plan, refuse};
use super::survey::{Target, child, has_token};
use super::writes::{Evaluated, Storing, Value, beside, default_of, retyped, value_of};
use crate::migration::Store;
use crate::schema::{Ident, Refusal};

/// One assignment of a SET.
#[derive(Debug)]
pub(super) struct Assignment {
    pub name: String,
    /// The bytes of the column's name.
    pub place: Range<usize>,
    /// `a[1]` or `a.b`.
    pub indirect: bool,
    pub value: Value,
    /// `a = value` or `(a, b) = ...`.
    pub set: SyntaxNode,
    /// Which of that one's columns it is.
    pub index: usize,
}

/// What `(a, b) = (SELECT ...)` assigns out of one evaluation of its query.
#[derive(Debug)]
struct Outputs {
    set: SyntaxNode,
    /// What stands for some of the query's own outputs, by place.
    converted: Vec<(usize, String)>,
    /// Columns that are assigned too, with their values.
    beside: Vec<(String, String)>,
}

/// How many columns a query gives, beside those that are assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Same,
    Another,
    /// It is no query, or has a star over something unknown.
    Unknown,
}

/// The state of one SET in the making.
#[derive(Debug, Default)]
struct Setting {
    /// The stored columns that are set, and whether under their own name.
    stored: Vec<(Ident, bool)>,
    /// Assignments behind the last one.
    appended: String,
    outputs: Vec<Outputs>,
}

impl Setting {
    fn outputs(&mut self, set: &SyntaxNode) -> &mut Outputs {
        let at = self.outputs.iter().position(|outputs| &outputs.set == set).unwrap_or_else(|| {
            self.outputs.push(Outputs { set: set.clone(), converted: Vec::new(), beside: Vec::new() });
            self.outputs.len() - 1
        });
        &mut self.outputs[at]
    }
}

impl Plan<'_, '_> {
    /// Plans the SET of one target; `clause` is the `SET_CLAUSE`.
    pub(super) fn set_clause(&mut self, target: &Target<'_>, clause: &SyntaxNode) -> Result<(), Refusal> {
        let assignments = self.assignments(clause);
        let mut setting = Setting::default();
        for assignment in &assignments {
            let Some(storing) = self.storing(target, &assignment.name, assignment.place.start)? else { continue };
            self.store_primary(target, assignment, &storing, &mut setting)?;
            for other in &storing.others {
                self.store_other(target, assignment, &assignments, &storing, other, &mut setting)?;
            }
        }
        for outputs in &setting.outputs {
            self.select_outputs(outputs)?;
        }
        let end = self.piece.range_of(clause).end;
        if setting.appended.is_empty() { Ok(()) } else { self.insert(end, setting.appended) }
    }

    /// The assignments of a SET, in order.
    fn assignments(&self, clause: &SyntaxNode) -> Vec<Assignment> {
        let mut found = Vec::new();
        let list = child(clause, SyntaxKind::SET_COLUMN_LIST);
        for set in list.iter().flat_map(|list| list.children()) {
            let targets: Vec<SyntaxNode> = match set.kind() {
                SyntaxKind::SET_MULTIPLE_COLUMNS => {
                    child(&set, SyntaxKind::COLUMN_TARGET_LIST).iter().flat_map(|list| list.children()).collect()
                }
                _ => child(&set, SyntaxKind::COLUMN_TARGET).into_iter().collect(),
            };
            let values = self.values_of(&set, targets.len());
            for (index, (target, value)) in targets.iter().zip(values).enumerate() {
                if let Some((name, start)) = self.survey.name_of(target) {
                    let end = self.piece.token_at(start).map_or(start, |token| token.end);
                    // `a[1]`, `a.b`: something stands behind the column's name.
                    let indirect = self.piece.range_of(target).end > end;
                    found.push(Assignment { name, place: start..end, indirect, value, set: set.clone(), index });
                }
            }
        }
        found
    }

    fn values_of(&self, set: &SyntaxNode, width: usize) -> Vec<Value> {
        if let Some(list) = child(set, SyntaxKind::SET_EXPR_LIST) {
            let values: Vec<Value> = list.children().map(|value| self.value_of(&value)).collect();
            // `ROW(v.*)` gives as many as `v` has columns: which is whose is not known.
            return if values.len() == width { values } else { vec![Value::Subquery; width] };
        }
        if set.kind() == SyntaxKind::SET_MULTIPLE_COLUMNS {
            return vec![Value::Subquery; width];
        }
        child(set, SyntaxKind::SET_EXPR).iter().map(|value| self.value_of(value)).collect()
    }

    fn value_of(&self, set_expr: &SyntaxNode) -> Value {
        match set_expr.children().next() {
            Some(literal) if has_token(&literal, SyntaxKind::DEFAULT_KW) => {
                Value::Default(self.piece.range_of(set_expr))
            }
            Some(expression) => Value::Expression(expression),
            None => Value::Default(self.piece.range_of(set_expr)),
        }
    }

    /// Puts the session's value where it is stored.
    fn store_primary(
        &mut self,
        target: &Target<'_>,
        assignment: &Assignment,
        storing: &Storing<'_>,
        setting: &mut Setting,
    ) -> Result<(), Refusal> {
        let Some(store) = storing.primary else {
            let why = "Nothing in this phase stores it.";
            return Err(refuse(target.rules, &format!("an assignment to \"{}\"", assignment.name), why));
        };
        note_stored(target, store, assignment, &mut setting.stored)?;
        // Under its own name a column may still be stored as another type: the value must be one of the session's.
        let converted = retyped(target, store, storing.column) && !matches!(assignment.value, Value::Default(_));
        let own = store.value.as_column() == Some(&store.column);
        if own && !converted {
            return self.own_default(target, assignment, storing, &mut setting.stored).map(|_| ());
        }
        let bare = store.value.as_column().is_some();
        if assignment.indirect && (!bare || retyped(target, store, storing.column)) {
            let why = "A part of a column that is stored in another form cannot be assigned.";
            return Err(refuse(target.rules, "a subscripted assignment", why).at(assignment.place.start));
        }
        if storing.is_own_storage() && !converted {
            // The session's own storage under another name: as above, but for the name.
            if !self.own_default(target, assignment, storing, &mut setting.stored)? {
                self.replace(assignment.place.clone(), store.column.quoted())?;
            }
            return Ok(());
        }
        self.replace(assignment.place.clone(), store.column.quoted())?;
        match &assignment.value {
            Value::Expression(value) if bare && !retyped(target, store, storing.column) => {
                let _ = value;
                Ok(())
            }
            Value::Expression(value) => {
                let alias = &self.survey.items[target.item].alias_sql;
                self.wrap(target.rules, store, storing.column, value, Evaluated::PerRow(alias))
            }
            Value::Subquery if bare && !converted => Ok(()),
            // PostgreSQL has its own error for it.
            Value::Subquery if self.outputs_of(&assignment.set) == Width::Another => Ok(()),
            Value::Subquery if self.outputs_of(&assignment.set) == Width::Same => {
                let value = self.output_stored(target, storing, store, assignment.index);
                let value = value.ok_or_else(|| one_of_several(target, assignment))?;
                setting.outputs(&assignment.set).converted.push((assignment.index, value));
                Ok(())
            }
            Value::Subquery => {
                let why = "The value must be converted, and comes out of a row that gives several.";
                Err(refuse(target.rules, "an assignment of several columns from a row", why).at(assignment.place.start))
            }
            Value::Default(range) => {
                let default = self.default_value(target, store, &storing.column.name, range)?;
                if let Some(default) = default {
                    self.replace(range.clone(), default)?;
                }
                Ok(())
            }
        }
    }

    /// `DEFAULT` for a column whose default is still that of the column it will replace: then that one is assigned.
    /// Whether it is.
    fn own_default(
        &mut self,
        target: &Target<'_>,
        assignment: &Assignment,
        storing: &Storing<'_>,
        stored: &mut Vec<(Ident, bool)>,
    ) -> Result<bool, Refusal> {
        if let Value::Expression(value) = &assignment.value {
            // A part's value is of the part's type.
            let typed = if assignment.indirect { Ok(()) } else { self.type_literal(storing, value) };
            return typed.map(|()| false);
        }
        let (Value::Default(_), Some(own)) = (&assignment.value, storing.primary) else { return Ok(false) };
        let other = storing.others.iter().find(|other| default_of(target, &other.column).is_some());
        let Some(other) = other.filter(|_| default_of(target, &own.column).is_none()) else { return Ok(false) };
        if !target.view.synced {
            let why = "The default is that of another column, which nothing keeps in step in this phase.";
            return Err(refuse(target.rules, &format!("DEFAULT for column \"{}\"", assignment.name), why)
                .at(assignment.place.start));
        }
        stored.push((other.column.clone(), false));
        self.replace(assignment.place.clone(), other.column.quoted()).map(|()| true)
    }

    /// What stands for `DEFAULT` where the value is stored in another column; `None` where that column's own does.
    pub(super) fn default_value(
        &self,
        target: &Target<'_>,
        store: &Store,
        column: &Ident,
        range: &Range<usize>,
    ) -> Result<Option<String>, Refusal> {
        let bare = store.value.as_column().is_some();
        match (default_of(target, &store.column), default_of(target, column)) {
            (Some(_), _) => Ok(None),
            (None, None) => Ok(None),
            (None, Some(default)) if bare && is_constant(default) => Ok(Some(format!("({default})"))),
            (None, _) => {
                let why = "Its default is that of another column, and no constant.";
                Err(refuse(target.rules, &format!("DEFAULT for column \"{column}\""), why)
                    .hint("Give the value instead of DEFAULT.")
                    .at(range.start))
            }
        }
    }

    /// Keeps the other side in step in the same statement, where the value can be computed a second time.
    fn store_other(
        &mut self,
        target: &Target<'_>,
        assignment: &Assignment,
        assignments: &[Assignment],
        storing: &Storing<'_>,
        other: &Store,
        setting: &mut Setting,
    ) -> Result<(), Refusal> {
        let counterpart = |a: &&Assignment| a.name == other.column.as_str() && a.name != assignment.name;
        if let Some(counterpart) = assignments.iter().find(counterpart) {
            return Err(both_sides(target, assignment, counterpart));
        }
        let written_before = setting.stored.iter().any(|(column, _)| column == &other.column);
        let repeated = match &assignment.value {
            Value::Expression(value) if !assignment.indirect && self.is_repeatable(value) => {
                let text = beside(target, storing.column, other, &self.edited_text(value));
                self.render_other(target, assignments, storing, other, text)
            }
            Value::Default(_) if !(target.view.synced && other.follows) => own_default_text(target, storing)
                .map(|text| value_of(target.relation, storing.column, other, &text))
                .and_then(|text| self.render_other(target, assignments, storing, other, text)),
            Value::Expression(_) | Value::Default(_) | Value::Subquery => None,
        };
        match repeated {
            Some(value) if !written_before => {
                setting.stored.push((other.column.clone(), false));
                setting.appended.push_str(&format!(", {} = {value}", other.column.quoted()));
                Ok(())
            }
            Some(_) => Ok(()),
            None if target.view.synced && other.follows => {
                self.reasons.push(format!("\"{}\" is left to the sync trigger", other.column));
                Ok(())
            }
            // The default of the other side is stored, and the trigger fills this one.
            None if written_before && matches!(assignment.value, Value::Default(_)) => Ok(()),
            None if !written_before && self.store_once(target, assignment, storing, other, setting)? => {
                setting.stored.push((other.column.clone(), false));
                self.reasons.push(format!("\"{}\" is stored beside it from one evaluation", other.column));
                Ok(())
            }
            None => {
                let why =
                    format!("The value must be stored in \"{}\" too, and cannot be computed twice.", other.column);
                Err(refuse(target.rules, &format!("this value for column \"{}\"", assignment.name), &why)
                    .hint("Compute the value in a statement of its own, and send it as a constant or parameter.")
                    .at(assignment.place.start))
            }
        }
    }

    /// Stores a value that may not be computed twice on both sides, out of one sub-select; whether that was possible.
    ///
    /// It reads the row's own columns only, so that PostgreSQL computes it again after waiting for a lock; that it names
    /// the row makes PostgreSQL compute it for each row. VALUES refuses what SET refuses: aggregates, windows, sets.
    fn store_once(
        &mut self,
        target: &Target<'_>,
        assignment: &Assignment,
        storing: &Storing<'_>,
        other: &Store,
        setting: &mut Setting,
    ) -> Result<bool, Refusal> {
        let own = storing.is_own_storage();
        let computable = other.value.columns().all(|name| name == &storing.column.name);
        if !own || !computable || assignment.indirect {
            return Ok(false);
        }
        let both = |value: String| other.value.render(|_| value_of(target.relation, storing.column, other, &value));
        let single = child(&assignment.set, SyntaxKind::COLUMN_TARGET).is_some();
        match &assignment.value {
            Value::Expression(value) if single => {
                let range = self.piece.range_of(value);
                let whole = both("crossfade_once.v".to_owned());
                let alias = &self.survey.items[target.item].alias_sql;
                self.insert(assignment.place.start, "(")?;
                self.insert(assignment.place.end, format!(", {})", other.column.quoted()))?;
                self.insert(range.start, format!("(SELECT crossfade_once.v, {whole} FROM (VALUES (("))?;
                self.insert(range.end, format!("))) AS crossfade_once(v) WHERE {alias}.ctid IS NOT NULL)"))?;
                Ok(true)
            }
            Value::Subquery if self.outputs_of(&assignment.set) == Width::Another => Ok(true),
            Value::Subquery if self.outputs_of(&assignment.set) == Width::Same => {
                let value = both(output_name(assignment.index));
                setting.outputs(&assignment.set).beside.push((other.column.quoted(), value));
                Ok(true)
            }
            Value::Subquery => Ok(false),
            Value::Expression(_) | Value::Default(_) => Ok(false),
        }
    }

    /// How many columns the query of `(a, b) = (SELECT ...)` gives. An output too many would be left out in silence.
    fn outputs_of(&self, set: &SyntaxNode) -> Width {
        let width = child(set, SyntaxKind::COLUMN_TARGET_LIST).map(|list| list.children().count());
        let source = child(set, SyntaxKind::PAREN_SELECT);
        let columns = source.and_then(|source| self.survey.query_columns(&source));
        match columns.filter(|columns| columns.complete) {
            Some(columns) if Some(columns.names.len()) == width => Width::Same,
            Some(_) => Width::Another,
            None => Width::Unknown,
        }
    }

    /// What is stored for an output of the query, where it is computed from that one alone.
    fn output_stored(&self, target: &Target<'_>, storing: &Storing<'_>, store: &Store, index: usize) -> Option<String> {
        let alone = store.value.columns().all(|name| name == &storing.column.name);
        let typed = value_of(target.relation, storing.column, store, &output_name(index));
        alone.then(|| store.value.render(|_| typed.clone()))
    }

    /// Selects from the query of `(a, b) = (SELECT ...)`: each of its values is computed once.
    fn select_outputs(&mut self, outputs: &Outputs) -> Result<(), Refusal> {
        let list = child(&outputs.set, SyntaxKind::COLUMN_TARGET_LIST);
        let source = child(&outputs.set, SyntaxKind::PAREN_SELECT);
        let (Some(list), Some(source)) = (list, source) else { return Ok(()) };
        let range = self.piece.range_of(&source);
        let width = list.children().count();
        let converted = |index: usize| outputs.converted.iter().find(|(at, _)| *at == index);
        let mut values: Vec<String> = (0..width)
            .map(|index| converted(index).map_or_else(|| output_name(index), |(_, value)| value.clone()))
            .collect();
        values.extend(outputs.beside.iter().map(|(_, value)| value.clone()));
        let names: Vec<String> = (0..width).map(|index| format!("v{index}")).collect();
        let columns: String = outputs.beside.iter().map(|(column, _)| format!(", {column}")).collect();
        if !columns.is_empty() {
            self.insert(self.piece.range_of(&list).end - 1, columns)?;
        }
        self.insert(range.start, format!("(SELECT {} FROM ", values.join(", ")))?;
        self.insert(range.end, format!(" AS crossfade_once({}))", names.join(", ")))
    }

    /// A store's value: what is assigned for the columns in the statement, the row's own value for the others.
    fn render_other(
        &self,
        target: &Target<'_>,
        assignments: &[Assignment],
        storing: &Storing<'_>,
        other: &Store,
        own: String,
    ) -> Option<String> {
        let alias = &self.survey.items[target.item].alias_sql;
        let mut known = true;
        let value = other.value.render(|name| {
            if name == &storing.column.name {
                return own.clone();
            }
            if let Some(assigned) = assignments.iter().find(|a| a.name == name.as_str()) {
                return match (&assigned.value, target.view.column(name)) {
                    (Value::Expression(value), Some(column)) if self.is_repeatable(value) => {
                        value_of(target.relation, column, other, &self.edited_text(value))
                    }
                    _ => {
                        known = false;
                        String::new()
                    }
                };
            }
            match target.view.column(name).or_else(|| target.view.fallback_column(name)) {
                Some(column) => format!("({})", column.read.render(|name| format!("{alias}.{}", name.quoted()))),
                None => {
                    known = false;
                    String::new()
                }
            }
        });
        known.then_some(value)
    }
}

/// An output of the query that `(a, b) = (SELECT ...)` assigns.
fn output_name(index: usize) -> String {
    format!("crossfade_once.v{index}")
}

fn one_of_several(target: &Target<'_>, assignment: &Assignment) -> Refusal {
    let why = "What is stored is computed from several columns, of which the statement gives one.";
    refuse(target.rules, &format!("a value for column \"{}\"", assignment.name), why).at(assignment.place.start)
}

/// What DEFAULT for the session's column stands for, where that is a constant.
fn own_default_text(target: &Target<'_>, storing: &Storing<'_>) -> Option<String> {
    let own = storing.primary.filter(|store| store.value.as_column() == Some(&storing.column.name))?;
    match default_of(target, &own.column) {
        None if storing.others.iter().any(|other| default_of(target, &other.column).is_some()) => None,
        None => Some("NULL".to_owned()),
        Some(default) => is_constant(default).then(|| default.to_owned()),
    }
}

fn both_sides(target: &Target<'_>, one: &Assignment, other: &Assignment) -> Refusal {
    let why = "Both are the same value in two schemas, and only one of them can be given.";
    refuse(target.rules, &format!("an assignment to both \"{}\" and \"{}\"", one.name, other.name), why)
        .hint("Assign the column of one schema only.")
        .at(other.place.start.max(one.place.start))
}

/// Notes that a stored column is set; an error where another assignment sets it already.
fn note_stored(
    target: &Target<'_>,
    store: &Store,
    assignment: &Assignment,
    stored: &mut Vec<(Ident, bool)>,
) -> Result<(), Refusal> {
    // The same column twice under its own name is PostgreSQL's to judge, and so are parts of one.
    let own = store.column.as_str() == assignment.name || assignment.indirect;
    if stored.iter().any(|(column, before)| column == &store.column && !(own && *before)) {
        let why = format!("Another assignment of the statement is stored in \"{}\" too.", store.column);
        return Err(refuse(target.rules, &format!("an assignment to \"{}\"", assignment.name), &why)
            .hint("Assign the column of one schema, once.")
            .at(assignment.place.start));
    }
    stored.push((store.column.clone(), own));
    Ok(())
}

/// Whether a default, as PostgreSQL writes it, is a constant: it means the same wherever it stands.
fn is_constant(default: &str) -> bool {
    let text = default.trim();
    let literal = text.starts_with('\'') && text.matches('(').count() == text.matches("character varying(").count();
    literal
        || text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        || matches!(text, "true" | "false" | "NULL")
}
