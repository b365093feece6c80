//! Programs that are missing, fail, or speak in other words.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tempfile::TempDir;

use super::lab::{Way, in_namespace, run, until, ways};
use super::{NEVER, everything, ipv4};
use crate::tool::Tools;
use crate::{Firewall, FirewallError, Mode, Rules, remove_with};

/// A directory with scripts that are found before the real programs.
fn scripts(scripts: &[(&str, &str)]) -> (TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in scripts {
        let path = directory.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("a script");
    }
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", directory.path().display());
    (directory, path)
}

fn only_ipv4() -> Rules {
    Rules { families: vec![ipv4()], forward: false, ..everything() }
}

async fn failure(tools: Tools, mode: Mode) -> FirewallError {
    match Firewall::start_with(tools, mode, only_ipv4(), NEVER).await {
        Ok(_) => panic!("it has started"),
        Err(error) => error,
    }
}

#[test]
fn missing_programs() {
    in_namespace(async || {
        let nowhere = || Tools { variant: "", path: Some("/nonexistent".into()) };
        assert_eq!(
            failure(nowhere(), Mode::Iptables).await.to_string(),
            "iptables is not installed: install the package iptables, or set \"EnableNFTables\": true in the network config"
        );
        assert_eq!(
            failure(nowhere(), Mode::Nftables).await.to_string(),
            "nft is not installed: install the package nftables, or leave out \"EnableNFTables\" in the network config"
        );
        // There is nothing that could be removed.
        for mode in [Mode::Iptables, Mode::Nftables] {
            assert_eq!(remove_with(&nowhere(), mode).await, Ok(vec![]));
            // Forwarding alone does not stop a node.
            let rules = Rules { masquerade: false, ..everything() };
            let firewall = Firewall::start_with(nowhere(), mode, rules, NEVER).await.expect("a start");
            let status = firewall.status();
            assert!(
                !status.ok && status.last_error.as_ref().is_some_and(|e| e.contains("not installed")),
                "{status:?}"
            );
            // Nor does wanting nothing.
            firewall.set(Rules::default()).await.expect("nothing");
            let status = firewall.status();
            assert!(status.ok && status.last_error.is_none(), "{status:?}");
        }
    });
}

#[test]
fn a_missing_program_of_the_other_mode_is_no_error() {
    in_namespace(async || {
        for way in ways() {
            let directory = tempfile::tempdir().expect("a directory");
            let programs: &[&str] = match way {
                Way::Nftables => &["nft"],
                _ => &[
                    "iptables",
                    "iptables-save",
                    "iptables-restore",
                    "ip6tables",
                    "ip6tables-save",
                    "ip6tables-restore",
                ],
            };
            for program in programs {
                let (start, end) = program
                    .split_once('-')
                    .map_or((*program, String::new()), |(start, end)| (start, format!("-{end}")));
                let real = match way {
                    Way::Nftables => "nft".to_owned(),
                    _ => format!("{start}{}{end}", way.tools().variant),
                };
                std::os::unix::fs::symlink(format!("/usr/sbin/{real}"), directory.path().join(program))
                    .expect("a link");
            }
            let tools = Tools { variant: "", path: Some(directory.path().display().to_string()) };
            let firewall = Firewall::start_with(tools, way.mode(), everything(), NEVER).await.expect("rules");
            let status = firewall.status();
            assert!(status.ok && status.last_error.is_none(), "{way}: {status:?}");
        }
    });
}

#[test]
fn failures_are_told_in_one_line() {
    in_namespace(async || {
        let (_directory, path) = scripts(&[
            ("iptables", "echo 'iptables v1.6.1'"),
            ("iptables-save", "exit 0"),
            (
                "iptables-restore",
                "echo \"iptables-restore v1.6.1: can't initialize iptables table \\`nat'\" >&2; exit 3",
            ),
            (
                "nft",
                "echo 'Error: Could not process rule: Operation not permitted' >&2; echo '^^^^' >&2; exit 1",
            ),
        ]);
        let tools = Tools { variant: "", path: Some(path) };
        assert_eq!(
            failure(tools.clone(), Mode::Iptables).await.to_string(),
            "`iptables-restore --noflush` failed: iptables-restore v1.6.1: can't initialize iptables table `nat'; it takes a kernel \
             with the tables nat and filter, xt_comment, xt_mark and xt_MASQUERADE; else set \"EnableNFTables\": true in the \
             network config"
        );
        assert_eq!(
            failure(tools, Mode::Nftables).await.to_string(),
            "`nft -j list table ip flannel-ipv4` failed: Error: Could not process rule: Operation not permitted; it needs root, \
             or CAP_NET_ADMIN"
        );
    });
}

