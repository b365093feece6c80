//! A policy without a host: capability calls go into a record, and come out as text that reads like iproute2's, fit for
//! golden files. Each thread has a record of its own.

pub mod samples;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::cloud;
use crate::commands;
use crate::http;
use crate::ipsec;
use crate::log::Level;
use crate::policy_routing;
use crate::probe;
use crate::tunnel_links;
use crate::udp_tunnel;
use crate::wireguard::{self, PublicKey};
use crate::{
    Config, Error, Ipip, Lease, Link, Mac, Node, PeerId, Policy, Registration, Retire, Route, Vxlan,
};

/// One thing that the policy declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declared {
    /// A VXLAN device.
    Vxlan(Vxlan),
    /// An IPIP device.
    Ipip(Ipip),
    /// A GRE device.
    Gre(tunnel_links::Gre),
    /// A device for Ethernet in GRE.
    Gretap(tunnel_links::Gretap),
    /// A Geneve device.
    Geneve(tunnel_links::Geneve),
    /// A device for IP in IP.
    IpTunnel(tunnel_links::IpTunnel),
    /// A VLAN.
    Vlan(tunnel_links::Vlan),
    /// A WireGuard device.
    Wireguard(wireguard::Device),
    /// A WireGuard device's peer.
    WireguardPeer(PeerId, wireguard::Peer, String),
    /// A tunnel of the host's.
    Tunnel(udp_tunnel::Device),
    /// A peer's subnet behind a tunnel.
    TunnelPeer(PeerId, IpNet, IpAddr, String),
    /// An XFRM interface.
    Ipsec(ipsec::Device),
    /// A peer's subnet behind an XFRM interface.
    IpsecPeer(PeerId, ipsec::Peer, String),
    /// Networks that are reached over a device.
    Networks(String, Vec<IpNet>),
    /// A device's addresses.
    Addresses(String, Vec<IpNet>),
    /// A route, over a device.
    Route(PeerId, Route, String),
    /// A neighbour entry, on a device.
    Neighbour(PeerId, IpAddr, Mac, String),
    /// A forwarding database entry, of a device.
    Fdb(PeerId, Mac, IpAddr, String),
    /// A route with attributes, and its next hops.
    PolicyRoute(PeerId, policy_routing::Route, Vec<policy_routing::DeclaredHop>),
    /// The rules.
    Rules(Vec<policy_routing::DeclaredRule>),
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vxlan(device) => {
                let Vxlan { name, vni, port, family, learning, gbp, mtu } = device;
                write!(f, "link {name} vxlan id {vni} {family:?}")?;
                port.map_or(Ok(()), |port| write!(f, " dstport {port}"))?;
                write!(
                    f,
                    "{}{} mtu {mtu}",
                    if *learning { "" } else { " nolearning" },
                    if *gbp { " gbp" } else { "" }
                )
            }
            Self::Gre(device) => device.fmt(f),
            Self::Gretap(device) => device.fmt(f),
            Self::Geneve(device) => device.fmt(f),
            Self::IpTunnel(device) => device.fmt(f),
            Self::Vlan(device) => device.fmt(f),
            Self::Ipip(Ipip { name, mtu }) => write!(f, "link {name} ipip mtu {mtu}"),
            Self::Wireguard(wireguard::Device { name, listen_port, mtu }) => {
                write!(f, "link {name} wireguard listen-port {listen_port} mtu {mtu}")
            }
            Self::WireguardPeer(_, peer, device) => {
                let wireguard::Peer { public_key, endpoint: (address, port), allowed, .. } = peer;
                let allowed: Vec<String> = allowed.iter().map(IpNet::to_string).collect();
                let endpoint = std::net::SocketAddr::new(*address, *port);
                let allowed = allowed.join(",");
                write!(f, "wg {device} peer {public_key} endpoint {endpoint} allowed-ips {allowed}")?;
                if peer.keepalive > 0 {
                    write!(f, " persistent-keepalive {}", peer.keepalive)?;
                }
                f.write_str(if peer.preshared { " preshared-key" } else { "" })
            }
            Self::Tunnel(udp_tunnel::Device { name, port, mtu }) => {
                write!(f, "link {name} tunnel port {port} mtu {mtu}")
            }
            Self::TunnelPeer(_, destination, endpoint, device) => {
                write!(f, "tunnel {device} {destination} at {endpoint}")
            }
            Self::Ipsec(device) => {
                let ipsec::Device { name, mtu, cipher, udp_port, rekey_seconds } = device;
                write!(f, "link {name} ipsec {cipher:?}")?;
                udp_port.map_or(Ok(()), |port| write!(f, " udp-port {port}"))?;
                rekey_seconds.map_or(Ok(()), |seconds| write!(f, " rekey {seconds}"))?;
                write!(f, " mtu {mtu}")
            }
            Self::IpsecPeer(_, ipsec::Peer { subnet, endpoint, public_key }, device) => {
                write!(f, "ipsec {device} {subnet} at {endpoint} key {public_key}")
            }
            Self::Networks(device, networks) => {
                let networks: Vec<String> = networks.iter().map(IpNet::to_string).collect();
                write!(f, "route {} dev {device}", networks.join(" "))
            }
            Self::Addresses(device, addresses) => {
                let addresses: Vec<String> = addresses.iter().map(IpNet::to_string).collect();
                write!(f, "addresses {} dev {device}", addresses.join(" "))
            }
            Self::Route(_, route, device) => {
                let onlink = if route.onlink { " onlink" } else { "" };
                write!(f, "route {} via {} dev {device}{onlink}", route.destination, route.via)
            }
            Self::Neighbour(_, address, mac, device) => {
                write!(f, "neigh {address} lladdr {mac} dev {device}")
            }
            Self::Fdb(_, mac, destination, device) => write!(f, "fdb {mac} dst {destination} dev {device}"),
            Self::PolicyRoute(_, route, hops) => f.write_str(&policy_routing::shown_route(route, hops)),
            Self::Rules(rules) => {
                let rules: Vec<String> = rules.iter().map(policy_routing::shown_rule).collect();
                f.write_str(&rules.join("; "))
            }
        }
    }
}

