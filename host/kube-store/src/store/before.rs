//! What there is of this node when its daemon starts: what its operator wants, and what a run before has said.

use flannel_kube_api::Node;
use flannel_model::lease::{Attributes, Lease, Subnets};

use crate::annotated::{Annotated, Hints, Managed};
use crate::cidrs::{CidrError, Cidrs};
use crate::families::Families;
use crate::prefix::Keys;

/// Of both families, whether the cluster has them or not.
const BOTH: Families = Families { ipv4: true, ipv6: true };

/// What there is.
#[derive(Clone, Debug, PartialEq)]
pub struct Before {
    /// What this node is called.
    pub name: String,
    /// What its operator wants.
    pub hints: Hints,
    /// The subnets that Kubernetes has given it; none: it has none yet.
    pub assigned: Option<Subnets>,
    /// Its lease, as its daemon published it last. The address may be an operator's in place of the node's own.
    pub lease: Option<Lease>,
}

impl Before {
    /// Why it has no subnet, if it has none.
    pub fn not_assigned(&self) -> String {
        CidrError::NotAssigned { node: self.name.clone() }.to_string()
    }

    /// Reads the node.
    pub(super) fn read(node: &Node, keys: &Keys) -> Self {
        let assigned = Cidrs::assigned(node);
        let assigned = (!assigned.is_empty()).then(|| assigned.of(BOTH));
        let lease = assigned.filter(|_| Managed::read(node, keys) == Managed::Yes).and_then(|subnets| {
            let Annotated { backend_type, ipv4, ipv6, generations } = Annotated::read(node, keys);
            // What cannot be read was not written by a daemon of flannel's.
            let (v4, v6) = (ipv4.ok()?, ipv6.ok()?);
            let attributes = Attributes {
                public_ip: v4.as_ref().map(|v4| v4.address),
                public_ipv6: v6.as_ref().map(|v6| v6.address),
                backend_type: backend_type.ok()?,
                backend_data: v4.and_then(|v4| v4.data),
                backend_v6_data: v6.and_then(|v6| v6.data),
                generations,
            };
            Some(Lease { subnets, attributes, expires: None })
        });
        Self { name: node.name.clone(), hints: Hints::read(node, keys), assigned, lease }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(cidrs: &[&str], annotations: &[(&str, &str)]) -> Node {
        let annotations = annotations.iter().map(|(key, value)| (format!("f.io/{key}"), (*value).to_owned()));
        Node {
            name: "n1".to_owned(),
            pod_cidrs: cidrs.iter().map(ToString::to_string).collect(),
            annotations: annotations.collect(),
            ..Node::default()
        }
    }

    fn before(cidrs: &[&str], annotations: &[(&str, &str)]) -> Before {
        Before::read(&node(cidrs, annotations), &Keys::new("f.io").expect("a prefix"))
    }

    #[test]
    fn what_a_run_before_has_published_is_the_nodes_lease() {
        let said = [
            ("kube-subnet-manager", "true"),
            ("backend-type", "vxlan"),
            ("backend-data", "{\"VNI\":1,\"VtepMAC\":\"02:00:00:00:00:01\"}"),
            ("public-ip", "192.168.77.11"),
        ];
        let lease = before(&["10.244.1.0/24"], &said).lease.expect("a lease");
        assert_eq!(lease.subnets.to_string(), "10.244.1.0/24");
        assert_eq!(lease.attributes.backend_type, "vxlan");
        assert_eq!(lease.attributes.public_ip, "192.168.77.11".parse().ok());
        assert!(lease.attributes.backend_data.is_some() && lease.expires.is_none());
    }

    #[test]
    fn without_a_subnet_or_without_what_can_be_read_there_is_no_lease() {
        let said = [("kube-subnet-manager", "true"), ("public-ip", "192.168.77.11")];
        assert_eq!(before(&[], &said).lease, None);
        assert_eq!(before(&[], &said).assigned, None);
        assert_eq!(before(&["10.244.1.0/24"], &said[1..]).lease, None, "nobody manages it");
        let unreadable = [("kube-subnet-manager", "true"), ("public-ip", "x")];
        assert_eq!(before(&["10.244.1.0/24"], &unreadable).lease, None);
    }

    #[test]
    fn what_the_operator_wants_is_there_without_a_subnet() {
        let read = before(&[], &[("node-public-ip", "192.168.77.12")]);
        assert_eq!((read.name.as_str(), read.hints.public_ip), ("n1", "192.168.77.12".parse().ok()));
    }
}
