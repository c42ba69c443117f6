//! What stands in FROM: tables, joins, functions.

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::{
    Columns, ItemId, Meaning, Place, Read, Scope, ScopeId, Source, Survey, UsingName, child, direct_alias, has_token,
    is_query, quoted, relation_columns, rename,
};
use crate::migration::{Route, TableRules};
use crate::schema::{QualifiedName, RowFunction};
use crate::sql::catalog::CatalogRead;
use crate::sql::reads;

/// How many items all scopes that see a part of FROM are given: each join may see all before it.
pub(super) const SEEN_EARLY_MAX: usize = 1_000_000;

impl<'a> Survey<'a> {
    /// Notes a read of a migrating table; the columns that the session sees.
    pub(super) fn read(
        &mut self,
        rules: &'a TableRules,
        node: &SyntaxNode,
        scope: ScopeId,
        alias: Option<(String, String)>,
        in_table_statement: bool,
    ) -> Columns {
        // What outlives the statement reads old storage for as long as that is complete: a rollback drops the new one.
        // A function may have put its rows together column by column, of which it knows the old ones.
        let function = node.kind() == SyntaxKind::FUNCTION_FROM_ITEM;
        let route = if self.binds || function { Route::Old } else { rules.route(self.cx.bucket) };
        let view = rules.read_view(self.cx.shape, route);
        let from_alias = child(node, SyntaxKind::FROM_ALIAS);
        let aliases = from_alias.as_ref().and_then(|alias| self.column_aliases(alias));
        let mut names: Vec<String> = view.columns.iter().map(|column| column.name.as_str().to_owned()).collect();
        if child(node, SyntaxKind::WITH_ORDINALITY).is_some() {
            names.push("ordinality".to_owned());
        }
        let column_aliases = aliases.is_some();
        let columns = rename(Columns::of(names), aliases);
        let plain = alias.is_none();
        let (alias, alias_sql) =
            alias.unwrap_or_else(|| (rules.table.name.as_str().to_owned(), rules.table.name.quoted()));
        let source = Source::Read(self.reads.len());
        let item = self.item(Some(alias), alias_sql, columns.clone(), source);
        if plain {
            self.items[item].qualified = Some(rules.table.clone());
        }
        self.scopes[scope].items.push(item);
        let node = node.clone();
        self.reads.push(Read { rules, view, item, node, column_aliases, in_table_statement });
        columns
    }

    /// Walks the items of FROM (or USING) into `scope`. A subquery that is not lateral sees `outer` only.
    pub(super) fn walk_from(
        &mut self,
        clause: &SyntaxNode,
        scope: ScopeId,
        outer: Option<ScopeId>,
        ctes: Option<usize>,
    ) {
        for item in clause.children() {
            self.walk_from_item(&item, scope, outer, ctes);
        }
    }

    /// Walks one item of FROM; what it adds to the scope.
    pub(super) fn walk_from_item(
        &mut self,
        node: &SyntaxNode,
        scope: ScopeId,
        outer: Option<ScopeId>,
        ctes: Option<usize>,
    ) -> Vec<ItemId> {
        let before = self.scopes[scope].items.len();
        match node.kind() {
            SyntaxKind::RELATION_FROM_ITEM => self.relation_item(node, node, scope, ctes),
            SyntaxKind::JOIN_EXPR => {
                self.join(node, scope, outer, ctes, Vec::new());
            }
            SyntaxKind::PAREN_FROM_ITEM => self.paren_item(node, scope, outer, ctes),
            SyntaxKind::PAREN_EXPR => {
                for inner in node.children() {
                    self.walk_from_item(&inner, scope, outer, ctes);
                }
            }
            SyntaxKind::FUNCTION_FROM_ITEM
            | SyntaxKind::EXPR_FROM_ITEM
            | SyntaxKind::ROWS_FROM_ITEM
            | SyntaxKind::JSON_TABLE_FROM_ITEM
            | SyntaxKind::GRAPH_TABLE_FROM_ITEM
            | SyntaxKind::XML_TABLE_FROM_ITEM => self.function_item(node, scope, outer, ctes),
            _ => self.expressions(node, Place { scope: Some(scope), ctes }),
        }
        self.scopes[scope].items[before..].to_vec()
    }

