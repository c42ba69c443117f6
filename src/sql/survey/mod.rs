//! Walks one statement's tree and notes what a rewrite must know: which relations are read and written, in which scope
//! every column reference stands, and what each scope's items are called.
//!
//! Resolves relation names (CTEs, path, temporaries) but decides nothing; names of columns are resolved on demand, in
//! `resolve`.

mod expressions;
mod from;
mod queries;
mod writes;

use std::collections::{HashMap, HashSet};

use squawk_syntax::{SyntaxKind, SyntaxNode, SyntaxToken};

use super::catalog::CatalogRead;
use super::read::{Piece, TABLES_MAX};
use super::{Context, Temporary};
use crate::migration::{TableRules, TableView};
use crate::schema::{Ident, QualifiedName, Relation};

pub(super) type ScopeId = usize;
pub(super) type ItemId = usize;

/// Where names are looked up: the items of one level, then the level around it.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub parent: Option<ScopeId>,
    pub items: Vec<ItemId>,
    /// Items that only a qualified name or their own reaches: `old` and `new` in RETURNING.
    pub named_only: Vec<ItemId>,
    /// The output names of the query, for ORDER BY and GROUP BY.
    pub outputs: Vec<String>,
    /// Columns that USING or NATURAL made one of several items' columns.
    pub merged: Vec<String>,
    pub natural: bool,
    /// When it saw its items, where that is before the end: what was joined later was not yet.
    pub seen_at: Option<usize>,
}

/// Something that a level of a query names: a table, subquery, function or join.
#[derive(Debug)]
pub(super) struct Item {
    /// How columns of it are qualified; `None` where they cannot be.
    pub alias: Option<String>,
    /// The alias as the client or we would write it.
    pub alias_sql: String,
    /// For a table without alias: its full name, by which columns may be qualified too.
    pub qualified: Option<QualifiedName>,
    pub columns: Columns,
    pub source: Source,
    /// Whether `alias_sql` is a name of ours, since another table has the alias too.
    pub parted: bool,
    /// When it became part of a join: that has its columns, and not its system columns.
    pub joined_at: Option<usize>,
    /// The scopes that have it, those that see a part of FROM left out.
    levels: Vec<ScopeId>,
}

/// What is known of an item's columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Columns {
    pub names: Vec<String>,
    /// Whether there are no others.
    pub complete: bool,
}

impl Columns {
    fn unknown() -> Columns {
        Columns { names: Vec::new(), complete: false }
    }

    fn of(names: Vec<String>) -> Columns {
        Columns { names, complete: true }
    }
}

/// What an item is, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A migrating table that is read: index into `reads`.
    Read(usize),
    /// The target of a writing statement: index into `targets`.
    Target(usize),
    /// `EXCLUDED` of such a target.
    Excluded(usize),
    /// Anything else.
    Other,
}

/// A migrating table that is read.
#[derive(Debug)]
pub(super) struct Read<'r> {
    pub rules: &'r TableRules,
    pub view: &'r TableView,
    pub item: ItemId,
    /// `RELATION_FROM_ITEM`, a `PAREN_FROM_ITEM` (`ONLY (users)`), a `TABLE` statement, or the `FUNCTION_FROM_ITEM` of a
    /// function that gives rows of the table.
    pub node: SyntaxNode,
    pub column_aliases: bool,
    pub in_table_statement: bool,
}

impl Read<'_> {
    /// Whether a function gives the rows: they have no system columns and no key.
    pub fn of_function(&self) -> bool {
        self.node.kind() == SyntaxKind::FUNCTION_FROM_ITEM
    }
}

/// A migrating table that is written.
#[derive(Debug)]
pub(super) struct Target<'r> {
    pub rules: &'r TableRules,
    pub view: &'r TableView,
    pub relation: Option<&'r Relation>,
    pub item: ItemId,
    pub node: SyntaxNode,
}

/// A column reference, or a whole row.
#[derive(Debug)]
pub(super) struct Reference {
    /// `["u", "username"]`.
    pub parts: Vec<String>,
    /// The places of the parts' tokens.
    pub places: Vec<usize>,
    pub node: SyntaxNode,
    pub scope: ScopeId,
    pub context: RefContext,
}

impl Reference {
    pub fn column(&self) -> &str {
        self.parts.last().map(String::as_str).unwrap_or_default()
    }
}

/// Whether a bare name may also be an output name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefContext {
    Plain,
    /// Output names come first.
    OrderBy,
    /// Input columns come first.
    GroupBy,
}

