//! `policy-routing`: routes with attributes and several next hops, rules, and the operator's interfaces that both may use.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use flannel_model::entry::{Device, Entry};
use flannel_model::lease::Lease;
use flannel_model::policy_routing::{
    FIRST_MAIN_METRIC, Hop, LAST_METRIC, PRIORITIES, PacketMark, PolicyRoute, Rule, TABLES,
};
use ipnet::IpNet;
use wasmtime::component::Resource;

use super::belongs::check_inside;
use super::entries::is_host;
use super::{HostState, LinkHandle};
use crate::bindings::flannel::backend::policy_routing::{self as wit, Error};
use crate::convert;
use crate::facts::Uplink;

/// The metric of IPv6's routes without one, which those of `routes` are.
const IPV6_METRIC: u32 = 1024;
/// Bytes of the largest packet, and of the largest segment, that the kernel takes for a route (`ip_metrics_convert`).
const MOST_MTU: u32 = 65_535 - 15;
const MOST_ADVMSS: u32 = 65_535 - 40;
/// How many flows of all a next hop may have as its share.
const MOST_WEIGHT: u16 = 256;
/// Next hops of a route.
const MOST_HOPS: usize = 16;

impl wit::Host for HostState {
    fn uplinks(&mut self) -> wasmtime::Result<Result<Vec<wit::Uplink>, Error>> {
        self.enter("policy-routing.uplinks")?;
        let outcome = self.known_uplinks().map(|uplinks| uplinks.iter().map(uplink_out).collect());
        Ok(self.outcome("policy-routing.uplinks", outcome))
    }

    fn open_uplink(&mut self, name: String) -> wasmtime::Result<Result<Resource<LinkHandle>, Error>> {
        self.enter("policy-routing.open-uplink")?;
        let outcome = match self.checked_uplink(&name) {
            Ok(device) => Ok(self.table.push(LinkHandle { device })?),
            Err(error) => Err(error),
        };
        Ok(self.outcome("policy-routing.open-uplink", outcome))
    }

    fn put_route(
        &mut self,
        peer: u64,
        route: wit::Route,
        hops: Vec<wit::NextHop>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.enter("policy-routing.put-route")?;
        let mut devices = Vec::with_capacity(hops.len());
        for hop in &hops {
            devices.push(self.device(&hop.device)?);
        }
        let outcome = self.put_checked_route(peer, &route, hops, devices);
        Ok(self.outcome("policy-routing.put-route", outcome))
    }

    fn set_rules(&mut self, rules: Vec<wit::Rule>) -> wasmtime::Result<Result<(), Error>> {
        self.enter("policy-routing.set-rules")?;
        let mut inputs = Vec::with_capacity(rules.len());
        for rule in &rules {
            inputs.push(rule.input.as_ref().map(|input| self.device(input)).transpose()?);
        }
        let outcome =
            self.checked_rules(&rules, inputs).map(|rules| self.call.transaction.rules = Some(rules));
        Ok(self.outcome("policy-routing.set-rules", outcome))
    }
}

fn uplink_out(uplink: &Uplink) -> wit::Uplink {
    wit::Uplink {
        name: uplink.name.clone(),
        mtu: convert::carried(uplink.mtu),
        addresses: uplink.addresses.iter().copied().map(convert::prefix_out).collect(),
    }
}

impl HostState {
    /// The uplinks, asked for once in a call.
    fn known_uplinks(&mut self) -> Result<&[Uplink], Error> {
        if self.call.uplinks.is_none() {
            self.call.uplinks = Some(self.environment.links.uplinks().map_err(Error::Unavailable)?);
        }
        Ok(self.call.uplinks.as_deref().unwrap_or_default())
    }

    fn checked_uplink(&mut self, name: &str) -> Result<Device, Error> {
        let uplinks = self.known_uplinks()?;
        if uplinks.iter().any(|uplink| uplink.name == name) {
            return Ok(Device::Uplink(Arc::new(name.to_owned())));
        }
        let there: Vec<&str> = uplinks.iter().map(|uplink| uplink.name.as_str()).collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        let shown = convert::shown(name, 64);
        Err(Error::Denied(format!(
            "{shown:?} is no uplink; the operator names them with --uplink; there are: {there}"
        )))
    }

    /// Bytes of the largest IP packet that an uplink carries.
    pub(super) fn uplink_mtu(&mut self, name: &str) -> u32 {
        let uplinks = self.known_uplinks().unwrap_or_default();
        uplinks.iter().find(|uplink| uplink.name == name).map_or(0, |uplink| convert::carried(uplink.mtu))
    }

