//! Scripted conversations: lines of messages in, the messages that go out.
//!
//! `C` lines come from the client, `S` lines from the server. What goes out is written `>` to the server and `<` to the
//! client.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::migration::{
    ActiveMigration, Conversion, Epoch, Lens, LensColumn, Misfits, OnUnsupported, Percent, Phase, Rules,
};
use crate::schema::{Catalog, Ident, QualifiedName, Relation, RelationKind};
use crate::sql::{Context, Edits, Planned, Rewrite};

/// A world in which `users` is under migration, or nothing is; a rewrite puts `handle` for `username`.
struct World {
    pinned: Rc<Pinned>,
    unruled: Rc<Pinned>,
    holds: bool,
    leased: bool,
    now: Instant,
    ddl: usize,
    rewrites: usize,
}

impl World {
    fn new() -> World {
        World {
            pinned: Rc::new(Pinned::new(Arc::default(), 1)),
            unruled: Rc::new(Pinned::new(Arc::default(), 0)),
            holds: false,
            leased: true,
            now: Instant::now(),
            ddl: 0,
            rewrites: 0,
        }
    }

    fn migrate(&mut self) {
        let generation = self.pinned.generation + 1;
        self.pinned = Rc::new(Pinned::new(Arc::new(rules()), generation));
    }
}

impl Host for World {
    fn rules(&self) -> &Rc<Pinned> {
        &self.pinned
    }
    fn unruled(&self) -> &Rc<Pinned> {
        &self.unruled
    }
    fn holds(&self) -> bool {
        self.holds
    }
    fn is_leased(&self) -> bool {
        self.leased
    }
    fn now(&self) -> Instant {
        self.now
    }
    fn remembered(&mut self, _: &str, _: &Pinned, _: &Context<'_>) -> Option<Planned> {
        None
    }
    fn rewrite(&mut self, text: &str, _: &Pinned, context: &Context<'_>) -> Planned {
        self.rewrites += 1;
        if context.names.temporary.iter().any(|relation| relation.name.as_str() == "users") {
            return Planned::alone(Rewrite::Unchanged);
        }
        if text.contains("refuse") {
            return Planned::alone(Rewrite::Refused(Refusal::unsupported("no").at(text.find("refuse").unwrap())));
        }
        let mut edits = Edits::new();
        for (at, found) in text.match_indices("username") {
            edits.replace(at..at + found.len(), "handle").unwrap();
        }
        Planned::alone(if edits.is_empty() { Rewrite::Unchanged } else { Rewrite::Rewritten(edits) })
    }
    fn statement(&mut self, _: StatementKind, _: Outcome) {}
    fn answered(&mut self, _: Route, _: Duration, _: bool) {}
    fn reprepared(&mut self) {}
    fn probed(&mut self) {}
    fn refused_unleased(&mut self) {}
    fn ddl_seen(&mut self) {
        self.ddl += 1;
    }
}

fn rules() -> Rules {
    let ident = |name: &str| Ident::new(name).unwrap();
    let name = QualifiedName { schema: ident("public"), name: ident("users") };
    let column = |name: &str, other: &str| LensColumn {
        name: ident(name),
        stored: None,
        misfits: Misfits::Never,
        type_sql: "text".to_owned(),
        base_type_sql: "text".to_owned(),
        position: 0,
        origin: None,
        twin: None,
        from: Conversion::identity(&ident(other)),
    };
    let lens =
        Lens { table: name.clone(), old: vec![column("username", "handle")], new: vec![column("handle", "username")] };
    let relation = Relation { oid: 1, name, kind: RelationKind::Table, columns: Vec::new(), primary_key: Vec::new() };
    let migration = ActiveMigration {
        name: "rename".to_owned(),
        lens,
        phase: Phase::Soaking,
        reads: Percent::ALL,
        on_unsupported: OnUnsupported::Refuse,
    };
    Rules::new(Epoch(1), &[migration], Arc::new(Catalog::new([relation])))
}

fn session() -> Session {
    let mut session = Session::new(SessionConfig {
        pooled: false,
        bucket: Bucket::of(0),
        shape: Shape::Auto,
        under_rules: true,
        walsender: false,
        held_bytes_max: 10_000,
    });
    let mut out = Out::new();
    session.on_server(&mut World::new(), &frames("S R;S S client_encoding UTF8;S Z I"), &mut out);
    session
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
    out
}

