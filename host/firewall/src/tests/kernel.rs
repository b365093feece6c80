//! The rules in the kernel.

use std::time::Duration;

use super::lab::{Way, each_way, in_namespace, run, run_with, until, ways};
use super::{everything, ipv4, ipv6, networks};
use crate::{Mode, Owner, Rules, remove_with};

/// `flannel`, in any spelling.
fn ours(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.to_lowercase().contains("flannel")).collect()
}

fn without_rules(way: Way) {
    let shown = way.everything();
    assert!(ours(&shown).is_empty(), "{way}: {shown}");
}

#[test]
fn rules_are_as_upstream_makes_them() {
    each_way(async |way| {
        let _firewall = way.start(everything()).await;
        let golden = match way {
            Way::Nftables => include_str!("nftables.txt"),
            Way::IptablesNft | Way::IptablesLegacy => include_str!("iptables.txt"),
        };
        assert_eq!(way.shown().trim(), golden.trim(), "{way}");
    });
}

#[test]
fn a_second_start_changes_nothing() {
    each_way(async |way| {
        drop(way.start(everything()).await);
        if way == Way::IptablesLegacy {
            // There are no handles, but a rule that is made anew has counted nothing.
            for program in ["iptables-legacy", "ip6tables-legacy"] {
                let counted = run(&format!("{program}-save"), "-c").replace("[0:0]", "[7:777]") + "\n";
                run_with(&format!("{program}-restore"), "-c", &counted).expect("counters");
            }
        }
        let before = way.everything();
        let firewall = way.start(everything()).await;
        assert_eq!(way.everything(), before, "{way}");
        firewall.set(everything()).await.expect("the same rules");
        assert_eq!(way.everything(), before, "{way}");
        assert_eq!(firewall.status().repairs, 0);
    });
}

/// What others do to the rules, in the words of each way's programs.
fn damages(way: Way) -> Vec<Vec<String>> {
    let lists: &[&[&str]] = match way {
        Way::Nftables => &[
            &["nft flush ruleset"],
            &["nft delete table ip6 flannel-ipv6"],
            &["nft flush chain ip flannel-ipv4 postrtg"],
            &["nft delete chain ip flannel-ipv4 forward"],
            &["nft insert rule ip flannel-ipv4 postrtg accept"],
            &["nft add chain ip flannel-ipv4 other"],
            // The same rules in another order.
            &[
                "nft flush chain ip6 flannel-ipv6 forward",
                "nft add rule ip6 flannel-ipv6 forward ip6 daddr fc00:5::/48 accept",
                "nft add rule ip6 flannel-ipv6 forward ip6 saddr fc00:5::/48 accept",
            ],
        ],
        Way::IptablesNft | Way::IptablesLegacy => &[
            &["iptables -t nat -F FLANNEL-POSTRTG"],
            &["iptables -t nat -F POSTROUTING"],
            &["ip6tables -F"],
            &["ip6tables -t nat -F", "ip6tables -t nat -X FLANNEL-POSTRTG"],
            &["iptables -t nat -D FLANNEL-POSTRTG 3"],
            &["iptables -I FLANNEL-FWD -j DROP"],
            // The same rules in another order.
            &[
                "iptables -t nat -D FLANNEL-POSTRTG 1",
                "iptables -t nat -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment flanneld-masq -j RETURN",
            ],
            // A second jump.
            &["iptables -t nat -I POSTROUTING -m comment --comment flanneld-masq -j FLANNEL-POSTRTG"],
        ],
    };
    let command = |words: &&str| {
        let (program, arguments) = words.split_once(' ').expect("a program and arguments");
        let variant = if program == "nft" { "" } else { way.tools().variant };
        format!("{program}{variant} {arguments}")
    };
    lists.iter().map(|list| list.iter().map(command).collect()).collect()
}

#[test]
fn what_others_damage_is_repaired() {
    each_way(async |way| {
        let firewall = way.start(everything()).await;
        let good = way.shown();
        for damage in damages(way) {
            let repairs = firewall.status().repairs;
            for command in &damage {
                let (program, arguments) = command.split_once(' ').expect("a program and arguments");
                run(program, arguments);
            }
            until(&format!("{way}: repaired after {damage:?}"), || {
                way.shown() == good && firewall.status().repairs > repairs && firewall.status().ok
            })
            .await;
        }
    });
}

