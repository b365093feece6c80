//! The interfaces of the operator's that plugins may use beside the external one.

use flannel_datapath::Probe;
use flannel_plugin_host::Uplink;

use crate::cli::Options;

/// Those that are named, without the external interface, which may have become one of them.
pub fn named(options: &Options, external: &str) -> Vec<String> {
    let mut named: Vec<String> = Vec::new();
    for name in options.uplinks.iter().filter(|name| **name != *external) {
        if !named.contains(name) {
            named.push(name.clone());
        }
    }
    named
}

/// How they are at the moment. The error says which cannot be looked at.
pub fn look_at(probe: &Probe, names: &[String]) -> Result<Vec<Uplink>, String> {
    let uplink = |name: &String| {
        let found = probe.link(name).map_err(|error| format!("{name} cannot be looked at: {error}"))?;
        let (mtu, addresses) = found.unwrap_or_default();
        Ok(Uplink { name: name.clone(), mtu, addresses: addresses.into_iter().collect() })
    };
    names.iter().map(uplink).collect()
}
