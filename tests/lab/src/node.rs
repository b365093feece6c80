//! A node: a host of the cluster, with an external interface on the switch, and its own files.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::Namespace;
use crate::bridge::Switch;
use crate::daemon::{Daemon, DaemonOptions};
use crate::lab::Underlay;
use crate::pod::Pod;
use crate::subnet_env::SubnetEnv;
use crate::veth::Bridge;
use crate::wait;

/// The bridge that a node's pods are on.
const POD_BRIDGE: &str = "cni0";
/// Its own address, which stays whatever pods come and go.
const POD_GATEWAY: &str = "02:00:00:00:05:01";
/// Below a daemon's directory.
const SUBNET_FILE: &str = "run/subnet.env";

/// In which network a node's external interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the same network as the other nodes: 192.168.77.0/24, fd77::/64.
    Near,
    /// Behind the router: 192.168.78.0/24, fd78::/64.
    Far,
}

impl Place {
    fn third_octet(self) -> u8 {
        match self {
            Self::Near => 77,
            Self::Far => 78,
        }
    }

    /// The router's address there.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, self.third_octet(), 1)
    }

    /// The router's IPv6 address there.
    pub fn gateway_v6(self) -> Ipv6Addr {
        self.address_v6(1)
    }

    fn address_v6(self, last: u16) -> Ipv6Addr {
        let first = match self {
            Self::Near => 0xfd77,
            Self::Far => 0xfd78,
        };
        Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last)
    }
}

/// A node.
#[derive(Debug)]
pub struct Node {
    name: String,
    namespace: Namespace,
    directory: PathBuf,
    address: Ipv4Addr,
    address_v6: Option<Ipv6Addr>,
    pods: AtomicU32,
}

impl Node {
    /// Makes node `number` (the first is 1) and plugs it in.
    pub(crate) fn new(
        number: usize,
        place: Place,
        switch: &Switch,
        underlay: Underlay,
        files: &Path,
    ) -> Result<Self> {
        let name = format!("node{number}");
        let host = u8::try_from(10 + number).context("a lab has no room for so many nodes")?;
        let address = Ipv4Addr::new(192, 168, place.third_octet(), host);
        // `fd77::11` beside `192.168.77.11`: the same digits, which are easier on the eye.
        let digits = u16::from_str_radix(&host.to_string(), 16).context("the digits of a number")?;
        let address_v6 = underlay.ipv6.then(|| place.address_v6(digits));
        let directory = files.join(&name);
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;

        let namespace = Namespace::new(&name)?;
        prepare(&namespace)?;
        switch.plug(&namespace, &name)?;
        let mut commands = vec![
            format!("address add {address}/24 dev eth0"),
            format!("route add default via {}", place.gateway()),
        ];
        if let Some(address) = address_v6 {
            commands.push(format!("address add {address}/64 dev eth0 nodad"));
            commands.push(format!("route add default via {} dev eth0", place.gateway_v6()));
        }
        namespace.ip_batch(commands)?;
        Ok(Self { name, namespace, directory, address, address_v6, pods: AtomicU32::new(0) })
    }

    /// Its name: `node1`, …; the switch's port to it is called so, too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The address of its external interface.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The IPv6 address of its external interface.
    pub fn address_v6(&self) -> Option<Ipv6Addr> {
        self.address_v6
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Has the next daemon begin with the network config's backend, and not with the one that this node had.
    pub fn forget_backend(&self) -> Result<()> {
        let record = self.directory.join("state/backend");
        std::fs::remove_file(&record).with_context(|| record.display().to_string())
    }

    /// Its subnet file.
    pub fn subnet_file(&self) -> PathBuf {
        self.directory.join(SUBNET_FILE)
    }

    /// The socket on which its daemon answers.
    pub fn control_socket(&self) -> PathBuf {
        self.directory.join("run/flanneld.sock")
    }

    /// What its subnet file says, if it is there.
    pub fn subnet_env(&self) -> Result<Option<SubnetEnv>> {
        SubnetEnv::read(&self.subnet_file())
    }

    /// `ip …` on the node.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        self.namespace.ip(arguments)
    }

    /// `bridge …` on the node.
    pub fn bridge(&self, arguments: &str) -> Result<String> {
        self.namespace.bridge(arguments)
    }

    /// Starts the daemon.
    pub fn start(&self, options: &DaemonOptions) -> Result<Daemon> {
        Daemon::start(self, options)
    }

    /// Makes a pod, as a container runtime would: waits for the subnet file, and takes addresses and MTU from it.
    pub fn pod(&self) -> Result<Pod> {
        let (subnet, _) = wait::until(&format!("{}: the subnet file", self.name), || self.subnet_env())?;
        self.pod_in(&subnet)
    }

    /// Makes a pod in a subnet that somebody else than the subnet file says.
    pub fn pod_in(&self, subnet: &SubnetEnv) -> Result<Pod> {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            self.make_pod_bridge(POD_BRIDGE, subnet)?;
        }
        let bridge = Bridge { namespace: &self.namespace, name: POD_BRIDGE, mtu: subnet.mtu };
        Pod::wire(&self.name, number, bridge, subnet)
    }

    /// Makes a pod in the subnet of another daemon of the node's, on a bridge of its own, when that daemon has written its subnet file.
    pub fn pod_of(&self, options: &DaemonOptions, bridge: &str) -> Result<Pod> {
        let file = options.directory(self).join(SUBNET_FILE);
        let what = format!("{}: the subnet file {}", self.name, file.display());
        let (subnet, _) = wait::until(&what, || SubnetEnv::read(&file))?;
        self.make_pod_bridge(bridge, &subnet)?;
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        let bridge = Bridge { namespace: &self.namespace, name: bridge, mtu: subnet.mtu };
        Pod::wire(&self.name, number, bridge, &subnet)
    }

    /// Takes all pods' network away, and their bridge, so that the next pod is the first one again.
    pub fn remove_pods(&self) -> Result<()> {
        let pods = self.pods.swap(0, Ordering::Relaxed);
        let devices = (0..pods).map(|number| format!("link delete pod{number}"));
        self.namespace.ip_batch(devices.chain([format!("link delete {POD_BRIDGE}")]))
    }

    fn make_pod_bridge(&self, name: &str, subnet: &SubnetEnv) -> Result<()> {
        let mtu = subnet.mtu;
        let mut commands = vec![format!(
            "link add name {name} address {POD_GATEWAY} mtu {mtu} type bridge mcast_snooping 0"
        )];
        commands.extend(subnet.subnet.map(|gateway| format!("address add {gateway} dev {name}")));
        commands.extend(subnet.subnet_v6.map(|gateway| format!("address add {gateway} dev {name} nodad")));
        self.namespace.ip_batch(commands)
    }
}

/// Settings of a namespace that forwards, made before any interface is there, since interfaces inherit them.
///
/// The first IPv4 rule that anybody makes in a namespace splits a table that `local` and `main` share until then, and for a microsecond, or as long
/// as who makes it is not run, the kernel does not find the node's own addresses (`fib_unmerge`): a tunnel's packet that comes then is lost.
/// Nodes that live have rules, or that behind them.
fn prepare(namespace: &Namespace) -> Result<()> {
    namespace
        .ip_batch(["rule add fwmark 1 lookup 1".to_owned(), "rule delete fwmark 1 lookup 1".to_owned()])?;
    namespace.sysctls(&[
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        // Whatever the machine's own settings are, which a namespace inherits.
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        // Addresses are usable at once.
        ("ipv6/conf/default/accept_dad", "0"),
    ])
}
