//! `crossfade rewrite`: what the proxy makes of a text in a phase, route and shape, and why.
//!
//! Asks the database for its catalog and for what unqualified names mean; sends the text nowhere. Phases that the
//! database is not in are shown over the columns that it would have in them.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::args::{Phases, Rewrite};
use super::failure::Failure;
use super::{Exit, Outcome, review, say};
use crate::admin::Problem;
use crate::catalog;
use crate::control::db::Session;
use crate::control::{Error, store};
use crate::migration::{
    ActiveMigration, Bucket, Epoch, LensColumn, MigrationSpec, OnUnsupported, Percent, Phase, Route, Rules,
};
use crate::schema::{Catalog, Column, Ident, Refusal, Relation};
use crate::sql::{self, Context, Explained, Names};

/// One combination that is shown.
struct Case {
    phase: Option<Phase>,
    route: Option<Route>,
    migrations: Vec<ActiveMigration>,
}

/// Prints what becomes of the text. Blocked when it is refused in any of the cases.
pub(super) async fn rewrite(rewrite: Rewrite) -> Outcome {
    let text = match &rewrite.sql {
        Some(sql) => sql.clone(),
        None => review::read(Path::new("-"))?.1,
    };
    let Some(upstream) = rewrite.database.upstream()? else {
        return Err(Failure::Problem(
            Exit::Usage,
            Problem::new("no database is named")
                .detail("What SQL becomes depends on the columns that its tables have.")
                .hint("Say --database postgres://owner@host:5432/database, or set CROSSFADE_UPSTREAM."),
        ));
    };
    let session = upstream.connect("crossfade rewrite").await?;
    let (migrations, from_file) = migrations(&session, rewrite.migration.as_deref()).await?;
    let stored = catalog::load(&session).await?;
    let names = names(&session).await?;
    let mut refused = false;
    let mut answers: Vec<Answer> = Vec::new();
    for case in cases(&rewrite, &migrations, from_file) {
        let rules = Rules::new(Epoch(1), &case.migrations, Arc::new(catalog_of(&stored, &case.migrations)));
        let context = Context {
            rules: &rules,
            names: &names,
            shape: rewrite.shape,
            bucket: Bucket::of(0),
            standard_conforming_strings: true,
        };
        let explained = sql::rewrite_explained(&text, &context);
        refused |= matches!(explained.rewrite, sql::Rewrite::Refused(_));
        let answer = Answer {
            title: title(&case),
            body: as_text(&text, &explained),
            json: as_json(&case, &rewrite, &text, &explained),
        };
        match answers.last_mut() {
            // Phases in which the same becomes of it are shown as one.
            Some(last) if last.body == answer.body && !rewrite.print.json => {
                last.title = format!("{}, {}", last.title, answer.title);
            }
            Some(_) | None => answers.push(answer),
        }
    }
    let shape = rewrite.shape.name();
    say(&if rewrite.print.json {
        Value::from_iter(answers.into_iter().map(|answer| answer.json)).to_string()
    } else {
        let shown = answers.iter().map(|answer| format!("-- {} (shape {shape}): {}", answer.title, answer.body));
        shown.collect::<Vec<_>>().join("\n\n")
    });
    Ok(if refused { Exit::Blocked } else { Exit::Done })
}

/// What becomes of the text in one case.
struct Answer {
    title: String,
    body: String,
    json: Value,
}

