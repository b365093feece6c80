//! How things stand, as `flanneld status` tells it: to people by `Display`, to programs as JSON.
//!
//! The daemon and the one who asks may be of different versions: what is missing takes its default, and what is unknown is
//! left out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use flannel_base::Timestamp;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// How things stand. What the daemon does not know yet is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since when it runs.
    pub started: Option<Timestamp>,
    /// When this was true.
    pub time: Timestamp,
    /// Whether the node is ready.
    pub ready: Ready,
    /// This node.
    pub node: Option<Node>,
    /// The cluster's networks.
    pub network: Option<Network>,
    /// What the store has as the network config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    /// The change of the backend that is going on; none: the cluster is at rest, as far as this node knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// This node's lease.
    pub lease: Option<Lease>,
    /// Where the leases are.
    pub store: Store,
    /// The policy.
    pub plugin: Option<Plugin>,
    /// The kernel's side.
    pub datapath: Option<Datapath>,
    /// The firewall rules, if they are wanted.
    pub firewall: Option<Firewall>,
    /// What plugins have probed; none: nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
    /// The other nodes.
    pub peers: Vec<Peer>,
}

/// What plugins have probed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Probes {
    /// Targets that have neither answered nor been lost yet.
    pub untested: usize,
    /// Targets that answer.
    pub answered: usize,
    /// Targets that are lost.
    pub lost: usize,
    /// Milliseconds between two requests to one target, the longest.
    pub interval_ms: u64,
    /// Some of those that are lost, a line for each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost_targets: Vec<String>,
}

/// Whether the node is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ready {
    /// Whether it is, as `/readyz` has it.
    pub ready: bool,
    /// What is missing, in words.
    pub missing: Vec<String>,
    /// What the cluster has and this node does without, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lacking: Vec<String>,
}

/// This node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// The external interface.
    pub interface: String,
    /// Its MTU.
    pub mtu: u32,
    /// The addresses on it that are used.
    pub addresses: Vec<IpAddr>,
    /// The addresses that other nodes are told to send to.
    pub public_addresses: Vec<IpAddr>,
}

/// The cluster's networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// For IPv4.
    pub ipv4: Option<IpNet>,
    /// For IPv6.
    pub ipv6: Option<IpNet>,
}

/// The network config in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Why what is there now is not taken up; what was in force before goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The `Backend` section that is in force, or is changed to: in its canonical form, and with a placeholder for each secret.
    pub backend: String,
}

/// A change of the backend that is going on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// The `Backend` section that was in force before: in its canonical form, and with a placeholder for each secret.
    pub from: String,
    /// That of the network config, likewise.
    pub to: String,
    /// What the former is called.
    pub from_type: String,
    /// What the new one is called.
    pub to_type: String,
    /// How far this node is: `starting`, `moving`, `moved` (it reaches all peers by the new backend), `main` (it has published the
    /// new one as its main one), `retiring` (the former goes).
    pub phase: String,
    /// Since when the change goes on here.
    pub since: Option<Timestamp>,
    /// Peers that are reached by the new backend.
    pub moved: usize,
    /// All peers that take part.
    pub peers: usize,
    /// Why the new backend does not start on this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Who holds up the end, a line for each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
}

/// This node's lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lease {
    /// One for each family.
    pub subnets: Vec<IpNet>,
    /// When it ends, unless it is renewed; none for a reservation.
    pub expires: Option<Timestamp>,
    /// It does not end.
    pub reserved: bool,
    /// For the pods' interfaces.
    pub mtu: u32,
}

/// The lease store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Store {
    /// `etcd`, `file`, `kube`.
    pub kind: String,
    /// Endpoints, directory, or node and API server, without secrets.
    pub place: String,
    /// The last operation went well.
    pub ok: bool,
    /// What was wrong the last time that something was.
    pub last_error: Option<String>,
}

/// The policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plugin {
    /// As it calls itself.
    pub name: String,
    /// Its version.
    pub version: String,
    /// A file, or that it is built in.
    pub source: String,
    /// SHA-256 of the component.
    pub digest: String,
    /// Bytes of the component.
    pub size: u64,
    /// Who has signed it, of those whose keys are in the file with grants.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<String>,
    /// That its tag means an older version than it did before: from which to which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<String>,
    /// Calls since the start, by function.
    pub calls: BTreeMap<String, u64>,
    /// Calls that failed.
    pub failures: u64,
    /// Fresh instances made after one had failed.
    pub restarts: u64,
    /// How the last call that failed did.
    pub last_error: Option<String>,
    /// It has failed so often that it is asked only when something has changed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// What keeps it from its work outside of the kernel: a cloud, say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// Swaps since the start.
    #[serde(skip_serializing_if = "Swaps::is_none")]
    pub swaps: Swaps,
}

/// What goes wrong, and is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trouble {
    /// Since when.
    pub since: Timestamp,
    /// What was wrong the last time, in the plugin's words.
    pub reason: String,
}

/// Swaps of the plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Swaps {
    /// Another plugin has taken over.
    pub done: u64,
    /// The one before had to go on.
    pub refused: u64,
    /// When the last one was.
    pub last: Option<Timestamp>,
    /// Why the last one was refused; none if it was done.
    pub refusal: Option<String>,
}

impl Swaps {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The kernel's side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Datapath {
    /// Our devices.
    pub devices: Vec<Device>,
    /// What is wrong with them.
    pub device_error: Option<String>,
    /// Entries.
    pub entries: Entries,
    /// Looks at everything.
    pub resyncs: u64,
    /// Messages that changed something.
    pub messages: u64,
    /// IPv4 routes go through nexthop objects.
    pub nexthops: bool,
    /// Tunnels of the daemon itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tunnels: Vec<Tunnel>,
}

