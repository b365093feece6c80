//! Devices whose routes say where packets go.

use anyhow::{Result, ensure};
use flannel_lab::wait;

use super::{
    DEVICE, Families, a_deleted_device_comes_back, a_restart_changes_nothing,
    fall_back_devices_are_left_alone, has, reach_each_other, section, shown, start,
};

/// How a kind is.
struct Kind {
    options: &'static str,
    /// What the kernel needs for it.
    probe: &'static str,
    families: Families,
    /// The kernel gives each such device a link-local address by chance: one that is made anew differs from the one before.
    random_address: bool,
}

fn works(kind: &Kind) -> Result<()> {
    if !has(&[kind.probe])? {
        return Ok(());
    }
    let mut cluster = start(&section(kind.options))?;
    reach_each_other(&cluster, kind.families)?;
    ensure!(shown(&cluster, 0)?.contains("external"), "{}", shown(&cluster, 0)?);
    fall_back_devices_are_left_alone(&cluster)?;
    a_restart_changes_nothing(&mut cluster)?;
    reach_each_other(&cluster, kind.families)?;
    let routes = cluster.node(0).ip(&format!("route show dev {DEVICE}"))?;
    ensure!(routes.contains("encap ip"), "{routes}");
    if !kind.random_address {
        return a_deleted_device_comes_back(&cluster, kind.families);
    }
    cluster.node(0).ip(&format!("link delete {DEVICE}"))?;
    wait::until_true("its routes are back", || {
        Ok(cluster.node(0).ip(&format!("route show dev {DEVICE}")).is_ok_and(|back| back == routes))
    })?;
    reach_each_other(&cluster, kind.families)
}

#[test]
fn external_gre_carries_both_families() -> Result<()> {
    works(&Kind {
        options: r#""Device":"gre-external""#,
        probe: "link add probe type gre external",
        families: Families::Both,
        random_address: false,
    })
}

#[test]
fn external_gre_over_ipv6_carries_both_families() -> Result<()> {
    works(&Kind {
        options: r#""Device":"ip6gre-external""#,
        probe: "link add probe type ip6gre external",
        families: Families::Both,
        random_address: true,
    })
}

#[test]
fn external_ethernet_in_gre_carries_both_families() -> Result<()> {
    works(&Kind {
        options: r#""Device":"gretap-external""#,
        probe: "link add probe type gretap external",
        families: Families::Both,
        random_address: false,
    })
}

#[test]
fn external_ethernet_in_gre_over_ipv6_carries_both_families() -> Result<()> {
    works(&Kind {
        options: r#""Device":"ip6gretap-external""#,
        probe: "link add probe type ip6gretap external",
        families: Families::Both,
        random_address: false,
    })
}

#[test]
fn geneve_carries_both_families_over_either() -> Result<()> {
    for options in [r#""Device":"geneve","Port":6082"#, r#""Device":"geneve","Port":6082,"Outer":"ipv6""#] {
        let probe = "link add probe type geneve external";
        works(&Kind { options, probe, families: Families::Both, random_address: false })?;
    }
    Ok(())
}

#[test]
fn external_ipip_carries_ipv4() -> Result<()> {
    works(&Kind {
        options: r#""Device":"ipip-external""#,
        probe: "link add probe type ipip external",
        families: Families::Ipv4,
        random_address: false,
    })
}

#[test]
fn external_ip_in_ipv6_carries_both_families() -> Result<()> {
    works(&Kind {
        options: r#""Device":"ip6tnl-external""#,
        probe: "link add probe type ip6tnl external",
        families: Families::Both,
        random_address: true,
    })
}
