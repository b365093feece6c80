//! Amazon's cloud, as far as a flannel cluster needs it: EC2's API and the instances' metadata service at its real address.
//!
//! EC2 is [moto](https://docs.getmoto.org/) behind a proxy that is stricter, and that lets things go wrong. The nodes are instances of
//! one subnet; rows of the route table that it uses are real routes of the lab's router. That it is as the vendor's own library
//! expects, boto3 proves (`tests/aws_lab.rs`).
//!
//! | module | job |
//! |---|---|
//! | `console` | boto3 and moto, in a process of their own |
//! | `moto` | questions to moto |
//! | `api` | the proxy: signatures, permissions, what moto lacks |
//! | `signature` | Signature Version 4, checked |
//! | `credentials` | access keys of a user and of the instances' role |
//! | `tables` | route tables in XML |
//! | `control` | what tests look at and let go wrong |
//! | `router` | rows become routes of the kernel |
//! | `metadata` | what an instance can ask about itself |
//! | `fault` | what goes wrong on request, and errors as EC2 words them |
//! | `state` | what is remembered |

mod api;
mod cloud;
mod console;
mod control;
mod credentials;
mod fault;
mod metadata;
mod moto;
mod router;
mod signature;
mod state;
mod tables;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, MutexGuard};

use anyhow::{Context, Result};
use serde_json::{Value, json};

pub use credentials::{ACCESS_KEY, ROLE};
pub use fault::Fault;
pub use metadata::Mode;
pub use state::Call;

use super::server::Server;
use crate::bridge::BRIDGE;
use crate::{Lab, Node, Place};
use api::Shared;
use console::Console;
use state::{Machine, State};

/// The region of all instances.
pub const REGION: &str = "eu-central-1";
/// Where every instance finds its metadata.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// A row of a route table, besides the cloud's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The table.
    pub table: String,
    /// `10.5.3.0/24`
    pub destination: String,
    /// The interface that is the next hop; empty: it is none.
    pub interface: String,
    /// The instance that has it.
    pub instance: String,
    /// `active`, `blackhole`
    pub state: String,
}

/// The cloud, which ends when this is dropped; the routes go with the namespace.
#[derive(Debug)]
pub struct Aws {
    shared: Arc<Shared>,
    api: Server,
    _metadata: Server,
    console: Console,
}

impl Aws {
    /// The cloud that a lab's nodes are instances of. None, with the reason on standard output: Python's libraries cannot be had on
    /// this machine.
    pub fn start(lab: &Lab) -> Result<Option<Self>> {
        let Some((console, site)) = Console::start(lab)? else { return Ok(None) };
        let router = lab.switch().namespace().clone();
        router.ip(&format!("address replace {METADATA}/32 dev {BRIDGE}"))?;
        let moto = moto::Moto::new(&router, site.port, &site.region);
        let state = State::new(site).into();
        let shared = Arc::new(Shared { router: router.clone(), moto, state });
        let of_api = Arc::clone(&shared);
        let gateway: IpAddr = Place::Near.gateway().into();
        let api = Server::start(&router, SocketAddr::new(gateway, 0), move |asked| of_api.answer(asked))?;
        let of_metadata = Arc::clone(&shared);
        let metadata = Server::start(&router, SocketAddr::new(METADATA.into(), 80), move |question| {
            metadata::answer(&mut of_metadata.lock(), question)
        })?;
        let cloud = Self { shared, api, _metadata: metadata, console };
        for node in lab.nodes() {
            cloud.add(node)?;
        }
        Ok(Some(cloud))
    }

    /// One more instance: a node that is not one yet.
    pub fn add(&self, node: &Node) -> Result<()> {
        let links = node.namespace().ip_json("link show eth0")?;
        let mac = links[0]["address"].as_str().context("an Ethernet address")?;
        let made = self.console.answer("join", &json!({ "address": node.address(), "mac": mac }))?;
        let text = |field: &str| made[field].as_str().map(str::to_owned).context("an identifier");
        let mut state = self.lock();
        state.machines.push(Machine {
            name: node.name().to_owned(),
            instance: text("instance")?,
            interface: text("interface")?,
            mac: mac.to_owned(),
            address: node.address(),
            address_v6: node.address_v6(),
            has_role: true,
            running: true,
            checks: true,
        });
        self.shared.refresh(&mut state)
    }

