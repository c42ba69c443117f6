//! Client SQL: screen, read, resolve, rewrite. The only room that knows its readers.
//!
//! Pure: `rewrite(statement, context) -> decision`; no I/O, no clock, no globals. Knows tables as views and stores
//! (`migration::TableView`), never a kind of change or a phase.

mod edits;

pub use edits::Edits;

use crate::migration::{Bucket, Rules, Shape};
use crate::schema::{Ident, Refusal};

/// What unqualified names mean in a session, as PostgreSQL itself said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Names {
    /// `current_schemas(true)`: the schemas that are searched, in order, implicit ones included.
    pub path: Vec<Ident>,
    /// The session's temporary relations: they hide every other relation of their name.
    pub temporary: Vec<Ident>,
}

/// Everything besides the text that a rewrite depends on.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The epoch's lenses and catalog.
    pub rules: &'a Rules,
    /// What unqualified names mean.
    pub names: &'a Names,
    /// The schema that the session sees.
    pub shape: Shape,
    /// The session's place in the ramp, which gives the route of its reads.
    pub bucket: Bucket,
    /// `standard_conforming_strings`.
    pub standard_conforming_strings: bool,
}

/// What becomes of a text (one statement, or several in a simple query).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// Forward the client's own bytes, untouched.
    Unchanged,
    /// Send the client's text with these edits.
    Rewritten(Edits),
    /// Answer the client ourselves; nothing reaches the server.
    Refused(Refusal),
}
