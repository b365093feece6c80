//! The ali-vpc backend: packets for pods of other nodes leave the node unchanged, and the VPC's router knows where each subnet is. Each
//! node keeps its own row in the route table: its subnet, to its instance.
//!
//! A tick compares what is there with what should be, and changes at most one thing: the API refuses changes while another one is
//! being carried out, anywhere in the VPC. What a change came to is for the next tick to see.

mod api;
mod attempt;
mod options;
mod rows;
mod tables;

use std::time::Duration;

use flannel_backend::cloud::{self, Instance, Provider, RequiredOperation};
use flannel_backend::ipnet::IpNet;
use flannel_backend::{Config, Lease, Node, PeerId, Policy, Registration, Retire};

use options::Options;
use rows::{Progress, Wanted};
use tables::Tables;

/// How often everything is looked at while nothing is to be done.
const INTERVAL: Duration = Duration::from_mins(1);
/// So often a tick may have to wait for the same thing before the operator is told: about two minutes.
const PATIENCE: u32 = 30;

/// The policy.
struct AliVpcPolicy {
    options: Options,
    /// The cluster's networks. Nothing outside of them is ever touched.
    networks: Vec<IpNet>,
    /// This node's subnets.
    own: Vec<IpNet>,
    tables: Tables,
    /// How many ticks have waited for something since all was well.
    waits: u32,
}

impl Policy for AliVpcPolicy {
    const NAME: &'static str = "ali-vpc";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["ali-vpc"];

    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        let options = Options::read(config)?;
        let policy = Self {
            options,
            networks: node.networks().collect(),
            own: Vec::new(),
            tables: Tables::default(),
            waits: 0,
        };
        // As upstream: no type is published, and nothing else either.
        Ok((policy, Registration { mtu: node.external.mtu, ..Registration::default() }))
    }

    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        self.own = own.subnets().collect();
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
        let wait = self.see_to_tables(&self.own.clone())?;
        Ok(Some(wait.unwrap_or(INTERVAL)))
    }
}

impl Retire for AliVpcPolicy {
    /// Removes this node's rows, one after the other.
    fn retire(&mut self) -> Result<Option<Duration>, String> {
        self.see_to_tables(&[])
    }
}

impl AliVpcPolicy {
    /// Has a row for each of these subnets, and no other to this node. Answers when to come again; none: all is so.
    fn see_to_tables(&mut self, own: &[IpNet]) -> Result<Option<Duration>, String> {
        let me = cloud::describe_instance(Provider::Alibaba)?;
        let tables = self.tables.of(&me, &self.options)?;
        let mut problem = None;
        for table in &tables {
            let wanted = Wanted { me: &me, table, own, networks: &self.networks };
            match wanted.approach() {
                Ok(Progress::Done) => {}
                Ok(Progress::Changed) => return Ok(Some(self.soon(&me))),
                Ok(Progress::Waits(reason)) if self.waits < PATIENCE => {
                    flannel_backend::log::debug("waiting for the cloud", &[("reason", &reason)]);
                    return Ok(Some(self.soon(&me)));
                }
                Ok(Progress::Waits(reason)) | Err(reason) => problem = problem.or(Some(reason)),
            }
        }
        if let Some(problem) = problem {
            // Perhaps these are the wrong ones by now.
            self.tables.forget();
            return Err(problem);
        }
        self.waits = 0;
        Ok(None)
    }

    /// When to come again while something is under way: after one second at first and five at last, each node a little otherwise.
    fn soon(&mut self, me: &Instance) -> Duration {
        self.waits = self.waits.saturating_add(1);
        let spread = attempt::hash(&(&me.id, self.waits)) % 500;
        Duration::from_secs(self.waits.min(5).into()) + Duration::from_millis(spread)
    }
}

flannel_backend::export!(AliVpcPolicy);
flannel_backend::retirement!(AliVpcPolicy);

flannel_backend::cloud_permissions!(&[
    need("DescribeRouteTableList?PageNumber&PageSize&VpcId", &["vpc:DescribeRouteTableList"]),
    need(
        "DescribeRouteEntryList?DestinationCidrBlock&MaxResult&NextHopId&NextHopType&NextToken&RouteEntryType&RouteTableId",
        &["vpc:DescribeRouteEntryList"],
    ),
    need("CreateRouteEntry?ClientToken&NextHopType=Instance&RouteTableId", &["vpc:CreateRouteEntry"]),
    need("DeleteRouteEntry?RouteEntryId", &["vpc:DeleteRouteEntry"]),
]);

const fn need(operation: &'static str, permissions: &'static [&'static str]) -> RequiredOperation {
    RequiredOperation { provider: Provider::Alibaba, service: api::SERVICE, operation, permissions }
}

#[cfg(test)]
mod tests;
