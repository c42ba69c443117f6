//! Both readers of client SQL, the lexer and the classifier, held against PostgreSQL's own parser.
//!
//! For every text that PostgreSQL's parser accepts: the same tokens, the same statements of the same kinds, and every
//! relation that PostgreSQL sees is seen by the screen and by each reader that reads the statement. With
//! `CROSSFADE_SQL_FOLDER` the `.sql` files under these folders (separated by colons) are read as well.

mod corpus;
#[path = "../../fuzz/entries.rs"]
#[allow(dead_code)]
mod entries;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use corpus::Dice;
use crossfade::migration::{Bucket, Phase, Rules, Shape};
use crossfade::schema::Ident;
use crossfade::sql::{self, Context, Kind, Mention, Names, Reading, Screen, Seen, lex};
use crossfade_pgquery::{self as truth, Class, Named, Verb};

/// Mutations that are made of each text.
const MUTATIONS: usize = 12;

/// What a text was found to be read otherwise in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    Tokens,
    Statements,
    Kind,
    Screen,
    FirstReader,
    FirstReaderRefuses,
    SecondReader,
}

/// What was read, and what differed.
#[derive(Debug, Default)]
struct Tally {
    texts: usize,
    refused_by_postgresql: usize,
    statements: usize,
    relations: usize,
    read_by_first: usize,
    read_by_second: usize,
    found: BTreeMap<Difference, Vec<String>>,
}

impl Tally {
    fn note(&mut self, difference: Difference, text: &str, what: impl fmt::Display) {
        self.found.entry(difference).or_default().push(format!("{what}: {text}"));
    }

    fn show(&self, title: &str) {
        println!(
            "{title}: {} texts that PostgreSQL's parser accepts ({} that it does not), {} statements, {} relations; read by the first reader: {}, by the second: {}",
            self.texts,
            self.refused_by_postgresql,
            self.statements,
            self.relations,
            self.read_by_first,
            self.read_by_second
        );
        for (difference, texts) in &self.found {
            println!("  {difference:?}: {}", texts.len());
            texts.iter().take(15).for_each(|text| println!("    {text}"));
        }
    }

    #[track_caller]
    fn assert_none(&self, title: &str) {
        self.show(title);
        assert!(self.found.is_empty(), "{title}: a text is read otherwise than by PostgreSQL");
    }
}

/// Holds one text against PostgreSQL's parser.
fn hold(text: &str, strings: bool, tally: &mut Tally) {
    let Some(truth) = truth::statements(text, strings) else {
        tally.refused_by_postgresql += 1;
        return;
    };
    tally.texts += 1;
    if strings {
        hold_tokens(text, tally);
    }
    let named: Vec<&Named> = truth.iter().flat_map(|statement| &statement.relations).collect();
    let rules = rules_for(&named);
    for named in named.iter().filter(|named| Ident::new(&named.name).is_ok()) {
        let screen = Screen::new(&rules_for(&[named]));
        if screen.mentions(text.as_bytes(), strings) != Mention::Identifier {
            tally.note(Difference::Screen, text, format_args!("\"{}\" is not seen", named.name));
        }
    }
    let names = Names { path: vec![Ident::new("public").unwrap()], temporary: Vec::new() };
    let cx = Context {
        rules: &rules,
        names: &names,
        shape: Shape::Old,
        bucket: Bucket::of(0),
        standard_conforming_strings: strings,
    };
    let Some(seen) = sql::seen(text, &cx) else {
        return tally.note(Difference::Statements, text, "it is taken for unfinished or too large");
    };
    let kinds = sql::classify(text.as_bytes(), strings);
    let ranges = kinds.iter().map(|statement| statement.range.clone());
    let wanted = truth.iter().map(|statement| trimmed(text, strings, statement.start, statement.end));
    if !ranges.eq(wanted.clone()) || !seen.iter().map(|seen| seen.range.clone()).eq(wanted) {
        return tally.note(Difference::Statements, text, format_args!("{} statements", truth.len()));
    }
    for (seen, truth) in seen.iter().zip(&truth) {
        hold_statement(text, seen, truth, tally);
    }
}

/// The bytes from the first token of a range to its last, as the classifier gives them.
fn trimmed(text: &str, strings: bool, start: usize, end: usize) -> std::ops::Range<usize> {
    let tokens = lex::Lexer::new(text.as_bytes(), strings).significant();
    let inside: Vec<_> = tokens.filter(|token| token.start >= start && token.end <= end).collect();
    match (inside.first(), inside.last()) {
        (Some(first), Some(last)) => first.start..last.end,
        _ => start..end,
    }
}