/// One message of a script, without its `C` or `S`.
fn message(line: &str, from_server: bool) -> Vec<u8> {
    let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words: Vec<&str> = rest.splitn(2, ' ').collect();
    let name = words[0].replace('-', "");
    let more = words.get(1).copied().unwrap_or("");
    let mut out = Vec::new();
    match (from_server, kind) {
        (false, "Q") => wire::query(&mut out, rest.as_bytes()),
        (false, "P") => wire::parse(&mut out, name.as_bytes(), more.as_bytes(), b"\0\0"),
        (false, "B") => wire::bind_text(&mut out, name.as_bytes(), more.as_bytes(), &[]),
        (false, "E") => wire::execute_all(&mut out, name.as_bytes()),
        (false, "C") => wire::close_statement(&mut out, name.as_bytes()),
        (false, "S") => wire::sync(&mut out),
        (true, "Z") => wire::ready_for_query(&mut out, rest.as_bytes()[0]),
        (true, "C") => out = frame(b'C', format!("{rest}\0").as_bytes()),
        (true, "S") => out = frame(b'S', format!("{name}\0{more}\0").as_bytes()),
        (true, "E") => {
            let position = if more.is_empty() { String::new() } else { format!("P{more}\0") };
            out = frame(b'E', format!("SERROR\0VERROR\0C{name}\0{position}\0").as_bytes());
        }
        (true, "D") => {
            let values: Vec<&str> = rest.split(' ').collect();
            let mut body = (values.len() as u16).to_be_bytes().to_vec();
            for value in values {
                body.extend((value.len() as u32).to_be_bytes());
                body.extend(value.bytes());
            }
            out = frame(b'D', &body);
        }
        _ => out = frame(kind.as_bytes()[0], rest.as_bytes()),
    }
    out
}

fn frames(script: &str) -> Vec<u8> {
    script.split(';').flat_map(|line| message(line[2..].trim(), line.starts_with('S'))).collect()
}

/// The answer to a question about names: these temporary tables.
fn names(temporary: &str) -> String {
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let rows = match temporary {
        "" => format!("S D 1 {}", hex("public")),
        _ => format!("S D 1 {};S D 2 {}", hex("public"), hex(temporary)),
    };
    format!("S 3;S 1;S 2;{rows};S C SELECT 1;S 3;S 3")
}

fn show(arrow: char, mut bytes: &[u8], shown: &mut Vec<String>) {
    while let Some(header) = wire::header(bytes, wire::Peer::Server).unwrap() {
        let body = &bytes[5..header.size];
        let kind = char::from(header.kind);
        let text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).replace('\0', " ").replace(" /*crossfade*/", "");
            text.trim().to_owned()
        };
        let body = match (arrow, kind) {
            ('>', 'Q') => text(body),
            ('>', 'P') => match text(&body[..body.len() - 2]) {
                question if question.starts_with("crossfade_ask") => "crossfade_ask".to_owned(),
                text => text,
            },
            ('<', 'E') => {
                let field = |code| wire::error_field(body, code).map(text).unwrap_or_default();
                format!("{} {}", field(b'C'), field(b'P')).trim().to_owned()
            }
            ('<', 'Z' | 'C') => text(body),
            _ => String::new(),
        };
        shown.push(format!("{arrow}{kind} {body}").trim().to_owned());
        bytes = &bytes[header.size..];
    }
    assert!(bytes.is_empty(), "half a message went out");
}

/// Puts each line in, and shows all that goes out for it.
fn run(session: &mut Session, world: &mut World, line: &str) -> String {
    let input = frames(line);
    let mut out = Out::new();
    let from_server = line.starts_with('S');
    if from_server {
        session.on_server(world, &input, &mut out);
    } else {
        session.on_client(world, &input, &mut out);
    }
    let mut shown = Vec::new();
    let (server_input, client_input): (&[u8], &[u8]) = if from_server { (&[], &input) } else { (&input, &[]) };
    let (made, passed) = out.to_server.parts(server_input);
    show('>', &[made, passed].concat(), &mut shown);
    let (made, passed) = out.to_client.parts(client_input);
    show('<', &[made, passed].concat(), &mut shown);
    if out.close {
        shown.push("close".to_owned());
    }
    shown.join(" ")
}

/// A conversation while `users` is under migration: each line and what goes out for it.
#[track_caller]
fn check(conversation: &[(&str, &str)]) -> (Session, World) {
    let (mut session, mut world) = (session(), World::new());
    world.migrate();
    for (line, expected) in conversation {
        let line = line.replace("S names", &names(""));
        assert_eq!(run(&mut session, &mut world, &line), *expected, "{line}");
    }
    (session, world)
}

const ASKED: &str = ">C >P crossfade_ask >B >E >C >C";

#[test]
fn untouched_traffic_is_one_range_of_what_came() {
    let (mut session, mut world) = (session(), World::new());
    let input = frames("C P - SELECT 1;C B -;C E -;C S;C Q SELECT 2");
    let mut out = Out::new();
    session.on_client(&mut world, &input, &mut out);
    assert_eq!(out.to_server.parts(&input), (&[][..], &input[..]));
    let input = frames("S 1;S 2;S D 1;S C SELECT 1;S Z I;S T;S D 2;S C SELECT 1;S Z I");
    out.clear();
    session.on_server(&mut world, &input, &mut out);
    assert_eq!(out.to_client.parts(&input), (&[][..], &input[..]));
    assert!(session.is_idle());
    assert!(session.client.kept.capacity() == 0 && session.server.kept.capacity() == 0);
}

