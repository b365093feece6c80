//! Devices that find nodes by the next hops of routes: packets, a restart, and a device that is deleted.

use anyhow::{Result, ensure};
use flannel_lab::Pings;

use super::{
    Families, a_deleted_device_comes_back, a_restart_changes_nothing, fall_back_devices_are_left_alone,
    fou_ports, has, reach_each_other, section, shown, start,
};

/// Options of the policy, what the kernel needs for it, the families that are carried, and words with which the device is shown.
fn works(options: &str, needs: &[&str], families: Families, words: &[&str]) -> Result<()> {
    if !has(needs)? {
        return Ok(());
    }
    let mut cluster = start(&section(options))?;
    reach_each_other(&cluster, families)?;
    let device = shown(&cluster, 0)?;
    for word in words {
        ensure!(device.contains(word), "{word}: {device}");
    }
    ensure!(device.contains("alias flanneld"), "{device}");
    fall_back_devices_are_left_alone(&cluster)?;
    if families == Families::Both {
        let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
        a_restart_changes_nothing(&mut cluster)?;
        pings.lost_nothing()?;
    } else {
        a_restart_changes_nothing(&mut cluster)?;
    }
    a_deleted_device_comes_back(&cluster, families)?;
    if options.contains("Udp") {
        ensure!(fou_ports(&cluster, 0)?.contains("port 5555"), "{}", fou_ports(&cluster, 0)?);
    }
    Ok(())
}

const GRE: &str = "link add probe type gre local 192.0.2.1 key 1";
const SIT: &str = "link add probe type sit local 192.0.2.1";
const IPIP: &str = "link add probe type ipip local 192.0.2.1";
const FOU: &str = "fou add port 5555 ipproto 47";

#[test]
fn gre_carries_both_families() -> Result<()> {
    works(r#""Device":"gre""#, &[GRE], Families::Both, &["gre remote any local 192.168.77."])
}

#[test]
fn gre_with_a_key_carries_both_families() -> Result<()> {
    works(r#""Device":"gre","Key":4294967295"#, &[GRE], Families::Both, &["key 255.255.255.255"])
}

#[test]
fn sit_carries_ipv6_in_ipv4() -> Result<()> {
    works(r#""Device":"sit""#, &[SIT], Families::Ipv6, &["sit ip6ip remote any", "local 192.168.77."])
}

#[test]
fn ip_in_ip_carries_both_families_in_ipv4() -> Result<()> {
    works(r#""Device":"ip""#, &[SIT], Families::Both, &["sit any remote any"])
}

#[test]
fn ipip_carries_ipv4_in_ipv4() -> Result<()> {
    works(r#""Device":"ipip""#, &[IPIP], Families::Ipv4, &["ipip ipip remote any"])
}

#[test]
fn a_vlan_carries_both_families() -> Result<()> {
    let needs = "link add link eth0 name probe type vlan id 77";
    works(r#""Device":"vlan""#, &[needs], Families::Both, &["vlan protocol 802.1Q id 77", "@eth0"])
}

#[test]
fn a_provider_vlan_carries_both_families() -> Result<()> {
    let needs = "link add link eth0 name probe type vlan protocol 802.1ad id 77";
    let shown = &["vlan protocol 802.1ad id 77", "@eth0"];
    works(r#""Device":"vlan","Protocol":"802.1ad""#, &[needs], Families::Both, shown)
}

#[test]
fn gre_in_fou_carries_both_families() -> Result<()> {
    works(r#""Device":"gre","Udp":"fou""#, &[GRE, FOU], Families::Both, &["encap fou", "encap-dport 5555"])
}

#[test]
fn sit_in_fou_carries_ipv6() -> Result<()> {
    works(r#""Device":"sit","Udp":"fou""#, &[SIT, FOU], Families::Ipv6, &["encap fou", "encap-dport 5555"])
}

#[test]
fn ipip_in_gue_carries_ipv4() -> Result<()> {
    works(r#""Device":"ipip","Udp":"gue""#, &[IPIP, FOU], Families::Ipv4, &["encap gue", "encap-dport 5555"])
}

#[test]
fn ip_in_ip_in_gue_carries_both_families() -> Result<()> {
    works(r#""Device":"ip","Udp":"gue""#, &[SIT, FOU], Families::Both, &["encap gue", "encap-dport 5555"])
}
