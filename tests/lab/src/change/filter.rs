//! A packet filter between two nodes: they do not hear each other by one backend, and go on hearing each other by another.

use anyhow::{Context, Result};

use super::type_of;
use crate::Cluster;

/// The table of its own.
const TABLE: &str = "inet lab_filter";

/// A filter at both ends, by nftables. It is there until [`Filter::open`], or as long as the lab.
#[derive(Debug)]
pub struct Filter([usize; 2]);

impl Filter {
    /// Drops what comes from one node at the other by this backend, and the other way round.
    pub fn between(cluster: &Cluster, one: usize, other: usize, backend: &str) -> Result<Self> {
        for (here, there) in [(one, other), (other, one)] {
            let space = cluster.node(here).namespace();
            space.tool("nft", &format!("add table {TABLE}"))?;
            space.tool(
                "nft",
                &format!("add chain {TABLE} c {{ type filter hook prerouting priority -300 ; }}"),
            )?;
            for packets in packets(cluster, there, backend)? {
                space.tool("nft", &format!("add rule {TABLE} c iifname eth0 {packets} counter drop"))?;
            }
        }
        Ok(Self([one, other]))
    }

    /// Lets packets pass again.
    pub fn open(self, cluster: &Cluster) -> Result<()> {
        for node in self.0 {
            cluster.node(node).namespace().tool("nft", &format!("delete table {TABLE}"))?;
        }
        Ok(())
    }
}

/// What comes from a node by a backend, as nft's conditions: a tunnel's packets, or its pods' own.
fn packets(cluster: &Cluster, from: usize, backend: &str) -> Result<Vec<String>> {
    let node = cluster.node(from);
    let outside = |what: &str| {
        let v6 = node.address_v6().map(|address| format!("ip6 saddr {address} {what}"));
        [format!("ip saddr {} {what}", node.address())].into_iter().chain(v6).collect()
    };
    match &*type_of(backend)? {
        "vxlan" => Ok(outside("udp dport 8472")),
        "udp" => Ok(outside("udp dport 8285")),
        "wireguard" => Ok(outside("udp dport 51820")),
        "ipsec" if backend.contains(r#""UDPEncap":true"#) => Ok(outside("udp dport 4500")),
        "ipsec" => Ok(outside("meta l4proto esp")),
        "host-gw" => {
            let family = |subnet: &str| if subnet.contains(':') { "ip6" } else { "ip" };
            let subnets = cluster.subnets(from)?;
            Ok(subnets.iter().map(|subnet| format!("{} saddr {subnet}", family(subnet))).collect())
        }
        other => None.with_context(|| format!("nobody has said what packets of {other} look like")),
    }
}
