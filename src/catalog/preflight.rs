//! Whether a migration is possible on a database, and what depends on the column.
//!
//! Asks PostgreSQL rather than guessing: whether `up` is immutable and may be stored is tried on an empty temporary
//! table. Leaves nothing behind. What a fact means is decided in `migration`.

use serde::Serialize;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{
    CatalogError, detail, functions_naming, is_named_by, load, may_silence_triggers, postgres, postgres_message,
    resolve_type, roles, volatility,
};
use crate::migration::ddl;
use crate::migration::resolve::{self, Cast, Migration, ResolvedType, Types};
use crate::migration::spec::{Change, ColumnChange, MigrationSpec};
use crate::migration::text::distinct;
use crate::migration::{Blocker, Expr, Invalid};
use crate::schema::{Dependent, DependentKind, Ident, TableDetail, Trigger};
use crate::sql::lex::{Lexer, Token};

/// The oldest PostgreSQL that is supported, as `server_version_num`.
const SERVER_VERSION_MIN: u32 = 130_000;

/// The largest table that may be written anew while everybody waits.
const REWRITTEN_BYTES_MAX: i64 = 64 << 20;

/// Rows at either end of the table whose values are sent there and back.
const SAMPLE_ROWS: u32 = 5_000;

/// Something that a person should know before the start, and that does not stop it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// A short fixed name for machines.
    pub code: &'static str,
    /// What it is; lower case, one line.
    pub what: String,
    /// What to do, in full sentences.
    pub todo: String,
}

/// What `check`, `plan` and `start` know.
#[derive(Debug, Clone)]
pub struct Preflight {
    /// The migration, where it could be resolved.
    pub migration: Option<Migration>,
    /// The table, where there is one.
    pub detail: Option<TableDetail>,
    /// What makes it impossible now. Empty: it may start.
    pub blockers: Vec<Blocker>,
    /// What should be known.
    pub warnings: Vec<Warning>,
    /// What depends on the old column or names it.
    pub dependents: Vec<Dependent>,
}

/// Looks at the database. Changes nothing. The client must not be in a transaction, nor be shared meanwhile.
///
/// Whether another migration is active on the table is not looked at here: that is in the control tables.
pub async fn preflight(client: &Client, spec: &MigrationSpec) -> Result<Preflight, CatalogError> {
    let change = spec.change.column();
    let mut found = Preflight { migration: None, detail: None, blockers: vec![], warnings: vec![], dependents: vec![] };
    let Some(detail) = detail(client, &change.table).await? else {
        found.blockers.push(no_table(client, change).await?);
        return Ok(found);
    };
    found.blockers.extend(server_blockers(&detail));
    found.blockers.extend(resolve::table_blockers(spec, &detail));
    found.blockers.extend(foreign_key_types(&detail));
    found.blockers.extend(not_owner(client, change).await?);
    found.blockers.extend(row_type_used(client, change).await?);
    found.blockers.extend(rules_on_update(client, change).await?);
    found.warnings.extend(sees_no_sessions(client).await?);
    found.warnings.extend(subscribed(client, change).await?);
    if detail.relation.column(&change.column).is_some() {
        found.look_at_dependents(client, change, &detail).await?;
        if let Some(types) = found.look_at_types(client, spec, &detail).await? {
            found.look_at_values(client, spec, &detail, &types).await?;
        }
    }
    found.detail = Some(detail);
    Ok(found)
}

impl Preflight {
    async fn look_at_dependents(
        &mut self,
        client: &Client,
        change: &ColumnChange,
        detail: &TableDetail,
    ) -> Result<(), CatalogError> {
        let column = &change.column;
        self.dependents = detail.dependents.iter().filter(|dependent| &dependent.column == column).cloned().collect();
        self.dependents.extend(functions_naming(client, &change.table, column).await?);
        for dependent in &self.dependents {
            match dependent.kind {
                DependentKind::View
                | DependentKind::MaterializedView
                | DependentKind::Rule
                | DependentKind::Policy
                | DependentKind::Trigger
                | DependentKind::Publication
                | DependentKind::GeneratedColumn
                | DependentKind::Function
                | DependentKind::Other => self.blockers.push(Blocker::new(
                    "dependent",
                    format!("{} depends on column {:?}", dependent.name, column.as_str()),
                    "The old column could not be dropped, and nothing is ever dropped with CASCADE.",
                    "Drop it before the start and make it again on the new column after the end.",
                )),
                DependentKind::FunctionText => self.warnings.push(Warning {
                    code: "function_names_column",
                    what: format!("{} names {:?} in its text", dependent.name, column.as_str()),
                    todo: "Change it before `crossfade complete` if it means this column: it is not rewritten.".into(),
                }),
                DependentKind::Statistics => self.warnings.push(Warning {
                    code: "not_carried",
                    what: format!("{} will be dropped with the old column", dependent.name),
                    todo: "Create it on the new column when the migration is verified.".into(),
                }),
                DependentKind::Sequence => {}
            }
        }
        self.look_at_triggers(client, change, detail).await?;
        for publication in &detail.publications {
            self.warnings.push(Warning {
                code: "published",
                what: format!("the table is published in {:?}", publication.as_str()),
                todo: "Add the new column on the subscribers before the start.".into(),
            });
        }
        Ok(())
    }

