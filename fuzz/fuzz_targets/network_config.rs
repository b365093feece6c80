//! Any text as the network config: it is refused in one line, or what comes out of it holds together.

#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};

use flannel_fuzz::is_one_line;
use flannel_model::codec::{key_name, parse_key_name};
use flannel_model::lease::Subnets;
use flannel_model::network_config::NetworkConfig;
use ipnet::{Ipv4Net, Ipv6Net};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let config = match NetworkConfig::parse(text) {
        Ok(config) => config,
        Err(error) => return is_one_line(&error.to_string()),
    };
    assert!(config.enable_ipv4 || config.enable_ipv6);
    // Its grammar: what the numbers in it mean is the plugin's business, and some are beyond all types.
    assert!(serde_json::from_str::<serde::de::IgnoredAny>(config.backend.get()).is_ok());
    assert!(!config.backend_type.is_empty());
    for end in [false, true] {
        let v4 = config.enable_ipv4.then(|| v4_subnet(&config, end));
        let v6 = config.enable_ipv6.then(|| v6_subnet(&config, end));
        // What a node would publish, the others have to read.
        let subnets = Subnets { v4, v6 };
        assert_eq!(parse_key_name(&key_name(&subnets)), Ok(subnets));
    }
});

/// The first subnet, or the last.
fn v4_subnet(config: &NetworkConfig, last: bool) -> Ipv4Net {
    let network = config.network.expect("IPv4 is enabled");
    assert!(config.subnet_len >= network.prefix_len() + 2 && config.subnet_len <= 30, "{config:?}");
    assert!(config.subnet_min <= config.subnet_max, "{config:?}");
    let first: Ipv4Addr = if last { config.subnet_max } else { config.subnet_min };
    let subnet = Ipv4Net::new(first, config.subnet_len).expect("a prefix length");
    assert!(subnet.trunc() == subnet && network.contains(&subnet), "{config:?}");
    subnet
}

fn v6_subnet(config: &NetworkConfig, last: bool) -> Ipv6Net {
    let network = config.ipv6_network.expect("IPv6 is enabled");
    assert!(
        config.ipv6_subnet_len >= network.prefix_len() + 2 && config.ipv6_subnet_len <= 126,
        "{config:?}"
    );
    assert!(config.ipv6_subnet_min <= config.ipv6_subnet_max, "{config:?}");
    let first: Ipv6Addr = if last { config.ipv6_subnet_max } else { config.ipv6_subnet_min };
    let subnet = Ipv6Net::new(first, config.ipv6_subnet_len).expect("a prefix length");
    assert!(subnet.trunc() == subnet && network.contains(&subnet), "{config:?}");
    subnet
}
