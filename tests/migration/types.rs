//! The kind `change_type`: one name for both shapes, and what becomes of values that do not fit.

use crossfade::migration::ddl::{self, SyncMode};
use crossfade::migration::{Migration, Phase, Shape};

use crate::bench::{Bench, bench, file, retype};

const PEOPLE: &str = "
    CREATE TABLE people (id int PRIMARY KEY, name text, age text);
    INSERT INTO people VALUES (1, 'ann', '30'), (2, 'ben', '4'), (3, 'cy', NULL);";

fn to_integer(more: &str) -> String {
    retype(&format!("table = \"people\"\ncolumn = \"age\"\ntype = \"integer\"\n{more}"))
}

/// `old|new` of a row, as they are stored before the contract.
async fn stored(bench: &Bench, migration: &Migration, id: i32) -> String {
    let storage = migration.lens.new[0].stored().quoted();
    bench.rows(&format!("SELECT age, {storage} FROM people WHERE id = {id}")).await.concat()
}

/// Writes past the proxy, and looks at what is stored.
async fn check(bench: &Bench, migration: &Migration, sql: &str, id: i32, expected: &str) {
    bench.sql(sql).await;
    assert_eq!(stored(bench, migration, id).await, expected, "{sql}");
}

async fn quarantine(bench: &Bench) -> Vec<String> {
    bench.rows("SELECT key, error FROM crossfade.quarantine ORDER BY key").await
}

const SELECT: &str = "SELECT id, age FROM people ORDER BY id";

#[tokio::test]
async fn what_does_not_come_back_does_not_fit() {
    let bench = bench(PEOPLE, &to_integer("")).await;
    bench
        .sql("INSERT INTO people VALUES (4, 'di', '042'), (5, 'ed', 'old'), (6, 'flo', '3000000000'), (7, 'gus', ' 7')")
        .await;
    let found = bench.preflight().await;
    assert!(found.blockers.is_empty(), "{:#?}", found.blockers);
    assert!(
        found.warnings.iter().any(|w| w.code == "misfits" && w.what.starts_with("4 of 7")),
        "{:#?}",
        found.warnings
    );
    let migration = bench.dual_writing().await;
    let copied = bench.copy(&migration).await;
    assert_eq!((copied.rows, copied.found, copied.misfits), (7, 2, 4));
    assert_eq!(
        quarantine(&bench).await,
        [
            "[4]|the value does not come back as it was from type integer",
            "[5]|invalid input syntax for type integer: \"old\"",
            "[6]|value \"3000000000\" is out of range for type integer",
            "[7]|the value does not come back as it was from type integer"
        ]
    );
    assert_eq!(bench.recheck(&migration).await, 4);
    bench.sql("UPDATE people SET age = '42' WHERE id = 4; DELETE FROM people WHERE id > 4").await;
    assert_eq!(bench.recheck(&migration).await, 0);
    let scan = bench.drift(&migration).await;
    assert_eq!((scan.found, scan.misfits), (0, 0));
}

