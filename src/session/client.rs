//! What the client sends.

use std::ops::Range;
use std::rc::Rc;

use super::judge::Judgement;
use super::names::{alters, changes_names, makes_functions};
use super::prepared::{Judged, Origin, Portal, Prepared, Sent, Traits};
use super::queue::Asked;
use super::{Answered, Host, Mode, Note, Out, Outcome, Session, StatementKind, Touched, Undo};
use crate::schema::{Refusal, SqlState};
use crate::sql::{self, Kind};
use crate::wire::{self, Header, Peer};

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It goes on as it is.
    Pass,
    /// It is done with: something else went in its place.
    Replaced,
    /// It stays until more of it is there, or until what was asked is answered.
    Wait,
}

/// One message of the client, as far as it has come.
#[derive(Debug, Clone)]
pub(super) struct Message<'a> {
    pub input: &'a [u8],
    pub range: Range<usize>,
    pub kind: u8,
    pub whole: bool,
}

impl<'a> Message<'a> {
    pub fn body(&self) -> &'a [u8] {
        &self.input[self.range.start + wire::HEADER_BYTES..self.range.end]
    }
}

impl Session {
    /// Takes bytes that the client sent.
    pub fn on_client<H: Host>(&mut self, host: &mut H, input: &[u8], out: &mut Out) {
        if self.client.kept.is_empty() {
            let taken = self.take_client(host, input, out);
            if taken < input.len() && self.mode != Mode::Closed {
                self.client.kept.extend_from_slice(&input[taken..]);
            }
        } else {
            self.client.kept.extend_from_slice(input);
            self.resume_client(host, out);
        }
    }

    /// Goes on with what waited for a transaction that may begin now.
    pub fn on_rules<H: Host>(&mut self, host: &mut H, out: &mut Out) {
        if self.held {
            self.resume_client(host, out);
        }
    }

    /// Goes on with what was kept of the client's input.
    pub(super) fn resume_client<H: Host>(&mut self, host: &mut H, out: &mut Out) {
        let mut kept = std::mem::take(&mut self.client.kept);
        let taken = self.take_client(host, &kept, out);
        out.to_server.settle(&kept);
        if taken < kept.len() && self.mode != Mode::Closed {
            kept.drain(..taken);
            self.client.kept = kept;
        }
    }

