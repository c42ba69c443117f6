//! What we send to the server besides the client's messages: questions, statements prepared again, and failures.
//!
//! Ours have names of their own. Within a client's batch they end in Flush, never in Sync, which would commit. Before its
//! first message they end in Sync: some statements (`VACUUM`) run only where they are the first of what a Sync ends.

use super::client::{Message, Taken};
use super::names::PREPARED_QUESTION;
use super::prepared::{Judged, Origin, Prepared, Sent};
use super::queue::Asked;
use super::{Answered, Hold, Host, Note, Ours, Out, Purpose, Session, Undo};
use crate::schema::Refusal;
use crate::wire;

/// The name of our statement and of our portal.
const OURS: &[u8] = b"crossfade_ask";

/// Sent where the server's transaction must fail as the client's refused statement does: no SQL, whatever the state.
const FAILING: &[u8] = b"crossfade_refused_this_statement";

impl Session {
    /// Asks what names mean, and holds the client's input meanwhile.
    pub(super) fn ask_names<H: Host>(&mut self, host: &mut H, message: &Message, out: &mut Out) {
        self.ask(host, message, Purpose::Names, out);
    }

    /// Puts a question to the server.
    pub(super) fn ask<H: Host>(&mut self, host: &mut H, message: &Message, purpose: Purpose, out: &mut Out) {
        if self.awaits_answers(message, out) {
            return;
        }
        host.probed();
        let Some(pinned) = self.pin.clone() else { return };
        let (question, name) = match &purpose {
            Purpose::Names if self.view.altered => (pinned.tables_question.as_str(), None),
            Purpose::Names | Purpose::Reprepare | Purpose::Answers => (pinned.names_question.as_str(), None),
            Purpose::Prepared(name) => (PREPARED_QUESTION, Some(name.clone())),
        };
        let values: Vec<&[u8]> = name.iter().map(|name| name.as_ref()).collect();
        let bytes = out.to_server.ours(message.input);
        wire::close_statement(bytes, OURS);
        wire::parse(bytes, OURS, question.as_bytes(), b"\0\0");
        self.expect_ours(Asked::Close, None);
        self.expect_ours(Asked::Parse, None);
        self.run_ours(bytes, &values, Note::default());
        self.hold(message, purpose, bytes);
    }

    /// Whether a message stays until the batch before it is answered. One that no Sync ends, and that fails, skips what
    /// stands behind it: a Sync of ours there would end the skipping, and a Query's question would be skipped.
    fn awaits_answers(&mut self, message: &Message, out: &mut Out) -> bool {
        let awaits = self.queue.is_unsynced() && (message.kind == b'Q' || !self.batch_open);
        if awaits {
            self.await_answers(message, out);
        }
        awaits
    }

    /// Holds a message until all before it are answered.
    pub(super) fn await_answers(&mut self, message: &Message, out: &mut Out) {
        self.hold(message, Purpose::Answers, out.to_server.ours(message.input));
    }

    /// Binds, runs and closes our statement; what is special about its run.
    fn run_ours(&mut self, bytes: &mut Vec<u8>, values: &[&[u8]], note: Note) {
        wire::bind_text(bytes, OURS, OURS, values);
        wire::execute_all(bytes, OURS);
        wire::close_portal(bytes, OURS);
        wire::close_statement(bytes, OURS);
        self.expect_ours(Asked::Bind, None);
        self.queue.push(Asked::Execute, Some(Box::new(Note { ours: Some(Ours::Part), ..note })));
        self.expect_ours(Asked::Close, None);
        self.expect_ours(Asked::Close, None);
    }

    fn expect_ours(&mut self, asked: Asked, undo: Option<Undo>) {
        self.queue.push(asked, Some(Box::new(Note { ours: Some(Ours::Part), undo, ..Note::default() })));
    }

    /// Ends what was sent so that its answers come, and holds the client's input until the last one.
    fn hold(&mut self, message: &Message, purpose: Purpose, bytes: &mut Vec<u8>) {
        let last = Some(Box::new(Note { ours: Some(Ours::Last), ..Note::default() }));
        if self.batch_open || (self.unsynced && self.status != b'I') || matches!(purpose, Purpose::Answers) {
            // One more Close, so that the last answer is known as such.
            wire::close_statement(bytes, OURS);
            wire::flush(bytes);
            self.queue.push(Asked::Close, last);
        } else {
            wire::sync(bytes);
            self.queue.push(Asked::Sync, last);
        }
        let answers = if message.kind == b'Q' { Answered::Query } else { Answered::Batch };
        self.hold = Some(Hold { purpose, rows: Vec::new(), answers, failed: false });
    }

