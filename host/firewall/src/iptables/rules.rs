//! The rules in the words of `iptables -S`, which are those of `iptables-save` and `iptables-restore`.

use crate::rules::{FamilyRules, Owner, Purpose, multicast};
use flannel_base::Family;

/// The chain for a purpose, and how it is reached.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub table: &'static str,
    pub name: String,
    /// The built-in chain that jumps to it.
    pub hook: &'static str,
    /// On each rule, and on the jump.
    pub comment: String,
}

impl Chain {
    pub(crate) fn of(purpose: Purpose, owner: &Owner) -> Self {
        let (table, name, hook, comment) = match purpose {
            Purpose::Masquerade => ("nat", "FLANNEL-POSTRTG", "POSTROUTING", "flanneld masq"),
            Purpose::Forward => ("filter", "FLANNEL-FWD", "FORWARD", "flanneld forward"),
        };
        Self { table, name: owner.name('-', name), hook, comment: owner.name(' ', comment) }
    }

    /// What makes the chain.
    pub(crate) fn declaration(&self) -> String {
        format!("-N {}", self.name)
    }

    /// What leads to the chain.
    pub(crate) fn jump(&self) -> String {
        format!("-A {} -m comment --comment \"{}\" -j {}", self.hook, self.comment, self.name)
    }
}

/// The chain, the jump to it, and its rules, in order.
pub(crate) fn listing(
    purpose: Purpose,
    owner: &Owner,
    networks: &FamilyRules,
    random_fully: bool,
) -> Vec<String> {
    let chain = Chain::of(purpose, owner);
    let (cluster, subnet) = (networks.cluster.trunc(), networks.subnet.trunc());
    let multicast = multicast(Family::of(cluster.addr()));
    let masquerade = if random_fully { "MASQUERADE --random-fully" } else { "MASQUERADE" };
    let rules = match purpose {
        Purpose::Masquerade => vec![
            // kube-proxy has marked it, and masquerades it itself.
            ("-m mark --mark 0x4000/0x4000".to_owned(), "RETURN"),
            // From our pods to all pods, and back, with the addresses that they have.
            (format!("-s {subnet} -d {cluster}"), "RETURN"),
            (format!("-s {cluster} -d {subnet}"), "RETURN"),
            // From outside to our pods: they see who it was.
            (format!("! -s {cluster} -d {subnet}"), "RETURN"),
            // From pods to the outside.
            (format!("-s {cluster} ! -d {multicast}"), masquerade),
            // From this host, or through it, to the pods of others: they answer to a pod address of ours.
            (format!("! -s {cluster} -d {cluster}"), masquerade),
        ],
        Purpose::Forward => vec![(format!("-s {cluster}"), "ACCEPT"), (format!("-d {cluster}"), "ACCEPT")],
    };
    let rules = rules.into_iter().map(|(matches, target)| {
        format!("-A {} {matches} -m comment --comment \"{}\" -j {target}", chain.name, chain.comment)
    });
    [chain.declaration(), chain.jump()].into_iter().chain(rules).collect()
}
