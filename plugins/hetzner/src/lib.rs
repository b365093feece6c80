//! The hetzner backend: a network of Hetzner Cloud carries the packets, by a route for each node's subnet whose gateway is the node's
//! address in that network. Each node looks after its own route, and after nobody else's.
//!
//! A tick compares what is there with what should be, and changes at most one thing: the API refuses changes of a network while another
//! one is being carried out. What a change came to is for the next tick to see.

mod api;
mod network;
mod refusal;

use std::net::Ipv4Addr;
use std::time::Duration;

use flannel_backend::ipnet::Ipv4Net;
use flannel_backend::serde_json::Value;
use flannel_backend::{Config, Lease, Node, PeerId, Policy, Registration, Retire, log};

use api::{Action, NetworkId};
use network::{Network, Route};
use refusal::Refusal;

/// Bytes of the largest packet that a network of Hetzner Cloud carries, whatever the interface says:
/// <https://docs.hetzner.com/cloud/networks/technical-concepts/architecture>.
const MTU: u32 = 1450;
/// How often everything is looked at.
const INTERVAL: Duration = Duration::from_mins(1);
/// How soon what is under way is asked for again.
const SOON: Duration = Duration::from_secs(2);
/// How often in a row the network may be busy with another change before the operator is told: about two minutes.
const PATIENCE: u32 = 60;

/// The policy.
struct HetznerPolicy {
    network: NetworkId,
    /// This node's addresses: the external interface's, and the published one.
    addresses: Vec<Ipv4Addr>,
    /// The cluster's network. Nothing outside of it is ever touched.
    cluster: Ipv4Net,
    subnet: Option<Ipv4Net>,
    /// This node's address in the network, once that is known.
    gateway: Option<Ipv4Addr>,
    /// What was begun last, until it is over.
    pending: Option<Action>,
    /// How often in a row the network was busy.
    waits: u32,
}

impl Policy for HetznerPolicy {
    const NAME: &'static str = "hetzner";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["hetzner"];

    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        let Some(cluster) = node.ipv4_network.filter(|_| node.ipv6_network.is_none()) else {
            return Err("networks of Hetzner Cloud have routes for IPv4 alone: right would be a network config with \"Network\", and \
                        without \"EnableIPv6\""
                .to_owned());
        };
        let addresses = [node.external.ipv4, node.public_ipv4].into_iter().flatten().collect();
        let policy = Self {
            network: network_id(config)?,
            addresses,
            cluster,
            subnet: None,
            gateway: None,
            pending: None,
            waits: 0,
        };
        Ok((policy, Registration { mtu: node.external.mtu.min(MTU), ..Registration::default() }))
    }

    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        self.subnet = Some(own.ipv4_subnet.ok_or("the lease has no IPv4 subnet")?);
        Ok(())
    }

    fn put(&mut self, _peer: PeerId, _lease: &Lease) -> Result<(), String> {
        // A peer sees to its own route.
        Ok(())
    }

    fn tick(&mut self) -> Result<Option<Duration>, String> {
        let Some(subnet) = self.subnet else { return Ok(Some(SOON)) };
        Ok(Some(self.approach(subnet, true)?.unwrap_or(INTERVAL)))
    }
}

impl Retire for HetznerPolicy {
    /// Removes this node's routes, one after the other.
    fn retire(&mut self) -> Result<Option<Duration>, String> {
        // Without a lease it has made none.
        let Some(subnet) = self.subnet else { return Ok(None) };
        self.approach(subnet, false)
    }
}

impl HetznerPolicy {
    /// Takes one step. Answers when to come again; none: all is as it should be. `stays`: whether there is to be a route.
    fn approach(&mut self, subnet: Ipv4Net, stays: bool) -> Result<Option<Duration>, String> {
        if let Some(pending) = self.pending.take() {
            let asked = pending.ended();
            let asked =
                asked.map_err(|refusal| refusal.text(&format!("look for {pending}"), self.network))?;
            let Some(outcome) = asked else {
                self.pending = Some(pending);
                return Ok(Some(SOON));
            };
            outcome.map_err(|refusal| refusal.text(&pending.doing, self.network))?;
            log::info("done in Hetzner Cloud", &[("action", &pending.doing)]);
        }
        let doing = format!("read network {}", self.network);
        let found = self.network.read().map_err(|refusal| refusal.text(&doing, self.network))?;
        let network = Network::read(&found).ok_or_else(|| format!("cannot {doing}: it makes no sense"))?;
        let gateway = self.gateway(&network)?;
        let own = network.routes.iter().find(|route| route.destination == subnet);
        if let Some(wrong) = network.routes.iter().find(|route| self.is_wrong(route, subnet, gateway, stays))
        {
            return self.remove(wrong, subnet, gateway);
        }
        if own.is_none() && stays {
            let doing = format!("make the route to {subnet} by {gateway}");
            log::info(
                "making the route in Hetzner Cloud",
                &[("destination", &subnet.to_string()), ("gateway", &gateway.to_string())],
            );
            let route = Route { destination: subnet, gateway };
            let begun = self.network.add(&route, doing.clone());
            return self.begun(&doing, begun);
        }
        self.waits = 0;
        Ok(None)
    }

