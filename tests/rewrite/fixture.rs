//! The table under migration that all cases are about, in each phase: as rules, and as SQL that builds it.

use std::sync::Arc;

use crossfade::migration::{
    ActiveMigration, Conversion, Epoch, Expr, Lens, LensColumn, Misfits, OnUnsupported, Percent, Phase, Route, Rules,
    Shape,
};
use crossfade::schema::{Catalog, Column, Ident, QualifiedName, Relation, RelationKind};
use crossfade::sql::{Context, Explained, Names, rewrite_explained};

pub fn ident(name: &str) -> Ident {
    Ident::new(name).unwrap()
}

pub fn table(schema: &str, name: &str) -> QualifiedName {
    QualifiedName { schema: ident(schema), name: ident(name) }
}

fn column(number: i16, name: &str, type_sql: &str, not_null: bool, default: Option<&str>) -> Column {
    let base = type_sql.split('(').next().unwrap().to_owned();
    Column {
        name: ident(name),
        number,
        type_sql: type_sql.to_owned(),
        base_type_sql: base,
        not_null,
        default: default.map(str::to_owned),
        generated: false,
        identity: false,
    }
}

fn relation(oid: u32, name: &str, columns: Vec<Column>, primary_key: &[&str]) -> Relation {
    Relation {
        oid,
        name: table("public", name),
        kind: RelationKind::Table,
        columns,
        primary_key: primary_key.iter().map(|name| ident(name)).collect(),
    }
}

pub fn catalog(phase: Phase) -> Catalog {
    let old = phase != Phase::Contracted;
    let new = !matches!(phase, Phase::Planned | Phase::Shielded | Phase::RolledBack);
    let default = |wanted: bool, text: &'static str| wanted.then_some(text);
    let mut users = vec![column(1, "id", "integer", true, Some("nextval('users_id_seq'::regclass)"))];
    let mut people = vec![column(1, "id", "integer", true, None), column(2, "name", "text", false, None)];
    if old {
        // The default moves when contracting begins.
        let own = default(phase != Phase::Contracting, "'anon'::character varying");
        users.push(column(2, "username", "character varying(255)", true, own));
        people.push(column(3, "age", "text", false, None));
    }
    users.push(column(3, "email", "text", false, None));
    users.push(column(4, "score", "integer", true, Some("0")));
    users.push(column(5, "tags", "text[]", false, None));
    if new {
        let gone = matches!(phase, Phase::Contracting | Phase::Contracted);
        users.push(column(6, "handle", "character varying(100)", gone, default(gone, "'anon'::character varying")));
        people.push(column(4, "years", "integer", false, None));
    }
    let posts = vec![
        column(1, "id", "integer", true, None),
        column(2, "user_id", "integer", false, None),
        column(3, "username", "text", false, None),
        column(4, "handle", "text", false, None),
        column(5, "title", "text", false, None),
    ];
    let log = vec![column(1, "id", "integer", false, None), column(2, "note", "text", false, None)];
    let other_users = vec![column(1, "id", "integer", false, None), column(2, "username", "text", false, None)];
    let mut other = relation(5, "users", other_users, &[]);
    other.name = table("other", "users");
    Catalog::new([
        relation(1, "users", users, &["id"]),
        relation(2, "people", people, &["id"]),
        relation(3, "posts", posts, &["id"]),
        relation(4, "log", log, &[]),
        other,
    ])
}

fn rename_lens() -> Lens {
    let username = ident("username");
    let handle = ident("handle");
    let fits = Expr::build().text("char_length(").column(username.clone()).text(") <= 100").done();
    let safe = Expr::build()
        .text("(CASE WHEN char_length(")
        .column(username.clone())
        .text(") <= 100 THEN ")
        .column(username.clone())
        .text(" END)::character varying(100)")
        .done();
    Lens {
        table: table("public", "users"),
        old: vec![LensColumn {
            name: username.clone(),
            stored: None,
            misfits: Misfits::Never,
            type_sql: "character varying(255)".into(),
            base_type_sql: "character varying".into(),
            position: 1,
            origin: None,
            twin: Some(handle.clone()),
            from: Conversion {
                assign: Expr::column(handle.clone()),
                read: Expr::column(handle.clone()),
                safe: Expr::column(handle.clone()),
                fits: None,
            },
        }],
        new: vec![LensColumn {
            name: handle,
            stored: None,
            misfits: Misfits::Never,
            type_sql: "character varying(100)".into(),
            base_type_sql: "character varying".into(),
            position: 1,
            origin: None,
            twin: Some(username.clone()),
            from: Conversion {
                assign: Expr::column(username.clone()),
                read: Expr::build().column(username).text("::character varying(100)").done(),
                safe,
                fits: Some(fits),
            },
        }],
    }
}

