//! What the sync trigger makes of every kind of write, in every mode.

use crossfade::migration::ddl::SyncMode;

use crate::bench::{Bench, bench, file, narrower, past_the_trigger};

const USERS: &str = "
    CREATE TABLE users (id int PRIMARY KEY, username varchar(255), email text);
    INSERT INTO users VALUES (1, 'one', 'e'), (2, 'two', 'e'), (3, NULL, 'e');";

/// Runs the statement, and compares the row with that id: `username|handle`.
async fn check(bench: &Bench, sql: &str, id: i32, expected: &str) {
    bench.sql(sql).await;
    let rows = bench.rows(&format!("SELECT username, handle FROM users WHERE id = {id}")).await;
    assert_eq!(rows, [expected], "{sql}");
}

fn long(text: &str) -> String {
    text.repeat(150)
}

#[tokio::test]
async fn old_wins_until_contracting() {
    let bench = bench(USERS, &narrower()).await;
    let migration = bench.dual_writing().await;
    for mode in [SyncMode::Quarantine, SyncMode::Strict] {
        bench.mode(&migration, mode).await;
        bench.sql("DELETE FROM users WHERE id > 9; UPDATE users SET username = 'two' WHERE id = 2").await;
        check(&bench, "INSERT INTO users (id, username) VALUES (10, 'a')", 10, "a|a").await;
        check(&bench, "INSERT INTO users (id, handle) VALUES (11, 'b')", 11, "b|b").await;
        check(&bench, "INSERT INTO users (id, username, handle) VALUES (12, 'a', 'b')", 12, "a|a").await;
        check(&bench, "INSERT INTO users (id, username, handle) VALUES (13, 'a', 'a')", 13, "a|a").await;
        check(&bench, "INSERT INTO users (id) VALUES (14)", 14, "NULL|NULL").await;
        check(&bench, "UPDATE users SET username = 'c' WHERE id = 10", 10, "c|c").await;
        check(&bench, "UPDATE users SET handle = 'd' WHERE id = 10", 10, "d|d").await;
        check(&bench, "UPDATE users SET username = 'e', handle = 'f' WHERE id = 10", 10, "e|e").await;
        check(&bench, "UPDATE users SET username = NULL WHERE id = 10", 10, "NULL|NULL").await;
        check(&bench, "UPDATE users SET handle = 'g' WHERE id = 10", 10, "g|g").await;
        check(&bench, "UPDATE users SET handle = NULL WHERE id = 10", 10, "NULL|NULL").await;
        check(&bench, "UPDATE users SET username = 'C', email = 'x' WHERE id = 10", 10, "C|C").await;
        let upsert = "INSERT INTO users VALUES (10, 'h') ON CONFLICT (id) DO UPDATE SET username = excluded.username";
        check(&bench, upsert, 10, "h|h").await;
        check(&bench, "UPDATE users SET email = 'repaired' WHERE id = 2", 2, "two|two").await;
    }
}

#[tokio::test]
async fn new_wins_in_contracting() {
    let bench = bench(USERS, &narrower()).await;
    bench.contracting().await;
    check(&bench, "INSERT INTO users (id, handle) VALUES (10, 'a')", 10, "a|a").await;
    check(&bench, "INSERT INTO users (id, username) VALUES (11, 'b')", 11, "b|b").await;
    check(&bench, "INSERT INTO users (id, username, handle) VALUES (12, 'a', 'b')", 12, "b|b").await;
    check(&bench, "INSERT INTO users (id) VALUES (13)", 13, "NULL|NULL").await;
    check(&bench, "UPDATE users SET handle = 'c' WHERE id = 10", 10, "c|c").await;
    check(&bench, "UPDATE users SET username = 'd' WHERE id = 10", 10, "d|d").await;
    check(&bench, "UPDATE users SET username = 'e', handle = 'f' WHERE id = 10", 10, "f|f").await;
    check(&bench, "UPDATE users SET handle = NULL WHERE id = 10", 10, "NULL|NULL").await;
    let (state, _) = bench.fails(&format!("UPDATE users SET username = '{}' WHERE id = 10", long("x"))).await;
    assert_eq!(state, "22001");
}

