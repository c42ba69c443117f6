//! What preflight finds in the way, and that looking changes nothing.

use crate::bench::{bench, file, narrower, retype};

const USERS: &str = "CREATE TABLE users (id int PRIMARY KEY, username varchar(255), email text);";

/// The codes of the blockers for that schema and file; the schema must be the same afterwards.
#[track_caller]
fn check(schema: &'static str, file: String, expected: &'static [&'static str]) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let bench = bench(schema, &file).await;
        let before = bench.dump();
        let found = bench.preflight().await;
        let codes: Vec<&str> = found.blockers.iter().map(|blocker| blocker.code).collect();
        assert_eq!(codes, expected, "{place}: {:#?}", found.blockers);
        for blocker in &found.blockers {
            assert!(!blocker.why.is_empty() && !blocker.todo.is_empty());
        }
        assert_eq!(bench.dump(), before);
        let left = bench.rows("SELECT proname FROM pg_proc WHERE pronamespace = pg_my_temp_schema()").await;
        assert!(left.is_empty(), "{left:?}");
        assert!(bench.rows("SELECT relname FROM pg_class WHERE relname LIKE 'crossfade_probe%'").await.is_empty());
    }
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    check(USERS, narrower(), &[]).await;
    check(USERS, narrower().replace("\"users\"", "\"user\""), &["no_such_table"]).await;
    check(USERS, narrower().replace("\"username\"", "\"usrname\""), &["no_such_column"]).await;
    check(USERS, narrower().replace("varchar(100)", "nosuch"), &["no_such_type"]).await;
    check(USERS, narrower().replace("varchar(100)", "varchar(0)"), &["no_such_type"]).await;
    check(USERS, narrower().replace("\"handle\"", "\"email\""), &["name_taken"]).await;
    let bench = bench(USERS, &narrower().replace("\"users\"", "\"app.users\"")).await;
    assert!(bench.preflight().await.blockers[0].todo.contains("There is public.users"));
}

#[tokio::test]
async fn tables_that_cannot_be_walked_or_altered_are_refused() {
    check("CREATE TABLE users (id int, username text)", narrower(), &["no_primary_key"]).await;
    check("CREATE VIEW users AS SELECT 'x' AS username", narrower(), &["not_an_ordinary_table"]).await;
    check(
        "CREATE TABLE users (id int PRIMARY KEY, username text) PARTITION BY RANGE (id)",
        narrower(),
        &["not_an_ordinary_table"],
    )
    .await;
    check(
        "CREATE TABLE users (id int PRIMARY KEY, username text); CREATE TABLE more () INHERITS (users)",
        narrower(),
        &["not_an_ordinary_table"],
    )
    .await;
    check("CREATE TABLE users (username text PRIMARY KEY)", narrower(), &["in_primary_key"]).await;
    check(
        "CREATE TABLE users (id int PRIMARY KEY, a text, username text GENERATED ALWAYS AS (a || 'x') STORED)",
        narrower(),
        &["generated_column"],
    )
    .await;
}

#[tokio::test]
async fn what_depends_on_the_column_is_named() {
    check(
        "CREATE TABLE users (id int PRIMARY KEY, username varchar(255) UNIQUE);
         CREATE TABLE posts (author varchar(255) REFERENCES users (username))",
        narrower(),
        &["referenced"],
    )
    .await;
    check(
        "CREATE TABLE users (id int NOT NULL, username varchar(255)); CREATE UNIQUE INDEX u ON users (id) INCLUDE (username);
         CREATE TABLE posts (author int REFERENCES users (id)); ALTER TABLE users ADD PRIMARY KEY (id)",
        narrower(),
        &["referenced"],
    )
    .await;
    let with = |more: &str| format!("{USERS} {more}").leak() as &'static str;
    check(with("CREATE VIEW names AS SELECT username FROM users"), narrower(), &["dependent"]).await;
    check(with("CREATE MATERIALIZED VIEW names AS SELECT upper(username) FROM users"), narrower(), &["dependent"])
        .await;
    check(with("CREATE POLICY own ON users USING (username = current_user)"), narrower(), &["dependent"]).await;
    check(
        with("CREATE RULE r AS ON UPDATE TO users WHERE new.username = 'x' DO INSTEAD NOTHING"),
        narrower(),
        &["dependent"],
    )
    .await;
    check(
        with("ALTER TABLE users ADD up text GENERATED ALWAYS AS (upper(username)) STORED"),
        narrower(),
        &["dependent"],
    )
    .await;
    check(
        with(
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
              CREATE TRIGGER t AFTER UPDATE OF username ON users FOR EACH ROW EXECUTE FUNCTION f()",
        ),
        narrower(),
        &["dependent"],
    )
    .await;
    check(
        with(
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
              CREATE TRIGGER \"é\" BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION f()",
        ),
        narrower(),
        &["trigger_fires_later"],
    )
    .await;
    check(
        with(
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
              CREATE TRIGGER \"!\" BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION f()",
        ),
        narrower(),
        &["trigger_fires_earlier"],
    )
    .await;
    check(with("CREATE INDEX \"~crossfade_the-test_i_0\" ON users (email)"), narrower(), &["left_over"]).await;
    check(
        with("ALTER TABLE users ADD CONSTRAINT x EXCLUDE USING btree (username WITH =)"),
        narrower(),
        // Its index could be built, but would not exclude.
        &["constraint"],
    )
    .await;
    check(with("ALTER TABLE users ADD CONSTRAINT x UNIQUE (username) DEFERRABLE"), narrower(), &["constraint"]).await;
}

