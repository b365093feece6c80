//! A subnet file of a node that has been given another subnet meanwhile: pods must not begin with addresses that nobody routes any more.

use std::io;
use std::path::Path;

use flannel_kube_store::store::Before;
use tracing::{error, warn};

use crate::node::subnet_file::SubnetFile;

/// Removes it, if Kubernetes says another subnet than it.
pub(super) fn remove(file: &Path, before: &Before) {
    let Some((assigned, has)) = before.assigned.zip(SubnetFile::read_previous(file)) else { return };
    let is_other =
        |has: Option<ipnet::IpNet>, is: Option<ipnet::IpNet>| has.is_some_and(|has| is != Some(has));
    let [v4, v6] = [
        is_other(has.v4.map(Into::into), assigned.v4.map(Into::into)),
        is_other(has.v6.map(Into::into), assigned.v6.map(Into::into)),
    ];
    if !v4 && !v6 {
        return;
    }
    match std::fs::remove_file(file) {
        Ok(()) => warn!(
            file = %file.display(), was = %has, is = %assigned,
            "the subnet file is of a subnet that this node does not have any more: removed until there is a new one; pods that run keep dead addresses until they are started again"
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            error!(file = %file.display(), %error, "the subnet file is of another subnet, and cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use flannel_model::lease::Subnets;

    use super::*;

    fn is_there_after(file: &str, v4: Option<&str>) -> bool {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("subnet.env");
        std::fs::write(&path, file).expect("written");
        let assigned = v4.map(|v4| Subnets { v4: v4.parse().ok(), v6: None });
        let hints = flannel_kube_store::annotated::Hints::default();
        remove(&path, &Before { name: "n1".to_owned(), hints, assigned, lease: None });
        path.exists()
    }

    const FILE: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

    #[test]
    fn only_a_file_of_another_subnet_goes() {
        assert!(is_there_after(FILE, Some("10.244.1.0/24")));
        assert!(is_there_after(FILE, None), "nothing is known");
        assert!(!is_there_after(FILE, Some("10.244.2.0/24")));
    }
}
