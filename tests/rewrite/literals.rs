//! A plan that is moved onto other literals is what a rewrite of that text alone gives: byte for byte, errors' places,
//! warnings and the way back included.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crossfade::migration::{Phase, Route, Shape};
use crossfade::sql::lex::{Lexer, TokenKind};
use crossfade::sql::{Context, Mention, PlanCache, Rewrite, Screen, rewrite};
use proptest::prelude::*;

use crate::corpus::STATEMENTS;
use crate::fixture::{names, rules};

/// Statements in which a literal's value or length decides, or might seem to.
const SPECIAL: &[&str] = &[
    "SELECT id, username FROM users GROUP BY 1, 2 ORDER BY 2 LIMIT 3",
    "SELECT username, id FROM users GROUP BY (2), 1",
    "SELECT DISTINCT ON (1) score, username FROM users WHERE id > 7 ORDER BY 1",
    "SELECT username FROM users GROUP BY id HAVING max(score) > 5 ORDER BY 1 OFFSET 2",
    "UPDATE users SET username = 'x', score = 1 WHERE id = 2",
    "UPDATE users SET username = 'x' || 'y' || username WHERE id = 2 RETURNING username, 'a', 5",
    "UPDATE users SET username = E'x\\'y', email = $tag$z$tag$ WHERE id IN (1, 2, 3)",
    "UPDATE users SET username = left('abc', 2) WHERE score = -5",
    "UPDATE users SET (username, score) = ('x', 4) WHERE id = 1",
    "INSERT INTO users (id, username) VALUES (1, 'a'), (2, 'b'), (3, N'c')",
    "INSERT INTO users (username, score) VALUES ('a', 1) ON CONFLICT (username) DO UPDATE SET username = 'b', score = 2",
    "INSERT INTO people (id, age) VALUES (1, '30'), (2, B'1'), (3, $$4$$)",
    "UPDATE people SET age = '31' WHERE name = 'ann'",
    "SELECT * FROM users WHERE username = 'users' AND email = 'a'\n 'b' AND score = 1.5",
    "SELECT 'users'::regclass, username FROM users WHERE email = U&'d!0061t' UESCAPE '!' AND id = 1",
    "SELECT date '2020-01-01', interval '1 day', '{1,2}'::int[], username::varchar(10) FROM users TABLESAMPLE bernoulli (10)",
    "SELECT handle FROM users WHERE id = 1 AND username = 'x'",
    "SELECT nope, 'y', users.username FROM users WHERE id = 12",
    "INSERT INTO users VALUES (1, 'a', 'b', 2, NULL, 7, 8)",
    "INSERT INTO users (id, username) VALUES (1), (2, 'b')",
    "UPDATE users SET username = (SELECT 'x' || 1), handle = 'y' WHERE id = 1",
    "SELECT username /* 1 'x' */ FROM users -- 5\n WHERE id = 5",
    "MERGE INTO users USING posts p ON users.id = p.id AND p.title = 'x' WHEN MATCHED THEN UPDATE SET username = 'm' WHEN NOT MATCHED THEN INSERT (id, username) VALUES (5, 'n')",
    "WITH x AS (UPDATE users SET username = 'cte' WHERE id = 3 RETURNING id) SELECT username, 1 FROM users WHERE id = 2",
    "SELECT 1e5, .5, 1., 0x1F, username FROM users WHERE id=1AND score=2",
];

/// All statements of the other tests, the texts of the differential cases included.
fn corpus() -> Vec<String> {
    let mut all: Vec<String> = STATEMENTS.iter().chain(SPECIAL).map(|sql| (*sql).to_owned()).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/cases");
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "sql") {
            continue;
        }
        for case in fs::read_to_string(path).unwrap().split("\n\n") {
            let lines: Vec<&str> = case.lines().filter(|l| !l.starts_with("--! ") && !l.starts_with("--# ")).collect();
            all.extend(lines.join("\n").split(";;\n").map(|step| step.trim_end().to_owned()));
        }
    }
    all.retain(|sql| !sql.is_empty());
    all
}

