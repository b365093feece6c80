//! From each backend to each other, and from some options to others: no packet is lost, and at the end all is as if the cluster had been
//! started so.

use anyhow::Result;
use flannel_lab::artifacts::component;
use flannel_lab::change::{self, Ground, Moment};
use flannel_lab::control_plane;
use flannel_lab::{Backend, Cluster, ClusterOptions, Firewall, wait};

use super::{Families, HOST_GW, IPSEC, UDP, VXLAN, can_have, nothing_is_lost, three};

const WIREGUARD: &str = r#"{"Type":"wireguard"}"#;
const IPIP: &str = r#"{"Type":"ipip"}"#;

/// A change that is tried.
struct Row<'a> {
    from: &'a str,
    to: &'a str,
    families: Families,
    etcd: bool,
    kubernetes: bool,
    ground: Ground,
}

impl<'a> Row<'a> {
    /// With IPv4, leases in a directory, and senders that are checked strictly.
    fn new(from: &'a str, to: &'a str) -> Self {
        let ground = Ground { strict: true, ..Ground::default() };
        Self { from, to, families: Families::V4, etcd: false, kubernetes: false, ground }
    }

    fn families(self, families: Families) -> Self {
        Self { families, ..self }
    }

    fn etcd(self) -> Self {
        Self { etcd: true, ..self }
    }

    fn kubernetes(self) -> Self {
        Self { kubernetes: true, ..self }
    }

    fn firewall(self, firewall: Firewall) -> Self {
        Self { ground: Ground { firewall: Some(firewall), ..self.ground }, ..self }
    }

    fn lenient(self) -> Self {
        Self { ground: Ground { strict: false, ..self.ground }, ..self }
    }

    /// Three nodes with the former backend; none, with a reason on standard output, where this machine cannot have them.
    fn cluster(&self) -> Result<Option<Cluster>> {
        if !can_have(&[self.from, self.to])? {
            return Ok(None);
        }
        if let Some(reason) = self.ground.firewall.map_or(Ok(None), Firewall::missing)? {
            flannel_test_support::skip(&reason);
            return Ok(None);
        }
        if self.kubernetes
            && let Some(reason) = control_plane::missing()?
        {
            flannel_test_support::skip(&reason);
            return Ok(None);
        }
        let config = self.families.config(self.from);
        let options =
            ClusterOptions { etcd: self.etcd, kubernetes: self.kubernetes, config, ..three(self.from)? };
        self.ground.start(&options).map(Some)
    }

    fn holds(&self) -> Result<()> {
        let Some(mut cluster) = self.cluster()? else { return Ok(()) };
        let took = nothing_is_lost(&mut cluster, |cluster, _| change::to(cluster, self.to))?;
        println!("from {} to {} in {took:.1?}", self.from, self.to);
        change::is_as_if_started_so(&cluster, &self.ground)
    }
}

#[test]
fn from_vxlan_to_host_gw() -> Result<()> {
    Row::new(VXLAN, HOST_GW).holds()
}

#[test]
fn from_vxlan_to_host_gw_with_ipv6_alone() -> Result<()> {
    Row::new(VXLAN, HOST_GW).families(Families::V6).holds()
}

#[test]
fn from_vxlan_to_host_gw_with_both_families_and_leases_in_etcd() -> Result<()> {
    Row::new(VXLAN, HOST_GW).families(Families::Both).etcd().holds()
}

#[test]
fn from_vxlan_to_host_gw_with_masquerading_by_nftables() -> Result<()> {
    Row::new(VXLAN, HOST_GW).firewall(Firewall::Nftables).holds()
}

#[test]
fn from_vxlan_to_host_gw_where_senders_are_not_checked() -> Result<()> {
    Row::new(VXLAN, HOST_GW).lenient().holds()
}

#[test]
fn from_vxlan_to_host_gw_with_leases_in_kubernetes() -> Result<()> {
    Row::new(VXLAN, HOST_GW).kubernetes().holds()
}

#[test]
fn from_udp_to_vxlan_with_both_families_and_leases_in_kubernetes() -> Result<()> {
    Row::new(UDP, VXLAN).families(Families::Both).kubernetes().holds()
}

#[test]
fn from_host_gw_to_vxlan_with_leases_in_etcd() -> Result<()> {
    Row::new(HOST_GW, VXLAN).etcd().holds()
}

