//! The addresses that this node is known by: kept over restarts, since a node with another address is another node to the cluster.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use tracing::warn;

use super::external::External;
use super::record;

const FILE: &str = "addresses.json";

/// The addresses of the external interface in the last run; none if that is not known.
pub(crate) fn remembered(state_dir: &Path) -> Vec<IpAddr> {
    record::read::<BTreeSet<IpAddr>>(&state_dir.join(FILE), "the node's addresses").into_iter().collect()
}

/// Takes note of them.
pub(crate) fn remember(state_dir: &Path, external: &External) {
    let path = state_dir.join(FILE);
    let addresses: BTreeSet<IpAddr> = external.addresses().collect();
    if record::read::<BTreeSet<IpAddr>>(&path, "the node's addresses") != addresses
        && let Err(error) = record::write(&path, &addresses)
    {
        warn!(file = %path.display(), %error, "the node's addresses cannot be recorded: where the interface has several, the next start may take another one");
    }
}