/// The migrations that the text is shown under, and whether they come from a file.
async fn migrations(session: &Session, wanted: Option<&str>) -> Result<(Vec<ActiveMigration>, bool), Failure> {
    if let Some(wanted) = wanted
        && (wanted.ends_with(".toml") || wanted == "-" || Path::new(wanted).exists())
    {
        let (name, text) = review::read(Path::new(wanted))?;
        let spec = MigrationSpec::from_toml(&text, &name).map_err(Failure::Mistakes)?;
        let found = catalog::preflight(session, &spec).await?;
        let Some(migration) = found.migration else {
            let message = format!("migration \"{}\" is not possible", spec.name);
            return Err(Error::Blocked { message, blockers: found.blockers }.into());
        };
        let on_unsupported = migration.on_unsupported;
        return Ok((vec![active(spec.name.as_str(), migration.lens, Phase::Planned, on_unsupported)], true));
    }
    if !store::exists(session.client()).await? {
        let missing = wanted.map_or(Ok((Vec::new(), false)), |name| Err(Error::NotFound(name.to_owned())));
        return Ok(missing?);
    }
    let rows = match wanted {
        Some(name) => vec![store::load(session.client(), name).await?],
        None => store::load_all(session.client()).await?,
    };
    let active = rows.into_iter().map(|row| ActiveMigration {
        name: row.name,
        phase: row.phase,
        reads: row.reads,
        on_unsupported: row.migration.on_unsupported,
        lens: row.migration.lens,
    });
    Ok((active.collect(), false))
}

fn active(name: &str, lens: crate::migration::Lens, phase: Phase, on_unsupported: OnUnsupported) -> ActiveMigration {
    ActiveMigration { name: name.to_owned(), lens, phase, reads: Percent::ZERO, on_unsupported }
}

/// What unqualified names mean in a session of this role that sets nothing.
async fn names(session: &Session) -> Result<Names, Failure> {
    session.batch_execute("RESET search_path").await.map_err(Error::from)?;
    let row = session
        .query_one("SELECT pg_catalog.current_schemas(true)::pg_catalog.text[]", &[])
        .await
        .map_err(Error::from)?;
    let path: Vec<String> = row.get(0);
    Ok(Names { path: path.iter().filter_map(|schema| Ident::new(schema).ok()).collect(), temporary: Vec::new() })
}

fn cases(rewrite: &Rewrite, migrations: &[ActiveMigration], from_file: bool) -> Vec<Case> {
    let wanted = match (rewrite.phase, from_file) {
        (Some(Phases::One(phase)), _) => vec![phase],
        (Some(Phases::All), _) | (None, true) => Phase::ALL.to_vec(),
        (None, false) => {
            return vec![Case { phase: None, route: None, migrations: migrations.to_vec() }];
        }
    };
    let routes = |phase: Phase| match (phase, rewrite.route) {
        (Phase::Ramping, None) => Route::ALL.iter().copied().map(Some).collect(),
        (Phase::Ramping, Some(route)) => vec![Some(route)],
        (_, _) => vec![None],
    };
    let case = |(phase, route): (Phase, Option<Route>)| Case {
        phase: Some(phase),
        route,
        migrations: migrations
            .iter()
            .cloned()
            .map(|migration| ActiveMigration { phase, reads: share(phase, route), ..migration })
            .collect(),
    };
    wanted.into_iter().flat_map(|phase| routes(phase).into_iter().map(move |route| (phase, route))).map(case).collect()
}

fn share(phase: Phase, route: Option<Route>) -> Percent {
    match (phase, route) {
        (Phase::Ramping, Some(Route::New)) => Percent::ALL,
        (_, _) => Percent::ZERO,
    }
}

/// The catalog with the columns that the tables have in those phases.
fn catalog_of(stored: &Catalog, migrations: &[ActiveMigration]) -> Catalog {
    let shaped = |relation: &Arc<Relation>| {
        let mut shaped = Relation::clone(relation);
        for migration in migrations.iter().filter(|migration| migration.lens.table == relation.name) {
            let (old, new) = stores(migration.phase);
            let contracted = migration.phase == Phase::Contracted;
            shape(&mut shaped, &migration.lens.old, LensColumn::stored, old);
            let gone = |column: &LensColumn| column.stored().clone();
            shape(&mut shaped, &migration.lens.new, if contracted { |c| &c.name } else { LensColumn::stored }, new);
            if contracted {
                let storages: Vec<Ident> = migration.lens.new.iter().filter(|c| c.stored.is_some()).map(gone).collect();
                shaped.columns.retain(|column| !storages.contains(&column.name));
            }
        }
        shaped
    };
    Catalog::new(stored.relations().map(shaped))
        .with_system(stored.system_relations().map(|r| Relation::clone(r)))
        .with_row_functions(stored.row_functions().to_vec())
}