#[tokio::test]
async fn a_default_moves_to_the_new_column_in_contracting() {
    let schema = "CREATE TABLE users (id int PRIMARY KEY, username varchar(255) DEFAULT 'anon');";
    let bench = bench(schema, &narrower()).await;
    let migration = bench.dual_writing().await;
    check(&bench, "INSERT INTO users (id) VALUES (1)", 1, "anon|anon").await;
    bench.rollback(&migration).await;
    bench.contracting().await;
    check(&bench, "INSERT INTO users (id) VALUES (2)", 2, "anon|anon").await;
    check(&bench, "INSERT INTO users (id, handle) VALUES (3, NULL)", 3, "NULL|NULL").await;
    check(&bench, "INSERT INTO users (id, handle) VALUES (4, 'x')", 4, "x|x").await;
    check(&bench, "INSERT INTO users (id, username) VALUES (5, 'y')", 5, "y|y").await;
    check(&bench, "INSERT INTO users (id, username, handle) VALUES (6, DEFAULT, DEFAULT)", 6, "anon|anon").await;
}

#[tokio::test]
async fn not_null_holds_and_is_filled() {
    let schema = "CREATE TABLE users (id int PRIMARY KEY, username varchar(255) NOT NULL);";
    let bench = bench(schema, &narrower()).await;
    bench.contracting().await;
    check(&bench, "INSERT INTO users (id, handle) VALUES (1, 'a')", 1, "a|a").await;
    let (state, message) = bench.fails("INSERT INTO users (id, handle) VALUES (2, NULL)").await;
    assert_eq!(state, "23502");
    assert!(message.contains("\"username\""), "{message}");
    assert_eq!(bench.fails("UPDATE users SET handle = NULL").await.0, "23502");
}

#[tokio::test]
async fn a_trigger_of_the_users_has_its_say_first() {
    let schema = "
        CREATE TABLE users (id int PRIMARY KEY, username varchar(255), email text);
        CREATE FUNCTION fold() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN NEW.username := lower(NEW.username); RETURN NEW; END';
        CREATE TRIGGER zz_fold BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION fold();";
    let bench = bench(schema, &narrower()).await;
    let preflight = bench.preflight().await;
    assert!(preflight.warnings.iter().any(|warning| warning.code == "trigger_names_column"));
    let migration = bench.dual_writing().await;
    check(&bench, "INSERT INTO users VALUES (1, 'MiXeD', '', 'MiXeD')", 1, "mixed|mixed").await;
    check(&bench, "UPDATE users SET username = 'OtheR', handle = 'OtheR'", 1, "other|other").await;
    let detail = bench.detail(&migration).await;
    let broken = crossfade::catalog::breaks_on_contract(&detail, &migration.lens.old[0].name);
    assert_eq!(broken, ["trigger zz_fold (its function public.fold names it)"]);
}

/// A table whose trigger does that with a row.
fn with_trigger(body: &str) -> String {
    format!(
        "CREATE TABLE users (id int PRIMARY KEY, username varchar(255) DEFAULT 'anon', email text);
         INSERT INTO users VALUES (1, 'one'), (2, 'two');
         CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $act$BEGIN {body} RETURN NEW; END$act$;
         CREATE TRIGGER act BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION act();"
    )
}

#[tokio::test]
async fn a_trigger_of_the_users_sees_both_sides_whichever_was_given() {
    let cases = [
        ("INSERT INTO users (id, handle) VALUES (10, 'a')", 10, "a|a"),
        ("INSERT INTO users (id, username) VALUES (11, 'b')", 11, "b|b"),
        ("INSERT INTO users (id) VALUES (12)", 12, "anon|anon"),
        ("UPDATE users SET handle = 'c' WHERE id = 10", 10, "c|c"),
        ("UPDATE users SET username = 'd' WHERE id = 10", 10, "d|d"),
        ("UPDATE users SET handle = 'e', username = 'e' WHERE id = 10", 10, "e|e"),
        ("UPDATE users SET handle = NULL WHERE id = 10", 10, "NULL|NULL"),
        ("UPDATE users SET username = 'f' WHERE id = 10", 10, "f|f"),
    ];
    let bench = bench(&with_trigger(""), &narrower()).await;
    let migration = bench.verified().await;
    bench
        .sql(
            "CREATE OR REPLACE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN NEW.email := format('%s/%s', NEW.username, NEW.handle); RETURN NEW; END $$",
        )
        .await;
    for mode in [SyncMode::Quarantine, SyncMode::Strict, SyncMode::Contracting] {
        match mode {
            SyncMode::Contracting => bench.enter_contracting(&migration).await,
            _ => bench.mode(&migration, mode).await,
        }
        for (sql, id, expected) in cases {
            check(&bench, sql, id, expected).await;
            let seen = bench.rows(&format!("SELECT email FROM users WHERE id = {id}")).await;
            assert_eq!(seen, [expected.replace('|', "/").replace("NULL", "")], "{sql}, {mode:?}");
        }
        bench.sql("DELETE FROM users WHERE id > 9").await;
    }
}

