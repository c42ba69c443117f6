//! What becomes of a text under the pinned rules, and whether what the server has prepared is still right.

use std::rc::Rc;

use super::client::{Message, Taken};
use super::names::{EXECUTE, touch_no_table};
use super::prepared::{Edited, Judged, MARK, Origin, Prepared, Sent, Traits, parse_body, position};
use super::several::ambiguous;
use super::{Encoding, Host, Outcome, Pinned, Purpose, Session};
use crate::migration::{Route, Shape};
use crate::schema::{Refusal, SqlState};
use crate::sql::lex::{self, Lexer};
use crate::sql::{self, Context, Kind, Mention, Planned, Verdict};

/// How deep prepared statements that run each other are followed.
const EXECUTING_MAX: usize = 32;

/// What becomes of a text.
#[derive(Debug)]
pub(super) enum Judgement {
    /// It touches nothing under migration.
    Untouched,
    /// It does, and means the same as it stands.
    Unchanged,
    /// The edited text goes in its place.
    Rewritten(Rc<Edited>),
    /// The client gets this, at that position in its text.
    Refused(Refusal, Option<usize>),
    /// The server must first be asked what names mean.
    NamesNeeded,
}

impl Judgement {
    fn refused(refusal: Refusal) -> Judgement {
        Judgement::Refused(refusal, None)
    }
}

impl Session {
    /// Judges a text under the pinned rules.
    pub(super) fn judge<H: Host>(&mut self, host: &mut H, text: &[u8], statements: &sql::Statements) -> Judgement {
        let Some(pinned) = self.pin.clone() else { return Judgement::Untouched };
        // In another encoding a byte of a character may look like a backslash, and hide what is behind it.
        if self.view.encoding == Encoding::Other && !text.is_ascii() {
            let may = pinned.screen.may_mention(text) && !touch_no_table(statements);
            return if may { Judgement::refused(unreadable()) } else { Judgement::Untouched };
        }
        if let Some(judgement) = self.remembered(host, &pinned, text, statements) {
            return judgement;
        }
        if self.config.walsender && is_replication_command(text) {
            return Judgement::Untouched;
        }
        let mention = self.mention(&pinned, text);
        if mention != Mention::Identifier && self.is_unsure_of_strings(&pinned, text) && !touch_no_table(statements) {
            return self.without_names(statements);
        }
        if mention == Mention::No {
            // The rules that know the function are made with the answer.
            let unsure = self.view.functions && !self.view.valid && !touch_no_table(statements);
            return if unsure { self.without_names(statements) } else { Judgement::Untouched };
        }
        if mention == Mention::Catalog {
            return self.judge_catalog(host, text, statements);
        }
        if mention == Mention::OnlyInString || touch_no_table(statements) {
            return Judgement::Untouched;
        }
        if !host.is_leased() || pinned.rules.is_held() {
            host.refused_unleased();
            return Judgement::refused(if pinned.rules.is_held() { still_held() } else { unleased() });
        }
        let Ok(text) = std::str::from_utf8(text) else { return Judgement::refused(unreadable()) };
        if !self.view.valid {
            return self.without_names(statements);
        }
        if let Some(refusal) = self.serving.refusal() {
            return Judgement::refused(refusal);
        }
        let shape = match &self.view.shape {
            Ok(shape) => *shape,
            Err(value) => return Judgement::refused(no_shape(value)),
        };
        let context = self.context(&pinned, shape);
        if let Some(refusal) = ambiguous(text, statements, &context, self.view.unsettled) {
            return Judgement::refused(refusal);
        }
        let plan = host.rewrite(text, &pinned, &context);
        decided(text, plan, statements)
    }

