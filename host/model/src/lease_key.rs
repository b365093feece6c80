//! What a lease's data says that only one node of a cluster can have: VTEPs' Ethernet addresses, and WireGuard keys.

use std::fmt;

use flannel_base::Family;
use serde_json::Value;
use serde_json::value::RawValue;

use super::entry::Mac;
use super::lease::Attributes;
use super::network_config;
use super::wireguard::PublicKey;

/// Something by which a node is known to all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LeaseKey {
    /// The Ethernet address of the VTEP for IPv4, or of the one for IPv6: each device has a forwarding database of its own.
    VtepMac {
        /// Which of the two.
        family: Family,
        /// The address.
        mac: Mac,
    },
    /// The public key.
    Wireguard(PublicKey),
}

impl fmt::Display for LeaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VtepMac { mac, .. } => write!(f, "VTEP MAC {mac}"),
            Self::Wireguard(key) => write!(f, "WireGuard key {key}"),
        }
    }
}

impl LeaseKey {
    /// All that a lease says. What cannot be read says nothing.
    pub fn of(attributes: &Attributes) -> Box<[Self]> {
        let data = [(Family::Ipv4, &attributes.backend_data), (Family::Ipv6, &attributes.backend_v6_data)];
        let data = data.into_iter().filter_map(|(family, data)| Some((family, data.as_deref()?)));
        let mut keys = Vec::new();
        for (family, data) in data {
            let key = match attributes.backend_type.as_str() {
                "vxlan" => vtep_mac(data).map(|mac| Self::VtepMac { family, mac }),
                "wireguard" => wireguard_key(data).map(Self::Wireguard),
                _ => None,
            };
            keys.extend(key.filter(|key| !keys.contains(key)));
        }
        // As many as there are, which is one as a rule: each peer's are kept.
        keys.into()
    }
}

/// The Ethernet address that upstream and we publish for a VTEP.
pub fn vtep_mac(data: &RawValue) -> Option<Mac> {
    text(data, "VtepMAC")?.parse().ok()
}

/// The key that upstream and we publish for WireGuard.
pub fn wireguard_key(data: &RawValue) -> Option<PublicKey> {
    text(data, "PublicKey")?.parse().ok()
}

/// A member of a lease's data as Go and plugins read it: its name in any case, and of several the last.
pub fn member(data: &RawValue, name: &str) -> Option<Value> {
    let members = network_config::fields(data.get()).ok()?;
    let (_, value) = members.iter().rev().find(|(member, _)| member.eq_ignore_ascii_case(name))?;
    serde_json::from_str(value.get()).ok()
}

fn text(data: &RawValue, name: &str) -> Option<String> {
    match member(data, name)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> Option<Box<RawValue>> {
        RawValue::from_string(text.to_owned()).ok()
    }

    #[test]
    fn a_vteps_mac_is_found_in_the_published_data() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let attributes = Attributes {
            backend_type: "vxlan".to_owned(),
            backend_data: data(r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}"#),
            backend_v6_data: data(r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}"#),
            ..Attributes::default()
        };
        let both = [
            LeaseKey::VtepMac { family: Family::Ipv4, mac },
            LeaseKey::VtepMac { family: Family::Ipv6, mac },
        ];
        assert_eq!(*LeaseKey::of(&attributes), both);
        let foreign = Attributes { backend_type: "host-gw".to_owned(), ..attributes };
        assert_eq!(*LeaseKey::of(&foreign), []);
    }

    #[test]
    fn a_wireguard_key_is_found_in_the_published_data() {
        let key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
        let text = format!(r#"{{"PublicKey":"{key}","Port":51820}}"#);
        let attributes = Attributes {
            backend_type: "wireguard".to_owned(),
            backend_data: data(&text),
            backend_v6_data: data(&text),
            ..Attributes::default()
        };
        let [found] = LeaseKey::of(&attributes)[..] else { panic!("one key for both families") };
        assert_eq!(found.to_string(), format!("WireGuard key {key}"));
    }

    #[test]
    fn a_key_is_found_however_it_is_written() {
        let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
        for text in [
            r#"{"vtepmac":"02:00:00:00:00:01"}"#,
            r#"{"VTEPMAC":"02-00-00-00-00-01"}"#,
            r#"{"VtepMAC":"0200.0000.0001"}"#,
            r#"{"VtepMAC":"02:00:00:00:00:09","vtepMac":"02:00:00:00:00:01"}"#,
            r#"{"vtepMac":"02:00:00:00:00:09","VtepMAC":"02:00:00:00:00:01"}"#,
        ] {
            assert_eq!(vtep_mac(&data(text).expect("JSON")), mac, "{text}");
        }
    }

    #[test]
    fn data_without_a_key_has_none() {
        for text in [r#"{"PublicKey":"x"}"#, r#""text""#, "null", r#"{"VtepMAC":1}"#, "{}"] {
            let raw = data(text).expect("JSON");
            assert_eq!((vtep_mac(&raw), wireguard_key(&raw)), (None, None), "{text}");
        }
    }
}
