//! The metadata service: a tree of texts for each machine, told apart by who asks.

use serde_json::{Map, Value, json};

use super::super::server::{Question, Reply};
use super::state::{Instance, State};

/// What service accounts of machines may do at most.
pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/compute";
const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");
const ROOT: &str = "/computeMetadata/v1";

/// Answers a machine.
pub(super) fn answer(state: &mut State, question: &Question) -> Reply {
    let is_local = question.header("x-forwarded-for").is_none();
    if question.path() == "/" {
        return text(200, "computeMetadata/\n");
    }
    if question.header("metadata-flavor") != Some(FLAVOR.1) || !is_local {
        return page(
            403,
            "Your client does not have permission to get this URL. Missing Metadata-Flavor:Google header.",
        );
    }
    let found = state.instances.iter().find(|instance| instance.address == question.from).cloned();
    let (Some(instance), Some(path)) = (found, question.path().strip_prefix(ROOT)) else {
        return page(404, "The requested URL was not found on this server.");
    };
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if let ["instance", "service-accounts", who, "token"] = segments[..]
        && (who == "default" || who == instance.account())
        && instance.has_account
    {
        let (token, seconds) = state.tokens.of(&instance.account(), &[SCOPE]);
        return json_text(&json!({ "access_token": token, "expires_in": seconds, "token_type": "Bearer" }));
    }
    let tree = tree(&instance);
    let mut place = Some(&tree);
    for segment in &segments {
        place = place.and_then(|place| match place {
            Value::Array(all) => segment.parse::<usize>().ok().and_then(|at| all.get(at)),
            other => other.get(segment),
        });
    }
    let Some(place) = place else {
        return page(404, "The requested URL was not found on this server.");
    };
    let query = Question::parameters(question.query());
    let says = |name: &str, value: &str| query.iter().any(|(known, said)| known == name && said == value);
    if says("recursive", "true") {
        return json_text(&in_camel_case(place));
    }
    match place {
        _ if says("alt", "json") => json_text(place),
        Value::Object(all) => {
            text(200, &all.iter().map(|(key, value)| listed(key, value)).collect::<String>())
        }
        Value::Array(all) => {
            text(200, &(0..all.len()).map(|at| format!("{at}/\n")).collect::<Vec<_>>().concat())
        }
        Value::String(leaf) => text(200, leaf),
        leaf => text(200, &leaf.to_string()),
    }
}

fn tree(instance: &Instance) -> Value {
    let number = super::PROJECT_NUMBER;
    let mut accounts = Map::new();
    if instance.has_account {
        let account = json!({ "aliases": ["default"], "email": instance.account(), "scopes": [SCOPE] });
        accounts.insert("default".to_owned(), account.clone());
        accounts.insert(instance.account(), account);
    }
    json!({
        "instance": {
            "attributes": {},
            "hostname": format!("{}.{}.c.{}.internal", instance.name, super::ZONE, super::PROJECT),
            "id": instance.id,
            "name": instance.name,
            "network-interfaces": [{
                "access-configs": [],
                "dns-servers": ["169.254.169.254"],
                "forwarded-ips": [],
                "gateway": "192.168.77.1",
                "ip": instance.address,
                "ip-aliases": [],
                "mac": instance.mac,
                "mtu": 1500,
                "network": format!("projects/{number}/networks/{}", super::NETWORK),
                "subnetmask": "255.255.255.0",
                "target-instance-ips": [],
            }],
            "service-accounts": accounts,
            "zone": format!("projects/{number}/zones/{}", super::ZONE),
        },
        "project": { "numeric-project-id": number, "project-id": super::PROJECT },
        "universe": { "universe-domain": "googleapis.com" },
    })
}

/// Names in JSON are written otherwise than in paths.
fn in_camel_case(value: &Value) -> Value {
    match value {
        Value::Object(all) => all.iter().map(|(key, value)| (camel(key), in_camel_case(value))).collect(),
        Value::Array(all) => all.iter().map(in_camel_case).collect(),
        leaf => leaf.clone(),
    }
}

fn camel(key: &str) -> String {
    // Accounts are no names.
    if key.contains('@') {
        return key.to_owned();
    }
    let mut words = key.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |all, word| {
        let mut letters = word.chars();
        let head = letters.next().map(|letter| letter.to_ascii_uppercase());
        all + &head.into_iter().chain(letters).collect::<String>()
    })
}

fn listed(key: &str, value: &Value) -> String {
    format!("{key}{}\n", if value.is_object() || value.is_array() { "/" } else { "" })
}

fn of(status: u16, media_type: &str, body: &str) -> Reply {
    let mut reply = Reply::new(status, media_type, body);
    if let Reply::Whole { headers, .. } = &mut reply {
        headers.push((FLAVOR.0.to_owned(), FLAVOR.1.to_owned()));
        headers.push(("Server".to_owned(), "Metadata Server for VM".to_owned()));
    }
    reply
}

fn text(status: u16, body: &str) -> Reply {
    of(status, "application/text", body)
}

fn json_text(value: &Value) -> Reply {
    of(200, "application/json", &value.to_string())
}

fn page(status: u16, says: &str) -> Reply {
    of(
        status,
        "text/html; charset=UTF-8",
        &format!("<!DOCTYPE html>\n<html lang=en><title>Error {status}</title><p>{says}\n"),
    )
}
