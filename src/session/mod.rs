//! One client conversation as a state machine: bytes in, bytes out.
//!
//! Pure: no sockets, no clock, no globals; the world is a [`Host`]. Relays what it need not understand, whole and in
//! order. While nothing is under migration it reads only headers and the client's Parse messages (a prepared statement
//! outlives an epoch). It never resynchronises by guess: a server that answers something else than what was asked ends
//! the session.

mod client;
mod flow;
mod host;
mod inject;
mod judge;
mod names;
mod note;
mod prepared;
mod queue;
mod server;
mod serving;
mod several;

pub use flow::{Flow, Out};
pub use host::{Host, Pinned};
pub use note::{Outcome, StatementKind};

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use ahash::RandomState;

use crate::migration::{Bucket, Route, Shape};
use crate::schema::{Refusal, SqlState};
use crate::sql::Names;
use crate::wire;
use prepared::{Edited, Portal, Prepared, Statements};
use queue::{Asked, Queue};
use serving::Serving;

/// What a session is told at its beginning.
#[derive(Debug, Clone, Copy)]
pub struct SessionConfig {
    /// Its place in the ramp.
    pub bucket: Bucket,
    /// Its shape where the client chooses none.
    pub shape: Shape,
    /// Whether it is a session of the database that the rules are about. Any other passes unread.
    pub under_rules: bool,
    /// Whether its server process is a walsender (`replication` at startup): it takes simple queries only, so nothing can be
    /// asked of it between two messages of the client.
    pub walsender: bool,
    /// Whether its server is behind a pooler that was said to pool by session.
    pub pooled: bool,
    /// The longest message that may have to be held whole, in bytes.
    pub held_bytes_max: usize,
}

/// One client session, which is one server session.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    client: Input,
    server: Input,
    queue: Queue<Note>,
    /// What the last ReadyForQuery said: `I`, `T` or `E`.
    status: u8,
    /// Extended messages are on their way that no Sync has closed yet.
    batch_open: bool,
    /// A Query came behind extended messages that no Sync has closed yet: from PostgreSQL 18 on they are one transaction,
    /// which only a Sync ends.
    unsynced: bool,
    /// The server skips what the client sends until a Sync.
    skipping: bool,
    /// The transaction's rules, from its first message to its end.
    pin: Option<Rc<Pinned>>,
    /// Whether texts must be looked at under the pinned rules.
    reading: bool,
    view: View,
    serving: Serving,
    statements: Statements,
    portal: Portal,
    portals: HashMap<Box<[u8]>, Portal, RandomState>,
    hold: Option<Hold>,
    /// What is kept of the client's input waits until transactions may begin again.
    held: bool,
    /// What was held is answered by the failure of what we asked before it, and goes nowhere.
    answer_given: Option<Answered>,
    /// The name that the server, asked, did not know.
    absent: Option<Box<[u8]>>,
    /// The prepared statements that are being looked at, each of which runs the next.
    executing: Vec<String>,
    /// How many rules of its own the session had.
    own_generation: u64,
    /// DDL succeeded in this transaction.
    ddl: bool,
    mode: Mode,
}

/// What the generations of a session's own rules begin with: they are never a thread's.
const OWN_GENERATIONS: u64 = 1 << 63;

/// How far the session understands what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Message by message.
    Reading,
    /// Not at all: replication.
    Blind,
    /// It is over.
    Closed,
}

/// One direction's input between two calls. Owns no memory while no message is cut in two.
#[derive(Debug, Default)]
struct Input {
    /// The beginning of a message of which more must be seen, or what the client sent while it is held.
    kept: Vec<u8>,
    /// Bytes still to come of a message that passes as it comes.
    body_left: usize,
}