fn retype_lens() -> Lens {
    let age = ident("age");
    let years = ident("years");
    let up = |safe: bool| {
        let built = Expr::build().text(if safe { "public.people_years_safe(" } else { "(" }).column(age.clone());
        if safe { built.text(")").done() } else { built.text("::integer)").done() }
    };
    let down = Expr::build().text("(").column(years.clone()).text("::text)").done();
    Lens {
        table: table("public", "people"),
        old: vec![LensColumn {
            name: age.clone(),
            stored: None,
            misfits: Misfits::Never,
            type_sql: "text".into(),
            base_type_sql: "text".into(),
            position: 2,
            origin: None,
            twin: None,
            from: Conversion { assign: down.clone(), read: down.clone(), safe: down, fits: None },
        }],
        new: vec![LensColumn {
            name: years,
            stored: None,
            misfits: Misfits::Never,
            type_sql: "integer".into(),
            base_type_sql: "integer".into(),
            position: 2,
            origin: None,
            twin: None,
            from: Conversion { assign: up(false), read: up(false), safe: up(true), fits: None },
        }],
    }
}

pub fn rules(phase: Phase, route: Route) -> Rules {
    let reads = if route == Route::New { Percent::ALL } else { Percent::ZERO };
    let migration = |name: &str, lens| ActiveMigration {
        name: name.to_owned(),
        lens,
        phase,
        reads,
        on_unsupported: OnUnsupported::Refuse,
    };
    let migrations = [migration("users-handle", rename_lens()), migration("people-years", retype_lens())];
    Rules::new(Epoch(1), &migrations, Arc::new(catalog(phase)))
}

pub fn names() -> Names {
    Names { path: vec![ident("pg_catalog"), ident("public")], temporary: Vec::new() }
}

pub fn rewritten(phase: Phase, shape: Shape, route: Route, sql: &str) -> Explained {
    let (rules, names) = (rules(phase, route), names());
    let cx =
        Context { rules: &rules, names: &names, shape, bucket: Default::default(), standard_conforming_strings: true };
    rewrite_explained(sql, &cx)
}

/// What all databases have besides the tables under migration.
const COMMON: &str = "
    CREATE TABLE posts (id int PRIMARY KEY, user_id int, username text, handle text, title text);
    CREATE TABLE log (id int, note text);
    CREATE SCHEMA other;
    CREATE TABLE other.users (id int, username text);
    INSERT INTO posts VALUES (1, 1, 'pa', 'ha', 'one'), (2, 1, 'alice', 'alice', 'two'), (3, 2, 'bob', 'hb', 'three'), (4, NULL, 'x', 'y', 'four');
    INSERT INTO other.users VALUES (1, 'elsewhere');
    CREATE FUNCTION public.people_years_safe(age text) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
      $$ BEGIN RETURN age::integer; EXCEPTION WHEN others THEN RETURN NULL; END $$;
";

const OLD: &str = "
    CREATE TABLE users (id serial PRIMARY KEY, username varchar(255) NOT NULL DEFAULT 'anon' CONSTRAINT users_name_key UNIQUE,
      email text, score int NOT NULL DEFAULT 0, tags text[]);
    CREATE TABLE people (id int PRIMARY KEY, name text, age text);
    INSERT INTO users (username, email, score, tags) VALUES ('alice', 'a@x', 10, '{a,b}'), ('bob', 'b@x', 20, NULL),
      ('carol', NULL, 10, '{c}'), ('dave', 'd@x', 5, '{}');
    INSERT INTO people VALUES (1, 'ann', '30'), (2, 'ben', '4'), (3, 'cy', NULL);
";