#[test]
fn names_are_asked_once_and_the_client_sees_nothing_of_it() {
    check(&[
        ("C Q SELECT username FROM users;C Q SELECT 1", &format!("{ASKED} >S")),
        ("S names;S Z I", ">Q SELECT handle FROM users >Q SELECT 1"),
        ("S T;S D 1;S C SELECT 1;S Z I;S T;S C SELECT 1;S Z I", "<T <D <C SELECT 1 <Z I <T <C SELECT 1 <Z I"),
        ("C P - SELECT username FROM users;C B -;C E -;C S", ">P SELECT handle FROM users >B >E >S"),
        ("S 1;S 2;S C SELECT 0;S Z I", "<1 <2 <C SELECT 0 <Z I"),
        ("C Q SET search_path = x;C Q SELECT username FROM users", &format!(">Q SET search_path = x {ASKED} >S")),
    ]);
}

#[test]
fn the_unnamed_statement_is_judged_once_while_nothing_changes_its_meaning() {
    let once = "C P - SELECT username FROM users;C B -;C E -;C S";
    let sent = ">P SELECT handle FROM users >B >E >S";
    let answer = ("S 1;S 2;S C SELECT 0;S Z I", "<1 <2 <C SELECT 0 <Z I");
    let (_, world) = check(&[
        ("C Q SELECT username FROM users", &format!("{ASKED} >S")),
        ("S names;S Z I", ">Q SELECT handle FROM users"),
        ("S T;S C SELECT 1;S Z I", "<T <C SELECT 1 <Z I"),
        (once, sent),
        answer,
        (once, sent),
        answer,
        // Prepared in vain, the server has none: the next one is looked at like the first.
        (once, sent),
        ("S E 42703 8", "<E 42703 8"),
        ("S Z I", "<Z I"),
        (once, sent),
        answer,
    ]);
    assert_eq!(world.rewrites, 3);
    check(&[
        ("C Q SELECT username FROM users", &format!("{ASKED} >S")),
        ("S names;S Z I", ">Q SELECT handle FROM users"),
        ("S T;S C SELECT 1;S Z I", "<T <C SELECT 1 <Z I"),
        (once, sent),
        answer,
        ("C Q SET search_path = x", ">Q SET search_path = x"),
        ("S C SET;S Z I", "<C SET <Z I"),
        (once, &format!("{ASKED} >S")),
    ]);
}

#[test]
fn a_change_of_string_syntax_on_its_way_hides_nothing() {
    let hidden = r"SELECT '\', ' || username FROM users --'";
    check(&[
        (
            &format!("C Q SET standard_conforming_strings = off;C Q {hidden}"),
            &format!(">Q SET standard_conforming_strings = off {ASKED} >S"),
        ),
        ("S C SET;S S standard_conforming_strings off;S Z I", "<C SET <S <Z I"),
        // The end of the transaction in which something was set may have set it back: asked once more.
        ("S names;S Z I", &format!("{ASKED} >S")),
        ("S names;S Z I", r">Q SELECT '\', ' || handle FROM users --'"),
    ]);
    check(&[
        (&format!("C Q {hidden}"), &format!("{ASKED} >S")),
        ("S names;S Z I", &format!(">Q {hidden}")),
        ("S T;S C SELECT 1;S Z I", "<T <C SELECT 1 <Z I"),
        (&format!("C Q {hidden}"), &format!(">Q {hidden}")),
    ]);
}

#[test]
fn nothing_hides_in_an_encoding_that_is_not_read() {
    check(&[
        ("C Q SET client_encoding = SJIS", ">Q SET client_encoding = SJIS"),
        ("S C SET;S S client_encoding SJIS;S Z I", "<C SET <S <Z I"),
        ("C Q SELECT 'é' /* FROM users */", "<E 22021 <Z I"),
        ("C Q SELECT 'é'", ">Q SELECT 'é'"),
    ]);
}

#[test]
fn a_question_within_a_batch_ends_in_flush() {
    check(&[
        (
            "C P one SELECT 1;C P - SELECT username FROM users;C B -;C E -;C S",
            &format!(">P one SELECT 1 {ASKED} >C >H"),
        ),
        ("S 1;S names;S 3", ">P SELECT handle FROM users >B >E >S <1"),
        ("S 1;S 2;S E 42703 8", "<1 <2 <E 42703 8"),
        ("S Z I", "<Z I"),
        // Before its first message it is no part of the batch: VACUUM must be the first of what a Sync ends.
        ("C Q SET search_path = x", ">Q SET search_path = x"),
        ("S C SET;S Z I", "<C SET <Z I"),
        ("C P - VACUUM users;C B -;C E -;C S", &format!("{ASKED} >S")),
        ("S names;S Z I", ">P VACUUM users >B >E >S"),
    ]);
}

