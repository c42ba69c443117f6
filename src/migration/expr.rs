//! A lens expression: SQL of ours, with its column references known, ready to be rendered over other values.
//!
//! Pure. `sqlparser` reads it (it is our text, never a client's); rendering is concatenation.

use serde::{Deserialize, Serialize};

pub use super::read::ExprError;
use crate::schema::Ident;

/// A scalar SQL expression over named columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expr {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Piece {
    Text(String),
    Column(Ident),
    /// A called function's name: as it is written, and as the catalog has it (`lower`, `public.slug`).
    Function {
        sql: String,
        name: String,
    },
}

impl Expr {
    /// Reads one scalar expression over these columns. Subqueries, aggregates, parameters,
    /// comments and functions known not to be immutable are refused.
    pub fn parse(sql: &str, columns: &[Ident]) -> Result<Expr, ExprError> {
        super::read::expression(sql, columns)
    }

    /// The bare column. Stored, its value gets PostgreSQL's assignment cast.
    pub fn column(name: Ident) -> Expr {
        Expr { pieces: vec![Piece::Column(name)] }
    }

    /// An expression put together from text of ours and columns.
    pub fn build() -> ExprBuilder {
        ExprBuilder { pieces: Vec::new() }
    }

    /// The column, where the expression is nothing but a bare column.
    pub fn as_column(&self) -> Option<&Ident> {
        match self.pieces.as_slice() {
            [Piece::Column(name)] => Some(name),
            _ => None,
        }
    }

    /// The columns it names, one entry for each mention, in order.
    pub fn columns(&self) -> impl Iterator<Item = &Ident> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Column(name) => Some(name),
            Piece::Text(_) | Piece::Function { .. } => None,
        })
    }

    /// The functions it calls by name, as the catalog has them; qualified where they are written so.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Function { name, .. } => Some(name.as_str()),
            Piece::Text(_) | Piece::Column(_) => None,
        })
    }

    /// How often it names this column: more than once means that a value put in its place is evaluated more than once.
    pub fn mentions(&self, column: &Ident) -> usize {
        self.columns().filter(|name| *name == column).count()
    }

    /// The expression as SQL, with each column replaced by what `value` gives for it.
    ///
    /// A bare column renders as the value alone. In any other expression the caller gives values that bind tighter
    /// than every operator: parenthesised, or a (qualified) column name.
    pub fn render(&self, mut value: impl FnMut(&Ident) -> String) -> String {
        let mut sql = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) | Piece::Function { sql: text, .. } => sql.push_str(text),
                Piece::Column(name) => sql.push_str(&value(name)),
            }
        }
        sql
    }

    /// The expression with each column replaced by another expression, which is parenthesised where it is not bare.
    pub fn substitute(&self, mut value: impl FnMut(&Ident) -> Expr) -> Expr {
        let mut built = Expr::build();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => built = built.text(text.clone()),
                Piece::Function { .. } => built.pieces.push(piece.clone()),
                Piece::Column(name) => {
                    let inner = value(name);
                    let bare = inner.as_column().is_some();
                    if !bare && self.pieces.len() > 1 {
                        built = built.text("(");
                    }
                    built.pieces.extend(inner.pieces);
                    if !bare && self.pieces.len() > 1 {
                        built = built.text(")");
                    }
                }
            }
        }
        built.done()
    }

    /// The expression as SQL over plain (quoted where needed) column names.
    pub fn sql(&self) -> String {
        self.render(|name| name.quoted())
    }
}

/// Builds an [`Expr`] piece by piece.
#[derive(Debug)]
pub struct ExprBuilder {
    pieces: Vec<Piece>,
}

impl ExprBuilder {
    /// Appends SQL text of ours.
    pub fn text(mut self, text: impl Into<String>) -> ExprBuilder {
        let text = text.into();
        match self.pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(&text),
            _ => self.pieces.push(Piece::Text(text)),
        }
        self
    }

    /// Appends a column reference.
    pub fn column(mut self, name: Ident) -> ExprBuilder {
        self.pieces.push(Piece::Column(name));
        self
    }

    /// Appends the name of a function that is called, as written and as the catalog has it.
    pub(super) fn function(mut self, sql: String, name: String) -> ExprBuilder {
        self.pieces.push(Piece::Function { sql, name });
        self
    }

    /// Appends another expression.
    pub fn expr(mut self, expr: &Expr) -> ExprBuilder {
        for piece in &expr.pieces {
            match piece {
                Piece::Text(text) => self = self.text(text.clone()),
                Piece::Column(_) | Piece::Function { .. } => self.pieces.push(piece.clone()),
            }
        }
        self
    }

    /// The expression.
    pub fn done(self) -> Expr {
        Expr { pieces: self.pieces }
    }
}
