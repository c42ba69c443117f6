//! What the admin port says when it says no: one JSON object, whatever went wrong.
//!
//! `{"error": {"message", "detail", "hint", ...}}`, with the mistakes or blockers that there are.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::control::Error;
use crate::migration::spec::SpecErrors;

/// What is wrong, why, and what to do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong; lower case, one line.
    pub message: String,
    /// Why, in full sentences.
    #[serde(default)]
    pub detail: String,
    /// What to do, in full sentences.
    #[serde(default)]
    pub hint: String,
    /// Lists that machines may want: `mistakes`, `blockers`.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Problem {
    /// A problem of which only the message is known.
    pub fn new(message: impl Into<String>) -> Problem {
        Problem { message: message.into(), ..Problem::default() }
    }

    /// Why it is.
    pub fn detail(mut self, detail: impl Into<String>) -> Problem {
        self.detail = detail.into();
        self
    }

    /// What to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = hint.into();
        self
    }

    /// With a list for machines.
    pub fn with(mut self, name: &str, list: Value) -> Problem {
        self.more.insert(name.to_owned(), list);
        self
    }

    /// As the admin port sends it.
    pub fn to_json(&self) -> Value {
        json!({ "error": self })
    }

    /// What the admin port sent.
    pub fn from_json(text: &str) -> Option<Problem> {
        #[derive(Deserialize)]
        struct Envelope {
            error: Problem,
        }
        serde_json::from_str::<Envelope>(text).ok().map(|envelope| envelope.error)
    }

    /// What the control plane says, with its lists.
    pub fn of(error: &Error) -> Problem {
        let plain = || Problem::new(error.to_string()).detail(error.detail()).hint(error.hint());
        match error {
            Error::Spec(mistakes) => Problem::of_mistakes(mistakes),
            Error::Blocked { blockers, .. } => plain().with("blockers", json!(blockers)),
            Error::Unreachable { .. }
            | Error::Database(_)
            | Error::Catalog(_)
            | Error::NotFound(_)
            | Error::Conflict { .. }
            | Error::Invalid { .. }
            | Error::Record(_) => plain(),
        }
    }

    /// The mistakes of a migration file.
    pub fn of_mistakes(errors: &SpecErrors) -> Problem {
        let lines: Vec<String> = errors
            .errors
            .iter()
            .map(|e| format!("{}:{}:{}: {}. {}", errors.file, e.line, e.column, e.message, e.help))
            .collect();
        let count = errors.errors.len();
        let mistakes = serde_json::to_value(&errors.errors).unwrap_or_default();
        Problem::new(format!("{} has {count} mistake{}", errors.file, if count == 1 { "" } else { "s" }))
            .detail(lines.join("\n"))
            .hint("Correct the file; nothing was changed.")
            .with("file", Value::String(errors.file.clone()))
            .with("mistakes", mistakes)
    }
}

/// A problem with its HTTP status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// What is wrong.
    pub problem: Problem,
}

impl Answer {
    /// The request is wrong, whatever the state.
    pub fn bad_request(problem: Problem) -> Answer {
        Answer { status: StatusCode::BAD_REQUEST, problem }
    }

    /// There is no such thing.
    pub fn not_found(problem: Problem) -> Answer {
        Answer { status: StatusCode::NOT_FOUND, problem }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self.problem.to_json())).into_response()
    }
}

impl From<Error> for Answer {
    fn from(error: Error) -> Answer {
        let status = match &error {
            Error::Unreachable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Error::Database(_) if error.is_lost_connection() => StatusCode::SERVICE_UNAVAILABLE,
            Error::Catalog(_) if error.is_lost_connection() => StatusCode::SERVICE_UNAVAILABLE,
            Error::Database(_) | Error::Catalog(_) | Error::Record(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::Conflict { .. } | Error::Blocked { .. } => StatusCode::CONFLICT,
            Error::Invalid { .. } | Error::Spec(_) => StatusCode::BAD_REQUEST,
        };
        Answer { status, problem: Problem::of(&error) }
    }
}