    /// A table, view or CTE in FROM. `named` is the node with the relation's name, `node` the one with the alias.
    pub(super) fn relation_item(&mut self, named: &SyntaxNode, node: &SyntaxNode, scope: ScopeId, ctes: Option<usize>) {
        let Some(name) = named.descendants().find(|n| n.kind() == SyntaxKind::RELATION_NAME_REF) else { return };
        let (parts, _) = self.path(&name);
        let alias = self.alias(node);
        if let Some(sample) = child(node, SyntaxKind::TABLESAMPLE_CLAUSE) {
            self.expressions(&sample, Place { scope: Some(scope), ctes });
        }
        let mut mask = None;
        let columns = match self.meaning(&parts, ctes) {
            Meaning::Migrating(rules) => {
                self.read(rules, node, scope, alias, false);
                return;
            }
            Meaning::Known(relation) => relation_columns(relation),
            Meaning::Columns(columns) => columns,
            Meaning::Unknown => {
                mask = self.mask_of(&parts);
                mask.as_ref().map_or_else(Columns::unknown, |(mask, _)| Columns::of(mask.names()))
            }
        };
        let aliases = child(node, SyntaxKind::FROM_ALIAS).and_then(|alias| self.column_aliases(&alias));
        let columns = rename(columns, aliases);
        let plain = alias.is_none();
        let item = self.named_item(&parts, alias, columns, scope);
        if let Some((mask, name)) = mask {
            if plain {
                self.items[item].qualified = Some(name.clone());
            }
            self.catalog.push(CatalogRead { mask, item, node: node.clone(), name });
        }
    }

    pub(super) fn alias(&self, node: &SyntaxNode) -> Option<(String, String)> {
        let alias = node.descendants().find(|n| n.kind() == SyntaxKind::TABLE_ALIAS && direct_alias(n, node))?;
        Some((self.name_of(&alias)?.0, self.piece.text_of(&alias).to_owned()))
    }

    /// Walks a join whose first operand stands behind `left`; all that it joins, these included.
    ///
    /// The tree has `a CROSS JOIN b JOIN c ON ...` as `a CROSS JOIN (b JOIN c ON ...)`, and NATURAL likewise. PostgreSQL joins
    /// from the left: the condition sees `a`.
    fn join(
        &mut self,
        node: &SyntaxNode,
        scope: ScopeId,
        outer: Option<ScopeId>,
        ctes: Option<usize>,
        left: Vec<ItemId>,
    ) -> Vec<ItemId> {
        let mut members = left;
        for part in node.children() {
            if part.kind() != SyntaxKind::JOIN {
                members = self.operand(&part, scope, outer, ctes, members, true);
                continue;
            }
            if members.len() > 1 {
                self.joined(&members);
            }
            let natural = has_token(&part, SyntaxKind::NATURAL_KW);
            self.natural = self.natural || natural;
            self.scopes[scope].natural = self.scopes[scope].natural || natural;
            let left = members.len();
            let conditioned =
                part.children().any(|c| matches!(c.kind(), SyntaxKind::ON_CLAUSE | SyntaxKind::JOIN_USING_CLAUSE));
            for inner in part.children() {
                match inner.kind() {
                    SyntaxKind::ON_CLAUSE => {
                        let on = self.so_far(scope, outer, &members);
                        self.expressions(&inner, Place { scope: Some(on), ctes });
                    }
                    SyntaxKind::JOIN_USING_CLAUSE => self.using(&inner, scope, &members, left),
                    SyntaxKind::JOIN_INNER
                    | SyntaxKind::JOIN_LEFT
                    | SyntaxKind::JOIN_RIGHT
                    | SyntaxKind::JOIN_FULL
                    | SyntaxKind::JOIN_CROSS => {}
                    _ => members = self.operand(&inner, scope, outer, ctes, members, !conditioned),
                }
            }
        }
        self.joined(&members);
        members
    }

    /// These are joined now. What was before stands before the others.
    fn joined(&mut self, members: &[ItemId]) {
        self.joins += 1;
        for member in members.iter().rev() {
            if self.items[*member].joined_at.is_some() {
                break;
            }
            self.items[*member].joined_at = Some(self.joins);
        }
    }

    /// Walks an operand of a join behind those before it; all of them. `continues`: where it is a join itself, its first
    /// operand is what is joined to them.
    fn operand(
        &mut self,
        node: &SyntaxNode,
        scope: ScopeId,
        outer: Option<ScopeId>,
        ctes: Option<usize>,
        mut before: Vec<ItemId>,
        continues: bool,
    ) -> Vec<ItemId> {
        if continues && node.kind() == SyntaxKind::JOIN_EXPR {
            return self.join(node, scope, outer, ctes, before);
        }
        before.extend(self.walk_from_item(node, scope, outer, ctes));
        before
    }

    /// A scope that sees these items of another, as they are now.
    fn so_far(&mut self, scope: ScopeId, outer: Option<ScopeId>, items: &[ItemId]) -> ScopeId {
        self.seen_early += items.len();
        // Beyond the bound the statement is refused, whatever its names mean.
        let items = if self.seen_early > SEEN_EARLY_MAX { Vec::new() } else { items.to_vec() };
        let Scope { merged, natural, .. } = &self.scopes[scope];
        let (merged, natural) = (merged.clone(), *natural);
        let seen_at = Some(self.joins);
        self.scopes.push(Scope { parent: outer, items, merged, natural, seen_at, ..Scope::default() });
        self.scopes.len() - 1
    }