#[tokio::test]
async fn a_misfit_is_accepted_and_read_until_contracting() {
    let bench = bench(PEOPLE, &to_integer("")).await;
    let migration = bench.verified().await;
    for mode in [SyncMode::Quarantine, SyncMode::Strict] {
        bench.mode(&migration, mode).await;
        check(&bench, &migration, "INSERT INTO people VALUES (9, 'x', 'nine')", 9, "nine|NULL").await;
        check(&bench, &migration, "UPDATE people SET age = 'none' WHERE id = 1", 1, "none|NULL").await;
        check(&bench, &migration, "UPDATE people SET name = 'Ann' WHERE id = 1", 1, "none|NULL").await;
        assert_eq!(bench.rows("SELECT key FROM crossfade.quarantine ORDER BY 1").await, ["[1]", "[9]"]);
        let scan = bench.drift(&migration).await;
        assert_eq!((scan.found, scan.misfits), (0, 2), "{mode:?}");
        assert_eq!(bench.copy(&migration).await.found, 0);
        for phase in [Phase::Ramping, Phase::Soaking] {
            assert_eq!(bench.seen(&migration, phase, Shape::Old, SELECT).await, ["1|none", "2|4", "3|NULL", "9|nine"]);
            assert_eq!(bench.seen(&migration, phase, Shape::New, SELECT).await, ["1|NULL", "2|4", "3|NULL", "9|NULL"]);
        }
        check(&bench, &migration, "UPDATE people SET age = '30' WHERE id = 1", 1, "30|30").await;
        bench.sql("DELETE FROM people WHERE id = 9").await;
        assert_eq!(bench.recheck(&migration).await, 0);
    }
    bench.mode(&migration, SyncMode::Refusing).await;
    let refused = ("22P02".to_owned(), "invalid input syntax for type integer: \"x\"".to_owned());
    assert_eq!(bench.fails("UPDATE people SET age = 'x' WHERE id = 1").await, refused);
    bench.enter_contracting(&migration).await;
    assert_eq!(bench.fails("UPDATE people SET age = 'x' WHERE id = 1").await, refused);
    // A transaction that began before contracting writes both, and still does while the rules change.
    let write = "UPDATE people SET age = 'x' WHERE id = 1";
    let write = bench.as_seen(&migration, Phase::Soaking, Shape::Old, write).await;
    assert_eq!(bench.fails(&write).await, refused);
    let write = "UPDATE people SET age = '042' WHERE id = 1";
    let write = bench.as_seen(&migration, Phase::Contracting, Shape::Old, write).await;
    assert_eq!(bench.fails(&write).await.0, "22P02");
    assert_eq!(bench.seen(&migration, Phase::Contracting, Shape::Old, SELECT).await, ["1|30", "2|4", "3|NULL"]);
}

#[tokio::test]
async fn null_is_stored_for_what_does_not_fit() {
    let bench = bench(PEOPLE, &to_integer("invalid = \"null\"")).await;
    bench.sql("INSERT INTO people VALUES (4, 'di', '042'), (5, 'ed', 'old')").await;
    let migration = bench.dual_writing().await;
    let copied = bench.copy(&migration).await;
    assert_eq!((copied.found, copied.misfits), (2, 0));
    bench.complete_storage(&migration).await;
    for mode in [SyncMode::Quarantine, SyncMode::Strict] {
        bench.mode(&migration, mode).await;
        check(&bench, &migration, "UPDATE people SET age = 'none' WHERE id = 1", 1, "none|NULL").await;
        check(&bench, &migration, "UPDATE people SET age = '31' WHERE id = 1", 1, "31|31").await;
        check(&bench, &migration, "UPDATE people SET name = 'Ed' WHERE id = 5", 5, "old|NULL").await;
    }
    assert!(quarantine(&bench).await.is_empty());
    let scan = bench.drift(&migration).await;
    assert_eq!((scan.found, scan.misfits), (0, 0));
    assert_eq!(
        bench.seen(&migration, Phase::Soaking, Shape::Old, SELECT).await,
        ["1|31", "2|4", "3|NULL", "4|042", "5|old"]
    );
    bench.enter_contracting(&migration).await;
    let write = "UPDATE people SET age = 'lost' WHERE id = 1 RETURNING age";
    assert_eq!(bench.seen(&migration, Phase::Contracting, Shape::Old, write).await, ["NULL"]);
    bench.contract(&migration).await;
    assert_eq!(bench.seen(&migration, Phase::Contracted, Shape::Old, write).await, ["NULL"]);
    let write = "UPDATE people SET age = '5' WHERE age = '4' RETURNING age";
    assert_eq!(bench.seen(&migration, Phase::Contracted, Shape::Old, write).await, ["5"]);
    assert_eq!(bench.rows("SELECT age + 1 FROM people WHERE id = 2").await, ["6"]);
}

