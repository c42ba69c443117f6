//! Reads of the system catalogs: where one tells of columns, indexes, constraints or triggers, it becomes an inline view in
//! which the tables under migration look as they do in the session's shape.
//!
//! Never refuses: a statement in which this cannot be done passes as it stands (`plan` sees to that), since what an
//! application asks the catalogs must not fail through us. What the views are is `migration::masks`' work.

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::plan::Plan;
use super::read::Piece;
use super::reads::quote;
use super::survey::{Grouped, ItemId, Survey, child};
use super::{Context, plan};
use crate::migration::masks::{CallMask, Mask, finds_unqualified, is_catalog_name};
use crate::schema::{Ident, QualifiedName, Refusal};

/// A relation of the system catalogs that is read and is not as it stands.
#[derive(Debug)]
pub(super) struct CatalogRead<'r> {
    pub mask: &'r Mask,
    pub item: ItemId,
    /// `RELATION_FROM_ITEM`, or `PAREN_FROM_ITEM` (`ONLY (pg_class)`).
    pub node: SyntaxNode,
    pub name: QualifiedName,
}

/// Whether the statement has an identifier that can mean something of the system catalogs that is masked.
pub(super) fn mentions(piece: &Piece<'_>, cx: &Context<'_>) -> bool {
    let unqualified = finds_unqualified(&cx.names.path);
    piece.tokens.iter().filter_map(|(_, name)| name.as_deref()).any(|name| is_catalog_name(name, unqualified))
}

/// The mask of the relation that these parts of a name mean.
pub(super) fn masked<'a>(cx: &Context<'a>, parts: &[String]) -> Option<(&'a Mask, QualifiedName)> {
    let of = |schema: &Ident, name: &Ident| {
        let name = QualifiedName { schema: schema.clone(), name: name.clone() };
        Some((cx.rules.masks(cx.shape).relation(&name)?, name))
    };
    match parts {
        [name] => {
            let name = Ident::new(name).ok()?;
            let hidden = cx.names.temporary(&name).is_some();
            cx.names.path.iter().filter(|_| !hidden).find_map(|schema| of(schema, &name))
        }
        [.., schema, name] => of(&Ident::new(schema).ok()?, &Ident::new(name).ok()?),
        [] => None,
    }
}

/// What a statement over the catalogs ends with that is not rewritten; it then passes as it stands.
fn unmasked(why: &str) -> Refusal {
    Refusal::unsupported("the system catalogs are not read for the session's shape here").detail(why)
}

impl Plan<'_, '_> {
    /// Plans every read of the system catalogs and every call that tells of their texts.
    pub(super) fn catalog_reads(&mut self) -> Result<(), Refusal> {
        let survey = self.survey;
        for read in &survey.catalog {
            self.inline_catalog(read)?;
            self.reasons.push(format!("{} is read as the session's shape has it", read.name));
        }
        self.unqualify_catalog()?;
        for grouped in &survey.grouped {
            self.group_catalog(grouped)?;
        }
        for (function, call) in &survey.catalog_calls {
            self.catalog_call(function, call)?;
        }
        Ok(())
    }

    fn inline_catalog(&mut self, read: &CatalogRead<'_>) -> Result<(), Refusal> {
        let survey = self.survey;
        if child(&read.node, SyntaxKind::TABLESAMPLE_CLAUSE).is_some() {
            return Err(unmasked("TABLESAMPLE works on what is stored."));
        }
        if survey.has_namesake(read.item) {
            return Err(unmasked("Two relations of one name stand side by side."));
        }
        let mut list: Vec<String> = read.mask.columns.iter().map(shown).collect();
        let system = self.system_columns(read.item);
        if self.bare_system(read.item, &system).is_some() {
            return Err(unmasked("A system column is named without its table, beside a join."));
        }
        let whole = !survey.stars.is_empty() || survey.natural || self.uses_row(read.item);
        if whole && !system.is_empty() {
            return Err(unmasked("A system column is named beside a star, NATURAL or a whole row."));
        }
        list.extend(system.into_iter().map(str::to_owned));
        let relation = self.relation_range(&read.node);
        let filter = read.mask.filter.as_ref().map(|filter| format!(" WHERE {filter}")).unwrap_or_default();
        let alias = match child(&read.node, SyntaxKind::FROM_ALIAS) {
            Some(_) => String::new(),
            None => format!(" AS {}", survey.items[read.item].alias_sql),
        };
        self.insert(relation.start, format!("(SELECT {} FROM ", list.join(", ")))?;
        self.insert(relation.end, format!("{filter}){alias}"))
    }

    /// `pg_catalog.pg_class.relname` cannot name a column of an inline view: its alias stands for the relation.
    fn unqualify_catalog(&mut self) -> Result<(), Refusal> {
        let survey = self.survey;
        for (qualifier, places, scope) in survey.schema_qualified() {
            let Some(item) = survey.item_named(qualifier, scope) else { continue };
            if !survey.catalog.iter().any(|read| read.item == item) {
                continue;
            }
            if let (Some(first), Some(last)) = (places.first(), places.last()) {
                let end = self.piece.token_at(*last).map_or(*last, |token| token.end);
                self.replace(*first..end, survey.items[item].alias_sql.as_str())?;
            }
        }
        Ok(())
    }

