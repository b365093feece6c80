//! The tencent-vpc backend: packets for pods of other nodes leave the node unchanged, and the VPC's router knows where each subnet is. Each
//! node keeps its own route in the route table: its subnet, by its instance's private address.
//!
//! A tick compares what is there with what should be, and changes at most one thing. What a change came to is for the next tick to see.

mod api;
mod rows;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use flannel_backend::cloud::{self, Instance, NetworkInterface, Provider, RequiredOperation};
use flannel_backend::ipnet::Ipv4Net;
use flannel_backend::{Config, Lease, Node, PeerId, Policy, Registration, Retire, log};

use api::Table;
use rows::{Progress, Wanted};

/// How often everything is looked at while nothing is to be done.
const INTERVAL: Duration = Duration::from_mins(1);
/// So often a tick may have to wait for the same thing before the operator is told: about two minutes.
const PATIENCE: u32 = 30;

/// The policy.
struct TencentVpcPolicy {
    /// `RouteTableID`: the route tables that get this node's route. Empty: the one that the node's subnet uses.
    tables: Vec<String>,
    /// The external interface, and its own address, which is the next hop.
    external: (String, Ipv4Addr),
    /// The cluster's network. Nothing outside of it is ever touched.
    network: Ipv4Net,
    /// This node's subnet.
    own: Option<Ipv4Net>,
    /// How many ticks have waited for something since all was well.
    waits: u32,
}

impl Policy for TencentVpcPolicy {
    const NAME: &'static str = "tencent-vpc";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["tencent-vpc"];

    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        let Some(network) = node.ipv4_network.filter(|_| node.ipv6_network.is_none()) else {
            return Err("tencent-vpc makes routes for IPv4 alone: right would be a network config with \"Network\", and without \
                        \"EnableIPv6\""
                .to_owned());
        };
        let name = &node.external.name;
        let address = node.external.ipv4.ok_or_else(|| format!("{name} has no IPv4 address of its own"))?;
        let policy = Self {
            tables: cloud::route_tables(config, "rtb-")?,
            external: (name.clone(), address),
            network,
            own: None,
            waits: 0,
        };
        // As upstream: no type is published, and nothing else either.
        Ok((policy, Registration { mtu: node.external.mtu, ..Registration::default() }))
    }

    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        self.own = Some(own.ipv4_subnet.ok_or("the lease has no IPv4 subnet")?);
        Ok(())
    }

    /// Peers look after their own routes.
    fn put(&mut self, _peer: PeerId, _lease: &Lease) -> Result<(), String> {
        Ok(())
    }

    fn tick(&mut self) -> Result<Option<Duration>, String> {
        // Without a lease nothing is known to be stale.
        let Some(own) = self.own else { return Ok(Some(INTERVAL)) };
        Ok(Some(self.see_to_tables(Some(own))?.unwrap_or(INTERVAL)))
    }
}

impl Retire for TencentVpcPolicy {
    /// Removes this node's routes, one after the other.
    fn retire(&mut self) -> Result<Option<Duration>, String> {
        self.see_to_tables(None)
    }
}

impl TencentVpcPolicy {
    /// Has a route to this subnet, and no other to this node. Answers when to come again; none: all is so.
    fn see_to_tables(&mut self, own: Option<Ipv4Net>) -> Result<Option<Duration>, String> {
        let me = cloud::describe_instance(Provider::Tencent)?;
        let interface = self.interface(&me)?;
        if interface.network.is_empty() {
            return Err("the metadata service names no VPC: is this instance in one?".to_owned());
        }
        let all = api::tables(&interface.network)?;
        let (hop, network) = (self.external.1, self.network);
        let addresses = me.interfaces.iter().flat_map(|interface| &interface.addresses);
        let addresses: Vec<Ipv4Addr> = addresses.filter_map(v4).collect();
        let mut problem = None;
        for table in self.chosen(&all, interface)? {
            let wanted = Wanted { table, hop, addresses: &addresses, own, network };
            match wanted.approach() {
                Ok(Progress::Done) => {}
                Ok(Progress::Changed) => return Ok(Some(self.soon())),
                Ok(Progress::Waits(reason)) if self.waits < PATIENCE => {
                    log::debug("waiting for the cloud", &[("reason", &reason)]);
                    return Ok(Some(self.soon()));
                }
                Ok(Progress::Waits(reason)) | Err(reason) => problem = problem.or(Some(reason)),
            }
        }
        if let Some(problem) = problem {
            return Err(problem);
        }
        self.waits = 0;
        Ok(None)
    }

    /// The network interface that has the external interface's own address.
    fn interface<'a>(&self, me: &'a Instance) -> Result<&'a NetworkInterface, String> {
        let (name, address) = &self.external;
        let own = IpAddr::from(*address);
        let found = me.interfaces.iter().find(|interface| interface.addresses.contains(&own));
        found.ok_or_else(|| {
            let there = me.interfaces.iter().flat_map(|interface| &interface.addresses);
            let there: Vec<String> = there.map(IpAddr::to_string).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            format!(
                "no network interface of instance {} has the address {own} of {name}; there are: {there}. Name another one with --iface",
                me.id
            )
        })
    }

    /// The tables of the option, else the one that the interface's subnet uses, else the VPC's main one.
    fn chosen<'a>(&self, all: &'a [Table], interface: &NetworkInterface) -> Result<Vec<&'a Table>, String> {
        let NetworkInterface { network: vpc, subnet, .. } = interface;
        if self.tables.is_empty() {
            let used = all.iter().find(|table| table.subnets.contains(subnet));
            let found = used.or_else(|| all.iter().find(|table| table.is_main));
            let missing =
                || format!("DescribeRouteTables: {vpc} has no main route table, and none for {subnet}");
            return Ok(vec![found.ok_or_else(missing)?]);
        }
        let named = self.tables.iter().map(|id| {
            let found = all.iter().find(|table| table.id == *id);
            found.ok_or_else(|| {
                let there: Vec<&str> = all.iter().map(|table| table.id.as_str()).collect();
                format!("RouteTableID: {vpc} has no route table {id}; there are: {}", there.join(", "))
            })
        });
        named.collect()
    }

    /// When to come again while something is under way: after one second at first and five at last, each node a little otherwise.
    fn soon(&mut self) -> Duration {
        self.waits = self.waits.saturating_add(1);
        let mixed = u32::from(self.external.1).wrapping_add(self.waits).wrapping_mul(0x9e37_79b9);
        Duration::from_secs(self.waits.min(5).into()) + Duration::from_millis(u64::from(mixed >> 16) % 500)
    }
}

fn v4(address: &IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    }
}

flannel_backend::export!(TencentVpcPolicy);
flannel_backend::retirement!(TencentVpcPolicy);

flannel_backend::cloud_permissions!(&[
    need(
        "DescribeRouteTables?Filters.0.Name=vpc-id&Filters.0.Values.0&Limit&Offset",
        &["vpc:DescribeRouteTables"],
    ),
    need("CreateRoutes?RouteTableId&Routes.0.GatewayType=NORMAL_CVM", &["vpc:CreateRoutes"]),
    need("DeleteRoutes?RouteTableId", &["vpc:DeleteRoutes"]),
]);

const fn need(operation: &'static str, permissions: &'static [&'static str]) -> RequiredOperation {
    RequiredOperation { provider: Provider::Tencent, service: api::SERVICE, operation, permissions }
}

#[cfg(test)]
mod tests;
