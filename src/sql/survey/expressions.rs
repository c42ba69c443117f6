//! Expressions: references to columns, stars, calls of functions, names of types.

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::{
    Event, Meaning, Place, RefContext, Reference, RowCall, Star, Survey, child, has_token, is_query, is_statement,
    relation_meaning,
};

impl<'a> Survey<'a> {
    /// Notes every reference below a node that is no query itself.
    pub(super) fn expressions(&mut self, node: &SyntaxNode, place: Place) {
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

    pub(super) fn reference(&mut self, node: &SyntaxNode, place: Place) {
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

    pub(super) fn refer(&mut self, reference: Reference) {
        self.events.push(Event::Reference(self.references.len()));
        self.references.push(reference);
    }

    /// `a.b`, `a.b.c`, `a.*`, `(expression).b`.
    pub(super) fn field(&mut self, node: &SyntaxNode, place: Place) {
        let Some(scope) = place.scope else { return };
        let Some(base) = node.children().next() else { return };
        let star = has_token(node, SyntaxKind::STAR);
        if !is_name_chain(&base) {
            // Of a long chain over something else each link would walk the rest.
            let mut inner = base;
            while inner.kind() == SyntaxKind::FIELD_EXPR && !has_token(&inner, SyntaxKind::STAR) {
                let Some(next) = inner.children().next() else { break };
                inner = next;
            }
            return self.expressions(&inner, place);
        }
        let (parts, places) = self.path(node);
        if star {
            return self.star(node, parts, places, place);
        }
        self.refer(Reference { parts, places, node: node.clone(), scope, context: RefContext::Plain });
    }

    pub(super) fn star(&mut self, node: &SyntaxNode, qualifier: Vec<String>, places: Vec<usize>, place: Place) {
        if let Some(scope) = place.scope {
            self.stars.push(Star { qualifier, places, node: node.clone(), scope });
        }
    }

    pub(super) fn call(&mut self, node: &SyntaxNode, place: Place) {
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

    pub(super) fn type_name(&mut self, node: &SyntaxNode) {
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

fn is_name_chain(node: &SyntaxNode) -> bool {
    match node.kind() {
        SyntaxKind::NAME_REF => true,
        SyntaxKind::FIELD_EXPR => {
            !has_token(node, SyntaxKind::STAR) && node.children().next().is_some_and(|base| is_name_chain(&base))
        }
        _ => false,
    }
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
