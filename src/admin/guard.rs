//! Who may speak to the admin port, and who it is for the audit log.
//!
//! With a token every request but `/healthz` must carry it. Without one the port is on loopback only, and a request must
//! be meant for it: a page in a browser on the same machine that calls another host's name is turned away.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::{Answer, Problem};
use super::{Admin, USER_HEADER, WHY_HEADER};
use crate::control::store::Actor;

/// The longest name or reason that goes into the audit log, in characters.
const NOTE_CHARACTERS_MAX: usize = 500;

/// Lets a request pass that may.
pub(super) async fn guard(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    if request.uri().path() == "/healthz" {
        return next.run(request).await;
    }
    let refused = match admin.token.as_deref() {
        Some(token) => refuse_without(token, request.headers()),
        None => refuse_foreign(request.headers()),
    };
    match refused {
        Some(answer) => answer.into_response(),
        None => next.run(request).await,
    }
}

fn refuse_without(token: &str, headers: &HeaderMap) -> Option<Answer> {
    let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let given = given.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
    if same(given, token.as_bytes()) {
        return None;
    }
    let problem = Problem::new("the admin port wants its token")
        .detail("The request carries no token, or another one.")
        .hint("Set CROSSFADE_ADMIN_TOKEN, or send the header `Authorization: Bearer ...`.");
    Some(Answer { status: StatusCode::UNAUTHORIZED, problem })
}

fn refuse_foreign(headers: &HeaderMap) -> Option<Answer> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !headers.contains_key(header::ORIGIN) && is_local(host) {
        return None;
    }
    let problem = Problem::new("the request was not meant for this admin port")
        .detail(
            "Without a token it answers only to the name localhost and to loopback addresses, and to no browser page.",
        )
        .hint("Call http://127.0.0.1:PORT, or configure a token.");
    Some(Answer { status: StatusCode::FORBIDDEN, problem })
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether two texts are the same, in a time that depends on the length of the first alone.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    let mut differences = u8::from(given.len() != wanted.len());
    for (place, byte) in given.iter().enumerate() {
        let other = wanted.get(place % wanted.len().max(1)).copied().unwrap_or_default();
        differences |= byte ^ other;
    }
    std::hint::black_box(differences) == 0
}

/// Who is asking, and why, as the headers and the connection say.
pub(super) fn actor(headers: &HeaderMap, ConnectInfo(peer): ConnectInfo<SocketAddr>) -> Actor {
    let note = |name: &str| {
        let said = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes())).unwrap_or_default();
        said.chars().filter(|c| !c.is_control()).take(NOTE_CHARACTERS_MAX).collect::<String>()
    };
    let who = match note(USER_HEADER) {
        name if name.is_empty() => peer.ip().to_string(),
        name => name,
    };
    Actor { who, from_address: peer.to_string(), why: note(WHY_HEADER) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_token() {
        assert!(same(b"0123456789abcdef", b"0123456789abcdef"));
        for wrong in [&b""[..], b"0123456789abcde", b"0123456789abcdeg", b"0123456789abcdef0123456789abcdef"] {
            assert!(!same(wrong, b"0123456789abcdef"));
        }
        assert!(!same(b"", b"x"));
    }

    #[test]
    fn only_loopback_names_are_local() {
        for local in ["localhost", "LOCALHOST:6433", "127.0.0.1:6433", "127.1.2.3", "[::1]:6433"] {
            assert!(is_local(local), "{local}");
        }
        for foreign in ["", "evil.example:6433", "localhost.evil.example", "10.0.0.1:6433", "[2001:db8::1]:1"] {
            assert!(!is_local(foreign), "{foreign}");
        }
    }
}