    /// The scope of a function or of LATERAL: the items before it.
    fn lateral(&mut self, scope: ScopeId, outer: Option<ScopeId>) -> ScopeId {
        let items = self.scopes[scope].items.clone();
        self.so_far(scope, outer, &items)
    }

    fn using(&mut self, clause: &SyntaxNode, scope: ScopeId, members: &[ItemId], left: usize) {
        let (left, right) = members.split_at(left.min(members.len()));
        for column in clause.descendants().filter(|n| n.kind() == SyntaxKind::COLUMN_NAME_REF) {
            if let Some((name, _)) = self.name_of(&column) {
                self.scopes[scope].merged.push(name.clone());
                self.usings.push(UsingName { name, sides: [left.to_vec(), right.to_vec()] });
            }
        }
        if let Some((alias, sql)) = self.alias(clause) {
            let names = self.scopes[scope].merged.clone();
            let item = self.item(Some(alias), sql, Columns::of(names), Source::Other);
            // A join's own alias qualifies only: its columns are not found a second time without it.
            self.items[item].columns.names.clear();
            self.scopes[scope].items.push(item);
        }
    }

    /// `(SELECT ...) AS x`, `(a JOIN b ...) AS x` or `ONLY (users)`.
    pub(super) fn paren_item(
        &mut self,
        node: &SyntaxNode,
        scope: ScopeId,
        outer: Option<ScopeId>,
        ctes: Option<usize>,
    ) {
        if has_token(node, SyntaxKind::ONLY_KW) {
            return self.relation_item(node, node, scope, ctes);
        }
        let lateral = has_token(node, SyntaxKind::LATERAL_KW);
        let aliases = child(node, SyntaxKind::FROM_ALIAS).and_then(|alias| self.column_aliases(&alias));
        let alias = child(node, SyntaxKind::FROM_ALIAS).and_then(|from_alias| self.alias(&from_alias));
        let query = node.descendants().find(|n| is_query(n.kind()) || is_join_part(n.kind()));
        let Some(inner) = node.children().find(|c| c.kind() != SyntaxKind::FROM_ALIAS) else { return };
        let is_subquery = query.is_some_and(|n| is_query(n.kind()));
        if is_subquery {
            let place = Place { scope: if lateral { Some(self.lateral(scope, outer)) } else { outer }, ctes };
            let columns = if is_query(inner.kind()) {
                self.statement(&inner, place)
            } else {
                inner.children().map(|c| self.statement(&c, place)).next().unwrap_or_default()
            };
            let (name, sql) = alias.map_or((None, String::new()), |(name, sql)| (Some(name), sql));
            let item = self.item(name, sql, rename(columns, aliases), Source::Other);
            self.scopes[scope].items.push(item);
            return;
        }
        let reads_before = self.reads.len();
        let members = self.walk_from_item(&inner, scope, outer, ctes);
        if let Some((name, sql)) = alias {
            // Its columns may be renamed by position, and its whole row named: each read in it must have all of its own.
            self.reads[reads_before..].iter_mut().for_each(|read| read.column_aliases = true);
            // An aliased join hides its members.
            let mut columns = Columns::of(Vec::new());
            for member in members.iter().filter_map(|id| self.items.get(*id)) {
                columns.complete = columns.complete && member.columns.complete;
                columns.names.extend(member.columns.names.iter().cloned());
            }
            let columns = if aliases.is_some() { Columns::unknown() } else { columns };
            let item = self.item(Some(name), sql, columns, Source::Other);
            self.scopes[scope].items.retain(|id| !members.contains(id));
            self.scopes[scope].items.push(item);
        }
    }

