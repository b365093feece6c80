//! What differs between two network configs: what nodes can change while they run, and what they cannot.

use std::fmt::Display;

use crate::network_config::{NetworkConfig, fields};

/// A field, or an option of the backend, that is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub field: String,
    /// What it was, as it is written in JSON or as an address; none: it was not there.
    pub from: Option<String>,
    /// What it is now; none: it is not there.
    pub to: Option<String>,
}

/// What no node can change while it runs: families, networks, how they are divided into subnets, and what makes firewall rules. With all
/// defaults filled in. Where a network is another one its first and last subnet are too, which is not told.
pub fn fixed(from: &NetworkConfig, to: &NetworkConfig) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |field: &str, from: &dyn Display, to: &dyn Display| {
        let (from, to) = (from.to_string(), to.to_string());
        let differs = from != to;
        if differs {
            found.push(Difference { field: field.to_owned(), from: Some(from), to: Some(to) });
        }
        differs
    };
    compare("EnableIPv4", &from.enable_ipv4, &to.enable_ipv4);
    if let (true, true, Some(one), Some(other)) = (from.enable_ipv4, to.enable_ipv4, from.network, to.network)
        && !compare("Network", &one, &other)
        && !compare("SubnetLen", &from.subnet_len, &to.subnet_len)
    {
        compare("SubnetMin", &from.subnet_min, &to.subnet_min);
        compare("SubnetMax", &from.subnet_max, &to.subnet_max);
    }
    compare("EnableIPv6", &from.enable_ipv6, &to.enable_ipv6);
    if let (true, true, Some(one), Some(other)) =
        (from.enable_ipv6, to.enable_ipv6, from.ipv6_network, to.ipv6_network)
        && !compare("IPv6Network", &one, &other)
        && !compare("IPv6SubnetLen", &from.ipv6_subnet_len, &to.ipv6_subnet_len)
    {
        compare("IPv6SubnetMin", &from.ipv6_subnet_min, &to.ipv6_subnet_min);
        compare("IPv6SubnetMax", &from.ipv6_subnet_max, &to.ipv6_subnet_max);
    }
    compare("EnableNFTables", &from.enable_nftables, &to.enable_nftables);
    found
}

/// What differs between two `Backend` sections in their [canonical](crate::canonical::canonical) form, by option.
pub fn options(from: &str, to: &str) -> Vec<Difference> {
    let read = |text: &str| fields(text).unwrap_or_default();
    let (from, to) = (read(from), read(to));
    let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
    let mut found = Vec::new();
    for (name, value) in &to {
        let before = from.iter().find(|(other, _)| same(name, other)).map(|(_, value)| value.get());
        if before != Some(value.get()) {
            let before = before.map(ToOwned::to_owned);
            found.push(Difference { field: name.clone(), from: before, to: Some(value.get().to_owned()) });
        }
    }
    for (name, value) in from {
        if !to.iter().any(|(other, _)| same(&name, other)) {
            found.push(Difference { field: name, from: Some(value.get().to_owned()), to: None });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::canonical;

    fn shown(found: &[Difference]) -> Vec<String> {
        let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        found.iter().map(|d| format!("{} {} {}", d.field, or_none(&d.from), or_none(&d.to))).collect()
    }

    #[test]
    fn what_takes_a_restart_is_found_field_by_field() {
        let before = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
        for (after, expected) in [
            (r#"{"network":"10.5.7.7/16","SubnetLen":24,"EnableIPv4":true}"#, &[][..]),
            (r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#, &[]),
            (r#"{"Network":"10.6.0.0/16"}"#, &["Network 10.5.0.0/16 10.6.0.0/16"]),
            (r#"{"Network":"10.5.0.0/16","SubnetLen":25}"#, &["SubnetLen 24 25"]),
            (
                r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.99.0"}"#,
                &["SubnetMin 10.5.1.0 10.5.9.0", "SubnetMax 10.5.255.0 10.5.99.0"],
            ),
            (
                r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:5::/48","EnableNFTables":true}"#,
                &["EnableIPv6 false true", "EnableNFTables false true"],
            ),
            (
                r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00:5::/48"}"#,
                &["EnableIPv4 true false", "EnableIPv6 false true"],
            ),
        ] {
            let read = |text| NetworkConfig::parse(text).expect("valid");
            assert_eq!(shown(&fixed(&read(before), &read(after))), expected, "{after}");
        }
    }

    #[test]
    fn the_same_holds_for_ipv6() {
        let config = |more: &str| {
            let text = format!(r#"{{"EnableIPv4":false,"EnableIPv6":true{more}}}"#);
            NetworkConfig::parse(&text).expect("valid")
        };
        let before = config(r#","IPv6Network":"fc00:5::/48""#);
        for (after, expected) in [
            (r#","IPv6Network":"fc00:6::/48""#, "IPv6Network fc00:5::/48 fc00:6::/48"),
            (r#","IPv6Network":"fc00:5::/48","IPv6SubnetLen":80"#, "IPv6SubnetLen 64 80"),
            (
                r#","IPv6Network":"fc00:5::/48","IPv6SubnetMax":"fc00:5:0:9::""#,
                "IPv6SubnetMax fc00:5:0:ffff:: fc00:5:0:9::",
            ),
        ] {
            assert_eq!(shown(&fixed(&before, &config(after))), [expected], "{after}");
        }
    }

    #[test]
    fn options_that_are_others_that_come_and_that_go_are_told() {
        let before = canonical(r#"{"Type":"vxlan","VNI":1,"Port":8472,"GBP":true}"#);
        for (after, expected) in [
            (r#"{"gbp":true,"port":8472,"type":"VXLAN","vni":1}"#, &[][..]),
            (r#"{"Type":"vxlan","vni":7,"MTU":1400,"GBP":true}"#, &["MTU - 1400", "vni 1 7", "Port 8472 -"]),
            (
                r#"{"Type":"host-gw"}"#,
                &["Type \"vxlan\" \"host-gw\"", "GBP true -", "Port 8472 -", "VNI 1 -"],
            ),
        ] {
            assert_eq!(shown(&options(&before, &canonical(after))), expected, "{after}");
        }
    }
}
