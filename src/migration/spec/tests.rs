use super::*;

const GOOD: &str = r#"
name = "users-username-to-handle"

[[change]]
kind = "rename_column"
table = "users"
column = "username"
to = "handle"
"#;

/// The mistakes of a file, one a line: `line:column message | help`.
#[track_caller]
fn mistakes(text: &str) -> Vec<String> {
    let errors = MigrationSpec::from_toml(text, "m.toml").unwrap_err();
    errors.errors.iter().map(|e| format!("{}:{} {} | {}", e.line, e.column, e.message, e.help)).collect()
}

#[track_caller]
fn mistake(text: &str, place: &str, part: &str) {
    let found = mistakes(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with(place) && found[0].contains(part), "{}", found[0]);
}

#[test]
fn a_short_file_is_enough() {
    let spec = MigrationSpec::from_toml(GOOD, "m.toml").unwrap();
    let change = spec.change.column();
    assert_eq!(change.table.to_string(), "public.users");
    assert_eq!((change.column.as_str(), change.to.as_str()), ("username", "handle"));
    assert_eq!((&change.type_sql, &change.up, &change.down), (&None, &None, &None));
    assert_eq!(spec.on_unsupported, OnUnsupported::Refuse);
}

#[test]
fn names_that_need_quotes_simply_work() {
    let text = GOOD
        .replace("\"users\"", "'\"User\".\"Say \"\"hi\"\".\"'")
        .replace("\"username\"", "'\"Screen Name\"'")
        .replace("\"handle\"", "\"größe\"");
    let spec = MigrationSpec::from_toml(&text, "m.toml").unwrap();
    let change = spec.change.column();
    assert_eq!(change.table.quoted(), "\"User\".\"Say \"\"hi\"\".\"");
    assert_eq!(change.column.as_str(), "Screen Name");
    assert_eq!(change.to.as_str(), "größe");
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    let text = r#"
nmae = "Users!"
on_unsupported = "ignore"

[[change]]
kind = "rename_column"
table = "Users"
colum = "username"
to = 7
type = "varchar(100) not null"
up = "lower(usrname)"
invalid = 7
"#;
    insta::assert_snapshot!(MigrationSpec::from_toml(text, "m.toml").unwrap_err().to_string());
}

#[test]
fn unknown_keys_name_the_near_one() {
    mistake(&GOOD.replace("name =", "nam = 1\nname ="), "2:1", "unknown key `nam` | Did you mean `name`?");
    mistake(&format!("{GOOD}tpye = \"text\"\n"), "9:1", "unknown key `tpye` | Did you mean `type`?");
    mistake(&format!("{GOOD}colour = \"text\"\n"), "9:1", "unknown key `colour` | The keys of a rename_column are");
}

#[test]
fn missing_keys_are_named() {
    mistake(&GOOD.replace("name = \"users-username-to-handle\"", ""), "1:1", "`name` is missing");
    mistake(&GOOD.replace("to = \"handle\"", ""), "4:", "`to` is missing");
    mistake(&GOOD.replace("kind = \"rename_column\"", ""), "4:", "`kind` is missing");
    mistake("name = \"x\"", "1:1", "there is no `[[change]]`");
    mistake("name = \"x\"\nchange = 3", "2:10", "not a list of tables");
    mistake("name = \"x\"\nchange = []", "2:10", "there is no change");
}

#[test]
fn wrong_types_are_named() {
    mistake(&GOOD.replace("\"users\"", "3"), "6:9", "`table` is an integer, not a string");
    mistake(&GOOD.replace("\"handle\"", "[\"handle\"]"), "8:6", "`to` is an array, not a string");
}

#[test]
fn kinds_that_are_not_built_say_so() {
    mistake(&GOOD.replace("rename_column", "split_column"), "5:8", "kind \"split_column\" is not built yet");
    mistake(&GOOD.replace("rename_column", "rename_colum"), "5:8", "Did you mean \"rename_column\"?");
    mistake(&format!("{GOOD}{}", &GOOD[GOOD.find("[[").unwrap()..]), "9:", "more than one [[change]]");
}

