//! A lens expression: SQL of ours, with its column references known, ready to be rendered over other values.
//!
//! Pure. `sqlparser` reads it (it is our text, never a client's); rendering is concatenation.

use crate::schema::Ident;

/// A scalar SQL expression over named columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expr {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Column(Ident),
}

impl Expr {
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
            Piece::Text(_) => None,
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
                Piece::Text(text) => sql.push_str(text),
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

    /// The expression.
    pub fn done(self) -> Expr {
        Expr { pieces: self.pieces }
    }
}
