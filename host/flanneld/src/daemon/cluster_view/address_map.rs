//! Who has which part of the address space, where nobody shares any of it.

use std::collections::BTreeMap;

use flannel_model::lease::Subnets;
use ipnet::IpNet;

/// Subnets that do not overlap, each with the lease that it is of.
#[derive(Debug, Default)]
pub(super) struct AddressMap {
    /// By the first address: the last one, and the lease.
    v4: BTreeMap<u128, (u128, Subnets)>,
    v6: BTreeMap<u128, (u128, Subnets)>,
}

impl AddressMap {
    /// Gives subnets that overlap nobody's to a lease.
    pub(super) fn insert(&mut self, subnets: &Subnets, lease: Subnets) {
        for subnet in subnets.iter() {
            let (first, last) = range(&subnet);
            self.of_mut(&subnet).insert(first, (last, lease));
        }
    }

    /// Gives them back.
    pub(super) fn remove(&mut self, subnets: &Subnets) {
        for subnet in subnets.iter() {
            self.of_mut(&subnet).remove(&range(&subnet).0);
        }
    }

    /// A lease that has some of these addresses.
    pub(super) fn overlapping(&self, subnets: &Subnets) -> Option<Subnets> {
        subnets.iter().find_map(|subnet| {
            let (first, last) = range(&subnet);
            // The last one that begins before the end: all others end before it begins, or begin later.
            let (_, (end, lease)) = self.of(&subnet).range(..=last).next_back()?;
            (*end >= first).then_some(*lease)
        })
    }

    fn of(&self, subnet: &IpNet) -> &BTreeMap<u128, (u128, Subnets)> {
        if subnet.addr().is_ipv4() { &self.v4 } else { &self.v6 }
    }

    fn of_mut(&mut self, subnet: &IpNet) -> &mut BTreeMap<u128, (u128, Subnets)> {
        if subnet.addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}

/// The first and the last address, as numbers.
fn range(subnet: &IpNet) -> (u128, u128) {
    match subnet {
        IpNet::V4(net) => (u32::from(net.network()).into(), u32::from(net.broadcast()).into()),
        IpNet::V6(net) => (net.network().into(), net.broadcast().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets(text: &str) -> Subnets {
        match text.parse().expect("prefix") {
            IpNet::V4(v4) => Subnets { v4: Some(v4), v6: None },
            IpNet::V6(v6) => Subnets { v4: None, v6: Some(v6) },
        }
    }

    #[test]
    fn who_has_an_address_is_found() {
        let mut map = AddressMap::default();
        for taken in ["10.5.2.0/24", "10.5.4.0/23", "10.5.8.0/32", "fc00:5:0:2::/64"] {
            map.insert(&subnets(taken), subnets(taken));
        }
        for (asked, holder) in [
            ("10.5.2.0/24", Some("10.5.2.0/24")),
            ("10.5.2.128/25", Some("10.5.2.0/24")),
            ("10.5.0.0/16", Some("10.5.8.0/32")),
            ("10.5.5.7/32", Some("10.5.4.0/23")),
            ("10.5.4.0/30", Some("10.5.4.0/23")),
            ("10.5.3.0/24", None),
            ("10.5.6.0/23", None),
            ("10.5.8.1/32", None),
            ("10.4.0.0/16", None),
            ("fc00:5::/48", Some("fc00:5:0:2::/64")),
            ("fc00:5:0:3::/64", None),
        ] {
            assert_eq!(map.overlapping(&subnets(asked)), holder.map(subnets), "{asked}");
        }
        map.remove(&subnets("10.5.4.0/23"));
        assert_eq!(map.overlapping(&subnets("10.5.5.0/24")), None);
    }
}
