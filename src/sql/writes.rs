//! Targets of writes, edited in place: references by resolved name, RETURNING with its output names, and what both
//! UPDATE and INSERT need to store a value. The statements' own forms are in `update`, `insert` and `copy`.

use std::ops::Range;

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::lex::TokenKind;
use super::plan::{Plan, SYSTEM_COLUMNS, ambiguous_column, holds_query, refuse, sensitive, undefined_column};
use super::resolve::Found;
use super::survey::{Reference, ScopeId, Source, Star, Target, child, has_token};
use crate::migration::{Store, TableRules, TableView, ViewColumn};
use crate::schema::{Ident, Refusal, Relation};

/// The longest value that is written a second time beside itself, in bytes; a longer one is left to the sync trigger.
pub(super) const REPEATED_BYTES_MAX: usize = 4096;

/// What stands in the place of a value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// An expression.
    Expression(SyntaxNode),
    /// `DEFAULT`, at these bytes.
    Default(Range<usize>),
    /// One output of a subquery that gives several.
    Subquery,
}

/// How often a value stands to be evaluated.
#[derive(Debug, Clone, Copy)]
pub(super) enum Evaluated<'a> {
    /// Once in the statement.
    Once,
    /// Once for each row of the target, which has this alias.
    PerRow(&'a str),
    /// Once for each row of a query.
    PerSourceRow,
}

/// What storing a value into a column of the session's shape means.
#[derive(Debug)]
pub(super) struct Storing<'v> {
    /// The column as the session sees it.
    pub column: &'v ViewColumn,
    /// The store that must be in the statement.
    pub primary: Option<&'v Store>,
    /// Stores that keep the other side in step.
    pub others: Vec<&'v Store>,
}

impl Storing<'_> {
    /// Whether the value is stored as it is, in the storage of the session's own side (under whatever name): its own
    /// column, or one beside which the other side is kept.
    pub(super) fn is_own_storage(&self) -> bool {
        self.primary.is_some_and(|store| {
            let bare = store.value.as_column() == Some(&self.column.name);
            bare && (store.column == self.column.name || !self.others.is_empty())
        })
    }
}

impl Plan<'_, '_> {
    /// Edits every reference that means a target, and every star of RETURNING.
    pub(super) fn target_names(&mut self) -> Result<(), Refusal> {
        if self.survey.targets.is_empty() {
            return Ok(());
        }
        let survey = self.survey;
        let mut edited: Vec<Range<usize>> = Vec::new();
        for reference in &survey.references {
            if let Some((range, text)) = self.target_reference(reference)? {
                edited.push(range.clone());
                self.replace(range, text)?;
            }
        }
        for star in &survey.stars {
            edited.extend(self.target_star(star)?);
        }
        for target in &survey.targets {
            self.refuse_row_functions(target)?;
            let returning = child(&target.node, SyntaxKind::RETURNING_CLAUSE);
            if let Some(list) = returning.and_then(|clause| child(&clause, SyntaxKind::TARGET_LIST)) {
                self.name_outputs(&list, &edited)?;
            }
        }
        Ok(())
    }

