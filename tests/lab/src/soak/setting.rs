//! Where the faults happen: backend, store, families, firewall. What the command line leaves open the seed decides.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, ensure};

use super::SoakOptions;
use crate::random::Random;
use crate::{Backend, Firewall};

/// Where leases are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// In a directory.
    File,
    /// In an etcd of one member.
    Etcd,
}

impl FromStr for StoreKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "file" => Ok(Self::File),
            "etcd" => Ok(Self::Etcd),
            _ => Err(format!("{text:?} is neither file nor etcd")),
        }
    }
}

/// The backends among which the seed chooses; vxlan has the most that can be damaged.
const BACKENDS: [Backend; 7] = [
    Backend::Vxlan,
    Backend::Vxlan,
    Backend::Vxlan,
    Backend::HostGw,
    Backend::Udp,
    Backend::Wireguard,
    Backend::Ipip,
];

/// The backends that are changed between.
const CHANGING: [Backend; 3] = [Backend::Vxlan, Backend::HostGw, Backend::Udp];

/// Where the faults happen.
#[derive(Clone, Debug)]
pub struct Setting {
    /// How many nodes.
    pub nodes: usize,
    /// The backend; in the midst of a change, the one that it is changed to.
    pub backend: Backend,
    /// The backends between which it is changed; empty: it stays.
    pub changing: Vec<Backend>,
    /// Where leases are.
    pub store: StoreKind,
    /// IPv6 beside IPv4.
    pub ipv6: bool,
    /// With masquerading, in this firewall; none: this machine has none.
    pub firewall: Option<Firewall>,
    /// Only faults whose names contain one of these words; empty: all.
    pub only: Vec<String>,
}

impl Setting {
    /// Chooses what is not given among what this machine can have.
    pub fn choose(options: &SoakOptions, random: &mut Random) -> Result<Self> {
        let mut backends = Vec::new();
        for backend in if options.change { &CHANGING[..] } else { &BACKENDS } {
            if backend.missing()?.is_none() {
                backends.push(*backend);
            }
        }
        let mut firewalls = Vec::new();
        for firewall in [Firewall::Iptables, Firewall::Nftables] {
            if firewall.missing()?.is_none() {
                firewalls.push(firewall);
            }
        }
        // Drawn also where it is given, so that the rest is the same with the same seed.
        let backend = *random.one_of(&backends);
        let store = *random.one_of(&[StoreKind::File, StoreKind::Etcd]);
        let ipv6 = random.below(2) == 0;
        let firewall = if firewalls.is_empty() { None } else { Some(*random.one_of(&firewalls)) };
        let backend = options.backend.unwrap_or(backend);
        if let Some(reason) = backend.missing()? {
            anyhow::bail!("{backend} cannot be had here: {reason}");
        }
        ensure!(backend.connects() && !backend.is_cloud(), "{backend}: there are no faults for it here");
        let changing = if options.change { backends } else { Vec::new() };
        ensure!(changing.len() != 1, "{backend} is the only backend that this machine can have");
        let ipv6 = options.ipv6.unwrap_or(ipv6 && backend.has_ipv6());
        ensure!(!ipv6 || backend.has_ipv6(), "{backend} has IPv4 only");
        ensure!(options.nodes >= 3, "a node has to have several peers: --nodes 3 or more");
        Ok(Self {
            nodes: options.nodes,
            backend,
            changing,
            store: options.store.unwrap_or(store),
            ipv6,
            firewall,
            only: options.only.clone(),
        })
    }

    /// The network config.
    pub fn config(&self) -> String {
        let config = self.backend.config(self.ipv6);
        let nftables = self.firewall == Some(Firewall::Nftables);
        config.replacen('{', &format!(r#"{{"EnableNFTables":{nftables},"#), 1)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let families = if self.ipv6 { "IPv4 and IPv6" } else { "IPv4" };
        let store = match self.store {
            StoreKind::File => "a directory",
            StoreKind::Etcd => "etcd",
        };
        let firewall = match self.firewall {
            Some(Firewall::Iptables) => "iptables",
            Some(Firewall::Nftables) => "nftables",
            None => "no firewall",
        };
        let changing = if self.changing.is_empty() { "" } else { ", whose backend is changed over and over" };
        let Self { nodes, backend, .. } = self;
        write!(f, "{nodes} nodes, {backend}, {families}, leases in {store}, {firewall}{changing}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_says_which_firewall() {
        let setting = Setting {
            nodes: 5,
            backend: Backend::Vxlan,
            changing: Vec::new(),
            store: StoreKind::File,
            ipv6: false,
            firewall: Some(Firewall::Nftables),
            only: Vec::new(),
        };
        let config: serde_json::Value = serde_json::from_str(&setting.config()).expect("JSON");
        assert_eq!(config["EnableNFTables"], true);
        assert_eq!(config["Backend"]["Type"], "vxlan");
    }

    #[test]
    fn a_store_is_one_of_two() {
        assert_eq!("etcd".parse(), Ok(StoreKind::Etcd));
        assert!("redis".parse::<StoreKind>().is_err());
    }
}