    /// What was decided before about a text of this shape, without cutting the text into tokens once more: it mentions what
    /// the one did that was planned, since a shape has every name in it. `None` also where anything else than a plan would
    /// decide, or the plan is a refusal.
    fn remembered<H: Host>(
        &self,
        host: &mut H,
        pinned: &Pinned,
        text: &[u8],
        statements: &sql::Statements,
    ) -> Option<Judgement> {
        let decides = self.view.valid
            && statements.single().is_some_and(is_plain)
            && host.is_leased()
            && !pinned.rules.is_held()
            && self.serving.refusal().is_none();
        let shape = self.view.shape.as_ref().ok().filter(|_| decides)?;
        let text = std::str::from_utf8(text).ok()?;
        let plan = host.remembered(text, pinned, &self.context(pinned, *shape))?;
        (!plan.is_refusal()).then(|| decided(text, plan, statements))
    }

    fn context<'a>(&'a self, pinned: &'a Pinned, shape: Shape) -> Context<'a> {
        Context {
            rules: &pinned.rules,
            names: &self.view.names,
            shape,
            bucket: self.config.bucket,
            standard_conforming_strings: self.view.standard_conforming_strings,
        }
    }

    /// How the text mentions what is under migration, or the system catalogs that tell of it.
    fn mention(&mut self, pinned: &Pinned, text: &[u8]) -> Mention {
        let strings = self.view.standard_conforming_strings;
        let mention = pinned.screen.mentions(text, strings);
        // A text that mentions catalogs, or has names in strings, may put `information_schema` into the path.
        self.view.unqualified |= matches!(mention, Mention::Catalog | Mention::OnlyInString);
        if self.view.unqualified && matches!(mention, Mention::No | Mention::OnlyInString) {
            return pinned.screen.mentions_unqualified(text, strings);
        }
        mention
    }

    /// A text that asks the system catalogs only. Never refused: what cannot be told for the session's shape passes as it is.
    fn judge_catalog<H: Host>(&mut self, host: &mut H, text: &[u8], statements: &sql::Statements) -> Judgement {
        let Some(pinned) = self.pin.clone() else { return Judgement::Untouched };
        let foreign = self.view.encoding == Encoding::Other && !text.is_ascii();
        if foreign || self.config.walsender || touch_no_table(statements) {
            return Judgement::Untouched;
        }
        let Ok(text) = std::str::from_utf8(text) else { return Judgement::Untouched };
        if !self.view.valid {
            let failed = self.status == b'E' && self.queue.is_empty();
            return if failed { Judgement::Untouched } else { Judgement::NamesNeeded };
        }
        let Ok(shape) = self.view.shape else { return Judgement::Untouched };
        let prepares = |statement: &sql::Statement| matches!(statement.kind, Kind::Prepare { .. });
        let context = self.context(&pinned, shape);
        if ambiguous(text, statements, &context, self.view.unsettled).is_some()
            || (statements.single().is_none() && statements.iter().any(prepares))
        {
            return Judgement::Untouched;
        }
        let plan = host.rewrite(text, &pinned, &context);
        match plan.verdict() {
            Verdict::Refused(_) => Judgement::Unchanged,
            Verdict::Unchanged | Verdict::Rewritten => decided(text, plan, statements),
        }
    }

    /// Whether a statement on its way may change how strings are read, and the text would then mention a table under
    /// migration. When names are asked for, the server has told.
    fn is_unsure_of_strings(&self, pinned: &Pinned, text: &[u8]) -> bool {
        !self.view.valid
            && memchr::memchr(b'\\', text).is_some()
            && pinned.screen.mentions(text, !self.view.standard_conforming_strings) == Mention::Identifier
    }

    /// A text that needs names while they are not known.
    fn without_names(&self, statements: &sql::Statements) -> Judgement {
        if self.config.walsender {
            return Judgement::refused(of_walsender());
        }
        if self.status != b'E' || !self.queue.is_empty() {
            return Judgement::NamesNeeded;
        }
        // The server answers nothing in a failed transaction, and runs nothing but its end.
        if statements.single().is_some() {
            return Judgement::Untouched;
        }
        Judgement::refused(
            Refusal::unsupported("cannot run several statements at once in a failed transaction")
                .detail("One of them names a table under migration, and what the name means cannot be asked now.")
                .hint("End the transaction with a ROLLBACK of its own, then send the other statements."),
        )
    }

