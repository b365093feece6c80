//! Each backend: pods reach each other, damage is repaired, a restart changes nothing, and what a peer needs goes with its lease.

use std::time::Duration;

use anyhow::{Context, Result};
use flannel_lab::netlink_monitor::Watcher;
use flannel_lab::repair::Damage;
use flannel_lab::{Backend, Cluster, ClusterOptions, Pings};

/// A cluster, or none, with a reason on standard output, where this kernel cannot have it.
fn cluster(backend: Backend, ipv6: bool) -> Result<Option<Cluster>> {
    if let Some(reason) = backend.missing()? {
        flannel_test_support::skip(&reason);
        return Ok(None);
    }
    Cluster::start(&ClusterOptions::of(backend, ipv6)).map(Some)
}

/// Small and full-size packets pass between pods, and larger ones are refused.
fn pods_reach_each_other(backend: Backend, ipv6: bool) -> Result<()> {
    let Some(cluster) = cluster(backend, ipv6)? else { return Ok(()) };
    let (one, other) = (cluster.pod(0)?, cluster.pod(1)?);
    one.reaches(other)?;
    other.reaches(one)?;
    one.is_told_what_is_too_large(other)
}

#[test]
fn with_host_gw_pods_reach_each_other_over_ipv4() -> Result<()> {
    pods_reach_each_other(Backend::HostGw, false)
}

#[test]
fn with_host_gw_pods_reach_each_other_over_both_families() -> Result<()> {
    pods_reach_each_other(Backend::HostGw, true)
}

#[test]
fn with_ipip_pods_reach_each_other() -> Result<()> {
    pods_reach_each_other(Backend::Ipip, false)
}

#[test]
fn with_wireguard_pods_reach_each_other_over_ipv4() -> Result<()> {
    pods_reach_each_other(Backend::Wireguard, false)
}

#[test]
fn with_wireguard_pods_reach_each_other_over_both_families() -> Result<()> {
    pods_reach_each_other(Backend::Wireguard, true)
}

#[test]
fn with_ipsec_pods_reach_each_other_over_ipv4() -> Result<()> {
    pods_reach_each_other(Backend::Ipsec, false)
}

#[test]
fn with_ipsec_pods_reach_each_other_over_both_families() -> Result<()> {
    pods_reach_each_other(Backend::Ipsec, true)
}

#[test]
fn with_udp_pods_reach_each_other_over_ipv4() -> Result<()> {
    pods_reach_each_other(Backend::Udp, false)
}

#[test]
fn with_udp_pods_reach_each_other_over_both_families() -> Result<()> {
    pods_reach_each_other(Backend::Udp, true)
}