    async fn look_at_triggers(
        &mut self,
        client: &Client,
        change: &ColumnChange,
        detail: &TableDetail,
    ) -> Result<(), CatalogError> {
        let column = change.column.as_str();
        for trigger in &detail.triggers {
            if is_named_by(trigger, column) {
                self.warnings.push(Warning {
                    code: "trigger_names_column",
                    what: format!("trigger {} calls {}, which names {column:?}", trigger.name, trigger.function),
                    todo:
                        "It works until `crossfade complete`, which waits until it names the new column or is dropped: \
                           see \"Triggers of your own\" in docs/operations.md."
                            .into(),
                });
            }
        }
        for trigger in detail.triggers.iter().filter(|trigger| trigger.enabled != "D") {
            let Some(taken) = trigger.source.as_deref().and_then(rows_taken) else { continue };
            let what = format!("trigger {} calls {}, which takes {taken}", trigger.name, trigger.function);
            match taken {
                Taken::ByPlace => self.blockers.push(Blocker::new(
                    "trigger_takes_rows_by_place",
                    what,
                    "From `expanded` on the row has the new column too, and at the end it is the last one: the values would be too \
                     many, or land in each other's columns.",
                    "Name the columns in the function instead of the row.",
                )),
                Taken::Whole => self.warnings.push(Warning {
                    code: "trigger_takes_whole_rows",
                    what,
                    todo: "It gets the columns that are stored: both while the migration runs, then the new one. See that \
                           whoever reads what it writes takes that."
                        .into(),
                }),
            }
        }
        let on_update = |definition: &str| definition.contains("UPDATE") && !definition.contains("UPDATE OF ");
        // Silenced, the copy runs as replication does, and fires what is enabled for that.
        let silenced = may_silence_triggers(client).await?;
        let enabled = if silenced { ["A", "R"] } else { ["A", "O"] };
        let fires = |trigger: &&Trigger| on_update(&trigger.definition) && enabled.contains(&trigger.enabled.as_str());
        let names: Vec<&str> = detail.triggers.iter().filter(fires).map(|trigger| trigger.name.as_str()).collect();
        if !names.is_empty() {
            let todo = match silenced {
                true => {
                    "They are enabled ALWAYS or for REPLICA. Check that they do no harm when every row is updated once, or \
                         disable them until the migration is verified."
                }
                false => {
                    "Grant the role SET on parameter session_replication_role (PostgreSQL 15 and up), or check \
                          that they do no harm when every row is updated once."
                }
            };
            self.warnings.push(Warning {
                code: "copy_fires_triggers",
                what: format!("the copy will fire the table's own triggers: {}", names.join(", ")),
                todo: todo.into(),
            });
        }
        Ok(())
    }

    /// Both types and the way between them, and whether expressions may be stored: tried by PostgreSQL itself.
    async fn look_at_types(
        &mut self,
        client: &Client,
        spec: &MigrationSpec,
        detail: &TableDetail,
    ) -> Result<Option<Types>, CatalogError> {
        let change = spec.change.column();
        let Some(column) = detail.relation.column(&change.column) else { return Ok(None) };
        let wanted = change.type_sql.as_deref().unwrap_or(&column.type_sql);
        let (old, new) = match (resolve_type(client, &column.type_sql).await?, resolve_type(client, wanted).await?) {
            (Ok(old), Ok(new)) => (old, new),
            (Err(message), _) | (_, Err(message)) => {
                self.blockers.push(Blocker::new(
                    "no_such_type",
                    format!("the type {wanted:?} cannot be used"),
                    format!("PostgreSQL says: {message}."),
                    "Write a type that exists, with its schema unless it is PostgreSQL's own.",
                ));
                return Ok(None);
            }
        };
        if matches!(spec.change, Change::ChangeType(_)) && old.type_sql == new.type_sql {
            self.blockers.push(Blocker::new(
                "same_type",
                format!("column {:?} has the type {} already", column.name.as_str(), new.type_sql),
                "There is nothing to change.",
                "Name another type, or use rename_column.",
            ));
            return Ok(None);
        }
        self.look_at_domains(client, change, &old, &new).await?;
        self.blockers.extend(roles::without_rights(client, change, &[&old, &new]).await?);
        self.blockers.extend(roles::without_references(client, change).await?);
        let up = cast(client, &old, &new).await?;
        let down = cast(client, &new, &old).await?;
        self.try_expressions(client, spec, detail, &old, &new).await?;
        self.try_indexes(client, change, detail, &new).await?;
        Ok(self.blockers.is_empty().then_some(Types { old, new, up, down }))
    }

