//! What a Kubernetes control plane does that daemons rely on, as a real one does it: kube-apiserver, node IPAM, etcd. Whoever imitates an API
//! server has to pass what is here. No daemon of ours takes part but in [`daemon`] and [`set_image`]; in [`families`]
//! one has an imitation.

mod compaction;
mod daemon;
mod deployed;
mod families;
mod nodes;
mod permissions;
mod pod_cidrs;
mod restart;
mod set_image;
mod shared;
mod tokens;
mod versions;
mod writes;

use std::sync::Arc;

use anyhow::Result;
use flannel_lab::control_plane::{self, Client, ControlPlane, Mode};
use flannel_lab::{Lab, Underlay};

/// A control plane in a lab of its own.
struct Cluster {
    // Before the lab, whose directory it writes to.
    plane: ControlPlane,
    lab: Lab,
}

impl Cluster {
    /// Starts one. None, with the reason on standard output: it cannot be had on this machine.
    fn start(mode: Mode, flags: &[&str]) -> Result<Option<Self>> {
        if let Some(reason) = control_plane::missing()? {
            flannel_test_support::skip(&reason);
            return Ok(None);
        }
        let lab = Lab::new(1, Underlay { ipv6: true, ..Underlay::default() })?;
        Ok(Some(Self { plane: ControlPlane::start_with(&lab, mode, flags)?, lab }))
    }

    /// The shared one: of both families, with upstream's service account and its role.
    fn shared() -> Result<Option<Arc<Self>>> {
        shared::get()
    }

    fn admin(&self) -> Client {
        self.plane.admin()
    }
}

#[test]
fn nodes_reach_the_api_server_over_both_families_and_believe_its_certificate() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    for address in [cluster.plane.address(), cluster.plane.address_v6()] {
        let node = cluster.lab.node(0).namespace();
        let answer = cluster.plane.client_from(node, address, None).get("/version")?.object()?;
        assert_eq!(answer["gitVersion"], "v1.36.3", "{address}");
    }
    Ok(())
}