/// An old iptables gets rules that it understands; one that prints them in other words is understood after two tries, and
/// kept to its words.
#[test]
fn other_words_for_the_same_rules() {
    in_namespace(async || {
        if !ways().contains(&Way::IptablesNft) {
            return;
        }
        let (_directory, path) = scripts(&[
            ("iptables", "echo 'iptables v1.6.1'"),
            ("iptables-save", "iptables-nft-save \"$@\" | sed 's/ -j RETURN/ --jump RETURN/'"),
            ("iptables-restore", "[ \"$*\" = --noflush ] && exec iptables-nft-restore \"$@\""),
        ]);
        let tools = Tools { variant: "", path: Some(path) };
        let firewall = Firewall::start_with(tools, Mode::Iptables, only_ipv4(), NEVER).await.expect("rules");
        let good = run("iptables-nft", "-t nat -S");
        assert!(good.contains("-j MASQUERADE") && !good.contains("random"), "{good}");
        run("iptables-nft", "-t nat -D FLANNEL-POSTRTG 2");
        until("repaired", || run("iptables-nft", "-t nat -S") == good && firewall.status().repairs == 1)
            .await;
        assert!(firewall.status().ok);
    });
}

#[test]
fn rules_that_do_not_stay() {
    in_namespace(async || {
        let (_directory, path) = scripts(&[
            ("iptables", "echo 'iptables v1.8.9 (nf_tables)'"),
            ("iptables-save", "exit 0"),
            ("iptables-restore", "exit 0"),
        ]);
        let tools = Tools { variant: "", path: Some(path) };
        assert_eq!(
            failure(tools, Mode::Iptables).await.to_string(),
            "the masquerade rules for IPv4 in iptables do not stay: another program changes them, perhaps a second flanneld; \
             stop it"
        );
    });
}

/// Where the rules for IPv4 are.
fn variants_with_rules() -> Vec<&'static str> {
    let has = |variant: &&str| run(&format!("iptables{variant}-save"), "").contains("FLANNEL-POSTRTG");
    ["-nft", "-legacy"].into_iter().filter(has).collect()
}

/// Until the rules are looked at again.
const SOON: Duration = Duration::from_millis(100);

#[test]
fn rules_go_where_kubelets_are_and_move_there_when_these_come_later() {
    in_namespace(async || {
        if !(ways().contains(&Way::IptablesNft) && ways().contains(&Way::IptablesLegacy)) {
            return;
        }
        let system = if run("iptables", "--version").contains("nf_tables") { "-nft" } else { "-legacy" };
        let other = if system == "-nft" { "-legacy" } else { "-nft" };
        let rules = Rules { beside_kubelet: true, ..everything() };
        let tools = || Tools { variant: "", path: None };
        let firewall =
            Firewall::start_with(tools(), Mode::Iptables, rules.clone(), SOON).await.expect("rules");
        assert_eq!(variants_with_rules(), [system], "nobody has said otherwise");
        run(&format!("iptables{other}"), "-t mangle -N KUBE-IPTABLES-HINT");
        until("the rules have moved", || variants_with_rules() == [other]).await;
        drop(firewall);
        // From the beginning, where it is known then.
        let firewall = Firewall::start_with(tools(), Mode::Iptables, rules, NEVER).await.expect("rules");
        assert_eq!(variants_with_rules(), [other]);
        assert!(firewall.status().ok, "{:?}", firewall.status());
        drop(firewall);

        // Who is not beside a kubelet does not look for one.
        let firewall =
            Firewall::start_with(tools(), Mode::Iptables, everything(), NEVER).await.expect("rules");
        assert!(variants_with_rules().contains(&system));
        drop(firewall);
    });
}
