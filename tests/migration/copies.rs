//! The copy and the drift scan over keys and values of many types.

use crate::bench::{bench, file, narrower, past_the_trigger};

/// A table with that key, and rows whose keys `rows` makes of n.
async fn check_key(columns: &str, key: &str, rows: &str) {
    let schema = format!(
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
         CREATE DOMAIN code AS text CHECK (VALUE <> '');
         CREATE COLLATION backwards (provider = icu, locale = 'en-u-kf-upper');
         CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE users ({columns}, username varchar(255), PRIMARY KEY ({key}));
         INSERT INTO users SELECT {rows}, 'name' || n FROM generate_series(1, 30) n ON CONFLICT DO NOTHING;
         UPDATE users SET username = repeat('x', 150) WHERE username = 'name3';"
    );
    let bench = bench(&schema, &narrower()).await;
    let count: i64 = bench.rows("SELECT count(*) FROM users").await[0].parse().unwrap();
    assert!(count >= 3);
    let migration = bench.dual_writing().await;
    let copied = bench.copy(&migration).await;
    assert_eq!((copied.rows, copied.found, copied.misfits), (count, count - 1, 1), "{columns}");
    let again = bench.copy(&migration).await;
    assert_eq!((again.rows, again.found, again.misfits), (count, 0, 1), "{columns}");
    let scan = bench.drift(&migration).await;
    assert_eq!((scan.rows, scan.found, scan.misfits), (count, 0, 1), "{columns}");
    bench.sql("UPDATE users SET username = 'fits' WHERE username LIKE 'xxx%'").await;
    assert_eq!(bench.recheck(&migration).await, 0, "{columns}");
    let wrong = "SELECT count(*) FROM users WHERE handle IS DISTINCT FROM username";
    assert_eq!(bench.rows(wrong).await, ["0"], "{columns}");
}

#[tokio::test]
async fn keys_of_numbers() {
    check_key("id int", "id", "n - 15").await;
    check_key("id bigint", "id", "n * 1000000000000").await;
    check_key("id numeric", "id", "n / 7.0").await;
    check_key("id double precision", "id", "n / 7.0").await;
}

#[tokio::test]
async fn keys_of_texts_in_any_order() {
    check_key("id text", "id", "repeat(chr(64 + n), n)").await;
    check_key("id text COLLATE backwards", "id", "CASE WHEN n % 2 = 0 THEN chr(64 + n) ELSE chr(96 + n) END").await;
    check_key("id text COLLATE blind", "id", "'k' || n").await;
    check_key("id char(5)", "id", "n::text").await;
    check_key("id varchar(9)", "id", "chr(30 + n) || ' ,''\"\\'").await;
    check_key("id code", "id", "'c' || n").await;
}

#[tokio::test]
async fn keys_of_other_types() {
    check_key("id uuid", "id", "md5(n::text)::uuid").await;
    check_key("id timestamptz", "id", "'2020-01-01'::timestamptz + n * interval '1.000001 s'").await;
    check_key("id bytea", "id", "decode(md5(n::text), 'hex')").await;
    check_key("id date", "id", "'2020-01-01'::date + n").await;
    check_key("id mood", "id", "(ARRAY['happy', 'sad', 'ok'])[1 + n % 3]::mood").await;
    check_key("id boolean, b \"char\"", "id, b", "n % 2 = 0, chr(64 + n)::\"char\"").await;
    check_key("id inet", "id", "'10.0.0.0'::inet + n").await;
    check_key("id int[]", "id", "ARRAY[n % 3, n]").await;
}

#[tokio::test]
async fn keys_of_several_columns() {
    check_key("a int, b text", "a, b", "n % 4, 'b' || n").await;
    check_key("a int, b text, c uuid", "c, b, a", "n, 'b' || n % 2, md5((n % 5)::text)::uuid").await;
    check_key("a mood, \"B b\" int", "a, \"B b\"", "(ARRAY['happy', 'sad', 'ok'])[1 + n % 3]::mood, n").await;
}

