//! The commands that look at or move a migration, by way of the admin port.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::args::{Audit, Complete, Health, Named, Port, Print, Reads, Reason, Rollback, Start, Status};
use super::failure::Failure;
use super::review::migration_file;
use super::wait::{Goal, wait, watch};
use super::{Exit, Outcome, say, show};
use crate::admin::Problem;
use crate::admin::remote::{Body, CallError, Remote};
use crate::control::status::{MigrationStatus, Overview};
use crate::control::store::AuditEntry;

/// Starts a migration.
pub(super) async fn start(start: Start) -> Outcome {
    let text = migration_file(&start.file)?;
    let remote = start.port.remote_for(&start.reason)?;
    let answer = remote.post("/v1/migrations", Body::Toml(text)).await?;
    finish(&remote, answer, start.wait.then_some(Goal::Verified), start.print).await
}

/// Shows one migration, or everything.
pub(super) async fn status(status: Status) -> Outcome {
    let remote = status.port.remote()?;
    if status.watch {
        return watch(&remote, status.name.as_deref(), status.print.json).await;
    }
    let answer = remote.get(&status_path(status.name.as_deref())?).await?;
    say(&match (status.print.json, &status.name) {
        (true, _) => answer.to_string(),
        (false, Some(_)) => show::migration(&typed(answer)?),
        (false, None) => show::overview(&typed(answer)?),
    });
    Ok(Exit::Done)
}

/// Moves the share of reads.
pub(super) async fn reads(reads: Reads) -> Outcome {
    let body = Body::Json(json!({ "percent": reads.percent }));
    act(&reads.name, "reads", body, &reads.port, &reads.reason, reads.print).await
}

/// Sets the pace of the copy.
pub(super) async fn speed(speed: Reads) -> Outcome {
    let body = Body::Json(json!({ "percent": speed.percent }));
    act(&speed.name, "speed", body, &speed.port, &speed.reason, speed.print).await
}

/// Lets a migration rest.
pub(super) async fn pause(pause: Named) -> Outcome {
    act(&pause.name, "pause", Body::Empty, &pause.port, &pause.reason, pause.print).await
}

/// Lets it go on.
pub(super) async fn resume(resume: Named) -> Outcome {
    act(&resume.name, "resume", Body::Empty, &resume.port, &resume.reason, resume.print).await
}

/// Takes a migration back.
pub(super) async fn rollback(rollback: Rollback) -> Outcome {
    let remote = rollback.port.remote_for(&rollback.reason)?;
    let answer = remote.post(&path(&rollback.name, "rollback")?, Body::Empty).await?;
    finish(&remote, answer, rollback.wait.then_some(Goal::RolledBack), rollback.print).await
}

/// Drops the old column, once a person has said so.
pub(super) async fn complete(complete: Complete) -> Outcome {
    let remote = complete.port.remote_for(&complete.reason)?;
    if !complete.yes {
        confirm(&remote, &complete.name).await?;
    }
    let body = Body::Json(json!({ "confirm": true }));
    let answer = remote.post(&path(&complete.name, "complete")?, body).await?;
    finish(&remote, answer, complete.wait.then_some(Goal::Contracted), complete.print).await
}

/// Shows the audit log.
pub(super) async fn audit(audit: Audit) -> Outcome {
    let remote = audit.port.remote()?;
    let mut wanted = format!("/v1/audit?limit={}", audit.limit);
    if let Some(name) = &audit.name {
        wanted.push_str(&format!("&migration={}", checked(name)?));
    }
    let answer = remote.get(&wanted).await?;
    say(&if audit.print.json { answer.to_string() } else { show::audit(&typed::<Vec<AuditEntry>>(answer)?) });
    Ok(Exit::Done)
}

