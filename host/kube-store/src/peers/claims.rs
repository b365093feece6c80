//! Which nodes have been assigned which CIDRs. Two nodes can have one, if somebody has assigned it by hand or restored a backup: the one that
//! was made later is reached then, and the other is again when that one goes.

use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;

/// How good a node's claim is; the greater wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank<'a> {
    /// Kubernetes has assigned the CIDR; else the node only says that it has it.
    pub(super) assigned: bool,
    /// When the node was made, in seconds since 1970.
    pub(super) created: u64,
    /// Its UID, so that there is always one winner.
    pub(super) uid: &'a str,
}

/// The claims to all CIDRs.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Names of nodes, never none, the best claim's first.
    of: HashMap<IpNet, Vec<Arc<str>>>,
}

impl Claims {
    /// Who is reached by a CIDR.
    pub(super) fn winner(&self, cidr: IpNet) -> Option<&Arc<str>> {
        self.of.get(&cidr)?.first()
    }

    /// A node claims a CIDR, once; how good a claim is does not change as long as it is there.
    pub(super) fn insert<'a>(&mut self, cidr: IpNet, name: &Arc<str>, rank: impl Fn(&str) -> Rank<'a>) {
        // Almost always there is one: no room for more is taken.
        let claimants = self.of.entry(cidr).or_insert_with(|| Vec::with_capacity(1));
        let at = claimants.partition_point(|other| rank(other) > rank(name));
        claimants.insert(at, Arc::clone(name));
    }

    /// A node claims a CIDR no longer.
    pub(super) fn remove(&mut self, cidr: IpNet, name: &str) {
        let Some(claimants) = self.of.get_mut(&cidr) else { return };
        claimants.retain(|claimant| **claimant != *name);
        if claimants.is_empty() {
            self.of.remove(&cidr);
        }
    }
}
