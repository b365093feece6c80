//! Masquerading and forwarding, as packets see them: with iptables and with nftables, in both families.

use std::net::IpAddr;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use flannel_lab::datagram::{self, Outcome};
use flannel_lab::{Cluster, ClusterOptions, Firewall, Namespace, Node, wait};

const MASQUERADE: &[&str] = &["--ip-masq"];

/// The addresses of the host outside; it has no way to any pod.
const OUTSIDE: [&str; 2] = ["192.168.77.200", "fd77::200"];

/// A cluster whose nodes have this firewall, with pods, and a host outside of it.
struct Scene {
    cluster: Cluster,
    outside: Namespace,
}

impl Scene {
    /// Makes it, or says why not, which is no failure: not every machine has each firewall.
    fn new(firewall: Firewall, arguments: &[&str]) -> Result<Option<Self>> {
        Self::with(firewall, arguments, |_| Ok(()))
    }

    /// The same, with something done to the nodes before the daemons start.
    fn with(
        firewall: Firewall,
        arguments: &[&str],
        before: impl Fn(&Node) -> Result<()>,
    ) -> Result<Option<Self>> {
        if let Some(reason) = firewall.missing()? {
            flannel_test_support::skip(format_args!("this machine has no such firewall: {reason}"));
            return Ok(None);
        }
        let mut cluster =
            Cluster::prepare(&ClusterOptions { config: firewall.config(), ..ClusterOptions::default() })?;
        let outside = cluster.lab().add_server("outside", 200)?;
        outside.ip("address add fd77::200/64 dev eth0 nodad")?;
        cluster.lab().nodes().iter().try_for_each(before)?;
        cluster.add_arguments(arguments);
        cluster.bring_up()?;
        Ok(Some(Self { cluster, outside }))
    }

    /// What the host outside sees of a datagram from a node's pod, in each family.
    fn to_outside(&self, index: usize) -> Result<Vec<Outcome>> {
        let pod = self.cluster.pod(index)?.namespace();
        outside_addresses()?.into_iter().map(|to| datagram::send(pod, &self.outside, to)).collect()
    }

    /// What it should see where the node masquerades: the node's own addresses.
    fn masqueraded(&self, index: usize) -> Result<Vec<Outcome>> {
        let addresses = node_addresses(self.cluster.node(index))?;
        Ok(addresses.into_iter().map(|source| Outcome::Answered { source }).collect())
    }
}

fn outside_addresses() -> Result<Vec<IpAddr>> {
    OUTSIDE.iter().map(|text| Ok(text.parse()?)).collect()
}

fn node_addresses(node: &Node) -> Result<[IpAddr; 2]> {
    Ok([node.address().into(), node.address_v6().context("an IPv6 address")?.into()])
}

/// A pod's packets to the world outside come from its node, so that the world can answer.
fn pods_reach_the_world_as_their_node(firewall: Firewall) -> Result<()> {
    let Some(scene) = Scene::new(firewall, MASQUERADE)? else { return Ok(()) };
    for index in 0..2 {
        assert_eq!(scene.to_outside(index)?, scene.masqueraded(index)?);
    }
    Ok(())
}

#[test]
fn iptables_lets_pods_reach_the_world_as_their_node() -> Result<()> {
    pods_reach_the_world_as_their_node(Firewall::Iptables)
}

#[test]
fn nftables_lets_pods_reach_the_world_as_their_node() -> Result<()> {
    pods_reach_the_world_as_their_node(Firewall::Nftables)
}

/// Who does not ask for masquerading does not get it.
fn without_the_flag_nobody_is_masqueraded(firewall: Firewall) -> Result<()> {
    let Some(scene) = Scene::new(firewall, &[])? else { return Ok(()) };
    let own = scene.cluster.pod(0)?.addresses();
    let own: Vec<Outcome> = own.into_iter().map(|source| Outcome::Unanswered { source }).collect();
    assert_eq!(scene.to_outside(0)?, own);
    Ok(())
}

#[test]
fn without_the_flag_iptables_masquerades_nobody() -> Result<()> {
    without_the_flag_nobody_is_masqueraded(Firewall::Iptables)
}