#[tokio::test]
async fn a_publication_of_the_column_is_in_the_way() {
    let bench = bench(USERS, &narrower()).await;
    let version: i32 = bench.rows("SHOW server_version_num").await[0].parse().unwrap();
    if version < 150_000 {
        // Publications name no columns yet.
        return;
    }
    bench.sql("CREATE PUBLICATION p FOR TABLE users (id, username)").await;
    let found = bench.preflight().await;
    assert_eq!(found.blockers.iter().map(|blocker| blocker.code).collect::<Vec<_>>(), ["dependent"]);
}

#[tokio::test]
async fn what_is_only_warned_of() {
    let schema = format!(
        "{USERS}
         CREATE STATISTICS s ON username, email FROM users;
         CREATE PUBLICATION p FOR TABLE users;
         CREATE FUNCTION find(text) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM users WHERE username = $1';
         CREATE FUNCTION other(text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint -- my_username of users';
         INSERT INTO users VALUES (1, repeat('x', 150))"
    );
    let bench = bench(&schema, &narrower()).await;
    let found = bench.preflight().await;
    assert!(found.blockers.is_empty(), "{:#?}", found.blockers);
    let codes: Vec<&str> = found.warnings.iter().map(|warning| warning.code).collect();
    assert_eq!(codes, ["not_carried", "function_names_column", "published", "misfits"], "{:#?}", found.warnings);
    assert_eq!(found.dependents.len(), 2);
}

#[tokio::test]
async fn expressions_that_postgresql_would_not_store_are_refused() {
    let with = |up: &str, down: &str, type_sql: &str| {
        file(&format!(
            "table = 'users'\ncolumn = 'username'\nto = 'handle'\ntype = '{type_sql}'\nup = \"\"\"{up}\"\"\"\ndown = '{down}'"
        ))
    };
    check(USERS, with("lower(username)", "handle", "text"), &[]).await;
    check(USERS, with("nosuch(username)", "handle", "text"), &["expression"]).await;
    check(USERS, with("username::timestamptz", "handle::text", "timestamptz"), &["not_immutable", "not_immutable"])
        .await;
    check(USERS, with("username", "handle", "integer"), &["not_assignable"]).await;
    check(
        "CREATE FUNCTION slug(text) RETURNS text LANGUAGE plpgsql STABLE AS 'BEGIN RETURN $1; END';
         CREATE TABLE users (id int PRIMARY KEY, username text)",
        with("public.slug(username)", "handle", "text"),
        &["not_immutable"],
    )
    .await;
    check(
        "CREATE FUNCTION slug(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
         CREATE TABLE users (id int PRIMARY KEY, username text)",
        with("slug(username)", "handle", "text"),
        &["expression"],
    )
    .await;
    check(
        "CREATE TABLE users (id int PRIMARY KEY, username text); INSERT INTO users VALUES (1, 'MiXeD')",
        with("lower(username)", "handle", "text"),
        &["loss"],
    )
    .await;
    check(
        "CREATE TABLE users (id int PRIMARY KEY, username text); CREATE INDEX i ON users (upper(username))",
        with("lower(username)", "handle", "text"),
        &["index_not_derivable"],
    )
    .await;
    for schema in [
        "CREATE TABLE users (id int PRIMARY KEY, username text); CREATE TABLE notes (id int PRIMARY KEY, author users)",
        "CREATE TABLE users (id int PRIMARY KEY, username text); CREATE TABLE notes (id int PRIMARY KEY, authors users[])",
        "CREATE TABLE users (id int PRIMARY KEY, username text); CREATE TYPE pair AS (one users, other users)",
        "CREATE TABLE users (id int PRIMARY KEY, username text); CREATE VIEW whole AS SELECT u FROM users u",
    ] {
        check(schema, narrower(), &["row_type_used"]).await;
    }
}

#[tokio::test]
async fn triggers_that_take_rows_by_place_are_refused() {
    let schema = |body: &str| {
        format!(
            "CREATE TABLE users (id int PRIMARY KEY, username text); CREATE TABLE history (id int, username text, row jsonb);
             CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {body}; RETURN NEW; END';
             CREATE TRIGGER keep AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION keep()"
        )
    };
    for (body, blockers, warnings) in [
        ("INSERT INTO history VALUES (NEW.*)", &["trigger_takes_rows_by_place"][..], &[][..]),
        ("INSERT INTO history SELECT old . *", &["trigger_takes_rows_by_place"], &[]),
        ("INSERT INTO history (row) VALUES (to_jsonb(NEW))", &[], &["trigger_takes_whole_rows"]),
        ("INSERT INTO history SELECT (NEW).*", &["trigger_takes_rows_by_place"], &[]),
        ("INSERT INTO history VALUES (1, OLD.*)", &["trigger_takes_rows_by_place"], &[]),
        ("EXECUTE ''INSERT INTO history SELECT ($1).*'' USING NEW", &["trigger_takes_rows_by_place"], &[]),
        ("INSERT INTO history (row) VALUES (row_to_json(OLD.*)::jsonb)", &[], &["trigger_takes_whole_rows"]),
        ("IF NEW.* IS DISTINCT FROM OLD.* THEN NEW.id := 1; END IF", &[], &[]),
        ("IF (OLD.*) IS NOT DISTINCT FROM (NEW.*) THEN RETURN NULL; END IF", &[], &[]),
        ("IF ROW(NEW.*) <> ROW(OLD.*) OR NEW = OLD THEN RETURN NULL; END IF", &[], &[]),
        ("INSERT INTO history (id) VALUES (NEW.id) -- NEW.*", &[], &[]),
        ("INSERT INTO history (id, username) VALUES (NEW.id, NEW.username)", &[], &["trigger_names_column"]),
        ("IF NEW.id IS DISTINCT FROM OLD.id THEN INSERT INTO history (id) VALUES (OLD.id); END IF", &[], &[]),
    ] {
        // A comment ends with its line.
        let bench = bench(&schema(body).replace("; RETURN", "\n; RETURN"), &narrower()).await;
        let found = bench.preflight().await;
        let codes: Vec<&str> = found.blockers.iter().map(|blocker| blocker.code).collect();
        let told: Vec<&str> = found.warnings.iter().map(|warning| warning.code).collect();
        assert_eq!((&codes[..], &told[..]), (blockers, warnings), "{body}");
    }
}

#[tokio::test]
async fn triggers_that_the_copy_fires_are_told() {
    let schema = "CREATE TABLE users (id int PRIMARY KEY, username text);
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER usual BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TRIGGER always BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TRIGGER replica BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TRIGGER removed BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION touch();
        ALTER TABLE users ENABLE ALWAYS TRIGGER always, ENABLE REPLICA TRIGGER replica, ENABLE ALWAYS TRIGGER removed";
    let bench = bench(schema, &narrower()).await;
    let told = async || {
        let warnings = bench.preflight().await.warnings;
        warnings.into_iter().find(|warning| warning.code == "copy_fires_triggers").map(|warning| warning.what)
    };
    let what = told().await.unwrap();
    assert!(what.ends_with(": always, replica"), "{what}");
    bench.control.batch_execute("DROP ROLE IF EXISTS plain; CREATE ROLE plain; SET ROLE plain").await.unwrap();
    let what = told().await.unwrap();
    assert!(what.ends_with(": always, usual"), "{what}");
    bench.control.batch_execute("RESET ROLE; DROP ROLE plain").await.unwrap();
}

#[tokio::test]
async fn who_does_not_own_the_table_is_told() {
    let bench = bench(USERS, &narrower()).await;
    bench.control.batch_execute("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger; SET ROLE stranger").await.unwrap();
    let codes: Vec<&str> = bench.preflight().await.blockers.iter().map(|blocker| blocker.code).collect();
    assert!(codes.contains(&"not_owner"), "{codes:?}");
    let warnings: Vec<&str> = bench.preflight().await.warnings.iter().map(|warning| warning.code).collect();
    assert!(warnings.contains(&"sees_no_sessions"), "{warnings:?}");
    bench.control.batch_execute("RESET ROLE; DROP ROLE stranger").await.unwrap();
}

#[tokio::test]
async fn domains_that_act_by_themselves_are_refused() {
    let of = |domain: &str| {
        let sql = format!("CREATE DOMAIN d AS {domain}; CREATE TABLE users (id int PRIMARY KEY, username d)");
        sql.leak() as &'static str
    };
    let same = || narrower().replace("type='varchar(100)'\n", "").replace("type = \"varchar(100)\"\n", "");
    check(of("text DEFAULT 'x'"), same(), &["domain"]).await;
    check(of("text NOT NULL"), same(), &["domain"]).await;
    check(of("text"), same(), &[]).await;
    let bench = bench(of("text CHECK (value <> '')"), &same()).await;
    let found = bench.preflight().await;
    assert!(found.blockers.is_empty(), "{:?}", found.blockers);
    assert!(found.warnings.iter().any(|warning| warning.code == "domain"), "{:?}", found.warnings);
}

#[tokio::test]
async fn roles_that_may_not_call_what_converts_are_named() {
    let sql = "CREATE SCHEMA util; CREATE TYPE util.mood AS ENUM ('sad', 'ok');
         CREATE FUNCTION util.norm(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT upper($1)';
         REVOKE EXECUTE ON FUNCTION util.norm(text) FROM PUBLIC;
         CREATE TABLE users (id int PRIMARY KEY, username text); GRANT SELECT, INSERT ON users TO PUBLIC";
    let up = "table='users'\ncolumn='username'\nto='handle'\nup='util.norm(username)'\ndown='util.norm(handle)'";
    check(sql, file(up), &["role_lacks_privilege", "role_lacks_privilege"]).await;
    let to_mood = retype("table='users'\ncolumn='username'\ntype='util.mood'");
    check(sql, to_mood.clone(), &["role_lacks_privilege"]).await;
    check(format!("{sql}; GRANT USAGE ON SCHEMA util TO PUBLIC").leak(), to_mood, &[]).await;
}

#[tokio::test]
async fn rules_that_the_copy_would_meet_are_refused() {
    let sql =
        format!("{USERS} CREATE RULE r AS ON UPDATE TO users DO ALSO NOTHING; ALTER TABLE users ENABLE ALWAYS RULE r");
    check(sql.leak(), narrower(), &["rule_on_update"]).await;
}

#[tokio::test]
async fn the_fingerprint_changes_with_the_schema_and_not_with_data() {
    let bench = bench(USERS, &narrower()).await;
    let now = || async { crossfade::catalog::fingerprint(&bench.control).await.unwrap() };
    let mut last = now().await;
    for sql in [
        "ALTER TABLE users ADD more int",
        "ALTER TABLE users RENAME more TO less",
        "ALTER TABLE users ALTER less SET DEFAULT 5",
        "ALTER TABLE users ALTER less SET DEFAULT 6",
        "ALTER TABLE users DROP less",
        "CREATE TABLE other (id int)",
        "ALTER TABLE other ADD PRIMARY KEY (id)",
        "DROP TABLE other",
        "CREATE VIEW v AS SELECT 1",
    ] {
        bench.sql(sql).await;
        let next = now().await;
        assert_ne!(last, next, "{sql}");
        last = next;
    }
    bench.sql("INSERT INTO users VALUES (1); ANALYZE users; CREATE TEMPORARY TABLE t (a int)").await;
    assert_eq!(now().await, last);
}

#[tokio::test]
async fn the_catalog_has_every_kind_of_relation() {
    let bench = bench(
        "CREATE TABLE \"T t\" (a char(3), b numeric(5, 2) DEFAULT 1, c int GENERATED ALWAYS AS IDENTITY,
            d int GENERATED ALWAYS AS (1) STORED, PRIMARY KEY (c, a));
         ALTER TABLE \"T t\" DROP b; ALTER TABLE \"T t\" ADD e bit(4);
         CREATE VIEW v AS SELECT 1 AS x; CREATE MATERIALIZED VIEW m AS SELECT 2 AS y;
         CREATE TABLE p (id int) PARTITION BY RANGE (id)",
        &narrower(),
    )
    .await;
    let catalog = crossfade::catalog::load(&bench.control).await.unwrap();
    let mut found: Vec<String> = catalog
        .relations()
        .map(|relation| {
            let columns = relation
                .columns
                .iter()
                .map(|column| format!("{} {} {}", column.name, column.type_sql, column.base_type_sql));
            format!(
                "{:?} {} {:?} {:?}",
                relation.kind,
                relation.name,
                columns.collect::<Vec<_>>(),
                relation.primary_key
            )
        })
        .collect();
    found.sort();
    insta::assert_snapshot!("catalog", found.join("\n"));
}