#[test]
fn a_question_that_fails_fails_the_statement_it_was_asked_for() {
    check(&[
        ("C Q SELECT username FROM users;C Q SELECT 1", &format!("{ASKED} >S")),
        ("S 3;S 1;S 2;S E 57014", "<E 57014"),
        ("S Z I", ">Q SELECT 1 <Z I"),
        ("S T;S C SELECT 1;S Z I", "<T <C SELECT 1 <Z I"),
        // The rest of the batch goes nowhere, and its own Sync is what ends it.
        ("C P - SELECT username FROM users;C B -;C H;C S;C Q SELECT 2", &format!("{ASKED} >S")),
        ("S 3;S E 57014", "<E 57014"),
        ("S Z I", ">S >Q SELECT 2"),
        ("S Z I;S C SELECT 1;S Z I", "<Z I <C SELECT 1 <Z I"),
        (
            "C P one SELECT 1;C P - SELECT username FROM users;C B -;C S;C Q SELECT 2",
            &format!(">P one SELECT 1 {ASKED} >C >H"),
        ),
        ("S 1;S 3;S E 57014", ">P SELECT username FROM users >B >S >Q SELECT 2 <1 <E 57014"),
        ("S Z I;S C SELECT 1;S Z I", "<Z I <C SELECT 1 <Z I"),
    ]);
}

#[test]
fn a_batch_that_failed_before_a_question_skips_it() {
    check(&[
        ("C P - SELECT 1;C B -;C P - SELECT username FROM users", &format!(">P SELECT 1 >B {ASKED} >C >H")),
        ("C S", ""),
        ("S E 42601", ">P SELECT username FROM users >S <E 42601"),
        ("S Z I", "<Z I"),
        ("C Q SELECT 1", ">Q SELECT 1"),
        ("S C SELECT 1;S Z I", "<C SELECT 1 <Z I"),
    ]);
}

#[test]
fn nothing_is_asked_behind_a_batch_without_sync_until_it_is_answered() {
    let query = "C P - SELECT 1;C B -;C E -;C Q SELECT username FROM users;C S";
    let skipped = "SELECT username FROM users";
    check(&[
        // It fails: the server skips to the Sync, whatever comes before.
        (query, ">P SELECT 1 >B >E >C >H"),
        ("S 1;S 2;S E 22012", &format!(">Q {skipped} >S <1 <2 <E 22012")),
        ("S Z I", "<Z I"),
        // So it does with a Query in between.
        (
            "C P - SELECT 1;C B -;C E -;C Q SELECT 2;C Q SELECT username FROM users;C S",
            ">P SELECT 1 >B >E >Q SELECT 2 >C >H",
        ),
        ("S 1;S 2;S E 22012", &format!(">Q {skipped} >S <1 <2 <E 22012")),
        ("S Z I", "<Z I"),
        (
            "C P - SELECT 1;C B -;C E -;C Q SELECT 2;C P - SELECT username FROM users;C S",
            ">P SELECT 1 >B >E >Q SELECT 2 >C >H",
        ),
        ("S 1;S 2;S E 22012", &format!(">P {skipped} >S <1 <2 <E 22012")),
        ("S Z I", "<Z I"),
        // It succeeds, and what is asked fails: to a Query that is all, and it ends in ReadyForQuery.
        (query, ">P SELECT 1 >B >E >C >H"),
        ("S 1;S 2;S C SELECT 1;S 3", &format!("{ASKED} >C >H <1 <2 <C SELECT 1")),
        ("S 3;S 1;S 2;S E 57014", ">S <E 57014"),
        ("S Z I", ">S <Z I"),
        ("S Z I", "<Z I"),
        // Both succeed.
        (query, ">P SELECT 1 >B >E >C >H"),
        ("S 1;S 2;S C SELECT 1;S 3", &format!("{ASKED} >C >H <1 <2 <C SELECT 1")),
        ("S names;S 3", ">Q SELECT handle FROM users >S"),
        ("S C SELECT 1;S Z I;S Z I", "<C SELECT 1 <Z I <Z I"),
    ]);
}

