//! The rules that keep the rooms apart, checked on the source text.
//!
//! Reads `src`; never builds or runs it. Each rule is itself tested on made-up sources that break it.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms in order: each uses only those before it. Rooms of one line do not use each other.
const ROOMS: [&[&str]; 10] = [
    &["schema"],
    &["migration"],
    &["wire"],
    &["sql"],
    &["session"],
    &["catalog"],
    &["control"],
    &["proxy", "admin", "backfill"],
    &["app"],
    &["cli", "demo"],
];

/// What one room may use besides: the command line starts the demo.
const EXCEPTIONS: [(&str, &str); 1] = [("cli", "demo")];

/// Rooms without sockets, clock, environment, globals and logging.
const PURE: [&str; 5] = ["schema", "migration", "wire", "sql", "session"];

/// What a pure room does not name.
const IMPURE: [&str; 16] = [
    "tokio",
    "tokio_postgres",
    "axum",
    "hyper",
    "tracing",
    "std::net",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "static mut",
    "thread_local!",
    "async fn",
    "OnceLock",
];

/// What no source names.
const NOWHERE: [&str; 4] = ["unsafe", "#[ignore", "todo!", "unimplemented!"];

#[test]
fn rooms_use_only_those_above_them() {
    report(sources("src").iter().flat_map(wrong_directions).collect());
}

#[test]
fn pure_rooms_touch_nothing_outside() {
    report(sources("src").iter().flat_map(impurities).collect());
}

#[test]
fn nothing_is_unsafe_ignored_or_left_undone() {
    let mut all = sources("src");
    all.extend(sources("tests"));
    // This file names what it looks for.
    all.retain(|source| source.path != Path::new("tests/architecture.rs"));
    report(all.iter().flat_map(|source| named(source, &NOWHERE)).collect());
}

#[test]
fn every_room_is_in_the_list() {
    let known: Vec<&str> = ROOMS.iter().flat_map(|level| level.iter().copied()).collect();
    let unknown: Vec<String> = sources("src")
        .iter()
        .filter_map(|source| source.room())
        .filter(|room| !known.contains(room))
        .map(|room| format!("src/{room} is in no place of the order of rooms"))
        .collect();
    report(unknown);
}

#[test]
fn every_file_opens_with_its_purpose() {
    let mut all = sources("src");
    all.extend(sources("bench"));
    // Tests of a file in a file of their own need no other purpose.
    let silent = |source: &&Source| !source.text.starts_with("//!") && !source.is_test();
    report(all.iter().filter(silent).map(|source| format!("{} has no opening //!", source.path.display())).collect());
}

#[test]
fn a_wrong_direction_is_found_in_every_spelling() {
    for text in [
        "use crate::sql::Edits;",
        "use crate::{schema::Ident, sql::Edits};",
        "use crate::{\n    schema::Ident,\n    proxy,\n};",
        "fn f() -> crate::control::Live { loop {} }",
        "pub use crate::app;",
        "use super::super::sql::Edits;",
        "use crate::{schema::{Ident, Refusal}, demo::postgres};",
    ] {
        assert!(!wrong_directions(&made_up("src/migration/lens.rs", text)).is_empty(), "{text}");
    }
    for text in [
        "use crate::schema::Ident;",
        "use super::Expr;",
        "// crate::sql is below",
        "\"crate::sql\"",
        "use crate::{schema, migration::Lens};",
    ] {
        assert!(wrong_directions(&made_up("src/migration/lens.rs", text)).is_empty(), "{text}");
    }
    assert!(wrong_directions(&made_up("src/cli/mod.rs", "use crate::demo;")).is_empty());
    assert!(!wrong_directions(&made_up("src/demo/mod.rs", "use crate::cli;")).is_empty());
    assert!(!wrong_directions(&made_up("src/admin/mod.rs", "use crate::proxy;")).is_empty());
}

#[test]
fn an_impurity_is_found() {
    for text in [
        "use tokio::net;",
        "let now = Instant::now();",
        "std::env::var(\"X\")",
        "tracing::info!(1)",
        "static mut X: u8 = 0;",
    ] {
        assert!(!impurities(&made_up("src/sql/mod.rs", text)).is_empty(), "{text}");
        assert!(impurities(&made_up("src/proxy/mod.rs", text)).is_empty(), "{text}");
    }
    assert!(
        impurities(&made_up("src/sql/mod.rs", "// tokio is not here\n/* tracing */ let tokios = \"tokio\";"))
            .is_empty()
    );
    assert!(!named(&made_up("src/sql/mod.rs", "unsafe { x }"), &NOWHERE).is_empty());
    assert!(!named(&made_up("tests/a.rs", "#[ignore = \"slow\"]"), &NOWHERE).is_empty());
}

/// A source file, its comments and strings blanked for the searches.
struct Source {
    path: PathBuf,
    text: String,
    code: String,
}

impl Source {
    fn new(path: PathBuf, text: String) -> Source {
        let code = without_comments_and_strings(&text);
        Source { path, text, code }
    }