fn hold_tokens(text: &str, tally: &mut Tally) {
    let Some(wanted) = truth::tokens(text) else { return };
    let ours = lex::Lexer::new(text.as_bytes(), true).map(|token| (class_of(token.kind), token.start, token.end));
    let ours: Vec<_> = ours.collect();
    // `N'x'` is one token to us, and a keyword and a string to PostgreSQL.
    let mut joined: Vec<truth::Piece> = Vec::new();
    for token in wanted {
        match joined.last_mut() {
            Some(last)
                if token.0 == Class::String && last.2 == token.1 && text[last.1..last.2].eq_ignore_ascii_case("n") =>
            {
                *last = (Class::String, last.1, token.2);
            }
            _ => joined.push(token),
        }
    }
    if let Some((ours, wanted)) = ours.iter().zip(&joined).find(|(ours, wanted)| ours != wanted) {
        tally.note(Difference::Tokens, text, format_args!("{ours:?} and not {wanted:?}"));
    } else if ours.len() != joined.len() {
        tally.note(Difference::Tokens, text, format_args!("{} tokens and not {}", ours.len(), joined.len()));
    }
}

fn class_of(kind: lex::TokenKind) -> Class {
    match kind {
        lex::TokenKind::Word => Class::Word,
        lex::TokenKind::Quoted | lex::TokenKind::UnicodeQuoted => Class::Quoted,
        lex::TokenKind::Comment => Class::Comment,
        lex::TokenKind::Text
        | lex::TokenKind::EscapeText
        | lex::TokenKind::UnicodeText
        | lex::TokenKind::BitText
        | lex::TokenKind::DollarText => Class::String,
        lex::TokenKind::Param
        | lex::TokenKind::Number
        | lex::TokenKind::Operator
        | lex::TokenKind::Mark(_)
        | lex::TokenKind::Unterminated => Class::Other,
    }
}

/// Rules under which all of these are under migration.
fn rules_for(named: &[&Named]) -> Rules {
    let usable =
        named.iter().filter(|n| Ident::new(&n.name).is_ok() && (n.schema.is_empty() || Ident::new(&n.schema).is_ok()));
    let schema = |named: &Named| if named.schema.is_empty() { "public".to_owned() } else { named.schema.clone() };
    let tables: BTreeSet<(String, String)> = usable.map(|named| (schema(named), named.name.clone())).collect();
    let tables: Vec<(&str, &str)> = tables.iter().map(|(schema, name)| (schema.as_str(), name.as_str())).collect();
    entries::rules_over(&tables, Phase::Contracted)
}

fn hold_statement(text: &str, seen: &Seen, truth: &truth::Statement, tally: &mut Tally) {
    tally.statements += 1;
    tally.relations += truth.relations.len();
    let statement = &text[seen.range.clone()];
    if !same_kind(&seen.kind, truth.verb) {
        tally.note(Difference::Kind, statement, format_args!("{:?} and not {:?}", seen.kind, truth.verb));
    }
    let is_cte = |named: &Named| named.schema.is_empty() && truth.ctes.contains(&named.name);
    // The session's temporary tables go by this name, and none of them is under migration.
    let is_temporary = |named: &Named| named.schema == "pg_temp";
    let of_rules = |named: &&Named| !named.made && !is_cte(named) && !is_temporary(named);
    let wanted: Vec<&Named> = truth.relations.iter().filter(of_rules).collect();
    match &seen.first {
        Reading::NotAsked if reads(truth.verb) => {
            tally.note(Difference::FirstReader, statement, "it is not read at all");
        }
        Reading::NotAsked => {}
        Reading::Unread if reads(truth.verb) => tally.note(Difference::FirstReaderRefuses, statement, "unread"),
        Reading::Unread => {}
        Reading::Read { verb, tables } => {
            tally.read_by_first += 1;
            if !same_verb(*verb, truth.verb) {
                tally.note(Difference::FirstReader, statement, format_args!("{verb:?} and not {:?}", truth.verb));
            }
            for named in &wanted {
                if !tables.iter().any(|(name, place)| *name == named.name && *place == named.place) {
                    tally.note(Difference::FirstReader, statement, format_args!("\"{}\" is not seen", named.name));
                }
            }
            for (name, place) in tables {
                if !truth.relations.iter().any(|named| *name == named.name && *place == named.place) {
                    tally.note(Difference::FirstReader, statement, format_args!("\"{name}\" is seen and is none"));
                }
            }
        }
    }
    if let Reading::Read { verb, tables } = &seen.second {
        tally.read_by_second += 1;
        // Where a CTE has a table's name, only the first reader tells them apart.
        let names: BTreeSet<&str> = tables.iter().map(|(name, _)| name.as_str()).collect();
        let missed = wanted.iter().find(|named| !names.contains(named.name.as_str()));
        if !same_verb(*verb, truth.verb) {
            tally.note(Difference::SecondReader, statement, format_args!("{verb:?} and not {:?}", truth.verb));
        } else if let (true, Some(missed)) = (reads(truth.verb), missed) {
            tally.note(Difference::SecondReader, statement, format_args!("\"{}\" is not seen", missed.name));
        }
    }
}

/// Whether the readers are what decides about statements of this kind.
fn reads(verb: Verb) -> bool {
    match verb {
        Verb::Select
        | Verb::Insert
        | Verb::Update
        | Verb::Delete
        | Verb::Merge
        | Verb::Copy
        | Verb::Explain
        | Verb::Prepare
        | Verb::Declare => true,
        Verb::Transaction
        | Verb::Set
        | Verb::Execute
        | Verb::Deallocate
        | Verb::Discard
        | Verb::Fetch
        | Verb::Close
        | Verb::Call
        | Verb::Do
        | Verb::Lock
        | Verb::Truncate
        | Verb::Notify
        | Verb::Show
        | Verb::Other => false,
    }
}