/// What is prepared again for a batch may fail too, and is nothing that the message behind it asked.
#[test]
fn a_statement_that_cannot_be_prepared_again_fails_its_own_batch() {
    for (end, left) in [("C S;", " >S"), ("", "")] {
        let (mut session, mut world) = (session(), World::new());
        let prepared = run(&mut session, &mut world, "C P one SELECT username FROM users;C S");
        assert_eq!(prepared, ">P one SELECT username FROM users >S");
        assert_eq!(run(&mut session, &mut world, "S 1;S Z I"), "<1 <Z I");
        world.migrate();
        let names = names("");
        assert_eq!(run(&mut session, &mut world, "C B - one"), format!("{ASKED} >S"));
        assert_eq!(run(&mut session, &mut world, &format!("{names};S Z I")), ">C >P one SELECT handle FROM users >B");
        // The names are doubtful again before the Query.
        let lines = format!("C E -;{end}C Q SET search_path = x;C Q SELECT username FROM users;C S");
        let sent = run(&mut session, &mut world, &lines);
        match left {
            "" => assert_eq!(sent, ">E >Q SET search_path = x >C >H"),
            _ => assert_eq!(sent, format!(">E >S >Q SET search_path = x {ASKED} >S")),
        }
        // Its Parse fails.
        let failed = run(&mut session, &mut world, "S 3;S E 42703");
        match left {
            "" => {
                assert_eq!(failed, ">Q SELECT username FROM users >S <E 42703");
                assert_eq!(run(&mut session, &mut world, "S Z I"), "<Z I");
            }
            _ => {
                assert_eq!(failed, "<E 42703");
                assert_eq!(run(&mut session, &mut world, "S Z I;S C SET;S Z I"), "<Z I <C SET <Z I");
                // The SET is over only now: once more.
                let answered = run(&mut session, &mut world, &format!("{names};S Z I"));
                assert_eq!(answered, format!("{ASKED} >S"));
                let answered = run(&mut session, &mut world, &format!("{names};S Z I"));
                assert_eq!(answered, ">Q SELECT handle FROM users >S");
            }
        }
    }
}

#[test]
fn what_asks_the_catalogs_is_rewritten_and_never_refused() {
    let (mut session, mut world) = check(&[
        ("C Q SELECT username FROM pg_class", &format!("{ASKED} >S")),
        ("S names;S Z I", ">Q SELECT handle FROM pg_class"),
        ("S C SELECT 1;S Z I", "<C SELECT 1 <Z I"),
        ("C Q SELECT refuse FROM pg_class", ">Q SELECT refuse FROM pg_class"),
        ("S C SELECT 1;S Z I", "<C SELECT 1 <Z I"),
    ]);
    world.leased = false;
    run(&mut session, &mut world, "S S client_encoding LATIN1");
    let text = "C Q SELECT '\u{e9}', username FROM pg_class";
    assert_eq!(run(&mut session, &mut world, text), ">Q SELECT '\u{e9}', username FROM pg_class");
}

#[test]
fn information_schema_in_the_path_is_followed() {
    check(&[
        ("C Q SELECT username FROM columns", ">Q SELECT username FROM columns"),
        ("S C SELECT 1;S Z I", "<C SELECT 1 <Z I"),
        ("C Q SET search_path = information_schema", ">Q SET search_path = information_schema"),
        ("S C SET;S Z I", "<C SET <Z I"),
        ("C Q SELECT username, 'users' FROM columns", &format!("{ASKED} >S")),
        ("S names;S Z I", ">Q SELECT handle, 'users' FROM columns"),
    ]);
}

#[test]
fn refusals_stand_at_their_place() {
    check(&[
        ("C Q SELECT username FROM users", &format!("{ASKED} >S")),
        ("S names;S Z I", ">Q SELECT handle FROM users"),
        ("C Q SELECT refuse FROM users", ">Q crossfade_refused_this_statement"),
        ("S C SELECT 1;S Z I;S E 42601 1;S Z I", "<C SELECT 1 <Z I <E 0A000 8 <Z I"),
        // With nothing on its way the server has nothing to do with it.
        ("C Q SELECT refuse FROM users", "<E 0A000 8 <Z I"),
        ("C P - SELECT 1;C P - SELECT refuse FROM users;C S", ">P SELECT 1 >P crossfade_refused_this_statement >S"),
        ("S 1;S E 42601 1;S Z I", "<1 <E 0A000 8 <Z I"),
    ]);
}

