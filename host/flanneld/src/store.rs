//! The lease store that the command line names.

use std::sync::Arc;

use flannel_kube_api::{ClusterAccess, KubeApi, PodEnvironment};
use flannel_kube_store::prefix::Keys;
use flannel_kube_store::store::identity::Identity;
use flannel_kube_store::store::{KubeOptions, KubeStore};
use flannel_lease_store::etcd::{EtcdOptions, EtcdSecurity, EtcdStore};
use flannel_lease_store::file::FileStore;
use flannel_lease_store::{LeaseStore, StoreError};

use crate::cli::{Options, Store};

/// Opens it for a command that has to do with the network config. Nothing is looked at yet: a store that is away is no error.
pub fn open(options: &Options) -> Result<Arc<dyn LeaseStore>, StoreError> {
    Ok(match &options.store {
        Store::File(directory) => Arc::new(FileStore::at(directory)),
        Store::Etcd => Arc::new(etcd(options)?),
        Store::Kube => Arc::new(kube(options)?),
    })
}

/// The one in Kubernetes.
pub(crate) fn kube(options: &Options) -> Result<KubeStore, StoreError> {
    let keys = Keys::new(&options.kube_annotation_prefix).map_err(|error| StoreError::Setup {
        what: "--kube-annotation-prefix",
        value: options.kube_annotation_prefix.clone(),
        reason: error.to_string(),
    })?;
    let access = ClusterAccess {
        api_url: options.kube_api_url.clone(),
        kubeconfig_file: options.kubeconfig_file.clone(),
        pod: PodEnvironment::of_this_process(),
    };
    Ok(KubeStore::new(KubeOptions {
        api: KubeApi::new(access, &keys.prefix),
        keys,
        identity: Identity::of_environment(|name| std::env::var(name).ok()),
        config_file: options.net_config_path.clone(),
        sets_condition: options.set_node_network_unavailable,
    }))
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
