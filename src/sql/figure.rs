//! The output name of a target, as PostgreSQL figures it out for a column without `AS`.
//!
//! Names come from our own tokens; what has a fixed name (functions with a syntax of their own, types) is asked of the
//! reader.

use squawk_syntax::ast::{AstNode, Target};
use squawk_syntax::column_name::ColumnName;
use squawk_syntax::{SourceFile, SyntaxKind, SyntaxNode};

use super::reads::unwrapped;
use super::survey::{Survey, child, has_token, is_query};

/// What PostgreSQL calls a column that it has no name for.
pub(super) const NO_NAME: &str = "?column?";

impl Survey<'_> {
    /// The output name of a `TARGET`; `None` for a star.
    pub(super) fn target_name(&self, target: &SyntaxNode) -> Option<String> {
        if has_token(target, SyntaxKind::STAR) {
            return None;
        }
        if let Some(alias) = child(target, SyntaxKind::AS_NAME) {
            let name = alias.children().find(|n| n.kind() == SyntaxKind::COLUMN_NAME);
            return name.and_then(|name| self.name_of(&name)).map(|(name, _)| name);
        }
        let expression = target.children().next()?;
        if expression.kind() == SyntaxKind::FIELD_EXPR && has_token(&expression, SyntaxKind::STAR) {
            return None;
        }
        let figured = self.figure(&expression).or_else(|| type_over_case(&expression));
        Some(figured.unwrap_or_else(|| figured_by_reader(target)))
    }

    /// The name that an expression takes from the names in it; `None` where it takes none.
    fn figure(&self, node: &SyntaxNode) -> Option<String> {
        match node.kind() {
            SyntaxKind::NAME_REF => self.name_of(node).map(|(name, _)| name),
            SyntaxKind::FIELD_EXPR if has_token(node, SyntaxKind::STAR) => None,
            SyntaxKind::FIELD_EXPR => {
                let field = node.children().filter(|c| c.kind() == SyntaxKind::NAME_REF).last()?;
                self.name_of(&field).map(|(name, _)| name)
            }
            SyntaxKind::CALL_EXPR if child(node, SyntaxKind::ARG_LIST).is_some() => {
                let name = self.path(&node.children().next()?).0.pop();
                // These are no functions: they have names of their own, which are the same words.
                name
            }
            SyntaxKind::CAST_EXPR => {
                let inner = node.children().find(|c| is_expression(c.kind()))?;
                self.figure(&inner)
            }
            SyntaxKind::COLLATE | SyntaxKind::INDEX_EXPR | SyntaxKind::SLICE_EXPR => {
                self.figure(&node.children().next()?)
            }
            SyntaxKind::PAREN_EXPR => {
                let inner = node.children().next()?;
                if is_query(inner.kind()) { self.first_output(&inner) } else { self.figure(&inner) }
            }
            SyntaxKind::CASE_EXPR => {
                let otherwise = child(node, SyntaxKind::ELSE_CLAUSE)?.children().next()?;
                self.figure(&otherwise)
            }
            kind if is_query(kind) => self.first_output(node),
            _ => None,
        }
    }

    fn first_output(&self, query: &SyntaxNode) -> Option<String> {
        // The WITH clause comes first in the tree, and has queries of its own.
        let own = query.children().filter(|part| part.kind() != SyntaxKind::WITH_CLAUSE);
        let parts = own.flat_map(|part| part.descendants().collect::<Vec<_>>());
        let list = parts.into_iter().find(|n| n.kind() == SyntaxKind::TARGET_LIST)?;
        self.target_name(&list.children().next()?)
    }
}

/// A CASE that takes no name from its ELSE is called `case`, and a cast over it as its type is (`FigureColnameInternal`, where
/// both are names of strength 1). The reader takes the first for stronger.
fn type_over_case(expression: &SyntaxNode) -> Option<String> {
    let cast = unwrapped(expression.clone());
    let mut inner = cast.clone();
    while let SyntaxKind::CAST_EXPR | SyntaxKind::COLLATE | SyntaxKind::PAREN_EXPR = inner.kind() {
        inner = inner.children().find(|c| is_expression(c.kind()))?;
    }
    if cast.kind() != SyntaxKind::CAST_EXPR || inner.kind() != SyntaxKind::CASE_EXPR {
        return None;
    }
    let of_type = cast.children().filter(|c| !is_expression(c.kind())).last()?;
    let alone = SourceFile::parse(&format!("SELECT NULL::{}", of_type.text())).syntax_node();
    let target = alone.descendants().find(|node| node.kind() == SyntaxKind::TARGET)?;
    Some(figured_by_reader(&target))
}

fn is_expression(kind: SyntaxKind) -> bool {
    matches!(
        kind,
        SyntaxKind::NAME_REF
            | SyntaxKind::FIELD_EXPR
            | SyntaxKind::CALL_EXPR
            | SyntaxKind::CAST_EXPR
            | SyntaxKind::COLLATE
            | SyntaxKind::INDEX_EXPR
            | SyntaxKind::SLICE_EXPR
            | SyntaxKind::PAREN_EXPR
            | SyntaxKind::CASE_EXPR
    )
}

fn figured_by_reader(target: &SyntaxNode) -> String {
    let name = Target::cast(target.clone()).and_then(ColumnName::from_target);
    name.and_then(|(name, _)| name.to_string()).unwrap_or_else(|| NO_NAME.to_owned())
}
