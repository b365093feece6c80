//! Who has which part of the address space, where nobody shares any of it.

use std::collections::BTreeMap;

use flannel_model::lease::Subnets;
use ipnet::{Ipv4Net, Ipv6Net};

/// Subnets that do not overlap, each with the lease that it is of.
#[derive(Debug, Default)]
pub(super) struct AddressMap {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl AddressMap {
    /// Gives subnets that overlap nobody's to a lease.
    pub(super) fn insert(&mut self, subnets: &Subnets, lease: Subnets) {
        if let Some(net) = subnets.v4 {
            self.v4.insert(v4_range(net), lease);
        }
        if let Some(net) = subnets.v6 {
            self.v6.insert(v6_range(net), lease);
        }
    }

    /// Gives them back.
    pub(super) fn remove(&mut self, subnets: &Subnets) {
        if let Some(net) = subnets.v4 {
            self.v4.remove(v4_range(net));
        }
        if let Some(net) = subnets.v6 {
            self.v6.remove(v6_range(net));
        }
    }

    /// A lease that has some of these addresses.
    pub(super) fn overlapping(&self, subnets: &Subnets) -> Option<Subnets> {
        let v4 = subnets.v4.and_then(|net| self.v4.overlapping(v4_range(net)));
        v4.or_else(|| subnets.v6.and_then(|net| self.v6.overlapping(v6_range(net))))
    }
}

/// By the first address: the last one, and the lease. As wide as the family's addresses are: there are tens of thousands.
#[derive(Debug, Default)]
struct Ranges<A>(BTreeMap<A, (A, Subnets)>);

impl<A: Copy + Ord> Ranges<A> {
    fn insert(&mut self, (first, last): (A, A), lease: Subnets) {
        self.0.insert(first, (last, lease));
    }

    fn remove(&mut self, (first, _): (A, A)) {
        self.0.remove(&first);
    }

    fn overlapping(&self, (first, last): (A, A)) -> Option<Subnets> {
        // The last one that begins before the end: all others end before it begins, or begin later.
        let (_, (end, lease)) = self.0.range(..=last).next_back()?;
        (*end >= first).then_some(*lease)
    }
}

/// The first and the last address, as numbers.
fn v4_range(net: Ipv4Net) -> (u32, u32) {
    (net.network().into(), net.broadcast().into())
}

fn v6_range(net: Ipv6Net) -> (u128, u128) {
    (net.network().into(), net.broadcast().into())
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

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
