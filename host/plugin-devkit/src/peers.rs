//! Leases of nodes that there are not.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flannel_model::lease::{Attributes, Lease, Subnets};
use serde_json::value::RawValue;

use super::node::Families;

/// The subnets of node `number`: 10.`high`.`low`.0/24 and fc00:0:0:`number`::/64.
pub(crate) fn subnets(number: u16, families: Families) -> Subnets {
    let [high, low] = number.to_be_bytes();
    let v4 = ipnet::Ipv4Net::new_assert([10, high, low, 0].into(), 24);
    let v6 = ipnet::Ipv6Net::new_assert([0xfc00, 0, 0, number, 0, 0, 0, 0].into(), 64);
    Subnets { v4: families.v4().then_some(v4), v6: families.v6().then_some(v6) }
}

/// Where node `number` is: 172.20.`high`.`low` and fd77::1:`number`.
pub(crate) fn addresses(number: u16) -> ([u8; 4], [u16; 8]) {
    let [high, low] = number.to_be_bytes();
    ([172, 20, high, low], [0xfd77, 0, 0, 0, 0, 0, 1, number])
}

/// The lease of node `number`, with what the named backend would publish.
pub fn lease(number: u16, backend_type: &str, ipv6: bool) -> Lease {
    let families = if ipv6 { Families::Dual } else { Families::Ipv4 };
    let (v4, v6) = addresses(number);
    let data = data(number, backend_type);
    let attributes = Attributes {
        public_ip: Some(v4.into()),
        public_ipv6: ipv6.then(|| v6.into()),
        backend_type: backend_type.to_owned(),
        backend_v6_data: data.clone().filter(|_| ipv6),
        backend_data: data,
        generations: Vec::new(),
    };
    Lease { subnets: subnets(number, families), attributes, expires: None }
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
