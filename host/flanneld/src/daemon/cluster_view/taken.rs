//! What the leases that are believed have, and no other can.

use std::collections::BTreeMap;

use flannel_model::lease::Subnets;
use flannel_model::lease_key::LeaseKey;

use super::address_map::AddressMap;

/// Addresses and keys, each with the lease that it is of.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) addresses: AddressMap,
    keys: BTreeMap<LeaseKey, Subnets>,
    /// Further leases with a key that one of `keys` has: leases of one node may share it.
    shared: Vec<(LeaseKey, Subnets)>,
}

impl Taken {
    /// Gives subnets that overlap nobody's, and keys, to a lease.
    pub(super) fn insert(&mut self, served: &Subnets, keys: &[LeaseKey], lease: Subnets) {
        self.addresses.insert(served, lease);
        for key in keys {
            if *self.keys.entry(*key).or_insert(lease) != lease {
                self.shared.push((*key, lease));
            }
        }
    }

    /// Gives them back.
    pub(super) fn remove(&mut self, served: &Subnets, keys: &[LeaseKey], lease: &Subnets) {
        self.addresses.remove(served);
        for key in keys {
            if self.keys.get(key) != Some(lease) {
                self.shared.retain(|shared| *shared != (*key, *lease));
            } else if let Some(next) = self.shared.iter().position(|(shared, _)| shared == key) {
                self.keys.insert(*key, self.shared.swap_remove(next).1);
            } else {
                self.keys.remove(key);
            }
        }
    }

    /// The leases that have a key.
    pub(super) fn holders(&self, key: &LeaseKey) -> impl Iterator<Item = &Subnets> {
        let further = self.shared.iter().filter(move |(shared, _)| shared == key).map(|(_, lease)| lease);
        self.keys.get(key).into_iter().chain(further)
    }
}
