//! What a plugin wants to have: for people as tables, for programs as JSON. In the same order each time, whatever the order was in
//! which it was declared.

mod policy;
mod probe;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use flannel_model::entry::{Device, DeviceSpec, Entry};
use flannel_model::lease::{Lease, Subnets};
use flannel_model::ledger::{PeerId, Transaction};
use flannel_plugin_host::{Figure, PluginSeries, ProbeTarget, Registration};
use serde::Serialize;
use serde_json::value::RawValue;

use super::table;

/// The desired state.
#[derive(Debug, Serialize)]
pub struct Desired {
    /// The plugin's name.
    pub plugin: String,
    /// What the node publishes, and what its pods are told.
    pub publishes: Published,
    /// Devices, by name.
    pub devices: Vec<ShownDevice>,
    /// Rules that lead to tables of the plugin's own, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<policy::ShownRule>,
    /// Peers, by subnet.
    pub peers: Vec<ShownPeer>,
    /// What the plugin has probed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<probe::ShownProbe>,
    /// What the plugin has counted of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<ShownSeries>,
}

/// A series of the plugin's own.
#[derive(Debug, Serialize)]
pub struct ShownSeries {
    /// As Prometheus has it.
    pub name: String,
    /// `gauge` or `counter`.
    pub kind: &'static str,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How much or how often.
    pub value: serde_json::Number,
}

/// What the node publishes.
#[derive(Debug, Serialize)]
pub struct Published {
    /// `BackendType`.
    pub backend_type: String,
    /// `BackendData`.
    pub backend_data: Option<Box<RawValue>>,
    /// `BackendV6Data`.
    pub backend_v6_data: Option<Box<RawValue>>,
    /// Bytes of the largest IP packet of a pod.
    pub mtu: u32,
}

/// A device.
#[derive(Debug, Serialize)]
pub struct ShownDevice {
    /// Its name.
    pub name: String,
    /// What it is, such as `vxlan`.
    pub kind: &'static str,
    /// How it is set up.
    pub options: BTreeMap<&'static str, String>,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// The networks that are reached over it without a next hop.
    pub networks: Vec<String>,
}

/// A peer.
#[derive(Debug, Serialize)]
pub struct ShownPeer {
    /// Its subnets.
    pub subnets: String,
    /// Where it is.
    pub public: Vec<String>,
    /// What is declared for it.
    pub entries: Vec<ShownEntry>,
    /// Why the policy does not serve it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// How the call about it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum ShownEntry {
    /// A route.
    Route {
        /// Where to.
        destination: String,
        /// The next hop.
        via: Option<String>,
        /// The next hop is on the link whatever addresses say.
        onlink: bool,
        /// Over which device.
        device: String,
    },
    /// A neighbour entry.
    Neighbour {
        /// The neighbour.
        address: String,
        /// Its Ethernet address.
        mac: String,
        /// On which device.
        device: String,
    },
    /// An entry of a forwarding database.
    Fdb {
        /// The Ethernet address.
        mac: String,
        /// The node that it is at.
        destination: String,
        /// Of which device.
        device: String,
    },
    /// A peer of a WireGuard device.
    WireguardPeer {
        /// Its public key.
        public_key: String,
        /// Where it is.
        endpoint: Option<String>,
        /// The networks behind it.
        allowed: Vec<String>,
        /// Seconds between packets that keep a NAT open; 0: none.
        keepalive: u16,
        /// Whether the preshared key is used.
        preshared: bool,
        /// Of which device.
        device: String,
    },
    /// A subnet behind a tunnel of the host.
    TunnelPeer {
        /// The subnet.
        destination: String,
        /// The node that it is at.
        endpoint: String,
        /// Of which tunnel.
        device: String,
    },
    /// A subnet behind an XFRM interface.
    IpsecPeer {
        /// The subnet.
        subnet: String,
        /// The node that it is at.
        endpoint: String,
        /// The node's public key.
        public_key: String,
        /// Of which device.
        device: String,
    },
    /// A route with attributes.
    PolicyRoute(policy::ShownRoute),
}

/// What became of one peer's lease.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    /// Why the policy does not serve it.
    pub rejected: Option<String>,
    /// How the call about it failed.
    pub failed: Option<String>,
}

