//! Why a peer that is believed is not reached, where nobody calls that an error: plugins pass over leases of other backends without a word,
//! as upstream does, and a row of zeros in `flanneld status` would leave the operator to guess.

use flannel_model::lease::{Attributes, Lease};
use flannel_model::lease_key;
use serde_json::value::RawValue;

/// The backend whose leases need not name it.
const UDP: &str = "udp";
/// Backends that reach the subnet of a family at the address of that family only.
const BY_FAMILY: [&str; 3] = ["vxlan", "host-gw", UDP];

/// In words. `own`: what this node publishes; `peer`: what of a lease is served here; `entries`: how many are declared for it.
pub(super) fn reasons(own: &Attributes, peer: &Lease, entries: usize) -> Vec<String> {
    let (ours, its) = (backend(own), backend(&peer.attributes));
    if its != ours {
        // A plugin may serve what it knows of others.
        let is_served = entries > 0;
        let named = if peer.attributes.backend_type.is_empty() { " (its lease names none)" } else { "" };
        let reason = format!("its backend is {its}{named}, this node's is {ours}: not served");
        return if is_served { Vec::new() } else { vec![reason] };
    }
    let mut reasons = Vec::new();
    if ours == "vxlan" {
        for (name, own, its) in [
            ("BackendData", &own.backend_data, &peer.attributes.backend_data),
            ("BackendV6Data", &own.backend_v6_data, &peer.attributes.backend_v6_data),
        ] {
            if let (Some(own), Some(its)) = (vni(own.as_deref()), vni(its.as_deref()))
                && own != its
            {
                reasons.push(format!(
                    "its VNI is {its} ({name}), this node's is {own}: packets between the two get lost"
                ));
            }
        }
    }
    if entries == 0 || BY_FAMILY.contains(&ours) {
        let v4 = (peer.subnets.v4.is_some(), peer.attributes.public_ip.is_some(), "IPv4");
        let v6 = (peer.subnets.v6.is_some(), peer.attributes.public_ipv6.is_some(), "IPv6");
        for (_, _, family) in [v4, v6].into_iter().filter(|(subnet, address, _)| *subnet && !address) {
            reasons.push(format!("it has published no {family} address: its {family} subnet is not served"));
        }
    }
    reasons
}

fn backend(attributes: &Attributes) -> &str {
    if attributes.backend_type.is_empty() { UDP } else { &attributes.backend_type }
}

fn vni(data: Option<&RawValue>) -> Option<u64> {
    lease_key::member(data?, "VNI")?.as_u64()
}

#[cfg(test)]
mod tests {
    use flannel_model::lease::Subnets;

    use super::*;

    fn raw(text: &str) -> Option<Box<RawValue>> {
        (!text.is_empty()).then(|| RawValue::from_string(text.to_owned()).expect("JSON"))
    }

    fn of(backend: &str, data: &str) -> Attributes {
        Attributes {
            public_ip: Some([192, 168, 0, 2].into()),
            public_ipv6: None,
            backend_type: backend.to_owned(),
            backend_data: raw(data),
            backend_v6_data: None,
            generations: Vec::new(),
        }
    }

    fn lease(attributes: Attributes) -> Lease {
        let subnets = Subnets { v4: "10.5.2.0/24".parse().ok(), v6: None };
        Lease { subnets, attributes, expires: None }
    }

    fn said(own: &Attributes, peer: Attributes, entries: usize) -> String {
        reasons(own, &lease(peer), entries).join("; ")
    }

    #[test]
    fn a_peer_of_another_backend_says_so() {
        let vxlan = of("vxlan", r#"{"VNI":1}"#);
        assert_eq!(
            said(&vxlan, of("host-gw", ""), 0),
            "its backend is host-gw, this node's is vxlan: not served"
        );
        assert_eq!(
            said(&vxlan, of("", ""), 0),
            "its backend is udp (its lease names none), this node's is vxlan: not served"
        );
        assert_eq!(said(&of("", ""), of("udp", ""), 0), "");
        assert_eq!(said(&of("mine", ""), of("vxlan", r#"{"VNI":1}"#), 3), "", "a plugin may serve others");
    }

    #[test]
    fn a_peer_with_another_vni_says_so() {
        let (own, same, other) = (r#"{"VNI":1}"#, r#"{"vni":1,"VtepMAC":"x"}"#, r#"{"VNI":2}"#);
        let own = of("vxlan", own);
        assert_eq!(said(&own, of("vxlan", same), 3), "");
        let expected = "its VNI is 2 (BackendData), this node's is 1: packets between the two get lost";
        assert_eq!(said(&own, of("vxlan", other), 3), expected);
        assert_eq!(said(&own, of("vxlan", "[]"), 0), "", "the plugin has refused it");
        assert_eq!(said(&of("mine", r#"{"VNI":1}"#), of("mine", other), 3), "", "what it means is not known");
    }

    #[test]
    fn a_peer_without_an_address_of_a_family_says_so() {
        let dual = |mut lease: Lease| {
            lease.subnets.v6 = "fc00:5:0:2::/64".parse().ok();
            lease
        };
        let vxlan = of("vxlan", r#"{"VNI":1}"#);
        let expected = "it has published no IPv6 address: its IPv6 subnet is not served";
        assert_eq!(reasons(&vxlan, &dual(lease(vxlan.clone())), 3), [expected]);
        let wireguard = of("wireguard", "");
        assert!(
            reasons(&wireguard, &dual(lease(wireguard.clone())), 2).is_empty(),
            "one tunnel carries both"
        );
    }
}
