//! A policy for nodes that have two networks between them: that of the external interface, and that of an uplink (`--uplink`). Each publishes where
//! it is in the second one, and reaches its peers by both. Its options are the node's (`--plugin-option`):
//!
//! | option | |
//! |---|---|
//! | `ways` | `fallback`, as without it: the second network is taken when the first has lost its carrier; or `ecmp`: flows are shared |
//! | `steer` | the second half of the node's own subnet: what these pods send goes by the second network alone |
//! | `metric` | of the better way, 200 without it |
//! | `forward` | what comes in by the second network for the cluster is sent on by it |
//! | `segments` | peers are reached by the first network alone, in packets of IPv6 with segments (SRv6): through the nodes with these public IPv6 addresses, joined by `+`, as far as they are there. With `ways=ecmp` flows are shared between that way and the one without them |
//! | `labels` | peers are reached by the first network alone, with these MPLS labels, joined by `+`, the outermost first |
//!
//! Whoever has no second network is reached by the first.

mod around;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use around::Around;
use flannel_backend::ipnet::IpNet;
use flannel_backend::policy_routing::{self, NextHop, Route, Rule};
use flannel_backend::serde_json::json;
use flannel_backend::{Config, Lease, Link, Node, PeerId, Policy, Registration, links, node_info, peers};

/// The table by which packets go over the second network alone.
const SECOND: u8 = 1;
const METRIC: u32 = 200;

/// The second network, as this node has it.
struct Second {
    link: Link,
    mtu: u32,
    addresses: Vec<IpNet>,
}

impl Second {
    /// This node's address of a family.
    fn address(&self, ipv4: bool) -> Option<IpAddr> {
        self.addresses.iter().map(IpNet::addr).find(|address| address.is_ipv4() == ipv4)
    }
}

/// The policy.
pub struct Multihomed {
    second: Option<Second>,
    shares_flows: bool,
    steers: bool,
    forwards: bool,
    metric: u32,
    around: Option<Around>,
    /// Bytes of the largest IP packet that peers are sent.
    mtu: u32,
    networks: Vec<IpNet>,
    /// Where those peers are that have an IPv6 address.
    known: BTreeMap<PeerId, Ipv6Addr>,
}

/// The first uplink that is there and has addresses.
fn second() -> Result<Option<Second>, String> {
    for uplink in policy_routing::uplinks()? {
        if uplink.mtu > 0 && !uplink.addresses.is_empty() {
            let link = policy_routing::open_uplink(&uplink.name)?;
            return Ok(Some(Second { link, mtu: uplink.mtu, addresses: uplink.addresses }));
        }
    }
    Ok(None)
}

impl Multihomed {
    fn of(node: &Node, options: &BTreeMap<String, String>) -> Result<Self, String> {
        let shares_flows = match options.get("ways").map(String::as_str) {
            None | Some("fallback") => false,
            Some("ecmp") => true,
            Some(other) => return Err(format!("the option ways is fallback or ecmp, and not {other:?}")),
        };
        let metric = options.get("metric").map_or(Ok(METRIC), |text| {
            text.parse().map_err(|_| format!("the option metric: {text:?} is no number"))
        })?;
        let networks = [node.ipv4_network.map(IpNet::V4), node.ipv6_network.map(IpNet::V6)];
        let (second, around) = (second()?, Around::of(options)?);
        let mtus = second.iter().map(|second| second.mtu).chain([node.external.mtu]);
        let (carried, taken) =
            (mtus.min().unwrap_or(node.external.mtu), around.as_ref().map_or(0, Around::bytes));
        let least = if node.ipv6_network.is_some() { 1280 } else { 68 };
        let mtu = carried.checked_sub(taken).filter(|left| *left >= least).ok_or_else(|| {
            format!("of the MTU of {carried}, {taken} bytes are for what packets get around them: pods need {least}")
        })?;
        Ok(Self {
            second,
            shares_flows,
            steers: options.contains_key("steer"),
            forwards: options.contains_key("forward"),
            metric,
            around,
            mtu,
            networks: networks.into_iter().flatten().collect(),
            known: BTreeMap::new(),
        })
    }

    /// Takes note of where a peer is, or that it has gone. Whom others go through they are told of again.
    fn know(&mut self, peer: PeerId, address: Option<Ipv6Addr>) -> Result<(), String> {
        let before = match address {
            Some(address) => self.known.insert(peer, address),
            None => self.known.remove(&peer),
        };
        let is_gone_through = |address: Ipv6Addr| {
            self.around.as_ref().is_some_and(|around| around.through().contains(&address))
        };
        if before == address || ![before, address].into_iter().flatten().any(is_gone_through) {
            return Ok(());
        }
        let others: Vec<PeerId> = self.known.keys().copied().filter(|other| *other != peer).collect();
        Ok(peers::refresh(&others)?)
    }