/// Says whether the admin port answers.
pub(super) async fn health(health: Health) -> Outcome {
    let wanted = if health.ready { "/readyz" } else { "/healthz" };
    let answer = health.port.remote()?.get(wanted).await?;
    say(&if health.print.json {
        answer.to_string()
    } else {
        answer["status"].as_str().unwrap_or("no status").to_owned()
    });
    Ok(Exit::Done)
}

async fn act(name: &str, action: &str, body: Body, port: &Port, reason: &Reason, print: Print) -> Outcome {
    let remote = port.remote_for(reason)?;
    let answer = remote.post(&path(name, action)?, body).await?;
    finish(&remote, answer, None, print).await
}

/// Prints what a command answered, or waits for its end first.
async fn finish(remote: &Remote, answer: Value, goal: Option<Goal>, print: Print) -> Outcome {
    let status: MigrationStatus = typed(answer)?;
    let status = match goal {
        Some(goal) => wait(remote, status, goal, print.json).await?,
        None => status,
    };
    say(&if print.json { to_json(&status) } else { show::migration(&status) });
    Ok(Exit::Done)
}

async fn confirm(remote: &Remote, name: &str) -> Result<(), Failure> {
    let mut out = std::io::stderr();
    if !std::io::stdin().is_terminal() || !out.is_terminal() {
        return Err(Failure::Problem(
            Exit::Usage,
            Problem::new("complete drops the old column, which cannot be undone; it asks first")
                .detail("There is no terminal to ask on.")
                .hint(format!("Say: crossfade complete {name} --yes")),
        ));
    }
    let status = load(remote, name).await?;
    let columns = status.old_columns.join(", ");
    let question = format!(
        "Completing {name} drops column {columns} of {} for ever; the old application goes on by way of the proxy.\n\
         There is no way back from it. Type the migration's name to go on: ",
        status.table
    );
    let _ = write!(out, "{question}");
    let _ = out.flush();
    let mut typed = String::new();
    let read = std::io::stdin().lock().read_line(&mut typed);
    match read {
        Ok(_) if typed.trim() == name => Ok(()),
        Ok(_) | Err(_) => Err(Failure::failed(Problem::new("not confirmed; nothing was changed"))),
    }
}

/// One migration's status.
pub(super) async fn load(remote: &Remote, name: &str) -> Result<MigrationStatus, Failure> {
    typed(remote.get(&status_path(Some(name))?).await?)
}

/// Everything, or one migration as a list of one.
pub(super) async fn load_all(remote: &Remote, name: Option<&str>) -> Result<Vec<MigrationStatus>, Failure> {
    match name {
        Some(name) => Ok(vec![load(remote, name).await?]),
        None => Ok(typed::<Overview>(remote.get(&status_path(None)?).await?)?.migrations),
    }
}

/// Whether a call may simply be made again: the proxy is not up, or its database is not.
pub(super) fn is_passing(error: &CallError) -> bool {
    match error {
        CallError::NoAnswer(_) => true,
        CallError::Refused { status, .. } => *status == 503,
    }
}

fn status_path(name: Option<&str>) -> Result<String, Failure> {
    Ok(match name {
        Some(name) => format!("/v1/migrations/{}", checked(name)?),
        None => "/v1/migrations".to_owned(),
    })
}

fn path(name: &str, action: &str) -> Result<String, Failure> {
    Ok(format!("/v1/migrations/{}/{action}", checked(name)?))
}

/// A name that can be no other part of a URL.
fn checked(name: &str) -> Result<&str, Failure> {
    crate::migration::MigrationName::new(name).map_err(Failure::usage)?;
    Ok(name)
}

pub(super) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| {
        Failure::failed(
            Problem::new("the admin port answered something else than a migration's status")
                .detail(error.to_string())
                .hint("Is it the admin port of a crossfade of this version?"),
        )
    })
}

/// A status as one line of JSON.
pub(super) fn to_json(status: &MigrationStatus) -> String {
    // A status has nothing that JSON does not.
    serde_json::to_string(status).unwrap_or_default()
}
