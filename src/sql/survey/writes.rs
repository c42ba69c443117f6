//! Statements that write: INSERT, UPDATE, DELETE, MERGE, and their RETURNING.

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::{
    Columns, Event, ItemId, Meaning, Place, ScopeId, Source, Survey, Target, child, in_order, is_query, quoted,
    relation_columns, relation_meaning,
};
use crate::migration::TableRules;

impl<'a> Survey<'a> {
    pub(super) fn target(&mut self, rules: &'a TableRules, node: &SyntaxNode) -> ItemId {
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
    pub(super) fn written(&mut self, node: &SyntaxNode, scope: ScopeId) -> ItemId {
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
        self.named_item(&parts, alias, columns, scope)
    }

    pub(super) fn insert(&mut self, node: &SyntaxNode, place: Place) -> Columns {
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

    pub(super) fn on_conflict(&mut self, node: &SyntaxNode, scope: ScopeId, target: ItemId, place: Place) {
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

    pub(super) fn returning(&mut self, node: &SyntaxNode, scope: ScopeId, ctes: Option<usize>) -> Columns {
        self.row_versions(node, scope);
        let outputs = child(node, SyntaxKind::TARGET_LIST).map(|list| self.outputs(&list, scope));
        self.expressions(node, Place { scope: Some(scope), ctes });
        outputs.unwrap_or_default()
    }

    /// From version 18 on, `old` and `new` are the written row before and after, unless something else has the name;
    /// `RETURNING WITH (OLD AS o)` calls it otherwise. Older servers refuse the name in any text.
    pub(super) fn row_versions(&mut self, returning: &SyntaxNode, scope: ScopeId) {
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

    pub(super) fn update_or_delete(&mut self, node: &SyntaxNode, place: Place) -> Columns {
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

    pub(super) fn merge(&mut self, node: &SyntaxNode, place: Place) -> Columns {
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
}

fn write_rank(kind: SyntaxKind) -> u8 {
    match kind {
        SyntaxKind::RETURNING_CLAUSE => 1,
        SyntaxKind::SET_CLAUSE => 2,
        _ => 0,
    }
}
