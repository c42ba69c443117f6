//! Texts that no reader may choke on, names that only look like the table's, and errors in the session's shape.

use crossfade::migration::{Phase, Route, Shape};
use crossfade::schema::SqlState;
use crossfade::sql::{Context, ErrorTexts, Names, PlanCache, Rewrite, Temporary, Verdict, mask_error, rewrite};

use crate::corpus::STATEMENTS;
use crate::fixture::{ident, names, rewritten, rules, table};

fn contracted(sql: &str) -> Rewrite {
    rewritten(Phase::Contracted, Shape::Old, Route::Old, sql).rewrite
}

fn edited(sql: &str) -> String {
    match contracted(sql) {
        Rewrite::Rewritten(edits) => edits.apply(sql),
        Rewrite::Unchanged => "unchanged".to_owned(),
        Rewrite::Refused(refusal) => panic!("{refusal}"),
    }
}

#[test]
fn deep_and_long_statements_do_not_overflow_the_stack() {
    for deep in [
        format!("SELECT {}username{} FROM users", "(".repeat(400), ")".repeat(400)),
        format!("SELECT username FROM users WHERE id = 1{}", " OR id = 1".repeat(10_000)),
        format!("SELECT username FROM users{}", " UNION ALL SELECT username FROM users".repeat(1_000)),
        format!("{}SELECT username FROM users{}", "SELECT * FROM (".repeat(300), ") x".repeat(300)),
        format!("SELECT {} username FROM users", "NOT ".repeat(5_000)),
        format!("SELECT {} username FROM users", "- ".repeat(5_000)),
        format!("SELECT username{} FROM users", "::text".repeat(3_000)),
        format!("INSERT INTO users (id, username) VALUES (1, 'a'){}", ", (1, 'a')".repeat(20_000)),
        format!("SELECT username FROM users{}", " JOIN posts ON true".repeat(1_000)),
        format!("SELECT {} FROM users", vec!["username"; 20_000].join(", ")),
        format!("SELECT CASE {} END FROM users", "WHEN username = 'a' THEN 1 ".repeat(2_000)),
        format!("SELECT username{} FROM users", "[1]".repeat(2_000)),
    ] {
        match contracted(&deep) {
            Rewrite::Rewritten(_) => {}
            Rewrite::Unchanged => panic!("passed: {}", &deep[..60]),
            Rewrite::Refused(refusal) => eprintln!("{}: {}", &deep[..60], refusal.message),
        }
    }
    let too_deep = format!("SELECT {}username{} FROM users", "(".repeat(20_000), ")".repeat(20_000));
    assert!(matches!(contracted(&too_deep), Rewrite::Refused(_)));
    let untouched = too_deep.replace("users", "posts");
    assert_eq!(contracted(&untouched), Rewrite::Unchanged);
}

#[test]
fn damaged_statements_are_answered_without_a_panic() {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    for _ in 0..600 {
        let mut sql: Vec<char> = STATEMENTS[random(STATEMENTS.len())].chars().collect();
        for _ in 0..=random(4) {
            let at = random(sql.len());
            match random(4) {
                0 => drop(sql.drain(at..(at + 1 + random(12)).min(sql.len()))),
                1 => sql.insert(
                    at,
                    ['(', ')', ',', '\'', '"', ';', '*', '.', 'ü', '$', '\\', '-', '/', 'E', '['][random(15)],
                ),
                2 => {
                    let other: Vec<char> = STATEMENTS[random(STATEMENTS.len())].chars().collect();
                    let from = random(other.len());
                    sql.splice(at..at, other[from..(from + random(20)).min(other.len())].iter().copied());
                }
                _ => sql.truncate(at.max(1)),
            }
            if sql.is_empty() {
                sql.push('x');
            }
        }
        let sql: String = sql.into_iter().collect();
        for shape in Shape::ALL {
            for phase in [Phase::Expanded, Phase::DualWriting, Phase::Contracted] {
                if let Rewrite::Rewritten(edits) = rewritten(phase, shape, Route::Old, &sql).rewrite {
                    let end = edits.source_offset(edits.apply(&sql).len());
                    assert_eq!(end, sql.len(), "{sql}");
                }
                if let Rewrite::Refused(refusal) = rewritten(phase, shape, Route::Old, &sql).rewrite {
                    assert_ne!(refusal.detail.as_deref(), Some("The proxy fails to read it."), "{sql}");
                    assert!(!refusal.message.contains("same place"), "{sql}");
                }
            }
        }
    }
}

