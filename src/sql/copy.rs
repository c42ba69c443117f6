//! The statement forms around a target: DELETE, MERGE, COPY, and the dispatch to UPDATE and INSERT.

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::mistakes::specified_twice;
use super::plan::{Plan, refuse, sensitive, undefined_column, undefined_target};
use super::reads::view_column;
use super::survey::{Meaning, Target, child, relation_meaning};
use crate::migration::copies::LISTED;
use crate::migration::{TableRules, TableView, ViewColumn};
use crate::schema::{Refusal, SqlState};

impl Plan<'_, '_> {
    /// Plans every target of the statement. Reads are planned between their references and their values, so that a
    /// value that is written twice has its edits.
    pub(super) fn targets(&mut self) -> Result<(), Refusal> {
        let survey = self.survey;
        for target in &survey.targets {
            self.reasons.push(format!("{} is written in place", target.rules.table));
            match target.node.kind() {
                SyntaxKind::MERGE => self.merge(target)?,
                SyntaxKind::INSERT => self.insert_into(target)?,
                SyntaxKind::UPDATE => {
                    if let Some(set) = child(&target.node, SyntaxKind::SET_CLAUSE) {
                        self.set_clause(target, &set)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// MERGE: each action as the statement it stands for. Its star is refused: PostgreSQL 17 has another order for it.
    fn merge(&mut self, target: &Target<'_>) -> Result<(), Refusal> {
        let returning = child(&target.node, SyntaxKind::RETURNING_CLAUSE);
        let starred = returning.is_some_and(|clause| {
            self.survey.stars.iter().any(|star| clause.text_range().contains_range(star.node.text_range()))
        });
        if starred {
            return Err(refuse(target.rules, "a star in RETURNING of MERGE", "It cannot be written out.")
                .hint("Name the columns instead of the star."));
        }
        let actions: Vec<SyntaxNode> = target
            .node
            .descendants()
            .filter(|node| matches!(node.kind(), SyntaxKind::MERGE_UPDATE | SyntaxKind::MERGE_INSERT))
            .filter(|node| node.ancestors().find(|n| n.kind() == SyntaxKind::MERGE).as_ref() == Some(&target.node))
            .collect();
        for action in actions {
            match child(&action, SyntaxKind::SET_CLAUSE) {
                Some(set) => self.set_clause(target, &set)?,
                None => self.merge_insert(target, &action)?,
            }
        }
        Ok(())
    }

    /// `COPY users [(...)] FROM` and `TO`.
    pub(super) fn copy(&mut self, statement: &SyntaxNode) -> Result<(), Refusal> {
        let Some(table) = child(statement, SyntaxKind::COPY_TABLE) else { return Ok(()) };
        let Some(name) = child(&table, SyntaxKind::TABLE_NAME_REF) else { return Ok(()) };
        let Meaning::Migrating(rules) = relation_meaning(self.survey.cx, &self.survey.path(&name).0) else {
            return Ok(());
        };
        if child(statement, SyntaxKind::COPY_FROM).is_some() {
            return self.copy_from(&table, &name, rules);
        }
        self.copy_to(&table, &name, rules)
    }

    fn copy_to(&mut self, table: &SyntaxNode, name: &SyntaxNode, rules: &TableRules) -> Result<(), Refusal> {
        let statement = table.parent();
        if statement.is_some_and(|copy| copy.descendants().any(|node| node.kind() == SyntaxKind::WHERE_CLAUSE)) {
            self.reasons.push("PostgreSQL takes no WHERE here, and says so".to_owned());
            return Ok(());
        }
        let cx = self.survey.cx;
        let view = rules.read_view(cx.shape, rules.route(cx.bucket));
        let relation = cx.rules.catalog().relation(&rules.table);
        let list = child(table, SyntaxKind::COLUMN_REF_LIST);
        let generated =
            |column: &ViewColumn| relation.and_then(|r| r.column(&column.name)).is_some_and(|stored| stored.generated);
        let mut columns = Vec::new();
        match &list {
            None => {
                columns.extend(view.columns.iter().filter(|column| !generated(column)).map(view_column));
            }
            Some(list) => {
                for column in list.children() {
                    let Some((name, place)) = self.survey.name_of(&column) else { continue };
                    let all = view.columns.iter().chain(&view.fallback);
                    match all.into_iter().find(|c| c.name.as_str() == name) {
                        Some(column) if generated(column) => return Err(generated_column(&name)),
                        Some(column) if columns.contains(&view_column(column)) => {
                            return Err(Refusal { offset: None, ..specified_twice(&name, place) });
                        }
                        Some(column) => columns.push(view_column(column)),
                        None => return Err(not_copied(&name, rules, place)),
                    }
                }
            }
        }
        for (index, (token, name)) in self.piece.tokens.iter().enumerate().filter(|_| list.is_some()) {
            let Some(name) = name.as_deref().filter(|_| self.is_forced(index, &["force_quote"])) else { continue };
            let mut all = view.columns.iter().chain(&view.fallback);
            match all.find(|column| column.name.as_str() == name) {
                Some(column) if columns.contains(&view_column(column)) => {}
                Some(_) => {
                    let message = format!("FORCE_QUOTE column \"{name}\" not referenced by COPY");
                    return Err(Refusal::new(SqlState("42P10"), message));
                }
                None => return Err(not_copied(name, rules, token.start)),
            }
        }
        let only_plain = list.is_some() && self.touches(view).is_none();
        if only_plain {
            self.reasons.push("every column that COPY names is stored as it is".to_owned());
            return Ok(());
        }
        if self.piece.is_word(1, "binary") {
            let why = "Its rows must be queried, and a query cannot be copied in this old way of writing it.";
            return Err(refuse(rules, "COPY BINARY", why).hint("Write COPY ... TO ... WITH (FORMAT binary)."));
        }
        self.reasons.push("COPY TO gives the columns that the session sees".to_owned());
        let relation = self.piece.text_of(name).to_owned();
        let whole = self.piece.range_of(table).end;
        let start = self.piece.range_of(name).start;
        self.replace(start..whole, format!("(SELECT {} FROM ONLY {relation})", columns.join(", ")))
    }

    fn copy_from(&mut self, table: &SyntaxNode, name: &SyntaxNode, rules: &TableRules) -> Result<(), Refusal> {
        let view = rules.write_view(self.survey.cx.shape);
        let list = child(table, SyntaxKind::COLUMN_REF_LIST);
        let named: Vec<(String, usize)> = match &list {
            Some(list) => list.children().filter_map(|column| self.survey.name_of(&column)).collect(),
            None => self.copied_by_default(view, rules),
        };
        self.copy_condition(table, view, &named)?;
        let (mut stored, mut converted) = (Vec::new(), None);
        for (column, place) in &named {
            match self.copied_column(view, rules, column, *place)? {
                Copied::Stored(column) => stored.push(column),
                Copied::Converted(refusal) => converted = converted.or(Some(refusal)),
            }
        }
        if let Some(refusal) = converted {
            return self.copy_through(table, name, rules, &named, refusal);
        }
        // Outside of the list names mean columns as well: in options such as FORCE_NULL, and in WHERE.
        let condition: Vec<usize> = condition_names(table).map(|node| self.piece.range_of(&node).start).collect();
        let mut elsewhere = false;
        let end = self.piece.range_of(table).end;
        // Behind the table: FROM, what is read, and then they begin.
        let options = self.piece.tokens.partition_point(|(token, _)| token.start < end) + 2;
        for (index, (token, own)) in self.piece.tokens.iter().enumerate().skip(options) {
            let Some(own) = own.as_deref().filter(|own| sensitive(view).any(|name| name.as_str() == *own)) else {
                continue;
            };
            let at = named
                .iter()
                .position(|(name, _)| name == own)
                .filter(|_| self.is_forced(index, &["force_null", "force_not_null"]));
            match at {
                Some(at) if stored[at] == super::reads::quote(own) => {}
                Some(at) => self.replace(token.start..token.end, stored[at].as_str())?,
                None if condition.contains(&token.start) => match self.copied_column(view, rules, own, token.start)? {
                    Copied::Stored(column) if column == super::reads::quote(own) => {}
                    Copied::Stored(column) => self.replace(token.start..token.end, column)?,
                    Copied::Converted(_) => elsewhere = true,
                },
                None => elsewhere = true,
            }
        }
        let matched = (0..self.piece.tokens.len()).any(|index| self.piece.is_word(index, "match"));
        let renamed = stored.iter().zip(&named).any(|(stored, (name, _))| stored != &super::reads::quote(name));
        if elsewhere || (matched && renamed) {
            let why = "Its options or its WHERE name a column that is not stored as the session sees it.";
            return Err(refuse(rules, "this COPY", why).hint("Copy into a temporary table first, and INSERT from it."));
        }
        self.reasons.push("COPY FROM names what is stored; the trigger keeps the other side".to_owned());
        match list {
            Some(list) if renamed => {
                let range = self.piece.range_of(&list);
                self.replace(range, format!("({})", stored.join(", ")))
            }
            Some(_) => Ok(()),
            None => self.insert(self.piece.range_of(name).end, format!(" ({})", stored.join(", "))),
        }
    }

    /// Whether the token stands in a list behind one of these words (`FORCE_NULL (...)`): one of columns that are copied.
    fn is_forced(&self, index: usize, words: &[&str]) -> bool {
        let tokens = self.piece.tokens;
        let before = tokens.get(..index).unwrap_or_default();
        let Some(open) = before.iter().rposition(|(token, name)| name.is_none() && !token.is_mark(b',')) else {
            return false;
        };
        tokens[open].0.is_mark(b'(') && words.iter().any(|word| open > 0 && self.piece.is_word(open - 1, word))
    }

    /// COPY looks at its WHERE before its columns: a name that the session's shape does not have is told first.
    fn copy_condition(&self, table: &SyntaxNode, view: &TableView, named: &[(String, usize)]) -> Result<(), Refusal> {
        for node in condition_names(table) {
            let Some((name, place)) = self.survey.name_of(&node) else { continue };
            let known = view.columns.iter().chain(&view.fallback).any(|column| column.name.as_str() == name);
            let ours = sensitive(view).any(|column| column.as_str() == name) || named.iter().any(|n| n.0 == name);
            if !known && ours {
                return Err(undefined_column(&[name], place));
            }
        }
        Ok(())
    }

    /// What `COPY users FROM` means: every column that is not generated.
    fn copied_by_default(&self, view: &TableView, rules: &TableRules) -> Vec<(String, usize)> {
        let relation = self.survey.cx.rules.catalog().relation(&rules.table);
        view.columns
            .iter()
            .filter(|c| !relation.and_then(|r| r.column(&c.name)).is_some_and(|stored| stored.generated))
            .map(|column| (column.name.as_str().to_owned(), self.piece.range.start))
            .collect()
    }

    /// COPY into the view that converts each row, where there is one: PostgreSQL reads the data as the session's columns.
    /// What the view's trigger cannot see from a row goes along in the condition: which columns are named.
    fn copy_through(
        &mut self,
        table: &SyntaxNode,
        name: &SyntaxNode,
        rules: &TableRules,
        named: &[(String, usize)],
        refusal: Refusal,
    ) -> Result<(), Refusal> {
        let cx = self.survey.cx;
        let through = rules.copy_view().and_then(|through| cx.rules.catalog().relation(through));
        let known = |name: &String| through.is_some_and(|view| view.columns.iter().any(|c| c.name.as_str() == name));
        let (Some(through), false) = (through, named.is_empty()) else { return Err(refusal) };
        if let Some((name, place)) = named.iter().find(|(name, _)| !known(name)) {
            let why = format!("Its rows must be converted, and column \"{name}\" is newer than the conversion.");
            return Err(refuse(rules, "this COPY", &why)
                .hint("Name the columns without it, or copy into a temporary table first, and INSERT from it.")
                .at(*place));
        }
        let list = child(table, SyntaxKind::COLUMN_REF_LIST);
        let listed = |index: usize| {
            let place = self.piece.tokens[index].0.start;
            list.as_ref().is_some_and(|list| self.piece.range_of(list).contains(&place))
        };
        let options = (0..self.piece.tokens.len()).filter(|index| !listed(*index));
        let unknown = options.filter(|index| ["freeze", "default"].iter().any(|word| self.piece.is_word(*index, word)));
        let condition = table.parent().and_then(|s| s.descendants().find(|n| n.kind() == SyntaxKind::WHERE_CLAUSE));
        let qualified = condition.iter().flat_map(|clause| clause.descendants());
        if unknown.count() > 0 || qualified.into_iter().any(|node| node.kind() == SyntaxKind::FIELD_EXPR) {
            let why = "Its rows must be converted, and it has FREEZE, DEFAULT, or a name with a dot in its WHERE.";
            return Err(
                refuse(rules, "this COPY", why).hint("Write it without these, or copy into a temporary table first.")
            );
        }
        self.reasons.push(format!("its rows are converted by the view {}", through.name));
        let names: Vec<String> = named.iter().map(|(name, _)| super::reads::quote(name)).collect();
        let stored = through.name.quoted();
        let range = self.piece.range_of(name);
        match list {
            Some(_) => self.replace(range, stored)?,
            None => self.replace(range, format!("{stored} ({})", names.join(", ")))?,
        }
        let told =
            format!("pg_catalog.set_config('{LISTED}', {}, true) IS NOT NULL", array(named.iter().map(|n| &*n.0)));
        match condition.as_ref().and_then(|clause| clause.children().next()) {
            Some(condition) => {
                let range = self.piece.range_of(&condition);
                self.insert(range.start, "(")?;
                self.insert(range.end, format!(") AND {told}"))
            }
            None => self.insert(self.piece.range.end, format!(" WHERE {told}")),
        }
    }

    /// Where COPY puts the column's values: only a bare store can take them as they are.
    fn copied_column(&self, view: &TableView, rules: &TableRules, name: &str, place: usize) -> Result<Copied, Refusal> {
        let own = view.columns.iter().any(|column| column.name.as_str() == name);
        let all = if own { &view.stores } else { &view.fallback_stores };
        let known = own || view.fallback.iter().any(|column| column.name.as_str() == name);
        if !known {
            return Err(not_copied(name, rules, place));
        }
        let concerned: Vec<_> = all.iter().filter(|s| s.value.columns().any(|c| c.as_str() == name)).collect();
        let bare = concerned
            .iter()
            .find(|store| store.primary && store.value.as_column().is_some_and(|column| column.as_str() == name));
        let relation = self.survey.cx.rules.catalog().relation(&rules.table);
        let seen = view.columns.iter().chain(&view.fallback).find(|column| column.name.as_str() == name);
        // Another type reads another text, or takes one that the session's own would refuse.
        let retyped = |stored| {
            let types = relation.and_then(|r| r.column(stored)).zip(seen);
            types.is_some_and(|(stored, seen)| seen.differs_from(&stored.type_sql, &stored.base_type_sql))
        };
        let default = |column| relation.and_then(|r| r.column(column)).is_some_and(|c| c.default.is_some());
        let others: Vec<_> = concerned.iter().filter(|store| !store.primary).collect();
        let why = match bare {
            None => "Its values must be converted, and COPY stores them as they come.",
            Some(store) if retyped(&store.column) => {
                "It is stored as another type, and COPY stores values as they come."
            }
            Some(_) if !others.is_empty() && !view.synced => "The other storage is not kept in step in this phase.",
            // The default of the column that is replaced would win over the values that are copied.
            Some(_) if others.iter().any(|store| default(&store.column)) => {
                "The column that it replaces has a default, which would be stored instead."
            }
            Some(store) => return Ok(Copied::Stored(store.column.quoted())),
        };
        let refusal = refuse(rules, &format!("COPY into column \"{name}\""), why);
        Ok(Copied::Converted(refusal.hint("Copy into a temporary table first, and INSERT from it.").at(place)))
    }
}

/// The names in the condition of a COPY that stand alone: columns of its table.
fn condition_names(table: &SyntaxNode) -> impl Iterator<Item = SyntaxNode> {
    let condition = table.parent().and_then(|s| s.descendants().find(|node| node.kind() == SyntaxKind::WHERE_CLAUSE));
    let bare = |node: &SyntaxNode| node.parent().is_none_or(|outer| outer.kind() != SyntaxKind::FIELD_EXPR);
    condition
        .into_iter()
        .flat_map(|clause| clause.descendants())
        .filter(move |node| node.kind() == SyntaxKind::NAME_REF && bare(node))
}

/// Where the values of a copied column go.
enum Copied {
    /// Into that column, as SQL, as they come.
    Stored(String),
    /// Nowhere as they come; with what to say where nothing else is possible.
    Converted(Refusal),
}

/// An array of names as an SQL literal that means the same under each `standard_conforming_strings`.
fn array<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<String> =
        names.map(|name| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))).collect();
    format!(" E'{{{}}}'", names.join(",").replace('\\', "\\\\").replace('\'', "''"))
}

/// PostgreSQL's own answer to a column that COPY cannot find: it has no place in the text.
/// PostgreSQL's own answer to COPY of a generated column.
fn generated_column(column: &str) -> Refusal {
    Refusal::new(SqlState("42P10"), format!("column \"{column}\" is a generated column"))
        .detail("Generated columns cannot be used in COPY.")
}

fn not_copied(column: &str, rules: &TableRules, place: usize) -> Refusal {
    Refusal { offset: None, ..undefined_target(column, rules, place) }
}
