//! Routes with attributes and several next hops, in the main table and in tables of the plugin's own, and the rules by which packets go by the
//! latter.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Error, Link, PeerId};

/// An interface of the operator's that plugins may use beside the external one (`--uplink`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// The kernel's name of it.
    pub name: String,
    /// Bytes of the largest IP packet that it carries; 0 while it is away.
    pub mtu: u32,
    /// Its addresses that are good beyond the link, each with the length of its network's prefix.
    pub addresses: Vec<IpNet>,
}

/// One of the ways that a route has.
#[derive(Debug)]
pub struct NextHop<'a> {
    /// Where packets leave: the external interface, a device of the plugin's own, or an uplink.
    pub device: &'a Link,
    /// The gateway, of the destination's family; none, for a device of the plugin's own alone: the device knows where the peer is.
    pub via: Option<IpAddr>,
    /// The gateway is on the device's link even though no address of this node says so.
    pub onlink: bool,
    /// Its share of the flows, 1 to 256.
    pub weight: u16,
}

impl<'a> NextHop<'a> {
    /// A gateway on a link, with a share of 1.
    pub fn via(gateway: IpAddr, device: &'a Link) -> Self {
        Self { device, via: Some(gateway), onlink: false, weight: 1 }
    }
}

/// How packets for a peer's subnet leave this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Lies in the peer's own subnet.
    pub destination: IpNet,
    /// One of the plugin's own tables, 0 to 15; none: the main table.
    pub table: Option<u8>,
    /// Of several routes to one destination in a table the one with the lowest counts. 1 to 4294967293; in the main table 101 and more, and
    /// not 1024.
    pub metric: u32,
    /// What packets of this node itself have as their source: an address of one of the plugin's own devices, of the external interface, or of
    /// an uplink.
    pub source: Option<IpAddr>,
    /// Bytes of the largest IP packet, 68 to 65520, and 1280 and more for IPv6; none: the device's.
    pub mtu: Option<u32>,
    /// Bytes of the largest TCP segment that is announced, 1 to 65495; none: what follows from the MTU.
    pub advmss: Option<u32>,
}

impl Route {
    /// A route of the main table without further attributes.
    pub fn new(destination: IpNet, metric: u32) -> Self {
        Self { destination, table: None, metric, source: None, mtu: None, advmss: None }
    }
}

/// Bits of a packet's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// How they are; bits beyond the mask are zero.
    pub value: u32,
    /// Which bits are looked at; not 0.
    pub mask: u32,
}

/// Which packets go by a table of the plugin's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// 0 to 999; the rule with the lowest that fits counts.
    pub priority: u16,
    /// Packets from here, in a cluster network.
    pub source: Option<IpNet>,
    /// Packets to there, in a cluster network. One of both is given.
    pub destination: Option<IpNet>,
    /// Packets with this mark.
    pub mark: Option<Mark>,
    /// One of the plugin's own tables, 0 to 15.
    pub table: u8,
}

#[cfg(target_family = "wasm")]
mod host {
    use super::{Error, Link, Mark, NextHop, PeerId, Route, Rule, Uplink};
    use crate::bindings::flannel::backend::policy_routing as wit;
    use crate::convert;

    /// The uplinks, in the order in which the operator has named them.
    pub fn uplinks() -> Result<Vec<Uplink>, Error> {
        let all = wit::uplinks().map_err(convert::error)?;
        let uplink = |uplink: wit::Uplink| Uplink {
            name: uplink.name,
            mtu: uplink.mtu,
            addresses: uplink.addresses.iter().map(convert::prefix_from).collect(),
        };
        Ok(all.into_iter().map(uplink).collect())
    }

    /// The link of an uplink, for next hops.
    pub fn open_uplink(name: &str) -> Result<Link, Error> {
        wit::open_uplink(name).map(Link::of).map_err(convert::error)
    }

