//! The view that `COPY FROM` of an old session goes through once only the new storage is left.
//!
//! Pure. COPY stores values as they come, so where a column is converted it cannot go to the table. PostgreSQL copies into
//! a view that has an `INSTEAD OF INSERT` trigger ("COPY", Notes): the view has the old shape's columns, so that PostgreSQL
//! reads the data as it always did, in each format; the trigger stores each row as an INSERT of an old session would.
//!
//! The view depends on the types of its columns, not on the table: the table stays its users' own. In turn, before the
//! first row a trigger asks whether the table is still what the view was made for, and whether rows that are inserted
//! one by one are what COPY would give; it refuses otherwise.

use super::ddl::{Lock, Step};
use super::resolve::OWN_PREFIX;
use super::text::{dollar_quoted, field, literal};
use super::{Migration, Phase, TableView, rules};
use crate::schema::{Ident, Relation, TableDetail};

/// The setting in which the columns that a COPY names get to the trigger, as a `text[]`.
pub(crate) const LISTED: &str = "crossfade.copied";

/// Makes the view, where COPY needs one.
pub(super) fn create(migration: &Migration, detail: &TableDetail) -> Option<Step> {
    let names = Names::of(migration)?;
    let view = rules::old_view(&migration.lens, Phase::Contracting, &detail.relation);
    let columns = copied(&view, &detail.relation).map(|column| {
        let collation = detail.column(&column.name).and_then(|column| column.collation.as_ref());
        let collation = collation.map(|name| format!(" COLLATE {name}")).unwrap_or_default();
        format!("NULL::{}{collation} AS {}", column.type_sql, column.name.quoted())
    });
    let columns: Vec<String> = columns.collect();
    Some(Step {
        name: "create view for COPY".into(),
        statements: vec![
            format!("DROP VIEW IF EXISTS {}", names.view),
            format!("CREATE VIEW {} AS SELECT {}", names.view, columns.join(", ")),
            check_function(migration, &names),
            row_function(migration, detail, Phase::Contracting, &names),
            trigger(&names, "check", "BEFORE INSERT", "STATEMENT", &names.check),
            trigger(&names, "row", "INSTEAD OF INSERT", "ROW", &names.row),
            format!("GRANT INSERT ON {} TO PUBLIC", names.view),
        ],
        lock: Lock::None,
        transactional: true,
        done_when: None,
        note: "old sessions copy into it once the old column is not written any more: its trigger converts each row"
            .into(),
    })
}

/// What lets the view store into the table as it is after the contract.
pub(super) fn after_contract(migration: &Migration, detail: &TableDetail) -> Option<String> {
    let names = Names::of(migration)?;
    // A contract that was begun before there was such a view goes on without it.
    let there = format!("pg_catalog.to_regclass({}) IS NOT NULL", literal(&names.view));
    let function = row_function(migration, detail, Phase::Contracted, &names);
    Some(format!("DO {}", dollar_quoted(&format!("BEGIN IF {there} THEN EXECUTE {}; END IF; END", literal(&function)))))
}

/// Takes the view away again.
pub(super) fn drop(migration: &Migration) -> Vec<String> {
    let Some(names) = Names::of(migration) else { return Vec::new() };
    let functions = [&names.row, &names.check];
    let mut statements = vec![format!("DROP VIEW IF EXISTS {}", names.view)];
    statements.extend(functions.map(|function| format!("DROP FUNCTION IF EXISTS {function}()")));
    statements
}

/// The names of the view and its functions, qualified, as SQL.
struct Names {
    view: String,
    check: String,
    row: String,
}

impl Names {
    fn of(migration: &Migration) -> Option<Names> {
        let view = migration.lens.converts().then(|| migration.copy_view())?;
        let named = |suffix: &str| {
            let name = Ident::new(&format!("{}{suffix}", view.name)).expect("a name of ours leaves room for a suffix");
            format!("{}.{}", view.schema.quoted(), name.quoted())
        };
        Some(Names { check: named("_check"), row: named("_row"), view: view.quoted() })
    }
}

/// Under a name of ours, so that `information_schema.triggers` shows it to nobody.
fn trigger(names: &Names, name: &str, when: &str, each: &str, function: &str) -> String {
    let view = &names.view;
    format!("CREATE TRIGGER \"{OWN_PREFIX}{name}\" {when} ON {view} FOR EACH {each} EXECUTE FUNCTION {function}()")
}

/// The columns that COPY may name.
fn copied<'a>(view: &'a TableView, relation: &'a Relation) -> impl Iterator<Item = &'a super::ViewColumn> {
    let generated = |name: &Ident| relation.column(name).is_some_and(|column| column.generated);
    view.columns.iter().filter(move |column| !generated(&column.name))
}