const NEW: &str = "
    CREATE TABLE users (id serial PRIMARY KEY, handle varchar(100) NOT NULL DEFAULT 'anon' CONSTRAINT users_name_key UNIQUE,
      email text, score int NOT NULL DEFAULT 0, tags text[]);
    CREATE TABLE people (id int PRIMARY KEY, name text, years integer);
    INSERT INTO users (handle, email, score, tags) VALUES ('alice', 'a@x', 10, '{a,b}'), ('bob', 'b@x', 20, NULL),
      ('carol', NULL, 10, '{c}'), ('dave', 'd@x', 5, '{}');
    INSERT INTO people VALUES (1, 'ann', 30), (2, 'ben', 4), (3, 'cy', NULL);
";

const EXPAND: &str = "
    ALTER TABLE users ADD COLUMN handle varchar(100);
    ALTER TABLE people ADD COLUMN years integer;
";

fn sync(contracting: bool) -> String {
    let trigger = |table: &str, old: &str, new: &str, up: &str, down: &str| {
        let win = if contracting { format!("NEW.{old} := {down}") } else { format!("NEW.{new} := {up}") };
        let update = if contracting {
            format!(
                "IF NEW.{old} IS DISTINCT FROM OLD.{old} AND NEW.{new} IS NOT DISTINCT FROM OLD.{new} THEN
                   NEW.{new} := {up}; ELSE NEW.{old} := {down}; END IF;"
            )
        } else {
            format!(
                "IF NEW.{new} IS DISTINCT FROM OLD.{new} AND NEW.{old} IS NOT DISTINCT FROM OLD.{old} THEN
                   NEW.{old} := {down}; ELSE NEW.{new} := {up}; END IF;"
            )
        };
        format!(
            "CREATE FUNCTION {table}_sync() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF TG_OP = 'INSERT' THEN
                 IF (NEW.{new} IS NULL) THEN NEW.{new} := {up};
                 ELSIF NEW.{old} IS NULL THEN NEW.{old} := {down};
                 ELSIF (NEW.{new} IS DISTINCT FROM {up}) THEN {win};
                 END IF;
               ELSE {update} END IF;
               RETURN NEW; END $$;
             CREATE TRIGGER \"~sync\" BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_sync();
             UPDATE {table} SET id = id;"
        )
    };
    let users_up = "(CASE WHEN char_length(NEW.username) <= 100 THEN NEW.username END)";
    let users = trigger("users", "username", "handle", users_up, "NEW.handle");
    users + &trigger("people", "age", "years", "public.people_years_safe(NEW.age)", "NEW.years::text")
}

const INDEX: &str = "CREATE UNIQUE INDEX users_handle_key ON users (handle);";

const CONTRACT: &str = "
    DROP TRIGGER \"~sync\" ON users; DROP TRIGGER \"~sync\" ON people;
    ALTER TABLE users DROP COLUMN username;
    ALTER TABLE users ADD CONSTRAINT users_name_key UNIQUE USING INDEX users_handle_key;
    ALTER TABLE people DROP COLUMN age;
";

/// A database's name and the SQL that builds it.
pub fn databases() -> Vec<(&'static str, String)> {
    let old = format!("{COMMON}{OLD}");
    let expanded = format!("{old}{EXPAND}");
    let dual = format!("{expanded}{}{INDEX}", sync(false));
    let contracting = format!("{expanded}{}{INDEX}", sync(true))
        .replace("UPDATE users SET id = id;", "UPDATE users SET handle = username;");
    let moved =
        "ALTER TABLE users ALTER handle SET NOT NULL, ALTER handle SET DEFAULT 'anon', ALTER username DROP DEFAULT;";
    let contracting =
        format!("{contracting}{moved}").replace("UPDATE people SET id = id;", "UPDATE people SET years = age::int;");
    vec![
        ("oracle_old", old),
        ("oracle_new", format!("{COMMON}{NEW}")),
        ("expanded", expanded),
        ("dual", dual),
        ("contracting", contracting.clone()),
        ("contracted", format!("{contracting}{CONTRACT}")),
    ]
}

/// The database that is in the state of that phase.
pub fn database(phase: Phase) -> &'static str {
    match phase {
        Phase::Planned | Phase::Shielded | Phase::RolledBack => "oracle_old",
        Phase::Expanded => "expanded",
        Phase::DualWriting
        | Phase::Backfilling
        | Phase::Verified
        | Phase::Ramping
        | Phase::Soaking
        | Phase::RollingBack => "dual",
        Phase::Contracting => "contracting",
        Phase::Contracted => "contracted",
    }
}