    /// A domain acts by itself on a column that a statement does not name, and on the rows that are there when it comes.
    async fn look_at_domains(
        &mut self,
        client: &Client,
        change: &ColumnChange,
        old: &ResolvedType,
        new: &ResolvedType,
    ) -> Result<(), CatalogError> {
        let sql = "WITH RECURSIVE layer (oid) AS (SELECT to_regtype($1)::oid UNION ALL \
                   SELECT t.typbasetype FROM layer l JOIN pg_type t ON t.oid = l.oid WHERE t.typtype = 'd') \
                   SELECT bool_or(t.typdefault IS NOT NULL), bool_or(t.typtype = 'd' AND t.typnotnull), \
                   bool_or(EXISTS (SELECT FROM pg_constraint c WHERE c.contypid = t.oid)), pg_relation_size(to_regclass($2)) \
                   FROM layer JOIN pg_type t USING (oid)";
        // One that both have is asked about once.
        let both = [(old, false), (new, true)];
        let types = if old.type_sql == new.type_sql { &both[1..] } else { &both[..] };
        for (of, is_new) in types.iter().copied() {
            let names = [of.type_sql.as_str(), &change.table.quoted()];
            let row = client.query_one(sql, &[&names[0], &names[1]]).await.map_err(postgres("look at a domain"))?;
            let has = |at: usize| row.get::<_, Option<bool>>(at).unwrap_or(false);
            let why = match (has(0), is_new && has(1)) {
                (true, _) => {
                    Some("has a default, which PostgreSQL stores in a column of it that a statement does not name")
                }
                (false, true) => Some("is NOT NULL, so a column of it cannot be added to a table with rows"),
                (false, false) => None,
            };
            if let Some(why) = why {
                self.blockers.push(Blocker::new(
                    "domain",
                    format!("type {} {why}", of.type_sql),
                    "While both columns are there, statements name only one of them.",
                    "Move that from the domain to the column: ALTER DOMAIN ... DROP, and ALTER TABLE ... ALTER COLUMN ... SET.",
                ));
            } else if is_new && has(2) {
                let size = row.get::<_, Option<i64>>(3).unwrap_or(0);
                let what = format!(
                    "PostgreSQL writes the whole table anew when a column of the constrained domain {} is added",
                    of.type_sql
                );
                if size > REWRITTEN_BYTES_MAX {
                    self.blockers.push(Blocker::new(
                        "domain",
                        what,
                        format!("Everybody would wait meanwhile, and the table has {} MB.", size >> 20),
                        "Use the domain's base type and put its constraint on the column.",
                    ));
                } else {
                    let todo = "Everybody waits meanwhile; the table is small.".to_owned();
                    self.warnings.push(Warning { code: "domain", what, todo });
                }
            }
        }
        Ok(())
    }

    /// Whether `up`, `down` and `invalid` may be stored: each is tried as a generated column of an empty table.
    async fn try_expressions(
        &mut self,
        client: &Client,
        spec: &MigrationSpec,
        detail: &TableDetail,
        old: &ResolvedType,
        new: &ResolvedType,
    ) -> Result<(), CatalogError> {
        let change = spec.change.column();
        let collation = detail.column(&change.column).and_then(|column| column.collation.as_deref());
        let collate = |of: &ResolvedType| match collation {
            Some(name) if of.collatable => format!(" COLLATE {name}"),
            Some(_) | None => String::new(),
        };
        let text = |expr: Option<&Expr>, bare: &Ident| expr.map_or_else(|| bare.quoted(), Expr::sql);
        let of_old = format!("LIKE {}", change.table.quoted());
        let of_new = format!("{} {}{}", change.to.quoted(), new.type_sql, collate(new));
        let fallback = match &change.invalid {
            Invalid::Fallback(expr) => Some(expr),
            Invalid::Quarantine | Invalid::Null | Invalid::Reject => None,
        };
        let probes = [
            ("up", change.up.as_ref(), &of_old, (old, new), &change.column),
            ("down", change.down.as_ref(), &of_new, (new, old), &change.to),
            ("invalid", fallback, &of_old, (old, new), &change.column),
        ];
        for (key, expr, columns, (from, to), bare) in probes {
            if expr.is_none_or(|expr| expr.as_column().is_some())
                && (key == "invalid" || matches!(spec.change, Change::ChangeType(_)))
            {
                // A cast is found by us. One that depends on settings is the user's to say.
                let changing = if key == "invalid" { None } else { changing_cast(client, from, to).await? };
                self.blockers.extend(changing.map(|function| unsettled_cast(key, from, to, &function)));
                continue;
            }
            let generated = format!("{}{} GENERATED ALWAYS AS ({}) STORED", to.type_sql, collate(to), text(expr, bare));
            let sql = format!(
                "CREATE TEMPORARY TABLE crossfade_probe ({columns}) ON COMMIT DROP; \
                 ALTER TABLE pg_temp.crossfade_probe ADD COLUMN \"~probe\" {generated}"
            );
            if let Err(error) = client.batch_execute(&sql).await {
                self.blockers.push(refused_expression(client, key, expr, error).await?);
            }
        }
        Ok(())
    }

