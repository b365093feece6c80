//! What can exist in the kernel, a module for each kind of entry: its messages, how it comes and goes, which of the kernel's are ours, and
//! how it is read. This one has the table; nothing else in the datapath knows one kind from another, but for the order in which they come
//! (`Stage` in `plan.rs`) and the mirror's maps (`observed.rs`).

pub(crate) mod blackhole;
mod encapsulation;
pub(crate) mod fdb;
pub(crate) mod ipsec_peer;
pub(crate) mod neighbour;
pub(crate) mod nexthop;
pub(crate) mod policy_route;
pub(crate) mod route;
pub(crate) mod rule;
pub(crate) mod trial_route;
pub(crate) mod tunnel_peer;
pub(crate) mod wireguard_peer;

use std::net::IpAddr;
use std::sync::Arc;

use flannel_model::entry::{Device, Entry, Key};
use ipnet::IpNet;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Rt};

use super::netlink::Payload;
use super::observed::{NextHop, Observation, ObservedState, TrialHop};
use super::plan::Draft;

fn family(address: &IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

impl Draft<'_> {
    /// Plans an entry. `index`: its device's, if it needs one.
    pub(crate) fn put_entry(&mut self, entry: &Entry, index: u32) {
        match entry {
            Entry::Route { destination, via: Some(via), onlink, .. } => {
                self.put_route(*destination, NextHop { via: *via, oif: index, onlink: *onlink });
            }
            Entry::Route { destination, via: None, device, .. } => {
                self.put_device_route(*destination, device, index);
            }
            Entry::TrialRoute { destination, via, onlink, encapsulation, .. } => {
                let around = encapsulation.clone().into();
                let hop = TrialHop { via: *via, oif: index, onlink: *onlink, around };
                self.put_trial_route(*destination, hop);
            }
            Entry::Blackhole { destination } => self.put_blackhole(*destination),
            Entry::Neighbour { address, link_address, .. } => {
                self.put_neighbour(entry.key(), *address, *link_address, index);
            }
            Entry::Fdb { mac, destination, .. } => self.put_fdb(entry.key(), *mac, *destination, index),
            Entry::WireguardPeer { peer, .. } => self.put_wireguard_peer(entry.key(), peer, index),
            Entry::TunnelPeer { destination, endpoint, device } => {
                self.put_tunnel_peer(*destination, *endpoint, device, index);
            }
            Entry::IpsecPeer { peer, device } => self.put_ipsec_peer(peer, device, index),
            Entry::PolicyRoute(route) => self.put_policy_route(route),
            Entry::Rule(rule) => self.put_rule(rule),
        }
    }

    /// Plans an entry's removal, if it is there.
    pub(crate) fn remove_entry(&mut self, key: &Key) {
        match key {
            Key::Route(destination) => self.remove_route(destination),
            Key::TrialRoute(destination) => self.remove_trial_route(destination),
            Key::Blackhole(destination) => self.remove_blackhole(destination),
            Key::Neighbour(device, address) => self.remove_neighbour(key, device, *address),
            Key::Fdb(device, mac) => self.remove_fdb(key, device, *mac),
            Key::WireguardPeer(..) => self.remove_wireguard_peer(key),
            Key::TunnelPeer(device, subnet) => self.remove_tunnel_peer(key, device, *subnet),
            Key::IpsecPeer(device, subnet) => self.remove_ipsec_peer(key, device, *subnet),
            Key::PolicyRoute(place) => self.remove_policy_route(place),
            Key::Rule(rule) => self.remove_rule(rule),
        }
    }
}

/// All that is ours in the kernel, whether it is wanted or not.
pub(crate) fn ours(kernel: &ObservedState, networks: &[IpNet]) -> impl Iterator<Item = Key> {
    route::ours(kernel)
        .chain(trial_route::ours(kernel))
        .chain(blackhole::ours(kernel))
        .chain(neighbour::ours(kernel, networks))
        .chain(fdb::ours(kernel))
        .chain(wireguard_peer::ours(kernel))
        .chain(tunnel_peer::ours(kernel))
        .chain(ipsec_peer::ours(kernel))
        .chain(policy_route::ours(kernel))
        .chain(rule::ours(kernel))
}

