//! Which families a cluster has.

use flannel_base::Family;
use flannel_model::network_config::NetworkConfig;

/// The families in which nodes of a cluster have subnets; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// Whether IPv4 is on.
    pub ipv4: bool,
    /// Whether IPv6 is on.
    pub ipv6: bool,
}

impl Families {
    /// Those that a network config turns on.
    pub fn of(config: &NetworkConfig) -> Self {
        Self { ipv4: config.enable_ipv4, ipv6: config.enable_ipv6 }
    }

    /// Whether one of them is on.
    pub fn has(self, family: Family) -> bool {
        match family {
            Family::Ipv4 => self.ipv4,
            Family::Ipv6 => self.ipv6,
        }
    }
}
