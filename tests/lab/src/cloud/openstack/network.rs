//! Neutron: the extra routes of one router.

use std::time::Instant;

use serde_json::{Value, json};

use super::{ROUTER, State, refused, unauthorized};
use crate::cloud::server::{Question, Reply};

pub(super) fn answer(state: &mut State, question: &Question) -> Reply {
    let token = question.header("x-auth-token").unwrap_or_default().to_owned();
    let now = Instant::now();
    let is_good = state.tokens.iter().any(|(known, end)| *known == token && now < *end);
    let reply = if is_good { routed(state, question) } else { unauthorized() };
    let status = if let Reply::Whole { status, .. } = &reply { *status } else { 0 };
    state.calls.push((token, status));
    reply
}

fn routed(state: &mut State, question: &Question) -> Reply {
    let router = format!("/v2.0/routers/{ROUTER}");
    match (question.method.as_str(), question.path().strip_prefix(&router)) {
        ("GET", Some("")) => {}
        ("PUT", Some("/add_extraroutes")) => {
            let asked: Value = serde_json::from_slice(&question.body).unwrap_or_default();
            let Some(routes) = asked["router"]["routes"].as_array() else {
                return refused(400, "Bad Request", "Invalid input for routes.");
            };
            // One that is there already is no error.
            let new = routes.iter().filter(|route| !state.routes.contains(route)).cloned();
            let new: Vec<Value> = new.collect();
            state.routes.extend(new);
        }
        _ => return refused(404, "Not Found", "The resource could not be found."),
    }
    let body = json!({ "router": { "id": ROUTER, "routes": state.routes } });
    Reply::new(200, "application/json", body.to_string())
}
