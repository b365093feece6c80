//! The VPC's router: what the rows of the table mean for packets. They become routes of the kernel where the nodes' default gateway is,
//! so that a packet comes through only while the row is right.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::state::State;
use super::tables::{self, Route};
use crate::Namespace;

/// The kernel's routes that are there for rows: destination and gateway.
#[derive(Debug, Default)]
pub(super) struct Router(BTreeMap<String, IpAddr>);

impl Router {
    /// What the rows of the table ask for that the nodes' subnet uses.
    pub(super) fn wanted(state: &State) -> BTreeMap<String, IpAddr> {
        let tables = state.tables();
        let routes = tables.get(&state.table).into_iter().flatten();
        routes.filter_map(|route| Some((tables::destination(route).to_owned(), hop(state, route)?))).collect()
    }

    /// Makes the kernel so. What cannot be done is tried again the next time.
    pub(super) fn apply(&mut self, namespace: &Namespace, wanted: &BTreeMap<String, IpAddr>) {
        let stale: Vec<_> = self.0.keys().filter(|to| !wanted.contains_key(*to)).cloned().collect();
        for to in stale {
            if namespace.ip(&format!("route del {to}")).is_ok() {
                self.0.remove(&to);
            }
        }
        for (to, via) in wanted {
            if self.0.get(to) != Some(via) && namespace.ip(&format!("route replace {to} via {via}")).is_ok() {
                self.0.insert(to.clone(), *via);
            }
        }
    }
}

/// Where packets go by a row. An interface that checks sources and destinations gets none that are not for itself.
fn hop(state: &State, route: &Route) -> Option<IpAddr> {
    let machine = tables::machine(route, &state.machines)?;
    if machine.checks || !machine.running {
        return None;
    }
    if route.contains_key("destinationIpv6CidrBlock") {
        return machine.address_v6.map(IpAddr::from);
    }
    Some(machine.address.into())
}