    fn function_item(&mut self, node: &SyntaxNode, scope: ScopeId, outer: Option<ScopeId>, ctes: Option<usize>) {
        let from_alias = child(node, SyntaxKind::FROM_ALIAS);
        let place = Place { scope: Some(self.lateral(scope, outer)), ctes };
        if let Some((call, rules, function)) = self.row_function_item(node) {
            let arguments = child(&call, SyntaxKind::ARG_LIST);
            arguments.iter().for_each(|list| self.expressions(list, place));
            let alias = from_alias.as_ref().and_then(|alias| self.alias(alias));
            let alias = alias.unwrap_or_else(|| (function.name.as_str().to_owned(), function.name.quoted()));
            self.read(rules, node, scope, Some(alias), false);
            return;
        }
        for part in node.children().filter(|part| part.kind() != SyntaxKind::FROM_ALIAS) {
            self.expressions(&part, place);
        }
        let exact = node.descendants().any(|n| n.kind() == SyntaxKind::COLUMN_DEF_LIST);
        let aliases = from_alias.as_ref().and_then(|alias| self.column_aliases(alias));
        let call = node.descendants().find(|n| n.kind() == SyntaxKind::CALL_EXPR);
        let function = call.as_ref().and_then(|call| call.children().next()).and_then(|name| self.path(&name).0.pop());
        let alias = from_alias.as_ref().and_then(|alias| self.alias(alias));
        let (name, sql) = alias.clone().unwrap_or_else(|| {
            let own = function.clone().unwrap_or_default();
            (own.clone(), quoted(&own))
        });
        let alone = node.kind() == SyntaxKind::FUNCTION_FROM_ITEM;
        let known = function.as_deref().filter(|_| alone).and_then(|function| match function {
            "unnest" => match unnested(call.as_ref()?)? {
                1 => Some(vec![name.clone()]),
                several => Some(vec!["unnest".to_owned(); several]),
            },
            // A result that has a name of its own keeps it under an alias.
            _ if VALUE_FUNCTIONS.contains(&function) => Some(vec!["value".to_owned()]),
            _ if SCALAR_FUNCTIONS.contains(&function) => Some(vec![name.clone()]),
            _ => None,
        });
        let complete = exact || known.is_some();
        let mut names = known.unwrap_or_default();
        if child(node, SyntaxKind::WITH_ORDINALITY).is_some() {
            names.push("ordinality".to_owned());
        }
        let columns = rename(Columns { names, complete: complete && !exact }, aliases);
        let item = self.item(Some(name), sql, Columns { complete, ..columns }, Source::Other);
        self.scopes[scope].items.push(item);
    }

    /// A function in FROM, alone, that gives rows of a migrating table: the call, the table and the function.
    pub(super) fn row_function_item(
        &self,
        node: &SyntaxNode,
    ) -> Option<(SyntaxNode, &'a TableRules, &'a QualifiedName)> {
        let call = child(node, SyntaxKind::CALL_EXPR).filter(|_| node.kind() == SyntaxKind::FUNCTION_FROM_ITEM)?;
        let function = self.row_function(&call).filter(|function| function.alone)?;
        Some((call, self.cx.rules.table(&function.table)?, &function.name))
    }

    pub(super) fn row_function(&self, call: &SyntaxNode) -> Option<&'a RowFunction> {
        let (name, _) = self.path(&call.children().next()?);
        self.cx.rules.row_function(&self.cx.names.path, &name)
    }
}

fn is_join_part(kind: SyntaxKind) -> bool {
    matches!(kind, SyntaxKind::JOIN_EXPR | SyntaxKind::RELATION_FROM_ITEM)
}

/// How many columns an `unnest` gives, where each argument is an array by its cast, of a type that has no parts.
fn unnested(call: &SyntaxNode) -> Option<usize> {
    let arguments: Vec<SyntaxNode> = child(call, SyntaxKind::ARG_LIST)?.children().collect();
    let of_scalars = |argument: &SyntaxNode| {
        let cast = argument.children().next().map(reads::unwrapped);
        let cast = cast.filter(|cast| cast.kind() == SyntaxKind::CAST_EXPR);
        let named = cast.and_then(|cast| cast.children().last()).map(|of| of.text().to_string().to_ascii_lowercase());
        let element = named.as_deref().and_then(|named| named.trim().strip_suffix(']')?.trim_end().strip_suffix('['));
        element.is_some_and(|element| {
            let element = element.split('(').next().unwrap_or_default().trim();
            SCALAR_TYPES.contains(&element.strip_prefix("pg_catalog.").unwrap_or(element))
        })
    };
    (!arguments.is_empty() && arguments.iter().all(of_scalars)).then_some(arguments.len())
}

/// Types whose arrays `unnest` makes one column of.
const SCALAR_TYPES: &[&str] = &[
    "bigint",
    "bool",
    "boolean",
    "bpchar",
    "bytea",
    "char",
    "character",
    "character varying",
    "date",
    "decimal",
    "double precision",
    "float4",
    "float8",
    "inet",
    "int",
    "int2",
    "int4",
    "int8",
    "integer",
    "interval",
    "json",
    "jsonb",
    "numeric",
    "oid",
    "real",
    "smallint",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "timestamp with time zone",
    "timestamp without time zone",
    "uuid",
    "varchar",
];

/// Functions of PostgreSQL that give one column whose name is `value`.
const VALUE_FUNCTIONS: &[&str] =
    &["json_array_elements", "json_array_elements_text", "jsonb_array_elements", "jsonb_array_elements_text"];

/// Functions of PostgreSQL that give one column of the item's own name.
const SCALAR_FUNCTIONS: &[&str] = &[
    "generate_series",
    "generate_subscripts",
    "json_object_keys",
    "jsonb_object_keys",
    "regexp_matches",
    "regexp_split_to_table",
    "string_to_table",
];
