//! Why a command did not do what was asked for, and how that is printed.

use super::{Exit, mistakes, say};
use crate::admin::Problem;
use crate::admin::remote::CallError;
use crate::app::StartError;
use crate::catalog::CatalogError;
use crate::control::Error;
use crate::migration::spec::SpecErrors;

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// A file with mistakes, to be shown with its source.
    Mistakes(SpecErrors),
    /// Anything else.
    Problem(Exit, Problem),
}

impl Failure {
    /// What was typed is wrong.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::Problem(Exit::Usage, Problem::new(message))
    }

    /// Something did not work.
    pub fn failed(problem: Problem) -> Failure {
        Failure::Problem(Exit::Failed, problem)
    }

    /// Something must be solved first.
    pub fn blocked(problem: Problem) -> Failure {
        Failure::Problem(Exit::Blocked, problem)
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Failure::Mistakes(_) => Exit::Usage,
            Failure::Problem(exit, _) => *exit,
        }
    }

    /// Prints it: for people to standard error, as JSON to standard output.
    pub fn print(&self, json: bool) {
        match (json, self) {
            (true, Failure::Mistakes(errors)) => say(&Problem::of_mistakes(errors).to_json().to_string()),
            (true, Failure::Problem(_, problem)) => say(&problem.to_json().to_string()),
            (false, Failure::Mistakes(errors)) => eprint!("{}", mistakes::render(errors)),
            (false, Failure::Problem(_, problem)) => eprint!("{}", text(problem)),
        }
    }
}

fn text(problem: &Problem) -> String {
    let mut text = format!("error: {}\n", problem.message);
    for line in problem.detail.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    for line in problem.hint.lines() {
        text.push_str(&format!("  hint: {line}\n"));
    }
    text
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        let problem = error.problem();
        match error {
            CallError::NoAnswer(_) => Failure::failed(
                problem.hint("Is `crossfade run` up? Say where its admin port is with --admin or CROSSFADE_ADMIN."),
            ),
            CallError::Refused { status: 400, .. } => Failure::Problem(Exit::Usage, problem),
            CallError::Refused { status: 409, .. } => Failure::blocked(problem),
            CallError::Refused { .. } => Failure::failed(problem),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let problem = Problem::of(&error);
        match error {
            Error::Spec(errors) => Failure::Mistakes(*errors),
            Error::Invalid { .. } => Failure::Problem(Exit::Usage, problem),
            Error::Conflict { .. } | Error::Blocked { .. } => Failure::blocked(problem),
            Error::Unreachable { .. }
            | Error::Database(_)
            | Error::Catalog(_)
            | Error::NotFound(_)
            | Error::Record(_) => Failure::failed(problem),
        }
    }
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Failure {
        Failure::failed(Problem::new(error.to_string()))
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        let exit = if error.is_usage() { Exit::Usage } else { Exit::Failed };
        match error {
            StartError::Mistakes(errors) => Failure::Mistakes(errors),
            other => Failure::Problem(exit, Problem::new(other.to_string()).detail(other.detail()).hint(other.hint())),
        }
    }
}
