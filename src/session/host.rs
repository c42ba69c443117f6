//! What a session needs from outside: the rules in force, the lease, the clock, the plan cache and the counters.
//!
//! A trait, so that a scripted conversation can stand in for a proxy thread.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::names::{names_question, tables_question};
use super::{Outcome, StatementKind};
use crate::migration::{Route, Rules};
use crate::sql::{Context, Planned, Screen};

/// One set of rules as a proxy thread holds it. A transaction holds it from its first message to its end.
#[derive(Debug)]
pub struct Pinned {
    /// The rules.
    pub rules: Arc<Rules>,
    /// What to look for in a text.
    pub screen: Screen,
    /// Differs for each set of rules that the thread ever held, also where their epoch is the same.
    pub generation: u64,
    /// The question that tells what unqualified names mean, as far as these rules need it.
    pub(super) names_question: String,
    /// The same with the columns of the tables of migrations that have begun; empty where there are none.
    pub(super) tables_question: String,
    /// What these rules are a session's own form of. An epoch is settled when nobody holds its rules.
    pub(super) base: Option<Rc<Pinned>>,
}

impl Pinned {
    /// These rules, as the thread's `generation`th.
    pub fn new(rules: Arc<Rules>, generation: u64) -> Pinned {
        let (names_question, tables_question) = (names_question(&rules), tables_question(&rules));
        Pinned { screen: Screen::new(&rules), names_question, tables_question, rules, generation, base: None }
    }
}

/// The world as one session sees it.
pub trait Host {
    /// The rules for a transaction that begins now.
    fn rules(&self) -> &Rc<Pinned>;

    /// No rules, for the transactions of sessions that no rules are about.
    fn unruled(&self) -> &Rc<Pinned>;

    /// Whether no transaction may begin until there are other rules.
    fn holds(&self) -> bool;

    /// Whether this process's lease is good. Asked only for statements that mention a migrating table.
    fn is_leased(&self) -> bool;

    /// The time. Asked only for statements that touch a migrating table.
    fn now(&self) -> Instant;

    /// What becomes of a text, where it is remembered.
    fn remembered(&mut self, text: &str, pinned: &Pinned, context: &Context<'_>) -> Option<Planned>;

    /// What becomes of a text, remembered or made now.
    fn rewrite(&mut self, text: &str, pinned: &Pinned, context: &Context<'_>) -> Planned;

    /// A statement was sent on, or answered by us.
    fn statement(&mut self, kind: StatementKind, outcome: Outcome);

    /// The server answered a statement that touches a migrating table.
    fn answered(&mut self, route: Route, time: Duration, failed: bool);

    /// A stale prepared statement is prepared again.
    fn reprepared(&mut self);

    /// The server is asked a question of ours.
    fn probed(&mut self);

    /// A statement is refused for want of a lease.
    fn refused_unleased(&mut self);

    /// A transaction ended in which DDL succeeded.
    fn ddl_seen(&mut self);
}