#[tokio::test]
async fn a_trigger_that_keeps_a_value_or_takes_it_away_is_obeyed() {
    let body =
        "IF TG_OP = 'UPDATE' THEN NEW.username := OLD.username; ELSE NEW.username := nullif(NEW.username, ''); END IF;";
    let bench = bench(&with_trigger(body), &narrower()).await;
    bench.verified().await;
    check(&bench, "UPDATE users SET username = 'x' WHERE id = 1", 1, "one|one").await;
    check(&bench, "UPDATE users SET username = 'x', handle = 'x' WHERE id = 1", 1, "one|one").await;
    check(&bench, "UPDATE users SET handle = 'x' WHERE id = 1", 1, "one|one").await;
    check(&bench, "INSERT INTO users (id, username, handle) VALUES (10, '', '')", 10, "NULL|NULL").await;
    check(&bench, "INSERT INTO users (id, handle) VALUES (11, '')", 11, "NULL|NULL").await;
}

#[tokio::test]
async fn a_trigger_that_names_the_new_column_alone_changes_that_one() {
    // As `complete` wants it before the old column can go.
    let bench = bench(&with_trigger(""), &narrower()).await;
    let migration = bench.verified().await;
    let replace = async |body: &str| {
        let function = format!(
            "CREATE OR REPLACE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$"
        );
        bench.sql(&function).await;
    };
    for mode in [SyncMode::Quarantine, SyncMode::Strict, SyncMode::Contracting] {
        match mode {
            SyncMode::Contracting => bench.enter_contracting(&migration).await,
            _ => bench.mode(&migration, mode).await,
        }
        replace("NEW.handle := nullif(upper(NEW.handle), 'NONE');").await;
        check(&bench, "INSERT INTO users (id, username, handle) VALUES (10, 'a', 'a')", 10, "A|A").await;
        check(&bench, "INSERT INTO users (id, handle) VALUES (11, 'a')", 11, "A|A").await;
        check(&bench, "INSERT INTO users (id, username) VALUES (12, 'a')", 12, "A|A").await;
        check(&bench, "INSERT INTO users (id) VALUES (13)", 13, "ANON|ANON").await;
        check(&bench, "INSERT INTO users (id, username, handle) VALUES (14, 'none', 'none')", 14, "NULL|NULL").await;
        check(&bench, "UPDATE users SET username = 'b', handle = 'b' WHERE id = 10", 10, "B|B").await;
        check(&bench, "UPDATE users SET handle = 'c' WHERE id = 10", 10, "C|C").await;
        check(&bench, "UPDATE users SET username = 'd' WHERE id = 10", 10, "D|D").await;
        replace("IF TG_OP = 'UPDATE' THEN NEW.handle := OLD.handle; END IF;").await;
        check(&bench, "UPDATE users SET username = 'x', handle = 'x' WHERE id = 10", 10, "D|D").await;
        check(&bench, "UPDATE users SET username = 'x' WHERE id = 10", 10, "D|D").await;
        replace("").await;
        bench.sql("DELETE FROM users WHERE id > 9").await;
    }
    assert_eq!(bench.fails(&format!("UPDATE users SET username = '{}' WHERE id = 1", long("x"))).await.0, "22001");
}