    /// The route of the session's reads: new if any table's is.
    pub(super) fn route(&self) -> Route {
        let rules = self.pin.as_ref().map(|pinned| &pinned.rules);
        let new = rules.is_some_and(|rules| rules.tables().any(|t| t.route(self.config.bucket) == Route::New));
        if new { Route::New } else { Route::Old }
    }

    /// Makes sure, before a Bind or Describe, that the server has the right text. `None`: the message goes on.
    #[inline]
    pub(super) fn refresh<H: Host>(
        &mut self,
        host: &mut H,
        message: &Message,
        name: &[u8],
        out: &mut super::Out,
    ) -> Option<Taken> {
        match self.statements.get(name) {
            Some(statement) if self.is_fresh(host, statement) && !statement.traits.executes => None,
            Some(_) => self.refresh_stale(host, message, name, out),
            None => self.recover(host, message, name, out),
        }
    }

    pub(super) fn is_fresh<H: Host>(&self, host: &H, statement: &Prepared) -> bool {
        match statement.judged {
            Judged::Never => false,
            Judged::Untouched(generation) => generation == self.view.generation,
            Judged::Touched(stamp) => stamp == self.view.stamp && self.view.valid && host.is_leased(),
        }
    }

    /// A statement that we have not seen being made: SQL-level `PREPARE` inside something, or while nothing was read.
    fn recover<H: Host>(
        &mut self,
        host: &mut H,
        message: &Message,
        name: &[u8],
        out: &mut super::Out,
    ) -> Option<Taken> {
        let known_absent = self.absent.take().is_some_and(|absent| *absent == *name);
        // The unnamed one cannot be asked for; where we do not know it, the server does not have it.
        if known_absent || name.is_empty() || (self.status == b'E' && self.queue.is_empty()) {
            return None;
        }
        // What made us forget it may fail.
        if self.queue.is_left(|_, note| note.undo.is_some() || !note.forgotten.is_empty()) {
            self.await_answers(message, out);
        } else {
            self.ask(host, message, Purpose::Prepared(name.into()), out);
        }
        Some(Taken::Wait)
    }

    fn refresh_stale<H: Host>(
        &mut self,
        host: &mut H,
        message: &Message,
        name: &[u8],
        out: &mut super::Out,
    ) -> Option<Taken> {
        let statement = self.statements.get(name)?;
        let (fresh, origin) = (self.is_fresh(host, statement), statement.origin);
        let text = statement.parts().text.to_vec();
        let (strings, mut traits) = (statement.standard_conforming_strings, statement.traits);
        let statements = sql::classify(&text, strings);
        if EXECUTE.is_in(&text) && origin == Origin::Protocol {
            let taken = self.refresh_executed(host, message, &text, &statements, out);
            if taken.is_some() {
                return taken;
            }
        }
        if fresh {
            return None;
        }
        let judgement = match (text.ends_with(MARK.as_bytes()), strings == self.view.standard_conforming_strings) {
            (false, true) => self.judge(host, &text, &statements),
            _ => Judgement::refused(unknown_original()),
        };
        traits.read_from(&text, &statements);
        let (outcome, wanted, judged) = match judgement {
            Judgement::NamesNeeded => {
                self.ask_names(host, message, out);
                return Some(Taken::Wait);
            }
            Judgement::Refused(refusal, at) => {
                host.statement(traits.kind, Outcome::Refused);
                self.refuse(message, refusal, at, out);
                return Some(Taken::Replaced);
            }
            Judgement::Untouched => (Outcome::Passed, Sent::Original, Judged::Untouched(self.view.generation)),
            Judgement::Unchanged => (Outcome::Unchanged, Sent::Original, Judged::Touched(self.view.stamp)),
            Judgement::Rewritten(edited) => {
                (Outcome::Rewritten, Sent::Edited(edited), Judged::Touched(self.view.stamp))
            }
        };
        // A failed transaction is not the time to look: what passes now is answered by an error.
        let judged = if self.view.valid || outcome == Outcome::Passed { judged } else { Judged::Never };
        traits.outcome = outcome;
        let statement = self.statements.get_mut(name)?;
        (statement.traits, statement.judged) = (traits, judged);
        if statement.sent.is(&wanted) {
            return None;
        }
        self.reprepare(host, message, name, wanted, out)
    }