/// Polling is enough by itself, as it has to be where nothing is told.
#[test]
fn rules_that_were_flushed_are_back_after_the_interval() {
    each_way(async |way| {
        let mut firewall = way.start(everything()).await;
        let good = way.shown();
        drop(firewall);
        run("nft", "flush ruleset");
        if way == Way::IptablesLegacy {
            run("iptables-legacy", "-t nat -F");
        }
        assert_ne!(way.shown(), good, "{way}: nobody keeps the rules any more");
        firewall = way.start(everything()).await;
        assert_eq!(way.shown(), good, "{way}");
        drop(firewall);
    });
}

#[test]
fn dropping_leaves_the_rules_and_stops_the_repairs() {
    each_way(async |way| {
        let firewall = way.start(everything()).await;
        let good = way.everything();
        drop(firewall);
        tokio::task::yield_now().await;
        assert_eq!(way.everything(), good);
        match way {
            Way::Nftables => run("nft", "flush chain ip flannel-ipv4 postrtg"),
            _ => run(&format!("iptables{}", way.tools().variant), "-t nat -F FLANNEL-POSTRTG"),
        };
        let flushed = way.everything();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(way.everything(), flushed);
    });
}

#[test]
fn another_subnet_leaves_nothing_of_the_old_one() {
    each_way(async |way| {
        let firewall = way.start(everything()).await;
        let moved = Rules {
            families: vec![
                networks("10.6.0.0/16", "10.6.9.0/24"),
                networks("fc00:6::/48", "fc00:6:0:9::/64"),
            ],
            ..everything()
        };
        let good = way.shown();
        let expected = good
            .replace("10.5.72.0", "10.6.9.0")
            .replace("10.5.0.0", "10.6.0.0")
            .replace("fc00:5:0:72::", "fc00:6:0:9::")
            .replace("fc00:5::", "fc00:6::");
        firewall.set(moved.clone()).await.expect("other rules");
        assert_eq!(way.shown(), expected, "{way}");
        // The same after a restart.
        drop(firewall);
        let former_networks = moved.families.iter().map(|family| family.cluster).collect();
        let firewall = way.start(Rules { former_networks, ..everything() }).await;
        assert_eq!(way.shown(), good, "{way}");
        assert_eq!(firewall.status().repairs, 0);
    });
}

#[test]
fn what_is_not_wanted_any_more_goes() {
    each_way(async |way| {
        let firewall = way.start(everything()).await;
        firewall.set(Rules { families: vec![ipv4()], ..everything() }).await.expect("IPv4 only");
        let shown = way.everything();
        assert!(shown.contains("10.5.72.0/24") && !shown.contains("fc00:5"), "{way}: {shown}");
        firewall.set(Rules { masquerade: false, ..everything() }).await.expect("forwarding only");
        let shown = way.everything();
        assert!(shown.contains("10.5.0.0/16") && !shown.contains("10.5.72.0/24"), "{way}: {shown}");
        assert!(!shown.contains("POSTRTG") && !shown.contains("postrtg"), "{way}: {shown}");
        firewall.set(Rules { forward: false, ..everything() }).await.expect("masquerading only");
        let shown = way.everything();
        assert!(shown.contains("10.5.72.0/24"), "{way}: {shown}");
        assert!(!shown.contains("FWD") && !shown.contains("chain forward"), "{way}: {shown}");
        firewall.set(Rules { masquerade: false, forward: false, ..everything() }).await.expect("nothing");
        without_rules(way);
        // And at a start.
        firewall.set(everything()).await.expect("everything");
        drop(firewall);
        let firewall = way.start(Rules { masquerade: false, forward: false, ..everything() }).await;
        without_rules(way);
        assert!(firewall.status().ok);
    });
}

#[test]
fn the_other_mode_is_cleaned_up() {
    for way in ways() {
        for other in ways().into_iter().filter(|other| other.mode() != way.mode()) {
            in_namespace(async move || {
                drop(other.start(everything()).await);
                // With `nft`, iptables is the one that is to be cleaned up.
                let tools = if way == Way::Nftables { other.tools() } else { way.tools() };
                if other.mode() == Mode::Iptables {
                    let v019 =
                        "-t nat -A POSTROUTING -s 10.5.0.0/16 -m comment --comment flanneld-masq -j RETURN";
                    run(&format!("iptables{}", tools.variant), v019);
                }
                let started =
                    super::super::Firewall::start_with(tools, way.mode(), everything(), super::NEVER).await;
                let firewall = started.expect("rules");
                assert!(firewall.status().ok && firewall.status().last_error.is_none());
                let shown = other.shown();
                match other.mode() {
                    Mode::Nftables => assert!(!shown.contains("flannel-ip"), "{way}: {shown}"),
                    Mode::Iptables => assert!(ours(&shown).is_empty(), "{way}: {shown}"),
                }
                assert!(!ours(&way.shown()).is_empty(), "{way}");
            });
        }
    }
}

