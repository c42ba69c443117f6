//! Reads of migrating tables: each reference that needs it becomes an inline view over what is stored, and PostgreSQL
//! itself resolves every name. Gives back what an inline view loses: functional dependence in GROUP BY, system columns,
//! ONLY, TABLESAMPLE, qualification by schema.

use std::ops::Range;

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::plan::{Plan, SYSTEM_COLUMNS, ambiguous_column, refuse, undefined_column};
use super::resolve::Found;
use super::survey::{Grouped, ItemId, Read, RefContext, Reference, ScopeId, Source, Star, child, has_token, is_query};
use super::writes::{output, value};
use crate::migration::{TableRules, TableView, ViewColumn};
use crate::schema::{Ident, Refusal};

impl Plan<'_, '_> {
    /// Plans every read of the statement.
    pub(super) fn reads(&mut self) -> Result<(), Refusal> {
        self.expose_fallbacks()?;
        for index in 0..self.survey.reads.len() {
            let why = self.why_inline(index);
            let read = &self.survey.reads[index];
            let table = &read.rules.table;
            match why {
                Some(_) if self.keeps_with_stars_written_out(index) => {
                    self.reasons.push(format!("{table} is read as it stands, and the stars over it are written out"));
                    self.exposed[index].starred = true;
                }
                Some(_) if self.keeps_with_names_replaced(index) => {
                    self.reasons
                        .push(format!("{table} is read as it stands, with what is stored in the place of its columns"));
                    self.exposed[index].starred = true;
                    self.replace_names(index)?;
                }
                None => {
                    self.reasons.push(format!("{table} is read as it stands: every name in use is stored as it is"))
                }
                Some(why) => {
                    self.reasons.push(format!("{table} is read through an inline view: {why}"));
                    self.expose_system(index)?;
                    self.exposed[index].inlined = true;
                    self.refuse_namesake(index)?;
                    self.refuse_wider_row(index)?;
                    self.inline(index)?;
                }
            }
        }
        self.refuse_typed_rows()?;
        self.expand_stars()?;
        self.drop_schema_qualifiers()?;
        for grouped in &self.survey.grouped {
            self.append_grouping(grouped)?;
        }
        Ok(())
    }

    /// Why the table cannot be read as it is stored; `None` where it can.
    fn why_inline(&self, index: usize) -> Option<String> {
        let read = &self.survey.reads[index];
        if read.in_table_statement {
            return Some("TABLE gives all columns".to_owned());
        }
        if !self.survey.stars.is_empty() {
            return Some("a star must not show what the session's schema does not have".to_owned());
        }
        if self.survey.natural {
            return Some("NATURAL joins by every column".to_owned());
        }
        if read.column_aliases {
            return Some("its columns are renamed by position".to_owned());
        }
        if self.uses_row(read.item) {
            return Some("its whole row is used".to_owned());
        }
        self.touches(read.view).map(|name| format!("the name \"{name}\" is not stored as the session sees it"))
    }

    /// A view over the table itself stays one that can be written through; over an inline view it would not.
    fn keeps_with_stars_written_out(&self, index: usize) -> bool {
        let read = &self.survey.reads[index];
        let only_stars = !read.in_table_statement
            && !self.survey.natural
            && !read.column_aliases
            && !self.uses_row(read.item)
            && self.touches(read.view).is_none()
            && read.view.columns.iter().all(ViewColumn::is_plain);
        let mut stars = self.survey.stars.iter().filter(|star| self.starred_reads(star).contains(&index));
        self.survey.binds && only_stars && stars.all(|star| self.can_be_written_out(star))
    }

    /// The same where columns are stored otherwise, and nothing but the table is read: then each of its columns can be put
    /// where it is named.
    fn keeps_with_names_replaced(&self, index: usize) -> bool {
        let survey = self.survey;
        let read = &survey.reads[index];
        let alone = survey.binds && survey.items.len() == 1 && !survey.natural && survey.usings.is_empty();
        let by_name = !read.in_table_statement && !read.column_aliases && self.exposed[index].fallback.is_empty();
        // A name that the session does not have may be one that is stored.
        let resolved = |reference: &Reference| match survey.resolve(reference) {
            Found::Column(_) | Found::Output => true,
            Found::Row(_) | Found::Merged(_) | Found::MissingIn(_) => false,
            Found::Ambiguous | Found::Missing | Found::Unsure => false,
        };
        alone
            && by_name
            && survey.references.iter().all(resolved)
            && survey.stars.iter().all(|star| self.can_be_written_out(star))
    }