impl Desired {
    /// Puts together what was declared, for these peers. `interface` is the external interface's name.
    pub fn new<'a>(
        registered: &Registration,
        declared: &Transaction,
        interface: &str,
        peers: impl IntoIterator<Item = (PeerId, &'a Lease, Fate)>,
        probed: &[ProbeTarget],
        series: &PluginSeries,
    ) -> Self {
        let mut peers: Vec<(Subnets, ShownPeer)> = peers
            .into_iter()
            .map(|(id, lease, fate)| {
                let entries = declared.peers.get(&id).and_then(Option::as_deref).unwrap_or_default();
                (lease.subnets, peer(lease, entries, interface, fate))
            })
            .collect();
        peers.sort_by_key(|(subnets, _)| *subnets);
        let device = |device| ShownDevice::new(device, declared);
        Self {
            plugin: registered.name.clone(),
            publishes: Published {
                backend_type: registered.backend_type.clone(),
                backend_data: registered.backend_data.clone(),
                backend_v6_data: registered.backend_v6_data.clone(),
                mtu: registered.mtu,
            },
            devices: declared.devices.values().map(device).collect(),
            rules: declared
                .rules
                .iter()
                .flatten()
                .map(|rule| policy::ShownRule::new(rule, interface))
                .collect(),
            peers: peers.into_iter().map(|(_, peer)| peer).collect(),
            probes: probe::ShownProbe::all(probed),
            metrics: ShownSeries::all(series),
        }
    }
}

impl Desired {
    /// For how many peers calls failed, in words, and how the first did.
    pub fn failure(&self) -> Option<String> {
        let failures: Vec<&String> = self.peers.iter().filter_map(|peer| peer.failed.as_ref()).collect();
        let first = failures.first()?;
        Some(format!("the plugin failed for {} of {} leases: {first}", failures.len(), self.peers.len()))
    }
}

impl ShownSeries {
    fn all(series: &PluginSeries) -> Vec<Self> {
        let families = series.families().into_iter();
        let all = families.flat_map(|family| {
            let name = family.name;
            family.series.into_iter().map(move |(labels, figure)| Self::new(&name, labels, figure))
        });
        all.collect()
    }

    fn new(name: &str, labels: Vec<(String, String)>, figure: Figure) -> Self {
        let (end, value) = match figure {
            // Whatever the host takes is a number of JSON.
            Figure::Gauge(value) => ("", serde_json::Number::from_f64(value).unwrap_or_else(|| 0.into())),
            Figure::Counter(count) => ("_total", count.into()),
        };
        let name = format!("flanneld_policy_{name}{end}");
        Self { name, kind: figure.kind(), labels: labels.into_iter().collect(), value }
    }

    fn row(&self) -> Vec<String> {
        let labels: Vec<String> =
            self.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        vec![self.name.clone(), list(&labels), self.value.to_string()]
    }
}

fn peer(lease: &Lease, entries: &[Entry], interface: &str, fate: Fate) -> ShownPeer {
    let mut entries: Vec<&Entry> = entries.iter().collect();
    entries.sort_by_key(|entry| entry.key());
    ShownPeer {
        subnets: lease.subnets.to_string(),
        public: texts(lease.attributes.public_addresses()),
        entries: entries.into_iter().filter_map(|entry| ShownEntry::new(entry, interface)).collect(),
        rejected: fate.rejected,
        failed: fate.failed,
    }
}

