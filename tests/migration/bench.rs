//! One server for all tests, a database for each, and the steps run as the coordinator runs them.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crossfade::catalog::{self, Preflight};
use crossfade::demo::postgres::Postgres;
use crossfade::migration::ddl::{self, Step, SyncMode};
use crossfade::migration::walk::{self, Walk};
use crossfade::migration::{
    ActiveMigration, Bucket, Epoch, Migration, MigrationSpec, OnUnsupported, Percent, Phase, Rules, Shape,
};
use crossfade::schema::{Ident, TableDetail};
use crossfade::sql::{self, Context, Names, Rewrite};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

/// What the control plane's bootstrap makes, as far as migrations use it.
const BOOTSTRAP: &str = "
    CREATE SCHEMA crossfade;
    GRANT USAGE ON SCHEMA crossfade TO PUBLIC;
    CREATE TABLE crossfade.quarantine (
        migration text NOT NULL, key text NOT NULL, error text NOT NULL,
        noted_at timestamptz NOT NULL DEFAULT now());
    CREATE UNIQUE INDEX ON crossfade.quarantine (migration, hashtextextended(key, 0), hashtextextended(key, 1));
    CREATE FUNCTION crossfade.note_misfit(migration text, key text, error text) RETURNS void
        LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
        AS 'INSERT INTO crossfade.quarantine VALUES ($1, $2, $3) ON CONFLICT DO NOTHING';";

/// Rows in a page of a walk: small, so that tests walk several.
const PAGE_ROWS: i64 = 7;

/// A database with a migration of one of its tables.
pub struct Bench {
    pub server: Arc<Postgres>,
    pub database: String,
    /// As the control plane connects.
    pub control: Client,
    /// As the application connects.
    pub app: Client,
    pub spec: MigrationSpec,
}

/// What a walk found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Walked {
    pub rows: i64,
    /// Changed or drifted.
    pub found: i64,
    pub misfits: i64,
    pub samples: Vec<String>,
}

fn server() -> Arc<Postgres> {
    static SERVER: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
    let mut shared = SERVER.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    shared.upgrade().unwrap_or_else(|| {
        let started = Arc::new(Postgres::start(&[]).expect("start PostgreSQL"));
        *shared = Arc::downgrade(&started);
        started
    })
}

/// A migration file with these keys in its change.
pub fn file(keys: &str) -> String {
    format!("name = \"the-test\"\n[[change]]\nkind = \"rename_column\"\n{keys}\n")
}

/// A migration file that changes a type, with these keys in its change.
pub fn retype(keys: &str) -> String {
    format!("name = \"the-test\"\n[[change]]\nkind = \"change_type\"\n{keys}\n")
}

/// The file of the issue: users.username varchar(255) to handle varchar(100).
pub fn narrower() -> String {
    file("table = \"users\"\ncolumn = \"username\"\nto = \"handle\"\ntype = \"varchar(100)\"")
}

/// A fresh database with that schema.
pub async fn bench(schema: &str, file: &str) -> Bench {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let server = server();
    let database = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let root = connect(&server, "postgres").await;
    root.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
    let app = connect(&server, &database).await;
    app.batch_execute(BOOTSTRAP).await.unwrap();
    app.batch_execute(schema).await.unwrap();
    let control = catalog::connect(&server.url(&database).parse().unwrap()).await.unwrap();
    let spec = MigrationSpec::from_toml(file, "test.toml").unwrap_or_else(|errors| panic!("{errors}"));
    Bench { server, database, control, app, spec }
}

