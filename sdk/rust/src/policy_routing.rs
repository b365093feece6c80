//! Routes with attributes and several next hops, in the main table and in tables of the plugin's own, and the rules by which packets go by the
//! latter.

use std::net::{IpAddr, Ipv6Addr};

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

/// What a device in external mode is told of a packet's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// To whom: one of the addresses that the peer has published, of a family that the device's own packets have.
    pub destination: IpAddr,
    /// GRE's key, or the VNI; none: 0, or no key.
    pub id: Option<u64>,
    /// The outer packet's time to live, or hop limit, 1 to 255; none: the kernel's choice.
    pub ttl: Option<u8>,
    /// The outer packet's differentiated services code point, 0 to 63.
    pub dscp: u8,
}

impl Tunnel {
    /// To an address, without anything else.
    pub fn to(destination: IpAddr) -> Self {
        Self { destination, id: None, ttl: None, dscp: 0 }
    }
}

/// What packets get around them on a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// Another packet, which a device of the plugin's own in external mode makes.
    Tunnel(Tunnel),
    /// An IPv6 header with a segment routing header: through these nodes, 1 to 16, by their public IPv6 addresses; the last one is the peer's.
    /// Takes 48 bytes and 16 for each segment.
    Segments(Vec<Ipv6Addr>),
    /// MPLS labels, 1 to 8, each 16 to 1048575, the outermost first. The next hop has a gateway then.
    Labels(Vec<u32>),
}

/// One of the ways that a route has.
#[derive(Debug)]
pub struct NextHop<'a> {
    /// Where packets leave: the external interface, a device of the plugin's own, or an uplink.
    pub device: &'a Link,
    /// The gateway, of the destination's family; none: the device, one of the plugin's own, knows where the peer is, or the encapsulation says it.
    pub via: Option<IpAddr>,
    /// The gateway is on the device's link even though no address of this node says so.
    pub onlink: bool,
    /// Its share of the flows, 1 to 256.
    pub weight: u16,
    /// What packets get around them.
    pub encapsulation: Option<Encapsulation>,
}

impl<'a> NextHop<'a> {
    /// A gateway on a link, with a share of 1.
    pub fn via(gateway: IpAddr, device: &'a Link) -> Self {
        Self { device, via: Some(gateway), onlink: false, weight: 1, encapsulation: None }
    }

    /// A way that the encapsulation says, with a share of 1.
    pub fn by(encapsulation: Encapsulation, device: &'a Link) -> Self {
        Self { device, via: None, onlink: false, weight: 1, encapsulation: Some(encapsulation) }
    }

    /// The same with something around packets.
    #[must_use]
    pub fn with(self, encapsulation: Encapsulation) -> Self {
        Self { encapsulation: Some(encapsulation), ..self }
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
#[derive(Clone, Debug)]
pub struct Rule<'a> {
    /// 0 to 999; the rule with the lowest that fits counts.
    pub priority: u16,
    /// Packets from here, in a cluster network.
    pub source: Option<IpNet>,
    /// Packets to there, in a cluster network. One of both is given.
    pub destination: Option<IpNet>,
    /// Packets with this mark.
    pub mark: Option<Mark>,
    /// Packets that have come in over this one: the external interface, a device of the plugin's own, or an uplink.
    pub input: Option<&'a Link>,
    /// One of the plugin's own tables, 0 to 15.
    pub table: u8,
}

#[cfg(target_family = "wasm")]
mod host {
    use super::{Encapsulation, Error, Link, Mark, NextHop, PeerId, Route, Rule, Uplink};
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

    fn encapsulation(encapsulation: &Encapsulation) -> wit::Encapsulation {
        match encapsulation {
            Encapsulation::Tunnel(tunnel) => wit::Encapsulation::Tunnel(wit::TunnelEncapsulation {
                destination: convert::address(tunnel.destination),
                id: tunnel.id,
                ttl: tunnel.ttl,
                dscp: tunnel.dscp,
            }),
            Encapsulation::Segments(segments) => {
                wit::Encapsulation::Segments(segments.iter().copied().map(convert::ipv6_address).collect())
            }
            Encapsulation::Labels(labels) => wit::Encapsulation::Labels(labels.clone()),
        }
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
                encapsulation: next.encapsulation.as_ref().map(encapsulation),
            })
            .collect();
        wit::put_route(convert::peer(peer), route, &hops).map_err(convert::error)
    }

    /// Declares the whole set of the plugin's rules, at most 64.
    pub fn set_rules(rules: &[Rule]) -> Result<(), Error> {
        let rules: Vec<_> = rules.iter().map(rule).collect();
        wit::set_rules(&rules).map_err(convert::error)
    }

    fn rule<'a>(rule: &Rule<'a>) -> wit::Rule<'a> {
        let mark = |Mark { value, mask }| wit::Mark { value, mask };
        wit::Rule {
            priority: rule.priority,
            source: rule.source.map(convert::prefix),
            destination: rule.destination.map(convert::prefix),
            mark: rule.mark.map(mark),
            input: rule.input.map(Link::handle),
            table: rule.table,
        }
    }
}