#[tokio::test]
async fn another_value_is_stored_for_what_does_not_fit() {
    let bench = bench(PEOPLE, &to_integer("invalid = \"- length(age)\"")).await;
    bench.sql("INSERT INTO people VALUES (4, 'di', '042'), (5, 'ed', 'old'), (6, 'flo', '-3')").await;
    let migration = bench.dual_writing().await;
    let copied = bench.copy(&migration).await;
    assert_eq!((copied.found, copied.misfits), (5, 0));
    bench.complete_storage(&migration).await;
    for mode in [SyncMode::Quarantine, SyncMode::Strict] {
        bench.mode(&migration, mode).await;
        check(&bench, &migration, "UPDATE people SET age = 'none' WHERE id = 1", 1, "none|-4").await;
        check(&bench, &migration, "UPDATE people SET age = '31' WHERE id = 1", 1, "31|31").await;
        check(&bench, &migration, "UPDATE people SET name = 'Ed' WHERE id = 5", 5, "old|-3").await;
    }
    assert!(quarantine(&bench).await.is_empty());
    assert_eq!(bench.drift(&migration).await.found, 0);
    assert_eq!(
        bench.seen(&migration, Phase::Ramping, Shape::Old, SELECT).await,
        ["1|31", "2|4", "3|NULL", "4|042", "5|old", "6|-3"]
    );
    let read = "SELECT age FROM people ORDER BY id";
    assert_eq!(bench.seen(&migration, Phase::Ramping, Shape::New, read).await, ["31", "4", "NULL", "-3", "-3", "-3"]);
    bench.enter_contracting(&migration).await;
    bench.contract(&migration).await;
    let write = "INSERT INTO people VALUES (7, 'gus', 'seven') RETURNING age";
    assert_eq!(bench.seen(&migration, Phase::Contracted, Shape::Old, write).await, ["-5"]);
}

#[tokio::test]
async fn a_value_instead_that_cannot_be_had_goes_to_quarantine() {
    let bench = bench(PEOPLE, &to_integer("invalid = \"(age || '0')::integer\"")).await;
    let migration = bench.verified().await;
    bench.mode(&migration, SyncMode::Strict).await;
    check(&bench, &migration, "UPDATE people SET age = '07' WHERE id = 1", 1, "07|70").await;
    check(&bench, &migration, "UPDATE people SET age = 'none' WHERE id = 1", 1, "none|NULL").await;
    assert_eq!(quarantine(&bench).await, ["[1]|invalid input syntax for type integer: \"none0\""]);
    let read = "SELECT age FROM people WHERE id = 1";
    assert_eq!(bench.seen(&migration, Phase::Soaking, Shape::Old, read).await, ["none"]);
}

#[tokio::test]
async fn a_misfit_is_refused_where_that_was_chosen() {
    let bench = bench(PEOPLE, &to_integer("invalid = \"reject\"")).await;
    bench.sql("INSERT INTO people VALUES (5, 'ed', 'old')").await;
    let migration = bench.dual_writing().await;
    for mode in [SyncMode::Quarantine, SyncMode::Strict] {
        bench.mode(&migration, mode).await;
        let (state, message) = bench.fails("INSERT INTO people VALUES (9, 'x', 'nine')").await;
        assert_eq!((state.as_str(), message.as_str()), ("22P02", "invalid input syntax for type integer: \"nine\""));
        assert_eq!(bench.fails("UPDATE people SET age = '042' WHERE id = 1").await.0, "22P02");
        // What was there before is no reason to refuse a write of something else.
        check(&bench, &migration, "UPDATE people SET name = 'Ed' WHERE id = 5", 5, "old|NULL").await;
    }
    assert_eq!(bench.copy(&migration).await.misfits, 1);
    assert_eq!(quarantine(&bench).await.len(), 1);
    let write = "INSERT INTO people (id, age) VALUES (9, 'nine')";
    let write = bench.as_seen(&migration, Phase::DualWriting, Shape::Old, write).await;
    assert_eq!(bench.fails(&write).await.0, "22P02");
    let read = bench.as_seen(&migration, Phase::Soaking, Shape::Old, "SELECT age FROM people").await;
    assert!(!read.contains("CASE"), "{read}");
}

#[tokio::test]
async fn the_users_word_may_lose_and_check_says_so() {
    let bench = bench(PEOPLE, &to_integer("up = \"age::integer\"\ndown = \"age::text\"")).await;
    bench.sql("INSERT INTO people VALUES (4, 'di', '042')").await;
    let found = bench.preflight().await;
    assert!(found.blockers.is_empty(), "{:#?}", found.blockers);
    assert!(found.warnings.iter().any(|w| w.code == "loss" && w.what.starts_with("1 of 4")), "{:#?}", found.warnings);
    let migration = bench.verified().await;
    assert_eq!(stored(&bench, &migration, 4).await, "042|42");
    assert!(quarantine(&bench).await.is_empty());
    let read = "SELECT age FROM people WHERE id = 4";
    assert_eq!(bench.seen(&migration, Phase::Ramping, Shape::Old, read).await, ["42"]);
}