#[test]
fn with_host_gw_the_kernel_has_one_plain_route_for_each_peer() -> Result<()> {
    let Some(cluster) = cluster(Backend::HostGw, true)? else { return Ok(()) };
    let peer = cluster.subnets(1)?;
    let (public, public_v6) = (cluster.node(1).address(), cluster.node(1).address_v6().context("IPv6")?);
    let state = cluster.state(0)?;
    assert_eq!(
        state.routes,
        [
            format!("{} via {public} dev eth0", peer[0]),
            format!("{} via {public_v6} dev eth0 metric 1024 pref medium", peer[1]),
        ],
        "{state}"
    );
    assert_eq!((state.links.len(), state.neighbours.len(), state.fdb.len()), (0, 0, 0), "{state}");
    let env = cluster.node(0).subnet_env()?.context("a subnet file")?;
    assert_eq!(env.mtu, 1500);
    let lease = cluster.lease(0)?.value;
    assert!(lease.contains(r#""BackendType":"host-gw""#) && !lease.contains("BackendData"), "{lease}");
    Ok(())
}

#[test]
fn with_alloc_nodes_have_subnets_and_nothing_is_programmed() -> Result<()> {
    let Some(mut cluster) = cluster(Backend::Alloc, true)? else { return Ok(()) };
    assert_eq!(cluster.state(0)?.to_string(), "");
    assert_ne!(cluster.subnets(0)?, cluster.subnets(1)?);
    let lease = cluster.lease(0)?.value;
    assert!(!lease.contains("BackendType"), "{lease}");
    let subnets = cluster.subnets(0)?;
    cluster.kill_and_restart(0)?;
    assert_eq!(cluster.subnets(0)?, subnets);
    Ok(())
}

/// What somebody deletes comes back: devices with all that was on them, and routes.
fn damage_is_repaired(backend: Backend, ipv6: bool) -> Result<()> {
    let Some(cluster) = cluster(backend, ipv6)? else { return Ok(()) };
    let devices = backend.devices(ipv6).into_iter().map(|name| Damage::Device(name.to_owned()));
    let routes = if backend.routes_each_peer() {
        cluster.subnets(1)?
    } else {
        backend.networks(ipv6).into_iter().map(ToOwned::to_owned).collect()
    };
    for damage in devices.chain(routes.into_iter().map(Damage::Route)) {
        damage.mended_after(cluster.node(0))?;
    }
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn with_host_gw_deleted_routes_come_back() -> Result<()> {
    damage_is_repaired(Backend::HostGw, true)
}

#[test]
fn with_ipip_a_deleted_device_and_deleted_routes_come_back() -> Result<()> {
    damage_is_repaired(Backend::Ipip, false)
}

#[test]
fn with_wireguard_deleted_devices_and_deleted_routes_come_back() -> Result<()> {
    damage_is_repaired(Backend::Wireguard, true)
}

#[test]
fn with_ipsec_a_deleted_device_and_deleted_routes_come_back() -> Result<()> {
    damage_is_repaired(Backend::Ipsec, true)
}

#[test]
fn with_udp_a_deleted_device_and_deleted_routes_come_back() -> Result<()> {
    damage_is_repaired(Backend::Udp, true)
}

/// A daemon that is killed and comes back changes nothing, and loses no packet unless it is what carries them.
fn a_restart_changes_nothing(backend: Backend, ipv6: bool) -> Result<()> {
    let Some(mut cluster) = cluster(backend, ipv6)? else { return Ok(()) };
    let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
    let (state, lease) = (cluster.state(0)?, cluster.lease(0)?);
    let watcher = Watcher::start(cluster.node(0))?;
    let ready = cluster.kill_and_restart(0)?;
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(ready.line.number("netlink_messages"), Some(0), "{}", ready.line.raw());
    let told: Vec<String> = watcher.ours()?.iter().map(ToString::to_string).collect();
    // A TUN device without a process has no carrier, which the kernel tells.
    assert!(told.is_empty() || backend.is_the_daemon(), "{}", told.join("\n"));
    assert_eq!(state.difference(&cluster.state(0)?), None);
    assert_eq!(cluster.lease(0)?, lease);
    if backend.is_the_daemon() {
        return cluster.pod(0)?.reaches(cluster.pod(1)?);
    }
    pings.lost_nothing()
}

#[test]
fn with_udp_a_restart_changes_nothing() -> Result<()> {
    a_restart_changes_nothing(Backend::Udp, true)
}

#[test]
fn with_host_gw_a_restart_changes_nothing() -> Result<()> {
    a_restart_changes_nothing(Backend::HostGw, true)
}

#[test]
fn with_ipip_a_restart_changes_nothing() -> Result<()> {
    a_restart_changes_nothing(Backend::Ipip, false)
}

#[test]
fn with_wireguard_a_restart_changes_nothing() -> Result<()> {
    a_restart_changes_nothing(Backend::Wireguard, true)
}

#[test]
fn where_the_kernel_lacks_a_device_the_daemon_says_which_module() -> Result<()> {
    for (backend, module) in
        [(Backend::Ipip, "ipip"), (Backend::Wireguard, "wireguard"), (Backend::Ipsec, "xfrm_interface")]
    {
        if backend.missing()?.is_none() {
            flannel_test_support::skip(format_args!("this kernel has {backend}"));
            continue;
        }
        let mut cluster =
            Cluster::prepare(&ClusterOptions { nodes: 1, ..ClusterOptions::of(backend, false) })?;
        let daemon = cluster.launch(0)?;
        let status = daemon.wait_exit()?;
        let errors = daemon.log().of_level("ERROR");
        let [error] = &errors[..] else { panic!("one error line: {}", daemon.log().tail()) };
        assert!(!status.success(), "{status}");
        assert!(error.message().contains(&format!("module `{module}`")), "{}", error.message());
        assert!(cluster.store().leases()?.is_empty(), "no lease for a node that cannot be reached");
    }
    Ok(())
}

#[test]
fn with_host_gw_a_node_that_is_not_on_the_link_is_named_with_the_reason() -> Result<()> {
    let Some(cluster) = cluster(Backend::HostGw, false)? else { return Ok(()) };
    let far = flannel_lab::store::StoredLease {
        key: "10.5.250.0-24".to_owned(),
        value: r#"{"PublicIP":"203.0.113.9","PublicIPv6":null,"BackendType":"host-gw"}"#.to_owned(),
    };
    cluster.store().put(&far)?;
    flannel_lab::wait::until_true("the status says what is wrong with it", || {
        let status = cluster.status(0)?;
        let peers = status["peers"].as_array().cloned().unwrap_or_default();
        let named = peers.iter().find(|peer| peer["subnets"][0] == "10.5.250.0/24");
        Ok(named.is_some_and(|peer| {
            peer["problems"].to_string().contains("203.0.113.9 is not on the link of eth0")
        }))
    })?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}
