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
    let keys = format!("kind = \"rename_column\"\nto = \"handle\"\n{keys}");
    described(Types { old, new, up: Cast::Direct, down: Cast::Direct }, &keys)
}

/// The same for a column that keeps its name.
fn retyped(old: &str, new: &str, (up, down): (Cast, Cast), keys: &str) -> String {
    let keys = format!("kind = \"change_type\"\ntype = \"{new}\"\n{keys}");
    described(Types { old: of(old, None), new: of(new, None), up, down }, &keys)
}

fn described(types: Types, keys: &str) -> String {
    let file = format!("name = \"m-1\"\n[[change]]\ntable = \"users\"\ncolumn = \"username\"\n{keys}");
    let spec = MigrationSpec::from_toml(&file, "m").unwrap_or_else(|errors| panic!("{errors}"));
    let migration = resolve(&spec, &detail(&types.old), &types).unwrap();
    let mut text = String::new();
    for column in migration.lens.new.iter().chain(&migration.lens.old) {
        let from = &column.from;
        let twin = column.twin.as_ref().map_or("none", Ident::as_str);
        text.push_str(&format!("{} {} at {} twin {twin}\n", column.name, column.type_sql, column.position));
        if let Some(stored) = &column.stored {
            text.push_str(&format!("  stored as {stored}\n"));
        }
        text.push_str(&format!(
            "  assign {}\n  read   {}\n  safe   {}\n",
            from.assign.sql(),
            from.read.sql(),
            from.safe.sql()
        ));
        text.push_str(&format!("  fits   {}\n", from.fits.as_ref().map_or_else(|| "always".into(), Expr::sql)));
        match &column.misfits {
            Misfits::Never => {}
            Misfits::Null => text.push_str("  misfit NULL\n"),
            Misfits::Fallback(value) => text.push_str(&format!("  misfit {}\n", value.sql())),
        }
    }
    let functions: Vec<String> = migration.functions.iter().map(LensFunction::called).collect();
    text.push_str(&format!("functions {}\n", functions.join(", ")));
    let stored: Migration = serde_json::from_str(&serde_json::to_string(&migration).unwrap()).unwrap();
    assert_eq!(stored, migration);
    text
}

#[test]
fn types_change_by_casts_that_come_back_or_by_the_users_word() {
    let direct = (Cast::Direct, Cast::Direct);
    let mut text = String::new();
    let mut show = |title: &str, lens: String| text.push_str(&format!("== {title}\n{lens}"));
    show("text to integer", retyped("text", "integer", direct, ""));
    show("integer to text", retyped("integer", "text", direct, ""));
    show("integer to bigint", retyped("integer", "bigint", direct, ""));
    show("no cast back", retyped("jsonb", "integer", (Cast::Direct, Cast::ViaText), ""));
    show("a text that depends on settings", retyped("text", "date", direct, ""));
    show("null", retyped("text", "integer", direct, "invalid = \"null\""));
    show("reject", retyped("text", "integer", direct, "invalid = \"reject\""));
    show("a value instead", retyped("text", "integer", direct, "invalid = \"0\""));
    show("a word for up", retyped("text", "integer", direct, "up = \"length(username)\""));
    show("a word for down", retyped("text", "integer", direct, "down = \"username::text\""));
    insta::assert_snapshot!(text);
}

#[test]
fn a_migration_stored_before_there_were_other_kinds_still_loads() {
    let types = Types { old: of("text", None), new: of("text", None), up: Cast::Direct, down: Cast::Direct };
    let file = "name = \"m-1\"\n[[change]]\nkind = \"rename_column\"\ntable = \"users\"\ncolumn = \"username\"\nto = \"handle\"\nup = \"lower(username)\"\ndown = \"handle\"";
    let migration = resolve(&MigrationSpec::from_toml(file, "m").unwrap(), &detail(&types.old), &types).unwrap();
    let mut json = serde_json::to_value(&migration).unwrap();
    for side in ["old", "new"] {
        let column = json["lens"][side][0].as_object_mut().unwrap();
        assert!(column.remove("stored").is_some() && column.remove("misfits").is_some());
    }
    for function in json["functions"].as_array_mut().unwrap() {
        for key in ["back", "fallback", "not_null", "settings"] {
            assert!(function.as_object_mut().unwrap().remove(key).is_some());
        }
    }
    assert!(json["carried"].as_object_mut().unwrap().remove("new_default").is_some());
    let loaded: Migration = serde_json::from_value(json).unwrap();
    assert_eq!(loaded.lens.new[0].stored(), &ident("handle"));
    assert_eq!((loaded.lens.old, loaded.functions.len()), (migration.lens.old, migration.functions.len()));
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
    let types = Types { old: old.clone(), new: old.clone(), up: Cast::Direct, down: Cast::Direct };
    let migration = resolve(&MigrationSpec::from_toml(&file, "m").unwrap(), &detail(&old), &types).unwrap();
    let [first, last] = migration.triggers();
    let names = [
        first,
        last,
        migration.sync_function(),
        migration.twin('i', &ident(&"a".repeat(63))),
        migration.twin('i', &ident(&format!("{}b", "a".repeat(62)))),
        migration.twin('c', &ident(&"a".repeat(63))),
    ];
    for (at, name) in names.iter().enumerate() {
        assert!(name.as_str().len() <= 63 && !names[..at].contains(name), "{name}");
    }
}