#[test]
fn without_the_flag_nftables_masquerades_nobody() -> Result<()> {
    without_the_flag_nobody_is_masqueraded(Firewall::Nftables)
}

/// Pods see each other's own addresses, on one node and on two.
fn pods_see_each_other_as_they_are(firewall: Firewall) -> Result<()> {
    let Some(scene) = Scene::new(firewall, MASQUERADE)? else { return Ok(()) };
    let cluster = &scene.cluster;
    let neighbour = cluster.node(0).pod()?;
    let pods = [cluster.pod(0)?, cluster.pod(1)?, &neighbour];
    for from in pods {
        for to in pods {
            if from.addresses() == to.addresses() {
                continue;
            }
            for (source, address) in from.addresses().into_iter().zip(to.addresses()) {
                let seen = datagram::send(from.namespace(), to.namespace(), address)?;
                assert_eq!(seen, Outcome::Answered { source });
            }
        }
    }
    Ok(())
}

#[test]
fn with_iptables_pods_see_each_other_as_they_are() -> Result<()> {
    pods_see_each_other_as_they_are(Firewall::Iptables)
}

#[test]
fn with_nftables_pods_see_each_other_as_they_are() -> Result<()> {
    pods_see_each_other_as_they_are(Firewall::Nftables)
}

/// A node that talks to another node's pod, even by its address on the link, seems to be in its subnet: the answer goes the
/// same way back.
fn nodes_reach_other_nodes_pods_from_their_subnet(firewall: Firewall) -> Result<()> {
    let Some(scene) = Scene::new(firewall, MASQUERADE)? else { return Ok(()) };
    let cluster = &scene.cluster;
    let (node, pod) = (cluster.node(0), cluster.pod(1)?);
    let own: Vec<ipnet::IpNet> =
        cluster.subnets(0)?.iter().map(|subnet| Ok(subnet.parse()?)).collect::<Result<_>>()?;
    for ((source, to), subnet) in node_addresses(node)?.into_iter().zip(pod.addresses()).zip(own) {
        let seen = datagram::send_as(source, node.namespace(), pod.namespace(), to)?;
        let Outcome::Answered { source } = seen else { bail!("from {source} to {to}: {seen:?}") };
        assert!(subnet.contains(&source), "{source} in {subnet}");
    }
    Ok(())
}

#[test]
fn with_iptables_nodes_reach_other_nodes_pods_from_their_subnet() -> Result<()> {
    nodes_reach_other_nodes_pods_from_their_subnet(Firewall::Iptables)
}

#[test]
fn with_nftables_nodes_reach_other_nodes_pods_from_their_subnet() -> Result<()> {
    nodes_reach_other_nodes_pods_from_their_subnet(Firewall::Nftables)
}

/// A pod sees who comes from outside, where somebody knows the way in.
fn pods_see_who_comes_from_outside(firewall: Firewall) -> Result<()> {
    let Some(scene) = Scene::new(firewall, MASQUERADE)? else { return Ok(()) };
    let (cluster, outside) = (&scene.cluster, &scene.outside);
    let pod = cluster.pod(0)?;
    let ways = cluster.subnets(0)?.into_iter().zip(node_addresses(cluster.node(0))?);
    outside.ip_batch(ways.map(|(subnet, node)| format!("route add {subnet} via {node}")))?;
    for (source, to) in outside_addresses()?.into_iter().zip(pod.addresses()) {
        assert_eq!(datagram::send(outside, pod.namespace(), to)?, Outcome::Answered { source });
    }
    Ok(())
}

#[test]
fn with_iptables_pods_see_who_comes_from_outside() -> Result<()> {
    pods_see_who_comes_from_outside(Firewall::Iptables)
}

#[test]
fn with_nftables_pods_see_who_comes_from_outside() -> Result<()> {
    pods_see_who_comes_from_outside(Firewall::Nftables)
}

