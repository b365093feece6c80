//! What routes with attributes, and rules, ask of the reconciler: uplinks, the tables of the plugin's own, and what is held there.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use flannel_model::entry::{Entry, Key, Kind};
use flannel_model::policy_routing::{Encapsulation, Hop};
use ipnet::IpNet;
use tracing::{debug, info, warn};

use super::{Event, Reconciler};
use crate::kinds;
use crate::links;
use crate::netlink::NetlinkError;
use crate::observed::{Link, Observation};

/// Where it is said whether a node takes packets that come in by segments (Documentation/networking/seg6-sysctl.rst).
const IPV6_SYSCTLS: &str = "/proc/sys/net/ipv6/conf";

/// Whether two looks at a link differ in its carrier alone.
pub(super) fn is_alike(one: Option<&Link>, other: Option<&Link>) -> bool {
    let usual = |link: Option<&Link>| link.map(|link| Link { carrier: true, ..link.clone() });
    one.is_some() && usual(one) == usual(other)
}

/// What a kernel has to have for an encapsulation.
fn needed_for(encapsulation: &Encapsulation) -> &'static str {
    match encapsulation {
        Encapsulation::Tunnel(_) => {
            "this kernel cannot say in a route where a tunnel leads to (CONFIG_LWTUNNEL)"
        }
        Encapsulation::Segments(_) => "this kernel has no segment routing (CONFIG_IPV6_SEG6_LWTUNNEL)",
        Encapsulation::Labels(_) => {
            "this kernel has no MPLS, or has not loaded it: `modprobe mpls_iptunnel` (CONFIG_MPLS_IPTUNNEL)"
        }
    }
}

impl Reconciler {
    /// Looks at the operator's interfaces that plugins may use.
    pub(super) fn observe_uplinks(&mut self) -> Result<(), NetlinkError> {
        for name in self.uplinks.clone() {
            let found = links::find(&mut self.requests, &name)?.link;
            if found.as_ref() == self.kernel.uplinks.get(&name) {
                continue;
            }
            debug!(uplink = %name, ?found, "uplink");
            let is_alike = is_alike(found.as_ref(), self.kernel.uplinks.get(&name));
            match found {
                Some(link) => drop(self.kernel.uplinks.insert(name, link)),
                None => drop(self.kernel.uplinks.remove(&name)),
            }
            // The first sight of it is no change.
            if !is_alike && self.figures.resyncs > 1 {
                // Nobody listens any more when the daemon is going down.
                let _ = self.events.send(Event::Reachability);
            }
        }
        Ok(())
    }

    /// Reads rules, and routes with attributes: those that are ours wherever they are, and all in the tables that are in use.
    pub(super) fn observe_policy_routing(&mut self, ipv4: bool) -> Result<(), NetlinkError> {
        let mut asked = vec![kinds::rule::all_rules(ipv4), kinds::policy_route::all_routes(ipv4)];
        let tables = self.ledger.tables().into_iter().map(|table| self.kernel.policy_tables.number(table));
        asked.extend(tables.map(|table| kinds::trial_route::all_routes(table, ipv4)));
        for request in asked {
            match self.observe(&request) {
                // A table that has no route yet is not there, and neither are rules that a kernel does not have.
                Err(error)
                    if error.is(libc::ENOENT)
                        || error.is(libc::EOPNOTSUPP)
                        || error.is(libc::EAFNOSUPPORT) => {}
                other => other?,
            }
        }
        // What is there, and as an earlier run has made it, is held from now on.
        let kernel = &mut self.kernel;
        kernel.held_policy_routes.extend(kernel.policy_routes.keys().copied());
        Ok(())
    }

    /// Looks whether this node takes what its peers send by segments: they do as this node does. The switches are the operator's.
    pub(super) fn look_at_segments(&mut self) {
        let routes = self.ledger.policy_routes();
        let hops = routes.flat_map(|route| &route.hops).filter(|hop| !hop.segments().is_empty());
        let interfaces: BTreeSet<&str> = hops.map(|hop| self.kernel.interfaces.name(&hop.device)).collect();
        let names = std::iter::once("all").chain(interfaces.iter().copied());
        let off: Vec<String> = names
            .filter(|_| !interfaces.is_empty())
            .filter(|name| {
                let value = std::fs::read_to_string(Path::new(IPV6_SYSCTLS).join(name).join("seg6_enabled"));
                // One that is not there says nothing: the interface is away, or the kernel has refused the routes.
                value.is_ok_and(|value| value.trim() == "0")
            })
            .map(|name| format!("net.ipv6.conf.{name}.seg6_enabled"))
            .collect();
        let reason = (!off.is_empty()).then(|| {
            let (are, have) = if off.len() == 1 { ("is", "has") } else { ("are", "have") };
            let off = off.join(" and ");
            format!("this node drops what comes to it by segments: {off} {are} 0, and {have} to be 1")
        });
        if self.no_segments != reason {
            if let Some(reason) = &reason {
                warn!("{reason}");
            } else {
                info!("nothing that comes to this node by segments is dropped any more");
            }
            self.no_segments = reason;
        }
    }