/// The step that adds the new column waits for no transaction that has not touched the table.
#[test]
fn a_column_that_may_come_in_mid_transaction_means_nothing_yet() {
    for shape in Shape::ALL {
        for sql in
            ["SELECT handle FROM users", "UPDATE users SET handle = 'x'", "DELETE FROM users WHERE users.handle = 'x'"]
        {
            match rewritten(Phase::Shielded, shape, Route::Old, sql).rewrite {
                Rewrite::Unchanged => panic!("{shape:?}: {sql} passes"),
                Rewrite::Refused(refusal) => assert_eq!(refusal.state.0, "42703", "{sql}"),
                // Out of an inline view that does not have it.
                Rewrite::Rewritten(edits) => assert!(edits.apply(sql).contains("FROM (SELECT  FROM users)"), "{sql}"),
            }
        }
        let star = rewritten(Phase::Shielded, shape, Route::Old, "SELECT * FROM users").rewrite;
        assert!(matches!(star, Rewrite::Rewritten(_)), "{star:?}");
    }
}

#[test]
fn no_value_of_the_row_type_is_kept_elsewhere() {
    for sql in [
        "CREATE TABLE notes (id int, author users)",
        "CREATE TABLE notes (authors public.users[])",
        "CREATE TYPE pair AS (one users, other users)",
        "ALTER TYPE pair ADD ATTRIBUTE one users",
        "ALTER TABLE posts ADD COLUMN IF NOT EXISTS author users",
        "CREATE DOMAIN one_row AS users",
        "CREATE DOMAIN one_row users CHECK (true)",
    ] {
        let made = rewritten(Phase::Verified, Shape::Old, Route::Old, sql).rewrite;
        assert!(matches!(made, Rewrite::Refused(_)), "{sql}: {made:?}");
    }
}

#[test]
fn only_the_table_itself_is_touched() {
    for sql in [
        "SELECT username FROM other.users",
        "WITH users AS (SELECT 1 AS username) SELECT username FROM users",
        "SELECT users.title FROM posts AS users",
        "SELECT 'SELECT username FROM users'",
        "SELECT 1 AS users",
        "SELECT /* users */ 1",
        "UPDATE other.users SET username = 'x'",
        "SELECT nextval('users_id_seq'), 'users'::regclass",
        "SELECT users FROM posts",
        "ALTER ROLE users SET search_path = x",
        "CREATE TABLE other.users (username text)",
        "DROP TABLE other.users",
        "SET search_path TO users",
        "GRANT SELECT ON users TO users",
    ] {
        assert_eq!(contracted(sql), Rewrite::Unchanged, "{sql}");
    }
    for sql in [
        "SELECT username FROM \"users\"",
        "SELECT username FROM U&\"!0075sers\" UESCAPE '!'",
        "SELECT username FROM public/**/.--\nusers",
        "SELECT username FROM uSeRs",
        "SELECT E'\\'' , username FROM users WHERE '$$' <> $$'$$",
    ] {
        assert_ne!(edited(sql), "unchanged", "{sql}");
    }
}

#[test]
fn names_follow_the_path_and_temporary_tables() {
    let rules = rules(Phase::Contracted, Route::Old);
    let with = |path: &[&str], temporary: &[&str]| Names {
        path: path.iter().map(|name| ident(name)).collect(),
        temporary: temporary.iter().map(|name| Temporary { name: ident(name), columns: None }).collect(),
    };
    let touched = |names: &Names, sql: &str, scs: bool| {
        let cx = Context {
            rules: &rules,
            names,
            shape: Shape::Old,
            bucket: Default::default(),
            standard_conforming_strings: scs,
        };
        matches!(rewrite(sql, &cx), Rewrite::Rewritten(_))
    };
    let sql = "SELECT username FROM users";
    assert!(touched(&with(&["pg_catalog", "public"], &[]), sql, true));
    assert!(!touched(&with(&["other", "public"], &[]), sql, true));
    assert!(touched(&with(&["public", "other"], &[]), sql, true));
    assert!(!touched(&with(&["public"], &["users"]), sql, true));
    assert!(touched(&with(&["public"], &["users"]), "SELECT username FROM public.users", true));
    assert!(!touched(&with(&[], &[]), sql, true));
    let hidden = "SELECT 'a\\' FROM posts WHERE title = ' , username FROM users";
    assert!(!touched(&names(), hidden, true));
    let shown = "SELECT '\\' FROM posts --', username FROM users";
    assert!(touched(&names(), shown, false));
    assert!(!touched(&names(), shown, true));
}

