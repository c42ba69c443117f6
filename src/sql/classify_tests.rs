use super::*;

fn kinds(text: &str) -> Vec<Kind> {
    classify(text.as_bytes(), true).iter().map(|statement| statement.kind.clone()).collect()
}

fn set(name: &str, values: &[&str], local: bool) -> Kind {
    Kind::Set(Setting { name: name.to_owned(), values: values.iter().map(|v| (*v).to_owned()).collect(), local })
}

#[test]
fn one_statement_is_known_by_its_first_word() {
    assert_eq!(kinds("SELECT 1"), [Kind::Select]);
    assert_eq!(kinds(" /* x */ select 1 ;  "), [Kind::Select]);
    assert_eq!(kinds("(select 1) union select 2"), [Kind::Select]);
    assert_eq!(kinds("WITH x AS (SELECT 1), y AS (DELETE FROM t RETURNING 1) UPDATE t SET a = 1"), [Kind::Update]);
    assert_eq!(kinds("COPY t (a, b) FROM STDIN WITH (FORMAT csv)"), [Kind::Copy(CopyEnd::FromStdin)]);
    assert_eq!(kinds("copy (select 1 from x) to stdout"), [Kind::Copy(CopyEnd::ToStdout)]);
    assert_eq!(kinds(""), []);
    assert_eq!(kinds("; -- nothing\n;"), []);
}

#[test]
fn texts_are_split_where_postgresql_splits_them() {
    assert_eq!(kinds("BEGIN; SELECT ';'; COMMIT"), [Kind::Begin, Kind::Select, Kind::Commit { chain: false }]);
    assert_eq!(kinds("SELECT 1 -- ;\n; DELETE FROM t"), [Kind::Select, Kind::Delete]);
    assert_eq!(kinds("create rule r as on insert to t do (select 1; select 2); select 3"), [Kind::Ddl, Kind::Select]);
    let body = "create function f() returns int begin atomic select 1; select case when true then 2 end; end; select 3";
    assert_eq!(kinds(body), [Kind::Ddl, Kind::Select]);
    let body = "create procedure p() begin atomic select t.case, 1 as end from t; end; select 3";
    assert_eq!(kinds(body), [Kind::Ddl, Kind::Select]);
    let text = "select 1;  update t set a = 2 ;";
    let ranges: Vec<_> = classify(text.as_bytes(), true).iter().map(|s| &text[s.range.clone()]).collect();
    assert_eq!(ranges, ["select 1", "update t set a = 2"]);
}

#[test]
fn settings_are_read_with_their_values() {
    assert_eq!(kinds("SET search_path TO a, \"B\", 'c'"), [set("search_path", &["a", "B", "c"], false)]);
    assert_eq!(kinds("set local Crossfade.Shape = new"), [set("crossfade.shape", &["new"], true)]);
    assert_eq!(kinds("SET SESSION search_path = DEFAULT"), [set("search_path", &[], false)]);
    assert_eq!(kinds("SET SCHEMA 'x'"), [set("search_path", &["x"], false)]);
    assert_eq!(kinds("SET NAMES 'latin1'"), [set("client_encoding", &["latin1"], false)]);
    assert_eq!(kinds("set time zone 'UTC'"), [set("timezone", &["UTC"], false)]);
    assert_eq!(kinds("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"), [set("transaction", &[], false)]);
    assert_eq!(
        kinds("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"),
        [set("session characteristics", &[], false)]
    );
    assert_eq!(kinds("RESET ALL; RESET crossfade.shape"), [Kind::ResetAll, Kind::Reset("crossfade.shape".into())]);
    assert!(
        classify(b"SELECT pg_catalog.Set_Config('search_path', 'x', true)", true).single().unwrap().calls_set_config
    );
}

#[test]
fn transactions_and_prepared_statements_are_followed() {
    assert_eq!(kinds("ROLLBACK TO SAVEPOINT x"), [Kind::RollbackTo]);
    assert_eq!(kinds("rollback and chain"), [Kind::Rollback { chain: true }]);
    assert_eq!(kinds("commit and no chain"), [Kind::Commit { chain: false }]);
    assert_eq!(kinds("COMMIT PREPARED 'x'"), [Kind::FinishPrepared]);
    assert_eq!(kinds("PREPARE TRANSACTION 'x'"), [Kind::PrepareTransaction]);
    let text = "PREPARE \"P q\" (int, text) AS SELECT $1";
    let statements = classify(text.as_bytes(), true);
    let Kind::Prepare { name, body } = &statements.single().unwrap().kind else { panic!("no PREPARE") };
    assert_eq!((name.as_str(), &text[body.clone()]), ("P q", "SELECT $1"));
    assert_eq!(kinds("EXECUTE p(1)"), [Kind::Execute { name: "p".into() }]);
    assert_eq!(kinds("DEALLOCATE PREPARE ALL"), [Kind::Deallocate { name: None }]);
    assert_eq!(kinds("deallocate p"), [Kind::Deallocate { name: Some("p".into()) }]);
    assert_eq!(kinds("DISCARD ALL"), [Kind::Discard("all".into())]);
}

#[test]
fn comments_at_the_end_are_no_part_of_a_statement() {
    for (text, statement) in [
        ("select 1 /* traceparent='00-1' */", "select 1"),
        ("select 1 /* a */ /* b */;", "select 1"),
        ("insert into t values (1)/**/", "insert into t values (1)"),
        ("select 1 /* a /* b */ c */ ;", "select 1"),
        ("select '/*' /* x */", "select '/*'"),
        ("select 2 */* x */ 3", "select 2 */* x */ 3"),
    ] {
        assert_eq!(&text[classify(text.as_bytes(), true).single().unwrap().range.clone()], statement, "{text}");
    }
}