    /// Whether the new type can be indexed as the old one is.
    async fn try_indexes(
        &mut self,
        client: &Client,
        change: &ColumnChange,
        detail: &TableDetail,
        new: &ResolvedType,
    ) -> Result<(), CatalogError> {
        let keyed = |index: &&crate::schema::Index| {
            index.valid
                && index.keys.iter().any(|key| key.column.as_ref() == Some(&change.column) && key.opclass.is_none())
        };
        for index in detail.indexes.iter().filter(keyed) {
            let sql = format!(
                "CREATE TEMPORARY TABLE crossfade_probe (\"~probe\" {}) ON COMMIT DROP; \
                 CREATE INDEX ON pg_temp.crossfade_probe USING {} (\"~probe\")",
                new.type_sql, index.method
            );
            let Err(error) = client.batch_execute(&sql).await else { continue };
            if error.as_db_error().is_none() {
                return Err(CatalogError::Postgres { context: "try the indexes", source: error });
            }
            self.blockers.push(Blocker::new(
                "index_not_derivable",
                format!("index {:?} cannot be built on the new column", index.name.as_str()),
                format!("PostgreSQL says: {}.", postgres_message(&error)),
                "Drop it before, and build it on the new column after the migration.",
            ));
        }
        Ok(())
    }

    /// The migration, and what it does to values that are there.
    async fn look_at_values(
        &mut self,
        client: &Client,
        spec: &MigrationSpec,
        detail: &TableDetail,
        types: &Types,
    ) -> Result<(), CatalogError> {
        let migration = match resolve::resolve(spec, detail, types) {
            Ok(migration) => migration,
            Err(blockers) => {
                self.blockers.extend(blockers);
                return Ok(());
            }
        };
        if let Err(blockers) = ddl::build(&migration, detail) {
            self.blockers.extend(blockers);
        }
        // What becomes of misfits is told apart from what they are.
        let mut strict = spec.clone();
        strict.change.column_mut().invalid = Invalid::Quarantine;
        if let Ok(trial) = resolve::resolve_in("pg_temp", &strict, detail, types) {
            self.try_default(client, &trial).await?;
            self.send_there_and_back(client, spec, &trial, &types.old).await?;
        }
        self.migration = Some(migration);
        Ok(())
    }

    /// Whether the old column's default can be the new one's.
    async fn try_default(&mut self, client: &Client, trial: &Migration) -> Result<(), CatalogError> {
        let Some(column) = trial.lens.new.first() else { return Ok(()) };
        let Some(moved) = trial.moved_default(column) else { return Ok(()) };
        let constant = trial.carried.default.as_ref().and_then(|text| Expr::parse(text, &[]).ok());
        let select = format!("SELECT ({moved})::{}", column.type_sql);
        let tried = match constant.filter(|expr| expr.functions().next().is_none()) {
            Some(_) => client.batch_execute(&select).await,
            // It may have effects: what can be known without them is whether it is of the right type.
            None => client.prepare(&select).await.map(|_| ()),
        };
        let Err(error) = tried else { return Ok(()) };
        if error.as_db_error().is_none() {
            return Err(CatalogError::Postgres { context: "try the default", source: error });
        }
        self.blockers.push(Blocker::new(
            "default",
            "the default of the old column is no value of the new one",
            format!("PostgreSQL says: {}.", postgres_message(&error)),
            "Change the default before, or drop it.",
        ));
        Ok(())
    }

