//! The client's prepared statements, remembered by name: their original text, and what the server has in its place.
//!
//! A statement outlives an epoch; when it is used and its plan is stale, the original is judged again.

use std::collections::HashMap;
use std::rc::Rc;

use ahash::RandomState;

use super::names::{EXECUTE, Effect, alters, effect_on_names, makes_functions};
use super::{Outcome, StatementKind, Undo};
use crate::schema::Refusal;
use crate::sql::{self, Kind, Planned};
use crate::wire;

/// What a session remembers of its statements at most, in bytes. Beyond it the server is asked for what is missing.
const REMEMBERED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What the unnamed statement's memory keeps at most when a shorter text comes, in bytes.
const UNNAMED_BYTES_KEPT_MAX: usize = 4 * 1024;

/// Ends each edited text, so that one that the server gives back is never taken for a client's own.
pub(super) const MARK: &str = " /*crossfade*/";

/// A text as the client sent it and as the server got it.
#[derive(Debug)]
pub(super) struct Edited {
    pub source: Box<str>,
    pub sent: String,
    plan: Planned,
}

impl Edited {
    /// The text as the plan, which is one of edits, has it.
    pub fn new(source: &str, plan: Planned) -> Edited {
        let mut sent = String::new();
        plan.apply(source, &mut sent);
        sent.push_str(MARK);
        Edited { sent, source: source.into(), plan }
    }

    /// The notes for the client, as messages.
    pub fn warnings(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for warning in self.plan.warnings() {
            wire::notice_response(&mut out, warning);
        }
        out
    }

    /// The place in the client's text, in characters from 1, of a place in the sent text, where it is one.
    pub fn client_position(&self, sent_position: usize) -> Option<usize> {
        let byte = self.sent_byte(sent_position)?;
        let at = self.plan.source_offset(&self.source, byte);
        (!sql::stands_nowhere((&self.source, at), (&self.sent, byte))).then(|| position(&self.source, at))
    }

    /// The table that the client's text writes at a place in the sent text.
    pub fn target_at(&self, sent_position: usize, standard_conforming_strings: bool) -> Option<String> {
        let at = self.plan.source_offset(&self.source, self.sent_byte(sent_position)?);
        sql::target_at(&self.source, at, standard_conforming_strings)
    }

    /// Our answer, with its place in the client's text, in the place of the server's error there.
    pub fn refusal_at(&self, sent_position: usize) -> Option<(Refusal, Option<usize>)> {
        let refusal = self.plan.stopped_at(&self.source, self.sent_byte(sent_position)?)?;
        let at = refusal.offset.map(|byte| position(&self.source, byte));
        Some((refusal, at))
    }

    fn sent_byte(&self, sent_position: usize) -> Option<usize> {
        let characters = sent_position.checked_sub(1)?;
        Some(self.sent.char_indices().nth(characters).map_or(self.sent.len(), |(byte, _)| byte))
    }
}

/// A byte's place in a text as PostgreSQL counts it: characters, from 1.
pub(super) fn position(text: &str, byte: usize) -> usize {
    text.char_indices().take_while(|(at, _)| *at < byte).count() + 1
}

/// What the server has under a statement's name.
#[derive(Debug, Clone)]
pub(super) enum Sent {
    /// The client's own text.
    Original,
    /// An edited one.
    Edited(Rc<Edited>),
    /// Nothing, or something that we do not know.
    Unknown,
}

impl Sent {
    /// Whether the server has what it should have.
    pub fn is(&self, wanted: &Sent) -> bool {
        match (self, wanted) {
            (Sent::Original, Sent::Original) => true,
            (Sent::Edited(one), Sent::Edited(other)) => one.sent == other.sent,
            (Sent::Original | Sent::Edited(_) | Sent::Unknown, _) => false,
        }
    }
}

/// Under which circumstances the server's text was found to be the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// Not yet.
    Never,
    /// It touches nothing under migration in the rules of this generation.
    Untouched(u64),
    /// It touches something; the stamp stands for rules, names and shape together.
    Touched(u64),
}

