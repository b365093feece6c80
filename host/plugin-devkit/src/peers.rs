//! Numbers of nodes that there are not, and where those are.

use flannel_model::lease::Subnets;

use super::node::Families;

/// The number whose subnets the node itself has; its peers have those below.
pub(crate) const OWN: u16 = u16::MAX;

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
