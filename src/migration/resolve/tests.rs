use super::*;
use crate::schema::{ColumnDetail, QualifiedName, Relation};

fn ident(text: &str) -> Ident {
    Ident::new(text).unwrap()
}

/// A type, with the modifier that PostgreSQL gives `varchar(n)`.
fn of(base: &str, length: Option<i32>) -> ResolvedType {
    ResolvedType {
        type_sql: length.map_or_else(|| base.to_owned(), |length| format!("{base}({length})")),
        base_type_sql: base.to_owned(),
        modifier: length.map_or(-1, |length| length + 4),
        collatable: true,
        domain: base == "code",
    }
}

fn detail(old: &ResolvedType) -> TableDetail {
    let column = |name: &str, number, type_sql: &str| Column {
        name: ident(name),
        number,
        type_sql: type_sql.into(),
        base_type_sql: type_sql.into(),
        not_null: false,
        default: None,
        generated: false,
        identity: false,
    };
    TableDetail {
        relation: Relation {
            oid: 1,
            name: QualifiedName { schema: ident("public"), name: ident("users") },
            kind: RelationKind::Table,
            columns: vec![column("id", 1, "integer"), column("username", 2, &old.type_sql), column("email", 3, "text")],
            primary_key: vec![ident("id")],
        },
        server_version: 150_000,
        inherits: false,
        typed: false,
        columns: vec![ColumnDetail { number: 2, ..ColumnDetail::default() }],
        indexes: vec![],
        constraints: vec![],
        referenced_by: vec![],
        triggers: vec![],
        dependents: vec![],
        publications: vec![],
        names_taken: vec![],
    }
}

/// All that a lens says of the two columns.
fn lens(old: ResolvedType, new: ResolvedType, keys: &str) -> String {
    let file = format!(
        "name = \"m-1\"\n[[change]]\nkind = \"rename_column\"\ntable = \"users\"\ncolumn = \"username\"\nto = \"handle\"\n{keys}"
    );
    let spec = MigrationSpec::from_toml(&file, "m").unwrap();
    let migration = resolve(&spec, &detail(&old), &old, &new).unwrap();
    let mut text = String::new();
    for column in migration.lens.new.iter().chain(&migration.lens.old) {
        let from = &column.from;
        let twin = column.twin.as_ref().map_or("none", Ident::as_str);
        text.push_str(&format!("{} {} at {} twin {twin}\n", column.name, column.type_sql, column.position));
        text.push_str(&format!(
            "  assign {}\n  read   {}\n  safe   {}\n",
            from.assign.sql(),
            from.read.sql(),
            from.safe.sql()
        ));
        text.push_str(&format!("  fits   {}\n", from.fits.as_ref().map_or_else(|| "always".into(), Expr::sql)));
    }
    let functions: Vec<String> = migration.functions.iter().map(LensFunction::called).collect();
    text.push_str(&format!("functions {}\n", functions.join(", ")));
    let stored: Migration = serde_json::from_str(&serde_json::to_string(&migration).unwrap()).unwrap();
    assert_eq!(stored, migration);
    text
}

#[test]
fn conversions_follow_from_the_types() {
    let varchar = |length| of("character varying", Some(length));
    let mut text = String::new();
    let mut show = |title: &str, lens: String| text.push_str(&format!("== {title}\n{lens}"));
    show("the same type", lens(varchar(255), varchar(255), ""));
    show("narrower", lens(varchar(255), varchar(100), "up = \"username\"\ndown = \"handle\""));
    show("wider", lens(varchar(50), varchar(100), ""));
    show("to text", lens(varchar(50), of("text", None), ""));
    show("to bigint", lens(of("integer", None), of("bigint", None), ""));
    show("a domain", lens(of("text", None), of("code", None), ""));
    show("an expression", lens(of("text", None), of("text", None), "up = \"lower(username)\"\ndown = \"handle\""));
    insta::assert_snapshot!(text);
}

#[test]
fn names_of_ours_fit_and_differ() {
    let file = format!(
        "name = \"{}\"\n[[change]]\nkind = \"rename_column\"\ntable = \"users\"\ncolumn = \"username\"\nto = \"handle\"",
        "x".repeat(40)
    );
    let old = of("text", None);
    let migration = resolve(&MigrationSpec::from_toml(&file, "m").unwrap(), &detail(&old), &old, &old).unwrap();
    let names = [
        migration.trigger(),
        migration.sync_function(),
        migration.twin('i', &ident(&"a".repeat(63))),
        migration.twin('i', &ident(&format!("{}b", "a".repeat(62)))),
        migration.twin('c', &ident(&"a".repeat(63))),
    ];
    for (at, name) in names.iter().enumerate() {
        assert!(name.as_str().len() <= 63 && !names[..at].contains(name), "{name}");
    }
}