    /// Makes sure, before a text that runs SQL-level prepared statements, that the server has them right.
    pub(super) fn refresh_executed<H: Host>(
        &mut self,
        host: &mut H,
        message: &Message,
        text: &[u8],
        statements: &sql::Statements,
        out: &mut super::Out,
    ) -> Option<Taken> {
        if !EXECUTE.is_in(text) {
            return None;
        }
        let made_here =
            |name: &str| statements.iter().any(|s| matches!(&s.kind, Kind::Prepare { name: made, .. } if made == name));
        for name in executed_names(text, self.view.standard_conforming_strings) {
            let own =
                message.kind != b'Q' && self.statements.get(name.as_bytes()).is_some_and(|s| s.parts().text == text);
            if name.is_empty() || own || made_here(&name) {
                continue;
            }
            // One that runs itself is PostgreSQL's to end.
            if self.executing.contains(&name) {
                continue;
            }
            if self.executing.len() >= EXECUTING_MAX {
                self.refuse(message, executes_too_deep(), None, out);
                return Some(Taken::Replaced);
            }
            self.executing.push(name.clone());
            let taken = match self.statements.get(name.as_bytes()) {
                Some(statement) if self.is_fresh(host, statement) => None,
                Some(_) => self.refresh_stale(host, message, name.as_bytes(), out),
                None => self.recover(host, message, name.as_bytes(), out),
            };
            self.executing.pop();
            if taken.is_some() {
                return taken;
            }
            let traits = self.statements.get(name.as_bytes()).map(|statement| statement.traits);
            if let Some(traits) = traits.filter(|traits| traits.changes_names) {
                self.names_may_change(traits.alters, traits.makes_functions);
            }
        }
        None
    }

    /// Remembers a statement as the server has it.
    pub(super) fn recovered(&mut self, name: Box<[u8]>, answer: Option<super::names::PreparedAnswer>) {
        let Some(answer) = answer else {
            self.absent = Some(name);
            return;
        };
        let strings = self.view.standard_conforming_strings;
        let (text, origin) = if answer.from_sql {
            (prepare_statement(&answer.text, &name, strings), Origin::Sql)
        } else {
            (answer.text, Origin::Protocol)
        };
        let body = parse_body(&name, &text, &answer.types);
        let mut statement = Prepared::new(body, origin, strings);
        statement.traits = Traits { kind: super::StatementKind::Other, ..Traits::UNKNOWN };
        self.statements.put(&name, Some(statement));
    }
}

/// A query or a write that changes nothing that names depend on.
fn is_plain(statement: &sql::Statement) -> bool {
    let plain = matches!(
        statement.kind,
        Kind::Select | Kind::Values | Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge
    );
    plain && !statement.calls_set_config
}

fn decided(text: &str, plan: Planned, statements: &sql::Statements) -> Judgement {
    match plan.verdict() {
        Verdict::Unchanged => Judgement::Unchanged,
        Verdict::Refused(refusal) => {
            let at = refusal.offset.map(|offset| position(text, offset));
            Judgement::Refused(refusal, at)
        }
        Verdict::Rewritten => {
            let prepares = |statement: &sql::Statement| matches!(statement.kind, Kind::Prepare { .. });
            if statements.single().is_none() && statements.iter().any(prepares) {
                return Judgement::refused(
                    Refusal::unsupported("cannot rewrite PREPARE beside other statements in one query")
                        .detail("The query names a table under migration.")
                        .hint("Send the statements one by one."),
                );
            }
            Judgement::Rewritten(Rc::new(Edited::new(text, plan)))
        }
    }
}

