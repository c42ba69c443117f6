//! The migrations themselves, and the epochs.

use time::OffsetDateTime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{GenericClient, Row};

use super::audit::{Actor, note};
use super::holds::{END_OF_HOLD, Holds};
use crate::control::Error;
use crate::migration::{Blocker, Epoch, Migration, Percent, Phase};
use crate::schema::QualifiedName;

/// What an operator asked for that takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// `complete`: drop the old column.
    Contracted,
    /// `rollback`: drop the new one.
    RolledBack,
}

impl Target {
    /// As the table has it.
    pub fn name(self) -> &'static str {
        match self {
            Target::Contracted => "contracted",
            Target::RolledBack => "rolled_back",
        }
    }

    fn parse(text: &str) -> Result<Target, Error> {
        match text {
            "contracted" => Ok(Target::Contracted),
            "rolled_back" => Ok(Target::RolledBack),
            other => Err(Error::Record(format!("A migration's target is {other:?}."))),
        }
    }
}

/// One migration as the store has it.
#[derive(Debug, Clone)]
pub struct MigrationRow {
    /// Its name.
    pub name: String,
    /// The file's text.
    pub spec: String,
    /// What was derived from it at the start.
    pub migration: Migration,
    /// Where it is.
    pub phase: Phase,
    /// The share of sessions that reads from new storage.
    pub reads: Percent,
    /// The epoch of its latest change.
    pub epoch: Epoch,
    /// Whether that epoch is held, and what holds there were.
    pub holds: Holds,
    /// Whether the sidecar rests.
    pub paused: bool,
    /// The pace of the copy, 1 to 100 percent of what the throttle allows.
    pub speed: u8,
    /// What was asked for and is not done yet.
    pub target: Option<Target>,
    /// The transaction number from which on every transaction knows that misfits are refused.
    pub strict_since: Option<i64>,
    /// What the coordinator waits for.
    pub waiting: Option<String>,
    /// What went wrong last, until it goes right.
    pub error: Option<String>,
    /// Since when it is known.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// A migration that is about to be recorded.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// The file's text.
    pub spec: &'a str,
    /// What was derived from it.
    pub migration: &'a Migration,
}

impl MigrationRow {
    /// An epoch in which nothing of the migration changes.
    pub(super) fn stays(&self) -> Move<'_> {
        Move { name: &self.name, from: self.phase, to: self.phase, reads: self.reads }
    }
}

/// A change of phase or of the reads flag.
#[derive(Debug, Clone, Copy)]
pub struct Move<'a> {
    /// The migration.
    pub name: &'a str,
    /// The phase that the caller believes it is in.
    pub from: Phase,
    /// The phase it goes to.
    pub to: Phase,
    /// The share of reads from then on.
    pub reads: Percent,
}

/// A setting that changes no rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Whether the sidecar rests.
    Paused(bool),
    /// The pace of the copy in percent.
    Speed(u8),
}

const COLUMNS: &str = "name, spec, lens, phase, reads, epoch, paused, speed, target, strict_since, waiting, error, \
    held_since IS NOT NULL AS held, holds, hold_last_ms, hold_longest_ms, created_at, updated_at";

fn read(row: &Row) -> Result<MigrationRow, Error> {
    let name: String = row.get("name");
    let wrong = |what: &str, why: String| Error::Record(format!("The {what} of migration \"{name}\": {why}."));
    let target: Option<&str> = row.get("target");
    Ok(MigrationRow {
        migration: serde_json::from_value(row.get("lens")).map_err(|error| wrong("lens", error.to_string()))?,
        phase: row.get::<_, &str>("phase").parse().map_err(|error| wrong("phase", error))?,
        reads: percent(row.get("reads")).ok_or_else(|| wrong("reads", "not a percentage".to_owned()))?,
        epoch: Epoch(row.get::<_, i64>("epoch") as u64),
        holds: Holds {
            now: row.get("held"),
            ended: row.get("holds"),
            last_ms: row.get("hold_last_ms"),
            longest_ms: row.get("hold_longest_ms"),
        },
        paused: row.get("paused"),
        speed: row.get::<_, i16>("speed").clamp(1, 100) as u8,
        target: target.map(Target::parse).transpose()?,
        strict_since: row.get("strict_since"),
        spec: row.get("spec"),
        waiting: row.get("waiting"),
        error: row.get("error"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
        name,
    })
}

fn percent(value: i16) -> Option<Percent> {
    u8::try_from(value).ok().and_then(Percent::new)
}

/// All migrations, oldest first.
pub async fn load_all(client: &impl GenericClient) -> Result<Vec<MigrationRow>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM crossfade.migrations ORDER BY created_at, name");
    client.query(&sql, &[]).await?.iter().map(read).collect()
}

