//! What the server sends.

use std::rc::Rc;

use super::client::{Message, Taken};
use super::names::{NamesAnswer, is_known, read_names, read_prepared};
use super::prepared::Edited;
use super::queue::{Asked, Expected, Failed, Mispredicted};
use super::{Answered, Encoding, Host, Mode, Note, OWN_GENERATIONS, Ours, Out, Pinned, Purpose, Session};
use crate::migration::masks::finds_unqualified;
use crate::schema::{QualifiedName, Relation};
use crate::sql::{ErrorTexts, mask_copy, mask_error};
use crate::wire::{self, Header, Peer};

impl Session {
    /// Takes bytes that the server sent.
    pub fn on_server<H: Host>(&mut self, host: &mut H, input: &[u8], out: &mut Out) {
        if self.server.kept.is_empty() {
            let taken = self.take_server(host, input, out);
            if taken < input.len() && self.mode != Mode::Closed {
                self.server.kept.extend_from_slice(&input[taken..]);
            }
            self.after_server(host, input, out);
        } else {
            let mut kept = std::mem::take(&mut self.server.kept);
            kept.extend_from_slice(input);
            let taken = self.take_server(host, &kept, out);
            out.to_client.settle(&kept);
            if taken < kept.len() && self.mode != Mode::Closed {
                kept.drain(..taken);
                self.server.kept = kept;
            }
            self.after_server(host, &[], out);
        }
    }

    /// The client's input goes on where what it waited for has come.
    #[inline]
    fn after_server<H: Host>(&mut self, host: &mut H, input: &[u8], out: &mut Out) {
        let waits = self.client.kept.is_empty() || self.hold.is_some() || self.queue.is_starting();
        if waits || self.mode == Mode::Closed {
            return;
        }
        out.to_client.settle(input);
        self.resume_client(host, out);
    }

