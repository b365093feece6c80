//! Which subnets a node gets: a function of the config, what the node had, and what is leased. Touches no store.

use flannel_model::lease::{Attributes, Subnets};
use flannel_model::network_config::NetworkConfig;
use flannel_model::node_identity::NodeIdentity;
use ipnet::{Ipv4Net, Ipv6Net};

use super::store::{Acquire, StoreError};

/// A new subnet is picked at random among this many free ones, so that nodes that start together seldom pick the same;
/// as upstream.
const CHOICE: usize = 100;

/// Whether a lease with these attributes is the requesting node's own.
pub(super) fn is_own(request: &Acquire, attributes: &Attributes) -> bool {
    same_owner(request.config.enable_ipv4, &request.attributes, attributes)
}

/// Whether two leases belong to the same node. `ipv4`: whether the cluster has IPv4.
pub(super) fn same_owner(ipv4: bool, a: &Attributes, b: &Attributes) -> bool {
    let a = NodeIdentity::of(a);
    let a = if ipv4 { a } else { a.without_ipv4() };
    a.is_same_node(&NodeIdentity::of(b))
}

/// Refuses a request of a node that could not be told from others.
pub(super) fn check(request: &Acquire) -> Result<(), StoreError> {
    let attributes = &request.attributes;
    match request.config.enable_ipv4 {
        true if attributes.public_ip.is_none() => {
            Err(StoreError::NoAddress { family: "IPv4", option: "public-ip" })
        }
        false if attributes.public_ipv6.is_none() => {
            Err(StoreError::NoAddress { family: "IPv6", option: "public-ipv6" })
        }
        _ => Ok(()),
    }
}

/// Whether a node may keep these subnets under this config: a subnet in range for each family that is on, none for others.
pub(super) fn compatible(config: &NetworkConfig, subnets: &Subnets) -> bool {
    let v4 = match subnets.v4 {
        Some(subnet) => config.enable_ipv4 && fits_v4(config, subnet),
        None => !config.enable_ipv4,
    };
    let v6 = match subnets.v6 {
        Some(subnet) => config.enable_ipv6 && fits_v6(config, subnet),
        None => !config.enable_ipv6,
    };
    v4 && v6
}

fn fits_v4(config: &NetworkConfig, subnet: Ipv4Net) -> bool {
    subnet.prefix_len() == config.subnet_len
        && subnet.addr() == subnet.network()
        && (config.subnet_min..=config.subnet_max).contains(&subnet.addr())
}

fn fits_v6(config: &NetworkConfig, subnet: Ipv6Net) -> bool {
    subnet.prefix_len() == config.ipv6_subnet_len
        && subnet.addr() == subnet.network()
        && (config.ipv6_subnet_min..=config.ipv6_subnet_max).contains(&subnet.addr())
}

/// Chooses free subnets: for each family the previous one if it fits and is free, else one at random. A lease that lacks a
/// family takes no subnet of it.
pub(super) fn choose<'a>(
    request: &Acquire,
    leased: impl Iterator<Item = &'a Subnets> + Clone,
) -> Result<Subnets, StoreError> {
    let config = &request.config;
    let previous = request.previous.unwrap_or(Subnets { v4: None, v6: None });
    let mut chosen = Subnets { v4: None, v6: None };
    if config.enable_ipv4 {
        let taken = Taken::new(
            leased
                .clone()
                .filter_map(|subnets| subnets.v4)
                .map(|subnet| (subnet.network().to_bits().into(), subnet.broadcast().to_bits().into())),
        );
        let range = Range::v4(config);
        let before = previous.v4.filter(|subnet| fits_v4(config, *subnet));
        let first = range.choose(&taken, before.map(|subnet| subnet.addr().to_bits().into()));
        // The range is made of IPv4 addresses: the conversion cannot fail.
        chosen.v4 = first
            .and_then(|first| u32::try_from(first).ok())
            .and_then(|first| Ipv4Net::new(first.into(), config.subnet_len).ok());
        if chosen.v4.is_none() {
            return Err(StoreError::Exhausted {
                network: config.network.map(|network| network.to_string()).unwrap_or_default(),
                min: config.subnet_min.to_string(),
                max: config.subnet_max.to_string(),
                length: config.subnet_len,
                count: range.count(),
            });
        }
    }
    if config.enable_ipv6 {
        let taken = Taken::new(
            leased
                .filter_map(|subnets| subnets.v6)
                .map(|subnet| (subnet.network().to_bits(), subnet.broadcast().to_bits())),
        );
        let range = Range::v6(config);
        let before = previous.v6.filter(|subnet| fits_v6(config, *subnet));
        let first = range.choose(&taken, before.map(|subnet| subnet.addr().to_bits()));
        chosen.v6 = first.and_then(|first| Ipv6Net::new(first.into(), config.ipv6_subnet_len).ok());
        if chosen.v6.is_none() {
            return Err(StoreError::Exhausted {
                network: config.ipv6_network.map(|network| network.to_string()).unwrap_or_default(),
                min: config.ipv6_subnet_min.to_string(),
                max: config.ipv6_subnet_max.to_string(),
                length: config.ipv6_subnet_len,
                count: range.count(),
            });
        }
    }
    Ok(chosen)
}