    /// Where the API is: `http://192.168.77.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.api.address())
    }

    /// What `--cloud-endpoint` has to be.
    pub fn endpoint(&self) -> String {
        format!("aws:ec2={}", self.url())
    }

    /// A call at the console by boto3's names, `("delete_route", {…})`, which has to go well. It is not counted.
    pub fn console(&self, name: &str, parameters: &Value) -> Result<Value> {
        let mut state = self.lock();
        let answer = self.console.answer(name, parameters)?;
        self.shared.refresh(&mut state)?;
        Ok(answer)
    }

    /// The identifier of a node's instance, `i-…`.
    pub fn instance(&self, node: &str) -> Result<String> {
        self.machine(node).map(|machine| machine.instance)
    }

    /// The identifier of a node's interface, `eni-…`.
    pub fn interface(&self, node: &str) -> Result<String> {
        self.machine(node).map(|machine| machine.interface)
    }

    /// The identifiers of the VPC and of the nodes' subnet.
    pub fn network(&self) -> (String, String) {
        let state = self.lock();
        (state.site.vpc.clone(), state.site.subnet.clone())
    }

    /// The route table that the nodes' subnet uses. At first it is the VPC's main one.
    pub fn table_in_use(&self) -> String {
        self.lock().table.clone()
    }

    /// Makes one more route table, which nobody uses.
    pub fn make_table(&self) -> Result<String> {
        let made = self.console("create_route_table", &json!({ "VpcId": self.network().0 }))?;
        made["RouteTable"]["RouteTableId"].as_str().map(str::to_owned).context("an identifier")
    }

    /// Gives the nodes' subnet a route table of its own.
    pub fn use_own_table(&self) -> Result<String> {
        let table = self.make_table()?;
        let subnet = self.network().1;
        self.console
            .answer("associate_route_table", &json!({ "RouteTableId": table, "SubnetId": subnet }))?;
        let mut state = self.lock();
        state.table.clone_from(&table);
        self.shared.refresh(&mut state)?;
        Ok(table)
    }

    /// The rows of all tables, but the cloud's own.
    pub fn rows(&self) -> Vec<Row> {
        let tables = self.lock().tables();
        let rows = tables.iter().flat_map(|(table, routes)| {
            routes.iter().map(move |route| {
                let text = |field: &str| route.get(field).cloned().unwrap_or_default();
                let row = Row {
                    table: table.clone(),
                    destination: tables::destination(route).to_owned(),
                    interface: text("networkInterfaceId"),
                    instance: text("instanceId"),
                    state: text("state"),
                };
                (text("gatewayId") == "local", row)
            })
        });
        rows.filter(|(own, _)| !own).map(|(_, row)| row).collect()
    }

    /// An operator makes a row in a table that leads to a node.
    pub fn put_row(&self, table: &str, destination: &str, node: &str) -> Result<()> {
        self.change_row(
            "create_route",
            table,
            destination,
            &json!({ "NetworkInterfaceId": self.interface(node)? }),
        )
    }

    /// An operator makes a row lead to another node.
    pub fn replace_row(&self, table: &str, destination: &str, node: &str) -> Result<()> {
        self.change_row(
            "replace_route",
            table,
            destination,
            &json!({ "NetworkInterfaceId": self.interface(node)? }),
        )
    }

    /// An operator deletes a row.
    pub fn delete_row(&self, table: &str, destination: &str) -> Result<()> {
        self.change_row("delete_route", table, destination, &json!({}))
    }

    fn change_row(&self, name: &str, table: &str, destination: &str, more: &Value) -> Result<()> {
        let family =
            if destination.contains(':') { "DestinationIpv6CidrBlock" } else { "DestinationCidrBlock" };
        let mut parameters = more.clone();
        parameters["RouteTableId"] = json!(table);
        parameters[family] = json!(destination);
        self.console(name, &parameters).map(drop)
    }

    /// Whether a node's interface checks that packets are from or for itself, and so forwards none. At first it does.
    pub fn source_dest_check(&self, node: &str) -> Result<bool> {
        self.machine(node).map(|machine| machine.checks)
    }

    /// An operator changes that.
    pub fn set_source_dest_check(&self, node: &str, checks: bool) -> Result<()> {
        let interface = self.interface(node)?;
        let parameters = json!({ "NetworkInterfaceId": interface, "SourceDestCheck": { "Value": checks } });
        self.console("modify_network_interface_attribute", &parameters).map(drop)
    }

    /// Whether a node's instance runs; rows that lead to one that does not are blackholes. The node itself notices nothing.
    pub fn set_running(&self, node: &str, running: bool) -> Result<()> {
        self.change(node, |machine| machine.running = running)
    }

    /// Whether a node's instance has the role.
    pub fn set_role(&self, node: &str, has: bool) -> Result<()> {
        self.change(node, |machine| machine.has_role = has)
    }

    fn machine(&self, node: &str) -> Result<Machine> {
        let state = self.lock();
        let found = state.machines.iter().find(|machine| machine.name == node);
        found.cloned().with_context(|| format!("{node} is no instance"))
    }

    fn change(&self, node: &str, change: impl Fn(&mut Machine)) -> Result<()> {
        let mut state = self.lock();
        let found = state.machines.iter_mut().find(|machine| machine.name == node);
        change(found.with_context(|| format!("{node} is no instance"))?);
        self.shared.refresh(&mut state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}