    fn take_server<H: Host>(&mut self, host: &mut H, input: &[u8], out: &mut Out) -> usize {
        let mut at = 0;
        while at < input.len() {
            if self.server.body_left > 0 || self.mode == Mode::Blind {
                let left = if self.mode == Mode::Blind { usize::MAX } else { self.server.body_left };
                let end = at + left.min(input.len() - at);
                out.to_client.pass(input, at..end);
                self.server.body_left = self.server.body_left.saturating_sub(end - at);
                at = end;
                continue;
            }
            if self.mode == Mode::Closed {
                return at;
            }
            let header = match wire::header(&input[at..], Peer::Server) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(error) => {
                    self.violated(format!("from the server: {error}"), input, out);
                    break;
                }
            };
            let end = at + header.size.min(input.len() - at);
            let message = Message { input, range: at..end, kind: header.kind, whole: end - at == header.size };
            match self.server_message(host, &message, header, out) {
                Ok(Taken::Pass) => {
                    out.to_client.pass(input, at..end);
                    self.server.body_left = header.size - (end - at);
                }
                Ok(Taken::Replaced) => {}
                Ok(Taken::Wait) => {
                    if header.size > self.config.held_bytes_max {
                        self.violated("message from the server is too long to be read", input, out);
                    }
                    break;
                }
                Err(Mispredicted) => {
                    let kind = char::from(header.kind);
                    self.violated(format!("server answered with a message {kind:?} that was not expected"), input, out);
                    break;
                }
            }
            at = end;
        }
        at
    }

    fn server_message<H: Host>(
        &mut self,
        host: &mut H,
        message: &Message,
        header: Header,
        out: &mut Out,
    ) -> Result<Taken, Mispredicted> {
        match header.kind {
            // The bulk of all traffic, and only ours to read while something was asked.
            b'D' if self.hold.is_none() => Ok(Taken::Pass),
            b'D' => Ok(self.row(message)),
            b'V' => {
                self.queue.begin();
                Ok(Taken::Pass)
            }
            b'd' | b'c' | b'N' | b'A' | b'H' => Ok(Taken::Pass),
            b'S' | b'Z' | b'E' | b'C' | b'K' if !message.whole => Ok(Taken::Wait),
            b'Z' => self.ready(host, message, out),
            b'C' => {
                self.note_tag(message.body());
                let entry = self.queue.completed()?;
                Ok(self.finish(host, entry, message, out))
            }
            b'1' => self.answered(host, Asked::Parse, message, out),
            b'2' => self.answered(host, Asked::Bind, message, out),
            b'3' => self.answered(host, Asked::Close, message, out),
            b'T' | b'n' => {
                let entry = self.queue.described()?;
                Ok(self.finish(host, entry, message, out))
            }
            b'I' | b's' => {
                let entry = self.queue.completed()?;
                Ok(self.finish(host, entry, message, out))
            }
            b't' => match self.queue.front().map(|entry| entry.asked) {
                Some(Asked::DescribeStatement) => Ok(Taken::Pass),
                _ => Err(Mispredicted),
            },
            b'G' => self.queue.copy_in().map(|()| Taken::Pass),
            b'S' => {
                self.parameter(message.body());
                Ok(Taken::Pass)
            }
            b'E' => Ok(self.error(host, message, out)),
            b'W' => {
                (self.mode, self.pin) = (Mode::Blind, None);
                Ok(Taken::Pass)
            }
            b'K' if self.queue.is_starting() => {
                self.serving.login(message.body());
                Ok(Taken::Pass)
            }
            b'R' | b'v' if self.queue.is_starting() => Ok(Taken::Pass),
            _ => Err(Mispredicted),
        }
    }

    #[inline]
    fn answered<H: Host>(
        &mut self,
        host: &mut H,
        asked: Asked,
        message: &Message,
        out: &mut Out,
    ) -> Result<Taken, Mispredicted> {
        let entry = self.queue.answered(&[asked])?;
        match entry.note {
            None => Ok(Taken::Pass),
            Some(_) => Ok(self.finish(host, Some(entry), message, out)),
        }
    }

    /// An answer has come: what was noted for it is done, and ours is swallowed.
    fn finish<H: Host>(
        &mut self,
        host: &mut H,
        entry: Option<Expected<Note>>,
        message: &Message,
        out: &mut Out,
    ) -> Taken {
        let Some(note) = entry.and_then(|entry| entry.note) else { return Taken::Pass };
        if !note.warnings.is_empty() {
            out.to_client.ours(message.input).extend_from_slice(&note.warnings);
        }
        if let Some(touched) = note.touched {
            host.answered(touched.route, host.now().saturating_duration_since(touched.sent_at), touched.failed);
        }
        match note.ours {
            None => Taken::Pass,
            Some(Ours::Part) => Taken::Replaced,
            Some(Ours::Last) => self.release(message, out),
        }
    }

    /// The last answer to what we asked.
    fn release(&mut self, message: &Message, out: &mut Out) -> Taken {
        let Some(hold) = self.hold.take() else { return Taken::Replaced };
        if hold.failed {
            // The client was given the error in place of its statement's answer. To a Query this is its end; a batch's
            // comes with its own Sync.
            self.answer_given = Some(hold.answers);
            return if hold.answers == Answered::Query { Taken::Pass } else { Taken::Replaced };
        }
        let understood = match hold.purpose {
            Purpose::Names => read_names(&hold.rows).map(|answer| {
                self.adopt_tables(&answer);
                let shape = answer.shape.unwrap_or(Ok(self.config.shape));
                self.view.newer = answer.newer;
                self.view.unqualified |= finds_unqualified(&answer.names.path);
                if *self.view.names != answer.names || self.view.shape != shape {
                    self.view.names = answer.names.into();
                    self.view.shape = shape;
                    self.view.stamp += 1;
                }
                if let Some((process, is_standby)) = answer.server
                    && self.serving.answer(process, is_standby, self.config.pooled)
                {
                    self.view.stamp += 1;
                }
                self.view.valid = true;
            }),
            Purpose::Prepared(name) => read_prepared(&hold.rows).map(|answer| self.recovered(name, answer)),
            Purpose::Reprepare | Purpose::Answers => Some(()),
        };
        if understood.is_none() {
            self.violated("server's answer about the session's names cannot be read", message.input, out);
        }
        Taken::Replaced
    }

    /// The session may have changed a table under migration: until the rules in force know, and in a transaction that
    /// others do not see yet, it has rules of its own.
    fn adopt_tables(&mut self, answer: &NamesAnswer) {
        let Some(pinned) = self.pin.clone().filter(|_| self.view.altered) else { return };
        let base = pinned.base.clone().unwrap_or(pinned);
        let tables = answer.tables(&base.rules.tables_begun());
        let known = |(name, seen): &(QualifiedName, Option<Relation>)| {
            is_known(base.rules.catalog().relation(name).map(|relation| &**relation), seen.as_ref())
        };
        let functions = answer.row_functions(&base.rules.tables_begun());
        self.view.functions = !base.rules.catalog().has_row_functions(&base.rules.tables_begun(), &functions);
        self.view.altered = self.view.functions || !tables.iter().all(known);
        let pinned = if self.view.altered {
            self.own_generation += 1;
            let rules = base.rules.over(&tables, functions);
            Rc::new(Pinned { base: Some(base), ..Pinned::new(rules.into(), OWN_GENERATIONS | self.own_generation) })
        } else {
            base
        };
        self.pin_now(&pinned);
    }

    /// A row, while something of ours was asked.
    fn row(&mut self, message: &Message) -> Taken {
        let ours = |entry: &mut Expected<Note>| entry.note.as_ref().is_some_and(|note| note.ours.is_some());
        if !self.queue.front().is_some_and(ours) {
            return Taken::Pass;
        }
        if !message.whole {
            return Taken::Wait;
        }
        if let (Some(hold), Some(row)) = (&mut self.hold, wire::data_row(message.body())) {
            hold.rows.push(row.into_iter().map(|value| value.map(<[u8]>::to_vec)).collect());
        }
        Taken::Replaced
    }

    fn ready<H: Host>(&mut self, host: &mut H, message: &Message, out: &mut Out) -> Result<Taken, Mispredicted> {
        self.status = wire::ready_status(message.body()).ok_or(Mispredicted)?;
        let entry = self.queue.ready()?;
        // The answer to a Sync behind a copy that failed before the server read it: it skips nothing from there on.
        self.skipping &= entry.is_some();
        let ours = entry.as_ref().and_then(|entry| entry.note.as_ref()).is_some_and(|note| note.ours.is_some());
        let taken = match entry {
            Some(Expected { note: None, .. }) | None => Taken::Pass,
            Some(_) => self.finish(host, entry, message, out),
        };
        // Behind what we asked the held message comes. The session's own rules were found out for it, and nothing else has them.
        self.settle(host, ours && self.answer_given.is_none() && self.view.altered);
        if self.config.pooled && self.pin.is_none() && !ours {
            // Each transaction looks anew who answers it.
            self.view.valid = false;
        }
        Ok(taken)
    }

    /// DDL may have changed the catalog that our rules are derived over.
    #[inline]
    fn note_tag(&mut self, tag: &[u8]) {
        if matches!(tag.first(), Some(b'C' | b'A' | b'D')) {
            self.ddl |= [&b"CREATE"[..], b"ALTER", b"DROP"].iter().any(|word| tag.starts_with(word));
            self.ddl |= self.reading && (tag == b"DO\0" || tag == b"CALL\0");
        }
    }

    fn parameter(&mut self, body: &[u8]) {
        match wire::parameter_status(body) {
            Some((b"standard_conforming_strings", value)) => {
                self.view.standard_conforming_strings = value == b"on";
                self.view.stamp += 1;
            }
            Some((b"client_encoding", value)) => {
                // SQL_ASCII means that nobody converts: what is valid UTF-8 can be read as such.
                let utf8 = matches!(value, b"UTF8" | b"SQL_ASCII");
                self.view.encoding = if utf8 { Encoding::Utf8 } else { Encoding::Other };
                self.view.stamp += 1;
            }
            Some(_) | None => {}
        }
    }

    fn error<H: Host>(&mut self, host: &mut H, message: &Message, out: &mut Out) -> Taken {
        let body = message.body();
        if wire::notice_is_fatal(body) {
            return Taken::Pass;
        }
        match self.queue.failed() {
            Failed::Connection => Taken::Pass,
            Failed::Cycle => {
                let edited = self.queue.front().and_then(|entry| entry.note.as_ref()?.edited.clone());
                let masked = self.masked(body, edited.as_deref());
                let Some(note) = self.queue.front().and_then(|entry| entry.note.as_mut()) else {
                    return put(replaced(None, body, masked), message, out);
                };
                if let Some(touched) = &mut note.touched {
                    touched.failed = true;
                }
                let (undo, forgotten) = (note.undo.take(), std::mem::take(&mut note.forgotten));
                let made = replaced(Some(note), body, masked);
                if let Some(undo) = undo {
                    self.take_back(undo);
                }
                self.recall(forgotten);
                put(made, message, out)
            }
            Failed::Batch { front, skipped, until_sync } => {
                for entry in skipped.into_iter().rev() {
                    self.never_ran(entry);
                }
                self.skipping = until_sync;
                let made = replaced(
                    front.note.as_deref(),
                    body,
                    self.masked(body, front.note.as_ref().and_then(|note| note.edited.as_deref())),
                );
                if let Some(touched) = front.note.as_ref().and_then(|note| note.touched) {
                    let time = host.now().saturating_duration_since(touched.sent_at);
                    host.answered(touched.route, time, true);
                }
                self.never_ran(front);
                let taken = put(made, message, out);
                self.hold_failed(until_sync, out);
                taken
            }
        }
    }

    /// The fields of an error that name a stored column which the session's shape does not have, told in its names.
    fn masked(&self, body: &[u8], edited: Option<&Edited>) -> Vec<(u8, Option<String>)> {
        let (true, Some(pinned), Ok(shape)) = (self.reading, &self.pin, &self.view.shape) else { return Vec::new() };
        let text = |code| error_text(body, code).map(str::to_owned);
        let target = edited.and_then(|edited| {
            let place = error_text(body, b'P')?.parse().ok()?;
            edited.target_at(place, self.view.standard_conforming_strings)
        });
        let before = ErrorTexts {
            message: text(b'M'),
            detail: text(b'D'),
            hint: text(b'H'),
            context: text(b'W'),
            column: text(b'c'),
            table: text(b't'),
            schema: text(b's'),
            target,
        };
        let after = pinned.rules.tables().fold(before.clone(), |mut texts, table| {
            if let (Some(through), Some(context)) = (table.copy_view(), &texts.context) {
                texts.context = Some(mask_copy(&table.table.name, &through.name, context));
            }
            mask_error(table.write_view(*shape), texts)
        });
        [
            (b'M', before.message, after.message),
            (b'D', before.detail, after.detail),
            (b'H', before.hint, after.hint),
            (b'W', before.context, after.context),
            (b'c', before.column, after.column),
        ]
        .into_iter()
        .filter(|(_, before, after)| before != after)
        .map(|(code, _, after)| (code, after))
        .collect()
    }

    /// Takes back what a message was thought to do.
    fn never_ran(&mut self, entry: Expected<Note>) {
        let clients = entry.note.as_ref().is_none_or(|note| note.ours.is_none() && note.refusal.is_none());
        let (undo, forgotten) = entry.note.map(|note| (note.undo, note.forgotten)).unwrap_or_default();
        self.recall(forgotten);
        match undo {
            Some(undo) => self.take_back(undo),
            // Whatever the unnamed statement is now, the client will not use it.
            None if clients && entry.asked == Asked::Parse => drop(self.statements.put(b"", None)),
            None => {}
        }
    }

    /// A batch failed while something of ours was asked, in it or behind it.
    fn hold_failed(&mut self, until_sync: bool, out: &mut Out) {
        match self.hold.take() {
            None => {}
            // A batch before ours failed, or ours did and its ReadyForQuery is still to come.
            Some(mut hold) if !until_sync => {
                hold.failed = !self.queue.is_left(|asked, note| asked != Asked::Sync && note.ours.is_some());
                self.hold = Some(hold);
            }
            // Nothing was asked before all else was answered: the error is that of the Query that was held, and as a
            // Query's it ends in ReadyForQuery.
            Some(mut hold) if hold.answers == Answered::Query && !matches!(hold.purpose, Purpose::Answers) => {
                wire::sync(out.to_server.ours(&[]));
                let last = Note { ours: Some(Ours::Last), ..Note::default() };
                self.queue.push(Asked::Sync, Some(Box::new(last)));
                (self.skipping, self.batch_open, self.unsynced, hold.failed) = (false, false, false, true);
                self.hold = Some(hold);
            }
            // The held message is skipped too, or the error is the answer to its batch.
            Some(_) => {}
        }
    }
}

