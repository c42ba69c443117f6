//! The databases: two oracles that really have their shape, and one for each state that a migration passes through.
//!
//! Four migrations run at once (a narrower name, a quoted name, another type under another name, another type under the
//! same name), so that nothing is proved for one kind of lens only. The sync triggers of three are written here by hand
//! after the rules of the architecture, not by the product: what is tested is the rewriter, against triggers that do what
//! they promise. The fourth has its lens and its DDL from the product.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use crossfade::demo::postgres::Postgres;
use crossfade::migration::ddl::{self, SyncMode};
use crossfade::migration::masks::masked_relations;
use crossfade::migration::{
    ActiveMigration, Conversion, Epoch, Expr, Lens, LensColumn, Migration, MigrationSpec, Misfits, OnUnsupported,
    Percent, Phase, Rules,
};
use crossfade::schema::{Catalog, Column, Ident, QualifiedName, Relation, RelationKind, RowFunction};

use crate::client::Client;

const FIXTURE: &str = include_str!("fixture.sql");

/// What the tables physically are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The old column only.
    Old,
    /// The new column too, empty, and nothing keeps it filled.
    Expanded,
    /// The trigger is on; history is not copied.
    Writing,
    /// History is copied, indexes are built.
    Copied,
    /// The same with the trigger refusing what does not fit.
    Strict,
    /// New wins, defaults have moved.
    Contracting,
    /// The new column only.
    Contracted,
}

impl State {
    pub const ALL: [State; 7] = [
        State::Old,
        State::Expanded,
        State::Writing,
        State::Copied,
        State::Strict,
        State::Contracting,
        State::Contracted,
    ];

    pub fn has_old(self) -> bool {
        self != State::Contracted
    }

    pub fn has_new(self) -> bool {
        self != State::Old
    }

    /// Whether every row is in step before a statement, and must be after it.
    pub fn in_step(self) -> bool {
        matches!(self, State::Copied | State::Strict | State::Contracting)
    }

    pub fn database(self) -> &'static str {
        match self {
            State::Old => "oracle_old",
            State::Expanded => "expanded",
            State::Writing => "writing",
            State::Copied => "copied",
            State::Strict => "strict",
            State::Contracting => "contracting",
            State::Contracted => "contracted",
        }
    }
}

/// The database that really has the new shape: it never saw a migration, only ALTER TABLE.
pub const ORACLE_NEW: &str = "oracle_new";

/// One migration: names, types, and the conversions as SQL in which `{}` stands for the other side's column.
pub struct Change {
    pub name: &'static str,
    pub table: &'static str,
    pub old: &'static str,
    pub new: &'static str,
    old_type: (&'static str, &'static str),
    new_type: (&'static str, &'static str),
    position: usize,
    twins: bool,
    has_default: bool,
    up: Way,
    down: Way,
}

struct Way {
    assign: &'static str,
    read: &'static str,
    safe: &'static str,
    fits: Option<&'static str>,
}

pub const CHANGES: [Change; 3] = [
    Change {
        name: "users-handle",
        table: "users",
        old: "username",
        new: "handle",
        old_type: ("character varying(255)", "character varying"),
        new_type: ("character varying(100)", "character varying"),
        position: 1,
        twins: true,
        has_default: false,
        up: Way {
            assign: "{}",
            read: "(CASE WHEN pg_catalog.char_length({}) <= 100 THEN {} ELSE crossfade.users_handle_up_value({}) END)::character varying(100)",
            safe: "(CASE WHEN pg_catalog.char_length({}) <= 100 THEN {} END)::character varying(100)",
            fits: Some("((pg_catalog.char_length({}) <= 100) IS NOT FALSE)"),
        },
        down: Way { assign: "{}", read: "{}::character varying(255)", safe: "{}::character varying(255)", fits: None },
    },
    Change {
        name: "user-screen-name",
        table: "User",
        old: "Screen Name",
        new: "Handle!",
        old_type: ("text", "text"),
        new_type: ("text", "text"),
        position: 1,
        twins: true,
        has_default: true,
        up: Way { assign: "{}", read: "{}", safe: "{}", fits: None },
        down: Way { assign: "{}", read: "{}", safe: "{}", fits: None },
    },
    Change {
        name: "scores-int",
        table: "scores",
        old: "score",
        new: "score_int",
        old_type: ("text", "text"),
        new_type: ("integer", "integer"),
        position: 1,
        twins: false,
        has_default: true,
        up: Way {
            assign: "{}::integer",
            read: "crossfade.scores_up_value({})",
            safe: "crossfade.scores_up_safe({})",
            fits: Some("(crossfade.scores_up_fits({}))"),
        },
        down: Way {
            assign: "{}::text",
            read: "crossfade.scores_down_value({})",
            safe: "crossfade.scores_down_value({})",
            fits: None,
        },
    },
];

