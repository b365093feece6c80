//! Which of the two iptables a Kubernetes node uses. Rules in the other one have an effect, too, but an accepting one there is none where
//! this one's policy drops. kubelet makes a chain without rules for whoever wants to know, in a host that a container sees only the rules of.

use flannel_base::Family;

use crate::tool::Tools;

/// Chains that kubelet makes in the table `mangle`: the second one before Kubernetes 1.24, and since then, too.
const HINTS: [&str; 2] = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];

/// The variant that kubelet uses; none: it has not said so yet, or programs of that name are not installed.
pub(crate) async fn variant(tools: &Tools) -> Option<&'static str> {
    // Of iptables-legacy all tables that there are: naming one would have it made.
    for (variant, arguments) in [("-nft", &["-t", "mangle"][..]), ("-legacy", &[])] {
        let of = Tools { variant, ..tools.clone() };
        for family in Family::ALL {
            let saved = of.run(&of.iptables(family, "-save"), arguments, "").await;
            if saved.is_ok_and(|saved| has_hint(&saved)) {
                return Some(variant);
            }
        }
    }
    None
}

/// The variant that the programs without one in their name are.
pub(crate) async fn of_system(tools: &Tools) -> Option<&'static str> {
    let said = tools.run(&tools.iptables(Family::Ipv4, ""), &["--version"], "").await.ok()?;
    // Before 1.8 there was one, and it did not say so.
    Some(if said.contains("nf_tables") { "-nft" } else { "-legacy" })
}

fn has_hint(saved: &str) -> bool {
    let chains = saved.lines().filter_map(|line| line.strip_prefix(':')?.split_whitespace().next());
    chains.into_iter().any(|chain| HINTS.contains(&chain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_chain_of_kubelets_is_a_hint() {
        assert!(has_hint("*mangle\n:PREROUTING ACCEPT [0:0]\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n"));
        assert!(has_hint("*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n"));
        for none in
            ["", "*mangle\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n", "-A FORWARD -j KUBE-IPTABLES-HINT\n"]
        {
            assert!(!has_hint(none), "{none}");
        }
    }
}
