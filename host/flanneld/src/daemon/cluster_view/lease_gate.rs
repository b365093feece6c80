//! Which leases are believed. Whoever can write one lease, as every node of a cluster can, must not be able to take anything from this
//! node: what a lease says is looked at here before a policy hears of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flannel_model::lease::{Lease, Subnets};
use flannel_model::network_config::NetworkConfig;
use ipnet::IpNet;

use crate::node::external::{External, Local};

/// What this node and its cluster are, as far as leases have to fit them.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct LeaseGate {
    ipv4: Option<Family>,
    ipv6: Option<Family>,
    /// Networks that were this cluster's before: their leases live on for a day.
    former: Vec<IpNet>,
    /// The addresses that this node publishes.
    own: Vec<IpAddr>,
    /// What this node is, and what it reaches without anybody's help.
    local: Vec<Local>,
    /// Whether subnets outside of the cluster's networks are served.
    outside: bool,
}

/// One family of a cluster.
#[derive(Clone, Debug)]
struct Family {
    network: IpNet,
    /// The addresses that pods have: the first of the first subnet that is leased, and the last of the last one.
    pods: (IpAddr, IpAddr),
}

impl LeaseGate {
    /// For a node like this in a cluster with this config, which had other networks before.
    pub(in crate::daemon) fn new(config: &NetworkConfig, former: Vec<IpNet>, external: &External) -> Self {
        let pods = |v4: bool| config.pod_ranges().find(|(first, _)| first.is_ipv4() == v4);
        let v4 =
            config.network.zip(pods(true)).map(|(network, pods)| Family { network: network.into(), pods });
        let v6 = config
            .ipv6_network
            .zip(pods(false))
            .map(|(network, pods)| Family { network: network.into(), pods });
        Self { ipv4: v4, ipv6: v6, former, ..Self::default() }.at(external)
    }

    /// The same where nodes do not choose their subnets themselves: who gives a node one outside of the networks means it.
    pub(in crate::daemon) fn serving_outside(self, outside: bool) -> Self {
        Self { outside, ..self }
    }

    /// The same for a node with another interface or other surroundings.
    pub(in crate::daemon) fn at(&self, external: &External) -> Self {
        let own = [
            external.ipv4.map(IpAddr::V4),
            external.public_ipv4.map(IpAddr::V4),
            external.ipv6.map(IpAddr::V6),
            external.public_ipv6.map(IpAddr::V6),
        ];
        Self { own: own.into_iter().flatten().collect(), local: external.local.clone(), ..self.clone() }
    }

    /// The part of a peer's lease that is served here: of the families that are on. The error says why the lease is not believed.
    /// `own`: this node's subnets.
    pub(super) fn admit(&self, lease: &Lease, own: &Subnets) -> Result<Subnets, String> {
        let served = Subnets {
            v4: lease.subnets.v4.filter(|_| self.ipv4.is_some()),
            v6: lease.subnets.v6.filter(|_| self.ipv6.is_some()),
        };
        if served.iter().next().is_none() {
            return Err("its subnets are of a family that this cluster does not have".to_owned());
        }
        for subnet in served.iter() {
            self.check_subnet(subnet)?;
        }
        if served.overlaps(own) {
            return Err(format!("it overlaps this node's own subnet {own}"));
        }
        if lease.attributes.public_addresses().next().is_none() {
            return Err("it says no public address at which its node could be found".to_owned());
        }
        for address in lease.attributes.public_addresses() {
            self.check_address(address)?;
            if let Some(subnet) = served.iter().chain(own.iter()).find(|subnet| subnet.contains(&address)) {
                return Err(format!("its public address {address} lies inside the subnet {subnet}"));
            }
        }
        Ok(served)
    }

    fn families(&self) -> impl Iterator<Item = &Family> {
        self.ipv4.iter().chain(&self.ipv6)
    }

    fn check_subnet(&self, subnet: IpNet) -> Result<(), String> {
        if subnet.addr() != subnet.network() {
            return Err(format!(
                "{subnet} has bits set behind its prefix; right would be {}",
                subnet.trunc()
            ));
        }
        let mut networks = self.families().map(|family| &family.network).chain(&self.former);
        if !self.outside && !networks.any(|network| network.contains(&subnet)) {
            return Err(format!(
                "{subnet} lies in no network of this cluster, as it is or as this node has known it (--former-network)"
            ));
        }
        if let Some(local) = self.local.iter().find(|local| self.is_lost_to(local, &subnet)) {
            return Err(format!("{subnet} overlaps {local}"));
        }
        Ok(())
    }