/// Functions that the lenses call.
const FUNCTIONS: &str = "
CREATE TABLE crossfade.quarantine (migration text, key text);
CREATE FUNCTION crossfade.users_handle_up_value(username varchar) RETURNS varchar LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE v varchar(100); BEGIN v := username; RETURN v; END $$;
CREATE FUNCTION crossfade.scores_up_value(score text) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE v integer; BEGIN v := score::integer; RETURN v; END $$;
CREATE FUNCTION crossfade.scores_up_safe(score text) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE v integer; BEGIN v := score::integer; RETURN v; EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$;
CREATE FUNCTION crossfade.scores_up_fits(score text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE v integer; BEGIN v := score::integer; RETURN true; EXCEPTION WHEN OTHERS THEN RETURN false; END $$;
CREATE FUNCTION crossfade.scores_down_value(score_int integer) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE v text; BEGIN v := score_int::text; RETURN v; END $$;
";

/// What the trigger does with a row that is out of step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Quarantine,
    Strict,
    NewWins,
}

pub fn ident(text: &str) -> Ident {
    Ident::new(text).expect("a fixture name")
}

impl Change {
    fn quoted(&self) -> [String; 3] {
        [self.table, self.old, self.new].map(|name| ident(name).quoted())
    }

    fn conversion(way: &Way, over: &str) -> Conversion {
        let expr = |template: &str| {
            let mut pieces = template.split("{}");
            let first = pieces.next().unwrap_or_default();
            let start = if first.is_empty() { Expr::build() } else { Expr::build().text(first) };
            pieces
                .fold(start, |built, piece| {
                    let built = built.column(ident(over));
                    if piece.is_empty() { built } else { built.text(piece) }
                })
                .done()
        };
        Conversion { assign: expr(way.assign), read: expr(way.read), safe: expr(way.safe), fits: way.fits.map(expr) }
    }

    pub fn lens(&self) -> Lens {
        let column = |name: &str, of: (&str, &str), twin: &str, from| LensColumn {
            name: ident(name),
            stored: None,
            misfits: Misfits::Never,
            type_sql: of.0.to_owned(),
            base_type_sql: of.1.to_owned(),
            position: self.position,
            origin: None,
            twin: self.twins.then(|| ident(twin)),
            from,
        };
        Lens {
            table: QualifiedName { schema: ident("public"), name: ident(self.table) },
            old: vec![column(self.old, self.old_type, self.new, Change::conversion(&self.down, self.new))],
            new: vec![column(self.new, self.new_type, self.old, Change::conversion(&self.up, self.old))],
        }
    }

    /// A value of the new column where it does not differ from what the old one says.
    pub fn up_safe(&self, old: &str) -> String {
        self.up.safe.replace("{}", old)
    }

    pub fn down_read(&self, new: &str) -> String {
        self.down.read.replace("{}", new)
    }

    fn add_column(&self) -> String {
        let [table, _, new] = self.quoted();
        format!("ALTER TABLE public.{table} ADD COLUMN {new} {};", self.new_type.0)
    }

    fn fill(&self) -> String {
        let [table, old, new] = self.quoted();
        format!("UPDATE public.{table} SET {new} = {};", self.up_safe(&old))
    }

