//! Leases that claim backends which nobody serves: that costs that peer alone.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use flannel_lab::store::StoredLease;
use flannel_lab::{Cluster, ClusterOptions, change, wait};

use super::{HOST_GW, VXLAN, nothing_is_lost, peer, start, stays, strict, three, wait_reached_by};

/// The lease of a vxlan node that there is not, in the nodes' own network, with something more in it.
fn lease(number: u8, more: &str) -> StoredLease {
    let value = format!(
        r#"{{"PublicIP":"192.168.77.{number}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"9e:00:00:00:00:{number:02x}"}},"Generations":{more}}}"#
    );
    StoredLease { key: format!("10.5.{number}.0-24"), value }
}

/// What liars claim.
fn claims() -> Vec<String> {
    let served =
        r#"[{"Backend":{"Type":"host-gw"},"BackendData":null,"BackendV6Data":null,"Complete":true}]"#;
    let unknown = r#"[{"Backend":{"Type":"carrier-pigeon"},"Complete":true}]"#;
    // What is not where a secret has to be, and what is no digest, either.
    let digest = r#"[{"Backend":{"Type":"wireguard","PSK":"sha256:rubbish"},"Main":true,"Complete":true},{"Backend":{"Type":"host-gw"},"Main":false,"Complete":true}]"#;
    let many = format!("[{}]", vec![r#"{"Backend":{"Type":"host-gw"},"Complete":true}"#; 2000].join(","));
    let texts = [
        served,
        unknown,
        digest,
        &many,
        "7",
        "[7]",
        "{}",
        r#"[{"Backend":7}]"#,
        r#"[{"Backend":{"Type":"vxlan","VNI":"x"}}]"#,
    ];
    texts.map(ToOwned::to_owned).into()
}

/// Leases of liars, one for each claim.
fn liars() -> impl Iterator<Item = StoredLease> {
    (200..).zip(claims()).map(|(number, claim)| lease(number, &claim))
}

#[test]
fn who_claims_a_backend_that_it_does_not_serve_stays_behind_alone_until_its_lease_goes() -> Result<()> {
    let ground = strict();
    let mut cluster = start(&ground, VXLAN)?;
    nothing_is_lost(&mut cluster, |cluster, _| {
        for liar in liars() {
            cluster.store().put(&liar)?;
        }
        change::put(cluster, HOST_GW)?;
        for (node, other) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
            wait_reached_by(cluster, node, other, "host-gw")?;
        }
        // Nobody answers there by the new backend.
        let first = "10.5.200.0/24";
        stays(cluster, |cluster| {
            let status = cluster.status(0)?;
            let peers = status["peers"].as_array().cloned().unwrap_or_default();
            let liar = peers.iter().find(|peer| peer["subnets"][0] == first).cloned().unwrap_or_default();
            Ok(liar["generation"] != "host-gw" && peer(cluster, 0, 1)?["generation"] == "host-gw")
        })?;
        liars().try_for_each(|liar| cluster.store().remove(&liar))?;
        change::wait_at_rest(cluster, HOST_GW)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

#[test]
fn claims_in_a_cluster_at_rest_begin_nothing() -> Result<()> {
    let ground = strict();
    let mut cluster = start(&ground, VXLAN)?;
    nothing_is_lost(&mut cluster, |cluster, _| {
        for liar in liars() {
            cluster.store().put(&liar)?;
        }
        stays(cluster, |cluster| nothing_began(cluster).map(|()| true))?;
        // Neither does a daemon that begins.
        cluster.kill_and_restart(1)?;
        stays(cluster, |cluster| nothing_began(cluster).map(|()| true))?;
        liars().try_for_each(|liar| cluster.store().remove(&liar))
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

/// Leases of host-gw nodes that there are not, far away, and which claim to serve vxlan, too.
fn crowd() -> impl Iterator<Item = StoredLease> {
    (0..1000_u32).map(|number| {
        let (high, low) = (number / 250, number % 250 + 1);
        let subnet = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 5, 128, 0)) + number * 16);
        let data = format!(r#"{{"VNI":1,"VtepMAC":"9e:00:00:00:{high:02x}:{low:02x}"}}"#);
        let vxlan = format!(
            r#"[{{"Backend":{{"Type":"host-gw"}},"Main":true,"Complete":false}},{{"Backend":{{"Type":"vxlan"}},"Main":false,"Complete":true,"BackendType":"vxlan","BackendData":{data}}}]"#
        );
        let value = format!(
            r#"{{"PublicIP":"192.168.{}.{low}","PublicIPv6":null,"BackendType":"host-gw","Generations":{vxlan}}}"#,
            100 + high
        );
        StoredLease { key: format!("{subnet}-28"), value }
    })
}

#[test]
fn a_thousand_who_do_not_answer_keep_nobody_else_from_moving() -> Result<()> {
    let ground = strict();
    // The subnets of the nodes come from the other half.
    let networks = r#""Network":"10.5.0.0/16","SubnetLen":28,"SubnetMax":"10.5.127.240""#;
    let config = format!(r#"{{{networks},"Backend":{HOST_GW}}}"#);
    let mut cluster = ground.start(&ClusterOptions { config, ..three(HOST_GW)? })?;
    nothing_is_lost(&mut cluster, |cluster, _| {
        crowd().try_for_each(|lease| cluster.store().put(&lease))?;
        wait::until_true("all are known", || {
            Ok(cluster.status(0)?["peers"].as_array().is_some_and(|peers| peers.len() == 1002))
        })?;
        change::put(cluster, VXLAN)?;
        for (node, other) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
            wait_reached_by(cluster, node, other, "vxlan")?;
        }
        crowd().try_for_each(|lease| cluster.store().remove(&lease))?;
        change::wait_at_rest(cluster, VXLAN)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

/// No node changes anything, or has told the others of another backend.
fn nothing_began(cluster: &Cluster) -> Result<()> {
    for node in 0..3 {
        let status = cluster.status(node)?;
        ensure!(status["change"].is_null(), "{}", status["change"]);
        let lease = cluster.lease(node)?.value;
        ensure!(!lease.contains(change::GENERATIONS), "{lease}");
    }
    Ok(())
}
