//! What a person types: reads the command line, calls the room that does the work, prints what it says.
//!
//! Decides nothing about a migration. Standard output carries what was asked for, standard error everything else.

mod args;
mod failure;
mod mistakes;
mod operate;
mod review;
mod rewrite;
mod serve;
mod show;
mod wait;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command};
use failure::Failure;

/// How a command ended, as a script sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// It was typed or written wrongly, a file included.
    Usage = 2,
    /// Something must be solved first.
    Blocked = 3,
}

type Outcome = Result<Exit, Failure>;

/// Runs the program with the arguments and the environment of this process.
pub fn main() -> ExitCode {
    // Exits by itself on --help (0) and on usage errors (2).
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: start the runtime: {error}");
            return ExitCode::from(Exit::Failed as u8);
        }
    };
    let code = runtime.block_on(dispatch(cli.command));
    // Whoever is cut is not waited for: a proxy thread may still be in its grace.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn dispatch(command: Command) -> u8 {
    let json = command.json();
    let outcome = match command {
        Command::Run(run) => serve::run(run).await,
        Command::Check(check) => review::check(check).await,
        Command::Plan(plan) => review::plan(plan).await,
        Command::Start(start) => operate::start(start).await,
        Command::Status(status) => operate::status(status).await,
        Command::Reads(reads) => operate::reads(reads).await,
        Command::Speed(speed) => operate::speed(speed).await,
        Command::Pause(pause) => operate::pause(pause).await,
        Command::Resume(resume) => operate::resume(resume).await,
        Command::Rollback(rollback) => operate::rollback(rollback).await,
        Command::Complete(complete) => operate::complete(complete).await,
        Command::Audit(audit) => operate::audit(audit).await,
        Command::Rewrite(rewrite) => rewrite::rewrite(rewrite).await,
        Command::Health(health) => operate::health(health).await,
        Command::Demo(options) => return crate::demo::run(options).await,
    };
    match outcome {
        Ok(exit) => exit as u8,
        Err(failure) => {
            failure.print(json);
            failure.exit() as u8
        }
    }
}

/// Prints what was asked for. Nobody may be reading any more (`| head`); that is no error.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end());
}