    fn trigger(&self, mode: Mode) -> String {
        let [table, old, new] = self.quoted();
        let function = format!("crossfade.{}_sync", self.name.replace('-', "_"));
        let (new_old, new_new) = (format!("NEW.{old}"), format!("NEW.{new}"));
        let out_of_step = match self.up.fits {
            None => format!("{new_new} IS DISTINCT FROM {}", self.up_safe(&new_old)),
            Some(fits) => format!(
                "({new_new} IS DISTINCT FROM {}) OR ({new_new} IS NULL AND NOT {})",
                self.up_safe(&new_old),
                fits.replace("{}", &new_old)
            ),
        };
        let down = format!("{new_old} := {}; RETURN NEW;", self.down.assign.replace("{}", &new_new));
        let new_changed = format!("{new_new} IS DISTINCT FROM OLD.{new}");
        let old_changed = format!("{new_old} IS DISTINCT FROM OLD.{old}");
        let decides = match mode {
            Mode::Quarantine | Mode::Strict => format!(
                "IF TG_OP = 'INSERT' THEN d := {new_old} IS NULL AND {new_new} IS NOT NULL; \
                 ELSE d := {new_changed} AND NOT ({old_changed}); END IF;"
            ),
            // A default has moved to the new column by now: an old value in an INSERT was given by the statement.
            Mode::NewWins => format!(
                "IF TG_OP = 'INSERT' THEN d := {}; ELSE d := {new_changed} OR NOT ({old_changed}); END IF;",
                if self.has_default { format!("{new_old} IS NULL") } else { format!("{new_new} IS NOT NULL") }
            ),
        };
        let misfit = match (mode, self.up.fits) {
            (_, None) => String::new(),
            (Mode::Quarantine, Some(fits)) => format!(
                "IF NOT {} THEN INSERT INTO crossfade.quarantine VALUES ('{}', 'row'); END IF;",
                fits.replace("{}", &new_old),
                self.name
            ),
            (Mode::Strict | Mode::NewWins, Some(fits)) => format!(
                "IF NOT {} THEN {new_new} := {}; RAISE EXCEPTION 'does not fit'; END IF;",
                fits.replace("{}", &new_old),
                self.up.assign.replace("{}", &new_old)
            ),
        };
        format!(
            "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $sync$ DECLARE d boolean; BEGIN {decides} \
             IF d THEN {down} END IF; {misfit} {new_new} := {}; RETURN NEW; END $sync$;\n\
             CREATE TRIGGER \"~crossfade_{}\" BEFORE INSERT OR UPDATE ON public.{table} FOR EACH ROW \
             WHEN ({out_of_step}) EXECUTE FUNCTION {function}();\n\
             ALTER TABLE public.{table} ENABLE ALWAYS TRIGGER \"~crossfade_{}\";\n",
            self.up_safe(&new_old),
            self.name,
            self.name
        )
    }
}

/// Indexes of the new columns while both are there.
const TWIN_INDEXES: &str = "
CREATE UNIQUE INDEX \"~crossfade_users-handle_i_1\" ON public.users (handle);
CREATE UNIQUE INDEX \"~crossfade_users-handle_i_2\" ON public.users (lower(handle));
";

const CONTRACTING: &str = "
ALTER TABLE public.users ALTER COLUMN handle SET NOT NULL;
ALTER TABLE public.\"User\" ALTER COLUMN \"Handle!\" SET NOT NULL, ALTER COLUMN \"Handle!\" SET DEFAULT 'anon',
  ALTER COLUMN \"Screen Name\" DROP DEFAULT;
ALTER TABLE public.scores ALTER COLUMN score_int SET DEFAULT ('0'::text)::integer, ALTER COLUMN score DROP DEFAULT;
";

