//! Which writes are this process's. A node whose public address another node has, too, shares its lease with that node, and the value may be the
//! same to the last byte: only who has written it tells.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use flannel_model::lease::Subnets;

use crate::store::Change;

/// The writes of one process.
#[derive(Debug, Default)]
pub(super) struct OwnWrites(Mutex<Writes>);

#[derive(Debug, Default)]
struct Writes {
    /// The etcd leases that this process has got: nobody else's keys are attached to them.
    granted: HashSet<i64>,
    /// At which revision it has written which lease last.
    written: HashMap<Subnets, i64>,
}

impl OwnWrites {
    /// This process has got an etcd lease.
    pub(super) fn granted(&self, id: i64) {
        self.with(|writes| {
            writes.granted.insert(id);
        });
    }

    /// This process has written a lease.
    pub(super) fn written(&self, subnets: Subnets, revision: i64) {
        self.with(|writes| {
            writes.written.insert(subnets, revision);
        });
    }

    /// Whether what was written at this revision, and attached to this etcd lease, is somebody else's write of a lease of ours. A reservation has
    /// no etcd lease, and does not tell, unless what is written is no lease (`readable`). Each write is told of once.
    pub(super) fn foreign(
        &self,
        subnets: &Subnets,
        revision: i64,
        lease: i64,
        readable: bool,
    ) -> Option<Change> {
        self.with(|writes| {
            let foreign = !readable || lease != 0 && !writes.granted.contains(&lease);
            let written =
                writes.written.get_mut(subnets).filter(|written| foreign && revision > **written)?;
            *written = revision;
            Some(if readable { Change::Contested(*subnets) } else { Change::Spoiled(*subnets) })
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Writes) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_of_ours_that_somebody_else_has_written_since_is_contested_once_a_write() {
        let subnets = Subnets { v4: "10.5.1.0/24".parse().ok(), v6: None };
        let other = Subnets { v4: "10.5.2.0/24".parse().ok(), v6: None };
        let own = OwnWrites::default();
        own.granted(7);
        assert_eq!(own.foreign(&subnets, 3, 9, true), None, "of an earlier run");
        assert_eq!(own.foreign(&subnets, 3, 9, false), None, "of an earlier run");
        own.written(subnets, 5);
        for (what, of, revision, lease, contested) in [
            ("ours", subnets, 5, 7, false),
            ("ours, before its answer has come", subnets, 6, 7, false),
            ("an earlier run's", subnets, 4, 9, false),
            ("a reservation", subnets, 6, 0, false),
            ("another's lease", other, 6, 9, false),
            ("another's write", subnets, 6, 9, true),
            ("the same, in a snapshot", subnets, 6, 9, false),
            ("its next", subnets, 8, 10, true),
        ] {
            let expected = contested.then_some(Change::Contested(of));
            assert_eq!(own.foreign(&of, revision, lease, true), expected, "{what}");
        }
        for (what, lease) in [("without an etcd lease", 0), ("with one", 12)] {
            let revision = 10 + lease;
            assert_eq!(
                own.foreign(&subnets, revision, lease, false),
                Some(Change::Spoiled(subnets)),
                "{what}"
            );
            assert_eq!(own.foreign(&subnets, revision, lease, false), None, "{what}, in a snapshot");
        }
    }
}
