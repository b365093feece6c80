//! Networks that this cluster had before: leases of a network that was changed live on for a day, and are served until then.

use std::collections::BTreeSet;
use std::path::Path;

use ipnet::IpNet;
use tracing::warn;

use super::record;

const FILE: &str = "networks.json";

/// Takes note of the networks in force and of others that are `named`, and answers those that this node knows besides those in force. A
/// record that cannot be read or written costs leases of former networks, with a warning, and nothing else.
pub(crate) fn remember(state_dir: &Path, in_force: &[IpNet], named: &[IpNet]) -> Vec<IpNet> {
    let path = state_dir.join(FILE);
    let known: BTreeSet<IpNet> = record::read(&path, "the cluster's networks");
    let all: BTreeSet<IpNet> = known.iter().chain(in_force).chain(named).copied().collect();
    if all != known
        && let Err(error) = record::write(&path, &all)
    {
        warn!(file = %path.display(), %error, "the cluster's networks cannot be recorded: should they change, leases of the former ones are not served");
    }
    all.into_iter().filter(|network| !in_force.contains(network)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_remembered_when_others_come() {
        let directory = tempfile::tempdir().expect("directory");
        let state = directory.path().join("state");
        let [one, other, third]: [IpNet; 3] =
            ["10.5.0.0/16", "10.6.0.0/16", "10.7.0.0/16"].map(|text| text.parse().expect("prefix"));
        assert_eq!(remember(&state, &[one], &[]), []);
        assert_eq!(remember(&state, &[one], &[]), []);
        assert_eq!(remember(&state, &[other], &[]), [one]);
        assert_eq!(remember(&state, &[one], &[]), [other]);
        assert_eq!(remember(&state, &[one], &[third]), [other, third]);
        std::fs::write(state.join(FILE), b"{").expect("damaged");
        assert_eq!(remember(&state, &[one], &[]), []);
    }
}
