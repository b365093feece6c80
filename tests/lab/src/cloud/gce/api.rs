//! The calls of Compute Engine's API, version 1, that have to do with routes.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE;
use serde_json::{Value, json};

use super::super::server::{Question, Reply};
use super::errors::Refusal;
use super::faults::Fault;
use super::filter::Filter;
use super::state::{Call, State, by_key, link, network};
use super::{NETWORK, NETWORK_ID, PROJECT, answer};

/// How long `globalOperations.wait` waits at most, as at Google.
const WAIT: Duration = Duration::from_mins(2);

/// Permissions, and what of the project each is for.
type Permissions = &'static [(&'static str, &'static str)];

/// One call: what it is called, what it is about, and what it takes.
struct Asked<'a> {
    kind: &'static str,
    project: &'a str,
    about: &'a str,
    writes: bool,
    permissions: Permissions,
}

fn understood<'a>(method: &str, segments: &[&'a str]) -> Option<Asked<'a>> {
    let ["compute", "v1", "projects", project, rest @ ..] = segments else { return None };
    let (kind, about, permissions): (_, _, Permissions) = match (method, rest) {
        ("GET", ["global", "networks", name]) => {
            ("networks.get", name, &[("compute.networks.get", "global/networks")])
        }
        ("GET", ["zones", super::ZONE, "instances", name]) => {
            ("instances.get", name, &[("compute.instances.get", "zones/europe-west3-a/instances")])
        }
        ("GET", ["global", "routes"]) => ("routes.list", &"", &[("compute.routes.list", "global/routes")]),
        ("GET", ["global", "routes", name]) => {
            ("routes.get", name, &[("compute.routes.get", "global/routes")])
        }
        ("POST", ["global", "routes"]) => (
            "routes.insert",
            &"",
            &[
                ("compute.routes.create", "global/routes"),
                ("compute.networks.updatePolicy", "global/networks"),
                ("compute.instances.use", "zones/europe-west3-a/instances"),
            ],
        ),
        ("DELETE", ["global", "routes", name]) => (
            "routes.delete",
            name,
            &[
                ("compute.routes.delete", "global/routes"),
                ("compute.networks.updatePolicy", "global/networks"),
            ],
        ),
        ("GET", ["global", "operations", name]) => {
            ("globalOperations.get", name, &[("compute.globalOperations.get", "global/operations")])
        }
        ("POST", ["global", "operations", name, "wait"]) => {
            ("globalOperations.wait", name, &[("compute.globalOperations.get", "global/operations")])
        }
        _ => return None,
    };
    let writes = matches!(kind, "routes.insert" | "routes.delete");
    Some(Asked { kind, project, about, writes, permissions })
}

/// Answers a call.
pub(super) fn serve(state: &Mutex<State>, question: &Question) -> Reply {
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let segments: Vec<&str> = question.path().split('/').skip(1).collect();
    let Some(asked) = understood(&question.method, &segments) else {
        let page =
            format!("<!DOCTYPE html>\n<title>Error 404 (Not Found)!!1</title><p>{}\n", question.path());
        return Reply::new(404, "text/html; charset=UTF-8", page);
    };
    let fault = lock().faults.take(asked.kind);
    let reply = match fault {
        Some(Fault::Throttled(seconds)) => Refusal::throttled(seconds).reply(),
        Some(Fault::RateLimited) => Refusal::rate(PROJECT).reply(),
        Some(Fault::Broken(status)) => Refusal::broken(status).reply(),
        Some(Fault::Silence(time)) => Reply::Silence(time),
        _ if asked.kind == "globalOperations.wait" => waited(state, &asked, question),
        _ => carried_out(&mut lock(), &asked, question),
    };
    let reply = match (fault, reply) {
        (Some(Fault::Half), Reply::Whole { body, .. }) => {
            let half = body.len() / 2;
            Reply::Half(body, half)
        }
        (Some(Fault::Unheard(time)), _) => Reply::Silence(time),
        (_, reply) => reply,
    };
    let status = if let Reply::Whole { status, .. } = &reply { *status } else { 0 };
    lock().calls.push(Call { kind: asked.kind, from: question.from, status });
    reply
}

fn carried_out(state: &mut State, asked: &Asked<'_>, question: &Question) -> Reply {
    match outcome(state, asked, question) {
        Ok(body) => answer(200, &body),
        Err(refusal) => refusal.reply(),
    }
}