/// The names behind each word EXECUTE of a text.
fn executed_names(text: &[u8], standard_conforming_strings: bool) -> Vec<String> {
    let tokens: Vec<_> = Lexer::new(text, standard_conforming_strings).significant().collect();
    let behind = tokens.iter().enumerate().filter(|(_, token)| token.is_word(text, "execute"));
    behind.filter_map(|(at, _)| lex::name(text, tokens.get(at + 1)?, lex::escape_of(text, &tokens, at + 1))).collect()
}

/// The one PREPARE of that name out of the whole query that PostgreSQL remembers it by.
fn prepare_statement(text: &[u8], name: &[u8], standard_conforming_strings: bool) -> Vec<u8> {
    let statements = sql::classify(text, standard_conforming_strings);
    let made = |statement: &&sql::Statement| matches!(&statement.kind, Kind::Prepare { name: made, .. } if made.as_bytes() == name);
    let found = statements.iter().find(made).and_then(|statement| text.get(statement.range.clone()));
    let whole = statements.single().is_some();
    if whole { text.to_vec() } else { found.unwrap_or(text).to_vec() }
}

/// Whether a text is a command of the replication protocol: PostgreSQL tells by its first word too ("Streaming Replication
/// Protocol"). The names in one are never a table's.
fn is_replication_command(text: &[u8]) -> bool {
    const COMMANDS: [&[u8]; 9] = [
        b"alter_replication_slot",
        b"base_backup",
        b"create_replication_slot",
        b"drop_replication_slot",
        b"identify_system",
        b"read_replication_slot",
        b"start_replication",
        b"timeline_history",
        b"upload_manifest",
    ];
    let text = text.trim_ascii_start();
    let end = text.iter().position(|byte| !byte.is_ascii_alphabetic() && *byte != b'_').unwrap_or(text.len());
    COMMANDS.iter().any(|command| text[..end].eq_ignore_ascii_case(command))
}

fn of_walsender() -> Refusal {
    Refusal::unsupported("cannot use a table under migration on a replication connection")
        .detail("What its name means must be asked of the server, and a replication connection takes no such question.")
        .hint("Use an ordinary connection; let a subscription to this table connect to the server itself.")
}

fn unreadable() -> Refusal {
    Refusal::new(
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        "cannot read a statement that names a table under migration and is not valid UTF-8",
    )
    .detail("The statement's text is not ASCII, and is not valid UTF-8 or client_encoding is not UTF8.")
    .hint("Set client_encoding to UTF8, or send the values as parameters.")
}

fn unleased() -> Refusal {
    Refusal::new(SqlState::CANNOT_CONNECT_NOW, "cannot run a statement on a table under migration now")
        .detail("This proxy's lease has run out, so its rules may be stale. Other statements are not affected.")
        .hint("Try again shortly. If it lasts, see whether the proxy reaches the database's schema crossfade.")
}

/// The transaction began under rules that were held for too long.
fn still_held() -> Refusal {
    Refusal::new(SqlState::CANNOT_CONNECT_NOW, "cannot run a statement on a table under migration now")
        .detail("The table's storage was about to change, and this proxy has not heard yet whether it did.")
        .hint("Try again shortly, in a new transaction. If it lasts, see whether the proxy reaches the database.")
}

fn no_shape(value: &str) -> Refusal {
    // The value is a setting's, not data; its length is bounded here.
    let value: String = value.chars().take(40).collect();
    Refusal::new(SqlState("22023"), format!("invalid value for parameter \"crossfade.shape\": \"{value}\""))
        .hint("Available values: old, new, auto.")
}

fn executes_too_deep() -> Refusal {
    Refusal::unsupported("cannot follow a prepared statement that runs another, and so on, to its end")
        .detail(format!("More than {EXECUTING_MAX} stand in one another."))
        .hint("Execute the innermost statement itself.")
}

fn unknown_original() -> Refusal {
    Refusal::unsupported("cannot prepare a statement again whose original text is not known")
        .detail("It names a table under migration, and was prepared under other rules or with another string syntax.")
        .hint("Deallocate the statement and prepare it again.")
}