#[test]
fn from_host_gw_to_vxlan_with_ipv6_alone() -> Result<()> {
    Row::new(HOST_GW, VXLAN).families(Families::V6).holds()
}

#[test]
fn from_host_gw_to_vxlan_with_both_families() -> Result<()> {
    Row::new(HOST_GW, VXLAN).families(Families::Both).holds()
}

#[test]
fn from_host_gw_to_vxlan_with_masquerading_by_iptables() -> Result<()> {
    Row::new(HOST_GW, VXLAN).firewall(Firewall::Iptables).holds()
}

#[test]
fn from_vxlan_to_udp_with_leases_in_etcd() -> Result<()> {
    Row::new(VXLAN, UDP).etcd().holds()
}

#[test]
fn from_udp_to_vxlan() -> Result<()> {
    Row::new(UDP, VXLAN).holds()
}

#[test]
fn from_udp_to_vxlan_with_both_families() -> Result<()> {
    Row::new(UDP, VXLAN).families(Families::Both).holds()
}

#[test]
fn from_host_gw_to_udp() -> Result<()> {
    Row::new(HOST_GW, UDP).holds()
}

#[test]
fn from_udp_to_host_gw_with_leases_in_etcd() -> Result<()> {
    Row::new(UDP, HOST_GW).etcd().holds()
}

#[test]
fn from_vxlan_to_udp_with_both_families() -> Result<()> {
    Row::new(VXLAN, UDP).families(Families::Both).holds()
}

#[test]
fn from_udp_to_host_gw_with_both_families() -> Result<()> {
    Row::new(UDP, HOST_GW).families(Families::Both).holds()
}