#[test]
fn the_rules_of_iptables_are_upstreams_in_upstreams_order() -> Result<()> {
    let Some(scene) = Scene::new(Firewall::Iptables, MASQUERADE)? else { return Ok(()) };
    let node = scene.cluster.node(0);
    let subnets = scene.cluster.subnets(0)?;
    let families = [
        ("iptables", "10.5.0.0/16", &subnets[0], "224.0.0.0/4"),
        ("ip6tables", "fc00:5::/48", &subnets[1], "ff00::/8"),
    ];
    for (tool, network, own, multicast) in families {
        let masq = "-m comment --comment \"flanneld masq\"";
        let rules = node.namespace().tool(tool, "-t nat -S FLANNEL-POSTRTG")?;
        let expected = [
            "-N FLANNEL-POSTRTG".to_owned(),
            format!("-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 {masq} -j RETURN"),
            format!("-A FLANNEL-POSTRTG -s {own} -d {network} {masq} -j RETURN"),
            format!("-A FLANNEL-POSTRTG -s {network} -d {own} {masq} -j RETURN"),
            format!("-A FLANNEL-POSTRTG ! -s {network} -d {own} {masq} -j RETURN"),
            format!("-A FLANNEL-POSTRTG -s {network} ! -d {multicast} {masq} -j MASQUERADE --random-fully"),
            format!("-A FLANNEL-POSTRTG ! -s {network} -d {network} {masq} -j MASQUERADE --random-fully"),
        ];
        assert_eq!(rules.lines().collect::<Vec<_>>(), expected);
        let jump = format!("-A POSTROUTING {masq} -j FLANNEL-POSTRTG");
        assert!(node.namespace().tool(tool, "-t nat -S POSTROUTING")?.lines().any(|line| line == jump));

        let forward = "-m comment --comment \"flanneld forward\"";
        let rules = node.namespace().tool(tool, "-S FLANNEL-FWD")?;
        let expected = [
            "-N FLANNEL-FWD".to_owned(),
            format!("-A FLANNEL-FWD -s {network} {forward} -j ACCEPT"),
            format!("-A FLANNEL-FWD -d {network} {forward} -j ACCEPT"),
        ];
        assert_eq!(rules.lines().collect::<Vec<_>>(), expected);
        let jump = format!("-A FORWARD {forward} -j FLANNEL-FWD");
        assert!(node.namespace().tool(tool, "-S FORWARD")?.lines().any(|line| line == jump));
    }
    Ok(())
}

#[test]
fn the_tables_and_chains_of_nftables_are_upstreams_and_multicast_is_let_alone() -> Result<()> {
    let Some(scene) = Scene::new(Firewall::Nftables, MASQUERADE)? else { return Ok(()) };
    let space = scene.cluster.node(0).namespace();
    for (family, table, multicast) in
        [("ip", "flannel-ipv4", "224.0.0.0/4"), ("ip6", "flannel-ipv6", "ff00::/8")]
    {
        let masquerading = space.tool("nft", &format!("list chain {family} {table} postrtg"))?;
        for words in ["type nat hook postrouting priority srcnat", "masquerade fully-random", multicast] {
            assert!(masquerading.contains(words), "{words}: {masquerading}");
        }
        let forwarding = space.tool("nft", &format!("list chain {family} {table} forward"))?;
        for words in ["type filter hook forward priority filter", "accept"] {
            assert!(forwarding.contains(words), "{words}: {forwarding}");
        }
    }
    Ok(())
}

/// Rules that a stranger flushes come back.
fn rules_come_back(firewall: Firewall) -> Result<()> {
    let Some(scene) = Scene::new(firewall, MASQUERADE)? else { return Ok(()) };
    let node = scene.cluster.node(0);
    let before = firewall.rules(node)?;
    firewall.flush(node)?;
    let masqueraded = scene.masqueraded(0)?;
    wait::until_equal("pods reach the world again", || {
        let seen = scene.to_outside(0)?;
        Ok((seen != masqueraded).then(|| format!("{seen:?}")))
    })?;
    wait::until_equal("all rules are back", || {
        let now = firewall.rules(node)?;
        Ok((without_counters(&now) != without_counters(&before)).then_some(now))
    })
    .map(drop)
}

#[test]
fn rules_of_iptables_that_a_stranger_flushes_come_back() -> Result<()> {
    rules_come_back(Firewall::Iptables)
}

#[test]
fn rules_of_nftables_that_a_stranger_flushes_come_back() -> Result<()> {
    rules_come_back(Firewall::Nftables)
}

fn drop_what_nobody_accepts(node: &Node) -> Result<()> {
    node.namespace().tool("iptables", "-P FORWARD DROP")?;
    node.namespace().tool("ip6tables", "-P FORWARD DROP")?;
    Ok(())
}

