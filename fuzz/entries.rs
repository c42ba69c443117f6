//! What is fed arbitrary bytes: the fuzz targets and the bounded run in the tests share these functions.
//!
//! Each must end, and must not panic, whatever the bytes are; where more can be said of the outcome, it is asserted.

use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossfade::migration::{
    ActiveMigration, Bucket, Conversion, Epoch, Lens, LensColumn, Misfits, OnUnsupported, Percent, Phase, Route, Rules,
    Shape,
};
use crossfade::schema::{Catalog, Column, Ident, QualifiedName, Relation, RelationKind};
use crossfade::session::{Host, Out, Outcome, Pinned, Session, SessionConfig, StatementKind};
use crossfade::sql::{self, Context, Mention, Names, Planned, Rewrite, Screen};
use crossfade::wire::{self, Peer};

/// An entry: its name, and what is fed.
pub type Entry = (&'static str, fn(&[u8]));

/// All entries.
pub const ENTRIES: [Entry; 6] = [
    ("frames", frames),
    ("startup", startup),
    ("messages", messages),
    ("session", session),
    ("lexer", lexer),
    ("rewrite", rewrite),
];

/// The frame scanner over a stream of frames, from either peer.
pub fn frames(bytes: &[u8]) {
    for peer in [Peer::Client, Peer::Server] {
        let mut rest = bytes;
        while let Ok(Some(header)) = wire::header(rest, peer) {
            assert!(header.size >= wire::HEADER_BYTES);
            match rest.get(header.size..) {
                Some(behind) => rest = behind,
                None => break,
            }
        }
    }
}

/// The first packet of a connection, cut anywhere.
pub fn startup(bytes: &[u8]) {
    if let Ok(Some((packet, size))) = wire::startup(bytes) {
        assert!(size <= bytes.len() && size <= wire::STARTUP_BYTES_MAX);
        if let wire::Startup::Session(parameters) = packet {
            let _ = (parameters.iter().count(), parameters.value("user"), parameters.value("options"));
        }
    }
    for cut in 0..bytes.len().min(64) {
        let _ = wire::startup(&bytes[..cut]);
    }
}

/// Every reader of a message's body.
pub fn messages(body: &[u8]) {
    let _ = (wire::parse_frame(body), wire::query_text(body), wire::bind_names(body), wire::describe_target(body));
    let _ = (wire::close_target(body), wire::execute_portal(body), wire::ready_status(body));
    let _ = (wire::parameter_status(body), wire::notice_is_fatal(body), wire::error_field(body, b'M'));
    if let Some(columns) = wire::data_row(body) {
        assert!(columns.len() <= body.len());
    }
    let changed = wire::error_with(body, &[(b'P', Some("1".to_owned())), (b'C', None)]);
    let header = wire::header(&changed, Peer::Server).unwrap().unwrap();
    assert_eq!(header.size, changed.len());
    let _ = wire::authentication(body);
    let _ = wire::sasl_mechanisms(body).count();
    let _ = wire::sasl_initial(body).map(|(_, data)| wire::client_binding(data));
    let text = String::from_utf8_lossy(body);
    let verifier = wire::Verifier::parse(&text);
    if let Ok((mut translation, first)) = wire::Translation::begin(body, Some(b"end point")) {
        translation.server_first(&first);
        let _ = translation.client_final(body, verifier.as_ref());
        let _ = translation.server_final(body, verifier.as_ref());
    }
}

/// The lexer, the screen and the statement splitter, in both string syntaxes.
pub fn lexer(text: &[u8]) {
    for strings in [true, false] {
        let mut end = 0;
        for token in sql::lex::Lexer::new(text, strings) {
            assert!(token.start >= end && token.end > token.start && token.end <= text.len());
            assert!(text[end..token.start].iter().all(|byte| b" \t\n\r\x0b\x0c".contains(byte)));
            end = token.end;
            let _ = sql::lex::string_value(text, &token);
        }
        let _ = sql::lex::named_tokens(text, strings);
        let screen = Screen::new(&rules_of(Phase::DualWriting));
        let mention = screen.mentions(text, strings);
        assert!(matches!(mention, Mention::No | Mention::Catalog) || screen.may_mention(text));
        let mut behind = 0;
        for statement in sql::classify(text, strings).iter() {
            assert!(statement.range.start >= behind && statement.range.end <= text.len());
            behind = statement.range.end;
        }
    }
}

/// The rewriter, in a few phases and all shapes; the edited text of what it reads must be read again.
pub fn rewrite(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let public = Names { path: vec![ident("pg_catalog"), ident("public")], temporary: Vec::new() };
    for phase in [Phase::DualWriting, Phase::Soaking, Phase::Contracted] {
        for shape in [Shape::Old, Shape::New, Shape::Auto] {
            let rules = rules_of(phase);
            let cx = Context {
                rules: &rules,
                names: &public,
                shape,
                bucket: Bucket::of(0),
                standard_conforming_strings: bytes.len().is_multiple_of(2),
            };
            if let Rewrite::Rewritten(edits) = sql::rewrite(text, &cx) {
                let sent = edits.apply(text);
                assert!(sent.len() <= 64 * 1024 + text.len() * 4096, "an edit grows without bound");
            }
            let _ = sql::seen(text, &cx);
        }
    }
}

/// A conversation of which both sides are arbitrary: the bytes are cut into what one side says at a time.
///
/// The first byte of a piece tells who speaks and how; a second one how long the piece is.
pub fn session(bytes: &[u8]) {
    let mut world = World::new();
    let mut session = Session::new(SessionConfig {
        bucket: Bucket::of(0),
        shape: Shape::Auto,
        under_rules: true,
        walsender: false,
        pooled: false,
        held_bytes_max: 10_000,
    });
    let mut rest = bytes;
    while let [how, length, behind @ ..] = rest {
        let (piece, after) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = after;
        let kinds: &[u8] = if how & 1 == 0 { b"QPBDECSFHcdfXp" } else { b"123CDEGITZtnSARHW" };
        let input = match how & 6 {
            0 => piece.to_vec(),
            2 => frame(kinds[usize::from(how >> 3) % kinds.len()], piece),
            4 => scripted(how >> 3, how & 1 == 0),
            _ => {
                world.migrate(how >> 3);
                continue;
            }
        };
        let mut out = Out::new();
        if how & 1 == 0 {
            session.on_client(&mut world, &input, &mut out);
        } else {
            session.on_server(&mut world, &input, &mut out);
        }
        let made = out.to_server.parts(&input).0.len() + out.to_client.parts(&input).0.len();
        assert!(made <= 64 * 1024 + bytes.len() * 512, "a session makes more than it was given");
        if out.close {
            return;
        }
    }
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
    out
}

/// Whole messages that a real client or server sends, so that a fuzzer need not find them.
fn scripted(number: u8, from_client: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let texts: [&[u8]; 8] = [
        b"SELECT username FROM users",
        b"BEGIN",
        b"COMMIT",
        b"SET search_path = other",
        b"PREPARE a AS UPDATE users SET username = $1",
        b"EXECUTE a",
        b"COPY users FROM STDIN",
        b"DEALLOCATE ALL",
    ];
    let text = texts[usize::from(number) % texts.len()];
    match (from_client, number % 12) {
        (true, 0..=4) => wire::query(&mut out, text),
        (true, 5 | 6) => wire::parse(&mut out, if number > 16 { b"s" } else { b"" }, text, b"\0\0"),
        (true, 7 | 8) => wire::bind_text(&mut out, b"", if number > 16 { b"s" } else { b"" }, &[]),
        (true, 9) => wire::execute_all(&mut out, b""),
        (true, 10) => wire::close_statement(&mut out, b"s"),
        (true, _) => wire::sync(&mut out),
        (false, 0) => out = frame(b'R', b"\0\0\0\0"),
        (false, 1) => out = frame(b'1', b""),
        (false, 2) => out = frame(b'2', b""),
        (false, 3) => out = frame(b'3', b""),
        (false, 4) => out = frame(b'D', b"\0\x02\0\0\0\x011\0\0\0\x0c7075626c6963"),
        (false, 5) => out = frame(b'C', b"SELECT 1\0"),
        (false, 6) => out = frame(b'E', b"SERROR\0VERROR\0C42601\0P3\0\0"),
        (false, 7) => out = frame(b'G', b"\0\0\0"),
        (false, 8) => out = frame(b'S', b"client_encoding\0UTF8\0"),
        (false, 9) => wire::ready_for_query(&mut out, b'T'),
        (false, 10) => wire::ready_for_query(&mut out, b'E'),
        (false, _) => wire::ready_for_query(&mut out, b'I'),
    }
    out
}

/// A world in which anything may be under migration; the rewriter is the real one.
struct World {
    pinned: Rc<Pinned>,
    unruled: Rc<Pinned>,
    now: Instant,
}

impl World {
    fn new() -> World {
        let pinned = |rules| Rc::new(Pinned::new(rules, 1));
        World { pinned: pinned(rules_of(Phase::DualWriting)), unruled: pinned(Arc::default()), now: Instant::now() }
    }

    fn migrate(&mut self, number: u8) {
        let rules = match number % 5 {
            0 => Arc::default(),
            1 => rules_of(Phase::DualWriting),
            2 => Arc::new(rules_over(&[("public", "users")], Phase::Soaking).hold(true)),
            3 => rules_of(Phase::Soaking),
            _ => rules_of(Phase::Contracted),
        };
        self.pinned = Rc::new(Pinned::new(rules, self.pinned.generation + 1));
    }
}

impl Host for World {
    fn rules(&self) -> &Rc<Pinned> {
        &self.pinned
    }
    fn is_leased(&self) -> bool {
        true
    }
    fn now(&self) -> Instant {
        self.now
    }
    fn unruled(&self) -> &Rc<Pinned> {
        &self.unruled
    }
    fn holds(&self) -> bool {
        self.pinned.rules.is_held()
    }
    fn remembered(&mut self, _: &str, _: &Pinned, _: &Context<'_>) -> Option<Planned> {
        None
    }
    fn rewrite(&mut self, text: &str, _: &Pinned, context: &Context<'_>) -> Planned {
        Planned::alone(sql::rewrite(text, context))
    }
    fn statement(&mut self, _: StatementKind, _: Outcome) {}
    fn answered(&mut self, _: Route, _: Duration, _: bool) {}
    fn reprepared(&mut self) {}
    fn probed(&mut self) {}
    fn refused_unleased(&mut self) {}
    fn ddl_seen(&mut self) {}
}

fn ident(name: &str) -> Ident {
    Ident::new(name).unwrap()
}

/// `users`, whose `username` becomes `handle`, in one of three phases.
fn rules_of(phase: Phase) -> Arc<Rules> {
    static RULES: OnceLock<[Arc<Rules>; 3]> = OnceLock::new();
    let of = |phase| Arc::new(rules_over(&[("public", "users")], phase));
    let all = RULES.get_or_init(|| [Phase::DualWriting, Phase::Soaking, Phase::Contracted].map(of));
    let index = match phase {
        Phase::DualWriting => 0,
        Phase::Contracted => 2,
        _ => 1,
    };
    Arc::clone(&all[index])
}

/// Rules under which each of these tables (schema and name) has its column `username` renamed to `handle`.
pub fn rules_over(tables: &[(&str, &str)], phase: Phase) -> Rules {
    let mut migrations = Vec::new();
    let mut relations = Vec::new();
    for (schema, table) in tables {
        let name = QualifiedName { schema: ident(schema), name: ident(table) };
        relations.push(relation(name.clone(), phase));
        migrations.push(ActiveMigration {
            name: "username-handle".to_owned(),
            lens: lens(name),
            phase,
            reads: Percent::ALL,
            on_unsupported: OnUnsupported::Refuse,
        });
    }
    Rules::new(Epoch(1), &migrations, Arc::new(Catalog::new(relations)))
}

fn lens(table: QualifiedName) -> Lens {
    let column = |name: &str, other: &str| LensColumn {
        name: ident(name),
        stored: None,
        misfits: Misfits::default(),
        type_sql: "text".to_owned(),
        base_type_sql: "text".to_owned(),
        position: 1,
        origin: None,
        twin: Some(ident(other)),
        from: Conversion::identity(&ident(other)),
    };
    Lens { table, old: vec![column("username", "handle")], new: vec![column("handle", "username")] }
}

fn relation(name: QualifiedName, phase: Phase) -> Relation {
    let column = |number: i16, name: &str| Column {
        name: ident(name),
        number,
        type_sql: "text".to_owned(),
        base_type_sql: "text".to_owned(),
        not_null: false,
        default: None,
        generated: false,
        identity: false,
    };
    let mut columns = vec![column(1, "id"), column(3, "email"), column(4, "handle")];
    if phase != Phase::Contracted {
        columns.insert(1, column(2, "username"));
    }
    Relation { oid: 1, name, kind: RelationKind::Table, columns, primary_key: vec![ident("id")] }
}
