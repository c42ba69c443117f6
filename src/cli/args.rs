//! The command line: commands, their arguments, and the texts of `--help`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::failure::Failure;
use crate::admin::remote::Remote;
use crate::app::Flags;
use crate::control::db::Upstream;
use crate::demo;
use crate::migration::{Phase, Shape};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: the database or the admin port said no, or did not answer
  2  usage: the command line, the configuration or the migration file is wrong; nothing was changed
  3  blocked: something must be solved first; nothing was changed

Every command but run and demo talks to the admin port of a running proxy (--admin, CROSSFADE_ADMIN;
--admin-token, CROSSFADE_ADMIN_TOKEN); check, plan and rewrite can ask the database itself
(--database, CROSSFADE_UPSTREAM).";

/// Changes the schema of a live PostgreSQL database, with no downtime and no change to the application.
#[derive(Debug, Parser)]
#[command(name = "crossfade", version, about, after_help = EXIT_CODES, max_term_width = 110)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What can be typed.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the proxy, its admin port and the sidecar.
    Run(Box<Run>),
    /// Say whether a migration is possible on this database, and what depends on the old column.
    Check(Review),
    /// Print every statement of every phase, the lock each takes, and what a rollback does.
    Plan(Review),
    /// Start a migration. It goes on by itself until it is verified; reads stay with the old column.
    Start(Start),
    /// Show migrations and proxies.
    Status(Status),
    /// Move the share of sessions that read from the new column, to any value at any time.
    Reads(Reads),
    /// Set the pace of the copy, in percent of what its throttle allows.
    Speed(Reads),
    /// Let the copy rest and the phases stand still. Writes still go to both columns.
    Pause(Named),
    /// Let a paused migration go on.
    Resume(Named),
    /// Take a migration back: the table is as it was, with every write made meanwhile.
    Rollback(Rollback),
    /// Complete a migration: drop the old column. This cannot be undone.
    Complete(Complete),
    /// Show who changed what, when, from where and why.
    Audit(Audit),
    /// Show what the proxy makes of SQL, and why.
    Rewrite(Rewrite),
    /// Say whether the admin port answers: exit code 0 if so.
    Health(Health),
    /// Rename a column of a throwaway database under a running application, and prove that nothing was lost.
    Demo(demo::Options),
}

impl Command {
    /// Whether the command prints JSON, its errors included.
    pub fn json(&self) -> bool {
        match self {
            Command::Run(_) | Command::Demo(_) => false,
            Command::Check(c) | Command::Plan(c) => c.print.json,
            Command::Start(c) => c.print.json,
            Command::Status(c) => c.print.json,
            Command::Reads(c) | Command::Speed(c) => c.print.json,
            Command::Pause(c) | Command::Resume(c) => c.print.json,
            Command::Rollback(c) => c.print.json,
            Command::Complete(c) => c.print.json,
            Command::Audit(c) => c.print.json,
            Command::Rewrite(c) => c.print.json,
            Command::Health(c) => c.print.json,
        }
    }
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Print {
    /// Print JSON, errors included, to standard output.
    #[arg(long)]
    pub json: bool,
}

/// Where the admin port is.
#[derive(Debug, Clone, Args)]
pub(super) struct Port {
    /// The admin port of a running proxy.
    #[arg(long, env = "CROSSFADE_ADMIN", default_value = "http://127.0.0.1:6433", value_name = "URL")]
    pub admin: String,
    /// Its token, where it wants one.
    #[arg(long, env = "CROSSFADE_ADMIN_TOKEN", hide_env_values = true, default_value = "", value_name = "TEXT")]
    pub admin_token: String,
}

/// Why something is changed.
#[derive(Debug, Clone, Args)]
pub(super) struct Reason {
    /// Why, for the audit log.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub why: String,
}

impl Port {
    /// The admin port, for commands that only read.
    pub fn remote(&self) -> Result<Remote, Failure> {
        let remote = Remote::parse(&self.admin).map_err(Failure::usage)?;
        Ok(if self.admin_token.is_empty() { remote } else { remote.with_token(&self.admin_token) })
    }

