//! CIDRs as an annotation repeats them.

use std::net::IpAddr;

use ipnet::IpNet;

/// Reads CIDRs that are separated by commas. `None` unless all of it makes sense for one node: one network of each family at most.
pub(super) fn cidrs(text: &str) -> Option<Vec<IpNet>> {
    let networks: Option<Vec<IpNet>> =
        text.split(',').map(|part| network(part.trim()).filter(|net| net.prefix_len() > 0)).collect();
    let families = |v4: bool| networks.iter().flatten().filter(|net| net.addr().is_ipv4() == v4).count();
    (families(true) <= 1 && families(false) <= 1).then_some(networks).flatten().filter(is_canonical)
}

/// A network of either family, as Kubernetes reads it.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    IpNet::new(address.parse::<IpAddr>().ok()?, length.parse().ok()?).ok()
}

fn is_canonical(networks: &Vec<IpNet>) -> bool {
    networks.iter().all(|net| net.trunc() == *net)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidrs_are_read_if_all_of_them_make_sense() {
        assert_eq!(cidrs("10.0.1.0/24").map(|cidrs| cidrs[0].to_string()).as_deref(), Some("10.0.1.0/24"));
        assert_eq!(cidrs("10.0.1.0/24, fd00::/64").map(|cidrs| cidrs.len()), Some(2));
        for wrong in [
            "",
            ",",
            "10.0.1.0/24,",
            "10.0.1.0",
            "10.0.1.0/33",
            "fd00::/129",
            "x/1",
            "0.0.0.0/0",
            "::/0",
            "10.0.1.7/24",
            "10.0.1.0/24,10.0.2.0/24",
            "fd00::/64,fd01::/64",
        ] {
            assert_eq!(cidrs(wrong), None, "{wrong:?}");
        }
    }
}