#[test]
fn a_stale_statement_is_prepared_again_and_again_where_that_is_skipped() {
    let (mut session, mut world) = (session(), World::new());
    let mut say = |world: &mut World, line: &str, expected: &str| {
        let line = line.replace("S names", &names(""));
        assert_eq!(run(&mut session, world, &line), expected, "{line}");
    };
    say(&mut world, "C P one SELECT username FROM users;C S", ">P one SELECT username FROM users >S");
    say(&mut world, "S 1;S Z I", "<1 <Z I");
    world.migrate();
    say(&mut world, "C B - one;C E -;C S", &format!("{ASKED} >S"));
    say(&mut world, "S names;S Z I", ">C >P one SELECT handle FROM users >B >E >S");
    // The server refuses what we prepare: the client has that error for its Bind.
    say(&mut world, "S 3;S E 42703 8;S Z I", "<E 42703 8 <Z I");
    say(&mut world, "C B - nope;C B - one;C S", &format!("{ASKED} >S"));
    say(&mut world, "S 3;S 1;S 2;S C SELECT 0;S 3;S 3;S Z I", ">B >C >P one SELECT handle FROM users >B >S");
    say(&mut world, "S E 26000;S Z I", "<E 26000 <Z I");
    say(&mut world, "C B - one;C E -;C S", ">C >P one SELECT handle FROM users >B >E >S");
    say(&mut world, "S 3;S 1;S 2;S C SELECT 0;S Z I", "<2 <C SELECT 0 <Z I");
    say(&mut world, "C B - one;C E -;C S", ">B >E >S");
}

#[test]
fn a_statement_that_is_deallocated_behind_a_comment_is_forgotten() {
    for text in ["/*x*/ deallocate all", "/* tag */ Discard All", "/**/ DEALLOCATE one"] {
        let (mut session, mut world) = (session(), World::new());
        run(&mut session, &mut world, "C P one SELECT username FROM users;C S");
        run(&mut session, &mut world, "S 1;S Z I");
        run(&mut session, &mut world, &format!("C Q {text}"));
        run(&mut session, &mut world, "S C DISCARD ALL;S Z I");
        world.migrate();
        // Nothing of ours is prepared again under its name: what it is, the server says.
        let sent = run(&mut session, &mut world, "C B - one;C E -;C S");
        assert!(!sent.contains(">P one"), "{text}: {sent}");
        let told = run(&mut session, &mut world, &format!("{};S Z I", names("")));
        assert!(!told.contains(">P one"), "{text}: {told}");
    }
}

#[test]
fn an_answer_that_was_not_asked_for_ends_the_session() {
    check(&[("C Q SELECT 1", ">Q SELECT 1"), ("S 1", "<E 08P01 close")]);
    check(&[("S Z I", "<E 08P01 close")]);
    check(&[("C P - SELECT 1;C B -;C S", ">P SELECT 1 >B >S"), ("S 2", "<E 08P01 close")]);
}

#[test]
fn rules_are_held_from_the_first_message_to_the_last_answer() {
    let (mut session, mut world) = (session(), World::new());
    let rules = Rc::downgrade(&world.pinned);
    run(&mut session, &mut world, "C Q BEGIN");
    world.migrate();
    run(&mut session, &mut world, "S C BEGIN;S Z T");
    assert!(rules.upgrade().is_some() && !session.is_idle());
    run(&mut session, &mut world, "C Q COMMIT;C Q SELECT 1");
    run(&mut session, &mut world, "S C COMMIT;S Z I");
    assert!(rules.upgrade().is_some());
    run(&mut session, &mut world, "S C SELECT 1;S Z I");
    assert!(rules.upgrade().is_none() && session.is_idle());
    assert_eq!(run(&mut session, &mut world, "C Q SELECT username FROM users"), format!("{ASKED} >S"));
}

/// A conversation in which transactions are held from `hold` on and begin again, under other rules, at `release`.
#[track_caller]
fn check_held(conversation: &[(&str, &str)]) -> (Session, World) {
    let (mut session, mut world) = (session(), World::new());
    world.migrate();
    for (line, expected) in conversation {
        let said = match *line {
            "hold" => {
                world.holds = true;
                String::new()
            }
            "release" => {
                world.holds = false;
                world.migrate();
                let mut out = Out::new();
                session.on_rules(&mut world, &mut out);
                let mut shown = Vec::new();
                show('>', out.to_server.parts(&[]).0, &mut shown);
                show('<', out.to_client.parts(&[]).0, &mut shown);
                shown.join(" ")
            }
            "reads" => session.wants_client(&world).to_string(),
            line => run(&mut session, &mut world, &line.replace("S names", &names(""))),
        };
        assert_eq!(said, *expected, "{line}");
    }
    (session, world)
}

#[test]
fn a_session_without_a_transaction_is_not_read_while_rules_are_held() {
    let (session, _) = check_held(&[
        ("reads", "true"),
        ("hold", ""),
        ("reads", "false"),
        ("S S TimeZone UTC", "<S"),
        ("release", ""),
        ("reads", "true"),
        ("C Q SELECT 1", ">Q SELECT 1"),
        ("S C SELECT 1;S Z I", "<C SELECT 1 <Z I"),
    ]);
    assert!(session.is_idle());
}

