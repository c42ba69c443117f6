use proptest::prelude::*;

use super::*;

fn columns() -> Vec<Ident> {
    ["username", "age", "Screen Name", "größe"].map(|name| Ident::new(name).unwrap()).to_vec()
}

fn parse(sql: &str) -> Result<Expr, ExprError> {
    expression(sql, &columns())
}

#[track_caller]
fn renders(sql: &str, expected: &str) {
    let expr = parse(sql).unwrap();
    assert_eq!(expr.render(|name| format!("<{name}>")), expected);
}

#[track_caller]
fn refused(sql: &str, part: &str) {
    let error = parse(sql).unwrap_err();
    assert!(error.message.contains(part), "{sql}: {}", error.message);
    assert!(!error.help.is_empty());
}

#[test]
fn columns_are_replaced_at_their_places_and_nowhere_else() {
    renders("username", "<username>");
    renders("  USERNAME ", "<username>");
    renders("lower(username)", "(lower(<username>))");
    renders("(username || 'username')", "(<username> || 'username')");
    renders("\"Screen Name\" || username", "(<Screen Name> || <username>)");
    renders("'größe' || \"größe\" || username", "('größe' || <größe> || <username>)");
    renders("'a\nb' ||\n username", "('a\nb' ||\n <username>)");
    renders(
        "CASE WHEN age::int > 5 THEN 'age' ELSE username END",
        "(CASE WHEN <age>::int > 5 THEN 'age' ELSE <username> END)",
    );
    renders("substring(username from 1 for 3)", "(substring(<username> from 1 for 3))");
    renders("trim(both 'x' from username)", "(trim(both 'x' from <username>))");
    renders("coalesce(nullif(username, ''), 'it''s')", "(coalesce(nullif(<username>, ''), 'it''s'))");
    renders("username IN ('a', 'b') AND age IS NOT NULL", "(<username> IN ('a', 'b') AND <age> IS NOT NULL)");
    renders("CAST(username AS varchar(10))", "(CAST(<username> AS varchar(10)))");
    renders("username COLLATE \"C\"", "(<username> COLLATE \"C\")");
}

#[test]
fn what_postgresql_prints_is_read() {
    renders("lower((username)::text)", "(lower((<username>)::text))");
    renders("((username)::text <> ''::text)", "((<username>)::text <> ''::text)");
    renders(
        "((username)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
        "((<username>)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
    );
    renders("((username)::text ~~ 'a%'::text)", "((<username>)::text ~~ 'a%'::text)");
    renders("((username)::text ~ '^[a-z]+$'::text)", "((<username>)::text ~ '^[a-z]+$'::text)");
    renders("(char_length((username)::text) > 3)", "(char_length((<username>)::text) > 3)");
    renders("((age >= 0) AND (age <= 150))", "((<age> >= 0) AND (<age> <= 150))");
}

#[test]
fn functions_are_listed() {
    let expr = parse("public.slug(lower(username), Upper('x'))").unwrap();
    assert_eq!(expr.functions().collect::<Vec<_>>(), ["public.slug", "lower", "upper"]);
    assert_eq!(expr.sql(), "(public.slug(lower(username), Upper('x')))");
}

#[test]
fn what_is_not_one_value_of_the_row_is_refused() {
    refused("", "empty");
    refused("username ||", "does not parse");
    refused("username, age", "more after");
    refused("nobody", "no column \"nobody\"");
    refused("usrname", "no column");
    refused("u.username", "qualified");
    refused("(SELECT 1)", "subquery");
    refused("EXISTS (SELECT 1)", "subquery");
    refused("username IN (SELECT 'x')", "subquery");
    refused("max(username)", "aggregate");
    refused("row_number() OVER ()", "aggregate");
    refused("$1", "parameters");
    refused("username -- x", "comments");
    refused("username /* x */", "comments");
    refused("age <>/*'*/ 1", "comments");
    refused("U&\"user\\006eame\"", "U&");
    refused("E'x\\n'", "backslashes");
    refused("username; DROP TABLE x", "semicolons");
    refused("*", "");
}

#[test]
fn what_gives_another_value_each_time_is_refused() {
    for sql in [
        "random()::text",
        "now()::text",
        "username || now()",
        "current_timestamp::text",
        "current_user",
        "gen_random_uuid()::text",
        "pg_catalog.gen_random_uuid()::text",
        "nextval('s')::text",
        "clock_timestamp()::text",
        "CASE WHEN random() > 0.5 THEN username END",
    ] {
        refused(sql, "another value each time");
    }
}

#[test]
fn mistakes_say_where() {
    assert_eq!(parse("lower(usrname)").unwrap_err().offset, Some(6));
    assert!(parse("lower(usrname)").unwrap_err().help.contains("\"username\""));
    assert_eq!(parse("'größe' || random()").unwrap_err().offset, Some("'größe' || ".len()));
}

#[test]
fn types_are_one_type() {
    for good in
        ["varchar(100)", "character varying(100)", "bigint", "app.mood", "\"My Type\"", "numeric(10,2)", "text[]"]
    {
        assert!(check_type(good).is_ok(), "{good}");
    }
    for bad in ["", "varchar(100) not null", "varchar(", "int; drop table x", "text -- x", "1"] {
        assert!(check_type(bad).is_err(), "{bad}");
    }
}

/// Expressions over the columns above, as text.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("username".to_owned()),
        Just("age".to_owned()),
        Just("\"Screen Name\"".to_owned()),
        Just("\"größe\"".to_owned()),
        "[a-zé' ]{0,6}".prop_map(|text| format!("'{}'", text.replace('\'', "''"))),
        (0u32..1000).prop_map(|number| number.to_string()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} + {b}")),
            inner.clone().prop_map(|a| format!("lower({a})")),
            inner.clone().prop_map(|a| format!("({a})::varchar(10)")),
            inner.clone().prop_map(|a| format!("trim({a})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("CASE WHEN {a} = {b} THEN {c} ELSE\n'é' END")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("coalesce({a}, {b})")),
        ]
    })
}

proptest! {
    #[test]
    fn rendering_over_the_same_names_gives_the_same_tree(sql in expressions()) {
        let parsed = parse(&sql).unwrap();
        let plain = tree(&sql).unwrap();
        let closed = match plain {
            Tree::Identifier(_) | Tree::Nested(_) => plain,
            other => Tree::Nested(Box::new(other)),
        };
        prop_assert_eq!(tree(&parsed.sql()).unwrap(), closed);
        prop_assert_eq!(parsed.columns().count(), parsed.render(|_| "\u{1}".to_owned()).matches('\u{1}').count());
    }
}