/// How a statement came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// By a Parse message.
    Protocol,
    /// By `PREPARE`; the text is that whole statement.
    Sql,
}

/// What counts and names need to know of a statement when it is run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traits {
    pub kind: StatementKind,
    pub outcome: Outcome,
    /// Whether running it may change what names mean.
    pub changes_names: bool,
    /// Whether it does so where something in its transaction has changed names: it ends the transaction.
    pub turns_back: bool,
    /// Whether running it may change a table.
    pub alters: bool,
    /// Whether running it may make a function.
    pub makes_functions: bool,
    /// Whether it runs SQL-level prepared statements itself.
    pub executes: bool,
    /// Whether it makes one.
    pub prepares: bool,
}

impl Traits {
    pub const UNKNOWN: Traits = Traits {
        kind: StatementKind::Other,
        outcome: Outcome::Passed,
        changes_names: false,
        turns_back: false,
        alters: false,
        makes_functions: false,
        executes: false,
        prepares: false,
    };
}

/// What is remembered of a portal.
#[derive(Debug)]
pub(super) struct Portal {
    pub traits: Traits,
    /// The SQL-level prepared statement that its execution makes, with its name.
    pub makes: Option<Box<(Box<[u8]>, Prepared)>>,
    /// The text of a statement that PostgreSQL reads the names in when it is executed, and no sooner.
    pub edited: Option<Rc<Edited>>,
}

impl Default for Portal {
    fn default() -> Portal {
        Portal { traits: Traits::UNKNOWN, makes: None, edited: None }
    }
}

impl Portal {
    /// The portal of a bound statement.
    pub fn new(statement: &Prepared) -> Portal {
        let traits = statement.traits;
        let makes = Some(statement).filter(|_| traits.prepares).and_then(Prepared::made).map(Box::new);
        let late = matches!(traits.kind, StatementKind::Copy | StatementKind::Other);
        Portal { traits, makes, edited: statement.edited().filter(|_| late).cloned() }
    }
}

impl Traits {
    /// Learns what names need to know of a text.
    pub fn read_from(&mut self, text: &[u8], statements: &sql::Statements) {
        (self.changes_names, self.turns_back) = (false, false);
        for statement in statements.iter() {
            let effect = effect_on_names(text, statement);
            self.changes_names |= effect == Effect::Changes;
            self.turns_back |= effect != Effect::None;
        }
        self.alters = statements.iter().any(alters);
        self.makes_functions = statements.iter().any(|statement| makes_functions(text, statement));
        self.executes = EXECUTE.is_in(text);
        self.prepares = statements.single().is_some_and(|statement| matches!(statement.kind, Kind::Prepare { .. }));
    }
}

/// One statement.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Name, text and types, as in the body of a Parse message.
    body: Vec<u8>,
    pub origin: Origin,
    pub sent: Sent,
    pub judged: Judged,
    pub traits: Traits,
    /// `standard_conforming_strings` when it was prepared: read otherwise, the text would be another statement.
    pub standard_conforming_strings: bool,
}

impl Prepared {
    pub fn new(body: Vec<u8>, origin: Origin, standard_conforming_strings: bool) -> Prepared {
        Prepared {
            body,
            origin,
            sent: Sent::Original,
            judged: Judged::Never,
            traits: Traits::UNKNOWN,
            standard_conforming_strings,
        }
    }

    /// A statement that `PREPARE` makes; the text is the whole of that.
    pub fn by_sql(name: &str, text: &[u8], strings: bool, sent: Sent, judged: Judged) -> Prepared {
        let body = parse_body(name.as_bytes(), text, b"\0\0");
        Prepared { sent, judged, ..Prepared::new(body, Origin::Sql, strings) }
    }

    /// What the server has in the text's place.
    pub fn edited(&self) -> Option<&Rc<Edited>> {
        match &self.sent {
            Sent::Edited(edited) => Some(edited),
            Sent::Original | Sent::Unknown => None,
        }
    }