async fn connect(server: &Postgres, database: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(&server.url(database), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The statement, run where the sync trigger does not see it.
pub fn past_the_trigger(migration: &Migration, statement: &str) -> String {
    let table = migration.lens.table.quoted();
    let enable =
        migration.triggers().map(|name| format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {}", name.quoted()));
    format!("ALTER TABLE {table} DISABLE TRIGGER USER; {statement}; {}", enable.join("; "))
}

impl Bench {
    pub async fn preflight(&self) -> Preflight {
        catalog::preflight(&self.control, &self.spec).await.unwrap()
    }

    /// The migration, which nothing may stand against.
    pub async fn migration(&self) -> Migration {
        let preflight = self.preflight().await;
        assert!(preflight.blockers.is_empty(), "{:#?}", preflight.blockers);
        let migration = preflight.migration.unwrap();
        // Stored and read back, as the control plane does.
        serde_json::from_str(&serde_json::to_string(&migration).unwrap()).unwrap()
    }

    pub async fn detail(&self, migration: &Migration) -> TableDetail {
        catalog::detail(&self.control, &migration.lens.table).await.unwrap().unwrap()
    }

    /// Runs steps, and runs them again as after a crash.
    pub async fn run(&self, steps: &[Step]) {
        for _ in 0..2 {
            for step in steps {
                self.step(step).await;
            }
        }
    }

    async fn step(&self, step: &Step) {
        if let Some(done_when) = &step.done_when
            && self.control.query_one(done_when, &[]).await.unwrap_or_else(|e| panic!("{done_when}: {e:?}")).get(0)
        {
            return;
        }
        if step.transactional {
            self.control.batch_execute("BEGIN").await.unwrap();
        }
        for statement in &step.statements {
            self.control.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}\n{error:?}"));
        }
        if step.transactional {
            self.control.batch_execute("COMMIT").await.unwrap();
        }
        if let Some(done_when) = &step.done_when {
            assert!(self.control.query_one(done_when, &[]).await.unwrap().get::<_, bool>(0), "{}", step.name);
        }
    }

    /// Expands and puts the trigger on.
    pub async fn dual_writing(&self) -> Migration {
        let migration = self.migration().await;
        self.run(&ddl::expand(&migration, &self.detail(&migration).await)).await;
        self.run(&ddl::install_sync(&migration)).await;
        migration
    }

    /// Copies and builds.
    pub async fn verified(&self) -> Migration {
        let migration = self.dual_writing().await;
        self.complete_storage(&migration).await;
        migration
    }

    pub async fn complete_storage(&self, migration: &Migration) {
        self.copy(migration).await;
        let steps = ddl::build(migration, &self.detail(migration).await).unwrap();
        self.run(&steps).await;
        assert_eq!(self.drift(migration).await.found, 0);
    }

    /// The trigger in contracting mode, the default moved.
    pub async fn contracting(&self) -> Migration {
        let migration = self.verified().await;
        self.mode(&migration, SyncMode::Strict).await;
        self.enter_contracting(&migration).await;
        migration
    }

    pub async fn enter_contracting(&self, migration: &Migration) {
        self.is_unchanged(migration, Phase::Soaking).await;
        self.run(&ddl::enter_contracting(migration, &self.detail(migration).await)).await;
    }

    /// Nothing of what the migration itself made is taken for a change by somebody else.
    async fn is_unchanged(&self, migration: &Migration, phase: Phase) {
        let detail = self.detail(migration).await;
        assert_eq!(crossfade::migration::changed(migration, Some(&detail), phase), []);
    }

    pub async fn contract(&self, migration: &Migration) {
        self.is_unchanged(migration, Phase::Contracting).await;
        let steps = ddl::contract(migration, &self.detail(migration).await).unwrap();
        self.run(&steps).await;
    }

    pub async fn rollback(&self, migration: &Migration) {
        let steps = ddl::rollback(migration, &self.detail(migration).await);
        self.run(&steps).await;
    }

    pub async fn mode(&self, migration: &Migration, mode: SyncMode) {
        self.run(&[ddl::set_sync_mode(migration, mode)]).await;
    }

    pub async fn copy(&self, migration: &Migration) -> Walked {
        self.walk(&walk::copy(migration), false).await
    }

    pub async fn drift(&self, migration: &Migration) -> Walked {
        self.walk(&walk::drift(migration), true).await
    }

    async fn walk(&self, walk: &Walk, samples: bool) -> Walked {
        let mut walked = Walked::default();
        let mut last: Option<Vec<String>> = None;
        loop {
            let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&PAGE_ROWS];
            let keys = last.clone().unwrap_or_default();
            parameters.extend(keys.iter().map(|key| key as &(dyn ToSql + Sync)));
            let sql = if last.is_none() { &walk.first } else { &walk.next };
            let row = self.control.query_one(sql, &parameters).await.unwrap_or_else(|e| panic!("{sql}\n{e:?}"));
            walked.rows += row.get::<_, i64>(1);
            walked.found += row.get::<_, i64>(2);
            walked.misfits += row.get::<_, i64>(3);
            if samples {
                walked.samples.extend(row.get::<_, Vec<String>>(4));
            }
            match row.get(0) {
                Some(key) => last = Some(key),
                None => return walked,
            }
        }
    }

    pub async fn recheck(&self, migration: &Migration) -> i64 {
        self.control.query_one(&walk::recheck(migration), &[]).await.unwrap().get(0)
    }

    pub async fn sql(&self, sql: &str) {
        self.app.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}\n{error:?}"));
    }

    /// The SQLSTATE and message of a statement that must fail.
    pub async fn fails(&self, sql: &str) -> (String, String) {
        let error = self.app.batch_execute(sql).await.expect_err(sql);
        let error = error.as_db_error().expect("an error of PostgreSQL's");
        (error.code().code().to_owned(), error.message().to_owned())
    }

    /// Rows as text, a row a line, columns between bars.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        let messages = self.app.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}\n{error:?}"));
        let rows = messages.into_iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|row| (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect::<Vec<_>>().join("|")).collect()
    }

    /// The server's `server_version_num`.
    pub async fn version(&self) -> u32 {
        self.rows("SHOW server_version_num").await[0].parse().unwrap()
    }

    /// The text as a session of that shape, whose reads are all on the new route, has it in that phase.
    pub async fn as_seen(&self, migration: &Migration, phase: Phase, shape: Shape, text: &str) -> String {
        let catalog = catalog::load(&self.control).await.unwrap();
        let active = ActiveMigration {
            name: migration.name.to_string(),
            lens: migration.lens.clone(),
            phase,
            reads: Percent::ALL,
            on_unsupported: OnUnsupported::Refuse,
        };
        let rules = Rules::new(Epoch(1), &[active], Arc::new(catalog));
        let path = ["pg_catalog", "public"].map(|name| Ident::new(name).unwrap()).to_vec();
        let names = Names { path, temporary: Vec::new() };
        let context =
            Context { rules: &rules, names: &names, shape, bucket: Bucket::of(0), standard_conforming_strings: true };
        match sql::rewrite(text, &context) {
            Rewrite::Unchanged => text.to_owned(),
            Rewrite::Rewritten(edits) => edits.apply(text),
            Rewrite::Refused(refusal) => panic!("{text}: {refusal}"),
        }
    }

    /// The rows that such a session gets.
    pub async fn seen(&self, migration: &Migration, phase: Phase, shape: Shape, text: &str) -> Vec<String> {
        self.rows(&self.as_seen(migration, phase, shape, text).await).await
    }

    /// The user's schemas as pg_dump writes them.
    pub fn dump(&self) -> String {
        let output = Command::new(self.server.binaries().join("pg_dump"))
            .args(["--schema-only", "--exclude-schema=crossfade", "--dbname", &self.server.url(&self.database)])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("server version mismatch") {
            // An older pg_dump than the server's: what else the test checks still counts.
            eprintln!("left out: the comparison by pg_dump, which is older than the server");
            return String::new();
        }
        assert!(output.status.success(), "{said}");
        let text = String::from_utf8(output.stdout).unwrap();
        // A random token of newer versions.
        text.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
    }
}
