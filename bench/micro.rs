//! What the pure parts cost, without a socket: the screen, a remembered plan, a plan made, and a whole Query through a
//! session.
//!
//! Each figure is the best of many batches: on a busy machine that is the one that was not interrupted.

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossfade::migration::{Bucket, Phase, Route, Rules, Shape};
use crossfade::session::{Host, Out, Outcome, Pinned, Session, SessionConfig, StatementKind};
use crossfade::sql::{Context, PlanCache, Planned, Screen, rewrite};

use super::fixture;
use super::report::Report;

/// How long one figure is measured.
const MEASURED: Duration = Duration::from_millis(400);

const SHORT: &str = "SELECT id, username FROM users WHERE id = ";
const ELSEWHERE: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711";

/// Measures everything and adds it to the report.
pub fn run(report: &mut Report) {
    report.heading("without sockets: best of many batches");
    let rules = fixture::rules(Phase::Verified, Route::Old);
    let names = fixture::names();
    let cx = Context {
        rules: &rules,
        names: &names,
        shape: Shape::Old,
        bucket: Bucket::default(),
        standard_conforming_strings: true,
    };
    let screen = Screen::new(&rules);
    let mut fact = |name: &str, micros: f64| report.fact(name, "crossfade", micros, "us");
    let (orm, rows) = (orm_select(), rows_insert(1_000));
    let elsewhere = orm.replace("users", "orders").replace("username", "title");
    fact("screen, no mention, short", best(|_| screen.mentions(black_box(ELSEWHERE.as_bytes()), true)));
    fact("screen, no mention, 30 columns", best(|_| screen.mentions(black_box(elsewhere.as_bytes()), true)));
    let mut texts = Texts { cache: PlanCache::new(32 << 20), cx, screen: &screen, sent: String::new() };
    let short: Vec<String> = (0..64).map(|n| format!("{SHORT}{}", n * 37 + 1)).collect();
    let update: Vec<String> =
        (0..64).map(|n| format!("UPDATE users SET username = 'name {n}', score = {n} WHERE id = {}", n * 37)).collect();
    let wide: Vec<String> = (0..64).map(|n| format!("{orm} WHERE u.id = {n}")).collect();
    let parameters = format!("{orm} WHERE u.id = $1");
    let many: Vec<String> = (0..8).map(|n| rows_insert(100).replace("'name", &format!("'name{n}"))).collect();
    fact("remembered, short SELECT", best(|n| texts.remembered(&short[n % short.len()])));
    fact("remembered, short UPDATE", best(|n| texts.remembered(&update[n % update.len()])));
    fact("remembered, 30 columns", best(|n| texts.remembered(&wide[n % wide.len()])));
    fact("remembered, 30 columns and parameters", best(|_| texts.remembered(&parameters)));
    fact("remembered, INSERT of 100 rows", best(|n| texts.remembered(&many[n % many.len()])));
    fact("made, short SELECT", best(|n| rewrite(&short[n % short.len()], &cx)));
    fact("made, short UPDATE", best(|n| rewrite(&update[n % update.len()], &cx)));
    fact("made, 30 columns", best(|n| rewrite(&wide[n % wide.len()], &cx)));
    fact("made, INSERT of 1,000 rows", best(|_| rewrite(black_box(&rows), &cx)));
    sessions(&mut fact);
}

/// A whole Query and its answer through a session: without any migration, with one elsewhere, and on its table.
fn sessions(fact: &mut impl FnMut(&str, f64)) {
    let none = Rules::default();
    let verified = || fixture::rules(Phase::Verified, Route::Old);
    let hot: Vec<Vec<u8>> = (0..64).map(|n| query(&format!("{SHORT}{}", n * 37 + 1))).collect();
    let cold = [query(ELSEWHERE)];
    let mut conversation = Conversation::new(none);
    fact("session, a Query, no migration", best(|n| conversation.ask(&cold[n % cold.len()])));
    let mut conversation = Conversation::new(verified());
    fact("session, a Query, no mention", best(|n| conversation.ask(&cold[n % cold.len()])));
    fact("session, a Query, remembered", best(|n| conversation.ask(&hot[n % hot.len()])));
}

/// Microseconds of one call.
fn best<T>(mut call: impl FnMut(usize) -> T) -> f64 {
    let mut number = 0;
    let mut batch = |size: usize| {
        let begun = Instant::now();
        for _ in 0..size {
            black_box(call(number));
            number += 1;
        }
        begun.elapsed()
    };
    // The first calls fill what is remembered.
    let one = batch(200).max(Duration::from_nanos(200)) / 200;
    let size = usize::try_from(Duration::from_micros(300).as_nanos() / one.as_nanos().max(1)).unwrap_or(1).max(1);
    let end = Instant::now() + MEASURED;
    let mut best = Duration::MAX;
    while Instant::now() < end {
        best = best.min(batch(size));
    }
    best.as_secs_f64() * 1e6 / size as f64
}