#[test]
fn bad_names_say_what_a_name_is() {
    mistake(&GOOD.replace("\"users-username-to-handle\"", "\"Users\""), "2:8", "each a-z, 0-9 or -");
    mistake(&GOOD.replace("\"users-username-to-handle\"", &format!("{:?}", "x".repeat(41))), "2:8", "1 to 40");
    mistake(
        &GOOD.replace("\"handle\"", &format!("{:?}", "x".repeat(64))),
        "8:6",
        "has 64 bytes, and PostgreSQL keeps 63",
    );
    assert!(MigrationSpec::from_toml(&GOOD.replace("\"handle\"", &format!("{:?}", "x".repeat(63))), "").is_ok());
    mistake(&GOOD.replace("\"users\"", "\"a.b.c\""), "6:9", "one or two parts");
    mistake(&GOOD.replace("\"username\"", "\"Screen Name\""), "7:10", "Put a name that is not plain in double quotes");
    mistake(&GOOD.replace("\"username\"", "\"users.username\""), "7:10", "several parts");
    mistake(&GOOD.replace("\"username\"", "\"\""), "7:10", "not a name");
    mistake(&GOOD.replace("\"handle\"", "\"username\""), "8:6", "already");
}

#[test]
fn expressions_are_read_over_their_own_column() {
    let with = |keys: &str| format!("{GOOD}{keys}\n");
    assert!(MigrationSpec::from_toml(&with("up = \"lower(username)\"\ndown = \"handle\""), "").is_ok());
    mistake(&with("up = \"lower(username\"\ndown = \"handle\""), "9:6", "does not parse");
    mistake(&with("up = \"lower(handle)\"\ndown = \"handle\""), "9:13", "no column \"handle\"");
    mistake(&with("up = \"random()::text\"\ndown = \"handle\""), "9:7", "another value each time");
    mistake(&with("up = \"username || now()\"\ndown = \"handle\""), "9:19", "another value each time");
    mistake(&with("up = \"lower(username)\""), "9:6", "there is no `down`");
    mistake(&with("down = \"(SELECT 1)\""), "9:8", "subquery");
    mistake(&with("type = \"varchar(\""), "9:8", "this is no type");
}

const RETYPED: &str = r#"
name = "users-age"

[[change]]
kind = "change_type"
table = "users"
column = "age"
type = "integer"
"#;

#[test]
fn a_change_of_type_keeps_the_name() {
    let spec = MigrationSpec::from_toml(RETYPED, "m.toml").unwrap();
    assert!(matches!(spec.change, Change::ChangeType(_)));
    let change = spec.change.column();
    assert_eq!((change.column.as_str(), change.to.as_str()), ("age", "age"));
    assert_eq!(change.type_sql.as_deref(), Some("integer"));
    assert_eq!((&change.up, &change.down, &change.invalid), (&None, &None, &Invalid::Quarantine));
    let with = |keys: &str| MigrationSpec::from_toml(&format!("{RETYPED}{keys}\n"), "");
    // Each by itself.
    assert!(with("up = \"age::integer\"").is_ok() && with("down = \"age::text\"").is_ok());
    assert_eq!(with("invalid = \"null\"").unwrap().change.column().invalid, Invalid::Null);
    assert_eq!(with("invalid = \"reject\"").unwrap().change.column().invalid, Invalid::Reject);
    assert!(matches!(with("invalid = \"length(age)\"").unwrap().change.column().invalid, Invalid::Fallback(_)));
}

#[test]
fn mistakes_of_a_change_of_type_are_named() {
    mistake(&RETYPED.replace("type = \"integer\"\n", ""), "4:", "`type` is missing");
    mistake(&format!("{RETYPED}to = \"years\"\n"), "9:1", "unknown key `to`");
    mistake(&format!("{RETYPED}down = \"years::text\"\n"), "9:9", "no column \"years\"");
    mistake(&format!("{RETYPED}invalid = \"quarantin\"\n"), "9:12", "Write \"quarantine\", \"null\"");
    mistake(&format!("{RETYPED}invalid = \"random()::int\"\n"), "9:12", "`invalid`: ");
    mistake(&format!("{RETYPED}invalid = 0\n"), "9:11", "`invalid` is an integer, not a string");
}

#[test]
fn what_is_not_toml_is_reported_beside_the_rest() {
    let found = mistakes("name = \"Bad Name\"\non_unsupported = = 3\n");
    assert!(found.iter().any(|m| m.contains("not TOML")), "{found:#?}");
    assert!(found.iter().any(|m| m.starts_with("1:8")), "{found:#?}");
    assert!(MigrationSpec::from_toml("", "").is_err());
    assert!(MigrationSpec::from_toml("\u{0}\u{1}[[[", "").is_err());
}

#[test]
fn the_examples_load() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config/migrations");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        MigrationSpec::from_toml(&text, &path.display().to_string()).unwrap_or_else(|errors| panic!("{errors}"));
        count += 1;
    }
    assert!(count >= 2);
}
