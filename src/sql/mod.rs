//! Client SQL: screen, read, resolve, rewrite. The only room that knows its readers.
//!
//! Pure: `rewrite(statement, context) -> decision`; no I/O, no clock, no globals. Knows tables as views and stores
//! (`migration::TableView`), never a kind of change or a phase.

mod cache;
mod catalog;
mod classify;
mod copy;
mod edits;
mod figure;
mod insert;
pub mod lex;
mod mask;
mod mistakes;
mod plan;
mod read;
mod reads;
mod recent;
mod resolve;
mod screen;
mod second;
mod seen;
mod shape;
mod survey;
mod template;
mod tend;
mod update;
mod word;
mod writes;

pub use cache::PlanCache;
pub use classify::{CopyEnd, Kind, Setting, Statement, Statements, classify};
pub use edits::{Edits, Overlap};
pub use mask::{ErrorTexts, mask_copy, mask_error, stands_nowhere, target_at};
pub use screen::{Mention, Screen};
pub use seen::{Reading, Seen, Verb, seen};
pub use template::{Planned, Verdict};
pub use word::Word;

use crate::migration::masks::finds_unqualified;
use crate::migration::{Bucket, OnUnsupported, Rules, Shape};
use crate::schema::{Ident, Refusal, SqlState};

/// What unqualified names mean in a session, as PostgreSQL itself said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Names {
    /// `current_schemas(true)`: the schemas that are searched, in order, implicit ones included.
    pub path: Vec<Ident>,
    /// The session's temporary relations: they hide every other relation of their name.
    pub temporary: Vec<Temporary>,
}

/// A relation of the session that hides every other one of its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Temporary {
    /// Its name.
    pub name: Ident,
    /// Its columns in order, where they are known.
    pub columns: Option<Vec<Ident>>,
}

impl Names {
    /// The temporary relation of that name.
    pub fn temporary(&self, name: &Ident) -> Option<&Temporary> {
        self.temporary.iter().find(|relation| &relation.name == name)
    }
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

/// A decision and why it was taken, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// What becomes of the text.
    pub rewrite: Rewrite,
    /// One sentence per table reference or construct.
    pub reasons: Vec<String>,
}

/// Decides what becomes of a text.
pub fn rewrite(text: &str, cx: &Context<'_>) -> Rewrite {
    rewrite_explained(text, cx).rewrite
}

/// Decides what becomes of a text, and says why.
pub fn rewrite_explained(text: &str, cx: &Context<'_>) -> Explained {
    explained(text, cx).0
}

/// Decides what becomes of a text, and says what was asked about its constants.
fn rewrite_noted(text: &str, cx: &Context<'_>) -> (Rewrite, template::Notes) {
    let (explained, notes) = explained(text, cx);
    (explained.rewrite, notes)
}

fn explained(text: &str, cx: &Context<'_>) -> (Explained, template::Notes) {
    let mut reasons = Vec::new();
    let mut notes = template::Notes::default();
    let rewrite = match plan_text(text, cx, &mut reasons, &mut notes) {
        Ok(edits) if edits.is_empty() && edits.warnings().is_empty() => Rewrite::Unchanged,
        Ok(edits) => Rewrite::Rewritten(edits),
        // What only asks the catalogs is never refused.
        Err(_) if mention(text, cx) == Mention::Catalog => Rewrite::Unchanged,
        Err(refusal) => pass_with_warning(text, cx, refusal, &mut reasons),
    };
    (Explained { rewrite, reasons }, notes)
}

fn mention(text: &str, cx: &Context<'_>) -> Mention {
    let screen = Screen::new(cx.rules);
    if finds_unqualified(&cx.names.path) {
        screen.mentions_unqualified(text.as_bytes(), cx.standard_conforming_strings)
    } else {
        screen.mentions(text.as_bytes(), cx.standard_conforming_strings)
    }
}

fn plan_text(
    text: &str,
    cx: &Context<'_>,
    reasons: &mut Vec<String>,
    notes: &mut template::Notes,
) -> Result<Edits, Refusal> {
    match mention(text, cx) {
        Mention::Identifier | Mention::Catalog => {}
        Mention::No | Mention::OnlyInString => {
            reasons.push("no identifier in it is the name of a table under migration".to_owned());
            return Ok(Edits::new());
        }
    }
    let text = match read::Text::new(text, cx.standard_conforming_strings) {
        Ok(text) => text,
        Err(read::Unread::Unterminated) => {
            reasons.push("it does not end: PostgreSQL executes nothing of it, and has its own error for it".to_owned());
            return Ok(Edits::new());
        }
        Err(read::Unread::TooLarge(bound)) => {
            return Err(Refusal::unsupported("this statement is too large to be rewritten")
                .detail(format!("It mentions a table under migration, and has too many {bound} to be read."))
                .hint("Split it into smaller statements."));
        }
    };
    // The readers are other people's code over a client's text: a panic of theirs ends in a refusal, never further.
    let planned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut edits = Edits::new();
        let mut reasons = Vec::new();
        let planned = text
            .statements
            .iter()
            .try_for_each(|statement| plan::plan(&text.piece(statement.clone()), cx, &mut edits, &mut reasons));
        (planned.map(|()| edits), reasons)
    }));
    let (edits, why) = planned.unwrap_or_else(|_| {
        let refusal = Refusal::unsupported("this statement cannot be rewritten")
            .detail("The proxy fails to read it.")
            .hint("Write it in another form, and report it as a defect of the proxy.");
        (Err(refusal), Vec::new())
    });
    reasons.extend(why);
    *notes = text.notes;
    edits
}

/// What the migration's policy makes of a refusal: where every table of the rules says so, a statement that cannot be
/// rewritten passes as it is, with a warning. A name that does not exist stays an error.
fn pass_with_warning(text: &str, cx: &Context<'_>, refusal: Refusal, reasons: &mut Vec<String>) -> Rewrite {
    let warns = cx.rules.tables().all(|rules| match rules.on_unsupported {
        OnUnsupported::Warn => true,
        OnUnsupported::Refuse => false,
    });
    if !warns || refusal.state != SqlState::UNSUPPORTED {
        return Rewrite::Refused(refusal);
    }
    reasons.push(format!("passed as it is by the migration's policy: {} ({} bytes)", refusal.message, text.len()));
    let mut edits = Edits::new();
    edits.warn(refusal.message);
    Rewrite::Rewritten(edits)
}
