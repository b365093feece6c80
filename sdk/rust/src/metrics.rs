//! Figures of the plugin's own, which the daemon shows to Prometheus as `flanneld_policy_NAME`. They are no part of a call's transaction. A
//! refusal dooms nothing: a figure is not worth a peer, and `let _ = metrics::add(…)` is all right.

use crate::Error;

/// Sets a gauge: something that is so much now.
pub fn set_gauge(name: &str, labels: &[(&str, &str)], value: f64) -> Result<(), Error> {
    #[cfg(target_family = "wasm")]
    {
        wit::set_gauge(name, &owned(labels), value).map_err(crate::convert::error)
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| {
        host.gauges.insert(series(name, labels), value);
        Ok(())
    })
}

/// Takes back a gauge of these labels: what it is about is not there any more.
pub fn remove_gauge(name: &str, labels: &[(&str, &str)]) -> Result<(), Error> {
    #[cfg(target_family = "wasm")]
    {
        wit::remove_gauge(name, &owned(labels)).map_err(crate::convert::error)
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| {
        host.gauges.remove(&series(name, labels));
        Ok(())
    })
}

/// Adds to a counter: something has happened so often. With an amount of 0 it is there before anything has happened.
pub fn add(name: &str, labels: &[(&str, &str)], amount: u64) -> Result<(), Error> {
    #[cfg(target_family = "wasm")]
    {
        wit::add(name, &owned(labels), amount).map_err(crate::convert::error)
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| {
        let count = host.counters.entry(series(name, labels)).or_default();
        *count = count.saturating_add(amount);
        Ok(())
    })
}

/// Says what a name is about: at most 256 bytes in one line.
pub fn set_help(name: &str, text: &str) -> Result<(), Error> {
    #[cfg(target_family = "wasm")]
    {
        wit::set_help(name, text).map_err(crate::convert::error)
    }
    #[cfg(not(target_family = "wasm"))]
    {
        let _ = (name, text);
        Ok(())
    }
}

#[cfg(target_family = "wasm")]
use crate::bindings::flannel::backend::metrics as wit;

#[cfg(target_family = "wasm")]
fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A series as tests name it: `probes{port="1",up="no"}`, with the labels by name.
#[cfg(not(target_family = "wasm"))]
fn series(name: &str, labels: &[(&str, &str)]) -> String {
    let mut labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    labels.sort_unstable();
    if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) }
}