    /// Puts what is stored in the place of the session's names, and keeps the names of the outputs.
    fn replace_names(&mut self, index: usize) -> Result<(), Refusal> {
        let survey = self.survey;
        let read = &survey.reads[index];
        let alias = survey.items[read.item].alias_sql.as_str();
        let mut edited: Vec<Range<usize>> = Vec::new();
        for reference in survey.references.iter().filter(|reference| survey.resolve(reference) != Found::Output) {
            let mut columns = read.view.columns.iter();
            let Some(column) = columns.find(|c| c.name.as_str() == reference.column() && !c.is_plain()) else {
                continue;
            };
            let value = value(column, alias);
            let range = self.piece.range_of(&reference.node);
            self.replace(range.clone(), if column.read.as_column().is_some() { value } else { format!("({value})") })?;
            edited.push(range);
        }
        let Some(statement) = survey.reads[index].node.ancestors().last() else { return Ok(()) };
        let clauses = statement.descendants().filter(|node| node.kind() == SyntaxKind::SELECT_CLAUSE);
        for list in clauses.filter_map(|clause| child(&clause, SyntaxKind::TARGET_LIST)) {
            self.name_outputs(&list, &edited)?;
        }
        Ok(())
    }

    /// Tables of one name from two schemas may stand side by side; two inline views may not.
    fn refuse_namesake(&self, index: usize) -> Result<(), Refusal> {
        let survey = self.survey;
        let read = &survey.reads[index];
        if survey.items[read.item].parted || !survey.has_namesake(read.item) {
            return Ok(());
        }
        let own = &survey.items[read.item].alias;
        let what = format!("a second table named \"{}\" beside it", own.as_deref().unwrap_or_default());
        Err(refuse(read.rules, &what, "An inline view must have a name of its own.")
            .hint("Give each of the tables an alias.")
            .at(self.piece.range_of(&read.node).start))
    }

    /// A column that the view shows beside the table's own would be part of a whole row, and of a NATURAL join.
    fn refuse_wider_row(&self, index: usize) -> Result<(), Refusal> {
        let (read, exposure) = (&self.survey.reads[index], &self.exposed[index]);
        if read.column_aliases && self.uses_row(read.item) {
            let why = "The fields of the table's row keep their own names, those of a view's row do not.";
            return Err(refuse(read.rules, "a whole row under other names for its columns", why)
                .hint("Name the columns that are needed.")
                .at(self.piece.range_of(&read.node).start));
        }
        let shown = exposure.fallback.first().map(|name| name.as_str()).or(exposure.system.first().copied());
        let Some(shown) = shown.filter(|_| self.survey.natural || self.uses_row(read.item)) else { return Ok(()) };
        let what = if self.survey.natural { "NATURAL" } else { "a whole row" };
        let why =
            format!("The statement also names \"{shown}\", which is no column of the table in the session's schema.");
        Err(refuse(read.rules, &format!("{what} beside \"{shown}\""), &why)
            .hint("Name the columns that are needed.")
            .at(self.piece.range_of(&read.node).start))
    }

    /// The rows of inline views are records: not every function takes one.
    fn refuse_typed_rows(&self) -> Result<(), Refusal> {
        let survey = self.survey;
        for reference in survey.references.iter().filter(|reference| reference.parts.len() == 1) {
            let row = match survey.resolve(reference) {
                Found::Row(item) => Some(item),
                // Perhaps a column of something unknown, but a table goes by the name.
                Found::Unsure => survey.item_named(&reference.parts, reference.scope),
                _ => None,
            };
            if let Some(item) = row
                && let Source::Read(read) = survey.items[item].source
                && self.exposed[read].inlined
            {
                let read = &survey.reads[read];
                self.refuse_typed_argument(&reference.node, read.rules, &read.view.columns)?;
                self.refuse_field_of_query(&reference.node, read.rules)?;
                self.refuse_stored_row(&reference.node, read.rules)?;
            }
        }
        for star in survey.stars.iter().filter(|star| !star.qualifier.is_empty()) {
            for read in self.starred_reads(star) {
                let read = &survey.reads[read];
                self.refuse_typed_argument(&star.node, read.rules, &read.view.columns)?;
            }
        }
        Ok(())
    }

