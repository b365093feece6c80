//! Networks as people write them: an address, a slash, and the length of the prefix, read as Go's `net.ParseCIDR` reads them. Octets with
//! leading zeros, which some programs take for octal and others do not, are none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// An IPv4 network; host bits are kept as written.
#[must_use]
pub fn ipv4(text: &str) -> Option<Ipv4Net> {
    let (address, length) = parts::<Ipv4Addr>(text)?;
    Ipv4Net::new(address, length).ok()
}

/// An IPv6 network; host bits are kept as written.
#[must_use]
pub fn ipv6(text: &str) -> Option<Ipv6Net> {
    let (address, length) = parts::<Ipv6Addr>(text)?;
    Ipv6Net::new(address, length).ok()
}

/// A network of either family; host bits are kept as written.
#[must_use]
pub fn either(text: &str) -> Option<IpNet> {
    let (address, length) = parts::<IpAddr>(text)?;
    IpNet::new(address, length).ok()
}

fn parts<A: FromStr>(text: &str) -> Option<(A, u8)> {
    let (address, length) = text.split_once('/')?;
    let digits = length.bytes().all(|byte| byte.is_ascii_digit());
    // The standard library knows addresses without leading zeros only.
    Some((address.parse().ok()?, length.parse().ok().filter(|_| digits)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_what_go_takes_for_networks() {
        for text in ["10.5.0.0/16", "10.5.3.7/16", "0.0.0.0/0", "10.5.0.0/016", "10.5.0.0/32"] {
            assert!(ipv4(text).is_some() && either(text).is_some() && ipv6(text).is_none(), "{text}");
        }
        for text in ["fc00:5::/48", "::/0", "FC00:0005::1/128", "::ffff:10.5.0.0/112"] {
            assert!(ipv6(text).is_some() && either(text).is_some() && ipv4(text).is_none(), "{text}");
        }
        for text in [
            "",
            "/",
            "10.5.0.0",
            "10.5.0.0/",
            "010.5.0.0/16",
            "10.05.0.0/16",
            "10.5.0.00/16",
            "10.5.0/16",
            "10.5.0.0/33",
            "10.5.0.0/+16",
            "10.5.0.0/-1",
            "10.5.0.0/16/",
            " 10.5.0.0/16",
            "10.5.0.0 /16",
            "10.5.0.0/ 16",
            "0x0a.5.0.0/16",
            "10.5.0.0/255.255.0.0",
            "fc00:5::/129",
            "fc00:00005::/48",
            "::ffff:010.5.0.0/112",
            "fe80::1%eth0/64",
        ] {
            assert_eq!(either(text), None, "{text:?}");
            assert_eq!((ipv4(text), ipv6(text)), (None, None), "{text:?}");
        }
    }
}