#[test]
fn errors_are_shown_in_the_sessions_shape() {
    let rules = rules(Phase::Contracted, Route::Old);
    let view = rules.table(&table("public", "users")).unwrap().write_view(Shape::Old);
    let fields = ErrorTexts {
        message: Some("null value in column \"handle\" of relation \"users\" violates not-null constraint".to_owned()),
        detail: Some("Key (handle)=(handle) already exists.".to_owned()),
        table: Some("users".to_owned()),
        column: Some("handle".to_owned()),
        ..ErrorTexts::default()
    };
    let masked = mask_error(view, fields.clone());
    let told = "null value in column \"username\" of relation \"users\" violates not-null constraint";
    assert_eq!(masked.message.as_deref(), Some(told));
    assert_eq!(masked.detail.as_deref(), Some("Key (username)=(handle) already exists."));
    assert_eq!(masked.column.as_deref(), Some("username"));
    let elsewhere = ErrorTexts { table: Some("posts".to_owned()), ..fields };
    assert_eq!(mask_error(view, elsewhere.clone()), elsewhere);
}

#[test]
fn plans_are_remembered_by_everything_that_they_depend_on() {
    let rules = rules(Phase::Contracted, Route::Old);
    let (public, other) = (names(), Names { path: vec![ident("other")], temporary: Vec::new() });
    let mut cache = PlanCache::new(1024 * 1024);
    let cx = |names, shape| Context {
        rules: &rules,
        names,
        shape,
        bucket: Default::default(),
        standard_conforming_strings: true,
    };
    let sql = "SELECT username FROM users";
    for _ in 0..2 {
        assert_eq!(cache.rewrite(sql, &cx(&public, Shape::Old)).verdict(), Verdict::Rewritten);
        assert_eq!(cache.rewrite(sql, &cx(&other, Shape::Old)).verdict(), Verdict::Unchanged);
    }
    for number in 0..20_000 {
        cache.rewrite(&format!("SELECT a{number} FROM posts"), &cx(&public, Shape::Old));
    }
    assert!(cache.bytes() <= 1024 * 1024);
}