/// `*` or `t.*`.
#[derive(Debug)]
pub(super) struct Star {
    pub qualifier: Vec<String>,
    pub places: Vec<usize>,
    pub node: SyntaxNode,
    pub scope: ScopeId,
}

/// A grouped query.
#[derive(Debug)]
pub(super) struct Grouped {
    pub select: SyntaxNode,
    pub scope: ScopeId,
}

/// What PostgreSQL looks at one after the other, and reports the first mistake of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// This reference is resolved.
    Reference(usize),
    /// The target columns of an INSERT, or of a SET, are looked up; `clause` is the list or the `SET_CLAUSE`.
    Columns { item: ItemId, clause: SyntaxNode },
    /// The values of this INSERT are counted.
    Width { item: ItemId, insert: SyntaxNode },
}

/// A call of a function that gives rows of a migrating table.
#[derive(Debug)]
pub(super) struct RowCall<'r> {
    pub rules: &'r TableRules,
    pub name: String,
    pub place: usize,
    /// Whether another function of that name gives something else.
    pub doubtful: bool,
}

/// A name in `USING (...)`, and the items of the two sides that it joins: each has it once.
#[derive(Debug)]
pub(super) struct UsingName {
    pub name: String,
    pub sides: [Vec<ItemId>; 2],
}

/// Everything that one statement names.
#[derive(Debug)]
pub(super) struct Survey<'a> {
    pub piece: &'a Piece<'a>,
    pub cx: &'a Context<'a>,
    pub scopes: Vec<Scope>,
    pub items: Vec<Item>,
    pub reads: Vec<Read<'a>>,
    pub targets: Vec<Target<'a>>,
    pub references: Vec<Reference>,
    /// In the order of PostgreSQL's analysis.
    pub events: Vec<Event>,
    pub stars: Vec<Star>,
    pub grouped: Vec<Grouped>,
    pub usings: Vec<UsingName>,
    pub natural: bool,
    /// Whether what the statement reads is bound to for good (`CREATE VIEW`), and not only read now.
    pub binds: bool,
    /// Migrating tables whose row type is named (`NULL::users`), with the place.
    pub row_types: Vec<(&'a TableRules, usize)>,
    /// Calls of functions that give rows of migrating tables, where such a row is a value or stands beside others.
    pub row_calls: Vec<RowCall<'a>>,
    /// Names of functions that are called.
    pub calls: Vec<String>,
    /// Whether reads of the system catalogs are noted.
    pub masked: bool,
    /// Relations of the system catalogs that are not read as they stand.
    pub catalog: Vec<CatalogRead<'a>>,
    /// Calls of functions that tell of those, by name.
    pub catalog_calls: Vec<(String, SyntaxNode)>,
    ctes: Vec<Cte>,
    entered: HashSet<SyntaxNode>,
    /// How many joins were made.
    joins: usize,
    /// How many items the scopes that see a part of FROM have been given.
    seen_early: usize,
    sources: Vec<(SyntaxNode, Columns)>,
}

#[derive(Debug)]
struct Cte {
    name: String,
    columns: Columns,
    outer: Option<usize>,
}

/// Where a node stands: the scope that it looks names up in, and the innermost CTE that it sees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    scope: Option<ScopeId>,
    ctes: Option<usize>,
}