/// The text with other literals in it, of the same classes.
fn with_literals(sql: &str, mut other: impl FnMut(&str, TokenKind) -> Option<String>) -> String {
    let (mut out, mut from) = (String::new(), 0);
    for token in Lexer::new(sql.as_bytes(), true) {
        let literal = &sql[token.start..token.end];
        if let Some(text) = other(literal, token.kind) {
            out.push_str(&sql[from..token.start]);
            out.push_str(&text);
            from = token.end;
        }
    }
    out + &sql[from..]
}

fn other_literal(literal: &str, kind: TokenKind, number: u64, text: &str) -> Option<String> {
    match kind {
        TokenKind::Number if literal.bytes().all(|byte| byte.is_ascii_digit()) => Some(number.to_string()),
        TokenKind::Number if literal.split_once('.').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty()) => {
            literal.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.').then(|| format!("{number}.25"))
        }
        TokenKind::Text | TokenKind::EscapeText => {
            let prefix = &literal[..literal.find('\'')?];
            Some(format!("{prefix}'{}'", text.replace('\\', "").replace('\'', "''")))
        }
        TokenKind::DollarText => Some(format!("$q${}$q$", text.replace('$', ""))),
        TokenKind::BitText => Some(format!("B'{number:b}'")),
        _ => None,
    }
}

struct Setting {
    phase: Phase,
    route: Route,
    shape: Shape,
}

const SETTINGS: [Setting; 6] = [
    Setting { phase: Phase::Expanded, route: Route::Old, shape: Shape::New },
    Setting { phase: Phase::DualWriting, route: Route::Old, shape: Shape::Old },
    Setting { phase: Phase::Verified, route: Route::Old, shape: Shape::Auto },
    Setting { phase: Phase::Ramping, route: Route::New, shape: Shape::Old },
    Setting { phase: Phase::Contracting, route: Route::New, shape: Shape::Auto },
    Setting { phase: Phase::Contracted, route: Route::Old, shape: Shape::Old },
];

/// Every text through one cache, in order; how many of them were planned without being read alone.
#[track_caller]
fn check(setting: &Setting, texts: &[String]) -> usize {
    let (rules, names) = (rules(setting.phase, setting.route), names());
    let cx = Context {
        rules: &rules,
        names: &names,
        shape: setting.shape,
        bucket: Default::default(),
        standard_conforming_strings: true,
    };
    let mut cache = PlanCache::new(8 * 1024 * 1024);
    let mut moved = 0;
    for text in texts {
        let made_before = cache.plans_made();
        let planned = cache.rewrite(text, &cx);
        moved += usize::from(cache.plans_made() == made_before);
        let alone = rewrite(text, &cx);
        assert_eq!(planned.rewrite(text), alone, "{:?}: {text}", setting.phase);
        if let Rewrite::Rewritten(edits) = &alone {
            let mut sent = String::new();
            planned.apply(text, &mut sent);
            assert_eq!(sent, edits.apply(text), "{text}");
            assert_eq!(planned.warnings(), edits.warnings());
            for place in [0, sent.len() / 3, sent.len() / 2, sent.len()] {
                assert_eq!(planned.source_offset(text, place), edits.source_offset(place), "{text}");
            }
        }
    }
    moved
}

/// A text of a remembered shape mentions what the remembered one did: it need not be screened to know.
#[test]
fn what_is_remembered_of_a_text_that_mentions_a_table_is_never_found_for_one_that_does_not() {
    let (rules, names) = (rules(Phase::Verified, Route::Old), names());
    let cx = Context {
        rules: &rules,
        names: &names,
        shape: Shape::Old,
        bucket: Default::default(),
        standard_conforming_strings: true,
    };
    let screen = Screen::new(&rules);
    let mut cache = PlanCache::new(8 * 1024 * 1024);
    let mut found = 0;
    for sql in corpus() {
        for inside in ["a", "users", "'; users --", "information_schema"] {
            let text = with_literals(&sql, |literal, kind| other_literal(literal, kind, 5, inside));
            let mentioned = screen.mentions(text.as_bytes(), true);
            if cache.find(&text, &cx, || screen.has_table(text.as_bytes())).is_some() {
                found += 1;
                assert!(matches!(mentioned, Mention::Identifier | Mention::Catalog), "{text}: {mentioned:?}");
            }
            if mentioned == Mention::Identifier || mentioned == Mention::Catalog {
                cache.rewrite(&text, &cx);
            }
        }
    }
    assert!(found > 100, "{found}");
}