impl ShownDevice {
    fn new(device: &DeviceSpec, declared: &Transaction) -> Self {
        let (kind, options) = match device {
            DeviceSpec::Vxlan(vxlan) => (
                "vxlan",
                vec![
                    ("vni", vxlan.vni.to_string()),
                    ("port", vxlan.port.to_string()),
                    ("local", vxlan.local.to_string()),
                    ("mac", vxlan.mac.to_string()),
                    ("learning", vxlan.learning.to_string()),
                    ("gbp", vxlan.gbp.to_string()),
                ],
            ),
            DeviceSpec::Ipip(ipip) => ("ipip", vec![("local", ipip.local.to_string())]),
            DeviceSpec::TunnelLink(link) => (link.kind_name(), link.options()),
            DeviceSpec::Wireguard(wireguard) => (
                "wireguard",
                vec![("port", wireguard.port.to_string()), ("public-key", wireguard.keys.public.to_string())],
            ),
            DeviceSpec::Tunnel(tunnel) => {
                let sources = [tunnel.ipv4.map(|v4| v4.to_string()), tunnel.ipv6.map(|v6| v6.to_string())];
                let sources: Vec<String> = sources.into_iter().flatten().collect();
                ("tunnel", vec![("port", tunnel.port.to_string()), ("local", sources.join(","))])
            }
            DeviceSpec::Ipsec(ipsec) => {
                let sources = [ipsec.ipv4.map(|v4| v4.to_string()), ipsec.ipv6.map(|v6| v6.to_string())];
                let sources: Vec<String> = sources.into_iter().flatten().collect();
                let mut options = vec![("cipher", ipsec.cipher.to_string()), ("local", sources.join(","))];
                options.extend(ipsec.udp_port.map(|port| ("udp-port", port.to_string())));
                options.extend(ipsec.rekey.map(|age| ("rekey-seconds", age.as_secs().to_string())));
                ("ipsec", options)
            }
        };
        let name = device.name();
        Self {
            name: name.to_string(),
            kind,
            options: options.into_iter().collect(),
            mtu: device.mtu(),
            addresses: texts(declared.addresses.get(name).into_iter().flatten()),
            networks: texts(declared.networks.get(name).into_iter().flatten()),
        }
    }

    fn row(&self) -> Vec<String> {
        let options = self.options.iter().map(|(name, value)| format!("{name} {value}"));
        let options: Vec<String> = std::iter::once(self.kind.to_owned()).chain(options).collect();
        vec![
            self.name.clone(),
            self.mtu.to_string(),
            list(&self.addresses),
            list(&self.networks),
            options.join(" "),
        ]
    }
}

impl ShownEntry {
    /// `None` for what no plugin declares.
    fn new(entry: &Entry, interface: &str) -> Option<Self> {
        if let Entry::PolicyRoute(route) = entry {
            return Some(Self::PolicyRoute(policy::ShownRoute::new(route, interface)));
        }
        let device = device_name(entry.device()?, interface);
        Some(match entry {
            // None of them is a policy's.
            Entry::Blackhole { .. } | Entry::TrialRoute { .. } | Entry::Rule(_) | Entry::PolicyRoute(_) => {
                return None;
            }
            Entry::Route { destination, via, onlink, .. } => Self::Route {
                destination: destination.to_string(),
                via: via.map(|via| via.to_string()),
                onlink: *onlink,
                device,
            },
            Entry::Neighbour { address, link_address, .. } => {
                Self::Neighbour { address: address.to_string(), mac: link_address.to_string(), device }
            }
            Entry::Fdb { mac, destination, .. } => {
                Self::Fdb { mac: mac.to_string(), destination: destination.to_string(), device }
            }
            Entry::WireguardPeer { peer, .. } => Self::WireguardPeer {
                public_key: peer.key.to_string(),
                endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()),
                allowed: texts(&peer.allowed),
                keepalive: peer.keepalive,
                preshared: peer.preshared.is_some(),
                device,
            },
            Entry::TunnelPeer { destination, endpoint, .. } => Self::TunnelPeer {
                destination: destination.to_string(),
                endpoint: endpoint.to_string(),
                device,
            },
            Entry::IpsecPeer { peer, .. } => Self::IpsecPeer {
                subnet: peer.subnet.to_string(),
                endpoint: peer.endpoint.to_string(),
                public_key: peer.key.to_string(),
                device,
            },
        })
    }

    /// Kind, device, what it is about, and what is said of that.
    fn cells(&self) -> [String; 4] {
        let (kind, device, what, said) = match self {
            Self::PolicyRoute(route) => return route.cells(),
            Self::Route { destination, via, onlink, device } => {
                let via = via.as_ref().map(|via| format!("via {via}")).unwrap_or_default();
                ("route", device, destination, format!("{via}{}", if *onlink { " onlink" } else { "" }))
            }
            Self::Neighbour { address, mac, device } => {
                ("neighbour", device, address, format!("is at {mac}"))
            }
            Self::Fdb { mac, destination, device } => ("fdb", device, mac, format!("is at {destination}")),
            Self::WireguardPeer { public_key, endpoint, allowed, keepalive, preshared, device } => {
                let mut said =
                    endpoint.as_ref().map_or(String::new(), |endpoint| format!("is at {endpoint}, "));
                let _ = write!(said, "has {}", list(allowed));
                if *keepalive > 0 {
                    let _ = write!(said, ", keepalive {keepalive} s");
                }
                if *preshared {
                    said.push_str(", preshared key");
                }
                ("wireguard", device, public_key, said)
            }
            Self::TunnelPeer { destination, endpoint, device } => {
                ("tunnel", device, destination, format!("is at {endpoint}"))
            }
            Self::IpsecPeer { subnet, endpoint, public_key, device } => {
                ("ipsec", device, subnet, format!("is at {endpoint}, public key {public_key}"))
            }
        };
        [kind.to_owned(), device.clone(), what.clone(), said]
    }
}

