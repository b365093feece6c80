//! What clusters stand on whose backend is changed: all that is the same before and after.

use std::path::PathBuf;

use anyhow::Result;

use crate::cluster::EVERYTHING;
use crate::{Cluster, ClusterOptions, Firewall};

/// What a cluster stands on.
#[derive(Clone, Debug, Default)]
pub struct Ground {
    /// Packets whose sender would not be reached by the way that they came are dropped (`rp_filter` 1) wherever nobody says otherwise.
    pub strict: bool,
    /// With masquerading, in this firewall.
    pub firewall: Option<Firewall>,
    /// A plugin in the place of the built-in one for the types that it is for, which may do everything.
    pub plugin: Option<PathBuf>,
}

impl Ground {
    /// A lab and a store for a cluster whose daemons take the built-in plugin of whatever the network config says, unless another one is for
    /// that; none runs yet.
    pub fn prepare(&self, options: &ClusterOptions) -> Result<Cluster> {
        let mut cluster = Cluster::prepare(options)?;
        let how = cluster.options().clone().built_in();
        let how = match &self.plugin {
            Some(file) => how.plugin(file.clone()).arg(format!("--allow={EVERYTHING}")),
            None => how,
        };
        cluster.set_options(how);
        (0..options.nodes).try_for_each(|index| self.prepare_node(&cluster, index))?;
        if self.firewall.is_some() {
            cluster.add_arguments(&["--ip-masq"]);
        }
        Ok(cluster)
    }

    /// Prepares a node that joins, before its daemon runs.
    pub fn prepare_node(&self, cluster: &Cluster, index: usize) -> Result<()> {
        if !self.strict {
            return Ok(());
        }
        let strict = [("ipv4/conf/default/rp_filter", "1"), ("ipv4/conf/eth0/rp_filter", "1")];
        cluster.node(index).namespace().sysctls(&strict)
    }

    /// The same with daemons that know each other, and a pod on each node.
    pub fn start(&self, options: &ClusterOptions) -> Result<Cluster> {
        let mut cluster = self.prepare(options)?;
        cluster.bring_up()?;
        Ok(cluster)
    }
}
