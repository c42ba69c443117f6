//! Queries: WITH, SELECT, set operations, VALUES, TABLE.

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::{
    Columns, Cte, Grouped, Meaning, Place, ScopeId, Survey, child, has_token, in_order, is_query, is_statement,
    relation_columns, rename,
};

impl<'a> Survey<'a> {
    /// Enters the CTEs of a `WITH`; the place behind it.
    pub(super) fn with_clause(&mut self, node: &SyntaxNode, place: Place) -> Place {
        let Some(clause) = child(node, SyntaxKind::WITH_CLAUSE) else { return place };
        if !self.entered.insert(clause.clone()) {
            return place;
        }
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

    pub(super) fn enter_cte(&mut self, name: String, columns: Columns, place: Place) -> Place {
        self.ctes.push(Cte { name, columns, outer: place.ctes });
        Place { ctes: Some(self.ctes.len() - 1), ..place }
    }

    /// What a recursive CTE's outputs are called, as far as its first branch's target list tells without reading it.
    pub(super) fn recursive_columns(&self, table: &SyntaxNode) -> Columns {
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

    pub(super) fn column_aliases(&self, node: &SyntaxNode) -> Option<Vec<String>> {
        let list = node
            .children()
            .find(|child| matches!(child.kind(), SyntaxKind::COLUMN_LIST | SyntaxKind::COLUMN_DEF_LIST))?;
        Some(list.children().filter_map(|column| self.name_of(&column)).map(|(name, _)| name).collect())
    }

    pub(super) fn select(&mut self, node: &SyntaxNode, place: Place) -> Columns {
        let place = self.with_clause(node, place);
        self.select_body(node, place)
    }

    pub(super) fn select_body(&mut self, node: &SyntaxNode, place: Place) -> Columns {
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
    pub(super) fn outputs(&self, list: &SyntaxNode, scope: ScopeId) -> Columns {
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

    pub(super) fn compound(&mut self, node: &SyntaxNode, place: Place) -> Columns {
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

    pub(super) fn compound_body(&mut self, node: &SyntaxNode, place: Place, leftmost: &SyntaxNode) -> Columns {
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

    pub(super) fn paren_select(&mut self, node: &SyntaxNode, place: Place) -> Columns {
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

    pub(super) fn values(&mut self, node: &SyntaxNode, place: Place) -> Columns {
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

    pub(super) fn table(&mut self, node: &SyntaxNode, place: Place) -> Columns {
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

fn has_leading_with(node: &SyntaxNode) -> bool {
    child(node, SyntaxKind::WITH_CLAUSE).is_some()
}