    /// Whether a route to a subnet would take away something local. Who puts a cluster network into a larger one that a node is on means
    /// it to be the cluster's.
    fn is_lost_to(&self, local: &Local, subnet: &IpNet) -> bool {
        let net = local.net();
        let is_around = |network: &IpNet| net.contains(network);
        subnet.contains(&net)
            || (net.contains(subnet)
                && !self.families().map(|family| &family.network).chain(&self.former).any(is_around))
    }

    fn check_address(&self, address: IpAddr) -> Result<(), String> {
        if let Some(what) = no_hosts(address) {
            return Err(format!("its public address {address} is {what}"));
        }
        let is_own = |local: &Local| matches!(local, Local::Address(own, _) if *own == address);
        if self.own.contains(&address) || self.local.iter().any(is_own) {
            return Err(format!("its public address {address} is this node's own"));
        }
        let is_pods = |family: &Family| {
            let (first, last) = family.pods;
            first.is_ipv4() == address.is_ipv4() && (first..=last).contains(&address)
        };
        if self.families().any(is_pods) {
            return Err(format!("its public address {address} is one of the cluster's pods"));
        }
        let is_broadcast = |local: &&Local| matches!(local, Local::Network(IpNet::V4(net), _) if net.prefix_len() < 31 && IpAddr::V4(net.broadcast()) == address);
        if let Some(Local::Network(net, _)) = self.local.iter().find(is_broadcast) {
            return Err(format!("its public address {address} is the broadcast address of {net}"));
        }
        Ok(())
    }
}

/// What an address is that no host can have.
fn no_hosts(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => no_hosts_v4(v4),
        IpAddr::V6(v6) => no_hosts_v6(v6),
    }
}

fn no_hosts_v4(address: Ipv4Addr) -> Option<&'static str> {
    if address.octets()[0] == 0 {
        Some("no host's (RFC 1122, 3.2.1.3)")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if address.octets()[0] >= 240 {
        Some("no host's (RFC 1112, RFC 919)")
    } else {
        None
    }
}