    /// Declares a route for a peer, with 1 to 16 next hops.
    pub fn put_route(peer: PeerId, route: &Route, hops: &[NextHop]) -> Result<(), Error> {
        let route = wit::Route {
            destination: convert::prefix(route.destination),
            table: route.table,
            metric: route.metric,
            source: route.source.map(convert::address),
            mtu: route.mtu,
            advmss: route.advmss,
        };
        let hops: Vec<_> = hops
            .iter()
            .map(|next| wit::NextHop {
                device: next.device.handle(),
                via: next.via.map(convert::address),
                onlink: next.onlink,
                weight: next.weight,
            })
            .collect();
        wit::put_route(convert::peer(peer), route, &hops).map_err(convert::error)
    }

    /// Declares the whole set of the plugin's rules, at most 64.
    pub fn set_rules(rules: &[Rule]) -> Result<(), Error> {
        let mark = |Mark { value, mask }| wit::Mark { value, mask };
        let rule = |rule: &Rule| wit::Rule {
            priority: rule.priority,
            source: rule.source.map(convert::prefix),
            destination: rule.destination.map(convert::prefix),
            mark: rule.mark.map(mark),
            table: rule.table,
        };
        let rules: Vec<_> = rules.iter().map(rule).collect();
        wit::set_rules(&rules).map_err(convert::error)
    }
}

#[cfg(not(target_family = "wasm"))]
mod host {
    use super::{Error, Link, NextHop, PeerId, Route, Rule, Uplink};
    use crate::testing::{Declared, declare, with};

    /// The uplinks, in the order in which the operator has named them.
    pub fn uplinks() -> Result<Vec<Uplink>, Error> {
        with(|host| Ok(host.uplinks.clone()))
    }

    /// The link of an uplink, for next hops.
    pub fn open_uplink(name: &str) -> Result<Link, Error> {
        let is_there = with(|host| host.uplinks.iter().any(|uplink| uplink.name == name));
        is_there.then(|| Link::named(name)).ok_or_else(|| Error::Denied(format!("{name} is no uplink")))
    }

    /// Declares a route for a peer, with 1 to 16 next hops.
    pub fn put_route(peer: PeerId, route: &Route, hops: &[NextHop]) -> Result<(), Error> {
        let hops = hops.iter().map(|hop| (hop.device.name(), hop.via, hop.onlink, hop.weight)).collect();
        declare(Declared::PolicyRoute(peer, route.clone(), hops))
    }

    /// Declares the whole set of the plugin's rules, at most 64.
    pub fn set_rules(rules: &[Rule]) -> Result<(), Error> {
        declare(Declared::Rules(rules.to_vec()))
    }
}

pub use host::{open_uplink, put_route, set_rules, uplinks};

/// In the words of ip-route(8).
#[cfg(not(target_family = "wasm"))]
pub(crate) fn shown_route(route: &Route, hops: &[(String, Option<IpAddr>, bool, u16)]) -> String {
    let Route { destination, table, metric, source, mtu, advmss } = route;
    let mut words = vec![format!("route {destination} metric {metric}")];
    words.extend(table.map(|table| format!("table {table}")));
    words.extend(source.map(|source| format!("src {source}")));
    words.extend(mtu.map(|mtu| format!("mtu {mtu}")));
    words.extend(advmss.map(|advmss| format!("advmss {advmss}")));
    let several = hops.len() > 1;
    for (device, via, onlink, weight) in hops {
        words.extend(several.then(|| "nexthop".to_owned()));
        words.extend(via.map(|via| format!("via {via}")));
        words.push(format!("dev {device}"));
        words.extend(onlink.then(|| "onlink".to_owned()));
        words.extend(several.then(|| format!("weight {weight}")));
    }
    words.join(" ")
}

/// In the words of ip-rule(8).
#[cfg(not(target_family = "wasm"))]
pub(crate) fn shown_rule(rule: &Rule) -> String {
    let Rule { priority, source, destination, mark, table } = rule;
    let from = source.map(|source| format!(" from {source}")).unwrap_or_default();
    let to = destination.map(|destination| format!(" to {destination}")).unwrap_or_default();
    let mark = mark.map(|Mark { value, mask }| format!(" fwmark {value:#x}/{mask:#x}")).unwrap_or_default();
    format!("rule {priority}:{from}{to}{mark} lookup {table}")
}