    /// Where a whole primary key is grouped by, the other columns may be selected: they are grouped by too.
    fn group_catalog(&mut self, grouped: &Grouped) -> Result<(), Refusal> {
        let survey = self.survey;
        let Some(clause) = child(&grouped.select, SyntaxKind::GROUP_BY_CLAUSE) else { return Ok(()) };
        let Some(list) = child(&clause, SyntaxKind::GROUP_BY_LIST) else { return Ok(()) };
        let keys: Vec<(ItemId, String)> =
            list.children().filter_map(|item| self.grouped_column(&item, grouped)).collect();
        let mut appended = String::new();
        for read in survey.catalog.iter().filter(|read| survey.scopes[grouped.scope].items.contains(&read.item)) {
            let grouped_by = |name: &Ident| keys.iter().any(|(i, key)| *i == read.item && key == name.as_str());
            if read.mask.key.is_empty() || !read.mask.key.iter().all(grouped_by) {
                continue;
            }
            if !survey.stars.is_empty() || list.children().any(|item| item.kind() != SyntaxKind::GROUPING_EXPR) {
                return Err(unmasked("What depends on the primary key that is grouped by cannot be told."));
            }
            for (name, _) in read.mask.columns.iter().filter(|(name, _)| !grouped_by(name)) {
                if self.selects(grouped, read.item, name.as_str()) {
                    appended.push_str(&format!(", {}.{}", survey.items[read.item].alias_sql, name.quoted()));
                }
            }
        }
        let end = self.piece.range_of(&list).end;
        if appended.is_empty() { Ok(()) } else { self.insert(end, appended) }
    }

    /// A call whose result, or argument, is the name of a stored column.
    fn catalog_call(&mut self, function: &str, call: &SyntaxNode) -> Result<(), Refusal> {
        let Some(list) = child(call, SyntaxKind::ARG_LIST) else { return Ok(()) };
        let nodes: Vec<SyntaxNode> = list.children().collect();
        // An argument is repeated: it must have nothing in it that is itself rewritten, and be no set.
        let set = |node: &SyntaxNode| {
            let calls = node.descendants().filter(|inner| inner.kind() == SyntaxKind::CALL_EXPR);
            let mut names = calls.filter_map(|call| self.survey.path(&call.children().next()?).0.pop());
            names.any(|name| SET_FUNCTIONS.contains(&name.as_str()))
        };
        let simple = nodes.iter().all(|node| node.kind() == SyntaxKind::ARG && !plan::holds_query(node) && !set(node));
        let in_from = call.parent().is_some_and(|parent| {
            matches!(
                parent.kind(),
                SyntaxKind::FUNCTION_FROM_ITEM | SyntaxKind::ROWS_FROM_ITEM | SyntaxKind::EXPR_FROM_ITEM
            )
        });
        let nested = self
            .survey
            .catalog_calls
            .iter()
            .any(|(_, other)| other != call && call.text_range().contains_range(other.text_range()));
        if !simple || in_from || nested {
            self.reasons.push(format!("the result of {function} is not told in the names of the session's shape"));
            return Ok(());
        }
        // As edited: the names in them may have lost their schema.
        let edited = |node: &SyntaxNode| self.edits.apply_within(self.piece.source, self.piece.range_of(node));
        let arguments: Vec<String> = nodes.iter().map(edited).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let survey = self.survey;
        match survey.cx.rules.masks(survey.cx.shape).call(function, &arguments) {
            None => Ok(()),
            Some(CallMask::Around(before, after)) => {
                let range = self.piece.range_of(call);
                self.insert(range.start, before)?;
                self.insert(range.end, after)
            }
            Some(CallMask::AroundSecond(before, after)) => {
                let Some(node) = nodes.get(1) else { return Ok(()) };
                let range = self.piece.range_of(node);
                self.insert(range.start, before)?;
                self.insert(range.end, after)
            }
        }
    }
}

/// Functions of PostgreSQL that give sets, and may stand in an argument.
const SET_FUNCTIONS: &[&str] = &[
    "_pg_expandarray",
    "aclexplode",
    "generate_series",
    "generate_subscripts",
    "json_array_elements_text",
    "jsonb_array_elements_text",
    "regexp_split_to_table",
    "string_to_table",
    "unnest",
];

/// One column of a mask's list.
fn shown((name, sql): &(Ident, String)) -> String {
    let quoted = quote(name.as_str());
    if *sql == quoted { quoted } else { format!("{sql} AS {quoted}") }
}

impl<'a> Survey<'a> {
    /// The mask of a relation in FROM, while this survey is made for a rewrite of catalogs.
    pub(super) fn mask_of(&self, parts: &[String]) -> Option<(&'a Mask, QualifiedName)> {
        self.masked.then(|| masked(self.cx, parts)).flatten()
    }

    /// Notes a call of a function of `pg_catalog` whose result or argument names stored columns.
    pub(super) fn note_call(&mut self, path: &[String], call: &SyntaxNode) {
        let function = match path {
            [function] => function,
            [schema, function] if schema == "pg_catalog" => function,
            _ => return,
        };
        if self.masked && function.starts_with("pg_get_") && is_catalog_name(function, false) {
            self.catalog_calls.push((function.clone(), call.clone()));
        }
    }
}
