//! INSERT: the column list, each row's values, and what the other side's storage gets.

use std::ops::Range;

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::lex::TokenKind;
use super::plan::{Plan, refuse};
use super::survey::{Target, child, has_token, is_query};
use super::writes::{Evaluated, Storing, Value, beside, default_of, retyped, value_of};
use crate::migration::Store;
use crate::schema::{Ident, Refusal, SqlState};

/// What the other side gets where it is computed from a value that only the trigger sees, such as the whole of one of which
/// the statement gives parts. A default would win over the session's value.
const LEFT_TO_TRIGGER: &str = "NULL";

/// A column that the client gives values for, in order.
#[derive(Debug)]
struct Given<'v> {
    /// The bytes of its name in the list; `None` where the client gave no list.
    place: Option<Range<usize>>,
    name: String,
    storing: Option<Storing<'v>>,
    /// Only a part of its value is given (`tags[1]`).
    is_part: bool,
}

/// Where an INSERT's column list stands, or would.
#[derive(Debug)]
struct List {
    node: Option<SyntaxNode>,
    place: usize,
    /// What goes before and behind a list that is put in.
    spaces: (&'static str, &'static str),
}

/// A stored column that is added to the list, with where its values come from.
#[derive(Debug)]
struct Added<'v> {
    store: &'v Store,
    /// The index of the given column that it follows.
    from: usize,
}

impl Plan<'_, '_> {
    /// Plans an INSERT into a migrating table.
    pub(super) fn insert_into(&mut self, target: &Target<'_>) -> Result<(), Refusal> {
        let node = target.node.clone();
        // A WITH in front may have an UPDATE with a SET of its own.
        let conflict = child(&node, SyntaxKind::ON_CONFLICT_CLAUSE);
        let action = conflict.and_then(|conflict| child(&conflict, SyntaxKind::CONFLICT_DO_UPDATE_SET));
        if let Some(set) = action.and_then(|action| child(&action, SyntaxKind::SET_CLAUSE)) {
            self.set_clause(target, &set)?;
        }
        let source = node.children().find(|c| is_query(c.kind()));
        let Some(source) = source else {
            // DEFAULT VALUES: the defaults are stored, and the trigger keeps the other side.
            return Ok(());
        };
        let listed = child(&node, SyntaxKind::COLUMN_TARGET_LIST);
        let list = List { node: listed, place: self.list_place(target), spaces: (" ", "") };
        let rows = value_rows(&source);
        if let Some(mistake) = self.width_mistake(target, &node) {
            return Err(mistake);
        }
        let width = match &rows {
            Some(rows) => rows.first().map(|row| row.children().count()),
            None => self.query_width(&source),
        };
        let given = self.given(target, list.node.as_ref(), width)?;
        let added = self.added(target, &given)?;
        match rows {
            Some(rows) => self.insert_rows(target, &list, &given, &added, &rows),
            None => self.insert_query(target, &list, &given, &added, &source),
        }
    }

    /// Plans the INSERT of a MERGE.
    pub(super) fn merge_insert(&mut self, target: &Target<'_>, insert: &SyntaxNode) -> Result<(), Refusal> {
        let Some(values) = child(insert, SyntaxKind::VALUES) else { return Ok(()) };
        let Some(rows) = value_rows(&values) else { return Ok(()) };
        if let Some(mistake) = self.width_mistake(target, insert) {
            return Err(mistake);
        }
        let first = insert.children().next().map_or(0, |first| self.piece.range_of(&first).start);
        let list = List { node: child(insert, SyntaxKind::COLUMN_TARGET_LIST), place: first, spaces: ("", " ") };
        let width = rows.first().map(|row| row.children().count());
        let given = self.given(target, list.node.as_ref(), width)?;
        let added = self.added(target, &given)?;
        self.insert_rows(target, &list, &given, &added, &rows)
    }

    /// How many columns a query gives; `None` where a star cannot be counted.
    fn query_width(&self, source: &SyntaxNode) -> Option<usize> {
        let columns = self.survey.query_columns(source)?;
        columns.complete.then_some(columns.names.len())
    }