#[tokio::test]
async fn a_rename_has_every_form_of_invalid() {
    let with = |invalid: &str| {
        file(&format!(
            "table = 'users'\ncolumn = 'username'\nto = 'handle'\ntype = 'varchar(5)'\ninvalid = \"{invalid}\""
        ))
    };
    let schema = "CREATE TABLE users (id int PRIMARY KEY, username varchar(50)); INSERT INTO users VALUES (1, 'short')";
    let read = "SELECT username, handle FROM users ORDER BY id";
    for (invalid, new) in [("null", "NULL"), ("left(username, 4) || '~'", "much~")] {
        let bench = bench(schema, &with(invalid)).await;
        let migration = bench.verified().await;
        bench.mode(&migration, SyncMode::Strict).await;
        bench.sql("INSERT INTO users VALUES (2, 'much too long')").await;
        assert_eq!(bench.rows(read).await, ["short|short".to_owned(), format!("much too long|{new}")]);
        assert_eq!(bench.drift(&migration).await.found, 0);
        let seen = bench.seen(&migration, Phase::Soaking, Shape::Old, "SELECT username FROM users ORDER BY id").await;
        assert_eq!(seen, ["short", "much too long"], "{invalid}");
        bench.enter_contracting(&migration).await;
        bench.contract(&migration).await;
        let write = "UPDATE users SET username = 'much longer' WHERE id = 1";
        bench.sql(&bench.as_seen(&migration, Phase::Contracted, Shape::Old, write).await).await;
        assert_eq!(bench.rows("SELECT coalesce(handle, 'NULL') FROM users WHERE id = 1").await, [new]);
    }
    let bench = bench(schema, &with("reject")).await;
    bench.dual_writing().await;
    assert_eq!(bench.fails("INSERT INTO users VALUES (2, 'much too long')").await.0, "22001");
}

