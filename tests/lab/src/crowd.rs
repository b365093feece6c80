//! Nodes that there are not, and which answer all the same: their leases in the store, and one namespace with all of their addresses.

use anyhow::{Context, Result};

use crate::store::StoredLease;
use crate::{Cluster, Namespace};

/// The network config of a cluster with many leases that somebody invents: their subnets are below 10.255.0.0, the nodes' own from there on.
pub const CONFIG: &str =
    r#"{"Network":"10.0.0.0/8","SubnetLen":24,"SubnetMin":"10.255.0.0","Backend":{"Type":"vxlan"}}"#;
/// Where it is on the lab's switch.
const OCTET: u8 = 240;

/// How far each of them is in a change from vxlan to host-gw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has vxlan.
    Before,
    /// It serves both, and reaches nobody by host-gw yet.
    Begun,
    /// It reaches everybody by host-gw, which is its main one.
    Moved,
    /// It has host-gw.
    After,
}

/// A crowd of nodes. What they answer is gone when this is dropped.
#[derive(Debug)]
pub struct Crowd {
    namespace: Namespace,
    size: u32,
}

impl Crowd {
    /// So many, at most 30,000, that every node reaches at once, with nothing to be asked about their Ethernet addresses: the kernel's table
    /// for those is one for all namespaces.
    pub fn join(cluster: &Cluster, size: u32) -> Result<Self> {
        let namespace = cluster.lab().add_server("crowd", OCTET)?;
        namespace.ip_batch(["route add local 10.0.0.0/9 dev lo", "route add local 172.20.0.0/16 dev lo"])?;
        let link = namespace.ip_json("link show eth0")?;
        let mac = link[0]["address"].as_str().context("the Ethernet address of the crowd")?;
        for node in cluster.lab().nodes() {
            let neighbours = (0..size).map(|number| {
                format!("neigh add {} lladdr {mac} dev eth0 nud permanent", Member(number).public())
            });
            let routes = ["link set eth0 up", "route add 172.20.0.0/16 dev eth0"].map(str::to_owned);
            node.namespace().ip_batch(routes.into_iter().chain(neighbours))?;
        }
        Ok(Self { namespace, size })
    }

    /// Has the crowd's answers reach the nodes, which have subnets now.
    pub fn answer(&self, cluster: &Cluster) -> Result<()> {
        for (index, node) in cluster.lab().nodes().iter().enumerate() {
            for subnet in cluster.subnets(index)? {
                self.namespace.ip(&format!("route replace {subnet} via {} dev eth0", node.address()))?;
            }
        }
        Ok(())
    }

    /// All of them are so far.
    pub fn publish(&self, cluster: &Cluster, phase: Phase) -> Result<()> {
        (0..self.size).try_for_each(|number| cluster.store().put(&Member(number).lease(phase)))
    }
}

/// One of them, by its number from 0 on.
struct Member(u32);

impl Member {
    fn octets(&self) -> (u8, u8) {
        let [_, _, high, low] = (self.0 + 1).to_be_bytes();
        (high, low)
    }

    fn public(&self) -> String {
        let (high, low) = self.octets();
        format!("172.20.{high}.{low}")
    }

    fn lease(&self, phase: Phase) -> StoredLease {
        let (high, low) = self.octets();
        let vxlan = format!(
            r#""BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"02:00:00:00:{high:02x}:{low:02x}"}}"#
        );
        let host_gw = r#""BackendType":"host-gw""#;
        let of = |backend: &str, rest: String| format!(r#"{{"Backend":{{"Type":"{backend}"}},{rest}}}"#);
        let main = |complete| format!(r#""Main":true,"Complete":{complete}"#);
        let other = |data: &str| format!(r#""Main":false,"Complete":false,{data}"#);
        let value = match phase {
            Phase::Before => vxlan,
            Phase::Begun => format!(
                r#"{vxlan},"Generations":[{},{}]"#,
                of("vxlan", main(false)),
                of("host-gw", other(host_gw))
            ),
            Phase::Moved => {
                format!(
                    r#"{host_gw},"Generations":[{},{}]"#,
                    of("vxlan", other(&vxlan)),
                    of("host-gw", main(true))
                )
            }
            Phase::After => host_gw.to_owned(),
        };
        let value = format!(r#"{{"PublicIP":"{}","PublicIPv6":null,{value}}}"#, self.public());
        StoredLease { key: format!("10.{high}.{low}.0-24"), value }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn leases_in_each_phase_are_what_nodes_publish() {
        let lease = |phase| -> Value { serde_json::from_str(&Member(255).lease(phase).value).expect("JSON") };
        let before = lease(Phase::Before);
        assert_eq!(before["PublicIP"], "172.20.1.0");
        assert_eq!(before["BackendData"]["VtepMAC"], "02:00:00:00:01:00");
        let begun = lease(Phase::Begun);
        assert_eq!(begun["BackendType"], "vxlan");
        assert_eq!(begun["Generations"][1]["Backend"]["Type"], "host-gw");
        let moved = lease(Phase::Moved);
        assert_eq!(moved["Generations"][0]["BackendData"], before["BackendData"]);
        assert_eq!(moved["Generations"][1]["Complete"], true);
        assert_eq!(lease(Phase::After)["BackendType"], "host-gw");
    }
}