/// Which target it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probed {
    /// Whose address it is.
    pub peer: PeerId,
    /// The address.
    pub address: IpAddr,
    /// The device by which requests leave; none: the routing table says.
    pub over: Option<String>,
    /// Bytes of a request; none: the smallest.
    pub size: Option<u32>,
}

impl Probed {
    pub(crate) fn of(target: &probe::Target) -> Self {
        let probe::Target { peer, address, over, size, .. } = *target;
        Self { peer, address, over: over.map(Link::name), size }
    }
}

/// A cloud for tests: a function from requests to answers.
pub type Cloud = Box<dyn FnMut(&cloud::Request) -> Result<cloud::Response, cloud::Error>>;

/// Endpoints for tests: a function from requests to answers.
pub type Endpoints = Box<dyn FnMut(&http::Request) -> Result<http::Response, http::Error>>;

/// The operator's commands for tests: a function from what is run to how it ends.
pub type Commands = Box<dyn FnMut(&commands::Run) -> Result<commands::Outcome, commands::Error>>;

/// The host that is not there: what capabilities answer, and what was declared.
pub struct Host {
    /// Name of the external interface.
    pub external: String,
    /// Ethernet addresses by device; a declared device that is not here gets one.
    pub macs: BTreeMap<String, Mac>,
    /// MTUs by device.
    pub mtus: BTreeMap<String, u32>,
    /// Addresses that are reached without a gateway.
    pub on_link: BTreeSet<IpAddr>,
    /// The operator's interfaces that plugins may use.
    pub uplinks: Vec<policy_routing::Uplink>,
    /// What was declared and not taken yet.
    pub declared: Vec<Declared>,
    /// What was logged.
    pub log: Vec<(Level, String)>,
    /// The durable store.
    pub state: BTreeMap<String, Vec<u8>>,
    /// What was published for both families, in its order.
    pub published: Vec<(Option<String>, Option<String>)>,
    /// Peers that the policy wants to be told of again, in their order.
    pub refreshed: Vec<PeerId>,
    /// What is probed.
    pub probed: Vec<Probed>,
    /// What is known of targets.
    pub reports: BTreeMap<Probed, probe::Figures>,
    /// Why nothing can be probed; none: it can be.
    pub no_probes: Option<String>,
    /// Gauges, by name and labels: `open{port="1"}`.
    pub gauges: BTreeMap<String, f64>,
    /// Counters, named alike.
    pub counters: BTreeMap<String, u64>,
    /// This node's WireGuard key.
    pub wireguard_key: PublicKey,
    /// This node's key for IPsec.
    pub ipsec_key: PublicKey,
    /// Whether the network config has a preshared key.
    pub preshared: bool,
    /// What the cloud says of this machine.
    pub instance: Result<cloud::Instance, cloud::Error>,
    /// The cloud; none: it cannot be reached.
    pub cloud: Option<Cloud>,
    /// What this node is called.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What its operator has given with `--plugin-option`.
    pub options: BTreeMap<String, String>,
    /// Endpoints; none: they cannot be reached.
    pub endpoints: Option<Endpoints>,
    /// The operator's commands; none: they cannot be run.
    pub commands: Option<Commands>,
    /// What both clocks say.
    pub now: Duration,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            external: "eth0".to_owned(),
            macs: BTreeMap::new(),
            mtus: BTreeMap::new(),
            on_link: BTreeSet::new(),
            uplinks: Vec::new(),
            declared: Vec::new(),
            log: Vec::new(),
            state: BTreeMap::new(),
            published: Vec::new(),
            refreshed: Vec::new(),
            probed: Vec::new(),
            reports: BTreeMap::new(),
            no_probes: None,
            gauges: BTreeMap::new(),
            counters: BTreeMap::new(),
            wireguard_key: PublicKey([1; 32]),
            ipsec_key: PublicKey([1; 32]),
            preshared: false,
            instance: Err(cloud::Error::Unreachable("this test has no cloud".to_owned())),
            cloud: None,
            name: "node-1".to_owned(),
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            endpoints: None,
            commands: None,
            now: Duration::ZERO,
        }
    }
}