    /// `down(up(x)) = x` on rows at both ends of the table.
    async fn send_there_and_back(
        &mut self,
        client: &Client,
        spec: &MigrationSpec,
        trial: &Migration,
        old: &ResolvedType,
    ) -> Result<(), CatalogError> {
        let sql = there_and_back(trial, old);
        let rows = match client.simple_query(&sql).await {
            Ok(messages) => messages,
            Err(error) if error.as_db_error().is_some() => {
                self.blockers.push(Blocker::new(
                    "trial_failed",
                    "values of the table could not be sent there and back",
                    format!("PostgreSQL says: {}.", postgres_message(&error)),
                    "Change `up` or `down` so that every value which `up` gives is one that `down` takes.",
                ));
                return Ok(());
            }
            Err(source) => return Err(CatalogError::Postgres { context: "try the lens on values", source }),
        };
        let row = rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let count = |at| row.and_then(|row| row.get(at)).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let (looked, lost, misfits) = (count(0), count(1), count(2));
        if lost > 0 {
            let what = format!("{lost} of {looked} rows looked at do not come back as they were");
            match spec.change {
                Change::RenameColumn(_) => self.blockers.push(Blocker::new(
                    "loss",
                    what,
                    "After the old column is dropped, old sessions read `down` of the new one: they would see other values.",
                    "Change `up` and `down` so that down(up(value)) is the value, or clean the data up first.",
                )),
                // The expressions are the user's word on what the values become.
                Change::ChangeType(_) => self.warnings.push(Warning {
                    code: "loss",
                    what,
                    todo: "Old sessions will read `down` of the new value, which is another one, once reads move. Leave \
                           `up` and `down` out where that may not be: then such rows count as not fitting."
                        .into(),
                }),
            }
        }
        if misfits > 0 {
            self.warnings.push(Warning {
                code: "misfits",
                what: format!("{misfits} of {looked} rows looked at do not fit the new column"),
                todo: match spec.change.column().invalid {
                    Invalid::Quarantine => "They will go to quarantine, which must be empty before reads can move.",
                    Invalid::Reject => {
                        "They will go to quarantine, which must be empty before reads can move; new ones are refused."
                    }
                    Invalid::Null => "They will be NULL in the new column: their values are lost with the old one.",
                    Invalid::Fallback(_) => {
                        "They will be what `invalid` gives in the new column: their values are lost with the old one."
                    }
                }
                .into(),
            });
        }
        Ok(())
    }
}

/// How PostgreSQL casts one type to the other. Preparing runs nothing.
async fn cast(client: &Client, from: &ResolvedType, to: &ResolvedType) -> Result<Cast, CatalogError> {
    match client.prepare(&format!("SELECT (NULL::{})::{}", from.type_sql, to.type_sql)).await {
        Ok(_) => Ok(Cast::Direct),
        Err(error) if error.as_db_error().is_some() => Ok(Cast::ViaText),
        Err(source) => Err(CatalogError::Postgres { context: "look for a cast", source }),
    }
}

/// The function of PostgreSQL's cast, where it is not immutable: what it gives depends on settings such as the time zone.
/// Of arrays, that of their elements.
async fn changing_cast(
    client: &Client,
    from: &ResolvedType,
    to: &ResolvedType,
) -> Result<Option<String>, CatalogError> {
    let sql = "WITH RECURSIVE inner_type(side, oid) AS ( \
               SELECT side, to_regtype(name)::oid FROM (VALUES (1, $1), (2, $2)) AS wanted(side, name) \
               UNION SELECT i.side, CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END \
               FROM inner_type i JOIN pg_type t ON t.oid = i.oid \
               WHERE t.typtype = 'd' OR t.typcategory = 'A' AND t.typelem <> 0) \
               SELECT p.oid::regprocedure::text FROM pg_cast c JOIN pg_proc p ON p.oid = c.castfunc \
               JOIN inner_type f ON f.side = 1 AND f.oid = c.castsource \
               JOIN inner_type t ON t.side = 2 AND t.oid = c.casttarget WHERE p.provolatile <> 'i' LIMIT 1";
    let names = [from.base_type_sql.as_str(), to.base_type_sql.as_str()];
    let row = client.query_opt(sql, &[&names[0], &names[1]]).await.map_err(postgres("look for a cast"))?;
    Ok(row.map(|row| row.get(0)))
}

fn unsettled_cast(key: &str, from: &ResolvedType, to: &ResolvedType, function: &str) -> Blocker {
    Blocker::new(
        "not_immutable",
        format!("the cast from {} to {} depends on settings of the session", from.type_sql, to.type_sql),
        format!("PostgreSQL casts by {function}, which is not immutable: sessions would get different values."),
        format!("Give `{key}` and say what is meant, for example with AT TIME ZONE 'UTC'."),
    )
}