fn no_hosts_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("no host's (RFC 4291, 2.5.2)")
    } else if address.is_loopback() {
        Some("the loopback address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if let Some(v4) = address.to_ipv4_mapped() {
        Some(no_hosts_v4(v4).unwrap_or("an IPv4 address in IPv6's clothes"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use flannel_model::lease::Attributes;

    use super::*;

    /// Of a node with 192.168.77.11/24 on eth0, and more elsewhere.
    fn gate(config: &str) -> LeaseGate {
        let config = NetworkConfig::parse(config).expect("config");
        let eth0 = || "eth0".to_owned();
        let local = [
            Local::Address([192, 168, 77, 11].into(), eth0()),
            Local::Network("192.168.77.0/24".parse().expect("prefix"), eth0()),
            Local::Address([10, 5, 40, 1].into(), "eth1".to_owned()),
            Local::Network("10.5.40.0/23".parse().expect("prefix"), "eth1".to_owned()),
            Local::Network("10.0.0.0/8".parse().expect("prefix"), "wg0".to_owned()),
            Local::Gateway([10, 5, 50, 1].into()),
            Local::Network("fd77::/64".parse().expect("prefix"), eth0()),
        ];
        let external = External { local: local.to_vec(), ..External::with_address([192, 168, 77, 11]) };
        LeaseGate::new(&config, vec!["10.4.0.0/16".parse().expect("prefix")], &external)
    }

    fn v4() -> LeaseGate {
        gate(r#"{"Network":"10.5.0.0/16"}"#)
    }

    fn dual_stack() -> LeaseGate {
        gate(r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:5::/48"}"#)
    }

    fn lease(v4: &str, v6: &str, address: &str) -> Lease {
        let subnets = Subnets { v4: v4.parse().ok(), v6: v6.parse().ok() };
        let attributes = Attributes {
            public_ip: address.parse().ok(),
            public_ipv6: address.parse().ok(),
            ..Attributes::default()
        };
        Lease { subnets, attributes, expires: None }
    }

    fn own() -> Subnets {
        Subnets { v4: "10.5.1.0/24".parse().ok(), v6: None }
    }

    #[test]
    fn who_assigns_subnets_may_assign_some_outside_of_the_networks_but_none_that_takes_what_is_local() {
        let strict = v4();
        let gate = v4().serving_outside(true);
        let admitted =
            |gate: &LeaseGate, subnet| gate.admit(&lease(subnet, "", "192.168.0.7"), &own()).map(|_| ());
        assert!(admitted(&strict, "10.77.3.0/24").is_err());
        assert_eq!(admitted(&gate, "10.77.3.0/24"), Ok(()));
        assert!(admitted(&gate, "192.168.0.0/24").is_err(), "the network that the node is on");
        assert!(admitted(&gate, "0.0.0.0/0").is_err());
    }

    #[test]
    fn what_is_a_peers_is_admitted() {
        for subnet in ["10.5.2.0/24", "10.5.128.0/17", "10.5.3.7/32", "10.4.9.0/24"] {
            let lease = lease(subnet, "", "192.168.77.12");
            assert_eq!(v4().admit(&lease, &own()), Ok(lease.subnets), "{subnet}");
        }
    }

    #[test]
    fn what_is_not_the_clusters_or_is_this_nodes_is_refused() {
        for (subnet, reason) in [
            ("192.168.77.0/24", "lies in no network"),
            ("169.254.169.254/31", "lies in no network"),
            ("64.0.0.0/2", "lies in no network"),
            ("0.0.0.0/0", "lies in no network"),
            ("10.0.0.0/8", "lies in no network"),
            ("10.5.1.0/24", "own subnet"),
            ("10.5.1.128/25", "own subnet"),
            ("10.5.0.0/20", "own subnet"),
            ("10.5.2.9/24", "right would be 10.5.2.0/24"),
            ("10.5.41.0/24", "10.5.40.0/23, which this node's eth1 is on"),
            ("10.5.32.0/20", "10.5.40.1, an address of this node's eth1"),
            ("10.5.50.0/24", "a gateway of this node"),
        ] {
            let refused = v4().admit(&lease(subnet, "", "192.168.77.12"), &own()).expect_err(subnet);
            assert!(refused.contains(reason), "{subnet}: {refused}");
        }
    }

    #[test]
    fn addresses_that_are_no_other_hosts_are_refused() {
        for (address, reason) in [
            ("0.0.0.0", "no host's"),
            ("", "no public address"),
            ("127.0.0.1", "loopback"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "no host's"),
            ("192.168.77.255", "broadcast address of 192.168.77.0/24"),
            ("192.168.77.11", "this node's own"),
            ("10.5.40.1", "this node's own"),
            ("10.5.2.1", "one of the cluster's pods"),
            ("10.5.9.9", "one of the cluster's pods"),
            ("::", "no host's"),
            ("::1", "loopback"),
            ("ff02::1", "multicast"),
            ("::ffff:192.168.77.12", "IPv4"),
            ("fc00:5:0:7::9", "one of the cluster's pods"),
        ] {
            let refused = dual_stack().admit(&lease("10.5.2.0/24", "", address), &own()).expect_err(address);
            assert!(refused.contains(reason), "{address}: {refused}");
        }
    }

    #[test]
    fn hosts_may_live_in_the_cluster_network_where_no_pods_are() {
        let gate = gate(r#"{"Network":"10.0.0.0/8","SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0"}"#);
        let admitted = |subnet, address| gate.admit(&lease(subnet, "", address), &own()).map(|_| ());
        assert_eq!(admitted("10.10.2.0/24", "10.1.0.7"), Ok(()));
        assert!(admitted("10.10.2.0/24", "10.20.0.7").is_err());
        assert!(admitted("10.120.2.0/24", "10.120.2.7").is_err(), "inside its own subnet");
    }

    #[test]
    fn of_a_family_that_is_off_nothing_is_served() {
        let both = lease("10.5.2.0/24", "fc00:5:0:2::/64", "192.168.77.12");
        assert_eq!(v4().admit(&both, &own()), Ok(Subnets { v4: both.subnets.v4, v6: None }));
        assert_eq!(dual_stack().admit(&both, &own()), Ok(both.subnets));
        let six = lease("", "fc00:5:0:2::/64", "192.168.77.12");
        assert!(v4().admit(&six, &own()).is_err());
        assert!(dual_stack().admit(&six, &own()).is_ok());
    }
}
