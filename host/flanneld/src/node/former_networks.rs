//! Networks that this cluster had before: leases of a network that was changed live on for a day, and are served until then.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use flannel_base::atomic_file::{self, Mode};
use ipnet::IpNet;
use tracing::warn;

const FILE: &str = "networks.json";

/// Takes note of the networks in force and of others that are `named`, and answers those that this node knows besides those in force. A
/// record that cannot be read or written costs leases of former networks, with a warning, and nothing else.
pub(crate) fn record(state_dir: &Path, in_force: &[IpNet], named: &[IpNet]) -> Vec<IpNet> {
    let path = state_dir.join(FILE);
    let known: BTreeSet<IpNet> = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            warn!(file = %path.display(), %error, "the record of the cluster's networks is damaged: starting a new one");
            BTreeSet::new()
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
        Err(error) => {
            warn!(file = %path.display(), %error, "the record of the cluster's networks cannot be read");
            BTreeSet::new()
        }
    };
    let all: BTreeSet<IpNet> = known.iter().chain(in_force).chain(named).copied().collect();
    if all != known {
        let written = serde_json::to_vec(&all).map_err(io::Error::from);
        let written = written.and_then(|text| atomic_file::replace(&path, &text, Mode::Exactly(0o600)));
        if let Err(error) = written {
            warn!(file = %path.display(), %error, "the cluster's networks cannot be recorded: should they change, leases of the former ones are not served");
        }
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
        assert_eq!(record(&state, &[one], &[]), []);
        assert_eq!(record(&state, &[one], &[]), []);
        assert_eq!(record(&state, &[other], &[]), [one]);
        assert_eq!(record(&state, &[one], &[]), [other]);
        assert_eq!(record(&state, &[one], &[third]), [other, third]);
        std::fs::write(state.join(FILE), b"{").expect("damaged");
        assert_eq!(record(&state, &[one], &[]), []);
    }
}