/// The statements that try the lens on both ends of the table, with its functions in `pg_temp`. One implicit
/// transaction; the functions are dropped at its end.
fn there_and_back(trial: &Migration, old: &ResolvedType) -> String {
    let mut sql: Vec<String> = Vec::new();
    for function in &trial.functions {
        // Only the definition: nobody else could call it anyway.
        sql.extend(ddl::lens_function(function).into_iter().take(1));
    }
    let keys: Vec<String> = trial.key.iter().map(|key| key.name.quoted()).collect();
    let down: Vec<String> = keys.iter().map(|key| format!("{key} DESC")).collect();
    let table = trial.lens.table.quoted();
    let (Some(from), Some(to)) = (trial.lens.old.first(), trial.lens.new.first()) else { return String::new() };
    let x = from.stored().quoted();
    let safe = to.from.safe.render(|_| "s.x".to_owned());
    let back = from.from.read.render(|_| "s.y".to_owned());
    let fits = to.from.fits.as_ref().map_or_else(|| "true".to_owned(), |fits| fits.render(|_| "s.x".to_owned()));
    let lost = distinct(&old.base_type_sql, "s.x", &back);
    sql.push(format!(
        "SELECT count(*), count(*) FILTER (WHERE s.fits AND {lost}), count(*) FILTER (WHERE NOT s.fits) \
         FROM (SELECT s.x, {safe} AS y, {fits} AS fits FROM (\
         SELECT DISTINCT ON (s.place) s.x FROM (\
         (SELECT ctid AS place, {x} AS x FROM ONLY {table} ORDER BY {asc} LIMIT {SAMPLE_ROWS}) UNION ALL \
         (SELECT ctid, {x} FROM ONLY {table} ORDER BY {desc} LIMIT {SAMPLE_ROWS})) AS s) AS s) AS s",
        asc = keys.join(", "),
        desc = down.join(", "),
    ));
    sql.extend(trial.functions.iter().map(ddl::drop_function));
    sql.join(";\n")
}

async fn no_table(client: &Client, change: &ColumnChange) -> Result<Blocker, CatalogError> {
    let catalog = load(client).await?;
    let mut names: Vec<String> = catalog.relations().map(|relation| relation.name.to_string()).collect();
    names.sort();
    let elsewhere: Vec<&String> =
        names.iter().filter(|name| name.ends_with(&format!(".{}", change.table.name))).collect();
    let todo = match crate::migration::near::nearest(&change.table.to_string(), names.iter().map(String::as_str)) {
        _ if !elsewhere.is_empty() => format!("There is {}; write the schema too.", elsewhere[0]),
        Some(near) => format!("Did you mean {near}?"),
        None => "Look at the name, the schema, and the database that the connection string names.".to_owned(),
    };
    Ok(Blocker::new(
        "no_such_table",
        format!("there is no table {}", change.table),
        "The table must exist before the migration starts.",
        todo,
    ))
}

fn server_blockers(detail: &TableDetail) -> Option<Blocker> {
    (detail.server_version < SERVER_VERSION_MIN).then(|| {
        Blocker::new(
            "server_too_old",
            format!("the server is PostgreSQL {}", detail.server_version / 10_000),
            "PostgreSQL 13 is the oldest that is supported.",
            "Upgrade the server.",
        )
    })
}

/// Keys whose operators are an extension's: our session would not find them, and walk in another order than the index.
fn foreign_key_types(detail: &TableDetail) -> Vec<Blocker> {
    let keys = detail.relation.primary_key.iter().filter_map(|name| detail.relation.column(name));
    let foreign = keys.filter(|key| detail.column(&key.name).is_some_and(|column| column.foreign_type));
    foreign
        .map(|key| {
            Blocker::new(
                "key_type",
                format!("primary key column {:?} has the type {}", key.name.as_str(), key.type_sql),
                "Walking by a key of an extension's type is not built yet.",
                "Nothing can be done in this version.",
            )
        })
        .collect()
}

async fn not_owner(client: &Client, change: &ColumnChange) -> Result<Option<Blocker>, CatalogError> {
    let sql = "SELECT pg_has_role(current_user, c.relowner, 'USAGE'), pg_get_userbyid(c.relowner)::text \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
    let names = [change.table.schema.as_str(), change.table.name.as_str()];
    let row = client.query_one(sql, &[&names[0], &names[1]]).await.map_err(postgres("look for the owner"))?;
    let (may, owner): (bool, String) = (row.get(0), row.get(1));
    Ok((!may).then(|| {
        Blocker::new(
            "not_owner",
            format!("{} belongs to role {owner:?}", change.table),
            "Only its owner may add columns and triggers.",
            "Let crossfade connect as that role, or as one that is a member of it.",
        )
    }))
}