    /// What is wrong with the segments of a peer that has these entries, if it has any.
    pub(super) fn segments_problem(&self, entries: &[Entry]) -> Option<String> {
        let reason = self.no_segments.as_ref()?;
        let has_segments =
            |entry: &Entry| matches!(entry, Entry::PolicyRoute(route) if route.segments().next().is_some());
        entries.iter().any(has_segments).then(|| reason.clone())
    }

    /// Why the kernel has refused an entry, with what would help where its own words do not say that.
    pub(super) fn refusal(&self, key: &Key, error: &NetlinkError) -> String {
        let of = |hop: &Hop| hop.encapsulation.as_deref().map(needed_for);
        let needed = match self.ledger.entry(key) {
            Some(Entry::PolicyRoute(route)) => route.hops.iter().find_map(of),
            Some(Entry::TrialRoute { encapsulation, .. }) => encapsulation.as_deref().map(needed_for),
            _ => None,
        };
        match needed.filter(|_| error.is(libc::EOPNOTSUPP)) {
            Some(needed) => format!("{error}: {needed}"),
            None => error.to_string(),
        }
    }

    /// What is not wanted any more, and is gone, is not held.
    pub(super) fn settle_policy_routes(&mut self, looked_at: Option<&BTreeSet<Key>>) {
        let Self { kernel, ledger, .. } = self;
        let (held, there) = (&mut kernel.held_policy_routes, &kernel.policy_routes);
        if held.is_empty() {
            return;
        }
        match looked_at {
            None => {
                held.retain(|place| {
                    there.contains_key(place) || ledger.entry(&Key::PolicyRoute(*place)).is_some()
                });
            }
            Some(keys) => {
                for key in keys {
                    if let Key::PolicyRoute(place) = key
                        && !there.contains_key(place)
                        && ledger.entry(key).is_none()
                    {
                        held.remove(place);
                    }
                }
            }
        }
    }

    /// What a notification means for routes with attributes, beyond the entry that it is about.
    pub(super) fn ingest_for_policy_routes(&mut self, fact: &Observation) {
        match fact {
            // IPv6's kernel removes next hops one by one, and says of each that the route is gone.
            Observation::PolicyRoute(place, None) if place.destination.addr().is_ipv6() => {
                let several = self.kernel.policy_routes.get(place).is_some_and(|route| route.hops.len() > 1);
                self.dirty.everything |= several;
            }
            Observation::ForeignRoute(place, None) => self.try_again(place.destination),
            Observation::NoRoute(destination, _) => self.try_again(*destination),
            _ => {}
        }
    }

    /// A route that was in the way has gone.
    fn try_again(&mut self, destination: IpNet) {
        let now = Instant::now();
        for (key, failure) in &mut self.failures {
            if matches!(key, Key::PolicyRoute(place) if place.destination == destination) {
                failure.again = failure.again.min(now);
            }
        }
    }

    /// Whether anything depends on the carriers of links.
    pub(super) fn depends_on_carriers(&self) -> bool {
        self.ledger.count(Kind::PolicyRoute) > 0
    }

    /// Takes news of an uplink in, if it is one.
    pub(super) fn ingest_uplink(&mut self, name: &str, link: &Link, gone: bool) {
        let known = self.kernel.uplinks.iter().find(|(_, known)| known.index == link.index);
        let is_uplink = known.is_some() || self.uplinks.iter().any(|uplink| **uplink == *name);
        let is_same = known.is_some_and(|(its, known)| **its == *name && known == link);
        self.dirty.everything |= is_uplink && (gone || !is_same);
    }

    /// Takes news of an address of an uplink in; `false`: it is of another interface.
    pub(super) fn ingest_uplink_address(&mut self, index: u32) -> bool {
        let is_uplink = self.kernel.uplinks.values().any(|link| link.index == index);
        if is_uplink {
            // With an address go the routes that have it as their source, and nobody says so.
            self.dirty.everything = true;
            let _ = self.events.send(Event::Reachability);
        }
        is_uplink
    }
}