#[test]
fn every_statement_of_the_corpus_keeps_its_meaning_with_other_literals() {
    let (mut texts_checked, mut moved) = (0, 0);
    for sql in corpus() {
        let variant = |number: u64, text: &str| {
            let mut at = 0;
            with_literals(&sql, |literal, kind| {
                at += 1;
                other_literal(literal, kind, number + at, &format!("{text}{at}"))
            })
        };
        let long = "long ".repeat(900);
        let texts = [
            sql.clone(),
            variant(1, "b"),
            variant(123_456, "it's a longer one, users -- /* ; username"),
            variant(0, "ünïcödé"),
            variant(9_876_543_210, &long),
            sql.clone(),
        ];
        for setting in &SETTINGS {
            texts_checked += texts.len();
            moved += check(setting, &texts);
        }
    }
    // Else nothing would have been tested.
    assert!(moved * 10 > texts_checked * 4, "{moved} of {texts_checked} were moved");
}

#[test]
fn texts_of_one_shape_are_planned_once() {
    let texts: Vec<String> = (0..50).map(|n| format!("UPDATE users SET username = 'name{n}' WHERE id = {n}")).collect();
    let dual = Setting { phase: Phase::DualWriting, route: Route::Old, shape: Shape::Old };
    assert_eq!(check(&dual, &texts), 48);
    // A value that is too long to be written twice, and one that is not, have different plans.
    let long: Vec<String> =
        (0..6).map(|n| format!("UPDATE users SET username = '{}' WHERE id = {n}", "x".repeat(n * 1_500))).collect();
    assert!(check(&dual, &long) > 0);
    let bulk = |name: &str| {
        let rows: Vec<String> = (0..1_000).map(|n| format!("({n}, '{name}{n}', '{name}@example.org', {n})")).collect();
        format!("INSERT INTO users (id, username, email, score) VALUES {}", rows.join(", "))
    };
    let names = ["a", "b", "c", "a-name-of-more-than-sixty-bytes-so-that-all-of-them-are-longer-than-64-kb"];
    assert_eq!(check(&dual, &names.map(bulk)), 2);
    // Positions are no values.
    let positions: Vec<String> =
        (1..5).map(|n| format!("SELECT username, id FROM users GROUP BY {n}, username ORDER BY {n}")).collect();
    assert_eq!(check(&SETTINGS[3], &positions), 0);
}

/// Values by the kind of what they stand in for.
fn literal_values() -> impl Strategy<Value = Vec<(u64, String)>> {
    prop::collection::vec((any::<u64>(), "[ -~äß\\n]{0,40}"), 40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_moved_plan_is_the_plan_of_the_text(
        which in any::<prop::sample::Index>(),
        setting in any::<prop::sample::Index>(),
        values in prop::collection::vec(literal_values(), 4),
    ) {
        let corpus = corpus();
        let sql = which.get(&corpus);
        let texts: Vec<String> = values.iter().map(|values| {
            let mut next = values.iter().cycle();
            with_literals(sql, |literal, kind| {
                let (number, text) = next.next()?;
                other_literal(literal, kind, *number, text)
            })
        }).collect();
        check(setting.get(&SETTINGS), &texts);
    }
}

#[test]
fn literals_leave_a_bounded_number_of_plans() {
    let (rules, names) = (rules(Phase::Verified, Route::Old), names());
    let cx = Context {
        rules: &rules,
        names: &names,
        shape: Shape::Old,
        bucket: Default::default(),
        standard_conforming_strings: true,
    };
    let mut cache = PlanCache::new(1024 * 1024);
    let mut bytes = BTreeMap::new();
    for number in 0..5_000 {
        cache.rewrite(&format!("SELECT username FROM users WHERE id = {number} AND email = 'x{number}'"), &cx);
        bytes.insert(cache.bytes(), number);
    }
    // One text seen, then its shape's plan: the cache does not grow with the literals.
    assert!(bytes.len() <= 2, "{bytes:?}");
    assert_eq!(cache.plans_made(), 3);
}
