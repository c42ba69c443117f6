//! The admin port as its clients see it: the command line and the demo.
//!
//! One connection for each call, without TLS. Decides nothing about what it reads, and tries nothing twice.

use std::fmt;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use super::answer::Problem;

/// How long one call may take. Long enough for `reads`, which waits for every proxy.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a call gave no answer, or not the wanted one.
#[derive(Debug)]
pub enum CallError {
    /// Nobody answered: the call may have been carried out or not.
    NoAnswer(String),
    /// The answer was no.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What was said.
        body: String,
    },
}

impl CallError {
    /// What the admin port said, as far as it said anything.
    pub fn problem(&self) -> Problem {
        match self {
            CallError::NoAnswer(_) => Problem::new(self.to_string()),
            CallError::Refused { body, .. } => {
                Problem::from_json(body).unwrap_or_else(|| Problem::new(self.to_string()))
            }
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::NoAnswer(why) => write!(f, "no answer from the admin port: {why}"),
            CallError::Refused { status, body } => write!(f, "the admin port answered {status}: {body}"),
        }
    }
}

/// What is sent with a call.
#[derive(Debug, Clone)]
pub enum Body {
    /// Nothing.
    Empty,
    /// A JSON value.
    Json(Value),
    /// A migration file's text.
    Toml(String),
}

/// Where the admin port is, and who speaks to it.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Host and port.
    authority: String,
    headers: Vec<(&'static str, String)>,
}

impl Remote {
    /// The one at `http://host:port` (the scheme may be left out).
    pub fn parse(url: &str) -> Result<Remote, String> {
        let authority = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let port = authority.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
        match port {
            Some((host, Ok(_))) if !host.is_empty() && !authority.contains(['/', '@', ' ']) => {
                Ok(Remote { authority: authority.to_owned(), headers: Vec::new() })
            }
            Some(_) | None => {
                Err(format!("{url:?} is no admin address; expected http://host:port (TLS is not spoken)"))
            }
        }
    }

    /// The one on that port of 127.0.0.1.
    pub fn local(port: u16) -> Remote {
        Remote { authority: format!("127.0.0.1:{port}"), headers: Vec::new() }
    }

    /// With this bearer token on every call.
    pub fn with_token(self, token: &str) -> Remote {
        self.with_header("authorization", format!("Bearer {token}"))
    }

    /// With a name for the audit log on every call, and a reason.
    pub fn with_actor(self, who: &str, why: &str) -> Remote {
        self.with_header(super::USER_HEADER, who.to_owned()).with_header(super::WHY_HEADER, why.to_owned())
    }

    fn with_header(mut self, name: &'static str, value: String) -> Remote {
        if !value.is_empty() {
            self.headers.push((name, value));
        }
        self
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether `/readyz` says yes.
    pub async fn is_ready(&self) -> bool {
        self.text("/readyz").await.is_ok()
    }

    /// What stands there, as JSON.
    pub async fn get(&self, path: &str) -> Result<Value, CallError> {
        json(&self.text(path).await?)
    }

    /// The answer to a command, as JSON.
    pub async fn post(&self, path: &str, body: Body) -> Result<Value, CallError> {
        json(&self.send("POST", path, body).await?)
    }

    /// The text that stands there (`/metrics`).
    pub async fn text(&self, path: &str) -> Result<String, CallError> {
        self.send("GET", path, Body::Empty).await
    }

    async fn send(&self, method: &str, path: &str, body: Body) -> Result<String, CallError> {
        timeout(CALL_TIMEOUT, self.exchange(method, path, body))
            .await
            .unwrap_or_else(|_| Err(CallError::NoAnswer(format!("it took longer than {CALL_TIMEOUT:?}"))))
    }

    async fn exchange(&self, method: &str, path: &str, body: Body) -> Result<String, CallError> {
        let stream = TcpStream::connect(&self.authority).await.map_err(|error| self.no_answer(error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.no_answer(error))?;
        // Ends with the request; its errors are the request's.
        let driver = tokio::spawn(connection);
        let (content_type, bytes) = match body {
            Body::Empty => ("application/json", String::new()),
            Body::Json(value) => ("application/json", value.to_string()),
            Body::Toml(text) => ("application/toml", text),
        };
        let mut request = Request::builder().method(method).uri(path).header("host", &self.authority);
        request = request.header("content-type", content_type).header("connection", "close");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(Bytes::from(bytes))).map_err(|error| self.no_answer(error))?;
        let response = sender.send_request(request).await.map_err(|error| self.no_answer(error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| CallError::NoAnswer(error.to_string()))?
            .to_bytes();
        driver.abort();
        let body = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() { Ok(body) } else { Err(CallError::Refused { status: status.as_u16(), body }) }
    }

    fn no_answer(&self, error: impl fmt::Display) -> CallError {
        CallError::NoAnswer(format!("{} at {}", error, self.authority))
    }
}

fn json(body: &str) -> Result<Value, CallError> {
    if body.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(body).map_err(|error| CallError::NoAnswer(format!("no JSON: {error}")))
}