    /// A relation that a query makes has no columns that are records.
    fn refuse_stored_row(&self, row: &SyntaxNode, rules: &TableRules) -> Result<(), Refusal> {
        let target = row.ancestors().skip(1).find(|outer| outer.kind() != SyntaxKind::PAREN_EXPR);
        let makes = |outer: SyntaxNode| {
            let created = matches!(
                outer.kind(),
                SyntaxKind::CREATE_TABLE_AS | SyntaxKind::CREATE_VIEW | SyntaxKind::CREATE_MATERIALIZED_VIEW
            );
            created || child(&outer, SyntaxKind::INTO_CLAUSE).is_some()
        };
        if target.is_none_or(|target| target.kind() != SyntaxKind::TARGET) || !row.ancestors().any(makes) {
            return Ok(());
        }
        let why = "The rows of a table under migration are records, and a relation has no columns of records.";
        Err(refuse(rules, "a whole row as a column of a new relation", why)
            .hint("Name the columns that are needed.")
            .at(self.piece.range_of(row).start))
    }

    /// Of a record PostgreSQL knows the fields only where it stands by itself: `(u).username`, not `(SELECT u ...).username`.
    fn refuse_field_of_query(&self, row: &SyntaxNode, rules: &TableRules) -> Result<(), Refusal> {
        let field = row.ancestors().skip(1).find(|outer| outer.kind() == SyntaxKind::FIELD_EXPR);
        let base = field.as_ref().and_then(|field| field.children().next());
        let within = base.filter(|base| base.text_range().contains_range(row.text_range()));
        match within.map(unwrapped).filter(|base| base != row) {
            Some(_) => Err(refuse(
                rules,
                "a field of a whole row that an expression gives",
                "Through a view the row is a record.",
            )
            .hint("Select the column instead of the row.")
            .at(self.piece.range_of(row).start)),
            None => Ok(()),
        }
    }

    /// Finds the names that resolve only in the other shape, and shows them in the views that have them.
    fn expose_fallbacks(&mut self) -> Result<(), Refusal> {
        let concerned = |view: &TableView| view.fallback.iter().any(|c| self.names.contains(c.name.as_str()));
        if !self.survey.reads.iter().any(|read| concerned(read.view)) {
            return Ok(());
        }
        let survey = self.survey;
        let mut shown: Vec<(usize, Ident)> = Vec::new();
        for reference in &survey.references {
            let holder = self.fallback_holder(reference)?;
            if let Some((Source::Read(read), name)) = holder {
                shown.push((read, name));
            }
        }
        for using in &survey.usings {
            let has = |item: &ItemId| survey.items[*item].columns.names.contains(&using.name);
            for item in using.sides.iter().filter(|side| !side.iter().any(has)).flatten() {
                if let Source::Read(read) = survey.items[*item].source
                    && let Some(column) = fallback_of(survey.reads[read].view, &using.name)
                {
                    shown.push((read, column.name.clone()));
                }
            }
        }
        for (read, name) in shown {
            if !self.exposed[read].fallback.contains(&name) {
                self.exposed[read].fallback.push(name);
            }
        }
        self.refuse_captured()
    }

    /// The item that has the reference's name in the other shape, where nothing has it in the session's own.
    pub(super) fn fallback_holder(&self, reference: &Reference) -> Result<Option<(Source, Ident)>, Refusal> {
        let survey = self.survey;
        let column = reference.column();
        let of = |item: usize| -> Option<(Source, Ident)> {
            let source = survey.items[item].source;
            let view = match source {
                Source::Read(read) => survey.reads[read].view,
                Source::Target(target) | Source::Excluded(target) => survey.targets[target].view,
                Source::Other => return None,
            };
            fallback_of(view, column).map(|found| (source, found.name.clone()))
        };
        match survey.resolve(reference) {
            Found::MissingIn(item) => Ok(of(item)),
            Found::Missing if reference.parts.len() == 1 => {
                for scope in survey.scopes_from(reference.scope) {
                    let holders: Vec<_> = survey.scopes[scope].items.iter().filter_map(|item| of(*item)).collect();
                    match holders.as_slice() {
                        [] => {}
                        [one] => return Ok(Some(one.clone())),
                        // ON CONFLICT sees the target twice: the row that is there comes before the one proposed.
                        [(Source::Target(target), name), (Source::Excluded(same), _)] if target == same => {
                            return Ok(Some((Source::Target(*target), name.clone())));
                        }
                        [..] if survey.scopes[scope].merged.iter().any(|name| name == column) => return Ok(None),
                        [..] => return Err(ambiguous_column(column, reference.places[0])),
                    }
                }
                Ok(None)
            }
            Found::Unsure => self.unsure_fallback(reference, of),
            Found::Missing | Found::Column(_) | Found::Row(_) | Found::Merged(_) | Found::Output | Found::Ambiguous => {
                Ok(None)
            }
        }
    }