#[tokio::test]
async fn a_generic_trigger_is_told_by_its_arguments() {
    let schema = "
        CREATE TABLE users (id int PRIMARY KEY, username varchar(255), email text);
        CREATE FUNCTION fold() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RETURN jsonb_populate_record(NEW, jsonb_build_object(TG_ARGV[0], lower(to_jsonb(NEW) ->> TG_ARGV[0])));
            END $$;";
    let fold = |column: &str| {
        format!("CREATE TRIGGER fold BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION fold('{column}')")
    };
    let bench = bench(schema, &narrower()).await;
    let migration = bench.dual_writing().await;
    bench.sql(&fold("username")).await;
    check(&bench, "INSERT INTO users VALUES (1, 'MiXeD', '', 'MiXeD')", 1, "mixed|mixed").await;
    let detail = bench.detail(&migration).await;
    let broken = crossfade::catalog::breaks_on_contract(&detail, &migration.lens.old[0].name);
    assert_eq!(broken, ["trigger fold (its function public.fold names it)"]);
    bench.sql("DROP TRIGGER fold ON users").await;
    bench.sql(&fold("handle")).await;
    check(&bench, "INSERT INTO users VALUES (2, 'MiXeD', '', 'MiXeD')", 2, "mixed|mixed").await;
    let detail = bench.detail(&migration).await;
    assert!(crossfade::catalog::breaks_on_contract(&detail, &migration.lens.old[0].name).is_empty());
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_judged_as_the_triggers_leave_it() {
    let body = "NEW.username := nullif(NEW.username, 'n/a');";
    let keys =
        "table='users'\ncolumn='username'\nto='handle'\ntype='integer'\nup='username::integer'\ndown='handle::text'";
    let schema = with_trigger(body).replace("'one'", "'1'").replace("'two'", "'2'").replace("'anon'", "'0'");
    let bench = bench(&schema, &file(keys)).await;
    let migration = bench.verified().await;
    check(&bench, "UPDATE users SET username = 'n/a' WHERE id = 1", 1, "NULL|NULL").await;
    check(&bench, "UPDATE users SET username = 'n/a', handle = NULL WHERE id = 2", 2, "NULL|NULL").await;
    assert!(bench.rows("SELECT key FROM crossfade.quarantine").await.is_empty());
    check(&bench, "UPDATE users SET username = 'x' WHERE id = 1", 1, "x|NULL").await;
    assert_eq!(bench.rows("SELECT key FROM crossfade.quarantine").await, ["[1]"]);
    bench.mode(&migration, SyncMode::Refusing).await;
    check(&bench, "UPDATE users SET username = 'n/a' WHERE id = 2", 2, "NULL|NULL").await;
    assert_eq!(bench.fails("UPDATE users SET username = 'x' WHERE id = 2").await.0, "22P02");
}

#[tokio::test]
async fn writers_that_never_cross_the_wire_are_covered() {
    let schema = "
        CREATE TABLE teams (name varchar(255) PRIMARY KEY);
        INSERT INTO teams VALUES ('a'), ('b'), ('c');
        CREATE TABLE users (id int PRIMARY KEY, username varchar(255) REFERENCES teams ON UPDATE CASCADE ON DELETE SET NULL);
        INSERT INTO users VALUES (1, 'a'), (2, 'b'), (3, 'c');";
    let bench = bench(schema, &narrower()).await;
    let migration = bench.verified().await;
    check(&bench, "UPDATE teams SET name = 'A' WHERE name = 'a'", 1, "A|A").await;
    check(&bench, "DELETE FROM teams WHERE name = 'b'", 2, "NULL|NULL").await;
    check(&bench, "SET session_replication_role = replica; UPDATE users SET username = 'A' WHERE id = 3", 3, "A|A")
        .await;
    bench.sql("RESET session_replication_role; INSERT INTO teams VALUES ('z')").await;
    check(&bench, "DO $$ BEGIN UPDATE users SET username = 'z' WHERE id = 3; END $$", 3, "z|z").await;
    assert_eq!(bench.drift(&migration).await.found, 0);
}

#[tokio::test]
async fn misfits_go_to_quarantine_and_are_refused_once_reads_may_move() {
    let bench = bench(USERS, &narrower()).await;
    bench.sql(&format!("INSERT INTO users VALUES (4, '{}')", long("p"))).await;
    let migration = bench.dual_writing().await;
    let copied = bench.copy(&migration).await;
    assert_eq!((copied.rows, copied.found, copied.misfits), (4, 2, 1));
    let quarantine = "SELECT key, error FROM crossfade.quarantine ORDER BY key";
    assert_eq!(bench.rows(quarantine).await, ["[4]|value too long for type character varying(100)"]);

    let misfit = long("q");
    check(&bench, &format!("INSERT INTO users VALUES (5, '{misfit}')"), 5, &format!("{misfit}|NULL")).await;
    check(&bench, &format!("UPDATE users SET username = '{misfit}' WHERE id = 1"), 1, &format!("{misfit}|NULL")).await;
    check(&bench, "UPDATE users SET email = 'again' WHERE id = 1", 1, &format!("{misfit}|NULL")).await;
    assert_eq!(bench.rows("SELECT key FROM crossfade.quarantine ORDER BY 1").await, ["[1]", "[4]", "[5]"]);
    assert_eq!(bench.drift(&migration).await.misfits, 3);
    assert_eq!(bench.recheck(&migration).await, 3);

    check(&bench, "UPDATE users SET username = 'short' WHERE id = 1", 1, "short|short").await;
    bench.sql("DELETE FROM users WHERE id = 4").await;
    assert_eq!(bench.recheck(&migration).await, 1);
    check(
        &bench,
        &format!("UPDATE users SET username = '{}' WHERE id = 5", "é".repeat(100)),
        5,
        &format!("{0}|{0}", "é".repeat(100)),
    )
    .await;
    assert_eq!(bench.recheck(&migration).await, 0);

    // A misfit whose new value is not even NULL: the copy and the trigger both note it.
    let planted = format!("UPDATE users SET username = '{misfit}' WHERE id = 2");
    bench.sql(&past_the_trigger(&migration, &planted)).await;
    let copied = bench.copy(&migration).await;
    assert_eq!((copied.found, copied.misfits), (1, 1));
    assert_eq!(bench.rows("SELECT key FROM crossfade.quarantine").await, ["[2]"]);
    check(&bench, "UPDATE users SET username = 'two' WHERE id = 2", 2, "two|two").await;
    assert_eq!(bench.recheck(&migration).await, 0);

    bench.mode(&migration, SyncMode::Strict).await;
    for sql in [
        format!("INSERT INTO users VALUES (6, '{misfit}')"),
        format!("UPDATE users SET username = '{misfit}' WHERE id = 1"),
        // The assignment would cut trailing blanks in silence; old and new would no longer agree.
        format!("UPDATE users SET username = 'x{}' WHERE id = 1", " ".repeat(150)),
    ] {
        let (state, message) = bench.fails(&sql).await;
        assert_eq!((state.as_str(), message.as_str()), ("22001", "value too long for type character varying(100)"));
    }
    assert_eq!(bench.drift(&migration).await.misfits, 0);
}

#[tokio::test]
async fn a_role_with_no_rights_but_on_the_table_may_write() {
    let bench = bench(USERS, &file("table='users'\ncolumn='username'\nto='handle'\ntype='integer'\nup='username::integer'\ndown='handle::text'")).await;
    bench
        .sql(
            "UPDATE users SET username = id; DROP ROLE IF EXISTS clerk; CREATE ROLE clerk; GRANT ALL ON users TO clerk",
        )
        .await;
    bench.dual_writing().await;
    bench.sql("SET ROLE clerk; SET search_path = public").await;
    bench.sql("INSERT INTO users VALUES (10, '5'), (11, 'five')").await;
    bench.sql("UPDATE users SET username = '6' WHERE id = 10").await;
    bench.sql("RESET ROLE").await;
    assert_eq!(bench.rows("SELECT username, handle FROM users WHERE id > 9 ORDER BY id").await, ["6|6", "five|NULL"]);
    assert_eq!(bench.rows("SELECT key FROM crossfade.quarantine").await, ["[11]"]);
    bench.sql("DROP OWNED BY clerk; DROP ROLE clerk").await;
}

#[tokio::test]
async fn an_up_of_the_users_is_computed_by_trying() {
    let keys = "table='users'\ncolumn='username'\nto='age'\ntype='integer'\nup='username::integer'\ndown='age::text'";
    let bench = bench(
        "CREATE TABLE users (id int PRIMARY KEY, username text);
         INSERT INTO users VALUES (1, '1'), (2, 'two'), (3, '3000000000'), (4, NULL)",
        &file(keys),
    )
    .await;
    let preflight = bench.preflight().await;
    assert!(preflight.warnings.iter().any(|w| w.code == "misfits" && w.what.starts_with("2 of")), "{preflight:#?}");
    let migration = bench.dual_writing().await;
    let copied = bench.copy(&migration).await;
    assert_eq!((copied.rows, copied.found, copied.misfits), (4, 1, 2));
    assert_eq!(
        bench.rows("SELECT key, error FROM crossfade.quarantine ORDER BY key").await,
        [
            "[2]|invalid input syntax for type integer: \"two\"",
            "[3]|value \"3000000000\" is out of range for type integer"
        ]
    );
    bench.sql("UPDATE users SET age = 7 WHERE id = 1; INSERT INTO users (id, age) VALUES (5, 8)").await;
    bench.sql("UPDATE users SET username = '9' WHERE id = 2").await;
    assert_eq!(
        bench.rows("SELECT id, username, age FROM users WHERE id <> 3 ORDER BY id").await,
        ["1|7|7", "2|9|9", "4|NULL|NULL", "5|8|8"]
    );
    assert_eq!(bench.recheck(&migration).await, 1);
    // The old column tells what does not fit, until the way to contracting.
    bench.mode(&migration, SyncMode::Strict).await;
    bench.sql("UPDATE users SET username = 'x' WHERE id = 1").await;
    assert_eq!(bench.recheck(&migration).await, 2);
    bench.mode(&migration, SyncMode::Refusing).await;
    let (state, message) = bench.fails("UPDATE users SET username = 'y' WHERE id = 5").await;
    assert_eq!((state.as_str(), message.as_str()), ("22P02", "invalid input syntax for type integer: \"y\""));
}

#[tokio::test]
async fn a_key_in_quarantine_names_its_row_whoever_noted_it() {
    let keys = [
        ("float8", "0.30000000000000004", "SET extra_float_digits = 0"),
        ("interval", "'-1 day -3 hours'", "SET IntervalStyle = sql_standard"),
        ("date", "'2024-03-04'", "SET DateStyle = 'SQL, DMY'"),
        ("bytea", "repeat('y', 1900)::bytea", "SET bytea_output = escape"),
        ("jsonb", "'\"a\"'", ""),
        ("list", "'{1,2}'", ""),
        ("int[]", "'{1,2}'", ""),
        ("text", "repeat(chr(1), 900)", ""),
        ("character(5)", "'ab'", ""),
        ("numeric", "1.50", ""),
        ("timestamptz", "'1880-01-01 00:00:00+00'", "SET TimeZone = 'Europe/Amsterdam'"),
    ];
    for (of, key, settings) in keys {
        let schema = format!(
            "CREATE DOMAIN list AS int[]; CREATE TABLE users (id {of} PRIMARY KEY, username varchar(255));
             INSERT INTO users VALUES ({key}, 'short')"
        );
        let bench = bench(&schema, &narrower()).await;
        let migration = bench.dual_writing().await;
        bench.sql(&format!("{settings}; UPDATE users SET username = '{}'", long("x"))).await;
        assert_eq!(bench.rows("SELECT count(*) FROM crossfade.quarantine").await, ["1"], "{of}");
        assert_eq!(bench.recheck(&migration).await, 1, "{of}");
        bench.sql(&format!("{settings}; UPDATE users SET username = 'short'")).await;
        assert_eq!(bench.recheck(&migration).await, 0, "{of}");
    }
}

#[tokio::test]
async fn what_fits_and_was_not_converted_stays_in_quarantine() {
    let schema = format!(
        "{USERS} CREATE SCHEMA util; GRANT USAGE ON SCHEMA util TO PUBLIC;
         CREATE FUNCTION util.norm(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT upper($1)';
         CREATE FUNCTION util.back(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT lower($1)';
         DROP ROLE IF EXISTS unprivileged; CREATE ROLE unprivileged; GRANT ALL ON users TO unprivileged"
    );
    let keys = "table='users'\ncolumn='username'\nto='handle'\nup='util.norm(username)'\ndown='util.back(handle)'";
    let bench = bench(&schema, &file(keys)).await;
    let migration = bench.dual_writing().await;
    // At the start it would have been told.
    bench.sql("REVOKE USAGE ON SCHEMA util FROM PUBLIC; SET ROLE unprivileged; SET search_path = public").await;
    bench.sql("INSERT INTO users (id, username) VALUES (10, 'ten')").await;
    bench.sql("RESET ROLE").await;
    assert_eq!(bench.rows("SELECT username, handle FROM users WHERE id = 10").await, ["ten|NULL"]);
    assert_eq!(bench.recheck(&migration).await, 1);
    bench.complete_storage(&migration).await;
    assert_eq!(bench.rows("SELECT username, handle FROM users WHERE id = 10").await, ["ten|TEN"]);
    assert_eq!(bench.recheck(&migration).await, 0);
    bench.sql("DROP OWNED BY unprivileged; DROP ROLE unprivileged").await;
}