    fn given<'v>(
        &self,
        target: &Target<'v>,
        listed: Option<&SyntaxNode>,
        width: Option<usize>,
    ) -> Result<Vec<Given<'v>>, Refusal> {
        let view = target.view;
        if let Some(list) = listed {
            let mut given: Vec<Given<'v>> = Vec::new();
            for column in list.children() {
                let Some((name, start)) = self.survey.name_of(&column) else { continue };
                let end = self.piece.token_at(start).map_or(start, |token| token.end);
                let storing = self.storing(target, &name, start)?;
                let is_part = self.piece.range_of(&column).end > end;
                let plain = storing.as_ref().is_none_or(|own| {
                    let is_followed = view.synced && is_own(own);
                    (own.others.is_empty() || is_followed) && takes_parts(target, own)
                });
                if is_part && !plain {
                    let why = "A part of a column that is stored in another form cannot be assigned.";
                    return Err(refuse(target.rules, "a subscripted column of INSERT", why).at(start));
                }
                if !is_part && given.iter().any(|before| before.name == name) {
                    return Err(super::mistakes::specified_twice(&name, start));
                }
                given.push(Given { place: Some(start..end), name, storing, is_part });
            }
            return Ok(given);
        }
        let Some(width) = width else {
            let why = "It has no column list, and how many values it gives cannot be counted.";
            return Err(refuse(target.rules, "INSERT from this query", why).hint("Name the columns after the table."));
        };
        if width > view.columns.len() {
            let message = "INSERT has more expressions than target columns";
            return Err(Refusal::new(SqlState::SYNTAX_ERROR, message).at(self.piece.range_of(&target.node).start));
        }
        view.columns
            .iter()
            .take(width)
            .map(|column| {
                let name = column.name.as_str().to_owned();
                let storing = self.storing(target, &name, 0)?;
                Ok(Given { place: None, name, storing, is_part: false })
            })
            .collect()
    }

    /// The stores that keep the other side in step, each once; an error where two sides are given.
    fn added<'v>(&self, target: &Target<'v>, given: &[Given<'v>]) -> Result<Vec<Added<'v>>, Refusal> {
        let mut added: Vec<Added<'v>> = Vec::new();
        let mut stored: Vec<(&Ident, &Given<'_>)> = Vec::new();
        for one in given {
            let Some(primary) = one.storing.as_ref().and_then(|storing| storing.primary) else { continue };
            let twice = stored.iter().find(|(column, before)| *column == &primary.column && before.name != one.name);
            if let Some((_, before)) = twice {
                return Err(both_given(target, before, one));
            }
            stored.push((&primary.column, one));
        }
        for (from, one) in given.iter().enumerate() {
            for store in one.storing.iter().flat_map(|storing| &storing.others) {
                if let Some((_, other)) = stored.iter().find(|(column, _)| *column == &store.column) {
                    return Err(both_given(target, one, other));
                }
                if added.iter().all(|before| before.store.column != store.column) {
                    added.push(Added { store, from });
                }
            }
        }
        Ok(added)
    }

    /// Puts the stored names into the column list, or writes the list where the client gave none.
    fn column_list(
        &mut self,
        target: &Target<'_>,
        list: &List,
        given: &[Given<'_>],
        added: &[&Added<'_>],
    ) -> Result<(), Refusal> {
        let stored_name = |one: &Given<'_>| {
            let store = one.storing.as_ref().and_then(|storing| storing.primary);
            store.map_or_else(|| super::reads::quote(&one.name), |store| store.column.quoted())
        };
        let extra: String = added.iter().map(|added| format!(", {}", added.store.column.quoted())).collect();
        if given.iter().all(|one| one.place.is_none()) {
            if extra.is_empty() && self.is_stored_prefix(target, given) {
                return Ok(());
            }
            let names: Vec<String> = given.iter().map(stored_name).collect();
            let (before, behind) = list.spaces;
            return self.insert(list.place, format!("{before}({}{extra}){behind}", names.join(", ")));
        }
        for one in given {
            let Some(storing) = &one.storing else { continue };
            if let Some(place) = one.place.clone()
                && !is_own(storing)
            {
                self.replace(place, stored_name(one))?;
            }
        }
        match &list.node {
            Some(list) if !extra.is_empty() => self.insert(self.piece.range_of(list).end - 1, extra),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the given columns are the stored table's first ones, in its order: then no list is needed.
    fn is_stored_prefix(&self, target: &Target<'_>, given: &[Given<'_>]) -> bool {
        let Some(relation) = target.relation else { return false };
        given.len() <= relation.columns.len()
            && given
                .iter()
                .zip(&relation.columns)
                .all(|(one, column)| one.name == column.name.as_str() && one.storing.as_ref().is_some_and(is_own))
    }

    /// Behind the table's name and alias.
    fn list_place(&self, target: &Target<'_>) -> usize {
        let named = target
            .node
            .children()
            .filter(|c| matches!(c.kind(), SyntaxKind::RELATION_NAME_REF | SyntaxKind::REQUIRED_AS_ALIAS));
        named.map(|node| self.piece.range_of(&node).end).max().unwrap_or(self.piece.range.end)
    }

    /// `VALUES (...), (...)`.
    fn insert_rows(
        &mut self,
        target: &Target<'_>,
        list: &List,
        given: &[Given<'_>],
        added: &[Added<'_>],
        rows: &[SyntaxNode],
    ) -> Result<(), Refusal> {
        for row in rows {
            let cells: Vec<SyntaxNode> = row.children().collect();
            let mut extra = String::new();
            for one in added {
                extra.push_str(", ");
                extra.push_str(&self.other_cell(target, given, one, &cells)?);
            }
            for (one, cell) in given.iter().zip(&cells) {
                self.own_cell(target, one, cell)?;
            }
            if !extra.is_empty() {
                self.insert(self.piece.range_of(row).end - 1, extra)?;
            }
        }
        self.column_list(target, list, given, &added.iter().collect::<Vec<_>>())
    }

    /// A value where the session's own column is stored.
    fn own_cell(&mut self, target: &Target<'_>, one: &Given<'_>, cell: &SyntaxNode) -> Result<(), Refusal> {
        let Some(storing) = &one.storing else { return Ok(()) };
        let Some(store) = storing.primary else {
            let why = "Nothing in this phase stores it.";
            return Err(refuse(target.rules, &format!("a value for column \"{}\"", one.name), why));
        };
        let bare = store.value.as_column().is_some();
        match self.cell(cell) {
            Value::Default(range) if storing.is_own_storage() => {
                let borrowed = storing.others.iter().any(|other| borrows_default(target, store, other));
                if borrowed && !target.view.synced {
                    let why = "The default is that of another column, which nothing keeps in step in this phase.";
                    return Err(
                        refuse(target.rules, &format!("DEFAULT for column \"{}\"", one.name), why).at(range.start)
                    );
                }
                if borrowed { self.replace(range, "NULL") } else { Ok(()) }
            }
            Value::Default(range) => match self.default_value(target, store, &storing.column.name, &range)? {
                Some(default) => self.replace(range, default),
                None => Ok(()),
            },
            Value::Expression(value) if storing.is_own_storage() && !retyped(target, store, storing.column) => {
                self.type_literal(storing, &value)
            }
            Value::Expression(_) if bare && !retyped(target, store, storing.column) => Ok(()),
            Value::Expression(value) => {
                let merged = target.node.kind() == SyntaxKind::MERGE;
                let evaluated = if merged { Evaluated::PerSourceRow } else { Evaluated::Once };
                self.wrap(target.rules, store, storing.column, &value, evaluated)
            }
            Value::Subquery => Ok(()),
        }
    }

    /// The value for the other side's storage: computed from the row's own, or NULL for the trigger to fill.
    fn other_cell(
        &self,
        target: &Target<'_>,
        given: &[Given<'_>],
        added: &Added<'_>,
        cells: &[SyntaxNode],
    ) -> Result<String, Refusal> {
        let one = &given[added.from];
        if one.is_part {
            return Ok(LEFT_TO_TRIGGER.to_owned());
        }
        let mut known = true;
        let text = added.store.value.render(|name| {
            let index = given.iter().position(|one| one.name == name.as_str());
            let cell = index.and_then(|index| Some((cells.get(index)?, given[index].storing.as_ref()?)));
            match cell.map(|(cell, storing)| (self.cell(cell), storing)) {
                Some((Value::Expression(value), storing)) if self.is_repeatable(&value) => {
                    beside(target, storing.column, added.store, &self.edited_text(&value))
                }
                _ => {
                    known = false;
                    String::new()
                }
            }
        });
        if known {
            return Ok(text);
        }
        let own = one.storing.as_ref().and_then(|storing| storing.primary);
        let is_default = matches!(self.cell(&cells[added.from]), Value::Default(_));
        if target.view.synced {
            let borrows = is_default && own.is_some_and(|own| borrows_default(target, own, added.store));
            return Ok(if borrows { "DEFAULT" } else { LEFT_TO_TRIGGER }.to_owned());
        }
        let no_default = |column: &Ident| default_of(target, column).is_none();
        if is_default && no_default(&added.store.column) && own.is_some_and(|own| no_default(&own.column)) {
            return Ok("NULL".to_owned());
        }
        let why = format!("The value must be stored in \"{}\" too, and cannot be computed twice.", added.store.column);
        Err(refuse(target.rules, &format!("this value for column \"{}\"", one.name), &why)
            .hint("Compute the value in a statement of its own, and send it as a constant or parameter.")
            .at(self.piece.range_of(&cells[added.from]).start))
    }

    fn cell(&self, cell: &SyntaxNode) -> Value {
        if cell.kind() == SyntaxKind::LITERAL && has_token(cell, SyntaxKind::DEFAULT_KW) {
            return Value::Default(self.piece.range_of(cell));
        }
        Value::Expression(cell.clone())
    }

    /// `INSERT ... SELECT`.
    fn insert_query(
        &mut self,
        target: &Target<'_>,
        list: &List,
        given: &[Given<'_>],
        added: &[Added<'_>],
        source: &SyntaxNode,
    ) -> Result<(), Refusal> {
        if self.query_width(source).is_some_and(|width| width != given.len()) {
            self.reasons.push("it gives another number of values: PostgreSQL has its own error for it".to_owned());
            return self.column_list(target, list, given, &[]);
        }
        let targets = simple_targets(source, self.survey);
        let in_place = given.iter().enumerate().filter(|(_, one)| is_converted(target, one)).all(|(index, one)| {
            let value = targets.as_ref().and_then(|targets| targets.get(index)?.children().next());
            let stored = one.storing.as_ref().and_then(|storing| Some((storing.primary?, storing.column)));
            value.zip(stored).is_some_and(|(value, (store, column))| self.converts_in_place(store, column, &value))
        });
        let repeated: Vec<Option<String>> = added
            .iter()
            .map(|one| targets.as_ref().and_then(|targets| self.repeated_output(target, given, one, targets)))
            .collect();
        let left = |one: &&Added<'_>| !target.view.synced || (is_default_kept(target, one) && has_table_branch(source));
        let beside = added.iter().zip(&repeated).any(|(one, repeated)| repeated.is_none() && left(&one));
        if !in_place || beside {
            return self.insert_converted(target, list, given, added, source);
        }
        self.convert_outputs(target, given, targets.as_deref())?;
        let mut in_list = Vec::new();
        let mut extra = String::new();
        for (one, repeated) in added.iter().zip(repeated) {
            if let Some(value) = repeated {
                extra.push_str(&format!(", {value}"));
                in_list.push(one);
                continue;
            }
            // A default of the other side would win over the session's value: NULL is for the trigger to fill.
            let store = one.store;
            let stored = target.relation.and_then(|r| r.column(&store.column)).filter(|_| is_default_kept(target, one));
            match stored {
                Some(stored) => {
                    self.append_constant(target, source, &format!(", NULL::{}", stored.type_sql))?;
                    in_list.push(one);
                }
                None => self.reasons.push(format!("\"{}\" is left to the sync trigger", store.column)),
            }
        }
        if let Some(last) = targets.as_ref().and_then(|targets| targets.last())
            && !extra.is_empty()
        {
            self.insert(self.piece.range_of(last).end, extra)?;
        }
        self.column_list(target, list, given, &in_list)
    }

    /// Selects from the query, so that each of its values is computed once and may be named more than once.
    ///
    /// PostgreSQL takes no volatile query apart, and keeps the order in which it gives its rows.
    fn insert_converted(
        &mut self,
        target: &Target<'_>,
        list: &List,
        given: &[Given<'_>],
        added: &[Added<'_>],
        source: &SyntaxNode,
    ) -> Result<(), Refusal> {
        // An output too many would be left out in silence.
        if self.query_width(source).is_none() {
            let why = "The values must be converted, and how many the query gives cannot be counted.";
            return Err(refuse(target.rules, "INSERT from this query", why)
                .hint("Insert from a SELECT whose list of columns has no star over something unknown."));
        }
        let output = |index: usize| format!("crossfade_source.v{index}");
        let stored = |store: &Store| {
            let mut known = true;
            let text = store.value.render(|name| {
                let index = given.iter().position(|one| one.name == name.as_str());
                let typed = index.and_then(|index| {
                    let column = given[index].storing.as_ref()?.column;
                    Some(value_of(target.relation, column, store, &output(index)))
                });
                typed.unwrap_or_else(|| {
                    known = false;
                    String::new()
                })
            });
            known.then_some(text)
        };
        let mut cells = Vec::new();
        for (index, one) in given.iter().enumerate() {
            let primary = one.storing.as_ref().and_then(|storing| storing.primary);
            match primary.filter(|_| is_converted(target, one)) {
                None => cells.push(output(index)),
                Some(store) => cells.push(stored(store).ok_or_else(|| from_several(target, &one.name))?),
            }
        }
        for one in added {
            if given[one.from].is_part {
                cells.push(LEFT_TO_TRIGGER.to_owned());
                continue;
            }
            cells.push(stored(one.store).ok_or_else(|| from_several(target, one.store.column.as_str()))?);
        }
        self.type_constants(target, given, source)?;
        let range = self.piece.range_of(source);
        let names: Vec<String> = (0..given.len()).map(|index| format!("v{index}")).collect();
        // In this order: where nothing stands between the table's name and the query, both are put at one place.
        self.column_list(target, list, given, &added.iter().collect::<Vec<_>>())?;
        self.insert(range.start, format!("SELECT {} FROM (", cells.join(", ")))?;
        self.insert(range.end, format!(") AS crossfade_source({})", names.join(", ")))
    }

    /// Types the bare constants and parameters of a query's outputs as the columns that they are for: within a subquery
    /// PostgreSQL would take them for text. Those of a DISTINCT and of set operations it takes for text anyway.
    fn type_constants(&mut self, target: &Target<'_>, given: &[Given<'_>], source: &SyntaxNode) -> Result<(), Refusal> {
        let mut query = source.clone();
        while query.kind() == SyntaxKind::PAREN_SELECT {
            match query.children().find(|inner| is_query(inner.kind())) {
                Some(inner) => query = inner,
                None => return Ok(()),
            }
        }
        let Some(clause) = child(&query, SyntaxKind::SELECT_CLAUSE) else { return Ok(()) };
        let distinct = child(&clause, SyntaxKind::DISTINCT_CLAUSE).is_some();
        let Some(targets) = child(&clause, SyntaxKind::TARGET_LIST).filter(|_| !distinct) else { return Ok(()) };
        let targets: Vec<SyntaxNode> = targets.children().collect();
        // Behind a star the places of the others are not theirs.
        let counted = targets.iter().take_while(|target| self.survey.target_name(target).is_some());
        for (one, output) in given.iter().zip(counted) {
            let Some(value) = output.children().next().map(super::reads::unwrapped) else { continue };
            if !self.is_untyped(&value) {
                continue;
            }
            let own = one.storing.as_ref().map(|storing| storing.column.base_type_sql.as_str());
            let stored = || target.relation?.columns.iter().find(|column| column.name.as_str() == one.name);
            if let Some(type_sql) = own.or_else(|| stored().map(|column| column.base_type_sql.as_str())) {
                self.insert(self.piece.range_of(&value).end, format!("::{type_sql}"))?;
            }
        }
        Ok(())
    }

    /// Whether an expression is a string constant, NULL or a parameter, which has the type that its place gives it.
    fn is_untyped(&self, value: &SyntaxNode) -> bool {
        let range = self.piece.range_of(value);
        let alone = self.piece.token_at(range.start).filter(|token| token.end == range.end);
        alone.is_some_and(|token| match token.kind {
            TokenKind::Text
            | TokenKind::EscapeText
            | TokenKind::UnicodeText
            | TokenKind::DollarText
            | TokenKind::Param => true,
            TokenKind::Word => token.is_word(self.piece.source.as_bytes(), "null"),
            TokenKind::Quoted
            | TokenKind::UnicodeQuoted
            | TokenKind::BitText
            | TokenKind::Number
            | TokenKind::Operator
            | TokenKind::Mark(_)
            | TokenKind::Comment
            | TokenKind::Unterminated => false,
        })
    }

    /// Adds a constant output to every branch of a query: it changes no row, no order and no grouping.
    fn append_constant(&mut self, target: &Target<'_>, query: &SyntaxNode, text: &str) -> Result<(), Refusal> {
        let last = |list: Option<SyntaxNode>| list.and_then(|list| list.children().last());
        match query.kind() {
            SyntaxKind::SELECT => {
                let clause = child(query, SyntaxKind::SELECT_CLAUSE);
                let target = last(clause.and_then(|clause| child(&clause, SyntaxKind::TARGET_LIST)));
                if let Some(target) = target {
                    return self.insert(self.piece.range_of(&target).end, text);
                }
            }
            SyntaxKind::VALUES => {
                let rows = child(query, SyntaxKind::ROW_LIST);
                for row in rows.iter().flat_map(|rows| rows.children()) {
                    self.insert(self.piece.range_of(&row).end - 1, text)?;
                }
                return Ok(());
            }
            SyntaxKind::COMPOUND_SELECT | SyntaxKind::PAREN_SELECT => {
                for branch in query.children().filter(|branch| is_query(branch.kind())) {
                    self.append_constant(target, &branch, text)?;
                }
                return Ok(());
            }
            _ => {}
        }
        let why = "A column that it replaces has a default, which would be stored instead of the session's value.";
        Err(refuse(target.rules, "INSERT from this query", why).hint("Insert from a SELECT with a list of columns."))
    }

    /// Converts the outputs of a query whose columns are stored in another form.
    fn convert_outputs(
        &mut self,
        target: &Target<'_>,
        given: &[Given<'_>],
        targets: Option<&[SyntaxNode]>,
    ) -> Result<(), Refusal> {
        for (index, one) in given.iter().enumerate() {
            let Some(storing) = &one.storing else { continue };
            let Some(store) = storing.primary.filter(|_| is_converted(target, one)) else { continue };
            let expression = targets.and_then(|targets| targets.get(index)).and_then(|t| t.children().next());
            let Some(expression) = expression else {
                let why = "The values must be converted, and come out of a query that cannot be edited.";
                return Err(refuse(target.rules, "INSERT from this query", why)
                    .hint("Insert from a SELECT without set operations, DISTINCT, grouping, ordering and stars."));
            };
            self.wrap(target.rules, store, storing.column, &expression, Evaluated::PerSourceRow)?;
        }
        Ok(())
    }

    fn repeated_output(
        &self,
        target: &Target<'_>,
        given: &[Given<'_>],
        added: &Added<'_>,
        targets: &[SyntaxNode],
    ) -> Option<String> {
        let relation = target.relation;
        if given[added.from].is_part {
            return Some(LEFT_TO_TRIGGER.to_owned());
        }
        let mut known = true;
        let text = added.store.value.render(|name| {
            let index = given.iter().position(|one| one.name == name.as_str());
            let value = index.and_then(|index| {
                let expression = targets.get(index)?.children().next()?;
                let column = given[index].storing.as_ref()?.column;
                self.is_repeatable(&expression)
                    .then(|| value_of(relation, column, added.store, &self.edited_text(&expression)))
            });
            value.unwrap_or_else(|| {
                known = false;
                String::new()
            })
        });
        known.then_some(text)
    }
}

/// Whether the column is stored under its own name, as it is.
fn is_own(storing: &Storing<'_>) -> bool {
    storing
        .primary
        .is_some_and(|store| store.column == storing.column.name && store.value.as_column() == Some(&store.column))
}

/// Whether a value for the column is stored in another form.
fn is_converted(target: &Target<'_>, one: &Given<'_>) -> bool {
    let stored = one.storing.as_ref().and_then(|storing| Some((storing.primary?, storing.column)));
    stored.is_some_and(|(store, column)| store.value.as_column().is_none() || retyped(target, store, column))
}

/// Whether the column that follows has a default, which would be stored where it is left out.
fn is_default_kept(target: &Target<'_>, added: &Added<'_>) -> bool {
    default_of(target, &added.store.column).is_some()
}

/// Whether a query is, or has as a branch, a `TABLE`, whose outputs cannot be added to.
fn has_table_branch(query: &SyntaxNode) -> bool {
    match query.kind() {
        SyntaxKind::TABLE => true,
        SyntaxKind::COMPOUND_SELECT | SyntaxKind::PAREN_SELECT => {
            query.children().filter(|branch| is_query(branch.kind())).any(|branch| has_table_branch(&branch))
        }
        _ => false,
    }
}

fn from_several(target: &Target<'_>, column: &str) -> Refusal {
    let why = "What is stored is computed from several columns, of which the statement does not give all.";
    refuse(target.rules, &format!("a value for column \"{column}\""), why)
}

/// Whether `own`'s logical default is still that of the column it will replace.
fn borrows_default(target: &Target<'_>, own: &Store, other: &Store) -> bool {
    default_of(target, &own.column).is_none() && default_of(target, &other.column).is_some()
}

fn both_given(target: &Target<'_>, one: &Given<'_>, other: &Given<'_>) -> Refusal {
    let why = "Both are the same value in two schemas, and only one of them can be given.";
    let refusal = refuse(target.rules, &format!("an INSERT into both \"{}\" and \"{}\"", one.name, other.name), why)
        .hint("Give the column of one schema only.");
    match &other.place {
        Some(place) => refusal.at(place.start),
        None => refusal,
    }
}

/// Whether a part of the column's value is the same part of what is stored.
fn takes_parts(target: &Target<'_>, storing: &Storing<'_>) -> bool {
    storing.primary.is_some_and(|store| store.value.as_column().is_some() && !retyped(target, store, storing.column))
}

/// The rows of a plain `VALUES`; `None` for any other query (also for VALUES with ORDER BY or LIMIT, which is one).
pub(super) fn value_rows(source: &SyntaxNode) -> Option<Vec<SyntaxNode>> {
    if source.kind() != SyntaxKind::VALUES {
        return None;
    }
    let mut rows = None;
    for part in source.children() {
        match part.kind() {
            SyntaxKind::ROW_LIST => rows = Some(part.children().collect()),
            _ => return None,
        }
    }
    rows
}

/// The targets of a SELECT whose list can be added to without changing its rows or their order.
fn simple_targets(source: &SyntaxNode, survey: &super::survey::Survey<'_>) -> Option<Vec<SyntaxNode>> {
    if source.kind() != SyntaxKind::SELECT {
        return None;
    }
    let simple = source.children().all(|part| {
        matches!(part.kind(), SyntaxKind::SELECT_CLAUSE | SyntaxKind::FROM_CLAUSE | SyntaxKind::WHERE_CLAUSE)
            || part.kind() == SyntaxKind::WITH_CLAUSE
    });
    let clause = child(source, SyntaxKind::SELECT_CLAUSE)?;
    let list = child(&clause, SyntaxKind::TARGET_LIST)?;
    let alone = clause.children().count() == 1;
    let targets: Vec<SyntaxNode> = list.children().collect();
    let named = targets.iter().all(|target| survey.target_name(target).is_some());
    (simple && alone && named).then_some(targets)
}
