//! `--wait` and `--watch`: looks at a migration until it is where it shall be, with a bar or with lines.
//!
//! A proxy that restarts meanwhile is waited for.

use std::collections::HashMap;
use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::failure::Failure;
use super::operate::{is_passing, load_all, to_json};
use super::{Exit, Outcome, say, show};
use crate::admin::Problem;
use crate::admin::remote::Remote;
use crate::control::status::MigrationStatus;
use crate::migration::Phase;

/// How often the status is looked at.
const POLL: Duration = Duration::from_millis(250);

/// How often a line is printed while only the number of rows changes.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How long a proxy may be away before waiting ends.
const AWAY_MAX: Duration = Duration::from_secs(30);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// Old and new agree; reads may move.
    Verified,
    /// The old column is gone.
    Contracted,
    /// The table is as it was.
    RolledBack,
}

impl Goal {
    /// Whether the goal is reached (`Ok(true)`), may still be, or cannot be any more.
    fn judge(self, status: &MigrationStatus) -> Result<bool, Failure> {
        let past_verified = matches!(
            status.phase,
            Phase::Verified | Phase::Ramping | Phase::Soaking | Phase::Contracting | Phase::Contracted
        );
        match (self, status.phase) {
            (Goal::Verified, _) if past_verified => Ok(true),
            (Goal::Contracted, Phase::Contracted) | (Goal::RolledBack, Phase::RolledBack) => Ok(true),
            (_, phase) if phase.is_final() => Err(elsewhere(status)),
            (Goal::Verified | Goal::Contracted, Phase::RollingBack) => Err(elsewhere(status)),
            (Goal::Verified, _) if status.backfill.done && status.quarantine.rows > 0 => Err(quarantined(status)),
            (Goal::Verified | Goal::Contracted | Goal::RolledBack, _) => Ok(false),
        }
    }
}

fn elsewhere(status: &MigrationStatus) -> Failure {
    Failure::failed(
        Problem::new(format!("migration \"{}\" is {}", status.name, status.phase))
            .detail("Somebody asked for another end in the meantime.")
            .hint(format!("Look who: crossfade audit {}", status.name)),
    )
}

fn quarantined(status: &MigrationStatus) -> Failure {
    let rows: Vec<String> =
        status.quarantine.sample.iter().map(|row| format!("row {}: {}", row.key, row.error)).collect();
    Failure::blocked(
        Problem::new(format!("{} rows do not fit the new column", status.quarantine.rows))
            .detail(rows.join("\n"))
            .hint(format!(
                "Correct them, and it goes on by itself; or take it back: crossfade rollback {}",
                status.name
            )),
    )
}

/// Waits until the goal is reached.
pub(super) async fn wait(
    remote: &Remote,
    mut status: MigrationStatus,
    goal: Goal,
    json: bool,
) -> Result<MigrationStatus, Failure> {
    let mut display = Display::new(json);
    loop {
        display.show(&status);
        let judged = goal.judge(&status);
        if !matches!(judged, Ok(false)) {
            display.end();
            return judged.map(|_| status);
        }
        tokio::time::sleep(POLL).await;
        if let Some(next) = look(remote, Some(&status.name)).await?.pop() {
            status = next;
        }
    }
}

/// Shows every change until all that is watched is at its end.
pub(super) async fn watch(remote: &Remote, name: Option<&str>, json: bool) -> Outcome {
    let mut shown: HashMap<String, Shown> = HashMap::new();
    loop {
        let all = look(remote, name).await?;
        for status in &all {
            if shown.entry(status.name.clone()).or_default().is_due(status) {
                say(&if json { to_json(status) } else { show::line(status) });
            }
        }
        if all.iter().all(|status| status.phase.is_final()) && !all.is_empty() {
            return Ok(Exit::Done);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What was last shown of a migration.
#[derive(Debug, Default)]
struct Shown {
    gist: String,
    line: String,
    at: Option<Instant>,
}

impl Shown {
    /// Whether there is something new to show: at once where it matters, now and then where only rows were counted.
    fn is_due(&mut self, status: &MigrationStatus) -> bool {
        let gist = format!("{} {} {} {}", status.phase, status.reads, status.backfill.done, show::note(status));
        let line = show::line(status);
        let due = gist != self.gist || (line != self.line && self.at.is_none_or(|at| at.elapsed() >= LINE_EVERY));
        if due {
            *self = Shown { gist, line, at: Some(Instant::now()) };
        }
        due
    }
}

/// One look, over a restart of the proxy.
async fn look(remote: &Remote, name: Option<&str>) -> Result<Vec<MigrationStatus>, Failure> {
    let began = Instant::now();
    while let Err(error) = remote.text("/healthz").await {
        if !is_passing(&error) || began.elapsed() > AWAY_MAX {
            return Err(error.into());
        }
        tokio::time::sleep(POLL).await;
    }
    load_all(remote, name).await
}

/// A bar on a terminal, lines elsewhere, nothing beside JSON.
struct Display {
    bar: Option<ProgressBar>,
    lines: bool,
    shown: Shown,
}

impl Display {
    fn new(json: bool) -> Display {
        let terminal = stderr().is_terminal() && !json;
        let bar = terminal.then(|| {
            let style = ProgressStyle::with_template("{prefix:<14} [{bar:40}] {percent:>3} %  {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(100).with_style(style.progress_chars("=> "))
        });
        Display { bar, lines: !terminal && !json, shown: Shown::default() }
    }

    fn show(&mut self, status: &MigrationStatus) {
        if let Some(bar) = &self.bar {
            bar.set_prefix(status.phase.name());
            bar.set_length(status.backfill.rows_total.unsigned_abs().max(1));
            bar.set_position(status.backfill.rows_done.unsigned_abs());
            bar.set_message(show::note(status));
        }
        if self.lines && self.shown.is_due(status) {
            eprintln!("{}", show::line(status));
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
