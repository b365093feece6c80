//! The lab itself: that its network carries packets, that its instruments show what happens, and that nothing of it remains.
//! No daemon takes part.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use flannel_lab::netlink_monitor::{Object, Watcher};
use flannel_lab::{Echo, Lab, Node, Place, Pod, Prober, Underlay, child_reaper, ping_probe, wait};

const DUAL: Underlay = Underlay { ipv6: true, mtu: 1500 };

#[test]
fn nodes_reach_each_other_over_the_switch_and_through_the_router() -> Result<()> {
    let mut lab = Lab::new(2, DUAL)?;
    lab.add_node(Place::Far)?;
    for from in lab.nodes() {
        for to in lab.nodes() {
            let v6 = to.address_v6().context("an IPv6 address")?;
            for address in [IpAddr::V4(to.address()), IpAddr::V6(v6)] {
                Echo::to(address).once(from.namespace())?;
                Echo::to(address).size(1500).whole().once(from.namespace())?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_packet_larger_than_the_mtu_passes_only_in_pieces() -> Result<()> {
    let lab = Lab::new(2, DUAL)?;
    let [from, to] = lab.nodes() else { panic!("two nodes") };
    for address in [IpAddr::V4(to.address()), to.address_v6().context("an IPv6 address")?.into()] {
        let large = Echo::to(address).size(1501);
        large.once(from.namespace())?;
        large.whole().is_refused(from.namespace())?;
    }
    Ok(())
}

#[test]
fn two_labs_side_by_side_do_not_see_each_other() -> Result<()> {
    let (one, other) = (Lab::new(2, DUAL)?, Lab::new(1, DUAL)?);
    let second = one.node(1).address().into();
    Echo::to(second).once(one.node(0).namespace())?;
    Echo::to(second).once(other.node(0).namespace()).expect_err("the other lab has no second node");
    Ok(())
}

#[test]
fn a_cable_that_is_pulled_shows_as_loss_and_a_gap() -> Result<()> {
    let lab = Lab::new(2, DUAL)?;
    let [from, to] = lab.nodes() else { panic!("two nodes") };
    Echo::to(to.address().into()).once(from.namespace())?;
    let prober = Prober::start(from.namespace(), Echo::to(to.address().into()), ping_probe::INTERVAL)?;
    std::thread::sleep(Duration::from_millis(300));
    let whole = prober.report(ping_probe::Mark::default());
    assert_eq!(whole.lost, 0, "{whole:?}");

    let pulled = prober.mark();
    lab.switch().set_port(to.name(), false)?;
    std::thread::sleep(Duration::from_millis(300));
    lab.switch().set_port(to.name(), true)?;
    prober.first_answer(prober.mark())?;
    let broken = prober.report(pulled);
    assert!(broken.lost > 0, "{broken:?}");
    assert!(broken.longest_gap >= Duration::from_millis(290), "{broken:?}");

    let mended = prober.mark();
    std::thread::sleep(Duration::from_millis(300));
    let whole = prober.report(mended);
    assert_eq!((whole.lost, whole.refused), (0, 0), "{whole:?}");
    assert!(whole.sent > 0);
    Ok(())
}

#[test]
fn the_watcher_sees_a_device_that_comes_and_a_route_that_goes() -> Result<()> {
    let lab = Lab::new(1, DUAL)?;
    let node = lab.node(0);
    let watcher = Watcher::start(node)?;
    node.ip("link add name flannel.1 type vxlan id 1 local 192.168.77.11 dev eth0 dstport 8472 nolearning")?;
    node.ip("route add 10.9.0.0/16 via 192.168.77.1")?;
    node.ip("route delete 10.9.0.0/16")?;
    wait::until_true("both are seen", || {
        let ours = watcher.ours()?;
        let seen = |object, gone| ours.iter().any(|change| change.object == object && change.gone == gone);
        Ok(seen(Object::Link, false) && seen(Object::Route, true))
    })?;
    Ok(())
}

#[test]
fn pods_reach_each_other_over_a_vxlan_made_by_hand() -> Result<()> {
    let lab = Lab::new(2, DUAL)?;
    let pods: Vec<Pod> = lab
        .nodes()
        .iter()
        .enumerate()
        .map(|(index, node)| by_hand(&lab, index, node))
        .collect::<Result<_>>()?;
    pods[0].reaches(&pods[1])?;
    pods[1].reaches(&pods[0])?;
    pods[0].is_told_what_is_too_large(&pods[1])
}

/// What the daemon does, by `ip`: IPv4 over the tunnel, IPv6 plainly routed.
fn by_hand(lab: &Lab, index: usize, node: &Node) -> Result<Pod> {
    let peer = &lab.nodes()[1 - index];
    let (own, other) = (index + 1, 2 - index);
    let (local, remote, remote_v6) =
        (node.address(), peer.address(), peer.address_v6().context("an IPv6 address")?);
    node.namespace().ip_batch([
        format!("link add name flannel.1 mtu 1450 address 9e:00:00:00:00:0{own} type vxlan id 1 local {local} dev eth0 dstport 8472 nolearning"),
        format!("address add 10.5.{own}.0/32 dev flannel.1"),
        "link set flannel.1 up".to_owned(),
        format!("neigh add 10.5.{other}.0 lladdr 9e:00:00:00:00:0{other} dev flannel.1"),
        format!("route add 10.5.{other}.0/24 via 10.5.{other}.0 dev flannel.1 onlink"),
        format!("route add fc00:5:0:{other}::/64 via {remote_v6}"),
    ])?;
    node.bridge(&format!("fdb append 9e:00:00:00:00:0{other} dst {remote} dev flannel.1 self permanent"))?;
    let text = format!(
        "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.{own}.1/24\nFLANNEL_IPV6_SUBNET=fc00:5:0:{own}::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
    );
    std::fs::create_dir_all(node.subnet_file().parent().context("a directory")?)?;
    std::fs::write(node.subnet_file(), text)?;
    node.pod()
}

#[test]
fn nothing_of_a_lab_remains_when_it_is_dropped() -> Result<()> {
    let lab = Lab::new(2, DUAL)?;
    let spaces = inodes(&lab)?;
    let mut command = lab.node(0).namespace().command("sleep");
    command.arg("1000");
    let mut child = child_reaper::spawn(command)?;
    assert!(!holders(&spaces).is_empty(), "the check itself finds a lab that is there");
    let directory = lab.directory().to_owned();
    child_reaper::end(&mut child);
    drop(lab);
    assert!(!directory.exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    assert!(!mounts.contains(&directory.display().to_string()), "{mounts}");
    wait::until_equal("nobody holds its namespaces", || {
        Ok(Some(holders(&spaces).join(" ")).filter(|text| !text.is_empty()))
    })?;
    Ok(())
}

#[test]
fn nothing_of_a_lab_remains_when_its_process_is_killed() -> Result<()> {
    let mut process = Command::new(std::env::current_exe()?)
        .args(["--exact", "lab::a_lab_that_waits_to_be_killed", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(process.stdout.take().context("its output")?);
    let line = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once("namespaces:").map(|(_, l)| l.to_owned()));
    let spaces: HashSet<u64> =
        line.context("its namespaces")?.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    assert!(!holders(&spaces).is_empty(), "the check itself finds a lab that is there");
    process.kill()?;
    process.wait()?;
    wait::until_equal("nobody holds its namespaces", || {
        Ok(Some(holders(&spaces).join(" ")).filter(|text| !text.is_empty()))
    })?;
    Ok(())
}

#[test]
#[ignore = "a part of another test: never ends"]
fn a_lab_that_waits_to_be_killed() -> Result<()> {
    let lab = Lab::new(1, DUAL)?;
    let mut command = lab.node(0).namespace().command("sleep");
    command.arg("1000");
    child_reaper::spawn(command)?;
    let spaces: Vec<String> = inodes(&lab)?.iter().map(ToString::to_string).collect();
    // The directory would stay after a kill: it goes first.
    std::fs::remove_dir_all(lab.directory())?;
    println!("namespaces: {}", spaces.join(" "));
    std::thread::sleep(Duration::from_secs(1000));
    Ok(())
}

fn inodes(lab: &Lab) -> Result<HashSet<u64>> {
    let nodes = lab.nodes().iter().map(Node::namespace);
    nodes.chain([lab.switch().namespace()]).map(flannel_lab::Namespace::inode).collect()
}

/// Who is in one of these namespaces or holds it open, on the whole machine.
fn holders(spaces: &HashSet<u64>) -> Vec<String> {
    let is_one = |path: &std::path::Path| {
        let leads_to_a_namespace =
            std::fs::read_link(path).is_ok_and(|link| link.to_string_lossy().starts_with("net:["));
        leads_to_a_namespace && std::fs::metadata(path).is_ok_and(|meta| spaces.contains(&meta.ino()))
    };
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path()) {
        let descriptors =
            std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
        found.extend(
            descriptors
                .chain([process.join("ns/net")])
                .filter(|path| is_one(path))
                .map(|path| path.display().to_string()),
        );
    }
    found
}
