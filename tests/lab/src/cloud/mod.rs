//! Clouds to test against: their APIs and metadata services, at their real addresses inside the lab. A folder for each; [`Cloud`] is what
//! they have in common.

pub mod alibaba;
pub mod aws;
pub mod gce;
pub mod hetzner;
pub mod openstack;
pub mod python;
pub mod server;
pub mod tencent;

use std::any::Any;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use ipnet::IpNet;

use crate::{Backend, Lab, Node};

/// A row of a route table, in words that all clouds understand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableRow {
    /// Where packets go.
    pub destination: IpNet,
    /// The row's name, or the table that it is in.
    pub name: String,
    /// The next hop, as the cloud calls it.
    pub hop: String,
    /// The address of the node that this is; none: it is no node's.
    pub node: Option<IpAddr>,
}

/// What tests and the demo do with a cloud, whichever it is. What only one has, that one's tests get at by [`Any`].
pub trait Cloud: Any + Debug + Send + Sync {
    /// What a daemon's command line has to say.
    fn arguments(&self) -> Vec<String>;

    /// What a daemon's environment has to say.
    fn environment(&self) -> Vec<(String, String)>;

    /// A node has been added to the lab: it is a machine of the cloud from now on.
    fn join(&self, node: &Node) -> Result<()>;

    /// The rows that are not the cloud's own.
    fn table(&self) -> Result<Vec<TableRow>>;

    /// Somebody deletes a row by hand.
    fn delete_row(&self, destination: IpNet) -> Result<()>;

    /// Whether there is no room for more rows than there are now.
    fn set_full(&self, full: bool) -> Result<()>;

    /// How many calls there were that change something, however they went.
    fn mutations(&self) -> usize;
}

/// Makes the cloud that a backend needs, with the lab's nodes as its machines; none: it needs none. The error of a cloud that cannot be
/// had on this machine says why; [`Backend::missing`] has said so before.
pub fn start(backend: Backend, lab: &Lab) -> Result<Option<Arc<dyn Cloud>>> {
    let router = lab.switch().namespace();
    Ok(match backend {
        Backend::AwsVpc => {
            let cloud = aws::Aws::start(lab)?.context("the Python libraries of clouds are not there")?;
            Some(Arc::new(cloud))
        }
        Backend::Gce => Some(Arc::new(gce::Gce::start(lab)?)),
        Backend::AliVpc => Some(Arc::new(alibaba::Alibaba::start(
            router,
            crate::Place::Near.gateway().into(),
            crate::bridge::BRIDGE,
        )?)),
        Backend::TencentVpc => Some(Arc::new(tencent::Tencent::start(lab)?)),
        Backend::Hetzner => Some(Arc::new(hetzner::Hetzner::start(lab)?)),
        _ => None,
    })
}