fn same_verb(ours: sql::Verb, truth: Verb) -> bool {
    match ours {
        sql::Verb::Select => truth == Verb::Select,
        sql::Verb::Insert => truth == Verb::Insert,
        sql::Verb::Update => truth == Verb::Update,
        sql::Verb::Delete => truth == Verb::Delete,
        sql::Verb::Merge => truth == Verb::Merge,
        sql::Verb::Copy => truth == Verb::Copy,
        sql::Verb::Other => {
            !matches!(truth, Verb::Select | Verb::Insert | Verb::Update | Verb::Delete | Verb::Merge | Verb::Copy)
        }
    }
}

fn same_kind(ours: &Kind, truth: Verb) -> bool {
    match ours {
        Kind::Select | Kind::Values | Kind::Table => truth == Verb::Select,
        Kind::Insert => truth == Verb::Insert,
        Kind::Update => truth == Verb::Update,
        Kind::Delete => truth == Verb::Delete,
        Kind::Merge => truth == Verb::Merge,
        Kind::Explain => truth == Verb::Explain,
        Kind::Copy(_) => truth == Verb::Copy,
        Kind::Begin
        | Kind::Commit { .. }
        | Kind::Rollback { .. }
        | Kind::RollbackTo
        | Kind::Savepoint
        | Kind::Release
        | Kind::PrepareTransaction
        | Kind::FinishPrepared => truth == Verb::Transaction,
        Kind::Set(_) | Kind::Reset(_) | Kind::ResetAll => truth == Verb::Set,
        Kind::Show => truth == Verb::Show,
        Kind::Prepare { .. } => truth == Verb::Prepare,
        Kind::Execute { .. } => truth == Verb::Execute,
        Kind::Deallocate { .. } => truth == Verb::Deallocate,
        Kind::Discard(_) => truth == Verb::Discard,
        Kind::Declare => truth == Verb::Declare,
        Kind::Fetch => truth == Verb::Fetch,
        Kind::Close => truth == Verb::Close,
        Kind::Call => truth == Verb::Call,
        Kind::Do => truth == Verb::Do,
        Kind::Lock => truth == Verb::Lock,
        Kind::Truncate => truth == Verb::Truncate,
        Kind::Notify => truth == Verb::Notify,
        Kind::Ddl | Kind::Other => truth == Verb::Other,
    }
}

#[test]
fn the_projects_own_statements_are_read_as_postgresql_reads_them() {
    let mut tally = Tally::default();
    for text in corpus::own() {
        hold(&text, true, &mut tally);
    }
    tally.assert_none("own statements");
    assert!(tally.texts > 1_000 && tally.refused_by_postgresql < tally.texts / 20);
}

#[test]
fn no_dress_of_a_statement_hides_what_it_names() {
    let mut tally = Tally::default();
    let mut off = Tally::default();
    for (number, text) in corpus::own().iter().enumerate() {
        let mut dice = Dice::new(number as u64 + 1);
        for _ in 0..MUTATIONS {
            let Some(mutated) = corpus::mutated(text, &mut dice) else { break };
            hold(&mutated, true, &mut tally);
            hold(&mutated, false, &mut off);
        }
    }
    off.show("mutations, standard_conforming_strings off");
    tally.assert_none("mutations");
    off.assert_none("mutations, standard_conforming_strings off");
    assert!(tally.texts > 10_000);
}

#[test]
fn the_parser_that_we_hold_against_is_the_real_one() {
    let found = truth::statements("WITH x AS (SELECT 1) SELECT * FROM \"A\".b, x /* c */; TABLE d", true).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].ctes, ["x"]);
    let named: Vec<_> = found[0].relations.iter().map(|n| (n.schema.as_str(), n.name.as_str(), n.place)).collect();
    assert_eq!(named, [("A", "b", Some(35)), ("", "x", Some(42))]);
    assert!(truth::statements("SELECT FROM FROM", true).is_none());
    assert!(truth::statements(r"SELECT '\' FROM x '", true).is_none());
    assert!(truth::statements(r"SELECT '\' FROM x '", false).is_some());
}

/// By hand, over PostgreSQL's regression suite: what is not read is listed, and is refused where it names a table under
/// migration.
#[test]
fn statements_of_a_given_folder_are_read_as_postgresql_reads_them() {
    let Ok(folders) = std::env::var("CROSSFADE_SQL_FOLDER") else {
        println!("left out: CROSSFADE_SQL_FOLDER names no folder");
        return;
    };
    for folder in folders.split(':') {
        let mut tally = Tally::default();
        for text in corpus::folder(Path::new(folder)) {
            hold(&text, true, &mut tally);
        }
        tally.show(folder);
        tally.found.remove(&Difference::FirstReaderRefuses);
        assert!(tally.found.is_empty(), "{folder}: a text is read otherwise than by PostgreSQL");
        assert!(tally.texts > 0);
    }
}
