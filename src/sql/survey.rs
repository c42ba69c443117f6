//! Walks one statement's tree and notes what a rewrite must know: which relations are read and written, in which scope
//! every column reference stands, and what each scope's items are called.
//!
//! Resolves relation names (CTEs, path, temporaries) but decides nothing; names of columns are resolved on demand, in
//! `resolve`.

use squawk_syntax::{SyntaxKind, SyntaxNode, SyntaxToken};

use super::catalog::CatalogRead;
use super::read::Piece;
use super::{Context, Temporary};
use crate::migration::{Route, TableRules, TableView};
use crate::schema::{Ident, QualifiedName, Relation, RowFunction};

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

/// A name in `USING (...)`, and the items it joins.
#[derive(Debug)]
pub(super) struct UsingName {
    pub name: String,
    pub items: Vec<ItemId>,
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
    entered: Vec<SyntaxNode>,
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
            entered: Vec::new(),
            sources: Vec::new(),
        };
        survey.statement(statement, Place { scope: None, ctes: None });
        survey.part_namesakes(statement);
        survey
    }

    /// Tables of one name from two schemas may stand side by side, if every use of them has its schema; two inline views
    /// may not: ours gets an alias of its own. Where one is used without its schema both keep their name.
    fn part_namesakes(&mut self, statement: &SyntaxNode) {
        if !self.targets.is_empty() {
            return;
        }
        for item in self.reads.iter().map(|read| read.item).collect::<Vec<_>>() {
            let Some(name) = self.items[item].alias.clone() else { continue };
            if self.has_namesake(item) && self.is_always_qualified(statement, &name) {
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
        self.scopes.iter().find_map(|scope| {
            let items: Vec<&Item> = scope.items.iter().map(|id| &self.items[*id]).filter(|item| ours(item)).collect();
            let twice = items.iter().enumerate().find(|(at, item)| {
                let same = |other: &&Item| other.alias == item.alias && other.qualified == item.qualified;
                item.qualified.is_some() && items[..*at].iter().any(same)
            });
            twice.and_then(|(_, item)| item.alias.as_deref())
        })
    }

    /// Whether a table of the same name stands beside the item.
    pub fn has_namesake(&self, item: ItemId) -> bool {
        let own = &self.items[item];
        let beside = self.scopes.iter().filter(|scope| scope.items.contains(&item)).flat_map(|scope| &scope.items);
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
        let mut uses = self.piece.tokens.iter().filter(|(_, own)| own.as_deref() == Some(name));
        uses.all(|(token, _)| places.contains(&token.start))
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
        self.items.push(Item { alias, alias_sql, qualified: None, columns, source, parted: false });
        self.items.len() - 1
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

    /// Enters the CTEs of a `WITH`; the place behind it.
    fn with_clause(&mut self, node: &SyntaxNode, place: Place) -> Place {
        let Some(clause) = child(node, SyntaxKind::WITH_CLAUSE) else { return place };
        if self.entered.contains(&clause) {
            return place;
        }
        self.entered.push(clause.clone());
        let recursive = has_token(&clause, SyntaxKind::RECURSIVE_KW);
        let mut place = place;
        let tables: Vec<SyntaxNode> = clause.children().filter(|c| c.kind() == SyntaxKind::WITH_TABLE).collect();
        if recursive {
            // Every CTE of a recursive WITH sees itself and, as far as a name goes, the later ones.
            for table in &tables {
                let name = child(table, SyntaxKind::CTE_NAME).and_then(|n| self.name_of(&n)).map(|n| n.0);
                let columns = self.column_aliases(table).map_or(Columns::unknown(), Columns::of);
                let columns = if columns.complete { columns } else { self.recursive_columns(table) };
                place = self.enter_cte(name.unwrap_or_default(), columns, place);
            }
        }
        for table in &tables {
            let name = child(table, SyntaxKind::CTE_NAME).and_then(|n| self.name_of(&n)).map(|n| n.0);
            let aliases = self.column_aliases(table);
            let mut columns = Columns::unknown();
            for part in table.children() {
                if is_statement(part.kind()) {
                    columns = self.statement(&part, place);
                } else {
                    // SEARCH and CYCLE add columns that only a name can reach.
                    let adds = matches!(part.kind(), SyntaxKind::SEARCH_CLAUSE | SyntaxKind::CYCLE_CLAUSE);
                    columns.complete = columns.complete && !adds;
                }
            }
            let columns = rename(columns, aliases);
            if recursive {
                let found = self.ctes.iter_mut().rfind(|cte| Some(&cte.name) == name.as_ref());
                if let Some(cte) = found {
                    cte.columns = columns;
                }
            } else {
                place = self.enter_cte(name.unwrap_or_default(), columns, place);
            }
        }
        place
    }

    fn enter_cte(&mut self, name: String, columns: Columns, place: Place) -> Place {
        self.ctes.push(Cte { name, columns, outer: place.ctes });
        Place { ctes: Some(self.ctes.len() - 1), ..place }
    }

    /// What a recursive CTE's outputs are called, as far as its first branch's target list tells without reading it.
    fn recursive_columns(&self, table: &SyntaxNode) -> Columns {
        let first = table.descendants().find(|node| node.kind() == SyntaxKind::TARGET_LIST);
        let Some(first) = first else { return Columns::unknown() };
        let mut names = Vec::new();
        for target in first.children() {
            match self.target_name(&target) {
                Some(name) => names.push(name),
                None => return Columns::unknown(),
            }
        }
        Columns::of(names)
    }

    fn column_aliases(&self, node: &SyntaxNode) -> Option<Vec<String>> {
        let list = node
            .children()
            .find(|child| matches!(child.kind(), SyntaxKind::COLUMN_LIST | SyntaxKind::COLUMN_DEF_LIST))?;
        Some(list.children().filter_map(|column| self.name_of(&column)).map(|(name, _)| name).collect())
    }

    fn select(&mut self, node: &SyntaxNode, place: Place) -> Columns {
        let place = self.with_clause(node, place);
        self.select_body(node, place)
    }

    fn select_body(&mut self, node: &SyntaxNode, place: Place) -> Columns {
        let scope = self.scope(place.scope);
        let inner = Place { scope: Some(scope), ctes: place.ctes };
        if let Some(from) = child(node, SyntaxKind::FROM_CLAUSE) {
            self.walk_from(&from, scope, place.scope, place.ctes);
        }
        let clause = child(node, SyntaxKind::SELECT_CLAUSE);
        let list = clause.as_ref().and_then(|clause| child(clause, SyntaxKind::TARGET_LIST));
        let outputs = list.map_or_else(|| Columns::of(Vec::new()), |list| self.outputs(&list, scope));
        self.scopes[scope].outputs = outputs.names.clone();
        for part in in_order(node, select_rank) {
            match part.kind() {
                SyntaxKind::WITH_CLAUSE | SyntaxKind::FROM_CLAUSE | SyntaxKind::INTO_CLAUSE => {}
                SyntaxKind::LOCKING_CLAUSE => {}
                SyntaxKind::GROUP_BY_CLAUSE => {
                    self.grouped.push(Grouped { select: node.clone(), scope });
                    self.expressions(&part, inner);
                }
                _ => self.expressions(&part, inner),
            }
        }
        outputs
    }

    /// The output names of a target list: stars expanded where their items are known.
    fn outputs(&self, list: &SyntaxNode, scope: ScopeId) -> Columns {
        let mut columns = Columns::of(Vec::new());
        for target in list.children().filter(|c| c.kind() == SyntaxKind::TARGET) {
            match self.target_name(&target) {
                Some(name) => columns.names.push(name),
                None => {
                    let (qualifier, _) = self.path(&target);
                    let expanded = self.star_columns(&qualifier, scope);
                    columns.complete = columns.complete && expanded.complete;
                    columns.names.extend(expanded.names);
                }
            }
        }
        columns
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

    fn compound(&mut self, node: &SyntaxNode, place: Place) -> Columns {
        // The grammar hangs a leading WITH on the leftmost operand; it holds for the whole.
        let mut leftmost = node.clone();
        while leftmost.kind() == SyntaxKind::COMPOUND_SELECT {
            match leftmost.children().next() {
                Some(first) => leftmost = first,
                None => break,
            }
        }
        let place = if leftmost.kind() == SyntaxKind::PAREN_SELECT && !has_leading_with(&leftmost) {
            place
        } else {
            self.with_clause(&leftmost, place)
        };
        self.compound_body(node, place, &leftmost)
    }

    fn compound_body(&mut self, node: &SyntaxNode, place: Place, leftmost: &SyntaxNode) -> Columns {
        let scope = self.scope(place.scope);
        let inner = Place { scope: Some(scope), ctes: place.ctes };
        let mut outputs = None;
        for part in node.children() {
            let kind = part.kind();
            let columns = match kind {
                SyntaxKind::COMPOUND_SELECT => Some(self.compound_body(&part, place, leftmost)),
                SyntaxKind::SELECT | SyntaxKind::SELECT_INTO if &part == leftmost => {
                    Some(self.select_body(&part, place))
                }
                _ if is_query(kind) => Some(self.statement(&part, place)),
                SyntaxKind::PAREN_EXPR => {
                    part.children().find(|c| is_query(c.kind())).map(|c| self.statement(&c, place))
                }
                _ => {
                    if outputs.is_some() {
                        self.scopes[scope].outputs = Option::<Columns>::clone(&outputs).unwrap_or_default().names;
                    }
                    self.expressions(&part, inner);
                    None
                }
            };
            outputs = outputs.or(columns);
        }
        outputs.unwrap_or_default()
    }

    fn paren_select(&mut self, node: &SyntaxNode, place: Place) -> Columns {
        let place = self.with_clause(node, place);
        let scope = self.scope(place.scope);
        let mut outputs = Columns::unknown();
        for part in node.children().filter(|part| part.kind() != SyntaxKind::WITH_CLAUSE) {
            if is_query(part.kind()) {
                outputs = self.statement(&part, place);
                self.scopes[scope].outputs = outputs.names.clone();
            } else {
                self.expressions(&part, Place { scope: Some(scope), ctes: place.ctes });
            }
        }
        outputs
    }

    fn values(&mut self, node: &SyntaxNode, place: Place) -> Columns {
        let place = self.with_clause(node, place);
        let scope = self.scope(place.scope);
        let rows = child(node, SyntaxKind::ROW_LIST);
        let width = rows.and_then(|rows| rows.children().next()).map_or(0, |row| row.children().count());
        let names: Vec<String> = (1..=width).map(|index| format!("column{index}")).collect();
        self.scopes[scope].outputs = names.clone();
        for part in node.children().filter(|part| part.kind() != SyntaxKind::WITH_CLAUSE) {
            self.expressions(&part, Place { scope: Some(scope), ctes: place.ctes });
        }
        Columns::of(names)
    }

    fn table(&mut self, node: &SyntaxNode, place: Place) -> Columns {
        let place = self.with_clause(node, place);
        let scope = self.scope(place.scope);
        // The WITH clause comes first in the tree, and has relations of its own.
        let own = node.children().filter(|part| part.kind() != SyntaxKind::WITH_CLAUSE);
        let name = own.flat_map(|part| part.descendants().collect::<Vec<_>>());
        let Some(name) = name.into_iter().find(|n| n.kind() == SyntaxKind::RELATION_NAME_REF) else {
            return Columns::unknown();
        };
        let (parts, _) = self.path(&name);
        let columns = match self.meaning(&parts, place.ctes) {
            Meaning::Migrating(rules) => self.read(rules, node, scope, None, true),
            Meaning::Known(relation) => relation_columns(relation),
            Meaning::Columns(columns) => columns,
            Meaning::Unknown => Columns::unknown(),
        };
        self.scopes[scope].outputs = columns.names.clone();
        for part in node.children().filter(|part| part.kind() != SyntaxKind::WITH_CLAUSE) {
            self.expressions(&part, Place { scope: Some(scope), ctes: place.ctes });
        }
        columns
    }

    /// Notes a read of a migrating table; the columns that the session sees.
    fn read(
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
    fn walk_from(&mut self, clause: &SyntaxNode, scope: ScopeId, outer: Option<ScopeId>, ctes: Option<usize>) {
        for item in clause.children() {
            self.walk_from_item(&item, scope, outer, ctes);
        }
    }

    /// Walks one item of FROM; what it adds to the scope.
    fn walk_from_item(
        &mut self,
        node: &SyntaxNode,
        scope: ScopeId,
        outer: Option<ScopeId>,
        ctes: Option<usize>,
    ) -> Vec<ItemId> {
        let before = self.scopes[scope].items.len();
        match node.kind() {
            SyntaxKind::RELATION_FROM_ITEM => self.relation_item(node, node, scope, ctes),
            SyntaxKind::JOIN_EXPR => self.join(node, scope, outer, ctes),
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
            | SyntaxKind::XML_TABLE_FROM_ITEM => self.function_item(node, scope, ctes),
            _ => self.expressions(node, Place { scope: Some(scope), ctes }),
        }
        self.scopes[scope].items[before..].to_vec()
    }

    /// A table, view or CTE in FROM. `named` is the node with the relation's name, `node` the one with the alias.
    fn relation_item(&mut self, named: &SyntaxNode, node: &SyntaxNode, scope: ScopeId, ctes: Option<usize>) {
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
        let own = parts.last().cloned().unwrap_or_default();
        let (alias, sql) = alias.unwrap_or_else(|| (own.clone(), quoted(&own)));
        let item = self.item(Some(alias), sql, columns, Source::Other);
        if plain && let [.., schema, table] = parts.as_slice() {
            self.items[item].qualified = qualified(schema, table);
        }
        self.scopes[scope].items.push(item);
        if let Some((mask, name)) = mask {
            if plain {
                self.items[item].qualified = Some(name.clone());
            }
            self.catalog.push(CatalogRead { mask, item, node: node.clone(), name });
        }
    }

    fn alias(&self, node: &SyntaxNode) -> Option<(String, String)> {
        let alias = node.descendants().find(|n| n.kind() == SyntaxKind::TABLE_ALIAS && direct_alias(n, node))?;
        Some((self.name_of(&alias)?.0, self.piece.text_of(&alias).to_owned()))
    }

    fn join(&mut self, node: &SyntaxNode, scope: ScopeId, outer: Option<ScopeId>, ctes: Option<usize>) {
        let mut members = Vec::new();
        for part in node.children() {
            if part.kind() != SyntaxKind::JOIN {
                members.extend(self.walk_from_item(&part, scope, outer, ctes));
                continue;
            }
            let natural = has_token(&part, SyntaxKind::NATURAL_KW);
            self.natural = self.natural || natural;
            self.scopes[scope].natural = self.scopes[scope].natural || natural;
            for inner in part.children() {
                match inner.kind() {
                    SyntaxKind::ON_CLAUSE => {
                        let on = self.scope(outer);
                        self.scopes[on].items = members.clone();
                        self.scopes[on].merged = self.scopes[scope].merged.clone();
                        self.scopes[on].natural = self.scopes[scope].natural;
                        self.expressions(&inner, Place { scope: Some(on), ctes });
                    }
                    SyntaxKind::JOIN_USING_CLAUSE => self.using(&inner, scope, &members),
                    SyntaxKind::JOIN_INNER
                    | SyntaxKind::JOIN_LEFT
                    | SyntaxKind::JOIN_RIGHT
                    | SyntaxKind::JOIN_FULL
                    | SyntaxKind::JOIN_CROSS => {}
                    _ => members.extend(self.walk_from_item(&inner, scope, outer, ctes)),
                }
            }
        }
    }

    fn using(&mut self, clause: &SyntaxNode, scope: ScopeId, members: &[ItemId]) {
        for column in clause.descendants().filter(|n| n.kind() == SyntaxKind::COLUMN_NAME_REF) {
            if let Some((name, _)) = self.name_of(&column) {
                self.scopes[scope].merged.push(name.clone());
                self.usings.push(UsingName { name, items: members.to_vec() });
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
    fn paren_item(&mut self, node: &SyntaxNode, scope: ScopeId, outer: Option<ScopeId>, ctes: Option<usize>) {
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
            let columns = if is_query(inner.kind()) {
                self.statement(&inner, Place { scope: if lateral { Some(scope) } else { outer }, ctes })
            } else {
                let place = Place { scope: if lateral { Some(scope) } else { outer }, ctes };
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

    fn function_item(&mut self, node: &SyntaxNode, scope: ScopeId, ctes: Option<usize>) {
        let from_alias = child(node, SyntaxKind::FROM_ALIAS);
        if let Some((call, rules, function)) = self.row_function_item(node) {
            let arguments = child(&call, SyntaxKind::ARG_LIST);
            arguments.iter().for_each(|list| self.expressions(list, Place { scope: Some(scope), ctes }));
            let alias = from_alias.as_ref().and_then(|alias| self.alias(alias));
            let alias = alias.unwrap_or_else(|| (function.name.as_str().to_owned(), function.name.quoted()));
            self.read(rules, node, scope, Some(alias), false);
            return;
        }
        for part in node.children().filter(|part| part.kind() != SyntaxKind::FROM_ALIAS) {
            self.expressions(&part, Place { scope: Some(scope), ctes });
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
    fn row_function_item(&self, node: &SyntaxNode) -> Option<(SyntaxNode, &'a TableRules, &'a QualifiedName)> {
        let call = child(node, SyntaxKind::CALL_EXPR).filter(|_| node.kind() == SyntaxKind::FUNCTION_FROM_ITEM)?;
        let function = self.row_function(&call).filter(|function| function.alone)?;
        Some((call, self.cx.rules.table(&function.table)?, &function.name))
    }

    fn row_function(&self, call: &SyntaxNode) -> Option<&'a RowFunction> {
        let (name, _) = self.path(&call.children().next()?);
        self.cx.rules.row_function(&self.cx.names.path, &name)
    }

    fn target(&mut self, rules: &'a TableRules, node: &SyntaxNode) -> ItemId {
        let view = rules.write_view(self.cx.shape);
        let names = view.columns.iter().map(|column| column.name.as_str().to_owned()).collect();
        let alias_node =
            node.children().find(|c| matches!(c.kind(), SyntaxKind::OPTIONAL_AS_ALIAS | SyntaxKind::REQUIRED_AS_ALIAS));
        let alias = alias_node.and_then(|alias| self.alias(&alias));
        let plain = alias.is_none();
        let (alias, sql) = alias.unwrap_or_else(|| (rules.table.name.as_str().to_owned(), rules.table.name.quoted()));
        let item = self.item(Some(alias), sql, Columns::of(names), Source::Target(self.targets.len()));
        if plain {
            self.items[item].qualified = Some(rules.table.clone());
        }
        let relation = self.cx.rules.catalog().relation(&rules.table).map(|relation| relation.as_ref());
        self.targets.push(Target { rules, view, relation, item, node: node.clone() });
        item
    }

    /// The item of a written table, migrating or not.
    fn written(&mut self, node: &SyntaxNode, scope: ScopeId) -> ItemId {
        let name = node
            .children()
            .flat_map(|part| part.descendants().collect::<Vec<_>>())
            .find(|n| matches!(n.kind(), SyntaxKind::RELATION_NAME_REF | SyntaxKind::TABLE_NAME_REF));
        // The WITH clause comes first in the tree, and has relations of its own.
        let name = node
            .children()
            .filter(|part| part.kind() != SyntaxKind::WITH_CLAUSE)
            .find_map(|part| {
                part.descendants()
                    .find(|n| matches!(n.kind(), SyntaxKind::RELATION_NAME_REF | SyntaxKind::TABLE_NAME_REF))
            })
            .or(name);
        let parts = name.map(|name| self.path(&name).0).unwrap_or_default();
        let columns = match relation_meaning(self.cx, &parts) {
            Meaning::Migrating(rules) => {
                let item = self.target(rules, node);
                self.scopes[scope].items.push(item);
                return item;
            }
            Meaning::Known(relation) => relation_columns(relation),
            Meaning::Columns(columns) => columns,
            Meaning::Unknown => Columns::unknown(),
        };
        let alias_node =
            node.children().find(|c| matches!(c.kind(), SyntaxKind::OPTIONAL_AS_ALIAS | SyntaxKind::REQUIRED_AS_ALIAS));
        let alias = alias_node.and_then(|alias| self.alias(&alias));
        let plain = alias.is_none();
        let own = parts.last().cloned().unwrap_or_default();
        let (alias, sql) = alias.unwrap_or_else(|| (own.clone(), quoted(&own)));
        let item = self.item(Some(alias), sql, columns, Source::Other);
        if plain && let [.., schema, table] = parts.as_slice() {
            self.items[item].qualified = qualified(schema, table);
        }
        self.scopes[scope].items.push(item);
        item
    }

    fn insert(&mut self, node: &SyntaxNode, place: Place) -> Columns {
        let place = self.with_clause(node, place);
        let scope = self.scope(place.scope);
        let item = self.written(node, scope);
        let mut outputs = Columns::of(Vec::new());
        for part in node.children() {
            match part.kind() {
                SyntaxKind::WITH_CLAUSE | SyntaxKind::RELATION_NAME_REF | SyntaxKind::REQUIRED_AS_ALIAS => {}
                SyntaxKind::COLUMN_TARGET_LIST => self.events.push(Event::Columns { item, clause: part }),
                kind if is_query(kind) => {
                    let columns = self.statement(&part, Place { scope: place.scope, ctes: place.ctes });
                    self.sources.push((part, columns));
                    self.events.push(Event::Width { item, insert: node.clone() });
                }
                SyntaxKind::ON_CONFLICT_CLAUSE => self.on_conflict(&part, scope, item, place),
                SyntaxKind::RETURNING_CLAUSE => outputs = self.returning(&part, scope, place.ctes),
                _ => self.expressions(&part, Place { scope: Some(scope), ctes: place.ctes }),
            }
        }
        outputs
    }

    fn on_conflict(&mut self, node: &SyntaxNode, scope: ScopeId, target: ItemId, place: Place) {
        let both = self.scope(place.scope);
        let source = match self.items[target].source {
            Source::Target(index) => Source::Excluded(index),
            Source::Read(_) | Source::Excluded(_) | Source::Other => Source::Other,
        };
        let columns = self.items[target].columns.clone();
        let excluded = self.item(Some("excluded".to_owned()), "excluded".to_owned(), columns, source);
        self.scopes[both].items = vec![target, excluded];
        for part in node.children() {
            let action = part.kind() == SyntaxKind::CONFLICT_DO_UPDATE_SET;
            let within = Place { scope: Some(if action { both } else { scope }), ctes: place.ctes };
            if !action {
                self.expressions(&part, within);
                continue;
            }
            for inner in part.children() {
                self.expressions(&inner, within);
                if inner.kind() == SyntaxKind::SET_CLAUSE {
                    self.events.push(Event::Columns { item: target, clause: inner });
                }
            }
        }
    }

    fn returning(&mut self, node: &SyntaxNode, scope: ScopeId, ctes: Option<usize>) -> Columns {
        self.row_versions(node, scope);
        let outputs = child(node, SyntaxKind::TARGET_LIST).map(|list| self.outputs(&list, scope));
        self.expressions(node, Place { scope: Some(scope), ctes });
        outputs.unwrap_or_default()
    }

    /// From version 18 on, `old` and `new` are the written row before and after, unless something else has the name;
    /// `RETURNING WITH (OLD AS o)` calls it otherwise. Older servers refuse the name in any text.
    fn row_versions(&mut self, returning: &SyntaxNode, scope: ScopeId) {
        let target = self.scopes[scope].items.iter().find_map(|item| match self.items[*item].source {
            Source::Target(target) => Some((target, self.items[*item].columns.clone())),
            Source::Read(_) | Source::Excluded(_) | Source::Other => None,
        });
        let Some((target, columns)) = target else { return };
        let options = child(returning, SyntaxKind::RETURNING_OPTION_LIST);
        for (kind, name) in [(SyntaxKind::RETURNING_OLD, "old"), (SyntaxKind::RETURNING_NEW, "new")] {
            let option = options.as_ref().and_then(|list| child(list, kind));
            let given = option.and_then(|option| self.path(&option).0.pop());
            if given.is_none() && self.item_named(&[name.to_owned()], scope).is_some() {
                continue;
            }
            let alias = given.unwrap_or_else(|| name.to_owned());
            let item = self.item(Some(alias.clone()), quoted(&alias), columns.clone(), Source::Target(target));
            self.scopes[scope].named_only.push(item);
        }
    }

    fn update_or_delete(&mut self, node: &SyntaxNode, place: Place) -> Columns {
        let place = self.with_clause(node, place);
        let scope = self.scope(place.scope);
        let item = self.written(node, scope);
        for part in node.children() {
            if matches!(part.kind(), SyntaxKind::FROM_CLAUSE | SyntaxKind::USING_CLAUSE) {
                // Items of FROM do not see the target, not even laterally.
                let from = self.scope(place.scope);
                self.walk_from(&part, from, place.scope, place.ctes);
                let (items, merged) = (self.scopes[from].items.clone(), self.scopes[from].merged.clone());
                self.scopes[scope].items.extend(items);
                self.scopes[scope].merged = merged;
                self.scopes[scope].natural = self.scopes[from].natural;
            }
        }
        let mut outputs = Columns::of(Vec::new());
        for part in in_order(node, write_rank) {
            match part.kind() {
                SyntaxKind::WITH_CLAUSE
                | SyntaxKind::RELATION_NAME
                | SyntaxKind::OPTIONAL_AS_ALIAS
                | SyntaxKind::FROM_CLAUSE
                | SyntaxKind::USING_CLAUSE
                | SyntaxKind::WHERE_CURRENT_OF => {}
                SyntaxKind::RETURNING_CLAUSE => outputs = self.returning(&part, scope, place.ctes),
                SyntaxKind::SET_CLAUSE => {
                    self.expressions(&part, Place { scope: Some(scope), ctes: place.ctes });
                    self.events.push(Event::Columns { item, clause: part });
                }
                _ => self.expressions(&part, Place { scope: Some(scope), ctes: place.ctes }),
            }
        }
        outputs
    }

    fn merge(&mut self, node: &SyntaxNode, place: Place) -> Columns {
        let place = self.with_clause(node, place);
        let scope = self.scope(place.scope);
        let target = self.written(node, scope);
        let source = self.scope(place.scope);
        if let Some(using) = child(node, SyntaxKind::USING_ON_CLAUSE) {
            for part in using.children().filter(|part| part.kind() != SyntaxKind::ON_CLAUSE) {
                self.walk_from_item(&part, source, place.scope, place.ctes);
            }
        }
        let (items, merged) = (self.scopes[source].items.clone(), self.scopes[source].merged.clone());
        self.scopes[scope].items.extend(items);
        self.scopes[scope].merged = merged;
        self.scopes[scope].natural = self.scopes[source].natural;
        let only_target = self.scope(place.scope);
        self.scopes[only_target].items = vec![target];
        for part in node.children() {
            let seen = match part.kind() {
                SyntaxKind::WITH_CLAUSE | SyntaxKind::TABLE_RELATION_NAME | SyntaxKind::OPTIONAL_AS_ALIAS => continue,
                // A row that is not matched has one side only.
                SyntaxKind::MERGE_WHEN_NOT_MATCHED_TARGET => source,
                SyntaxKind::MERGE_WHEN_NOT_MATCHED_SOURCE => only_target,
                _ => scope,
            };
            let inner = Place { scope: Some(seen), ctes: place.ctes };
            if part.kind() == SyntaxKind::USING_ON_CLAUSE {
                if let Some(on) = child(&part, SyntaxKind::ON_CLAUSE) {
                    self.expressions(&on, inner);
                }
                continue;
            }
            self.expressions(&part, inner);
        }
        Columns::unknown()
    }

    /// Notes every reference below a node that is no query itself.
    fn expressions(&mut self, node: &SyntaxNode, place: Place) {
        match node.kind() {
            kind if is_statement(kind) => {
                let columns = self.statement(node, place);
                if node.parent().is_some_and(|outer| outer.kind() == SyntaxKind::SET_MULTIPLE_COLUMNS) {
                    self.sources.push((node.clone(), columns));
                }
            }
            SyntaxKind::NAME_REF => self.reference(node, place),
            SyntaxKind::FIELD_EXPR => self.field(node, place),
            SyntaxKind::CALL_EXPR => self.call(node, place),
            SyntaxKind::PATH_TYPE => self.type_name(node),
            SyntaxKind::TARGET if has_token(node, SyntaxKind::STAR) => self.star(node, Vec::new(), Vec::new(), place),
            // Names that are no columns of anything in scope.
            SyntaxKind::LOCKING_OF | SyntaxKind::COLLATE | SyntaxKind::OP_CLASS_REF => {
                if let Some(inner) = node.children().next()
                    && node.kind() == SyntaxKind::COLLATE
                {
                    self.expressions(&inner, place);
                }
            }
            _ => {
                for inner in node.children() {
                    self.expressions(&inner, place);
                }
            }
        }
    }

    fn reference(&mut self, node: &SyntaxNode, place: Place) {
        let Some((name, at)) = self.name_of(node) else { return };
        let bare = self.piece.token_at(at).is_some_and(|token| {
            NAMES_WITHOUT_COLUMN.iter().any(|word| token.is_word(self.piece.source.as_bytes(), word))
        });
        let Some(scope) = place.scope else { return };
        if bare {
            return;
        }
        let context = match node.parent().map(|parent| parent.kind()) {
            Some(SyntaxKind::SORT_BY) if is_query_order(node) => RefContext::OrderBy,
            Some(SyntaxKind::GROUPING_EXPR | SyntaxKind::DISTINCT_ON) => RefContext::GroupBy,
            _ => RefContext::Plain,
        };
        self.refer(Reference { parts: vec![name], places: vec![at], node: node.clone(), scope, context });
    }

    fn refer(&mut self, reference: Reference) {
        self.events.push(Event::Reference(self.references.len()));
        self.references.push(reference);
    }

    /// `a.b`, `a.b.c`, `a.*`, `(expression).b`.
    fn field(&mut self, node: &SyntaxNode, place: Place) {
        let Some(scope) = place.scope else { return };
        let Some(base) = node.children().next() else { return };
        let star = has_token(node, SyntaxKind::STAR);
        if !is_name_chain(&base) {
            return self.expressions(&base, place);
        }
        let (parts, places) = self.path(node);
        if star {
            return self.star(node, parts, places, place);
        }
        self.refer(Reference { parts, places, node: node.clone(), scope, context: RefContext::Plain });
    }

    fn star(&mut self, node: &SyntaxNode, qualifier: Vec<String>, places: Vec<usize>, place: Place) {
        if let Some(scope) = place.scope {
            self.stars.push(Star { qualifier, places, node: node.clone(), scope });
        }
    }

    fn call(&mut self, node: &SyntaxNode, place: Place) {
        let mut parts = node.children();
        if child(node, SyntaxKind::ARG_LIST).is_some()
            && let Some(function) = parts.next()
        {
            let (mut path, places) = self.path(&function);
            self.note_call(&path, node);
            if let Some(found) = self.row_function(node)
                && let Some(rules) = self.cx.rules.table(&found.table)
            {
                let name = found.name.name.as_str().to_owned();
                let place = places.first().copied().unwrap_or_default();
                self.row_calls.push(RowCall { rules, name, place, doubtful: !found.alone });
            }
            self.calls.extend(path.pop());
        }
        for part in parts {
            self.expressions(&part, place);
        }
    }

    fn type_name(&mut self, node: &SyntaxNode) {
        let Some(path) = child(node, SyntaxKind::PATH_REF) else { return };
        let (parts, places) = self.path(&path);
        if let Meaning::Migrating(rules) = relation_meaning(self.cx, &parts) {
            self.row_types.push((rules, places.first().copied().unwrap_or_default()));
        }
        for inner in node.children().filter(|c| c.kind() != SyntaxKind::PATH_REF) {
            self.expressions(&inner, Place { scope: None, ctes: None });
        }
    }
}

/// The parts of a statement in the order in which PostgreSQL analyses them.
fn in_order(node: &SyntaxNode, rank: fn(SyntaxKind) -> u8) -> Vec<SyntaxNode> {
    let mut parts: Vec<SyntaxNode> = node.children().collect();
    parts.sort_by_key(|part| rank(part.kind()));
    parts
}

fn select_rank(kind: SyntaxKind) -> u8 {
    match kind {
        SyntaxKind::SELECT_CLAUSE => 0,
        SyntaxKind::WHERE_CLAUSE => 1,
        SyntaxKind::HAVING_CLAUSE => 2,
        SyntaxKind::ORDER_BY_CLAUSE => 3,
        SyntaxKind::GROUP_BY_CLAUSE => 4,
        _ => 5,
    }
}

fn write_rank(kind: SyntaxKind) -> u8 {
    match kind {
        SyntaxKind::RETURNING_CLAUSE => 1,
        SyntaxKind::SET_CLAUSE => 2,
        _ => 0,
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

fn relation_columns(relation: &Relation) -> Columns {
    Columns::of(relation.columns.iter().map(|column| column.name.as_str().to_owned()).collect())
}

fn quoted(name: &str) -> String {
    Ident::new(name).map(|ident| ident.quoted()).unwrap_or_default()
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

fn is_name_chain(node: &SyntaxNode) -> bool {
    match node.kind() {
        SyntaxKind::NAME_REF => true,
        SyntaxKind::FIELD_EXPR => {
            !has_token(node, SyntaxKind::STAR) && node.children().next().is_some_and(|base| is_name_chain(&base))
        }
        _ => false,
    }
}

fn is_join_part(kind: SyntaxKind) -> bool {
    matches!(kind, SyntaxKind::JOIN_EXPR | SyntaxKind::RELATION_FROM_ITEM)
}

fn has_leading_with(node: &SyntaxNode) -> bool {
    child(node, SyntaxKind::WITH_CLAUSE).is_some()
}

/// Whether the alias belongs to the node itself and not to something inside it.
fn direct_alias(alias: &SyntaxNode, node: &SyntaxNode) -> bool {
    let parent = alias.parent();
    parent.as_ref() == Some(node) || parent.and_then(|parent| parent.parent()).as_ref() == Some(node)
}

/// Whether the sort key is one of a query's ORDER BY (an aggregate's or window's knows no output names).
fn is_query_order(node: &SyntaxNode) -> bool {
    let clause = node.ancestors().find(|n| n.kind() == SyntaxKind::ORDER_BY_CLAUSE);
    clause.and_then(|clause| clause.parent()).is_some_and(|parent| is_query(parent.kind()))
}

/// Keywords that stand where a column may stand, and are none.
const NAMES_WITHOUT_COLUMN: &[&str] = &[
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "system_user",
    "user",
];

/// How many columns an `unnest` gives, where each argument is an array by its cast, of a type that has no parts.
fn unnested(call: &SyntaxNode) -> Option<usize> {
    let arguments: Vec<SyntaxNode> = child(call, SyntaxKind::ARG_LIST)?.children().collect();
    let of_scalars = |argument: &SyntaxNode| {
        let cast = argument.children().next().map(super::reads::unwrapped);
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