#[test]
fn from_one_vni_to_another() -> Result<()> {
    Row::new(r#"{"Type":"vxlan","VNI":1}"#, r#"{"Type":"vxlan","VNI":2}"#).holds()
}

#[test]
fn from_one_vni_to_another_with_both_families_and_leases_in_etcd() -> Result<()> {
    let row = Row::new(r#"{"Type":"vxlan","VNI":1}"#, r#"{"Type":"vxlan","VNI":2}"#);
    row.families(Families::Both).etcd().holds()
}

#[test]
fn from_one_port_to_another() -> Result<()> {
    Row::new(r#"{"Type":"vxlan","Port":8472}"#, r#"{"Type":"vxlan","Port":8473}"#).holds()
}

#[test]
fn from_one_port_to_another_with_both_families() -> Result<()> {
    let row = Row::new(r#"{"Type":"vxlan","Port":8472}"#, r#"{"Type":"vxlan","Port":8473}"#);
    row.families(Families::Both).holds()
}

#[test]
fn from_one_port_of_udp_to_another() -> Result<()> {
    Row::new(r#"{"Type":"udp","Port":8285}"#, r#"{"Type":"udp","Port":8286}"#).holds()
}

#[test]
fn from_one_mtu_to_a_smaller_one() -> Result<()> {
    Row::new(r#"{"Type":"vxlan"}"#, r#"{"Type":"vxlan","MTU":1400}"#).holds()
}

#[test]
fn from_one_mtu_to_a_larger_one_with_leases_in_etcd() -> Result<()> {
    Row::new(r#"{"Type":"vxlan","MTU":1400}"#, r#"{"Type":"vxlan"}"#).etcd().holds()
}

#[test]
fn from_tunnelled_to_direct_routes() -> Result<()> {
    Row::new(VXLAN, r#"{"Type":"vxlan","DirectRouting":true}"#).holds()
}

#[test]
fn from_direct_to_tunnelled_routes_with_leases_in_etcd() -> Result<()> {
    Row::new(r#"{"Type":"vxlan","DirectRouting":true}"#, VXLAN).etcd().holds()
}

#[test]
fn from_direct_routes_to_host_gw_where_the_routes_are_the_same() -> Result<()> {
    Row::new(r#"{"Type":"vxlan","DirectRouting":true}"#, HOST_GW).holds()
}

#[test]
fn from_vxlan_to_wireguard() -> Result<()> {
    Row::new(VXLAN, WIREGUARD).holds()
}

#[test]
fn from_ipsec_to_host_gw() -> Result<()> {
    Row::new(IPSEC, HOST_GW).holds()
}

#[test]
fn from_vxlan_to_ipsec() -> Result<()> {
    Row::new(VXLAN, IPSEC).holds()
}

#[test]
fn from_vxlan_to_ipsec_with_both_families() -> Result<()> {
    Row::new(VXLAN, IPSEC).families(Families::Both).holds()
}

#[test]
fn from_vxlan_to_ipsec_with_ipv6_alone() -> Result<()> {
    Row::new(VXLAN, IPSEC).families(Families::V6).holds()
}

#[test]
fn from_wireguard_to_ipsec() -> Result<()> {
    Row::new(WIREGUARD, IPSEC).holds()
}

#[test]
fn from_one_cipher_of_ipsec_to_another() -> Result<()> {
    let other = IPSEC.replacen('{', r#"{"ESPProposal":"aes256gcm16","#, 1);
    Row::new(IPSEC, &other).holds()
}

#[test]
fn from_ipsec_in_udp_to_ipsec_with_leases_in_etcd() -> Result<()> {
    let udp = IPSEC.replacen('{', r#"{"UDPEncap":true,"#, 1);
    Row::new(&udp, IPSEC).etcd().holds()
}

#[test]
fn from_ipsec_to_ipsec_in_udp() -> Result<()> {
    let other = IPSEC.replacen('{', r#"{"UDPEncap":true,"#, 1);
    Row::new(IPSEC, &other).holds()
}

#[test]
fn from_wireguard_to_host_gw_with_both_families() -> Result<()> {
    Row::new(WIREGUARD, HOST_GW).families(Families::Both).holds()
}

#[test]
fn from_wireguard_to_vxlan_with_both_families() -> Result<()> {
    Row::new(WIREGUARD, VXLAN).families(Families::Both).holds()
}

#[test]
fn from_one_port_of_wireguard_to_another_with_both_families() -> Result<()> {
    let others = r#"{"Type":"wireguard","ListenPort":51830,"ListenPortV6":51831}"#;
    Row::new(WIREGUARD, others).families(Families::Both).holds()
}

#[test]
fn from_one_keepalive_of_wireguard_to_another() -> Result<()> {
    Row::new(WIREGUARD, r#"{"Type":"wireguard","PersistentKeepaliveInterval":25}"#).holds()
}

#[test]
fn from_vxlan_to_ipip() -> Result<()> {
    Row::new(VXLAN, IPIP).holds()
}

#[test]
fn from_ipip_to_wireguard() -> Result<()> {
    Row::new(IPIP, WIREGUARD).holds()
}

/// Three nodes with a third party's plugin for vxlan.
fn with_a_third_partys_plugin() -> Result<(Ground, Cluster)> {
    let ground = Ground { plugin: Some(component("vxlan-next")?), strict: true, firewall: None };
    let cluster = ground.start(&three(VXLAN)?)?;
    Ok((ground, cluster))
}

#[test]
fn from_a_third_partys_plugin_to_a_built_in_one() -> Result<()> {
    let (ground, mut cluster) = with_a_third_partys_plugin()?;
    nothing_is_lost(&mut cluster, |cluster, _| change::to(cluster, HOST_GW))?;
    change::is_as_if_started_so(&cluster, &Ground { plugin: None, ..ground })
}

#[test]
fn from_a_built_in_plugin_to_a_third_partys_that_was_there_before_with_a_restart_between() -> Result<()> {
    let (ground, mut cluster) = with_a_third_partys_plugin()?;
    change::to(&mut cluster, HOST_GW)?;
    cluster.kill_and_restart(0)?;
    nothing_is_lost(&mut cluster, |cluster, _| change::to(cluster, VXLAN))?;
    for node in 0..3 {
        let version = cluster.status(node)?["plugin"]["version"].clone();
        anyhow::ensure!(version == "9.0.0", "node{} has {version}, which is the built-in one", node + 1);
    }
    change::is_as_if_started_so(&cluster, &ground)
}

/// A cluster in a cloud.
fn in_a_cloud(cloud: Backend, from: Backend) -> Result<Option<Cluster>> {
    if let Some(reason) = cloud.missing()? {
        flannel_test_support::skip(&reason);
        return Ok(None);
    }
    let options =
        ClusterOptions { nodes: 3, backend: cloud, config: from.config(false), ..ClusterOptions::default() };
    let mut cluster = Ground::default().prepare(&options)?;
    cluster.set_backend(from);
    cluster.bring_up()?;
    Ok(Some(cluster))
}

/// What nodes had in the cloud they remove by and by, while another backend serves.
fn wait_nothing_in_the_cloud(cluster: &Cluster) -> Result<()> {
    let what = "the cloud's table has nothing of the cluster";
    let rows = || -> Result<Option<String>> {
        let rows = cluster.cloud()?.table()?;
        Ok((!rows.is_empty()).then(|| format!("{rows:?}")))
    };
    wait::until_equal(what, rows).map(drop).map_err(|error| error.context(change::describe(cluster)))
}

fn to_a_cloud(cloud: Backend) -> Result<()> {
    let Some(mut cluster) = in_a_cloud(cloud, Backend::Vxlan)? else { return Ok(()) };
    let backend = format!(r#"{{"Type":"{cloud}"}}"#);
    nothing_is_lost(&mut cluster, |cluster, _| change::to(cluster, &backend))?;
    cluster.wait_converged()?;
    let rows = cluster.cloud()?.table()?.len();
    anyhow::ensure!(rows == 3, "the cloud's table has {rows} rows");
    Ok(())
}

fn from_a_cloud(cloud: Backend) -> Result<()> {
    let Some(mut cluster) = in_a_cloud(cloud, cloud)? else { return Ok(()) };
    nothing_is_lost(&mut cluster, |cluster, _| {
        change::to(cluster, VXLAN)?;
        wait_nothing_in_the_cloud(cluster)
    })
}

#[test]
fn from_vxlan_to_a_clouds_routes() -> Result<()> {
    to_a_cloud(Backend::Gce)
}

#[test]
fn from_vxlan_to_the_routes_of_aws() -> Result<()> {
    to_a_cloud(Backend::AwsVpc)
}

#[test]
fn from_vxlan_to_the_routes_of_alibaba() -> Result<()> {
    to_a_cloud(Backend::AliVpc)
}

#[test]
fn from_vxlan_to_the_routes_of_tencent() -> Result<()> {
    to_a_cloud(Backend::TencentVpc)
}

#[test]
fn from_a_clouds_routes_to_vxlan() -> Result<()> {
    from_a_cloud(Backend::Gce)
}

#[test]
fn from_the_routes_of_aws_to_vxlan() -> Result<()> {
    from_a_cloud(Backend::AwsVpc)
}

#[test]
fn from_the_routes_of_alibaba_to_vxlan() -> Result<()> {
    from_a_cloud(Backend::AliVpc)
}

#[test]
fn from_the_routes_of_tencent_to_vxlan() -> Result<()> {
    from_a_cloud(Backend::TencentVpc)
}

#[test]
fn a_change_to_a_clouds_routes_that_is_reverted_leaves_none_there() -> Result<()> {
    let Some(mut cluster) = in_a_cloud(Backend::Gce, Backend::Vxlan)? else { return Ok(()) };
    nothing_is_lost(&mut cluster, |cluster, _| {
        change::put(cluster, r#"{"Type":"gce"}"#)?;
        Moment::Moving.wait(cluster, 0)?;
        change::to(cluster, VXLAN)?;
        wait_nothing_in_the_cloud(cluster)
    })
}

#[test]
fn a_clouds_routes_that_come_back_while_they_are_removed_stay() -> Result<()> {
    let Some(mut cluster) = in_a_cloud(Backend::Gce, Backend::Gce)? else { return Ok(()) };
    nothing_is_lost(&mut cluster, |cluster, _| {
        change::to(cluster, VXLAN)?;
        change::to(cluster, r#"{"Type":"gce"}"#)
    })?;
    cluster.wait_converged()?;
    let rows = cluster.cloud()?.table()?.len();
    anyhow::ensure!(rows == 3, "the cloud's table has {rows} rows");
    Ok(())
}

fn one_after_the_other(families: Families, backends: &[&'static str]) -> Result<()> {
    if !can_have(backends)? {
        return Ok(());
    }
    let ground = Ground { strict: true, ..Ground::default() };
    let options = ClusterOptions { config: families.config(backends[0]), ..three(backends[0])? };
    let mut cluster = ground.start(&options)?;
    nothing_is_lost(&mut cluster, |cluster, _| {
        for backend in &backends[1..] {
            change::to(cluster, backend)?;
        }
        Ok(())
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

#[test]
fn several_changes_one_after_the_other() -> Result<()> {
    one_after_the_other(Families::V4, &[VXLAN, HOST_GW, UDP, VXLAN])
}

#[test]
fn several_changes_one_after_the_other_with_both_families() -> Result<()> {
    one_after_the_other(Families::Both, &[HOST_GW, UDP, VXLAN, HOST_GW, VXLAN, UDP])
}
