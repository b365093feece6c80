//! Devices whose routes say where packets go.

use anyhow::{Result, ensure};

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
    ensure!(routes.contains("encap ip") || kind.families == Families::Ipv6, "{routes}");
    a_deleted_device_comes_back(&cluster, kind.families)
}

#[test]
fn external_gre_carries_both_families() -> Result<()> {
    works(&Kind {
        options: r#""Device":"gre-external""#,
        probe: "link add probe type gre external",
        families: Families::Both,
    })
}

#[test]
fn external_gre_over_ipv6_carries_both_families() -> Result<()> {
    works(&Kind {
        options: r#""Device":"ip6gre-external""#,
        probe: "link add probe type ip6gre external",
        families: Families::Both,
    })
}

#[test]
fn external_ethernet_in_gre_carries_both_families() -> Result<()> {
    works(&Kind {
        options: r#""Device":"gretap-external""#,
        probe: "link add probe type gretap external",
        families: Families::Both,
    })
}

#[test]
fn external_ethernet_in_gre_over_ipv6_carries_both_families() -> Result<()> {
    works(&Kind {
        options: r#""Device":"ip6gretap-external""#,
        probe: "link add probe type ip6gretap external",
        families: Families::Both,
    })
}

#[test]
fn geneve_carries_both_families_over_either() -> Result<()> {
    for options in [r#""Device":"geneve","Port":6082"#, r#""Device":"geneve","Port":6082,"Outer":"ipv6""#] {
        works(&Kind { options, probe: "link add probe type geneve external", families: Families::Both })?;
    }
    Ok(())
}

#[test]
fn external_ipip_carries_ipv4() -> Result<()> {
    works(&Kind {
        options: r#""Device":"ipip-external""#,
        probe: "link add probe type ipip external",
        families: Families::Ipv4,
    })
}

#[test]
fn external_ip_in_ipv6_carries_both_families() -> Result<()> {
    works(&Kind {
        options: r#""Device":"ip6tnl-external""#,
        probe: "link add probe type ip6tnl external",
        families: Families::Both,
    })
}
