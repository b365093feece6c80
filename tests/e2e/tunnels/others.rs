//! What others have already, and what the kernel does not have: it is named, and left as it is.

use anyhow::{Result, ensure};
use flannel_lab::{Cluster, wait};

use super::{Families, has, missing, options, reach_each_other, section};

const GRE: &str = "link add probe type gre local 192.0.2.1 key 1";

/// A node on which somebody has made something before the daemon starts says so, with these words, and leaves it; when it is gone, all is well.
fn is_named(backend: &str, theirs: &str, removed: &str, words: &[&str], families: Families) -> Result<()> {
    let mut cluster = Cluster::prepare(&options(backend)?)?;
    let node = cluster.node(0);
    node.ip(&theirs.replace("OWN", &node.address().to_string()))?;
    cluster.launch(0)?;
    wait::until_equal("the operator is told", || {
        let log = cluster.daemon(0)?.log().tail();
        Ok((!words.iter().all(|word| log.contains(word))).then_some(log))
    })?;
    // Some of that ends the start: the operator starts it again when he has done what is asked of him.
    let node = cluster.node(0);
    node.ip(removed)?;
    cluster.take_daemon(0)?.kill9();
    cluster.bring_up()?;
    reach_each_other(&cluster, families)
}

#[test]
fn a_device_of_somebody_elses_with_this_name_stays() -> Result<()> {
    if !has(&[GRE])? {
        return Ok(());
    }
    is_named(
        &section(r#""Device":"gre""#),
        "link add flannel.tl type gre local OWN key 1",
        "link delete flannel.tl",
        &["there is a gre device of this name", "not flanneld's"],
        Families::Both,
    )
}

#[test]
fn another_device_with_the_same_addresses_and_key_is_named() -> Result<()> {
    if !has(&[GRE])? {
        return Ok(());
    }
    is_named(
        &section(r#""Device":"gre","Key":7"#),
        "link add theirs type gre local OWN key 7 dev eth0",
        "link delete theirs",
        &["theirs is a GRE device with the same addresses and key"],
        Families::Both,
    )
}

#[test]
fn a_second_external_device_of_a_kind_is_named() -> Result<()> {
    if !has(&[GRE])? {
        return Ok(());
    }
    let mut cluster = Cluster::prepare(&options(&section(r#""Device":"gre-external""#))?)?;
    cluster.node(0).ip("link add theirs type gre external")?;
    cluster.launch(0)?;
    wait::until_equal("the operator is told", || {
        let log = cluster.daemon(0)?.log().tail();
        Ok((!log.contains("theirs is a GRE device that is external")).then_some(log))
    })?;
    Ok(())
}

#[test]
fn a_vlan_that_somebody_has_is_named() -> Result<()> {
    if !has(&["link add link eth0 name probe type vlan id 77"])? {
        return Ok(());
    }
    is_named(
        &section(r#""Device":"vlan""#),
        "link add link eth0 name theirs type vlan id 77",
        "link delete theirs",
        &["theirs is VLAN 77 of this interface already"],
        Families::Both,
    )
}

#[test]
fn another_encapsulation_at_the_port_is_named() -> Result<()> {
    if !has(&[GRE, "fou add port 5555 gue"])? {
        return Ok(());
    }
    is_named(
        &section(r#""Device":"gre","Udp":"fou""#),
        "fou add port 5555 gue",
        "fou del port 5555",
        &["UDP port 5555 has another encapsulation", "GUE"],
        Families::Both,
    )
}

#[test]
fn a_kernel_without_such_devices_is_told_by_its_module() -> Result<()> {
    for (options_of, probe, module) in [
        (r#""Device":"gre""#, GRE, "ip_gre"),
        (r#""Device":"sit""#, "link add probe type sit local 192.0.2.1", "sit"),
        (r#""Device":"vlan""#, "link add link eth0 name probe type vlan id 77", "8021q"),
        (r#""Device":"geneve""#, "link add probe type geneve external", "geneve"),
        (r#""Device":"ip6tnl-external""#, "link add probe type ip6tnl external", "ip6_tunnel"),
    ] {
        if missing(probe)?.is_none() {
            flannel_test_support::skip(format_args!("this kernel has {module}"));
            continue;
        }
        let mut cluster = Cluster::prepare(&options(&section(options_of))?)?;
        let daemon = cluster.launch(0)?;
        let status = daemon.wait_exit()?;
        let said = daemon.log().tail();
        ensure!(!status.success() && said.contains(&format!("module `{module}`")), "{said}");
    }
    Ok(())
}
