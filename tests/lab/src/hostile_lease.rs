//! Leases that nobody should believe: the tests write them, and so does the soak.

use crate::Backend;
use crate::random::Random;
use crate::store::StoredLease;

/// Subnets that are not a peer's, as lease keys; `OWN` stands for the first node's IPv4 subnet's first three numbers.
pub const SUBNETS: [&str; 11] = [
    "192.168.77.0-24",
    "192.168.77.128-25",
    "169.254.169.254-31",
    "64.0.0.0-2",
    "0.0.0.0-1",
    "10.0.0.0-8",
    "OWN.0-24&fc00:5::-64",
    "OWN.128-25",
    "10.5.250.9-24",
    "10.5.250.0-24&fd77::-64",
    "172.16.5.0-24",
];
/// Addresses that are no peer's.
pub const ADDRESSES: [&str; 9] = [
    "0.0.0.0",
    "127.0.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "192.168.77.255",
    "192.168.77.11",
    "10.5.250.7",
    "10.5.77.1",
];

/// What stands for `OWN` in [`SUBNETS`]: the first three numbers of a node's IPv4 subnet. Empty where it has none.
pub fn own_prefix(subnets: &[String]) -> String {
    let own = subnets.first().and_then(|subnet| subnet.rsplit_once('.')).map(|(prefix, _)| prefix);
    own.unwrap_or_default().to_owned()
}

/// A lease with this key at this address, with all else as it should be.
pub fn lease(key: &str, address: &str, backend: Backend) -> StoredLease {
    let data = match backend {
        Backend::Vxlan => {
            r#","BackendData":{"VNI":1,"VtepMAC":"9e:00:00:00:00:42"},"BackendV6Data":{"VNI":1,"VtepMAC":"9e:00:00:00:00:43"}"#
        }
        _ => "",
    };
    let v6 = if key.contains('&') { r#""fd77::42""# } else { "null" };
    let value =
        format!(r#"{{"PublicIP":"{address}","PublicIPv6":{v6},"BackendType":"{}"{data}}}"#, backend.name());
    StoredLease { key: key.to_owned(), value }
}

/// What somebody without scruples might write.
pub fn any(random: &mut Random, own: &str) -> StoredLease {
    let mut any = |of: &[&str]| (*random.one_of(of)).to_owned();
    let others =
        ["10.5.110.0-25", "10.5.111.0-24&fc00:5:0:1::-64", "10.5.0.0-17", "10.5.222.0-24", "10.5.223.0-24"];
    let key = any(&[&SUBNETS[..], &others].concat()).replace("OWN", own);
    let others = ["192.168.78.100", "192.168.77.12", "192.168.78.250"];
    let address = any(&[&ADDRESSES[..], &others].concat());
    let mac =
        any(&["9e:00:00:00:00:64", "9e:00:00:00:00:65", "9e:00:00:00:00:fe", "ff:ff:ff:ff:ff:ff", "no MAC"]);
    let backend = any(&["vxlan", "vxlan", "vxlan", "host-gw", "wireguard"]);
    let data = format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#);
    let value = match random.below(8) {
        0 => "{".to_owned(),
        1 => format!("[\"{}\"]", "x".repeat(100_000)),
        _ => format!(
            r#"{{"PublicIP":"{address}","PublicIPv6":"fd77::{}","BackendType":"{backend}","BackendData":{data},"BackendV6Data":{data}}}"#,
            random.below(20)
        ),
    };
    StoredLease { key, value }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_prefix_is_three_numbers_and_ipv6_has_none() {
        let prefix = |subnet: &str| super::own_prefix(&[subnet.to_owned()]);
        assert_eq!(prefix("10.5.57.0/24"), "10.5.57");
        assert_eq!(prefix("fc00:5:0:8::/64"), "");
    }
}
