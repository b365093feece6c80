//! Machines with other firewall tools and modules than usual: one of the two alone, the old one beside the new one, and bridges whose
//! packets pass through iptables.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flannel_lab::datagram::{self, Outcome};
use flannel_lab::{Cluster, ClusterOptions, Firewall, Namespace, Node};

/// Where the switches of `br_netfilter` are, below `/proc/sys/net`.
const BRIDGE_SWITCHES: [&str; 2] = ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"];

/// A cluster that masquerades with this firewall, with pods; none if this machine does not have it.
fn cluster(firewall: Firewall, prepare: impl FnOnce(&mut Cluster) -> Result<()>) -> Result<Option<Cluster>> {
    if let Some(reason) = firewall.missing()? {
        flannel_test_support::skip(format_args!("this machine has no such firewall: {reason}"));
        return Ok(None);
    }
    let options = ClusterOptions { config: firewall.config(), ..ClusterOptions::default() };
    let mut cluster = Cluster::prepare(&options)?;
    prepare(&mut cluster)?;
    cluster.add_arguments(&["--ip-masq"]);
    cluster.bring_up()?;
    Ok(Some(cluster))
}

/// Where programs are.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    places.map(|place| place.join(name)).find(|file| file.is_file())
}

/// Has the daemons find these programs and no others: each by its name, and where it is.
fn leave_only(cluster: &mut Cluster, programs: &[(&str, &Path)]) -> Result<()> {
    let directory = cluster.lab().directory().join("bin");
    std::fs::create_dir(&directory)?;
    for (name, file) in programs {
        std::os::unix::fs::symlink(file, directory.join(name))?;
    }
    let path = directory.to_str().context("a path")?.to_owned();
    cluster.set_options(cluster.options().clone().env("PATH", &path));
    Ok(())
}

/// A pod's datagram to a host outside comes from its node.
fn is_masqueraded(cluster: &Cluster) -> Result<()> {
    let outside = cluster.lab().add_server("outside", 200)?;
    let seen = datagram::send(cluster.pod(0)?.namespace(), &outside, "192.168.77.200".parse()?)?;
    ensure!(seen == Outcome::Answered { source: cluster.node(0).address().into() }, "{seen:?}");
    Ok(())
}

/// What a daemon has warned of, one line each.
fn warnings(cluster: &mut Cluster, index: usize) -> Result<Vec<String>> {
    let log = cluster.daemon(index)?.log();
    let lines = log.of_level("WARN").into_iter().chain(log.of_level("ERROR"));
    Ok(lines.map(|line| line.message().to_owned()).collect())
}

#[test]
fn nftables_needs_no_iptables_on_the_machine() -> Result<()> {
    let Some(mut cluster) = cluster(Firewall::Nftables, |cluster| {
        let nft = program("nft").context("nft, which was there a moment ago")?;
        leave_only(cluster, &[("nft", &nft)])
    })?
    else {
        return Ok(());
    };
    is_masqueraded(&cluster)?;
    let warned = warnings(&mut cluster, 0)?;
    ensure!(!warned.iter().any(|line| line.contains("iptables-") || line.contains("cannot")), "{warned:?}");
    Ok(())
}

#[test]
fn iptables_needs_no_nft_on_the_machine() -> Result<()> {
    let names =
        ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"];
    let Some(mut cluster) = cluster(Firewall::Iptables, |cluster| {
        let files = names.map(|name| program(name).with_context(|| name.to_owned()));
        let files = files.into_iter().collect::<Result<Vec<_>>>()?;
        let programs: Vec<(&str, &Path)> =
            names.into_iter().zip(files.iter().map(PathBuf::as_path)).collect();
        leave_only(cluster, &programs)
    })?
    else {
        return Ok(());
    };
    is_masqueraded(&cluster)?;
    let warned = warnings(&mut cluster, 0)?;
    ensure!(!warned.iter().any(|line| line.contains("nft") || line.contains("cannot")), "{warned:?}");
    Ok(())
}

/// Why there are no rules of the old kind here; none: there are.
fn legacy_missing() -> Result<Option<String>> {
    let space = Namespace::new("a namespace to try the old iptables in")?;
    let tried = space.tool("iptables-legacy", OPERATORS);
    Ok(tried.err().map(|error| format!("no rules by iptables-legacy here: {error:#}")))
}

/// A rule of the operator's own, which concerns none of our packets.
const OPERATORS: &str = "-t nat -A POSTROUTING -s 192.0.2.0/24 -j ACCEPT";