    fn put_checked_route(
        &mut self,
        peer: u64,
        route: &wit::Route,
        hops: Vec<wit::NextHop>,
        devices: Vec<Device>,
    ) -> Result<(), Error> {
        if let Some(source) = route.source {
            self.check_source(convert::address(source))?;
        }
        self.declare(peer, |host, lease| {
            let checked = Arc::new(host.checked_route(lease, route, hops, devices)?);
            for hop in &checked.hops {
                host.check_next_hop(&hop.device, hop.via, hop.encapsulation.is_some())?;
            }
            Ok(Entry::PolicyRoute(checked))
        })?;
        let known = self.call.peers.get_mut(flannel_model::ledger::PeerId(peer));
        let entries = known.map_or(&[][..], |known| &known.entries);
        let Some((last, before)) = entries.split_last() else { return Ok(()) };
        if before.iter().any(|entry| entry.key() == last.key()) {
            return Err(Error::InvalidArgument(format!(
                "{} was declared already: give it another metric",
                last.key()
            )));
        }
        Ok(())
    }

    /// Whether an address is this node's, and one that the plugin may use.
    fn check_source(&mut self, source: IpAddr) -> Result<(), Error> {
        let node = &self.environment.node;
        let is_external = match source {
            IpAddr::V4(v4) => node.ipv4 == Some(v4),
            IpAddr::V6(v6) => node.ipv6 == Some(v6),
        };
        let mut own = self.addresses.values().flatten();
        if is_external || own.any(|address| address.addr() == source) {
            return Ok(());
        }
        let mut of_uplinks = self.known_uplinks()?.iter().flat_map(|uplink| &uplink.addresses);
        if of_uplinks.any(|address| address.addr() == source) {
            return Ok(());
        }
        Err(Error::Denied(format!(
            "the source {source} is no address of the external interface, of an uplink, or of a device of the plugin's own"
        )))
    }

    fn checked_rules(
        &self,
        rules: &[wit::Rule],
        inputs: Vec<Option<Device>>,
    ) -> Result<BTreeSet<Rule>, Error> {
        if rules.len() > self.limits.rules {
            return Err(Error::LimitExceeded(format!(
                "{} rules; at most {}",
                rules.len(),
                self.limits.rules
            )));
        }
        rules.iter().zip(inputs).map(|(rule, input)| self.checked_rule(rule, input)).collect()
    }

    fn checked_rule(&self, rule: &wit::Rule, input: Option<Device>) -> Result<Rule, Error> {
        let invalid = |text: String| Err(Error::InvalidArgument(text));
        let wit::Rule { priority, source, destination, mark, table, .. } = rule;
        let source = source.as_ref().map(convert::network).transpose()?;
        let destination = destination.as_ref().map(convert::network).transpose()?;
        let checked = Rule {
            priority: *priority,
            source,
            destination,
            mark: mark.map(|mark| PacketMark { value: mark.value, mask: mark.mask }),
            input,
            table: check_table(*table)?,
        };
        if *priority >= PRIORITIES {
            return invalid(format!("rule {checked}: the priority is 0 to {}", PRIORITIES - 1));
        }
        match (source, destination) {
            (None, None) => {
                return Err(Error::Denied(format!(
                    "rule {checked}: it is about all packets; give it a source or a destination in a cluster network"
                )));
            }
            (Some(from), Some(to)) if from.addr().is_ipv4() != to.addr().is_ipv4() => {
                return invalid(format!("rule {checked}: {from} and {to} are not of one family"));
            }
            _ => {}
        }
        for network in [source, destination].into_iter().flatten() {
            if !self.is_in_cluster(&network) {
                return Err(Error::Denied(format!("rule {checked}: {network} is not in a cluster network")));
            }
        }
        match checked.mark {
            Some(PacketMark { mask: 0, .. }) => invalid(format!("rule {checked}: the mask of its mark is 0")),
            Some(PacketMark { value, mask }) if value & !mask != 0 => {
                invalid(format!("rule {checked}: {value:#x} has bits beyond the mask {mask:#x}"))
            }
            _ => Ok(checked),
        }
    }

    fn checked_route(
        &self,
        lease: &Lease,
        route: &wit::Route,
        hops: Vec<wit::NextHop>,
        devices: Vec<Device>,
    ) -> Result<PolicyRoute, Error> {
        let destination = convert::network(&route.destination)?;
        check_inside(lease, &destination, format_args!("the route's destination {destination}"))?;
        let table = route.table.map(check_table).transpose()?;
        let wit::Route { metric, mtu, advmss, .. } = *route;
        check_metric(&destination, table, metric)?;
        let invalid = |text: String| Err(Error::InvalidArgument(format!("route {destination}: {text}")));
        let source = route.source.map(convert::address);
        if let Some(source) = source.filter(|source| source.is_ipv4() != destination.addr().is_ipv4()) {
            return invalid(format!("the source {source} is of the other family"));
        }
        let least = if destination.addr().is_ipv4() { 68 } else { 1280 };
        if let Some(mtu) = mtu.filter(|mtu| !(least..=MOST_MTU).contains(mtu)) {
            return invalid(format!("an MTU of {mtu} is not between {least} and {MOST_MTU}"));
        }
        if let Some(advmss) = advmss.filter(|advmss| !(1..=MOST_ADVMSS).contains(advmss)) {
            return invalid(format!("an advmss of {advmss} is not between 1 and {MOST_ADVMSS}"));
        }
        let hops = self.checked_hops(lease, &destination, hops, devices)?;
        Ok(PolicyRoute { table, destination, metric, source, mtu, advmss, hops })
    }