const CONTRACTED: &str = "
ALTER TABLE public.users DROP COLUMN username;
ALTER TABLE public.users ADD CONSTRAINT users_username_key UNIQUE USING INDEX \"~crossfade_users-handle_i_1\";
ALTER INDEX public.\"~crossfade_users-handle_i_2\" RENAME TO users_username_lower;
ALTER TABLE public.\"User\" DROP COLUMN \"Screen Name\";
ALTER TABLE public.scores DROP COLUMN score;
-- From PostgreSQL 18 on, NOT NULL has a name.
DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_constraint WHERE conname = 'users_handle_not_null') THEN
    ALTER TABLE public.users RENAME CONSTRAINT users_handle_not_null TO users_username_not_null;
    ALTER TABLE public.\"User\" RENAME CONSTRAINT \"User_Handle!_not_null\" TO \"User_Screen Name_not_null\";
  END IF;
END $$;
";

const ORACLE_NEW_SQL: &str = "
ALTER TABLE public.users RENAME COLUMN username TO handle;
ALTER TABLE public.users ALTER COLUMN handle TYPE varchar(100);
ALTER TABLE public.\"User\" RENAME COLUMN \"Screen Name\" TO \"Handle!\";
ALTER TABLE public.scores RENAME COLUMN score TO score_int;
ALTER TABLE public.scores ALTER COLUMN score_int DROP DEFAULT, ALTER COLUMN score_int TYPE integer USING score_int::integer,
  ALTER COLUMN score_int SET DEFAULT 0;
ALTER TABLE public.members ALTER COLUMN age DROP DEFAULT, ALTER COLUMN age TYPE integer USING age::integer,
  ALTER COLUMN age SET DEFAULT 0;
";

const RETYPED: &str = r#"
name = "members-age"
[[change]]
kind = "change_type"
table = "members"
column = "age"
type = "integer"
"#;

/// The migration of `members`, as the product resolves it.
static RETYPING: OnceLock<Migration> = OnceLock::new();

/// The column that stores the new `age` until the contract, as SQL.
pub fn retyped_storage() -> String {
    RETYPING.get().expect("the world is there").lens.new[0].stored().quoted()
}

/// What the product resolves `RETYPED` to.
fn resolve_retyped(server: &Postgres) -> Migration {
    with_catalog(server, State::Old, async |client| {
        let spec = MigrationSpec::from_toml(RETYPED, "retyped.toml").expect("a good file");
        let found = crossfade::catalog::preflight(client, &spec).await.expect("the database answers");
        assert!(found.blockers.is_empty(), "{:#?}", found.blockers);
        found.migration.expect("nothing is in the way")
    })
}

/// The product's statements that bring the table into that state, each run by itself.
fn retype(server: &Postgres, state: State) {
    let migration = RETYPING.get_or_init(|| resolve_retyped(server));
    with_catalog(server, state, async |client| {
        let fill = format!(
            "UPDATE public.members SET {} = CASE WHEN age ~ '^(0|-?[1-9][0-9]{{0,8}})$' THEN age::integer END",
            retyped_storage()
        );
        let detail = async || {
            let detail = crossfade::catalog::detail(client, &migration.lens.table).await;
            detail.expect("the database answers").expect("the table is there")
        };
        if state == State::Old {
            return;
        }
        run(client, ddl::expand(migration, &detail().await)).await;
        if !matches!(state, State::Expanded | State::Writing) {
            client.batch_execute(&fill).await.expect("the column is filled");
            run(client, ddl::build(migration, &detail().await).expect("everything can be built")).await;
        }
        if state != State::Expanded {
            run(client, ddl::install_sync(migration)).await;
        }
        if state == State::Strict {
            run(client, vec![ddl::set_sync_mode(migration, SyncMode::Strict)]).await;
        }
        if matches!(state, State::Contracting | State::Contracted) {
            run(client, ddl::enter_contracting(migration, &detail().await)).await;
        }
        if state == State::Contracted {
            run(client, ddl::contract(migration, &detail().await).expect("nothing is left behind")).await;
        }
    });
}