/// A device's name.
fn device_name(device: &Device, interface: &str) -> String {
    match device {
        Device::External => interface.to_owned(),
        Device::Own(name) => name.to_string(),
        Device::Uplink(name) => name.to_string(),
    }
}

impl ShownPeer {
    fn rows(&self) -> Vec<Vec<String>> {
        let (subnets, public) = (self.subnets.clone(), list(&self.public));
        let instead = match (&self.failed, &self.rejected) {
            (Some(reason), _) => Some(format!("FAILED: {reason}")),
            (None, Some(reason)) => Some(format!("rejected: {reason}")),
            (None, None) => self.entries.is_empty().then(|| "nothing".to_owned()),
        };
        let mut heads = [subnets, public];
        let mut row = |cells: Vec<String>| -> Vec<String> {
            heads.iter_mut().map(std::mem::take).chain(cells).collect()
        };
        let said = instead.map(|text| row(vec![text]));
        let entries = self.entries.iter().map(|entry| row(entry.cells().to_vec()));
        said.into_iter().chain(entries.collect::<Vec<_>>()).collect()
    }
}

impl fmt::Display for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Published { backend_type, backend_data, backend_v6_data, mtu } = &self.publishes;
        let mut published = vec![if backend_type.is_empty() { "no type" } else { backend_type.as_str() }];
        published.extend([backend_data, backend_v6_data].into_iter().flatten().map(|data| data.get()));
        writeln!(f, "{} publishes {}; pods have an MTU of {mtu}\n", self.plugin, published.join(" "))?;
        if self.devices.is_empty() {
            writeln!(f, "no devices\n")?;
        } else {
            let head = ["device", "MTU", "addresses", "networks", "kind"].map(str::to_owned).to_vec();
            let rows: Vec<Vec<String>> =
                std::iter::once(head).chain(self.devices.iter().map(ShownDevice::row)).collect();
            table::write(f, &rows)?;
            writeln!(f)?;
        }
        if !self.rules.is_empty() {
            let head = ["rule", "from", "to", "mark", "in", "table"].map(str::to_owned).to_vec();
            let rows: Vec<Vec<String>> =
                std::iter::once(head).chain(self.rules.iter().map(policy::ShownRule::row)).collect();
            table::write(f, &rows)?;
            writeln!(f)?;
        }
        let head = ["peer", "is at", "entry", "device", "for", ""].map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> =
            std::iter::once(head).chain(self.peers.iter().flat_map(ShownPeer::rows)).collect();
        table::write(f, &rows)?;
        if !self.probes.is_empty() {
            writeln!(f)?;
            let head = ["probe", "device", "bytes", "every", "lost after", "back after"].map(str::to_owned);
            let rows: Vec<Vec<String>> = std::iter::once(head.to_vec())
                .chain(self.probes.iter().map(probe::ShownProbe::row))
                .collect();
            table::write(f, &rows)?;
        }
        if self.metrics.is_empty() {
            return Ok(());
        }
        writeln!(f)?;
        let head = ["metric", "labels", "value"].map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> =
            std::iter::once(head).chain(self.metrics.iter().map(ShownSeries::row)).collect();
        table::write(f, &rows)
    }
}

fn texts<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "-".to_owned() } else { items.join(",") }
}