/// What a message says about entries that concern us.
pub(crate) fn read(kernel: &ObservedState, networks: &[IpNet], payload: &Payload) -> Option<Observation> {
    match payload {
        Payload::Route(Rt::NewRoute(message) | Rt::DelRoute(message)) => {
            let gone = matches!(payload, Payload::Route(Rt::DelRoute(_)));
            let trial = kernel.trial_table.and_then(|table| trial_route::read(message, table, kernel));
            if let Some((destination, route, protocol)) = trial {
                let is_ours = protocol == trial_route::TRIAL_PROTOCOL;
                return is_ours.then(|| Observation::TrialRoute(destination, (!gone).then_some(route)));
            }
            let (destination, observed) = match blackhole::read(message) {
                Some(destination) => (destination, Observation::Blackhole(destination, !gone)),
                None => policy_route::read(message, gone, kernel)
                    .or_else(|| route::read(message, gone, kernel))?,
            };
            networks.iter().any(|network| network.contains(&destination)).then_some(observed)
        }
        Payload::Route(Rt::NewRule(message) | Rt::DelRule(message)) => {
            let gone = matches!(payload, Payload::Route(Rt::DelRule(_)));
            let found = rule::read(message, networks, kernel.policy_tables, &kernel.interfaces)?;
            Some(Observation::Rule(Arc::new(found), !gone))
        }
        Payload::Route(Rt::NewNeighbour(message) | Rt::DelNeighbour(message)) => {
            let gone = matches!(payload, Payload::Route(Rt::DelNeighbour(_)));
            let observed = neighbour::read_neighbour(message, gone)?;
            kernel.own_device(message.header.ifindex).map(|_| observed)
        }
        _ => None,
    }
}

/// Which entry an observation is about; `None` if it is none of our devices', or about a nexthop object.
pub(crate) fn key_of(kernel: &ObservedState, observed: &Observation) -> Option<Key> {
    let own = |index: &u32| kernel.own_device(*index).cloned().map(Device::Own);
    match observed {
        Observation::Route(destination, _) | Observation::NoRoute(destination, _) => {
            Some(Key::Route(*destination))
        }
        Observation::TrialRoute(destination, _) => Some(Key::TrialRoute(*destination)),
        Observation::Blackhole(destination, _) => Some(Key::Blackhole(*destination)),
        Observation::Neighbour(index, address, _) => Some(Key::Neighbour(own(index)?, *address)),
        Observation::Fdb(index, mac, _) => Some(Key::Fdb(own(index)?, *mac)),
        Observation::WireguardPeer(index, key, _) => Some(Key::WireguardPeer(own(index)?, Arc::clone(key))),
        Observation::TunnelPeer(index, subnet, _) => Some(Key::TunnelPeer(own(index)?, *subnet)),
        Observation::IpsecPeer(index, subnet, _) => Some(Key::IpsecPeer(own(index)?, *subnet)),
        Observation::PolicyRoute(place, _) | Observation::ForeignRoute(place, _) => {
            Some(Key::PolicyRoute(*place))
        }
        Observation::Rule(rule, _) => Some(Key::Rule(Arc::clone(rule))),
        Observation::Nexthop(..) | Observation::Nothing => None,
    }
}

/// Whether somebody has put something on a device of ours, where nothing but the policy's entries belongs.
pub(crate) fn is_stray(kernel: &ObservedState, networks: &[IpNet], observed: &Observation) -> bool {
    match observed {
        Observation::Route(_, route) => route::is_stray(route, kernel),
        Observation::Neighbour(_, address, Some(entry)) => neighbour::is_stray(address, entry, networks),
        Observation::Fdb(_, mac, Some(entry)) => fdb::is_stray(mac, entry),
        _ => false,
    }
}