async fn run(client: &tokio_postgres::Client, steps: Vec<ddl::Step>) {
    for statement in steps.into_iter().flat_map(|step| step.statements) {
        // Locks are for transactions, and nobody else is here.
        if !statement.starts_with("LOCK TABLE") {
            client.batch_execute(&statement).await.unwrap_or_else(|error| panic!("{statement}\n{error:?}"));
        }
    }
}

/// Does something by a connection as the product makes them.
fn with_catalog<T>(server: &Postgres, state: State, act: impl AsyncFnOnce(&tokio_postgres::Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let config = server.url(state.database()).parse().expect("a connection string");
        let client = crossfade::catalog::connect(&config).await.expect("the throwaway server accepts");
        act(&client).await
    })
}

/// What makes the old database one of that state.
fn state_sql(state: State) -> String {
    let each = |sql: &dyn Fn(&Change) -> String| CHANGES.iter().map(sql).collect::<String>();
    let triggers = |mode| each(&|change| change.trigger(mode));
    let expanded = format!("{FUNCTIONS}{}", each(&Change::add_column));
    let copied = format!("{expanded}{}{TWIN_INDEXES}", each(&Change::fill));
    match state {
        State::Old => String::new(),
        State::Expanded => expanded,
        State::Writing => format!("{expanded}{}", triggers(Mode::Quarantine)),
        State::Copied => format!("{copied}{}", triggers(Mode::Quarantine)),
        State::Strict => format!("{copied}{}", triggers(Mode::Strict)),
        State::Contracting => format!("{copied}{CONTRACTING}{}", triggers(Mode::NewWins)),
        State::Contracted => format!("{copied}{CONTRACTING}{CONTRACTED}"),
    }
}

/// The server with all databases, shared by the tests of this binary and gone with the last of them.
pub struct World {
    socket_directory: PathBuf,
    port: u16,
    catalogs: Vec<(State, Arc<Catalog>)>,
    server: Postgres,
}

static SHARED: Mutex<Weak<World>> = Mutex::new(Weak::new());

impl World {
    pub fn shared() -> Arc<World> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(world) = shared.upgrade() {
            return world;
        }
        let world = Arc::new(World::start());
        *shared = Arc::downgrade(&world);
        world
    }

    fn start() -> World {
        let settings = [("autovacuum", "off"), ("max_wal_senders", "0"), ("wal_level", "minimal"), ("jit", "off")];
        let server = Postgres::start(&settings).expect("a throwaway PostgreSQL starts");
        let socket_directory = server.socket_directory().to_owned();
        let mut world = World { socket_directory, port: server.port(), catalogs: Vec::new(), server };
        let old = State::Old.database();
        world.connect("postgres").must(&format!("CREATE DATABASE {old}"));
        world.connect(old).must(FIXTURE);
        let others = State::ALL.into_iter().filter(|state| *state != State::Old).map(State::database);
        for name in others.chain([ORACLE_NEW]) {
            world.connect("postgres").must(&format!("CREATE DATABASE {name} TEMPLATE {old}"));
        }
        world.connect(ORACLE_NEW).must(ORACLE_NEW_SQL);
        for state in State::ALL {
            let mut client = world.connect(state.database());
            client.must(&state_sql(state));
            retype(&world.server, state);
            client.must("ANALYZE");
            world.catalogs.push((state, Arc::new(catalog(&mut client))));
        }
        world
    }

    /// The server's major version.
    pub fn major(&self) -> u32 {
        let reply = self.connect("postgres").must("SELECT current_setting('server_version_num')::int / 10000");
        reply.results[0].rows[0][0].clone().and_then(|text| text.parse().ok()).expect("a number")
    }

    pub fn connect(&self, database: &str) -> Client {
        Client::connect(&self.socket_directory, self.port, database).expect("the throwaway server accepts")
    }

    /// The rules of that phase over the catalog of that state.
    pub fn rules(&self, state: State, phase: Phase, reads: Percent) -> Rules {
        let (_, catalog) = self.catalogs.iter().find(|(of, _)| *of == state).expect("every state has a catalog");
        let migrations: Vec<ActiveMigration> = CHANGES
            .iter()
            .map(|change| ActiveMigration {
                name: change.name.to_owned(),
                lens: change.lens(),
                phase,
                reads,
                on_unsupported: OnUnsupported::Refuse,
            })
            .chain(RETYPING.get().map(|migration| ActiveMigration {
                name: migration.name.to_string(),
                lens: migration.lens.clone(),
                phase,
                reads,
                on_unsupported: OnUnsupported::Refuse,
            }))
            .collect();
        Rules::new(Epoch(7), &migrations, catalog.clone())
    }
}