/// Runs once before the rows, when nothing can change the table any more.
///
/// Rows that are inserted one by one differ from COPY where something looks at the whole of them (statement and AFTER
/// triggers, a foreign key to rows that come later) or at INSERT alone (rules, row security).
fn check_function(migration: &Migration, names: &Names) -> String {
    let table = &migration.lens.table;
    let ours: Vec<String> = migration.lens.old.iter().map(|column| literal(column.name.as_str())).collect();
    let text = format!(
        r#"
DECLARE
  why text;
BEGIN
  LOCK TABLE {table} IN ROW EXCLUSIVE MODE;
  IF row_security_active({name}::regclass) THEN
    RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = 'COPY FROM not supported with row-level security',
      HINT = 'Use INSERT statements instead.';
  END IF;
  why := CASE
    WHEN EXISTS (SELECT FROM pg_trigger WHERE tgrelid = {name}::regclass AND NOT tgisinternal AND tgenabled <> 'D'
                 AND tgtype & 4 <> 0 AND tgtype & 3 <> 3) THEN 'a trigger that fires for all rows together, or after them'
    WHEN EXISTS (SELECT FROM pg_rewrite WHERE ev_class = {name}::regclass AND ev_type = '3') THEN 'a rule for INSERT'
    WHEN EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND conrelid = {name}::regclass AND confrelid = conrelid)
      THEN 'a foreign key to itself'
    WHEN EXISTS (SELECT FROM pg_attribute v WHERE v.attrelid = TG_RELID AND v.attnum > 0 AND v.attname <> ALL ({ours})
                 AND NOT EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = {name}::regclass AND t.attname = v.attname
                   AND NOT t.attisdropped AND t.attgenerated = '' AND (t.atttypid, t.atttypmod, t.attcollation)
                     = (v.atttypid, v.atttypmod, v.attcollation)))
      THEN 'a column that is no longer what it was when the migration was completed'
  END;
  IF why IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = {message},
      DETAIL = {detail} || why || '.',
      HINT = 'Copy into a temporary table first, and INSERT from it.';
  END IF;
  RETURN NULL;
END
"#,
        table = table.quoted(),
        name = literal(&table.quoted()),
        ours = format_args!("ARRAY[{}]::name[]", ours.join(", ")),
        message = literal(&format!("this COPY cannot be rewritten for table \"{}\"", table.name)),
        detail = literal(&format!(
            "Migration \"{}\" converts its rows one by one, and table \"{table}\" has ",
            migration.name
        )),
    );
    format!(
        "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS {}",
        names.check,
        dollar_quoted(&text)
    )
}

/// Stores one row. Without a search path of its own: what fires on the table runs as it does for the session.
fn row_function(migration: &Migration, detail: &TableDetail, phase: Phase, names: &Names) -> String {
    let view = rules::old_view(&migration.lens, phase, &detail.relation);
    let columns: Vec<&Ident> = copied(&view, &detail.relation).map(|column| &column.name).collect();
    let stores = view.stores.iter().filter(|store| store.value.columns().any(|input| columns.contains(&input)));
    let (mut targets, mut values, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for store in stores {
        let inputs: Vec<String> = store.value.columns().map(|input| literal(input.as_str())).collect();
        let value = store.value.render(|name| field("NEW", name));
        parts.push(format!(
            "(ARRAY[{}]::pg_catalog.text[], {}, {})",
            inputs.join(", "),
            literal(&store.column.quoted()),
            literal(&store.value.render(|name| field("($1)", name)))
        ));
        targets.push(store.column.quoted());
        values.push(value);
    }
    let all: Vec<String> = columns.iter().map(|name| literal(name.as_str())).collect();
    let text = format!(
        r#"
DECLARE
  "~listed" pg_catalog.text[] := pg_catalog.current_setting({listed}, true)::pg_catalog.text[];
  "~columns" pg_catalog.text;
  "~values" pg_catalog.text;
  "~stored" pg_catalog.int8;
BEGIN
  IF "~listed" IS NULL OR "~listed" OPERATOR(pg_catalog.@>) ARRAY[{all}]::pg_catalog.text[] THEN
    INSERT INTO {table} ({targets}) OVERRIDING SYSTEM VALUE
    VALUES ({values});
  ELSE
    -- A column that is not named gets its default.
    SELECT pg_catalog.string_agg(p.stored, ', '), pg_catalog.string_agg(p.value, ', ') INTO "~columns", "~values"
    FROM (VALUES {parts}) AS p (inputs, stored, value)
    WHERE p.inputs OPERATOR(pg_catalog.&&) "~listed";
    EXECUTE pg_catalog.concat({insert}, "~columns", ') OVERRIDING SYSTEM VALUE VALUES (', "~values", ')') USING NEW;
  END IF;
  GET DIAGNOSTICS "~stored" = ROW_COUNT;
  IF "~stored" OPERATOR(pg_catalog.=) 0 THEN
    RETURN NULL;
  END IF;
  RETURN NEW;
END
"#,
        listed = literal(LISTED),
        all = all.join(", "),
        table = migration.lens.table.quoted(),
        targets = targets.join(", "),
        values = values.join(", "),
        parts = parts.join(",\n      "),
        insert = literal(&format!("INSERT INTO {} (", migration.lens.table.quoted())),
    );
    format!("CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql AS {}", names.row, dollar_quoted(&text))
}
