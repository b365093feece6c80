//! The API: what is asked, and how it is answered.

use std::net::Ipv4Addr;
use std::sync::Mutex;

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::state::{Call, Change, Fault, Row, State};
use super::{NETWORK, lock};
use crate::Place;
use crate::cloud::server::{Question, Reply};

/// All addresses of the network, and of its one subnet.
const RANGE: &str = "192.168.77.0/24";
/// What no route may lead to, by the API's documentation.
const METADATA: Ipv4Addr = Ipv4Addr::new(172, 31, 1, 1);

type Refusal = (u16, &'static str, String);

pub(super) fn answer(state: &Mutex<State>, question: &Question) -> Reply {
    let path = question.path().strip_prefix("/v1").unwrap_or("?").to_owned();
    let mut state = lock(state);
    state.advance();
    let fault = state.take_fault(&format!("{} {path}", question.method));
    let (reply, status) = replied(&mut state, question, &path, fault);
    let token = question.header("authorization").and_then(|text| text.strip_prefix("Bearer "));
    state.calls.push(Call {
        from: question.from,
        method: question.method.clone(),
        path,
        token: token.unwrap_or_default().to_owned(),
        status,
    });
    reply
}

fn replied(state: &mut State, question: &Question, path: &str, fault: Option<Fault>) -> (Reply, u16) {
    let outcome = match fault {
        Some(Fault::Refused(status, code, headers)) => {
            let mut reply = refused(&(status, code, format!("made up: {code}")));
            if let Reply::Whole { headers: all, .. } = &mut reply {
                all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            }
            return (reply, status);
        }
        Some(Fault::Silence(time)) => return (Reply::Silence(time), 0),
        Some(Fault::Elsewhere(location)) => {
            let headers = vec![("Location".to_owned(), location.to_owned())];
            return (Reply::Whole { status: 302, headers, body: Vec::new() }, 302);
        }
        Some(Fault::Echo) => {
            let said: Vec<String> =
                question.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let reply = refused(&(422, "invalid_input", format!("you said {}", said.join(", "))));
            return (reply, 422);
        }
        Some(Fault::Half) => {
            let whole = called(state, question, path, None);
            let body = whole.map_or_else(|_| Value::Null, |(_, body)| body).to_string();
            return (Reply::Half(body.into_bytes(), 5), 0);
        }
        Some(Fault::Fails(code)) => called(state, question, path, Some(code)),
        None => called(state, question, path, None),
    };
    match outcome {
        Ok((status, body)) => (Reply::new(status, "application/json", body.to_string()), status),
        Err(refusal) => (refused(&refusal), refusal.0),
    }
}

fn refused((status, code, message): &Refusal) -> Reply {
    let body = json!({ "error": { "code": code, "message": message, "details": {} } });
    Reply::new(*status, "application/json", body.to_string())
}

fn called(
    state: &mut State,
    question: &Question,
    path: &str,
    fails: Option<&'static str>,
) -> Result<(u16, Value), Refusal> {
    may(state, question)?;
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match (question.method.as_str(), &segments[..]) {
        ("GET", ["servers"]) => Ok((200, servers(state, question))),
        ("GET", ["networks", id]) => {
            network(id)?;
            Ok((200, json!({ "network": shown(state) })))
        }
        ("GET", ["actions", id]) => {
            let id = id.parse().map_err(|_| not_found("action"))?;
            Ok((200, json!({ "action": action(state, id).ok_or_else(|| not_found("action"))? })))
        }
        ("POST", ["networks", id, "actions", what @ ("add_route" | "delete_route")]) => {
            network(id)?;
            let change = change(state, question, *what == "add_route")?;
            if state.is_busy() {
                return Err((409, "conflict", "network is already being changed".to_owned()));
            }
            let id = state.begin(fails.map_or(change, Change::Fail));
            Ok((201, json!({ "action": action(state, id) })))
        }
        _ => Err(not_found("page")),
    }
}

/// Who asks, and whether he may.
fn may(state: &State, question: &Question) -> Result<(), Refusal> {
    let token = question.header("authorization").and_then(|text| text.strip_prefix("Bearer "));
    let is_among = |all: &[String]| token.is_some_and(|token| all.iter().any(|known| known == token));
    if is_among(&state.writers) {
        return Ok(());
    }
    if !is_among(&state.readers) {
        return Err((401, "unauthorized", "unable to authenticate".to_owned()));
    }
    if question.method == "GET" {
        return Ok(());
    }
    Err((403, "token_readonly", "token is only allowed to perform read operations".to_owned()))
}

fn network(id: &str) -> Result<(), Refusal> {
    if id == NETWORK.to_string() { Ok(()) } else { Err(not_found("network")) }
}

fn not_found(what: &str) -> Refusal {
    (404, "not_found", format!("{what} not found"))
}

/// The change that a request is, checked as the API does.
fn change(state: &State, question: &Question, adds: bool) -> Result<Change, Refusal> {
    let invalid = |message: &str| (422, "invalid_input", message.to_owned());
    if question.header("content-type") != Some("application/json") {
        return Err((415, "unsupported_media_type", "right would be application/json".to_owned()));
    }
    let body: Value =
        serde_json::from_slice(&question.body).map_err(|_| (400, "json_error", "invalid JSON".to_owned()))?;
    let destination: Option<Ipv4Net> = body["destination"].as_str().and_then(|text| text.parse().ok());
    let gateway: Option<Ipv4Addr> = body["gateway"].as_str().and_then(|text| text.parse().ok());
    let (Some(destination), Some(gateway)) = (destination, gateway) else {
        return Err(invalid("invalid input in fields 'destination', 'gateway'"));
    };
    let row = Row { destination, gateway };
    if !adds {
        let there = state.rows.contains(&row);
        return if there { Ok(Change::Delete(row)) } else { Err(not_found("route")) };
    }
    let range: Ipv4Net = RANGE.parse().map_err(|_| invalid("range"))?;
    let overlaps = |other: &Ipv4Net| other.contains(&destination) || destination.contains(other);
    if destination.trunc() != destination || overlaps(&range) || destination.contains(&METADATA) {
        return Err(invalid("invalid input in field 'destination'"));
    }
    if state.rows.iter().any(|known| overlaps(&known.destination)) {
        return Err(invalid("destination overlaps with the destination of another route"));
    }
    if !range.contains(&gateway) || gateway == Place::Near.gateway() {
        return Err(invalid("invalid input in field 'gateway'"));
    }
    if state.rows.len() >= state.limit {
        return Err((403, "resource_limit_exceeded", "route limit exceeded".to_owned()));
    }
    Ok(Change::Add(row))
}

fn shown(state: &State) -> Value {
    let routes = state
        .rows
        .iter()
        .map(|row| json!({ "destination": row.destination.to_string(), "gateway": row.gateway.to_string() }));
    json!({
        "id": NETWORK,
        "name": "lab",
        "ip_range": RANGE,
        "subnets": [{ "type": "cloud", "ip_range": RANGE, "network_zone": "eu-central", "gateway": Place::Near.gateway().to_string() }],
        "routes": routes.collect::<Vec<_>>(),
        "servers": (1..=state.machines.len()).collect::<Vec<_>>(),
        "protection": { "delete": false },
        "labels": {},
    })
}

fn servers(state: &State, question: &Question) -> Value {
    let wanted = Question::parameters(question.query());
    let number = |name: &str, usual: usize| {
        let given = wanted.iter().find(|(known, _)| known == name);
        given.and_then(|(_, value)| value.parse().ok()).unwrap_or(usual)
    };
    let (page, per_page) = (number("page", 1).max(1), number("per_page", 25).clamp(1, 50));
    let servers = state.machines.iter().zip(1..).map(|(machine, id)| {
        json!({
            "id": id,
            "name": machine.name,
            "public_net": { "ipv4": { "ip": format!("203.0.113.{id}") } },
            "private_net": [{ "network": NETWORK, "ip": machine.address.to_string(), "alias_ips": [] }],
        })
    });
    let shown: Vec<Value> = servers.skip((page - 1) * per_page).take(per_page).collect();
    let next = (page * per_page < state.machines.len()).then_some(page + 1);
    json!({ "servers": shown, "meta": { "pagination": { "page": page, "per_page": per_page, "next_page": next } } })
}

fn action(state: &State, id: u64) -> Option<Value> {
    let shown = |status: &str, command: &str, failed: Option<&str>| {
        let error = failed.map(|code| json!({ "code": code, "message": "Action failed" }));
        json!({ "id": id, "command": command, "status": status, "progress": 0, "error": error,
                "resources": [{ "id": NETWORK, "type": "network" }] })
    };
    if state.is_running(id) {
        return Some(shown("running", "add_route", None));
    }
    let (command, failed) = state.ended.get(&id)?;
    Some(shown(if failed.is_some() { "error" } else { "success" }, command, *failed))
}