/// Routes, neighbours and FDB entries together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entries {
    /// Those that should be there.
    pub desired: usize,
    /// Those of them that wait for their device.
    pub waiting: usize,
    /// Those of them that the kernel refused.
    pub failed: usize,
}

/// A device of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// Its MAC address, if it has one.
    pub mac: Option<String>,
    /// Its MTU.
    pub mtu: u32,
    /// It is up.
    pub up: bool,
}

/// The firewall rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Firewall {
    /// `nftables`, `iptables`.
    pub mode: String,
    /// They are in place.
    pub ok: bool,
    /// Why not.
    pub error: Option<String>,
    /// How often they had to be put back.
    pub repairs: u64,
    /// Where tunnels take packets from, if that is restricted; `None` without a tunnel.
    pub sources: Option<TunnelSources>,
}

/// Whether only nodes can send into tunnels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TunnelSources {
    /// It is so.
    pub in_place: bool,
    /// Why not.
    pub error: Option<String>,
    /// Addresses that may send.
    pub addresses: usize,
    /// Packets of others that were dropped since the start.
    pub dropped: u64,
}

/// Another node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// Under which number host and plugin speak of it.
    pub id: u64,
    /// One for each family.
    pub subnets: Vec<IpNet>,
    /// Where it is reached.
    pub public: Vec<IpAddr>,
    /// Of its lease.
    pub backend_type: String,
    /// During a change of the backend: the type of the one by which it is reached. Why not by the newer one is among `problems`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// How many routes are declared for it.
    pub routes: usize,
    /// How many neighbours.
    pub neighbours: usize,
    /// How many FDB entries.
    pub fdb: usize,
    /// How many tunnels of a device that knows its peers itself: WireGuard's, or the host's own.
    pub tunnels: usize,
    /// What the daemon has carried to and from it, where the daemon is the one that carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// Bytes of the largest packet on the way to it, where that is known to be less than the interface's MTU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_mtu: Option<u32>,
    /// What is wrong, in words.
    pub problems: Vec<String>,
}

/// A tunnel of the daemon itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tunnel {
    /// Its TUN device.
    pub device: String,
    /// Its UDP port.
    pub port: u16,
    /// The offloads that are in use.
    pub offloads: Vec<String>,
    /// What has passed through it.
    pub traffic: Traffic,
    /// Packets dropped, by reason; only reasons that there were.
    pub drops: BTreeMap<String, u64>,
    /// ICMP errors given to senders.
    pub icmp_errors: u64,
}

/// What a tunnel has carried, in packets and bytes of inner packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Packets from peers.
    pub rx_packets: u64,
    /// Bytes from peers.
    pub rx_bytes: u64,
    /// Packets to peers.
    pub tx_packets: u64,
    /// Bytes to peers.
    pub tx_bytes: u64,
    /// Errors that the network or the kernel reported, for instance that nobody listens on the port.
    pub errors: u64,
}

/// Something that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What has it: a part of the daemon, or a peer's subnet.
    pub at: String,
    /// What it is.
    pub text: String,
}

impl Status {
    /// All that is wrong now; what only has been wrong once is not among it.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut add = |at: &str, text: String| found.push(Problem { at: at.to_owned(), text });
        if !self.ready.ready {
            self.ready.missing.iter().for_each(|missing| add("not ready", missing.clone()));
        }
        self.ready.lacking.iter().for_each(|lacking| add("lacking", lacking.clone()));
        if !self.store.ok {
            let text = self.store.last_error.clone();
            add("store", text.unwrap_or_else(|| "it has not answered yet".to_owned()));
        }
        if let Some(reason) = self.config.as_ref().and_then(|config| config.refused.as_ref()) {
            add("config", format!("the network config in the store is not taken up: {reason}"));
        }
        if let Some(change) = &self.change
            && let Some(reason) = &change.failure
        {
            add("change", format!("{} does not start on this node: {reason}", change.to_type));
        }
        if let Some(expires) = self.lease.as_ref().and_then(|lease| lease.expires)
            && expires <= self.time
        {
            add("lease", format!("it ended at {expires} and could not be renewed"));
        }
        if let Some(datapath) = &self.datapath {
            datapath.problems(&mut add);
        }
        if let Some(firewall) = self.firewall.as_ref().filter(|firewall| !firewall.ok) {
            let text = firewall.error.clone();
            add("firewall", text.unwrap_or_else(|| "the rules are not in place".to_owned()));
        }
        let sources = self.firewall.as_ref().and_then(|firewall| firewall.sources.as_ref());
        if let Some(error) = sources.and_then(|sources| sources.error.as_ref()) {
            add("firewall", format!("tunnels take packets from any host: {error}"));
        }
        for peer in &self.peers {
            let name = peer.name();
            peer.problems.iter().for_each(|problem| add(&name, problem.clone()));
        }
        found
    }
}

impl Datapath {
    fn problems(&self, add: &mut impl FnMut(&str, String)) {
        if let Some(error) = &self.device_error {
            add("devices", error.clone());
        }
        for device in self.devices.iter().filter(|device| !device.up) {
            add("devices", format!("{} is down", device.name));
        }
        let Entries { waiting, failed, .. } = self.entries;
        if failed > 0 {
            add("entries", format!("the kernel refused {failed}"));
        }
        if waiting > 0 {
            add("entries", format!("{waiting} cannot be made before their device is there"));
        }
    }
}

impl Peer {
    /// What people know it by: its first subnet.
    fn name(&self) -> String {
        self.subnets.first().map_or_else(|| format!("peer {}", self.id), ToString::to_string)
    }
}