/// What a relation's name means.
pub(super) enum Meaning<'a> {
    Migrating(&'a TableRules),
    Known(&'a Relation),
    /// A CTE or a temporary relation: these columns.
    Columns(Columns),
    Unknown,
}

pub(super) fn is_query(kind: SyntaxKind) -> bool {
    matches!(
        kind,
        SyntaxKind::SELECT
            | SyntaxKind::SELECT_INTO
            | SyntaxKind::COMPOUND_SELECT
            | SyntaxKind::PAREN_SELECT
            | SyntaxKind::VALUES
            | SyntaxKind::TABLE
    )
}

pub(super) fn is_statement(kind: SyntaxKind) -> bool {
    is_query(kind) || matches!(kind, SyntaxKind::INSERT | SyntaxKind::UPDATE | SyntaxKind::DELETE | SyntaxKind::MERGE)
}

pub(super) fn child(node: &SyntaxNode, kind: SyntaxKind) -> Option<SyntaxNode> {
    node.children().find(|child| child.kind() == kind)
}

pub(super) fn has_token(node: &SyntaxNode, kind: SyntaxKind) -> bool {
    node.children_with_tokens().any(|element| element.kind() == kind)
}

fn first_token(node: &SyntaxNode) -> Option<SyntaxToken> {
    node.descendants_with_tokens().filter_map(|element| element.into_token()).find(|token| !token.kind().is_trivia())
}

impl<'a> Survey<'a> {
    /// Walks the statement. `masked`: reads of the system catalogs are noted.
    pub fn of(piece: &'a Piece<'a>, statement: &SyntaxNode, cx: &'a Context<'a>, masked: bool) -> Survey<'a> {
        let mut survey = Survey {
            piece,
            cx,
            scopes: Vec::new(),
            items: Vec::new(),
            reads: Vec::new(),
            targets: Vec::new(),
            references: Vec::new(),
            events: Vec::new(),
            stars: Vec::new(),
            grouped: Vec::new(),
            usings: Vec::new(),
            natural: false,
            binds: matches!(statement.kind(), SyntaxKind::CREATE_VIEW | SyntaxKind::CREATE_MATERIALIZED_VIEW),
            row_types: Vec::new(),
            row_calls: Vec::new(),
            calls: Vec::new(),
            masked,
            catalog: Vec::new(),
            catalog_calls: Vec::new(),
            ctes: Vec::new(),
            entered: HashSet::new(),
            joins: 0,
            seen_early: 0,
            sources: Vec::new(),
        };
        survey.statement(statement, Place { scope: None, ctes: None });
        for (level, scope) in survey.scopes.iter().enumerate().filter(|(_, scope)| scope.seen_at.is_none()) {
            scope.items.iter().for_each(|item| survey.items[*item].levels.push(level));
        }
        survey.part_namesakes(statement);
        survey
    }

    /// Whether it has more tables than are held against each other, or joins that see more than is noted.
    pub fn is_too_large(&self) -> bool {
        self.reads.len() > TABLES_MAX || self.seen_early > from::SEEN_EARLY_MAX
    }

    /// Tables of one name from two schemas may stand side by side, if every use of them has its schema; two inline views
    /// may not: ours gets an alias of its own. Where one is used without its schema both keep their name.
    fn part_namesakes(&mut self, statement: &SyntaxNode) {
        if !self.targets.is_empty() || self.is_too_large() || self.named_twice().is_some() {
            return;
        }
        let mut apart: HashMap<String, bool> = HashMap::new();
        for item in self.reads.iter().map(|read| read.item).collect::<Vec<_>>() {
            let Some(name) = self.items[item].alias.clone().filter(|_| self.has_namesake(item)) else { continue };
            if *apart.entry(name.clone()).or_insert_with_key(|name| self.is_always_qualified(statement, name)) {
                self.items[item].alias_sql = quoted(&format!("~{name}"));
                self.items[item].parted = true;
            }
        }
    }

    /// The name of a table that stands beside itself without an alias, which PostgreSQL takes in no FROM.
    pub fn named_twice(&self) -> Option<&str> {
        // MERGE has words of its own for it.
        if self.targets.iter().any(|target| target.node.kind() == SyntaxKind::MERGE) {
            return None;
        }
        let ours = |item: &Item| matches!(item.source, Source::Read(_) | Source::Target(_));
        self.scopes.iter().filter(|scope| scope.seen_at.is_none()).find_map(|scope| {
            let mut seen = HashSet::new();
            let mut items = scope.items.iter().map(|id| &self.items[*id]).filter(|item| ours(item));
            let twice = items.find(|item| item.qualified.is_some() && !seen.insert((&item.alias, &item.qualified)));
            twice.and_then(|item| item.alias.as_deref())
        })
    }

    /// Whether a table of the same name stands beside the item.
    pub fn has_namesake(&self, item: ItemId) -> bool {
        let own = &self.items[item];
        let beside = own.levels.iter().flat_map(|level| &self.scopes[*level].items);
        own.qualified.is_some()
            && beside
                .map(|other| (*other, &self.items[*other]))
                .any(|(id, other)| id != item && other.alias == own.alias && other.qualified.is_some())
    }

    /// Whether the name stands only as a table's in FROM, and behind a schema before a column or star.
    fn is_always_qualified(&self, statement: &SyntaxNode, name: &str) -> bool {
        let relations = statement.descendants().filter(|node| node.kind() == SyntaxKind::RELATION_NAME_REF);
        let mut places: Vec<usize> = relations.filter_map(|node| self.path(&node).1.last().copied()).collect();
        let references = self.references.iter().filter(|r| r.parts.len() >= 3);
        places.extend(references.filter_map(|r| r.places.get(r.places.len() - 2)));
        places.extend(self.stars.iter().filter(|s| s.qualifier.len() >= 2).filter_map(|s| s.places.last()));
        places.sort_unstable();
        let mut uses = self.piece.tokens.iter().filter(|(_, own)| own.as_deref() == Some(name));
        uses.all(|(token, _)| places.binary_search(&token.start).is_ok())
    }

    /// What the source query of an INSERT, or of `(a, b) = (SELECT ...)`, gives.
    pub fn query_columns(&self, source: &SyntaxNode) -> Option<&Columns> {
        self.sources.iter().find(|(node, _)| node == source).map(|(_, columns)| columns)
    }

    /// The name that a node's first token stands for.
    pub fn name_of(&self, node: &SyntaxNode) -> Option<(String, usize)> {
        let token = first_token(node)?;
        let place = self.piece.range.start + usize::from(token.text_range().start());
        Some((self.piece.name_at(place)?.to_owned(), place))
    }

    /// The parts of a path (`public.users`) with their places.
    pub fn path(&self, node: &SyntaxNode) -> (Vec<String>, Vec<usize>) {
        node.descendants_with_tokens()
            .filter_map(|element| element.into_token())
            .filter_map(|token| {
                let place = self.piece.range.start + usize::from(token.text_range().start());
                Some((self.piece.name_at(place)?.to_owned(), place))
            })
            .unzip()
    }

    /// What a relation's name means at this place.
    fn meaning(&self, parts: &[String], ctes: Option<usize>) -> Meaning<'a> {
        if let [name] = parts {
            let mut next = ctes;
            while let Some(cte) = next.and_then(|index| self.ctes.get(index)) {
                if &cte.name == name {
                    return Meaning::Columns(cte.columns.clone());
                }
                next = cte.outer;
            }
        }
        relation_meaning(self.cx, parts)
    }

    fn scope(&mut self, parent: Option<ScopeId>) -> ScopeId {
        self.scopes.push(Scope { parent, ..Scope::default() });
        self.scopes.len() - 1
    }

    fn item(&mut self, alias: Option<String>, alias_sql: String, columns: Columns, source: Source) -> ItemId {
        self.items.push(Item {
            alias,
            alias_sql,
            qualified: None,
            columns,
            source,
            parted: false,
            joined_at: None,
            levels: Vec::new(),
        });
        self.items.len() - 1
    }

    /// A relation that is not migrating, under its alias or its own name.
    fn named_item(
        &mut self,
        parts: &[String],
        alias: Option<(String, String)>,
        columns: Columns,
        scope: ScopeId,
    ) -> ItemId {
        let plain = alias.is_none();
        let own = parts.last().cloned().unwrap_or_default();
        let (alias, sql) = alias.unwrap_or_else(|| (own.clone(), quoted(&own)));
        let item = self.item(Some(alias), sql, columns, Source::Other);
        if plain && let [.., schema, table] = parts {
            self.items[item].qualified = qualified(schema, table);
        }
        self.scopes[scope].items.push(item);
        item
    }

    /// Walks a statement or query; its output columns.
    fn statement(&mut self, node: &SyntaxNode, place: Place) -> Columns {
        match node.kind() {
            SyntaxKind::SELECT | SyntaxKind::SELECT_INTO => self.select(node, place),
            SyntaxKind::COMPOUND_SELECT => self.compound(node, place),
            SyntaxKind::PAREN_SELECT => self.paren_select(node, place),
            SyntaxKind::VALUES => self.values(node, place),
            SyntaxKind::TABLE => self.table(node, place),
            SyntaxKind::INSERT => self.insert(node, place),
            SyntaxKind::UPDATE | SyntaxKind::DELETE => self.update_or_delete(node, place),
            SyntaxKind::MERGE => self.merge(node, place),
            _ => {
                // EXPLAIN, PREPARE, COPY (query), CREATE TABLE AS ...: the statement stands inside.
                let mut columns = Columns::unknown();
                for inner in node.children() {
                    columns = self.statement(&inner, place);
                }
                columns
            }
        }
    }

    /// Where a relation is named with its schema, before a column or a star: the parts of its name, their places, the scope.
    pub fn schema_qualified(&self) -> impl Iterator<Item = (&[String], &[usize], ScopeId)> {
        let references = self
            .references
            .iter()
            .filter(|r| r.parts.len() >= 3)
            .map(|r| (&r.parts[..r.parts.len() - 1], &r.places[..r.places.len() - 1], r.scope));
        let stars = self
            .stars
            .iter()
            .filter(|s| s.qualifier.len() >= 2)
            .map(|s| (s.qualifier.as_slice(), s.places.as_slice(), s.scope));
        references.chain(stars)
    }

    /// What `*` or `t.*` stands for. Merged columns are left out twice at most: only names matter here.
    pub fn star_columns(&self, qualifier: &[String], scope: ScopeId) -> Columns {
        let mut columns = Columns::of(Vec::new());
        let mut next = Some(scope);
        while let Some(at) = next.and_then(|id| self.scopes.get(id)) {
            let mut found = false;
            let named_only = at.named_only.iter().filter(|_| !qualifier.is_empty());
            for item in at.items.iter().chain(named_only).filter_map(|id| self.items.get(*id)) {
                let named = match qualifier {
                    [] => true,
                    [alias] => item.alias.as_ref() == Some(alias),
                    [.., schema, table] => item
                        .qualified
                        .as_ref()
                        .is_some_and(|name| name.schema.as_str() == schema && name.name.as_str() == table),
                };
                if named {
                    found = true;
                    columns.complete = columns.complete && item.columns.complete;
                    let fresh = item.columns.names.iter();
                    let merged = &at.merged;
                    let fresh: Vec<String> = fresh
                        .filter(|name| !(qualifier.is_empty() && merged.contains(name) && columns.names.contains(name)))
                        .cloned()
                        .collect();
                    columns.names.extend(fresh);
                }
            }
            if found || qualifier.is_empty() {
                columns.complete = columns.complete && (!at.natural || !qualifier.is_empty());
                return columns;
            }
            next = at.parent;
        }
        Columns::unknown()
    }
}