    /// The admin port, for commands that are audited.
    pub fn remote_for(&self, reason: &Reason) -> Result<Remote, Failure> {
        let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
        Ok(self.remote()?.with_actor(&user, &reason.why))
    }
}

/// `crossfade run`
#[derive(Debug, Args)]
pub(super) struct Run {
    /// A configuration file; config/crossfade.toml has every option at its default.
    #[arg(long, env = "CROSSFADE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub flags: Flags,
}

/// `crossfade check`, `crossfade plan`
#[derive(Debug, Args)]
pub(super) struct Review {
    /// The migration file; - for standard input.
    pub file: PathBuf,
    #[command(flatten)]
    pub database: Database,
    #[command(flatten)]
    pub port: Port,
    #[command(flatten)]
    pub print: Print,
}

/// A database to ask.
#[derive(Debug, Clone, Args)]
pub(super) struct Database {
    /// Ask this database itself rather than the admin port: postgres://owner@host:5432/database.
    #[arg(long, env = "CROSSFADE_UPSTREAM", hide_env_values = true, value_name = "URL")]
    pub database: Option<String>,
}

impl Database {
    /// The database, where one was named.
    pub fn upstream(&self) -> Result<Option<Upstream>, Failure> {
        let parse = |url: &String| {
            Upstream::parse(url).map_err(|why| Failure::usage(format!("--database is no connection string: {why}")))
        };
        self.database.as_ref().map(parse).transpose()
    }
}

/// `crossfade start`
#[derive(Debug, Args)]
pub(super) struct Start {
    /// The migration file; - for standard input.
    pub file: PathBuf,
    /// Wait until the migration is verified.
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub port: Port,
    #[command(flatten)]
    pub print: Print,
}

/// `crossfade status`
#[derive(Debug, Args)]
pub(super) struct Status {
    /// The migration; all of them when absent.
    pub name: Option<String>,
    /// Show each change until interrupted, or until the migration is at its end.
    #[arg(long)]
    pub watch: bool,
    #[command(flatten)]
    pub port: Port,
    #[command(flatten)]
    pub print: Print,
}

/// `crossfade reads`, `crossfade speed`
#[derive(Debug, Args)]
pub(super) struct Reads {
    /// The migration.
    pub name: String,
    /// 0 to 100.
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
    pub percent: u8,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub port: Port,
    #[command(flatten)]
    pub print: Print,
}

/// `crossfade pause`, `crossfade resume`
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The migration.
    pub name: String,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub port: Port,
    #[command(flatten)]
    pub print: Print,
}

/// `crossfade rollback`
#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The migration.
    pub name: String,
    /// Wait until the table is as it was.
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub port: Port,
    #[command(flatten)]
    pub print: Print,
}

/// `crossfade complete`
#[derive(Debug, Args)]
pub(super) struct Complete {
    /// The migration.
    pub name: String,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Wait until the old column is gone.
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub port: Port,
    #[command(flatten)]
    pub print: Print,
}

/// `crossfade audit`
#[derive(Debug, Args)]
pub(super) struct Audit {
    /// The migration; all of them when absent.
    pub name: Option<String>,
    /// The most lines.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub limit: u32,
    #[command(flatten)]
    pub port: Port,
    #[command(flatten)]
    pub print: Print,
}

/// `crossfade health`
#[derive(Debug, Args)]
pub(super) struct Health {
    /// Ask whether statements on tables under migration are served, not only whether the process is up.
    #[arg(long)]
    pub ready: bool,
    #[command(flatten)]
    pub port: Port,
    #[command(flatten)]
    pub print: Print,
}

/// Which phases `rewrite` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phases {
    /// Each phase in which something differs.
    All,
    /// This one.
    One(Phase),
}

/// `crossfade rewrite`
#[derive(Debug, Args)]
pub(super) struct Rewrite {
    /// The SQL, one statement or several; standard input when absent.
    pub sql: Option<String>,
    /// A migration file, or the name of a migration that was started; all that were started when absent.
    #[arg(long, value_name = "FILE|NAME")]
    pub migration: Option<String>,
    /// The phase: planned, shielded, expanded, dual_writing, backfilling, verified, ramping, soaking, contracting,
    /// contracted, rolling_back, rolled_back, or all. The present one when absent (of a file: all).
    #[arg(long, value_parser = phases)]
    pub phase: Option<Phases>,
    /// The storage that the transaction's reads are answered from while ramping: old or new; both when absent.
    #[arg(long, value_parser = route, value_name = "old|new")]
    pub route: Option<crate::migration::Route>,
    /// The schema that the session sees: old, new or auto.
    #[arg(long, default_value = "auto", value_parser = |text: &str| text.parse::<Shape>(), value_name = "SHAPE")]
    pub shape: Shape,
    #[command(flatten)]
    pub database: Database,
    #[command(flatten)]
    pub print: Print,
}

fn phases(text: &str) -> Result<Phases, String> {
    match text {
        "all" => Ok(Phases::All),
        name => name.parse().map(Phases::One).map_err(|error: String| format!("{error}, or all")),
    }
}

fn route(text: &str) -> Result<crate::migration::Route, String> {
    crate::migration::Route::ALL
        .into_iter()
        .find(|route| route.name() == text)
        .ok_or_else(|| format!("no route is named {text:?}; the routes are old, new"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