#[test]
fn a_transaction_that_is_open_goes_on_to_its_end_and_no_further() {
    let (session, _) = check_held(&[
        ("C Q BEGIN", ">Q BEGIN"),
        ("hold", ""),
        ("reads", "true"),
        ("S C BEGIN;S Z T", "<C BEGIN <Z T"),
        ("reads", "true"),
        ("C Q SELECT 1;C Q COMMIT;C Q SELECT 2;C Q SELECT 3", ">Q SELECT 1"),
        ("reads", "false"),
        ("S T;S C SELECT 1;S Z T", ">Q COMMIT <T <C SELECT 1 <Z T"),
        ("S C COMMIT;S Z I", "<C COMMIT <Z I"),
        ("reads", "false"),
        ("release", ">Q SELECT 2 >Q SELECT 3"),
        ("reads", "true"),
        ("S C SELECT 1;S Z I;S C SELECT 1;S Z I", "<C SELECT 1 <Z I <C SELECT 1 <Z I"),
    ]);
    assert!(session.is_idle());
    assert_eq!(session.client.kept.capacity(), 0);
}

#[test]
fn a_pipeline_stops_behind_the_batch_that_was_begun() {
    check_held(&[
        ("C P - SELECT 1;C B -", ">P SELECT 1 >B"),
        ("hold", ""),
        ("C E -;C S;C P - SELECT username FROM users;C B -;C E -;C S", ">E >S"),
        ("reads", "false"),
        ("S 1;S 2;S C SELECT 1;S Z I", "<1 <2 <C SELECT 1 <Z I"),
        ("release", &format!("{ASKED} >S")),
        ("S names;S Z I", ">P SELECT handle FROM users >B >E >S"),
        ("S 1;S 2;S C SELECT 0;S Z I", "<1 <2 <C SELECT 0 <Z I"),
    ]);
    // Released before the answer: what was sent while it was owed runs at once, in its order.
    check_held(&[
        ("C Q SELECT 1", ">Q SELECT 1"),
        ("hold", ""),
        ("C Q SELECT 2;C Q SELECT 3", ""),
        ("release", ">Q SELECT 2 >Q SELECT 3"),
    ]);
}

#[test]
fn what_waits_for_names_when_rules_are_held_runs_under_the_next_ones() {
    let (session, world) = check_held(&[
        ("C Q SELECT username FROM users;C Q SELECT 1", &format!("{ASKED} >S")),
        ("hold", ""),
        ("S names;S Z I", ""),
        ("reads", "false"),
        ("release", ">Q SELECT handle FROM users >Q SELECT 1"),
    ]);
    assert_eq!(session.pin.as_ref().map(|pin| pin.generation), Some(world.pinned.generation));
}

#[test]
fn a_copy_under_way_is_not_held() {
    check_held(&[
        ("C Q COPY t FROM STDIN", ">Q COPY t FROM STDIN"),
        ("hold", ""),
        ("C d x;C d y;C c;C Q SELECT 1", ">d >d >c"),
        ("S G;S C COPY 2;S Z I", "<G <C COPY 2 <Z I"),
        ("release", ">Q SELECT 1"),
    ]);
    check_held(&[
        ("C P - COPY t FROM STDIN;C B -;C E -;C S", ">P COPY t FROM STDIN >B >E >S"),
        ("hold", ""),
        ("S 1;S 2;S G", "<1 <2 <G"),
        ("C d x;C c;C S", ">d >c >S"),
        ("S C COPY 1;S Z I", "<C COPY 1 <Z I"),
        ("reads", "false"),
    ]);
}

#[test]
fn rules_that_stay_held_are_never_applied() {
    let (mut session, mut open, mut world) = (session(), session(), World::new());
    world.migrate();
    assert_eq!(run(&mut open, &mut world, "C Q BEGIN"), ">Q BEGIN");
    assert_eq!(run(&mut open, &mut world, "S C BEGIN;S Z T"), "<C BEGIN <Z T");
    // The hold lasted too long, so sessions may go on; but what the rules are now is not known.
    world.pinned = Rc::new(Pinned::new(Arc::new(rules().hold(true)), 9));
    assert_eq!(run(&mut session, &mut world, "C Q SELECT username FROM users"), "<E 57P03 <Z I");
    assert_eq!(run(&mut session, &mut world, "C Q SELECT 1"), ">Q SELECT 1");
    assert_eq!(run(&mut session, &mut world, "S C SELECT 1;S Z I"), "<C SELECT 1 <Z I");
    // A transaction under older rules holds the fence, and goes on as it began.
    assert_eq!(run(&mut open, &mut world, "C P - SELECT username FROM users;C S"), format!("{ASKED} >S"));
    world.migrate();
    assert_eq!(run(&mut session, &mut world, "C Q SELECT username FROM users"), format!("{ASKED} >S"));
}