/// What a relation's name means where no CTE has it.
pub(super) fn relation_meaning<'a>(cx: &Context<'a>, parts: &[String]) -> Meaning<'a> {
    let found = match parts {
        [name] => {
            let Ok(name) = Ident::new(name) else { return Meaning::Unknown };
            if let Some(relation) = cx.names.temporary(&name) {
                return temporary(relation);
            }
            cx.rules.catalog().find(&cx.names.path, &name)
        }
        [schema, table] if schema == "pg_temp" => {
            let name = Ident::new(table).ok();
            return name.and_then(|name| cx.names.temporary(&name)).map_or(Meaning::Unknown, temporary);
        }
        [.., schema, table] => match qualified(schema, table) {
            Some(name) => cx.rules.catalog().relation(&name),
            None => None,
        },
        [] => None,
    };
    match found {
        Some(relation) => match cx.rules.table(&relation.name) {
            Some(rules) => Meaning::Migrating(rules),
            None => Meaning::Known(relation),
        },
        None => Meaning::Unknown,
    }
}

fn temporary<'a>(relation: &Temporary) -> Meaning<'a> {
    match &relation.columns {
        Some(columns) => Meaning::Columns(Columns::of(columns.iter().map(|name| name.as_str().to_owned()).collect())),
        None => Meaning::Unknown,
    }
}

