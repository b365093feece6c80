//! CIDRs as an annotation repeats them.

use std::net::IpAddr;

use ipnet::IpNet;

/// Reads CIDRs that are separated by commas. `None` unless all of it makes sense for one node: one network of each family at most.
pub(super) fn cidrs(text: &str) -> Option<Vec<IpNet>> {
    let networks = text.split(',').map(|part| network(part.trim()).filter(is_nodes));
    let networks = networks.collect::<Option<Vec<IpNet>>>()?;
    let of_family = |v4: bool| networks.iter().filter(|net| net.addr().is_ipv4() == v4).count();
    (of_family(true) <= 1 && of_family(false) <= 1).then_some(networks)
}

/// Whether it can be one node's, as a daemon writes it.
fn is_nodes(net: &IpNet) -> bool {
    net.prefix_len() > 0 && net.trunc() == *net
}

/// A network of either family, as Kubernetes reads it.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    IpNet::new(address.parse::<IpAddr>().ok()?, length.parse().ok()?).ok()
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