#[test]
fn a_syntax_error_is_never_passed_on() {
    for sql in
        ["SELECT FROM users WHERE", "UPDATE users SET", "INSERT INTO users VALUES (", "SELECT username FROM users)"]
    {
        match contracted(sql) {
            Rewrite::Refused(refusal) => {
                assert!(matches!(refusal.state, SqlState::SYNTAX_ERROR | SqlState::UNSUPPORTED), "{sql}");
            }
            // PostgreSQL is asked for its own error, by a text that it cannot run whatever stands before its end.
            Rewrite::Rewritten(edits) => {
                let sent = edits.apply(sql);
                assert_eq!(sent.strip_prefix(sql), Some("\n\\"), "{sql}");
                let ours = edits.stopped_at(sent.len() - 1).map(|refusal| refusal.state);
                assert!(matches!(ours, Some(SqlState::SYNTAX_ERROR | SqlState::UNSUPPORTED)), "{sql}");
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn places_are_those_of_the_clients_text() {
    let sql = "SELECT 'ü', username, nope FROM users";
    let Rewrite::Rewritten(edits) = contracted(sql) else { panic!("not rewritten") };
    let edited = edits.apply(sql);
    let at = |text: &str, word: &str| text.find(word).unwrap();
    assert_eq!(edits.source_offset(at(&edited, "nope")), at(sql, "nope"));
    assert_eq!(edits.source_offset(at(&edited, "(SELECT")), at(sql, "users"));
}

/// Code is not rewritten and the trigger keeps what it writes in step, as long as both columns are stored.
#[test]
fn code_passes_while_both_columns_are_stored() {
    let code = [
        "DO $$ BEGIN UPDATE users SET username = 'x' WHERE id = 1; END $$",
        "DO $$ DECLARE r record; BEGIN SELECT * INTO r FROM users WHERE username = 'x'; END $$",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'UPDATE users SET username = lower(username) RETURNING id'",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT score * 2 FROM users'",
    ];
    let phases =
        [Phase::Expanded, Phase::DualWriting, Phase::Backfilling, Phase::Verified, Phase::Ramping, Phase::Soaking];
    for (phase, route) in phases.iter().flat_map(|phase| [(*phase, Route::Old), (*phase, Route::New)]) {
        for text in code {
            let rewrite = rewritten(phase, Shape::Old, route, text).rewrite;
            assert_eq!(rewrite, Rewrite::Unchanged, "{phase:?} {route:?}: {text}");
        }
    }
    // Later it passes where it says no column that is stored otherwise.
    assert_eq!(contracted("DO $$ BEGIN UPDATE users SET score = score * 2; END $$"), Rewrite::Unchanged);
    let by_place = contracted("DO $$ BEGIN INSERT INTO users VALUES (1, 'a', 'b'); END $$");
    assert!(matches!(by_place, Rewrite::Refused(_)), "{by_place:?}");
}

/// A view that is made once the old column is gone can be written through like one over the table that was.
#[test]
fn a_view_of_the_table_alone_stays_one_that_can_be_written_through() {
    for (text, sent) in [
        (
            "CREATE VIEW v AS SELECT * FROM users WHERE username > 'a' WITH CHECK OPTION",
            "CREATE VIEW v AS SELECT users.id, users.handle AS username, users.email, users.score, users.tags FROM users WHERE \
             users.handle > 'a' WITH CHECK OPTION",
        ),
        (
            "CREATE VIEW v AS SELECT u.username, lower(username), username x FROM users u ORDER BY username",
            "CREATE VIEW v AS SELECT u.handle AS username, lower(u.handle) AS lower, u.handle x FROM users u ORDER BY username",
        ),
    ] {
        assert_eq!(edited(text), sent);
    }
    for text in [
        "CREATE VIEW v AS SELECT u.username FROM users u JOIN posts p ON p.id = u.id",
        "CREATE VIEW v AS SELECT to_jsonb(u) FROM users u",
    ] {
        assert!(edited(text).contains("(SELECT "), "{text}");
    }
}

/// Whatever nests, and however often: it is read, or refused for its size.
#[test]
fn chains_of_every_kind_are_read_or_refused_for_their_size() {
    let links = [
        "+1",
        " + 1",
        "::int",
        ":: int",
        " [1]",
        " ISNULL",
        " NOTNULL",
        " IS NULL",
        " IN (1)",
        " NOT IN (1)",
        " LIKE 'a'",
        " ILIKE 'a' ESCAPE 'b'",
        " SIMILAR TO 'a'",
        " BETWEEN 1 AND 2",
        " BETWEEN SYMMETRIC 1 AND 2",
        " COLLATE \"C\"",
        " AT TIME ZONE 'x'",
        " AT LOCAL",
        " OPERATOR(pg_catalog.+) 1",
        " IS DISTINCT FROM 1",
        " AND true",
        " OR(true)",
        "-- \n-1",
        " = ANY (x)",
        "||'a'",
    ];
    let mut texts = Vec::new();
    for times in [2_000, 20_000] {
        texts.extend(links.map(|link| format!("SELECT username, 1{} FROM users", link.repeat(times))));
        for prefix in ["NOT ", "- ", "- (", "@ ", "CASE WHEN true THEN "] {
            texts.push(format!("SELECT username, {} 1 FROM users", prefix.repeat(times)));
        }
        for join in [
            " JOIN posts ON true",
            " CROSS JOIN posts",
            " NATURAL JOIN posts",
            " NATURAL JOIN users",
            " JOIN users USING (id)",
            ", LATERAL f(1)",
            " JOIN users ON true",
        ] {
            texts.push(format!("SELECT u.username FROM users u{}", join.repeat(times)));
        }
        let joins = [
            "NATURAL JOIN users u#",
            "JOIN users u# USING (id)",
            "JOIN users u# ON u#.username = u.username",
            ", users u#",
        ];
        for join in joins {
            let joins: String =
                (0..times).map(|number| format!(" {}", join.replace('#', &number.to_string()))).collect();
            texts.push(format!("SELECT u.username FROM users u{joins}"));
            texts.push(format!("DELETE FROM users USING users u{joins} WHERE users.username = u.username"));
        }
        for outer in
            ["EXPLAIN ", "PREPARE a AS ", "CREATE TABLE x AS ", "DECLARE c CURSOR FOR ", "CREATE VIEW v AS ", "COPY ("]
        {
            texts.push(format!("{}SELECT username FROM users", outer.repeat(times)));
        }
        texts.push(format!("SELECT (u){} FROM users u", ".a".repeat(times)));
        texts.push(format!("SELECT username, 1 FROM users{}", " UNION ALL SELECT 'a', 2".repeat(times)));
        texts.push(format!("SELECT username FROM users{}", " EXCEPT SELECT username FROM users".repeat(times)));
        texts.push(format!(
            "WITH {} SELECT username FROM x",
            vec!["x AS (SELECT username FROM users)"; times].join(", ")
        ));
        texts.push(format!("SELECT username FROM {}", vec!["users"; times].join(", ")));
        texts.push(format!(
            "UPDATE users SET username = 'a' WHERE {} true",
            "username IN (SELECT username FROM users) AND ".repeat(times)
        ));
    }
    for text in &texts {
        match contracted(text) {
            Rewrite::Rewritten(_) => {}
            Rewrite::Unchanged => panic!("passed: {} ({})", &text[..60], text.len()),
            Rewrite::Refused(refusal) => assert!(!refusal.message.is_empty(), "{refusal}"),
        }
    }
}
