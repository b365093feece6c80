//! Keystone: a password for a token.

use std::time::Instant;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{State, TOKEN, USER, refused, unauthorized};
use crate::cloud::server::{Question, Reply};

pub(super) fn answer(state: &mut State, question: &Question) -> Reply {
    if (question.method.as_str(), question.path()) != ("POST", "/v3/auth/tokens") {
        return refused(404, "Not Found", "The resource could not be found.");
    }
    if question.header("content-type") != Some("application/json") {
        return refused(400, "Bad Request", "Expecting to find application/json in Content-Type header.");
    }
    let asked: Value = serde_json::from_slice(&question.body).unwrap_or_default();
    let user = json!({ "name": USER, "domain": { "name": "Default" }, "password": state.password });
    let identity = json!({ "methods": ["password"], "password": { "user": user } });
    let scope = json!({ "project": { "name": "net", "domain": { "name": "Default" } } });
    if asked["auth"]["identity"] != identity || asked["auth"]["scope"] != scope {
        state.refused += 1;
        return unauthorized();
    }
    let token = format!("{TOKEN}{}", state.tokens.len());
    state.tokens.push((token.clone(), Instant::now() + state.lifetime));
    // The clock of a cloud is its own.
    let issued = OffsetDateTime::now_utc() - time::Duration::days(1);
    let shown = |moment: OffsetDateTime| moment.format(&Rfc3339).unwrap_or_default();
    let body = json!({ "token": {
        "methods": ["password"],
        "issued_at": shown(issued),
        "expires_at": shown(issued + state.lifetime),
        "project": { "id": "4711", "name": "net" },
    } });
    let kind = ("Content-Type".to_owned(), "application/json".to_owned());
    let headers = vec![("X-Subject-Token".to_owned(), token), kind];
    Reply::Whole { status: 201, headers, body: body.to_string().into_bytes() }
}