/// The names of those that are not at their end.
pub async fn unfinished(client: &impl GenericClient) -> Result<Vec<String>, Error> {
    let sql = "SELECT name FROM crossfade.migrations WHERE phase NOT IN ('contracted', 'rolled_back') ORDER BY name";
    Ok(client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// One migration.
pub async fn load(client: &impl GenericClient, name: &str) -> Result<MigrationRow, Error> {
    let sql = format!("SELECT {COLUMNS} FROM crossfade.migrations WHERE name = $1");
    let row = client.query_opt(&sql, &[&name]).await?;
    read(&row.ok_or_else(|| Error::NotFound(name.to_owned()))?)
}

/// The same, and nobody else changes it until the caller's transaction ends.
pub async fn lock(client: &impl GenericClient, name: &str) -> Result<MigrationRow, Error> {
    let sql = format!("SELECT {COLUMNS} FROM crossfade.migrations WHERE name = $1 FOR NO KEY UPDATE");
    let row = client.query_opt(&sql, &[&name]).await?;
    read(&row.ok_or_else(|| Error::NotFound(name.to_owned()))?)
}

/// The newest epoch; 0 before the first change.
pub async fn current_epoch(client: &impl GenericClient) -> Result<Epoch, Error> {
    let row = client.query_one("SELECT coalesce(max(epoch), 0) FROM crossfade.epochs", &[]).await?;
    Ok(Epoch(row.get::<_, i64>(0) as u64))
}

/// The newest epoch and how many migrations there are: what changes when the rules do, be it by hand.
pub async fn rules_version(client: &impl GenericClient) -> Result<(Epoch, i64), Error> {
    let sql = "SELECT coalesce((SELECT max(epoch) FROM crossfade.epochs), 0), count(*) FROM crossfade.migrations
                WHERE phase <> 'rolled_back'";
    let row = client.query_one(sql, &[]).await?;
    Ok((Epoch(row.get::<_, i64>(0) as u64), row.get(1)))
}

/// Records a migration in phase planned, in the caller's transaction. One of the same name that was rolled back makes
/// room; a table that another migration owns is a conflict.
pub async fn insert(client: &impl GenericClient, draft: Draft<'_>, actor: &Actor) -> Result<(), Error> {
    let name = draft.migration.name.as_str();
    let table = &draft.migration.lens.table;
    client.execute("DELETE FROM crossfade.migrations WHERE name = $1 AND phase = 'rolled_back'", &[&name]).await?;
    client.execute("DELETE FROM crossfade.quarantine WHERE migration = $1", &[&name]).await?;
    let lens = serde_json::to_value(draft.migration).map_err(|error| Error::Record(error.to_string()))?;
    let inserted = client
        .execute(
            "INSERT INTO crossfade.migrations (name, spec, lens, table_schema, table_name, phase)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            &[&name, &draft.spec, &lens, &table.schema.as_str(), &table.name.as_str(), &Phase::Planned.name()],
        )
        .await?;
    if inserted == 0 {
        let (message, conflict) = (format!("migration \"{name}\" cannot start"), rival(client, name, table).await?);
        return Err(match conflict {
            Some(blocker) => Error::Blocked { message, blockers: vec![blocker] },
            None => Error::conflict(message, "Another one was in the way a moment ago.", "Try again."),
        });
    }
    client.execute("INSERT INTO crossfade.progress (migration) VALUES ($1)", &[&name]).await?;
    note(client, actor, Some(name), "start", serde_json::json!({ "table": table.to_string() })).await?;
    announce(client).await
}

/// The migration that has that name or that table already, as what is in the way of another one.
pub async fn rival(client: &impl GenericClient, name: &str, table: &QualifiedName) -> Result<Option<Blocker>, Error> {
    let row = client
        .query_opt(
            "SELECT name, phase FROM crossfade.migrations
              WHERE phase <> 'rolled_back' AND (name = $1 OR (table_schema = $2 AND table_name = $3))
              ORDER BY name = $1 DESC LIMIT 1",
            &[&name, &table.schema.as_str(), &table.name.as_str()],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let (other, phase): (String, String) = (row.get(0), row.get(1));
    if other == name {
        return Ok(Some(Blocker::new(
            "name_in_use",
            format!("a migration named \"{name}\" exists already"),
            format!("It is in phase {phase}."),
            format!("Look at it with: crossfade status {name}. Give the new one another name."),
        )));
    }
    let why = match phase.as_str() {
        "contracted" => format!("Migration \"{other}\" is contracted, and serves the old shape of the table for ever."),
        _ => format!("Migration \"{other}\" is in phase {phase}."),
    };
    Ok(Some(Blocker::new(
        "table_in_use",
        format!("table {table} has a migration already"),
        why,
        "One table has one migration at a time: complete or roll back the other one first. A second migration of a \
         table whose first one is contracted is not supported yet.",
    )))
}

/// Moves a migration to another phase or share of reads, in the caller's transaction, if it still is where the caller
/// believes. Makes the epoch, the audit line and the announcement.
pub async fn advance(client: &impl GenericClient, step: Move<'_>, actor: &Actor) -> Result<Epoch, Error> {
    let row = client
        .query_opt(
            "SELECT phase, reads, held_since IS NOT NULL FROM crossfade.migrations WHERE name = $1 FOR NO KEY UPDATE",
            &[&step.name],
        )
        .await?
        .ok_or_else(|| Error::NotFound(step.name.to_owned()))?;
    let (phase, reads, held): (String, i16, bool) = (row.get(0), row.get(1), row.get(2));
    if phase != step.from.name() {
        return Err(Error::conflict(
            format!("migration \"{}\" is in phase {phase}, no longer in {}", step.name, step.from),
            "Another process or person moved it in the meantime.",
            format!("Look at it with: crossfade status {}", step.name),
        ));
    }
    // Epochs are numbered in the order in which they commit: whoever sees one has seen all before it.
    client.batch_execute("LOCK TABLE crossfade.epochs IN SHARE ROW EXCLUSIVE MODE").await?;
    let why = if actor.why.is_empty() { actor.who.as_str() } else { actor.why.as_str() };
    let epoch = new_epoch(client, step, why, false).await?;
    let new_reads = i16::from(step.reads.value());
    let sql = format!(
        "UPDATE crossfade.migrations SET phase = $2, reads = $3, epoch = $4, waiting = NULL, error = NULL, {END_OF_HOLD},
                target = CASE WHEN target = $2 OR $2 IN ('contracted', 'rolled_back') THEN NULL ELSE target END,
                updated_at = clock_timestamp() WHERE name = $1 RETURNING hold_last_ms"
    );
    let values: [&(dyn ToSql + Sync); 4] = [&step.name, &step.to.name(), &new_reads, &(epoch.0 as i64)];
    let held_ms: Option<i64> = Some(client.query_one(&sql, &values).await?.get(0)).filter(|_| held);
    let what = if step.from == step.to { "reads" } else { "phase" };
    let detail = serde_json::json!({
        "epoch": epoch.0, "from": step.from.name(), "to": step.to.name(), "reads_from": reads, "reads": new_reads,
        "held_ms": held_ms,
    });
    note(client, actor, Some(step.name), what, detail).await?;
    announce(client).await?;
    Ok(epoch)
}

/// Makes the next epoch, in the caller's transaction, which has locked out everybody else who makes one.
pub(super) async fn new_epoch(
    client: &impl GenericClient,
    step: Move<'_>,
    why: &str,
    held: bool,
) -> Result<Epoch, Error> {
    let reads = i16::from(step.reads.value());
    let row = client
        .query_one(
            "INSERT INTO crossfade.epochs (epoch, migration, from_phase, to_phase, reads, why, held)
             SELECT coalesce(max(epoch), 0) + 1, $1, $2, $3, $4, $5, $6 FROM crossfade.epochs RETURNING epoch",
            &[&step.name, &step.from.name(), &step.to.name(), &reads, &why, &held],
        )
        .await?;
    Ok(Epoch(row.get::<_, i64>(0) as u64))
}

/// Changes a setting, in the caller's transaction.
pub async fn set(client: &impl GenericClient, name: &str, setting: Setting, actor: &Actor) -> Result<(), Error> {
    let (what, changed) = match setting {
        Setting::Paused(paused) => (
            if paused { "pause" } else { "resume" },
            client
                .execute(
                    "UPDATE crossfade.migrations SET paused = $2, updated_at = clock_timestamp() WHERE name = $1",
                    &[&name, &paused],
                )
                .await?,
        ),
        Setting::Speed(percent) => (
            "speed",
            client
                .execute(
                    "UPDATE crossfade.migrations SET speed = $2, updated_at = clock_timestamp() WHERE name = $1",
                    &[&name, &i16::from(percent)],
                )
                .await?,
        ),
    };
    if changed == 0 {
        return Err(Error::NotFound(name.to_owned()));
    }
    let detail = match setting {
        Setting::Paused(_) => serde_json::json!({}),
        Setting::Speed(percent) => serde_json::json!({ "percent": percent }),
    };
    note(client, actor, Some(name), what, detail).await?;
    announce(client).await
}

/// Records what was asked for, in the caller's transaction, if the migration is still in the phase that was judged.
/// The way back is open from wherever it is.
pub async fn set_target(
    client: &impl GenericClient,
    name: &str,
    judged_in: Phase,
    target: Target,
    actor: &Actor,
) -> Result<(), Error> {
    // A rollback overrides a completion that was asked for before; nothing overrides a rollback.
    let changed = client
        .execute(
            "UPDATE crossfade.migrations SET target = $3, error = NULL, updated_at = clock_timestamp()
              WHERE name = $1 AND CASE $3 WHEN 'rolled_back' THEN phase NOT IN ('contracted', 'rolled_back')
                                  ELSE phase = $2 AND (target IS NULL OR target = $3) END",
            &[&name, &judged_in.name(), &target.name()],
        )
        .await?;
    if changed == 0 {
        return Err(Error::conflict(
            format!("migration \"{name}\" changed in the meantime"),
            format!("It was judged in phase {judged_in}, or another request came first."),
            format!("Look at it with: crossfade status {name}"),
        ));
    }
    let what = match target {
        Target::Contracted => "complete",
        Target::RolledBack => "rollback",
    };
    note(client, actor, Some(name), what, serde_json::json!({ "phase": judged_in.name() })).await?;
    announce(client).await
}

/// Forgets what was asked for.
pub async fn clear_target(client: &impl GenericClient, name: &str) -> Result<(), Error> {
    client.execute("UPDATE crossfade.migrations SET target = NULL WHERE name = $1", &[&name]).await?;
    Ok(())
}

/// Says what the coordinator waits for.
pub async fn set_waiting(client: &impl GenericClient, name: &str, waiting: Option<&str>) -> Result<(), Error> {
    client
        .execute(
            "UPDATE crossfade.migrations SET waiting = $2 WHERE name = $1 AND waiting IS DISTINCT FROM $2",
            &[&name, &waiting],
        )
        .await?;
    Ok(())
}

/// Says what went wrong (once in the audit log for each new error), or that it goes right again.
pub async fn set_error(client: &impl GenericClient, name: &str, error: Option<&str>) -> Result<(), Error> {
    let changed = client
        .execute(
            "UPDATE crossfade.migrations SET error = $2, updated_at = clock_timestamp()
              WHERE name = $1 AND error IS DISTINCT FROM $2",
            &[&name, &error],
        )
        .await?;
    match error {
        Some(error) if changed > 0 => {
            note(client, &Actor::coordinator(error), Some(name), "error", serde_json::json!({})).await
        }
        Some(_) | None => Ok(()),
    }
}

/// Remembers since which transaction number misfits are refused.
pub async fn set_strict(client: &impl GenericClient, name: &str, since: Option<i64>) -> Result<(), Error> {
    client.execute("UPDATE crossfade.migrations SET strict_since = $2 WHERE name = $1", &[&name, &since]).await?;
    Ok(())
}

/// Tells every process that something changed.
pub(super) async fn announce(client: &impl GenericClient) -> Result<(), Error> {
    client.execute("SELECT pg_notify($1, '')", &[&super::CHANNEL]).await?;
    Ok(())
}
