//! The node's own lease: taken, renewed, and taken again if it is lost.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use flannel_lease_store::{Acquire, LeaseStore, Renewed, StoreError};
use flannel_model::lease::{Attributes, Lease};
use flannel_model::network_config::NetworkConfig;
use tracing::{error, info, warn};

use crate::node::subnet_file::SubnetFile;

use super::DaemonError;
use super::start::Patience;

/// How long after a renewal that failed the next is tried; as upstream.
pub(super) const RENEWAL_RETRY: Duration = Duration::from_mins(1);

/// What the node wants a lease for, and where it says so.
pub(super) struct Wanted {
    /// The network config.
    pub config: NetworkConfig,
    /// What is published.
    pub attributes: Attributes,
    /// Bytes of the largest IP packet of a pod.
    pub mtu: u32,
    /// The subnet file.
    pub subnet_file: PathBuf,
    /// Whether we masquerade, so that the container runtime need not.
    pub ip_masq: bool,
}

impl Wanted {
    /// The request, with the subnets of the subnet file as the preferred ones.
    pub(super) fn request(&self) -> Acquire {
        Acquire {
            config: self.config.clone(),
            attributes: self.attributes.clone(),
            previous: SubnetFile::read_previous(&self.subnet_file),
        }
    }

    /// Writes the subnet file; a failure leaves the node without pods, but not without forwarding. Answers whether it is
    /// written.
    pub(super) fn write_subnet_file(&self, lease: &Lease) -> bool {
        let file = SubnetFile::new(&self.config, &lease.subnets, self.mtu, self.ip_masq);
        let written = file.write(&self.subnet_file);
        match &written {
            Ok(()) => {
                info!(file = %self.subnet_file.display(), subnet = %lease.subnets, mtu = self.mtu, "subnet file written");
            }
            Err(error) => {
                error!(file = %self.subnet_file.display(), %error, "the subnet file cannot be written: container runtimes will not find their subnet");
            }
        }
        written.is_ok()
    }
}

/// Takes a lease, waiting for a store that is away. Errors are those that waiting does not heal: no subnet is free. `before`: a
/// lease that the node holds under other attributes, maybe another public address; its subnets are kept if it still has them.
pub(super) async fn acquire(
    store: &dyn LeaseStore,
    wanted: &Wanted,
    before: Option<Lease>,
) -> Result<Lease, DaemonError> {
    let mut patience = Patience::default();
    loop {
        let kept = match &before {
            Some(lease) => keep(store, wanted, lease).await,
            None => Ok(None),
        };
        let outcome = match kept {
            Ok(Some(lease)) => Ok(lease),
            Ok(None) => store.acquire(&wanted.request()).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(lease) => {
                info!(subnet = %lease.subnets, reserved = lease.expires.is_none(), "lease acquired");
                return Ok(lease);
            }
            Err(error) if passes(&error) => patience.wait("cannot acquire a lease", &error).await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes new attributes into a lease that the node has; none: it has lost it meanwhile.
async fn keep(store: &dyn LeaseStore, wanted: &Wanted, lease: &Lease) -> Result<Option<Lease>, StoreError> {
    Ok(match store.renew_as(lease, &wanted.attributes).await? {
        Renewed::Until(expires) => {
            Some(Lease { subnets: lease.subnets, attributes: wanted.attributes.clone(), expires })
        }
        Renewed::Lost => None,
    })
}

/// Whether an error may pass by itself.
fn passes(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { .. })
}

/// How long until the lease has to be renewed; none: never.
pub(super) fn until_renewal(lease: &Lease, margin: Duration) -> Option<Duration> {
    let due = lease.expires?.checked_sub(margin)?;
    Some(due.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Says what a lost lease means.
pub(super) fn mourn(lease: &Lease) {
    warn!(subnet = %lease.subnets, "our lease is gone from the store: acquiring it again");
}