fn qualified(schema: &str, table: &str) -> Option<QualifiedName> {
    Some(QualifiedName { schema: Ident::new(schema).ok()?, name: Ident::new(table).ok()? })
}

/// The parts of a statement in the order in which PostgreSQL analyses them.
fn in_order(node: &SyntaxNode, rank: fn(SyntaxKind) -> u8) -> Vec<SyntaxNode> {
    let mut parts: Vec<SyntaxNode> = node.children().collect();
    parts.sort_by_key(|part| rank(part.kind()));
    parts
}

/// The columns under the names that an alias list gives them, from the first on.
fn rename(mut columns: Columns, aliases: Option<Vec<String>>) -> Columns {
    let Some(aliases) = aliases else { return columns };
    if !columns.complete {
        return Columns { names: aliases, complete: false };
    }
    for (index, alias) in aliases.into_iter().enumerate() {
        match columns.names.get_mut(index) {
            Some(name) => *name = alias,
            None => columns.names.push(alias),
        }
    }
    columns
}

fn relation_columns(relation: &Relation) -> Columns {
    Columns::of(relation.columns.iter().map(|column| column.name.as_str().to_owned()).collect())
}

fn quoted(name: &str) -> String {
    Ident::new(name).map(|ident| ident.quoted()).unwrap_or_default()
}

/// Whether the alias belongs to the node itself and not to something inside it.
fn direct_alias(alias: &SyntaxNode, node: &SyntaxNode) -> bool {
    let parent = alias.parent();
    parent.as_ref() == Some(node) || parent.and_then(|parent| parent.parent()).as_ref() == Some(node)
}