const CATALOG_SQL: &str = "
SELECT c.oid, n.nspname, c.relname, c.relkind, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod),
  format_type(a.atttypid, NULL), a.attnotnull, CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
  a.attgenerated <> '', a.attidentity <> '',
  coalesce((SELECT array_position(i.indkey::int2[], a.attnum) FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary), -1)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'v') AND {which} ORDER BY c.oid, a.attnum";

/// The relations of a database, in the test's own words (the product reads them in `catalog`).
pub fn catalog(client: &mut Client) -> Catalog {
    let masked: Vec<String> = masked_relations().map(|(schema, name)| format!("('{schema}', '{name}')")).collect();
    let system = relations(client, &format!("(n.nspname, c.relname) IN ({})", masked.join(", ")));
    Catalog::new(relations(client, "(n.nspname IN ('public', 'app') OR n.nspname = 'crossfade' AND c.relkind = 'v')"))
        .with_system(system)
        .with_row_functions(row_functions(client))
}

fn row_functions(client: &mut Client) -> Vec<RowFunction> {
    let reply = client.must(
        "SELECT p.proname, c.relname, (SELECT count(DISTINCT o.prorettype) FROM pg_proc o WHERE o.proname = p.proname) \
         FROM pg_proc p, pg_class c WHERE p.pronamespace = 'public'::regnamespace AND p.prorettype = c.reltype \
         AND c.relnamespace = 'public'::regnamespace",
    );
    let in_public = |name: &Option<String>| QualifiedName {
        schema: ident("public"),
        name: ident(name.as_deref().unwrap_or_default()),
    };
    let rows = reply.results[0].rows.iter();
    rows.map(|row| RowFunction {
        name: in_public(&row[0]),
        table: in_public(&row[1]),
        alone: row[2].as_deref() == Some("1"),
    })
    .collect()
}

fn relations(client: &mut Client, which: &str) -> Vec<Relation> {
    let reply = client.must(&CATALOG_SQL.replace("{which}", which));
    let mut relations: Vec<(Relation, Vec<(i32, Ident)>)> = Vec::new();
    for row in &reply.results[0].rows {
        let text = |at: usize| row[at].clone().unwrap_or_default();
        let oid: u32 = text(0).parse().expect("an oid");
        if relations.last().is_none_or(|(relation, _)| relation.oid != oid) {
            let name = QualifiedName { schema: ident(&text(1)), name: ident(&text(2)) };
            let kind = if text(3) == "v" { RelationKind::View } else { RelationKind::Table };
            relations.push((Relation { oid, name, kind, columns: Vec::new(), primary_key: Vec::new() }, Vec::new()));
        }
        let Some((relation, key)) = relations.last_mut() else { continue };
        relation.columns.push(Column {
            name: ident(&text(4)),
            number: text(5).parse().expect("a number"),
            type_sql: text(6),
            base_type_sql: text(7),
            not_null: text(8) == "t",
            default: row[9].clone(),
            generated: text(10) == "t",
            identity: text(11) == "t",
        });
        let place: i32 = text(12).parse().expect("a place");
        if place >= 0 {
            key.push((place, ident(&text(4))));
        }
    }
    let keyed = relations.into_iter().map(|(mut relation, mut key)| {
        key.sort();
        relation.primary_key = key.into_iter().map(|(_, name)| name).collect();
        relation
    });
    keyed.collect()
}