#[test]
fn rules_of_others_are_left_alone() {
    const FOREIGN: &str = r#"*nat
:KUBE-POSTROUTING - [0:0]
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -s 10.5.72.0/24 -j RETURN
COMMIT
*filter
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -m comment --comment "not flannel" -j RETURN
COMMIT
"#;
    each_way(async |way| {
        run_with("nft", "-f -", "table inet mine { chain postrtg { type filter hook forward priority 0; ip saddr 10.5.0.0/16 accept; }; }")
            .expect("a table");
        let foreign = |families: &[&str]| {
            for program in families {
                run_with(&format!("{program}{}-restore", way.tools().variant), "--noflush", FOREIGN)
                    .expect("rules");
            }
        };
        foreign(&["iptables"]);
        let others = |way: Way| {
            let everything = way.everything() + &run("nft", "-a list ruleset");
            everything
                .lines()
                .filter(|line| {
                    ["KUBE", "DOCKER", "mine", "10.5.0.0/16 accept # handle 2"]
                        .iter()
                        .any(|part| line.contains(part))
                })
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let before = others(way);
        assert!(before.len() > 3, "{before:?}");
        let firewall = way.start(Rules { families: vec![ipv6(), ipv4()], ..everything() }).await;
        let moved = Rules { families: vec![networks("10.5.0.0/16", "10.5.3.0/24")], ..everything() };
        firewall.set(moved).await.expect("other rules");
        drop(firewall);
        let removed = remove_with(&way.tools(), way.mode()).await.expect("removed");
        assert_eq!(removed.len(), if way == Way::Nftables { 1 } else { 2 }, "{removed:?}");
        assert_eq!(others(way), before, "{way}");
        assert!(ours(&way.everything()).iter().all(|line| line.contains("not flannel")), "{way}");
    });
}

#[test]
fn removal_on_request() {
    each_way(async |way| {
        assert_eq!(remove_with(&way.tools(), way.mode()).await, Ok(vec![]), "{way}");
        drop(way.start(everything()).await);
        let removed = remove_with(&way.tools(), way.mode()).await.expect("removed");
        let expected: &[&str] = match way {
            Way::Nftables => &["table ip flannel-ipv4 of nftables", "table ip6 flannel-ipv6 of nftables"],
            _ => &[
                "IPv4 chain FLANNEL-POSTRTG in table nat of iptables",
                "IPv4 chain FLANNEL-FWD in table filter of iptables",
                "IPv6 chain FLANNEL-POSTRTG in table nat of iptables",
                "IPv6 chain FLANNEL-FWD in table filter of iptables",
            ],
        };
        assert_eq!(removed, expected);
        without_rules(way);
    });
}

/// What upstream v0.28 leaves in nftables mode is replaced, its fourth rule with it.
#[test]
fn an_upstream_table_is_taken_over() {
    in_namespace(async || {
        if !ways().contains(&Way::Nftables) {
            return;
        }
        let upstream = "table ip flannel-ipv4 {
            chain postrtg {
                type nat hook postrouting priority srcnat; policy accept;
                meta mark 0x00004000 return
                ip saddr 10.5.72.0/24 ip daddr 10.5.0.0/16 return
                ip saddr 10.5.0.0/16 ip daddr 10.5.72.0/24 return
                ip saddr != 10.5.72.0/24 ip daddr 10.5.0.0/16 return
                ip saddr 10.5.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
                ip saddr != 10.5.0.0/16 ip daddr 10.5.0.0/16 masquerade fully-random
            }
        }";
        run_with("nft", "-f -", upstream).expect("upstream's table");
        let _firewall = Way::Nftables.start(everything()).await;
        assert_eq!(Way::Nftables.shown().trim(), include_str!("nftables.txt").trim());
    });
}