    /// Whether a route is this node's to remove: to its subnet by somebody else, or by itself to a subnet that is not its own (any more).
    /// In what is no subnet of the cluster's it has no say.
    fn is_wrong(&self, route: &Route, subnet: Ipv4Net, gateway: Ipv4Addr, stays: bool) -> bool {
        let is_subnet = self.cluster.contains(&route.destination)
            && route.destination.prefix_len() == subnet.prefix_len()
            && route.destination.prefix_len() > self.cluster.prefix_len();
        if route.gateway == gateway {
            is_subnet && !(stays && route.destination == subnet)
        } else {
            // On its way out it leaves what others have put in its place.
            is_subnet && stays && route.destination == subnet
        }
    }

    fn remove(
        &mut self,
        route: &Route,
        subnet: Ipv4Net,
        gateway: Ipv4Addr,
    ) -> Result<Option<Duration>, String> {
        let Route { destination, gateway: by } = route;
        let fields: [(&str, &str); 2] =
            [("destination", &destination.to_string()), ("gateway", &by.to_string())];
        if *destination == subnet && *by != gateway {
            log::warn("replacing a route in Hetzner Cloud that leads elsewhere", &fields);
        } else {
            log::info("removing a route in Hetzner Cloud", &fields);
        }
        let doing = format!("remove the route to {destination} by {by}");
        let begun = self.network.delete(route, doing.clone());
        // The network was read a moment ago: it is the route that is gone, by its own node's deed.
        if begun.as_ref().is_err_and(Refusal::is_not_found) {
            return Ok(Some(SOON));
        }
        self.begun(&doing, begun)
    }

    /// Something was begun, or the network is busy.
    fn begun(&mut self, doing: &str, outcome: Result<Action, Refusal>) -> Result<Option<Duration>, String> {
        match outcome {
            Ok(action) => {
                self.waits = 0;
                self.pending = Some(action);
                Ok(Some(SOON))
            }
            // Another node's change, most likely: they all begin at the same time.
            Err(refusal) if refusal.is_busy() && self.waits < PATIENCE => {
                self.waits += 1;
                Ok(Some(SOON + self.spread()))
            }
            Err(refusal) => Err(refusal.text(doing, self.network)),
        }
    }

    /// Up to two seconds, another time for each node and each wait.
    fn spread(&self) -> Duration {
        let address = self.addresses.first().map_or(0, |address| u32::from(*address));
        let mixed = address.wrapping_add(self.waits.wrapping_mul(7919)).wrapping_mul(0x9e37_79b9);
        Duration::from_millis(u64::from(mixed >> 16) % 2000)
    }

    /// This node's address in the network. It does not change while the daemon runs.
    fn gateway(&mut self, network: &Network) -> Result<Ipv4Addr, String> {
        if let Some(known) = self.gateway {
            return Ok(known);
        }
        let inside = self.addresses.iter().copied().find(|address| network.range.contains(address));
        let found = match inside {
            Some(address) => address,
            None => self.look_up()?,
        };
        Ok(*self.gateway.insert(found))
    }

    /// Looks for the server that has one of this node's addresses.
    fn look_up(&self) -> Result<Ipv4Addr, String> {
        let id = self.network;
        let servers = api::servers().map_err(|refusal| refusal.text("list servers", id))?;
        let has = |server: &&Value| {
            let address = server["public_net"]["ipv4"]["ip"].as_str().and_then(|text| text.parse().ok());
            address.is_some_and(|address: Ipv4Addr| self.addresses.contains(&address))
        };
        let shown: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let shown = shown.join(" and ");
        let server = servers.iter().find(has).ok_or_else(|| {
            format!(
                "no server of the project has {shown}, and none of these is in network {id}: right would be --iface with the interface \
                 that is in the network"
            )
        })?;
        let interfaces = server["private_net"].as_array().into_iter().flatten();
        let mut inside = interfaces.filter(|one| id.is(&one["network"])).filter_map(|one| one["ip"].as_str());
        inside.find_map(|text| text.parse().ok()).ok_or_else(|| {
            let name = server["name"].as_str().unwrap_or_default();
            format!("server {name} ({shown}) is not attached to network {id}: hcloud server attach-to-network {name} --network {id}")
        })
    }
}

/// `NetworkID`, a number as Hetzner has it, or the same as a text.
fn network_id(config: &Config) -> Result<NetworkId, String> {
    let given = config.get("NetworkID").filter(|value| !value.is_null());
    let given = given.ok_or(
        "NetworkID is missing: right would be the number of the Hetzner Cloud network that the nodes are in, as `hcloud network list` \
         shows it",
    )?;
    let number = given.as_u64().or_else(|| given.as_str()?.parse().ok()).filter(|number| *number > 0);
    number.map(NetworkId).ok_or_else(|| {
        format!(
            "NetworkID is {given}: right would be a number such as 4711, as `hcloud network list` shows it"
        )
    })
}

flannel_backend::export!(HetznerPolicy);
flannel_backend::retirement!(HetznerPolicy);

#[cfg(test)]
mod tests;