/// How a trigger function takes its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// Its columns one after the other.
    ByPlace,
    /// As one value.
    Whole,
}

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Taken::ByPlace => "the columns of its row by their places (NEW.*)",
            Taken::Whole => "its whole row as a value (NEW)",
        })
    }
}

/// How a trigger function's code takes NEW or OLD, if not column by column. `RETURN NEW`, assignments and comparisons of the
/// two are none of that. A row that goes to a dynamic statement is taken as that statement's text says.
fn rows_taken(code: &str) -> Option<Taken> {
    let text = code.as_bytes();
    let tokens: Vec<Token> = Lexer::new(text, true).significant().collect();
    let is = |at: usize, words: &[&str]| tokens.get(at).is_some_and(|t| words.iter().any(|word| t.is_word(text, word)));
    let mark = |at: usize, mark: u8| tokens.get(at).is_some_and(|token| token.is_mark(mark));
    let bytes = |at: usize| tokens.get(at).map_or(&b""[..], |token| token.bytes(text));
    let compares = |at: usize| [&b"="[..], b"<>", b"!="].contains(&bytes(at));
    let dynamic = || tokens.iter().any(|t| t.kind.is_text() && t.bytes(text).windows(2).any(|pair| pair == b".*"));
    let taken = (1..tokens.len()).filter(|at| is(*at, &["new", "old"])).filter_map(|at| {
        // `(NEW).*` is `NEW.*`.
        let bracketed = mark(at - 1, b'(') && mark(at + 1, b')') && mark(at + 2, b'.') && bytes(at + 3) == b"*";
        let starred = mark(at + 1, b'.') && bytes(at + 2) == b"*";
        let (first, last) = if bracketed { (at - 1, at + 3) } else { (at, if starred { at + 2 } else { at }) };
        let before = first.checked_sub(1)?;
        // `ROW(NEW.*)` and `(NEW.*)` are compared like `NEW.*`.
        let (mut outside, mut behind) = (before, last + 1);
        while mark(outside, b'(') && mark(behind, b')') && outside > 0 {
            (outside, behind) = (outside - 1, behind + 1);
            outside -= usize::from(is(outside, &["row"]) && outside > 0);
        }
        let of_comparison = is(behind, &["is"]) || compares(behind) || compares(outside);
        if of_comparison || (is(outside, &["from"]) && outside > 0 && is(outside - 1, &["distinct"])) {
            return None;
        }
        let alone = mark(before, b'(') && mark(last + 1, b')');
        let argument =
            alone && before > 0 && tokens[before - 1].kind.is_name() && !is(before - 1, &["values", "row", "in"]);
        match bracketed || starred {
            // `f(NEW.*)` is `f(NEW)`.
            true if argument => Some(Taken::Whole),
            true => Some(Taken::ByPlace),
            false if is(before, &["using"]) || (mark(before, b',') && !mark(last + 1, b'.')) => {
                Some(if dynamic() { Taken::ByPlace } else { Taken::Whole })
            }
            false => (mark(before, b'(') && (mark(last + 1, b')') || mark(last + 1, b','))).then_some(Taken::Whole),
        }
    });
    let taken: Vec<Taken> = taken.collect();
    taken.iter().copied().find(|taken| *taken == Taken::ByPlace).or(taken.first().copied())
}

/// Columns of the table's row type, or of arrays of it: their values change with the table, and nobody shows them in the
/// shape of a session.
async fn row_type_used(client: &Client, change: &ColumnChange) -> Result<Option<Blocker>, CatalogError> {
    let sql = "SELECT string_agg(format('%I.%I.%I', n.nspname, c.relname, a.attname), ', ' ORDER BY n.nspname, c.relname, a.attnum) \
               FROM (SELECT t.reltype FROM pg_class t JOIN pg_namespace s ON s.oid = t.relnamespace \
                     WHERE s.nspname = $1 AND t.relname = $2) t \
               JOIN pg_type u ON u.oid = t.reltype OR (u.typelem = t.reltype AND u.typlen = -1) OR u.typbasetype = t.reltype \
               JOIN pg_attribute a ON a.atttypid = u.oid AND a.attnum > 0 AND NOT a.attisdropped \
               JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') \
               JOIN pg_namespace n ON n.oid = c.relnamespace";
    let names = [change.table.schema.as_str(), change.table.name.as_str()];
    let row =
        client.query_one(sql, &[&names[0], &names[1]]).await.map_err(postgres("look for uses of the row type"))?;
    let columns: Option<String> = row.get(0);
    Ok(columns.map(|columns| {
        Blocker::new(
            "row_type_used",
            format!("whole rows of {} are values of {columns}", change.table),
            "They would have the columns that are stored, in both schemas: nothing turns them into a session's.",
            "Give that column a type of its own (CREATE TYPE), or drop it.",
        )
    }))
}