    /// Prepares a stale statement again, with the text that is right now. `None`: the client's message goes on.
    pub(super) fn reprepare<H: Host>(
        &mut self,
        host: &mut H,
        message: &Message,
        name: &[u8],
        wanted: Sent,
        out: &mut Out,
    ) -> Option<Taken> {
        if message.kind == b'Q' && self.awaits_answers(message, out) {
            return Some(Taken::Wait);
        }
        host.reprepared();
        let statement = self.statements.get_mut(name)?;
        statement.sent = wanted.clone();
        let (origin, parts) = (statement.origin, statement.parts());
        let (text, edited) = match &wanted {
            Sent::Edited(edited) => (edited.sent.as_bytes(), Some(edited.clone())),
            Sent::Original | Sent::Unknown => (parts.text, None),
        };
        let warnings = edited.as_ref().map(|edited| edited.warnings()).unwrap_or_default();
        let bytes = out.to_server.ours(message.input);
        if !name.is_empty() {
            wire::close_statement(bytes, name);
        }
        match origin {
            Origin::Protocol => wire::parse(bytes, name, text, parts.types),
            // One that failed before may still be there: what closes it was skipped.
            Origin::Sql => {
                wire::close_statement(bytes, OURS);
                wire::parse(bytes, OURS, text, b"\0\0");
            }
        }
        let doubt = || Some(Undo::Doubt { name: name.into() });
        if !name.is_empty() {
            self.expect_ours(Asked::Close, doubt());
        }
        if origin == Origin::Sql {
            self.expect_ours(Asked::Close, None);
        }
        let note = Note { ours: Some(Ours::Part), undo: doubt(), edited: edited.clone(), warnings, ..Note::default() };
        self.queue.push(Asked::Parse, Some(Box::new(note)));
        if origin == Origin::Sql {
            // PostgreSQL reads what PREPARE prepares when it is executed.
            self.run_ours(bytes, &[], Note { undo: doubt(), edited, ..Note::default() });
        }
        if message.kind != b'Q' {
            return None;
        }
        self.hold(message, Purpose::Reprepare, bytes);
        Some(Taken::Wait)
    }

    /// Refuses what a message asks for, whichever kind of message it is.
    pub(super) fn refuse(&mut self, message: &Message, refusal: Refusal, position: Option<usize>, out: &mut Out) {
        if message.kind == b'Q' {
            self.refuse_query(message, refusal, position, out);
        } else {
            self.fail_batch(message, OURS, refusal, position, out);
        }
    }

    /// Refuses a Query: by ourselves where the server has nothing to do with it, else by a failure of its own, so that
    /// its transaction fails as the client is told.
    pub(super) fn refuse_query(&mut self, message: &Message, refusal: Refusal, position: Option<usize>, out: &mut Out) {
        if self.status == b'I' && self.queue.is_empty() && !self.batch_open && self.at_boundary() {
            let bytes = out.to_client.ours(&[]);
            wire::error_response(bytes, &refusal, position);
            wire::ready_for_query(bytes, b'I');
            self.pin = None;
            return;
        }
        wire::query(out.to_server.ours(message.input), FAILING);
        let note = Note { refusal: Some((refusal, position)), ..Note::default() };
        self.queue.push(Asked::Query, Some(Box::new(note)));
        self.end_batch();
    }

    /// Refuses a message of a batch: the server fails in its place, and skips the rest to the Sync by itself.
    pub(super) fn fail_batch(
        &mut self,
        message: &Message,
        name: &[u8],
        refusal: Refusal,
        position: Option<usize>,
        out: &mut Out,
    ) {
        let bytes = out.to_server.ours(message.input);
        wire::parse(bytes, name, FAILING, b"\0\0");
        if name.is_empty() {
            self.statements.put(name, None);
        }
        let note = Note { refusal: Some((refusal, position)), ..Note::default() };
        self.queue.push(Asked::Parse, Some(Box::new(note)));
    }

    /// Takes back what a failed or skipped message was thought to do.
    pub(super) fn take_back(&mut self, undo: Undo) {
        match undo {
            Undo::Restore { name, previous } => drop(self.statements.put(&name, previous)),
            Undo::Doubt { name } => {
                if let Some(statement) = self.statements.get_mut(&name) {
                    (statement.sent, statement.judged) = (Sent::Unknown, Judged::Never);
                }
            }
        }
    }

    /// What was not deallocated after all is there as before.
    pub(super) fn recall(&mut self, forgotten: Vec<(Box<[u8]>, Prepared)>) {
        for (name, statement) in forgotten {
            self.statements.put(&name, Some(statement));
        }
    }
}
