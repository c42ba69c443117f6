//! Says which item a column reference means, as PostgreSQL's name lookup would in the session's shape.
//!
//! Pure lookup over a `Survey`; where an item's columns are not known the answer is `Unsure`, never a guess.

use super::survey::{ItemId, RefContext, Reference, Scope, ScopeId, Survey};

/// What a reference means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A column of this item.
    Column(ItemId),
    /// The whole row of this item.
    Row(ItemId),
    /// This item is named, and has no such column.
    MissingIn(ItemId),
    /// A column that USING or NATURAL made one of several.
    Merged(ItemId),
    /// An output name of the query.
    Output,
    /// Columns of several items.
    Ambiguous,
    /// Nothing has the name.
    Missing,
    /// An item whose columns are not known may have it.
    Unsure,
}

impl Survey<'_> {
    /// What the reference means in the session's shape (columns of `fallback` left aside).
    pub(super) fn resolve(&self, reference: &Reference) -> Found {
        match reference.parts.as_slice() {
            [] => Found::Missing,
            [name] => self.resolve_name(name, reference.scope, reference.context),
            [qualifier @ .., column] => match self.item_named(qualifier, reference.scope) {
                None => Found::Missing,
                Some(id) => {
                    let columns = &self.items[id].columns;
                    let has = columns.names.iter().any(|name| name == column);
                    if has || !columns.complete { Found::Column(id) } else { Found::MissingIn(id) }
                }
            },
        }
    }

    /// The nearest item of that name.
    pub(super) fn item_named(&self, qualifier: &[String], scope: ScopeId) -> Option<ItemId> {
        let mut next = Some(scope);
        while let Some(scope) = next.and_then(|id| self.scopes.get(id)) {
            let found = scope.items.iter().chain(&scope.named_only).copied().find(|id| {
                let item = &self.items[*id];
                match qualifier {
                    [] => false,
                    [alias] => item.alias.as_ref() == Some(alias),
                    [.., schema, table] => item
                        .qualified
                        .as_ref()
                        .is_some_and(|name| name.schema.as_str() == schema && name.name.as_str() == table),
                }
            });
            if found.is_some() {
                return found;
            }
            next = scope.parent;
        }
        None
    }

    fn resolve_name(&self, name: &String, scope: ScopeId, context: RefContext) -> Found {
        let mut next = Some(scope);
        let mut innermost = true;
        while let Some(level) = next.and_then(|id| self.scopes.get(id)) {
            let output = innermost && level.outputs.contains(name);
            if output && context == RefContext::OrderBy {
                return Found::Output;
            }
            let mut unsure = level.natural;
            let mut holders = Vec::new();
            for id in &level.items {
                let columns = &self.items[*id].columns;
                unsure = unsure || !columns.complete;
                holders.extend(columns.names.iter().filter(|column| *column == name).map(|_| *id));
            }
            match holders.as_slice() {
                [first, ..] if level.merged.contains(name) => return Found::Merged(*first),
                [one] if !unsure => return Found::Column(*one),
                [_, _, ..] if !level.natural => return Found::Ambiguous,
                [] if !unsure => {}
                _ => return Found::Unsure,
            }
            if output && context == RefContext::GroupBy {
                return Found::Output;
            }
            innermost = false;
            next = level.parent;
        }
        match self.item_named(std::slice::from_ref(name), scope) {
            Some(id) => Found::Row(id),
            None => Found::Missing,
        }
    }

    /// Whether a reference may mean a column of the item that no list of its columns has: a system column. By its bare name
    /// PostgreSQL finds one in a table that stands by itself.
    pub(super) fn may_mean_system(&self, reference: &Reference, item: ItemId) -> bool {
        match reference.parts.as_slice() {
            [] => false,
            [_] => self.levels_with(reference, item).any(|scope| !self.is_joined(item, scope)),
            [qualifier @ .., _] => self.item_named(qualifier, reference.scope) == Some(item),
        }
    }

    /// Whether a bare name goes past the system columns of the item, which stands in a join.
    pub(super) fn passes_system(&self, reference: &Reference, item: ItemId) -> bool {
        reference.parts.len() == 1 && self.levels_with(reference, item).any(|scope| self.is_joined(item, scope))
    }

    fn is_joined(&self, item: ItemId, scope: &Scope) -> bool {
        self.items[item].joined_at.is_some_and(|at| scope.seen_at.is_none_or(|seen| at <= seen))
    }

    fn levels_with(&self, reference: &Reference, item: ItemId) -> impl Iterator<Item = &Scope> {
        self.scopes_from(reference.scope).map(|id| &self.scopes[id]).filter(move |scope| scope.items.contains(&item))
    }

    /// The scopes from the innermost outwards.
    pub(super) fn scopes_from(&self, scope: ScopeId) -> impl Iterator<Item = ScopeId> + '_ {
        std::iter::successors(Some(scope), |id| self.scopes.get(*id).and_then(|scope| scope.parent))
    }
}
