//! The subnet file's format: what container runtimes read to know this node's subnet, as lines of `KEY=value`.
//!
//! Its lines and their order are upstream's. It also says, after a restart, which subnets the node had.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::lease::Subnets;
use crate::network_config::NetworkConfig;
use crate::prefix;

/// The file for a node with these subnets. `mtu`: bytes of the largest IP packet of a pod. `ipmasq`: whether flanneld
/// masquerades, so that the runtime need not.
pub fn text(config: &NetworkConfig, subnets: &Subnets, mtu: u32, ipmasq: bool) -> String {
    let mut text = String::new();
    // The address is an interface's, the first of the subnet that is not the network's own.
    if let (true, Some(network), Some(subnet)) = (config.enable_ipv4, config.network, subnets.v4) {
        let first = Ipv4Addr::from_bits(subnet.addr().to_bits().wrapping_add(1));
        let _ = writeln!(text, "FLANNEL_NETWORK={network}");
        let _ = writeln!(text, "FLANNEL_SUBNET={first}/{}", subnet.prefix_len());
    }
    if let (true, Some(network), Some(subnet)) = (config.enable_ipv6, config.ipv6_network, subnets.v6) {
        let first = Ipv6Addr::from_bits(subnet.addr().to_bits().wrapping_add(1));
        let _ = writeln!(text, "FLANNEL_IPV6_NETWORK={network}");
        let _ = writeln!(text, "FLANNEL_IPV6_SUBNET={first}/{}", subnet.prefix_len());
    }
    let _ = writeln!(text, "FLANNEL_MTU={mtu}");
    let _ = writeln!(text, "FLANNEL_IPMASQ={ipmasq}");
    text
}

/// All variables of a file, in their order.
pub fn variables(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(assignment)
}

/// The subnets that a file names. What is wrong in it costs the line that is wrong, not the file: `left_out` is told of each value that
/// is no subnet, with its variable.
pub fn previous(text: &str, mut left_out: impl FnMut(&str, &str)) -> Option<Subnets> {
    let (mut v4, mut v6) = (None, None);
    for (key, value) in variables(text) {
        match key {
            "FLANNEL_SUBNET" => {
                v4 = single(value, prefix::ipv4, |part| left_out(key, part)).map(|net| net.trunc());
            }
            "FLANNEL_IPV6_SUBNET" => {
                v6 = single(value, prefix::ipv6, |part| left_out(key, part)).map(|net| net.trunc());
            }
            _ => {}
        }
    }
    (v4.is_some() || v6.is_some()).then_some(Subnets { v4, v6 })
}

/// The cluster networks that a file names; upstream writes several with commas between them.
pub fn networks(text: &str) -> impl Iterator<Item = IpNet> {
    let values = variables(text)
        .filter(|(key, _)| ["FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"].contains(key))
        .flat_map(|(_, value)| value.split(','));
    values.filter_map(|value| prefix::either(value.trim())).map(|network| network.trunc())
}

/// One line as shells and dotenv files write it: `export`, quotes and a comment at the end may be there.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let line =
        line.strip_prefix("export").filter(|rest| rest.starts_with(char::is_whitespace)).unwrap_or(line);
    let (key, value) = line.split_once('=')?;
    let value = value.trim();
    let value = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].split(quote).next()?,
        _ => value.split(char::is_whitespace).next()?,
    };
    Some((key.trim(), value))
}

/// The one subnet of a list; older versions wrote several, of which none is the previous one.
fn single<T>(value: &str, read: fn(&str) -> Option<T>, mut left_out: impl FnMut(&str)) -> Option<T> {
    let mut valid = value.split(',').filter_map(|part| {
        let parsed = read(part.trim());
        if parsed.is_none() {
            left_out(part);
        }
        parsed
    });
    valid.next().filter(|_| valid.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUAL: &str = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:5::/48"}"#;

    fn subnets(v4: &str, v6: &str) -> Subnets {
        Subnets { v4: v4.parse().ok(), v6: v6.parse().ok() }
    }

    fn file(config: &str, subnets: &Subnets) -> String {
        text(&NetworkConfig::parse(config).expect("config"), subnets, 1450, true)
    }

    #[test]
    fn lines_are_upstreams() {
        assert_eq!(
            file(DUAL, &subnets("10.5.60.0/24", "fc00:5:0:8::/64")),
            "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.60.1/24\nFLANNEL_IPV6_NETWORK=fc00:5::/48\n\
             FLANNEL_IPV6_SUBNET=fc00:5:0:8::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
        );
        assert_eq!(
            file(r#"{"Network":"10.5.0.0/16"}"#, &subnets("10.5.60.0/24", "")),
            "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.60.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
        );
    }

    #[test]
    fn a_wrong_line_costs_that_line() {
        for (text, expected) in [
            ("", None),
            ("rubbish\n\u{0}\n=\nFLANNEL_SUBNET=10.5.60.1/24\n", Some(subnets("10.5.60.0/24", ""))),
            ("# x\nexport FLANNEL_SUBNET=\"10.5.60.1/24\" # ours\r\n", Some(subnets("10.5.60.0/24", ""))),
            (" FLANNEL_SUBNET = '10.5.60.1/24'", Some(subnets("10.5.60.0/24", ""))),
            (
                "FLANNEL_SUBNET=10.5.060.1/24\nFLANNEL_IPV6_SUBNET=fc00:5:0:8::1/64",
                Some(subnets("", "fc00:5:0:8::/64")),
            ),
            ("FLANNEL_SUBNET=10.5.60.1/24,10.5.61.1/24\n", None),
            ("FLANNEL_SUBNET=10.5.60.1/24,nonsense\n", Some(subnets("10.5.60.0/24", ""))),
            ("FLANNEL_SUBNET=\nFLANNEL_IPV6_SUBNET=fc00:5:0:8::1/64", Some(subnets("", "fc00:5:0:8::/64"))),
            ("FLANNEL_SUBNET=\"\nFLANNEL_MTU=1450", None),
            ("XFLANNEL_SUBNET=10.5.60.1/24\nexportFLANNEL_SUBNET=10.5.60.1/24", None),
        ] {
            assert_eq!(previous(text, |_, _| {}), expected, "{text:?}");
        }
    }
}
