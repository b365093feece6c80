//! Reading what `nft -j list table` prints.

use ipnet::IpNet;
use serde_json::{Map, Value};

/// What there is, in the form of [`Table::expected`](super::rules::Table::expected): without handles, comments and counters'
/// values, chain by chain in the order in which they were made.
pub(crate) fn view(printed: &str) -> Result<Vec<Value>, String> {
    let printed: Value = serde_json::from_str(printed).map_err(|error| error.to_string())?;
    let objects = printed.get("nftables").and_then(Value::as_array).ok_or("no list named `nftables`")?;
    let named = |kind: &'static str| objects.iter().filter_map(move |object| object.get(kind));
    let mut view: Vec<Value> = Vec::new();
    // A table that is switched off, say.
    view.extend(named("table").filter_map(|table| table.get("flags")).cloned());
    for chain in named("chain") {
        let name = text(chain, "name")?;
        view.push(described(chain, ("chain", name), &["type", "hook", "prio", "policy", "dev"]));
        for rule in named("rule").filter(|rule| rule.get("chain").and_then(Value::as_str) == Some(name)) {
            view.push(described(rule, ("rule", name), &["expr"]));
        }
    }
    Ok(view)
}

/// The networks that a part of a view names.
pub(super) fn networks(part: &Value) -> Vec<IpNet> {
    let mut found = Vec::new();
    collect(part, &mut found);
    found
}

fn collect(value: &Value, found: &mut Vec<IpNet>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        Value::Object(members) => {
            let prefix = members.get("prefix");
            let parts =
                prefix.and_then(|prefix| Some((prefix.get("addr")?.as_str()?, prefix.get("len")?.as_u64()?)));
            if let Some((address, length)) = parts {
                found.extend(format!("{address}/{length}").parse::<IpNet>());
            }
            members.values().for_each(|value| collect(value, found));
        }
        _ => {}
    }
}

fn text<'a>(object: &'a Value, key: &str) -> Result<&'a str, String> {
    object.get(key).and_then(Value::as_str).ok_or_else(|| format!("no `{key}` in {object}"))
}

fn described(object: &Value, (kind, name): (&str, &str), keys: &[&str]) -> Value {
    let mut described = Map::from_iter([(kind.to_owned(), Value::from(name))]);
    for key in keys {
        if let Some(value) = object.get(*key) {
            described.insert((*key).to_owned(), with_single_flags(value));
        }
    }
    Value::Object(described)
}

/// Versions of nft differ in whether a single flag is a list.
fn with_single_flags(value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(with_single_flags).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| match value {
                Value::Array(flags) if key == "flags" && flags.len() == 1 => (key.clone(), flags[0].clone()),
                _ => (key.clone(), with_single_flags(value)),
            })
            .collect::<Map<_, _>>()
            .into(),
        _ => value.clone(),
    }
}