/// The addresses that are leased, as sorted ranges that do not touch: one walk finds what is free between them.
struct Taken(Vec<(u128, u128)>);

impl Taken {
    fn new(ranges: impl Iterator<Item = (u128, u128)>) -> Self {
        let mut sorted: Vec<_> = ranges.collect();
        sorted.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// The last address of the first range that shares an address with this one.
    fn blocks(&self, first: u128, last: u128) -> Option<u128> {
        let next = self.0.partition_point(|(_, end)| *end < first);
        self.0.get(next).filter(|(start, _)| *start <= last).map(|(_, end)| *end)
    }
}

/// The subnets that may be leased: the first addresses of the first and the last, and how far they are apart.
struct Range {
    min: u128,
    max: u128,
    size: u128,
}

impl Range {
    fn v4(config: &NetworkConfig) -> Self {
        Self {
            min: config.subnet_min.to_bits().into(),
            max: config.subnet_max.to_bits().into(),
            size: 1 << (32 - u32::from(config.subnet_len)),
        }
    }

    fn v6(config: &NetworkConfig) -> Self {
        Self {
            min: config.ipv6_subnet_min.to_bits(),
            max: config.ipv6_subnet_max.to_bits(),
            size: 1 << (128 - u32::from(config.ipv6_subnet_len)),
        }
    }

    fn count(&self) -> u128 {
        (self.max - self.min) / self.size + 1
    }

    fn choose(&self, taken: &Taken, previous: Option<u128>) -> Option<u128> {
        let is_free = |first: &u128| taken.blocks(*first, first + (self.size - 1)).is_none();
        previous.filter(is_free).or_else(|| {
            let free = self.free(taken);
            let pick = usize::try_from(random() % free.len().max(1) as u64).unwrap_or_default();
            free.get(pick).copied()
        })
    }