/// What the session knows of how names and strings are to be read.
#[derive(Debug)]
struct View {
    names: Rc<Names>,
    /// Whether `names` and `shape` still hold.
    valid: bool,
    /// Whether `names` has relations that the rules' catalog did not have: the next rules' may know them better.
    newer: bool,
    /// Whether the session may have changed a table under migration, and the rules in force may not know.
    altered: bool,
    /// Whether it may have made a function that gives rows of one, whose name the rules in force do not look for.
    functions: bool,
    /// Something in this transaction may have changed names; its end may change them back.
    unsettled: bool,
    shape: Result<Shape, String>,
    /// Stands for names, shape, string syntax and rules together: differs when one of them does.
    stamp: u64,
    /// The rules' generation that `stamp` stands for.
    generation: u64,
    standard_conforming_strings: bool,
    encoding: Encoding,
    /// Whether `information_schema` may be in the path, so that its relations are found without it.
    unqualified: bool,
}

/// `client_encoding`, as far as reading goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Utf8,
    /// Any other: only ASCII can be read.
    Other,
}

/// Why the client's input is held.
#[derive(Debug)]
struct Hold {
    purpose: Purpose,
    rows: Vec<names::Row>,
    /// How much of the client's input the failure of what was asked answers.
    answers: Answered,
    /// What was asked failed; its ReadyForQuery is still to come.
    failed: bool,
}

/// How much of the client's input an error answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    /// One Query.
    Query,
    /// A batch, up to its Sync.
    Batch,
}

/// What is waited for.
#[derive(Debug, Clone)]
enum Purpose {
    /// What names mean.
    Names,
    /// The text of a prepared statement.
    Prepared(Box<[u8]>),
    /// A stale statement to be prepared again, before a Query that runs it.
    Reprepare,
    /// The answers to a batch that no Sync ended, before something of ours follows it.
    Answers,
}

/// What is special about an answer that the server owes.
#[derive(Debug, Default)]
struct Note {
    /// The message was ours: its answer is swallowed.
    ours: Option<Ours>,
    /// The message was sent to fail; the client sees this, at that position, in place of the server's error.
    refusal: Option<(Refusal, Option<usize>)>,
    /// The text that an error's position counts in.
    edited: Option<Rc<Edited>>,
    /// The statement touches a migrating table.
    touched: Option<Touched>,
    /// For the client, beside the answer.
    warnings: Vec<u8>,
    /// What to take back where the message fails or is skipped.
    undo: Option<Undo>,
    /// The statements that it deallocates: still there where it fails or is skipped.
    forgotten: Vec<(Box<[u8]>, Prepared)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ours {
    /// Others of the same purpose follow.
    Part,
    /// The last of its purpose: the client's input goes on.
    Last,
}

#[derive(Debug, Clone, Copy)]
struct Touched {
    route: Route,
    sent_at: Instant,
    failed: bool,
}

/// A change to the remembered statements that was made when the message was sent.
#[derive(Debug)]
enum Undo {
    /// The client's own Parse or Close.
    Restore { name: Box<[u8]>, previous: Option<Prepared> },
    /// A Parse of ours, behind a Close of ours: what the server has now is not known.
    Doubt { name: Box<[u8]> },
}

impl Session {
    /// A session whose startup packet has just been sent to the server.
    pub fn new(config: SessionConfig) -> Session {
        let mut queue = Queue::new();
        queue.push(Asked::Startup, None);
        Session {
            config,
            client: Input::default(),
            server: Input::default(),
            queue,
            status: b'I',
            batch_open: false,
            unsynced: false,
            skipping: false,
            pin: None,
            reading: false,
            view: View {
                names: Rc::default(),
                valid: false,
                newer: false,
                altered: false,
                functions: false,
                unsettled: false,
                shape: Ok(config.shape),
                stamp: 0,
                generation: 0,
                standard_conforming_strings: true,
                encoding: Encoding::Utf8,
                unqualified: false,
            },
            serving: Serving::default(),
            statements: Statements::default(),
            portal: Portal::default(),
            portals: HashMap::default(),
            hold: None,
            held: false,
            answer_given: None,
            absent: None,
            executing: Vec::new(),
            own_generation: 0,
            ddl: false,
            mode: Mode::Reading,
        }
    }