    /// `src/<room>/...` or `src/<room>.rs`; `None` for the crate's own two files and for tests.
    fn room(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src").ok()?;
        let first = rest.iter().next()?.to_str()?;
        let room = first.strip_suffix(".rs").unwrap_or(first);
        (!["lib", "main"].contains(&room)).then_some(room)
    }
}

impl Source {
    /// Tests of a pure room may read their cases from files.
    fn is_test(&self) -> bool {
        let name = self.path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        name.ends_with("tests") || self.path.iter().any(|folder| folder == "tests")
    }
}

fn made_up(path: &str, text: &str) -> Source {
    Source::new(PathBuf::from(path), text.to_owned())
}

/// Every Rust file under a folder of the crate, the snapshots and cases left out.
fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is readable") {
            let path = entry.expect("the entry is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("the file is readable");
                found.push(Source::new(path.strip_prefix(root).expect("it is below").to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found
}

#[track_caller]
fn report(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

fn level(room: &str) -> Option<usize> {
    ROOMS.iter().position(|rooms| rooms.contains(&room))
}

fn wrong_directions(source: &Source) -> Vec<String> {
    let Some(room) = source.room() else { return Vec::new() };
    let Some(own) = level(room) else { return Vec::new() };
    let allowed =
        |used: &str| used == room || EXCEPTIONS.contains(&(room, used)) || level(used).is_none_or(|level| level < own);
    rooms_used(source)
        .into_iter()
        .filter(|used| !allowed(used))
        .map(|used| format!("{}: {room} uses {used}, which is below it or beside it", source.path.display()))
        .collect()
}

/// The rooms that paths from the crate's root begin with: `crate::a::b`, `crate::{a::b, c}`, and `super::` as often as
/// it takes to get there.
fn rooms_used(source: &Source) -> Vec<String> {
    let mut used = Vec::new();
    let module_depth = source.path.iter().count() - 1 - usize::from(source.path.ends_with("mod.rs"));
    let from_super = "super::".repeat(module_depth.max(1));
    for root in ["crate::", from_super.as_str()] {
        for (at, _) in source.code.match_indices(root) {
            let before = source.code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            used.extend(first_segments(&source.code[at + root.len()..]));
        }
    }
    used
}

/// The first segment of a path, or of each path of a group.
fn first_segments(path: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![word(path)] };
    let mut depth = 0;
    let mut segments = Vec::new();
    let mut start = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && !c.is_whitespace() => {
                segments.push(word(&group[at..]));
                start = false;
            }
            _ => {}
        }
    }
    segments
}

fn impurities(source: &Source) -> Vec<String> {
    if !source.room().is_some_and(|room| PURE.contains(&room)) || source.is_test() {
        return Vec::new();
    }
    named(source, &IMPURE)
}

fn named(source: &Source, forbidden: &[&str]) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for what in forbidden {
        for (at, _) in source.code.match_indices(what) {
            let before = source.code[..at].chars().next_back();
            let after = source.code[at + what.len()..].chars().next();
            let ends_in_word = what.ends_with(is_word);
            if before.is_some_and(is_word) || (ends_in_word && after.is_some_and(is_word)) {
                continue;
            }
            let line = source.code[..at].matches('\n').count() + 1;
            found.push(format!("{}:{line} names {what}", source.path.display()));
        }
    }
    found
}

/// The text with comments, strings and characters blanked; line breaks stay.
fn without_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skipped_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        out.extend(chars[at..end].iter().filter(|c| **c == '\n'));
        out.push(' ');
        at = end;
    }
    out
}

/// Where the comment, string or character that begins here ends; here, if none does.
fn skipped_end(chars: &[char], at: usize) -> usize {
    let here = |offset: usize| chars.get(at + offset).copied();
    let find = |from: usize, what: &str| {
        let what: Vec<char> = what.chars().collect();
        (from..chars.len()).find(|&i| chars[i..].starts_with(&what)).map_or(chars.len(), |i| i + what.len())
    };
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (here(0), here(1)) {
        (Some('/'), Some('/')) => find(at, "\n") - 1,
        (Some('/'), Some('*')) => find(at + 2, "*/"),
        (Some('r'), Some('"')) if !in_word => find(at + 2, "\""),
        (Some('r'), Some('#')) if !in_word && chars[at + 1..].iter().find(|c| **c != '#') == Some(&'"') => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            find(at + 2 + hashes, &format!("\"{}", "#".repeat(hashes)))
        }
        (Some('"'), _) => quoted_end(chars, at, '"'),
        (Some('\''), Some('\\')) => quoted_end(chars, at, '\''),
        (Some('\''), Some(_)) if here(2) == Some('\'') => at + 3,
        _ => at,
    }
}

fn quoted_end(chars: &[char], at: usize, quote: char) -> usize {
    let mut next = at + 1;
    while next < chars.len() && chars[next] != quote {
        next += if chars[next] == '\\' { 2 } else { 1 };
    }
    (next + 1).min(chars.len())
}
