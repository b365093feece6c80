//! Devices whose routes say where packets go. The policy declares the device and the neighbours on it; the routes are an operator's here.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use flannel_lab::Cluster;

use super::{
    DEVICE, Families, a_restart_changes_nothing, fall_back_devices_are_left_alone, has, reach_each_other,
    section, shown, start,
};

/// How a kind is.
struct Kind {
    options: &'static str,
    /// What the kernel needs for it.
    probe: &'static str,
    /// The outer packets are of IPv6.
    outer_v6: bool,
    /// Frames are of Ethernet: next hops are on the device.
    ethernet: bool,
    families: Families,
}

/// Gives each node a route to the other one's subnets.
fn put_routes(cluster: &Cluster, kind: &Kind) -> Result<()> {
    for (from, to) in [(0, 1), (1, 0)] {
        let node = cluster.node(to);
        let public: IpAddr = if kind.outer_v6 {
            node.address_v6().context("an IPv6 address")?.into()
        } else {
            node.address().into()
        };
        let encapsulation = if kind.outer_v6 { "ip6" } else { "ip" };
        for subnet in cluster.subnets(to)? {
            let first: ipnet::IpNet = subnet.parse()?;
            if !kind.families.has(first.addr()) {
                continue;
            }
            let hop = if kind.ethernet { format!(" via {} onlink", first.network()) } else { String::new() };
            cluster.node(from).ip(&format!(
                "route replace {subnet} encap {encapsulation} id 5 dst {public}{hop} dev {DEVICE} proto static"
            ))?;
        }
    }
    Ok(())
}

fn works(kind: &Kind) -> Result<()> {
    if !has(&[kind.probe])? {
        return Ok(());
    }
    let mut cluster = start(&section(kind.options))?;
    for node in 0..2 {
        flannel_lab::wait::until_true("the device is there", || Ok(shown(&cluster, node).is_ok()))?;
    }
    put_routes(&cluster, kind)?;
    reach_each_other(&cluster, kind.families)?;
    ensure!(shown(&cluster, 0)?.contains("external"), "{}", shown(&cluster, 0)?);
    fall_back_devices_are_left_alone(&cluster)?;
    a_restart_changes_nothing(&mut cluster)?;
    reach_each_other(&cluster, kind.families)?;
    // Who makes it anew has no routes of others on it.
    cluster.node(0).ip(&format!("link delete {DEVICE}"))?;
    flannel_lab::wait::until_true("it is back", || {
        Ok(shown(&cluster, 0).is_ok_and(|device| device.contains("external") && device.contains(",UP")))
    })?;
    put_routes(&cluster, kind)?;
    reach_each_other(&cluster, kind.families)
}

#[test]
fn external_gre_carries_both_families() -> Result<()> {
    works(&Kind {
        options: r#""Device":"gre-external""#,
        probe: "link add probe type gre external",
        outer_v6: false,
        ethernet: false,
        families: Families::Both,
    })
}

#[test]
fn external_gre_over_ipv6_carries_both_families() -> Result<()> {
    works(&Kind {
        options: r#""Device":"ip6gre-external""#,
        probe: "link add probe type ip6gre external",
        outer_v6: true,
        ethernet: false,
        families: Families::Both,
    })
}

#[test]
fn external_ethernet_in_gre_carries_both_families() -> Result<()> {
    works(&Kind {
        options: r#""Device":"gretap-external""#,
        probe: "link add probe type gretap external",
        outer_v6: false,
        ethernet: true,
        families: Families::Both,
    })
}

#[test]
fn external_ethernet_in_gre_over_ipv6_carries_both_families() -> Result<()> {
    works(&Kind {
        options: r#""Device":"ip6gretap-external""#,
        probe: "link add probe type ip6gretap external",
        outer_v6: true,
        ethernet: true,
        families: Families::Both,
    })
}

#[test]
fn geneve_carries_both_families_over_either() -> Result<()> {
    for outer_v6 in [false, true] {
        works(&Kind {
            options: r#""Device":"geneve","Port":6082"#,
            probe: "link add probe type geneve external",
            outer_v6,
            ethernet: true,
            families: Families::Both,
        })?;
    }
    Ok(())
}

#[test]
fn external_ipip_carries_ipv4() -> Result<()> {
    works(&Kind {
        options: r#""Device":"ipip-external""#,
        probe: "link add probe type ipip external",
        outer_v6: false,
        ethernet: false,
        families: Families::Ipv4,
    })
}

#[test]
fn external_ip_in_ipv6_carries_both_families() -> Result<()> {
    works(&Kind {
        options: r#""Device":"ip6tnl-external""#,
        probe: "link add probe type ip6tnl external",
        outer_v6: true,
        ethernet: false,
        families: Families::Both,
    })
}