    /// Whether the client's socket is to be read. While not, its bytes wait where they are.
    #[inline]
    pub fn wants_client<H: Host>(&self, host: &H) -> bool {
        match self.mode {
            Mode::Blind => true,
            Mode::Closed => false,
            Mode::Reading => {
                let starting = self.queue.is_starting();
                let held = self.held || (host.holds() && self.config.under_rules && self.pin.is_none() && !starting);
                self.hold.is_none() && !held && (self.client.kept.is_empty() || !starting)
            }
        }
    }

    /// Whether something that the client sent waits until transactions may begin again.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Whether no transaction is open, nothing is owed to the client, and no message is cut in two. What waits for a
    /// transaction that may not begin counts as not sent yet.
    pub fn is_idle(&self) -> bool {
        self.pin.is_none()
            && self.queue.is_empty()
            && self.mode != Mode::Blind
            && self.at_boundary()
            && (self.client.kept.is_empty() || self.held)
            && self.client.body_left == 0
    }

    /// Whether the client has a transaction open, and everything that it asked in it is answered.
    pub fn is_idle_in_transaction(&self) -> bool {
        self.status != b'I'
            && self.queue.is_empty()
            && !self.batch_open
            && self.mode == Mode::Reading
            && self.at_boundary()
            && self.client.kept.is_empty()
            && self.client.body_left == 0
    }

    /// Whether the login is still under way.
    pub fn is_starting(&self) -> bool {
        self.queue.is_starting()
    }

    /// Whether a message of ours may be written to the client now.
    fn at_boundary(&self) -> bool {
        self.server.kept.is_empty() && self.server.body_left == 0
    }

    /// Ends the session with a FATAL error, where one may be written; the client sees the server's socket close else.
    pub fn end(&mut self, refusal: &Refusal, out: &mut Out) {
        if self.mode == Mode::Reading && self.at_boundary() {
            wire::fatal_response(out.to_client.ours(&[]), refusal);
        }
        self.mode = Mode::Closed;
        self.pin = None;
        out.close = true;
    }

    /// Either side broke the protocol.
    fn violated(&mut self, what: impl Into<String>, input: &[u8], out: &mut Out) {
        out.to_client.settle(input);
        self.end(&Refusal::new(SqlState::PROTOCOL_VIOLATION, what), out);
    }

    /// Pins the rules in force, if the transaction has none yet.
    #[inline]
    fn begin<H: Host>(&mut self, host: &H) {
        if self.pin.is_none() {
            match self.config.under_rules {
                true => self.pin_now(host.rules()),
                // A transaction elsewhere is nothing that an epoch would have to wait for.
                false => self.pin = Some(Rc::clone(host.unruled())),
            }
        }
    }

    fn pin_now(&mut self, rules: &Rc<Pinned>) {
        if self.view.generation != rules.generation {
            self.view.generation = rules.generation;
            self.view.stamp += 1;
            self.view.valid &= !self.view.newer;
            self.reading = self.must_read(rules);
        }
        // What passes unread may change what names mean, and so may rules that do not know yet what the session did.
        self.view.valid &= self.reading && !self.view.altered;
        self.pin = Some(Rc::clone(rules));
    }

    /// Whether the next message is to be read, under the rules that it would run under.
    fn would_read<H: Host>(&self, host: &H) -> bool {
        match &self.pin {
            Some(_) => self.reading,
            None if host.rules().generation == self.view.generation => self.reading,
            None => self.must_read(host.rules()),
        }
    }

    fn must_read(&self, rules: &Pinned) -> bool {
        self.config.under_rules && (!rules.rules.is_empty() || self.statements.any_edited())
    }

    /// Lets go of the rules once the transaction has ended and nothing is on its way, unless a held message needs them.
    #[inline]
    fn settle<H: Host>(&mut self, host: &mut H, needed: bool) {
        if self.status != b'I' || self.batch_open || self.hold.is_some() || !self.queue.is_empty() {
            return;
        }
        if !needed {
            self.pin = None;
        }
        if self.reading {
            self.portals.clear();
            if std::mem::take(&mut self.view.unsettled) {
                self.view.valid = false;
            }
        }
        if std::mem::take(&mut self.ddl) {
            host.ddl_seen();
        }
    }
}

#[cfg(test)]
mod tests;