/// A column of that type: what `corrupt` makes of the new one is seen.
async fn check_value(type_sql: &str, value: &str, corrupt: &str) {
    let schema = format!(
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
         CREATE TYPE pair AS (a int, b text);
         CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE t (id int PRIMARY KEY, old {type_sql});
         INSERT INTO t SELECT n, {value} FROM generate_series(1, 20) n;
         INSERT INTO t VALUES (21, NULL)"
    );
    let bench = bench(&schema, &file("table = 't'\ncolumn = 'old'\nto = 'fresh'")).await;
    let migration = bench.dual_writing().await;
    let copied = bench.copy(&migration).await;
    assert_eq!((copied.rows, copied.found), (21, 20), "{type_sql}");
    let clean = bench.drift(&migration).await;
    assert_eq!((clean.rows, clean.found), (21, 0), "{type_sql}");
    let plant = |id: i32, to: &str| past_the_trigger(&migration, &format!("UPDATE t SET fresh = {to} WHERE id = {id}"));
    bench.sql(&plant(5, corrupt)).await;
    bench.sql(&plant(9, "NULL")).await;
    bench.sql(&plant(21, &format!("(SELECT {value} FROM (SELECT 21 AS n) AS s)"))).await;
    let dirty = bench.drift(&migration).await;
    assert_eq!((dirty.found, dirty.samples.join(" ").as_str()), (3, "[5] [9] [21]"), "{type_sql}");
    let repaired = bench.copy(&migration).await;
    assert_eq!(repaired.found, 3, "{type_sql}");
    assert_eq!(bench.drift(&migration).await.found, 0, "{type_sql}");
}

#[tokio::test]
async fn planted_corruption_is_seen_in_texts() {
    check_value("text", "'v' || n", "'V5'").await;
    check_value("varchar(20)", "'v' || n", "'v5 '").await;
    check_value("varchar(20) COLLATE blind", "'v' || n", "'V5'").await;
    check_value("char(5)", "'v' || n", "'V5'").await;
    check_value("bytea", "('v' || n)::bytea", "'v05'").await;
    check_value("mood", "(ARRAY['sad'])[1 + n - n]::mood", "'happy'").await;
}

#[tokio::test]
async fn planted_corruption_is_seen_in_numbers_and_times() {
    check_value("int", "n", "50").await;
    check_value("numeric", "n + 0.0", "5.00").await;
    check_value("double precision", "n - n", "'-0'").await;
    check_value("boolean", "n > 0", "false").await;
    check_value("timestamptz", "'2020-01-01'::timestamptz + n * interval '1s'", "'2020-01-01'").await;
    check_value("interval", "(n * 24) * interval '1 hour'", "interval '5 days'").await;
    check_value("uuid", "md5(n::text)::uuid", "md5('x')::uuid").await;
}

#[tokio::test]
async fn planted_corruption_is_seen_in_types_without_equality() {
    check_value("json", "('{\"a\":' || n || '}')::json", "'{\"a\": 5}'").await;
    check_value("jsonb", "('{\"a\":' || n || '}')::jsonb", "'{\"a\": 5.0}'").await;
    check_value("point", "point(n, n)", "'5,5.1'").await;
    check_value("xml", "('<a>' || n || '</a>')::xml", "'<a>5 </a>'").await;
    check_value("int[]", "ARRAY[n, NULL]", "'[0:1]={5,NULL}'").await;
    check_value("pair", "ROW(n, 'x')::pair", "ROW(5, NULL)").await;
}

#[tokio::test]
async fn the_copy_does_not_fire_the_users_triggers_where_it_may_silence_them() {
    let schema = "
        CREATE TABLE users (id int PRIMARY KEY, username varchar(255), stamp int DEFAULT 0);
        INSERT INTO users SELECT n, 'n' || n FROM generate_series(1, 5) n;
        CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.stamp := 1; RETURN NEW; END';
        CREATE TRIGGER stamp BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp();";
    let bench = bench(schema, &narrower()).await;
    assert!(crossfade::catalog::may_silence_triggers(&bench.control).await.unwrap());
    let migration = bench.dual_writing().await;
    bench.control.batch_execute("BEGIN").await.unwrap();
    bench.control.batch_execute(crossfade::migration::walk::SILENCE_TRIGGERS).await.unwrap();
    bench.copy(&migration).await;
    bench.control.batch_execute("COMMIT").await.unwrap();
    assert_eq!(bench.rows("SELECT DISTINCT stamp, handle = username FROM users").await, ["0|t"]);
}

#[tokio::test]
async fn a_copy_beside_a_writer_loses_nothing() {
    let schema = "CREATE TABLE users (id int PRIMARY KEY, username varchar(255));
                  INSERT INTO users SELECT n, 'n' || n FROM generate_series(1, 20) n;";
    let bench = bench(schema, &narrower()).await;
    let migration = bench.dual_writing().await;
    bench.sql("BEGIN; UPDATE users SET username = 'live' WHERE id = 3; DELETE FROM users WHERE id = 4").await;
    let commit = async {
        // The copy waits for the row's lock; it must see the row as it is afterwards.
        let waits =
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        while bench.rows(waits).await != ["t"] {
            tokio::task::yield_now().await;
        }
        bench.sql("COMMIT").await;
    };
    let (copied, ()) = tokio::join!(bench.copy(&migration), commit);
    assert_eq!(copied.misfits, 0);
    assert_eq!(bench.drift(&migration).await.found, 0);
    assert_eq!(bench.rows("SELECT handle FROM users WHERE id = 3").await, ["live"]);
}
