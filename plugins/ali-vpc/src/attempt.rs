//! The attempt to make a row, remembered in the host's store: whoever goes on with it, after a restart or a swap, sends the same token,
//! and the cloud makes nothing twice.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use flannel_backend::ipnet::IpNet;
use flannel_backend::serde_json::{Value, from_slice, json};
use flannel_backend::{clock, state};

/// Where it is kept.
const KEY: &str = "attempt";
/// How long one token is used. A row that somebody removes before its node has seen it does not come back with the token that made it,
/// and once reads are up to date again another token does no harm: the cloud has one entry for a destination, whoever asks.
const LIFETIME: Duration = Duration::from_mins(1);

/// A number that only depends on the value.
pub fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What a row is: table, destination, instance.
fn name(table: &str, destination: IpNet, instance: &str) -> String {
    format!("{table} {destination} {instance}")
}

/// The token of the attempt that is under way; none: there is none for this row.
pub fn token(table: &str, destination: IpNet, instance: &str) -> Result<Option<String>, String> {
    let kept = state::get(KEY)?.and_then(|bytes| from_slice::<Value>(&bytes).ok()).unwrap_or_default();
    let is_this = kept["row"] == json!(name(table, destination, instance));
    let begun = Duration::from_secs(kept["begun"].as_u64().unwrap_or_default());
    // A clock that was put back makes it old, too.
    let is_young = clock::wall().checked_sub(begun).is_some_and(|age| age < LIFETIME);
    Ok(kept["token"].as_str().filter(|_| is_this && is_young).map(ToOwned::to_owned))
}

/// Begins an attempt, in place of any other. It is durable once the call is over, and only then the token may be used.
pub fn begin(table: &str, destination: IpNet, instance: &str) -> Result<(), String> {
    let row = name(table, destination, instance);
    let now = clock::wall();
    // At most 64 characters of ASCII.
    let token = format!("flannel-{:016x}-{}", hash(&row), now.as_millis());
    let attempt = json!({ "row": row, "token": token, "begun": now.as_secs() });
    Ok(state::set(KEY, Some(attempt.to_string().as_bytes()))?)
}

/// The attempt for this row is over, if that is the one.
pub fn end(table: &str, destination: IpNet, instance: &str) -> Result<(), String> {
    if token(table, destination, instance)?.is_some() {
        state::set(KEY, None)?;
    }
    Ok(())
}