/// The error that the client sees in place of the server's, where it is another one.
fn replaced(note: Option<&Note>, body: &[u8], masked: Vec<(u8, Option<String>)>) -> Option<Vec<u8>> {
    if let Some((refusal, position)) = note.and_then(|note| note.refusal.as_ref()) {
        let mut out = Vec::new();
        wire::error_response(&mut out, refusal, *position);
        return Some(out);
    }
    let mut changes = masked;
    if let (Some(note), Some(sent_position)) = (note, error_text(body, b'P').and_then(|text| text.parse().ok())) {
        if let Some((refusal, position)) = note.edited.as_ref().and_then(|edited| edited.refusal_at(sent_position)) {
            let mut out = Vec::new();
            wire::error_response(&mut out, &refusal, position);
            return Some(out);
        }
        match (&note.edited, note.ours) {
            (Some(edited), _) => {
                changes.push((b'P', edited.client_position(sent_position).map(|place| place.to_string())));
            }
            // A place in a question of ours. What is prepared again as it was has the client's own.
            (None, Some(_)) if note.undo.is_none() => changes.push((b'P', None)),
            (None, Some(_) | None) => {}
        }
    }
    (!changes.is_empty()).then(|| wire::error_with(body, &changes))
}

/// A field of an error, where it is text that we can read.
fn error_text(body: &[u8], code: u8) -> Option<&str> {
    std::str::from_utf8(wire::error_field(body, code)?).ok()
}

fn put(made: Option<Vec<u8>>, message: &Message, out: &mut Out) -> Taken {
    match made {
        Some(made) => {
            out.to_client.ours(message.input).extend_from_slice(&made);
            Taken::Replaced
        }
        None => Taken::Pass,
    }
}