#[test]
fn a_walsender_is_asked_nothing() {
    let (mut session, mut world) = (session(), World::new());
    session.config.walsender = true;
    world.migrate();
    for text in ["CREATE_REPLICATION_SLOT users LOGICAL pgoutput", "SELECT oid FROM pg_class", "SELECT 1"] {
        assert_eq!(run(&mut session, &mut world, &format!("C Q {text}")), format!(">Q {text}"));
        run(&mut session, &mut world, "S C DONE;S Z I");
    }
    assert_eq!(run(&mut session, &mut world, "C Q SELECT username FROM users"), "<E 0A000 <Z I");
    assert_eq!(run(&mut session, &mut world, "C Q COPY users TO STDOUT"), "<E 0A000 <Z I");
}

#[test]
fn sessions_that_no_rules_are_about_are_not_held_and_hold_nothing() {
    let (mut session, mut world) = (session(), World::new());
    session.config.under_rules = false;
    world.migrate();
    let rules = Rc::downgrade(&world.pinned);
    run(&mut session, &mut world, "C Q BEGIN");
    world.migrate();
    assert!(rules.upgrade().is_none());
    world.holds = true;
    assert!(session.wants_client(&world));
    assert_eq!(run(&mut session, &mut world, "C Q SELECT username FROM users"), ">Q SELECT username FROM users");
}

#[test]
fn syncs_that_the_server_ignores_while_it_copies_are_not_waited_for() {
    let (mut session, mut world) = (session(), World::new());
    for (client, server) in [
        ("C P - COPY t FROM STDIN;C B -;C E -;C S", "S 1;S 2;S G"),
        ("C d x;C c;C S", "S C COPY 1;S Z I"),
        (
            "C P - COPY t FROM STDIN;C B -;C E -;C d x;C c;C S;C Q SELECT 1",
            "S 1;S 2;S G;S C COPY 1;S Z I;S C SELECT 1;S Z I",
        ),
        ("C Q COPY t FROM STDIN;C d x;C c;C Q SELECT 1", "S E 22000;S Z I;S C SELECT 1;S Z I"),
    ] {
        run(&mut session, &mut world, client);
        assert!(!run(&mut session, &mut world, server).contains("close"), "{server}");
    }
    assert!(session.is_idle());
}

proptest! {
    #[test]
    fn where_the_bytes_are_cut_makes_no_difference(cuts in proptest::collection::vec(1usize..40, 1..60)) {
        let client = frames(
            "C P one SELECT username FROM users;C B - one;C E -;C S;C Q SELECT username FROM users;C Q SELECT refuse FROM users",
        );
        let answer = frames(&format!("{};S Z I", names("")));
        let server = frames("S 1;S 2;S D 1;S C SELECT 1;S Z I;S T;S D 2;S C SELECT 1;S Z I;S E 42601;S Z I");
        let converse = |cuts: &mut dyn Iterator<Item = usize>| {
            let (mut session, mut world) = (session(), World::new());
            world.migrate();
            let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
            for (bytes, from_server) in [(&client, false), (&answer, true), (&server, true)] {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (input, behind) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                    let mut out = Out::new();
                    if from_server {
                        session.on_server(&mut world, input, &mut out);
                    } else {
                        session.on_client(&mut world, input, &mut out);
                    }
                    let (server_input, client_input) = if from_server { (&[][..], input) } else { (input, &[][..]) };
                    for part in [out.to_server.parts(server_input).0, out.to_server.parts(server_input).1] {
                        to_server.extend_from_slice(part);
                    }
                    for part in [out.to_client.parts(client_input).0, out.to_client.parts(client_input).1] {
                        to_client.extend_from_slice(part);
                    }
                    assert!(!out.close);
                    rest = behind;
                }
            }
            (to_server, to_client, session.is_idle())
        };
        let whole = converse(&mut std::iter::repeat(usize::MAX));
        prop_assert!(whole.2);
        prop_assert_eq!(converse(&mut cuts.into_iter().cycle()), whole);
    }

    #[test]
    fn garbage_ends_a_session_or_passes_and_never_panics(
        pieces in proptest::collection::vec((any::<bool>(), 0usize..14, proptest::collection::vec(any::<u8>(), 0..24)), 0..40),
    ) {
        let (mut session, mut world) = (session(), World::new());
        world.migrate();
        for (from_server, kind, bytes) in pieces {
            let kinds = if from_server { b"123CDEGITZtnSA" } else { b"QPBDECSFHcdfXp" };
            let input = if bytes.len() % 5 == 0 { bytes } else { frame(kinds[kind], &bytes) };
            let mut out = Out::new();
            if from_server {
                session.on_server(&mut world, &input, &mut out);
            } else {
                session.on_client(&mut world, &input, &mut out);
            }
        }
    }
}