/// An operator's rules of iptables-legacy stay as they are, and ours work beside them.
fn rules_of_the_old_iptables_stay_beside(firewall: Firewall) -> Result<()> {
    if let Some(reason) = legacy_missing()? {
        flannel_test_support::skip(reason);
        return Ok(());
    }
    let by_the_operator = |node: &Node| node.namespace().tool("iptables-legacy", OPERATORS).map(drop);
    let prepare = |cluster: &mut Cluster| cluster.lab().nodes().iter().try_for_each(by_the_operator);
    let Some(mut cluster) = cluster(firewall, prepare)? else { return Ok(()) };
    is_masqueraded(&cluster)?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    cluster.kill_and_restart(0)?;
    let rules = cluster.node(0).namespace().tool("iptables-legacy-save", "-t nat")?;
    ensure!(rules.contains("-A POSTROUTING -s 192.0.2.0/24 -j ACCEPT"), "{rules}");
    ensure!(!rules.contains("FLANNEL"), "{rules}");
    Ok(())
}

#[test]
fn rules_of_the_old_iptables_stay_beside_ours_of_the_new_one() -> Result<()> {
    rules_of_the_old_iptables_stay_beside(Firewall::Iptables)
}

#[test]
fn rules_of_the_old_iptables_stay_beside_ours_of_nftables() -> Result<()> {
    rules_of_the_old_iptables_stay_beside(Firewall::Nftables)
}

#[test]
fn where_the_machines_iptables_is_the_old_one_it_is_what_is_used() -> Result<()> {
    if let Some(reason) = legacy_missing()? {
        flannel_test_support::skip(reason);
        return Ok(());
    }
    let names =
        ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"];
    let Some(cluster) = cluster(Firewall::Iptables, |cluster| {
        let old = |name: &str| {
            let (family, rest) =
                name.split_once('-').map_or((name, String::new()), |(f, r)| (f, format!("-{r}")));
            let name = format!("{family}-legacy{rest}");
            program(&name).with_context(|| name.clone())
        };
        let files = names.map(old).into_iter().collect::<Result<Vec<_>>>()?;
        let programs: Vec<(&str, &Path)> =
            names.into_iter().zip(files.iter().map(PathBuf::as_path)).collect();
        leave_only(cluster, &programs)
    })?
    else {
        return Ok(());
    };
    is_masqueraded(&cluster)?;
    let rules = cluster.node(0).namespace().tool("iptables-legacy-save", "-t nat")?;
    ensure!(rules.contains("FLANNEL-POSTRTG"), "{rules}");
    Ok(())
}

/// With `br_netfilter`, packets that a bridge passes from pod to pod go through the rules, too: none is lost to them, and each is seen
/// as its sender's, also where whatever is not accepted is dropped.
fn with_br_netfilter_pods_see_each_other_as_they_are(firewall: Firewall) -> Result<()> {
    if !Path::new("/proc/sys/net").join(BRIDGE_SWITCHES[0]).exists() {
        flannel_test_support::skip("this kernel has not loaded br_netfilter");
        return Ok(());
    }
    let prepare = |node: &Node| -> Result<()> {
        node.namespace().sysctls(&BRIDGE_SWITCHES.map(|switch| (switch, "1")))?;
        if firewall == Firewall::Iptables {
            node.namespace().tool("iptables", "-P FORWARD DROP")?;
            node.namespace().tool("ip6tables", "-P FORWARD DROP")?;
        }
        Ok(())
    };
    let Some(mut cluster) = cluster(firewall, |cluster| cluster.lab().nodes().iter().try_for_each(prepare))?
    else {
        return Ok(());
    };
    let neighbour = cluster.node(0).pod()?;
    let pods = [cluster.pod(0)?, cluster.pod(1)?, &neighbour];
    for from in pods {
        for to in pods.into_iter().filter(|to| to.addresses() != from.addresses()) {
            for (source, address) in from.addresses().into_iter().zip(to.addresses()) {
                let seen = datagram::send(from.namespace(), to.namespace(), address)?;
                ensure!(seen == Outcome::Answered { source }, "{address} has seen {seen:?}");
            }
        }
    }
    is_masqueraded(&cluster)?;
    let warned = warnings(&mut cluster, 0)?;
    ensure!(!warned.iter().any(|line| line.contains("br_netfilter")), "{warned:?}");
    Ok(())
}

#[test]
fn with_br_netfilter_and_iptables_pods_see_each_other_as_they_are() -> Result<()> {
    with_br_netfilter_pods_see_each_other_as_they_are(Firewall::Iptables)
}

#[test]
fn with_br_netfilter_and_nftables_pods_see_each_other_as_they_are() -> Result<()> {
    with_br_netfilter_pods_see_each_other_as_they_are(Firewall::Nftables)
}