/// Whether the old columns and the new ones exist in a phase.
fn stores(phase: Phase) -> (bool, bool) {
    match phase {
        Phase::Planned | Phase::Shielded | Phase::RolledBack => (true, false),
        Phase::Expanded
        | Phase::DualWriting
        | Phase::Backfilling
        | Phase::Verified
        | Phase::Ramping
        | Phase::Soaking
        | Phase::Contracting
        | Phase::RollingBack => (true, true),
        Phase::Contracted => (false, true),
    }
}

fn shape(relation: &mut Relation, columns: &[LensColumn], storage: fn(&LensColumn) -> &Ident, exist: bool) {
    for column in columns {
        let stored = storage(column);
        let there = relation.column(stored).is_some();
        match (there, exist) {
            (true, false) => relation.columns.retain(|c| &c.name != stored),
            (false, true) => {
                let number = relation.columns.iter().map(|c| c.number).max().unwrap_or(0).saturating_add(1);
                relation.columns.push(Column {
                    name: stored.clone(),
                    number,
                    type_sql: column.type_sql.clone(),
                    base_type_sql: column.base_type_sql.clone(),
                    not_null: false,
                    default: None,
                    generated: false,
                    identity: false,
                });
            }
            (true, true) | (false, false) => {}
        }
    }
}

fn title(case: &Case) -> String {
    let phases: Vec<String> = match case.phase {
        Some(phase) => vec![phase.to_string()],
        None => case.migrations.iter().map(|m| format!("{} {}", m.name, m.phase)).collect(),
    };
    let phases = if phases.is_empty() { "no migration".to_owned() } else { phases.join(", ") };
    let route = case.route.map(|route| format!(" with reads from {} storage", route.name())).unwrap_or_default();
    format!("{phases}{route}")
}

fn as_text(text: &str, explained: &Explained) -> String {
    let mut lines = match &explained.rewrite {
        sql::Rewrite::Unchanged => vec!["passes as it is".to_owned(), text.trim_end().to_owned()],
        sql::Rewrite::Rewritten(edits) => {
            let mut lines = vec!["rewritten".to_owned(), edits.apply(text).trim_end().to_owned()];
            lines.extend(edits.warnings().iter().map(|warning| format!("-- warning: {warning}")));
            lines
        }
        sql::Rewrite::Refused(refusal) => {
            let place = refusal.offset.map(|offset| format!(" at {}", place(text, offset))).unwrap_or_default();
            let mut lines = vec![format!("refused{place}")];
            lines.extend(refusal.to_string().lines().map(|line| format!("-- {line}")));
            lines
        }
    };
    lines.extend(explained.reasons.iter().map(|reason| format!("--   why: {reason}")));
    lines.join("\n")
}

fn as_json(case: &Case, rewrite: &Rewrite, text: &str, explained: &Explained) -> Value {
    let mut answer = json!({
        "migrations": case.migrations.iter()
            .map(|m| json!({ "name": m.name, "phase": m.phase, "reads": m.reads.value() })).collect::<Vec<_>>(),
        "phase": case.phase,
        "route": case.route.map(Route::name),
        "shape": rewrite.shape.name(),
        "reasons": explained.reasons,
    });
    let (outcome, more) = match &explained.rewrite {
        sql::Rewrite::Unchanged => ("unchanged", json!({ "sql": text })),
        sql::Rewrite::Rewritten(edits) => {
            ("rewritten", json!({ "sql": edits.apply(text), "warnings": edits.warnings() }))
        }
        sql::Rewrite::Refused(refusal) => ("refused", json!({ "error": refused(refusal) })),
    };
    answer["outcome"] = outcome.into();
    if let (Value::Object(answer), Value::Object(more)) = (&mut answer, more) {
        answer.extend(more);
    }
    answer
}

fn refused(refusal: &Refusal) -> Value {
    json!({
        "sqlstate": refusal.state.0,
        "message": refusal.message,
        "detail": refusal.detail,
        "hint": refusal.hint,
        "offset": refusal.offset,
    })
}

fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {}, column {column}", before.matches('\n').count() + 1)
}
