//! The calls under `/v1`: each reads its request, asks `control`, and gives the answer as JSON.
//!
//! Bodies are read here rather than by axum's extractors, so that every mistake has the same form.

use std::net::SocketAddr;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Problem};
use super::{Admin, guard};
use crate::control::commands::CheckReport;
use crate::control::status::{MigrationStatus, Overview};
use crate::control::store::AuditEntry;
use crate::migration::Percent;
use crate::migration::plan::Plan;

/// Lines of the audit log in one answer when nobody says how many.
const AUDIT_LINES: i64 = 100;

type Answered<T> = Result<Json<T>, Answer>;
type Peer = ConnectInfo<SocketAddr>;
type Body = Result<Bytes, BytesRejection>;

/// `{"percent": 25}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Share {
    percent: u8,
}

/// `{"confirm": true}`; who calls `complete` has confirmed it unless the body says otherwise.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    confirm: Option<bool>,
}

/// `?migration=name&limit=100`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    migration: Option<String>,
    limit: Option<i64>,
}

/// A plan for machines and for people.
#[derive(Debug, Serialize)]
pub(super) struct PlanAnswer {
    plan: Plan,
    text: String,
}

pub(super) async fn overview(State(admin): State<Admin>) -> Answered<Overview> {
    Ok(Json(admin.commands.overview().await?))
}

pub(super) async fn status(State(admin): State<Admin>, Path(name): Path<String>) -> Answered<MigrationStatus> {
    Ok(Json(admin.commands.status(&name).await?))
}

pub(super) async fn audit(
    State(admin): State<Admin>,
    query: Result<Query<AuditQuery>, axum::extract::rejection::QueryRejection>,
) -> Answered<Vec<AuditEntry>> {
    let Query(query) = query.map_err(|rejection| {
        Answer::bad_request(
            Problem::new("the query cannot be read")
                .detail(rejection.body_text())
                .hint("The parameters are migration=NAME and limit=NUMBER; both may be left out."),
        )
    })?;
    let limit = query.limit.unwrap_or(AUDIT_LINES);
    Ok(Json(admin.commands.audit(query.migration.as_deref(), limit).await?))
}

pub(super) async fn check(State(admin): State<Admin>, body: Body) -> Answered<CheckReport> {
    Ok(Json(admin.commands.check(&text(body)?).await?))
}

pub(super) async fn plan(State(admin): State<Admin>, body: Body) -> Answered<PlanAnswer> {
    let plan = admin.commands.plan(&text(body)?).await?;
    Ok(Json(PlanAnswer { text: plan.text(), plan }))
}

pub(super) async fn start(
    State(admin): State<Admin>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<MigrationStatus>), Answer> {
    let status = admin.commands.start(&text(body)?, &guard::actor(&headers, peer)).await?;
    Ok((StatusCode::CREATED, Json(status)))
}

pub(super) async fn reads(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Answered<MigrationStatus> {
    let share: Share = json(body, "{\"percent\": 25}")?;
    let percent = Percent::new(share.percent).ok_or_else(|| {
        Answer::bad_request(
            Problem::new(format!("{} is no share of reads", share.percent))
                .detail("The share of sessions that reads from new storage is a percentage from 0 to 100."),
        )
    })?;
    Ok(Json(admin.commands.reads(&name, percent, &guard::actor(&headers, peer)).await?))
}

pub(super) async fn speed(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Answered<MigrationStatus> {
    let share: Share = json(body, "{\"percent\": 50}")?;
    Ok(Json(admin.commands.speed(&name, share.percent, &guard::actor(&headers, peer)).await?))
}

pub(super) async fn pause(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    peer: Peer,
    headers: HeaderMap,
) -> Answered<MigrationStatus> {
    Ok(Json(admin.commands.pause(&name, &guard::actor(&headers, peer)).await?))
}

pub(super) async fn resume(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    peer: Peer,
    headers: HeaderMap,
) -> Answered<MigrationStatus> {
    Ok(Json(admin.commands.resume(&name, &guard::actor(&headers, peer)).await?))
}

pub(super) async fn rollback(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    peer: Peer,
    headers: HeaderMap,
) -> Answered<MigrationStatus> {
    Ok(Json(admin.commands.rollback(&name, &guard::actor(&headers, peer)).await?))
}

pub(super) async fn complete(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Answered<MigrationStatus> {
    let bytes = bytes(body)?;
    let confirmation: Confirmation =
        if bytes.is_empty() { Confirmation::default() } else { json(Ok(bytes), "{\"confirm\": true}")? };
    let confirmed = confirmation.confirm.unwrap_or(true);
    Ok(Json(admin.commands.complete(&name, confirmed, &guard::actor(&headers, peer)).await?))
}

fn bytes(body: Body) -> Result<Bytes, Answer> {
    body.map_err(|rejection| {
        let problem = Problem::new("the request cannot be read").detail(rejection.body_text());
        Answer { status: rejection.status(), problem }
    })
}

/// A migration file's text.
fn text(body: Body) -> Result<String, Answer> {
    String::from_utf8(bytes(body)?.into()).map_err(|error| {
        Answer::bad_request(
            Problem::new("the migration file is not UTF-8")
                .detail(format!("Byte {} is wrong.", error.utf8_error().valid_up_to()))
                .hint("Send the file's text as it is, as the body of the request."),
        )
    })
}

fn json<T: DeserializeOwned>(body: Body, example: &str) -> Result<T, Answer> {
    let bytes = bytes(body)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Answer::bad_request(
            Problem::new("the body is not the JSON that is wanted here")
                .detail(format!("It was read up to line {}, column {}: {error}.", error.line(), error.column()))
                .hint(format!("Send for example {example}")),
        )
    })
}