#[test]
fn where_the_policy_is_to_drop_the_forward_rules_of_iptables_let_pods_talk() -> Result<()> {
    let Some(scene) = Scene::with(Firewall::Iptables, MASQUERADE, drop_what_nobody_accepts)? else {
        return Ok(());
    };
    scene.cluster.pod(0)?.reaches(scene.cluster.pod(1)?)?;
    assert_eq!(scene.to_outside(0)?, scene.masqueraded(0)?);
    Ok(())
}

#[test]
fn where_the_policy_is_to_drop_and_no_forward_rules_are_wanted_pods_do_not_talk() -> Result<()> {
    let arguments = ["--ip-masq", "--iptables-forward-rules=false"];
    let Some(scene) = Scene::with(Firewall::Iptables, &arguments, drop_what_nobody_accepts)? else {
        return Ok(());
    };
    let (from, to) = (scene.cluster.pod(0)?, scene.cluster.pod(1)?);
    for address in to.addresses() {
        assert_eq!(datagram::send(from.namespace(), to.namespace(), address)?, Outcome::Lost);
    }
    Ok(())
}

/// When the daemon ends its rules stay, as all that packets need; who wants them away says so.
fn rules_stay_until_they_are_removed(firewall: Firewall) -> Result<()> {
    let Some(mut scene) = Scene::new(firewall, MASQUERADE)? else { return Ok(()) };
    let before = firewall.rules(scene.cluster.node(0))?;
    let status = scene.cluster.take_daemon(0)?.terminate()?;
    assert!(status.success(), "{status}");
    assert_eq!(without_counters(&firewall.rules(scene.cluster.node(0))?), without_counters(&before));
    assert_eq!(scene.to_outside(0)?, scene.masqueraded(0)?);

    let mut command = scene.cluster.options().command(scene.cluster.node(0));
    let removed = command.args(["firewall", "remove"]).stdin(Stdio::null()).output()?;
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    let after = firewall.rules(scene.cluster.node(0))?;
    assert!(!after.to_lowercase().contains("flannel"), "{after}");
    Ok(())
}

/// Without the comments of `iptables-save`, which have the time in them, and the counters of chains.
fn without_counters(rules: &str) -> Vec<&str> {
    let lines = rules.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(" [").next().unwrap_or(line)).collect()
}

#[test]
fn rules_of_iptables_stay_until_they_are_removed() -> Result<()> {
    rules_stay_until_they_are_removed(Firewall::Iptables)
}

#[test]
fn rules_of_nftables_stay_until_they_are_removed() -> Result<()> {
    rules_stay_until_they_are_removed(Firewall::Nftables)
}

/// A node whose network config says the other firewall now has the rules of that one alone.
fn rules_of_the_other_firewall_go(first: Firewall, second: Firewall) -> Result<()> {
    if second.missing()?.is_some() {
        flannel_test_support::skip("this machine has only one of the firewalls");
        return Ok(());
    }
    let Some(mut scene) = Scene::new(first, MASQUERADE)? else { return Ok(()) };
    scene.cluster.store().put_config(&second.config())?;
    scene.cluster.kill_and_restart(0)?;
    assert_eq!(scene.to_outside(0)?, scene.masqueraded(0)?);
    let node = scene.cluster.node(0);
    let (tables, chains) = (node.namespace().tool("nft", "list tables")?, Firewall::Iptables.rules(node)?);
    let [nftables, iptables] = [tables.contains("flannel-ipv4"), chains.contains("FLANNEL-")];
    let wanted = [second == Firewall::Nftables, second == Firewall::Iptables];
    assert_eq!([nftables, iptables], wanted, "{tables}\n{chains}");
    Ok(())
}

#[test]
fn who_changes_from_iptables_to_nftables_has_no_rules_of_iptables_left() -> Result<()> {
    rules_of_the_other_firewall_go(Firewall::Iptables, Firewall::Nftables)
}

#[test]
fn who_changes_from_nftables_to_iptables_has_no_rules_of_nftables_left() -> Result<()> {
    rules_of_the_other_firewall_go(Firewall::Nftables, Firewall::Iptables)
}
