//! The network's router: what the rows of the routes mean for packets. They become routes of the kernel where the nodes' default
//! gateway is, so that a packet comes through only while the row is right.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::state::State;
use crate::Namespace;

/// The kernel's routes that are there for rows: destination and gateway.
#[derive(Debug, Default)]
pub(in crate::cloud) struct Router(BTreeMap<String, IpAddr>);

impl Router {
    /// What the rows ask for.
    pub(super) fn wanted(state: &State) -> BTreeMap<String, IpAddr> {
        let mut rows: Vec<&Value> = state.routes.values().collect();
        // The lowest priority wins: it comes last.
        rows.sort_by_key(|row| std::cmp::Reverse(row["priority"].as_u64()));
        rows.into_iter()
            .filter_map(|row| Some((row["destRange"].as_str()?.to_owned(), hop(state, row)?)))
            .collect()
    }

    /// Makes the kernel so. What cannot be done is tried again the next time.
    pub(in crate::cloud) fn apply(&mut self, namespace: &Namespace, wanted: &BTreeMap<String, IpAddr>) {
        let missing = wanted.iter().filter(|(to, via)| self.0.get(*to) != Some(*via));
        let missing: Vec<_> = missing.map(|(to, via)| (to.clone(), *via)).collect();
        for (to, via) in missing {
            if namespace.ip(&format!("route replace {to} via {via}")).is_ok() {
                self.0.insert(to, via);
            }
        }
        let stale: Vec<_> = self.0.keys().filter(|to| !wanted.contains_key(*to)).cloned().collect();
        for to in stale {
            if namespace.ip(&format!("route del {to}")).is_ok() {
                self.0.remove(&to);
            }
        }
    }
}

/// Where packets go by a row. A machine that may not forward gets none that are not for itself.
fn hop(state: &State, row: &Value) -> Option<IpAddr> {
    if let Some(text) = row["nextHopIp"].as_str() {
        return text.parse().ok();
    }
    let instance = state.instance(row["nextHopInstance"].as_str()?)?;
    instance.can_ip_forward.then_some(instance.address)
}