#[cfg(not(target_family = "wasm"))]
mod host {
    use super::{DeclaredHop, DeclaredRule, Error, Link, NextHop, PeerId, Route, Rule, Uplink};
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
        let hops = hops.iter().map(DeclaredHop::of).collect();
        declare(Declared::PolicyRoute(peer, route.clone(), hops))
    }

    /// Declares the whole set of the plugin's rules, at most 64.
    pub fn set_rules(rules: &[Rule]) -> Result<(), Error> {
        declare(Declared::Rules(rules.iter().map(DeclaredRule::of).collect()))
    }
}

pub use host::{open_uplink, put_route, set_rules, uplinks};

/// A next hop as a test finds it.
#[cfg(not(target_family = "wasm"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredHop {
    /// The device's name.
    pub device: String,
    /// The gateway.
    pub via: Option<IpAddr>,
    /// The gateway is on the link whatever addresses say.
    pub onlink: bool,
    /// Its share of the flows.
    pub weight: u16,
    /// What packets get around them.
    pub encapsulation: Option<Encapsulation>,
}

#[cfg(not(target_family = "wasm"))]
impl DeclaredHop {
    fn of(hop: &NextHop) -> Self {
        let NextHop { device, via, onlink, weight, encapsulation } = hop;
        let (device, encapsulation) = (device.name(), encapsulation.clone());
        Self { device, via: *via, onlink: *onlink, weight: *weight, encapsulation }
    }
}

/// A rule as a test finds it.
#[cfg(not(target_family = "wasm"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredRule {
    /// 0 to 999.
    pub priority: u16,
    /// Packets from here.
    pub source: Option<IpNet>,
    /// Packets to there.
    pub destination: Option<IpNet>,
    /// Packets with this mark.
    pub mark: Option<Mark>,
    /// Packets that have come in over the device of this name.
    pub input: Option<String>,
    /// One of the plugin's own tables.
    pub table: u8,
}

#[cfg(not(target_family = "wasm"))]
impl DeclaredRule {
    fn of(rule: &Rule) -> Self {
        let Rule { priority, source, destination, mark, input, table } = rule;
        let input = input.map(Link::name);
        let (priority, table) = (*priority, *table);
        Self { priority, source: *source, destination: *destination, mark: *mark, input, table }
    }
}

/// In the words of ip-route(8).
#[cfg(not(target_family = "wasm"))]
pub(crate) fn shown_route(route: &Route, hops: &[DeclaredHop]) -> String {
    let Route { destination, table, metric, source, mtu, advmss } = route;
    let mut words = vec![format!("route {destination} metric {metric}")];
    words.extend(table.map(|table| format!("table {table}")));
    words.extend(source.map(|source| format!("src {source}")));
    words.extend(mtu.map(|mtu| format!("mtu {mtu}")));
    words.extend(advmss.map(|advmss| format!("advmss {advmss}")));
    let several = hops.len() > 1;
    for DeclaredHop { device, via, onlink, weight, encapsulation } in hops {
        words.extend(several.then(|| "nexthop".to_owned()));
        words.extend(encapsulation.as_ref().map(shown_encapsulation));
        words.extend(via.map(|via| format!("via {via}")));
        words.push(format!("dev {device}"));
        words.extend(onlink.then(|| "onlink".to_owned()));
        words.extend(several.then(|| format!("weight {weight}")));
    }
    words.join(" ")
}

#[cfg(not(target_family = "wasm"))]
fn shown_encapsulation(encapsulation: &Encapsulation) -> String {
    match encapsulation {
        Encapsulation::Tunnel(Tunnel { destination, id, ttl, dscp }) => {
            let (kind, limit) = if destination.is_ipv4() { ("ip", "ttl") } else { ("ip6", "hoplimit") };
            let mut words = vec![format!("encap {kind}")];
            words.extend(id.map(|id| format!("id {id}")));
            words.push(format!("dst {destination}"));
            words.extend(ttl.map(|ttl| format!("{limit} {ttl}")));
            words.extend((*dscp > 0).then(|| format!("dscp {dscp}")));
            words.join(" ")
        }
        Encapsulation::Segments(segments) => {
            let segments: Vec<String> = segments.iter().map(Ipv6Addr::to_string).collect();
            format!("encap seg6 mode encap segs {}", segments.join(","))
        }
        Encapsulation::Labels(labels) => {
            let labels: Vec<String> = labels.iter().map(u32::to_string).collect();
            format!("encap mpls {}", labels.join("/"))
        }
    }
}

/// In the words of ip-rule(8).
#[cfg(not(target_family = "wasm"))]
pub(crate) fn shown_rule(rule: &DeclaredRule) -> String {
    let DeclaredRule { priority, source, destination, mark, input, table } = rule;
    let from = source.map(|source| format!(" from {source}")).unwrap_or_default();
    let to = destination.map(|destination| format!(" to {destination}")).unwrap_or_default();
    let mark = mark.map(|Mark { value, mask }| format!(" fwmark {value:#x}/{mask:#x}")).unwrap_or_default();
    let input = input.as_ref().map(|input| format!(" iif {input}")).unwrap_or_default();
    format!("rule {priority}:{from}{to}{mark}{input} lookup {table}")
}