    /// The first free subnets, at most [`CHOICE`].
    fn free(&self, taken: &Taken) -> Vec<u128> {
        let mut free = Vec::new();
        let mut next = Some(self.min);
        while let Some(first) = next.filter(|first| *first <= self.max && free.len() < CHOICE) {
            next = match taken.blocks(first, first + (self.size - 1)) {
                None => {
                    free.push(first);
                    first.checked_add(self.size)
                }
                // On to the first subnet that begins after what is in the way.
                Some(end) => ((end - self.min) / self.size + 1)
                    .checked_mul(self.size)
                    .and_then(|distance| self.min.checked_add(distance)),
            };
        }
        free
    }
}

/// A random number; not for secrets.
pub(super) fn random() -> u64 {
    // Without the kernel's random numbers the address of a local differs from node to node, too, and a node that picks
    // the same as another only has to pick again.
    getrandom::u64().unwrap_or_else(|_| {
        let local = 0u8;
        std::ptr::from_ref(&local) as u64 >> 4
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::{Duration, Instant};

    use super::*;

    fn request(config: &str) -> Acquire {
        let config = NetworkConfig::parse(config).expect("config");
        let attributes = Attributes { public_ip: Some([192, 168, 0, 1].into()), ..Attributes::default() };
        Acquire { config, attributes, previous: None }
    }

    fn subnets(v4: &str, v6: &str) -> Subnets {
        Subnets { v4: v4.parse().ok(), v6: v6.parse().ok() }
    }

    const DUAL: &str = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:5::/48"}"#;

    #[test]
    fn the_previous_subnet_is_taken_again_if_it_fits_and_is_free() {
        let mut request = request(r#"{"Network":"10.5.0.0/16"}"#);
        request.previous = Some(subnets("10.5.77.0/24", ""));
        for (leased, again) in [
            ("", true),
            ("10.5.78.0/24", true),
            ("10.5.77.0/24", false),
            ("10.5.77.128/25", false),
            ("10.5.76.0/22", false),
        ] {
            let chosen = choose(&request, [subnets(leased, "")].iter()).expect("room");
            assert_eq!(chosen.v4 == request.previous.and_then(|p| p.v4), again, "{leased}");
        }
        for unfit in ["10.5.0.0/24", "10.6.1.0/24", "10.5.77.0/25", "10.5.77.1/24"] {
            request.previous = Some(subnets(unfit, ""));
            let chosen = choose(&request, [].iter()).expect("room");
            assert!(compatible(&request.config, &chosen), "{chosen}");
        }
    }

    #[test]
    fn a_node_that_turns_to_dual_stack_keeps_its_ipv4_subnet() {
        let mut request = request(DUAL);
        request.previous = Some(subnets("10.5.77.0/24", ""));
        let chosen = choose(&request, [subnets("10.5.1.0/24", "")].iter()).expect("room");
        assert_eq!(chosen.v4, request.previous.and_then(|p| p.v4));
        assert!(compatible(&request.config, &chosen));
    }

    #[test]
    fn leases_without_ipv6_take_no_ipv6_subnet() {
        let chosen =
            choose(&request(DUAL), [subnets("10.5.1.0/24", ""), subnets("", "fc00:5:0:1::/64")].iter());
        let chosen = chosen.expect("room");
        assert!(chosen.v4.is_some_and(|v4| v4.to_string() != "10.5.1.0/24"));
        assert!(chosen.v6.is_some_and(|v6| v6.to_string() != "fc00:5:0:1::/64"));
    }

    #[test]
    fn all_subnets_can_be_had_and_no_more() {
        let request = request(r#"{"Network":"10.5.0.0/28"}"#);
        let mut leased = Vec::new();
        for _ in 0..3 {
            leased.push(choose(&request, leased.iter()).expect("room"));
        }
        assert_eq!(leased.iter().collect::<HashSet<_>>().len(), 3);
        let error = choose(&request, leased.iter()).expect_err("no room").to_string();
        assert!(error.contains("all 3 /30 subnets of 10.5.0.0/28 from 10.5.0.4 to 10.5.0.12"), "{error}");
    }

    #[test]
    fn ends_of_the_address_space_do_not_overflow() {
        let mut request = request(
            r#"{"Network":"255.255.255.0/24","EnableIPv6":true,"IPv6Network":"ffff::/16","IPv6SubnetLen":18}"#,
        );
        request.config.subnet_min = request.config.subnet_max;
        request.config.ipv6_subnet_min = request.config.ipv6_subnet_max;
        let chosen = choose(&request, [].iter()).expect("room");
        assert_eq!(chosen, subnets("255.255.255.192/26", "ffff:c000::/18"));
        assert!(choose(&request, [chosen].iter()).is_err());
        assert!(choose(&request, [subnets("128.0.0.0/1", "8000::/1")].iter()).is_err());
    }

    #[test]
    fn identity_is_the_public_address_of_the_first_family() {
        let attributes = |v4: Option<u8>, v6: Option<u16>| Attributes {
            public_ip: v4.map(|last| [192, 168, 0, last].into()),
            public_ipv6: v6.map(|last| [0xfd77, 0, 0, 0, 0, 0, 0, last].into()),
            ..Attributes::default()
        };
        assert!(same_owner(true, &attributes(Some(1), Some(1)), &attributes(Some(1), None)));
        assert!(!same_owner(true, &attributes(Some(1), Some(1)), &attributes(Some(2), Some(1))));
        // A node that had no IPv4 address yet.
        assert!(same_owner(true, &attributes(Some(1), Some(1)), &attributes(None, Some(1))));
        assert!(!same_owner(true, &attributes(Some(1), None), &attributes(None, Some(1))));
        assert!(same_owner(false, &attributes(None, Some(1)), &attributes(Some(2), Some(1))));
        assert!(!same_owner(false, &attributes(None, None), &attributes(None, None)));
    }

    #[test]
    fn sixty_five_thousand_leases_are_no_burden() {
        let request = request(r#"{"Network":"10.0.0.0/8"}"#);
        let leased: Vec<Subnets> = (1..=0xffff_u32)
            .filter(|n| *n != 60_000)
            .map(|n| subnets(&format!("10.{}.{}.0/24", n >> 8, n & 0xff), ""))
            .collect();
        let started = Instant::now();
        let chosen = choose(&request, leased.iter()).expect("one is free");
        assert_eq!(chosen, subnets("10.234.96.0/24", ""));
        assert!(started.elapsed() < Duration::from_secs(2), "quadratic: {:?}", started.elapsed());
    }
}