/// A column with everything that can be carried over.
const RICH: &str = "
    CREATE TABLE \"P p\" (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        \"The \"\"Age\" text NOT NULL DEFAULT '7',
        email text,
        CONSTRAINT one_age UNIQUE (\"The \"\"Age\", email));
    CREATE INDEX by_age ON \"P p\" (\"The \"\"Age\" DESC NULLS LAST) INCLUDE (email) WITH (fillfactor = 70);
    CREATE INDEX by_hash ON \"P p\" USING hash (\"The \"\"Age\");
    CREATE INDEX elsewhere ON \"P p\" (email) WHERE email <> 'age';
    COMMENT ON COLUMN \"P p\".\"The \"\"Age\" IS 'in years';
    COMMENT ON CONSTRAINT one_age ON \"P p\" IS 'only one';
    ALTER TABLE \"P p\" ALTER \"The \"\"Age\" SET STATISTICS 321, ALTER \"The \"\"Age\" SET (n_distinct = -0.5);
    GRANT SELECT (\"The \"\"Age\"), UPDATE (\"The \"\"Age\") ON \"P p\" TO pg_monitor;
    INSERT INTO \"P p\" (\"The \"\"Age\", email) SELECT n::text, 'e' || n FROM generate_series(1, 40) n;";

fn rich() -> String {
    retype("table = '\"P p\"'\ncolumn = '\"The \"\"Age\"'\ntype = 'integer'")
}

/// The lines of a dump that are about something, without our own indexes for old sessions.
fn lines(bench: &Bench) -> Vec<String> {
    let dump = bench.dump();
    let told = |line: &&str| !line.contains("~crossfade_") && !matches!(*line, "" | "--");
    let mut lines: Vec<String> = dump.lines().filter(told).map(|line| line.trim_end_matches(',').to_owned()).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn after_the_contract_the_schema_is_that_of_a_real_change() {
    let bench = bench(RICH, &rich()).await;
    let migration = bench.contracting().await;
    bench.contract(&migration).await;
    let real = crate::bench::bench(RICH, &rich()).await;
    real.sql(
        "ALTER TABLE \"P p\" ALTER \"The \"\"Age\" DROP DEFAULT;
         ALTER TABLE \"P p\" ALTER \"The \"\"Age\" TYPE integer USING \"The \"\"Age\"::integer;
         ALTER TABLE \"P p\" ALTER \"The \"\"Age\" SET DEFAULT ('7'::text)::integer,
            ALTER \"The \"\"Age\" SET (n_distinct = -0.5)",
    )
    .await;
    let (expected, found) = (lines(&real), lines(&bench));
    assert_eq!(
        (
            expected.iter().filter(|line| !found.contains(line)).collect::<Vec<_>>(),
            found.iter().filter(|line| !expected.contains(line)).collect::<Vec<_>>()
        ),
        (vec![], vec![])
    );
    assert_eq!(expected.len(), found.len());
    let rows = "SELECT id, \"The \"\"Age\", email FROM \"P p\" ORDER BY id";
    assert_eq!(bench.rows(rows).await, real.rows(rows).await);
}

#[tokio::test]
async fn a_rollback_leaves_the_schema_as_it_was_and_every_write() {
    let bench = bench(RICH, &rich()).await;
    let before = bench.dump();
    let migration = bench.migration().await;
    bench.run(&ddl::expand(&migration, &bench.detail(&migration).await)).await;
    bench.rollback(&migration).await;
    assert_eq!(before, bench.dump());
    bench.verified().await;
    bench.sql("UPDATE \"P p\" SET \"The \"\"Age\" = 'old' WHERE id = 2").await;
    bench.mode(&migration, SyncMode::Strict).await;
    bench.sql("UPDATE \"P p\" SET \"The \"\"Age\" = '042' WHERE id = 3").await;
    bench.rollback(&migration).await;
    assert_eq!(before, bench.dump());
    let written = "SELECT \"The \"\"Age\" FROM \"P p\" WHERE id IN (2, 3, 4, 41) ORDER BY id";
    assert_eq!(bench.rows(written).await, ["old", "042", "4"]);
    bench.sql("UPDATE \"P p\" SET \"The \"\"Age\" = id WHERE id IN (2, 3)").await;
    let migration = bench.contracting().await;
    for (shape, write) in [
        (Shape::Old, "UPDATE \"P p\" SET \"The \"\"Age\" = '55' WHERE id = 4"),
        (Shape::New, "INSERT INTO \"P p\" (\"The \"\"Age\") VALUES (56)"),
    ] {
        bench.sql(&bench.as_seen(&migration, Phase::Contracting, shape, write).await).await;
    }
    bench.rollback(&migration).await;
    assert_eq!(before, bench.dump());
    assert_eq!(bench.rows(written).await, ["2", "3", "55", "56"]);
    let left = "SELECT proname FROM pg_proc WHERE pronamespace = 'crossfade'::regnamespace";
    assert_eq!(bench.rows(left).await, ["note_misfit"]);
}

#[tokio::test]
async fn reads_of_old_sessions_find_an_index() {
    let schema = "
        CREATE TABLE people (id int PRIMARY KEY, age text, name text);
        CREATE INDEX by_age ON people (age, name);
        INSERT INTO people SELECT n, n::text, 'n' || n FROM generate_series(1, 2000) n";
    let plan = |rows: Vec<String>| rows.join("\n");
    for (of, more) in
        [("quarantine", ""), ("reject", ""), ("0", ""), ("quarantine", "up = 'age::integer'\ndown = 'age::text'")]
    {
        let bench = bench(schema, &to_integer(&format!("invalid = \"{of}\"\n{more}"))).await;
        let migration = bench.verified().await;
        let text = "EXPLAIN SELECT name FROM people WHERE age = '42'";
        for phase in [Phase::Soaking, Phase::Contracting] {
            let plan = plan(bench.seen(&migration, phase, Shape::Old, text).await);
            assert!(plan.contains("Index Cond"), "{of} in {phase}:\n{plan}");
        }
        bench.enter_contracting(&migration).await;
        bench.contract(&migration).await;
        let plan = plan(bench.seen(&migration, Phase::Contracted, Shape::Old, text).await);
        assert!(plan.contains("Index Cond"), "{of}:\n{plan}");
        assert_eq!(bench.rows("SELECT count(*) FROM pg_index WHERE indrelid = 'people'::regclass").await, ["3"]);
    }
}

#[tokio::test]
async fn types_of_many_kinds_come_through() {
    for (old, new, values, misfits) in [
        ("text", "bigint", "('1'), ('-9000000000'), ('1e3'), (NULL)", 1),
        ("text", "numeric", "('1.50'), ('1.5'), ('+1')", 1),
        ("text", "numeric(5, 1)", "('1.5'), ('1.55')", 1),
        ("text", "boolean", "('true'), ('false'), ('yes')", 1),
        ("text", "date", "('2024-02-29'), ('today'), ('29.2.2024')", 2),
        ("text", "timestamptz", "('2024-02-29 10:00:00+00'), ('2024-02-29 10:00:00')", 1),
        ("text", "uuid", "('6f1ed002-ab59-4d59-8a0a-8a7ab6a3b1f5'), ('x')", 1),
        ("text", "jsonb", "('{\"a\": 1}'), ('{\"a\":1}')", 1),
        ("text", "public.mood", "('ok'), ('great')", 1),
        ("text", "integer[]", "('{1,2}'), ('{1, 2}')", 1),
        ("integer", "bigint", "(1), (NULL)", 0),
        ("integer", "text", "(1), (-5)", 0),
        ("integer", "date", "(1)", 1),
        ("bigint", "integer", "(1), (9000000000)", 1),
        ("numeric", "integer", "(1), (1.0), (2.5)", 2),
        ("integer", "boolean", "(0), (1), (2)", 1),
        ("jsonb", "text", "('{\"a\": 1}'), ('null')", 0),
        ("jsonb", "integer", "('7'), ('\"x\"')", 1),
        ("date", "text", "('2024-02-29')", 0),
        ("timestamptz", "text", "('2024-02-29 10:00+02')", 0),
        ("public.mood", "text", "('sad')", 0),
        ("integer[]", "text", "('{1,NULL}')", 0),
        ("char(5)", "text", "('ab')", 0),
        ("text", "char(5)", "('abcde'), ('ab'), ('ab ')", 1),
        ("varchar(10)", "text", "('ab ')", 0),
        ("text", "varchar(2)", "('ab'), (NULL)", 0),
        ("double precision", "text", "(0.1), ('NaN')", 0),
    ] {
        let name = format!("{old} to {new}");
        let schema = format!(
            "CREATE TYPE public.mood AS ENUM ('sad', 'ok');
             CREATE TABLE people (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, age {old});
             INSERT INTO people (age) VALUES {values}"
        );
        let bench = bench(&schema, &retype(&format!("table = 'people'\ncolumn = 'age'\ntype = '{new}'"))).await;
        bench.sql("SET DateStyle = 'German, DMY'; SET TimeZone = 'Asia/Tokyo'").await;
        let migration = bench.dual_writing().await;
        assert_eq!(bench.copy(&migration).await.misfits, misfits, "{name}");
        bench.sql("UPDATE people SET age = age").await;
        let scan = bench.drift(&migration).await;
        assert_eq!((scan.found, scan.misfits), (0, misfits), "{name}");
        let truth = bench.rows("SELECT age FROM people ORDER BY id").await;
        let seen = bench.seen(&migration, Phase::Soaking, Shape::Old, "SELECT age FROM people ORDER BY id").await;
        assert_eq!(seen, truth, "{name}");
    }
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_change_of_type_is_named() {
    let check = |schema: &'static str, file: String, expected: &'static [&'static str]| async move {
        let bench = bench(schema, &file).await;
        let before = bench.dump();
        let found = bench.preflight().await;
        let codes: Vec<&str> = found.blockers.iter().map(|blocker| blocker.code).collect();
        assert_eq!(codes, expected, "{schema}: {:#?}", found.blockers);
        assert_eq!(before, bench.dump());
    };
    let of = |old: &str, new: &str| {
        let schema = format!("CREATE TABLE people (id int PRIMARY KEY, age {old})").leak() as &'static str;
        (schema, retype(&format!("table = 'people'\ncolumn = 'age'\ntype = '{new}'")))
    };
    let (schema, file) = of("timestamp", "timestamptz");
    check(schema, file.clone(), &["not_immutable", "not_immutable"]).await;
    let said = "up = \"age AT TIME ZONE 'UTC'\"\ndown = \"age AT TIME ZONE 'UTC'\"";
    check(schema, format!("{file}{said}"), &[]).await;
    let (schema, file) = of("timestamp[]", "timestamptz[]");
    check(schema, file, &["not_immutable", "not_immutable"]).await;
    let (schema, file) = of("text", "text");
    check(schema, file, &["same_type"]).await;
    check(PEOPLE, to_integer("up = \"age::date - '2000-01-01'::date\""), &["not_immutable"]).await;
    check(PEOPLE, to_integer("invalid = \"nosuch(age)\""), &["expression"]).await;
    let (schema, file) = of("text NOT NULL", "integer");
    check(schema, format!("{file}invalid = \"null\""), &["null_in_not_null"]).await;
    let (schema, file) = of("text DEFAULT 'none'", "integer");
    check(schema, file, &["default"]).await;
    let (schema, file) = of("serial", "bigint");
    check(schema, file, &["serial"]).await;
    let (schema, file) = of("int GENERATED ALWAYS AS IDENTITY", "bigint");
    check(schema, file, &["generated_column"]).await;
    let (schema, file) = of("text CHECK (age <> '')", "integer");
    check(schema, file, &["constraint_not_carried"]).await;
    let (schema, file) = of("text UNIQUE", "integer");
    check(schema, file.clone(), &[]).await;
    check(schema, format!("{file}invalid = \"0\""), &["index_not_derivable"]).await;
    let (schema, file) = of("text UNIQUE", "numeric");
    check(schema, file, &["index_not_derivable"]).await;
    let (schema, file) = of("text", "integer");
    let with = |more: &str| format!("{schema}; {more}").leak() as &'static str;
    check(with("CREATE INDEX i ON people (lower(age))"), file.clone(), &["index_not_derivable"]).await;
    check(with("CREATE INDEX i ON people (id) WHERE age <> ''"), file.clone(), &["index_not_derivable"]).await;
    let (schema, file) = of("jsonb", "text");
    let gin = format!("{schema}; CREATE INDEX i ON people USING gin (age)").leak() as &'static str;
    check(gin, file, &["index_not_derivable"]).await;
    let key = "CREATE TABLE people (age text PRIMARY KEY)";
    check(key, to_integer(""), &["in_primary_key"]).await;
    check(
        "CREATE TABLE ages (age text PRIMARY KEY); CREATE TABLE people (id int PRIMARY KEY, age text REFERENCES ages)",
        to_integer(""),
        &["constraint_not_carried"],
    )
    .await;
}

#[tokio::test]
async fn checks_and_foreign_keys_go_with_the_same_values() {
    let schema = "
        CREATE TABLE ages (age int PRIMARY KEY);
        INSERT INTO ages VALUES (1), (2);
        CREATE TABLE people (id int PRIMARY KEY, age int NOT NULL DEFAULT 1 CHECK (age > 0) REFERENCES ages);
        INSERT INTO people VALUES (1, 1), (2, 2)";
    let bench = bench(schema, &retype("table = 'people'\ncolumn = 'age'\ntype = 'bigint'")).await;
    let migration = bench.contracting().await;
    bench.contract(&migration).await;
    assert_eq!(bench.fails("INSERT INTO people VALUES (3, 0)").await.0, "23514");
    assert_eq!(bench.fails("INSERT INTO people VALUES (3, 3)").await.0, "23503");
    bench.sql("INSERT INTO people VALUES (3)").await;
    let write = "INSERT INTO people VALUES (4, 9000000000)";
    let write = bench.as_seen(&migration, Phase::Contracted, Shape::Old, write).await;
    assert_eq!(bench.fails(&write).await.0, "22003");
    assert_eq!(bench.seen(&migration, Phase::Contracted, Shape::Old, SELECT).await, ["1|1", "2|2", "3|1"]);
}
