//! A migration from one end to the other, and back from each place on the way.

use crossfade::migration::ddl::{self, SyncMode};
use crossfade::migration::plan;

use crate::bench::{Bench, bench, file, narrower};

/// A table whose column has everything that a column can have.
const RICH: &str = "
    CREATE TABLE teams (name varchar(255) COLLATE \"C\" PRIMARY KEY);
    INSERT INTO teams SELECT 'u' || n FROM generate_series(1, 60) n;
    CREATE TABLE users (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        username varchar(255) COLLATE \"C\" NOT NULL DEFAULT 'u1'
            CONSTRAINT username_not_empty CHECK (username <> '' AND char_length(username) > 1)
            CONSTRAINT username_is_team REFERENCES teams ON UPDATE CASCADE ON DELETE CASCADE DEFERRABLE,
        email text,
        tenant int NOT NULL DEFAULT 1,
        CONSTRAINT one_name UNIQUE (username),
        CONSTRAINT email_or_name CHECK (email IS NOT NULL OR username LIKE 'u%') NOT VALID);
    CREATE INDEX by_lower ON users (lower(username)) WITH (fillfactor = 70);
    CREATE UNIQUE INDEX by_tenant ON users (tenant DESC, username DESC NULLS LAST) INCLUDE (email)
        WHERE username IS NOT NULL AND tenant > 0;
    CREATE INDEX by_prefix ON users (username varchar_pattern_ops);
    CREATE INDEX by_hash ON users USING hash (username);
    CREATE INDEX by_collation ON users (username COLLATE \"C.utf8\" NULLS FIRST, (tenant + 1));
    CREATE INDEX elsewhere ON users (email) WHERE email <> 'username';
    COMMENT ON COLUMN users.username IS 'what it''s called';
    COMMENT ON INDEX by_lower IS 'for search';
    COMMENT ON CONSTRAINT one_name ON users IS 'only one';
    ALTER TABLE users ALTER username SET STATISTICS 321, ALTER username SET STORAGE EXTERNAL,
        ALTER username SET (n_distinct = -0.5);
    DO $$ BEGIN IF current_setting('server_version_num')::int >= 140000 THEN
        EXECUTE 'ALTER TABLE users ALTER username SET COMPRESSION pglz';
    END IF; END $$;
    GRANT SELECT (username), UPDATE (username) ON users TO pg_monitor;
    GRANT SELECT (username) ON users TO PUBLIC;
    ALTER TABLE users CLUSTER ON by_lower;
    ALTER TABLE users REPLICA IDENTITY USING INDEX one_name;
    INSERT INTO users (username, email, tenant) SELECT 'u' || n, 'e' || n, n % 3 FROM generate_series(2, 50) n;";

#[tokio::test]
async fn after_the_contract_the_schema_is_that_of_a_real_rename() {
    let bench = bench(RICH, &narrower()).await;
    let migration = bench.contracting().await;
    bench.contract(&migration).await;
    let real = crate::bench::bench(RICH, &narrower()).await;
    real.sql(
        "ALTER TABLE users RENAME username TO handle;
         ALTER TABLE users ALTER handle TYPE varchar(100) COLLATE \"C\",
            ALTER handle SET STORAGE EXTERNAL;
         DO $$ BEGIN IF current_setting('server_version_num')::int >= 140000 THEN
            EXECUTE 'ALTER TABLE users ALTER handle SET COMPRESSION pglz';
         END IF; END $$;
         ALTER TABLE users VALIDATE CONSTRAINT username_not_empty",
    )
    .await;
    let sorted = |bench: &Bench| {
        let dump = bench.dump();
        let mut lines: Vec<String> = dump.lines().map(|line| line.trim_end_matches(',').to_owned()).collect();
        lines.sort();
        lines.join("\n")
    };
    pretty(&sorted(&real), &sorted(&bench));
    assert_eq!(
        bench.rows("SELECT id, handle, email, tenant FROM users ORDER BY id").await,
        real.rows("SELECT id, handle, email, tenant FROM users ORDER BY id").await
    );
    let left = "SELECT proname FROM pg_proc WHERE pronamespace = 'crossfade'::regnamespace";
    assert_eq!(bench.rows(left).await, ["note_misfit"]);
}

#[tokio::test]
async fn a_foreign_key_to_a_partitioned_table_is_one_constraint() {
    let sql = "CREATE TABLE names (name varchar(255) PRIMARY KEY) PARTITION BY LIST (name);
        CREATE TABLE names_a PARTITION OF names FOR VALUES IN ('a');
        CREATE TABLE names_b PARTITION OF names FOR VALUES IN ('b');
        INSERT INTO names VALUES ('a'), ('b');
        CREATE TABLE users (id bigint PRIMARY KEY, username varchar(255) CONSTRAINT known REFERENCES names);
        INSERT INTO users VALUES (1, 'a'), (2, 'b');";
    let bench = bench(sql, &narrower()).await;
    let migration = bench.contracting().await;
    bench.sql("INSERT INTO users (id, username) VALUES (3, 'b')").await;
    bench.contract(&migration).await;
    let sql = "SELECT conname, confrelid::regclass, convalidated FROM pg_constraint \
               WHERE conrelid = 'users'::regclass AND contype = 'f' AND conparentid = 0";
    assert_eq!(bench.rows(sql).await, ["known|names|t"]);
}

#[track_caller]
fn pretty(expected: &str, found: &str) {
    let only = |a: &str, b: &str| {
        let lines: Vec<&str> = b.lines().collect();
        a.lines().filter(|line| !lines.contains(line)).collect::<Vec<_>>().join("\n")
    };
    assert!(
        expected == found,
        "only in expected:\n{}\nonly in found:\n{}",
        only(expected, found),
        only(found, expected)
    );
}

#[tokio::test]
async fn a_rollback_leaves_the_schema_as_it_was_and_every_write() {
    let bench = bench(RICH, &narrower()).await;
    let before = bench.dump();
    let migration = bench.migration().await;
    bench.rollback(&migration).await;
    pretty(&before, &bench.dump());

    bench.run(&ddl::expand(&migration, &bench.detail(&migration).await)).await;
    bench.rollback(&migration).await;
    pretty(&before, &bench.dump());

    bench.dual_writing().await;
    bench.sql("UPDATE users SET username = 'u60' WHERE username = 'u2'").await;
    bench.rollback(&migration).await;
    pretty(&before, &bench.dump());

    bench.verified().await;
    bench.sql("UPDATE users SET username = 'u59' WHERE username = 'u3'").await;
    bench.mode(&migration, SyncMode::Strict).await;
    bench.rollback(&migration).await;
    pretty(&before, &bench.dump());

    bench.contracting().await;
    bench.sql("UPDATE users SET handle = 'u58' WHERE handle = 'u4'").await;
    bench.sql("INSERT INTO users (handle) VALUES ('u57'); INSERT INTO users (email) VALUES ('defaulted')").await;
    bench.rollback(&migration).await;
    pretty(&before, &bench.dump());
    assert_eq!(
        bench.rows("SELECT username FROM users WHERE id IN (1, 2, 3) OR id > 49 ORDER BY id").await,
        ["u60", "u59", "u58", "u57", "u1"]
    );
    assert_eq!(
        bench.rows("SELECT proname FROM pg_proc WHERE pronamespace = 'crossfade'::regnamespace").await,
        ["note_misfit"]
    );
}

#[tokio::test]
async fn names_that_need_quotes_and_names_of_63_bytes_simply_work() {
    let long = |c: &str| c.repeat(63);
    let schema = format!(
        "CREATE SCHEMA \"Ünder \"\"S\";
         CREATE TABLE \"Ünder \"\"S\".\"User\" (\"The Id\" int PRIMARY KEY, \"Screen Name\" text NOT NULL DEFAULT 'it''s');
         CREATE UNIQUE INDEX \"{}\" ON \"Ünder \"\"S\".\"User\" (\"Screen Name\", lower(\"Screen Name\"));
         INSERT INTO \"Ünder \"\"S\".\"User\" SELECT n, 'n' || n FROM generate_series(1, 20) n",
        long("i")
    );
    let keys = format!(
        "table = '\"Ünder \"\"S\".\"User\"'\ncolumn = '\"Screen Name\"'\nto = '\"{}\"'\ntype = 'varchar(30)'",
        long("N")
    );
    let name = "a-name-of-40-bytes-0123456789-0123456789";
    let bench = bench(&schema, &file(&keys).replace("the-test", name)).await;
    let before = bench.dump();
    let migration = bench.contracting().await;
    bench.rollback(&migration).await;
    pretty(&before, &bench.dump());
    let migration = bench.contracting().await;
    bench.contract(&migration).await;
    let index = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisprimary AND indrelid = \
                 '\"Ünder \"\"S\".\"User\"'::regclass";
    assert_eq!(bench.rows(index).await, [format!("\"Ünder \"\"S\".{}", long("i"))]);
    let column = "SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid) \
                  FROM pg_attribute JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum \
                  WHERE attrelid = '\"Ünder \"\"S\".\"User\"'::regclass";
    assert_eq!(bench.rows(column).await, [format!("{}|character varying(30)|t|'it''s'::text", long("N"))]);
}

#[tokio::test]
async fn an_index_made_behind_our_back_stops_the_contract() {
    let bench = bench(RICH, &narrower()).await;
    let migration = bench.contracting().await;
    bench.sql("CREATE INDEX late ON users (username)").await;
    let blockers = ddl::contract(&migration, &bench.detail(&migration).await).unwrap_err();
    assert_eq!(blockers.len(), 1);
    assert!(blockers[0].what.contains("\"late\""), "{}", blockers[0].what);
}

#[tokio::test]
async fn an_invalid_index_that_a_crash_left_is_built_again() {
    let bench = bench(RICH, &narrower()).await;
    let migration = bench.verified().await;
    bench.sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid::regclass::text LIKE '%~crossfade%'").await;
    assert!(ddl::contract(&migration, &bench.detail(&migration).await).is_err());
    let steps = ddl::build(&migration, &bench.detail(&migration).await).unwrap();
    bench.run(&steps).await;
    assert!(ddl::contract(&migration, &bench.detail(&migration).await).is_ok());
}

#[tokio::test]
async fn the_plan_shows_every_statement() {
    let bench = bench(RICH, &narrower()).await;
    let migration = bench.migration().await;
    let plan = plan::plan(&migration, &bench.detail(&migration).await).unwrap();
    let mut text = plan.text();
    if bench.version().await < 140_000 {
        // Columns have no compression of their own yet.
        let storage = "ALTER TABLE public.users ALTER COLUMN handle SET STORAGE EXTERNAL;\n";
        let compression = "ALTER TABLE public.users ALTER COLUMN handle SET COMPRESSION pglz;\n";
        assert!(!text.contains(compression));
        text = text.replace(storage, &format!("{storage}{compression}"));
    }
    insta::assert_snapshot!("plan", text);
    assert!(serde_json::to_string(&plan).unwrap().contains("access_exclusive"));
}

#[tokio::test]
async fn a_serial_keeps_its_sequence() {
    let schema =
        "CREATE TABLE t (id int PRIMARY KEY, number serial); INSERT INTO t SELECT n FROM generate_series(1, 9) n";
    let bench = bench(schema, &file("table = 't'\ncolumn = 'number'\nto = 'place'")).await;
    let migration = bench.contracting().await;
    bench.contract(&migration).await;
    bench.sql("INSERT INTO t (id) VALUES (10)").await;
    assert_eq!(bench.rows("SELECT place FROM t WHERE id = 10").await, ["10"]);
    assert_eq!(bench.rows("SELECT pg_get_serial_sequence('t', 'place')").await, ["public.t_number_seq"]);
}

#[tokio::test]
async fn old_sessions_are_served_for_ever_by_the_way_down() {
    let keys = "table='t'\ncolumn='code'\nto='label'\ntype='varchar(20)'";
    let schema = "CREATE TABLE t (id int PRIMARY KEY, code varchar(5)); INSERT INTO t VALUES (1, 'abc')";
    let bench = bench(schema, &file(keys)).await;
    let migration = bench.contracting().await;
    // While the way back is open, what old cannot hold is refused.
    assert_eq!(bench.fails("UPDATE t SET label = 'much too long'").await.0, "22001");
    bench.contract(&migration).await;
    bench.sql("INSERT INTO t VALUES (2, 'much too long')").await;
    let read = migration.lens.old[0].from.read.sql();
    assert_eq!(bench.rows(&format!("SELECT {read} FROM t WHERE id = 1")).await, ["abc"]);
    assert_eq!(bench.fails(&format!("SELECT {read} FROM t WHERE id = 2")).await.0, "22001");
}
