//! Which nodes have been assigned which CIDRs. Two nodes can have one, if somebody has assigned it by hand or restored a backup: the one that
//! was made later is reached then, and the other is again when that one goes.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
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
    /// The node with the best claim.
    winners: HashMap<IpNet, Arc<str>>,
    /// The others, the best claim first. Almost always there are none.
    others: BTreeMap<IpNet, Vec<Arc<str>>>,
}

impl Claims {
    /// Who is reached by a CIDR.
    pub(super) fn winner(&self, cidr: IpNet) -> Option<&Arc<str>> {
        self.winners.get(&cidr)
    }

    /// A node claims a CIDR, once; how good a claim is does not change as long as it is there.
    pub(super) fn insert<'a>(&mut self, cidr: IpNet, name: &Arc<str>, rank: impl Fn(&str) -> Rank<'a>) {
        let loser = match self.winners.entry(cidr) {
            Entry::Vacant(slot) => {
                slot.insert(Arc::clone(name));
                return;
            }
            Entry::Occupied(mut slot) if rank(slot.get()) <= rank(name) => slot.insert(Arc::clone(name)),
            Entry::Occupied(_) => Arc::clone(name),
        };
        let others = self.others.entry(cidr).or_default();
        let at = others.partition_point(|other| rank(other) > rank(&loser));
        others.insert(at, loser);
    }

    /// A node claims a CIDR no longer.
    pub(super) fn remove(&mut self, cidr: IpNet, name: &str) {
        let mut others = self.others.remove(&cidr).unwrap_or_default();
        if self.winners.get(&cidr).is_none_or(|winner| **winner != *name) {
            others.retain(|claimant| **claimant != *name);
        } else if others.is_empty() {
            self.winners.remove(&cidr);
        } else {
            self.winners.insert(cidr, others.remove(0));
        }
        if !others.is_empty() {
            self.others.insert(cidr, others);
        }
    }
}