    /// The SQL-level prepared statement that this one of the protocol makes, a `PREPARE`, with its name.
    fn made(&self) -> Option<(Box<[u8]>, Prepared)> {
        let (text, strings) = (self.parts().text, self.standard_conforming_strings);
        let statements = sql::classify(text, strings);
        let Kind::Prepare { name, .. } = &statements.single()?.kind else { return None };
        let made = Prepared::by_sql(name, text, strings, self.sent.clone(), self.judged);
        Some((name.as_bytes().into(), made))
    }

    /// Whether this is what a Parse message with that body would prepare.
    pub fn is_of(&self, body: &[u8], standard_conforming_strings: bool) -> bool {
        self.body == body && self.standard_conforming_strings == standard_conforming_strings
    }

    pub fn parts(&self) -> wire::Parse<'_> {
        wire::parse_frame(&self.body).unwrap_or(wire::Parse { name: b"", text: b"", types: b"\0\0" })
    }
}

/// The body of a Parse message.
pub(super) fn parse_body(name: &[u8], text: &[u8], types: &[u8]) -> Vec<u8> {
    [name, b"\0", text, b"\0", types].concat()
}

/// All statements of a session.
#[derive(Debug, Default)]
pub(super) struct Statements {
    named: HashMap<Box<[u8]>, Prepared, RandomState>,
    unnamed: Option<Prepared>,
    bytes: usize,
}

impl Statements {
    pub fn get(&self, name: &[u8]) -> Option<&Prepared> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut Prepared> {
        if name.is_empty() { self.unnamed.as_mut() } else { self.named.get_mut(name) }
    }

    /// Remembers the unnamed statement, in the memory of the one before.
    pub fn remember_unnamed(&mut self, body: &[u8], standard_conforming_strings: bool) -> &mut Prepared {
        let mut memory = self.unnamed.take().map(|statement| statement.body).unwrap_or_default();
        memory.clear();
        if memory.capacity() > UNNAMED_BYTES_KEPT_MAX && body.len() < UNNAMED_BYTES_KEPT_MAX {
            memory = Vec::new();
        }
        memory.extend_from_slice(body);
        self.unnamed.insert(Prepared::new(memory, Origin::Protocol, standard_conforming_strings))
    }

    /// Puts a statement under a name, and gives back what was there. One too many is not remembered, unless the server
    /// has an edited text, which only we can undo.
    pub fn put(&mut self, name: &[u8], statement: Option<Prepared>) -> Option<Prepared> {
        if name.is_empty() {
            return std::mem::replace(&mut self.unnamed, statement);
        }
        let previous = match statement {
            Some(statement)
                if self.bytes + statement.body.len() <= REMEMBERED_BYTES_MAX
                    || !matches!(statement.sent, Sent::Original) =>
            {
                self.bytes += statement.body.len();
                self.named.insert(name.into(), statement)
            }
            Some(_) | None => self.named.remove(name),
        };
        self.bytes = self.bytes.saturating_sub(previous.as_ref().map_or(0, |statement| statement.body.len()));
        previous
    }

    /// Remembers a statement that is being made, and how to take that back where it fails.
    pub fn make(&mut self, name: &[u8], statement: Prepared) -> Undo {
        let previous = self.put(name, Some(statement));
        Undo::Restore { name: name.into(), previous }
    }

    /// Whether any has a name.
    pub fn has_named(&self) -> bool {
        !self.named.is_empty()
    }

    /// `DEALLOCATE ALL`, which leaves the unnamed one; answers with what there was.
    pub fn forget_named(&mut self) -> HashMap<Box<[u8]>, Prepared, RandomState> {
        self.bytes = 0;
        std::mem::take(&mut self.named)
    }

    /// Whether the server has another text than the client's for any.
    pub fn any_edited(&self) -> bool {
        let edited = |statement: &Prepared| !matches!(statement.sent, Sent::Original);
        self.unnamed.as_ref().is_some_and(edited) || self.named.values().any(edited)
    }
}