/// What an upstream daemon does in the chains that all daemons share, for another network: its own rules go, one by one, and come again at the end.
fn upstream_sets_its_rules(way: Way) {
    let program = format!("iptables{}", way.tools().variant);
    let masquerading = [
        "-m mark --mark 0x4000/0x4000 -j RETURN",
        "-s 10.6.1.0/24 -d 10.6.0.0/16 -j RETURN",
        "-s 10.6.0.0/16 -d 10.6.1.0/24 -j RETURN",
        "! -s 10.6.0.0/16 -d 10.6.1.0/24 -j RETURN",
        "-s 10.6.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully",
        "! -s 10.6.0.0/16 -d 10.6.0.0/16 -j MASQUERADE --random-fully",
    ];
    let rules = masquerading.map(|rule| format!("FLANNEL-POSTRTG -m comment --comment flanneld-masq {rule}"));
    let jump = "POSTROUTING -m comment --comment flanneld-masq -j FLANNEL-POSTRTG".to_owned();
    let _ = run_with(&program, "-t nat -N FLANNEL-POSTRTG", "");
    for rule in std::iter::once(jump).chain(rules) {
        let _ = run_with(&program, &format!("-t nat -D {rule}"), "");
        run(&program, &format!("-t nat -A {rule}"));
    }
}

#[test]
fn in_upstreams_chains_the_rules_of_an_upstream_daemon_for_another_network_stay() {
    each_way(async |way| {
        if way == Way::Nftables {
            return;
        }
        let theirs = |way: Way| way.shown().matches("10.6.0.0/16").count();
        for upstream_first in [true, false] {
            if upstream_first {
                upstream_sets_its_rules(way);
            }
            let firewall = way.start(everything()).await;
            if !upstream_first {
                upstream_sets_its_rules(way);
            }
            let ours = |way: Way| way.shown().matches("10.5.72.0/24").count();
            until("both are there", || ours(way) == 3 && theirs(way) == 6).await;
            // It does so again and again, and both settle.
            upstream_sets_its_rules(way);
            until("in order again", || {
                let shown = way.shown();
                let mark = shown.lines().position(|line| line.contains("0x4000"));
                // One for each family.
                let marks = shown.matches("0x4000/0x4000").count();
                marks == 2 && mark < shown.lines().position(|line| line.contains("10.5.72.0/24"))
            })
            .await;
            let settled = way.everything();
            tokio::time::sleep(Duration::from_millis(1500)).await;
            assert_eq!(way.everything(), settled, "{way}");
            assert!(firewall.status().ok);
            drop(firewall);
            // Who does not want rules any more takes only his own.
            let nothing = Rules { masquerade: false, forward: false, ..everything() };
            drop(way.start(nothing).await);
            assert_eq!((ours(way), theirs(way)), (0, 6), "{way}");
        }
    });
}

#[test]
fn where_an_upstream_daemon_has_a_table_for_another_network_ours_has_another_name() {
    in_namespace(async || {
        if !ways().contains(&Way::Nftables) {
            return;
        }
        // As it does: one chain after the other, in the table that is there.
        let upstream = "add table ip flannel-ipv4
            add chain ip flannel-ipv4 postrtg { type nat hook postrouting priority 100; policy accept; }
            flush chain ip flannel-ipv4 postrtg
            add rule ip flannel-ipv4 postrtg ip saddr 10.6.1.0/24 ip daddr 10.6.0.0/16 return
        ";
        let rules = Rules { beside: Some(Owner::of("0123abcd")), ..everything() };
        let tables = || run("nft", "list ruleset");
        let both = |name: &str| {
            let tables = tables();
            tables.contains("ip saddr 10.6.1.0/24")
                && tables.contains(&format!("table ip {name} {{"))
                && tables.contains("ip saddr 10.5.72.0/24")
        };
        // It comes later, or was there before.
        let firewall = Way::Nftables.start(rules.clone()).await;
        run_with("nft", "-f -", upstream).expect("upstream's table");
        until("ours is beside it", || both("flannel-ipv4-0123abcd")).await;
        // The other family's, too, which was nobody else's.
        until("of one name", || {
            tables().contains("table ip6 flannel-ipv6-0123abcd {")
                && !tables().contains("table ip6 flannel-ipv6 {")
        })
        .await;
        drop(firewall);
        let firewall = Way::Nftables.start(rules).await;
        assert!(both("flannel-ipv4-0123abcd"), "{}", tables());
        assert!(firewall.status().ok && firewall.status().repairs == 0);
    });
}
