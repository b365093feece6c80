//! The aws-vpc backend: packets for pods of other nodes leave the node unchanged, and the VPC's router knows where each subnet is. Each
//! node keeps its own row in the route tables: its subnet, to its network interface.
//!
//! A tick reads what is there, and changes what is wrong. At a restart nothing is, and nothing is changed.

mod api;
mod interface;
mod options;
mod refusal;
mod rows;
mod tables;

use std::time::Duration;

use flannel_backend::cloud::{self, Instance, NetworkInterface, Provider, RequiredOperation};
use flannel_backend::ipnet::IpNet;
use flannel_backend::{Config, ExternalInterface, Lease, Node, PeerId, Policy, Registration, Retire, log};

use api::Ec2;
use interface::Check;
use options::Options;
use rows::{Outcome, Removed, Wanted};

/// How often everything is looked at while nothing is to be done.
const INTERVAL: Duration = Duration::from_mins(1);
/// How soon it is looked at again after a change. EC2's reads follow its changes in about that time.
const SOON: Duration = Duration::from_secs(2);
/// So many ticks in a row may have to wait before the operator is told: about a minute.
const PATIENCE: u32 = 30;

/// The policy.
struct AwsVpcPolicy {
    options: Options,
    external: ExternalInterface,
    /// The cluster's networks.
    networks: Vec<IpNet>,
    /// This node's subnets.
    own: Vec<IpNet>,
    check: Check,
    removed: Removed,
    /// How many ticks in a row have had to wait for something.
    waits: u32,
}

impl Policy for AwsVpcPolicy {
    const NAME: &'static str = "aws-vpc";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["aws-vpc"];

    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        let policy = Self {
            options: Options::read(config)?,
            external: node.external.clone(),
            networks: node.networks().collect(),
            own: Vec::new(),
            check: Check::default(),
            removed: Removed::default(),
            waits: 0,
        };
        // As upstream: no type is published, and nothing else either.
        Ok((policy, Registration { mtu: node.external.mtu, ..Registration::default() }))
    }

    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let is_inside = |subnet: &IpNet| self.networks.iter().any(|network| network.contains(subnet));
        self.own = own.subnets().filter(is_inside).collect();
        Ok(())
    }

    /// Peers look after their own rows.
    fn put(&mut self, _peer: PeerId, _lease: &Lease) -> Result<(), String> {
        Ok(())
    }

    fn tick(&mut self) -> Result<Option<Duration>, String> {
        if self.own.is_empty() {
            // Without a lease nothing is known to be stale.
            return Ok(Some(INTERVAL));
        }
        let me = cloud::describe_instance(Provider::Aws)?;
        let interface = interface::find(&me, &self.external)?;
        let mut ec2 = Ec2::default();
        let changed = self.check.turn_off(&mut ec2, &interface.id);
        let outcome = self.see_to_tables(&mut ec2, &me, interface, Some(&self.own.clone()));
        let outcome = Outcome { changed: changed || outcome.changed, ..outcome };
        self.conclude(outcome).map(Some)
    }
}

impl Retire for AwsVpcPolicy {
    /// Removes this node's rows. Whether its interface checks sources and destinations stays as it is: others may have wanted that, too.
    fn retire(&mut self) -> Result<Option<Duration>, String> {
        let me = cloud::describe_instance(Provider::Aws)?;
        let interface = interface::find(&me, &self.external)?;
        let outcome = self.see_to_tables(&mut Ec2::default(), &me, interface, None);
        let is_over = !outcome.changed && outcome.waits.is_none();
        Ok(Some(self.conclude(outcome)?).filter(|_| !is_over))
    }
}

impl AwsVpcPolicy {
    /// Looks after the rows to these subnets; none: there are to be no rows to this node any more.
    fn see_to_tables(
        &mut self,
        ec2: &mut Ec2,
        me: &Instance,
        interface: &NetworkInterface,
        own: Option<&[IpNet]>,
    ) -> Outcome {
        let (tables, problems) = tables::find(ec2, &self.options.tables, interface);
        let mut outcome = Outcome { problems, ..Outcome::default() };
        let wanted = Wanted { interface: &interface.id, instance: &me.id, own, networks: &self.networks };
        self.removed.expire();
        for table in &tables {
            wanted.see_to(ec2, table, &mut self.removed, &mut outcome);
        }
        outcome
    }

    /// When to come again, or what the operator should know.
    fn conclude(&mut self, outcome: Outcome) -> Result<Duration, String> {
        let Outcome { changed, waits, mut problems } = outcome;
        self.waits = if waits.is_some() { self.waits.saturating_add(1) } else { 0 };
        if let Some(reason) = &waits {
            log::debug("waiting for EC2", &[("reason", reason)]);
            if self.waits > PATIENCE {
                problems.push(format!("still waiting after {PATIENCE} attempts: {reason}"));
            }
        }
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        Ok(if changed || waits.is_some() { SOON } else { INTERVAL })
    }
}

flannel_backend::export!(AwsVpcPolicy);
flannel_backend::retirement!(AwsVpcPolicy);

flannel_backend::cloud_permissions!(&[
    need("DescribeNetworkInterfaces?NetworkInterfaceId", &["ec2:DescribeNetworkInterfaces"]),
    need(
        "ModifyNetworkInterfaceAttribute?SourceDestCheck.Value=false",
        &["ec2:ModifyNetworkInterfaceAttribute"],
    ),
    need("DescribeRouteTables?Filter&NextToken&RouteTableId", &["ec2:DescribeRouteTables"]),
    need("CreateRoute?NetworkInterfaceId&RouteTableId", &["ec2:CreateRoute"]),
    need("ReplaceRoute?NetworkInterfaceId&RouteTableId", &["ec2:ReplaceRoute"]),
    need("DeleteRoute?RouteTableId", &["ec2:DeleteRoute"]),
]);

const fn need(operation: &'static str, permissions: &'static [&'static str]) -> RequiredOperation {
    RequiredOperation { provider: Provider::Aws, service: api::SERVICE, operation, permissions }
}

#[cfg(test)]
mod tests;