struct Texts<'a> {
    cache: PlanCache,
    cx: Context<'a>,
    screen: &'a Screen,
    sent: String,
}

impl Texts<'_> {
    /// What a repeated text costs: the screen, the plan, and the text that is sent.
    fn remembered(&mut self, text: &str) -> usize {
        let found = self.cache.find(text, &self.cx, || self.screen.has_table(text.as_bytes()));
        let planned = found.unwrap_or_else(|| self.cache.rewrite(text, &self.cx));
        self.sent.clear();
        planned.apply(text, &mut self.sent);
        self.sent.len()
    }
}

fn orm_select() -> String {
    let columns: Vec<String> = (0..28).map(|n| format!("u.column_{n} AS \"u_column_{n}\"")).collect();
    format!("SELECT u.id AS \"u_id\", u.username AS \"u_username\", {} FROM users AS u", columns.join(", "))
}

fn rows_insert(rows: usize) -> String {
    let rows: Vec<String> = (0..rows).map(|n| format!("({n}, 'name {n}', 'a{n}@example.org', {n})")).collect();
    format!("INSERT INTO users (id, username, email, score) VALUES {}", rows.join(", "))
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
    out
}

fn query(text: &str) -> Vec<u8> {
    frame(b'Q', &[text.as_bytes(), b"\0"].concat())
}

/// A session, and a server that answers everything alike.
struct Conversation {
    session: Session,
    world: World,
    out: Out,
    answer: Vec<u8>,
}

struct World {
    pinned: Rc<Pinned>,
    plans: PlanCache,
}

impl Host for World {
    fn rules(&self) -> &Rc<Pinned> {
        &self.pinned
    }
    fn unruled(&self) -> &Rc<Pinned> {
        &self.pinned
    }
    fn holds(&self) -> bool {
        false
    }
    fn is_leased(&self) -> bool {
        true
    }
    fn now(&self) -> Instant {
        Instant::now()
    }
    fn remembered(&mut self, text: &str, pinned: &Pinned, context: &Context<'_>) -> Option<Planned> {
        self.plans.find(text, context, || pinned.screen.has_table(text.as_bytes()))
    }
    fn rewrite(&mut self, text: &str, _: &Pinned, context: &Context<'_>) -> Planned {
        self.plans.rewrite(text, context)
    }
    fn statement(&mut self, _: StatementKind, _: Outcome) {}
    fn answered(&mut self, _: Route, _: Duration, _: bool) {}
    fn reprepared(&mut self) {}
    fn probed(&mut self) {}
    fn refused_unleased(&mut self) {}
    fn ddl_seen(&mut self) {}
}

impl Conversation {
    fn new(rules: Rules) -> Conversation {
        let world = World { pinned: Rc::new(Pinned::new(Arc::new(rules), 1)), plans: PlanCache::new(32 << 20) };
        let session = Session::new(SessionConfig {
            bucket: Bucket::default(),
            shape: Shape::Old,
            under_rules: true,
            walsender: false,
            pooled: false,
            held_bytes_max: 1 << 20,
        });
        let row = [&[0, 1, 0, 0, 0, 3][..], b"abc"].concat();
        let answer = [frame(b'T', &[0; 24]), frame(b'D', &row), frame(b'C', b"SELECT 1\0"), frame(b'Z', b"I")].concat();
        let mut conversation = Conversation { session, world, out: Out::new(), answer };
        conversation.server(&frame(b'Z', b"I"));
        conversation.learn_names();
        conversation
    }

    fn server(&mut self, bytes: &[u8]) {
        self.out.clear();
        self.session.on_server(&mut self.world, bytes, &mut self.out);
    }

    /// Answers the session's question about names, which it puts before the first text that needs it.
    fn learn_names(&mut self) {
        self.out.clear();
        self.session.on_client(&mut self.world, &query(&format!("{SHORT}1")), &mut self.out);
        if self.session.wants_client(&self.world) {
            return self.server(&self.answer.clone());
        }
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let row = |schema: &str| {
            let value = hex(schema);
            let length = (value.len() as u32).to_be_bytes();
            frame(b'D', &[&[0, 2, 0, 0, 0, 1][..], b"1", &length, value.as_bytes()].concat())
        };
        let parts = [
            frame(b'3', b""),
            frame(b'1', b""),
            frame(b'2', b""),
            row("pg_catalog"),
            row("public"),
            frame(b'C', b"SELECT 2\0"),
            frame(b'3', b""),
            frame(b'3', b""),
            frame(b'Z', b"I"),
        ];
        self.server(&parts.concat());
        self.server(&self.answer.clone());
    }

    /// A Query there and its answer back.
    fn ask(&mut self, query: &[u8]) -> bool {
        self.out.clear();
        self.session.on_client(&mut self.world, query, &mut self.out);
        let asked = !self.out.to_server.is_empty();
        self.out.clear();
        self.session.on_server(&mut self.world, &self.answer, &mut self.out);
        assert!(asked && !self.out.close, "the conversation went another way");
        asked
    }
}
