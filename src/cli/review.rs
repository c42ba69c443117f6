//! `crossfade check` and `crossfade plan`: read a migration file, look at the database, change nothing.
//!
//! Asks the database itself where one was named, else the admin port.

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use super::args::Review;
use super::failure::Failure;
use super::{Exit, Outcome, say};
use crate::admin::Problem;
use crate::admin::remote::Body;
use crate::control::commands::Commands;
use crate::migration::MigrationSpec;

/// The longest migration file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Says whether the migration is possible, and what hangs on the column. Blocked when it is not.
pub(super) async fn check(check: Review) -> Outcome {
    let text = migration_file(&check.file)?;
    let report = match check.database.upstream()? {
        Some(upstream) => {
            let report = Commands::new(upstream).check(&text).await?;
            serde_json::to_value(report).map_err(|error| Failure::failed(Problem::new(error.to_string())))?
        }
        None => check.port.remote()?.post("/v1/check", Body::Toml(text)).await?,
    };
    say(&if check.print.json { report.to_string() } else { report_text(&report) });
    Ok(if report["possible"].as_bool() == Some(true) { Exit::Done } else { Exit::Blocked })
}

/// Prints the whole plan.
pub(super) async fn plan(plan: Review) -> Outcome {
    let text = migration_file(&plan.file)?;
    let printed = match plan.database.upstream()? {
        Some(upstream) => {
            let made = Commands::new(upstream).plan(&text).await?;
            match plan.print.json {
                true => serde_json::to_string(&made).map_err(|e| Failure::failed(Problem::new(e.to_string())))?,
                false => made.text(),
            }
        }
        None => {
            let remote = plan.port.remote()?;
            let made = remote.post("/v1/plan", Body::Toml(text)).await?;
            match plan.print.json {
                true => made["plan"].to_string(),
                false => made["text"].as_str().unwrap_or_default().to_owned(),
            }
        }
    };
    say(&printed);
    Ok(Exit::Done)
}

/// A migration file's text, once it has no mistakes of its own.
pub(super) fn migration_file(path: &Path) -> Result<String, Failure> {
    let (name, text) = read(path)?;
    MigrationSpec::from_toml(&text, &name).map_err(Failure::Mistakes)?;
    Ok(text)
}

/// A file's name and text; `-` is standard input.
pub(super) fn read(path: &Path) -> Result<(String, String), Failure> {
    let stdin = path.as_os_str() == "-";
    let name = if stdin { "standard input".to_owned() } else { path.display().to_string() };
    let mut text = String::new();
    let opened: std::io::Result<Box<dyn std::io::Read>> =
        if stdin { Ok(Box::new(std::io::stdin())) } else { std::fs::File::open(path).map(|f| Box::new(f) as _) };
    let read = opened.and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => {
            Err(Failure::usage(format!("{name} has more than {FILE_BYTES_MAX} bytes")))
        }
        Ok(_) => Ok((name, text)),
        Err(error) => Err(Failure::usage(format!("{name} cannot be read: {error}"))),
    }
}

fn report_text(report: &Value) -> String {
    let name = report["name"].as_str().unwrap_or_default();
    let list = |key: &str| report[key].as_array().cloned().unwrap_or_default();
    let (blockers, warnings, dependents) = (list("blockers"), list("warnings"), list("dependents"));
    let mut text = match blockers.len() {
        0 => format!("{name}: possible on this database\n"),
        1 => format!("{name}: not possible yet; 1 thing is in the way\n"),
        count => format!("{name}: not possible yet; {count} things are in the way\n"),
    };
    for blocker in &blockers {
        text.push_str(&item("blocked", blocker, &["why", "todo"]));
    }
    for warning in &warnings {
        text.push_str(&item("warning", warning, &["todo"]));
    }
    text.push_str("\nwhat depends on the old column, or names it:\n");
    for dependent in &dependents {
        let field = |name: &str| dependent[name].as_str().unwrap_or_default().to_owned();
        text.push_str(&format!("  {:<18} {}\n", field("kind").replace('_', " "), field("name")));
    }
    if dependents.is_empty() {
        text.push_str("  nothing\n");
    }
    text
}

fn item(kind: &str, value: &Value, more: &[&str]) -> String {
    let mut text = format!("\n{kind}: {}\n", value["what"].as_str().unwrap_or_default());
    for field in more {
        for line in value[field].as_str().unwrap_or_default().lines() {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text
}