    fn unsure_fallback(
        &self,
        reference: &Reference,
        of: impl Fn(usize) -> Option<(Source, Ident)>,
    ) -> Result<Option<(Source, Ident)>, Refusal> {
        let survey = self.survey;
        let mut items = survey.scopes_from(reference.scope).flat_map(|scope| survey.scopes[scope].items.iter());
        let Some((source, _)) = items.find_map(|item| of(*item)) else { return Ok(None) };
        let rules = match source {
            Source::Read(read) => survey.reads[read].rules,
            Source::Target(target) | Source::Excluded(target) => survey.targets[target].rules,
            Source::Other => return Ok(None),
        };
        let what = format!("the column reference \"{}\"", reference.column());
        let why = "Something else in FROM has columns that the proxy does not know, and may have this one.";
        Err(refuse(rules, &what, why)
            .hint("Qualify the column with the name or alias of its table.")
            .at(reference.places[0]))
    }

    /// A name that is shown for one reference must not catch another that means something else.
    fn refuse_captured(&self) -> Result<(), Refusal> {
        let survey = self.survey;
        for (index, exposure) in self.exposed.iter().enumerate() {
            let read = &survey.reads[index];
            for name in &exposure.fallback {
                for reference in survey.references.iter().filter(|r| r.parts.len() == 1 && r.column() == name.as_str())
                {
                    let sees = survey.scopes_from(reference.scope).any(|s| survey.scopes[s].items.contains(&read.item));
                    let own = self.fallback_holder(reference)?.is_some() || self.is_same_output(reference, index);
                    if sees && !own {
                        let what = format!("the name \"{name}\" in two meanings");
                        let why = "It names a column of the new schema and something else in one statement.";
                        return Err(refuse(read.rules, &what, why)
                            .hint("Qualify every use of the name with the name or alias of its table.")
                            .at(reference.places[0]));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether ORDER BY or GROUP BY names an output, and would mean the same if the read had a column of that name.
    fn is_same_output(&self, reference: &Reference, read: usize) -> bool {
        if self.survey.resolve(reference) != Found::Output {
            return false;
        }
        match reference.context {
            RefContext::OrderBy => true,
            RefContext::Plain => false,
            // Input columns come first: the output must be that very column.
            RefContext::GroupBy => {
                let select = reference.node.ancestors().find(|node| is_query(node.kind()));
                let clause = select.and_then(|select| child(&select, SyntaxKind::SELECT_CLAUSE));
                let Some(list) = clause.and_then(|clause| child(&clause, SyntaxKind::TARGET_LIST)) else {
                    return false;
                };
                let named =
                    |target: &SyntaxNode| self.survey.target_name(target).as_deref() == Some(reference.column());
                list.children().filter(named).all(|target| {
                    let expression = target.children().next().map(unwrapped);
                    let output = expression.and_then(|expression| self.reference_at(&expression));
                    let holder = output.map(|output| self.fallback_holder(output));
                    matches!(holder, Some(Ok(Some((Source::Read(held), _)))) if held == read)
                })
            }
        }
    }

    /// Shows the system columns that are named of the table: in an inline view they are columns like any other.
    fn expose_system(&mut self, index: usize) -> Result<(), Refusal> {
        let read = &self.survey.reads[index];
        if read.of_function() {
            return Ok(());
        }
        let own = |name: &str| read.view.columns.iter().any(|column| column.name.as_str() == name);
        let mut system = self.system_columns(read.item);
        system.retain(|name| !own(name));
        if let Some(bare) = self.bare_system(read.item, &system) {
            let what = format!("the system column \"{}\" without its table's name", bare.column());
            return Err(refuse(
                read.rules,
                &what,
                "Beside a join PostgreSQL does not find it there, and in a view it would.",
            )
            .hint("Put the table's name before the column.")
            .at(bare.places.first().copied().unwrap_or_default()));
        }
        self.exposed[index].system = system;
        Ok(())
    }

    /// The system columns that the statement may name of that item.
    pub(super) fn system_columns(&self, item: ItemId) -> Vec<&'static str> {
        let means = |reference: &Reference, column: &str| {
            reference.column() == column && self.survey.may_mean_system(reference, item)
        };
        let named = |column: &&str| self.survey.references.iter().any(|reference| means(reference, column));
        SYSTEM_COLUMNS.into_iter().filter(|column| self.names.contains(column)).filter(named).collect()
    }

    /// A bare name that a view of the item with these system columns would catch, and the table in its join does not.
    pub(super) fn bare_system(&self, item: ItemId, system: &[&str]) -> Option<&Reference> {
        if system.is_empty() {
            return None;
        }
        let mut references = self.survey.references.iter();
        references.find(|r| system.contains(&r.column()) && self.survey.passes_system(r, item))
    }

    /// The columns that an inline view shows: all where anything may name any, else those whose names are in use.
    fn shown(&self, index: usize) -> Vec<&ViewColumn> {
        let read = &self.survey.reads[index];
        let all = read.in_table_statement
            || !self.survey.stars.is_empty()
            || self.survey.natural
            || read.column_aliases
            || self.uses_row(read.item);
        let named = |column: &&ViewColumn| all || self.names.contains(column.name.as_str());
        let fallback = read.view.fallback.iter().filter(|c| self.exposed[index].fallback.contains(&c.name));
        read.view.columns.iter().filter(named).chain(fallback).collect()
    }

    fn inline(&mut self, index: usize) -> Result<(), Refusal> {
        let survey = self.survey;
        let read = &survey.reads[index];
        let mut list: Vec<String> = self.shown(index).into_iter().map(view_column).collect();
        list.extend(self.exposed[index].system.iter().map(|name| (*name).to_owned()));
        if child(&read.node, SyntaxKind::WITH_ORDINALITY).is_some() {
            list.push("ordinality".to_owned());
        }
        let list = list.join(", ");
        if read.in_table_statement {
            return self.inline_table_statement(read, &list);
        }
        if read.of_function() {
            return self.inline_function(read, &list);
        }
        let relation = self.relation_range(&read.node);
        let aliased = child(&read.node, SyntaxKind::FROM_ALIAS).is_some();
        let sample = child(&read.node, SyntaxKind::TABLESAMPLE_CLAUSE).map(|sample| self.piece.range_of(&sample));
        // Without an alias before it the sample stands where it must.
        let (relation, sample) = match sample {
            Some(sample) if !aliased => (relation.start..sample.end, None),
            sample => (relation, sample),
        };
        let sample_text = sample.clone().and_then(|range| self.piece.source.get(range)).unwrap_or_default();
        let alias = if aliased { String::new() } else { format!(" AS {}", survey.items[read.item].alias_sql) };
        let gap = if sample_text.is_empty() { "" } else { " " };
        self.insert(relation.start, format!("(SELECT {list} FROM "))?;
        self.insert(relation.end, format!("{gap}{sample_text}){alias}"))?;
        match sample {
            Some(range) => self.replace(range, ""),
            None => Ok(()),
        }
    }

    /// The rows of a function, whose arguments may name what stands before it.
    fn inline_function(&mut self, read: &Read<'_>, list: &str) -> Result<(), Refusal> {
        let Some(call) = child(&read.node, SyntaxKind::CALL_EXPR).map(|call| self.piece.range_of(&call)) else {
            return Ok(());
        };
        let numbered = child(&read.node, SyntaxKind::WITH_ORDINALITY).map(|with| self.piece.range_of(&with));
        let aliased = child(&read.node, SyntaxKind::FROM_ALIAS).is_some();
        let lateral = if has_token(&read.node, SyntaxKind::LATERAL_KW) { "" } else { "LATERAL " };
        let alias = if aliased { String::new() } else { format!(" AS {}", self.survey.items[read.item].alias_sql) };
        self.insert(call.start, format!("{lateral}(SELECT {list} FROM "))?;
        self.insert(numbered.unwrap_or(call).end, format!("){alias}"))
    }

    /// `TABLE users` selects from the view, so that an ORDER BY behind it sees nothing else.
    fn inline_table_statement(&mut self, read: &Read<'_>, list: &str) -> Result<(), Refusal> {
        let outputs: Vec<String> = read.view.columns.iter().map(|column| column.name.quoted()).collect();
        let word = self.table_word(&read.node);
        let name = read.node.descendants().find(|node| node.kind() == SyntaxKind::RELATION_NAME);
        let Some(name) = name else { return Ok(()) };
        let end = self.piece.range_of(&name).end;
        self.replace(word, format!("SELECT {} FROM (SELECT {list} FROM", outputs.join(", ")))?;
        self.insert(end, format!(") AS {}", self.survey.items[read.item].alias_sql))
    }

    /// The bytes of `TABLE` in a TABLE statement.
    fn table_word(&self, node: &SyntaxNode) -> Range<usize> {
        let word = node.children_with_tokens().find(|element| element.kind() == SyntaxKind::TABLE_KW);
        let range = word.map(|word| word.text_range()).unwrap_or_else(|| node.text_range());
        let base = self.piece.range.start;
        base + usize::from(range.start())..base + usize::from(range.end())
    }

    /// `ONLY users *`, without alias and sample.
    pub(super) fn relation_range(&self, node: &SyntaxNode) -> Range<usize> {
        let whole = self.piece.range_of(node);
        let behind = node
            .children()
            .find(|c| matches!(c.kind(), SyntaxKind::FROM_ALIAS | SyntaxKind::TABLESAMPLE_CLAUSE))
            .map_or(whole.end, |c| self.piece.range_of(&c).start);
        let text = self.piece.source.get(whole.start..behind).unwrap_or_default();
        // A comment between the table and its alias stays outside.
        let tokens = self.piece.tokens;
        let first = tokens.partition_point(|(token, _)| token.start < whole.start);
        let within = tokens[first..].iter().map(|(token, _)| token).take_while(|token| token.end <= behind);
        let end = within.last().map(|token| token.end).unwrap_or(whole.start + text.trim_end().len());
        whole.start..end
    }

    /// A star would show what a view shows beside the session's columns: where it does, it is written out.
    fn expand_stars(&mut self) -> Result<(), Refusal> {
        let survey = self.survey;
        for star in &survey.stars {
            let reads = self.starred_reads(star);
            let Some(read) = reads.into_iter().find(|read| {
                let exposure = &self.exposed[*read];
                exposure.starred || exposure.inlined && !(exposure.fallback.is_empty() && exposure.system.is_empty())
            }) else {
                continue;
            };
            self.expand_star(star, &survey.reads[read])?;
        }
        Ok(())
    }

    /// The migrating reads that a star covers.
    fn starred_reads(&self, star: &Star) -> Vec<usize> {
        self.starred_items(star)
            .into_iter()
            .filter_map(|item| match self.survey.items[item].source {
                Source::Read(read) => Some(read),
                Source::Target(_) | Source::Excluded(_) | Source::Other => None,
            })
            .collect()
    }

    /// The items that a star covers.
    fn starred_items(&self, star: &Star) -> Vec<usize> {
        match star.qualifier.as_slice() {
            [] => self.survey.scopes[star.scope].items.clone(),
            qualifier => self.survey.item_named(qualifier, star.scope).into_iter().collect(),
        }
    }

    /// Whether a star's columns are known, and may be listed in its place.
    fn can_be_written_out(&self, star: &Star) -> bool {
        let scope = &self.survey.scopes[star.scope];
        let is_target = star.node.kind() == SyntaxKind::TARGET
            || star.node.parent().is_some_and(|parent| parent.kind() == SyntaxKind::TARGET);
        let joined = star.qualifier.is_empty() && (scope.natural || !scope.merged.is_empty());
        let known = self
            .starred_items(star)
            .iter()
            .all(|item| self.survey.items[*item].columns.complete && self.survey.items[*item].alias.is_some());
        is_target && !joined && known
    }

    fn expand_star(&mut self, star: &Star, read: &Read<'_>) -> Result<(), Refusal> {
        let survey = self.survey;
        if !self.can_be_written_out(star) {
            let why = "The statement names a column that the star must not show, and the star cannot be written out.";
            return Err(refuse(read.rules, "this star", why)
                .hint("Name the columns instead of the star.")
                .at(self.piece.range_of(&star.node).start));
        }
        let mut list = Vec::new();
        for item in self.starred_items(star).into_iter().map(|item| &survey.items[item]) {
            for name in &item.columns.names {
                let column = match item.source {
                    Source::Read(read) if !self.exposed[read].inlined => {
                        survey.reads[read].view.columns.iter().find(|c| c.name.as_str() == name)
                    }
                    Source::Read(_) | Source::Target(_) | Source::Excluded(_) | Source::Other => None,
                };
                list.push(match column {
                    Some(column) => output(column, &item.alias_sql),
                    None => format!("{}.{}", item.alias_sql, quote(name)),
                });
            }
        }
        self.replace(self.piece.range_of(&star.node), list.join(", "))
    }

    /// `public.users.id` cannot name a column of an inline view: its alias stands for `public.users`.
    fn drop_schema_qualifiers(&mut self) -> Result<(), Refusal> {
        let survey = self.survey;
        for (qualifier, places, scope) in survey.schema_qualified() {
            let database = qualifier.len() > 2;
            let Some(item) = survey.item_named(qualifier, scope) else { continue };
            let Source::Read(read) = survey.items[item].source else { continue };
            self.refuse_missing_in_parted(item)?;
            if self.exposed[read].inlined && database {
                let why = "Whether that is this database cannot be told once the table is read through a view.";
                return Err(refuse(survey.reads[read].rules, "a name with its database", why)
                    .hint("Leave the database out of the name.")
                    .at(places.first().copied().unwrap_or_default()));
            }
            if self.exposed[read].inlined
                && let (Some(first), Some(last)) = (places.first(), places.last())
            {
                // In one piece, so that an error in it is told at its beginning.
                let end = self.piece.token_at(*last).map_or(*last, |token| token.end);
                self.replace(*first..end, survey.items[item].alias_sql.as_str())?;
            }
        }
        Ok(())
    }

    /// Under an alias of ours PostgreSQL's own error would name that.
    fn refuse_missing_in_parted(&self, item: usize) -> Result<(), Refusal> {
        if !self.survey.items[item].parted {
            return Ok(());
        }
        for reference in self.survey.references.iter().filter(|reference| reference.parts.len() >= 3) {
            let missing = self.survey.resolve(reference) == Found::MissingIn(item)
                && !SYSTEM_COLUMNS.contains(&reference.column())
                && self.fallback_holder(reference)?.is_none();
            if missing {
                return Err(undefined_column(&reference.parts, reference.places[0]));
            }
        }
        Ok(())
    }

    /// Where the whole primary key of an inlined table is grouped by, its other columns may be selected: they are
    /// grouped by too, which changes no group.
    fn append_grouping(&mut self, grouped: &Grouped) -> Result<(), Refusal> {
        let Some(clause) = child(&grouped.select, SyntaxKind::GROUP_BY_CLAUSE) else { return Ok(()) };
        let Some(list) = child(&clause, SyntaxKind::GROUP_BY_LIST) else { return Ok(()) };
        if list.children().any(|item| item.kind() != SyntaxKind::GROUPING_EXPR) {
            return Ok(());
        }
        let keys: Vec<(usize, String)> =
            list.children().filter_map(|item| self.grouped_column(&item, grouped)).collect();
        let mut appended = String::new();
        for item in &self.survey.scopes[grouped.scope].items {
            let Source::Read(index) = self.survey.items[*item].source else { continue };
            let view = self.survey.reads[index].view;
            let whole = !view.primary_key.is_empty()
                && view.primary_key.iter().all(|key| keys.iter().any(|(i, n)| i == item && n == key.as_str()));
            let read = &self.survey.reads[index];
            if !self.exposed[index].inlined || read.column_aliases || read.of_function() || !whole {
                continue;
            }
            for column in self.shown(index) {
                let name = column.name.as_str();
                let grouped_already = keys.iter().any(|(i, n)| i == item && n == name);
                if !grouped_already && self.selects(grouped, *item, name) {
                    appended.push_str(&format!(", {}.{}", self.survey.items[*item].alias_sql, column.name.quoted()));
                }
            }
            if self.selects_row(grouped, *item) {
                appended.push_str(&format!(", {}", self.survey.items[*item].alias_sql));
            }
        }
        let end = self.piece.range_of(&list).end;
        if appended.is_empty() { Ok(()) } else { self.insert(end, appended) }
    }

    /// The column that a grouping expression is, directly, by position or by output name.
    pub(super) fn grouped_column(&self, grouping: &SyntaxNode, grouped: &Grouped) -> Option<(usize, String)> {
        let expression = unwrapped(grouping.children().next()?);
        if let Some(reference) = self.reference_at(&expression) {
            return match self.survey.resolve(reference) {
                Found::Column(item) => Some((item, reference.column().to_owned())),
                Found::Output => self.output_column(grouped, |_, name| name == reference.column()),
                // The item whose columns are not known may have it too; grouping by one more column of ours is harmless.
                Found::Unsure | Found::Merged(_) => self.holder_of(grouped.scope, reference.column()),
                Found::Row(_) | Found::MissingIn(_) | Found::Ambiguous | Found::Missing => None,
            };
        }
        let position: usize = self.piece.value_of(&expression).parse().ok()?;
        self.output_column(grouped, |index, _| index + 1 == position)
    }

    fn holder_of(&self, scope: ScopeId, column: &str) -> Option<(usize, String)> {
        let items = &self.survey.scopes[scope].items;
        let holder = items.iter().find(|item| {
            let item = &self.survey.items[**item];
            matches!(item.source, Source::Read(_)) && item.columns.names.iter().any(|name| name == column)
        })?;
        Some((*holder, column.to_owned()))
    }

    fn output_column(&self, grouped: &Grouped, wanted: impl Fn(usize, &str) -> bool) -> Option<(usize, String)> {
        let list = child(&child(&grouped.select, SyntaxKind::SELECT_CLAUSE)?, SyntaxKind::TARGET_LIST)?;
        let mut index = 0;
        for target in list.children().filter(|c| c.kind() == SyntaxKind::TARGET) {
            let Some(name) = self.survey.target_name(&target) else {
                index += self.survey.star_columns(&self.survey.path(&target).0, grouped.scope).names.len();
                continue;
            };
            if wanted(index, &name) {
                let reference = self.reference_at(&unwrapped(target.children().next()?))?;
                return match self.survey.resolve(reference) {
                    Found::Column(item) => Some((item, reference.column().to_owned())),
                    Found::Unsure | Found::Merged(_) => self.holder_of(grouped.scope, reference.column()),
                    Found::Row(_) | Found::MissingIn(_) | Found::Output | Found::Ambiguous | Found::Missing => None,
                };
            }
            index += 1;
        }
        None
    }

    fn reference_at(&self, node: &SyntaxNode) -> Option<&Reference> {
        self.survey.references.iter().find(|reference| &reference.node == node)
    }

    /// Whether the grouped query names the item's whole row, and not only in an aggregate.
    fn selects_row(&self, grouped: &Grouped, item: usize) -> bool {
        let range = grouped.select.text_range();
        let aggregated = |row: &SyntaxNode| {
            let call = row.ancestors().find(|outer| outer.kind() == SyntaxKind::CALL_EXPR);
            let function =
                call.and_then(|call| call.children().next()).and_then(|name| self.survey.path(&name).0.pop());
            function.is_some_and(|name| name == "count" || name.ends_with("agg"))
        };
        self.survey.references.iter().any(|reference| {
            range.contains_range(reference.node.text_range())
                && self.survey.resolve(reference) == Found::Row(item)
                && !aggregated(&reference.node)
        })
    }

    /// Whether the grouped query names this column of the item outside of GROUP BY, or may.
    pub(super) fn selects(&self, grouped: &Grouped, item: usize, name: &str) -> bool {
        let range = grouped.select.text_range();
        let starred = self.survey.stars.iter().any(|star| range.contains_range(star.node.text_range()));
        starred
            || self.survey.references.iter().any(|reference| {
                range.contains_range(reference.node.text_range())
                    && reference.column() == name
                    && match self.survey.resolve(reference) {
                        Found::Column(found) => found == item,
                        Found::Unsure | Found::Merged(_) | Found::Missing | Found::MissingIn(_) => true,
                        Found::Row(_) | Found::Output | Found::Ambiguous => false,
                    }
            })
    }
}

/// One column of an inline view's list.
pub(super) fn view_column(column: &ViewColumn) -> String {
    if column.is_plain() {
        return column.name.quoted();
    }
    format!("{} AS {}", column.read.sql(), column.name.quoted())
}

fn fallback_of<'v>(view: &'v TableView, name: &str) -> Option<&'v ViewColumn> {
    view.fallback.iter().find(|column| column.name.as_str() == name)
}

pub(super) fn quote(name: &str) -> String {
    Ident::new(name).map(|ident| ident.quoted()).unwrap_or_default()
}

/// The expression inside any brackets.
pub(super) fn unwrapped(mut node: SyntaxNode) -> SyntaxNode {
    while node.kind() == SyntaxKind::PAREN_EXPR && !has_token(&node, SyntaxKind::COMMA) {
        match node.children().next() {
            Some(inner) => node = inner,
            None => break,
        }
    }
    node
}