    fn checked_hops(
        &self,
        lease: &Lease,
        destination: &IpNet,
        hops: Vec<wit::NextHop>,
        devices: Vec<Device>,
    ) -> Result<Box<[Hop]>, Error> {
        let invalid = |text: String| Err(Error::InvalidArgument(format!("route {destination}: {text}")));
        let count = hops.len();
        if count == 0 {
            return invalid("it has no next hop".to_owned());
        }
        if count > MOST_HOPS {
            return Err(Error::LimitExceeded(format!(
                "route {destination}: {count} next hops; at most {MOST_HOPS}"
            )));
        }
        let mut checked: Vec<Hop> = Vec::with_capacity(count);
        for (hop, device) in hops.into_iter().zip(devices) {
            let hop = self.checked_hop(lease, destination, count > 1, hop, device)?;
            let is_same = |other: &Hop| {
                (other.via, &other.device, &other.encapsulation) == (hop.via, &hop.device, &hop.encapsulation)
            };
            if checked.iter().any(is_same) {
                return invalid(format!("{} is there twice", shown(&hop)));
            }
            checked.push(hop);
        }
        Ok(checked.into())
    }

    /// Checks one next hop, or one of `several`.
    fn checked_hop(
        &self,
        lease: &Lease,
        destination: &IpNet,
        several: bool,
        hop: wit::NextHop,
        device: Device,
    ) -> Result<Hop, Error> {
        let invalid = |text: String| Err(Error::InvalidArgument(format!("route {destination}: {text}")));
        let is_ipv4 = destination.addr().is_ipv4();
        let via = hop.via.map(convert::address);
        let encapsulation = hop
            .encapsulation
            .map(|encapsulation| self.checked_encapsulation(lease, &device, via, encapsulation))
            .transpose()
            .map_err(|error| of_route(destination, error))?;
        // Who has labels has a gateway.
        let says_where = encapsulation.is_some();
        match via {
            Some(via) if via.is_ipv4() != is_ipv4 || !is_host(via) => {
                return invalid(format!("{via} cannot be a next hop"));
            }
            None if several && !(says_where && is_ipv4) => {
                return invalid("each of several next hops has a gateway".to_owned());
            }
            None if !says_where && !matches!(device, Device::Own(_)) => {
                return Err(Error::Denied(format!("route {destination}: over {device} it needs a next hop")));
            }
            None if hop.onlink => {
                return invalid("onlink is said of a gateway, and there is none".to_owned());
            }
            _ => {}
        }
        if several && !(1..=MOST_WEIGHT).contains(&hop.weight) {
            return invalid(format!("a weight of {} is not between 1 and {MOST_WEIGHT}", hop.weight));
        }
        let weight = if several { hop.weight } else { 1 };
        Ok(Hop { device, via, onlink: hop.onlink, weight, encapsulation: encapsulation.map(Arc::new) })
    }
}

/// A next hop in a refusal.
fn shown(hop: &Hop) -> String {
    let via = hop.via.map_or_else(String::new, |via| format!("{via} "));
    let around = hop.encapsulation.as_ref().map_or_else(String::new, |around| format!(" {around}"));
    format!("{via}over {}{around}", hop.device)
}

fn of_route(destination: &IpNet, error: Error) -> Error {
    let named = |text: String| format!("route {destination}: {text}");
    match error {
        Error::InvalidArgument(text) => Error::InvalidArgument(named(text)),
        Error::Denied(text) => Error::Denied(named(text)),
        Error::LimitExceeded(text) => Error::LimitExceeded(named(text)),
        Error::Unavailable(text) => Error::Unavailable(named(text)),
    }
}

fn check_table(table: u8) -> Result<u8, Error> {
    if table < TABLES {
        return Ok(table);
    }
    Err(Error::Denied(format!("table {table}: a plugin's own tables are 0 to {}", TABLES - 1)))
}

fn check_metric(destination: &IpNet, table: Option<u8>, metric: u32) -> Result<(), Error> {
    let of_others = |text: String| Err(Error::Denied(format!("route {destination} metric {metric}: {text}")));
    match table {
        Some(_) if !(1..=LAST_METRIC).contains(&metric) => {
            of_others(format!("in a table of the plugin's own metrics are 1 to {LAST_METRIC}"))
        }
        None if !(FIRST_MAIN_METRIC..=LAST_METRIC).contains(&metric) || metric == IPV6_METRIC => {
            of_others(format!(
                "in the main table metrics are {FIRST_MAIN_METRIC} to {LAST_METRIC}, and not {IPV6_METRIC}"
            ))
        }
        _ => Ok(()),
    }
}