    /// `username(users)` is another way to write `users.username`.
    fn refuse_row_functions(&self, target: &Target<'_>) -> Result<(), Refusal> {
        let called = sensitive(target.view).find(|name| self.survey.calls.iter().any(|call| call == name.as_str()));
        let is_target = |source| match source {
            Source::Target(of) => self.survey.targets[of].item == target.item,
            Source::Read(_) | Source::Excluded(_) | Source::Other => false,
        };
        let mut rows = (0..self.survey.items.len()).filter(|item| is_target(self.survey.items[*item].source));
        match called {
            Some(name) if rows.any(|item| self.uses_row(item)) => {
                Err(refuse(target.rules, &format!("{name}(...) over a whole row"), "It may stand for the column."))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The targets that a name in this scope could reach, nearest first, and in which of them it is sensitive.
    fn targets_seen(&self, scope: ScopeId, name: &str) -> Option<usize> {
        let survey = self.survey;
        survey.scopes_from(scope).flat_map(|id| survey.scopes[id].items.iter()).find_map(|item| {
            match survey.items[*item].source {
                Source::Target(target) | Source::Excluded(target) => {
                    let view = survey.targets[target].view;
                    sensitive(view).any(|column| column.as_str() == name).then_some(target)
                }
                Source::Read(_) | Source::Other => None,
            }
        })
    }

    /// The edit that a reference needs because of a target in its scopes.
    fn target_reference(&self, reference: &Reference) -> Result<Option<(Range<usize>, String)>, Refusal> {
        let survey = self.survey;
        let column = reference.column();
        let range = self.piece.range_of(&reference.node);
        let place = reference.places.first().copied().unwrap_or(range.start);
        let found = survey.resolve(reference);
        if let Found::Row(item) = found {
            if let Some(target) = self.caught_by(reference, item) {
                let why = "The stored table has a column of that name, which the session does not see.";
                return Err(refuse(survey.targets[target].rules, &format!("the whole row \"{column}\""), why)
                    .hint("Give what it is a row of another alias.")
                    .at(place));
            }
            return self.row_reference(item, &reference.node, place);
        }
        let seen = self.targets_seen(reference.scope, column);
        let qualified = match found {
            Found::Column(item) | Found::MissingIn(item) => match survey.items[item].source {
                Source::Target(target) | Source::Excluded(target) => Some((item, target)),
                Source::Read(_) | Source::Other => None,
            },
            Found::Row(_) | Found::Merged(_) | Found::Output | Found::Ambiguous | Found::Missing | Found::Unsure => {
                None
            }
        };
        let Some(seen) = seen.or(qualified.map(|(_, target)| target)) else { return Ok(None) };
        let rules = survey.targets[seen].rules;
        match found {
            Found::Column(item) => match survey.items[item].source {
                Source::Target(target) | Source::Excluded(target) => {
                    let view = survey.targets[target].view;
                    let stored = view.columns.iter().find(|c| c.name.as_str() == column && !c.is_plain());
                    stored.map(|stored| self.read_of(reference, stored, item, range, rules)).transpose()
                }
                Source::Read(_) | Source::Other => self.protect(reference, item, range),
            },
            Found::Merged(_) => {
                let why =
                    "It is a merged column of a join, beside a column of the target that the session does not see.";
                Err(refuse(rules, &format!("the column reference \"{column}\""), why).at(place))
            }
            Found::Ambiguous => Err(ambiguous_column(column, place)),
            Found::Unsure => {
                let why = "Something else in FROM has columns that the proxy does not know, and may have this one.";
                Err(refuse(rules, &format!("the column reference \"{column}\""), why)
                    .hint("Qualify the column with the name or alias of its table.")
                    .at(place))
            }
            Found::MissingIn(_) | Found::Missing => self.missing(reference, range, seen),
            Found::Output | Found::Row(_) => Ok(None),
        }
    }

    /// A whole row of a target shows what is stored: the session's row is put together instead. `node` names the row.
    fn row_reference(
        &self,
        item: usize,
        node: &SyntaxNode,
        place: usize,
    ) -> Result<Option<(Range<usize>, String)>, Refusal> {
        let (Source::Target(target) | Source::Excluded(target)) = self.survey.items[item].source else {
            return Ok(None);
        };
        let target = &self.survey.targets[target];
        if self.has_stored_rows(target.view) {
            return Ok(None);
        }
        let alias = &self.survey.items[item].alias_sql;
        let field = field_of(node);
        if let Some(field) = field.as_ref().filter(|field| !has_token(field, SyntaxKind::STAR)) {
            return self.row_field(target, item, field, place).map(Some);
        }
        let listed = field.as_ref().is_some_and(is_listed);
        if listed && let Some(field) = &field {
            let list: Vec<String> = target.view.columns.iter().map(|column| output(column, alias)).collect();
            return Ok(Some((self.piece.range_of(field), list.join(", "))));
        }
        if field.is_some() || node.ancestors().any(|outer| outer.kind() == SyntaxKind::CONFLICT_ON_INDEX) {
            let why = "The row of a table that is written has the columns that are stored, not those of the \
                       session's schema.";
            return Err(refuse(target.rules, "the whole row of the written table", why)
                .hint("Name the columns instead of the row.")
                .at(place));
        }
        self.refuse_typed_argument(node, target.rules, &[])?;
        Ok(Some((self.piece.range_of(node), session_row(target, alias))))
    }

    /// `(users).username`, as `users.username`.
    fn row_field(
        &self,
        target: &Target<'_>,
        item: usize,
        field: &SyntaxNode,
        place: usize,
    ) -> Result<(Range<usize>, String), Refusal> {
        let range = self.piece.range_of(field);
        let item = &self.survey.items[item];
        let named = field.children().filter(|part| part.kind() == SyntaxKind::NAME_REF).last();
        let name = named.and_then(|part| self.survey.name_of(&part)).map(|(name, _)| name).unwrap_or_default();
        let all = target.view.columns.iter().chain(&target.view.fallback);
        match all.into_iter().find(|column| column.name.as_str() == name) {
            Some(column) => Ok((range, format!("({})", value(column, &item.alias_sql)))),
            None if SYSTEM_COLUMNS.contains(&name.as_str()) => {
                let what = "a system column of a whole row";
                Err(refuse(target.rules, what, "The row that is put together has none.").at(range.start))
            }
            None => Err(undefined_column(&[item.alias.clone().unwrap_or_default(), name], place)),
        }
    }

    /// A whole row through a view is a record: a function that takes the table's own row type would not be found, or
    /// another one would. Of a read, `column(row)` is another way to write `row.column`.
    pub(super) fn refuse_typed_argument(
        &self,
        node: &SyntaxNode,
        rules: &TableRules,
        columns: &[ViewColumn],
    ) -> Result<(), Refusal> {
        let mut outer = node.clone();
        while let Some(parent) = outer.parent().filter(|parent| parent.kind() == SyntaxKind::PAREN_EXPR) {
            outer = parent;
        }
        let argument = outer.parent().filter(|parent| parent.kind() == SyntaxKind::ARG).unwrap_or(outer);
        let list = argument.parent().filter(|parent| parent.kind() == SyntaxKind::ARG_LIST);
        let Some(call) = list.and_then(|list| list.parent()).filter(|call| call.kind() == SyntaxKind::CALL_EXPR) else {
            return Ok(());
        };
        let name = call.children().next().map(|function| self.survey.path(&function).0).unwrap_or_default();
        let known = |name: &String| {
            RECORD_FUNCTIONS.contains(&name.as_str()) || columns.iter().any(|column| column.name.as_str() == name)
        };
        if name.last().is_some_and(known) {
            return Ok(());
        }
        let what = format!("a whole row as an argument of {}(...)", name.join("."));
        Err(refuse(rules, &what, "Through a view the row is a record, which is not of the table's row type.")
            .hint("Give the function the columns that it needs.")
            .at(self.piece.range_of(node).start))
    }

    /// The stored value of a target's column, in the place of a reference to it.
    fn read_of(
        &self,
        reference: &Reference,
        column: &ViewColumn,
        item: usize,
        range: Range<usize>,
        rules: &TableRules,
    ) -> Result<(Range<usize>, String), Refusal> {
        if reference.node.ancestors().any(|node| node.kind() == SyntaxKind::CONFLICT_ON_INDEX) {
            return match &column.arbiter {
                // A qualified name stays one: PostgreSQL takes none there, and says so.
                Some(arbiter) if reference.parts.len() > 1 => {
                    Ok((range, format!("{}.{}", self.survey.items[item].alias_sql, arbiter.quoted())))
                }
                Some(arbiter) => Ok((range, arbiter.quoted())),
                None => {
                    let why = "No unique index over what is stored can arbitrate for it.";
                    Err(refuse(rules, &format!("ON CONFLICT over column \"{}\"", column.name), why).at(range.start))
                }
            };
        }
        let alias = &self.survey.items[item].alias_sql;
        let text = column.read.render(|name| format!("{alias}.{}", name.quoted()));
        Ok((range, if column.read.as_column().is_some() { text } else { format!("({text})") }))
    }

    /// A name of another item that a stored, hidden column of the target would catch or make ambiguous.
    fn protect(
        &self,
        reference: &Reference,
        item: usize,
        range: Range<usize>,
    ) -> Result<Option<(Range<usize>, String)>, Refusal> {
        if reference.parts.len() > 1 {
            return Ok(None);
        }
        let survey = self.survey;
        let Some(target) = self.caught_by(reference, item) else { return Ok(None) };
        let holder = &survey.items[item];
        let reachable = holder
            .alias
            .as_ref()
            .is_some_and(|alias| survey.item_named(std::slice::from_ref(alias), reference.scope) == Some(item));
        if !reachable {
            let why = "The stored table has a column of that name, which the session does not see.";
            return Err(refuse(survey.targets[target].rules, &format!("the name \"{}\"", reference.column()), why)
                .hint("Qualify the column with an alias of its table.")
                .at(range.start));
        }
        let name = self.piece.source.get(range.clone()).unwrap_or_default();
        Ok(Some((range, format!("{}.{name}", holder.alias_sql))))
    }

    /// The target that stores a column by the bare name of something else, in a scope no farther than the item's. Where
    /// the name is a row's, any scope is near enough: a column comes before all rows.
    fn caught_by(&self, reference: &Reference, item: usize) -> Option<usize> {
        let survey = self.survey;
        if reference.parts.len() > 1 {
            return None;
        }
        let is_row = survey.items[item].alias.as_deref() == Some(reference.column())
            && matches!(survey.resolve(reference), Found::Row(_));
        let mut caught = None;
        for scope in survey.scopes_from(reference.scope) {
            for other in &survey.scopes[scope].items {
                if let Source::Target(target) | Source::Excluded(target) = survey.items[*other].source
                    && stores(&survey.targets[target], reference.column())
                {
                    caught = Some(target);
                }
            }
            if !is_row && survey.scopes[scope].items.contains(&item) {
                break;
            }
        }
        caught
    }

    /// A name that the session's shape does not have: the other shape's column in `auto`, else PostgreSQL's own error.
    fn missing(
        &self,
        reference: &Reference,
        range: Range<usize>,
        seen: usize,
    ) -> Result<Option<(Range<usize>, String)>, Refusal> {
        let survey = self.survey;
        let holder = self.fallback_holder(reference)?;
        if let Some((Source::Target(target) | Source::Excluded(target), name)) = &holder {
            let target_of = &survey.targets[*target];
            let Some(column) = target_of.view.fallback_column(name) else { return Ok(None) };
            let item = match reference.parts.split_last() {
                Some((_, qualifier)) if !qualifier.is_empty() => survey.item_named(qualifier, reference.scope),
                Some(_) | None => Some(target_of.item),
            };
            let item = item.unwrap_or(target_of.item);
            return self.read_of(reference, column, item, range, target_of.rules).map(Some);
        }
        if holder.is_some() {
            return Ok(None);
        }
        // PostgreSQL objects by itself where no table goes by the qualifier, or nothing stored has the name.
        let qualifier = reference.parts.split_last().map_or(&[][..], |(_, qualifier)| qualifier);
        if !qualifier.is_empty() && survey.item_named(qualifier, reference.scope).is_none() {
            return Ok(None);
        }
        if stores(&survey.targets[seen], reference.column()) {
            return Err(undefined_column(&reference.parts, range.start));
        }
        Ok(None)
    }

    /// Edits a star that covers a target; where it stood as a value, its place.
    fn target_star(&mut self, star: &Star) -> Result<Option<Range<usize>>, Refusal> {
        let survey = self.survey;
        let items: Vec<usize> = match star.qualifier.as_slice() {
            [] => survey.scopes[star.scope].items.clone(),
            qualifier => survey.item_named(qualifier, star.scope).into_iter().collect(),
        };
        let target_of = |item: usize| match survey.items[item].source {
            Source::Target(target) | Source::Excluded(target) => Some(&survey.targets[target]),
            Source::Read(_) | Source::Other => None,
        };
        let Some(target) = items.iter().find_map(|item| target_of(*item)) else { return Ok(None) };
        // `ROW(a.*, 1)`, `(a.*, 1)`: the star stands for its columns, which have no names there.
        let in_row =
            star.node.parent().is_some_and(|parent| matches!(parent.kind(), SyntaxKind::TUPLE_EXPR | SyntaxKind::ROW));
        if !is_listed(&star.node) && !in_row {
            let place = self.piece.range_of(&star.node).start;
            let Some(item) = items.first() else { return Ok(None) };
            let Some((range, text)) = self.row_reference(*item, &star.node, place)? else { return Ok(None) };
            self.replace(range.clone(), text)?;
            return Ok(Some(range));
        }
        let scope = &survey.scopes[star.scope];
        let joined = star.qualifier.is_empty() && (scope.natural || !scope.merged.is_empty());
        if joined || items.iter().any(|item| survey.items[*item].alias.is_none()) {
            let why = "The star stands for the target and for a join whose columns are merged.";
            return Err(refuse(target.rules, "this star", why)
                .hint("Name the columns instead of the star.")
                .at(self.piece.range_of(&star.node).start));
        }
        let mut list = Vec::new();
        for item in items {
            let alias = &survey.items[item].alias_sql;
            match target_of(item) {
                Some(target) if in_row => list.extend(target.view.columns.iter().map(|column| value(column, alias))),
                Some(target) => list.extend(target.view.columns.iter().map(|column| output(column, alias))),
                None => list.push(format!("{alias}.*")),
            }
        }
        self.reasons.push("a star in RETURNING is written out".to_owned());
        let range = self.piece.range_of(&star.node);
        self.replace(range.clone(), list.join(", "))?;
        Ok(in_row.then_some(range))
    }

    /// Gives the outputs of a list their names back where an edit would have changed them.
    pub(super) fn name_outputs(&mut self, list: &SyntaxNode, edited: &[Range<usize>]) -> Result<(), Refusal> {
        for output in list.children().filter(|c| c.kind() == SyntaxKind::TARGET) {
            let range = self.piece.range_of(&output);
            let touched = edited.iter().any(|edit| edit.start >= range.start && edit.end <= range.end);
            if touched
                && child(&output, SyntaxKind::AS_NAME).is_none()
                && let Some(name) = self.survey.target_name(&output)
            {
                self.insert(range.end, format!(" AS {}", quoted_name(&name)))?;
            }
        }
        Ok(())
    }

    /// What storing into the column of that name means; an error for a column that the session does not have.
    pub(super) fn storing<'v>(
        &self,
        target: &Target<'v>,
        name: &str,
        place: usize,
    ) -> Result<Option<Storing<'v>>, Refusal> {
        let view: &'v TableView = target.view;
        let own = view.columns.iter().find(|column| column.name.as_str() == name);
        let (column, stores_of) = match own {
            Some(column) => (column, &view.stores),
            None => match view.fallback.iter().find(|column| column.name.as_str() == name) {
                Some(column) => (column, &view.fallback_stores),
                None if stores(target, name) => {
                    return Err(super::plan::undefined_target(name, target.rules, place));
                }
                None => return Ok(None),
            },
        };
        let concerned: Vec<&'v Store> = stores_of.iter().filter(|s| s.value.mentions(&column.name) > 0).collect();
        let primary = concerned.iter().copied().find(|store| store.primary);
        let others = concerned.into_iter().filter(|store| !store.primary).collect();
        Ok(Some(Storing { column, primary, others }))
    }

    /// Types a string constant that is converted a second time beside itself: an error in it must be told at the
    /// client's own, which PostgreSQL would otherwise look at later.
    pub(super) fn type_literal(&mut self, storing: &Storing<'_>, value: &SyntaxNode) -> Result<(), Refusal> {
        let range = self.piece.range_of(value);
        let constant = self.piece.token_at(range.start).is_some_and(|token| {
            token.end == range.end
                && matches!(token.kind, TokenKind::Text | TokenKind::EscapeText | TokenKind::DollarText)
        });
        let any_text = matches!(storing.column.base_type_sql.as_str(), "text" | "character varying" | "character");
        if storing.others.is_empty() || !constant || any_text {
            return Ok(());
        }
        self.insert(range.start, "(")?;
        self.insert(range.end, format!(")::{}", storing.column.base_type_sql))
    }

    /// Whether a value may be written a second time: evaluated twice it gives the same, and at once.
    pub(super) fn is_repeatable(&self, node: &SyntaxNode) -> bool {
        self.piece.is_within(node, REPEATED_BYTES_MAX) && !holds_query(node) && repeatable(self, node)
    }

    /// The text of a node with the edits made in it so far.
    pub(super) fn edited_text(&self, node: &SyntaxNode) -> String {
        self.edits.apply_within(self.piece.source, self.piece.range_of(node))
    }

    /// Whether a value can be converted where it stands: the conversion needs it once, or it may be written again.
    pub(super) fn converts_in_place(&self, store: &Store, column: &ViewColumn, value: &SyntaxNode) -> bool {
        store.value.mentions(&column.name) == 1
            || self.is_repeatable(value) && !self.edits.touch(self.piece.range_of(value))
    }

    /// `up(expression)` in the place of `expression`, which is evaluated once.
    pub(super) fn wrap(
        &mut self,
        rules: &TableRules,
        store: &Store,
        column: &ViewColumn,
        value: &SyntaxNode,
        evaluated: Evaluated<'_>,
    ) -> Result<(), Refusal> {
        let range = self.piece.range_of(value);
        let only_input = store.value.columns().all(|name| name == &column.name);
        let once = store.value.mentions(&column.name) == 1;
        if !only_input {
            let why = "What is stored is computed from several columns, of which the statement gives one.";
            return Err(refuse(rules, &format!("a value for column \"{}\"", column.name), why).at(range.start));
        }
        let relation = self.survey.cx.rules.catalog().relation(&rules.table);
        let (opening, closing) = around_value(relation.map(|relation| &**relation), column, store);
        if self.converts_in_place(store, column, value) {
            let text = self.edited_text(value);
            let typed = format!("{opening}{text}{closing}");
            let whole = store.value.render(|_| typed.clone());
            return match whole.split_once(typed.as_str()).filter(|_| once) {
                Some((before, after)) => {
                    self.insert(range.start, format!("{before}{opening}"))?;
                    self.insert(range.end, format!("{closing}{after}"))
                }
                None => self.replace(range, whole),
            };
        }
        // A sub-select that names nothing of the row around it would be evaluated once for all rows.
        let row = match evaluated {
            Evaluated::Once => String::new(),
            Evaluated::PerRow(alias) => format!(" WHERE {alias}.ctid IS NOT NULL"),
            Evaluated::PerSourceRow => {
                let why = "It must be converted, and the conversion needs it more than once.";
                return Err(refuse(rules, &format!("this value for column \"{}\"", column.name), why)
                    .hint("Compute the value in a statement of its own, and send it as a constant or parameter.")
                    .at(range.start));
            }
        };
        // VALUES refuses what the client's place for the value refuses: aggregates, windows, sets.
        let whole = store.value.render(|_| "crossfade_once.v".to_owned());
        self.insert(range.start, format!("(SELECT {whole} FROM (VALUES ({opening}"))?;
        self.insert(range.end, format!("{closing})) AS crossfade_once(v){row})"))
    }
}

/// The session's row of a target: a record with its columns.
fn session_row(target: &Target<'_>, alias: &str) -> String {
    let list: Vec<String> = target.view.columns.iter().map(|column| output(column, alias)).collect();
    format!("(SELECT crossfade_row FROM (SELECT {}) AS crossfade_row)", list.join(", "))
}

/// The `(row).field` or `(row).*` that a row stands in.
fn field_of(node: &SyntaxNode) -> Option<SyntaxNode> {
    let outside = node.ancestors().skip(1).find(|outer| outer.kind() != SyntaxKind::PAREN_EXPR)?;
    let bracketed = node.parent().is_some_and(|parent| parent.kind() == SyntaxKind::PAREN_EXPR);
    (bracketed && outside.kind() == SyntaxKind::FIELD_EXPR).then_some(outside)
}

/// Whether a star stands in a target list by itself.
fn is_listed(star: &SyntaxNode) -> bool {
    star.kind() == SyntaxKind::TARGET || star.parent().is_some_and(|parent| parent.kind() == SyntaxKind::TARGET)
}

/// Whether the stored table has a column of that name.
pub(super) fn stores(target: &Target<'_>, name: &str) -> bool {
    let hidden = target.view.hidden.iter().any(|hidden| hidden.as_str() == name);
    hidden || target.relation.is_some_and(|relation| relation.columns.iter().any(|c| c.name.as_str() == name))
}

/// The default expression of a stored column.
pub(super) fn default_of<'t>(target: &'t Target<'_>, column: &Ident) -> Option<&'t str> {
    target.relation.and_then(|relation| relation.column(column)).and_then(|column| column.default.as_deref())
}

/// A client's expression where another column than its own stores it: as the session's column would have it. A column of the
/// same type has it so by the assignment.
pub(super) fn beside(target: &Target<'_>, column: &ViewColumn, store: &Store, expression: &str) -> String {
    let stored = target.relation.and_then(|relation| relation.column(&store.column));
    let same = stored.is_some_and(|stored| stored.type_sql == column.type_sql);
    let bare = store.value.as_column() == Some(&column.name);
    if same && bare { format!("({expression})") } else { value_of(target.relation, column, store, expression) }
}

/// An expression as the session's column would have it, for a store.
pub(super) fn value_of(relation: Option<&Relation>, column: &ViewColumn, store: &Store, expression: &str) -> String {
    let (before, behind) = around_value(relation, column, store);
    format!("{before}{expression}{behind}")
}

/// What goes before and behind it.
fn around_value(relation: Option<&Relation>, column: &ViewColumn, store: &Store) -> (String, String) {
    match relation.and_then(|relation| relation.column(&store.column)) {
        Some(stored) => column.around_value(&stored.type_sql, &stored.base_type_sql),
        None => column.around_value("", ""),
    }
}

/// Whether a stored column is of another type than the session's, so that a bare value would be typed otherwise.
pub(super) fn retyped(target: &Target<'_>, store: &Store, column: &ViewColumn) -> bool {
    target
        .relation
        .and_then(|relation| relation.column(&store.column))
        .is_some_and(|stored| column.differs_from(&stored.type_sql, &stored.base_type_sql))
}

/// A column of a list, under the session's name.
pub(super) fn output(column: &ViewColumn, alias: &str) -> String {
    let text = value(column, alias);
    if column.is_plain() { text } else { format!("{text} AS {}", column.name.quoted()) }
}

/// A column of a table that is not read through a view, as the session sees it.
pub(super) fn value(column: &ViewColumn, alias: &str) -> String {
    column.read.render(|name| format!("{alias}.{}", name.quoted()))
}

fn quoted_name(name: &str) -> String {
    Ident::new(name).map(|ident| ident.quoted()).unwrap_or_default()
}

/// Expressions of constants, parameters and columns, with PostgreSQL's own immutable operators and functions.
fn repeatable(plan: &Plan<'_, '_>, node: &SyntaxNode) -> bool {
    match node.kind() {
        SyntaxKind::LITERAL => !has_token(node, SyntaxKind::DEFAULT_KW),
        SyntaxKind::NAME_REF => true,
        SyntaxKind::FIELD_EXPR
        | SyntaxKind::PAREN_EXPR
        | SyntaxKind::BIN_EXPR
        | SyntaxKind::PREFIX_EXPR
        | SyntaxKind::CASE_EXPR
        | SyntaxKind::WHEN_CLAUSE_LIST
        | SyntaxKind::WHEN_CLAUSE
        | SyntaxKind::ELSE_CLAUSE
        | SyntaxKind::ARG_LIST
        | SyntaxKind::ARG
        | SyntaxKind::CAST_EXPR
        | SyntaxKind::INDEX_EXPR => node.children().all(|inner| repeatable(plan, &inner)),
        SyntaxKind::CALL_EXPR => {
            let Some(function) = node.children().next() else { return false };
            let name = plan.survey.path(&function).0;
            let known = name.len() == 1 && REPEATABLE_FUNCTIONS.contains(&name[0].as_str());
            known
                && node.children().skip(1).all(|inner| inner.kind() == SyntaxKind::ARG_LIST && repeatable(plan, &inner))
        }
        // Names of types and operators.
        SyntaxKind::PATH_TYPE
        | SyntaxKind::VARCHAR_TYPE
        | SyntaxKind::CHARACTER_TYPE
        | SyntaxKind::BIT_TYPE
        | SyntaxKind::BIT_VARYING_TYPE
        | SyntaxKind::DOUBLE_TYPE
        | SyntaxKind::TIME_TYPE
        | SyntaxKind::TIMESTAMP_TYPE
        | SyntaxKind::INTERVAL_TYPE
        | SyntaxKind::COLON_COLON => true,
        _ => node.children().next().is_none() && node.kind() != SyntaxKind::SUBSTRING_FN,
    }
}

/// Functions of PostgreSQL to which a record is as good as a row of a named type.
const RECORD_FUNCTIONS: &[&str] = &[
    "array_agg",
    "coalesce",
    "concat",
    "concat_ws",
    "count",
    "first_value",
    "format",
    "hash_record",
    "json_agg",
    "json_build_array",
    "json_build_object",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_object_agg",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "nullif",
    "num_nonnulls",
    "num_nulls",
    "row_to_json",
    "to_json",
    "to_jsonb",
];

/// Functions of PostgreSQL that are immutable, or stable within a statement, for every type of argument.
const REPEATABLE_FUNCTIONS: &[&str] = &[
    "abs",
    "btrim",
    "ceil",
    "char_length",
    "coalesce",
    "concat",
    "concat_ws",
    "floor",
    "greatest",
    "initcap",
    "least",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "md5",
    "now",
    "nullif",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "round",
    "rpad",
    "rtrim",
    "split_part",
    "substr",
    "to_char",
    "translate",
    "trim",
    "upper",
];