/// Until the operation is over, or for two minutes.
fn waited(state: &Mutex<State>, asked: &Asked<'_>, question: &Question) -> Reply {
    let begin = Instant::now();
    loop {
        {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let runs = |name: &str| state.operations.iter().any(|one| one.name == name && !one.is_done());
            if !runs(asked.about) || begin.elapsed() >= WAIT {
                return carried_out(&mut state, asked, question);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn outcome(state: &mut State, asked: &Asked<'_>, question: &Question) -> Result<Value, Refusal> {
    let who = state.tokens.check(question.header("authorization"), asked.writes)?.account;
    if asked.project != PROJECT {
        return Err(Refusal::not_found(&format!("projects/{}", asked.project)));
    }
    let body: Value = serde_json::from_slice(&question.body).unwrap_or_default();
    for (permission, place) in asked.permissions {
        if state.denied.contains(*permission) {
            let name = match *place {
                "global/networks" => NETWORK,
                "global/routes" if asked.about.is_empty() => body["name"].as_str().unwrap_or_default(),
                _ => asked.about,
            };
            let resource = format!("projects/{PROJECT}/{place}/{name}");
            return Err(Refusal::forbidden(permission, resource.trim_end_matches('/')));
        }
    }
    let query = Question::parameters(question.query());
    let parameter =
        |name: &str| query.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str());
    let missing = |place: &str| Refusal::not_found(&format!("projects/{PROJECT}/{place}/{}", asked.about));
    match asked.kind {
        "networks.get" if [NETWORK, &NETWORK_ID.to_string()].contains(&asked.about) => Ok(json!({
            "kind": "compute#network",
            "id": NETWORK_ID.to_string(),
            "name": NETWORK,
            "selfLink": link(&network()),
            "autoCreateSubnetworks": false,
            "routingConfig": { "routingMode": "REGIONAL" },
        })),
        "networks.get" => Err(missing("global/networks")),
        "instances.get" => {
            let is_it = |id: u64, name: &str| name == asked.about || id.to_string() == asked.about;
            let found = state.instances.iter().find(|instance| is_it(instance.id, &instance.name));
            let place = format!("zones/{}/instances", super::ZONE);
            found.map(super::state::Instance::shown).ok_or_else(|| missing(&place))
        }
        "routes.get" => by_key(state.seen(), asked.about).cloned().ok_or_else(|| missing("global/routes")),
        "routes.list" => list(state, parameter("filter"), parameter("maxResults"), parameter("pageToken")),
        "routes.insert" => state.insert(&body, &who, parameter("requestId")),
        "routes.delete" => state.delete(asked.about, &who, parameter("requestId")),
        _ => {
            let found = state.operations.iter().find(|operation| operation.name == asked.about);
            found.map(super::operations::Operation::shown).ok_or_else(|| missing("global/operations"))
        }
    }
}

fn list(state: &State, filter: &str, most: &str, token: &str) -> Result<Value, Refusal> {
    let wrong = |field: &str, value: &str, why: &str| Err(Refusal::invalid(field, value, why));
    let Some(wanted) = Filter::parse(filter) else {
        return wrong("filter", filter, "Invalid list filter expression.");
    };
    let most = match most.parse::<usize>() {
        Ok(most) if most <= 500 => most.min(state.page),
        _ if most.is_empty() => state.page,
        _ => return wrong("maxResults", most, "Must be between 0 and 500."),
    };
    let last = BASE64_URL_SAFE.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(last) = last else {
        return wrong("pageToken", token, "Invalid page token.");
    };
    let mut rest =
        state.seen().iter().filter(|(name, route)| **name > last && wanted.wants(route)).peekable();
    let mut items = Vec::new();
    while items.len() < most
        && let Some((_, route)) = rest.next()
    {
        items.push(route.clone());
    }
    let mut page = json!({
        "kind": "compute#routeList",
        "id": format!("projects/{PROJECT}/global/routes"),
        "selfLink": link(&format!("projects/{PROJECT}/global/routes")),
    });
    if let (Some(_), Some(name)) = (rest.peek(), items.last().and_then(|route| route["name"].as_str())) {
        page["nextPageToken"] = BASE64_URL_SAFE.encode(name).into();
    }
    // A list of nothing has no items at all.
    if !items.is_empty() {
        page["items"] = items.into();
    }
    Ok(page)
}
