//! What the policy is told about the node, and whom the capabilities ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use flannel_base::Family;
use flannel_cloud::{Answer, EndpointRequest, Failure, Instance, Provider, Request};
use flannel_model::entry::Mac;
use flannel_model::offloads::Offloads;
use flannel_model::wireguard::{Keys, PublicKey};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::about::NodeInfo;
use super::grants::Grants;
use super::probing::Probes;
use super::secrets::Secrets;

/// This node and its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// The external interface's name.
    pub interface: String,
    /// Bytes of the largest IP packet that it carries.
    pub mtu: u32,
    /// Its IPv4 address; none if the cluster has no IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address; none if the cluster has no IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// The published IPv4 address.
    pub public_ipv4: Option<Ipv4Addr>,
    /// The published IPv6 address.
    pub public_ipv6: Option<Ipv6Addr>,
    /// The cluster's IPv4 network; none if the cluster has no IPv4.
    pub ipv4_network: Option<Ipv4Net>,
    /// The cluster's IPv6 network; none if the cluster has no IPv6.
    pub ipv6_network: Option<Ipv6Net>,
}

/// An interface of the operator's that plugins may use beside the external one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// Bytes of the largest IP packet that it carries; 0 while it is away.
    pub mtu: u32,
    /// Its addresses that are good beyond the link, each with the length of its prefix.
    pub addresses: Vec<IpNet>,
}

/// Answers about links that a policy needs while it is being called.
pub trait LinkFacts: Send + Sync {
    /// The Ethernet address that a device has or will have: the same each time.
    fn mac(&self, device: &str, vni: u32, family: Family) -> Mac;

    /// Whether an address is reached over the external interface without a gateway. The error is a reason why that is not
    /// known.
    fn is_on_link(&self, address: IpAddr) -> Result<bool, String>;

    /// The kernel's own VXLAN port.
    fn default_vxlan_port(&self) -> u16;

    /// This node's WireGuard keys, made if there are none yet. The error says what is wrong with which file.
    fn wireguard_keys(&self) -> Result<Keys, String>;

    /// What peers are to be told of this node's key for IPsec. It changes now and then.
    fn ipsec_key(&self) -> Result<PublicKey, String>;

    /// The interfaces that the operator has named for plugins, in his order. The error is a reason why that is not known.
    fn uplinks(&self) -> Result<Vec<Uplink>, String> {
        Ok(Vec::new())
    }
}

/// Requests to clouds. Each call waits for its answer, until the deadline at the latest.
pub trait Clouds: Send + Sync {
    /// Sends a request.
    fn send(&self, request: &Request, deadline: Instant) -> Result<Answer, Failure>;

    /// What this machine is.
    fn instance(&self, provider: Provider, deadline: Instant) -> Result<Instance, Failure>;

    /// The region that is asked where a request names none.
    fn region(&self, provider: Provider, deadline: Instant) -> Result<String, Failure> {
        Ok(self.instance(provider, deadline)?.region)
    }
}

/// Requests to endpoints that the operator has named.
pub trait Endpoints: Send + Sync {
    /// Their names.
    fn names(&self) -> Vec<String>;

    /// Which of the operator's entries allows a request. The error says what is wrong with it, or not allowed.
    fn operation(&self, request: &EndpointRequest) -> Result<String, Failure>;

    /// Sends a request. The call waits for the answer, until the deadline at the latest.
    fn send(&self, request: &EndpointRequest, deadline: Instant) -> Result<Answer, Failure>;
}

/// Where nobody can be asked, whatever is asked for.
pub struct NoEndpoints;

impl Endpoints for NoEndpoints {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn operation(&self, request: &EndpointRequest) -> Result<String, Failure> {
        Ok(format!("{} {}", request.method.name(), request.path))
    }

    fn send(&self, _: &EndpointRequest, _: Instant) -> Result<Answer, Failure> {
        Err(Failure::Unreachable("there is no endpoint here".to_owned()))
    }
}

/// Where there is no cloud.
pub struct NoClouds;

impl Clouds for NoClouds {
    fn send(&self, _: &Request, _: Instant) -> Result<Answer, Failure> {
        Err(Failure::Unreachable("there is no cloud here".to_owned()))
    }

    fn instance(&self, _: Provider, _: Instant) -> Result<Instance, Failure> {
        Err(Failure::Unreachable("there is no cloud here".to_owned()))
    }
}

/// A command of the operator's that is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The option that it is, as the network config has it.
    pub name: String,
    /// What is run, by a shell.
    pub text: String,
    /// Variables beside the daemon's own.
    pub environment: Vec<(String, String)>,
    /// What it reads from standard input.
    pub input: String,
}

/// How a command has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandOutcome {
    /// What it has exited with; 128 and the number of the signal that has ended it.
    pub status: i32,
    /// What it has written.
    pub output: String,
    /// It has written more.
    pub truncated: bool,
}

/// Why there is no outcome of a command.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommandFailure {
    /// The operator has not allowed it.
    #[error("{0}")]
    Denied(String),
    /// It could not be started, or did not end in time.
    #[error("{0}")]
    Unavailable(String),
}

/// Commands of the network config.
pub trait Commands: Send + Sync {
    /// Runs one. The call waits for its end, until the deadline at the latest.
    fn run(&self, command: &Command, deadline: Instant) -> Result<CommandOutcome, CommandFailure>;
}

/// Where nothing is run: all commands end well, and say nothing.
pub struct NoCommands;

impl Commands for NoCommands {
    fn run(&self, _: &Command, _: Instant) -> Result<CommandOutcome, CommandFailure> {
        Ok(CommandOutcome::default())
    }
}

/// Everything around a policy.
#[derive(Clone)]
pub struct Environment {
    /// This node.
    pub node: NodeFacts,
    /// What else is known of it.
    pub about: Arc<NodeInfo>,
    /// `Backend.Type` of the network config, in lower case.
    pub backend_type: String,
    /// The network config's `Backend` object, as JSON text, without its secrets.
    pub config: String,
    /// Those.
    pub secrets: Secrets,
    /// What tunnels may use to be fast.
    pub offloads: Offloads,
    /// What plugins may do here.
    pub grants: Arc<Grants>,
    /// Whom to ask about links.
    pub links: Arc<dyn LinkFacts>,
    /// Whom to ask about clouds.
    pub clouds: Arc<dyn Clouds>,
    /// Whom to ask about endpoints.
    pub endpoints: Arc<dyn Endpoints>,
    /// Who runs the operator's commands.
    pub commands: Arc<dyn Commands>,
    /// Who probes peers.
    pub probes: Arc<dyn Probes>,
}