/// The copy updates rows by a statement that a rule on UPDATE would change.
async fn rules_on_update(client: &Client, change: &ColumnChange) -> Result<Option<Blocker>, CatalogError> {
    let fires = if may_silence_triggers(client).await? { "AR" } else { "AO" };
    let sql = "SELECT string_agg(r.rulename::text, ', ' ORDER BY r.rulename) FROM pg_rewrite r \
               WHERE r.ev_class = to_regclass($1) AND r.ev_type = '2' AND strpos($2, r.ev_enabled::text) > 0";
    let names = [&change.table.quoted(), fires];
    let row = client.query_one(sql, &[&names[0], &names[1]]).await.map_err(postgres("look for rules"))?;
    let rules: Option<String> = row.get(0);
    Ok(rules.map(|rules| {
        Blocker::new(
            "rule_on_update",
            format!("{} has rules on UPDATE: {rules}", change.table),
            "The copy could not update rows: PostgreSQL rewrites its statement by them.",
            "Grant the role SET on parameter session_replication_role (PostgreSQL 15 and up), or make triggers of them.",
        )
    }))
}

/// A table that a subscription fills: the publisher goes on sending the old column.
async fn subscribed(client: &Client, change: &ColumnChange) -> Result<Option<Warning>, CatalogError> {
    let sql = "SELECT EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = to_regclass($1))";
    let row = client.query_one(sql, &[&change.table.quoted()]).await.map_err(postgres("look for subscriptions"))?;
    Ok(row.get::<_, bool>(0).then(|| Warning {
        code: "subscribed",
        what: format!("a subscription fills {}", change.table),
        todo: "When the old column is gone its worker fails until the publisher's table has the new shape: change that one \
               before `crossfade complete`."
            .into(),
    }))
}

/// Of other roles' sessions PostgreSQL shows the snapshots to members of `pg_read_all_stats` only.
async fn sees_no_sessions(client: &Client) -> Result<Option<Warning>, CatalogError> {
    let sql = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'), current_user::text";
    let row = client.query_one(sql, &[]).await.map_err(postgres("look for the role's privileges"))?;
    let (sees, role): (bool, String) = (row.get(0), row.get(1));
    Ok((!sees).then(|| Warning {
        code: "sees_no_sessions",
        what: format!("role {role:?} cannot see what other roles' sessions do"),
        todo: "GRANT pg_monitor to it. Until then nobody waits for snapshots that are older than the copy: do not import one \
               (pg_export_snapshot, pg_dump --jobs) that was exported before the migration was verified."
            .into(),
    }))
}

/// PostgreSQL would not store the expression's value; its own words say why.
async fn refused_expression(
    client: &Client,
    direction: &str,
    expr: Option<&Expr>,
    error: tokio_postgres::Error,
) -> Result<Blocker, CatalogError> {
    let Some(db) = error.as_db_error() else {
        return Err(CatalogError::Postgres { context: "try the expressions", source: error });
    };
    let said = format!("PostgreSQL says: {}.", postgres_message(&error));
    Ok(match db.code().code() {
        "42P17" => {
            let names: Vec<String> = expr.iter().flat_map(|expr| expr.functions()).map(str::to_owned).collect();
            let mut guilty = volatility(client, &names).await?;
            guilty.retain(|(_, letter)| letter != "i");
            let which: Vec<String> = guilty.into_iter().map(|(name, _)| name).collect();
            Blocker::new(
                "not_immutable",
                format!("`{direction}` may give another value each time it is asked"),
                match which.as_slice() {
                    [] => said,
                    which => format!("Not immutable: {}. {said}", which.join(", ")),
                },
                "Use immutable functions, operators and casts only: the value must follow from the row alone.",
            )
        }
        "42804" => Blocker::new(
            "not_assignable",
            format!("the value of `{direction}` cannot be stored in the column"),
            said,
            format!("Give `{direction}` with a cast to the column's type."),
        ),
        "42501" => Blocker::new(
            "no_temporary_tables",
            "the role may not create temporary tables",
            format!("Expressions are tried on one. {said}"),
            "GRANT TEMPORARY ON DATABASE ... TO the role.",
        ),
        _ => Blocker::new(
            "expression",
            format!("`{direction}` does not work"),
            said,
            "Correct the expression. Names outside pg_catalog need their schema: clients have search paths of their own.",
        ),
    })
}
