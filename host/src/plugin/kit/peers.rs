//! Leases of nodes that there are not.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;

use crate::lease::model::{Attributes, Lease, Subnets};

/// The lease of node `number`, up to 65,535: 10.`high`.`low`.0/24 at 172.20.`high`.`low`, and in dual stack also
/// fc00:0:0:`number`::/64 at fd77::`number`, with what the named backend would publish.
pub fn lease(number: u16, backend_type: &str, ipv6: bool) -> Lease {
    let [high, low] = number.to_be_bytes();
    let v6 = |groups: [u16; 8]| ipv6.then(|| groups.into());
    let data = data(number, backend_type);
    Lease {
        subnets: Subnets {
            v4: Some(ipnet::Ipv4Net::new_assert([10, high, low, 0].into(), 24)),
            v6: v6([0xfc00, 0, 0, number, 0, 0, 0, 0]).map(|net| ipnet::Ipv6Net::new_assert(net, 64)),
        },
        attributes: Attributes {
            public_ip: Some([172, 20, high, low].into()),
            public_ipv6: v6([0xfd77, 0, 0, 0, 0, 0, 0, number]),
            backend_type: backend_type.to_owned(),
            backend_v6_data: data.clone().filter(|_| ipv6),
            backend_data: data,
        },
        expires: None,
    }
}

fn data(number: u16, backend_type: &str) -> Option<Box<RawValue>> {
    let [high, low] = number.to_be_bytes();
    let text = match backend_type {
        "vxlan" => format!(r#"{{"VNI":1,"VtepMAC":"02:00:00:00:{high:02x}:{low:02x}"}}"#),
        "wireguard" => {
            let mut key = [7; 32];
            key[..2].copy_from_slice(&number.to_be_bytes());
            format!(r#"{{"PublicKey":"{}","Port":51820}}"#, BASE64_STANDARD.encode(key))
        }
        _ => return None,
    };
    RawValue::from_string(text).ok()
}
