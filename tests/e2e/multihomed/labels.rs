//! Peers that are reached with MPLS labels.

use anyhow::{Context, Result, ensure};
use flannel_lab::wire::Frames;
use flannel_lab::{Cluster, wait};

use super::{prepare, whole_state};

/// MPLS's number among what Ethernet carries (RFC 5332).
const MPLS: [u8; 2] = [0x88, 0x47];

/// Two nodes whose routes have labels, with their daemons; and whether the kernel has labels at all, in iproute2's words.
fn with_labels() -> Result<(Cluster, bool)> {
    let mut cluster = prepare(2)?;
    cluster.add_arguments(&["--plugin-option=labels=100"]);
    let by_hand = cluster.node(0).ip("route add 203.0.113.0/24 encap mpls 100 via 192.168.77.12 dev eth0");
    cluster.start_all()?;
    Ok((cluster, by_hand.is_ok()))
}

#[test]
fn where_the_kernel_lacks_labels_the_operator_is_told_which_module_has_them() -> Result<()> {
    let (mut cluster, has_labels) = with_labels()?;
    if has_labels {
        flannel_test_support::skip(format_args!("this machine's kernel has MPLS"));
        return Ok(());
    }
    let words = "this kernel has no MPLS, or has not loaded it: `modprobe mpls_iptunnel`";
    wait::until_true("the status says it", || {
        Ok(cluster.status(0)?["peers"][0]["problems"].to_string().contains(words))
    })?;
    ensure!(cluster.daemon(0)?.log().tail().contains("mpls_iptunnel"), "the log says it");
    Ok(())
}

#[test]
fn pods_reach_each_other_with_labels() -> Result<()> {
    let (mut cluster, has_labels) = with_labels()?;
    if !has_labels {
        flannel_test_support::skip(format_args!("this kernel has no MPLS"));
        return Ok(());
    }
    for node in 0..2 {
        wait::until_true("there is a route of each family", || {
            Ok(whole_state(&cluster, node)?.lines().filter(|line| line.contains("encap mpls")).count() == 2)
        })?;
    }
    // Each node takes the label off: it is the operator's MPLS network.
    for node in cluster.lab().nodes() {
        node.namespace().sysctls(&[("mpls/platform_labels", "1000"), ("mpls/conf/eth0/input", "1")])?;
        node.ip("-f mpls route add 100 dev lo")?;
    }
    cluster.wire_pods()?;
    let frames = Frames::listen(cluster.node(0).namespace())?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    // The label, and that it is the last one; then the packet.
    let labelled = frames.take().into_iter().filter(|frame| frame.get(12..14) == Some(&MPLS));
    let labelled: Vec<Vec<u8>> = labelled.collect();
    for version in [4, 6] {
        let is_there = labelled.iter().any(|frame| {
            let label = frame.get(14..18).and_then(|label| label.try_into().ok()).map(u32::from_be_bytes);
            label.is_some_and(|label| (label >> 12, label & 0x100) == (100, 0x100))
                && frame.get(18).is_some_and(|first| first >> 4 == version)
        });
        ensure!(is_there, "IPv{version} with a label, of {} frames", labelled.len());
    }
    let whole = whole_state(&cluster, 0)?;
    let count = whole.lines().filter(|line| line.contains("encap mpls")).count();
    ensure!(count == 2, "a route of each family: {whole}");
    let subnet = cluster.subnets(1)?.first().context("a subnet")?.clone();
    cluster.node(0).ip(&format!(
        "-4 route replace {subnet} metric 200 encap mpls 101 via 192.168.77.12 dev eth0 proto 119"
    ))?;
    wait::until_equal("the label is put right", || {
        let now = whole_state(&cluster, 0)?;
        Ok((now != whole).then_some(now))
    })?;
    let ready = cluster.kill_and_restart(0)?;
    ensure!(ready.line.number("netlink_messages") == Some(0), "{}", ready.line.raw());
    Ok(())
}