    /// The routes of one family to a peer: `first` and `second` are its addresses in both networks.
    fn route(
        &self,
        peer: PeerId,
        subnet: IpNet,
        first: Option<IpAddr>,
        other: Option<IpAddr>,
    ) -> Result<(), String> {
        let external = links::external();
        if let Some(around) = &self.around {
            let Some(first) = first else { return Ok(()) };
            let route = Route::new(subnet, self.metric);
            let at = self.known.get(&peer).copied();
            let known = |node: &Ipv6Addr| self.known.values().any(|known| known == node);
            let hops = around.hops(first, at, known, self.shares_flows, &external);
            return if hops.is_empty() {
                Ok(())
            } else {
                Ok(policy_routing::put_route(peer, &route, &hops)?)
            };
        }
        let ours =
            self.second.as_ref().and_then(|second| Some((second, second.address(subnet.addr().is_ipv4())?)));
        let better = Route::new(subnet, self.metric);
        let (Some((second, source)), Some(other)) = (ours, other) else {
            let Some(first) = first else { return Ok(()) };
            return Ok(policy_routing::put_route(peer, &better, &[NextHop::via(first, &external)])?);
        };
        let by_second = NextHop::via(other, &second.link);
        match first {
            Some(first) if self.shares_flows => {
                policy_routing::put_route(peer, &better, &[NextHop::via(first, &external), by_second])?;
            }
            Some(first) => {
                policy_routing::put_route(peer, &better, &[NextHop::via(first, &external)])?;
                let worse = Route { mtu: Some(second.mtu), ..Route::new(subnet, self.metric + 100) };
                policy_routing::put_route(peer, &worse, &[by_second])?;
            }
            None => policy_routing::put_route(peer, &better, &[by_second])?,
        }
        let steered = Route {
            table: Some(SECOND),
            source: Some(source),
            advmss: Some(second.mtu - 60),
            ..Route::new(subnet, self.metric)
        };
        Ok(policy_routing::put_route(peer, &steered, &[NextHop::via(other, &second.link)])?)
    }
}

/// Where a peer is in the second network, as it has published; none: it is not there.
fn published(data: Option<&str>) -> Result<Option<IpAddr>, String> {
    let Some(data) = data.filter(|data| *data != "null") else { return Ok(None) };
    let data = Config::parse(data)?;
    let Some(address) = data.text("Second")? else { return Ok(None) };
    address.parse().map(Some).map_err(|_| format!("Second: {address:?} is no address"))
}

/// The second half of a network.
fn second_half(network: IpNet) -> Option<IpNet> {
    network.subnets(network.prefix_len() + 1).ok()?.nth(1)
}

impl Policy for Multihomed {
    const NAME: &'static str = "multihomed";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["multihomed"];

    fn register(node: &Node, _: &Config) -> Result<(Self, Registration), String> {
        let policy = Self::of(node, &node_info::options())?;
        let data = |ipv4: bool| {
            let address = policy.second.as_ref()?.address(ipv4)?;
            Some(json!({ "Second": address.to_string() }).to_string())
        };
        let registration = Registration {
            backend_type: "multihomed".to_owned(),
            backend_data: node.ipv4_network.and_then(|_| data(true)),
            backend_v6_data: node.ipv6_network.and_then(|_| data(false)),
            mtu: policy.mtu,
        };
        Ok((policy, registration))
    }

    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let subnets = [own.ipv4_subnet.map(IpNet::V4), own.ipv6_subnet.map(IpNet::V6)];
        let steered = subnets.into_iter().flatten().filter(|_| self.steers).filter_map(second_half);
        let (mark, table) = (None, SECOND);
        let steered = steered.map(|source| Rule {
            priority: 10,
            source: Some(source),
            destination: None,
            mark,
            input: None,
            table,
        });
        let input = self.second.as_ref().map(|second| &second.link).filter(|_| self.forwards);
        let forwarded = self.networks.iter().filter(|_| input.is_some()).map(|network| Rule {
            priority: 20,
            source: None,
            destination: Some(*network),
            mark,
            input,
            table,
        });
        Ok(policy_routing::set_rules(&steered.chain(forwarded).collect::<Vec<_>>())?)
    }

    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
        if lease.backend_type != "multihomed" {
            return self.know(peer, None);
        }
        self.know(peer, lease.public_ipv6)?;
        if let Some(subnet) = lease.ipv4_subnet {
            let second = published(lease.backend_data.as_deref())?.filter(IpAddr::is_ipv4);
            self.route(peer, subnet.into(), lease.public_ipv4.map(IpAddr::V4), second)?;
        }
        if let Some(subnet) = lease.ipv6_subnet {
            let second = published(lease.backend_v6_data.as_deref())?.filter(IpAddr::is_ipv6);
            self.route(peer, subnet.into(), lease.public_ipv6.map(IpAddr::V6), second)?;
        }
        Ok(())
    }

    fn removed(&mut self, peer: PeerId) {
        // The host tells of those again that have gone through it.
        self.known.remove(&peer);
    }
}

flannel_backend::export!(Multihomed);

#[cfg(test)]
mod tests;