    /// Takes whole messages, and the beginning of one that passes as it comes; answers with how much it took.
    fn take_client<H: Host>(&mut self, host: &mut H, input: &[u8], out: &mut Out) -> usize {
        let mut at = 0;
        self.held = false;
        while at < input.len() {
            match self.mode {
                Mode::Reading if self.hold.is_some() => break,
                Mode::Reading => {}
                Mode::Blind => {
                    out.to_server.pass(input, at..input.len());
                    return input.len();
                }
                Mode::Closed => return at,
            }
            if self.client.body_left > 0 {
                let end = input.len().min(at + self.client.body_left);
                out.to_server.pass(input, at..end);
                self.client.body_left -= end - at;
                at = end;
                continue;
            }
            let header = match wire::header(&input[at..], Peer::Client) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(error) => {
                    self.violated(error.to_string(), input, out);
                    break;
                }
            };
            if self.waits_for_rules(host, header.kind) {
                self.held = true;
                break;
            }
            let end = input.len().min(at + header.size);
            let message = Message { input, range: at..end, kind: header.kind, whole: end == at + header.size };
            match self.client_message(host, &message, header, out) {
                Taken::Pass => {
                    out.to_server.pass(input, at..end);
                    self.client.body_left = header.size - (end - at);
                }
                Taken::Replaced => {}
                Taken::Wait => break,
            }
            at = end;
        }
        at
    }

    /// Whether a message stays until there are other rules: while the present ones are held no transaction begins.
    ///
    /// Behind a message that ends in ReadyForQuery it is not known yet whether the transaction ended, so what comes next
    /// waits for the answer. What may belong to a COPY under way passes: the server answers nothing without it.
    #[inline]
    fn waits_for_rules<H: Host>(&self, host: &H, kind: u8) -> bool {
        if !host.holds() || !self.config.under_rules || self.queue.is_starting() {
            return false;
        }
        if self.pin.is_none() {
            return kind != b'X';
        }
        let begins = matches!(kind, b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F');
        begins && !self.batch_open && !self.skipping && self.answer_given.is_none() && !self.queue.is_empty()
    }

    fn client_message<H: Host>(&mut self, host: &mut H, message: &Message, header: Header, out: &mut Out) -> Taken {
        if self.queue.is_starting() {
            // Passwords and tokens pass; what an eager client sends behind them waits for the login's end.
            return if matches!(header.kind, b'p' | b'X') { Taken::Pass } else { Taken::Wait };
        }
        if self.skipping || self.answer_given.is_some() {
            return self.unanswered(host, message, header, out);
        }
        match header.kind {
            b'Q' if !self.would_read(host) => self.query_unread(host, message),
            b'Q' | b'P' | b'D' | b'C' if !message.whole => self.wait(message, header, out),
            b'Q' => self.query(host, message, out),
            b'P' | b'B' | b'D' | b'E' | b'C' => {
                let taken = self.batch_message(host, message, header, out);
                // What is asked before the first one is no part of the batch.
                self.batch_open |= taken != Taken::Wait;
                taken
            }
            b'S' => self.sync(host),
            b'F' => {
                self.begin(host);
                self.end_batch();
                self.queue.push(Asked::FunctionCall, None);
                Taken::Pass
            }
            b'c' | b'f' => {
                self.queue.copy_ended();
                Taken::Pass
            }
            // Copy data, Flush, Terminate, and what only the server can object to.
            _ => Taken::Pass,
        }
    }

    fn batch_message<H: Host>(&mut self, host: &mut H, message: &Message, header: Header, out: &mut Out) -> Taken {
        match header.kind {
            b'P' => self.parse(host, message, out),
            b'B' => self.bind(host, message, header, out),
            b'D' => self.describe(host, message, out),
            b'E' => self.execute(host, message, header, out),
            _ => self.close(host, message),
        }
    }

    /// A message that must be seen whole, of which a part is there.
    fn wait(&mut self, message: &Message, header: Header, out: &mut Out) -> Taken {
        if header.size > self.config.held_bytes_max {
            out.to_server.settle(message.input);
            let limit = self.config.held_bytes_max;
            let refusal = Refusal::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("message of {} bytes is too long to be read", header.size),
            )
            .detail(format!("A statement's text is held whole, and the proxy's limit is {limit} bytes."))
            .hint("Send the values as parameters or with COPY, or raise the proxy's limit.");
            self.end(&refusal, out);
        }
        Taken::Wait
    }

    /// A message that the server skips, or whose answer the client already has.
    fn unanswered<H: Host>(&mut self, host: &mut H, message: &Message, header: Header, out: &mut Out) -> Taken {
        match (self.answer_given, header.kind) {
            (None, _) | (_, b'X') => {}
            (Some(_), _) if !message.whole => return self.wait(message, header, out),
            (Some(Answered::Query), _) => {
                self.answer_given = None;
                return Taken::Replaced;
            }
            (Some(Answered::Batch), b'S') => {
                self.answer_given = None;
                return self.sync(host);
            }
            (Some(Answered::Batch), _) => return Taken::Replaced,
        }
        match header.kind {
            b'S' => {
                self.skipping = false;
                self.sync(host)
            }
            _ => Taken::Pass,
        }
    }

    /// A message that is no part of a batch comes.
    pub(super) fn end_batch(&mut self) {
        self.unsynced |= std::mem::take(&mut self.batch_open);
    }

    fn sync<H: Host>(&mut self, host: &mut H) -> Taken {
        self.begin(host);
        (self.batch_open, self.unsynced) = (false, false);
        // The implicit transaction of a batch ends here, and with it what a SET in it did.
        self.view.valid &= !self.view.unsettled;
        self.queue.push(Asked::Sync, None);
        Taken::Pass
    }

    fn query_unread<H: Host>(&mut self, host: &mut H, message: &Message) -> Taken {
        self.begin(host);
        self.end_batch();
        let text = message.body();
        host.statement(kind_of(text), Outcome::Passed);
        // A simple query makes the server forget the unnamed statement.
        self.statements.put(b"", None);
        self.queue.push(Asked::Query, None);
        if message.whole && self.may_deallocate(text) {
            let forgotten = self.deallocated(wire::query_text(text).unwrap_or_default());
            self.forget(forgotten);
        }
        Taken::Pass
    }

    /// Whether there is anything to deallocate, and `DEALLOCATE` or `DISCARD` stands anywhere in a text, behind a comment or
    /// another statement too.
    fn may_deallocate(&self, text: &[u8]) -> bool {
        let words: [&[u8]; 2] = [b"deallocate", b"discard"];
        let says = |word: &&[u8]| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
        self.statements.has_named() && words.iter().any(says)
    }

    /// Follows `DEALLOCATE` and `DISCARD`; what is forgotten. A statement forgotten too early is asked for when it is used.
    fn deallocated(&mut self, text: &[u8]) -> Vec<(Box<[u8]>, Prepared)> {
        let mut forgotten = Vec::new();
        for statement in sql::classify(text, self.view.standard_conforming_strings).iter() {
            match &statement.kind {
                Kind::Deallocate { name: Some(name) } => {
                    let statement = self.statements.put(name.as_bytes(), None);
                    forgotten.extend(statement.map(|statement| (name.as_bytes().into(), statement)));
                }
                Kind::Deallocate { name: None } => forgotten.extend(self.statements.forget_named()),
                Kind::Discard(what) if what == "all" => forgotten.extend(self.statements.forget_named()),
                _ => {}
            }
        }
        forgotten
    }

    /// What the message that was sent last deallocates is forgotten until that fails.
    fn forget(&mut self, forgotten: Vec<(Box<[u8]>, Prepared)>) {
        if let (false, Some(note)) = (forgotten.is_empty(), self.queue.last_note()) {
            note.get_or_insert_default().forgotten = forgotten;
        }
    }

    /// Remembers a statement that the client prepares and that passes as it is.
    fn pass_parse(&mut self, message: &Message, read: &wire::Parse<'_>, traits: Traits, judged: Judged) -> Taken {
        // Before it is made itself.
        let forgotten = if self.may_deallocate(read.text) { self.deallocated(read.text) } else { Vec::new() };
        let note = self.remember(message.body(), read.name, traits, Sent::Original, judged);
        self.queue.push(Asked::Parse, note);
        self.forget(forgotten);
        Taken::Pass
    }

    fn query<H: Host>(&mut self, host: &mut H, message: &Message, out: &mut Out) -> Taken {
        self.begin(host);
        let Some(text) = wire::query_text(message.body()) else {
            self.end_batch();
            self.queue.push(Asked::Query, None);
            return Taken::Pass;
        };
        let statements = sql::classify(text, self.view.standard_conforming_strings);
        if let Some(taken) = self.refresh_executed(host, message, text, &statements, out) {
            return taken;
        }
        let judgement = self.judge(host, text, &statements);
        if let Judgement::NamesNeeded = judgement {
            self.ask_names(host, message, out);
            return Taken::Wait;
        }
        let (outcome, taken) = self.send_query(host, message, judgement, text, &statements, out);
        let kind = kind_of(text);
        host.statement(kind, outcome);
        self.end_batch();
        self.statements.put(b"", None);
        if outcome != Outcome::Refused {
            self.follow(text, &statements);
        }
        taken
    }

    /// Sends a judged Query, or answers it.
    fn send_query<H: Host>(
        &mut self,
        host: &mut H,
        message: &Message,
        judgement: Judgement,
        text: &[u8],
        statements: &sql::Statements,
        out: &mut Out,
    ) -> (Outcome, Taken) {
        let mut note = Note { touched: self.touched(host, &judgement), ..Note::default() };
        let prepared = statements.single().filter(|statement| matches!(statement.kind, Kind::Prepare { .. }));
        match judgement {
            Judgement::Untouched | Judgement::NamesNeeded => {
                let note = self.prepare_note(prepared, text, Sent::Original, Judged::Untouched(self.view.generation));
                self.queue.push(Asked::Query, note);
                (Outcome::Passed, Taken::Pass)
            }
            Judgement::Unchanged => {
                let undo = self.prepare_note(prepared, text, Sent::Original, Judged::Touched(self.view.stamp));
                note.undo = undo.and_then(|note| note.undo);
                self.queue.push(Asked::Query, Some(Box::new(note)));
                (Outcome::Unchanged, Taken::Pass)
            }
            Judgement::Rewritten(edited) => {
                wire::query(out.to_server.ours(message.input), edited.sent.as_bytes());
                let sent = Sent::Edited(edited.clone());
                let undo = self.prepare_note(prepared, text, sent, Judged::Touched(self.view.stamp));
                note.undo = undo.and_then(|note| note.undo);
                note.warnings = edited.warnings();
                note.edited = Some(edited);
                self.queue.push(Asked::Query, Some(Box::new(note)));
                (Outcome::Rewritten, Taken::Replaced)
            }
            Judgement::Refused(refusal, position) => {
                self.refuse_query(message, refusal, position, out);
                (Outcome::Refused, Taken::Replaced)
            }
        }
    }

    /// Remembers an SQL-level PREPARE that a Query makes.
    fn prepare_note(
        &mut self,
        prepared: Option<&sql::Statement>,
        text: &[u8],
        sent: Sent,
        judged: Judged,
    ) -> Option<Box<Note>> {
        let Some(sql::Statement { kind: Kind::Prepare { name, .. }, .. }) = prepared else { return None };
        let made = Prepared::by_sql(name, text, self.view.standard_conforming_strings, sent, judged);
        Some(Box::new(Note { undo: Some(self.statements.make(name.as_bytes(), made)), ..Note::default() }))
    }

    pub(super) fn touched<H: Host>(&self, host: &H, judgement: &Judgement) -> Option<Touched> {
        match judgement {
            Judgement::Unchanged | Judgement::Rewritten(_) => {
                Some(Touched { route: self.route(), sent_at: host.now(), failed: false })
            }
            Judgement::Untouched | Judgement::Refused(..) | Judgement::NamesNeeded => None,
        }
    }

    /// What a text that is now on its way does to what the session knows.
    fn follow(&mut self, text: &[u8], statements: &sql::Statements) {
        if self.may_deallocate(text) || statements.single().is_none() {
            let forgotten = self.deallocated(text);
            self.forget(forgotten);
        }
        if statements.iter().any(|statement| changes_names(text, statement, self.view.unsettled)) {
            let functions = statements.iter().any(|statement| makes_functions(text, statement));
            self.names_may_change(statements.iter().any(alters), functions);
        }
        // CREATE TABLE AS is complete with the tag of a SELECT.
        self.ddl |= statements.iter().any(|statement| statement.kind == Kind::Ddl);
    }

    /// A statement that may change what names mean is on its way, and perhaps a table.
    pub(super) fn names_may_change(&mut self, alters: bool, functions: bool) {
        self.view.valid = false;
        let begun = || self.pin.as_ref().is_some_and(|pinned| !pinned.tables_question.is_empty());
        self.view.functions |= functions && begun();
        self.view.unsettled = true;
        self.view.altered |= alters && self.pin.as_ref().is_some_and(|pinned| !pinned.tables_question.is_empty());
    }

    fn parse<H: Host>(&mut self, host: &mut H, message: &Message, out: &mut Out) -> Taken {
        self.begin(host);
        let Some(read) = wire::parse_frame(message.body()) else {
            self.queue.push(Asked::Parse, None);
            return Taken::Pass;
        };
        let traits = Traits { kind: kind_of(read.text), ..Traits::UNKNOWN };
        if !self.reading {
            return self.pass_parse(message, &read, traits, Judged::Never);
        }
        self.parse_read(host, message, read, traits, out)
    }

    fn parse_read<H: Host>(
        &mut self,
        host: &mut H,
        message: &Message,
        read: wire::Parse<'_>,
        mut traits: Traits,
        out: &mut Out,
    ) -> Taken {
        if let Some(taken) = self.parse_again(host, message, &read, out) {
            return taken;
        }
        let statements = sql::classify(read.text, self.view.standard_conforming_strings);
        traits.read_from(read.text, &statements);
        let stamp = self.view.stamp;
        match self.judge(host, read.text, &statements) {
            Judgement::NamesNeeded => {
                self.ask_names(host, message, out);
                Taken::Wait
            }
            Judgement::Untouched => self.pass_parse(message, &read, traits, Judged::Untouched(self.view.generation)),
            Judgement::Unchanged => {
                traits.outcome = Outcome::Unchanged;
                let note = self.remember(message.body(), read.name, traits, Sent::Original, Judged::Touched(stamp));
                self.queue.push(Asked::Parse, note);
                Taken::Pass
            }
            Judgement::Rewritten(edited) => {
                traits.outcome = Outcome::Rewritten;
                wire::parse(out.to_server.ours(message.input), read.name, edited.sent.as_bytes(), read.types);
                let sent = Sent::Edited(edited.clone());
                let note = self.remember(message.body(), read.name, traits, sent, Judged::Touched(stamp));
                let mut note = note.unwrap_or_default();
                note.warnings = edited.warnings();
                note.edited = Some(edited);
                self.queue.push(Asked::Parse, Some(note));
                Taken::Replaced
            }
            Judgement::Refused(refusal, position) => {
                host.statement(traits.kind, Outcome::Refused);
                // PostgreSQL forgets the unnamed statement before it looks at the new one.
                self.fail_batch(message, read.name, refusal, position, out);
                Taken::Replaced
            }
        }
    }

    /// The unnamed statement is prepared once more, and touches something: what was found out about it holds. The stamp
    /// stands for all that a text's meaning depends on; a text that touches nothing has none, and is looked at again.
    fn parse_again<H: Host>(
        &mut self,
        host: &H,
        message: &Message,
        read: &wire::Parse<'_>,
        out: &mut Out,
    ) -> Option<Taken> {
        let known = self.statements.get(b"").filter(|_| read.name.is_empty() && !self.may_deallocate(read.text))?;
        let same = known.is_of(message.body(), self.view.standard_conforming_strings);
        if !same || !matches!(known.judged, Judged::Touched(_)) || !self.is_fresh(host, known) {
            return None;
        }
        let edited = match &known.sent {
            Sent::Original => {
                self.queue.push(Asked::Parse, None);
                return Some(Taken::Pass);
            }
            Sent::Edited(edited) => Rc::clone(edited),
            Sent::Unknown => return None,
        };
        wire::parse(out.to_server.ours(message.input), read.name, edited.sent.as_bytes(), read.types);
        let note = Note { warnings: edited.warnings(), edited: Some(edited), ..Note::default() };
        self.queue.push(Asked::Parse, Some(Box::new(note)));
        Some(Taken::Replaced)
    }

    /// Remembers what the client prepares, and how to take that back where it fails.
    fn remember(&mut self, body: &[u8], name: &[u8], traits: Traits, sent: Sent, judged: Judged) -> Option<Box<Note>> {
        if name.is_empty() {
            let statement = self.statements.remember_unnamed(body, self.view.standard_conforming_strings);
            (statement.traits, statement.sent, statement.judged) = (traits, sent, judged);
            return None;
        }
        let mut statement = Prepared::new(body.to_vec(), Origin::Protocol, self.view.standard_conforming_strings);
        (statement.traits, statement.sent, statement.judged) = (traits, sent, judged);
        Some(Box::new(Note { undo: Some(self.statements.make(name, statement)), ..Note::default() }))
    }

    fn bind<H: Host>(&mut self, host: &mut H, message: &Message, header: Header, out: &mut Out) -> Taken {
        let Some((portal, name)) = wire::bind_names(message.body()) else {
            return if message.whole {
                self.begin(host);
                self.queue.push(Asked::Bind, None);
                Taken::Pass
            } else {
                self.wait(message, header, out)
            };
        };
        self.begin(host);
        if self.reading
            && let Some(taken) = self.refresh(host, message, name, out)
        {
            return taken;
        }
        let statement = self.statements.get(name);
        let traits = statement.map_or(Traits::UNKNOWN, |statement| statement.traits);
        let note = statement.filter(|_| self.reading).and_then(edited_note);
        let bound = match statement.filter(|_| self.reading) {
            Some(statement) => Portal::new(statement),
            None => Portal { traits, ..Portal::default() },
        };
        if portal.is_empty() {
            self.portal = bound;
        } else if self.reading {
            self.portals.insert(portal.into(), bound);
        }
        if self.reading && (traits.changes_names || (traits.turns_back && self.view.unsettled)) {
            self.names_may_change(traits.alters, traits.makes_functions);
        }
        self.queue.push(Asked::Bind, note);
        Taken::Pass
    }

    fn describe<H: Host>(&mut self, host: &mut H, message: &Message, out: &mut Out) -> Taken {
        self.begin(host);
        let target = wire::describe_target(message.body());
        let mut note = None;
        if let (true, Some((b'S', name))) = (self.reading, target) {
            match self.refresh(host, message, name, out) {
                Some(taken) => return taken,
                None => note = self.statements.get(name).and_then(edited_note),
            }
        }
        let asked = match target {
            Some((b'S', _)) => Asked::DescribeStatement,
            Some(_) | None => Asked::DescribePortal,
        };
        self.queue.push(asked, note);
        Taken::Pass
    }

    fn execute<H: Host>(&mut self, host: &mut H, message: &Message, header: Header, out: &mut Out) -> Taken {
        if !message.whole {
            return self.wait(message, header, out);
        }
        self.begin(host);
        let portal = match wire::execute_portal(message.body()) {
            Some(b"") => Some(&mut self.portal),
            Some(name) => self.portals.get_mut(name),
            None => None,
        };
        let (traits, makes, edited) = match portal {
            Some(portal) => (portal.traits, portal.makes.take(), portal.edited.clone()),
            None => (Traits::UNKNOWN, None, None),
        };
        host.statement(traits.kind, traits.outcome);
        let touched = match traits.outcome {
            Outcome::Unchanged | Outcome::Rewritten if self.reading => {
                Some(Touched { route: self.route(), sent_at: host.now(), failed: false })
            }
            Outcome::Unchanged | Outcome::Rewritten | Outcome::Passed | Outcome::Refused => None,
        };
        let undo = makes.map(|made| {
            let (name, statement) = *made;
            self.statements.make(&name, statement)
        });
        let noted = touched.is_some() || undo.is_some() || edited.is_some();
        let note = noted.then(|| Box::new(Note { touched, undo, edited, ..Note::default() }));
        self.queue.push(Asked::Execute, note);
        Taken::Pass
    }

    fn close<H: Host>(&mut self, host: &mut H, message: &Message) -> Taken {
        self.begin(host);
        let note = match wire::close_target(message.body()) {
            Some((b'S', name)) => self.statements.put(name, None).map(|previous| {
                let undo = Undo::Restore { name: name.into(), previous: Some(previous) };
                Box::new(Note { undo: Some(undo), ..Note::default() })
            }),
            Some(_) | None => None,
        };
        self.queue.push(Asked::Close, note);
        Taken::Pass
    }
}

/// What maps an error's place in a statement that the server has in edited form.
fn edited_note(statement: &Prepared) -> Option<Box<Note>> {
    statement.edited().map(|edited| Box::new(Note { edited: Some(edited.clone()), ..Note::default() }))
}

/// A statement's kind by its first word; no comment is looked behind.
fn kind_of(text: &[u8]) -> StatementKind {
    let text = text.trim_ascii_start();
    let is = |word: &[u8]| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    match text.first().map(u8::to_ascii_lowercase) {
        Some(b's') if is(b"select") => StatementKind::Select,
        Some(b'i') if is(b"insert") => StatementKind::Insert,
        Some(b'u') if is(b"update") => StatementKind::Update,
        Some(b'd') if is(b"delete") => StatementKind::Delete,
        Some(b'c') if is(b"copy") => StatementKind::Copy,
        Some(b'w' | b'v' | b't') if is(b"with") || is(b"values") || is(b"table") => StatementKind::Select,
        _ => StatementKind::Other,
    }
}
