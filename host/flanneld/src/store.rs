//! The lease store that the command line names.

use std::sync::Arc;

use flannel_lease_store::etcd::{EtcdOptions, EtcdSecurity, EtcdStore};
use flannel_lease_store::file::FileStore;
use flannel_lease_store::{LeaseStore, StoreError};

use crate::cli::{Options, Store};

/// Opens it for a command that has to do with the network config. Nothing is looked at yet: a store that is away is no error.
pub fn open(options: &Options) -> Result<Arc<dyn LeaseStore>, StoreError> {
    Ok(match &options.store {
        Store::File(directory) => Arc::new(FileStore::at(directory)),
        Store::Etcd => Arc::new(etcd(options)?),
    })
}

/// The one in etcd.
pub(crate) fn etcd(options: &Options) -> Result<EtcdStore, StoreError> {
    let place =
        EtcdOptions { endpoints: options.etcd_endpoints.clone(), prefix: options.etcd_prefix.clone() };
    let security = EtcdSecurity {
        keyfile: options.etcd_keyfile.clone(),
        certfile: options.etcd_certfile.clone(),
        cafile: options.etcd_cafile.clone(),
        username: options.etcd_username.clone(),
        password: options.etcd_password.clone(),
    };
    EtcdStore::connect_securely(place, &security)
}