impl Host {
    pub(crate) fn choose_mac(&mut self, device: &str) {
        let last = u8::try_from(self.macs.len() + 1).unwrap_or(u8::MAX);
        self.macs.entry(device.to_owned()).or_insert(Mac([2, 0, 0, 0, 0, last]));
    }

    pub(crate) fn device(&mut self, device: &Vxlan) {
        self.choose_mac(&device.name);
        self.mtus.insert(device.name.clone(), device.mtu);
        self.declared.push(Declared::Vxlan(device.clone()));
    }
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::new(Host::default());
}

/// Lends this thread's host.
pub fn with<T>(run: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with_borrow_mut(run)
}

/// Records a declaration.
#[allow(clippy::unnecessary_wraps, reason = "stands in for a call that the host may refuse")]
pub(crate) fn declare(declared: Declared) -> Result<(), Error> {
    with(|host| host.declared.push(declared));
    Ok(())
}

/// What was declared since the last time, one line each.
pub fn taken() -> Vec<String> {
    with(|host| host.declared.drain(..).map(|declared| declared.to_string()).collect())
}

/// A policy on a host of its own.
pub struct Bench<P> {
    /// The policy.
    pub policy: P,
    /// What it publishes.
    pub registration: Registration,
}

impl<P: Policy> Bench<P> {
    /// Registers a policy with a fresh host.
    pub fn register(node: &Node, config: &str) -> Result<Self, String> {
        Self::register_on(Host::default(), node, config)
    }

    /// Registers a policy with a prepared host.
    pub fn register_on(host: Host, node: &Node, config: &str) -> Result<Self, String> {
        with(|place| *place = host);
        let (policy, registration) = P::register(node, &Config::parse(config)?)?;
        Ok(Self { policy, registration })
    }

    /// Hands the node's own lease over; answers what was declared.
    pub fn lease_acquired(&mut self, own: &Lease) -> Result<Vec<String>, String> {
        self.policy.lease_acquired(own).map(|()| taken())
    }

    /// Lets the policy look after state outside of the kernel; answers after what time it wants the next.
    pub fn tick(&mut self) -> Result<Option<Duration>, String> {
        self.policy.tick()
    }

    /// Hands a peer's lease over; answers what was declared.
    pub fn put(&mut self, peer: u64, lease: &Lease) -> Result<Vec<String>, String> {
        let outcome = self.policy.put(PeerId(peer), lease);
        let declared = taken();
        outcome.map(|()| declared)
    }
}

impl<P: Retire> Bench<P> {
    /// Has the policy remove what it has outside of the kernel; answers after what time it wants to go on.
    pub fn retire(&mut self) -> Result<Option<Duration>, String> {
        self.policy.retire()
    }
}
